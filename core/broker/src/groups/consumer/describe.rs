//! What `ConsumerGroupDescribe` shows.

use alloc::format;
use ottla_protocol::{
    ErrorCode, Str, Uuid,
    messages::consumer_group_describe::{
        Assignment, DescribedGroup, Member as DescribedMember, TopicPartitions,
    },
};

use super::{
    state::{ConsumerGroup, Member},
    target::assignor_of,
    topics::Topics,
};
use crate::groups::{GroupCoordinator, group::GroupState};

/// From this version on the answer tells the members' protocols.
const MEMBER_TYPE_SINCE: i16 = 1;
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

impl GroupCoordinator {
    /// One consumer group with its members.
    pub fn describe_consumer(&self, id: &Str, version: i16) -> DescribedGroup {
        let not_found = |message| DescribedGroup {
            error_code: ErrorCode::GROUP_ID_NOT_FOUND,
            error_message: Some(Str::from(message)),
            group_id: id.clone(),
            ..DescribedGroup::default()
        };
        if id.is_empty() {
            return DescribedGroup {
                error_code: ErrorCode::INVALID_GROUP_ID,
                error_message: Some(Str::from_static("A group's id is not empty.")),
                ..DescribedGroup::default()
            };
        }
        let group = match self.groups.get(id) {
            None => return not_found(&*format!("Group {id} not found.")),
            Some(group) => group,
        };
        let Some(consumer) = group.consumer.as_deref() else {
            return not_found(&*format!("Group {id} is not a consumer group."));
        };
        let config = &self.out.config.consumer;
        DescribedGroup {
            group_id: id.clone(),
            group_state: Str::from_static(GroupState::name(consumer.state())),
            group_epoch: consumer.epoch,
            assignment_epoch: consumer.assignment_epoch,
            assignor_name: Str::from_static(assignor_of(consumer, &config.assignors).name()),
            members: consumer
                .members()
                .map(|m| member(consumer, m, &self.out.topics, version))
                .collect(),
            ..DescribedGroup::default()
        }
    }
}

fn member(group: &ConsumerGroup, m: &Member, topics: &Topics, version: i16) -> DescribedMember {
    let current = m
        .assigned
        .iter()
        .map(|(topic, p)| (topic, p.keys().copied().collect()));
    let target = group.target.get(&m.id).into_iter().flatten();
    let target = target.map(|(topic, p)| (topic, p.iter().copied().collect()));
    DescribedMember {
        member_id: m.id.clone(),
        instance_id: m.instance_id.clone(),
        rack_id: m.rack_id.clone(),
        member_epoch: m.epoch,
        client_id: m.client_id.clone(),
        client_host: m.client_host.clone(),
        subscribed_topic_names: m.topics.iter().cloned().collect(),
        subscribed_topic_regex: Some(m.regex.clone()),
        assignment: assignment(topics, current),
        target_assignment: assignment(topics, target),
        member_type: match (version >= MEMBER_TYPE_SINCE, &m.classic) {
            (false, _) => -1,
            (true, Some(_)) => CLASSIC_MEMBER,
            (true, None) => CONSUMER_MEMBER,
        },
    }
}

/// Topics that are gone have no name to be shown by.
fn assignment<'a>(
    topics: &Topics,
    partitions: impl Iterator<Item = (&'a Uuid, alloc::vec::Vec<i32>)>,
) -> Assignment {
    Assignment {
        topic_partitions: partitions
            .filter_map(|(id, partitions)| {
                Some(TopicPartitions {
                    topic_id: *id,
                    topic_name: topics.name(id)?.clone(),
                    partitions,
                })
            })
            .collect(),
    }
}
