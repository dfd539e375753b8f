//! InitProducerId (22): a fresh producer id for an idempotent producer.

use ottla_protocol::{
    ErrorCode, Response,
    messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse},
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    _context: &RequestContext,
    request: InitProducerIdRequest,
) -> Handled {
    let refused = |error_code| InitProducerIdResponse {
        error_code,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let response = match &request.transactional_id {
        // A producer without a transactional id gets a new id each time, also when it names the one it had.
        None => match broker.producer_ids.take(&*broker.storage) {
            Ok(producer_id) => InitProducerIdResponse {
                error_code: ErrorCode::NONE,
                producer_id,
                producer_epoch: 0,
                ..Default::default()
            },
            Err(_) => refused(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        },
        Some(id) if id.is_empty() => refused(ErrorCode::INVALID_REQUEST),
        // Transactions are not served yet, which clients must learn at once instead of trying again.
        Some(_) => refused(ErrorCode::UNSUPPORTED_VERSION),
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
    fn transactions_are_refused() {
        let mut h = Harness::new(Durability::Os);
        assert_eq!(ask(&mut h, Some("")).error_code, ErrorCode::INVALID_REQUEST);
        assert_eq!(
            ask(&mut h, Some("x")).error_code,
            ErrorCode::UNSUPPORTED_VERSION
        );
    }
}
