//! Aborted transactions of a partition: Kafka's `.txnindex` files, and finding them again in the log.
//!
//! A segment's `.txnindex` has a row of 34 bytes for each aborted transaction whose marker lies in it: i16 version 0, i64 producer
//! id, i64 first offset, i64 last offset (the marker's), i64 last stable offset behind the marker. Last offsets rise.

use crate::{
    error::LogError,
    names::{TXN_INDEX, file_name, offset_of},
    partition_log::{Appended, PartitionLog},
    storage::{DirEntry, StorageError, StorageErrorKind, join, read_file},
};
use alloc::vec::Vec;
use ottla_record::{BatchHeader, Limits, Now, RecordBatch, control::EndTxnMarker};

const ROW: usize = 34;
/// More than an index has, `segment.bytes` being an i32 and a marker's batch having 78 bytes.
const LIMIT: u64 = 1 << 30;

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: i64,
    /// The offset of its first record in this partition.
    pub first_offset: i64,
    /// The offset of its marker.
    pub last_offset: i64,
    /// Below this offset every transaction had ended when its marker was written.
    pub last_stable_offset: i64,
}

/// A control batch, and what it did if it was an abort.
pub(crate) struct Ended {
    pub(crate) position: u64,
    pub(crate) transaction: AbortedTransaction,
}

/// The rows of a file; `None` if it is damaged.
fn parse(bytes: &[u8]) -> Option<Vec<AbortedTransaction>> {
    if !bytes.len().is_multiple_of(ROW) {
        return None;
    }
    let mut rows: Vec<AbortedTransaction> = Vec::with_capacity(bytes.len() / ROW);
    for row in bytes.chunks_exact(ROW) {
        let number = |at: usize| Some(i64::from_be_bytes(*row.get(at..)?.first_chunk()?));
        let parsed = AbortedTransaction {
            producer_id: number(2)?,
            first_offset: number(10)?,
            last_offset: number(18)?,
            last_stable_offset: number(26)?,
        };
        let rises = rows
            .last()
            .is_none_or(|last| last.last_offset < parsed.last_offset);
        if row[..2] != [0, 0] || !rises || parsed.first_offset > parsed.last_offset {
            return None;
        }
        rows.push(parsed);
    }
    Some(rows)
}

fn to_bytes(rows: &[AbortedTransaction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * ROW);
    for row in rows {
        bytes.extend_from_slice(&[0, 0]);
        for number in [
            row.producer_id,
            row.first_offset,
            row.last_offset,
            row.last_stable_offset,
        ] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
    }
    bytes
}

/// The marker in a control batch, if it is one that can be read.
pub(crate) fn marker_of(batch: &RecordBatch) -> Option<EndTxnMarker> {
    let mut records = batch.records(Limits::default()).ok()?;
    let record = records.next_record()?.ok()?;
    EndTxnMarker::parse(record.key?, record.value?).ok()?
}

impl PartitionLog {
    /// The first offset of the oldest transaction that nobody has ended, if there is one.
    pub fn first_undecided_offset(&self) -> Option<i64> {
        self.producers.first_undecided_offset()
    }

    /// The aborted transactions that have records from `from` on and below `up_to`.
    pub fn aborted_transactions(
        &self,
        from: i64,
        up_to: i64,
    ) -> impl Iterator<Item = &AbortedTransaction> {
        let first = self.aborted.partition_point(|row| row.last_offset < from);
        let mut done = false;
        self.aborted[first..]
            .iter()
            .take_while(move |row| {
                // Behind this one all transactions begin where nobody reads.
                !core::mem::replace(&mut done, row.last_stable_offset >= up_to)
            })
            .filter(move |row| row.first_offset < up_to)
    }

    /// Appends the marker that ends `producer_id`'s transaction; the caller has checked it
    /// ([`crate::ProducerState::check_marker`]). A producer without a transaction here gets the marker's epoch, no more than that.
    /// A failed write stops the log for good.
    pub fn append_marker(
        &mut self,
        marker: EndTxnMarker,
        producer_id: i64,
        producer_epoch: i16,
        leader_epoch: i32,
        now: Now,
    ) -> Result<Appended, LogError> {
        let refused = |error| LogError::Corrupt {
            place: "a marker to be appended".into(),
            error,
        };
        let end = self.log_end_offset;
        let batch = marker
            .to_batch(producer_id, producer_epoch, now.wall_ms, end, leader_epoch)
            .map_err(refused)?;
        let mut header = BatchHeader::parse(&batch).map_err(refused)?;
        header.base_offset = end;
        let ended = self.producers.ended_by(&header);
        let appended = self.append(batch, &header, leader_epoch, now)?;
        self.producers
            .note_coordinator(producer_id, marker.coordinator_epoch);
        if !marker.committed
            && let Some(transaction) = ended
        {
            self.aborted.push(transaction);
        }
        Ok(appended)
    }

    /// Writes the index of the segment that begins at `base`, the last one, if a transaction was aborted in it.
    pub(crate) fn write_last_txn_index(&mut self, base: i64) -> Result<(), StorageError> {
        let from = self.aborted.partition_point(|row| row.last_offset < base);
        if from == self.aborted.len() {
            return Ok(());
        }
        let rows = to_bytes(&self.aborted[from..]);
        self.write_side_file(&file_name(base, TXN_INDEX), &rows)
    }

    /// Reads the transaction indexes. Returns where they can't be trusted any more: at `checked_from`, or at the first segment
    /// whose index is damaged.
    pub(crate) fn load_aborted(
        &mut self,
        entries: &[DirEntry],
        checked_from: i64,
    ) -> Result<i64, LogError> {
        let mut aborted: Vec<AbortedTransaction> = Vec::new();
        let mut trusted_to = checked_from;
        for entry in entries {
            let Some(base) = offset_of(&entry.name, TXN_INDEX) else {
                continue;
            };
            if base >= trusted_to {
                break;
            }
            let path = join(&self.dir, &entry.name);
            let bytes = read_file(self.storage.as_ref(), &path, LIMIT)?.unwrap_or_default();
            let last = aborted.last().map_or(-1, |row| row.last_offset);
            match parse(&bytes) {
                Some(rows) if rows.first().is_none_or(|row| row.last_offset > last) => {
                    aborted.extend(rows)
                }
                _ => trusted_to = base,
            }
        }
        self.aborted = aborted;
        Ok(trusted_to)
    }

    /// Takes in what a walk over segment `i` found: of the control batches those that are aborts, as its index from now on.
    pub(crate) fn index_aborted(&mut self, i: usize, ended: Vec<Ended>) -> Result<(), LogError> {
        let storage = self.storage.clone();
        let segment = &mut self.segments[i];
        let mut rows = Vec::new();
        for Ended {
            position,
            transaction,
        } in ended
        {
            let batch = segment.batch_at(storage.as_ref(), position)?;
            if marker_of(&batch).is_some_and(|marker| !marker.committed) {
                rows.push(transaction);
            }
        }
        let base = segment.base_offset();
        self.aborted.extend(rows.iter().copied());
        self.write_txn_index(base, &rows)
    }

    /// Forgets the transactions whose markers are cut off, in segment `i`, the last one, and behind it.
    pub(crate) fn truncate_aborted(&mut self, i: usize) -> Result<(), LogError> {
        let (base, end) = (self.segments[i].base_offset(), self.log_end_offset);
        let before = self.aborted.len();
        self.aborted.retain(|row| row.last_offset < end);
        if self.aborted.len() == before {
            return Ok(());
        }
        let from = self.aborted.partition_point(|row| row.last_offset < base);
        let rows = self.aborted[from..].to_vec();
        self.write_txn_index(base, &rows)
    }

    fn write_txn_index(&mut self, base: i64, rows: &[AbortedTransaction]) -> Result<(), LogError> {
        let name = file_name(base, TXN_INDEX);
        if !rows.is_empty() {
            return Ok(self.write_side_file(&name, &to_bytes(rows))?);
        }
        match self.storage.remove_file(&join(&self.dir, &name)) {
            Err(error) if error.kind != StorageErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogConfig, MemoryStorage, OpenOptions, storage::write_file};
    use alloc::sync::Arc;
    use bytes::Bytes;
    use ottla_record::{BatchBuilder, BatchHeader, FinishOptions, Now};

    const NOW: Now = Now::new(0, 1_000);

    /// Appends records of a transaction, as a JVM Kafka would.
    fn append(log: &mut PartitionLog, producer_id: i64, records: usize) {
        let mut builder = BatchBuilder::new(256);
        for _ in 0..records {
            builder
                .append(1_000, Some(b"key"), Some(&[b'v'; 40]), &[])
                .unwrap();
        }
        let options = FinishOptions {
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            transactional: true,
            ..FinishOptions::default()
        };
        let bytes = builder.finish(&options).unwrap().encoded;
        put(log, bytes);
    }

    fn end(log: &mut PartitionLog, producer_id: i64, committed: bool) {
        let marker = EndTxnMarker {
            committed,
            coordinator_epoch: 3,
        };
        log.append_marker(marker, producer_id, 0, 0, NOW).unwrap();
    }

    fn put(log: &mut PartitionLog, bytes: Bytes) {
        let header = BatchHeader::parse(&bytes).unwrap();
        log.append(bytes, &header, 0, NOW).unwrap();
    }

    fn open(storage: &Arc<MemoryStorage>, clean: bool) -> PartitionLog {
        let options = OpenOptions {
            clean,
            ..OpenOptions::default()
        };
        PartitionLog::open(storage.clone(), "t-0", config(), NOW, options)
            .unwrap()
            .0
    }

    fn config() -> LogConfig {
        LogConfig {
            segment_bytes: 500,
            ..LogConfig::default()
        }
    }

    fn found(log: &PartitionLog, from: i64, up_to: i64) -> Vec<(i64, i64)> {
        log.aborted_transactions(from, up_to)
            .map(|row| (row.producer_id, row.first_offset))
            .collect()
    }

    /// Overlapping transactions over several segments: 1 is aborted, 2 committed, 3 aborted, 4 is open.
    fn written() -> (Arc<MemoryStorage>, PartitionLog) {
        let storage = Arc::new(MemoryStorage::new());
        let mut log = PartitionLog::create(storage.clone(), "t-0", config(), NOW).unwrap();
        append(&mut log, 1, 3); // 0..3
        append(&mut log, 2, 3); // 3..6
        append(&mut log, 1, 3); // 6..9
        end(&mut log, 1, false); // 9
        append(&mut log, 3, 3); // 10..13
        end(&mut log, 2, true); // 13
        append(&mut log, 4, 1); // 14
        end(&mut log, 3, false); // 15
        assert!(log.segment_count() > 2);
        (storage, log)
    }

    #[test]
    fn an_open_transaction_holds_the_stable_end() {
        let (storage, mut log) = written();
        assert_eq!(log.first_undecided_offset(), Some(14));
        log.close().unwrap();
        assert_eq!(open(&storage, true).first_undecided_offset(), Some(14));
        assert_eq!(open(&storage, false).first_undecided_offset(), Some(14));
        let mut log = open(&storage, true);
        end(&mut log, 4, true);
        assert_eq!(log.first_undecided_offset(), None);
    }

    #[test]
    fn indexes_are_made_again_after_an_unclean_stop() {
        let (storage, _log) = written();
        let log = open(&storage, false);
        assert_eq!(found(&log, 0, 16), [(1, 0), (3, 10)]);
        assert_eq!(found(&log, 10, 16), [(3, 10)]);
        assert_eq!(found(&log, 0, 10), [(1, 0)]);
        assert_eq!(found(&log, 16, 99), []);
        let mut log = log;
        log.close().unwrap();
        // What is on storage now is what a clean start trusts.
        let log = open(&storage, true);
        assert_eq!(found(&log, 0, 16), [(1, 0), (3, 10)]);
        assert_eq!(log.aborted[0].last_stable_offset, 3, "2 was still open");
        let files: Vec<_> = storage_files(&storage);
        assert_eq!(files.len(), 2, "{files:?}");
    }

    #[test]
    fn what_was_appended_here_is_as_if_it_was_read_back() {
        for clean in [true, false] {
            let (storage, mut log) = written();
            let before = (log.aborted.clone(), log.producers.clone());
            assert_eq!(found(&log, 0, 16), [(1, 0), (3, 10)]);
            assert_eq!(log.producers.get(2).unwrap().coordinator_epoch, 3);
            if clean {
                log.close().unwrap();
            } else if let Some(job) = log.sync_targets().unwrap() {
                // As after a crash behind the last sync, which covers all.
                job.run().unwrap();
                log.mark_synced(job.up_to);
            }
            drop(log);
            let log = open(&storage, clean);
            assert_eq!((log.aborted.clone(), log.producers.clone()), before);
        }
    }

    #[test]
    fn a_damaged_index_is_made_again_from_the_log() {
        let (storage, _log) = written();
        open(&storage, false).close().unwrap();
        for name in storage_files(&storage) {
            let path = join("t-0", &name);
            let whole = read_file(storage.as_ref(), &path, LIMIT).unwrap().unwrap();
            for damaged in [
                &whole[..33],
                &[1; 34][..],
                &[&whole[..], &whole[..]].concat(),
            ] {
                write_file(storage.as_ref(), &path, damaged).unwrap();
                let log = open(&storage, true);
                assert_eq!(found(&log, 0, 16), [(1, 0), (3, 10)], "{name}");
                let again = read_file(storage.as_ref(), &path, LIMIT).unwrap().unwrap();
                assert_eq!(again, whole);
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_deleted_is_forgotten() {
        let (storage, _log) = written();
        let mut log = open(&storage, false);
        log.truncate_to(15, NOW).unwrap();
        assert_eq!(found(&log, 0, 99), [(1, 0)]);
        assert_eq!(log.first_undecided_offset(), Some(10), "3 is open again");
        log.close().unwrap();
        assert_eq!(found(&open(&storage, true), 0, 99), [(1, 0)]);
        let mut log = open(&storage, true);
        log.advance_start(10).unwrap();
        assert_eq!(found(&log, 0, 99), []);
    }

    fn storage_files(storage: &Arc<MemoryStorage>) -> Vec<alloc::string::String> {
        use crate::Storage;
        let entries = storage.list("t-0").unwrap().into_iter();
        entries
            .map(|entry| entry.name)
            .filter(|name| name.ends_with(TXN_INDEX))
            .collect()
    }
}
