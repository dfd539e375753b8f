//! Compaction on a disk that dies.

use crate::{
    common::{DIR, now},
    dying_disk::{Disk, Random},
    plain,
};
use bytes::Bytes;
use ottla_log::{
    LogConfig, OpenHow, OpenOptions, PartitionLog, SequenceCheck, Storage, SyncJob,
    compaction::Compaction,
};
use ottla_record::FinishOptions;
use std::sync::Arc;

pub fn compacting() -> LogConfig {
    LogConfig {
        compact: true,
        delete_retention_ms: 30,
        ..plain::config()
    }
}

/// Offset, key, and the value if there is one.
type Keyed = (i64, u64, Option<Vec<u8>>);

#[derive(Clone, Default)]
pub struct KeyedHistory {
    pub appended: Vec<Keyed>,
    /// First offset and number of records of each batch.
    pub batches: Vec<(i64, usize)>,
    pub synced: i64,
    /// Up to where a compaction has seen to it that all is durable.
    settled: i64,
    /// Up to where a compaction may have come.
    pub cleaned: i64,
    closed: bool,
    /// How often a marks file became smaller.
    shrunk: usize,
    marks_len: u64,
    /// How often the process died.
    kills: u64,
}

impl KeyedHistory {
    /// However many segments were replaced, the file of the durable mark is no larger than twice what the log has, and a bit.
    fn note_marks(&mut self, disk: &Disk, log: &PartitionLog) {
        let path = format!("{DIR}/durable-mark");
        let len = disk
            .open(&path, OpenHow::ReadOnly)
            .map_or(0, |file| file.len());
        // An opening that finishes a replacement adds an entry.
        let most = 1024 + 64 * (2 * log.segment_count() as u64 + 8 + self.kills);
        assert!(
            len <= most,
            "{len} bytes for {} segments",
            log.segment_count()
        );
        self.shrunk += usize::from(len < self.marks_len);
        self.marks_len = len;
    }
}

pub fn keyed(
    step: i64,
    records: &[(u64, Option<Vec<u8>>)],
    sequence: i32,
) -> (Bytes, ottla_record::BatchHeader) {
    let mut builder = ottla_record::BatchBuilder::new(256);
    for (key, value) in records {
        let key = key.to_string();
        builder
            .append(step, Some(key.as_bytes()), value.as_deref(), &[])
            .unwrap();
    }
    let options = FinishOptions {
        producer_id: 9,
        producer_epoch: 0,
        base_sequence: sequence,
        ..FinishOptions::default()
    };
    let done = builder.finish(&options).unwrap();
    (done.encoded, done.header)
}

/// When the log is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// Before anything counts as committed, as with `durability=fsync`.
    First,
    /// Now and then, while compaction goes on with what is not synced, as with `durability=os` and `flush.ms`.
    Later,
}

/// Appends, syncs, compacts in pieces, closes and opens again, until the storage fails.
pub fn scenario(
    disk: &Disk,
    seed: u64,
    syncs: Syncs,
    history: &mut KeyedHistory,
) -> Result<(), ottla_log::LogError> {
    let mut random = Random(seed);
    let storage = Arc::new(disk.clone());
    let mut log = PartitionLog::create(storage.clone(), DIR, compacting(), now(0))?;
    let mut checkpoint = 0;
    let mut running: Option<Compaction> = None;
    let mut job: Option<SyncJob> = None;
    for step in 0..45 {
        append(&mut log, step, &mut random, history)?;
        let choice = random.below(12);
        match choice {
            choice if choice < 4 && syncs == Syncs::First => {
                job = log.sync_targets()?;
                finish_sync(&mut log, &mut job, history)?;
            }
            // Between these two the log may be compacted.
            0 | 1 if job.is_none() => job = log.sync_targets()?,
            0..3 => finish_sync(&mut log, &mut job, history)?,
            3..=5 => log.roll(now(step))?,
            6..10 => {
                let at = now(step * 10);
                if running.is_none() {
                    let committed = match syncs {
                        Syncs::First => history.synced,
                        Syncs::Later => log.log_end_offset(),
                    };
                    let found = log.cleanable(Some(checkpoint), committed, at)?;
                    if found.is_due(0) {
                        history.cleaned = history.cleaned.max(found.first_uncleanable_offset);
                        running = Some(log.compact(&found, 1 << 16, 5, at)?);
                    }
                }
                log.remove_deleted(at)?;
            }
            10 => {
                log.close()?;
                (running, job) = (None, None);
                history.synced = log.log_end_offset();
                log = open(storage.clone(), true, history.synced)?;
                assert_eq!(log.log_end_offset(), history.synced);
            }
            // The process dies; what it wrote is there, though nobody has synced it.
            11 => {
                let end = log.log_end_offset();
                drop(log);
                (running, job) = (None, None);
                history.kills += 1;
                storage.sync_dir("")?; // the broker's first step
                log = open(storage.clone(), false, 0)?;
                assert_eq!(log.log_end_offset(), end);
            }
            _ => {}
        }
        if let Some(compaction) = &mut running {
            let mut steps = match syncs {
                Syncs::First => u64::MAX,
                Syncs::Later => 1 + random.below(9),
            };
            while steps > 0 && compaction.finished().is_none() {
                steps -= 1;
                let is_replacing = compaction.is_replacing();
                if compaction.wants_log() {
                    log.install(compaction)?;
                } else {
                    compaction.step(400)?;
                    if is_replacing && history.synced > 0 {
                        // Before anything is replaced, all that may be is made durable; the log's own directory is with
                        // the first sync.
                        history.settled = history.settled.max(history.cleaned);
                    }
                }
            }
        }
        if let Some(done) = running.as_ref().and_then(Compaction::finished) {
            (running, checkpoint) = (None, done.first_dirty_offset);
        }
        history.note_marks(disk, &log);
    }
    log.close()?;
    history.synced = log.log_end_offset();
    history.closed = true;
    Ok(())
}

fn append(
    log: &mut PartitionLog,
    step: i64,
    random: &mut Random,
    history: &mut KeyedHistory,
) -> Result<(), ottla_log::LogError> {
    let records: Vec<(u64, Option<Vec<u8>>)> = (0..1 + random.below(3))
        .map(|_| {
            let value = format!("value of step {step}").into_bytes();
            (random.below(5), (random.below(4) > 0).then_some(value))
        })
        .collect();
    let base = log.log_end_offset();
    let (bytes, header) = keyed(step, &records, base as i32);
    history.batches.push((base, records.len()));
    history.appended.extend(
        (base..)
            .zip(&records)
            .map(|(offset, (key, value))| (offset, *key, value.clone())),
    );
    log.append(bytes, &header, 0, now(step))?;
    Ok(())
}

fn finish_sync(
    log: &mut PartitionLog,
    job: &mut Option<SyncJob>,
    history: &mut KeyedHistory,
) -> Result<(), ottla_log::LogError> {
    if let Some(job) = job.take() {
        job.run()?;
        log.mark_synced(job.up_to);
        history.synced = log.synced_offset();
    }
    Ok(())
}

fn open(
    storage: Arc<dyn Storage>,
    clean: bool,
    recovery_point: i64,
) -> Result<PartitionLog, ottla_log::LogError> {
    let options = OpenOptions {
        clean,
        recovery_point,
        log_start_offset: 0,
    };
    Ok(PartitionLog::open(storage, DIR, compacting(), now(0), options)?.0)
}

fn read_keyed(log: &mut PartitionLog) -> Result<Vec<Keyed>, String> {
    let mut found = Vec::new();
    let mut from = log.log_start_offset();
    loop {
        let slice = log
            .read(from, 300, true, i64::MAX)
            .map_err(|error| error.to_string())?;
        if slice.bytes == 0 {
            return match from == log.log_end_offset() {
                true => Ok(found),
                false => Err(format!(
                    "nothing at {from}, the end is {}, there are {} segments of {} bytes",
                    log.log_end_offset(),
                    log.segment_count(),
                    log.size_bytes()
                )),
            };
        }
        for batch in ottla_record::Batches::new(slice.chunks) {
            let batch = batch.map_err(|error| error.to_string())?;
            batch.check_crc().map_err(|error| error.to_string())?;
            let mut records = batch.records(ottla_record::Limits::default()).unwrap();
            while let Some(record) = records.next_record() {
                let record = record.map_err(|error| error.to_string())?;
                if record.offset >= from {
                    let key = std::str::from_utf8(record.key.unwrap())
                        .unwrap()
                        .parse()
                        .unwrap();
                    found.push((record.offset, key, record.value.map(<[u8]>::to_vec)));
                }
            }
            from = from.max(batch.header().next_offset());
        }
    }
}

/// Whether nothing is wrong with what a reader of the whole log sees: what was never appended, what is out of order, what
/// should not have been cleaned, and above all, for each key, another value than the last one.
fn check_keyed(
    log: &mut PartitionLog,
    history: &KeyedHistory,
    cleaned: i64,
    before: Option<&Vec<Keyed>>,
) -> Result<Vec<Keyed>, String> {
    let promised = history.synced.max(history.settled);
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    if end < promised || start > 0 && promised > 0 {
        return Err(format!("{start} to {end}, synced {promised}"));
    }
    let found = read_keyed(log)?;
    if !found.windows(2).all(|two| two[0].0 < two[1].0) {
        return Err(format!("out of order: {found:?}"));
    }
    if let Some(wrong) = found.iter().find(|r| !history.appended.contains(r)) {
        return Err(format!("never appended: {wrong:?}"));
    }
    // Of what was not synced any may be missing: in a compacted log a lost end of a segment is not told from a hole.
    let appended: Vec<Keyed> = history.appended[..end as usize]
        .iter()
        .filter(|r| r.0 < promised || before.unwrap_or(&found).contains(r))
        .cloned()
        .collect();
    if let Some(lost) = appended
        .iter()
        .find(|r| r.0 >= cleaned && !found.contains(r))
    {
        return Err(format!("lost: {lost:?}, cleaned up to {cleaned}"));
    }
    for key in 0..5 {
        let last = |all: &[Keyed]| {
            let mut of_key = all.iter().filter(|r| r.1 == key);
            of_key.next_back().and_then(|(_, _, value)| value.clone())
        };
        if last(&found) != last(&appended) {
            return Err(format!(
                "key {key}: {:?} instead of {:?}; settled up to {}, cleaned up to {cleaned}, end {end}",
                last(&found),
                last(&appended),
                history.settled,
            ));
        }
    }
    // A log that lost its beginning, none of which was durable, knows of no producer.
    if end > start {
        let next = |sequence| keyed(0, &[(0, None)], sequence).1;
        let state = log.producers();
        if state.check(&next(end as i32)) != SequenceCheck::Accept
            || state.check(&next(end as i32 + 1)) == SequenceCheck::Accept
        {
            return Err(format!("producer state is not that of offset {end}"));
        }
        // Five may have been under way, and are sent again. (Of those that were never synced one may be missing.)
        let below = |most: i64| move |(base, count): &&(i64, usize)| base + *count as i64 <= most;
        let newest = history.batches.iter().filter(below(end)).rev().take(5);
        for &(base, count) in newest.filter(below(promised)) {
            let again = keyed(0, &vec![(0, None); count], base as i32).1;
            let checked = state.check(&again);
            if !matches!(checked, SequenceCheck::Duplicate { base_offset, .. } if base_offset == base)
            {
                return Err(format!("of {base} to {end} the producer gets {checked:?}"));
            }
        }
    }
    Ok(found)
}

/// Whether what is found can be opened, holds what it must, and can be gone on with.
pub fn check(
    storage: Arc<dyn Storage>,
    history: &KeyedHistory,
    recovery_point: i64,
) -> Result<(), String> {
    let describe = |error: ottla_log::LogError| error.to_string();
    let options = OpenOptions {
        clean: history.closed,
        recovery_point,
        log_start_offset: 0,
    };
    let (mut log, recovery) =
        PartitionLog::open(storage.clone(), DIR, compacting(), now(0), options)
            .map_err(describe)?;
    let before = check_keyed(&mut log, history, history.cleaned, None)
        .map_err(|why| format!("{why}; opening said: {recovery}"))?;
    let entries = storage.list(DIR).unwrap();
    if let Some(left) = entries.iter().find(|entry| {
        [".cleaned", ".swap", ".deleted"]
            .iter()
            .any(|suffix| entry.name.ends_with(suffix))
    }) {
        return Err(format!("{} is left", left.name));
    }
    // It can be gone on with.
    log.roll(now(900)).map_err(describe)?;
    let end = log.log_end_offset();
    let found = log.cleanable(None, end, now(900)).map_err(describe)?;
    log.compact_now(&found, 1 << 16, now(900))
        .map_err(describe)?;
    check_keyed(&mut log, history, end, Some(&before))
        .map_err(|why| format!("cleaned again: {why}"))?;
    Ok(())
}

fn sweep(seed: u64, syncs: Syncs) -> usize {
    let mut swaps = 0;
    let whole = Disk::new(u64::MAX, true);
    let mut history = KeyedHistory::default();
    scenario(&whole, seed, syncs, &mut history).unwrap();
    let operations = whole.look(|state| state.done);
    for left in 0..=operations {
        let disk = Disk::new(left, true);
        let mut history = KeyedHistory::default();
        let _ = scenario(&disk, seed, syncs, &mut history);
        for state in 0..4 {
            let mut random = Random(seed << 32 | left << 8 | (state + 1));
            // The broker's checkpoint may be as new as the last sync, or so old that the log has its own mark only.
            let recovery_point = if state % 2 == 0 { history.synced } else { 0 };
            let found = disk.after_power_cut(&mut random);
            let what =
                format!("{syncs:?}, seed {seed}, operation {left} of {operations}, state {state}");
            let entries = found.list(DIR).unwrap_or_default();
            let swap = entries.iter().any(|entry| entry.name.ends_with(".swap"));
            let again =
                (swap && left % 3 == 0 && state < 2).then(|| Disk::holding(&found, u64::MAX));
            check(found.clone(), &history, recovery_point)
                .unwrap_or_else(|why| panic!("{what}: {why}"));
            // The power may go again while the log is opened.
            let Some(opening) = again else { continue };
            swaps += 1;
            let copy = opening.after_power_cut(&mut random);
            let _ = open(Arc::new(opening.clone()), history.closed, recovery_point);
            for left in 0..opening.look(|state| state.done) {
                let disk = Disk::holding(&copy, left);
                let _ = open(Arc::new(disk.clone()), history.closed, recovery_point);
                let found = disk.after_power_cut(&mut random);
                check(found, &history, recovery_point)
                    .unwrap_or_else(|why| panic!("{what}, opening stopped at {left}: {why}"));
            }
        }
    }
    swaps
}

#[test]
fn compaction_loses_nothing_at_any_operation() {
    let swaps: usize = (1..=3).map(|seed| sweep(seed, Syncs::First)).sum();
    assert!(swaps > 20, "{swaps}");
}

#[test]
fn compaction_of_what_is_not_synced_loses_nothing_that_was() {
    let swaps: usize = (1..=4).map(|seed| sweep(seed, Syncs::Later)).sum();
    assert!(swaps > 20, "{swaps}");
}

/// No power cut leaves a hole behind what was synced, though it may take the file of the mark.
fn leaves_no_hole(disk: &Disk, synced: i64) {
    let mut cut = 0;
    for seed in 1..300 {
        let found = disk.after_power_cut(&mut Random(seed));
        let mut log = open(found, false, synced).unwrap();
        let mut due = synced;
        for (offset, _, _) in read_keyed(&mut log).unwrap() {
            if offset >= synced {
                assert_eq!(offset, due, "seed {seed}");
                due = offset + 1;
            }
        }
        assert_eq!(log.log_end_offset(), due, "seed {seed}");
        cut += usize::from(due > synced);
    }
    assert!(cut > 20, "{cut}");
}

#[test]
fn a_power_cut_leaves_no_hole_in_what_was_not_synced() {
    let disk = Disk::new(u64::MAX, true);
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let mut log = PartitionLog::create(storage, DIR, compacting(), now(0)).unwrap();
    let mut history = KeyedHistory::default();
    let mut random = Random(5);
    let mut fill = |log: &mut PartitionLog, history: &mut KeyedHistory| {
        let segments = log.segment_count() + 4;
        while log.segment_count() < segments {
            append(log, 0, &mut random, history).unwrap();
        }
    };
    fill(&mut log, &mut history);
    leaves_no_hole(&disk, 0);
    let mut job = log.sync_targets().unwrap();
    finish_sync(&mut log, &mut job, &mut history).unwrap();
    fill(&mut log, &mut history);
    leaves_no_hole(&disk, history.synced);

    // Nor after a compaction of the segment with the mark, which has to move.
    let mut job = log.sync_targets().unwrap();
    finish_sync(&mut log, &mut job, &mut history).unwrap();
    log.roll(now(0)).unwrap();
    let cleanable = log.cleanable(None, history.synced, now(0)).unwrap();
    let done = log.compact_now(&cleanable, 1 << 20, now(0)).unwrap();
    assert!(done.bytes_after < done.bytes_before, "{done:?}");
    fill(&mut log, &mut history);
    leaves_no_hole(&disk, history.synced);
}

#[test]
fn the_file_of_the_durable_mark_stays_small() {
    let shrunk: usize = (1..=20)
        .map(|seed| {
            let mut history = KeyedHistory::default();
            let disk = Disk::new(u64::MAX, true);
            scenario(&disk, seed, Syncs::Later, &mut history).unwrap();
            history.shrunk
        })
        .sum();
    assert!(shrunk > 20, "it was written anew {shrunk} times");
}
