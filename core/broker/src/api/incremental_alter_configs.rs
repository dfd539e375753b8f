//! IncrementalAlterConfigs (44): settings are set, deleted, and lists made longer or shorter; the others stay. Each resource is changed
//! as a whole or not at all, and is on storage and in force when it is answered.
//!
//! Serves versions 0 to 1. Departs from Kafka: a name that no setting of a broker has is INVALID_CONFIG, where Kafka keeps it; settings
//! of sockets and of security are set at start only; what would promise something that isn't there is refused, and what means nothing
//! here is kept (`BROKER_CONFIGURATION.md`); a broker's `min.compaction.lag.ms` above its `max.compaction.lag.ms` is refused here, not
//! when the next topic is made; numbers of threads, of which there are none here, may be more than doubled; an operation that isn't one
//! is INVALID_REQUEST, not UNKNOWN_SERVER_ERROR; no logger exists that could be changed.

use alloc::vec::Vec;

use ottla_protocol::{
    ErrorCode, Response,
    messages::incremental_alter_configs::{
        AlterConfigsResource, AlterConfigsResourceResponse, IncrementalAlterConfigsRequest,
        IncrementalAlterConfigsResponse,
    },
};
use ottla_record::Now;

use crate::{
    Broker,
    configs::alter::{Altered, Change, Operation, Refusal},
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    _context: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> Handled {
    let key = |r: &AlterConfigsResource| (r.resource_type, r.resource_name.clone());
    let done = broker.alter_each(now, &request.resources, key, |broker, resource| {
        alter(broker, now, resource, request.validate_only)
    });
    let responses = request.resources.into_iter().zip(done);
    let responses =
        responses.map(
            |(resource, (error_code, error_message))| AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
            },
        );
    Handled::Respond(Response::IncrementalAlterConfigs(
        IncrementalAlterConfigsResponse {
            responses: responses.collect(),
            ..Default::default()
        },
    ))
}

fn alter(
    broker: &mut Broker,
    now: Now,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<Option<Altered>, Refusal> {
    let changes = resource
        .configs
        .iter()
        .map(|config| {
            let operation = Operation::of(config.config_operation).ok_or_else(|| {
                let why = alloc::format!(
                    "Unknown config operation {} of key {}",
                    config.config_operation,
                    config.name
                );
                (ErrorCode::INVALID_REQUEST, why)
            })?;
            Ok(Change {
                name: config.name.clone(),
                operation,
                value: config.value.clone(),
            })
        })
        .collect::<Result<Vec<Change>, Refusal>>()?;
    broker.alter_configs(
        now,
        resource.resource_type,
        &resource.resource_name,
        &changes,
        false,
        validate_only,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability,
        configs::dynamic::resource,
        testing::{Harness, batch},
        topic_config::{TOPIC_CONFIG_KEYS, topic_config_key},
    };
    use ottla_protocol::{
        Request,
        messages::{
            consumer_group_heartbeat::ConsumerGroupHeartbeatRequest,
            incremental_alter_configs::AlterableConfig,
        },
    };
    use std::{
        string::{String, ToString},
        vec,
    };

    const SET: i8 = 0;
    const DELETE: i8 = 1;
    const APPEND: i8 = 2;
    const SUBTRACT: i8 = 3;

    fn ask(
        h: &mut Harness,
        resource_type: i8,
        name: &str,
        ops: &[(i8, &str, &str)],
        validate_only: bool,
    ) -> (ErrorCode, String) {
        let configs = ops
            .iter()
            .map(|(config_operation, name, value)| AlterableConfig {
                name: (*name).into(),
                config_operation: *config_operation,
                value: (*config_operation != DELETE).then(|| (*value).into()),
            });
        let resources = vec![AlterConfigsResource {
            resource_type,
            resource_name: name.into(),
            configs: configs.collect(),
        }];
        let request = IncrementalAlterConfigsRequest {
            resources,
            validate_only,
        };
        let answer = h.ask(1, Request::IncrementalAlterConfigs(request));
        let Response::IncrementalAlterConfigs(mut answer) = answer else {
            panic!()
        };
        let answer = answer.responses.remove(0);
        (
            answer.error_code,
            answer.error_message.unwrap_or_default().to_string(),
        )
    }

    fn yes(h: &mut Harness, resource_type: i8, name: &str, ops: &[(i8, &str, &str)]) {
        let (code, why) = ask(h, resource_type, name, ops, false);
        assert_eq!(code, ErrorCode::NONE, "{why}");
    }

    /// Resource type and name, what is asked for, code and message.
    type Case<'a> = (
        i8,
        &'a str,
        &'a [(i8, &'a str, &'a str)],
        ErrorCode,
        &'a str,
    );

    /// The messages are those of Kafka 4.3.1, but for the bounds that differ.
    #[test]
    fn refusals_are_kafkas() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        let (topic, broker) = (resource::TOPIC, resource::BROKER);
        let (group, metrics) = (resource::GROUP, resource::CLIENT_METRICS);
        let config = ErrorCode::INVALID_CONFIG;
        let request = ErrorCode::INVALID_REQUEST;
        let cases: &[Case] = &[
            (
                topic,
                "none",
                &[(SET, "retention.ms", "5")],
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                "The topic 'none' does not exist.",
            ),
            (
                topic,
                "",
                &[(SET, "retention.ms", "5")],
                request,
                "Default topic resources are not allowed.",
            ),
            (
                topic,
                "t",
                &[(SET, "nonsense", "5")],
                config,
                "Unknown topic config name: nonsense",
            ),
            (
                topic,
                "t",
                &[(SET, "retention.ms", "x")],
                config,
                "Invalid value x for configuration retention.ms: Not a number of type LONG",
            ),
            (
                topic,
                "t",
                &[(SET, "retention.ms", "-2")],
                config,
                "Invalid value -2 for configuration retention.ms: Value must be at least -1",
            ),
            (
                topic,
                "t",
                &[(APPEND, "retention.ms", "5")],
                config,
                "Can't APPEND to key retention.ms because its type is not LIST.",
            ),
            (
                topic,
                "t",
                &[(SUBTRACT, "nonsense", "5")],
                config,
                "Can't SUBTRACT to key nonsense because its type is not LIST.",
            ),
            (
                topic,
                "t",
                &[(SET, "retention.ms", "5"), (SET, "retention.ms", "6")],
                request,
                "Error due to duplicate config keys",
            ),
            (
                topic,
                "t",
                &[(SET, "remote.storage.enable", "true")],
                config,
                "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.",
            ),
            (
                topic,
                "t",
                &[(APPEND, "cleanup.policy", "foo")],
                config,
                "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
            ),
            (
                topic,
                "t",
                &[
                    (SET, "min.compaction.lag.ms", "10"),
                    (SET, "max.compaction.lag.ms", "5"),
                ],
                config,
                "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)",
            ),
            (
                topic,
                "t",
                &[(9, "retention.ms", "5")],
                request,
                "Unknown config operation 9 of key retention.ms",
            ),
            (
                broker,
                "1",
                &[(SET, "num.partitions", "3")],
                request,
                "Cannot update these configs dynamically: [num.partitions]",
            ),
            (
                broker,
                "1",
                &[(SET, "log.retention.hours", "3")],
                request,
                "Cannot update these configs dynamically: [log.retention.hours]",
            ),
            (
                broker,
                "1",
                &[(SET, "nonsense.key", "3")],
                config,
                "Unknown broker config name: nonsense.key",
            ),
            (
                broker,
                "1",
                &[(SET, "log.retention.ms", "x")],
                request,
                "Invalid value x for configuration log.retention.ms: Not a number of type LONG",
            ),
            (
                broker,
                "2",
                &[(SET, "log.retention.ms", "1")],
                request,
                "Unexpected broker id, expected 1, but received 2",
            ),
            (
                broker,
                "x",
                &[(SET, "log.retention.ms", "1")],
                request,
                "Node id must be an integer, but it is: x",
            ),
            (
                broker,
                "",
                &[(SET, "cordoned.log.dirs", "/a")],
                request,
                "Cannot update these configs at default cluster level, broker id must be specified: [cordoned.log.dirs]",
            ),
            (
                metrics,
                "m",
                &[(SET, "interval.ms", "50")],
                request,
                "Invalid value 50 for interval.ms, interval must be between 100 and 3600000 (1 hour)",
            ),
            (
                metrics,
                "m",
                &[(SET, "nonsense", "1")],
                request,
                "Unknown client metrics configuration: nonsense",
            ),
            (
                metrics,
                "m",
                &[(SET, "match", "zz")],
                config,
                "Illegal client matching pattern: zz",
            ),
            (
                metrics,
                "m",
                &[(APPEND, "metrics", "d")],
                config,
                "Can't APPEND to key metrics because its type is not LIST.",
            ),
            (
                metrics,
                "",
                &[(SET, "interval.ms", "500")],
                request,
                "Subscription name can't be empty",
            ),
            (
                group,
                "g",
                &[(SET, "consumer.session.timeout.ms", "5")],
                config,
                "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
            ),
            (
                group,
                "g",
                &[(SET, "consumer.session.timeout.ms", "70000")],
                config,
                "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms",
            ),
            (
                group,
                "g",
                &[(SET, "consumer.heartbeat.interval.ms", "16000")],
                config,
                "consumer.heartbeat.interval.ms must be less than or equal to group.consumer.max.heartbeat.interval.ms",
            ),
            (
                group,
                "g",
                &[(SET, "share.auto.offset.reset", "somewhere")],
                config,
                "Invalid value somewhere for configuration share.auto.offset.reset: Invalid value `somewhere` for configuration share.auto.offset.reset. The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'.",
            ),
            (
                group,
                "g",
                &[(SET, "nonsense", "1")],
                config,
                "Unknown group config name: nonsense",
            ),
            (
                group,
                "",
                &[(SET, "consumer.session.timeout.ms", "50000")],
                request,
                "Default group resources are not allowed.",
            ),
            (
                group,
                "g",
                &[(SET, "share.isolation.level", "x")],
                config,
                "Invalid value x for configuration share.isolation.level: String must be one of: read_committed, read_uncommitted",
            ),
            (
                group,
                "g",
                &[(SET, "share.record.lock.duration.ms", "90000")],
                config,
                "share.record.lock.duration.ms must be less than or equal to group.share.max.record.lock.duration.ms",
            ),
            (
                group,
                "g",
                &[(SET, "streams.num.standby.replicas", "5")],
                config,
                "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas",
            ),
            (
                resource::BROKER_LOGGER,
                "1",
                &[(SET, "kafka.server", "INFO")],
                config,
                "Logger kafka.server does not exist!",
            ),
            (
                resource::BROKER_LOGGER,
                "1",
                &[(APPEND, "root", "INFO")],
                request,
                "APPEND operation is not allowed for the BROKER_LOGGER resource",
            ),
            (
                99,
                "x",
                &[(SET, "a", "b")],
                request,
                "Unknown resource type 99",
            ),
        ];
        for (resource_type, name, ops, code, why) in cases {
            let answer = ask(&mut h, *resource_type, name, ops, false);
            assert_eq!(
                answer,
                (*code, (*why).to_string()),
                "{resource_type} {name} {ops:?}"
            );
        }
        assert!(h.broker.configs.resources.is_empty());
        assert_eq!(h.broker.topics.by_name("t").unwrap().configs, []);
    }

    #[test]
    fn null_values_and_repeated_resources_are_refused() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        let with = |value: Option<&str>| AlterConfigsResource {
            resource_type: resource::TOPIC,
            resource_name: "t".into(),
            configs: vec![AlterableConfig {
                name: "retention.ms".into(),
                config_operation: SET,
                value: value.map(Into::into),
            }],
        };
        for resources in [vec![with(None)], vec![with(Some("1")), with(Some("2"))]] {
            let request = IncrementalAlterConfigsRequest {
                resources,
                validate_only: false,
            };
            let answer = h.ask(1, Request::IncrementalAlterConfigs(request));
            let Response::IncrementalAlterConfigs(answer) = answer else {
                panic!()
            };
            assert!(
                answer
                    .responses
                    .iter()
                    .all(|r| r.error_code == ErrorCode::INVALID_REQUEST)
            );
        }
    }

    /// Each of the topics' settings, changed, is what the topic has, what its logs have, and what a restart brings back.
    #[test]
    fn every_topic_setting_is_in_force_at_once_and_after_a_crash() {
        for key in TOPIC_CONFIG_KEYS
            .iter()
            .filter(|key| key.name != "remote.storage.enable")
        {
            let value = match key.name {
                "cleanup.policy" => "compact",
                "compression.type" => "gzip",
                "message.timestamp.type" => "LogAppendTime",
                "min.cleanable.dirty.ratio" => "0.25",
                name if name.ends_with(".replicas") && name.contains("throttled") => "0:1",
                _ if key.config_type == crate::configs::ConfigType::Boolean => "true",
                "compression.lz4.level" => "11",
                "segment.bytes" => "70",
                _ => "7",
            };
            let mut h = Harness::new(Durability::Os);
            h.create_topic("t", 2, &[]);
            let of_log = |h: &Harness| {
                let index = h.broker.topics.by_name("t").unwrap().partitions[1];
                h.broker.partitions.get(index).unwrap().log.config().clone()
            };
            let before = of_log(&h);
            let (code, _) = ask(
                &mut h,
                resource::TOPIC,
                "t",
                &[(SET, key.name, value)],
                true,
            );
            assert_eq!((code, of_log(&h)), (ErrorCode::NONE, before.clone()));
            yes(&mut h, resource::TOPIC, "t", &[(SET, key.name, value)]);
            let in_log = [
                "cleanup.policy",
                "delete.retention.ms",
                "file.delete.delay.ms",
                "index.interval.bytes",
                "max.compaction.lag.ms",
                "message.timestamp.type",
                "min.compaction.lag.ms",
                "retention.bytes",
                "retention.ms",
                "segment.bytes",
                "segment.index.bytes",
                "segment.jitter.ms",
                "segment.ms",
            ];
            assert_eq!(
                of_log(&h) != before,
                in_log.contains(&key.name),
                "{}",
                key.name
            );
            let changed = of_log(&h);
            h = h.restart(false);
            assert_eq!(of_log(&h), changed, "{}", key.name);
            let topic = h.broker.topics.by_name("t").unwrap();
            assert_eq!(key.value(&topic.config), value, "{}", key.name);
            yes(&mut h, resource::TOPIC, "t", &[(DELETE, key.name, "")]);
            let topic = h.broker.topics.by_name("t").unwrap();
            assert_eq!(topic.configs, []);
            assert_eq!(of_log(&h), before);
        }
    }

    #[test]
    fn lists_grow_and_shrink() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        let value = |h: &Harness| {
            let key = topic_config_key("cleanup.policy").unwrap();
            key.value(&h.broker.topics.by_name("t").unwrap().config)
                .to_string()
        };
        yes(
            &mut h,
            resource::TOPIC,
            "t",
            &[(APPEND, "cleanup.policy", "compact")],
        );
        assert_eq!(value(&h), "delete,compact", "what is added comes last");
        h = h.restart(false);
        assert_eq!(value(&h), "delete,compact");
        yes(
            &mut h,
            resource::TOPIC,
            "t",
            &[(SUBTRACT, "cleanup.policy", "delete")],
        );
        assert_eq!(value(&h), "compact");
        yes(
            &mut h,
            resource::TOPIC,
            "t",
            &[(SUBTRACT, "cleanup.policy", "compact")],
        );
        assert_eq!(value(&h), "");
        yes(
            &mut h,
            resource::TOPIC,
            "t",
            &[(DELETE, "cleanup.policy", ""), (SET, "retention.ms", " 8 ")],
        );
        assert_eq!(value(&h), "delete");
        assert_eq!(h.broker.topics.by_name("t").unwrap().config.retention_ms, 8);
    }

    #[test]
    fn a_brokers_settings_reach_topics_that_have_none() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("own", 1, &[("max.message.bytes", "100000")]);
        h.create_topic("plain", 1, &[]);
        yes(
            &mut h,
            resource::BROKER,
            "",
            &[
                (SET, "message.max.bytes", "80"),
                (SET, "log.cleaner.backoff.ms", "3"),
            ],
        );
        let produced = |h: &mut Harness, topic| {
            h.produce(topic, 0, batch(&["a record of some length"]))
                .error_code
        };
        assert_eq!(produced(&mut h, "plain"), ErrorCode::MESSAGE_TOO_LARGE);
        assert_eq!(produced(&mut h, "own"), ErrorCode::NONE);
        h.create_topic("later", 1, &[]);
        assert_eq!(produced(&mut h, "later"), ErrorCode::MESSAGE_TOO_LARGE);
        assert_eq!(h.broker.config.cleaner.backoff_ms, 3);
        // One broker counts more than all, also after a crash.
        yes(
            &mut h,
            resource::BROKER,
            "1",
            &[(SET, "message.max.bytes", "100000")],
        );
        assert_eq!(produced(&mut h, "plain"), ErrorCode::NONE);
        h = h.restart(false);
        assert_eq!(produced(&mut h, "plain"), ErrorCode::NONE);
        yes(
            &mut h,
            resource::BROKER,
            "1",
            &[(DELETE, "message.max.bytes", "")],
        );
        assert_eq!(produced(&mut h, "plain"), ErrorCode::MESSAGE_TOO_LARGE);
        yes(
            &mut h,
            resource::BROKER,
            "",
            &[
                (DELETE, "message.max.bytes", ""),
                (DELETE, "log.cleaner.backoff.ms", ""),
            ],
        );
        assert_eq!(produced(&mut h, "plain"), ErrorCode::NONE);
        assert_eq!(h.broker.config.cleaner.backoff_ms, 15_000);
        assert!(h.broker.configs.resources.is_empty());
    }

    #[test]
    fn groups_and_client_metrics_keep_what_they_are_given() {
        let mut h = Harness::new(Durability::Os);
        yes(
            &mut h,
            resource::GROUP,
            "a group",
            &[
                (SET, "consumer.session.timeout.ms", "50000"),
                (SET, "share.auto.offset.reset", "by_duration:PT1H"),
            ],
        );
        yes(
            &mut h,
            resource::CLIENT_METRICS,
            "m",
            &[
                (SET, "match", "client_id=a.*"),
                (SET, "interval.ms", "500"),
                (SET, "metrics", "a.b,c"),
            ],
        );
        let share = |h: &Harness| h.broker.share_settings(&"a group".into()).auto_offset_reset;
        let an_hour = crate::ShareOffsetReset::ByDuration(3_600_000);
        assert_eq!(share(&h), an_hour);
        h = h.restart(false);
        assert_eq!(share(&h), an_hour);
        let names = |h: &Harness, of| {
            h.broker
                .configs
                .names(of)
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&h, resource::CLIENT_METRICS), ["m"]);
        yes(
            &mut h,
            resource::CLIENT_METRICS,
            "m",
            &[
                (DELETE, "match", ""),
                (DELETE, "interval.ms", ""),
                (DELETE, "metrics", ""),
            ],
        );
        assert_eq!(names(&h, resource::CLIENT_METRICS), [""; 0]);
    }

    /// A heartbeat of a member of the group; the answer's error, epoch and interval.
    fn heartbeat(h: &mut Harness, group: &str, epoch: i32) -> (ErrorCode, i32, i32) {
        let joins = epoch == 0;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: group.into(),
            member_id: "m".into(),
            member_epoch: epoch,
            rebalance_timeout_ms: if joins { 60_000 } else { -1 },
            subscribed_topic_names: joins.then(|| vec!["t".into()]),
            topic_partitions: joins.then(Vec::new),
            ..Default::default()
        };
        match h.ask(1, Request::ConsumerGroupHeartbeat(request)) {
            Response::ConsumerGroupHeartbeat(r) => {
                (r.error_code, r.member_epoch, r.heartbeat_interval_ms)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_consumer_groups_own_times_count_from_the_next_heartbeat_on() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        let own = [
            (SET, "consumer.session.timeout.ms", "50000"),
            (SET, "consumer.heartbeat.interval.ms", "6000"),
        ];
        yes(&mut h, resource::GROUP, "own", &own);
        let ok = |answer: (ErrorCode, i32, i32)| {
            assert_eq!(answer.0, ErrorCode::NONE);
            (answer.1, answer.2)
        };
        let (epoch, interval) = ok(heartbeat(&mut h, "own", 0));
        assert_eq!(interval, 6_000);
        assert_eq!(ok(heartbeat(&mut h, "plain", 0)), (epoch, 5_000));
        h.pass_ms(49_999);
        let gone = |h: &mut Harness, group| heartbeat(h, group, epoch).0 != ErrorCode::NONE;
        assert!(gone(&mut h, "plain") && !gone(&mut h, "own"));
        // Longer, while the member is there; its session goes on with what it was told until it is heard of.
        yes(
            &mut h,
            resource::GROUP,
            "own",
            &[(SET, "consumer.session.timeout.ms", "60000")],
        );
        assert!(!gone(&mut h, "own"));
        h.pass_ms(59_999);
        assert!(!gone(&mut h, "own"));
        h = h.restart(false);
        h.pass_ms(59_999);
        assert_eq!(ok(heartbeat(&mut h, "own", epoch)), (epoch, 6_000));
        // And back to what all have.
        yes(
            &mut h,
            resource::GROUP,
            "own",
            &[
                (DELETE, "consumer.session.timeout.ms", ""),
                (DELETE, "consumer.heartbeat.interval.ms", ""),
            ],
        );
        assert_eq!(ok(heartbeat(&mut h, "own", epoch)), (epoch, 5_000));
        h.pass_ms(45_000);
        assert!(gone(&mut h, "own"));
    }

    #[test]
    fn a_groups_times_keep_within_the_bounds_the_broker_has_now() {
        let config = |pairs: &[(&str, &str)]| {
            let all = pairs.iter().copied().chain([("durability", "os")]);
            crate::configs::ServerProperties::parse(all).unwrap().broker
        };
        let wide = [("group.consumer.min.session.timeout.ms", "6000")];
        let mut h = Harness::with(config(&wide));
        h.create_topic("t", 1, &[]);
        let seven = [(SET, "consumer.session.timeout.ms", "7000")];
        yes(&mut h, resource::GROUP, "g", &seven);
        let (_, epoch, _) = heartbeat(&mut h, "g", 0);
        h.pass_ms(7_000);
        let error = |h: &mut Harness| heartbeat(h, "g", epoch).0;
        assert_eq!(error(&mut h), ErrorCode::UNKNOWN_MEMBER_ID);
        h.close();
        let mut h = Harness::on(config(&[]), h.storage.clone(), h.now);
        let (_, epoch, _) = heartbeat(&mut h, "g", 0);
        h.pass_ms(44_999);
        assert_eq!(heartbeat(&mut h, "g", epoch).0, ErrorCode::NONE);
        let answer = ask(&mut h, resource::GROUP, "g", &seven, false);
        assert_eq!(answer.0, ErrorCode::INVALID_CONFIG);
    }
}
