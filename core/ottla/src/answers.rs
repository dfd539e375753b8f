//! Answers about the cluster, in librdkafka's shapes.

use crate::{ErrCode, TopicPartition, offset};
use bytes::Bytes;
use ottla_client::BrokerAddress;
use ottla_protocol::{
    Str, VersionedMessage,
    messages::{
        ConsumerProtocolAssignment, MetadataResponse, consumer_protocol_assignment,
        describe_groups::DescribedGroup, metadata::MetadataResponseTopic,
    },
};

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Node id.
    pub id: i32,
    /// Host; of an embedded broker only a name.
    pub host: Str,
    /// Port.
    pub port: i32,
    /// Its rack, if it has one and told it.
    pub rack: Option<Str>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Its number.
    pub id: i32,
    /// Its error, or `NO_ERROR`.
    pub error: ErrCode,
    /// The leader's node id, or -1.
    pub leader: i32,
    /// Node ids of its replicas.
    pub replicas: Vec<i32>,
    /// Node ids of the replicas in sync.
    pub isrs: Vec<i32>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: Str,
    /// Its error, or `NO_ERROR`.
    pub error: ErrCode,
    /// Whether it is the cluster's own, such as `__consumer_offsets`.
    pub is_internal: bool,
    /// Its partitions in order.
    pub partitions: Vec<PartitionMetadata>,
}

/// What [`Handle::metadata`](crate::Handle::metadata) gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The brokers.
    pub brokers: Vec<BrokerInfo>,
    /// The topics by name.
    pub topics: Vec<TopicMetadata>,
    /// The controller's node id, or -1.
    pub controller_id: i32,
    /// The cluster's id.
    pub cluster_id: Option<Str>,
    /// Node id of the broker that answered, or -1.
    pub orig_broker_id: i32,
    /// Its address, `host:port/id`.
    pub orig_broker_name: String,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id, given by the broker.
    pub member_id: Str,
    /// `group.instance.id` of a static member.
    pub group_instance_id: Option<Str>,
    /// Its `client.id`.
    pub client_id: Str,
    /// Its address.
    pub client_host: Str,
    /// What it told the group, in the group's protocol (consumers: `ConsumerProtocolSubscription`).
    pub metadata: Bytes,
    /// What it was given, in the group's protocol (consumers: `ConsumerProtocolAssignment`).
    pub assignment: Bytes,
}

/// A group with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// The coordinator.
    pub broker: BrokerInfo,
    /// The group's id.
    pub group: Str,
    /// Its error, or `NO_ERROR`.
    pub error: ErrCode,
    /// `Stable`, `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Dead`.
    pub state: Str,
    /// `consumer` for consumers.
    pub protocol_type: Str,
    /// The assignor, for consumers.
    pub protocol: Str,
    /// The members.
    pub members: Vec<GroupMember>,
    /// Bits of Kafka's `AclOperation` numbers; `i32::MIN` if they weren't asked for.
    pub authorized_operations: i32,
}

impl From<MetadataResponseTopic> for TopicMetadata {
    fn from(topic: MetadataResponseTopic) -> Self {
        Self {
            name: topic.name.unwrap_or_default(),
            error: topic.error_code.into(),
            is_internal: topic.is_internal,
            partitions: topic
                .partitions
                .into_iter()
                .map(|partition| PartitionMetadata {
                    id: partition.partition_index,
                    error: partition.error_code.into(),
                    leader: partition.leader_id,
                    replicas: partition.replica_nodes,
                    isrs: partition.isr_nodes,
                })
                .collect(),
        }
    }
}

impl From<MetadataResponse> for Metadata {
    fn from(response: MetadataResponse) -> Self {
        let brokers: Vec<BrokerInfo> = response
            .brokers
            .into_iter()
            .map(|broker| BrokerInfo {
                id: broker.node_id,
                host: broker.host,
                port: broker.port,
                rack: broker.rack,
            })
            .collect();
        let orig = brokers
            .iter()
            .find(|broker| broker.id == response.controller_id)
            .or(brokers.first());
        let (orig_broker_id, orig_broker_name) = match orig {
            Some(broker) => (
                broker.id,
                format!("{}:{}/{}", broker.host, broker.port, broker.id),
            ),
            None => (-1, String::new()),
        };
        Self {
            topics: response.topics.into_iter().map(Into::into).collect(),
            brokers,
            controller_id: response.controller_id,
            cluster_id: response.cluster_id,
            orig_broker_id,
            orig_broker_name,
        }
    }
}

impl GroupMember {
    /// The partitions that a consumer was given; empty if the bytes are something else.
    pub fn assigned_partitions(&self) -> Vec<TopicPartition> {
        let read = ConsumerProtocolAssignment::from_bytes(self.assignment.clone());
        read.map_or_else(
            |_| Vec::new(),
            |assignment| {
                let of_topic = |topic: consumer_protocol_assignment::TopicPartition| {
                    let partitions = topic.partitions.into_iter();
                    partitions.map(move |partition| {
                        TopicPartition::new(topic.topic.clone(), partition, offset::INVALID)
                    })
                };
                let topics = assignment.assigned_partitions.into_iter();
                topics.flat_map(of_topic).collect()
            },
        )
    }
}

impl GroupInfo {
    pub(crate) fn new(group: DescribedGroup, broker: Option<BrokerAddress>) -> Self {
        let broker = broker.map_or(
            BrokerInfo {
                id: -1,
                host: Str::new(),
                port: 0,
                rack: None,
            },
            |broker| BrokerInfo {
                id: broker.node,
                host: broker.host,
                port: broker.port,
                rack: broker.rack,
            },
        );
        Self {
            broker,
            group: group.group_id,
            error: group.error_code.into(),
            state: group.group_state,
            protocol_type: group.protocol_type,
            protocol: group.protocol_data,
            authorized_operations: group.authorized_operations,
            members: group
                .members
                .into_iter()
                .map(|member| GroupMember {
                    member_id: member.member_id,
                    group_instance_id: member.group_instance_id,
                    client_id: member.client_id,
                    client_host: member.client_host,
                    metadata: member.member_metadata,
                    assignment: member.member_assignment,
                })
                .collect(),
        }
    }
}
