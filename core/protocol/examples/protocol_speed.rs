//! Nanoseconds per message, next to the `kafka-protocol` crate on the same bytes in the same run:
//! `cargo run --release -p ottla-protocol --example protocol_speed`.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};
use ottla_protocol::messages::fetch::{FetchableTopicResponse, PartitionData};
use ottla_protocol::messages::metadata::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use ottla_protocol::messages::{FetchResponse, MetadataResponse, ProduceRequest};
use ottla_protocol::{Decoder, Encoder, Message, Uuid};
use std::hint::black_box;
use std::time::Instant;

const RECORD_BYTES: usize = 11_000;

fn main() {
    println!(
        "{:<44} {:>9} {:>15}",
        "ns per message", "ours", "kafka-protocol"
    );
    for partitions in [1, 10] {
        let request = produce(partitions);
        row::<_, theirs::ProduceRequest>(
            &format!("Produce v9, {partitions} partitions of 11 kB"),
            &request,
            9,
        );
    }
    for partitions in [1, 10] {
        let response = fetch(partitions);
        row::<_, theirs::FetchResponse>(
            &format!("Fetch v16, {partitions} partitions of 11 kB"),
            &response,
            16,
        );
    }
    row::<_, theirs::MetadataResponse>(
        "Metadata v12, 100 topics of 10 partitions",
        &metadata(),
        12,
    );
}

/// One message, four figures.
fn row<Ours: Message + PartialEq + std::fmt::Debug, Theirs: Decodable + Encodable>(
    name: &str,
    message: &Ours,
    version: i16,
) {
    let encode = || {
        let mut e = Encoder::with_capacity(32 + message.size_hint());
        message.encode(version, &mut e).expect("encodes");
        e
    };
    let bytes = encode().into_bytes();
    let read: Theirs = Theirs::decode(&mut bytes.clone(), version).expect("decodes");
    let mut again = BytesMut::new();
    read.encode(&mut again, version).expect("encodes");
    assert_eq!(bytes, again, "the same bytes are measured");

    let ours =
        nanoseconds(|| Ours::decode(version, &mut Decoder::new(bytes.clone())).expect("decodes"));
    let others = nanoseconds(|| Theirs::decode(&mut bytes.clone(), version).expect("decodes"));
    println!(
        "{:<44} {ours:>9.0} {others:>15.0}",
        format!("{name}: decode")
    );

    // Ours ends with what `writev` takes, theirs with one buffer.
    let ours = nanoseconds(|| {
        let e = encode();
        e.slices().for_each(|slice| {
            black_box(slice);
        });
        e
    });
    let others = nanoseconds(|| {
        let mut buffer = BytesMut::with_capacity(read.compute_size(version).expect("has a size"));
        read.encode(&mut buffer, version).expect("encodes");
        buffer.freeze()
    });
    println!(
        "{:<44} {ours:>9.0} {others:>15.0}",
        format!("{name}: encode")
    );
}

/// The best of twenty runs of about five milliseconds.
fn nanoseconds<T>(mut work: impl FnMut() -> T) -> f64 {
    let mut time = |count: u32| {
        let start = Instant::now();
        for _ in 0..count {
            black_box(work());
        }
        start.elapsed().as_nanos() as f64 / f64::from(count)
    };
    let count = (5e6 / time(100).max(1.0)) as u32;
    (0..20)
        .map(|_| time(count.max(1)))
        .fold(f64::INFINITY, f64::min)
}

fn records() -> Bytes {
    (0..RECORD_BYTES).map(|i| i as u8).collect()
}

fn produce(partitions: i32) -> ProduceRequest {
    let partition = |index| PartitionProduceData {
        index,
        records: records().into(),
    };
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: "a-topic-name".into(),
            partition_data: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn fetch(partitions: i32) -> FetchResponse {
    let partition = |partition_index| PartitionData {
        partition_index,
        high_watermark: 1_000,
        last_stable_offset: 1_000,
        log_start_offset: 0,
        aborted_transactions: None,
        records: records().into(),
        ..Default::default()
    };
    FetchResponse {
        session_id: 77,
        responses: vec![FetchableTopicResponse {
            topic_id: Uuid([7; 16]),
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn metadata() -> MetadataResponse {
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        leader_epoch: 4,
        replica_nodes: vec![1, 2, 3],
        isr_nodes: vec![1, 2, 3],
        ..Default::default()
    };
    let topic = |number: i32| MetadataResponseTopic {
        name: Some(format!("topic-number-{number}").as_str().into()),
        topic_id: Uuid([number as u8; 16]),
        partitions: (0..10).map(partition).collect(),
        ..Default::default()
    };
    let broker = |node_id| MetadataResponseBroker {
        node_id,
        host: "broker.example.com".into(),
        port: 9092,
        rack: None,
    };
    MetadataResponse {
        brokers: (1..4).map(broker).collect(),
        cluster_id: Some("cluster".into()),
        controller_id: 1,
        topics: (0..100).map(topic).collect(),
        ..Default::default()
    }
}
