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
