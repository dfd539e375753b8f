//! Puts any bytes in place of a clean log's offset and time index: every record must still be found by its offset.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_log::{LogConfig, MemoryStorage, OpenHow, OpenOptions, PartitionLog, Storage};
use ottla_record::{BatchBuilder, BatchHeader, FinishOptions, Now};
use std::sync::Arc;

const RECORDS: i64 = 60;

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let storage = Arc::new(MemoryStorage::new());
    let now = Now::default();
    let config = LogConfig {
        index_interval_bytes: 100,
        ..LogConfig::default()
    };
    let mut log =
        PartitionLog::create(storage.clone(), "t-0", config.clone(), now).expect("memory");
    for timestamp in 0..RECORDS / 2 {
        let mut builder = BatchBuilder::new(128);
        for _ in 0..2 {
            builder
                .append(timestamp, None, Some(b"value"), &[])
                .expect("fits");
        }
        let done = builder.finish(&FinishOptions::default()).expect("fits");
        log.append(done.encoded, &done.header, 0, now)
            .expect("memory");
    }
    log.close().expect("memory");
    for (suffix, bytes) in [("index", input.0), ("timeindex", input.1)] {
        let path = format!("t-0/00000000000000000000.{suffix}");
        let mut file = storage.open(&path, OpenHow::Existing).expect("written");
        file.truncate(0).expect("memory");
        file.append(&[Bytes::from(bytes)]).expect("memory");
    }
    let options = OpenOptions {
        clean: true,
        recovery_point: RECORDS,
        log_start_offset: 0,
    };
    let (mut log, _) = PartitionLog::open(storage, "t-0", config, now, options).expect("opens");
    assert_eq!(log.log_end_offset(), RECORDS);
    for offset in 0..RECORDS {
        let slice = log.read(offset, 1, true, RECORDS).expect("found");
        assert_eq!(slice.base_offset, offset / 2 * 2);
        BatchHeader::parse(&slice.chunks.concat()).expect("a batch");
    }
    let _ = (log.offset_for_time(7), log.max_timestamp());
});
