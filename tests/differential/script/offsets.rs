//! Committed offsets.

use super::*;
use ApiKey::*;
use offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics};

pub const CASES: &[Row] = &[
    ("offset commit", OffsetCommit, commit_each),
    ("offset fetch", OffsetFetch, fetch_each),
    ("offset delete", OffsetDelete, delete),
];

pub(super) fn commit(
    topic: &str,
    id: Uuid,
    v: i16,
    group: &str,
    offset: i64,
    metadata: Option<&str>,
) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: if v >= 10 { Str::new() } else { topic.into() },
            topic_id: if v >= 10 { id } else { Uuid::ZERO },
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                committed_metadata: metadata.map(Into::into),
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

fn commit_each(s: &mut Session, v: i16) {
    let name = format!("commit-{v}");
    let group = format!("commit-{v}");
    make_topic(s, &name, 1, &[]);
    let id = s.topic_id(&name);
    coordinator(s, &group, 0);
    let mut ask = |what: &str, request: OffsetCommitRequest| {
        s.ask(what, v, Request::OffsetCommit(request));
    };
    ask("first", commit(&name, id, v, &group, 5, Some("m")));
    ask("null metadata", commit(&name, id, v, &group, 6, None));
    ask(
        "long metadata",
        commit(&name, id, v, &group, 7, Some(&"m".repeat(5000))),
    );
    ask("negative", commit(&name, id, v, &group, -1, None));
    ask(
        "no such topic",
        commit("commit-none", Uuid::from_random(2), v, &group, 1, None),
    );
    ask("no group", commit(&name, id, v, "", 1, None));
    let mut other = commit(&name, id, v, &group, 1, None);
    other.topics[0].partitions[0].partition_index = 9;
    ask("no such partition", other);
    let mut member = commit(&name, id, v, &group, 1, None);
    member.member_id = "nobody".into();
    member.generation_id_or_member_epoch = 3;
    ask("unknown member", member.clone());
    member.group_id = format!("commit-unknown-{v}").into();
    ask("unknown member of an unknown group", member);
    let mut generation = commit(&name, id, v, &group, 1, None);
    generation.generation_id_or_member_epoch = 3;
    ask("generation without a member", generation);
}

fn fetch_of(v: i16, group: &str, topics: Option<&[(&str, Uuid, &[i32])]>) -> Request {
    if v >= 8 {
        let topics = topics.map(|topics| {
            let each = topics
                .iter()
                .map(|(name, id, partitions)| OffsetFetchRequestTopics {
                    name: if v >= 10 { Str::new() } else { (*name).into() },
                    topic_id: if v >= 10 { *id } else { Uuid::ZERO },
                    partition_indexes: partitions.to_vec(),
                });
            each.collect()
        });
        Request::OffsetFetch(OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: group.into(),
                topics,
                ..Default::default()
            }],
            ..Default::default()
        })
    } else {
        let topics = topics.map(|topics| {
            let each = topics
                .iter()
                .map(|(name, _, partitions)| OffsetFetchRequestTopic {
                    name: (*name).into(),
                    partition_indexes: partitions.to_vec(),
                });
            each.collect()
        });
        Request::OffsetFetch(OffsetFetchRequest {
            group_id: group.into(),
            topics,
            ..Default::default()
        })
    }
}

fn fetch_each(s: &mut Session, v: i16) {
    let name = format!("offset-fetch-{v}");
    let group = format!("offset-fetch-{v}");
    make_topic(s, &name, 2, &[]);
    let id = s.topic_id(&name);
    coordinator(s, &group, 0);
    s.prepare(
        7,
        Request::OffsetCommit(commit(&name, id, 7, &group, 5, Some("m"))),
    );
    let here: (&str, Uuid, &[i32]) = (&name, id, &[0, 1, 9]);
    s.ask("committed and not", v, fetch_of(v, &group, Some(&[here])));
    let gone: (&str, Uuid, &[i32]) = ("offset-fetch-none", Uuid::from_random(4), &[0]);
    s.ask("no such topic", v, fetch_of(v, &group, Some(&[gone])));
    s.ask(
        "unknown group",
        v,
        fetch_of(v, "offset-fetch-unknown", Some(&[here])),
    );
    s.ask("no group", v, fetch_of(v, "", Some(&[here])));
    s.ask("no topics", v, fetch_of(v, &group, Some(&[])));
    if v >= 2 {
        s.ask("all", v, fetch_of(v, &group, None));
        s.ask(
            "all of an unknown group",
            v,
            fetch_of(v, "offset-fetch-unknown", None),
        );
    }
    if v >= 7
        && let Request::OffsetFetch(mut request) = fetch_of(v, &group, Some(&[here]))
    {
        request.require_stable = true;
        s.ask("stable", v, Request::OffsetFetch(request));
    }
    if v >= 9
        && let Request::OffsetFetch(mut request) = fetch_of(v, &group, Some(&[here]))
    {
        request.groups[0].member_id = Some("nobody".into());
        request.groups[0].member_epoch = 4;
        s.ask("unknown member", v, Request::OffsetFetch(request));
    }
}

pub(super) fn delete_of(group: &str, topic: &str, partition_index: i32) -> Request {
    use offset_delete::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    Request::OffsetDelete(OffsetDeleteRequest {
        group_id: group.into(),
        topics: vec![OffsetDeleteRequestTopic {
            name: topic.into(),
            partitions: vec![OffsetDeleteRequestPartition { partition_index }],
        }],
    })
}

fn delete(s: &mut Session, v: i16) {
    make_topic(s, "offset-delete", 1, &[]);
    coordinator(s, "offset-delete", 0);
    let group = "offset-delete";
    let stored = commit("offset-delete", Uuid::ZERO, 7, group, 5, None);
    s.prepare(7, Request::OffsetCommit(stored));
    for (what, group, topic, partition_index) in [
        ("not committed", group, "offset-delete", 7),
        ("no such topic", group, "offset-delete-none", 0),
        ("there", group, "offset-delete", 0),
        ("gone", group, "offset-delete", 0),
        ("unknown group", "offset-delete-unknown", "offset-delete", 0),
        ("no group", "", "offset-delete", 0),
    ] {
        s.ask(what, v, delete_of(group, topic, partition_index));
    }
}
