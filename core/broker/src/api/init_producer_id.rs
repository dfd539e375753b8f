//! InitProducerId (22): a fresh producer id for an idempotent producer; with a transactional id, its producer id with an epoch that
//! shuts out whoever had it before.
//!
//! Serves versions 0 to 5. Departs from Kafka: a producer that was shut out is PRODUCER_FENCED also while its successor has a
//! transaction open, which Kafka then aborts; two-phase commit (version 6, KIP-939) isn't served.

use ottla_protocol::{
    ErrorCode, Response,
    messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse},
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
    transactions::NO_PRODUCER_ID,
};

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: InitProducerIdRequest,
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
    if let Some(id) = &request.transactional_id {
        transactions.init_producer_id(now, context, id, &request, &mut new_id);
        return Handled::Deferred;
    }
    // A producer without a transactional id gets a new id each time, also when it names the one it had.
    let is_half = (request.producer_id == NO_PRODUCER_ID) != (request.producer_epoch == -1);
    let taken = match is_half {
        true => Err(ErrorCode::INVALID_REQUEST),
        false => new_id(),
    };
    let response = match taken {
        Ok(producer_id) => InitProducerIdResponse {
            error_code: ErrorCode::NONE,
            producer_id,
            producer_epoch: 0,
            ..Default::default()
        },
        Err(error_code) => InitProducerIdResponse {
            error_code,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: -1,
            ..Default::default()
        },
    };
    Handled::Respond(Response::InitProducerId(response))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, testing::Harness};
    use ottla_protocol::Request;
    use std::collections::BTreeSet;

    fn ask(h: &mut Harness, transactional_id: Option<&str>) -> InitProducerIdResponse {
        let request = InitProducerIdRequest {
            transactional_id: transactional_id.map(Into::into),
            transaction_timeout_ms: 1000,
            ..Default::default()
        };
        let Response::InitProducerId(response) = h.ask(4, Request::InitProducerId(request)) else {
            panic!()
        };
        response
    }

    #[test]
    fn ids_never_repeat() {
        let mut h = Harness::new(Durability::Os);
        let mut seen = BTreeSet::new();
        for round in 0..6 {
            for _ in 0..400 {
                let answer = ask(&mut h, None);
                assert_eq!(
                    (answer.error_code, answer.producer_epoch),
                    (ErrorCode::NONE, 0)
                );
                assert!(seen.insert(answer.producer_id));
            }
            h = h.restart(round % 2 == 0);
        }
    }

    #[test]
    fn an_id_of_a_transactional_producer_is_nobody_elses() {
        let mut h = Harness::new(Durability::Os);
        let answer = ask(&mut h, Some("x"));
        assert_eq!((answer.producer_id, answer.producer_epoch), (0, 0));
        assert_eq!(ask(&mut h, None).producer_id, 1);
        let mut h = h.restart(false);
        let answer = ask(&mut h, Some("x"));
        assert_eq!((answer.producer_id, answer.producer_epoch), (0, 1));
        assert_eq!(ask(&mut h, Some("")).error_code, ErrorCode::INVALID_REQUEST);
    }
}
