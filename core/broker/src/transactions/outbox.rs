//! What the flows put out: answers, and writes with what follows from their commit.

use alloc::collections::{BTreeMap, VecDeque};
use ottla_protocol::{Response, Str};

use super::{Decision, TransactionConfig, TransactionOutput, TransactionToken};
use crate::{
    context::ReplyTo,
    groups::{CoordinatorRecord, partition_of},
};

/// What to do once a write is committed, or has failed.
#[derive(Debug)]
pub(super) enum Then {
    /// Answer the `InitProducerId`.
    Init { reply: ReplyTo },
    /// One transactional id of an `AddPartitionsToTxn` is done.
    Add { request: u64 },
    /// Answer the `AddOffsetsToTxn`.
    AddOffsets { reply: ReplyTo },
    /// Records that wait for their partition to be in the transaction look again.
    AddImplicitly,
    /// Answer whoever wanted the decision, and write the markers.
    Decide { answer: DecisionAnswer },
    /// Nothing more: the transaction is over.
    Complete,
    /// Forget the transactional id.
    Forget,
}

/// Who asked for a decision.
#[derive(Clone, Copy, Debug)]
pub(super) enum DecisionAnswer {
    /// An `EndTxn`.
    EndTxn(ReplyTo),
    /// An `InitProducerId`, which has to come again when the transaction of the producer before it is over.
    InitProducerId(ReplyTo),
    /// The transaction took too long.
    Nobody,
}

/// A write under way.
#[derive(Debug)]
pub(super) struct Write {
    pub id: Str,
    pub then: Then,
}

/// Outputs in order, and the writes under way.
#[derive(Debug)]
pub(super) struct Outbox {
    pub config: TransactionConfig,
    outputs: VecDeque<TransactionOutput>,
    writes: BTreeMap<u64, Write>,
    next_token: u64,
}

impl Outbox {
    pub fn new(config: TransactionConfig) -> Self {
        Self {
            config,
            outputs: VecDeque::new(),
            writes: BTreeMap::new(),
            next_token: 0,
        }
    }

    pub fn respond(&mut self, to: ReplyTo, response: Response) {
        self.outputs
            .push_back(TransactionOutput::Respond { to, response });
    }

    pub fn write(&mut self, id: Str, record: CoordinatorRecord, then: Then) {
        let token = self.next_token;
        self.next_token += 1;
        let partition = partition_of(&id, self.config.partitions);
        self.writes.insert(token, Write { id, then });
        self.outputs.push_back(TransactionOutput::Append {
            partition,
            record,
            token: TransactionToken(token),
        });
    }

    pub fn write_markers(&mut self, decision: Decision) {
        self.outputs
            .push_back(TransactionOutput::WriteMarkers(decision));
    }

    pub fn moved(&mut self, id: Str) {
        self.outputs.push_back(TransactionOutput::Moved(id));
    }

    pub fn not_written(&mut self, id: Str) {
        self.outputs.push_back(TransactionOutput::NotWritten(id));
    }

    pub fn take_write(&mut self, token: TransactionToken) -> Option<Write> {
        self.writes.remove(&token.0)
    }

    pub fn next_output(&mut self) -> Option<TransactionOutput> {
        self.outputs.pop_front()
    }
}
