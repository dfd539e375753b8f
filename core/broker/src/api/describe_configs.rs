//! DescribeConfigs (32): what is in force for a topic or for the broker.

use alloc::{format, string::ToString, vec, vec::Vec};

use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::describe_configs::{
        DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
        DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
    },
};
use ottla_record::Now;

use crate::{
    Broker,
    configs::ConfigType,
    context::{Handled, RequestContext},
    topic_config::{TOPIC_CONFIG_KEYS, TopicConfig, TopicConfigKey},
    topics::check_topic_name,
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

const DYNAMIC_TOPIC_CONFIG: i8 = 1;
const STATIC_BROKER_CONFIG: i8 = 4;
const DEFAULT_CONFIG: i8 = 5;

/// Where a topic's value for `key` comes from, if `given` is what the topic was created with.
pub(crate) fn config_source(key: &TopicConfigKey, given: &[(Str, Str)]) -> i8 {
    if given.iter().any(|(name, _)| *name == key.name) {
        DYNAMIC_TOPIC_CONFIG
    } else {
        DEFAULT_CONFIG
    }
}

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    _context: &RequestContext,
    request: DescribeConfigsRequest,
) -> Handled {
    let results = request
        .resources
        .into_iter()
        .map(|resource| {
            let found = match resource.resource_type {
                TOPIC => topic_configs(broker, &resource.resource_name),
                BROKER => broker_configs(broker, &resource.resource_name),
                other => Err((
                    ErrorCode::INVALID_REQUEST,
                    format!("Unsupported resource type: {other}"),
                )),
            };
            result(
                resource,
                found,
                request.include_synonyms,
                request.include_documentation,
            )
        })
        .collect();
    Handled::Respond(Response::DescribeConfigs(DescribeConfigsResponse {
        results,
        ..Default::default()
    }))
}

struct Described {
    name: &'static str,
    value: Str,
    source: i8,
    config_type: ConfigType,
    read_only: bool,
    doc: alloc::string::String,
    /// (name, value, source), the one in force first.
    synonyms: Vec<(&'static str, Str, i8)>,
}

type Found = Result<Vec<Described>, (ErrorCode, alloc::string::String)>;

fn result(
    resource: DescribeConfigsResource,
    found: Found,
    with_synonyms: bool,
    with_docs: bool,
) -> DescribeConfigsResult {
    let (error_code, error_message, described) = match found {
        Ok(described) => (ErrorCode::NONE, None, described),
        Err((code, message)) => (code, Some(message.into()), Vec::new()),
    };
    let wanted = |name: &str| match &resource.configuration_keys {
        Some(keys) => keys.iter().any(|key| *key == name),
        None => true,
    };
    let configs = described
        .into_iter()
        .filter(|config| wanted(config.name))
        .map(|config| DescribeConfigsResourceResult {
            name: Str::from_static(config.name),
            value: Some(config.value),
            read_only: config.read_only,
            config_source: config.source,
            is_sensitive: false,
            synonyms: if with_synonyms {
                config
                    .synonyms
                    .into_iter()
                    .map(|(name, value, source)| DescribeConfigsSynonym {
                        name: Str::from_static(name),
                        value: Some(value),
                        source,
                    })
                    .collect()
            } else {
                Vec::new()
            },
            config_type: config.config_type as i8,
            documentation: with_docs.then(|| config.doc.into()),
        })
        .collect();
    DescribeConfigsResult {
        error_code,
        error_message,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        configs,
    }
}

fn topic_configs(broker: &Broker, name: &str) -> Found {
    check_topic_name(name).map_err(|why| (ErrorCode::INVALID_TOPIC_EXCEPTION, why))?;
    let topic = broker.topics.by_name(name).ok_or_else(|| {
        (
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            "This server does not host this topic-partition.".to_string(),
        )
    })?;
    Ok(TOPIC_CONFIG_KEYS
        .iter()
        .map(|key| {
            let default = key.value(&broker.config.topic_defaults);
            let source = config_source(key, &topic.configs);
            let value = key.value(&topic.config);
            let mut synonyms = Vec::new();
            if source == DYNAMIC_TOPIC_CONFIG {
                synonyms.push((key.name, value.clone(), source));
            }
            if let Some(broker_name) = key.broker_name {
                synonyms.push((broker_name, default, DEFAULT_CONFIG));
            }
            Described {
                name: key.name,
                value,
                source,
                config_type: key.config_type,
                read_only: false,
                doc: key.documentation(),
                synonyms,
            }
        })
        .collect())
}

fn broker_configs(broker: &Broker, name: &str) -> Found {
    let node = broker.identity.node_id.to_string();
    if name != node {
        return Err((
            ErrorCode::INVALID_REQUEST,
            format!("Unexpected broker id, expected {node} or empty string, but received {name}"),
        ));
    }
    let config = &broker.config;
    let row = |name, value: Str, config_type, doc: &str| Described {
        name,
        value: value.clone(),
        source: STATIC_BROKER_CONFIG,
        config_type,
        read_only: true,
        doc: doc.to_string(),
        synonyms: vec![(name, value, STATIC_BROKER_CONFIG)],
    };
    let number = |n: i64| Str::from(n.to_string());
    let groups = &config.groups;
    use ConfigType::{Boolean, Int, List, Long};
    let mut rows = vec![
        row(
            "auto.create.topics.enable",
            config.auto_create_topics.to_string().into(),
            Boolean,
            "Whether Metadata creates the topics it is asked for.",
        ),
        row(
            "fetch.max.bytes",
            number(config.fetch_max_bytes.into()),
            Int,
            "Largest fetch answer.",
        ),
        row(
            "group.consumer.assignors",
            Str::from(
                groups
                    .consumer
                    .assignors
                    .iter()
                    .map(|a| a.name())
                    .collect::<Vec<_>>()
                    .join(","),
            ),
            List,
            "Assignors of consumer groups; the first one is the default.",
        ),
        row(
            "group.consumer.heartbeat.interval.ms",
            number(groups.consumer.heartbeat_interval_ms.into()),
            Int,
            "How often members of consumer groups are told to send heartbeats.",
        ),
        row(
            "group.consumer.max.size",
            number(groups.consumer.max_size.into()),
            Int,
            "Most members of one consumer group.",
        ),
        row(
            "group.consumer.migration.policy",
            Str::from_static(groups.consumer.migration_policy.name()),
            ConfigType::String,
            "Whether groups with members change between the classic and the newer protocol.",
        ),
        row(
            "group.consumer.session.timeout.ms",
            number(groups.consumer.session_timeout_ms.into()),
            Int,
            "Session timeout of members of consumer groups.",
        ),
        row(
            "group.initial.rebalance.delay.ms",
            number(groups.initial_rebalance_delay_ms.into()),
            Int,
            "How long the first join of an empty group waits for others.",
        ),
        row(
            "group.max.session.timeout.ms",
            number(groups.max_session_timeout_ms.into()),
            Int,
            "Longest session timeout of a group member.",
        ),
        row(
            "group.max.size",
            number(groups.max_size.into()),
            Int,
            "Most members of one group.",
        ),
        row(
            "group.min.session.timeout.ms",
            number(groups.min_session_timeout_ms.into()),
            Int,
            "Shortest session timeout of a group member.",
        ),
        row(
            "log.retention.check.interval.ms",
            number(config.retention_check_interval_ms),
            Long,
            "How often old segments are looked for.",
        ),
        row(
            "max.incremental.fetch.session.cache.slots",
            number(config.fetch_session_slots as i64),
            Int,
            "Most fetch sessions that are remembered.",
        ),
        row("node.id", node.into(), Int, "Id of this broker."),
        row(
            "num.partitions",
            number(config.num_partitions.into()),
            Int,
            "Partitions of a topic created without a count.",
        ),
        row(
            "offset.metadata.max.bytes",
            number(groups.offset_metadata_max_bytes.into()),
            Int,
            "Longest metadata of a committed offset.",
        ),
        row(
            "offsets.retention.check.interval.ms",
            number(groups.offsets_retention_check_interval_ms),
            Long,
            "How often expired offsets are looked for.",
        ),
        row(
            "offsets.retention.minutes",
            number(groups.offsets_retention_ms / 60_000),
            Int,
            "How long offsets of an empty group are kept.",
        ),
        row(
            "offsets.topic.num.partitions",
            number(groups.partitions.into()),
            Int,
            "Partitions of __consumer_offsets.",
        ),
        row(
            "producer.id.expiration.ms",
            number(config.producer_id_expiration_ms),
            Int,
            "How long an idle producer is remembered.",
        ),
    ];
    let defaults = TopicConfig::default();
    rows.extend(TOPIC_CONFIG_KEYS.iter().filter_map(|key| {
        let broker_name = key.broker_name?;
        let (value, default) = (key.value(&config.topic_defaults), key.value(&defaults));
        let source = if value == default {
            DEFAULT_CONFIG
        } else {
            STATIC_BROKER_CONFIG
        };
        let mut synonyms = vec![(broker_name, value.clone(), source)];
        if source == STATIC_BROKER_CONFIG {
            synonyms.push((broker_name, default, DEFAULT_CONFIG));
        }
        Some(Described {
            name: broker_name,
            value,
            source,
            config_type: key.config_type,
            read_only: true,
            doc: key.documentation(),
            synonyms,
        })
    }));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, testing::Harness};
    use ottla_protocol::Request;

    fn ask(
        h: &mut Harness,
        resource_type: i8,
        name: &str,
        keys: Option<&[&str]>,
    ) -> DescribeConfigsResult {
        let resource = DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            include_synonyms: true,
            include_documentation: true,
        };
        let Response::DescribeConfigs(mut response) = h.ask(4, Request::DescribeConfigs(request))
        else {
            panic!()
        };
        response.results.remove(0)
    }

    #[test]
    fn of_a_topic() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic(
            "a",
            1,
            &[("retention.ms", "7"), ("cleanup.policy", "compact")],
        );
        let all = ask(&mut h, TOPIC, "a", None);
        assert_eq!(
            (all.error_code, all.configs.len()),
            (ErrorCode::NONE, TOPIC_CONFIG_KEYS.len())
        );
        let one = ask(&mut h, TOPIC, "a", Some(&["retention.ms"]));
        assert_eq!(one.configs.len(), 1);
        let retention = &one.configs[0];
        assert_eq!(
            (retention.value.as_deref(), retention.config_source),
            (Some("7"), DYNAMIC_TOPIC_CONFIG)
        );
        let synonyms: Vec<_> = retention
            .synonyms
            .iter()
            .map(|s| (&*s.name, s.value.as_deref(), s.source))
            .collect();
        assert_eq!(
            synonyms,
            [
                ("retention.ms", Some("7"), DYNAMIC_TOPIC_CONFIG),
                ("log.retention.ms", Some("604800000"), DEFAULT_CONFIG),
            ]
        );
        let unclean = ask(
            &mut h,
            TOPIC,
            "a",
            Some(&["unclean.leader.election.enable"]),
        );
        assert!(
            unclean.configs[0]
                .documentation
                .as_ref()
                .unwrap()
                .contains("No effect")
        );
        assert_eq!(
            ask(&mut h, TOPIC, "b", None).error_code,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );
        assert_eq!(
            ask(&mut h, TOPIC, "a/b", None).error_code,
            ErrorCode::INVALID_TOPIC_EXCEPTION
        );
    }

    #[test]
    fn of_the_broker() {
        let mut h = Harness::new(Durability::Os);
        let one = ask(
            &mut h,
            BROKER,
            "1",
            Some(&["num.partitions", "message.max.bytes"]),
        );
        let values: Vec<_> = one
            .configs
            .iter()
            .map(|c| (&*c.name, c.value.as_deref(), c.read_only))
            .collect();
        assert_eq!(
            values,
            [
                ("num.partitions", Some("1"), true),
                ("message.max.bytes", Some("1048588"), true)
            ]
        );
        assert_eq!(
            ask(&mut h, BROKER, "2", None).error_code,
            ErrorCode::INVALID_REQUEST
        );
        assert_eq!(
            ask(&mut h, 99, "1", None).error_code,
            ErrorCode::INVALID_REQUEST
        );
    }
}
