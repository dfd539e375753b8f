//! Tests: what is acknowledged and visible when, and what a crash, a stop and a failing disk leave.

use std::vec;

use ottla_log::{StorageError, StorageErrorKind};
use ottla_protocol::{
    ErrorCode, Request, Response,
    messages::{
        list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
        offset_commit::{
            OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
        },
        offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic},
        produce::PartitionProduceData,
    },
};

use crate::{
    Broker, BrokerConfig, Durability,
    testing::{
        Harness, batch, fetch_request, fetched, produce_request, produced, sequenced, values,
    },
};

fn os() -> Harness {
    let mut h = Harness::new(Durability::Os);
    h.create_topic("t", 2, &[]);
    h
}

fn fsync() -> Harness {
    let mut h = Harness::new(Durability::Fsync);
    h.create_topic("t", 2, &[]);
    h
}

#[test]
fn nothing_is_acknowledged_or_visible_before_it_is_synced() {
    let mut h = fsync();
    let first = h.send_produce("t", 0, -1, batch(&["a"]));
    assert!(h.take_answer(first).is_none());
    assert_eq!(h.syncs.len(), 1);
    let data = h.fetch("t", 0, 0);
    assert_eq!((data.high_watermark, data.records.len()), (0, 0));

    // Group commit: while one sync is under way, the next collects.
    let second = h.send_produce("t", 0, -1, batch(&["b"]));
    let third = h.send_produce("t", 0, -1, batch(&["c"]));
    assert_eq!(h.syncs.len(), 1);
    h.sync_one();
    assert_eq!(produced(h.take_answer(first).unwrap()).base_offset, 0);
    assert!(h.take_answer(second).is_none());
    assert_eq!(h.fetch("t", 0, 0).high_watermark, 1);
    assert_eq!(h.syncs.len(), 1);
    h.sync_one();
    assert_eq!(produced(h.take_answer(second).unwrap()).base_offset, 1);
    assert_eq!(produced(h.take_answer(third).unwrap()).base_offset, 2);
    assert!(h.syncs.is_empty());
    assert_eq!(values(&h.fetch("t", 0, 0).records), ["a", "b", "c"]);
}

#[test]
fn a_sync_waits_for_those_whom_the_last_one_answered() {
    let mut h = fsync();
    let first = h.send_produce("t", 0, -1, batch(&["a"]));
    let second = h.send_produce("t", 0, -1, batch(&["b"]));
    h.pass_ms(10); // so long does the sync take
    h.sync_one();
    assert!(h.take_answer(first).is_some());
    assert!(h.syncs.is_empty(), "the first may be back soon");
    h.pass_ms(9);
    assert!(h.syncs.is_empty());
    let again = h.send_produce("t", 0, -1, batch(&["c"]));
    assert_eq!(h.syncs.len(), 1, "nobody is left to wait for");
    h.pass_ms(5);
    h.sync_one();
    assert!(h.take_answer(second).is_some() && h.take_answer(again).is_some());

    // Other partitions don't wait, and nobody waits for long.
    let alone = h.send_produce("t", 0, -1, batch(&["d"]));
    assert!(h.syncs.is_empty());
    h.send_produce("t", 1, -1, batch(&["e"]));
    assert_eq!(h.syncs.len(), 1);
    h.pass_ms(5);
    assert_eq!(h.syncs.len(), 2);
    h.sync_all();
    assert!(h.take_answer(alone).is_some());
    assert_eq!(h.fetch("t", 0, 0).high_watermark, 4);
}

#[test]
fn acks_of_one_means_visible() {
    let mut h = fsync();
    let all = h.send_produce("t", 0, -1, batch(&["a"]));
    let one = h.send_produce("t", 0, 1, batch(&["b"]));
    h.send_produce("t", 0, 0, batch(&["c"]));
    assert_eq!(h.fetch("t", 0, 0).high_watermark, 0);
    h.sync_one();
    assert!(h.take_answer(all).is_some());
    assert!(h.take_answer(one).is_none());
    // Who waits for records is answered by the very sync that shows them, and so is who wrote them.
    let waiting = h.send(11, fetch_request("t", 0, 1, 10_000));
    assert!(h.take_answer(waiting).is_none());
    h.sync_one();
    assert_eq!(produced(h.take_answer(one).unwrap()).base_offset, 1);
    let woken = fetched(h.take_answer(waiting).unwrap());
    assert_eq!(values(&woken.records), ["b", "c"]);
    assert_eq!(latest(&mut h), 3);
    assert_eq!(values(&h.fetch("t", 0, 0).records), ["a", "b", "c"]);

    let lost = h.send_produce("t", 1, 1, batch(&["d"]));
    h.fail_sync();
    assert_eq!(
        produced(h.take_answer(lost).unwrap()).error_code,
        ErrorCode::KAFKA_STORAGE_ERROR
    );
}

/// What ListOffsets says is the end of t/0.
fn latest(h: &mut Harness) -> i64 {
    let partition = ListOffsetsPartition {
        timestamp: -1,
        ..Default::default()
    };
    let topic = ListOffsetsTopic {
        name: "t".into(),
        partitions: vec![partition],
    };
    let request = ListOffsetsRequest {
        topics: vec![topic],
        ..Default::default()
    };
    let Response::ListOffsets(response) = h.ask(5, Request::ListOffsets(request)) else {
        panic!()
    };
    response.topics[0].partitions[0].offset
}

#[test]
fn acks_of_one_has_no_timeout() {
    let mut h = fsync();
    let Request::Produce(mut request) = produce_request("t", 0, 1, batch(&["a"])) else {
        panic!()
    };
    request.timeout_ms = 0;
    let id = h.send(9, Request::Produce(request));
    h.pass_ms(60_000);
    assert!(h.take_answer(id).is_none());
    h.sync_all();
    assert_eq!(
        produced(h.take_answer(id).unwrap()).error_code,
        ErrorCode::NONE
    );
}

#[test]
fn a_repetition_waits_for_the_sync_of_the_original() {
    let mut h = fsync();
    let first = h.send_produce("t", 0, -1, sequenced(1, 0, 0, &["a"]));
    let again = h.send_produce("t", 0, -1, sequenced(1, 0, 0, &["a"]));
    assert!(h.answers.is_empty());
    h.sync_all();
    assert_eq!(produced(h.take_answer(first).unwrap()).base_offset, 0);
    assert_eq!(produced(h.take_answer(again).unwrap()).base_offset, 0);
}

#[test]
fn several_partitions_are_one_answer() {
    let mut h = fsync();
    let Request::Produce(mut request) = produce_request("t", 0, -1, batch(&["a"])) else {
        panic!()
    };
    let other = PartitionProduceData {
        index: 1,
        records: batch(&["b"]),
    };
    let missing = PartitionProduceData {
        index: 5,
        records: batch(&["c"]),
    };
    request.topic_data[0]
        .partition_data
        .extend([other, missing]);
    let id = h.send(9, Request::Produce(request));
    assert_eq!(h.syncs.len(), 2);
    h.sync_one();
    assert!(h.take_answer(id).is_none());
    h.sync_one();
    let Some(Response::Produce(answer)) = h.take_answer(id) else {
        panic!()
    };
    let codes: vec::Vec<ErrorCode> = answer.responses[0]
        .partition_responses
        .iter()
        .map(|p| p.error_code)
        .collect();
    assert_eq!(
        codes,
        [
            ErrorCode::NONE,
            ErrorCode::NONE,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        ]
    );
}

#[test]
fn a_sync_that_takes_too_long_times_out() {
    let mut h = fsync();
    let id = h.send_produce("t", 0, -1, batch(&["a"]));
    h.pass_ms(999);
    assert!(h.take_answer(id).is_none());
    h.pass_ms(1);
    let answer = produced(h.take_answer(id).unwrap());
    assert_eq!(
        (answer.error_code, answer.base_offset),
        (ErrorCode::REQUEST_TIMED_OUT, -1)
    );
    h.sync_all();
    assert!(h.answers.is_empty());
    assert_eq!(
        values(&h.fetch("t", 0, 0).records),
        ["a"],
        "it was written all the same"
    );
}

#[test]
fn a_failed_sync_stops_the_partition_only() {
    let mut h = fsync();
    let first = h.send_produce("t", 0, -1, batch(&["a"]));
    let second = h.send_produce("t", 0, -1, batch(&["b"]));
    let waiting = h.send(11, fetch_request("t", 0, 0, 10_000));
    h.fail_sync();
    for id in [first, second] {
        assert_eq!(
            produced(h.take_answer(id).unwrap()).error_code,
            ErrorCode::KAFKA_STORAGE_ERROR
        );
    }
    assert_eq!(
        fetched(h.take_answer(waiting).unwrap()).error_code,
        ErrorCode::KAFKA_STORAGE_ERROR
    );
    assert_eq!(
        h.produce("t", 0, batch(&["c"])).error_code,
        ErrorCode::KAFKA_STORAGE_ERROR
    );
    assert!(h.syncs.is_empty(), "a failed sync is not tried again");
    let id = h.send_produce("t", 1, -1, batch(&["d"]));
    h.sync_all();
    assert_eq!(
        produced(h.take_answer(id).unwrap()).error_code,
        ErrorCode::NONE
    );
}

#[test]
fn a_sync_without_descriptors_is_waited_for() {
    let mut h = fsync();
    let first = h.send_produce("t", 0, -1, batch(&["a"]));
    let out_of_descriptors = StorageError::new(StorageErrorKind::TooManyFiles, "none are left");
    for _ in 0..3 {
        let (id, _) = h.syncs.pop_front().unwrap();
        let error = Err(out_of_descriptors.clone());
        h.broker.handle_synced(h.now, id, error);
        h.pass_ms(199);
        assert!(h.syncs.is_empty() && h.take_answer(first).is_none());
        assert_eq!(h.fetch("t", 0, 0).high_watermark, 0);
        h.pass_ms(1);
    }
    let second = h.send_produce("t", 0, -1, batch(&["b"]));
    h.sync_all();
    for id in [first, second] {
        let answer = produced(h.take_answer(id).unwrap());
        assert_eq!(answer.error_code, ErrorCode::NONE);
    }
    assert_eq!(values(&h.fetch("t", 0, 0).records), ["a", "b"]);
}

#[test]
fn after_a_crash_what_was_not_synced_is_synced_before_it_is_seen() {
    let mut h = fsync();
    h.send_produce("t", 0, -1, batch(&["a"]));
    h.sync_all();
    h.send_produce("t", 0, -1, batch(&["b"]));
    let mut h = h.restart(false);
    h.sync_all();
    assert_eq!(values(&h.fetch("t", 0, 0).records), ["a", "b"]);
    let id = h.send_produce("t", 0, -1, batch(&["c"]));
    h.sync_all();
    assert_eq!(produced(h.take_answer(id).unwrap()).base_offset, 2);
}

#[test]
fn a_clean_stop_answers_what_it_synced() {
    let mut h = fsync();
    let id = h.send_produce("t", 0, -1, batch(&["a"]));
    h.broker.close(h.now).unwrap();
    let mut answered = false;
    while let Some(output) = h.broker.poll_output() {
        answered |=
            matches!(output, crate::Output::Respond { correlation_id, .. } if correlation_id == id);
    }
    assert!(answered);
    let reopened = Broker::open(BrokerConfig::default(), h.storage.clone(), h.now, 1).unwrap();
    assert_eq!(reopened.topics.by_name("t").unwrap().partitions.len(), 2);
}

#[test]
fn flush_messages_asks_for_a_sync() {
    let mut h = os();
    h.create_topic("flushed", 1, &[("flush.messages", "3")]);
    h.produce("flushed", 0, batch(&["a", "b"]));
    assert!(h.syncs.is_empty());
    h.produce("flushed", 0, batch(&["c"]));
    assert_eq!(h.syncs.len(), 1);
    h.sync_all();
    h.create_topic("timed", 1, &[("flush.ms", "500")]);
    h.produce("timed", 0, batch(&["a"]));
    h.pass_ms(499);
    assert!(h.syncs.is_empty());
    h.pass_ms(1);
    assert_eq!(h.syncs.len(), 1);
}

fn commit(offset: i64) -> Request {
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        ..Default::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: "t".into(),
        partitions: vec![partition],
        ..Default::default()
    };
    Request::OffsetCommit(OffsetCommitRequest {
        group_id: "g".into(),
        topics: vec![topic],
        ..Default::default()
    })
}

fn committed(h: &mut Harness) -> i64 {
    let topic = OffsetFetchRequestTopic {
        name: "t".into(),
        partition_indexes: vec![0],
    };
    let request = OffsetFetchRequest {
        group_id: "g".into(),
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let Response::OffsetFetch(response) = h.ask(5, Request::OffsetFetch(request)) else {
        panic!()
    };
    response.topics[0].partitions[0].committed_offset
}

#[test]
fn a_committed_offset_is_on_disk_before_it_is_acknowledged() {
    let mut h = fsync();
    let id = h.send(5, commit(7));
    assert!(h.take_answer(id).is_none());
    assert_eq!(h.syncs.len(), 1);
    h.sync_all();
    let Some(Response::OffsetCommit(answer)) = h.take_answer(id) else {
        panic!()
    };
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    for clean in [false, true] {
        assert_eq!(committed(&mut h), 7);
        h = h.restart(clean);
        h.sync_all();
    }

    let id = h.send(5, commit(8));
    h.fail_sync();
    let Some(Response::OffsetCommit(answer)) = h.take_answer(id) else {
        panic!()
    };
    assert_ne!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    assert_eq!(committed(&mut h), 7);
}
