//! `LeaveGroup`: members go of their own will, or are removed by an administrator.

use alloc::vec::Vec;
use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse},
};
use ottla_record::Now;

use super::{
    GroupCoordinator, consumer,
    group::Group,
    outbox::Outbox,
    rebalance::{after_removal, complete_if_all_joined, remove_member},
};
use crate::context::RequestContext;

/// The first version with a list of members.
const MEMBERS_SINCE: i16 = 3;

impl GroupCoordinator {
    /// Removes members. The answer comes through [`super::GroupOutput::Respond`]: at once, unless the group is empty
    /// then; that is written, and the answer waits for it, so that a restart does not bring the member back.
    pub fn leave(&mut self, now: Now, context: &RequestContext, request: LeaveGroupRequest) {
        let reply = context.reply;
        let leaving: Vec<(Str, Option<Str>)> = if reply.api_version < MEMBERS_SINCE {
            alloc::vec![(request.member_id.clone(), None)]
        } else {
            let members = request.members.iter();
            members
                .map(|m| (m.member_id.clone(), m.group_instance_id.clone()))
                .collect()
        };
        let mark = self.out.mark();
        let mut response = LeaveGroupResponse::default();
        if request.group_id.is_empty() {
            response.error_code = ErrorCode::INVALID_GROUP_ID;
        } else {
            let known = self.groups.contains_key(&request.group_id);
            let mut errors: Vec<ErrorCode> = leaving
                .iter()
                .map(|_| ErrorCode::UNKNOWN_MEMBER_ID)
                .collect();
            if known {
                self.with_group(&request.group_id, |group, out| {
                    errors = if group.consumer.is_some() {
                        consumer::classic_leave(group, out, now, &leaving)
                    } else {
                        remove_all(group, out, now, &leaving)
                    };
                });
            }
            if reply.api_version < MEMBERS_SINCE {
                response.error_code = errors.first().copied().unwrap_or(ErrorCode::NONE);
            } else {
                response.members = leaving
                    .into_iter()
                    .zip(errors)
                    .map(
                        |((member_id, group_instance_id), error_code)| MemberResponse {
                            member_id,
                            group_instance_id,
                            error_code,
                        },
                    )
                    .collect();
            }
        }
        self.out
            .respond_after_writes(mark, reply, Response::LeaveGroup(response));
    }
}

fn remove_all(
    group: &mut Group,
    out: &mut Outbox,
    now: Now,
    leaving: &[(Str, Option<Str>)],
) -> Vec<ErrorCode> {
    let mut removed = false;
    let errors = leaving
        .iter()
        .map(|(id, instance_id)| {
            if group.pending_members.remove(id).is_some() {
                return ErrorCode::NONE;
            }
            // An administrator knows only the instance id.
            let holder = instance_id
                .as_ref()
                .and_then(|i| group.static_member(i))
                .cloned();
            let id = holder
                .filter(|_| id.is_empty())
                .unwrap_or_else(|| id.clone());
            match group.check_member(&id, instance_id.as_ref()) {
                Err(error) => error,
                Ok(()) => {
                    remove_member(group, out, &id);
                    removed = true;
                    ErrorCode::NONE
                }
            }
        })
        .collect();
    if removed {
        after_removal(group, out, now);
    } else {
        complete_if_all_joined(group, out, now);
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Harness, JOIN, config, join_request};
    use super::*;
    use crate::groups::group::GroupState;
    use ottla_protocol::messages::join_group::JoinGroupRequest;

    #[test]
    fn the_last_member_leaves_once_it_is_written() {
        let mut h = Harness::new(config());
        let (generation, ids) = h.stable("g", 1);
        h.hold = true;
        let leave = h.leave("g", &[(&ids[0], None)]);
        assert_eq!(h.state("g"), GroupState::Empty);
        assert_eq!(h.left(leave), None);
        h.finish_appends();
        let answer = h.left(leave).unwrap();
        assert_eq!(answer.members[0].error_code, ErrorCode::NONE);
        h.restart();
        assert_eq!(
            (h.state("g"), h.generation("g")),
            (GroupState::Empty, generation + 1)
        );
    }

    #[test]
    fn the_rest_rebalances() {
        let mut h = Harness::new(config());
        let (generation, ids) = h.stable("g", 3);
        let leave = h.leave("g", &[(&ids[0], None), (&Str::from("x"), None)]);
        let errors: Vec<_> = h
            .left(leave)
            .unwrap()
            .members
            .iter()
            .map(|m| m.error_code)
            .collect();
        assert_eq!(errors, [ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID]);
        assert_eq!(
            h.heartbeat("g", generation, &ids[1]),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        // The last one that is waited for leaves: that ends the wait.
        let join = h.join(JOIN, join_request("g", &ids[1]));
        h.leave("g", &[(&ids[2], None)]);
        assert_eq!(h.joined(join).unwrap().generation_id, generation + 1);
    }

    #[test]
    fn old_clients_are_told_at_the_top() {
        let mut h = Harness::new(config());
        let (_, ids) = h.stable("g", 1);
        for (group, id, error) in [
            ("", &ids[0], ErrorCode::INVALID_GROUP_ID),
            ("g", &Str::from("x"), ErrorCode::UNKNOWN_MEMBER_ID),
            ("other", &ids[0], ErrorCode::UNKNOWN_MEMBER_ID),
            ("g", &ids[0], ErrorCode::NONE),
        ] {
            let request = LeaveGroupRequest {
                group_id: Str::from(group),
                member_id: id.clone(),
                ..LeaveGroupRequest::default()
            };
            let leave = h.request(2, |c, now, context| c.leave(now, context, request));
            let answer = h.left(leave).unwrap();
            assert_eq!((answer.error_code, answer.members.len()), (error, 0));
        }
    }

    #[test]
    fn static_and_pending_members() {
        let mut h = Harness::new(config());
        let request = JoinGroupRequest {
            group_instance_id: Some(Str::from("i")),
            ..join_request("g", &Str::new())
        };
        let id = h.join_now(JOIN, request).member_id;
        let pending = h.member_id("g");
        let nobody = Str::new();
        let leave = h.leave(
            "g",
            &[
                (&pending, None),
                (&pending, Some("i")),
                (&nobody, Some("j")),
                (&nobody, Some("i")),
            ],
        );
        let errors: Vec<_> = h
            .left(leave)
            .unwrap()
            .members
            .iter()
            .map(|m| m.error_code)
            .collect();
        assert_eq!(
            errors,
            [
                ErrorCode::NONE,
                ErrorCode::FENCED_INSTANCE_ID,
                ErrorCode::UNKNOWN_MEMBER_ID,
                ErrorCode::NONE
            ]
        );
        assert_eq!(h.heartbeat("g", 1, &id), ErrorCode::UNKNOWN_MEMBER_ID);
        assert_eq!(h.state("g"), GroupState::Empty);
    }

    #[test]
    fn the_parked_request_of_a_member_that_leaves_is_answered() {
        let mut h = Harness::new(config());
        h.stable("g", 1);
        let id = h.member_id("g");
        let join = h.join(JOIN, join_request("g", &id));
        h.leave("g", &[(&id, None)]);
        assert_eq!(
            h.joined(join).unwrap().error_code,
            ErrorCode::UNKNOWN_MEMBER_ID
        );
    }
}
