//! Transactions: the coordinator, as a machine inside the broker, and what the broker does for it.
//!
//! It follows the group coordinator's pattern: a request is decided purely on the state in memory; each step from one state to
//! the next is one record in a partition of `__transaction_state`; the step takes effect, and is answered, once that record is
//! committed. Start-up is a replay of the same records. While a record is under way others have to wait: requests of clients
//! get CONCURRENT_TRANSACTIONS, records that are produced are parked ([`waiting`]).
//!
//! The coordinator touches neither the logs nor the broker. What it wants done comes out of
//! [`TransactionCoordinator::poll_output`]: answers, appends, markers to be written into the partitions of a transaction that
//! was decided ([`markers`]), and that whoever waits for a transactional id may look again.
//!
//! One file is one flow: [`init_producer_id`], [`add_partitions`], [`end_txn`], [`timeouts`], [`expiry`], [`listing`],
//! [`replay`]; and of the broker [`markers`], [`waiting`], [`hanging`]. [`transaction`] is the state, [`records`] its form in
//! the log, [`outbox`] what the flows put out. See `docs/internals/transactions.md`.

mod add_partitions;
mod end_txn;
mod expiry;
mod hanging;
mod init_producer_id;
mod listing;
pub(crate) mod markers;
#[cfg(test)]
mod model;
mod outbox;
mod records;
mod replay;
#[cfg(test)]
pub(crate) mod testing;
mod timeouts;
mod transaction;
pub(crate) mod waiting;
#[cfg(test)]
mod whole;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use ottla_protocol::{ErrorCode, Response, Str};
use ottla_record::Now;

use self::{
    add_partitions::AddUnderWay,
    outbox::{Outbox, Then, Write},
    transaction::{Metadata, Transaction},
};
use crate::{
    context::ReplyTo,
    groups::{CoordinatorRecord, partition_of},
};

pub(crate) use add_partitions::{AddPart, Admission, Member};
pub(crate) use transaction::NO_PRODUCER_ID;

/// What the coordinator is told at construction.
#[derive(Clone, Debug)]
pub struct TransactionConfig {
    /// Partitions of `__transaction_state` (`transaction.state.log.num.partitions`), at least 1. A transactional id's partition
    /// is `abs(JavaStringHash(id)) mod` this.
    pub partitions: i32,
    /// `transaction.state.log.segment.bytes`: of `__transaction_state`, when it is created.
    pub segment_bytes: i32,
    /// `transaction.max.timeout.ms`: the longest `transaction.timeout.ms` that a producer may have.
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`: how long a transactional id without a transaction is remembered.
    pub id_expiration_ms: i64,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
    pub abort_timed_out_interval_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub remove_expired_interval_ms: i64,
}

/// Names an append of the coordinator until it is committed; unique within one coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransactionToken(pub(crate) u64);

/// A transaction that was decided: what goes into its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) transactional_id: Str,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) committed: bool,
    /// The epoch is larger than that of the transaction's records.
    pub(crate) epoch_was_bumped: bool,
    pub(crate) partitions: Vec<(Str, i32)>,
}

/// What the coordinator wants done.
#[derive(Debug)]
pub(crate) enum TransactionOutput {
    /// Answer a deferred request.
    Respond { to: ReplyTo, response: Response },
    /// Append `record` to `__transaction_state-<partition>`; [`TransactionCoordinator::handle_appended`] is due when it is
    /// committed, or can't be.
    Append {
        partition: i32,
        record: CoordinatorRecord,
        token: TransactionToken,
    },
    /// Write markers; [`TransactionCoordinator::handle_markers_written`] is due when all are committed.
    WriteMarkers(Decision),
    /// What was under way for this transactional id is not any more.
    Moved(Str),
    /// What was under way for this transactional id could not be written: whoever waits for it would wait in vain.
    NotWritten(Str),
}

/// All transactional ids of this broker.
#[derive(Debug)]
pub(crate) struct TransactionCoordinator {
    transactions: BTreeMap<Str, Transaction>,
    out: Outbox,
    /// `AddPartitionsToTxn` requests with records under way.
    adds: BTreeMap<u64, AddUnderWay>,
    next_add: u64,
    /// Some of the log could not be read.
    is_incomplete: bool,
    /// The partitions of the log that failed. What they say may not be on the disk, and they take no more.
    failed: BTreeSet<i32>,
    /// When transactions are next looked through for those that take too long; `None` while none is open.
    timeouts_us: Option<u64>,
    /// When transactional ids are next looked through for those that nobody uses; `None` while there are none.
    expiry_us: Option<u64>,
}

impl TransactionCoordinator {
    /// A coordinator that knows no transactional id yet.
    pub(crate) fn new(config: TransactionConfig) -> Self {
        Self {
            transactions: BTreeMap::new(),
            out: Outbox::new(config),
            adds: BTreeMap::new(),
            next_add: 0,
            is_incomplete: false,
            failed: BTreeSet::new(),
            timeouts_us: None,
            expiry_us: None,
        }
    }

    /// The next thing the coordinator wants done.
    pub(crate) fn poll_output(&mut self) -> Option<TransactionOutput> {
        self.out.next_output()
    }

    /// When [`TransactionCoordinator::handle_timeout`] must be called next, in monotonic microseconds.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        [self.timeouts_us, self.expiry_us]
            .into_iter()
            .flatten()
            .min()
    }

    /// Transactions that take too long, transactional ids that nobody uses: whatever is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        if self.timeouts_us.is_some_and(|at| at <= now.mono_us) {
            self.timeouts_us = None;
            self.abort_timed_out(now);
            self.start_timers(now);
        }
        if self.expiry_us.is_some_and(|at| at <= now.mono_us) {
            self.expiry_us = None;
            self.expire_ids(now);
            self.start_timers(now);
        }
    }

    /// The append named `token` is committed (`Ok`), or will never be (the error a producer would have got).
    pub(crate) fn handle_appended(
        &mut self,
        now: Now,
        token: TransactionToken,
        result: Result<(), ErrorCode>,
    ) {
        let Some(Write { id, then }) = self.out.take_write(token) else {
            return;
        };
        let Some(transaction) = self.transactions.get_mut(&id) else {
            return;
        };
        let pending = transaction.pending.take();
        let result = result.map_err(crate::groups::membership_error);
        match (&result, &then) {
            (Ok(()), Then::Forget) => {
                self.transactions.remove(&id);
            }
            (Ok(()), _) => transaction.present = pending,
            (Err(_), _) if transaction.present.is_none() => {
                self.transactions.remove(&id);
            }
            (Err(_), _) => {}
        }
        // Its log failed: looking again would only fail again, and at once.
        let in_vain = matches!((&then, &result), (Then::AddImplicitly, Err(_)));
        match then {
            Then::Init { reply } => self.initialised(reply, &id, result),
            Then::Add { request } => self.added(request, &id, result),
            Then::AddOffsets { reply } => self.offsets_added(reply, result),
            Then::Decide { answer } => self.decided(answer, &id, result),
            Then::Complete | Then::AddImplicitly | Then::Forget => {}
        }
        match in_vain {
            true => self.out.not_written(id.clone()),
            false => self.out.moved(id.clone()),
        }
        self.start_timers_of(now, &id);
    }

    /// A partition of the log failed: a write or a sync of it did, perhaps the one before it was replayed. Until the broker is opened
    /// anew nothing is decided on what it says, nor answered from it: the transaction coordinator of these ids is gone, as in Kafka.
    pub(crate) fn log_failed(&mut self, partition: i32) {
        self.failed.insert(partition);
    }

    /// NOT_COORDINATOR if the log of a transactional id failed.
    fn check_log(&self, id: &str) -> Result<(), ErrorCode> {
        if self.failed.is_empty() {
            return Ok(());
        }
        let partition = partition_of(id, self.out.config.partitions);
        match self.failed.contains(&partition) {
            true => Err(ErrorCode::NOT_COORDINATOR),
            false => Ok(()),
        }
    }

    /// All markers of the transaction are committed: it is complete.
    pub(crate) fn handle_markers_written(&mut self, now: Now, id: &Str) {
        let Some(transaction) = self.transactions.get(id) else {
            return;
        };
        if let (None, Some(present)) = (&transaction.pending, &transaction.present)
            && present.state.is_prepared()
        {
            let next = present.completed(now.wall_ms);
            self.step(id, next, Then::Complete);
        }
    }

    /// Writes the next step of a transactional id; `then` follows from its commit.
    fn step(&mut self, id: &Str, next: Metadata, then: Then) {
        let record = records::metadata(id, &next);
        if let Some(transaction) = self.transactions.get_mut(id) {
            transaction.pending = Some(next);
            self.out.write(id.clone(), record, then);
        }
    }

    /// What is committed of a transactional id.
    fn present(&self, id: &Str) -> Option<&Metadata> {
        self.transactions.get(id)?.present.as_ref()
    }

    /// The timers that are needed, whatever happened. Looks at all transactional ids.
    fn start_timers(&mut self, now: Now) {
        let any_open = self.transactions.values().any(timeouts::may_time_out);
        self.start_timers_if(now, any_open);
    }

    /// The timers that are needed after a step of one transactional id. There may be many others, so none is looked at.
    fn start_timers_of(&mut self, now: Now, id: &Str) {
        let transaction = self.transactions.get(id);
        self.start_timers_if(now, transaction.is_some_and(timeouts::may_time_out));
    }

    fn start_timers_if(&mut self, now: Now, is_open: bool) {
        let config = &self.out.config;
        if self.expiry_us.is_none() && !self.transactions.is_empty() {
            self.expiry_us = Some(now.after_ms(config.remove_expired_interval_ms.max(1)));
        }
        if self.timeouts_us.is_none() && is_open {
            self.timeouts_us = Some(now.after_ms(config.abort_timed_out_interval_ms.max(1)));
        }
    }
}
