//! Groups and their committed offsets.

use super::{Admin, told};
use crate::{ErrCode, ErrorCode, KafkaError, Route, Str, TopicPartition, handle::unexpected};
use ottla_protocol::{
    Request, Response,
    messages::{
        DeleteGroupsRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest,
        OffsetFetchRequest,
        offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch::{
            OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
            OffsetFetchResponseTopics,
        },
    },
};
use std::{collections::BTreeMap, time::Duration};

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

/// Groups.
impl Admin {
    /// Groups, of these states or of any.
    pub fn list_groups(
        &self,
        states: &[&str],
        timeout: Duration,
    ) -> Result<Vec<GroupListing>, KafkaError> {
        self.list_groups_of(states, &[], timeout)
    }

    /// The same; of these types (`classic`, `consumer`) besides, or of any.
    pub fn list_groups_of(
        &self,
        states: &[&str],
        types: &[&str],
        timeout: Duration,
    ) -> Result<Vec<GroupListing>, KafkaError> {
        let request = ListGroupsRequest {
            states_filter: states.iter().map(|state| (*state).into()).collect(),
            types_filter: types.iter().map(|kind| (*kind).into()).collect(),
        };
        match self.handle.request(
            self.route(Route::Any),
            Request::ListGroups(request),
            timeout,
        )? {
            Response::ListGroups(response) if response.error_code.0 == 0 => Ok(response
                .groups
                .into_iter()
                .map(|group| GroupListing {
                    group_id: group.group_id.as_str().into(),
                    state: group.group_state.as_str().into(),
                    protocol_type: group.protocol_type.as_str().into(),
                    group_type: group.group_type.as_str().into(),
                })
                .collect()),
            Response::ListGroups(response) => Err(KafkaError::from(response.error_code)),
            other => Err(unexpected(&other)),
        }
    }

    /// Groups of either kind with their members: those that the broker runs (KIP-848) and classic ones.
    pub fn describe_groups(
        &self,
        groups: &[&str],
        timeout: Duration,
    ) -> Result<Vec<Result<crate::GroupInfo, KafkaError>>, KafkaError> {
        Ok(groups
            .iter()
            .map(|group| {
                let info = self.handle.describe_group_of_any_kind(
                    (*group).into(),
                    self.options.authorized_operations,
                    timeout,
                )?;
                if info.error == ErrCode::NO_ERROR {
                    Ok(info)
                } else {
                    Err(KafkaError::from(info.error))
                }
            })
            .collect())
    }

    /// Deletes groups that are empty.
    pub fn delete_groups(
        &self,
        groups: &[&str],
        timeout: Duration,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        let delete = |group: &&str| {
            let request = DeleteGroupsRequest {
                groups_names: vec![(*group).into()],
            };
            let route = self.route(Route::GroupCoordinator((*group).into()));
            match self
                .handle
                .request(route, Request::DeleteGroups(request), timeout)?
            {
                Response::DeleteGroups(response) => match response.results.first() {
                    Some(result) => told(result.error_code, None),
                    None => Err(KafkaError::from(ErrCode::BAD_MSG)),
                },
                other => Err(unexpected(&other)),
            }
        };
        Ok(groups.iter().map(delete).collect())
    }

    /// Committed offsets of a group: all, or these partitions'.
    pub fn list_group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
        timeout: Duration,
    ) -> Result<Vec<TopicPartition>, KafkaError> {
        let topics = partitions.map(|partitions| {
            by_topic(partitions)
                .into_iter()
                .map(|(name, partitions)| OffsetFetchRequestTopics {
                    name,
                    partition_indexes: partitions.iter().map(|p| p.partition).collect(),
                    ..Default::default()
                })
                .collect::<Vec<_>>()
        });
        let old = topics.as_ref().map(|topics| {
            let topic = |topic: &OffsetFetchRequestTopics| OffsetFetchRequestTopic {
                name: topic.name.clone(),
                partition_indexes: topic.partition_indexes.clone(),
            };
            topics.iter().map(topic).collect()
        });
        let request = OffsetFetchRequest {
            group_id: group.into(),
            topics: old,
            groups: vec![OffsetFetchRequestGroup {
                group_id: group.into(),
                topics,
                ..Default::default()
            }],
            require_stable: self.options.require_stable_offsets,
        };
        let route = self.route(Route::GroupCoordinator(group.into()));
        let response = self
            .handle
            .request(route, Request::OffsetFetch(request), timeout)?;
        let Response::OffsetFetch(mut response) = response else {
            return Err(unexpected(&response));
        };
        let group = response
            .groups
            .pop()
            .ok_or_else(|| KafkaError::from(ErrCode::BAD_MSG))?;
        if group.error_code.0 != 0 {
            return Err(KafkaError::from(group.error_code));
        }
        let of_topic = |topic: OffsetFetchResponseTopics| {
            let name = topic.name;
            topic.partitions.into_iter().map(move |p| TopicPartition {
                topic: name.clone(),
                partition: p.partition_index,
                offset: if p.committed_offset < 0 {
                    crate::offset::INVALID
                } else {
                    p.committed_offset
                },
                leader_epoch: p.committed_leader_epoch,
                metadata: p.metadata,
                error: p.error_code.into(),
            })
        };
        Ok(group.topics.into_iter().flat_map(of_topic).collect())
    }

    /// Sets committed offsets of a group that is empty.
    pub fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<TopicPartition>, KafkaError> {
        let topics =
            by_topic(offsets)
                .into_iter()
                .map(|(name, partitions)| OffsetCommitRequestTopic {
                    name,
                    partitions: partitions
                        .iter()
                        .map(|p| OffsetCommitRequestPartition {
                            partition_index: p.partition,
                            committed_offset: p.offset,
                            committed_leader_epoch: p.leader_epoch,
                            committed_metadata: p.metadata.clone(),
                        })
                        .collect(),
                    ..Default::default()
                });
        let request = OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: -1,
            topics: topics.collect(),
            ..Default::default()
        };
        let route = self.route(Route::GroupCoordinator(group.into()));
        let response = self
            .handle
            .request(route, Request::OffsetCommit(request), timeout)?;
        let Response::OffsetCommit(response) = response else {
            return Err(unexpected(&response));
        };
        let answered = response.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|p| (topic.name.as_str(), p.partition_index, p.error_code))
        });
        Ok(with_errors(offsets, answered))
    }

    /// Forgets committed offsets.
    pub fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<TopicPartition>, KafkaError> {
        let topics =
            by_topic(partitions)
                .into_iter()
                .map(|(name, partitions)| OffsetDeleteRequestTopic {
                    name,
                    partitions: partitions
                        .iter()
                        .map(|p| OffsetDeleteRequestPartition {
                            partition_index: p.partition,
                        })
                        .collect(),
                });
        let request = OffsetDeleteRequest {
            group_id: group.into(),
            topics: topics.collect(),
        };
        let route = self.route(Route::GroupCoordinator(group.into()));
        let response = self
            .handle
            .request(route, Request::OffsetDelete(request), timeout)?;
        let Response::OffsetDelete(response) = response else {
            return Err(unexpected(&response));
        };
        if response.error_code.0 != 0 {
            return Err(KafkaError::from(response.error_code));
        }
        let answered = response.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|p| (topic.name.as_str(), p.partition_index, p.error_code))
        });
        Ok(with_errors(partitions, answered))
    }
}

/// Partitions with what a broker said of each: its answer is topics, partitions and errors.
fn with_errors<'a>(
    partitions: &[TopicPartition],
    answered: impl Iterator<Item = (&'a str, i32, ErrorCode)>,
) -> Vec<TopicPartition> {
    let errors: BTreeMap<(&str, i32), ErrorCode> = answered
        .map(|(topic, partition, error)| ((topic, partition), error))
        .collect();
    let one = |wanted: &TopicPartition| {
        let answer = errors.get(&(wanted.topic.as_str(), wanted.partition));
        TopicPartition {
            // One that the broker has left out.
            error: answer.map_or(ErrCode::BAD_MSG, |code| ErrCode::from(*code)),
            ..wanted.clone()
        }
    };
    partitions.iter().map(one).collect()
}

fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<Str, Vec<&TopicPartition>> {
    let mut topics: BTreeMap<Str, Vec<&TopicPartition>> = BTreeMap::new();
    for partition in partitions {
        topics
            .entry(partition.topic.clone())
            .or_default()
            .push(partition);
    }
    topics
}
