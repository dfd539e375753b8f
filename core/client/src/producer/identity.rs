//! Who an idempotent producer is: its producer id and epoch, and how it gets them.

use ottla_protocol::messages::InitProducerIdRequest;
use ottla_protocol::{Request, Response};
use ottla_record::Now;

use crate::error::{ErrCode, KafkaError};

/// Producer id and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProducerIdentity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

impl ProducerIdentity {
    /// Nobody.
    pub(super) const NONE: Self = Self { id: -1, epoch: -1 };
}

/// A batch's place in the order that the broker checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) identity: ProducerIdentity,
    pub(super) base: i32,
    /// How many batches of the sequence came before.
    pub(super) nth: u64,
}

/// How a producer stands with its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// It needs none: `enable.idempotence=false`.
    Anonymous,
    /// To be asked for at this time.
    Wanted { at: u64 },
    /// InitProducerId is under way.
    Asked,
    /// It has one.
    Known(ProducerIdentity),
}

impl Identity {
    /// The request, if it is time for it.
    pub(super) fn poll_request(&mut self, now: Now) -> Option<Request> {
        match self {
            Self::Wanted { at } if *at <= now.mono_us => {
                *self = Self::Asked;
                Some(Request::InitProducerId(InitProducerIdRequest {
                    transactional_id: None,
                    transaction_timeout_ms: i32::MAX,
                    ..Default::default()
                }))
            }
            _ => None,
        }
    }

    /// Takes in the answer. An error that passes is met with another request after `pause_us`; one that doesn't is given
    /// back: without an identity nothing can ever be sent.
    pub(super) fn answered(
        &mut self,
        now: Now,
        pause_us: u64,
        result: Result<Response, KafkaError>,
    ) -> Result<(), KafkaError> {
        if *self != Self::Asked {
            return Ok(());
        }
        let answer = result.and_then(|response| match response {
            Response::InitProducerId(r) if r.error_code.is_none() => Ok(ProducerIdentity {
                id: r.producer_id,
                epoch: r.producer_epoch,
            }),
            Response::InitProducerId(r) => Err(r.error_code.into()),
            _ => Err(KafkaError::from(ErrCode::BAD_MSG)),
        });
        *self = match answer {
            Ok(identity) => Self::Known(identity),
            Err(error) if error.retriable => Self::Wanted {
                at: now.mono_us + pause_us,
            },
            Err(error) => {
                *self = Self::Wanted { at: u64::MAX };
                return Err(error);
            }
        };
        Ok(())
    }

    /// A new epoch, so that sequences can begin anew; a new id where the epochs of this one are used up.
    pub(super) fn bump(&mut self, now: Now) {
        if let Self::Known(identity) = *self {
            *self = match identity.epoch.checked_add(1) {
                Some(epoch) => Self::Known(ProducerIdentity { epoch, ..identity }),
                None => Self::Wanted { at: now.mono_us },
            };
        }
    }

    /// When [`Self::poll_request`] has something.
    pub(super) fn due(&self) -> Option<u64> {
        match self {
            Self::Wanted { at: u64::MAX } => None,
            Self::Wanted { at } => Some(*at),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::ErrorCode;
    use ottla_protocol::messages::InitProducerIdResponse;

    fn answer(error_code: ErrorCode, producer_epoch: i16) -> Result<Response, KafkaError> {
        let producer_id = 7;
        let response = InitProducerIdResponse {
            error_code,
            producer_id,
            producer_epoch,
            ..Default::default()
        };
        Ok(Response::InitProducerId(response))
    }

    #[test]
    fn asks_until_it_knows() {
        let now = Now::new(0, 0);
        let mut identity = Identity::Wanted { at: 0 };
        assert!(identity.poll_request(now).is_some());
        assert!(identity.poll_request(now).is_none());
        identity
            .answered(now, 500, answer(ErrorCode::COORDINATOR_NOT_AVAILABLE, 0))
            .unwrap();
        assert_eq!(identity.due(), Some(500));
        assert!(identity.poll_request(Now::new(500, 0)).is_some());
        identity
            .answered(now, 500, answer(ErrorCode::NONE, i16::MAX - 1))
            .unwrap();
        identity.bump(now);
        assert_eq!(
            identity,
            Identity::Known(ProducerIdentity {
                id: 7,
                epoch: i16::MAX
            })
        );
        identity.bump(now);
        assert_eq!(
            identity,
            Identity::Wanted { at: 0 },
            "the epochs are used up"
        );
    }

    #[test]
    fn some_errors_do_not_pass() {
        let mut identity = Identity::Asked;
        let refused = answer(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, 0);
        assert!(identity.answered(Now::new(0, 0), 500, refused).is_err());
        assert_eq!(identity.due(), None);
    }
}
