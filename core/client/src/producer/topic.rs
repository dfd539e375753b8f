//! A topic that is produced to: its partitions, the choice among them, and the records that came before its metadata.

use super::delivery::Sides;
use super::partition::{Batch, Entry, OpenBatch, Partition};
use super::partitioner::{BoxedPartitioner, Choice, PartitionerKind};
use crate::config::TopicConfig;
use crate::error::KafkaError;
use crate::random::Random;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use ottla_protocol::Str;
use ottla_record::{BatchBuilder, Compression, Now, RecordError};

/// Room for the first records of a topic that isn't known yet.
const STAGING_ROOM: usize = 4096;
/// A batch of staged records is closed at this size.
const STAGING_LIMIT: usize = 1 << 20;

/// What is known of a topic.
#[derive(Debug)]
pub(super) enum Existence {
    /// No broker has told its partitions yet.
    Unknown,
    /// It has partitions.
    Known,
    /// It does not exist, or is out of reach: what produce() and the reports answer.
    Missing(KafkaError),
}

/// One topic.
pub(super) struct Topic {
    pub(super) name: Str,
    pub(super) config: TopicConfig,
    pub(super) compression: Compression,
    /// The application's partitioner, in place of the configured one.
    pub(super) custom: Option<BoxedPartitioner>,
    pub(super) existence: Existence,
    /// Since when brokers have said that there is no such topic, or since when it was first wanted.
    pub(super) missing_since: u64,
    pub(super) partitions: Vec<Partition>,
    /// Partitions that have a leader.
    pub(super) available: Vec<i32>,
    pub(super) staged: VecDeque<Staged>,
    sticky: i32,
    sticky_until: u64,
    sticky_bytes: usize,
}

/// Records of a topic whose partitions aren't known yet.
pub(super) struct Staged {
    pub(super) batch: OpenBatch,
    /// The partition of each as the application gave it: -1 leaves it to the partitioner.
    pub(super) partitions: Vec<i32>,
}

/// What the choice of a partition depends on besides the topic and the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stickiness {
    /// `sticky.partitioning.linger.ms` in microseconds.
    pub(super) linger_us: u64,
    /// `batch.size`, after which `uniform_sticky` moves on.
    pub(super) batch_size: usize,
}

impl Topic {
    pub(super) fn new(
        name: Str,
        config: TopicConfig,
        compression: Compression,
        custom: Option<BoxedPartitioner>,
        now: Now,
    ) -> Self {
        Self {
            name,
            config,
            compression,
            custom,
            existence: Existence::Unknown,
            missing_since: now.mono_us,
            partitions: Vec::new(),
            available: Vec::new(),
            staged: VecDeque::new(),
            sticky: -1,
            sticky_until: 0,
            sticky_bytes: 0,
        }
    }

    /// `message.timeout.ms` in microseconds; for ever if 0.
    pub(super) fn timeout_us(&self) -> u64 {
        match self.config.message_timeout_ms {
            0 => u64::MAX,
            ms => u64::from(ms) * 1000,
        }
    }

    /// The partition for a record that has none; there is at least one. The application's partitioner may give any number.
    #[inline]
    pub(super) fn choose(
        &mut self,
        entry: &Entry<'_>,
        now: Now,
        stickiness: Stickiness,
        random: &mut Random,
    ) -> i32 {
        let count = self.partitions.len() as u32;
        let key = entry.key;
        let choice = match &mut self.custom {
            None => self.config.partitioner.choose(key),
            Some(_) if key.is_none() && stickiness.linger_us > 0 => Choice::Sticky,
            Some(custom) => {
                return custom.partition(&self.name, key, count as i32, entry.side.opaque);
            }
        };
        match choice {
            Choice::Hash(hash) => (hash % count) as i32,
            Choice::Sticky if self.config.partitioner == PartitionerKind::UniformSticky => {
                if self.sticky_bytes >= stickiness.batch_size || !self.is_available(self.sticky) {
                    self.sticky = self.any(random);
                    self.sticky_bytes = 0;
                }
                self.sticky_bytes += entry.bytes();
                self.sticky
            }
            Choice::Sticky if stickiness.linger_us > 0 => {
                if now.mono_us >= self.sticky_until || !self.is_available(self.sticky) {
                    self.sticky = self.any(random);
                    self.sticky_until = now.mono_us + stickiness.linger_us;
                }
                self.sticky
            }
            Choice::Sticky | Choice::Any => self.any(random),
        }
    }

    #[inline]
    fn is_available(&self, partition: i32) -> bool {
        let partition = self.partitions.get(partition as usize);
        partition.is_some_and(|p| p.leader >= 0)
    }

    /// Any partition, one with a leader if there is one.
    fn any(&self, random: &mut Random) -> i32 {
        match self.available.len() as u32 {
            0 => random.below(self.partitions.len() as u32) as i32,
            count => self.available[random.below(count) as usize],
        }
    }

    /// Keeps a record until the topic's partitions are known. Batches get ids from `next_id`.
    pub(super) fn stage(
        &mut self,
        partition: i32,
        entry: &Entry<'_>,
        until_us: u64,
        next_id: &mut u64,
    ) -> Result<(), RecordError> {
        let full = |s: &Staged| {
            entry.created_us >= s.batch.until_us || s.batch.builder.len() >= STAGING_LIMIT
        };
        if self.staged.back().is_none_or(full) {
            *next_id += 1;
            let builder = BatchBuilder::new(STAGING_ROOM).without_running_crc();
            let batch = OpenBatch::new(
                *next_id,
                builder,
                Sides::default(),
                entry.created_us,
                until_us,
            );
            self.staged.push_back(Staged {
                batch,
                partitions: Vec::new(),
            });
        }
        if let Some(staged) = self.staged.back_mut() {
            staged.batch.append(entry)?;
            staged.partitions.push(partition);
        }
        Ok(())
    }

    /// Takes everything out that is not in flight, in order.
    pub(super) fn take_queued(&mut self) -> (Vec<Staged>, Vec<(i32, Batch)>) {
        let mut batches = Vec::new();
        for (number, partition) in self.partitions.iter_mut().enumerate() {
            partition.close_open();
            batches.extend(
                partition
                    .ready
                    .drain(..)
                    .map(|batch| (number as i32, batch)),
            );
        }
        (self.staged.drain(..).collect(), batches)
    }
}
