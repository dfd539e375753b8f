//! Consumer groups: the coordinator, as a machine inside the broker.
//!
//! It follows Kafka's pattern: a request is decided purely on the state in memory; what changes is written as records
//! to a partition of `__consumer_offsets`; the answer is released once those records are committed (the high watermark
//! passed them: on disk with `Durability::Fsync`). Start-up is a replay of the same records.
//!
//! The coordinator touches neither the log nor the broker. What it wants done comes out of
//! [`GroupCoordinator::poll_output`], which the broker drains after every call into it:
//!
//! * [`GroupOutput::Respond`]: the answer to a request whose handler returned `Handled::Deferred`; the handler kept
//!   `RequestContext::reply` (`Copy`) for that. Answers to connections that are gone are dropped by the broker.
//! * [`GroupOutput::Append`]: records for one partition of `__consumer_offsets`, appended as one batch. The broker
//!   calls [`GroupCoordinator::handle_appended`] with the same token once they are committed, or when they can't be.
//!   Appends to one partition commit in the order in which they were put out. In memory and with `Durability::Os`
//!   that happens before the call that caused the append returns to the driver.
//!
//! The files in `api/` of the group keys take `&mut Broker`; its fields `groups` and `topics` can be borrowed apart.
//!
//! One file is one flow: [`join`] (and [`static_join`]), [`rebalance`], [`sync`], [`heartbeat`], [`leave`], [`commit`],
//! [`txn_commit`], [`deletion`], [`expiry`], [`listing`], [`replay`]. [`group`], [`member`] and [`offsets`] are the state, [`records`]
//! its form in the log, [`outbox`] what the flows put out. See `docs/internals/groups.md`.

mod commit;
mod consumer;
mod deletion;
mod expiry;
mod group;
mod heartbeat;
mod join;
mod leave;
mod listing;
mod member;
#[cfg(test)]
mod model;
mod offsets;
mod outbox;
mod owned;
mod rebalance;
mod records;
mod replay;
mod static_join;
mod subscription;
mod sync;
#[cfg(test)]
mod testing;
pub(crate) mod txn_commit;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use bytes::Bytes;
use ottla_protocol::{ErrorCode, Response, Str, Uuid};
use ottla_record::Now;

use self::{
    deletion::Deletions,
    group::Group,
    outbox::{AfterCommit, Outbox, Write},
};
use crate::context::ReplyTo;

pub use consumer::{ConsumerAssignor, ConsumerGroupConfig, ConsumerGroupSettings, MigrationPolicy};
pub(crate) use listing::NameFilter;
pub use offsets::CommittedOffset;
pub(crate) use outbox::{membership_error, partition_of};

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
    /// Consumer groups of the newer protocol.
    pub consumer: ConsumerGroupConfig,
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
        /// Producer id and epoch of the transaction that they are part of, if they are of one.
        producer: Option<(i64, i16)>,
        /// Comes back in [`GroupCoordinator::handle_appended`].
        token: AppendToken,
    },
}

/// All consumer groups of this broker.
#[derive(Debug)]
pub struct GroupCoordinator {
    groups: BTreeMap<Str, Group>,
    out: Outbox,
    deletions: Deletions,
    /// By producer id: the groups that have, or had, offsets of its open transaction.
    open_transactions: BTreeMap<i64, BTreeSet<Str>>,
    /// When to look at which group; see [`Group::timer_us`].
    timers: BTreeSet<(u64, Str)>,
    /// When offsets are next looked through; `None` while there are no groups.
    expiry_us: Option<u64>,
    next_incarnation: u64,
}

impl GroupCoordinator {
    /// A coordinator that knows no group yet. `seed` is for member ids: another one each time a broker opens.
    pub fn new(config: GroupConfig, seed: u64) -> Self {
        Self {
            groups: BTreeMap::new(),
            out: Outbox::new(config, seed),
            deletions: Deletions::default(),
            open_transactions: BTreeMap::new(),
            timers: BTreeSet::new(),
            expiry_us: None,
            next_incarnation: 0,
        }
    }

    /// Replaces what a consumer group has set for itself; `None` takes it away. It counts from the next heartbeat of each member on.
    pub fn set_consumer_group_settings(
        &mut self,
        group: &Str,
        settings: Option<ConsumerGroupSettings>,
    ) {
        match settings {
            Some(settings) => self.out.settings.insert(group.clone(), settings),
            None => self.out.settings.remove(group),
        };
    }

    /// The append named `token` is committed (`Ok`), or will never be (the error a producer would have got).
    pub fn handle_appended(&mut self, now: Now, token: AppendToken, result: Result<(), ErrorCode>) {
        let Some(Write {
            group: id,
            incarnation,
            then,
            answers,
        }) = self.out.take_write(token)
        else {
            return;
        };
        match then {
            AfterCommit::Assign {
                generation,
                assignments,
            } => {
                if self
                    .groups
                    .get(&id)
                    .is_some_and(|g| g.incarnation == incarnation)
                {
                    self.with_group(&id, |group, out| {
                        sync::assignment_written(group, out, now, generation, assignments, result);
                    });
                }
            }
            AfterCommit::AnswerReplacement { reply, response } => match result {
                Ok(()) => self.out.respond(reply, Response::JoinGroup(response)),
                Err(error) => rebalance::refuse_join(
                    &mut self.out,
                    reply,
                    response.member_id,
                    outbox::membership_error(error),
                ),
            },
            AfterCommit::CommitOffsets { offsets, answer } => {
                let group = self.incarnation(&id, incarnation);
                let (to, response) = commit::offsets_written(group, offsets, answer, result);
                self.out.respond(to, response);
                self.forget_if_nothing(&id);
            }
            AfterCommit::CommitTransactional {
                producer_id,
                offsets,
                answer,
            } => self.transactional_offsets_written(
                &id,
                incarnation,
                producer_id,
                offsets,
                answer,
                result,
            ),
            AfterCommit::DeleteOffsets { keys, answer } => {
                let group = self.incarnation(&id, incarnation);
                if let Some((to, response)) =
                    deletion::offset_tombstones_written(group, keys, answer, result)
                {
                    self.out.respond(to, response);
                }
            }
            AfterCommit::DeleteGroup { request } => {
                self.deletion_written(&id, incarnation, request, result);
            }
            AfterCommit::Consumer { keys } => {
                if let Err(error) = result {
                    if let Some(group) = self.incarnation(&id, incarnation)
                        && let Some(consumer) = group.consumer.as_deref_mut()
                    {
                        consumer::write_failed(consumer, keys);
                    }
                    let error = outbox::membership_error(error);
                    for (to, response) in answers {
                        self.out.respond(to, consumer::failed(response, error));
                    }
                    return;
                }
            }
            AfterCommit::Nothing => {}
        }
        for (to, response) in answers {
            self.out.respond(to, response);
        }
    }

    /// Whether there is a group of this name here.
    pub fn contains(&self, id: &Str) -> bool {
        self.groups.contains_key(id)
    }

    /// When [`GroupCoordinator::handle_timeout`] must be called next, in monotonic microseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        let group = self.timers.first().map(|(at, _)| *at);
        [group, self.expiry_us].into_iter().flatten().min()
    }

    /// Sessions, rebalances, expiry of offsets: whatever is due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now.mono_us
            && let Some((_, id)) = self.timers.pop_first()
        {
            if let Some(group) = self.groups.get_mut(&id) {
                group.timer_us = None;
            }
            self.with_group(&id, |group, out| {
                // What one thing that was due set off may be due at once too (an initial delay of 0, say).
                while group.next_due_us().is_some_and(|due| due <= now.mono_us) {
                    if group.consumer.is_some() {
                        consumer::handle_due(group, out, now);
                    } else {
                        rebalance::handle_due(group, out, now);
                    }
                }
            });
        }
        if self.expiry_us.is_some_and(|at| at <= now.mono_us) {
            self.expire_offsets(now);
            self.expiry_us = None;
            self.start_expiry(now);
        }
    }

    /// A topic was made, or grew, or is there at the start.
    pub fn handle_topic_changed(&mut self, name: &Str, id: Uuid, partitions: i32) {
        self.out
            .topics
            .set(name, consumer::topics::Topic { id, partitions });
        self.topics_changed();
    }

    /// Consumer groups look at their subscriptions with the next heartbeat.
    fn topics_changed(&mut self) {
        for group in self.groups.values_mut() {
            if let Some(consumer) = group.consumer.as_deref_mut() {
                consumer.topics_changed = true;
            }
        }
    }

    /// The next thing the coordinator wants done.
    pub fn poll_output(&mut self) -> Option<GroupOutput> {
        self.out.next_output()
    }

    /// Changes a group and sees to its timer.
    fn with_group(&mut self, id: &Str, change: impl FnOnce(&mut Group, &mut Outbox)) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        change(group, &mut self.out);
        if let Some(due) = group.next_due_us()
            && group.timer_us.is_none_or(|timer| due < timer)
        {
            // A timer that is too early (sessions move back with every heartbeat) is left: it looks again when it ends.
            if let Some(timer) = group.timer_us.replace(due) {
                self.timers.remove(&(timer, group.id.clone()));
            }
            self.timers.insert((due, group.id.clone()));
        }
        self.forget_if_nothing(id);
    }

    /// Makes the group if it isn't there.
    fn group_or_new(&mut self, now: Now, id: &Str) {
        if !self.groups.contains_key(id) {
            self.insert_new(&owned::owned_str(id));
            self.start_expiry(now);
        }
    }

    fn insert_new(&mut self, id: &Str) {
        self.next_incarnation += 1;
        self.groups
            .insert(id.clone(), Group::new(id.clone(), self.next_incarnation));
    }

    /// The group that a write was decided for; it may be on its way out.
    fn incarnation(&mut self, id: &Str, incarnation: u64) -> Option<&mut Group> {
        match self.groups.get_mut(id) {
            Some(group) if group.incarnation == incarnation => Some(group),
            _ => self.deletions.groups.get_mut(&incarnation),
        }
    }

    /// Forgets a group of which neither memory nor the log holds anything: it was asked to be and then was not.
    fn forget_if_nothing(&mut self, id: &Str) {
        if self
            .groups
            .get(id)
            .is_some_and(|g| !g.persisted && g.is_vacant())
        {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: &Str) -> Option<Group> {
        let mut group = self.groups.remove(id)?;
        if let Some(timer) = group.timer_us.take() {
            self.timers.remove(&(timer, group.id.clone()));
        }
        Some(group)
    }

    fn start_expiry(&mut self, now: Now) {
        if self.expiry_us.is_none() && !self.groups.is_empty() {
            let interval_ms = self.out.config.offsets_retention_check_interval_ms.max(1);
            self.expiry_us = Some(now.after_ms(interval_ms));
        }
    }
}
