//! Ottla is Kafka as a library.
//!
//! The façade: the Rust API ([`Producer`](crate::Handle), [`Admin`], …) and the [`Handle`] that the other languages' bindings are
//! built on.

mod admin;
mod answers;
pub mod config;
mod event;
mod handle;
mod partition;
mod queue;
mod shared;
mod statistics;

pub use admin::{
    Admin, ConfigEntry, ConfigResource, GroupListing, ListedOffset, NewTopic, OffsetSpec,
};
pub use answers::{BrokerInfo, GroupInfo, GroupMember, Metadata, PartitionMetadata, TopicMetadata};
pub use config::{Config, ConfigError, CustomPartitioner, Logger, TopicConfig};
pub use event::{
    Delivery, DeliveryBatch, Event, FetchedBatch, LogLine, Persistence, RebalanceKind, Record,
};
pub use handle::{GroupMetadata, Handle, InterruptCheck, ProduceRecord, TopicHandle};
pub use ottla_client::{ErrCode, KafkaError, Role, Route};
pub use ottla_protocol::{ErrorCode, Str};
pub use ottla_record::{Header, Headers};
pub use partition::{TimestampType, TopicPartition, offset};
pub use queue::{Queue, QueueHook};
