//! One partition as its leader sees it: the log, the high watermark, and who waits for it to move.

use alloc::{boxed::Box, collections::VecDeque, string::String, vec::Vec};

use ottla_log::PartitionLog;
use ottla_protocol::{ErrorCode, Str};
use ottla_record::Now;

use crate::{
    group_commit::GroupCommit,
    groups::AppendToken,
    output::SyncId,
    purgatory::WaitId,
    share_groups::ShareGroupToken,
    share_partitions::StateToken,
    topics::TopicIndex,
    transactions::{TransactionToken, markers::MarkerId},
};

/// Dense number of a partition within one broker run; reused after a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PartitionIndex(pub(crate) u32);

/// Who waits for the high watermark to reach an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitWaiter {
    /// A produce with `acks=all` or `acks=1`, in the purgatory.
    Produce(WaitId),
    /// An append of the group coordinator.
    Group(AppendToken),
    /// An append of the coordinator of share groups.
    ShareGroup(ShareGroupToken),
    /// A record of a share partition's state.
    ShareState(StateToken),
    /// An append of the transaction coordinator.
    Transaction(TransactionToken),
    /// The marker of a transaction.
    Marker(MarkerId),
}

/// A sync under way.
#[derive(Debug)]
struct SyncInFlight {
    id: SyncId,
    up_to: i64,
    /// [`Partition::appended_bytes`] at `up_to`.
    bytes: u64,
    began_us: u64,
}

/// What moved when the high watermark did.
#[derive(Debug, Default)]
pub(crate) struct Advance {
    /// Bytes that became visible.
    pub(crate) bytes: u64,
    /// Bytes that became visible to `read_committed`, or more, if transactions are still open behind them.
    pub(crate) stable_bytes: u64,
}

/// A partition that this broker leads.
pub(crate) struct Partition {
    pub(crate) topic: TopicIndex,
    pub(crate) topic_name: Str,
    pub(crate) number: i32,
    pub(crate) log: PartitionLog,
    pub(crate) leader_epoch: i32,
    high_watermark: i64,
    /// Bytes appended since open; only differences mean something.
    appended_bytes: u64,
    /// The part of them below the high watermark.
    committed_bytes: u64,
    /// What that was when no transaction was open last.
    stable_bytes: u64,
    /// As it was last.
    last_stable_offset: i64,
    /// Transactions whose marker is appended and not committed: the marker's offset, and where the transaction begins.
    ended: VecDeque<(i64, i64)>,
    sync: Option<SyncInFlight>,
    /// When the next one is to begin.
    group_commit: GroupCommit,
    /// Whether it waits for its turn in `Broker::to_sync`.
    pub(crate) queued_for_sync: bool,
    /// Whether it is in `Broker::advanced`.
    pub(crate) queued_as_advanced: bool,
    /// Bytes that became visible since `Broker` last woke the waiters.
    pub(crate) advanced_bytes: u64,
    /// The same for `read_committed`.
    pub(crate) advanced_stable_bytes: u64,
    /// A write or sync failed: everything that touches this log gets `KAFKA_STORAGE_ERROR` until the broker is opened anew.
    failed: bool,
    commit_waiters: VecDeque<(i64, CommitWaiter)>,
    pub(crate) fetch_waiters: Vec<WaitId>,
    /// Segments when last looked at.
    segments: usize,
    /// With `flush.ms`: when the oldest record that is not synced was appended.
    pub(crate) unsynced_since_us: Option<u64>,
    /// The end of the log when it was opened.
    opened_at: i64,
    /// Bytes of records that consumers got.
    pub(crate) bytes_out: u64,
    /// Fetches that read it.
    pub(crate) fetches: u64,
    /// How often somebody came to append to it, also in vain.
    pub(crate) produce_requests: u64,
    /// How many of those failed in a way that Kafka counts.
    pub(crate) failed_produces: u64,
    /// It has a batch that compaction can't read.
    pub(crate) uncleanable: bool,
    /// What kept the last compaction from being done.
    pub(crate) cleaner_problem: Option<String>,
}

impl Partition {
    pub(crate) fn new(
        topic: TopicIndex,
        topic_name: Str,
        number: i32,
        log: PartitionLog,
        high_watermark: i64,
    ) -> Self {
        let mut partition = Self {
            // One broker leads for ever: an epoch that the log has seen stays, a new log begins with 0.
            leader_epoch: log.epochs().latest().unwrap_or(0),
            opened_at: log.log_end_offset(),
            topic,
            topic_name,
            number,
            log,
            high_watermark,
            appended_bytes: 0,
            committed_bytes: 0,
            stable_bytes: 0,
            last_stable_offset: -1,
            ended: VecDeque::new(),
            sync: None,
            group_commit: GroupCommit::default(),
            queued_for_sync: false,
            queued_as_advanced: false,
            advanced_bytes: 0,
            advanced_stable_bytes: 0,
            failed: false,
            commit_waiters: VecDeque::new(),
            fetch_waiters: Vec::new(),
            segments: 1,
            unsynced_since_us: None,
            bytes_out: 0,
            fetches: 0,
            produce_requests: 0,
            failed_produces: 0,
            uncleanable: false,
            cleaner_problem: None,
        };
        partition.last_stable_offset = partition.last_stable_offset();
        partition
    }

    /// Exclusive end of what is committed and may be seen by consumers.
    pub(crate) fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Exclusive end for `read_committed`: where the oldest transaction begins that is open, or whose marker is not committed.
    /// Never before the log's start, to which `DeleteRecords` may have moved it.
    pub(crate) fn last_stable_offset(&self) -> i64 {
        let undecided = self.log.first_undecided_offset().into_iter();
        let first = undecided.chain(self.ended.iter().map(|(_, first)| *first));
        let first = first.min().map(|f| f.max(self.log.log_start_offset()));
        first.map_or(self.high_watermark, |first| first.min(self.high_watermark))
    }

    /// A marker was appended that ended the transaction which began at `first`.
    pub(crate) fn transaction_ended(&mut self, marker: i64, first: i64) {
        self.ended.push_back((marker, first));
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.failed
    }

    /// `KAFKA_STORAGE_ERROR` once the log failed.
    pub(crate) fn check_usable(&self) -> Result<(), ErrorCode> {
        if self.failed {
            Err(ErrorCode::KAFKA_STORAGE_ERROR)
        } else {
            Ok(())
        }
    }

    /// The leader-epoch check of Fetch and ListOffsets: -1 skips it.
    pub(crate) fn check_leader_epoch(&self, current_leader_epoch: i32) -> Result<(), ErrorCode> {
        match current_leader_epoch {
            -1 => Ok(()),
            epoch if epoch < self.leader_epoch => Err(ErrorCode::FENCED_LEADER_EPOCH),
            epoch if epoch > self.leader_epoch => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
            _ => Ok(()),
        }
    }

    /// Records appended since it was opened.
    pub(crate) fn messages_in(&self) -> u64 {
        self.log
            .log_end_offset()
            .saturating_sub(self.opened_at)
            .max(0) as u64
    }

    /// Bytes appended since it was opened.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.appended_bytes
    }

    /// Counts an append of `bytes` bytes.
    pub(crate) fn count_appended(&mut self, bytes: usize) {
        self.appended_bytes += bytes as u64;
    }

    /// Whether a segment was begun since this was last asked.
    pub(crate) fn note_new_segment(&mut self) -> bool {
        let segments = self.log.segment_count();
        core::mem::replace(&mut self.segments, segments) < segments
    }

    /// Everything in the log is committed (`Durability::Os`).
    pub(crate) fn commit_all(&mut self) -> Advance {
        self.commit(self.log.log_end_offset(), self.appended_bytes)
    }

    /// Everything that is durable is committed.
    pub(crate) fn commit_synced(&mut self) -> Advance {
        self.commit(self.log.synced_offset(), self.appended_bytes)
    }

    fn commit(&mut self, up_to: i64, bytes: u64) -> Advance {
        if up_to <= self.high_watermark {
            return Advance::default();
        }
        self.high_watermark = up_to;
        let newly = bytes - self.committed_bytes;
        self.committed_bytes = bytes;
        while self.ended.front().is_some_and(|(at, _)| *at < up_to) {
            self.ended.pop_front();
        }
        let before = self.last_stable_offset;
        self.last_stable_offset = self.last_stable_offset();
        let moved = self.last_stable_offset > before;
        let stable_bytes = if moved { bytes - self.stable_bytes } else { 0 };
        if self.last_stable_offset == up_to {
            self.stable_bytes = bytes;
        }
        Advance {
            bytes: newly,
            stable_bytes,
        }
    }

    pub(crate) fn is_syncing(&self) -> bool {
        self.sync.is_some()
    }

    /// Whether a sync should wait for more to be appended; till when at most is [`Partition::sync_by_us`].
    pub(crate) fn sync_should_wait(&self, now: Now) -> bool {
        let waiting = self.commit_waiters.len();
        self.group_commit.should_wait(now.mono_us, waiting)
    }

    /// When a sync that waits has to begin, in monotonic microseconds. The same until it does.
    pub(crate) fn sync_by_us(&self) -> u64 {
        self.group_commit.until_us()
    }

    pub(crate) fn sync_started(&mut self, now: Now, id: SyncId, up_to: i64) {
        let waiting = self.commit_waiters.len();
        self.group_commit.note_begun(now.mono_us, waiting);
        self.sync = Some(SyncInFlight {
            id,
            up_to,
            bytes: self.appended_bytes,
            began_us: now.mono_us,
        });
    }

    /// The sync `id` succeeded; the log knows already. `None` if it isn't this partition's.
    pub(crate) fn sync_done(
        &mut self,
        now: Now,
        id: SyncId,
        commits: bool,
    ) -> Option<(i64, Advance)> {
        let sync = self.sync.take_if(|sync| sync.id == id)?;
        let took_us = now.mono_us.saturating_sub(sync.began_us);
        let waiting = self.commit_waiters.len();
        self.group_commit.note_synced(now.mono_us, took_us, waiting);
        let advance = if commits {
            self.commit(sync.up_to, sync.bytes)
        } else {
            Advance::default()
        };
        Some((sync.up_to, advance))
    }

    /// The sync `id` could not be begun; the log has its job for the next one.
    pub(crate) fn sync_put_off(&mut self, id: SyncId) {
        self.sync.take_if(|sync| sync.id == id);
    }

    /// The log can't be trusted any more.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
        self.sync = None;
    }

    /// Parks `waiter` until the high watermark is at least `end`. Ends come in ascending order, as appends do.
    pub(crate) fn wait_for_commit(&mut self, end: i64, waiter: CommitWaiter) {
        self.commit_waiters.push_back((end, waiter));
    }

    /// The next waiter whose offset is committed.
    pub(crate) fn next_committed(&mut self) -> Option<CommitWaiter> {
        let (end, waiter) = *self.commit_waiters.front()?;
        if end > self.high_watermark {
            return None;
        }
        self.commit_waiters.pop_front();
        Some(waiter)
    }

    /// The next waiter, whatever it waits for: the partition failed or is deleted.
    pub(crate) fn next_abandoned(&mut self) -> Option<CommitWaiter> {
        self.commit_waiters.pop_front().map(|(_, waiter)| waiter)
    }

    pub(crate) fn has_commit_waiters(&self) -> bool {
        !self.commit_waiters.is_empty()
    }
}

/// All partitions by their dense number. Some may be lent for a while ([`crate::ProduceJob`]): they aren't here then, and nothing that
/// asks for any partition may go on until they are back.
#[derive(Default)]
pub(crate) struct Partitions {
    slots: Vec<Slot>,
    free: Vec<PartitionIndex>,
    lent: usize,
}

#[derive(Default)]
enum Slot {
    #[default]
    Free,
    // A pointer, so that lending it moves no more than that.
    Here(Box<Partition>),
    Lent,
}

impl Slot {
    fn here(&self) -> Option<&Partition> {
        match self {
            Self::Here(partition) => Some(partition),
            Self::Free | Self::Lent => None,
        }
    }

    fn here_mut(&mut self) -> Option<&mut Partition> {
        match self {
            Self::Here(partition) => Some(partition),
            Self::Free | Self::Lent => None,
        }
    }
}

impl Partitions {
    pub(crate) fn insert(&mut self, partition: Partition) -> PartitionIndex {
        let here = Slot::Here(Box::new(partition));
        match self.free.pop() {
            Some(index) => {
                self.slots[index.0 as usize] = here;
                index
            }
            None => {
                self.slots.push(here);
                PartitionIndex(self.slots.len() as u32 - 1)
            }
        }
    }

    pub(crate) fn remove(&mut self, index: PartitionIndex) -> Option<Box<Partition>> {
        match core::mem::take(self.slots.get_mut(index.0 as usize)?) {
            Slot::Here(partition) => {
                self.free.push(index);
                Some(partition)
            }
            slot => {
                self.slots[index.0 as usize] = slot;
                None
            }
        }
    }

    /// Lends a partition. `None` if there is no such one, or it is lent already.
    pub(crate) fn lend(&mut self, index: PartitionIndex) -> Option<Box<Partition>> {
        let slot = self.slots.get_mut(index.0 as usize)?;
        match core::mem::replace(slot, Slot::Lent) {
            Slot::Here(partition) => {
                self.lent += 1;
                Some(partition)
            }
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Takes a partition back that was lent.
    pub(crate) fn give_back(&mut self, index: PartitionIndex, partition: Box<Partition>) {
        let slot = &mut self.slots[index.0 as usize];
        assert!(matches!(slot, Slot::Lent), "it was not lent");
        *slot = Slot::Here(partition);
        self.lent -= 1;
    }

    /// Whether some are lent.
    pub(crate) fn any_lent(&self) -> bool {
        self.lent > 0
    }

    pub(crate) fn get(&self, index: PartitionIndex) -> Option<&Partition> {
        self.slots.get(index.0 as usize)?.here()
    }

    pub(crate) fn get_mut(&mut self, index: PartitionIndex) -> Option<&mut Partition> {
        self.slots.get_mut(index.0 as usize)?.here_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PartitionIndex, &Partition)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(i, slot)| Some((PartitionIndex(i as u32), slot.here()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (PartitionIndex, &mut Partition)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(i, slot)| Some((PartitionIndex(i as u32), slot.here_mut()?)))
    }
}
