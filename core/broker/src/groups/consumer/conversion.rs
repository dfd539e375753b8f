//! A group with members changes its kind: a classic one when its first member of the newer protocol joins, a consumer group
//! when its last one goes (`group.consumer.migration.policy`). Groups without members change with whoever joins.

use alloc::{boxed::Box, collections::BTreeMap, format, vec::Vec};
use bytes::Bytes;
use ottla_protocol::{
    ErrorCode, Str, VersionedMessage,
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription,
        consumer_protocol_assignment::TopicPartition,
        consumer_protocol_subscription::TopicPartition as OwnedPartition,
    },
};
use ottla_record::Now;

use super::{
    Refusal,
    records::{RecordKey, all_keys, tombstones},
    state::{ClassicProtocol, ConsumerGroup, Member, MemberState, Owned, Partitions},
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
    let mut claims = Vec::with_capacity(group.members().len());
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
        claims.push(subscription.owned_partitions);
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
    keep_claims(&mut members, &claims, &out.topics);
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
        member.heard_of(now, out.session_timeout_ms(&group.id));
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

/// What a cooperative member had when it joined, and was assigned to nobody, it has yet to give up: it says so with its next
/// join. (Kafka takes such a partition for free, so that two can have it for a moment.)
fn keep_claims(members: &mut [Member], claims: &[Vec<OwnedPartition>], topics: &Topics) {
    let mut taken = Partitions::new();
    for (topic, partitions) in members.iter().flat_map(|m| &m.assigned) {
        taken.entry(*topic).or_default().extend(partitions.keys());
    }
    for (member, claims) in members.iter_mut().zip(claims) {
        for claim in claims {
            let Some(topic) = topics.by_name(&claim.topic) else {
                continue;
            };
            let taken = taken.entry(topic.id).or_default();
            for partition in &claim.partitions {
                if taken.insert(*partition) {
                    let pending = member.pending_revocation.entry(topic.id).or_default();
                    pending.insert(*partition, member.epoch);
                    member.state = MemberState::UnrevokedPartitions;
                }
            }
        }
    }
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

/// What the classic group does that a consumer group becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Downgrade {
    /// It is stable: everybody has what it is to have.
    Stays,
    /// It rebalances.
    Rebalances,
}

/// What is to become of a group whose members speak the classic protocol only: what they have stays with them if that is all they are
/// to have. (Kafka rebalances when there has yet to be a target, and else takes the target for what they have.)
pub(super) fn after_downgrade(consumer: &ConsumerGroup) -> Downgrade {
    let is_settled = |m: &Member| m.is_reconciled_to(consumer.epoch);
    if consumer.members().all(is_settled) {
        Downgrade::Stays
    } else {
        Downgrade::Rebalances
    }
}

/// A consumer group with members of the classic protocol only becomes a classic group.
pub(super) fn downgrade(group: &mut Group, out: &mut Outbox, now: Now, then: Downgrade) {
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
    if then == Downgrade::Rebalances {
        prepare(group, out, now);
    }
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

#[cfg(test)]
mod tests {
    use super::super::{
        MigrationPolicy,
        testing::{Client, GROUP, alive, join, join_static},
    };
    use super::*;
    use crate::groups::{
        group::GroupState,
        testing::{Harness, JOIN, config, join_request},
    };
    use ottla_protocol::messages::{
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse},
        sync_group::{SyncGroupRequest, SyncGroupRequestAssignment},
    };

    fn assignment(partitions: &[i32]) -> Bytes {
        ConsumerProtocolAssignment {
            assigned_partitions: alloc::vec![TopicPartition {
                topic: "t".into(),
                partitions: partitions.to_vec(),
            }],
            user_data: None,
        }
        .to_bytes(1)
        .unwrap()
    }

    fn read(bytes: &Bytes) -> Vec<i32> {
        let read = ConsumerProtocolAssignment::from_bytes(bytes.clone()).unwrap();
        let topics = read.assigned_partitions.into_iter();
        topics.flat_map(|t| t.partitions).collect()
    }

    /// A cooperative classic member that owns these partitions.
    fn classic(member: &Str, owned: &[i32]) -> JoinGroupRequest {
        let subscription = ConsumerProtocolSubscription {
            topics: alloc::vec!["t".into()],
            owned_partitions: alloc::vec![OwnedPartition {
                topic: "t".into(),
                partitions: owned.to_vec(),
            }],
            ..Default::default()
        };
        JoinGroupRequest {
            protocols: alloc::vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: subscription.to_bytes(1).unwrap(),
            }],
            ..join_request(GROUP, member)
        }
    }

    /// A stable classic group of one member with both partitions of `t`; its id.
    fn classic_group(h: &mut Harness) -> Str {
        h.topic("t", 2);
        let id = h.member_id(GROUP);
        let joined = h.join_now(JOIN, classic(&id, &[]));
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: joined.generation_id,
            member_id: id.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: alloc::vec![SyncGroupRequestAssignment {
                member_id: id.clone(),
                assignment: assignment(&[0, 1]),
            }],
            ..Default::default()
        };
        let sync = h.request(5, |c, now, context| c.sync(now, context, request));
        assert_eq!(read(&h.synced(sync).unwrap().assignment), [0, 1]);
        id
    }

    fn synced(h: &mut Harness, joined: &JoinGroupResponse) -> Vec<i32> {
        let sync = h.sync(GROUP, joined.generation_id, &joined.member_id, &[]);
        let answer = h.synced(sync).unwrap();
        assert_eq!(answer.error_code, ErrorCode::NONE);
        read(&answer.assignment)
    }

    #[test]
    fn empty_groups_become_what_their_next_member_speaks() {
        let mut h = Harness::new(config());
        h.topic("t", 1);
        h.commit(GROUP, -1, &Str::new(), "t", 7, "");
        let (_, ids) = h.stable(GROUP, 1);
        h.leave(GROUP, &[(&ids[0], None)]);
        let mut a = Client::new("a", &["t"]);
        assert_eq!(a.go(&mut h), ErrorCode::NONE);
        h.restart();
        assert_eq!(h.described().members.len(), 1);
        assert_eq!(h.offset(GROUP, "t"), Some(7), "offsets stay");
        h.beat_ok(alive("a", -1));
        assert_eq!(h.state(GROUP), GroupState::Empty);
        h.stable(GROUP, 2);
        h.restart();
        assert_eq!(h.described().error_code, ErrorCode::GROUP_ID_NOT_FOUND);
        assert_eq!(
            (h.state(GROUP), h.offset(GROUP, "t")),
            (GroupState::Stable, Some(7))
        );
    }

    #[test]
    fn a_group_goes_over_with_its_members_and_back() {
        let mut h = Harness::new(config());
        let id = classic_group(&mut h);
        let generation = h.generation(GROUP);
        let mut a = Client::new("a", &["t"]);
        a.go(&mut h);
        assert_eq!(
            (a.has.len(), a.epoch),
            (0, generation + 1),
            "both are the other one's"
        );
        for restarted in [false, true] {
            if restarted {
                h.restart();
            }
            let error = h.heartbeat(GROUP, generation, &id);
            assert_eq!(error, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        assert_eq!(h.described().members.len(), 2);
        assert_eq!(
            h.described()
                .members
                .iter()
                .filter(|m| m.member_type == 0)
                .count(),
            1
        );

        // The classic member joins with what it owns, learns what it may keep, gives up the rest, and joins again.
        let joined = h.join_now(JOIN, classic(&id, &[0, 1]));
        assert_eq!(
            (joined.error_code, joined.generation_id),
            (ErrorCode::NONE, generation)
        );
        let kept = synced(&mut h, &joined);
        assert_eq!(kept.len(), 1);
        a.go(&mut h);
        assert!(a.has.is_empty());
        assert_eq!(
            h.heartbeat(GROUP, generation, &id),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        let joined = h.join_now(JOIN, classic(&id, &kept));
        assert_eq!(joined.generation_id, generation + 1);
        assert_eq!(synced(&mut h, &joined), kept);
        assert_eq!(h.heartbeat(GROUP, generation + 1, &id), ErrorCode::NONE);
        a.go(&mut h);
        assert_eq!(a.has.len(), 1);
        assert_eq!(h.state(GROUP), GroupState::Stable);
        assert_eq!(
            h.heartbeat(GROUP, generation, &id),
            ErrorCode::ILLEGAL_GENERATION
        );

        // The last one of the newer protocol goes.
        h.beat_ok(alive("a", -1));
        assert_eq!(h.state(GROUP), GroupState::PreparingRebalance);
        let generation = h.generation(GROUP);
        assert_eq!(
            h.heartbeat(GROUP, generation, &id),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        h.restart();
        assert_eq!(h.described().error_code, ErrorCode::GROUP_ID_NOT_FOUND);
        assert_eq!(
            h.heartbeat(GROUP, generation, &id),
            ErrorCode::REBALANCE_IN_PROGRESS,
            "what the other one had is nobody's yet"
        );
        let joined = h.join_now(JOIN, classic(&id, &kept));
        assert_eq!((joined.error_code, &joined.leader), (ErrorCode::NONE, &id));
    }

    #[test]
    fn what_a_cooperative_member_has_yet_to_give_up_is_not_free() {
        let mut h = Harness::new(config());
        let id = classic_group(&mut h);
        // The leader takes one away, for somebody who doesn't come after all.
        let joined = h.join_now(JOIN, classic(&id, &[0, 1]));
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: joined.generation_id,
            member_id: id.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: alloc::vec![SyncGroupRequestAssignment {
                member_id: id.clone(),
                assignment: assignment(&[0]),
            }],
            ..Default::default()
        };
        let sync = h.request(5, |c, now, context| c.sync(now, context, request));
        assert_eq!(read(&h.synced(sync).unwrap().assignment), [0]);
        let mut a = Client::new("a", &["t"]);
        a.go(&mut h);
        h.restart();
        a.go(&mut h);
        assert_eq!(a.has.len(), 0, "it has not said yet that it gave it up");
        let error = h.heartbeat(GROUP, joined.generation_id, &id);
        assert_eq!(error, ErrorCode::REBALANCE_IN_PROGRESS);
        let joined = h.join_now(JOIN, classic(&id, &[0]));
        assert_eq!(synced(&mut h, &joined), [0]);
        a.go(&mut h);
        assert_eq!(a.has.iter().map(|(_, p)| *p).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn classic_members_join_a_consumer_group() {
        let mut h = Harness::new(config());
        h.topic("t", 2);
        let mut a = Client::new("a", &["t"]);
        a.go(&mut h);
        let asked = h.join_now(JOIN, classic(&Str::new(), &[]));
        assert_eq!(asked.error_code, ErrorCode::MEMBER_ID_REQUIRED);
        let id = asked.member_id;
        let joined = h.join_now(JOIN, classic(&id, &[]));
        assert_eq!(joined.error_code, ErrorCode::NONE);
        assert_eq!(synced(&mut h, &joined), []);
        a.go(&mut h);
        // There is nothing for it yet, so it need not join again.
        assert_eq!(
            h.heartbeat(GROUP, joined.generation_id, &id),
            ErrorCode::NONE
        );
        a.go(&mut h);
        assert_eq!(a.has.len(), 1);
        assert_eq!(
            h.heartbeat(GROUP, joined.generation_id, &id),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        let joined = h.join_now(JOIN, classic(&id, &[]));
        assert_eq!(synced(&mut h, &joined).len(), 1);
        let strange = JoinGroupRequest {
            protocol_type: "connect".into(),
            ..classic(&Str::new(), &[])
        };
        let error = h.join_now(JOIN, strange).error_code;
        assert_eq!(error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        // It must join again when it is asked to.
        h.beat_ok(join("b", &["t"]));
        assert_eq!(
            h.heartbeat(GROUP, joined.generation_id, &id),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        for _ in 0..7 {
            h.advance(9_000);
            h.heartbeat(GROUP, joined.generation_id, &id);
            a.go(&mut h);
        }
        let error = h.heartbeat(GROUP, joined.generation_id, &id);
        assert_eq!(error, ErrorCode::UNKNOWN_MEMBER_ID);
        let leave = h.leave(GROUP, &[(&"a".into(), None), (&id, None)]);
        let left = h.left(leave).unwrap();
        let errors: Vec<ErrorCode> = left.members.iter().map(|m| m.error_code).collect();
        assert_eq!(errors, [ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID]);
    }

    #[test]
    fn a_consumer_that_goes_on_as_a_classic_member_leaves_the_group_what_it_is() {
        let mut h = Harness::new(config());
        h.topic("t", 2);
        let mut a = Client::new("a", &["t"]);
        a.go(&mut h);
        let id: Str = "a".into();
        let joined = h.join_now(JOIN, classic(&id, &[0, 1]));
        assert_eq!(joined.error_code, ErrorCode::NONE);
        assert_eq!((joined.generation_id, &*joined.leader), (a.epoch, ""));
        let described = |h: &mut Harness| {
            let group = h.described();
            let members = group.members.iter().map(|m| m.member_type);
            (group.error_code, members.collect::<Vec<_>>())
        };
        assert_eq!(described(&mut h), (ErrorCode::NONE, alloc::vec![0]));
        assert_eq!(synced(&mut h, &joined), [0, 1]);
        h.restart();
        assert_eq!(described(&mut h), (ErrorCode::NONE, alloc::vec![0]));
        // Another one of its kind comes, and finds the group as it is.
        let asked = h.join_now(JOIN, classic(&Str::new(), &[]));
        let second = h.join_now(JOIN, classic(&asked.member_id, &[]));
        assert_eq!(second.error_code, ErrorCode::NONE);
        assert_eq!(described(&mut h), (ErrorCode::NONE, alloc::vec![0, 0]));
        // With the first that leaves it is a classic group.
        let leave = h.leave(GROUP, &[(&second.member_id, None)]);
        assert_eq!(h.left(leave).unwrap().error_code, ErrorCode::NONE);
        assert_eq!(described(&mut h).0, ErrorCode::GROUP_ID_NOT_FOUND);
    }

    #[test]
    fn a_static_consumer_that_comes_back_as_a_classic_member_takes_the_group_along() {
        for (returns, changes) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut h = Harness::new(config());
            h.topic("t", 2);
            h.topic("u", 2);
            let first = if changes { "u" } else { "t" };
            let epoch = h.beat_ok(join_static("a", "i", &[first])).member_epoch;
            let id = if returns { "a".into() } else { Str::new() };
            let request = JoinGroupRequest {
                group_instance_id: Some("i".into()),
                ..classic(&id, &[])
            };
            let joined = h.join_now(JOIN, request.clone());
            assert_eq!(joined.error_code, ErrorCode::NONE);
            assert_eq!(h.described().error_code, ErrorCode::GROUP_ID_NOT_FOUND);
            if changes {
                assert_eq!(h.state(GROUP), GroupState::PreparingRebalance);
                let member = joined.member_id.clone();
                let again = JoinGroupRequest {
                    member_id: member.clone(),
                    ..request
                };
                let again = h.join_now(JOIN, again);
                assert_eq!((again.error_code, again.leader), (ErrorCode::NONE, member));
            } else {
                assert_eq!(joined.generation_id, epoch);
                assert_eq!(h.state(GROUP), GroupState::Stable);
                assert_eq!(synced(&mut h, &joined), [0, 1]);
                let error = h.heartbeat(GROUP, epoch, &joined.member_id);
                assert_eq!(error, ErrorCode::NONE);
            }
        }
    }

    #[test]
    fn what_forbids_it() {
        let refused = ErrorCode::GROUP_ID_NOT_FOUND;
        for policy in [MigrationPolicy::Disabled, MigrationPolicy::Downgrade] {
            let mut c = config();
            c.consumer.migration_policy = policy;
            let mut h = Harness::new(c);
            let id = classic_group(&mut h);
            assert_eq!(h.beat_error(join("a", &["t"])), refused);
            assert_eq!(
                h.heartbeat(GROUP, h.generation(GROUP), &id),
                ErrorCode::NONE
            );
        }
        let mut c = config();
        c.consumer.migration_policy = MigrationPolicy::Upgrade;
        let mut h = Harness::new(c);
        classic_group(&mut h);
        h.beat_ok(join("a", &["t"]));
        h.beat_ok(alive("a", -1));
        assert_eq!(h.described().members.len(), 1, "there is no way back");

        let mut c = config();
        c.consumer.migration_policy = MigrationPolicy::Disabled;
        let mut h = Harness::new(c);
        h.topic("t", 2);
        h.beat_ok(join("a", &["t"]));
        let error = h.join_now(JOIN, classic(&"a".into(), &[])).error_code;
        assert_eq!(error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);

        let mut h = Harness::new(config());
        let connect = JoinGroupRequest {
            protocol_type: "connect".into(),
            ..classic(&Str::new(), &[])
        };
        h.join_now(3, connect);
        assert_eq!(h.beat_error(join("a", &["t"])), refused);
    }
}
