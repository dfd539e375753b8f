//! Walking over batches by their headers alone: in a file, and in the chunks that a read returned.

use crate::{damage::Ranges, error::LogError, names::damaged_at, storage::StorageFile};
use alloc::vec::Vec;
use bytes::Bytes;
use ottla_record::{BatchHeader, HEADER_LEN, RecordError};

/// Bytes that are fetched at once by a longer walk. Index entries lie about so far apart.
const WINDOW: usize = 4096;
/// Bytes of the first fetches: a look-up mostly needs no more than one or two headers.
const FIRST_WINDOWS: [usize; 3] = [64, 64, 1024];

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

/// Reads headers of one file.
pub struct HeaderReader<'a> {
    file: &'a dyn StorageFile,
    path: &'a str,
    /// Bytes of the file that count.
    size: u64,
    /// What is known to be damaged, and is stepped over.
    damaged: &'a Ranges,
    window: [u8; WINDOW],
    /// The position of the window's first byte.
    start: u64,
    /// How much of the window is filled.
    filled: usize,
    fetches: usize,
}

impl<'a> HeaderReader<'a> {
    /// For the first `size` bytes of a file, without what is `damaged`; `path` is for errors.
    pub fn new(file: &'a dyn StorageFile, path: &'a str, size: u64, damaged: &'a Ranges) -> Self {
        Self {
            file,
            path,
            size,
            damaged,
            window: [0; WINDOW],
            start: 0,
            filled: 0,
            fetches: 0,
        }
    }

    /// The batch at `position`, or behind what is damaged there; `None` at the end. That it is there as a whole is checked, not
    /// what is in it.
    pub fn at(&mut self, mut position: u64) -> Result<Option<Placed>, LogError> {
        if let Some(end) = self.damaged.end_of(position) {
            position = end;
        }
        if position >= self.size {
            return Ok(None);
        }
        let len = HEADER_LEN.min((self.size - position) as usize);
        let end = position + len as u64;
        if position < self.start || end > self.start + self.filled as u64 {
            self.start = position;
            let window = FIRST_WINDOWS.get(self.fetches).copied();
            self.filled = window
                .unwrap_or(WINDOW)
                .min((self.size - position) as usize);
            self.fetches += 1;
            self.file
                .read_into(position, &mut self.window[..self.filled])?;
        }
        let at = (position - self.start) as usize;
        let placed = BatchHeader::parse(&self.window[at..at + len])
            .map(|header| Placed { position, header })
            .map_err(|error| damaged_at(self.path, position, error))?;
        if placed.end() > self.size {
            let error = RecordError::Truncated {
                needed: placed.header.size_in_bytes(),
                have: (self.size - position) as usize,
            };
            return Err(damaged_at(self.path, position, error));
        }
        Ok(Some(placed))
    }

    /// The first batch at or after `position`, where a batch begins, whose last offset is at least `offset`.
    pub fn find(&mut self, mut position: u64, offset: i64) -> Result<Option<Placed>, LogError> {
        while let Some(placed) = self.at(position)? {
            if placed.header.last_offset() >= offset {
                return Ok(Some(placed));
            }
            position = placed.end();
        }
        Ok(None)
    }
}

/// Where a walk over chunks ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Walked {
    /// Bytes of the batches that were accepted.
    pub bytes: usize,
    /// The offset after them, if there was one.
    pub next_offset: Option<i64>,
    /// What is wrong behind them, if the walk ended for that.
    pub damage: Option<RecordError>,
}

/// Counts the whole batches at the beginning of `chunks` that end below `up_to`.
pub fn whole_batches(chunks: &[Bytes], up_to: i64) -> Walked {
    let total: usize = chunks.iter().map(Bytes::len).sum();
    let mut walked = Walked {
        bytes: 0,
        next_offset: None,
        damage: None,
    };
    // The chunk that the walk is in, and where that begins.
    let (mut chunk, mut chunk_start) = (0, 0);
    let mut joined = [0; HEADER_LEN];
    while total - walked.bytes >= HEADER_LEN {
        while walked.bytes >= chunk_start + chunks[chunk].len() {
            chunk_start += chunks[chunk].len();
            chunk += 1;
        }
        let at = walked.bytes - chunk_start;
        let raw = if let Some(raw) = chunks[chunk].get(at..at + HEADER_LEN) {
            raw
        } else {
            let bytes = chunks[chunk..].iter().flatten().skip(at);
            joined
                .iter_mut()
                .zip(bytes)
                .for_each(|(to, from)| *to = *from);
            &joined
        };
        let header = match BatchHeader::parse(raw) {
            Ok(header) => header,
            Err(error) => {
                walked.damage = Some(error);
                break;
            }
        };
        let end = walked.bytes + header.size_in_bytes();
        if end > total || header.last_offset() >= up_to {
            break;
        }
        walked.bytes = end;
        walked.next_offset = Some(header.next_offset());
    }
    walked
}

/// Cuts `chunks` to their first `bytes` bytes.
pub fn cut(chunks: &mut Vec<Bytes>, mut bytes: usize) {
    let mut keep = 0;
    for chunk in chunks.iter_mut() {
        if bytes == 0 {
            break;
        }
        chunk.truncate(bytes);
        bytes -= chunk.len();
        keep += 1;
    }
    chunks.truncate(keep);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use ottla_record::{BatchBuilder, FinishOptions, header::with_offset_and_epoch};

    fn three_batches() -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        let mut size = 0;
        for i in 0..3 {
            let mut builder = BatchBuilder::new(128);
            builder.append(5, None, Some(b"value"), &[]).unwrap();
            builder.append(6, None, Some(b"other"), &[]).unwrap();
            let done = builder.finish(&FinishOptions::default()).unwrap();
            let raw = done.encoded.first_chunk().unwrap();
            bytes.extend_from_slice(&with_offset_and_epoch(raw, i * 2, 0));
            bytes.extend_from_slice(&done.encoded[HEADER_LEN..]);
            size = done.encoded.len();
        }
        (bytes, size)
    }

    #[test]
    fn whole_batches_however_the_chunks_lie() {
        let (bytes, size) = three_batches();
        let bytes = Bytes::from(bytes);
        for cut_at in 0..bytes.len() {
            for end in [bytes.len(), bytes.len() - 1, size * 2, size + 5, 60] {
                let chunks = vec![
                    bytes.slice(..cut_at.min(end)),
                    bytes.slice(cut_at.min(end)..end),
                ];
                let walked = whole_batches(&chunks, i64::MAX);
                assert_eq!(walked.bytes, end / size * size, "{cut_at} {end}");
                let next = (end / size) as i64 * 2;
                assert_eq!(walked.next_offset, (next > 0).then_some(next));
                assert_eq!(walked.damage, None);
            }
        }
        for (up_to, batches) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (6, 3)] {
            assert_eq!(
                whole_batches(core::slice::from_ref(&bytes), up_to).bytes,
                batches * size
            );
        }
        let mut damaged = bytes.to_vec();
        damaged[size + 16] = 9;
        let walked = whole_batches(&[damaged.into()], i64::MAX);
        assert_eq!((walked.bytes, walked.next_offset), (size, Some(2)));
        assert_eq!(walked.damage, Some(RecordError::UnsupportedMagic(9)));
    }

    #[test]
    fn chunks_are_cut() {
        let parts = || vec![Bytes::from_static(b"ab"), Bytes::from_static(b"cd")];
        for (bytes, left) in [(0, ""), (1, "a"), (2, "ab"), (3, "abc"), (4, "abcd")] {
            let mut chunks = parts();
            cut(&mut chunks, bytes);
            assert_eq!(chunks.concat(), left.as_bytes());
            assert_eq!(chunks.len(), bytes.div_ceil(2));
        }
    }
}
