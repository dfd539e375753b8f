//! Changing settings: AlterConfigs and IncrementalAlterConfigs, of topics, brokers, groups and client metrics. What is changed is
//! on storage before it is in force, and in force before it is answered.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use ottla_protocol::{ErrorCode, Str};
use ottla_record::Now;

use super::{
    binding,
    dynamic::{DynamicConfigs, Given, resource},
    groups::{
        CLIENT_METRICS_ROWS, GROUP_ROWS, check_client_metrics, check_group, consumer_settings,
        in_force, row_of, share_settings,
    },
    row::{ConfigType, Update, invalid, offending, words},
    rows::broker_row,
};
use crate::{
    Broker, Output,
    api::repeated,
    config::DEDUPE_BUFFER,
    topic_config::topic_config_key,
    topics::{TopicIndex, check_topic_name, effective_config},
};

/// What is to be done with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

impl Operation {
    /// The operation that a request numbers so.
    pub(crate) fn of(number: i8) -> Option<Self> {
        match number {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Delete => "DELETE",
            Self::Append => "APPEND",
            Self::Subtract => "SUBTRACT",
        }
    }
}

/// One change of a request.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) name: Str,
    pub(crate) operation: Operation,
    pub(crate) value: Option<Str>,
}

pub(crate) type Refusal = (ErrorCode, String);

/// A change that was checked, and is to be made with the others of its request.
#[derive(Debug)]
pub(crate) enum Altered {
    /// Of a topic: what it was given.
    Topic(TopicIndex, Vec<(Str, Str)>),
    /// Of a group or client metrics: resource type and name.
    Other(i8, Str, Given),
}

/// Whether a setting of something that isn't a topic is one that can be changed here, to this value.
pub(crate) fn can_be_set(resource_type: i8, name: &str, value: &str) -> bool {
    let row = match resource_type {
        resource::BROKER => broker_row(name).filter(|row| row.update != Update::ReadOnly),
        resource::GROUP => row_of(GROUP_ROWS, name),
        resource::CLIENT_METRICS => row_of(CLIENT_METRICS_ROWS, name),
        _ => None,
    };
    row.is_some_and(|row| row.check(value).is_ok())
}

fn request(why: impl Into<String>) -> Refusal {
    (ErrorCode::INVALID_REQUEST, why.into())
}

fn config(why: impl Into<String>) -> Refusal {
    (ErrorCode::INVALID_CONFIG, why.into())
}

impl Broker {
    /// Makes the changes that a request has for each resource, of a type and a name; `alter` checks those of one. What became of each:
    /// all of its changes are made, or none. A resource that is named twice is refused.
    pub(crate) fn alter_each<R>(
        &mut self,
        now: Now,
        resources: &[R],
        key: impl Fn(&R) -> (i8, Str),
        mut alter: impl FnMut(&mut Self, &R) -> Result<Option<Altered>, Refusal>,
    ) -> Vec<(ErrorCode, Option<Str>)> {
        let twice = repeated(resources.iter().map(&key));
        let mut altered = Vec::new();
        let mut done: Vec<Result<(), Refusal>> = Vec::with_capacity(resources.len());
        for resource in resources {
            let one = if twice.contains(&key(resource)) {
                let why = "Each resource must appear at most once.";
                Err((ErrorCode::INVALID_REQUEST, why.into()))
            } else {
                alter(self, resource)
            };
            done.push(one.map(|one| altered.extend(one)));
        }
        if let Err(refusal) = self.apply_altered(now, altered) {
            for one in done.iter_mut().filter(|one| one.is_ok()) {
                *one = Err(refusal.clone());
            }
        }
        let told = done.into_iter().map(|one| match one {
            Ok(()) => (ErrorCode::NONE, None),
            Err((code, why)) => (code, Some(why.into())),
        });
        told.collect()
    }

    /// Checks a change of the settings of one thing; with `afresh` what isn't named goes back to its default. What is left to be done
    /// is for [`Self::apply_altered`]; a broker's own settings are changed at once.
    pub(crate) fn alter_configs(
        &mut self,
        now: Now,
        resource_type: i8,
        name: &str,
        changes: &[Change],
        afresh: bool,
        validate_only: bool,
    ) -> Result<Option<Altered>, Refusal> {
        let without: Vec<&str> = changes
            .iter()
            .filter(|change| change.value.is_none() && change.operation != Operation::Delete)
            .map(|change| &*change.name)
            .collect();
        if !without.is_empty() {
            let names = without.join(",");
            return Err(request(format!("Null value not supported for : {names}")));
        }
        let mut names: Vec<&Str> = changes.iter().map(|change| &change.name).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() < changes.len() {
            return Err(request("Error due to duplicate config keys"));
        }
        self.check_resource(resource_type, name)?;
        if resource_type == resource::BROKER_LOGGER {
            return self.alter_loggers(changes).map(|()| None);
        }
        let mut given = match afresh {
            true => Given::new(),
            false => self.given(resource_type, name),
        };
        for change in changes {
            self.change(resource_type, &mut given, change)?;
        }
        let altered = match resource_type {
            resource::TOPIC => self.check_topic(name, &given)?,
            resource::BROKER => {
                self.alter_broker(now, name, given, validate_only)?;
                None
            }
            _ => {
                if resource_type == resource::GROUP {
                    check_group(&given, &|name| self.broker_number(name))?;
                    share_settings(&given, self.config.share.group).map_err(config)?;
                } else {
                    check_client_metrics(&given)?;
                }
                Some(Altered::Other(resource_type, name.into(), given))
            }
        };
        Ok(altered.filter(|_| !validate_only))
    }

    /// Makes the changes of one request: each of the two files that have them is written once.
    pub(crate) fn apply_altered(&mut self, now: Now, altered: Vec<Altered>) -> Result<(), Refusal> {
        let mut topics = Vec::new();
        let mut others = Vec::new();
        let mut changed = self.configs.clone();
        for one in altered {
            match one {
                Altered::Topic(index, given) => topics.push((index, given)),
                Altered::Other(resource_type, name, given) => {
                    changed.replace(resource_type, &name, given);
                    others.push((resource_type, name));
                }
            }
        }
        if !others.is_empty() {
            self.store(changed)?;
        }
        for (resource_type, name) in others {
            if resource_type == resource::GROUP {
                self.put_group_in_force(&name);
            } else {
                self.put_subscription_in_force(&name);
            }
        }
        if topics.is_empty() {
            return Ok(());
        }
        self.set_topic_configs(now, topics)
            .map_err(|error| (ErrorCode::KAFKA_STORAGE_ERROR, error.to_string()))
    }

    /// What a request may name.
    fn check_resource(&self, resource_type: i8, name: &str) -> Result<(), Refusal> {
        match resource_type {
            resource::TOPIC if name.is_empty() => {
                Err(request("Default topic resources are not allowed."))
            }
            resource::TOPIC => {
                check_topic_name(name).map_err(|why| (ErrorCode::INVALID_TOPIC_EXCEPTION, why))?;
                match self.topics.by_name(name) {
                    Some(_) => Ok(()),
                    None => Err((
                        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                        format!("The topic '{name}' does not exist."),
                    )),
                }
            }
            resource::BROKER if name.is_empty() => Ok(()),
            resource::BROKER | resource::BROKER_LOGGER => match name.parse::<i32>() {
                Err(_) => Err(request(format!(
                    "Node id must be an integer, but it is: {name}"
                ))),
                Ok(id) if id != self.identity.node_id => Err(request(format!(
                    "Unexpected broker id, expected {}, but received {name}",
                    self.identity.node_id
                ))),
                Ok(_) => Ok(()),
            },
            resource::GROUP if name.is_empty() => {
                Err(request("Default group resources are not allowed."))
            }
            resource::CLIENT_METRICS if name.is_empty() => {
                Err(request("Subscription name can't be empty"))
            }
            resource::GROUP | resource::CLIENT_METRICS => Ok(()),
            other => Err(request(format!("Unknown resource type {other}"))),
        }
    }

    /// What a thing was given so far.
    pub(crate) fn given(&self, resource_type: i8, name: &str) -> Given {
        if resource_type == resource::TOPIC {
            let topic = self.topics.by_name(name);
            return topic
                .map(|t| t.configs.iter().cloned().collect())
                .unwrap_or_default();
        }
        self.configs
            .of(resource_type, name)
            .cloned()
            .unwrap_or_default()
    }

    fn change(&self, resource_type: i8, given: &mut Given, change: &Change) -> Result<(), Refusal> {
        let value = change.value.as_deref().unwrap_or_default().trim();
        match change.operation {
            Operation::Set => {
                given.insert(change.name.clone(), value.into());
            }
            Operation::Delete => {
                given.remove(&change.name);
            }
            Operation::Append | Operation::Subtract => {
                let name = &*change.name;
                let (_, default) = match resource_type {
                    resource::TOPIC => topic_config_key(name).map(|key| {
                        let default = key.value(&self.config.topic_defaults);
                        (key.config_type, default)
                    }),
                    resource::BROKER => broker_row(name).map(|row| {
                        let default = self.described_value(row).unwrap_or_default();
                        (row.config_type, default.into())
                    }),
                    resource::GROUP => {
                        row_of(GROUP_ROWS, name).map(|row| (row.config_type, Str::new()))
                    }
                    _ => None,
                }
                .filter(|(config_type, _)| *config_type == ConfigType::List)
                .ok_or_else(|| {
                    let operation = change.operation.name();
                    config(format!(
                        "Can't {operation} to key {name} because its type is not LIST."
                    ))
                })?;
                let old = given.get(&change.name).cloned().unwrap_or(default);
                let mut list: Vec<&str> = words(&old).collect();
                // As in Kafka nothing is something that can be appended, and is refused where it can't be.
                for word in value.split(',').map(str::trim) {
                    list.retain(|other| *other != word);
                    if change.operation == Operation::Append {
                        list.push(word);
                    }
                }
                let list = list.join(",");
                given.insert(change.name.clone(), list.into());
            }
        }
        Ok(())
    }

    fn check_topic(&self, name: &str, given: &Given) -> Result<Option<Altered>, Refusal> {
        let pairs = given.iter().map(|(key, value)| (&**key, &**value));
        let (effective, stored) =
            effective_config(&self.config.topic_defaults, pairs).map_err(config)?;
        effective.check().map_err(config)?;
        let index = self.topics.index_by_name(name);
        Ok(index.map(|index| Altered::Topic(index, stored)))
    }

    fn alter_broker(
        &mut self,
        now: Now,
        name: &str,
        given: Given,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        let mut fixed = Vec::new();
        let mut of_one = Vec::new();
        for key in given.keys() {
            let Some(row) = broker_row(key) else {
                return Err(config(format!("Unknown broker config name: {key}")));
            };
            match row.update {
                Update::ReadOnly => fixed.push(row.name),
                Update::PerBroker if name.is_empty() => of_one.push(row.name),
                _ => {}
            }
        }
        if !fixed.is_empty() {
            let names = fixed.join(", ");
            return Err(request(format!(
                "Cannot update these configs dynamically: [{names}]"
            )));
        }
        if !of_one.is_empty() {
            let names = of_one.join(", ");
            return Err(request(format!(
                "Cannot update these configs at default cluster level, broker id must be specified: [{names}]"
            )));
        }
        for (key, value) in &given {
            if let Some(row) = broker_row(key) {
                let mut trial = self.config.clone();
                binding::set(&mut trial, row, value)
                    .map_err(|why| request(invalid(key, offending(row.check, value), &why)))?;
            }
        }
        let mut changed = self.configs.clone();
        changed.replace(resource::BROKER, name, given);
        let effective = changed.over(&self.start_config);
        effective.topic_defaults.check().map_err(request)?;
        let dedupe_buffer = Str::from_static(DEDUPE_BUFFER);
        let of_it = changed.of(resource::BROKER, name);
        if of_it.is_some_and(|given| given.contains_key(&dedupe_buffer)) {
            let threads = effective.properties.get("log.cleaner.threads");
            let threads = threads.map(String::as_str);
            effective.check_dedupe_buffer(threads).map_err(request)?;
        }
        if validate_only {
            return Ok(());
        }
        self.store(changed)?;
        self.reconfigure(now, effective);
        Ok(())
    }

    /// The broker has no loggers.
    fn alter_loggers(&self, changes: &[Change]) -> Result<(), Refusal> {
        match changes.first() {
            None => Ok(()),
            Some(Change {
                operation: operation @ (Operation::Append | Operation::Subtract),
                ..
            }) => Err(request(format!(
                "{} operation is not allowed for the BROKER_LOGGER resource",
                operation.name()
            ))),
            Some(change) => Err(config(format!("Logger {} does not exist!", change.name))),
        }
    }

    fn store(&mut self, changed: DynamicConfigs) -> Result<(), Refusal> {
        changed
            .write(&*self.storage)
            .map_err(|error| (ErrorCode::KAFKA_STORAGE_ERROR, error.to_string()))?;
        self.configs = changed;
        Ok(())
    }

    /// Makes what a group was given count.
    fn put_group_in_force(&mut self, name: &str) {
        let group = Str::from(name);
        let given = self.configs.of(resource::GROUP, name);
        let given = given.map(|given| in_force(given, &|name| self.broker_number(name)));
        let Some(given) = given else {
            self.set_share_group_settings(&group, None);
            return self.set_consumer_group_settings(&group, None);
        };
        // It was checked when it was set; what a JVM Kafka let pass and Ottla doesn't leaves the group with what all have.
        let share = share_settings(&given, self.config.share.group).unwrap_or_default();
        self.set_share_group_settings(&group, share);
        self.set_consumer_group_settings(&group, Some(consumer_settings(&given)));
    }

    /// At open: makes what groups were given count.
    pub(crate) fn put_groups_in_force(&mut self) {
        let names: Vec<Str> = self.configs.names(resource::GROUP).cloned().collect();
        for name in names {
            self.put_group_in_force(&name);
        }
    }

    /// Makes what a subscription of client metrics was given count.
    fn put_subscription_in_force(&mut self, name: &str) {
        let given = self.configs.of(resource::CLIENT_METRICS, name);
        // It was checked when it was set, but a JVM Kafka takes expressions that can't be compiled here.
        if let Err(pattern) = self.telemetry.subscribe(&name.into(), given) {
            let why =
                format!("client metrics {name}: `{pattern}` can't be matched, so that nobody is");
            self.outputs.push_back(Output::Warn(why));
        }
    }

    /// At open: makes the subscriptions count.
    pub(crate) fn put_subscriptions_in_force(&mut self) {
        let names: Vec<Str> = self
            .configs
            .names(resource::CLIENT_METRICS)
            .cloned()
            .collect();
        for name in names {
            self.put_subscription_in_force(&name);
        }
    }

    /// A number among the broker's settings.
    fn broker_number(&self, name: &str) -> Option<i64> {
        self.described_value(broker_row(name)?)?.parse().ok()
    }
}
