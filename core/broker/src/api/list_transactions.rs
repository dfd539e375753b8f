//! ListTransactions (66): transactional ids by state, producer id, age (version 1 on) and name (version 2 on).
//!
//! Serves versions 0 to 2. Departs from Kafka: the pattern of names is of Rust's `regex-lite`, which knows RE2's syntax but for Unicode
//! classes.

use ottla_protocol::{Response, messages::list_transactions::ListTransactionsRequest};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    _context: &RequestContext,
    request: ListTransactionsRequest,
) -> Handled {
    Handled::Respond(Response::ListTransactions(
        broker.transactions.list(now, &request),
    ))
}
