//! Share groups beyond the heartbeat: what is fetched, acknowledged, altered and forgotten.

use super::*;
use ApiKey::*;
use share_acknowledge::{AcknowledgePartition, AcknowledgeTopic};
use share_fetch::{FetchPartition, FetchTopic};

pub const CASES: &[Row] = &[
    ("share fetch", ShareFetch, fetch_each),
    ("share acknowledge", ShareAcknowledge, acknowledge_each),
    ("share group offsets", DescribeShareGroupOffsets, offsets),
];

const MEMBER: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

fn set_group(s: &mut Session, group: &str, settings: &[(&str, &str)]) {
    use incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 32,
            resource_name: group.into(),
            configs: settings
                .iter()
                .map(|(name, value)| AlterableConfig {
                    name: (*name).into(),
                    config_operation: 0,
                    value: Some((*value).into()),
                })
                .collect(),
        }],
        validate_only: false,
    };
    s.prepare(1, Request::IncrementalAlterConfigs(request));
    settle(s);
}

fn beat(group: &str, topic: &str, member_epoch: i32) -> Request {
    Request::ShareGroupHeartbeat(ShareGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: MEMBER.into(),
        member_epoch,
        subscribed_topic_names: (member_epoch == 0).then(|| vec![topic.into()]),
        ..Default::default()
    })
}

/// A member of a group that begins with the first record, and has been assigned the topic.
fn join(s: &mut Session, group: &str, topic: &str) {
    coordinator(s, group, 0);
    set_group(s, group, &[("share.auto.offset.reset", "earliest")]);
    let mut epoch = 0;
    until(&format!("partitions for the member of {group}"), || {
        let answer = s.prepare(1, beat(group, topic, epoch));
        let Some(Response::ShareGroupHeartbeat(answer)) = answer else {
            return None;
        };
        epoch = answer.member_epoch;
        let assigned = answer.assignment?;
        (!assigned.topic_partitions.is_empty()).then_some(())
    });
}

/// First, last, and how they are acknowledged.
type Acks<'a> = &'a [(i64, i64, &'a [i8])];

fn fetch(group: &str, id: Uuid, epoch: i32, partition: i32, acks: Acks) -> ShareFetchRequest {
    ShareFetchRequest {
        group_id: Some(group.into()),
        member_id: Some(MEMBER.into()),
        share_session_epoch: epoch,
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1 << 20,
        max_records: 500,
        batch_size: 500,
        topics: vec![FetchTopic {
            topic_id: id,
            partitions: vec![FetchPartition {
                partition_index: partition,
                acknowledgement_batches: acks
                    .iter()
                    .map(|(first, last, types)| share_fetch::AcknowledgementBatch {
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

fn acknowledge(
    group: &str,
    id: Uuid,
    epoch: i32,
    partition: i32,
    acks: Acks,
) -> ShareAcknowledgeRequest {
    ShareAcknowledgeRequest {
        group_id: Some(group.into()),
        member_id: Some(MEMBER.into()),
        share_session_epoch: epoch,
        topics: vec![AcknowledgeTopic {
            topic_id: id,
            partitions: vec![AcknowledgePartition {
                partition_index: partition,
                acknowledgement_batches: acks
                    .iter()
                    .map(
                        |(first, last, types)| share_acknowledge::AcknowledgementBatch {
                            first_offset: *first,
                            last_offset: *last,
                            acknowledge_types: types.to_vec(),
                        },
                    )
                    .collect(),
            }],
        }],
        ..Default::default()
    }
}

/// A topic with batches of two, one and three records.
fn make(s: &mut Session, name: &str) -> Uuid {
    make_topic(s, name, 1, &[]);
    for values in [&["a", "b"][..], &["c"], &["d", "e", "f"]] {
        fill(s, name, 0, plain(values));
    }
    s.topic_id(name)
}

/// Opens a session and fetches until the first record comes: the epoch that the next request must have.
fn open(s: &mut Session, v: i16, group: &str, id: Uuid, what: &str) -> i32 {
    let mut epoch = 0;
    let answer = until(&format!("the first records of {group}"), || {
        let request = Request::ShareFetch(fetch(group, id, epoch, 0, &[]));
        let Some(Response::ShareFetch(answer)) = s.prepare(v, request) else {
            return Some(None);
        };
        epoch += 1;
        let mut partitions = answer.responses.iter().flat_map(|t| &t.partitions);
        let any = partitions.any(|p| !p.acquired_records.is_empty());
        (any || answer.error_code.0 != 0).then_some(Some(answer))
    });
    match answer {
        Some(answer) => s.keep(what, &Response::ShareFetch(answer)),
        None => s.note(what, "answer", "none"),
    }
    epoch
}

fn fetch_each(s: &mut Session, v: i16) {
    let name = format!("share-fetch-{v}");
    let id = make(s, &name);
    join(s, &name, &name);
    let mut refused = |what: &str, change: &dyn Fn(&mut ShareFetchRequest)| {
        let mut request = fetch(&name, id, 0, 0, &[]);
        change(&mut request);
        s.ask(what, v, Request::ShareFetch(request));
    };
    refused("no session", &|r| r.share_session_epoch = 5);
    refused("none to end", &|r| r.share_session_epoch = -1);
    refused("acknowledges at first", &|r| {
        *r = fetch(&name, id, 0, 0, &[(0, 0, &[1])])
    });
    refused("no member", &|r| r.member_id = Some(Str::new()));
    refused("null member", &|r| r.member_id = None);
    refused("null group", &|r| r.group_id = None);
    refused("a group that nobody joined", &|r| {
        r.group_id = Some("share-nobody".into());
        r.max_wait_ms = 2000;
    });
    if v >= 2 {
        refused("no such mode", &|r| r.share_acquire_mode = 7);
        refused("renews and reads", &|r| r.is_renew_ack = true);
    }
    let mut epoch = open(s, v, &name, id, "first");
    // What the next request must say goes up with each that the session takes.
    let mut ask = |s: &mut Session, what: &str, partition, id, acks: Acks| {
        let mut request = fetch(&name, id, epoch, partition, acks);
        request.max_wait_ms = 100;
        if let Some(Response::ShareFetch(answer)) = s.ask(what, v, Request::ShareFetch(request))
            && answer.error_code.0 == 0
        {
            epoch += 1;
        }
    };
    ask(s, "nothing left", 0, id, &[]);
    ask(s, "gives one back", 0, id, &[(2, 2, &[2])]);
    ask(s, "has it again", 0, id, &[]);
    ask(s, "not acquired", 0, id, &[(6, 9, &[1])]);
    ask(s, "inverted", 0, id, &[(1, 0, &[1])]);
    ask(s, "no type", 0, id, &[(0, 1, &[])]);
    ask(s, "no such type", 0, id, &[(0, 1, &[9])]);
    ask(s, "too many types", 0, id, &[(0, 1, &[1, 1, 1])]);
    ask(s, "overlapping", 0, id, &[(0, 1, &[1]), (1, 1, &[1])]);
    ask(s, "renewed without saying so", 0, id, &[(0, 0, &[4])]);
    ask(s, "each its own", 0, id, &[(0, 1, &[1, 3])]);
    ask(s, "again", 0, id, &[(0, 1, &[1])]);
    ask(s, "part of a batch", 0, id, &[(3, 4, &[1])]);
    ask(s, "no such partition", 9, id, &[]);
    let mut wrong = fetch(&name, id, epoch + 9, 0, &[]);
    wrong.max_wait_ms = 100;
    s.ask("wrong epoch", v, Request::ShareFetch(wrong));
    let end = ShareFetchRequest {
        topics: Vec::new(),
        ..fetch(&name, id, -1, 0, &[])
    };
    s.ask("end", v, Request::ShareFetch(end.clone()));
    s.ask("end again", v, Request::ShareFetch(end));
    s.prepare(1, beat(&name, &name, -1));
}

fn acknowledge_each(s: &mut Session, v: i16) {
    let name = format!("share-ack-{v}");
    let id = make(s, &name);
    join(s, &name, &name);
    let mut refused = |what: &str, change: &dyn Fn(&mut ShareAcknowledgeRequest)| {
        let mut request = acknowledge(&name, id, 1, 0, &[(0, 0, &[1])]);
        change(&mut request);
        s.ask(what, v, Request::ShareAcknowledge(request));
    };
    refused("no session", &|_| {});
    refused("first epoch", &|r| r.share_session_epoch = 0);
    refused("none to end", &|r| r.share_session_epoch = -1);
    refused("no member", &|r| r.member_id = Some(Str::new()));
    refused("null group", &|r| r.group_id = None);
    let mut epoch = open(s, v, &name, id, "first");
    let mut ask = |s: &mut Session, what: &str, partition, id, acks: Acks| {
        let request = acknowledge(&name, id, epoch, partition, acks);
        let answer = s.ask(what, v, Request::ShareAcknowledge(request));
        if let Some(Response::ShareAcknowledge(answer)) = answer
            && answer.error_code.0 == 0
        {
            epoch += 1;
        }
    };
    ask(s, "accepted", 0, id, &[(0, 1, &[1])]);
    ask(s, "again", 0, id, &[(0, 1, &[1])]);
    ask(s, "released", 0, id, &[(2, 2, &[2])]);
    ask(s, "rejected", 0, id, &[(3, 3, &[3])]);
    ask(s, "a gap", 0, id, &[(4, 4, &[0])]);
    ask(s, "no batches", 0, id, &[]);
    ask(s, "inverted", 0, id, &[(5, 4, &[1])]);
    ask(s, "negative", 0, id, &[(-1, 5, &[1])]);
    ask(s, "no type", 0, id, &[(5, 5, &[])]);
    ask(s, "no such type", 0, id, &[(5, 5, &[-1])]);
    ask(s, "renewed without saying so", 0, id, &[(5, 5, &[4])]);
    ask(s, "not acquired", 0, id, &[(2, 2, &[1])]);
    ask(s, "beyond the end", 0, id, &[(77, 78, &[1])]);
    ask(s, "no such topic", 0, Uuid::from_random(7), &[(0, 0, &[1])]);
    ask(s, "no such partition", 9, id, &[(0, 0, &[1])]);
    if v >= 2 {
        let mut request = acknowledge(&name, id, epoch, 0, &[(5, 5, &[4])]);
        request.is_renew_ack = true;
        s.ask("renewed", v, Request::ShareAcknowledge(request));
        epoch += 1;
    }
    let wrong = acknowledge(&name, id, epoch + 9, 0, &[(5, 5, &[1])]);
    s.ask("wrong epoch", v, Request::ShareAcknowledge(wrong));
    let last = acknowledge(&name, id, -1, 0, &[(5, 5, &[1])]);
    s.ask("with the last", v, Request::ShareAcknowledge(last.clone()));
    s.ask("after it", v, Request::ShareAcknowledge(last));
    s.prepare(1, beat(&name, &name, -1));
}

fn offsets(s: &mut Session, v: i16) {
    use alter_share_group_offsets::{
        AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
    };
    use delete_share_group_offsets::DeleteShareGroupOffsetsRequestTopic;
    use describe_share_group_offsets::{
        DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
    };
    let name = format!("share-offsets-{v}");
    let id = make(s, &name);
    join(s, &name, &name);
    let epoch = open(s, v.max(1), &name, id, "first");
    // All of it, so that both say the same of where it stands.
    let done = acknowledge(&name, id, epoch, 0, &[(0, 5, &[1])]);
    s.prepare(1, Request::ShareAcknowledge(done));
    let describe = |group: &str, topics: Option<&[(&str, &[i32])]>| {
        Request::DescribeShareGroupOffsets(DescribeShareGroupOffsetsRequest {
            groups: vec![DescribeShareGroupOffsetsRequestGroup {
                group_id: group.into(),
                topics: topics.map(|topics| {
                    let row = |(name, partitions): &(&str, &[i32])| {
                        DescribeShareGroupOffsetsRequestTopic {
                            topic_name: (*name).into(),
                            partitions: partitions.to_vec(),
                        }
                    };
                    topics.iter().map(row).collect()
                }),
            }],
        })
    };
    s.ask("unknown group", v, describe("share-none", None));
    s.ask("no group", v, describe("", None));
    let none: &[(&str, &[i32])] = &[("share-offsets-none", &[0])];
    s.ask("no such topic", v, describe(&name, Some(none)));
    let alter = |group: &str, topic: &str, partition_index, start_offset| {
        Request::AlterShareGroupOffsets(AlterShareGroupOffsetsRequest {
            group_id: group.into(),
            topics: vec![AlterShareGroupOffsetsRequestTopic {
                topic_name: topic.into(),
                partitions: vec![AlterShareGroupOffsetsRequestPartition {
                    partition_index,
                    start_offset,
                }],
            }],
        })
    };
    let delete = |group: &str, topic: &str| {
        Request::DeleteShareGroupOffsets(DeleteShareGroupOffsetsRequest {
            group_id: group.into(),
            topics: vec![DeleteShareGroupOffsetsRequestTopic {
                topic_name: topic.into(),
            }],
        })
    };
    s.ask("altered with members", 0, alter(&name, &name, 0, 1));
    s.ask("deleted with members", 0, delete(&name, &name));
    s.prepare(1, beat(&name, &name, -1));
    s.ask("altered", 0, alter(&name, &name, 0, 1));
    s.ask(
        "no such topic altered",
        0,
        alter(&name, "share-offsets-none", 0, 1),
    );
    s.ask("no such partition altered", 0, alter(&name, &name, 7, 1));
    s.ask("of no group", 0, alter("", &name, 0, 1));
    s.ask(
        "of a new group",
        0,
        alter(&format!("{name}-new"), &name, 0, 1),
    );
    s.ask(
        "deleted of an unknown group",
        0,
        delete("share-none", &name),
    );
    s.ask("deleted of no group", 0, delete("", &name));
    s.ask(
        "no such topic deleted",
        0,
        delete(&name, "share-offsets-none"),
    );
    s.ask("deleted", 0, delete(&name, &name));
    s.ask("deleted again", 0, delete(&name, &name));
    s.ask("nothing left", v, describe(&name, None));
}
