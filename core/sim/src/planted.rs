//! Bugs that the simulator plants, to see that its checker finds them.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A sync says that it is done and does nothing.
    LyingSync,
    /// The broker is told of a sync before it has begun.
    AckBeforeSync,
    /// The end of a log is gone after a crash though it was synced.
    DropsSynced,
    /// Two answers to produce requests change places.
    AnswersSwapped,
    /// Batches of an idempotent producer are also written as a plain producer's.
    AppendsTwice,
    /// Requests of one connection overtake each other.
    RequestsReordered,
    /// A consumer keeps a record for itself.
    RecordSkipped,
    /// Offsets jump by one in the middle of a log.
    OffsetGap,
    /// A byte of a value changes on its way.
    ValueChanged,
    /// All members of a group are given the same partitions.
    TwoOwners,
    /// Commits are ahead of what was consumed.
    CommitsAhead,
    /// Compaction drops batches whose records are the newest of their keys.
    CompactsTooMuch,
    /// Transactions look aborted in one of their partitions.
    MarkerMissing,
    /// Whoever sends an EndTxn, it counts as if the newest producer of that transactional id had sent it now.
    EndTxnUnfenced,
    /// `read_committed` reads everything.
    UncommittedRead,
    /// The offsets of a transaction count before it is committed.
    OffsetsAtOnce,
    /// A member that says that it is alive counts as one that has given everything up.
    HandedOverEarly,
    /// Whoever commits, it counts as if the newest member had.
    FencedCommits,
    /// Some commits of a group are kept as a lower offset.
    CommitsBehind,
    /// The end of what share groups have written is gone after a crash.
    SharesForgotten,
    /// The lock of a shared record ends much too soon.
    AcquiredByTwo,
    /// Each delivery of a shared record looks like the first.
    DeliveriesUncounted,
    /// Nobody is told of some shared records that were acquired.
    SharesSkipped,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::LyingSync,
        Self::AckBeforeSync,
        Self::DropsSynced,
        Self::AnswersSwapped,
        Self::AppendsTwice,
        Self::RequestsReordered,
        Self::RecordSkipped,
        Self::OffsetGap,
        Self::ValueChanged,
        Self::TwoOwners,
        Self::CommitsAhead,
        Self::CompactsTooMuch,
        Self::MarkerMissing,
        Self::EndTxnUnfenced,
        Self::UncommittedRead,
        Self::OffsetsAtOnce,
        Self::HandedOverEarly,
        Self::FencedCommits,
        Self::CommitsBehind,
        Self::SharesForgotten,
        Self::AcquiredByTwo,
        Self::DeliveriesUncounted,
        Self::SharesSkipped,
    ];
}
