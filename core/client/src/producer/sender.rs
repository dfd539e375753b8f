//! A batch's way to the broker and back: requests, answers, retries, sequences.

use super::delivery::{DeliveredBatch, NO_OFFSET, Persistence};
use super::identity::{Identity, ProducerIdentity};
use super::partition::Batch;
use super::{MAX_SPARE, Producer, Sent, list};
use crate::consumer::Cluster;
use crate::error::{ErrCode, KafkaError};
use crate::metadata::Metadata;
use crate::network::{Network, Tag};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use ottla_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use ottla_protocol::{Request, Response};
use ottla_record::{FinishOptions, Now};

/// Batches of a producer that a broker remembers per partition, to know them again.
const REMEMBERED_BATCHES: u64 = 5;
/// Retries are spread by so many per cent.
pub(super) const RETRY_SPREAD: u32 = 20;

/// A request that is being put together: batches of one broker's partitions whose topics agree in `acks` and timeout.
struct Gathering {
    node: i32,
    acks: i16,
    timeout_ms: i64,
    bytes: usize,
    topics: Vec<(u32, TopicProduceData)>,
    batches: Vec<(u32, u32, u64)>,
}

/// Whether a partition can send.
enum Readiness {
    /// Its next batch can go to this broker.
    To(i32),
    /// There is nothing to send.
    Nothing,
    /// Not before this time, or (`None`) something else happens.
    Blocked(Option<u64>),
}

/// What became of a batch that was sent.
struct Answer {
    code: ErrCode,
    message: Option<KafkaError>,
    base_offset: i64,
    log_append_time: i64,
    log_start_offset: i64,
}

impl Producer {
    /// Sends whatever can be sent.
    pub(crate) fn drain(&mut self, now: Now, network: &mut Network, metadata: &Metadata) {
        self.blocked_until = None;
        loop {
            let mut gathered: Vec<Gathering> = Vec::new();
            for _ in 0..self.listed.len() {
                let Some((topic, partition)) = self.listed.pop_front() else {
                    break;
                };
                match self.readiness(now, topic, partition, network, metadata) {
                    Readiness::Nothing => {
                        self.topics[topic as usize].partitions[partition as usize].listed = false
                    }
                    Readiness::Blocked(until) => {
                        self.blocked_until =
                            [self.blocked_until, until].into_iter().flatten().min();
                        self.listed.push_back((topic, partition));
                    }
                    Readiness::To(node) => {
                        self.gather(now, node, topic, partition, &mut gathered, metadata);
                        self.listed.push_back((topic, partition));
                    }
                }
            }
            if gathered.is_empty() {
                return;
            }
            for request in gathered {
                self.send(now, request, network);
            }
        }
    }

    fn readiness(
        &mut self,
        now: Now,
        topic: u32,
        number: u32,
        network: &mut Network,
        metadata: &Metadata,
    ) -> Readiness {
        let max_in_flight = self.client.max_in_flight as usize;
        let Some(partition) = self.topics[topic as usize]
            .partitions
            .get_mut(number as usize)
        else {
            return Readiness::Nothing;
        };
        let lingered = partition.open.as_ref().is_some_and(|open| open.lingered);
        if partition.ready.is_empty() && !lingered {
            return Readiness::Nothing;
        }
        if partition.not_before > now.mono_us {
            return Readiness::Blocked(Some(partition.not_before));
        }
        if partition.leader < 0
            || !matches!(self.identity, Identity::Anonymous | Identity::Known(_))
        {
            return Readiness::Blocked(None);
        }
        let restarting = partition.sequencing.identity == ProducerIdentity::NONE
            && self.client.enable_idempotence;
        if partition.in_flight.len() >= max_in_flight
            || (restarting && !partition.in_flight.is_empty())
            || partition.awaits_earlier(REMEMBERED_BATCHES)
        {
            return Readiness::Blocked(None);
        }
        if !network.is_ready(partition.leader) {
            network.reach(now, partition.leader, metadata);
            return Readiness::Blocked(network.reconnect_at(now, partition.leader));
        }
        Readiness::To(partition.leader)
    }

    /// Adds the partition's next batch to a request to its leader.
    fn gather(
        &mut self,
        now: Now,
        node: i32,
        handle: u32,
        number: u32,
        gathered: &mut Vec<Gathering>,
        metadata: &Metadata,
    ) {
        let idempotent = self.client.enable_idempotence;
        let identity = match self.identity {
            Identity::Known(identity) => identity,
            _ => ProducerIdentity::NONE,
        };
        let topic = &mut self.topics[handle as usize];
        let timeout_us = topic.timeout_us();
        let partition = &mut topic.partitions[number as usize];
        if partition.ready.is_empty() {
            partition.close_open();
        }
        let Some(mut batch) = partition.ready.pop_front() else {
            return;
        };
        if idempotent && !partition.sequence(&mut batch, identity) {
            partition.ready.push_front(batch);
            return;
        }
        let sequence = batch.sequence;
        let options = FinishOptions {
            compression: topic.compression,
            level: topic.config.compression_level,
            producer_id: sequence.map_or(-1, |s| s.identity.id),
            producer_epoch: sequence.map_or(-1, |s| s.identity.epoch),
            base_sequence: sequence.map_or(-1, |s| s.base),
            ..Default::default()
        };
        match batch.finish(&mut self.codecs, &options) {
            Ok(spare) => keep(&mut self.spare, spare),
            Err(error) => {
                let error = KafkaError::new(ErrCode::FAIL, format!("{error}"));
                return self.fail(now, handle, number as i32, batch, error);
            }
        }
        if batch.attempts > 0 {
            self.counters.retries += 1;
        }
        batch.attempts += 1;
        batch.awaits_earlier = false;
        let bytes = batch.size();
        partition.counters.tx_messages += batch.count as u64;
        partition.counters.tx_bytes += bytes as u64;
        partition.counters.tx_batches += 1;
        self.counters.tx_messages += batch.count as u64;
        self.counters.tx_bytes += bytes as u64;
        self.counters.tx_batches += 1;

        let left_ms = (batch.expires_us(timeout_us).saturating_sub(now.mono_us) / 1000)
            .clamp(1, i64::MAX as u64) as i64;
        let timeout_ms = i64::from(topic.config.request_timeout_ms).min(left_ms);
        let acks = topic.config.acks;
        let joins = |g: &Gathering| {
            (g.node, g.acks) == (node, acks)
                && g.bytes + bytes <= self.client.message_max_bytes
                && !g
                    .batches
                    .iter()
                    .any(|(t, p, _)| (*t, *p) == (handle, number))
        };
        let at = gathered.iter().position(joins).unwrap_or_else(|| {
            let (topics, batches) = (Vec::new(), Vec::new());
            gathered.push(Gathering {
                node,
                acks,
                timeout_ms,
                bytes: 0,
                topics,
                batches,
            });
            gathered.len() - 1
        });
        let request = &mut gathered[at];
        request.bytes += bytes;
        request.timeout_ms = request.timeout_ms.min(timeout_ms);
        request.batches.push((handle, number, batch.id));
        let data = PartitionProduceData {
            index: number as i32,
            records: batch.records(),
        };
        match request.topics.iter_mut().find(|(t, _)| *t == handle) {
            Some((_, topic)) => topic.partition_data.push(data),
            None => {
                let topic_id = metadata.topic_id(&topic.name);
                let data = TopicProduceData {
                    name: topic.name.clone(),
                    topic_id,
                    partition_data: vec![data],
                };
                request.topics.push((handle, data));
            }
        }
        partition.in_flight.push_back(batch);
    }

    fn send(&mut self, now: Now, gathering: Gathering, network: &mut Network) {
        let Gathering {
            node,
            acks,
            timeout_ms,
            topics,
            batches,
            ..
        } = gathering;
        let request = ProduceRequest {
            transactional_id: None,
            acks,
            timeout_ms: timeout_ms.min(i32::MAX.into()) as i32,
            topic_data: topics.into_iter().map(|(_, topic)| topic).collect(),
        };
        self.next_request += 1;
        let id = self.next_request;
        let sent = Sent { node, batches };
        let answer = acks != 0;
        // The messages' own time is the limit, or the socket's.
        let wait_ms = self.longest_wait(now, &sent);
        let request = Request::Produce(request);
        if !network.send_now(now, node, request, wait_ms, Tag::Produce(id), answer) {
            let gone = KafkaError::from(ErrCode::TRANSPORT);
            return self.all_answered(now, sent, Err(gone), None);
        }
        if answer {
            self.requests.insert(id, sent);
        } else {
            self.all_answered(now, sent, Ok(None), None);
        }
    }

    /// Milliseconds until the first of a request's batches expires, at most `socket.timeout.ms`.
    fn longest_wait(&self, now: Now, sent: &Sent) -> i64 {
        let left = sent.batches.iter().filter_map(|(topic, partition, id)| {
            let topic = self.topics.get(*topic as usize)?;
            let batch = topic
                .partitions
                .get(*partition as usize)?
                .in_flight
                .iter()
                .find(|b| b.id == *id)?;
            Some(
                batch
                    .expires_us(topic.timeout_us())
                    .saturating_sub(now.mono_us)
                    / 1000,
            )
        });
        let left = left.min().unwrap_or(u64::MAX).clamp(1, i64::MAX as u64) as i64;
        left.min(self.client.socket_timeout_ms.into())
    }

    /// Takes in the answer to a Produce request, or why there is none.
    pub(crate) fn produced(
        &mut self,
        now: Now,
        id: u64,
        result: Result<Response, KafkaError>,
        metadata: &mut Metadata,
    ) {
        let Some(sent) = self.requests.remove(&id) else {
            return;
        };
        let result = match result {
            Ok(Response::Produce(response)) => Ok(Some(response)),
            Ok(_) => Err(KafkaError::from(ErrCode::BAD_MSG)),
            Err(error) => Err(error),
        };
        self.all_answered(now, sent, result, Some(metadata));
    }

    /// What a request's batches came to. `Ok(None)`: it was sent, and no answer is expected.
    fn all_answered(
        &mut self,
        now: Now,
        sent: Sent,
        result: Result<Option<ProduceResponse>, KafkaError>,
        mut metadata: Option<&mut Metadata>,
    ) {
        for (topic, number, id) in sent.batches {
            let Some(partition) = self.topics[topic as usize]
                .partitions
                .get_mut(number as usize)
            else {
                continue;
            };
            // A purge has taken it, or the partition is gone.
            let Some(batch) = partition.take_in_flight(id) else {
                continue;
            };
            if partition.is_busy() {
                list(&mut self.listed, partition, topic, number);
            }
            let answer = match &result {
                Ok(None) => {
                    self.deliver(
                        now,
                        topic,
                        number as i32,
                        batch,
                        sent.node,
                        Answer::unanswered(),
                    );
                    continue;
                }
                Ok(Some(response)) => self.answer_in(response, topic, number, metadata.as_deref()),
                Err(error) => Answer::failed(error.clone()),
            };
            if stale_metadata(answer.code)
                && let Some(metadata) = metadata.as_deref_mut()
            {
                metadata.refresh_soon(now);
            }
            self.answered(now, topic, number, batch, sent.node, answer);
        }
    }

    /// A batch's part of an answer, which names its topic by name or, from version 13 on, by id.
    fn answer_in(
        &self,
        response: &ProduceResponse,
        topic: u32,
        number: u32,
        metadata: Option<&Metadata>,
    ) -> Answer {
        let name = &self.topics[topic as usize].name;
        let id = metadata
            .map(|metadata| metadata.topic_id(name))
            .filter(|id| !id.is_zero());
        let of_topic = response
            .responses
            .iter()
            .filter(|t| t.name == *name || (t.name.is_empty() && Some(t.topic_id) == id));
        let mut partitions = of_topic.flat_map(|t| &t.partition_responses);
        match partitions.find(|p| p.index == number as i32) {
            Some(partition) => Answer::from(partition),
            None => Answer::failed(KafkaError::new(
                ErrCode::BAD_MSG,
                "the broker's answer lacks the partition",
            )),
        }
    }

    /// Decides what becomes of a batch.
    fn answered(
        &mut self,
        now: Now,
        topic: u32,
        number: u32,
        mut batch: Batch,
        node: i32,
        answer: Answer,
    ) {
        let code = answer.code;
        match code {
            ErrCode::NO_ERROR => {
                return self.deliver(now, topic, number as i32, batch, node, answer);
            }
            ErrCode::DUPLICATE_SEQUENCE_NUMBER if batch.sequence.is_some() => {
                let there = Answer {
                    code: ErrCode::NO_ERROR,
                    base_offset: NO_OFFSET,
                    ..answer
                };
                return self.deliver(now, topic, number as i32, batch, node, there);
            }
            _ => {}
        }
        batch.possibly_persisted |= matches!(
            code,
            ErrCode::TRANSPORT
                | ErrCode::DESTROY_BROKER
                | ErrCode::TIMED_OUT
                | ErrCode::REQUEST_TIMED_OUT
                | ErrCode::NETWORK_EXCEPTION
                | ErrCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
                | ErrCode::BAD_MSG
        );
        let error = answer.message.unwrap_or_else(|| code.into());
        let Some(batch) = self.out_of_sequence(now, topic, number, batch, &error) else {
            return;
        };
        let expired = batch.expires_us(self.topics[topic as usize].timeout_us()) <= now.mono_us;
        if expired {
            let text = format!("message.timeout.ms passed; the last error was {error}");
            return self.fail(
                now,
                topic,
                number as i32,
                batch,
                KafkaError::new(ErrCode::MSG_TIMED_OUT, text),
            );
        }
        let passes = error.retriable
            || matches!(
                code,
                ErrCode::TRANSPORT | ErrCode::DESTROY_BROKER | ErrCode::TIMED_OUT
            );
        if !passes || batch.attempts > self.client.retries {
            return self.fail(now, topic, number as i32, batch, error);
        }
        let (first, most) = (
            self.client.retry_backoff_ms,
            self.client.retry_backoff_max_ms,
        );
        let pause =
            (u64::from(first) << (batch.attempts - 1).min(16)).min(most.max(first).into()) * 1000;
        let not_before = now.mono_us + self.random.jitter(pause, RETRY_SPREAD);
        self.send_again(topic, number, batch, not_before);
    }

    pub(super) fn send_again(
        &mut self,
        topic: u32,
        number: u32,
        mut batch: Batch,
        not_before: u64,
    ) {
        let partition = &mut self.topics[topic as usize].partitions[number as usize];
        partition.not_before = partition.not_before.max(not_before);
        // Numbers of a sequence that was given up since: the broker refused one before it, hence this one, too.
        if batch
            .sequence
            .is_some_and(|s| s.identity != partition.sequencing.identity)
        {
            batch.sequence = None;
        }
        partition.put_back(batch);
        list(&mut self.listed, partition, topic, number);
    }

    /// Reports a batch as delivered.
    fn deliver(
        &mut self,
        now: Now,
        topic: u32,
        number: i32,
        batch: Batch,
        node: i32,
        answer: Answer,
    ) {
        let partition = &mut self.topics[topic as usize].partitions[number as usize];
        partition.counters.delivered += batch.count as u64;
        partition.sequencing.note_written(batch.id);
        self.counters.delivered += batch.count as u64;
        self.counters.delivered_bytes += batch.bytes as u64;
        let status = match answer.message.is_none() && answer.code == ErrCode::NO_ERROR {
            true if answer.base_offset == NO_OFFSET && batch.sequence.is_none() => {
                Persistence::PossiblyPersisted
            }
            _ => Persistence::Persisted,
        };
        self.report(now, topic, number, batch, node, None, status, &answer);
    }

    /// Reports a batch as failed.
    pub(super) fn fail(
        &mut self,
        now: Now,
        topic: u32,
        number: i32,
        batch: Batch,
        error: KafkaError,
    ) {
        let status = if batch.possibly_persisted {
            Persistence::PossiblyPersisted
        } else {
            Persistence::NotPersisted
        };
        let partition = usize::try_from(number)
            .ok()
            .and_then(|n| self.topics[topic as usize].partitions.get_mut(n));
        if let Some(partition) = partition {
            partition.counters.failed += batch.count as u64;
            if let Some(sequence) = batch.sequence
                && partition.sequencing.identity == sequence.identity
            {
                partition.sequencing.note_gap(batch.id);
                // Batches before it keep their numbers until they are answered, for they may be written already. Those
                // behind it are refused for the gap, and begin anew then.
                let numbered = |b: &Batch| b.sequence.is_some();
                let ready = &partition.ready;
                if !partition.in_flight.iter().any(numbered) && !ready.iter().any(numbered) {
                    self.restart_sequence(now, topic, number as u32, error.code);
                }
            }
        }
        let gapless = self.client.enable_gapless_guarantee && self.fatal.is_none();
        if gapless && !matches!(error.code, ErrCode::PURGE_QUEUE | ErrCode::PURGE_INFLIGHT) {
            let text = format!("a message failed: {error}");
            self.raise_fatal(
                now,
                KafkaError::new(ErrCode::GAPLESS_GUARANTEE, text).into_fatal(),
            );
        }
        let none = Answer::unanswered();
        self.report(now, topic, number, batch, -1, Some(error), status, &none);
    }

    #[allow(clippy::too_many_arguments)]
    fn report(
        &mut self,
        now: Now,
        topic: u32,
        partition: i32,
        mut batch: Batch,
        broker: i32,
        error: Option<KafkaError>,
        status: Persistence,
        answer: &Answer,
    ) {
        let wanted = self.client.delivery_reports
            && (error.is_some() || !self.client.delivery_report_only_error);
        let (count, bytes) = (batch.count, batch.bytes);
        // A batch that was never sent is finished for the sake of its report only.
        let readable = wanted
            && batch
                .finish(&mut self.codecs, &FinishOptions::default())
                .is_ok();
        let Some((header, plain)) = readable.then(|| batch.plain()).flatten() else {
            self.taken(count, bytes);
            let buffer = batch.into_buffer();
            return keep(&mut self.spare, buffer);
        };
        self.reports.push_back(DeliveredBatch {
            topic: self.topics[topic as usize].name.clone(),
            topic_handle: topic,
            partition,
            base_offset: answer.base_offset,
            log_append_time: answer.log_append_time,
            log_start_offset: answer.log_start_offset,
            error,
            status,
            broker,
            latency_us: now.mono_us.saturating_sub(batch.opened_us),
            header,
            plain,
            sides: batch.sides,
            count,
            bytes,
        });
    }
}

impl Answer {
    /// Nobody answers with `acks=0`.
    fn unanswered() -> Self {
        Self {
            code: ErrCode::NO_ERROR,
            message: None,
            base_offset: NO_OFFSET,
            log_append_time: -1,
            log_start_offset: -1,
        }
    }

    fn failed(error: KafkaError) -> Self {
        Self {
            code: error.code,
            message: Some(error),
            base_offset: NO_OFFSET,
            log_append_time: -1,
            log_start_offset: -1,
        }
    }
}

impl From<&PartitionProduceResponse> for Answer {
    fn from(partition: &PartitionProduceResponse) -> Self {
        let code = ErrCode::from(partition.error_code);
        let message = partition
            .error_message
            .as_ref()
            .map(|text| KafkaError::new(code, format!("{text}")));
        Self {
            code,
            message: message.filter(|_| code != ErrCode::NO_ERROR),
            base_offset: if partition.base_offset < 0 {
                NO_OFFSET
            } else {
                partition.base_offset
            },
            log_append_time: partition.log_append_time_ms,
            log_start_offset: partition.log_start_offset,
        }
    }
}

/// Whether an error says that the client's view of the cluster is old.
fn stale_metadata(code: ErrCode) -> bool {
    matches!(
        code,
        ErrCode::NOT_LEADER_FOR_PARTITION
            | ErrCode::LEADER_NOT_AVAILABLE
            | ErrCode::UNKNOWN_TOPIC_OR_PART
            | ErrCode::UNKNOWN_TOPIC_ID
            | ErrCode::INCONSISTENT_TOPIC_ID
            | ErrCode::FENCED_LEADER_EPOCH
            | ErrCode::KAFKA_STORAGE_ERROR
            | ErrCode::TRANSPORT
            | ErrCode::DESTROY_BROKER
    )
}

fn keep(spare: &mut Vec<Vec<u8>>, buffer: Option<Vec<u8>>) {
    if let Some(buffer) = buffer
        && spare.len() < MAX_SPARE
    {
        spare.push(buffer);
    }
}
