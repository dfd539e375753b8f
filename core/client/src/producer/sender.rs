//! What happens to batches: sending, answers, retries, timeouts, purging; and the identity of an idempotent producer.

use super::{
    DeliveredBatch, Persistence, Producer,
    queue::{Batch, PartitionQueue},
};
use crate::{
    consumer::{Cluster, offset},
    error::{ErrCode, KafkaError, unexpected},
    metadata::Metadata,
    network::{Network, Route, Tag},
};
use alloc::{string::String, vec::Vec};
use ottla_protocol::messages::produce::PartitionProduceData;
use ottla_protocol::messages::produce::TopicProduceData;
use ottla_protocol::messages::{InitProducerIdRequest, ProduceRequest};
use ottla_protocol::{Request, Response};
use ottla_record::{FinishOptions, Now, add_sequence};

/// Who an idempotent producer is, for its brokers.
pub(super) struct ProducerId {
    enabled: bool,
    id: i64,
    epoch: i16,
    asking: bool,
    /// Not to be asked for again before.
    not_before: u64,
    /// A batch was lost between others: sequence numbers begin anew under a new id once nothing is in flight.
    renew: bool,
}

impl ProducerId {
    pub fn new(enabled: bool) -> Self {
        Self {
            enabled,
            id: -1,
            epoch: -1,
            asking: false,
            not_before: 0,
            renew: false,
        }
    }

    /// Whether batches may be sent.
    fn is_ready(&self) -> bool {
        !self.enabled || (self.id >= 0 && !self.renew)
    }
}

impl Producer {
    /// Does whatever can be done now: closes lingered batches, sends ready ones, fails late ones.
    pub fn serve(&mut self, now: Now, net: &mut Network, metadata: &mut Metadata) {
        self.learn_topics(now, metadata);
        self.due = None;
        self.expire_early(now);
        self.serve_identity(now, net);
        let mut active = core::mem::take(&mut self.active);
        active.retain(|&(topic, partition)| {
            self.serve_partition(now, topic, partition, net, metadata);
            match self.queue(topic, partition) {
                Some(queue) if queue.is_idle() => {
                    queue.active = false;
                    false
                }
                queue => queue.is_some(),
            }
        });
        active.append(&mut self.active);
        self.active = active;
    }

    fn queue(&mut self, topic: u32, partition: i32) -> Option<&mut PartitionQueue> {
        self.topics
            .get_mut(topic as usize)?
            .partitions
            .as_mut()?
            .get_mut(usize::try_from(partition).ok()?)
    }

    fn wake_at(&mut self, at: u64) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn serve_partition(
        &mut self,
        now: Now,
        topic: u32,
        partition: i32,
        net: &mut Network,
        metadata: &mut Metadata,
    ) {
        let (linger_us, flushing) = (self.config.linger_us, self.flushing);
        let timeout_us = u64::from(self.topics[topic as usize].config.message_timeout_ms) * 1000;
        let most_in_flight = self.most_in_flight();
        let next_batch = &mut self.next_batch;
        let Some(queue) = self.topics[topic as usize]
            .partitions
            .as_mut()
            .and_then(|p| p.get_mut(partition as usize))
        else {
            return;
        };
        if let Some(open) = &queue.open
            && (flushing || now.mono_us >= open.created_us + linger_us)
        {
            queue.close_open(next_batch);
        }
        let mut due = queue.open.as_ref().map(|open| open.created_us + linger_us);
        if timeout_us > 0 {
            let late = |batch: &Batch| now.mono_us >= batch.created_us + timeout_us;
            let mut failed: Vec<Batch> = Vec::new();
            while queue.in_flight.front().is_some_and(late) {
                failed.extend(queue.in_flight.pop_front());
            }
            while queue.ready.front().is_some_and(late) {
                failed.extend(queue.ready.pop_front());
            }
            let oldest = queue
                .in_flight
                .front()
                .into_iter()
                .chain(queue.ready.front());
            let expiry = oldest.map(|batch| batch.created_us + timeout_us).min();
            due = due.into_iter().chain(expiry).min();
            for batch in failed {
                self.in_flight.remove(&batch.id);
                self.fail(
                    now,
                    topic,
                    partition,
                    batch,
                    KafkaError::from(ErrCode::MSG_TIMED_OUT),
                );
            }
        }
        if let Some(due) = due {
            self.wake_at(due);
        }
        while self.identity.is_ready() {
            let Some(queue) = self.queue(topic, partition) else {
                return;
            };
            if queue.ready.is_empty() || queue.in_flight.len() >= most_in_flight {
                return;
            }
            if queue.not_before > now.mono_us {
                let at = queue.not_before;
                return self.wake_at(at);
            }
            let name = self.topics[topic as usize].name.clone();
            let Some((leader, _)) = metadata.leader(&name, partition) else {
                return metadata.refresh(now);
            };
            if !net.ensure(now, leader, metadata) {
                return;
            }
            self.send_first(now, topic, partition, leader, net, metadata);
        }
    }

    /// Sends the first batch that is ready to a leader that can be reached.
    fn send_first(
        &mut self,
        now: Now,
        topic: u32,
        partition: i32,
        leader: i32,
        net: &mut Network,
        metadata: &Metadata,
    ) {
        let (enabled, id, epoch) = (self.identity.enabled, self.identity.id, self.identity.epoch);
        let Some(topic_state) = self.topics.get_mut(topic as usize) else {
            return;
        };
        let (name, settings) = (topic_state.name.clone(), &topic_state.config);
        let Some(queue) = topic_state
            .partitions
            .as_mut()
            .and_then(|p| p.get_mut(partition as usize))
        else {
            return;
        };
        let Some(mut batch) = queue.ready.pop_front() else {
            return;
        };
        let sequence = if enabled { queue.next_sequence } else { -1 };
        if batch.sequence.is_none() && enabled {
            batch.sequence = Some(sequence);
            queue.next_sequence = add_sequence(sequence, batch.count as i32);
        }
        let options = FinishOptions {
            compression: settings.compression.unwrap_or(self.config.compression),
            level: settings.compression_level,
            producer_id: id,
            producer_epoch: epoch,
            base_sequence: batch.sequence.unwrap_or(-1),
            ..FinishOptions::default()
        };
        if let Err(error) = batch.finish(&mut self.codecs, &options) {
            let error = KafkaError::new(ErrCode::BAD_COMPRESSION, alloc::format!("{error}"));
            return self.fail(now, topic, partition, batch, error);
        }
        let (acks, timeout_ms) = (settings.acks, settings.request_timeout_ms as i32);
        let data = PartitionProduceData {
            index: partition,
            records: batch.records(id, epoch),
            ..Default::default()
        };
        let topic_id = metadata.topic_id(&name);
        let of_topic = TopicProduceData {
            name,
            topic_id,
            partition_data: alloc::vec![data],
            ..Default::default()
        };
        let request = Request::Produce(ProduceRequest {
            acks,
            timeout_ms,
            topic_data: alloc::vec![of_topic],
            ..Default::default()
        });
        batch.attempts += 1;
        // The socket's limit counts from when the broker's has run out.
        match net.send_now(
            now,
            leader,
            request,
            timeout_ms.saturating_add(1000),
            Tag::Produce(batch.id),
        ) {
            Ok(()) if acks == 0 => {
                self.delivered(now, topic, partition, batch, offset::INVALID, -1, leader)
            }
            Ok(()) => {
                batch.possibly_persisted = true;
                self.in_flight.insert(batch.id, (topic, partition));
                if let Some(queue) = self.queue(topic, partition) {
                    queue.in_flight.push_back(batch);
                }
            }
            Err(_) => {
                batch.attempts -= 1;
                if let Some(queue) = self.queue(topic, partition) {
                    queue.put_back(batch);
                    queue.not_before = now.after_ms(1);
                }
                self.wake_at(now.after_ms(1));
            }
        }
    }

    /// The answer to a batch, or why there is none.
    pub fn answered(
        &mut self,
        now: Now,
        id: u64,
        result: Result<Response, KafkaError>,
        leader: i32,
        metadata: &mut Metadata,
    ) {
        let Some((topic, partition)) = self.in_flight.remove(&id) else {
            return;
        };
        let Some(batch) = self
            .queue(topic, partition)
            .and_then(|queue| queue.take_in_flight(id))
        else {
            return;
        };
        self.wake_at(now.mono_us);
        let answer = match result {
            Ok(Response::Produce(mut response)) => {
                let answers = response
                    .responses
                    .pop()
                    .map(|mut topic| topic.partition_responses.pop());
                match answers.flatten() {
                    Some(answer) => Ok(answer),
                    None => Err(KafkaError::new(
                        ErrCode::BAD_MSG,
                        "the answer to a batch names no partition",
                    )),
                }
            }
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Err(error),
        };
        let error = match answer {
            Ok(answer) if answer.error_code.0 == 0 => {
                let append_time = answer.log_append_time_ms;
                return self.delivered(
                    now,
                    topic,
                    partition,
                    batch,
                    answer.base_offset,
                    append_time,
                    leader,
                );
            }
            Ok(answer) => {
                let mut error = KafkaError::from(ErrCode::from(answer.error_code));
                if let Some(message) = answer.error_message {
                    error.message = String::from(message.as_str()).into();
                }
                error
            }
            Err(error) => error,
        };
        self.failed_attempt(now, topic, partition, batch, error, metadata);
    }

    fn failed_attempt(
        &mut self,
        now: Now,
        topic: u32,
        partition: i32,
        mut batch: Batch,
        error: KafkaError,
        metadata: &mut Metadata,
    ) {
        // A broker that has written it before says so: the report comes without its offset.
        if error.code == ErrCode::DUPLICATE_SEQUENCE_NUMBER {
            return self.delivered(now, topic, partition, batch, offset::INVALID, -1, -1);
        }
        let out_of_step = matches!(
            error.code,
            ErrCode::OUT_OF_ORDER_SEQUENCE_NUMBER
                | ErrCode::UNKNOWN_PRODUCER_ID
                | ErrCode::INVALID_PRODUCER_EPOCH
        );
        // Anything but a lost connection is the broker's word that it wrote nothing this time.
        let surely_not_written = !error.code.is_local();
        if matches!(
            error.code,
            ErrCode::NOT_LEADER_FOR_PARTITION | ErrCode::UNKNOWN_TOPIC_OR_PART | ErrCode::TRANSPORT
        ) {
            metadata.refresh(now);
        }
        let again = error.retriable
            || error.code == ErrCode::TIMED_OUT
            || (out_of_step && self.identity.enabled);
        if again && batch.attempts <= self.config.retries {
            if out_of_step && self.identity.enabled {
                self.renew_identity();
            }
            if surely_not_written && batch.attempts == 1 {
                batch.possibly_persisted = false;
            }
            let wait = self.backoff(batch.attempts);
            if let Some(queue) = self.queue(topic, partition) {
                queue.not_before = now.after_ms(wait);
                queue.put_back(batch);
            }
            return self.wake_at(now.after_ms(wait));
        }
        if surely_not_written && batch.attempts == 1 {
            batch.possibly_persisted = false;
        }
        self.fail(now, topic, partition, batch, error);
    }

    /// Exponential, with a tenth of spread.
    fn backoff(&mut self, attempts: u32) -> i64 {
        let most = i64::from(self.config.retry_backoff_max_ms);
        let wait = (i64::from(self.config.retry_backoff_ms) << (attempts - 1).min(16)).min(most);
        wait + i64::from(self.random.below((wait / 5) as u32 + 1)) - wait / 10
    }

    #[allow(clippy::too_many_arguments)]
    fn delivered(
        &mut self,
        now: Now,
        topic: u32,
        partition: i32,
        batch: Batch,
        base_offset: i64,
        log_append_time: i64,
        broker: i32,
    ) {
        self.sent.0 += batch.count as u64;
        self.sent.1 += batch.bytes as u64;
        self.end(
            now,
            topic,
            partition,
            batch,
            None,
            base_offset,
            log_append_time,
            broker,
        );
    }

    fn fail(&mut self, now: Now, topic: u32, partition: i32, batch: Batch, error: KafkaError) {
        if batch.sequence.is_some() {
            // The brokers expect this sequence number next, and it won't come.
            self.renew_identity();
        }
        self.end(
            now,
            topic,
            partition,
            batch,
            Some(error),
            offset::INVALID,
            -1,
            -1,
        );
    }

    #[allow(clippy::too_many_arguments)]
    fn end(
        &mut self,
        now: Now,
        topic: u32,
        partition: i32,
        mut batch: Batch,
        error: Option<KafkaError>,
        base_offset: i64,
        log_append_time: i64,
        broker: i32,
    ) {
        let status = match (&error, batch.possibly_persisted) {
            (None, _) => Persistence::Persisted,
            (Some(_), true) => Persistence::PossiblyPersisted,
            (Some(_), false) => Persistence::NotPersisted,
        };
        let (count, bytes, created_us) = (batch.count, batch.bytes, batch.created_us);
        // A batch that was never sent is encoded now, since reports are read from its encoding.
        let encoded = batch
            .finish(&mut self.codecs, &FinishOptions::default())
            .is_ok();
        let Some((header, plain, side)) = batch.into_report().filter(|_| encoded) else {
            return self.taken(count, bytes);
        };
        let report = DeliveredBatch {
            topic: self.topics[topic as usize].name.clone(),
            topic_handle: topic,
            partition,
            base_offset,
            log_append_time,
            error,
            status,
            broker,
            latency_us: now.mono_us.saturating_sub(created_us),
            header,
            plain,
            side,
            count,
            bytes,
        };
        self.report(report);
    }

    fn renew_identity(&mut self) {
        if self.identity.enabled {
            self.identity.renew = true;
        }
    }

    /// Gets a producer id, and a new one when sequence numbers have to begin anew.
    fn serve_identity(&mut self, now: Now, net: &mut Network) {
        let identity = &mut self.identity;
        if identity.is_ready() || identity.asking {
            return;
        }
        if identity.renew && !self.in_flight.is_empty() {
            return; // what is in flight still counts under the old id
        }
        if identity.not_before > now.mono_us {
            let at = identity.not_before;
            return self.wake_at(at);
        }
        identity.asking = true;
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        net.send(
            now,
            Route::Any,
            Request::InitProducerId(request),
            0,
            Tag::InitProducerId,
        );
    }

    /// The answer to the question for a producer id.
    pub fn identified(&mut self, now: Now, result: Result<Response, KafkaError>) {
        self.identity.asking = false;
        self.wake_at(now.mono_us);
        let error = match result {
            Ok(Response::InitProducerId(response)) if response.error_code.0 == 0 => {
                self.identity.id = response.producer_id;
                self.identity.epoch = response.producer_epoch;
                self.identity.renew = false;
                return self.restart_sequences();
            }
            Ok(Response::InitProducerId(response)) => {
                KafkaError::from(ErrCode::from(response.error_code))
            }
            Ok(other) => unexpected(&other),
            Err(error) => error,
        };
        if error.retriable || error.code == ErrCode::TIMED_OUT {
            self.identity.not_before = now.after_ms(i64::from(self.config.retry_backoff_ms));
        } else {
            // Without an id nothing can be sent, and none will come.
            self.fatal = Some(error.into_fatal());
            self.purge(now, true, true, ErrCode::FATAL);
        }
    }

    /// Under a new id all partitions begin at sequence 0, those batches first that were sent before.
    fn restart_sequences(&mut self) {
        for queue in self
            .topics
            .iter_mut()
            .filter_map(|topic| topic.partitions.as_mut())
            .flatten()
        {
            let mut next = 0;
            for batch in queue
                .ready
                .iter_mut()
                .filter(|batch| batch.sequence.is_some())
            {
                batch.sequence = Some(next);
                next = add_sequence(next, batch.count as i32);
            }
            queue.next_sequence = next;
        }
    }

    /// Records of unknown topics that have waited long enough fail.
    fn expire_early(&mut self, now: Now) {
        for handle in 0..self.topics.len() as u32 {
            if self.topics[handle as usize].early.is_empty() {
                continue;
            }
            let expiry = self
                .early_expiry(handle)
                .max(self.topics[handle as usize].early[0].created_us);
            if expiry <= now.mono_us {
                let name = self.topics[handle as usize].name.clone();
                let message = alloc::format!("no broker knows the topic {name}");
                self.refuse_topic(
                    now,
                    handle,
                    KafkaError::new(ErrCode::UNKNOWN_TOPIC, message),
                );
            } else {
                self.wake_at(expiry);
            }
        }
    }

    /// Fails what waits (`queue`) and what was sent and not answered yet (`in_flight`).
    pub fn purge(&mut self, now: Now, queue: bool, in_flight: bool, instead: ErrCode) {
        let code = |own: ErrCode| {
            if instead == ErrCode::NO_ERROR {
                own
            } else {
                instead
            }
        };
        for handle in 0..self.topics.len() as u32 {
            if queue {
                let early = core::mem::take(&mut self.topics[handle as usize].early);
                for record in early {
                    self.report_early(
                        now,
                        handle,
                        &record,
                        KafkaError::from(code(ErrCode::PURGE_QUEUE)),
                    );
                }
            }
            let count = self.topics[handle as usize]
                .partitions
                .as_ref()
                .map_or(0, Vec::len);
            for partition in 0..count as i32 {
                let mut gone = Vec::new();
                let mut next_batch = self.next_batch;
                if let Some(of) = self.queue(handle, partition) {
                    if in_flight {
                        gone.extend(
                            of.in_flight
                                .drain(..)
                                .map(|batch| (batch, ErrCode::PURGE_INFLIGHT)),
                        );
                    }
                    if queue {
                        of.close_open(&mut next_batch);
                        gone.extend(
                            of.ready
                                .drain(..)
                                .map(|batch| (batch, ErrCode::PURGE_QUEUE)),
                        );
                    }
                }
                self.next_batch = next_batch;
                for (batch, own) in gone {
                    self.in_flight.remove(&batch.id);
                    self.fail(now, handle, partition, batch, KafkaError::from(code(own)));
                }
            }
        }
    }
}
