//! How fast a log is compacted, next to copying the same files with a CRC-32C over them.
//!
//! `cargo run --release -p ottla-driver --example compaction_speed [DIR]`
//!
//! The compaction has a thread of its own, so that a profiler can tell it from the rest (`perf report --comm compaction`).

use ottla_driver::FileStorage;
use ottla_log::{LogConfig, PartitionLog, Storage};
use ottla_record::{BatchBuilder, FinishOptions, Now, crc32c};
use std::{
    fs::File,
    hint::black_box,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

const TOTAL: u64 = 256 << 20;
const BATCH: usize = 16 << 10;
const ROUNDS: usize = 3;

fn now() -> Now {
    Now::new(0, 1_700_000_000_000)
}

/// A log of records with 100-byte values, whose keys come again after `keys` records.
fn filled(dir: &Path, keys: u64) -> PartitionLog {
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::new(dir));
    if storage.exists("t-0").expect("storage works") {
        storage.remove_dir("t-0").expect("storage works");
    }
    let config = LogConfig {
        segment_bytes: 64 << 20,
        compact: true,
        ..LogConfig::default()
    };
    let mut log = PartitionLog::create(storage, "t-0", config, now()).expect("a new log");
    let mut record = 0u64;
    while log.size_bytes() < TOTAL {
        let mut builder = BatchBuilder::new(BATCH + 200);
        while builder.len() + 150 < BATCH {
            let key = (record % keys).to_be_bytes();
            builder
                .append(record as i64, Some(&key), Some(&[b'v'; 100]), &[])
                .expect("fits");
            record += 1;
        }
        let done = builder.finish(&FinishOptions::default()).expect("fits");
        log.append(done.encoded, &done.header, 0, now())
            .expect("appended");
    }
    log.roll(now()).expect("rolled");
    log
}

/// Copies the segments, with a CRC over what is copied, and syncs the copies.
fn copied(dir: &Path) -> Duration {
    let start = Instant::now();
    let mut buffer = vec![0; 1 << 20];
    for entry in std::fs::read_dir(dir.join("t-0")).expect("there") {
        let path = entry.expect("there").path();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let mut from = File::open(&path).expect("opened");
        let to = path.with_extension("copy");
        let mut copy = File::create(&to).expect("created");
        loop {
            let bytes = from.read(&mut buffer).expect("read");
            if bytes == 0 {
                break;
            }
            black_box(crc32c(&buffer[..bytes]));
            copy.write_all(&buffer[..bytes]).expect("written");
        }
        copy.sync_data().expect("synced");
        std::fs::remove_file(&to).expect("removed");
    }
    start.elapsed()
}

fn main() {
    let dir = std::env::args().nth(1).map_or_else(
        || std::env::temp_dir().join("ottla-compaction-speed"),
        PathBuf::from,
    );
    std::fs::create_dir_all(&dir).expect("a directory");
    for (what, keys) in [
        ("all keys differ, nothing is written", u64::MAX),
        ("each key twice, half of it goes", 1_050_000),
        ("10,000 keys, nearly all goes", 10_000),
    ] {
        let (mut compacted, mut copies) = (Vec::new(), Vec::new());
        let mut done = Default::default();
        let mut bytes = 0;
        for _ in 0..ROUNDS {
            let mut log = filled(&dir, keys);
            if let Some(job) = log.sync_targets().expect("a log that works") {
                job.run().expect("synced");
                log.mark_synced(job.up_to);
            }
            copies.push(copied(&dir));
            bytes = log.size_bytes();
            let end = log.log_end_offset();
            let start = Instant::now();
            done = std::thread::Builder::new()
                .name("compaction".into())
                .spawn(move || {
                    let found = log.cleanable(None, end, now()).expect("found");
                    log.compact_now(&found, 128 << 20, now()).expect("done")
                })
                .expect("a thread")
                .join()
                .expect("no panic");
            compacted.push(start.elapsed());
        }
        copies.sort();
        compacted.sort();
        let (copy, time) = (copies[ROUNDS / 2], compacted[ROUNDS / 2]);
        let mb = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
        println!(
            "{what}: {} MB, {} keys\n  copy + CRC + sync  {:7.0} MB/s\n  compaction         {:7.0} MB/s, {:.0} %; {} MB are left",
            bytes / 1_000_000,
            done.keys,
            mb(copy),
            mb(time),
            100.0 * copy.as_secs_f64() / time.as_secs_f64(),
            done.bytes_after / 1_000_000,
        );
    }
    std::fs::remove_dir_all(dir.join("t-0")).expect("removed");
}
