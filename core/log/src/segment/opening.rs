//! Opening a segment: as it was written down when it was closed, by its indexes, or by reading it.

use super::{INDEX_LIMIT, Segment, not_open, read_batch};
use crate::{
    config::LogConfig,
    damage::next_batch,
    durable_mark::Sealed,
    error::LogError,
    index::{OffsetIndex, TimeIndex},
    names::{INDEX, LOG, TIME_INDEX, damaged_at, file_name},
    storage::{OpenHow, Storage, StorageError, StorageErrorKind, join, read_file},
};
use alloc::format;
use ottla_record::{BatchHeader, LOG_OVERHEAD, crc32c, legacy::LegacyMessage};

/// Bytes of the smallest message of magic 0.
const OLD_MESSAGE_LEN: usize = 26;
/// Where the magic byte lies, in every format.
const MAGIC_AT: usize = 16;

impl Segment {
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

    /// Refuses a segment that begins with a message of magic 0 or 1: nothing below knows them, and what isn't known would be taken for
    /// damage, cut off or stepped over, and its offsets be given to others. A Kafka that was told to write batches of magic 2 from
    /// some day on has appended them behind; never the other way round.
    pub fn refuse_old_format(
        storage: &dyn Storage,
        dir: &str,
        base_offset: i64,
        size: u64,
    ) -> Result<(), LogError> {
        if size < OLD_MESSAGE_LEN as u64 {
            return Ok(());
        }
        let path = join(dir, &file_name(base_offset, LOG));
        let file = storage.open(&path, OpenHow::ReadOnly)?;
        let mut raw = [0; OLD_MESSAGE_LEN];
        file.read_into(0, &mut raw)?;
        let length = i32::from_be_bytes([raw[8], raw[9], raw[10], raw[11]]);
        let needed = u64::try_from(length).map_or(0, |length| length + LOG_OVERHEAD as u64);
        if !matches!(raw[MAGIC_AT], 0 | 1) || needed > size {
            return Ok(());
        }
        // A damaged batch of ours may say anything; a whole message has its checksum.
        let bytes = file.read_exact(0, needed as usize)?;
        match LegacyMessage::parse(&bytes) {
            Ok(_) => Err(LogError::OldFormat(path)),
            Err(_) => Ok(()),
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
        segment.unchecked_below = size;
        segment.next_offset = below;
        segment.contiguous = false;
        segment.max_timestamp = time_index.last().unwrap_or((-1, -1));
        (segment.index, segment.time_index) = (index, time_index);
        // Entries are sparse: what lies behind the last one counts towards the next.
        segment.bytes_since_index = size - segment.index.boundary_up_to(size);
        Ok(Some(segment))
    }

    /// Reads the log file and makes the indexes again.
    ///
    /// Of the first `trusted` bytes, which are durable and go up to the offset beside (if it is known), only the headers are read;
    /// damage there is stepped over, and found out about when the records are read. Behind them each batch is checked, up to
    /// the first damaged or missing one. One that lies below the `durable` offset costs no more than itself, too. Offsets must
    /// rise, behind the trusted part without holes if they are `contiguous`, and stay below `below`, where the next segment
    /// begins. Returns the segment and, if there is such a place, what is wrong with it; the file is not cut.
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
        walker.each_header(storage, 0, |placed| {
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
}
