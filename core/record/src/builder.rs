//! Building a batch: every record is encoded straight to where it leaves from.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::crc::{crc32c, crc32c_append, crc32c_combine};
use crate::header::{CRC_START, HEADER_LEN, HeaderBytes, LOG_OVERHEAD, MAGIC_V2};
use crate::varint::{self, zigzag};
use crate::{Attributes, BatchHeader, Codecs, Compression, Header, RecordError, TimestampType};

/// After how many new bytes the checksum catches up, while they are still in the first-level cache.
const HASH_CHUNK: usize = 16 * 1024;

/// Bytes of a record besides key, value and headers, at most: length, attributes, timestamp delta, offset delta, key length,
/// value length.
const MAX_FIXED_LEN: usize = 4 * varint::MAX_LEN_32 + varint::MAX_LEN_64 + 1;
/// The same at least, without the length.
const MIN_FIXED_LEN: u64 = 5;

/// The largest batch that can be built: its length has to fit an `i32`.
pub const MAX_BATCH_LEN: usize = i32::MAX as usize;

/// Where [`BatchBuilder::append`] put a record, in the uncompressed records area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedAt {
    /// Where the record begins.
    pub pos: usize,
    /// Its bytes, the length field included.
    pub len: usize,
}

/// Collects records into one batch. The buffer begins with room for the header, so that nothing has to move at the end.
///
/// No allocation per record: the buffer doubles when it is full, and [`BatchBuilder::with_buffer`] takes one that served
/// before.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Initialised throughout; what lies beyond `at` is room.
    buffer: Vec<u8>,
    at: usize,
    /// The checksum covers the records area up to here.
    hashed: usize,
    crc: u32,
    /// Where the checksum catches up next.
    hash_at: usize,
    count: i32,
    next_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    delete_horizon: Option<i64>,
}

/// What [`BatchBuilder::finish`] writes into the header.
#[derive(Clone, Copy, Debug)]
pub struct FinishOptions {
    /// Codec for the records area. Where it doesn't make the records smaller they stay uncompressed, as librdkafka does.
    pub compression: Compression,
    /// Compression level; `None` is the codec's default. See [`Codecs::compress`] for the ranges.
    pub level: Option<i32>,
    /// Base offset; 0 from clients.
    pub base_offset: i64,
    /// Leader epoch; −1 from clients.
    pub leader_epoch: i32,
    /// Producer id, −1 for none.
    pub producer_id: i64,
    /// Producer epoch, −1 for none.
    pub producer_epoch: i16,
    /// Sequence number of the first record, −1 for none.
    pub base_sequence: i32,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
    /// Whether the batch holds a control record.
    pub control: bool,
    /// Append time that counts for all records (timestamp type LogAppendTime), in ms since the Unix epoch.
    pub log_append_time: Option<i64>,
    /// Last offset delta, if not that of the last record: compaction keeps the one of the original batch. It also allows
    /// a batch without records.
    pub last_offset_delta: Option<i32>,
}

impl Default for FinishOptions {
    fn default() -> Self {
        Self {
            compression: Compression::None,
            level: None,
            base_offset: 0,
            leader_epoch: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
            control: false,
            log_append_time: None,
            last_offset_delta: None,
        }
    }
}

/// A batch, ready to send or append.
#[derive(Clone, Debug)]
pub struct FinishedBatch {
    /// The header, decoded.
    pub header: BatchHeader,
    /// The whole batch, header included. Its allocation is at most twice its length.
    pub encoded: Bytes,
    /// The uncompressed records area; shares memory with `encoded` where that isn't compressed.
    pub plain: Bytes,
    /// The builder's buffer, if the batch didn't need it: for the next [`BatchBuilder::with_buffer`].
    pub spare: Option<Vec<u8>>,
}

impl BatchBuilder {
    /// An empty batch with room for `capacity` bytes, header included.
    pub fn new(capacity: usize) -> Self {
        Self::over(alloc::vec![0; capacity.max(HEADER_LEN)])
    }

    /// An empty batch in the memory of `buffer`, whose contents don't matter.
    ///
    /// All of its capacity is used. Only what lies beyond its length has to be cleared, so a buffer is best passed on as
    /// it came back, not emptied.
    pub fn with_buffer(mut buffer: Vec<u8>) -> Self {
        let len = buffer.capacity().max(HEADER_LEN);
        buffer.resize(len, 0);
        Self::over(buffer)
    }

    fn over(buffer: Vec<u8>) -> Self {
        Self {
            buffer,
            at: HEADER_LEN,
            hashed: HEADER_LEN,
            crc: 0,
            hash_at: HEADER_LEN + HASH_CHUNK,
            count: 0,
            next_delta: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            delete_horizon: None,
        }
    }

    /// Gives the batch a delete horizon (KIP-534), in ms since the Unix epoch: the time from which on compaction may drop
    /// its tombstones, or the batch itself if it is a transaction marker. It takes the place of the base timestamp, from which
    /// the records' timestamps then count. For an empty builder.
    #[must_use]
    pub fn with_delete_horizon(mut self, at: i64) -> Self {
        self.delete_horizon = Some(at);
        self
    }

    /// Leaves the checksum to [`finish`](Self::finish). For a batch that will be compressed, where the checksum of the
    /// plain bytes is of no use.
    #[must_use]
    pub fn without_running_crc(mut self) -> Self {
        self.hash_at = usize::MAX;
        self
    }

    /// Appends a record. `timestamp` is in ms since the Unix epoch, −1 for none.
    ///
    /// [`RecordError::TooLarge`] leaves the batch as it was: the batch would not fit Kafka's 32-bit length.
    #[inline]
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<AppendedAt, RecordError> {
        self.append_with_delta(self.next_delta, timestamp, key, value, headers)
    }

    /// Appends a record at an offset of its own: `offset_delta` from the base offset, at least one more than the last
    /// record's. Compaction, which leaves gaps, needs it.
    #[inline]
    pub fn append_with_delta(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<AppendedAt, RecordError> {
        if self.count == 0 {
            self.base_timestamp = self.delete_horizon.unwrap_or(timestamp);
            self.max_timestamp = timestamp;
        }
        let (key_raw, key) = nullable(key);
        let (value_raw, value) = nullable(value);
        let headers_len = if headers.is_empty() {
            1
        } else {
            size_of_headers(headers)
        };
        // In u64: on a 32-bit machine the sum may pass usize.
        let payload = key.len() as u64 + value.len() as u64 + headers_len;
        let room = (self.at + MAX_FIXED_LEN) as u64 + payload;
        let wrong_delta = offset_delta < self.next_delta || offset_delta == i32::MAX;
        if room > self.buffer.len() as u64 || wrong_delta {
            self.make_room(room, offset_delta)?;
        }

        let start = self.at;
        let out = &mut self.buffer[start..];
        // The length in front is as wide as the smallest length possible; only when the deltas push it over a power of
        // two the record has to move. That is cheaper than to size everything first.
        let width = varint::len_of((payload + MIN_FIXED_LEN) << 1);
        let mut at = width;
        out[at] = 0;
        at += 1;
        at = varint::put(out, at, zigzag(timestamp.wrapping_sub(self.base_timestamp)));
        at = varint::put(out, at, zigzag(offset_delta as i64));
        at = varint::put(out, at, key_raw);
        if !key.is_empty() {
            at = put_bytes(out, at, key);
        }
        at = varint::put(out, at, value_raw);
        at = put_bytes(out, at, value);
        if headers.is_empty() {
            out[at] = 0;
            at += 1;
        } else {
            at = put_headers(out, at, headers);
        }
        let length = ((at - width) as u64) << 1;
        if length >> (7 * width) == 0 {
            varint::put(out, 0, length);
        } else {
            at = put_wider_length(out, width, at);
        }

        self.at = start + at;
        self.count += 1;
        self.next_delta = offset_delta.wrapping_add(1);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        if self.at >= self.hash_at {
            self.hash_chunk();
        }
        Ok(AppendedAt {
            pos: start - HEADER_LEN,
            len: at,
        })
    }

    /// The rare part of an append: the limits, and a larger buffer.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, room: u64, offset_delta: i32) -> Result<(), RecordError> {
        if offset_delta < self.next_delta {
            return Err(RecordError::InvalidField("offset delta"));
        }
        // A delta of i32::MAX is never given out, so that the one after it exists.
        if room > MAX_BATCH_LEN as u64 || offset_delta == i32::MAX {
            return Err(RecordError::TooLarge);
        }
        let len = (room as usize).max((self.buffer.len() * 2).min(MAX_BATCH_LEN));
        self.buffer.reserve_exact(len - self.buffer.len());
        self.buffer.resize(len, 0);
        Ok(())
    }

    #[inline(never)]
    fn hash_chunk(&mut self) {
        self.crc = crc32c_append(self.crc, &self.buffer[self.hashed..self.at]);
        self.hashed = self.at;
        self.hash_at = self.at + HASH_CHUNK;
    }

    /// Bytes of the batch so far, header included, not compressed.
    #[inline]
    pub fn len(&self) -> usize {
        self.at
    }

    /// Whether no record was appended yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Records appended so far.
    #[inline]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes that the batch may have before its buffer has to grow.
    pub fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// Timestamp of the first record; −1 before there is one.
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// Largest timestamp so far; −1 before there is a record.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// The records area so far.
    pub fn plain(&self) -> &[u8] {
        &self.buffer[HEADER_LEN..self.at]
    }

    /// Gives up the batch and hands out its buffer for the next [`with_buffer`](Self::with_buffer).
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// An upper bound of the bytes that a record takes: at most 23 too many with timestamps within 2^41 ms (70 years)
    /// of the first one.
    #[inline]
    pub fn size_of_record(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> usize {
        let headers = if headers.is_empty() {
            1
        } else {
            usize::try_from(size_of_headers(headers)).unwrap_or(usize::MAX)
        };
        (key.map_or(0, <[u8]>::len))
            .saturating_add(value.map_or(0, <[u8]>::len))
            .saturating_add(headers)
            .saturating_add(MAX_FIXED_LEN)
    }

    /// Writes the header and hands out the batch. Builds its codec's state anew; a loop wants
    /// [`finish_with`](Self::finish_with).
    pub fn finish(self, options: &FinishOptions) -> Result<FinishedBatch, RecordError> {
        self.finish_with(&mut Codecs::new(), options)
    }

    /// Writes the header and hands out the batch.
    ///
    /// Errors: [`RecordError::Empty`]; [`RecordError::CompressionNotBuilt`]. A codec that fails leaves the batch
    /// uncompressed.
    pub fn finish_with(
        mut self,
        codecs: &mut Codecs,
        options: &FinishOptions,
    ) -> Result<FinishedBatch, RecordError> {
        if self.count == 0 && options.last_offset_delta.is_none() {
            return Err(RecordError::Empty);
        }
        if !options.compression.is_built() {
            return Err(RecordError::CompressionNotBuilt(options.compression));
        }
        if options.compression != Compression::None
            && let Some(finished) = self.finish_compressed(codecs, options)
        {
            return Ok(finished);
        }
        let mut header = self.header(options, Compression::None, self.at);
        let mut raw = header.to_bytes();
        let head = crc32c(&raw[CRC_START..]);
        let hashed = crc32c_combine(head, self.crc, self.hashed - HEADER_LEN);
        header.crc = crc32c_append(hashed, &self.buffer[self.hashed..self.at]);
        set_crc(&mut raw, header.crc);
        self.buffer[..HEADER_LEN].copy_from_slice(&raw);
        // A batch lives as long as a log in memory keeps it, or a queue: it must not hold on to a large, mostly empty
        // buffer.
        let (encoded, spare) = if self.buffer.capacity() / 2 > self.at {
            (
                Bytes::copy_from_slice(&self.buffer[..self.at]),
                Some(self.buffer),
            )
        } else {
            self.buffer.truncate(self.at);
            (Bytes::from(self.buffer), None)
        };
        Ok(FinishedBatch {
            header,
            plain: encoded.slice(HEADER_LEN..),
            encoded,
            spare,
        })
    }

    /// `None` if the codec failed or didn't make the records smaller. `self.buffer` is only taken on success.
    fn finish_compressed(
        &mut self,
        codecs: &mut Codecs,
        options: &FinishOptions,
    ) -> Option<FinishedBatch> {
        let mut out = codecs.take_scratch();
        out.resize(HEADER_LEN, 0);
        let plain = &self.buffer[HEADER_LEN..self.at];
        let done = codecs.compress(options.compression, options.level, plain, &mut out);
        if done.is_err() || out.len() >= self.at {
            codecs.keep_scratch(out);
            return None;
        }
        let mut header = self.header(options, options.compression, out.len());
        let mut raw = header.to_bytes();
        header.crc = crc32c_append(crc32c(&raw[CRC_START..]), &out[HEADER_LEN..]);
        set_crc(&mut raw, header.crc);
        out[..HEADER_LEN].copy_from_slice(&raw);
        let encoded = Bytes::copy_from_slice(&out);
        codecs.keep_scratch(out);
        let mut buffer = core::mem::take(&mut self.buffer);
        buffer.truncate(self.at);
        Some(FinishedBatch {
            header,
            encoded,
            plain: Bytes::from(buffer).slice(HEADER_LEN..),
            spare: None,
        })
    }

    fn header(&self, options: &FinishOptions, codec: Compression, len: usize) -> BatchHeader {
        BatchHeader {
            base_offset: options.base_offset,
            batch_length: (len - LOG_OVERHEAD) as i32,
            partition_leader_epoch: options.leader_epoch,
            magic: MAGIC_V2,
            crc: 0,
            attributes: Attributes::default()
                .with_compression(codec)
                .with_timestamp_type(match options.log_append_time {
                    Some(_) => TimestampType::LogAppendTime,
                    None => TimestampType::CreateTime,
                })
                .with_transactional(options.transactional)
                .with_control(options.control)
                .with_delete_horizon(self.delete_horizon.is_some()),
            last_offset_delta: options
                .last_offset_delta
                .unwrap_or(self.next_delta.saturating_sub(1)),
            base_timestamp: self.base_timestamp,
            max_timestamp: options.log_append_time.unwrap_or(self.max_timestamp),
            producer_id: options.producer_id,
            producer_epoch: options.producer_epoch,
            base_sequence: options.base_sequence,
            record_count: self.count,
        }
    }
}

fn set_crc(raw: &mut HeaderBytes, crc: u32) {
    raw[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// The zig-zagged length (1, that is −1, for null) and the bytes.
#[inline(always)]
fn nullable(bytes: Option<&[u8]>) -> (u64, &[u8]) {
    match bytes {
        Some(bytes) => ((bytes.len() as u64) << 1, bytes),
        None => (1, &[]),
    }
}

#[inline(always)]
fn put_bytes(out: &mut [u8], at: usize, bytes: &[u8]) -> usize {
    let end = at + bytes.len();
    out[at..end].copy_from_slice(bytes);
    end
}

/// Moves the record's contents from `width` up by a byte, so that its length fits in front. Returns its new end.
#[cold]
fn put_wider_length(out: &mut [u8], width: usize, end: usize) -> usize {
    let length = ((end - width) as u64) << 1;
    let wider = varint::len_of(length);
    out.copy_within(width..end, wider);
    varint::put(out, 0, length);
    end + wider - width
}

fn size_of_headers(headers: &[Header<'_>]) -> u64 {
    let mut size = varint::len_of((headers.len() as u64) << 1) as u64;
    for header in headers {
        let (value_raw, value) = nullable(header.value);
        let lengths = varint::len_of((header.key.len() as u64) << 1) + varint::len_of(value_raw);
        // Each part is below 2^63, their sum over many headers need not be.
        size = size
            .saturating_add(lengths as u64)
            .saturating_add(header.key.len() as u64)
            .saturating_add(value.len() as u64);
    }
    // A bound far above any batch, so that the caller's sums stay small.
    size.min(1 << 40)
}

fn put_headers(out: &mut [u8], at: usize, headers: &[Header<'_>]) -> usize {
    let mut at = varint::put(out, at, (headers.len() as u64) << 1);
    for header in headers {
        at = varint::put(out, at, (header.key.len() as u64) << 1);
        at = put_bytes(out, at, header.key);
        let (value_raw, value) = nullable(header.value);
        at = varint::put(out, at, value_raw);
        at = put_bytes(out, at, value);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RecordBatch, Records};

    fn read_back(finished: &FinishedBatch) -> Vec<(i64, i64, usize, usize)> {
        let batch = RecordBatch::parse(finished.encoded.clone()).unwrap();
        batch.check_crc().unwrap();
        assert_eq!(batch.header(), &finished.header);
        Records::new(&finished.header, &finished.plain)
            .unwrap()
            .map(|record| {
                let record = record.unwrap();
                let len = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
                (
                    record.offset,
                    record.timestamp,
                    len(record.key),
                    len(record.value),
                )
            })
            .collect()
    }

    #[test]
    fn exact_bytes() {
        // Attributes to record count and the record as in the protocol's description, written out by hand.
        let mut builder = BatchBuilder::new(0);
        let headers = [Header::new("h", Some(b"x"))];
        let at = builder
            .append(1000, Some(b"k"), Some(b"vv"), &headers)
            .unwrap();
        assert_eq!((at.pos, at.len), (0, 14));
        let finished = builder
            .finish(&FinishOptions {
                producer_id: 9,
                producer_epoch: 1,
                base_sequence: 4,
                ..FinishOptions::default()
            })
            .unwrap();
        let record = [26, 0, 0, 0, 2, b'k', 4, b'v', b'v', 2, 2, b'h', 2, b'x'];
        assert_eq!(&finished.plain[..], record);
        let mut tail = Vec::new();
        tail.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
        tail.extend_from_slice(&1000i64.to_be_bytes());
        tail.extend_from_slice(&1000i64.to_be_bytes());
        tail.extend_from_slice(&9i64.to_be_bytes());
        tail.extend_from_slice(&[0, 1, 0, 0, 0, 4, 0, 0, 0, 1]);
        tail.extend_from_slice(&record);
        assert_eq!(&finished.encoded[21..], &tail[..]);
        let mut head = alloc::vec![0u8; 8];
        head.extend_from_slice(&(tail.len() as i32 + 9).to_be_bytes());
        head.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 2]);
        head.extend_from_slice(&crc32c(&tail).to_be_bytes());
        assert_eq!(&finished.encoded[..21], &head[..]);
    }

    #[test]
    fn running_checksum_equals_the_late_one() {
        let value = [7u8; 900];
        for count in [1, 17, 18, 19, 40, 400] {
            let fill = |mut builder: BatchBuilder| {
                for i in 0..count {
                    builder.append(i, None, Some(&value), &[]).unwrap();
                }
                builder.finish(&FinishOptions::default()).unwrap()
            };
            let running = fill(BatchBuilder::new(100));
            let late = fill(BatchBuilder::new(100).without_running_crc());
            assert_eq!(running.encoded, late.encoded);
            assert_eq!(read_back(&running).len(), count as usize);
        }
    }

    #[test]
    fn length_grows_past_its_guessed_width() {
        // Around every power of two of the length, with deltas of several widths.
        for around in [50usize, 8180, 1_048_560] {
            let value = alloc::vec![1u8; around + 40];
            for len in around - 20..around + 30 {
                let mut builder = BatchBuilder::new(100);
                builder.append(0, None, None, &[]).unwrap();
                for (delta, timestamp) in [(1, 0), (70, 70), (9000, 1 << 20), (9001, 1 << 50)] {
                    builder
                        .append_with_delta(delta, timestamp, None, Some(&value[..len]), &[])
                        .unwrap();
                }
                let finished = builder.finish(&FinishOptions::default()).unwrap();
                let read = read_back(&finished);
                assert_eq!(read[2], (70, 70, 0, len));
                assert_eq!(read[4], (9001, 1 << 50, 0, len));
                assert_eq!(finished.header.max_timestamp, 1 << 50);
            }
        }
    }

    #[test]
    fn buffers_come_back() {
        let mut builder = BatchBuilder::new(100_000);
        builder.append(0, None, Some(b"small"), &[]).unwrap();
        let finished = builder.finish(&FinishOptions::default()).unwrap();
        let spare = finished.spare.unwrap();
        assert!(spare.capacity() >= 100_000 && finished.encoded.len() < 100);
        let mut builder = BatchBuilder::with_buffer(spare);
        assert_eq!((builder.len(), builder.capacity() >= 100_000), (61, true));
        let value = [1; 1000];
        while builder.len() < 60_000 {
            builder.append(0, None, Some(&value), &[]).unwrap();
        }
        let before = builder.capacity();
        let finished = builder.finish(&FinishOptions::default()).unwrap();
        assert!(finished.spare.is_none() && finished.encoded.len() * 2 > before);
        // An emptied or tiny buffer will do as well.
        for buffer in [Vec::new(), Vec::with_capacity(3), alloc::vec![9; 200]] {
            let mut builder = BatchBuilder::with_buffer(buffer);
            builder.append(0, None, Some(&value), &[]).unwrap();
            let finished = builder.finish(&FinishOptions::default()).unwrap();
            assert_eq!(read_back(&finished), [(0, 0, 0, 1000)]);
        }
    }

    #[test]
    fn refused_records_change_nothing() {
        let mut builder = BatchBuilder::new(0);
        builder.append(1, None, None, &[]).unwrap();
        let before = builder.len();
        // 1 GiB of headers three times over, from the same small memory.
        let large = alloc::vec![0u8; 1 << 20];
        let headers = alloc::vec![Header { key: b"h", value: Some(&large) }; 3000];
        assert_eq!(
            builder.append(2, None, None, &headers),
            Err(RecordError::TooLarge)
        );
        assert_eq!(
            builder.append_with_delta(0, 2, None, None, &[]),
            Err(RecordError::InvalidField("offset delta"))
        );
        assert!(
            builder
                .append_with_delta(i32::MAX, 2, None, None, &[])
                .is_err()
        );
        assert_eq!((builder.len(), builder.count()), (before, 1));
        assert_eq!((builder.base_timestamp(), builder.max_timestamp()), (1, 1));
        let empty = BatchBuilder::new(0);
        assert!(empty.is_empty());
        assert!(matches!(
            empty.finish(&FinishOptions::default()),
            Err(RecordError::Empty)
        ));
    }

    #[test]
    fn size_of_record_is_a_bound() {
        let value = [0; 300];
        for (key, headers) in [
            (None, &[][..]),
            (Some(&b"key"[..]), &[Header::new("a", None)][..]),
        ] {
            let mut builder = BatchBuilder::new(0);
            builder.append(0, None, None, &[]).unwrap();
            let at = builder
                .append_with_delta(i32::MAX - 1, i64::MAX, key, Some(&value), headers)
                .unwrap();
            assert!(at.len <= BatchBuilder::size_of_record(key, Some(&value), headers));
        }
    }

    #[test]
    fn empty_batches_for_compaction() {
        let finished = BatchBuilder::new(0)
            .finish(&FinishOptions {
                base_offset: 10,
                last_offset_delta: Some(4),
                ..FinishOptions::default()
            })
            .unwrap();
        assert_eq!(finished.encoded.len(), HEADER_LEN);
        assert_eq!(finished.header.base_timestamp, -1);
        assert_eq!(finished.header.last_offset(), 14);
        assert!(read_back(&finished).is_empty());
    }

    #[test]
    fn a_delete_horizon_takes_the_place_of_the_base_timestamp() {
        for compression in [Compression::None, Compression::Gzip] {
            let mut builder = BatchBuilder::new(0).with_delete_horizon(9_000);
            for timestamp in [5, 3, 10_000] {
                builder.append(timestamp, Some(b"key"), None, &[]).unwrap();
            }
            let options = FinishOptions {
                compression,
                ..FinishOptions::default()
            };
            let header = builder.finish(&options).unwrap();
            assert_eq!(header.header.delete_horizon(), Some(9_000));
            assert_eq!(header.header.max_timestamp, 10_000);
            let batch = crate::RecordBatch::parse(header.encoded).unwrap();
            batch.check_crc().unwrap();
            let mut records = batch.records(crate::Limits::default()).unwrap();
            for timestamp in [5, 3, 10_000] {
                let record = records.next_record().unwrap().unwrap();
                assert_eq!((record.timestamp, record.value), (timestamp, None));
            }
        }
    }

    #[test]
    fn compression_that_does_not_pay_is_left_out() {
        for compression in Compression::ALL {
            let options = FinishOptions {
                compression,
                ..FinishOptions::default()
            };
            let mut builder = BatchBuilder::new(0);
            builder.append(0, None, Some(b"x"), &[]).unwrap();
            let finished = builder.finish(&options).unwrap();
            assert!(!finished.header.attributes.is_compressed());
            let mut builder = BatchBuilder::new(0).without_running_crc();
            builder.append(0, None, Some(&[0; 10_000]), &[]).unwrap();
            let finished = builder.finish(&options).unwrap();
            assert_eq!(finished.header.attributes.compression(), Ok(compression));
            assert_eq!(read_back(&finished), [(0, 0, 0, 10_000)]);
        }
    }
}
