//! Share groups: who is in them, and which partitions each member reads (KIP-932). What becomes of the records is the business
//! of [`crate::share_partitions`].
//!
//! The pattern is that of [`crate::groups`]: a request is decided purely on the state in memory; what changes is written as
//! records of types 10 to 15 to the group's partition of `__consumer_offsets`; the answer is released once they are
//! committed. Start-up is a replay of the same records.
//!
//! One file is one flow: [`heartbeat`], [`offsets`], [`deletion`], [`listing`], [`replay`]. [`group`] is the state,
//! [`assignor`] shares partitions out, [`records`] is the form in the log. See `docs/internals/share-groups.md`.

mod assignor;
mod deletion;
mod group;
mod heartbeat;
mod listing;
mod offsets;
mod records;
mod replay;

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};

use bytes::Bytes;
use ottla_protocol::{ErrorCode, Response, Str, Uuid};

use crate::{
    context::ReplyTo,
    groups::{CoordinatorRecord, membership_error},
    share_partitions::{ShareConfig, ShareGroupSettings, Ticket},
};

use self::{deletion::DeletionsUnderWay, group::ShareGroup, offsets::OffsetsUnderWay};

pub(crate) use group::TopicSeen;

/// Names an append of this coordinator until it is committed; unique within one broker run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShareGroupToken(u64);

/// What the coordinator wants done.
#[derive(Debug)]
pub(crate) enum ShareGroupOutput {
    /// Answer a deferred request.
    Respond { to: ReplyTo, response: Response },
    /// Append `records` as one batch to the partition of `__consumer_offsets` that holds `group`.
    Append {
        group: Str,
        records: Vec<CoordinatorRecord>,
        token: ShareGroupToken,
    },
    /// The group is to read these partitions and has no state of them yet.
    Initialize {
        group: Str,
        topic_id: Uuid,
        partitions: Vec<i32>,
        state_epoch: i32,
    },
}

/// What follows from the commit of a write.
#[derive(Debug)]
enum Then {
    Nothing,
    Respond(ReplyTo, Response),
    /// A group's tombstones, for this `DeleteGroups`.
    Deleted(u64, Str),
}

#[derive(Debug)]
struct Write {
    group: Str,
    then: Then,
    /// Of its records.
    keys: Vec<Bytes>,
    /// Answers that tell of what was written.
    answers: Vec<(ReplyTo, Response)>,
}

/// All share groups of this broker.
#[derive(Debug, Default)]
pub(crate) struct ShareGroups {
    groups: BTreeMap<Str, ShareGroup>,
    /// What groups have set for themselves.
    settings: BTreeMap<Str, ShareGroupSettings>,
    outputs: VecDeque<ShareGroupOutput>,
    writes: BTreeMap<u64, Write>,
    /// Keys of records that could not be written, by group: in the log they may be missing or out of date. They go out with the
    /// group's next write.
    unwritten: BTreeMap<Str, BTreeSet<Bytes>>,
    next: u64,
    /// When to look at which group; see [`ShareGroup::timer_us`].
    timers: BTreeSet<(u64, Str)>,
    /// Requests that wait for state of share partitions to be written.
    offsets: BTreeMap<Ticket, OffsetsUnderWay>,
    deletions: DeletionsUnderWay,
}

impl ShareGroups {
    /// Whether there is a share group of this name.
    pub fn contains(&self, group: &Str) -> bool {
        self.groups.contains_key(group)
    }

    /// The settings in force for a group.
    pub fn settings_of(&self, group: &Str, config: &ShareConfig) -> ShareGroupSettings {
        self.settings.get(group).copied().unwrap_or(config.group)
    }

    /// Replaces what a group has set for itself; `None` takes it away.
    pub fn set_settings(&mut self, group: &Str, settings: Option<ShareGroupSettings>) {
        match settings {
            Some(settings) => self.settings.insert(group.clone(), settings),
            None => self.settings.remove(group),
        };
    }

    fn respond(&mut self, to: ReplyTo, response: Response) {
        self.outputs
            .push_back(ShareGroupOutput::Respond { to, response });
    }

    fn write(&mut self, group: &Str, mut records: Vec<CoordinatorRecord>, then: Then) {
        if let Some(keys) = self.unwritten.remove(group) {
            let mut made_good = self.make_good(group, keys);
            made_good.append(&mut records);
            records = made_good;
        }
        self.next += 1;
        let write = Write {
            group: group.clone(),
            then,
            keys: records.iter().map(|record| record.key.clone()).collect(),
            answers: Vec::new(),
        };
        self.writes.insert(self.next, write);
        self.outputs.push_back(ShareGroupOutput::Append {
            group: group.clone(),
            records,
            token: ShareGroupToken(self.next),
        });
    }

    /// The records of these keys, as the group is now; tombstones for what there is no more.
    fn make_good(&self, group: &Str, mut keys: BTreeSet<Bytes>) -> Vec<CoordinatorRecord> {
        let group = self.groups.get(group);
        let mut made_good = group.map(records::whole).unwrap_or_default();
        made_good.retain(|record| keys.remove(&record.key));
        let gone = keys
            .into_iter()
            .map(|key| CoordinatorRecord { key, value: None });
        gone.chain(made_good).collect()
    }

    /// Answers once all that was written of the group so far is committed or has failed: at once, if nothing is under way.
    fn respond_after_writes(&mut self, group: &Str, to: ReplyTo, response: Response) {
        let last = self.writes.values_mut().rev().find(|w| w.group == *group);
        match last {
            Some(write) => write.answers.push((to, response)),
            None => self.respond(to, response),
        }
    }

    /// The append named `token` is committed (`Ok`), or will never be.
    pub fn handle_appended(&mut self, token: ShareGroupToken, result: Result<(), ErrorCode>) {
        let Some(write) = self.writes.remove(&token.0) else {
            return;
        };
        if result.is_err() {
            let unwritten = self.unwritten.entry(write.group).or_default();
            unwritten.extend(write.keys);
        }
        match write.then {
            Then::Nothing => {}
            Then::Respond(to, mut response) => {
                if let Err(error) = result {
                    fail(&mut response, membership_error(error));
                }
                self.respond(to, response);
            }
            Then::Deleted(number, group) => {
                self.deletion_written(number, &group, result.map_err(membership_error));
            }
        }
        for (to, mut response) in write.answers {
            if let Err(error) = result {
                fail(&mut response, membership_error(error));
            }
            self.respond(to, response);
        }
    }

    /// When [`ShareGroups::handle_timeout`] must be called, in monotonic microseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<ShareGroupOutput> {
        self.outputs.pop_front()
    }
}

/// Makes an answer one of an error: what it tells of could not be written.
fn fail(response: &mut Response, error: ErrorCode) {
    match response {
        Response::ShareGroupHeartbeat(r) => {
            r.error_code = error;
            r.assignment = None;
        }
        Response::AlterShareGroupOffsets(r) => {
            r.error_code = error;
            r.responses.clear();
        }
        Response::DeleteShareGroupOffsets(r) => {
            r.error_code = error;
            r.responses.clear();
        }
        _ => {}
    }
}
