//! Configuration: librdkafka's properties by name, and Ottla's own.
//!
//! There is one table, in `rows/`, from which parsing, checking, [`Config::dump`], `CONFIGURATION.md` ([`document`]) and what the bindings
//! show come. `typed.rs` turns properties into the settings of the client and of the embedded broker.

pub(crate) mod address;
pub mod document;
mod property;
mod rows;
pub(crate) mod typed;

pub use property::{AppliesTo, Effect, Importance, Kind, Property, Scope};

use crate::event::LogLine;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Gets log lines as they come, from any thread, at times under the handle's lock: it must not call the handle.
pub type Logger = Arc<dyn Fn(&LogLine) + Send + Sync>;

/// An application's partitioner.
pub trait CustomPartitioner: Send + Sync {
    /// The partition for a key, in `0..partitions`; anything else fails the record with `_UNKNOWN_PARTITION`. `opaque` is the
    /// record's. As in librdkafka, it is not asked about records without a key unless `sticky.partitioning.linger.ms` is 0. Called
    /// while the producer is in use: it must not call the producer.
    fn partition(&self, topic: &str, key: Option<&[u8]>, partitions: i32, opaque: usize) -> i32;
}

/// Why a property was not taken (`rd_kafka_conf_res_t` and its text).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// There is no property of this name (`RD_KAFKA_CONF_UNKNOWN`).
    Unknown(String),
    /// The value is not one that the property can have, or the property is refused (`RD_KAFKA_CONF_INVALID`).
    Invalid(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) | Self::Invalid(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<ConfigError> for crate::KafkaError {
    fn from(error: ConfigError) -> Self {
        Self::new(crate::ErrCode::INVALID_ARG, error.to_string())
    }
}

/// All properties, in the table's order.
pub fn properties() -> impl Iterator<Item = &'static Property> {
    rows::SECTIONS.iter().flat_map(|(_, rows)| rows.iter())
}

/// The partition that the value `partitioner` of the property of that name gives a key; `None` where any partition will do, and for
/// unknown names.
pub fn partition_for(partitioner: &str, key: Option<&[u8]>, partition_count: i32) -> Option<i32> {
    ottla_client::producer::partitioner::PartitionerKind::from_name(partitioner)?
        .partition_for(key, partition_count)
}

/// The row of a name in a scope; the broker's count as global ones.
fn find(topic: bool, name: &str) -> Option<&'static Property> {
    static BY_NAME: OnceLock<HashMap<(bool, &'static str), &'static Property>> = OnceLock::new();
    let by_name = BY_NAME.get_or_init(|| {
        properties()
            .map(|row| ((row.scope == Scope::Topic, row.name), row))
            .collect()
    });
    let row = *by_name.get(&(topic, name))?;
    match row.kind {
        Kind::Alias(of) => by_name.get(&(topic, of)).copied(),
        _ => Some(row),
    }
}

fn unknown(name: &str) -> ConfigError {
    ConfigError::Unknown(format!("No such configuration property: \"{name}\""))
}

/// Values of one scope, as they were set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Values(BTreeMap<&'static str, String>);

impl Values {
    fn set(&mut self, row: &'static Property, value: &str) -> Result<(), ConfigError> {
        if let Effect::Refused(reason) = row.effect {
            return Err(ConfigError::Invalid(format!(
                "Property \"{}\" can't be set: {reason}",
                row.name
            )));
        }
        let value = row.normalize(value)?;
        if row.name == "partitioner"
            && ottla_client::producer::partitioner::PartitionerKind::from_name(&value).is_none()
        {
            let text = format!("Invalid value for configuration property \"partitioner\": {value}");
            return Err(ConfigError::Invalid(text));
        }
        self.0.insert(row.name, value);
        Ok(())
    }

    fn get(&self, row: &'static Property) -> Result<String, ConfigError> {
        if row.kind == Kind::Function {
            return Err(ConfigError::Invalid(format!(
                "Property \"{}\" has no text",
                row.name
            )));
        }
        Ok(self
            .0
            .get(row.name)
            .map_or(row.default, String::as_str)
            .to_owned())
    }

    /// Every row but aliases and functions.
    fn dump(&self, topic: bool) -> Vec<(&'static str, String)> {
        properties()
            .filter(|row| (row.scope == Scope::Topic) == topic)
            .filter(|row| !matches!(row.kind, Kind::Alias(_) | Kind::Function))
            .filter_map(|row| Some((row.name, self.get(row).ok()?)))
            .collect()
    }
}

/// Properties of a handle by name (`rd_kafka_conf_t`). `CONFIGURATION.md` lists them.
///
/// Topic properties are taken too: they are the defaults of every topic.
///
/// ```
/// let mut config = ottla::Config::new();
/// config.set("bootstrap.servers", "memory:")?;
/// config.set("acks", "all")?;
/// assert_eq!(config.get("request.required.acks")?, "-1");
/// assert!(config.set("linger.ms", "soon").is_err());
/// # Ok::<(), ottla::ConfigError>(())
/// ```
#[derive(Clone, Default)]
pub struct Config {
    values: Values,
    topic: TopicConfig,
    rebalance_events: bool,
    no_delivery_reports: bool,
    pub(crate) offset_commit_events: bool,
    pub(crate) throttle_events: bool,
    pub(crate) logger: Option<Logger>,
}

impl Config {
    /// All defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a property from text. The value is checked at once.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        match (find(false, name), find(true, name)) {
            (Some(row), _) => self.values.set(row, value),
            (None, Some(row)) => self.topic.values.set(row, value),
            (None, None) => Err(unknown(name)),
        }
    }

    /// The same, to write several in one expression.
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, ConfigError> {
        self.set(name, value)?;
        Ok(self)
    }

    /// The value as text; a default if it wasn't set. Topic properties count. Properties without a text (callbacks) are
    /// `ConfigError::Invalid`.
    pub fn get(&self, name: &str) -> Result<String, ConfigError> {
        match (find(false, name), find(true, name)) {
            (Some(row), _) => self.values.get(row),
            (None, Some(row)) => self.topic.values.get(row),
            (None, None) => Err(unknown(name)),
        }
    }

    /// Whether the property was set.
    pub fn is_set(&self, name: &str) -> bool {
        match (find(false, name), find(true, name)) {
            (Some(row), _) => self.values.0.contains_key(row.name),
            (None, Some(row)) => self.topic.values.0.contains_key(row.name),
            (None, None) => false,
        }
    }

    /// All properties with their values, in the table's order; topic properties not included.
    pub fn dump(&self) -> Vec<(&'static str, String)> {
        self.values.dump(false)
    }

    /// The topic properties.
    pub fn topic(&self) -> &TopicConfig {
        &self.topic
    }

    /// The topic properties, to be changed.
    pub fn topic_mut(&mut self) -> &mut TopicConfig {
        &mut self.topic
    }

    /// Rebalances come as events and wait for the application ([`crate::Event::Rebalance`]); otherwise they take effect at once.
    pub fn set_rebalance_events(&mut self, on: bool) {
        self.rebalance_events = on;
    }

    /// Whether the application takes delivery reports (default: yes). Without, delivered records are simply forgotten.
    pub fn set_delivery_reports(&mut self, on: bool) {
        self.no_delivery_reports = !on;
    }

    /// Whether [`crate::Event::OffsetCommit`] events are wanted (default: no).
    pub fn set_offset_commit_events(&mut self, on: bool) {
        self.offset_commit_events = on;
    }

    /// Whether [`crate::Event::Throttle`] events are wanted (default: no): librdkafka's `throttle_cb`.
    pub fn set_throttle_events(&mut self, on: bool) {
        self.throttle_events = on;
    }

    /// Gets log lines, unless `log.queue` is set. Default: nobody.
    pub fn set_logger(&mut self, logger: Option<Logger>) {
        self.logger = logger;
    }

    /// Rows that were set.
    fn set_rows(&self) -> impl Iterator<Item = &'static Property> {
        let of = |topic: bool| move |name: &&'static str| find(topic, name);
        self.values
            .0
            .keys()
            .filter_map(of(false))
            .chain(self.topic.values.0.keys().filter_map(of(true)))
    }
}

/// Whether a property's value is not to be shown.
fn is_secret(name: &str) -> bool {
    ["password", "secret", "key.pem", "passphrase"]
        .iter()
        .any(|word| name.contains(word))
}

impl fmt::Debug for Config {
    /// What was set, secrets left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): (&&'static str, &String)| {
            (
                *name,
                if is_secret(name) {
                    "[secret]".to_owned()
                } else {
                    value.clone()
                },
            )
        };
        f.debug_map()
            .entries(self.values.0.iter().map(shown))
            .entries(self.topic.values.0.iter().map(shown))
            .finish()
    }
}

/// Properties of a topic by name (`rd_kafka_topic_conf_t`).
#[derive(Clone, Default)]
pub struct TopicConfig {
    values: Values,
    partitioner: Option<Arc<dyn CustomPartitioner>>,
}

impl TopicConfig {
    /// All defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a property from text.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        self.values
            .set(find(true, name).ok_or_else(|| unknown(name))?, value)
    }

    /// The value as text; a default if it wasn't set.
    pub fn get(&self, name: &str) -> Result<String, ConfigError> {
        self.values
            .get(find(true, name).ok_or_else(|| unknown(name))?)
    }

    /// Whether the property was set.
    pub fn is_set(&self, name: &str) -> bool {
        find(true, name).is_some_and(|row| self.values.0.contains_key(row.name))
    }

    /// Whether nothing was set.
    pub fn is_default(&self) -> bool {
        self.values.0.is_empty() && self.partitioner.is_none()
    }

    /// All properties with their values, in the table's order.
    pub fn dump(&self) -> Vec<(&'static str, String)> {
        self.values.dump(true)
    }

    /// The application's own partitioner, in place of `partitioner`.
    pub fn set_partitioner(&mut self, partitioner: Option<Arc<dyn CustomPartitioner>>) {
        self.partitioner = partitioner;
    }
}

impl fmt::Debug for TopicConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.values.0.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        let mut seen = std::collections::BTreeSet::new();
        for row in properties() {
            assert!(
                seen.insert((row.scope == Scope::Topic, row.name)),
                "{} is there twice",
                row.name
            );
            match row.kind {
                Kind::Alias(of) => {
                    let target = find(row.scope == Scope::Topic, row.name);
                    assert!(
                        target.is_some_and(|target| target.name == of),
                        "{} is an alias of nothing",
                        row.name
                    );
                }
                Kind::Function => {}
                _ => {
                    assert!(!row.doc.is_empty(), "{} has no text", row.name);
                    if !row.default.is_empty() {
                        assert_eq!(
                            row.normalize(row.default).as_deref(),
                            Ok(row.default),
                            "{}",
                            row.name
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn errors_are_librdkafkas() {
        let mut config = Config::new();
        let text = "No such configuration property: \"foo\"";
        assert_eq!(
            config.set("foo", "bar"),
            Err(ConfigError::Unknown(text.into()))
        );
        assert_eq!(config.get("foo"), Err(ConfigError::Unknown(text.into())));
        for (name, value) in [
            ("acks", "x"),
            ("acks", "1001"),
            ("linger.ms", "-1"),
            ("compression.codec", "zip"),
            ("enable.idempotence", "yes"),
            ("batch.size", ""),
            ("partitioner", "murmur3"),
            ("topic.blacklist", "^a,["),
            ("dr_cb", "x"),
            ("sasl.jaas.config", "x"),
            ("transactional.id", "x"),
        ] {
            assert!(
                matches!(config.set(name, value), Err(ConfigError::Invalid(_))),
                "{name}={value}"
            );
        }
    }

    #[test]
    fn topic_properties_fall_through() {
        let mut config = Config::new();
        config.set("acks", "ALL").unwrap();
        config.set("auto.offset.reset", "earliest").unwrap();
        assert_eq!(config.topic().get("acks").unwrap(), "-1");
        assert_eq!(config.get("auto.offset.reset").unwrap(), "smallest");
        assert!(config.is_set("request.required.acks") && !config.is_set("partitioner"));
        assert!(
            config.topic_mut().set("linger.ms", "1").is_err(),
            "a topic has no such property"
        );
        let dump = config.dump();
        assert!(
            dump.iter()
                .any(|(name, value)| *name == "queue.buffering.max.ms" && value == "5")
        );
        assert!(
            !dump
                .iter()
                .any(|(name, _)| *name == "acks" || *name == "dr_cb" || *name == "linger.ms")
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = Config::new().with("sasl.password", "hunter2").unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
