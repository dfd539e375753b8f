//! Administration: topics, groups, offsets, configurations.

use crate::{
    Config, ErrCode, ErrorCode, Handle, KafkaError, Role, Route, Str, TopicPartition,
    handle::{milliseconds, unexpected},
};
use ottla_protocol::{
    Request, Response,
    messages::{
        CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest,
        DeleteTopicsRequest, DescribeConfigsRequest, ListGroupsRequest, ListOffsetsRequest,
        OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
        create_partitions::CreatePartitionsTopic,
        create_topics::{CreatableTopic, CreatableTopicConfig},
        delete_records::{DeleteRecordsPartition, DeleteRecordsTopic},
        delete_topics::{DeletableTopicResult, DeleteTopicState},
        describe_configs::DescribeConfigsResource,
        list_offsets::{ListOffsetsPartition, ListOffsetsTopic},
        offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch::{
            OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
            OffsetFetchResponseTopics,
        },
    },
};
use std::{collections::BTreeMap, time::Duration};

/// Administers a cluster. All calls wait for the answer, at most for `timeout`; results are per topic, group or partition, in the
/// order of the request.
#[derive(Clone, Debug)]
pub struct Admin {
    handle: Handle,
}

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

impl Admin {
    /// Connects. Takes the same properties as a producer.
    pub fn new(config: Config) -> Result<Self, KafkaError> {
        Ok(Self {
            handle: Handle::new(Role::Producer, config)?,
        })
    }
    /// Uses a handle that is there.
    pub fn of(handle: &Handle) -> Self {
        Self {
            handle: handle.clone(),
        }
    }
    /// The handle underneath.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
    /// Creates topics. With `validate_only` it only says whether it could.
    pub fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
        timeout: Duration,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        let request = CreateTopicsRequest {
            topics: topics.iter().map(creatable).collect(),
            timeout_ms: milliseconds(timeout),
            validate_only,
        };
        match self
            .handle
            .request(Route::Controller, Request::CreateTopics(request), timeout)?
        {
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
            timeout_ms: milliseconds(timeout),
        };
        match self
            .handle
            .request(Route::Controller, Request::DeleteTopics(request), timeout)?
        {
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
        let topic = |(name, count): &(&str, i32)| CreatePartitionsTopic {
            name: (*name).into(),
            count: *count,
            assignments: None,
        };
        let request = CreatePartitionsRequest {
            topics: topics.iter().map(topic).collect(),
            timeout_ms: milliseconds(timeout),
            validate_only,
        };
        match self.handle.request(
            Route::Controller,
            Request::CreatePartitions(request),
            timeout,
        )? {
            Response::CreatePartitions(response) => {
                Ok(in_order(topics.iter().map(|(name, _)| *name), |name| {
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
    /// Groups, of these states or of any.
    pub fn list_groups(
        &self,
        states: &[&str],
        timeout: Duration,
    ) -> Result<Vec<GroupListing>, KafkaError> {
        let request = ListGroupsRequest {
            states_filter: states.iter().map(|state| (*state).into()).collect(),
            ..Default::default()
        };
        match self
            .handle
            .request(Route::Any, Request::ListGroups(request), timeout)?
        {
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
    /// Groups with their members.
    pub fn describe_groups(
        &self,
        groups: &[&str],
        timeout: Duration,
    ) -> Result<Vec<Result<crate::GroupInfo, KafkaError>>, KafkaError> {
        Ok(groups
            .iter()
            .map(|group| {
                let info = self.handle.describe_group((*group).into(), timeout)?;
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
            let route = Route::GroupCoordinator((*group).into());
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
            ..Default::default()
        };
        let route = Route::GroupCoordinator(group.into());
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
        let route = Route::GroupCoordinator(group.into());
        let response = self
            .handle
            .request(route, Request::OffsetCommit(request), timeout)?;
        let Response::OffsetCommit(response) = response else {
            return Err(unexpected(&response));
        };
        let error = |wanted: &TopicPartition| {
            let topic = response
                .topics
                .iter()
                .find(|topic| topic.name == wanted.topic)?;
            topic
                .partitions
                .iter()
                .find(|p| p.partition_index == wanted.partition)
                .map(|p| p.error_code)
        };
        Ok(with_errors(offsets, error))
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
        let route = Route::GroupCoordinator(group.into());
        let response = self
            .handle
            .request(route, Request::OffsetDelete(request), timeout)?;
        let Response::OffsetDelete(response) = response else {
            return Err(unexpected(&response));
        };
        if response.error_code.0 != 0 {
            return Err(KafkaError::from(response.error_code));
        }
        let error = |wanted: &TopicPartition| {
            let topic = response
                .topics
                .iter()
                .find(|topic| topic.name == wanted.topic)?;
            topic
                .partitions
                .iter()
                .find(|p| p.partition_index == wanted.partition)
                .map(|p| p.error_code)
        };
        Ok(with_errors(partitions, error))
    }
    /// Finds offsets.
    pub fn list_offsets(
        &self,
        wanted: &[(TopicPartition, OffsetSpec)],
        timeout: Duration,
    ) -> Result<Vec<Result<ListedOffset, KafkaError>>, KafkaError> {
        wanted
            .iter()
            .map(|(partition, spec)| Ok(self.list_offset(partition, *spec, timeout)))
            .collect()
    }
    /// Deletes the records before each `offset`, -1 for all that are committed: each partition comes back with the offset of its
    /// first record then, or its error (`OFFSET_OUT_OF_RANGE` behind the end).
    pub fn delete_records(
        &self,
        before: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<TopicPartition>, KafkaError> {
        before
            .iter()
            .map(|partition| self.delete_records_of(partition, timeout))
            .collect()
    }
    /// Settings of topics and brokers.
    pub fn describe_configs(
        &self,
        resources: &[ConfigResource],
        timeout: Duration,
    ) -> Result<Vec<Result<Vec<ConfigEntry>, KafkaError>>, KafkaError> {
        let resource = |resource: &ConfigResource| {
            let (resource_type, resource_name) = match resource {
                ConfigResource::Topic(name) => (2, name.as_str().into()),
                ConfigResource::Broker(node) => (4, node.to_string().into()),
            };
            DescribeConfigsResource {
                resource_type,
                resource_name,
                configuration_keys: None,
            }
        };
        let request = DescribeConfigsRequest {
            resources: resources.iter().map(resource).collect(),
            ..Default::default()
        };
        let response =
            self.handle
                .request(Route::Any, Request::DescribeConfigs(request), timeout)?;
        let Response::DescribeConfigs(response) = response else {
            return Err(unexpected(&response));
        };
        Ok(response
            .results
            .into_iter()
            .map(|result| {
                told(result.error_code, result.error_message.as_ref())?;
                Ok(result
                    .configs
                    .into_iter()
                    .map(|config| ConfigEntry {
                        name: config.name.as_str().into(),
                        value: config.value.map(|value| value.as_str().into()),
                        source: config.config_source,
                        is_read_only: config.read_only,
                        is_sensitive: config.is_sensitive,
                    })
                    .collect())
            })
            .collect())
    }
}

impl Admin {
    fn delete_records_of(
        &self,
        before: &TopicPartition,
        timeout: Duration,
    ) -> Result<TopicPartition, KafkaError> {
        let partition = DeleteRecordsPartition {
            partition_index: before.partition,
            offset: before.offset,
        };
        let topic = DeleteRecordsTopic {
            name: before.topic.clone(),
            partitions: vec![partition],
        };
        let request = DeleteRecordsRequest {
            topics: vec![topic],
            timeout_ms: milliseconds(timeout),
        };
        let route = Route::Leader(before.topic.clone(), before.partition);
        let response = self
            .handle
            .request(route, Request::DeleteRecords(request), timeout)?;
        let Response::DeleteRecords(mut response) = response else {
            return Err(unexpected(&response));
        };
        let answer = response
            .topics
            .pop()
            .and_then(|mut topic| topic.partitions.pop())
            .ok_or_else(|| KafkaError::from(ErrCode::BAD_MSG))?;
        Ok(TopicPartition {
            offset: answer.low_watermark,
            error: answer.error_code.into(),
            ..before.clone()
        })
    }

    fn list_offset(
        &self,
        partition: &TopicPartition,
        spec: OffsetSpec,
        timeout: Duration,
    ) -> Result<ListedOffset, KafkaError> {
        let timestamp = match spec {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::MaxTimestamp => -3,
            OffsetSpec::Timestamp(timestamp) => timestamp,
        };
        let asked = ListOffsetsPartition {
            partition_index: partition.partition,
            timestamp,
            ..Default::default()
        };
        let topic = ListOffsetsTopic {
            name: partition.topic.clone(),
            partitions: vec![asked],
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let route = Route::Leader(partition.topic.clone(), partition.partition);
        let response = self
            .handle
            .request(route, Request::ListOffsets(request), timeout)?;
        let Response::ListOffsets(mut response) = response else {
            return Err(unexpected(&response));
        };
        let answer = response
            .topics
            .pop()
            .and_then(|mut topic| topic.partitions.pop());
        let answer = answer.ok_or_else(|| KafkaError::from(ErrCode::BAD_MSG))?;
        told(answer.error_code, None)?;
        Ok(ListedOffset {
            offset: answer.offset,
            timestamp: answer.timestamp,
            leader_epoch: answer.leader_epoch,
        })
    }
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    CreatableTopic {
        name: topic.name.as_str().into(),
        num_partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        configs: topic
            .config
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: name.as_str().into(),
                value: Some(value.as_str().into()),
            })
            .collect(),
        ..Default::default()
    }
}

/// A broker's word on one thing.
fn told(code: ErrorCode, message: Option<&Str>) -> Result<(), KafkaError> {
    match message {
        _ if code.0 == 0 => Ok(()),
        Some(message) if !message.is_empty() => Err(KafkaError::new(
            ErrCode::from(code),
            String::from(message.as_str()),
        )),
        _ => Err(KafkaError::from(code)),
    }
}

/// Results in the order in which they were asked for; one that is missing is an error.
fn in_order<'a>(
    names: impl Iterator<Item = &'a str>,
    mut find: impl FnMut(&str) -> Option<Result<(), KafkaError>>,
) -> Vec<Result<(), KafkaError>> {
    names
        .map(|name| find(name).unwrap_or_else(|| Err(KafkaError::from(ErrCode::BAD_MSG))))
        .collect()
}

/// Partitions with what a broker said of each.
fn with_errors(
    partitions: &[TopicPartition],
    find: impl Fn(&TopicPartition) -> Option<ErrorCode>,
) -> Vec<TopicPartition> {
    let one = |wanted: &TopicPartition| {
        let error = find(wanted).map_or(ErrCode::BAD_MSG, ErrCode::from);
        TopicPartition {
            error,
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
