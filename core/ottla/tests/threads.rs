//! What happens when nobody calls, and who is woken.

use ottla::{
    Config, CustomPartitioner, ErrCode, Event, Handle, ProduceRecord, Role, TopicPartition,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// Long enough for anything that ends at all, on a machine with other things to do.
const WAIT: Duration = Duration::from_secs(60);
/// Far less than that: what takes so long only came because somebody called.
const SOON: Duration = Duration::from_secs(30);

fn handle(role: Role, servers: &str, more: &[(&str, &str)]) -> Handle {
    let mut config = Config::new().with("bootstrap.servers", servers).unwrap();
    for (name, value) in more {
        config.set(name, value).unwrap();
    }
    Handle::new(role, config).unwrap()
}

/// A consumer of partition 0 of `t` from the beginning, past its first look for records.
fn reader(servers: &str) -> Handle {
    let reader = handle(
        Role::Consumer,
        servers,
        &[("allow.auto.create.topics", "true")],
    );
    reader
        .assign(&[TopicPartition::new("t", 0, ottla::offset::BEGINNING)])
        .unwrap();
    assert!(
        reader
            .consumer_queue()
            .poll(Duration::from_millis(200))
            .is_none()
    );
    reader
}

fn produce(producer: &Handle) {
    let topic = producer.topic("t").unwrap();
    producer.produce(&ProduceRecord::new(topic, b"v")).unwrap();
}

#[test]
fn what_lingers_is_sent_though_nobody_calls() {
    let servers = "memory:lingers";
    let producer = handle(Role::Producer, servers, &[("linger.ms", "30")]);
    let reader = reader(servers);
    for _ in 0..20 {
        produce(&producer);
        let start = Instant::now();
        let event = reader.consumer_queue().poll(WAIT);
        assert!(matches!(event, Some(Event::Fetched(_))), "{event:?}");
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    }
}

#[test]
fn hooks_are_called_though_nobody_polls() {
    let dir = tempfile::tempdir().unwrap();
    for servers in ["memory:hooks", &format!("file://{}", dir.path().display())] {
        let producer = handle(Role::Producer, servers, &[("linger.ms", "1")]);
        let reader = reader(servers);
        let (called, calls) = mpsc::channel();
        for (name, queue) in [
            ("report", producer.main_queue()),
            ("record", reader.consumer_queue()),
        ] {
            let called = called.clone();
            queue.set_hook(Some(Arc::new(move || {
                let _ = called.send(name);
            })));
        }
        produce(&producer);
        let mut names = [
            calls.recv_timeout(WAIT).unwrap(),
            calls.recv_timeout(WAIT).unwrap(),
        ];
        names.sort_unstable();
        assert_eq!(names, ["record", "report"]);
        assert!(matches!(
            producer.main_queue().poll(Duration::ZERO),
            Some(Event::Delivery(_))
        ));
        assert!(matches!(
            reader.consumer_queue().poll(Duration::ZERO),
            Some(Event::Fetched(_))
        ));
        producer.main_queue().wake();
        assert_eq!(calls.recv_timeout(WAIT).unwrap(), "report");
        producer.main_queue().set_hook(None);
        reader.consumer_queue().set_hook(None);
    }
}

#[test]
fn a_thread_in_poll_gets_records_and_wakeups_at_once() {
    let servers = "memory:in-poll";
    let producer = handle(Role::Producer, servers, &[("linger.ms", "0")]);
    let reader = reader(servers);
    let queue = reader.consumer_queue();
    let (tell, seen) = mpsc::channel();
    let poller = thread::spawn(move || {
        loop {
            match queue.poll(WAIT) {
                Some(Event::Fetched(mut batch)) => {
                    while batch.next().is_some() {
                        tell.send(Instant::now()).unwrap();
                    }
                }
                Some(Event::Wakeup) => return,
                other => panic!("{other:?}"),
            }
        }
    });
    let mut rounds = Vec::new();
    // Whatever else the machine does: once in ten times it lets most of them through.
    let are_at_once = (0..10).any(|_| {
        let mut latencies: Vec<Duration> = (0..50)
            .map(|_| {
                thread::sleep(Duration::from_millis(2));
                let sent = Instant::now();
                produce(&producer);
                seen.recv_timeout(WAIT).unwrap() - sent
            })
            .collect();
        latencies.sort_unstable();
        rounds.push(latencies[25]);
        latencies[25] < Duration::from_millis(20)
    });
    reader.consumer_queue().wake();
    poller.join().unwrap();
    assert!(are_at_once, "the medians of rounds: {rounds:?}");
}

#[test]
fn a_call_that_waits_can_be_interrupted() {
    let consumer = handle(Role::Consumer, "memory:interrupted", &[("group.id", "g")]);
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = asked.clone();
    consumer.set_interrupt_check(Some(Arc::new(move || counting.fetch_add(1, SeqCst) >= 2)));
    let start = Instant::now();
    assert!(consumer.consumer_queue().poll(Duration::MAX).is_none());
    assert!(start.elapsed() < WAIT, "{:?}", start.elapsed());
    assert!(asked.load(SeqCst) >= 3);
}

#[test]
fn acknowledged_on_disk_from_several_threads() {
    let dir = tempfile::tempdir().unwrap();
    let servers = format!("file://{}", dir.path().display());
    let producer = handle(Role::Producer, &servers, &[("linger.ms", "0")]);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let producer = producer.clone();
            thread::spawn(move || (0..50).for_each(|_| produce(&producer)))
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let mut delivered = 0;
    producer
        .flush_serving(WAIT, &mut |event| {
            if let Event::Delivery(batch) = event {
                assert_eq!(batch.code(), ErrCode::NO_ERROR);
                delivered += batch.len();
            }
        })
        .unwrap();
    assert_eq!((delivered, producer.outq_len()), (200, 0));
    assert_eq!(
        producer.query_watermark_offsets("t", 0, WAIT).unwrap(),
        (0, 200)
    );
}

#[test]
fn flush_waits_for_the_thread_that_polls() {
    // Longer than anybody here waits.
    let producer = handle(Role::Producer, "memory:flush", &[("linger.ms", "200000")]);
    let queue = producer.main_queue();
    let poller = thread::spawn(move || matches!(queue.poll(WAIT), Some(Event::Delivery(_))));
    produce(&producer);
    producer.flush(WAIT).expect("flushing doesn't linger");
    assert!(poller.join().unwrap());
    produce(&producer);
    assert_eq!(
        producer.flush(Duration::from_millis(20)).unwrap_err().code,
        ErrCode::TIMED_OUT
    );
}

struct Panics;

impl CustomPartitioner for Panics {
    fn partition(&self, _: &str, _: Option<&[u8]>, _: i32, _: usize) -> i32 {
        panic!("on purpose")
    }
}

#[test]
fn a_panic_inside_is_a_fatal_error() {
    let mut config = Config::new()
        .with("bootstrap.servers", "memory:panics")
        .unwrap();
    config.topic_mut().set_partitioner(Some(Arc::new(Panics)));
    let producer = Handle::new(Role::Producer, config).unwrap();
    let topic = producer.topic("t").unwrap();
    let until = Instant::now() + WAIT;
    let error = loop {
        thread::sleep(Duration::from_millis(2));
        match producer.produce(&ProduceRecord::new(topic, b"v").key(b"k")) {
            Ok(_) => assert!(Instant::now() < until, "it fails"),
            Err(error) => break error,
        }
    };
    assert!(error.fatal, "{error:?}");
    assert!(producer.fatal_error().is_some());
    assert!(producer.flush(WAIT).unwrap_err().fatal);
    // Others are not concerned.
    let other = handle(Role::Producer, "memory:panics", &[]);
    produce(&other);
    other.flush_serving(WAIT, &mut drop).unwrap();
}
