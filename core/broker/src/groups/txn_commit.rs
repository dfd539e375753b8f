//! `TxnOffsetCommit`: offsets that a transaction commits. They are written as part of it, wait beside the committed ones, and
//! take their place, or go, with the transaction's marker in their partition of `__consumer_offsets`.

use alloc::vec::Vec;
use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::txn_offset_commit::{
        TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
        TxnOffsetCommitResponseTopic,
    },
};
use ottla_record::Now;

use super::{
    GroupCoordinator,
    consumer::{MayCommit, may_commit},
    group::{Group, GroupState},
    offsets::CommittedOffset,
    outbox::{AfterCommit, commit_error, partition_of},
    owned::owned_str,
    records::{self, MAX_TEXT},
};
use crate::context::{ReplyTo, RequestContext};

/// The answer to a `TxnOffsetCommit` whose records are under way.
#[derive(Debug)]
pub(super) struct TxnCommitAnswer {
    reply: ReplyTo,
    response: TxnOffsetCommitResponse,
}

/// The answer with `error` for every partition.
pub(crate) fn refused(request: &TxnOffsetCommitRequest, error: ErrorCode) -> Response {
    let topics = request.topics.iter().map(|topic| {
        let partition = |p: i32| TxnOffsetCommitResponsePartition {
            partition_index: p,
            error_code: error,
        };
        TxnOffsetCommitResponseTopic {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|p| partition(p.partition_index))
                .collect(),
        }
    });
    Response::TxnOffsetCommit(TxnOffsetCommitResponse {
        topics: topics.collect(),
        ..Default::default()
    })
}

impl GroupCoordinator {
    /// The partition of `__consumer_offsets` that holds a group.
    pub(crate) fn partition_of(&self, group: &str) -> i32 {
        partition_of(group, self.out.config.partitions)
    }

    /// Writes offsets as part of a transaction, which the transaction coordinator has agreed to: of a member of the present
    /// generation (KIP-447), or of a client that names none. `check` tells why offsets of a partition can't be committed. The answer comes through [`super::GroupOutput::Respond`], once they
    /// are committed to the log; they count once the transaction is.
    pub(crate) fn commit_transactional(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &TxnOffsetCommitRequest,
        mut check: impl FnMut(&Str, i32) -> Result<(), ErrorCode>,
    ) {
        let reply = context.reply;
        let may = self.may_commit_transactional(request);
        let max_metadata =
            (self.out.config.offset_metadata_max_bytes.max(0) as usize).min(MAX_TEXT);
        let mut offsets = Vec::new();
        let mut response = TxnOffsetCommitResponse::default();
        for topic in &request.topics {
            let name = owned_str(&topic.name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for p in &topic.partitions {
                let metadata = p.committed_metadata.clone().unwrap_or_default();
                let error_code = if let Err(error) = check(&name, p.partition_index).and(may) {
                    error
                } else if metadata.len() > max_metadata {
                    ErrorCode::OFFSET_METADATA_TOO_LARGE
                } else {
                    let offset = CommittedOffset {
                        offset: p.committed_offset,
                        leader_epoch: p.committed_leader_epoch,
                        metadata: owned_str(&metadata),
                        commit_timestamp: now.wall_ms,
                        // As in Kafka, whose request names topics by name.
                        topic_id: Uuid::ZERO,
                        expire_timestamp: None,
                    };
                    offsets.push((name.clone(), p.partition_index, offset));
                    ErrorCode::NONE
                };
                partitions.push(TxnOffsetCommitResponsePartition {
                    partition_index: p.partition_index,
                    error_code,
                });
            }
            response.topics.push(TxnOffsetCommitResponseTopic {
                name: topic.name.clone(),
                partitions,
            });
        }
        if offsets.is_empty() {
            let response = Response::TxnOffsetCommit(response);
            return self.out.respond(reply, response);
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
            group.offsets.transactional_write_begins(topic, *partition);
        }
        let then = AfterCommit::CommitTransactional {
            producer_id: request.producer_id,
            offsets,
            answer: TxnCommitAnswer { reply, response },
        };
        let producer = (request.producer_id, request.producer_epoch);
        self.out.write_transactional(group, records, producer, then);
    }

    fn may_commit_transactional(&self, request: &TxnOffsetCommitRequest) -> Result<(), ErrorCode> {
        let generation = request.generation_id;
        if request.group_id.is_empty() || request.group_id.len() > MAX_TEXT {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        let Some(group) = self.groups.get(&request.group_id) else {
            return match generation < 0 {
                true => Ok(()),
                false => Err(ErrorCode::ILLEGAL_GENERATION),
            };
        };
        if generation < 0 && group.state() == GroupState::Empty {
            return Ok(());
        }
        let instance_id = request.group_instance_id.as_ref();
        // Versions below 3 don't say who commits, so that it can't be asked for.
        if generation >= 0 || !request.member_id.is_empty() || instance_id.is_some() {
            if let Some(consumer) = &group.consumer {
                let may = may_commit(consumer, i16::MAX, &request.member_id, generation);
                return match may {
                    Ok(MayCommit::Everything) => Ok(()),
                    // What clients of before KIP-848 know.
                    Ok(MayCommit::Since(..)) | Err(ErrorCode::STALE_MEMBER_EPOCH) => {
                        Err(ErrorCode::ILLEGAL_GENERATION)
                    }
                    Err(error) => Err(error),
                };
            }
            group.check_member(&request.member_id, instance_id)?;
            if generation != group.generation {
                return Err(ErrorCode::ILLEGAL_GENERATION);
            }
        }
        Ok(())
    }

    /// The records of a `TxnOffsetCommit` are committed, or are not going to be.
    pub(super) fn transactional_offsets_written(
        &mut self,
        id: &Str,
        incarnation: u64,
        producer_id: i64,
        offsets: Vec<(Str, i32, CommittedOffset)>,
        answer: TxnCommitAnswer,
        result: Result<(), ErrorCode>,
    ) {
        if let Some(group) = self.incarnation(id, incarnation) {
            for (topic, partition, offset) in offsets {
                group.offsets.transactional_write_ends(&topic, partition);
                if result.is_ok() {
                    group
                        .offsets
                        .add_pending(producer_id, &topic, partition, offset);
                }
            }
            if result.is_ok() {
                self.note_open(producer_id, id);
            }
        }
        let TxnCommitAnswer {
            reply,
            mut response,
        } = answer;
        if let Err(error) = result {
            for partition in response.topics.iter_mut().flat_map(|t| &mut t.partitions) {
                if partition.error_code == ErrorCode::NONE {
                    partition.error_code = commit_error(error);
                }
            }
        }
        self.out.respond(reply, Response::TxnOffsetCommit(response));
        self.forget_if_nothing(id);
    }

    /// A group has offsets of a producer's open transaction.
    pub(super) fn note_open(&mut self, producer_id: i64, group: &Str) {
        self.open_transactions
            .entry(producer_id)
            .or_default()
            .insert(group.clone());
    }

    /// The marker of a producer's transaction is committed in a partition of `__consumer_offsets`: the offsets of the groups in
    /// it are committed, or forgotten.
    pub(crate) fn complete_transaction(
        &mut self,
        partition: i32,
        producer_id: i64,
        committed: bool,
    ) {
        let partitions = self.out.config.partitions;
        let is_here = |id: &Str| partition_of(id, partitions) == partition;
        let Some(mut groups) = self.open_transactions.remove(&producer_id) else {
            return;
        };
        // Groups that are on their way out come back if their tombstones can't be written.
        let mut leaving = self.deletions.groups.values_mut();
        let mut leaving: Vec<&mut Group> = leaving.by_ref().filter(|g| is_here(&g.id)).collect();
        for group in &mut leaving {
            group.offsets.complete(producer_id, committed);
        }
        let here: Vec<Str> = groups.iter().filter(|id| is_here(id)).cloned().collect();
        for id in here {
            groups.remove(&id);
            if let Some(group) = self.groups.get_mut(&id) {
                group.offsets.complete(producer_id, committed);
            }
            self.forget_if_nothing(&id);
        }
        if !groups.is_empty() {
            self.open_transactions.insert(producer_id, groups);
        }
    }

    /// Whether a transaction that is open has an offset for the partition (`OffsetFetch` with `require_stable`).
    pub(crate) fn is_unstable(&self, group: &Str, topic: &str, partition: i32) -> bool {
        let group = self.groups.get(group);
        group.is_some_and(|g| g.offsets.is_unstable(topic, partition))
    }

    /// One record of a transactional batch of `__consumer_offsets`; only while the broker opens.
    pub(crate) fn replay_transactional(
        &mut self,
        producer_id: i64,
        key: &[u8],
        value: Option<&[u8]>,
    ) {
        match records::parse(key, value) {
            Some(records::GroupRecord::Offset {
                group,
                topic,
                partition,
                offset: Some(offset),
            }) => {
                let present = self.replayed_group(&group);
                present
                    .offsets
                    .add_pending(producer_id, &topic, partition, offset);
                self.note_open(producer_id, &group);
            }
            // Nothing else is written as part of a transaction.
            _ => self.replay(key, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Harness, config};
    use super::*;
    use alloc::vec;
    use ottla_protocol::messages::txn_offset_commit::{
        TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
    };

    const PRODUCER: i64 = 7;

    fn request(producer_id: i64, topic: &str, offset: i64) -> TxnOffsetCommitRequest {
        TxnOffsetCommitRequest {
            transactional_id: "x".into(),
            group_id: "g".into(),
            producer_id,
            producer_epoch: 0,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: topic.into(),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    committed_offset: offset,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        }
    }

    fn send(h: &mut Harness, request: &TxnOffsetCommitRequest) -> i32 {
        h.request(3, |c, now, context| {
            c.commit_transactional(now, context, request, |topic, _| match &**topic {
                "gone" => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                _ => Ok(()),
            });
        })
    }

    fn answered(h: &mut Harness, id: i32) -> Option<ErrorCode> {
        h.answer(id).map(|response| match response {
            Response::TxnOffsetCommit(r) => r.topics[0].partitions[0].error_code,
            other => panic!("{other:?}"),
        })
    }

    fn commit(h: &mut Harness, producer_id: i64, topic: &str, offset: i64) {
        let id = send(h, &request(producer_id, topic, offset));
        assert_eq!(answered(h, id), Some(ErrorCode::NONE));
    }

    fn unstable(h: &Harness, topic: &str) -> bool {
        h.coordinator.is_unstable(&"g".into(), topic, 0)
    }

    #[test]
    fn an_offset_counts_once_its_transaction_is_committed() {
        for restart in [false, true] {
            for committed in [true, false] {
                let mut h = Harness::new(config());
                h.commit("g", -1, &Str::new(), "t", 1, "");
                commit(&mut h, PRODUCER, "t", 2);
                commit(&mut h, PRODUCER + 1, "u", 5);
                if restart {
                    h.restart();
                }
                assert!(unstable(&h, "t"));
                assert_eq!(h.offset("g", "t"), Some(1));
                h.end_transaction("g", PRODUCER, committed);
                if restart {
                    h.restart();
                }
                assert!(!unstable(&h, "t") && unstable(&h, "u"));
                let expected = if committed { 2 } else { 1 };
                assert_eq!(h.offset("g", "t"), Some(expected));
                assert_eq!(h.offset("g", "u"), None);
            }
        }
    }

    #[test]
    fn the_later_record_wins() {
        let mut h = Harness::new(config());
        // A commit outside of transactions that comes after it, before the marker.
        commit(&mut h, PRODUCER, "t", 2);
        h.commit("g", -1, &Str::new(), "t", 3, "");
        h.end_transaction("g", PRODUCER, true);
        assert_eq!(h.offset("g", "t"), Some(3));
        // Two transactions that end in the other order.
        commit(&mut h, PRODUCER, "t", 4);
        commit(&mut h, PRODUCER + 1, "t", 5);
        h.end_transaction("g", PRODUCER + 1, true);
        assert_eq!(h.offset("g", "t"), Some(5));
        h.end_transaction("g", PRODUCER, true);
        assert_eq!(h.offset("g", "t"), Some(5));
        h.restart();
        assert_eq!(h.offset("g", "t"), Some(5));
        // The same transaction twice.
        commit(&mut h, PRODUCER, "t", 6);
        commit(&mut h, PRODUCER, "t", 7);
        h.end_transaction("g", PRODUCER, true);
        assert_eq!(h.offset("g", "t"), Some(7));
    }

    #[test]
    fn members_of_the_generation() {
        let mut h = Harness::new(config());
        let asked =
            |generation_id, member_id: &Str, instance: Option<&str>| TxnOffsetCommitRequest {
                generation_id,
                member_id: member_id.clone(),
                group_instance_id: instance.map(Into::into),
                ..request(PRODUCER, "t", 1)
            };
        let nobody = Str::new();
        let code = |h: &mut Harness, request: &TxnOffsetCommitRequest| {
            let id = send(h, request);
            answered(h, id).unwrap()
        };
        let illegal = ErrorCode::ILLEGAL_GENERATION;
        assert_eq!(code(&mut h, &asked(0, &nobody, None)), illegal);
        assert_eq!(code(&mut h, &asked(-1, &nobody, None)), ErrorCode::NONE);
        let (generation, ids) = h.stable("g", 1);
        assert_eq!(
            code(&mut h, &asked(generation, &ids[0], None)),
            ErrorCode::NONE
        );
        assert_eq!(code(&mut h, &asked(generation - 1, &ids[0], None)), illegal);
        let unknown = ErrorCode::UNKNOWN_MEMBER_ID;
        assert_eq!(code(&mut h, &asked(generation, &"x".into(), None)), unknown);
        assert_eq!(
            code(&mut h, &asked(generation, &ids[0], Some("i"))),
            unknown
        );
        // Clients from before KIP-447 say nothing.
        assert_eq!(code(&mut h, &asked(-1, &nobody, None)), ErrorCode::NONE);
        let missing = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        assert_eq!(code(&mut h, &request(PRODUCER, "gone", 1)), missing);
        let mut long = request(PRODUCER, "t", 1);
        long.topics[0].partitions[0].committed_metadata = Some("0123456789a".into());
        let too_large = ErrorCode::OFFSET_METADATA_TOO_LARGE;
        assert_eq!(code(&mut h, &long), too_large);
        let mut unnamed = request(PRODUCER, "t", 1);
        unnamed.group_id = Str::new();
        assert_eq!(code(&mut h, &unnamed), ErrorCode::INVALID_GROUP_ID);
    }

    #[test]
    fn unstable_from_the_write_on() {
        let mut h = Harness::new(config());
        h.hold = true;
        let id = send(&mut h, &request(PRODUCER, "t", 1));
        assert!(unstable(&h, "t"));
        h.finish_append(Err(ErrorCode::INVALID_PRODUCER_EPOCH));
        assert_eq!(
            answered(&mut h, id),
            Some(ErrorCode::INVALID_PRODUCER_EPOCH)
        );
        assert_eq!(h.state("g"), GroupState::Dead, "nothing is left of it");
    }

    #[test]
    fn what_only_an_aborted_transaction_held_is_forgotten() {
        let mut h = Harness::new(config());
        commit(&mut h, PRODUCER, "t", 1);
        assert_eq!(h.state("g"), GroupState::Empty);
        h.end_transaction("g", PRODUCER, false);
        assert_eq!(h.state("g"), GroupState::Dead);
    }

    #[test]
    fn nothing_expires_that_a_transaction_holds() {
        let mut h = Harness::new(config());
        h.commit("g", -1, &Str::new(), "t", 1, "");
        commit(&mut h, PRODUCER, "t", 2);
        commit(&mut h, PRODUCER, "u", 2);
        h.advance(30 * 24 * 3_600_000);
        assert_eq!(h.offset("g", "t"), Some(1));
        h.end_transaction("g", PRODUCER, true);
        assert_eq!((h.offset("g", "t"), h.offset("g", "u")), (Some(2), Some(2)));
        h.advance(3_600_000);
        assert_eq!(h.state("g"), GroupState::Dead, "commits of a month ago");
    }

    #[test]
    fn deletions_take_what_transactions_hold() {
        for restart in [false, true] {
            let mut h = Harness::new(config());
            commit(&mut h, PRODUCER, "t", 2);
            commit(&mut h, PRODUCER, "u", 2);
            h.request(0, |c, now, context| {
                c.handle_topic_deleted(now, &"u".into(), ottla_protocol::Uuid::ZERO);
                c.out
                    .respond(context.reply, Response::DeleteGroups(Default::default()));
            });
            assert!(!unstable(&h, "u") && unstable(&h, "t"));
            if restart {
                h.restart();
            }
            h.end_transaction("g", PRODUCER, true);
            assert_eq!((h.offset("g", "t"), h.offset("g", "u")), (Some(2), None));
            commit(&mut h, PRODUCER, "t", 3);
            let request = ottla_protocol::messages::delete_groups::DeleteGroupsRequest {
                groups_names: vec!["g".into()],
            };
            h.request(2, |c, _, context| c.delete(context, request));
            if restart {
                h.restart();
            }
            h.end_transaction("g", PRODUCER, true);
            assert_eq!(h.state("g"), GroupState::Dead);
        }
    }
}
