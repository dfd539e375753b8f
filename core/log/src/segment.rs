//! One segment: a `.log` file of record batches and its two indexes.

use crate::{
    config::LogConfig,
    error::LogError,
    index::{OffsetIndex, TimeIndex},
    names::{INDEX, LOG, SNAPSHOT, TIME_INDEX, TXN_INDEX, file_name},
    storage::{
        OpenHow, Storage, StorageError, StorageErrorKind, StorageFile, join, read_file, write_file,
    },
};
use alloc::{boxed::Box, format, string::String, vec::Vec};
use bytes::Bytes;
use ottla_record::{BatchHeader, Batches, HEADER_LEN, Limits, RecordBatch, RecordError};

/// More bytes than an index may have, `segment.index.bytes` being an i32.
const INDEX_LIMIT: u64 = i32::MAX as u64;

/// A segment; its file is opened when it is first needed.
pub struct Segment {
    base_offset: i64,
    dir: String,
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

/// A batch's place in a segment.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Where it begins.
    pub position: u64,
    /// Its header.
    pub header: BatchHeader,
}

impl Placed {
    /// Where the next batch begins.
    pub fn end(&self) -> u64 {
        self.position + self.header.size_in_bytes() as u64
    }
}

impl Segment {
    /// Creates the files of a new, empty segment.
    pub fn create(
        storage: &dyn Storage,
        dir: &str,
        base_offset: i64,
        now_ms: i64,
    ) -> Result<Self, StorageError> {
        let path = join(dir, &file_name(base_offset, LOG));
        let mut segment = Self::empty(dir, base_offset, now_ms);
        segment.file = Some(storage.open(&path, OpenHow::CreateNew)?);
        Ok(segment)
    }

    fn empty(dir: &str, base_offset: i64, now_ms: i64) -> Self {
        Self {
            base_offset,
            dir: dir.into(),
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

    /// Opens a segment whose indexes can be trusted; `Ok(None)` if one is missing or damaged and must be made again.
    pub fn load(
        storage: &dyn Storage,
        dir: &str,
        base_offset: i64,
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
        let index = OffsetIndex::from_file(base_offset, index, size);
        let time_index = TimeIndex::from_file(base_offset, time_index);
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
    /// Returns the segment and, if there is such a place, what is wrong with it; the file is not cut.
    pub fn scan(
        storage: &dyn Storage,
        dir: &str,
        base_offset: i64,
        config: &LogConfig,
        now_ms: i64,
        mut each: impl FnMut(&BatchHeader),
    ) -> Result<(Self, Option<LogError>), LogError> {
        let path = join(dir, &file_name(base_offset, LOG));
        let file = storage.open(&path, OpenHow::Existing)?;
        let len = file.len();
        let mut segment = Self::empty(dir, base_offset, now_ms);
        let mut next_offset = base_offset;
        let damage = loop {
            if segment.size == len {
                break None;
            }
            match read_batch(file.as_ref(), &path, segment.size, len).and_then(|batch| {
                batch
                    .check_crc()
                    .map_err(|error| corrupt(&path, segment.size, error))?;
                Ok(batch)
            }) {
                Ok(batch) if batch.header().base_offset < next_offset => {
                    break Some(LogError::Damaged(format!(
                        "{path}, position {}: offset {} where at least {next_offset} must be",
                        segment.size,
                        batch.header().base_offset
                    )));
                }
                Ok(batch) => {
                    let header = batch.header();
                    next_offset = header.next_offset();
                    segment.note(header, config);
                    each(header);
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
        if self.bytes_since_index > config.index_interval_bytes {
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
        let last_offset = self.base_offset + i64::from(i32::MAX);
        if self.size == 0 {
            return header.last_offset() > last_offset;
        }
        let age = match self.first_timestamp {
            Some(first) if first >= 0 && header.max_timestamp >= 0 => {
                header.max_timestamp.saturating_sub(first)
            }
            _ => now_ms.saturating_sub(self.created_ms),
        };
        self.size + header.size_in_bytes() as u64 > config.segment_bytes.min(i32::MAX as u64)
            || age > config.segment_ms
            || self.index.is_full(config.segment_index_bytes)
            || self.time_index.is_full(config.segment_index_bytes)
            || header.last_offset() > last_offset
    }

    /// Ends the segment: writes its indexes; it takes no more batches.
    pub fn close(&mut self, storage: &dyn Storage) -> Result<(), StorageError> {
        self.write_indexes(storage)?;
        if let Some(file) = &mut self.file {
            file.seal();
        }
        Ok(())
    }

    /// Writes both indexes, the time index with an entry for the largest timestamp.
    pub fn write_indexes(&mut self, storage: &dyn Storage) -> Result<(), StorageError> {
        self.time_index
            .push(self.max_timestamp.0, self.max_timestamp.1);
        write_file(
            storage,
            &join(&self.dir, &file_name(self.base_offset, INDEX)),
            self.index.as_bytes(),
        )?;
        write_file(
            storage,
            &join(&self.dir, &file_name(self.base_offset, TIME_INDEX)),
            self.time_index.as_bytes(),
        )
    }

    /// The log file, opened if need be.
    pub fn file(&mut self, storage: &dyn Storage) -> Result<&mut dyn StorageFile, StorageError> {
        if self.file.is_none() {
            self.file = Some(storage.open(
                &join(&self.dir, &file_name(self.base_offset, LOG)),
                OpenHow::Existing,
            )?);
        }
        match &mut self.file {
            Some(file) => Ok(file.as_mut()),
            None => Err(StorageError::new(
                StorageErrorKind::Io,
                "the file was not opened",
            )),
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

    /// The header of the batch at `position`, or `None` at the end.
    pub fn header_at(
        &mut self,
        storage: &dyn Storage,
        position: u64,
    ) -> Result<Option<Placed>, LogError> {
        if position >= self.size {
            return Ok(None);
        }
        let len = HEADER_LEN.min((self.size - position) as usize);
        let bytes = self.file(storage)?.read_exact(position, len)?;
        let header =
            BatchHeader::parse(&bytes).map_err(|error| corrupt(&self.path(), position, error))?;
        Ok(Some(Placed { position, header }))
    }

    /// The first batch whose last offset is at least `offset`.
    pub fn find(&mut self, storage: &dyn Storage, offset: i64) -> Result<Option<Placed>, LogError> {
        let mut position = self.index.position_for(offset);
        while let Some(placed) = self.header_at(storage, position)? {
            if placed.header.last_offset() >= offset {
                return Ok(Some(placed));
            }
            position = placed.end();
        }
        Ok(None)
    }

    /// A place to stop reading: where a batch begins or the segment ends, after `start`'s batch and, but for that batch, at
    /// most `max_bytes` from its beginning; never beyond `limit`, where a batch begins too.
    pub fn read_end(
        &mut self,
        storage: &dyn Storage,
        start: &Placed,
        max_bytes: u64,
        limit: u64,
    ) -> Result<u64, LogError> {
        let most = start.position.saturating_add(max_bytes);
        if most >= limit {
            return Ok(limit);
        }
        let mut end = self.index.boundary_up_to(most).max(start.end());
        while let Some(placed) = self.header_at(storage, end)?
            && placed.end() <= most
        {
            end = placed.end();
        }
        Ok(end)
    }

    /// The batch at a place.
    pub fn batch_at(
        &mut self,
        storage: &dyn Storage,
        placed: &Placed,
    ) -> Result<RecordBatch, LogError> {
        let (path, size) = (self.path(), self.size);
        read_batch(self.file(storage)?, &path, placed.position, size)
    }

    /// The first record whose timestamp is at least `timestamp`: its timestamp and offset.
    pub fn find_time(
        &mut self,
        storage: &dyn Storage,
        timestamp: i64,
    ) -> Result<Option<(i64, i64)>, LogError> {
        let from = self.time_index.offset_before(timestamp);
        let mut position = self.index.position_for(from);
        while let Some(placed) = self.header_at(storage, position)? {
            position = placed.end();
            if placed.header.max_timestamp < timestamp || placed.header.record_count == 0 {
                continue;
            }
            let batch = self.batch_at(storage, &placed)?;
            let found = first_record_from(&batch, timestamp)
                .map_err(|e| corrupt(&self.path(), placed.position, e))?;
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
        self.index.truncate(position);
        self.time_index.truncate(next_offset);
        self.max_timestamp = self.time_index.last().unwrap_or((-1, -1));
        self.dirty = true;
        // Batches behind the last index entry may hold a larger timestamp than it.
        let mut at = self.index.boundary_up_to(position);
        self.bytes_since_index = position - at;
        while let Some(placed) = self.header_at(storage, at)? {
            if placed.header.max_timestamp > self.max_timestamp.0 {
                self.max_timestamp = (placed.header.max_timestamp, placed.header.last_offset());
            }
            at = placed.end();
        }
        if position == 0 {
            self.first_timestamp = None;
        }
        Ok(())
    }

    /// Removes the segment's files, the log first: an index without a log is removed at the next start.
    pub fn delete(self, storage: &dyn Storage) -> Result<(), StorageError> {
        drop(self.file);
        for suffix in [LOG, INDEX, TIME_INDEX, TXN_INDEX, SNAPSHOT] {
            match storage.remove_file(&join(&self.dir, &file_name(self.base_offset, suffix))) {
                Err(error) if error.kind != StorageErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn path(&self) -> String {
        join(&self.dir, &file_name(self.base_offset, LOG))
    }

    /// An offset near the end, from which the last batch is found quickly.
    pub fn last_indexed_offset(&self) -> i64 {
        self.index.last_offset().unwrap_or(self.base_offset)
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
            storage.modified_ms(&self.path())
        }
    }
}

fn corrupt(path: &str, position: u64, error: RecordError) -> LogError {
    LogError::Corrupt {
        place: format!("{path}, position {position}"),
        error,
    }
}

/// Reads the batch at `position` of a file of which `len` bytes count. A batch that goes beyond is an error.
fn read_batch(
    file: &dyn StorageFile,
    path: &str,
    position: u64,
    len: u64,
) -> Result<RecordBatch, LogError> {
    let header_len = HEADER_LEN.min((len - position) as usize);
    let header = BatchHeader::parse(&file.read_exact(position, header_len)?)
        .map_err(|e| corrupt(path, position, e))?;
    let mut chunks = Vec::with_capacity(2);
    file.read_at(position, header.size_in_bytes(), &mut chunks)?;
    match Batches::new(chunks).next() {
        Some(batch) => batch.map_err(|error| corrupt(path, position, error)),
        None => Err(LogError::Damaged(format!(
            "{path}, position {position}: no whole batch"
        ))),
    }
}

/// The first record of a batch whose timestamp is at least `timestamp`.
fn first_record_from(
    batch: &RecordBatch,
    timestamp: i64,
) -> Result<Option<(i64, i64)>, RecordError> {
    let mut records = batch.records(Limits::default())?;
    while let Some(record) = records.next_record() {
        let record = record?;
        if record.timestamp >= timestamp {
            return Ok(Some((record.timestamp, record.offset)));
        }
    }
    Ok(None)
}
