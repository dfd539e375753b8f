//! What `ListGroups` and `DescribeGroups` show.

use alloc::vec::Vec;
use bytes::Bytes;
use ottla_protocol::{
    ErrorCode, Str,
    messages::{
        describe_groups::{DescribedGroup, DescribedGroupMember},
        list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup},
    },
};

use super::{
    GroupCoordinator,
    group::{Group, GroupState},
};

/// The type of all groups here (`ListGroups` v5).
const CLASSIC: &str = "classic";
/// The first `DescribeGroups` version that says that a group isn't there; before, it is a dead one.
const NOT_FOUND_SINCE: i16 = 6;

impl GroupCoordinator {
    /// Groups of the states and types asked for (any case; no filter means all), by name.
    pub fn list(&self, request: &ListGroupsRequest) -> ListGroupsResponse {
        let types = &request.types_filter;
        let states = &request.states_filter;
        let asked = |filter: &[Str], value: &str| {
            filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(value))
        };
        let mut groups = Vec::new();
        if asked(types, CLASSIC) {
            let of_state = |g: &&Group| asked(states, g.state().name());
            groups.extend(
                self.groups
                    .values()
                    .filter(of_state)
                    .map(|group| ListedGroup {
                        group_id: group.id.clone(),
                        protocol_type: group.protocol_type.clone().unwrap_or_default(),
                        group_state: Str::from_static(group.state().name()),
                        group_type: Str::from_static(CLASSIC),
                        ..ListedGroup::default()
                    }),
            );
        }
        ListGroupsResponse {
            groups,
            ..ListGroupsResponse::default()
        }
    }

    /// One group with its members. Metadata and protocol are shown of a stable group only.
    pub fn describe(&self, id: &Str, version: i16) -> DescribedGroup {
        let Some(group) = self.groups.get(id) else {
            let (error_code, error_message) = if version >= NOT_FOUND_SINCE {
                let message = Str::from(alloc::format!("Group {id} not found."));
                (ErrorCode::GROUP_ID_NOT_FOUND, Some(message))
            } else {
                (ErrorCode::NONE, None)
            };
            return DescribedGroup {
                group_id: id.clone(),
                error_code,
                error_message,
                group_state: Str::from_static(GroupState::Dead.name()),
                ..DescribedGroup::default()
            };
        };
        let protocol = group
            .protocol
            .clone()
            .filter(|_| group.state() == GroupState::Stable);
        let members = group
            .members()
            .map(|m| DescribedGroupMember {
                member_id: m.id.clone(),
                group_instance_id: m.instance_id.clone(),
                client_id: m.client_id.clone(),
                client_host: m.client_host.clone(),
                member_metadata: protocol
                    .as_deref()
                    .and_then(|name| m.metadata(name))
                    .cloned()
                    .unwrap_or_else(Bytes::new),
                member_assignment: m.assignment.clone(),
                ..DescribedGroupMember::default()
            })
            .collect();
        DescribedGroup {
            group_id: id.clone(),
            group_state: Str::from_static(group.state().name()),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            protocol_data: protocol.unwrap_or_default(),
            members,
            ..DescribedGroup::default()
        }
    }
}
