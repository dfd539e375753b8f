//! `Heartbeat`: a member is alive, and learns whether it must rejoin.

use ottla_protocol::{ErrorCode, messages::heartbeat::HeartbeatRequest};
use ottla_record::Now;

use super::{GroupCoordinator, consumer, group::GroupState};

impl GroupCoordinator {
    /// Keeps the member's session. REBALANCE_IN_PROGRESS tells it to rejoin.
    pub fn heartbeat(&mut self, now: Now, request: &HeartbeatRequest) -> ErrorCode {
        if request.group_id.is_empty() {
            return ErrorCode::INVALID_GROUP_ID;
        }
        let Some(group) = self.groups.get_mut(&request.group_id) else {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        };
        if group.consumer.is_some() {
            let mut error = ErrorCode::UNKNOWN_MEMBER_ID;
            self.with_group(&request.group_id, |group, out| {
                error = consumer::classic_heartbeat(group, out, now, request);
            });
            return error;
        }
        let instance_id = request.group_instance_id.as_ref();
        if let Err(error) = group.check_member(&request.member_id, instance_id) {
            return error;
        }
        if request.generation_id != group.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        // Sessions only ever move back here, so the group's timer need not be told.
        if let Some(member) = group.member_mut(&request.member_id) {
            member.heard_of(now);
        }
        match group.state() {
            GroupState::PreparingRebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            // Members may heartbeat as soon as they have their generation.
            GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::NONE,
            GroupState::Empty
            | GroupState::Dead
            | GroupState::Assigning
            | GroupState::Reconciling => ErrorCode::UNKNOWN_MEMBER_ID,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Harness, JOIN, config, join_request};
    use super::*;
    use ottla_protocol::Str;

    #[test]
    fn every_answer() {
        let mut h = Harness::new(config());
        let stranger = Str::from("x");
        assert_eq!(h.heartbeat("", 1, &stranger), ErrorCode::INVALID_GROUP_ID);
        assert_eq!(h.heartbeat("g", 1, &stranger), ErrorCode::UNKNOWN_MEMBER_ID);
        let pending = h.member_id("g");
        assert_eq!(h.heartbeat("g", 0, &pending), ErrorCode::UNKNOWN_MEMBER_ID);
        h.join_now(JOIN, join_request("g", &pending));
        assert_eq!(
            h.heartbeat("g", 1, &pending),
            ErrorCode::NONE,
            "CompletingRebalance"
        );
        assert_eq!(h.heartbeat("g", 0, &pending), ErrorCode::ILLEGAL_GENERATION);
        h.sync("g", 1, &pending, &[]);
        assert_eq!(h.heartbeat("g", 1, &pending), ErrorCode::NONE, "Stable");
        h.join(3, join_request("g", &Str::new()));
        assert_eq!(
            h.heartbeat("g", 1, &pending),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
    }

    #[test]
    fn silence_ends_the_session() {
        let mut h = Harness::new(config());
        let (generation, ids) = h.stable("g", 2);
        h.advance(9_000);
        assert_eq!(h.heartbeat("g", generation, &ids[1]), ErrorCode::NONE);
        h.advance(1_000);
        // The leader is out, and the other is to rejoin.
        assert_eq!(
            h.heartbeat("g", generation, &ids[0]),
            ErrorCode::UNKNOWN_MEMBER_ID
        );
        let rejoin = h.heartbeat("g", generation, &ids[1]);
        assert_eq!(rejoin, ErrorCode::REBALANCE_IN_PROGRESS);
        let answer = h.join_now(JOIN, join_request("g", &ids[1]));
        assert_eq!(
            (answer.generation_id, &answer.leader),
            (generation + 1, &ids[1])
        );
        h.advance(10_000);
        assert_eq!(h.state("g"), GroupState::Empty);
        h.restart();
        assert_eq!(
            h.generation("g"),
            generation + 2,
            "the empty group was written"
        );
    }
}
