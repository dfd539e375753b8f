//! What DescribeConfigs tells: values, where they come from, and what would count if they weren't there. All as Kafka has it: the
//! list of synonyms begins with the setting's own name, so that a value in a larger unit (`log.retention.hours`) shows up behind
//! one in milliseconds only.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use ottla_protocol::Str;

use super::{
    binding,
    dynamic::{Given, resource},
    groups::{CLIENT_METRICS_ROWS, GROUP_ROWS, broker_name},
    row::{ConfigType, Row, Update},
    rows::{BROKER_ROWS, broker_row},
};
use crate::{
    Broker,
    topic_config::{TOPIC_CONFIG_KEYS, TopicConfig},
};

/// Where a value comes from, as answers number it.
pub(crate) mod source {
    pub(crate) const DYNAMIC_TOPIC: i8 = 1;
    pub(crate) const DYNAMIC_BROKER: i8 = 2;
    pub(crate) const DYNAMIC_DEFAULT_BROKER: i8 = 3;
    pub(crate) const STATIC_BROKER: i8 = 4;
    pub(crate) const DEFAULT: i8 = 5;
    pub(crate) const CLIENT_METRICS: i8 = 7;
    pub(crate) const GROUP: i8 = 8;
}

/// A value, its name and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Synonym {
    pub(crate) name: Str,
    pub(crate) value: Option<Str>,
    pub(crate) source: i8,
}

/// A setting and all there is to say of it.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) name: &'static str,
    pub(crate) value: Option<Str>,
    pub(crate) source: i8,
    pub(crate) config_type: ConfigType,
    pub(crate) read_only: bool,
    pub(crate) sensitive: bool,
    pub(crate) documentation: String,
    /// The one in force first.
    pub(crate) synonyms: Vec<Synonym>,
}

impl Broker {
    /// A topic's settings: `config` is in force, `given` what the topic was given.
    pub(crate) fn describe_topic(
        &self,
        config: &TopicConfig,
        given: &[(Str, Str)],
    ) -> Vec<Described> {
        TOPIC_CONFIG_KEYS
            .iter()
            .map(|key| {
                let value = key.value(config);
                let mut synonyms = Vec::new();
                if given.iter().any(|(name, _)| *name == key.name) {
                    synonyms.push(Synonym {
                        name: Str::from_static(key.name),
                        value: Some(value.clone()),
                        source: source::DYNAMIC_TOPIC,
                    });
                }
                if let Some(row) = key.broker_name.and_then(broker_row) {
                    synonyms.extend(self.broker_synonyms(row));
                }
                Described {
                    name: key.name,
                    value: Some(value),
                    source: first_source(&synonyms),
                    config_type: key.config_type,
                    read_only: false,
                    sensitive: false,
                    documentation: key.documentation(),
                    synonyms,
                }
            })
            .collect()
    }

    /// This broker's settings.
    pub(crate) fn describe_broker(&self) -> Vec<Described> {
        BROKER_ROWS
            .iter()
            .map(|row| (row, self.broker_synonyms(row)))
            .filter(|(row, synonyms)| !row.is_internal || first_source(synonyms) != source::DEFAULT)
            .map(|(row, synonyms)| described(row, synonyms))
            .collect()
    }

    /// What all brokers were given while they ran.
    pub(crate) fn describe_all_brokers(&self) -> Vec<Described> {
        let given = self.configs.of(resource::BROKER, "");
        let given = given.into_iter().flatten();
        given
            .filter_map(|(name, value)| {
                let row = broker_row(name)?;
                let synonym = Synonym {
                    name: name.clone(),
                    value: told(row, value),
                    source: source::DYNAMIC_DEFAULT_BROKER,
                };
                Some(described(row, alloc::vec![synonym]))
            })
            .collect()
    }

    /// A group's settings, whether there is such a group or not.
    pub(crate) fn describe_group(&self, name: &str) -> Vec<Described> {
        let given = self.configs.of(resource::GROUP, name);
        GROUP_ROWS
            .iter()
            .map(|row| {
                let mut synonyms = of_itself(row, given, source::GROUP);
                match broker_row(&broker_name(row.name)) {
                    Some(of_all) => synonyms.extend(self.broker_synonyms(of_all)),
                    None => synonyms.extend(default_of(row)),
                }
                described(row, synonyms)
            })
            .collect()
    }

    /// The settings of a subscription of client metrics.
    pub(crate) fn describe_client_metrics(&self, name: &str) -> Vec<Described> {
        let given = self.configs.of(resource::CLIENT_METRICS, name);
        CLIENT_METRICS_ROWS
            .iter()
            .map(|row| {
                let synonyms = of_itself(row, given, source::CLIENT_METRICS);
                let mut described = described(row, synonyms);
                described.value = described.value.or(row.default.map(Str::from_static));
                described
            })
            .collect()
    }

    /// The value that DescribeConfigs tells of a setting of the broker.
    pub(super) fn described_value(&self, row: &'static Row) -> Option<String> {
        let first = self.broker_synonyms(row).into_iter().next()?;
        first.value.map(|value| value.to_string())
    }

    fn broker_synonyms(&self, row: &'static Row) -> Vec<Synonym> {
        let alone = [row.name];
        let names = match binding::synonyms(row.name) {
            [] => &alone[..],
            names => names,
        };
        let rows = || names.iter().filter_map(|name| broker_row(name));
        let node = self.identity.node_id.to_string();
        let changed = |name: &str, row: &Row| {
            let given = self.configs.of(resource::BROKER, name)?;
            given.get(&Str::from_static(row.name)).cloned()
        };
        let mut synonyms = Vec::new();
        let mut add = |row: &Row, value: Option<Str>, source: i8| {
            let Some(value) = value else { return };
            synonyms.push(Synonym {
                name: Str::from_static(row.name),
                value: told(row, &value),
                source,
            });
        };
        rows().for_each(|row| add(row, changed(&node, row), source::DYNAMIC_BROKER));
        rows().for_each(|row| add(row, changed("", row), source::DYNAMIC_DEFAULT_BROKER));
        rows().for_each(|row| add(row, self.given_at_start(row), source::STATIC_BROKER));
        rows().for_each(|row| add(row, row.default.map(Str::from_static), source::DEFAULT));
        let first = synonyms.iter().position(|synonym| synonym.name == row.name);
        synonyms.drain(..first.unwrap_or(synonyms.len()));
        synonyms
    }

    /// What the broker was started with, by a `server.properties` or by a program that embeds it.
    fn given_at_start(&self, row: &Row) -> Option<Str> {
        let properties = &self.start_config.properties;
        if matches!(row.name, "node.id" | "broker.id") {
            let id = self.identity.node_id.to_string();
            let is_given = properties.contains_key(row.name) || row.default != Some(&*id);
            return is_given.then(|| id.into());
        }
        if let Some(value) = properties.get(row.name) {
            return Some(value.as_str().into());
        }
        let value = binding::value(&self.start_config, row.name)?;
        let default = match (row.default, binding::topic_key(row.name)) {
            // A value that came by a setting of a larger unit is that one's.
            (None, Some(_))
                if binding::synonyms(row.name)
                    .iter()
                    .any(|name| properties.contains_key(*name)) =>
            {
                return None;
            }
            (None, Some(key)) => Some(key.value(&TopicConfig::default())),
            (default, _) => default.map(Str::from_static),
        };
        (default.as_deref() != Some(&*value)).then(|| value.into())
    }
}

fn first_source(synonyms: &[Synonym]) -> i8 {
    synonyms
        .first()
        .map_or(source::DEFAULT, |first| first.source)
}

/// A secret is not told.
fn told(row: &Row, value: &Str) -> Option<Str> {
    (row.config_type != ConfigType::Password).then(|| value.clone())
}

fn default_of(row: &Row) -> Option<Synonym> {
    Some(Synonym {
        name: Str::from_static(row.name),
        value: Some(Str::from_static(row.default?)),
        source: source::DEFAULT,
    })
}

fn of_itself(row: &Row, given: Option<&Given>, source: i8) -> Vec<Synonym> {
    let value = given.and_then(|given| given.get(&Str::from_static(row.name)));
    let synonym = value.map(|value| Synonym {
        name: Str::from_static(row.name),
        value: Some(value.clone()),
        source,
    });
    synonym.into_iter().collect()
}

fn described(row: &'static Row, synonyms: Vec<Synonym>) -> Described {
    Described {
        name: row.name,
        value: synonyms.first().and_then(|first| first.value.clone()),
        source: first_source(&synonyms),
        config_type: row.config_type,
        read_only: row.update == Update::ReadOnly,
        sensitive: row.config_type == ConfigType::Password,
        documentation: row.documentation(),
        synonyms,
    }
}
