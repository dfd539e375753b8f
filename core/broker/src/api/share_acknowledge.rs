//! ShareAcknowledge (79): what a member of a share group did with records that it has; answered when that is committed.
//!
//! Serves versions 1 to 2. As Kafka.

use alloc::vec::Vec;

use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::share_acknowledge::{
        AcknowledgePartition, PartitionData, ShareAcknowledgeRequest, ShareAcknowledgeResponse,
        ShareAcknowledgeTopicResponse,
    },
};
use ottla_record::Now;

use super::share_fetch::SharePlan;
use crate::{
    Broker,
    context::{Handled, RequestContext},
    share_partitions::{Ack, AckType, FINAL_EPOCH, SessionKey, ShareRequest, ShareRequestId},
};

/// From this version on records can be renewed (KIP-1222).
const WITH_RENEW: i16 = 2;

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: ShareAcknowledgeRequest,
) -> Handled {
    let refuse = |error_code| {
        Handled::Respond(Response::ShareAcknowledge(ShareAcknowledgeResponse {
            error_code,
            ..Default::default()
        }))
    };
    let Some(key) = session_key(&request.group_id, &request.member_id) else {
        return refuse(ErrorCode::INVALID_REQUEST);
    };
    let epoch = request.share_session_epoch;
    if let Err(code) = broker.share.sessions.begin_acknowledge(&key, epoch) {
        return refuse(code);
    }
    let waiting = ShareRequest::new(context.reply, key.clone(), None);
    let id = broker.share.park(waiting);
    for topic in &request.topics {
        // As in Kafka a partition of which nothing is said is not told of.
        let said = |p: &&AcknowledgePartition| !p.acknowledgement_batches.is_empty();
        for p in topic.partitions.iter().filter(said) {
            let batches = p.acknowledgement_batches.iter();
            let batches: Vec<AckBatch<'_>> = batches
                .map(|b| (b.first_offset, b.last_offset, &*b.acknowledge_types))
                .collect();
            let asked = Acknowledged {
                topic_id: topic.topic_id,
                partition: p.partition_index,
                batches: &batches,
                may_renew: context.api_version >= WITH_RENEW && request.is_renew_ack,
            };
            acknowledge(broker, now, id, &key.group, &asked);
        }
    }
    if epoch == FINAL_EPOCH {
        let limit = broker.share_settings(&key.group).delivery_count_limit;
        broker.share.close_session(now, &key, Some(id), limit);
    }
    finish(broker, id);
    Handled::Deferred
}

/// Answers an acknowledgement of which nothing is under way any more.
pub(crate) fn finish(broker: &mut Broker, id: ShareRequestId) {
    let is_written = |r: &mut ShareRequest<SharePlan>| r.is_written();
    if !broker.share.request_mut(id).is_some_and(is_written) {
        return;
    }
    let Some(request) = broker.share.take_request(id) else {
        return;
    };
    let mut responses: Vec<ShareAcknowledgeTopicResponse> = Vec::new();
    for ack in request.acks {
        let data = PartitionData {
            partition_index: ack.partition,
            error_code: ack.error,
            ..Default::default()
        };
        match responses.last_mut() {
            Some(last) if last.topic_id == ack.topic_id => last.partitions.push(data),
            _ => responses.push(ShareAcknowledgeTopicResponse {
                topic_id: ack.topic_id,
                partitions: alloc::vec![data],
            }),
        }
    }
    let settings = broker.share_settings(&request.key.group);
    let response = Response::ShareAcknowledge(ShareAcknowledgeResponse {
        acquisition_lock_timeout_ms: settings.record_lock_duration_ms,
        responses,
        ..Default::default()
    });
    broker.respond(request.reply, response);
}

/// Who asks; both names must be there.
pub(super) fn session_key(group: &Option<Str>, member: &Option<Str>) -> Option<SessionKey> {
    let named = |name: &Option<Str>| name.clone().filter(|name| !name.is_empty());
    Some(SessionKey {
        group: named(group)?,
        member: named(member)?,
    })
}

/// First offset, last offset, one type for all or one for each.
pub(super) type AckBatch<'a> = (i64, i64, &'a [i8]);

/// What is said about the records of one partition.
pub(super) struct Acknowledged<'a> {
    pub topic_id: Uuid,
    pub partition: i32,
    pub batches: &'a [AckBatch<'a>],
    pub may_renew: bool,
}

/// Takes acknowledgements for one partition in; the result goes into the request `id`.
pub(super) fn acknowledge(
    broker: &mut Broker,
    now: Now,
    id: ShareRequestId,
    group: &Str,
    asked: &Acknowledged<'_>,
) {
    let settings = broker.share_settings(group);
    let acks = match broker.topics.by_id(&asked.topic_id) {
        None => Err(ErrorCode::UNKNOWN_TOPIC_ID),
        Some(topic) => unpack(asked, settings.renew).and_then(|acks| {
            let exists = topic.partition(asked.partition).is_some();
            exists
                .then_some(acks)
                .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        }),
    };
    let acks = acks.as_deref().map_err(|code| *code);
    broker
        .share
        .acknowledge(now, id, asked.topic_id, asked.partition, acks, &settings);
}

/// Kafka's checks; runs of one type come out as one.
fn unpack(asked: &Acknowledged<'_>, renew_enabled: bool) -> Result<Vec<Ack>, ErrorCode> {
    let mut acks: Vec<Ack> = Vec::new();
    let mut end = -1;
    for &(first, last, types) in asked.batches {
        let per_offset = types.len() > 1;
        if first > last
            || first < end
            || types.is_empty()
            || (per_offset && last.checked_sub(first) != Some(types.len() as i64 - 1))
        {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        end = last;
        for (at, kind) in types.iter().enumerate() {
            let kind = AckType::from_wire(*kind).ok_or(ErrorCode::INVALID_REQUEST)?;
            if kind == AckType::Renew && !(asked.may_renew && renew_enabled) {
                return Err(ErrorCode::INVALID_REQUEST);
            }
            let (f, l) = if per_offset {
                (first + at as i64, first + at as i64)
            } else {
                (first, last)
            };
            match acks.last_mut() {
                Some(run) if at > 0 && run.kind == kind => run.last = l,
                _ => acks.push(Ack {
                    first: f,
                    last: l,
                    kind,
                }),
            }
        }
    }
    Ok(acks)
}
