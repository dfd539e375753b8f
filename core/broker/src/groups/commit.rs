//! `OffsetCommit` and what `OffsetFetch` reads.

use alloc::{collections::BTreeMap, vec::Vec};
use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::offset_commit::{
        OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
        OffsetCommitResponsePartition, OffsetCommitResponseTopic,
    },
};
use ottla_record::Now;

use super::{
    GroupCoordinator,
    consumer::{MayCommit, may_commit, may_fetch},
    group::{Group, GroupState},
    offsets::CommittedOffset,
    outbox::{AfterCommit, commit_error},
    owned::owned_str,
    records::{self, MAX_TEXT},
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

/// From this version of OffsetCommit on a group that isn't there is told as such.
const WITH_GROUP_ID_NOT_FOUND: i16 = 9;

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
        let max_metadata =
            (self.out.config.offset_metadata_max_bytes.max(0) as usize).min(MAX_TEXT);
        let may = self.may_commit(request, reply.api_version);
        let (may, stale) = match may {
            Ok(may) => (Ok(()), may),
            Err(error) => (Err(error), MayCommit::Everything),
        };
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
                    let id = self.out.topics.by_name(&name).map(|t| t.id);
                    stale.check(id, p.partition_index)?;
                    if metadata.len() > max_metadata {
                        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
                    }
                    let name = kept_name.get_or_insert_with(|| owned_str(&name)).clone();
                    Ok((name, id.unwrap_or(Uuid::ZERO)))
                });
                if let Ok((name, topic_id)) = &checked {
                    let offset = CommittedOffset {
                        offset: p.committed_offset,
                        leader_epoch: p.committed_leader_epoch,
                        metadata: owned_str(&metadata),
                        commit_timestamp: now.wall_ms,
                        topic_id: *topic_id,
                        expire_timestamp,
                    };
                    offsets.push((name.clone(), p.partition_index, offset));
                }
                partitions.push(OffsetCommitResponsePartition {
                    partition_index: p.partition_index,
                    error_code: checked.err().unwrap_or(ErrorCode::NONE),
                });
            }
            response.topics.push(OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions,
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

    fn may_commit(
        &self,
        request: &OffsetCommitRequest,
        version: i16,
    ) -> Result<MayCommit, ErrorCode> {
        let generation = request.generation_id_or_member_epoch;
        if request.group_id.len() > MAX_TEXT {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        let Some(group) = self.groups.get(&request.group_id) else {
            return if generation < 0 {
                Ok(MayCommit::Everything)
            } else if version >= WITH_GROUP_ID_NOT_FOUND {
                Err(ErrorCode::GROUP_ID_NOT_FOUND)
            } else {
                Err(ErrorCode::ILLEGAL_GENERATION)
            };
        };
        if let Some(consumer) = &group.consumer {
            return may_commit(consumer, version, &request.member_id, generation);
        }
        let empty = group.state() == GroupState::Empty;
        if generation < 0 && empty {
            return Ok(MayCommit::Everything);
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
        Ok(MayCommit::Everything)
    }

    /// Whether offsets of the group may be fetched in the name of a member (`OffsetFetch` v9); who names none may.
    pub fn may_fetch(
        &self,
        group: &Str,
        member_id: Option<&Str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        match self.groups.get(group).and_then(|g| g.consumer.as_deref()) {
            Some(consumer) => may_fetch(consumer, member_id, epoch),
            None => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use super::super::testing::{Harness, JOIN, config, join_request};
    use super::*;

    fn error(h: &mut Harness, generation: i32, member: &Str, topic: &str) -> ErrorCode {
        let commit = h.commit("g", generation, member, topic, 1, "");
        h.committed(commit).expect("an answer at once")
    }

    #[test]
    fn a_client_without_a_group() {
        let mut h = Harness::new(config());
        let nobody = Str::new();
        assert_eq!(
            error(&mut h, 0, &nobody, "t"),
            ErrorCode::GROUP_ID_NOT_FOUND
        );
        assert_eq!(
            error(&mut h, -1, &nobody, "gone"),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );
        assert_eq!(
            h.state("g"),
            GroupState::Dead,
            "nothing to commit makes no group"
        );
        assert_eq!(error(&mut h, -1, &nobody, "t"), ErrorCode::NONE);
        assert_eq!(h.state("g"), GroupState::Empty);
        assert_eq!(h.offset("g", "t"), Some(1));
        // A member id makes no difference as long as there are no members (Kafka's consumers send their last one).
        assert_eq!(error(&mut h, -1, &Str::from("x"), "t"), ErrorCode::NONE);
        h.restart();
        assert_eq!(
            (h.offset("g", "t"), h.state("g")),
            (Some(1), GroupState::Empty)
        );
    }

    #[test]
    fn members_of_the_generation() {
        let mut h = Harness::new(config());
        let (generation, ids) = h.stable("g", 2);
        let nobody = Str::new();
        assert_eq!(error(&mut h, generation, &ids[0], "t"), ErrorCode::NONE);
        assert_eq!(
            error(&mut h, generation - 1, &ids[0], "t"),
            ErrorCode::ILLEGAL_GENERATION
        );
        assert_eq!(
            error(&mut h, -1, &ids[0], "t"),
            ErrorCode::ILLEGAL_GENERATION
        );
        assert_eq!(
            error(&mut h, generation, &"x".into(), "t"),
            ErrorCode::UNKNOWN_MEMBER_ID
        );
        assert_eq!(
            error(&mut h, -1, &nobody, "t"),
            ErrorCode::UNKNOWN_MEMBER_ID
        );
        // Members commit before they rejoin.
        let first = h.join(JOIN, join_request("g", &ids[0]));
        assert_eq!(h.state("g"), GroupState::PreparingRebalance);
        assert_eq!(error(&mut h, generation, &ids[1], "t"), ErrorCode::NONE);
        h.join(JOIN, join_request("g", &ids[1]));
        let next = h.joined(first).unwrap().generation_id;
        let rebalancing = ErrorCode::REBALANCE_IN_PROGRESS;
        assert_eq!(
            error(&mut h, next, &ids[1], "t"),
            rebalancing,
            "CompletingRebalance"
        );
    }

    #[test]
    fn a_commit_keeps_the_session() {
        let mut h = Harness::new(config());
        let (generation, ids) = h.stable("g", 1);
        for _ in 0..10 {
            h.advance(9_000);
            assert_eq!(error(&mut h, generation, &ids[0], "t"), ErrorCode::NONE);
        }
    }

    #[test]
    fn metadata_is_bounded() {
        let mut h = Harness::new(config());
        let nobody = Str::new();
        let fits = h.commit("g", -1, &nobody, "t", 1, "0123456789");
        assert_eq!(h.committed(fits), Some(ErrorCode::NONE));
        let too_long = h.commit("g", -1, &nobody, "t", 2, "0123456789a");
        assert_eq!(
            h.committed(too_long),
            Some(ErrorCode::OFFSET_METADATA_TOO_LARGE)
        );
        assert_eq!(h.offset("g", "t"), Some(1));
    }

    #[test]
    fn an_offset_is_readable_once_it_is_committed_to_the_log() {
        let mut h = Harness::new(config());
        h.hold = true;
        let nobody = Str::new();
        let first = h.commit("g", -1, &nobody, "t", 1, "");
        let second = h.commit("g", -1, &nobody, "t", 2, "");
        assert_eq!((h.committed(first), h.offset("g", "t")), (None, None));
        h.finish_append(Ok(()));
        assert_eq!(
            (h.committed(first), h.offset("g", "t")),
            (Some(ErrorCode::NONE), Some(1))
        );
        h.finish_append(Err(ErrorCode::MESSAGE_TOO_LARGE));
        assert_eq!(
            h.committed(second),
            Some(ErrorCode::INVALID_COMMIT_OFFSET_SIZE)
        );
        assert_eq!(h.offset("g", "t"), Some(1));
    }

    #[test]
    fn a_failed_first_commit_leaves_no_group() {
        let mut h = Harness::new(config());
        h.hold = true;
        let commit = h.commit("g", -1, &Str::new(), "t", 1, "");
        h.finish_append(Err(ErrorCode::NOT_ENOUGH_REPLICAS));
        assert_eq!(
            h.committed(commit),
            Some(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        );
        assert_eq!(h.state("g"), GroupState::Dead);
    }
}
