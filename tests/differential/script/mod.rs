//! What is asked: one file an area. A case runs at every version of its key, on a connection of its own; what it needs it makes.

mod admin;
mod configs;
mod edges;
mod groups;
mod offsets;
mod records;
mod shares;
mod topics;
mod transactions;

use crate::session::Session;
use ottla_protocol::{
    ApiKey, ErrorCode, Records, Request, Response, Str, Uuid,
    messages::{
        create_topics::{CreatableTopic, CreatableTopicConfig},
        *,
    },
};
use ottla_record::{BatchBuilder, Compression, FinishOptions};
use std::{
    thread,
    time::{Duration, Instant},
};

/// How long what a case needs may take, on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// One thing to try.
pub struct Case {
    pub name: &'static str,
    /// The key whose versions it is tried at.
    pub key: ApiKey,
    pub run: fn(&mut Session, i16),
}

impl Case {
    /// Every version that a broker tells, but for those of Produce that it does not serve.
    pub fn versions(&self) -> impl Iterator<Item = i16> {
        let least = if self.key == ApiKey::Produce { 3 } else { 0 };
        self.key
            .broker_versions()
            .filter(move |version| *version >= least)
    }
}

/// All cases.
pub fn cases() -> Vec<Case> {
    [
        topics::CASES,
        records::CASES,
        offsets::CASES,
        groups::CASES,
        configs::CASES,
        transactions::CASES,
        admin::CASES,
        shares::CASES,
        edges::CASES,
    ]
    .into_iter()
    .flatten()
    .map(|&(name, key, run)| Case { name, key, run })
    .collect()
}

type Row = (&'static str, ApiKey, fn(&mut Session, i16));

/// Until the broker has heard of all that its controller has answered so far, and has done what comes of it.
///
/// A JVM Kafka's broker hears of changes a while after they are answered, in their order: when it knows a topic that was made after
/// them, it knows them. What follows from a change (a group's own settings, quotas) it does after the topics of the same batch, and
/// before the next batch: so another topic.
fn settle(s: &mut Session) {
    for _ in 0..2 {
        let name = format!("settled-{}", s.peer.next_correlation());
        make_topic(s, &name, 1, &[]);
    }
}

/// Asks until there is an answer that will do.
///
/// # Panics
/// There is none in time: what a case compares without what it needs says nothing.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Makes a topic, unless it is there or is refused.
fn make_topic(s: &mut Session, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig {
                name: (*key).into(),
                value: Some((*value).into()),
            })
            .collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let made = s.prepare(5, Request::CreateTopics(request));
    let is_there =
        |code: ErrorCode| matches!(code, ErrorCode::NONE | ErrorCode::TOPIC_ALREADY_EXISTS);
    if !matches!(made, Some(Response::CreateTopics(answer)) if is_there(answer.topics[0].error_code))
    {
        return;
    }
    // The broker leads its partitions a moment after the controller has answered.
    for partition in 0..partitions {
        until(&format!("partition {partition} of {name}"), || {
            let latest = s.prepare(5, list_offsets(name, partition, -1));
            let Some(Response::ListOffsets(answer)) = latest else {
                return None;
            };
            (answer.topics[0].partitions[0].error_code == ErrorCode::NONE).then_some(())
        });
    }
}

fn list_offsets(topic: &str, partition_index: i32, timestamp: i64) -> Request {
    use list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
    Request::ListOffsets(ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.into(),
            partitions: vec![ListOffsetsPartition {
                partition_index,
                current_leader_epoch: -1,
                timestamp,
            }],
        }],
        ..Default::default()
    })
}

/// A batch with these values, all at one time.
fn batch(values: &[&str], options: FinishOptions) -> Records {
    let mut builder = BatchBuilder::new(1024);
    for value in values {
        builder
            .append(1_700_000_000_000, Some(b"k"), Some(value.as_bytes()), &[])
            .expect("a small record");
    }
    let finished = builder.finish(&options).expect("a small batch");
    Records::from(finished.encoded)
}

fn plain(values: &[&str]) -> Records {
    batch(values, FinishOptions::default())
}

fn compressed(compression: Compression) -> Records {
    batch(
        &["a", "b", "c"],
        FinishOptions {
            compression,
            ..Default::default()
        },
    )
}

fn produce_to(topic: &str, id: Uuid, v: i16, partition: i32, records: Records) -> ProduceRequest {
    use produce::{PartitionProduceData, TopicProduceData};
    ProduceRequest {
        acks: -1,
        timeout_ms: 5_000,
        topic_data: vec![TopicProduceData {
            name: if v >= 13 { Str::new() } else { topic.into() },
            topic_id: if v >= 13 { id } else { Uuid::ZERO },
            partition_data: vec![PartitionProduceData {
                index: partition,
                records,
            }],
        }],
        ..Default::default()
    }
}

/// Produces what the case needs.
fn fill(s: &mut Session, topic: &str, partition: i32, records: Records) {
    s.prepare(
        9,
        Request::Produce(produce_to(topic, Uuid::ZERO, 9, partition, records)),
    );
}

/// A producer's id and epoch.
fn id_of_producer(s: &mut Session, v: i16, request: &InitProducerIdRequest) -> (i64, i16) {
    until("a producer id", || {
        let answer = s.prepare(v, Request::InitProducerId(request.clone()));
        match answer {
            Some(Response::InitProducerId(answer)) if answer.error_code == ErrorCode::NONE => {
                Some((answer.producer_id, answer.producer_epoch))
            }
            _ => None,
        }
    })
}

/// Asks until the coordinator is there: the internal topics are made at the first question.
fn coordinator(s: &mut Session, key: &str, key_type: i8) {
    until(&format!("the coordinator of {key}"), || {
        let request = FindCoordinatorRequest {
            key: key.into(),
            key_type,
            ..Default::default()
        };
        match s.prepare(2, Request::FindCoordinator(request)) {
            Some(Response::FindCoordinator(answer)) if answer.error_code == ErrorCode::NONE => {
                Some(())
            }
            _ => None,
        }
    });
    if key_type == 0 {
        // And until it has loaded.
        until(&format!("the group {key}"), || {
            let request = HeartbeatRequest {
                group_id: key.into(),
                member_id: "nobody".into(),
                ..Default::default()
            };
            match s.prepare(3, Request::Heartbeat(request)) {
                Some(Response::Heartbeat(answer)) if matches!(answer.error_code.0, 14..=16) => None,
                _ => Some(()),
            }
        });
    }
}
