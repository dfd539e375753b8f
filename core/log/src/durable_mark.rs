//! The durable mark of a partition: a file beside the log that says up to where the log was on disk, and what the closed segments
//! and their indexes must look like. Ottla's own: Kafka ignores it, and without it a log is opened as Kafka opens one.
//!
//! ```text
//! byte    0  slot A   64 bytes: "OMRK", 0, sequence u64, offset i64, segment i64, position u64, zeros, CRC-32C
//! byte  512  slot B   the same
//! byte 1024  entries  64 bytes each: "OSEG", flags u8, 3 zeros, segment i64, size u64, next offset i64, largest timestamp i64,
//!                     its offset i64, index crc u32, time index crc u32, zeros, CRC-32C
//! ```
//!
//! The two slots are written in turn, in place, each time a sync is through, and are not synced themselves: what they say is
//! true before they say it, so a mark that a power cut takes back is only an older truth, and a torn one leaves the other. An
//! entry is appended when a segment is closed. Entries whose segment is gone, or of another size, count for nothing; when they
//! have come to outnumber the others, the file is written anew.

use crate::{
    names::DURABLE_MARK,
    storage::{OpenHow, Storage, StorageError, Unsynced, join, read_file, write_file_named_later},
};
use alloc::{collections::BTreeMap, vec, vec::Vec};
use bytes::Bytes;
use ottla_record::crc32c;

const RECORD: usize = 64;
const SLOT_B: usize = 512;
const ENTRIES: usize = 1024;
/// More than any log has segments for.
const LIMIT: u64 = 256 << 20;

/// Up to where a log is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// All records below this offset are.
    pub offset: i64,
    /// The segment that was written to.
    pub segment: i64,
    /// The bytes of that segment that are.
    pub position: u64,
}

/// What a closed segment and its indexes must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its base offset.
    pub base_offset: i64,
    /// Bytes of its log.
    pub size: u64,
    /// The offset after its last record.
    pub next_offset: i64,
    /// Its largest timestamp, and the last offset of the batch that has it.
    pub max_timestamp: (i64, i64),
    /// Whether no offset is missing in it, so that a batch's place says its offset.
    pub contiguous: bool,
    /// CRC-32C of its offset index.
    pub index_crc: u32,
    /// CRC-32C of its time index.
    pub time_index_crc: u32,
}

/// What the file says.
#[derive(Clone, Debug, Default)]
pub struct DurableMark {
    /// Whether there is a file, whatever it holds: without one Ottla never wrote to the log, or no more than one segment.
    pub exists: bool,
    /// The newest mark.
    pub mark: Option<Mark>,
    /// The number of that mark, from 1.
    pub sequence: u64,
    /// The segments by base offset.
    pub sealed: BTreeMap<i64, Sealed>,
}

impl DurableMark {
    /// Reads what can be read; nothing if there is no such file or all of it is damaged.
    pub fn read(storage: &dyn Storage, dir: &str) -> Result<Self, StorageError> {
        let Some(bytes) = read_file(storage, &join(dir, DURABLE_MARK), LIMIT)? else {
            return Ok(Self::default());
        };
        let mut found = Self {
            exists: true,
            ..Self::default()
        };
        for at in [0, SLOT_B] {
            if let Some((sequence, mark)) = record_at(&bytes, at).and_then(parse_slot)
                && sequence > found.sequence
            {
                (found.sequence, found.mark) = (sequence, Some(mark));
            }
        }
        let mut at = ENTRIES;
        while at < bytes.len() {
            if let Some(sealed) = record_at(&bytes, at).and_then(parse_entry) {
                found.sealed.insert(sealed.base_offset, sealed);
            }
            at += RECORD;
        }
        Ok(found)
    }
}

/// Writes a mark in place. Nothing is synced.
pub fn write_mark(
    storage: &dyn Storage,
    dir: &str,
    sequence: u64,
    mark: &Mark,
) -> Result<(), StorageError> {
    let mut file = storage.open(&join(dir, DURABLE_MARK), OpenHow::OpenOrCreate)?;
    if file.len() < ENTRIES as u64 {
        let missing = ENTRIES - file.len() as usize;
        file.append(&[Bytes::from(vec![0; missing])])?;
    }
    file.write_at(slot_of(sequence) as u64, &slot_bytes(sequence, mark))
}

/// Adds a closed segment. Returns how many entries there are now, those that count for nothing included.
pub fn append_sealed(
    storage: &dyn Storage,
    dir: &str,
    sealed: &Sealed,
) -> Result<(usize, Unsynced), StorageError> {
    let path = join(dir, DURABLE_MARK);
    let mut file = storage.open(&path, OpenHow::OpenOrCreate)?;
    let len = file.len() as usize;
    let missing = len.next_multiple_of(RECORD).max(ENTRIES) - len;
    let mut bytes = vec![0; missing];
    bytes.extend_from_slice(&entry_bytes(sealed));
    file.append(&[Bytes::from(bytes)])?;
    let entries = (file.len() as usize - ENTRIES) / RECORD;
    Ok((entries, Unsynced::open(path, file.syncer())))
}

/// Makes `mark`, or none, the only one there is. It is when what is returned is synced; `None` if there is no file.
pub fn keep_only(
    storage: &dyn Storage,
    dir: &str,
    mark: Option<(u64, Mark)>,
) -> Result<Option<Unsynced>, StorageError> {
    let path = join(dir, DURABLE_MARK);
    if !storage.exists(&path)? {
        return Ok(None);
    }
    let mut file = storage.open(&path, OpenHow::Existing)?;
    let bytes = mark.map_or(vec![0; RECORD], |(sequence, mark)| {
        slot_bytes(sequence, &mark)
    });
    for slot in [0, SLOT_B] {
        if file.len() >= (slot + RECORD) as u64 {
            file.write_at(slot as u64, &bytes)?;
        }
    }
    Ok(Some(Unsynced::open(path, file.syncer())))
}

/// Makes what was written down of a segment count for nothing, durably.
pub fn disown(storage: &dyn Storage, dir: &str, base_offset: i64) -> Result<(), StorageError> {
    if !storage.exists(&join(dir, DURABLE_MARK))? {
        return Ok(());
    }
    let nothing = Sealed {
        base_offset,
        size: u64::MAX,
        next_offset: base_offset,
        max_timestamp: (-1, -1),
        contiguous: false,
        index_crc: 0,
        time_index_crc: 0,
    };
    append_sealed(storage, dir, &nothing)?.1.sync(storage)
}

/// Writes the file anew, with the last mark and its number. Its contents are durable when this returns, its name with the
/// directory's next sync.
pub fn rewrite(
    storage: &dyn Storage,
    dir: &str,
    mark: Option<(u64, Mark)>,
    sealed: &[Sealed],
) -> Result<(), StorageError> {
    let mut bytes = vec![0; ENTRIES];
    if let Some((sequence, mark)) = mark {
        let slot = slot_of(sequence);
        bytes[slot..slot + RECORD].copy_from_slice(&slot_bytes(sequence, &mark));
    }
    sealed
        .iter()
        .for_each(|sealed| bytes.extend_from_slice(&entry_bytes(sealed)));
    write_file_named_later(storage, &join(dir, DURABLE_MARK), &bytes)
}

fn slot_of(sequence: u64) -> usize {
    match sequence.is_multiple_of(2) {
        true => 0,
        false => SLOT_B,
    }
}

/// A record whose checksum is right, without it.
fn record_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let (fields, crc) = bytes.get(at..at + RECORD)?.split_at(RECORD - 4);
    (crc == crc32c(fields).to_be_bytes()).then_some(fields)
}

fn sealed_record(mut fields: Vec<u8>) -> Vec<u8> {
    fields.resize(RECORD - 4, 0);
    let crc = crc32c(&fields);
    fields.extend_from_slice(&crc.to_be_bytes());
    fields
}

fn slot_bytes(sequence: u64, mark: &Mark) -> Vec<u8> {
    let mut fields = Vec::with_capacity(RECORD);
    fields.extend_from_slice(b"OMRK\0\0\0\0");
    fields.extend_from_slice(&sequence.to_be_bytes());
    fields.extend_from_slice(&mark.offset.to_be_bytes());
    fields.extend_from_slice(&mark.segment.to_be_bytes());
    fields.extend_from_slice(&mark.position.to_be_bytes());
    sealed_record(fields)
}

fn entry_bytes(sealed: &Sealed) -> Vec<u8> {
    let mut fields = Vec::with_capacity(RECORD);
    fields.extend_from_slice(b"OSEG");
    fields.extend_from_slice(&[u8::from(sealed.contiguous), 0, 0, 0]);
    fields.extend_from_slice(&sealed.base_offset.to_be_bytes());
    fields.extend_from_slice(&sealed.size.to_be_bytes());
    fields.extend_from_slice(&sealed.next_offset.to_be_bytes());
    fields.extend_from_slice(&sealed.max_timestamp.0.to_be_bytes());
    fields.extend_from_slice(&sealed.max_timestamp.1.to_be_bytes());
    fields.extend_from_slice(&sealed.index_crc.to_be_bytes());
    fields.extend_from_slice(&sealed.time_index_crc.to_be_bytes());
    sealed_record(fields)
}

fn number<const N: usize>(fields: &[u8], at: usize) -> Option<[u8; N]> {
    fields.get(at..at + N)?.try_into().ok()
}

fn parse_slot(fields: &[u8]) -> Option<(u64, Mark)> {
    fields.starts_with(b"OMRK").then_some(())?;
    let mark = Mark {
        offset: i64::from_be_bytes(number(fields, 16)?),
        segment: i64::from_be_bytes(number(fields, 24)?),
        position: u64::from_be_bytes(number(fields, 32)?),
    };
    Some((u64::from_be_bytes(number(fields, 8)?), mark))
}

fn parse_entry(fields: &[u8]) -> Option<Sealed> {
    fields.starts_with(b"OSEG").then_some(())?;
    Some(Sealed {
        contiguous: fields[4] & 1 == 1,
        base_offset: i64::from_be_bytes(number(fields, 8)?),
        size: u64::from_be_bytes(number(fields, 16)?),
        next_offset: i64::from_be_bytes(number(fields, 24)?),
        max_timestamp: (
            i64::from_be_bytes(number(fields, 32)?),
            i64::from_be_bytes(number(fields, 40)?),
        ),
        index_crc: u32::from_be_bytes(number(fields, 48)?),
        time_index_crc: u32::from_be_bytes(number(fields, 52)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStorage;

    fn sealed(base_offset: i64) -> Sealed {
        Sealed {
            base_offset,
            size: 1000,
            next_offset: base_offset + 10,
            max_timestamp: (5000, base_offset + 9),
            contiguous: true,
            index_crc: 7,
            time_index_crc: 8,
        }
    }

    #[test]
    fn marks_and_entries_come_back() {
        let storage = MemoryStorage::new();
        storage.create_dir("t-0").unwrap();
        assert_eq!(DurableMark::read(&storage, "t-0").unwrap().mark, None);
        for n in 1..=5u64 {
            let mark = Mark {
                offset: n as i64,
                segment: 0,
                position: n * 100,
            };
            write_mark(&storage, "t-0", n, &mark).unwrap();
            append_sealed(&storage, "t-0", &sealed(n as i64 * 10)).unwrap();
            let found = DurableMark::read(&storage, "t-0").unwrap();
            assert_eq!((found.sequence, found.mark), (n, Some(mark)));
            assert_eq!(found.sealed.len(), n as usize);
            assert_eq!(found.sealed[&(n as i64 * 10)], sealed(n as i64 * 10));
        }
    }

    #[test]
    fn each_flipped_byte_costs_one_record_at_most() {
        let storage = MemoryStorage::new();
        storage.create_dir("t-0").unwrap();
        let mark = |offset| Mark {
            offset,
            segment: 0,
            position: 9,
        };
        write_mark(&storage, "t-0", 1, &mark(1)).unwrap();
        write_mark(&storage, "t-0", 2, &mark(2)).unwrap();
        (0..3).for_each(|n| _ = append_sealed(&storage, "t-0", &sealed(n)).unwrap());
        let path = "t-0/durable-mark";
        let whole = read_file(&storage, path, 9999).unwrap().unwrap();
        for at in 0..whole.len() {
            let mut file = storage.open(path, OpenHow::Existing).unwrap();
            file.write_at(at as u64, &[whole[at] ^ 0x10]).unwrap();
            let found = DurableMark::read(&storage, "t-0").unwrap();
            assert!(
                found.mark.is_some_and(|m| m == mark(1) || m == mark(2)),
                "{at}"
            );
            assert!(found.sealed.len() >= 2, "{at}");
            file.write_at(at as u64, &[whole[at]]).unwrap();
        }
        for len in 0..whole.len() {
            let mut file = storage.open(path, OpenHow::Existing).unwrap();
            file.truncate(len as u64).unwrap();
            DurableMark::read(&storage, "t-0").unwrap();
            append_sealed(&storage, "t-0", &sealed(77)).unwrap();
            let found = DurableMark::read(&storage, "t-0").unwrap();
            assert!(
                found.sealed.contains_key(&77),
                "an entry behind a torn one, cut at {len}"
            );
            file.truncate(0).unwrap();
            file.append(core::slice::from_ref(&whole)).unwrap();
        }
    }
}
