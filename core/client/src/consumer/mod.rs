//! The consumer machine: group membership, offsets, fetching, and the iterator over what was fetched.
//!
//! `docs/internals/consumer.md` tells how the parts work together. The machine ([`machine`]) is passive like all of
//! this crate: inputs and commands change its state, [`machine::Consumer::serve`] does what can be done, and what it
//! wants of the network is polled. Records leave it as [`Fetched`], which needs neither the machine nor its lock.

mod assignment;
pub mod assignors;
mod commit;
mod config;
mod consumed_partition;
mod failures;
mod fetched;
mod fetcher;
mod group_messages;
mod joining;
mod leaving;
mod machine;
mod membership;
pub mod offset;
mod partition;
mod queries;
mod rebalance;
#[cfg(test)]
mod scripted;
mod start_offsets;
mod statistics;
mod subscription;

pub use assignors::TopicPartition;

pub(crate) use config::ConsumerConfig;
pub use consumed_partition::ConsumedPartition;
pub use fetched::{BadBatch, ConsumeError, ConsumedRecord, Fetched, TimestampType};
pub(crate) use machine::{Cluster, Consumer, To, Want};
pub use machine::{Consumed, ConsumerEvent, OperationResult, PartitionOffset, RebalanceKind};

use alloc::vec;
use alloc::vec::Vec;
use ottla_protocol::Str;

/// Groups what belongs to one topic, topics in the order of their first appearance.
fn by_topic<T>(items: impl Iterator<Item = (Str, T)>) -> Vec<(Str, Vec<T>)> {
    let mut topics: Vec<(Str, Vec<T>)> = Vec::new();
    for (topic, item) in items {
        // Sorted input, the usual case, finds its topic last.
        match topics.iter_mut().rev().find(|(name, _)| *name == topic) {
            Some((_, of_topic)) => of_topic.push(item),
            None => topics.push((topic, vec![item])),
        }
    }
    topics
}
