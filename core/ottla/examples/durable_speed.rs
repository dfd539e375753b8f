//! How long a durable directory takes to open, and what sharing syncs is worth.
//!
//! `cargo run --release -p ottla --example durable_speed [DIR]`: a clean open of 1,000 partitions; an open of 1 GiB after the
//! process that wrote it died; acknowledged records per second of one producer and of sixteen with `durability=fsync`, and the same of
//! threads that share the syncs of a plain file, which is what the machine can do. The last line has the figures as JSON.

use ottla::{Admin, Broker, Config, NewRecord, NewTopic, Producer};
use std::{
    error::Error,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

type Outcome<T> = Result<T, Box<dyn Error>>;

const PARTITIONS: i32 = 1000;
const WRITTEN: usize = 1 << 30;
const WAIT: Duration = Duration::from_secs(60);
/// Set in the process that makes the partitions.
const FILLER: &str = "OTTLA_DURABLE_SPEED_FILLER";
/// Names the directory to be written by the process that dies.
const VICTIM: &str = "OTTLA_DURABLE_SPEED_VICTIM";

fn opened_in(address: &str) -> Outcome<(Broker, Duration)> {
    let start = Instant::now();
    let broker = Broker::open(address)?;
    Ok((broker, start.elapsed()))
}

/// Resident memory of this process, without pages of files: the first open brings in much of the program's own code. 0 where there is
/// no /proc.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm
        .split(' ')
        .skip(1)
        .map(|n| n.parse::<usize>().unwrap_or(0));
    let (resident, of_files) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    resident.saturating_sub(of_files) * 4096
}

fn create(config: &Config, topic: &str, num_partitions: i32) -> Outcome<Admin> {
    let admin = Admin::new(config.clone())?;
    let topic = NewTopic {
        name: topic.into(),
        num_partitions,
        replication_factor: -1,
        config: Vec::new(),
        replica_assignments: Vec::new(),
    };
    for result in admin.create_topics(&[topic], false, WAIT)? {
        result?;
    }
    Ok(admin)
}

/// Makes the partitions.
fn filler(dir: &Path) -> Outcome<()> {
    let address = format!("file://{}", dir.join("clean").display());
    let broker = Broker::open(&address)?;
    let config = Config::new().with("bootstrap.servers", &address)?;
    let admin = create(&config, "many", PARTITIONS)?;
    let producer = Producer::new(config)?;
    for partition in 0..PARTITIONS {
        for _ in 0..10 {
            producer.send(
                NewRecord::to("many")
                    .partition(partition)
                    .value(&[b'v'; 100]),
            )?;
        }
    }
    producer.flush(WAIT)?;
    drop((producer, admin, broker));
    Ok(())
}

/// Bytes of memory of an open partition, and milliseconds that the open of all of them took: the median, and the longest.
fn clean_open(dir: &Path) -> Outcome<(usize, f64, f64)> {
    let address = format!("file://{}", dir.join("clean").display());
    // In another process, so that this one's memory tells what an open directory costs.
    let filled = Command::new(std::env::current_exe()?)
        .arg(dir)
        .env(FILLER, "1")
        .status()?;
    if !filled.success() {
        return Err("the directory could not be filled".into());
    }
    // What any broker costs is not to be counted.
    let _another = Broker::open(&format!("file://{}", dir.join("empty").display()))?;
    let mut times = Vec::new();
    let mut grown = Vec::new();
    for _ in 0..5 {
        let before = resident_bytes();
        let (broker, time) = opened_in(&address)?;
        grown.push(resident_bytes().saturating_sub(before));
        times.push(time);
        drop(broker);
    }
    times.sort();
    // What earlier rounds freed is used again, so the first one tells.
    println!(
        "memory of each of them             {:8} bytes",
        grown[0] / PARTITIONS as usize
    );
    println!(
        "clean open of {PARTITIONS} partitions     {:8.1} ms",
        times[2].as_secs_f64() * 1e3
    );
    let [ms, longest_ms] = [times[2], times[4]].map(|time| time.as_secs_f64() * 1e3);
    Ok((grown[0] / PARTITIONS as usize, ms, longest_ms))
}

/// Writes, and dies.
fn victim(dir: &Path) -> Outcome<()> {
    let address = format!("file://{}?durability=os", dir.display());
    let producer = Producer::new(Config::new().with("bootstrap.servers", &address)?)?;
    let value = [b'v'; 1000];
    for i in 0..WRITTEN / 1000 {
        while let Err(error) = producer.send(NewRecord::to("big").value(&value)) {
            if error.code != ottla::ErrCode::QUEUE_FULL {
                return Err(error.into());
            }
            producer.poll(Duration::from_millis(10));
        }
        if i % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(WAIT)?;
    std::process::abort()
}

/// Milliseconds that the open took: the median, and the longest.
fn unclean_open(dir: &Path) -> Outcome<(f64, f64)> {
    let mut times = Vec::new();
    for round in 0..3 {
        let dir = dir.join(format!("unclean-{round}"));
        let died = Command::new(std::env::current_exe()?)
            .env(VICTIM, &dir)
            .status()?;
        if died.success() {
            return Err("the process that should die did not".into());
        }
        let address = format!("file://{}", dir.display());
        let (broker, time) = opened_in(&address)?;
        println!(
            "open of 1 GiB after a death        {:8.1} ms",
            time.as_secs_f64() * 1e3
        );
        times.push(time.as_secs_f64() * 1e3);
        drop(broker);
        std::fs::remove_dir_all(dir)?;
    }
    times.sort_by(f64::total_cmp);
    Ok((times[1], times[2]))
}

fn acknowledged_per_second(
    address: &str,
    topic: &str,
    producers: usize,
    partitions: usize,
) -> Outcome<f64> {
    let config = Config::new()
        .with("bootstrap.servers", address)?
        .with("linger.ms", "0")?;
    let done = AtomicU64::new(0);
    let start = Instant::now();
    let until = start + Duration::from_secs(3);
    std::thread::scope(|scope| {
        for number in 0..producers {
            let (config, done) = (config.clone(), &done);
            let partition = (number % partitions) as i32;
            scope.spawn(move || {
                let producer = Producer::new(config).expect("a producer");
                while Instant::now() < until {
                    producer
                        .send_and_wait(
                            NewRecord::to(topic)
                                .partition(partition)
                                .value(&[b'v'; 100]),
                            WAIT,
                        )
                        .expect("acknowledged");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    Ok(done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

/// Acknowledged per second, of one producer, of sixteen, and of sixteen on twelve partitions; and of one and sixteen threads with a plain
/// file.
fn shared_syncs(dir: &Path) -> Outcome<[f64; 5]> {
    let address = format!("file://{}", dir.join("shared").display());
    let _broker = Broker::open(&address)?;
    create(
        &Config::new().with("bootstrap.servers", &address)?,
        "twelve",
        12,
    )?;
    let one = acknowledged_per_second(&address, "one", 1, 1)?;
    let sixteen = acknowledged_per_second(&address, "sixteen", 16, 1)?;
    let twelve = acknowledged_per_second(&address, "twelve", 16, 12)?;
    println!("acknowledged, one producer         {one:8.0} /s");
    for (what, rate) in [
        ("sixteen producers    ", sixteen),
        ("16, twelve partitions", twelve),
    ] {
        let times = rate / one;
        println!("acknowledged, {what}{rate:8.0} /s, {times:.1} times");
    }
    let plain = dir.join("plain");
    let (plain_one, plain_sixteen) = (plain_per_second(&plain, 1)?, plain_per_second(&plain, 16)?);
    println!("durable, one thread, a file        {plain_one:8.0} /s");
    println!(
        "durable, sixteen threads, a file   {plain_sixteen:8.0} /s, {:.1} times",
        plain_sixteen / plain_one
    );
    Ok([one, sixteen, twelve, plain_one, plain_sixteen])
}

/// What a plain file has to say about it: threads append to it, and whoever finds no sync under way does one for all.
#[derive(Default)]
struct PlainFile {
    appended: u64,
    synced: u64,
    syncs: bool,
}

/// Appends per second of `writers` threads to one file, each durable before the next of its thread.
fn plain_per_second(path: &Path, writers: usize) -> Outcome<f64> {
    let file = std::fs::File::create(path)?;
    let (state, changed) = (Mutex::new(PlainFile::default()), Condvar::new());
    let done = AtomicU64::new(0);
    let start = Instant::now();
    let until = start + Duration::from_secs(3);
    let write = || -> std::io::Result<()> {
        while Instant::now() < until {
            let mut plain = state.lock().expect("nobody panics");
            (&file).write_all(&[b'v'; 170])?;
            plain.appended += 1;
            let mine = plain.appended;
            while plain.synced < mine {
                if plain.syncs {
                    plain = changed.wait(plain).expect("nobody panics");
                    continue;
                }
                plain.syncs = true;
                let all = plain.appended;
                drop(plain);
                file.sync_data()?;
                plain = state.lock().expect("nobody panics");
                (plain.synced, plain.syncs) = (all, false);
                changed.notify_all();
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    std::thread::scope(|scope| -> std::io::Result<()> {
        let writers: Vec<_> = (0..writers).map(|_| scope.spawn(write)).collect();
        let ended = writers.into_iter().map(|writer| writer.join());
        ended
            .into_iter()
            .try_for_each(|ended| ended.expect("no panic"))
    })?;
    Ok(done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

fn main() -> Outcome<()> {
    if let Some(dir) = std::env::var_os(VICTIM) {
        return victim(Path::new(&dir));
    }
    let dir = std::env::args_os().nth(1).map_or_else(
        || std::env::temp_dir().join(format!("ottla-durable-speed-{}", std::process::id())),
        PathBuf::from,
    );
    std::fs::create_dir_all(&dir)?;
    if std::env::var_os(FILLER).is_some() {
        return filler(&dir);
    }
    let result = measure(&dir);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure(dir: &Path) -> Outcome<()> {
    let (bytes, clean_ms, longest_clean_ms) = clean_open(dir)?;
    let (unclean_ms, longest_unclean_ms) = unclean_open(dir)?;
    let [one, sixteen, twelve, plain_one, plain_sixteen] = shared_syncs(dir)?;
    println!(
        "{{\"partitions\":{PARTITIONS},\"partition_bytes\":{bytes},\"clean_ms\":{clean_ms},\"longest_clean_ms\":{longest_clean_ms},\
         \"unclean_ms\":{unclean_ms},\"longest_unclean_ms\":{longest_unclean_ms},\"one_per_s\":{one},\"sixteen_per_s\":{sixteen},\"twelve_per_s\":{twelve},\
         \"plain_one_per_s\":{plain_one},\"plain_sixteen_per_s\":{plain_sixteen}}}"
    );
    Ok(())
}
