//! JoinGroup (11): a member enters a group or comes back to it; answered when the rebalance is complete.
//!
//! Serves versions 0 to 9. Departs from Kafka: `group.initial.rebalance.delay.ms` is 0 unless it is set; a static member may come back
//! to a full group; when a member joins again while its last JoinGroup waits, that one gets REBALANCE_IN_PROGRESS instead of no answer;
//! a group is written down with its first assignment, not before; the generation after 2,147,483,647 is 1.

use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::join_group::{JoinGroupRequest, JoinGroupResponse},
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

/// From this version on an answer may have no protocol's name.
const WITH_NULL_PROTOCOL: i16 = 7;

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: JoinGroupRequest,
) -> Handled {
    if broker.share_groups.contains(&request.group_id) {
        return Handled::Respond(Response::JoinGroup(JoinGroupResponse {
            error_code: ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
            generation_id: -1,
            protocol_name: (context.api_version < WITH_NULL_PROTOCOL).then(Str::new),
            ..Default::default()
        }));
    }
    broker.groups.join(now, context, request);
    Handled::Deferred
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;
    use crate::{
        Durability, OFFSETS_TOPIC,
        testing::{Harness, read},
    };
    use bytes::Bytes;
    use ottla_protocol::{
        ApiKey, Request, Str,
        messages::{
            delete_groups::DeleteGroupsRequest,
            describe_groups::DescribeGroupsRequest,
            heartbeat::HeartbeatRequest,
            join_group::JoinGroupRequestProtocol,
            leave_group::{LeaveGroupRequest, MemberIdentity},
            list_groups::ListGroupsRequest,
            sync_group::{SyncGroupRequest, SyncGroupRequestAssignment},
        },
    };

    fn join(h: &mut Harness, version: i16, member_id: Str) -> JoinGroupResponse {
        let request = Request::JoinGroup(JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            member_id,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            }],
            ..Default::default()
        });
        match ask(h, version, request) {
            Response::JoinGroup(response) => response,
            other => panic!("{other:?}"),
        }
    }

    /// Asks, and syncs what has to be synced for the answer.
    fn ask(h: &mut Harness, version: i16, request: Request) -> Response {
        let id = h.send(version, request);
        h.sync_all();
        h.take_answer(id).expect("an answer")
    }

    fn sync(version: i16, joined: &JoinGroupResponse) -> Request {
        let named = version >= 5;
        Request::SyncGroup(SyncGroupRequest {
            group_id: "g".into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            protocol_type: named.then(|| "consumer".into()),
            protocol_name: named.then(|| "range".into()),
            assignments: vec![SyncGroupRequestAssignment {
                member_id: joined.member_id.clone(),
                assignment: Bytes::from_static(b"all"),
            }],
            ..Default::default()
        })
    }

    fn heartbeat(h: &mut Harness, version: i16, joined: &JoinGroupResponse) -> ErrorCode {
        let request = Request::Heartbeat(HeartbeatRequest {
            group_id: "g".into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            ..Default::default()
        });
        match ask(h, version, request) {
            Response::Heartbeat(response) => response.error_code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn joins_at_once_and_is_assigned_when_that_is_on_disk() {
        let mut h = Harness::new(Durability::Fsync);
        let id = join(&mut h, 9, Str::new()).member_id;
        let joined = join(&mut h, 9, id);
        assert_eq!(
            (joined.error_code, joined.generation_id),
            (ErrorCode::NONE, 1)
        );
        assert!(
            h.broker.topics.by_name(OFFSETS_TOPIC).is_none(),
            "nothing to write yet"
        );

        let asked = h.send(5, sync(5, &joined));
        assert_eq!(h.take_answer(asked), None);
        h.sync_all();
        let Some(Response::SyncGroup(synced)) = h.take_answer(asked) else {
            panic!("no answer")
        };
        assert_eq!(
            (synced.error_code, &synced.assignment[..]),
            (ErrorCode::NONE, &b"all"[..])
        );

        let mut h = h.restart(false);
        assert_eq!(
            heartbeat(&mut h, 4, &joined),
            ErrorCode::NONE,
            "after a crash"
        );
        let mut h = h.restart(true);
        assert_eq!(
            heartbeat(&mut h, 4, &joined),
            ErrorCode::NONE,
            "after a stop"
        );
        h.pass_ms(10_000);
        assert_eq!(heartbeat(&mut h, 4, &joined), ErrorCode::UNKNOWN_MEMBER_ID);
    }

    #[test]
    fn what_is_written_is_a_record_of_kafkas() {
        let mut h = Harness::new(Durability::Os);
        let joined = join(&mut h, 3, Str::new());
        ask(&mut h, 5, sync(5, &joined));
        // "g" hashes to 103.
        let partition = 103 % h.broker.config.groups.partitions;
        let written = h.fetch(OFFSETS_TOPIC, partition, 0);
        let records = read(&written.records);
        assert_eq!(records.len(), 1);
        let value = &records[0].1;
        assert_eq!(&value[..12], b"\0\x03\0\x08consumer");
        assert!(value.ends_with(b"\0\0\0\x03all"));
    }

    #[test]
    fn every_version_of_every_key_of_groups() {
        for version in ApiKey::JoinGroup.valid_versions() {
            let mut h = Harness::new(Durability::Fsync);
            let of = |key: ApiKey| version.min(*key.valid_versions().end());
            let mut joined = join(&mut h, version, Str::new());
            if joined.error_code == ErrorCode::MEMBER_ID_REQUIRED {
                joined = join(&mut h, version, joined.member_id);
            }
            assert_eq!(joined.error_code, ErrorCode::NONE, "version {version}");
            let v = of(ApiKey::SyncGroup);
            let Response::SyncGroup(synced) = ask(&mut h, v, sync(v, &joined)) else {
                panic!("another answer")
            };
            assert_eq!(synced.error_code, ErrorCode::NONE);
            assert_eq!(
                heartbeat(&mut h, of(ApiKey::Heartbeat), &joined),
                ErrorCode::NONE
            );
            let groups: Vec<Str> = vec!["g".into(), "nobody".into()];
            let describe = |include_authorized_operations| {
                Request::DescribeGroups(DescribeGroupsRequest {
                    groups: groups.clone(),
                    include_authorized_operations,
                })
            };
            let v = of(ApiKey::DescribeGroups);
            let Response::DescribeGroups(described) = ask(&mut h, v, describe(v >= 3)) else {
                panic!("another answer")
            };
            assert_eq!(&*described.groups[0].group_state, "Stable");
            let v = of(ApiKey::ListGroups);
            ask(&mut h, v, Request::ListGroups(ListGroupsRequest::default()));
            let v = of(ApiKey::LeaveGroup);
            let leave = LeaveGroupRequest {
                group_id: "g".into(),
                member_id: if v < 3 {
                    joined.member_id.clone()
                } else {
                    Str::new()
                },
                members: (v >= 3)
                    .then(|| MemberIdentity {
                        member_id: joined.member_id.clone(),
                        ..Default::default()
                    })
                    .into_iter()
                    .collect(),
            };
            ask(&mut h, v, Request::LeaveGroup(leave));
            let delete = DeleteGroupsRequest {
                groups_names: groups,
            };
            let v = of(ApiKey::DeleteGroups);
            let Response::DeleteGroups(deleted) = ask(&mut h, v, Request::DeleteGroups(delete))
            else {
                panic!("another answer")
            };
            assert_eq!(deleted.results[0].error_code, ErrorCode::NONE);
            assert_eq!(deleted.results[1].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
        }
    }
}
