//! What is done now and then without being asked: retention, expiry of producers, checkpoints, timed flushes.
//!
//! An idle broker has only the retention check to wake for; the other timers are armed by appends.

use alloc::{string::String, vec::Vec};

use ottla_log::{
    LogError,
    data_dir::{self, Offsets},
};
use ottla_record::Now;

use crate::{Broker, BrokerConfig, BrokerError, partition::Partition};

/// Kafka's first retention check comes this long after the start.
const FIRST_RETENTION_CHECK_MS: i64 = 30_000;

/// When what is due, in monotonic microseconds.
#[derive(Debug)]
pub(crate) struct Housekeeping {
    retention_us: u64,
    recovery_checkpoint_us: Option<u64>,
    high_watermark_checkpoint_us: Option<u64>,
    flush_us: Option<u64>,
}

impl Housekeeping {
    pub(crate) fn new(config: &BrokerConfig, now: Now) -> Self {
        Self {
            retention_us: now
                .after_ms(FIRST_RETENTION_CHECK_MS.min(config.retention_check_interval_ms)),
            recovery_checkpoint_us: None,
            high_watermark_checkpoint_us: None,
            flush_us: None,
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

    pub(crate) fn next_us(&self) -> Option<u64> {
        [
            Some(self.retention_us),
            self.recovery_checkpoint_us,
            self.high_watermark_checkpoint_us,
            self.flush_us,
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
            if deletes
                && partition
                    .log
                    .delete_old_segments(now, high_watermark)
                    .is_err()
            {
                failed.push(index);
            }
        }
        failed
            .into_iter()
            .for_each(|index| self.fail_partition(index));
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
        self.partitions.iter().map(|(_, p)| ((String::from(&*p.topic_name), p.number), offset(p))).collect()
    }

    fn write_high_watermarks(&self) -> Result<(), LogError> {
        let high_watermarks = self.offsets_of(Partition::high_watermark);
        data_dir::write_offsets(&*self.storage, data_dir::HIGH_WATERMARKS, &high_watermarks)
    }

    fn write_recovery_points(&self) -> Result<(), LogError> {
        let synced = self.offsets_of(|p| p.log.synced_offset());
        data_dir::write_offsets(&*self.storage, data_dir::RECOVERY_POINTS, &synced)?;
        let starts = self.offsets_of(|p| p.log.log_start_offset());
        data_dir::write_offsets(&*self.storage, data_dir::LOG_STARTS, &starts)
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
        let mut first_error = None;
        let mut closed = Vec::new();
        for (index, partition) in self.partitions.iter_mut() {
            if partition.is_failed() {
                first_error
                    .get_or_insert(BrokerError::Internal("a partition failed before the stop"));
                continue;
            }
            let result = partition.log.close();
            closed.push((index, result));
        }
        for (index, result) in closed {
            match result {
                Ok(()) => self.note_closed(index),
                Err(error) => {
                    self.fail_partition(index);
                    first_error.get_or_insert(BrokerError::Log { partition: "a partition".into(), error });
                }
            }
        }
        self.settle(now);
        self.closed = true;
        if let Some(error) = first_error {
            return Err(error);
        }
        self.write_high_watermarks()
            .and_then(|()| self.write_recovery_points())
            .and_then(|()| data_dir::mark_clean_shutdown(&*self.storage))
            .map_err(|error| BrokerError::Log { partition: "the checkpoints".into(), error })
    }
}
