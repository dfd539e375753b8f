//! What the consumer machine needs of the configuration, checked and in its own types.

use crate::consumer::assignors::Assignor;
use alloc::vec;
use alloc::vec::Vec;
use ottla_protocol::Str;

/// `auto.offset.reset`: where to go when there is no committed offset or the wanted one is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// `smallest`, `earliest`, `beginning`: the log's first offset.
    Earliest,
    /// `largest`, `latest`, `end`: the log's end.
    Latest,
    /// `error`: give a `_AUTO_OFFSET_RESET` error and stop to consume the partition.
    Error,
}

/// The consumer's properties. The fields bear the properties' names; times are in milliseconds.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct ConsumerConfig {
    pub group_id: Option<Str>,
    pub group_instance_id: Option<Str>,
    /// `group.protocol.type`.
    pub group_protocol_type: Str,
    /// `partition.assignment.strategy`, by preference. All cooperative or none.
    pub partition_assignment_strategy: Vec<Assignor>,
    pub session_timeout_ms: i32,
    pub heartbeat_interval_ms: i32,
    pub max_poll_interval_ms: i32,
    pub enable_auto_commit: bool,
    /// 0: never by time.
    pub auto_commit_interval_ms: i32,
    pub enable_auto_offset_store: bool,
    pub auto_offset_reset: OffsetReset,
    pub queued_min_messages: usize,
    pub queued_max_messages_kbytes: usize,
    pub fetch_wait_max_ms: i32,
    pub fetch_min_bytes: i32,
    pub fetch_max_bytes: i32,
    /// `fetch.message.max.bytes`, also known as `max.partition.fetch.bytes`.
    pub max_partition_fetch_bytes: i32,
    pub fetch_error_backoff_ms: i32,
    /// `isolation.level=read_committed`.
    pub read_committed: bool,
    pub enable_partition_eof: bool,
    pub check_crcs: bool,
    /// The application answers rebalances itself (`rebalance_cb` or rebalance events); otherwise they take effect at once.
    pub rebalance_events: bool,
    pub client_rack: Str,
    /// `socket.timeout.ms`: for requests that the application doesn't time itself.
    pub request_timeout_ms: i32,
    pub retry_backoff_ms: i32,
}

impl Default for ConsumerConfig {
    /// librdkafka's defaults.
    fn default() -> Self {
        Self {
            group_id: None,
            group_instance_id: None,
            group_protocol_type: Str::from_static("consumer"),
            partition_assignment_strategy: vec![Assignor::Range, Assignor::RoundRobin],
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 3_000,
            max_poll_interval_ms: 300_000,
            enable_auto_commit: true,
            auto_commit_interval_ms: 5_000,
            enable_auto_offset_store: true,
            auto_offset_reset: OffsetReset::Latest,
            queued_min_messages: 100_000,
            queued_max_messages_kbytes: 65_536,
            fetch_wait_max_ms: 500,
            fetch_min_bytes: 1,
            fetch_max_bytes: 52_428_800,
            max_partition_fetch_bytes: 1_048_576,
            fetch_error_backoff_ms: 500,
            read_committed: true,
            enable_partition_eof: false,
            check_crcs: false,
            rebalance_events: false,
            client_rack: Str::new(),
            request_timeout_ms: 60_000,
            retry_backoff_ms: 100,
        }
    }
}
