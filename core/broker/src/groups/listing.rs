//! What `ListGroups` and `DescribeGroups` show.

use alloc::{collections::BTreeSet, string::String, vec::Vec};
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
    group::{CONSUMER, Group, GroupState},
};

/// The types of groups (`ListGroups` v5).
const CLASSIC: &str = "classic";
const CONSUMER_TYPE: &str = "consumer";
/// The first `DescribeGroups` version that says that a group isn't there; before, it is a dead one.
const NOT_FOUND_SINCE: i16 = 6;

impl GroupCoordinator {
    /// Groups of the states and types asked for (any case; no filter means all), by name.
    pub fn list(&self, request: &ListGroupsRequest) -> ListGroupsResponse {
        let types = NameFilter::of(&request.types_filter);
        let states = NameFilter::of(&request.states_filter);
        let is_asked = |g: &&Group| types.takes(type_of(g)) && states.takes(g.state().name());
        let groups: Vec<ListedGroup> = self
            .groups
            .values()
            .filter(is_asked)
            .map(|group| ListedGroup {
                group_id: group.id.clone(),
                protocol_type: match group.consumer {
                    Some(_) => Str::from_static(CONSUMER),
                    None => group.protocol_type.clone().unwrap_or_default(),
                },
                group_state: Str::from_static(group.state().name()),
                group_type: Str::from_static(type_of(group)),
            })
            .collect();
        ListGroupsResponse {
            groups,
            ..ListGroupsResponse::default()
        }
    }

    /// One classic group with its members. Metadata and protocol are shown of a stable group only.
    pub fn describe(&self, id: &Str, version: i16) -> DescribedGroup {
        let group = self.groups.get(id);
        let Some(group) = group.filter(|g| g.consumer.is_none()) else {
            let (error_code, error_message) = if version >= NOT_FOUND_SINCE {
                let message = Str::from(match group {
                    Some(_) => alloc::format!("Group {id} is not a classic group."),
                    None => alloc::format!("Group {id} not found."),
                });
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

/// Names that are asked for, in any case; none are all.
pub(crate) struct NameFilter(Option<BTreeSet<String>>);

impl NameFilter {
    pub(crate) fn of(names: &[Str]) -> Self {
        let lower = names.iter().map(|name| name.to_ascii_lowercase());
        Self((!names.is_empty()).then(|| lower.collect()))
    }

    pub(crate) fn takes(&self, name: &str) -> bool {
        let Self(names) = self;
        let lower = name.to_ascii_lowercase();
        names.as_ref().is_none_or(|names| names.contains(&lower))
    }
}

fn type_of(group: &Group) -> &'static str {
    if group.consumer.is_some() {
        CONSUMER_TYPE
    } else {
        CLASSIC
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Harness, JOIN, config, join_request, subscription};
    use super::*;

    #[test]
    fn lists_by_state_and_type() {
        let mut h = Harness::new(config());
        h.stable("a", 1);
        h.commit("b", -1, &Str::new(), "t", 1, "");
        let list = |h: &Harness, states: &[&str], types: &[&str]| {
            let request = ListGroupsRequest {
                states_filter: states.iter().map(|s| Str::from(*s)).collect(),
                types_filter: types.iter().map(|t| Str::from(*t)).collect(),
            };
            let groups = h.coordinator.list(&request).groups;
            groups
                .iter()
                .map(|g| g.group_id.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(list(&h, &[], &[]), ["a", "b"]);
        assert_eq!(list(&h, &["stable", "Dead"], &[]), ["a"]);
        assert_eq!(list(&h, &["Empty"], &["Classic"]), ["b"]);
        assert!(list(&h, &[], &["consumer"]).is_empty());
        assert!(list(&h, &["Nonsense"], &[]).is_empty());
        let groups = h.coordinator.list(&ListGroupsRequest::default()).groups;
        let shown = |i: usize| {
            let g: &ListedGroup = &groups[i];
            [&*g.protocol_type, &*g.group_state, &*g.group_type]
        };
        assert_eq!(shown(0), ["consumer", "Stable", "classic"]);
        assert_eq!(shown(1), ["", "Empty", "classic"]);
    }

    #[test]
    fn describes_members_of_a_stable_group() {
        let mut h = Harness::new(config());
        let (_, ids) = h.stable("g", 2);
        let group = h.coordinator.describe(&"g".into(), 6);
        assert_eq!(
            (&*group.group_state, &*group.protocol_data),
            ("Stable", "range")
        );
        assert_eq!(group.members.len(), 2);
        let member = &group.members[0];
        assert_eq!(
            (&*member.client_id, &*member.client_host),
            ("app", "/127.0.0.1")
        );
        assert_eq!(member.member_metadata, subscription("t"));
        assert_eq!(member.member_assignment, Bytes::from_static(b"mine"));
        h.join(JOIN, join_request("g", &ids[0]));
        let group = h.coordinator.describe(&"g".into(), 6);
        assert_eq!(
            (&*group.group_state, &*group.protocol_data),
            ("PreparingRebalance", "")
        );
        assert!(group.members[0].member_metadata.is_empty());
    }

    #[test]
    fn a_group_that_is_not_there() {
        let h = Harness::new(config());
        let old = h.coordinator.describe(&"g".into(), 5);
        assert_eq!(
            (old.error_code, &*old.group_state),
            (ErrorCode::NONE, "Dead")
        );
        let new = h.coordinator.describe(&"g".into(), 6);
        assert_eq!(
            (new.error_code, &*new.group_state),
            (ErrorCode::GROUP_ID_NOT_FOUND, "Dead")
        );
        assert!(new.error_message.is_some());
    }
}
