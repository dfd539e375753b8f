//! Fetch (1): records, as slices of the log; a long poll that is woken by appends; fetch sessions.
//!
//! Serves versions 4 to 18. Departs from Kafka: only whole batches are sent, where Kafka may cut the last one off in the middle; a
//! batch that is damaged is passed over; a replica id from 0 on is NOT_LEADER_OR_FOLLOWER, as there is one replica; a client whose
//! quota is too small for a batch gets it when it fetched nothing for as long as quotas look back.

use alloc::{vec, vec::Vec};

use ottla_log::LogError;
use ottla_protocol::{
    ErrorCode, Records, Response, Str, Uuid,
    messages::fetch::{
        AbortedTransaction, EpochEndOffset, FetchPartition, FetchRequest, FetchResponse,
        FetchableTopicResponse, PartitionData,
    },
};
use ottla_record::Now;

use super::{
    Isolation, isolation,
    offset_for_leader_epoch::{UNDEFINED, end_of_epoch},
};
use crate::{
    Broker,
    context::{Handled, ReplyTo, RequestContext},
    fetch_sessions::{AnsweredPartition, FetchKey, FetchKind, FetchTarget},
    partition::PartitionIndex,
    purgatory::WaitingFetch,
    quotas::{body_size, client_of},
};

/// From this version on topics are named by id.
const WITH_TOPIC_IDS: i16 = 13;
/// From this version on `replica_state` stands for `replica_id`.
const WITH_REPLICA_STATE: i16 = 15;

/// A fetch that was taken in: all that is needed to read and answer, now or when it is woken.
#[derive(Debug)]
pub(crate) struct FetchPlan {
    pub(crate) reply: ReplyTo,
    kind: FetchKind,
    uses_topic_ids: bool,
    follower: bool,
    pub(crate) read_committed: bool,
    max_bytes: usize,
    /// Whose quotas count; `None` if there are none.
    client_id: Option<Str>,
    targets: Vec<FetchTarget>,
}

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: FetchRequest,
) -> Handled {
    let version = context.api_version;
    let uses_topic_ids = version >= WITH_TOPIC_IDS;
    let replica_id = if version >= WITH_REPLICA_STATE {
        request.replica_state.replica_id
    } else {
        request.replica_id
    };

    let isolation = isolation(request.isolation_level);
    let mut targets = Vec::with_capacity(request.topics.iter().map(|t| t.partitions.len()).sum());
    for topic in request.topics {
        let name = if uses_topic_ids {
            Str::new()
        } else {
            topic.topic
        };
        let topic_id = if uses_topic_ids {
            topic.topic_id
        } else {
            Uuid::ZERO
        };
        targets.extend(
            topic
                .partitions
                .into_iter()
                .map(|p| target(name.clone(), topic_id, &p)),
        );
    }
    // Before topics had ids the answer to what can't be served names each partition that was asked for.
    let refused = match (isolation, uses_topic_ids) {
        (None, false) => targets.clone(),
        _ => Vec::new(),
    };
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics_data {
        forgotten.extend(topic.partitions.iter().map(|partition| FetchKey {
            topic: if uses_topic_ids {
                Str::new()
            } else {
                topic.topic.clone()
            },
            topic_id: if uses_topic_ids {
                topic.topic_id
            } else {
                Uuid::ZERO
            },
            partition: *partition,
        }));
    }
    let begun = broker.sessions.begin(
        now,
        request.session_id,
        request.session_epoch,
        uses_topic_ids,
        targets,
        &forgotten,
    );
    let (kind, targets) = match begun {
        Ok(begun) => begun,
        Err(error_code) => {
            return Handled::Respond(Response::Fetch(FetchResponse {
                error_code,
                ..Default::default()
            }));
        }
    };
    let Some(isolation) = isolation.or_else(|| {
        // Kafka sees the level when it comes to read: not when there is nothing.
        let reads = |target: &FetchTarget| resolve(broker, &target.key).is_ok();
        (!targets.iter().any(reads)).then_some(Isolation::ReadUncommitted)
    }) else {
        broker.counters.failed_fetches += 1;
        return Handled::Respond(refuse(request.session_id, refused));
    };
    let mut max_bytes = request.max_bytes.min(broker.config.fetch_max_bytes).max(0);
    let client_id = client_of(broker, context);
    if let Some(client_id) = &client_id {
        max_bytes = max_bytes.min(broker.quotas.fetch_max_bytes(client_id));
    }
    let plan = FetchPlan {
        reply: context.reply,
        kind,
        uses_topic_ids,
        follower: replica_id >= 0,
        read_committed: isolation == Isolation::ReadCommitted,
        max_bytes: max_bytes as usize,
        client_id,
        targets,
    };

    let read = read_all(broker, &plan);
    let missing_bytes = i64::from(request.min_bytes.min(max_bytes)) - read.bytes as i64;
    if missing_bytes <= 0 || read.is_urgent || request.max_wait_ms <= 0 || plan.targets.is_empty() {
        return Handled::Respond(answer(broker, now, plan, read));
    }
    let partitions: Vec<PartitionIndex> = plan
        .targets
        .iter()
        .filter_map(|target| resolve(broker, &target.key).ok())
        .collect();
    let watched = partitions.clone();
    let deadline_us = now.after_ms(request.max_wait_ms.into());
    let id = broker.purgatory.park_fetch(
        deadline_us,
        WaitingFetch {
            plan,
            partitions,
            missing_bytes,
        },
    );
    for index in watched {
        if let Some(partition) = broker.partitions.get_mut(index) {
            partition.fetch_waiters.push(id);
        }
    }
    Handled::Deferred
}

/// Reads again and answers a fetch that was woken, or whose time is up.
pub(crate) fn complete(broker: &mut Broker, now: Now, plan: FetchPlan) {
    let read = read_all(broker, &plan);
    let reply = plan.reply;
    let response = answer(broker, now, plan, read);
    broker.respond(reply, response);
}

/// The answer to a fetch with an isolation level that isn't one.
fn refuse(session_id: i32, targets: Vec<FetchTarget>) -> Response {
    let error_code = ErrorCode::UNKNOWN_SERVER_ERROR;
    let mut responses = Vec::new();
    for target in targets {
        let data = PartitionData {
            partition_index: target.key.partition,
            error_code,
            high_watermark: -1,
            ..Default::default()
        };
        tell(&mut responses, target.key, data);
    }
    Response::Fetch(FetchResponse {
        error_code,
        session_id,
        responses,
        ..Default::default()
    })
}

fn target(topic: Str, topic_id: Uuid, asked: &FetchPartition) -> FetchTarget {
    FetchTarget {
        key: FetchKey {
            topic,
            topic_id,
            partition: asked.partition,
        },
        current_leader_epoch: asked.current_leader_epoch,
        fetch_offset: asked.fetch_offset,
        last_fetched_epoch: asked.last_fetched_epoch,
        max_bytes: asked.partition_max_bytes,
    }
}

fn resolve(broker: &Broker, key: &FetchKey) -> Result<PartitionIndex, ErrorCode> {
    let topic = broker.topics.by_id_or_name(&key.topic_id, &key.topic)?;
    topic
        .partition(key.partition)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

struct ReadAll {
    partitions: Vec<PartitionData>,
    bytes: usize,
    /// There is an error, or somebody to be told that it went another way: nothing is waited for.
    is_urgent: bool,
}

fn diverges(data: &PartitionData) -> bool {
    data.diverging_epoch.epoch >= 0
}

fn read_all(broker: &mut Broker, plan: &FetchPlan) -> ReadAll {
    let mut all = ReadAll {
        partitions: Vec::with_capacity(plan.targets.len()),
        bytes: 0,
        is_urgent: false,
    };
    for target in &plan.targets {
        let data = match read_one(broker, plan, target, all.bytes) {
            Ok(data) => {
                all.bytes += data.records.len();
                all.is_urgent |= diverges(&data);
                data
            }
            Err(error_code) => {
                all.is_urgent = true;
                broker.counters.failed_fetches += 1;
                PartitionData {
                    partition_index: target.key.partition,
                    error_code,
                    high_watermark: -1,
                    // As Kafka has it: null where there is a partition, empty where there is none.
                    aborted_transactions: is_missing(error_code).then(Vec::new),
                    ..Default::default()
                }
            }
        };
        all.partitions.push(data);
    }
    all
}

/// Whether there is no such partition here.
fn is_missing(error_code: ErrorCode) -> bool {
    matches!(
        error_code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID
    )
}

fn read_one(
    broker: &mut Broker,
    plan: &FetchPlan,
    target: &FetchTarget,
    bytes_so_far: usize,
) -> Result<PartitionData, ErrorCode> {
    let index = match resolve(broker, &target.key) {
        Err(_) if plan.uses_topic_ids && target.key.topic_id.is_zero() => {
            return Err(ErrorCode::UNKNOWN_TOPIC_ID);
        }
        other => other?,
    };
    let partition = broker
        .partitions
        .get_mut(index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if plan.follower {
        // There are no other replicas, so whoever says it is one is not one of this partition.
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    partition.check_usable()?;
    partition.check_leader_epoch(target.current_leader_epoch)?;
    let (start, end) = (
        partition.log.log_start_offset(),
        partition.log.log_end_offset(),
    );
    // Whoever says of which epoch its last record was is told where that ended, if it is beyond (KIP-595).
    if target.last_fetched_epoch >= 0 {
        let ended = end_of_epoch(partition, target.last_fetched_epoch);
        if ended == UNDEFINED || target.fetch_offset < start {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        let (epoch, end_offset) = ended;
        if epoch < target.last_fetched_epoch || end_offset < target.fetch_offset {
            return Ok(PartitionData {
                partition_index: target.key.partition,
                diverging_epoch: EpochEndOffset { epoch, end_offset },
                high_watermark: partition.high_watermark(),
                last_stable_offset: partition.last_stable_offset(),
                log_start_offset: start,
                aborted_transactions: plan.read_committed.then(Vec::new),
                ..Default::default()
            });
        }
    }
    if !(start..=end).contains(&target.fetch_offset) {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let up_to = if plan.read_committed {
        partition.last_stable_offset()
    } else {
        partition.high_watermark()
    };
    let mut data = PartitionData {
        partition_index: target.key.partition,
        high_watermark: partition.high_watermark(),
        last_stable_offset: partition.last_stable_offset(),
        log_start_offset: start,
        aborted_transactions: plan.read_committed.then(Vec::new),
        ..Default::default()
    };
    // The first batch of the answer is given whole, however large; after that the limits hold.
    let min_one = bytes_so_far == 0;
    let limit = plan
        .max_bytes
        .saturating_sub(bytes_so_far)
        .min(usize::try_from(target.max_bytes).unwrap_or(0));
    if target.fetch_offset < up_to && (limit > 0 || min_one) {
        let slice = partition
            .log
            .read(target.fetch_offset, limit, min_one, up_to)
            .map_err(|error| match error {
                LogError::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
                _ => ErrorCode::KAFKA_STORAGE_ERROR,
            })?;
        if let Some(told) = &mut data.aborted_transactions {
            let aborted = partition
                .log
                .aborted_transactions(target.fetch_offset, slice.end_offset);
            told.extend(aborted.map(|aborted| AbortedTransaction {
                producer_id: aborted.producer_id,
                first_offset: aborted.first_offset,
            }));
        }
        data.records = slice.chunks.into_iter().collect::<Records>();
    }
    Ok(data)
}

fn answer(broker: &mut Broker, now: Now, plan: FetchPlan, read: ReadAll) -> Response {
    if let Some(client_id) = &plan.client_id {
        let bytes = match broker.quotas.limits_fetched(client_id) {
            true => answer_size(&plan, &read),
            false => 0,
        };
        if let Err(throttle_time_ms) = broker.quotas.fetched(now, client_id, bytes) {
            return throttled(&plan.kind, throttle_time_ms);
        }
    }
    let FetchPlan {
        kind,
        uses_topic_ids,
        follower,
        targets,
        ..
    } = plan;
    let seen = |data: &PartitionData| AnsweredPartition {
        has_records: !data.records.is_empty(),
        must_be_told: diverges(data),
        is_error: data.error_code != ErrorCode::NONE,
        high_watermark: data.high_watermark,
        log_start_offset: data.log_start_offset,
    };
    let (session_id, told) = match kind {
        FetchKind::Sessionless => (0, None),
        FetchKind::Full => {
            let answered = targets
                .iter()
                .zip(&read.partitions)
                .map(|(target, data)| (target.clone(), seen(data)));
            let random = &mut broker.random;
            let new_id = || (random.next_u64() >> 32) as i32;
            (
                broker
                    .sessions
                    .create(now, uses_topic_ids, follower, answered, new_id),
                None,
            )
        }
        FetchKind::Incremental(id) => {
            let answers: Vec<AnsweredPartition> = read.partitions.iter().map(seen).collect();
            (id, Some(broker.sessions.answer(id, &targets, &answers)))
        }
    };
    let mut responses = Vec::new();
    for (at, (target, data)) in targets.into_iter().zip(read.partitions).enumerate() {
        if told.as_ref().is_some_and(|told| !told[at]) {
            continue;
        }
        if data.error_code == ErrorCode::NONE
            && let Ok(index) = resolve(broker, &target.key)
            && let Some(partition) = broker.partitions.get_mut(index)
        {
            partition.fetches += 1;
            partition.bytes_out += data.records.len() as u64;
        }
        tell(&mut responses, target.key, data);
    }
    Response::Fetch(FetchResponse {
        error_code: ErrorCode::NONE,
        session_id,
        responses,
        ..Default::default()
    })
}

/// Adds a partition to an answer, beside others of its topic.
fn tell(responses: &mut Vec<FetchableTopicResponse>, key: FetchKey, data: PartitionData) {
    let FetchKey {
        topic, topic_id, ..
    } = key;
    match responses.last_mut() {
        Some(last) if last.topic == topic && last.topic_id == topic_id => {
            last.partitions.push(data)
        }
        _ => {
            let partitions = vec![data];
            responses.push(FetchableTopicResponse {
                topic,
                topic_id,
                partitions,
            });
        }
    }
}

/// Bytes of the answer, as Kafka counts them: with the four that say how many they are. Of a session it has what there is to tell.
fn answer_size(plan: &FetchPlan, read: &ReadAll) -> usize {
    let tells_all = !matches!(plan.kind, FetchKind::Incremental(_));
    let mut responses = Vec::new();
    for (target, data) in plan.targets.iter().zip(&read.partitions) {
        if tells_all || !data.records.is_empty() || data.error_code != ErrorCode::NONE {
            tell(&mut responses, target.key.clone(), data.clone());
        }
    }
    let answer = FetchResponse {
        responses,
        ..Default::default()
    };
    4 + body_size(&answer, plan.reply.api_version)
}

/// What a client gets that has used up its quota: nothing, and how long to wait. A session that it has goes on as it was; no new one begins.
fn throttled(kind: &FetchKind, throttle_time_ms: i32) -> Response {
    Response::Fetch(FetchResponse {
        throttle_time_ms,
        session_id: match kind {
            FetchKind::Incremental(id) => *id,
            FetchKind::Sessionless | FetchKind::Full => 0,
        },
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BrokerConfig, ConnId, Durability,
        testing::{
            CONN, Harness, START_MS, batch, fetch_partition, fetch_request, fetched, keyed_batch,
            values,
        },
    };
    use bytes::Bytes;
    use ottla_log::{LogConfig, OpenOptions, PartitionLog};
    use ottla_protocol::{
        Request,
        messages::{
            delete_topics::DeleteTopicsRequest,
            fetch::{FetchTopic, ForgottenTopic},
        },
    };
    use ottla_record::{BatchHeader, FinishOptions, control::EndTxnMarker};
    use std::string::String;

    fn os() -> Harness {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 2, &[]);
        h
    }

    /// A fetch of partitions of `t`, in a session.
    fn in_session(
        session_id: i32,
        session_epoch: i32,
        partitions: &[(i32, i64)],
        forget: &[i32],
    ) -> FetchRequest {
        let topics = match partitions {
            [] => Vec::new(),
            some => vec![FetchTopic {
                topic: "t".into(),
                partitions: some
                    .iter()
                    .map(|(p, offset)| fetch_partition(*p, *offset))
                    .collect(),
                ..Default::default()
            }],
        };
        FetchRequest {
            replica_id: -1,
            min_bytes: 1,
            max_bytes: i32::MAX,
            session_id,
            session_epoch,
            topics,
            forgotten_topics_data: match forget {
                [] => Vec::new(),
                some => vec![ForgottenTopic {
                    topic: "t".into(),
                    partitions: some.to_vec(),
                    ..Default::default()
                }],
            },
            ..Default::default()
        }
    }

    fn ask(h: &mut Harness, request: FetchRequest) -> FetchResponse {
        let Response::Fetch(response) = h.ask(11, Request::Fetch(request)) else {
            panic!()
        };
        response
    }

    fn numbers(response: &FetchResponse) -> vec::Vec<i32> {
        response
            .responses
            .iter()
            .flat_map(|t| &t.partitions)
            .map(|p| p.partition_index)
            .collect()
    }

    #[test]
    fn where_the_last_epoch_ended() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        h.produce("t", 0, batch(&["a", "b"]));
        let epoch = h.broker.partitions.iter().next().unwrap().1.leader_epoch;
        let mut ask = |last_fetched_epoch, offset| {
            let Request::Fetch(mut request) = fetch_request("t", 0, offset, 10_000) else {
                panic!()
            };
            request.topics[0].partitions[0].last_fetched_epoch = last_fetched_epoch;
            let data = fetched(h.ask(12, Request::Fetch(request)));
            let diverging = data.diverging_epoch;
            (
                data.error_code,
                diverging.epoch,
                diverging.end_offset,
                !data.records.is_empty(),
            )
        };
        let (none, beyond) = (ErrorCode::NONE, ErrorCode::OFFSET_OUT_OF_RANGE);
        assert_eq!(ask(epoch, 0), (none, -1, -1, true));
        // It is told at once, and not waited with.
        assert_eq!(ask(epoch, 5), (none, epoch, 2, false));
        assert_eq!(ask(-1, 5), (beyond, -1, -1, false));
        assert_eq!(ask(epoch + 1, 2), (beyond, -1, -1, false));
    }

    #[test]
    fn errors() {
        let mut h = os();
        h.produce("t", 0, batch(&["a", "b"]));
        let mut code = |topic: &str, partition, offset, epoch| {
            let Request::Fetch(mut request) = fetch_request(topic, partition, offset, 10_000)
            else {
                panic!()
            };
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            let data = fetched(h.ask(11, Request::Fetch(request)));
            assert!(data.error_code == ErrorCode::NONE || data.high_watermark == -1);
            data.error_code
        };
        assert_eq!(code("t", 0, 0, -1), ErrorCode::NONE);
        assert_eq!(code("t", 0, 0, 0), ErrorCode::NONE);
        assert_eq!(code("t", 0, 3, -1), ErrorCode::OFFSET_OUT_OF_RANGE);
        assert_eq!(code("t", 0, -1, -1), ErrorCode::OFFSET_OUT_OF_RANGE);
        assert_eq!(code("t", 0, 0, 1), ErrorCode::UNKNOWN_LEADER_EPOCH);
        assert_eq!(code("t", 7, 0, -1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(
            code("nowhere", 0, 0, -1),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );

        let id = h.broker.topics.by_name("t").unwrap().id;
        for (topic_id, code) in [
            (id, ErrorCode::NONE),
            (Uuid::from_random(1), ErrorCode::UNKNOWN_TOPIC_ID),
            (Uuid::ZERO, ErrorCode::UNKNOWN_TOPIC_ID),
        ] {
            let Request::Fetch(mut request) = fetch_request("", 0, 0, 0) else {
                panic!()
            };
            request.topics[0].topic_id = topic_id;
            request.replica_state.replica_id = -1;
            let response = h.ask(16, Request::Fetch(request));
            let Response::Fetch(answer) = &response else {
                panic!()
            };
            assert_eq!(answer.responses[0].topic_id, topic_id);
            assert_eq!(fetched(response).error_code, code);
        }
    }

    #[test]
    fn a_long_poll_is_woken_by_an_append() {
        let mut h = os();
        let id = h.send(11, fetch_request("t", 0, 0, 500));
        assert!(h.take_answer(id).is_none());
        h.produce("t", 1, batch(&["other"]));
        assert!(
            h.take_answer(id).is_none(),
            "another partition's append is no news"
        );
        h.produce("t", 0, batch(&["here"]));
        assert_eq!(
            values(&fetched(h.take_answer(id).unwrap()).records),
            ["here"]
        );

        // Nothing comes: an empty answer at its deadline, not before.
        let id = h.send(11, fetch_request("t", 0, 1, 500));
        h.pass_ms(499);
        assert!(h.take_answer(id).is_none());
        h.pass_ms(1);
        let data = fetched(h.take_answer(id).unwrap());
        assert_eq!(
            (data.error_code, data.records.len(), data.high_watermark),
            (ErrorCode::NONE, 0, 1)
        );
        assert!(
            h.broker
                .partitions
                .iter()
                .all(|(_, p)| p.fetch_waiters.is_empty())
        );
    }

    #[test]
    fn a_long_poll_waits_for_min_bytes() {
        let mut h = os();
        let Request::Fetch(mut request) = fetch_request("t", 0, 0, 10_000) else {
            panic!()
        };
        let size = batch(&["12345"]).len() as i32;
        request.min_bytes = 2 * size + 1;
        let id = h.send(11, Request::Fetch(request));
        for _ in 0..2 {
            h.produce("t", 0, batch(&["12345"]));
            assert!(h.take_answer(id).is_none());
        }
        h.produce("t", 0, batch(&["12345"]));
        assert_eq!(
            values(&fetched(h.take_answer(id).unwrap()).records).len(),
            3
        );
    }

    #[test]
    fn a_long_poll_with_fsync_is_woken_by_the_sync() {
        let mut h = Harness::new(Durability::Fsync);
        h.create_topic("t", 1, &[]);
        let id = h.send(11, fetch_request("t", 0, 0, 10_000));
        h.send_produce("t", 0, -1, batch(&["a"]));
        assert!(h.take_answer(id).is_none());
        h.sync_all();
        assert_eq!(values(&fetched(h.take_answer(id).unwrap()).records), ["a"]);
    }

    #[test]
    fn one_input_wakes_a_fetch_once_with_everything() {
        let mut h = os();
        let request = FetchRequest {
            max_wait_ms: 1000,
            ..in_session(0, -1, &[(0, 0), (1, 0)], &[])
        };
        let id = h.send(11, Request::Fetch(request));
        let Request::Produce(mut produce) =
            crate::testing::produce_request("t", 0, -1, batch(&["a"]))
        else {
            panic!()
        };
        let other = ottla_protocol::messages::produce::PartitionProduceData {
            index: 1,
            records: batch(&["b"]),
        };
        produce.topic_data[0].partition_data.push(other);
        h.ask(9, Request::Produce(produce));
        let Some(Response::Fetch(answer)) = h.take_answer(id) else {
            panic!()
        };
        assert_eq!(
            answer.responses[0]
                .partitions
                .iter()
                .filter(|p| !p.records.is_empty())
                .count(),
            2
        );
    }

    #[test]
    fn deletion_and_disconnection_end_the_wait() {
        let mut h = os();
        let id = h.send(11, fetch_request("t", 0, 0, 10_000));
        let other = ConnId(2);
        h.broker.handle_connect(h.now, other, "127.0.0.2");
        h.send_on(other, 11, fetch_request("t", 0, 0, 10_000));
        h.broker.handle_disconnect(h.now, other);
        assert_eq!(
            h.broker
                .partitions
                .iter()
                .map(|(_, p)| p.fetch_waiters.len())
                .sum::<usize>(),
            1
        );
        let delete = DeleteTopicsRequest {
            topic_names: vec!["t".into()],
            ..Default::default()
        };
        h.ask(4, Request::DeleteTopics(delete));
        assert_eq!(
            fetched(h.take_answer(id).unwrap()).error_code,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );
        assert!(h.answers.is_empty());
        // A broker with nobody waiting has only the retention check ahead.
        h.send_on(CONN, 11, fetch_request("t", 0, 0, 0));
        assert!(h.broker.poll_timeout().unwrap() > h.now.mono_us + 20_000_000);
    }

    #[test]
    fn limits_hold_but_for_the_first_batch() {
        let mut h = os();
        let big: String = "x".repeat(1000);
        for partition in [0, 0, 1] {
            h.produce("t", partition, batch(&[&big]));
        }
        let mut sizes = |max_bytes, partition_max_bytes| {
            let mut request = in_session(0, -1, &[(0, 0), (1, 0)], &[]);
            request.max_bytes = max_bytes;
            request.topics[0]
                .partitions
                .iter_mut()
                .for_each(|p| p.partition_max_bytes = partition_max_bytes);
            let answer = ask(&mut h, request);
            answer.responses[0]
                .partitions
                .iter()
                .map(|p| values(&p.records).len())
                .collect::<vec::Vec<_>>()
        };
        assert_eq!(sizes(i32::MAX, i32::MAX), [2, 1]);
        assert_eq!(
            sizes(10, i32::MAX),
            [1, 0],
            "one batch, however large, so that a consumer gets on"
        );
        assert_eq!(sizes(i32::MAX, 10), [1, 0]);
        assert_eq!(sizes(i32::MAX, 1500), [1, 1]);
        assert_eq!(sizes(0, 0), [1, 0]);
    }

    #[test]
    fn read_committed_has_a_stable_offset_and_a_list() {
        let mut h = os();
        h.produce("t", 0, batch(&["a"]));
        let request = FetchRequest {
            isolation_level: 1,
            ..in_session(0, -1, &[(0, 0)], &[])
        };
        let data = ask(&mut h, request)
            .responses
            .remove(0)
            .partitions
            .remove(0);
        assert_eq!(
            (data.last_stable_offset, data.aborted_transactions),
            (1, Some(vec![]))
        );
        assert_eq!(values(&data.records), ["a"]);
        assert_eq!(h.fetch("t", 0, 0).aborted_transactions, None);
    }

    #[test]
    fn sessions() {
        let mut h = os();
        h.produce("t", 0, batch(&["a"]));
        let full = ask(&mut h, in_session(0, 0, &[(0, 0), (1, 0)], &[]));
        assert_ne!(full.session_id, 0);
        assert_eq!(numbers(&full), [0, 1], "a full answer has all");
        let id = full.session_id;

        let incremental = ask(&mut h, in_session(id, 1, &[(0, 1)], &[]));
        assert_eq!(
            (incremental.session_id, numbers(&incremental)),
            (id, vec![]),
            "no news"
        );
        h.produce("t", 1, batch(&["b"]));
        let incremental = ask(&mut h, in_session(id, 2, &[], &[]));
        assert_eq!(numbers(&incremental), [1]);
        assert_eq!(
            values(&incremental.responses[0].partitions[0].records),
            ["b"]
        );

        // An incremental long poll.
        let waiting = FetchRequest {
            max_wait_ms: 1000,
            ..in_session(id, 3, &[(1, 1)], &[])
        };
        let waiting = h.send(11, Request::Fetch(waiting));
        h.produce("t", 0, batch(&["c"]));
        let Some(Response::Fetch(woken)) = h.take_answer(waiting) else {
            panic!()
        };
        assert_eq!((woken.session_id, numbers(&woken)), (id, vec![0]));

        let code = |h: &mut Harness, id, epoch| ask(h, in_session(id, epoch, &[], &[])).error_code;
        assert_eq!(code(&mut h, id, 2), ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        assert_eq!(
            code(&mut h, id + 1, 4),
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND
        );
        let Response::Fetch(mixed) = h.ask(13, Request::Fetch(in_session(id, 4, &[], &[]))) else {
            panic!()
        };
        assert_eq!(mixed.error_code, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);

        let closed = ask(&mut h, in_session(id, 4, &[], &[0, 1]));
        assert_eq!((closed.error_code, closed.session_id), (ErrorCode::NONE, 0));
        assert_eq!(code(&mut h, id, 5), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    }

    #[test]
    fn an_isolation_level_that_is_none() {
        let mut h = os();
        h.produce("t", 0, batch(&["a"]));
        let mut read = |version, isolation_level, partition| {
            let Request::Fetch(mut request) = fetch_request("t", partition, 0, 0) else {
                panic!()
            };
            request.isolation_level = isolation_level;
            request.session_id = 7;
            request.session_epoch = -1;
            if version >= WITH_TOPIC_IDS {
                request.topics[0].topic = Str::new();
                request.topics[0].topic_id = h.broker.topics.by_name("t").unwrap().id;
            }
            let Response::Fetch(answer) = h.ask(version, Request::Fetch(request)) else {
                panic!()
            };
            let partitions = answer.responses.iter().flat_map(|t| &t.partitions);
            let told: Vec<_> = partitions
                .map(|p| (p.error_code, p.records.is_empty()))
                .collect();
            (answer.error_code, answer.session_id, told)
        };
        let unknown = ErrorCode::UNKNOWN_SERVER_ERROR;
        for level in [-1, 2] {
            assert_eq!(read(12, level, 0), (unknown, 7, vec![(unknown, true)]));
            assert_eq!(read(13, level, 0), (unknown, 7, vec![]));
        }
        let missing = vec![(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, true)];
        assert_eq!(read(12, 2, 9), (ErrorCode::NONE, 0, missing));
        let found = vec![(ErrorCode::NONE, false)];
        assert_eq!(read(12, 1, 0), (ErrorCode::NONE, 0, found));
    }

    /// What a JVM Kafka leaves: an aborted transaction, a committed one, one that hangs (and is aborted when the broker opens), and
    /// records behind it.
    #[test]
    fn read_committed_names_the_aborted() {
        let h = os();
        let (mut log, _) = PartitionLog::open(
            h.storage.clone(),
            "t-0",
            LogConfig::default(),
            h.now,
            OpenOptions::default(),
        )
        .unwrap();
        let mut put = |bytes: Bytes| {
            let header = BatchHeader::parse(&bytes).unwrap();
            log.append(bytes, &header, 0, h.now).unwrap();
        };
        let of = |producer_id| FinishOptions {
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            transactional: true,
            ..FinishOptions::default()
        };
        let marker = |producer_id, committed| {
            let coordinator_epoch = 0;
            let marker = EndTxnMarker {
                committed,
                coordinator_epoch,
            };
            marker.to_batch(producer_id, 0, START_MS, 0, 0).unwrap()
        };
        let some = |options| keyed_batch(None, &["v"], options).to_bytes();
        put(some(of(1)));
        put(some(of(2)));
        put(marker(1, false));
        put(marker(2, true));
        put(some(of(3)));
        put(batch(&["behind"]).to_bytes());
        drop(log);
        let mut h = h.restart(false);
        let mut read = |isolation_level, offset| {
            let Request::Fetch(mut request) = fetch_request("t", 0, offset, 0) else {
                panic!()
            };
            request.isolation_level = isolation_level;
            let data = fetched(h.ask(11, Request::Fetch(request)));
            let aborted = data.aborted_transactions.map(|all| {
                let of = |t: &AbortedTransaction| (t.producer_id, t.first_offset);
                all.iter().map(of).collect::<Vec<_>>()
            });
            let records = crate::testing::read(&data.records).len();
            assert_eq!((data.high_watermark, data.last_stable_offset), (7, 7));
            (records, aborted)
        };
        assert_eq!(read(0, 0), (7, None));
        assert_eq!(read(1, 0), (7, Some(vec![(1, 0), (3, 4)])));
        assert_eq!(read(1, 3), (4, Some(vec![(3, 4)])), "behind the first");
    }

    #[test]
    fn without_room_there_is_no_session() {
        let config = BrokerConfig {
            fetch_session_slots: 0,
            durability: Durability::Os,
            ..BrokerConfig::default()
        };
        let mut h = Harness::with(config);
        h.create_topic("t", 1, &[]);
        h.produce("t", 0, batch(&["a"]));
        let answer = ask(&mut h, in_session(0, 0, &[(0, 0)], &[]));
        assert_eq!((answer.session_id, numbers(&answer)), (0, vec![0]));
    }

    #[test]
    fn replicas_are_not_served() {
        let mut h = os();
        let Request::Fetch(mut request) = fetch_request("t", 0, 0, 0) else {
            panic!()
        };
        request.replica_id = 2;
        assert_eq!(
            fetched(h.ask(11, Request::Fetch(request))).error_code,
            ErrorCode::NOT_LEADER_OR_FOLLOWER
        );
    }
}
