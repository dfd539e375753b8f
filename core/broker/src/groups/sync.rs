//! `SyncGroup`: the leader hands in the assignment, every member fetches its part.

use alloc::{collections::BTreeMap, vec};
use bytes::Bytes;
use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::sync_group::{SyncGroupRequest, SyncGroupResponse},
};
use ottla_record::Now;

use super::{
    GroupCoordinator, consumer,
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
            if group.consumer.is_some() {
                return consumer::classic_sync(group, out, now, reply, &request);
            }
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
        GroupState::Empty | GroupState::Dead | GroupState::Assigning | GroupState::Reconciling => {
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

#[cfg(test)]
mod tests {
    use super::super::testing::{Harness, JOIN, config, join_request};
    use super::*;

    fn error(h: &mut Harness, generation: i32, id: &Str) -> ErrorCode {
        let sync = h.sync("g", generation, id, &[]);
        h.synced(sync).expect("an answer at once").error_code
    }

    #[test]
    fn refusals() {
        let mut h = Harness::new(config());
        assert_eq!(
            error(&mut h, 1, &Str::from("x")),
            ErrorCode::UNKNOWN_MEMBER_ID
        );
        let (generation, ids) = h.stable("g", 2);
        assert_eq!(
            error(&mut h, generation, &Str::from("x")),
            ErrorCode::UNKNOWN_MEMBER_ID
        );
        assert_eq!(
            error(&mut h, generation + 1, &ids[0]),
            ErrorCode::ILLEGAL_GENERATION
        );
        let request = SyncGroupRequest {
            group_id: Str::from("g"),
            generation_id: generation,
            member_id: ids[0].clone(),
            ..SyncGroupRequest::default()
        };
        let ask = |h: &mut Harness, version, r: SyncGroupRequest| {
            let sync = h.request(version, |c, now, context| c.sync(now, context, r));
            h.synced(sync).unwrap()
        };
        let unnamed = ask(&mut h, 5, request.clone());
        assert_eq!(unnamed.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        let old = ask(&mut h, 4, request.clone());
        assert_eq!((old.error_code, old.protocol_name), (ErrorCode::NONE, None));
        for (kind, name) in [("connect", "range"), ("consumer", "sticky")] {
            let protocol_type = Some(Str::from(kind));
            let protocol_name = Some(Str::from(name));
            let r = SyncGroupRequest {
                protocol_type,
                protocol_name,
                ..request.clone()
            };
            assert_eq!(
                ask(&mut h, 5, r).error_code,
                ErrorCode::INCONSISTENT_GROUP_PROTOCOL
            );
        }
        let nameless = SyncGroupRequest {
            group_id: Str::new(),
            ..request.clone()
        };
        assert_eq!(
            ask(&mut h, 5, nameless).error_code,
            ErrorCode::INVALID_GROUP_ID
        );
        let instance = SyncGroupRequest {
            group_instance_id: Some(Str::from("i")),
            ..request
        };
        assert_eq!(
            ask(&mut h, 4, instance).error_code,
            ErrorCode::UNKNOWN_MEMBER_ID
        );
        // A rebalance is under way.
        h.join(JOIN, join_request("g", &ids[0]));
        assert_eq!(
            error(&mut h, generation, &ids[1]),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
    }

    #[test]
    fn members_wait_for_the_leader_and_for_the_commit() {
        let mut h = Harness::new(config());
        let (_, ids) = h.stable("g", 2);
        let joins = [0, 1].map(|i| h.join(JOIN, join_request("g", &ids[i])));
        let generation = h.joined(joins[0]).unwrap().generation_id;
        h.hold = true;
        let follower = h.sync("g", generation, &ids[1], &[]);
        assert_eq!(h.heartbeat("g", generation, &ids[1]), ErrorCode::NONE);
        let given = [(&ids[1], "all"), (&Str::from("made up"), "x")];
        let leader = h.sync("g", generation, &ids[0], &given);
        assert_eq!(h.appends.len(), 1);
        let again = h.sync("g", generation, &ids[0], &given);
        assert_eq!(h.appends.len(), 1, "one generation is assigned once");
        assert_eq!(
            h.synced(leader).unwrap().error_code,
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        assert!(h.synced(follower).is_none());
        assert_eq!(h.state("g"), GroupState::CompletingRebalance);
        h.finish_appends();
        assert_eq!(h.state("g"), GroupState::Stable);
        assert_eq!(
            h.synced(follower).unwrap().assignment,
            Bytes::from_static(b"all")
        );
        let leader = h.synced(again).unwrap();
        assert_eq!(
            (leader.error_code, leader.assignment.len()),
            (ErrorCode::NONE, 0)
        );
        assert_eq!(leader.protocol_name.as_deref(), Some("range"));
    }

    #[test]
    fn an_assignment_that_cannot_be_written_makes_all_rejoin() {
        let errors = [
            (
                ErrorCode::NOT_ENOUGH_REPLICAS,
                ErrorCode::COORDINATOR_NOT_AVAILABLE,
            ),
            (
                ErrorCode::REQUEST_TIMED_OUT,
                ErrorCode::COORDINATOR_NOT_AVAILABLE,
            ),
            (ErrorCode::KAFKA_STORAGE_ERROR, ErrorCode::NOT_COORDINATOR),
            (
                ErrorCode::MESSAGE_TOO_LARGE,
                ErrorCode::UNKNOWN_SERVER_ERROR,
            ),
        ];
        for (append, answer) in errors {
            let mut h = Harness::new(config());
            let id = h.member_id("g");
            h.join_now(JOIN, join_request("g", &id));
            h.hold = true;
            let sync = h.sync("g", 1, &id, &[]);
            h.finish_append(Err(append));
            assert_eq!(h.synced(sync).unwrap().error_code, answer);
            assert_eq!(h.state("g"), GroupState::PreparingRebalance);
            assert_eq!(h.join_now(JOIN, join_request("g", &id)).generation_id, 2);
        }
    }

    #[test]
    fn an_assignment_of_a_past_generation_is_not_handed_out() {
        let mut h = Harness::new(config());
        let id = h.member_id("g");
        h.join_now(JOIN, join_request("g", &id));
        h.hold = true;
        let sync = h.sync("g", 1, &id, &[(&id, "old")]);
        let newcomer = h.join(3, join_request("g", &Str::new()));
        assert_eq!(
            h.synced(sync).unwrap().error_code,
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        h.join_now(JOIN, join_request("g", &id));
        h.finish_appends();
        assert_eq!(h.state("g"), GroupState::CompletingRebalance);
        let newcomer = h.joined(newcomer).unwrap();
        let sync = h.sync("g", 2, &newcomer.member_id, &[]);
        assert!(h.synced(sync).is_none());
    }

    #[test]
    fn who_does_not_sync_in_time_is_out() {
        let mut h = Harness::new(config());
        let (_, ids) = h.stable("g", 2);
        let joins = [0, 1].map(|i| h.join(JOIN, join_request("g", &ids[i])));
        let generation = h.joined(joins[0]).unwrap().generation_id;
        let leader = h.sync("g", generation, &ids[0], &[]);
        assert!(h.synced(leader).is_some());
        for _ in 0..11 {
            h.advance(5_000);
            assert_eq!(h.heartbeat("g", generation, &ids[0]), ErrorCode::NONE);
            assert_eq!(h.heartbeat("g", generation, &ids[1]), ErrorCode::NONE);
        }
        h.advance(5_000);
        assert_eq!(
            h.heartbeat("g", generation, &ids[1]),
            ErrorCode::UNKNOWN_MEMBER_ID
        );
        let rejoin = h.heartbeat("g", generation, &ids[0]);
        assert_eq!(rejoin, ErrorCode::REBALANCE_IN_PROGRESS);
    }
}
