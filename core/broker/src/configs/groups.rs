//! Settings of single groups, and of subscriptions of client metrics: their tables and their checks, which are Kafka's.

use alloc::{
    format,
    string::{String, ToString},
};

use ottla_protocol::{ErrorCode, Str};

use super::{
    dynamic::Given,
    row::{Check, ConfigType, Effect, Row, Update, invalid},
};
use crate::{
    ConsumerGroupSettings, ShareGroupSettings, share_partitions::SHARE_GROUP_CONFIGS,
    telemetry::compile,
};

const ASSIGNED_AT_ONCE: Effect =
    Effect::Without("a change is assigned with the heartbeat that brings it");
const NO_SHARE_INTERVAL: Effect = Effect::Without("share groups do without it");
const NO_STREAMS_GROUPS: Effect = Effect::Without("streams groups are not there yet");

const fn group(
    name: &'static str,
    config_type: ConfigType,
    default: &'static str,
    check: Check,
    effect: Effect,
    doc: &'static str,
) -> Row {
    Row::new(
        name,
        config_type,
        Some(default),
        check,
        Update::ClusterWide,
        effect,
        doc,
    )
}

/// The settings of a group, sorted by name.
#[rustfmt::skip]
pub static GROUP_ROWS: &[Row] = &[
    group("consumer.assignment.interval.ms", ConfigType::Int, "1000", Check::AtLeast(0), ASSIGNED_AT_ONCE, "Least time between two assignments."),
    group("consumer.heartbeat.interval.ms", ConfigType::Int, "5000", Check::AtLeast(1), Effect::Effective, "How often a member sends a heartbeat."),
    group("consumer.session.timeout.ms", ConfigType::Int, "45000", Check::AtLeast(1), Effect::Effective, "After which silence a member is gone."),
    group("share.assignment.interval.ms", ConfigType::Int, "1000", Check::AtLeast(0), NO_SHARE_INTERVAL, "Least time between two assignments."),
    group("share.auto.offset.reset", ConfigType::String, "latest", Check::ShareOffsetReset, Effect::Effective, "Where a new share group begins."),
    group("share.delivery.count.limit", ConfigType::Int, "5", Check::AtLeast(2), Effect::Effective, "How often a record is delivered before it is given up."),
    group("share.heartbeat.interval.ms", ConfigType::Int, "5000", Check::AtLeast(1), Effect::Effective, "How often a member sends a heartbeat."),
    group("share.isolation.level", ConfigType::String, "read_uncommitted", Check::OneOf(&["read_committed", "read_uncommitted"]), Effect::Effective, "Whether records of open and aborted transactions are delivered."),
    group("share.partition.max.record.locks", ConfigType::Int, "2000", Check::AtLeast(100), Effect::Effective, "Most records of a partition that are out."),
    group("share.record.lock.duration.ms", ConfigType::Int, "30000", Check::AtLeast(1000), Effect::Effective, "How long a record is out before it comes again."),
    group("share.renew.acknowledge.enable", ConfigType::Boolean, "true", Check::Any, Effect::Effective, "Whether a consumer may have a record for longer."),
    group("share.session.timeout.ms", ConfigType::Int, "45000", Check::AtLeast(1), Effect::Effective, "After which silence a member is gone."),
    group("streams.assignment.interval.ms", ConfigType::Int, "1000", Check::AtLeast(0), NO_STREAMS_GROUPS, "Least time between two assignments."),
    group("streams.heartbeat.interval.ms", ConfigType::Int, "5000", Check::AtLeast(1), NO_STREAMS_GROUPS, "How often a member sends a heartbeat."),
    group("streams.initial.rebalance.delay.ms", ConfigType::Int, "3000", Check::AtLeast(0), NO_STREAMS_GROUPS, "How long the first join waits for others."),
    group("streams.num.standby.replicas", ConfigType::Int, "0", Check::AtLeast(0), NO_STREAMS_GROUPS, "Standby tasks of each task."),
    group("streams.session.timeout.ms", ConfigType::Int, "45000", Check::AtLeast(1), NO_STREAMS_GROUPS, "After which silence a member is gone."),
];

/// The settings of a subscription of client metrics, sorted by name. Kafka takes no APPEND and SUBTRACT of its lists.
#[rustfmt::skip]
pub static CLIENT_METRICS_ROWS: &[Row] = &[
    group("interval.ms", ConfigType::Int, "300000", Check::Any, Effect::Effective, "How often metrics are pushed."),
    group("match", ConfigType::List, "", Check::Any, Effect::Effective, "Which clients push: NAME=PATTERN."),
    group("metrics", ConfigType::List, "", Check::Any, Effect::Effective, "Prefixes of the metrics that are pushed."),
];

/// The row of a name in one of these tables.
pub(crate) fn row_of(rows: &'static [Row], name: &str) -> Option<&'static Row> {
    rows.iter().find(|row| row.name == name)
}

/// The broker's setting that gives a group's default.
pub(crate) fn broker_name(name: &str) -> String {
    match name {
        "share.auto.offset.reset" | "share.isolation.level" | "share.renew.acknowledge.enable" => {
            name.to_string()
        }
        _ => format!("group.{name}"),
    }
}

/// The broker's settings that bound a group's, if there are such: the least, the most.
pub(super) fn bounds(name: &str) -> [String; 2] {
    let (kind, rest) = name.split_once('.').unwrap_or((name, ""));
    let most = match rest {
        "num.standby.replicas" => "standby.replicas",
        _ => rest,
    };
    [
        format!("group.{kind}.min.{rest}"),
        format!("group.{kind}.max.{most}"),
    ]
}

/// What a group was given as it is in force: a number that the broker's bounds don't allow any more is the bound (Kafka 4.3).
pub(crate) fn in_force(given: &Given, broker: &dyn Fn(&str) -> Option<i64>) -> Given {
    let bounded = |(name, value): (&Str, &Str)| {
        let [least, most] = bounds(name);
        let value = match value.parse::<i64>() {
            Ok(number) => {
                let at_least = broker(&least).map_or(number, |bound| number.max(bound));
                let at_most = broker(&most).map_or(at_least, |bound| at_least.min(bound));
                at_most.to_string().into()
            }
            Err(_) => value.clone(),
        };
        (name.clone(), value)
    };
    given.iter().map(bounded).collect()
}

/// What must hold between the broker's settings for groups; else the name of one that doesn't fit, and why.
pub(crate) fn check_of_all(broker: &dyn Fn(&str) -> Option<i64>) -> Result<(), (String, String)> {
    for row in GROUP_ROWS {
        let name = broker_name(row.name);
        let [least, most] = bounds(row.name);
        let (Some(value), least_value, most_value) = (broker(&name), broker(&least), broker(&most))
        else {
            continue;
        };
        if let (Some(least_value), Some(most_value)) = (least_value, most_value)
            && most_value < least_value
        {
            let why = format!("it must not be below {least}, {least_value}");
            return Err((most, why));
        }
        if let Some(bound) = least_value.filter(|bound| value < *bound) {
            return Err((name, format!("it must not be below {least}, {bound}")));
        }
        if let Some(bound) = most_value.filter(|bound| value > *bound) {
            return Err((name, format!("it must not be above {most}, {bound}")));
        }
    }
    for kind in ["consumer", "share", "streams"] {
        let heartbeat = format!("group.{kind}.heartbeat.interval.ms");
        let session = format!("group.{kind}.session.timeout.ms");
        if let (Some(interval), Some(timeout)) = (broker(&heartbeat), broker(&session))
            && interval >= timeout
        {
            let why = format!("it must be below {session}, {timeout}");
            return Err((heartbeat, why));
        }
    }
    Ok(())
}

/// What a consumer group has for itself.
pub(crate) fn consumer_settings(given: &Given) -> ConsumerGroupSettings {
    let of = |name: &'static str| given.get(&Str::from_static(name))?.parse().ok();
    ConsumerGroupSettings {
        session_timeout_ms: of("consumer.session.timeout.ms"),
        heartbeat_interval_ms: of("consumer.heartbeat.interval.ms"),
    }
}

type Refusal = (ErrorCode, String);

/// Checks all settings of a group; `broker` has the broker's by name.
pub(crate) fn check_group(
    given: &Given,
    broker: &dyn Fn(&str) -> Option<i64>,
) -> Result<(), Refusal> {
    let refused = |why: String| Err((ErrorCode::INVALID_CONFIG, why));
    for name in given.keys() {
        if row_of(GROUP_ROWS, name).is_none() {
            return refused(format!("Unknown group config name: {name}"));
        }
    }
    for (name, value) in given {
        let Some(row) = row_of(GROUP_ROWS, name) else {
            continue;
        };
        if let Err(why) = row.check(value) {
            return refused(invalid(name, value, &why));
        }
        let Ok(number) = value.parse::<i64>() else {
            continue;
        };
        let [least, most] = bounds(name);
        if broker(&least).is_some_and(|bound| number < bound) {
            return refused(format!("{name} must be greater than or equal to {least}"));
        }
        if broker(&most).is_some_and(|bound| number > bound) {
            return refused(format!("{name} must be less than or equal to {most}"));
        }
    }
    // A member must have the time to be heard.
    for kind in ["consumer", "share", "streams"] {
        let of = |what: &str| {
            let name = format!("{kind}.{what}");
            let given = given.iter().find(|(key, _)| ***key == *name);
            match given {
                Some((_, value)) => value.parse::<i64>().ok(),
                None => broker(&broker_name(&name)),
            }
        };
        let (session, heartbeat) = (of("session.timeout.ms"), of("heartbeat.interval.ms"));
        if let (Some(session), Some(heartbeat)) = (session, heartbeat)
            && session <= heartbeat
        {
            return refused(format!(
                "{kind}.session.timeout.ms must be greater than {kind}.heartbeat.interval.ms"
            ));
        }
    }
    Ok(())
}

/// What a share group has for itself: `given` over what all have. `None` if that is nothing.
///
/// # Errors
/// A value that isn't allowed.
pub(crate) fn share_settings(
    given: &Given,
    of_all: ShareGroupSettings,
) -> Result<Option<ShareGroupSettings>, String> {
    let mut settings = of_all;
    let mut any = false;
    for (name, value) in given {
        if SHARE_GROUP_CONFIGS.contains(&&**name) {
            settings.set(name, value)?;
            any = true;
        }
    }
    Ok(any.then_some(settings))
}

/// Checks all settings of a subscription.
pub(crate) fn check_client_metrics(given: &Given) -> Result<(), Refusal> {
    for (name, value) in given {
        let Some(row) = row_of(CLIENT_METRICS_ROWS, name) else {
            let why = format!("Unknown client metrics configuration: {name}");
            return Err((ErrorCode::INVALID_REQUEST, why));
        };
        row.check(value)
            .map_err(|why| (ErrorCode::INVALID_CONFIG, invalid(name, value, &why)))?;
        if row.name == "interval.ms"
            && !value
                .parse()
                .is_ok_and(|ms: i64| (100..=3_600_000).contains(&ms))
        {
            let why = format!(
                "Invalid value {value} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
            );
            return Err((ErrorCode::INVALID_REQUEST, why));
        }
        if row.name == "match" {
            compile(value).map_err(|pattern| {
                let why = format!("Illegal client matching pattern: {pattern}");
                (ErrorCode::INVALID_CONFIG, why)
            })?;
        }
    }
    Ok(())
}
