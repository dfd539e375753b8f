//! The records of share groups in `__consumer_offsets`, types 10 to 15, byte for byte as Kafka writes them.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use bytes::Bytes;
use ottla_protocol::{
    Str, Uuid, VersionedMessage,
    messages::{
        ShareGroupCurrentMemberAssignmentKey, ShareGroupCurrentMemberAssignmentValue,
        ShareGroupMemberMetadataKey, ShareGroupMemberMetadataValue, ShareGroupMetadataKey,
        ShareGroupMetadataValue, ShareGroupStatePartitionMetadataKey,
        ShareGroupStatePartitionMetadataValue, ShareGroupTargetAssignmentMemberKey,
        ShareGroupTargetAssignmentMemberValue, ShareGroupTargetAssignmentMetadataKey,
        ShareGroupTargetAssignmentMetadataValue, share_group_current_member_assignment_value,
        share_group_state_partition_metadata_value::TopicPartitionsInfo,
        share_group_target_assignment_member_value,
    },
};

use super::{
    assignor::Assignment,
    group::{Known, ShareGroup, ShareMember},
};
use crate::groups::CoordinatorRecord;

const MEMBER: i16 = 10;
const EPOCH: i16 = 11;
const TARGET_EPOCH: i16 = 12;
const TARGET_MEMBER: i16 = 13;
const CURRENT_MEMBER: i16 = 14;
const STATE_PARTITIONS: i16 = 15;

const VALUE: i16 = 0;

/// A record that was read; without a value, it is a tombstone.
#[derive(Debug)]
pub(super) enum ShareGroupRecord {
    Member(Str, Str, Option<ShareGroupMemberMetadataValue>),
    Epoch(Str, Option<ShareGroupMetadataValue>),
    TargetEpoch(Str, Option<i32>),
    TargetMember(Str, Str, Option<Assignment>),
    CurrentMember(Str, Str, Option<(i32, i32, Assignment)>),
    StatePartitions(Str, Option<BTreeMap<Uuid, Known>>),
}

fn encoded(message: &impl VersionedMessage, version: i16) -> Bytes {
    // Fails on text longer than a record may have only, which requests are checked for.
    message.to_bytes(version).unwrap_or_default()
}

fn record(key: Bytes, value: Option<Bytes>) -> CoordinatorRecord {
    CoordinatorRecord { key, value }
}

pub(super) fn member(group: &Str, member: &ShareMember) -> CoordinatorRecord {
    let value = ShareGroupMemberMetadataValue {
        rack_id: member.rack_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        subscribed_topic_names: member.topics.iter().cloned().collect(),
    };
    let key = member_key(group, &member.id);
    record(key, Some(encoded(&value, VALUE)))
}

fn member_key(group: &Str, member: &Str) -> Bytes {
    let key = ShareGroupMemberMetadataKey {
        group_id: group.clone(),
        member_id: member.clone(),
    };
    encoded(&key, MEMBER)
}

pub(super) fn epoch(group: &ShareGroup) -> CoordinatorRecord {
    let value = ShareGroupMetadataValue {
        epoch: group.epoch,
        metadata_hash: group.metadata_hash,
    };
    record(epoch_key(&group.id), Some(encoded(&value, VALUE)))
}

fn epoch_key(group: &Str) -> Bytes {
    let key = ShareGroupMetadataKey {
        group_id: group.clone(),
    };
    encoded(&key, EPOCH)
}

pub(super) fn target_epoch(group: &ShareGroup) -> CoordinatorRecord {
    let value = ShareGroupTargetAssignmentMetadataValue {
        assignment_epoch: group.target_epoch,
        assignment_timestamp: group.target_ms,
    };
    record(target_epoch_key(&group.id), Some(encoded(&value, VALUE)))
}

fn target_epoch_key(group: &Str) -> Bytes {
    let key = ShareGroupTargetAssignmentMetadataKey {
        group_id: group.clone(),
    };
    encoded(&key, TARGET_EPOCH)
}

pub(super) fn target_member(
    group: &Str,
    member: &Str,
    assignment: &Assignment,
) -> CoordinatorRecord {
    let topic_partitions = assignment
        .iter()
        .map(
            |(topic_id, partitions)| share_group_target_assignment_member_value::TopicPartition {
                topic_id: *topic_id,
                partitions: partitions.iter().copied().collect(),
            },
        )
        .collect();
    let value = ShareGroupTargetAssignmentMemberValue { topic_partitions };
    record(
        target_member_key(group, member),
        Some(encoded(&value, VALUE)),
    )
}

fn target_member_key(group: &Str, member: &Str) -> Bytes {
    let key = ShareGroupTargetAssignmentMemberKey {
        group_id: group.clone(),
        member_id: member.clone(),
    };
    encoded(&key, TARGET_MEMBER)
}

pub(super) fn current_member(group: &Str, member: &ShareMember) -> CoordinatorRecord {
    let assigned_partitions = member
        .assigned
        .iter()
        .map(|(topic_id, partitions)| {
            share_group_current_member_assignment_value::TopicPartitions {
                topic_id: *topic_id,
                partitions: partitions.iter().copied().collect(),
            }
        })
        .collect();
    let value = ShareGroupCurrentMemberAssignmentValue {
        member_epoch: member.epoch,
        previous_member_epoch: member.previous_epoch,
        state: 0,
        assigned_partitions,
    };
    record(
        current_member_key(group, &member.id),
        Some(encoded(&value, VALUE)),
    )
}

fn current_member_key(group: &Str, member: &Str) -> Bytes {
    let key = ShareGroupCurrentMemberAssignmentKey {
        group_id: group.clone(),
        member_id: member.clone(),
    };
    encoded(&key, CURRENT_MEMBER)
}

pub(super) fn state_partitions(group: &ShareGroup) -> CoordinatorRecord {
    let initialized_topics = group
        .known
        .iter()
        .map(|(topic_id, known)| TopicPartitionsInfo {
            topic_id: *topic_id,
            topic_name: known.name.clone(),
            partitions: known.partitions.iter().copied().collect(),
        })
        .collect();
    let value = ShareGroupStatePartitionMetadataValue {
        initializing_topics: Vec::new(),
        initialized_topics,
        deleting_topics: Vec::new(),
    };
    record(
        state_partitions_key(&group.id),
        Some(encoded(&value, VALUE)),
    )
}

fn state_partitions_key(group: &Str) -> Bytes {
    let key = ShareGroupStatePartitionMetadataKey {
        group_id: group.clone(),
    };
    encoded(&key, STATE_PARTITIONS)
}

/// Forgets a member, in Kafka's order.
pub(super) fn member_tombstones(group: &Str, member: &Str) -> [CoordinatorRecord; 3] {
    [
        record(current_member_key(group, member), None),
        record(target_member_key(group, member), None),
        record(member_key(group, member), None),
    ]
}

/// All there is to say of a group.
pub(super) fn whole(group: &ShareGroup) -> Vec<CoordinatorRecord> {
    let mut all: Vec<CoordinatorRecord> = Vec::new();
    all.extend(group.members.values().map(|it| member(&group.id, it)));
    all.extend([epoch(group), state_partitions(group)]);
    let target = group.target.iter();
    all.extend(target.map(|(id, assignment)| target_member(&group.id, id, assignment)));
    all.push(target_epoch(group));
    let members = group.members.values();
    all.extend(members.map(|it| current_member(&group.id, it)));
    all
}

/// Forgets a group without members, in Kafka's order.
pub(super) fn group_tombstones(group: &Str) -> [CoordinatorRecord; 3] {
    [
        record(target_epoch_key(group), None),
        record(epoch_key(group), None),
        record(state_partitions_key(group), None),
    ]
}

/// Reads a record. `None` if it is none of a share group, of a version that is not known, or damaged.
pub(super) fn parse(key: &[u8], value: Option<&[u8]>) -> Option<ShareGroupRecord> {
    let kind = i16::from_be_bytes(*key.first_chunk()?);
    if !(MEMBER..=STATE_PARTITIONS).contains(&kind) {
        return None;
    }
    // Copies: what is read is kept, and must not hold on to the chunk of the log that it was read from.
    let key = Bytes::copy_from_slice(key);
    let value = value.map(Bytes::copy_from_slice);
    Some(match kind {
        MEMBER => {
            let key = ShareGroupMemberMetadataKey::from_bytes(key).ok()?;
            ShareGroupRecord::Member(key.group_id, key.member_id, read(value)?)
        }
        EPOCH => {
            let key = ShareGroupMetadataKey::from_bytes(key).ok()?;
            ShareGroupRecord::Epoch(key.group_id, read(value)?)
        }
        TARGET_EPOCH => {
            let key = ShareGroupTargetAssignmentMetadataKey::from_bytes(key).ok()?;
            let value: Option<ShareGroupTargetAssignmentMetadataValue> = read(value)?;
            ShareGroupRecord::TargetEpoch(key.group_id, value.map(|v| v.assignment_epoch))
        }
        TARGET_MEMBER => {
            let key = ShareGroupTargetAssignmentMemberKey::from_bytes(key).ok()?;
            let value: Option<ShareGroupTargetAssignmentMemberValue> = read(value)?;
            let assignment = value.map(|v| {
                let topics = v.topic_partitions.into_iter();
                topics
                    .map(|t| (t.topic_id, t.partitions.into_iter().collect()))
                    .collect()
            });
            ShareGroupRecord::TargetMember(key.group_id, key.member_id, assignment)
        }
        CURRENT_MEMBER => {
            let key = ShareGroupCurrentMemberAssignmentKey::from_bytes(key).ok()?;
            let value: Option<ShareGroupCurrentMemberAssignmentValue> = read(value)?;
            let current = value.map(|v| {
                let topics = v.assigned_partitions.into_iter();
                let assigned = topics
                    .map(|t| (t.topic_id, t.partitions.into_iter().collect()))
                    .collect();
                (v.member_epoch, v.previous_member_epoch, assigned)
            });
            ShareGroupRecord::CurrentMember(key.group_id, key.member_id, current)
        }
        _ => {
            let key = ShareGroupStatePartitionMetadataKey::from_bytes(key).ok()?;
            let value: Option<ShareGroupStatePartitionMetadataValue> = read(value)?;
            let known = value.map(|v| {
                let topics = v.initialized_topics.into_iter();
                topics
                    .map(|t| {
                        let partitions: BTreeSet<i32> = t.partitions.into_iter().collect();
                        let name = t.topic_name;
                        (t.topic_id, Known { name, partitions })
                    })
                    .collect()
            });
            ShareGroupRecord::StatePartitions(key.group_id, known)
        }
    })
}

/// `None` if there is a value that can't be read.
fn read<V: VersionedMessage>(value: Option<Bytes>) -> Option<Option<V>> {
    match value {
        None => Some(None),
        Some(value) => V::from_bytes(value).ok().map(Some),
    }
}
