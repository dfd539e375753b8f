//! A batch as it lies in a log or a message, and finding batches in a rope of chunks.

use alloc::vec::Vec;

use bytes::{Buf, Bytes};

use crate::header::{CRC_START, HEADER_LEN, HeaderBytes, LOG_OVERHEAD, MAGIC_V2};
use crate::{BatchHeader, Codecs, Compression, RecordError, RecordIter, crc, legacy};

/// What reading may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes that the records of one batch may have when decompressed.
    pub decompressed_bytes: usize,
}

impl Default for Limits {
    /// 128 MiB: far above what producers send (1 MB), far below what hurts.
    fn default() -> Self {
        Self {
            decompressed_bytes: 128 << 20,
        }
    }
}

/// One batch: header and (perhaps compressed) records area, sharing memory with where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch {
    header: BatchHeader,
    raw: HeaderBytes,
    body: Bytes,
}

impl RecordBatch {
    /// The batch that fills `bytes` exactly.
    pub fn parse(bytes: Bytes) -> Result<Self, RecordError> {
        let header = BatchHeader::parse(&bytes)?;
        if header.size_in_bytes() != bytes.len() {
            return Err(RecordError::InvalidBatchLength(header.batch_length));
        }
        Self::from_parts(&bytes[..HEADER_LEN], bytes.slice(HEADER_LEN..))
    }

    /// The batch whose header is `raw` (61 bytes) and whose records area is `body`.
    pub fn from_parts(raw: &[u8], body: Bytes) -> Result<Self, RecordError> {
        let header = BatchHeader::parse(raw)?;
        if header.body_len() != body.len() {
            return Err(RecordError::InvalidBatchLength(header.batch_length));
        }
        let mut copy = [0; HEADER_LEN];
        copy.copy_from_slice(&raw[..HEADER_LEN]);
        Ok(Self {
            header,
            raw: copy,
            body,
        })
    }

    /// The header, decoded.
    #[inline]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The header's bytes.
    #[inline]
    pub fn raw_header(&self) -> &HeaderBytes {
        &self.raw
    }

    /// The records area as it is, compressed or not.
    #[inline]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Bytes of the whole batch.
    pub fn size_in_bytes(&self) -> usize {
        HEADER_LEN + self.body.len()
    }

    /// The same batch behind another header of the same length (see the patches in [`crate::header`]).
    pub fn with_header(&self, raw: &HeaderBytes) -> Result<Self, RecordError> {
        Self::from_parts(raw, self.body.clone())
    }

    /// The batch in one piece, copied.
    pub fn to_bytes(&self) -> Bytes {
        let mut whole = Vec::with_capacity(self.size_in_bytes());
        whole.extend_from_slice(&self.raw);
        whole.extend_from_slice(&self.body);
        Bytes::from(whole)
    }

    /// Computes the checksum and compares it with the header's.
    pub fn check_crc(&self) -> Result<(), RecordError> {
        let actual = crc::crc32c_append(crc::crc32c(&self.raw[CRC_START..]), &self.body);
        if actual == self.header.crc {
            Ok(())
        } else {
            Err(RecordError::CrcMismatch {
                expected: self.header.crc,
                actual,
            })
        }
    }

    /// The records, decompressed if need be. Does not check the checksum.
    pub fn records(&self, limits: Limits) -> Result<RecordIter, RecordError> {
        if self.header.attributes.is_compressed() {
            self.records_with(&mut Codecs::new(), limits)
        } else {
            RecordIter::new(&self.header, self.body.clone())
        }
    }

    /// Like [`records`](Self::records), with the state of the codecs kept between batches.
    pub fn records_with(
        &self,
        codecs: &mut Codecs,
        limits: Limits,
    ) -> Result<RecordIter, RecordError> {
        RecordIter::new(&self.header, self.plain(codecs, limits)?)
    }

    /// The uncompressed records area.
    pub fn plain(&self, codecs: &mut Codecs, limits: Limits) -> Result<Bytes, RecordError> {
        match self.header.attributes.compression()? {
            Compression::None => Ok(self.body.clone()),
            // An empty batch has nothing in it, not even a compressed nothing.
            _ if self.body.is_empty() && self.header.record_count == 0 => Ok(Bytes::new()),
            codec => codecs
                .decompress(codec, &self.body, limits.decompressed_bytes)
                .map(Bytes::from),
        }
    }
}

/// Finds the batches in a rope of chunks, such as the records of a fetch response or the pieces of a log segment.
///
/// A batch within one chunk and a batch whose header is the end of one chunk and whose body is the whole of the next
/// are shared; any other cut is joined by a copy. Message sets of magic 0 and 1 come out as batches of magic 2, converted
/// (a copy), so that nobody above needs to know of them.
///
/// A partial batch at the end, which brokers send when they cut by size, ends the iteration quietly; see
/// [`has_partial_tail`](Self::has_partial_tail). After an error it ends: what follows a damaged length can't be found.
#[derive(Debug)]
pub struct Batches<I> {
    chunks: I,
    current: Bytes,
    /// What follows `current`, if the last join left some of a chunk over.
    pending: Option<Bytes>,
    position: u64,
    partial_tail: bool,
    done: bool,
    limits: Limits,
}

impl<I: Iterator<Item = Bytes>> Batches<I> {
    /// The batches in `chunks`.
    pub fn new(chunks: impl IntoIterator<IntoIter = I>) -> Self {
        Self {
            chunks: chunks.into_iter(),
            current: Bytes::new(),
            pending: None,
            position: 0,
            partial_tail: false,
            done: false,
            limits: Limits::default(),
        }
    }

    /// The same with other limits, which count when a compressed message of magic 0 or 1 is converted.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Bytes behind us: where the next batch begins in the rope.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the iteration ended before a batch whose end is missing.
    pub fn has_partial_tail(&self) -> bool {
        self.partial_tail
    }

    fn next_batch(&mut self) -> Option<Result<RecordBatch, RecordError>> {
        while self.current.is_empty() {
            self.current = self.next_chunk()?;
        }
        // Offset, length and, at the same place in all formats, the magic byte.
        if !self.gather(LOG_OVERHEAD + 5) {
            return self.partial();
        }
        let length = self.current.slice(8..LOG_OVERHEAD).get_i32();
        let magic = self.current[16] as i8;
        let least = match magic {
            MAGIC_V2 => HEADER_LEN - LOG_OVERHEAD,
            0 | 1 => legacy::min_message_len(magic),
            other => return Some(Err(RecordError::UnsupportedMagic(other))),
        };
        if length < least as i32 {
            return Some(Err(RecordError::InvalidBatchLength(length)));
        }
        let Some(size) = (length as usize).checked_add(LOG_OVERHEAD) else {
            return Some(Err(RecordError::InvalidBatchLength(length)));
        };
        if magic != MAGIC_V2 {
            if !self.gather(size) {
                return self.partial();
            }
            let message = self.take(size);
            return Some(legacy::to_batch(&message, self.limits));
        }
        if !self.gather(HEADER_LEN) {
            return self.partial();
        }
        let mut raw = [0; HEADER_LEN];
        raw.copy_from_slice(&self.current[..HEADER_LEN]);
        if self.current.len() == HEADER_LEN && size > HEADER_LEN {
            // The header stands alone: the body stays where it is.
            self.take(HEADER_LEN);
            if !self.gather(size - HEADER_LEN) {
                self.position -= HEADER_LEN as u64;
                return self.partial();
            }
            let body = self.take(size - HEADER_LEN);
            return Some(RecordBatch::from_parts(&raw, body));
        }
        if !self.gather(size) {
            return self.partial();
        }
        let whole = self.take(size);
        Some(RecordBatch::from_parts(&raw, whole.slice(HEADER_LEN..)))
    }

    /// Makes `current` at least `len` bytes long, by joining chunks if need be. False if the rope ends before.
    fn gather(&mut self, len: usize) -> bool {
        while self.current.is_empty() {
            // Nothing to join: the next chunk as it is.
            match self.next_chunk() {
                Some(chunk) => self.current = chunk,
                None => return false,
            }
        }
        if self.current.len() >= len {
            return true;
        }
        // `len` is a number from outside: memory grows with the bytes that are there, not with it.
        let mut joined = Vec::from(&self.current[..]);
        while joined.len() < len {
            let Some(mut chunk) = self.next_chunk() else {
                break;
            };
            let part = chunk.split_to(chunk.len().min(len - joined.len()));
            joined.extend_from_slice(&part);
            if !chunk.is_empty() {
                self.pending = Some(chunk);
            }
        }
        self.current = Bytes::from(joined);
        self.current.len() >= len
    }

    fn next_chunk(&mut self) -> Option<Bytes> {
        self.pending.take().or_else(|| self.chunks.next())
    }

    fn take(&mut self, len: usize) -> Bytes {
        self.position += len as u64;
        self.current.split_to(len)
    }

    fn partial<T>(&mut self) -> Option<T> {
        self.partial_tail = true;
        None
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for Batches<I> {
    type Item = Result<RecordBatch, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_batch();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchBuilder, FinishOptions};

    fn batch(base_offset: i64, value_len: usize) -> Bytes {
        let mut builder = BatchBuilder::new(0);
        let value = alloc::vec![b'v'; value_len];
        builder.append(0, None, Some(&value), &[]).unwrap();
        let options = FinishOptions {
            base_offset,
            ..FinishOptions::default()
        };
        builder.finish(&options).unwrap().encoded
    }

    fn shared(part: &Bytes, whole: &Bytes) -> bool {
        whole.as_ptr_range().contains(&part.as_ptr())
    }

    #[test]
    fn every_cut_of_a_rope() {
        let whole = Bytes::from([batch(0, 10), batch(1, 300), batch(2, 0)].concat());
        let expected: Vec<_> = Batches::new([whole.clone()])
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(expected.len(), 3);
        assert!(expected.iter().all(|batch| shared(batch.body(), &whole)));
        for first in 0..=whole.len() {
            for second in [first, (first + 1).min(whole.len()), whole.len().max(first)] {
                let chunks = [
                    whole.slice(..first),
                    whole.slice(first..second),
                    whole.slice(second..),
                ];
                let mut batches = Batches::new(chunks);
                let read: Vec<_> = batches.by_ref().map(Result::unwrap).collect();
                assert!(read == expected, "cut at {first} and {second}");
                assert_eq!(batches.position(), whole.len() as u64);
                assert!(!batches.has_partial_tail());
            }
        }
        // Byte by byte.
        let bytes = (0..whole.len()).map(|at| whole.slice(at..at + 1));
        assert!(Batches::new(bytes).map(Result::unwrap).eq(expected));
    }

    #[test]
    fn header_chunk_and_body_chunk_are_shared() {
        let whole = batch(7, 1000);
        let (header, body) = (whole.slice(..HEADER_LEN), whole.slice(HEADER_LEN..));
        let header = Bytes::copy_from_slice(&header);
        let chunks = [header.clone(), body.clone(), header, body];
        let read: Vec<_> = Batches::new(chunks).map(Result::unwrap).collect();
        assert_eq!(read.len(), 2);
        for batch in &read {
            assert!(shared(batch.body(), &whole));
            batch.check_crc().unwrap();
        }
    }

    #[test]
    fn partial_tail_is_quiet() {
        let whole = Bytes::from([batch(0, 10), batch(1, 300)].concat());
        let first = batch(0, 10).len();
        for cut in first + 1..whole.len() {
            for chunks in [
                alloc::vec![whole.slice(..cut)],
                alloc::vec![whole.slice(..first), whole.slice(first..cut)],
                alloc::vec![
                    whole.slice(..first + 61.min(cut - first)),
                    whole.slice(first + 61.min(cut - first)..cut)
                ],
            ] {
                let mut batches = Batches::new(chunks);
                assert_eq!(batches.by_ref().map(Result::unwrap).count(), 1);
                assert!(batches.has_partial_tail(), "cut at {cut}");
                assert_eq!(batches.position(), first as u64);
            }
        }
    }

    #[test]
    fn damage_ends_the_iteration() {
        let good = batch(0, 10);
        for (at, value) in [(8, 0x80), (11, 48), (16, 3), (16, 0xff)] {
            let mut bad = Vec::from(&good[..]);
            bad[at] = value;
            let mut batches = Batches::new([Bytes::from(bad), good.clone()]);
            assert!(batches.next().unwrap().is_err());
            assert!(batches.next().is_none());
        }
    }

    #[test]
    fn views() {
        let whole = batch(3, 100);
        let view = RecordBatch::parse(whole.clone()).unwrap();
        assert_eq!(view.to_bytes(), whole);
        assert_eq!(view.size_in_bytes(), whole.len());
        assert!(RecordBatch::parse(whole.slice(..whole.len() - 1)).is_err());
        let stamped = crate::header::with_log_append_time(view.raw_header(), 55);
        let stamped = view.with_header(&stamped).unwrap();
        stamped.check_crc().unwrap();
        let mut records = stamped.records(Limits::default()).unwrap();
        assert_eq!(records.next_record().unwrap().unwrap().timestamp, 55);
        let mut damaged = Vec::from(&whole[..]);
        damaged[70] ^= 1;
        let damaged = RecordBatch::parse(Bytes::from(damaged)).unwrap();
        assert!(matches!(
            damaged.check_crc(),
            Err(RecordError::CrcMismatch { .. })
        ));
        // A patch does not hide the damage.
        let patched = crate::header::with_max_timestamp(damaged.raw_header(), 9);
        assert!(damaged.with_header(&patched).unwrap().check_crc().is_err());
    }
}
