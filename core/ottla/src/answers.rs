//! Answers about the cluster, in librdkafka's shapes.

use crate::{ErrCode, TopicPartition, offset};
use bytes::Bytes;
use ottla_protocol::{
    Str, VersionedMessage,
    messages::{
        ConsumerProtocolAssignment, MetadataResponse, consumer_group_describe,
        consumer_protocol_assignment, describe_groups::DescribedGroup,
        metadata::MetadataResponseTopic,
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
    /// What it is to be given, in the same form, where the broker assigns ([`GroupType::Consumer`]).
    pub target_assignment: Option<Bytes>,
}

/// Who runs a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupType {
    /// Its members: one of them assigns.
    Classic,
    /// The broker (KIP-848).
    Consumer,
}

impl GroupType {
    /// As Kafka writes it: `classic`, `consumer`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
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
    /// Who runs it.
    pub group_type: GroupType,
    /// `Stable`, `Empty`, `Dead`; of classic groups `PreparingRebalance` and `CompletingRebalance`, of the others `Assigning` and
    /// `Reconciling`.
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
        partitions_in(&self.assignment)
    }

    /// The partitions that a consumer is to be given, where the broker assigns.
    pub fn target_partitions(&self) -> Option<Vec<TopicPartition>> {
        self.target_assignment.as_ref().map(partitions_in)
    }
}

fn partitions_in(assignment: &Bytes) -> Vec<TopicPartition> {
    let read = ConsumerProtocolAssignment::from_bytes(assignment.clone());
    let topics = read.map_or_else(|_| Vec::new(), |read| read.assigned_partitions);
    let of_topic = |topic: consumer_protocol_assignment::TopicPartition| {
        let partitions = topic.partitions.into_iter();
        partitions.map(move |partition| {
            TopicPartition::new(topic.topic.clone(), partition, offset::INVALID)
        })
    };
    topics.into_iter().flat_map(of_topic).collect()
}

/// What the broker assigned, as a classic consumer would be told it.
fn assignment_bytes(assignment: consumer_group_describe::Assignment) -> Bytes {
    let topics = assignment.topic_partitions.into_iter();
    let assigned_partitions = topics.map(|topic| consumer_protocol_assignment::TopicPartition {
        topic: topic.topic_name,
        partitions: topic.partitions,
    });
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: assigned_partitions.collect(),
        ..Default::default()
    };
    // What was read from an answer fits into one.
    assignment.to_bytes(0).unwrap_or_default()
}

impl GroupInfo {
    /// A group that its members run.
    pub(crate) fn classic(group: DescribedGroup, broker: BrokerInfo) -> Self {
        Self {
            broker,
            group: group.group_id,
            error: group.error_code.into(),
            group_type: GroupType::Classic,
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
                    target_assignment: None,
                })
                .collect(),
        }
    }

    /// A group that the broker runs. Its members tell it no bytes, so that their metadata is empty.
    pub(crate) fn consumer(
        group: consumer_group_describe::DescribedGroup,
        broker: BrokerInfo,
    ) -> Self {
        let member = |member: consumer_group_describe::Member| GroupMember {
            member_id: member.member_id,
            group_instance_id: member.instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            metadata: Bytes::new(),
            assignment: assignment_bytes(member.assignment),
            target_assignment: Some(assignment_bytes(member.target_assignment)),
        };
        Self {
            broker,
            group: group.group_id,
            error: group.error_code.into(),
            group_type: GroupType::Consumer,
            state: group.group_state,
            protocol_type: "consumer".into(),
            protocol: group.assignor_name,
            authorized_operations: group.authorized_operations,
            members: group.members.into_iter().map(member).collect(),
        }
    }
}
