//! The files of a closed log, byte for byte, against Kafka's rules written down once more.

mod common;

use common::{DIR, batch, now};
use ottla_log::{
    LogConfig, MemoryStorage, OpenHow, PartitionLog, Storage, data_dir,
    names::{INDEX, LOG, SNAPSHOT, TIME_INDEX, file_name, offset_of},
};
use ottla_record::{FinishOptions, crc32c};
use std::sync::Arc;

const INTERVAL: u64 = 300;

fn contents(storage: &MemoryStorage, name: &str) -> Vec<u8> {
    let path = format!("{DIR}/{name}");
    let file = storage.open(&path, OpenHow::ReadOnly).unwrap();
    file.read_exact(0, file.len() as usize).unwrap().to_vec()
}

/// A closed log of several segments with timestamps that go up and down.
fn closed_log() -> Arc<MemoryStorage> {
    let storage = Arc::new(MemoryStorage::new());
    let config = LogConfig {
        segment_bytes: 1500,
        index_interval_bytes: INTERVAL,
        ..LogConfig::default()
    };
    let mut log = PartitionLog::create(storage.clone(), DIR, config, now(0)).unwrap();
    let mut sequence = 0;
    for i in 0..60i64 {
        let records = 1 + i % 4;
        let timestamps: Vec<i64> = (0..records)
            .map(|r| 5000 + i * 10 + r - i % 3 * 25)
            .collect();
        let options = FinishOptions {
            producer_id: 0x0102_0304,
            producer_epoch: 7,
            base_sequence: sequence,
            ..FinishOptions::default()
        };
        sequence += records as i32;
        let (bytes, header) = batch(&timestamps, &options);
        log.append(bytes, &header, if i < 40 { 3 } else { 5 }, now(5000))
            .unwrap();
    }
    log.close().unwrap();
    storage
}

fn number(bytes: &[u8]) -> i64 {
    let first = if bytes[0] >= 128 { -1 } else { 0 };
    bytes.iter().fold(first, |n, b| n << 8 | i64::from(*b))
}

#[test]
fn segments_and_indexes() {
    let storage = closed_log();
    let names = storage.list(DIR).unwrap();
    let bases: Vec<i64> = names
        .iter()
        .filter_map(|e| offset_of(&e.name, LOG))
        .collect();
    assert!(bases.len() >= 3);
    let mut next_offset = 0;
    for base in bases {
        assert_eq!(
            base, next_offset,
            "a segment begins where the one before ends"
        );
        let log = contents(&storage, &file_name(base, LOG));
        assert!(log.len() <= 1500);
        let (mut index, mut time_index) = (Vec::new(), Vec::new());
        let (mut position, mut since, mut largest) = (0, 0u64, (-1, -1));
        let mut last_time = -1;
        let mut add_time = |largest: (i64, i64), time_index: &mut Vec<u8>| {
            if largest.0 > last_time {
                time_index.extend_from_slice(&largest.0.to_be_bytes());
                time_index.extend_from_slice(&((largest.1 - base) as i32).to_be_bytes());
                last_time = largest.0;
            }
        };
        while position < log.len() {
            let batch = &log[position..];
            let size = 12 + number(&batch[8..12]) as usize;
            assert_eq!(number(&batch[..8]), next_offset);
            assert_eq!(
                number(&batch[12..16]),
                if next_offset < 100 { 3 } else { 5 }
            );
            assert_eq!(batch[16], 2);
            assert_eq!(number(&batch[17..21]) as u32, crc32c(&batch[21..size]));
            let last_offset = next_offset + number(&batch[23..27]);
            let max_timestamp = number(&batch[35..43]);
            if max_timestamp > largest.0 {
                largest = (max_timestamp, last_offset);
            }
            if since > INTERVAL {
                index.extend_from_slice(&((last_offset - base) as i32).to_be_bytes());
                index.extend_from_slice(&(position as i32).to_be_bytes());
                add_time(largest, &mut time_index);
                since = 0;
            }
            since += size as u64;
            position += size;
            next_offset = last_offset + 1;
        }
        add_time(largest, &mut time_index);
        assert_eq!(contents(&storage, &file_name(base, INDEX)), index, "{base}");
        let written = contents(&storage, &file_name(base, TIME_INDEX));
        assert_eq!(written, time_index, "{base}");
        assert!(base == 0 || names.iter().any(|e| e.name == file_name(base, SNAPSHOT)));
    }
    assert_eq!(next_offset, 150);
}

#[test]
fn producer_snapshot() {
    let bytes = contents(&closed_log(), &file_name(150, SNAPSHOT));
    let mut entries = Vec::new();
    entries.extend_from_slice(&5i32.to_be_bytes()); // count: five batches of one producer, the newest last
    for (last, delta, time) in [
        (139, 3, 550 + 3 - 25),
        (140, 0, 560 - 50),
        (142, 1, 570 + 1),
        (145, 2, 580 + 2 - 25),
        (149, 3, 590 + 3 - 50),
    ] {
        entries.extend_from_slice(&0x0102_0304i64.to_be_bytes()); // producer id
        entries.extend_from_slice(&7i16.to_be_bytes()); // epoch
        entries.extend_from_slice(&i32::to_be_bytes(last)); // last sequence
        entries.extend_from_slice(&i64::from(last).to_be_bytes()); // last offset
        entries.extend_from_slice(&i32::to_be_bytes(delta)); // offset delta of the batch
        entries.extend_from_slice(&i64::to_be_bytes(5000 + time)); // timestamp
        entries.extend_from_slice(&(-1i32).to_be_bytes()); // coordinator epoch
        entries.extend_from_slice(&(-1i64).to_be_bytes()); // first offset of an open transaction
    }
    assert_eq!(bytes[..2], [0, 1]);
    assert_eq!(bytes[2..6], crc32c(&entries).to_be_bytes());
    assert_eq!(bytes[6..], entries);
}

#[test]
fn leader_epochs_and_topic_id() {
    let storage = closed_log();
    let epochs = contents(&storage, "leader-epoch-checkpoint");
    assert_eq!(String::from_utf8(epochs).unwrap(), "0\n2\n3 0\n5 100\n");
    data_dir::write_topic_id(&*storage, DIR, "5L6g3nShT-eMCtK--X86sw").unwrap();
    let id = contents(&storage, "partition.metadata");
    assert_eq!(id, b"version: 0\ntopic_id: 5L6g3nShT-eMCtK--X86sw");
}
