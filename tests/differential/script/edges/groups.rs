//! Groups: static members of both protocols, and members of one kind of group that ask for another.

use super::*;

fn join(group: &str, member: &str, instance: Option<&str>) -> JoinGroupRequest {
    use join_group::JoinGroupRequestProtocol;
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: member.into(),
        group_instance_id: instance.map(Into::into),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: bytes::Bytes::from_static(b"\0\0\0\0\0\0\xff\xff\xff\xff"),
        }],
        ..Default::default()
    }
}

pub(super) fn static_classic(s: &mut Session, v: i16) {
    if v < 5 {
        return;
    }
    let group = format!("edges-static-{v}");
    coordinator(s, &group, 0);
    let joined = s.prepare(v, Request::JoinGroup(join(&group, "", Some("i"))));
    let Some(Response::JoinGroup(joined)) = joined else {
        return s.note("joins", "answer", "none");
    };
    let member = joined.member_id.clone();
    let generation_id = joined.generation_id;
    s.call_it(&member, "<member>");
    s.keep("joins", &Response::JoinGroup(joined));
    s.ask(
        "with another id",
        v,
        Request::JoinGroup(join(&group, "other", Some("i"))),
    );
    s.ask(
        "unknown instance",
        v,
        Request::JoinGroup(join(&group, "other", Some("j"))),
    );
    s.ask(
        "without the instance",
        v,
        Request::JoinGroup(join(&group, "other", None)),
    );
    let beat = |member: &str, instance: Option<&str>, generation_id| {
        Request::Heartbeat(HeartbeatRequest {
            group_id: group.as_str().into(),
            generation_id,
            member_id: member.into(),
            group_instance_id: instance.map(Into::into),
        })
    };
    s.ask(
        "heartbeat of another",
        4,
        beat("other", Some("i"), generation_id),
    );
    s.ask(
        "heartbeat of an unknown instance",
        4,
        beat(&member, Some("j"), generation_id),
    );
    s.ask(
        "heartbeat without the instance",
        4,
        beat(&member, None, generation_id),
    );
    let sync = |member: &str, instance: Option<&str>| {
        Request::SyncGroup(SyncGroupRequest {
            group_id: group.as_str().into(),
            generation_id,
            member_id: member.into(),
            group_instance_id: instance.map(Into::into),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: vec![sync_group::SyncGroupRequestAssignment {
                member_id: member.into(),
                assignment: bytes::Bytes::from_static(b"given"),
            }],
        })
    };
    s.ask("sync of another", 5, sync("other", Some("i")));
    s.ask("sync", 5, sync(&member, Some("i")));
    let delete = Request::OffsetDelete(OffsetDeleteRequest {
        group_id: group.as_str().into(),
        topics: Vec::new(),
    });
    s.ask("offsets deleted meanwhile", 0, delete);
    let groups = DeleteGroupsRequest {
        groups_names: vec![group.as_str().into(), group.as_str().into()],
    };
    s.ask("deleted twice", 2, Request::DeleteGroups(groups));
    let again = s.prepare(v, Request::JoinGroup(join(&group, "", Some("i"))));
    let Some(Response::JoinGroup(again)) = again else {
        return s.note("comes back", "answer", "none");
    };
    let newer = again.member_id.clone();
    s.call_it(&newer, "<newer member>");
    s.keep("comes back", &Response::JoinGroup(again));
    s.ask(
        "heartbeat of the older",
        4,
        beat(&member, Some("i"), generation_id),
    );
    s.ask(
        "heartbeat of the newer",
        4,
        beat(&newer, Some("i"), generation_id),
    );
    let leave = |member: &str, instance: Option<&str>| leave_group::MemberIdentity {
        member_id: member.into(),
        group_instance_id: instance.map(Into::into),
        ..Default::default()
    };
    let request = LeaveGroupRequest {
        group_id: group.as_str().into(),
        members: vec![
            leave(&member, Some("i")),
            leave("", Some("j")),
            leave("", Some("i")),
            leave("", None),
        ],
        ..Default::default()
    };
    s.ask("leave", 4, Request::LeaveGroup(request));
}

fn consumer_beat(group: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    let joins = epoch == 0;
    ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: member.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: if joins { 30_000 } else { -1 },
        subscribed_topic_names: joins.then(|| vec!["edges-consumed".into()]),
        topic_partitions: joins.then(Vec::new),
        ..Default::default()
    }
}

const FIRST: &str = "AAAAAAAAAAAAAAAAAAAAAQ";
const SECOND: &str = "BBBBBBBBBBBBBBBBBBBBBQ";

pub(super) fn static_consumers(s: &mut Session, v: i16) {
    if v < 1 {
        return;
    }
    let group = "edges-static-consumers";
    make_topic(s, "edges-consumed", 2, &[]);
    s.topic_id("edges-consumed");
    coordinator(s, group, 0);
    let ask = |s: &mut Session, what: &str, member: &str, epoch: i32, instance: Option<&str>| {
        let mut request = consumer_beat(group, member, epoch);
        request.instance_id = instance.map(Into::into);
        s.ask(what, v, Request::ConsumerGroupHeartbeat(request));
    };
    ask(s, "joins", FIRST, 0, Some("i"));
    ask(s, "another with its place", SECOND, 0, Some("i"));
    ask(s, "another goes on in its place", SECOND, 1, Some("i"));
    ask(s, "without the instance", FIRST, 1, None);
    ask(s, "unknown instance", FIRST, 1, Some("j"));
    ask(s, "leaves without an instance", FIRST, -2, None);
    ask(s, "leaves for a while", FIRST, -2, Some("i"));
    ask(s, "goes on all the same", FIRST, 1, Some("i"));
    ask(s, "comes back", SECOND, 0, Some("i"));
    ask(s, "the older one goes on", FIRST, 1, Some("i"));
    let describe = ConsumerGroupDescribeRequest {
        group_ids: vec![group.into()],
        include_authorized_operations: false,
    };
    s.ask("described", 1, Request::ConsumerGroupDescribe(describe));
    let subscribed = OffsetDeleteRequest {
        group_id: group.into(),
        topics: vec![offset_delete::OffsetDeleteRequestTopic {
            name: "edges-consumed".into(),
            partitions: vec![offset_delete::OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    s.ask(
        "offsets of a subscribed topic",
        0,
        Request::OffsetDelete(subscribed),
    );
    ask(s, "the older one leaves", FIRST, -1, Some("i"));
    ask(s, "leaves", SECOND, -1, Some("i"));
    ask(s, "leaves again", SECOND, -1, Some("i"));
}

pub(super) fn kinds(s: &mut Session, v: i16) {
    if v < 1 {
        return;
    }
    make_topic(s, "edges-consumed", 2, &[]);
    s.topic_id("edges-consumed");
    let (consumer, share, classic) = (
        "edges-kind-consumer",
        "edges-kind-share",
        "edges-kind-classic",
    );
    for group in [consumer, share, classic] {
        coordinator(s, group, 0);
    }
    let share_beat = |group: &str, member_epoch: i32| {
        Request::ShareGroupHeartbeat(ShareGroupHeartbeatRequest {
            group_id: group.into(),
            member_id: FIRST.into(),
            member_epoch,
            subscribed_topic_names: (member_epoch == 0).then(|| vec!["edges-consumed".into()]),
            ..Default::default()
        })
    };
    s.prepare(
        1,
        Request::ConsumerGroupHeartbeat(consumer_beat(consumer, FIRST, 0)),
    );
    s.prepare(1, share_beat(share, 0));
    let mut member = Str::new();
    for _ in 0..2 {
        let request = Request::JoinGroup(join(classic, &member, None));
        if let Some(Response::JoinGroup(answer)) = s.prepare(7, request) {
            member = answer.member_id;
        }
    }
    s.call_it(&member, "<classic member>");
    for (kind, group) in [
        ("consumer", consumer),
        ("share", share),
        ("classic", classic),
        ("none", "edges-kind-none"),
    ] {
        let what = |what: &str| format!("{kind}: {what}");
        if kind != "classic" && kind != "none" {
            s.ask(
                &what("joins as classic"),
                7,
                Request::JoinGroup(join(group, "stranger", None)),
            );
            let mut other = join(group, "x", None);
            other.protocol_type = "connect".into();
            s.ask(&what("joins as connect"), 7, Request::JoinGroup(other));
        }
        let beat = HeartbeatRequest {
            group_id: group.into(),
            generation_id: 1,
            member_id: FIRST.into(),
            ..Default::default()
        };
        s.ask(&what("classic heartbeat"), 4, Request::Heartbeat(beat));
        let sync = SyncGroupRequest {
            group_id: group.into(),
            generation_id: 1,
            member_id: FIRST.into(),
            ..Default::default()
        };
        s.ask(&what("sync"), 4, Request::SyncGroup(sync));
        let leave = LeaveGroupRequest {
            group_id: group.into(),
            members: vec![leave_group::MemberIdentity {
                member_id: "x".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        s.ask(&what("leave"), 4, Request::LeaveGroup(leave));
        if kind != "consumer" {
            s.ask(
                &what("consumer heartbeat"),
                1,
                Request::ConsumerGroupHeartbeat(consumer_beat(group, FIRST, 3)),
            );
        }
        if kind == "share" {
            s.ask(
                &what("joins as a consumer"),
                1,
                Request::ConsumerGroupHeartbeat(consumer_beat(group, FIRST, 0)),
            );
        }
        if kind == "consumer" || kind == "classic" {
            s.ask(&what("joins for a share"), 1, share_beat(group, 0));
            s.ask(&what("share heartbeat"), 1, share_beat(group, 1));
        }
        let ids = vec![Str::from(group)];
        let request = DescribeGroupsRequest {
            groups: ids.clone(),
            ..Default::default()
        };
        if kind != "classic" {
            s.ask(
                &what("described as classic"),
                6,
                Request::DescribeGroups(request.clone()),
            );
            s.ask(
                &what("described as classic, of old"),
                5,
                Request::DescribeGroups(request),
            );
        }
        let request = ShareGroupDescribeRequest {
            group_ids: ids.clone(),
            ..Default::default()
        };
        if kind != "share" {
            s.ask(
                &what("described as share"),
                1,
                Request::ShareGroupDescribe(request),
            );
        }
        let request = ConsumerGroupDescribeRequest {
            group_ids: ids.clone(),
            ..Default::default()
        };
        if kind != "consumer" {
            s.ask(
                &what("described as consumer"),
                1,
                Request::ConsumerGroupDescribe(request),
            );
        }
        let commit = |generation_id_or_member_epoch, member_id: &str| OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch,
            member_id: member_id.into(),
            topics: vec![offset_commit::OffsetCommitRequestTopic {
                name: "edges-consumed".into(),
                partitions: vec![offset_commit::OffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: 5,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        if kind != "none" {
            for version in [8, 9] {
                s.ask(
                    &what(&format!("commit of nobody {version}")),
                    version,
                    Request::OffsetCommit(commit(-1, "")),
                );
                s.ask(
                    &what(&format!("commit of a stranger {version}")),
                    version,
                    Request::OffsetCommit(commit(1, "stranger")),
                );
            }
        }
        let fetch = OffsetFetchRequest {
            groups: vec![offset_fetch::OffsetFetchRequestGroup {
                group_id: group.into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        s.ask(&what("offsets"), 9, Request::OffsetFetch(fetch));
        let delete = OffsetDeleteRequest {
            group_id: group.into(),
            topics: vec![offset_delete::OffsetDeleteRequestTopic {
                name: "edges-consumed".into(),
                partitions: vec![offset_delete::OffsetDeleteRequestPartition {
                    partition_index: 1,
                }],
            }],
        };
        s.ask(&what("offsets deleted"), 0, Request::OffsetDelete(delete));
    }
    let all = [consumer, share, classic, "edges-kind-none"];
    let ask = |s: &mut Session, what: &str| {
        let request = DeleteGroupsRequest {
            groups_names: all.iter().map(|g| (*g).into()).collect(),
        };
        let answer = s.prepare(2, Request::DeleteGroups(request));
        if let Some(Response::DeleteGroups(mut answer)) = answer {
            answer.results.sort_by(|a, b| a.group_id.cmp(&b.group_id));
            s.keep(what, &Response::DeleteGroups(answer));
        }
    };
    ask(s, "deleted");
    for (what, states, types) in [
        ("of states", vec!["Stable", "Empty"], vec![]),
        ("shares", vec![], vec!["share"]),
        ("consumers", vec!["stable"], vec!["Consumer", "nonsense"]),
    ] {
        let request = ListGroupsRequest {
            states_filter: states.into_iter().map(Into::into).collect(),
            types_filter: types.into_iter().map(Into::into).collect(),
        };
        if let Some(Response::ListGroups(mut answer)) = s.prepare(5, Request::ListGroups(request)) {
            answer
                .groups
                .retain(|g| g.group_id.starts_with("edges-kind"));
            answer.groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
            s.keep(&format!("listed {what}"), &Response::ListGroups(answer));
        }
    }
    s.prepare(
        1,
        Request::ConsumerGroupHeartbeat(consumer_beat(consumer, FIRST, -1)),
    );
    s.prepare(1, share_beat(share, -1));
    ask(s, "deleted when empty");
}
