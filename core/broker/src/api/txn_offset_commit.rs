//! TxnOffsetCommit (28): offsets that a transaction commits. The transaction coordinator lets them in as it does records: from version
//! 5 on (KIP-890) the group's partition of `__consumer_offsets` is added to the transaction by that.
//!
//! Serves versions 0 to 5. Departs from Kafka: a request that comes while the partition is being added, or before the transaction ahead
//! is complete, waits for that, where Kafka has the client try again.

use ottla_protocol::{ErrorCode, Str, messages::txn_offset_commit::TxnOffsetCommitRequest};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
    groups::txn_commit::refused,
    topics::OFFSETS_TOPIC,
    transactions::{
        Admission, Member,
        waiting::{Outcome, Parked},
    },
};

/// From this version on the client is of transaction version 2.
const WITH_EPOCH_BUMP: i16 = 5;
/// From this version on clients know TRANSACTION_ABORTABLE.
const WITH_TRANSACTION_ABORTABLE: i16 = 4;
/// `offsets.commit.timeout.ms`, Kafka's default.
const TIMEOUT_MS: i32 = 5_000;

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: TxnOffsetCommitRequest,
) -> Handled {
    let id = request.transactional_id.clone();
    let request = Parked::TxnOffsetCommit(request);
    broker.admit_or_park(now, context, &id, TIMEOUT_MS, request)
}

/// Hands the offsets to the group coordinator if the transaction coordinator lets them in.
pub(crate) fn proceed(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: TxnOffsetCommitRequest,
) -> Outcome {
    match admit(broker, now, context.api_version, &request) {
        Admission::Granted => {
            // Share groups have no offsets to commit.
            let shared = broker.share_groups.contains(&request.group_id);
            let Broker { groups, topics, .. } = broker;
            groups.commit_transactional(now, context, &request, |topic, partition| {
                let topic = topics.by_name(topic);
                match topic.and_then(|topic| topic.partition(partition)) {
                    None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                    Some(_) if shared => Err(ErrorCode::GROUP_ID_NOT_FOUND),
                    Some(_) => Ok(()),
                }
            });
            Outcome::Done(Handled::Deferred)
        }
        Admission::Wait => Outcome::Wait(Parked::TxnOffsetCommit(request)),
        Admission::Missing(_) => {
            let error = match context.api_version >= WITH_TRANSACTION_ABORTABLE {
                true => ErrorCode::TRANSACTION_ABORTABLE,
                false => ErrorCode::INVALID_TXN_STATE,
            };
            Outcome::Done(Handled::Respond(refused(&request, error)))
        }
        Admission::Refused(error) => {
            let error = match error {
                ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
                error => error,
            };
            Outcome::Done(Handled::Respond(refused(&request, error)))
        }
    }
}

fn admit(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &TxnOffsetCommitRequest,
) -> Admission {
    if request.group_id.is_empty() {
        return Admission::Refused(ErrorCode::INVALID_GROUP_ID);
    }
    let number = broker.groups.partition_of(&request.group_id);
    let topic = broker.topics.by_name(OFFSETS_TOPIC);
    let index = topic.and_then(|topic| topic.partition(number));
    let partition = index.and_then(|index| broker.partitions.get(index));
    let known = partition.and_then(|p| p.log.producers().get(request.producer_id));
    let is_in = known.is_some_and(|known| {
        known.transaction_start.is_some() && known.epoch == request.producer_epoch
    });
    if is_in {
        return Admission::Granted;
    }
    let member = Member {
        transactional_id: &request.transactional_id,
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
    };
    let partitions = [(Str::from_static(OFFSETS_TOPIC), number)];
    let add = version >= WITH_EPOCH_BUMP;
    broker.transactions.admit(now, member, &partitions, add)
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;
    use crate::{Durability, testing::Harness};
    use ottla_protocol::{
        Request, Response,
        messages::{
            list_groups::ListGroupsRequest,
            offset_commit::{
                OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
            },
            share_group_heartbeat::ShareGroupHeartbeatRequest,
            txn_offset_commit::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic},
        },
    };

    #[test]
    fn a_share_group_has_no_offsets() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        let beat = ShareGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: "m".into(),
            subscribed_topic_names: Some(vec!["t".into()]),
            ..Default::default()
        };
        h.ask(1, Request::ShareGroupHeartbeat(beat));
        let (producer_id, producer_epoch) = h.init_transactions("x");
        for (topic, error) in [
            ("t", ErrorCode::GROUP_ID_NOT_FOUND),
            ("nowhere", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ] {
            let request = TxnOffsetCommitRequest {
                transactional_id: "x".into(),
                group_id: "g".into(),
                producer_id,
                producer_epoch,
                topics: vec![TxnOffsetCommitRequestTopic {
                    name: topic.into(),
                    partitions: vec![TxnOffsetCommitRequestPartition::default()],
                }],
                ..Default::default()
            };
            let Response::TxnOffsetCommit(answer) = h.ask(5, Request::TxnOffsetCommit(request))
            else {
                panic!()
            };
            assert_eq!(answer.topics[0].partitions[0].error_code, error);
            let request = OffsetCommitRequest {
                group_id: "g".into(),
                topics: vec![OffsetCommitRequestTopic {
                    name: topic.into(),
                    partitions: vec![OffsetCommitRequestPartition::default()],
                    ..Default::default()
                }],
                ..Default::default()
            };
            let Response::OffsetCommit(answer) = h.ask(9, Request::OffsetCommit(request)) else {
                panic!()
            };
            assert_eq!(answer.topics[0].partitions[0].error_code, error);
        }
        let Response::ListGroups(all) = h.ask(5, Request::ListGroups(ListGroupsRequest::default()))
        else {
            panic!()
        };
        let types: Vec<&str> = all.groups.iter().map(|g| &*g.group_type).collect();
        assert_eq!(types, ["share"], "not a classic one of the same name");
    }
}
