//! The member of a classic group: join, sync, heartbeat, rebalance, leave.
//!
//! One rebalance goes through the phases of [`Phase`] in their order. The application's partitions change only in
//! `Assigning` and `Revoking`, either at once or, with `rebalance_events`, when it answers.

use super::assignors::{Assignor, MemberSubscription, PartitionCounts, TopicPartition};
use super::group_messages;
use super::machine::{Cluster, Consumer, ConsumerEvent, PartitionOffset, Purpose, RebalanceKind, To};
use super::offset::{self, Start};
use super::subscription::Subscription;
use crate::error::{ErrCode, KafkaError};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use ottla_protocol::{
    ErrorCode, HeartbeatRequest, JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, LeaveGroupRequest,
    MemberIdentity, Request, Response, Str, SyncGroupRequest, SyncGroupRequestAssignment,
};
use ottla_record::Now;

/// How long the leader waits for metadata of topics that only others subscribe to.
const LEADER_METADATA_MS: i64 = 5_000;
/// How long a LeaveGroup may take; the coordinator notices an absent member anyhow.
const LEAVE_TIMEOUT_MS: i32 = 5_000;
/// An answer to a JoinGroup may come so much later than the rebalance timeout.
const JOIN_GRACE_MS: i32 = 5_000;

/// Where the member stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// Not subscribed.
    Out,
    /// To join at this time.
    Waiting(u64),
    /// JoinGroup is under way, with this token.
    Joining(u64),
    /// This member shares the partitions out as soon as it knows all topics, or at this time.
    AwaitingTopics(Vec<MemberSubscription>, u64),
    /// SyncGroup is under way, with this token.
    Syncing(u64),
    /// The application is to take on what the group assigned.
    Assigning,
    /// The application is to give these partitions up.
    Revoking { partitions: Vec<TopicPartition>, then: Then },
    /// What was given up is being committed.
    Committing(Then),
    /// Nothing to do but heartbeats.
    Stable,
    /// LeaveGroup is under way, with this token.
    Leaving(u64),
}

/// What follows when partitions have been given up.
#[derive(Debug)]
pub(super) enum Then {
    Rejoin,
    /// Take these on, then rejoin, so that others get what was given up.
    Assign(Vec<TopicPartition>),
    Leave,
}

/// This consumer as a member of its group.
#[derive(Debug)]
pub(super) struct Membership {
    group: Str,
    member_id: Str,
    generation: i32,
    pub(super) phase: Phase,
    /// What the group's members agreed on; before the first join the first of the own list.
    assignor: Option<Assignor>,
    is_leader: bool,
    /// Rejoin as soon as the current rebalance is over.
    rejoin: bool,
    lost: bool,
    /// The partitions are given up while a commit of theirs is under way.
    commit_under_way: bool,
    next_heartbeat: u64,
    heartbeat_under_way: bool,
    last_heard: u64,
    /// When the application polled last; `None` while it is waiting in a poll.
    last_poll: Option<u64>,
    poll_exceeded: bool,
    joined_topics: BTreeSet<Str>,
    /// The topics of all members and their sizes when the leader shared them out.
    shared_out: PartitionCounts,
    group_topics: BTreeSet<Str>,
    missing: BTreeSet<Str>,
}

impl Membership {
    pub(super) fn new(group: Str, now: Now) -> Self {
        Self {
            group,
            member_id: Str::new(),
            generation: -1,
            phase: Phase::Out,
            assignor: None,
            is_leader: false,
            rejoin: false,
            lost: false,
            commit_under_way: false,
            next_heartbeat: 0,
            heartbeat_under_way: false,
            last_heard: now.mono_us,
            last_poll: Some(now.mono_us),
            poll_exceeded: false,
            joined_topics: BTreeSet::new(),
            shared_out: PartitionCounts::new(),
            group_topics: BTreeSet::new(),
            missing: BTreeSet::new(),
        }
    }

    /// Member id and generation for requests: empty and -1 for a consumer that isn't in the group.
    pub(super) fn identity(&self) -> (Str, i32) {
        match self.generation {
            -1 => (Str::new(), -1),
            generation => (self.member_id.clone(), generation),
        }
    }

    fn beats(&self) -> bool {
        use Phase::*;
        let member = matches!(self.phase, AwaitingTopics(..) | Assigning | Revoking { .. } | Committing(_) | Stable);
        member && self.generation >= 0
    }
}

impl Consumer {
    /// Subscribes to topics and `^` patterns in place of what was subscribed to before. An empty list unsubscribes.
    /// `_UNKNOWN_GROUP` without a group, `_INVALID_ARG` for a bad pattern.
    pub(crate) fn subscribe(&mut self, now: Now, topics: &[Str]) -> Result<(), KafkaError> {
        self.check_usable()?;
        self.group_id()?;
        if topics.is_empty() {
            self.unsubscribe(now);
            return Ok(());
        }
        self.subscription = Subscription::new(topics).map_err(|bad| {
            KafkaError::new(ErrCode::INVALID_ARG, format!("\"{}\" can't be subscribed to", bad.0))
        })?;
        self.cluster_version = None;
        self.want_topics(&[], false);
        let Some(membership) = &mut self.membership else { return Ok(()) };
        membership.missing.clear();
        match membership.phase {
            Phase::Out => {
                membership.last_poll = membership.last_poll.map(|_| now.mono_us);
                membership.phase = Phase::Waiting(now.mono_us);
                // What was assigned by hand makes room for the group's assignment.
                self.unassign(now);
            }
            Phase::Waiting(_) | Phase::Leaving(_) => {}
            _ => membership.rejoin = true,
        }
        Ok(())
    }

    /// Leaves the group, after the partitions were given up.
    pub(crate) fn unsubscribe(&mut self, now: Now) {
        self.subscription = Subscription::default();
        let Some(membership) = &mut self.membership else { return };
        membership.rejoin = false;
        match &mut membership.phase {
            Phase::Out | Phase::Leaving(_) => {}
            Phase::Revoking { then, .. } | Phase::Committing(then) => *then = Then::Leave,
            _ => self.revoke(now, None, Then::Leave, false),
        }
    }

    /// What was subscribed to, as it was given.
    pub(crate) fn subscription(&self) -> &[Str] {
        self.subscription.given()
    }

    /// Whether the member's partitions are gone already, so that commits are useless.
    pub(crate) fn is_assignment_lost(&self) -> bool {
        self.membership.as_ref().is_some_and(|m| m.lost)
    }

    /// The id that the coordinator gave this member; empty before it joined.
    pub(crate) fn member_id(&self) -> Str {
        self.membership.as_ref().map(|m| m.member_id.clone()).unwrap_or_default()
    }

    /// The group's generation; -1 while not in a group.
    pub(crate) fn generation(&self) -> i32 {
        self.membership.as_ref().map_or(-1, |m| m.generation)
    }

    /// `NONE`, `EAGER` or `COOPERATIVE`, as librdkafka names what the group agreed on.
    pub(crate) fn rebalance_protocol(&self) -> &'static str {
        match self.membership.as_ref().and_then(|m| m.assignor) {
            None => "NONE",
            Some(assignor) if assignor.is_cooperative() => "COOPERATIVE",
            Some(_) => "EAGER",
        }
    }

    pub(super) fn is_cooperative_member(&self) -> bool {
        self.is_member() && self.rebalance_protocol() == "COOPERATIVE"
    }

    pub(super) fn is_eager_member(&self) -> bool {
        self.is_member() && self.rebalance_protocol() == "EAGER"
    }

    fn is_member(&self) -> bool {
        self.membership.as_ref().is_some_and(|m| m.generation >= 0 && !m.lost)
    }

    /// The application calls one of the poll functions (`max.poll.interval.ms`).
    pub(crate) fn application_polls(&mut self, now: Now) {
        if let Some(membership) = &mut self.membership {
            membership.last_poll = membership.last_poll.map(|_| now.mono_us);
            membership.poll_exceeded = false;
        }
    }

    /// The application waits in a poll function from now on, or no longer. Waiting doesn't count as being away.
    pub(crate) fn application_waits(&mut self, now: Now, waits: bool) {
        if let Some(membership) = &mut self.membership {
            membership.last_poll = (!waits).then_some(now.mono_us);
            membership.poll_exceeded = false;
        }
    }

    /// What is due: joining, sharing out, heartbeats, and the watches over coordinator and application.
    pub(super) fn serve_membership(&mut self, now: Now, cluster: &dyn Cluster) {
        self.watch(now);
        let Some(membership) = &mut self.membership else { return };
        if membership.rejoin && matches!(membership.phase, Phase::Stable) {
            membership.rejoin = false;
            self.rebalance(now);
        }
        let Some(membership) = &mut self.membership else { return };
        match &mut membership.phase {
            Phase::Waiting(at) if *at <= now.mono_us && !membership.poll_exceeded => {
                if self.can_name_topics() {
                    self.send_join(cluster);
                }
            }
            Phase::AwaitingTopics(members, deadline) => {
                let known = |topic: &Str| {
                    cluster.partition_count(topic).is_some() || cluster.topic_error(topic) != ErrorCode::NONE
                };
                if membership.group_topics.iter().all(known) || *deadline <= now.mono_us {
                    let members = core::mem::take(members);
                    self.share_out(&members, cluster);
                }
            }
            _ => {}
        }
        let Some(membership) = &mut self.membership else { return };
        if membership.beats() && !membership.heartbeat_under_way && membership.next_heartbeat <= now.mono_us {
            membership.heartbeat_under_way = true;
            let request = Request::Heartbeat(HeartbeatRequest {
                group_id: membership.group.clone(),
                generation_id: membership.generation,
                member_id: membership.member_id.clone(),
                group_instance_id: self.config.group_instance_id.clone(),
                ..Default::default()
            });
            let timeout = self.config.session_timeout_ms;
            self.send(To::Coordinator, request, timeout, Purpose::Heartbeat);
        }
    }

    /// When [`Self::serve_membership`] has something to do.
    pub(super) fn membership_due(&self) -> Option<u64> {
        let membership = self.membership.as_ref()?;
        let step = match membership.phase {
            Phase::Waiting(at) if !membership.poll_exceeded && self.can_name_topics() => Some(at),
            Phase::AwaitingTopics(_, deadline) => Some(deadline),
            _ => None,
        };
        let heartbeat = (membership.beats() && !membership.heartbeat_under_way).then_some(membership.next_heartbeat);
        let session = membership.beats().then(|| membership.last_heard + millis(self.config.session_timeout_ms));
        let away = (membership.beats() && !membership.poll_exceeded)
            .then(|| Some(membership.last_poll? + millis(self.config.max_poll_interval_ms)))
            .flatten();
        step.into_iter().chain(heartbeat).chain(session).chain(away).min()
    }

    /// Gives the partitions up for lost when the coordinator or the application was away for too long.
    fn watch(&mut self, now: Now) {
        let Some(membership) = &mut self.membership else { return };
        if !membership.beats() || membership.lost {
            return;
        }
        let max_away = self.config.max_poll_interval_ms;
        if let Some(last_poll) = membership.last_poll
            && last_poll + millis(max_away) <= now.mono_us
        {
            membership.poll_exceeded = true;
            let over = (now.mono_us - last_poll) / 1000 - max_away as u64;
            let text = format!("the application did not poll within max.poll.interval.ms ({max_away} ms; {over} ms over)");
            self.error(None, offset::INVALID, KafkaError::new(ErrCode::MAX_POLL_EXCEEDED, text));
            self.send_leave();
            self.lose(now, true);
        } else if membership.last_heard + millis(self.config.session_timeout_ms) <= now.mono_us {
            self.forget_coordinator();
            self.lose(now, false);
        }
    }

    /// Something that decides over the group's partitions changed in the cluster.
    pub(super) fn cluster_changed(&mut self, _now: Now, cluster: &dyn Cluster) {
        let mut errors = Vec::new();
        for (key, partition) in &mut self.partitions {
            let error = match cluster.partition_count(&key.0) {
                Some(count) if key.1 >= count => ErrCode::UNKNOWN_PARTITION,
                Some(_) => ErrCode::NO_ERROR,
                None => match cluster.topic_error(&key.0) {
                    ErrorCode::LEADER_NOT_AVAILABLE => ErrCode::NO_ERROR,
                    error => ErrCode::from(error),
                },
            };
            if error != partition.cluster_error {
                partition.cluster_error = error;
                if error != ErrCode::NO_ERROR {
                    let text = format!("{} [{}]: {}", key.0, key.1, error.message());
                    errors.push((key.clone(), KafkaError::new(error, text)));
                }
            }
        }
        for (key, error) in errors {
            self.error(Some(key), offset::INVALID, error);
        }
        let Some(membership) = &mut self.membership else { return };
        if self.subscription.is_empty() {
            return;
        }
        let mut missing = Vec::new();
        for topic in self.subscription.names() {
            let error = cluster.topic_error(topic);
            if error == ErrorCode::NONE || error == ErrorCode::LEADER_NOT_AVAILABLE {
                membership.missing.remove(topic);
            } else if membership.missing.insert(topic.clone()) {
                let error = ErrCode::from(error);
                missing.push(KafkaError::new(
                    error,
                    format!("Subscribed topic not available: {topic}: {}", error.message()),
                ));
            }
        }
        let names = if self.subscription.has_patterns() { cluster.topic_names() } else { Vec::new() };
        if membership.generation >= 0 {
            let changed = self.subscription.topics(names.iter()) != membership.joined_topics;
            let resized = membership.is_leader
                && !matches!(membership.phase, Phase::AwaitingTopics(..))
                && counts(&membership.group_topics, cluster) != membership.shared_out;
            membership.rejoin |= changed || resized;
        }
        for error in missing {
            self.error(None, offset::INVALID, error);
        }
    }

    /// Patterns mean nothing before the first metadata.
    fn can_name_topics(&self) -> bool {
        !self.subscription.has_patterns() || self.cluster_version.is_some_and(|version| version > 0)
    }

    fn send_join(&mut self, cluster: &dyn Cluster) {
        let names = if self.subscription.has_patterns() { cluster.topic_names() } else { Vec::new() };
        let topics = self.subscription.topics(names.iter());
        let Some(membership) = &mut self.membership else { return };
        membership.rejoin = false;
        membership.joined_topics = topics.clone();
        let protocols = self.config.partition_assignment_strategy.iter().map(|assignor| {
            let owned = match assignor.is_cooperative() {
                true => self.partitions.keys().cloned().collect(),
                false => BTreeSet::new(),
            };
            let subscription = MemberSubscription {
                topics: topics.clone(),
                owned,
                generation: membership.generation,
                ..Default::default()
            };
            JoinGroupRequestProtocol {
                name: Str::from_static(assignor.name()),
                metadata: group_messages::encode_subscription(*assignor, &subscription, &self.config.client_rack),
                ..Default::default()
            }
        });
        let request = Request::JoinGroup(JoinGroupRequest {
            group_id: membership.group.clone(),
            session_timeout_ms: self.config.session_timeout_ms,
            rebalance_timeout_ms: self.config.max_poll_interval_ms,
            member_id: membership.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
            protocol_type: self.config.group_protocol_type.clone(),
            protocols: protocols.collect(),
            ..Default::default()
        });
        let timeout = self.config.max_poll_interval_ms.saturating_add(JOIN_GRACE_MS);
        let token = self.send(To::Coordinator, request, timeout, Purpose::Join);
        self.set_phase(Phase::Joining(token));
    }

    /// JoinGroup's answer.
    pub(super) fn joined(&mut self, now: Now, token: u64, reply: Result<Response, KafkaError>) {
        let Some(membership) = &mut self.membership else { return };
        if !matches!(membership.phase, Phase::Joining(t) if t == token) {
            return;
        }
        let response = match reply {
            Ok(Response::JoinGroup(response)) => response,
            Ok(other) => return self.join_failed(now, KafkaError::unexpected(&other)),
            Err(error) => return self.join_failed(now, error),
        };
        match response.error_code {
            ErrorCode::NONE => {}
            ErrorCode::MEMBER_ID_REQUIRED => {
                membership.member_id = response.member_id;
                return self.set_phase(Phase::Waiting(now.mono_us));
            }
            error => return self.join_failed(now, KafkaError::from(error)),
        }
        let JoinGroupResponse { generation_id, member_id, leader, protocol_name, members, .. } = response;
        let assignor = protocol_name.as_ref().and_then(|name| Assignor::from_name(name));
        let Some(assignor) = assignor else {
            return self.join_failed(now, KafkaError::from(ErrCode::UNKNOWN_PROTOCOL));
        };
        membership.is_leader = leader == member_id;
        membership.member_id = member_id;
        membership.generation = generation_id;
        membership.assignor = Some(assignor);
        membership.lost = false;
        membership.last_heard = now.mono_us;
        membership.next_heartbeat = now.after_ms(i64::from(self.config.heartbeat_interval_ms));
        if !membership.is_leader {
            return self.send_sync(Vec::new());
        }
        let mut subscriptions = Vec::with_capacity(members.len());
        for member in members {
            let read = group_messages::decode_subscription(assignor, &member.metadata);
            let Some(read) = read else {
                let text = format!("member {} of the group has a subscription that can't be read", member.member_id);
                return self.join_failed(now, KafkaError::new(ErrCode::BAD_MSG, text));
            };
            subscriptions.push(MemberSubscription {
                member_id: member.member_id,
                instance_id: member.group_instance_id,
                ..read
            });
        }
        let topics: BTreeSet<Str> = subscriptions.iter().flat_map(|s| s.topics.iter().cloned()).collect();
        membership.group_topics = topics.clone();
        let also: Vec<Str> = topics.into_iter().collect();
        self.set_phase(Phase::AwaitingTopics(subscriptions, now.after_ms(LEADER_METADATA_MS)));
        self.want_topics(&also, false);
    }

    fn join_failed(&mut self, now: Now, error: KafkaError) {
        let Some(membership) = &mut self.membership else { return };
        let mut wait = i64::from(self.config.retry_backoff_ms);
        if error.code == ErrCode::FENCED_INSTANCE_ID {
            return self.fenced(now, error);
        }
        if error.is_coordinator_lost() {
            self.forget_coordinator();
        } else if error.code == ErrCode::UNKNOWN_MEMBER_ID {
            membership.member_id = Str::new();
            membership.generation = -1;
            wait = 0;
        } else if error.code == ErrCode::ILLEGAL_GENERATION {
            membership.generation = -1;
            wait = 0;
        } else if error.code == ErrCode::REBALANCE_IN_PROGRESS {
            wait = 0;
        } else if !error.retriable {
            wait = 1_000;
            let text = format!("joining the group failed: {}", error.message);
            self.error(None, offset::INVALID, KafkaError::new(error.code, text));
        }
        // A cooperative member still holds partitions; without a generation it has lost them.
        let lost = self.generation() == -1 && !self.partitions.is_empty();
        self.set_phase(Phase::Waiting(now.after_ms(wait)));
        if lost {
            self.lose(now, false);
        }
    }

    /// The leader's work: what every member gets.
    fn share_out(&mut self, members: &[MemberSubscription], cluster: &dyn Cluster) {
        let Some(membership) = &mut self.membership else { return };
        let Some(assignor) = membership.assignor else { return };
        membership.shared_out = counts(&membership.group_topics, cluster);
        let assignment = assignor.assign(members, &membership.shared_out);
        let assignments = assignment.into_iter().map(|(member_id, partitions)| SyncGroupRequestAssignment {
            member_id,
            assignment: group_messages::encode_assignment(&partitions),
            ..Default::default()
        });
        self.send_sync(assignments.collect());
    }

    fn send_sync(&mut self, assignments: Vec<SyncGroupRequestAssignment>) {
        let Some(membership) = &self.membership else { return };
        let request = Request::SyncGroup(SyncGroupRequest {
            group_id: membership.group.clone(),
            generation_id: membership.generation,
            member_id: membership.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
            protocol_type: Some(self.config.group_protocol_type.clone()),
            protocol_name: membership.assignor.map(|assignor| Str::from_static(assignor.name())),
            assignments,
            ..Default::default()
        });
        let timeout = self.config.max_poll_interval_ms.saturating_add(JOIN_GRACE_MS);
        let token = self.send(To::Coordinator, request, timeout, Purpose::Sync);
        self.set_phase(Phase::Syncing(token));
    }

    /// SyncGroup's answer: what this member gets.
    pub(super) fn synced(&mut self, now: Now, token: u64, reply: Result<Response, KafkaError>) {
        let Some(membership) = &mut self.membership else { return };
        if !matches!(membership.phase, Phase::Syncing(t) if t == token) {
            return;
        }
        let response = match reply {
            Ok(Response::SyncGroup(response)) => response,
            Ok(other) => return self.join_failed(now, KafkaError::unexpected(&other)),
            Err(error) => return self.join_failed(now, error),
        };
        if response.error_code != ErrorCode::NONE {
            return self.join_failed(now, KafkaError::from(response.error_code));
        }
        let Some(assigned) = group_messages::decode_assignment(&response.assignment) else {
            let text = "the assignment that the group's leader sent can't be read";
            return self.join_failed(now, KafkaError::new(ErrCode::BAD_MSG, text));
        };
        membership.last_heard = now.mono_us;
        let added: Vec<_> = assigned.iter().filter(|key| !self.partitions.contains_key(*key)).cloned().collect();
        let revoked: Vec<_> = self.partitions.keys().filter(|key| !assigned.contains(*key)).cloned().collect();
        if revoked.is_empty() {
            self.take_on(now, added);
        } else {
            self.revoke(now, Some(revoked), Then::Assign(added), false);
        }
    }

    /// Hands newly assigned partitions to the application.
    fn take_on(&mut self, now: Now, partitions: Vec<TopicPartition>) {
        self.set_phase(Phase::Assigning);
        self.event(ConsumerEvent::Rebalance { kind: RebalanceKind::Assign, partitions: partitions.clone() });
        if !self.config.rebalance_events {
            self.start_partitions(partitions.into_iter().map(|key| (key, Start::Stored)).collect());
            self.assignment_answered(now);
        }
    }

    /// Another member came or went, or this one's subscription changed.
    fn rebalance(&mut self, now: Now) {
        let given_up = match self.rebalance_protocol() {
            "COOPERATIVE" => {
                let joined = self.membership.as_ref().map(|m| &m.joined_topics);
                let still = |topic: &Str| match self.subscription.has_patterns() {
                    true => joined.is_some_and(|joined| joined.contains(topic)),
                    false => self.subscription.names().contains(topic),
                };
                Some(self.partitions.keys().filter(|(topic, _)| !still(topic)).cloned().collect())
            }
            _ => None,
        };
        self.revoke(now, given_up, Then::Rejoin, false);
    }

    /// Takes these partitions, or all of them, from the application, then goes on with `then`.
    fn revoke(&mut self, now: Now, partitions: Option<Vec<TopicPartition>>, then: Then, lost: bool) {
        let partitions = partitions.unwrap_or_else(|| self.assignment());
        let Some(membership) = &mut self.membership else { return };
        membership.lost = lost;
        if partitions.is_empty() {
            return self.given_up(now, then);
        }
        membership.commit_under_way = false;
        membership.phase = Phase::Revoking { partitions: partitions.clone(), then };
        let kind = if lost { RebalanceKind::Lost } else { RebalanceKind::Revoke };
        self.event(ConsumerEvent::Rebalance { kind, partitions: partitions.clone() });
        if !self.config.rebalance_events {
            if !lost && self.commit_given_up(now, |key| partitions.contains(key)) {
                self.rebalance_waits_for_commit();
            }
            self.remove_partitions(partitions.iter());
            self.assignment_answered(now);
        }
    }

    /// The member isn't one any more; its partitions may have other owners.
    fn lose(&mut self, now: Now, forget_member: bool) {
        let Some(membership) = &mut self.membership else { return };
        membership.generation = -1;
        if forget_member && self.config.group_instance_id.is_none() {
            membership.member_id = Str::new();
        }
        match &mut membership.phase {
            Phase::Out | Phase::Leaving(_) => {}
            Phase::Revoking { then, .. } | Phase::Committing(then) => {
                membership.lost = true;
                if matches!(then, Then::Assign(_)) {
                    // What is still held is lost as well; the next assignment will tell.
                    *then = Then::Rejoin;
                }
            }
            _ => self.revoke(now, None, Then::Rejoin, true),
        }
    }

    /// What is being given up has offsets to be committed first.
    pub(super) fn rebalance_waits_for_commit(&mut self) {
        if let Some(membership) = &mut self.membership {
            membership.commit_under_way = true;
        }
    }

    /// The application changed its assignment: if a rebalance waited for that, it goes on.
    pub(super) fn assignment_answered(&mut self, now: Now) {
        let Some(membership) = &mut self.membership else { return };
        match core::mem::replace(&mut membership.phase, Phase::Stable) {
            Phase::Assigning => {}
            Phase::Revoking { partitions, then } => {
                let wait = core::mem::take(&mut membership.commit_under_way);
                self.remove_partitions(partitions.iter());
                match wait {
                    true => self.set_phase(Phase::Committing(then)),
                    false => self.given_up(now, then),
                }
            }
            other => membership.phase = other,
        }
    }

    /// The commit of what was given up has ended, well or not.
    pub(super) fn given_up_committed(&mut self, now: Now) {
        let Some(membership) = &mut self.membership else { return };
        membership.commit_under_way = false;
        match core::mem::replace(&mut membership.phase, Phase::Stable) {
            Phase::Committing(then) => self.given_up(now, then),
            other => membership.phase = other,
        }
    }

    fn given_up(&mut self, now: Now, then: Then) {
        match then {
            Then::Rejoin => self.set_phase(Phase::Waiting(now.mono_us)),
            Then::Assign(added) => {
                if let Some(membership) = &mut self.membership {
                    membership.rejoin = true;
                }
                self.take_on(now, added);
            }
            Then::Leave => match self.send_leave() {
                Some(token) => self.set_phase(Phase::Leaving(token)),
                None => self.out(now),
            },
        }
    }

    /// Tells the coordinator that the member goes. A static one doesn't: it may be back soon.
    fn send_leave(&mut self) -> Option<u64> {
        let membership = self.membership.as_mut()?;
        if membership.member_id.is_empty() || self.config.group_instance_id.is_some() {
            return None;
        }
        let member_id = core::mem::take(&mut membership.member_id);
        membership.generation = -1;
        let member = MemberIdentity { member_id: member_id.clone(), ..Default::default() };
        let request = Request::LeaveGroup(LeaveGroupRequest {
            group_id: membership.group.clone(),
            member_id,
            members: vec![member],
            ..Default::default()
        });
        Some(self.send(To::Coordinator, request, LEAVE_TIMEOUT_MS, Purpose::Leave))
    }

    /// LeaveGroup was answered, or wasn't: it makes no difference.
    pub(super) fn left(&mut self, now: Now, token: u64) {
        if matches!(self.membership.as_ref().map(|m| &m.phase), Some(Phase::Leaving(t)) if *t == token) {
            self.out(now);
        }
    }

    fn out(&mut self, now: Now) {
        let again = !self.subscription.is_empty() && !self.closing && self.fatal.is_none();
        if let Some(membership) = &mut self.membership {
            membership.generation = -1;
            membership.assignor = None;
            membership.is_leader = false;
            membership.lost = false;
            membership.phase = if again { Phase::Waiting(now.mono_us) } else { Phase::Out };
        }
    }

    /// Heartbeat's answer.
    pub(super) fn heartbeat_answered(&mut self, now: Now, reply: Result<Response, KafkaError>) {
        let Some(membership) = &mut self.membership else { return };
        membership.heartbeat_under_way = false;
        membership.next_heartbeat = now.after_ms(i64::from(self.config.heartbeat_interval_ms));
        if !membership.beats() {
            return;
        }
        let error = match reply {
            Ok(Response::Heartbeat(response)) => KafkaError::from(response.error_code),
            Ok(other) => KafkaError::unexpected(&other),
            Err(error) => error,
        };
        match error.code {
            ErrCode::NO_ERROR => membership.last_heard = now.mono_us,
            ErrCode::REBALANCE_IN_PROGRESS => {
                membership.last_heard = now.mono_us;
                membership.rejoin = true;
            }
            ErrCode::UNKNOWN_MEMBER_ID => self.lose(now, true),
            ErrCode::ILLEGAL_GENERATION => self.lose(now, false),
            ErrCode::FENCED_INSTANCE_ID => self.fenced(now, error),
            _ => {
                membership.next_heartbeat = now.after_ms(i64::from(self.config.retry_backoff_ms));
                if error.is_coordinator_lost() {
                    self.forget_coordinator();
                }
            }
        }
    }

    /// Another consumer with the same `group.instance.id` took this one's place: it can't go on.
    pub(super) fn fenced(&mut self, now: Now, error: KafkaError) {
        if self.fatal.is_some() {
            return;
        }
        let text = format!("fatal: {}", error.message);
        let fatal = KafkaError { fatal: true, ..KafkaError::new(error.code, text) };
        self.fatal = Some(fatal.clone());
        self.error(None, offset::INVALID, fatal);
        self.subscription = Subscription::default();
        if let Some(membership) = &mut self.membership {
            membership.member_id = Str::new();
            membership.generation = -1;
        }
        self.revoke(now, None, Then::Leave, true);
    }

    /// Gives everything up, commits, leaves the group. [`ConsumerEvent::Closed`] tells the end.
    pub(crate) fn close(&mut self, now: Now) {
        if self.closing {
            return;
        }
        self.closing = true;
        let is_out = self.membership.as_ref().is_none_or(|m| matches!(m.phase, Phase::Out));
        self.unsubscribe(now);
        if is_out {
            self.unassign(now);
        }
    }

    /// Ends the close when nothing is under way any more.
    pub(super) fn serve_close(&mut self) {
        let is_out = self.membership.as_ref().is_none_or(|m| matches!(m.phase, Phase::Out));
        let commits = self.in_flight.values().any(|purpose| matches!(purpose, Purpose::Commit(_)));
        if self.closing && is_out && !commits && self.retry_commits.is_empty() {
            self.closed = true;
            self.in_flight.clear();
            self.event(ConsumerEvent::Closed);
        }
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(membership) = &mut self.membership {
            membership.phase = phase;
        }
    }

    /// The partitions of a rebalance event as arguments of `assign`.
    pub(crate) fn as_stored(partitions: &[TopicPartition]) -> Vec<PartitionOffset> {
        partitions.iter().map(|(topic, p)| PartitionOffset::new(topic.clone(), *p, offset::INVALID)).collect()
    }
}

fn counts(topics: &BTreeSet<Str>, cluster: &dyn Cluster) -> PartitionCounts {
    topics.iter().filter_map(|topic| Some((topic.clone(), cluster.partition_count(topic)?))).collect()
}

fn millis(ms: i32) -> u64 {
    ms.max(0) as u64 * 1000
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Rig, tp};
    use super::*;
    use std::string::ToString;

    fn cooperative(config: &mut super::super::ConsumerConfig) {
        config.partition_assignment_strategy = vec![Assignor::CooperativeSticky];
    }

    /// As if the application had taken records up to `offset` of partition `p` of topic a.
    fn consumed(rig: &mut Rig, p: i32, offset: i64) {
        rig.consumer.consumed_partition(&("a".into(), p)).unwrap().hand_out(offset - 1);
    }

    #[test]
    fn joins_with_the_member_id_it_is_given() {
        let mut rig = Rig::new(|_| {});
        rig.consumer.subscribe(rig.now, &["a".into()]).unwrap();
        let (token, join) = rig.take(|r| if let Request::JoinGroup(j) = r { Some(j.clone()) } else { None });
        assert_eq!(join.member_id, "");
        let names: Vec<_> = join.protocols.iter().map(|p| p.name.to_string()).collect();
        assert_eq!(names, ["range", "roundrobin"]);
        let required = JoinGroupResponse {
            error_code: ErrorCode::MEMBER_ID_REQUIRED,
            member_id: "me".into(),
            ..Default::default()
        };
        rig.reply(token, Ok(Response::JoinGroup(required)));
        assert_eq!(rig.joins(1, true, "range").member_id, "me");
        let sync = rig.syncs(None);
        assert_eq!((sync.generation_id, sync.assignments.len()), (1, 1));
        assert_eq!(rig.rebalance(), Some((RebalanceKind::Assign, 4)));
        assert_eq!(rig.committed(7).len(), 4);
        assert!(rig.fetch().1.contains(&("a".into(), 1, 7)));
        assert_eq!((rig.consumer.member_id().to_string(), rig.consumer.generation()), ("me".to_string(), 1));
        assert_eq!(rig.consumer.rebalance_protocol(), "EAGER");
    }

    #[test]
    fn subscribe_needs_a_group_and_good_patterns() {
        let mut rig = Rig::new(|c| c.group_id = None);
        let error = rig.consumer.subscribe(rig.now, &["a".into()]).unwrap_err();
        assert_eq!(error.code, ErrCode::UNKNOWN_GROUP);
        let mut rig = Rig::new(|_| {});
        let error = rig.consumer.subscribe(rig.now, &["^(".into()]).unwrap_err();
        assert_eq!(error.code, ErrCode::INVALID_ARG);
        assert!(rig.consumer.subscription().is_empty());
    }

    #[test]
    fn eager_rebalance_commits_before_it_joins_again() {
        let mut rig = Rig::subscribed_alone(|c| c.auto_commit_interval_ms = 60_000);
        rig.committed(0);
        consumed(&mut rig, 2, 9);
        rig.beats(ErrorCode::NONE).beats(ErrorCode::REBALANCE_IN_PROGRESS);
        assert_eq!(rig.rebalance(), Some((RebalanceKind::Assign, 4)));
        assert_eq!(rig.rebalance(), Some((RebalanceKind::Revoke, 4)));
        assert!(rig.consumer.assignment().is_empty());
        assert!(!rig.waiting().contains("JoinGroup"));
        assert_eq!(rig.commits(ErrorCode::NONE), [("a".into(), 2, 9)]);
        rig.joins(2, false, "range");
        rig.syncs(Some(&[("a", 0)]));
        assert_eq!(rig.rebalance(), Some((RebalanceKind::Assign, 1)));
        assert_eq!(rig.consumer.assignment(), [("a".into(), 0)]);
    }

    #[test]
    fn waits_for_the_applications_answers() {
        let mut rig = Rig::subscribed_alone(|c| c.rebalance_events = true);
        assert_eq!(rig.rebalance(), Some((RebalanceKind::Assign, 4)));
        assert!(rig.consumer.assignment().is_empty());
        let error = rig.consumer.incremental_assign(rig.now, &[tp("a", 0)]).unwrap_err();
        assert_eq!(error.code, ErrCode::STATE);
        let mut chosen = tp("a", 1);
        chosen.offset = 50;
        rig.consumer.assign(rig.now, &[chosen]).unwrap();
        assert_eq!(rig.fetch().1, [("a".into(), 1, 50)]);

        rig.beats(ErrorCode::REBALANCE_IN_PROGRESS);
        assert_eq!(rig.rebalance(), Some((RebalanceKind::Revoke, 1)));
        assert_eq!(rig.consumer.assignment().len(), 1);
        // It goes on beating while the application takes its time.
        rig.beats(ErrorCode::REBALANCE_IN_PROGRESS);
        assert!(!rig.waiting().contains("JoinGroup"));
        rig.consumer.unassign(rig.now);
        rig.joins(2, true, "range");
    }

    #[test]
    fn cooperative_members_keep_what_they_can() {
        let mut rig = Rig::subscribed_alone(cooperative);
        assert_eq!(rig.consumer.rebalance_protocol(), "COOPERATIVE");
        rig.committed(0);
        consumed(&mut rig, 3, 5);
        assert_eq!(rig.rebalance(), Some((RebalanceKind::Assign, 4)));
        rig.beats(ErrorCode::REBALANCE_IN_PROGRESS);
        assert_eq!(rig.consumer.assignment().len(), 4);
        rig.joins(2, false, "cooperative-sticky");
        rig.syncs(Some(&[("a", 0), ("a", 1)]));
        assert_eq!(rig.rebalance(), Some((RebalanceKind::Revoke, 2)));
        assert_eq!(rig.commits(ErrorCode::NONE), [("a".into(), 3, 5)]);
        assert_eq!(rig.rebalance(), Some((RebalanceKind::Assign, 0)));
        // Having revoked, it joins once more, so that others get what it gave up.
        let join = rig.joins(3, false, "cooperative-sticky");
        let said = group_messages::decode_subscription(Assignor::CooperativeSticky, &join.protocols[0].metadata);
        let said = said.unwrap();
        assert_eq!((said.owned.len(), said.generation), (2, 2));
        rig.syncs(Some(&[("a", 0), ("a", 1), ("b", 1)]));
        assert_eq!(rig.rebalance(), Some((RebalanceKind::Assign, 1)));
        assert_eq!(rig.consumer.assignment().len(), 3);
        assert!(!rig.waiting().contains("JoinGroup"));
        let error = rig.consumer.assign(rig.now, &[tp("a", 0)]).unwrap_err();
        assert_eq!(error.code, ErrCode::STATE);
    }

    #[test]
    fn a_forgotten_member_loses_its_partitions_without_a_commit() {
        for (error, member) in [(ErrorCode::UNKNOWN_MEMBER_ID, ""), (ErrorCode::ILLEGAL_GENERATION, "me")] {
            let mut rig = Rig::subscribed_alone(|c| c.rebalance_events = true);
            rig.consumer.assign(rig.now, &[tp("a", 0)]).unwrap();
            rig.committed(0);
            consumed(&mut rig, 0, 9);
            rig.beats(error);
            assert_eq!(rig.rebalance(), Some((RebalanceKind::Assign, 4)));
            assert_eq!(rig.rebalance(), Some((RebalanceKind::Lost, 1)));
            assert!(rig.consumer.is_assignment_lost());
            rig.consumer.unassign(rig.now);
            assert!(!rig.waiting().contains("OffsetCommit"));
            assert_eq!(rig.joins(2, true, "range").member_id, member);
            assert!(!rig.consumer.is_assignment_lost());
        }
    }

    #[test]
    fn a_silent_coordinator_ends_the_session() {
        let mut rig = Rig::subscribed_alone(|_| {});
        rig.run(44_000);
        assert_eq!(rig.consumer.assignment().len(), 4);
        rig.run(1_000);
        assert!(rig.consumer.assignment().is_empty());
        assert_eq!(rig.forgotten, 1);
        rig.joins(2, true, "range");
    }

    #[test]
    fn an_application_that_does_not_poll_leaves() {
        let mut rig = Rig::subscribed_alone(|c| c.max_poll_interval_ms = 10_000);
        for _ in 0..3 {
            rig.beats(ErrorCode::NONE);
        }
        rig.run(1_000);
        assert!(rig.waiting().contains("LeaveGroup"));
        assert!(!rig.waiting().contains("JoinGroup"));
        assert!(rig.consumer.assignment().is_empty());
        assert_eq!(rig.polled(), "error -147");
        assert_eq!(rig.joins(2, true, "range").member_id, "");
    }

    #[test]
    fn waiting_in_a_poll_is_not_being_away() {
        let mut rig = Rig::subscribed_alone(|c| c.max_poll_interval_ms = 5_000);
        rig.consumer.application_waits(rig.now, true);
        for _ in 0..3 {
            rig.beats(ErrorCode::NONE);
        }
        assert_eq!(rig.consumer.assignment().len(), 4);
    }

    #[test]
    fn a_fenced_static_member_is_done_for() {
        let mut rig = Rig::subscribed_alone(|c| c.group_instance_id = Some("i".into()));
        rig.beats(ErrorCode::FENCED_INSTANCE_ID);
        assert_eq!(rig.polled(), "error 82");
        assert!(rig.consumer.assignment().is_empty());
        assert_eq!(rig.consumer.subscribe(rig.now, &["a".into()]).unwrap_err().code, ErrCode::FATAL);
        assert!(!rig.waiting().contains("LeaveGroup"));
    }

    #[test]
    fn new_topics_and_partitions_lead_to_another_join() {
        let mut rig = Rig::new(|_| {});
        rig.consumer.subscribe(rig.now, &["^[ac]$".into()]).unwrap();
        rig.joins(1, true, "range");
        rig.syncs(None);
        assert_eq!(rig.consumer.assignment().len(), 4);
        rig.table.topics.insert("c".into(), 1);
        rig.table.version += 1;
        rig.joins(2, true, "range");
        rig.syncs(None);
        assert_eq!(rig.consumer.assignment().len(), 5);
        rig.table.topics.insert("a".into(), 6);
        rig.table.version += 1;
        rig.joins(3, true, "range");
        rig.syncs(None);
        assert_eq!(rig.consumer.assignment().len(), 7);
    }

    #[test]
    fn a_missing_topic_is_told_once() {
        let mut rig = Rig::new(|_| {});
        rig.table.errors.insert("x".into(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        rig.consumer.subscribe(rig.now, &["x".into()]).unwrap();
        rig.run(0);
        assert_eq!(rig.polled(), "error 3");
        rig.table.version += 1;
        assert_eq!(rig.run(0).polled(), "");
        rig.joins(1, true, "range");
        rig.syncs(None);
        rig.table.errors.clear();
        rig.table.topics.insert("x".into(), 2);
        rig.table.version += 1;
        rig.joins(2, true, "range");
        rig.syncs(None);
        assert_eq!(rig.consumer.assignment().len(), 2);
    }

    #[test]
    fn unsubscribe_and_close_commit_and_leave() {
        for close in [false, true] {
            let mut rig = Rig::subscribed_alone(|_| {});
            rig.committed(0);
            consumed(&mut rig, 1, 3);
            if close { rig.consumer.close(rig.now) } else { rig.consumer.unsubscribe(rig.now) }
            assert!(!rig.waiting().contains("LeaveGroup"));
            assert_eq!(rig.commits(ErrorCode::NONE), [("a".into(), 1, 3)]);
            let (token, leave) = rig.take(|r| if let Request::LeaveGroup(l) = r { Some(l.clone()) } else { None });
            assert_eq!(leave.members[0].member_id, "me");
            rig.reply(token, Ok(Response::LeaveGroup(Default::default())));
            assert_eq!(rig.consumer.closed, close);
            assert_eq!(rig.consumer.poll_timeout(), None);
        }
    }

    #[test]
    fn a_static_member_closes_without_leaving() {
        let mut rig = Rig::subscribed_alone(|c| c.group_instance_id = Some("i".into()));
        rig.consumer.close(rig.now);
        assert!(!rig.waiting().contains("LeaveGroup"));
        assert!(rig.consumer.closed);
    }

    #[test]
    fn a_failed_join_is_tried_again() {
        let mut rig = Rig::new(|_| {});
        rig.consumer.subscribe(rig.now, &["a".into()]).unwrap();
        let (token, ()) = rig.take(|r| if let Request::JoinGroup(_) = r { Some(()) } else { None });
        rig.reply(token, Err(KafkaError::from(ErrCode::TRANSPORT)));
        assert_eq!((rig.waiting().as_str(), rig.forgotten), ("", 1));
        assert_eq!(rig.run(100).waiting(), "JoinGroup");
    }
}
