//! `OffsetCommit` and what `OffsetFetch` reads.

use alloc::{collections::BTreeMap, vec::Vec};
use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::offset_commit::{
        OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
        OffsetCommitResponsePartition, OffsetCommitResponseTopic,
    },
};
use ottla_record::Now;

use super::{
    GroupCoordinator,
    group::{Group, GroupState},
    offsets::CommittedOffset,
    outbox::{AfterCommit, commit_error},
    owned::owned_str,
    records,
};
use crate::context::{ReplyTo, RequestContext};

/// The answer to an `OffsetCommit` whose records are under way: it says NONE for each partition that is being written.
#[derive(Debug)]
pub(super) struct CommitAnswer {
    reply: ReplyTo,
    response: OffsetCommitResponse,
}

impl CommitAnswer {
    /// All partitions that were fine so far get `error`.
    fn fail(mut self, error: ErrorCode) -> Self {
        for topic in &mut self.response.topics {
            for partition in &mut topic.partitions {
                if partition.error_code == ErrorCode::NONE {
                    partition.error_code = error;
                }
            }
        }
        self
    }
}

impl GroupCoordinator {
    /// Commits offsets: of a member of the current generation, or (generation -1) of a client that assigns itself, as
    /// long as the group has no members; that makes the group if it isn't there. `topic_name` tells the name of a topic
    /// with that partition, or why the partition can't be committed. The answer comes through
    /// [`super::GroupOutput::Respond`], once the offsets are committed to the log.
    pub fn commit(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &OffsetCommitRequest,
        mut topic_name: impl FnMut(&OffsetCommitRequestTopic, i32) -> Result<Str, ErrorCode>,
    ) {
        let reply = context.reply;
        let max_metadata = self.out.config.offset_metadata_max_bytes.max(0) as usize;
        let may = self.may_commit(request);
        let expire_timestamp = (request.retention_time_ms >= 0)
            .then(|| now.wall_ms.saturating_add(request.retention_time_ms));
        let mut offsets = Vec::new();
        let mut response = OffsetCommitResponse::default();
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            let mut kept_name: Option<Str> = None;
            for p in &topic.partitions {
                let metadata = p.committed_metadata.clone().unwrap_or_default();
                let checked = topic_name(topic, p.partition_index).and_then(|name| {
                    may?;
                    if metadata.len() > max_metadata {
                        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
                    }
                    Ok(kept_name.get_or_insert_with(|| owned_str(&name)).clone())
                });
                if let Ok(name) = &checked {
                    let offset = CommittedOffset {
                        offset: p.committed_offset,
                        leader_epoch: p.committed_leader_epoch,
                        metadata: owned_str(&metadata),
                        commit_timestamp: now.wall_ms,
                        expire_timestamp,
                    };
                    offsets.push((name.clone(), p.partition_index, offset));
                }
                partitions.push(OffsetCommitResponsePartition {
                    partition_index: p.partition_index,
                    error_code: checked.err().unwrap_or(ErrorCode::NONE),
                    ..OffsetCommitResponsePartition::default()
                });
            }
            response.topics.push(OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions,
                ..OffsetCommitResponseTopic::default()
            });
        }
        if let (Ok(()), Some(group)) = (may, self.groups.get_mut(&request.group_id))
            && matches!(
                group.state(),
                GroupState::Stable | GroupState::PreparingRebalance
            )
            && let Some(member) = group.member_mut(&request.member_id)
            && !member.is_new
        {
            // A member that commits is alive.
            member.heard_of(now);
        }
        if offsets.is_empty() {
            return self.out.respond(reply, Response::OffsetCommit(response));
        }
        self.group_or_new(now, &request.group_id);
        let Some(group) = self.groups.get_mut(&request.group_id) else {
            return;
        };
        let records = offsets
            .iter()
            .map(|(t, p, o)| records::offset(&group.id, t, *p, o))
            .collect();
        for (topic, partition, _) in &offsets {
            group.offsets.write_begins(topic, *partition);
        }
        let answer = CommitAnswer { reply, response };
        self.out.write(
            group,
            records,
            AfterCommit::CommitOffsets { offsets, answer },
        );
    }

    fn may_commit(&self, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        let generation = request.generation_id_or_member_epoch;
        let Some(group) = self.groups.get(&request.group_id) else {
            return if generation < 0 {
                Ok(())
            } else {
                Err(ErrorCode::ILLEGAL_GENERATION)
            };
        };
        let empty = group.state() == GroupState::Empty;
        if generation < 0 && empty {
            return Ok(());
        }
        let instance_id = request.group_instance_id.as_ref();
        if generation >= 0 || !request.member_id.is_empty() || instance_id.is_some() {
            group.check_member(&request.member_id, instance_id)?;
            if generation != group.generation {
                return Err(ErrorCode::ILLEGAL_GENERATION);
            }
        } else if !empty {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if group.state() == GroupState::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// What the group committed for a partition.
    pub fn committed(&self, group: &Str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.groups.get(group)?.offsets.get(topic, partition)
    }

    /// All that the group committed, by topic and partition.
    pub fn all_committed(
        &self,
        group: &Str,
    ) -> impl Iterator<Item = (&Str, &BTreeMap<i32, CommittedOffset>)> {
        self.groups
            .get(group)
            .into_iter()
            .flat_map(|g| g.offsets.iter())
    }
}

/// The records of an `OffsetCommit` are committed, or are not going to be.
pub(super) fn offsets_written(
    group: Option<&mut Group>,
    offsets: Vec<(Str, i32, CommittedOffset)>,
    answer: CommitAnswer,
    result: Result<(), ErrorCode>,
) -> (ReplyTo, Response) {
    if let Some(group) = group {
        for (topic, partition, offset) in offsets {
            group.offsets.write_ends(&topic, partition);
            if result.is_ok() {
                group.offsets.set(&topic, partition, offset);
            }
        }
    }
    let answer = match result {
        Ok(()) => answer,
        Err(error) => answer.fail(commit_error(error)),
    };
    (answer.reply, Response::OffsetCommit(answer.response))
}
