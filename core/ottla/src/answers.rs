//! Answers about the cluster, in librdkafka's shapes.

use crate::ErrCode;
use bytes::Bytes;
use ottla_protocol::Str;

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Node id.
    pub id: i32,
    /// Host; of an embedded broker only a name.
    pub host: Str,
    /// Port.
    pub port: i32,
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
}
