//! Files that nobody wrote like this: whatever is found in a log's directory, the answer is the right records or an error.

mod common;

use bytes::Bytes;
use common::{DIR, append, batch, now, open, read_all, reopen};
use ottla_log::{
    LogConfig, MemoryStorage, OpenHow, OpenOptions, PartitionLog, Storage,
    names::{INDEX, LOG, TIME_INDEX, file_name, offset_of},
};
use ottla_record::{FinishOptions, header::resealed};
use proptest::prelude::*;
use std::sync::Arc;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 700,
        index_interval_bytes: 100,
        ..LogConfig::default()
    }
}

/// A closed log of 40 records in batches of two, and the records.
fn closed_log() -> (Arc<MemoryStorage>, Vec<(i64, i64)>) {
    let storage = Arc::new(MemoryStorage::new());
    let mut log = PartitionLog::create(storage.clone(), DIR, config(), now(0)).unwrap();
    for i in 0..20 {
        append(&mut log, &[1000 + i * 10, 1001 + i * 10]);
    }
    log.close().unwrap();
    let whole = read_all(&mut log, 0, 1 << 20);
    assert_eq!(whole.len(), 40);
    (storage, whole)
}

fn bases(storage: &MemoryStorage) -> Vec<i64> {
    let names = storage.list(DIR).unwrap();
    names
        .iter()
        .filter_map(|e| offset_of(&e.name, LOG))
        .collect()
}

fn path(name: &str) -> String {
    format!("{DIR}/{name}")
}

fn contents(storage: &MemoryStorage, path: &str) -> Bytes {
    let file = storage.open(path, OpenHow::ReadOnly).unwrap();
    file.read_exact(0, file.len() as usize).unwrap()
}

fn replace(storage: &MemoryStorage, path: &str, bytes: &[u8]) {
    let mut file = storage.open(path, OpenHow::OpenOrCreate).unwrap();
    file.truncate(0).unwrap();
    file.append(&[Bytes::copy_from_slice(bytes)]).unwrap();
}

#[test]
fn an_index_that_leads_astray_is_made_again() {
    // Entries that rise as they should, and point into the middle of batches, too far, or not far enough.
    for shift in [-7i64, 1, 30, 61, 100, 300] {
        let (storage, whole) = closed_log();
        for base in bases(&storage) {
            let path = path(&file_name(base, INDEX));
            let mut bytes = contents(&storage, &path).to_vec();
            let size = contents(&storage, &format!("{DIR}/{}", file_name(base, LOG))).len() as i64;
            for entry in bytes.chunks_exact_mut(8) {
                let position = u32::from_be_bytes(entry[4..].try_into().unwrap());
                let moved = (i64::from(position) + shift).clamp(0, size - 1) as u32;
                entry[4..].copy_from_slice(&moved.to_be_bytes());
            }
            replace(&storage, &path, &bytes);
        }
        let mut log = reopen(&storage, &config(), true, 40);
        for from in 0..40 {
            let found = read_all(&mut log, from, 100);
            assert_eq!(found, whole[from as usize..], "shift {shift}, from {from}");
        }
        assert_eq!(log.offset_for_time(1105).unwrap(), Some((1110, 22)));
        assert_eq!(append(&mut log, &[1]), 40);
    }
}

#[test]
fn every_byte_of_every_side_file() {
    let (storage, whole) = closed_log();
    let names: Vec<String> = storage
        .list(DIR)
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| !name.ends_with(LOG))
        .collect();
    for name in names {
        let path = path(&name);
        let good = contents(&storage, &path);
        for at in 0..good.len() {
            for flip in [0x01, 0x80] {
                let mut bad = good.to_vec();
                bad[at] ^= flip;
                replace(&storage, &path, &bad);
                for clean in [true, false] {
                    let mut log = reopen(&storage, &config(), clean, if clean { 40 } else { 0 });
                    assert_eq!(read_all(&mut log, 0, 300), whole, "{name}, byte {at}");
                    for from in [7, 25, 39] {
                        let found = read_all(&mut log, from, 1);
                        assert_eq!(found, whole[from as usize..], "{name}, byte {at}");
                    }
                }
                replace(&storage, &path, &good);
            }
        }
    }
}

#[test]
fn segments_without_a_byte() {
    for clean in [true, false] {
        // The last one: rolled, and nothing was written yet. Also with indexes that are missing.
        let (storage, whole) = closed_log();
        replace(&storage, &path(&file_name(40, LOG)), b"");
        let mut log = reopen(&storage, &config(), clean, 0);
        assert_eq!(read_all(&mut log, 0, 300), whole);
        assert_eq!(append(&mut log, &[5]), 40);

        // All of them.
        let (storage, _) = closed_log();
        for base in bases(&storage) {
            replace(&storage, &path(&file_name(base, LOG)), b"");
        }
        let last = *bases(&storage).last().unwrap();
        without_mark(&storage);
        let log = reopen(&storage, &config(), clean, 0);
        assert_eq!(log.log_end_offset(), if clean { last } else { 0 });
        assert_eq!(log.offset_for_time_or_none(), None);

        // One in the middle: after a clean stop, or if the mark says that it was durable, what it had is a gap; otherwise it
        // wasn't synced, nor is what came after.
        let (storage, whole) = closed_log();
        let marked = closed_log().0;
        replace(&marked, &path(&file_name(bases(&marked)[1], LOG)), b"");
        let found = read_all(&mut reopen(&marked, &config(), clean, 0), 0, 300);
        assert_eq!(
            found.len() as i64,
            40 - (bases(&marked)[2] - bases(&marked)[1])
        );
        without_mark(&storage);
        let bases = bases(&storage);
        replace(&storage, &path(&file_name(bases[1], LOG)), b"");
        let mut log = reopen(&storage, &config(), clean, 0);
        let expected: Vec<_> = whole
            .iter()
            .copied()
            .filter(|(offset, _)| *offset < bases[1] || clean && *offset >= bases[2])
            .collect();
        assert_eq!(read_all(&mut log, 0, 300), expected);
    }
}

/// As Kafka would leave the directory.
fn without_mark(storage: &MemoryStorage) {
    storage.remove_file(&path("durable-mark")).unwrap();
}

/// So that an immutable binding reads well above.
trait TimeOrNone {
    fn offset_for_time_or_none(self) -> Option<(i64, i64)>;
}

impl TimeOrNone for PartitionLog {
    fn offset_for_time_or_none(mut self) -> Option<(i64, i64)> {
        self.offset_for_time(0).unwrap()
    }
}

#[test]
fn batches_that_cannot_be_are_cut_off() {
    let good = batch(&[1], &FinishOptions::default()).0;
    let raw = good.first_chunk().unwrap();
    let body = &good[61..];
    let bad: [(&str, [u8; 61]); 5] = [
        (
            "an offset that an index cannot hold",
            resealed(raw, |h| h.base_offset = 1 << 40),
        ),
        (
            "the largest offset",
            resealed(raw, |h| h.base_offset = i64::MAX),
        ),
        ("a negative offset", resealed(raw, |h| h.base_offset = -1)),
        (
            "offsets that reach too far",
            resealed(raw, |h| h.last_offset_delta = i32::MAX),
        ),
        ("a negative count", resealed(raw, |h| h.record_count = -1)),
    ];
    let mut cases: Vec<(&str, Vec<u8>)> = bad
        .iter()
        .map(|(name, raw)| (*name, [raw.as_slice(), body].concat()))
        .collect();
    let mut long = good.to_vec();
    long[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    cases.push(("a length beyond the file", long));
    let mut short = good.to_vec();
    short[8..12].copy_from_slice(&48i32.to_be_bytes());
    cases.push(("a length below a header's", short));
    cases.push(("zeros", vec![0; 5000]));
    cases.push((
        "text",
        b"not a record batch at all, but longer than a header is".repeat(3),
    ));
    for (name, bytes) in cases {
        let (storage, whole) = closed_log();
        let last = *bases(&storage).last().unwrap();
        let file = path(&file_name(last, LOG));
        let tail = Bytes::from(bytes);
        let size = tail.len() as u64;
        storage
            .open(&file, OpenHow::Existing)
            .unwrap()
            .append(&[tail])
            .unwrap();
        let options = OpenOptions {
            clean: false,
            recovery_point: 40,
            log_start_offset: 0,
        };
        let (mut log, recovery) = open(&storage, &config(), options).unwrap();
        assert_eq!(recovery.cut_bytes, size, "{name}");
        assert!(
            recovery.reason.is_some_and(|why| why.contains(&file)),
            "{name}"
        );
        assert_eq!(read_all(&mut log, 0, 300), whole, "{name}");
        assert_eq!(append(&mut log, &[5]), 40, "{name}");
    }
}

#[test]
fn a_later_segment_must_not_be_reached_into() {
    let (storage, whole) = closed_log();
    let second = bases(&storage)[1];
    let first = path(&file_name(0, LOG));
    let good = batch(&[1], &FinishOptions::default()).0;
    let raw = resealed(good.first_chunk().unwrap(), |h| h.base_offset = second);
    without_mark(&storage);
    storage
        .open(&first, OpenHow::Existing)
        .unwrap()
        .append(&[Bytes::copy_from_slice(&raw), good.slice(61..)])
        .unwrap();
    let mut log = reopen(&storage, &config(), false, 0);
    assert_eq!(read_all(&mut log, 0, 300), whole[..second as usize]);
}

#[test]
fn odd_names_are_left_alone() {
    let (storage, whole) = closed_log();
    for name in [
        "99999999999999999999.log",
        "1.log",
        ".log",
        "00000000000000000007.logx",
        "README",
        "-0000000000000000001.snapshot",
    ] {
        replace(&storage, &path(name), b"whatever");
    }
    let mut log = reopen(&storage, &config(), false, 0);
    assert_eq!(read_all(&mut log, 0, 300), whole);
    log.close().unwrap();
    assert!(storage.exists(&path("README")).unwrap());
}

#[test]
fn damage_costs_its_batch_and_no_more() {
    let (good, whole) = closed_log();
    let bases = bases(&good);
    for base in &bases {
        let file = path(&file_name(*base, LOG));
        let bytes = contents(&good, &file);
        let next = bases.iter().find(|b| *b > base).copied().unwrap_or(40);
        let batches = (next - base) / 2;
        let batch_bytes = bytes.len() / batches.max(1) as usize;
        for at in 0..bytes.len() {
            let hit = base + (at / batch_bytes) as i64 * 2;
            for (clean, recovery_point) in [(true, 40), (false, 40), (false, 0)] {
                for flip in [0x01, 0x80, 0xff] {
                    let mut bad = bytes.to_vec();
                    bad[at] ^= flip;
                    let (storage, _) = closed_log();
                    replace(&storage, &file, &bad);
                    let mut log = reopen(&storage, &config(), clean, recovery_point);
                    let what =
                        format!("{file}, byte {at} of {batch_bytes}, flip {flip}, clean {clean}");
                    assert_eq!(log.log_end_offset(), 40, "{what}");
                    let found = read_all(&mut log, 0, 300);
                    let rest: Vec<_> = whole
                        .iter()
                        .copied()
                        .filter(|(offset, _)| !(hit..hit + 2).contains(offset))
                        .collect();
                    // The leader epoch is outside of the checksum, and no record depends on it.
                    match (12..16).contains(&(at % batch_bytes)) {
                        true => assert_eq!(found, whole, "{what}"),
                        false => assert_eq!(found, rest, "{what}"),
                    }
                    assert_eq!(append(&mut log, &[5]), 40, "{what}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_in_any_file(
        noise in prop::collection::vec(any::<u8>(), 0..400),
        which in any::<prop::sample::Index>(),
        keep in any::<bool>(),
        clean in any::<bool>(),
    ) {
        let (storage, _) = closed_log();
        let names = storage.list(DIR).unwrap();
        let name = path(&names[which.index(names.len())].name);
        let mut bytes = if keep { contents(&storage, &name).to_vec() } else { Vec::new() };
        bytes.extend_from_slice(&noise);
        replace(&storage, &name, &bytes);
        let options = OpenOptions { clean, recovery_point: 0, log_start_offset: 0 };
        let Ok((mut log, _)) = open(&storage, &config(), options) else { return Ok(()) };
        for from in log.log_start_offset()..=log.log_end_offset() {
            let _ = log.read(from, 500, true, i64::MAX);
        }
        let _ = (log.offset_for_time(1100), log.max_timestamp());
        let end = log.log_end_offset();
        let (bytes, header) = batch(&[1], &FinishOptions::default());
        if let Ok(appended) = log.append(bytes, &header, 0, now(0)) {
            prop_assert_eq!(appended.base_offset, end);
            prop_assert!(log.read(end, 500, true, i64::MAX).unwrap().bytes > 0);
        }
    }

    #[test]
    fn any_bytes_as_indexes(
        offsets in prop::collection::vec((any::<u32>(), any::<u32>()), 0..20),
        times in prop::collection::vec((any::<i64>(), any::<u32>()), 0..20),
        from in 0i64..40,
    ) {
        let (storage, whole) = closed_log();
        let index: Vec<u8> = offsets.iter().flat_map(|(a, b)| [a.to_be_bytes(), b.to_be_bytes()].concat()).collect();
        let time: Vec<u8> = times.iter().flat_map(|(t, o)| [&t.to_be_bytes()[..], &o.to_be_bytes()].concat()).collect();
        replace(&storage, &path(&file_name(0, INDEX)), &index);
        replace(&storage, &path(&file_name(0, TIME_INDEX)), &time);
        let mut log = reopen(&storage, &config(), true, 40);
        prop_assert_eq!(read_all(&mut log, from, 300), &whole[from as usize..]);
    }
}

/// An entry of a message set as Kafka wrote them before 0.11: magic 0 without, magic 1 with a timestamp.
fn old_message(offset: i64, magic: u8) -> Vec<u8> {
    let mut body = vec![magic, 0];
    if magic == 1 {
        body.extend_from_slice(&1_000i64.to_be_bytes());
    }
    body.extend_from_slice(&(-1i32).to_be_bytes());
    body.extend_from_slice(&3i32.to_be_bytes());
    body.extend_from_slice(b"old");
    let crc = !body.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    });
    let mut bytes = offset.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// What an old Kafka wrote is no damage: it must not be cut off, stepped over, or have its offsets given to others.
#[test]
fn messages_of_old_formats_are_refused_and_left_as_they_are() {
    for magic in [0, 1] {
        for old_segments in [1, 2] {
            for new_behind in [false, true] {
                let storage = Arc::new(MemoryStorage::new());
                storage.create_dir(DIR).unwrap();
                let mut end = 0;
                for _ in 0..old_segments {
                    let mut file = Vec::new();
                    let base = end;
                    for _ in 0..3 {
                        file.extend(old_message(end, magic));
                        end += 1;
                    }
                    replace(&storage, &path(&file_name(base, LOG)), &file);
                    replace(&storage, &path(&file_name(base, INDEX)), &[]);
                    replace(&storage, &path(&file_name(base, TIME_INDEX)), &[]);
                }
                if new_behind {
                    // Kafka was told to write the new format since.
                    let (bytes, mut header) = batch(&[5], &FinishOptions::default());
                    header.base_offset = end;
                    let last = path(&file_name(end - 3, LOG));
                    let mut file = contents(&storage, &last).to_vec();
                    file.extend_from_slice(&header.to_bytes());
                    file.extend_from_slice(&bytes[ottla_record::HEADER_LEN..]);
                    replace(&storage, &last, &file);
                }
                let files = |storage: &MemoryStorage| -> Vec<(String, Bytes)> {
                    let logs = storage.list(DIR).unwrap().into_iter();
                    logs.filter(|entry| entry.name.ends_with(LOG))
                        .map(|entry| (entry.name.clone(), contents(storage, &path(&entry.name))))
                        .collect()
                };
                let before = files(&storage);
                for (clean, recovery_point) in [(false, 0), (false, 3), (false, end), (true, end)] {
                    let options = OpenOptions {
                        clean,
                        recovery_point,
                        log_start_offset: 0,
                    };
                    let Err(error) = open(&storage, &config(), options) else {
                        panic!("magic {magic}, clean {clean}: opened")
                    };
                    assert!(
                        error.to_string().contains("message format"),
                        "magic {magic}, clean {clean}: {error}"
                    );
                    assert_eq!(files(&storage), before);
                }
            }
        }
    }
}

/// A Kafka notes its epoch when it becomes the leader, not with the first record; retention leaves an epoch without records, too, and
/// so does a torn end. Clients have been told of it.
#[test]
fn the_newest_leader_epoch_is_never_forgotten() {
    for (epochs, records, expected) in [
        ("0\n1\n7 0\n", 0, [None, Some((7, 9))]),
        ("0\n2\n3 0\n7 2\n", 1, [Some((3, 2)), Some((7, 9))]),
        ("0\n2\n3 0\n7 500\n", 1, [Some((3, 2)), Some((7, 9))]),
        ("0\n3\n3 0\n5 2\n7 500\n", 1, [Some((3, 2)), Some((7, 9))]),
    ] {
        for clean in [true, false] {
            let storage = Arc::new(MemoryStorage::new());
            let mut log = PartitionLog::create(storage.clone(), DIR, config(), now(0)).unwrap();
            for _ in 0..records {
                let (bytes, header) = batch(&[1, 2], &FinishOptions::default());
                log.append(bytes, &header, 3, now(0)).unwrap();
            }
            log.close().unwrap();
            let end = log.log_end_offset();
            replace(
                &storage,
                &path("leader-epoch-checkpoint"),
                epochs.as_bytes(),
            );
            let mut log = reopen(&storage, &config(), clean, 0);
            assert_eq!(log.epochs().latest(), Some(7), "{epochs:?}");
            // What comes now is of this epoch, also for those who open the log after a crash.
            let (bytes, header) = batch(&[3], &FinishOptions::default());
            log.append(bytes, &header, 7, now(0)).unwrap();
            let log = reopen(&storage, &config(), false, 0);
            let found = [3, 7].map(|epoch| log.epochs().end_offset(epoch, 9));
            assert_eq!(found, expected, "{epochs:?}");
            assert_eq!(log.epochs().epoch_at(end), Some(7));
        }
    }
}
