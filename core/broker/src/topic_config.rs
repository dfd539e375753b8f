//! Topic settings: the table of keys, their checks, and the effective values.

use alloc::{
    format,
    string::{String, ToString},
};
use ottla_protocol::Str;
use ottla_record::Compression;

use crate::configs::{Check, ConfigType, Effect, check, invalid, offending, words};

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
    /// `cleanup.policy` has both, and names `delete` first: it is told as it was given.
    pub cleanup_delete_first: bool,
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
    /// Settings that are kept, and do nothing.
    pub without_effect: WithoutEffect,
}

/// Settings of a topic that Kafka has and that do nothing here: they are told as they were given.
#[derive(Clone, Debug, PartialEq)]
pub struct WithoutEffect {
    /// `compression.lz4.level`.
    pub lz4_level: i32,
    /// `preallocate`.
    pub preallocate: bool,
    /// `local.retention.bytes`.
    pub local_retention_bytes: i64,
    /// `local.retention.ms`.
    pub local_retention_ms: i64,
    /// `remote.log.copy.disable`.
    pub remote_log_copy_disable: bool,
    /// `remote.log.delete.on.disable`.
    pub remote_log_delete_on_disable: bool,
    /// `leader.replication.throttled.replicas`.
    pub leader_throttled_replicas: Str,
    /// `follower.replication.throttled.replicas`.
    pub follower_throttled_replicas: Str,
}

impl Default for WithoutEffect {
    fn default() -> Self {
        Self {
            lz4_level: 9,
            preallocate: false,
            local_retention_bytes: -2,
            local_retention_ms: -2,
            remote_log_copy_disable: false,
            remote_log_delete_on_disable: false,
            leader_throttled_replicas: Str::new(),
            follower_throttled_replicas: Str::new(),
        }
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            cleanup_delete: true,
            cleanup_compact: false,
            cleanup_delete_first: false,
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
            without_effect: WithoutEffect::default(),
        }
    }
}

/// One topic setting.
#[derive(Debug)]
pub struct TopicConfigKey {
    /// Kafka's name.
    pub name: &'static str,
    /// The broker setting that gives its default.
    pub broker_name: Option<&'static str>,
    /// Its type.
    pub config_type: ConfigType,
    /// What it may be.
    pub check: Check,
    /// What it does here.
    pub effect: Effect,
    /// What it is.
    pub doc: &'static str,
    get: fn(&TopicConfig) -> String,
    /// Takes a value that was checked.
    set: fn(&mut TopicConfig, &str) -> Result<(), String>,
}

impl TopicConfigKey {
    /// The value in `config`, as Kafka writes it.
    pub fn value(&self, config: &TopicConfig) -> Str {
        (self.get)(config).into()
    }

    /// Checks a value and sets it in `config`. The error is the end of Kafka's message.
    pub(crate) fn set(&self, config: &mut TopicConfig, value: &str) -> Result<(), String> {
        let value = value.trim();
        check(self.config_type, self.check, value)?;
        (self.set)(config, value)
    }

    /// Text for `DescribeConfigs`.
    pub fn documentation(&self) -> String {
        match self.effect {
            Effect::Without(why) => format!("No effect: {why}. {}", self.doc),
            _ => self.doc.to_string(),
        }
    }
}

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
        let Some(key) = topic_config_key(name) else {
            return Err(format!("Unknown topic config name: {name}"));
        };
        if name == REMOTE_STORAGE && value.trim().eq_ignore_ascii_case("true") {
            return Err(NO_REMOTE_STORAGE.to_string());
        }
        key.set(self, value)
            .map_err(|why| invalid(name, offending(key.check, value), &why))
    }

    /// What must hold between settings. The error is the message of an `INVALID_CONFIG`.
    pub fn check(&self) -> Result<(), String> {
        if self.min_compaction_lag_ms > self.max_compaction_lag_ms {
            return Err(format!(
                "conflict topic config setting min.compaction.lag.ms ({}) > max.compaction.lag.ms ({})",
                self.min_compaction_lag_ms, self.max_compaction_lag_ms
            ));
        }
        Ok(())
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

/// A number that was checked.
fn whole<T: core::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| "Not a whole number in range".to_string())
}

fn is_true(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}

const REMOTE_STORAGE: &str = "remote.storage.enable";
/// Kafka's words where `remote.log.storage.system.enable` is false.
const NO_REMOTE_STORAGE: &str = "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.";
const NO_TIERS: &str = "tiered storage is not there yet";
const ONE_REPLICA: &str = "every partition has one replica";

macro_rules! number_key {
    ($name:literal, $broker:literal, $type:ident, $field:ident, $min:expr, $doc:literal) => {
        TopicConfigKey {
            name: $name,
            broker_name: Some($broker),
            config_type: ConfigType::$type,
            check: Check::AtLeast($min),
            effect: Effect::Effective,
            doc: $doc,
            get: |c| c.$field.to_string(),
            set: |c, v| {
                c.$field = whole(v)?;
                Ok(())
            },
        }
    };
}

/// A setting that is kept and does nothing.
macro_rules! kept_key {
    ($name:literal, $broker:expr, $type:ident, $check:expr, $why:expr, $doc:literal, $get:expr, $set:expr) => {
        TopicConfigKey {
            name: $name,
            broker_name: $broker,
            config_type: ConfigType::$type,
            check: $check,
            effect: Effect::Without($why),
            doc: $doc,
            get: $get,
            set: $set,
        }
    };
}

/// Every topic setting that can be given, sorted by name.
pub static TOPIC_CONFIG_KEYS: &[TopicConfigKey] = &[
    TopicConfigKey {
        name: "cleanup.policy",
        broker_name: Some("log.cleanup.policy"),
        config_type: ConfigType::List,
        check: Check::ListOf(&["compact", "delete"]),
        effect: Effect::Effective,
        doc: "delete, compact or both; empty keeps everything.",
        get: |c| match (c.cleanup_compact, c.cleanup_delete) {
            (true, true) if c.cleanup_delete_first => "delete,compact".to_string(),
            (true, true) => "compact,delete".to_string(),
            (true, false) => "compact".to_string(),
            (false, true) => "delete".to_string(),
            (false, false) => String::new(),
        },
        set: |c, v| {
            let (mut compact, mut delete, mut delete_first) = (false, false, false);
            for word in words(v) {
                delete_first |= delete && !compact && word == "compact";
                compact |= word == "compact";
                delete |= word == "delete";
            }
            (c.cleanup_compact, c.cleanup_delete) = (compact, delete);
            c.cleanup_delete_first = delete_first;
            Ok(())
        },
    },
    TopicConfigKey {
        name: "compression.gzip.level",
        broker_name: Some("compression.gzip.level"),
        config_type: ConfigType::Int,
        check: Check::GzipLevel,
        effect: Effect::Effective,
        doc: "Level when compression.type is gzip: 1 to 9, or -1 for the codec's default.",
        get: |c| c.gzip_level.to_string(),
        set: |c, v| {
            c.gzip_level = whole(v)?;
            Ok(())
        },
    },
    kept_key!(
        "compression.lz4.level",
        Some("compression.lz4.level"),
        Int,
        Check::Between(1, 17),
        "lz4 has one level here",
        "Level when compression.type is lz4.",
        |c| c.without_effect.lz4_level.to_string(),
        |c, v| {
            c.without_effect.lz4_level = whole(v)?;
            Ok(())
        }
    ),
    TopicConfigKey {
        name: "compression.type",
        broker_name: Some("compression.type"),
        config_type: ConfigType::String,
        check: Check::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        effect: Effect::Effective,
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
            c.compression = match v {
                "uncompressed" => TopicCompression::Codec(Compression::None),
                "gzip" => TopicCompression::Codec(Compression::Gzip),
                "snappy" => TopicCompression::Codec(Compression::Snappy),
                "lz4" => TopicCompression::Codec(Compression::Lz4),
                "zstd" => TopicCompression::Codec(Compression::Zstd),
                _ => TopicCompression::Producer,
            };
            Ok(())
        },
    },
    TopicConfigKey {
        name: "compression.zstd.level",
        broker_name: Some("compression.zstd.level"),
        config_type: ConfigType::Int,
        check: Check::Between(-131_072, 22),
        effect: Effect::Effective,
        doc: "Level when compression.type is zstd.",
        get: |c| c.zstd_level.to_string(),
        set: |c, v| {
            c.zstd_level = whole(v)?;
            Ok(())
        },
    },
    number_key!(
        "delete.retention.ms",
        "log.cleaner.delete.retention.ms",
        Long,
        delete_retention_ms,
        0,
        "How long compaction keeps tombstones after it has met them first."
    ),
    number_key!(
        "file.delete.delay.ms",
        "log.segment.delete.delay.ms",
        Long,
        file_delete_delay_ms,
        0,
        "How long the files of a deleted segment stay, as .deleted, before they are removed."
    ),
    number_key!(
        "flush.messages",
        "log.flush.interval.messages",
        Long,
        flush_messages,
        1,
        "With durability=os: sync after this many records. With durability=fsync every append is synced."
    ),
    number_key!(
        "flush.ms",
        "log.flush.interval.ms",
        Long,
        flush_ms,
        0,
        "With durability=os: sync when the oldest unsynced record is this old. With durability=fsync every append is synced."
    ),
    kept_key!(
        "follower.replication.throttled.replicas",
        None,
        List,
        Check::Replicas,
        ONE_REPLICA,
        "Replicas that are throttled as followers.",
        |c| c.without_effect.follower_throttled_replicas.to_string(),
        |c, v| {
            c.without_effect.follower_throttled_replicas = v.into();
            Ok(())
        }
    ),
    number_key!(
        "index.interval.bytes",
        "log.index.interval.bytes",
        Int,
        index_interval_bytes,
        0,
        "Bytes of log between two entries of its indexes."
    ),
    kept_key!(
        "leader.replication.throttled.replicas",
        None,
        List,
        Check::Replicas,
        ONE_REPLICA,
        "Replicas that are throttled as leaders.",
        |c| c.without_effect.leader_throttled_replicas.to_string(),
        |c, v| {
            c.without_effect.leader_throttled_replicas = v.into();
            Ok(())
        }
    ),
    kept_key!(
        "local.retention.bytes",
        Some("log.local.retention.bytes"),
        Long,
        Check::AtLeast(-2),
        NO_TIERS,
        "Bytes that stay here once they are in tiered storage.",
        |c| c.without_effect.local_retention_bytes.to_string(),
        |c, v| {
            c.without_effect.local_retention_bytes = whole(v)?;
            Ok(())
        }
    ),
    kept_key!(
        "local.retention.ms",
        Some("log.local.retention.ms"),
        Long,
        Check::AtLeast(-2),
        NO_TIERS,
        "How long records stay here once they are in tiered storage.",
        |c| c.without_effect.local_retention_ms.to_string(),
        |c, v| {
            c.without_effect.local_retention_ms = whole(v)?;
            Ok(())
        }
    ),
    number_key!(
        "max.compaction.lag.ms",
        "log.cleaner.max.compaction.lag.ms",
        Long,
        max_compaction_lag_ms,
        1,
        "The longest time a record stays uncompacted, where it can be."
    ),
    number_key!(
        "max.message.bytes",
        "message.max.bytes",
        Int,
        max_message_bytes,
        0,
        "Largest batch that a producer may send, and that a batch may have after recompression."
    ),
    number_key!(
        "message.timestamp.after.max.ms",
        "log.message.timestamp.after.max.ms",
        Long,
        timestamp_after_max_ms,
        0,
        "With CreateTime: how far in the future a record's timestamp may lie."
    ),
    number_key!(
        "message.timestamp.before.max.ms",
        "log.message.timestamp.before.max.ms",
        Long,
        timestamp_before_max_ms,
        0,
        "With CreateTime: how far in the past a record's timestamp may lie."
    ),
    TopicConfigKey {
        name: "message.timestamp.type",
        broker_name: Some("log.message.timestamp.type"),
        config_type: ConfigType::String,
        check: Check::OneOf(&["CreateTime", "LogAppendTime"]),
        effect: Effect::Effective,
        doc: "CreateTime keeps the producer's timestamps; LogAppendTime replaces them with the broker's clock.",
        get: |c| {
            if c.log_append_time {
                "LogAppendTime".to_string()
            } else {
                "CreateTime".to_string()
            }
        },
        set: |c, v| {
            c.log_append_time = v == "LogAppendTime";
            Ok(())
        },
    },
    TopicConfigKey {
        name: "min.cleanable.dirty.ratio",
        broker_name: Some("log.cleaner.min.cleanable.ratio"),
        config_type: ConfigType::Double,
        check: Check::Real(0.0, 1.0),
        effect: Effect::Effective,
        doc: "A log is compacted when more than this share of its bytes was not yet.",
        get: |c| format!("{:?}", f64::from(c.min_cleanable_dirty_ratio_ppm) / 1e6),
        set: |c, v| {
            c.min_cleanable_dirty_ratio_ppm = (whole::<f64>(v)? * 1e6 + 0.5) as u32;
            Ok(())
        },
    },
    number_key!(
        "min.compaction.lag.ms",
        "log.cleaner.min.compaction.lag.ms",
        Long,
        min_compaction_lag_ms,
        0,
        "The shortest time a record stays uncompacted."
    ),
    number_key!(
        "min.insync.replicas",
        "min.insync.replicas",
        Int,
        min_insync_replicas,
        1,
        "Replicas that must have a record before acks=all is answered; never more than the topic has."
    ),
    kept_key!(
        "preallocate",
        Some("log.preallocate"),
        Boolean,
        Check::Any,
        "segments grow as they are written",
        "Whether a new segment takes its space at once.",
        |c| c.without_effect.preallocate.to_string(),
        |c, v| {
            c.without_effect.preallocate = is_true(v);
            Ok(())
        }
    ),
    kept_key!(
        "remote.log.copy.disable",
        None,
        Boolean,
        Check::Any,
        NO_TIERS,
        "Whether nothing more is copied to tiered storage.",
        |c| c.without_effect.remote_log_copy_disable.to_string(),
        |c, v| {
            c.without_effect.remote_log_copy_disable = is_true(v);
            Ok(())
        }
    ),
    kept_key!(
        "remote.log.delete.on.disable",
        None,
        Boolean,
        Check::Any,
        NO_TIERS,
        "Whether what is in tiered storage goes when it is turned off.",
        |c| c.without_effect.remote_log_delete_on_disable.to_string(),
        |c, v| {
            c.without_effect.remote_log_delete_on_disable = is_true(v);
            Ok(())
        }
    ),
    TopicConfigKey {
        name: REMOTE_STORAGE,
        broker_name: None,
        config_type: ConfigType::Boolean,
        check: Check::Any,
        effect: Effect::Effective,
        doc: "Tiered storage: false, since it is not there yet.",
        get: |_| "false".to_string(),
        set: |_, _| Ok(()),
    },
    number_key!(
        "retention.bytes",
        "log.retention.bytes",
        Long,
        retention_bytes,
        -1,
        "Bytes that a partition keeps; -1 for no limit. Whole segments go, the oldest first."
    ),
    number_key!(
        "retention.ms",
        "log.retention.ms",
        Long,
        retention_ms,
        -1,
        "How long a partition keeps records; -1 for no limit. Whole segments go, the oldest first."
    ),
    number_key!(
        "segment.bytes",
        "log.segment.bytes",
        Int,
        segment_bytes,
        14,
        "Size at which a new segment begins."
    ),
    number_key!(
        "segment.index.bytes",
        "log.index.size.max.bytes",
        Int,
        segment_index_bytes,
        4,
        "Size of a segment's offset index; a full index begins a new segment."
    ),
    number_key!(
        "segment.jitter.ms",
        "log.roll.jitter.ms",
        Long,
        segment_jitter_ms,
        0,
        "Upper bound of what is taken off segment.ms at random, so that segments don't all begin at once."
    ),
    number_key!(
        "segment.ms",
        "log.roll.ms",
        Long,
        segment_ms,
        1,
        "Age at which a new segment begins."
    ),
    TopicConfigKey {
        name: "unclean.leader.election.enable",
        broker_name: Some("unclean.leader.election.enable"),
        config_type: ConfigType::Boolean,
        check: Check::Any,
        effect: Effect::Without(ONE_REPLICA),
        doc: "Whether a replica that isn't in sync may lead.",
        get: |c| c.unclean_leader_election.to_string(),
        set: |c, v| {
            c.unclean_leader_election = is_true(v);
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
        assert!(no(&mut config, "remote.storage.enable", "true").contains("disabled"));
        config.set("remote.storage.enable", "false").unwrap();
        assert_eq!(config, TopicConfig::default());
        config.set("cleanup.policy", "compact, delete").unwrap();
        assert!(config.cleanup_compact && config.cleanup_delete);
    }
}
