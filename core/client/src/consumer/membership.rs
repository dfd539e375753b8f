//! The member of a classic group: join, sync, heartbeat, rebalance, leave.
//!
//! One rebalance goes through the phases of [`Phase`] in their order. The application's partitions change only in
//! `Assigning` and `Revoking`, either at once or, with `rebalance_events`, when it answers.

use super::assignors::{Assignor, MemberSubscription, PartitionCounts, TopicPartition};
use super::failures::{coordinator_lost, describe, unexpected};
use super::machine::{Cluster, Consumer, Purpose, To};
use super::offset::{self};
use super::subscription::Subscription;
use crate::error::{ErrCode, KafkaError};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;
use ottla_protocol::messages::heartbeat::HeartbeatRequest;
use ottla_protocol::{ErrorCode, Request, Response, Str};
use ottla_record::Now;

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
    Revoking {
        partitions: Vec<TopicPartition>,
        then: Then,
    },
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
    pub(super) group: Str,
    pub(super) member_id: Str,
    pub(super) generation: i32,
    pub(super) phase: Phase,
    /// What the group's members agreed on; before the first join the first of the own list.
    pub(super) assignor: Option<Assignor>,
    pub(super) is_leader: bool,
    /// The member that shares the partitions out.
    pub(super) leader_id: Str,
    /// Rejoin as soon as the current rebalance is over.
    pub(super) rejoin: bool,
    pub(super) lost: bool,
    /// The partitions are given up while a commit of theirs is under way.
    pub(super) commit_under_way: bool,
    pub(super) next_heartbeat: u64,
    pub(super) heartbeat_under_way: bool,
    pub(super) last_heard: u64,
    /// When the application polled last; `None` while it is waiting in a poll.
    pub(super) last_poll: Option<u64>,
    pub(super) poll_exceeded: bool,
    pub(super) joined_topics: BTreeSet<Str>,
    /// The topics of all members and their sizes when the leader shared them out.
    pub(super) shared_out: PartitionCounts,
    pub(super) group_topics: BTreeSet<Str>,
    pub(super) missing: BTreeSet<Str>,
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
            leader_id: Str::new(),
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
        let member = matches!(
            self.phase,
            AwaitingTopics(..) | Assigning | Revoking { .. } | Committing(_) | Stable
        );
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
            KafkaError::new(
                ErrCode::INVALID_ARG,
                format!("\"{}\" can't be subscribed to", bad.0),
            )
        })?;
        self.cluster_version = None;
        self.want_topics(&[], false);
        let Some(membership) = &mut self.membership else {
            return Ok(());
        };
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
        self.membership
            .as_ref()
            .map(|m| m.member_id.clone())
            .unwrap_or_default()
    }

    /// The group's generation; -1 while not in a group.
    pub(crate) fn generation(&self) -> i32 {
        self.membership.as_ref().map_or(-1, |m| m.generation)
    }

    /// Where the member stands, in librdkafka's words for its statistics (`cgrp.join_state`); `steady` is one that has taken
    /// on what its generation assigned.
    pub(crate) fn join_state(&self) -> &'static str {
        match self.membership.as_ref().map(|m| &m.phase) {
            None | Some(Phase::Out | Phase::Waiting(_) | Phase::Leaving(_)) => "init",
            Some(Phase::Joining(_)) => "wait-join",
            Some(Phase::AwaitingTopics(..)) => "wait-metadata",
            Some(Phase::Syncing(_)) => "wait-sync",
            Some(Phase::Assigning) => "wait-assign-call",
            Some(Phase::Revoking { .. }) => "wait-unassign-call",
            Some(Phase::Committing(_)) => "wait-unassign-to-complete",
            Some(Phase::Stable) => "steady",
        }
    }

    /// `NONE`, `EAGER` or `COOPERATIVE`, as librdkafka names what the group agreed on.
    pub(crate) fn rebalance_protocol(&self) -> &'static str {
        match self.membership.as_ref().and_then(|m| m.assignor) {
            None => "NONE",
            Some(assignor) if assignor.is_cooperative() => "COOPERATIVE",
            Some(_) => "EAGER",
        }
    }

    /// The member id of the group's leader and the assignor that the members agreed on; `None` outside of a group.
    pub(crate) fn leadership(&self) -> Option<(Str, &'static str)> {
        let membership = self.membership.as_ref().filter(|m| m.generation >= 0)?;
        Some((membership.leader_id.clone(), membership.assignor?.name()))
    }

    pub(super) fn is_cooperative_member(&self) -> bool {
        self.is_member() && self.rebalance_protocol() == "COOPERATIVE"
    }

    pub(super) fn is_eager_member(&self) -> bool {
        self.is_member() && self.rebalance_protocol() == "EAGER"
    }

    fn is_member(&self) -> bool {
        self.membership
            .as_ref()
            .is_some_and(|m| m.generation >= 0 && !m.lost)
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
        let Some(membership) = &mut self.membership else {
            return;
        };
        if membership.rejoin && matches!(membership.phase, Phase::Stable) {
            membership.rejoin = false;
            self.rebalance(now);
        }
        let can_name_topics = self.can_name_topics();
        let Some(membership) = &mut self.membership else {
            return;
        };
        let can_join = can_name_topics && !membership.poll_exceeded;
        match &mut membership.phase {
            Phase::Waiting(at) if *at <= now.mono_us && can_join => self.send_join(cluster),
            Phase::AwaitingTopics(members, deadline) => {
                let known = |topic: &Str| {
                    cluster.partition_count(topic).is_some()
                        || cluster.topic_error(topic) != ErrorCode::NONE
                };
                if membership.group_topics.iter().all(known) || *deadline <= now.mono_us {
                    let members = core::mem::take(members);
                    self.share_out(&members, cluster);
                }
            }
            _ => {}
        }
        let Some(membership) = &mut self.membership else {
            return;
        };
        if membership.beats()
            && !membership.heartbeat_under_way
            && membership.next_heartbeat <= now.mono_us
        {
            membership.heartbeat_under_way = true;
            let request = Request::Heartbeat(HeartbeatRequest {
                group_id: membership.group.clone(),
                generation_id: membership.generation,
                member_id: membership.member_id.clone(),
                group_instance_id: self.config.group_instance_id.clone(),
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
        let heartbeat = (membership.beats() && !membership.heartbeat_under_way)
            .then_some(membership.next_heartbeat);
        let session = membership
            .beats()
            .then(|| membership.last_heard + millis(self.config.session_timeout_ms));
        let away = (membership.beats() && !membership.poll_exceeded)
            .then(|| Some(membership.last_poll? + millis(self.config.max_poll_interval_ms)))
            .flatten();
        step.into_iter()
            .chain(heartbeat)
            .chain(session)
            .chain(away)
            .min()
    }

    /// Gives the partitions up for lost when the coordinator or the application was away for too long.
    fn watch(&mut self, now: Now) {
        let Some(membership) = &mut self.membership else {
            return;
        };
        if !membership.beats() || membership.lost {
            return;
        }
        let max_away = self.config.max_poll_interval_ms;
        if let Some(last_poll) = membership.last_poll
            && last_poll + millis(max_away) <= now.mono_us
        {
            membership.poll_exceeded = true;
            let over = (now.mono_us - last_poll) / 1000 - max_away as u64;
            let text = format!(
                "the application did not poll within max.poll.interval.ms ({max_away} ms; {over} ms over)"
            );
            self.error(
                None,
                offset::INVALID,
                KafkaError::new(ErrCode::MAX_POLL_EXCEEDED, text),
            );
            self.send_leave();
            self.lose(now, self.config.group_instance_id.is_none());
        } else if membership.last_heard + millis(self.config.session_timeout_ms) <= now.mono_us {
            self.forget_coordinator();
            self.lose(now, false);
        }
    }

    /// Something that decides over the group's partitions changed in the cluster.
    pub(super) fn cluster_changed(&mut self, _now: Now, cluster: &dyn Cluster) {
        let mut errors = Vec::new();
        for (key, partition) in &mut self.partitions {
            if partition.leaderless && cluster.leader(&key.0, key.1).is_some() {
                partition.leaderless = false;
                partition.not_before = 0;
            }
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
                    let text = format!("{} [{}]: {}", key.0, key.1, describe(error));
                    errors.push((key.clone(), KafkaError::new(error, text)));
                }
            }
        }
        for (key, error) in errors {
            self.error(Some(key), offset::INVALID, error);
        }
        let Some(membership) = &mut self.membership else {
            return;
        };
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
                    format!(
                        "Subscribed topic not available: {topic}: {}",
                        describe(error)
                    ),
                ));
            }
        }
        let names = if self.subscription.has_patterns() {
            cluster.topic_names()
        } else {
            Vec::new()
        };
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

    /// Heartbeat's answer.
    pub(super) fn heartbeat_answered(&mut self, now: Now, reply: Result<Response, KafkaError>) {
        let Some(membership) = &mut self.membership else {
            return;
        };
        membership.heartbeat_under_way = false;
        membership.next_heartbeat = now.after_ms(i64::from(self.config.heartbeat_interval_ms));
        if !membership.beats() {
            return;
        }
        let error = match reply {
            Ok(Response::Heartbeat(response)) => KafkaError::from(response.error_code),
            Ok(other) => unexpected(&other),
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
                if coordinator_lost(&error) {
                    self.forget_coordinator();
                }
            }
        }
    }

    pub(super) fn set_phase(&mut self, phase: Phase) {
        if let Some(membership) = &mut self.membership {
            membership.phase = phase;
        }
    }
}

/// The sizes of those topics that exist.
pub(super) fn counts(topics: &BTreeSet<Str>, cluster: &dyn Cluster) -> PartitionCounts {
    topics
        .iter()
        .filter_map(|topic| Some((topic.clone(), cluster.partition_count(topic)?)))
        .collect()
}

fn millis(ms: i32) -> u64 {
    ms.max(0) as u64 * 1000
}

#[cfg(test)]
mod tests {
    use super::super::scripted::Rig;
    use super::*;

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
        rig.table
            .errors
            .insert("x".into(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
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
}
