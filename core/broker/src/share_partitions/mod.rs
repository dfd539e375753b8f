//! Share partitions: which records of a partition a share group's members have, and what became of them (KIP-932).
//!
//! In Kafka the leader of a partition keeps this, and a share coordinator keeps it durable; here both are one. The pattern is
//! that of the group coordinator: a request is decided on the state in memory, what changes is written as a record to
//! `__share_group_state`, the answer is released when that is committed, and start-up is a replay.
//!
//! What a member is handed is not written down, as in Kafka: after a restart it is available again.
//!
//! [`in_flight`] is one partition's window, [`spans`] what it is made of, [`stored`] its form in the log, [`sessions`] who
//! fetches what, [`config`] the settings. This file is the machine around them; the API files read the log and call it. See
//! `docs/internals/share-groups.md`.

mod config;
mod in_flight;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod model;
mod sessions;
mod spans;
mod stored;
#[cfg(test)]
mod tests;

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    format,
    vec::Vec,
};

use ottla_protocol::{ErrorCode, Str, Uuid};
use ottla_record::Now;

use crate::{
    context::{ConnId, ReplyTo},
    groups::CoordinatorRecord,
};

pub use config::{SHARE_GROUP_CONFIGS, ShareConfig, ShareGroupSettings, ShareOffsetReset};
pub(crate) use in_flight::{Ack, AckType, Acquired, BatchView, InFlight, Selection, Wanted};
pub(crate) use sessions::{FINAL_EPOCH, INITIAL_EPOCH, SessionKey, SessionPartition};
pub(crate) use stored::{NO_START, ShareKey};

use in_flight::StateBatch;
use sessions::ShareSessions;
use stored::{StateRecord, Stored};

/// Names a write until it is committed; unique within one broker run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateToken(u64);

/// Names a `ShareFetch` or `ShareAcknowledge` that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShareRequestId(u64);

/// Names what waits for several writes: an alteration or a deletion of offsets or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// What the machine wants done.
#[derive(Debug)]
pub(crate) enum ShareOutput {
    /// Append this record to a partition of `__share_group_state`; tell with [`SharePartitions::handle_appended`].
    Append {
        partition: i32,
        record: CoordinatorRecord,
        token: StateToken,
    },
    /// Records of this partition may be had again: fetches that wait for it should look.
    Wake { topic_id: Uuid, partition: i32 },
    /// Nothing that this request wrote is under way any more.
    Written(ShareRequestId),
    /// Nothing that this ticket stands for is under way any more; the first error, if any.
    Done(Ticket, Result<(), ErrorCode>),
}

/// What became of the acknowledgements for one partition.
#[derive(Clone, Debug)]
pub(crate) struct AckResult {
    pub topic_id: Uuid,
    pub partition: i32,
    pub error: ErrorCode,
}

/// A `ShareFetch` or `ShareAcknowledge` that is not answered yet.
#[derive(Debug)]
pub(crate) struct ShareRequest<F> {
    pub reply: ReplyTo,
    pub key: SessionKey,
    pub acks: Vec<AckResult>,
    /// `None` if it is an acknowledgement only.
    pub fetch: Option<F>,
    writes_left: usize,
}

impl<F> ShareRequest<F> {
    pub fn new(reply: ReplyTo, key: SessionKey, fetch: Option<F>) -> Self {
        Self {
            reply,
            key,
            acks: Vec::new(),
            fetch,
            writes_left: 0,
        }
    }

    /// Whether nothing that it wrote is under way.
    pub fn is_written(&self) -> bool {
        self.writes_left == 0
    }
}

#[derive(Debug)]
struct Entry {
    stored: Stored,
    live: Option<Live>,
    /// A write failed: what the log holds is not known until the broker is opened anew.
    broken: bool,
}

/// A share partition that is being read from.
#[derive(Debug)]
struct Live {
    /// Tells it from an earlier one of the same key, for writes that are under way.
    id: u64,
    window: InFlight,
    /// Its start offset is committed: records may be handed out.
    ready: bool,
    leader_epoch: i32,
    timer_us: Option<u64>,
}

#[derive(Debug)]
enum Then {
    Nothing,
    /// The start offset is known for good.
    Ready(u64),
    /// Acknowledgements of a request, by their place in [`ShareRequest::acks`].
    Acknowledged(ShareRequestId, usize),
    /// Part of a request that has nothing to tell of it.
    Released(ShareRequestId),
    Ticket(Ticket),
}

#[derive(Debug)]
struct Write {
    key: ShareKey,
    is_snapshot: bool,
    /// Where it is in its partition of the log, once it is there.
    offset: Option<i64>,
    then: Then,
}

/// All share partitions of this broker.
#[derive(Debug)]
pub(crate) struct SharePartitions<F> {
    entries: BTreeMap<ShareKey, Entry>,
    pub(crate) sessions: ShareSessions,
    requests: BTreeMap<ShareRequestId, ShareRequest<F>>,
    tickets: BTreeMap<Ticket, (usize, Result<(), ErrorCode>)>,
    outputs: VecDeque<ShareOutput>,
    writes: BTreeMap<u64, Write>,
    timers: BTreeSet<(u64, ShareKey)>,
    /// When `__share_group_state` is next made smaller; `None` while nothing is written.
    prune_us: Option<u64>,
    prune_interval_ms: i64,
    state_partitions: i32,
    next: u64,
}

impl<F> SharePartitions<F> {
    /// Knows no share partition yet.
    pub fn new(config: &ShareConfig) -> Self {
        Self {
            entries: BTreeMap::new(),
            sessions: ShareSessions::new(config.max_sessions),
            requests: BTreeMap::new(),
            tickets: BTreeMap::new(),
            outputs: VecDeque::new(),
            writes: BTreeMap::new(),
            timers: BTreeSet::new(),
            prune_us: None,
            prune_interval_ms: config.prune_interval_ms.max(1),
            state_partitions: config.state_partitions.max(1),
            next: 0,
        }
    }

    /// One record of `__share_group_state` at this offset; only while the broker opens.
    pub fn replay(&mut self, offset: i64, key: &[u8], value: Option<&[u8]>) {
        match stored::parse(key, value) {
            Some(StateRecord::Snapshot(key, Some(mut stored))) => {
                stored.snapshot_offset = Some(offset);
                let entry = Entry {
                    stored,
                    live: None,
                    broken: false,
                };
                self.entries.insert(key, entry);
            }
            Some(StateRecord::Snapshot(key, None)) => {
                self.entries.remove(&key);
            }
            Some(StateRecord::Update(key, value)) => {
                if let Some(entry) = self.entries.get_mut(&key)
                    && entry.stored.snapshot_epoch == value.snapshot_epoch
                {
                    entry.stored.replay(&value);
                }
            }
            None => {}
        }
    }

    /// All was replayed. State of topics that are gone, or of groups that don't know of it, goes too: the broker may have
    /// ended in between.
    pub fn replay_finished(&mut self, now: Now, is_known: impl Fn(&ShareKey) -> bool) {
        let gone: Vec<ShareKey> = self
            .entries
            .keys()
            .filter(|key| !is_known(key))
            .cloned()
            .collect();
        for key in gone {
            self.remove(now, key, Then::Nothing);
        }
        if !self.entries.is_empty() {
            self.prune_us = Some(now.after_ms(self.prune_interval_ms));
        }
    }

    /// Makes the state of partitions that a group is to read and has none of yet.
    pub fn initialize(
        &mut self,
        now: Now,
        group: &Str,
        topic_id: Uuid,
        partitions: impl Iterator<Item = i32>,
        state_epoch: i32,
    ) {
        for partition in partitions {
            let key = ShareKey {
                group: group.clone(),
                topic_id,
                partition,
            };
            if !self.entries.contains_key(&key) {
                self.begin(now, key, state_epoch, NO_START, Then::Nothing);
            }
        }
    }

    /// A ticket for [`Self::set_start`] and [`Self::delete`]; it is done with [`Self::close_ticket`] and all its writes.
    pub fn open_ticket(&mut self) -> Ticket {
        self.next += 1;
        let ticket = Ticket(self.next);
        self.tickets.insert(ticket, (1, Ok(())));
        ticket
    }

    /// Nothing more will be written for it.
    pub fn close_ticket(&mut self, ticket: Ticket) {
        self.count_down(ticket, Ok(()));
    }

    fn count_down(&mut self, ticket: Ticket, result: Result<(), ErrorCode>) {
        let Some((left, so_far)) = self.tickets.get_mut(&ticket) else {
            return;
        };
        if so_far.is_ok() {
            *so_far = result;
        }
        *left -= 1;
        if *left == 0
            && let Some((_, result)) = self.tickets.remove(&ticket)
        {
            self.outputs.push_back(ShareOutput::Done(ticket, result));
        }
    }

    /// The group goes on from `start`, whatever there was.
    pub fn set_start(
        &mut self,
        now: Now,
        key: ShareKey,
        state_epoch: i32,
        start: i64,
        ticket: Ticket,
    ) {
        if let Some((left, _)) = self.tickets.get_mut(&ticket) {
            *left += 1;
        }
        self.begin(now, key, state_epoch, start, Then::Ticket(ticket));
    }

    /// Deletes state: of one topic, or of all, of one group, or of all.
    pub fn delete(
        &mut self,
        now: Now,
        group: Option<&Str>,
        topic_id: Option<Uuid>,
        ticket: Option<Ticket>,
    ) {
        let keys: Vec<ShareKey> = self
            .entries
            .keys()
            .filter(|key| group.is_none_or(|group| key.group == *group))
            .filter(|key| topic_id.is_none_or(|id| key.topic_id == id))
            .cloned()
            .collect();
        for key in keys {
            let then = match ticket {
                Some(ticket) => {
                    if let Some((left, _)) = self.tickets.get_mut(&ticket) {
                        *left += 1;
                    }
                    Then::Ticket(ticket)
                }
                None => Then::Nothing,
            };
            self.remove(now, key, then);
        }
    }

    fn begin(&mut self, now: Now, key: ShareKey, state_epoch: i32, start: i64, then: Then) {
        self.drop_live(&key);
        let mut stored = Stored::new(state_epoch, start, now.wall_ms);
        let mut broken = false;
        if let Some(old) = self.entries.get(&key) {
            stored.snapshot_epoch = old.stored.snapshot_epoch.wrapping_add(1);
            stored.snapshot_offset = old.stored.snapshot_offset;
            broken = old.broken;
        }
        let record = stored.snapshot(&key, now);
        let entry = Entry {
            stored,
            live: None,
            broken,
        };
        self.entries.insert(key.clone(), entry);
        self.write(now, key, record, true, then);
    }

    fn remove(&mut self, now: Now, key: ShareKey, then: Then) {
        self.drop_live(&key);
        if self.entries.remove(&key).is_some() {
            let record = stored::tombstone(&key);
            self.write(now, key, record, false, then);
        }
    }

    fn drop_live(&mut self, key: &ShareKey) {
        let live = self
            .entries
            .get_mut(key)
            .and_then(|entry| entry.live.take());
        if let Some(live) = live
            && let Some(timer) = live.timer_us
        {
            self.timers.remove(&(timer, key.clone()));
        }
    }

    fn write(
        &mut self,
        now: Now,
        key: ShareKey,
        record: CoordinatorRecord,
        is_snapshot: bool,
        then: Then,
    ) {
        if self.prune_us.is_none() {
            self.prune_us = Some(now.after_ms(self.prune_interval_ms));
        }
        self.next += 1;
        let token = StateToken(self.next);
        let partition = state_partition_of(&key, self.state_partitions);
        let write = Write {
            key,
            is_snapshot,
            offset: None,
            then,
        };
        self.writes.insert(token.0, write);
        self.outputs.push_back(ShareOutput::Append {
            partition,
            record,
            token,
        });
    }

    /// The record named `token` is at `offset` of its partition.
    pub fn note_offset(&mut self, token: StateToken, offset: i64) {
        if let Some(write) = self.writes.get_mut(&token.0) {
            write.offset = Some(offset);
        }
    }

    /// The record named `token` is committed, or will never be.
    pub fn handle_appended(&mut self, token: StateToken, result: Result<(), ErrorCode>) {
        let Some(write) = self.writes.remove(&token.0) else {
            return;
        };
        let Write { key, then, .. } = write;
        // Not before it is committed: until then what lies before it is all that there is for sure.
        if write.is_snapshot
            && result.is_ok()
            && let Some(entry) = self.entries.get_mut(&key)
        {
            entry.stored.snapshot_offset = write.offset;
        }
        if result.is_err() {
            self.drop_live(&key);
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.broken = true;
            }
        }
        match then {
            Then::Nothing => {}
            Then::Ready(id) => {
                let entry = self.entries.get_mut(&key);
                if let Some(live) = entry.and_then(|entry| entry.live.as_mut())
                    && live.id == id
                {
                    live.ready = true;
                }
                // Also if it failed: who waits is told so.
                self.wake(&key);
            }
            Then::Acknowledged(request, at) => {
                if let Some(request) = self.requests.get_mut(&request)
                    && result.is_err()
                    && let Some(ack) = request.acks.get_mut(at)
                {
                    ack.error = ErrorCode::COORDINATOR_NOT_AVAILABLE;
                }
                self.request_written(request);
            }
            Then::Released(request) => self.request_written(request),
            Then::Ticket(ticket) => {
                let result = result.map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE);
                self.count_down(ticket, result);
            }
        }
    }

    fn request_written(&mut self, id: ShareRequestId) {
        if let Some(request) = self.requests.get_mut(&id) {
            request.writes_left -= 1;
            if request.writes_left == 0 {
                self.outputs.push_back(ShareOutput::Written(id));
            }
        }
    }

    fn wake(&mut self, key: &ShareKey) {
        self.outputs.push_back(ShareOutput::Wake {
            topic_id: key.topic_id,
            partition: key.partition,
        });
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<ShareOutput> {
        self.outputs.pop_front()
    }

    // ---- requests ----

    /// Keeps a request until it is answered.
    pub fn park(&mut self, request: ShareRequest<F>) -> ShareRequestId {
        self.next += 1;
        let id = ShareRequestId(self.next);
        self.requests.insert(id, request);
        id
    }

    pub fn request_mut(&mut self, id: ShareRequestId) -> Option<&mut ShareRequest<F>> {
        self.requests.get_mut(&id)
    }

    pub fn take_request(&mut self, id: ShareRequestId) -> Option<ShareRequest<F>> {
        self.requests.remove(&id)
    }

    /// Takes a member's acknowledgements for one partition in; what becomes of it is told in the request's `acks`, for good
    /// once the request is written.
    pub fn acknowledge(
        &mut self,
        now: Now,
        request: ShareRequestId,
        topic_id: Uuid,
        partition: i32,
        acks: Result<&[Ack], ErrorCode>,
        settings: &ShareGroupSettings,
    ) {
        let Some(asking) = self.requests.get_mut(&request) else {
            return;
        };
        let at = asking.acks.len();
        asking.acks.push(AckResult {
            topic_id,
            partition,
            error: ErrorCode::NONE,
        });
        let member = asking.key.member.clone();
        let key = ShareKey {
            group: asking.key.group.clone(),
            topic_id,
            partition,
        };
        let changed = acks.and_then(|acks| {
            if acks.is_empty() {
                return Ok(Vec::new());
            }
            let entry = self.entries.get_mut(&key);
            let live = entry.and_then(|entry| entry.live.as_mut());
            let live = live.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
            let until_us = now.after_ms(settings.record_lock_duration_ms.into());
            live.window
                .acknowledge(&member, acks, until_us, settings.delivery_count_limit)
        });
        match changed {
            Err(error) => {
                if let Some(asking) = self.requests.get_mut(&request) {
                    asking.acks[at].error = error;
                }
            }
            Ok(changed) => {
                self.arm(&key);
                if self.save(now, &key, &changed, Then::Acknowledged(request, at))
                    && let Some(asking) = self.requests.get_mut(&request)
                {
                    asking.writes_left += 1;
                }
            }
        }
    }

    /// Ends a session: all that its member has is given back. With a request, that waits for it.
    pub fn close_session(
        &mut self,
        now: Now,
        key: &SessionKey,
        request: Option<ShareRequestId>,
        delivery_limit: i16,
    ) {
        self.sessions.close(key);
        let held: Vec<ShareKey> = self
            .entries
            .range(
                ShareKey {
                    group: key.group.clone(),
                    topic_id: Uuid::ZERO,
                    partition: i32::MIN,
                }..,
            )
            .take_while(|(at, _)| at.group == key.group)
            .filter(|(_, entry)| entry.live.is_some())
            .map(|(at, _)| at.clone())
            .collect();
        for at in held {
            let entry = self.entries.get_mut(&at);
            let Some(live) = entry.and_then(|entry| entry.live.as_mut()) else {
                continue;
            };
            let changed = live.window.release_all(&key.member, delivery_limit);
            if changed.is_empty() {
                continue;
            }
            let then = request.map_or(Then::Nothing, Then::Released);
            if self.save(now, &at, &changed, then)
                && let Some(asking) = request.and_then(|id| self.requests.get_mut(&id))
            {
                asking.writes_left += 1;
            }
        }
    }

    /// A connection is gone, and with it the sessions that it opened and the requests that it made.
    pub fn handle_disconnect(
        &mut self,
        now: Now,
        conn: ConnId,
        settings_of: impl Fn(&Str) -> ShareGroupSettings,
    ) {
        self.requests
            .retain(|_, request| request.reply.conn != conn);
        for key in self.sessions.close_conn(conn) {
            let limit = settings_of(&key.group).delivery_count_limit;
            self.close_session(now, &key, None, limit);
        }
    }

    /// Writes down what changed in a window, and wakes who waits for records. Whether there was anything to write.
    fn save(&mut self, now: Now, key: &ShareKey, changed: &[StateBatch], then: Then) -> bool {
        if changed.is_empty() {
            return false;
        }
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        let Some(live) = entry.live.as_ref() else {
            return false;
        };
        let start = live.window.start();
        let done = live.window.done();
        let snapshots = entry.stored.snapshot_epoch;
        let record = entry
            .stored
            .write(key, start, changed, done, live.leader_epoch, now);
        let is_snapshot = entry.stored.snapshot_epoch != snapshots;
        self.write(now, key.clone(), record, is_snapshot, then);
        self.wake(key);
        true
    }

    // ---- reading ----

    /// Whether a group may read from a partition: `Some(false)` while its start offset is on the way to the log.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if the group has no state of it; `COORDINATOR_NOT_AVAILABLE` if the state can't be written any more.
    pub fn readiness(&self, key: &ShareKey) -> Result<Option<bool>, ErrorCode> {
        let entry = self.entries.get(key).ok_or(ErrorCode::INVALID_REQUEST)?;
        if entry.broken {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        Ok(entry.live.as_ref().map(|live| live.ready))
    }

    /// Begins to read from a partition: at its stored start, or, where there is none, at `first`.
    pub fn open(
        &mut self,
        now: Now,
        key: &ShareKey,
        leader_epoch: i32,
        first: impl FnOnce() -> i64,
    ) {
        self.next += 1;
        let id = self.next;
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let fresh = entry.stored.start == NO_START;
        let start = if fresh { first() } else { entry.stored.start };
        entry.live = Some(Live {
            id,
            window: InFlight::load(start, entry.stored.batches()),
            ready: !fresh,
            leader_epoch,
            timer_us: None,
        });
        if fresh {
            // Before anything is handed out: after a restart `latest` would be another place.
            let snapshots = entry.stored.snapshot_epoch;
            let record = entry.stored.write(key, start, &[], 0, leader_epoch, now);
            let is_snapshot = entry.stored.snapshot_epoch != snapshots;
            self.write(now, key.clone(), record, is_snapshot, Then::Ready(id));
        }
    }

    /// The window of a partition that is being read from.
    pub fn window_mut(&mut self, key: &ShareKey) -> Option<&mut InFlight> {
        let entry = self.entries.get_mut(key)?;
        entry.live.as_mut().map(|live| &mut live.window)
    }

    /// Hands out what was selected.
    pub fn acquire(
        &mut self,
        now: Now,
        key: &ShareKey,
        selection: &Selection,
        member: &Str,
        batch_size: i32,
        settings: &ShareGroupSettings,
    ) -> Vec<Acquired> {
        let until_us = now.after_ms(settings.record_lock_duration_ms.into());
        let Some(window) = self.window_mut(key) else {
            return Vec::new();
        };
        let acquired = window.acquire(selection, member, until_us, batch_size.into());
        if !acquired.is_empty() {
            self.arm(key);
        }
        acquired
    }

    /// Sees to the timer of a partition. One that is too early is left: it looks again when it ends.
    fn arm(&mut self, key: &ShareKey) {
        let entry = self.entries.get_mut(key);
        let Some(live) = entry.and_then(|entry| entry.live.as_mut()) else {
            return;
        };
        // A lock may end before one that was taken earlier: the group's `share.record.lock.duration.ms` may change.
        if let Some(due) = live.window.next_expiry_us()
            && live.timer_us.is_none_or(|timer| due < timer)
        {
            if let Some(timer) = live.timer_us.replace(due) {
                self.timers.remove(&(timer, key.clone()));
            }
            self.timers.insert((due, key.clone()));
        }
    }

    /// When [`Self::handle_timeout`] must be called, in monotonic microseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        let lock = self.timers.first().map(|(at, _)| *at);
        [lock, self.prune_us].into_iter().flatten().min()
    }

    /// Takes back what was held for too long.
    pub fn handle_timeout(&mut self, now: Now, settings_of: impl Fn(&Str) -> ShareGroupSettings) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now.mono_us
            && let Some((_, key)) = self.timers.pop_first()
        {
            let entry = self.entries.get_mut(&key);
            let Some(live) = entry.and_then(|entry| entry.live.as_mut()) else {
                continue;
            };
            live.timer_us = None;
            let limit = settings_of(&key.group).delivery_count_limit;
            let changed = live.window.expire(now.mono_us, limit);
            self.save(now, &key, &changed, Then::Nothing);
            self.arm(&key);
        }
    }

    /// Whether it is time for [`Self::prune`].
    pub fn prune_is_due(&self, now: Now) -> bool {
        self.prune_us.is_some_and(|at| at <= now.mono_us)
    }

    /// Up to where each partition of `__share_group_state` isn't needed any more, by partition. `ends` are their log ends.
    ///
    /// Where old snapshots keep a log long, they are written anew, so that the next round gets further.
    pub fn prune(&mut self, now: Now, ends: &[i64]) -> Vec<i64> {
        self.prune_us = None;
        let mut needed: Vec<(i64, i64)> = ends.iter().map(|end| (*end, 0)).collect();
        for (key, entry) in &self.entries {
            let at = state_partition_of(key, self.state_partitions) as usize;
            if let Some((first, entries)) = needed.get_mut(at) {
                *first = (*first).min(entry.stored.snapshot_offset.unwrap_or(0));
                *entries += 1;
            }
        }
        let age_us = (self.prune_interval_ms as u64).saturating_mul(1000);
        let mut renewed = Vec::new();
        for (key, entry) in &mut self.entries {
            let at = state_partition_of(key, self.state_partitions) as usize;
            let (Some((_, entries)), Some(end)) = (needed.get(at), ends.get(at)) else {
                continue;
            };
            let is_old = entry.stored.snapshot_us.saturating_add(age_us) <= now.mono_us;
            let behind = entry
                .stored
                .snapshot_offset
                .map_or(0, |offset| end - offset);
            if is_old && !entry.broken && behind > (2 * entries).max(UPDATES_WORTH_A_SNAPSHOT) {
                entry.stored.snapshot_epoch = entry.stored.snapshot_epoch.wrapping_add(1);
                renewed.push((key.clone(), entry.stored.snapshot(key, now)));
            }
        }
        for (key, record) in renewed {
            self.write(now, key, record, true, Then::Nothing);
        }
        needed.into_iter().map(|(first, _)| first).collect()
    }

    // ---- telling ----

    /// Start offset, leader epoch and records at or above it that are done with; `None` if the group has no state of it.
    pub fn describe(&self, key: &ShareKey) -> Option<(i64, i32, i64)> {
        let stored = &self.entries.get(key)?.stored;
        Some((stored.start, stored.leader_epoch, stored.done_count()))
    }
}

/// Records behind a snapshot that are worth another one.
const UPDATES_WORTH_A_SNAPSHOT: i64 = 100;

/// The partition of `__share_group_state` that holds a share partition: of the text `group:topicId:partition`.
pub(crate) fn state_partition_of(key: &ShareKey, partitions: i32) -> i32 {
    let text = format!("{}:{}:{}", key.group, key.topic_id, key.partition);
    crate::groups::partition_of(&text, partitions)
}
