//! Rebalances: what a member gets and gives up, and the application's answers to both.

use super::assignors::TopicPartition;
use super::machine::{Consumer, ConsumerEvent, RebalanceKind};
use super::membership::{Phase, Then};
use super::offset::Start;
use alloc::vec::Vec;
use ottla_protocol::Str;
use ottla_record::Now;

impl Consumer {
    /// Hands newly assigned partitions to the application.
    pub(super) fn take_on(&mut self, now: Now, partitions: Vec<TopicPartition>) {
        self.set_phase(Phase::Assigning);
        self.event(ConsumerEvent::Rebalance {
            kind: RebalanceKind::Assign,
            partitions: partitions.clone(),
        });
        if !self.config.rebalance_events {
            self.start_partitions(
                partitions
                    .into_iter()
                    .map(|key| (key, Start::Stored))
                    .collect(),
            );
            self.assignment_answered(now);
        }
    }

    /// Another member came or went, or this one's subscription changed.
    pub(super) fn rebalance(&mut self, now: Now) {
        let given_up = match self.rebalance_protocol() {
            "COOPERATIVE" => {
                let joined = self.membership.as_ref().map(|m| &m.joined_topics);
                let still = |topic: &Str| match self.subscription.has_patterns() {
                    true => joined.is_some_and(|joined| joined.contains(topic)),
                    false => self.subscription.names().contains(topic),
                };
                Some(
                    self.partitions
                        .keys()
                        .filter(|(topic, _)| !still(topic))
                        .cloned()
                        .collect(),
                )
            }
            _ => None,
        };
        self.revoke(now, given_up, Then::Rejoin, false);
    }

    /// Takes these partitions, or all of them, from the application, then goes on with `then`.
    pub(super) fn revoke(
        &mut self,
        now: Now,
        partitions: Option<Vec<TopicPartition>>,
        then: Then,
        lost: bool,
    ) {
        let partitions = partitions.unwrap_or_else(|| self.assignment());
        let Some(membership) = &mut self.membership else {
            return;
        };
        membership.lost = lost;
        if partitions.is_empty() {
            return self.given_up(now, then);
        }
        membership.commit_under_way = false;
        membership.phase = Phase::Revoking {
            partitions: partitions.clone(),
            then,
        };
        let kind = if lost {
            RebalanceKind::Lost
        } else {
            RebalanceKind::Revoke
        };
        self.event(ConsumerEvent::Rebalance {
            kind,
            partitions: partitions.clone(),
        });
        if !self.config.rebalance_events {
            if !lost && self.commit_given_up(now, |key| partitions.contains(key)) {
                self.rebalance_waits_for_commit();
            }
            self.remove_partitions(partitions.iter());
            self.assignment_answered(now);
        }
    }

    /// The member isn't one any more; its partitions may have other owners.
    pub(super) fn lose(&mut self, now: Now, forget_member: bool) {
        let Some(membership) = &mut self.membership else {
            return;
        };
        membership.generation = -1;
        if forget_member {
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
        let Some(membership) = &mut self.membership else {
            return;
        };
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
        let Some(membership) = &mut self.membership else {
            return;
        };
        membership.commit_under_way = false;
        match core::mem::replace(&mut membership.phase, Phase::Stable) {
            Phase::Committing(then) => self.given_up(now, then),
            other => membership.phase = other,
        }
    }

    pub(super) fn given_up(&mut self, now: Now, then: Then) {
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
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Rig, tp};
    use super::*;
    use crate::consumer::assignors::Assignor;
    use crate::consumer::group_messages;
    use crate::error::ErrCode;
    use alloc::vec;
    use ottla_protocol::ErrorCode;

    fn cooperative(config: &mut crate::consumer::config::ConsumerConfig) {
        config.partition_assignment_strategy = vec![Assignor::CooperativeSticky];
    }

    /// As if the application had taken records up to `offset` of partition `p` of topic a.
    fn consumed(rig: &mut Rig, p: i32, offset: i64) {
        rig.consumer
            .consumed_partition(&("a".into(), p))
            .unwrap()
            .hand_out(offset - 1);
    }

    #[test]
    fn eager_rebalance_commits_before_it_joins_again() {
        let mut rig = Rig::subscribed_alone(|c| c.auto_commit_interval_ms = 60_000);
        rig.committed(0);
        consumed(&mut rig, 2, 9);
        rig.beats(ErrorCode::NONE)
            .beats(ErrorCode::REBALANCE_IN_PROGRESS);
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
        let error = rig
            .consumer
            .incremental_assign(rig.now, &[tp("a", 0)])
            .unwrap_err();
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
    fn an_assignment_answered_while_closing_is_taken_as_none() {
        let mut rig = Rig::subscribed_alone(|c| c.rebalance_events = true);
        assert_eq!(rig.rebalance(), Some((RebalanceKind::Assign, 4)));
        rig.consumer.close(rig.now);
        assert_eq!(rig.consumer.assign(rig.now, &[tp("a", 0)]), Ok(()));
        assert!(rig.consumer.assignment().is_empty());
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
        let said = group_messages::decode_subscription(
            Assignor::CooperativeSticky,
            &join.protocols[0].metadata,
        );
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
        for (error, member) in [
            (ErrorCode::UNKNOWN_MEMBER_ID, ""),
            (ErrorCode::ILLEGAL_GENERATION, "me"),
        ] {
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
}
