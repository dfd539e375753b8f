//! Tests of share groups through the whole broker: requests in, answers out, over restarts.

use alloc::{vec, vec::Vec};
use std::string::String;

use ottla_protocol::{
    ErrorCode, Request, Response, Str, Uuid,
    messages::{
        alter_share_group_offsets::{
            AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestPartition,
            AlterShareGroupOffsetsRequestTopic,
        },
        delete_groups::DeleteGroupsRequest,
        delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
        delete_share_group_offsets::{
            DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequestTopic,
        },
        delete_topics::DeleteTopicsRequest,
        describe_share_group_offsets::{
            DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup,
        },
        incremental_alter_configs::{
            AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
        },
        join_group::JoinGroupRequest,
        list_groups::ListGroupsRequest,
        share_acknowledge::{
            AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch as AckBatch,
            ShareAcknowledgeRequest, ShareAcknowledgeResponse,
        },
        share_fetch::{
            AcknowledgementBatch, FetchPartition, FetchTopic, PartitionData, ShareFetchRequest,
            ShareFetchResponse,
        },
        share_group_heartbeat::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse},
    },
};

use ottla_record::Now;

use super::{ShareGroupSettings, ShareKey, ShareOffsetReset, ShareOutput, SharePartitions};
use crate::{
    BrokerConfig, ConnId, Durability, ShareConfig,
    configs::dynamic::resource,
    testing::{CONN, Harness, batch, read},
};

/// A broker with a topic `t`, whose share groups begin with the first record.
pub(super) struct Share {
    pub h: Harness,
    pub topic: Uuid,
}

fn config(durability: Durability) -> BrokerConfig {
    BrokerConfig {
        durability,
        share: ShareConfig {
            group: ShareGroupSettings {
                auto_offset_reset: ShareOffsetReset::Earliest,
                ..Default::default()
            },
            max_size: 3,
            max_sessions: 4,
            ..Default::default()
        },
        ..BrokerConfig::default()
    }
}

impl Share {
    pub fn new(durability: Durability) -> Self {
        let mut h = Harness::with(config(durability));
        h.create_topic("t", 1, &[]);
        h.sync_all();
        let topic = h.broker.topics.by_name("t").unwrap().id;
        Self { h, topic }
    }

    pub fn restart(self, clean: bool) -> Self {
        Self {
            h: self.h.restart(clean),
            topic: self.topic,
        }
    }

    pub fn heartbeat(
        &mut self,
        member: &str,
        epoch: i32,
        topics: Option<&[&str]>,
    ) -> ShareGroupHeartbeatResponse {
        let request = ShareGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: member.into(),
            member_epoch: epoch,
            subscribed_topic_names: topics
                .map(|topics| topics.iter().map(|t| Str::from(*t)).collect()),
            ..Default::default()
        };
        let sent = self.h.send(1, Request::ShareGroupHeartbeat(request));
        self.h.sync_all();
        match self.h.take_answer(sent) {
            Some(Response::ShareGroupHeartbeat(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    pub fn join(&mut self, member: &str) -> ShareGroupHeartbeatResponse {
        let answer = self.heartbeat(member, 0, Some(&["t"]));
        assert_eq!(answer.error_code, ErrorCode::NONE);
        answer
    }

    pub fn produce(&mut self, values: &[&str]) {
        let id = self.h.send_produce("t", 0, -1, batch(values));
        self.h.sync_all();
        assert!(self.h.take_answer(id).is_some());
    }

    pub fn fetch_request(
        &self,
        member: &str,
        epoch: i32,
        acks: &[(i64, i64, &[i8])],
    ) -> ShareFetchRequest {
        ShareFetchRequest {
            group_id: Some("g".into()),
            member_id: Some(member.into()),
            share_session_epoch: epoch,
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: 1 << 20,
            max_records: 500,
            batch_size: 500,
            topics: vec![FetchTopic {
                topic_id: self.topic,
                partitions: vec![FetchPartition {
                    partition_index: 0,
                    acknowledgement_batches: acks
                        .iter()
                        .map(|(first, last, types)| AcknowledgementBatch {
                            first_offset: *first,
                            last_offset: *last,
                            acknowledge_types: types.to_vec(),
                        })
                        .collect(),
                }],
            }],
            ..Default::default()
        }
    }

    pub fn send_fetch(&mut self, conn: ConnId, request: ShareFetchRequest) -> i32 {
        self.h.send_on(conn, 2, Request::ShareFetch(request))
    }

    pub fn answer(&mut self, id: i32) -> Option<ShareFetchResponse> {
        self.h.take_answer(id).map(|response| match response {
            Response::ShareFetch(response) => response,
            other => panic!("{other:?}"),
        })
    }

    pub fn fetch(
        &mut self,
        member: &str,
        epoch: i32,
        acks: &[(i64, i64, &[i8])],
    ) -> ShareFetchResponse {
        let request = self.fetch_request(member, epoch, acks);
        let id = self.send_fetch(CONN, request);
        self.h.sync_all();
        self.answer(id).expect("an answer")
    }

    /// Opens a session; the first fetch only makes the group's state ready.
    pub fn open(&mut self, member: &str) {
        let answer = self.fetch(member, 0, &[]);
        assert_eq!(answer.error_code, ErrorCode::NONE);
    }

    pub fn acknowledge(
        &mut self,
        member: &str,
        epoch: i32,
        acks: &[(i64, i64, &[i8])],
    ) -> ShareAcknowledgeResponse {
        let request = ShareAcknowledgeRequest {
            group_id: Some("g".into()),
            member_id: Some(member.into()),
            share_session_epoch: epoch,
            is_renew_ack: acks.iter().any(|(_, _, types)| types.contains(&4)),
            topics: vec![AcknowledgeTopic {
                topic_id: self.topic,
                partitions: vec![AcknowledgePartition {
                    partition_index: 0,
                    acknowledgement_batches: acks
                        .iter()
                        .map(|(first, last, types)| AckBatch {
                            first_offset: *first,
                            last_offset: *last,
                            acknowledge_types: types.to_vec(),
                        })
                        .collect(),
                }],
            }],
        };
        let sent = self.h.send(2, Request::ShareAcknowledge(request));
        self.h.sync_all();
        match self.h.take_answer(sent) {
            Some(Response::ShareAcknowledge(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    pub fn acked(&mut self, member: &str, epoch: i32, acks: &[(i64, i64, &[i8])]) -> ErrorCode {
        let answer = self.acknowledge(member, epoch, acks);
        assert_eq!(answer.error_code, ErrorCode::NONE);
        // Of a partition of which nothing was said there is no answer.
        let first = answer.responses.first();
        first.map_or(ErrorCode::NONE, |topic| topic.partitions[0].error_code)
    }

    fn start(&mut self) -> (i64, i64) {
        let request = DescribeShareGroupOffsetsRequest {
            groups: vec![DescribeShareGroupOffsetsRequestGroup {
                group_id: "g".into(),
                topics: None,
            }],
        };
        let Response::DescribeShareGroupOffsets(answer) =
            self.h.ask(1, Request::DescribeShareGroupOffsets(request))
        else {
            panic!()
        };
        let row = &answer.groups[0].topics[0].partitions[0];
        assert_eq!(row.error_code, ErrorCode::NONE);
        (row.start_offset, row.lag)
    }

    fn alter(&mut self, start_offset: i64) -> ErrorCode {
        let request = AlterShareGroupOffsetsRequest {
            group_id: "g".into(),
            topics: vec![AlterShareGroupOffsetsRequestTopic {
                topic_name: "t".into(),
                partitions: vec![AlterShareGroupOffsetsRequestPartition {
                    partition_index: 0,
                    start_offset,
                }],
            }],
        };
        let sent = self.h.send(0, Request::AlterShareGroupOffsets(request));
        self.h.sync_all();
        match self.h.take_answer(sent) {
            Some(Response::AlterShareGroupOffsets(r)) if r.error_code != ErrorCode::NONE => {
                r.error_code
            }
            Some(Response::AlterShareGroupOffsets(r)) => r.responses[0].partitions[0].error_code,
            other => panic!("{other:?}"),
        }
    }
}

/// The one partition of an answer.
pub(super) fn only(response: &ShareFetchResponse) -> &PartitionData {
    assert_eq!(response.error_code, ErrorCode::NONE);
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, ErrorCode::NONE);
    partition
}

/// First, last, delivery count of what was handed out.
pub(super) fn runs(response: &ShareFetchResponse) -> Vec<(i64, i64, i16)> {
    assert_eq!(response.error_code, ErrorCode::NONE);
    let partitions = response.responses.iter().flat_map(|t| &t.partitions);
    partitions
        .flat_map(|p| &p.acquired_records)
        .map(|run| (run.first_offset, run.last_offset, run.delivery_count))
        .collect()
}

#[test]
fn fetch_accept_and_nothing_comes_again() {
    for durability in [Durability::Os, Durability::Fsync] {
        let mut s = Share::new(durability);
        s.produce(&["a", "b", "c"]);
        let joined = s.join("m");
        assert_eq!(
            (joined.member_epoch, joined.heartbeat_interval_ms),
            (2, 5000)
        );
        let assigned = joined.assignment.unwrap().topic_partitions;
        assert_eq!(
            (assigned[0].topic_id, &assigned[0].partitions[..]),
            (s.topic, &[0][..])
        );
        s.open("m");
        let answer = s.fetch("m", 1, &[]);
        assert_eq!(answer.acquisition_lock_timeout_ms, 30_000);
        assert_eq!(runs(&answer), [(0, 2, 1)]);
        let values: Vec<String> = read(&only(&answer).records)
            .into_iter()
            .map(|(_, v)| String::from_utf8(v.to_vec()).unwrap())
            .collect();
        assert_eq!(values, ["a", "b", "c"]);
        // Piggybacked: one accepted, one rejected, one released, which comes again at once.
        let answer = s.fetch("m", 2, &[(0, 2, &[1, 3, 2])]);
        assert_eq!(only(&answer).acknowledge_error_code, ErrorCode::NONE);
        assert_eq!(runs(&answer), [(2, 2, 2)]);
        assert_eq!(s.start(), (2, 1));
        assert_eq!(s.acked("m", 3, &[(2, 2, &[1])]), ErrorCode::NONE);
        assert_eq!(s.start(), (3, 0));
        for clean in [false, true] {
            s = s.restart(clean);
            s.h.sync_all();
            let mut of_nobody = s.fetch_request("m", 4, &[]);
            of_nobody.topics.clear();
            let id = s.send_fetch(CONN, of_nobody);
            assert_eq!(
                s.answer(id).unwrap().error_code,
                ErrorCode::SHARE_SESSION_NOT_FOUND
            );
            assert_eq!(runs(&s.fetch("m", 0, &[])), []);
            assert_eq!(s.heartbeat("m", 2, None).error_code, ErrorCode::NONE);
        }
        s.produce(&["d"]);
        assert_eq!(runs(&s.fetch("m", 1, &[])), [(3, 3, 1)]);
    }
}

#[test]
fn what_was_not_acknowledged_comes_again_after_a_crash() {
    let mut s = Share::new(Durability::Fsync);
    s.produce(&["a", "b", "c", "d"]);
    s.join("m");
    s.open("m");
    assert_eq!(runs(&s.fetch("m", 1, &[])), [(0, 3, 1)]);
    assert_eq!(s.acked("m", 2, &[(1, 2, &[1])]), ErrorCode::NONE);
    let mut s = s.restart(false);
    s.h.sync_all();
    assert_eq!(s.start(), (0, 2));
    assert_eq!(runs(&s.fetch("m", 0, &[])), [(0, 0, 1), (3, 3, 1)]);
}

#[test]
fn an_acknowledgement_is_answered_when_it_is_on_disk() {
    let mut s = Share::new(Durability::Fsync);
    s.produce(&["a"]);
    s.join("m");
    s.open("m");
    s.fetch("m", 1, &[]);
    let request = s.fetch_request("m", 2, &[(0, 0, &[1])]);
    let id = s.send_fetch(CONN, request);
    assert!(s.answer(id).is_none());
    s.h.sync_all();
    assert!(s.answer(id).is_some());
    // And one that can't be written is told so.
    s.produce(&["b"]);
    assert_eq!(runs(&s.fetch("m", 3, &[])), [(1, 1, 1)]);
    let request = s.fetch_request("m", 4, &[(1, 1, &[1])]);
    let id = s.send_fetch(CONN, request);
    s.h.fail_sync();
    let answer = s.answer(id).unwrap();
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(
        partition.acknowledge_error_code,
        ErrorCode::COORDINATOR_NOT_AVAILABLE
    );
    let answer = s.fetch("m", 5, &[]);
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
}

#[test]
fn the_beginning_is_not_forgotten() {
    // `latest`, of a first fetch that found nothing: what came after it is not passed over after a crash.
    let mut s = Share::new(Durability::Fsync);
    let settings = ShareGroupSettings::default();
    let group = Str::from("g");
    s.h.broker.set_share_group_settings(&group, Some(settings));
    s.produce(&["old"]);
    s.join("m");
    s.open("m");
    assert_eq!(s.start(), (1, 0));
    s.produce(&["new"]);
    let mut s = s.restart(false);
    s.h.sync_all();
    assert_eq!(runs(&s.fetch("m", 0, &[])), [(1, 1, 1)]);
}

#[test]
fn by_duration() {
    let mut s = Share::new(Durability::Os);
    s.produce(&["old"]);
    s.h.pass_ms(10_000);
    let settings = ShareGroupSettings {
        auto_offset_reset: ShareOffsetReset::ByDuration(10_000),
        ..Default::default()
    };
    let group = Str::from("g");
    s.h.broker.set_share_group_settings(&group, Some(settings));
    s.join("m");
    s.open("m");
    assert_eq!(s.start(), (0, 1));
}

#[test]
fn locks_end() {
    let mut s = Share::new(Durability::Os);
    s.join("m");
    s.open("m");
    s.open("n");
    s.produce(&["a", "b"]);
    for count in 1..=5 {
        // Whoever waits is woken by the end of the other's lock.
        let member = ["m", "n"][count % 2];
        let epoch = count.div_ceil(2) as i32;
        let mut request = s.fetch_request(member, epoch, &[]);
        request.max_wait_ms = 40_000;
        let id = s.send_fetch(CONN, request);
        if count > 1 {
            assert!(s.answer(id).is_none());
            s.h.pass_ms(29_999);
            assert!(s.answer(id).is_none());
            s.h.pass_ms(1);
        }
        assert_eq!(runs(&s.answer(id).unwrap()), [(0, 1, count as i16)]);
    }
    s.h.pass_ms(30_000);
    assert_eq!(s.start(), (2, 0), "archived after five deliveries");
}

#[test]
fn a_long_poll_is_woken_by_what_it_waits_for() {
    let mut s = Share::new(Durability::Os);
    s.join("m");
    s.open("m");
    s.open("n");
    let waiting = |s: &mut Share, member, epoch| {
        let mut request = s.fetch_request(member, epoch, &[]);
        request.max_wait_ms = 1000;
        let id = s.send_fetch(CONN, request);
        assert!(s.answer(id).is_none());
        id
    };
    let id = waiting(&mut s, "m", 1);
    let other = waiting(&mut s, "n", 1);
    s.produce(&["a"]);
    let first = s.answer(id).map(|a| runs(&a));
    let second = s.answer(other).map(|a| runs(&a));
    assert_eq!(
        (first, second),
        (Some(vec![(0, 0, 1)]), None),
        "one has it, the other goes on waiting"
    );
    assert_eq!(s.acked("m", 2, &[(0, 0, &[2])]), ErrorCode::NONE);
    assert_eq!(runs(&s.answer(other).unwrap()), [(0, 0, 2)]);
    let id = waiting(&mut s, "m", 3);
    s.h.pass_ms(999);
    assert!(s.answer(id).is_none());
    s.h.pass_ms(1);
    assert_eq!(runs(&s.answer(id).unwrap()), []);
    // `min_bytes`: nothing is handed out before there is enough.
    let mut request = s.fetch_request("m", 4, &[]);
    (request.max_wait_ms, request.min_bytes) = (1000, 140);
    let id = s.send_fetch(CONN, request);
    s.produce(&["b"]);
    assert!(s.answer(id).is_none());
    s.produce(&["c", "d"]);
    assert_eq!(runs(&s.answer(id).unwrap()), [(1, 3, 1)]);
}

#[test]
fn a_connection_that_goes_gives_back_what_it_had() {
    let mut s = Share::new(Durability::Os);
    s.produce(&["a", "b"]);
    s.join("m");
    let other = ConnId(2);
    s.h.broker.handle_connect(s.h.now, other, "127.0.0.2");
    s.open("n");
    let request = s.fetch_request("m", 0, &[]);
    let id = s.send_fetch(other, request);
    assert_eq!(runs(&s.answer(id).unwrap()), [(0, 1, 1)]);
    let mut request = s.fetch_request("n", 1, &[]);
    request.max_wait_ms = 1000;
    let id = s.send_fetch(CONN, request);
    assert!(s.answer(id).is_none());
    s.h.disconnect(other);
    assert_eq!(runs(&s.answer(id).unwrap()), [(0, 1, 2)]);
    // The same by the last request of a session.
    assert_eq!(
        s.acknowledge("n", -1, &[(0, 0, &[1])]).error_code,
        ErrorCode::NONE
    );
    s.open("m");
    assert_eq!(s.start(), (1, 1));
    assert_eq!(
        s.acknowledge("n", 2, &[]).error_code,
        ErrorCode::SHARE_SESSION_NOT_FOUND
    );
}

#[test]
fn bad_requests() {
    let mut s = Share::new(Durability::Os);
    s.produce(&["a", "b", "c"]);
    s.join("m");
    let code = |s: &mut Share, request| {
        let id = s.send_fetch(CONN, request);
        s.answer(id).unwrap().error_code
    };
    let mut nobody = s.fetch_request("", 0, &[]);
    assert_eq!(code(&mut s, nobody.clone()), ErrorCode::INVALID_REQUEST);
    nobody.member_id = None;
    assert_eq!(code(&mut s, nobody), ErrorCode::INVALID_REQUEST);
    let early = s.fetch_request("m", 0, &[(0, 0, &[1])]);
    assert_eq!(code(&mut s, early), ErrorCode::INVALID_REQUEST);
    let mut mode = s.fetch_request("m", 0, &[]);
    mode.share_acquire_mode = 2;
    assert_eq!(code(&mut s, mode), ErrorCode::INVALID_REQUEST);
    let mut renew = s.fetch_request("m", 0, &[]);
    renew.is_renew_ack = true;
    assert_eq!(code(&mut s, renew), ErrorCode::INVALID_REQUEST);
    s.open("m");
    let wrong = s.fetch_request("m", 7, &[]);
    assert_eq!(code(&mut s, wrong), ErrorCode::INVALID_SHARE_SESSION_EPOCH);
    assert_eq!(runs(&s.fetch("m", 1, &[])), [(0, 2, 1)]);
    for member in ["x", "y", "z"] {
        s.open(member);
    }
    let one_more = s.fetch_request("w", 0, &[]);
    assert_eq!(
        code(&mut s, one_more),
        ErrorCode::SHARE_SESSION_LIMIT_REACHED
    );

    let mut epoch = 1;
    let mut acked = |s: &mut Share, acks: &[(i64, i64, &[i8])]| {
        epoch += 1;
        s.acked("m", epoch, acks)
    };
    for bad in [
        &[(1, 0, &[1][..])][..],
        &[(0, 1, &[])],
        &[(0, 2, &[1, 1])],
        &[(0, 0, &[5])],
        &[(1, 1, &[1]), (0, 0, &[1])],
    ] {
        assert_eq!(acked(&mut s, bad), ErrorCode::INVALID_REQUEST, "{bad:?}");
    }
    let absent = acked(&mut s, &[(0, 3, &[1])]);
    assert_eq!(absent, ErrorCode::INVALID_REQUEST);
    let others = s.acked("x", 1, &[(0, 0, &[1])]);
    assert_eq!(others, ErrorCode::INVALID_RECORD_STATE);
    assert_eq!(acked(&mut s, &[(0, 0, &[4])]), ErrorCode::NONE);
    assert_eq!(acked(&mut s, &[(0, 2, &[1])]), ErrorCode::NONE);
    assert_eq!(s.start(), (3, 0));
}

#[test]
fn the_log_start_moves() {
    let mut s = Share::new(Durability::Os);
    s.produce(&["a", "b"]);
    s.produce(&["c", "d"]);
    s.join("m");
    s.open("m");
    assert_eq!(runs(&s.fetch("m", 1, &[])), [(0, 3, 1)]);
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "t".into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset: 3,
            }],
        }],
        ..Default::default()
    };
    s.h.ask(2, Request::DeleteRecords(request));
    assert_eq!(runs(&s.fetch("m", 2, &[])), []);
    assert_eq!(s.acked("m", 3, &[(0, 3, &[2])]), ErrorCode::NONE);
    assert_eq!(runs(&s.fetch("m", 4, &[])), [(3, 3, 2)]);
}

#[test]
fn members_and_epochs() {
    let mut s = Share::new(Durability::Os);
    let code =
        |s: &mut Share, member: &str, epoch, topics| s.heartbeat(member, epoch, topics).error_code;
    assert_eq!(code(&mut s, "", 0, None), ErrorCode::INVALID_REQUEST);
    assert_eq!(code(&mut s, "a", 0, None), ErrorCode::INVALID_REQUEST);
    assert_eq!(code(&mut s, "a", -2, None), ErrorCode::INVALID_REQUEST);
    assert_eq!(code(&mut s, "a", 1, None), ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(code(&mut s, "a", -1, None), ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(s.join("a").member_epoch, 2);
    assert_eq!(code(&mut s, "b", 1, None), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(code(&mut s, "b", -1, None), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(s.join("b").member_epoch, 3);
    assert_eq!(s.join("c").member_epoch, 4);
    assert_eq!(
        code(&mut s, "d", 0, Some(&["t"])),
        ErrorCode::GROUP_MAX_SIZE_REACHED
    );
    // The others learn the new epoch; the one before is that of a lost answer.
    let next = s.heartbeat("a", 2, None);
    assert_eq!((next.member_epoch, next.assignment), (4, None));
    let again = s.heartbeat("a", 2, None);
    assert_eq!(again.member_epoch, 4);
    assert!(again.assignment.is_some());
    assert_eq!(code(&mut s, "a", 3, None), ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(code(&mut s, "a", 5, None), ErrorCode::FENCED_MEMBER_EPOCH);
    // New partitions are assigned with the next heartbeat.
    s.h.create_topic("u", 2, &[]);
    let more = s.heartbeat("a", 4, Some(&["t", "u"]));
    assert_eq!(more.member_epoch, 5);
    assert_eq!(more.assignment.unwrap().topic_partitions.len(), 2);
    assert_eq!(s.heartbeat("b", 3, None).member_epoch, 5);

    let mut s = s.restart(false);
    assert_eq!(s.heartbeat("a", 5, None).member_epoch, 5);
    assert_eq!(s.heartbeat("c", -1, None).member_epoch, -1);
    assert_eq!(s.heartbeat("a", 5, None).member_epoch, 6);
    s.h.pass_ms(30_000);
    s.heartbeat("a", 6, None);
    s.h.pass_ms(15_000);
    assert_eq!(
        code(&mut s, "b", 5, None),
        ErrorCode::UNKNOWN_MEMBER_ID,
        "its session ended"
    );
    assert_eq!(s.heartbeat("a", 6, None).member_epoch, 7);
}

#[test]
fn a_name_is_of_one_type_of_group() {
    let mut s = Share::new(Durability::Os);
    s.join("m");
    let join = JoinGroupRequest {
        group_id: "g".into(),
        ..Default::default()
    };
    let Response::JoinGroup(answer) = s.h.ask(9, Request::JoinGroup(join)) else {
        panic!()
    };
    assert_eq!(answer.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let list = |s: &mut Share, types: &[&str]| {
        let request = ListGroupsRequest {
            types_filter: types.iter().map(|t| Str::from(*t)).collect(),
            ..Default::default()
        };
        let Response::ListGroups(answer) = s.h.ask(5, Request::ListGroups(request)) else {
            panic!()
        };
        answer.groups
    };
    let listed = list(&mut s, &["share"]);
    assert_eq!(
        [
            &*listed[0].group_type,
            &*listed[0].protocol_type,
            &*listed[0].group_state
        ],
        ["share", "share", "Stable"]
    );
    assert!(list(&mut s, &["classic"]).is_empty());
}

#[test]
fn offsets_are_altered_and_deleted_and_groups_too() {
    let mut s = Share::new(Durability::Fsync);
    s.produce(&["a", "b", "c"]);
    s.join("m");
    s.open("m");
    assert_eq!(s.alter(1), ErrorCode::NON_EMPTY_GROUP);
    let delete_group = |s: &mut Share| {
        let request = DeleteGroupsRequest {
            groups_names: vec!["g".into(), "none".into()],
        };
        let sent = s.h.send(2, Request::DeleteGroups(request));
        s.h.sync_all();
        let Some(Response::DeleteGroups(answer)) = s.h.take_answer(sent) else {
            panic!()
        };
        let code = |id: &str| {
            let mut rows = answer.results.iter();
            rows.find(|r| r.group_id == id).unwrap().error_code
        };
        assert_eq!(code("none"), ErrorCode::GROUP_ID_NOT_FOUND);
        code("g")
    };
    assert_eq!(delete_group(&mut s), ErrorCode::NON_EMPTY_GROUP);
    s.heartbeat("m", -1, None);
    assert_eq!(s.alter(1), ErrorCode::NONE);
    assert_eq!(s.start(), (1, 2));
    let mut s = s.restart(false);
    s.h.sync_all();
    s.join("m");
    assert_eq!(runs(&s.fetch("m", 0, &[])), [(1, 2, 1)]);
    s.heartbeat("m", -1, None);
    assert_eq!(s.alter(0), ErrorCode::NONE);

    let request = DeleteShareGroupOffsetsRequest {
        group_id: "g".into(),
        topics: vec![
            DeleteShareGroupOffsetsRequestTopic {
                topic_name: "t".into(),
            },
            DeleteShareGroupOffsetsRequestTopic {
                topic_name: "none".into(),
            },
            DeleteShareGroupOffsetsRequestTopic {
                topic_name: "t".into(),
            },
        ],
    };
    let sent = s.h.send(0, Request::DeleteShareGroupOffsets(request));
    s.h.sync_all();
    let Some(Response::DeleteShareGroupOffsets(answer)) = s.h.take_answer(sent) else {
        panic!()
    };
    let codes: Vec<ErrorCode> = answer.responses.iter().map(|r| r.error_code).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::NONE,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        ]
    );
    s.join("m");
    s.open("m");
    assert_eq!(s.start(), (0, 3), "begun anew");
    s.heartbeat("m", -1, None);
    assert_eq!(delete_group(&mut s), ErrorCode::NONE);
    let mut s = s.restart(false);
    s.h.sync_all();
    assert_eq!(delete_group(&mut s), ErrorCode::GROUP_ID_NOT_FOUND);
}

#[test]
fn a_deleted_topic_takes_its_state_along() {
    let mut s = Share::new(Durability::Os);
    s.produce(&["a"]);
    s.join("m");
    s.open("m");
    let request = DeleteTopicsRequest {
        topic_names: vec!["t".into()],
        ..Default::default()
    };
    s.h.ask(5, Request::DeleteTopics(request));
    let answer = s.fetch("m", 1, &[]);
    assert_eq!(
        answer.responses[0].partitions[0].error_code,
        ErrorCode::UNKNOWN_TOPIC_ID
    );
    let gone = s.heartbeat("m", 2, None);
    assert_eq!(gone.member_epoch, 3);
    assert!(gone.assignment.unwrap().topic_partitions.is_empty());
    s.h.create_topic("t", 1, &[]);
    let back = s.heartbeat("m", 3, None);
    assert_eq!(back.assignment.unwrap().topic_partitions.len(), 1);
    s.topic = s.h.broker.topics.by_name("t").unwrap().id;
    s.produce(&["new"]);
    s.open("m");
    assert_eq!(runs(&s.fetch("m", 1, &[])), [(0, 0, 1)]);
}

#[test]
fn the_state_log_stays_short() {
    let mut s = Share::new(Durability::Os);
    s.join("m");
    s.open("m");
    for i in 0..1300 {
        s.produce(&["v"]);
        let offset = i as i64;
        assert_eq!(runs(&s.fetch("m", 2 * i + 1, &[])), [(offset, offset, 1)]);
        s.acked("m", 2 * i + 2, &[(offset, offset, &[1])]);
        if i % 100 == 0 {
            s.heartbeat("m", 2, None);
        }
    }
    let log_starts = |s: &Share| {
        let topic = s.h.broker.topics.by_name("__share_group_state").unwrap();
        let logs = topic.partitions.iter();
        let start = |i: &_| {
            let log = &s.h.broker.partitions.get(*i).unwrap().log;
            log.log_start_offset()
        };
        logs.map(start).max().unwrap()
    };
    assert_eq!(log_starts(&s), 0);
    s.h.pass_ms(300_000);
    assert_eq!(log_starts(&s), 1002, "the second snapshot behind the first");
    let mut s = s.restart(false);
    assert_eq!(s.start(), (1300, 0));
}

#[test]
fn a_member_beyond_its_quota_gets_nothing_and_loses_nothing() {
    let mut s = Share::new(Durability::Os);
    s.join("m");
    s.open("m");
    let value = "x".repeat(200);
    s.produce(&[&value]);
    s.produce(&[&value]);
    let rate = [("consumer_byte_rate", Some(20.0))];
    let me = [("client-id", Some("test"))];
    let altered = crate::api::alter_client_quotas::tests::set(&mut s.h, &me, &rate);
    assert_eq!(altered, ErrorCode::NONE);
    // Ten seconds' worth are less than a batch: whoever rested gets one.
    let answer = s.fetch("m", 1, &[]);
    assert_eq!(answer.throttle_time_ms, 0);
    let got = &answer.responses[0].partitions[0].acquired_records;
    assert_eq!((got[0].first_offset, got[0].last_offset), (0, 0));
    // It is told to wait, and what it acknowledges is taken.
    let answer = s.fetch("m", 2, &[(0, 0, &[1])]);
    assert!(answer.throttle_time_ms > 10_000, "{answer:?}");
    let told = &answer.responses[0].partitions[0];
    assert_eq!(told.acknowledge_error_code, ErrorCode::NONE);
    assert!(told.acquired_records.is_empty() && told.records.is_empty());
    // Nothing was handed out meanwhile: it is the first delivery.
    s.h.pass_ms(11_000);
    let answer = s.fetch("m", 3, &[]);
    let got = &answer.responses[0].partitions[0].acquired_records;
    assert_eq!(
        (
            got[0].first_offset,
            got[0].last_offset,
            got[0].delivery_count
        ),
        (1, 1, 1)
    );
}

#[test]
fn a_lock_ends_when_it_was_said_to_be_it_shorter_than_those_before() {
    let mut s = Share::new(Durability::Os);
    let lock_for = |s: &mut Share, ms: &str| {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: resource::GROUP,
                resource_name: "g".into(),
                configs: vec![AlterableConfig {
                    name: "share.record.lock.duration.ms".into(),
                    config_operation: 0,
                    value: Some(ms.into()),
                }],
            }],
            validate_only: false,
        };
        let Response::IncrementalAlterConfigs(answer) =
            s.h.ask(1, Request::IncrementalAlterConfigs(request))
        else {
            panic!()
        };
        assert_eq!(answer.responses[0].error_code, ErrorCode::NONE);
    };
    lock_for(&mut s, "60000");
    s.produce(&["a"]);
    s.join("m");
    s.open("m");
    assert_eq!(runs(&s.fetch("m", 1, &[])), [(0, 0, 1)]);
    lock_for(&mut s, "15000");
    s.produce(&["b"]);
    let answer = s.fetch("m", 2, &[]);
    assert_eq!(answer.acquisition_lock_timeout_ms, 15_000);
    assert_eq!(runs(&answer), [(1, 1, 1)]);
    s.h.pass_ms(14_999);
    assert_eq!(runs(&s.fetch("m", 3, &[])), []);
    s.h.pass_ms(1);
    assert_eq!(runs(&s.fetch("m", 4, &[])), [(1, 1, 2)]);
    // One that is renewed may end earlier, too.
    assert_eq!(s.acked("m", 5, &[(0, 0, &[4])]), ErrorCode::NONE);
    s.h.pass_ms(15_000);
    assert_eq!(runs(&s.fetch("m", 6, &[])), [(0, 0, 2), (1, 1, 3)]);
}

#[test]
fn what_a_snapshot_takes_the_place_of_is_kept_until_that_is_committed() {
    let now = Now::new(0, 0);
    let mut shares: SharePartitions<()> = SharePartitions::new(&ShareConfig {
        state_partitions: 1,
        ..Default::default()
    });
    let next_append = |shares: &mut SharePartitions<()>, offset| {
        while let Some(output) = shares.poll_output() {
            if let ShareOutput::Append { token, .. } = output {
                shares.note_offset(token, offset);
                return token;
            }
        }
        panic!("nothing is written")
    };
    let (group, topic_id) = (Str::from("g"), Uuid::from_random(1));
    shares.initialize(now, &group, topic_id, core::iter::once(0), 1);
    let first = next_append(&mut shares, 3);
    assert_eq!(shares.prune(now, &[9]), [0], "it may not be there tomorrow");
    shares.handle_appended(first, Ok(()));
    assert_eq!(shares.prune(now, &[9]), [3]);
    let key = ShareKey {
        group,
        topic_id,
        partition: 0,
    };
    let ticket = shares.open_ticket();
    shares.set_start(now, key, 2, 77, ticket);
    let second = next_append(&mut shares, 9);
    // A power cut now would leave the first.
    assert_eq!(shares.prune(now, &[9]), [3]);
    shares.handle_appended(second, Ok(()));
    assert_eq!(shares.prune(now, &[20]), [9]);
}
