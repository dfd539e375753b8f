//! One segment: a `.log` file of record batches and its two indexes.

use crate::{
    config::LogConfig,
    damage::{Ranges, is_whole, next_batch},
    durable_mark::Sealed,
    error::LogError,
    headers::{HeaderReader, Placed},
    index::{OffsetIndex, TimeIndex},
    names::{
        INDEX, LOG, SNAPSHOT, TIME_INDEX, TXN_INDEX, damaged_at, file_name,
        suffix::{CLEANED, DELETED},
    },
    storage::{
        OpenHow, Storage, StorageError, StorageErrorKind, StorageFile, Syncer, join, read_file,
        write_file_unsynced,
    },
};
use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};
use bytes::Bytes;
use ottla_record::{BatchHeader, Batches, HEADER_LEN, Limits, RecordBatch, RecordError, crc32c};

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

    /// A segment that is just what was written down when it was closed; nothing is read of it yet.
    pub fn sealed_as(dir: &str, sealed: Sealed, now_ms: i64) -> Self {
        Self {
            size: sealed.size,
            next_offset: sealed.next_offset,
            max_timestamp: sealed.max_timestamp,
            contiguous: sealed.contiguous,
            indexed: false,
            unchecked_below: sealed.size,
            sealed: Some(sealed),
            ..Self::empty(dir, sealed.base_offset, now_ms)
        }
    }

    /// What is to be written down of a closed segment; `None` if its indexes are not known to be what their files hold.
    pub fn to_sealed(&self) -> Option<Sealed> {
        if !self.indexed {
            return self.sealed;
        }
        (!self.stale_files).then(|| Sealed {
            base_offset: self.base_offset,
            size: self.size,
            next_offset: self.next_offset,
            max_timestamp: self.max_timestamp,
            contiguous: self.contiguous,
            index_crc: crc32c(self.index.as_bytes()),
            time_index_crc: crc32c(self.time_index.as_bytes()),
        })
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
        segment.unchecked_below = size;
        segment.next_offset = below;
        segment.contiguous = false;
        segment.max_timestamp = time_index.last().unwrap_or((-1, -1));
        (segment.index, segment.time_index) = (index, time_index);
        // Entries are sparse: what lies behind the last one counts towards the next.
        segment.bytes_since_index = size - segment.index.boundary_up_to(size);
        Ok(Some(segment))
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

    /// The log file of a segment that compaction writes: it has the suffix `.cleaned`, and is empty at first.
    pub fn begin_cleaned(
        &mut self,
        storage: &dyn Storage,
    ) -> Result<&mut dyn StorageFile, StorageError> {
        if self.file.is_none() {
            let mut file =
                storage.open(&format!("{}{CLEANED}", self.path), OpenHow::OpenOrCreate)?;
            file.truncate(0)?;
            self.file = Some(file);
        }
        self.file(storage)
    }

    /// Writes the indexes of a segment that compaction wrote, and makes its files durable, though not yet their names.
    pub fn finish_cleaned(&mut self, storage: &dyn Storage) -> Result<(), StorageError> {
        let file = self.begin_cleaned(storage)?;
        file.sync()?;
        file.seal();
        self.write_indexes_with(storage, CLEANED)?
            .iter()
            .try_for_each(|index| index.sync())
    }

    /// Renames the log and its indexes from one suffix to another, the log last.
    pub fn rename_files(
        &self,
        storage: &dyn Storage,
        from: &str,
        to: &str,
    ) -> Result<(), StorageError> {
        [INDEX, TIME_INDEX, LOG].iter().try_for_each(|kind| {
            let path = self.path_with(kind);
            storage.rename(&format!("{path}{from}"), &format!("{path}{to}"))
        })
    }

    /// Removes the log and its indexes of a suffix, the log first, as far as they are there and it can be done.
    pub fn remove_files(&self, storage: &dyn Storage, suffix: &str) {
        for kind in [LOG, INDEX, TIME_INDEX] {
            let _ = storage.remove_file(&format!("{}{suffix}", self.path_with(kind)));
        }
    }

    /// Gives the segment's files the suffix `.deleted`, the log first, and says which there are now. Reads that have some of
    /// its bytes keep them.
    pub fn retire(
        &mut self,
        storage: &dyn Storage,
        with_snapshot: bool,
    ) -> Result<Vec<String>, StorageError> {
        self.file = None;
        let mut gone = Vec::new();
        for kind in [LOG, INDEX, TIME_INDEX, TXN_INDEX, SNAPSHOT] {
            if kind == SNAPSHOT && !with_snapshot {
                continue;
            }
            let path = self.path_with(kind);
            let deleted = format!("{path}{DELETED}");
            match storage.rename(&path, &deleted) {
                Ok(()) => gone.push(deleted),
                Err(error) if error.kind == StorageErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
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

    /// Reads the log file and makes the indexes again.
    ///
    /// Of the first `trusted` bytes, which are durable and go up to the offset beside (if it is known), only the headers are read; damage there is stepped over, and found out
    /// about when the records are read. Behind them each batch is checked, up to the first damaged or missing one. One that
    /// lies below the `durable` offset costs no more than itself, too. Offsets must rise, behind the trusted part without
    /// holes if they are `contiguous`, and stay below `below`, where the next segment begins. Returns the segment and, if there is such a place, what is wrong with it; the file is not cut.
    #[allow(clippy::too_many_arguments)]
    pub fn scan(
        storage: &dyn Storage,
        dir: &str,
        base_offset: i64,
        below: i64,
        trusted: (u64, Option<i64>),
        durable: i64,
        contiguous: bool,
        config: &LogConfig,
        now_ms: i64,
        mut each: impl FnMut(&BatchHeader),
    ) -> Result<(Self, Option<LogError>), LogError> {
        let path = join(dir, &file_name(base_offset, LOG));
        let mut file = storage.open(&path, OpenHow::Existing)?;
        // Nothing is written while it is read, so that it may be mapped.
        file.seal();
        let len = file.len();
        let last = below.min(base_offset.saturating_add(i64::from(i32::MAX) + 1));
        let mut segment = Self::empty(dir, base_offset, now_ms);
        let mut walker = Self::empty(dir, base_offset, now_ms);
        walker.file = Some(file);
        walker.next_offset = trusted.1.unwrap_or(last).min(last);
        walker.contiguous = contiguous;
        walker.size = trusted.0.min(len);
        walker.walk_past_damage(storage, 0, |placed| {
            segment.size = placed.position;
            segment.note(&placed.header, config);
            each(&placed.header);
        })?;
        segment.file = walker.file.take();
        segment.size = walker.size;
        segment.unchecked_below = walker.size;
        // A header may lie about its last offset, or the last batch be lost; the mark knows better.
        let end = trusted.1.map_or(segment.next_offset, |end| end.min(last));
        if end != segment.next_offset || !walker.damaged.is_empty() {
            segment.contiguous = false;
            segment.next_offset = end.max(base_offset);
        }
        segment.damaged = walker.damaged;
        let damage = loop {
            if segment.size == len {
                break None;
            }
            let (position, next_offset) = (segment.size, segment.next_offset);
            let Some(file) = segment.file.as_deref() else {
                return Err(not_open(&path).into());
            };
            let error = match read_batch(file, &path, position, len).and_then(|batch| {
                batch
                    .check_crc()
                    .map_err(|error| damaged_at(&path, position, error))?;
                Ok(*batch.header())
            }) {
                Ok(header)
                    if header.base_offset < next_offset
                        || header.last_offset() >= last
                        || contiguous && header.base_offset != next_offset =>
                {
                    LogError::Damaged(format!(
                        "{path}, position {position}: offsets {} to {} where only {next_offset} to {} can be",
                        header.base_offset,
                        header.last_offset(),
                        last - 1,
                    ))
                }
                Ok(header) => {
                    segment.note(&header, config);
                    each(&header);
                    continue;
                }
                Err(LogError::Storage(error)) if error.kind != StorageErrorKind::Invalid => {
                    return Err(LogError::Storage(error));
                }
                Err(error) => error,
            };
            if next_offset < durable
                && let Some(next) = next_batch(file, position + 1, len, next_offset..last)?
            {
                segment.damaged.add(position..next);
                segment.size = next;
                continue;
            }
            break Some(error);
        };
        Ok((segment, damage))
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
            || age > config.roll_ms()
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
        self.write_indexes_with(storage, "")
    }

    fn write_indexes_with(
        &mut self,
        storage: &dyn Storage,
        suffix: &str,
    ) -> Result<[Arc<dyn Syncer>; 2], StorageError> {
        self.time_index
            .push(self.max_timestamp.0, self.max_timestamp.1);
        let index = format!("{}{suffix}", self.path_with(INDEX));
        let time_index = format!("{}{suffix}", self.path_with(TIME_INDEX));
        let syncers = [
            write_file_unsynced(storage, &index, self.index.as_bytes())?,
            write_file_unsynced(storage, &time_index, self.time_index.as_bytes())?,
        ];
        self.stale_files = false;
        Ok(syncers)
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
    /// An index that doesn't fit its log is noticed here, and made again; so is damage, which is stepped over.
    pub fn find(&mut self, storage: &dyn Storage, offset: i64) -> Result<Option<Placed>, LogError> {
        self.ensure_indexed(storage)?;
        let from = self.index.position_for(offset);
        let found = self.find_from(storage, from, offset);
        let astray = match &found {
            Ok(Some(placed)) => {
                from > 0 && placed.position == from && placed.header.base_offset > offset
            }
            Ok(None) => false,
            Err(error) => matches!(error, LogError::Corrupt { .. }),
        };
        if !astray {
            return found;
        }
        // Either the index leads astray, or the log is damaged there; the headers from the beginning on tell.
        self.remake_indexes(storage)?;
        let from = self.index.position_for(offset);
        self.find_from(storage, from, offset)
    }

    /// Makes both indexes again from the headers, and notes what is damaged.
    fn remake_indexes(&mut self, storage: &dyn Storage) -> Result<(), LogError> {
        let mut index = OffsetIndex::new(self.base_offset);
        let mut time_index = TimeIndex::new(self.base_offset);
        let mut last_entry = 0;
        let mut largest = (-1, -1);
        self.walk_past_damage(storage, 0, |placed| {
            if placed.position - last_entry > REMADE_INTERVAL && placed.position <= SEGMENT_LIMIT {
                index.push(placed.header.last_offset(), placed.position);
                time_index.push(largest.0, largest.1);
                last_entry = placed.position;
            }
            if placed.header.max_timestamp > largest.0 && placed.header.record_count > 0 {
                largest = (placed.header.max_timestamp, placed.header.last_offset());
            }
        })?;
        time_index.push(largest.0, largest.1);
        (self.index, self.time_index) = (index, time_index);
        self.max_timestamp = largest;
        self.bytes_since_index = self.size - last_entry;
        self.indexed = true;
        self.stale_files = true;
        Ok(())
    }

    /// Calls `each` with every batch from `position` on, where one begins. Where a header can't be, the next whole batch is
    /// looked for, and what lies between is noted as damaged.
    fn walk_past_damage(
        &mut self,
        storage: &dyn Storage,
        mut position: u64,
        mut each: impl FnMut(&Placed),
    ) -> Result<(), LogError> {
        self.file(storage)?;
        let Some(file) = self.file.as_deref() else {
            return Err(not_open(&self.path).into());
        };
        // A wrong length or offset may be noticed one batch later, so each is held back until the next one fits.
        let mut held: Option<Placed> = None;
        let mut next_offset = self.base_offset;
        // Whether a batch has to begin just there.
        let mut exact = self.contiguous && position == 0;
        let mut damaged = self.damaged.clone();
        loop {
            let mut reader = HeaderReader::new(file, &self.path, self.size, &damaged);
            let (culprit, misfit) = loop {
                let due = held
                    .as_ref()
                    .map_or(next_offset, |h| h.header.next_offset());
                match reader.at(position) {
                    Ok(None) => break (None, None),
                    Ok(Some(placed)) => {
                        let (base, last) = (placed.header.base_offset, placed.header.last_offset());
                        if base < due || last >= self.next_offset || exact && base != due {
                            break (Some(placed.position), Some(placed));
                        }
                        position = placed.end();
                        exact = self.contiguous;
                        if let Some(fits) = held.replace(placed) {
                            next_offset = fits.header.next_offset();
                            each(&fits);
                        }
                    }
                    Err(LogError::Storage(error)) if error.kind != StorageErrorKind::Invalid => {
                        return Err(error.into());
                    }
                    Err(_) => break (Some(position), None),
                }
            };
            let Some(mut culprit) = culprit else {
                break;
            };
            if let Some(before) = held.take() {
                let whole = |placed: &Placed| {
                    is_whole(file, placed.position, placed.header.size_in_bytes())
                };
                // Two that contradict each other: the second one is right if it would fit without the first.
                let second_fits = match &misfit {
                    Some(second) => {
                        (next_offset..self.next_offset).contains(&second.header.base_offset)
                            && second.header.last_offset() < self.next_offset
                            && !self.contiguous
                            && whole(second)?
                    }
                    None => false,
                };
                if !second_fits && whole(&before)? {
                    next_offset = before.header.next_offset();
                    each(&before);
                } else {
                    culprit = before.position;
                }
            }
            let offsets = next_offset..self.next_offset.max(next_offset);
            position = next_batch(file, culprit + 1, self.size, offsets)?.unwrap_or(self.size);
            damaged.add(culprit..position);
            exact = false;
        }
        if let Some(last) = held {
            each(&last);
        }
        self.damaged = damaged;
        Ok(())
    }

    /// Checks the batches from `position` on, where one begins, over `bytes` bytes, unless that was done since the log was
    /// opened or it wrote them itself. What is damaged is noted, and not read from then on.
    pub fn check(
        &mut self,
        storage: &dyn Storage,
        position: u64,
        bytes: u64,
    ) -> Result<(), LogError> {
        let end = position.saturating_add(bytes).min(self.unchecked_below);
        if position >= end || self.checked.end_of(position).is_some_and(|to| to >= end) {
            return Ok(());
        }
        let mut due = self.due_at(storage, position)?;
        self.file(storage)?;
        let Some(file) = self.file.as_deref() else {
            return Err(not_open(&self.path).into());
        };
        let mut at = position;
        while at < end {
            if let Some(to) = self.checked.end_of(at) {
                due = (self.checked_end.0 == to && self.contiguous).then_some(self.checked_end.1);
                at = to;
                continue;
            }
            if let Some(to) = self.damaged.end_of(at) {
                (at, due) = (to, None);
                continue;
            }
            let header = read_batch(file, &self.path, at, self.size).and_then(|batch| {
                batch
                    .check_crc()
                    .map_err(|error| damaged_at(&self.path, at, error))?;
                Ok(*batch.header())
            });
            // The base offset lies outside the checksum; the batch before tells what it must be.
            let fits = |header: &BatchHeader| {
                due.is_none_or(|due| header.base_offset == due)
                    && header.base_offset >= self.base_offset
                    && header.last_offset() < self.next_offset
            };
            match header {
                Ok(header) if fits(&header) => {
                    let to = at + header.size_in_bytes() as u64;
                    self.checked.add(at..to);
                    self.checked_end = (to, header.next_offset());
                    due = self.contiguous.then(|| header.next_offset());
                    at = to;
                }
                Err(LogError::Storage(error)) if error.kind != StorageErrorKind::Invalid => {
                    return Err(error.into());
                }
                _ => {
                    let offsets = due.unwrap_or(self.base_offset)..self.next_offset;
                    let next = next_batch(file, at + 1, self.size, offsets)?;
                    let next = next.unwrap_or(self.size);
                    self.damaged.add(at..next);
                    (at, due) = (next, None);
                }
            }
        }
        Ok(())
    }

    /// The offset with which the batch at `position` must begin, where that can be told.
    fn due_at(&mut self, storage: &dyn Storage, position: u64) -> Result<Option<i64>, LogError> {
        if !self.contiguous {
            return Ok(None);
        }
        if self.checked_end.0 == position {
            return Ok(Some(self.checked_end.1));
        }
        self.ensure_indexed(storage)?;
        let entry = self.index.at_or_before(position);
        let mut reader = self.headers(storage)?;
        // An entry has the last offset of the batch that begins at its position.
        let (mut at, mut due) = (0, None);
        if let Some((last_offset, entry)) = entry {
            match reader.at(entry) {
                Ok(Some(placed)) if placed.position == entry => {
                    due = Some(last_offset - i64::from(placed.header.last_offset_delta));
                    at = entry;
                }
                _ => return Ok(None),
            }
        }
        let mut due = due.unwrap_or(self.base_offset);
        let mut reader = self.headers(storage)?;
        while at < position {
            match reader.at(at) {
                Ok(Some(placed)) if placed.position == at => {
                    due += i64::from(placed.header.last_offset_delta) + 1;
                    at = placed.end();
                }
                _ => return Ok(None),
            }
        }
        Ok((at == position).then_some(due))
    }

    /// Whether what begins at `position` can't be read.
    pub fn is_damaged(&self, position: u64) -> bool {
        self.damaged.end_of(position).is_some()
    }

    /// Where what can be read from `position` on ends: at the next damaged place, or with the segment.
    pub fn readable_up_to(&self, position: u64) -> u64 {
        self.damaged.next_start(position).unwrap_or(self.size)
    }

    /// Bytes that can't be read, as far as they were found.
    pub fn damaged_bytes(&self) -> u64 {
        self.damaged.bytes()
    }

    /// The offset after its last batch.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
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
            Some(file) => Ok(HeaderReader::new(
                file.as_ref(),
                &self.path,
                self.size,
                &self.damaged,
            )),
            None => Err(not_open(&self.path)),
        }
    }

    /// The same, but an error where a header can't be.
    fn walk(
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

    /// Calls `each` with every batch from `position` on, where one begins; damage is stepped over.
    pub fn each_header(
        &mut self,
        storage: &dyn Storage,
        position: u64,
        each: impl FnMut(&Placed),
    ) -> Result<(), LogError> {
        self.walk_past_damage(storage, position, each)
    }

    /// The batch that begins at `position`.
    pub fn batch_at(
        &mut self,
        storage: &dyn Storage,
        position: u64,
    ) -> Result<RecordBatch, LogError> {
        self.file(storage)?;
        match &self.file {
            Some(file) => read_batch(file.as_ref(), &self.path, position, self.size),
            None => Err(not_open(&self.path).into()),
        }
    }

    /// The first record at or after `from` whose timestamp is at least `timestamp`: its timestamp and offset.
    pub fn find_time(
        &mut self,
        storage: &dyn Storage,
        timestamp: i64,
        from: i64,
    ) -> Result<Option<(i64, i64)>, LogError> {
        self.ensure_indexed(storage)?;
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
        let mut headers = HeaderReader::new(file, path, size, &self.damaged);
        let mut position = first.position;
        let mut torn = None;
        while let Some(placed) = headers.at(position)? {
            position = placed.end();
            if placed.header.max_timestamp < timestamp || placed.header.record_count == 0 {
                continue;
            }
            let found = read_batch(file, path, placed.position, size).and_then(|batch| {
                batch
                    .check_crc()
                    .and_then(|()| first_record(&batch, timestamp, from))
                    .map_err(|error| damaged_at(path, placed.position, error))
            });
            match found {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(LogError::Corrupt { .. }) => {
                    torn = Some(placed.position..placed.end());
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        match torn {
            Some(torn) => {
                // It costs no more than itself.
                self.damaged.add(torn);
                self.find_time(storage, timestamp, from)
            }
            None => Ok(None),
        }
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

    /// Learns what the indexes of a loaded or cut segment don't tell: batches behind the last entry may hold a larger
    /// timestamp than it, and count towards the next. Returns the offset after the last batch.
    pub fn settle_end(&mut self, storage: &dyn Storage) -> Result<i64, LogError> {
        let mut largest = self.time_index.last().unwrap_or((-1, -1));
        let indexed_time = largest.1;
        let (indexed, mut from) = self.index.last().unwrap_or((self.base_offset - 1, 0));
        let mut next_offset = self.base_offset;
        let walked = self.walk(storage, from, |placed| {
            next_offset = placed.header.next_offset();
            if placed.header.max_timestamp > largest.0 {
                largest = (placed.header.max_timestamp, placed.header.last_offset());
            }
        });
        match walked {
            // Compaction aside, an entry's offset is that of the batch at its position; it is never beyond the end.
            Ok(()) if indexed < next_offset && indexed_time < next_offset => {}
            Err(LogError::Storage(error)) if error.kind != StorageErrorKind::Invalid => {
                return Err(error.into());
            }
            _ => {
                self.remake_indexes(storage)?;
                next_offset = self.base_offset;
                self.each_header(storage, 0, |placed| {
                    next_offset = placed.header.next_offset()
                })?;
                largest = self.max_timestamp;
                from = self.index.boundary_up_to(self.size);
            }
        }
        self.bytes_since_index = self.size - from;
        self.max_timestamp = largest;
        self.next_offset = next_offset;
        self.first_timestamp = None;
        self.prepare_append(storage)?;
        Ok(next_offset)
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
