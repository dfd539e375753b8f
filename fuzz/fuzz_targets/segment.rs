//! Opens any bytes as a log file after an unclean stop. What is left must be readable, appendable, and stay so.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_log::{LogConfig, MemoryStorage, OpenHow, OpenOptions, PartitionLog, Storage};
use ottla_record::{Batches, Now, crc32c};
use std::sync::Arc;

/// Sets the checksum of every batch right, which mutations hardly ever hit.
fn seal(bytes: &mut [u8]) {
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

fn open(storage: &Arc<MemoryStorage>, clean: bool) -> PartitionLog {
    let options = OpenOptions {
        clean,
        ..OpenOptions::default()
    };
    let config = LogConfig {
        index_interval_bytes: 64,
        ..LogConfig::default()
    };
    PartitionLog::open(storage.clone(), "t-0", config, Now::default(), options)
        .expect("storage doesn't fail")
        .0
}

fn read_all(log: &mut PartitionLog) -> Vec<u8> {
    let (mut next, end) = (log.log_start_offset(), log.log_end_offset());
    let mut all = Vec::new();
    while next < end {
        let slice = log
            .read(next, 1000, true, end)
            .expect("checked when opened");
        if slice.bytes == 0 {
            break;
        }
        all.extend(slice.chunks.iter().flatten());
        for batch in Batches::new(slice.chunks) {
            next = batch.expect("whole").header().next_offset();
        }
    }
    all
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    seal(&mut bytes);
    let storage = Arc::new(MemoryStorage::new());
    storage.create_dir("t-0").expect("new");
    storage
        .open("t-0/00000000000000000000.log", OpenHow::CreateNew)
        .and_then(|mut file| file.append(&[Bytes::from(bytes.clone())]))
        .expect("new");
    let mut log = open(&storage, false);
    let found = read_all(&mut log);
    assert!(bytes.starts_with(&found));
    assert_eq!(log.size_bytes(), found.len() as u64);
    let _ = (log.offset_for_time(0), log.max_timestamp());
    log.close().expect("memory doesn't fail");
    let mut again = open(&storage, true);
    assert_eq!(again.log_end_offset(), log.log_end_offset());
    assert_eq!(read_all(&mut again), found);
});
