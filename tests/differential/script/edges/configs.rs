//! Settings and quotas: at their bounds, of every kind of resource, given twice.

use super::*;
use crate::script::configs::{self, Change, changed, quota_entry};

pub(super) fn settings(s: &mut Session, v: i16) {
    let ask = |s: &mut Session, what: &str, kind: i8, name: &str, changes: &[Change]| {
        s.ask(what, v, changed(kind, name, changes, true));
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

pub(super) fn replaced(s: &mut Session, v: i16) {
    let name = format!("edges-replaced-{v}");
    make_topic(s, &name, 1, &[]);
    for (what, kind, name, (setting, value)) in [
        ("unknown", 2, &*name, ("nonsense", "5")),
        (
            "group",
            32,
            "edges",
            ("share.isolation.level", "read_committed"),
        ),
        ("client metrics", 16, "edges", ("metrics", "*")),
        ("broker", 4, "1", ("log.retention.ms", "5")),
        ("loggers", 8, "1", ("root", "INFO")),
        ("no such type", 77, "1", ("retention.ms", "5")),
    ] {
        let settings = [(setting, Some(value))];
        let request = configs::replaced(kind, name, &settings, true);
        s.ask(what, v, request);
    }
    let nothing = AlterConfigsRequest {
        resources: Vec::new(),
        validate_only: true,
    };
    s.ask("nothing", v, Request::AlterConfigs(nothing));
}

pub(super) fn described(s: &mut Session, v: i16) {
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
    settle(s);
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

pub(super) fn quotas(s: &mut Session, v: i16) {
    use alter_client_quotas::RequestEntryData;
    use describe_client_quotas::ComponentData;
    type Entity<'a> = &'a [(&'a str, Option<&'a str>)];
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
        ask(
            s,
            what,
            vec![quota_entry(user, &[(key, value, false)])],
            true,
        );
    }
    let rate = ("producer_byte_rate", 5.0, false);
    ask(
        s,
        "removed that is not there",
        vec![quota_entry(user, &[("producer_byte_rate", 0.0, true)])],
        true,
    );
    ask(
        s,
        "unknown removed",
        vec![quota_entry(user, &[("nonsense", 0.0, true)])],
        true,
    );
    ask(
        s,
        "a key twice",
        vec![quota_entry(
            user,
            &[rate, ("producer_byte_rate", 6.0, false)],
        )],
        true,
    );
    ask(s, "no operations", vec![quota_entry(user, &[])], true);
    ask(
        s,
        "an entity twice",
        vec![quota_entry(user, &[rate]), quota_entry(user, &[rate])],
        true,
    );
    ask(s, "nothing", Vec::new(), true);
    ask(
        s,
        "user and client",
        vec![quota_entry(
            &[("user", Some("edges")), ("client-id", None)],
            &[rate],
        )],
        false,
    );
    ask(
        s,
        "of all",
        vec![quota_entry(&[("user", None), ("client-id", None)], &[rate])],
        true,
    );
    settle(s);
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
    let mut gone = quota_entry(&[("user", Some("edges")), ("client-id", None)], &[]);
    gone.ops = vec![alter_client_quotas::OpData {
        key: "producer_byte_rate".into(),
        value: 0.0,
        remove: true,
    }];
    ask(s, "removed", vec![gone], false);
}
