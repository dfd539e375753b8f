//! Produce (0): batches into logs, answered as `acks` says.
//!
//! Serves versions 3 to 13. Departs from Kafka: an answer waits, with `durability=fsync`, until the records are on disk; records of a
//! transaction whose partition is being added, or that come before the transaction ahead is complete, wait for that, where Kafka has
//! the client try again; a batch that has to be read may decompress to 128 MiB; a quota counts a request when it is worked on, not when
//! its records are committed.
//!
//! Versions 0 to 2 are told and not served, as with Kafka (`advertised_versions`).
//!
//! With `acks=1` as with `acks=all` the answer comes when the records may be seen. In Kafka the append does that where there is one
//! replica; here, with `durability=fsync`, the sync does, which both share. What is acknowledged before is on no disk, and a consumer
//! of the same program that asks for the end would miss its own records.
//!
//! Those of a transaction are let in by the transaction coordinator: from version 12 on (KIP-890) their partition is added to the
//! transaction by that; before, it must be in it.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use ottla_protocol::{
    ErrorCode, Records, Response, Str, Uuid,
    messages::produce::{
        BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceRequest, ProduceResponse,
        TopicProduceResponse,
    },
};
use ottla_record::{BatchHeader, Limits, Now};

use crate::{
    Broker,
    append::{Appended, PRODUCE_WITH_EPOCH_BUMP, ProduceRules, Refusal},
    context::{Handled, RequestContext},
    output::Output,
    partition::{CommitWaiter, PartitionIndex},
    produce_job::{self, Append, Appending, ProduceJob, Target, TopicAppends},
    purgatory::{PendingPartition, WaitingProduce},
    quotas::{body_size, client_of},
    topic_config::TopicConfig,
    topics::Topic,
    transactions::{
        Admission, Member,
        waiting::{Outcome, Parked},
    },
};

/// From this version on topics are named by id.
const WITH_TOPIC_IDS: i16 = 13;
/// From this version on clients know TRANSACTION_ABORTABLE.
const WITH_TRANSACTION_ABORTABLE: i16 = 11;

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: ProduceRequest,
) -> Handled {
    let mut request = request;
    // As in Kafka a topic without partitions is not told of.
    let topics = &mut request.topic_data;
    topics.retain(|topic| !topic.partition_data.is_empty());
    match request.transactional_id.clone() {
        None => append_all(broker, now, context, request, &Refusals::new()),
        Some(id) => {
            let timeout_ms = request.timeout_ms;
            broker.admit_or_park(now, context, &id, timeout_ms, Parked::Produce(request))
        }
    }
}

/// What the transaction coordinator refuses: by the place of a topic and a partition in the request.
pub(crate) type Refusals = BTreeMap<(usize, usize), ErrorCode>;

/// A request of a transactional producer: appended if the transaction coordinator lets it in.
pub(crate) fn proceed(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: ProduceRequest,
) -> Outcome {
    match admit(broker, now, context.api_version, &request) {
        Some(refusals) => Outcome::Done(append_all(broker, now, context, request, &refusals)),
        None => Outcome::Wait(Parked::Produce(request)),
    }
}

/// Asks the transaction coordinator about each batch of a transaction whose partition has nothing of that transaction yet. `None`
/// if the request has to wait.
fn admit(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &ProduceRequest,
) -> Option<Refusals> {
    let mut refusals = Refusals::new();
    let Some(transactional_id) = &request.transactional_id else {
        return Some(refusals);
    };
    // Of each producer what it asks for, and where that is in the request.
    type Asked = Vec<((Str, i32), (usize, usize))>;
    let mut producers: BTreeMap<(i64, i16), Asked> = BTreeMap::new();
    for (topic_at, data) in request.topic_data.iter().enumerate() {
        let Ok(topic) = named(broker, version, &data.name, data.topic_id) else {
            continue;
        };
        for (partition_at, data) in data.partition_data.iter().enumerate() {
            let index = topic.partition(data.index);
            let partition = index.and_then(|index| broker.partitions.get(index));
            let (Some(partition), Some(header)) = (partition, first_header(&data.records)) else {
                continue;
            };
            if !header.attributes.is_transactional() || topic.internal {
                continue;
            }
            let known = partition.log.producers().get(header.producer_id);
            let is_in = known.is_some_and(|known| {
                known.transaction_start.is_some() && known.epoch == header.producer_epoch
            });
            if !is_in {
                let producer = (header.producer_id, header.producer_epoch);
                let asked = producers.entry(producer).or_default();
                let partition = (topic.name.clone(), data.index);
                asked.push((partition, (topic_at, partition_at)));
            }
        }
    }
    if producers.len() > 1 {
        let all = producers.values().flatten();
        refusals.extend(all.map(|(_, at)| (*at, ErrorCode::INVALID_PRODUCER_ID_MAPPING)));
        return Some(refusals);
    }
    for ((producer_id, producer_epoch), asked) in producers {
        let member = Member {
            transactional_id,
            producer_id,
            producer_epoch,
        };
        let partitions: Vec<(Str, i32)> = asked.iter().map(|(p, _)| p.clone()).collect();
        let add = version >= PRODUCE_WITH_EPOCH_BUMP;
        match broker.transactions.admit(now, member, &partitions, add) {
            Admission::Granted => {}
            Admission::Wait => return None,
            Admission::Missing(missing) => {
                let error = match version >= WITH_TRANSACTION_ABORTABLE {
                    true => ErrorCode::TRANSACTION_ABORTABLE,
                    false => ErrorCode::INVALID_TXN_STATE,
                };
                let asked = asked.into_iter().filter(|(p, _)| missing.contains(p));
                refusals.extend(asked.map(|(_, at)| (at, error)));
            }
            Admission::Refused(error) => {
                let error = match error {
                    // Of which producers make an error that they may recover from (since Kafka 2.7).
                    ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
                    error => error,
                };
                refusals.extend(asked.into_iter().map(|(_, at)| (at, error)));
            }
        }
    }
    Some(refusals)
}

fn first_header(records: &Records) -> Option<BatchHeader> {
    let first = records.chunks().next()?;
    match BatchHeader::parse(first) {
        Ok(header) => Some(header),
        // A header in two pieces.
        Err(_) if first.len() < records.len() => BatchHeader::parse(&records.to_bytes()).ok(),
        Err(_) => None,
    }
}

/// The answer with `error` for every partition, as far as clients of this version know it.
pub(crate) fn refuse_all(
    context: &RequestContext,
    request: ProduceRequest,
    error: ErrorCode,
) -> Handled {
    let error = match error {
        // What clients of before KIP-890 don't expect here, in the form of one that has them try again.
        ErrorCode::CONCURRENT_TRANSACTIONS if context.api_version < PRODUCE_WITH_EPOCH_BUMP => {
            ErrorCode::NOT_ENOUGH_REPLICAS
        }
        ErrorCode::NOT_COORDINATOR => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        error => error,
    };
    if request.acks == 0 {
        return Handled::Disconnect;
    }
    let topics = request.topic_data.into_iter().map(|topic| {
        let partitions = topic.partition_data.iter();
        TopicProduceResponse {
            partition_responses: partitions
                .map(|p| refused(p.index, Refusal::bare(error)))
                .collect(),
            name: topic.name,
            topic_id: topic.topic_id,
        }
    });
    Handled::Respond(Response::Produce(ProduceResponse {
        responses: topics.collect(),
        ..Default::default()
    }))
}

/// Everything a request asks for, done at once.
fn append_all(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: ProduceRequest,
    refusals: &Refusals,
) -> Handled {
    let mut job = begin(broker, now, context, request, refusals);
    let Broker {
        partitions, codecs, ..
    } = broker;
    produce_job::append(&mut job.topics, &job.rules, partitions, codecs);
    end(broker, now, job)
}

/// What is to be appended where. Nothing is yet.
pub(crate) fn begin(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: ProduceRequest,
    refusals: &Refusals,
) -> ProduceJob {
    let throttle_time_ms = match client_of(broker, context) {
        None => 0,
        Some(client_id) if broker.quotas.limits_produced(&client_id) => {
            let bytes = body_size(&request, context.api_version);
            broker.quotas.produced(now, &client_id, bytes)
        }
        Some(_) => 0,
    };
    let version = context.api_version;
    let acks = request.acks;
    let mut job = ProduceJob {
        reply: context.reply,
        rules: ProduceRules {
            now,
            version,
            is_transactional: request.transactional_id.is_some(),
            limits: Limits {
                decompressed_bytes: broker.config.max_decompressed_bytes,
            },
        },
        acks,
        timeout_ms: request.timeout_ms,
        throttle_time_ms,
        topics: Vec::with_capacity(request.topic_data.len()),
        lent: Vec::new(),
    };
    for (topic_at, topic) in request.topic_data.into_iter().enumerate() {
        let mut appends = Vec::with_capacity(topic.partition_data.len());
        for (partition_at, data) in topic.partition_data.into_iter().enumerate() {
            let destination = match refusals.get(&(topic_at, partition_at)) {
                Some(error) => Err(Refusal::bare(*error)),
                None => {
                    let (name, id) = (&topic.name, topic.topic_id);
                    let found = destination(broker, (version, acks), name, id, data.index);
                    found.map_err(Refusal::bare)
                }
            };
            appends.push(Append {
                number: data.index,
                state: match destination {
                    Ok((index, config)) => {
                        let config = config.clone();
                        Appending::Wanted(Target { index, config }, data.records)
                    }
                    Err(refusal) => {
                        if refusal.code == ErrorCode::INVALID_TOPIC_EXCEPTION {
                            let (name, id) = (&topic.name, topic.topic_id);
                            note_forbidden(broker, version, name, id, data.index);
                        }
                        Appending::Refused(refusal)
                    }
                },
            });
        }
        job.topics.push(TopicAppends {
            name: topic.name,
            topic_id: topic.topic_id,
            appends,
        });
    }
    job
}

/// Does what follows from the appends, and makes the answer.
pub(crate) fn end(broker: &mut Broker, now: Now, job: ProduceJob) -> Handled {
    let ProduceJob {
        reply,
        acks,
        timeout_ms,
        throttle_time_ms,
        topics,
        ..
    } = job;
    let mut any_error = false;
    let mut waits: Vec<(PendingPartition, i64)> = Vec::new();
    let mut responses = Vec::with_capacity(topics.len());
    for (topic_at, topic) in topics.into_iter().enumerate() {
        let mut partition_responses = Vec::with_capacity(topic.appends.len());
        for (partition_at, append) in topic.appends.into_iter().enumerate() {
            let refusal = match append.state {
                Appending::Done(index, appended) => {
                    if appended.bytes > 0 {
                        broker.note_appended(now, index, appended.bytes);
                    }
                    let partition = broker.partitions.get_mut(index);
                    let committed = partition.is_some_and(|partition| {
                        partition.produce_requests += 1;
                        partition.high_watermark() >= appended.end
                    });
                    if acks != 0 && !committed {
                        let pending = PendingPartition {
                            partition: index,
                            topic_at,
                            partition_at,
                        };
                        waits.push((pending, appended.end));
                    }
                    partition_responses.push(accepted(append.number, &appended));
                    continue;
                }
                Appending::Failed(index, refusal) => {
                    note_refused(broker, index, &refusal);
                    if refusal.fails_partition {
                        broker.fail_partition(index);
                    }
                    refusal
                }
                // Whoever was to append it panicked: what is in that log isn't known.
                Appending::Wanted(target, _) => {
                    let refusal = Refusal::bare(ErrorCode::KAFKA_STORAGE_ERROR);
                    note_refused(broker, target.index, &refusal);
                    broker.fail_partition(target.index);
                    refusal
                }
                Appending::Refused(refusal) => refusal,
            };
            any_error = true;
            partition_responses.push(refused(append.number, refusal));
        }
        responses.push(TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses,
        });
    }
    let response = ProduceResponse {
        responses,
        throttle_time_ms,
        ..Default::default()
    };
    if acks == 0 {
        // Nobody hears of an error, so the connection ends, as in Kafka: the producer then knows that something is wrong.
        if any_error {
            return Handled::Disconnect;
        }
        if let Some(throttle_ms) = u32::try_from(throttle_time_ms).ok().filter(|ms| *ms > 0) {
            let conn = reply.conn;
            broker.outputs.push_back(Output::Mute { conn, throttle_ms });
        }
        return Handled::NoResponse;
    }
    if waits.is_empty() {
        return Handled::Respond(Response::Produce(response));
    }
    let pending = waits.iter().map(|(pending, _)| *pending).collect();
    // The timeout is for acks=all, and who asks for acks=1 may send 0.
    let deadline_us = (acks == -1).then(|| now.after_ms(timeout_ms.into()));
    let id = broker.purgatory.park_produce(
        deadline_us,
        WaitingProduce {
            reply,
            response,
            pending,
        },
    );
    for (pending, end) in waits {
        broker.wait_for_commit(pending.partition, end, CommitWaiter::Produce(id));
    }
    Handled::Deferred
}

/// Somebody produces to a topic of the broker's own, which Kafka counts before it sees that nobody may.
fn note_forbidden(broker: &mut Broker, version: i16, name: &Str, topic_id: Uuid, number: i32) {
    if let Ok(topic) = named(broker, version, name, topic_id)
        && let Some(index) = topic.partition(number)
        && let Some(partition) = broker.partitions.get_mut(index)
    {
        partition.produce_requests += 1;
    }
}

/// A batch was refused that was on its way to this partition.
fn note_refused(broker: &mut Broker, index: PartitionIndex, refusal: &Refusal) {
    if let Some(partition) = broker.partitions.get_mut(index) {
        partition.produce_requests += u64::from(refusal.came_to_the_log());
        partition.failed_produces += u64::from(refusal.is_failure());
    }
}

/// Where a batch goes, and the topic's settings.
pub(crate) fn destination<'a>(
    broker: &'a Broker,
    (version, acks): (i16, i16),
    name: &str,
    topic_id: Uuid,
    number: i32,
) -> Result<(PartitionIndex, &'a Arc<TopicConfig>), ErrorCode> {
    if !(-1..=1).contains(&acks) {
        return Err(ErrorCode::INVALID_REQUIRED_ACKS);
    }
    let topic = named(broker, version, name, topic_id)?;
    if topic.internal {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    let index = topic
        .partition(number)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    Ok((index, &topic.config))
}

fn named<'a>(
    broker: &'a Broker,
    version: i16,
    name: &str,
    topic_id: Uuid,
) -> Result<&'a Topic, ErrorCode> {
    if version >= WITH_TOPIC_IDS {
        let topic = broker.topics.by_id(&topic_id);
        topic.ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
    } else {
        let topic = broker.topics.by_name(name);
        topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }
}

fn accepted(index: i32, appended: &Appended) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: ErrorCode::NONE,
        base_offset: appended.base_offset,
        log_append_time_ms: appended.log_append_time,
        log_start_offset: appended.log_start_offset,
        ..Default::default()
    }
}

fn refused(index: i32, refusal: Refusal) -> PartitionProduceResponse {
    let Refusal {
        code,
        message,
        records,
        log_start_offset,
        ..
    } = refusal;
    PartitionProduceResponse {
        index,
        error_code: code,
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset,
        record_errors: records
            .into_iter()
            .map(|record| BatchIndexAndErrorMessage {
                batch_index: record.index,
                batch_index_error_message: Some(Str::from_static(record.message)),
            })
            .collect(),
        error_message: (!message.is_empty()).then(|| message.into()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability,
        testing::{
            CONN, Harness, START_MS, batch, batch_at, compressed, keyed_batch, produce_request,
            produced, read, sequenced, values,
        },
    };
    use bytes::Bytes;
    use ottla_protocol::{Records, Request, messages::metadata::MetadataRequest};
    use ottla_record::{BatchHeader, Batches, Compression, FinishOptions, TimestampType};
    use std::{string::String, vec};

    fn os() -> Harness {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 2, &[]);
        h
    }

    /// The batch with its header changed and sealed again.
    fn changed(records: &Records, change: impl FnOnce(&mut BatchHeader)) -> Records {
        let mut bytes = records.to_bytes().to_vec();
        let raw = *bytes.first_chunk().unwrap();
        let patched = ottla_record::header::resealed(&raw, change);
        bytes[..patched.len()].copy_from_slice(&patched);
        Bytes::from(bytes).into()
    }

    #[test]
    fn offsets_follow_each_other_and_records_come_back() {
        let mut h = os();
        for (at, words) in [(0, ["a", "b"]), (2, ["c", "d"])] {
            let answer = h.produce("t", 0, batch(&words));
            assert_eq!(
                (answer.error_code, answer.base_offset),
                (ErrorCode::NONE, at)
            );
            assert_eq!(
                (answer.log_append_time_ms, answer.log_start_offset),
                (-1, 0)
            );
        }
        assert_eq!(h.produce("t", 1, batch(&["x"])).base_offset, 0);
        let data = h.fetch("t", 0, 0);
        assert_eq!(data.high_watermark, 4);
        let all: vec::Vec<_> = read(&data.records);
        assert_eq!(
            all,
            [
                (0, "a".into()),
                (1, "b".into()),
                (2, "c".into()),
                (3, "d".into())
            ]
        );
    }

    #[test]
    fn acks() {
        let mut h = os();
        let id = h.send_produce("t", 0, 1, batch(&["one"]));
        assert_eq!(
            produced(h.take_answer(id).unwrap()).error_code,
            ErrorCode::NONE
        );
        let id = h.send_produce("t", 0, 0, batch(&["none"]));
        assert!(h.take_answer(id).is_none());
        assert_eq!(values(&h.fetch("t", 0, 0).records), ["one", "none"]);
        let id = h.send_produce("t", 0, 2, batch(&["bad"]));
        assert_eq!(
            produced(h.take_answer(id).unwrap()).error_code,
            ErrorCode::INVALID_REQUIRED_ACKS
        );
        h.send_produce("nowhere", 0, 0, batch(&["bad"]));
        assert_eq!(
            h.disconnected,
            [CONN],
            "an error of acks=0 ends the connection"
        );
    }

    #[test]
    fn what_is_not_there() {
        let mut h = os();
        let code = |h: &mut Harness, topic, partition| {
            h.produce(topic, partition, batch(&["v"])).error_code
        };
        assert_eq!(
            code(&mut h, "nowhere", 0),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );
        assert_eq!(code(&mut h, "t", 2), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(code(&mut h, "t", -1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        let internal = MetadataRequest {
            topics: Some(vec![
                ottla_protocol::messages::metadata::MetadataRequestTopic {
                    name: Some("__consumer_offsets".into()),
                    ..Default::default()
                },
            ]),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        h.ask(9, Request::Metadata(internal));
        assert_eq!(
            code(&mut h, "__consumer_offsets", 0),
            ErrorCode::INVALID_TOPIC_EXCEPTION
        );
    }

    #[test]
    fn by_topic_id() {
        let mut h = os();
        let id = h.broker.topics.by_name("t").unwrap().id;
        for (topic_id, error) in [
            (id, ErrorCode::NONE),
            (Uuid::from_random(1), ErrorCode::UNKNOWN_TOPIC_ID),
        ] {
            let Request::Produce(mut request) = produce_request("", 0, -1, batch(&["v"])) else {
                panic!()
            };
            request.topic_data[0].topic_id = topic_id;
            let response = h.ask(13, Request::Produce(request));
            assert_eq!(produced(response).error_code, error);
        }
    }

    #[test]
    fn batches_that_are_refused() {
        let mut h = os();
        h.create_topic("small", 1, &[("max.message.bytes", "100")]);
        let good = batch(&["one", "two"]);
        let mut twice = good.clone();
        twice.push(good.to_bytes());
        let mut flipped = good.to_bytes().to_vec();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        let mut old = good.to_bytes().to_vec();
        old[16] = 1;
        let cut = good.to_bytes().slice(..good.len() - 1);
        let long: String = "x".repeat(200);
        let cases: vec::Vec<(&str, &str, Records, ErrorCode)> = vec![
            ("nothing", "t", Records::new(), ErrorCode::INVALID_RECORD),
            ("two batches", "t", twice, ErrorCode::INVALID_RECORD),
            (
                "a flipped bit",
                "t",
                Bytes::from(flipped).into(),
                ErrorCode::CORRUPT_MESSAGE,
            ),
            ("a cut batch", "t", cut.into(), ErrorCode::INVALID_RECORD),
            (
                "half a header",
                "t",
                good.to_bytes().slice(..30).into(),
                ErrorCode::INVALID_RECORD,
            ),
            (
                "magic 1",
                "t",
                Bytes::from(old).into(),
                ErrorCode::INVALID_RECORD,
            ),
            (
                "a base offset",
                "t",
                changed(&good, |h| h.base_offset = 5),
                ErrorCode::INVALID_RECORD,
            ),
            (
                "too many",
                "t",
                changed(&good, |h| h.record_count = 3),
                ErrorCode::INVALID_RECORD,
            ),
            (
                "too few",
                "t",
                changed(&good, |h| h.record_count = 1),
                ErrorCode::INVALID_RECORD,
            ),
            (
                "none",
                "t",
                changed(&good, |h| h.record_count = 0),
                ErrorCode::INVALID_RECORD,
            ),
            (
                "a gap",
                "t",
                changed(&good, |h| h.last_offset_delta = 7),
                ErrorCode::INVALID_RECORD,
            ),
            (
                "control",
                "t",
                changed(&good, |h| h.attributes = h.attributes.with_control(true)),
                ErrorCode::INVALID_RECORD,
            ),
            (
                "transactional",
                "t",
                changed(&good, |h| {
                    h.attributes = h.attributes.with_transactional(true)
                }),
                ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            ),
            (
                "no sequence",
                "t",
                changed(&good, |h| (h.producer_id, h.producer_epoch) = (5, 0)),
                ErrorCode::INVALID_RECORD,
            ),
            (
                "append time",
                "t",
                changed(&good, |h| {
                    h.attributes = h
                        .attributes
                        .with_timestamp_type(TimestampType::LogAppendTime)
                }),
                ErrorCode::INVALID_TIMESTAMP,
            ),
            (
                "too large",
                "small",
                batch(&[&long]),
                ErrorCode::MESSAGE_TOO_LARGE,
            ),
        ];
        for (what, topic, records, code) in cases {
            let answer = h.produce(topic, 0, records);
            assert_eq!(
                (answer.error_code, answer.base_offset),
                (code, -1),
                "{what}"
            );
        }
        let id = h.send(
            3,
            produce_request("t", 0, -1, compressed(Compression::Zstd, &[&long])),
        );
        assert_eq!(
            produced(h.take_answer(id).unwrap()).error_code,
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
        );
        assert_eq!(
            h.fetch("t", 0, 0).high_watermark,
            0,
            "nothing of it was appended"
        );
    }

    #[test]
    fn records_are_read_unless_they_were_built_here() {
        let mut h = os();
        let good = batch(&["one", "two"]);
        let mut flipped = good.to_bytes().to_vec();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        let flipped = Records::from(Bytes::from(flipped));
        let code = |h: &mut Harness, records| h.produce("t", 0, records).error_code;
        assert_eq!(code(&mut h, flipped.clone()), ErrorCode::CORRUPT_MESSAGE);
        assert_eq!(code(&mut h, flipped.vouched()), ErrorCode::NONE);
        // The header is looked at in any case, and so are the records where the topic wants to know of each.
        let gap = changed(&good, |h| h.last_offset_delta = 7).vouched();
        assert_eq!(code(&mut h, gap), ErrorCode::INVALID_RECORD);
        h.create_topic("compacted", 1, &[("cleanup.policy", "compact")]);
        let answer = h.produce("compacted", 0, good.vouched());
        assert_eq!(answer.error_code, ErrorCode::INVALID_RECORD);
        assert_eq!(answer.record_errors.len(), 2);
        let late = batch_at(START_MS + 3_600_001, None, &["v"], FinishOptions::default());
        assert_eq!(code(&mut h, late.vouched()), ErrorCode::INVALID_TIMESTAMP);
    }

    #[test]
    fn timestamps_within_bounds() {
        let mut h = os();
        h.create_topic(
            "narrow",
            1,
            &[
                ("message.timestamp.before.max.ms", "1000"),
                ("message.timestamp.after.max.ms", "1000"),
            ],
        );
        for (delta, code) in [
            (0, ErrorCode::NONE),
            (1001, ErrorCode::INVALID_TIMESTAMP),
            (-1001, ErrorCode::INVALID_TIMESTAMP),
        ] {
            let records = batch_at(
                START_MS + delta,
                None,
                &["v", "w"],
                FinishOptions::default(),
            );
            let answer = h.produce("narrow", 0, records);
            assert_eq!(answer.error_code, code, "{delta}");
            assert_eq!(answer.record_errors.len(), if delta == 0 { 0 } else { 2 });
        }
        // Kafka's default: an hour ahead is too much.
        let records = batch_at(START_MS + 3_600_001, None, &["v"], FinishOptions::default());
        assert_eq!(
            h.produce("t", 0, records).error_code,
            ErrorCode::INVALID_TIMESTAMP
        );
    }

    #[test]
    fn compacted_topics_need_keys() {
        let mut h = os();
        h.create_topic("compacted", 1, &[("cleanup.policy", "compact")]);
        let answer = h.produce("compacted", 0, batch(&["v"]));
        assert_eq!(answer.error_code, ErrorCode::INVALID_RECORD);
        assert_eq!(answer.record_errors[0].batch_index, 0);
        let keyed = keyed_batch(Some(b"k"), &["v"], FinishOptions::default());
        assert_eq!(h.produce("compacted", 0, keyed).error_code, ErrorCode::NONE);
    }

    #[test]
    fn log_append_time_is_stamped() {
        let mut h = os();
        h.create_topic("stamped", 1, &[("message.timestamp.type", "LogAppendTime")]);
        h.pass_ms(5000);
        let answer = h.produce("stamped", 0, batch(&["v"]));
        assert_eq!(
            (answer.error_code, answer.log_append_time_ms),
            (ErrorCode::NONE, START_MS + 5000)
        );
        let records = h.fetch("stamped", 0, 0).records;
        assert_eq!(values(&records), ["v"]);
        let stored = Batches::new(records.into_chunks()).next().unwrap().unwrap();
        assert_eq!(stored.header().max_timestamp, START_MS + 5000);
        assert_eq!(
            stored.header().attributes.timestamp_type(),
            TimestampType::LogAppendTime
        );
    }

    #[test]
    fn recompression() {
        let mut h = os();
        let long = "one".repeat(500);
        for (topic, target) in [
            ("gzip", Compression::Gzip),
            ("uncompressed", Compression::None),
            ("lz4", Compression::Lz4),
        ] {
            h.create_topic(topic, 1, &[("compression.type", topic)]);
            for source in Compression::ALL {
                assert_eq!(
                    h.produce(topic, 0, compressed(source, &[&long, "two"]))
                        .error_code,
                    ErrorCode::NONE
                );
            }
            let records = h.fetch(topic, 0, 0).records;
            assert_eq!(
                values(&records),
                [&long, "two"].repeat(Compression::ALL.len())
            );
            for stored in Batches::new(records.into_chunks()) {
                assert_eq!(
                    stored.unwrap().header().attributes.compression(),
                    Ok(target)
                );
            }
        }
    }

    #[test]
    fn idempotent_producers() {
        let mut h = os();
        assert_eq!(
            h.produce("t", 0, sequenced(7, 0, 0, &["a", "b"]))
                .base_offset,
            0
        );
        assert_eq!(h.produce("t", 0, sequenced(7, 0, 2, &["c"])).base_offset, 2);
        let again = h.produce("t", 0, sequenced(7, 0, 0, &["a", "b"]));
        assert_eq!(
            (again.error_code, again.base_offset),
            (ErrorCode::NONE, 0),
            "a repetition has its old offset"
        );
        assert_eq!(
            h.produce("t", 0, sequenced(7, 0, 9, &["j"])).error_code,
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        );
        assert_eq!(
            h.produce("t", 0, sequenced(7, 1, 1, &["x"])).error_code,
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        );
        assert_eq!(h.produce("t", 0, sequenced(7, 1, 0, &["d"])).base_offset, 3);
        assert_eq!(
            h.produce("t", 0, sequenced(7, 0, 3, &["x"])).error_code,
            ErrorCode::INVALID_PRODUCER_EPOCH
        );
        assert_eq!(values(&h.fetch("t", 0, 0).records), ["a", "b", "c", "d"]);

        let mut h = h.restart(false);
        assert_eq!(
            h.produce("t", 0, sequenced(7, 1, 0, &["d"])).base_offset,
            3,
            "remembered over a crash"
        );
        assert_eq!(h.produce("t", 0, sequenced(7, 1, 1, &["e"])).base_offset, 4);
    }
}
