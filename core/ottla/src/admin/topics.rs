//! Topics: creating, growing, deleting, describing.

use super::{Admin, in_order, told};
use crate::{BrokerInfo, ErrCode, KafkaError, Route, TopicMetadata, handle::unexpected};
use ottla_protocol::{
    Request, Response,
    messages::{
        CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest,
        create_partitions::{CreatePartitionsAssignment, CreatePartitionsTopic},
        create_topics::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig},
        delete_topics::{DeletableTopicResult, DeleteTopicState},
        metadata::MetadataRequestTopic,
    },
};
use std::time::Duration;

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
    /// Brokers of each partition, the preferred leader first, in place of `num_partitions` and `replication_factor`. Usually empty:
    /// the cluster chooses.
    pub replica_assignments: Vec<Vec<i32>>,
}

/// More partitions for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitions {
    /// The topic.
    pub topic: String,
    /// How many partitions it is to have in all.
    pub total_count: i32,
    /// Brokers of each new partition, or empty: the cluster chooses.
    pub replica_assignments: Vec<Vec<i32>>,
}

/// An answer of [`Admin::describe_topics`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicDescriptions {
    /// The brokers that partitions name by id.
    pub nodes: Vec<BrokerInfo>,
    /// The topics, in the order of the request.
    pub topics: Vec<Result<TopicDescription, KafkaError>>,
}

/// A topic in a [`TopicDescriptions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name, error and partitions.
    pub topic: TopicMetadata,
    /// Its id as 16 bytes; zeroes if the broker has told none.
    pub id: [u8; 16],
    /// Bits of Kafka's `AclOperation` numbers; `i32::MIN` if they weren't asked for.
    pub authorized_operations: i32,
}

/// Topics.
impl Admin {
    /// Creates topics. With `validate_only` it only says whether it could.
    pub fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
        timeout: Duration,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        let request = CreateTopicsRequest {
            topics: topics.iter().map(creatable).collect(),
            timeout_ms: self.operation_timeout(timeout),
            validate_only,
        };
        match self.handle.request(
            self.route(Route::Controller),
            Request::CreateTopics(request),
            timeout,
        )? {
            Response::CreateTopics(response) => {
                Ok(in_order(topics.iter().map(|topic| &*topic.name), |name| {
                    let found = response.topics.iter().find(|topic| &*topic.name == name)?;
                    Some(told(found.error_code, found.error_message.as_ref()))
                }))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes topics with all their records.
    pub fn delete_topics(
        &self,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        let state = |name: &&str| DeleteTopicState {
            name: Some((*name).into()),
            ..Default::default()
        };
        let request = DeleteTopicsRequest {
            topics: topics.iter().map(state).collect(),
            topic_names: topics.iter().map(|name| (*name).into()).collect(),
            timeout_ms: self.operation_timeout(timeout),
        };
        match self.handle.request(
            self.route(Route::Controller),
            Request::DeleteTopics(request),
            timeout,
        )? {
            Response::DeleteTopics(response) => Ok(in_order(topics.iter().copied(), |name| {
                let of = |topic: &&DeletableTopicResult| topic.name.as_deref() == Some(name);
                let found = response.responses.iter().find(of)?;
                Some(told(found.error_code, found.error_message.as_ref()))
            })),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives topics more partitions: to so many in all.
    pub fn create_partitions(
        &self,
        topics: &[(&str, i32)],
        validate_only: bool,
        timeout: Duration,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        let topic = |(topic, total_count): &(&str, i32)| NewPartitions {
            topic: (*topic).into(),
            total_count: *total_count,
            replica_assignments: Vec::new(),
        };
        let topics: Vec<_> = topics.iter().map(topic).collect();
        self.create_new_partitions(&topics, validate_only, timeout)
    }

    /// The same, for those who say where the new partitions are to be.
    pub fn create_new_partitions(
        &self,
        topics: &[NewPartitions],
        validate_only: bool,
        timeout: Duration,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        let assignment = |brokers: &Vec<i32>| CreatePartitionsAssignment {
            broker_ids: brokers.clone(),
        };
        let topic = |topic: &NewPartitions| CreatePartitionsTopic {
            name: topic.topic.as_str().into(),
            count: topic.total_count,
            assignments: (!topic.replica_assignments.is_empty())
                .then(|| topic.replica_assignments.iter().map(assignment).collect()),
        };
        let request = CreatePartitionsRequest {
            topics: topics.iter().map(topic).collect(),
            timeout_ms: self.operation_timeout(timeout),
            validate_only,
        };
        match self.handle.request(
            self.route(Route::Controller),
            Request::CreatePartitions(request),
            timeout,
        )? {
            Response::CreatePartitions(response) => {
                Ok(in_order(topics.iter().map(|topic| &*topic.topic), |name| {
                    let found = response.results.iter().find(|topic| &*topic.name == name)?;
                    Some(told(found.error_code, found.error_message.as_ref()))
                }))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Brokers and topics.
    pub fn metadata(
        &self,
        topics: Option<&[&str]>,
        timeout: Duration,
    ) -> Result<crate::Metadata, KafkaError> {
        self.handle.metadata(topics, timeout)
    }

    /// Topics with their ids. A topic that isn't there is not created.
    pub fn describe_topics(
        &self,
        topics: &[&str],
        timeout: Duration,
    ) -> Result<TopicDescriptions, KafkaError> {
        if topics.is_empty() {
            return Ok(TopicDescriptions::default());
        }
        let topic = |name: &&str| MetadataRequestTopic {
            name: Some((*name).into()),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: Some(topics.iter().map(topic).collect()),
            allow_auto_topic_creation: false,
            include_topic_authorized_operations: self.options.authorized_operations,
            ..Default::default()
        };
        let route = self.route(Route::Any);
        let response = self
            .handle
            .request(route, Request::Metadata(request), timeout)?;
        let Response::Metadata(response) = response else {
            return Err(unexpected(&response));
        };
        let known: Vec<TopicDescription> = response
            .topics
            .into_iter()
            .map(|topic| TopicDescription {
                id: topic.topic_id.0,
                authorized_operations: topic.topic_authorized_operations,
                topic: TopicMetadata::from(topic),
            })
            .collect();
        let described = |name: &&str| {
            let found = known.iter().find(|found| &*found.topic.name == *name);
            match found {
                Some(found) if found.topic.error == ErrCode::NO_ERROR => Ok(found.clone()),
                Some(found) => Err(KafkaError::from(found.topic.error)),
                None => Err(KafkaError::from(ErrCode::BAD_MSG)),
            }
        };
        let nodes = response.brokers.into_iter().map(|broker| BrokerInfo {
            id: broker.node_id,
            host: broker.host,
            port: broker.port,
            rack: broker.rack,
        });
        Ok(TopicDescriptions {
            nodes: nodes.collect(),
            topics: topics.iter().map(described).collect(),
        })
    }
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    let assignments: Vec<CreatableReplicaAssignment> = (0..)
        .zip(&topic.replica_assignments)
        .map(|(partition_index, brokers)| CreatableReplicaAssignment {
            partition_index,
            broker_ids: brokers.clone(),
        })
        .collect();
    // Who says where each partition is has said how many there are.
    let chosen = |number| if assignments.is_empty() { number } else { -1 };
    CreatableTopic {
        name: topic.name.as_str().into(),
        num_partitions: chosen(topic.num_partitions),
        replication_factor: chosen(topic.replication_factor.into()) as i16,
        configs: topic
            .config
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: name.as_str().into(),
                value: Some(value.as_str().into()),
            })
            .collect(),
        assignments,
    }
}
