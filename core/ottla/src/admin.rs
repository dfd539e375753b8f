//! Administration: topics, groups, offsets, configurations.

use crate::{
    BrokerInfo, Config, ErrCode, ErrorCode, Handle, KafkaError, Role, Route, Str, TopicMetadata,
    TopicPartition,
    handle::{milliseconds, time_left, unexpected},
    queue::deadline,
};
use ottla_protocol::{
    Request, Response,
    messages::{
        CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest,
        DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, ListGroupsRequest,
        ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
        OffsetFetchRequest,
        create_partitions::{CreatePartitionsAssignment, CreatePartitionsTopic},
        create_topics::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig},
        delete_records::{DeleteRecordsPartition, DeleteRecordsTopic},
        delete_topics::{DeletableTopicResult, DeleteTopicState},
        describe_configs::DescribeConfigsResource,
        list_offsets::{ListOffsetsPartition, ListOffsetsTopic},
        metadata::MetadataRequestTopic,
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
    options: AdminOptions,
}

/// How an [`Admin`] asks, for what is not an argument of each call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminOptions {
    /// Ask this broker (node id) in place of the controller or coordinator. What concerns one partition always goes to its leader.
    pub broker: Option<i32>,
    /// How long the broker may work at creating, growing and deleting topics and at deleting records before it answers; the call's
    /// own timeout if `None`. Embedded brokers answer when they are done.
    pub operation_timeout: Option<Duration>,
    /// [`Admin::list_offsets`] looks at what is committed only.
    pub read_committed: bool,
    /// [`Admin::list_group_offsets`] waits for transactions that commit offsets.
    pub require_stable_offsets: bool,
    /// Descriptions tell what the asker may do.
    pub authorized_operations: bool,
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

/// An answer of [`Admin::describe_cluster`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The cluster's id.
    pub cluster_id: Str,
    /// The controller's node id, or -1.
    pub controller_id: i32,
    /// The brokers.
    pub nodes: Vec<BrokerInfo>,
    /// Bits of Kafka's `AclOperation` numbers; `i32::MIN` if they weren't asked for.
    pub authorized_operations: i32,
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
    /// Where the value could come from, what counts most first: the name there, the value, and its source's number.
    pub synonyms: Vec<(String, Option<String>, i8)>,
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
            options: AdminOptions::default(),
        })
    }
    /// Uses a handle that is there.
    pub fn of(handle: &Handle) -> Self {
        Self {
            handle: handle.clone(),
            options: AdminOptions::default(),
        }
    }
    /// The same with other options.
    pub fn with_options(self, options: AdminOptions) -> Self {
        Self { options, ..self }
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
    /// The cluster's id, brokers and controller.
    pub fn describe_cluster(&self, timeout: Duration) -> Result<ClusterDescription, KafkaError> {
        let request = DescribeClusterRequest {
            include_cluster_authorized_operations: self.options.authorized_operations,
            ..Default::default()
        };
        let route = self.route(Route::Any);
        let response = self
            .handle
            .request(route, Request::DescribeCluster(request), timeout)?;
        let Response::DescribeCluster(response) = response else {
            return Err(unexpected(&response));
        };
        told(response.error_code, response.error_message.as_ref())?;
        Ok(ClusterDescription {
            cluster_id: response.cluster_id,
            controller_id: response.controller_id,
            nodes: response
                .brokers
                .into_iter()
                .map(|broker| BrokerInfo {
                    id: broker.broker_id,
                    host: broker.host,
                    port: broker.port,
                    rack: broker.rack,
                })
                .collect(),
            authorized_operations: response.cluster_authorized_operations,
        })
    }
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
    /// Groups with their members.
    pub fn describe_groups(
        &self,
        groups: &[&str],
        timeout: Duration,
    ) -> Result<Vec<Result<crate::GroupInfo, KafkaError>>, KafkaError> {
        Ok(groups
            .iter()
            .map(|group| {
                let info = self.handle.describe_group(
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
        let until = deadline(timeout);
        wanted
            .iter()
            .map(|(partition, spec)| Ok(self.list_offset(partition, *spec, time_left(until))))
            .collect()
    }
    /// Deletes the records before each `offset`, -1 for all that are committed: each partition comes back with the offset of its
    /// first record then, or its error (`OFFSET_OUT_OF_RANGE` behind the end).
    pub fn delete_records(
        &self,
        before: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<TopicPartition>, KafkaError> {
        let until = deadline(timeout);
        before
            .iter()
            .map(|partition| self.delete_records_of(partition, time_left(until)))
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
            include_synonyms: true,
            ..Default::default()
        };
        let response = self.handle.request(
            self.route(Route::Any),
            Request::DescribeConfigs(request),
            timeout,
        )?;
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
                        synonyms: config
                            .synonyms
                            .into_iter()
                            .map(|synonym| {
                                let value = synonym.value.map(|value| value.as_str().into());
                                (synonym.name.as_str().into(), value, synonym.source)
                            })
                            .collect(),
                    })
                    .collect())
            })
            .collect())
    }
}

impl Admin {
    fn route(&self, usual: Route) -> Route {
        self.options.broker.map_or(usual, Route::Node)
    }

    fn operation_timeout(&self, timeout: Duration) -> i32 {
        self.options
            .operation_timeout
            .map_or_else(|| milliseconds(timeout), milliseconds)
    }

    fn delete_records_of(
        &self,
        before: &TopicPartition,
        timeout: Duration,
    ) -> Result<TopicPartition, KafkaError> {
        let until = deadline(timeout);
        let (topic, number) = (&before.topic, before.partition);
        if let Err(error) = self.handle.find_leader(topic, number, timeout) {
            return match error.code {
                ErrCode::UNKNOWN_TOPIC_OR_PART
                | ErrCode::UNKNOWN_PARTITION
                | ErrCode::TOPIC_EXCEPTION => Ok(TopicPartition {
                    error: error.code,
                    ..before.clone()
                }),
                _ => Err(error),
            };
        }
        let timeout = time_left(until);
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
            timeout_ms: self.operation_timeout(timeout),
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
        let until = deadline(timeout);
        self.handle
            .find_leader(&partition.topic, partition.partition, timeout)?;
        let timeout = time_left(until);
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
            isolation_level: self.options.read_committed.into(),
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
