//! Consumer groups of the newer protocol (KIP-848): the coordinator assigns, and each member goes to its target by itself.
//!
//! One file is one flow: [`heartbeat`] (join and steady state), [`leaving`] (leave, static leave, what is due),
//! [`subscription`] (regular expressions, changed topics), [`target`] with the [`assignors`], [`reconcile`] (a member's
//! steps), [`describe`], [`replay`]; [`classic_members`] serves members of the classic protocol in such a group, and
//! [`conversion`] turns a group of the one kind into the other. [`state`] is the group as a value, [`records`] its form in
//! the log, [`topics`] what the coordinator knows of the topics.
//!
//! A flow changes the group in memory, notes which records are out of date, and ends with [`flush`]; answers wait for the
//! last write of their group ([`respond`]), also those that caused none: what they tell of may still be on its way.

mod assignors;
mod classic_members;
mod conversion;
mod describe;
mod heartbeat;
mod leaving;
#[cfg(test)]
mod model;
mod offsets;
mod reconcile;
pub(in crate::groups) mod records;
mod replay;
pub(in crate::groups) mod state;
mod subscription;
mod target;
#[cfg(test)]
mod testing;
pub(in crate::groups) mod topics;

use alloc::{collections::BTreeSet, vec, vec::Vec};
use ottla_protocol::{ErrorCode, Response, Str};

use self::{records::RecordKey, state::ConsumerGroup};
use super::{
    group::Group,
    outbox::{AfterCommit, Outbox},
};
use crate::context::ReplyTo;

pub use assignors::ConsumerAssignor;
pub(in crate::groups) use classic_members::{
    heartbeat as classic_heartbeat, join as classic_join, leave as classic_leave,
    sync as classic_sync,
};
pub(in crate::groups) use conversion::end_empty;
pub(in crate::groups) use leaving::handle_due;
pub(in crate::groups) use offsets::{MayCommit, may_commit, may_fetch};
pub(in crate::groups) use replay::finished as replay_finished;

/// Whether groups change between the protocols while they have members (`group.consumer.migration.policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Both ways.
    Bidirectional,
    /// Only from classic to consumer.
    Upgrade,
    /// Only from consumer to classic.
    Downgrade,
    /// Only empty groups do.
    Disabled,
}

impl MigrationPolicy {
    /// The value of the setting.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bidirectional => "bidirectional",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::Disabled => "disabled",
        }
    }

    const fn upgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    const fn downgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

/// What a consumer group may have of its own (Kafka's group configs `consumer.*`); `None` is what the broker has for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerGroupSettings {
    /// `consumer.session.timeout.ms`.
    pub session_timeout_ms: Option<i32>,
    /// `consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Option<i32>,
}

/// Settings of consumer groups.
#[derive(Clone, Debug)]
pub struct ConsumerGroupConfig {
    /// `group.consumer.session.timeout.ms`.
    pub session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`: what members are told.
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.max.size`: members of one group.
    pub max_size: i32,
    /// `group.consumer.assignors`; the first one serves groups whose members ask for none.
    pub assignors: Vec<ConsumerAssignor>,
    /// `group.consumer.migration.policy`.
    pub migration_policy: MigrationPolicy,
}

impl Default for ConsumerGroupConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            max_size: i32::MAX,
            assignors: vec![ConsumerAssignor::Uniform, ConsumerAssignor::Range],
            migration_policy: MigrationPolicy::Bidirectional,
        }
    }
}

/// Why a request is refused.
#[derive(Debug)]
pub(in crate::groups) struct Refusal {
    pub code: ErrorCode,
    pub message: Str,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl AsRef<str>) -> Self {
        Self {
            code,
            message: Str::from(message.as_ref()),
        }
    }
}

/// Writes what is out of date in the log.
pub(in crate::groups) fn flush(group: &mut Group, out: &mut Outbox) {
    let id = group.id.clone();
    let Some(consumer) = group.consumer.as_deref_mut() else {
        return;
    };
    if consumer.unwritten.is_empty() {
        return;
    }
    let keys = core::mem::take(&mut consumer.unwritten);
    if keys.contains(&RecordKey::PartitionMetadata) {
        consumer.has_partition_metadata = false;
    }
    let records = records::of(&id, consumer, &keys);
    consumer.last_write = Some(out.mark());
    group.persisted = true;
    out.write(group, records, AfterCommit::Consumer { keys });
}

/// Answers once what was last written of the group is committed; of a group that was turned into a classic one since
/// `mark`, what was written since then.
pub(in crate::groups) fn respond(
    group: &Group,
    out: &mut Outbox,
    mark: u64,
    to: ReplyTo,
    response: Response,
) {
    match group.consumer.as_deref() {
        Some(consumer) => match consumer.last_write {
            Some(token) => out.respond_after_write(token, to, response),
            None => out.respond(to, response),
        },
        None => out.respond_after_writes(mark, to, response),
    }
}

/// A write failed: its records are out of date again.
pub(in crate::groups) fn write_failed(group: &mut ConsumerGroup, keys: BTreeSet<RecordKey>) {
    group.unwritten.extend(keys);
}

/// The answer to a request whose records could not be written.
pub(in crate::groups) fn failed(response: Response, error: ErrorCode) -> Response {
    match response {
        Response::ConsumerGroupHeartbeat(r) if r.error_code == ErrorCode::NONE => {
            Response::ConsumerGroupHeartbeat(
                ottla_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatResponse {
                    error_code: error,
                    ..Default::default()
                },
            )
        }
        Response::JoinGroup(r) if r.error_code == ErrorCode::NONE => {
            Response::JoinGroup(ottla_protocol::messages::join_group::JoinGroupResponse {
                error_code: error,
                generation_id: -1,
                member_id: r.member_id,
                ..Default::default()
            })
        }
        Response::SyncGroup(r) if r.error_code == ErrorCode::NONE => {
            Response::SyncGroup(ottla_protocol::messages::sync_group::SyncGroupResponse {
                error_code: error,
                ..Default::default()
            })
        }
        Response::LeaveGroup(r) if r.error_code == ErrorCode::NONE => {
            Response::LeaveGroup(ottla_protocol::messages::leave_group::LeaveGroupResponse {
                error_code: error,
                ..Default::default()
            })
        }
        other => other,
    }
}
