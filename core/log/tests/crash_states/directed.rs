//! What the random scenarios hardly come across: one doubt, one test.

use crate::{
    common::{DIR, append, batch, now, read_all},
    compaction::{self, KeyedHistory, Syncs, check, compacting, keyed},
    dying_disk::{Disk, Random},
    plain,
};
use ottla_log::{
    LogConfig, LogError, MemoryStorage, OpenHow, OpenOptions, PartitionLog, Storage, join,
};
use ottla_record::FinishOptions;
use std::sync::Arc;

fn open(
    storage: Arc<dyn Storage>,
    config: LogConfig,
    recovery_point: i64,
) -> Result<PartitionLog, LogError> {
    let options = OpenOptions {
        recovery_point,
        ..OpenOptions::default()
    };
    Ok(PartitionLog::open(storage, DIR, config, now(0), options)?.0)
}

fn sync(log: &mut PartitionLog) -> Result<(), LogError> {
    if let Some(job) = log.sync_targets()? {
        job.run()?;
        log.mark_synced(job.up_to);
    }
    Ok(())
}

/// Appends a batch of one record of the only key.
fn append_keyed(log: &mut PartitionLog, history: &mut KeyedHistory) -> Result<(), LogError> {
    let base = log.log_end_offset();
    let value = Some(format!("value of {base}").into_bytes());
    let (bytes, header) = keyed(base, &[(0, value.clone())], base as i32);
    history.batches.push((base, 1));
    history.appended.push((base, 0, value));
    log.append(bytes, &header, 0, now(base))?;
    Ok(())
}

/// Two closed segments of six batches, and one batch behind them.
fn keyed_log() -> (Arc<MemoryStorage>, KeyedHistory) {
    let storage = Arc::new(MemoryStorage::new());
    let mut history = KeyedHistory::default();
    let config = LogConfig {
        segment_bytes: 10_000,
        ..compacting()
    };
    let mut log = PartitionLog::create(storage.clone(), DIR, config, now(0)).unwrap();
    for i in 0..13 {
        append_keyed(&mut log, &mut history).unwrap();
        if i == 5 || i == 11 {
            log.roll(now(0)).unwrap();
        }
    }
    sync(&mut log).unwrap();
    history.synced = 13;
    (storage, history)
}

/// What is done with a log that has lost the snapshot of where its last segment begins, as a power cut may take it.
fn use_it(
    disk: &Disk,
    history: &mut KeyedHistory,
    roll_between: bool,
    append_behind: bool,
) -> Result<(), LogError> {
    let mut log = open(Arc::new(disk.clone()), compacting(), 13)?;
    let found = log.cleanable(None, 13, now(100))?;
    assert_eq!(found.first_uncleanable_offset, 12);
    history.cleaned = 12;
    let mut compaction = log.compact(&found, 1 << 16, 5, now(100))?;
    let mut installs = 0;
    while compaction.finished().is_none() {
        if compaction.wants_log() {
            log.install(&mut compaction)?;
            installs += 1;
            if installs == 1 && roll_between {
                log.roll(now(100))?;
            }
        } else {
            compaction.step(u64::MAX)?;
        }
    }
    if append_behind {
        append_keyed(&mut log, history)?;
        sync(&mut log)?;
        history.synced = 14;
    }
    log.close()
}

/// Compaction leaves one of a producer's last five batches. The snapshot that knows of the others must be there whenever the power
/// goes: while the same one is written again by a roll or a close, and while a close replaces it by another one.
#[test]
fn the_only_snapshot_outlives_rolls_and_closes() {
    let (storage, history) = keyed_log();
    let snapshot = join(DIR, "00000000000000000012.snapshot");
    storage.remove_file(&snapshot).unwrap();
    for (roll_between, append_behind) in [(false, false), (true, false), (false, true)] {
        let whole = Disk::holding(&storage, u64::MAX);
        use_it(&whole, &mut history.clone(), roll_between, append_behind).unwrap();
        for left in 0..=whole.look(|state| state.done) {
            let disk = Disk::holding(&storage, left);
            let mut history = history.clone();
            let _ = use_it(&disk, &mut history, roll_between, append_behind);
            for seed in 1..40 {
                let found = disk.after_power_cut(&mut Random(left << 8 | seed));
                let point = if seed % 2 == 0 { history.synced } else { 0 };
                check(found, &history, point).unwrap_or_else(|why| {
                    panic!("{roll_between} {append_behind}, operation {left}, {seed}: {why}")
                });
            }
        }
    }
}

/// A mark that a power cut brings back must not speak for other records than those it was written for.
#[test]
fn marks_of_what_was_cut_off_do_not_come_back() {
    for whole in [false, true] {
        let disk = Disk::new(u64::MAX, true);
        let storage = Arc::new(disk.clone());
        let mut log = PartitionLog::create(storage, DIR, plain::config(), now(0)).unwrap();
        append(&mut log, &[1]);
        append(&mut log, &[2]);
        sync(&mut log).unwrap();
        append(&mut log, &[3]);
        log.roll(now(0)).unwrap();
        // The file of the marks is synced by this, with a mark at 2.
        sync(&mut log).unwrap();
        log.truncate_to(if whole { 0 } else { 1 }, now(0)).unwrap();
        let end = log.log_end_offset();
        append(&mut log, &[10, 11]);
        append(&mut log, &[12, 13]);
        sync(&mut log).unwrap();
        let there = read_all(&mut log, 0, 300);
        assert_eq!(there.len() as i64, end + 4);
        for seed in 1..60 {
            let found = disk.after_power_cut(&mut Random(seed));
            let mut log = open(found, plain::config(), 0).unwrap();
            assert_eq!(read_all(&mut log, 0, 300), there, "{whole} {seed}");
        }
    }
}

/// A sync that was under way when the log was cut says nothing of what was appended since.
#[test]
fn a_job_of_before_a_cut_does_not_count() {
    let storage = Arc::new(MemoryStorage::new());
    let mut log = PartitionLog::create(storage, DIR, plain::config(), now(0)).unwrap();
    (0..3).for_each(|time| _ = append(&mut log, &[time]));
    let job = log.sync_targets().unwrap().unwrap();
    log.truncate_to(1, now(0)).unwrap();
    (0..2).for_each(|time| _ = append(&mut log, &[time]));
    job.run().unwrap();
    log.mark_synced(job.up_to);
    assert!(log.synced_offset() <= 1, "{}", log.synced_offset());
    sync(&mut log).unwrap();
    assert_eq!(log.synced_offset(), 3);
}

/// A topic that is no longer compacted still has the holes that compaction left, whatever becomes of side files.
#[test]
fn holes_of_earlier_compactions_are_no_damage() {
    let (storage, _) = keyed_log();
    let mut log = open(storage.clone(), compacting(), 13).unwrap();
    let found = log.cleanable(None, 13, now(100)).unwrap();
    log.compact_now(&found, 1 << 16, now(100)).unwrap();
    sync(&mut log).unwrap();
    let records = |log: &mut PartitionLog| {
        let mut offsets = Vec::new();
        let mut from = 0;
        loop {
            let slice = log.read(from, 100_000, true, i64::MAX).unwrap();
            for batch in ottla_record::Batches::new(slice.chunks) {
                offsets.push(batch.unwrap().header().base_offset);
            }
            if slice.bytes == 0 {
                return offsets;
            }
            from = slice.end_offset;
        }
    };
    let before = records(&mut log);
    assert!(before.len() < 13, "{before:?}");
    drop(log);
    // What was written down of closed segments is lost, and so are indexes.
    let mut marks = storage
        .open(&join(DIR, "durable-mark"), OpenHow::Existing)
        .unwrap();
    marks.truncate(1024).unwrap();
    for entry in storage.list(DIR).unwrap() {
        if entry.name.ends_with(".index") {
            storage.remove_file(&join(DIR, &entry.name)).unwrap();
        }
    }
    let mut log = open(storage, plain::config(), 0).unwrap();
    assert_eq!(records(&mut log), before);
    assert_eq!(log.damaged_bytes(), 0);
}

/// Kafka's cleaner leaves holes between segments, also above its recovery point.
#[test]
fn what_follows_a_hole_of_kafkas_stays() {
    let storage = Arc::new(MemoryStorage::new());
    let mut log = PartitionLog::create(storage.clone(), DIR, compacting(), now(0)).unwrap();
    for time in 0..6 {
        append(&mut log, &[time]);
        if time % 2 == 1 {
            log.roll(now(0)).unwrap();
        }
    }
    drop(log);
    for entry in storage.list(DIR).unwrap() {
        let theirs = ["00000000000000000002.", "durable-mark"];
        if theirs.iter().any(|name| entry.name.starts_with(name)) {
            storage.remove_file(&join(DIR, &entry.name)).unwrap();
        }
    }
    let mut log = open(storage, compacting(), 0).unwrap();
    assert_eq!(log.log_end_offset(), 6);
    let found = read_all(&mut log, 0, 300);
    assert_eq!(found, [(0, 0), (1, 1), (4, 4), (5, 5)]);
}

/// A process dies amid a replacement, the topic's next opening is without compaction, and then the power goes, too.
#[test]
fn replacements_are_finished_in_topics_that_are_compacted_no_more() {
    let mut tried = 0;
    for seed in [1] {
        let whole = Disk::new(u64::MAX, true);
        let mut history = KeyedHistory::default();
        compaction::scenario(&whole, seed, Syncs::First, &mut history).unwrap();
        for left in 0..whole.look(|state| state.done) {
            for opened_for in [1, 2, 3, 5, 8, 12, 20] {
                let disk = Disk::new(left, true);
                let mut history = KeyedHistory::default();
                let _ = compaction::scenario(&disk, seed, Syncs::First, &mut history);
                let entries = disk.list(DIR).unwrap();
                if !entries.iter().any(|entry| entry.name.ends_with(".swap")) {
                    break;
                }
                tried += 1;
                disk.revive(1);
                disk.sync_dir("").unwrap(); // the broker's first step
                disk.revive(opened_for);
                let _ = open(Arc::new(disk.clone()), plain::config(), 0);
                for state in 1..6 {
                    let random = &mut Random(left << 16 | opened_for << 8 | state);
                    check(disk.after_power_cut(random), &history, 0).unwrap_or_else(|why| {
                        panic!("seed {seed}, operation {left}, {opened_for}, {state}: {why}")
                    });
                }
            }
        }
    }
    assert!(tried > 50, "{tried}");
}

/// A compaction that fails while it replaces something stops its log, and nothing that failed is tried again; one that fails
/// before leaves nothing behind that the next start would take for finished.
#[test]
fn a_compaction_that_fails_leaves_the_log_stopped_or_as_it_was() {
    let (storage, history) = keyed_log();
    let begin = |left| {
        let disk = Disk::holding(&storage, u64::MAX);
        let mut log = open(Arc::new(disk.clone()), compacting(), 13).unwrap();
        let found = log.cleanable(None, 13, now(100)).unwrap();
        disk.revive(left);
        (disk, log, found)
    };
    let (mut stopped, mut went_on) = (0, 0);
    for left in 0.. {
        // By hand, to see what it was at.
        let (_, mut log, found) = begin(left);
        let mut compaction = log.compact(&found, 1 << 16, 5, now(100)).unwrap();
        let mut is_replacing = None;
        while compaction.finished().is_none() && is_replacing.is_none() {
            let done = match compaction.wants_log() {
                true => log.install(&mut compaction),
                false => compaction.step(u64::MAX).map(drop),
            };
            is_replacing = done.is_err().then(|| compaction.is_replacing());
        }
        let (disk, mut log, found) = begin(left);
        let done = log.compact_now(&found, 1 << 16, now(100));
        let mut history = history.clone();
        history.cleaned = 12;
        let Some(is_replacing) = is_replacing else {
            done.unwrap();
            break;
        };
        done.unwrap_err();
        disk.revive(u64::MAX);
        if is_replacing {
            assert!(log.stopped().is_some(), "operation {left}");
        }
        if log.stopped().is_none() {
            went_on += 1;
            let entries = disk.list(DIR).unwrap();
            let swap = entries.iter().find(|entry| entry.name.ends_with(".swap"));
            assert_eq!(swap, None, "operation {left}");
            append_keyed(&mut log, &mut history).unwrap();
            sync(&mut log).unwrap();
            history.synced = 14;
        } else {
            stopped += 1;
        }
        for seed in 1..20 {
            let found = disk.after_power_cut(&mut Random(left << 8 | seed));
            check(found, &history, 0)
                .unwrap_or_else(|why| panic!("operation {left}, {seed}: {why}"));
        }
    }
    assert!(stopped > 5 && went_on > 5, "{stopped} {went_on}");
}

/// Of a number that a power cut tore no part is taken for the whole.
#[test]
fn a_torn_epoch_is_no_epoch() {
    let storage = Arc::new(MemoryStorage::new());
    let mut log = PartitionLog::create(storage.clone(), DIR, plain::config(), now(0)).unwrap();
    for time in 0..20 {
        let (bytes, header) = batch(&[time], &FinishOptions::default());
        let epoch = if time < 12 { 0 } else { 5 };
        log.append(bytes, &header, epoch, now(0)).unwrap();
    }
    sync(&mut log).unwrap();
    let expected = log.epochs().clone();
    drop(log);
    let path = join(DIR, "leader-epoch-checkpoint");
    let whole = ottla_log::read_file(storage.as_ref(), &path, 99)
        .unwrap()
        .unwrap();
    assert_eq!(whole, "0\n2\n0 0\n5 12\n");
    for len in 0..whole.len() {
        ottla_log::write_file(storage.as_ref(), &path, &whole[..len]).unwrap();
        let log = open(storage.clone(), plain::config(), 20).unwrap();
        assert_eq!(*log.epochs(), expected, "{len}");
    }
}

/// An index that was made again, and torn by a power cut before it was synced, is not taken for a whole one.
#[test]
fn a_part_of_an_index_is_no_index() {
    let storage = Arc::new(MemoryStorage::new());
    let mut log = PartitionLog::create(storage.clone(), DIR, plain::config(), now(0)).unwrap();
    (0..30).for_each(|time| _ = append(&mut log, &[1000 + time]));
    sync(&mut log).unwrap();
    assert!(log.segment_count() > 2);
    drop(log);
    let cut = |name: &str, by: u64| {
        let mut file = storage.open(&join(DIR, name), OpenHow::Existing).unwrap();
        let len = file.len();
        file.truncate(len - by).unwrap();
    };
    // What was written down of closed segments is lost.
    let marks = storage.list(DIR).unwrap();
    let marks = marks.iter().find(|entry| entry.name == "durable-mark");
    cut("durable-mark", marks.unwrap().len - 1024);
    cut("00000000000000000000.timeindex", 12);
    let mut log = open(storage, plain::config(), 30).unwrap();
    for time in 0..30 {
        let found = log.offset_for_time(1000 + time).unwrap();
        assert_eq!(found, Some((1000 + time, time)));
    }
}
