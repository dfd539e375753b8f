//! Building, reading and opening logs in tests.
#![allow(dead_code)] // no test uses all of it

use bytes::Bytes;
use ottla_log::{LogConfig, LogError, MemoryStorage, OpenOptions, PartitionLog, Recovery};
use ottla_record::{BatchBuilder, BatchHeader, Batches, FinishOptions, Limits, Now};
use std::sync::Arc;

pub const DIR: &str = "t-0";

pub fn now(ms: i64) -> Now {
    Now::new(ms as u64 * 1000, ms)
}

/// A batch of records with these timestamps; the value is the timestamp's text.
pub fn batch(timestamps: &[i64], options: &FinishOptions) -> (Bytes, BatchHeader) {
    let mut builder = BatchBuilder::new(256);
    for timestamp in timestamps {
        builder
            .append(
                *timestamp,
                Some(b"key"),
                Some(timestamp.to_string().as_bytes()),
                &[],
            )
            .unwrap();
    }
    let done = builder.finish(options).unwrap();
    (done.encoded, done.header)
}

pub fn append(log: &mut PartitionLog, timestamps: &[i64]) -> i64 {
    let (bytes, header) = batch(timestamps, &FinishOptions::default());
    log.append(bytes, &header, 0, now(timestamps[0]))
        .unwrap()
        .base_offset
}

/// Every record from `from` on as (offset, timestamp), read in pieces of `max_bytes`.
pub fn read_all(log: &mut PartitionLog, mut from: i64, max_bytes: usize) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    loop {
        let slice = log.read(from, max_bytes, true, i64::MAX).unwrap();
        assert_eq!(
            slice.chunks.iter().map(Bytes::len).sum::<usize>(),
            slice.bytes
        );
        if slice.bytes == 0 {
            return found;
        }
        for batch in Batches::new(slice.chunks) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            let mut records = batch.records(Limits::default()).unwrap();
            while let Some(record) = records.next_record() {
                let record = record.unwrap();
                if record.offset >= from {
                    assert_eq!(record.value, Some(record.timestamp.to_string().as_bytes()));
                    found.push((record.offset, record.timestamp));
                }
            }
            from = from.max(batch.header().next_offset());
        }
    }
}

pub fn reopen(
    storage: &Arc<MemoryStorage>,
    config: &LogConfig,
    clean: bool,
    recovery_point: i64,
) -> PartitionLog {
    let options = OpenOptions {
        clean,
        recovery_point,
        log_start_offset: 0,
    };
    open(storage, config, options).unwrap().0
}

pub fn open(
    storage: &Arc<MemoryStorage>,
    config: &LogConfig,
    options: OpenOptions,
) -> Result<(PartitionLog, Recovery), LogError> {
    PartitionLog::open(storage.clone(), DIR, config.clone(), now(0), options)
}
