//! Groups of all kinds: joined, kept, described, left, deleted.

use super::*;
use ApiKey::*;
use join_group::JoinGroupRequestProtocol;
use leave_group::MemberIdentity;
use sync_group::SyncGroupRequestAssignment;

pub const CASES: &[Row] = &[
    ("find coordinator", FindCoordinator, find),
    ("join group", JoinGroup, join_each),
    ("sync group", SyncGroup, sync_each),
    ("heartbeat", Heartbeat, heartbeat_each),
    ("leave group", LeaveGroup, leave_each),
    ("describe groups", DescribeGroups, describe),
    ("list groups", ListGroups, list),
    ("delete groups", DeleteGroups, delete),
    ("consumer group heartbeat", ConsumerGroupHeartbeat, consumer),
    (
        "consumer group describe",
        ConsumerGroupDescribe,
        describe_consumer,
    ),
    ("share group heartbeat", ShareGroupHeartbeat, share),
    ("share group describe", ShareGroupDescribe, describe_share),
];

fn find(s: &mut Session, v: i16) {
    for key_type in if v >= 1 { vec![0, 1, 2, 3] } else { vec![0] } {
        let key = if key_type == 2 {
            "group:AAAAAAAAAAAAAAAAAAAABQ:0"
        } else {
            "find-coordinator"
        };
        if key_type < 2 {
            coordinator(s, key, key_type);
        }
        for key in [key, ""] {
            let request = FindCoordinatorRequest {
                key: if v >= 4 { Str::new() } else { key.into() },
                key_type,
                coordinator_keys: if v >= 4 { vec![key.into()] } else { Vec::new() },
            };
            let what = format!("type {key_type} {key:?}");
            s.ask(&what, v, Request::FindCoordinator(request));
        }
    }
}

pub(super) fn join(group: &str, member: &str, v: i16) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: member.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: bytes::Bytes::from_static(b"\0\0\0\0\0\0\xff\xff\xff\xff"),
        }],
        reason: (v >= 8).then(|| "because".into()),
        ..Default::default()
    }
}

/// Joins alone: the member's id and generation.
fn join_alone(s: &mut Session, group: &str) -> (Str, i32) {
    coordinator(s, group, 0);
    let mut member = Str::new();
    for _ in 0..2 {
        let request = join(group, &member, 7);
        if let Some(Response::JoinGroup(answer)) = s.prepare(7, Request::JoinGroup(request)) {
            member = answer.member_id;
            s.call_it(&member, "<member>");
            if answer.error_code.0 == 0 {
                return (member, answer.generation_id);
            }
        }
    }
    (member, -1)
}

fn join_each(s: &mut Session, v: i16) {
    let group = format!("join-{v}");
    coordinator(s, &group, 0);
    let first = s.prepare(v, Request::JoinGroup(join(&group, "", v)));
    if let Some(Response::JoinGroup(answer)) = first {
        s.call_it(&answer.member_id, "<member>");
        let member = answer.member_id.clone();
        s.keep("first", &Response::JoinGroup(answer));
        s.ask(
            "with the id",
            v,
            Request::JoinGroup(join(&group, &member, v)),
        );
        s.ask("once more", v, Request::JoinGroup(join(&group, &member, v)));
        let mut other = join(&group, "", v);
        other.protocol_type = "connect".into();
        s.ask("other type", v, Request::JoinGroup(other));
        let mut other = join(&group, &member, v);
        other.protocols[0].name = "none-in-common".into();
        other.protocol_type = "consumer".into();
        s.ask("other protocol", v, Request::JoinGroup(other));
    }
    let mut ask = |what: &str, change: &dyn Fn(&mut JoinGroupRequest)| {
        let mut request = join(&format!("join-refused-{v}"), "", v);
        change(&mut request);
        s.ask(what, v, Request::JoinGroup(request));
    };
    ask("unknown member", &|r| r.member_id = "nobody".into());
    ask("session too short", &|r| r.session_timeout_ms = 10);
    ask("session too long", &|r| r.session_timeout_ms = 100_000_000);
    ask("no protocols", &|r| r.protocols.clear());
    ask("no type", &|r| r.protocol_type = Str::new());
    ask("no group", &|r| r.group_id = Str::new());
    if v >= 5 {
        let mut of = join(&format!("join-static-{v}"), "", v);
        of.group_instance_id = Some("instance".into());
        for what in ["static", "static again"] {
            let joined = s.prepare(v, Request::JoinGroup(of.clone()));
            if let Some(Response::JoinGroup(answer)) = joined {
                s.call_it(&answer.member_id, &format!("<{what}>"));
                s.keep(what, &Response::JoinGroup(answer));
            }
        }
    }
}

fn sync(group: &str, member: &Str, generation_id: i32, v: i16) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: group.into(),
        generation_id,
        member_id: member.clone(),
        protocol_type: (v >= 5).then(|| "consumer".into()),
        protocol_name: (v >= 5).then(|| "range".into()),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: member.clone(),
            assignment: bytes::Bytes::from_static(b"given"),
        }],
        ..Default::default()
    }
}

fn sync_each(s: &mut Session, v: i16) {
    let group = format!("sync-{v}");
    let (member, generation) = join_alone(s, &group);
    let mut ask = |what: &str, request: SyncGroupRequest| {
        s.ask(what, v, Request::SyncGroup(request));
    };
    ask(
        "unknown member",
        sync(&group, &"nobody".into(), generation, v),
    );
    ask("old generation", sync(&group, &member, generation - 1, v));
    ask(
        "unknown group",
        sync("sync-unknown", &member, generation, v),
    );
    ask("no group", sync("", &member, generation, v));
    if v >= 5 {
        let mut other = sync(&group, &member, generation, v);
        other.protocol_name = Some("other".into());
        ask("other protocol", other);
    }
    ask("leader", sync(&group, &member, generation, v));
    ask("again", sync(&group, &member, generation, v));
}

fn heartbeat_each(s: &mut Session, v: i16) {
    let group = format!("heartbeat-{v}");
    let (member, generation_id) = join_alone(s, &group);
    let beat = |group: &str, member: &str, generation_id| {
        Request::Heartbeat(HeartbeatRequest {
            group_id: group.into(),
            generation_id,
            member_id: member.into(),
            ..Default::default()
        })
    };
    s.ask("before the sync", v, beat(&group, &member, generation_id));
    s.prepare(
        4,
        Request::SyncGroup(sync(&group, &member, generation_id, 4)),
    );
    s.ask("stable", v, beat(&group, &member, generation_id));
    s.ask(
        "old generation",
        v,
        beat(&group, &member, generation_id - 1),
    );
    s.ask("unknown member", v, beat(&group, "nobody", generation_id));
    s.ask(
        "unknown group",
        v,
        beat("heartbeat-unknown", &member, generation_id),
    );
    s.ask("no group", v, beat("", &member, generation_id));
}

fn leave(group: &str, members: &[&str], v: i16) -> Request {
    let member = |id: &&str| MemberIdentity {
        member_id: (*id).into(),
        ..Default::default()
    };
    Request::LeaveGroup(if v >= 3 {
        LeaveGroupRequest {
            group_id: group.into(),
            members: members.iter().map(member).collect(),
            ..Default::default()
        }
    } else {
        LeaveGroupRequest {
            group_id: group.into(),
            member_id: members.first().copied().unwrap_or_default().into(),
            ..Default::default()
        }
    })
}

fn leave_each(s: &mut Session, v: i16) {
    let group = format!("leave-{v}");
    let (member, _) = join_alone(s, &group);
    s.ask("unknown member", v, leave(&group, &["nobody"], v));
    s.ask("unknown group", v, leave("leave-unknown", &[&member], v));
    s.ask("no group", v, leave("", &[&member], v));
    if v >= 3 {
        s.ask("nobody", v, leave(&group, &[], v));
        s.ask("one of two", v, leave(&group, &["nobody", &member], v));
    } else {
        s.ask("member", v, leave(&group, &[&member], v));
    }
    s.ask("again", v, leave(&group, &[&member], v));
}

fn describe(s: &mut Session, v: i16) {
    let group = format!("describe-{v}");
    let (member, generation) = join_alone(s, &group);
    let ask = |groups: &[&str]| {
        Request::DescribeGroups(DescribeGroupsRequest {
            groups: groups.iter().map(|g| (*g).into()).collect(),
            include_authorized_operations: v >= 3,
        })
    };
    s.ask("completing", v, ask(&[&group]));
    s.prepare(4, Request::SyncGroup(sync(&group, &member, generation, 4)));
    s.ask("stable", v, ask(&[&group]));
    s.prepare(3, leave(&group, &[&member], 3));
    s.ask("empty", v, ask(&[&group]));
    s.ask("unknown", v, ask(&["describe-unknown"]));
    s.ask("no name", v, ask(&[""]));
    s.ask("none", v, ask(&[]));
}

fn list(s: &mut Session, v: i16) {
    let group = format!("list-{v}");
    let (member, generation) = join_alone(s, &group);
    s.prepare(4, Request::SyncGroup(sync(&group, &member, generation, 4)));
    let mut ask = |what: &str, states: &[&str], types: &[&str]| {
        let request = ListGroupsRequest {
            states_filter: states.iter().map(|x| (*x).into()).collect(),
            types_filter: types.iter().map(|x| (*x).into()).collect(),
        };
        if let Some(Response::ListGroups(mut answer)) = s.prepare(v, Request::ListGroups(request)) {
            answer.groups.retain(|listed| *listed.group_id == *group);
            s.keep(what, &Response::ListGroups(answer));
        }
    };
    ask("all", &[], &[]);
    if v >= 4 {
        ask("stable", &["Stable"], &[]);
        ask("stable in other letters", &["sTaBlE"], &[]);
        ask("empty", &["Empty"], &[]);
        ask("no such state", &["Glad"], &[]);
    }
    if v >= 5 {
        ask("classic", &[], &["classic"]);
        ask("consumer", &[], &["Consumer"]);
        ask("no such type", &[], &["glad"]);
    }
}

fn delete(s: &mut Session, v: i16) {
    let group = format!("delete-{v}");
    let (member, _) = join_alone(s, &group);
    let ask = |groups: &[&str]| {
        Request::DeleteGroups(DeleteGroupsRequest {
            groups_names: groups.iter().map(|g| (*g).into()).collect(),
        })
    };
    s.ask("not empty", v, ask(&[&group]));
    s.prepare(3, leave(&group, &[&member], 3));
    s.ask("empty", v, ask(&[&group]));
    s.ask("gone", v, ask(&[&group]));
    s.ask("no name", v, ask(&[""]));
}

/// The topic that members subscribe to.
pub(super) const SUBSCRIBED: &str = "subscribed";

pub(super) fn subscribed_topic(s: &mut Session) {
    make_topic(s, SUBSCRIBED, 2, &[]);
    s.topic_id(SUBSCRIBED);
}

/// Members that choose their ids themselves.
pub(super) const FIRST: &str = "AAAAAAAAAAAAAAAAAAAAAQ";
pub(super) const SECOND: &str = "BBBBBBBBBBBBBBBBBBBBBQ";

pub(super) fn consumer_beat(
    group: &str,
    member: &str,
    epoch: i32,
    v: i16,
) -> ConsumerGroupHeartbeatRequest {
    let joins = epoch == 0;
    ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: if v == 0 && joins {
            Str::new()
        } else {
            member.into()
        },
        member_epoch: epoch,
        rebalance_timeout_ms: if joins { 30_000 } else { -1 },
        subscribed_topic_names: joins.then(|| vec![SUBSCRIBED.into()]),
        topic_partitions: joins.then(Vec::new),
        ..Default::default()
    }
}

fn consumer(s: &mut Session, v: i16) {
    let group = format!("consumer-{v}");
    subscribed_topic(s);
    let idle = format!("consumer-idle-{v}");
    coordinator(s, &group, 0);
    coordinator(s, &idle, 0);
    let mut member: Str = FIRST.into();
    let mut beat = |what: &str, request: ConsumerGroupHeartbeatRequest| {
        let answer = s.prepare(v, Request::ConsumerGroupHeartbeat(request));
        let mut epoch = -9;
        let mut known = None;
        if let Some(Response::ConsumerGroupHeartbeat(answer)) = answer {
            if v == 0
                && let Some(chosen) = &answer.member_id
            {
                s.call_it(chosen, "<member>");
            }
            epoch = answer.member_epoch;
            known = answer.member_id.clone();
            s.keep(what, &Response::ConsumerGroupHeartbeat(answer));
        } else {
            s.note(what, "answer", "none");
        }
        (epoch, known)
    };
    let joining = consumer_beat(&group, FIRST, 0, v);
    let change = |f: &dyn Fn(&mut ConsumerGroupHeartbeatRequest)| {
        let mut request = joining.clone();
        f(&mut request);
        request
    };
    beat("no group", change(&|r| r.group_id = Str::new()));
    beat("no timeout", change(&|r| r.rebalance_timeout_ms = -1));
    beat(
        "no subscription",
        change(&|r| r.subscribed_topic_names = None),
    );
    beat("no partitions", change(&|r| r.topic_partitions = None));
    beat(
        "assignor",
        change(&|r| r.server_assignor = Some("none".into())),
    );
    beat(
        "empty instance",
        change(&|r| r.instance_id = Some(Str::new())),
    );
    beat("epoch -3", change(&|r| r.member_epoch = -3));
    if v >= 1 {
        beat(
            "regex",
            change(&|r| r.subscribed_topic_regex = Some("(".into())),
        );
    }
    beat(
        "unknown group",
        consumer_beat("consumer-unknown", FIRST, 3, v),
    );
    let of_nothing = |r: &mut ConsumerGroupHeartbeatRequest| {
        r.group_id = idle.as_str().into();
        r.subscribed_topic_names = Some(Vec::new());
    };
    beat("subscribes to nothing", change(&of_nothing));
    let (epoch, chosen) = beat("joins", joining.clone());
    member = chosen.unwrap_or(member);
    beat("goes on", consumer_beat(&group, &member, epoch, v));
    beat("newer epoch", consumer_beat(&group, &member, epoch + 7, v));
    beat("unknown member", consumer_beat(&group, SECOND, epoch, v));
    beat("leaves", consumer_beat(&group, &member, -1, v));
    beat("is gone", consumer_beat(&group, &member, epoch, v));
    // What a group has for itself, from the next heartbeat on. Another group: Kafka assigns again only a second after it did so.
    let group = format!("{group}-own");
    coordinator(s, &group, 0);
    let joining = ConsumerGroupHeartbeatRequest {
        group_id: group.as_str().into(),
        ..joining
    };
    let own = |value: Option<&str>| {
        use incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
        Request::IncrementalAlterConfigs(IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: 32,
                resource_name: group.as_str().into(),
                configs: vec![AlterableConfig {
                    name: "consumer.heartbeat.interval.ms".into(),
                    config_operation: i8::from(value.is_none()),
                    value: value.map(Into::into),
                }],
            }],
            validate_only: false,
        })
    };
    s.prepare(1, own(Some("7000")));
    settle(s);
    let joined = s.prepare(v, Request::ConsumerGroupHeartbeat(joining));
    let Some(Response::ConsumerGroupHeartbeat(joined)) = joined else {
        return s.note("its own interval", "answer", "none");
    };
    let chosen = joined.member_id.clone().unwrap_or_default();
    if v == 0 {
        s.call_it(&chosen, "<other member>");
    }
    let epoch = joined.member_epoch;
    s.keep(
        "its own interval",
        &Response::ConsumerGroupHeartbeat(joined),
    );
    s.prepare(1, own(None));
    settle(s);
    let goes_on = Request::ConsumerGroupHeartbeat(consumer_beat(&group, &chosen, epoch, v));
    s.ask("and that of all again", v, goes_on);
}

fn describe_consumer(s: &mut Session, v: i16) {
    let group = format!("consumer-described-{v}");
    subscribed_topic(s);
    coordinator(s, &group, 0);
    let ask = |groups: &[&str]| {
        Request::ConsumerGroupDescribe(ConsumerGroupDescribeRequest {
            group_ids: groups.iter().map(|g| (*g).into()).collect(),
            include_authorized_operations: true,
        })
    };
    let joining = consumer_beat(&group, FIRST, 0, 1);
    s.prepare(1, Request::ConsumerGroupHeartbeat(joining));
    s.ask("one member", v, ask(&[&group]));
    s.ask("unknown", v, ask(&["consumer-described-unknown"]));
    s.ask("no name", v, ask(&[""]));
    let leaving = consumer_beat(&group, FIRST, -1, 1);
    s.prepare(1, Request::ConsumerGroupHeartbeat(leaving));
    s.ask("empty", v, ask(&[&group]));
    let classic = format!("consumer-described-classic-{v}");
    join_alone(s, &classic);
    s.ask("classic", v, ask(&[&classic]));
}

pub(super) fn share_beat(group: &str, member_epoch: i32) -> Request {
    Request::ShareGroupHeartbeat(ShareGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: FIRST.into(),
        member_epoch,
        subscribed_topic_names: (member_epoch == 0).then(|| vec![SUBSCRIBED.into()]),
        ..Default::default()
    })
}

fn share(s: &mut Session, v: i16) {
    let group = format!("share-{v}");
    subscribed_topic(s);
    coordinator(s, &group, 0);
    s.ask("no group", v, share_beat("", 0));
    s.ask("unknown group", v, share_beat("share-unknown", 4));
    s.ask("joins", v, share_beat(&group, 0));
    s.ask("newer epoch", v, share_beat(&group, 99));
    s.ask("leaves", v, share_beat(&group, -1));
    s.ask("is gone", v, share_beat(&group, 1));
}

fn describe_share(s: &mut Session, v: i16) {
    let ask = |groups: &[&str]| {
        Request::ShareGroupDescribe(ShareGroupDescribeRequest {
            group_ids: groups.iter().map(|g| (*g).into()).collect(),
            include_authorized_operations: true,
        })
    };
    coordinator(s, "share-described", 0);
    subscribed_topic(s);
    s.ask("unknown", v, ask(&["share-described-unknown"]));
    s.prepare(1, share_beat("share-described", 0));
    s.prepare(1, share_beat("share-described", -1));
    s.ask("empty", v, ask(&["share-described"]));
}
