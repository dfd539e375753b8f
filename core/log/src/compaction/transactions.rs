//! What became of transactions: which batches belong to an aborted one, and which markers nobody needs any more.
//!
//! A broker on the JVM knows that from its `.txnindex` files. We read the markers themselves, which are the truth that those
//! were made from, and only in logs that have transactional batches.

use super::source::Source;
use crate::{
    damage::Ranges,
    error::LogError,
    headers::HeaderReader,
    names::damaged_at,
    storage::{OpenHow, Storage},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use ottla_record::{BatchHeader, Limits, RecordBatch, RecordError, control::EndTxnMarker};

/// What a header in the survey costs of a step's budget: the page that it lies in.
const HEADER_COST: u64 = 4096;

/// The transactions of a log, as far as compaction is concerned with them.
#[derive(Default)]
pub struct Transactions {
    /// For each producer the aborted transactions: the first offset and the marker's.
    aborted: BTreeMap<i64, Vec<(i64, i64)>>,
    /// While the log is copied: producers with a batch since their last marker.
    with_data: BTreeSet<i64>,
}

impl Transactions {
    /// Whether a batch is data of an aborted transaction.
    pub fn is_aborted(&self, header: &BatchHeader) -> bool {
        header.attributes.is_transactional()
            && self.aborted.get(&header.producer_id).is_some_and(|all| {
                let at = all.partition_point(|&(_, marker)| marker < header.base_offset);
                all.get(at)
                    .is_some_and(|&(first, _)| first <= header.base_offset)
            })
    }

    /// Notes a batch of data on its way through the copying.
    pub fn pass_data(&mut self, header: &BatchHeader) {
        if header.attributes.is_transactional() {
            self.with_data.insert(header.producer_id);
        }
    }

    /// Notes a marker on its way through the copying; returns whether no batch of its transaction is left before it, so that
    /// nobody needs it. A batch that goes in this very round still counts.
    pub fn pass_marker(&mut self, header: &BatchHeader) -> bool {
        !self.with_data.remove(&header.producer_id)
    }
}

/// Walks over the headers from the first batch that is not clean yet, and beyond those that are to be cleaned until no
/// transaction that began among them is open.
pub struct Survey {
    sources: Vec<Source>,
    source: usize,
    position: u64,
    /// Transactions that began below this offset are of interest.
    end: i64,
    /// All from here on may still change.
    up_to: i64,
    open: BTreeMap<i64, i64>,
    found: Transactions,
}

impl Survey {
    pub fn new(sources: Vec<Source>, end: i64, up_to: i64) -> Self {
        Self {
            sources,
            source: 0,
            position: 0,
            end,
            up_to,
            open: BTreeMap::new(),
            found: Transactions::default(),
        }
    }

    /// Goes on for about `budget` bytes. When it is done: the transactions, and up to which offset all are decided.
    pub fn step(
        &mut self,
        storage: &dyn Storage,
        budget: u64,
    ) -> Result<Option<(Transactions, i64)>, LogError> {
        let mut left = budget / HEADER_COST + 1;
        let damaged = Ranges::default();
        while let Some(source) = self.sources.get(self.source) {
            let file = storage.open(&source.path, OpenHow::ReadOnly)?;
            let mut headers = HeaderReader::new(file.as_ref(), &source.path, source.size, &damaged);
            while left > 0 {
                let Some(placed) = headers.at(self.position)? else {
                    break;
                };
                let header = &placed.header;
                let undecided = self.open.values().any(|&first| first < self.end);
                if header.last_offset() >= self.up_to
                    || header.base_offset >= self.end && !undecided
                {
                    return Ok(Some(self.finish()));
                }
                if header.attributes.is_transactional() && header.attributes.is_control() {
                    let bytes = file.read_exact(placed.position, header.size_in_bytes())?;
                    let marker = RecordBatch::parse(bytes)
                        .and_then(|batch| marker_of(&batch))
                        .map_err(|error| damaged_at(&source.path, placed.position, error))?;
                    if let Some(marker) = marker
                        && let Some(first) = self.open.remove(&header.producer_id)
                        && !marker.committed
                    {
                        let aborted = self.found.aborted.entry(header.producer_id);
                        aborted.or_default().push((first, header.base_offset));
                    }
                } else if header.attributes.is_transactional() {
                    let open = self.open.entry(header.producer_id);
                    open.or_insert(header.base_offset);
                }
                self.position = placed.end();
                left -= 1;
            }
            if left == 0 {
                return Ok(None);
            }
            self.source += 1;
            self.position = 0;
        }
        Ok(Some(self.finish()))
    }

    fn finish(&mut self) -> (Transactions, i64) {
        let undecided = self.open.values().copied().min().unwrap_or(i64::MAX);
        (core::mem::take(&mut self.found), undecided.min(self.end))
    }
}

/// The marker in a control batch; `None` if it is another kind of one, or compaction has emptied it.
pub fn marker_of(batch: &RecordBatch) -> Result<Option<EndTxnMarker>, RecordError> {
    batch.check_crc()?;
    let mut records = batch.records(Limits::default())?;
    match records.next_record() {
        None => Ok(None),
        Some(record) => {
            let record = record?;
            EndTxnMarker::parse(
                record.key.unwrap_or_default(),
                record.value.unwrap_or_default(),
            )
        }
    }
}
