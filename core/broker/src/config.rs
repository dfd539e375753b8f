//! The broker's own settings.

use alloc::{collections::BTreeMap, string::String};

use ottla_protocol::Str;

use crate::{
    cleaner::CleanerConfig,
    groups::{ConsumerGroupConfig, GroupConfig},
    share_partitions::ShareConfig,
    topic_config::TopicConfig,
    transactions::TransactionConfig,
};

/// When an acknowledged record is safe from a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A partition's high watermark is what its storage has synced: a record is neither acknowledged nor visible to
    /// a consumer before that. Syncs are group-committed.
    #[default]
    Fsync,
    /// Kafka's own default: the operating system writes back when it likes (and `flush.messages`, `flush.ms` say). The
    /// high watermark is the log end. Also right for memory.
    Os,
}

/// Over which time quotas are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaWindows {
    /// How many windows; default 11. The last is not full yet.
    pub num: u32,
    /// The length of one in seconds; default 1.
    pub size_seconds: u32,
}

impl Default for QuotaWindows {
    fn default() -> Self {
        Self {
            num: 11,
            size_seconds: 1,
        }
    }
}

/// Settings of a [`crate::Broker`]. Names follow Kafka's `server.properties`; defaults are Kafka's unless noted.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `node.id`, 0 or more; default 1. A directory keeps the id that it was made with.
    pub node_id: i32,
    /// Id of the cluster; `None` (default) makes one for a new directory. Opening a directory of another cluster fails.
    pub cluster_id: Option<Str>,
    /// Host that `Metadata` tells clients to connect to. Embedded brokers keep the default, `localhost`.
    pub host: Str,
    /// Port of [`BrokerConfig::host`]; default 9092.
    pub port: i32,
    /// What `DescribeLogDirs` calls the data directory: its path. `memory:` (default) where there is none.
    pub log_dir: Str,
    /// Whether the directory may be on a network file system. Default false: whoever opens it for the broker refuses one.
    pub allow_network_file_system: bool,
    /// `broker.rack`.
    pub rack: Option<Str>,
    /// `num.partitions`: of topics created without a count; default 1.
    pub num_partitions: i32,
    /// `auto.create.topics.enable`; default true.
    pub auto_create_topics: bool,
    /// Default: [`Durability::Fsync`] (Kafka: as [`Durability::Os`]).
    pub durability: Durability,
    /// What topics have that don't say otherwise (`log.*`, `message.max.bytes`, `compression.type`…).
    pub topic_defaults: TopicConfig,
    /// `fetch.max.bytes`: of one fetch answer; default 55 MiB.
    pub fetch_max_bytes: i32,
    /// `max.incremental.fetch.session.cache.slots`; default 1000.
    pub fetch_session_slots: usize,
    /// `producer.id.expiration.ms`; default 1 day.
    pub producer_id_expiration_ms: i64,
    /// `log.retention.check.interval.ms`; default 5 minutes. The first check is after 30 s, as in Kafka.
    pub retention_check_interval_ms: i64,
    /// `log.flush.offset.checkpoint.interval.ms`, of recovery points and log starts; default 60 s.
    pub recovery_checkpoint_interval_ms: i64,
    /// `replica.high.watermark.checkpoint.interval.ms`; default 5 s.
    pub high_watermark_checkpoint_interval_ms: i64,
    /// Largest size to which a produced batch may decompress, in bytes; default 128 MiB. Kafka has no such bound.
    pub max_decompressed_bytes: usize,
    /// `quota.window.num` and `quota.window.size.seconds`: of what is produced, fetched, connected, and of requests' time.
    pub quota_windows: QuotaWindows,
    /// `controller.quota.window.num` and `controller.quota.window.size.seconds`: of `controller_mutation_rate`.
    pub controller_quota_windows: QuotaWindows,
    /// Compaction.
    pub cleaner: CleanerConfig,
    /// `log.initial.task.delay.ms`: when retention is looked at first; default 30 s.
    pub initial_task_delay_ms: i64,
    /// `delete.topic.enable`; default true.
    pub delete_topics: bool,
    /// `max.request.partition.size.limit`: partitions of one answer of DescribeTopicPartitions; default 2000.
    pub max_request_partitions: usize,
    /// `offsets.topic.segment.bytes`: `segment.bytes` of `__consumer_offsets` when it is created; default 100 MiB.
    pub offsets_segment_bytes: i32,
    /// `client.telemetry.enable`: whether metrics that clients push are taken (KIP-714), and told by [`crate::Broker::metrics`]; default
    /// false. Kafka does if one of its `metric.reporters` takes them.
    pub client_telemetry: bool,
    /// `telemetry.max.bytes`: of one push, compressed; default 1 MiB.
    pub telemetry_max_bytes: i32,
    /// What a `server.properties` said, by name: DescribeConfigs tells what was given from what is the default. Whoever fills
    /// this fills the fields as well ([`crate::configs::ServerProperties`] does).
    pub properties: BTreeMap<String, String>,
    /// Consumer groups. `partitions` is `offsets.topic.num.partitions`, 4 by default (Kafka: 50).
    pub groups: GroupConfig,
    /// Share groups.
    pub share: ShareConfig,
    /// Transactions. `partitions` is `transaction.state.log.num.partitions`, 4 by default (Kafka: 50).
    pub transactions: TransactionConfig,
}

/// The setting of the memory that compaction knows keys by.
pub(crate) const DEDUPE_BUFFER: &str = "log.cleaner.dedupe.buffer.size";

impl BrokerConfig {
    /// Kafka's bound of [`DEDUPE_BUFFER`], which is shared by `log.cleaner.threads`, of which there are `threads`. The error says what
    /// is wrong.
    pub(crate) fn check_dedupe_buffer(&self, threads: Option<&str>) -> Result<(), String> {
        let threads = threads.and_then(|threads| threads.parse::<usize>().ok());
        match self.cleaner.dedupe_buffer_bytes / threads.unwrap_or(1).max(1) > 1 << 20 {
            true => Ok(()),
            false => Err(String::from(
                "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.",
            )),
        }
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            node_id: 1,
            cluster_id: None,
            host: Str::from_static("localhost"),
            port: 9092,
            log_dir: Str::from_static("memory:"),
            allow_network_file_system: false,
            rack: None,
            num_partitions: 1,
            auto_create_topics: true,
            durability: Durability::Fsync,
            topic_defaults: TopicConfig::default(),
            fetch_max_bytes: 55 * 1024 * 1024,
            fetch_session_slots: 1000,
            producer_id_expiration_ms: 24 * 60 * 60 * 1000,
            retention_check_interval_ms: 5 * 60 * 1000,
            recovery_checkpoint_interval_ms: 60 * 1000,
            high_watermark_checkpoint_interval_ms: 5 * 1000,
            max_decompressed_bytes: 128 << 20,
            quota_windows: QuotaWindows::default(),
            controller_quota_windows: QuotaWindows::default(),
            cleaner: CleanerConfig::default(),
            initial_task_delay_ms: 30_000,
            delete_topics: true,
            max_request_partitions: 2000,
            offsets_segment_bytes: 104_857_600,
            client_telemetry: false,
            telemetry_max_bytes: 1 << 20,
            properties: BTreeMap::new(),
            groups: GroupConfig {
                partitions: 4,
                initial_rebalance_delay_ms: 0,
                min_session_timeout_ms: 6_000,
                max_session_timeout_ms: 30 * 60 * 1000,
                max_size: i32::MAX,
                offset_metadata_max_bytes: 4096,
                offsets_retention_ms: 7 * 24 * 60 * 60 * 1000,
                offsets_retention_check_interval_ms: 10 * 60 * 1000,
                consumer: ConsumerGroupConfig::default(),
            },
            share: ShareConfig::default(),
            transactions: TransactionConfig {
                partitions: 4,
                segment_bytes: 100 << 20,
                max_timeout_ms: 15 * 60 * 1000,
                id_expiration_ms: 7 * 24 * 60 * 60 * 1000,
                abort_timed_out_interval_ms: 10 * 1000,
                remove_expired_interval_ms: 60 * 60 * 1000,
            },
        }
    }
}
