//! Handles through the façade: records, groups, errors, restarts.

use ottla::{
    Admin, Config, ConfigChange, ConfigOperation, ConfigResource, ElectionType, ErrCode, Event,
    Handle, NewTopic, ProduceRecord, Role, Route, Throttle, TopicPartition, offset,
};
use ottla_protocol::{
    Request, Response,
    messages::alter_client_quotas::{
        AlterClientQuotasRequest, OpData, RequestEntityData, RequestEntryData,
    },
};
use std::time::{Duration, Instant};

/// Long enough for anything that ends at all, on a machine with other things to do.
const WAIT: Duration = Duration::from_secs(60);
/// Far less than that, and than any poll that waits for records.
const SOON: Duration = Duration::from_secs(30);

fn config(servers: &str) -> Config {
    let mut config = Config::new();
    config.set("bootstrap.servers", servers).unwrap();
    config
}

fn producer(servers: &str) -> Handle {
    Handle::new(Role::Producer, config(servers)).unwrap()
}

fn consumer(servers: &str, group: &str) -> Handle {
    let config = config(servers)
        .with("group.id", group)
        .unwrap()
        .with("auto.offset.reset", "earliest")
        .unwrap();
    Handle::new(Role::Consumer, config).unwrap()
}

fn produce(handle: &Handle, topic: &str, values: &[&str]) -> Vec<i64> {
    let topic = handle.topic(topic).unwrap();
    for value in values {
        handle
            .produce(&ProduceRecord::new(topic, value.as_bytes()).key(b"k"))
            .unwrap();
    }
    let mut offsets = Vec::new();
    handle
        .flush_serving(WAIT, &mut |event| {
            let Event::Delivery(mut batch) = event else {
                panic!("{event:?}")
            };
            assert_eq!(batch.code(), ErrCode::NO_ERROR);
            while let Some(report) = batch.next() {
                offsets.push(report.offset);
            }
        })
        .unwrap();
    offsets
}

fn consume(handle: &Handle, count: usize) -> Vec<String> {
    let queue = handle.consumer_queue();
    let mut values = Vec::new();
    while values.len() < count {
        match queue.poll(WAIT).expect("an event in time") {
            Event::Fetched(mut batch) => {
                while let Some(record) = batch.next() {
                    values
                        .push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
                }
            }
            other => panic!("{other:?}"),
        }
    }
    values
}

#[test]
fn memory_is_shared_by_name() {
    let producer = producer("memory:shared-by-name");
    assert_eq!(produce(&producer, "t", &["a", "b"]), [0, 1]);
    assert_eq!(producer.outq_len(), 0);
    let consumer = consumer("memory:shared-by-name", "g");
    consumer.subscribe(&["t"]).unwrap();
    assert_eq!(consume(&consumer, 2), ["a", "b"]);
    assert_eq!(
        consumer.query_watermark_offsets("t", 0, WAIT).unwrap(),
        (0, 2)
    );
    consumer.commit(None, WAIT).unwrap();
    let mut committed = [TopicPartition::new("t", 0, offset::INVALID)];
    consumer.committed(&mut committed, WAIT).unwrap();
    assert_eq!(committed[0].offset, 2);
    let groups = consumer.list_groups(None, WAIT).unwrap();
    let (leader, protocol) = consumer.group_leadership().unwrap();
    assert_eq!((leader, protocol), (consumer.member_id(), "range"));
    assert_eq!(
        (
            &*groups[0].group,
            &*groups[0].state,
            groups[0].members.len()
        ),
        ("g", "Stable", 1)
    );
    consumer.close_consumer(WAIT).unwrap();
    let metadata = producer.metadata(None, WAIT).unwrap();
    assert!(
        metadata
            .topics
            .iter()
            .any(|topic| &*topic.name == "t" && topic.partitions.len() == 1)
    );
}

/// A producer, and a consumer of these partitions of topic t that has reached their end: a fetch is parked for two minutes.
fn long_polling(servers: &str, partitions: &[i32]) -> (Handle, Handle) {
    let producer = producer(servers);
    let topic = producer.topic("t").unwrap();
    for &partition in partitions {
        for value in ["a", "b", "c"] {
            let record = ProduceRecord {
                partition,
                ..ProduceRecord::new(topic, value.as_bytes())
            };
            producer.produce(&record).unwrap();
        }
    }
    producer.flush_serving(WAIT, &mut drop).unwrap();
    let config = config(servers)
        .with("fetch.wait.max.ms", "120000")
        .unwrap()
        .with("auto.offset.reset", "earliest")
        .unwrap();
    let consumer = Handle::new(Role::Consumer, config).unwrap();
    let partitions: Vec<_> = partitions
        .iter()
        .map(|&partition| TopicPartition::new("t", partition, 0))
        .collect();
    consumer.assign(&partitions).unwrap();
    consume(&consumer, 3 * partitions.len());
    assert!(
        consumer
            .consumer_queue()
            .poll(Duration::from_millis(50))
            .is_none()
    );
    (producer, consumer)
}

#[test]
fn a_seek_during_a_long_poll_is_followed_by_records_at_once() {
    for (name, partitions) in [("one", &[0][..]), ("two", &[0, 1])] {
        let servers = format!("memory:seek-in-long-poll-{name}?num.partitions=2");
        let (_producer, consumer) = long_polling(&servers, partitions);
        for from in [0, 2, 1] {
            // From another thread, while this one sleeps in its poll.
            let other = consumer.clone();
            let seeking = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(30));
                other
                    .seek(&mut [TopicPartition::new("t", 0, from)])
                    .unwrap();
                Instant::now()
            });
            let values = consume(&consumer, 3 - from as usize);
            let took = seeking.join().unwrap().elapsed();
            assert_eq!(values, ["a", "b", "c"][from as usize..]);
            assert!(took < SOON, "{took:?} after the seek");
        }
    }
}

#[test]
fn a_partition_at_its_end_does_not_wait_for_the_long_poll_of_others() {
    let servers = "memory:beside-a-long-poll?num.partitions=2";
    let (producer, consumer) = long_polling(servers, &[0, 1]);
    let topic = producer.topic("t").unwrap();
    let produce = |partition| {
        let record = ProduceRecord {
            partition,
            ..ProduceRecord::new(topic, b"d")
        };
        producer.produce(&record).unwrap();
        producer.flush_serving(WAIT, &mut drop).unwrap();
    };
    let mut paused = [TopicPartition::new("t", 1, offset::INVALID)];
    consumer.pause(&mut paused).unwrap();
    // From now on only partition 0 is in the long poll.
    produce(0);
    consume(&consumer, 1);
    consumer.resume(&mut paused).unwrap();
    let queue = consumer.consumer_queue();
    assert!(queue.poll(Duration::from_millis(50)).is_none());
    let producing = Instant::now();
    produce(1);
    assert_eq!(consume(&consumer, 1), ["d"]);
    let took = producing.elapsed();
    assert!(took < SOON, "{took:?} after the produce");
}

#[test]
fn a_directory_keeps_records_and_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let servers = format!("file://{}/data?num.partitions=2", dir.path().display());
    produce(&producer(&servers), "t", &["a", "b", "c"]);
    let first = consumer(&servers, "g");
    first.subscribe(&["t"]).unwrap();
    assert_eq!(consume(&first, 3), ["a", "b", "c"]);
    first.close_consumer(WAIT).unwrap();
    drop(first);
    let mut times = Vec::new();
    // Whatever else the machine does: once in ten times it lets a member through.
    let takes_no_time = (0..10).any(|_| {
        produce(&producer(&servers), "t", &["d"]);
        let next = consumer(&servers, "g");
        let start = Instant::now();
        next.subscribe(&["t"]).unwrap();
        assert_eq!(consume(&next, 1), ["d"], "the group goes on where it was");
        let took = start.elapsed();
        next.close_consumer(WAIT).unwrap();
        times.push(took);
        took < Duration::from_secs(1)
    });
    assert!(takes_no_time, "{times:?}");
}

#[test]
fn two_members_share_the_partitions() {
    let servers = "memory:two-members?num.partitions=4";
    let producer = producer(servers);
    let topic = producer.topic("t").unwrap();
    for i in 0..400 {
        let value = i.to_string();
        let record = ProduceRecord {
            partition: i % 4,
            ..ProduceRecord::new(topic, value.as_bytes())
        };
        producer.produce(&record).unwrap();
    }
    producer.flush_serving(WAIT, &mut drop).unwrap();
    let members = [consumer(servers, "g"), consumer(servers, "g")];
    members
        .iter()
        .for_each(|member| member.subscribe(&["t"]).unwrap());
    let until = Instant::now() + WAIT;
    while !members.iter().all(|member| member.assignment().len() == 2) {
        assert!(
            Instant::now() < until,
            "{:?}",
            members.each_ref().map(Handle::assignment)
        );
        for member in &members {
            member.consumer_queue().poll(Duration::from_millis(10));
        }
    }
}

#[test]
fn errors_have_librdkafkas_codes() {
    let error = Handle::new(Role::Producer, config("localhost:9092")).unwrap_err();
    assert_eq!(error.code, ErrCode::INVALID_ARG);
    let full = Handle::new(
        Role::Producer,
        config("memory:full")
            .with("queue.buffering.max.messages", "2")
            .unwrap()
            .with("linger.ms", "1000")
            .unwrap(),
    )
    .unwrap();
    let topic = full.topic("t").unwrap();
    let record = ProduceRecord::new(topic, b"x");
    full.produce(&record).unwrap();
    full.produce(&record).unwrap();
    assert_eq!(full.produce(&record).unwrap_err().code, ErrCode::QUEUE_FULL);
    let large = vec![0; 2_000_000];
    assert_eq!(
        full.produce(&ProduceRecord::new(topic, &large))
            .unwrap_err()
            .code,
        ErrCode::MSG_SIZE_TOO_LARGE
    );
    let nowhere = ProduceRecord {
        partition: 7,
        ..ProduceRecord::new(topic, b"x")
    };
    full.purge(true, true).unwrap();
    let mut purged = 0;
    full.flush_serving(WAIT, &mut |event| {
        let Event::Delivery(batch) = event else {
            panic!("{event:?}")
        };
        assert_eq!(batch.code(), ErrCode::PURGE_QUEUE);
        purged += batch.len();
    })
    .unwrap();
    assert_eq!(purged, 2);
    assert_eq!(
        full.produce(&nowhere).unwrap_err().code,
        ErrCode::UNKNOWN_PARTITION
    );
    assert_eq!(
        full.subscribe(&["t"]).unwrap_err().code,
        ErrCode::NOT_CONFIGURED
    );
}

#[test]
fn statistics_come_at_intervals() {
    let handle = Handle::new(
        Role::Producer,
        config("memory:statistics")
            .with("statistics.interval.ms", "20")
            .unwrap(),
    )
    .unwrap();
    let event = handle.main_queue().poll(WAIT);
    assert!(
        matches!(&event, Some(Event::Statistics(text)) if text.contains("\"msg_cnt\":0")),
        "{event:?}"
    );
}

#[test]
fn topics_groups_and_offsets_are_administered() {
    let admin = ottla::Admin::new(config("memory:admin")).unwrap();
    let new = |name: &str, num_partitions| ottla::NewTopic {
        name: name.into(),
        num_partitions,
        replication_factor: 1,
        config: vec![("retention.ms".into(), "1000000".into())],
        replica_assignments: Vec::new(),
    };
    let made = admin
        .create_topics(&[new("a", 3), new("a b", 1)], false, WAIT)
        .unwrap();
    assert!(made[0].is_ok());
    assert_eq!(made[1].as_ref().unwrap_err().code, ErrCode::TOPIC_EXCEPTION);
    let again = admin.create_topics(&[new("a", 3)], false, WAIT).unwrap();
    assert_eq!(
        again[0].as_ref().unwrap_err().code,
        ErrCode::TOPIC_ALREADY_EXISTS
    );
    assert!(admin.create_partitions(&[("a", 5)], false, WAIT).unwrap()[0].is_ok());
    let topics = admin.metadata(Some(&["a"]), WAIT).unwrap().topics;
    assert_eq!(topics[0].partitions.len(), 5);
    let configs = admin
        .describe_configs(&[ottla::ConfigResource::Topic("a".into())], WAIT)
        .unwrap();
    let retention = configs[0]
        .as_ref()
        .unwrap()
        .iter()
        .find(|entry| entry.name == "retention.ms")
        .unwrap();
    assert_eq!(retention.value.as_deref(), Some("1000000"));

    let offsets = [TopicPartition::new("a", 1, 7)];
    assert_eq!(
        admin.alter_group_offsets("g", &offsets, WAIT).unwrap()[0].error,
        ErrCode::NO_ERROR
    );
    assert_eq!(
        admin.list_group_offsets("g", None, WAIT).unwrap()[0].offset,
        7
    );
    let groups = admin.list_groups(&[], WAIT).unwrap();
    assert_eq!(
        (groups[0].group_id.as_str(), groups[0].state.as_str()),
        ("g", "Empty")
    );
    assert_eq!(
        admin.delete_group_offsets("g", &offsets, WAIT).unwrap()[0].error,
        ErrCode::NO_ERROR
    );
    assert_eq!(
        admin.list_group_offsets("g", Some(&offsets), WAIT).unwrap()[0].offset,
        offset::INVALID
    );
    let wanted = [(offsets[0].clone(), ottla::OffsetSpec::Latest)];
    assert_eq!(
        admin.list_offsets(&wanted, WAIT).unwrap()[0]
            .as_ref()
            .unwrap()
            .offset,
        0
    );
    let before = [-1, 7].map(|offset| TopicPartition::new("a", 1, offset));
    let deleted = admin.delete_records(&before, WAIT).unwrap();
    assert_eq!(
        (deleted[0].offset, deleted[0].error),
        (0, ErrCode::NO_ERROR)
    );
    assert_eq!(deleted[1].error, ErrCode::OFFSET_OUT_OF_RANGE);
    assert!(admin.delete_topics(&["a"], WAIT).unwrap()[0].is_ok());
    let gone = admin.delete_topics(&["a"], WAIT).unwrap();
    assert_eq!(
        gone[0].as_ref().unwrap_err().code,
        ErrCode::UNKNOWN_TOPIC_OR_PART
    );
}

/// `metadata.max.age.ms` makes new topics known, and `topic.blacklist` hides some.
#[test]
fn patterns_find_new_topics_but_no_blacklisted_ones() {
    let servers = "memory:ageing";
    let consumer = config(servers)
        .with("group.id", "g")
        .and_then(|c| c.with("auto.offset.reset", "earliest"))
        .and_then(|c| c.with("topic.metadata.refresh.interval.ms", "-1"))
        .and_then(|c| c.with("metadata.max.age.ms", "50"))
        .and_then(|c| c.with("topic.blacklist", "hidden$,^no"))
        .unwrap();
    let consumer = Handle::new(Role::Consumer, consumer).unwrap();
    consumer.subscribe(&["^new.*"]).unwrap();
    assert!(
        consumer
            .consumer_queue()
            .poll(Duration::from_millis(200))
            .is_none()
    );
    let producer = producer(servers);
    produce(&producer, "new.hidden", &["x"]);
    produce(&producer, "new.seen", &["y"]);
    assert_eq!(consume(&consumer, 1), ["y"]);
    let assigned: Vec<_> = consumer.assignment().into_iter().map(|p| p.topic).collect();
    assert_eq!(assigned, ["new.seen"]);
    let names = |handle: &Handle| -> Vec<String> {
        let topics = handle.metadata(None, WAIT).unwrap().topics;
        topics.iter().map(|topic| topic.name.to_string()).collect()
    };
    assert!(names(&producer).contains(&"new.hidden".to_owned()));
    assert!(!names(&consumer).contains(&"new.hidden".to_owned()));
}

/// The next statistics of a handle, from now on.
fn statistics(handle: &Handle) -> serde_json::Value {
    let queue = handle.main_queue();
    while queue.poll(Duration::ZERO).is_some() {}
    loop {
        if let Some(Event::Statistics(text)) = queue.poll(WAIT) {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

/// Statistics have librdkafka's shape, and say what is.
#[test]
fn statistics_tell_what_is() {
    let servers = "memory:statistics-of-all";
    let with = |config: Config| config.with("statistics.interval.ms", "20").unwrap();
    let producer = with(config(servers))
        .with("enable.idempotence", "true")
        .unwrap();
    let producer = Handle::new(Role::Producer, producer).unwrap();
    produce(&producer, "t", &["a", "bb", "ccc"]);
    let told = statistics(&producer);
    assert_eq!(
        (&told["type"], &told["txmsgs"]),
        (&"producer".into(), &3.into())
    );
    let partition = &told["topics"]["t"]["partitions"]["0"];
    assert_eq!(
        (&partition["txmsgs"], &partition["msgq_cnt"]),
        (&3.into(), &0.into())
    );
    assert!(partition["txbytes"].as_u64().unwrap() > 0);
    assert!(partition.get("consumer_lag").is_none(), "{partition}");
    let leader = partition["leader"].as_i64().unwrap();
    let brokers = told["brokers"].as_object().unwrap();
    let broker = brokers.values().find(|b| b["nodeid"] == leader).unwrap();
    assert_eq!(
        (&broker["state"], &broker["source"]),
        (&"UP".into(), &"learned".into())
    );
    assert_eq!(broker["toppars"]["t-0"]["partition"], 0);
    assert!(broker["tx"].as_u64() > Some(0) && told["tx"].as_u64() >= broker["tx"].as_u64());
    assert_eq!(told["eos"]["idemp_state"], "Assigned");
    assert!(told["eos"]["producer_id"].as_i64().unwrap() >= 0);
    assert!(told.get("cgrp").is_none());

    let consumer = with(config(servers))
        .with("group.id", "g")
        .and_then(|c| c.with("auto.offset.reset", "earliest"))
        .and_then(|c| c.with("enable.auto.commit", "false"))
        .unwrap();
    let consumer = Handle::new(Role::Consumer, consumer).unwrap();
    consumer.subscribe(&["t"]).unwrap();
    assert_eq!(consume(&consumer, 3), ["a", "bb", "ccc"]);
    consumer
        .commit(Some(&[TopicPartition::new("t", 0, 1)]), WAIT)
        .unwrap();
    let told = statistics(&consumer);
    let partition = &told["topics"]["t"]["partitions"]["0"];
    for (name, value) in [
        ("app_offset", 3),
        ("stored_offset", 3),
        ("committed_offset", 1),
        ("lo_offset", 0),
        ("hi_offset", 3),
        ("consumer_lag", 2),
        ("consumer_lag_stored", 0),
        ("rxmsgs", 3),
        ("fetchq_cnt", 0),
    ] {
        assert_eq!(partition[name], value, "{name}: {partition}");
    }
    assert_eq!(partition["fetch_state"], "active");
    assert_eq!(
        (&told["rxmsgs"], &told["type"]),
        (&3.into(), &"consumer".into())
    );
    let group = &told["cgrp"];
    assert_eq!(
        (&group["state"], &group["join_state"]),
        (&"up".into(), &"steady".into())
    );
    assert_eq!(group["assignment_size"], 1);
    assert_eq!(told["brokers"]["GroupCoordinator"]["source"], "logical");
    assert!(told.get("eos").is_none() && told.get("msg_max").is_none());
}

/// A lookup of what isn't there is answered at once, as by librdkafka, and nothing is created by it.
#[test]
fn what_is_not_there_is_told_at_once() {
    let servers = "memory:handles-not-there";
    let (producer, consumer) = (producer(servers), consumer(servers, "g"));
    produce(&producer, "t", &["a"]);
    let forever = Duration::from_secs(3600);
    for handle in [&producer, &consumer] {
        for (topic, partition) in [("missing", 0), ("t", 7), ("missing", 0)] {
            let found = handle.query_watermark_offsets(topic, partition, forever);
            assert_eq!(found.unwrap_err().code, ErrCode::UNKNOWN_PARTITION);
        }
        let found = handle.query_watermark_offsets("a/b", 0, forever);
        assert_eq!(found.unwrap_err().code, ErrCode::TOPIC_EXCEPTION);
        assert_eq!(handle.query_watermark_offsets("t", 0, WAIT), Ok((0, 1)));

        let wanted = [("t", 0), ("t", 7), ("missing", 0)];
        let mut times = wanted.map(|(topic, partition)| TopicPartition::new(topic, partition, 5));
        handle.offsets_for_times(&mut times, forever).unwrap();
        let found = times.each_ref().map(|p| (p.offset, p.error));
        assert_eq!(found[0], (0, ErrCode::NO_ERROR));
        assert_eq!(found[1], (5, ErrCode::UNKNOWN_PARTITION));
        assert_eq!(found[2], (5, ErrCode::UNKNOWN_TOPIC_OR_PART));
        let all = handle.offsets_for_times(&mut times[1..], forever);
        assert_eq!(all.unwrap_err().code, ErrCode::UNKNOWN_PARTITION);
        assert_eq!(times[2].error, ErrCode::UNKNOWN_TOPIC_OR_PART);
    }
    let admin = ottla::Admin::of(&producer);
    let before = [("missing", 0), ("t", 0)].map(|(t, p)| TopicPartition::new(t, p, 1));
    let deleted = admin.delete_records(&before, forever).unwrap();
    assert_eq!(
        (deleted[0].offset, deleted[0].error),
        (1, ErrCode::UNKNOWN_TOPIC_OR_PART)
    );
    assert_eq!(
        (deleted[1].offset, deleted[1].error),
        (1, ErrCode::NO_ERROR)
    );
    let wanted = before.map(|p| (p, ottla::OffsetSpec::Latest));
    let listed = admin.list_offsets(&wanted, forever).unwrap();
    assert_eq!(
        listed[0].as_ref().unwrap_err().code,
        ErrCode::UNKNOWN_TOPIC_OR_PART
    );
    assert_eq!(listed[1].as_ref().unwrap().offset, 1);
    let topics = producer.metadata(None, WAIT).unwrap().topics;
    let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    assert!(!names.contains(&"missing"), "{names:?}");
}

/// With `acks=1`, too, who was told that a record is written finds it.
#[test]
fn acks_of_one_means_visible() {
    let dir = tempfile::tempdir().unwrap();
    let servers = format!("file://{}", dir.path().display());
    let config = config(&servers).with("acks", "1").unwrap();
    let producer = Handle::new(Role::Producer, config).unwrap();
    for end in 1..=50 {
        produce(&producer, "t", &["v"]);
        assert_eq!(producer.query_watermark_offsets("t", 0, WAIT), Ok((0, end)));
    }
}

/// A quota that an administrator sets: what it makes a producer wait for comes as events until it is over, and in the statistics.
#[test]
fn a_producer_beyond_its_quota_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let servers = format!("file://{}", dir.path().display());
    let mut config = config(&servers)
        .with("client.id", "limited")
        .unwrap()
        .with("statistics.interval.ms", "100")
        .unwrap();
    config.set_throttle_events(true);
    let producer = Handle::new(Role::Producer, config).unwrap();
    let request = AlterClientQuotasRequest {
        entries: vec![RequestEntryData {
            entity: vec![RequestEntityData {
                entity_type: "client-id".into(),
                entity_name: Some("limited".into()),
            }],
            ops: vec![OpData {
                key: "producer_byte_rate".into(),
                value: 10_000.0,
                remove: false,
            }],
        }],
        validate_only: false,
    };
    let request = Request::AlterClientQuotas(request);
    let answer = producer.request(Route::Any, request, WAIT).unwrap();
    assert!(matches!(answer, Response::AlterClientQuotas(a) if a.entries[0].error_code.0 == 0));
    // The tests of the other languages, whose clients can't set quotas, write this file.
    let kept = std::fs::read_to_string(dir.path().join("ottla-quotas")).unwrap();
    assert_eq!(
        kept,
        "ottla-quotas 1\nof - =limited\nquota producer_byte_rate 10000\ncrc32c cc0c473f\n"
    );
    let topic = producer.topic("t").unwrap();
    // What ten seconds may have, and a little more: half a second.
    let started = Instant::now();
    let value = vec![b'x'; 105_000];
    producer
        .produce(&ProduceRecord::new(topic, &value))
        .unwrap();
    let mut early = Vec::new();
    producer
        .flush_serving(WAIT, &mut |event| match event {
            // It counts as queued until it is dropped.
            Event::Delivery(_) => {}
            event => early.push(event),
        })
        .unwrap();
    // The next request waits so long; its answer says that it is over.
    producer.metadata(None, WAIT).unwrap();
    let waited = started.elapsed();
    let queue = producer.main_queue();
    let (mut told, mut counted): (Vec<Throttle>, u64) = Default::default();
    let mut early = early.into_iter();
    while told.len() < 2 || counted == 0 {
        let event = early.next().or_else(|| queue.poll(WAIT));
        match event.expect("an event in time") {
            Event::Throttle(throttle) => told.push(throttle),
            Event::Statistics(text) => {
                let all: serde_json::Value = serde_json::from_str(&text).unwrap();
                for broker in all["brokers"].as_object().unwrap().values() {
                    let window = &broker["throttle"];
                    counted += window["cnt"].as_u64().unwrap();
                    assert!(window["max"].as_u64() >= window["min"].as_u64());
                }
            }
            _ => {}
        }
    }
    let first = &told[0];
    assert!(
        first.broker_name.contains(':') && first.broker_id == 1,
        "{first:?}"
    );
    assert!((400..1500).contains(&first.throttle_ms), "{first:?}");
    assert!(
        waited >= Duration::from_millis(first.throttle_ms.into()),
        "{waited:?}"
    );
    assert_eq!((told[1].throttle_ms, counted), (0, 1));
}

/// Settings are replaced and changed one by one, of topics, brokers and groups; nothing moves and nobody is elected on one broker.
#[test]
fn an_administrator_alters_settings() {
    let admin = Admin::new(config("memory:alters-settings")).unwrap();
    let new = |name: &str| NewTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        config: vec![("retention.ms".into(), "1000".into())],
        replica_assignments: Vec::new(),
    };
    admin.create_topics(&[new("t")], false, WAIT).unwrap();
    let value = |resource: &ConfigResource, name: &str| {
        let described = admin.describe_configs(std::slice::from_ref(resource), WAIT);
        let entries = described.unwrap().remove(0).unwrap();
        let entry = entries
            .into_iter()
            .find(|entry| entry.name == name)
            .unwrap();
        entry.value.unwrap()
    };
    let topic = ConfigResource::Topic("t".into());
    let usual = value(&topic, "segment.ms");
    let set = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let wanted = [(topic.clone(), set("segment.ms", "70000"))];
    assert_eq!(admin.alter_configs(&wanted, true, WAIT).unwrap(), [Ok(())]);
    assert_eq!(value(&topic, "segment.ms"), usual);
    assert_eq!(admin.alter_configs(&wanted, false, WAIT).unwrap(), [Ok(())]);
    assert_eq!(value(&topic, "segment.ms"), "70000");
    assert_ne!(value(&topic, "retention.ms"), "1000");
    let change = |name: &str, operation, value: Option<&str>| ConfigChange {
        name: name.into(),
        operation,
        value: value.map(Into::into),
    };
    let group = ConfigResource::Group("g".into());
    let changes = [
        (
            topic.clone(),
            vec![
                change("cleanup.policy", ConfigOperation::Append, Some("compact")),
                change("segment.ms", ConfigOperation::Delete, None),
            ],
        ),
        (
            group.clone(),
            vec![change(
                "consumer.session.timeout.ms",
                ConfigOperation::Set,
                Some("50000"),
            )],
        ),
        (
            ConfigResource::AllBrokers,
            vec![change(
                "log.retention.ms",
                ConfigOperation::Set,
                Some("3000"),
            )],
        ),
        (
            ConfigResource::Topic("none".into()),
            vec![change("segment.ms", ConfigOperation::Set, Some("70000"))],
        ),
    ];
    let done = admin
        .incremental_alter_configs(&changes, false, WAIT)
        .unwrap();
    assert!(done[..3].iter().all(Result::is_ok), "{done:?}");
    let unknown = done[3].as_ref().unwrap_err().code;
    assert_eq!(unknown, ErrCode::UNKNOWN_TOPIC_OR_PART);
    assert_eq!(value(&topic, "cleanup.policy"), "delete,compact");
    assert_eq!(value(&topic, "segment.ms"), usual);
    assert_eq!(value(&group, "consumer.session.timeout.ms"), "50000");
    assert_eq!(
        value(&ConfigResource::Broker(1), "log.retention.ms"),
        "3000"
    );

    let partition = TopicPartition::new("t", 0, offset::INVALID);
    let moving = admin.list_partition_reassignments(Some(std::slice::from_ref(&partition)), WAIT);
    assert_eq!(moving.unwrap(), []);
    let nowhere = TopicPartition::new("t", 7, offset::INVALID);
    let asked = [partition, nowhere];
    let elected = admin.elect_leaders(ElectionType::Preferred, Some(&asked), WAIT);
    let told = |(_, number, result): (ottla::Str, i32, Result<(), ottla::KafkaError>)| {
        (number, result.unwrap_err().code.0)
    };
    let elected: Vec<_> = elected.unwrap().into_iter().map(told).collect();
    // ELECTION_NOT_NEEDED, UNKNOWN_TOPIC_OR_PARTITION
    assert_eq!(elected, [(0, 84), (7, 3)]);
    let all = admin.elect_leaders(ElectionType::Unclean, None, WAIT);
    assert_eq!(all.unwrap(), []);
}
