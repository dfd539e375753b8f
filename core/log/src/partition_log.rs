//! One partition's log: append, read, look up, roll, delete what is old. A self-contained value: everything that touches
//! storage goes through the [`Storage`] it was opened with, time comes in with each call.

use crate::{
    config::LogConfig,
    epochs::LeaderEpochs,
    error::LogError,
    names::{LEADER_EPOCHS, SNAPSHOT, file_name, offset_of},
    producer_state::ProducerState,
    segment::Segment,
    storage::{Storage, StorageError, Syncer, join, write_file},
};
use alloc::{
    string::{String, ToString},
    sync::Arc,
    vec,
    vec::Vec,
};
use bytes::Bytes;
use ottla_record::{BatchHeader, HEADER_LEN, Now, header as patched};

/// A partition's log.
pub struct PartitionLog {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) dir: String,
    pub(crate) config: LogConfig,
    /// In order of their offsets; the last one is written to. Never empty.
    pub(crate) segments: Vec<Segment>,
    pub(crate) log_start_offset: i64,
    pub(crate) log_end_offset: i64,
    /// All below is durable.
    pub(crate) synced_offset: i64,
    /// Whether the directory has entries that are not durable yet.
    pub(crate) dir_dirty: bool,
    pub(crate) producers: ProducerState,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) stopped: Option<String>,
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the batch's first record.
    pub base_offset: i64,
    /// Offset of its last.
    pub last_offset: i64,
    /// The timestamp that all its records got, or -1 if they keep their own.
    pub log_append_time: i64,
    /// The log's start at that moment.
    pub log_start_offset: i64,
}

/// What a read found: whole batches, in shared chunks.
#[derive(Clone, Debug, Default)]
pub struct ReadSlice {
    /// The bytes. The first batch may begin below the offset that was asked for.
    pub chunks: Vec<Bytes>,
    /// Their number.
    pub bytes: usize,
    /// Base offset of the first batch, or the offset that was asked for if there is none.
    pub base_offset: i64,
}

/// Work for another thread: makes everything durable that was appended before it was handed out.
#[derive(Clone)]
pub struct SyncJob {
    /// The log end that will be durable.
    pub up_to: i64,
    syncers: Vec<Arc<dyn Syncer>>,
    dir: Option<(Arc<dyn Storage>, String)>,
}

impl SyncJob {
    /// Does it; the files first, then the directory that names them.
    pub fn run(&self) -> Result<(), StorageError> {
        self.syncers.iter().try_for_each(|syncer| syncer.sync())?;
        self.dir
            .iter()
            .try_for_each(|(storage, dir)| storage.sync_dir(dir))
    }
}

impl core::fmt::Debug for SyncJob {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SyncJob")
            .field("up_to", &self.up_to)
            .field("files", &self.syncers.len())
            .finish_non_exhaustive()
    }
}

impl PartitionLog {
    /// Creates the log of a new partition; `dir` must not have any segments.
    pub fn create(
        storage: Arc<dyn Storage>,
        dir: &str,
        config: LogConfig,
        now: Now,
    ) -> Result<Self, LogError> {
        storage.create_dir(dir)?;
        storage.sync_dir("")?;
        let segment = Segment::create(storage.as_ref(), dir, 0, now.wall_ms)?;
        Ok(Self {
            storage,
            dir: dir.into(),
            config,
            segments: vec![segment],
            log_start_offset: 0,
            log_end_offset: 0,
            synced_offset: 0,
            dir_dirty: true,
            producers: ProducerState::default(),
            epochs: LeaderEpochs::default(),
            stopped: None,
        })
    }

    /// Appends one v2 batch that was checked before: magic, CRC, counts, sequence.
    ///
    /// The batch gets the next offsets and the leader's epoch (and, with `message.timestamp.type=LogAppendTime`, the time) in a
    /// copy of its header; its body goes into storage as it is, without a copy. A failure stops the log for good.
    pub fn append(
        &mut self,
        batch: Bytes,
        header: &BatchHeader,
        leader_epoch: i32,
        now: Now,
    ) -> Result<Appended, LogError> {
        self.check_running()?;
        let mut header = *header;
        header.base_offset = self.log_end_offset;
        header.partition_leader_epoch = leader_epoch;
        if batch.len() as u64 > self.config.segment_bytes {
            return Err(LogError::BatchTooLarge {
                size: batch.len(),
                limit: self.config.segment_bytes,
            });
        }
        let Some(raw) = batch.first_chunk::<HEADER_LEN>() else {
            return Err(LogError::Damaged(
                "a batch that is shorter than its header".into(),
            ));
        };
        let mut raw = patched::with_offset_and_epoch(raw, header.base_offset, leader_epoch);
        if self.config.log_append_time {
            raw = patched::with_log_append_time(&raw, now.wall_ms);
            header = BatchHeader::parse(&raw).map_err(|error| LogError::Corrupt {
                place: "a batch to be appended".into(),
                error,
            })?;
        }
        let parts = [Bytes::copy_from_slice(&raw), batch.slice(HEADER_LEN..)];
        self.write(&header, &parts, now)?;
        Ok(Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time: if self.config.log_append_time {
                now.wall_ms
            } else {
                -1
            },
            log_start_offset: self.log_start_offset,
        })
    }

    fn write(&mut self, header: &BatchHeader, parts: &[Bytes], now: Now) -> Result<(), LogError> {
        if self.active().must_roll(header, &self.config, now.wall_ms) {
            self.roll(now)?;
        }
        let (storage, config) = (self.storage.clone(), &self.config);
        let active = self.segments.last_mut().expect("a log has a segment");
        if let Err(error) = active.append(storage.as_ref(), header, parts, config) {
            return Err(self.stop(error));
        }
        self.epochs
            .appended(header.partition_leader_epoch, header.base_offset);
        self.producers.appended(header);
        self.log_end_offset = header.next_offset();
        Ok(())
    }

    fn active(&self) -> &Segment {
        self.segments.last().expect("a log has a segment")
    }

    /// Closes the segment that is written to and begins a new one at the log's end. Nothing happens if it is empty.
    pub fn roll(&mut self, now: Now) -> Result<(), LogError> {
        self.check_running()?;
        if self.active().size() == 0 {
            return Ok(());
        }
        self.try_roll(now).map_err(|error| self.stop(error))
    }

    fn try_roll(&mut self, now: Now) -> Result<(), StorageError> {
        let storage = self.storage.clone();
        let active = self.segments.last_mut().expect("a log has a segment");
        active.close(storage.as_ref())?;
        self.write_snapshot()?;
        self.segments.push(Segment::create(
            storage.as_ref(),
            &self.dir,
            self.log_end_offset,
            now.wall_ms,
        )?);
        self.dir_dirty = true;
        Ok(())
    }

    /// Writes the producers' state at the log's end.
    fn write_snapshot(&self) -> Result<(), StorageError> {
        let path = join(&self.dir, &file_name(self.log_end_offset, SNAPSHOT));
        write_file(self.storage.as_ref(), &path, &self.producers.to_snapshot())
    }

    /// Whole batches from the one that holds `from` on: at most `max_bytes`, but with `min_one` the first batch even if it is
    /// larger, and none that begins at or beyond `up_to`. Reads stay within a segment, so there may be more than it returns.
    pub fn read(
        &mut self,
        from: i64,
        max_bytes: usize,
        min_one: bool,
        up_to: i64,
    ) -> Result<ReadSlice, LogError> {
        if from < self.log_start_offset || from > self.log_end_offset {
            return Err(self.out_of_range(from));
        }
        let up_to = up_to.min(self.log_end_offset);
        let mut slice = ReadSlice {
            base_offset: from,
            ..ReadSlice::default()
        };
        if from >= up_to || (max_bytes == 0 && !min_one) {
            return Ok(slice);
        }
        let storage = self.storage.clone();
        let mut i = self.segment_of(from);
        let start = loop {
            let Some(segment) = self.segments.get_mut(i) else {
                return Ok(slice);
            };
            if let Some(start) = segment.find(storage.as_ref(), from)? {
                break start;
            }
            i += 1; // compaction may have left nothing between `from` and this segment's end
        };
        if start.header.base_offset >= up_to
            || (!min_one && start.header.size_in_bytes() > max_bytes)
        {
            return Ok(slice);
        }
        let is_active = i + 1 == self.segments.len();
        let segment_end = self
            .segments
            .get(i + 1)
            .map_or(self.log_end_offset, Segment::base_offset);
        let segment = &mut self.segments[i];
        let limit = if up_to >= segment_end {
            segment.size()
        } else {
            // `up_to` may point into a batch: that batch is left out.
            match segment.find(storage.as_ref(), up_to)? {
                Some(placed) => placed.position,
                None => segment.size(),
            }
        };
        if limit <= start.position {
            return Ok(slice);
        }
        let end = segment.read_end(storage.as_ref(), &start, max_bytes as u64, limit)?;
        slice.base_offset = start.header.base_offset;
        slice.bytes = (end - start.position) as usize;
        let file = if is_active {
            segment.file(storage.as_ref())?
        } else {
            segment.sealed_file(storage.as_ref())?
        };
        file.read_at(start.position, slice.bytes, &mut slice.chunks)?;
        Ok(slice)
    }

    fn out_of_range(&self, offset: i64) -> LogError {
        LogError::OffsetOutOfRange {
            offset,
            log_start_offset: self.log_start_offset,
            log_end_offset: self.log_end_offset,
        }
    }

    /// Index of the segment that may hold `offset`.
    fn segment_of(&self, offset: i64) -> usize {
        self.segments
            .partition_point(|segment| segment.base_offset() <= offset)
            .saturating_sub(1)
    }

    /// The first record, from the log's start on, whose timestamp is at least `timestamp`: its timestamp and offset.
    pub fn offset_for_time(&mut self, timestamp: i64) -> Result<Option<(i64, i64)>, LogError> {
        let storage = self.storage.clone();
        let log_start_offset = self.log_start_offset;
        for segment in &mut self.segments {
            if segment.max_timestamp().0 < timestamp {
                continue;
            }
            if let Some(found) = segment.find_time(storage.as_ref(), timestamp)?
                && found.1 >= log_start_offset
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp, the first one of several: its timestamp and offset.
    pub fn max_timestamp(&mut self) -> Result<Option<(i64, i64)>, LogError> {
        let largest = self
            .segments
            .iter()
            .map(|segment| segment.max_timestamp().0)
            .max()
            .unwrap_or(-1);
        if largest < 0 {
            Ok(None)
        } else {
            self.offset_for_time(largest)
        }
    }

    /// What has to be made durable, if anything; [`PartitionLog::mark_synced`] is due when it is.
    pub fn sync_targets(&mut self) -> Result<Option<SyncJob>, LogError> {
        self.check_running()?;
        if self.synced_offset >= self.log_end_offset && !self.dir_dirty {
            return Ok(None);
        }
        let storage = self.storage.clone();
        let mut syncers = Vec::with_capacity(1);
        for segment in self.segments.iter_mut().filter(|segment| segment.dirty) {
            syncers.push(segment.file(storage.as_ref())?.syncer());
            segment.dirty = false;
        }
        let dir = self.dir_dirty.then(|| (storage, self.dir.clone()));
        self.dir_dirty = false;
        Ok(Some(SyncJob {
            up_to: self.log_end_offset,
            syncers,
            dir,
        }))
    }

    /// Notes that all below `up_to` is durable.
    pub fn mark_synced(&mut self, up_to: i64) {
        self.synced_offset = self.synced_offset.max(up_to.min(self.log_end_offset));
    }

    /// Stops the log for good: after a failed write or sync nobody knows what is on the disk.
    pub fn fail(&mut self, error: &StorageError) {
        self.stopped.get_or_insert_with(|| error.to_string());
    }

    fn stop(&mut self, error: StorageError) -> LogError {
        self.fail(&error);
        LogError::Storage(error)
    }

    fn check_running(&self) -> Result<(), LogError> {
        match &self.stopped {
            Some(why) => Err(LogError::Stopped(why.clone())),
            None => Ok(()),
        }
    }

    /// Why the log takes no more writes, if it doesn't.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Moves the log's start up to `offset` (DeleteRecords); whole segments below it go. An offset beyond the end is an error,
    /// one below the start changes nothing.
    pub fn advance_start(&mut self, offset: i64) -> Result<(), LogError> {
        self.check_running()?;
        if offset > self.log_end_offset {
            return Err(self.out_of_range(offset));
        }
        self.log_start_offset = self.log_start_offset.max(offset);
        let gone = self
            .segments
            .partition_point(|s| s.base_offset() <= self.log_start_offset)
            .saturating_sub(1);
        self.delete_segments(gone)
    }

    /// Deletes whole segments that retention by time or size lets go, below `up_to` (the high watermark) only. Returns how many.
    pub fn delete_old_segments(&mut self, now: Now, up_to: i64) -> Result<usize, LogError> {
        self.check_running()?;
        let storage = self.storage.clone();
        let mut size = self.size_bytes();
        let mut gone = 0;
        for (i, segment) in self.segments.iter().enumerate() {
            let end = self
                .segments
                .get(i + 1)
                .map_or(self.log_end_offset, Segment::base_offset);
            let too_old = self.config.retention_ms >= 0
                && now
                    .wall_ms
                    .saturating_sub(segment.newest_ms(storage.as_ref())?)
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

    /// Deletes the first `count` segments.
    fn delete_segments(&mut self, count: usize) -> Result<(), LogError> {
        for segment in self.segments.drain(..count) {
            segment.delete(self.storage.as_ref())?;
            self.dir_dirty = true;
        }
        self.epochs.truncate_start(self.log_start_offset);
        Ok(())
    }

    /// Closes the log: indexes, producer state and leader epochs are written, everything is made durable.
    pub fn close(&mut self) -> Result<(), LogError> {
        self.check_running()?;
        self.try_close().map_err(|error| self.stop(error))
    }

    fn try_close(&mut self) -> Result<(), StorageError> {
        let storage = self.storage.clone();
        for segment in self.segments.iter_mut().filter(|segment| segment.dirty) {
            segment.file(storage.as_ref())?.sync()?;
            segment.dirty = false;
        }
        self.segments
            .last_mut()
            .expect("a log has a segment")
            .write_indexes(storage.as_ref())?;
        self.write_snapshot()?;
        let keep = self.log_end_offset;
        for entry in storage.list(&self.dir)? {
            // A snapshot serves a restart that has to begin at a segment; those in between are of no use.
            let Some(offset) = offset_of(&entry.name, SNAPSHOT) else {
                continue;
            };
            if offset != keep
                && !self
                    .segments
                    .iter()
                    .any(|segment| segment.base_offset() == offset)
            {
                storage.remove_file(&join(&self.dir, &entry.name))?;
            }
        }
        write_file(
            storage.as_ref(),
            &join(&self.dir, LEADER_EPOCHS),
            self.epochs.to_text().as_bytes(),
        )?;
        storage.sync_dir(&self.dir)?;
        self.dir_dirty = false;
        self.synced_offset = self.log_end_offset;
        Ok(())
    }

    /// Forgets producers that were idle for `producer.id.expiration.ms`.
    pub fn expire_producers(&mut self, now: Now) {
        self.producers.expire(
            now.wall_ms
                .saturating_sub(self.config.producer_id_expiration_ms),
        );
    }

    /// First offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// The offset that the next record will get.
    pub fn log_end_offset(&self) -> i64 {
        self.log_end_offset
    }

    /// All below this offset is durable.
    pub fn synced_offset(&self) -> i64 {
        self.synced_offset
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(Segment::size).sum()
    }

    /// Number of segments.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The idempotent producers that this partition knows.
    pub fn producers(&self) -> &ProducerState {
        &self.producers
    }

    /// The leader epochs and where they began.
    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// The settings.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings; they count from the next append on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// The directory, relative to the data directory.
    pub fn dir(&self) -> &str {
        &self.dir
    }
}
