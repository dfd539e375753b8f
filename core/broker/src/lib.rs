//! The broker as a machine: requests in, answers out, one file per API key.
//!
//! [`Broker`] is the whole of it. It is `no_std`, owns no thread, socket, clock or file, and is deterministic: the same
//! inputs on the same storage give the same outputs. See `docs/internals/broker.md`.
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod adoption;
mod api;
mod append;
mod broker;
mod cleaner;
mod config;
pub mod configs;
mod context;
#[cfg(test)]
mod durability;
mod fetch_sessions;
mod group_commit;
mod groups;
mod housekeeping;
mod kraft;
mod metrics;
mod opening;
mod output;
mod partition;
mod produce_job;
mod producer_ids;
mod purgatory;
mod quotas;
mod random;
mod removal;
mod share_groups;
mod share_partitions;
mod state_files;
mod telemetry;
#[cfg(test)]
mod testing;
mod topic_config;
mod topics;
mod transactions;

pub use broker::{Broker, BrokerError};
pub use cleaner::{CleanerConfig, CompactionId, CompactionJob, CompactionStep};
pub use config::{BrokerConfig, Durability, QuotaWindows};
pub use context::{ConnId, Endpoint, ReplyTo, RequestContext};
pub use groups::{
    ConsumerAssignor, ConsumerGroupConfig, ConsumerGroupSettings, GroupConfig, MigrationPolicy,
};
pub use kraft::{PromoteError, Promoted, Promotion, promote};
pub use metrics::{BrokerMetrics, PartitionMetrics, QuotaMetrics, QuotaOf};
pub use output::{Output, RequestEnvelope, SyncId, throttle_ms};
pub use produce_job::ProduceJob;
pub use removal::{RemovalJob, Removed};
pub use share_partitions::{
    SHARE_GROUP_CONFIGS, ShareConfig, ShareGroupSettings, ShareOffsetReset,
};
pub use telemetry::{
    ClientMetric, ClientMetricKind, ClientMetricValue, ClientMetrics, TelemetryMetrics,
};
pub use topic_config::{TopicCompression, TopicConfig};
pub use topics::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
pub use transactions::TransactionConfig;
