//! Consumer groups: the coordinator, as a machine inside the broker.
//!
//! It follows Kafka's pattern: a request is decided purely on the state in memory; what changes is written as records
//! to a partition of `__consumer_offsets`; the answer is released once those records are committed (the high watermark
//! passed them: on disk with `Durability::Fsync`). Start-up is a replay of the same records.
//!
//! The coordinator touches neither the log nor the broker. What it wants done comes out of
//! [`GroupCoordinator::poll_output`], which the broker drains after every call into it:
//!
//! * [`GroupOutput::Respond`]: the answer to a request whose handler returned [`Handled::Deferred`]; the handler kept
//!   [`RequestContext::reply`] (`Copy`) for that. Answers to connections that are gone are dropped by the broker.
//! * [`GroupOutput::Append`]: records for one partition of `__consumer_offsets`, appended as one batch. The broker
//!   calls [`GroupCoordinator::handle_appended`] with the same token once they are committed, or when they can't be.
//!   Appends to one partition commit in the order in which they were put out. In memory and with `Durability::Os`
//!   that happens before the call that caused the append returns to the driver.
//!
//! The files in `api/` of the group keys take `&mut Broker`; its fields `groups` and `topics` can be borrowed apart.

use alloc::{collections::VecDeque, vec::Vec};
use bytes::Bytes;
use ottla_protocol::{ErrorCode, Response, Str, Uuid};
use ottla_record::Now;

use crate::context::ReplyTo;

/// What the coordinator is told at construction.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Partitions of `__consumer_offsets` (`offsets.topic.num.partitions`), at least 1. A group's partition is
    /// `abs(JavaStringHash(group)) mod` this.
    pub partitions: i32,
    /// `group.initial.rebalance.delay.ms`; 0 answers the first join of an empty group at once.
    pub initial_rebalance_delay_ms: i32,
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.max.size`: members of one group.
    pub max_size: i32,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: i32,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: i64,
}

/// One record for `__consumer_offsets`; a `None` value is a tombstone.
#[derive(Clone, Debug, PartialEq)]
pub struct CoordinatorRecord {
    /// i16 type/version prefix and fields.
    pub key: Bytes,
    /// i16 version prefix and fields.
    pub value: Option<Bytes>,
}

/// Names an append of the coordinator until it is committed; unique within one coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendToken(pub u64);

/// What the coordinator wants done.
#[derive(Debug)]
pub enum GroupOutput {
    /// Answer a deferred request.
    Respond {
        /// From the request's [`crate::context::RequestContext`].
        to: ReplyTo,
        /// The answer.
        response: Response,
    },
    /// Append `records` as one batch to `__consumer_offsets-<partition>`.
    Append {
        /// 0 ≤ partition < [`GroupConfig::partitions`].
        partition: i32,
        /// At least one.
        records: Vec<CoordinatorRecord>,
        /// Comes back in [`GroupCoordinator::handle_appended`].
        token: AppendToken,
    },
}

/// One record read back from `__consumer_offsets` while the broker opens.
#[derive(Debug)]
pub struct ReplayedRecord<'a> {
    /// Partition it was read from.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, milliseconds since the epoch.
    pub timestamp: i64,
    /// The key; a record without one is not replayed.
    pub key: &'a [u8],
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

/// All consumer groups of this broker.
#[derive(Debug)]
pub struct GroupCoordinator {
    config: GroupConfig,
    outputs: VecDeque<GroupOutput>,
}

impl GroupCoordinator {
    /// A coordinator that knows no group yet. `seed` is for member ids.
    pub fn new(config: GroupConfig, _seed: u64) -> Self {
        Self { config, outputs: VecDeque::new() }
    }

    /// Its configuration.
    pub fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// One record of `__consumer_offsets`, in offset order per partition; only while the broker opens. A record that
    /// can't be read is skipped (its type may be newer than this version).
    pub fn replay(&mut self, _record: ReplayedRecord<'_>) {}

    /// All records were replayed: sessions of the loaded members start now.
    pub fn replay_finished(&mut self, _now: Now) {}

    /// The append named `token` is committed (`Ok`), or will never be (the error a producer would have got).
    pub fn handle_appended(&mut self, _now: Now, _token: AppendToken, _result: Result<(), ErrorCode>) {}

    /// The topic is gone: its committed offsets go too.
    pub fn handle_topic_deleted(&mut self, _now: Now, _name: &Str, _id: Uuid) {}

    /// When [`GroupCoordinator::handle_timeout`] must be called next, in monotonic microseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        None
    }

    /// Sessions, rebalances, expiry of offsets: whatever is due at `now`.
    pub fn handle_timeout(&mut self, _now: Now) {}

    /// The next thing the coordinator wants done.
    pub fn poll_output(&mut self) -> Option<GroupOutput> {
        self.outputs.pop_front()
    }
}
