//! How fast a partition's log is, next to the same bytes through memcpy, CRC-32C and plain write(2).
//!
//! `cargo run --release -p ottla-driver --example log_speed [--log-gib N] [DIR]`
//!
//! With `--log-gib N` only appends of 1 MiB, and look-ups and reads in a log of N GiB are measured; the last line has the figures
//! as JSON.

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

/// Batches of `size` bytes are appended; as JSON.
fn appends(dir: &std::path::Path, size: usize) -> String {
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
    format!(
        "{{\"batch_bytes\":{bytes},\"plain_gb_per_s\":{},\"append_percent\":{}}}",
        gb_per_s(count * bytes, plain),
        100.0 * plain.as_secs_f64() / logged.as_secs_f64()
    )
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

/// Look-ups that are timed one by one.
const LOOKUPS: usize = 20_000;
/// Bytes of sealed segments that are read and copied in turn.
const REGION: u64 = 512 << 20;
/// Bytes of a read, and of the buffer that is copied to.
const PIECE: usize = 1 << 20;

/// Numbers below `n` without a pattern, the same ones in every run (SplitMix64).
fn random(n: i64) -> Vec<i64> {
    let mut state = 0u64;
    (0..LOOKUPS)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((u128::from(z ^ (z >> 31)) * n as u128) >> 64) as i64
        })
        .collect()
}

/// Times each look-up in microseconds; the median and the 99th percentile, with the two readings of the clock around it.
fn timed(places: &[i64], mut look_up: impl FnMut(i64)) -> (f64, f64) {
    let mut times: Vec<Duration> = places
        .iter()
        .map(|place| {
            let start = Instant::now();
            look_up(*place);
            start.elapsed()
        })
        .collect();
    times.sort();
    let at = |share: usize| times[times.len() * share / 100].as_nanos() as f64 / 1e3;
    (at(50), at(99))
}

/// A part of the large log: what its batches are like, and which offsets it has. A record's timestamp is its offset.
struct Part {
    batch_bytes: usize,
    offsets: std::ops::Range<i64>,
}

/// Appends batches of `size` bytes, about 1 MiB of them built at a time, until the log has `until` bytes.
fn fill_part(log: &mut PartitionLog, size: usize, until: u64) -> Part {
    let first = log.log_end_offset();
    let mut next = first;
    while log.size_bytes() < until {
        let batches: Vec<_> = (0..(PIECE / size).max(1))
            .map(|_| {
                let built = batch(size, next);
                next += i64::from(built.1.record_count);
                built
            })
            .collect();
        for (bytes, header) in batches {
            log.append(bytes, &header, 0, now()).expect("appended");
        }
    }
    Part {
        batch_bytes: size,
        offsets: first..log.log_end_offset(),
    }
}

/// Look-ups in a part of the log, as JSON.
fn part_lookups(log: &mut PartitionLog, part: &Part) -> String {
    let end = log.log_end_offset();
    let mut places = random(part.offsets.end - part.offsets.start);
    for place in &mut places {
        *place += part.offsets.start;
    }
    println!(
        "{}-byte batches, offsets {:?}",
        part.batch_bytes, part.offsets
    );
    let mut figures = format!("{{\"batch_bytes\":{}", part.batch_bytes);
    for round in ["first", "again"] {
        let by_offset = timed(&places, |offset| {
            let found = log.read(offset, 1, true, end).expect("read");
            assert!(!found.chunks.is_empty());
            black_box(found);
        });
        let by_time = timed(&places, |timestamp| {
            let found = log.offset_for_time(timestamp).expect("a log that works");
            assert_eq!(black_box(found), Some((timestamp, timestamp)));
        });
        for (what, (p50, p99)) in [("offset", by_offset), ("time", by_time)] {
            println!("  by {what:6} {round}: p50 {p50:7.2} µs, p99 {p99:7.2} µs");
            if round == "again" {
                figures += &format!(",\"{what}\":{{\"p50_us\":{p50},\"p99_us\":{p99}}}");
            }
        }
    }
    // How much of that is waiting for bytes that no cache has: the same, each place looked up just before.
    let mut times: Vec<f64> = places
        .iter()
        .map(|timestamp| {
            black_box(log.offset_for_time(*timestamp).expect("a log that works"));
            let one = [*timestamp];
            timed(&one, |timestamp| {
                black_box(log.offset_for_time(timestamp).expect("a log that works"));
            })
            .0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("  by time  cached: p50 {:7.2} µs", times[times.len() / 2]);
    figures + "}"
}

/// What `work` does with each piece of the log from `first` on, one read of 1 MiB after the other.
fn each_piece(log: &mut PartitionLog, first: i64, bytes: usize, mut work: impl FnMut(&[Bytes])) {
    let (mut next, mut read, end) = (first, 0, log.log_end_offset());
    while read < bytes {
        let slice = log.read(next, PIECE, true, end).expect("read");
        work(&slice.chunks);
        read += slice.bytes;
        next = slice.end_offset;
    }
}

fn copy_to(buffer: &mut [u8], chunks: &[Bytes]) {
    let mut at = 0;
    for chunk in chunks {
        buffer[at..at + chunk.len()].copy_from_slice(black_box(chunk));
        at += chunk.len();
    }
    black_box(&buffer);
}

/// Reading sealed, mapped segments beside copying the very same bytes of the same maps, in turns; as JSON.
fn sealed_reads(log: &mut PartitionLog, part: &Part, part_bytes: u64) -> String {
    let bytes = (REGION.min(part_bytes / 10 * 9)) as usize;
    let first = part.offsets.start;
    // What is copied: the same slices, fetched beforehand. This also brings in every page.
    let mut pieces: Vec<Vec<Bytes>> = Vec::new();
    each_piece(log, first, bytes, |chunks| pieces.push(chunks.to_vec()));
    let mut buffer = vec![1u8; PIECE + part.batch_bytes];
    let (mut copied, mut read, mut walked) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=ROUNDS {
        let start = Instant::now();
        for piece in &pieces {
            copy_to(&mut buffer, piece);
        }
        copied.push(start.elapsed());
        let start = Instant::now();
        each_piece(log, first, bytes, |chunks| copy_to(&mut buffer, chunks));
        read.push(start.elapsed());
        let start = Instant::now();
        let mut sum = 0u64;
        each_piece(log, first, bytes, |chunks| {
            for batch in ottla_record::Batches::new(chunks.to_vec()) {
                let lines = batch.expect("whole").body().clone();
                sum += lines.chunks(64).map(|line| u64::from(line[0])).sum::<u64>();
            }
        });
        black_box(sum);
        walked.push(start.elapsed());
    }
    let all: usize = pieces.iter().flatten().map(Bytes::len).sum();
    // The first round warms up.
    let [copied, read, walked] = [copied, read, walked].map(|runs| median(runs[1..].to_vec()));
    let share = |time: Duration| 100.0 * copied.as_secs_f64() / time.as_secs_f64();
    println!(
        "{}-byte batches, {} MB of sealed segments\n  copied                        {:6.2} GB/s\n  \
         read, and copied              {:6.2} GB/s, {:.0} % of that\n  \
         read, a byte of each 64 seen  {:6.2} GB/s, {:.0} % of that",
        part.batch_bytes,
        all / 1_000_000,
        gb_per_s(all, copied),
        gb_per_s(all, read),
        share(read),
        gb_per_s(all, walked),
        share(walked),
    );
    format!(
        "{{\"batch_bytes\":{},\"copy_gb_per_s\":{},\"read_percent\":{},\"walk_percent\":{}}}",
        part.batch_bytes,
        gb_per_s(all, copied),
        share(read),
        share(walked)
    )
}

/// A log of so many GiB, three fifths of it batches of 100 kB, then batches of 16 KiB (Kafka's `batch.size`) and of 1 kB, in
/// segments of the default size. `appended` are the figures of appends.
fn large_log(dir: &std::path::Path, gib: u64, appended: &str) {
    let mut log = log_in(Arc::new(FileStorage::new(dir)));
    let fifth = (gib << 30) / 5;
    let start = Instant::now();
    let parts = [
        (fill_part(&mut log, 100_000, 3 * fifth), 3 * fifth),
        (fill_part(&mut log, 16 << 10, 4 * fifth), fifth),
        (fill_part(&mut log, 1_000, 5 * fifth), fifth),
    ];
    println!(
        "\na log of {gib} GiB, {} segments, written in {:.1} s",
        log.segment_count(),
        start.elapsed().as_secs_f64()
    );
    let lookups: Vec<_> = parts
        .iter()
        .map(|(part, _)| part_lookups(&mut log, part))
        .collect();
    log.roll(now()).expect("rolled");
    let reads: Vec<_> = parts
        .iter()
        .map(|(part, bytes)| sealed_reads(&mut log, part, *bytes))
        .collect();
    println!(
        "{{\"gib\":{gib},\"appends\":{appended},\"lookups\":[{}],\"sealed\":[{}]}}",
        lookups.join(","),
        reads.join(",")
    );
}

fn main() {
    let (mut dir, mut gib) = (None, None);
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--log-gib" {
            let number = args.next().and_then(|n| n.to_str()?.parse().ok());
            gib = Some(number.filter(|gib| *gib > 0).expect("--log-gib N"));
        } else {
            dir = Some(PathBuf::from(arg));
        }
    }
    let dir = dir.unwrap_or_else(|| {
        std::env::temp_dir().join(format!("ottla-log-speed-{}", std::process::id()))
    });
    std::fs::create_dir_all(&dir).expect("the directory can be made");
    if let Some(gib) = gib {
        let appended = appends(&dir, 1 << 20);
        large_log(&dir, gib, &appended);
    } else {
        let appended = appends(&dir, 1 << 20);
        for size in [100_000, 16_000, 1_000] {
            appends(&dir, size);
        }
        for size in [100_000, 1_000] {
            reads("memory", Arc::new(MemoryStorage::new()), size);
            reads("files", Arc::new(FileStorage::new(&dir)), size);
        }
        large_log(&dir, 1, &appended);
    }
    std::fs::remove_dir_all(dir.join("t-0")).expect("removed");
    // Somebody else's directory may hold more.
    let _ = std::fs::remove_dir(&dir);
}
