//! EndTxn (26): commits or aborts a transaction. Answered when the decision is durable; the markers follow. From version 5 on (KIP-890)
//! the producer goes on with a new epoch.
//!
//! Serves versions 0 to 5. Departs from Kafka: an abort (version 5) of a producer that InitProducerId shut out is PRODUCER_FENCED,
//! where Kafka may take it for a repetition and tell it the epoch of the abort.

use ottla_protocol::{ErrorCode, messages::end_txn::EndTxnRequest};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: EndTxnRequest,
) -> Handled {
    let Broker {
        transactions,
        producer_ids,
        storage,
        ..
    } = broker;
    let mut new_id = || {
        producer_ids
            .take(&**storage)
            .map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE)
    };
    transactions.end(now, context.reply, &request, &mut new_id);
    Handled::Deferred
}
