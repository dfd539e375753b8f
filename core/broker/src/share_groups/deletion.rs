//! DeleteGroups for share groups, and what goes with a deleted topic.

use alloc::{collections::BTreeMap, vec::Vec};

use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::delete_groups::{DeletableGroupResult, DeleteGroupsResponse},
};
use ottla_record::Now;

use super::{
    ShareGroups, Then,
    group::{ShareGroup, ShareGroupState},
    records,
};
use crate::{
    context::ReplyTo,
    share_partitions::{SharePartitions, Ticket},
};

/// Deletions that are not through.
#[derive(Debug, Default)]
pub(super) struct DeletionsUnderWay {
    /// The state of this group's partitions is being deleted, for this request.
    states: BTreeMap<Ticket, (u64, Str)>,
    requests: BTreeMap<u64, Deletion>,
    /// The groups as they were: what can't be written is taken back.
    removed: BTreeMap<Str, ShareGroup>,
}

/// A `DeleteGroups` with share groups among its groups.
#[derive(Debug)]
struct Deletion {
    reply: ReplyTo,
    results: Vec<DeletableGroupResult>,
    groups_left: usize,
    /// The answer for the groups of other types, where there are any, is still to come.
    others_left: bool,
}

impl ShareGroups {
    /// Deletes share groups that have no members, with their state. With `others`, the request has groups of other types too:
    /// their answer must be handed to [`ShareGroups::merge_deletion`].
    pub fn delete<F>(
        &mut self,
        now: Now,
        reply: ReplyTo,
        ids: Vec<Str>,
        others: bool,
        partitions: &mut SharePartitions<F>,
    ) {
        self.next += 1;
        let number = self.next;
        let mut deletion = Deletion {
            reply,
            results: Vec::new(),
            groups_left: 0,
            others_left: others,
        };
        let mut tickets = Vec::new();
        for id in ids {
            let error_code = match self.groups.get(&id).map(|group| group.state()) {
                None => ErrorCode::GROUP_ID_NOT_FOUND,
                Some(ShareGroupState::Stable) => ErrorCode::NON_EMPTY_GROUP,
                Some(ShareGroupState::Empty) => {
                    let owned = Str::from(id.as_str());
                    if let Some(group) = self.groups.remove(&id) {
                        self.deletions.removed.insert(owned.clone(), group);
                    }
                    let ticket = partitions.open_ticket();
                    partitions.delete(now, Some(&id), None, Some(ticket));
                    self.deletions.states.insert(ticket, (number, owned));
                    tickets.push(ticket);
                    deletion.groups_left += 1;
                    ErrorCode::NONE
                }
            };
            deletion.results.push(DeletableGroupResult {
                group_id: id,
                error_code,
            });
        }
        self.deletions.requests.insert(number, deletion);
        self.answer_deletion(number);
        for ticket in tickets {
            partitions.close_ticket(ticket);
        }
    }

    /// The state of a group's partitions is gone; now the group itself.
    pub(super) fn deletion_state_written(&mut self, ticket: Ticket, result: Result<(), ErrorCode>) {
        let Some((number, group)) = self.deletions.states.remove(&ticket) else {
            return;
        };
        match result {
            Ok(()) => {
                if let Some(removed) = self.deletions.removed.get_mut(&group) {
                    removed.known.clear();
                }
                let tombstones = records::group_tombstones(&group).into();
                self.write(&group.clone(), tombstones, Then::Deleted(number, group));
            }
            Err(error) => self.deletion_written(number, &group, Err(error)),
        }
    }

    /// The group is gone, or it is still there: a deletion that could not be written is taken back, as Kafka's coordinator does, and the
    /// administrator may try again. State of partitions that was deleted before that stays deleted.
    pub(super) fn deletion_written(
        &mut self,
        number: u64,
        group: &Str,
        result: Result<(), ErrorCode>,
    ) {
        let removed = self.deletions.removed.remove(group);
        if result.is_err()
            && let Some(removed) = removed
        {
            // Somebody may have joined it meanwhile: then it is another one.
            self.groups.entry(group.clone()).or_insert(removed);
        }
        if let Some(deletion) = self.deletions.requests.get_mut(&number) {
            deletion.groups_left -= 1;
            if let Err(error) = result
                && let Some(row) = deletion
                    .results
                    .iter_mut()
                    .find(|row| row.group_id == *group)
            {
                row.error_code = error;
            }
            self.answer_deletion(number);
        }
    }

    /// An answer of the coordinator of the other groups, on its way out: held back if it is one half of a `DeleteGroups`.
    pub fn merge_deletion(&mut self, to: ReplyTo, response: Response) -> Option<Response> {
        let Response::DeleteGroups(others) = response else {
            return Some(response);
        };
        let mut under_way = self.deletions.requests.iter_mut();
        match under_way.find(|(_, d)| d.reply == to && d.others_left) {
            None => Some(Response::DeleteGroups(others)),
            Some((number, deletion)) => {
                let number = *number;
                deletion.others_left = false;
                deletion.results.extend(others.results);
                self.answer_deletion(number);
                None
            }
        }
    }

    fn answer_deletion(&mut self, number: u64) {
        let requests = &mut self.deletions.requests;
        if let Some(deletion) = requests.get(&number)
            && deletion.groups_left == 0
            && !deletion.others_left
            && let Some(deletion) = requests.remove(&number)
        {
            let response = DeleteGroupsResponse {
                results: deletion.results,
                ..Default::default()
            };
            self.respond(deletion.reply, Response::DeleteGroups(response));
        }
    }

    /// The topic is gone, and with it what groups know of it. Their members learn it with the next heartbeat.
    pub fn handle_topic_deleted(&mut self, id: Uuid) {
        let mut changed = Vec::new();
        for group in self.groups.values_mut() {
            if group.known.remove(&id).is_some() {
                changed.push((group.id.clone(), records::state_partitions(group)));
            }
        }
        for (group, record) in changed {
            self.write(&group, alloc::vec![record], Then::Nothing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        context::ConnId,
        share_groups::{ShareGroupOutput, group::Known},
        share_partitions::{ShareConfig, ShareOutput},
    };

    fn delete(
        groups: &mut ShareGroups,
        state: Result<(), ErrorCode>,
        group: Result<(), ErrorCode>,
    ) -> ErrorCode {
        let mut partitions = SharePartitions::<()>::new(&ShareConfig::default());
        let reply = ReplyTo {
            conn: ConnId(1),
            correlation_id: 1,
            api_version: 2,
        };
        let ids = alloc::vec!["g".into()];
        groups.delete(Now::new(0, 0), reply, ids, false, &mut partitions);
        while let Some(output) = partitions.poll_output() {
            if let ShareOutput::Done(ticket, _) = output {
                groups.state_written(ticket, state);
            }
        }
        let mut told = None;
        while let Some(output) = groups.poll_output() {
            match output {
                ShareGroupOutput::Append { token, .. } => groups.handle_appended(token, group),
                ShareGroupOutput::Respond {
                    response: Response::DeleteGroups(answer),
                    ..
                } => told = Some(answer.results[0].error_code),
                _ => {}
            }
        }
        told.expect("an answer")
    }

    #[test]
    fn a_deletion_that_can_not_be_written_leaves_the_group_there() {
        let mut groups = ShareGroups::default();
        let id = Str::from("g");
        let mut group = ShareGroup::new(id.clone());
        group.epoch = 5;
        let known = Known {
            name: "t".into(),
            partitions: [0].into(),
        };
        group.known.insert(Uuid([7; 16]), known);
        groups.groups.insert(id.clone(), group);
        let failed = Err(ErrorCode::NOT_ENOUGH_REPLICAS);
        // Nothing came of it: all is as it was.
        assert_eq!(
            delete(
                &mut groups,
                Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
                Ok(())
            ),
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        );
        assert_eq!(
            (groups.groups[&id].epoch, groups.groups[&id].known.len()),
            (5, 1)
        );
        // The state is gone, the group isn't.
        assert_eq!(
            delete(&mut groups, Ok(()), failed),
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        );
        assert_eq!(
            (groups.groups[&id].epoch, groups.groups[&id].known.len()),
            (5, 0)
        );
        assert_eq!(delete(&mut groups, Ok(()), Ok(())), ErrorCode::NONE);
        assert!(!groups.contains(&id));
        assert_eq!(
            delete(&mut groups, Ok(()), Ok(())),
            ErrorCode::GROUP_ID_NOT_FOUND
        );
    }
}
