//! `JoinGroup`: a member enters a group, or comes back to it.

use alloc::vec::Vec;
use bytes::Bytes;
use ottla_protocol::{ErrorCode, Str, messages::join_group::JoinGroupRequest};
use ottla_record::Now;

use super::{
    GroupCoordinator, consumer,
    group::{Group, GroupState},
    member::{Member, NEW_MEMBER_JOIN_TIMEOUT_MS},
    outbox::Outbox,
    owned::{owned_bytes, owned_str},
    rebalance::{
        complete_if_all_joined, current_generation, prepare_or_complete, refuse_join, remove_member,
    },
    records::MAX_TEXT,
    static_join::replace_static,
};
use crate::context::{ReplyTo, RequestContext};

/// The first version whose dynamic members must ask for an id first (KIP-394).
const MEMBER_ID_REQUIRED_SINCE: i16 = 4;
/// The first version that has a rebalance timeout of its own.
const REBALANCE_TIMEOUT_SINCE: i16 = 1;
/// A `JoinGroup` under way.
pub(super) struct Join<'a> {
    pub reply: ReplyTo,
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
        } else if !can_be_stored(context, &request) {
            Some(ErrorCode::INVALID_REQUEST)
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
            let refusal = match group.state() {
                _ if group.consumer.is_none() => None,
                // Nobody is left of the consumer group: whoever comes makes it what it needs.
                GroupState::Empty if !request.member_id.is_empty() => {
                    Some(ErrorCode::UNKNOWN_MEMBER_ID)
                }
                GroupState::Empty
                    if request.protocol_type.is_empty() || request.protocols.is_empty() =>
                {
                    Some(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
                }
                GroupState::Empty => {
                    consumer::end_empty(group, out);
                    None
                }
                _ => return consumer::classic_join(group, out, now, context, &request),
            };
            if let Some(error) = refusal {
                return refuse_join(out, reply, request.member_id, error);
            }
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

/// Whether all of the member's text fits in a record, its id too, which is made of one of these and a UUID. Text that
/// came over a wire is only too long if it is at the limit there.
fn can_be_stored(context: &RequestContext, request: &JoinGroupRequest) -> bool {
    const DASH_AND_UUID: usize = 37;
    let prefixes = context.client_id.iter().chain(&request.group_instance_id);
    let names = request.protocols.iter().map(|p| &p.name);
    let others = [
        &request.group_id,
        &request.protocol_type,
        &context.client_host,
    ];
    prefixes
        .into_iter()
        .all(|text| text.len() + DASH_AND_UUID <= MAX_TEXT)
        && names.chain(others).all(|text| text.len() <= MAX_TEXT)
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
        GroupState::Empty | GroupState::Dead | GroupState::Assigning | GroupState::Reconciling => {
            true
        }
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
        GroupState::Empty | GroupState::Dead | GroupState::Assigning | GroupState::Reconciling => {
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
pub(super) fn park(group: &mut Group, out: &mut Outbox, now: Now, join: &Join<'_>, id: &Str) {
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

#[cfg(test)]
mod tests {
    use super::super::testing::{Harness, JOIN, config, join_request, protocols, subscription};
    use super::*;
    use crate::groups::GroupConfig;

    #[test]
    fn refusals() {
        let mut h = Harness::new(config());
        let nobody = Str::new();
        let error = |h: &mut Harness, r| h.join_now(JOIN, r).error_code;
        assert_eq!(
            error(&mut h, join_request("", &nobody)),
            ErrorCode::INVALID_GROUP_ID
        );
        for session_timeout_ms in [5_999, 1_800_001, -1] {
            let r = JoinGroupRequest {
                session_timeout_ms,
                ..join_request("g", &nobody)
            };
            assert_eq!(error(&mut h, r), ErrorCode::INVALID_SESSION_TIMEOUT);
        }
        let r = join_request("g", &Str::from("made up"));
        assert_eq!(error(&mut h, r), ErrorCode::UNKNOWN_MEMBER_ID);
        let r = JoinGroupRequest {
            protocols: Vec::new(),
            ..join_request("g", &nobody)
        };
        assert_eq!(error(&mut h, r), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        let r = JoinGroupRequest {
            protocol_type: nobody.clone(),
            ..join_request("g", &nobody)
        };
        assert_eq!(error(&mut h, r), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        assert_eq!(
            h.state("g"),
            GroupState::Dead,
            "a refused request makes no group"
        );

        h.stable("g", 1);
        let r = join_request("g", &Str::from("made up"));
        assert_eq!(error(&mut h, r), ErrorCode::UNKNOWN_MEMBER_ID);
        let r = JoinGroupRequest {
            protocol_type: "connect".into(),
            ..join_request("g", &nobody)
        };
        assert_eq!(error(&mut h, r), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        let r = JoinGroupRequest {
            protocols: protocols(&["x"]),
            ..join_request("g", &nobody)
        };
        assert_eq!(error(&mut h, r), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }

    #[test]
    fn text_that_no_record_can_hold_is_refused() {
        let mut h = Harness::new(config());
        let long = Str::from("x".repeat(MAX_TEXT + 1).as_str());
        let request = join_request(&long, &Str::new());
        assert_eq!(
            h.join_now(3, request).error_code,
            ErrorCode::INVALID_REQUEST
        );
        let group_instance_id = Some(Str::from("x".repeat(MAX_TEXT - 36).as_str()));
        let request = JoinGroupRequest {
            group_instance_id,
            ..join_request("g", &Str::new())
        };
        assert_eq!(
            h.join_now(JOIN, request).error_code,
            ErrorCode::INVALID_REQUEST
        );
        let group_instance_id = Some(Str::from("x".repeat(MAX_TEXT - 37).as_str()));
        let request = JoinGroupRequest {
            group_instance_id,
            ..join_request("g", &Str::new())
        };
        let id = h.join_now(JOIN, request).member_id;
        h.sync("g", 1, &id, &[(&id, "mine")]);
        h.restart();
        assert_eq!(h.heartbeat("g", 1, &id), ErrorCode::NONE);
    }

    #[test]
    fn error_answers_have_no_generation() {
        let mut h = Harness::new(config());
        for (version, name) in [(0, Some("")), (6, Some("")), (7, None)] {
            let answer = h.join_now(version, join_request("", &Str::new()));
            assert_eq!(answer.generation_id, -1);
            assert_eq!(answer.protocol_name.as_deref(), name);
        }
    }

    #[test]
    fn the_first_member_is_answered_at_once() {
        let mut h = Harness::new(config());
        let id = h.member_id("g");
        assert!(id.starts_with("app-"));
        assert_eq!(id.len(), "app-".len() + 36);
        let answer = h.join_now(JOIN, join_request("g", &id));
        assert_eq!(
            (answer.error_code, answer.generation_id),
            (ErrorCode::NONE, 1)
        );
        assert_eq!((&answer.leader, &answer.member_id), (&id, &id));
        assert_eq!(answer.protocol_type.as_deref(), Some("consumer"));
        assert_eq!(answer.protocol_name.as_deref(), Some("range"));
        assert_eq!(answer.members.len(), 1);
        assert_eq!(answer.members[0].metadata, subscription("t"));
        assert_eq!(h.state("g"), GroupState::CompletingRebalance);
    }

    #[test]
    fn old_clients_need_no_id() {
        for version in 0..4 {
            let mut h = Harness::new(config());
            let answer = h.join_now(version, join_request("g", &Str::new()));
            assert_eq!(answer.error_code, ErrorCode::NONE);
            assert!(!answer.member_id.is_empty());
            assert_eq!(answer.protocol_type, None);
        }
    }

    #[test]
    fn an_id_that_is_not_used_is_forgotten_with_its_group() {
        let mut h = Harness::new(config());
        let id = h.member_id("g");
        assert_eq!(h.state("g"), GroupState::Empty);
        h.advance(9_999);
        assert_eq!(h.state("g"), GroupState::Empty);
        h.advance(1);
        assert_eq!(h.state("g"), GroupState::Dead);
        let answer = h.join_now(JOIN, join_request("g", &id));
        assert_eq!(answer.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    }

    #[test]
    fn a_second_member_waits_for_the_first() {
        let mut h = Harness::new(config());
        let (generation, ids) = h.stable("g", 1);
        let second = h.member_id("g");
        let join = h.join(JOIN, join_request("g", &second));
        assert_eq!(h.joined(join), None);
        assert_eq!(h.state("g"), GroupState::PreparingRebalance);
        assert_eq!(
            h.heartbeat("g", generation, &ids[0]),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        let first = h.join_now(JOIN, join_request("g", &ids[0]));
        assert_eq!((first.generation_id, first.members.len()), (2, 2));
        let answer = h.joined(join).unwrap();
        assert_eq!((answer.generation_id, &answer.leader), (2, &ids[0]));
        assert!(
            answer.members.is_empty(),
            "only the leader sees the members"
        );
    }

    #[test]
    fn who_does_not_rejoin_in_time_is_out() {
        let mut h = Harness::new(config());
        let (_, ids) = h.stable("g", 2);
        let id = h.member_id("g");
        let join = h.join(JOIN, join_request("g", &id));
        let rejoin = h.join(JOIN, join_request("g", &ids[1]));
        // The leader heartbeats on, but does not rejoin.
        for _ in 0..11 {
            h.advance(5_000);
            assert_eq!(
                h.heartbeat("g", 2, &ids[0]),
                ErrorCode::REBALANCE_IN_PROGRESS
            );
        }
        assert_eq!(h.joined(join), None);
        h.advance(5_000);
        let new = h.joined(join).unwrap();
        assert_eq!(new.generation_id, 3);
        assert_eq!(new.leader, ids[1], "the first of those that came leads");
        assert_eq!(h.joined(rejoin).unwrap().members.len(), 2);
        assert_eq!(h.heartbeat("g", 3, &ids[0]), ErrorCode::UNKNOWN_MEMBER_ID);
    }

    #[test]
    fn a_pending_id_is_waited_for() {
        let mut h = Harness::new(config());
        let (_, ids) = h.stable("g", 1);
        let pending = h.member_id("g");
        let leader = h.join(JOIN, join_request("g", &ids[0]));
        assert_eq!(
            h.joined(leader),
            None,
            "the id that was handed out may still come"
        );
        let join = h.join_now(JOIN, join_request("g", &pending));
        assert_eq!(join.generation_id, 2);
        assert!(h.joined(leader).is_some());

        h.member_id("g");
        let leader = h.join(JOIN, join_request("g", &ids[0]));
        let other = h.join(JOIN, join_request("g", &pending));
        h.advance(10_000);
        assert!(h.joined(leader).is_some() && h.joined(other).is_some());
    }

    #[test]
    fn a_new_member_waits_no_longer_than_five_minutes() {
        let mut h = Harness::new(config());
        let (_, ids) = h.stable("g", 1);
        let slow = JoinGroupRequest {
            rebalance_timeout_ms: 900_000,
            ..join_request("g", &ids[0])
        };
        let first = h.join_now(JOIN, slow);
        let sync = h.sync("g", first.generation_id, &ids[0], &[]);
        assert!(h.synced(sync).is_some());
        let new = h.member_id("g");
        let join = h.join(JOIN, join_request("g", &new));
        for _ in 0..59 {
            h.advance(5_000);
            h.heartbeat("g", first.generation_id, &ids[0]);
        }
        assert_eq!(h.joined(join), None);
        h.advance(5_000);
        let answer = h.joined(join).unwrap();
        assert_eq!(answer.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
        assert!(answer.member_id.is_empty());
    }

    #[test]
    fn rejoining_with_the_same_metadata_repeats_the_answer() {
        let mut h = Harness::new(config());
        let (generation, ids) = h.stable("g", 2);
        let again = h.join_now(JOIN, join_request("g", &ids[1]));
        assert_eq!(
            (again.generation_id, h.state("g")),
            (generation, GroupState::Stable)
        );
        let r = JoinGroupRequest {
            protocols: protocols(&["range"]),
            ..join_request("g", &ids[1])
        };
        let changed = h.join(JOIN, r);
        assert_eq!(h.joined(changed), None);
        assert_eq!(h.state("g"), GroupState::PreparingRebalance);
        let leader = h.join_now(JOIN, join_request("g", &ids[0]));
        assert_eq!(leader.generation_id, generation + 1);
        // In CompletingRebalance the leader too gets its answer again, with the members.
        let leader = h.join_now(JOIN, join_request("g", &ids[0]));
        assert_eq!(
            (leader.generation_id, leader.members.len()),
            (generation + 1, 2)
        );
    }

    #[test]
    fn a_leader_that_rejoins_a_stable_group_rebalances_it() {
        let mut h = Harness::new(config());
        let (generation, ids) = h.stable("g", 1);
        let again = h.join_now(JOIN, join_request("g", &ids[0]));
        assert_eq!(again.generation_id, generation + 1);
    }

    #[test]
    fn a_member_that_asks_twice_is_answered_twice() {
        let mut h = Harness::new(config());
        let (_, ids) = h.stable("g", 2);
        let id = h.member_id("g");
        let first = h.join(JOIN, join_request("g", &id));
        let second = h.join(JOIN, join_request("g", &id));
        assert_eq!(
            h.joined(first).unwrap().error_code,
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        h.join(JOIN, join_request("g", &ids[0]));
        h.join(JOIN, join_request("g", &ids[1]));
        assert_eq!(h.joined(second).unwrap().error_code, ErrorCode::NONE);
    }

    #[test]
    fn votes_choose_the_protocol() {
        let mut h = Harness::new(config());
        let a = JoinGroupRequest {
            protocols: protocols(&["sticky", "range", "own"]),
            ..join_request("g", &Str::new())
        };
        let b = JoinGroupRequest {
            protocols: protocols(&["range", "sticky"]),
            ..join_request("g", &Str::new())
        };
        let first = h.join_now(3, a.clone());
        assert_eq!(first.protocol_name.as_deref(), Some("sticky"));
        let second = h.join(3, b.clone());
        h.join(
            3,
            JoinGroupRequest {
                member_id: first.member_id.clone(),
                ..a.clone()
            },
        );
        let second = h.joined(second).unwrap();
        assert_eq!(
            second.protocol_name.as_deref(),
            Some("sticky"),
            "the leader breaks the tie"
        );
        let third = h.join(3, b.clone());
        h.join(
            3,
            JoinGroupRequest {
                member_id: first.member_id,
                ..a
            },
        );
        h.join(
            3,
            JoinGroupRequest {
                member_id: second.member_id,
                ..b
            },
        );
        assert_eq!(
            h.joined(third).unwrap().protocol_name.as_deref(),
            Some("range")
        );
    }

    #[test]
    fn the_size_of_a_group_is_bounded() {
        let mut h = Harness::new(GroupConfig {
            max_size: 2,
            ..config()
        });
        let (generation, ids) = h.stable("g", 2);
        let answer = h.join_now(JOIN, join_request("g", &Str::new()));
        assert_eq!(answer.error_code, ErrorCode::GROUP_MAX_SIZE_REACHED);
        assert_eq!(h.heartbeat("g", generation, &ids[1]), ErrorCode::NONE);
        let again = h.join_now(JOIN, join_request("g", &ids[1]));
        assert_eq!(again.error_code, ErrorCode::NONE);
    }

    #[test]
    fn the_initial_delay_grows_with_newcomers() {
        let mut h = Harness::new(GroupConfig {
            initial_rebalance_delay_ms: 3_000,
            ..config()
        });
        let mut request = join_request("g", &Str::new());
        request.rebalance_timeout_ms = 8_000;
        let first = h.join(3, request.clone());
        h.advance(2_000);
        let second = h.join(3, request.clone());
        h.advance(1_000);
        assert_eq!(h.joined(first), None, "a newcomer puts it off by 3 s");
        let third = h.join(3, request);
        h.advance(3_000);
        assert_eq!(
            h.joined(first),
            None,
            "and another, by the 2 s that are left"
        );
        h.advance(2_000);
        for join in [first, second, third] {
            assert_eq!(h.joined(join).unwrap().generation_id, 1);
        }
    }

    #[test]
    fn the_initial_delay_ends_without_newcomers() {
        let mut h = Harness::new(GroupConfig {
            initial_rebalance_delay_ms: 3_000,
            ..config()
        });
        let join = h.join(3, join_request("g", &Str::new()));
        h.advance(2_999);
        assert_eq!(h.joined(join), None);
        h.advance(1);
        assert_eq!(h.joined(join).unwrap().generation_id, 1);
    }
}
