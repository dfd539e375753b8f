//! CreatePartitions (37): a topic grows.
//!
//! Serves versions 0 to 3. Departs from Kafka: an internal topic is INVALID_TOPIC_EXCEPTION, since what is in it depends on its
//! partition count; a topic has at most 100,000 partitions.

use alloc::{format, string::String, vec::Vec};

use hashbrown::HashSet;

use ottla_protocol::{
    ErrorCode, Response,
    messages::create_partitions::{
        CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
        CreatePartitionsTopicResult,
    },
};
use ottla_record::Now;

use super::{check_count, create_topics::check_assignment, repeated};
use crate::{
    Broker,
    context::{Handled, RequestContext},
    quotas::Mutations,
    topics::TopicIndex,
};

/// From this version on the client knows THROTTLING_QUOTA_EXCEEDED.
const STRICT_QUOTA: i16 = 3;

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: CreatePartitionsRequest,
) -> Handled {
    let mut mutations = Mutations::of(broker, context, STRICT_QUOTA);
    let twice = repeated(request.topics.iter().map(|topic| topic.name.clone()));
    // Those that are to grow, and their places in the answer.
    let mut additions = Vec::new();
    let mut places = Vec::new();
    let mut place = 0;
    // What is named twice is refused once.
    let mut told = HashSet::new();
    let mut results: Vec<CreatePartitionsTopicResult> = request
        .topics
        .iter()
        .filter(|topic| !twice.contains(&topic.name) || told.insert(topic.name.clone()))
        .map(|topic| {
            let result = if twice.contains(&topic.name) {
                Err((
                    ErrorCode::INVALID_REQUEST,
                    "Duplicate topic in request.".into(),
                ))
            } else {
                check(broker, now, topic, &mut mutations)
            };
            place += 1;
            let (error_code, error_message) = match result {
                Ok(addition) => {
                    if !request.validate_only {
                        additions.push(addition);
                        places.push(place - 1);
                    }
                    (ErrorCode::NONE, None)
                }
                Err((code, message)) => (code, Some(message.into())),
            };
            CreatePartitionsTopicResult {
                name: topic.name.clone(),
                error_code,
                error_message,
            }
        })
        .collect();
    let grown = broker.grow(now, &additions);
    for (place, grown) in places.into_iter().zip(grown) {
        if let Err(error) = grown {
            results[place].error_code = ErrorCode::KAFKA_STORAGE_ERROR;
            results[place].error_message = Some(format!("{error}").into());
        }
    }
    Handled::Respond(Response::CreatePartitions(CreatePartitionsResponse {
        results,
        throttle_time_ms: mutations.throttle_ms,
        ..Default::default()
    }))
}

/// The topic, and how many partitions it is to get.
fn check(
    broker: &mut Broker,
    now: Now,
    asked: &CreatePartitionsTopic,
    mutations: &mut Mutations,
) -> Result<(TopicIndex, i32), (ErrorCode, String)> {
    let index = broker.topics.index_by_name(&asked.name);
    let Some((index, topic)) = index.and_then(|index| Some((index, broker.topics.get(index)?)))
    else {
        return Err((
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            "This server does not host this topic-partition.".into(),
        ));
    };
    if topic.internal {
        return Err((
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            format!(
                "Topic '{}' is internal; what is in it depends on its partition count.",
                topic.name
            ),
        ));
    }
    let current = topic.partitions.len() as i32;
    if asked.count == current {
        return Err((
            ErrorCode::INVALID_PARTITIONS,
            format!("Topic already has {current} partition(s)."),
        ));
    }
    if asked.count < current {
        return Err((
            ErrorCode::INVALID_PARTITIONS,
            format!(
                "The topic {} currently has {current} partition(s); {} would not be an increase.",
                asked.name, asked.count
            ),
        ));
    }
    check_count(asked.count)?;
    let additional = asked.count - current;
    if let Some(assignments) = &asked.assignments {
        if assignments.len() != additional as usize {
            return Err((
                ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                format!(
                    "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
                    assignments.len()
                ),
            ));
        }
        for assignment in assignments {
            check_assignment(broker, &assignment.broker_ids)?;
        }
    }
    // As in Kafka what is only validated counts, too.
    mutations.record(broker, now, additional as usize)?;
    Ok((index, additional))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability,
        testing::{Harness, batch},
    };
    use ottla_protocol::{Request, messages::create_partitions::CreatePartitionsAssignment};
    use std::{vec, vec::Vec};

    fn ask(
        h: &mut Harness,
        topics: Vec<CreatePartitionsTopic>,
        validate_only: bool,
    ) -> Vec<ErrorCode> {
        let request = CreatePartitionsRequest {
            topics,
            validate_only,
            ..Default::default()
        };
        let Response::CreatePartitions(response) = h.ask(3, Request::CreatePartitions(request))
        else {
            panic!()
        };
        response.results.iter().map(|r| r.error_code).collect()
    }

    fn to(name: &str, count: i32) -> CreatePartitionsTopic {
        CreatePartitionsTopic {
            name: name.into(),
            count,
            assignments: None,
        }
    }

    #[test]
    fn a_topic_grows_and_stays_so() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("a", 1, &[]);
        assert_eq!(ask(&mut h, vec![to("a", 3)], true), [ErrorCode::NONE]);
        assert_eq!(
            h.produce("a", 2, batch(&["v"])).error_code,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );
        assert_eq!(ask(&mut h, vec![to("a", 3)], false), [ErrorCode::NONE]);
        assert_eq!(h.produce("a", 2, batch(&["v"])).error_code, ErrorCode::NONE);
        let mut h = h.restart(false);
        assert_eq!(h.fetch("a", 2, 0).high_watermark, 1);
    }

    #[test]
    fn what_is_refused() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("a", 2, &[]);
        h.broker.ensure_offsets_topic(h.now).unwrap();
        let assigned = |count, ids: &[&[i32]]| CreatePartitionsTopic {
            assignments: Some(
                ids.iter()
                    .map(|ids| CreatePartitionsAssignment {
                        broker_ids: ids.to_vec(),
                    })
                    .collect(),
            ),
            ..to("a", count)
        };
        for (topic, expected) in [
            (to("a", 2), ErrorCode::INVALID_PARTITIONS),
            (to("a", 1), ErrorCode::INVALID_PARTITIONS),
            (to("a", i32::MAX), ErrorCode::POLICY_VIOLATION),
            (to("b", 2), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (
                to("__consumer_offsets", 90),
                ErrorCode::INVALID_TOPIC_EXCEPTION,
            ),
            (assigned(4, &[&[1]]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (assigned(3, &[&[7]]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        ] {
            assert_eq!(ask(&mut h, vec![topic], false), [expected]);
        }
        let twice = ask(&mut h, vec![to("a", 3), to("a", 4)], false);
        assert_eq!(twice, [ErrorCode::INVALID_REQUEST], "it is told once");
        assert_eq!(
            ask(&mut h, vec![assigned(3, &[&[1]])], false),
            [ErrorCode::NONE]
        );
    }
}
