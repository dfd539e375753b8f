//! `ConsumerGroupHeartbeat`: a member joins, says what it subscribes to and owns, and learns what it is to own.

use alloc::{boxed::Box, collections::BTreeMap, format, vec::Vec};
use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::consumer_group_heartbeat::{
        Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
    },
};
use ottla_record::Now;

use super::{
    ConsumerAssignor, ConsumerGroupConfig, Refusal, conversion, flush, leaving,
    reconcile::reconcile,
    records::RecordKey,
    respond,
    state::{
        ConsumerGroup, JOIN_EPOCH, Member, MemberState, Owned, Partitions, STATIC_LEAVE_EPOCH,
    },
    subscription::{compile, resolve_regexes, update_epoch},
    target,
};
use crate::{
    context::{ReplyTo, RequestContext},
    groups::{
        GroupCoordinator,
        group::{Group, GroupState},
        outbox::Outbox,
        owned::owned_str,
        records::MAX_TEXT,
    },
};

/// From this version on the client makes its member id itself.
const CLIENT_MAKES_ID_SINCE: i16 = 1;

impl GroupCoordinator {
    /// A member joins (epoch 0), is alive, or leaves (-1; -2 if it is static and will be back). The answer comes through
    /// [`crate::groups::GroupOutput::Respond`], once what it tells of is committed.
    pub fn consumer_heartbeat(
        &mut self,
        now: Now,
        context: &RequestContext,
        request: ConsumerGroupHeartbeatRequest,
    ) {
        let reply = context.reply;
        let checked = check(context, &request, &self.out.config.consumer)
            .and_then(|()| self.find_consumer_group(now, &request));
        if let Err(refusal) = checked {
            return refuse(&mut self.out, reply, refusal);
        }
        let id = request.group_id.clone();
        self.with_group(&id, |group, out| {
            let mark = out.mark();
            let done = become_consumer(group, out, now).and_then(|()| {
                if request.member_epoch < JOIN_EPOCH {
                    leaving::leave(group, out, now, &request)
                } else {
                    beat(group, out, now, context, &request)
                }
            });
            flush(group, out);
            match done {
                Ok(response) => {
                    let response = Response::ConsumerGroupHeartbeat(response);
                    respond(group, out, mark, reply, response);
                }
                Err(refusal) => refuse(out, reply, refusal),
            }
        });
    }

    /// Sees to it that the group is there and is a consumer group, or may become one.
    fn find_consumer_group(
        &mut self,
        now: Now,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<(), Refusal> {
        let id = &request.group_id;
        let not_found =
            |why: &str| Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, format!("Group {id} {why}"));
        let joins = request.member_epoch == JOIN_EPOCH;
        match self.groups.get(id) {
            None if !joins => return Err(not_found("not found.")),
            None => {}
            Some(group) if group.consumer.is_some() => return Ok(()),
            Some(_) if !joins => return Err(not_found("is not a consumer group.")),
            Some(_) => {}
        }
        // What could still be refused is refused before the group changes its kind.
        if let Some(regex) = &request.subscribed_topic_regex
            && !regex.is_empty()
        {
            compile(regex)?;
        }
        self.group_or_new(now, id);
        Ok(())
    }
}

/// Makes a classic group a consumer group: at once if it has no members, else if the settings allow it.
fn become_consumer(group: &mut Group, out: &mut Outbox, now: Now) -> Result<(), Refusal> {
    if group.consumer.is_some() {
        return Ok(());
    }
    if group.state() != GroupState::Empty {
        return conversion::upgrade(group, out, now);
    }
    let mut consumer = ConsumerGroup::default();
    if group.persisted {
        consumer.unwritten.insert(RecordKey::Classic);
    }
    group.begin_consumer(Box::new(consumer));
    Ok(())
}

/// What can be said without looking at the group.
fn check(
    context: &RequestContext,
    request: &ConsumerGroupHeartbeatRequest,
    config: &ConsumerGroupConfig,
) -> Result<(), Refusal> {
    let invalid = |why: &str| Err(Refusal::new(ErrorCode::INVALID_REQUEST, why));
    let is_empty = |text: &Option<Str>| text.as_ref().is_some_and(|t| t.is_empty());
    if request.group_id.trim().is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if is_empty(&request.instance_id) {
        return invalid("InstanceId can't be empty.");
    }
    if is_empty(&request.rack_id) {
        return invalid("RackId can't be empty.");
    }
    let makes_id = context.api_version >= CLIENT_MAKES_ID_SINCE;
    if (makes_id || request.member_epoch != JOIN_EPOCH) && request.member_id.is_empty() {
        return invalid("MemberId can't be empty.");
    }
    match request.member_epoch {
        JOIN_EPOCH => {
            if request.rebalance_timeout_ms == -1 {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            if request
                .topic_partitions
                .as_ref()
                .is_none_or(|t| !t.is_empty())
            {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none()
            {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                );
            }
        }
        STATIC_LEAVE_EPOCH if request.instance_id.is_none() => {
            return invalid("InstanceId can't be null.");
        }
        i32::MIN..STATIC_LEAVE_EPOCH => return invalid("MemberEpoch is invalid."),
        _ => {}
    }
    if let Some(name) = &request.server_assignor
        && !config.assignors.iter().any(|a| a.name() == name.as_str())
    {
        let names: Vec<&str> = config.assignors.iter().map(|a| a.name()).collect();
        return Err(Refusal::new(
            ErrorCode::UNSUPPORTED_ASSIGNOR,
            format!(
                "ServerAssignor {name} is not supported. Supported assignors: {}.",
                names.join(", ")
            ),
        ));
    }
    // The keys of the classic records, into which a group may turn again, hold no more.
    let too_long = [&request.group_id, &request.member_id]
        .into_iter()
        .chain(&request.instance_id)
        .chain(&request.rack_id)
        .chain(&request.subscribed_topic_regex)
        .any(|text| text.len() > MAX_TEXT);
    if too_long {
        return invalid("A text is longer than 32767 bytes.");
    }
    Ok(())
}

pub(super) fn refuse(out: &mut Outbox, to: ReplyTo, refusal: Refusal) {
    let response = ConsumerGroupHeartbeatResponse {
        error_code: refusal.code,
        error_message: Some(refusal.message),
        ..Default::default()
    };
    out.respond(to, Response::ConsumerGroupHeartbeat(response));
}

/// A member that joins or is alive.
fn beat(
    group: &mut Group,
    out: &mut Outbox,
    now: Now,
    context: &RequestContext,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
    let Some(consumer) = group.consumer.as_deref_mut() else {
        return Err(Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR, ""));
    };
    let session_timeout_ms = out.session_timeout_ms(&group.id);
    let heartbeat_interval_ms = out.heartbeat_interval_ms(&group.id);
    check_room(consumer, &request.member_id, out.config.consumer.max_size)?;
    let reported = request.topic_partitions.as_ref().map(|topics| {
        let mut reported = Partitions::new();
        for topic in topics {
            reported
                .entry(topic.topic_id)
                .or_default()
                .extend(topic.partitions.iter().copied());
        }
        reported
    });
    let (before, replaces) = find(consumer, request, reported.as_ref())?;
    let mut member = before.clone();
    if member.id.is_empty() {
        member.id = out.new_uuid();
    }
    describe_itself(&mut member, context, request);
    if member.regex != before.regex && !member.regex.is_empty() {
        compile(&member.regex)?;
    }

    // From here on nothing is refused.
    let id = member.id.clone();
    let resubscribed = member.topics != before.topics || member.regex != before.regex;
    let is_new = consumer.member(&id).is_none();
    if let Some(old) = &replaces {
        replace(consumer, old, &id);
    }
    if is_new || member.metadata_differs(&before) {
        consumer.unwritten.insert(RecordKey::Member(id.clone()));
    }
    if replaces.is_some() {
        consumer.unwritten.insert(RecordKey::Current(id.clone()));
    }
    member.heard_of(now, session_timeout_ms);
    member.classic_wait = None;
    consumer.put(member);
    settle(consumer, out, now, resubscribed);

    let changed = reconcile(consumer, &out.topics, &id, reported.as_ref(), resubscribed)?;
    note_reconciled(consumer, &id, changed, is_new, now);
    let Some(member) = consumer.member(&id) else {
        return Err(Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR, ""));
    };
    let full = request.rebalance_timeout_ms != -1
        && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
        && request.topic_partitions.is_some();
    let tells =
        request.member_epoch == JOIN_EPOCH || full || !same(&before.assigned, &member.assigned);
    Ok(ConsumerGroupHeartbeatResponse {
        member_id: Some(id),
        member_epoch: member.epoch,
        heartbeat_interval_ms,
        assignment: tells.then(|| assignment(&member.assigned)),
        ..Default::default()
    })
}

/// After a member came or changed: what its subscription means for the group, and the target of a new epoch.
pub(super) fn settle(consumer: &mut ConsumerGroup, out: &mut Outbox, now: Now, resubscribed: bool) {
    let rematched =
        (resubscribed || consumer.topics_changed) && resolve_regexes(consumer, &out.topics, now);
    let bump = resubscribed || rematched;
    if bump || consumer.topics_changed {
        update_epoch(consumer, &out.topics, bump);
        if consumer.has_partition_metadata {
            consumer.unwritten.insert(RecordKey::PartitionMetadata);
        }
    }
    if consumer.epoch > consumer.assignment_epoch {
        let assignor: ConsumerAssignor =
            target::assignor_of(consumer, &out.config.consumer.assignors);
        target::compute(consumer, &out.topics, assignor, now);
    }
}

/// After a step of a member: its record, and until when it must have given up what it is not to have.
pub(super) fn note_reconciled(
    consumer: &mut ConsumerGroup,
    id: &Str,
    changed: bool,
    is_new: bool,
    now: Now,
) {
    if changed || is_new {
        consumer.unwritten.insert(RecordKey::Current(id.clone()));
    }
    if let Some(member) = consumer.member_mut(id)
        && changed
    {
        let revokes = member.state == MemberState::UnrevokedPartitions && member.classic.is_none();
        member.revocation_ends_us =
            revokes.then(|| now.after_ms(i64::from(member.rebalance_timeout_ms.max(0))));
    }
}

/// `group.consumer.max.size`: whoever is in stays in.
pub(super) fn check_room(
    consumer: &ConsumerGroup,
    member_id: &Str,
    max_size: i32,
) -> Result<(), Refusal> {
    if consumer.members().len() >= max_size.max(0) as usize && consumer.member(member_id).is_none()
    {
        return Err(Refusal::new(
            ErrorCode::GROUP_MAX_SIZE_REACHED,
            format!("The consumer group has reached its maximum capacity of {max_size} members."),
        ));
    }
    Ok(())
}

/// The member that the request is of, as it was; and the id of the one whose static place it takes.
fn find(
    consumer: &ConsumerGroup,
    request: &ConsumerGroupHeartbeatRequest,
    reported: Option<&Partitions>,
) -> Result<(Member, Option<Str>), Refusal> {
    let id = &request.member_id;
    let joins = request.member_epoch == JOIN_EPOCH;
    let Some(instance_id) = &request.instance_id else {
        return match consumer.member(id) {
            Some(member) => {
                check_epoch(member, request.member_epoch, reported)?;
                Ok((member.clone(), None))
            }
            None if joins => Ok((Member::new(owned_str(id)), None)),
            None => Err(Refusal::new(
                ErrorCode::UNKNOWN_MEMBER_ID,
                format!("Member {id} is not a member of group {}.", request.group_id),
            )),
        };
    };
    match consumer.static_member(instance_id) {
        None if joins => {
            // A dynamic member may become a static one.
            let member = consumer.member(id).cloned();
            Ok((member.unwrap_or_else(|| Member::new(owned_str(id))), None))
        }
        None => Err(unknown_instance(instance_id)),
        Some(holder) if holder.id == *id => {
            check_epoch(holder, request.member_epoch, reported)?;
            Ok((holder.clone(), None))
        }
        Some(holder) if !joins => Err(fenced_instance(id, instance_id, &holder.id)),
        Some(holder) if holder.epoch != STATIC_LEAVE_EPOCH => Err(Refusal::new(
            ErrorCode::UNRELEASED_INSTANCE_ID,
            format!(
                "Static member {id} with instance id {instance_id} cannot join the group because the instance id is owned by {} member.",
                holder.id
            ),
        )),
        Some(holder) => {
            let member = Member {
                id: owned_str(id),
                epoch: JOIN_EPOCH,
                previous_epoch: JOIN_EPOCH,
                ..holder.clone()
            };
            Ok((member, Some(holder.id.clone())))
        }
    }
}

pub(super) fn unknown_instance(instance_id: &Str) -> Refusal {
    Refusal::new(
        ErrorCode::UNKNOWN_MEMBER_ID,
        format!("Instance id {instance_id} is unknown."),
    )
}

pub(super) fn fenced_instance(id: &Str, instance_id: &Str, holder: &Str) -> Refusal {
    Refusal::new(
        ErrorCode::FENCED_INSTANCE_ID,
        format!("Static member {id} with instance id {instance_id} was fenced by member {holder}."),
    )
}

/// A member that comes with an epoch other than its own is fenced; but not if it has the one before and owns no more than it
/// may: then the answer with the newer one was lost.
fn check_epoch(member: &Member, epoch: i32, reported: Option<&Partitions>) -> Result<(), Refusal> {
    if epoch == JOIN_EPOCH || epoch == member.epoch {
        return Ok(());
    }
    let lost_an_answer = epoch < member.epoch
        && epoch == member.previous_epoch
        && reported.is_some_and(|reported| owns_all(&member.assigned, reported));
    if lost_an_answer {
        return Ok(());
    }
    let kind = if epoch > member.epoch {
        "greater"
    } else {
        "smaller"
    };
    Err(Refusal::new(
        ErrorCode::FENCED_MEMBER_EPOCH,
        format!(
            "The consumer group member has a {kind} member epoch ({epoch}) than the one known by the group coordinator ({}). The member must abandon all its partitions and rejoin.",
            member.epoch
        ),
    ))
}

fn owns_all(assigned: &Owned, reported: &Partitions) -> bool {
    reported.iter().all(|(topic, partitions)| {
        let assigned = assigned.get(topic);
        partitions
            .iter()
            .all(|p| assigned.is_some_and(|a| a.contains_key(p)))
    })
}

/// Takes over what the request says; what it leaves out stays.
fn describe_itself(
    member: &mut Member,
    context: &RequestContext,
    request: &ConsumerGroupHeartbeatRequest,
) {
    if let Some(instance_id) = &request.instance_id {
        member.instance_id = Some(owned_str(instance_id));
    }
    if let Some(rack_id) = &request.rack_id {
        member.rack_id = Some(owned_str(rack_id));
    }
    if request.rebalance_timeout_ms != -1 {
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }
    if let Some(assignor) = &request.server_assignor {
        member.server_assignor = Some(owned_str(assignor));
    }
    if let Some(names) = &request.subscribed_topic_names {
        member.topics = names.iter().map(owned_str).collect();
    }
    if let Some(regex) = &request.subscribed_topic_regex {
        member.regex = owned_str(regex);
    }
    let client_id = context.client_id.as_deref().unwrap_or("");
    if member.client_id != *client_id {
        member.client_id = Str::from(client_id);
    }
    if member.client_host != context.client_host {
        member.client_host = owned_str(&context.client_host);
    }
    member.classic = None;
}

/// The static member `new` takes the place of `old`: what `old` was to own passes on to it. What it owns does too, with the
/// member that the caller puts in.
pub(super) fn replace(consumer: &mut ConsumerGroup, old: &Str, new: &Str) {
    consumer.take(old);
    if let Some(target) = consumer.target.remove(old) {
        consumer.target.insert(new.clone(), target);
        consumer.unwritten.insert(RecordKey::Target(new.clone()));
    }
    consumer.unwritten.extend([
        RecordKey::Current(old.clone()),
        RecordKey::Target(old.clone()),
        RecordKey::Member(old.clone()),
    ]);
}

/// The same partitions, whatever the epochs.
fn same(one: &Owned, other: &Owned) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|((t, p), (u, q))| t == u && p.keys().eq(q.keys()))
}

fn assignment(assigned: &Owned) -> Assignment {
    let partitions: BTreeMap<_, _> = assigned.iter().collect();
    Assignment {
        topic_partitions: partitions
            .into_iter()
            .map(|(topic_id, partitions)| TopicPartitions {
                topic_id: *topic_id,
                partitions: partitions.keys().copied().collect(),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, GROUP, alive, join, join_static};
    use super::*;
    use crate::groups::{
        GroupConfig,
        testing::{Harness, config},
    };

    fn has(told: Option<super::super::testing::Has>) -> usize {
        told.expect("an assignment").len()
    }

    #[test]
    fn requests_that_make_no_sense() {
        let mut h = Harness::new(config());
        let good = || join("a", &["t"]);
        let bad = [
            ConsumerGroupHeartbeatRequest {
                group_id: " ".into(),
                ..good()
            },
            ConsumerGroupHeartbeatRequest {
                instance_id: Some("".into()),
                ..good()
            },
            ConsumerGroupHeartbeatRequest {
                rack_id: Some("".into()),
                ..good()
            },
            ConsumerGroupHeartbeatRequest {
                member_id: "".into(),
                ..good()
            },
            ConsumerGroupHeartbeatRequest {
                rebalance_timeout_ms: -1,
                ..good()
            },
            ConsumerGroupHeartbeatRequest {
                topic_partitions: None,
                ..good()
            },
            ConsumerGroupHeartbeatRequest {
                subscribed_topic_names: None,
                ..good()
            },
            ConsumerGroupHeartbeatRequest {
                member_epoch: -2,
                ..good()
            },
            ConsumerGroupHeartbeatRequest {
                member_epoch: -3,
                ..good()
            },
            ConsumerGroupHeartbeatRequest {
                rack_id: Some("x".repeat(MAX_TEXT + 1).as_str().into()),
                ..good()
            },
        ];
        for request in bad {
            let answer = h.beat_now(request.clone());
            assert_eq!(answer.error_code, ErrorCode::INVALID_REQUEST, "{request:?}");
            assert!(answer.error_message.is_some());
        }
        let server_assignor = Some("sticky".into());
        let error = h.beat_error(ConsumerGroupHeartbeatRequest {
            server_assignor,
            ..good()
        });
        assert_eq!(error, ErrorCode::UNSUPPORTED_ASSIGNOR);
        let subscribed_topic_regex = Some("(".into());
        let error = h.beat_error(ConsumerGroupHeartbeatRequest {
            subscribed_topic_regex,
            ..good()
        });
        assert_eq!(error, ErrorCode::INVALID_REGULAR_EXPRESSION);
        for epoch in [1, -1] {
            assert_eq!(
                h.beat_error(alive("a", epoch)),
                ErrorCode::GROUP_ID_NOT_FOUND
            );
        }
        assert_eq!(
            h.state(GROUP),
            GroupState::Dead,
            "a refused request makes no group"
        );
        assert!(h.log.is_empty());
    }

    #[test]
    fn version_0_gets_its_id_from_here() {
        let mut h = Harness::new(config());
        h.topic("t", 1);
        let request = join("", &["t"]);
        let id = h.request(0, |c, now, context| {
            c.consumer_heartbeat(now, context, request)
        });
        let answer = h.beaten(id).unwrap();
        assert_eq!(answer.error_code, ErrorCode::NONE);
        let id = answer.member_id.unwrap();
        assert_eq!(id.len(), 22);
        assert_eq!(
            h.beat_error(alive(&id, answer.member_epoch)),
            ErrorCode::NONE
        );
    }

    #[test]
    fn the_first_member_has_everything_at_once() {
        let mut h = Harness::new(config());
        h.topic("t", 3);
        let answer = h.beat_ok(join("a", &["t"]));
        assert_eq!(
            (answer.member_epoch, answer.heartbeat_interval_ms),
            (2, 5_000)
        );
        assert_eq!(answer.member_id.as_deref(), Some("a"));
        assert_eq!(has(h.told(&answer)), 3);
        assert_eq!(h.state(GROUP), GroupState::Stable);
        let records = h.log.len();
        assert_eq!(records, 5, "member, epoch, target, target's epoch, current");
        let answer = h.beat_ok(alive("a", 2));
        assert_eq!((answer.member_epoch, answer.assignment), (2, None));
        assert_eq!(h.log.len(), records, "nothing to write");
        h.restart();
        let answer = h.beat_ok(ConsumerGroupHeartbeatRequest {
            member_epoch: 2,
            ..join("a", &["t"])
        });
        assert_eq!(has(h.told(&answer)), 3, "it asked for everything");
    }

    #[test]
    fn a_partition_moves_when_it_is_given_up() {
        let mut h = Harness::new(config());
        h.topic("t", 2);
        let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
        a.go(&mut h);
        b.go(&mut h);
        assert_eq!((a.has.len(), b.has.len()), (2, 0));
        assert_eq!((a.epoch, b.epoch), (2, 3));
        assert_eq!(h.state(GROUP), GroupState::Reconciling);
        a.go(&mut h);
        assert_eq!(a.epoch, 2, "it has to give up something first");
        b.go(&mut h);
        assert_eq!(b.has.len(), 0);
        a.go(&mut h);
        assert_eq!((a.has.len(), a.epoch), (1, 3));
        b.go(&mut h);
        assert_eq!(b.has.len(), 1);
        assert!(a.has.is_disjoint(&b.has));
        assert_eq!(h.state(GROUP), GroupState::Stable);
    }

    #[test]
    fn who_does_not_give_up_is_fenced() {
        let mut h = Harness::new(config());
        h.topic("t", 2);
        let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
        a.go(&mut h);
        b.go(&mut h);
        a.go(&mut h);
        for _ in 0..7 {
            h.advance(9_000);
            b.go(&mut h);
            let fenced = h.beat_error(alive("a", 2)) == ErrorCode::UNKNOWN_MEMBER_ID;
            assert_eq!(fenced, h.now.mono_us >= 60_000_000);
        }
        b.go(&mut h);
        assert_eq!(b.has.len(), 2);
    }

    #[test]
    fn sessions_end() {
        let mut h = Harness::new(config());
        h.topic("t", 2);
        let mut a = Client::new("a", &["t"]);
        a.go(&mut h);
        h.advance(44_999);
        assert_eq!(a.go(&mut h), ErrorCode::NONE);
        h.advance(45_000);
        assert_eq!(h.state(GROUP), GroupState::Empty);
        assert_eq!(h.beat_error(alive("a", 2)), ErrorCode::UNKNOWN_MEMBER_ID);
        h.restart();
        assert_eq!(h.state(GROUP), GroupState::Empty, "that was written");
        assert_eq!(h.beat_ok(join("a", &["t"])).member_epoch, 4);
    }

    #[test]
    fn epochs_that_do_not_fit() {
        let mut h = Harness::new(config());
        let id = h.topic("t", 1);
        h.beat_ok(join("a", &["t"]));
        assert_eq!(h.beat_error(alive("a", 3)), ErrorCode::FENCED_MEMBER_EPOCH);
        h.beat_ok(join("b", &["t"]));
        assert_eq!(h.beat_ok(alive("a", 2)).member_epoch, 3);
        // The answer with epoch 3 was lost.
        assert_eq!(h.beat_error(alive("a", 2)), ErrorCode::FENCED_MEMBER_EPOCH);
        let owns = |topic_id, partitions| ConsumerGroupHeartbeatRequest {
            topic_partitions: Some(alloc::vec![
                ottla_protocol::messages::consumer_group_heartbeat::RequestTopicPartitions {
                    topic_id,
                    partitions,
                }
            ]),
            ..alive("a", 2)
        };
        assert_eq!(h.beat_ok(owns(id, alloc::vec![0])).member_epoch, 3);
        assert_eq!(
            h.beat_error(owns(id, alloc::vec![1])),
            ErrorCode::FENCED_MEMBER_EPOCH
        );
        assert_eq!(h.beat_error(alive("x", 2)), ErrorCode::UNKNOWN_MEMBER_ID);
    }

    #[test]
    fn a_group_that_is_full() {
        let mut c = config();
        c.consumer.max_size = 1;
        let mut h = Harness::new(c);
        h.beat_ok(join("a", &["t"]));
        assert_eq!(
            h.beat_error(join("b", &["t"])),
            ErrorCode::GROUP_MAX_SIZE_REACHED
        );
        h.beat_ok(join("a", &["t"]));
    }

    #[test]
    fn static_members_keep_their_place() {
        let mut h = Harness::new(config());
        h.topic("t", 2);
        h.beat_ok(join_static("a", "i", &["t"]));
        let error = h.beat_error(join_static("b", "i", &["t"]));
        assert_eq!(error, ErrorCode::UNRELEASED_INSTANCE_ID);
        let as_b = |epoch| ConsumerGroupHeartbeatRequest {
            instance_id: Some("i".into()),
            ..alive("b", epoch)
        };
        assert_eq!(h.beat_error(as_b(2)), ErrorCode::FENCED_INSTANCE_ID);
        assert_eq!(h.beat_error(as_b(-1)), ErrorCode::FENCED_INSTANCE_ID);
        let unknown = ConsumerGroupHeartbeatRequest {
            instance_id: Some("j".into()),
            ..alive("b", 2)
        };
        assert_eq!(h.beat_error(unknown), ErrorCode::UNKNOWN_MEMBER_ID);

        let away = ConsumerGroupHeartbeatRequest {
            instance_id: Some("i".into()),
            ..alive("a", -2)
        };
        assert_eq!(h.beat_ok(away.clone()).member_epoch, -2);
        h.restart();
        let back = h.beat_ok(join_static("b", "i", &["t"]));
        assert_eq!(
            (back.member_epoch, has(h.told(&back))),
            (2, 2),
            "no rebalance"
        );
        assert_eq!(h.described().members.len(), 1);
        assert_eq!(
            h.beat_error(ConsumerGroupHeartbeatRequest {
                instance_id: Some("i".into()),
                ..alive("a", 2)
            }),
            ErrorCode::FENCED_INSTANCE_ID
        );
        assert_eq!(h.beat_error(alive("a", 2)), ErrorCode::UNKNOWN_MEMBER_ID);
        h.restart();
        assert_eq!(h.beat_error(as_b(2)), ErrorCode::NONE);
        // Who does not come back in time has gone.
        h.beat_ok(as_b(-2));
        h.advance(45_000);
        assert_eq!(h.state(GROUP), GroupState::Empty);
    }

    #[test]
    fn regular_expressions_follow_the_topics() {
        let mut h = Harness::new(config());
        h.topic("a-1", 1);
        h.topic("b", 1);
        let request = ConsumerGroupHeartbeatRequest {
            subscribed_topic_names: None,
            subscribed_topic_regex: Some("a-.*".into()),
            ..join("m", &[])
        };
        let answer = h.beat_ok(request);
        assert_eq!(has(h.told(&answer)), 1);
        h.topic("a-2", 2);
        h.topic("ba-2", 2);
        let answer = h.beat_ok(alive("m", 2));
        assert_eq!((answer.member_epoch, has(h.told(&answer))), (3, 3));
        h.restart();
        assert_eq!(h.beat_ok(alive("m", 3)).member_epoch, 3, "nothing new");
        h.delete_topic("a-1");
        let answer = h.beat_ok(alive("m", 3));
        assert_eq!(has(h.told(&answer)), 2);
        let described = h.described();
        assert_eq!(
            described.members[0].subscribed_topic_regex.as_deref(),
            Some("a-.*")
        );
        // By name now, and the expression goes.
        let request = ConsumerGroupHeartbeatRequest {
            subscribed_topic_names: Some(alloc::vec!["b".into()]),
            subscribed_topic_regex: Some("".into()),
            topic_partitions: Some(Vec::new()),
            ..alive("m", answer.member_epoch)
        };
        let answer = h.beat_ok(request);
        assert_eq!(has(h.told(&answer)), 1);
        let described = h.described();
        let regex = described.members[0].subscribed_topic_regex.as_deref();
        assert_eq!(regex, Some(""), "as Kafka tells it");
    }

    #[test]
    fn topics_that_grow() {
        let mut h = Harness::new(config());
        let mut a = Client::new("a", &["t"]);
        a.go(&mut h);
        assert_eq!((a.epoch, a.has.len()), (2, 0), "there is no such topic yet");
        h.topic("t", 1);
        a.go(&mut h);
        assert_eq!((a.epoch, a.has.len()), (3, 1));
        h.topic("other", 1);
        h.topic("t", 3);
        a.go(&mut h);
        assert_eq!((a.epoch, a.has.len()), (4, 3));
    }

    #[test]
    fn answers_wait_for_what_is_written() {
        let mut h = Harness::new(config());
        h.topic("t", 2);
        h.hold = true;
        let first = h.beat(join("a", &["t"]));
        assert!(h.beaten(first).is_none());
        let second = h.beat(join("b", &["t"]));
        let alive = h.beat(alive("b", 3));
        h.finish_append(Ok(()));
        assert!(h.beaten(first).is_some());
        assert!(
            h.beaten(alive).is_none(),
            "what it tells of isn't written yet"
        );
        h.finish_append(Err(ErrorCode::NOT_ENOUGH_REPLICAS));
        for id in [second, alive] {
            assert_eq!(
                h.beaten(id).unwrap().error_code,
                ErrorCode::COORDINATOR_NOT_AVAILABLE
            );
        }
        // The next one makes good for it.
        h.hold = false;
        h.beat_ok(join("b", &["t"]));
        h.restart();
        assert_eq!(h.described().members.len(), 2);
    }

    #[test]
    fn a_member_that_subscribes_to_nothing_leaves_the_group_in_its_first_epoch() {
        let mut h = Harness::new(config());
        h.topic("t", 1);
        let answer = h.beat_ok(join("a", &[]));
        assert_eq!((answer.member_epoch, has(h.told(&answer))), (1, 0));
        h.restart();
        assert_eq!(h.beat_ok(alive("a", 1)).member_epoch, 1);
        let subscribes = ConsumerGroupHeartbeatRequest {
            subscribed_topic_names: Some(alloc::vec!["t".into()]),
            ..alive("a", 1)
        };
        let answer = h.beat_ok(subscribes);
        assert_eq!((answer.member_epoch, has(h.told(&answer))), (2, 1));
    }

    #[test]
    fn the_assignor_that_most_ask_for() {
        let mut h = Harness::new(config());
        h.topic("t", 1);
        h.beat_ok(join("a", &["t"]));
        assert_eq!(&*h.described().assignor_name, "uniform");
        h.beat_ok(ConsumerGroupHeartbeatRequest {
            server_assignor: Some("range".into()),
            ..join("b", &["t"])
        });
        assert_eq!(&*h.described().assignor_name, "range");
        let unused = GroupConfig { ..config() };
        assert_eq!(unused.consumer.assignors[0].name(), "uniform");
    }
}
