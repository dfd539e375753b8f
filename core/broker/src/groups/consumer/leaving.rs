//! Members go: of their own will, or because their time is up.

use alloc::{format, vec::Vec};
use ottla_protocol::{
    ErrorCode, Str,
    messages::consumer_group_heartbeat::{
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    },
};
use ottla_record::Now;

use super::{
    Refusal,
    conversion::{self, Downgrade},
    flush,
    heartbeat::{fenced_instance, unknown_instance},
    records::RecordKey,
    state::{ConsumerGroup, MemberState, Owned, STATIC_LEAVE_EPOCH},
    subscription::{resolve_regexes, update_epoch},
};
use crate::groups::{group::Group, outbox::Outbox};

/// A heartbeat that says good-bye.
pub(super) fn leave(
    group: &mut Group,
    out: &mut Outbox,
    now: Now,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
    let id = &request.member_id;
    let Some(consumer) = group.consumer.as_deref_mut() else {
        return Err(Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR, ""));
    };
    match &request.instance_id {
        None if consumer.member(id).is_none() => {
            return Err(Refusal::new(
                ErrorCode::UNKNOWN_MEMBER_ID,
                format!("Member {id} is not a member of group {}.", request.group_id),
            ));
        }
        None => {}
        Some(instance_id) => match consumer.static_member(instance_id) {
            None => return Err(unknown_instance(instance_id)),
            Some(holder) if holder.id != *id => {
                return Err(fenced_instance(id, instance_id, &holder.id));
            }
            Some(_) => {}
        },
    }
    if request.member_epoch == STATIC_LEAVE_EPOCH {
        go_away(consumer, id);
    } else {
        remove(group, out, now, core::slice::from_ref(id));
    }
    Ok(ConsumerGroupHeartbeatResponse {
        member_id: Some(id.clone()),
        member_epoch: request.member_epoch,
        ..Default::default()
    })
}

/// A static member goes and will be back: it keeps what it has until its session ends.
fn go_away(consumer: &mut ConsumerGroup, id: &Str) {
    let Some(member) = consumer.member(id) else {
        return;
    };
    // What it had yet to give up it has given up with its going.
    let assigned = member.assigned.clone();
    consumer.set_partitions(id, assigned, Owned::new());
    if let Some(member) = consumer.member_mut(id) {
        member.previous_epoch = member.epoch;
        member.epoch = STATIC_LEAVE_EPOCH;
        member.revocation_ends_us = None;
        member.classic_wait = None;
    }
    consumer.unwritten.insert(RecordKey::Current(id.clone()));
}

/// Takes members out, with all they own; the next heartbeat of another one finds the group in a new epoch. If only members
/// of the classic protocol are left, it becomes a classic group again.
pub(super) fn remove(group: &mut Group, out: &mut Outbox, now: Now, ids: &[Str]) {
    let Some(consumer) = group.consumer.as_deref_mut() else {
        return;
    };
    for id in ids {
        if consumer.take(id).is_none() {
            continue;
        }
        consumer.target.remove(id);
        consumer.unwritten.extend([
            RecordKey::Current(id.clone()),
            RecordKey::Target(id.clone()),
            RecordKey::Member(id.clone()),
        ]);
    }
    resolve_regexes(consumer, &out.topics, now);
    update_epoch(consumer, &out.topics, true);
    if conversion::may_downgrade(consumer, &out.config) {
        conversion::downgrade(group, out, now, Downgrade::Rebalances);
    }
}

/// Does what is due at `now`: ends sessions, and the patience with members that don't give up what they must, or that don't
/// join again.
pub(in crate::groups) fn handle_due(group: &mut Group, out: &mut Outbox, now: Now) {
    let Some(consumer) = group.consumer.as_deref_mut() else {
        return;
    };
    let due: Vec<Str> = consumer
        .members()
        .filter(|m| m.due_us() <= now.mono_us)
        .map(|m| m.id.clone())
        .collect();
    let mut gone = Vec::new();
    for id in due {
        let Some(member) = consumer.member_mut(&id) else {
            continue;
        };
        let over = |at: u64| at <= now.mono_us;
        let stuck = member.revocation_ends_us.is_some_and(over)
            && member.state == MemberState::UnrevokedPartitions;
        if over(member.session_ends_us)
            || stuck
            || member.classic_wait.is_some_and(|w| over(w.ends_us))
        {
            gone.push(id);
        } else {
            member.revocation_ends_us = member.revocation_ends_us.filter(|at| !over(*at));
        }
    }
    if !gone.is_empty() {
        remove(group, out, now, &gone);
    }
    flush(group, out);
}
