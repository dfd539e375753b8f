//! Transactions that take longer than their producer said are aborted, with a larger epoch, so that nothing more of them gets through.

use alloc::vec::Vec;
use ottla_protocol::Str;
use ottla_record::Now;

use super::{
    TransactionCoordinator,
    outbox::{DecisionAnswer, Then},
    transaction::{Metadata, State, Transaction},
};

/// Whether there is a transaction that could take too long.
pub(super) fn may_time_out(transaction: &Transaction) -> bool {
    let is_open = |m: &Option<Metadata>| m.as_ref().is_some_and(|m| m.state == State::Ongoing);
    is_open(&transaction.present) || is_open(&transaction.pending)
}

impl TransactionCoordinator {
    /// Looks through all transactions, every `transaction.abort.timed.out.transaction.cleanup.interval.ms`. One with a record
    /// under way is looked at the next time.
    pub(super) fn abort_timed_out(&mut self, now: Now) {
        let timed_out = |(id, transaction): (&Str, &Transaction)| {
            let present = transaction.present.as_ref()?;
            let ends_ms = present.start_ms.saturating_add(present.timeout_ms.into());
            let is_late = present.state == State::Ongoing && ends_ms < now.wall_ms;
            (is_late && transaction.pending.is_none() && self.check_log(id).is_ok())
                .then(|| (id.clone(), present.timed_out(now.wall_ms)))
        };
        let late: Vec<(Str, Metadata)> = self.transactions.iter().filter_map(timed_out).collect();
        for (id, next) in late {
            let answer = DecisionAnswer::Nobody;
            self.step(&id, next, Then::Decide { answer });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Coordinator, config};
    use super::*;
    use ottla_protocol::ErrorCode;

    #[test]
    fn a_transaction_that_takes_too_long_is_aborted() {
        for restart in [false, true] {
            let mut c = Coordinator::new(config());
            let (id, epoch) = c.init_with(4, "x", 25_000, None).unwrap();
            c.init_with(4, "y", 60_000, None).unwrap();
            c.add("x", (id, epoch), &[0]);
            c.add("y", (id + 1, 0), &[0]);
            c.advance(20_000);
            // More partitions don't give it more time.
            c.add("x", (id, epoch), &[1]);
            if restart {
                c.restart();
            }
            assert_eq!(c.state("x"), Some(State::Ongoing));
            c.advance(15_000);
            assert_eq!(c.state("x"), Some(State::CompleteAbort));
            assert_eq!(c.state("y"), Some(State::Ongoing));
            let decision = c.done.last().unwrap();
            assert!(!decision.committed && decision.epoch_was_bumped);
            assert_eq!(decision.producer_epoch, epoch + 1);
            assert_eq!(decision.partitions.len(), 2);
            for committed in [true, false] {
                let error = c.end("x", (id, epoch), committed);
                assert_eq!(error, ErrorCode::PRODUCER_FENCED);
            }
            // KIP-360: the producer itself comes back.
            assert_eq!(c.init("x"), Ok((id, epoch + 2)));
            c.advance(40_000);
            assert_eq!(c.state("y"), Some(State::CompleteAbort));
            c.advance(10_000);
            assert_eq!(c.coordinator.timeouts_us, None, "nothing to look at");
        }
    }

    #[test]
    fn a_client_of_version_2_may_go_on() {
        for restart in [false, true] {
            let mut c = Coordinator::new(config());
            let (id, epoch) = c.init_with(4, "x", 1_000, None).unwrap();
            c.add_with(5, "x", (id, epoch), &[0]);
            c.advance(20_000);
            assert_eq!(c.state("x"), Some(State::CompleteAbort));
            if restart {
                c.restart();
            }
            let end = c.send_end(5, "x", (id, epoch), true);
            let wrong = ErrorCode::INVALID_TXN_STATE;
            assert_eq!(c.ended(end).unwrap().error_code, wrong, "it is aborted");
            let end = c.send_end(5, "x", (id, epoch), false);
            let answer = c.ended(end).unwrap();
            assert_eq!(answer.error_code, ErrorCode::NONE);
            assert_eq!((answer.producer_id, answer.producer_epoch), (id, epoch + 1));
            // But not with the last epoch of all.
            c.set_epoch("x", i16::MAX - 1);
            c.add_with(5, "x", (id, i16::MAX - 1), &[0]);
            c.advance(20_000);
            assert_eq!(c.present("x").epoch, i16::MAX);
            let end = c.send_end(5, "x", (id, i16::MAX - 1), false);
            let fenced = ErrorCode::PRODUCER_FENCED;
            assert_eq!(c.ended(end).unwrap().error_code, fenced);
        }
    }

    #[test]
    fn one_that_is_being_decided_is_left_alone() {
        let mut c = Coordinator::new(config());
        let producer = c.init_with(4, "x", 1_000, None).unwrap();
        c.add("x", producer, &[0]);
        c.hold = true;
        let end = c.send_end(3, "x", producer, true);
        c.advance(30_000);
        assert_eq!(c.appends.len(), 1);
        c.hold = false;
        c.finish_append(Ok(()));
        assert_eq!(c.ended(end).unwrap().error_code, ErrorCode::NONE);
        assert_eq!(c.state("x"), Some(State::CompleteCommit));
    }
}
