//! `Heartbeat`: a member is alive, and learns whether it must rejoin.

use ottla_protocol::{ErrorCode, HeartbeatRequest};
use ottla_record::Now;

use super::{GroupCoordinator, group::GroupState};

impl GroupCoordinator {
    /// Keeps the member's session. REBALANCE_IN_PROGRESS tells it to rejoin.
    pub fn heartbeat(&mut self, now: Now, request: &HeartbeatRequest) -> ErrorCode {
        if request.group_id.is_empty() {
            return ErrorCode::INVALID_GROUP_ID;
        }
        let Some(group) = self.groups.get_mut(&request.group_id) else {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        };
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
            GroupState::Empty | GroupState::Dead => ErrorCode::UNKNOWN_MEMBER_ID,
        }
    }
}
