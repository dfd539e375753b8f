//! DescribeTransactions (65): what transactional ids have come to.
//!
//! Serves version 0. Departs from Kafka: a request in which ids are repeated more than 100 times ends the connection.

use ottla_protocol::{
    Response,
    messages::describe_transactions::{DescribeTransactionsRequest, DescribeTransactionsResponse},
};
use ottla_record::Now;

use super::repeats_itself;
use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    _context: &RequestContext,
    request: DescribeTransactionsRequest,
) -> Handled {
    if repeats_itself(request.transactional_ids.iter()) {
        return Handled::Disconnect;
    }
    let ids = request.transactional_ids.iter();
    let transaction_states = ids.map(|id| broker.transactions.describe(id)).collect();
    Handled::Respond(Response::DescribeTransactions(
        DescribeTransactionsResponse {
            transaction_states,
            ..Default::default()
        },
    ))
}
