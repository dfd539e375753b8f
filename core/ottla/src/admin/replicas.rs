//! What concerns partitions' replicas: elections, reassignments. An embedded broker has one of each and moves none, and says so itself.

use super::{Admin, told};
use crate::{ErrorCode, KafkaError, Route, Str, TopicPartition, handle::unexpected};
use ottla_protocol::{
    Request, Response,
    messages::{
        ElectLeadersRequest, ListPartitionReassignmentsRequest, elect_leaders,
        list_partition_reassignments::ListPartitionReassignmentsTopics,
    },
};
use std::time::Duration;

/// Who is to lead a partition; the numbers are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionType {
    /// The first of its replicas.
    Preferred = 0,
    /// The first that lives, though records may be lost, where no replica in sync lives.
    Unclean = 1,
}

/// A partition whose replicas are being moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// The topic.
    pub topic: Str,
    /// The partition.
    pub partition: i32,
    /// Brokers that have it, or are to have it.
    pub replicas: Vec<i32>,
    /// Those that are to have it.
    pub adding_replicas: Vec<i32>,
    /// Those that are to have it no longer.
    pub removing_replicas: Vec<i32>,
}

/// Topics with the numbers that were given for each.
fn by_topic(partitions: &[TopicPartition]) -> Vec<(Str, Vec<i32>)> {
    let mut topics: Vec<(Str, Vec<i32>)> = Vec::new();
    for partition in partitions {
        match topics.iter_mut().find(|(name, _)| *name == partition.topic) {
            Some((_, numbers)) => numbers.push(partition.partition),
            None => topics.push((partition.topic.clone(), vec![partition.partition])),
        }
    }
    topics
}

/// Replicas.
impl Admin {
    /// Has leaders elected, of these partitions or with `None` of all: what became of each that was asked for, or for which there was
    /// something to elect. `ELECTION_NOT_NEEDED` if the right one leads it already.
    #[allow(clippy::type_complexity)] // it is told above
    pub fn elect_leaders(
        &self,
        kind: ElectionType,
        partitions: Option<&[TopicPartition]>,
        timeout: Duration,
    ) -> Result<Vec<(Str, i32, Result<(), KafkaError>)>, KafkaError> {
        let topics = |partitions: &[TopicPartition]| {
            let topics = by_topic(partitions).into_iter();
            topics
                .map(|(topic, partitions)| elect_leaders::TopicPartitions { topic, partitions })
                .collect()
        };
        let request = ElectLeadersRequest {
            election_type: kind as i8,
            topic_partitions: partitions.map(topics),
            timeout_ms: self.operation_timeout(timeout),
        };
        let route = self.route(Route::Controller);
        let response = self
            .handle
            .request(route, Request::ElectLeaders(request), timeout)?;
        let Response::ElectLeaders(response) = response else {
            return Err(unexpected(&response));
        };
        if response.error_code != ErrorCode::NONE {
            return Err(KafkaError::from(response.error_code));
        }
        let of_topic = |topic: elect_leaders::ReplicaElectionResult| {
            let name = topic.topic;
            topic.partition_result.into_iter().map(move |p| {
                let done = told(p.error_code, p.error_message.as_ref());
                (name.clone(), p.partition_id, done)
            })
        };
        let topics = response.replica_election_results.into_iter();
        Ok(topics.flat_map(of_topic).collect())
    }

    /// The partitions whose replicas are being moved (KIP-455): among these, or with `None` all.
    pub fn list_partition_reassignments(
        &self,
        partitions: Option<&[TopicPartition]>,
        timeout: Duration,
    ) -> Result<Vec<Reassignment>, KafkaError> {
        let topics = |partitions: &[TopicPartition]| {
            let topics = by_topic(partitions).into_iter();
            topics
                .map(
                    |(name, partition_indexes)| ListPartitionReassignmentsTopics {
                        name,
                        partition_indexes,
                    },
                )
                .collect()
        };
        let request = ListPartitionReassignmentsRequest {
            timeout_ms: self.operation_timeout(timeout),
            topics: partitions.map(topics),
        };
        let route = self.route(Route::Controller);
        let request = Request::ListPartitionReassignments(request);
        let response = self.handle.request(route, request, timeout)?;
        let Response::ListPartitionReassignments(response) = response else {
            return Err(unexpected(&response));
        };
        told(response.error_code, response.error_message.as_ref())?;
        let topics = response.topics.into_iter();
        Ok(topics
            .flat_map(|topic| {
                let name = topic.name;
                topic.partitions.into_iter().map(move |p| Reassignment {
                    topic: name.clone(),
                    partition: p.partition_index,
                    replicas: p.replicas,
                    adding_replicas: p.adding_replicas,
                    removing_replicas: p.removing_replicas,
                })
            })
            .collect())
    }
}
