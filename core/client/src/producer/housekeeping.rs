//! What time, metadata and the application do to queued messages: linger, timeouts, new and lost partitions, flush, purge.

use super::delivery::Sides;
use super::partition::{Batch, Entry, OpenBatch, Partition};
use super::topic::{Existence, Staged};
use super::{Header, Producer, list};
use crate::error::{ErrCode, KafkaError};
use crate::metadata::Metadata;
use crate::network::{Network, Tag};
use crate::output::Route;
use alloc::format;
use alloc::vec::Vec;
use ottla_protocol::ErrorCode;
use ottla_record::{BatchBuilder, Now, Records};

/// What is purged: `rd_kafka_purge()`'s flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Purge {
    /// Messages that wait to be sent; they fail with `_PURGE_QUEUE`.
    pub(crate) queue: bool,
    /// Messages that were sent and not answered; they fail with `_PURGE_INFLIGHT`.
    pub(crate) in_flight: bool,
}

impl Producer {
    /// Does what is due, and sends what can be sent.
    pub(crate) fn serve(&mut self, now: Now, network: &mut Network, metadata: &Metadata) {
        if let Some(request) = self.identity.poll_request(now) {
            network.send(now, Route::Any, request, 0, Tag::ProducerId);
        }
        while let Some(lingering) = self.lingering.front()
            && (lingering.due <= now.mono_us || self.flushing)
        {
            let lingering = *lingering;
            self.lingering.pop_front();
            let partitions = &mut self.topics[lingering.topic as usize].partitions;
            let Some(partition) = partitions.get_mut(lingering.partition as usize) else {
                continue;
            };
            if let Some(open) = &mut partition.open
                && open.id == lingering.batch
            {
                open.lingered = true;
                list(
                    &mut self.listed,
                    partition,
                    lingering.topic,
                    lingering.partition,
                );
            }
        }
        if self.expiry_due.is_some_and(|due| due <= now.mono_us) {
            self.expire(now);
        }
        if !self.listed.is_empty() {
            self.drain(now, network, metadata);
        }
    }

    /// When [`Self::serve`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        let lingering = self.lingering.front().map(|lingering| lingering.due);
        let dues = [
            lingering,
            self.expiry_due,
            self.blocked_until,
            self.identity.due(),
        ];
        dues.into_iter().flatten().min()
    }

    /// The same, if `produce` has made something due since this was last asked.
    #[inline]
    pub(crate) fn poll_new_timeout(&mut self) -> Option<u64> {
        if !core::mem::take(&mut self.due_is_new) {
            return None;
        }
        self.poll_timeout()
    }

    /// Fails what is older than `message.timeout.ms`. What is in flight is left to its request's timeout.
    fn expire(&mut self, now: Now) {
        self.expiry_due = None;
        for handle in 0..self.topics.len() as u32 {
            let topic = &mut self.topics[handle as usize];
            let timeout_us = topic.timeout_us();
            let mut late: Vec<(i32, Batch)> = Vec::new();
            let mut staged: Vec<Staged> = Vec::new();
            let mut next = u64::MAX;
            while topic
                .staged
                .front()
                .is_some_and(|s| s.batch.expires_us(timeout_us) <= now.mono_us)
            {
                staged.extend(topic.staged.pop_front());
            }
            next = next.min(
                topic
                    .staged
                    .front()
                    .map_or(u64::MAX, |s| s.batch.expires_us(timeout_us)),
            );
            for (number, partition) in topic.partitions.iter_mut().enumerate() {
                if partition
                    .open
                    .as_ref()
                    .is_some_and(|open| open.expires_us(timeout_us) <= now.mono_us)
                {
                    partition.close_open();
                }
                let expired = partition
                    .ready
                    .partition_point(|batch| batch.expires_us(timeout_us) <= now.mono_us);
                late.extend(
                    partition
                        .ready
                        .drain(..expired)
                        .map(|batch| (number as i32, batch)),
                );
                let dues = partition
                    .ready
                    .iter()
                    .map(|batch| batch.expires_us(timeout_us));
                let dues = dues.chain(
                    partition
                        .open
                        .iter()
                        .map(|open| open.expires_us(timeout_us)),
                );
                next = dues.fold(next, u64::min);
            }
            if next != u64::MAX {
                self.expiry_due = Some(self.expiry_due.map_or(next, |due| due.min(next)));
            }
            let error = KafkaError::from(ErrCode::MSG_TIMED_OUT);
            for (number, batch) in late {
                self.fail(now, handle, number, batch, error.clone());
            }
            for staged in staged {
                self.fail_staged(now, handle, staged, &error);
            }
        }
    }

    /// While flushing, nothing lingers.
    pub(crate) fn set_flushing(&mut self, flushing: bool) {
        self.flushing = flushing;
    }

    /// Fails what is queued, in flight, or both.
    pub(crate) fn purge(&mut self, now: Now, what: Purge) {
        for handle in 0..self.topics.len() as u32 {
            if what.queue {
                let (staged, batches) = self.topics[handle as usize].take_queued();
                let error = KafkaError::from(ErrCode::PURGE_QUEUE);
                for staged in staged {
                    self.fail_staged(now, handle, staged, &error);
                }
                for (number, batch) in batches {
                    self.fail(now, handle, number, batch, error.clone());
                }
            }
            if what.in_flight {
                for number in 0..self.topics[handle as usize].partitions.len() {
                    let partition = &mut self.topics[handle as usize].partitions[number];
                    for mut batch in core::mem::take(&mut partition.in_flight) {
                        batch.possibly_persisted = true;
                        self.fail(
                            now,
                            handle,
                            number as i32,
                            batch,
                            ErrCode::PURGE_INFLIGHT.into(),
                        );
                    }
                }
            }
        }
    }

    /// The producer cannot go on: the application is told, and what was not sent fails with `_PURGE_QUEUE`, as in
    /// librdkafka. What is in flight still gets its answers.
    pub(super) fn raise_fatal(&mut self, now: Now, error: KafkaError) {
        if self.fatal.is_none() {
            self.fatal = Some(error.clone());
            self.untold_fatal = Some(error);
            self.purge(
                now,
                Purge {
                    queue: true,
                    in_flight: false,
                },
            );
        }
    }

    /// Takes in what metadata says about all topics.
    pub(crate) fn metadata_changed(&mut self, now: Now, metadata: &Metadata) {
        for handle in 0..self.topics.len() as u32 {
            self.metadata_of(now, handle, metadata);
        }
    }

    /// Takes in what metadata says about a topic.
    pub(super) fn metadata_of(&mut self, now: Now, handle: u32, metadata: &Metadata) {
        let propagation_us = u64::from(self.client.topic_metadata_propagation_max_ms) * 1000;
        let topic = &mut self.topics[handle as usize];
        let Some(known) = metadata.topic(&topic.name) else {
            return;
        };
        match known.error {
            ErrorCode::NONE if !known.partitions.is_empty() => {
                let leaders: Vec<i32> = known
                    .partitions
                    .iter()
                    .map(|partition| partition.leader)
                    .collect();
                self.partitions_are(now, handle, &leaders);
            }
            ErrorCode::NONE | ErrorCode::LEADER_NOT_AVAILABLE => {}
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID => {
                // A topic that was there is missing since now; one that never was, since it was wanted.
                if matches!(topic.existence, Existence::Known) && !topic.available.is_empty() {
                    topic.missing_since = now.mono_us;
                }
                topic.available.clear();
                topic
                    .partitions
                    .iter_mut()
                    .for_each(|partition| partition.leader = -1);
                if now.mono_us.saturating_sub(topic.missing_since) >= propagation_us {
                    // librdkafka reports the broker's word for what waited, and refuses what comes then with its own.
                    let text = format!("there is no topic {}", topic.name);
                    let reported = KafkaError::new(ErrCode::UNKNOWN_TOPIC_OR_PART, text.clone());
                    let refused = KafkaError::new(ErrCode::UNKNOWN_TOPIC, text);
                    self.topic_missing(now, handle, &reported, refused);
                }
            }
            code if code.is_retriable() => {}
            code => self.topic_missing(now, handle, &code.into(), code.into()),
        }
    }

    /// What waits is `reported`, what is produced from now on `refused`.
    fn topic_missing(&mut self, now: Now, handle: u32, reported: &KafkaError, refused: KafkaError) {
        let topic = &mut self.topics[handle as usize];
        topic.existence = Existence::Missing(refused);
        let (staged, batches) = topic.take_queued();
        for staged in staged {
            self.fail_staged(now, handle, staged, reported);
        }
        for (number, batch) in batches {
            self.fail(now, handle, number, batch, reported.clone());
        }
    }

    /// The topic has these partitions, with these leaders.
    fn partitions_are(&mut self, now: Now, handle: u32, leaders: &[i32]) {
        let topic = &mut self.topics[handle as usize];
        topic.existence = Existence::Known;
        let mut lost: Vec<(i32, Batch)> = Vec::new();
        for (number, mut partition) in topic
            .partitions
            .drain(leaders.len().min(topic.partitions.len())..)
            .enumerate()
        {
            partition.close_open();
            let number = (leaders.len() + number) as i32;
            lost.extend(
                partition
                    .in_flight
                    .drain(..)
                    .chain(partition.ready.drain(..))
                    .map(|batch| (number, batch)),
            );
        }
        topic
            .partitions
            .resize_with(leaders.len(), Partition::default);
        topic.available.clear();
        for (number, (partition, leader)) in topic.partitions.iter_mut().zip(leaders).enumerate() {
            if *leader >= 0 {
                topic.available.push(number as i32);
            }
            if partition.leader != *leader {
                partition.leader = *leader;
                // Another broker: what the last one said about waiting does not concern it.
                partition.not_before = now.mono_us;
            }
        }
        self.listed
            .retain(|(t, p)| *t != handle || (*p as usize) < leaders.len());
        for (number, batch) in lost {
            self.fail(
                now,
                handle,
                number,
                batch,
                ErrCode::UNKNOWN_PARTITION.into(),
            );
        }
        self.place_staged(now, handle);
    }

    /// Places the records that waited for the topic's partitions.
    fn place_staged(&mut self, now: Now, handle: u32) {
        let staged: Vec<Staged> = self.topics[handle as usize].staged.drain(..).collect();
        for staged in staged {
            self.for_each_staged(staged, |producer, partition, entry| {
                let topic = &mut producer.topics[handle as usize];
                let number = match partition {
                    -1 => {
                        topic.choose(entry, now, producer.limits.stickiness, &mut producer.random)
                    }
                    number => number,
                };
                let bound = BatchBuilder::size_of_record(entry.key, entry.value, entry.headers);
                if let Err(error) = producer.place_unseen(handle, number, entry, bound) {
                    producer.fail_entry(now, handle, number, entry, &error);
                }
            });
        }
    }

    /// Like `place`, without regard to whether the broker waits: many records come at once.
    fn place_unseen(
        &mut self,
        handle: u32,
        number: i32,
        entry: &Entry<'_>,
        bound: usize,
    ) -> Result<(), KafkaError> {
        let partitions = &mut self.topics[handle as usize].partitions;
        let count = partitions.len();
        let Some(partition) = usize::try_from(number)
            .ok()
            .and_then(|n| partitions.get_mut(n))
        else {
            return Err(super::no_partition(number, count));
        };
        let limits = &self.limits;
        let room = |open: &OpenBatch| {
            open.builder.len() + bound <= limits.batch_bytes
                && entry.created_us < open.until_us
                && open.builder.count() < limits.batch_messages
        };
        if !partition.open.as_ref().is_some_and(room) {
            self.open_batch(handle, number as u32, entry.created_us);
        }
        let open = &mut self.topics[handle as usize].partitions[number as usize].open;
        let appended = open.as_mut().map_or(Ok(()), |open| open.append(entry));
        appended.map_err(|error| KafkaError::new(ErrCode::MSG_SIZE_TOO_LARGE, format!("{error}")))
    }

    /// Fails records that never got a partition, each with the one that the application asked for.
    fn fail_staged(&mut self, now: Now, handle: u32, staged: Staged, error: &KafkaError) {
        self.for_each_staged(staged, |producer, partition, entry| {
            producer.fail_entry(now, handle, partition, entry, error);
        });
    }

    fn fail_entry(
        &mut self,
        now: Now,
        handle: u32,
        partition: i32,
        entry: &Entry<'_>,
        error: &KafkaError,
    ) {
        self.next_batch += 1;
        let room = BatchBuilder::size_of_record(entry.key, entry.value, entry.headers)
            + ottla_record::HEADER_LEN;
        let builder = BatchBuilder::new(room);
        let mut alone = OpenBatch::new(
            self.next_batch,
            builder,
            Sides::default(),
            entry.created_us,
            0,
        );
        // It was appended to a batch before, so that it can't be too large for one.
        if alone.append(entry).is_ok() {
            self.fail(now, handle, partition, alone.close(), error.clone());
        }
    }

    /// Reads staged records back, in order.
    fn for_each_staged(
        &mut self,
        staged: Staged,
        mut each: impl FnMut(&mut Self, i32, &Entry<'_>),
    ) {
        let Staged { batch, partitions } = staged;
        let mut batch = batch.close();
        let finished = batch.finish(&mut self.codecs, &Default::default());
        let Some((header, plain)) = finished.ok().and_then(|_| batch.plain()) else {
            return;
        };
        let Ok(records) = Records::new(&header, &plain) else {
            return;
        };
        let mut headers: Vec<Header<'_>> = Vec::new();
        for ((index, record), partition) in records.flatten().enumerate().zip(partitions) {
            headers.clear();
            headers.extend(record.headers);
            let entry = Entry {
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                headers: &headers,
                side: batch.sides.side(index),
                created_us: batch.opened_us + u64::from(batch.sides.age(index)),
            };
            each(self, partition, &entry);
        }
    }
}
