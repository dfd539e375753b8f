//! Ten million states.

use crate::{
    common::DIR,
    compaction::{self, KeyedHistory, Syncs},
    dying_disk::{Disk, Random},
    plain::{self, History},
};
use ottla_log::{MemoryStorage, OpenHow, Storage};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

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

/// Says whether what was found is right, with a checkpoint of the broker's that is as new as the last sync, or with none.
type Check = Box<dyn Fn(Arc<MemoryStorage>, bool) -> Result<(), String>>;

/// Plays a scenario of the seed, until the disk dies: every third without compaction, with it, and with it on what isn't synced.
fn play(disk: &Disk, seed: u64) -> Check {
    let point = |synced, checkpointed| if checkpointed { synced } else { 0 };
    let syncs = match seed % 3 {
        0 => Syncs::First,
        1 => Syncs::Later,
        _ => {
            let mut history = History::default();
            let _ = plain::scenario(disk, seed, &mut history);
            return Box::new(move |found, checkpointed| {
                plain::check(found, &history, point(history.synced, checkpointed), "")
            });
        }
    };
    let mut history = KeyedHistory::default();
    let _ = compaction::scenario(disk, seed, syncs, &mut history);
    Box::new(move |found, checkpointed| {
        compaction::check(found, &history, point(history.synced, checkpointed))
    })
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
            drop(play(&whole, seed));
            let operations = whole.look(|state| state.done);
            for left in 0..=operations {
                let disk = Disk::new(left, true);
                let check = play(&disk, seed);
                let mut prints = Vec::with_capacity(STATES_AT_AN_OPERATION as usize);
                for state in 0..STATES_AT_AN_OPERATION {
                    let mut random = Random(seed << 32 | left << 8 | (state + 1));
                    let found = disk.after_power_cut(&mut random);
                    prints.push(fingerprint(&found));
                    let what =
                        format!("seed {seed}, operation {left} of {operations}, state {state}");
                    if let Err(failure) = check(found, state % 2 == 0) {
                        let failure = format!("{what}: {failure}");
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
