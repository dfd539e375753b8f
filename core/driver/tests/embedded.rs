//! Handles on embedded brokers: records go through, in memory and on a directory, and survive a restart there.

use ottla_broker::BrokerConfig;
use ottla_client::{
    BootstrapServer, Client, ClientConfig, Event, OffsetReset, Role, Route,
    consumer::{Consumed, PartitionOffset},
    producer::{ProduceRecord, Side},
};
use ottla_driver::{EmbeddedBroker, EventSink, Handle, Place, now};
use ottla_protocol::{
    Request,
    messages::alter_client_quotas::{
        AlterClientQuotasRequest, OpData, RequestEntityData, RequestEntryData,
    },
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// Long enough for anything that ends at all, on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Events(Mutex<Vec<Event>>);

impl EventSink for Events {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
    fn consumable(&self) {}
}

fn config(role: Role) -> ClientConfig {
    ClientConfig {
        role,
        bootstrap_servers: vec![BootstrapServer {
            host: "localhost".into(),
            port: 9092,
        }],
        auto_offset_reset: OffsetReset::Earliest,
        ..ClientConfig::default()
    }
}

fn open(place: &Place, config: ClientConfig) -> (Handle, Arc<Events>) {
    let events = Arc::new(Events::default());
    let broker = EmbeddedBroker::open(place, BrokerConfig::default()).unwrap();
    (Handle::new(config, broker, events.clone()).unwrap(), events)
}

/// Waits until `take` gives something, driving the handle.
fn until<T>(handle: &Handle, mut take: impl FnMut(&mut Client) -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        let seen = handle.signal_count();
        if let Some(found) = handle.with(|client, _| take(client)).unwrap() {
            return found;
        }
        assert!(Instant::now() < end, "nothing came for {PATIENCE:?}");
        handle.wait(seen, now().mono_us + 100_000);
    }
}

fn produce(handle: &Handle, events: &Events, texts: &[&str]) {
    let topic = handle
        .with(|client, now| client.intern_topic(now, "t", None, None))
        .unwrap()
        .unwrap();
    for text in texts {
        let record = ProduceRecord {
            topic,
            partition: -1,
            timestamp: 0,
            key: Some(b"key"),
            value: Some(text.as_bytes()),
            headers: &[],
            side: Side::default(),
        };
        handle
            .with_quickly(|client, now| Ok((client.produce(now, &record)?, ())))
            .unwrap();
    }
    handle
        .with(|client, now| client.set_flushing(now, true))
        .unwrap();
    until(handle, |client| {
        events.0.lock().unwrap().retain(|event| {
            if let Event::Delivery(batch) = event {
                assert_eq!(batch.error, None);
                client.delivery_taken(batch.len(), batch.bytes());
            }
            matches!(event, Event::Throttled(_))
        });
        (client.queue_len() == 0).then_some(())
    });
}

/// Lets clients with this id produce (or fetch: `key` says it) so many bytes a second.
fn limit(handle: &Handle, client_id: &str, key: &str, bytes_per_second: f64) {
    let request = AlterClientQuotasRequest {
        entries: vec![RequestEntryData {
            entity: vec![RequestEntityData {
                entity_type: "client-id".into(),
                entity_name: Some(client_id.into()),
            }],
            ops: vec![OpData {
                key: key.into(),
                value: bytes_per_second,
                remove: false,
            }],
        }],
        validate_only: false,
    };
    let request = Request::AlterClientQuotas(request);
    handle
        .with(|client, now| client.request(now, Route::Any, request, 0))
        .unwrap();
}

fn throttled(events: &Events) -> Vec<u32> {
    let mut told = Vec::new();
    for event in events.0.lock().unwrap().iter() {
        if let Event::Throttled(throttled) = event {
            told.push(throttled.throttle_ms);
        }
    }
    told
}

fn limited(place: &str, acks: i16) -> (Handle, Arc<Events>) {
    let mut config = config(Role::Producer);
    config.client_id = "limited".into();
    config.topic.acks = acks;
    let mut of_broker = BrokerConfig::default();
    of_broker.quota_windows.num = 2;
    let broker = EmbeddedBroker::open(&Place::Memory(place.into()), of_broker).unwrap();
    let events = Arc::new(Events::default());
    let handle = Handle::new(config, broker, events.clone()).unwrap();
    limit(&handle, "limited", "producer_byte_rate", 10_000.0);
    (handle, events)
}

#[test]
fn a_producer_beyond_its_quota_is_held_up() {
    // Whatever else the machine does: once in ten times it lets the answer through before the wait is over.
    let found = (0..10).find_map(|attempt| {
        let (producer, events) = limited(&format!("held-up-{attempt}"), -1);
        // What one window of a second may have, and half as much again: half a second or so to wait.
        let started = Instant::now();
        produce(&producer, &events, &["x".repeat(15_000).as_str()]);
        (started.elapsed() < Duration::from_millis(400)).then_some((producer, events, started))
    });
    let (producer, events, started) = found.expect("the answer itself doesn't wait");
    let told = until(&producer, |_| throttled(&events).first().copied());
    assert!((400..1000).contains(&told), "{told}");
    // What has been used is forgotten a second at a time: it may say so again.
    while throttled(&events).last() != Some(&0) {
        produce(&producer, &events, &["y"]);
    }
    let told: u32 = throttled(&events).iter().sum();
    let waited = started.elapsed();
    assert!(
        waited >= Duration::from_millis(told.into()),
        "{waited:?} of {told} ms"
    );
}

#[test]
fn a_consumer_beyond_its_quota_waits_and_does_not_ask_meanwhile() {
    // Whatever else the machine does: once in ten times it lets the answers come soon after each other.
    let is_held_up = (0..10).any(|attempt| {
        let place = Place::Memory(format!("held-up-consumer-{attempt}"));
        let (producer, events) = open(&place, config(Role::Producer));
        for _ in 0..3 {
            produce(&producer, &events, &["x".repeat(70_000).as_str()]);
        }
        let mut of_consumer = config(Role::Consumer);
        of_consumer.client_id = "slow".into();
        of_consumer.fetch_message_max_bytes = 70_000;
        let (consumer, told) = open(&place, of_consumer);
        limit(&producer, "slow", "consumer_byte_rate", 19_300.0);
        let started = Instant::now();
        consumer
            .with(|client, now| client.assign(now, &[PartitionOffset::new("t", 0, -2)]))
            .unwrap()
            .unwrap();
        let offsets: Vec<_> = consume(&consumer, 3).iter().map(|(at, _)| *at).collect();
        assert_eq!(offsets, [0, 1, 2]);
        // Ten seconds' worth of 193,000 bytes, and 17,000 more: nine tenths of a second, less what the answers were apart.
        let waits: u32 = throttled(&told).iter().sum();
        let took = started.elapsed();
        assert!(waits < 1500, "{:?}", throttled(&told));
        assert!(took >= Duration::from_millis(waits.into()));
        let (asked, _) = consumer.with(|client, _| client.traffic()).unwrap();
        assert!(asked < 30, "{asked} requests");
        waits >= 300
    });
    assert!(is_held_up);
}

#[test]
fn a_producer_without_answers_is_held_up_and_loses_nothing() {
    const HELD_UP: Duration = Duration::from_millis(400);
    // Whatever else the machine does: once in ten times it lets the first one be read before the wait is over.
    let is_held_up = (0..10).any(|attempt| {
        let place = format!("held-up-acks-0-{attempt}");
        let (producer, events) = limited(&place, 0);
        let (other, _) = open(&Place::Memory(place), config(Role::Consumer));
        let started = Instant::now();
        for text in ["x".repeat(15_000).as_str(), "y", "z"] {
            produce(&producer, &events, &[text]);
        }
        other
            .with(|client, now| client.assign(now, &[PartitionOffset::new("t", 0, -2)]))
            .unwrap()
            .unwrap();
        let mut found = consume(&other, 1);
        let wait = Instant::now() + Duration::from_millis(100);
        while Instant::now() < wait && started.elapsed() < HELD_UP {
            let next = other.with(|client, now| client.poll_consumed(now)).unwrap();
            if let Some(next) = next {
                assert!(started.elapsed() >= HELD_UP, "{next:?}");
                return false;
            }
        }
        let is_in_time = started.elapsed() < HELD_UP;
        drop(producer);
        found.extend(consume(&other, 2));
        let offsets: Vec<_> = found.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, [0, 1, 2]);
        is_in_time
    });
    assert!(is_held_up);
}

fn consume(handle: &Handle, count: usize) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    while found.len() < count {
        let consumed = until(handle, |client| client.poll_consumed(now()));
        let Consumed::Records(mut records) = consumed else {
            panic!("{consumed:?}")
        };
        while let Some(record) = records.next_record() {
            let record = record.unwrap();
            found.push((
                record.offset,
                String::from_utf8(record.value.unwrap().to_vec()).unwrap(),
            ));
        }
    }
    found
}

fn through(place: &Place) {
    let (producer, events) = open(place, config(Role::Producer));
    produce(&producer, &events, &["a", "b", "c"]);
    // A fetch of it that nobody wakes waits for longer than anybody here.
    let patient = ClientConfig {
        fetch_wait_max_ms: 2 * PATIENCE.as_millis() as u32,
        ..config(Role::Consumer)
    };
    let (consumer, _) = open(place, patient);
    assign(&consumer);
    assert_eq!(
        consume(&consumer, 3),
        [(0, "a".into()), (1, "b".into()), (2, "c".into())]
    );
    // A consumer that waits is woken by an append.
    let waiting = consumer.clone();
    let thread = std::thread::spawn(move || consume(&waiting, 1));
    let broker = EmbeddedBroker::open(place, BrokerConfig::default()).unwrap();
    wait_until("it waits", || broker.metrics().waiting_fetches == 1);
    produce(&producer, &events, &["d"]);
    assert_eq!(thread.join().unwrap(), [(3, "d".into())]);
}

/// Reads all of partition 0.
fn assign(consumer: &Handle) {
    let from = [PartitionOffset::new("t", 0, -2)];
    consumer
        .with(|client, now| client.assign(now, &from))
        .unwrap()
        .unwrap();
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The only member of a group reads so many records, and does not wait for company.
fn join_and_consume(place: &Place, count: usize) {
    let mut times = Vec::new();
    // Whatever else the machine does: once in ten times it lets a member through.
    let takes_no_time = (0..10).any(|attempt| {
        let config = ClientConfig {
            group_id: Some(format!("g{attempt}").into()),
            ..config(Role::Consumer)
        };
        let (consumer, _) = open(place, config);
        let start = Instant::now();
        consumer
            .with(|client, now| client.subscribe(now, &["t".into()]))
            .unwrap()
            .unwrap();
        assert_eq!(consume(&consumer, count).len(), count);
        times.push(start.elapsed());
        // What it could wait for is Kafka's delay of the first rebalance, or a heartbeat: both are three seconds.
        start.elapsed() < Duration::from_millis(2500)
    });
    assert!(
        takes_no_time,
        "joining an empty group takes no time: {times:?}"
    );
}

#[test]
fn memory() {
    through(&Place::Memory("memory".into()));
}

#[test]
fn directory_and_restart() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::Directory(dir.path().join("data"));
    through(&place);
    join_and_consume(&place, 4);
}

#[test]
fn a_directory_is_compacted_in_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::Directory(dir.path().to_path_buf());
    let mut of_broker = BrokerConfig::default();
    of_broker.cleaner.backoff_ms = 20;
    of_broker.topic_defaults.cleanup_compact = true;
    of_broker.topic_defaults.cleanup_delete = false;
    of_broker.topic_defaults.segment_bytes = 1000;
    let broker = EmbeddedBroker::open(&place, of_broker).unwrap();
    let (producer, events) = open(&place, config(Role::Producer));
    for i in 0..40 {
        produce(&producer, &events, &[&format!("value {i}")]);
    }
    let checkpoint = dir.path().join("cleaner-offset-checkpoint");
    wait_until("something is compacted", || {
        std::fs::read_to_string(&checkpoint).is_ok_and(|text| text.contains("t 0 "))
    });
    let newest = |place: &Place| {
        let (consumer, _) = open(place, config(Role::Consumer));
        assign(&consumer);
        let mut found = Vec::new();
        while found.last().is_none_or(|(offset, _)| *offset < 39) {
            found.extend(consume(&consumer, 1));
        }
        found
    };
    let found = newest(&place);
    assert!(found.len() < 30, "{found:?}");
    assert_eq!(found.last(), Some(&(39, "value 39".into())));
    drop((producer, broker));
    let again = newest(&place);
    assert!(again.len() <= found.len());
    assert_eq!(again.last(), found.last());
}

#[test]
fn a_memory_broker_is_gone_with_its_last_handle() {
    let place = Place::Memory("gone".into());
    let (producer, events) = open(&place, config(Role::Producer));
    produce(&producer, &events, &["a"]);
    let partitions = || {
        let broker = EmbeddedBroker::open(&place, BrokerConfig::default()).unwrap();
        broker.metrics().partitions.len()
    };
    assert_eq!(partitions(), 1, "another handle of the same one");
    drop((producer, events));
    assert_eq!(partitions(), 0);
}

#[test]
fn a_group_in_memory() {
    let place = Place::Memory("group".into());
    let (producer, events) = open(&place, config(Role::Producer));
    produce(&producer, &events, &["a"]);
    join_and_consume(&place, 1);
}

/// Large appends are done without the broker's lock. Whatever happens meanwhile: each producer's records are all there, in its order.
#[test]
fn producers_append_beside_each_other() {
    const EACH: usize = 400;
    let of_broker = BrokerConfig {
        num_partitions: 3,
        ..BrokerConfig::default()
    };
    let dir = tempfile::tempdir().unwrap();
    for place in [
        Place::Memory("beside".into()),
        Place::Directory(dir.path().to_path_buf()),
    ] {
        let broker = EmbeddedBroker::open(&place, of_broker.clone()).unwrap();
        let (consumer, _) = open(&place, config(Role::Consumer));
        let producers: Vec<_> = (0..4)
            .map(|_| open(&place, config(Role::Producer)))
            .collect();
        // The topic is there before anybody assigns its partitions.
        produce(&producers[0].0, &producers[0].1, &["first"]);
        let all: Vec<_> = (0..3).map(|p| PartitionOffset::new("t", p, -2)).collect();
        consumer
            .with(|client, now| client.assign(now, &all))
            .unwrap()
            .unwrap();
        let found = std::thread::scope(|scope| {
            for (number, (handle, events)) in producers.iter().enumerate() {
                scope.spawn(move || {
                    let partition = number as i32 % 3;
                    let topic = handle
                        .with(|client, now| client.intern_topic(now, "t", None, None))
                        .unwrap()
                        .unwrap();
                    for i in 0..EACH {
                        // Small ones among them: those are handled under the lock.
                        let padding = if i % 7 == 0 { 10 } else { 3000 };
                        let text = format!("{number} {i} {}", "x".repeat(padding));
                        let record = ProduceRecord {
                            topic,
                            partition,
                            timestamp: 0,
                            key: None,
                            value: Some(text.as_bytes()),
                            headers: &[],
                            side: Side::default(),
                        };
                        handle
                            .with(|client, now| client.produce(now, &record))
                            .unwrap()
                            .unwrap();
                    }
                    let flushing = handle.with(|client, now| client.set_flushing(now, true));
                    flushing.unwrap();
                    until(handle, |client| {
                        for event in events.0.lock().unwrap().drain(..) {
                            if let Event::Delivery(batch) = event {
                                assert_eq!(batch.error, None);
                                client.delivery_taken(batch.len(), batch.bytes());
                            }
                        }
                        (client.queue_len() == 0).then_some(())
                    });
                });
            }
            // Others ask for other things all the time.
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(broker.metrics().partitions.len(), 3);
                    std::thread::yield_now();
                }
            });
            consume(&consumer, 4 * EACH + 1)
        });
        let mut next = [0; 4];
        for (_, text) in &found {
            let mut words = text.split(' ');
            let (number, i) = (words.next().unwrap(), words.next());
            let Some(i) = i else {
                assert_eq!(number, "first");
                continue;
            };
            let next = &mut next[number.parse::<usize>().unwrap()];
            assert_eq!(i.parse(), Ok(*next), "of producer {number}");
            *next += 1;
        }
        assert_eq!(next, [EACH; 4]);
    }
}
