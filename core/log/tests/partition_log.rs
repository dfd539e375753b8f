//! A partition's log against a model: what was appended, and what must come back after any sequence of calls, restarts and cuts.

mod common;

use common::{DIR, append, batch, now, read_all, reopen};
use ottla_log::{
    LogConfig, LogError, MemoryStorage, OpenHow, OpenOptions, PartitionLog, SequenceCheck, Storage,
    StorageErrorKind,
    names::{INDEX, LOG, SNAPSHOT, TIME_INDEX, file_name},
};
use ottla_record::{BatchHeader, Batches, FinishOptions, Limits};
use proptest::prelude::*;
use std::sync::Arc;

#[test]
fn reads_share_the_appended_bytes() {
    let mut log = PartitionLog::create(
        Arc::new(MemoryStorage::new()),
        DIR,
        LogConfig::default(),
        now(0),
    )
    .unwrap();
    let (bytes, header) = batch(&[1, 2, 3], &FinishOptions::default());
    log.append(bytes.clone(), &header, 7, now(1)).unwrap();
    let slice = log.read(1, 1, true, i64::MAX).unwrap();
    assert_eq!(
        slice.chunks[1].as_ptr(),
        bytes[61..].as_ptr(),
        "the body is shared, not copied"
    );
    assert_eq!(
        BatchHeader::parse(&slice.chunks[0])
            .unwrap()
            .partition_leader_epoch,
        7
    );
    assert_eq!(slice.base_offset, 0);
    assert_eq!(
        log.read(1, 1, false, i64::MAX).unwrap().bytes,
        0,
        "too small for the batch, and none is forced"
    );
    assert_eq!(
        log.read(0, 1 << 20, true, 2).unwrap().bytes,
        0,
        "a batch that goes beyond up_to is left out"
    );
    assert_eq!(log.read(3, 1 << 20, true, i64::MAX).unwrap().bytes, 0);
    for offset in [-1, 4] {
        assert!(matches!(
            log.read(offset, 1, true, 9),
            Err(LogError::OffsetOutOfRange {
                log_end_offset: 3,
                ..
            })
        ));
    }
}

#[test]
fn log_append_time_is_written_and_checked() {
    let config = LogConfig {
        log_append_time: true,
        ..LogConfig::default()
    };
    let mut log =
        PartitionLog::create(Arc::new(MemoryStorage::new()), DIR, config, now(0)).unwrap();
    let (bytes, header) = batch(&[1, 2], &FinishOptions::default());
    assert_eq!(
        log.append(bytes, &header, 0, now(500))
            .unwrap()
            .log_append_time,
        500
    );
    let slice = log.read(0, 1 << 20, true, i64::MAX).unwrap();
    let batch = Batches::new(slice.chunks).next().unwrap().unwrap();
    batch.check_crc().unwrap();
    let mut records = batch.records(Limits::default()).unwrap();
    assert_eq!(records.next_record().unwrap().unwrap().timestamp, 500);
    assert_eq!(log.offset_for_time(500).unwrap(), Some((500, 0)));
}

#[test]
fn times_are_found_down_to_the_record() {
    let config = LogConfig {
        segment_bytes: 600,
        index_interval_bytes: 100,
        ..LogConfig::default()
    };
    let mut log =
        PartitionLog::create(Arc::new(MemoryStorage::new()), DIR, config, now(0)).unwrap();
    assert_eq!(log.offset_for_time(0).unwrap(), None);
    let mut all = Vec::new();
    for i in 0..50 {
        // Timestamps go back now and then.
        let timestamps = [i * 10, i * 10 + 5, i * 10 - i % 3 * 20];
        let base = append(&mut log, &timestamps);
        all.extend(
            timestamps
                .iter()
                .enumerate()
                .map(|(k, t)| (*t, base + k as i64)),
        );
    }
    assert!(log.segment_count() > 3);
    for target in -30..510 {
        assert_eq!(
            log.offset_for_time(target).unwrap(),
            all.iter().find(|(t, _)| *t >= target).copied(),
            "{target}"
        );
    }
    assert_eq!(log.max_timestamp().unwrap(), Some((495, 148)));
}

#[test]
fn files_are_kafkas() {
    let storage = Arc::new(MemoryStorage::new());
    let config = LogConfig {
        segment_bytes: 400,
        index_interval_bytes: 100,
        ..LogConfig::default()
    };
    let mut log = PartitionLog::create(storage.clone(), DIR, config, now(0)).unwrap();
    (0..10).for_each(|i| _ = append(&mut log, &[i * 100]));
    log.close().unwrap();
    let names: Vec<String> = storage
        .list(DIR)
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert!(names.contains(&"leader-epoch-checkpoint".to_string()));
    let bases: Vec<i64> = names
        .iter()
        .filter_map(|name| ottla_log::names::offset_of(name, LOG))
        .collect();
    assert_eq!(bases, [0, 5]);
    for base in bases {
        for suffix in [INDEX, TIME_INDEX] {
            assert!(
                names.contains(&file_name(base, suffix)),
                "{suffix} of {base}"
            );
        }
    }
    assert!(names.contains(&file_name(5, SNAPSHOT)) && names.contains(&file_name(10, SNAPSHOT)));
    let epochs = storage
        .open("t-0/leader-epoch-checkpoint", OpenHow::ReadOnly)
        .unwrap();
    assert_eq!(
        epochs.read_exact(0, epochs.len() as usize).unwrap(),
        b"0\n1\n0 0\n"[..]
    );
}

#[test]
fn retention_and_start() {
    let storage = Arc::new(MemoryStorage::new());
    let config = LogConfig {
        segment_bytes: 400,
        retention_ms: 1000,
        ..LogConfig::default()
    };
    let mut log = PartitionLog::create(storage.clone(), DIR, config.clone(), now(0)).unwrap();
    (0..20).for_each(|i| _ = append(&mut log, &[i * 100]));
    let before = log.segment_count();
    assert_eq!(
        log.delete_old_segments(now(1500), 5).unwrap(),
        1,
        "never beyond the high watermark"
    );
    assert_eq!(log.log_start_offset(), 5);
    assert_eq!(log.segment_count(), before - 1);
    log.advance_start(12).unwrap();
    assert_eq!(read_all(&mut log, 12, 1 << 20).len(), 8);
    assert!(matches!(
        log.read(11, 1, true, 99),
        Err(LogError::OffsetOutOfRange {
            log_start_offset: 12,
            ..
        })
    ));
    assert!(log.advance_start(21).is_err());
    assert_eq!(
        log.delete_old_segments(now(100_000), i64::MAX).unwrap(),
        2,
        "the last one too, once all is old"
    );
    assert_eq!(
        (
            log.log_start_offset(),
            log.log_end_offset(),
            log.segment_count()
        ),
        (20, 20, 1)
    );
    log.close().unwrap();
    let mut log = reopen(&storage, &config, true, 0);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (20, 20));
    assert_eq!(append(&mut log, &[5]), 20);

    let config = LogConfig {
        retention_ms: -1,
        retention_bytes: 500,
        segment_bytes: 300,
        ..LogConfig::default()
    };
    let mut log =
        PartitionLog::create(Arc::new(MemoryStorage::new()), DIR, config, now(0)).unwrap();
    (0..20).for_each(|i| _ = append(&mut log, &[i]));
    log.delete_old_segments(now(0), i64::MAX).unwrap();
    assert!(
        (500..800).contains(&log.size_bytes()),
        "{}",
        log.size_bytes()
    );
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let config = LogConfig {
        segment_bytes: 500,
        index_interval_bytes: 64,
        ..LogConfig::default()
    };
    let build = || {
        let storage = Arc::new(MemoryStorage::new());
        let mut log = PartitionLog::create(storage.clone(), DIR, config.clone(), now(0)).unwrap();
        // Timestamps of equal width, so that all batches are of one size.
        (0..12).for_each(|i| _ = append(&mut log, &[1000 + i * 10, 1001 + i * 10]));
        storage
    };
    let path = |base| format!("{DIR}/{}", file_name(base, LOG));
    let storage = build();
    let bases: Vec<i64> = storage
        .list(DIR)
        .unwrap()
        .iter()
        .filter_map(|e| ottla_log::names::offset_of(&e.name, LOG))
        .collect();
    let last = *bases.last().unwrap();
    let size = storage.open(&path(last), OpenHow::ReadOnly).unwrap().len();
    let whole = read_all(&mut reopen(&storage, &config, false, 0), 0, 1 << 20);
    assert_eq!(whole.len(), 24);
    let batch_bytes = size / ((24 - last as u64) / 2);
    for cut in 0..size {
        let storage = build();
        storage
            .open(&path(last), OpenHow::Existing)
            .unwrap()
            .truncate(cut)
            .unwrap();
        for attempt in 0..2 {
            // The second time nothing is left to mend.
            let mut log = reopen(&storage, &config, attempt == 1, 0);
            let kept = last as usize + (cut / batch_bytes) as usize * 2;
            assert_eq!(read_all(&mut log, 0, 200), whole[..kept], "cut at {cut}");
            if attempt == 0 {
                log.close().unwrap();
            } else {
                assert_eq!(append(&mut log, &[999]), kept as i64);
            }
        }
    }
    for flip in 0..size {
        let storage = build();
        let mut file = storage.open(&path(last), OpenHow::Existing).unwrap();
        let byte = file.read_exact(flip, 1).unwrap()[0];
        file.write_at(flip, &[byte ^ 0x40]).unwrap();
        let mut log = reopen(&storage, &config, false, 0);
        let found = read_all(&mut log, 0, 1 << 20);
        // Base offset and leader epoch are not covered by the checksum; everything else is.
        let kept = last as usize + (flip / batch_bytes) as usize * 2;
        if flip % batch_bytes >= 16 {
            assert_eq!(found, whole[..kept], "flip at {flip}");
        }
    }
}

#[test]
fn missing_and_damaged_side_files_are_made_again() {
    let config = LogConfig {
        segment_bytes: 500,
        index_interval_bytes: 64,
        ..LogConfig::default()
    };
    let storage = Arc::new(MemoryStorage::new());
    let mut log = PartitionLog::create(storage.clone(), DIR, config.clone(), now(0)).unwrap();
    let idempotent = |sequence| FinishOptions {
        producer_id: 9,
        producer_epoch: 0,
        base_sequence: sequence,
        ..FinishOptions::default()
    };
    for i in 0..12 {
        let (bytes, header) = batch(&[i * 10], &idempotent(i as i32));
        assert_eq!(log.producers().check(&header), SequenceCheck::Accept);
        log.append(bytes, &header, 0, now(0)).unwrap();
    }
    log.close().unwrap();
    let whole = read_all(&mut log, 0, 1 << 20);
    drop(log);
    for entry in storage.list(DIR).unwrap() {
        if entry.name.ends_with(LOG) {
            continue;
        }
        let path = format!("{DIR}/{}", entry.name);
        for damage in 0..3 {
            let mut file = storage.open(&path, OpenHow::OpenOrCreate).unwrap();
            match damage {
                0 => file.write_at(0, &[0xff; 7]).unwrap(),
                1 => file.truncate(file.len().min(5)).unwrap(),
                _ => storage.remove_file(&path).unwrap(),
            }
            let mut log = reopen(&storage, &config, true, 12);
            assert_eq!(read_all(&mut log, 0, 300), whole, "{path}, damage {damage}");
            assert_eq!(log.offset_for_time(50).unwrap(), Some((50, 5)));
            let (_, repeated) = batch(&[110], &idempotent(11));
            assert_eq!(
                log.producers().check(&repeated),
                SequenceCheck::Duplicate {
                    base_offset: 11,
                    timestamp: 110
                }
            );
            log.close().unwrap();
        }
    }
    let orphan = format!("{DIR}/{}", file_name(77, INDEX));
    storage.open(&orphan, OpenHow::CreateNew).unwrap();
    reopen(&storage, &config, true, 12);
    assert!(!storage.exists(&orphan).unwrap());
}

#[test]
fn a_failed_write_stops_the_log() {
    let mut log = PartitionLog::create(
        Arc::new(MemoryStorage::new()),
        DIR,
        LogConfig::default(),
        now(0),
    )
    .unwrap();
    append(&mut log, &[1]);
    log.fail(&ottla_log::StorageError::new(
        StorageErrorKind::Full,
        "no space left on the device",
    ));
    let (bytes, header) = batch(&[2], &FinishOptions::default());
    let error = log.append(bytes, &header, 0, now(0)).unwrap_err();
    assert!(
        matches!(&error, LogError::Stopped(why) if why.contains("no space")),
        "{error}"
    );
    assert_eq!(
        read_all(&mut log, 0, 99).len(),
        1,
        "what is there can still be read"
    );
}

#[test]
fn synced_is_what_the_job_covers() {
    let mut log = PartitionLog::create(
        Arc::new(MemoryStorage::new()),
        DIR,
        LogConfig::default(),
        now(0),
    )
    .unwrap();
    append(&mut log, &[1]);
    let job = log.sync_targets().unwrap().unwrap();
    append(&mut log, &[2]);
    job.run().unwrap();
    log.mark_synced(job.up_to);
    assert_eq!((log.synced_offset(), log.log_end_offset()), (1, 2));
    let job = log.sync_targets().unwrap().unwrap();
    log.mark_synced(job.up_to);
    assert!(log.sync_targets().unwrap().is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<i64>),
    Roll,
    Reopen { clean: bool },
    Start(u8),
    Check { from: u8, max_bytes: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(0i64..1000, 1..8).prop_map(Step::Append),
        1 => Just(Step::Roll),
        1 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
        1 => any::<u8>().prop_map(Step::Start),
        4 => (any::<u8>(), 1usize..3000).prop_map(|(from, max_bytes)| Step::Check { from, max_bytes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn behaves_like_a_list(steps in prop::collection::vec(step(), 1..60), segment_bytes in 200u64..3000, interval in 0u64..500) {
        let config = LogConfig { segment_bytes, index_interval_bytes: interval, ..LogConfig::default() };
        let storage = Arc::new(MemoryStorage::new());
        let mut log = PartitionLog::create(storage.clone(), DIR, config.clone(), now(0)).unwrap();
        let mut model: Vec<(i64, i64)> = Vec::new();
        let (mut start, mut next) = (0i64, 0i64);
        for step in steps {
            match step {
                Step::Append(timestamps) => {
                    let (bytes, header) = batch(&timestamps, &FinishOptions::default());
                    match log.append(bytes, &header, 0, now(0)) {
                        Ok(done) => {
                            prop_assert_eq!(done.base_offset, next);
                            for timestamp in timestamps {
                                model.push((next, timestamp));
                                next += 1;
                            }
                        }
                        Err(LogError::BatchTooLarge { .. }) => {}
                        Err(error) => return Err(TestCaseError::fail(error.to_string())),
                    }
                }
                Step::Roll => log.roll(now(0)).unwrap(),
                Step::Reopen { clean } => {
                    if clean {
                        log.close().unwrap();
                    }
                    drop(log);
                    let options = OpenOptions { clean, recovery_point: 0, log_start_offset: start };
                    log = PartitionLog::open(storage.clone(), DIR, config.clone(), now(0), options).unwrap().0;
                }
                Step::Start(part) => {
                    start = start.max(next * i64::from(part) / 255);
                    log.advance_start(start).unwrap();
                    model.retain(|(offset, _)| *offset >= start);
                }
                Step::Check { from, max_bytes } => {
                    let from = start + (next - start) * i64::from(from) / 255;
                    let expected: Vec<_> = model.iter().filter(|(offset, _)| *offset >= from).copied().collect();
                    prop_assert_eq!(read_all(&mut log, from, max_bytes), expected);
                }
            }
            prop_assert_eq!((log.log_start_offset(), log.log_end_offset()), (start, next));
        }
    }
}

/// `segment.jitter.ms`: segments of different logs are closed at different ages, none too late, each at the same one every time.
#[test]
fn segments_of_many_logs_are_not_closed_at_once() {
    let storage = Arc::new(MemoryStorage::new());
    let config = LogConfig {
        segment_ms: 1_000,
        segment_jitter_ms: 400,
        ..LogConfig::default()
    };
    let rolled_at = |dir: &str| {
        let mut log = PartitionLog::create(storage.clone(), dir, config.clone(), now(0)).unwrap();
        let mut at = 0;
        while log.segment_count() == 1 {
            append(&mut log, &[at]);
            at += 1;
        }
        at - 1
    };
    let ages: Vec<i64> = (0..20).map(|i| rolled_at(&format!("t-{i}"))).collect();
    assert!(
        ages.iter().all(|age| (602..=1_001).contains(age)),
        "{ages:?}"
    );
    let different: std::collections::BTreeSet<_> = ages.iter().collect();
    assert!(different.len() > 10, "{ages:?}");
    storage.remove_dir("t-3").unwrap();
    assert_eq!(rolled_at("t-3"), ages[3]);
}

/// The record with the largest timestamp is one of those that are left.
#[test]
fn the_largest_timestamp_is_that_of_a_record_behind_the_start() {
    let storage = Arc::new(MemoryStorage::new());
    let mut log = PartitionLog::create(storage, DIR, LogConfig::default(), now(0)).unwrap();
    append(&mut log, &[5_000, 300, 400]);
    append(&mut log, &[100, 200]);
    append(&mut log, &[150]);
    let expected = [(5_000, 0), (400, 2), (400, 2), (200, 4), (200, 4), (150, 5)];
    for (start, largest) in (0..).zip(expected) {
        log.advance_start(start).unwrap();
        assert_eq!(log.max_timestamp().unwrap(), Some(largest), "from {start}");
    }
    log.advance_start(6).unwrap();
    assert_eq!(log.max_timestamp().unwrap(), None);
}
