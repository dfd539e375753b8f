//! Records: produced and fetched, well and badly.

use super::*;
use ApiKey::*;
use fetch::{FetchPartition, FetchTopic};

pub const CASES: &[Row] = &[
    ("produce", Produce, produce_each),
    ("produce, codecs", Produce, codecs),
    ("produce, refused", Produce, refused),
    ("produce, idempotent", Produce, idempotent),
    ("fetch", Fetch, fetch_each),
    ("fetch, sessions", Fetch, sessions),
    ("list offsets", ListOffsets, offsets),
    ("offset for leader epoch", OffsetForLeaderEpoch, epochs),
    ("delete records", DeleteRecords, delete),
    ("init producer id", InitProducerId, producer_id),
];

fn produce_each(s: &mut Session, v: i16) {
    let name = format!("produce-{v}");
    make_topic(s, &name, 2, &[]);
    let id = s.topic_id(&name);
    for acks in [-1, 1] {
        let mut request = produce_to(&name, id, v, 0, plain(&["a", "b"]));
        request.acks = acks;
        s.ask(&format!("acks {acks}"), v, Request::Produce(request));
    }
    let mut quiet = produce_to(&name, id, v, 0, plain(&["silent"]));
    quiet.acks = 0;
    s.tell(v, &Request::Produce(quiet));
    s.ask(
        "after acks 0",
        v,
        Request::Produce(produce_to(&name, id, v, 0, plain(&["c"]))),
    );
    let at = produce_to(&name, id, v, 7, plain(&["c"]));
    s.ask("no such partition", v, Request::Produce(at));
    let unknown = Uuid::from_random(5);
    let nowhere = produce_to("produce-none", unknown, v, 0, plain(&["c"]));
    s.ask("no such topic", v, Request::Produce(nowhere));
    let log_append = format!("produce-append-time-{v}");
    make_topic(
        s,
        &log_append,
        1,
        &[("message.timestamp.type", "LogAppendTime")],
    );
    let id = s.topic_id(&log_append);
    let request = produce_to(&log_append, id, v, 0, plain(&["a", "b"]));
    s.ask("log append time", v, Request::Produce(request));
    s.ask(
        "it was stamped",
        11,
        fetch_from(&log_append, Uuid::ZERO, 11, 0, 0),
    );
}

fn codecs(s: &mut Session, v: i16) {
    let name = format!("codecs-{v}");
    make_topic(s, &name, 1, &[]);
    let id = s.topic_id(&name);
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let request = produce_to(&name, id, v, 0, compressed(codec));
        s.ask(&format!("{codec:?}"), v, Request::Produce(request));
    }
}

fn refused(s: &mut Session, v: i16) {
    let name = format!("refuse-{v}");
    make_topic(s, &name, 1, &[("max.message.bytes", "200")]);
    let id = s.topic_id(&name);
    let mut ask = |what: &str, topic: &str, id: Uuid, records: Records, acks: i16| {
        let mut request = produce_to(topic, id, v, 0, records);
        request.acks = acks;
        s.ask(what, v, Request::Produce(request));
    };
    let bytes = |f: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = plain(&["a", "b"]).to_bytes().to_vec();
        f(&mut bytes);
        Records::from(bytes::Bytes::from(bytes))
    };
    ask("acks 2", &name, id, plain(&["a"]), 2);
    ask(
        "too large",
        &name,
        id,
        plain(&["x".repeat(300).as_str()]),
        -1,
    );
    ask(
        "damaged",
        &name,
        id,
        bytes(&|b| *b.last_mut().unwrap() ^= 1),
        -1,
    );
    ask("magic 1", &name, id, bytes(&|b| b[16] = 1), -1);
    ask("magic 3", &name, id, bytes(&|b| b[16] = 3), -1);
    ask("half", &name, id, bytes(&|b| b.truncate(40)), -1);
    ask("short", &name, id, bytes(&|b| b.truncate(70)), -1);
    ask("nothing", &name, id, Records::new(), -1);
    ask(
        "wrong length",
        &name,
        id,
        bytes(&|b| b[11] = b[11].wrapping_add(1)),
        -1,
    );
    ask(
        "two batches",
        &name,
        id,
        bytes(&|b| b.extend_from_within(..)),
        -1,
    );
    let recount = |at: usize, value: i32| {
        bytes(&|b: &mut Vec<u8>| {
            b[at..at + 4].copy_from_slice(&value.to_be_bytes());
            let crc = crc(&b[21..]);
            b[17..21].copy_from_slice(&crc.to_be_bytes());
        })
    };
    ask("counts three", &name, id, recount(57, 3), -1);
    ask("counts none", &name, id, recount(57, 0), -1);
    ask("last offset 5", &name, id, recount(23, 5), -1);
    let control = FinishOptions {
        control: true,
        ..Default::default()
    };
    ask("control", &name, id, batch(&["a"], control), -1);
    let compact = format!("refuse-compact-{v}");
    make_topic(s, &compact, 1, &[("cleanup.policy", "compact")]);
    let id = s.topic_id(&compact);
    let mut builder = BatchBuilder::new(100);
    builder.append(5, None, Some(b"v"), &[]).unwrap();
    let keyless = Records::from(builder.finish(&FinishOptions::default()).unwrap().encoded);
    let request = produce_to(&compact, id, v, 0, keyless);
    s.ask("no key in a compacted topic", v, Request::Produce(request));
    coordinator(s, "any", 0);
    let commit = super::offsets::commit(&compact, Uuid::ZERO, 7, "any", 1, None);
    s.prepare(7, Request::OffsetCommit(commit));
    let id = s.topic_id("__consumer_offsets");
    let request = produce_to("__consumer_offsets", id, v, 0, plain(&["a"]));
    s.ask("internal", v, Request::Produce(request));
}

/// CRC-32C, bit by bit: the few bytes of a test need no table.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

fn init_producer(s: &mut Session) -> (i64, i16) {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    id_of_producer(s, 4, &request)
}

fn idempotent(s: &mut Session, v: i16) {
    let name = format!("idempotent-{v}");
    make_topic(s, &name, 1, &[]);
    let id = s.topic_id(&name);
    let (producer_id, _) = init_producer(s);
    let mut ask = |what: &str, epoch, sequence, values: &[&str]| {
        let options = FinishOptions {
            producer_id,
            producer_epoch: epoch,
            base_sequence: sequence,
            ..Default::default()
        };
        let request = produce_to(&name, id, v, 0, batch(values, options));
        s.ask(what, v, Request::Produce(request));
    };
    ask("first", 0, 0, &["a", "b"]);
    ask("next", 0, 2, &["c"]);
    ask("again", 0, 0, &["a", "b"]);
    ask("gap", 0, 9, &["d"]);
    ask("new epoch, not from 0", 1, 3, &["d"]);
    ask("new epoch", 1, 0, &["d"]);
    ask("old epoch", 0, 3, &["e"]);
    ask("no sequence", 1, -1, &["e"]);
}

fn fetch_from(topic: &str, id: Uuid, v: i16, partition: i32, offset: i64) -> Request {
    let partitions = vec![FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        ..Default::default()
    }];
    Request::Fetch(FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: if v >= 13 { Str::new() } else { topic.into() },
            topic_id: if v >= 13 { id } else { Uuid::ZERO },
            partitions,
        }],
        ..Default::default()
    })
}

fn fetch_each(s: &mut Session, v: i16) {
    let name = format!("fetch-{v}");
    make_topic(s, &name, 2, &[]);
    let id = s.topic_id(&name);
    for values in [&["a", "b"][..], &["c"], &["d", "e", "f"]] {
        fill(s, &name, 0, plain(values));
    }
    for (what, partition, offset) in [
        ("from 0", 0, 0),
        ("from the middle of a batch", 0, 4),
        ("at the end", 0, 6),
        ("beyond the end", 0, 7),
        ("before the start", 0, -1),
        ("empty partition", 1, 0),
        ("no such partition", 9, 0),
    ] {
        s.ask(what, v, fetch_from(&name, id, v, partition, offset));
    }
    let missing = fetch_from("fetch-none", Uuid::from_random(3), v, 0, 0);
    s.ask("no such topic", v, missing);
    let mut edit = |what: &str, change: &dyn Fn(&mut FetchRequest)| {
        if let Request::Fetch(mut request) = fetch_from(&name, id, v, 0, 0) {
            change(&mut request);
            s.ask(what, v, Request::Fetch(request));
        }
    };
    edit("read committed", &|r| r.isolation_level = 1);
    edit("one byte of the partition", &|r| {
        r.topics[0].partitions[0].partition_max_bytes = 1
    });
    edit("one byte in all", &|r| r.max_bytes = 1);
    if v >= 9 {
        edit("newer leader epoch", &|r| {
            r.topics[0].partitions[0].current_leader_epoch = 9
        });
    }
    if v >= 12 {
        edit("last fetched epoch", &|r| {
            r.topics[0].partitions[0].last_fetched_epoch = 0
        });
    }
    if v >= 11 {
        edit("rack", &|r| r.rack_id = "r".into());
    }
}

fn sessions(s: &mut Session, v: i16) {
    if v < 7 {
        return;
    }
    let name = format!("session-{v}");
    make_topic(s, &name, 2, &[]);
    let id = s.topic_id(&name);
    fill(s, &name, 0, plain(&["a"]));
    let session = |session_id, session_epoch, partitions: &[(i32, i64)]| {
        let Request::Fetch(mut request) = fetch_from(&name, id, v, 0, 0) else {
            unreachable!()
        };
        request.session_id = session_id;
        request.session_epoch = session_epoch;
        let one = request.topics[0].partitions[0].clone();
        request.topics[0].partitions = partitions
            .iter()
            .map(|&(partition, fetch_offset)| FetchPartition {
                partition,
                fetch_offset,
                ..one.clone()
            })
            .collect();
        if partitions.is_empty() {
            request.topics.clear();
        }
        Request::Fetch(request)
    };
    let answer = s.prepare(v, session(0, 0, &[(0, 0), (1, 0)]));
    let Some(Response::Fetch(answer)) = answer else {
        return s.note("opened", "answer", "none");
    };
    let known = answer.session_id;
    s.note("opened", "has a session", &(known > 0).to_string());
    s.call_it(&format!("session_id: {known}"), "session_id: <session>");
    s.ask("nothing new", v, session(known, 1, &[(0, 1)]));
    fill(s, &name, 1, plain(&["b"]));
    s.ask("one has more", v, session(known, 2, &[]));
    s.ask("wrong epoch", v, session(known, 9, &[]));
    s.ask(
        "no such session",
        v,
        session(known.wrapping_add(77), 3, &[]),
    );
    s.ask("closed", v, session(known, -1, &[(0, 0)]));
    s.ask("after it was closed", v, session(known, 3, &[]));
}

fn offsets(s: &mut Session, v: i16) {
    let name = format!("offsets-{v}");
    make_topic(s, &name, 2, &[]);
    fill(s, &name, 0, plain(&["a", "b"]));
    for timestamp in [
        -1,
        -2,
        -3,
        -4,
        -5,
        -6,
        -7,
        0,
        1_700_000_000_000,
        1_700_000_000_001,
    ] {
        s.ask(
            &format!("time {timestamp}"),
            v,
            list_offsets(&name, 0, timestamp),
        );
    }
    s.ask("empty, latest", v, list_offsets(&name, 1, -1));
    s.ask("empty, by time", v, list_offsets(&name, 1, 5));
    s.ask("no such partition", v, list_offsets(&name, 9, -1));
    s.ask("no such topic", v, list_offsets("offsets-none", 0, -1));
    if let Request::ListOffsets(mut request) = list_offsets(&name, 0, -1) {
        if v >= 2 {
            request.isolation_level = 1;
            s.ask("read committed", v, Request::ListOffsets(request.clone()));
        }
        if v >= 4 {
            request.topics[0].partitions[0].current_leader_epoch = 7;
            s.ask(
                "newer leader epoch",
                v,
                Request::ListOffsets(request.clone()),
            );
            request.topics[0].partitions[0].current_leader_epoch = -1;
        }
        let again = request.topics[0].partitions[0].clone();
        request.topics[0].partitions.push(again);
        s.ask("twice", v, Request::ListOffsets(request));
    }
}

fn epochs(s: &mut Session, v: i16) {
    use offset_for_leader_epoch::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    let name = format!("epochs-{v}");
    make_topic(s, &name, 1, &[]);
    fill(s, &name, 0, plain(&["a", "b"]));
    for (what, partition, current_leader_epoch, leader_epoch) in [
        ("of the leader", 0, -1, 0),
        ("with the leader's", 0, 0, 0),
        ("later", 0, -1, 3),
        ("undefined", 0, -1, -1),
        ("newer leader", 0, 5, 0),
        ("no such partition", 4, -1, 0),
    ] {
        let request = OffsetForLeaderEpochRequest {
            replica_id: -2,
            topics: vec![OffsetForLeaderTopic {
                topic: name.as_str().into(),
                partitions: vec![OffsetForLeaderPartition {
                    partition,
                    current_leader_epoch,
                    leader_epoch,
                }],
            }],
        };
        s.ask(what, v, Request::OffsetForLeaderEpoch(request));
    }
}

fn delete(s: &mut Session, v: i16) {
    use delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
    let name = format!("delete-records-{v}");
    make_topic(s, &name, 1, &[]);
    let compact = format!("delete-records-compact-{v}");
    make_topic(s, &compact, 1, &[("cleanup.policy", "compact")]);
    fill(s, &name, 0, plain(&["a", "b", "c"]));
    for (what, topic, partition_index, offset) in [
        ("to 2", &*name, 0, 2),
        ("back to 1", &name, 0, 1),
        ("beyond", &name, 0, 4),
        ("minus two", &name, 0, -2),
        ("all", &name, 0, -1),
        ("no such partition", &name, 3, 0),
        ("no such topic", "delete-records-none", 0, 0),
        ("compacted", &compact, 0, 0),
    ] {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: topic.into(),
                partitions: vec![DeleteRecordsPartition {
                    partition_index,
                    offset,
                }],
            }],
            timeout_ms: 5_000,
        };
        s.ask(what, v, Request::DeleteRecords(request));
    }
    let id = s.topic_id(&name);
    s.ask("fetch what is gone", 11, fetch_from(&name, id, 11, 0, 0));
}

fn producer_id(s: &mut Session, v: i16) {
    init_producer(s);
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    if let Some(Response::InitProducerId(mut answer)) =
        s.prepare(v, Request::InitProducerId(request))
    {
        s.note(
            "idempotent",
            "has an id",
            &(answer.producer_id >= 0).to_string(),
        );
        answer.producer_id = 0;
        s.keep("idempotent", &Response::InitProducerId(answer));
    }
    let empty = InitProducerIdRequest {
        transactional_id: Some("".into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    s.ask("empty transactional id", v, Request::InitProducerId(empty));
}
