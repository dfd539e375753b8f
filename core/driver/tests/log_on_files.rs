//! A partition's log on real files: what it reads back while it grows, when it is closed, and after it was opened again.

use ottla_driver::{FileStorage, FileStorageOptions};
use ottla_log::{LogConfig, LogError, OpenOptions, PartitionLog};
use ottla_record::{BatchBuilder, Batches, FinishOptions, Now};
use std::{path::Path, sync::Arc};

const BATCHES: i64 = 3000;

fn now() -> Now {
    Now::new(0, 1_700_000_000_000)
}

fn storage(dir: &Path, options: FileStorageOptions) -> Arc<FileStorage> {
    Arc::new(FileStorage::with_options(dir, options))
}

fn append(log: &mut PartitionLog, i: i64) -> usize {
    let mut builder = BatchBuilder::new(4096);
    let value = vec![i as u8; (i * 37 % 2900) as usize];
    builder.append(i, None, Some(&value), &[]).unwrap();
    let done = builder.finish(&FinishOptions::default()).unwrap();
    let appended = log
        .append(done.encoded.clone(), &done.header, 0, now())
        .unwrap();
    assert_eq!(appended.base_offset, i);
    done.encoded.len()
}

fn check(log: &mut PartitionLog, from: i64, max_bytes: usize) {
    let (mut next, end) = (from, log.log_end_offset());
    while next < end {
        let slice = log.read(next, max_bytes, true, end).unwrap();
        assert!(slice.bytes > 0);
        for batch in Batches::new(slice.chunks) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            assert_eq!(batch.header().base_offset, next);
            assert_eq!(batch.header().max_timestamp, next);
            next += 1;
        }
    }
}

#[test]
fn what_was_appended_comes_back() {
    let small = FileStorageOptions {
        tail_bytes: 10_000,
        ..FileStorageOptions::default()
    };
    let unmapped = FileStorageOptions {
        map_files: false,
        ..small
    };
    for options in [FileStorageOptions::default(), small, unmapped] {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig {
            segment_bytes: 2_500_000,
            ..LogConfig::default()
        };
        let mut log =
            PartitionLog::create(storage(dir.path(), options), "t-0", config.clone(), now())
                .unwrap();
        for i in 0..BATCHES {
            append(&mut log, i);
            if i % 500 == 0 {
                check(&mut log, i / 2, 100_000);
                check(&mut log, i - i % 97, 1);
                let job = log.sync_targets().unwrap().unwrap();
                job.run().unwrap();
                log.mark_synced(job.up_to);
            }
        }
        assert_eq!(log.segment_count(), 2);
        check(&mut log, 0, 1 << 20);
        log.close().unwrap();
        drop(log);
        for clean in [true, false] {
            let options = OpenOptions {
                clean,
                recovery_point: 1000,
                log_start_offset: 0,
            };
            let storage = storage(dir.path(), FileStorageOptions::default());
            let (mut log, recovery) =
                PartitionLog::open(storage, "t-0", config.clone(), now(), options).unwrap();
            assert_eq!((log.log_end_offset(), recovery.cut_bytes), (BATCHES, 0));
            check(&mut log, 0, 1 << 20);
            assert_eq!(log.offset_for_time(1234).unwrap(), Some((1234, 1234)));
        }
    }
}

#[test]
fn a_torn_tail_is_cut_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let open = |recovery_point| {
        let options = OpenOptions {
            clean: false,
            recovery_point,
            log_start_offset: 0,
        };
        let storage = storage(dir.path(), FileStorageOptions::default());
        PartitionLog::open(storage, "t-0", LogConfig::default(), now(), options).unwrap()
    };
    let mut log = open(0).0;
    let sizes: Vec<usize> = (0..100).map(|i| append(&mut log, i)).collect();
    drop(log);
    let path = dir.path().join("t-0/00000000000000000000.log");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - sizes[99] - 1]).unwrap();
    let (mut log, recovery) = open(0);
    assert_eq!(log.log_end_offset(), 98);
    assert_eq!(recovery.cut_bytes as usize, sizes[98] - 1);
    for i in 98..200 {
        append(&mut log, i);
    }
    check(&mut log, 0, 5000);
    assert_eq!(open(0).0.log_end_offset(), 200);
}

#[test]
fn a_failed_write_stops_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let storage = storage(dir.path(), FileStorageOptions::default());
    let mut log = PartitionLog::create(storage, "t-0", LogConfig::default(), now()).unwrap();
    append(&mut log, 0);
    // A new leader epoch is written to a file, and there is something in the way.
    std::fs::create_dir(dir.path().join("t-0/leader-epoch-checkpoint.tmp")).unwrap();
    let mut builder = BatchBuilder::new(100);
    builder.append(1, None, None, &[]).unwrap();
    let done = builder.finish(&FinishOptions::default()).unwrap();
    let mut append = || log.append(done.encoded.clone(), &done.header, 1, now());
    let LogError::Storage(error) = append().unwrap_err() else {
        panic!("storage failed");
    };
    assert!(error.message.contains("leader-epoch-checkpoint"), "{error}");
    let again = append().unwrap_err();
    assert!(again.to_string().contains(&error.message), "{again}");
}

/// Descriptors that this process has into a directory.
#[cfg(target_os = "linux")]
fn descriptors_into(dir: &Path) -> usize {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter(|target| target.starts_with(dir))
        .count()
}

/// However many logs are opened after a crash, none of them holds a descriptor before it is used, not even for its sync.
#[cfg(target_os = "linux")]
#[test]
fn logs_that_were_opened_after_a_crash_hold_no_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_bytes: 5000,
        ..LogConfig::default()
    };
    let storage = storage(dir.path(), FileStorageOptions::default());
    let names: Vec<String> = (0..20).map(|i| format!("t-{i}")).collect();
    for name in &names {
        let mut log = PartitionLog::create(storage.clone(), name, config.clone(), now()).unwrap();
        for i in 0..30 {
            append(&mut log, i);
        }
        assert!(log.segment_count() > 2);
        assert!(descriptors_into(dir.path()) > 0, "the control");
    }
    let mut logs: Vec<PartitionLog> = names
        .iter()
        .map(|name| {
            let options = OpenOptions::default();
            PartitionLog::open(storage.clone(), name, config.clone(), now(), options)
                .unwrap()
                .0
        })
        .collect();
    assert_eq!(descriptors_into(dir.path()), 0);
    let jobs: Vec<_> = logs
        .iter_mut()
        .map(|log| log.sync_targets().unwrap().unwrap())
        .collect();
    assert_eq!(descriptors_into(dir.path()), 0);
    for (log, job) in logs.iter_mut().zip(jobs) {
        job.run().unwrap();
        log.mark_synced(job.up_to);
        assert_eq!(log.synced_offset(), 30);
    }
    assert_eq!(descriptors_into(dir.path()), 0);
    for log in &mut logs {
        check(log, 0, 1 << 20);
        append(log, 30);
    }
}
