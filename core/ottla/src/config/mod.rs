//! Configuration: librdkafka's properties by name, and Ottla's own.

use crate::event::LogLine;
use std::fmt;
use std::sync::Arc;

/// Gets log lines as they come, from any thread, at times under the handle's lock: it must not call the handle.
pub type Logger = Arc<dyn Fn(&LogLine) + Send + Sync>;

/// An application's partitioner.
pub trait CustomPartitioner: Send + Sync {
    /// The partition for a key, in `0..partitions`; anything else fails the record with `_UNKNOWN_PARTITION`. `opaque` is the
    /// record's. Called while the producer is in use: it must not call the producer.
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

/// `rd_kafka_conf_t`: properties by name. `CONFIGURATION.md` lists them.
///
/// Topic properties are taken too: they are the defaults of every topic.
#[derive(Clone, Default)]
pub struct Config {}

#[allow(unused_variables)]
impl Config {
    /// All defaults.
    pub fn new() -> Self {
        todo!()
    }
    /// Sets a property from text. The value is checked at once.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        todo!()
    }
    /// The same, to write several in one expression.
    pub fn with(self, name: &str, value: &str) -> Result<Self, ConfigError> {
        todo!()
    }
    /// The value as text; a default if it wasn't set. Topic properties count. Properties without a value (callbacks) are
    /// `ConfigError::Invalid`.
    pub fn get(&self, name: &str) -> Result<String, ConfigError> {
        todo!()
    }
    /// Whether the property was set.
    pub fn is_set(&self, name: &str) -> bool {
        todo!()
    }
    /// All properties with their values, in the table's order; topic properties not included.
    pub fn dump(&self) -> Vec<(&'static str, String)> {
        todo!()
    }
    /// The topic properties.
    pub fn topic(&self) -> &TopicConfig {
        todo!()
    }
    /// The topic properties, to be changed.
    pub fn topic_mut(&mut self) -> &mut TopicConfig {
        todo!()
    }
    /// Rebalances come as events and wait for the application ([`crate::Event::Rebalance`]); otherwise they take effect at once.
    pub fn set_rebalance_events(&mut self, on: bool) {
        todo!()
    }
    /// Whether the application takes delivery reports (default: yes). Without, delivered records are simply forgotten.
    pub fn set_delivery_reports(&mut self, on: bool) {
        todo!()
    }
    /// Whether [`crate::Event::OffsetCommit`] events are wanted (default: no).
    pub fn set_offset_commit_events(&mut self, on: bool) {
        todo!()
    }
    /// Gets log lines, unless `log.queue` is set. Default: nobody.
    pub fn set_logger(&mut self, logger: Option<Logger>) {
        todo!()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Config")
    }
}

/// `rd_kafka_topic_conf_t`: properties of a topic.
#[derive(Clone, Default)]
pub struct TopicConfig {}

#[allow(unused_variables)]
impl TopicConfig {
    /// All defaults.
    pub fn new() -> Self {
        todo!()
    }
    /// Sets a property from text.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        todo!()
    }
    /// The value as text; a default if it wasn't set.
    pub fn get(&self, name: &str) -> Result<String, ConfigError> {
        todo!()
    }
    /// Whether the property was set.
    pub fn is_set(&self, name: &str) -> bool {
        todo!()
    }
    /// All properties with their values, in the table's order.
    pub fn dump(&self) -> Vec<(&'static str, String)> {
        todo!()
    }
    /// The application's own partitioner, in place of `partitioner`.
    pub fn set_partitioner(&mut self, partitioner: Option<Arc<dyn CustomPartitioner>>) {
        todo!()
    }
}

impl fmt::Debug for TopicConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TopicConfig")
    }
}

/// All properties, for `rd_kafka_conf_properties_show` and documentation.
pub fn properties() -> &'static [Property] {
    todo!()
}

/// A row of the table.
#[derive(Debug)]
pub struct Property {
    /// Its name.
    pub name: &'static str,
}
