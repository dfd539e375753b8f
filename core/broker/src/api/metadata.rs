//! Metadata (3): brokers, topics and their leaders; creates topics that are missing, where that is wanted.
//!
//! Serves versions 0 to 13. Departs from Kafka: a topic that is created is in the answer, where Kafka's first one is an error; a
//! partition whose log has failed has no leader.

use alloc::{vec, vec::Vec};

use hashbrown::{HashMap, HashSet};
use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::metadata::{
        MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
        MetadataResponsePartition, MetadataResponseTopic,
    },
};
use ottla_record::Now;

use super::check_count;
use crate::{
    Broker,
    context::{Handled, RequestContext},
    quotas::Mutations,
    topics::{
        OFFSETS_TOPIC, SHARE_STATE_TOPIC, TRANSACTIONS_TOPIC, Topic, TopicIndex, check_topic_name,
        is_internal_topic,
    },
};

/// Bits of the operations that everyone may do where there is no authorizer: READ 3, WRITE 4, CREATE 5, DELETE 6,
/// ALTER 7, DESCRIBE 8, DESCRIBE_CONFIGS 10, ALTER_CONFIGS 11.
pub(crate) const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// The same for the cluster: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION 9, DESCRIBE_CONFIGS, ALTER_CONFIGS,
/// IDEMPOTENT_WRITE 12.
pub(crate) const CLUSTER_OPERATIONS: i32 =
    1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

/// From this version on a topic may be asked for by id.
const BY_ID: i16 = 12;

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: MetadataRequest,
) -> Handled {
    let with_operations = request.include_topic_authorized_operations;
    if let Some(topics) = &request.topics
        && context.api_version < BY_ID
        && topics
            .iter()
            .any(|topic| topic.name.is_none() || !topic.topic_id.is_zero())
    {
        // Versions 10 and 11 have room for ids, and for names that are null, but neither is allowed. Kafka refuses all of the
        // request then, and names that are null come back empty.
        let refused = |topic: &MetadataRequestTopic| {
            let name = topic.name.clone().unwrap_or_default();
            failed(Some(name), Uuid::ZERO, ErrorCode::INVALID_REQUEST)
        };
        return Handled::Respond(Response::Metadata(MetadataResponse {
            topics: topics.iter().map(refused).collect(),
            ..Default::default()
        }));
    }
    let topics = match request.topics {
        Some(topics) if context.api_version > 0 || !topics.is_empty() => {
            // Before version 4 a request can't say; the broker's setting decides alone.
            let may_create = broker.config.auto_create_topics
                && (request.allow_auto_topic_creation || context.api_version < 4);
            let mut seen = HashSet::new();
            // Where there are ids, names don't count.
            let has_ids = topics.iter().any(|topic| !topic.topic_id.is_zero());
            let refused = match may_create && !has_ids {
                true => create_missing(broker, now, context, &topics),
                false => HashMap::new(),
            };
            topics
                .into_iter()
                .filter(|topic| !has_ids || !topic.topic_id.is_zero())
                .filter(|topic| seen.insert((topic.name.clone(), topic.topic_id)))
                .map(|topic| {
                    named(
                        broker,
                        context.api_version,
                        topic,
                        &refused,
                        with_operations,
                    )
                })
                .collect()
        }
        // Null, and in version 0 also an empty list, means all.
        _ => {
            let mut all: Vec<&Topic> = broker.topics.iter().collect();
            all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            all.into_iter()
                .map(|topic| describe(broker, topic, with_operations))
                .collect()
        }
    };
    Handled::Respond(Response::Metadata(MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: broker.identity.node_id,
            host: context.endpoint.host.clone(),
            port: context.endpoint.port,
            rack: broker.config.rack.clone(),
        }],
        cluster_id: Some(broker.identity.cluster_id.clone()),
        controller_id: broker.identity.node_id,
        topics,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            i32::MIN
        },
        ..Default::default()
    }))
}

fn named(
    broker: &Broker,
    version: i16,
    asked: MetadataRequestTopic,
    not_created: &HashMap<Str, ErrorCode>,
    with_operations: bool,
) -> MetadataResponseTopic {
    // A name beside an id counts for nothing: the Java client's Admin sends an empty one.
    if version >= BY_ID && !asked.topic_id.is_zero() {
        return match broker.topics.by_id(&asked.topic_id) {
            Some(topic) => describe(broker, topic, with_operations),
            None => failed(None, asked.topic_id, ErrorCode::UNKNOWN_TOPIC_ID),
        };
    }
    let name = match asked.name {
        // From version 12 on null is a name that may be answered.
        None => return failed(None, asked.topic_id, ErrorCode::INVALID_REQUEST),
        Some(name) => name,
    };
    if let Some(topic) = broker.topics.by_name(&name) {
        return describe(broker, topic, with_operations);
    }
    let code = match (check_topic_name(&name), not_created.get(&name)) {
        (Err(_), _) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        (Ok(()), Some(code)) => *code,
        (Ok(()), None) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    };
    refused(name, code, with_operations)
}

/// Auto-creation. Kafka answers the first request with an error while the controller works; here it is done by now. What is beyond the
/// client's quota is not created: it asks again. Why what could not be created was not.
fn create_missing(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    topics: &[MetadataRequestTopic],
) -> HashMap<Str, ErrorCode> {
    let mut mutations = Mutations::by_the_way(broker, context);
    let mut refused = HashMap::new();
    let mut begun = Vec::new();
    let mut names = Vec::new();
    for name in topics.iter().filter_map(|topic| topic.name.as_ref()) {
        if broker.topics.by_name(name).is_some() || check_topic_name(name).is_err() {
            continue;
        }
        match begin(broker, now, name, &mut mutations) {
            Ok(Some(topic)) => {
                begun.push(topic);
                names.push(name.clone());
            }
            Ok(None) => {}
            Err(code) => {
                refused.insert(name.clone(), code);
            }
        }
    }
    for (name, made) in names.into_iter().zip(broker.make_topics(now, &begun)) {
        if made.is_err() {
            refused.insert(name, ErrorCode::KAFKA_STORAGE_ERROR);
        }
    }
    refused
}

/// A topic that is to be made, and its number of partitions; `None` if it has been made.
fn begin(
    broker: &mut Broker,
    now: Now,
    name: &Str,
    mutations: &mut Mutations,
) -> Result<Option<(TopicIndex, i32)>, ErrorCode> {
    let ensured = match &**name {
        OFFSETS_TOPIC => Some(broker.ensure_offsets_topic(now)),
        TRANSACTIONS_TOPIC => Some(broker.ensure_transactions_topic(now)),
        SHARE_STATE_TOPIC => Some(broker.ensure_share_state_topic(now)),
        _ => None,
    };
    if let Some(ensured) = ensured {
        return ensured.map(|_| None);
    }
    if broker.topics.colliding(name).is_some() {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    // As in Kafka, which hands it to its controller: that refuses, and there is no such topic.
    let partitions = check_count(broker.config.num_partitions)
        .map_err(|_| ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    mutations
        .record(broker, now, usize::try_from(partitions).unwrap_or(0))
        .map_err(|_| ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let config = broker.config.topic_defaults.clone();
    let index = broker.begin_topic(name.clone(), config, Vec::new());
    Ok(Some((index, partitions)))
}

/// A topic that was asked for by name. What one may do to it does not depend on whether it is there.
fn refused(name: Str, error_code: ErrorCode, with_operations: bool) -> MetadataResponseTopic {
    let mut topic = failed(Some(name), Uuid::ZERO, error_code);
    if with_operations {
        topic.topic_authorized_operations = TOPIC_OPERATIONS;
    }
    topic
}

fn failed(name: Option<Str>, topic_id: Uuid, error_code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code,
        is_internal: name.as_deref().is_some_and(is_internal_topic),
        name,
        topic_id,
        ..Default::default()
    }
}

fn describe(broker: &Broker, topic: &Topic, with_operations: bool) -> MetadataResponseTopic {
    let node = broker.identity.node_id;
    let partitions = topic
        .partitions
        .iter()
        .filter_map(|index| broker.partitions.get(*index))
        .map(|partition| {
            let failed = partition.is_failed();
            MetadataResponsePartition {
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
                offline_replicas: if failed { vec![node] } else { Vec::new() },
            }
        })
        .collect();
    MetadataResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions,
        topic_authorized_operations: if with_operations {
            TOPIC_OPERATIONS
        } else {
            i32::MIN
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BrokerConfig, Durability, api::create_topics::MAX_PARTITIONS, testing::Harness};
    use ottla_protocol::{
        Request,
        messages::{CreateTopicsRequest, create_topics::CreatableTopic},
    };

    fn ask(h: &mut Harness, version: i16, request: MetadataRequest) -> MetadataResponse {
        let Response::Metadata(response) = h.ask(version, Request::Metadata(request)) else {
            panic!()
        };
        response
    }

    fn of(names: &[&str], allow_auto_topic_creation: bool) -> MetadataRequest {
        MetadataRequest {
            topics: Some(
                names
                    .iter()
                    .map(|n| MetadataRequestTopic {
                        name: Some((*n).into()),
                        ..Default::default()
                    })
                    .collect(),
            ),
            allow_auto_topic_creation,
            ..Default::default()
        }
    }

    #[test]
    fn ids_and_null_names_before_version_12_are_refused_as_kafka_does() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        let topic_id = h.broker.topics.by_name("t").unwrap().id;
        let topic = |name: Option<&str>, topic_id| MetadataRequestTopic {
            name: name.map(Str::from),
            topic_id,
        };
        for bad in [topic(None, topic_id), topic(Some("t"), topic_id)] {
            let request = MetadataRequest {
                topics: Some(vec![topic(Some("t"), Uuid::ZERO), bad.clone()]),
                ..Default::default()
            };
            let response = ask(&mut h, 10, request);
            assert!(response.brokers.is_empty());
            let answers = response.topics.into_iter();
            let answers: Vec<_> = answers.map(|t| (t.name.unwrap(), t.error_code)).collect();
            let second = (bad.name.unwrap_or_default(), ErrorCode::INVALID_REQUEST);
            assert_eq!(answers, [("t".into(), ErrorCode::INVALID_REQUEST), second]);
        }
    }

    #[test]
    fn broker_and_cluster() {
        let mut h = Harness::new(Durability::Os);
        let answer = ask(
            &mut h,
            9,
            MetadataRequest {
                topics: Some(vec![]),
                ..Default::default()
            },
        );
        assert_eq!(answer.brokers.len(), 1);
        assert_eq!((answer.brokers[0].node_id, answer.controller_id), (1, 1));
        assert_eq!(answer.cluster_id.as_ref().unwrap().len(), 22);
        assert_eq!(answer.cluster_authorized_operations, i32::MIN);
        assert!(answer.topics.is_empty());
    }

    #[test]
    fn missing_topics_are_created_where_that_is_wanted() {
        let mut h = Harness::new(Durability::Os);
        let answer = ask(&mut h, 9, of(&["a"], false));
        assert_eq!(
            answer.topics[0].error_code,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );
        let answer = ask(&mut h, 9, of(&["a", "a"], true));
        assert_eq!(answer.topics.len(), 1);
        let topic = &answer.topics[0];
        assert_eq!(
            (topic.error_code, topic.partitions.len(), topic.is_internal),
            (ErrorCode::NONE, 1, false)
        );
        assert!(!topic.topic_id.is_zero());
        let partition = &topic.partitions[0];
        assert_eq!((partition.leader_id, partition.leader_epoch), (1, 0));
        assert_eq!(
            (&partition.replica_nodes[..], &partition.isr_nodes[..]),
            (&[1][..], &[1][..])
        );

        let mut h = Harness::with(BrokerConfig {
            auto_create_topics: false,
            ..BrokerConfig::default()
        });
        assert_eq!(
            ask(&mut h, 9, of(&["a"], true)).topics[0].error_code,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );
    }

    #[test]
    fn no_topic_is_created_with_more_partitions_than_one_may_have() {
        let mut config = BrokerConfig {
            num_partitions: MAX_PARTITIONS + 1,
            ..BrokerConfig::default()
        };
        config.groups.partitions = MAX_PARTITIONS + 1;
        let mut h = Harness::with(config);
        let missing = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        for (name, error) in [
            ("a", missing),
            (OFFSETS_TOPIC, ErrorCode::COORDINATOR_NOT_AVAILABLE),
        ] {
            let answer = ask(&mut h, 9, of(&[name], true)).topics.remove(0);
            assert_eq!((answer.error_code, answer.partitions.len()), (error, 0));
        }
        assert_eq!(h.broker.topics.iter().count(), 0);
        let topic = CreatableTopic {
            name: "a".into(),
            num_partitions: -1,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            ..Default::default()
        };
        let Response::CreateTopics(answer) = h.ask(5, Request::CreateTopics(request)) else {
            panic!()
        };
        let error = answer.topics[0].error_code;
        assert_eq!(error, ErrorCode::POLICY_VIOLATION);
    }

    #[test]
    fn internal_topics_are_created_with_their_own_settings() {
        let mut h = Harness::new(Durability::Os);
        for name in [OFFSETS_TOPIC, TRANSACTIONS_TOPIC, SHARE_STATE_TOPIC] {
            let unwanted = ask(&mut h, 12, of(&[name], false)).topics.remove(0);
            let missing = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            assert_eq!((unwanted.error_code, unwanted.is_internal), (missing, true));
            let made = ask(&mut h, 12, of(&[name], true)).topics.remove(0);
            assert_eq!((made.error_code, made.is_internal), (ErrorCode::NONE, true));
            assert_eq!(made.partitions.len(), 4, "{name}");
            let topic = h.broker.topics.by_name(name).unwrap();
            let given = topic
                .configs
                .iter()
                .find(|(key, _)| &**key == "segment.bytes");
            assert_eq!(
                given.map(|(_, value)| &**value),
                Some("104857600"),
                "{name}"
            );
        }
        assert_eq!(h.init_transactions("tx"), (0, 0));
    }

    #[test]
    fn an_internal_topic_among_others_that_are_created() {
        let mut h = Harness::new(Durability::Os);
        let answer = ask(&mut h, 9, of(&["a", "__consumer_offsets", "b"], true));
        let made = answer.topics.iter();
        let made: Vec<_> = made.map(|t| (t.error_code, t.partitions.len())).collect();
        let none = ErrorCode::NONE;
        assert_eq!(made, [(none, 1), (none, 4), (none, 1)]);
        let h = h.restart(false);
        assert_eq!(h.broker.topics.iter().count(), 3);
    }

    #[test]
    fn names_that_are_none() {
        let mut h = Harness::new(Durability::Os);
        let long = "x".repeat(250);
        for name in ["", ".", "..", "a/b", "../etc", "a b", "ä", "a\0b", &long] {
            let answer = ask(&mut h, 9, of(&[name], true));
            assert_eq!(
                answer.topics[0].error_code,
                ErrorCode::INVALID_TOPIC_EXCEPTION,
                "{name:?}"
            );
        }
        assert_eq!(
            ask(&mut h, 9, of(&["a.b"], true)).topics[0].error_code,
            ErrorCode::NONE
        );
        assert_eq!(
            ask(&mut h, 9, of(&["a_b"], true)).topics[0].error_code,
            ErrorCode::INVALID_TOPIC_EXCEPTION
        );
        assert_eq!(
            ask(&mut h, 9, of(&["x".repeat(249).as_str()], true)).topics[0].error_code,
            ErrorCode::NONE
        );
    }

    #[test]
    fn all_topics_sorted_and_by_id() {
        let mut h = Harness::new(Durability::Os);
        for name in ["b", "a", "__consumer_offsets"] {
            ask(&mut h, 9, of(&[name], true));
        }
        let all = ask(
            &mut h,
            9,
            MetadataRequest {
                topics: None,
                ..Default::default()
            },
        );
        let names: Vec<&str> = all
            .topics
            .iter()
            .map(|t| &**t.name.as_ref().unwrap())
            .collect();
        assert_eq!(names, ["__consumer_offsets", "a", "b"]);
        assert!(all.topics[0].is_internal);
        assert_eq!(all.topics[0].partitions.len(), 4);
        let empty_of_old = ask(
            &mut h,
            0,
            MetadataRequest {
                topics: Some(vec![]),
                ..Default::default()
            },
        );
        assert_eq!(empty_of_old.topics.len(), 3);

        let by_id = |topic_id| MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                topic_id,
                name: None,
            }]),
            include_topic_authorized_operations: true,
            ..Default::default()
        };
        let found = ask(&mut h, 12, by_id(all.topics[1].topic_id));
        assert_eq!(found.topics[0].name.as_deref(), Some("a"));
        assert_eq!(
            found.topics[0].topic_authorized_operations,
            TOPIC_OPERATIONS
        );
        let mut with_empty_name = by_id(all.topics[1].topic_id);
        for topic in with_empty_name.topics.iter_mut().flatten() {
            topic.name = Some("".into());
        }
        let found = ask(&mut h, 12, with_empty_name);
        assert_eq!(found.topics[0].name.as_deref(), Some("a"));
        let missing = ask(&mut h, 12, by_id(Uuid::from_random(3)));
        assert_eq!(missing.topics[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    }

    #[test]
    fn topics_keep_their_ids_over_a_restart() {
        for clean in [true, false] {
            let mut h = Harness::new(Durability::Os);
            let before = ask(&mut h, 9, of(&["a"], true));
            let mut h = h.restart(clean);
            let after = ask(&mut h, 9, of(&["a"], false));
            assert_eq!(before, after);
        }
    }
}
