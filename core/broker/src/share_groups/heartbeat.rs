//! ShareGroupHeartbeat: a member enters, stays and leaves, and learns what it is assigned.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::share_group_heartbeat::{
        Assignment as AssignmentAnswer, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse,
        TopicPartitions,
    },
};
use ottla_record::Now;

use super::{
    ShareGroupOutput, ShareGroups, Then,
    assignor::{self, Assignment},
    group::{ShareGroup, ShareMember, TopicSeen, metadata_hash},
    records,
};
use crate::{context::RequestContext, groups::CoordinatorRecord, share_partitions::ShareConfig};

const JOIN_EPOCH: i32 = 0;
const LEAVE_EPOCH: i32 = -1;

/// Longest text that a record key can hold, in bytes.
const MAX_TEXT: usize = i16::MAX as usize;

type Refusal = (ErrorCode, String);

impl ShareGroups {
    /// A heartbeat. `topic` knows the topics that exist. The answer comes through [`ShareGroupOutput::Respond`], once what it
    /// tells of is committed.
    pub fn heartbeat(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &ShareGroupHeartbeatRequest,
        config: &ShareConfig,
        other_type: bool,
        topic: &dyn Fn(&str) -> Option<TopicSeen>,
    ) {
        let answer = match check(request) {
            Err(refusal) => Err(refusal),
            Ok(()) if request.member_epoch == LEAVE_EPOCH => {
                self.leave(context, request, other_type)
            }
            Ok(()) => self.stay(now, context, request, config, other_type, topic),
        };
        if let Err((error_code, message)) = answer {
            let response = ShareGroupHeartbeatResponse {
                error_code,
                error_message: Some(message.into()),
                ..Default::default()
            };
            self.respond(context.reply, Response::ShareGroupHeartbeat(response));
        }
    }

    fn leave(
        &mut self,
        context: &RequestContext,
        request: &ShareGroupHeartbeatRequest,
        other_type: bool,
    ) -> Result<(), Refusal> {
        let group = match self.groups.get_mut(&request.group_id) {
            Some(group) => group,
            None => return Err(not_found(&request.group_id, other_type)),
        };
        if !group.members.contains_key(&request.member_id) {
            return Err(unknown_member(&request.member_id, &request.group_id));
        }
        let records = remove_members(group, core::slice::from_ref(&request.member_id));
        let response = Response::ShareGroupHeartbeat(ShareGroupHeartbeatResponse {
            member_id: Some(request.member_id.clone()),
            member_epoch: LEAVE_EPOCH,
            ..Default::default()
        });
        let id = group.id.clone();
        self.write(&id, records, Then::Respond(context.reply, response));
        Ok(())
    }

    fn stay(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: &ShareGroupHeartbeatRequest,
        config: &ShareConfig,
        other_type: bool,
        topic: &dyn Fn(&str) -> Option<TopicSeen>,
    ) -> Result<(), Refusal> {
        let joins = request.member_epoch == JOIN_EPOCH;
        let settings = self.settings_of(&request.group_id, config);
        if !self.groups.contains_key(&request.group_id) {
            if other_type || !joins {
                return Err(not_found(&request.group_id, other_type));
            }
            let id = Str::from(request.group_id.as_str());
            self.groups.insert(id.clone(), ShareGroup::new(id));
        }
        let Some(group) = self.groups.get_mut(&request.group_id) else {
            return Err(not_found(&request.group_id, other_type));
        };
        let known = group.members.get(&request.member_id);
        if joins && known.is_none() && group.members.len() >= config.max_size.max(0) as usize {
            return Err((
                ErrorCode::GROUP_MAX_SIZE_REACHED,
                format!(
                    "The share group has reached its maximum capacity of {} members.",
                    config.max_size
                ),
            ));
        }
        let before = match known {
            Some(member) => {
                check_epoch(member, request.member_epoch)?;
                member.clone()
            }
            None if joins => ShareMember::new(Str::from(request.member_id.as_str())),
            None => return Err(unknown_member(&request.member_id, &request.group_id)),
        };
        let is_new = known.is_none();

        let mut records: Vec<CoordinatorRecord> = Vec::new();
        let mut member = before.clone();
        if let Some(rack_id) = &request.rack_id {
            member.rack_id = Some(Str::from(rack_id.as_str()));
        }
        if let Some(names) = &request.subscribed_topic_names {
            member.topics = names.iter().map(|name| Str::from(name.as_str())).collect();
        }
        let client_id = context.client_id.as_ref().map_or("", Str::as_str);
        member.client_id = Str::from(client_id);
        member.client_host = Str::from(context.client_host.as_str());
        member.session_ends_us = now.after_ms(settings.session_timeout_ms.into());
        let subscription_changed = is_new || member.topics != before.topics;
        if is_new || !same_metadata(&member, &before) {
            records.push(records::member(&group.id, &member));
        }
        group.members.insert(member.id.clone(), member.clone());

        let topics = group.subscribed(topic);
        let hash = metadata_hash(&topics);
        if subscription_changed || hash != group.metadata_hash {
            group.epoch = group.epoch.wrapping_add(1).max(1);
            group.metadata_hash = hash;
            records.push(records::epoch(group));
        }
        let mut begun: Vec<(Uuid, Vec<i32>)> = Vec::new();
        if group.epoch != group.target_epoch {
            begun = know(group, &topics);
            if !begun.is_empty() {
                records.push(records::state_partitions(group));
            }
            retarget(group, &topics, now.wall_ms, &mut records);
        }

        if member.epoch != group.target_epoch {
            member.previous_epoch = member.epoch;
            member.epoch = group.target_epoch;
            member.assigned = group.target.get(&member.id).cloned().unwrap_or_default();
            records.push(records::current_member(&group.id, &member));
            group.members.insert(member.id.clone(), member.clone());
        }
        let tells =
            joins || member.assigned != before.assigned || request.member_epoch != before.epoch;
        let response = Response::ShareGroupHeartbeat(ShareGroupHeartbeatResponse {
            member_id: Some(member.id.clone()),
            member_epoch: member.epoch,
            heartbeat_interval_ms: settings.heartbeat_interval_ms,
            assignment: tells.then(|| answered(&member.assigned)),
            ..Default::default()
        });
        let (id, epoch) = (group.id.clone(), group.epoch);
        for (topic_id, partitions) in begun {
            self.outputs.push_back(ShareGroupOutput::Initialize {
                group: id.clone(),
                topic_id,
                partitions,
                state_epoch: epoch,
            });
        }
        self.arm(&id);
        if records.is_empty() && !self.unwritten.contains_key(&id) {
            self.respond_after_writes(&id, context.reply, response);
        } else {
            self.write(&id, records, Then::Respond(context.reply, response));
        }
        Ok(())
    }

    /// Sessions that have ended.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now.mono_us
            && let Some((_, id)) = self.timers.pop_first()
        {
            let Some(group) = self.groups.get_mut(&id) else {
                continue;
            };
            group.timer_us = None;
            let over = group.overdue(now.mono_us);
            if !over.is_empty() {
                let records = remove_members(group, &over);
                self.write(&id, records, Then::Nothing);
            }
            self.arm(&id);
        }
    }

    /// Sees to a group's timer. One that is too early is left: it looks again when it ends.
    pub(super) fn arm(&mut self, id: &Str) {
        if let Some(group) = self.groups.get_mut(id)
            && let Some(due) = group.next_due_us()
            && group.timer_us.is_none_or(|timer| due < timer)
        {
            if let Some(timer) = group.timer_us.replace(due) {
                self.timers.remove(&(timer, group.id.clone()));
            }
            self.timers.insert((due, group.id.clone()));
        }
    }
}

fn check(request: &ShareGroupHeartbeatRequest) -> Result<(), Refusal> {
    let blank = |text: &str| text.trim().is_empty();
    let why = if blank(&request.member_id) {
        "MemberId can't be empty."
    } else if blank(&request.group_id) {
        "GroupId can't be empty."
    } else if request.rack_id.as_deref().is_some_and(blank) {
        "RackId can't be empty."
    } else if request.member_epoch == JOIN_EPOCH
        && request
            .subscribed_topic_names
            .as_ref()
            .is_none_or(Vec::is_empty)
    {
        "SubscribedTopicNames must be set in first request."
    } else if request.member_epoch < LEAVE_EPOCH {
        "MemberEpoch is invalid."
    } else if request.member_id.len() > MAX_TEXT || request.group_id.len() > MAX_TEXT {
        "GroupId or MemberId is too long."
    } else {
        return Ok(());
    };
    Err((ErrorCode::INVALID_REQUEST, why.into()))
}

fn not_found(group: &str, other_type: bool) -> Refusal {
    let message = match other_type {
        true => format!("Group {group} is not a share group."),
        false => format!("Share group {group} not found."),
    };
    (ErrorCode::GROUP_ID_NOT_FOUND, message)
}

fn unknown_member(member: &str, group: &str) -> Refusal {
    (
        ErrorCode::UNKNOWN_MEMBER_ID,
        format!("Member {member} is not a member of group {group}."),
    )
}

/// A member that joins again is let in; the epoch before the present one is that of a member whose answer was lost.
fn check_epoch(member: &ShareMember, received: i32) -> Result<(), Refusal> {
    let known = member.epoch;
    if received == known || received == JOIN_EPOCH || received == member.previous_epoch {
        return Ok(());
    }
    let size = if received > known {
        "greater"
    } else {
        "smaller"
    };
    Err((
        ErrorCode::FENCED_MEMBER_EPOCH,
        format!(
            "The share group member has a {size} member epoch ({received}) than the one known by the group coordinator ({known}). The member must abandon all its partitions and rejoin."
        ),
    ))
}

fn same_metadata(a: &ShareMember, b: &ShareMember) -> bool {
    a.rack_id == b.rack_id
        && a.client_id == b.client_id
        && a.client_host == b.client_host
        && a.topics == b.topics
}

/// Takes members out of a group: the records that say so.
fn remove_members(group: &mut ShareGroup, ids: &[Str]) -> Vec<CoordinatorRecord> {
    let mut records = Vec::new();
    for id in ids {
        group.members.remove(id);
        group.target.remove(id);
        records.extend(records::member_tombstones(&group.id, id));
    }
    group.epoch = group.epoch.wrapping_add(1).max(1);
    records.push(records::epoch(group));
    records
}

/// Partitions of subscribed topics that the group has no state of yet are known from now on.
fn know(group: &mut ShareGroup, topics: &BTreeMap<Str, TopicSeen>) -> Vec<(Uuid, Vec<i32>)> {
    let mut begun = Vec::new();
    for (name, topic) in topics {
        let known = group.known.entry(topic.id).or_default();
        known.name = name.clone();
        let new: Vec<i32> = (0..topic.partitions)
            .filter(|p| known.partitions.insert(*p))
            .collect();
        if !new.is_empty() {
            begun.push((topic.id, new));
        }
    }
    begun
}

/// Shares the partitions out anew.
fn retarget(
    group: &mut ShareGroup,
    topics: &BTreeMap<Str, TopicSeen>,
    wall_ms: i64,
    records: &mut Vec<CoordinatorRecord>,
) {
    let partitions = topics.values().map(|t| (t.id, t.partitions)).collect();
    let members = group
        .members
        .values()
        .map(|m| {
            let ids = m.topics.iter().filter_map(|name| topics.get(name));
            (m.id.clone(), ids.map(|t| t.id).collect())
        })
        .collect();
    let target = assignor::assign(&members, &partitions, &group.target);
    for (member, assignment) in &target {
        if group.target.get(member) != Some(assignment) {
            records.push(records::target_member(&group.id, member, assignment));
        }
    }
    group.target = target;
    group.target_epoch = group.epoch;
    group.target_ms = wall_ms;
    records.push(records::target_epoch(group));
}

fn answered(assignment: &Assignment) -> AssignmentAnswer {
    let topic_partitions = assignment
        .iter()
        .map(|(topic_id, partitions)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.iter().copied().collect(),
        })
        .collect();
    AssignmentAnswer { topic_partitions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Endpoint,
        context::{ConnId, ReplyTo},
    };

    const T: Uuid = Uuid([7; 16]);

    fn join(groups: &mut ShareGroups, member: &str) {
        let reply = ReplyTo {
            conn: ConnId(1),
            correlation_id: 1,
            api_version: 1,
        };
        let context = RequestContext {
            reply,
            api_version: 1,
            client_id: None,
            client_host: "/127.0.0.1".into(),
            endpoint: Endpoint {
                host: "localhost".into(),
                port: 9092,
            },
        };
        let request = ShareGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: member.into(),
            subscribed_topic_names: Some(alloc::vec!["t".into()]),
            ..Default::default()
        };
        let topic = |_: &str| {
            Some(TopicSeen {
                id: T,
                partitions: 2,
            })
        };
        let (now, config) = (Now::new(0, 0), ShareConfig::default());
        groups.heartbeat(now, &context, &request, &config, false, &topic);
    }

    /// The answers, and the records of the appends, each of which ends with `result`.
    fn settle(
        groups: &mut ShareGroups,
        result: Result<(), ErrorCode>,
    ) -> (Vec<ErrorCode>, Vec<CoordinatorRecord>) {
        let (mut answers, mut written) = (Vec::new(), Vec::new());
        while let Some(output) = groups.poll_output() {
            match output {
                ShareGroupOutput::Append { records, token, .. } => {
                    written.extend(records);
                    groups.handle_appended(token, result);
                }
                ShareGroupOutput::Respond {
                    response: Response::ShareGroupHeartbeat(answer),
                    ..
                } => answers.push(answer.error_code),
                _ => {}
            }
        }
        (answers, written)
    }

    #[test]
    fn what_could_not_be_written_goes_out_with_the_next_answer() {
        let mut groups = ShareGroups::default();
        join(&mut groups, "a");
        join(&mut groups, "b");
        let failed = Err(ErrorCode::NOT_ENOUGH_REPLICAS);
        let (answers, lost) = settle(&mut groups, failed);
        assert_eq!(answers, [ErrorCode::COORDINATOR_NOT_AVAILABLE; 2]);
        // It joins again as it is: nothing changes, but nothing of it is in the log.
        join(&mut groups, "a");
        let (answers, written) = settle(&mut groups, Ok(()));
        assert_eq!(answers, [ErrorCode::NONE]);
        for record in &lost {
            assert!(written.iter().any(|it| it.key == record.key), "{record:?}");
        }
        let mut replayed = ShareGroups::default();
        for record in written {
            replayed.replay(&record.key, record.value.as_deref());
        }
        let [before, after] = [&groups, &replayed].map(|it| &it.groups[&Str::from("g")]);
        assert_eq!((before.epoch, &before.known), (after.epoch, &after.known));
        assert_eq!(before.target, after.target);
        assert_eq!(before.members.len(), after.members.len());
        // And only once.
        join(&mut groups, "a");
        let (answers, written) = settle(&mut groups, Ok(()));
        assert_eq!((answers.len(), written.len()), (1, 0));
    }

    #[test]
    fn an_answer_that_waits_for_a_write_shares_its_fate() {
        let mut groups = ShareGroups::default();
        join(&mut groups, "a");
        // Nothing new, but what it tells of is still on its way.
        join(&mut groups, "a");
        let (answers, _) = settle(&mut groups, Err(ErrorCode::NOT_ENOUGH_REPLICAS));
        assert_eq!(answers, [ErrorCode::COORDINATOR_NOT_AVAILABLE; 2]);
    }
}
