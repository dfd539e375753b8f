//! What the flows put out: answers, and writes with what follows from their commit.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    format,
    string::String,
    vec::Vec,
};
use bytes::Bytes;
use ottla_protocol::{ErrorCode, Response, Str, Uuid, messages::join_group::JoinGroupResponse};

use super::{
    AppendToken, ConsumerGroupSettings, CoordinatorRecord, GroupConfig, GroupOutput, group::Group,
    offsets::CommittedOffset,
};
use crate::{context::ReplyTo, random::Random};

/// What to do once a write is committed, or has failed.
#[derive(Debug)]
pub(super) enum AfterCommit {
    /// Hand out the assignment that the leader sent in this generation.
    Assign {
        generation: i32,
        assignments: BTreeMap<Str, Bytes>,
    },
    /// Answer the static member that took over from an earlier one; the member id is the new one.
    AnswerReplacement {
        reply: ReplyTo,
        response: JoinGroupResponse,
    },
    /// Make the offsets readable and answer the `OffsetCommit`.
    CommitOffsets {
        offsets: Vec<(Str, i32, CommittedOffset)>,
        answer: super::commit::CommitAnswer,
    },
    /// Keep the offsets until the transaction is over, and answer the `TxnOffsetCommit`.
    CommitTransactional {
        producer_id: i64,
        offsets: Vec<(Str, i32, CommittedOffset)>,
        answer: super::txn_commit::TxnCommitAnswer,
    },
    /// Forget the offsets.
    DeleteOffsets {
        keys: Vec<(Str, i32)>,
        answer: Option<super::deletion::OffsetDeleteAnswer>,
    },
    /// The group is gone; it comes back if its tombstones can't be written. With the `DeleteGroups` that asked for it,
    /// if one did.
    DeleteGroup { request: Option<u64> },
    /// Records of a consumer group. They are out of date again if they can't be written, and the requests get the error.
    Consumer {
        keys: BTreeSet<super::consumer::records::RecordKey>,
    },
    /// Nothing more: the group became empty, which memory knows already.
    Nothing,
}

/// A write under way.
#[derive(Debug)]
pub(super) struct Write {
    pub group: Str,
    /// Of the group when it was decided; a later group of the same name is not meant.
    pub incarnation: u64,
    pub then: AfterCommit,
    /// Answers that tell of what was written (whatever becomes of it, except for a consumer group's).
    pub answers: Vec<(ReplyTo, Response)>,
}

/// What the flows know of the world and put out: outputs in order, and the writes under way.
#[derive(Debug)]
pub(super) struct Outbox {
    pub config: GroupConfig,
    /// What consumer groups have set for themselves.
    pub settings: BTreeMap<Str, ConsumerGroupSettings>,
    pub topics: super::consumer::topics::Topics,
    outputs: VecDeque<GroupOutput>,
    writes: BTreeMap<u64, Write>,
    next_token: u64,
    random: Random,
}

impl Outbox {
    pub fn new(config: GroupConfig, seed: u64) -> Self {
        Self {
            config,
            settings: BTreeMap::new(),
            topics: super::consumer::topics::Topics::default(),
            outputs: VecDeque::new(),
            writes: BTreeMap::new(),
            next_token: 0,
            random: Random::new(seed),
        }
    }

    /// After which silence a member of the consumer group is gone, in milliseconds.
    pub fn session_timeout_ms(&self, group: &Str) -> i32 {
        let own = self.settings.get(group).and_then(|s| s.session_timeout_ms);
        own.unwrap_or(self.config.consumer.session_timeout_ms)
    }

    /// How often members of the consumer group are to be heard of, in milliseconds.
    pub fn heartbeat_interval_ms(&self, group: &Str) -> i32 {
        let own = self.settings.get(group);
        own.and_then(|s| s.heartbeat_interval_ms)
            .unwrap_or(self.config.consumer.heartbeat_interval_ms)
    }

    pub fn respond(&mut self, to: ReplyTo, response: Response) {
        self.outputs
            .push_back(GroupOutput::Respond { to, response });
    }

    /// Writes records of a group; `then` follows from their commit.
    pub fn write(&mut self, group: &mut Group, records: Vec<CoordinatorRecord>, then: AfterCommit) {
        let (id, incarnation) = (group.id.clone(), group.incarnation);
        self.write_for(id, incarnation, records, then);
    }

    /// Writes records as part of the transaction of a producer, given by its id and epoch.
    pub fn write_transactional(
        &mut self,
        group: &mut Group,
        records: Vec<CoordinatorRecord>,
        producer: (i64, i16),
        then: AfterCommit,
    ) {
        let (id, incarnation) = (group.id.clone(), group.incarnation);
        self.put_out(id, incarnation, records, Some(producer), then);
    }

    pub fn write_for(
        &mut self,
        group: Str,
        incarnation: u64,
        records: Vec<CoordinatorRecord>,
        then: AfterCommit,
    ) {
        self.put_out(group, incarnation, records, None, then);
    }

    fn put_out(
        &mut self,
        group: Str,
        incarnation: u64,
        records: Vec<CoordinatorRecord>,
        producer: Option<(i64, i16)>,
        then: AfterCommit,
    ) {
        let token = self.next_token;
        self.next_token += 1;
        let partition = partition_of(&group, self.config.partitions);
        self.writes.insert(
            token,
            Write {
                group,
                incarnation,
                then,
                answers: Vec::new(),
            },
        );
        self.outputs.push_back(GroupOutput::Append {
            partition,
            records,
            producer,
            token: AppendToken(token),
        });
    }

    /// Marks a point in time for [`Outbox::respond_after_writes`].
    pub fn mark(&self) -> u64 {
        self.next_token
    }

    /// Answers once what was written since `mark` is committed or has failed: at once, if nothing was.
    pub fn respond_after_writes(&mut self, mark: u64, to: ReplyTo, response: Response) {
        match self.writes.range_mut(mark..).next_back() {
            Some((_, write)) => write.answers.push((to, response)),
            None => self.respond(to, response),
        }
    }

    /// Answers once the write `token` is committed or has failed: at once, if it is.
    pub fn respond_after_write(&mut self, token: u64, to: ReplyTo, response: Response) {
        match self.writes.get_mut(&token) {
            Some(write) => write.answers.push((to, response)),
            None => self.respond(to, response),
        }
    }

    pub fn take_write(&mut self, token: AppendToken) -> Option<Write> {
        self.writes.remove(&token.0)
    }

    pub fn next_output(&mut self) -> Option<GroupOutput> {
        self.outputs.pop_front()
    }

    /// A new member id: `<client or instance id>-<uuid>`.
    pub fn new_member_id(&mut self, prefix: &str) -> Str {
        let uuid = uuid_text(self.random.next_u128());
        Str::from(format!("{prefix}-{uuid}"))
    }

    /// A new member id of a consumer group: Kafka's base64 form of a UUID.
    pub fn new_uuid(&mut self) -> Str {
        Str::from(format!("{}", Uuid::from_random(self.random.next_u128())))
    }
}

/// The text form of a version-4 UUID of these random bits.
fn uuid_text(b: u128) -> String {
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        (b >> 96) as u32,
        (b >> 80) as u16,
        (b >> 64) as u16 & 0x0fff,
        ((b >> 48) as u16 & 0x3fff) | 0x8000,
        b & 0xffff_ffff_ffff,
    )
}

/// The partition of `__consumer_offsets` that holds a group: `abs(hash) mod partitions`, with Java's string hash.
pub(crate) fn partition_of(group: &str, partitions: i32) -> i32 {
    let hash = group.encode_utf16().fold(0i32, |h, unit| {
        h.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Java's Utils.abs: the one number without a positive counterpart counts as 0.
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

/// What a member is told when the record of its request could not be written.
pub(crate) fn membership_error(append: ErrorCode) -> ErrorCode {
    match append {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::REQUEST_TIMED_OUT => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::KAFKA_STORAGE_ERROR => {
            ErrorCode::NOT_COORDINATOR
        }
        ErrorCode::RECORD_LIST_TOO_LARGE
        | ErrorCode::MESSAGE_TOO_LARGE
        | ErrorCode::INVALID_FETCH_SIZE => ErrorCode::UNKNOWN_SERVER_ERROR,
        other => other,
    }
}

/// What an `OffsetCommit` is told when its records could not be written.
pub(super) fn commit_error(append: ErrorCode) -> ErrorCode {
    match append {
        ErrorCode::RECORD_LIST_TOO_LARGE
        | ErrorCode::MESSAGE_TOO_LARGE
        | ErrorCode::INVALID_FETCH_SIZE => ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
        other => membership_error(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_as_java_computes_it() {
        // "abc".hashCode() == 96354, "polygenelubricants".hashCode() == Integer.MIN_VALUE.
        assert_eq!(partition_of("abc", 50), 96354 % 50);
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        assert_eq!(partition_of("", 50), 0);
        // A character outside the basic plane counts as its two UTF-16 units: 0xd83d * 31 + 0xde00.
        assert_eq!(partition_of("😀", 1000), (0xd83d * 31 + 0xde00) % 1000);
    }
}
