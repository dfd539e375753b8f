//! Reading the records of a batch: borrowed, checked, without an allocation.

use core::fmt;
use core::ops::Range;

use bytes::Bytes;

use crate::{BatchHeader, RecordError, TimestampType, varint};

/// Bytes of the smallest record: length, attributes, two deltas, null key, null value, header count.
pub(crate) const MIN_RECORD_LEN: usize = 7;

/// A record, borrowed from the records area of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Absolute offset: the batch's base offset plus the record's delta.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, by the clock that the batch's timestamp type names; −1 for none.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null (a tombstone in a compacted topic).
    pub value: Option<&'a [u8]>,
    /// The headers, in order, duplicates included.
    pub headers: Headers<'a>,
    key_start: usize,
    value_start: usize,
}

impl RecordRef<'_> {
    /// Where the key lies in the records area, so that a caller can keep a shared slice of it.
    pub fn key_range(&self) -> Option<Range<usize>> {
        self.key
            .map(|key| self.key_start..self.key_start + key.len())
    }

    /// Where the value lies in the records area.
    pub fn value_range(&self) -> Option<Range<usize>> {
        self.value
            .map(|value| self.value_start..self.value_start + value.len())
    }
}

/// One header of a record. Keys are UTF-8 by Kafka's definition, but other clients write any bytes, and so they are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key, never null.
    pub key: &'a [u8],
    /// The value; `None` is null.
    pub value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// A header.
    pub const fn new(key: &'a str, value: Option<&'a [u8]>) -> Self {
        Self {
            key: key.as_bytes(),
            value,
        }
    }

    /// The key as text, `None` if it isn't UTF-8.
    pub fn key_str(&self) -> Option<&'a str> {
        core::str::from_utf8(self.key).ok()
    }
}

impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.key.escape_ascii())?;
        match self.value {
            Some(value) => write!(f, "{}", value.escape_ascii()),
            None => f.write_str("null"),
        }
    }
}

/// The headers of a record, decoded as they are asked for. They were checked when the record was read.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    left: u32,
}

impl Headers<'_> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    #[inline]
    fn next(&mut self) -> Option<Header<'a>> {
        if self.left == 0 {
            return None;
        }
        let mut at = 0;
        let key = read_bytes(self.bytes, &mut at).ok()??;
        let value = read_bytes(self.bytes, &mut at).ok()?;
        self.bytes = self.bytes.get(at..)?;
        self.left -= 1;
        Some(Header { key, value })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// The records of one batch. Owns (shares) the uncompressed records area and lends out one record after the other.
///
/// After an error, and after the last record, it ends. Bytes left over after the last record are an error too.
#[derive(Clone, Debug)]
pub struct RecordIter {
    area: Bytes,
    cursor: Cursor,
}

impl RecordIter {
    /// The records in `area`, the uncompressed records area of the batch that `header` describes.
    ///
    /// An area too small for the announced count is an error at once.
    pub fn new(header: &BatchHeader, area: Bytes) -> Result<Self, RecordError> {
        let cursor = Cursor::new(header, area.len())?;
        Ok(Self { area, cursor })
    }

    /// The next record.
    #[inline]
    pub fn next_record(&mut self) -> Option<Result<RecordRef<'_>, RecordError>> {
        self.cursor.next(&self.area)
    }

    /// The uncompressed records area; [`RecordRef::key_range`] and [`RecordRef::value_range`] count from its start.
    pub fn area(&self) -> &Bytes {
        &self.area
    }

    /// Where the next record begins in the records area.
    pub fn position(&self) -> usize {
        self.cursor.at
    }

    /// Records not yet read, as the header counts them.
    pub fn remaining(&self) -> usize {
        self.cursor.left as usize
    }
}

/// Like [`RecordIter`], over a borrowed records area, as an ordinary iterator.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    area: &'a [u8],
    cursor: Cursor,
}

impl<'a> Records<'a> {
    /// The records in `area`, the uncompressed records area of the batch that `header` describes.
    pub fn new(header: &BatchHeader, area: &'a [u8]) -> Result<Self, RecordError> {
        let cursor = Cursor::new(header, area.len())?;
        Ok(Self { area, cursor })
    }

    /// Where the next record begins in the records area.
    #[inline]
    pub fn position(&self) -> usize {
        self.cursor.at
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.next(self.area)
    }
}

#[derive(Clone, Debug)]
struct Cursor {
    at: usize,
    left: u32,
    count: i32,
    base_offset: i64,
    base_timestamp: i64,
    /// All ones with CreateTime; zero with LogAppendTime, where every record has the base.
    delta_mask: i64,
}

impl Cursor {
    fn new(header: &BatchHeader, area_len: usize) -> Result<Self, RecordError> {
        let count = header.record_count;
        if count < 0 || count as usize > area_len / MIN_RECORD_LEN {
            return Err(RecordError::RecordCountMismatch {
                expected: count,
                found: (area_len / MIN_RECORD_LEN) as i32,
            });
        }
        let (base_timestamp, delta_mask) = match header.attributes.timestamp_type() {
            TimestampType::CreateTime => (header.base_timestamp, -1),
            TimestampType::LogAppendTime => (header.max_timestamp, 0),
        };
        Ok(Self {
            at: 0,
            left: count as u32,
            count,
            base_offset: header.base_offset,
            base_timestamp,
            delta_mask,
        })
    }

    #[inline(always)]
    fn next<'a>(&mut self, area: &'a [u8]) -> Option<Result<RecordRef<'a>, RecordError>> {
        if self.left == 0 {
            return self.end(area);
        }
        match self.read(area) {
            Ok(record) => {
                self.left -= 1;
                Some(Ok(record))
            }
            Err(error) => Some(Err(self.fail(area, error))),
        }
    }

    #[inline(always)]
    fn read<'a>(&mut self, area: &'a [u8]) -> Result<RecordRef<'a>, RecordError> {
        let mut start = self.at;
        let length = varint::get(area, &mut start)?;
        // Zig-zag: odd is negative. Anything too large fails the range check below.
        if length > u32::MAX as u64 || length & 1 != 0 {
            return Err(RecordError::InvalidRecordLength);
        }
        let length = (length >> 1) as usize;
        if length > area.len() - start {
            return Err(RecordError::Truncated {
                needed: length,
                have: area.len() - start,
            });
        }
        let end = start + length;
        let record = &area[..end];
        // The attributes byte of a record has no bits in use.
        let mut at = start + 1;
        let timestamp_delta = varint::get_i64(record, &mut at)?;
        let offset_delta = varint::get(record, &mut at)?;
        if offset_delta > u32::MAX as u64 || offset_delta & 1 != 0 {
            return Err(RecordError::InvalidField("offset delta"));
        }
        let key = read_bytes(record, &mut at)?;
        let key_start = at - key.map_or(0, <[u8]>::len);
        let value = read_bytes(record, &mut at)?;
        let value_start = at - value.map_or(0, <[u8]>::len);
        let header_count = varint::get(record, &mut at)?;
        let headers = if header_count == 0 {
            if at != end {
                return Err(RecordError::InvalidRecordLength);
            }
            Headers::default()
        } else {
            read_headers(&record[at..], header_count)?
        };
        self.at = end;
        Ok(RecordRef {
            offset: self.base_offset.wrapping_add((offset_delta >> 1) as i64),
            timestamp: self
                .base_timestamp
                .wrapping_add(timestamp_delta & self.delta_mask),
            key,
            value,
            headers,
            key_start,
            value_start,
        })
    }

    #[cold]
    fn fail(&mut self, area: &[u8], error: RecordError) -> RecordError {
        let found = self.count - self.left as i32;
        let ran_out = self.at == area.len();
        self.left = 0;
        self.at = area.len();
        if ran_out {
            return RecordError::RecordCountMismatch {
                expected: self.count,
                found,
            };
        }
        error
    }

    #[inline]
    fn end<'a>(&mut self, area: &'a [u8]) -> Option<Result<RecordRef<'a>, RecordError>> {
        if self.at == area.len() {
            return None;
        }
        self.at = area.len();
        Some(Err(RecordError::RecordCountMismatch {
            expected: self.count,
            found: self.count,
        }))
    }
}

/// A length and as many bytes; −1 is null.
#[inline(always)]
fn read_bytes<'a>(record: &'a [u8], at: &mut usize) -> Result<Option<&'a [u8]>, RecordError> {
    let raw = varint::get(record, at)?;
    if raw & 1 != 0 {
        // Zig-zag 1 is −1.
        return if raw == 1 {
            Ok(None)
        } else {
            Err(RecordError::InvalidField("length"))
        };
    }
    let rest = record.get(*at..).unwrap_or_default();
    if (raw >> 1) > rest.len() as u64 {
        return Err(RecordError::InvalidField("length"));
    }
    let length = (raw >> 1) as usize;
    *at += length;
    Ok(Some(&rest[..length]))
}

/// Checks the headers that fill `bytes` to its end.
fn read_headers(bytes: &[u8], raw_count: u64) -> Result<Headers<'_>, RecordError> {
    // The smallest header has an empty key and a null value: two bytes.
    if raw_count & 1 != 0 || (raw_count >> 1) > (bytes.len() / 2) as u64 {
        return Err(RecordError::InvalidField("header count"));
    }
    let count = (raw_count >> 1) as u32;
    let mut at = 0;
    for _ in 0..count {
        if read_bytes(bytes, &mut at)?.is_none() {
            return Err(RecordError::InvalidField("header key"));
        }
        read_bytes(bytes, &mut at)?;
    }
    if at != bytes.len() {
        return Err(RecordError::InvalidRecordLength);
    }
    Ok(Headers { bytes, left: count })
}
