//! `JoinGroup`: a member enters a group, or comes back to it.

use alloc::vec::Vec;
use bytes::Bytes;
use ottla_protocol::{ErrorCode, JoinGroupRequest, JoinGroupResponse, Str};
use ottla_record::Now;

use super::{
    GroupCoordinator,
    group::{Group, GroupState},
    member::{Member, NEW_MEMBER_JOIN_TIMEOUT_MS},
    outbox::{AfterCommit, Outbox},
    owned::{owned_bytes, owned_str},
    rebalance::{complete_if_all_joined, current_generation, member_metadata, prepare_or_complete},
    rebalance::{prepare, refuse_join, remove_member},
    records,
};
use crate::context::{ReplyTo, RequestContext};

/// The first version whose dynamic members must ask for an id first (KIP-394).
const MEMBER_ID_REQUIRED_SINCE: i16 = 4;
/// The first version that has a rebalance timeout of its own.
const REBALANCE_TIMEOUT_SINCE: i16 = 1;
/// The first version in which a leader can be told not to assign (KIP-814).
const SKIP_ASSIGNMENT_SINCE: i16 = 9;

/// A `JoinGroup` under way.
struct Join<'a> {
    reply: ReplyTo,
    context: &'a RequestContext,
    request: JoinGroupRequest,
}

impl Join<'_> {
    fn names(&self) -> impl Iterator<Item = &Str> {
        self.request.protocols.iter().map(|p| &p.name)
    }

    /// What the member will keep: copies, so that it does not hold on to the frame of the request.
    fn protocols(&self) -> Vec<(Str, Bytes)> {
        let protocols = self.request.protocols.iter();
        protocols
            .map(|p| (owned_str(&p.name), owned_bytes(&p.metadata)))
            .collect()
    }

    fn rebalance_timeout_ms(&self) -> i32 {
        if self.reply.api_version < REBALANCE_TIMEOUT_SINCE || self.request.rebalance_timeout_ms < 0
        {
            self.request.session_timeout_ms
        } else {
            self.request.rebalance_timeout_ms
        }
    }

    fn client_id(&self) -> &str {
        self.context.client_id.as_deref().unwrap_or("")
    }
}

impl GroupCoordinator {
    /// Joins a group, which is made if it isn't there. The answer comes through [`super::GroupOutput::Respond`]: when
    /// the rebalance is complete, or at once if the member already is in the current generation.
    pub fn join(&mut self, now: Now, context: &RequestContext, request: JoinGroupRequest) {
        let reply = context.reply;
        let id = request.group_id.clone();
        let refusal = if id.is_empty() {
            Some(ErrorCode::INVALID_GROUP_ID)
        } else if request.session_timeout_ms < self.out.config.min_session_timeout_ms
            || request.session_timeout_ms > self.out.config.max_session_timeout_ms
        {
            Some(ErrorCode::INVALID_SESSION_TIMEOUT)
        } else if !self.groups.contains_key(&id) && !request.member_id.is_empty() {
            Some(ErrorCode::UNKNOWN_MEMBER_ID)
        } else if !self.groups.contains_key(&id)
            && (request.protocol_type.is_empty() || request.protocols.is_empty())
        {
            // Said here too, so that a refused request leaves no group behind.
            Some(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
        } else {
            None
        };
        if let Some(error) = refusal {
            return refuse_join(&mut self.out, reply, request.member_id, error);
        }
        self.group_or_new(now, &id);
        self.with_group(&id, |group, out| {
            let join = Join {
                reply,
                context,
                request,
            };
            if !has_room(group, &join.request, out.config.max_size) {
                remove_member(group, out, &join.request.member_id);
                refuse_join(out, reply, Str::new(), ErrorCode::GROUP_MAX_SIZE_REACHED);
            } else if !group.accepts_protocols(&join.request.protocol_type, join.names()) {
                let error = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
                refuse_join(out, reply, join.request.member_id, error);
            } else if join.request.member_id.is_empty() {
                join_without_id(group, out, now, join);
            } else {
                rejoin(group, out, now, join);
            }
            complete_if_all_joined(group, out, now);
        });
    }
}

/// `group.max.size`: whoever is in stays in; in a rebalance, whoever comes first. A static member that takes over its
/// own place needs no room (Kafka refuses it).
fn has_room(group: &Group, request: &JoinGroupRequest, max_size: i32) -> bool {
    let max_size = max_size.max(0) as usize;
    let instance = request.group_instance_id.as_ref();
    let replaced = instance
        .and_then(|i| group.static_member(i))
        .and_then(|id| group.member(id));
    let present = group.member(&request.member_id).or(replaced);
    match group.state() {
        GroupState::Empty | GroupState::Dead => true,
        GroupState::PreparingRebalance => {
            present.is_some_and(|m| m.awaiting_join.is_some()) || group.awaiting_join() < max_size
        }
        GroupState::CompletingRebalance | GroupState::Stable => {
            present.is_some() || group.members().len() < max_size
        }
    }
}

/// A client that has no member id: a new member, or a static one that was restarted.
fn join_without_id(group: &mut Group, out: &mut Outbox, now: Now, join: Join<'_>) {
    let instance_id = join.request.group_instance_id.clone();
    let prefix = instance_id.as_deref().unwrap_or_else(|| join.client_id());
    let id = loop {
        let id = out.new_member_id(prefix);
        if group.member(&id).is_none() && !group.pending_members.contains_key(&id) {
            break id;
        }
    };
    match instance_id
        .as_ref()
        .and_then(|i| group.static_member(i))
        .cloned()
    {
        Some(old) => replace_static(group, out, now, join, &old, id),
        None if instance_id.is_none() && join.reply.api_version >= MEMBER_ID_REQUIRED_SINCE => {
            let ends_us = now.after_ms(i64::from(join.request.session_timeout_ms));
            group.pending_members.insert(id.clone(), ends_us);
            refuse_join(out, join.reply, id, ErrorCode::MEMBER_ID_REQUIRED);
        }
        None => add(group, out, now, join, id),
    }
}

/// A client that has a member id.
fn rejoin(group: &mut Group, out: &mut Outbox, now: Now, join: Join<'_>) {
    let id = join.request.member_id.clone();
    if group.pending_members.contains_key(&id) {
        let id = owned_str(&id);
        return add(group, out, now, join, id);
    }
    if let Err(error) = group.check_member(&id, join.request.group_instance_id.as_ref()) {
        return refuse_join(out, join.reply, id, error);
    }
    let same = group.member(&id).is_some_and(|m| {
        let theirs = join
            .request
            .protocols
            .iter()
            .map(|p| (&p.name, &p.metadata));
        m.protocols
            .iter()
            .map(|(name, metadata)| (name, metadata))
            .eq(theirs)
    });
    match group.state() {
        // The answer was lost: say it again.
        GroupState::CompletingRebalance if same => answer_again(group, out, now, &join, &id),
        // A leader that rejoins wants a rebalance (its metadata of the topics changed, say).
        GroupState::Stable if same && !group.is_leader(&id) => {
            answer_again(group, out, now, &join, &id);
        }
        GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable => {
            park(group, out, now, &join, &id);
            prepare_or_complete(group, out, now);
        }
        GroupState::Empty | GroupState::Dead => {
            refuse_join(out, join.reply, id, ErrorCode::UNKNOWN_MEMBER_ID);
        }
    }
}

fn answer_again(group: &mut Group, out: &mut Outbox, now: Now, join: &Join<'_>, id: &Str) {
    if let Some(member) = group.member_mut(id) {
        member.heard_of(now);
    }
    let response = current_generation(group, id, join.reply.api_version);
    out.respond(join.reply, ottla_protocol::Response::JoinGroup(response));
}

/// A member that is new to the group.
fn add(group: &mut Group, out: &mut Outbox, now: Now, join: Join<'_>, id: Str) {
    if let Some(initial) = group.join_wait.as_mut().and_then(|w| w.initial.as_mut()) {
        initial.newcomers = true;
    }
    let member = Member {
        id,
        instance_id: join.request.group_instance_id.as_ref().map(owned_str),
        client_id: Str::from(join.client_id()),
        client_host: owned_str(&join.context.client_host),
        session_timeout_ms: join.request.session_timeout_ms,
        rebalance_timeout_ms: join.rebalance_timeout_ms(),
        protocols: join.protocols(),
        assignment: Bytes::new(),
        is_new: true,
        session_ends_us: now.after_ms(NEW_MEMBER_JOIN_TIMEOUT_MS),
        awaiting_join: Some(join.reply),
        awaiting_sync: None,
        joined: 0,
    };
    group.add(member, &owned_str(&join.request.protocol_type));
    prepare_or_complete(group, out, now);
}

/// Takes over what the request says about a known member, and parks the request.
fn park(group: &mut Group, out: &mut Outbox, now: Now, join: &Join<'_>, id: &Str) {
    group.set_protocols(id, join.protocols());
    if let Some(member) = group.member_mut(id) {
        member.session_timeout_ms = join.request.session_timeout_ms;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms();
        member.client_id = Str::from(join.client_id());
        member.client_host = owned_str(&join.context.client_host);
        if !member.is_new {
            member.heard_of(now);
        }
    }
    if let Some(before) = group.park_join(id, join.reply) {
        // The same member asked again, over a new connection: only its last request is waited for.
        refuse_join(out, before, id.clone(), ErrorCode::REBALANCE_IN_PROGRESS);
    }
}

/// A static member comes back under a new id. Whoever holds the old one is fenced. In a stable group there is no
/// rebalance if the vote for the protocol stays as it is: the new holder gets the old one's assignment.
fn replace_static(
    group: &mut Group,
    out: &mut Outbox,
    now: Now,
    join: Join<'_>,
    old: &Str,
    id: Str,
) {
    if let Some(parked) = group.take_join(old) {
        refuse_join(out, parked, old.clone(), ErrorCode::FENCED_INSTANCE_ID);
    }
    if let Some(parked) = group.member_mut(old).and_then(|m| m.awaiting_sync.take()) {
        super::rebalance::refuse_sync(out, parked, ErrorCode::FENCED_INSTANCE_ID);
    }
    let old_leader = group.leader.clone().unwrap_or_default();
    group.rename_static(old, &id);
    if let Some(member) = group.member_mut(&id) {
        // Unlike a new member it is not dropped from a rebalance that takes long.
        member.is_new = false;
    }
    park(group, out, now, &join, &id);
    match group.state() {
        GroupState::Stable if group.choose_protocol() == group.protocol => {
            group.take_join(&id);
            let response = replacement_answer(group, &id, old_leader, join.reply.api_version);
            group.persisted = true;
            let record = records::group_metadata(group, &records::assignments_of(group));
            let then = AfterCommit::AnswerReplacement {
                reply: join.reply,
                response,
            };
            out.write(group, alloc::vec![record], then);
        }
        // The leader may have been told of the old id already, and would assign to it.
        GroupState::Stable | GroupState::CompletingRebalance => prepare(group, out, now),
        GroupState::PreparingRebalance => complete_if_all_joined(group, out, now),
        GroupState::Empty | GroupState::Dead => {}
    }
}

/// The answer to a static member that took its place again without a rebalance. If it leads, it must not assign: from
/// v9 on it is told so, before that it is told that the old id leads.
fn replacement_answer(group: &Group, id: &Str, old_leader: Str, version: i16) -> JoinGroupResponse {
    let response = current_generation(group, id, version);
    if version < SKIP_ASSIGNMENT_SINCE {
        return JoinGroupResponse {
            leader: old_leader,
            members: Vec::new(),
            ..response
        };
    }
    let leads = group.is_leader(id);
    let members = if leads {
        member_metadata(group)
    } else {
        Vec::new()
    };
    JoinGroupResponse {
        skip_assignment: leads,
        members,
        ..response
    }
}
