//! Every byte of every file of a data directory flipped, one at a time, by one bit and as a whole; every file gone, and cut at every
//! length. Opened after a clean and after an unclean stop, everything is read.
//!
//! The rule: every record outside of the damaged batch is served, nothing damaged is, and the broker opens; only if a file is damaged
//! that can't be made again from others, an error that names it is as good.

use crate::{
    direct::Direct,
    mark::Mark,
    options::Options,
    report::{Progress, Ran, Report},
};
use bytes::Bytes;
use ottla_broker::BrokerConfig;
use ottla_log::{MemoryStorage, OpenHow, Storage, join};
use ottla_record::{Batches, Limits, Now, crc32c};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

const TOPIC: &str = "flips";
const GROUP: &str = "group";
/// The first segment is this long, but for a batch.
const SEGMENT: &str = "65536";
/// Files that hold what nothing else does. `partition.metadata` is one: a topic id that reads well and is another may mean that the
/// directory is another topic's, which must not be served as this one's.
const NOT_DERIVABLE: [&str; 4] = [
    "meta.properties",
    "ottla-topics",
    "ottla-producer-ids",
    "partition.metadata",
];
/// What is known not to hold yet, by kind of file and kind of stop; a finding of another kind fails the rig, and so does one of
/// these that is not found any more.
const KNOWN: &[(&str, Stop)] = &[];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    Clean,
    Unclean,
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Bit,
    Byte,
    Gone,
    Cut,
    /// The control: a value's byte, with the batch's checksum set right.
    Forged,
}

/// A data directory's files.
type Files = BTreeMap<String, Bytes>;

/// A data directory and what is in it.
struct Original {
    stop: Stop,
    files: Files,
    /// By offset.
    records: Vec<Mark>,
    /// The offsets committed one after the other, the last one counting.
    committed: Vec<i64>,
}

fn now() -> Now {
    Now::new(1_000_000, 1_800_000_000_000)
}

/// Writes a directory: two segments and a bit of the topic, snapshots, commits.
fn original(stop: Stop) -> Result<Original, String> {
    let storage = Arc::new(MemoryStorage::new());
    let mut broker = Direct::open(BrokerConfig::default(), storage.clone(), now())
        .map_err(|error| error.to_string())?;
    let config = [("segment.bytes", SEGMENT), ("index.interval.bytes", "1024")];
    broker.create_topic(TOPIC, 1, &config)?;
    broker.find_coordinator(GROUP)?;
    let (id, epoch) = broker.producer_id()?;
    let mut records = Vec::new();
    let mut committed = Vec::new();
    // Batches of one to twelve records.
    let mut batch = 0;
    while records.len() < 1400 {
        batch += 1;
        let first = records.len() as u32;
        let marks: Vec<Mark> = (first..first + 1 + batch * 7 % 12)
            .map(|count| Mark { writer: 0, count })
            .collect();
        let values: Vec<_> = marks.iter().map(|mark| mark.value()).collect();
        broker.now.wall_ms += 10;
        broker.produce(TOPIC, 0, &values, Some((id, epoch, first as i32)))?;
        records.extend(marks);
        if batch % 25 == 0 {
            committed.push(i64::from(first));
            broker.commit(GROUP, TOPIC, 0, i64::from(first))?;
        }
    }
    broker.pass_ms(61_000);
    if stop == Stop::Clean {
        broker.close().map_err(|error| error.to_string())?;
    }
    Ok(Original {
        stop,
        files: files_of(&*storage, "")?,
        records,
        committed,
    })
}

fn files_of(storage: &dyn Storage, dir: &str) -> Result<Files, String> {
    let mut files = Files::new();
    for entry in storage.list(dir).map_err(|error| error.to_string())? {
        let path = join(dir, &entry.name);
        if entry.is_dir {
            files.extend(files_of(storage, &path)?);
        } else {
            let bytes = storage
                .open(&path, OpenHow::ReadOnly)
                .and_then(|file| file.read_exact(0, file.len() as usize))
                .map_err(|error| error.to_string())?;
            files.insert(path, bytes);
        }
    }
    Ok(files)
}

/// The directory with one file replaced, or without it.
fn storage_with(files: &Files, path: &str, replaced: Option<Bytes>) -> Arc<MemoryStorage> {
    let storage = MemoryStorage::new();
    for (name, bytes) in files {
        let bytes = match name == path {
            true => replaced.clone(),
            false => Some(bytes.clone()),
        };
        let Some(bytes) = bytes else { continue };
        if let Some((dir, _)) = name.rsplit_once('/') {
            storage.create_dir(dir).expect("memory");
        }
        let mut file = storage.open(name, OpenHow::CreateNew).expect("memory");
        if !bytes.is_empty() {
            file.append(&[bytes]).expect("memory");
        }
    }
    Arc::new(storage)
}

/// First and next offset of each batch of a log file, with where it lies.
fn batches(bytes: &Bytes) -> Vec<(usize, usize, i64, i64)> {
    let mut found = Vec::new();
    let mut at = 0;
    for batch in Batches::new([bytes.clone()]).flatten() {
        let header = batch.header();
        let size = batch.to_bytes().len();
        found.push((at, at + size, header.base_offset, header.next_offset()));
        at += size;
    }
    found
}

/// What a file is, for counting.
fn kind(path: &str) -> &'static str {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let kinds = [
        ".log",
        ".index",
        ".timeindex",
        ".snapshot",
        "leader-epoch-checkpoint",
        "partition.metadata",
        "recovery-point-offset-checkpoint",
        "replication-offset-checkpoint",
        "log-start-offset-checkpoint",
        ".kafka_cleanshutdown",
        "meta.properties",
        "ottla-topics",
        "ottla-producer-ids",
    ];
    if dir.starts_with("__consumer_offsets") && name.ends_with(".log") {
        return "__consumer_offsets.log";
    }
    kinds
        .into_iter()
        .find(|kind| name.ends_with(kind))
        .unwrap_or("other")
}

/// Opens a damaged directory and reads all of it; what is wrong.
fn check(original: &Original, path: &str, at: usize, damage: Damage) -> Vec<String> {
    let bytes = &original.files[path];
    let replaced = match damage {
        Damage::Gone => None,
        Damage::Cut => Some(bytes.slice(..at)),
        Damage::Bit | Damage::Byte | Damage::Forged => {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= match damage {
                // Another bit at each place.
                Damage::Bit => 1 << ((at * 7 + at / 8) % 8),
                _ => 0xff,
            };
            if matches!(damage, Damage::Forged)
                && let Some((from, to, ..)) =
                    batches(bytes).iter().find(|b| (b.0..b.1).contains(&at))
            {
                let crc = crc32c(&damaged[from + 21..*to]);
                damaged[from + 17..from + 21].copy_from_slice(&crc.to_be_bytes());
            }
            Some(damaged.into())
        }
    };
    // Offsets that may be missing: those of the batch that was hit; of a log that is cut, all from there on.
    let mut lost = BTreeSet::new();
    if kind(path) == ".log" {
        for (from, to, first, next) in batches(bytes) {
            let hit = match damage {
                Damage::Cut => to > at,
                _ => (from..to).contains(&at),
            };
            if hit {
                lost.extend(first..next);
            }
        }
    }
    let storage = storage_with(&original.files, path, replaced);
    let read = || read(original, storage, path, &lost);
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| vec!["it panics".into()])
}

fn read(
    original: &Original,
    storage: Arc<MemoryStorage>,
    path: &str,
    lost: &BTreeSet<i64>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut broker = match Direct::open(BrokerConfig::default(), storage, now()) {
        Ok(broker) => broker,
        Err(error) => {
            let text = error.to_string();
            if !NOT_DERIVABLE.iter().any(|name| path.ends_with(name)) {
                wrong.push(format!("it doesn't open: {text}"));
            } else if !text.contains(path) {
                wrong.push(format!("the error doesn't name the file: {text}"));
            }
            return wrong;
        }
    };
    let end = original.records.len() as i64;
    let mut served = vec![false; original.records.len()];
    let (mut next, mut refused) = (0, String::new());
    while next < end {
        let answer = match broker.fetch(TOPIC, 0, next) {
            Ok(answer) => answer,
            Err(why) => {
                wrong.push(format!("no fetch at {next}: {why}"));
                return wrong;
            }
        };
        let before = next;
        for batch in Batches::new(answer.records.into_chunks()) {
            let Ok(batch) = batch else { break };
            let header = batch.header();
            if batch.check_crc().is_err() {
                wrong.push(format!("a batch at {} is damaged", header.base_offset));
                next = next.max(header.next_offset());
                continue;
            }
            // A damaged header may look like the begin of a transaction, which opening aborts: a marker, and no record of anybody's.
            if header.attributes.is_control() {
                next = next.max(header.next_offset());
                continue;
            }
            let mut records = match batch.records(Limits::default()) {
                Ok(records) => records,
                Err(error) => {
                    wrong.push(format!("a batch at {}: {error}", header.base_offset));
                    next = next.max(header.next_offset());
                    continue;
                }
            };
            while let Some(record) = records.next_record() {
                let Ok(record) = record else { break };
                if record.offset < before {
                    continue;
                }
                let expected = original.records.get(record.offset as usize);
                match record.value.and_then(Mark::of) {
                    Some(mark) if Some(&mark) == expected => served[mark.count as usize] = true,
                    other => wrong.push(format!("at {}: {other:?}", record.offset)),
                }
            }
            next = next.max(header.next_offset());
        }
        if next == before {
            // Refused, or nothing there: a consumer would go on behind it.
            refused = format!("{:?}", answer.error_code);
            next += 1;
        }
    }
    let missing: Vec<i64> = (0..end)
        .filter(|offset| !served[*offset as usize] && !lost.contains(offset))
        .collect();
    if let Some(first) = missing.first() {
        wrong.push(format!(
            "{} records are missing from {first} on ({refused})",
            missing.len()
        ));
    }
    match broker.committed(GROUP, TOPIC, 0) {
        Ok(offset) => {
            let last = original.committed.last().copied().unwrap_or(-1);
            let hit = kind(path) == "__consumer_offsets.log";
            let known = offset == -1 || original.committed.contains(&offset);
            if !(offset == last || hit && known) {
                wrong.push(format!("{last} was committed, now it is {offset}"));
            }
        }
        Err(why) => wrong.push(format!("committed offsets: {why}")),
    }
    wrong
}

/// The whole sweep.
pub fn main(options: &Options) -> Result<Report, String> {
    let hook = std::panic::take_hook();
    // Panics are findings, and told as such.
    std::panic::set_hook(Box::new(|_| {}));
    let result = sweep(options);
    std::panic::set_hook(hook);
    result
}

fn sweep(options: &Options) -> Result<Report, String> {
    let mut report = Report::default();
    let mut known = BTreeSet::new();
    let mut note = Vec::new();
    let (mut done, mut bad) = (0, 0);
    let mut progress = Progress::new("flips", 0, None);
    for stop in [Stop::Clean, Stop::Unclean] {
        let original = original(stop)?;
        control(&original)?;
        for (path, bytes) in &original.files {
            if !options.wants(kind(path)) {
                continue;
            }
            // A log that is gone or short in its middle is no damage that anybody promises to survive; a short tail is.
            let is_log = path.ends_with(".log");
            let is_tail =
                is_log && original.files.keys().rfind(|p| p.ends_with(".log")) == Some(path);
            let mut cases = Vec::new();
            if !is_log {
                cases.push((0, Damage::Gone));
            }
            // Slices take other places with another seed.
            let places = (options.seed as usize % options.stride as usize..bytes.len())
                .step_by(options.stride as usize);
            for at in places {
                cases.extend([(at, Damage::Bit), (at, Damage::Byte)]);
                if !is_log || is_tail {
                    cases.push((at, Damage::Cut));
                }
            }
            let failures = each(&original, path, &cases);
            done += cases.len() as u64;
            if let Some((at, damage, wrong)) = failures.first() {
                let what = format!("{path} after {:?} stop", original.stop);
                if KNOWN.contains(&(kind(path), stop)) {
                    known.insert((kind(path), stop));
                } else {
                    bad += failures.len() as u64;
                    let first = format!("{} of {} cases", failures.len(), cases.len());
                    report.found(
                        &format!("{what}, {first}, first {damage:?} at {at}"),
                        wrong.clone(),
                    );
                }
            }
            progress.tell(&format!("{path}, {done} cases"), &report);
        }
        note.push(format!(
            "{:?}: {} files, {} bytes",
            original.stop,
            original.files.len(),
            original.files.values().map(Bytes::len).sum::<usize>()
        ));
    }
    if options.stride == 1 && options.only.is_empty() {
        for gone in KNOWN.iter().filter(|case| !known.contains(*case)) {
            let what = format!("{gone:?} is known not to hold, and holds: take it off the list");
            report.found("flips", vec![what]);
            bad += 1;
        }
    }
    let known = match known.is_empty() {
        true => String::new(),
        false => format!("; known not to hold: {known:?}"),
    };
    report.ran.push(Ran {
        rig: "flips".into(),
        count: done,
        unit: "damages",
        found: bad,
        note: format!(
            "{}; stride {}; control caught{known}; {:.0} s",
            note.join("; "),
            options.stride,
            progress.seconds()
        ),
    });
    Ok(report)
}

/// All cases of a file, on all cores; those that went wrong, in order.
fn each(
    original: &Original,
    path: &str,
    cases: &[(usize, Damage)],
) -> Vec<(usize, Damage, Vec<String>)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failures = Vec::new();
        while let Some(&(at, damage)) = cases.get(next.fetch_add(1, Relaxed)) {
            let wrong = check(original, path, at, damage);
            if !wrong.is_empty() {
                failures.push((at, damage, wrong));
            }
        }
        failures
    };
    let mut failures: Vec<_> = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("panics are caught"))
            .collect()
    });
    failures.sort_by_key(|(at, ..)| *at);
    failures
}

/// Nothing damaged is nothing wrong; a damaged value whose batch's checksum is right must be noticed.
fn control(original: &Original) -> Result<(), String> {
    let path = format!("{TOPIC}-0/00000000000000000000.log");
    let nothing = storage_with(&original.files, "", None);
    let wrong = read(original, nothing, "", &BTreeSet::new());
    if !wrong.is_empty() {
        return Err(format!("without any damage: {wrong:?}"));
    }
    let bytes = &original.files[&path];
    let (_, to, ..) = batches(bytes)[3];
    // Behind the value there is only the number of headers.
    let wrong = check(original, &path, to - 3, Damage::Forged);
    if wrong.iter().any(|what| what.contains("None")) {
        return Ok(());
    }
    Err(format!(
        "the control, a damaged value under a right checksum, was not caught: {wrong:?}"
    ))
}
