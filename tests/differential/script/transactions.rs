//! Transactions.

use super::*;
use ApiKey::*;
use add_partitions_to_txn::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};

pub const CASES: &[Row] = &[
    ("init transactional producer", InitProducerId, init_each),
    ("add partitions to txn", AddPartitionsToTxn, add_partitions),
    ("add offsets to txn", AddOffsetsToTxn, add_offsets),
    ("end txn", EndTxn, end_each),
    ("txn offset commit", TxnOffsetCommit, commit_each),
    ("produce in a transaction", Produce, produce_each),
    ("describe transactions", DescribeTransactions, describe),
    ("list transactions", ListTransactions, list),
    ("describe producers", DescribeProducers, producers),
    ("write txn markers", WriteTxnMarkers, markers),
];

/// A producer of a transactional id, whose id and epoch are called by name.
fn init(s: &mut Session, id: &str) -> (i64, i16) {
    coordinator(s, id, 1);
    let request = InitProducerIdRequest {
        transactional_id: Some(id.into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let (id, epoch) = id_of_producer(s, 4, &request);
    s.call_it(&format!("producer_id: {id},"), "producer_id: <producer>,");
    (id, epoch)
}

/// Until what was decided of a transaction is done.
pub(super) fn decided(s: &mut Session, id: &str) {
    let request = DescribeTransactionsRequest {
        transactional_ids: vec![id.into()],
    };
    until(&format!("the end of {id}"), || {
        let answer = s.prepare(0, Request::DescribeTransactions(request.clone()));
        let Some(Response::DescribeTransactions(answer)) = answer else {
            return None;
        };
        let state = &answer.transaction_states[0].transaction_state;
        (!state.as_str().starts_with("Prepare")).then_some(())
    });
}

fn init_each(s: &mut Session, v: i16) {
    let id = format!("init-{v}");
    init(s, &id);
    let (producer_id, producer_epoch) = init(s, &id);
    let mut ask = |what: &str, change: &dyn Fn(&mut InitProducerIdRequest)| {
        let mut request = InitProducerIdRequest {
            transactional_id: Some(id.as_str().into()),
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        change(&mut request);
        s.ask(what, v, Request::InitProducerId(request));
    };
    ask("again", &|_| {});
    ask("no timeout", &|r| r.transaction_timeout_ms = 0);
    ask("long timeout", &|r| r.transaction_timeout_ms = i32::MAX);
    if v >= 3 {
        ask("known", &|r| {
            r.producer_id = producer_id;
            r.producer_epoch = producer_epoch + 1;
        });
        ask("known, repeated", &|r| {
            r.producer_id = producer_id;
            r.producer_epoch = producer_epoch + 1;
        });
        ask("older epoch", &|r| {
            r.producer_id = producer_id;
            r.producer_epoch = producer_epoch - 1;
        });
        ask("other id", &|r| {
            r.producer_id = producer_id + 77;
            r.producer_epoch = 0;
        });
        ask("epoch only", &|r| r.producer_epoch = 1);
    }
}

fn partitions_of(topic: &str, partitions: &[i32]) -> Vec<AddPartitionsToTxnTopic> {
    vec![AddPartitionsToTxnTopic {
        name: topic.into(),
        partitions: partitions.to_vec(),
    }]
}

/// Adds partitions, in a version that clients use.
fn add(s: &mut Session, id: &str, producer: (i64, i16), topic: &str) {
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: id.into(),
        v3_and_below_producer_id: producer.0,
        v3_and_below_producer_epoch: producer.1,
        v3_and_below_topics: partitions_of(topic, &[0]),
        ..Default::default()
    };
    until(&format!("{topic} in the transaction of {id}"), || {
        let answer = s.prepare(3, Request::AddPartitionsToTxn(request.clone()));
        let Some(Response::AddPartitionsToTxn(answer)) = answer else {
            return None;
        };
        let topics = &answer.results_by_topic_v3_and_below;
        let mut partitions = topics.iter().flat_map(|topic| &topic.results_by_partition);
        let waits = |code| code == ErrorCode::CONCURRENT_TRANSACTIONS;
        (!partitions.any(|p| waits(p.partition_error_code))).then_some(())
    });
}

fn add_partitions(s: &mut Session, v: i16) {
    let id = format!("add-{v}");
    make_topic(s, &id, 2, &[]);
    let (producer_id, producer_epoch) = init(s, &id);
    let mut ask =
        |what: &str, id: &str, producer_id, producer_epoch, topic: &str, parts: &[i32]| {
            let topics = partitions_of(topic, parts);
            let request = if v >= 4 {
                AddPartitionsToTxnRequest {
                    transactions: vec![AddPartitionsToTxnTransaction {
                        transactional_id: id.into(),
                        producer_id,
                        producer_epoch,
                        verify_only: what.starts_with("verify"),
                        topics,
                    }],
                    ..Default::default()
                }
            } else {
                AddPartitionsToTxnRequest {
                    v3_and_below_transactional_id: id.into(),
                    v3_and_below_producer_id: producer_id,
                    v3_and_below_producer_epoch: producer_epoch,
                    v3_and_below_topics: topics,
                    ..Default::default()
                }
            };
            s.ask(what, v, Request::AddPartitionsToTxn(request));
        };
    if v >= 4 {
        ask("verify before", &id, producer_id, producer_epoch, &id, &[0]);
    }
    ask("one", &id, producer_id, producer_epoch, &id, &[0]);
    ask("again", &id, producer_id, producer_epoch, &id, &[0]);
    if v >= 4 {
        ask(
            "verify after",
            &id,
            producer_id,
            producer_epoch,
            &id,
            &[0, 1],
        );
    }
    ask(
        "one that is missing",
        &id,
        producer_id,
        producer_epoch,
        &id,
        &[1, 9],
    );
    ask(
        "no such topic",
        &id,
        producer_id,
        producer_epoch,
        "add-none",
        &[0],
    );
    ask(
        "other producer",
        &id,
        producer_id + 7,
        producer_epoch,
        &id,
        &[0],
    );
    ask(
        "other epoch",
        &id,
        producer_id,
        producer_epoch + 7,
        &id,
        &[0],
    );
    ask(
        "unknown id",
        "add-unknown",
        producer_id,
        producer_epoch,
        &id,
        &[0],
    );
    ask("no id", "", producer_id, producer_epoch, &id, &[0]);
}

fn add_offsets(s: &mut Session, v: i16) {
    let id = format!("add-offsets-{v}");
    coordinator(s, "add-offsets", 0);
    let (producer_id, producer_epoch) = init(s, &id);
    let mut ask = |what: &str, id: &str, producer_id, producer_epoch, group: &str| {
        let request = AddOffsetsToTxnRequest {
            transactional_id: id.into(),
            producer_id,
            producer_epoch,
            group_id: group.into(),
        };
        s.ask(what, v, Request::AddOffsetsToTxn(request));
    };
    ask("group", &id, producer_id, producer_epoch, "add-offsets");
    ask("again", &id, producer_id, producer_epoch, "add-offsets");
    ask(
        "other producer",
        &id,
        producer_id + 7,
        producer_epoch,
        "add-offsets",
    );
    ask(
        "other epoch",
        &id,
        producer_id,
        producer_epoch + 7,
        "add-offsets",
    );
    ask(
        "unknown id",
        "add-offsets-unknown",
        producer_id,
        producer_epoch,
        "add-offsets",
    );
}

fn end(id: &str, producer: (i64, i16), committed: bool) -> Request {
    Request::EndTxn(EndTxnRequest {
        transactional_id: id.into(),
        producer_id: producer.0,
        producer_epoch: producer.1,
        committed,
    })
}

fn end_each(s: &mut Session, v: i16) {
    for committed in [true, false] {
        let id = format!("end-{committed}-{v}");
        make_topic(s, &id, 1, &[]);
        let producer = init(s, &id);
        s.ask(
            &format!("nothing to end, {committed}"),
            v,
            end(&id, producer, committed),
        );
        let producer = init(s, &id);
        add(s, &id, producer, &id);
        s.ask(
            &format!("other epoch, {committed}"),
            v,
            end(&id, (producer.0, producer.1 + 5), committed),
        );
        s.ask(
            &format!("ended, {committed}"),
            v,
            end(&id, producer, committed),
        );
        decided(s, &id);
        s.ask(
            &format!("again, {committed}"),
            v,
            end(&id, producer, committed),
        );
        s.ask(
            &format!("the other way, {committed}"),
            v,
            end(&id, producer, !committed),
        );
    }
    s.ask("unknown id", v, end("end-unknown", (1, 0), true));
    s.ask("no id", v, end("", (1, 0), true));
}

fn commit_each(s: &mut Session, v: i16) {
    use txn_offset_commit::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
    let id = format!("txn-commit-{v}");
    let group = format!("txn-commit-{v}");
    make_topic(s, &id, 1, &[]);
    coordinator(s, &group, 0);
    let (producer_id, producer_epoch) = init(s, &id);
    let adding = AddOffsetsToTxnRequest {
        transactional_id: id.as_str().into(),
        producer_id,
        producer_epoch,
        group_id: group.as_str().into(),
    };
    s.prepare(3, Request::AddOffsetsToTxn(adding));
    let request = TxnOffsetCommitRequest {
        transactional_id: id.as_str().into(),
        group_id: group.as_str().into(),
        producer_id,
        producer_epoch,
        topics: vec![TxnOffsetCommitRequestTopic {
            name: id.as_str().into(),
            partitions: vec![TxnOffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: 7,
                committed_metadata: Some("m".into()),
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let mut ask = |what: &str, change: &dyn Fn(&mut TxnOffsetCommitRequest)| {
        let mut request = request.clone();
        change(&mut request);
        s.ask(what, v, Request::TxnOffsetCommit(request));
    };
    ask("pending", &|_| {});
    ask("no such partition", &|r| {
        r.topics[0].partitions[0].partition_index = 9
    });
    ask("long metadata", &|r| {
        r.topics[0].partitions[0].committed_metadata = Some("m".repeat(5000).into());
    });
    ask("no group", &|r| r.group_id = Str::new());
    if v >= 3 {
        ask("unknown member", &|r| {
            r.member_id = "nobody".into();
            r.generation_id = 4;
        });
    }
    let fetch = |require_stable| {
        use offset_fetch::OffsetFetchRequestTopic;
        Request::OffsetFetch(OffsetFetchRequest {
            group_id: group.as_str().into(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: id.as_str().into(),
                partition_indexes: vec![0],
            }]),
            require_stable,
            ..Default::default()
        })
    };
    s.ask("not there yet", 7, fetch(false));
    s.ask("not stable yet", 7, fetch(true));
    s.prepare(3, end(&id, (producer_id, producer_epoch), true));
    decided(s, &id);
    s.ask("there", 7, fetch(true));
}

fn produce_each(s: &mut Session, v: i16) {
    let id = format!("txn-produce-{v}");
    make_topic(s, &id, 1, &[]);
    let topic_id = s.topic_id(&id);
    let (producer_id, producer_epoch) = init(s, &id);
    let ask = |s: &mut Session, what: &str, epoch: i16, sequence: i32, transactional: bool| {
        let options = FinishOptions {
            producer_id,
            producer_epoch: epoch,
            base_sequence: sequence,
            transactional,
            ..Default::default()
        };
        let mut request = produce_to(&id, topic_id, v, 0, batch(&["a"], options));
        request.transactional_id = transactional.then(|| id.as_str().into());
        s.ask(what, v, Request::Produce(request));
    };
    ask(s, "not added", producer_epoch, 0, true);
    add(s, &id, (producer_id, producer_epoch), &id);
    ask(s, "added", producer_epoch, 0, true);
    ask(s, "outside of it", producer_epoch, 1, false);
    ask(s, "newer epoch", producer_epoch + 1, 0, true);
    s.prepare(3, end(&id, (producer_id, producer_epoch), false));
    decided(s, &id);
    if v < 12 {
        ask(s, "after the end", producer_epoch, 1, true);
    }
    use fetch::{FetchPartition, FetchTopic};
    for isolation_level in [0, 1] {
        let request = FetchRequest {
            min_bytes: 1,
            max_bytes: 1 << 20,
            isolation_level,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: id.as_str().into(),
                partitions: vec![FetchPartition {
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        s.ask(
            &format!("isolation {isolation_level}"),
            11,
            Request::Fetch(request),
        );
    }
}

fn describe(s: &mut Session, v: i16) {
    make_topic(s, "txn-described", 1, &[]);
    let producer = init(s, "txn-described");
    let ask = |ids: &[&str]| {
        Request::DescribeTransactions(DescribeTransactionsRequest {
            transactional_ids: ids.iter().map(|id| (*id).into()).collect(),
        })
    };
    s.ask("empty", v, ask(&["txn-described"]));
    add(s, "txn-described", producer, "txn-described");
    s.ask("ongoing", v, ask(&["txn-described"]));
    s.prepare(3, end("txn-described", producer, true));
    decided(s, "txn-described");
    s.ask("ended", v, ask(&["txn-described"]));
    s.ask("unknown", v, ask(&["txn-described-unknown"]));
    s.ask("no name", v, ask(&[""]));
}

fn list(s: &mut Session, v: i16) {
    let id = format!("txn-listed-{v}");
    make_topic(s, &id, 1, &[]);
    let producer = init(s, &id);
    add(s, &id, producer, &id);
    let mut ask = |what: &str, change: &dyn Fn(&mut ListTransactionsRequest)| {
        let mut request = ListTransactionsRequest::default();
        change(&mut request);
        let answer = s.prepare(v, Request::ListTransactions(request));
        if let Some(Response::ListTransactions(mut answer)) = answer {
            answer
                .transaction_states
                .retain(|state| *state.transactional_id == *id);
            s.keep(what, &Response::ListTransactions(answer));
        } else {
            s.note(what, "answer", "none");
        }
    };
    ask("all", &|_| {});
    ask("ongoing", &|r| r.state_filters = vec!["Ongoing".into()]);
    ask("empty", &|r| r.state_filters = vec!["Empty".into()]);
    ask("no such state", &|r| {
        r.state_filters = vec!["Glad".into(), "Ongoing".into()]
    });
    ask("producer", &|r| r.producer_id_filters = vec![producer.0]);
    ask("other producer", &|r| {
        r.producer_id_filters = vec![producer.0 + 77]
    });
    if v >= 1 {
        ask("long ones", &|r| r.duration_filter = 1_000_000);
    }
    if v >= 2 {
        ask("pattern", &|r| {
            r.transactional_id_pattern = Some("txn-li.*".into())
        });
        ask("bad pattern", &|r| {
            r.transactional_id_pattern = Some("(".into())
        });
    }
}

/// A transaction with a record in a topic that is called as its id is; its producer.
fn open(s: &mut Session, name: &str) -> (i64, i16) {
    let (producer_id, producer_epoch) = init(s, name);
    add(s, name, (producer_id, producer_epoch), name);
    let options = FinishOptions {
        producer_id,
        producer_epoch,
        base_sequence: 0,
        transactional: true,
        ..Default::default()
    };
    let mut request = produce_to(name, Uuid::ZERO, 9, 0, batch(&["a"], options));
    request.transactional_id = Some(name.into());
    s.prepare(9, Request::Produce(request));
    (producer_id, producer_epoch)
}

fn producers(s: &mut Session, v: i16) {
    use describe_producers::TopicRequest;
    make_topic(s, "txn-producers", 1, &[]);
    let producer = open(s, "txn-producers");
    let ask = |topic: &str, partition: i32| {
        Request::DescribeProducers(DescribeProducersRequest {
            topics: vec![TopicRequest {
                name: topic.into(),
                partition_indexes: vec![partition],
            }],
        })
    };
    s.ask("open", v, ask("txn-producers", 0));
    s.prepare(3, end("txn-producers", producer, false));
    decided(s, "txn-producers");
    s.ask("aborted", v, ask("txn-producers", 0));
    s.ask("no such partition", v, ask("txn-producers", 5));
    s.ask("no such topic", v, ask("txn-producers-none", 0));
}

fn markers(s: &mut Session, v: i16) {
    use write_txn_markers::{WritableTxnMarker, WritableTxnMarkerTopic};
    let name = format!("markers-{v}");
    make_topic(s, &name, 1, &[]);
    let (producer_id, producer_epoch) = open(s, &name);
    for (what, epoch, partition) in [
        ("older epoch", producer_epoch - 1, 0),
        ("no such partition", producer_epoch, 9),
        ("abort", producer_epoch, 0),
        ("abort again", producer_epoch, 0),
    ] {
        let request = WriteTxnMarkersRequest {
            markers: vec![WritableTxnMarker {
                producer_id,
                producer_epoch: epoch,
                transaction_result: false,
                topics: vec![WritableTxnMarkerTopic {
                    name: name.as_str().into(),
                    partition_indexes: vec![partition],
                }],
                coordinator_epoch: -1,
                ..Default::default()
            }],
        };
        s.ask(what, v, Request::WriteTxnMarkers(request));
    }
}
