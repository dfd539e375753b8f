//! What Ottla writes.

use crate::{
    Outcome, expect,
    records::{self, Contents},
};
use ottla::{
    Admin, Config, Consumer, KafkaError, NewRecord, NewTopic, Producer, Route, TopicPartition,
};
use ottla_protocol::{
    Request, Response,
    messages::{
        DeleteRecordsRequest,
        delete_records::{DeleteRecordsPartition, DeleteRecordsTopic},
    },
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// Groups with committed offsets.
pub const GROUPS: [&str; 2] = ["shop", "manual"];
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Offsets below it are deleted from `trimmed`.
const TRIMMED_TO: i64 = 150;

fn failed(error: impl std::fmt::Display) -> String {
    format!("Ottla writes: {error}")
}

fn with(dir: &Path, properties: &[(&str, &str)]) -> Outcome<Config> {
    properties
        .iter()
        .try_fold(records::config(dir)?, |config, (name, value)| {
            config.with(name, value)
        })
        .map_err(failed)
}

/// Produces `count` records of `size` bytes or so and waits for all; `name` is in each value.
fn produce(
    dir: &Path,
    properties: &[(&str, &str)],
    topic: &str,
    name: &str,
    count: usize,
    size: usize,
) -> Outcome {
    let producer = Producer::new(with(dir, properties)?).map_err(failed)?;
    for n in 0..count {
        let key = format!("key{}", n % 31);
        let value = format!("{name} {n} {}", "words and words ".repeat(size / 16));
        let record = NewRecord::to(topic).key(&key).value(&value);
        let number = [n as u8];
        let record = match n % 3 {
            0 => record,
            _ => record.header("n", &number).header("of", name.as_bytes()),
        };
        producer.send(record).map_err(failed)?;
        // Batches of several sizes.
        if n % 7 == 0 {
            producer.poll(Duration::ZERO);
        }
        if n % 23 == 0 {
            producer.flush(PATIENCE).map_err(failed)?;
        }
    }
    producer.flush(PATIENCE).map_err(failed)
}

fn create(dir: &Path, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Outcome {
    let admin = Admin::new(records::config(dir)?).map_err(failed)?;
    let topic = NewTopic {
        name: topic.into(),
        num_partitions: partitions,
        replication_factor: 1,
        config: settings
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect(),
        replica_assignments: Vec::new(),
    };
    let results = admin
        .create_topics(&[topic], false, PATIENCE)
        .map_err(failed)?;
    results
        .into_iter()
        .collect::<Result<Vec<()>, KafkaError>>()
        .map(drop)
        .map_err(failed)
}

/// Where a writer that is killed notes how many of its records were acknowledged.
fn acknowledged(dir: &Path) -> PathBuf {
    dir.with_extension("acknowledged")
}

/// Appends to `killed` until the parent kills this process.
pub fn until_killed(dir: &str) -> Outcome {
    // Held, or the directory is closed cleanly, mark and all, whenever a round's producer goes.
    let _broker = ottla::Broker::open(&format!("file://{dir}")).map_err(failed)?;
    let dir = Path::new(dir);
    create(dir, "killed", 2, &[("segment.bytes", "30000")])?;
    for round in 1.. {
        produce(dir, &[("linger.ms", "1")], "killed", "killed", 200, 300)?;
        std::fs::write(acknowledged(dir), (round * 200).to_string()).map_err(failed)?;
    }
    Ok(())
}

fn acknowledged_records(dir: &Path) -> usize {
    let noted = std::fs::read_to_string(acknowledged(dir)).unwrap_or_default();
    noted.parse().unwrap_or(0)
}

/// Lets this program write in a process of its own, and kills that in the middle.
pub fn unclean(dir: &Path) -> Outcome {
    let me = std::env::current_exe().map_err(failed)?;
    let child = Command::new(me).arg("write-until-killed").arg(dir).spawn();
    let mut child = child.map_err(failed)?;
    let begun = Instant::now();
    let _ = std::fs::remove_file(acknowledged(dir));
    let far_enough = || acknowledged_records(dir) > 400;
    while !far_enough() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    child.kill().and_then(|()| child.wait()).map_err(failed)?;
    expect(far_enough(), || {
        "the writer that is killed never got far".into()
    })?;
    let mark = dir.join(".kafka_cleanshutdown");
    expect(!mark.exists(), || {
        "a killed writer left the mark of a clean stop".into()
    })
}

/// Opens the directory again, writes topics of all kinds and closes it.
pub fn clean(dir: &Path) -> Outcome {
    let broker = ottla::Broker::open(&format!("file://{}", dir.display())).map_err(failed)?;
    let small = [("segment.bytes", "20000"), ("index.interval.bytes", "500")];
    create(dir, "plain", 3, &[])?;
    produce(dir, &[], "plain", "plain", 500, 50)?;
    for codec in CODECS {
        let topic = format!("codec.{codec}");
        create(dir, &topic, 2, &small)?;
        produce(
            dir,
            &[("compression.type", codec), ("linger.ms", "5")],
            &topic,
            codec,
            400,
            400,
        )?;
    }
    create(
        dir,
        "dense",
        1,
        &[("segment.bytes", "100000"), ("index.interval.bytes", "0")],
    )?;
    produce(
        dir,
        &[("batch.num.messages", "1")],
        "dense",
        "dense",
        600,
        100,
    )?;
    create(dir, "headers", 2, &[])?;
    produce(dir, &[], "headers", "headers", 100, 10)?;
    create(dir, "idempotent", 2, &small)?;
    for producer in ["one", "two", "three"] {
        let idempotent = [("enable.idempotence", "true"), ("batch.num.messages", "5")];
        produce(dir, &idempotent, "idempotent", producer, 200, 200)?;
    }
    create(
        dir,
        "appended",
        1,
        &[
            ("message.timestamp.type", "LogAppendTime"),
            ("segment.bytes", "20000"),
        ],
    )?;
    produce(dir, &[], "appended", "appended", 200, 300)?;
    create(
        dir,
        "keyed",
        1,
        &[("cleanup.policy", "compact"), ("segment.bytes", "20000")],
    )?;
    keyed(dir)?;
    create(dir, "trimmed", 1, &small)?;
    produce(dir, &[], "trimmed", "trimmed", 400, 400)?;
    trim(dir)?;
    create(dir, "empty", 4, &[])?;
    create(dir, "gone", 2, &[])?;
    produce(dir, &[], "gone", "gone", 50, 10)?;
    old_and_new(dir)?;
    shop(dir)?;
    manual(dir)?;
    drop(broker);
    let mark = dir.join(".kafka_cleanshutdown");
    expect(mark.exists(), || "a clean stop left no mark".into())
}

/// Keys that come again and again, tombstones, records without a value.
fn keyed(dir: &Path) -> Outcome {
    let producer = Producer::new(records::config(dir)?).map_err(failed)?;
    for n in 0..600 {
        let (key, value) = (
            format!("key{}", n % 25),
            format!("value {n} {}", "-".repeat(200)),
        );
        let record = NewRecord::to("keyed").key(&key);
        let record = if n % 40 == 0 {
            record
        } else {
            record.value(&value)
        };
        producer.send(record).map_err(failed)?;
        if n % 20 == 0 {
            producer.flush(PATIENCE).map_err(failed)?;
        }
    }
    producer.flush(PATIENCE).map_err(failed)
}

/// Timestamps that don't rise with the offsets. They are the same in every run, so nothing may go for its age.
fn old_and_new(dir: &Path) -> Outcome {
    create(
        dir,
        "times",
        1,
        &[
            ("segment.bytes", "4000"),
            ("index.interval.bytes", "100"),
            ("retention.ms", "-1"),
        ],
    )?;
    let producer = Producer::new(with(dir, &[("batch.num.messages", "3")])?).map_err(failed)?;
    let now = 1_790_000_000_000;
    for n in 0..300_i64 {
        let timestamp = now + (n * 7919) % 1000 - 500;
        let value = format!("at {timestamp}");
        let record = NewRecord::to("times").value(&value).timestamp(timestamp);
        producer.send(record).map_err(failed)?;
        if n % 5 == 0 {
            producer.flush(PATIENCE).map_err(failed)?;
        }
    }
    producer.flush(PATIENCE).map_err(failed)
}

/// DeleteRecords on `trimmed`.
fn trim(dir: &Path) -> Outcome {
    let admin = Admin::new(records::config(dir)?).map_err(failed)?;
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "trimmed".into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset: TRIMMED_TO,
            }],
        }],
        timeout_ms: 60_000,
    };
    let route = Route::Leader("trimmed".into(), 0);
    match admin
        .handle()
        .request(route, Request::DeleteRecords(request), PATIENCE)
    {
        Ok(Response::DeleteRecords(response)) => {
            let result = &response.topics[0].partitions[0];
            expect(result.low_watermark == TRIMMED_TO, || {
                format!("DeleteRecords: {result:?}")
            })
        }
        Ok(other) => Err(format!("DeleteRecords was answered {other:?}")),
        Err(error) => Err(failed(error)),
    }
}

/// A group that subscribes, reads a part and commits.
fn shop(dir: &Path) -> Outcome {
    let config = with(
        dir,
        &[("group.id", "shop"), ("auto.offset.reset", "earliest")],
    )?;
    let consumer = Consumer::new(config).map_err(failed)?;
    consumer
        .subscribe(&["plain", "headers", "idempotent"])
        .map_err(failed)?;
    let (mut seen, begun) = (0, Instant::now());
    while seen < 700 && begun.elapsed() < PATIENCE {
        if let Some(mut batch) = consumer
            .next_batch(Duration::from_secs(1))
            .map_err(failed)?
        {
            while let Some(record) = batch.next() {
                record.map_err(|(_, error)| failed(error))?;
                seen += 1;
            }
        }
    }
    consumer.commit(PATIENCE).map_err(failed)?;
    consumer.close(PATIENCE).map_err(failed)
}

/// Offsets that are committed without members, with metadata.
fn manual(dir: &Path) -> Outcome {
    let admin = Admin::new(records::config(dir)?).map_err(failed)?;
    let offsets: Vec<TopicPartition> = (0..3)
        .map(|partition| TopicPartition {
            metadata: Some(format!("note {partition}").into()),
            ..TopicPartition::new("plain", partition, 10 + i64::from(partition))
        })
        .collect();
    let results = admin
        .alter_group_offsets("manual", &offsets, PATIENCE)
        .map_err(failed)?;
    let bad = results
        .iter()
        .find(|result| result.error != ottla::ErrCode::NO_ERROR);
    expect(bad.is_none(), || {
        format!("committing for `manual`: {bad:?}")
    })
}

/// That everything is there which was written.
pub fn check(dir: &Path, contents: &Contents) -> Outcome {
    let count = |topic: &str| -> usize {
        let of_topic = contents.records.iter().filter(|((t, _), _)| t == topic);
        of_topic.map(|(_, records)| records.len()).sum()
    };
    for (topic, expected) in [
        ("plain", 500),
        ("codec.none", 400),
        ("codec.gzip", 400),
        ("codec.snappy", 400),
        ("codec.lz4", 400),
        ("codec.zstd", 400),
        ("dense", 600),
        ("headers", 100),
        ("idempotent", 600),
        ("appended", 200),
        ("keyed", 600),
        ("trimmed", 400 - TRIMMED_TO as usize),
        ("times", 300),
        ("gone", 50),
        ("empty", 0),
    ] {
        expect(count(topic) == expected, || {
            format!("{topic} has {} records, not {expected}", count(topic))
        })?;
    }
    let (left, acknowledged) = (count("killed"), acknowledged_records(dir));
    expect(left >= acknowledged, || {
        format!("{left} of {acknowledged} records that were acknowledged before the kill")
    })
}

/// Changes after a JVM Kafka had the directory: more of its topics, a new one, one less.
pub fn after_kafka(dir: &Path) -> Outcome {
    let broker = ottla::Broker::open(&format!("file://{}", dir.display())).map_err(failed)?;
    produce(
        dir,
        &[("enable.idempotence", "true")],
        "plain",
        "again",
        200,
        50,
    )?;
    produce(dir, &[], "jvm.transactions", "again", 50, 50)?;
    produce(dir, &[], "headers", "again", 60, 50)?;
    create(dir, "new", 2, &[("retention.ms", "-1")])?;
    produce(dir, &[("compression.type", "lz4")], "new", "new", 100, 50)?;
    let admin = Admin::new(records::config(dir)?).map_err(failed)?;
    let deleted = admin.delete_topics(&["empty"], PATIENCE).map_err(failed)?;
    deleted
        .into_iter()
        .collect::<Result<Vec<()>, KafkaError>>()
        .map_err(failed)?;
    drop(broker);
    Ok(())
}
