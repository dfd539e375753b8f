//! Stored offsets and commits: by the application, by the clock, and of partitions that are given up.

use super::assignors::TopicPartition;
use super::by_topic;
use super::failures::{coordinator_lost, unexpected};
use super::machine::{Consumer, ConsumerEvent, OperationResult, PartitionOffset, Purpose, To};
use super::offset;
use crate::error::{ErrCode, KafkaError};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ottla_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::{ErrorCode, Request, Response};
use ottla_record::Now;

/// Who waits for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitFor {
    /// An operation of the application with this id.
    Operation(u64),
    /// Nobody, but the application is told by an event.
    Event,
    /// The rebalance that gives these partitions up; the application is told as well.
    Rebalance,
}

/// A commit under way.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) by: CommitFor,
    pub(super) offsets: Vec<PartitionOffset>,
    /// When it is given up, in monotonic microseconds.
    deadline: u64,
}

impl Consumer {
    /// Marks offsets to be committed by the next automatic or argument-less commit. Every partition gets its own
    /// result: `_STATE` if it isn't assigned, `_INVALID_ARG` if `enable.auto.offset.store` does it already.
    pub(crate) fn store_offsets(
        &mut self,
        offsets: &mut [PartitionOffset],
    ) -> Result<(), KafkaError> {
        if self.config.enable_auto_offset_store {
            let why = "offsets can't be stored by hand while enable.auto.offset.store is on";
            return Err(KafkaError::new(ErrCode::INVALID_ARG, why));
        }
        for wanted in &mut *offsets {
            wanted.error = match self.partitions.get_mut(&wanted.key()) {
                _ if wanted.offset < 0 => ErrCode::INVALID_ARG,
                Some(partition) => {
                    partition.shared.store(wanted.offset, wanted.leader_epoch);
                    partition.stored_metadata = wanted.metadata.clone();
                    ErrCode::NO_ERROR
                }
                None => ErrCode::STATE,
            };
        }
        match offsets
            .iter()
            .all(|o| o.error != ErrCode::NO_ERROR)
            .then(|| offsets.first())
        {
            Some(Some(first)) => Err(KafkaError::from(first.error)),
            _ => Ok(()),
        }
    }

    /// Commits `offsets`, or what is stored and not yet committed. With an `operation` its end is
    /// [`ConsumerEvent::Done`], otherwise [`ConsumerEvent::OffsetCommit`]. `_NO_OFFSET` if there is nothing to commit.
    pub(crate) fn commit(
        &mut self,
        now: Now,
        offsets: Option<Vec<PartitionOffset>>,
        operation: Option<u64>,
    ) -> Result<(), KafkaError> {
        self.group_id()?;
        let mut offsets = offsets.unwrap_or_else(|| self.uncommitted(|_| true));
        offsets.retain(|o| o.offset >= 0);
        if offsets.is_empty() {
            return Err(KafkaError::from(ErrCode::NO_OFFSET));
        }
        let by = operation.map_or(CommitFor::Event, CommitFor::Operation);
        let deadline = now.after_ms(i64::from(self.config.request_timeout_ms));
        self.send_commit(Commit {
            by,
            offsets,
            deadline,
        });
        Ok(())
    }

    /// What is stored and differs from what is committed.
    pub(super) fn uncommitted(
        &self,
        which: impl Fn(&TopicPartition) -> bool,
    ) -> Vec<PartitionOffset> {
        let stored = self.partitions.iter().filter(|(key, _)| which(key));
        let stored = stored.filter(|(_, partition)| {
            let stored = partition.shared.stored_offset();
            stored >= 0 && stored != partition.committed
        });
        let stored = stored.map(|(key, partition)| PartitionOffset {
            topic: key.0.clone(),
            partition: key.1,
            offset: partition.shared.stored_offset(),
            leader_epoch: partition.shared.stored_epoch(),
            metadata: partition.stored_metadata.clone(),
            error: ErrCode::NO_ERROR,
        });
        stored.collect()
    }

    /// Commits what the partitions that are about to be given up have stored. Whether there was anything.
    pub(super) fn commit_given_up(
        &mut self,
        now: Now,
        which: impl Fn(&TopicPartition) -> bool,
    ) -> bool {
        if !self.config.enable_auto_commit || self.config.group_id.is_none() {
            return false;
        }
        let offsets = self.uncommitted(which);
        if offsets.is_empty() {
            return false;
        }
        let deadline = now.after_ms(i64::from(
            self.config
                .session_timeout_ms
                .min(self.config.request_timeout_ms),
        ));
        self.send_commit(Commit {
            by: CommitFor::Rebalance,
            offsets,
            deadline,
        });
        true
    }

    /// Automatic commits, and another try for those that met a moving coordinator.
    pub(super) fn serve_commits(&mut self, now: Now) {
        let (due, later) = core::mem::take(&mut self.retry_commits)
            .into_iter()
            .partition(|(at, _)| *at <= now.mono_us);
        self.retry_commits = later;
        let due: Vec<(u64, Commit)> = due;
        due.into_iter()
            .for_each(|(_, commit)| self.send_commit(commit));

        let wanted = self.config.enable_auto_commit
            && self.config.auto_commit_interval_ms > 0
            && self.config.group_id.is_some()
            && !self.partitions.is_empty();
        if !wanted {
            self.next_auto_commit = None;
            return;
        }
        let next = now.after_ms(i64::from(self.config.auto_commit_interval_ms));
        match self.next_auto_commit {
            None => self.next_auto_commit = Some(next),
            Some(at) if at <= now.mono_us => {
                self.next_auto_commit = Some(next);
                let offsets = self.uncommitted(|_| true);
                if !offsets.is_empty() {
                    let deadline = now.after_ms(i64::from(self.config.request_timeout_ms));
                    self.send_commit(Commit {
                        by: CommitFor::Event,
                        offsets,
                        deadline,
                    });
                }
            }
            Some(_) => {}
        }
    }

    fn send_commit(&mut self, commit: Commit) {
        let partitions = commit.offsets.iter().map(|o| {
            let partition = OffsetCommitRequestPartition {
                partition_index: o.partition,
                committed_offset: o.offset,
                committed_leader_epoch: o.leader_epoch,
                committed_metadata: o.metadata.clone(),
            };
            (o.key().0, partition)
        });
        let topics = by_topic(partitions).into_iter();
        let topics = topics.map(|(name, partitions)| OffsetCommitRequestTopic {
            name,
            partitions,
            ..Default::default()
        });
        let (member_id, generation) = self
            .membership
            .as_ref()
            .map(|m| m.identity())
            .unwrap_or_default();
        let request = Request::OffsetCommit(OffsetCommitRequest {
            group_id: self.config.group_id.clone().unwrap_or_default(),
            generation_id_or_member_epoch: generation,
            group_instance_id: self
                .config
                .group_instance_id
                .clone()
                .filter(|_| !member_id.is_empty()),
            member_id,
            retention_time_ms: -1,
            topics: topics.collect(),
        });
        self.send(
            To::Coordinator,
            request,
            self.config.request_timeout_ms,
            Purpose::Commit(commit),
        );
    }

    /// The coordinator answered a commit, or didn't.
    pub(super) fn commit_answered(
        &mut self,
        now: Now,
        mut commit: Commit,
        reply: Result<Response, KafkaError>,
    ) {
        let mut whole: Option<KafkaError> = None;
        let mut results: BTreeMap<TopicPartition, ErrorCode> = BTreeMap::new();
        match reply {
            Ok(Response::OffsetCommit(response)) => {
                for topic in response.topics {
                    for p in topic.partitions {
                        results.insert((topic.name.clone(), p.partition_index), p.error_code);
                    }
                }
            }
            Ok(other) => whole = Some(unexpected(&other)),
            Err(error) => whole = Some(error),
        }
        for offset in &mut commit.offsets {
            let result = results.get(&offset.key()).copied();
            offset.error = match (&whole, result) {
                (Some(error), _) => error.code,
                (None, Some(code)) => ErrCode::from(code),
                (None, None) => ErrCode::NO_ERROR,
            };
            if offset.error == ErrCode::NO_ERROR
                && let Some(partition) = self.partitions.get_mut(&offset.key())
            {
                partition.committed = offset.offset;
            }
        }
        let errors = commit
            .offsets
            .iter()
            .map(|o| o.error)
            .filter(|error| *error != ErrCode::NO_ERROR);
        // The first error speaks for the whole only if nothing at all was committed.
        let all_failed = errors.clone().count() == commit.offsets.len();
        let first = errors.clone().next();
        let retry = first
            .map(KafkaError::from)
            .or(whole.clone())
            .is_some_and(|error| {
                if coordinator_lost(&error) {
                    self.forget_coordinator();
                }
                error.retriable && error.code != ErrCode::REBALANCE_IN_PROGRESS
            });
        if retry && all_failed && now.mono_us < commit.deadline {
            let at = now.after_ms(i64::from(self.config.retry_backoff_ms));
            self.retry_commits.push((at, commit));
            return;
        }
        if first == Some(ErrCode::FENCED_INSTANCE_ID) {
            self.fenced(now, KafkaError::from(ErrCode::FENCED_INSTANCE_ID));
        }
        let error = whole.or(first.filter(|_| all_failed).map(KafkaError::from));
        match commit.by {
            CommitFor::Operation(id) => {
                let result = match error {
                    Some(error) if commit.offsets.iter().all(|o| o.error == error.code) => {
                        Err(error)
                    }
                    _ => Ok(OperationResult::Offsets(commit.offsets)),
                };
                self.event(ConsumerEvent::Done { id, result });
            }
            CommitFor::Event | CommitFor::Rebalance => {
                let error = error.map_or(ErrCode::NO_ERROR, |error| error.code);
                self.event(ConsumerEvent::OffsetCommit {
                    error,
                    offsets: commit.offsets,
                });
            }
        }
        if commit.by == CommitFor::Rebalance {
            self.given_up_committed(now);
        }
    }

    /// What the application consumed last, behind its last record; [`offset::INVALID`] where it consumed nothing.
    pub(crate) fn position(&self, partitions: &mut [PartitionOffset]) {
        for wanted in partitions {
            match self.partitions.get(&wanted.key()) {
                Some(partition) => {
                    wanted.offset = partition.shared.position();
                    wanted.leader_epoch = partition.shared.position_epoch();
                    wanted.error = ErrCode::NO_ERROR;
                }
                None => (wanted.offset, wanted.error) = (offset::INVALID, ErrCode::NO_ERROR),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Rig, tp};
    use super::*;
    use alloc::vec;

    fn assigned(change: impl FnOnce(&mut crate::consumer::config::ConsumerConfig)) -> Rig {
        let mut rig = Rig::new(change);
        rig.consumer
            .assign(
                rig.now,
                &[
                    PartitionOffset::new("a", 0, 0),
                    PartitionOffset::new("a", 1, 0),
                ],
            )
            .unwrap();
        rig.run(0);
        rig.sent.clear();
        rig
    }

    fn hand_out(rig: &mut Rig, p: i32, last: i64) {
        rig.consumer
            .consumed_partition(&("a".into(), p))
            .unwrap()
            .hand_out(last);
    }

    fn event(rig: &mut Rig) -> Option<ConsumerEvent> {
        rig.consumer.poll_event()
    }

    #[test]
    fn stored_offsets_are_committed_by_the_clock_once() {
        let mut rig = assigned(|_| {});
        rig.run(5_000);
        assert_eq!(rig.waiting(), "");
        hand_out(&mut rig, 1, 41);
        rig.run(5_000);
        assert_eq!(rig.commits(ErrorCode::NONE), [("a".into(), 1, 42)]);
        let Some(ConsumerEvent::OffsetCommit {
            error: ErrCode::NO_ERROR,
            offsets,
        }) = event(&mut rig)
        else {
            panic!()
        };
        assert_eq!(
            (offsets[0].offset, offsets[0].error),
            (42, ErrCode::NO_ERROR)
        );
        rig.run(5_000);
        assert_eq!(rig.waiting(), "");
    }

    #[test]
    fn commit_without_anything_stored_and_without_a_group() {
        let mut rig = assigned(|_| {});
        assert_eq!(
            rig.consumer.commit(rig.now, None, None).unwrap_err().code,
            ErrCode::NO_OFFSET
        );
        let mut rig = assigned(|c| c.group_id = None);
        assert_eq!(
            rig.consumer.commit(rig.now, None, None).unwrap_err().code,
            ErrCode::UNKNOWN_GROUP
        );
    }

    #[test]
    fn an_operation_gets_each_partitions_result() {
        let mut rig = assigned(|c| c.enable_auto_commit = false);
        let mut offset = tp("b", 1);
        (offset.offset, offset.metadata) = (12, Some("note".into()));
        rig.consumer
            .commit(rig.now, Some(vec![offset]), Some(77))
            .unwrap();
        assert_eq!(rig.commits(ErrorCode::NONE), [("b".into(), 1, 12)]);
        let Some(ConsumerEvent::Done {
            id: 77,
            result: Ok(OperationResult::Offsets(o)),
        }) = event(&mut rig)
        else {
            panic!()
        };
        assert_eq!((o.len(), o[0].error), (1, ErrCode::NO_ERROR));

        hand_out(&mut rig, 0, 1);
        rig.consumer.commit(rig.now, None, Some(78)).unwrap();
        rig.commits(ErrorCode::UNKNOWN_MEMBER_ID);
        let Some(ConsumerEvent::Done {
            id: 78,
            result: Err(error),
        }) = event(&mut rig)
        else {
            panic!()
        };
        assert_eq!(error.code, ErrCode::UNKNOWN_MEMBER_ID);
    }

    #[test]
    fn a_moving_coordinator_is_followed() {
        let mut rig = assigned(|_| {});
        hand_out(&mut rig, 0, 1);
        rig.consumer.commit(rig.now, None, Some(1)).unwrap();
        rig.commits(ErrorCode::NOT_COORDINATOR);
        assert_eq!((rig.waiting().as_str(), rig.forgotten), ("", 1));
        rig.run(100);
        assert_eq!(rig.commits(ErrorCode::NONE).len(), 1);
        assert!(matches!(
            event(&mut rig),
            Some(ConsumerEvent::Done {
                id: 1,
                result: Ok(_)
            })
        ));
    }

    #[test]
    fn offsets_stored_by_hand() {
        let mut rig = assigned(|_| {});
        assert_eq!(
            rig.consumer
                .store_offsets(&mut [tp("a", 0)])
                .unwrap_err()
                .code,
            ErrCode::INVALID_ARG
        );
        let mut rig = assigned(|c| c.enable_auto_offset_store = false);
        hand_out(&mut rig, 0, 9);
        assert_eq!(
            rig.consumer.commit(rig.now, None, None).unwrap_err().code,
            ErrCode::NO_OFFSET
        );
        let mut offsets = [
            PartitionOffset::new("a", 0, 5),
            PartitionOffset::new("a", 3, 5),
        ];
        rig.consumer.store_offsets(&mut offsets).unwrap();
        assert_eq!(
            (offsets[0].error, offsets[1].error),
            (ErrCode::NO_ERROR, ErrCode::STATE)
        );
        rig.consumer.commit(rig.now, None, None).unwrap();
        assert_eq!(rig.commits(ErrorCode::NONE), [("a".into(), 0, 5)]);
    }

    #[test]
    fn close_without_a_subscription_commits() {
        let mut rig = assigned(|_| {});
        hand_out(&mut rig, 0, 1);
        rig.consumer.close(rig.now);
        assert_eq!(rig.commits(ErrorCode::NONE), [("a".into(), 0, 2)]);
        assert!(rig.consumer.closed);
    }
}
