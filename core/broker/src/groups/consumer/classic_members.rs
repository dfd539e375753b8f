//! Members of the classic protocol in a consumer group: the coordinator assigns to them too, and speaks `JoinGroup`,
//! `SyncGroup`, `Heartbeat` and `LeaveGroup` with them. A join is one step of their reconciliation; what they say they own is
//! in their subscription.

use alloc::{collections::BTreeSet, vec::Vec};
use ottla_protocol::{
    ErrorCode, Response, Str, VersionedMessage,
    messages::{
        ConsumerProtocolSubscription,
        heartbeat::HeartbeatRequest,
        join_group::{JoinGroupRequest, JoinGroupResponse},
        sync_group::{SyncGroupRequest, SyncGroupResponse},
    },
};
use ottla_record::Now;

use super::{
    MigrationPolicy,
    conversion::{self, Downgrade, encoded_assignment},
    flush,
    heartbeat::{check_room, note_reconciled, replace, settle},
    leaving,
    reconcile::reconcile,
    records::RecordKey,
    respond,
    state::{
        ClassicProtocol, ClassicWait, ConsumerGroup, JOIN_EPOCH, Member, MemberState, Partitions,
    },
    topics::Topics,
};
use crate::{
    context::{ReplyTo, RequestContext},
    groups::{
        group::{CONSUMER, Group},
        outbox::Outbox,
        owned::{owned_bytes, owned_str},
        rebalance::{refuse_join, refuse_sync},
    },
};

/// The first version whose dynamic members must ask for an id first (KIP-394).
const MEMBER_ID_REQUIRED_SINCE: i16 = 4;
/// The first version that has a rebalance timeout of its own.
const REBALANCE_TIMEOUT_SINCE: i16 = 1;
/// The first version that tells the protocol type.
const PROTOCOL_TYPE_SINCE: i16 = 7;

/// `JoinGroup` to a consumer group with members: a member more of it, or one that goes on with the older protocol. The group stays
/// a consumer group, also when nobody is left in it who speaks the newer protocol; but a static member that comes back to the last
/// such place turns it into a classic one.
pub(in crate::groups) fn join(
    group: &mut Group,
    out: &mut Outbox,
    now: Now,
    context: &RequestContext,
    request: &JoinGroupRequest,
) {
    let reply = context.reply;
    let mark = out.mark();
    let done = try_join(group, out, now, context, request);
    flush(group, out);
    match done {
        Err((error, id)) => refuse_join(out, reply, id, error),
        Ok((response, after)) => {
            if let Some(then) = after {
                conversion::downgrade(group, out, now, then);
            }
            respond(group, out, mark, reply, Response::JoinGroup(response));
        }
    }
}

fn try_join(
    group: &mut Group,
    out: &mut Outbox,
    now: Now,
    context: &RequestContext,
    request: &JoinGroupRequest,
) -> Result<(JoinGroupResponse, Option<Downgrade>), (ErrorCode, Str)> {
    let version = context.reply.api_version;
    // Kafka gives the id back in a classic group only.
    let refuse = |error| (error, Str::new());
    let Some(consumer) = group.consumer.as_deref_mut() else {
        return Err(refuse(ErrorCode::UNKNOWN_SERVER_ERROR));
    };
    if out.config.consumer.migration_policy == MigrationPolicy::Disabled {
        return Err(refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
    }
    let replaced = request
        .group_instance_id
        .as_ref()
        .and_then(|i| consumer.static_member(i))
        .cloned();
    if replaced.is_none()
        && check_room(consumer, &request.member_id, out.config.consumer.max_size).is_err()
    {
        return Err((ErrorCode::GROUP_MAX_SIZE_REACHED, Str::new()));
    }
    let takes_place_of_newer = replaced.as_ref().is_some_and(|m| m.classic.is_none());
    let subscription = request
        .protocols
        .first()
        .and_then(|p| ConsumerProtocolSubscription::from_bytes(owned_bytes(&p.metadata)).ok());
    let Some(subscription) = subscription.filter(|_| supports(consumer, request)) else {
        return Err(refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
    };
    let is_unknown = request.member_id.is_empty();
    let id = if is_unknown {
        let client = context.client_id.as_deref().unwrap_or("");
        out.new_member_id(request.group_instance_id.as_deref().unwrap_or(client))
    } else {
        owned_str(&request.member_id)
    };
    if is_unknown && request.group_instance_id.is_none() && version >= MEMBER_ID_REQUIRED_SINCE {
        return Err((ErrorCode::MEMBER_ID_REQUIRED, id));
    }
    let (before, replaces) = match (&request.group_instance_id, replaced) {
        (None, _) => {
            let before = consumer.member(&id).cloned();
            (before.unwrap_or_else(|| Member::new(id.clone())), None)
        }
        (Some(_), None) if is_unknown => (Member::new(id.clone()), None),
        (Some(_), None) => return Err(refuse(ErrorCode::UNKNOWN_MEMBER_ID)),
        (Some(_), Some(holder)) if holder.id == id => (holder, None),
        (Some(_), Some(holder)) if is_unknown => {
            // It takes its place again: with the assignment it has, there need not be another one.
            let old = holder.id.clone();
            let member = Member {
                id: id.clone(),
                epoch: consumer.assignment_epoch,
                previous_epoch: consumer.assignment_epoch,
                ..holder
            };
            (member, Some(old))
        }
        (Some(_), Some(_)) => return Err(refuse(ErrorCode::FENCED_INSTANCE_ID)),
    };
    let rebalance_timeout_ms =
        if version < REBALANCE_TIMEOUT_SINCE || request.rebalance_timeout_ms < 0 {
            request.session_timeout_ms
        } else {
            request.rebalance_timeout_ms
        };
    let mut member = Member {
        instance_id: request.group_instance_id.as_ref().map(owned_str),
        rack_id: subscription.rack_id.clone(),
        client_id: Str::from(context.client_id.as_deref().unwrap_or("")),
        client_host: owned_str(&context.client_host),
        topics: subscription.topics.iter().cloned().collect(),
        regex: Str::new(),
        rebalance_timeout_ms,
        server_assignor: None,
        classic: Some(ClassicProtocol {
            session_timeout_ms: request.session_timeout_ms,
            protocols: request
                .protocols
                .iter()
                .map(|p| (owned_str(&p.name), owned_bytes(&p.metadata)))
                .collect(),
        }),
        revocation_ends_us: None,
        ..before.clone()
    };
    let resubscribed = member.topics != before.topics || member.regex != before.regex;
    let is_new = consumer.member(&id).is_none();
    if let Some(old) = &replaces {
        replace(consumer, old, &id);
    }
    if is_new || member.metadata_differs(&before) {
        consumer.unwritten.insert(RecordKey::Member(id.clone()));
    }
    member.heard_of(now, request.session_timeout_ms);
    member.classic_wait = Some(ClassicWait {
        ends_us: now.after_ms(i64::from(rebalance_timeout_ms.max(1))),
        join: false,
    });
    let protocol_name = request.protocols.first().map(|p| p.name.clone());
    consumer.put(member);
    let downgrades = takes_place_of_newer && conversion::may_downgrade(consumer, &out.config);
    let needs_target =
        resubscribed || consumer.topics_changed || consumer.epoch > consumer.assignment_epoch;
    let joined = |generation_id| JoinGroupResponse {
        generation_id,
        protocol_type: (version >= PROTOCOL_TYPE_SINCE).then(|| Str::from_static(CONSUMER)),
        protocol_name: protocol_name.clone(),
        member_id: id.clone(),
        ..JoinGroupResponse::default()
    };
    if downgrades && needs_target {
        // The classic group's leader assigns. Until then the member has the generation it had, a new one none.
        let generation = if replaces.is_some() {
            JOIN_EPOCH
        } else {
            before.epoch
        };
        return Ok((joined(generation), Some(Downgrade::Rebalances)));
    }
    settle(consumer, out, now, resubscribed);
    let owned = owned_partitions(&subscription, &out.topics);
    let changed = reconcile(consumer, &out.topics, &id, Some(&owned), resubscribed)
        .map_err(|refusal| refuse(refusal.code))?;
    note_reconciled(consumer, &id, changed, is_new, now);
    let after = downgrades.then(|| conversion::after_downgrade(consumer));
    let generation = consumer.member(&id).map_or(-1, |m| m.epoch);
    Ok((joined(generation), after))
}

/// Whether the member has a protocol that all classic members of the group have.
fn supports(consumer: &ConsumerGroup, request: &JoinGroupRequest) -> bool {
    let mut common: BTreeSet<&str> = request.protocols.iter().map(|p| &*p.name).collect();
    let others = consumer
        .members()
        .filter(|m| m.id != request.member_id)
        .filter_map(|m| m.classic.as_ref());
    for ClassicProtocol { protocols, .. } in others {
        let theirs: BTreeSet<&str> = protocols.iter().map(|(name, _)| &**name).collect();
        common.retain(|name| theirs.contains(name));
    }
    request.protocol_type == CONSUMER && !common.is_empty()
}

fn owned_partitions(subscription: &ConsumerProtocolSubscription, topics: &Topics) -> Partitions {
    let mut owned = Partitions::new();
    for t in &subscription.owned_partitions {
        if let Some(topic) = topics.by_name(&t.topic) {
            owned
                .entry(topic.id)
                .or_default()
                .extend(t.partitions.iter().copied());
        }
    }
    owned
}

/// The classic member that a request names, in the generation that it names.
fn check<'a>(
    consumer: &'a mut ConsumerGroup,
    id: &Str,
    instance_id: Option<&Str>,
    generation: i32,
) -> Result<&'a mut Member, ErrorCode> {
    if let Some(instance_id) = instance_id {
        let holder = consumer.static_member(instance_id);
        let holder = holder.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if holder.id != *id {
            return Err(ErrorCode::FENCED_INSTANCE_ID);
        }
    }
    let member = consumer.member_mut(id).filter(|m| m.classic.is_some());
    let member = member.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
    if member.epoch != generation {
        return Err(ErrorCode::ILLEGAL_GENERATION);
    }
    Ok(member)
}

/// The member is asked to join again, and must.
fn expect_join(member: &mut Member, now: Now) {
    let timeout_ms = i64::from(member.rebalance_timeout_ms.max(1));
    if member.classic_wait.is_none_or(|w| !w.join) {
        member.classic_wait = Some(ClassicWait {
            ends_us: now.after_ms(timeout_ms),
            join: true,
        });
    }
}

/// `SyncGroup` of a classic member.
pub(in crate::groups) fn sync(
    group: &mut Group,
    out: &mut Outbox,
    now: Now,
    reply: ReplyTo,
    request: &SyncGroupRequest,
) {
    match try_sync(group, out, now, request) {
        Err(error) => refuse_sync(out, reply, error),
        Ok(response) => {
            let mark = out.mark();
            respond(group, out, mark, reply, Response::SyncGroup(response));
        }
    }
}

fn try_sync(
    group: &mut Group,
    out: &mut Outbox,
    now: Now,
    request: &SyncGroupRequest,
) -> Result<SyncGroupResponse, ErrorCode> {
    let Some(consumer) = group.consumer.as_deref_mut() else {
        return Err(ErrorCode::UNKNOWN_MEMBER_ID);
    };
    let epoch = consumer.epoch;
    let id = &request.member_id;
    let instance_id = request.group_instance_id.as_ref();
    let member = check(consumer, id, instance_id, request.generation_id)?;
    let names = member.classic.iter().flat_map(|c| &c.protocols);
    let first = names.map(|(name, _)| name).next().cloned();
    let differs = |theirs: &Option<Str>, ours: &str| theirs.as_ref().is_some_and(|t| *t != *ours);
    if differs(&request.protocol_type, CONSUMER)
        || differs(&request.protocol_name, first.as_deref().unwrap_or(""))
    {
        return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    if epoch > member.epoch && member.state != MemberState::UnrevokedPartitions {
        expect_join(member, now);
        return Err(ErrorCode::REBALANCE_IN_PROGRESS);
    }
    member.classic_wait = None;
    member.heard_of(now, 0);
    Ok(SyncGroupResponse {
        protocol_type: Some(Str::from_static(CONSUMER)),
        protocol_name: first,
        assignment: encoded_assignment(member, &out.topics),
        ..SyncGroupResponse::default()
    })
}

/// `Heartbeat` of a classic member: REBALANCE_IN_PROGRESS when a join would take it a step further.
pub(in crate::groups) fn heartbeat(
    group: &mut Group,
    out: &mut Outbox,
    now: Now,
    request: &HeartbeatRequest,
) -> ErrorCode {
    let Some(consumer) = group.consumer.as_deref_mut() else {
        return ErrorCode::UNKNOWN_MEMBER_ID;
    };
    if consumer.topics_changed {
        settle(consumer, out, now, false);
        flush(group, out);
    }
    let Some(consumer) = group.consumer.as_deref_mut() else {
        return ErrorCode::UNKNOWN_MEMBER_ID;
    };
    let instance_id = request.group_instance_id.as_ref();
    let waits = consumer
        .member(&request.member_id)
        .is_some_and(|m| waits_for_others(consumer, m));
    let epoch = consumer.epoch;
    let member = match check(
        consumer,
        &request.member_id,
        instance_id,
        request.generation_id,
    ) {
        Ok(member) => member,
        Err(error) => return error,
    };
    member.heard_of(now, 0);
    let rejoin = member.epoch < epoch
        || member.state == MemberState::UnrevokedPartitions
        || member.state == MemberState::UnreleasedPartitions && !waits;
    if !rejoin {
        return ErrorCode::NONE;
    }
    expect_join(member, now);
    ErrorCode::REBALANCE_IN_PROGRESS
}

/// Whether others still hold something of the member's target: then a join would be of no use.
fn waits_for_others(consumer: &ConsumerGroup, member: &Member) -> bool {
    let target = consumer.target.get(&member.id).into_iter().flatten();
    member.state == MemberState::UnreleasedPartitions
        && target
            .flat_map(|(topic, partitions)| partitions.iter().map(move |p| (topic, *p)))
            .any(|(topic, p)| consumer.owner(topic, p).is_some_and(|o| *o != member.id))
}

/// `LeaveGroup` at a consumer group: members go by their own will, or an administrator's. The error of each.
pub(in crate::groups) fn leave(
    group: &mut Group,
    out: &mut Outbox,
    now: Now,
    leaving: &[(Str, Option<Str>)],
) -> Vec<ErrorCode> {
    let Some(consumer) = group.consumer.as_deref() else {
        return leaving
            .iter()
            .map(|_| ErrorCode::UNKNOWN_MEMBER_ID)
            .collect();
    };
    let mut gone: Vec<Str> = Vec::new();
    let mut errors = Vec::with_capacity(leaving.len());
    for (id, instance_id) in leaving {
        let holder = instance_id.as_ref().map(|i| consumer.static_member(i));
        let found = match holder {
            // An administrator knows only the instance id.
            Some(Some(holder)) if id.is_empty() || holder.id == *id => Ok(holder.id.clone()),
            Some(Some(_)) => Err(ErrorCode::FENCED_INSTANCE_ID),
            Some(None) => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            None if consumer.member(id).is_some() => Ok(id.clone()),
            None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        };
        errors.push(match found {
            Ok(id) if gone.contains(&id) => ErrorCode::UNKNOWN_MEMBER_ID,
            Ok(id) => {
                gone.push(id);
                ErrorCode::NONE
            }
            Err(error) => error,
        });
    }
    if !gone.is_empty() {
        leaving::remove(group, out, now, &gone);
        flush(group, out);
    }
    errors
}
