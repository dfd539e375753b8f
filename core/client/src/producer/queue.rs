//! A partition's records on their way: the open batch, those that are ready, those in flight.

use super::delivery::Side;
use alloc::{collections::VecDeque, vec::Vec};
use bytes::Bytes;
use ottla_protocol::Records;
use ottla_record::{
    BatchBuilder, BatchHeader, Codecs, FinishOptions, FinishedBatch, HEADER_LEN, RecordError,
    header as patched,
};

/// The batch that records are added to.
pub(super) struct OpenBatch {
    pub builder: BatchBuilder,
    pub side: Vec<Side>,
    pub bytes: usize,
    pub created_us: u64,
}

/// A batch that takes no more records.
pub(super) struct Batch {
    pub id: u64,
    pub contents: Contents,
    pub side: Vec<Side>,
    pub count: usize,
    pub bytes: usize,
    pub created_us: u64,
    pub attempts: u32,
    /// Set with the first attempt of an idempotent producer.
    pub sequence: Option<i32>,
    /// Whether an attempt of it may have been written.
    pub possibly_persisted: bool,
}

/// A batch before and after its encoding is final: sequence numbers are given when it is first sent.
pub(super) enum Contents {
    Open(BatchBuilder),
    Finished(FinishedBatch),
    /// Only between the two.
    Taken,
}

impl Batch {
    /// Makes the encoding final; nothing happens if it is.
    pub fn finish(
        &mut self,
        codecs: &mut Codecs,
        options: &FinishOptions,
    ) -> Result<(), RecordError> {
        if let Contents::Open(_) = self.contents
            && let Contents::Open(builder) = core::mem::replace(&mut self.contents, Contents::Taken)
        {
            self.contents = Contents::Finished(builder.finish_with(codecs, options)?);
        }
        Ok(())
    }

    /// The bytes to send, with this producer's fields if they have changed since the encoding.
    pub fn records(&self, producer_id: i64, producer_epoch: i16) -> Records {
        let Contents::Finished(finished) = &self.contents else {
            return Records::new();
        };
        let header = &finished.header;
        let sequence = self.sequence.unwrap_or(-1);
        let same = (
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
        ) == (producer_id, producer_epoch, sequence);
        match finished.encoded.first_chunk::<HEADER_LEN>() {
            Some(raw) if !same => {
                let raw = patched::with_producer(raw, producer_id, producer_epoch, sequence);
                [
                    Bytes::copy_from_slice(&raw),
                    finished.encoded.slice(HEADER_LEN..),
                ]
                .into_iter()
                .collect()
            }
            _ => finished.encoded.clone().into(),
        }
    }

    /// What delivery reports are read from.
    pub fn into_report(self) -> Option<(BatchHeader, Bytes, Vec<Side>)> {
        match self.contents {
            Contents::Finished(finished) => Some((finished.header, finished.plain, self.side)),
            _ => None,
        }
    }
}

/// One partition's queues.
#[derive(Default)]
pub(super) struct PartitionQueue {
    pub open: Option<OpenBatch>,
    pub ready: VecDeque<Batch>,
    pub in_flight: VecDeque<Batch>,
    pub next_sequence: i32,
    /// No batch is sent before, after an error.
    pub not_before: u64,
    /// Whether it is in the producer's list of partitions with something to do.
    pub active: bool,
    /// Room for a batch like the last one.
    pub room: usize,
}

impl PartitionQueue {
    /// Whether nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.open.is_none() && self.ready.is_empty() && self.in_flight.is_empty()
    }

    /// Ends the open batch; it is sent next.
    pub fn close_open(&mut self, next_id: &mut u64) {
        let Some(open) = self.open.take() else { return };
        self.room = open.builder.len();
        *next_id += 1;
        self.ready.push_back(Batch {
            id: *next_id,
            count: open.builder.count(),
            contents: Contents::Open(open.builder),
            side: open.side,
            bytes: open.bytes,
            created_us: open.created_us,
            attempts: 0,
            sequence: None,
            possibly_persisted: false,
        });
    }

    /// Takes a batch out of those in flight.
    pub fn take_in_flight(&mut self, id: u64) -> Option<Batch> {
        let at = self.in_flight.iter().position(|batch| batch.id == id)?;
        self.in_flight.remove(at)
    }

    /// Puts a batch back among those that are ready, in its old order.
    pub fn put_back(&mut self, batch: Batch) {
        let at = self
            .ready
            .iter()
            .position(|other| other.id > batch.id)
            .unwrap_or(self.ready.len());
        self.ready.insert(at, batch);
    }
}
