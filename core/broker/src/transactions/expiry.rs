//! Transactional ids that nobody uses any more are forgotten.

use alloc::vec::Vec;
use ottla_protocol::Str;
use ottla_record::Now;

use super::{
    TransactionCoordinator,
    outbox::Then,
    records,
    transaction::{Metadata, State, Transaction},
};

impl TransactionCoordinator {
    /// Looks through all transactional ids, every `transaction.remove.expired.transaction.cleanup.interval.ms`: one without a
    /// transaction that has not changed for `transactional.id.expiration.ms` gets a tombstone.
    pub(super) fn expire_ids(&mut self, now: Now) {
        let expiration_ms = self.out.config.id_expiration_ms;
        let expired = |(id, transaction): (&Str, &Transaction)| {
            let present = transaction.present.as_ref()?;
            let is_old = present.updated_ms.saturating_add(expiration_ms) <= now.wall_ms;
            (transaction.pending.is_none() && present.state.is_idle() && is_old)
                .then(|| (id.clone(), present.clone()))
        };
        let old: Vec<(Str, Metadata)> = self.transactions.iter().filter_map(expired).collect();
        for (id, present) in old {
            let Some(transaction) = self.transactions.get_mut(&id) else {
                continue;
            };
            transaction.pending = Some(Metadata {
                state: State::Dead,
                ..present
            });
            let tombstone = records::tombstone(&id);
            self.out.write(id, tombstone, Then::Forget);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Coordinator, config};
    use super::*;
    use ottla_protocol::ErrorCode;

    const DAY_MS: u64 = 24 * 3_600_000;

    #[test]
    fn after_a_week_without_a_transaction() {
        let mut c = Coordinator::new(config());
        let idle = c.init("idle").unwrap();
        let used = c.init("used").unwrap();
        for _ in 0..4 {
            c.advance(2 * DAY_MS);
            c.add("used", used, &[0]);
            assert_eq!(c.end("used", used, true), ErrorCode::NONE);
        }
        assert_eq!(
            (c.state("idle"), c.state("used")),
            (None, Some(State::CompleteCommit))
        );
        let unknown = ErrorCode::INVALID_PRODUCER_ID_MAPPING;
        assert_eq!(c.add("idle", idle, &[0]), unknown);
        c.restart();
        assert_eq!(c.state("idle"), None);
        c.advance(8 * DAY_MS);
        assert_eq!(c.state("used"), None);
        assert_eq!(c.coordinator.poll_timeout(), None, "nothing to look at");
        c.restart();
        assert_eq!(c.state("used"), None);
    }

    #[test]
    fn not_while_something_is_under_way() {
        let mut c = Coordinator::new(config());
        let producer = c.init("x").unwrap();
        c.add("x", producer, &[0]);
        c.hold_markers = true;
        c.end("x", producer, true);
        c.advance(30 * DAY_MS);
        assert_eq!(c.state("x"), Some(State::PrepareCommit));
        c.finish_markers();
        assert_eq!(c.state("x"), Some(State::CompleteCommit));
        c.advance(6 * DAY_MS);
        c.hold = true;
        c.advance(2 * DAY_MS);
        let busy = c.init("x");
        assert_eq!(busy, Err(ErrorCode::CONCURRENT_TRANSACTIONS));
        c.finish_append(Err(ErrorCode::NOT_ENOUGH_REPLICAS));
        c.hold = false;
        assert_eq!(c.init("x"), Ok((producer.0, producer.1 + 1)));
    }
}
