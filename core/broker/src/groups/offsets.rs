//! The committed offsets of one group.

use alloc::{collections::BTreeMap, vec::Vec};
use ottla_protocol::Str;

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
    /// When it expires, if the commit itself said so (`OffsetCommit` v2–4 with a retention time).
    pub expire_timestamp: Option<i64>,
}

/// Committed offsets, and which partitions have writes under way.
///
/// An offset is in here only once its record is committed. Writes under way are counted, because a decision to delete
/// must know of them: their records lie before its tombstones in the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<Str, BTreeMap<i32, CommittedOffset>>,
    under_way: BTreeMap<Str, BTreeMap<i32, u32>>,
}

impl Offsets {
    /// Neither an offset nor a write under way.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.under_way.is_empty()
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.topics.get(topic.as_bytes())?.get(&partition)
    }

    /// By topic, then by partition.
    pub fn iter(&self) -> impl Iterator<Item = (&Str, &BTreeMap<i32, CommittedOffset>)> {
        self.topics.iter()
    }

    pub fn set(&mut self, topic: &Str, partition: i32, offset: CommittedOffset) {
        self.topics
            .entry(topic.clone())
            .or_default()
            .insert(partition, offset);
    }

    pub fn remove(&mut self, topic: &Str, partition: i32) {
        if let Some(partitions) = self.topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    pub fn write_begins(&mut self, topic: &Str, partition: i32) {
        *self
            .under_way
            .entry(topic.clone())
            .or_default()
            .entry(partition)
            .or_default() += 1;
    }

    pub fn write_ends(&mut self, topic: &Str, partition: i32) {
        let Some(partitions) = self.under_way.get_mut(topic) else {
            return;
        };
        if let Some(count) = partitions.get_mut(&partition) {
            *count -= 1;
            if *count == 0 {
                partitions.remove(&partition);
            }
        }
        if partitions.is_empty() {
            self.under_way.remove(topic);
        }
    }

    pub fn has_writes_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    pub fn is_under_way(&self, topic: &str, partition: i32) -> bool {
        self.under_way
            .get(topic.as_bytes())
            .is_some_and(|p| p.contains_key(&partition))
    }

    /// Every partition with an offset or a write under way.
    pub fn keys(&self) -> Vec<(Str, i32)> {
        let committed = self
            .topics
            .iter()
            .flat_map(|(t, p)| p.keys().map(move |p| (t, *p)));
        let under_way = self
            .under_way
            .iter()
            .flat_map(|(t, p)| p.keys().map(move |p| (t, *p)));
        let mut keys: Vec<_> = committed
            .chain(under_way)
            .map(|(t, p)| (t.clone(), p))
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// The keys of one topic.
    pub fn keys_of(&self, topic: &Str) -> Vec<(Str, i32)> {
        let committed = self.topics.get(topic).into_iter().flat_map(|p| p.keys());
        let under_way = self.under_way.get(topic).into_iter().flat_map(|p| p.keys());
        let mut partitions: Vec<i32> = committed.chain(under_way).copied().collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions.into_iter().map(|p| (topic.clone(), p)).collect()
    }
}
