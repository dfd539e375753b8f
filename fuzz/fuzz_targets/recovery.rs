//! Opens a directory of any small files as a log, after a clean or an unclean stop. If it opens, what is in it can be read whatever it
//! is, a batch can be appended, and after a clean stop the same is there.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_log::{LogConfig, MemoryStorage, OpenHow, OpenOptions, PartitionLog, Storage};
use ottla_record::{BatchBuilder, Batches, FinishOptions, Limits, Now, crc32c};
use std::sync::Arc;

/// What may lie in a partition's directory: files of three segments, and leftovers of changes that a crash interrupted.
const NAMES: [&str; 20] = [
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000000.txnindex",
    "00000000000000000002.log",
    "00000000000000000002.index",
    "00000000000000000002.timeindex",
    "00000000000000000002.snapshot",
    "00000000000000000005.log",
    "00000000000000000005.index",
    "00000000000000000005.timeindex",
    "00000000000000000005.snapshot",
    "00000000000000000000.log.swap",
    "00000000000000000000.log.cleaned",
    "00000000000000000000.log.deleted",
    "00000000000000000000.index.tmp",
    "leader-epoch-checkpoint",
    "partition.metadata",
    "leader-epoch-checkpoint.tmp",
    "99999999999999999999.log",
];

/// Sets the checksums of batches and snapshots right, which mutations hardly ever hit.
fn seal(name: &str, bytes: &mut [u8]) {
    if name.ends_with(".snapshot") && bytes.len() >= 6 {
        let crc = crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
    }
    if !name.contains(".log") {
        return;
    }
    let mut at = 0;
    while let Some(batch) = bytes.get_mut(at..).filter(|batch| batch.len() >= 61) {
        let length = i32::from_be_bytes([batch[8], batch[9], batch[10], batch[11]]);
        let end = 12usize.saturating_add(length.max(0) as usize);
        if end < 61 || end > batch.len() {
            return;
        }
        let crc = crc32c(&batch[21..end]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        at += end;
    }
}

/// Offset and value of all that can be read; what can't is passed over.
fn read_all(log: &mut PartitionLog) -> Vec<(i64, Option<Bytes>)> {
    let (mut next, end) = (log.log_start_offset(), log.log_end_offset());
    let mut all = Vec::new();
    // Offsets may leap, and a damaged place may be refused offset by offset: not for ever.
    for _ in 0..200 {
        if next >= end {
            break;
        }
        let Ok(slice) = log.read(next, 4096, true, end) else {
            next += 1;
            continue;
        };
        let before = next;
        for batch in Batches::new(slice.chunks) {
            let Ok(batch) = batch else { break };
            next = next.max(batch.header().next_offset());
            let limits = Limits {
                decompressed_bytes: 1 << 16,
            };
            let Ok(mut records) = batch.records(limits) else {
                continue;
            };
            while let Some(Ok(record)) = records.next_record() {
                all.push((record.offset, record.value.map(Bytes::copy_from_slice)));
            }
        }
        if next == before {
            next += 1;
        }
    }
    all
}

fuzz_target!(|input: (bool, u8, Vec<(u8, Vec<u8>)>)| {
    let (clean, recovery_point, files) = input;
    let storage = Arc::new(MemoryStorage::new());
    storage.create_dir("t-0").expect("new");
    for (name, mut bytes) in files.into_iter().take(12) {
        let name = NAMES[name as usize % NAMES.len()];
        seal(name, &mut bytes);
        let path = format!("t-0/{name}");
        let mut file = storage
            .open(&path, OpenHow::OpenOrCreate)
            .expect("a good path");
        file.append(&[Bytes::from(bytes)]).expect("memory");
    }
    let config = LogConfig {
        index_interval_bytes: 64,
        segment_bytes: 512,
        ..LogConfig::default()
    };
    let open = |clean, recovery_point| {
        let options = OpenOptions {
            clean,
            recovery_point,
            ..OpenOptions::default()
        };
        PartitionLog::open(
            storage.clone(),
            "t-0",
            config.clone(),
            Now::default(),
            options,
        )
    };
    let Ok((mut log, _)) = open(clean, recovery_point.into()) else {
        return; // an error is an answer
    };
    let before = read_all(&mut log);
    let _ = (log.offset_for_time(0), log.max_timestamp());
    let mut builder = BatchBuilder::new(64);
    builder
        .append(1, None, Some(b"after"), &[])
        .expect("it fits");
    let batch = builder.finish(&FinishOptions::default()).expect("it fits");
    let end = log.log_end_offset();
    if end < i64::from(i32::MAX)
        && log
            .append(batch.encoded, &batch.header, 0, Now::default())
            .is_err()
    {
        return;
    }
    let end = log.log_end_offset();
    if log.close().is_err() {
        return;
    }
    drop(log);
    let (mut again, _) = open(true, end).expect("what was closed opens");
    assert_eq!(again.log_end_offset(), end);
    let after = read_all(&mut again);
    assert!(
        after.starts_with(&before) || after.len() >= 200,
        "{before:?} became {after:?}"
    );
});
