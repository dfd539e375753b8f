//! The rebalance: from the wish for one, over the wait for members, to the next generation.
//!
//! `prepare` → (members join) → `complete` → the leader's `SyncGroup` ([`super::sync`]).

use alloc::{collections::BTreeMap, vec, vec::Vec};
use bytes::Bytes;
use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::{
        join_group::{JoinGroupResponse, JoinGroupResponseMember},
        sync_group::SyncGroupResponse,
    },
};
use ottla_record::Now;

use super::{
    group::{Group, GroupState, InitialDelay, JoinWait},
    outbox::{AfterCommit, Outbox},
    records,
};

/// Asks every member to rejoin. A group that was empty waits `group.initial.rebalance.delay.ms` for company, any other
/// for its members, but no longer than the longest of their rebalance timeouts.
pub(super) fn prepare(group: &mut Group, out: &mut Outbox, now: Now) {
    if group.state() == GroupState::CompletingRebalance {
        fail_syncs(group, out, now, ErrorCode::REBALANCE_IN_PROGRESS);
    }
    group.pending_syncs.clear();
    group.syncs_end_us = None;
    let was_empty = group.state() == GroupState::Empty;
    group.enter(GroupState::PreparingRebalance, now);
    let timeout_ms = group.rebalance_timeout_ms();
    if !was_empty {
        group.join_wait = Some(JoinWait {
            ends_us: now.after_ms(timeout_ms),
            initial: None,
        });
        complete_if_all_joined(group, out, now);
        return;
    }
    let delay_ms = i64::from(out.config.initial_rebalance_delay_ms.max(0));
    if delay_ms == 0 {
        complete(group, out, now);
    } else {
        let remaining_us = (timeout_ms - delay_ms).max(0) as u64 * 1000;
        let initial = Some(InitialDelay {
            remaining_us,
            newcomers: false,
        });
        group.join_wait = Some(JoinWait {
            ends_us: now.after_ms(delay_ms),
            initial,
        });
    }
}

/// A member came or changed: begin a rebalance, unless one waits for members already, which may now be all there.
pub(super) fn prepare_or_complete(group: &mut Group, out: &mut Outbox, now: Now) {
    match group.state() {
        GroupState::PreparingRebalance => complete_if_all_joined(group, out, now),
        GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable => {
            prepare(group, out, now);
        }
        GroupState::Dead | GroupState::Assigning | GroupState::Reconciling => {}
    }
}

/// Members went: the rest rebalances. An empty group has nobody to tell.
pub(super) fn after_removal(group: &mut Group, out: &mut Outbox, now: Now) {
    if group.state() != GroupState::Empty {
        prepare_or_complete(group, out, now);
    }
}

/// Ends the wait for members if there is no one to wait for. Not during the initial delay, whose point is to wait.
pub(super) fn complete_if_all_joined(group: &mut Group, out: &mut Outbox, now: Now) {
    let waits_for_members = group.join_wait.is_some_and(|w| w.initial.is_none());
    let deserted = group.members().len() == 0 && group.pending_members.is_empty();
    if group.state() == GroupState::PreparingRebalance
        && (waits_for_members && group.all_joined() || deserted)
    {
        complete(group, out, now);
    }
}

/// The wait is over: drop who did not rejoin, begin the next generation, answer every parked `JoinGroup`.
fn complete(group: &mut Group, out: &mut Outbox, now: Now) {
    // Static members keep their place until their session ends: they may be restarting.
    let absent: Vec<Str> = group
        .members()
        .filter(|m| m.awaiting_join.is_none() && m.instance_id.is_none())
        .map(|m| m.id.clone())
        .collect();
    for id in &absent {
        remove_member(group, out, id);
    }
    if group.members().len() > 0 && !group.elect_joined_leader() {
        let ends_us = now.after_ms(group.rebalance_timeout_ms());
        group.join_wait = Some(JoinWait {
            ends_us,
            initial: None,
        });
        return;
    }
    group.begin_generation(now);
    if group.state() == GroupState::Empty {
        group.persisted = true;
        let record = records::group_metadata(group, &BTreeMap::new());
        out.write(group, vec![record], AfterCommit::Nothing);
        return;
    }
    group.syncs_end_us = Some(now.after_ms(group.rebalance_timeout_ms()));
    let ids: Vec<Str> = group.members().map(|m| m.id.clone()).collect();
    for id in ids {
        if let Some(reply) = group.take_join(&id) {
            let response = current_generation(group, &id, reply.api_version);
            out.respond(reply, Response::JoinGroup(response));
        }
        if let Some(member) = group.member_mut(&id) {
            member.is_new = false;
            member.heard_of(now);
        }
    }
}

/// The answer to a `JoinGroup`: the present generation, with all members' metadata if `id` leads it.
pub(super) fn current_generation(group: &Group, id: &Str, version: i16) -> JoinGroupResponse {
    let members = if group.is_leader(id) {
        member_metadata(group)
    } else {
        Vec::new()
    };
    JoinGroupResponse {
        error_code: ErrorCode::NONE,
        generation_id: group.generation,
        protocol_type: group.protocol_type.clone().filter(|_| version >= 7),
        protocol_name: Some(group.protocol.clone().unwrap_or_default()),
        leader: group.leader.clone().unwrap_or_default(),
        member_id: id.clone(),
        members,
        ..JoinGroupResponse::default()
    }
}

/// What the leader computes its assignment from.
pub(super) fn member_metadata(group: &Group) -> Vec<JoinGroupResponseMember> {
    let protocol = group.protocol.as_deref().unwrap_or("");
    group
        .members()
        .map(|m| JoinGroupResponseMember {
            member_id: m.id.clone(),
            group_instance_id: m.instance_id.clone(),
            metadata: m.metadata(protocol).cloned().unwrap_or_default(),
        })
        .collect()
}

/// Takes a member out. It may have a request parked: UNKNOWN_MEMBER_ID makes it join again if it is still alive.
pub(super) fn remove_member(group: &mut Group, out: &mut Outbox, id: &Str) {
    let Some(member) = group.remove(id) else {
        return;
    };
    if let Some(reply) = member.awaiting_join {
        refuse_join(out, reply, Str::new(), ErrorCode::UNKNOWN_MEMBER_ID);
    }
    if let Some(reply) = member.awaiting_sync {
        refuse_sync(out, reply, ErrorCode::UNKNOWN_MEMBER_ID);
    }
}

/// Answers every parked `SyncGroup` with `error` and takes all assignments away.
pub(super) fn fail_syncs(group: &mut Group, out: &mut Outbox, now: Now, error: ErrorCode) {
    for member in group.members_mut() {
        member.assignment = Bytes::new();
        if let Some(reply) = member.awaiting_sync.take() {
            member.heard_of(now);
            refuse_sync(out, reply, error);
        }
    }
}

/// Answers a `JoinGroup` with an error.
pub(super) fn refuse_join(
    out: &mut Outbox,
    reply: crate::context::ReplyTo,
    member_id: Str,
    error: ErrorCode,
) {
    let response = JoinGroupResponse {
        error_code: error,
        generation_id: -1,
        protocol_name: (reply.api_version < 7).then(Str::new),
        member_id,
        ..JoinGroupResponse::default()
    };
    out.respond(reply, Response::JoinGroup(response));
}

/// Answers a `SyncGroup` with an error.
pub(super) fn refuse_sync(out: &mut Outbox, reply: crate::context::ReplyTo, error: ErrorCode) {
    let response = SyncGroupResponse {
        error_code: error,
        ..SyncGroupResponse::default()
    };
    out.respond(reply, Response::SyncGroup(response));
}

/// Does what is due at `now`: ends sessions, forgets handed-out ids, ends waits.
pub(super) fn handle_due(group: &mut Group, out: &mut Outbox, now: Now) {
    let due = |at: u64| at <= now.mono_us;
    let pending = group.pending_members.len();
    group.pending_members.retain(|_, ends_us| !due(*ends_us));
    if group.pending_members.len() < pending {
        complete_if_all_joined(group, out, now);
    }

    let expired: Vec<Str> = group
        .members()
        .filter(|m| m.expires_us().is_some_and(due))
        .map(|m| m.id.clone())
        .collect();
    for id in &expired {
        remove_member(group, out, id);
    }
    if !expired.is_empty() {
        after_removal(group, out, now);
    }

    if let Some(wait) = group.join_wait.filter(|w| due(w.ends_us)) {
        match wait.initial {
            Some(initial) if initial.newcomers && initial.remaining_us > 0 => {
                let delay_us = out.config.initial_rebalance_delay_ms.max(0) as u64 * 1000;
                let more_us = delay_us.min(initial.remaining_us);
                let initial = InitialDelay {
                    remaining_us: initial.remaining_us.saturating_sub(delay_us),
                    newcomers: false,
                };
                let ends_us = now.mono_us.saturating_add(more_us);
                group.join_wait = Some(JoinWait {
                    ends_us,
                    initial: Some(initial),
                });
            }
            _ => complete(group, out, now),
        }
    }

    if group.syncs_end_us.is_some_and(due) {
        group.syncs_end_us = None;
        let late: Vec<Str> = group.pending_syncs.iter().cloned().collect();
        for id in &late {
            remove_member(group, out, id);
        }
        if !late.is_empty() {
            after_removal(group, out, now);
        }
    }
}
