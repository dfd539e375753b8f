//! OffsetFetch (9): what a group committed; several groups from version 8 on, topics by id from version 10 on.
//!
//! Serves versions 1 to 10. Departs from Kafka: a request in which groups are repeated more than 100 times ends the connection.
//!
//! Only committed offsets are read, so an answer never waits. With `require_stable` (version 7 on) a partition for which an open
//! transaction holds an offset gets UNSTABLE_OFFSET_COMMIT: the client asks again.

use alloc::vec::Vec;

use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::offset_fetch::{
        OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseGroup,
        OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
        OffsetFetchResponseTopics,
    },
};
use ottla_record::Now;

use super::repeats_itself;
use crate::{
    Broker,
    context::{Handled, RequestContext},
    groups::CommittedOffset,
};

/// From this version on a request names several groups.
const GROUPS: i16 = 8;
/// From this version on topics are named by id.
const BY_ID: i16 = 10;

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    context: &RequestContext,
    request: OffsetFetchRequest,
) -> Handled {
    if repeats_itself(request.groups.iter().map(|group| &group.group_id)) {
        return Handled::Disconnect;
    }
    let mut response = OffsetFetchResponse::default();
    let stable = request.require_stable;
    if context.api_version >= GROUPS {
        let by_id = context.api_version >= BY_ID;
        response.groups = request
            .groups
            .iter()
            .map(|g| of_group(broker, g, by_id, stable))
            .collect();
    } else if let Some(topics) = &request.topics {
        response.topics = topics
            .iter()
            .map(|topic| OffsetFetchResponseTopic {
                name: topic.name.clone(),
                partitions: topic
                    .partition_indexes
                    .iter()
                    .map(|p| {
                        single(of_partition(
                            broker,
                            &request.group_id,
                            (&topic.name, Uuid::ZERO),
                            *p,
                            stable,
                        ))
                    })
                    .collect(),
            })
            .collect();
    } else {
        response.topics = all(broker, &request.group_id, stable)
            .into_iter()
            .map(|(name, partitions)| OffsetFetchResponseTopic {
                name,
                partitions: partitions.into_iter().map(single).collect(),
            })
            .collect();
    }
    Handled::Respond(Response::OffsetFetch(response))
}

fn of_group(
    broker: &Broker,
    asked: &OffsetFetchRequestGroup,
    by_id: bool,
    stable: bool,
) -> OffsetFetchResponseGroup {
    let member_id = asked.member_id.as_ref();
    if let Err(error_code) = broker
        .groups
        .may_fetch(&asked.group_id, member_id, asked.member_epoch)
    {
        return OffsetFetchResponseGroup {
            group_id: asked.group_id.clone(),
            topics: Vec::new(),
            error_code,
        };
    }
    let id_of = |name: &str| broker.topics.by_name(name).map(|topic| topic.id);
    let topics = match &asked.topics {
        // A topic that is gone has no id to be named by.
        None => all(broker, &asked.group_id, stable)
            .into_iter()
            .filter(|(name, _)| !by_id || id_of(name).is_some())
            .map(|(name, partitions)| OffsetFetchResponseTopics {
                topic_id: id_of(&name).filter(|_| by_id).unwrap_or(Uuid::ZERO),
                name,
                partitions,
            })
            .collect(),
        Some(topics) => topics
            .iter()
            .map(|topic| {
                let name: Option<&Str> = if by_id {
                    broker.topics.by_id(&topic.topic_id).map(|t| &t.name)
                } else {
                    Some(&topic.name)
                };
                let partitions = topic.partition_indexes.iter().map(|p| match name {
                    Some(name) => {
                        let topic = (name.as_str(), topic.topic_id);
                        of_partition(broker, &asked.group_id, topic, *p, stable)
                    }
                    None => partition(*p, None, ErrorCode::UNKNOWN_TOPIC_ID),
                });
                OffsetFetchResponseTopics {
                    name: topic.name.clone(),
                    topic_id: topic.topic_id,
                    partitions: partitions.collect(),
                }
            })
            .collect(),
    };
    OffsetFetchResponseGroup {
        group_id: asked.group_id.clone(),
        topics,
        error_code: ErrorCode::NONE,
    }
}

/// What a group committed for a partition. With an id it must be of that topic, not of one of the same name that is gone.
fn of_partition(
    broker: &Broker,
    group: &Str,
    (topic, id): (&str, Uuid),
    number: i32,
    stable: bool,
) -> OffsetFetchResponsePartitions {
    if stable && broker.groups.is_unstable(group, topic, number) {
        return partition(number, None, ErrorCode::UNSTABLE_OFFSET_COMMIT);
    }
    let offset = broker.groups.committed(group, topic, number);
    let offset = offset.filter(|offset| offset.is_of(id));
    partition(number, offset, ErrorCode::NONE)
}

/// All that a group committed.
fn all(
    broker: &Broker,
    group: &Str,
    stable: bool,
) -> Vec<(Str, Vec<OffsetFetchResponsePartitions>)> {
    broker
        .groups
        .all_committed(group)
        .map(|(name, partitions)| {
            let partitions = partitions
                .keys()
                .map(|p| of_partition(broker, group, (name, Uuid::ZERO), *p, stable));
            (name.clone(), partitions.collect())
        })
        .collect()
}

/// No commit is offset -1 and no error.
fn partition(
    partition_index: i32,
    offset: Option<&CommittedOffset>,
    error_code: ErrorCode,
) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: offset.map_or(-1, |o| o.offset),
        committed_leader_epoch: offset.map_or(-1, |o| o.leader_epoch),
        metadata: Some(offset.map(|o| o.metadata.clone()).unwrap_or_default()),
        error_code,
    }
}

/// The shape that the same has in versions for a single group.
fn single(p: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: p.partition_index,
        committed_offset: p.committed_offset,
        committed_leader_epoch: p.committed_leader_epoch,
        metadata: p.metadata,
        error_code: p.error_code,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::{Durability, testing::Harness};
    use ottla_protocol::{
        Request,
        messages::{
            offset_commit::{
                OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
            },
            offset_fetch::{OffsetFetchRequestTopic, OffsetFetchRequestTopics},
        },
    };

    /// Topic `t` with offset 5 for partition 1, committed by `g`.
    fn harness() -> Harness {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 2, &[]);
        let partition = OffsetCommitRequestPartition {
            partition_index: 1,
            committed_offset: 5,
            committed_leader_epoch: 3,
            committed_metadata: Some("note".into()),
        };
        h.ask(
            9,
            Request::OffsetCommit(OffsetCommitRequest {
                group_id: "g".into(),
                topics: vec![OffsetCommitRequestTopic {
                    name: "t".into(),
                    partitions: vec![partition],
                    ..Default::default()
                }],
                ..Default::default()
            }),
        );
        h
    }

    fn fetch(h: &mut Harness, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
        match h.ask(version, Request::OffsetFetch(request)) {
            Response::OffsetFetch(response) => response,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_group() {
        let mut h = harness();
        for version in 1..8 {
            let request = OffsetFetchRequest {
                group_id: "g".into(),
                topics: Some(vec![OffsetFetchRequestTopic {
                    name: "t".into(),
                    partition_indexes: vec![1, 0],
                }]),
                ..Default::default()
            };
            let partitions = fetch(&mut h, version, request).topics.remove(0).partitions;
            let read: Vec<_> = partitions
                .iter()
                .map(|p| {
                    (
                        p.committed_offset,
                        p.committed_leader_epoch,
                        p.metadata.as_deref(),
                    )
                })
                .collect();
            assert_eq!(read, [(5, 3, Some("note")), (-1, -1, Some(""))]);
            assert!(partitions.iter().all(|p| p.error_code == ErrorCode::NONE));
        }
        let everything = OffsetFetchRequest {
            group_id: "g".into(),
            topics: None,
            ..Default::default()
        };
        let topics = fetch(&mut h, 5, everything).topics;
        assert_eq!((topics.len(), topics[0].partitions.len()), (1, 1));
        assert_eq!(topics[0].partitions[0].partition_index, 1);
    }

    #[test]
    fn an_offset_of_a_topic_that_was_made_anew() {
        let mut h = harness();
        let id = h.broker.topics.by_name("t").unwrap().id;
        // A record of version 4: offset 7, of a topic with another id.
        let mut value =
            b"\0\x04\0\0\0\0\0\0\0\x07\0\0\0\x01\x01\0\0\0\0\0\0\0\x01\x01\0\x10".to_vec();
        value.extend([9; 16]);
        let key = b"\0\x01\0\x01g\0\x01t\0\0\0\x01";
        h.broker.groups.replay(key, Some(&value));
        for (version, topic_id, offset) in [(9, Uuid::ZERO, 7), (10, id, -1)] {
            let topic = OffsetFetchRequestTopics {
                name: if version < BY_ID {
                    "t".into()
                } else {
                    Str::new()
                },
                topic_id,
                partition_indexes: vec![1],
            };
            let request = OffsetFetchRequest {
                groups: vec![OffsetFetchRequestGroup {
                    group_id: "g".into(),
                    topics: Some(vec![topic]),
                    ..Default::default()
                }],
                ..Default::default()
            };
            let answer = fetch(&mut h, version, request);
            let partition = &answer.groups[0].topics[0].partitions[0];
            let told = (partition.committed_offset, partition.error_code);
            assert_eq!(told, (offset, ErrorCode::NONE));
        }
    }

    #[test]
    fn many_groups_by_name_and_by_id() {
        let mut h = harness();
        let id = h.broker.topics.by_name("t").unwrap().id;
        for version in 8..=10 {
            let by_id = version >= BY_ID;
            let topic = |topic_id| OffsetFetchRequestTopics {
                name: if by_id { Str::new() } else { "t".into() },
                topic_id,
                partition_indexes: vec![1],
            };
            let group = |name: &str, topics| OffsetFetchRequestGroup {
                group_id: name.into(),
                topics,
                ..Default::default()
            };
            let id = if by_id { id } else { Uuid::ZERO };
            let groups = vec![
                group("g", Some(vec![topic(id)])),
                group("g", None),
                group("nobody", Some(vec![topic(id)])),
                group("nobody", None),
            ];
            let request = OffsetFetchRequest {
                groups,
                ..Default::default()
            };
            let groups = fetch(&mut h, version, request).groups;
            let offsets = |i: usize| {
                let topics: &Vec<OffsetFetchResponseTopics> = &groups[i].topics;
                topics
                    .iter()
                    .map(|t| (t.topic_id, t.partitions[0].committed_offset))
                    .collect::<Vec<_>>()
            };
            assert_eq!((offsets(0), offsets(1)), (vec![(id, 5)], vec![(id, 5)]));
            assert_eq!((offsets(2), offsets(3)), (vec![(id, -1)], vec![]));
        }
        let unknown = OffsetFetchRequestTopics {
            topic_id: Uuid::from_random(3),
            partition_indexes: vec![1],
            ..Default::default()
        };
        let groups = vec![OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(vec![unknown]),
            ..Default::default()
        }];
        let request = OffsetFetchRequest {
            groups,
            ..Default::default()
        };
        let answer = fetch(&mut h, 10, request);
        let partition = &answer.groups[0].topics[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    }
}
