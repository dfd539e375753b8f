//! `EndTxn`: the decision. It is answered when it is written; the markers follow, and then the record that all are.

use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::end_txn::{EndTxnRequest, EndTxnResponse},
};
use ottla_record::Now;

use super::{
    Decision, TransactionCoordinator,
    outbox::{DecisionAnswer, Then},
    transaction::{Metadata, NO_EPOCH, NO_PRODUCER_ID, State, WITH_EPOCH_BUMP},
};
use crate::context::ReplyTo;

/// From this version on the client is of transaction version 2: it gets a new epoch.
const WITH_NEW_EPOCH: i16 = 5;
/// From this version on a producer that is shut out gets PRODUCER_FENCED; before, INVALID_PRODUCER_EPOCH.
const WITH_PRODUCER_FENCED: i16 = 2;

/// What comes of a request.
enum Decided {
    /// It is the repetition of one that was done.
    Done,
    /// The step to be written.
    Step(Metadata),
}

impl TransactionCoordinator {
    /// Ends a transaction. The answer comes through [`super::TransactionOutput::Respond`].
    pub(crate) fn end(
        &mut self,
        now: Now,
        reply: ReplyTo,
        request: &EndTxnRequest,
        new_id: &mut dyn FnMut() -> Result<i64, ErrorCode>,
    ) {
        let id = Str::from(request.transactional_id.as_str());
        let decided = match reply.api_version >= WITH_NEW_EPOCH {
            true => self.decide_end(now, request, new_id),
            false => self.decide_end_v1(now, request),
        };
        match decided {
            Ok(Decided::Done) => self.respond_end(reply, &id, Ok(())),
            Ok(Decided::Step(next)) => {
                let answer = DecisionAnswer::EndTxn(reply);
                self.step(&id, next, Then::Decide { answer });
            }
            Err(error) => self.respond_end(reply, &id, Err(error)),
        }
    }

    /// Of a client of transaction version 2. Its epoch rises with each transaction, which tells a repetition, whose epoch is one
    /// less, from the end of the next transaction: neither a late nor a repeated request can end what it doesn't mean.
    fn decide_end(
        &self,
        now: Now,
        request: &EndTxnRequest,
        new_id: &mut dyn FnMut() -> Result<i64, ErrorCode>,
    ) -> Result<Decided, ErrorCode> {
        let (id, epoch) = (request.producer_id, request.producer_epoch);
        let committed = request.committed;
        let transaction = self.transaction_of(request)?;
        let present = match (&transaction.present, &transaction.pending) {
            (Some(present), None) => present,
            _ => return Err(ErrorCode::CONCURRENT_TRANSACTIONS),
        };
        // The client's id changed with the end that it repeats.
        let rotated = present.previous_producer_id == id
            && present.producer_id != id
            && epoch == i16::MAX - 1
            && present.epoch == 0;
        // After the last epoch of all only another id can follow.
        let can_follow = present.epoch < i16::MAX || present.next_producer_id != NO_PRODUCER_ID;
        let bumped = epoch >= 0
            && present.epoch == epoch.saturating_add(1)
            && present.client_version >= WITH_EPOCH_BUMP
            && can_follow;
        if present.producer_id != id && !rotated {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        let repeats = rotated || bumped;
        let valid = match present.state {
            State::Ongoing | State::Empty => epoch == present.epoch,
            State::PrepareCommit | State::PrepareAbort => bumped,
            _ => repeats || epoch == present.epoch,
        };
        if !valid {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        let step = |new_id: &mut dyn FnMut() -> Result<i64, ErrorCode>| {
            let next_id = match present.is_exhausted() {
                true => new_id()?,
                false => NO_PRODUCER_ID,
            };
            let next = present.decided(committed, WITH_EPOCH_BUMP, next_id, now.wall_ms);
            Ok(Decided::Step(next))
        };
        match (present.state, committed) {
            (State::Ongoing, _) => step(new_id),
            (State::CompleteCommit, true) | (State::CompleteAbort, false) if repeats => {
                Ok(Decided::Done)
            }
            // An abort of a transaction without partitions, which the coordinator never heard of.
            (State::CompleteCommit | State::CompleteAbort, false) if !repeats => step(new_id),
            (State::Empty, false) => step(new_id),
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }

    /// Of a client from before KIP-890.
    fn decide_end_v1(&self, now: Now, request: &EndTxnRequest) -> Result<Decided, ErrorCode> {
        let committed = request.committed;
        let transaction = self.transaction_of(request)?;
        let Some(present) = &transaction.present else {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        };
        if present.producer_id != request.producer_id {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if present.epoch != request.producer_epoch {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        if transaction.pending.is_some() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        match (present.state, committed) {
            (State::Ongoing, _) => {
                let next = present.decided(committed, 0, NO_PRODUCER_ID, now.wall_ms);
                Ok(Decided::Step(next))
            }
            (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(Decided::Done),
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }

    fn transaction_of(
        &self,
        request: &EndTxnRequest,
    ) -> Result<&super::transaction::Transaction, ErrorCode> {
        if request.transactional_id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        self.check_log(&request.transactional_id)?;
        self.transactions
            .get(&request.transactional_id)
            .ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
    }

    /// The record of a decision is committed, or is not going to be.
    pub(super) fn decided(
        &mut self,
        answer: DecisionAnswer,
        id: &Str,
        result: Result<(), ErrorCode>,
    ) {
        match answer {
            DecisionAnswer::EndTxn(reply) => self.respond_end(reply, id, result),
            DecisionAnswer::InitProducerId(reply) => {
                let again = result.and(Err(ErrorCode::CONCURRENT_TRANSACTIONS));
                self.respond_init(reply, again);
            }
            DecisionAnswer::Nobody => {}
        }
        if result.is_ok() {
            self.write_markers(id);
        }
    }

    /// Has the markers written of a transaction that is decided.
    pub(super) fn write_markers(&mut self, id: &Str) {
        let Some(present) = self.present(id).filter(|m| m.state.is_prepared()) else {
            return;
        };
        let decision = Decision {
            transactional_id: id.clone(),
            producer_id: present.producer_id,
            producer_epoch: present.epoch,
            committed: present.state == State::PrepareCommit,
            epoch_was_bumped: present.client_version >= WITH_EPOCH_BUMP,
            partitions: present.partitions.to_list(),
        };
        self.out.write_markers(decision);
    }

    fn respond_end(&mut self, reply: ReplyTo, id: &Str, result: Result<(), ErrorCode>) {
        let with_epoch = reply.api_version >= WITH_NEW_EPOCH;
        let (producer_id, producer_epoch) = match (result, self.present(id)) {
            (Ok(()), Some(present)) if with_epoch => present.for_client(),
            _ => (NO_PRODUCER_ID, NO_EPOCH),
        };
        let error_code = match result {
            Ok(()) => ErrorCode::NONE,
            Err(ErrorCode::PRODUCER_FENCED) if reply.api_version < WITH_PRODUCER_FENCED => {
                ErrorCode::INVALID_PRODUCER_EPOCH
            }
            Err(error) => error,
        };
        let response = EndTxnResponse {
            error_code,
            producer_id,
            producer_epoch,
            ..Default::default()
        };
        self.out.respond(reply, Response::EndTxn(response));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Coordinator, TOPIC, config};
    use super::*;

    #[test]
    fn answered_with_the_decision_and_complete_with_the_markers() {
        for committed in [true, false] {
            let mut c = Coordinator::new(config());
            let producer = c.init("x").unwrap();
            c.add("x", producer, &[0, 1]);
            c.hold = true;
            c.hold_markers = true;
            let end = c.send_end(3, "x", producer, committed);
            assert_eq!(c.ended(end), None);
            assert!(c.decisions.is_empty());
            c.finish_append(Ok(()));
            assert_eq!(c.ended(end).unwrap().error_code, ErrorCode::NONE);
            let decision = c.decisions.front().unwrap().clone();
            assert_eq!(decision.committed, committed);
            assert_eq!((decision.producer_id, decision.producer_epoch), producer);
            assert!(!decision.epoch_was_bumped);
            assert_eq!(decision.partitions, [(TOPIC, 0), (TOPIC, 1)]);
            let again = c.send_end(3, "x", producer, committed);
            let busy = ErrorCode::CONCURRENT_TRANSACTIONS;
            assert_eq!(c.ended(again).unwrap().error_code, busy);
            let other = c.send_end(3, "x", producer, !committed);
            let wrong = ErrorCode::INVALID_TXN_STATE;
            assert_eq!(c.ended(other).unwrap().error_code, wrong);
            c.hold = false;
            c.finish_markers();
            assert_eq!(c.end("x", producer, committed), ErrorCode::NONE);
            assert_eq!(c.end("x", producer, !committed), wrong);
            assert!(c.present("x").partitions.to_list().is_empty());
        }
    }

    #[test]
    fn who_may_not() {
        let mut c = Coordinator::new(config());
        let (id, epoch) = c.init("x").unwrap();
        c.add("x", (id, epoch), &[0]);
        for version in [1, 4, 5] {
            let fenced = match version {
                1 => ErrorCode::INVALID_PRODUCER_EPOCH,
                _ => ErrorCode::PRODUCER_FENCED,
            };
            for (name, producer, error) in [
                ("", (id, epoch), ErrorCode::INVALID_REQUEST),
                ("y", (id, epoch), ErrorCode::INVALID_PRODUCER_ID_MAPPING),
                ("x", (id + 1, epoch), ErrorCode::INVALID_PRODUCER_ID_MAPPING),
                ("x", (id, epoch + 1), fenced),
                ("x", (id, -1), fenced),
            ] {
                let end = c.send_end(version, name, producer, true);
                assert_eq!(c.ended(end).unwrap().error_code, error, "{version} {name}");
            }
        }
        assert_eq!(c.state("x"), Some(State::Ongoing));
    }

    #[test]
    fn nothing_to_end() {
        let mut c = Coordinator::new(config());
        let producer = c.init("x").unwrap();
        for committed in [true, false] {
            let error = c.end("x", producer, committed);
            assert_eq!(error, ErrorCode::INVALID_TXN_STATE);
        }
        // With version 2 a client may abort what the coordinator has not heard of; its epoch rises all the same.
        let end = c.send_end(5, "x", producer, true);
        let wrong = ErrorCode::INVALID_TXN_STATE;
        assert_eq!(c.ended(end).unwrap().error_code, wrong);
        for epoch in 0..3 {
            let end = c.send_end(5, "x", (producer.0, epoch), false);
            let answer = c.ended(end).unwrap();
            assert_eq!(answer.error_code, ErrorCode::NONE);
            let next = (producer.0, epoch + 1);
            assert_eq!((answer.producer_id, answer.producer_epoch), next);
            let again = c.send_end(5, "x", (producer.0, epoch), false);
            assert_eq!(c.ended(again).unwrap(), answer, "a repetition");
        }
    }

    #[test]
    fn a_late_end_does_not_hit_the_next_transaction() {
        let mut c = Coordinator::new(config());
        let (id, epoch) = c.init("x").unwrap();
        c.add_with(5, "x", (id, epoch), &[0]);
        let end = c.send_end(5, "x", (id, epoch), true);
        let answer = c.ended(end).unwrap();
        assert_eq!((answer.producer_id, answer.producer_epoch), (id, epoch + 1));
        let again = c.send_end(5, "x", (id, epoch), true);
        assert_eq!(c.ended(again).unwrap(), answer);
        let other = c.send_end(5, "x", (id, epoch), false);
        let wrong = ErrorCode::INVALID_TXN_STATE;
        assert_eq!(c.ended(other).unwrap().error_code, wrong);
        c.add_with(5, "x", (id, epoch + 1), &[0]);
        for committed in [true, false] {
            let late = c.send_end(5, "x", (id, epoch), committed);
            let fenced = ErrorCode::PRODUCER_FENCED;
            assert_eq!(c.ended(late).unwrap().error_code, fenced);
        }
        assert_eq!(c.state("x"), Some(State::Ongoing));
        c.restart();
        let late = c.send_end(5, "x", (id, epoch), true);
        let fenced = ErrorCode::PRODUCER_FENCED;
        assert_eq!(c.ended(late).unwrap().error_code, fenced);
    }

    #[test]
    fn the_last_epoch_of_a_producer_id() {
        let mut c = Coordinator::new(config());
        c.init("x").unwrap();
        c.set_epoch("x", i16::MAX - 1);
        let last = (1000, i16::MAX - 1);
        c.add_with(5, "x", last, &[0]);
        c.hold_markers = true;
        let end = c.send_end(5, "x", last, true);
        let answer = c.ended(end).unwrap();
        assert_eq!((answer.producer_id, answer.producer_epoch), (1001, 0));
        let decision = c.decisions.front().unwrap();
        let marker = (decision.producer_id, decision.producer_epoch);
        assert_eq!(marker, (1000, i16::MAX));
        let again = c.send_end(5, "x", last, true);
        let busy = ErrorCode::CONCURRENT_TRANSACTIONS;
        assert_eq!(c.ended(again).unwrap().error_code, busy);
        assert_eq!(c.add("x", (1001, 0), &[0]), busy);
        c.restart();
        c.finish_markers();
        let again = c.send_end(5, "x", last, true);
        assert_eq!(c.ended(again).unwrap(), answer, "also after a restart");
        assert_eq!(c.add("x", (1001, 0), &[0]), ErrorCode::NONE);
    }

    #[test]
    fn a_decision_that_cannot_be_written_is_none() {
        let mut c = Coordinator::new(config());
        let producer = c.init("x").unwrap();
        c.add("x", producer, &[0]);
        c.hold = true;
        let end = c.send_end(5, "x", producer, true);
        let meanwhile = c.send_end(5, "x", producer, true);
        let busy = ErrorCode::CONCURRENT_TRANSACTIONS;
        assert_eq!(c.ended(meanwhile).unwrap().error_code, busy);
        c.finish_append(Err(ErrorCode::NOT_ENOUGH_REPLICAS));
        let error = c.ended(end).unwrap().error_code;
        assert_eq!(error, ErrorCode::COORDINATOR_NOT_AVAILABLE);
        assert!(c.decisions.is_empty());
        assert_eq!(c.state("x"), Some(State::Ongoing));
        c.hold = false;
        assert_eq!(c.end("x", producer, false), ErrorCode::NONE);
    }
}
