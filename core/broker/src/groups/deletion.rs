//! `DeleteGroups`, `OffsetDelete`, and what goes with a deleted topic: all that ends in tombstones on request.

use alloc::{collections::BTreeMap, vec::Vec};
use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::{
        delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse},
        offset_delete::{
            OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
            OffsetDeleteResponseTopic,
        },
    },
};
use ottla_record::Now;

use super::{
    GroupCoordinator,
    group::{CONSUMER, Group, GroupState},
    outbox::{AfterCommit, membership_error},
    records,
};
use crate::context::{ReplyTo, RequestContext};

/// The answer to an `OffsetDelete` whose tombstones are under way.
#[derive(Debug)]
pub(super) struct OffsetDeleteAnswer {
    reply: ReplyTo,
    response: OffsetDeleteResponse,
}

/// Deletions whose tombstones are under way.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    /// By incarnation. Nobody sees these groups any more, but older commits still end in them.
    pub groups: BTreeMap<u64, Group>,
    /// The `DeleteGroups` requests; one may write to several partitions.
    requests: BTreeMap<u64, DeleteGroupsUnderWay>,
    next: u64,
}

#[derive(Debug)]
struct DeleteGroupsUnderWay {
    reply: ReplyTo,
    response: DeleteGroupsResponse,
    writes_left: usize,
}

impl GroupCoordinator {
    /// Deletes groups that have no members, with their offsets. The answer comes through
    /// [`super::GroupOutput::Respond`], once all tombstones are committed.
    pub fn delete(&mut self, context: &RequestContext, request: DeleteGroupsRequest) {
        let number = self.deletions.next;
        self.deletions.next += 1;
        let mut response = DeleteGroupsResponse::default();
        let mut writes_left = 0;
        for id in request.groups_names {
            let error_code = match self.groups.get(&id).map(Group::state) {
                None | Some(GroupState::Dead) => ErrorCode::GROUP_ID_NOT_FOUND,
                Some(GroupState::Empty) => {
                    self.begin_deletion(&id, Some(number));
                    writes_left += 1;
                    ErrorCode::NONE
                }
                Some(_) => ErrorCode::NON_EMPTY_GROUP,
            };
            response.results.push(DeletableGroupResult {
                group_id: id,
                error_code,
            });
        }
        if writes_left == 0 {
            return self
                .out
                .respond(context.reply, Response::DeleteGroups(response));
        }
        let under_way = DeleteGroupsUnderWay {
            reply: context.reply,
            response,
            writes_left,
        };
        self.deletions.requests.insert(number, under_way);
    }

    /// Takes an empty group out of memory and writes tombstones for all of it, also for what is still being written.
    pub(super) fn begin_deletion(&mut self, id: &Str, request: Option<u64>) {
        let Some(group) = self.forget(id) else { return };
        let mut tombstones: Vec<_> = group
            .offsets
            .keys()
            .iter()
            .map(|(topic, partition)| records::offset_tombstone(id, topic, *partition))
            .collect();
        match &group.consumer {
            Some(consumer) => {
                let keys = super::consumer::records::all_keys(consumer);
                tombstones.extend(super::consumer::records::tombstones(id, &keys));
            }
            None => tombstones.push(records::group_tombstone(id)),
        }
        let (id, incarnation) = (group.id.clone(), group.incarnation);
        self.deletions.groups.insert(incarnation, group);
        self.out.write_for(
            id,
            incarnation,
            tombstones,
            AfterCommit::DeleteGroup { request },
        );
    }

    /// The tombstones of a group are committed, or are not going to be: then it is there again, with what a group that
    /// was made in its place did not overwrite.
    pub(super) fn deletion_written(
        &mut self,
        id: &Str,
        incarnation: u64,
        request: Option<u64>,
        result: Result<(), ErrorCode>,
    ) {
        let group = self.deletions.groups.remove(&incarnation);
        if let (Some(mut group), Err(_)) = (group, result) {
            for producer_id in group.offsets.pending_producers() {
                let groups = self.open_transactions.entry(producer_id).or_default();
                groups.insert(id.clone());
            }
            match self.groups.get_mut(id) {
                None => {
                    self.groups.insert(id.clone(), group);
                }
                Some(present) => {
                    for (topic, partitions) in group.offsets.iter() {
                        for (partition, offset) in partitions {
                            if present.offsets.get(topic, *partition).is_none() {
                                present.offsets.set(topic, *partition, offset.clone());
                            }
                        }
                    }
                    present.offsets.adopt_pending(&mut group.offsets);
                    present.persisted |= group.persisted;
                }
            }
        }
        let Some(number) = request else { return };
        let Some(under_way) = self.deletions.requests.get_mut(&number) else {
            return;
        };
        if let Err(error) = result {
            let mut results = under_way.response.results.iter_mut();
            if let Some(r) = results.find(|r| r.group_id == *id && r.error_code == ErrorCode::NONE)
            {
                r.error_code = membership_error(error);
            }
        }
        under_way.writes_left -= 1;
        if under_way.writes_left == 0
            && let Some(done) = self.deletions.requests.remove(&number)
        {
            self.out
                .respond(done.reply, Response::DeleteGroups(done.response));
        }
    }

    /// Deletes committed offsets of a group. `topic_exists` tells whether a partition is there. The answer comes
    /// through [`super::GroupOutput::Respond`], once the tombstones are committed.
    pub fn delete_offsets(
        &mut self,
        context: &RequestContext,
        request: OffsetDeleteRequest,
        mut topic_exists: impl FnMut(&Str, i32) -> bool,
    ) {
        let reply = context.reply;
        let mut response = OffsetDeleteResponse::default();
        let group = match self.groups.get_mut(&request.group_id) {
            _ if request.group_id.is_empty() => Err(ErrorCode::INVALID_GROUP_ID),
            None => Err(ErrorCode::GROUP_ID_NOT_FOUND),
            Some(g) if g.state() == GroupState::Empty => Ok(g),
            Some(g) if g.consumer.is_some() => Ok(g),
            Some(g) if g.protocol_type.as_deref() == Some(CONSUMER) => Ok(g),
            Some(_) => Err(ErrorCode::NON_EMPTY_GROUP),
        };
        let group = match group {
            Ok(group) => group,
            Err(error) => {
                response.error_code = error;
                return self.out.respond(reply, Response::OffsetDelete(response));
            }
        };
        let mut keys = Vec::new();
        for topic in request.topics {
            // An empty group subscribes to nothing.
            let subscribed = group.state() != GroupState::Empty && group.is_subscribed(&topic.name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for p in &topic.partitions {
                let partition = p.partition_index;
                let error_code = if !topic_exists(&topic.name, partition) {
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                } else if subscribed {
                    ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC
                } else {
                    if group.offsets.get(&topic.name, partition).is_some()
                        || group.offsets.is_under_way(&topic.name, partition)
                        || group.offsets.is_pending(&topic.name, partition)
                    {
                        keys.push((super::owned::owned_str(&topic.name), partition));
                    }
                    ErrorCode::NONE
                };
                partitions.push(OffsetDeleteResponsePartition {
                    partition_index: partition,
                    error_code,
                });
            }
            response.topics.push(OffsetDeleteResponseTopic {
                name: topic.name,
                partitions,
            });
        }
        if keys.is_empty() {
            return self.out.respond(reply, Response::OffsetDelete(response));
        }
        let tombstones = tombstones(group, &keys);
        let answer = Some(OffsetDeleteAnswer { reply, response });
        self.out.write(
            group,
            tombstones,
            AfterCommit::DeleteOffsets { keys, answer },
        );
    }

    /// The topic is gone: its committed offsets go too. Memory forgets them at once, since a topic of the same name may
    /// come tomorrow; and again with the commit of the tombstones, before which older commits may still arrive.
    pub fn handle_topic_deleted(&mut self, _now: Now, name: &Str, _id: Uuid) {
        self.out.topics.remove(name);
        self.topics_changed();
        for group in self.groups.values_mut() {
            let keys = group.offsets.keys_of(name);
            if keys.is_empty() {
                continue;
            }
            for (topic, partition) in &keys {
                group.offsets.remove(topic, *partition);
            }
            let tombstones = tombstones(group, &keys);
            self.out.write(
                group,
                tombstones,
                AfterCommit::DeleteOffsets { keys, answer: None },
            );
        }
    }
}

pub(super) fn tombstones(group: &Group, keys: &[(Str, i32)]) -> Vec<super::CoordinatorRecord> {
    keys.iter()
        .map(|(t, p)| records::offset_tombstone(&group.id, t, *p))
        .collect()
}

/// The tombstones of some offsets are committed, or are not going to be.
pub(super) fn offset_tombstones_written(
    group: Option<&mut Group>,
    keys: Vec<(Str, i32)>,
    answer: Option<OffsetDeleteAnswer>,
    result: Result<(), ErrorCode>,
) -> Option<(ReplyTo, Response)> {
    if let (Some(group), Ok(())) = (group, result) {
        for (topic, partition) in &keys {
            group.offsets.remove(topic, *partition);
        }
    }
    let mut answer = answer?;
    if let Err(error) = result {
        answer.response = OffsetDeleteResponse {
            error_code: membership_error(error),
            ..Default::default()
        };
    }
    Some((answer.reply, Response::OffsetDelete(answer.response)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Harness, config};
    use super::*;
    use alloc::vec;
    use ottla_protocol::messages::offset_delete::{
        OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
    };

    fn delete(h: &mut Harness, groups: &[&str]) -> i32 {
        let groups_names = groups.iter().map(|g| Str::from(*g)).collect();
        let request = DeleteGroupsRequest { groups_names };
        h.request(2, |c, _, context| c.delete(context, request))
    }

    fn deleted(h: &mut Harness, id: i32) -> Option<Vec<ErrorCode>> {
        h.answer(id).map(|response| match response {
            Response::DeleteGroups(r) => r.results.iter().map(|r| r.error_code).collect(),
            other => panic!("{other:?}"),
        })
    }

    fn commit(h: &mut Harness, group: &str, topic: &str, offset: i64) -> i32 {
        h.commit(group, -1, &Str::new(), topic, offset, "")
    }

    fn delete_offset(h: &mut Harness, group: &str, topic: &str) -> i32 {
        let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }];
        let request = OffsetDeleteRequest {
            group_id: group.into(),
            topics: vec![OffsetDeleteRequestTopic {
                name: topic.into(),
                partitions,
            }],
        };
        h.request(0, |c, _, context| {
            c.delete_offsets(context, request, |topic, _| *topic != "gone");
        })
    }

    /// The error at the top and that of the partition.
    fn offset_deleted(h: &mut Harness, id: i32) -> (ErrorCode, Option<ErrorCode>) {
        match h.answer(id) {
            Some(Response::OffsetDelete(r)) => (
                r.error_code,
                r.topics.first().map(|t| t.partitions[0].error_code),
            ),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn groups_of_every_kind() {
        let mut h = Harness::new(config());
        let (_, ids) = h.stable("members", 1);
        commit(&mut h, "offsets", "t", 1);
        let answer = delete(&mut h, &["members", "offsets", "nobody"]);
        let expected = [
            ErrorCode::NON_EMPTY_GROUP,
            ErrorCode::NONE,
            ErrorCode::GROUP_ID_NOT_FOUND,
        ];
        assert_eq!(deleted(&mut h, answer).unwrap(), expected);
        h.leave("members", &[(&ids[0], None)]);
        let answer = delete(&mut h, &["members", "members"]);
        let expected = [ErrorCode::NONE, ErrorCode::GROUP_ID_NOT_FOUND];
        assert_eq!(deleted(&mut h, answer).unwrap(), expected);
        h.restart();
        for group in ["members", "offsets"] {
            assert_eq!(h.state(group), GroupState::Dead);
        }
        assert_eq!(h.offset("offsets", "t"), None);
    }

    #[test]
    fn answered_when_all_tombstones_are_committed() {
        let mut h = Harness::new(config());
        commit(&mut h, "a", "t", 1);
        commit(&mut h, "b", "t", 1);
        h.hold = true;
        let answer = delete(&mut h, &["a", "b"]);
        assert_eq!(
            h.state("a"),
            GroupState::Dead,
            "nobody may join it any more"
        );
        h.finish_append(Ok(()));
        assert_eq!(deleted(&mut h, answer), None);
        h.finish_append(Err(ErrorCode::NOT_ENOUGH_REPLICAS));
        let expected = [ErrorCode::NONE, ErrorCode::COORDINATOR_NOT_AVAILABLE];
        assert_eq!(deleted(&mut h, answer).unwrap(), expected);
        assert_eq!(
            (h.offset("a", "t"), h.offset("b", "t")),
            (None, Some(1)),
            "b is back"
        );
    }

    #[test]
    fn a_commit_under_way_goes_with_its_group() {
        for result in [Ok(()), Err(ErrorCode::NOT_ENOUGH_REPLICAS)] {
            let mut h = Harness::new(config());
            h.hold = true;
            let before = commit(&mut h, "g", "t", 1);
            let answer = delete(&mut h, &["g"]);
            let after = commit(&mut h, "g", "u", 2);
            h.finish_append(Ok(()));
            assert_eq!(h.committed(before), Some(ErrorCode::NONE));
            h.finish_append(result);
            assert!(deleted(&mut h, answer).is_some());
            h.finish_append(Ok(()));
            assert_eq!(h.committed(after), Some(ErrorCode::NONE));
            let kept = result.err().map(|_| 1);
            assert_eq!((h.offset("g", "t"), h.offset("g", "u")), (kept, Some(2)));
            h.restart();
            assert_eq!((h.offset("g", "t"), h.offset("g", "u")), (kept, Some(2)));
        }
    }

    #[test]
    fn offsets_of_a_group() {
        let mut h = Harness::new(config());
        let missing = delete_offset(&mut h, "g", "t");
        let not_found = (ErrorCode::GROUP_ID_NOT_FOUND, None);
        assert_eq!(offset_deleted(&mut h, missing), not_found);
        commit(&mut h, "g", "other", 1);
        let (generation, ids) = h.stable("g", 1);
        h.commit("g", generation, &ids[0], "t", 1, "");
        for (topic, error) in [
            ("t", ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC),
            ("gone", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ("never", ErrorCode::NONE),
            ("other", ErrorCode::NONE),
        ] {
            let answer = delete_offset(&mut h, "g", topic);
            assert_eq!(
                offset_deleted(&mut h, answer),
                (ErrorCode::NONE, Some(error)),
                "{topic}"
            );
        }
        assert_eq!(
            (h.offset("g", "other"), h.offset("g", "t")),
            (None, Some(1))
        );
        h.leave("g", &[(&ids[0], None)]);
        let answer = delete_offset(&mut h, "g", "t");
        assert_eq!(
            offset_deleted(&mut h, answer),
            (ErrorCode::NONE, Some(ErrorCode::NONE))
        );
        h.restart();
        assert_eq!((h.offset("g", "other"), h.offset("g", "t")), (None, None));
    }

    #[test]
    fn offsets_that_cannot_be_deleted_stay() {
        let mut h = Harness::new(config());
        commit(&mut h, "g", "t", 1);
        h.hold = true;
        let answer = delete_offset(&mut h, "g", "t");
        h.finish_append(Err(ErrorCode::KAFKA_STORAGE_ERROR));
        assert_eq!(
            offset_deleted(&mut h, answer),
            (ErrorCode::NOT_COORDINATOR, None)
        );
        assert_eq!(h.offset("g", "t"), Some(1));
    }

    #[test]
    fn offsets_of_a_deleted_topic_go() {
        let mut h = Harness::new(config());
        commit(&mut h, "a", "t", 1);
        commit(&mut h, "a", "u", 1);
        h.hold = true;
        let under_way = commit(&mut h, "b", "t", 1);
        h.request(0, |c, now, context| {
            c.handle_topic_deleted(now, &Str::from("t"), Uuid::ZERO);
            c.out
                .respond(context.reply, Response::DeleteGroups(Default::default()));
        });
        assert_eq!(
            h.offset("a", "t"),
            None,
            "a topic of this name may come at once"
        );
        let again = commit(&mut h, "a", "t", 2);
        h.finish_appends();
        assert!(h.committed(under_way).is_some() && h.committed(again).is_some());
        let offsets = |h: &Harness| [h.offset("a", "t"), h.offset("a", "u"), h.offset("b", "t")];
        assert_eq!(offsets(&h), [Some(2), Some(1), None]);
        h.restart();
        assert_eq!(offsets(&h), [Some(2), Some(1), None]);
    }
}
