//! rskafka: a client in Rust that has partitions and offsets, and leaves groups and transactions out.
//!
//! It is called with BOOTSTRAP PREFIX CASE…; every topic that it makes begins with PREFIX.

use chrono::{DateTime, Utc};
use rskafka::BackoffConfig;
use rskafka::client::{
    Client, ClientBuilder,
    error::{Error, ProtocolError},
    partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling},
};
use rskafka::record::{Record, RecordAndOffset};
use std::{
    collections::BTreeMap,
    fmt::{Debug, Display},
    future::Future,
    io::Write,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

type Outcome<T = ()> = Result<T, String>;

const PATIENCE: Duration = Duration::from_secs(90);

/// The timestamp of the first record, in milliseconds.
const FIRST: i64 = 1_700_000_000_000;

fn say(error: impl Display) -> String {
    error.to_string()
}

fn check(holds: bool, what: impl Display) -> Outcome {
    if holds { Ok(()) } else { Err(what.to_string()) }
}

fn equal<T: PartialEq + Debug>(got: T, wanted: T, what: &str) -> Outcome {
    check(
        got == wanted,
        format!(
            "{what}: {:.300}, not {:.300}",
            format!("{got:?}"),
            format!("{wanted:?}")
        ),
    )
}

/// Bytes that compress to somewhat more than half, the same in every language.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 12345u64;
    let next = |_| {
        state = (state * 1_103_515_245 + 12345) & 0x7fff_ffff;
        (state >> 16) as u8 & 0x0f
    };
    (0..length).map(next).collect()
}

fn at(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).expect("a time")
}

/// The records of the codec cases, a second apart.
fn records() -> Vec<Record> {
    type Fields = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Vec<u8>)>);
    let header = |name: &str, value: &[u8]| (name.to_string(), value.to_vec());
    let mut all: Vec<Fields> = vec![
        (
            Some(b"k0".into()),
            Some(b"v0".into()),
            vec![header("h", b"1")],
        ),
        (None, Some(b"no key".into()), vec![]),
        (
            Some(b"tombstone".into()),
            None,
            vec![header("why", b"deleted")],
        ),
        (Some(vec![]), Some(vec![]), vec![]),
        (
            Some(b"\x00\xff\x80\xfe\x00".into()),
            Some((0..=255).collect()),
            vec![header("binary", b"\x00\xff\x0a"), header("empty", b"")],
        ),
        (Some(b"large".into()), Some(noise(100_000)), vec![]),
    ];
    all.extend((6..12).map(|i| {
        (
            Some(format!("key-{i}").into()),
            Some(format!("value-{i} ").repeat(i).into()),
            vec![header("n", i.to_string().as_bytes()), header("m", b"x")],
        )
    }));
    let record = |(i, (key, value, headers)): (usize, Fields)| Record {
        key,
        value,
        headers: headers.into_iter().collect(),
        timestamp: at(FIRST + 1000 * i as i64),
    };
    all.into_iter().enumerate().map(record).collect()
}

fn record(value: &str) -> Record {
    Record {
        key: None,
        value: Some(value.into()),
        headers: BTreeMap::new(),
        timestamp: Utc::now(),
    }
}

fn numbers(count: usize) -> Vec<Record> {
    (0..count).map(|i| record(&i.to_string())).collect()
}

/// What the cases use.
struct Kafka {
    client: Client,
    prefix: String,
}

impl Kafka {
    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    async fn make(&self, name: &str) -> Outcome<String> {
        let topic = self.topic(name);
        self.create(&topic, 1, 1).await.map_err(say)?;
        Ok(topic)
    }

    async fn create(&self, topic: &str, partitions: i32, replicas: i16) -> Result<(), Error> {
        let admin = self.client.controller_client()?;
        admin
            .create_topic(topic, partitions, replicas, 20_000)
            .await
    }

    async fn partition(&self, topic: &str, partition: i32) -> Outcome<PartitionClient> {
        let retry = UnknownTopicHandling::Retry;
        self.client
            .partition_client(topic, partition, retry)
            .await
            .map_err(say)
    }

    async fn there(&self, topic: &str) -> Outcome<bool> {
        let topics = self.client.list_topics().await.map_err(say)?;
        Ok(topics.iter().any(|t| t.name == topic))
    }
}

async fn read(p: &PartitionClient, from: i64, count: usize) -> Outcome<Vec<RecordAndOffset>> {
    let (mut got, mut next) = (Vec::new(), from);
    let end = Instant::now() + PATIENCE;
    while got.len() < count {
        check(
            Instant::now() < end,
            format!("not in time: {count} records"),
        )?;
        let (records, _) = p
            .fetch_records(next, 1..5_000_000, 200)
            .await
            .map_err(say)?;
        // A batch begins before the offset that was asked for.
        got.extend(records.into_iter().filter(|r| r.offset >= next));
        next = got.last().map_or(from, |r: &RecordAndOffset| r.offset + 1);
    }
    let (more, _) = p
        .fetch_records(next, 1..5_000_000, 100)
        .await
        .map_err(say)?;
    check(more.is_empty(), "records that should not be there")?;
    equal(got.len(), count, "records")?;
    Ok(got)
}

fn values(all: &[RecordAndOffset]) -> Vec<String> {
    let text = |r: &RecordAndOffset| {
        String::from_utf8_lossy(r.record.value.as_deref().unwrap_or_default()).into_owned()
    };
    all.iter().map(text).collect()
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|i| i.to_string()).collect()
}

/// The error of the protocol that it is.
fn protocol<T: Debug>(result: Result<T, Error>) -> Outcome<ProtocolError> {
    match result {
        Err(Error::ServerError { protocol_error, .. }) => Ok(protocol_error),
        other => Err(format!("not one of Kafka's errors: {other:?}")),
    }
}

async fn codec(kafka: &Kafka, name: &str, compression: Compression) -> Outcome {
    let topic = kafka.make(name).await?;
    let p = kafka.partition(&topic, 0).await?;
    p.produce(records(), compression).await.map_err(say)?;
    let got = read(&p, 0, 12).await?;
    for (i, (got, wanted)) in got.iter().zip(records()).enumerate() {
        equal(got.offset, i as i64, "offset")?;
        equal(&got.record, &wanted, &format!("record {i}"))?;
    }
    Ok(())
}

async fn acks_all(kafka: &Kafka) -> Outcome {
    let topic = kafka.make("acks-all").await?;
    let p = kafka.partition(&topic, 0).await?;
    let offsets = p
        .produce(numbers(50), Compression::NoCompression)
        .await
        .map_err(say)?;
    equal(offsets, (0..50).collect(), "offsets of the reports")?;
    equal(values(&read(&p, 0, 50).await?), texts(50), "records")
}

async fn filled(kafka: &Kafka, name: &str) -> Outcome<PartitionClient> {
    let topic = kafka.make(name).await?;
    let p = kafka.partition(&topic, 0).await?;
    p.produce(numbers(10), Compression::NoCompression)
        .await
        .map_err(say)?;
    Ok(p)
}

async fn seek(kafka: &Kafka) -> Outcome {
    let p = filled(kafka, "seek").await?;
    for from in [0, 5, 2] {
        let got = read(&p, from, 10 - from as usize).await?;
        equal(
            got.iter().map(|r| r.offset).collect(),
            (from..10).collect::<Vec<_>>(),
            "offsets",
        )?;
    }
    Ok(())
}

async fn edges(p: &PartitionClient) -> Outcome<(i64, i64)> {
    let first = p.get_offset(OffsetAt::Earliest).await.map_err(say)?;
    Ok((first, p.get_offset(OffsetAt::Latest).await.map_err(say)?))
}

async fn watermarks(kafka: &Kafka) -> Outcome {
    let topic = kafka.make("watermarks").await?;
    let p = kafka.partition(&topic, 0).await?;
    equal(edges(&p).await?, (0, 0), "empty")?;
    p.produce(numbers(10), Compression::NoCompression)
        .await
        .map_err(say)?;
    equal(edges(&p).await?, (0, 10), "filled")
}

async fn timed(kafka: &Kafka, name: &str) -> Outcome<PartitionClient> {
    let topic = kafka.make(name).await?;
    let p = kafka.partition(&topic, 0).await?;
    let stamped = numbers(10).into_iter().enumerate().map(|(i, mut r)| {
        r.timestamp = at(FIRST + 1000 * i as i64);
        r
    });
    p.produce(stamped.collect(), Compression::NoCompression)
        .await
        .map_err(say)?;
    Ok(p)
}

async fn offsets_for_times(kafka: &Kafka) -> Outcome {
    let p = timed(kafka, "offsets-for-times").await?;
    for (time, offset) in [
        (FIRST, 0),
        (FIRST + 4500, 5),
        (FIRST + 9000, 9),
        (FIRST + 9001, -1),
    ] {
        let got = p
            .get_offset(OffsetAt::Timestamp(at(time)))
            .await
            .map_err(say)?;
        equal(got, offset, &format!("offset for {time}"))?;
    }
    Ok(())
}

async fn admin_topics(kafka: &Kafka) -> Outcome {
    let topic = kafka.topic("admin-topics");
    kafka.create(&topic, 3, 1).await.map_err(say)?;
    let topics = kafka.client.list_topics().await.map_err(say)?;
    let described = topics
        .iter()
        .find(|t| t.name == topic)
        .ok_or("not listed")?;
    equal(
        described.partitions.iter().copied().collect(),
        vec![0, 1, 2],
        "partitions",
    )?;
    let admin = kafka.client.controller_client().map_err(say)?;
    admin.delete_topic(&topic, 20_000).await.map_err(say)?;
    let end = Instant::now() + PATIENCE;
    while kafka.there(&topic).await? {
        check(Instant::now() < end, "still listed")?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn admin_delete_records(kafka: &Kafka) -> Outcome {
    let p = filled(kafka, "admin-delete-records").await?;
    p.delete_records(5, 20_000).await.map_err(say)?;
    equal(edges(&p).await?, (5, 10), "beginning and end")?;
    equal(read(&p, 5, 5).await?[0].offset, 5, "first record")
}

async fn admin_list_offsets(kafka: &Kafka) -> Outcome {
    let p = timed(kafka, "admin-list-offsets").await?;
    let timed = p
        .get_offset(OffsetAt::Timestamp(at(FIRST + 4500)))
        .await
        .map_err(say)?;
    equal((edges(&p).await?, timed), ((0, 10), 5), "offsets")
}

async fn error_unknown_topic(kafka: &Kafka) -> Outcome {
    let topic = kafka.topic("error-unknown-topic");
    let opened = kafka
        .client
        .partition_client(&topic, 0, UnknownTopicHandling::Error)
        .await;
    equal(
        protocol(opened.map(drop))?,
        ProtocolError::UnknownTopicOrPartition,
        "the error",
    )?;
    check(!kafka.there(&topic).await?, "the topic was made")
}

async fn error_too_large(kafka: &Kafka) -> Outcome {
    // It can't give a topic a limit: the broker's, a megabyte, does.
    let topic = kafka.make("error-too-large").await?;
    let p = kafka.partition(&topic, 0).await?;
    let mut large = record("");
    large.value = Some(noise(2_000_000));
    let failed = p.produce(vec![large], Compression::NoCompression).await;
    equal(
        protocol(failed)?,
        ProtocolError::MessageTooLarge,
        "the error",
    )?;
    p.produce(numbers(1), Compression::NoCompression)
        .await
        .map_err(say)?;
    equal(values(&read(&p, 0, 1).await?), texts(1), "records")
}

async fn error_admin(kafka: &Kafka) -> Outcome {
    let topic = kafka.make("error-admin").await?;
    let again = protocol(kafka.create(&topic, 1, 1).await)?;
    equal(again, ProtocolError::TopicAlreadyExists, "again")?;
    let named = protocol(kafka.create(&format!("{topic}/"), 1, 1).await)?;
    equal(named, ProtocolError::InvalidTopicException, "name")?;
    let none = protocol(kafka.create(&format!("{topic}-0"), 0, 1).await)?;
    equal(none, ProtocolError::InvalidPartitions, "no partitions")?;
    let replicas = protocol(kafka.create(&format!("{topic}-3"), 1, 3).await)?;
    equal(
        replicas,
        ProtocolError::InvalidReplicationFactor,
        "replicas",
    )?;
    let admin = kafka.client.controller_client().map_err(say)?;
    let deleted = protocol(admin.delete_topic(format!("{topic}-no"), 20_000).await)?;
    equal(deleted, ProtocolError::UnknownTopicOrPartition, "deletion")
}

async fn error_out_of_range(kafka: &Kafka) -> Outcome {
    let p = filled(kafka, "error-out-of-range").await?;
    let failed = p.fetch_records(100, 1..1000, 200).await;
    equal(
        protocol(failed)?,
        ProtocolError::OffsetOutOfRange,
        "the error",
    )
}

async fn error_deleted_topic(kafka: &Kafka) -> Outcome {
    let topic = kafka.make("error-deleted-topic").await?;
    let handling = UnknownTopicHandling::Error;
    let p = kafka
        .client
        .partition_client(&topic, 0, handling)
        .await
        .map_err(say)?;
    p.produce(numbers(3), Compression::NoCompression)
        .await
        .map_err(say)?;
    read(&p, 0, 3).await?;
    let admin = kafka.client.controller_client().map_err(say)?;
    admin.delete_topic(&topic, 20_000).await.map_err(say)?;
    let end = Instant::now() + PATIENCE;
    loop {
        match tokio::time::timeout(Duration::from_secs(5), p.fetch_records(3, 1..1000, 200)).await {
            Err(_) => return Ok(()),
            Ok(Ok((records, _))) => {
                check(records.is_empty(), "records")?;
                check(Instant::now() < end, "not in time: an error")?;
            }
            Ok(failed) => {
                return equal(
                    protocol(failed)?,
                    ProtocolError::UnknownTopicOrPartition,
                    "the error",
                );
            }
        }
    }
}

/// Asks for a restart of the broker; true when it is up again.
fn ask_restart() -> Arc<AtomicBool> {
    let done = Arc::new(AtomicBool::new(false));
    let up = done.clone();
    println!("restart");
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = std::io::stdin().read_line(&mut line);
        up.store(true, Ordering::Relaxed);
    });
    done
}

/// `restart` and, since it has no groups, the same for `kill`.
async fn restart(kafka: &Kafka, name: &str) -> Outcome {
    let topic = kafka.make(name).await?;
    let p = kafka.partition(&topic, 0).await?;
    let (mut sent, mut more, mut again) = (0, 50, None);
    let end = Instant::now() + 3 * PATIENCE;
    while more > 0 {
        check(Instant::now() < end, "not in time: the broker is back")?;
        let one = vec![record(&sent.to_string())];
        p.produce(one, Compression::NoCompression)
            .await
            .map_err(say)?;
        sent += 1;
        if sent == 50 {
            again = Some(ask_restart());
        }
        if again.as_ref().is_some_and(|a| a.load(Ordering::Relaxed)) {
            more -= 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // It is not idempotent: what was sent again may be there twice, one after the other.
    let count = edges(&p).await?.1;
    let mut got = values(&read(&p, 0, count as usize).await?);
    got.dedup();
    equal(got, texts(sent), "records")
}

type Case<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

fn case<'a>(kafka: &'a Kafka, name: &'a str) -> Option<Case<'a>> {
    Some(match name {
        "codec-none" => Box::pin(codec(kafka, name, Compression::NoCompression)),
        "codec-gzip" => Box::pin(codec(kafka, name, Compression::Gzip)),
        "codec-snappy" => Box::pin(codec(kafka, name, Compression::Snappy)),
        "codec-lz4" => Box::pin(codec(kafka, name, Compression::Lz4)),
        "codec-zstd" => Box::pin(codec(kafka, name, Compression::Zstd)),
        "acks-all" => Box::pin(acks_all(kafka)),
        "seek" => Box::pin(seek(kafka)),
        "watermarks" => Box::pin(watermarks(kafka)),
        "offsets-for-times" => Box::pin(offsets_for_times(kafka)),
        "admin-topics" => Box::pin(admin_topics(kafka)),
        "admin-delete-records" => Box::pin(admin_delete_records(kafka)),
        "admin-list-offsets" => Box::pin(admin_list_offsets(kafka)),
        "error-unknown-topic" => Box::pin(error_unknown_topic(kafka)),
        "error-too-large" => Box::pin(error_too_large(kafka)),
        "error-admin" => Box::pin(error_admin(kafka)),
        "error-out-of-range" => Box::pin(error_out_of_range(kafka)),
        "error-deleted-topic" => Box::pin(error_deleted_topic(kafka)),
        "restart" | "kill" => Box::pin(restart(kafka, name)),
        _ => return None,
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, prefix, names @ ..] = &args[..] else {
        panic!("usage: BOOTSTRAP PREFIX CASE…")
    };
    let patience = BackoffConfig {
        max_backoff: Duration::from_secs(1),
        ..BackoffConfig::default()
    };
    let client = ClientBuilder::new(vec![bootstrap.clone()]).backoff_config(patience);
    let kafka = Kafka {
        client: client.build().await.expect("the broker answers"),
        prefix: prefix.clone(),
    };
    for name in names {
        let line = match case(&kafka, name) {
            None => format!("skip {name}"),
            Some(case) => match tokio::time::timeout(4 * PATIENCE, case).await {
                Ok(Ok(())) => format!("ok {name}"),
                Ok(Err(why)) => {
                    let words: Vec<&str> = why.split_whitespace().collect();
                    format!("not ok {name}: {:.400}", words.join(" "))
                }
                Err(_) => format!("not ok {name}: the case does not end"),
            },
        };
        println!("{line}");
        let _ = std::io::stdout().flush();
    }
}
