//! The partitions that are consumed, as the application sets them: assign, seek, pause.

use super::assignors::TopicPartition;
use super::machine::{Consumer, PartitionOffset};
use super::offset::{self, Start};
use super::partition::{Partition, Phase};
use crate::error::{ErrCode, KafkaError};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ottla_record::Now;

impl Consumer {
    /// Replaces the assignment. Each partition starts at its offset, which may be logical.
    ///
    /// Errors as in librdkafka: `_INVALID_ARG` for an offset that means nothing, for a partition that is named twice
    /// and for [`offset::STORED`] without a group; `_STATE` while a cooperative group is being consumed. While
    /// closing it assigns nothing.
    pub(crate) fn assign(
        &mut self,
        now: Now,
        partitions: &[PartitionOffset],
    ) -> Result<(), KafkaError> {
        if self.is_closing() {
            self.unassign(now);
            return Ok(());
        }
        self.check_usable()?;
        if self.is_cooperative_member() && !partitions.is_empty() {
            let why = "the assignment of a cooperative group is changed by incremental_assign";
            return Err(KafkaError::new(ErrCode::STATE, why));
        }
        let starts = self.starts(partitions)?;
        self.give_up(now, None);
        self.start_partitions(starts);
        self.assignment_answered(now);
        Ok(())
    }

    /// Adds partitions to the assignment; `_CONFLICT` if one is assigned already, `_STATE` in a group that isn't
    /// cooperative.
    pub(crate) fn incremental_assign(
        &mut self,
        now: Now,
        partitions: &[PartitionOffset],
    ) -> Result<(), KafkaError> {
        if self.is_closing() {
            self.unassign(now);
            return Ok(());
        }
        self.check_usable()?;
        self.check_incremental("incremental_assign")?;
        if let Some(twice) = partitions
            .iter()
            .find(|p| self.partitions.contains_key(&p.key()))
        {
            let text = format!("{} [{}] is assigned already", twice.topic, twice.partition);
            return Err(KafkaError::new(ErrCode::CONFLICT, text));
        }
        let starts = self.starts(partitions)?;
        self.start_partitions(starts);
        self.assignment_answered(now);
        Ok(())
    }

    /// Takes partitions out of the assignment; `_INVALID_ARG` if one isn't assigned.
    pub(crate) fn incremental_unassign(
        &mut self,
        now: Now,
        partitions: &[TopicPartition],
    ) -> Result<(), KafkaError> {
        self.check_incremental("incremental_unassign")?;
        if let Some((topic, partition)) = partitions
            .iter()
            .find(|key| !self.partitions.contains_key(*key))
        {
            let text = format!("{topic} [{partition}] is not assigned");
            return Err(KafkaError::new(ErrCode::INVALID_ARG, text));
        }
        self.give_up(now, Some(partitions));
        self.assignment_answered(now);
        Ok(())
    }

    /// Takes all partitions out of the assignment.
    pub(crate) fn unassign(&mut self, now: Now) {
        self.give_up(now, None);
        self.assignment_answered(now);
    }

    /// The partitions that are assigned.
    pub(crate) fn assignment(&self) -> Vec<TopicPartition> {
        self.partitions.keys().cloned().collect()
    }

    /// Goes on at other offsets; what was fetched but not handed out yet is dropped. `_STATE` for a partition that
    /// isn't assigned, `_INVALID_ARG` for an offset that means nothing.
    pub(crate) fn seek(
        &mut self,
        now: Now,
        partitions: &mut [PartitionOffset],
    ) -> Result<(), KafkaError> {
        let _ = now;
        let reset = self.reset_start();
        let has_group = self.config.group_id.is_some();
        for wanted in &mut *partitions {
            let start = Start::from_offset(wanted.offset);
            wanted.error = match (self.partitions.get_mut(&wanted.key()), start) {
                (None, _) => ErrCode::STATE,
                (_, None) => ErrCode::INVALID_ARG,
                (_, Some(Start::Stored)) if !has_group => ErrCode::INVALID_ARG,
                (Some(partition), Some(start)) => {
                    partition.start(start, has_group, reset);
                    let position = if let Start::At(offset) = start {
                        offset
                    } else {
                        offset::INVALID
                    };
                    partition.shared.set_position(position, wanted.leader_epoch);
                    partition.drop_queue(&mut self.queued_records, &mut self.queued_bytes);
                    ErrCode::NO_ERROR
                }
            };
        }
        match partitions.iter().find(|p| p.error != ErrCode::NO_ERROR) {
            Some(failed) => Err(KafkaError::from(failed.error)),
            None => Ok(()),
        }
    }

    /// Stops to hand out and fetch records of these partitions. What was fetched is dropped, and fetched again from
    /// the application's position on when they are resumed. `_UNKNOWN_PARTITION` for what isn't assigned.
    pub(crate) fn pause(&mut self, partitions: &mut [PartitionOffset]) {
        for wanted in partitions {
            wanted.error = ErrCode::UNKNOWN_PARTITION;
            let Some(partition) = self.partitions.get_mut(&wanted.key()) else {
                continue;
            };
            wanted.error = ErrCode::NO_ERROR;
            if partition.paused {
                continue;
            }
            partition.paused = true;
            partition.shared.outdate();
            let position = partition.shared.position();
            if partition.phase == Phase::Fetching && partition.first_offset != offset::INVALID {
                partition.fetch_offset = position.max(partition.first_offset);
            }
            partition.eof_at = None;
            partition.drop_queue(&mut self.queued_records, &mut self.queued_bytes);
        }
    }

    /// Ends a pause.
    pub(crate) fn resume(&mut self, partitions: &mut [PartitionOffset]) {
        for wanted in partitions {
            wanted.error = ErrCode::UNKNOWN_PARTITION;
            let Some(partition) = self.partitions.get_mut(&wanted.key()) else {
                continue;
            };
            wanted.error = ErrCode::NO_ERROR;
            if partition.paused {
                partition.paused = false;
                partition.fresh = true;
            }
        }
    }

    /// Whether a partition's records go to a queue of its own, read by [`Self::poll_fetched_of`], with the limits
    /// `queued.min.messages` and `queued.max.messages.kbytes` for itself. Whether it is assigned.
    pub(crate) fn set_forwarded(&mut self, key: &TopicPartition, forwarded: bool) -> bool {
        let Some(partition) = self.partitions.get_mut(key) else {
            return false;
        };
        if partition.forwarded != forwarded {
            partition.forwarded = forwarded;
            let (records, bytes) = (partition.queued_records, partition.queued_bytes);
            if forwarded {
                self.queued_records -= records;
                self.queued_bytes -= bytes;
            } else {
                self.queued_records += records;
                self.queued_bytes += bytes;
                let waiting = core::iter::repeat_n(key, partition.queue.len());
                self.ready
                    .extend(waiting.map(|key| super::machine::Ready::Of(key.clone())));
            }
        }
        true
    }

    /// The state that the machine shares with the chunks of a partition.
    pub(crate) fn consumed_partition(
        &self,
        key: &TopicPartition,
    ) -> Option<Arc<super::ConsumedPartition>> {
        self.partitions
            .get(key)
            .map(|partition| partition.shared.clone())
    }

    /// Removes these partitions, or all of them. What they have stored is committed if that is wanted and possible.
    fn give_up(&mut self, now: Now, partitions: Option<&[TopicPartition]>) {
        let gone: BTreeSet<TopicPartition> = match partitions {
            Some(partitions) => partitions.iter().cloned().collect(),
            None => self.partitions.keys().cloned().collect(),
        };
        if !self.is_assignment_lost() && self.commit_given_up(now, |key| gone.contains(key)) {
            self.rebalance_waits_for_commit();
        }
        self.remove_partitions(gone.iter());
    }

    pub(super) fn remove_partitions<'a>(&mut self, gone: impl Iterator<Item = &'a TopicPartition>) {
        for key in gone {
            if let Some(mut partition) = self.partitions.remove(key) {
                partition.shared.outdate();
                partition.drop_queue(&mut self.queued_records, &mut self.queued_bytes);
            }
        }
    }

    fn starts(
        &self,
        partitions: &[PartitionOffset],
    ) -> Result<Vec<(TopicPartition, Start)>, KafkaError> {
        let mut seen = BTreeSet::new();
        let mut starts = Vec::with_capacity(partitions.len());
        for wanted in partitions {
            let key = wanted.key();
            let problem = match Start::from_offset(wanted.offset) {
                _ if key.0.is_empty() || key.1 < 0 => "is no partition",
                _ if !seen.insert(key.clone()) => "is named twice",
                None => "has an offset that means nothing",
                Some(Start::Stored)
                    if wanted.offset == offset::STORED && self.config.group_id.is_none() =>
                {
                    "can't start at a stored offset without group.id"
                }
                Some(start) => {
                    starts.push((key, start));
                    continue;
                }
            };
            let text = format!("{} [{}] {problem}", wanted.topic, wanted.partition);
            return Err(KafkaError::new(ErrCode::INVALID_ARG, text));
        }
        Ok(starts)
    }

    pub(super) fn start_partitions(&mut self, starts: Vec<(TopicPartition, Start)>) {
        let reset = self.reset_start();
        let has_group = self.config.group_id.is_some();
        for (key, start) in starts {
            let mut partition = Partition::new(&key, self.config.enable_auto_offset_store);
            partition.start(start, has_group, reset);
            self.partitions.insert(key, partition);
        }
        if !self.partitions.is_empty() {
            self.want_topics(&[], false);
        }
        // Metadata that came before may have something to say about the new ones.
        self.cluster_version = None;
    }

    /// Whether the consumer closes. An assignment that the application answers then, because its event was on its way already, is
    /// taken as none, as librdkafka does it.
    fn is_closing(&self) -> bool {
        self.closing && self.fatal.is_none()
    }

    pub(super) fn check_usable(&self) -> Result<(), KafkaError> {
        match &self.fatal {
            Some(fatal) => Err(KafkaError::new(ErrCode::FATAL, fatal.message.clone())),
            None if self.closing => Err(KafkaError::from(ErrCode::STATE)),
            None => Ok(()),
        }
    }

    fn check_incremental(&self, call: &str) -> Result<(), KafkaError> {
        if self.is_eager_member() {
            let text = format!("{call} needs a cooperative partition.assignment.strategy");
            return Err(KafkaError::new(ErrCode::STATE, text));
        }
        Ok(())
    }
}
