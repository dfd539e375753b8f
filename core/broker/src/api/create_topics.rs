//! CreateTopics (19): topics are made, with their settings.
//!
//! Serves versions 2 to 7. Departs from Kafka: an internal topic is INVALID_TOPIC_EXCEPTION: the broker makes it when it is needed; a
//! topic has at most 100,000 partitions, where Kafka's bound is one for the whole request.

use alloc::{format, string::String, vec::Vec};

use hashbrown::HashSet;
use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::create_topics::{
        CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
        CreateTopicsResponse,
    },
};
use ottla_record::Now;

use super::repeated;
use crate::{
    Broker,
    context::{Handled, RequestContext},
    quotas::Mutations,
    topic_config::TopicConfig,
    topics::{TopicIndex, check_topic_name, effective_config, is_internal_topic},
};

/// More partitions than this in one topic are refused, before a typing error fills the disk with directories.
pub(crate) const MAX_PARTITIONS: i32 = 100_000;

/// From this version on the client knows THROTTLING_QUOTA_EXCEEDED.
const STRICT_QUOTA: i16 = 6;

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: CreateTopicsRequest,
) -> Handled {
    let mut mutations = Mutations::of(broker, context, STRICT_QUOTA);
    let twice = repeated(request.topics.iter().map(|topic| topic.name.clone()));
    // What is named twice is refused once.
    let mut told = HashSet::new();
    // Those that are to be made, and their places in the answer.
    let mut begun = Vec::new();
    let mut places = Vec::new();
    let mut place = 0;
    let mut topics: Vec<CreatableTopicResult> = request
        .topics
        .iter()
        .filter(|topic| !twice.contains(&topic.name) || told.insert(topic.name.clone()))
        .map(|topic| {
            let result = if twice.contains(&topic.name) {
                Err((ErrorCode::INVALID_REQUEST, "Duplicate topic name.".into()))
            } else {
                create(broker, now, topic, request.validate_only, &mut mutations)
            };
            place += 1;
            match result {
                Ok((made, index)) => {
                    if let Some(index) = index {
                        begun.push((index, made.num_partitions));
                        places.push(place - 1);
                    }
                    made
                }
                Err(why) => refused(topic.name.clone(), why),
            }
        })
        .collect();
    let made = broker.make_topics(now, &begun);
    for (place, made) in places.into_iter().zip(made) {
        if let Err(error) = made {
            let why = (ErrorCode::KAFKA_STORAGE_ERROR, format!("{error}"));
            topics[place] = refused(topics[place].name.clone(), why);
        }
    }
    Handled::Respond(Response::CreateTopics(CreateTopicsResponse {
        topics,
        throttle_time_ms: mutations.throttle_ms,
        ..Default::default()
    }))
}

type Refusal = (ErrorCode, String);

fn refused(name: Str, (error_code, message): Refusal) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code,
        error_message: Some(message.into()),
        topic_config_error_code: ErrorCode::NONE,
        num_partitions: -1,
        replication_factor: -1,
        configs: Some(Vec::new()),
        ..Default::default()
    }
}

/// The answer if all goes well, and the topic that is to be made, unless it is only validated.
fn create(
    broker: &mut Broker,
    now: Now,
    topic: &CreatableTopic,
    validate_only: bool,
    mutations: &mut Mutations,
) -> Result<(CreatableTopicResult, Option<TopicIndex>), Refusal> {
    check_topic_name(&topic.name).map_err(|why| (ErrorCode::INVALID_TOPIC_EXCEPTION, why))?;
    if let Some(other) = broker.topics.colliding(&topic.name) {
        return Err(if other.name == topic.name {
            (
                ErrorCode::TOPIC_ALREADY_EXISTS,
                format!("Topic '{}' already exists.", topic.name),
            )
        } else {
            (
                ErrorCode::INVALID_TOPIC_EXCEPTION,
                format!(
                    "Topic '{}' collides with existing topic: {}",
                    topic.name, other.name
                ),
            )
        });
    }
    if is_internal_topic(&topic.name) {
        return Err((
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            format!(
                "Topic '{}' is internal: the broker creates it when it is needed.",
                topic.name
            ),
        ));
    }
    let partitions = partition_count(broker, topic)?;
    let settings = topic
        .configs
        .iter()
        .filter_map(|c| Some((&*c.name, &**c.value.as_ref()?)));
    if let Some(unset) = topic.configs.iter().find(|c| c.value.is_none()) {
        return Err((
            ErrorCode::INVALID_CONFIG,
            format!("Null value not supported for topic configs: {}", unset.name),
        ));
    }
    let (config, configs) = effective_config(&broker.config.topic_defaults, settings)
        .and_then(|made| made.0.check().map(|()| made))
        .map_err(|why| (ErrorCode::INVALID_CONFIG, why))?;

    let described = describe(broker, &config, &configs);
    // As in Kafka what is only validated counts, too.
    mutations.record(broker, now, partitions as usize)?;
    let index = (!validate_only).then(|| broker.begin_topic(topic.name.clone(), config, configs));
    let made = index.and_then(|index| broker.topics.get(index));
    let result = CreatableTopicResult {
        name: topic.name.clone(),
        topic_id: made.map_or(Uuid::ZERO, |topic| topic.id),
        error_code: ErrorCode::NONE,
        error_message: None,
        num_partitions: partitions,
        replication_factor: 1,
        configs: Some(described),
        ..Default::default()
    };
    Ok((result, index))
}

fn partition_count(broker: &Broker, topic: &CreatableTopic) -> Result<i32, Refusal> {
    if !topic.assignments.is_empty() {
        if topic.num_partitions != -1 {
            return Err((
                ErrorCode::INVALID_REQUEST,
                "A manual partition assignment was specified, but numPartitions was not set to -1."
                    .into(),
            ));
        }
        if topic.replication_factor != -1 {
            return Err((
                ErrorCode::INVALID_REQUEST,
                "A manual partition assignment was specified, but replication factor was not set to -1.".into(),
            ));
        }
        let count = check_count(i32::try_from(topic.assignments.len()).unwrap_or(i32::MAX))?;
        let mut numbers: Vec<i32> = topic
            .assignments
            .iter()
            .map(|a| a.partition_index)
            .collect();
        numbers.sort_unstable();
        if !numbers.into_iter().eq(0..count) {
            return Err((
                ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                "Partitions should be a consecutive 0-based integer sequence.".into(),
            ));
        }
        for assignment in &topic.assignments {
            check_assignment(broker, &assignment.broker_ids)?;
        }
        return Ok(count);
    }
    match topic.replication_factor {
        -1 | 1 => {}
        factor if factor < 1 => {
            return Err((
                ErrorCode::INVALID_REPLICATION_FACTOR,
                "Replication factor must be larger than 0, or -1 to use the default value.".into(),
            ));
        }
        factor => {
            return Err((
                ErrorCode::INVALID_REPLICATION_FACTOR,
                format!(
                    "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} \
                     cannot be reached because only 1 broker(s) are registered or some brokers have all \
                     their log directories cordoned."
                ),
            ));
        }
    }
    match topic.num_partitions {
        -1 => check_count(broker.config.num_partitions),
        count => check_count(count),
    }
}

/// A sane number of partitions.
pub(crate) fn check_count(count: i32) -> Result<i32, Refusal> {
    match count {
        1..=MAX_PARTITIONS => Ok(count),
        ..1 => Err((
            ErrorCode::INVALID_PARTITIONS,
            "Number of partitions was set to an invalid non-positive value.".into(),
        )),
        _ => Err((
            ErrorCode::POLICY_VIOLATION,
            format!("Excessively large number of partitions: not more than {MAX_PARTITIONS}."),
        )),
    }
}

/// The only possible assignment is this broker.
pub(crate) fn check_assignment(broker: &Broker, replicas: &[i32]) -> Result<(), Refusal> {
    let refused = |why: String| Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, why));
    match replicas {
        [] => refused("The manual partition assignment includes an empty replica list.".into()),
        [id] if *id == broker.identity.node_id => Ok(()),
        _ => match replicas.iter().find(|id| **id != broker.identity.node_id) {
            Some(id) => refused(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            )),
            None => refused(format!(
                "The manual partition assignment includes the broker {} more than once.",
                broker.identity.node_id
            )),
        },
    }
}

fn describe(
    broker: &Broker,
    config: &TopicConfig,
    given: &[(Str, Str)],
) -> Vec<CreatableTopicConfigs> {
    let described = broker.describe_topic(config, given).into_iter();
    described
        .map(|config| CreatableTopicConfigs {
            name: Str::from_static(config.name),
            value: config.value,
            read_only: config.read_only,
            config_source: config.source,
            is_sensitive: config.sensitive,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BrokerConfig, Durability,
        testing::{Harness, batch},
    };
    use ottla_protocol::{
        Request,
        messages::create_topics::{CreatableReplicaAssignment, CreatableTopicConfig},
    };
    use std::vec;

    fn topic(name: &str) -> CreatableTopic {
        CreatableTopic {
            name: name.into(),
            num_partitions: -1,
            replication_factor: -1,
            ..Default::default()
        }
    }

    fn ask(
        h: &mut Harness,
        topics: Vec<CreatableTopic>,
        validate_only: bool,
    ) -> Vec<CreatableTopicResult> {
        let request = CreateTopicsRequest {
            topics,
            validate_only,
            ..Default::default()
        };
        let Response::CreateTopics(response) = h.ask(7, Request::CreateTopics(request)) else {
            panic!()
        };
        response.topics
    }

    fn code(h: &mut Harness, topic: CreatableTopic) -> ErrorCode {
        ask(h, vec![topic], false)[0].error_code
    }

    fn config(name: &str, value: Option<&str>) -> CreatableTopicConfig {
        CreatableTopicConfig {
            name: name.into(),
            value: value.map(Into::into),
        }
    }

    #[test]
    fn defaults_and_answer() {
        let config = BrokerConfig {
            num_partitions: 3,
            durability: Durability::Os,
            ..BrokerConfig::default()
        };
        let mut h = Harness::with(config);
        let made = ask(
            &mut h,
            vec![CreatableTopic {
                configs: vec![self::config("retention.ms", Some("5"))],
                ..topic("a")
            }],
            false,
        );
        assert_eq!(
            (
                made[0].error_code,
                made[0].num_partitions,
                made[0].replication_factor
            ),
            (ErrorCode::NONE, 3, 1)
        );
        assert_eq!(made[0].topic_id, h.broker.topics.by_name("a").unwrap().id);
        let configs = made[0].configs.as_ref().unwrap();
        let retention = configs.iter().find(|c| c.name == "retention.ms").unwrap();
        assert_eq!(
            (retention.value.as_deref(), retention.config_source),
            (Some("5"), 1)
        );
        let other = configs.iter().find(|c| c.name == "segment.ms").unwrap();
        assert_eq!(other.config_source, 5);
        assert_eq!(code(&mut h, topic("a")), ErrorCode::TOPIC_ALREADY_EXISTS);
        // The settings survive a restart, and so do the partitions.
        for clean in [true, false] {
            h = h.restart(clean);
            let topic = h.broker.topics.by_name("a").unwrap();
            assert_eq!((topic.partitions.len(), topic.config.retention_ms), (3, 5));
        }
        assert_eq!(h.produce("a", 2, batch(&["v"])).error_code, ErrorCode::NONE);
    }

    #[test]
    fn validate_only_makes_nothing() {
        let mut h = Harness::new(Durability::Os);
        let answer = ask(&mut h, vec![topic("a")], true);
        assert_eq!(
            (answer[0].error_code, answer[0].topic_id),
            (ErrorCode::NONE, Uuid::ZERO)
        );
        assert!(h.broker.topics.by_name("a").is_none());
    }

    #[test]
    fn what_is_refused() {
        let mut h = Harness::new(Durability::Os);
        let cases = [
            (
                CreatableTopic {
                    num_partitions: 0,
                    ..topic("a")
                },
                ErrorCode::INVALID_PARTITIONS,
            ),
            (
                CreatableTopic {
                    num_partitions: -2,
                    ..topic("a")
                },
                ErrorCode::INVALID_PARTITIONS,
            ),
            (
                CreatableTopic {
                    num_partitions: MAX_PARTITIONS + 1,
                    ..topic("a")
                },
                ErrorCode::POLICY_VIOLATION,
            ),
            (
                CreatableTopic {
                    replication_factor: 0,
                    ..topic("a")
                },
                ErrorCode::INVALID_REPLICATION_FACTOR,
            ),
            (
                CreatableTopic {
                    replication_factor: 3,
                    ..topic("a")
                },
                ErrorCode::INVALID_REPLICATION_FACTOR,
            ),
            (topic(""), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (topic("a/../b"), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (
                topic("__consumer_offsets"),
                ErrorCode::INVALID_TOPIC_EXCEPTION,
            ),
            (
                CreatableTopic {
                    configs: vec![config("nonsense", Some("1"))],
                    ..topic("a")
                },
                ErrorCode::INVALID_CONFIG,
            ),
            (
                CreatableTopic {
                    configs: vec![config("retention.ms", Some("x"))],
                    ..topic("a")
                },
                ErrorCode::INVALID_CONFIG,
            ),
            (
                CreatableTopic {
                    configs: vec![config("remote.storage.enable", Some("true"))],
                    ..topic("a")
                },
                ErrorCode::INVALID_CONFIG,
            ),
            (
                CreatableTopic {
                    configs: vec![config("retention.ms", None)],
                    ..topic("a")
                },
                ErrorCode::INVALID_CONFIG,
            ),
        ];
        for (topic, expected) in cases {
            let answer = ask(&mut h, vec![topic], false);
            assert_eq!(
                answer[0].error_code, expected,
                "{:?}",
                answer[0].error_message
            );
            assert!(answer[0].error_message.is_some());
        }
        let twice = ask(&mut h, vec![topic("a"), topic("b"), topic("a")], false);
        let codes: Vec<_> = twice.iter().map(|t| t.error_code).collect();
        assert_eq!(
            codes,
            [ErrorCode::INVALID_REQUEST, ErrorCode::NONE],
            "what is named twice is told once"
        );
    }

    #[test]
    fn manual_assignments() {
        let mut h = Harness::new(Durability::Os);
        let assigned = |parts: &[(i32, &[i32])]| CreatableTopic {
            assignments: parts
                .iter()
                .map(|(partition_index, ids)| CreatableReplicaAssignment {
                    partition_index: *partition_index,
                    broker_ids: ids.to_vec(),
                })
                .collect(),
            ..topic("a")
        };
        for bad in [
            assigned(&[(1, &[1])]),
            assigned(&[(0, &[1]), (0, &[1])]),
            assigned(&[(0, &[])]),
            assigned(&[(0, &[2])]),
            assigned(&[(0, &[1, 1])]),
        ] {
            assert_eq!(code(&mut h, bad), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
        }
        let both = CreatableTopic {
            num_partitions: 1,
            ..assigned(&[(0, &[1])])
        };
        assert_eq!(code(&mut h, both), ErrorCode::INVALID_REQUEST);
        assert_eq!(
            code(&mut h, assigned(&[(1, &[1]), (0, &[1])])),
            ErrorCode::NONE
        );
        assert_eq!(h.broker.topics.by_name("a").unwrap().partitions.len(), 2);
    }
}
