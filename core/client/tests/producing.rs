//! What a producer does, seen from outside: order, duplicates, timeouts, limits, purges, topics that come and go.

mod rig;

use ottla_client::producer::partitioner::PartitionerKind;
use ottla_client::producer::{Header, NO_OFFSET, Persistence, ProduceRecord, Side};
use ottla_client::{Client, ClientConfig, ErrCode, Event, TopicConfig};
use ottla_protocol::{ApiKey, ErrorCode};
use ottla_record::Compression;
use rig::{Fault, Rig};

fn plain(_: &mut ClientConfig) {}

fn idempotent(config: &mut ClientConfig) {
    config.enable_idempotence = true;
}

/// Sends every record in a batch of its own.
fn one_by_one(config: &mut ClientConfig) {
    config.batch_num_messages = 1;
}

#[test]
fn a_record_and_its_report() {
    let (mut rig, topic) = Rig::ready(plain);
    let headers = [Header::new("h", Some(b"1")), Header::new("null", None)];
    let record = ProduceRecord {
        partition: 1,
        key: Some(b"k"),
        timestamp: 42,
        headers: &headers,
        side: Side {
            opaque: 7,
            payload_addr: 9,
        },
        ..ProduceRecord::new(topic, b"v")
    };
    assert!(!rig.client.produce(rig.now, &record).unwrap());
    assert_eq!(rig.client.queue_len(), 1);
    rig.lazy = true;
    rig.run(5);
    let Some(Event::Delivery(batch)) = rig.client.poll_event() else {
        panic!("no report")
    };
    assert_eq!((&*batch.topic, batch.partition, batch.len()), ("t", 1, 1));
    assert_eq!(
        (batch.status, batch.code()),
        (Persistence::Persisted, ErrCode::NO_ERROR)
    );
    let mut deliveries = batch.deliveries();
    let delivery = deliveries.next(&batch).unwrap();
    assert_eq!(
        (delivery.offset, delivery.timestamp, delivery.latency_us),
        (0, 42, 5000)
    );
    assert_eq!(
        (delivery.key, delivery.value),
        (Some(&b"k"[..]), Some(&b"v"[..]))
    );
    assert!(delivery.headers.eq(headers));
    assert_eq!(
        delivery.side,
        Side {
            opaque: 7,
            payload_addr: 9
        }
    );
    assert!(deliveries.next(&batch).is_none());
    assert_eq!(
        rig.client.queue_len(),
        1,
        "it counts until its report is taken"
    );
    rig.client.delivery_taken(batch.len(), batch.bytes());
    assert_eq!((rig.client.queue_len(), rig.client.queue_bytes()), (0, 0));
    assert_eq!(rig.log("t", 1), ["v"]);
}

#[test]
fn nulls_and_empty_values_are_not_the_same() {
    let (mut rig, topic) = Rig::ready(plain);
    for value in [None, Some(&b""[..])] {
        let record = ProduceRecord {
            partition: 0,
            key: Some(b"k"),
            value,
            ..ProduceRecord::new(topic, b"")
        };
        rig.client.produce(rig.now, &record).unwrap();
    }
    rig.lazy = true;
    rig.run(5);
    let Some(Event::Delivery(batch)) = rig.client.poll_event() else {
        panic!("no report")
    };
    let mut deliveries = batch.deliveries();
    assert_eq!(deliveries.next(&batch).unwrap().value, None);
    assert_eq!(deliveries.next(&batch).unwrap().value, Some(&b""[..]));
}

#[test]
fn batches_linger_until_they_are_full_or_flushed() {
    let (mut rig, topic) = Rig::ready(|c| c.batch_num_messages = 3);
    for value in [b"a", b"b", b"c", b"d"] {
        rig.produce(topic, 0, value).unwrap();
    }
    rig.pump();
    assert_eq!(
        rig.log("t", 0),
        ["a", "b", "c"],
        "a full batch leaves from produce()"
    );
    rig.run(4);
    assert_eq!(rig.log("t", 0).len(), 3);
    rig.run(1);
    assert_eq!(rig.log("t", 0).len(), 4);
    rig.produce(topic, 0, b"e").unwrap();
    rig.client.set_flushing(rig.now, true);
    rig.pump();
    assert_eq!(rig.log("t", 0).len(), 5);
    rig.produce(topic, 0, b"f").unwrap();
    rig.run(0);
    assert_eq!(
        rig.log("t", 0).len(),
        6,
        "nor does what comes while flushing linger"
    );
}

#[test]
fn without_linger_a_record_is_sent_at_once() {
    let (mut rig, topic) = Rig::ready(|c| c.linger_us = 0);
    rig.produce(topic, 0, b"a").unwrap();
    rig.pump();
    assert_eq!(rig.log("t", 0), ["a"]);
    // While the broker is busy, what comes is collected.
    rig.faults.push_back(Fault::Hold);
    for value in [b"b", b"c", b"d"] {
        rig.produce(topic, 0, value).unwrap();
        rig.pump();
    }
    assert_eq!(rig.held.len(), 1);
    rig.run(0);
    rig.release(None);
    rig.run(0);
    assert_eq!(
        rig.log("t", 0),
        ["a", "c", "d", "b"],
        "no order is promised with more than one in flight"
    );
    assert_eq!(rig.count(ApiKey::Produce), 3);
}

#[test]
fn batch_size_is_a_limit() {
    let (mut rig, topic) = Rig::ready(|c| c.batch_size = 1000);
    for _ in 0..10 {
        rig.produce(topic, 0, &[b'x'; 400]).unwrap();
    }
    rig.flush();
    assert_eq!(rig.log("t", 0).len(), 10);
    let log = &rig.logs[&("t".into(), 0)];
    assert!(log.headers.iter().all(|header| header.record_count == 2));
}

#[test]
fn every_compression() {
    for compression in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let (mut rig, topic) = Rig::ready(|c| c.compression = compression);
        for _ in 0..100 {
            rig.produce(topic, 0, &[b'x'; 100]).unwrap();
        }
        rig.flush();
        assert_eq!((rig.log("t", 0).len(), rig.reports.len()), (100, 100));
        let header = rig.logs[&("t".into(), 0)].headers[0];
        assert_eq!(header.attributes.compression(), Ok(compression));
        assert!(rig.reports.iter().all(|report| report.value == [b'x'; 100]));
    }
}

#[test]
fn several_partitions_share_a_request() {
    let (mut rig, topic) = Rig::ready(plain);
    let before = rig.count(ApiKey::Produce);
    for partition in [0, 1, 0, 1] {
        rig.produce(topic, partition, b"v").unwrap();
    }
    rig.run(5);
    assert_eq!(rig.count(ApiKey::Produce), before + 1);
    assert_eq!((rig.log("t", 0).len(), rig.log("t", 1).len()), (2, 2));
    assert_eq!(rig.reports.len(), 4);
}

#[test]
fn old_brokers_are_spoken_to_by_name() {
    for version in [3, 9, 12, 13] {
        let mut rig = Rig::new(plain);
        rig.newest.insert(ApiKey::Produce, version);
        let topic = rig.topic("t");
        rig.run(0);
        rig.produce(topic, 0, b"v").unwrap();
        rig.flush();
        assert_eq!(rig.reports[0].code, ErrCode::NO_ERROR);
        assert!(rig.requests.contains(&(ApiKey::Produce, version)));
    }
}

#[test]
fn the_queue_is_full() {
    let (mut rig, topic) = Rig::ready(|c| {
        c.queue_buffering_max_messages = 3;
        c.queue_buffering_max_kbytes = 1;
    });
    rig.lazy = true;
    for value in [b"a", b"b", b"c"] {
        rig.produce(topic, 0, value).unwrap();
    }
    assert_eq!(rig.produce(topic, 0, b"d"), Err(ErrCode::QUEUE_FULL));
    rig.run(10);
    assert_eq!(
        rig.produce(topic, 0, b"d"),
        Err(ErrCode::QUEUE_FULL),
        "reports that nobody took count"
    );
    let Some(Event::Delivery(batch)) = rig.client.poll_event() else {
        panic!("no report")
    };
    rig.client.delivery_taken(batch.len(), batch.bytes());
    rig.produce(topic, 0, b"d").unwrap();
    assert_eq!(
        rig.produce(topic, 0, &[0; 1024]),
        Err(ErrCode::QUEUE_FULL),
        "bytes count, too"
    );
    rig.client.purge(rig.now, true, true);
    rig.lazy = false;
    rig.pump();
    assert_eq!((rig.client.queue_len(), rig.client.queue_bytes()), (0, 0));
    rig.produce(topic, 0, &[0; 1024]).unwrap();
}

#[test]
fn what_cannot_be_produced() {
    let (mut rig, topic) = Rig::ready(|c| c.message_max_bytes = 1000);
    assert_eq!(
        rig.produce(topic, 0, &[0; 1000]),
        Err(ErrCode::MSG_SIZE_TOO_LARGE)
    );
    assert_eq!(rig.produce(topic, 2, b"v"), Err(ErrCode::UNKNOWN_PARTITION));
    assert_eq!(
        rig.produce(topic, -2, b"v"),
        Err(ErrCode::UNKNOWN_PARTITION)
    );
    assert_eq!(rig.produce(99, 0, b"v"), Err(ErrCode::INVALID_ARG));
    for name in ["", ".", "..", "a/b", &"x".repeat(250)] {
        let error = rig
            .client
            .intern_topic(rig.now, name, None, None)
            .unwrap_err();
        assert_eq!(error.code, ErrCode::INVALID_ARG);
    }
    assert_eq!(rig.client.queue_len(), 0);
    let config = ClientConfig {
        transactional_id: Some("t".into()),
        ..rig.client.config().clone()
    };
    let error = Client::new(config, rig.now, 1).err().unwrap();
    assert_eq!(error.code, ErrCode::UNSUPPORTED_FEATURE);
}

#[test]
fn messages_time_out() {
    let (mut rig, topic) = Rig::ready(|c| c.topic.message_timeout_ms = 1000);
    rig.stop(1);
    rig.produce(topic, 0, b"never sent").unwrap();
    rig.run(900);
    assert!(rig.reports.is_empty());
    rig.run(300);
    assert_eq!(
        rig.outcomes(),
        [("never sent".into(), ErrCode::MSG_TIMED_OUT)]
    );
    assert_eq!(rig.reports[0].status, Persistence::NotPersisted);
    assert_eq!(
        (rig.reports[0].offset, rig.client.queue_len()),
        (NO_OFFSET, 0)
    );
    assert!(
        rig.errors
            .iter()
            .any(|error| error.code == ErrCode::ALL_BROKERS_DOWN)
    );

    rig.nodes.insert(1);
    rig.run(10_000);
    rig.reports.clear();
    rig.faults.extend([Fault::Swallow; 100]);
    rig.produce(topic, 0, b"no answer").unwrap();
    rig.run(2_000);
    assert_eq!(
        rig.outcomes(),
        [("no answer".into(), ErrCode::MSG_TIMED_OUT)]
    );
    assert_eq!(rig.reports[0].status, Persistence::PossiblyPersisted);
}

#[test]
fn messages_without_a_broker_time_out_each_in_its_time() {
    let mut rig = Rig::new(|c| c.topic.message_timeout_ms = 4000);
    rig.nodes.clear();
    let topic = rig.topic("t");
    for n in 0..8u8 {
        rig.produce(topic, -1, &[b'0' + n]).unwrap();
        rig.run(1000);
    }
    // Half a second of grace: so far apart may the records of one batch be.
    assert!((4..=5).contains(&rig.reports.len()), "{:?}", rig.outcomes());
    assert!(
        rig.reports
            .iter()
            .all(|r| r.latency_us >= 4_000_000 && r.latency_us <= 5_500_000)
    );
    rig.run(5000);
    assert_eq!(rig.reports.len(), 8);
}

#[test]
fn retries_are_limited_and_permanent_errors_are_final() {
    let (mut rig, topic) = Rig::ready(|c| c.retries = 2);
    let busy = Fault::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS);
    rig.faults.extend([
        busy,
        busy,
        busy,
        Fault::Refuse(ErrorCode::MESSAGE_TOO_LARGE),
    ]);
    rig.produce(topic, 0, b"a").unwrap();
    rig.run(5000);
    assert_eq!(rig.outcomes(), [("a".into(), ErrCode::NOT_ENOUGH_REPLICAS)]);
    assert_eq!(rig.count(ApiKey::Produce), 3);
    rig.produce(topic, 0, b"b").unwrap();
    rig.run(5000);
    assert_eq!(rig.outcomes()[1], ("b".into(), ErrCode::MSG_SIZE_TOO_LARGE));
    assert_eq!(rig.reports[1].status, Persistence::NotPersisted);
}

#[test]
fn without_acks_nothing_is_waited_for() {
    let (mut rig, _) = Rig::ready(plain);
    let topic = rig.topic_with(
        "u",
        TopicConfig {
            acks: 0,
            ..TopicConfig::default()
        },
    );
    rig.topics.insert("u".into(), vec![1]);
    rig.run(200);
    rig.produce(topic, 0, b"v").unwrap();
    rig.run(5);
    assert_eq!(rig.outcomes(), [("v".into(), ErrCode::NO_ERROR)]);
    assert_eq!(
        (rig.reports[0].offset, rig.reports[0].status),
        (NO_OFFSET, Persistence::PossiblyPersisted)
    );
    assert_eq!(rig.log("u", 0), ["v"]);
}

#[test]
fn only_errors_are_reported_if_so_wished() {
    let (mut rig, topic) = Rig::ready(|c| c.delivery_report_only_error = true);
    rig.produce(topic, 0, b"a").unwrap();
    rig.run(5);
    assert!(rig.reports.is_empty());
    assert_eq!(rig.client.queue_len(), 0);
    rig.faults
        .push_back(Fault::Refuse(ErrorCode::MESSAGE_TOO_LARGE));
    rig.produce(topic, 0, b"b").unwrap();
    rig.run(5);
    assert_eq!(rig.outcomes(), [("b".into(), ErrCode::MSG_SIZE_TOO_LARGE)]);
}

#[test]
fn purges() {
    let (mut rig, topic) = Rig::ready(one_by_one);
    rig.faults.push_back(Fault::Hold);
    rig.produce(topic, 0, b"in flight").unwrap();
    rig.pump();
    rig.client.purge(rig.now, true, false);
    rig.pump();
    assert!(rig.reports.is_empty());
    let unknown = rig.topic("later");
    rig.produce(unknown, 5, b"staged").unwrap();
    rig.stop(9);
    rig.client.purge(rig.now, true, false);
    rig.pump();
    assert_eq!(rig.outcomes(), [("staged".into(), ErrCode::PURGE_QUEUE)]);
    assert_eq!(
        (rig.reports[0].partition, rig.reports[0].status),
        (5, Persistence::NotPersisted)
    );
    rig.client.purge(rig.now, false, true);
    rig.pump();
    assert_eq!(
        rig.outcomes()[1],
        ("in flight".into(), ErrCode::PURGE_INFLIGHT)
    );
    assert_eq!(rig.reports[1].status, Persistence::PossiblyPersisted);
    assert_eq!(rig.client.queue_len(), 0);
    rig.release(None);
    rig.run(1000);
    assert_eq!(rig.reports.len(), 2, "the late answer changes nothing");
}

#[test]
fn unknown_topics_wait_and_then_fail() {
    let (mut rig, _) = Rig::ready(plain);
    let topic = rig.topic("later");
    for (partition, value) in [(-1, b"a"), (1, b"b"), (7, b"c")] {
        rig.produce(topic, partition, value).unwrap();
    }
    rig.run(10_000);
    assert!(rig.reports.is_empty());
    rig.topics.insert("later".into(), vec![1, 1, 1]);
    rig.run(2_000);
    let mut outcomes = rig.outcomes();
    outcomes.sort();
    assert_eq!(
        outcomes,
        [
            ("a".into(), ErrCode::NO_ERROR),
            ("b".into(), ErrCode::NO_ERROR),
            ("c".into(), ErrCode::UNKNOWN_PARTITION)
        ]
    );
    assert_eq!(rig.log("later", 1).last().map(|v| &**v), Some("b"));

    let never = rig.topic("never");
    rig.produce(never, 3, b"x").unwrap();
    rig.run(29_000);
    assert_eq!(rig.reports.len(), 3);
    rig.run(3_000);
    let missing = ErrCode::UNKNOWN_TOPIC_OR_PART;
    assert_eq!(rig.outcomes()[3], ("x".into(), missing));
    assert_eq!(rig.reports[3].partition, 3);
    assert_eq!(rig.produce(never, 0, b"y"), Err(ErrCode::UNKNOWN_TOPIC));
    rig.topics.insert("never".into(), vec![1]);
    rig.run(2_000);
    rig.produce(never, 0, b"z").unwrap();
    rig.flush();
    assert_eq!(rig.log("never", 0), ["z"], "a topic may be made after all");
}

#[test]
fn topics_are_created_by_asking() {
    let mut rig = Rig::new(plain);
    rig.creates = 4;
    let topic = rig.topic("new");
    rig.produce(topic, -1, b"v").unwrap();
    rig.run(100);
    assert_eq!(rig.outcomes(), [("v".into(), ErrCode::NO_ERROR)]);
    assert_eq!(rig.client.partition_count(&"new".into()), Some(4));
}

#[test]
fn topics_grow() {
    let (mut rig, topic) = Rig::ready(plain);
    assert_eq!(rig.produce(topic, 3, b"v"), Err(ErrCode::UNKNOWN_PARTITION));
    rig.topics.insert("t".into(), vec![1; 4]);
    rig.run(300_100);
    rig.produce(topic, 3, b"v").unwrap();
    rig.flush();
    assert_eq!(rig.log("t", 3), ["v"]);
}

#[test]
fn leaders_move() {
    let (mut rig, topic) = Rig::ready(plain);
    rig.nodes.insert(2);
    rig.topics.insert("t".into(), vec![2, 2]);
    rig.produce(topic, 0, b"v").unwrap();
    rig.run(1000);
    assert_eq!(rig.outcomes(), [("v".into(), ErrCode::NO_ERROR)]);
    let to_two = rig
        .client
        .statistics()
        .brokers
        .into_iter()
        .find(|b| b.node == 2)
        .unwrap();
    assert!(to_two.up && to_two.counters.tx >= 2);
}

#[test]
fn what_brokers_say_about_waiting_is_told_until_it_is_over() {
    let (mut rig, topic) = Rig::ready(one_by_one);
    rig.throttle_ms.extend([0, 250, 100, 0, 0]);
    for value in [b"a", b"b", b"c", b"d", b"e"] {
        rig.produce(topic, 0, value).unwrap();
        rig.run(100);
    }
    assert_eq!(rig.reports.len(), 5, "the client itself doesn't wait");
    // Each time, and once that it is over.
    assert_eq!(rig.throttled, [(1, 250), (1, 100), (1, 0)]);
    let window = |rig: &mut Rig| {
        let mut brokers = rig.client.statistics().brokers.into_iter();
        brokers.find(|broker| broker.node == 1).unwrap().throttled
    };
    let told = window(&mut rig);
    let counted = (told.count, told.sum, told.min, told.max, told.average());
    assert_eq!(counted, (2, 350, 100, 250, 175));
    assert_eq!(window(&mut rig), ottla_client::Window::default());
}

#[test]
fn partitioners() {
    let (mut rig, _) = Rig::ready(plain);
    rig.topics.insert("u".into(), vec![1; 16]);
    let config = TopicConfig {
        partitioner: PartitionerKind::Murmur2,
        ..TopicConfig::default()
    };
    let hashed = rig.topic_with("u", config);
    rig.run(100);
    let record = |topic, key| ProduceRecord {
        key,
        ..ProduceRecord::new(topic, b"v")
    };
    rig.client
        .produce(rig.now, &record(hashed, Some(b"foobar")))
        .unwrap();
    rig.flush();
    let expected = PartitionerKind::Murmur2
        .partition_for(Some(b"foobar"), 16)
        .unwrap();
    assert_eq!(rig.reports[0].partition, expected);

    rig.topics.insert("own".into(), vec![1; 16]);
    let own = |topic: &str, key: Option<&[u8]>, count: i32, opaque: usize| {
        assert_eq!((topic, count), ("own", 16));
        key.map_or(0, |key| key.len() as i32) + opaque as i32
    };
    let own = rig
        .client
        .intern_topic(rig.now, "own", None, Some(Box::new(own)))
        .unwrap();
    rig.run(100);
    let side = Side {
        opaque: 2,
        payload_addr: 0,
    };
    rig.client
        .produce(
            rig.now,
            &ProduceRecord {
                side,
                ..record(own, Some(b"123"))
            },
        )
        .unwrap();
    rig.flush();
    assert_eq!(rig.reports[1].partition, 5);
    let side = Side {
        opaque: 99,
        payload_addr: 0,
    };
    let error = rig
        .client
        .produce(
            rig.now,
            &ProduceRecord {
                side,
                ..record(own, Some(b"123"))
            },
        )
        .unwrap_err();
    assert_eq!(error.code, ErrCode::UNKNOWN_PARTITION);
}

#[test]
fn records_without_key_stick_for_a_while() {
    let (mut rig, _) = Rig::ready(|c| c.sticky_partitioning_linger_ms = 10);
    rig.topics.insert("u".into(), vec![1; 100]);
    let topic = rig.topic("u");
    rig.run(100);
    for _ in 0..50 {
        rig.produce(topic, -1, b"v").unwrap();
        rig.run(1);
    }
    rig.flush();
    let mut partitions: Vec<i32> = rig.reports.iter().map(|r| r.partition).collect();
    partitions.dedup();
    assert!((4..=6).contains(&partitions.len()), "{partitions:?}");
}

#[test]
fn an_idempotent_producer_counts() {
    let (mut rig, topic) = Rig::ready(idempotent);
    for value in [b"a", b"b", b"c"] {
        rig.produce(topic, 0, value).unwrap();
        rig.run(10);
    }
    let headers = &rig.logs[&("t".into(), 0)].headers;
    let sequences: Vec<i32> = headers.iter().map(|h| h.base_sequence).collect();
    assert_eq!(sequences, [0, 1, 2]);
    assert!(
        headers
            .iter()
            .all(|h| (h.producer_id, h.producer_epoch) == (101, 0))
    );
}

#[test]
fn lost_answers_make_no_duplicates() {
    let (mut rig, topic) = Rig::ready(|c| {
        idempotent(c);
        one_by_one(c);
    });
    rig.faults.extend([Fault::Hold; 5]);
    for value in [b"a", b"b", b"c", b"d", b"e", b"f"] {
        rig.produce(topic, 0, value).unwrap();
    }
    rig.pump();
    assert_eq!(rig.held.len(), 5, "no more than five are in flight");
    // Two are written, and no answer gets through.
    for _ in 0..2 {
        let (conn, _, version, request) = rig.held.pop_front().unwrap();
        rig.write(conn, &request, version);
    }
    rig.faults.clear();
    rig.stop(1);
    rig.nodes.insert(1);
    rig.run(5_000);
    assert_eq!(rig.log("t", 0), ["a", "b", "c", "d", "e", "f"]);
    let values: Vec<String> = rig.outcomes().into_iter().map(|o| o.0).collect();
    assert_eq!(values, ["a", "b", "c", "d", "e", "f"]);
    assert!(
        rig.reports
            .iter()
            .enumerate()
            .all(|(i, r)| r.offset == i as i64)
    );
}

#[test]
fn after_a_refused_batch_the_sequence_begins_anew() {
    let (mut rig, topic) = Rig::ready(|c| {
        idempotent(c);
        one_by_one(c);
    });
    rig.produce(topic, 0, b"first").unwrap();
    rig.pump();
    rig.faults.extend([Fault::Hold; 3]);
    for value in [b"a", b"b", b"c"] {
        rig.produce(topic, 0, value).unwrap();
    }
    rig.pump();
    rig.release(Some(ErrorCode::INVALID_RECORD));
    rig.release(None);
    rig.release(None);
    rig.run(1_000);
    assert_eq!(rig.log("t", 0), ["first", "b", "c"]);
    assert_eq!(rig.outcomes()[1], ("a".into(), ErrCode::INVALID_RECORD));
    let last = *rig.logs[&("t".into(), 0)].headers.last().unwrap();
    assert_eq!((last.producer_epoch, last.base_sequence), (1, 1));
    // Other partitions go on with the new epoch, too.
    rig.produce(topic, 1, b"other").unwrap();
    rig.flush();
    assert_eq!(rig.log("t", 1), ["other"]);
    assert!(rig.errors.iter().all(|error| !error.fatal));
}

#[test]
fn lost_track_of_the_sequence_is_fatal() {
    let (mut rig, topic) = Rig::ready(|c| {
        idempotent(c);
        one_by_one(c);
    });
    rig.faults
        .push_back(Fault::Refuse(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    rig.produce(topic, 0, b"a").unwrap();
    rig.pump();
    assert_eq!(
        rig.outcomes(),
        [("a".into(), ErrCode::OUT_OF_ORDER_SEQUENCE_NUMBER)]
    );
    assert!(
        rig.errors
            .iter()
            .any(|e| e.fatal && e.code == ErrCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
    );
    assert_eq!(rig.produce(topic, 0, b"b"), Err(ErrCode::FATAL));
    assert!(rig.client.fatal_error().is_some());
}

#[test]
fn without_a_producer_id_nothing_can_be_sent() {
    let mut rig = Rig::new(idempotent);
    rig.refuse_producer_id = Some(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    let topic = rig.topic("t");
    rig.produce(topic, 0, b"a").unwrap();
    rig.run(1_000);
    assert!(rig.reports.is_empty() && rig.count(ApiKey::InitProducerId) > 3);
    rig.refuse_producer_id = Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    rig.run(1_000);
    assert_eq!(rig.outcomes(), [("a".into(), ErrCode::PURGE_QUEUE)]);
    assert!(
        rig.errors
            .iter()
            .any(|e| e.fatal && e.code == ErrCode::CLUSTER_AUTHORIZATION_FAILED)
    );
}

#[test]
fn gapless_means_no_failure_is_forgiven() {
    let (mut rig, topic) = Rig::ready(|c| {
        idempotent(c);
        c.enable_gapless_guarantee = true;
    });
    rig.faults
        .push_back(Fault::Refuse(ErrorCode::INVALID_RECORD));
    rig.produce(topic, 0, b"a").unwrap();
    rig.run(10);
    assert!(
        rig.errors
            .iter()
            .any(|e| e.fatal && e.code == ErrCode::GAPLESS_GUARANTEE)
    );
}

/// Random faults: whatever happens, every record is reported once, and what the reports say is true.
#[test]
fn whatever_happens_reports_are_true() {
    for seed in 0..400u64 {
        let mut state = seed;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let idempotent = seed % 2 == 0;
        let (mut rig, topic) = Rig::ready(|c| {
            c.enable_idempotence = idempotent;
            c.max_in_flight = if idempotent { 5 } else { 1 };
            c.batch_num_messages = 1 + (seed % 3) as u32;
            c.topic.message_timeout_ms = if seed % 5 == 0 { 700 } else { 300_000 };
            c.socket_timeout_ms = 500;
        });
        let total = 60;
        for n in 0..total {
            let fault = match random(12) {
                0 => Fault::Drop,
                1 => Fault::WriteAndDrop,
                2 => Fault::Swallow,
                3 => Fault::Refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER),
                4 if seed % 7 == 0 => Fault::Refuse(ErrorCode::INVALID_RECORD),
                5 => Fault::Hold,
                _ => Fault::None,
            };
            rig.faults.push_back(fault);
            rig.produce(topic, random(2) as i32, format!("{n}").as_bytes())
                .unwrap();
            if random(3) == 0 {
                rig.run(random(40));
            }
            while !rig.held.is_empty() && random(2) == 0 {
                rig.release(None);
            }
        }
        for _ in 0..200 {
            while !rig.held.is_empty() {
                rig.release(None);
            }
            rig.run(500);
        }
        assert!(
            !rig.errors.iter().any(|e| e.fatal),
            "seed {seed}: {:?}",
            rig.errors
        );
        assert_eq!(
            (rig.reports.len(), rig.client.queue_len()),
            (total, 0),
            "seed {seed}"
        );
        let mut reported: Vec<_> = rig.reports.iter().map(|r| r.side.opaque).collect();
        reported.sort_unstable();
        reported.dedup();
        assert_eq!(reported.len(), total, "seed {seed}: each is reported once");
        for partition in 0..2 {
            let log = rig.log("t", partition);
            let numbers: Vec<usize> = log.iter().map(|v| v.parse().unwrap()).collect();
            if idempotent {
                let ordered = numbers.windows(2).all(|w| w[0] < w[1]);
                assert!(ordered, "seed {seed}: no duplicates, in order: {numbers:?}");
            } else {
                let mut first: Vec<usize> = Vec::new();
                numbers
                    .iter()
                    .filter(|n| !first.contains(n))
                    .copied()
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|n| {
                        if !first.contains(&n) {
                            first.push(n);
                        }
                    });
                assert!(
                    first.is_sorted(),
                    "seed {seed}: in order but for repetitions: {numbers:?}"
                );
            }
            for report in rig.reports.iter().filter(|r| r.partition == partition) {
                let value = String::from_utf8(report.value.clone()).unwrap();
                let there = log.contains(&value);
                match report.status {
                    Persistence::Persisted => {
                        assert!(there, "seed {seed}: {value} is lost");
                        assert_eq!(report.code, ErrCode::NO_ERROR);
                        if report.offset >= 0 {
                            assert_eq!(log[report.offset as usize], value, "seed {seed}");
                        }
                    }
                    Persistence::NotPersisted => {
                        assert!(!there, "seed {seed}: {value} is there after all")
                    }
                    Persistence::PossiblyPersisted => assert_ne!(report.code, ErrCode::NO_ERROR),
                }
            }
        }
    }
}
