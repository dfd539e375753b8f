//! A group with members changes its kind: a classic one when its first member of the newer protocol joins, a consumer group
//! when its last one goes (`group.consumer.migration.policy`). Groups without members change with whoever joins.

use alloc::{boxed::Box, collections::BTreeMap, format, vec::Vec};
use bytes::Bytes;
use ottla_protocol::{
    ErrorCode, Str, VersionedMessage,
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription,
        consumer_protocol_assignment::TopicPartition,
    },
};
use ottla_record::Now;

use super::{
    Refusal,
    records::{RecordKey, all_keys, tombstones},
    state::{ClassicProtocol, ConsumerGroup, Member, MemberState, Owned},
    topics::Topics,
};
use crate::groups::{
    GroupConfig,
    group::{CONSUMER, Group},
    member::Member as ClassicMember,
    outbox::{AfterCommit, Outbox},
    rebalance::{prepare, refuse_join, refuse_sync},
    records,
};

/// The newest version of the consumers' assignment.
const ASSIGNMENT: i16 = 3;

/// A classic group with members becomes a consumer group. Its members keep their assignments and are asked to join again.
///
/// # Errors
/// GROUP_ID_NOT_FOUND, as in Kafka, if the group or the settings don't allow it.
pub(super) fn upgrade(group: &mut Group, out: &mut Outbox, now: Now) -> Result<(), Refusal> {
    let id = group.id.clone();
    let refuse = |why: &str| {
        Err(Refusal::new(
            ErrorCode::GROUP_ID_NOT_FOUND,
            format!("Cannot upgrade classic group {id} to consumer group because {why}."),
        ))
    };
    if !out.config.consumer.migration_policy.upgrades() {
        return refuse("online upgrade is disabled");
    }
    if group.protocol_type.as_deref() != Some(CONSUMER) {
        return refuse("the group does not use the consumer embedded protocol");
    }
    if group.members().len() > out.config.consumer.max_size.max(0) as usize {
        return refuse("the group size exceeds the consumer group maximum size");
    }
    let mut members = Vec::with_capacity(group.members().len());
    for m in group.members() {
        let protocol = group.protocol.as_deref();
        let metadata = protocol
            .and_then(|name| m.metadata(name))
            .or(m.protocols.first().map(|(_, metadata)| metadata));
        let subscription =
            metadata.and_then(|bytes| ConsumerProtocolSubscription::from_bytes(bytes.clone()).ok());
        let assignment = assigned(&m.assignment);
        let (Some(subscription), Some(assignment)) = (subscription, assignment) else {
            return refuse("the embedded consumer protocol is malformed");
        };
        if assignment.user_data.is_some_and(|data| !data.is_empty()) {
            return refuse("an unsupported custom assignor is in use");
        }
        let mut owned = Owned::new();
        for t in &assignment.assigned_partitions {
            if let Some(topic) = out.topics.by_name(&t.topic) {
                let epochs = t.partitions.iter().map(|p| (*p, group.generation));
                owned.entry(topic.id).or_default().extend(epochs);
            }
        }
        members.push(Member {
            instance_id: m.instance_id.clone(),
            rack_id: subscription.rack_id,
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            topics: subscription.topics.into_iter().collect(),
            rebalance_timeout_ms: m.rebalance_timeout_ms,
            classic: Some(ClassicProtocol {
                session_timeout_ms: m.session_timeout_ms,
                protocols: m.protocols.clone(),
            }),
            epoch: group.generation,
            previous_epoch: group.generation,
            state: MemberState::Stable,
            assigned: owned,
            ..Member::new(m.id.clone())
        });
    }
    for m in group.members_mut() {
        if let Some(reply) = m.awaiting_join.take() {
            refuse_join(out, reply, m.id.clone(), ErrorCode::REBALANCE_IN_PROGRESS);
        }
        if let Some(reply) = m.awaiting_sync.take() {
            refuse_sync(out, reply, ErrorCode::REBALANCE_IN_PROGRESS);
        }
    }
    let mut consumer = ConsumerGroup::default();
    consumer.epoch = group.generation;
    consumer.assignment_epoch = group.generation;
    if group.persisted {
        consumer.unwritten.insert(RecordKey::Classic);
    }
    consumer
        .unwritten
        .extend([RecordKey::Epoch, RecordKey::TargetEpoch]);
    for mut member in members {
        member.heard_of(now, out.config.consumer.session_timeout_ms);
        let target = member.assigned.iter();
        let target = target.map(|(topic, p)| (*topic, p.keys().copied().collect()));
        consumer.target.insert(member.id.clone(), target.collect());
        consumer.unwritten.extend([
            RecordKey::Member(member.id.clone()),
            RecordKey::Target(member.id.clone()),
            RecordKey::Current(member.id.clone()),
        ]);
        consumer.put(member);
    }
    group.begin_consumer(Box::new(consumer));
    Ok(())
}

/// A consumer group without members becomes a classic one.
pub(in crate::groups) fn end_empty(group: &mut Group, out: &mut Outbox) {
    let Some(consumer) = group.end_consumer() else {
        return;
    };
    let keys = all_keys(&consumer);
    let written: Vec<_> = tombstones(&group.id, &keys).collect();
    out.write(group, written, AfterCommit::Nothing);
}

/// Nothing assigned yet is no bytes at all.
fn assigned(bytes: &Bytes) -> Option<ConsumerProtocolAssignment> {
    if bytes.is_empty() {
        return Some(ConsumerProtocolAssignment::default());
    }
    ConsumerProtocolAssignment::from_bytes(bytes.clone()).ok()
}

/// Whether only members of the classic protocol are left, and the group may be theirs.
pub(super) fn may_downgrade(consumer: &ConsumerGroup, config: &GroupConfig) -> bool {
    consumer.members().len() > 0
        && consumer.members().all(|m| m.classic.is_some())
        && config.consumer.migration_policy.downgrades()
        && consumer.members().len() <= config.max_size.max(0) as usize
}

/// A consumer group with members of the classic protocol only becomes a classic group, which rebalances.
pub(super) fn downgrade(group: &mut Group, out: &mut Outbox, now: Now) {
    let Some(consumer) = group.end_consumer() else {
        return;
    };
    let keys = all_keys(&consumer);
    let mut written: Vec<_> = tombstones(&group.id, &keys).collect();
    for m in consumer.members() {
        let Some(classic) = &m.classic else { continue };
        let mut member = ClassicMember {
            id: m.id.clone(),
            instance_id: m.instance_id.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            session_timeout_ms: classic.session_timeout_ms,
            rebalance_timeout_ms: m.rebalance_timeout_ms,
            protocols: classic.protocols.clone(),
            assignment: encoded_assignment(m, &out.topics),
            is_new: false,
            session_ends_us: 0,
            awaiting_join: None,
            awaiting_sync: None,
            joined: 0,
        };
        member.heard_of(now);
        group.add(member, &Str::from_static(CONSUMER));
    }
    group.protocol = group.choose_protocol();
    group.restore(consumer.epoch, now.wall_ms);
    let assignments: BTreeMap<Str, Bytes> = records::assignments_of(group);
    written.push(records::group_metadata(group, &assignments));
    out.write(group, written, AfterCommit::Nothing);
    prepare(group, out, now);
}

/// What a member owns, for a client of the classic protocol; in the version of its subscription.
pub(super) fn encoded_assignment(member: &Member, topics: &Topics) -> Bytes {
    let assigned_partitions = member
        .assigned
        .iter()
        .filter_map(|(topic, partitions)| {
            Some(TopicPartition {
                topic: topics.name(topic)?.clone(),
                partitions: partitions.keys().copied().collect(),
            })
        })
        .collect();
    let version = member
        .classic
        .as_ref()
        .and_then(|c| c.protocols.first())
        .and_then(|(_, metadata)| metadata.first_chunk().map(|v| i16::from_be_bytes(*v)))
        .unwrap_or(0);
    ConsumerProtocolAssignment {
        assigned_partitions,
        user_data: None,
    }
    .to_bytes(version.clamp(0, ASSIGNMENT))
    .unwrap_or_default()
}
