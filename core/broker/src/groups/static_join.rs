//! `JoinGroup` of a static member (KIP-345) that takes its place again under a new member id.

use alloc::{vec, vec::Vec};
use ottla_protocol::{ErrorCode, Str, messages::join_group::JoinGroupResponse};
use ottla_record::Now;

use super::{
    group::{Group, GroupState},
    join::{Join, park},
    outbox::{AfterCommit, Outbox},
    rebalance::{
        complete_if_all_joined, current_generation, member_metadata, prepare, refuse_join,
        refuse_sync,
    },
    records,
};

/// The first version in which a leader can be told not to assign (KIP-814).
const SKIP_ASSIGNMENT_SINCE: i16 = 9;

/// A static member comes back under a new id. Whoever holds the old one is fenced. In a stable group there is no
/// rebalance if the vote for the protocol stays as it is: the new holder gets the old one's assignment.
pub(super) fn replace_static(
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
        refuse_sync(out, parked, ErrorCode::FENCED_INSTANCE_ID);
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
            out.write(group, vec![record], then);
        }
        // The leader may have been told of the old id already, and would assign to it.
        GroupState::Stable | GroupState::CompletingRebalance => prepare(group, out, now),
        GroupState::PreparingRebalance => complete_if_all_joined(group, out, now),
        GroupState::Empty | GroupState::Dead | GroupState::Assigning | GroupState::Reconciling => {}
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

#[cfg(test)]
mod tests {
    use super::super::testing::{Harness, JOIN, config, join_request, protocols};
    use super::*;
    use bytes::Bytes;
    use ottla_protocol::messages::join_group::JoinGroupRequest;

    fn instance(group: &str, member: &Str, instance: &str) -> JoinGroupRequest {
        JoinGroupRequest {
            group_instance_id: Some(Str::from(instance)),
            ..join_request(group, member)
        }
    }

    #[test]
    fn a_static_member_takes_its_place_again_without_a_rebalance() {
        let mut h = Harness::new(config());
        let first = h.join_now(JOIN, instance("g", &Str::new(), "i"));
        assert_eq!(
            first.error_code,
            ErrorCode::NONE,
            "static members are not asked twice"
        );
        assert!(first.member_id.starts_with("i-"));
        let old = first.member_id;
        let sync = h.sync("g", 1, &old, &[(&old, "mine")]);
        assert!(h.synced(sync).is_some());

        h.hold = true;
        let join = h.join(JOIN, instance("g", &Str::new(), "i"));
        assert_eq!(h.joined(join), None, "it is written first");
        h.finish_appends();
        h.hold = false;
        let again = h.joined(join).unwrap();
        assert_eq!((again.generation_id, h.state("g")), (1, GroupState::Stable));
        assert_ne!(again.member_id, old);
        assert!(again.skip_assignment && again.leader == again.member_id);
        assert_eq!(again.members.len(), 1);
        let sync = h.sync("g", 1, &again.member_id, &[]);
        assert_eq!(
            h.synced(sync).unwrap().assignment,
            Bytes::from_static(b"mine")
        );

        let fenced = h.join_now(JOIN, instance("g", &old, "i"));
        assert_eq!(fenced.error_code, ErrorCode::FENCED_INSTANCE_ID);
        assert_eq!(h.heartbeat("g", 1, &old), ErrorCode::UNKNOWN_MEMBER_ID);

        // Before v9 the old id is said to lead, so that the new one does not assign.
        let v8 = h.join_now(8, instance("g", &Str::new(), "i"));
        assert_eq!(v8.leader, again.member_id);
        assert!(!v8.skip_assignment && v8.members.is_empty());

        h.restart();
        assert_eq!(
            h.heartbeat("g", 1, &v8.member_id),
            ErrorCode::NONE,
            "the log knows the new id"
        );
    }

    #[test]
    fn a_replacement_that_cannot_be_written_is_refused() {
        let mut h = Harness::new(config());
        let old = h.join_now(JOIN, instance("g", &Str::new(), "i")).member_id;
        h.sync("g", 1, &old, &[(&old, "mine")]);
        h.hold = true;
        let join = h.join(JOIN, instance("g", &Str::new(), "i"));
        h.finish_append(Err(ErrorCode::NOT_ENOUGH_REPLICAS));
        let error = h.joined(join).unwrap().error_code;
        assert_eq!(error, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    }

    #[test]
    fn the_requests_of_a_replaced_static_member_are_fenced() {
        let mut h = Harness::new(config());
        let (_, _) = h.stable("g", 1);
        let parked = h.join(JOIN, instance("g", &Str::new(), "i"));
        let again = h.join(JOIN, instance("g", &Str::new(), "i"));
        assert_eq!(
            h.joined(parked).unwrap().error_code,
            ErrorCode::FENCED_INSTANCE_ID
        );
        assert_eq!(h.joined(again), None);

        let mut h = Harness::new(config());
        let leader = h
            .join_now(JOIN, instance("h", &Str::new(), "leader"))
            .member_id;
        let other = h.join(JOIN, instance("h", &Str::new(), "other"));
        h.join(JOIN, instance("h", &leader, "leader"));
        let other = h.joined(other).unwrap();
        let sync = h.sync("h", other.generation_id, &other.member_id, &[]);
        let replaced = h.join(JOIN, instance("h", &Str::new(), "other"));
        assert_eq!(
            h.synced(sync).unwrap().error_code,
            ErrorCode::FENCED_INSTANCE_ID
        );
        assert_eq!(
            h.state("h"),
            GroupState::PreparingRebalance,
            "the leader knew the old id"
        );
        h.join(JOIN, instance("h", &leader, "leader"));
        assert_eq!(h.joined(replaced).unwrap().error_code, ErrorCode::NONE);
    }

    #[test]
    fn a_static_member_that_changes_the_vote_rebalances() {
        let mut h = Harness::new(config());
        let mut request = instance("g", &Str::new(), "i");
        request.protocols = protocols(&["range", "sticky"]);
        let old = h.join_now(JOIN, request.clone()).member_id;
        h.sync("g", 1, &old, &[]);
        request.protocols = protocols(&["sticky", "range"]);
        let again = h.join_now(JOIN, request);
        assert_eq!(
            (again.generation_id, again.protocol_name.as_deref()),
            (2, Some("sticky"))
        );
    }

    #[test]
    fn static_members_keep_their_place_through_a_rebalance() {
        let mut h = Harness::new(config());
        let mut absent = instance("g", &Str::new(), "absent");
        absent.session_timeout_ms = 600_000;
        let absent = h.join_now(JOIN, absent).member_id;
        h.sync("g", 1, &absent, &[]);
        let id = h.member_id("g");
        let join = h.join(JOIN, join_request("g", &id));
        h.advance(60_000);
        let answer = h.joined(join).unwrap();
        assert_eq!((&answer.leader, answer.members.len()), (&id, 2));
        assert_eq!(
            answer
                .members
                .iter()
                .filter(|m| m.member_id == absent)
                .count(),
            1
        );
    }
}
