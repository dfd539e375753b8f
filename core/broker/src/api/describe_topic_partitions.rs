//! DescribeTopicPartitions (75): topics with their partitions, page by page (KIP-966).
//!
//! Serves version 0. As Kafka.

use alloc::{vec, vec::Vec};

use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::describe_topic_partitions::{
        Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
        DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
        RequestCursor,
    },
};
use ottla_record::Now;

use super::metadata::TOPIC_OPERATIONS;
use crate::{
    Broker,
    context::{Handled, RequestContext},
    partition::Partition,
    topics::{check_topic_name, is_internal_topic},
};

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    _context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> Handled {
    let all = request.topics.is_empty();
    let mut names: Vec<Str> = if all {
        broker.topics.iter().map(|t| t.name.clone()).collect()
    } else {
        request.topics.into_iter().map(|t| t.name).collect()
    };
    let in_order = names.clone();
    names.sort_unstable();
    names.dedup();
    let misplaced = |cursor: &RequestCursor| {
        cursor.partition_index < 0 || !all && !names.contains(&cursor.topic_name)
    };
    if request.cursor.as_ref().is_some_and(misplaced) {
        let refused = |name| DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::INVALID_REQUEST,
            name: Some(name),
            ..Default::default()
        };
        let response = DescribeTopicPartitionsResponse {
            topics: in_order.into_iter().map(refused).collect(),
            ..Default::default()
        };
        return Handled::Respond(Response::DescribeTopicPartitions(response));
    }
    let (mut first_partition, mut first_topic) = (0, None);
    if let Some(cursor) = request.cursor {
        // A page begins in the cursor's topic; if that is gone meanwhile, with the one behind it.
        names.retain(|name| *name >= cursor.topic_name);
        first_partition = usize::try_from(cursor.partition_index).unwrap_or(0);
        first_topic = Some(cursor.topic_name);
    }
    let asked = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut left = asked.clamp(1, broker.config.max_request_partitions.max(1));
    let mut topics = Vec::new();
    let mut next_cursor = None;
    for name in names {
        let Some(topic) = broker.topics.by_name(&name) else {
            topics.push(missing(name));
            continue;
        };
        if left == 0 {
            next_cursor = Some(Cursor {
                topic_name: name,
                partition_index: 0,
            });
            break;
        }
        let from = if first_topic.as_ref() == Some(&name) {
            first_partition
        } else {
            0
        };
        let indexes = topic.partitions.get(from..).unwrap_or_default();
        let page = &indexes[..indexes.len().min(left)];
        left -= page.len();
        let node = broker.identity.node_id;
        let partitions = page
            .iter()
            .filter_map(|index| broker.partitions.get(*index))
            .map(|partition| describe(partition, node))
            .collect();
        topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(name.clone()),
            topic_id: topic.id,
            is_internal: topic.internal,
            partitions,
            topic_authorized_operations: TOPIC_OPERATIONS,
            ..Default::default()
        });
        if page.len() < indexes.len() {
            next_cursor = Some(Cursor {
                topic_name: name,
                partition_index: (from + page.len()) as i32,
            });
            break;
        }
    }
    Handled::Respond(Response::DescribeTopicPartitions(
        DescribeTopicPartitionsResponse {
            topics,
            next_cursor,
            ..Default::default()
        },
    ))
}

fn missing(name: Str) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: match check_topic_name(&name) {
            Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        },
        is_internal: is_internal_topic(&name),
        topic_authorized_operations: TOPIC_OPERATIONS,
        name: Some(name),
        ..Default::default()
    }
}

fn describe(partition: &Partition, node: i32) -> DescribeTopicPartitionsResponsePartition {
    let failed = partition.is_failed();
    DescribeTopicPartitionsResponsePartition {
        error_code: if failed {
            ErrorCode::LEADER_NOT_AVAILABLE
        } else {
            ErrorCode::NONE
        },
        partition_index: partition.number,
        leader_id: if failed { -1 } else { node },
        leader_epoch: partition.leader_epoch,
        replica_nodes: vec![node],
        isr_nodes: vec![node],
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: if failed { vec![node] } else { Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, testing::Harness};
    use ottla_protocol::{
        Request,
        messages::describe_topic_partitions::{RequestCursor, TopicRequest},
    };

    fn ask(
        h: &mut Harness,
        names: &[&str],
        limit: i32,
        cursor: Option<(&str, i32)>,
    ) -> DescribeTopicPartitionsResponse {
        let request = DescribeTopicPartitionsRequest {
            topics: names
                .iter()
                .map(|name| TopicRequest {
                    name: (*name).into(),
                })
                .collect(),
            response_partition_limit: limit,
            cursor: cursor.map(|(topic, partition_index)| RequestCursor {
                topic_name: topic.into(),
                partition_index,
            }),
        };
        match h.ask(0, Request::DescribeTopicPartitions(request)) {
            Response::DescribeTopicPartitions(response) => response,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_page_follows_the_last() {
        let mut h = Harness::new(Durability::Os);
        for (name, partitions) in [("b", 3), ("a", 2), ("c", 1)] {
            h.create_topic(name, partitions, &[]);
        }
        for limit in 1..8 {
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let from = cursor
                    .as_ref()
                    .map(|c: &Cursor| (&*c.topic_name, c.partition_index));
                let page = ask(&mut h, &[], limit, from);
                let mut count = 0;
                for topic in &page.topics {
                    for partition in &topic.partitions {
                        count += 1;
                        seen.push((topic.name.clone().unwrap(), partition.partition_index));
                    }
                }
                assert!(count <= limit);
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            let expected = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2), ("c", 0)];
            assert_eq!(
                seen,
                expected.map(|(name, p)| (Str::from(name), p)),
                "{limit}"
            );
        }
    }

    #[test]
    fn named_topics_and_missing_ones() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("b", 3, &[]);
        let answer = ask(&mut h, &["none", "b", "b", "no/name"], 2000, None);
        let codes: Vec<_> = answer.topics.iter().map(|t| t.error_code).collect();
        let expected = [
            ErrorCode::NONE,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ];
        assert_eq!(codes, expected);
        assert_eq!(answer.topics[0].partitions.len(), 3);
        // The topic of the cursor is gone.
        let answer = ask(&mut h, &[], 10, Some(("a", 7)));
        assert_eq!(answer.topics[0].partitions.len(), 3);
    }
}
