//! Groups: static members of both protocols, and members of one kind of group that ask for another.

use super::*;
use ottla_protocol::VersionedMessage;

use crate::script::{
    groups::{self, FIRST, SECOND, consumer_beat, share_beat, subscribed_topic},
    offsets,
};

fn join(group: &str, member: &str, instance: Option<&str>) -> JoinGroupRequest {
    JoinGroupRequest {
        group_instance_id: instance.map(Into::into),
        ..groups::join(group, member, 0)
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

pub(super) fn static_consumers(s: &mut Session, v: i16) {
    if v < 1 {
        return;
    }
    let group = "edges-static-consumers";
    subscribed_topic(s);
    coordinator(s, group, 0);
    let ask = |s: &mut Session, what: &str, member: &str, epoch: i32, instance: Option<&str>| {
        let mut request = consumer_beat(group, member, epoch, v);
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
    let delete = offsets::delete_of(group, groups::SUBSCRIBED, 0);
    s.ask("offsets of a subscribed topic", 0, delete);
    ask(s, "the older one leaves", FIRST, -1, Some("i"));
    ask(s, "leaves", SECOND, -1, Some("i"));
    ask(s, "leaves again", SECOND, -1, Some("i"));
}

pub(super) fn kinds(s: &mut Session, v: i16) {
    if v < 1 {
        return;
    }
    subscribed_topic(s);
    let (consumer, share, classic, none) = (
        "edges-kind-consumer",
        "edges-kind-share",
        "edges-kind-classic",
        "edges-kind-none",
    );
    for group in [consumer, share, classic] {
        coordinator(s, group, 0);
    }
    let of_consumer = |epoch| consumer_beat(consumer, FIRST, epoch, 1);
    s.prepare(1, Request::ConsumerGroupHeartbeat(of_consumer(0)));
    s.prepare(1, share_beat(share, 0));
    let mut member = Str::new();
    for _ in 0..2 {
        let request = Request::JoinGroup(join(classic, &member, None));
        if let Some(Response::JoinGroup(answer)) = s.prepare(7, request) {
            member = answer.member_id;
        }
    }
    s.call_it(&member, "<classic member>");
    ask_for_each_kind(s, Kind::Consumer, consumer);
    ask_for_each_kind(s, Kind::Share, share);
    commit_to_a_share_group(s, share);
    ask_for_each_kind(s, Kind::Classic, classic);
    ask_for_each_kind(s, Kind::Absent, none);
    let delete = |s: &mut Session, what: &str| {
        let groups = [consumer, share, classic, none].map(Into::into);
        let request = DeleteGroupsRequest {
            groups_names: groups.to_vec(),
        };
        let answer = s.prepare(2, Request::DeleteGroups(request));
        if let Some(Response::DeleteGroups(mut answer)) = answer {
            answer.results.sort_by(|a, b| a.group_id.cmp(&b.group_id));
            s.keep(what, &Response::DeleteGroups(answer));
        }
    };
    delete(s, "deleted");
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
    s.prepare(1, Request::ConsumerGroupHeartbeat(of_consumer(-1)));
    s.prepare(1, share_beat(share, -1));
    delete(s, "deleted when empty");
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Consumer,
    Share,
    Classic,
    /// There is no such group.
    Absent,
}

/// It has no offsets.
fn commit_to_a_share_group(s: &mut Session, group: &str) {
    use txn_offset_commit::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
    let nowhere = offsets::commit("edges-nowhere", Uuid::ZERO, 9, group, 5, None);
    s.ask(
        "share: commit of an unknown topic",
        9,
        Request::OffsetCommit(nowhere),
    );
    let id = "edges-kind-transaction";
    let (producer_id, producer_epoch) = super::transactions::init(s, 5, id);
    let request = TxnOffsetCommitRequest {
        transactional_id: id.into(),
        group_id: group.into(),
        producer_id,
        producer_epoch,
        topics: vec![TxnOffsetCommitRequestTopic {
            name: groups::SUBSCRIBED.into(),
            partitions: vec![TxnOffsetCommitRequestPartition::default()],
        }],
        ..Default::default()
    };
    s.ask(
        "share: commit in a transaction",
        5,
        Request::TxnOffsetCommit(request),
    );
}

/// Asks a group what is meant for groups of each kind; what its own kind makes of it is for the cases in `script/groups.rs`.
fn ask_for_each_kind(s: &mut Session, kind: Kind, group: &str) {
    use Kind::*;
    const ANY: &[Kind] = &[Consumer, Share, Classic, Absent];
    let names = || vec![group.into()];
    let connect = JoinGroupRequest {
        protocol_type: "connect".into(),
        ..join(group, "x", None)
    };
    let beat = HeartbeatRequest {
        group_id: group.into(),
        generation_id: 1,
        member_id: FIRST.into(),
        ..Default::default()
    };
    let sync = SyncGroupRequest {
        group_id: group.into(),
        generation_id: 1,
        member_id: FIRST.into(),
        ..Default::default()
    };
    let leave = LeaveGroupRequest {
        group_id: group.into(),
        members: vec![leave_group::MemberIdentity {
            member_id: "x".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let classic = DescribeGroupsRequest {
        groups: names(),
        ..Default::default()
    };
    let shares = ShareGroupDescribeRequest {
        group_ids: names(),
        ..Default::default()
    };
    let consumers = ConsumerGroupDescribeRequest {
        group_ids: names(),
        ..Default::default()
    };
    let of_nobody = offsets::commit(groups::SUBSCRIBED, Uuid::ZERO, 9, group, 5, None);
    let of_a_stranger = OffsetCommitRequest {
        generation_id_or_member_epoch: 1,
        member_id: "stranger".into(),
        ..of_nobody.clone()
    };
    let fetch = OffsetFetchRequest {
        groups: vec![offset_fetch::OffsetFetchRequestGroup {
            group_id: group.into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let questions: [(&[Kind], &str, i16, Request); 19] = [
        (
            &[Consumer, Share],
            "joins as classic",
            7,
            Request::JoinGroup(join(group, "stranger", None)),
        ),
        (
            &[Consumer, Share],
            "joins as connect",
            7,
            Request::JoinGroup(connect),
        ),
        (ANY, "classic heartbeat", 4, Request::Heartbeat(beat)),
        (ANY, "sync", 4, Request::SyncGroup(sync)),
        (ANY, "leave", 4, Request::LeaveGroup(leave)),
        (
            &[Share, Classic, Absent],
            "consumer heartbeat",
            1,
            Request::ConsumerGroupHeartbeat(consumer_beat(group, FIRST, 3, 1)),
        ),
        (
            &[Share],
            "joins as a consumer",
            1,
            Request::ConsumerGroupHeartbeat(consumer_beat(group, FIRST, 0, 1)),
        ),
        (
            &[Consumer, Classic],
            "joins for a share",
            1,
            share_beat(group, 0),
        ),
        (
            &[Consumer, Classic],
            "share heartbeat",
            1,
            share_beat(group, 1),
        ),
        (
            &[Consumer, Share, Absent],
            "described as classic",
            6,
            Request::DescribeGroups(classic.clone()),
        ),
        (
            &[Consumer, Share, Absent],
            "described as classic, of old",
            5,
            Request::DescribeGroups(classic),
        ),
        (
            &[Consumer, Classic, Absent],
            "described as share",
            1,
            Request::ShareGroupDescribe(shares),
        ),
        (
            &[Share, Classic, Absent],
            "described as consumer",
            1,
            Request::ConsumerGroupDescribe(consumers),
        ),
        (
            &[Consumer, Share, Classic],
            "commit of nobody 8",
            8,
            Request::OffsetCommit(of_nobody.clone()),
        ),
        (
            &[Consumer, Share, Classic],
            "commit of a stranger 8",
            8,
            Request::OffsetCommit(of_a_stranger.clone()),
        ),
        (
            &[Consumer, Share, Classic],
            "commit of nobody 9",
            9,
            Request::OffsetCommit(of_nobody),
        ),
        (
            &[Consumer, Share, Classic],
            "commit of a stranger 9",
            9,
            Request::OffsetCommit(of_a_stranger),
        ),
        (ANY, "offsets", 9, Request::OffsetFetch(fetch)),
        (
            ANY,
            "offsets deleted",
            0,
            offsets::delete_of(group, groups::SUBSCRIBED, 1),
        ),
    ];
    let group_is = match kind {
        Consumer => "consumer",
        Share => "share",
        Classic => "classic",
        Absent => "none",
    };
    for (kinds, what, version, request) in questions {
        if kinds.contains(&kind) {
            s.ask(&format!("{group_is}: {what}"), version, request);
        }
    }
}

/// Members of the newer protocol that go on with the older one.
pub(super) fn goes_classic(s: &mut Session, v: i16) {
    make_topic(s, "edges-consumed", 2, &[]);
    s.topic_id("edges-consumed");
    let joins = |group: &str, member: &str, instance: Option<&str>, topics: &[&str]| {
        let subscription = ConsumerProtocolSubscription {
            topics: topics.iter().map(|t| Str::from(*t)).collect(),
            ..Default::default()
        };
        let mut request = join(group, member, instance.filter(|_| v >= 5));
        request.protocols[0].metadata = subscription.to_bytes(1).unwrap_or_default();
        request
    };
    let consumed: &[&str] = &["edges-consumed"];
    let joins_as_newer = |group: &str| {
        let mut request = consumer_beat(group, FIRST, 0, 1);
        request.subscribed_topic_names = Some(vec!["edges-consumed".into()]);
        request
    };
    let sync = |group: &str, member: &str, generation_id: i32| {
        Request::SyncGroup(SyncGroupRequest {
            group_id: group.into(),
            generation_id,
            member_id: member.into(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            ..Default::default()
        })
    };
    let beat = |group: &str, member: &str, generation_id: i32| {
        Request::Heartbeat(HeartbeatRequest {
            group_id: group.into(),
            generation_id,
            member_id: member.into(),
            group_instance_id: None,
        })
    };
    let described = |s: &mut Session, what: &str, group: &str| {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![group.into()],
            include_authorized_operations: false,
        };
        s.ask(
            &format!("{what}, described"),
            1,
            Request::ConsumerGroupDescribe(request),
        );
        let request = DescribeGroupsRequest {
            groups: vec![group.into()],
            ..Default::default()
        };
        s.ask(
            &format!("{what}, described as classic"),
            6,
            Request::DescribeGroups(request),
        );
    };

    let group = format!("edges-goes-classic-{v}");
    let group = group.as_str();
    let ready = |s: &mut Session, group: &str| {
        coordinator(s, group, 0);
        // A JVM Kafka loads a partition of its groups' topic a moment after that was made.
        until("a coordinator that has loaded", || {
            let request = DescribeGroupsRequest {
                groups: vec![group.into()],
                ..Default::default()
            };
            let Some(Response::DescribeGroups(answer)) =
                s.prepare(0, Request::DescribeGroups(request))
            else {
                return None;
            };
            (answer.groups[0].error_code == ErrorCode::NONE).then_some(())
        });
    };
    ready(s, group);
    s.ask(
        "joins",
        1,
        Request::ConsumerGroupHeartbeat(joins_as_newer(group)),
    );
    let joined = s.ask(
        "goes on as classic",
        v,
        Request::JoinGroup(joins(group, FIRST, None, consumed)),
    );
    let Some(Response::JoinGroup(joined)) = joined else {
        return;
    };
    let generation = joined.generation_id;
    described(s, "it is classic", group);
    s.ask("syncs", 5, sync(group, FIRST, generation));
    s.ask("is alive", 4, beat(group, FIRST, generation));
    s.ask(
        "joins again as classic",
        v,
        Request::JoinGroup(joins(group, FIRST, None, consumed)),
    );
    let mut other = joins(group, FIRST, None, consumed);
    other.protocol_type = "connect".into();
    s.ask("as connect", v, Request::JoinGroup(other));
    s.ask(
        "goes back",
        1,
        Request::ConsumerGroupHeartbeat(joins_as_newer(group)),
    );
    described(s, "it went back", group);
    s.ask(
        "is alive as classic no more",
        4,
        beat(group, FIRST, generation),
    );
    s.ask(
        "goes on as classic again",
        v,
        Request::JoinGroup(joins(group, FIRST, None, consumed)),
    );
    let leave = LeaveGroupRequest {
        group_id: group.into(),
        members: vec![leave_group::MemberIdentity {
            member_id: FIRST.into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    s.ask("leaves", 4, Request::LeaveGroup(leave));
    described(s, "nobody is left", group);

    if v < 5 {
        return;
    }
    for (what, topics) in [("same", consumed), ("other", &["edges-consumed", "x"])] {
        for returns in [false, true] {
            let group = format!("edges-goes-classic-{what}-{returns}-{v}");
            let group = group.as_str();
            let what = |more: &str| format!("{what} topics, with its id {returns}: {more}");
            ready(s, group);
            let mut request = joins_as_newer(group);
            request.instance_id = Some("i".into());
            s.ask(&what("joins"), 1, Request::ConsumerGroupHeartbeat(request));
            let id = if returns { FIRST } else { "" };
            let request = joins(group, id, Some("i"), topics);
            let Some(Response::JoinGroup(joined)) = s.prepare(v, Request::JoinGroup(request))
            else {
                continue;
            };
            let (member, generation) = (joined.member_id.clone(), joined.generation_id);
            if !returns {
                s.call_it(&member, "<member>");
            }
            s.keep(&what("comes back as classic"), &Response::JoinGroup(joined));
            described(s, &what("is back"), group);
            s.ask(&what("syncs"), 5, sync(group, &member, generation));
            s.ask(&what("is alive"), 4, beat(group, &member, generation));
        }
    }
}
