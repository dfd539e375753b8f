//! Speed through the façade: `cargo run --release -p ottla --example facade_speed [MILLIONS]`.

use ottla::{Config, Event, Handle, ProduceRecord, Role};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(60);

fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let own: f64 = text
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0.0);
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let all: f64 = tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<f64>().ok())
        .sum();
    all.max(own) / 1e9
}

fn handle(role: Role, servers: &str, more: &[(&str, &str)]) -> Handle {
    let mut config = Config::new().with("bootstrap.servers", servers).unwrap();
    for (name, value) in more {
        config.set(name, value).unwrap();
    }
    Handle::new(role, config).unwrap()
}

fn produce(producer: &Handle, count: usize) {
    let topic = producer.topic("t").unwrap();
    let value = [b'x'; 100];
    let record = ProduceRecord::new(topic, &value);
    let main = producer.main_queue();
    let mut delivered = 0;
    let mut count_reports = |event| {
        if let Event::Delivery(mut batch) = event {
            while batch.next().is_some() {
                delivered += 1;
            }
        }
    };
    for i in 0..count {
        while producer.produce(&record).is_err() {
            main.poll(Duration::from_millis(10))
                .into_iter()
                .for_each(&mut count_reports);
        }
        if i % 1024 == 0 {
            while let Some(event) = main.poll(Duration::ZERO) {
                count_reports(event);
            }
        }
    }
    producer.flush_serving(WAIT, &mut count_reports).unwrap();
    assert_eq!(delivered, count);
}

fn main() {
    let millions: usize = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(4);
    let count = millions * 1_000_000;
    let dir = std::env::temp_dir().join(format!("ottla-speed-{}", std::process::id()));
    let file = format!("file://{}?durability=os", dir.display());
    for (what, servers, more) in [
        ("memory:", "memory:a", &[][..]),
        (
            "memory:, idempotent",
            "memory:b",
            &[("enable.idempotence", "true")][..],
        ),
        ("file:, durability=os", &file, &[][..]),
    ] {
        let producer = handle(Role::Producer, servers, more);
        produce(&producer, 1000);
        let (start, used) = (Instant::now(), cpu());
        produce(&producer, count);
        let (time, used) = (start.elapsed().as_secs_f64(), cpu() - used);
        println!(
            "produce {what:22} {:6.2} M/s, {:6.2} M per CPU second",
            count as f64 / time / 1e6,
            count as f64 / used / 1e6
        );
        let consumer = handle(
            Role::Consumer,
            servers,
            &[
                ("group.id", "g"),
                ("auto.offset.reset", "earliest"),
                ("enable.auto.commit", "false"),
            ],
        );
        consumer.subscribe(&["t"]).unwrap();
        let (start, used) = (Instant::now(), cpu());
        let (mut seen, mut bytes) = (0, 0);
        let queue = consumer.consumer_queue();
        while seen < count {
            if let Some(Event::Fetched(mut batch)) = queue.poll(WAIT) {
                while let Some(record) = batch.next() {
                    bytes += record.unwrap().value.map_or(0, <[u8]>::len);
                    seen += 1;
                }
            }
        }
        assert!(bytes >= seen * 100 - 1000);
        let (time, used) = (start.elapsed().as_secs_f64(), cpu() - used);
        println!(
            "consume {what:22} {:6.2} M/s, {:6.2} M per CPU second",
            count as f64 / time / 1e6,
            count as f64 / used / 1e6
        );
    }
    let producer = handle(Role::Producer, "memory:c", &[("linger.ms", "0")]);
    let topic = producer.topic("t").unwrap();
    let main = producer.main_queue();
    let mut times: Vec<f64> = (0..20_000)
        .map(|_| {
            let start = Instant::now();
            producer
                .produce(&ProduceRecord::new(topic, b"0123456789"))
                .unwrap();
            while !matches!(main.poll(WAIT), Some(Event::Delivery(_))) {}
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "produce to report, idle        p50 {:.1} µs, p99 {:.1} µs",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
    let _ = std::fs::remove_dir_all(dir);
}
