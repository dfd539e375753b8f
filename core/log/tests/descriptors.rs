//! A process that runs out of descriptors: nothing is lost, and the log serves again when there are some.

mod common;

use common::{DIR, append, batch, now, read_all};
use ottla_log::{
    DirEntry, LogConfig, LogError, MemoryStorage, OpenHow, OpenOptions, PartitionLog, Storage,
    StorageError, StorageErrorKind, StorageFile,
};
use ottla_record::{FinishOptions, control::EndTxnMarker};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Storage that opens files and directories so many times more only.
struct Scarce {
    inner: Arc<MemoryStorage>,
    left: AtomicU64,
}

impl Scarce {
    fn take(&self, path: &str) -> Result<(), StorageError> {
        let less = |left: u64| left.checked_sub(1);
        match self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(StorageError::new(
                StorageErrorKind::TooManyFiles,
                format!("{path}: too many open files"),
            )),
        }
    }
}

impl Storage for Scarce {
    fn open(&self, path: &str, how: OpenHow) -> Result<Box<dyn StorageFile>, StorageError> {
        self.take(path)?;
        self.inner.open(path, how)
    }
    fn list(&self, dir: &str) -> Result<Vec<DirEntry>, StorageError> {
        self.take(dir)?;
        self.inner.list(dir)
    }
    fn create_dir(&self, dir: &str) -> Result<(), StorageError> {
        self.inner.create_dir(dir)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.inner.rename(from, to)
    }
    fn remove_file(&self, path: &str) -> Result<(), StorageError> {
        self.inner.remove_file(path)
    }
    fn remove_dir(&self, dir: &str) -> Result<(), StorageError> {
        self.inner.remove_dir(dir)
    }
    fn exists(&self, path: &str) -> Result<bool, StorageError> {
        self.inner.exists(path)
    }
    fn modified_ms(&self, path: &str) -> Result<i64, StorageError> {
        self.inner.modified_ms(path)
    }
    fn sync_dir(&self, dir: &str) -> Result<(), StorageError> {
        self.take(dir)?;
        self.inner.sync_dir(dir)
    }
}

fn config(compact: bool) -> LogConfig {
    LogConfig {
        segment_bytes: 300,
        index_interval_bytes: 100,
        compact,
        ..LogConfig::default()
    }
}

/// A log of some records that was closed, and is open again: no file of it is.
fn opened(compact: bool, clean: bool) -> (Arc<Scarce>, PartitionLog) {
    let inner = Arc::new(MemoryStorage::new());
    let mut log = PartitionLog::create(inner.clone(), DIR, config(compact), now(0)).unwrap();
    for i in 0..5 {
        append(&mut log, &[i]);
    }
    log.close().unwrap();
    let storage = Arc::new(Scarce {
        inner,
        left: AtomicU64::new(u64::MAX),
    });
    let options = OpenOptions {
        clean,
        ..OpenOptions::default()
    };
    let log = PartitionLog::open(storage.clone(), DIR, config(compact), now(0), options)
        .unwrap()
        .0;
    (storage, log)
}

fn is_passing<T>(result: &Result<T, LogError>) -> bool {
    matches!(result, Err(error) if error.is_passing())
}

/// Appends until it works, after the first failure with all the descriptors that one may want; how often it failed.
fn append_at_last(storage: &Scarce, log: &mut PartitionLog, timestamp: i64, epoch: i32) -> usize {
    for failures in 0.. {
        let (bytes, header) = batch(&[timestamp], &FinishOptions::default());
        let appended = log.append(bytes, &header, epoch, now(timestamp));
        if appended.is_ok() {
            return failures;
        }
        assert!(is_passing(&appended), "{appended:?}");
        assert_eq!(log.stopped(), None);
        assert!(failures < 3);
        storage.left.store(u64::MAX, Ordering::Relaxed);
    }
    unreachable!()
}

#[test]
fn appends_and_rolls_go_on_when_there_are_descriptors_again() {
    for (compact, clean) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut failures = 0;
        for left in 0..40 {
            let (storage, mut log) = opened(compact, clean);
            storage.left.store(left, Ordering::Relaxed);
            for i in 5..15 {
                // Two of them begin a leader epoch, which has a file of its own.
                let epoch = i32::from(i >= 7) + i32::from(i >= 11);
                failures += append_at_last(&storage, &mut log, i, epoch);
            }
            let whole: Vec<_> = (0..15).map(|i| (i, i)).collect();
            storage.left.store(u64::MAX, Ordering::Relaxed);
            assert_eq!(read_all(&mut log, 0, 1000), whole);
            let segments = log.segment_count();
            let job = log.sync_targets().unwrap().unwrap();
            job.run().unwrap();
            log.mark_synced(job.up_to);
            for (stop, clean) in [(false, false), (true, true)] {
                if stop {
                    log.close().unwrap();
                }
                drop(log);
                let options = OpenOptions {
                    clean,
                    ..OpenOptions::default()
                };
                let inner = storage.inner.clone();
                let opened = PartitionLog::open(inner, DIR, config(compact), now(0), options);
                let recovery;
                (log, recovery) = opened.unwrap();
                assert_eq!((recovery.cut_bytes, recovery.reason), (0, None));
                assert_eq!(read_all(&mut log, 0, 1000), whole);
                assert_eq!(log.segment_count(), segments);
                let ends = [0, 1, 2].map(|epoch| log.epochs().end_offset(epoch, 15));
                assert_eq!(ends, [Some((0, 7)), Some((1, 11)), Some((2, 15))]);
            }
        }
        assert!(failures > 10, "{failures}");
    }
}

/// The marker counts once, and who was aborted is known.
#[test]
fn markers_go_on_when_there_are_descriptors_again() {
    for left in 0..12 {
        let (storage, mut log) = opened(false, true);
        let options = FinishOptions {
            producer_id: 9,
            producer_epoch: 0,
            base_sequence: 0,
            transactional: true,
            ..FinishOptions::default()
        };
        let (bytes, header) = batch(&[5], &options);
        log.append(bytes, &header, 0, now(5)).unwrap();
        let marker = EndTxnMarker {
            committed: false,
            coordinator_epoch: 0,
        };
        log.set_config(LogConfig {
            segment_bytes: 100,
            ..config(false)
        });
        storage.left.store(left, Ordering::Relaxed);
        let first = log.append_marker(marker, 9, 0, 1, now(6));
        if first.is_err() {
            assert!(is_passing(&first), "{first:?}");
            assert_eq!(log.first_undecided_offset(), Some(5));
            storage.left.store(u64::MAX, Ordering::Relaxed);
            log.append_marker(marker, 9, 0, 1, now(6)).unwrap();
        }
        assert_eq!(log.first_undecided_offset(), None);
        assert_eq!(log.aborted_transactions(0, 99).count(), 1);
        assert_eq!(log.log_end_offset(), 7);
    }
}

/// A file that could not be opened to be synced has not failed to be synced.
#[test]
fn a_sync_without_descriptors_is_done_again_by_the_next_one() {
    let mut failures = 0;
    for left in 0..12 {
        let (storage, mut log) = opened(true, false);
        append(&mut log, &[5]);
        storage.left.store(left, Ordering::Relaxed);
        let mut job = log.sync_targets().unwrap().unwrap();
        let before = log.synced_offset();
        if let Err(error) = job.run() {
            failures += 1;
            assert!(LogError::from(error).is_passing());
            assert_eq!(log.synced_offset(), before);
            storage.left.store(u64::MAX, Ordering::Relaxed);
            append(&mut log, &[6]);
            let files = format!("{job:?}");
            job = log.sync_targets().unwrap().unwrap();
            job.run()
                .unwrap_or_else(|_| panic!("after {files}: {job:?}"));
        }
        log.mark_synced(job.up_to);
        assert_eq!(log.synced_offset(), log.log_end_offset());
    }
    assert!(failures > 0);
}
