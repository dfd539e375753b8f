//! The records of consumer groups in `__consumer_offsets` (types 3 to 8 and 16), as Kafka 4.1 and later write them.
//!
//! The flows change the group in memory and note which of its records are out of date ([`ConsumerGroup::unwritten`]);
//! [`super::flush`] writes those from what memory holds then. A write that fails puts its keys back, so that the next one
//! makes good for it.

use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};
use bytes::Bytes;
use ottla_protocol::{
    Str, VersionedMessage,
    messages::{
        ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
        ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
        ConsumerGroupMetadataValue, ConsumerGroupPartitionMetadataKey,
        ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue,
        ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue,
        ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue,
        consumer_group_current_member_assignment_value::TopicPartitions,
        consumer_group_member_metadata_value::{
            ClassicMemberMetadata, ClassicProtocol as StoredProtocol,
        },
        consumer_group_target_assignment_member_value::TopicPartition,
    },
};

use super::state::{
    ClassicProtocol, ConsumerGroup, Member, MemberState, Owned, Partitions, ResolvedRegex,
};
use crate::groups::CoordinatorRecord;

const EPOCH: i16 = 3;
const PARTITION_METADATA: i16 = 4;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const REGEX: i16 = 16;
/// The only version of each value.
const VALUE: i16 = 0;

/// Names one record of a group. The order is that in which Kafka writes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::groups) enum RecordKey {
    /// The record of the classic group that this one was; only ever a tombstone.
    Classic,
    Member(Str),
    Regex(Str),
    /// Superseded by the hash in the epoch's record; only ever a tombstone.
    PartitionMetadata,
    Epoch,
    Target(Str),
    TargetEpoch,
    Current(Str),
}

/// A record that was read; without a value, it is a tombstone.
#[derive(Debug)]
pub(in crate::groups) enum Stored {
    Epoch(Option<(i32, i64)>),
    PartitionMetadata(bool),
    Member(Str, Option<Box<Member>>),
    TargetEpoch(Option<(i32, i64)>),
    Target(Str, Option<Partitions>),
    Current(Str, Option<StoredCurrent>),
    Regex(Str, Option<ResolvedRegex>),
}

/// A member's current assignment.
#[derive(Debug)]
pub(in crate::groups) struct StoredCurrent {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Owned,
    pub pending_revocation: Owned,
}

/// Encoding fails on text longer than a record can hold only, which the flows keep out.
fn encoded(message: &impl VersionedMessage, version: i16) -> Bytes {
    message.to_bytes(version).unwrap_or_default()
}

/// The records for `keys` as the group is now.
pub(in crate::groups) fn of(
    id: &Str,
    group: &ConsumerGroup,
    keys: &BTreeSet<RecordKey>,
) -> Vec<CoordinatorRecord> {
    keys.iter().map(|key| record(id, group, key)).collect()
}

/// All records that a group may have, for its end.
pub(in crate::groups) fn all_keys(group: &ConsumerGroup) -> BTreeSet<RecordKey> {
    let mut keys = group.unwritten.clone();
    keys.remove(&RecordKey::Classic);
    for member in group.members() {
        keys.insert(RecordKey::Member(member.id.clone()));
        keys.insert(RecordKey::Current(member.id.clone()));
    }
    keys.extend(group.target.keys().cloned().map(RecordKey::Target));
    keys.extend(group.regexes.keys().cloned().map(RecordKey::Regex));
    keys.extend([RecordKey::Epoch, RecordKey::TargetEpoch]);
    if group.has_partition_metadata {
        keys.insert(RecordKey::PartitionMetadata);
    }
    keys
}

/// Deletes the records of `keys`.
pub(in crate::groups) fn tombstones(
    id: &Str,
    keys: &BTreeSet<RecordKey>,
) -> impl Iterator<Item = CoordinatorRecord> {
    keys.iter().map(|key| CoordinatorRecord {
        key: key_bytes(id, key),
        value: None,
    })
}

fn key_bytes(id: &Str, key: &RecordKey) -> Bytes {
    let group_id = id.clone();
    match key {
        RecordKey::Classic => crate::groups::records::group_tombstone(id).key,
        RecordKey::Member(member_id) => encoded(
            &ConsumerGroupMemberMetadataKey {
                group_id,
                member_id: member_id.clone(),
            },
            MEMBER,
        ),
        RecordKey::Regex(regular_expression) => encoded(
            &ConsumerGroupRegularExpressionKey {
                group_id,
                regular_expression: regular_expression.clone(),
            },
            REGEX,
        ),
        RecordKey::PartitionMetadata => encoded(
            &ConsumerGroupPartitionMetadataKey { group_id },
            PARTITION_METADATA,
        ),
        RecordKey::Epoch => encoded(&ConsumerGroupMetadataKey { group_id }, EPOCH),
        RecordKey::Target(member_id) => encoded(
            &ConsumerGroupTargetAssignmentMemberKey {
                group_id,
                member_id: member_id.clone(),
            },
            TARGET,
        ),
        RecordKey::TargetEpoch => encoded(
            &ConsumerGroupTargetAssignmentMetadataKey { group_id },
            TARGET_EPOCH,
        ),
        RecordKey::Current(member_id) => encoded(
            &ConsumerGroupCurrentMemberAssignmentKey {
                group_id,
                member_id: member_id.clone(),
            },
            CURRENT,
        ),
    }
}

fn record(id: &Str, group: &ConsumerGroup, key: &RecordKey) -> CoordinatorRecord {
    let value = match key {
        RecordKey::Classic | RecordKey::PartitionMetadata => None,
        RecordKey::Member(member) => group.member(member).map(member_value),
        RecordKey::Regex(regex) => group.regexes.get(regex).map(|resolved| {
            encoded(
                &ConsumerGroupRegularExpressionValue {
                    topics: resolved.topics.iter().cloned().collect(),
                    version: resolved.version,
                    timestamp: resolved.timestamp_ms,
                },
                VALUE,
            )
        }),
        RecordKey::Epoch => Some(encoded(
            &ConsumerGroupMetadataValue {
                epoch: group.epoch,
                metadata_hash: group.metadata_hash,
            },
            VALUE,
        )),
        RecordKey::Target(member) => group.target.get(member).map(|target| {
            encoded(
                &ConsumerGroupTargetAssignmentMemberValue {
                    topic_partitions: target
                        .iter()
                        .map(|(topic_id, partitions)| TopicPartition {
                            topic_id: *topic_id,
                            partitions: partitions.iter().copied().collect(),
                        })
                        .collect(),
                },
                VALUE,
            )
        }),
        RecordKey::TargetEpoch => Some(encoded(
            &ConsumerGroupTargetAssignmentMetadataValue {
                assignment_epoch: group.assignment_epoch,
                assignment_timestamp: group.assignment_timestamp_ms,
            },
            VALUE,
        )),
        RecordKey::Current(member) => group.member(member).map(|m| {
            encoded(
                &ConsumerGroupCurrentMemberAssignmentValue {
                    member_epoch: m.epoch,
                    previous_member_epoch: m.previous_epoch,
                    state: m.state.byte(),
                    assigned_partitions: stored_partitions(&m.assigned),
                    partitions_pending_revocation: stored_partitions(&m.pending_revocation),
                },
                VALUE,
            )
        }),
    };
    CoordinatorRecord {
        key: key_bytes(id, key),
        value,
    }
}

fn member_value(m: &Member) -> Bytes {
    let value = ConsumerGroupMemberMetadataValue {
        instance_id: m.instance_id.clone(),
        rack_id: m.rack_id.clone(),
        client_id: m.client_id.clone(),
        client_host: m.client_host.clone(),
        subscribed_topic_names: m.topics.iter().cloned().collect(),
        subscribed_topic_regex: Some(m.regex.clone()),
        rebalance_timeout_ms: m.rebalance_timeout_ms,
        server_assignor: m.server_assignor.clone(),
        classic_member_metadata: m.classic.as_ref().map(|classic| ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: classic
                .protocols
                .iter()
                .map(|(name, metadata)| StoredProtocol {
                    name: name.clone(),
                    metadata: metadata.clone(),
                })
                .collect(),
        }),
    };
    encoded(&value, VALUE)
}

fn stored_partitions(owned: &Owned) -> Vec<TopicPartitions> {
    owned
        .iter()
        .map(|(topic_id, partitions)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.keys().copied().collect(),
            assignment_epochs: Some(partitions.values().copied().collect()),
        })
        .collect()
}

/// Reads a record of one of these types. `None` if its type or version is not known, or if it is damaged.
pub(in crate::groups) fn parse(
    kind: i16,
    key: Bytes,
    value: Option<Bytes>,
) -> Option<(Str, Stored)> {
    /// A tombstone is fine; a value that can't be read is not.
    fn read<M: VersionedMessage, T>(
        value: Option<Bytes>,
        of: impl FnOnce(M) -> T,
    ) -> Option<Option<T>> {
        match value {
            None => Some(None),
            Some(bytes) => Some(Some(of(M::from_bytes(bytes).ok()?))),
        }
    }
    Some(match kind {
        EPOCH => {
            let key = ConsumerGroupMetadataKey::from_bytes(key).ok()?;
            let value = read(value, |v: ConsumerGroupMetadataValue| {
                (v.epoch, v.metadata_hash)
            })?;
            (key.group_id, Stored::Epoch(value))
        }
        PARTITION_METADATA => {
            let key = ConsumerGroupPartitionMetadataKey::from_bytes(key).ok()?;
            (key.group_id, Stored::PartitionMetadata(value.is_some()))
        }
        MEMBER => {
            let key = ConsumerGroupMemberMetadataKey::from_bytes(key).ok()?;
            let id = key.member_id.clone();
            let value = read(value, |v| Box::new(read_member(id, v)))?;
            (key.group_id, Stored::Member(key.member_id, value))
        }
        TARGET_EPOCH => {
            let key = ConsumerGroupTargetAssignmentMetadataKey::from_bytes(key).ok()?;
            let value = read(value, |v: ConsumerGroupTargetAssignmentMetadataValue| {
                (v.assignment_epoch, v.assignment_timestamp)
            })?;
            (key.group_id, Stored::TargetEpoch(value))
        }
        TARGET => {
            let key = ConsumerGroupTargetAssignmentMemberKey::from_bytes(key).ok()?;
            let value = read(value, |v: ConsumerGroupTargetAssignmentMemberValue| {
                v.topic_partitions
                    .into_iter()
                    .map(|t| (t.topic_id, t.partitions.into_iter().collect()))
                    .collect()
            })?;
            (key.group_id, Stored::Target(key.member_id, value))
        }
        CURRENT => {
            let key = ConsumerGroupCurrentMemberAssignmentKey::from_bytes(key).ok()?;
            let value = read(value, |v: ConsumerGroupCurrentMemberAssignmentValue| {
                StoredCurrent {
                    epoch: v.member_epoch,
                    previous_epoch: v.previous_member_epoch,
                    state: MemberState::from_byte(v.state),
                    assigned: read_partitions(v.assigned_partitions, v.member_epoch),
                    pending_revocation: read_partitions(
                        v.partitions_pending_revocation,
                        v.member_epoch,
                    ),
                }
            })?;
            (key.group_id, Stored::Current(key.member_id, value))
        }
        REGEX => {
            let key = ConsumerGroupRegularExpressionKey::from_bytes(key).ok()?;
            let value = read(value, |v: ConsumerGroupRegularExpressionValue| {
                ResolvedRegex {
                    topics: v.topics.into_iter().collect(),
                    version: v.version,
                    timestamp_ms: v.timestamp,
                }
            })?;
            (key.group_id, Stored::Regex(key.regular_expression, value))
        }
        _ => return None,
    })
}

fn read_member(id: Str, v: ConsumerGroupMemberMetadataValue) -> Member {
    Member {
        instance_id: v.instance_id,
        rack_id: v.rack_id,
        client_id: v.client_id,
        client_host: v.client_host,
        topics: v.subscribed_topic_names.into_iter().collect(),
        regex: v.subscribed_topic_regex.unwrap_or_default(),
        rebalance_timeout_ms: v.rebalance_timeout_ms,
        server_assignor: v.server_assignor,
        classic: v.classic_member_metadata.map(|c| ClassicProtocol {
            session_timeout_ms: c.session_timeout_ms,
            protocols: c
                .supported_protocols
                .into_iter()
                .map(|p| (p.name, p.metadata))
                .collect(),
        }),
        ..Member::new(id)
    }
}

/// Records of before KIP-1251 say nothing of the epochs: the member's stands for them.
fn read_partitions(stored: Vec<TopicPartitions>, member_epoch: i32) -> Owned {
    stored
        .into_iter()
        .map(|t| {
            let epochs = t.assignment_epochs.unwrap_or_default();
            let epochs = epochs.into_iter().chain(core::iter::repeat(member_epoch));
            (t.topic_id, t.partitions.into_iter().zip(epochs).collect())
        })
        .collect()
}
