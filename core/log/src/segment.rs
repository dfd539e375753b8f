//! One segment: a `.log` file of record batches and its two indexes.

use crate::{
    config::LogConfig,
    damage::Ranges,
    durable_mark::Sealed,
    error::LogError,
    index::{OffsetIndex, TimeIndex},
    names::{INDEX, LOG, SNAPSHOT, TIME_INDEX, TXN_INDEX, damaged_at, file_name},
    storage::{
        OpenHow, Storage, StorageError, StorageErrorKind, StorageFile, Unsynced, join, read_file,
        write_file_unsynced,
    },
};
use alloc::{boxed::Box, format, string::String, vec::Vec};
use bytes::Bytes;
use ottla_record::{BatchHeader, Batches, HEADER_LEN, RecordBatch, RecordError, crc32c};

mod checking;
mod lookup;
mod opening;
mod replacing;

/// More bytes than an index may have, `segment.index.bytes` being an i32.
const INDEX_LIMIT: u64 = i32::MAX as u64;
/// Log bytes between two entries of an index that had to be made again in passing: `index.interval.bytes` by default.
const REMADE_INTERVAL: u64 = 4096;
/// Positions in an index are i32.
const SEGMENT_LIMIT: u64 = i32::MAX as u64;

/// A segment; its file is opened when it is first needed.
pub struct Segment {
    base_offset: i64,
    /// Of the log file; the other files differ in the suffix.
    path: String,
    file: Option<Box<dyn StorageFile>>,
    size: u64,
    index: OffsetIndex,
    time_index: TimeIndex,
    /// Whether the two are there; otherwise they are read from their files when they are first needed.
    indexed: bool,
    /// Whether the index files are not what is here.
    pub stale_files: bool,
    /// What its files must be, as it was written down when it was closed.
    sealed: Option<Sealed>,
    /// The offset after its last batch.
    next_offset: i64,
    /// Whether each batch is known to begin where the one before it ended.
    contiguous: bool,
    /// Batches below this position were not written by this log since it was opened: they are checked before they are read for
    /// the first time.
    unchecked_below: u64,
    /// Those that have been.
    checked: Ranges,
    /// Where the last check ended, and the offset that is due there.
    checked_end: (u64, i64),
    /// What can't be read.
    damaged: Ranges,
    /// Largest timestamp so far, and the last offset of the batch that has it; -1 while there is none.
    max_timestamp: (i64, i64),
    /// The largest timestamp of the first batch: the segment's age counts from it.
    first_timestamp: Option<i64>,
    bytes_since_index: u64,
    /// The largest timestamp of any header, among so many bytes, if no record has one and somebody asked.
    timestamp_of_headers: Option<(u64, i64)>,
    /// When it was created, for segments without timestamps.
    created_ms: i64,
    /// Whether anything was appended since the last sync of the file began.
    pub dirty: bool,
}

impl Segment {
    /// Creates the files of a new, empty segment.
    pub fn create(
        storage: &dyn Storage,
        dir: &str,
        base_offset: i64,
        now_ms: i64,
    ) -> Result<Self, StorageError> {
        let mut segment = Self::empty(dir, base_offset, now_ms);
        segment.file = Some(storage.open(&segment.path, OpenHow::CreateNew)?);
        Ok(segment)
    }

    fn empty(dir: &str, base_offset: i64, now_ms: i64) -> Self {
        Self {
            base_offset,
            path: join(dir, &file_name(base_offset, LOG)),
            file: None,
            size: 0,
            index: OffsetIndex::new(base_offset),
            time_index: TimeIndex::new(base_offset),
            indexed: true,
            stale_files: false,
            sealed: None,
            next_offset: base_offset,
            contiguous: true,
            unchecked_below: 0,
            checked: Ranges::default(),
            checked_end: (0, base_offset),
            damaged: Ranges::default(),
            max_timestamp: (-1, -1),
            first_timestamp: None,
            bytes_since_index: 0,
            timestamp_of_headers: None,
            created_ms: now_ms,
            dirty: false,
        }
    }

    /// A segment of which nothing is known but its name, to be deleted or written anew.
    pub fn unread(dir: &str, base_offset: i64) -> Self {
        Self::empty(dir, base_offset, 0)
    }

    /// The same, created at another time.
    #[must_use]
    pub fn created_at(mut self, ms: i64) -> Self {
        self.created_ms = ms;
        self
    }

    /// The largest timestamp of its first batch.
    pub fn first_timestamp(&mut self, storage: &dyn Storage) -> Result<Option<i64>, LogError> {
        if self.first_timestamp.is_none() && self.size > 0 {
            let first = self.headers(storage)?.at(0)?;
            self.first_timestamp = first.map(|first| first.header.max_timestamp);
        }
        Ok(self.first_timestamp.filter(|timestamp| *timestamp >= 0))
    }

    /// Bytes of the larger one of its indexes.
    pub fn index_bytes(&self) -> u64 {
        if !self.indexed {
            return self.size / REMADE_INTERVAL * 12; // about that, as they were not read yet
        }
        let (index, times) = (self.index.as_bytes(), self.time_index.as_bytes());
        index.len().max(times.len()) as u64
    }

    /// Counts a batch that now lies at the end. One without records, as compaction leaves them, has no time.
    pub fn note(&mut self, header: &BatchHeader, config: &LogConfig) {
        let bytes = header.size_in_bytes() as u64;
        let last_offset = header.last_offset();
        self.contiguous &= header.base_offset == self.next_offset;
        self.next_offset = header.next_offset();
        if header.max_timestamp > self.max_timestamp.0 && header.record_count > 0 {
            self.max_timestamp = (header.max_timestamp, last_offset);
        }
        self.first_timestamp.get_or_insert(header.max_timestamp);
        // Kafka writes no larger segments, but they can be read, with what the index can hold.
        if self.bytes_since_index > config.index_interval_bytes && self.size <= SEGMENT_LIMIT {
            self.index.push(last_offset, self.size);
            self.time_index
                .push(self.max_timestamp.0, self.max_timestamp.1);
            self.bytes_since_index = 0;
        }
        self.bytes_since_index += bytes;
        self.size += bytes;
    }

    /// Appends a batch that comes in parts, with its final header.
    pub fn append(
        &mut self,
        storage: &dyn Storage,
        header: &BatchHeader,
        parts: &[Bytes],
        config: &LogConfig,
    ) -> Result<(), StorageError> {
        self.file(storage)?.append(parts)?;
        self.dirty = true;
        self.stale_files = true;
        self.note(header, config);
        Ok(())
    }

    /// Whether a batch belongs into a new segment instead.
    pub fn must_roll(&self, header: &BatchHeader, config: &LogConfig, now_ms: i64) -> bool {
        let last_offset = self.base_offset.saturating_add(i64::from(i32::MAX));
        if self.size == 0 {
            return header.last_offset() > last_offset;
        }
        let age = match self.first_timestamp {
            Some(first) if first >= 0 && header.max_timestamp >= 0 => {
                header.max_timestamp.saturating_sub(first)
            }
            _ => now_ms.saturating_sub(self.created_ms),
        };
        self.size + header.size_in_bytes() as u64 > config.segment_bytes.min(SEGMENT_LIMIT)
            || age > config.roll_ms().saturating_sub(self.jitter_ms(config))
            || self.index.is_full(config.segment_index_bytes)
            || self.time_index.is_full(config.segment_index_bytes)
            || header.last_offset() > last_offset
    }

    /// By how much sooner than others it is old: by its name, so that it is the same each time it is asked and after a restart.
    fn jitter_ms(&self, config: &LogConfig) -> i64 {
        match config.segment_jitter_ms.min(config.segment_ms) {
            most @ 1.. => i64::from(crc32c(self.path.as_bytes())) % most,
            _ => 0,
        }
    }

    /// Ends the segment: it takes no more batches. Writes its indexes; see [`Segment::write_indexes`].
    pub fn close(&mut self, storage: &dyn Storage) -> Result<[Unsynced; 2], StorageError> {
        if let Some(file) = &mut self.file {
            file.seal();
        }
        self.write_indexes(storage)
    }

    /// Writes both indexes, the time index with an entry for the largest timestamp. They are durable once both and
    /// the directory are synced; before that the segment counts as one to be scanned.
    pub fn write_indexes(&mut self, storage: &dyn Storage) -> Result<[Unsynced; 2], StorageError> {
        self.write_indexes_with(storage, "")
    }

    fn write_indexes_with(
        &mut self,
        storage: &dyn Storage,
        suffix: &str,
    ) -> Result<[Unsynced; 2], StorageError> {
        self.time_index
            .push(self.max_timestamp.0, self.max_timestamp.1);
        let index = format!("{}{suffix}", self.path_with(INDEX));
        let time_index = format!("{}{suffix}", self.path_with(TIME_INDEX));
        let syncers = [
            write_file_unsynced(storage, &index, self.index.as_bytes())?,
            write_file_unsynced(storage, &time_index, self.time_index.as_bytes())?,
        ];
        self.stale_files = false;
        let [of_index, of_times] = syncers;
        Ok([
            Unsynced::open(index, of_index),
            Unsynced::open(time_index, of_times),
        ])
    }

    /// Reads the indexes, if they aren't there yet. If their files are not what was written when the segment was closed, they
    /// are made again from the log.
    pub fn ensure_indexed(&mut self, storage: &dyn Storage) -> Result<(), LogError> {
        if self.indexed {
            return Ok(());
        }
        let read = |suffix| read_file(storage, &self.path_with(suffix), INDEX_LIMIT);
        let matching = |bytes: Option<Bytes>, crc: fn(&Sealed) -> u32| {
            let sealed = self.sealed.as_ref()?;
            bytes.filter(|bytes| crc32c(bytes) == crc(sealed))
        };
        let index = matching(read(INDEX)?, |sealed| sealed.index_crc)
            .and_then(|b| OffsetIndex::from_file(self.base_offset, self.next_offset, b, self.size));
        let time_index = matching(read(TIME_INDEX)?, |sealed| sealed.time_index_crc)
            .and_then(|b| TimeIndex::from_file(self.base_offset, self.next_offset, b));
        let (Some(index), Some(time_index)) = (index, time_index) else {
            return self.remake_indexes(storage);
        };
        (self.index, self.time_index) = (index, time_index);
        self.bytes_since_index = self.size - self.index.boundary_up_to(self.size);
        self.indexed = true;
        Ok(())
    }

    /// The log file, opened if need be.
    pub fn file(&mut self, storage: &dyn Storage) -> Result<&mut dyn StorageFile, StorageError> {
        if self.file.is_none() {
            self.file = Some(storage.open(&self.path, OpenHow::Existing)?);
        }
        match &mut self.file {
            Some(file) => Ok(file.as_mut()),
            None => Err(not_open(&self.path)),
        }
    }

    /// What is to be synced of the log file. It is not opened for that.
    pub fn unsynced(&self) -> Unsynced {
        let path = self.path.clone();
        match &self.file {
            Some(file) => Unsynced::open(path, file.syncer()),
            None => Unsynced::named(path),
        }
    }

    /// Gives the descriptor back until the file is needed again.
    pub fn release_file(&mut self) {
        self.file = None;
    }

    /// The file of a segment that is no longer written, ready to be mapped.
    pub fn sealed_file(
        &mut self,
        storage: &dyn Storage,
    ) -> Result<&mut dyn StorageFile, StorageError> {
        let closed = self.file.is_none();
        let file = self.file(storage)?;
        if closed {
            file.seal();
        }
        Ok(file)
    }

    /// The offset after its last batch.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Cuts the log file and both indexes, so that the batch at `position` and all after it are gone.
    pub fn truncate(
        &mut self,
        storage: &dyn Storage,
        position: u64,
        next_offset: i64,
    ) -> Result<(), LogError> {
        self.ensure_indexed(storage)?;
        self.file(storage)?.truncate(position)?;
        self.size = position;
        self.dirty = true;
        self.stale_files = true;
        self.next_offset = next_offset;
        self.unchecked_below = self.unchecked_below.min(position);
        self.checked.truncate(position);
        self.damaged.truncate(position);
        self.checked_end = (0, self.base_offset);
        self.index.truncate(position);
        self.time_index.truncate(next_offset);
        self.settle_end(storage)?;
        Ok(())
    }

    /// Makes sure that what decides about the next batch is known: indexes, and the time of the first batch.
    pub fn prepare_append(&mut self, storage: &dyn Storage) -> Result<(), LogError> {
        self.ensure_indexed(storage)?;
        if self.first_timestamp.is_none() && self.size > 0 {
            let first = self.headers(storage)?.at(0)?;
            self.first_timestamp = Some(first.map_or(-1, |first| first.header.max_timestamp));
        }
        Ok(())
    }

    /// Removes the segment's files, the log first: an index without a log is removed at the next start.
    pub fn delete(&mut self, storage: &dyn Storage) -> Result<(), StorageError> {
        self.file = None;
        for suffix in [LOG, INDEX, TIME_INDEX, TXN_INDEX, SNAPSHOT] {
            match storage.remove_file(&self.path_with(suffix)) {
                Err(error) if error.kind != StorageErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn path_with(&self, suffix: &str) -> String {
        let stem = self.path.strip_suffix(LOG).unwrap_or(&self.path);
        format!("{stem}{suffix}")
    }

    /// The path of the log file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// First offset that it may hold.
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Bytes of its log.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its largest timestamp, and the last offset of the batch that has it; (-1, -1) if there is none.
    pub fn max_timestamp(&self) -> (i64, i64) {
        self.max_timestamp
    }

    /// Its largest timestamp. Where compaction has left no record, that of those which were there; for records without any, the
    /// time at which the file was last written.
    pub fn newest_ms(&mut self, storage: &dyn Storage) -> Result<i64, StorageError> {
        if self.max_timestamp.0 >= 0 {
            return Ok(self.max_timestamp.0);
        }
        let of_headers = match self.timestamp_of_headers {
            Some((size, timestamp)) if size == self.size => timestamp,
            _ => {
                let mut largest = -1;
                let walked = self.each_header(storage, 0, |placed| {
                    largest = placed.header.max_timestamp.max(largest);
                });
                if let Err(LogError::Storage(error)) = walked {
                    return Err(error);
                }
                self.timestamp_of_headers = Some((self.size, largest));
                largest
            }
        };
        if of_headers >= 0 {
            Ok(of_headers)
        } else {
            storage.modified_ms(&self.path)
        }
    }
}

fn not_open(path: &str) -> StorageError {
    StorageError::new(StorageErrorKind::Io, format!("{path}: was not opened"))
}

/// Reads the batch at `position` of a file of which `len` bytes count. A batch that goes beyond is an error.
fn read_batch(
    file: &dyn StorageFile,
    path: &str,
    position: u64,
    len: u64,
) -> Result<RecordBatch, LogError> {
    let header_len = HEADER_LEN.min((len - position) as usize);
    let mut raw = [0; HEADER_LEN];
    file.read_into(position, &mut raw[..header_len])?;
    let header = BatchHeader::parse(&raw[..header_len])
        .map_err(|error| damaged_at(path, position, error))?;
    if header.size_in_bytes() as u64 > len - position {
        let error = RecordError::Truncated {
            needed: header.size_in_bytes(),
            have: (len - position) as usize,
        };
        return Err(damaged_at(path, position, error));
    }
    let mut chunks = Vec::with_capacity(2);
    file.read_at(position, header.size_in_bytes(), &mut chunks)?;
    match Batches::new(chunks).next() {
        Some(batch) => batch.map_err(|error| damaged_at(path, position, error)),
        None => Err(LogError::Damaged(format!(
            "{path}, position {position}: no whole batch"
        ))),
    }
}
