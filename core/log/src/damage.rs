//! Damaged places of a segment: what is known of them, and how to find the next whole batch behind one.

use crate::storage::{StorageError, StorageFile};
use alloc::vec::Vec;
use core::ops::Range;
use ottla_record::{BatchHeader, HEADER_LEN, RecordBatch};

/// Bytes that are looked through at once.
const WINDOW: usize = 64 << 10;
/// Position of the magic byte in a batch.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;

/// Ranges of positions, in order, apart from each other.
#[derive(Clone, Debug, Default)]
pub struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a range; ranges that touch become one.
    pub fn add(&mut self, mut range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|r| r.end < range.start);
        let last = self.0.partition_point(|r| r.start <= range.end);
        for merged in self.0.drain(first..last) {
            range = range.start.min(merged.start)..range.end.max(merged.end);
        }
        self.0.insert(first, range);
    }

    /// The end of the range that holds `position`, if one does.
    pub fn end_of(&self, position: u64) -> Option<u64> {
        let at = self.0.partition_point(|r| r.end <= position);
        let range = self.0.get(at)?;
        (range.start <= position).then_some(range.end)
    }

    /// Where the first range that begins at or behind `position` begins.
    pub fn next_start(&self, position: u64) -> Option<u64> {
        let at = self.0.partition_point(|r| r.start < position);
        self.0.get(at).map(|r| r.start)
    }

    /// All bytes together.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|r| r.end - r.start).sum()
    }

    /// Forgets what lies behind `position`.
    pub fn truncate(&mut self, position: u64) {
        self.0.retain_mut(|r| {
            r.end = r.end.min(position);
            !r.is_empty()
        });
    }
}

/// The first whole batch with a right checksum that begins in `from..size`, of offsets from `offsets`.
///
/// Every position is tried, since a damaged batch's length can't be trusted. Records that hold a whole batch as their value can
/// be taken for one only if its offsets fit as well.
pub fn next_batch(
    file: &dyn StorageFile,
    from: u64,
    size: u64,
    offsets: Range<i64>,
) -> Result<Option<u64>, StorageError> {
    let mut window = Vec::new();
    let mut start = from;
    while start + HEADER_LEN as u64 <= size {
        let len = (WINDOW + HEADER_LEN).min((size - start) as usize);
        window.clear();
        window.resize(len, 0);
        file.read_into(start, &mut window)?;
        let last = len - HEADER_LEN;
        for at in 0..=last {
            if window[at + MAGIC_AT] != MAGIC {
                continue;
            }
            let Ok(header) = BatchHeader::parse(&window[at..at + HEADER_LEN]) else {
                continue;
            };
            let position = start + at as u64;
            let bytes = header.size_in_bytes();
            if bytes as u64 > size - position
                || header.base_offset < offsets.start
                || header.last_offset() >= offsets.end
            {
                continue;
            }
            if is_whole(file, position, bytes)? {
                return Ok(Some(position));
            }
        }
        start += last as u64 + 1;
    }
    Ok(None)
}

/// Whether the batch at `position`, `bytes` long, has the checksum that it says.
pub fn is_whole(file: &dyn StorageFile, position: u64, bytes: usize) -> Result<bool, StorageError> {
    let raw = file.read_exact(position, bytes)?;
    Ok(RecordBatch::parse(raw).is_ok_and(|batch| batch.check_crc().is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn ranges_merge() {
        let mut ranges = Ranges::default();
        ranges.add(10..20);
        ranges.add(30..40);
        ranges.add(50..50);
        assert_eq!(ranges.0, vec![10..20, 30..40]);
        assert_eq!(
            [5, 10, 19, 20, 35, 40].map(|p| ranges.end_of(p)),
            [None, Some(20), Some(20), None, Some(40), None]
        );
        assert_eq!(
            [0, 10, 11, 31].map(|p| ranges.next_start(p)),
            [Some(10), Some(10), Some(30), None]
        );
        ranges.add(20..30);
        assert_eq!(ranges.0, vec![10..40]);
        ranges.add(0..5);
        ranges.add(60..70);
        ranges.add(4..65);
        assert_eq!(ranges.0, vec![0..70]);
        ranges.truncate(30);
        assert_eq!((ranges.bytes(), ranges.is_empty()), (30, false));
    }
}
