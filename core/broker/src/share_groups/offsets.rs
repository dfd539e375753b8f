//! AlterShareGroupOffsets and DeleteShareGroupOffsets: where an empty group goes on reading.
//!
//! First the state of the partitions is written to `__share_group_state`, then what the group knows of it to
//! `__consumer_offsets`, then comes the answer.

use alloc::{format, vec::Vec};

use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::{
        alter_share_group_offsets::{
            AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse,
            AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
        },
        delete_share_group_offsets::{
            DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse,
            DeleteShareGroupOffsetsResponseTopic,
        },
    },
};
use ottla_record::Now;

use super::{
    ShareGroups, Then, fail,
    group::{ShareGroup, ShareGroupState, TopicSeen},
    records,
};
use crate::{
    context::ReplyTo,
    groups::CoordinatorRecord,
    share_partitions::{ShareKey, SharePartitions, Ticket},
};

/// A request whose state is being written.
#[derive(Debug)]
pub(super) struct OffsetsUnderWay {
    group: Str,
    records: Vec<CoordinatorRecord>,
    reply: ReplyTo,
    response: Response,
}

impl ShareGroups {
    fn must_be_empty(&self, group: &Str) -> Result<(), (ErrorCode, Option<Str>)> {
        match self.groups.get(group).map(ShareGroup::state) {
            Some(ShareGroupState::Empty) | None => Ok(()),
            Some(_) => Err((
                ErrorCode::NON_EMPTY_GROUP,
                Some(Str::from_static("The group is not empty.")),
            )),
        }
    }

    /// Lets an empty group, which is made if it isn't there, go on elsewhere.
    #[allow(clippy::too_many_arguments)] // the borrowed parts of the broker
    pub fn alter_offsets<F>(
        &mut self,
        now: Now,
        reply: ReplyTo,
        request: &AlterShareGroupOffsetsRequest,
        other_type: bool,
        partitions: &mut SharePartitions<F>,
        topic: &dyn Fn(&str) -> Option<TopicSeen>,
    ) {
        let mut response = AlterShareGroupOffsetsResponse::default();
        let refused = if request.group_id.is_empty() {
            Err((ErrorCode::INVALID_GROUP_ID, None))
        } else if other_type {
            Err(not_a_share_group(&request.group_id))
        } else {
            self.must_be_empty(&request.group_id)
        };
        if let Err((error_code, error_message)) = refused {
            response.error_code = error_code;
            response.error_message = error_message;
            return self.respond(reply, Response::AlterShareGroupOffsets(response));
        }
        let id = Str::from(request.group_id.as_str());
        let group = self
            .groups
            .entry(id.clone())
            .or_insert_with(|| ShareGroup::new(id.clone()));
        group.epoch = group.epoch.wrapping_add(1).max(1);
        let ticket = partitions.open_ticket();
        for asked in &request.topics {
            let found = topic(&asked.topic_name);
            let mut answers = Vec::with_capacity(asked.partitions.len());
            for p in &asked.partitions {
                let seen = found
                    .as_ref()
                    .filter(|t| (0..t.partitions).contains(&p.partition_index));
                let (error_code, error_message) = match seen {
                    None => (
                        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                        Some(Str::from_static(
                            "This server does not host this topic-partition.",
                        )),
                    ),
                    Some(_) if p.start_offset < 0 => (
                        ErrorCode::INVALID_REQUEST,
                        Some(Str::from_static("The start offset must not be negative.")),
                    ),
                    Some(seen) => {
                        let known = group.known.entry(seen.id).or_default();
                        known.name = Str::from(asked.topic_name.as_str());
                        known.partitions.insert(p.partition_index);
                        let key = ShareKey {
                            group: id.clone(),
                            topic_id: seen.id,
                            partition: p.partition_index,
                        };
                        partitions.set_start(now, key, group.epoch, p.start_offset, ticket);
                        (ErrorCode::NONE, None)
                    }
                };
                answers.push(AlterShareGroupOffsetsResponsePartition {
                    partition_index: p.partition_index,
                    error_code,
                    error_message,
                });
            }
            response
                .responses
                .push(AlterShareGroupOffsetsResponseTopic {
                    topic_name: asked.topic_name.clone(),
                    topic_id: found.map_or(Uuid::ZERO, |t| t.id),
                    partitions: answers,
                });
        }
        let records = alloc::vec![records::epoch(group), records::state_partitions(group)];
        let under_way = OffsetsUnderWay {
            group: id,
            records,
            reply,
            response: Response::AlterShareGroupOffsets(response),
        };
        self.offsets.insert(ticket, under_way);
        partitions.close_ticket(ticket);
    }

    /// An empty group forgets topics.
    pub fn delete_offsets<F>(
        &mut self,
        now: Now,
        reply: ReplyTo,
        request: &DeleteShareGroupOffsetsRequest,
        other_type: bool,
        partitions: &mut SharePartitions<F>,
        topic: &dyn Fn(&str) -> Option<TopicSeen>,
    ) {
        let mut response = DeleteShareGroupOffsetsResponse::default();
        let refused = if request.group_id.is_empty() {
            Err((ErrorCode::INVALID_GROUP_ID, None))
        } else if other_type {
            Err(not_a_share_group(&request.group_id))
        } else if !self.groups.contains_key(&request.group_id) {
            let message = format!("Group {} not found.", request.group_id);
            Err((ErrorCode::GROUP_ID_NOT_FOUND, Some(message.into())))
        } else {
            self.must_be_empty(&request.group_id)
        };
        let group = match refused {
            Ok(()) => self.groups.get_mut(&request.group_id),
            Err((error_code, error_message)) => {
                response.error_code = error_code;
                response.error_message = error_message;
                None
            }
        };
        let Some(group) = group else {
            return self.respond(reply, Response::DeleteShareGroupOffsets(response));
        };
        let id = group.id.clone();
        let ticket = partitions.open_ticket();
        let mut changed = false;
        for asked in &request.topics {
            let found = topic(&asked.topic_name);
            let error = match &found {
                None => Some("This server does not host this topic-partition."),
                Some(seen) if group.known.remove(&seen.id).is_none() => {
                    Some("There is no offset information to delete.")
                }
                Some(seen) => {
                    partitions.delete(now, Some(&id), Some(seen.id), Some(ticket));
                    changed = true;
                    None
                }
            };
            response
                .responses
                .push(DeleteShareGroupOffsetsResponseTopic {
                    topic_name: asked.topic_name.clone(),
                    topic_id: match error {
                        None => found.map_or(Uuid::ZERO, |t| t.id),
                        Some(_) => Uuid::ZERO,
                    },
                    error_code: match error {
                        None => ErrorCode::NONE,
                        Some(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    },
                    error_message: error.map(Str::from_static),
                });
        }
        let records = match changed {
            true => alloc::vec![records::state_partitions(group)],
            false => Vec::new(),
        };
        let under_way = OffsetsUnderWay {
            group: id,
            records,
            reply,
            response: Response::DeleteShareGroupOffsets(response),
        };
        self.offsets.insert(ticket, under_way);
        partitions.close_ticket(ticket);
    }

    /// The state that `ticket` stands for is written, or could not be.
    pub fn state_written(&mut self, ticket: Ticket, result: Result<(), ErrorCode>) {
        if let Some(mut under_way) = self.offsets.remove(&ticket) {
            if let Err(error) = result {
                fail(&mut under_way.response, error);
            }
            if under_way.records.is_empty() || result.is_err() {
                return self.respond(under_way.reply, under_way.response);
            }
            let then = Then::Respond(under_way.reply, under_way.response);
            return self.write(&under_way.group, under_way.records, then);
        }
        self.deletion_state_written(ticket, result);
    }
}

fn not_a_share_group(group: &str) -> (ErrorCode, Option<Str>) {
    let message = format!("Group {group} is not a share group.");
    (ErrorCode::GROUP_ID_NOT_FOUND, Some(message.into()))
}
