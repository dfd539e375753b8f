//! Tests: transactions through the whole broker, from requests to what `read_committed` sees; and what a crash at any moment
//! leaves of them.

use std::{collections::BTreeMap, string::String, vec, vec::Vec};

use ottla_log::{LogConfig, OpenOptions, PartitionLog};
use ottla_protocol::{
    ErrorCode, Records, Request, Response, Str,
    messages::{
        add_offsets_to_txn::AddOffsetsToTxnRequest,
        add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic},
        delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
        delete_topics::DeleteTopicsRequest,
        describe_producers::{DescribeProducersRequest, ProducerState, TopicRequest},
        end_txn::{EndTxnRequest, EndTxnResponse},
        list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
        offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics},
        txn_offset_commit::{
            TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
        },
        write_txn_markers::{WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest},
    },
};
use ottla_record::{BatchHeader, Batches, FinishOptions, Limits};

use crate::{
    Durability,
    testing::{Harness, batch, fetch_request, fetched, keyed_batch, produce_request, produced},
};

/// A transactional producer, as a client keeps it.
#[derive(Clone, Debug)]
pub(super) struct Producer {
    pub name: &'static str,
    pub producer: (i64, i16),
    /// Of transaction version 2 (KIP-890).
    pub v2: bool,
    sequences: BTreeMap<i32, i32>,
}

impl Producer {
    pub fn new(name: &'static str, v2: bool, producer: (i64, i16)) -> Self {
        Self {
            name,
            producer,
            v2,
            sequences: BTreeMap::new(),
        }
    }

    /// Begins, with all answers at once.
    fn start(h: &mut Harness, name: &'static str, v2: bool) -> Self {
        let producer = h.init_transactions(name);
        Self::new(name, v2, producer)
    }

    /// The same client with another producer id or epoch.
    pub fn goes_on_as(&mut self, producer: (i64, i16)) {
        if producer != self.producer {
            self.producer = producer;
            self.sequences.clear();
        }
    }

    /// A batch with the next sequence number.
    pub fn batch(&mut self, partition: i32, values: &[&str]) -> Records {
        let sequence = self.sequences.entry(partition).or_default();
        let base_sequence = *sequence;
        *sequence += values.len() as i32;
        transactional(self.producer, base_sequence, values)
    }

    pub fn add_request(&self, partitions: &[i32]) -> Request {
        Request::AddPartitionsToTxn(AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.name.into(),
            v3_and_below_producer_id: self.producer.0,
            v3_and_below_producer_epoch: self.producer.1,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: "t".into(),
                partitions: partitions.to_vec(),
            }],
            ..Default::default()
        })
    }

    pub fn end_request(&self, committed: bool) -> Request {
        Request::EndTxn(EndTxnRequest {
            transactional_id: self.name.into(),
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            committed,
        })
    }

    pub fn end_version(&self) -> i16 {
        if self.v2 { 5 } else { 4 }
    }

    pub fn send_batch(&mut self, h: &mut Harness, partition: i32, values: &[&str]) -> i32 {
        let records = self.batch(partition, values);
        self.send_records(h, partition, records)
    }

    pub fn send_records(&self, h: &mut Harness, partition: i32, records: Records) -> i32 {
        let version = if self.v2 { 12 } else { 11 };
        h.send(version, self.produce_request(partition, records))
    }

    fn produce_request(&self, partition: i32, records: Records) -> Request {
        let Request::Produce(mut request) = produce_request("t", partition, -1, records) else {
            panic!()
        };
        request.transactional_id = Some(self.name.into());
        Request::Produce(request)
    }

    fn offsets_request(&self, offset: i64) -> Request {
        Request::TxnOffsetCommit(TxnOffsetCommitRequest {
            transactional_id: self.name.into(),
            group_id: "g".into(),
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: "t".into(),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    committed_offset: offset,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        })
    }

    /// Adds partitions, if it is a client that has to.
    fn add(&self, h: &mut Harness, partitions: &[i32]) {
        if !self.v2 {
            let answer = h.ask(3, self.add_request(partitions));
            assert_eq!(added(answer), ErrorCode::NONE);
        }
    }

    fn produce(&mut self, h: &mut Harness, partition: i32, values: &[&str]) -> ErrorCode {
        let id = self.send_batch(h, partition, values);
        produced(h.take_answer(id).expect("an answer at once")).error_code
    }

    fn end(&mut self, h: &mut Harness, committed: bool) -> ErrorCode {
        let answer = ended(h.ask(self.end_version(), self.end_request(committed)));
        if self.v2 && answer.error_code == ErrorCode::NONE {
            self.goes_on_as((answer.producer_id, answer.producer_epoch));
        }
        answer.error_code
    }

    fn commit_offset(&self, h: &mut Harness, offset: i64) -> ErrorCode {
        if !self.v2 {
            let request = AddOffsetsToTxnRequest {
                transactional_id: self.name.into(),
                producer_id: self.producer.0,
                producer_epoch: self.producer.1,
                group_id: "g".into(),
            };
            h.ask(3, Request::AddOffsetsToTxn(request));
        }
        let version = if self.v2 { 5 } else { 3 };
        offsets_committed(h.ask(version, self.offsets_request(offset)))
    }
}

pub(super) fn transactional(
    (producer_id, producer_epoch): (i64, i16),
    base_sequence: i32,
    values: &[&str],
) -> Records {
    let options = FinishOptions {
        producer_id,
        producer_epoch,
        base_sequence,
        transactional: true,
        ..FinishOptions::default()
    };
    keyed_batch(None, values, options)
}

pub(super) fn added(response: Response) -> ErrorCode {
    let Response::AddPartitionsToTxn(response) = response else {
        panic!("{response:?}")
    };
    response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
}

pub(super) fn ended(response: Response) -> EndTxnResponse {
    match response {
        Response::EndTxn(response) => response,
        other => panic!("{other:?}"),
    }
}

fn offsets_committed(response: Response) -> ErrorCode {
    match response {
        Response::TxnOffsetCommit(response) => response.topics[0].partitions[0].error_code,
        other => panic!("{other:?}"),
    }
}

/// What a `read_committed` consumer sees of a partition: the values, and up to where.
pub(super) fn committed(h: &mut Harness, partition: i32) -> (Vec<String>, i64) {
    let mut values = Vec::new();
    let mut next = 0;
    loop {
        let Request::Fetch(mut request) = fetch_request("t", partition, next, 0) else {
            panic!()
        };
        request.isolation_level = 1;
        let data = fetched(h.ask(11, Request::Fetch(request)));
        assert!(data.last_stable_offset <= data.high_watermark);
        let mut aborted: Vec<(i64, i64)> = data
            .aborted_transactions
            .unwrap()
            .iter()
            .map(|t| (t.producer_id, t.first_offset))
            .collect();
        aborted.sort_by_key(|(_, first)| *first);
        let mut skipping: Vec<i64> = Vec::new();
        let before = next;
        for batch in Batches::new(data.records.chunks().cloned()) {
            let batch = batch.unwrap();
            let header = *batch.header();
            while let Some(at) = aborted
                .iter()
                .position(|(_, first)| *first <= header.last_offset())
            {
                skipping.push(aborted.remove(at).0);
            }
            next = header.next_offset();
            if header.attributes.is_control() {
                skipping.retain(|id| *id != header.producer_id);
                continue;
            }
            if header.attributes.is_transactional() && skipping.contains(&header.producer_id) {
                continue;
            }
            let mut records = batch.records(Limits::default()).unwrap();
            while let Some(record) = records.next_record() {
                let value = record.unwrap().value.unwrap().to_vec();
                values.push(String::from_utf8(value).unwrap());
            }
        }
        if next == before {
            return (values, data.last_stable_offset);
        }
    }
}

fn seen(h: &mut Harness) -> [Vec<String>; 2] {
    [0, 1].map(|partition| committed(h, partition).0)
}

fn producers(h: &mut Harness, partition: i32) -> Vec<ProducerState> {
    let request = DescribeProducersRequest {
        topics: vec![TopicRequest {
            name: "t".into(),
            partition_indexes: vec![partition],
        }],
    };
    match h.ask(0, Request::DescribeProducers(request)) {
        Response::DescribeProducers(mut response) => {
            response
                .topics
                .remove(0)
                .partitions
                .remove(0)
                .active_producers
        }
        other => panic!("{other:?}"),
    }
}

/// What the group committed for `t-0`, if it is told.
fn offset(h: &mut Harness, require_stable: bool) -> Result<i64, ErrorCode> {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                partition_indexes: vec![0],
                ..Default::default()
            }]),
            ..Default::default()
        }],
        require_stable,
        ..Default::default()
    };
    let Response::OffsetFetch(response) = h.ask(8, Request::OffsetFetch(request)) else {
        panic!()
    };
    let partition = &response.groups[0].topics[0].partitions[0];
    match partition.error_code {
        ErrorCode::NONE => Ok(partition.committed_offset),
        error => Err(error),
    }
}

fn state(h: &Harness, name: &str) -> Str {
    h.broker
        .transactions
        .describe(&name.into())
        .transaction_state
}

fn with_topic(durability: Durability) -> Harness {
    let mut h = Harness::new(durability);
    h.create_topic("t", 2, &[]);
    h
}

fn os() -> Harness {
    with_topic(Durability::Os)
}

#[test]
fn committed_together_or_not_at_all() {
    for v2 in [false, true] {
        let mut h = os();
        h.produce("t", 0, batch(&["before"]));
        let mut p = Producer::start(&mut h, "x", v2);
        for (round, commit) in [true, false, true, false, false, true]
            .into_iter()
            .enumerate()
        {
            p.add(&mut h, &[0, 1]);
            let value = alloc::format!("{round}");
            let before = seen(&mut h);
            assert_eq!(p.produce(&mut h, 0, &[&value, "a"]), ErrorCode::NONE);
            assert_eq!(p.produce(&mut h, 1, &[&value]), ErrorCode::NONE);
            assert_eq!(p.produce(&mut h, 0, &["b"]), ErrorCode::NONE);
            assert_eq!(seen(&mut h), before, "not before it is committed");
            assert_eq!(state(&h, "x"), "Ongoing");
            assert_eq!(p.end(&mut h, commit), ErrorCode::NONE);
            let mut expected = before;
            if commit {
                expected[0].extend([value.clone(), "a".into(), "b".into()]);
                expected[1].push(value);
            }
            assert_eq!(seen(&mut h), expected);
            if round == 2 {
                h = h.restart(round % 2 == 0);
                assert_eq!(seen(&mut h), expected, "after a restart");
            }
        }
        // Everything is in the log, with a marker for each transaction.
        assert_eq!(h.fetch("t", 1, 0).high_watermark, 12);
        assert_eq!(committed(&mut h, 1).1, 12);
    }
}

#[test]
fn a_partition_that_was_not_added() {
    for (version, error) in [
        (9, ErrorCode::INVALID_TXN_STATE),
        (10, ErrorCode::INVALID_TXN_STATE),
        (11, ErrorCode::TRANSACTION_ABORTABLE),
        (12, ErrorCode::NONE),
    ] {
        let mut h = os();
        let mut p = Producer::start(&mut h, "x", false);
        p.add(&mut h, &[0]);
        assert_eq!(p.produce(&mut h, 0, &["a"]), ErrorCode::NONE);
        let records = p.batch(1, &["b"]);
        let answer = produced(h.ask(version, p.produce_request(1, records)));
        assert_eq!(answer.error_code, error, "{version}");
    }
}

#[test]
fn batches_that_are_not_of_the_transaction() {
    let mut h = os();
    let mut p = Producer::start(&mut h, "x", true);
    assert_eq!(p.produce(&mut h, 0, &["a"]), ErrorCode::NONE);
    let (producer_id, producer_epoch) = p.producer;
    let options = FinishOptions {
        producer_id,
        producer_epoch,
        base_sequence: 1,
        ..FinishOptions::default()
    };
    let plain = keyed_batch(None, &["b"], options);
    let answer = produced(h.ask(12, p.produce_request(0, plain.clone())));
    assert_eq!(answer.error_code, ErrorCode::INVALID_TXN_STATE);
    let next = transactional(p.producer, 1, &["b"]);
    let anonymous = h.produce("t", 0, next.clone());
    let unauthorized = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    assert_eq!(anonymous.error_code, unauthorized);
    // Of another transactional id, and one that nobody knows.
    let mut other = Producer::start(&mut h, "y", true);
    other.producer = p.producer;
    assert_eq!(
        other.produce(&mut h, 1, &["b"]),
        ErrorCode::INVALID_PRODUCER_ID_MAPPING
    );
    let mut unknown = Producer::new("z", true, p.producer);
    assert_eq!(
        unknown.produce(&mut h, 1, &["b"]),
        ErrorCode::INVALID_PRODUCER_ID_MAPPING
    );
    // A gap at the beginning.
    let gap = transactional(p.producer, 7, &["b"]);
    let id = p.send_records(&mut h, 1, gap);
    let answer = produced(h.take_answer(id).unwrap());
    assert_eq!(answer.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    // What is there already.
    let again = transactional(p.producer, 0, &["a"]);
    let id = p.send_records(&mut h, 0, again);
    assert_eq!(produced(h.take_answer(id).unwrap()).base_offset, 0);
}

#[test]
fn zombies_do_not_get_through() {
    for v2 in [false, true] {
        let mut h = os();
        let mut zombie = Producer::start(&mut h, "x", v2);
        zombie.add(&mut h, &[0]);
        assert_eq!(zombie.produce(&mut h, 0, &["zombie"]), ErrorCode::NONE);
        // The new instance waits for the transaction to be aborted, which here is at once.
        let request = Request::InitProducerId(
            ottla_protocol::messages::init_producer_id::InitProducerIdRequest {
                transactional_id: Some("x".into()),
                transaction_timeout_ms: 60_000,
                ..Default::default()
            },
        );
        let Response::InitProducerId(answer) = h.ask(4, request) else {
            panic!()
        };
        assert_eq!(answer.error_code, ErrorCode::CONCURRENT_TRANSACTIONS);
        let mut p = Producer::start(&mut h, "x", v2);
        assert_eq!(p.producer, (zombie.producer.0, zombie.producer.1 + 2));
        let old = ErrorCode::INVALID_PRODUCER_EPOCH;
        for partition in [0, 1] {
            assert_eq!(zombie.clone().produce(&mut h, partition, &["z"]), old);
        }
        assert_eq!(zombie.commit_offset(&mut h, 5), old);
        let fenced = ErrorCode::PRODUCER_FENCED;
        assert_eq!(added(h.ask(3, zombie.add_request(&[0]))), fenced);
        assert_eq!(zombie.end(&mut h, true), fenced);
        p.add(&mut h, &[0, 1]);
        assert_eq!(p.produce(&mut h, 0, &["new"]), ErrorCode::NONE);
        for partition in [0, 1] {
            assert_eq!(zombie.clone().produce(&mut h, partition, &["z"]), old);
        }
        assert_eq!(zombie.end(&mut h, true), fenced);
        assert_eq!(p.end(&mut h, true), ErrorCode::NONE);
        assert_eq!(seen(&mut h), [vec!["new"], vec![]]);
        assert_eq!(offset(&mut h, true), Ok(-1));
    }
}

#[test]
fn a_late_marker_does_not_end_the_next_transaction() {
    let mut h = os();
    let mut p = Producer::start(&mut h, "x", true);
    let marker = |epoch: i16, transaction_version, coordinator_epoch| {
        let marker = WritableTxnMarker {
            producer_id: 0,
            producer_epoch: epoch,
            transaction_result: false,
            topics: vec![WritableTxnMarkerTopic {
                name: "t".into(),
                partition_indexes: vec![0],
            }],
            coordinator_epoch,
            transaction_version,
        };
        Request::WriteTxnMarkers(WriteTxnMarkersRequest {
            markers: vec![marker],
        })
    };
    let code = |h: &mut Harness, request| match h.ask(2, request) {
        Response::WriteTxnMarkers(r) => r.markers[0].topics[0].partitions[0].error_code,
        other => panic!("{other:?}"),
    };
    p.produce(&mut h, 0, &["a"]);
    p.end(&mut h, true);
    p.produce(&mut h, 0, &["b"]);
    // The marker of the first transaction once more; the second one's records have its epoch.
    let old = ErrorCode::INVALID_PRODUCER_EPOCH;
    assert_eq!(code(&mut h, marker(p.producer.1, 2, 0)), old);
    assert_eq!(code(&mut h, marker(p.producer.1 - 1, 0, 0)), old);
    p.end(&mut h, true);
    assert_eq!(seen(&mut h)[0], ["a", "b"]);
    let no_more = code(&mut h, marker(p.producer.1, 2, 0));
    assert_eq!(
        no_more,
        ErrorCode::NONE,
        "there is nothing that it could end"
    );
}

#[test]
fn answers_wait_for_the_disk_and_nothing_else() {
    let mut h = with_topic(Durability::Fsync);
    let init = h.send(
        4,
        Request::InitProducerId(
            ottla_protocol::messages::init_producer_id::InitProducerIdRequest {
                transactional_id: Some("x".into()),
                transaction_timeout_ms: 60_000,
                ..Default::default()
            },
        ),
    );
    assert_eq!(h.take_answer(init), None);
    h.sync_all();
    let Some(Response::InitProducerId(answer)) = h.take_answer(init) else {
        panic!()
    };
    let mut p = Producer::new("x", true, (answer.producer_id, answer.producer_epoch));
    // Three at once: they wait for the partition to be added, and go in in their order.
    let sent = [["a"], ["b"], ["c"]].map(|values| p.send_batch(&mut h, 0, &values));
    assert_eq!(
        h.broker.topics.by_name("t").map(|t| t.partitions.len()),
        Some(2)
    );
    assert_eq!(h.fetch("t", 0, 0).high_watermark, 0);
    h.sync_one();
    assert!(
        sent.iter()
            .all(|id| !h.answers.iter().any(|(_, of, _)| of == id))
    );
    h.sync_all();
    for (id, base_offset) in sent.into_iter().zip(0..) {
        let answer = produced(h.take_answer(id).unwrap());
        let expected = (ErrorCode::NONE, base_offset);
        assert_eq!((answer.error_code, answer.base_offset), expected);
    }
    let end = h.send(5, p.end_request(true));
    assert_eq!(h.take_answer(end), None);
    assert_eq!(
        h.syncs.len(),
        1,
        "of the decision; the marker is not written yet"
    );
    h.sync_one();
    let answer = ended(h.take_answer(end).unwrap());
    assert_eq!(answer.error_code, ErrorCode::NONE);
    assert_eq!(state(&h, "x"), "PrepareCommit");
    assert_eq!(committed(&mut h, 0), (vec![], 0), "nor is it seen");
    // The next transaction begins as soon as this one is complete.
    p.goes_on_as((answer.producer_id, answer.producer_epoch));
    let next = p.send_batch(&mut h, 0, &["d"]);
    h.sync_one();
    assert_eq!(committed(&mut h, 0).0, ["a", "b", "c"]);
    assert_eq!(h.take_answer(next), None);
    h.sync_all();
    let answer = produced(h.take_answer(next).unwrap());
    assert_eq!(
        (answer.error_code, answer.base_offset),
        (ErrorCode::NONE, 4)
    );
    assert_eq!(
        committed(&mut h, 0),
        (vec!["a".into(), "b".into(), "c".into()], 4)
    );
}

#[test]
fn who_waits_too_long_is_told() {
    for (v2, error) in [
        (true, ErrorCode::CONCURRENT_TRANSACTIONS),
        (false, ErrorCode::NOT_ENOUGH_REPLICAS),
    ] {
        let mut h = with_topic(Durability::Fsync);
        let init = Producer::new("x", true, (0, 0));
        let id = h.send(
            4,
            Request::InitProducerId(
                ottla_protocol::messages::init_producer_id::InitProducerIdRequest {
                    transactional_id: Some("x".into()),
                    transaction_timeout_ms: 60_000,
                    ..Default::default()
                },
            ),
        );
        h.sync_all();
        assert!(h.take_answer(id).is_some());
        let mut p = Producer { v2, ..init };
        h.send(3, p.add_request(&[0]));
        let sent = [["a"], ["b"]].map(|values| p.send_batch(&mut h, 0, &values));
        let commit = h.send(if v2 { 5 } else { 3 }, p.offsets_request(1));
        h.pass_ms(999);
        assert!(
            sent.iter()
                .all(|id| !h.answers.iter().any(|(_, of, _)| of == id))
        );
        h.pass_ms(1);
        for id in sent {
            assert_eq!(produced(h.take_answer(id).unwrap()).error_code, error);
        }
        let concurrent = ErrorCode::CONCURRENT_TRANSACTIONS;
        assert_eq!(
            offsets_committed(h.take_answer(commit).unwrap()),
            concurrent
        );
        h.sync_all();
        assert_eq!(h.fetch("t", 0, 0).high_watermark, 0);
    }
}

#[test]
fn offsets_are_part_of_it() {
    for v2 in [false, true] {
        for restart in [false, true] {
            let mut h = os();
            let mut p = Producer::start(&mut h, "x", v2);
            assert_eq!(p.commit_offset(&mut h, 5), ErrorCode::NONE);
            let unstable = Err(ErrorCode::UNSTABLE_OFFSET_COMMIT);
            assert_eq!(
                (offset(&mut h, true), offset(&mut h, false)),
                (unstable, Ok(-1))
            );
            if restart {
                h = h.restart(false);
                assert_eq!(offset(&mut h, true), unstable);
            }
            assert_eq!(p.commit_offset(&mut h, 6), ErrorCode::NONE);
            assert_eq!(p.end(&mut h, true), ErrorCode::NONE);
            if restart {
                h = h.restart(true);
            }
            assert_eq!(offset(&mut h, true), Ok(6));
            assert_eq!(p.commit_offset(&mut h, 7), ErrorCode::NONE);
            assert_eq!(
                (offset(&mut h, true), offset(&mut h, false)),
                (unstable, Ok(6))
            );
            assert_eq!(p.end(&mut h, false), ErrorCode::NONE);
            assert_eq!(offset(&mut h, true), Ok(6));
            let mut h = h.restart(false);
            assert_eq!(offset(&mut h, true), Ok(6));
        }
    }
}

#[test]
fn offsets_of_a_group_that_was_not_added() {
    for (version, error) in [
        (3, ErrorCode::INVALID_TXN_STATE),
        (4, ErrorCode::TRANSACTION_ABORTABLE),
        (5, ErrorCode::NONE),
    ] {
        let mut h = os();
        let p = Producer::start(&mut h, "x", false);
        let answer = h.ask(version, p.offsets_request(1));
        assert_eq!(offsets_committed(answer), error, "{version}");
    }
}

#[test]
fn a_long_poll_ends_when_the_transaction_does() {
    let mut h = os();
    let mut p = Producer::start(&mut h, "x", true);
    h.produce("t", 0, batch(&["before"]));
    p.produce(&mut h, 0, &["a"]);
    let Request::Fetch(mut request) = fetch_request("t", 0, 1, 10_000) else {
        panic!()
    };
    request.isolation_level = 1;
    let id = h.send(11, Request::Fetch(request.clone()));
    h.produce("t", 0, batch(&["behind"]));
    p.produce(&mut h, 0, &["b"]);
    assert_eq!(h.take_answer(id), None, "nothing that it may see has come");
    let other = Producer::start(&mut h, "y", true);
    let mut other = other;
    other.produce(&mut h, 0, &["c"]);
    assert_eq!(p.end(&mut h, true), ErrorCode::NONE);
    let data = fetched(h.take_answer(id).expect("the transaction is over"));
    assert_eq!((data.last_stable_offset, data.high_watermark), (4, 6));
    assert_eq!(crate::testing::values(&data.records), ["a", "behind", "b"]);
    request.topics[0].partitions[0].fetch_offset = 4;
    let id = h.send(11, Request::Fetch(request));
    assert_eq!(other.end(&mut h, false), ErrorCode::NONE);
    let data = fetched(h.take_answer(id).expect("that one too"));
    assert_eq!(data.last_stable_offset, 7);
    assert_eq!(data.aborted_transactions.map(|all| all.len()), Some(1));
}

#[test]
fn the_latest_offset_depends_on_who_asks() {
    let mut h = os();
    let mut p = Producer::start(&mut h, "x", true);
    h.produce("t", 0, batch(&["a"]));
    p.produce(&mut h, 0, &["b"]);
    let latest = |h: &mut Harness, isolation_level| {
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level,
            topics: vec![ListOffsetsTopic {
                name: "t".into(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: 0,
                    current_leader_epoch: -1,
                    timestamp: -1,
                }],
            }],
            ..Default::default()
        };
        match h.ask(7, Request::ListOffsets(request)) {
            Response::ListOffsets(r) => r.topics[0].partitions[0].offset,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((latest(&mut h, 0), latest(&mut h, 1)), (2, 1));
    p.end(&mut h, false);
    assert_eq!((latest(&mut h, 0), latest(&mut h, 1)), (3, 3));
}

#[test]
fn a_producer_that_takes_too_long_loses() {
    for v2 in [false, true] {
        let mut h = os();
        let mut p = Producer::start(&mut h, "x", v2);
        p.add(&mut h, &[0]);
        p.produce(&mut h, 0, &["a"]);
        p.commit_offset(&mut h, 3);
        h.pass_ms(50_000);
        h.pass_ms(10_000);
        assert_eq!(state(&h, "x"), "Ongoing");
        h.pass_ms(10_001);
        assert_eq!(state(&h, "x"), "CompleteAbort");
        assert_eq!(offset(&mut h, true), Ok(-1));
        let old = ErrorCode::INVALID_PRODUCER_EPOCH;
        assert_eq!(p.produce(&mut h, 0, &["b"]), old);
        let error = match v2 {
            true => ErrorCode::INVALID_TXN_STATE,
            false => ErrorCode::PRODUCER_FENCED,
        };
        assert_eq!(p.end(&mut h, true), error);
        assert_eq!(committed(&mut h, 0), (vec![], 2));
    }
}

/// Puts a transaction into the log of `t-0` that no coordinator knows.
fn hang(h: &Harness, timestamp: i64) {
    let (mut log, _) = PartitionLog::open(
        h.storage.clone(),
        "t-0",
        LogConfig::default(),
        h.now,
        OpenOptions::default(),
    )
    .unwrap();
    let options = FinishOptions {
        producer_id: 900,
        producer_epoch: 4,
        base_sequence: 0,
        transactional: true,
        ..FinishOptions::default()
    };
    let records = crate::testing::batch_at(timestamp, None, &["hangs"], options);
    let bytes = records.to_bytes();
    let header = BatchHeader::parse(&bytes).unwrap();
    log.append(bytes, &header, 0, h.now).unwrap();
}

#[test]
fn a_transaction_that_hangs_is_ended_at_the_start() {
    let h = os();
    hang(&h, h.now.wall_ms);
    let mut h = h.restart(false);
    assert_eq!(committed(&mut h, 0), (vec![], 2));
    let shown = producers(&mut h, 0);
    assert_eq!((shown[0].producer_id, shown[0].producer_epoch), (900, 4));
    assert_eq!(shown[0].current_txn_start_offset, -1);
    let told = h.warnings.concat();
    assert!(
        told.contains("t-0: aborted the transaction of producer 900"),
        "{told}"
    );
}

#[test]
fn an_open_transaction_that_the_coordinator_has_is_left_alone() {
    for v2 in [false, true] {
        let mut h = os();
        let mut p = Producer::start(&mut h, "x", v2);
        p.add(&mut h, &[0]);
        p.produce(&mut h, 0, &["a"]);
        p.commit_offset(&mut h, 1);
        let mut h = h.restart(false);
        assert_eq!(committed(&mut h, 0), (vec![], 0));
        assert_eq!(producers(&mut h, 0)[0].current_txn_start_offset, 0);
        assert_eq!(p.produce(&mut h, 0, &["b"]), ErrorCode::NONE);
        assert_eq!(p.end(&mut h, true), ErrorCode::NONE);
        assert_eq!(committed(&mut h, 0).0, ["a", "b"]);
        assert_eq!(offset(&mut h, true), Ok(1));
    }
}

#[test]
fn nothing_is_ended_where_the_state_is_damaged() {
    let mut h = os();
    let mut p = Producer::start(&mut h, "x", true);
    p.produce(&mut h, 0, &["a"]);
    // A record that can't be read may be the one of this transaction.
    let records = [crate::groups::CoordinatorRecord {
        key: bytes::Bytes::from_static(b"\0\x09?"),
        value: None,
    }];
    h.broker.ensure_transactions_topic(h.now).unwrap();
    let token = super::TransactionToken(u64::MAX);
    let [record] = records;
    h.broker.append_for_transaction(h.now, 0, record, token);
    hang(&h, h.now.wall_ms);
    let mut h = h.restart(false);
    let open = |h: &mut Harness| {
        let all = producers(h, 0);
        all.iter()
            .filter(|p| p.current_txn_start_offset >= 0)
            .count()
    };
    assert_eq!(open(&mut h), 2);
    // An administrator finds it and ends it.
    let found = producers(&mut h, 0)
        .into_iter()
        .find(|p| p.producer_id == 900);
    let found = found.unwrap();
    let marker = WritableTxnMarker {
        producer_id: found.producer_id,
        producer_epoch: found.producer_epoch as i16,
        transaction_result: false,
        topics: vec![WritableTxnMarkerTopic {
            name: "t".into(),
            partition_indexes: vec![0, 5],
        }],
        coordinator_epoch: -1,
        transaction_version: 0,
    };
    let request = WriteTxnMarkersRequest {
        markers: vec![marker],
    };
    let Response::WriteTxnMarkers(answer) = h.ask(1, Request::WriteTxnMarkers(request)) else {
        panic!()
    };
    let codes = answer.markers[0].topics[0].partitions.iter();
    let codes: Vec<ErrorCode> = codes.map(|p| p.error_code).collect();
    assert_eq!(
        codes,
        [ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]
    );
    assert_eq!(open(&mut h), 1);
    assert_eq!(p.end(&mut h, true), ErrorCode::NONE);
    assert_eq!(committed(&mut h, 0).0, ["a"]);
}

#[test]
fn a_topic_may_go_in_the_middle() {
    let mut h = os();
    h.create_topic("gone", 1, &[]);
    let mut p = Producer::start(&mut h, "x", true);
    p.produce(&mut h, 0, &["a"]);
    let Request::Produce(mut request) = p.produce_request(0, transactional(p.producer, 0, &["b"]))
    else {
        panic!()
    };
    request.topic_data[0].name = "gone".into();
    let answer = produced(h.ask(12, Request::Produce(request)));
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let request = DeleteTopicsRequest {
        topic_names: vec!["gone".into()],
        ..Default::default()
    };
    h.ask(5, Request::DeleteTopics(request));
    assert_eq!(p.end(&mut h, true), ErrorCode::NONE);
    assert_eq!(state(&h, "x"), "CompleteCommit");
    assert_eq!(committed(&mut h, 0).0, ["a"]);
}

#[test]
fn a_topic_that_goes_while_its_marker_is_written() {
    let mut h = with_topic(Durability::Fsync);
    let mut p = open_transaction(&mut h, true);
    p.send_batch(&mut h, 0, &["c"]);
    h.sync_all();
    let end = h.send(5, p.end_request(true));
    h.sync_one();
    assert!(h.take_answer(end).is_some());
    assert_eq!(state(&h, "x"), "PrepareCommit");
    let request = DeleteTopicsRequest {
        topic_names: vec!["t".into()],
        ..Default::default()
    };
    h.ask(5, Request::DeleteTopics(request));
    h.sync_all();
    assert_eq!(state(&h, "x"), "CompleteCommit");
}

#[test]
fn records_may_be_deleted_in_the_middle() {
    let mut h = os();
    let mut p = Producer::start(&mut h, "x", true);
    p.produce(&mut h, 0, &["a", "b"]);
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "t".into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset: 1,
            }],
        }],
        ..Default::default()
    };
    h.ask(2, Request::DeleteRecords(request));
    let Request::Fetch(mut request) = fetch_request("t", 0, 1, 0) else {
        panic!()
    };
    request.isolation_level = 1;
    let data = fetched(h.ask(11, Request::Fetch(request)));
    assert_eq!((data.log_start_offset, data.last_stable_offset), (1, 1));
    assert_eq!(p.end(&mut h, true), ErrorCode::NONE);
}

/// A producer with an open transaction with "a" in partition 0 and "b" in partition 1, and 9 as its group's offset: all durable.
fn open_transaction(h: &mut Harness, v2: bool) -> Producer {
    let id = h.send(
        4,
        Request::InitProducerId(
            ottla_protocol::messages::init_producer_id::InitProducerIdRequest {
                transactional_id: Some("x".into()),
                transaction_timeout_ms: 60_000,
                ..Default::default()
            },
        ),
    );
    h.sync_all();
    let Some(Response::InitProducerId(answer)) = h.take_answer(id) else {
        panic!()
    };
    let mut p = Producer::new("x", v2, (answer.producer_id, answer.producer_epoch));
    if !v2 {
        h.send(3, p.add_request(&[0, 1]));
        h.sync_all();
        let request = AddOffsetsToTxnRequest {
            transactional_id: "x".into(),
            producer_id: p.producer.0,
            producer_epoch: p.producer.1,
            group_id: "g".into(),
        };
        h.send(3, Request::AddOffsetsToTxn(request));
        h.sync_all();
    }
    p.send_batch(h, 0, &["a"]);
    p.send_batch(h, 1, &["b"]);
    h.send(if v2 { 5 } else { 3 }, p.offsets_request(9));
    h.sync_all();
    p
}

#[test]
fn a_crash_at_any_moment_tears_nothing() {
    for (v2, commit) in [(false, true), (false, false), (true, true), (true, false)] {
        let mut steps = 0;
        for crash_after in 0..12 {
            for clean in [false, true] {
                let mut h = with_topic(Durability::Fsync);
                let mut p = open_transaction(&mut h, v2);
                let end = h.send(p.end_version(), p.end_request(commit));
                let mut done = 0;
                while done < crash_after && !h.syncs.is_empty() {
                    h.sync_one();
                    done += 1;
                }
                steps = steps.max(done);
                let answer = h.take_answer(end).map(ended);
                let before = (committed(&mut h, 0).0, committed(&mut h, 1).0);
                let mut h = h.restart(clean);
                h.sync_all();
                // What was written of the decision counts, whether it was answered or not.
                let shown = state(&h, "x");
                let values = seen(&mut h);
                let whole = [vec![String::from("a")], vec![String::from("b")]];
                match &*shown {
                    "Ongoing" => {
                        assert!(answer.is_none());
                        assert_eq!(values, [const { Vec::<String>::new() }; 2]);
                        assert_eq!(offset(&mut h, true), Err(ErrorCode::UNSTABLE_OFFSET_COMMIT));
                    }
                    "CompleteCommit" => {
                        assert!(commit);
                        assert_eq!((&values, offset(&mut h, true)), (&whole, Ok(9)));
                    }
                    "CompleteAbort" => {
                        assert!(!commit);
                        assert_eq!(values, [const { Vec::<String>::new() }; 2]);
                        assert_eq!(offset(&mut h, true), Ok(-1));
                    }
                    other => panic!("{other}"),
                }
                for (now, before) in values.iter().zip([before.0, before.1]) {
                    assert!(now.starts_with(&before), "what was seen stays");
                }
                // The client asks again, as one does whose connection broke.
                let again = h.send(p.end_version(), p.end_request(commit));
                h.sync_all();
                let again = ended(h.take_answer(again).unwrap());
                assert_eq!(again.error_code, ErrorCode::NONE);
                if let Some(answer) = answer {
                    assert_eq!(again, answer);
                }
                // And goes on.
                if v2 {
                    p.goes_on_as((again.producer_id, again.producer_epoch));
                } else {
                    h.send(3, p.add_request(&[0]));
                    h.sync_all();
                }
                let id = p.send_batch(&mut h, 0, &["next"]);
                h.sync_all();
                let answer = produced(h.take_answer(id).unwrap());
                assert_eq!(answer.error_code, ErrorCode::NONE);
            }
        }
        assert!(steps >= 4, "decision, markers, completion: {steps}");
    }
}

#[test]
fn a_close_in_the_middle_of_everything() {
    let mut h = with_topic(Durability::Fsync);
    let mut p = open_transaction(&mut h, true);
    let end = h.send(5, p.end_request(true));
    let end_answer = {
        h.sync_one();
        ended(h.take_answer(end).unwrap())
    };
    p.goes_on_as((end_answer.producer_id, end_answer.producer_epoch));
    let parked = p.send_batch(&mut h, 0, &["next"]);
    let offsets = h.send(5, p.offsets_request(10));
    h.close();
    let answer = produced(h.take_answer(parked).unwrap());
    assert_eq!(answer.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let answer = offsets_committed(h.take_answer(offsets).unwrap());
    assert_eq!(answer, ErrorCode::NOT_COORDINATOR);
    let mut h = h.restart(false);
    h.sync_all();
    assert_eq!(seen(&mut h), [vec!["a"], vec!["b"]]);
    assert_eq!(state(&h, "x"), "CompleteCommit");
}

#[test]
fn a_log_that_fails_keeps_the_transaction_from_being_complete() {
    let mut h = with_topic(Durability::Fsync);
    let p = open_transaction(&mut h, true);
    let end = h.send(5, p.end_request(true));
    h.sync_one();
    assert!(h.take_answer(end).is_some());
    // The first of the markers.
    h.fail_sync();
    h.sync_all();
    assert_eq!(state(&h, "x"), "PrepareCommit");
    let mut h = h.restart(false);
    h.sync_all();
    assert_eq!(state(&h, "x"), "CompleteCommit");
    assert_eq!(seen(&mut h), [vec!["a"], vec!["b"]]);
    assert_eq!(offset(&mut h, true), Ok(9));
}

/// An initialised producer of version 2 where answers wait for the disk. What an earlier one left open is aborted first.
fn begun(h: &mut Harness, name: &'static str) -> Producer {
    for _ in 0..3 {
        let request = ottla_protocol::messages::init_producer_id::InitProducerIdRequest {
            transactional_id: Some(name.into()),
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let id = h.send(4, Request::InitProducerId(request));
        h.sync_all();
        match h.take_answer(id) {
            Some(Response::InitProducerId(r)) if r.error_code == ErrorCode::NONE => {
                return Producer::new(name, true, (r.producer_id, r.producer_epoch));
            }
            Some(Response::InitProducerId(r)) => {
                assert_eq!(r.error_code, ErrorCode::CONCURRENT_TRANSACTIONS);
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("it is never ready")
}

#[test]
fn who_waits_for_a_log_that_fails_is_refused() {
    let mut h = with_topic(Durability::Fsync);
    let mut p = begun(&mut h, "x");
    let sent = [["a"], ["b"]].map(|values| p.send_batch(&mut h, 0, &values));
    let commit = h.send(5, p.offsets_request(1));
    let is_answered = |h: &Harness, id| h.answers.iter().any(|(_, of, _)| *of == id);
    assert!(sent.iter().all(|id| !is_answered(&h, *id)) && !is_answered(&h, commit));
    // The record of __transaction_state that adds the partition.
    h.fail_sync();
    for id in sent {
        let answer = produced(h.take_answer(id).expect("refused at once"));
        assert_eq!(answer.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    let answer = h.take_answer(commit).expect("refused at once");
    assert_eq!(offsets_committed(answer), ErrorCode::NOT_COORDINATOR);
    // And who comes later doesn't wait either.
    let late = p.send_batch(&mut h, 1, &["c"]);
    let answer = produced(h.take_answer(late).expect("refused at once"));
    assert_eq!(answer.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert!(h.syncs.is_empty(), "nothing is under way");
    assert_eq!(h.fetch("t", 0, 0).high_watermark, 0);

    let mut h = h.restart(false);
    let mut p = begun(&mut h, "x");
    let id = p.send_batch(&mut h, 0, &["d"]);
    h.sync_all();
    let answer = produced(h.take_answer(id).unwrap());
    assert_eq!(answer.error_code, ErrorCode::NONE);
}

#[test]
fn a_failed_log_of_the_state_lets_nothing_in() {
    let mut h = with_topic(Durability::Fsync);
    let mut p = begun(&mut h, "x");
    let first = p.send_batch(&mut h, 0, &["a"]);
    h.sync_all();
    let answer = produced(h.take_answer(first).unwrap());
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let waits = p.send_batch(&mut h, 1, &["b"]);
    h.fail_sync();
    let answer = produced(h.take_answer(waits).expect("refused at once"));
    assert_eq!(answer.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    // Partition 0 is in the transaction, and its log is well.
    let later = p.send_batch(&mut h, 0, &["c"]);
    let answer = produced(h.take_answer(later).expect("refused at once"));
    assert_eq!(answer.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let commit = h.send(5, p.offsets_request(1));
    let answer = h.take_answer(commit).expect("refused at once");
    assert_eq!(offsets_committed(answer), ErrorCode::NOT_COORDINATOR);
    assert_eq!(h.fetch("t", 0, 0).high_watermark, 1);
}

#[test]
fn a_failed_log_of_the_state_answers_for_nothing() {
    let mut h = with_topic(Durability::Fsync);
    let p = begun(&mut h, "x");
    let p = Producer::new("x", false, p.producer);
    let add = |h: &mut Harness, partition, well| {
        let id = h.send(3, p.add_request(&[partition]));
        match well {
            true => h.sync_all(),
            false if h.syncs.is_empty() => {}
            false => h.fail_sync(),
        }
        let Some(Response::AddPartitionsToTxn(answer)) = h.take_answer(id) else {
            panic!("it is answered")
        };
        answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    };
    assert_eq!(add(&mut h, 0, true), ErrorCode::NONE);
    assert_eq!(add(&mut h, 1, false), ErrorCode::NOT_COORDINATOR);
    // It has the partition already, and needs no record for that.
    assert_eq!(add(&mut h, 0, false), ErrorCode::NOT_COORDINATOR);
    let end = h.send(4, p.end_request(true));
    let Some(Response::EndTxn(answer)) = h.take_answer(end) else {
        panic!("it is answered")
    };
    assert_eq!(answer.error_code, ErrorCode::NOT_COORDINATOR);
    let shown = h.broker.transactions.describe(&"x".into());
    assert_eq!(shown.error_code, ErrorCode::NOT_COORDINATOR);
}

#[test]
fn the_topic_of_the_state() {
    let mut h = os();
    assert!(h.broker.topics.by_name(crate::TRANSACTIONS_TOPIC).is_none());
    Producer::start(&mut h, "x", true);
    let topic = h.broker.topics.by_name(crate::TRANSACTIONS_TOPIC).unwrap();
    assert_eq!(topic.partitions.len(), 4);
    assert!(topic.internal && topic.config.cleanup_compact && !topic.config.cleanup_delete);
}
