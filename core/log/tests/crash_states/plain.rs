//! Appends, syncs, rolls, cuts, closes and opens again.

use crate::{
    common::{DIR, batch, now, read_all},
    dying_disk::{Disk, Random},
};
use ottla_log::{
    LogConfig, MemoryStorage, OpenHow, OpenOptions, PartitionLog, SequenceCheck, Storage,
};
use ottla_record::FinishOptions;
use std::sync::Arc;

pub fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 600,
        index_interval_bytes: 100,
        ..LogConfig::default()
    }
}

/// What a scenario did before the power went.
#[derive(Default)]
pub struct History {
    /// (offset, timestamp) of all that was appended, also of what may be lost.
    appended: Vec<(i64, i64)>,
    /// All below was covered by a completed sync job.
    pub synced: i64,
    /// How far the log was cut off at its start.
    start: i64,
    closed: bool,
}

/// Appends, syncs, rolls, cuts off at the start, closes and opens again, until the storage fails.
pub fn scenario(disk: &Disk, seed: u64, history: &mut History) -> Result<(), ottla_log::LogError> {
    let mut random = Random(seed);
    let storage = Arc::new(disk.clone());
    let mut log = PartitionLog::create(storage.clone(), DIR, config(), now(0))?;
    let mut sequence = 0;
    for step in 0..40 {
        let records = 1 + random.below(3) as i64;
        let first = 1000 + step * 10;
        let timestamps: Vec<i64> = (first..first + records).collect();
        let options = FinishOptions {
            producer_id: 9,
            producer_epoch: 0,
            base_sequence: sequence,
            ..FinishOptions::default()
        };
        let (bytes, header) = batch(&timestamps, &options);
        let base = log.log_end_offset();
        history.appended.extend((base..).zip(timestamps));
        log.append(bytes, &header, (step / 15) as i32, now(0))?;
        sequence += records as i32;
        match random.below(10) {
            0..4 => {
                if let Some(job) = log.sync_targets()? {
                    job.run()?;
                    log.mark_synced(job.up_to);
                    history.synced = log.synced_offset();
                }
            }
            4 => log.roll(now(0))?,
            5 if step > 20 => {
                // What the start is must be durable before what lies below it goes, as the broker sees to.
                history.start = history.synced / 2;
                log.advance_start(history.start)?;
            }
            6 if step > 10 => {
                log.close()?;
                history.synced = log.log_end_offset();
                let options = OpenOptions {
                    clean: true,
                    recovery_point: history.synced,
                    log_start_offset: history.start,
                };
                log = PartitionLog::open(storage.clone(), DIR, config(), now(0), options)?.0;
                assert_eq!(log.log_end_offset(), history.synced);
            }
            _ => {}
        }
    }
    log.close()?;
    history.synced = log.log_end_offset();
    history.closed = true;
    Ok(())
}

/// Whether the log that is found holds what was promised, and nothing else.
pub fn check(
    found: Arc<MemoryStorage>,
    history: &History,
    recovery_point: i64,
    what: &str,
) -> Result<(), String> {
    let clean = history.closed;
    let options = OpenOptions {
        clean,
        recovery_point,
        log_start_offset: history.start,
    };
    let (mut log, _) = PartitionLog::open(found, DIR, config(), now(0), options)
        .map_err(|error| format!("{what}: {error}"))?;
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    let promised = history.start < history.synced;
    if end < history.synced || promised && start > history.start {
        return Err(format!(
            "{what}: {start} to {end}, synced {}",
            history.synced
        ));
    }
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        read_all(&mut log, start, 300)
    }))
    .map_err(|_| format!("{what}: can't be read"))?;
    if found != history.appended[start as usize..end as usize] {
        return Err(format!(
            "{what}: from {start} to {end}, synced {}, found {found:?}",
            history.synced
        ));
    }
    if let Some((offset, timestamp)) = found.last()
        && log.offset_for_time(*timestamp).ok().flatten() != Some((*timestamp, *offset))
    {
        return Err(format!(
            "{what}: the last record is {:?}, by its time {:?}",
            (timestamp, offset),
            log.offset_for_time(*timestamp)
        ));
    }
    if end > start {
        // The producer's next batch is accepted, and one of later is not.
        let next = |sequence| {
            let options = FinishOptions {
                producer_id: 9,
                producer_epoch: 0,
                base_sequence: sequence,
                ..FinishOptions::default()
            };
            batch(&[1], &options).1
        };
        let state = log.producers();
        if state.check(&next(end as i32)) != SequenceCheck::Accept
            || state.check(&next(end as i32 + 1)) == SequenceCheck::Accept
        {
            return Err(format!(
                "{what}: producer state is not that of offset {end}"
            ));
        }
    }
    Ok(())
}

/// Failures over all points at which the power may go, and some of the states that the disk may then be in.
fn sweep(seed: u64, states: u64, honest: bool) -> Vec<String> {
    let whole = Disk::new(u64::MAX, honest);
    scenario(&whole, seed, &mut History::default()).unwrap();
    let operations = whole.look(|state| state.done);
    let mut failures = Vec::new();
    for left in 0..=operations {
        let disk = Disk::new(left, honest);
        let mut history = History::default();
        let _ = scenario(&disk, seed, &mut history);
        for state in 0..states {
            let random = Random(seed << 32 | left << 8 | (state + 1));
            let what = format!("seed {seed}, operation {left} of {operations}, state {state}");
            // The broker's checkpoint may be as new as the last sync, or so old that the log has its own mark only.
            for recovery_point in [history.synced, 0] {
                let found = disk.after_power_cut(&mut random.clone());
                failures.extend(check(found, &history, recovery_point, &what).err());
            }
        }
    }
    failures
}

#[test]
fn nothing_synced_is_lost_at_any_operation() {
    for seed in 1..=12 {
        let failures = sweep(seed, 8, true);
        assert!(
            failures.is_empty(),
            "{} failures, {}",
            failures.len(),
            failures[0]
        );
    }
}

#[test]
fn a_lying_disk_is_found_out() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let failures = sweep(1, 2, false);
    std::panic::set_hook(hook);
    assert!(failures.len() > 100, "{}", failures.len());
}

/// A snapshot of what was cut says what a log never was: once the log is open, no power cut may bring it back beside other records.
#[test]
fn a_snapshot_of_what_was_cut_is_gone_for_good() {
    let storage = Arc::new(MemoryStorage::new());
    let mut log = PartitionLog::create(storage.clone(), DIR, config(), now(0)).unwrap();
    for sequence in 0..4 {
        let options = FinishOptions {
            producer_id: 9,
            producer_epoch: 0,
            base_sequence: sequence,
            ..FinishOptions::default()
        };
        let (bytes, header) = batch(&[i64::from(sequence)], &options);
        log.append(bytes, &header, 0, now(0)).unwrap();
    }
    log.roll(now(0)).unwrap();
    drop(log);
    let torn = ottla_log::join(DIR, "00000000000000000000.log");
    let mut file = storage.open(&torn, OpenHow::Existing).unwrap();
    let len = file.len();
    file.truncate(len - 3).unwrap();
    drop(file);
    let disk = Disk::holding(&storage, u64::MAX);
    let options = OpenOptions::default();
    let (log, _) =
        PartitionLog::open(Arc::new(disk.clone()), DIR, config(), now(0), options).unwrap();
    assert_eq!(log.log_end_offset(), 3);
    let snapshot = ottla_log::join(DIR, "00000000000000000004.snapshot");
    for seed in 1..50 {
        let found = disk.after_power_cut(&mut Random(seed));
        assert!(!found.exists(&snapshot).unwrap(), "seed {seed}");
    }
}
