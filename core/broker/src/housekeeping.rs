//! What is done now and then without being asked: retention, expiry of producers, checkpoints, timed flushes.
//!
//! An idle broker has only the retention check to wake for; the other timers are armed by appends.

use alloc::{string::String, vec::Vec};

use ottla_log::{
    LogError,
    data_dir::{self, Offsets, partition_dir},
};
use ottla_record::Now;

use crate::{
    Broker, BrokerConfig, BrokerError,
    partition::{Partition, PartitionIndex},
};

/// How long after a sync for which there were no descriptors it is tried again.
const SYNC_AGAIN_MS: i64 = 200;

/// When what is due, in monotonic microseconds.
#[derive(Debug)]
pub(crate) struct Housekeeping {
    retention_us: u64,
    recovery_checkpoint_us: Option<u64>,
    high_watermark_checkpoint_us: Option<u64>,
    flush_us: Option<u64>,
    removal_us: Option<u64>,
    /// Partitions whose sync could not be begun for want of descriptors, and when it is tried again.
    to_sync_again: Vec<PartitionIndex>,
    sync_again_us: Option<u64>,
    /// Whether the checkpoints on storage may tell of partitions that are no more, or of offsets beyond a log's end. After a crash
    /// a younger partition of the same name would begin where the old one did, behind what was acknowledged since, and what is not
    /// durable would be taken for it.
    pub(crate) has_stale_checkpoints: bool,
}

impl Housekeeping {
    pub(crate) fn new(config: &BrokerConfig, now: Now) -> Self {
        Self {
            retention_us: now.after_ms(
                config
                    .initial_task_delay_ms
                    .min(config.retention_check_interval_ms),
            ),
            recovery_checkpoint_us: None,
            high_watermark_checkpoint_us: None,
            flush_us: None,
            removal_us: None,
            to_sync_again: Vec::new(),
            sync_again_us: None,
            has_stale_checkpoints: false,
        }
    }

    /// Something was appended: the checkpoints will be out of date.
    pub(crate) fn note_appended(&mut self, config: &BrokerConfig, now: Now) {
        if self.high_watermark_checkpoint_us.is_none() {
            self.high_watermark_checkpoint_us =
                Some(now.after_ms(config.high_watermark_checkpoint_interval_ms));
        }
        if self.recovery_checkpoint_us.is_none() {
            self.recovery_checkpoint_us =
                Some(now.after_ms(config.recovery_checkpoint_interval_ms));
        }
    }

    /// A partition wants a flush at `at_us`.
    pub(crate) fn flush_at(&mut self, at_us: u64) {
        self.flush_us = Some(self.flush_us.map_or(at_us, |other| other.min(at_us)));
    }

    /// There were no descriptors for a partition's sync.
    pub(crate) fn sync_again(&mut self, index: PartitionIndex, now: Now) {
        self.to_sync_again.push(index);
        self.sync_again_us
            .get_or_insert(now.after_ms(SYNC_AGAIN_MS));
    }

    /// Segments were deleted: their files are to be removed some time.
    pub(crate) fn remove_deleted_at(&mut self, now: Now) {
        self.removal_us = Some(now.mono_us);
    }

    pub(crate) fn next_us(&self) -> Option<u64> {
        [
            Some(self.retention_us),
            self.recovery_checkpoint_us,
            self.high_watermark_checkpoint_us,
            self.flush_us,
            self.removal_us,
            self.sync_again_us,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

impl Broker {
    /// Does what is due at `now`.
    pub(crate) fn keep_house(&mut self, now: Now) {
        let due = |at: Option<u64>| at.is_some_and(|at| at <= now.mono_us);
        if due(Some(self.housekeeping.retention_us)) {
            self.housekeeping.retention_us =
                now.after_ms(self.config.retention_check_interval_ms.max(1));
            self.retain(now);
        }
        if due(self.housekeeping.flush_us) {
            self.flush_due(now);
        }
        if due(self.housekeeping.sync_again_us) {
            self.housekeeping.sync_again_us = None;
            for index in core::mem::take(&mut self.housekeeping.to_sync_again) {
                self.note_unsynced(index);
            }
        }
        if due(self.housekeeping.removal_us) {
            self.remove_deleted(now);
        }
        if due(self.housekeeping.high_watermark_checkpoint_us) {
            self.housekeeping.high_watermark_checkpoint_us = None;
            // A checkpoint that can't be written costs time at the next start, no more: the next one tries again.
            let _ = self.write_high_watermarks();
        }
        if due(self.housekeeping.recovery_checkpoint_us) {
            self.housekeeping.recovery_checkpoint_us = None;
            let _ = self.write_recovery_points();
        }
    }

    /// Deletes old segments and forgets idle producers.
    fn retain(&mut self, now: Now) {
        let mut failed = Vec::new();
        for (index, partition) in self.partitions.iter_mut() {
            if partition.is_failed() {
                continue;
            }
            partition.log.expire_producers(now);
            let deletes = self
                .topics
                .get(partition.topic)
                .is_some_and(|topic| topic.config.cleanup_delete);
            let high_watermark = partition.high_watermark();
            let done = partition
                .log
                .delete_below_start()
                .and_then(|()| match deletes {
                    true => partition.log.delete_old_segments(now, high_watermark),
                    false => Ok(0),
                });
            if done.is_err_and(|error| !error.is_passing()) {
                failed.push(index);
            }
        }
        self.housekeeping.remove_deleted_at(now);
        let longest_ms = i64::from(self.config.transactions.max_timeout_ms);
        self.end_hanging_transactions(now, longest_ms.max(1));
        failed
            .into_iter()
            .for_each(|index| self.fail_partition(index));
    }

    /// Removes the files of deleted segments whose time has come. What can't be removed goes when the log is opened again.
    fn remove_deleted(&mut self, now: Now) {
        let next = self.partitions.iter_mut().filter_map(|(_, partition)| {
            let next = partition.log.remove_deleted(now);
            next.ok().flatten()
        });
        self.housekeeping.removal_us = next.min();
    }

    /// `flush.ms`: asks for syncs that are due and finds when the next one is.
    fn flush_due(&mut self, now: Now) {
        self.housekeeping.flush_us = None;
        let mut due = Vec::new();
        for (index, partition) in self.partitions.iter() {
            let Some(since) = partition.unsynced_since_us else {
                continue;
            };
            let Some(flush_ms) = self
                .topics
                .get(partition.topic)
                .map(|topic| topic.config.flush_ms)
            else {
                continue;
            };
            let at = Now {
                mono_us: since,
                ..now
            }
            .after_ms(flush_ms);
            if at <= now.mono_us {
                due.push(index)
            } else {
                self.housekeeping.flush_at(at)
            }
        }
        due.into_iter().for_each(|index| self.note_unsynced(index));
    }

    fn offsets_of(&self, offset: impl Fn(&Partition) -> i64) -> Offsets {
        self.partitions
            .iter()
            .map(|(_, p)| ((String::from(&*p.topic_name), p.number), offset(p)))
            .collect()
    }

    fn write_high_watermarks(&self) -> Result<(), LogError> {
        let high_watermarks = self.offsets_of(Partition::high_watermark);
        data_dir::write_offsets(&*self.storage, data_dir::HIGH_WATERMARKS, &high_watermarks)
    }

    pub(crate) fn write_recovery_points(&mut self) -> Result<(), LogError> {
        let synced = self.offsets_of(|p| p.log.synced_offset());
        data_dir::write_offsets(&*self.storage, data_dir::RECOVERY_POINTS, &synced)?;
        let starts = self.offsets_of(|p| p.log.log_start_offset());
        data_dir::write_offsets(&*self.storage, data_dir::LOG_STARTS, &starts)?;
        self.housekeeping.has_stale_checkpoints = false;
        Ok(())
    }

    /// Writes the checkpoints anew if they tell of what is no more: due before anything is made that they could be taken for.
    pub(crate) fn replace_stale_checkpoints(&mut self) -> Result<(), BrokerError> {
        if !self.housekeeping.has_stale_checkpoints {
            return Ok(());
        }
        let written = self.write_recovery_points();
        written.map_err(|error| BrokerError::Log {
            partition: "the checkpoints".into(),
            error,
        })
    }

    /// Stops cleanly: syncs and closes every log, writes the checkpoints and last the mark of a clean stop. What waited
    /// for a sync is answered. After this the broker answers nothing more.
    ///
    /// # Errors
    /// Something could not be written; the next open then recovers as after a crash. Nothing acknowledged is lost.
    pub fn close(&mut self, now: Now) -> Result<(), BrokerError> {
        if self.closed {
            return Ok(());
        }
        // From here on nothing is appended, so that what is synced now is all there is.
        self.closed = true;
        let mut first_error = None;
        let mut results = Vec::new();
        for (index, partition) in self.partitions.iter_mut() {
            let result = match partition.log.stopped() {
                Some(why) => Err(LogError::Stopped(why.into())),
                None => partition.log.close(),
            };
            if let Err(error) = &result {
                let partition = partition_dir(&partition.topic_name, partition.number);
                first_error.get_or_insert(BrokerError::Log {
                    partition,
                    error: error.clone(),
                });
            }
            results.push((index, result.is_ok()));
        }
        for (index, closed) in results {
            if closed {
                self.note_closed(index)
            } else {
                self.fail_partition(index)
            }
        }
        self.settle(now);
        self.refuse_all_waiting(now);
        if let Some(error) = first_error {
            return Err(error);
        }
        self.write_high_watermarks()
            .and_then(|()| self.write_recovery_points())
            .and_then(|()| data_dir::mark_clean_shutdown(&*self.storage, self.kafka.broker_epoch))
            .map_err(|error| BrokerError::Log {
                partition: "the checkpoints".into(),
                error,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability,
        testing::{Harness, batch, batch_at, values},
    };
    use ottla_log::Storage;
    use ottla_record::FinishOptions;

    fn file(h: &Harness, path: &str) -> String {
        let bytes = ottla_log::read_file(&*h.storage, path, 1 << 20)
            .unwrap()
            .unwrap_or_default();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn an_idle_broker_sleeps() {
        let mut h = Harness::new(Durability::Fsync);
        h.create_topic("t", 1, &[]);
        h.pass_ms(30_000);
        let next = h.broker.poll_timeout().unwrap();
        assert_eq!(
            next,
            h.now.mono_us + 300_000_000,
            "only the retention check is ahead"
        );
        assert!(h.syncs.is_empty());
    }

    #[test]
    fn checkpoints_follow_appends() {
        let mut h = Harness::new(Durability::Fsync);
        h.create_topic("t", 1, &[]);
        h.send_produce("t", 0, -1, batch(&["a", "b"]));
        h.sync_all();
        h.pass_ms(5_000);
        assert_eq!(file(&h, data_dir::HIGH_WATERMARKS), "0\n1\nt 0 2\n");
        h.pass_ms(55_000);
        assert_eq!(file(&h, data_dir::RECOVERY_POINTS), "0\n1\nt 0 2\n");
        assert_eq!(file(&h, data_dir::LOG_STARTS), "0\n1\nt 0 0\n");
    }

    #[test]
    fn old_segments_go() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic(
            "t",
            1,
            &[("retention.ms", "60000"), ("segment.bytes", "150")],
        );
        h.create_topic(
            "kept",
            1,
            &[
                ("retention.ms", "60000"),
                ("segment.bytes", "150"),
                ("cleanup.policy", ""),
            ],
        );
        let old = || {
            batch_at(
                crate::testing::START_MS,
                None,
                &["old"],
                FinishOptions::default(),
            )
        };
        for topic in ["t", "kept"] {
            for _ in 0..6 {
                h.produce(topic, 0, old());
            }
        }
        h.pass_ms(100_000);
        let new = batch_at(h.now.wall_ms, None, &["new"], FinishOptions::default());
        h.produce("t", 0, new);
        h.pass_ms(300_000);
        let data = h.fetch("t", 0, 7);
        assert_eq!((data.log_start_offset, data.high_watermark), (7, 7));
        assert_eq!(h.fetch("kept", 0, 0).log_start_offset, 0);
    }

    #[test]
    fn a_clean_stop_leaves_its_mark_and_what_kafka_wants() {
        let mut h = Harness::new(Durability::Fsync);
        h.create_topic("t", 2, &[]);
        h.send_produce("t", 1, -1, batch(&["a"]));
        h.broker.close(h.now).unwrap();
        assert!(h.storage.exists(data_dir::CLEAN_SHUTDOWN).unwrap());
        assert_eq!(file(&h, data_dir::RECOVERY_POINTS), "0\n2\nt 0 0\nt 1 1\n");
        let id = h.broker.topics.by_name("t").unwrap().id;
        assert_eq!(
            file(&h, "t-1/partition.metadata"),
            alloc::format!("version: 0\ntopic_id: {id}")
        );
        assert!(file(&h, data_dir::META_PROPERTIES).contains("node.id=1\nversion=1\n"));
        let mut h = h.restart(false);
        assert!(!h.storage.exists(data_dir::CLEAN_SHUTDOWN).unwrap());
        assert!(h.syncs.is_empty(), "after a clean stop all is synced");
        assert_eq!(values(&h.fetch("t", 1, 0).records), ["a"]);
    }
}
