//! AddOffsetsToTxn (25): the partition of `__consumer_offsets` that holds a group joins a transaction.
//!
//! Serves versions 0 to 4. As Kafka.

use ottla_protocol::{Str, messages::add_offsets_to_txn::AddOffsetsToTxnRequest};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
    topics::OFFSETS_TOPIC,
    transactions::Member,
};

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: AddOffsetsToTxnRequest,
) -> Handled {
    let transactional_id = Str::from(request.transactional_id.as_str());
    let member = Member {
        transactional_id: &transactional_id,
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
    };
    let partition = broker.groups.partition_of(&request.group_id);
    let partition = (Str::from_static(OFFSETS_TOPIC), partition);
    broker
        .transactions
        .add_offsets(now, context.reply, member, partition);
    Handled::Deferred
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, testing::Harness};
    use ottla_protocol::{ErrorCode, Request, Response};

    #[test]
    fn the_groups_partition_is_in() {
        let mut h = Harness::new(Durability::Os);
        let (producer_id, producer_epoch) = h.init_transactions("x");
        for version in 0..=4 {
            let mut ask = |producer_epoch| {
                let request = AddOffsetsToTxnRequest {
                    transactional_id: "x".into(),
                    producer_id,
                    producer_epoch,
                    group_id: "g".into(),
                };
                match h.ask(version, Request::AddOffsetsToTxn(request)) {
                    Response::AddOffsetsToTxn(response) => response.error_code,
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(ask(producer_epoch), ErrorCode::NONE);
            let fenced = match version {
                0 | 1 => ErrorCode::INVALID_PRODUCER_EPOCH,
                _ => ErrorCode::PRODUCER_FENCED,
            };
            assert_eq!(ask(producer_epoch + 1), fenced);
        }
        let shown = h.broker.transactions.describe(&"x".into());
        assert_eq!(shown.topics[0].topic, OFFSETS_TOPIC);
        let partition = h.broker.groups.partition_of("g");
        assert_eq!(shown.topics[0].partitions, [partition]);
    }
}
