//! The committed offsets of one group.

use alloc::{collections::BTreeMap, vec::Vec};
use ottla_protocol::{Str, Uuid};

/// What a group committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset the group will read.
    pub offset: i64,
    /// Leader epoch of the record before it; -1 if the client did not say.
    pub leader_epoch: i32,
    /// Free text of the client.
    pub metadata: Str,
    /// Wall clock of the commit, milliseconds.
    pub commit_timestamp: i64,
    /// Id of the topic that it is of; [`Uuid::ZERO`] where that is not known: commits of transactions, and of before Kafka 4.1.
    pub topic_id: Uuid,
    /// When it expires, if the commit itself said so (`OffsetCommit` v2–4 with a retention time).
    pub expire_timestamp: Option<i64>,
}

impl CommittedOffset {
    /// Whether it is of the topic with this id, as far as is known: a topic of the same name may have been made anew.
    pub fn is_of(&self, topic_id: Uuid) -> bool {
        self.topic_id == topic_id || self.topic_id == Uuid::ZERO || topic_id == Uuid::ZERO
    }
}

/// Committed offsets, and which partitions have writes under way.
///
/// An offset is in here only once its record is committed. Writes under way are counted, because a decision to delete
/// must know of them: their records lie before its tombstones in the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<Str, BTreeMap<i32, CommittedOffset>>,
    under_way: Counts,
    /// Those of them that are part of a transaction.
    transactional_under_way: Counts,
    /// Offsets of open transactions, by producer id.
    pending: BTreeMap<i64, BTreeMap<(Str, i32), PendingOffset>>,
    /// Numbers pending offsets in the order of the log.
    next_pending: u64,
}

/// What an open transaction will commit.
#[derive(Clone, Debug)]
struct PendingOffset {
    offset: CommittedOffset,
    number: u64,
    /// A later record of the log has been committed before the transaction was: that one counts.
    is_overtaken: bool,
}

/// Writes under way, by topic and partition.
#[derive(Clone, Debug, Default)]
struct Counts(BTreeMap<Str, BTreeMap<i32, u32>>);

impl Counts {
    fn begin(&mut self, topic: &Str, partition: i32) {
        let partitions = self.0.entry(topic.clone()).or_default();
        *partitions.entry(partition).or_default() += 1;
    }

    fn end(&mut self, topic: &Str, partition: i32) {
        let Some(partitions) = self.0.get_mut(topic) else {
            return;
        };
        if let Some(count) = partitions.get_mut(&partition) {
            *count -= 1;
            if *count == 0 {
                partitions.remove(&partition);
            }
        }
        if partitions.is_empty() {
            self.0.remove(topic);
        }
    }

    fn contains(&self, topic: &str, partition: i32) -> bool {
        self.0
            .get(topic.as_bytes())
            .is_some_and(|p| p.contains_key(&partition))
    }
}

impl Offsets {
    /// Neither an offset, nor one of an open transaction, nor a write under way.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.under_way.0.is_empty() && self.pending.is_empty()
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.topics.get(topic.as_bytes())?.get(&partition)
    }

    /// By topic, then by partition.
    pub fn iter(&self) -> impl Iterator<Item = (&Str, &BTreeMap<i32, CommittedOffset>)> {
        self.topics.iter()
    }

    pub fn set(&mut self, topic: &Str, partition: i32, offset: CommittedOffset) {
        self.overtake(topic, partition, u64::MAX);
        self.topics
            .entry(topic.clone())
            .or_default()
            .insert(partition, offset);
    }

    /// A tombstone: what open transactions hold for the partition goes too, as in Kafka.
    pub fn remove(&mut self, topic: &Str, partition: i32) {
        if !self.pending.is_empty() {
            let key = (topic.clone(), partition);
            self.pending.retain(|_, offsets| {
                offsets.remove(&key);
                !offsets.is_empty()
            });
        }
        if let Some(partitions) = self.topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    pub fn write_begins(&mut self, topic: &Str, partition: i32) {
        self.under_way.begin(topic, partition);
    }

    pub fn write_ends(&mut self, topic: &Str, partition: i32) {
        self.under_way.end(topic, partition);
    }

    pub fn has_writes_under_way(&self) -> bool {
        !self.under_way.0.is_empty()
    }

    pub fn is_under_way(&self, topic: &str, partition: i32) -> bool {
        self.under_way.contains(topic, partition)
    }

    pub fn transactional_write_begins(&mut self, topic: &Str, partition: i32) {
        self.under_way.begin(topic, partition);
        self.transactional_under_way.begin(topic, partition);
    }

    pub fn transactional_write_ends(&mut self, topic: &Str, partition: i32) {
        self.under_way.end(topic, partition);
        self.transactional_under_way.end(topic, partition);
    }

    /// An offset of an open transaction is in the log.
    pub fn add_pending(
        &mut self,
        producer_id: i64,
        topic: &Str,
        partition: i32,
        offset: CommittedOffset,
    ) {
        self.next_pending += 1;
        let pending = PendingOffset {
            offset,
            number: self.next_pending,
            is_overtaken: false,
        };
        let offsets = self.pending.entry(producer_id).or_default();
        offsets.insert((topic.clone(), partition), pending);
    }

    /// The producer's transaction is over. Of two records for a partition the later one counts, whatever the order in which
    /// they are committed.
    pub fn complete(&mut self, producer_id: i64, committed: bool) {
        let offsets = self.pending.remove(&producer_id).unwrap_or_default();
        for ((topic, partition), pending) in offsets {
            if committed && !pending.is_overtaken {
                self.overtake(&topic, partition, pending.number);
                let partitions = self.topics.entry(topic).or_default();
                partitions.insert(partition, pending.offset);
            }
        }
    }

    /// A record that lies behind the pending ones up to `number` is committed.
    fn overtake(&mut self, topic: &Str, partition: i32, number: u64) {
        if self.pending.is_empty() {
            return;
        }
        let key = (topic.clone(), partition);
        for offsets in self.pending.values_mut() {
            if let Some(pending) = offsets.get_mut(&key)
                && pending.number < number
            {
                pending.is_overtaken = true;
            }
        }
    }

    /// Takes over what the open transactions of another hold.
    pub fn adopt_pending(&mut self, other: &mut Self) {
        for (producer_id, offsets) in core::mem::take(&mut other.pending) {
            for ((topic, partition), pending) in offsets {
                if !pending.is_overtaken {
                    self.add_pending(producer_id, &topic, partition, pending.offset);
                }
            }
        }
    }

    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The producers whose open transactions hold offsets here.
    pub fn pending_producers(&self) -> impl Iterator<Item = i64> {
        self.pending.keys().copied()
    }

    /// Whether an open transaction holds an offset for the partition.
    pub fn is_pending(&self, topic: &str, partition: i32) -> bool {
        let mut keys = self.pending.values().flat_map(|offsets| offsets.keys());
        keys.any(|(t, p)| &**t == topic && *p == partition)
    }

    /// Whether the offset for the partition may change without a commit.
    pub fn is_unstable(&self, topic: &str, partition: i32) -> bool {
        self.transactional_under_way.contains(topic, partition) || self.is_pending(topic, partition)
    }

    /// Every partition with an offset, one of an open transaction, or a write under way.
    pub fn keys(&self) -> Vec<(Str, i32)> {
        let committed = self
            .topics
            .iter()
            .flat_map(|(t, p)| p.keys().map(move |p| (t, *p)));
        let under_way = self
            .under_way
            .0
            .iter()
            .flat_map(|(t, p)| p.keys().map(move |p| (t, *p)));
        let pending = self.pending.values().flat_map(|offsets| offsets.keys());
        let mut keys: Vec<_> = committed
            .chain(under_way)
            .chain(pending.map(|(t, p)| (t, *p)))
            .map(|(t, p)| (t.clone(), p))
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// The keys of one topic.
    pub fn keys_of(&self, topic: &Str) -> Vec<(Str, i32)> {
        let committed = self.topics.get(topic).into_iter().flat_map(|p| p.keys());
        let under_way = self.under_way.0.get(topic);
        let under_way = under_way.into_iter().flat_map(|p| p.keys());
        let pending = self.pending.values().flat_map(|offsets| offsets.keys());
        let pending = pending.filter(|(t, _)| t == topic).map(|(_, p)| p);
        let mut partitions: Vec<i32> = committed.chain(under_way).chain(pending).copied().collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions.into_iter().map(|p| (topic.clone(), p)).collect()
    }
}
