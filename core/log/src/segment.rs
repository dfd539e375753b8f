//! One segment: a `.log` file of record batches and its two indexes.

use crate::{
    config::LogConfig,
    error::LogError,
    headers::{HeaderReader, Placed},
    index::{OffsetIndex, TimeIndex},
    names::{INDEX, LOG, SNAPSHOT, TIME_INDEX, TXN_INDEX, damaged_at, file_name},
    storage::{
        OpenHow, Storage, StorageError, StorageErrorKind, StorageFile, Syncer, join, read_file,
        write_file_unsynced,
    },
};
use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};
use bytes::Bytes;
use ottla_record::{BatchHeader, Batches, HEADER_LEN, Limits, RecordBatch, RecordError};

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
    /// Largest timestamp so far, and the last offset of the batch that has it; -1 while there is none.
    max_timestamp: (i64, i64),
    /// The largest timestamp of the first batch: the segment's age counts from it.
    first_timestamp: Option<i64>,
    bytes_since_index: u64,
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
            max_timestamp: (-1, -1),
            first_timestamp: None,
            bytes_since_index: 0,
            created_ms: now_ms,
            dirty: false,
        }
    }

    /// Opens a segment whose indexes can be trusted; `Ok(None)` if one is missing or damaged and must be made again. Its
    /// offsets are below `below`, where the next segment begins.
    pub fn load(
        storage: &dyn Storage,
        dir: &str,
        base_offset: i64,
        below: i64,
        size: u64,
        now_ms: i64,
    ) -> Result<Option<Self>, StorageError> {
        let read = |suffix| {
            read_file(
                storage,
                &join(dir, &file_name(base_offset, suffix)),
                INDEX_LIMIT,
            )
        };
        let (Some(index), Some(time_index)) = (read(INDEX)?, read(TIME_INDEX)?) else {
            return Ok(None);
        };
        let index = OffsetIndex::from_file(base_offset, below, index, size);
        let time_index = TimeIndex::from_file(base_offset, below, time_index);
        let (Some(index), Some(time_index)) = (index, time_index) else {
            return Ok(None);
        };
        let mut segment = Self::empty(dir, base_offset, now_ms);
        segment.size = size;
        segment.max_timestamp = time_index.last().unwrap_or((-1, -1));
        (segment.index, segment.time_index) = (index, time_index);
        // Entries are sparse: what lies behind the last one counts towards the next.
        segment.bytes_since_index = size - segment.index.boundary_up_to(size);
        Ok(Some(segment))
    }

    /// A segment of which nothing is known but its name, to be deleted.
    pub fn unread(dir: &str, base_offset: i64) -> Self {
        Self::empty(dir, base_offset, 0)
    }

    /// Reads the whole log file, checks each batch and makes the indexes again, up to the first damaged or missing batch.
    /// Offsets must rise and stay below `below`, where the next segment begins. Returns the segment and, if there is such a
    /// place, what is wrong with it; the file is not cut.
    pub fn scan(
        storage: &dyn Storage,
        dir: &str,
        base_offset: i64,
        below: i64,
        config: &LogConfig,
        now_ms: i64,
        mut each: impl FnMut(&BatchHeader),
    ) -> Result<(Self, Option<LogError>), LogError> {
        let path = join(dir, &file_name(base_offset, LOG));
        let mut file = storage.open(&path, OpenHow::Existing)?;
        // Nothing is written while it is read, so that it may be mapped.
        file.seal();
        let len = file.len();
        let mut segment = Self::empty(dir, base_offset, now_ms);
        let mut next_offset = base_offset;
        let last = below.min(base_offset.saturating_add(i64::from(i32::MAX) + 1));
        let damage = loop {
            if segment.size == len {
                break None;
            }
            match read_batch(file.as_ref(), &path, segment.size, len).and_then(|batch| {
                batch
                    .check_crc()
                    .map_err(|error| damaged_at(&path, segment.size, error))?;
                Ok(*batch.header())
            }) {
                Ok(header) if header.base_offset < next_offset || header.last_offset() >= last => {
                    break Some(LogError::Damaged(format!(
                        "{path}, position {}: offsets {} to {} where only {next_offset} to {} can be",
                        segment.size,
                        header.base_offset,
                        header.last_offset(),
                        last - 1,
                    )));
                }
                Ok(header) => {
                    next_offset = header.next_offset();
                    segment.note(&header, config);
                    each(&header);
                }
                Err(LogError::Storage(error)) if error.kind != StorageErrorKind::Invalid => {
                    return Err(LogError::Storage(error));
                }
                Err(error) => break Some(error),
            }
        };
        segment.file = Some(file);
        Ok((segment, damage))
    }

    /// Counts a batch that now lies at the end.
    fn note(&mut self, header: &BatchHeader, config: &LogConfig) {
        let bytes = header.size_in_bytes() as u64;
        let last_offset = header.last_offset();
        if header.max_timestamp > self.max_timestamp.0 {
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
            || age > config.segment_ms
            || self.index.is_full(config.segment_index_bytes)
            || self.time_index.is_full(config.segment_index_bytes)
            || header.last_offset() > last_offset
    }

    /// Ends the segment: it takes no more batches. Writes its indexes; see [`Segment::write_indexes`].
    pub fn close(&mut self, storage: &dyn Storage) -> Result<[Arc<dyn Syncer>; 2], StorageError> {
        if let Some(file) = &mut self.file {
            file.seal();
        }
        self.write_indexes(storage)
    }

    /// Writes both indexes, the time index with an entry for the largest timestamp. They are durable once both syncers and
    /// the directory's sync have run; before that the segment counts as one to be scanned.
    pub fn write_indexes(
        &mut self,
        storage: &dyn Storage,
    ) -> Result<[Arc<dyn Syncer>; 2], StorageError> {
        self.time_index
            .push(self.max_timestamp.0, self.max_timestamp.1);
        let (index, time_index) = (self.path_with(INDEX), self.path_with(TIME_INDEX));
        Ok([
            write_file_unsynced(storage, &index, self.index.as_bytes())?,
            write_file_unsynced(storage, &time_index, self.time_index.as_bytes())?,
        ])
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

    /// The first batch whose last offset is at least `offset`.
    ///
    /// An index that doesn't fit its log is noticed here, and made again.
    pub fn find(&mut self, storage: &dyn Storage, offset: i64) -> Result<Option<Placed>, LogError> {
        let from = self.index.position_for(offset);
        let found = self.find_from(storage, from, offset);
        let astray = match &found {
            Ok(Some(placed)) => placed.position == from && placed.header.base_offset > offset,
            Ok(None) => false,
            Err(error) => matches!(error, LogError::Corrupt { .. }),
        };
        if from == 0 || !astray {
            return found;
        }
        // Either the index leads astray, or the log is damaged there; the headers from the beginning on tell.
        self.remake_index(storage)?;
        let from = self.index.position_for(offset);
        self.find_from(storage, from, offset)
    }

    fn remake_index(&mut self, storage: &dyn Storage) -> Result<(), LogError> {
        self.index = OffsetIndex::new(self.base_offset);
        let mut index = OffsetIndex::new(self.base_offset);
        let mut last_entry = 0;
        self.each_header(storage, 0, |placed| {
            if placed.position - last_entry > REMADE_INTERVAL && placed.position <= SEGMENT_LIMIT {
                index.push(placed.header.last_offset(), placed.position);
                last_entry = placed.position;
            }
        })?;
        self.index = index;
        Ok(())
    }

    /// As [`Segment::find`], walking from a position where a batch begins that is not beyond the one looked for.
    pub fn find_from(
        &mut self,
        storage: &dyn Storage,
        position: u64,
        offset: i64,
    ) -> Result<Option<Placed>, LogError> {
        self.headers(storage)?.find(position, offset)
    }

    fn headers(&mut self, storage: &dyn Storage) -> Result<HeaderReader<'_>, StorageError> {
        self.file(storage)?;
        match &self.file {
            Some(file) => Ok(HeaderReader::new(file.as_ref(), &self.path, self.size)),
            None => Err(not_open(&self.path)),
        }
    }

    /// Calls `each` with every batch from `position` on, where one begins.
    pub fn each_header(
        &mut self,
        storage: &dyn Storage,
        mut position: u64,
        mut each: impl FnMut(&Placed),
    ) -> Result<(), LogError> {
        let mut headers = self.headers(storage)?;
        while let Some(placed) = headers.at(position)? {
            each(&placed);
            position = placed.end();
        }
        Ok(())
    }

    /// The first record at or after `from` whose timestamp is at least `timestamp`: its timestamp and offset.
    pub fn find_time(
        &mut self,
        storage: &dyn Storage,
        timestamp: i64,
        from: i64,
    ) -> Result<Option<(i64, i64)>, LogError> {
        let from = from.max(self.base_offset);
        let Some(first) = self.find(storage, self.time_index.offset_before(timestamp).max(from))?
        else {
            return Ok(None);
        };
        self.file(storage)?;
        let Some(file) = self.file.as_deref() else {
            return Err(not_open(&self.path).into());
        };
        let (path, size) = (&self.path, self.size);
        let mut headers = HeaderReader::new(file, path, size);
        let mut position = first.position;
        while let Some(placed) = headers.at(position)? {
            position = placed.end();
            if placed.header.max_timestamp < timestamp || placed.header.record_count == 0 {
                continue;
            }
            let found = read_batch(file, path, placed.position, size).and_then(|batch| {
                first_record(&batch, timestamp, from)
                    .map_err(|error| damaged_at(path, placed.position, error))
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Cuts the log file and both indexes, so that the batch at `position` and all after it are gone.
    pub fn truncate(
        &mut self,
        storage: &dyn Storage,
        position: u64,
        next_offset: i64,
    ) -> Result<(), LogError> {
        self.file(storage)?.truncate(position)?;
        self.size = position;
        self.dirty = true;
        self.index.truncate(position);
        self.time_index.truncate(next_offset);
        self.settle_end(storage)?;
        Ok(())
    }

    /// Learns what the indexes of a loaded or cut segment don't tell: batches behind the last entry may hold a larger
    /// timestamp than it, and count towards the next. Returns the offset after the last batch.
    pub fn settle_end(&mut self, storage: &dyn Storage) -> Result<i64, LogError> {
        let largest = self.time_index.last().unwrap_or((-1, -1));
        let (indexed, from) = self.index.last().unwrap_or((self.base_offset - 1, 0));
        let walked = self.walk_end(storage, from, largest);
        let ((next_offset, largest), from) = match walked {
            // Compaction aside, an entry's offset is that of the batch at its position; it is never beyond the end.
            Ok(end) if indexed < end.0 && largest.1 < end.0 => (end, from),
            _ if from == 0 && largest.1 < 0 => (walked?, from),
            _ => {
                self.remake_index(storage)?;
                self.time_index = TimeIndex::new(self.base_offset);
                let end = self.walk_end(storage, 0, (-1, -1))?;
                (end, self.index.boundary_up_to(self.size))
            }
        };
        self.bytes_since_index = self.size - from;
        self.max_timestamp = largest;
        self.first_timestamp = self
            .headers(storage)?
            .at(0)?
            .map(|first| first.header.max_timestamp);
        Ok(next_offset)
    }

    /// The offset after the last batch, and the largest timestamp from `from` on with its batch's last offset, or `largest`.
    fn walk_end(
        &mut self,
        storage: &dyn Storage,
        from: u64,
        mut largest: (i64, i64),
    ) -> Result<(i64, (i64, i64)), LogError> {
        let mut next_offset = self.base_offset;
        self.each_header(storage, from, |placed| {
            next_offset = placed.header.next_offset();
            if placed.header.max_timestamp > largest.0 {
                largest = (placed.header.max_timestamp, placed.header.last_offset());
            }
        })?;
        Ok((next_offset, largest))
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

    /// Its largest timestamp, or for records without any the time at which the file was last written.
    pub fn newest_ms(&self, storage: &dyn Storage) -> Result<i64, StorageError> {
        if self.max_timestamp.0 >= 0 {
            Ok(self.max_timestamp.0)
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

/// The first record of a batch at or after `from` whose timestamp is at least `timestamp`: its timestamp and offset.
fn first_record(
    batch: &RecordBatch,
    timestamp: i64,
    from: i64,
) -> Result<Option<(i64, i64)>, RecordError> {
    let mut records = batch.records(Limits::default())?;
    while let Some(record) = records.next_record() {
        let record = record?;
        if record.timestamp >= timestamp && record.offset >= from {
            return Ok(Some((record.timestamp, record.offset)));
        }
    }
    Ok(None)
}
