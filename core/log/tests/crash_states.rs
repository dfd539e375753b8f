//! A log on storage that dies at every single operation, and then, as a power cut may, loses or tears what was not synced.
//!
//! What a completed sync job covered must be there afterwards, and nothing that was not appended. The control that must fail
//! is a storage whose syncs do nothing.

mod common;

use bytes::Bytes;
use common::{DIR, batch, now, read_all};
use ottla_log::{
    DirEntry, LogConfig, MemoryStorage, OpenHow, OpenOptions, PartitionLog, SequenceCheck, Storage,
    StorageError, StorageErrorKind, StorageFile, Syncer,
};
use ottla_record::FinishOptions;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// A small generator, so that a seed says all.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 1
    }
}

type Contents = Arc<Mutex<FileState>>;

#[derive(Clone, Default)]
struct FileState {
    now: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Default)]
struct DiskState {
    /// `None` is a directory.
    now: BTreeMap<String, Option<Contents>>,
    durable: BTreeMap<String, Option<Contents>>,
    /// Renames to names that were free, since the last sync of the directory: each is there as a whole or not at all, as file
    /// systems with a journal have it. (Else no rename at all could ever be safe.)
    moves: Vec<(String, String)>,
    /// Changes and syncs until the power goes.
    left: u64,
    done: u64,
    /// Whether syncs do anything.
    honest: bool,
}

#[derive(Clone)]
struct Disk(Arc<Mutex<DiskState>>);

fn error(kind: StorageErrorKind) -> StorageError {
    StorageError::new(kind, format!("{kind:?}"))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl Disk {
    fn new(left: u64, honest: bool) -> Self {
        Self(Arc::new(Mutex::new(DiskState {
            left,
            honest,
            ..DiskState::default()
        })))
    }

    fn change<R>(
        &self,
        work: impl FnOnce(&mut DiskState) -> Result<R, StorageError>,
    ) -> Result<R, StorageError> {
        let mut state = self.0.lock().unwrap();
        if state.left == 0 {
            return Err(error(StorageErrorKind::Io));
        }
        state.left -= 1;
        state.done += 1;
        work(&mut state)
    }

    fn look<R>(&self, work: impl FnOnce(&DiskState) -> R) -> R {
        work(&self.0.lock().unwrap())
    }

    /// A disk with these files, all durable.
    fn holding(found: &MemoryStorage, left: u64) -> Self {
        let disk = Self::new(left, true);
        let mut names = BTreeMap::from([(DIR.to_string(), None)]);
        for entry in found.list(DIR).unwrap_or_default() {
            let path = format!("{DIR}/{}", entry.name);
            let file = found.open(&path, OpenHow::ReadOnly).unwrap();
            let bytes = file.read_exact(0, entry.len as usize).unwrap().to_vec();
            let state = FileState {
                now: bytes.clone(),
                durable: bytes,
            };
            names.insert(path, Some(Arc::new(Mutex::new(state))));
        }
        let mut state = disk.0.lock().unwrap();
        (state.now, state.durable) = (names.clone(), names);
        drop(state);
        disk
    }

    /// What is there after the power came back: each directory entry and each file is as it was synced, or as it was last, or
    /// in between.
    fn after_power_cut(&self, random: &mut Random) -> Arc<MemoryStorage> {
        let state = self.0.lock().unwrap();
        let found = MemoryStorage::new();
        let mut paths: Vec<&String> = state.durable.keys().chain(state.now.keys()).collect();
        paths.sort();
        paths.dedup();
        let mut fates: BTreeMap<&String, bool> = BTreeMap::new();
        for (from, to) in &state.moves {
            let known = fates.get(from).or(fates.get(to)).copied();
            let fate = known.unwrap_or_else(|| random.flip());
            fates.extend([(from, fate), (to, fate)]);
        }
        for path in paths {
            let as_synced = fates.get(path).copied().unwrap_or_else(|| random.flip());
            let entry = match as_synced {
                true => state.durable.get(path),
                false => state.now.get(path),
            };
            match entry {
                None => {}
                Some(None) => found.create_dir(path).unwrap(),
                Some(Some(contents)) => {
                    let Ok(mut file) = found.open(path, OpenHow::CreateNew) else {
                        continue; // its directory is lost
                    };
                    let bytes = torn(&contents.lock().unwrap(), random);
                    file.append(&[bytes.into()]).unwrap();
                }
            }
        }
        Arc::new(found)
    }
}

/// A file after a power cut: pages that were not synced are there or not, the length may be ahead of the bytes.
fn torn(file: &FileState, random: &mut Random) -> Vec<u8> {
    let (now, durable) = (&file.now, &file.durable);
    match random.below(4) {
        0 => durable.clone(),
        1 => now.clone(),
        _ if now.len() <= durable.len() || now[..durable.len()] != durable[..] => {
            if random.flip() {
                now.clone()
            } else {
                durable.clone()
            }
        }
        how => {
            let keep =
                durable.len() + random.below((now.len() - durable.len()) as u64 + 1) as usize;
            let mut bytes = now[..keep].to_vec();
            if how == 3 {
                bytes.resize(now.len(), 0);
            }
            bytes
        }
    }
}

impl Storage for Disk {
    fn open(&self, path: &str, how: OpenHow) -> Result<Box<dyn StorageFile>, StorageError> {
        let there = self.look(|state| state.now.get(path).cloned());
        let contents = match (there, how) {
            (Some(Some(_)), OpenHow::CreateNew) => {
                return Err(error(StorageErrorKind::AlreadyExists));
            }
            (Some(Some(contents)), _) => contents,
            (Some(None), _) => return Err(error(StorageErrorKind::Invalid)),
            (None, OpenHow::CreateNew | OpenHow::OpenOrCreate) => self.change(|state| {
                let contents = Contents::default();
                state.now.insert(path.into(), Some(contents.clone()));
                Ok(contents)
            })?,
            (None, _) => return Err(error(StorageErrorKind::NotFound)),
        };
        Ok(Box::new(DiskFile {
            disk: self.clone(),
            contents,
        }))
    }

    fn list(&self, dir: &str) -> Result<Vec<DirEntry>, StorageError> {
        Ok(self.look(|state| {
            let inside = state.now.iter().filter(|(path, _)| parent(path) == dir);
            inside
                .map(|(path, entry)| DirEntry {
                    name: path.rsplit('/').next().unwrap().into(),
                    is_dir: entry.is_none(),
                    len: entry
                        .as_ref()
                        .map_or(0, |c| c.lock().unwrap().now.len() as u64),
                })
                .collect()
        }))
    }

    fn create_dir(&self, dir: &str) -> Result<(), StorageError> {
        if self.exists(dir)? {
            return Ok(());
        }
        self.change(|state| {
            state.now.insert(dir.into(), None);
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        if !self.exists(from)? {
            return Err(error(StorageErrorKind::NotFound));
        }
        self.change(|state| {
            let entry = state.now.remove(from);
            let entry = entry.ok_or_else(|| error(StorageErrorKind::NotFound))?;
            if !state.now.contains_key(to) {
                state.moves.push((from.into(), to.into()));
            }
            state.now.insert(to.into(), entry);
            Ok(())
        })
    }

    fn remove_file(&self, path: &str) -> Result<(), StorageError> {
        if !self.exists(path)? {
            return Err(error(StorageErrorKind::NotFound));
        }
        self.change(|state| {
            state.now.remove(path);
            Ok(())
        })
    }

    fn remove_dir(&self, _dir: &str) -> Result<(), StorageError> {
        unimplemented!("logs don't remove directories")
    }

    fn exists(&self, path: &str) -> Result<bool, StorageError> {
        Ok(self.look(|state| state.now.contains_key(path)))
    }

    fn modified_ms(&self, _path: &str) -> Result<i64, StorageError> {
        Ok(0)
    }

    fn sync_dir(&self, dir: &str) -> Result<(), StorageError> {
        self.change(|state| {
            if state.honest {
                let inside = |path: &String| parent(path) == dir;
                state.moves.retain(|(from, _)| !inside(from));
                state.durable.retain(|path, _| !inside(path));
                let entries = state.now.iter().filter(|(path, _)| inside(path));
                state
                    .durable
                    .extend(entries.map(|(p, e)| (p.clone(), e.clone())));
            }
            Ok(())
        })
    }
}

#[derive(Clone)]
struct DiskFile {
    disk: Disk,
    contents: Contents,
}

impl DiskFile {
    fn write(&self, work: impl FnOnce(&mut Vec<u8>)) -> Result<(), StorageError> {
        self.disk.change(|_| {
            work(&mut self.contents.lock().unwrap().now);
            Ok(())
        })
    }
}

impl Syncer for DiskFile {
    fn sync(&self) -> Result<(), StorageError> {
        self.disk.change(|state| {
            let mut contents = self.contents.lock().unwrap();
            if state.honest {
                contents.durable = contents.now.clone();
            }
            Ok(())
        })
    }
}

impl StorageFile for DiskFile {
    fn len(&self) -> u64 {
        self.contents.lock().unwrap().now.len() as u64
    }

    fn append(&mut self, parts: &[Bytes]) -> Result<(), StorageError> {
        // Every part may be the last one.
        parts
            .iter()
            .try_for_each(|part| self.write(|now| now.extend_from_slice(part)))
    }

    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.write(|now| {
            let pos = pos as usize;
            now.resize(now.len().max(pos + bytes.len()), 0);
            now[pos..pos + bytes.len()].copy_from_slice(bytes);
        })
    }

    fn read_at(&self, pos: u64, len: usize, out: &mut Vec<Bytes>) -> Result<(), StorageError> {
        let contents = self.contents.lock().unwrap();
        let bytes = contents.now.get(pos as usize..pos as usize + len);
        out.push(Bytes::copy_from_slice(
            bytes.ok_or_else(|| error(StorageErrorKind::Invalid))?,
        ));
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), StorageError> {
        self.write(|now| now.truncate(len as usize))
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Syncer::sync(self)
    }

    fn syncer(&self) -> Arc<dyn Syncer> {
        Arc::new(self.clone())
    }

    fn seal(&mut self) {}
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 600,
        index_interval_bytes: 100,
        ..LogConfig::default()
    }
}

/// What a scenario did before the power went.
#[derive(Default)]
struct History {
    /// (offset, timestamp) of all that was appended, also of what may be lost.
    appended: Vec<(i64, i64)>,
    /// All below was covered by a completed sync job.
    synced: i64,
    /// How far the log was cut off at its start.
    start: i64,
    closed: bool,
}

/// Appends, syncs, rolls, cuts off at the start, closes and opens again, until the storage fails.
fn scenario(disk: &Disk, seed: u64, history: &mut History) -> Result<(), ottla_log::LogError> {
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
fn check(
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

// Compaction.

fn compacting() -> LogConfig {
    LogConfig {
        compact: true,
        delete_retention_ms: 30,
        ..config()
    }
}

/// Offset, key, and the value if there is one.
type Keyed = (i64, u64, Option<Vec<u8>>);

#[derive(Clone, Default)]
struct KeyedHistory {
    appended: Vec<Keyed>,
    synced: i64,
    /// Up to where a compaction may have come.
    cleaned: i64,
    closed: bool,
}

fn keyed(
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

/// Appends, syncs, compacts in pieces with appends between them, closes and opens again, until the storage fails.
fn compaction_scenario(
    disk: &Disk,
    seed: u64,
    history: &mut KeyedHistory,
) -> Result<(), ottla_log::LogError> {
    let mut random = Random(seed);
    let storage = Arc::new(disk.clone());
    let mut log = PartitionLog::create(storage.clone(), DIR, compacting(), now(0))?;
    let mut checkpoint = 0;
    for step in 0..45 {
        let records: Vec<(u64, Option<Vec<u8>>)> = (0..1 + random.below(3))
            .map(|_| {
                let value = format!("value of step {step}").into_bytes();
                (random.below(5), (random.below(4) > 0).then_some(value))
            })
            .collect();
        let base = log.log_end_offset();
        let (bytes, header) = keyed(step, &records, base as i32);
        history.appended.extend(
            (base..)
                .zip(&records)
                .map(|(offset, (key, value))| (offset, *key, value.clone())),
        );
        log.append(bytes, &header, 0, now(step))?;
        match random.below(12) {
            0..4 => {
                if let Some(job) = log.sync_targets()? {
                    job.run()?;
                    log.mark_synced(job.up_to);
                    history.synced = log.synced_offset();
                }
            }
            4 | 5 => log.roll(now(step))?,
            6..10 => {
                let at = now(step * 10);
                let found = log.cleanable(Some(checkpoint), history.synced, at)?;
                if found.is_due(0) {
                    history.cleaned = history.cleaned.max(found.first_uncleanable_offset);
                    let mut compaction = log.compact(&found, 1 << 16, 5, at)?;
                    while compaction.finished().is_none() {
                        if compaction.wants_log() {
                            log.install(&mut compaction)?;
                        } else {
                            compaction.step(400)?;
                        }
                    }
                    checkpoint = compaction.finished().unwrap().first_dirty_offset;
                    log.remove_deleted(at)?;
                }
            }
            10 => {
                log.close()?;
                history.synced = log.log_end_offset();
                log = open_compacting(storage.clone(), true, history.synced)?;
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

fn open_compacting(
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
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    if end < history.synced || start > 0 && history.synced > 0 {
        return Err(format!("{start} to {end}, synced {}", history.synced));
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
        .filter(|r| r.0 < history.synced || before.unwrap_or(&found).contains(r))
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
                "key {key}: {:?} instead of {:?}",
                last(&found),
                last(&appended)
            ));
        }
    }
    if end > 0 {
        let next = |sequence| keyed(0, &[(0, None)], sequence).1;
        let state = log.producers();
        if state.check(&next(end as i32)) != SequenceCheck::Accept
            || state.check(&next(end as i32 + 1)) == SequenceCheck::Accept
        {
            return Err(format!("producer state is not that of offset {end}"));
        }
    }
    Ok(found)
}

fn check_compacted(storage: Arc<dyn Storage>, history: &KeyedHistory) -> Result<(), String> {
    let describe = |error: ottla_log::LogError| error.to_string();
    let mut log =
        open_compacting(storage.clone(), history.closed, history.synced).map_err(describe)?;
    let before = check_keyed(&mut log, history, history.cleaned, None)?;
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

#[test]
fn compaction_loses_nothing_at_any_operation() {
    let mut swaps = 0;
    for seed in 1..=3 {
        let whole = Disk::new(u64::MAX, true);
        compaction_scenario(&whole, seed, &mut KeyedHistory::default()).unwrap();
        let operations = whole.look(|state| state.done);
        for left in 0..=operations {
            let disk = Disk::new(left, true);
            let mut history = KeyedHistory::default();
            let _ = compaction_scenario(&disk, seed, &mut history);
            for state in 0..4 {
                let mut random = Random(seed << 32 | left << 8 | (state + 1));
                let found = disk.after_power_cut(&mut random);
                let what = format!("seed {seed}, operation {left} of {operations}, state {state}");
                let entries = found.list(DIR).unwrap_or_default();
                let swap = entries.iter().any(|entry| entry.name.ends_with(".swap"));
                let again =
                    (swap && left % 3 == 0 && state == 0).then(|| Disk::holding(&found, u64::MAX));
                check_compacted(found.clone(), &history)
                    .unwrap_or_else(|why| panic!("{what}: {why}"));
                // The power may go again while the log is opened.
                let Some(opening) = again else { continue };
                swaps += 1;
                let copy = opening.after_power_cut(&mut random);
                let _ = open_compacting(Arc::new(opening.clone()), history.closed, history.synced);
                for left in 0..opening.look(|state| state.done) {
                    let disk = Disk::holding(&copy, left);
                    let _ = open_compacting(Arc::new(disk.clone()), history.closed, history.synced);
                    let found = disk.after_power_cut(&mut random);
                    check_compacted(found, &history)
                        .unwrap_or_else(|why| panic!("{what}, opening stopped at {left}: {why}"));
                }
            }
        }
    }
    assert!(swaps > 20, "{swaps}");
}

/// A number from the environment, for the long form.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// What the disk holds, in one number.
fn fingerprint(found: &MemoryStorage) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    let list = |dir: &str| found.list(dir).unwrap_or_default();
    for entry in list("").into_iter().chain(list(DIR)) {
        (&entry.name, entry.is_dir, entry.len).hash(&mut hasher);
        if !entry.is_dir {
            let path = ottla_log::join(DIR, &entry.name);
            if let Ok(file) = found.open(&path, OpenHow::ReadOnly) {
                file.read_exact(0, file.len() as usize)
                    .unwrap()
                    .hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

/// The long form: `cargo xtask torture states` runs it in a release build and keeps the line that it ends with.
///
/// `OTTLA_CRASH_STATES` is how many different states to look at (10⁷), `OTTLA_CRASH_FROM` the first scenario's seed (1000).
#[test]
#[ignore = "takes most of an hour: cargo xtask torture states"]
fn ten_million_states() {
    const STATES_AT_AN_OPERATION: u64 = 255;
    let total = setting("OTTLA_CRASH_STATES", 10_000_000);
    let next_seed = AtomicU64::new(setting("OTTLA_CRASH_FROM", 1000));
    let (checked, points) = (AtomicU64::new(0), AtomicU64::new(0));
    let distinct = Mutex::new(std::collections::HashSet::new());
    let failures = Mutex::new(Vec::new());
    let (start, first) = (Instant::now(), next_seed.load(Relaxed));
    // How many different ones there were is what counts.
    let count = AtomicU64::new(0);
    let work = || {
        while count.load(Relaxed) < total {
            let seed = next_seed.fetch_add(1, Relaxed);
            let whole = Disk::new(u64::MAX, true);
            scenario(&whole, seed, &mut History::default()).unwrap();
            let operations = whole.look(|state| state.done);
            for left in 0..=operations {
                let disk = Disk::new(left, true);
                let mut history = History::default();
                let _ = scenario(&disk, seed, &mut history);
                let mut prints = Vec::with_capacity(STATES_AT_AN_OPERATION as usize);
                for state in 0..STATES_AT_AN_OPERATION {
                    let mut random = Random(seed << 32 | left << 8 | (state + 1));
                    // As in `sweep`, but one of the two.
                    let recovery_point = if state % 2 == 0 { history.synced } else { 0 };
                    let found = disk.after_power_cut(&mut random);
                    prints.push(fingerprint(&found));
                    let what =
                        format!("seed {seed}, operation {left} of {operations}, state {state}");
                    if let Err(failure) = check(found, &history, recovery_point, &what) {
                        eprintln!("FAILED: {failure}");
                        failures.lock().unwrap().push(failure);
                    }
                }
                let mut distinct = distinct.lock().unwrap();
                distinct.extend(prints);
                count.store(distinct.len() as u64, Relaxed);
                drop(distinct);
                checked.fetch_add(STATES_AT_AN_OPERATION, Relaxed);
                points.fetch_add(1, Relaxed);
                if count.load(Relaxed) >= total {
                    break;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        (0..threads).for_each(|_| drop(scope.spawn(work)));
        let mut told = Instant::now();
        while count.load(Relaxed) < total {
            std::thread::sleep(Duration::from_millis(100));
            if told.elapsed() >= Duration::from_secs(5) {
                told = Instant::now();
                let (done, failed) = (count.load(Relaxed), failures.lock().unwrap().len());
                let left = start
                    .elapsed()
                    .mul_f64(total as f64 / done.max(1) as f64 - 1.0);
                eprintln!("{done} of {total} different states, {failed} failed, {left:.0?} to go");
            }
        }
    });
    let failures = failures.into_inner().unwrap();
    if let Some(failure) = failures.first() {
        println!("found: {failure}");
    }
    println!(
        "ledger: states | {} states | {} | all different, of {} looked at, at {} operations of {} scenarios (seeds from {first}), {:.0} s",
        distinct.into_inner().unwrap().len(),
        failures.len(),
        checked.load(Relaxed),
        points.load(Relaxed),
        next_seed.load(Relaxed) - first,
        start.elapsed().as_secs_f64(),
    );
    assert!(failures.is_empty(), "{}", failures[0]);
}
