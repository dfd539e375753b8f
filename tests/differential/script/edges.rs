//! What the other files' cases leave out: repetitions in one request, values at their bounds, members of one kind of group that ask
//! for another, static members, transactions of both versions.

use super::*;
use ApiKey::*;
use std::{thread::sleep, time::Duration};

pub const CASES: &[Row] = &[
    ("edges: delete topics", DeleteTopics, delete_topics),
    ("edges: metadata", Metadata, metadata),
    ("edges: topic settings", CreateTopics, topic_settings),
    ("edges: create partitions", CreatePartitions, partitions),
    ("edges: other settings", IncrementalAlterConfigs, settings),
    ("edges: replaced settings", AlterConfigs, replaced),
    ("edges: described settings", DescribeConfigs, described),
    ("edges: client quotas", AlterClientQuotas, quotas),
    ("edges: elect leaders", ElectLeaders, elect),
    ("edges: static classic members", JoinGroup, static_classic),
    (
        "edges: static consumers",
        ConsumerGroupHeartbeat,
        static_consumers,
    ),
    (
        "edges: groups of another kind",
        ConsumerGroupHeartbeat,
        kinds,
    ),
    ("edges: fetch", Fetch, fetch),
    ("edges: produce", Produce, produce),
    ("edges: transactions of version 2", EndTxn, second_version),
    ("edges: taken over", InitProducerId, taken_over),
];

fn moment() {
    sleep(Duration::from_millis(300));
}

fn delete_topics(s: &mut Session, v: i16) {
    use delete_topics::DeleteTopicState;
    let name = |what: &str| format!("edges-{what}-{v}");
    for what in ["a", "b", "c"] {
        make_topic(s, &name(what), 1, &[]);
        s.topic_id(&name(what));
    }
    let ask = |s: &mut Session, what: &str, topics: Vec<(Option<String>, Uuid)>| {
        let request = if v >= 6 {
            DeleteTopicsRequest {
                topics: topics
                    .into_iter()
                    .map(|(name, topic_id)| DeleteTopicState {
                        name: name.map(Str::from),
                        topic_id,
                    })
                    .collect(),
                timeout_ms: 10_000,
                ..Default::default()
            }
        } else {
            DeleteTopicsRequest {
                topic_names: topics
                    .into_iter()
                    .filter_map(|(name, _)| name.map(Str::from))
                    .collect(),
                timeout_ms: 10_000,
                ..Default::default()
            }
        };
        let answer = s.prepare(v, Request::DeleteTopics(request));
        if let Some(Response::DeleteTopics(mut answer)) = answer {
            // Kafka shuffles them.
            answer
                .responses
                .sort_by(|a, b| (&a.name, a.topic_id.0).cmp(&(&b.name, b.topic_id.0)));
            s.keep(what, &Response::DeleteTopics(answer));
        } else {
            s.note(what, "answer", "none");
        }
    };
    let named = |what: &str| (Some(name(what)), Uuid::ZERO);
    ask(s, "twice", vec![named("a"), named("b"), named("a")]);
    ask(s, "no name", vec![(Some(String::new()), Uuid::ZERO)]);
    ask(s, "bad name", vec![(Some("a b".into()), Uuid::ZERO)]);
    if v >= 6 {
        let id = s.topic_id(&name("c"));
        ask(s, "by id twice", vec![(None, id), (None, id)]);
        ask(s, "by name and by id", vec![named("c"), (None, id)]);
        ask(s, "neither", vec![(None, Uuid::ZERO)]);
        ask(s, "by id at last", vec![(None, id)]);
    }
}

fn metadata(s: &mut Session, v: i16) {
    use metadata::MetadataRequestTopic;
    make_topic(s, "edges-metadata", 1, &[]);
    let id = s.topic_id("edges-metadata");
    let named = |name: &str| MetadataRequestTopic {
        name: Some(name.into()),
        ..Default::default()
    };
    let ask = |s: &mut Session, what: &str, topics: Vec<MetadataRequestTopic>, create: bool| {
        let request = MetadataRequest {
            topics: Some(topics),
            allow_auto_topic_creation: create,
            include_topic_authorized_operations: v >= 8,
            include_cluster_authorized_operations: (8..=10).contains(&v),
        };
        s.ask(what, v, Request::Metadata(request));
    };
    let one = named("edges-metadata");
    ask(s, "twice", vec![one.clone(), one.clone()], true);
    if v >= 4 {
        ask(s, "collides", vec![named("edges.metadata_")], false);
        ask(s, "bad name", vec![named("a/b")], true);
    }
    if v >= 12 {
        let of = |topic_id| MetadataRequestTopic {
            name: None,
            topic_id,
        };
        ask(s, "by id and by name", vec![of(id), one], true);
        ask(s, "by id twice", vec![of(id), of(id)], true);
    }
}

fn topic_settings(s: &mut Session, v: i16) {
    let all = [
        ("compression.type", "foo"),
        ("compression.type", "zstd"),
        ("compression.gzip.level", "0"),
        ("compression.gzip.level", "10"),
        ("compression.zstd.level", "23"),
        ("compression.lz4.level", "18"),
        ("retention.bytes", "-1"),
        ("retention.ms", "-2"),
        ("retention.ms", ""),
        ("retention.ms", "5.0"),
        ("retention.ms", "9223372036854775808"),
        ("segment.bytes", "13"),
        ("segment.bytes", "2147483648"),
        ("segment.ms", "0"),
        ("segment.ms", "1"),
        ("segment.jitter.ms", "-1"),
        ("segment.index.bytes", "3"),
        ("segment.index.bytes", "4"),
        ("index.interval.bytes", "-1"),
        ("index.interval.bytes", "0"),
        ("max.message.bytes", "-1"),
        ("max.message.bytes", "0"),
        ("min.insync.replicas", "0"),
        ("min.insync.replicas", "2"),
        ("cleanup.policy", ""),
        ("cleanup.policy", "compact,delete"),
        ("cleanup.policy", "Compact"),
        ("cleanup.policy", "delete,foo"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("min.cleanable.dirty.ratio", "-0.1"),
        ("min.cleanable.dirty.ratio", "x"),
        ("min.compaction.lag.ms", "-1"),
        ("max.compaction.lag.ms", "0"),
        ("delete.retention.ms", "-1"),
        ("file.delete.delay.ms", "-1"),
        ("flush.messages", "0"),
        ("flush.ms", "-1"),
        ("flush.ms", "0"),
        ("preallocate", "maybe"),
        ("unclean.leader.election.enable", "1"),
        ("message.timestamp.type", "logappendtime"),
        ("message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.before.max.ms", "-1"),
        ("message.timestamp.after.max.ms", "-1"),
        ("message.timestamp.difference.max.ms", "5"),
        ("message.format.version", "3.0"),
        ("message.downconversion.enable", "true"),
        ("leader.replication.throttled.replicas", "*"),
        ("leader.replication.throttled.replicas", "0:1,1:1"),
        ("leader.replication.throttled.replicas", "x"),
        ("local.retention.ms", "-3"),
        ("local.retention.ms", "5"),
        ("local.retention.bytes", "5"),
        ("local.retention.ms", "999999999999"),
        ("remote.storage.enable", "true"),
        ("remote.storage.enable", "false"),
        ("remote.log.copy.disable", "true"),
        ("remote.log.delete.on.disable", "true"),
        ("", "5"),
        ("Retention.ms", "5"),
        ("log.retention.ms", "5"),
    ];
    for (name, value) in all {
        let configs = vec![CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
        }];
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: "edges-settings".into(),
                num_partitions: 1,
                replication_factor: 1,
                configs,
                ..Default::default()
            }],
            timeout_ms: 10_000,
            validate_only: true,
        };
        let answer = s.prepare(v, Request::CreateTopics(request));
        let Some(Response::CreateTopics(answer)) = answer else {
            s.note(&format!("{name}={value}"), "answer", "none");
            continue;
        };
        let topic = &answer.topics[0];
        let what = format!("{name}={value}");
        s.note(&what, "error_code", &format!("{:?}", topic.error_code));
        let told = topic.configs.as_deref().unwrap_or_default();
        if let Some(told) = told.iter().find(|c| *c.name == *name) {
            let told = format!("{:?} of {}", told.value.as_deref(), told.config_source);
            s.note(&what, "told", &told);
        }
    }
    let twice = ["5", "6"].map(|value| CreatableTopicConfig {
        name: "retention.ms".into(),
        value: Some(value.into()),
    });
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "edges-settings".into(),
            num_partitions: 1,
            replication_factor: 1,
            configs: twice.to_vec(),
            ..Default::default()
        }],
        timeout_ms: 10_000,
        validate_only: true,
    };
    if let Some(Response::CreateTopics(answer)) = s.prepare(v, Request::CreateTopics(request)) {
        let code = format!("{:?}", answer.topics[0].error_code);
        s.note("a setting twice", "error_code", &code);
    }
}

fn partitions(s: &mut Session, v: i16) {
    use create_partitions::{CreatePartitionsAssignment, CreatePartitionsTopic};
    let name = format!("edges-partitions-{v}");
    make_topic(s, &name, 2, &[]);
    let to = |count, placed: Option<&[&[i32]]>| CreatePartitionsTopic {
        name: name.as_str().into(),
        count,
        assignments: placed.map(|placed| {
            let of = |ids: &&[i32]| CreatePartitionsAssignment {
                broker_ids: ids.to_vec(),
            };
            placed.iter().map(of).collect()
        }),
    };
    let mut ask = |what: &str, topics: Vec<CreatePartitionsTopic>| {
        let request = CreatePartitionsRequest {
            topics,
            timeout_ms: 10_000,
            validate_only: true,
        };
        s.ask(what, v, Request::CreatePartitions(request));
    };
    ask("twice", vec![to(3, None), to(4, None)]);
    ask("negative", vec![to(-1, None)]);
    ask("placed too few", vec![to(4, Some(&[&[1]]))]);
    ask("placed too many", vec![to(3, Some(&[&[1], &[1]]))]);
    ask("placed as none", vec![to(3, Some(&[]))]);
    ask("placed on nobody", vec![to(3, Some(&[&[]]))]);
    ask("placed twice", vec![to(3, Some(&[&[1, 1]]))]);
    ask("none at all", Vec::new());
}

fn settings(s: &mut Session, v: i16) {
    use incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
    type Change<'a> = (&'a str, i8, Option<&'a str>);
    let ask = |s: &mut Session, what: &str, kind: i8, name: &str, changes: &[Change]| {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: kind,
                resource_name: name.into(),
                configs: changes
                    .iter()
                    .map(|(name, config_operation, value)| AlterableConfig {
                        name: (*name).into(),
                        config_operation: *config_operation,
                        value: value.map(Into::into),
                    })
                    .collect(),
            }],
            validate_only: true,
        };
        s.ask(what, v, Request::IncrementalAlterConfigs(request));
    };
    let (group, metrics, broker, topic) = (32, 16, 4, 2);
    for (name, value) in [
        ("consumer.session.timeout.ms", "1"),
        ("consumer.session.timeout.ms", "50000"),
        ("consumer.session.timeout.ms", "70000"),
        ("consumer.heartbeat.interval.ms", "1"),
        ("consumer.heartbeat.interval.ms", "6000"),
        ("consumer.heartbeat.interval.ms", "16000"),
        ("consumer.assignment.interval.ms", "500"),
        ("consumer.assignment.interval.ms", "-1"),
        ("consumer.assignor.offload.enable", "true"),
        ("share.session.timeout.ms", "1"),
        ("share.heartbeat.interval.ms", "6000"),
        ("share.record.lock.duration.ms", "1"),
        ("share.record.lock.duration.ms", "20000"),
        ("share.record.lock.duration.ms", "3600001"),
        ("share.delivery.count.limit", "1"),
        ("share.delivery.count.limit", "3"),
        ("share.delivery.count.limit", "11"),
        ("share.partition.max.record.locks", "99"),
        ("share.partition.max.record.locks", "3000"),
        ("share.partition.max.record.locks", "4001"),
        ("share.auto.offset.reset", "none"),
        ("share.auto.offset.reset", "Earliest"),
        ("share.auto.offset.reset", "by_duration:PT1H"),
        ("share.auto.offset.reset", "by_duration:-PT1H"),
        ("share.auto.offset.reset", "by_duration:x"),
        ("share.isolation.level", "read_committed"),
        ("share.isolation.level", "READ_COMMITTED"),
        ("share.isolation.level", "serial"),
        ("share.renew.acknowledge.enable", "false"),
        ("share.renew.acknowledge.enable", "x"),
        ("streams.num.standby.replicas", "1"),
        ("streams.num.standby.replicas", "99"),
        ("streams.session.timeout.ms", "50000"),
        ("streams.heartbeat.interval.ms", "1"),
        ("streams.initial.rebalance.delay.ms", "-1"),
        ("streams.task.offset.interval.ms", "60000"),
        ("retention.ms", "5"),
    ] {
        let what = format!("group {name}={value}");
        ask(s, &what, group, "edges", &[(name, 0, Some(value))]);
    }
    ask(
        s,
        "group, appended",
        group,
        "edges",
        &[("share.isolation.level", 2, Some("x"))],
    );
    ask(
        s,
        "group, deleted",
        group,
        "edges",
        &[("share.isolation.level", 1, None)],
    );
    ask(
        s,
        "group, unknown deleted",
        group,
        "edges",
        &[("nonsense", 1, None)],
    );
    ask(
        s,
        "no group",
        group,
        "",
        &[("share.isolation.level", 1, None)],
    );
    for (name, value) in [
        ("interval.ms", "99"),
        ("interval.ms", "100"),
        ("interval.ms", "3600001"),
        ("interval.ms", "x"),
        ("metrics", ""),
        ("metrics", "*"),
        ("metrics", "a,b"),
        ("match", "client_id=a.*"),
        ("match", "client_id=a,client_id=b"),
        ("match", "client_id="),
        ("match", "client_id"),
        ("match", "planet=x"),
        ("match", "client_id=["),
        ("match", "client_source_port=90.."),
        ("nonsense", "1"),
    ] {
        let what = format!("client metrics {name}={value}");
        ask(s, &what, metrics, "edges", &[(name, 0, Some(value))]);
    }
    ask(
        s,
        "client metrics, appended",
        metrics,
        "edges",
        &[("metrics", 2, Some("x"))],
    );
    ask(
        s,
        "no client metrics",
        metrics,
        "",
        &[("metrics", 0, Some("x"))],
    );
    for name in ["", "1"] {
        for (key, value) in [
            ("log.retention.ms", "5000"),
            ("log.retention.ms", "x"),
            ("log.retention.hours", "5"),
            ("log.segment.bytes", "13"),
            ("message.max.bytes", "-1"),
            ("log.cleaner.threads", "2"),
            ("log.cleaner.io.max.bytes.per.second", "1000.5"),
            ("log.cleaner.dedupe.buffer.size", "1"),
            ("num.io.threads", "9"),
            ("num.io.threads", "0"),
            ("num.replica.fetchers", "2"),
            ("background.threads", "12"),
            ("num.partitions", "5"),
            ("min.insync.replicas", "0"),
            ("unclean.leader.election.enable", "true"),
            ("compression.type", "foo"),
            ("log.cleanup.policy", "keep"),
            ("producer.id.expiration.ms", "5"),
            ("producer.id.expiration.ms", "0"),
            ("transaction.partition.verification.enable", "false"),
            ("log.message.timestamp.type", "x"),
            ("leader.replication.throttled.rate", "5"),
            ("remote.log.manager.copier.thread.pool.size", "5"),
            ("group.consumer.session.timeout.ms", "50000"),
            ("advertised.listeners", "PLAINTEXT://x:1"),
            ("controller.quorum.voters", "1@x:1"),
        ] {
            let what = format!("broker {name:?} {key}={value}");
            ask(s, &what, broker, name, &[(key, 0, Some(value))]);
        }
        let list = [("log.cleanup.policy", 2, Some("compact"))];
        ask(
            s,
            &format!("broker {name:?}, appended"),
            broker,
            name,
            &list,
        );
        let deleted = [("log.retention.ms", 1, None)];
        ask(
            s,
            &format!("broker {name:?}, deleted"),
            broker,
            name,
            &deleted,
        );
    }
    ask(s, "no topic", topic, "", &[("retention.ms", 0, Some("1"))]);
    ask(
        s,
        "bad topic",
        topic,
        "a b",
        &[("retention.ms", 0, Some("1"))],
    );
    make_topic(s, "edges-changed", 1, &[]);
    for (name, operation, value) in [
        ("cleanup.policy", 3, Some("delete")),
        ("cleanup.policy", 3, Some("keep")),
        ("cleanup.policy", 2, Some("delete")),
        ("cleanup.policy", 2, Some("")),
        ("retention.ms", 1, Some("5")),
        ("retention.ms", 1, None),
        ("nonsense", 1, None),
        ("retention.ms", 3, Some("5")),
        ("leader.replication.throttled.replicas", 2, Some("0:1")),
        ("leader.replication.throttled.replicas", 2, Some("x")),
    ] {
        let what = format!("topic {operation} {name} {value:?}");
        ask(
            s,
            &what,
            topic,
            "edges-changed",
            &[(name, operation, value)],
        );
    }
    ask(s, "nothing", topic, "edges-changed", &[]);
}

fn replaced(s: &mut Session, v: i16) {
    use alter_configs::{AlterConfigsResource, AlterableConfig};
    let name = format!("edges-replaced-{v}");
    make_topic(s, &name, 1, &[]);
    let mut ask = |what: &str, resources: &[(i8, &str, &[(&str, &str)])]| {
        let request = AlterConfigsRequest {
            resources: resources
                .iter()
                .map(|(resource_type, name, configs)| AlterConfigsResource {
                    resource_type: *resource_type,
                    resource_name: (*name).into(),
                    configs: configs
                        .iter()
                        .map(|(name, value)| AlterableConfig {
                            name: (*name).into(),
                            value: Some((*value).into()),
                        })
                        .collect(),
                })
                .collect(),
            validate_only: true,
        };
        s.ask(what, v, Request::AlterConfigs(request));
    };
    let good: &[(&str, &str)] = &[("retention.ms", "5")];
    ask("unknown", &[(2, &name, &[("nonsense", "5")])]);
    ask(
        "group",
        &[(32, "edges", &[("share.isolation.level", "read_committed")])],
    );
    ask("client metrics", &[(16, "edges", &[("metrics", "*")])]);
    ask("broker", &[(4, "1", &[("log.retention.ms", "5")])]);
    ask("loggers", &[(8, "1", &[("root", "INFO")])]);
    ask("no such type", &[(77, "1", good)]);
    ask("nothing", &[]);
}

fn described(s: &mut Session, v: i16) {
    use describe_configs::DescribeConfigsResource;
    use incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
    for (kind, name, key, value) in [
        (32, "edges-described", "share.delivery.count.limit", "4"),
        (16, "edges-described", "metrics", "a,b"),
    ] {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: kind,
                resource_name: name.into(),
                configs: vec![AlterableConfig {
                    name: key.into(),
                    config_operation: 0,
                    value: Some(value.into()),
                }],
            }],
            validate_only: false,
        };
        s.prepare(1, Request::IncrementalAlterConfigs(request));
    }
    moment();
    let ask = |s: &mut Session, what: &str, kind: i8, name: &str, show_value: bool| {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: kind,
                resource_name: name.into(),
                configuration_keys: None,
            }],
            include_synonyms: true,
            include_documentation: false,
        };
        let answer = s.prepare(v, Request::DescribeConfigs(request));
        let Some(Response::DescribeConfigs(answer)) = answer else {
            return s.note(what, "answer", "none");
        };
        for result in &answer.results {
            s.note(what, "error_code", &format!("{:?}", result.error_code));
            for config in &result.configs {
                let synonyms: Vec<String> = config
                    .synonyms
                    .iter()
                    .map(|x| format!("{}={:?} from {}", x.name, x.value.as_deref(), x.source))
                    .collect();
                let text = format!(
                    "{:?} source {} synonyms {synonyms:?}",
                    config.value.as_deref(),
                    config.config_source,
                );
                let text = format!(
                    "{} sensitive {} type {}",
                    if show_value { &*text } else { "" },
                    config.is_sensitive,
                    config.config_type,
                );
                // Our own two.
                if !matches!(&*config.name, "durability" | "client.telemetry.enable") {
                    s.note(what, &config.name, &text);
                }
            }
        }
    };
    ask(s, "group", 32, "edges-described", true);
    ask(s, "client metrics", 16, "edges-described", true);
    ask(s, "no client metrics", 16, "", true);
    ask(s, "no group", 32, "", true);
    ask(s, "loggers of another", 8, "7", true);
    ask(s, "broker", 4, "1", false);
}

fn quotas(s: &mut Session, v: i16) {
    use alter_client_quotas::{OpData, RequestEntityData, RequestEntryData};
    use describe_client_quotas::ComponentData;
    type Entity<'a> = &'a [(&'a str, Option<&'a str>)];
    let entry = |entity: Entity, ops: &[(&str, f64, bool)]| RequestEntryData {
        entity: entity
            .iter()
            .map(|(kind, name)| RequestEntityData {
                entity_type: (*kind).into(),
                entity_name: name.map(Into::into),
            })
            .collect(),
        ops: ops
            .iter()
            .map(|(key, value, remove)| OpData {
                key: (*key).into(),
                value: *value,
                remove: *remove,
            })
            .collect(),
    };
    let ask = |s: &mut Session, what: &str, entries: Vec<RequestEntryData>, validate_only| {
        let request = AlterClientQuotasRequest {
            entries,
            validate_only,
        };
        let answer = s.prepare(v, Request::AlterClientQuotas(request));
        if let Some(Response::AlterClientQuotas(mut answer)) = answer {
            for entry in &mut answer.entries {
                // Kafka goes through a hash map.
                entry
                    .entity
                    .sort_by(|a, b| a.entity_type.cmp(&b.entity_type));
            }
            s.keep(what, &Response::AlterClientQuotas(answer));
        } else {
            s.note(what, "answer", "none");
        }
    };
    let user: Entity = &[("user", Some("edges"))];
    for (what, key, value) in [
        ("zero", "producer_byte_rate", 0.0),
        ("infinite", "producer_byte_rate", f64::INFINITY),
        ("a fraction of a byte", "consumer_byte_rate", 0.5),
        ("a fraction and more", "consumer_byte_rate", 10.5),
        ("beyond a long", "consumer_byte_rate", 1e30),
        ("percent", "request_percentage", 12.5),
        ("mutations", "controller_mutation_rate", 0.25),
        ("of replication", "leader.replication.throttled.rate", 5.0),
        ("of SCRAM", "SCRAM-SHA-256", 5.0),
    ] {
        ask(s, what, vec![entry(user, &[(key, value, false)])], true);
    }
    let rate = ("producer_byte_rate", 5.0, false);
    ask(
        s,
        "removed that is not there",
        vec![entry(user, &[("producer_byte_rate", 0.0, true)])],
        true,
    );
    ask(
        s,
        "unknown removed",
        vec![entry(user, &[("nonsense", 0.0, true)])],
        true,
    );
    ask(
        s,
        "a key twice",
        vec![entry(user, &[rate, ("producer_byte_rate", 6.0, false)])],
        true,
    );
    ask(s, "no operations", vec![entry(user, &[])], true);
    ask(
        s,
        "an entity twice",
        vec![entry(user, &[rate]), entry(user, &[rate])],
        true,
    );
    ask(s, "nothing", Vec::new(), true);
    ask(
        s,
        "user and client",
        vec![entry(
            &[("user", Some("edges")), ("client-id", None)],
            &[rate],
        )],
        false,
    );
    ask(
        s,
        "of all",
        vec![entry(&[("user", None), ("client-id", None)], &[rate])],
        true,
    );
    moment();
    let describe = |components: &[(&str, i8, Option<&str>)], strict| {
        Request::DescribeClientQuotas(DescribeClientQuotasRequest {
            components: components
                .iter()
                .map(|(kind, match_type, name)| ComponentData {
                    entity_type: (*kind).into(),
                    match_type: *match_type,
                    match_: name.map(Into::into),
                })
                .collect(),
            strict,
        })
    };
    for strict in [false, true] {
        for (what, components) in [
            ("by user", &[("user", 0, Some("edges"))][..]),
            ("by default client", &[("client-id", 1, None)]),
            (
                "by both",
                &[("user", 0, Some("edges")), ("client-id", 1, None)],
            ),
            ("by one twice", &[("user", 2, None), ("user", 2, None)]),
            ("exact without a name", &[("user", 0, None)]),
            ("default with a name", &[("user", 1, Some("edges"))]),
            ("any with a name", &[("user", 2, Some("edges"))]),
            ("no type", &[("", 2, None)]),
        ] {
            let what = format!("{what}, strict {strict}");
            let answer = s.prepare(v, describe(components, strict));
            if let Some(Response::DescribeClientQuotas(mut answer)) = answer {
                for entry in answer.entries.iter_mut().flatten() {
                    entry
                        .entity
                        .sort_by(|a, b| a.entity_type.cmp(&b.entity_type));
                }
                s.keep(&what, &Response::DescribeClientQuotas(answer));
            } else {
                s.note(&what, "answer", "none");
            }
        }
    }
    let mut gone = entry(&[("user", Some("edges")), ("client-id", None)], &[]);
    gone.ops = vec![OpData {
        key: "producer_byte_rate".into(),
        value: 0.0,
        remove: true,
    }];
    ask(s, "removed", vec![gone], false);
}

fn elect(s: &mut Session, v: i16) {
    use elect_leaders::TopicPartitions;
    make_topic(s, "edges-elect", 1, &[]);
    let one = || TopicPartitions {
        topic: "edges-elect".into(),
        partitions: vec![0, 0],
    };
    let mut ask = |what: &str, topic_partitions| {
        let request = ElectLeadersRequest {
            election_type: 0,
            topic_partitions,
            timeout_ms: 5000,
        };
        s.ask(what, v, Request::ElectLeaders(request));
    };
    ask("none", Some(Vec::new()));
    ask("twice", Some(vec![one()]));
    let all = ElectLeadersRequest {
        topic_partitions: None,
        timeout_ms: 5000,
        ..Default::default()
    };
    // Which topics there are depends on what ran before.
    if let Some(Response::ElectLeaders(answer)) = s.prepare(v, Request::ElectLeaders(all)) {
        let told = answer.replica_election_results;
        let elected = told.iter().any(|topic| !topic.partition_result.is_empty());
        let text = format!("topics {} elected {elected}", !told.is_empty());
        s.note("all", "results", &text);
    }
}

fn join(group: &str, member: &str, instance: Option<&str>) -> JoinGroupRequest {
    use join_group::JoinGroupRequestProtocol;
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: member.into(),
        group_instance_id: instance.map(Into::into),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: bytes::Bytes::from_static(b"\0\0\0\0\0\0\xff\xff\xff\xff"),
        }],
        ..Default::default()
    }
}

fn static_classic(s: &mut Session, v: i16) {
    if v < 5 {
        return;
    }
    let group = format!("edges-static-{v}");
    coordinator(s, &group, 0);
    let joined = s.prepare(v, Request::JoinGroup(join(&group, "", Some("i"))));
    let Some(Response::JoinGroup(joined)) = joined else {
        return s.note("joins", "answer", "none");
    };
    let member = joined.member_id.clone();
    let generation_id = joined.generation_id;
    s.call_it(&member, "<member>");
    s.keep("joins", &Response::JoinGroup(joined));
    s.ask(
        "with another id",
        v,
        Request::JoinGroup(join(&group, "other", Some("i"))),
    );
    s.ask(
        "unknown instance",
        v,
        Request::JoinGroup(join(&group, "other", Some("j"))),
    );
    s.ask(
        "without the instance",
        v,
        Request::JoinGroup(join(&group, "other", None)),
    );
    let beat = |member: &str, instance: Option<&str>, generation_id| {
        Request::Heartbeat(HeartbeatRequest {
            group_id: group.as_str().into(),
            generation_id,
            member_id: member.into(),
            group_instance_id: instance.map(Into::into),
        })
    };
    s.ask(
        "heartbeat of another",
        4,
        beat("other", Some("i"), generation_id),
    );
    s.ask(
        "heartbeat of an unknown instance",
        4,
        beat(&member, Some("j"), generation_id),
    );
    s.ask(
        "heartbeat without the instance",
        4,
        beat(&member, None, generation_id),
    );
    let sync = |member: &str, instance: Option<&str>| {
        Request::SyncGroup(SyncGroupRequest {
            group_id: group.as_str().into(),
            generation_id,
            member_id: member.into(),
            group_instance_id: instance.map(Into::into),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: vec![sync_group::SyncGroupRequestAssignment {
                member_id: member.into(),
                assignment: bytes::Bytes::from_static(b"given"),
            }],
        })
    };
    s.ask("sync of another", 5, sync("other", Some("i")));
    s.ask("sync", 5, sync(&member, Some("i")));
    let delete = Request::OffsetDelete(OffsetDeleteRequest {
        group_id: group.as_str().into(),
        topics: Vec::new(),
    });
    s.ask("offsets deleted meanwhile", 0, delete);
    let groups = DeleteGroupsRequest {
        groups_names: vec![group.as_str().into(), group.as_str().into()],
    };
    s.ask("deleted twice", 2, Request::DeleteGroups(groups));
    let again = s.prepare(v, Request::JoinGroup(join(&group, "", Some("i"))));
    let Some(Response::JoinGroup(again)) = again else {
        return s.note("comes back", "answer", "none");
    };
    let newer = again.member_id.clone();
    s.call_it(&newer, "<newer member>");
    s.keep("comes back", &Response::JoinGroup(again));
    s.ask(
        "heartbeat of the older",
        4,
        beat(&member, Some("i"), generation_id),
    );
    s.ask(
        "heartbeat of the newer",
        4,
        beat(&newer, Some("i"), generation_id),
    );
    let leave = |member: &str, instance: Option<&str>| leave_group::MemberIdentity {
        member_id: member.into(),
        group_instance_id: instance.map(Into::into),
        ..Default::default()
    };
    let request = LeaveGroupRequest {
        group_id: group.as_str().into(),
        members: vec![
            leave(&member, Some("i")),
            leave("", Some("j")),
            leave("", Some("i")),
            leave("", None),
        ],
        ..Default::default()
    };
    s.ask("leave", 4, Request::LeaveGroup(request));
}

fn consumer_beat(group: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    let joins = epoch == 0;
    ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: member.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: if joins { 30_000 } else { -1 },
        subscribed_topic_names: joins.then(|| vec!["edges-consumed".into()]),
        topic_partitions: joins.then(Vec::new),
        ..Default::default()
    }
}

const FIRST: &str = "AAAAAAAAAAAAAAAAAAAAAQ";
const SECOND: &str = "BBBBBBBBBBBBBBBBBBBBBQ";

fn static_consumers(s: &mut Session, v: i16) {
    if v < 1 {
        return;
    }
    let group = "edges-static-consumers";
    make_topic(s, "edges-consumed", 2, &[]);
    s.topic_id("edges-consumed");
    coordinator(s, group, 0);
    let ask = |s: &mut Session, what: &str, member: &str, epoch: i32, instance: Option<&str>| {
        let mut request = consumer_beat(group, member, epoch);
        request.instance_id = instance.map(Into::into);
        s.ask(what, v, Request::ConsumerGroupHeartbeat(request));
    };
    ask(s, "joins", FIRST, 0, Some("i"));
    ask(s, "another with its place", SECOND, 0, Some("i"));
    ask(s, "another goes on in its place", SECOND, 1, Some("i"));
    ask(s, "without the instance", FIRST, 1, None);
    ask(s, "unknown instance", FIRST, 1, Some("j"));
    ask(s, "leaves without an instance", FIRST, -2, None);
    ask(s, "leaves for a while", FIRST, -2, Some("i"));
    ask(s, "goes on all the same", FIRST, 1, Some("i"));
    ask(s, "comes back", SECOND, 0, Some("i"));
    ask(s, "the older one goes on", FIRST, 1, Some("i"));
    let describe = ConsumerGroupDescribeRequest {
        group_ids: vec![group.into()],
        include_authorized_operations: false,
    };
    s.ask("described", 1, Request::ConsumerGroupDescribe(describe));
    let subscribed = OffsetDeleteRequest {
        group_id: group.into(),
        topics: vec![offset_delete::OffsetDeleteRequestTopic {
            name: "edges-consumed".into(),
            partitions: vec![offset_delete::OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    s.ask(
        "offsets of a subscribed topic",
        0,
        Request::OffsetDelete(subscribed),
    );
    ask(s, "the older one leaves", FIRST, -1, Some("i"));
    ask(s, "leaves", SECOND, -1, Some("i"));
    ask(s, "leaves again", SECOND, -1, Some("i"));
}

fn kinds(s: &mut Session, v: i16) {
    if v < 1 {
        return;
    }
    make_topic(s, "edges-consumed", 2, &[]);
    s.topic_id("edges-consumed");
    let (consumer, share, classic) = (
        "edges-kind-consumer",
        "edges-kind-share",
        "edges-kind-classic",
    );
    for group in [consumer, share, classic] {
        coordinator(s, group, 0);
    }
    let share_beat = |group: &str, member_epoch: i32| {
        Request::ShareGroupHeartbeat(ShareGroupHeartbeatRequest {
            group_id: group.into(),
            member_id: FIRST.into(),
            member_epoch,
            subscribed_topic_names: (member_epoch == 0).then(|| vec!["edges-consumed".into()]),
            ..Default::default()
        })
    };
    s.prepare(
        1,
        Request::ConsumerGroupHeartbeat(consumer_beat(consumer, FIRST, 0)),
    );
    s.prepare(1, share_beat(share, 0));
    let mut member = Str::new();
    for _ in 0..2 {
        let request = Request::JoinGroup(join(classic, &member, None));
        if let Some(Response::JoinGroup(answer)) = s.prepare(7, request) {
            member = answer.member_id;
        }
    }
    s.call_it(&member, "<classic member>");
    for (kind, group) in [
        ("consumer", consumer),
        ("share", share),
        ("classic", classic),
        ("none", "edges-kind-none"),
    ] {
        let what = |what: &str| format!("{kind}: {what}");
        if kind != "classic" && kind != "none" {
            s.ask(
                &what("joins as classic"),
                7,
                Request::JoinGroup(join(group, "stranger", None)),
            );
            let mut other = join(group, "x", None);
            other.protocol_type = "connect".into();
            s.ask(&what("joins as connect"), 7, Request::JoinGroup(other));
        }
        let beat = HeartbeatRequest {
            group_id: group.into(),
            generation_id: 1,
            member_id: FIRST.into(),
            ..Default::default()
        };
        s.ask(&what("classic heartbeat"), 4, Request::Heartbeat(beat));
        let sync = SyncGroupRequest {
            group_id: group.into(),
            generation_id: 1,
            member_id: FIRST.into(),
            ..Default::default()
        };
        s.ask(&what("sync"), 4, Request::SyncGroup(sync));
        let leave = LeaveGroupRequest {
            group_id: group.into(),
            members: vec![leave_group::MemberIdentity {
                member_id: "x".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        s.ask(&what("leave"), 4, Request::LeaveGroup(leave));
        if kind != "consumer" {
            s.ask(
                &what("consumer heartbeat"),
                1,
                Request::ConsumerGroupHeartbeat(consumer_beat(group, FIRST, 3)),
            );
        }
        if kind == "share" {
            s.ask(
                &what("joins as a consumer"),
                1,
                Request::ConsumerGroupHeartbeat(consumer_beat(group, FIRST, 0)),
            );
        }
        if kind == "consumer" || kind == "classic" {
            s.ask(&what("joins for a share"), 1, share_beat(group, 0));
            s.ask(&what("share heartbeat"), 1, share_beat(group, 1));
        }
        let ids = vec![Str::from(group)];
        let request = DescribeGroupsRequest {
            groups: ids.clone(),
            ..Default::default()
        };
        if kind != "classic" {
            s.ask(
                &what("described as classic"),
                6,
                Request::DescribeGroups(request.clone()),
            );
            s.ask(
                &what("described as classic, of old"),
                5,
                Request::DescribeGroups(request),
            );
        }
        let request = ShareGroupDescribeRequest {
            group_ids: ids.clone(),
            ..Default::default()
        };
        if kind != "share" {
            s.ask(
                &what("described as share"),
                1,
                Request::ShareGroupDescribe(request),
            );
        }
        let request = ConsumerGroupDescribeRequest {
            group_ids: ids.clone(),
            ..Default::default()
        };
        if kind != "consumer" {
            s.ask(
                &what("described as consumer"),
                1,
                Request::ConsumerGroupDescribe(request),
            );
        }
        let commit = |generation_id_or_member_epoch, member_id: &str| OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch,
            member_id: member_id.into(),
            topics: vec![offset_commit::OffsetCommitRequestTopic {
                name: "edges-consumed".into(),
                partitions: vec![offset_commit::OffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: 5,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        if kind != "none" {
            for version in [8, 9] {
                s.ask(
                    &what(&format!("commit of nobody {version}")),
                    version,
                    Request::OffsetCommit(commit(-1, "")),
                );
                s.ask(
                    &what(&format!("commit of a stranger {version}")),
                    version,
                    Request::OffsetCommit(commit(1, "stranger")),
                );
            }
        }
        let fetch = OffsetFetchRequest {
            groups: vec![offset_fetch::OffsetFetchRequestGroup {
                group_id: group.into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        s.ask(&what("offsets"), 9, Request::OffsetFetch(fetch));
        let delete = OffsetDeleteRequest {
            group_id: group.into(),
            topics: vec![offset_delete::OffsetDeleteRequestTopic {
                name: "edges-consumed".into(),
                partitions: vec![offset_delete::OffsetDeleteRequestPartition {
                    partition_index: 1,
                }],
            }],
        };
        s.ask(&what("offsets deleted"), 0, Request::OffsetDelete(delete));
    }
    let all = [consumer, share, classic, "edges-kind-none"];
    let ask = |s: &mut Session, what: &str| {
        let request = DeleteGroupsRequest {
            groups_names: all.iter().map(|g| (*g).into()).collect(),
        };
        let answer = s.prepare(2, Request::DeleteGroups(request));
        if let Some(Response::DeleteGroups(mut answer)) = answer {
            answer.results.sort_by(|a, b| a.group_id.cmp(&b.group_id));
            s.keep(what, &Response::DeleteGroups(answer));
        }
    };
    ask(s, "deleted");
    for (what, states, types) in [
        ("of states", vec!["Stable", "Empty"], vec![]),
        ("shares", vec![], vec!["share"]),
        ("consumers", vec!["stable"], vec!["Consumer", "nonsense"]),
    ] {
        let request = ListGroupsRequest {
            states_filter: states.into_iter().map(Into::into).collect(),
            types_filter: types.into_iter().map(Into::into).collect(),
        };
        if let Some(Response::ListGroups(mut answer)) = s.prepare(5, Request::ListGroups(request)) {
            answer
                .groups
                .retain(|g| g.group_id.starts_with("edges-kind"));
            answer.groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
            s.keep(&format!("listed {what}"), &Response::ListGroups(answer));
        }
    }
    s.prepare(
        1,
        Request::ConsumerGroupHeartbeat(consumer_beat(consumer, FIRST, -1)),
    );
    s.prepare(1, share_beat(share, -1));
    ask(s, "deleted when empty");
}

fn fetch(s: &mut Session, v: i16) {
    use fetch::{FetchPartition, FetchTopic, ForgottenTopic};
    let name = format!("edges-fetch-{v}");
    make_topic(s, &name, 2, &[]);
    let id = s.topic_id(&name);
    fill(s, &name, 0, plain(&["a"]));
    fill(s, &name, 0, plain(&["b"]));
    fill(s, &name, 1, plain(&["c"]));
    let at = |partition, fetch_offset| FetchPartition {
        partition,
        fetch_offset,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let of = |partitions: Vec<FetchPartition>| FetchRequest {
        replica_id: -1,
        max_wait_ms: 50,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: if v >= 13 {
                Str::new()
            } else {
                name.as_str().into()
            },
            topic_id: if v >= 13 { id } else { Uuid::ZERO },
            partitions,
        }],
        ..Default::default()
    };
    let ask = |s: &mut Session, what: &str, partitions, change: &dyn Fn(&mut FetchRequest)| {
        let mut request = of(partitions);
        change(&mut request);
        s.ask(what, v, Request::Fetch(request))
    };
    ask(s, "no bytes", vec![at(0, 0)], &|r| r.max_bytes = 0);
    let mut none = at(0, 0);
    none.partition_max_bytes = 0;
    ask(
        s,
        "no bytes of the partition",
        vec![none, at(1, 0)],
        &|_| {},
    );
    ask(s, "negative wait", vec![at(0, 2)], &|r| r.max_wait_ms = -5);
    ask(s, "negative least", vec![at(0, 2)], &|r| r.min_bytes = -5);
    ask(s, "nothing", vec![], &|r| r.topics.clear());
    ask(s, "a topic without partitions", vec![], &|_| {});
    ask(
        s,
        "both beyond one",
        vec![at(0, 0), at(1, 77), at(9, 0)],
        &|_| {},
    );
    if v >= 12 {
        let mut epochs = at(0, 2);
        epochs.last_fetched_epoch = 5;
        ask(s, "newer last epoch", vec![epochs.clone()], &|_| {});
        epochs.last_fetched_epoch = 0;
        epochs.current_leader_epoch = 0;
        ask(s, "known last epoch", vec![epochs], &|_| {});
    }
    if v >= 7 {
        let opened = ask(s, "not kept", vec![at(0, 2), at(1, 1)], &|r| {
            r.session_id = 5
        });
        drop(opened);
        let mut request = of(vec![at(0, 2), at(1, 1)]);
        request.session_epoch = 0;
        let Some(Response::Fetch(opened)) = s.prepare(v, Request::Fetch(request)) else {
            return;
        };
        let session_id = opened.session_id;
        s.call_it(
            &format!("session_id: {session_id}"),
            "session_id: <session>",
        );
        let ask = |s: &mut Session,
                   what: &str,
                   epoch,
                   partitions: Vec<FetchPartition>,
                   forgets: &[i32]| {
            let mut request = of(partitions.clone());
            if partitions.is_empty() {
                request.topics.clear();
            }
            request.session_id = session_id;
            request.session_epoch = epoch;
            if !forgets.is_empty() {
                request.forgotten_topics_data = vec![ForgottenTopic {
                    topic: if v >= 13 {
                        Str::new()
                    } else {
                        name.as_str().into()
                    },
                    topic_id: if v >= 13 { id } else { Uuid::ZERO },
                    partitions: forgets.to_vec(),
                }];
            }
            s.ask(what, v, Request::Fetch(request));
        };
        ask(s, "goes back", 1, vec![at(0, 1)], &[]);
        ask(s, "forgets", 2, vec![], &[1, 7]);
        ask(s, "another", 3, vec![at(9, 0)], &[]);
        ask(s, "old epoch", 3, vec![], &[]);
        ask(s, "forgets all", 4, vec![], &[0, 9]);
        ask(s, "goes on with nothing", 5, vec![], &[]);
    }
}

fn produce(s: &mut Session, v: i16) {
    let name = format!("edges-produce-{v}");
    make_topic(
        s,
        &name,
        2,
        &[
            ("message.timestamp.after.max.ms", "1000"),
            ("message.timestamp.before.max.ms", "1000"),
        ],
    );
    let id = s.topic_id(&name);
    s.ask(
        "too old",
        v,
        Request::Produce(produce_to(&name, id, v, 0, plain(&["a", "b"]))),
    );
    let compact = format!("edges-produce-compact-{v}");
    make_topic(
        s,
        &compact,
        1,
        &[
            ("cleanup.policy", "compact,delete"),
            ("compression.type", "gzip"),
            ("message.timestamp.type", "LogAppendTime"),
        ],
    );
    let compact_id = s.topic_id(&compact);
    let mut empty = produce_to(&compact, compact_id, v, 0, plain(&["a"]));
    empty.topic_data.clear();
    s.ask("nothing", v, Request::Produce(empty));
    let mut none = produce_to(&compact, compact_id, v, 0, plain(&["a"]));
    none.topic_data[0].partition_data.clear();
    s.ask("no partitions", v, Request::Produce(none));
    let mut timeout = produce_to(&compact, compact_id, v, 0, plain(&["c"]));
    timeout.timeout_ms = -1;
    s.ask("negative timeout", v, Request::Produce(timeout));
    let transactional = FinishOptions {
        producer_id: 5,
        producer_epoch: 0,
        base_sequence: 0,
        transactional: true,
        ..Default::default()
    };
    let request = produce_to(&compact, compact_id, v, 0, batch(&["a"], transactional));
    s.ask(
        "of a transaction without its id",
        v,
        Request::Produce(request),
    );
    let mut request = produce_to(&compact, compact_id, v, 0, plain(&["d"]));
    request.transactional_id = Some("edges-unknown".into());
    s.ask(
        "with an id, of no transaction",
        v,
        Request::Produce(request),
    );
    let mut request = produce_to(&compact, compact_id, v, 0, plain(&["e"]));
    request.transactional_id = Some(Str::new());
    s.ask("with an empty id", v, Request::Produce(request));
    let fetch = FetchRequest {
        replica_id: -1,
        max_wait_ms: 50,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![fetch::FetchTopic {
            topic: compact.as_str().into(),
            partitions: vec![fetch::FetchPartition {
                partition: 0,
                current_leader_epoch: -1,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    if let Some(Response::Fetch(answer)) = s.prepare(11, Request::Fetch(fetch)) {
        let stored = answer.responses.iter().flat_map(|t| &t.partitions);
        let stored: usize = stored.map(|p| p.high_watermark as usize).sum();
        s.note("stored", "records", &stored.to_string());
    }
}

/// A new producer of a transactional id.
fn init(s: &mut Session, v: i16, id: &str) -> (i64, i16) {
    coordinator(s, id, 1);
    let request = InitProducerIdRequest {
        transactional_id: Some(id.into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    for _ in 0..100 {
        let answer = s.prepare(v, Request::InitProducerId(request.clone()));
        if let Some(Response::InitProducerId(answer)) = answer
            && answer.error_code.0 == 0
        {
            let id = answer.producer_id;
            s.call_it(&format!("producer_id: {id},"), "producer_id: <producer>,");
            return (id, answer.producer_epoch);
        }
        sleep(Duration::from_millis(20));
    }
    (-1, -1)
}

fn in_transaction((producer_id, producer_epoch): (i64, i16), base_sequence: i32) -> Records {
    let options = FinishOptions {
        producer_id,
        producer_epoch,
        base_sequence,
        transactional: true,
        ..Default::default()
    };
    batch(&["a"], options)
}

fn second_version(s: &mut Session, v: i16) {
    if v < 5 {
        return;
    }
    let id = "edges-second-version";
    make_topic(s, id, 2, &[]);
    let producer = init(s, 5, id);
    let end = |(producer_id, producer_epoch): (i64, i16), committed| {
        Request::EndTxn(EndTxnRequest {
            transactional_id: id.into(),
            producer_id,
            producer_epoch,
            committed,
        })
    };
    let produce = |producer, sequence, partition| {
        let mut request = produce_to(
            id,
            Uuid::ZERO,
            12,
            partition,
            in_transaction(producer, sequence),
        );
        request.transactional_id = Some(id.into());
        Request::Produce(request)
    };
    s.ask("nothing committed", v, end(producer, true));
    s.ask("not from 0", 12, produce(producer, 5, 0));
    s.ask("first", 12, produce(producer, 0, 0));
    s.ask("next", 12, produce(producer, 1, 0));
    s.ask("next again", 12, produce(producer, 1, 0));
    s.ask("a gap", 12, produce(producer, 9, 0));
    s.ask("other partition", 12, produce(producer, 0, 1));
    s.ask("committed", v, end(producer, true));
    moment();
    s.ask("committed again", v, end(producer, true));
    s.ask("then aborted", v, end(producer, false));
    s.ask("produced with the old epoch", 12, produce(producer, 2, 0));
    let producer = (producer.0, producer.1 + 1);
    s.ask("nothing aborted", v, end(producer, false));
    moment();
    let producer = (producer.0, producer.1 + 1);
    s.ask("after it", 12, produce(producer, 0, 0));
    s.ask("aborted", v, end(producer, false));
    moment();
    s.ask("aborted again", v, end(producer, false));
    s.ask("then committed", v, end(producer, true));
    s.ask("two ahead", v, end((producer.0, producer.1 + 2), false));
    s.ask("another's", v, end((producer.0 + 999, 0), false));
    let fetch = FetchRequest {
        replica_id: -1,
        max_wait_ms: 50,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        isolation_level: 1,
        topics: vec![fetch::FetchTopic {
            topic: id.into(),
            partitions: vec![fetch::FetchPartition {
                partition: 0,
                current_leader_epoch: -1,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    if let Some(Response::Fetch(answer)) = s.prepare(11, Request::Fetch(fetch)) {
        for p in answer.responses.iter().flat_map(|t| &t.partitions) {
            let aborted: Vec<i64> = p
                .aborted_transactions
                .iter()
                .flatten()
                .map(|a| a.first_offset)
                .collect();
            let told = format!("{} {} {aborted:?}", p.high_watermark, p.last_stable_offset);
            s.note("stored", "ends and aborted", &told);
        }
    }
}

fn taken_over(s: &mut Session, v: i16) {
    let id = format!("edges-taken-{v}");
    make_topic(s, &id, 1, &[]);
    let first = init(s, v, &id);
    let mut request = produce_to(&id, Uuid::ZERO, 12, 0, in_transaction(first, 0));
    request.transactional_id = Some(id.as_str().into());
    s.ask("opened", 12, Request::Produce(request.clone()));
    let ask = InitProducerIdRequest {
        transactional_id: Some(id.as_str().into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    s.ask("taken over", v, Request::InitProducerId(ask));
    let second = init(s, v, &id);
    s.note("second", "epoch", &second.1.to_string());
    s.ask("the first one produces", 12, Request::Produce(request));
    let add = |(producer_id, producer_epoch): (i64, i16)| {
        Request::AddPartitionsToTxn(AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: id.as_str().into(),
            v3_and_below_producer_id: producer_id,
            v3_and_below_producer_epoch: producer_epoch,
            v3_and_below_topics: vec![add_partitions_to_txn::AddPartitionsToTxnTopic {
                name: id.as_str().into(),
                partitions: vec![0],
            }],
            ..Default::default()
        })
    };
    for version in [0, 1, 2, 3] {
        s.ask(
            &format!("the first one adds {version}"),
            version,
            add(first),
        );
    }
    for version in [0, 1, 2, 3] {
        let offsets = AddOffsetsToTxnRequest {
            transactional_id: id.as_str().into(),
            producer_id: first.0,
            producer_epoch: first.1,
            group_id: "edges-taken".into(),
        };
        s.ask(
            &format!("the first one adds offsets {version}"),
            version,
            Request::AddOffsetsToTxn(offsets),
        );
    }
    for version in [0, 1, 2, 3, 4, 5] {
        let end = EndTxnRequest {
            transactional_id: id.as_str().into(),
            producer_id: first.0,
            producer_epoch: first.1,
            committed: true,
        };
        s.ask(
            &format!("the first one ends {version}"),
            version,
            Request::EndTxn(end),
        );
    }
    s.ask("the second one adds", 3, add(second));
    s.ask("the second one adds again", 3, add(second));
    if v >= 3 {
        let known = |(producer_id, producer_epoch): (i64, i16)| {
            Request::InitProducerId(InitProducerIdRequest {
                transactional_id: Some(id.as_str().into()),
                transaction_timeout_ms: 60_000,
                producer_id,
                producer_epoch,
            })
        };
        s.ask("the second one begins again", v, known(second));
        moment();
        s.ask("once it is aborted", v, known(second));
        s.ask("of an id that is not known", v, {
            let mut request = InitProducerIdRequest {
                transactional_id: Some(format!("{id}-none").as_str().into()),
                transaction_timeout_ms: 60_000,
                producer_id: 77,
                producer_epoch: 3,
            };
            request.transaction_timeout_ms = 1;
            Request::InitProducerId(request)
        });
    }
}
