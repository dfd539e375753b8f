//! The client: a passive machine with a producer or a consumer on top of connections, metadata and routed requests.
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod config;
pub mod consumer;
pub mod error;
pub mod producer;

pub use config::{BootstrapServer, ClientConfig, IsolationLevel, OffsetReset, Role, TopicConfig};
pub use error::{ErrCode, KafkaError};
