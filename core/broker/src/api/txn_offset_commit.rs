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
            let Broker { groups, topics, .. } = broker;
            groups.commit_transactional(now, context, &request, |topic, partition| {
                let topic = topics.by_name(topic);
                topic.is_some_and(|topic| topic.partition(partition).is_some())
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
