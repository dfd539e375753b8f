//! One partition's log: append, read, look up, roll, delete what is old. A self-contained value: everything that touches
//! storage goes through the [`Storage`] it was opened with, time comes in with each call.

use crate::{
    compaction::LogFiles,
    config::LogConfig,
    durable_mark::Mark,
    epochs::LeaderEpochs,
    error::LogError,
    headers::{cut, whole_batches},
    marking::Secured,
    names::{LEADER_EPOCHS, SNAPSHOT, damaged_at, file_name, offset_of},
    producer_state::ProducerState,
    segment::Segment,
    storage::{Storage, StorageError, Unsynced, join, write_file_named_later, write_file_unsynced},
    transactions::AbortedTransaction,
};
use alloc::{
    string::{String, ToString},
    sync::Arc,
    vec,
    vec::Vec,
};
use bytes::Bytes;
use ottla_record::{BatchHeader, HEADER_LEN, Limits, Now, RecordError, header as patched};

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
    /// What has to be made durable besides the dirty segments.
    pub(crate) unsynced: UnsyncedFiles,
    /// The job that was handed out last, until it is known to be done.
    pub(crate) under_way: Option<SyncJob>,
    /// The mark that was written last, and its number.
    pub(crate) marked: (u64, Option<Mark>),
    /// Whether the file of the mark is on the disk, with some mark.
    pub(crate) secured: Secured,
    /// Whether it was opened without a mark and may be a JVM Kafka's, whose compaction leaves holes that nobody says are durable. Until all
    /// of it is, a mark would condemn them.
    pub(crate) may_have_holes: bool,
    /// Whether the side files on storage are not those that a close would write.
    pub(crate) unsaved: bool,
    /// Where reads ended lately, since most of them go on there.
    pub(crate) read_ends: [ReadEnd; 4],
    /// The one of them that goes next.
    pub(crate) oldest_read_end: usize,
    pub(crate) producers: ProducerState,
    /// In the order of their markers.
    pub(crate) aborted: Vec<AbortedTransaction>,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) stopped: Option<String>,
    pub(crate) files: LogFiles,
}

/// Side files and directories that were written and not yet synced.
#[derive(Default)]
pub(crate) struct UnsyncedFiles {
    /// Indexes, snapshots, leader epochs.
    pub(crate) files: Vec<Unsynced>,
    /// Whether the log's directory has new entries.
    pub(crate) dir: bool,
    /// Whether the data directory has a new entry: this log's directory.
    pub(crate) root: bool,
}

/// A place between two batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadEnd {
    /// The batch that begins there has this offset or a larger one, the batch before it a smaller one.
    offset: i64,
    segment: i64,
    position: u64,
}

impl ReadEnd {
    pub(crate) const NONE: Self = Self {
        offset: -1,
        segment: -1,
        position: 0,
    };
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
    /// The offset behind the last batch, or the offset that was asked for if there is none.
    pub end_offset: i64,
}

/// Work for another thread: makes everything durable that was appended before it was handed out.
#[derive(Clone)]
pub struct SyncJob {
    /// The log end that will be durable.
    pub up_to: i64,
    /// Where that is: the segment's base offset, and the position in it.
    pub(crate) end: (i64, u64),
    pub(crate) files: Vec<Unsynced>,
    storage: Arc<dyn Storage>,
    pub(crate) dirs: Vec<String>,
}

impl SyncJob {
    /// Does it; the files first, then the directories that name them.
    pub fn run(&self) -> Result<(), StorageError> {
        let storage = self.storage.as_ref();
        self.files.iter().try_for_each(|file| file.sync(storage))?;
        self.dirs
            .iter()
            .try_for_each(|dir| self.storage.sync_dir(dir))
    }
}

impl core::fmt::Debug for SyncJob {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SyncJob")
            .field("up_to", &self.up_to)
            .field("files", &self.files.len())
            .field("dirs", &self.dirs)
            .finish_non_exhaustive()
    }
}

impl PartitionLog {
    /// Creates the log of a new partition; `dir` must not have any segments. Nothing is synced: the first [`SyncJob`] makes
    /// the directory durable too.
    pub fn create(
        storage: Arc<dyn Storage>,
        dir: &str,
        config: LogConfig,
        now: Now,
    ) -> Result<Self, LogError> {
        storage.create_dir(dir)?;
        Self::create_at(storage, dir, config, now, 0)
    }

    /// Creates a log in an existing directory that begins at `offset`.
    pub(crate) fn create_at(
        storage: Arc<dyn Storage>,
        dir: &str,
        config: LogConfig,
        now: Now,
        offset: i64,
    ) -> Result<Self, LogError> {
        let segment = Segment::create(storage.as_ref(), dir, offset, now.wall_ms)?;
        Ok(Self {
            storage,
            dir: dir.into(),
            config,
            segments: vec![segment],
            log_start_offset: offset,
            log_end_offset: offset,
            synced_offset: offset,
            unsynced: UnsyncedFiles {
                dir: true,
                root: true,
                ..UnsyncedFiles::default()
            },
            under_way: None,
            marked: (0, None),
            secured: Secured::No,
            may_have_holes: false,
            unsaved: true,
            read_ends: [ReadEnd::NONE; 4],
            oldest_read_end: 0,
            producers: ProducerState::default(),
            aborted: Vec::new(),
            epochs: LeaderEpochs::default(),
            stopped: None,
            files: LogFiles::default(),
        })
    }

    /// Appends one v2 batch that was checked before: magic, CRC, counts, sequence.
    ///
    /// `header` is the batch's, with what the leader changed in it (and its checksum mended); base offset and leader epoch are
    /// set here, and with `message.timestamp.type=LogAppendTime` the time. It is written in place of the first 61 bytes of
    /// `batch`; the rest goes into storage as it is, without a copy. A failed write stops the log for good; without descriptors
    /// ([`LogError::is_passing`]) nothing was written, and it may be tried again.
    pub fn append(
        &mut self,
        batch: Bytes,
        header: &BatchHeader,
        leader_epoch: i32,
        now: Now,
    ) -> Result<Appended, LogError> {
        self.check_running()?;
        if batch.len() as u64 > self.config.segment_bytes {
            return Err(LogError::BatchTooLarge {
                size: batch.len(),
                limit: self.config.segment_bytes,
            });
        }
        let refused = |error| LogError::Corrupt {
            place: "a batch to be appended".into(),
            error,
        };
        if batch.len() < HEADER_LEN || header.size_in_bytes() != batch.len() {
            return Err(refused(RecordError::InvalidBatchLength(
                header.batch_length,
            )));
        }
        let mut header = *header;
        header.base_offset = self.log_end_offset;
        header.partition_leader_epoch = leader_epoch;
        let mut raw = header.to_bytes();
        if self.config.log_append_time {
            raw = patched::with_log_append_time(&raw, now.wall_ms);
            header = BatchHeader::parse(&raw).map_err(refused)?;
        }
        if header.last_offset() == i64::MAX {
            return Err(LogError::Damaged(
                "the log has come to the end of all offsets".into(),
            ));
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
        let active = self.segments.last_mut().expect("a log has a segment");
        active.prepare_append(self.storage.as_ref())?;
        if self.active().must_roll(header, &self.config, now.wall_ms) {
            self.roll(now)?;
        }
        let active = self.segments.last_mut().expect("a log has a segment");
        if let Err(error) = active.file(self.storage.as_ref()) {
            return Err(self.stop_unless_passing(error));
        }
        // Before the batch, so that there is nothing to be taken back if it can't be. An epoch without records is none too many.
        self.note_epoch(header)?;
        let active = self.segments.last_mut().expect("a log has a segment");
        if let Err(error) = active.append(self.storage.as_ref(), header, parts, &self.config) {
            return Err(self.stop(error));
        }
        self.unsaved = true;
        self.producers.appended(header);
        self.log_end_offset = header.next_offset();
        Ok(())
    }

    /// Writes down that the batch which comes next begins a leader epoch, if it does.
    fn note_epoch(&mut self, header: &BatchHeader) -> Result<(), LogError> {
        let epoch = header.partition_leader_epoch;
        if epoch < 0 || self.epochs.latest().is_some_and(|latest| epoch <= latest) {
            return Ok(());
        }
        let before = self.epochs.clone();
        self.epochs.appended(epoch, header.base_offset);
        self.write_epochs().map_err(|error| {
            self.epochs = before;
            self.stop_unless_passing(error)
        })
    }

    pub(crate) fn active(&self) -> &Segment {
        self.segments.last().expect("a log has a segment")
    }

    /// Closes the segment that is written to and begins a new one at the log's end. Nothing happens if it is empty, or, for the time
    /// being, if there are no descriptors for it ([`LogError::is_passing`]).
    pub fn roll(&mut self, now: Now) -> Result<(), LogError> {
        self.check_running()?;
        if self.active().size() == 0 {
            return Ok(());
        }
        self.try_roll(now).map_err(|error| match error {
            LogError::Storage(error) => self.stop_unless_passing(error),
            other => other,
        })
    }

    /// Each of its steps may be done twice, or be the last one: the segment goes on then, and counts as not closed.
    fn try_roll(&mut self, now: Now) -> Result<(), LogError> {
        let active = self.segments.last_mut().expect("a log has a segment");
        active.prepare_append(self.storage.as_ref())?;
        self.unsynced
            .files
            .extend(active.close(self.storage.as_ref())?);
        if let Some(sealed) = active.to_sealed() {
            let marks = self.note_sealed(&sealed)?;
            self.unsynced.files.extend(marks);
        }
        let base = self.active().base_offset();
        self.write_last_txn_index(base)?;
        self.write_snapshot()?;
        if self.secured != Secured::Yes
            && let Some(marks) = self.marks_to_secure()
        {
            marks.sync(self.storage.as_ref())?;
            self.storage.sync_dir(&self.dir)?;
            self.secured = Secured::Yes;
        }
        self.segments.push(Segment::create(
            self.storage.as_ref(),
            &self.dir,
            self.log_end_offset,
            now.wall_ms,
        )?);
        self.unsynced.dir = true;
        self.unsaved = true;
        Ok(())
    }

    /// Writes the producers' state at the log's end.
    pub(crate) fn write_snapshot(&mut self) -> Result<(), StorageError> {
        let name = file_name(self.log_end_offset, SNAPSHOT);
        let contents = self.producers.to_snapshot();
        let path = join(&self.dir, &name);
        if self.storage.exists(&path)? {
            // After compaction a snapshot may be all that knows of a producer's last five batches. It must not give way to one of
            // which a power cut leaves nothing.
            self.unsynced.dir = true;
            return write_file_named_later(self.storage.as_ref(), &path, &contents);
        }
        self.write_side_file(&name, &contents)
    }

    pub(crate) fn write_epochs(&mut self) -> Result<(), StorageError> {
        let contents = self.epochs.to_text();
        self.write_side_file(LEADER_EPOCHS, contents.as_bytes())
    }

    pub(crate) fn write_side_file(
        &mut self,
        name: &str,
        contents: &[u8],
    ) -> Result<(), StorageError> {
        let path = join(&self.dir, name);
        let syncer = write_file_unsynced(self.storage.as_ref(), &path, contents)?;
        self.unsynced.files.push(Unsynced::open(path, syncer));
        self.unsynced.dir = true;
        Ok(())
    }

    /// Whole batches from the one that holds `from` on: at most `max_bytes`, but with `min_one` the first batch even if it is
    /// larger, and none that has offsets at or beyond `up_to`. Reads stay within a segment, so there may be more than it
    /// returns.
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
            end_offset: from,
            ..ReadSlice::default()
        };
        if from >= up_to || (max_bytes == 0 && !min_one) {
            return Ok(slice);
        }
        let mut i = self.segment_of(from);
        let start = loop {
            let Some(segment) = self.segments.get_mut(i) else {
                return Ok(slice);
            };
            let known = self
                .read_ends
                .iter()
                .find(|end| end.offset == from && end.segment == segment.base_offset());
            let storage = self.storage.as_ref();
            let found = match known {
                Some(end) => segment.find_from(storage, end.position, from),
                None => segment.find(storage, from),
            };
            let found = match found {
                // The look-up by the index steps over damage.
                Err(LogError::Corrupt { .. }) if known.is_some() => segment.find(storage, from)?,
                found => found?,
            };
            let Some(start) = found else {
                i += 1; // compaction or damage may have left nothing between `from` and this segment's end
                continue;
            };
            let wanted = max_bytes.max(start.header.size_in_bytes()) as u64;
            segment.check(storage, start.position, wanted)?;
            if !segment.is_damaged(start.position) {
                break start;
            }
        };
        let first = start.header.size_in_bytes();
        if start.header.last_offset() >= up_to || (!min_one && first > max_bytes) {
            return Ok(slice);
        }
        let segment_end = self
            .segments
            .get(i + 1)
            .map_or(self.log_end_offset, Segment::base_offset);
        let is_active = i + 1 == self.segments.len();
        let segment = &mut self.segments[i];
        let readable = segment.readable_up_to(start.position);
        let available = readable - start.position;
        let bytes = (max_bytes.max(first) as u64).min(available) as usize;
        let storage = self.storage.as_ref();
        let file = if is_active {
            segment.file(storage)?
        } else {
            segment.sealed_file(storage)?
        };
        file.read_at(start.position, bytes, &mut slice.chunks)?;
        slice.base_offset = start.header.base_offset;
        slice.bytes = bytes;
        let mut next_offset = segment_end;
        if bytes as u64 != available || readable != segment.size() || up_to < segment_end {
            // The end has to be found: where a batch ends.
            let walked = whole_batches(&slice.chunks, up_to);
            if let (0, Some(error)) = (walked.bytes, walked.damage) {
                return Err(damaged_at(segment.path(), start.position, error));
            }
            cut(&mut slice.chunks, walked.bytes);
            slice.bytes = walked.bytes;
            next_offset = walked.next_offset.unwrap_or(from);
        }
        slice.end_offset = next_offset;
        let segment = segment.base_offset();
        self.note_read_end(ReadEnd {
            offset: next_offset,
            segment,
            position: start.position + slice.bytes as u64,
        });
        Ok(slice)
    }

    fn note_read_end(&mut self, end: ReadEnd) {
        if !self
            .read_ends
            .iter()
            .any(|known| known.offset == end.offset && known.segment == end.segment)
        {
            self.read_ends[self.oldest_read_end] = end;
            self.oldest_read_end = (self.oldest_read_end + 1) % self.read_ends.len();
        }
    }

    pub(crate) fn out_of_range(&self, offset: i64) -> LogError {
        LogError::OffsetOutOfRange {
            offset,
            log_start_offset: self.log_start_offset,
            log_end_offset: self.log_end_offset,
        }
    }

    /// Index of the segment that may hold `offset`.
    pub(crate) fn segment_of(&self, offset: i64) -> usize {
        self.segments
            .partition_point(|segment| segment.base_offset() <= offset)
            .saturating_sub(1)
    }

    /// The first record, from the log's start on, whose timestamp is at least `timestamp`: its timestamp and offset.
    pub fn offset_for_time(&mut self, timestamp: i64) -> Result<Option<(i64, i64)>, LogError> {
        for segment in &mut self.segments {
            if segment.max_timestamp().0 < timestamp {
                continue;
            }
            let found =
                segment.find_time(self.storage.as_ref(), timestamp, self.log_start_offset)?;
            if found.is_some() {
                return Ok(found);
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
            return Ok(None);
        }
        match self.offset_for_time(largest)? {
            None if self.log_start_offset > self.segments[0].base_offset() => {
                // It lies before the log's start, in a segment that holds records behind that, too.
                match self.largest_from_start()? {
                    largest if largest < 0 => Ok(None),
                    largest => self.offset_for_time(largest),
                }
            }
            found => Ok(found),
        }
    }

    /// The largest timestamp from the log's start on, by the headers; -1 if there is none.
    fn largest_from_start(&mut self) -> Result<i64, LogError> {
        let start = self.log_start_offset;
        let first = self.segment_of(start);
        let storage = self.storage.clone();
        let behind = self.segments[first + 1..].iter();
        let mut largest = behind.map(|s| s.max_timestamp().0).max().unwrap_or(-1);
        let segment = &mut self.segments[first];
        let Some(placed) = segment.find(storage.as_ref(), start)? else {
            return Ok(largest);
        };
        let mut across = None;
        segment.each_header(storage.as_ref(), placed.position, |placed| {
            if placed.header.base_offset < start {
                across = Some(placed.position);
            } else if placed.header.record_count > 0 {
                largest = largest.max(placed.header.max_timestamp);
            }
        })?;
        if let Some(position) = across {
            let batch = segment.batch_at(storage.as_ref(), position)?;
            let records = batch.records(Limits::default());
            // One that is damaged can't be found by its time, either.
            if let Ok(mut records) = records {
                while let Some(Ok(record)) = records.next_record() {
                    if record.offset >= start {
                        largest = largest.max(record.timestamp);
                    }
                }
            }
        }
        Ok(largest)
    }

    /// What has to be made durable, if anything; [`PartitionLog::mark_synced`] is due when it is. A job that was handed out
    /// before and is not known to be done is part of it.
    pub fn sync_targets(&mut self) -> Result<Option<SyncJob>, LogError> {
        self.check_running()?;
        let unsynced = &self.unsynced;
        if self.synced_offset >= self.log_end_offset
            && !unsynced.dir
            && !unsynced.root
            && unsynced.files.is_empty()
            && self.under_way.is_none()
        {
            return Ok(None);
        }
        if self.secured == Secured::No
            && self.log_end_offset > self.segments[0].base_offset()
            && let Some(marks) = self.marks_to_secure()
        {
            self.unsynced.files.push(marks);
            self.unsynced.dir = true;
            self.secured = Secured::WithJob;
        }
        let mut files = Vec::with_capacity(1);
        for segment in self.segments.iter_mut().filter(|segment| segment.dirty) {
            files.push(segment.unsynced());
            segment.dirty = false;
        }
        let mut unsynced = core::mem::take(&mut self.unsynced);
        files.append(&mut unsynced.files);
        let mut dirs = Vec::new();
        if unsynced.dir {
            dirs.push(self.dir.clone());
        }
        if unsynced.root {
            dirs.push(String::new());
        }
        if let Some(earlier) = self.under_way.take() {
            files.extend(earlier.files);
            dirs.extend(earlier.dirs);
            dirs.sort();
            dirs.dedup();
            dirs.reverse(); // a directory before the one that names it
        }
        let active = self.active();
        let job = SyncJob {
            up_to: self.log_end_offset,
            end: (active.base_offset(), active.size()),
            files,
            storage: self.storage.clone(),
            dirs,
        };
        self.under_way = Some(job.clone());
        Ok(Some(job))
    }

    /// Notes that the job that went up to `up_to` is done, and hence all below is durable. One that a younger job has taken in,
    /// or that was handed out before the log was cut, says nothing any more.
    pub fn mark_synced(&mut self, up_to: i64) {
        if let Some(job) = self.under_way.take_if(|job| job.up_to == up_to) {
            if self.secured == Secured::WithJob {
                self.secured = Secured::Yes;
            }
            self.synced_offset = self.synced_offset.max(up_to.min(self.log_end_offset));
            self.write_mark(Mark {
                offset: up_to,
                segment: job.end.0,
                position: job.end.1,
            });
        }
    }

    /// Stops the log for good: after a failed write or sync nobody knows what is on the disk.
    pub fn fail(&mut self, error: &StorageError) {
        self.stopped.get_or_insert_with(|| error.to_string());
    }

    pub(crate) fn stop(&mut self, error: StorageError) -> LogError {
        self.fail(&error);
        LogError::Storage(error)
    }

    /// As [`PartitionLog::stop`], for what has done nothing if there were no descriptors for it.
    fn stop_unless_passing(&mut self, error: StorageError) -> LogError {
        match error.is_passing() {
            true => LogError::Storage(error),
            false => self.stop(error),
        }
    }

    pub(crate) fn check_running(&self) -> Result<(), LogError> {
        match &self.stopped {
            Some(why) => Err(LogError::Stopped(why.clone())),
            None => Ok(()),
        }
    }

    /// Why the log takes no more writes, if it doesn't.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Closes the log: indexes, producer state and leader epochs are written, everything is made durable.
    pub fn close(&mut self) -> Result<(), LogError> {
        self.check_running()?;
        self.try_close().map_err(|error| match error {
            LogError::Storage(error) => self.stop(error),
            other => other,
        })
    }

    fn try_close(&mut self) -> Result<(), LogError> {
        self.overtake_compaction()?;
        if self.is_untouched() {
            // What is not there is made when it is opened: thousands of such logs are not worth their syncs. A JVM Kafka would complain
            // of missing indexes.
            if self.unsaved {
                let storage = self.storage.clone();
                self.segments[0].write_indexes(storage.as_ref())?;
                self.unsaved = false;
            }
            return Ok(());
        }
        let is_new = self.unsaved || self.segments.iter().any(|segment| segment.stale_files);
        if is_new {
            let storage = self.storage.as_ref();
            self.segments
                .last_mut()
                .expect("a log has a segment")
                .prepare_append(storage)?;
            for segment in &mut self.segments {
                if segment.stale_files || segment.size() == 0 {
                    self.unsynced.files.extend(segment.write_indexes(storage)?);
                }
            }
            let base = self.active().base_offset();
            self.write_last_txn_index(base)?;
            self.write_snapshot()?;
            self.write_epochs()?;
            self.write_marks()?;
            self.unsaved = false;
        }
        if let Some(job) = self.sync_targets()? {
            job.run()?;
            self.mark_synced(job.up_to);
        }
        if is_new {
            // Not before the new one is durable: one of them may be all that knows of a producer's last batches.
            self.remove_stray_snapshots()?;
        }
        Ok(())
    }

    /// Whether nothing has ever been in it.
    pub(crate) fn is_untouched(&self) -> bool {
        let only = &self.segments[0];
        self.log_end_offset == 0
            && (self.segments.len(), only.size()) == (1, 0)
            && self.epochs.latest().is_none()
            && self.producers.is_empty()
            && self.marked.1.is_none()
    }

    /// A snapshot serves a restart that has to begin at a segment; those in between are of no use.
    fn remove_stray_snapshots(&self) -> Result<(), StorageError> {
        let keep = |offset: i64| {
            let segment = &self.segments[self.segment_of(offset)];
            offset == self.log_end_offset || offset == segment.base_offset()
        };
        for entry in self.storage.list(&self.dir)? {
            if offset_of(&entry.name, SNAPSHOT).is_some_and(|offset| !keep(offset)) {
                self.storage.remove_file(&join(&self.dir, &entry.name))?;
            }
        }
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

    /// Bytes that can't be read since they are damaged, as far as that was found out: at opening, or by reading them.
    pub fn damaged_bytes(&self) -> u64 {
        self.segments.iter().map(Segment::damaged_bytes).sum()
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
