//! One transactional id as a value: its producer, its state, and the transitions between states that need nothing else.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use ottla_protocol::Str;

/// "None" of a producer id or epoch on the wire and in the log.
pub(crate) const NO_PRODUCER_ID: i64 = -1;
pub(super) const NO_EPOCH: i16 = -1;

/// The transaction version of a client that speaks KIP-890: the epoch rises with each transaction.
pub(super) const WITH_EPOCH_BUMP: i16 = 2;

/// Kafka's states of a transactional id, with the numbers that they have in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// It has a producer and never had a transaction with it.
    Empty = 0,
    /// Partitions were added.
    Ongoing = 1,
    /// Decided: commit markers are being written.
    PrepareCommit = 2,
    /// Decided: abort markers are being written.
    PrepareAbort = 3,
    /// All commit markers are written.
    CompleteCommit = 4,
    /// All abort markers are written.
    CompleteAbort = 5,
    /// Expired; only ever on its way out.
    Dead = 6,
    /// The producer is being fenced. Kafka knows it in memory only, and only before the abort is written; it is not entered here,
    /// where both are one step, and read as what it leads to.
    PrepareEpochFence = 7,
}

impl State {
    pub const ALL: [Self; 8] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
        Self::Dead,
        Self::PrepareEpochFence,
    ];

    /// The name that `ListTransactions` and `DescribeTransactions` show.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::Dead => "Dead",
            Self::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    pub fn from_id(id: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as i8 == id)
    }

    /// Decided, and the markers are not all written.
    pub const fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }

    /// No transaction is there.
    pub const fn is_idle(self) -> bool {
        matches!(
            self,
            Self::Empty | Self::CompleteCommit | Self::CompleteAbort
        )
    }
}

/// Partitions by topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Partitions(BTreeMap<Str, BTreeSet<i32>>);

impl Partitions {
    pub fn insert(&mut self, topic: &Str, partition: i32) {
        match self.0.get_mut(topic) {
            Some(partitions) => {
                partitions.insert(partition);
            }
            None => {
                let topic = Str::from(topic.as_str());
                self.0.insert(topic, [partition].into());
            }
        }
    }

    pub fn contains(&self, topic: &Str, partition: i32) -> bool {
        self.0.get(topic).is_some_and(|p| p.contains(&partition))
    }

    /// By topic, then by partition.
    pub fn topics(&self) -> impl Iterator<Item = (&Str, &BTreeSet<i32>)> {
        self.0.iter()
    }

    pub fn to_list(&self) -> Vec<(Str, i32)> {
        let of_topic = |(topic, partitions)| {
            let (topic, partitions): (&Str, &BTreeSet<i32>) = (topic, partitions);
            partitions.iter().map(|p| (topic.clone(), *p))
        };
        self.0.iter().flat_map(of_topic).collect()
    }
}

/// What a record of `__transaction_state` says of one transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    pub producer_id: i64,
    /// The producer id before the last transition; with it a client that repeats itself after a change of its id is recognised.
    pub previous_producer_id: i64,
    /// In a Prepare state: the producer id that the client goes on with, if its epochs are used up.
    pub next_producer_id: i64,
    pub epoch: i16,
    /// The epoch that the client had before; memory only, as in Kafka.
    pub last_epoch: i16,
    pub timeout_ms: i32,
    pub state: State,
    pub partitions: Partitions,
    /// Milliseconds since the Unix epoch; -1 if there was no transaction yet.
    pub start_ms: i64,
    pub updated_ms: i64,
    /// The transaction version of the client that did the last step: 0, or [`WITH_EPOCH_BUMP`].
    pub client_version: i16,
}

impl Metadata {
    /// Of a new producer. Its first record says that it had this producer id before, as Kafka's do.
    pub fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer_id,
            previous_producer_id: producer_id,
            next_producer_id: NO_PRODUCER_ID,
            epoch: 0,
            last_epoch: NO_EPOCH,
            timeout_ms,
            state: State::Empty,
            partitions: Partitions::default(),
            start_ms: -1,
            updated_ms: now_ms,
            client_version: 0,
        }
    }

    /// No epoch is left to be given to a client: the largest one is kept for fencing it.
    pub fn is_exhausted(&self) -> bool {
        is_exhausted(self.epoch)
    }

    /// The next step of the same producer.
    fn next(&self, state: State, now_ms: i64) -> Self {
        Self {
            previous_producer_id: self.producer_id,
            state,
            updated_ms: now_ms,
            ..self.clone()
        }
    }

    /// A producer begins anew, with this epoch.
    pub fn initialised(&self, epoch: i16, last_epoch: i16, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            epoch,
            last_epoch,
            timeout_ms,
            next_producer_id: NO_PRODUCER_ID,
            partitions: Partitions::default(),
            start_ms: -1,
            ..self.next(State::Empty, now_ms)
        }
    }

    /// A producer begins anew, with another id.
    pub fn rotated(&self, producer_id: i64, last_epoch: i16, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer_id,
            ..self.initialised(0, last_epoch, timeout_ms, now_ms)
        }
    }

    /// Partitions join the transaction, or begin it.
    pub fn with_partitions(&self, added: &[(Str, i32)], client_version: i16, now_ms: i64) -> Self {
        let mut next = self.next(State::Ongoing, now_ms);
        if self.state != State::Ongoing {
            next.start_ms = now_ms;
        }
        for (topic, partition) in added {
            next.partitions.insert(topic, *partition);
        }
        next.client_version = client_version;
        next
    }

    /// The decision. A client of [`WITH_EPOCH_BUMP`] gets a new epoch, or, with that used up, `next_producer_id`.
    pub fn decided(
        &self,
        committed: bool,
        client_version: i16,
        next_producer_id: i64,
        now_ms: i64,
    ) -> Self {
        let state = match committed {
            true => State::PrepareCommit,
            false => State::PrepareAbort,
        };
        let mut next = self.next(state, now_ms);
        if self.state != State::Ongoing {
            // An abort of nothing, which transaction version 2 allows.
            next.start_ms = now_ms;
        }
        if client_version >= WITH_EPOCH_BUMP {
            next.last_epoch = self.epoch;
            next.epoch = self.epoch.saturating_add(1);
        }
        next.next_producer_id = next_producer_id;
        next.client_version = client_version;
        next
    }

    /// The abort of a transaction that takes too long: the epoch rises, so that nothing more of it gets through. A client of
    /// [`WITH_EPOCH_BUMP`] that then aborts it itself is told the new epoch, and goes on.
    pub fn timed_out(&self, now_ms: i64) -> Self {
        self.decided(false, WITH_EPOCH_BUMP, NO_PRODUCER_ID, now_ms)
    }

    /// The abort of a transaction whose producer is shut out by another: by a larger epoch, which nobody is ever given; or begins anew
    /// itself, with the epoch that it has as `last_epoch`: then it gets the larger one when it asks again.
    pub fn fenced(&self, last_epoch: i16, now_ms: i64) -> Self {
        Self {
            last_epoch,
            // The shut out one must not be taken for one that repeats its own abort, also not after a restart.
            client_version: 0,
            ..self.timed_out(now_ms)
        }
    }

    /// All markers are written.
    pub fn completed(&self, now_ms: i64) -> Self {
        let state = match self.state {
            State::PrepareCommit => State::CompleteCommit,
            _ => State::CompleteAbort,
        };
        let mut next = self.next(state, now_ms);
        next.partitions = Partitions::default();
        if self.client_version >= WITH_EPOCH_BUMP && self.next_producer_id != NO_PRODUCER_ID {
            (next.producer_id, next.epoch) = (self.next_producer_id, 0);
            next.next_producer_id = NO_PRODUCER_ID;
        }
        next
    }

    /// Producer id and epoch that the client goes on with after its `EndTxn`.
    pub fn for_client(&self) -> (i64, i16) {
        match self.next_producer_id {
            NO_PRODUCER_ID => (self.producer_id, self.epoch),
            next => (next, 0),
        }
    }
}

/// Whether this epoch is the last one that a client may have.
pub(super) fn is_exhausted(epoch: i16) -> bool {
    epoch >= i16::MAX - 1
}

/// One transactional id.
#[derive(Debug)]
pub(super) struct Transaction {
    /// What is committed to the log; `None` while its first record is under way.
    pub present: Option<Metadata>,
    /// What is being written.
    pub pending: Option<Metadata>,
}

impl Transaction {
    /// Something is under way that the client has to wait for.
    pub fn is_busy(&self) -> bool {
        self.pending.is_some() || self.present.as_ref().is_some_and(|m| m.state.is_prepared())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_kafkas_numbers() {
        for (id, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(State::from_id(id as i8), Some(state));
        }
        assert_eq!(State::from_id(8), None);
        assert_eq!(State::from_id(-1), None);
    }

    #[test]
    fn a_transaction_of_each_version() {
        let begun = Metadata::new(5, 1000, 10).with_partitions(&[("t".into(), 1)], 0, 20);
        assert_eq!((begun.state, begun.start_ms), (State::Ongoing, 20));
        let more = begun.with_partitions(&[("t".into(), 0), ("s".into(), 0)], 0, 30);
        assert_eq!((more.start_ms, more.updated_ms), (20, 30));
        assert_eq!(
            more.partitions.to_list(),
            [("s".into(), 0), ("t".into(), 0), ("t".into(), 1)]
        );
        let old = more.decided(true, 0, NO_PRODUCER_ID, 40);
        assert_eq!((old.state, old.epoch), (State::PrepareCommit, 0));
        assert_eq!(old.completed(50).state, State::CompleteCommit);
        assert_eq!(old.completed(50).partitions, Partitions::default());
        let new = more.decided(false, WITH_EPOCH_BUMP, NO_PRODUCER_ID, 40);
        assert_eq!((new.epoch, new.for_client()), (1, (5, 1)));
        assert_eq!(new.completed(50).state, State::CompleteAbort);
    }

    #[test]
    fn epochs_run_out() {
        let mut last = Metadata::new(5, 1000, 10);
        last.epoch = i16::MAX - 1;
        assert!(last.is_exhausted());
        let prepared = last.decided(true, WITH_EPOCH_BUMP, 9, 20);
        assert_eq!((prepared.producer_id, prepared.epoch), (5, i16::MAX));
        assert_eq!(prepared.for_client(), (9, 0));
        let done = prepared.completed(30);
        assert_eq!(
            (done.producer_id, done.epoch, done.previous_producer_id),
            (9, 0, 5)
        );
        let fenced = last.fenced(NO_EPOCH, 20);
        assert_eq!((fenced.epoch, fenced.last_epoch), (i16::MAX, NO_EPOCH));
        assert_eq!(last.timed_out(20).epoch, i16::MAX);
        assert_eq!(fenced.completed(30).epoch, i16::MAX);
    }
}
