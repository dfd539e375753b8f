//! Consuming: subscriptions, assignments, positions, commits, closing.

use super::{Handle, milliseconds};
use crate::{
    ErrCode, KafkaError, TopicPartition,
    queue::{deadline, forwarded},
    shared::lock,
};
use ottla_client::{
    Client,
    consumer::{OperationResult, PartitionOffset},
};
use ottla_driver::now;
use ottla_protocol::Str;
use ottla_record::Now;
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

/// What a consumer is in its group, for transactions and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// `group.id`.
    pub group_id: Str,
    /// The generation; -1 outside of a group.
    pub generation: i32,
    /// The member id; empty outside of a group.
    pub member_id: Str,
    /// `group.instance.id`.
    pub group_instance_id: Option<Str>,
}

/// Consuming. On a producer these fail with `_UNKNOWN_GROUP` or `_INVALID_ARG`, or do nothing.
impl Handle {
    /// Subscribes to topics by name, or by regular expression if it begins with `^`, in place of what was subscribed to. Needs a
    /// `group.id` (`_UNKNOWN_GROUP`); `_INVALID_ARG` for an empty list, a bad name or expression.
    pub fn subscribe<S: AsRef<str>>(&self, topics: &[S]) -> Result<(), KafkaError> {
        let topics: Vec<Str> = topics.iter().map(|topic| topic.as_ref().into()).collect();
        self.inner
            .driver
            .with(|client, now| client.subscribe(now, &topics))?
    }

    /// Leaves the group.
    pub fn unsubscribe(&self) -> Result<(), KafkaError> {
        self.inner
            .driver
            .with(|client, now| client.unsubscribe(now))?
    }

    /// What is subscribed to.
    pub fn subscription(&self) -> Vec<Str> {
        self.inner
            .driver
            .with(|client, _| client.subscription())
            .unwrap_or_default()
    }

    /// Consumes these partitions from their `offset` on, in place of others. `OFFSET_STORED` and `OFFSET_INVALID` begin at the
    /// committed offset.
    pub fn assign(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let result = self
            .inner
            .driver
            .with(|client, now| client.assign(now, &offsets_of(partitions)))?;
        self.forward_partitions();
        result
    }

    /// Consumes nothing any more.
    pub fn unassign(&self) -> Result<(), KafkaError> {
        self.inner.driver.with(|client, now| client.unassign(now))?
    }

    /// Consumes these partitions too.
    pub fn incremental_assign(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let result = self
            .inner
            .driver
            .with(|client, now| client.incremental_assign(now, &offsets_of(partitions)))?;
        self.forward_partitions();
        result
    }

    /// Consumes these partitions no more.
    pub fn incremental_unassign(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let keys: Vec<_> = partitions
            .iter()
            .map(|p| (p.topic.clone(), p.partition))
            .collect();
        self.inner
            .driver
            .with(|client, now| client.incremental_unassign(now, &keys))?
    }

    /// What is consumed.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        let assigned = self
            .inner
            .driver
            .with(|client, _| client.assignment())
            .unwrap_or_default();
        assigned
            .into_iter()
            .map(|(topic, p)| TopicPartition::new(topic, p, crate::offset::INVALID))
            .collect()
    }

    /// Whether the assignment was lost to others.
    pub fn is_assignment_lost(&self) -> bool {
        self.inner
            .driver
            .with(|client, _| client.is_assignment_lost())
            .unwrap_or(false)
    }

    /// `NONE`, `EAGER` or `COOPERATIVE`.
    pub fn rebalance_protocol(&self) -> &'static str {
        self.inner
            .driver
            .with(|client, _| client.rebalance_protocol())
            .unwrap_or("NONE")
    }

    /// The member id in the group; empty outside of one.
    pub fn member_id(&self) -> Str {
        self.inner
            .driver
            .with(|client, _| client.member_id())
            .unwrap_or_default()
    }

    /// The member id of the group's leader, and the assignor that the members agreed on (`partition.assignment.strategy`'s name for
    /// it); `None` outside of a group.
    pub fn group_leadership(&self) -> Option<(Str, &'static str)> {
        let found = self
            .inner
            .driver
            .with(|client, _| client.group_leadership());
        found.ok().flatten()
    }

    /// Counts as a poll for `max.poll.interval.ms`, and takes nothing: for an application that is alive but not ready for more.
    pub fn count_as_poll(&self) {
        // A handle that no longer works has no member to keep.
        let _ = self.inner.driver.with(|client, now| {
            client.application_waits(now, true);
            client.application_waits(now, false);
        });
    }

    /// Group, generation, member.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        let found = self.inner.driver.with(|client, _| {
            Some(GroupMetadata {
                group_id: client.config().group_id.clone()?,
                generation: client.generation(),
                member_id: client.member_id(),
                group_instance_id: client.config().group_instance_id.clone(),
            })
        });
        found.ok().flatten()
    }

    /// Goes on at other offsets; each partition gets its own `error`.
    pub fn seek(&self, partitions: &mut [TopicPartition]) -> Result<(), KafkaError> {
        self.each(partitions, |client, now, partitions| {
            client.seek(now, partitions)
        })
    }

    /// Stops partitions for a while; each partition gets its own `error`.
    pub fn pause(&self, partitions: &mut [TopicPartition]) -> Result<(), KafkaError> {
        self.each(partitions, |client, now, partitions| {
            client.pause(now, partitions)
        })
    }

    /// Goes on with paused partitions; each partition gets its own `error`.
    pub fn resume(&self, partitions: &mut [TopicPartition]) -> Result<(), KafkaError> {
        self.each(partitions, |client, now, partitions| {
            client.resume(now, partitions)
        })
    }

    /// Sets each `offset` behind the last record that the application took, or to `OFFSET_INVALID`.
    pub fn position(&self, partitions: &mut [TopicPartition]) -> Result<(), KafkaError> {
        self.each(partitions, |client, _, partitions| {
            client.position(partitions);
            Ok(())
        })
    }

    /// Notes offsets to be committed by the next automatic or argumentless commit.
    pub fn store_offsets(&self, offsets: &mut [TopicPartition]) -> Result<(), KafkaError> {
        self.each(offsets, |client, now, offsets| {
            client.store_offsets(now, offsets)
        })
    }

    /// Commits these offsets, or all stored ones, and waits. Returns the partitions with their errors.
    pub fn commit(
        &self,
        offsets: Option<&[TopicPartition]>,
        timeout: Duration,
    ) -> Result<Vec<TopicPartition>, KafkaError> {
        let offsets = offsets.map(offsets_of);
        let id = self.operation(|client, now, id| client.commit(now, Some(id), offsets))?;
        match self.operation_result(id, timeout)? {
            OperationResult::Offsets(offsets) => {
                Ok(offsets.into_iter().map(TopicPartition::from).collect())
            }
            OperationResult::Watermarks { .. } => Ok(Vec::new()),
        }
    }

    /// Commits without waiting; [`Event::OffsetCommit`](crate::Event::OffsetCommit) follows.
    pub fn commit_async(&self, offsets: Option<&[TopicPartition]>) -> Result<(), KafkaError> {
        let offsets = offsets.map(offsets_of);
        self.inner
            .driver
            .with(|client, now| client.commit(now, None, offsets))?
    }

    /// Sets each `offset` and `metadata` to what the group has committed, or `OFFSET_INVALID`.
    pub fn committed(
        &self,
        partitions: &mut [TopicPartition],
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let asked = offsets_of(partitions);
        let id = self.operation(|client, now, id| {
            client.query_committed(now, id, asked, milliseconds(timeout))
        })?;
        if let OperationResult::Offsets(found) = self.operation_result(id, timeout)? {
            partitions
                .iter_mut()
                .zip(found)
                .for_each(|(to, from)| *to = from.into());
        }
        Ok(())
    }

    /// Gives up the partitions, commits, leaves the group. Rebalance events on the way are answered by themselves.
    pub fn close_consumer(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.close_until(timeout, None)
    }

    /// The same for applications with [rebalance events](crate::Config::set_rebalance_events): events of the consumer queue are
    /// given to `serve` (which has to unassign), without a lock held.
    pub fn close_consumer_serving(
        &self,
        timeout: Duration,
        serve: &mut dyn FnMut(crate::Event),
    ) -> Result<(), KafkaError> {
        self.close_until(timeout, Some(serve))
    }

    /// Begins to close; whoever polls the consumer queue serves it until [`Handle::is_consumer_closed`].
    pub fn begin_close_consumer(&self) -> Result<(), KafkaError> {
        self.inner
            .driver
            .with(|client, now| client.close_consumer(now))?
    }

    /// Whether closing is done.
    pub fn is_consumer_closed(&self) -> bool {
        self.inner.shared.consumer_closed.load(Relaxed)
    }

    /// Runs an operation that gives each partition its own result.
    fn each(
        &self,
        partitions: &mut [TopicPartition],
        run: impl FnOnce(&mut Client, Now, &mut [PartitionOffset]) -> Result<(), KafkaError>,
    ) -> Result<(), KafkaError> {
        let mut offsets = offsets_of(partitions);
        let result = self
            .inner
            .driver
            .with(|client, now| run(client, now, &mut offsets))?;
        partitions
            .iter_mut()
            .zip(offsets)
            .for_each(|(to, from)| *to = from.into());
        result
    }

    /// Tells the client which partitions' records are polled from queues of their own.
    fn forward_partitions(&self) {
        let partitions = forwarded(&lock(&self.inner.shared.queues));
        for (key, apart) in partitions.into_iter().filter(|(_, apart)| *apart) {
            let _ = self
                .inner
                .driver
                .with(|client, now| client.set_forwarded(now, &key, apart));
        }
    }

    fn close_until(
        &self,
        timeout: Duration,
        mut serve: Option<&mut dyn FnMut(crate::Event)>,
    ) -> Result<(), KafkaError> {
        if self.is_consumer_closed() {
            return Ok(());
        }
        let until = deadline(timeout);
        self.begin_close_consumer()?;
        let queue = self.consumer_queue();
        while !self.is_consumer_closed() {
            let left = Duration::from_micros(until.saturating_sub(now().mono_us));
            if left.is_zero() {
                return Err(KafkaError::from(ErrCode::TIMED_OUT));
            }
            match (queue.poll(left.min(Duration::from_millis(10))), &mut serve) {
                (Some(event), Some(serve)) => serve(event),
                (Some(crate::Event::Rebalance { kind, partitions }), None) => match kind {
                    crate::RebalanceKind::Assign => self.assign(&partitions)?,
                    _ => self.unassign()?,
                },
                _ => {}
            }
        }
        Ok(())
    }
}

pub(super) fn offsets_of(partitions: &[TopicPartition]) -> Vec<PartitionOffset> {
    partitions.iter().map(PartitionOffset::from).collect()
}
