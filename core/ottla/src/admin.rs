//! Administration: topics, groups, offsets, configurations.

use crate::{Config, Handle, KafkaError, TopicPartition};
use std::time::Duration;

/// Administers a cluster. All calls wait for the answer, at most for `timeout`; results are per topic, group or partition, in the
/// order of the request.
#[derive(Clone, Debug)]
pub struct Admin {}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Partitions; -1 is the broker's `num.partitions`.
    pub num_partitions: i32,
    /// Replicas; -1 is the broker's default.
    pub replication_factor: i16,
    /// Topic configurations (Kafka's names: `retention.ms`, `cleanup.policy`…).
    pub config: Vec<(String, String)>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group_id: String,
    /// Its state: `Stable`, `Empty`…
    pub state: String,
    /// `consumer` for consumers.
    pub protocol_type: String,
    /// `classic`.
    pub group_type: String,
}

/// Which offset [`Admin::list_offsets`] is to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log's first.
    Earliest,
    /// The log's end.
    Latest,
    /// That of the record with the largest timestamp.
    MaxTimestamp,
    /// The first whose record is not older than this, in ms since the epoch.
    Timestamp(i64),
}

/// An answer of [`Admin::list_offsets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; -1 if there is none.
    pub offset: i64,
    /// The record's timestamp; -1 if it has none.
    pub timestamp: i64,
    /// Its leader epoch; -1 if unknown.
    pub leader_epoch: i32,
}

/// One setting of a broker or topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// Kafka's number of where the value comes from: 1 the topic, 4 the broker's file, 5 default.
    pub source: i8,
    /// It can't be changed.
    pub is_read_only: bool,
    /// It is a secret; the value is not told.
    pub is_sensitive: bool,
}

/// What has settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic.
    Topic(String),
    /// A broker by node id.
    Broker(i32),
}

#[allow(unused_variables)]
impl Admin {
    /// Connects. Takes the same properties as a producer.
    pub fn new(config: Config) -> Result<Self, KafkaError> {
        todo!()
    }
    /// Uses a handle that is there.
    pub fn of(handle: &Handle) -> Self {
        todo!()
    }
    /// The handle underneath.
    pub fn handle(&self) -> &Handle {
        todo!()
    }
    /// Creates topics. With `validate_only` it only says whether it could.
    pub fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
        timeout: Duration,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        todo!()
    }
    /// Deletes topics with all their records.
    pub fn delete_topics(
        &self,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        todo!()
    }
    /// Gives topics more partitions: to so many in all.
    pub fn create_partitions(
        &self,
        topics: &[(&str, i32)],
        validate_only: bool,
        timeout: Duration,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        todo!()
    }
    /// Brokers and topics.
    pub fn metadata(
        &self,
        topics: Option<&[&str]>,
        timeout: Duration,
    ) -> Result<crate::Metadata, KafkaError> {
        todo!()
    }
    /// Groups, of these states or of any.
    pub fn list_groups(
        &self,
        states: &[&str],
        timeout: Duration,
    ) -> Result<Vec<GroupListing>, KafkaError> {
        todo!()
    }
    /// Groups with their members.
    pub fn describe_groups(
        &self,
        groups: &[&str],
        timeout: Duration,
    ) -> Result<Vec<Result<crate::GroupInfo, KafkaError>>, KafkaError> {
        todo!()
    }
    /// Deletes groups that are empty.
    pub fn delete_groups(
        &self,
        groups: &[&str],
        timeout: Duration,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        todo!()
    }
    /// Committed offsets of a group: all, or these partitions'.
    pub fn list_group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
        timeout: Duration,
    ) -> Result<Vec<TopicPartition>, KafkaError> {
        todo!()
    }
    /// Sets committed offsets of a group that is empty.
    pub fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<TopicPartition>, KafkaError> {
        todo!()
    }
    /// Forgets committed offsets.
    pub fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<TopicPartition>, KafkaError> {
        todo!()
    }
    /// Finds offsets.
    pub fn list_offsets(
        &self,
        wanted: &[(TopicPartition, OffsetSpec)],
        timeout: Duration,
    ) -> Result<Vec<Result<ListedOffset, KafkaError>>, KafkaError> {
        todo!()
    }
    /// Settings of topics and brokers.
    pub fn describe_configs(
        &self,
        resources: &[ConfigResource],
        timeout: Duration,
    ) -> Result<Vec<Result<Vec<ConfigEntry>, KafkaError>>, KafkaError> {
        todo!()
    }
}
