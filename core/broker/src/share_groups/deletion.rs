//! DeleteGroups for share groups, and what goes with a deleted topic.

use alloc::{collections::BTreeMap, vec::Vec};

use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::delete_groups::{DeletableGroupResult, DeleteGroupsResponse},
};
use ottla_record::Now;

use super::{ShareGroups, Then, group::ShareGroupState, records};
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
                    self.groups.remove(&id);
                    let ticket = partitions.open_ticket();
                    partitions.delete(now, Some(&id), None, Some(ticket));
                    let owned = Str::from(id.as_str());
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
                let tombstones = records::group_tombstones(&group).into();
                self.write(&group.clone(), tombstones, Then::Deleted(number, group));
            }
            Err(error) => self.deletion_written(number, &group, Err(error)),
        }
    }

    pub(super) fn deletion_written(
        &mut self,
        number: u64,
        group: &Str,
        result: Result<(), ErrorCode>,
    ) {
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
