//! Ottla is Kafka as a library.
//!
//! The façade: the Rust API ([`Producer`](crate::Handle), [`Admin`], …) and the [`Handle`] that the other languages' bindings are
//! built on.

mod admin;
mod answers;
mod broker;
pub mod config;
mod consumer;
mod event;
mod handle;
mod partition;
mod producer;
mod queue;
mod shared;
mod statistics;

pub use admin::{
    Admin, ConfigEntry, ConfigResource, GroupListing, ListedOffset, NewTopic, OffsetSpec,
};
pub use answers::{BrokerInfo, GroupInfo, GroupMember, Metadata, PartitionMetadata, TopicMetadata};
pub use broker::Broker;
pub use config::{Config, ConfigError, CustomPartitioner, Logger, TopicConfig};
pub use consumer::Consumer;
pub use event::{
    Delivery, DeliveryBatch, Event, FetchedBatch, LogLine, Persistence, RebalanceKind, Record,
};
pub use handle::{GroupMetadata, Handle, InterruptCheck, ProduceRecord, TopicHandle};
pub use ottla_client::{ErrCode, KafkaError, Role, Route};
pub use ottla_protocol::{ErrorCode, Str};
pub use ottla_record::{Header, Headers};
pub use partition::{TimestampType, TopicPartition, offset};
pub use producer::{Delivered, NewRecord, Producer};
pub use queue::{Queue, QueueHook};
