//! `InitProducerId` with a transactional id: the producer gets its id and an epoch that shuts out whoever had it before; what
//! that one left open is aborted first.

use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse},
};
use ottla_record::Now;

use super::{
    TransactionCoordinator,
    outbox::{DecisionAnswer, Then},
    records::MAX_TEXT,
    transaction::{Metadata, NO_EPOCH, NO_PRODUCER_ID, State, Transaction, is_exhausted},
};
use crate::context::{ReplyTo, RequestContext};

/// From this version on a producer that is shut out gets PRODUCER_FENCED; before, INVALID_PRODUCER_EPOCH.
const WITH_PRODUCER_FENCED: i16 = 4;

/// What comes of a request.
enum Decided {
    /// It gets this when it is written.
    Begin(Metadata),
    /// First the transaction of the producer before it.
    Abort(Metadata),
}

impl TransactionCoordinator {
    /// A producer begins with its transactional id. `new_id` gives a producer id that nobody has had. The answer comes through
    /// [`super::TransactionOutput::Respond`].
    pub(crate) fn init_producer_id(
        &mut self,
        now: Now,
        context: &RequestContext,
        id: &Str,
        request: &InitProducerIdRequest,
        new_id: &mut dyn FnMut() -> Result<i64, ErrorCode>,
    ) {
        let reply = context.reply;
        let id = Str::from(id.as_str());
        match self.decide_init(now, &id, request, new_id) {
            Ok(Decided::Begin(next)) => {
                self.transactions.entry(id.clone()).or_insert(Transaction {
                    present: None,
                    pending: None,
                });
                self.step(&id, next, Then::Init { reply });
            }
            Ok(Decided::Abort(next)) => {
                let answer = DecisionAnswer::InitProducerId(reply);
                self.step(&id, next, Then::Decide { answer });
            }
            Err(error) => self.respond_init(reply, Err(error)),
        }
    }

    fn decide_init(
        &self,
        now: Now,
        id: &Str,
        request: &InitProducerIdRequest,
        new_id: &mut dyn FnMut() -> Result<i64, ErrorCode>,
    ) -> Result<Decided, ErrorCode> {
        let timeout_ms = request.transaction_timeout_ms;
        let expected = expected(request)?;
        if id.is_empty() || id.len() > MAX_TEXT {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        if !(1..=self.out.config.max_timeout_ms).contains(&timeout_ms) {
            return Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT);
        }
        self.check_log(id)?;
        let Some(transaction) = self.transactions.get(id) else {
            // Also one that says it had an id: nothing is left of it, so that nobody can be in its place.
            let begun = Metadata::new(new_id()?, timeout_ms, now.wall_ms);
            return Ok(Decided::Begin(begun));
        };
        let (Some(present), None) = (&transaction.present, &transaction.pending) else {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        };
        let may_be = |(producer_id, epoch): (i64, i16)| {
            producer_id == present.producer_id
                || producer_id == present.previous_producer_id && is_exhausted(epoch)
        };
        if !expected.is_none_or(may_be) {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        let epoch = expected.map(|(_, epoch)| epoch);
        match present.state {
            State::Ongoing => {
                // Kafka aborts for whoever asks; but one that was shut out itself must not abort its successor's transaction.
                if epoch.is_some_and(|epoch| epoch != present.epoch) {
                    return Err(ErrorCode::PRODUCER_FENCED);
                }
                // If it is the producer itself that begins anew, it will ask with the same epoch again.
                let last_epoch = epoch.unwrap_or(NO_EPOCH);
                Ok(Decided::Abort(present.fenced(last_epoch, now.wall_ms)))
            }
            State::Empty | State::CompleteCommit | State::CompleteAbort => match epoch {
                Some(epoch) if epoch != present.epoch => {
                    // A repetition of a request whose answer was lost, or a producer that was shut out.
                    match epoch == present.last_epoch && epoch != NO_EPOCH {
                        // The largest epoch is nobody's.
                        true if present.epoch == i16::MAX => {
                            let id = new_id()?;
                            let begun = present.rotated(id, epoch, timeout_ms, now.wall_ms);
                            Ok(Decided::Begin(begun))
                        }
                        true => Ok(Decided::Begin(present.initialised(
                            present.epoch,
                            epoch,
                            timeout_ms,
                            now.wall_ms,
                        ))),
                        false => Err(ErrorCode::PRODUCER_FENCED),
                    }
                }
                _ => {
                    let last_epoch = epoch.unwrap_or(NO_EPOCH);
                    Ok(Decided::Begin(match present.is_exhausted() {
                        true => present.rotated(new_id()?, last_epoch, timeout_ms, now.wall_ms),
                        false => present.initialised(
                            present.epoch + 1,
                            last_epoch,
                            timeout_ms,
                            now.wall_ms,
                        ),
                    }))
                }
            },
            _ => Err(ErrorCode::CONCURRENT_TRANSACTIONS),
        }
    }

    /// The record of a new epoch is committed, or is not going to be.
    pub(super) fn initialised(&mut self, reply: ReplyTo, id: &Str, result: Result<(), ErrorCode>) {
        let answer = result.and_then(|()| {
            let present = self.present(id).ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)?;
            Ok((present.producer_id, present.epoch))
        });
        self.respond_init(reply, answer);
    }

    pub(super) fn respond_init(&mut self, reply: ReplyTo, answer: Result<(i64, i16), ErrorCode>) {
        let response = match answer {
            Ok((producer_id, producer_epoch)) => InitProducerIdResponse {
                producer_id,
                producer_epoch,
                ..Default::default()
            },
            Err(error) => InitProducerIdResponse {
                error_code: match error {
                    ErrorCode::PRODUCER_FENCED if reply.api_version < WITH_PRODUCER_FENCED => {
                        ErrorCode::INVALID_PRODUCER_EPOCH
                    }
                    error => error,
                },
                producer_id: NO_PRODUCER_ID,
                producer_epoch: NO_EPOCH,
                ..Default::default()
            },
        };
        self.out.respond(reply, Response::InitProducerId(response));
    }
}

/// The producer id and epoch that the producer says it has: both or none.
pub(crate) fn expected(request: &InitProducerIdRequest) -> Result<Option<(i64, i16)>, ErrorCode> {
    match (request.producer_id, request.producer_epoch) {
        (NO_PRODUCER_ID, NO_EPOCH) => Ok(None),
        (NO_PRODUCER_ID, _) | (_, NO_EPOCH) => Err(ErrorCode::INVALID_REQUEST),
        both => Ok(Some(both)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Coordinator, config};
    use super::*;

    #[test]
    fn each_start_shuts_out_the_one_before() {
        let mut c = Coordinator::new(config());
        assert_eq!(c.init("x"), Ok((1000, 0)));
        assert_eq!(c.init("x"), Ok((1000, 1)));
        assert_eq!(c.init("y"), Ok((1001, 0)));
        assert_eq!(c.add("x", (1000, 0), &[0]), ErrorCode::PRODUCER_FENCED);
        c.restart();
        assert_eq!(c.init("x"), Ok((1000, 2)));
    }

    #[test]
    fn what_is_refused() {
        let mut c = Coordinator::new(config());
        for timeout in [0, -1, 60_001] {
            let answer = c.init_with(4, "x", timeout, None);
            assert_eq!(answer, Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT));
        }
        assert_eq!(
            c.init_with(4, "", 1000, None),
            Err(ErrorCode::INVALID_REQUEST)
        );
        for half in [(5, -1), (-1, 5)] {
            let answer = c.init_with(4, "x", 1000, Some(half));
            assert_eq!(answer, Err(ErrorCode::INVALID_REQUEST));
        }
        assert_eq!(c.log.len(), 0);
    }

    #[test]
    fn a_producer_that_begins_anew_in_its_transaction_is_not_shut_out() {
        let mut c = Coordinator::new(config());
        let (id, epoch) = c.init("x").unwrap();
        c.add("x", (id, epoch), &[0]);
        let again = |c: &mut Coordinator, epoch| c.init_with(4, "x", 1000, Some((id, epoch)));
        let busy = Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        assert_eq!(again(&mut c, epoch), busy, "first the abort");
        assert_eq!(c.state("x"), Some(State::CompleteAbort));
        assert_eq!(again(&mut c, epoch), Ok((id, epoch + 1)));
        c.add("x", (id, epoch + 1), &[0]);
        let fenced = Err(ErrorCode::PRODUCER_FENCED);
        assert_eq!(again(&mut c, epoch), fenced, "a late copy");
        assert_eq!(c.end("x", (id, epoch + 1), true), ErrorCode::NONE);
        // But whoever another one has shut out stays out.
        c.add("x", (id, epoch + 1), &[0]);
        assert_eq!(c.init("x"), busy);
        assert_eq!(again(&mut c, epoch + 1), fenced);
        assert_eq!(c.init("x"), Ok((id, epoch + 3)));
        // The largest epoch is for shutting out, not to be had.
        c.set_epoch("x", i16::MAX - 1);
        c.add("x", (id, i16::MAX - 1), &[0]);
        assert_eq!(again(&mut c, i16::MAX - 1), busy);
        let (other, first) = again(&mut c, i16::MAX - 1).unwrap();
        assert!(other != id && first == 0);
    }

    #[test]
    fn a_producer_goes_on_with_what_it_has() {
        let mut c = Coordinator::new(config());
        assert_eq!(c.init("x"), Ok((1000, 0)));
        let again = |c: &mut Coordinator, version, expected| {
            c.init_with(version, "x", 1000, Some(expected))
        };
        assert_eq!(again(&mut c, 3, (1000, 0)), Ok((1000, 1)));
        assert_eq!(
            again(&mut c, 3, (1000, 0)),
            Ok((1000, 1)),
            "its answer was lost"
        );
        assert_eq!(again(&mut c, 3, (1000, 1)), Ok((1000, 2)));
        let fenced = again(&mut c, 4, (1000, 0));
        assert_eq!(fenced, Err(ErrorCode::PRODUCER_FENCED));
        let fenced = again(&mut c, 3, (1000, 0));
        assert_eq!(fenced, Err(ErrorCode::INVALID_PRODUCER_EPOCH));
        let other = again(&mut c, 4, (999, 2));
        assert_eq!(other, Err(ErrorCode::PRODUCER_FENCED));
        assert_eq!(c.init("x"), Ok((1000, 3)), "another instance takes over");
        let fenced = again(&mut c, 4, (1000, 2));
        assert_eq!(fenced, Err(ErrorCode::PRODUCER_FENCED));
        // Of an id that was forgotten nobody can be in the way.
        assert_eq!(c.init_with(4, "z", 1000, Some((77, 3))), Ok((1001, 0)));
    }

    #[test]
    fn a_producer_whose_end_was_not_answered_begins_anew() {
        for committed in [true, false] {
            let mut c = Coordinator::new(config());
            let (id, epoch) = c.init("x").unwrap();
            c.add_with(5, "x", (id, epoch), &[0]);
            c.hold_markers = true;
            c.send_end(5, "x", (id, epoch), committed);
            // While the markers are on their way another one's id is told from its own.
            let other = c.init_with(4, "x", 2_000, Some((id + 1, epoch)));
            assert_eq!(other, Err(ErrorCode::PRODUCER_FENCED));
            let own = c.init_with(4, "x", 2_000, Some((id, epoch)));
            assert_eq!(own, Err(ErrorCode::CONCURRENT_TRANSACTIONS));
            c.finish_markers();
            let own = c.init_with(4, "x", 2_000, Some((id, epoch)));
            assert_eq!(own, Ok((id, epoch + 1)), "the epoch that it was not told");
            let present = c.present("x").clone();
            assert_eq!((present.state, present.start_ms), (State::Empty, -1));
            assert_eq!(present.timeout_ms, 2_000, "what it says now");
            c.restart();
            assert_eq!(c.present("x").timeout_ms, 2_000);
        }
    }

    #[test]
    fn an_open_transaction_is_aborted_first() {
        let mut c = Coordinator::new(config());
        let producer = c.init("x").unwrap();
        assert_eq!(c.add("x", producer, &[0, 1]), ErrorCode::NONE);
        c.hold_markers = true;
        assert_eq!(c.init("x"), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
        assert_eq!(c.state("x"), Some(State::PrepareAbort));
        assert_eq!(c.init("x"), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
        let decision = c.decisions.front().unwrap().clone();
        assert_eq!((decision.producer_epoch, decision.committed), (1, false));
        assert_eq!(decision.partitions.len(), 2);
        c.finish_markers();
        // Who was shut out is not one that repeats its own abort.
        for restart in [false, true] {
            if restart {
                c.restart();
            }
            for (version, committed) in [(3, true), (3, false), (5, true), (5, false)] {
                let end = c.send_end(version, "x", producer, committed);
                let error = c.ended(end).unwrap().error_code;
                assert_eq!(error, ErrorCode::PRODUCER_FENCED);
            }
        }
        assert_eq!(c.state("x"), Some(State::CompleteAbort));
        assert_eq!(c.init("x"), Ok((1000, 2)));
    }

    #[test]
    fn one_that_was_shut_out_aborts_nothing() {
        let mut c = Coordinator::new(config());
        let old = c.init("x").unwrap();
        let new = c.init("x").unwrap();
        c.add("x", new, &[0]);
        let answer = c.init_with(4, "x", 1000, Some(old));
        assert_eq!(answer, Err(ErrorCode::PRODUCER_FENCED));
        assert_eq!(c.state("x"), Some(State::Ongoing));
        assert_eq!(c.end("x", new, true), ErrorCode::NONE);
    }

    #[test]
    fn epochs_run_out() {
        let mut c = Coordinator::new(config());
        c.init("x").unwrap();
        c.set_epoch("x", i16::MAX - 1);
        let last = (1000, i16::MAX - 1);
        assert_eq!(c.init_with(4, "x", 1000, Some(last)), Ok((1001, 0)));
        assert_eq!(
            c.init_with(4, "x", 1000, Some(last)),
            Ok((1001, 0)),
            "its answer was lost"
        );
        assert_eq!(c.init("x"), Ok((1001, 1)));
        let answer = c.init_with(4, "x", 1000, Some(last));
        assert_eq!(answer, Err(ErrorCode::PRODUCER_FENCED));
        // With a transaction open the last epoch of all is taken to shut its producer out.
        c.set_epoch("x", i16::MAX - 1);
        c.add("x", (1001, i16::MAX - 1), &[0]);
        assert_eq!(c.init("x"), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
        assert_eq!(c.present("x").epoch, i16::MAX);
        assert_eq!(c.init("x"), Ok((1002, 0)));
    }

    #[test]
    fn nothing_changes_when_it_cannot_be_written() {
        let mut c = Coordinator::new(config());
        c.hold = true;
        let first = c.send_init(4, "x", 1000, None);
        let second = c.send_init(4, "x", 1000, None);
        let busy = Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        assert_eq!(c.initialised(second), Some(busy));
        c.finish_append(Err(ErrorCode::NOT_ENOUGH_REPLICAS));
        let unavailable = Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        assert_eq!(c.initialised(first), Some(unavailable));
        c.hold = false;
        assert_eq!(c.init("x"), Ok((1001, 0)));
        c.hold = true;
        let third = c.send_init(4, "x", 1000, None);
        c.finish_append(Err(ErrorCode::KAFKA_STORAGE_ERROR));
        assert_eq!(c.initialised(third), Some(Err(ErrorCode::NOT_COORDINATOR)));
        c.hold = false;
        assert_eq!(c.init("x"), Ok((1001, 1)));
    }
}
