//! The machine's side of one assigned partition.

use super::ConsumedPartition;
use super::assignors::TopicPartition;
use super::fetched::Fetched;
use super::machine::Consumed;
use super::offset::{self, Start};
use crate::error::{ErrCode, KafkaError};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use ottla_protocol::Str;

/// What a partition does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its committed offset has to be asked for.
    NeedsCommitted,
    /// The log has to be asked for this offset.
    NeedsOffset(Start),
    /// The question for its committed offset is under way.
    Asking,
    /// It is fetched from `fetch_offset` on.
    Fetching,
    /// It isn't fetched until the application says where: its offset is out of range and there is no reset.
    Stuck,
}

/// Something in a partition's queue.
#[derive(Debug)]
// As with `Consumed`.
#[allow(clippy::large_enum_variant)]
pub(super) enum Queued {
    Records(Fetched),
    Eof(i64),
    Error(i64, KafkaError),
}

/// One assigned partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) shared: Arc<ConsumedPartition>,
    pub(super) phase: Phase,
    /// Counts the partition's starts: an answer to a question of before doesn't count.
    pub(super) start_number: u32,
    pub(super) fetch_offset: i64,
    pub(super) paused: bool,
    /// Its records go to a queue of its own, and don't count for the common one.
    pub(super) forwarded: bool,
    pub(super) queue: VecDeque<Queued>,
    pub(super) queued_records: usize,
    pub(super) queued_bytes: usize,
    /// The watermarks of the last answer; [`offset::INVALID`] before the first.
    pub(super) low: i64,
    pub(super) high: i64,
    /// The end that the application was told of.
    pub(super) eof_at: Option<i64>,
    /// The offset that the group has as committed.
    pub(super) committed: i64,
    pub(super) stored_metadata: Option<Str>,
    /// Not to be asked about or fetched before.
    pub(super) not_before: u64,
    /// `not_before` is there because it has no leader: it counts no longer when there is one.
    pub(super) leaderless: bool,
    /// It hasn't been in a fetch since it was started.
    pub(super) fresh: bool,
    /// The leader epoch of the committed offset that it started from; -1 if unknown.
    pub(super) last_epoch: i32,
    /// A question for `Phase::NeedsOffset` is under way.
    pub(super) asked: bool,
    /// It started so many records before the end, and wasn't fetched since.
    pub(super) tail_start: bool,
    /// The first offset that was fetched since it was started: where it begins again if the application took nothing.
    pub(super) first_offset: i64,
    /// What the application was last told of the partition's existence.
    pub(super) cluster_error: ErrCode,
    /// The version with which it is in a fetch under way.
    pub(super) in_fetch: Option<u32>,
    /// Records that were taken out of the queue, and bytes of their batches.
    pub(super) rx: (u64, u64),
}

impl Partition {
    pub(super) fn new(key: &TopicPartition, auto_store: bool) -> Self {
        Self {
            shared: Arc::new(ConsumedPartition::new(key.0.clone(), key.1, auto_store)),
            phase: Phase::Stuck,
            start_number: 0,
            fetch_offset: 0,
            paused: false,
            forwarded: false,
            queue: VecDeque::new(),
            queued_records: 0,
            queued_bytes: 0,
            low: offset::INVALID,
            high: offset::INVALID,
            eof_at: None,
            committed: offset::INVALID,
            stored_metadata: None,
            not_before: 0,
            leaderless: false,
            fresh: true,
            last_epoch: -1,
            asked: false,
            tail_start: false,
            in_fetch: None,
            rx: (0, 0),
            first_offset: offset::INVALID,
            cluster_error: ErrCode::NO_ERROR,
        }
    }

    /// Starts, or starts anew, at `start`. What was fetched before is of no use any more; the caller drops the queue.
    pub(super) fn start(&mut self, start: Start, has_group: bool, reset: Start) {
        self.shared.outdate();
        self.start_number = self.start_number.wrapping_add(1);
        self.eof_at = None;
        self.not_before = 0;
        self.leaderless = false;
        self.fresh = true;
        self.last_epoch = -1;
        self.asked = false;
        self.first_offset = offset::INVALID;
        self.tail_start = false;
        self.phase = match start {
            Start::At(offset) => {
                self.fetch_offset = offset;
                Phase::Fetching
            }
            Start::Stored if has_group => Phase::NeedsCommitted,
            Start::Stored => Phase::NeedsOffset(reset),
            other => Phase::NeedsOffset(other),
        };
    }

    /// Empties the queue, in which everything is outdated.
    pub(super) fn drop_queue(&mut self, queued_records: &mut usize, queued_bytes: &mut usize) {
        if !self.forwarded {
            *queued_records -= self.queued_records;
            *queued_bytes -= self.queued_bytes;
        }
        (self.queued_records, self.queued_bytes) = (0, 0);
        // An error is news even when what it was about no longer matters.
        self.queue
            .retain(|queued| matches!(queued, Queued::Error(..)));
    }

    /// Takes the head of the queue.
    pub(super) fn take(
        &mut self,
        queued_records: &mut usize,
        queued_bytes: &mut usize,
    ) -> Option<Consumed> {
        let partition = || (self.shared.topic().clone(), self.shared.partition());
        Some(match self.queue.pop_front()? {
            Queued::Records(fetched) => {
                self.queued_records -= fetched.record_count();
                self.queued_bytes -= fetched.size_in_bytes();
                self.rx.0 += fetched.record_count() as u64;
                self.rx.1 += fetched.size_in_bytes() as u64;
                if !self.forwarded {
                    *queued_records -= fetched.record_count();
                    *queued_bytes -= fetched.size_in_bytes();
                }
                Consumed::Records(fetched)
            }
            Queued::Eof(offset) => Consumed::Eof {
                partition: partition(),
                offset,
            },
            Queued::Error(offset, error) => Consumed::Error {
                partition: Some(partition()),
                offset,
                error,
            },
        })
    }

    /// Whether there may be records to fetch right now.
    pub(super) fn is_behind(&self) -> bool {
        self.fresh || self.fetch_offset < self.high
    }

    /// When it wants to be looked at again.
    pub(super) fn due(&self) -> Option<u64> {
        let waits = matches!(
            self.phase,
            Phase::NeedsCommitted | Phase::NeedsOffset(_) | Phase::Fetching
        );
        (waits && !self.paused && !self.asked && self.not_before > 0).then_some(self.not_before)
    }
}
