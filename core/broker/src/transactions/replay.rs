//! Start-up: the transactional ids as the records of `__transaction_state` tell of them.

use alloc::vec::Vec;
use ottla_protocol::Str;
use ottla_record::Now;

use super::{
    TransactionCoordinator, records,
    transaction::{State, Transaction},
};

impl TransactionCoordinator {
    /// One record of `__transaction_state` (without a value, it is a tombstone), in offset order per partition; only while the
    /// broker opens. A record that can't be read is skipped: its type may be newer than this version.
    pub(crate) fn replay(&mut self, key: &[u8], value: Option<&[u8]>) {
        match records::parse(key, value) {
            Some((id, Some(metadata))) if metadata.state != State::Dead => {
                let transaction = Transaction {
                    present: Some(metadata),
                    pending: None,
                };
                self.transactions.insert(id, transaction);
            }
            Some((id, _)) => {
                self.transactions.remove(&id);
            }
            None => self.is_incomplete = true,
        }
    }

    /// Whether some of the log could not be read.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// All records were replayed: what was decided goes on with its markers, all of them, since nobody knows which were written. Not so
    /// where the log has failed: after a power cut the decision could be another one.
    pub(crate) fn replay_finished(&mut self, now: Now) {
        let ids: Vec<Str> = self.transactions.keys().cloned().collect();
        for id in ids {
            if self.check_log(&id).is_ok() {
                self.write_markers(&id);
            }
        }
        self.start_timers(now);
    }

    /// The largest producer id in use.
    pub(crate) fn max_producer_id(&self) -> Option<i64> {
        let all = self.transactions.values().flat_map(|transaction| {
            let present = transaction.present.as_ref();
            present
                .into_iter()
                .flat_map(|m| [m.producer_id, m.next_producer_id])
        });
        all.max().filter(|id| *id >= 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Coordinator, config};
    use super::*;
    use ottla_protocol::ErrorCode;

    #[test]
    fn what_was_decided_goes_on() {
        for committed in [true, false] {
            let mut c = Coordinator::new(config());
            let producer = c.init("x").unwrap();
            c.add("x", producer, &[0, 1]);
            c.hold_markers = true;
            assert_eq!(c.end("x", producer, committed), ErrorCode::NONE);
            let decision = c.decisions.front().unwrap().clone();
            c.restart();
            assert_eq!(c.decisions.front(), Some(&decision), "the same once more");
            c.restart();
            c.finish_markers();
            let complete = match committed {
                true => State::CompleteCommit,
                false => State::CompleteAbort,
            };
            assert_eq!(c.state("x"), Some(complete));
            c.restart();
            assert!(c.decisions.is_empty());
            assert_eq!(c.end("x", producer, committed), ErrorCode::NONE);
        }
    }

    #[test]
    fn nothing_goes_on_from_a_log_that_failed() {
        let mut c = Coordinator::new(config());
        let producer = c.init("x").unwrap();
        c.add("x", producer, &[0]);
        c.hold_markers = true;
        c.end("x", producer, true);
        c.restart_with(&[0, 1, 2, 3]);
        assert_eq!(c.state("x"), Some(State::PrepareCommit));
        assert!(c.decisions.is_empty(), "it may not be on the disk");
        let gone = ErrorCode::NOT_COORDINATOR;
        assert_eq!(c.init("x"), Err(gone));
        assert_eq!(c.init("new"), Err(gone));
        assert_eq!(c.add("x", producer, &[0]), gone);
        assert_eq!(c.end("x", producer, true), gone);
        assert_eq!(c.coordinator.describe(&"x".into()).error_code, gone);
        let all = c.coordinator.list(c.now, &Default::default());
        assert_eq!(all.transaction_states, []);
        c.restart();
        assert_eq!(c.decisions.len(), 1);
    }

    #[test]
    fn what_was_not_written_is_forgotten() {
        let mut c = Coordinator::new(config());
        let producer = c.init("x").unwrap();
        c.hold = true;
        c.send_add(3, "x", producer, &[0]);
        c.restart();
        assert_eq!(c.state("x"), Some(State::Empty));
        c.hold = false;
        c.add("x", producer, &[0]);
        c.hold = true;
        c.send_end(3, "x", producer, true);
        c.restart();
        assert_eq!(c.state("x"), Some(State::Ongoing));
    }

    #[test]
    fn the_largest_producer_id() {
        let mut c = Coordinator::new(config());
        assert_eq!(c.coordinator.max_producer_id(), None);
        c.init("x").unwrap();
        c.init("y").unwrap();
        c.restart();
        assert_eq!(c.coordinator.max_producer_id(), Some(1001));
    }
}
