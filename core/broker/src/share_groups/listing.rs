//! What `ListGroups` and `ShareGroupDescribe` show of share groups.

use alloc::{collections::BTreeSet, format};

use ottla_protocol::{
    ErrorCode, Str, Uuid,
    messages::{
        list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup},
        share_group_describe::{
            Assignment as AssignmentShown, DescribedGroup, Member, TopicPartitions,
        },
    },
};

use super::{ShareGroups, assignor::Assignment};
use crate::groups::NameFilter;

const SHARE: &str = "share";

impl ShareGroups {
    /// Adds the share groups of the states and types asked for.
    pub fn list(&self, request: &ListGroupsRequest, response: &mut ListGroupsResponse) {
        if !NameFilter::of(&request.types_filter).takes(SHARE) {
            return;
        }
        let states = NameFilter::of(&request.states_filter);
        let groups = self
            .groups
            .values()
            .filter(|group| states.takes(group.state().name()));
        response.groups.extend(groups.map(|group| ListedGroup {
            group_id: group.id.clone(),
            protocol_type: Str::from_static(SHARE),
            group_state: Str::from_static(group.state().name()),
            group_type: Str::from_static(SHARE),
        }));
    }

    /// One group with its members. `name_of` gives a topic its name; topics that are gone are left out.
    pub fn describe(
        &self,
        id: &Str,
        other_type: bool,
        name_of: impl Fn(&Uuid) -> Option<Str>,
    ) -> DescribedGroup {
        let Some(group) = self.groups.get(id) else {
            let message = match other_type {
                true => format!("Group {id} is not a share group."),
                false => format!("Group {id} not found."),
            };
            return DescribedGroup {
                group_id: id.clone(),
                error_code: ErrorCode::GROUP_ID_NOT_FOUND,
                error_message: Some(message.into()),
                ..DescribedGroup::default()
            };
        };
        let shown = |assignment: &Assignment| AssignmentShown {
            topic_partitions: assignment
                .iter()
                .filter_map(|(topic_id, partitions)| {
                    Some(TopicPartitions {
                        topic_id: *topic_id,
                        topic_name: name_of(topic_id)?,
                        partitions: partitions.iter().copied().collect(),
                    })
                })
                .collect(),
        };
        let members = group.members.values().map(|m| Member {
            member_id: m.id.clone(),
            rack_id: m.rack_id.clone(),
            member_epoch: m.epoch,
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            subscribed_topic_names: m.topics.iter().cloned().collect(),
            assignment: shown(&m.assigned),
        });
        DescribedGroup {
            group_id: id.clone(),
            group_state: Str::from_static(group.state().name()),
            group_epoch: group.epoch,
            assignment_epoch: group.target_epoch,
            assignor_name: Str::from_static("simple"),
            members: members.collect(),
            ..DescribedGroup::default()
        }
    }

    /// Name, id and partitions of what a group has state of; `None` if it isn't there.
    pub fn known(&self, id: &Str) -> Option<impl Iterator<Item = (&Str, Uuid, &BTreeSet<i32>)>> {
        let group = self.groups.get(id)?;
        let known = group.known.iter();
        Some(known.map(|(id, known)| (&known.name, *id, &known.partitions)))
    }

    /// Whether a group knows of state of this partition.
    pub fn knows(&self, group: &Str, topic_id: &Uuid, partition: i32) -> bool {
        let group = self.groups.get(group);
        group
            .and_then(|group| group.known.get(topic_id))
            .is_some_and(|known| known.partitions.contains(&partition))
    }
}
