//! Settings and quotas.

use super::*;
use ApiKey::*;

pub const CASES: &[Row] = &[
    ("describe configs", DescribeConfigs, describe),
    (
        "incremental alter configs",
        IncrementalAlterConfigs,
        incremental,
    ),
    ("alter configs", AlterConfigs, alter),
    ("list config resources", ListConfigResources, list),
    ("client quotas", AlterClientQuotas, quotas),
];

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn ask_describe(s: &mut Session, v: i16, what: &str, kind: i8, name: &str, keys: Option<&[&str]>) {
    use describe_configs::DescribeConfigsResource;
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configuration_keys: keys.map(|keys| keys.iter().map(|k| (*k).into()).collect()),
        }],
        include_synonyms: true,
        include_documentation: false,
    };
    let Some(Response::DescribeConfigs(answer)) = s.prepare(v, Request::DescribeConfigs(request))
    else {
        return s.note(what, "answer", "none");
    };
    for result in &answer.results {
        s.note(
            what,
            "error_code",
            &format!("{:?} {:?}", result.error_code, result.error_message),
        );
        for config in &result.configs {
            let synonyms: Vec<String> = config
                .synonyms
                .iter()
                .map(|x| format!("{}={:?} from {}", x.name, x.value.as_deref(), x.source))
                .collect();
            let text = format!(
                "{:?} read only {} source {} sensitive {} type {} synonyms {synonyms:?}",
                config.value.as_deref(),
                config.read_only,
                config.config_source,
                config.is_sensitive,
                config.config_type,
            );
            s.note(what, &config.name, &text);
        }
    }
}

fn describe(s: &mut Session, v: i16) {
    let name = format!("configs-{v}");
    make_topic(
        s,
        &name,
        1,
        &[("retention.ms", "1000"), ("cleanup.policy", "compact")],
    );
    ask_describe(s, v, "topic", TOPIC, &name, None);
    ask_describe(
        s,
        v,
        "one key",
        TOPIC,
        &name,
        Some(&["segment.bytes", "none"]),
    );
    ask_describe(s, v, "no keys", TOPIC, &name, Some(&[]));
    ask_describe(s, v, "no such topic", TOPIC, "configs-none", None);
    ask_describe(s, v, "bad topic", TOPIC, "a b", None);
    ask_describe(
        s,
        v,
        "broker, one key",
        BROKER,
        "1",
        Some(&["log.segment.bytes"]),
    );
    ask_describe(s, v, "no such broker", BROKER, "7", None);
    ask_describe(s, v, "broker of no number", BROKER, "one", None);
    ask_describe(s, v, "defaults", BROKER, "", None);
    ask_describe(s, v, "no such type", 99, "x", None);
    ask_describe(s, v, "group", 32, "configs-group", None);
}

/// A change: name, operation, value.
pub(super) type Change<'a> = (&'a str, i8, Option<&'a str>);

fn ask_change(s: &mut Session, v: i16, what: &str, kind: i8, name: &str, changes: &[Change]) {
    s.ask(what, v, changed(kind, name, changes, false));
}

/// Changes of one resource, done or only looked at.
pub(super) fn changed(kind: i8, name: &str, changes: &[Change], validate_only: bool) -> Request {
    use incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
    Request::IncrementalAlterConfigs(IncrementalAlterConfigsRequest {
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
        validate_only,
    })
}

fn incremental(s: &mut Session, v: i16) {
    let name = format!("change-{v}");
    make_topic(s, &name, 1, &[]);
    ask_change(
        s,
        v,
        "set",
        TOPIC,
        &name,
        &[("retention.ms", 0, Some("5000"))],
    );
    ask_change(
        s,
        v,
        "append",
        TOPIC,
        &name,
        &[("cleanup.policy", 2, Some("compact"))],
    );
    settle(s);
    let list = Some(&["cleanup.policy"][..]);
    ask_describe(s, 4, "after append", TOPIC, &name, list);
    ask_change(
        s,
        v,
        "subtract",
        TOPIC,
        &name,
        &[("cleanup.policy", 3, Some("delete"))],
    );
    ask_change(
        s,
        v,
        "append to no list",
        TOPIC,
        &name,
        &[("retention.ms", 2, Some("1"))],
    );
    ask_change(
        s,
        v,
        "unknown",
        TOPIC,
        &name,
        &[("no.such.thing", 0, Some("1"))],
    );
    ask_change(
        s,
        v,
        "bad value",
        TOPIC,
        &name,
        &[("retention.ms", 0, Some("soon"))],
    );
    ask_change(
        s,
        v,
        "bad policy",
        TOPIC,
        &name,
        &[("cleanup.policy", 0, Some("keep"))],
    );
    ask_change(s, v, "null", TOPIC, &name, &[("retention.ms", 0, None)]);
    ask_change(
        s,
        v,
        "bad operation",
        TOPIC,
        &name,
        &[("retention.ms", 9, Some("1"))],
    );
    let twice = [
        ("retention.ms", 0, Some("1")),
        ("retention.ms", 0, Some("2")),
    ];
    ask_change(s, v, "twice", TOPIC, &name, &twice);
    ask_change(
        s,
        v,
        "no such topic",
        TOPIC,
        "change-none",
        &[("retention.ms", 0, Some("1"))],
    );
    ask_change(
        s,
        v,
        "no such broker",
        BROKER,
        "7",
        &[("log.retention.ms", 0, Some("1"))],
    );
    ask_change(s, v, "no such type", 99, "x", &[("a", 0, Some("1"))]);
    settle(s);
    ask_describe(
        s,
        4,
        "after it",
        TOPIC,
        &name,
        Some(&["retention.ms", "cleanup.policy"]),
    );
    ask_change(s, v, "delete", TOPIC, &name, &[("retention.ms", 1, None)]);
    settle(s);
    ask_describe(
        s,
        4,
        "at the end",
        TOPIC,
        &name,
        Some(&["retention.ms", "cleanup.policy"]),
    );
}

/// Settings of one resource in place of all that it had, done or only looked at.
pub(super) fn replaced(
    kind: i8,
    name: &str,
    settings: &[(&str, Option<&str>)],
    validate_only: bool,
) -> Request {
    use alter_configs::{AlterConfigsResource, AlterableConfig};
    Request::AlterConfigs(AlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configs: settings
                .iter()
                .map(|(name, value)| AlterableConfig {
                    name: (*name).into(),
                    value: value.map(Into::into),
                })
                .collect(),
        }],
        validate_only,
    })
}

fn alter(s: &mut Session, v: i16) {
    let name = format!("alter-{v}");
    make_topic(s, &name, 1, &[("retention.ms", "1000")]);
    let mut ask = |what: &str, topic: &str, configs: &[(&str, Option<&str>)]| {
        s.ask(what, v, replaced(TOPIC, topic, configs, false));
    };
    ask("bad value", &name, &[("segment.bytes", Some("x"))]);
    ask("null", &name, &[("segment.bytes", None)]);
    ask(
        "no such topic",
        "alter-none",
        &[("segment.bytes", Some("2000000"))],
    );
    ask("set", &name, &[("segment.bytes", Some("2000000"))]);
    settle(s);
    ask_describe(
        s,
        4,
        "after it",
        TOPIC,
        &name,
        Some(&["retention.ms", "segment.bytes"]),
    );
}

fn list(s: &mut Session, v: i16) {
    let types = if v >= 1 {
        vec![vec![], vec![16], vec![32], vec![99]]
    } else {
        vec![vec![]]
    };
    for types in types {
        let what = format!("types {types:?}");
        let request = ListConfigResourcesRequest {
            resource_types: types,
        };
        let answer = s.prepare(v, Request::ListConfigResources(request));
        if let Some(Response::ListConfigResources(mut answer)) = answer {
            // Which topics there are depends on what ran before.
            answer
                .config_resources
                .retain(|r| r.resource_type != TOPIC && r.resource_type != 32);
            answer.config_resources.sort_by(|a, b| {
                (a.resource_type, &a.resource_name).cmp(&(b.resource_type, &b.resource_name))
            });
            s.keep(&what, &Response::ListConfigResources(answer));
        } else {
            s.note(&what, "answer", "none");
        }
    }
}

/// Quotas of an entity, of its parts' kinds and names, set to a value or removed.
pub(super) fn quota_entry(
    entity: &[(&str, Option<&str>)],
    ops: &[(&str, f64, bool)],
) -> alter_client_quotas::RequestEntryData {
    use alter_client_quotas::{OpData, RequestEntityData, RequestEntryData};
    RequestEntryData {
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
    }
}

fn quotas(s: &mut Session, v: i16) {
    use describe_client_quotas::ComponentData;
    let user = format!("user-{v}");
    let mut ask = |what: &str, entity: &[(&str, Option<&str>)], ops: &[(&str, f64, bool)]| {
        let request = AlterClientQuotasRequest {
            entries: vec![quota_entry(entity, ops)],
            validate_only: false,
        };
        s.ask(what, v, Request::AlterClientQuotas(request));
    };
    let of_user = [("user", Some(user.as_str()))];
    ask("set", &of_user, &[("producer_byte_rate", 1e6, false)]);
    ask("unknown key", &of_user, &[("no_such_rate", 1.0, false)]);
    ask("negative", &of_user, &[("consumer_byte_rate", -1.0, false)]);
    ask(
        "no such entity",
        &[("planet", Some("x"))],
        &[("producer_byte_rate", 1.0, false)],
    );
    ask("no entity", &[], &[("producer_byte_rate", 1.0, false)]);
    ask(
        "empty name",
        &[("user", Some(""))],
        &[("producer_byte_rate", 1.0, false)],
    );
    ask(
        "not an address",
        &[("ip", Some("x y"))],
        &[("connection_creation_rate", 1.0, false)],
    );
    let ip = format!("127.9.0.{v}");
    let of_ip = [("ip", Some(ip.as_str()))];
    let rate = "connection_creation_rate";
    ask("of an address", &of_ip, &[(rate, 50.0, false)]);
    ask("too large", &of_ip, &[(rate, 3e9, false)]);
    ask("a fraction", &of_ip, &[(rate, 1.5, false)]);
    ask(
        "not an address's",
        &of_ip,
        &[("request_percentage", 1.0, false)],
    );
    ask("an address's", &of_user, &[(rate, 1.0, false)]);
    ask(
        "an address and a user",
        &[("user", Some(&user)), ("ip", Some(&ip))],
        &[(rate, 1.0, false)],
    );
    let describe = |components: Vec<ComponentData>, strict| {
        Request::DescribeClientQuotas(DescribeClientQuotasRequest { components, strict })
    };
    let component = |kind: &str, match_type, name: Option<&str>| ComponentData {
        entity_type: kind.into(),
        match_type,
        match_: name.map(Into::into),
    };
    s.ask(
        "described",
        v,
        describe(vec![component("user", 0, Some(&user))], true),
    );
    s.ask(
        "default",
        v,
        describe(vec![component("client-id", 1, None)], true),
    );
    for strict in [false, true] {
        let what = format!("of an address, strict {strict}");
        let request = describe(vec![component("ip", 0, Some(&ip))], strict);
        s.ask(&what, v, request);
    }
    s.ask(
        "of any address",
        v,
        describe(vec![component("ip", 1, None)], true),
    );
    s.ask(
        "an address and a user",
        v,
        describe(
            vec![component("ip", 2, None), component("user", 2, None)],
            true,
        ),
    );
    s.ask(
        "bad match",
        v,
        describe(vec![component("user", 7, None)], false),
    );
    s.ask(
        "bad type",
        v,
        describe(vec![component("planet", 2, None)], false),
    );
}
