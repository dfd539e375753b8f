//! Topic settings: the table of keys, their checks, and the effective values.

use alloc::{
    format,
    string::{String, ToString},
};
use ottla_protocol::Str;
use ottla_record::Compression;

/// `compression.type` of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicCompression {
    /// Batches stay as the producer sent them.
    Producer,
    /// Every batch is stored in this codec.
    Codec(Compression),
}

/// The values in force for one topic: what it was created with, over the broker's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy` has `delete`.
    pub cleanup_delete: bool,
    /// `cleanup.policy` has `compact`.
    pub cleanup_compact: bool,
    /// `compression.type`.
    pub compression: TopicCompression,
    /// `compression.gzip.level`, -1 or 1..=9.
    pub gzip_level: i32,
    /// `compression.zstd.level`, -131072..=22.
    pub zstd_level: i32,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio` in millionths.
    pub min_cleanable_dirty_ratio_ppm: u32,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// `flush.messages`: with `Durability::Os`, a sync after this many records.
    pub flush_messages: i64,
    /// `flush.ms`: with `Durability::Os`, a sync when the oldest unsynced record is this old.
    pub flush_ms: i64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: i32,
    /// `max.message.bytes`: largest batch.
    pub max_message_bytes: i32,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `min.insync.replicas`; counts as 1 where there is one replica.
    pub min_insync_replicas: i32,
    /// `retention.bytes`, -1 for no limit.
    pub retention_bytes: i64,
    /// `retention.ms`, -1 for no limit.
    pub retention_ms: i64,
    /// `segment.bytes`.
    pub segment_bytes: i32,
    /// `segment.index.bytes`.
    pub segment_index_bytes: i32,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `unclean.leader.election.enable`; means nothing with one replica.
    pub unclean_leader_election: bool,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            cleanup_delete: true,
            cleanup_compact: false,
            compression: TopicCompression::Producer,
            gzip_level: -1,
            zstd_level: 3,
            delete_retention_ms: 86_400_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio_ppm: 500_000,
            file_delete_delay_ms: 60_000,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            index_interval_bytes: 4096,
            max_message_bytes: 1_048_588,
            log_append_time: false,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            min_insync_replicas: 1,
            retention_bytes: -1,
            retention_ms: 604_800_000,
            segment_bytes: 1_073_741_824,
            segment_index_bytes: 10_485_760,
            segment_jitter_ms: 0,
            segment_ms: 604_800_000,
            unclean_leader_election: false,
        }
    }
}

/// Type of a setting, with the number that `DescribeConfigs` has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    /// true or false.
    Boolean = 1,
    /// A word.
    String = 2,
    /// i32.
    Int = 3,
    /// i64.
    Long = 5,
    /// A decimal fraction.
    Double = 6,
    /// Words with commas between.
    List = 7,
}

/// One topic setting that Ottla knows.
#[derive(Debug)]
pub struct TopicConfigKey {
    /// Kafka's name.
    pub name: &'static str,
    /// The broker setting that gives its default.
    pub broker_name: &'static str,
    /// Its type.
    pub config_type: ConfigType,
    /// What it does here, for `DescribeConfigs`.
    pub doc: &'static str,
    get: fn(&TopicConfig) -> String,
    set: fn(&mut TopicConfig, &str) -> Result<(), String>,
}

impl TopicConfigKey {
    /// The value in `config`, as Kafka writes it.
    pub fn value(&self, config: &TopicConfig) -> Str {
        (self.get)(config).into()
    }
}

/// Keys that Kafka has and Ottla refuses, with what to do instead.
const REFUSED: &[(&str, &str)] = &[
    (
        "compression.lz4.level",
        "lz4 has one level here; leave it out",
    ),
    (
        "follower.replication.throttled.replicas",
        "replication is not there yet",
    ),
    (
        "leader.replication.throttled.replicas",
        "replication is not there yet",
    ),
    (
        "local.retention.bytes",
        "tiered storage is not there yet; use retention.bytes",
    ),
    (
        "local.retention.ms",
        "tiered storage is not there yet; use retention.ms",
    ),
    ("preallocate", "segments are not preallocated; leave it out"),
    ("remote.log.copy.disable", "tiered storage is not there yet"),
    (
        "remote.log.delete.on.disable",
        "tiered storage is not there yet",
    ),
    ("remote.storage.enable", "tiered storage is not there yet"),
];

/// The key's row; `None` if Ottla doesn't have it.
pub fn topic_config_key(name: &str) -> Option<&'static TopicConfigKey> {
    TOPIC_CONFIG_KEYS
        .binary_search_by(|k| k.name.cmp(name))
        .ok()
        .map(|i| &TOPIC_CONFIG_KEYS[i])
}

impl TopicConfig {
    /// Sets one key from its text. The error is the message of an `INVALID_CONFIG`.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        if let Some(key) = topic_config_key(name) {
            return (key.set)(self, value.trim())
                .map_err(|why| format!("Invalid value {value} for configuration {name}: {why}"));
        }
        Err(match REFUSED.iter().find(|(refused, _)| *refused == name) {
            Some((_, hint)) => format!("Topic config {name} is not supported by Ottla: {hint}"),
            None => format!("Unknown topic config name: {name}"),
        })
    }

    /// The level to compress with, in the codec of [`TopicConfig::compression`]; `None` is the codec's own default.
    pub fn compression_level(&self, codec: Compression) -> Option<i32> {
        match codec {
            Compression::Gzip if self.gzip_level != -1 => Some(self.gzip_level),
            Compression::Zstd => Some(self.zstd_level),
            _ => None,
        }
    }
}

fn whole<T: core::str::FromStr + PartialOrd + core::fmt::Display>(
    text: &str,
    min: T,
    max: T,
) -> Result<T, String> {
    match text.parse::<T>() {
        Err(_) => Err("Not a whole number in range".to_string()),
        Ok(n) if n < min => Err(format!("Value must be at least {min}")),
        Ok(n) if n > max => Err(format!("Value must be no more than {max}")),
        Ok(n) => Ok(n),
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Ok(true),
        _ if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err("Expected value to be either true or false".to_string()),
    }
}

macro_rules! number_key {
    ($name:literal, $broker:literal, $type:ident, $field:ident, $min:expr, $max:expr, $doc:literal) => {
        TopicConfigKey {
            name: $name,
            broker_name: $broker,
            config_type: ConfigType::$type,
            doc: $doc,
            get: |c| c.$field.to_string(),
            set: |c, v| {
                c.$field = whole(v, $min, $max)?;
                Ok(())
            },
        }
    };
}

/// Every topic setting that can be given, sorted by name.
pub static TOPIC_CONFIG_KEYS: &[TopicConfigKey] = &[
    TopicConfigKey {
        name: "cleanup.policy",
        broker_name: "log.cleanup.policy",
        config_type: ConfigType::List,
        doc: "delete, compact or both; empty keeps everything.",
        get: |c| match (c.cleanup_compact, c.cleanup_delete) {
            (true, true) => "compact,delete".to_string(),
            (true, false) => "compact".to_string(),
            (false, true) => "delete".to_string(),
            (false, false) => String::new(),
        },
        set: |c, v| {
            let (mut compact, mut delete) = (false, false);
            for word in v.split(',').map(str::trim).filter(|w| !w.is_empty()) {
                match word {
                    "compact" => compact = true,
                    "delete" => delete = true,
                    _ => return Err(format!("{word} is not one of compact, delete")),
                }
            }
            (c.cleanup_compact, c.cleanup_delete) = (compact, delete);
            Ok(())
        },
    },
    TopicConfigKey {
        name: "compression.gzip.level",
        broker_name: "compression.gzip.level",
        config_type: ConfigType::Int,
        doc: "Level when compression.type is gzip: 1 to 9, or -1 for the codec's default.",
        get: |c| c.gzip_level.to_string(),
        set: |c, v| {
            let level = whole(v, -1, 9)?;
            if level == 0 {
                return Err("Value must be -1 or between 1 and 9".to_string());
            }
            c.gzip_level = level;
            Ok(())
        },
    },
    TopicConfigKey {
        name: "compression.type",
        broker_name: "compression.type",
        config_type: ConfigType::String,
        doc: "producer keeps batches as they were sent; uncompressed, gzip, snappy, lz4 or zstd store each batch in that codec.",
        get: |c| {
            match c.compression {
                TopicCompression::Producer => "producer",
                TopicCompression::Codec(Compression::None) => "uncompressed",
                TopicCompression::Codec(Compression::Gzip) => "gzip",
                TopicCompression::Codec(Compression::Snappy) => "snappy",
                TopicCompression::Codec(Compression::Lz4) => "lz4",
                TopicCompression::Codec(Compression::Zstd) => "zstd",
            }
            .to_string()
        },
        set: |c, v| {
            c.compression =
                match v {
                    "producer" => TopicCompression::Producer,
                    "uncompressed" => TopicCompression::Codec(Compression::None),
                    "gzip" => TopicCompression::Codec(Compression::Gzip),
                    "snappy" => TopicCompression::Codec(Compression::Snappy),
                    "lz4" => TopicCompression::Codec(Compression::Lz4),
                    "zstd" => TopicCompression::Codec(Compression::Zstd),
                    _ => return Err(
                        "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"
                            .to_string(),
                    ),
                };
            Ok(())
        },
    },
    number_key!(
        "compression.zstd.level",
        "compression.zstd.level",
        Int,
        zstd_level,
        -131_072,
        22,
        "Level when compression.type is zstd."
    ),
    number_key!(
        "delete.retention.ms",
        "log.cleaner.delete.retention.ms",
        Long,
        delete_retention_ms,
        0,
        i64::MAX,
        "How long compaction keeps tombstones after it has met them first."
    ),
    number_key!(
        "file.delete.delay.ms",
        "log.segment.delete.delay.ms",
        Long,
        file_delete_delay_ms,
        0,
        i64::MAX,
        "How long the files of a deleted segment stay, as .deleted, before they are removed."
    ),
    number_key!(
        "flush.messages",
        "log.flush.interval.messages",
        Long,
        flush_messages,
        1,
        i64::MAX,
        "With durability=os: sync after this many records. With durability=fsync every append is synced."
    ),
    number_key!(
        "flush.ms",
        "log.flush.interval.ms",
        Long,
        flush_ms,
        0,
        i64::MAX,
        "With durability=os: sync when the oldest unsynced record is this old. With durability=fsync every append is synced."
    ),
    number_key!(
        "index.interval.bytes",
        "log.index.interval.bytes",
        Int,
        index_interval_bytes,
        0,
        i32::MAX,
        "Bytes of log between two entries of its indexes. Takes effect when the broker opens the partition."
    ),
    number_key!(
        "max.compaction.lag.ms",
        "log.cleaner.max.compaction.lag.ms",
        Long,
        max_compaction_lag_ms,
        1,
        i64::MAX,
        "The longest time a record stays uncompacted, where it can be."
    ),
    number_key!(
        "max.message.bytes",
        "message.max.bytes",
        Int,
        max_message_bytes,
        0,
        i32::MAX,
        "Largest batch that a producer may send, and that a batch may have after recompression."
    ),
    number_key!(
        "message.timestamp.after.max.ms",
        "log.message.timestamp.after.max.ms",
        Long,
        timestamp_after_max_ms,
        0,
        i64::MAX,
        "With CreateTime: how far in the future a record's timestamp may lie."
    ),
    number_key!(
        "message.timestamp.before.max.ms",
        "log.message.timestamp.before.max.ms",
        Long,
        timestamp_before_max_ms,
        0,
        i64::MAX,
        "With CreateTime: how far in the past a record's timestamp may lie."
    ),
    TopicConfigKey {
        name: "message.timestamp.type",
        broker_name: "log.message.timestamp.type",
        config_type: ConfigType::String,
        doc: "CreateTime keeps the producer's timestamps; LogAppendTime replaces them with the broker's clock.",
        get: |c| {
            if c.log_append_time {
                "LogAppendTime".to_string()
            } else {
                "CreateTime".to_string()
            }
        },
        set: |c, v| {
            c.log_append_time = match v {
                "CreateTime" => false,
                "LogAppendTime" => true,
                _ => return Err("String must be one of: CreateTime, LogAppendTime".to_string()),
            };
            Ok(())
        },
    },
    TopicConfigKey {
        name: "min.cleanable.dirty.ratio",
        broker_name: "log.cleaner.min.cleanable.ratio",
        config_type: ConfigType::Double,
        doc: "A log is compacted when more than this share of its bytes was not yet.",
        get: |c| format!("{:?}", f64::from(c.min_cleanable_dirty_ratio_ppm) / 1e6),
        set: |c, v| match v.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => {
                c.min_cleanable_dirty_ratio_ppm = (ratio * 1e6 + 0.5) as u32;
                Ok(())
            }
            _ => Err("Value must be between 0 and 1".to_string()),
        },
    },
    number_key!(
        "min.compaction.lag.ms",
        "log.cleaner.min.compaction.lag.ms",
        Long,
        min_compaction_lag_ms,
        0,
        i64::MAX,
        "The shortest time a record stays uncompacted."
    ),
    number_key!(
        "min.insync.replicas",
        "min.insync.replicas",
        Int,
        min_insync_replicas,
        1,
        i32::MAX,
        "Replicas that must have a record before acks=all is answered; never more than the topic has."
    ),
    number_key!(
        "retention.bytes",
        "log.retention.bytes",
        Long,
        retention_bytes,
        -1,
        i64::MAX,
        "Bytes that a partition keeps; -1 for no limit. Whole segments go, the oldest first."
    ),
    number_key!(
        "retention.ms",
        "log.retention.ms",
        Long,
        retention_ms,
        -1,
        i64::MAX,
        "How long a partition keeps records; -1 for no limit. Whole segments go, the oldest first."
    ),
    number_key!(
        "segment.bytes",
        "log.segment.bytes",
        Int,
        segment_bytes,
        14,
        i32::MAX,
        "Size at which a new segment begins."
    ),
    number_key!(
        "segment.index.bytes",
        "log.index.size.max.bytes",
        Int,
        segment_index_bytes,
        4,
        i32::MAX,
        "Size of a segment's offset index; a full index begins a new segment."
    ),
    number_key!(
        "segment.jitter.ms",
        "log.roll.jitter.ms",
        Long,
        segment_jitter_ms,
        0,
        i64::MAX,
        "Upper bound of what is taken off segment.ms at random, so that segments don't all begin at once."
    ),
    number_key!(
        "segment.ms",
        "log.roll.ms",
        Long,
        segment_ms,
        1,
        i64::MAX,
        "Age at which a new segment begins."
    ),
    TopicConfigKey {
        name: "unclean.leader.election.enable",
        broker_name: "unclean.leader.election.enable",
        config_type: ConfigType::Boolean,
        doc: "Not yet effective: means something with more than one replica.",
        get: |c| c.unclean_leader_election.to_string(),
        set: |c, v| {
            c.unclean_leader_election = boolean(v)?;
            Ok(())
        },
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_defaults_survive_their_text() {
        assert!(TOPIC_CONFIG_KEYS.is_sorted_by(|a, b| a.name < b.name));
        let defaults = TopicConfig::default();
        for key in TOPIC_CONFIG_KEYS {
            let mut config = defaults.clone();
            config.set(key.name, &key.value(&defaults)).unwrap();
            assert_eq!(config, defaults, "{}", key.name);
        }
    }

    #[test]
    fn bad_values_say_what_is_wrong() {
        let mut config = TopicConfig::default();
        let no = |config: &mut TopicConfig, k: &str, v: &str| config.set(k, v).unwrap_err();
        assert!(no(&mut config, "retention.ms", "-2").contains("at least -1"));
        assert!(
            no(&mut config, "retention.ms", "soon")
                .contains("Invalid value soon for configuration retention.ms")
        );
        assert!(no(&mut config, "compression.type", "brotli").contains("one of"));
        assert!(no(&mut config, "nonsense", "1").contains("Unknown topic config"));
        assert!(no(&mut config, "preallocate", "true").contains("not supported"));
        assert_eq!(config, TopicConfig::default());
        config.set("cleanup.policy", "compact, delete").unwrap();
        assert!(config.cleanup_compact && config.cleanup_delete);
    }
}
