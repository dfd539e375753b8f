//! Reading the records of a batch: borrowed, checked, without an allocation.

use core::fmt;
use core::ops::Range;

use bytes::Bytes;

use crate::{BatchHeader, RecordError, TimestampType, varint};

/// Bytes of the smallest record: length, attributes, two deltas, null key, null value, header count.
pub(crate) const MIN_RECORD_LEN: usize = 7;
/// Bytes that a processor fetches together.
const LINE: usize = 64;
/// A search by time asks for so much memory at once at least (and not at all if there is less), and at most.
const TOUCH_LEAST: usize = 8 << 10;
const TOUCH_MOST: usize = 64 << 10;
/// What is asked for behind the expected place.
const TOUCH_MORE: usize = 256;

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
}

/// Where `part`, a key or value or header of a record, lies in `area`, the records area that it was read from: so that a
/// caller can keep places instead of borrowed slices. `None` if it lies elsewhere.
#[inline]
pub fn range_in(area: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(area.as_ptr() as usize)?;
    (start + part.len() <= area.len()).then(|| start..start + part.len())
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
    /// The headers that are left, without their count.
    bytes: &'a [u8],
}

impl Headers<'_> {
    /// Whether there are none (left).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    #[inline]
    fn next(&mut self) -> Option<Header<'a>> {
        if self.bytes.is_empty() {
            return None;
        }
        let mut at = 0;
        let key = read_bytes(self.bytes, &mut at).ok()??;
        let value = read_bytes(self.bytes, &mut at).ok()?;
        self.bytes = self.bytes.get(at..)?;
        Some(Header { key, value })
    }
}

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
    #[inline(always)] // the compiler finds it too large, and then every record goes through memory twice
    pub fn next_record(&mut self) -> Option<Result<RecordRef<'_>, RecordError>> {
        self.cursor.next(&self.area)
    }

    /// Passes over the records before the first one whose timestamp is at least `timestamp`, and reads no more of them than their
    /// lengths and times. A record of unusual form, or a wrong one, is left to [`next_record`](Self::next_record): call the two in turn.
    pub fn skip_before(&mut self, timestamp: i64) {
        self.cursor.skip_before(&self.area, timestamp);
    }

    /// The uncompressed records area; see [`range_in`].
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

    #[inline(always)]
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
    /// How far the largest timestamp lies from the base.
    span: i64,
    /// Up to where [`Cursor::skip_before`] has asked for the records area.
    touched: usize,
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
            span: header.max_timestamp.saturating_sub(base_timestamp),
            touched: 0,
        })
    }

    #[inline(always)]
    fn next<'a>(&mut self, area: &'a [u8]) -> Option<Result<RecordRef<'a>, RecordError>> {
        if self.left == 0 {
            return self.end(area);
        }
        let record = match self.read_usual(area) {
            Some(record) => record,
            None => match self.read(area) {
                Ok(record) => record,
                Err(error) => return Some(Err(self.fail(area, error))),
            },
        };
        self.left -= 1;
        Some(Ok(record))
    }

    /// What it costs is waiting for memory, so two things let the processor go ahead of what it has: lines are asked for many at a
    /// time, up to where the record is expected if times rise evenly; and a record that has the length of the one before leads to
    /// the next without a look at its length first.
    fn skip_before(&mut self, area: &[u8], timestamp: i64) {
        let base = self.base_timestamp;
        let wanted = match timestamp.checked_sub(base) {
            // Sums of the base and a delta of four bytes must not wrap.
            Some(wanted) if base.unsigned_abs() < 1 << 62 => wanted,
            _ => return,
        };
        let expected = match self.span > 0 && (0..=self.span).contains(&wanted) {
            true => (area.len() as f64 * (wanted as f64 / self.span as f64)) as usize + TOUCH_MORE,
            false => 0,
        };
        let (mut length_mask, mut length_bytes) = (0, 1); // no word fits at first
        let (mut step, mut length_bits) = (0, 0);
        while self.left > 0 {
            if self.at >= self.touched && area.len() > TOUCH_LEAST {
                let to = expected
                    .max(self.at + TOUCH_LEAST)
                    .min(self.at + TOUCH_MOST);
                touch(area, self.at, to);
                self.touched = to;
            }
            let Some(head) = area.get(self.at..).and_then(|rest| rest.first_chunk()) else {
                return;
            };
            let word = u64::from_le_bytes(*head);
            if word & length_mask != length_bytes {
                let Some((length, bytes)) = varint_in(word) else {
                    return;
                };
                // The shortest record has more than this behind its length; odd is negative.
                if bytes > 3 || length & 1 != 0 || length < 12 {
                    return;
                }
                length_bits = bytes * 8;
                length_mask = (1 << length_bits) - 1;
                length_bytes = word & length_mask;
                step = bytes as usize + (length >> 1) as usize;
            }
            // Behind the attributes.
            let Some((delta, _)) = varint_in(word >> (length_bits + 8)) else {
                return;
            };
            let delta = varint::unzigzag(delta) & self.delta_mask;
            let end = self.at + step;
            if delta >= wanted || end > area.len() {
                return;
            }
            self.at = end;
            self.left -= 1;
        }
    }

    /// Reads a record whose lengths and deltas take at most three bytes each, and behind whose begin 16 bytes can be read:
    /// nearly all, and with fewer checks. `None` sends the rest, and whatever is wrong, to
    /// [`read`](Self::read).
    #[inline(always)]
    fn read_usual<'a>(&mut self, area: &'a [u8]) -> Option<RecordRef<'a>> {
        let start = self.at;
        let head = area.get(start..)?.first_chunk::<16>()?;
        let mut at = 0;
        let length = short_varint(head, &mut at)?;
        let end = start + at + (length >> 1) as usize;
        at += 1;
        let timestamp_delta = short_varint(head, &mut at)?;
        let offset_delta = short_varint(head, &mut at)?;
        let key_raw = short_varint(head, &mut at)?;
        let record = area.get(..end)?;
        // Odd is negative.
        if (length | offset_delta) & 1 != 0 {
            return None;
        }
        let mut at = start + at;
        let key = if key_raw == 1 {
            None
        } else {
            if key_raw & 1 != 0 {
                return None;
            }
            let key = record.get(at..)?.get(..(key_raw >> 1) as usize)?;
            at += key.len();
            Some(key)
        };
        let value = read_bytes(record, &mut at).ok()?;
        let headers = if at + 1 == end && record[at] == 0 {
            Headers::default()
        } else {
            read_headers(record, at).ok()?
        };
        self.at = end;
        Some(RecordRef {
            offset: self.base_offset.wrapping_add((offset_delta >> 1) as i64),
            timestamp: self
                .base_timestamp
                .wrapping_add(varint::unzigzag(timestamp_delta as u64) & self.delta_mask),
            key,
            value,
            headers,
        })
    }

    #[inline(never)]
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
        let value = read_bytes(record, &mut at)?;
        let headers = read_headers(record, at)?;
        self.at = end;
        Ok(RecordRef {
            offset: self.base_offset.wrapping_add((offset_delta >> 1) as i64),
            timestamp: self
                .base_timestamp
                .wrapping_add(timestamp_delta & self.delta_mask),
            key,
            value,
            headers,
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

/// Asks for all lines of a part of the records area at once, and waits for them.
#[inline(never)]
fn touch(area: &[u8], from: usize, to: usize) {
    let (mut at, end, mut sum) = (from, to.min(area.len()), 0);
    while at < end {
        sum ^= area[at];
        at += LINE;
    }
    core::hint::black_box(sum);
}

/// A varint of up to four bytes at the beginning (the low end) of a word, with the number of its bytes; `None` if it is longer.
#[inline(always)]
fn varint_in(word: u64) -> Option<(u64, u32)> {
    let one = word & 0x7f;
    if word & 0x80 == 0 {
        return Some((one, 1));
    }
    let two = one | (word >> 1) & 0x3f80;
    if word & 0x8000 == 0 {
        return Some((two, 2));
    }
    let three = two | (word >> 2) & 0x1f_c000;
    if word & 0x80_0000 == 0 {
        return Some((three, 3));
    }
    let four = three | (word >> 3) & 0xfe0_0000;
    (word & 0x8000_0000 == 0).then_some((four, 4))
}

/// A varint of up to three bytes in the head of a record; `None` if it is longer. Five of them at most are read from one
/// head, which is what the masks say to the compiler.
#[inline(always)]
fn short_varint(head: &[u8; 16], at: &mut usize) -> Option<u32> {
    let first = head[*at & 15] as u32;
    *at += 1;
    if first < 0x80 {
        return Some(first);
    }
    let second = head[*at & 15] as u32;
    *at += 1;
    if second < 0x80 {
        return Some(first & 0x7f | second << 7);
    }
    let third = head[*at & 15] as u32;
    *at += 1;
    if third < 0x80 {
        return Some(first & 0x7f | (second & 0x7f) << 7 | third << 14);
    }
    None
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

/// Checks the headers, whose count is at `at`, and that the record ends with them.
#[inline(never)]
fn read_headers(record: &[u8], mut at: usize) -> Result<Headers<'_>, RecordError> {
    let raw_count = varint::get(record, &mut at)?;
    let bytes = record.get(at..).unwrap_or_default();
    // The smallest header has an empty key and a null value: two bytes.
    if raw_count & 1 != 0 || (raw_count >> 1) > (bytes.len() / 2) as u64 {
        return Err(RecordError::InvalidField("header count"));
    }
    let mut at = 0;
    for _ in 0..raw_count >> 1 {
        if read_bytes(bytes, &mut at)?.is_none() {
            return Err(RecordError::InvalidField("header key"));
        }
        read_bytes(bytes, &mut at)?;
    }
    if at != bytes.len() {
        return Err(RecordError::InvalidRecordLength);
    }
    Ok(Headers { bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchBuilder, FinishOptions};
    use alloc::vec::Vec;

    fn batch_of(count: i32, area: &[u8]) -> Result<Vec<i64>, RecordError> {
        let mut header = BatchBuilder::new(0)
            .finish(&FinishOptions {
                base_offset: 100,
                last_offset_delta: Some(0),
                ..FinishOptions::default()
            })
            .unwrap()
            .header;
        header.record_count = count;
        let mut offsets = Vec::new();
        for record in Records::new(&header, area)? {
            offsets.push(record?.offset);
        }
        Ok(offsets)
    }

    /// Length 6, attributes, deltas 0 and `delta`, null key, null value, no headers.
    fn smallest(delta: u8) -> [u8; 7] {
        [12, 0, 0, delta * 2, 1, 1, 0]
    }

    #[test]
    fn smallest_records() {
        let area = [smallest(0), smallest(1), smallest(5)].concat();
        assert_eq!(batch_of(3, &area), Ok(alloc::vec![100, 101, 105]));
        assert_eq!(batch_of(0, &[]), Ok(Vec::new()));
    }

    #[test]
    fn count_must_match() {
        let area = [smallest(0), smallest(1), smallest(2)].concat();
        for count in [-1, 0, 1, 2, 4, i32::MAX] {
            assert!(
                matches!(
                    batch_of(count, &area),
                    Err(RecordError::RecordCountMismatch { .. })
                ),
                "{count}"
            );
        }
    }

    #[test]
    fn malformed_records() {
        // The same bytes alone, and with so much after them that the short way of reading is tried first.
        let malformed: [&[u8]; 9] = [
            &[14, 0, 0, 0, 1, 1, 0],          // longer than the bytes
            &[10, 0, 0, 0, 1, 1, 0],          // shorter than its contents
            &[11, 0, 0, 0, 1, 1, 0],          // negative length
            &[12, 0, 0, 1, 1, 1, 0],          // negative offset delta
            &[12, 0, 0, 0, 3, 1, 0],          // key of length −2
            &[12, 0, 0, 0, 1, 3, 0],          // value of length −2
            &[12, 0, 0, 0, 1, 1, 1],          // −1 headers
            &[12, 0, 0, 0, 1, 1, 2],          // one header, not there
            &[14, 0, 0, 0, 1, 1, 2, 1, 1, 0], // header with a null key
        ];
        for bytes in malformed {
            assert!(batch_of(1, bytes).is_err(), "{bytes:?}");
            let followed = [bytes, &smallest(1), &smallest(2), &smallest(3)].concat();
            assert!(batch_of(4, &followed).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn headers_and_ranges() {
        let mut builder = BatchBuilder::new(0);
        let headers = [
            Header::new("a", Some(b"1")),
            Header::new("a", None),
            Header {
                key: b"\xff",
                value: Some(b""),
            },
        ];
        builder.append(5, Some(b"key"), None, &headers).unwrap();
        builder.append(6, None, Some(b"value"), &[]).unwrap();
        let finished = builder.finish(&FinishOptions::default()).unwrap();
        let mut records = RecordIter::new(&finished.header, finished.plain).unwrap();
        let area = records.area().clone();
        let record = records.next_record().unwrap().unwrap();
        assert!(record.headers.eq(headers));
        let read: Vec<_> = record.headers.map(|header| header.key_str()).collect();
        assert_eq!(read, [Some("a"), Some("a"), None]);
        assert_eq!((record.value, record.headers.is_empty()), (None, false));
        let key = range_in(&area, record.key.unwrap()).unwrap();
        assert_eq!(&area[key], b"key");
        let record = records.next_record().unwrap().unwrap();
        let value = range_in(&area, record.value.unwrap()).unwrap();
        assert_eq!(&area[value], b"value");
        assert_eq!(record.headers.count(), 0);
        assert_eq!(range_in(&area, &[1, 2, 3]), None);
        assert_eq!((records.remaining(), records.position()), (0, area.len()));
        assert!(records.next_record().is_none());
    }

    #[test]
    fn skipping_to_a_time_is_like_reading_up_to_it() {
        let times = [5i64, 3, 9, 9, 200, 70_000, 4, 1 << 40, 12, 12];
        for (long, append_time) in [(0, None), (300, None), (70_000, None), (3, Some(77))] {
            let mut builder = crate::BatchBuilder::new(64);
            for time in times {
                let value = alloc::vec![b'v'; long];
                builder
                    .append(time, Some(b"key"), Some(&value), &[])
                    .unwrap();
            }
            let options = crate::FinishOptions {
                log_append_time: append_time,
                ..crate::FinishOptions::default()
            };
            let done = builder.finish(&options).unwrap();
            let area = done.encoded.slice(crate::HEADER_LEN..);
            for target in [-1, 0, 3, 4, 5, 9, 10, 77, 78, 201, 70_000, 1 << 41] {
                let all = RecordIter::new(&done.header, area.clone()).unwrap();
                let (mut skipping, mut reading) = (all.clone(), all);
                let first = |iter: &mut RecordIter, skip: bool| loop {
                    if skip {
                        iter.skip_before(target);
                    }
                    let record = iter.next_record()?;
                    let record = record.unwrap();
                    if record.timestamp >= target {
                        return Some((record.offset, record.timestamp));
                    }
                };
                assert_eq!(first(&mut skipping, true), first(&mut reading, false));
                assert_eq!(skipping.remaining(), reading.remaining());
            }
        }
    }

    /// What both find: the first record that is late enough, or the error before it; and how many are left.
    fn skipped_and_read(header: &BatchHeader, area: &Bytes, target: i64) {
        let all = RecordIter::new(header, area.clone()).unwrap();
        let first = |mut iter: RecordIter, skip: bool| loop {
            if skip {
                iter.skip_before(target);
            }
            let found = match iter.next_record() {
                Some(Ok(record)) if record.timestamp < target => continue,
                Some(Ok(record)) => Some(Ok((record.offset, record.timestamp))),
                Some(Err(error)) => Some(Err(error)),
                None => None,
            };
            return (found, iter.remaining());
        };
        assert_eq!(first(all.clone(), true), first(all, false), "{target}");
    }

    #[test]
    fn skipping_in_large_batches_is_like_reading() {
        let mut random = 1u64;
        let mut below = |n: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % n
        };
        for (first, spread, uneven) in [
            (1000i64, 1, false),
            (1_700_000_000_000, 3, true),
            (0, 100_000, true),
            (-5, 1 << 40, true),
            (i64::MAX - 5000, 1, true),
            (i64::MIN + 5000, 2, false),
        ] {
            let mut builder = BatchBuilder::new(64);
            let mut times = Vec::new();
            for i in 0..1200i64 {
                let back = if uneven { below(5) as i64 } else { 0 };
                times.push(first + i.saturating_mul(spread).min(4000.max(spread)) - back);
                let long = if uneven { below(200) as usize } else { 100 };
                let value = alloc::vec![b'v'; long];
                builder
                    .append(times[i as usize], None, Some(&value), &[])
                    .unwrap();
            }
            let done = builder.finish(&FinishOptions::default()).unwrap();
            let area = done.encoded.slice(crate::HEADER_LEN..);
            assert!(area.len() > TOUCH_MOST);
            for at in [0, 1, 2, 63, 64, 65, 127, 128, 129, 600, 1198, 1199] {
                for off in [-1, 0, 1] {
                    skipped_and_read(&done.header, &area, times[at].saturating_add(off));
                }
            }
            skipped_and_read(&done.header, &area, i64::MIN);
            skipped_and_read(&done.header, &area, i64::MAX);
            // The header may lie, and so may any byte.
            let mut header = done.header;
            for max_timestamp in [i64::MIN, 0, first, first + 1, i64::MAX] {
                header.max_timestamp = max_timestamp;
                skipped_and_read(&header, &area, times[700]);
            }
        }
    }

    /// Where a record's bytes are wrong, the walk ends with that record at the latest, wherever else it may lead: what lies before the
    /// record that is found is not read but for its lengths and times.
    #[test]
    fn skipping_over_damage_stays_inside() {
        let mut builder = BatchBuilder::new(64);
        for i in 0..40i64 {
            builder.append(i, None, Some(&[b'v'; 20]), &[]).unwrap();
        }
        let done = builder.finish(&FinishOptions::default()).unwrap();
        let whole = done.encoded.slice(crate::HEADER_LEN..).to_vec();
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff, whole[at] ^ 2] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                let mut iter = RecordIter::new(&done.header, damaged.into()).unwrap();
                let mut steps = 0;
                loop {
                    iter.skip_before(39);
                    assert!(iter.position() <= whole.len());
                    match iter.next_record() {
                        Some(Ok(_)) => steps += 1,
                        _ => break,
                    }
                    assert!(steps <= 40);
                }
            }
        }
    }

    #[test]
    fn append_time_replaces_all_timestamps() {
        let mut builder = BatchBuilder::new(0);
        builder.append(5, None, None, &[]).unwrap();
        builder.append(1 << 40, None, None, &[]).unwrap();
        let options = FinishOptions {
            log_append_time: Some(77),
            ..FinishOptions::default()
        };
        let finished = builder.finish(&options).unwrap();
        let records = Records::new(&finished.header, &finished.plain).unwrap();
        assert!(
            records
                .into_iter()
                .all(|record| record.unwrap().timestamp == 77)
        );
    }
}
