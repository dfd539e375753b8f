//! Kafka's client as a machine: connections, metadata, producer and consumer, with librdkafka's semantics.
//!
//! [`Client`] is passive: it owns no thread, socket or clock. `docs/internals/client.md` and `docs/internals/consumer.md` tell
//! how its parts work together.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod client;
pub mod config;
pub mod consumer;
mod debug;
pub mod error;
mod metadata;
mod network;
mod output;
pub mod producer;
mod random;
mod request_form;
mod statistics;

pub use client::Client;
pub use config::{BootstrapServer, ClientConfig, IsolationLevel, OffsetReset, Role, TopicConfig};
pub use debug::{Contexts, DebugLine};
pub use error::{ErrCode, KafkaError};
pub use metadata::{BrokerAddress, Metadata, PartitionMetadata, TopicMetadata};
pub use output::{ConnId, Event, Output, RequestId, Route, Throttled};
pub use statistics::{
    BrokerCounters, BrokerStatistics, ConsumedPartitionStatistics, PartitionCounters,
    PartitionStatistics, ProducerCounters, Statistics, Window,
};
