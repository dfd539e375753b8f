//! What makes a log shorter: retention and DeleteRecords at its start, truncation at its end.

use crate::{
    error::LogError,
    partition_log::{PartitionLog, ReadEnd},
    producer_state::ProducerState,
    segment::Segment,
};
use ottla_record::Now;

impl PartitionLog {
    /// Moves the log's start up to `offset` (DeleteRecords); whole segments below it go, or, while a compaction reads them, when
    /// that is done. An offset beyond the end is an error, one below the start changes nothing.
    pub fn advance_start(&mut self, offset: i64) -> Result<(), LogError> {
        self.check_running()?;
        if offset > self.log_end_offset {
            return Err(self.out_of_range(offset));
        }
        self.log_start_offset = self.log_start_offset.max(offset);
        self.delete_below_start()
    }

    /// Deletes whole segments below the log's start, unless a compaction reads them.
    pub fn delete_below_start(&mut self) -> Result<(), LogError> {
        self.check_running()?;
        let gone = self
            .segments
            .partition_point(|s| s.base_offset() <= self.log_start_offset)
            .saturating_sub(1);
        if gone > 0 && !self.is_compacting() {
            self.delete_segments(gone)?;
        }
        Ok(())
    }

    /// Deletes whole segments that retention by time or size lets go, below `up_to` (the high watermark) only. Returns how
    /// many. While a compaction runs none go.
    pub fn delete_old_segments(&mut self, now: Now, up_to: i64) -> Result<usize, LogError> {
        self.check_running()?;
        if self.is_compacting() {
            return Ok(0);
        }
        let mut size = self.size_bytes();
        let mut gone = 0;
        for i in 0..self.segments.len() {
            let end = self
                .segments
                .get(i + 1)
                .map_or(self.log_end_offset, Segment::base_offset);
            let segment = &mut self.segments[i];
            let too_old = self.config.retention_ms >= 0
                && now
                    .wall_ms
                    .saturating_sub(segment.newest_ms(self.storage.as_ref())?)
                    > self.config.retention_ms;
            let too_much = self.config.retention_bytes >= 0
                && size - segment.size() >= self.config.retention_bytes as u64;
            if end > up_to || segment.size() == 0 || !(too_old || too_much) {
                break;
            }
            size -= segment.size();
            gone = i + 1;
        }
        if gone == 0 {
            return Ok(0);
        }
        if gone == self.segments.len() {
            self.roll(now)?;
        }
        self.log_start_offset = self.log_start_offset.max(self.segments[gone].base_offset());
        self.delete_segments(gone)?;
        Ok(gone)
    }

    /// Deletes the first `count` segments; their files are removed later.
    fn delete_segments(&mut self, count: usize) -> Result<(), LogError> {
        for i in 0..count {
            match self.segments[i].retire(self.storage.as_ref(), true) {
                Ok(gone) => self
                    .files
                    .deleted
                    .extend(gone.into_iter().map(|path| (None, path))),
                Err(error) => {
                    // Those that are still there stay ours, and are deleted the next time.
                    self.segments.drain(..i);
                    return Err(error.into());
                }
            }
            self.unsynced.dir = true;
        }
        self.segments.drain(..count);
        self.epochs.truncate_start(self.log_start_offset);
        let start = self.log_start_offset;
        self.aborted.retain(|row| row.last_offset >= start);
        self.unsaved = true;
        Ok(())
    }

    /// Removes the files of deleted segments `file.delete.delay.ms` after this was first called for them. Returns when it is to
    /// be called again, in monotonic microseconds. A file that can't be removed is removed when the log is opened again.
    pub fn remove_deleted(&mut self, now: Now) -> Result<Option<u64>, LogError> {
        let delay_ms = self.config.file_delete_delay_ms;
        Ok(self
            .files
            .remove_deleted(self.storage.as_ref(), delay_ms, now)?)
    }

    /// Cuts off all from `offset` on, as a follower does to agree with its leader: whole batches, so the end may be lower. What a
    /// [`SyncJob`](crate::SyncJob) that was handed out before has done doesn't count for the log that is left.
    pub fn truncate_to(&mut self, offset: i64, now: Now) -> Result<(), LogError> {
        self.check_running()?;
        if offset >= self.log_end_offset {
            return Ok(());
        }
        self.try_truncate(offset.max(0), now)
            .map_err(|error| match error {
                LogError::Storage(error) => self.stop(error),
                other => other,
            })
    }

    /// What a job under way was to make durable is to be done again by the next one.
    fn take_back_job(&mut self) {
        if let Some(job) = self.under_way.take() {
            self.unsynced.files.extend(job.files);
            self.unsynced.root |= job.dirs.iter().any(|dir| dir.is_empty());
        }
    }

    fn try_truncate(&mut self, offset: i64, now: Now) -> Result<(), LogError> {
        self.overtake_compaction()?;
        self.take_back_job();
        self.read_ends = [ReadEnd::NONE; 4];
        self.unsaved = true;
        self.unsynced.dir = true;
        let storage = self.storage.clone();
        if offset <= self.segments[0].base_offset() {
            self.restart_at(offset, now)?;
            self.lower_mark()?;
            return Ok(storage.sync_dir(&self.dir)?);
        }
        let last = self.segment_of(offset);
        // The newest first, so that a crash leaves no hole.
        while self.segments.len() > last + 1
            && let Some(mut segment) = self.segments.pop()
        {
            segment.delete(storage.as_ref())?;
        }
        self.log_end_offset = self
            .log_end_offset
            .min(offset)
            .max(self.segments[last].base_offset());
        let segment = &mut self.segments[last];
        if let Some(placed) = segment.find(storage.as_ref(), offset)? {
            let end = placed.header.base_offset.min(offset);
            segment.truncate(storage.as_ref(), placed.position, end)?;
            self.log_end_offset = end;
        }
        self.synced_offset = self.synced_offset.min(self.log_end_offset);
        self.lower_mark()?;
        self.log_start_offset = self.log_start_offset.min(self.log_end_offset);
        self.epochs.truncate_end(self.log_end_offset);
        self.write_epochs()?;
        self.producers = ProducerState::default();
        self.truncate_aborted(last)?;
        self.restore_producers(i64::MAX)?;
        // A snapshot that a power cut brought back would speak for other records.
        Ok(storage.sync_dir(&self.dir)?)
    }
}
