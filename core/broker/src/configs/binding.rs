//! How a setting of the table gets into [`BrokerConfig`], and out of it.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::row::Row;
use crate::{
    BrokerConfig, ConsumerAssignor, Durability, MigrationPolicy,
    topic_config::{TOPIC_CONFIG_KEYS, TopicConfigKey},
};

/// One setting that has a field of its own.
struct Binding {
    name: &'static str,
    /// Its value; `None` for one that only stands in for another.
    get: fn(&BrokerConfig) -> Option<String>,
    /// Takes a value that was checked.
    set: fn(&mut BrokerConfig, &str) -> Option<()>,
}

macro_rules! field {
    ($name:literal, $($field:ident).+) => {
        Binding {
            name: $name,
            get: |c| Some(c.$($field).+.to_string()),
            set: |c, v| {
                c.$($field).+ = v.parse().ok()?;
                Some(())
            },
        }
    };
}

macro_rules! flag {
    ($name:literal, $($field:ident).+) => {
        Binding {
            name: $name,
            get: |c| Some(c.$($field).+.to_string()),
            set: |c, v| {
                c.$($field).+ = v.eq_ignore_ascii_case("true");
                Some(())
            },
        }
    };
}

/// A setting that gives another one's value in a larger unit, in milliseconds each.
macro_rules! stands_in {
    ($name:literal, $unit:literal, $field:ident) => {
        Binding {
            name: $name,
            get: |_| None,
            set: |c, v| {
                let number: i64 = v.parse().ok()?;
                c.topic_defaults.$field = match number {
                    ..0 => -1,
                    _ => number.saturating_mul($unit),
                };
                Some(())
            },
        }
    };
}

const MINUTE: i64 = 60_000;

/// An assignor by its name, or by that of Kafka's class.
fn assignor(name: &str) -> Option<ConsumerAssignor> {
    match name.trim() {
        "uniform" | "org.apache.kafka.coordinator.group.assignor.UniformAssignor" => {
            Some(ConsumerAssignor::Uniform)
        }
        "range" | "org.apache.kafka.coordinator.group.assignor.RangeAssignor" => {
            Some(ConsumerAssignor::Range)
        }
        _ => None,
    }
}

static BINDINGS: &[Binding] = &[
    flag!("auto.create.topics.enable", auto_create_topics),
    Binding {
        name: "broker.id",
        get: |c| Some(c.node_id.to_string()),
        set: |c, v| {
            // -1 is Kafka's way to say nothing.
            if v != "-1" {
                c.node_id = v.parse().ok()?;
            }
            Some(())
        },
    },
    Binding {
        name: "broker.rack",
        get: |c| c.rack.as_ref().map(ToString::to_string),
        set: |c, v| {
            c.rack = Some(v.into());
            Some(())
        },
    },
    flag!("client.telemetry.enable", client_telemetry),
    field!("controller.quota.window.num", controller_quota_windows.num),
    field!(
        "controller.quota.window.size.seconds",
        controller_quota_windows.size_seconds
    ),
    flag!("delete.topic.enable", delete_topics),
    Binding {
        name: "durability",
        get: |c| {
            let name = match c.durability {
                Durability::Fsync => "fsync",
                Durability::Os => "os",
            };
            Some(name.to_string())
        },
        set: |c, v| {
            c.durability = match v {
                "os" => Durability::Os,
                _ => Durability::Fsync,
            };
            Some(())
        },
    },
    field!("fetch.max.bytes", fetch_max_bytes),
    Binding {
        name: "group.consumer.assignors",
        get: |c| {
            let names: Vec<&str> = c
                .groups
                .consumer
                .assignors
                .iter()
                .map(|a| a.name())
                .collect();
            Some(names.join(","))
        },
        set: |c, v| {
            let assignors: Option<Vec<_>> = v.split(',').map(assignor).collect();
            c.groups.consumer.assignors = assignors?;
            Some(())
        },
    },
    field!(
        "group.consumer.heartbeat.interval.ms",
        groups.consumer.heartbeat_interval_ms
    ),
    field!("group.consumer.max.size", groups.consumer.max_size),
    Binding {
        name: "group.consumer.migration.policy",
        get: |c| Some(c.groups.consumer.migration_policy.name().to_string()),
        set: |c, v| {
            let named = |policy: &MigrationPolicy| policy.name().eq_ignore_ascii_case(v);
            c.groups.consumer.migration_policy = [
                MigrationPolicy::Bidirectional,
                MigrationPolicy::Upgrade,
                MigrationPolicy::Downgrade,
                MigrationPolicy::Disabled,
            ]
            .into_iter()
            .find(named)?;
            Some(())
        },
    },
    field!(
        "group.consumer.session.timeout.ms",
        groups.consumer.session_timeout_ms
    ),
    field!(
        "group.initial.rebalance.delay.ms",
        groups.initial_rebalance_delay_ms
    ),
    field!(
        "group.max.session.timeout.ms",
        groups.max_session_timeout_ms
    ),
    field!("group.max.size", groups.max_size),
    field!(
        "group.min.session.timeout.ms",
        groups.min_session_timeout_ms
    ),
    field!(
        "group.share.delivery.count.limit",
        share.group.delivery_count_limit
    ),
    field!(
        "group.share.heartbeat.interval.ms",
        share.group.heartbeat_interval_ms
    ),
    field!("group.share.max.share.sessions", share.max_sessions),
    field!("group.share.max.size", share.max_size),
    field!(
        "group.share.partition.max.record.locks",
        share.group.max_record_locks
    ),
    field!(
        "group.share.record.lock.duration.ms",
        share.group.record_lock_duration_ms
    ),
    field!(
        "group.share.session.timeout.ms",
        share.group.session_timeout_ms
    ),
    field!(
        "share.coordinator.state.topic.num.partitions",
        share.state_partitions
    ),
    field!(
        "share.coordinator.state.topic.prune.interval.ms",
        share.prune_interval_ms
    ),
    field!("log.cleaner.backoff.ms", cleaner.backoff_ms),
    field!(
        "log.cleaner.dedupe.buffer.size",
        cleaner.dedupe_buffer_bytes
    ),
    flag!("log.cleaner.enable", cleaner.enable),
    Binding {
        name: "log.cleaner.io.max.bytes.per.second",
        get: |c| {
            Some(match c.cleaner.io_max_bytes_per_second {
                u64::MAX => "1.7976931348623157E308".to_string(),
                limit => format!("{:?}", limit as f64),
            })
        },
        set: |c, v| {
            let limit: f64 = v.parse().ok()?;
            // As much as a u64 holds is no limit; less than a byte would be none at all.
            c.cleaner.io_max_bytes_per_second = (limit as u64).max(1);
            Some(())
        },
    },
    field!(
        "log.flush.offset.checkpoint.interval.ms",
        recovery_checkpoint_interval_ms
    ),
    stands_in!("log.flush.scheduler.interval.ms", 1, flush_ms),
    field!("log.initial.task.delay.ms", initial_task_delay_ms),
    field!(
        "log.retention.check.interval.ms",
        retention_check_interval_ms
    ),
    stands_in!("log.retention.hours", 3_600_000, retention_ms),
    stands_in!("log.retention.minutes", 60_000, retention_ms),
    stands_in!("log.roll.hours", 3_600_000, segment_ms),
    stands_in!("log.roll.jitter.hours", 3_600_000, segment_jitter_ms),
    field!(
        "max.incremental.fetch.session.cache.slots",
        fetch_session_slots
    ),
    field!("max.request.partition.size.limit", max_request_partitions),
    field!("node.id", node_id),
    field!("num.partitions", num_partitions),
    field!(
        "offset.metadata.max.bytes",
        groups.offset_metadata_max_bytes
    ),
    field!(
        "offsets.retention.check.interval.ms",
        groups.offsets_retention_check_interval_ms
    ),
    Binding {
        name: "offsets.retention.minutes",
        get: |c| Some((c.groups.offsets_retention_ms / MINUTE).to_string()),
        set: |c, v| {
            c.groups.offsets_retention_ms = v.parse::<i64>().ok()?.checked_mul(MINUTE)?;
            Some(())
        },
    },
    field!("offsets.topic.num.partitions", groups.partitions),
    field!("offsets.topic.segment.bytes", offsets_segment_bytes),
    field!("producer.id.expiration.ms", producer_id_expiration_ms),
    field!("quota.window.num", quota_windows.num),
    field!("quota.window.size.seconds", quota_windows.size_seconds),
    field!(
        "replica.high.watermark.checkpoint.interval.ms",
        high_watermark_checkpoint_interval_ms
    ),
    field!("telemetry.max.bytes", telemetry_max_bytes),
    field!(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        transactions.abort_timed_out_interval_ms
    ),
    field!("transaction.max.timeout.ms", transactions.max_timeout_ms),
    field!(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        transactions.remove_expired_interval_ms
    ),
    field!(
        "transaction.state.log.num.partitions",
        transactions.partitions
    ),
    field!(
        "transaction.state.log.segment.bytes",
        transactions.segment_bytes
    ),
    field!(
        "transactional.id.expiration.ms",
        transactions.id_expiration_ms
    ),
];

fn binding(name: &str) -> Option<&'static Binding> {
    BINDINGS.iter().find(|binding| binding.name == name)
}

/// The topics' setting whose default a setting of the broker gives.
pub(crate) fn topic_key(broker_name: &str) -> Option<&'static TopicConfigKey> {
    TOPIC_CONFIG_KEYS
        .iter()
        .find(|key| key.broker_name == Some(broker_name))
}

/// The value of a setting that has a field; `None` for others, and for null.
pub(crate) fn value(config: &BrokerConfig, name: &str) -> Option<String> {
    match topic_key(name) {
        Some(key) => Some(key.value(&config.topic_defaults).to_string()),
        None => binding(name).and_then(|binding| (binding.get)(config)),
    }
}

/// Checks a value and sets its field, if it has one. The error is the end of Kafka's message.
pub(crate) fn set(config: &mut BrokerConfig, row: &Row, value: &str) -> Result<(), String> {
    let value = value.trim();
    row.check(value)?;
    if let Some(key) = topic_key(row.name) {
        return key.set(&mut config.topic_defaults, value);
    }
    match binding(row.name) {
        Some(binding) => {
            (binding.set)(config, value).ok_or_else(|| "Value is out of range".to_string())
        }
        None => Ok(()),
    }
}

/// The names that give a setting, the one that counts most first: `log.retention.ms`, `.minutes`, `.hours`.
pub(crate) fn synonyms(name: &'static str) -> &'static [&'static str] {
    const RETENTION: &[&str] = &[
        "log.retention.ms",
        "log.retention.minutes",
        "log.retention.hours",
    ];
    const ROLL: &[&str] = &["log.roll.ms", "log.roll.hours"];
    const JITTER: &[&str] = &["log.roll.jitter.ms", "log.roll.jitter.hours"];
    const FLUSH: &[&str] = &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"];
    [RETENTION, ROLL, JITTER, FLUSH]
        .into_iter()
        .find(|names| names.contains(&name))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configs::{BROKER_ROWS, Check, ConfigType, Effect};
    use std::{vec, vec::Vec};

    /// Another value than the one that there is, by the row's type and check.
    fn other_value(row: &Row, now: Option<&str>) -> String {
        let candidates: Vec<String> = match (row.config_type, row.check) {
            (ConfigType::Boolean, _) => vec!["true".to_string(), "false".to_string()],
            (ConfigType::List | ConfigType::String, Check::OneOf(all) | Check::ListOf(all)) => {
                all.iter().map(ToString::to_string).collect()
            }
            (ConfigType::String, Check::AnyCaseOf(all)) => {
                all.iter().map(|word| word.to_lowercase()).collect()
            }
            (ConfigType::List | ConfigType::String, _) => vec!["other".to_string()],
            (ConfigType::Double, Check::Real(..)) => vec!["0.25".to_string(), "0.75".to_string()],
            (ConfigType::Double, _) => vec!["1000.0".to_string()],
            (_, Check::AtLeast(least) | Check::Between(least, _)) => {
                vec![(least + 1).to_string(), (least + 2).to_string()]
            }
            _ => vec!["3".to_string(), "5".to_string()],
        };
        let found = candidates
            .into_iter()
            .find(|value| row.check(value).is_ok() && Some(&**value) != now);
        found.unwrap_or_else(|| panic!("{}", row.name))
    }

    /// Whether a setting is a bound of what groups may be given.
    fn bounds_groups(name: &str) -> bool {
        let rows = crate::configs::groups::GROUP_ROWS.iter();
        rows.flat_map(|row| crate::configs::groups::bounds(row.name))
            .any(|bound| bound == name)
    }

    #[test]
    fn effective_settings_and_no_others_have_a_field() {
        for row in BROKER_ROWS {
            let bound = binding(row.name).is_some() || topic_key(row.name).is_some();
            match row.effect {
                // They are looked up by name, where a group is given a setting.
                Effect::Effective if bounds_groups(row.name) => assert!(!bound),
                Effect::Effective => assert!(bound, "{} does nothing", row.name),
                Effect::Without(_) => {
                    // The defaults of topic settings that have no effect are told with the topic.
                    let by_topic = topic_key(row.name)
                        .is_some_and(|key| matches!(key.effect, Effect::Without(_)));
                    assert!(!bound || by_topic, "{}", row.name);
                }
                Effect::Server | Effect::Refused(_) => assert!(!bound, "{}", row.name),
            }
        }
        for binding in BINDINGS {
            assert!(
                crate::configs::broker_row(binding.name).is_some(),
                "{}",
                binding.name
            );
        }
    }

    #[test]
    fn a_setting_changes_its_field_and_is_read_back() {
        for row in BROKER_ROWS {
            if row.effect != Effect::Effective || bounds_groups(row.name) {
                continue;
            }
            let defaults = BrokerConfig::default();
            let default = value(&defaults, row.name);
            if row.name == "broker.id" || synonyms(row.name).is_empty() && default.is_some() {
                assert_eq!(default.as_deref(), row.default, "{}", row.name);
            }
            let mut config = defaults.clone();
            let other = other_value(row, default.as_deref());
            set(&mut config, row, &other).unwrap();
            assert_ne!(
                format!("{config:?}"),
                format!("{defaults:?}"),
                "{}",
                row.name
            );
            if default.is_some() {
                assert_eq!(value(&config, row.name), Some(other), "{}", row.name);
            }
        }
    }

    #[test]
    fn units() {
        let with = |name: &str, value: &str| {
            let mut config = BrokerConfig::default();
            set(
                &mut config,
                crate::configs::broker_row(name).unwrap(),
                value,
            )
            .unwrap();
            config
        };
        assert_eq!(
            with("log.retention.hours", "2").topic_defaults.retention_ms,
            7_200_000
        );
        assert_eq!(
            with("log.retention.minutes", "-1")
                .topic_defaults
                .retention_ms,
            -1
        );
        assert_eq!(
            with("offsets.retention.minutes", "2")
                .groups
                .offsets_retention_ms,
            120_000
        );
        let limited = with("log.cleaner.io.max.bytes.per.second", "1000.5");
        assert_eq!(limited.cleaner.io_max_bytes_per_second, 1000);
        let row = crate::configs::broker_row("log.retention.minutes").unwrap();
        assert!(set(&mut BrokerConfig::default(), row, "x").is_err());
    }
}
