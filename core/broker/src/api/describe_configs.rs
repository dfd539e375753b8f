//! DescribeConfigs (32): what is in force for topics, brokers, groups and client metrics, and why.
//!
//! Serves versions 1 to 4. Departs from Kafka: the documentation of a setting that has no effect here says so; `min.insync.replicas` is
//! told as the default, where Kafka 4.1 and newer sets it for the cluster when it formats a directory; `log.retention.hours` that was
//! given at start keeps what was given as its value when another setting of retention is changed; a BROKER_LOGGER has no entries, since
//! the log has one level for all; of groups and client metrics those beyond 2,000 are INVALID_REQUEST; a request in which resources are
//! repeated more than 100 times ends the connection.

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::describe_configs::{
        DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
        DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
    },
};
use ottla_record::Now;

use super::repeats_itself;
use crate::{
    Broker,
    configs::{describing::Described, dynamic::resource},
    context::{Handled, RequestContext},
    topics::check_topic_name,
};

/// Groups and client metrics that one request may ask for: they have settings whether they are there or not, and any name will do.
const MOST_INVENTED: usize = 2000;

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    _context: &RequestContext,
    request: DescribeConfigsRequest,
) -> Handled {
    // A broker has many names: 1, 01, +1.
    let each = request.resources.iter().map(|r| {
        let number = r.resource_name.parse::<i32>().ok();
        let number = number.filter(|_| r.resource_type == resource::BROKER);
        (
            r.resource_type,
            number.is_none().then_some(&r.resource_name),
            number,
        )
    });
    if repeats_itself(each) {
        return Handled::Disconnect;
    }
    let mut invented = 0;
    let results = request
        .resources
        .into_iter()
        .map(|resource| {
            let may_be_missing = [resource::GROUP, resource::CLIENT_METRICS];
            invented += usize::from(may_be_missing.contains(&resource.resource_type));
            let found = if invented > MOST_INVENTED {
                let why = format!("At most {MOST_INVENTED} groups and client metrics at a time.");
                Err((ErrorCode::INVALID_REQUEST, why))
            } else {
                describe(broker, resource.resource_type, &resource.resource_name)
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

type Found = Result<Vec<Described>, (ErrorCode, String)>;

fn describe(broker: &Broker, resource_type: i8, name: &str) -> Found {
    let refused = |why: String| Err((ErrorCode::INVALID_REQUEST, why));
    let node = broker.identity.node_id;
    match resource_type {
        resource::TOPIC => {
            check_topic_name(name).map_err(|why| (ErrorCode::INVALID_TOPIC_EXCEPTION, why))?;
            match broker.topics.by_name(name) {
                Some(topic) => Ok(broker.describe_topic(&topic.config, &topic.configs)),
                None => Err((
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    "This server does not host this topic-partition.".into(),
                )),
            }
        }
        resource::BROKER if name.is_empty() => Ok(broker.describe_all_brokers()),
        resource::BROKER_LOGGER if name.is_empty() => refused("Broker id must not be empty".into()),
        resource::BROKER | resource::BROKER_LOGGER => match name.parse::<i32>() {
            Err(_) => refused(format!("Broker id must be an integer, but it is: {name}")),
            Ok(id) if id != node && resource_type == resource::BROKER => refused(format!(
                "Unexpected broker id, expected {node} or empty string, but received {name}"
            )),
            Ok(id) if id != node => refused(format!(
                "Unexpected broker id, expected {node} but received {name}"
            )),
            Ok(_) if resource_type == resource::BROKER => Ok(broker.describe_broker()),
            // There are no loggers whose level could be told.
            Ok(_) => Ok(Vec::new()),
        },
        resource::CLIENT_METRICS if name.is_empty() => {
            refused("Client metrics subscription name must not be empty".into())
        }
        resource::CLIENT_METRICS => Ok(broker.describe_client_metrics(name)),
        resource::GROUP if name.is_empty() => refused("Group name must not be empty".into()),
        resource::GROUP => Ok(broker.describe_group(name)),
        other => refused(format!("Unsupported resource type: {other}")),
    }
}

fn result(
    resource: DescribeConfigsResource,
    found: Found,
    with_synonyms: bool,
    with_docs: bool,
) -> DescribeConfigsResult {
    let (error_code, error_message, described) = match found {
        // Kafka's message is empty then, not null.
        Ok(described) => (ErrorCode::NONE, Some(Str::new()), described),
        Err((code, message)) => (code, Some(message.into()), Vec::new()),
    };
    // No keys are all keys, as in Kafka.
    let keys = resource.configuration_keys.as_deref().unwrap_or_default();
    let keys: BTreeSet<&str> = keys.iter().map(|key| &**key).collect();
    let wanted = |name: &str| keys.is_empty() || keys.contains(name);
    let configs = described
        .into_iter()
        .filter(|config| wanted(config.name))
        .map(|config| {
            let synonyms = config.synonyms.into_iter().map(|synonym| {
                let (name, value, source) = (synonym.name, synonym.value, synonym.source);
                DescribeConfigsSynonym {
                    name,
                    value,
                    source,
                }
            });
            DescribeConfigsResourceResult {
                name: Str::from_static(config.name),
                value: config.value,
                read_only: config.read_only,
                config_source: config.source,
                is_sensitive: config.sensitive,
                synonyms: if with_synonyms {
                    synonyms.collect()
                } else {
                    Vec::new()
                },
                config_type: config.config_type as i8,
                documentation: with_docs.then(|| config.documentation.into()),
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BrokerConfig, Durability,
        configs::{BROKER_ROWS, describing::source},
        testing::Harness,
        topic_config::TOPIC_CONFIG_KEYS,
    };
    use ottla_protocol::Request;
    use std::{string::ToString, vec};

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

    /// Value, source and synonyms as text.
    fn told(config: &DescribeConfigsResourceResult) -> String {
        let synonyms = config.synonyms.iter().map(|s| {
            let value = s.value.as_deref().unwrap_or("null");
            format!(" {}:{}={value}", s.source, s.name)
        });
        let synonyms: String = synonyms.collect();
        let value = config.value.as_deref().unwrap_or("null");
        format!("{value} {}{synonyms}", config.config_source)
    }

    #[test]
    fn of_a_topic() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic(
            "a",
            1,
            &[("retention.ms", "7"), ("cleanup.policy", "compact")],
        );
        let all = ask(&mut h, resource::TOPIC, "a", None);
        assert_eq!(
            (all.error_code, all.configs.len()),
            (ErrorCode::NONE, TOPIC_CONFIG_KEYS.len())
        );
        let mut one = |name: &str| {
            let mut found = ask(&mut h, resource::TOPIC, "a", Some(&[name]));
            assert_eq!(found.configs.len(), 1);
            found.configs.remove(0)
        };
        // As Kafka 4.3.1 tells it.
        assert_eq!(told(&one("retention.ms")), "7 1 1:retention.ms=7");
        assert_eq!(
            told(&one("cleanup.policy")),
            "compact 1 1:cleanup.policy=compact 5:log.cleanup.policy=delete"
        );
        assert_eq!(told(&one("segment.ms")), "604800000 5");
        assert_eq!(
            told(&one("max.message.bytes")),
            "1048588 5 5:message.max.bytes=1048588"
        );
        assert_eq!(told(&one("leader.replication.throttled.replicas")), " 5");
        let unclean = one("unclean.leader.election.enable");
        assert!(
            unclean
                .documentation
                .is_some_and(|doc| doc.contains("No effect"))
        );
        for (name, error) in [
            ("b", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ("a/b", ErrorCode::INVALID_TOPIC_EXCEPTION),
        ] {
            assert_eq!(ask(&mut h, resource::TOPIC, name, None).error_code, error);
        }
    }

    #[test]
    fn of_the_broker() {
        let read = crate::configs::ServerProperties::parse([
            ("log.retention.hours", "100"),
            ("num.partitions", "3"),
            ("num.network.threads", "2"),
            ("offsets.topic.replication.factor", "1"),
        ]);
        let mut h = Harness::with(BrokerConfig {
            durability: Durability::Os,
            ..read.unwrap().broker
        });
        let mut one = |name: &str| {
            let mut found = ask(&mut h, resource::BROKER, "1", Some(&[name]));
            assert_eq!(found.configs.len(), 1, "{name}");
            found.configs.remove(0)
        };
        let both = "3 4 4:num.partitions=3 5:num.partitions=1";
        assert_eq!(told(&one("num.partitions")), both);
        assert!(one("num.partitions").read_only && !one("log.retention.ms").read_only);
        assert_eq!(
            told(&one("message.max.bytes")),
            "1048588 5 5:message.max.bytes=1048588"
        );
        // As in Kafka: what counts is behind the setting in milliseconds, which was not given.
        assert_eq!(told(&one("log.retention.ms")), "null 5");
        assert_eq!(
            told(&one("log.retention.hours")),
            "100 4 4:log.retention.hours=100 5:log.retention.hours=168"
        );
        assert_eq!(
            told(&one("num.network.threads")),
            "2 4 4:num.network.threads=2 5:num.network.threads=3"
        );
        // A program gave this, no file.
        assert_eq!(
            told(&one("durability")),
            "os 4 4:durability=os 5:durability=fsync"
        );
        let secret = one("ssl.keystore.password");
        assert!(secret.is_sensitive && secret.value.is_none());
        let all = ask(&mut h, resource::BROKER, "1", None).configs;
        let shown = BROKER_ROWS.iter().filter(|row| !row.is_internal);
        assert_eq!(all.len(), shown.count());
        for config in &all {
            assert!(
                config
                    .synonyms
                    .first()
                    .is_none_or(|s| s.source == config.config_source)
            );
        }
        assert_eq!(ask(&mut h, resource::BROKER, "", None).configs, []);
    }

    #[test]
    fn of_a_group_of_client_metrics_and_of_loggers() {
        let mut h = Harness::new(Durability::Os);
        let group = ask(&mut h, resource::GROUP, "g", None);
        let session = &group
            .configs
            .iter()
            .find(|c| c.name == "consumer.session.timeout.ms");
        assert_eq!(
            told(session.unwrap()),
            "45000 5 5:group.consumer.session.timeout.ms=45000"
        );
        let reset = &group
            .configs
            .iter()
            .find(|c| c.name == "share.auto.offset.reset");
        assert_eq!(
            told(reset.unwrap()),
            "latest 5 5:share.auto.offset.reset=latest"
        );
        let metrics = ask(&mut h, resource::CLIENT_METRICS, "m", None);
        let all: Vec<_> = metrics
            .configs
            .iter()
            .map(|c| (&*c.name, told(c)))
            .collect();
        let expected = [
            ("interval.ms", "300000 5"),
            ("match", " 5"),
            ("metrics", " 5"),
        ];
        assert_eq!(all, expected.map(|(name, told)| (name, told.to_string())));
        assert_eq!(ask(&mut h, resource::BROKER_LOGGER, "1", None).configs, []);
        for (resource_type, name) in [
            (resource::BROKER, "2"),
            (resource::BROKER, "x"),
            (resource::BROKER_LOGGER, ""),
            (resource::BROKER_LOGGER, "2"),
            (resource::GROUP, ""),
            (resource::CLIENT_METRICS, ""),
            (99, "1"),
        ] {
            let refused = ask(&mut h, resource_type, name, None);
            assert_eq!(
                refused.error_code,
                ErrorCode::INVALID_REQUEST,
                "{resource_type} {name}"
            );
            assert!(refused.error_message.is_some());
        }
        assert_eq!(source::GROUP, 8);
    }
}
