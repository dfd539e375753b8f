//! What a JVM Kafka in KRaft mode keeps of a cluster: the metadata log `__cluster_metadata-0` with its snapshots, and
//! `bootstrap.checkpoint`, the records with which a new log begins.
//!
//! Ottla writes the latter so that a JVM Kafka starts on its directory ([`promote`]), and reads the log to find what a JVM
//! Kafka made ([`ClusterMetadata::read`]). See `docs/internals/kafka_directory.md`.

mod checkpoint;
mod metadata;
mod promotion;
mod records;

pub(crate) use metadata::{ClusterMetadata, MetadataTopic};
pub use promotion::{PromoteError, Promoted, Promotion, promote};

/// The metadata log's directory.
pub(crate) const METADATA_DIR: &str = "__cluster_metadata-0";
/// The records with which a new metadata log begins, written by Kafka's storage format step and by [`promote`].
pub(crate) const BOOTSTRAP_CHECKPOINT: &str = "bootstrap.checkpoint";

#[cfg(test)]
mod tests;
