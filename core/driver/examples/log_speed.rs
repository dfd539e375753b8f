//! How fast a partition's log is, next to the same bytes through memcpy, CRC-32C and plain write(2).
//!
//! `cargo run --release -p ottla-driver --example log_speed [DIR]`

use bytes::Bytes;
use ottla_driver::FileStorage;
use ottla_log::{LogConfig, MemoryStorage, PartitionLog, Storage};
use ottla_record::{BatchBuilder, BatchHeader, FinishOptions, Now, crc32c};
use std::{
    fs::File,
    hint::black_box,
    io::Write,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

const TOTAL: usize = 512 << 20;
const ROUNDS: usize = 5;

fn now() -> Now {
    Now::new(0, 1_700_000_000_000)
}

/// A batch of about `size` bytes of 100-byte values.
fn batch(size: usize, first_timestamp: i64) -> (Bytes, BatchHeader) {
    let mut builder = BatchBuilder::new(size + 200);
    let mut timestamp = first_timestamp;
    while builder.len() + 120 < size || builder.count() == 0 {
        builder
            .append(timestamp, None, Some(&[b'v'; 100]), &[])
            .expect("fits");
        timestamp += 1;
    }
    let done = builder.finish(&FinishOptions::default()).expect("fits");
    (done.encoded, done.header)
}

fn median(mut runs: Vec<Duration>) -> Duration {
    runs.sort();
    runs[runs.len() / 2]
}

fn repeated(mut run: impl FnMut() -> Duration) -> Duration {
    median((0..ROUNDS).map(|_| run()).collect())
}

fn gb_per_s(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e9
}

fn log_in(storage: Arc<dyn Storage>) -> PartitionLog {
    if storage.exists("t-0").expect("storage works") {
        storage.remove_dir("t-0").expect("storage works");
    }
    PartitionLog::create(storage, "t-0", LogConfig::default(), now()).expect("a new log")
}

fn fill(log: &mut PartitionLog, batch: &(Bytes, BatchHeader), count: usize) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        log.append(batch.0.clone(), &batch.1, 0, now())
            .expect("appended");
    }
    start.elapsed()
}

fn appends(dir: &std::path::Path, size: usize) {
    let batch = batch(size, 0);
    let bytes = batch.0.len();
    let count = TOTAL / bytes;
    println!("\n{bytes}-byte batches, {count} of them");

    let memory = repeated(|| {
        let mut log = log_in(Arc::new(MemoryStorage::new()));
        fill(&mut log, &batch, count)
    });
    let per_batch = memory.as_nanos() as f64 / count as f64;
    println!("  append, memory         {per_batch:9.0} ns a batch");

    let mut to = vec![0u8; bytes];
    let copied = repeated(|| {
        let start = Instant::now();
        for _ in 0..count {
            to.copy_from_slice(black_box(&batch.0));
            black_box(&to);
        }
        start.elapsed()
    });
    println!(
        "  memcpy                 {:9.0} ns a batch, {:6.2} GB/s",
        copied.as_nanos() as f64 / count as f64,
        gb_per_s(count * bytes, copied)
    );

    // In turns, since the machine's mood changes.
    let path = dir.join("plain");
    let (mut plain, mut logged) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut file = File::create(&path).expect("a file");
        let start = Instant::now();
        for _ in 0..count {
            black_box(crc32c(&batch.0));
            file.write_all(&batch.0).expect("written");
        }
        plain.push(start.elapsed());
        drop(file);
        std::fs::remove_file(&path).expect("removed");

        let mut log = log_in(Arc::new(FileStorage::new(dir)));
        let start = Instant::now();
        for _ in 0..count {
            // The broker checks every batch before it appends it.
            black_box(crc32c(&batch.0));
            log.append(batch.0.clone(), &batch.1, 0, now())
                .expect("appended");
        }
        logged.push(start.elapsed());
        drop(log_in(Arc::new(FileStorage::new(dir))));
    }
    let (plain, logged) = (median(plain), median(logged));
    println!(
        "  CRC + write(2)         {:9.0} ns a batch, {:6.2} GB/s",
        plain.as_nanos() as f64 / count as f64,
        gb_per_s(count * bytes, plain)
    );
    println!(
        "  CRC + append, files    {:9.0} ns a batch, {:6.2} GB/s, {:.0} %",
        logged.as_nanos() as f64 / count as f64,
        gb_per_s(count * bytes, logged),
        100.0 * plain.as_secs_f64() / logged.as_secs_f64()
    );
}

/// Reads the whole log as a consumer does, 1 MiB at a time, adding up a word of every cache line.
fn read_through(log: &mut PartitionLog) -> (usize, Duration) {
    let start = Instant::now();
    let (mut next, end, mut bytes, mut sum) = (0, log.log_end_offset(), 0, 0u64);
    while next < end {
        let slice = log.read(next, 1 << 20, true, end).expect("read");
        let mut last = None;
        for batch in ottla_record::Batches::new(slice.chunks) {
            let batch = batch.expect("whole");
            last = Some(batch.header().next_offset());
            sum += batch
                .body()
                .chunks(64)
                .map(|c| u64::from(c[0]))
                .sum::<u64>();
        }
        bytes += slice.bytes;
        next = last.expect("something");
    }
    black_box(sum);
    (bytes, start.elapsed())
}

fn reads(name: &str, storage: Arc<dyn Storage>, size: usize) {
    let mut log = log_in(storage);
    let count = TOTAL / size;
    let mut first_timestamp = 0;
    for _ in 0..count {
        let (bytes, header) = batch(size, first_timestamp);
        first_timestamp += i64::from(header.record_count);
        log.append(bytes, &header, 0, now()).expect("appended");
    }
    println!("\nreads, {name}, {size}-byte batches, one segment that is written to");
    let sequential = repeated(|| read_through(&mut log).1);
    println!(
        "  all, from the beginning {:8.2} GB/s",
        gb_per_s(TOTAL, sequential)
    );
    let end = log.log_end_offset();
    let at_tail = repeated(|| {
        let start = Instant::now();
        for _ in 0..10_000 {
            black_box(log.read(end - 1, 1 << 20, true, end).expect("read"));
        }
        start.elapsed() / 10_000
    });
    println!("  the last batch          {:8} ns", at_tail.as_nanos());
    lookups(&mut log, first_timestamp);
    log.roll(now()).expect("rolled");
    println!("reads, {name}, closed segment");
    let sequential = repeated(|| read_through(&mut log).1);
    println!(
        "  all, from the beginning {:8.2} GB/s",
        gb_per_s(TOTAL, sequential)
    );
    lookups(&mut log, first_timestamp);
}

fn lookups(log: &mut PartitionLog, timestamps: i64) {
    let end = log.log_end_offset();
    let scattered = |i: i64, n: i64| i.wrapping_mul(7_919).wrapping_mul(104_729).rem_euclid(n);
    let by_offset = repeated(|| {
        let start = Instant::now();
        for i in 0..20_000 {
            black_box(log.read(scattered(i, end), 1, true, end).expect("read"));
        }
        start.elapsed() / 20_000
    });
    let by_time = repeated(|| {
        let start = Instant::now();
        for i in 0..2_000 {
            black_box(
                log.offset_for_time(scattered(i, timestamps))
                    .expect("found"),
            );
        }
        start.elapsed() / 2_000
    });
    println!("  a batch by offset       {:8} ns", by_offset.as_nanos());
    println!("  a record by time        {:8} ns", by_time.as_nanos());
}

fn main() {
    let dir = std::env::args_os().nth(1).map_or_else(
        || std::env::temp_dir().join(format!("ottla-log-speed-{}", std::process::id())),
        PathBuf::from,
    );
    std::fs::create_dir_all(&dir).expect("the directory can be made");
    for size in [1 << 20, 100_000, 16_000, 1_000] {
        appends(&dir, size);
    }
    for size in [100_000, 1_000] {
        reads("memory", Arc::new(MemoryStorage::new()), size);
        reads("files", Arc::new(FileStorage::new(&dir)), size);
    }
    std::fs::remove_dir_all(&dir).expect("removed");
}
