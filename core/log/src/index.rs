//! Offset index and time index of a segment.
//!
//! Both are kept in Kafka's file format in memory, and written as a whole when the segment is closed: an index can always be
//! made again from its log, so nothing is lost with it. Files are trimmed; Kafka's own preallocate the active ones.

use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes of an offset index entry: i32 offset − base, i32 position.
const OFFSET_ENTRY: usize = 8;
/// Bytes of a time index entry: i64 timestamp, i32 offset − base.
const TIME_ENTRY: usize = 12;

/// Entries of a fixed size: owned while they grow, shared with a file once it is closed.
#[derive(Clone, Debug)]
enum Entries {
    Growing(Vec<u8>),
    Closed(Bytes),
}

impl Entries {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Growing(bytes) => bytes,
            Self::Closed(bytes) => bytes,
        }
    }

    fn to_mut(&mut self) -> &mut Vec<u8> {
        if let Self::Closed(bytes) = self {
            *self = Self::Growing(bytes.to_vec());
        }
        match self {
            Self::Growing(bytes) => bytes,
            Self::Closed(_) => unreachable!("made growing above"),
        }
    }
}

/// Reads `N` bytes at `at`; in range by the callers' arithmetic on whole entries.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// Offset → position. An entry holds the last offset of the batch that begins at its position.
#[derive(Clone, Debug)]
pub struct OffsetIndex {
    base_offset: i64,
    entries: Entries,
}

impl OffsetIndex {
    /// An empty one.
    pub fn new(base_offset: i64) -> Self {
        Self {
            base_offset,
            entries: Entries::Growing(Vec::new()),
        }
    }

    /// Takes a file's bytes; `None` unless offsets and positions rise strictly and lie within the log, whose offsets are below
    /// `below` and whose bytes are `log_bytes`.
    pub fn from_file(base_offset: i64, below: i64, bytes: Bytes, log_bytes: u64) -> Option<Self> {
        if !bytes.len().is_multiple_of(OFFSET_ENTRY) {
            return None;
        }
        let index = Self {
            base_offset,
            entries: Entries::Closed(bytes),
        };
        let mut last: Option<(i64, u64)> = None;
        for i in 0..index.len() {
            let (offset, position) = index.entry(i);
            if offset < base_offset
                || offset >= below
                || position >= log_bytes
                || last.is_some_and(|(o, p)| offset <= o || position <= p)
            {
                return None;
            }
            last = Some((offset, position));
        }
        Some(index)
    }

    fn len(&self) -> usize {
        self.entries.bytes().len() / OFFSET_ENTRY
    }

    fn entry(&self, i: usize) -> (i64, u64) {
        let bytes = self.entries.bytes();
        let offset = u32::from_be_bytes(field(bytes, i * OFFSET_ENTRY));
        let position = u32::from_be_bytes(field(bytes, i * OFFSET_ENTRY + 4));
        (
            self.base_offset.saturating_add(i64::from(offset)),
            u64::from(position),
        )
    }

    /// How many entries satisfy `holds`, which must hold for a first part of them only.
    fn count_while(&self, holds: impl Fn(i64, u64) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let (offset, position) = self.entry(middle);
            if holds(offset, position) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        low
    }

    /// Adds an entry; both must be larger than the last one's.
    pub fn push(&mut self, offset: i64, position: u64) {
        let base = self.base_offset;
        let bytes = self.entries.to_mut();
        bytes.extend_from_slice(&((offset - base) as u32).to_be_bytes());
        bytes.extend_from_slice(&(position as u32).to_be_bytes());
    }

    /// The last entry: an offset, and the position where its batch begins.
    pub fn last(&self) -> Option<(i64, u64)> {
        self.len().checked_sub(1).map(|i| self.entry(i))
    }

    /// Where to begin to look for `offset`: the position of the last entry that is not above it, or 0.
    ///
    /// An entry's batch may begin at or below `offset` and end at it, never beyond.
    pub fn position_for(&self, offset: i64) -> u64 {
        match self.count_while(|entry, _| entry <= offset) {
            0 => 0,
            n => self.entry(n - 1).1,
        }
    }

    /// The last entry whose position is not above `position`.
    pub fn at_or_before(&self, position: u64) -> Option<(i64, u64)> {
        let n = self.count_while(|_, entry| entry <= position);
        n.checked_sub(1).map(|i| self.entry(i))
    }

    /// The largest indexed position that is not above `position`: a place where a batch begins.
    pub fn boundary_up_to(&self, position: u64) -> u64 {
        match self.count_while(|_, entry| entry <= position) {
            0 => 0,
            n => self.entry(n - 1).1,
        }
    }

    /// Drops the entries of positions from `position` on.
    pub fn truncate(&mut self, position: u64) {
        let keep = self.count_while(|_, entry| entry < position);
        self.entries.to_mut().truncate(keep * OFFSET_ENTRY);
    }

    /// Whether another entry would make the file larger than `limit` bytes.
    pub fn is_full(&self, limit: u64) -> bool {
        (self.entries.bytes().len() + OFFSET_ENTRY) as u64 > limit
    }

    /// The file's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.entries.bytes()
    }
}

/// Timestamp → offset. An entry says that up to this offset no record has a larger timestamp.
#[derive(Clone, Debug)]
pub struct TimeIndex {
    base_offset: i64,
    entries: Entries,
}

impl TimeIndex {
    /// An empty one.
    pub fn new(base_offset: i64) -> Self {
        Self {
            base_offset,
            entries: Entries::Growing(Vec::new()),
        }
    }

    /// Takes a file's bytes; `None` unless timestamps rise strictly and offsets don't fall, and are below `below`.
    pub fn from_file(base_offset: i64, below: i64, bytes: Bytes) -> Option<Self> {
        if !bytes.len().is_multiple_of(TIME_ENTRY) {
            return None;
        }
        let index = Self {
            base_offset,
            entries: Entries::Closed(bytes),
        };
        let mut last: Option<(i64, i64)> = None;
        for i in 0..index.len() {
            let (timestamp, offset) = index.entry(i);
            if !(base_offset..below).contains(&offset)
                || timestamp < 0
                || last.is_some_and(|(t, o)| timestamp <= t || offset < o)
            {
                return None;
            }
            last = Some((timestamp, offset));
        }
        Some(index)
    }

    fn len(&self) -> usize {
        self.entries.bytes().len() / TIME_ENTRY
    }

    fn entry(&self, i: usize) -> (i64, i64) {
        let bytes = self.entries.bytes();
        let timestamp = i64::from_be_bytes(field(bytes, i * TIME_ENTRY));
        let offset = u32::from_be_bytes(field(bytes, i * TIME_ENTRY + 8));
        (
            timestamp,
            self.base_offset.saturating_add(i64::from(offset)),
        )
    }

    /// The last entry: the largest timestamp, and the last offset of the batch that has it.
    pub fn last(&self) -> Option<(i64, i64)> {
        self.len().checked_sub(1).map(|i| self.entry(i))
    }

    /// Adds an entry, unless its timestamp is not larger than the last one's.
    pub fn push(&mut self, timestamp: i64, offset: i64) {
        if self.last().is_some_and(|(last, _)| timestamp <= last) || timestamp < 0 {
            return;
        }
        let base = self.base_offset;
        let bytes = self.entries.to_mut();
        bytes.extend_from_slice(&timestamp.to_be_bytes());
        bytes.extend_from_slice(&((offset - base) as u32).to_be_bytes());
    }

    /// An offset at or before the first record whose timestamp is at least `timestamp`.
    pub fn offset_before(&self, timestamp: i64) -> i64 {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle).0 < timestamp {
                low = middle + 1
            } else {
                high = middle
            }
        }
        if low == 0 {
            self.base_offset
        } else {
            self.entry(low - 1).1
        }
    }

    /// Drops the entries of offsets from `offset` on.
    pub fn truncate(&mut self, offset: i64) {
        let keep = (0..self.len())
            .rev()
            .find(|&i| self.entry(i).1 < offset)
            .map_or(0, |i| i + 1);
        self.entries.to_mut().truncate(keep * TIME_ENTRY);
    }

    /// Whether another entry would make the file larger than `limit` bytes; one place is kept for the entry at the end.
    pub fn is_full(&self, limit: u64) -> bool {
        (self.entries.bytes().len() + 2 * TIME_ENTRY) as u64 > limit
    }

    /// The file's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.entries.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_found_and_cut() {
        let mut index = OffsetIndex::new(100);
        for i in 1..=5 {
            index.push(100 + i * 10, i as u64 * 1000);
        }
        assert_eq!(
            [99, 109, 110, 125, 150, 999].map(|o| index.position_for(o)),
            [0, 0, 1000, 2000, 5000, 5000]
        );
        assert_eq!(
            [999, 1000, 4999, 9999].map(|p| index.boundary_up_to(p)),
            [0, 1000, 4000, 5000]
        );
        let file = Bytes::copy_from_slice(index.as_bytes());
        assert_eq!(
            file[..16],
            [0, 0, 0, 10, 0, 0, 3, 0xe8, 0, 0, 0, 20, 0, 0, 7, 0xd0]
        );
        assert!(OffsetIndex::from_file(100, 200, file.clone(), 5001).is_some());
        assert!(OffsetIndex::from_file(100, 200, file.clone(), 5000).is_none());
        assert!(OffsetIndex::from_file(100, 200, file.slice(..9), 5001).is_none());
        assert!(OffsetIndex::from_file(100, 150, file.clone(), 5001).is_none());
        assert!(OffsetIndex::from_file(100, 200, Bytes::from_static(&[0; 16]), 5001).is_none());
        index.truncate(3000);
        assert_eq!(index.position_for(999), 2000);
    }

    #[test]
    fn times_are_found_and_cut() {
        let mut index = TimeIndex::new(100);
        for (timestamp, offset) in [
            (1000, 110),
            (1000, 120),
            (900, 125),
            (2000, 130),
            (3000, 140),
        ] {
            index.push(timestamp, offset);
        }
        assert_eq!(
            [0, 1000, 1001, 2000, 2001, 9999].map(|t| index.offset_before(t)),
            [100, 100, 110, 110, 130, 140]
        );
        assert_eq!(index.last(), Some((3000, 140)));
        let file = Bytes::copy_from_slice(index.as_bytes());
        assert_eq!(file.len(), 36);
        assert_eq!(
            TimeIndex::from_file(100, 200, file.clone()).unwrap().last(),
            Some((3000, 140))
        );
        assert!(TimeIndex::from_file(100, 200, file.slice(..13)).is_none());
        index.truncate(131);
        assert_eq!(index.last(), Some((2000, 130)));
    }
}
