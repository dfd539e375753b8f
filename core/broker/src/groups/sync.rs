//! `SyncGroup`: the leader hands in the assignment, every member fetches its part.

use alloc::{collections::BTreeMap, vec};
use bytes::Bytes;
use ottla_protocol::{ErrorCode, Response, Str, SyncGroupRequest, SyncGroupResponse};
use ottla_record::Now;

use super::{
    GroupCoordinator,
    group::{Group, GroupState},
    outbox::{AfterCommit, Outbox, membership_error},
    owned::owned_bytes,
    rebalance::{fail_syncs, prepare, refuse_sync},
    records,
};
use crate::context::{ReplyTo, RequestContext};

/// The first version that must name the protocol.
const PROTOCOL_SINCE: i16 = 5;

impl GroupCoordinator {
    /// Asks for the member's assignment; the leader's request brings all of them. The answer comes through
    /// [`super::GroupOutput::Respond`], once the leader's assignment is committed.
    pub fn sync(&mut self, now: Now, context: &RequestContext, request: SyncGroupRequest) {
        let reply = context.reply;
        if request.group_id.is_empty() {
            return refuse_sync(&mut self.out, reply, ErrorCode::INVALID_GROUP_ID);
        }
        let id = request.group_id.clone();
        if !self.groups.contains_key(&id) {
            return refuse_sync(&mut self.out, reply, ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.with_group(&id, |group, out| {
            match check(group, reply.api_version, &request) {
                Err(error) => refuse_sync(out, reply, error),
                Ok(()) => synchronize(group, out, now, reply, request),
            }
        });
    }
}

fn check(group: &Group, version: i16, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
    group.check_member(&request.member_id, request.group_instance_id.as_ref())?;
    if request.generation_id != group.generation {
        return Err(ErrorCode::ILLEGAL_GENERATION);
    }
    let named = request.protocol_type.is_some() && request.protocol_name.is_some();
    let differs = |theirs: &Option<Str>, ours: &Option<Str>| theirs.is_some() && theirs != ours;
    // In a rebalance there is no protocol to agree on; the answer is to rejoin.
    let settled = group.state() != GroupState::PreparingRebalance;
    if version >= PROTOCOL_SINCE && !named
        || differs(&request.protocol_type, &group.protocol_type)
        || settled && differs(&request.protocol_name, &group.protocol)
    {
        return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    Ok(())
}

fn synchronize(
    group: &mut Group,
    out: &mut Outbox,
    now: Now,
    reply: ReplyTo,
    request: SyncGroupRequest,
) {
    let id = &request.member_id;
    match group.state() {
        GroupState::Empty | GroupState::Dead => {
            refuse_sync(out, reply, ErrorCode::UNKNOWN_MEMBER_ID);
        }
        GroupState::PreparingRebalance => {
            refuse_sync(out, reply, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        GroupState::Stable => {
            note_sync(group, id);
            answer(group, out, now, id, reply);
        }
        GroupState::CompletingRebalance => {
            note_sync(group, id);
            let before = group
                .member_mut(id)
                .and_then(|m| m.awaiting_sync.replace(reply));
            if let Some(before) = before {
                // The same member asked again, over a new connection: only its last request is waited for.
                refuse_sync(out, before, ErrorCode::REBALANCE_IN_PROGRESS);
            }
            if group.is_leader(id) && !group.assigning {
                assign(group, out, request);
            }
        }
    }
}

/// The member has asked for its assignment: it need not be evicted for not asking.
fn note_sync(group: &mut Group, id: &Str) {
    group.pending_syncs.remove(id);
    if group.pending_syncs.is_empty() {
        group.syncs_end_us = None;
    }
}

/// Writes the leader's assignment. Members that it left out get an empty one; ids that it made up get nothing.
fn assign(group: &mut Group, out: &mut Outbox, request: SyncGroupRequest) {
    let given: BTreeMap<&Str, &Bytes> = request
        .assignments
        .iter()
        .map(|a| (&a.member_id, &a.assignment))
        .collect();
    let assignments: BTreeMap<Str, Bytes> = group
        .members()
        .map(|m| {
            (
                m.id.clone(),
                given.get(&m.id).map(|a| owned_bytes(a)).unwrap_or_default(),
            )
        })
        .collect();
    group.assigning = true;
    group.persisted = true;
    let record = records::group_metadata(group, &assignments);
    let then = AfterCommit::Assign {
        generation: group.generation,
        assignments,
    };
    out.write(group, vec![record], then);
}

/// The leader's assignment is committed, or is not going to be. If the group has moved on meanwhile, nobody waits for it.
pub(super) fn assignment_written(
    group: &mut Group,
    out: &mut Outbox,
    now: Now,
    generation: i32,
    assignments: BTreeMap<Str, Bytes>,
    result: Result<(), ErrorCode>,
) {
    if group.state() != GroupState::CompletingRebalance || group.generation != generation {
        return;
    }
    if let Err(error) = result {
        fail_syncs(group, out, now, membership_error(error));
        return prepare(group, out, now);
    }
    group.enter(GroupState::Stable, now);
    for (id, assignment) in assignments {
        let Some(member) = group.member_mut(&id) else {
            continue;
        };
        member.assignment = assignment;
        if let Some(reply) = member.awaiting_sync.take() {
            answer(group, out, now, &id, reply);
        }
    }
}

/// Gives a member its assignment; its session starts anew.
fn answer(group: &mut Group, out: &mut Outbox, now: Now, id: &Str, reply: ReplyTo) {
    let (protocol_type, protocol_name) = if reply.api_version >= PROTOCOL_SINCE {
        (group.protocol_type.clone(), group.protocol.clone())
    } else {
        (None, None)
    };
    let Some(member) = group.member_mut(id) else {
        return;
    };
    member.heard_of(now);
    let response = SyncGroupResponse {
        error_code: ErrorCode::NONE,
        protocol_type,
        protocol_name,
        assignment: member.assignment.clone(),
        ..SyncGroupResponse::default()
    };
    out.respond(reply, Response::SyncGroup(response));
}
