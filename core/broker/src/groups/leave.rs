//! `LeaveGroup`: members go of their own will, or are removed by an administrator.

use alloc::vec::Vec;
use ottla_protocol::{
    ErrorCode, LeaveGroupRequest, LeaveGroupResponse, MemberResponse, Response, Str,
};
use ottla_record::Now;

use super::{
    GroupCoordinator,
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
                    errors = remove_all(group, out, now, &leaving);
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
                            ..MemberResponse::default()
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
