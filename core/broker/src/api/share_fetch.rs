//! ShareFetch (78): records that no other member of the share group has, as slices of the log; with acknowledgements of earlier ones; a
//! long poll that is woken by appends, by records that are given back, and by locks that end.
//!
//! Serves versions 1 to 2. Departs from Kafka: gaps between batches and control batches are passed over here, and not acquired for the
//! client to acknowledge; records that come near the limit of deliveries are handed out as all others, not in ever smaller runs; where
//! a group begins is written down before its first record is handed out; a member beyond its quota acquires nothing, where Kafka
//! acquires records and sends none.
//!
//! The batches that have something for the member are sent whole, as they lie in the log; `acquired_records` tells which of their
//! records it may read.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec,
    vec::Vec,
};
use core::ops::Range;

use bytes::Bytes;
use ottla_log::{LogError, PartitionLog};
use ottla_protocol::{
    ErrorCode, Records, Response, Str,
    messages::share_fetch::{
        AcquiredRecords, PartitionData, ShareFetchRequest, ShareFetchResponse,
        ShareFetchableTopicResponse,
    },
};
use ottla_record::{Batches, Now};

use super::share_acknowledge::{AckBatch, Acknowledged, acknowledge, session_key};
use crate::{
    Broker,
    context::{Handled, RequestContext},
    partition::{Partition, PartitionIndex},
    purgatory::WaitingShareFetch,
    quotas::{body_size, client_of},
    share_partitions::{
        BatchView, FINAL_EPOCH, INITIAL_EPOCH, Selection, SessionPartition, ShareGroupSettings,
        ShareKey, ShareOffsetReset, ShareRequest, ShareRequestId, Wanted,
    },
};

/// From this version on a member can ask for a strict count and renew records (KIP-1206, KIP-1222).
const WITH_ACQUIRE_MODE: i16 = 2;

const BATCH_OPTIMIZED: i8 = 0;
const RECORD_LIMIT: i8 = 1;

/// What to fetch, and what came of it.
#[derive(Debug)]
pub(crate) struct SharePlan {
    deadline_us: u64,
    min_bytes: usize,
    max_bytes: usize,
    max_records: i64,
    batch_size: i32,
    strict: bool,
    partitions: Vec<SessionPartition>,
    /// The first answer of a session has all its partitions, later ones those that have something to tell.
    tells_all: bool,
    /// Whose quotas count; `None` if there are none.
    client_id: Option<Str>,
    throttle_ms: i32,
    /// Once the fetch is through.
    fetched: Option<Vec<Fetched>>,
}

#[derive(Debug)]
struct Fetched {
    at: SessionPartition,
    data: PartitionData,
}

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: ShareFetchRequest,
) -> Handled {
    let refuse = |error_code| {
        Handled::Respond(Response::ShareFetch(ShareFetchResponse {
            error_code,
            ..Default::default()
        }))
    };
    let Some(key) = session_key(&request.group_id, &request.member_id) else {
        return refuse(ErrorCode::INVALID_REQUEST);
    };
    let reads = request.max_wait_ms != 0
        || request.min_bytes != 0
        || request.max_bytes != 0
        || request.max_records != 0;
    if !(BATCH_OPTIMIZED..=RECORD_LIMIT).contains(&request.share_acquire_mode)
        || (request.is_renew_ack && reads)
    {
        return refuse(ErrorCode::INVALID_REQUEST);
    }
    let epoch = request.share_session_epoch;
    let mut added: Vec<SessionPartition> = Vec::new();
    let mut has_acknowledgements = false;
    for topic in &request.topics {
        for p in &topic.partitions {
            added.push((topic.topic_id, p.partition_index));
            has_acknowledgements |= !p.acknowledgement_batches.is_empty();
        }
    }
    let forgotten: Vec<SessionPartition> = request
        .forgotten_topics_data
        .iter()
        .flat_map(|t| t.partitions.iter().map(|p| (t.topic_id, *p)))
        .collect();
    let begun = broker.share.sessions.begin_fetch(
        context.reply.conn,
        &key,
        epoch,
        &added,
        &forgotten,
        has_acknowledgements,
    );
    let partitions = match begun {
        Ok(partitions) => partitions,
        Err(code) => return refuse(code),
    };
    let mut max_bytes = request.max_bytes.min(broker.config.fetch_max_bytes).max(0);
    let client_id = client_of(broker, context);
    if let Some(client_id) = &client_id {
        max_bytes = max_bytes.min(broker.quotas.fetch_max_bytes(client_id));
    }
    let plan = SharePlan {
        deadline_us: now.after_ms(request.max_wait_ms.into()),
        min_bytes: request.min_bytes.min(max_bytes).max(0) as usize,
        max_bytes: max_bytes as usize,
        max_records: request.max_records.into(),
        batch_size: request.batch_size,
        strict: request.share_acquire_mode == RECORD_LIMIT,
        tells_all: epoch == INITIAL_EPOCH,
        client_id,
        throttle_ms: 0,
        fetched: (partitions.is_empty() || request.max_records <= 0 || max_bytes == 0)
            .then(Vec::new),
        partitions,
    };
    let id = broker
        .share
        .park(ShareRequest::new(context.reply, key.clone(), Some(plan)));
    for topic in &request.topics {
        for p in &topic.partitions {
            if p.acknowledgement_batches.is_empty() {
                continue;
            }
            let batches = p.acknowledgement_batches.iter();
            let batches: Vec<AckBatch<'_>> = batches
                .map(|b| (b.first_offset, b.last_offset, &*b.acknowledge_types))
                .collect();
            let asked = Acknowledged {
                topic_id: topic.topic_id,
                partition: p.partition_index,
                batches: &batches,
                may_renew: context.api_version >= WITH_ACQUIRE_MODE && request.is_renew_ack,
            };
            acknowledge(broker, now, id, &key.group, &asked);
        }
    }
    if epoch == FINAL_EPOCH {
        let limit = broker.share_settings(&key.group).delivery_count_limit;
        broker.share.close_session(now, &key, Some(id), limit);
    }
    proceed(broker, now, id, request.max_wait_ms <= 0);
    Handled::Deferred
}

/// Fetches for the request `id`, unless it has. If there is too little and this is not its `last` chance, it waits.
pub(crate) fn proceed(broker: &mut Broker, now: Now, id: ShareRequestId, last: bool) {
    let Some(request) = broker.share.request_mut(id) else {
        return;
    };
    let (key, reply) = (request.key.clone(), request.reply);
    let Some(mut plan) = request.fetch.take() else {
        return;
    };
    if plan.fetched.is_none() {
        let last = last || plan.deadline_us <= now.mono_us;
        let settings = broker.share_settings(&key.group);
        let looked = look(broker, now, &key.group, &plan, &settings);
        if !last && !looked.any_error && looked.bytes < plan.min_bytes.max(1) {
            let mut watched: Vec<PartitionIndex> = Vec::with_capacity(plan.partitions.len());
            for at in &plan.partitions {
                watched.extend(resolve(broker, at));
            }
            let wait = broker.purgatory.park_share_fetch(
                plan.deadline_us,
                WaitingShareFetch {
                    request: id,
                    conn: reply.conn,
                    partitions: watched.clone(),
                },
            );
            for index in watched {
                if let Some(partition) = broker.partitions.get_mut(index) {
                    partition.fetch_waiters.push(wait);
                }
            }
        } else if let Some(throttle_ms) = over_quota(broker, now, &plan, &looked, reply.api_version)
        {
            // Nothing is handed out; what was acknowledged is told all the same.
            plan.throttle_ms = throttle_ms;
            plan.fetched = Some(Vec::new());
        } else {
            let mut fetched = Vec::with_capacity(looked.partitions.len());
            for found in looked.partitions {
                let data = match found.result {
                    Err(error_code) => PartitionData {
                        partition_index: found.at.1,
                        error_code,
                        ..Default::default()
                    },
                    Ok(candidate) => {
                        let share_key = share_key(&key.group, &found.at);
                        let acquired = broker.share.acquire(
                            now,
                            &share_key,
                            &candidate.selection,
                            &key.member,
                            plan.batch_size,
                            &settings,
                        );
                        PartitionData {
                            partition_index: found.at.1,
                            records: candidate.records,
                            acquired_records: acquired
                                .into_iter()
                                .map(|run| AcquiredRecords {
                                    first_offset: run.first,
                                    last_offset: run.last,
                                    delivery_count: run.count,
                                })
                                .collect(),
                            ..Default::default()
                        }
                    }
                };
                fetched.push(Fetched { at: found.at, data });
            }
            plan.fetched = Some(fetched);
        }
    }
    if let Some(request) = broker.share.request_mut(id) {
        request.fetch = Some(plan);
    }
    finish(broker, id);
}

/// For how many milliseconds the member has to wait, if it has used up a quota.
fn over_quota(
    broker: &mut Broker,
    now: Now,
    plan: &SharePlan,
    looked: &Looked,
    version: i16,
) -> Option<i32> {
    let client_id = plan.client_id.as_ref()?;
    let mut bytes = 0;
    if broker.quotas.limits_fetched(client_id) {
        let found = looked.partitions.iter();
        let answer = ShareFetchResponse {
            responses: found
                .map(|found| ShareFetchableTopicResponse {
                    topic_id: found.at.0,
                    partitions: vec![PartitionData {
                        partition_index: found.at.1,
                        records: match &found.result {
                            Ok(candidate) => candidate.records.clone(),
                            Err(_) => Records::default(),
                        },
                        ..Default::default()
                    }],
                })
                .collect(),
            ..Default::default()
        };
        bytes = 4 + body_size(&answer, version);
    }
    broker.quotas.fetched(now, client_id, bytes).err()
}

/// Answers a request that has fetched and of which nothing is under way any more.
pub(crate) fn finish(broker: &mut Broker, id: ShareRequestId) {
    let is_done = broker.share.request_mut(id).is_some_and(|request| {
        let fetched = request.fetch.as_ref().is_some_and(|p| p.fetched.is_some());
        fetched && request.is_written()
    });
    if !is_done {
        return;
    }
    let Some(request) = broker.share.take_request(id) else {
        return;
    };
    let Some(plan) = request.fetch else { return };
    let mut told = plan.fetched.unwrap_or_default();
    let numbered = told.iter().enumerate();
    let mut places: BTreeMap<SessionPartition, usize> =
        numbered.map(|(place, f)| (f.at, place)).collect();
    let mut acknowledged = BTreeSet::new();
    for ack in &request.acks {
        let at = (ack.topic_id, ack.partition);
        acknowledged.insert(at);
        let place = *places.entry(at).or_insert(told.len());
        if place == told.len() {
            let data = PartitionData {
                partition_index: ack.partition,
                ..Default::default()
            };
            told.push(Fetched { at, data });
        }
        told[place].data.acknowledge_error_code = ack.error;
    }
    let mut responses: Vec<ShareFetchableTopicResponse> = Vec::new();
    for Fetched { at, data } in told {
        let says_something = data.error_code != ErrorCode::NONE
            || !data.acquired_records.is_empty()
            || acknowledged.contains(&at);
        if !plan.tells_all && !says_something {
            continue;
        }
        match responses.last_mut() {
            Some(last) if last.topic_id == at.0 => last.partitions.push(data),
            _ => responses.push(ShareFetchableTopicResponse {
                topic_id: at.0,
                partitions: vec![data],
            }),
        }
    }
    let settings = broker.share_settings(&request.key.group);
    let response = Response::ShareFetch(ShareFetchResponse {
        throttle_time_ms: plan.throttle_ms,
        acquisition_lock_timeout_ms: settings.record_lock_duration_ms,
        responses,
        ..Default::default()
    });
    broker.respond(request.reply, response);
}

fn share_key(group: &ottla_protocol::Str, at: &SessionPartition) -> ShareKey {
    ShareKey {
        group: group.clone(),
        topic_id: at.0,
        partition: at.1,
    }
}

fn resolve(broker: &Broker, at: &SessionPartition) -> Result<PartitionIndex, ErrorCode> {
    let topic = broker
        .topics
        .by_id(&at.0)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
    topic
        .partition(at.1)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// What a member would get of one partition.
#[derive(Debug, Default)]
struct Candidate {
    selection: Selection,
    records: Records,
}

#[derive(Debug)]
struct Found {
    at: SessionPartition,
    result: Result<Candidate, ErrorCode>,
}

#[derive(Debug)]
struct Looked {
    partitions: Vec<Found>,
    bytes: usize,
    any_error: bool,
}

/// What there is for the member now. Nothing is handed out yet, so that it can go on waiting.
fn look(
    broker: &mut Broker,
    now: Now,
    group: &ottla_protocol::Str,
    plan: &SharePlan,
    settings: &ShareGroupSettings,
) -> Looked {
    let mut looked = Looked {
        partitions: Vec::with_capacity(plan.partitions.len()),
        bytes: 0,
        any_error: false,
    };
    let mut records_left = plan.max_records;
    for (number, at) in plan.partitions.iter().enumerate() {
        // The bytes are for all partitions: what one doesn't use is for those behind it.
        let partitions_left = plan.partitions.len() - number;
        let limit = plan.max_bytes.saturating_sub(looked.bytes) / partitions_left;
        let wanted = Wanted {
            max_records: records_left,
            strict: plan.strict,
            max_outstanding: settings.max_record_locks.into(),
        };
        let limits = (limit, looked.bytes == 0);
        let result = look_at(broker, now, group, at, settings, wanted, limits);
        match &result {
            Ok(candidate) => {
                looked.bytes += candidate.records.len();
                records_left -= candidate.selection.records();
            }
            Err(_) => looked.any_error = true,
        }
        looked.partitions.push(Found { at: *at, result });
    }
    looked
}

fn look_at(
    broker: &mut Broker,
    now: Now,
    group: &ottla_protocol::Str,
    at: &SessionPartition,
    settings: &ShareGroupSettings,
    wanted: Wanted,
    (limit, min_one): (usize, bool),
) -> Result<Candidate, ErrorCode> {
    let index = resolve(broker, at)?;
    let Broker {
        partitions, share, ..
    } = broker;
    let partition = partitions
        .get_mut(index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    partition.check_usable()?;
    let key = share_key(group, at);
    let log_start = partition.log.log_start_offset();
    let high_watermark = partition.high_watermark();
    if share.readiness(&key)?.is_none() {
        let first = first_offset(now, settings.auto_offset_reset, partition)?;
        share.open(now, &key, partition.leader_epoch, || first);
    }
    if share.readiness(&key)? != Some(true) || wanted.max_records <= 0 || (limit == 0 && !min_one) {
        return Ok(Candidate::default());
    }
    let Some(window) = share.window_mut(&key) else {
        return Ok(Candidate::default());
    };
    window.follow_log_start(log_start);
    let up_to = if settings.read_committed {
        partition.last_stable_offset()
    } else {
        high_watermark
    };
    loop {
        let from = window.next_offset();
        let is_full = from == window.end() && window.outstanding() >= wanted.max_outstanding;
        if from >= up_to || is_full {
            return Ok(Candidate::default());
        }
        let slice =
            partition
                .log
                .read(from, limit, min_one, up_to)
                .map_err(|error| match error {
                    LogError::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
                    _ => ErrorCode::KAFKA_STORAGE_ERROR,
                })?;
        let (views, places) = view(&partition.log, &slice.chunks, settings.read_committed)?;
        let selection = window.select(from, &views, slice.end_offset, wanted);
        if selection.acquire.is_empty() {
            // Nothing but gaps: they are passed over for good.
            window.acquire(&selection, &ottla_protocol::Str::new(), 0, 0);
            if window.next_offset() <= from {
                return Ok(Candidate::default());
            }
            continue;
        }
        let taken = selection.taken.iter().zip(places);
        let keep: Vec<Range<u64>> = taken
            .filter_map(|(taken, place)| taken.then_some(place))
            .collect();
        let records = cut(&slice.chunks, &keep);
        return Ok(Candidate { selection, records });
    }
}

/// Where a group begins that has read nothing of a partition.
fn first_offset(
    now: Now,
    reset: ShareOffsetReset,
    partition: &mut Partition,
) -> Result<i64, ErrorCode> {
    let high_watermark = partition.high_watermark();
    Ok(match reset {
        ShareOffsetReset::Latest => high_watermark,
        ShareOffsetReset::Earliest => partition.log.log_start_offset(),
        ShareOffsetReset::ByDuration(ms) => {
            let since = now.wall_ms.saturating_sub(ms);
            let found = partition.log.offset_for_time(since);
            let found = found.map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?;
            found.map_or(high_watermark, |(_, offset)| offset.min(high_watermark))
        }
    })
}

/// The batches in what was read of a log, and the bytes where each lies.
fn view(
    log: &PartitionLog,
    chunks: &[Bytes],
    read_committed: bool,
) -> Result<(Vec<BatchView>, Vec<Range<u64>>), ErrorCode> {
    let mut views = Vec::new();
    let mut places = Vec::new();
    let mut batches = Batches::new(chunks.iter().cloned());
    loop {
        let begins = batches.position();
        let Some(batch) = batches.next() else {
            return Ok((views, places));
        };
        let batch = batch.map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
        let header = batch.header();
        // Other than readers of their own, members can't leave out what was aborted.
        let aborted = read_committed
            && header.attributes.is_transactional()
            && log
                .aborted_transactions(header.base_offset, header.next_offset())
                .any(|txn| {
                    txn.producer_id == header.producer_id
                        && (txn.first_offset..=txn.last_offset).contains(&header.base_offset)
                });
        views.push(BatchView {
            base: header.base_offset,
            last: header.last_offset(),
            deliverable: !header.attributes.is_control() && !aborted,
        });
        places.push(begins..batches.position());
    }
}

/// The parts of a rope that lie in these ranges, which ascend; shared, not copied.
fn cut<'a>(chunks: impl IntoIterator<Item = &'a Bytes>, keep: &[Range<u64>]) -> Records {
    let mut records = Records::new();
    let mut begins = 0;
    let mut at = 0;
    for chunk in chunks {
        let ends = begins + chunk.len() as u64;
        while let Some(range) = keep.get(at) {
            let (first, last) = (range.start.max(begins), range.end.min(ends));
            if first < last {
                let (first, last) = ((first - begins) as usize, (last - begins) as usize);
                records.push(chunk.slice(first..last));
            }
            if range.end > ends {
                break;
            }
            at += 1;
        }
        begins = ends;
    }
    records
}
