//! The records of one partition out of one fetch response, and the iterator that hands them to the application.
//!
//! The machine only looks at batch headers ([`Chunk::read`]): it drops what the application must not see and learns
//! where to fetch next. Decompression, checksums and record decoding happen in [`Fetched::next_record`], in the
//! application's thread and outside of the machine's lock.

use crate::consumer::ConsumedPartition;
use crate::error::{ErrCode, KafkaError};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::{self, Vec};
use bytes::Bytes;
use ottla_protocol::Records;
use ottla_record::control::EndTxnMarker;
use ottla_record::{
    Batches, Codecs, Headers, Limits, RecordBatch, RecordError, RecordIter,
    TimestampType as BatchTimestampType,
};

/// A transaction that was aborted, as a fetch response names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortedTransaction {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
}

/// What a response holds for one partition, from the fetch position on.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    /// What the application is to see, in order.
    pub(crate) batches: Vec<Result<RecordBatch, BadBatch>>,
    /// Records in `batches`, by their headers.
    pub(crate) records: usize,
    /// Their size on the wire.
    pub(crate) bytes: usize,
    /// Where to fetch next.
    pub(crate) next_offset: i64,
    /// There were bytes, but not one whole batch: the batch is larger than the fetch may be.
    pub(crate) cut_short: bool,
}

/// A stretch of the log that can't be read.
#[derive(Clone, Debug)]
pub struct BadBatch {
    /// The offset of the first record in it.
    pub offset: i64,
    /// What is wrong with it.
    pub reason: RecordError,
}

impl Chunk {
    /// Reads the batch headers of `records`. `aborted` is given when only committed records may be seen.
    pub(crate) fn read(records: Records, from: i64, mut aborted: Vec<AbortedTransaction>) -> Self {
        let mut chunk = Self {
            next_offset: from,
            ..Self::default()
        };
        let any_bytes = !records.is_empty();
        let mut any_batch = false;
        aborted.sort_by_key(|t| core::cmp::Reverse(t.first_offset));
        let mut aborted_producers: BTreeSet<i64> = BTreeSet::new();
        for batch in Batches::new(records.into_chunks()) {
            any_batch = true;
            let batch = match batch {
                Ok(batch) => batch,
                Err(reason) => {
                    // Where a header can't be trusted, nothing behind it can be found.
                    chunk.batches.push(Err(BadBatch {
                        offset: chunk.next_offset,
                        reason,
                    }));
                    chunk.next_offset += 1;
                    break;
                }
            };
            let header = *batch.header();
            let last_offset = header.last_offset();
            while aborted
                .last()
                .is_some_and(|t| t.first_offset <= last_offset)
            {
                aborted_producers.extend(aborted.pop().map(|t| t.producer_id));
            }
            if last_offset < from {
                continue;
            }
            chunk.next_offset = chunk.next_offset.max(last_offset + 1);
            if header.attributes.is_control() {
                if is_abort(&batch) {
                    aborted_producers.remove(&header.producer_id);
                }
                continue;
            }
            if header.attributes.is_transactional()
                && aborted_producers.contains(&header.producer_id)
            {
                continue;
            }
            if header.record_count > 0 {
                chunk.records += header.record_count as usize;
                chunk.bytes += batch.size_in_bytes();
                chunk.batches.push(Ok(batch));
            }
        }
        chunk.cut_short = any_bytes && !any_batch;
        chunk
    }
}

/// Whether a control batch ends a transaction of its producer with an abort.
fn is_abort(batch: &RecordBatch) -> bool {
    let Ok(mut records) = batch.records(Limits::default()) else {
        return false;
    };
    let Some(Ok(record)) = records.next_record() else {
        return false;
    };
    let marker = EndTxnMarker::parse(
        record.key.unwrap_or_default(),
        record.value.unwrap_or_default(),
    );
    matches!(marker, Ok(Some(marker)) if !marker.committed)
}

/// One record, borrowed from the fetched bytes.
#[derive(Debug)]
pub struct ConsumedRecord<'a> {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since the epoch; -1 if the producer gave none.
    pub timestamp: i64,
    /// Who gave the timestamp.
    pub timestamp_type: TimestampType,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; a record without one is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, decoded as they are read.
    pub headers: Headers<'a>,
    /// The epoch of the leader that appended it; -1 if unknown.
    pub leader_epoch: i32,
    /// The bytes that key, value and headers lie in: the batch's decompressed records.
    pub buffer: &'a Bytes,
}

impl ConsumedRecord<'_> {
    /// The key as a share of the fetched bytes.
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.key.map(|key| self.buffer.slice_ref(key))
    }

    /// The value as a share of the fetched bytes.
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value.map(|value| self.buffer.slice_ref(value))
    }

    /// Where `part` (the key, the value or a header's) starts in [`Self::buffer`].
    pub fn offset_in_buffer(&self, part: &[u8]) -> usize {
        part.as_ptr()
            .addr()
            .wrapping_sub(self.buffer.as_ptr().addr())
    }
}

/// Who gave a record its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// Nobody: there is none.
    NotAvailable = 0,
    /// The producer.
    CreateTime = 1,
    /// The broker, when it appended the record.
    LogAppendTime = 2,
}

/// An error in place of a batch's (remaining) records: `_BAD_MSG` or `_BAD_COMPRESSION`.
#[derive(Clone, Debug)]
pub struct ConsumeError {
    /// The first offset that can't be read.
    pub offset: i64,
    /// What is wrong.
    pub error: KafkaError,
}

/// How [`Fetched`] reads, from the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadOptions {
    /// `check.crcs`.
    pub(crate) check_crcs: bool,
}

/// The records of one partition out of one fetch response.
///
/// Independent of the machine: it shares the bytes and the [`ConsumedPartition`]. It ends at once, without the
/// remaining records, when a seek, pause or unassign outdates it.
#[derive(Debug)]
pub struct Fetched {
    partition: Arc<ConsumedPartition>,
    version: u32,
    from: i64,
    options: ReadOptions,
    records: usize,
    bytes: usize,
    batches: vec::IntoIter<Result<RecordBatch, BadBatch>>,
    open: Option<OpenBatch>,
    /// State of the decompression, kept from batch to batch.
    codecs: Codecs,
}

#[derive(Debug)]
struct OpenBatch {
    records: RecordIter,
    /// What the records lie in; a record can't be lent together with its iterator.
    buffer: Bytes,
    next_offset: i64,
    leader_epoch: i32,
    timestamp_type: TimestampType,
}

impl Fetched {
    pub(crate) fn new(
        partition: Arc<ConsumedPartition>,
        from: i64,
        chunk: Chunk,
        options: ReadOptions,
    ) -> Self {
        Self {
            version: partition.version(),
            partition,
            from,
            options,
            records: chunk.records,
            bytes: chunk.bytes,
            batches: chunk.batches.into_iter(),
            open: None,
            codecs: Codecs::new(),
        }
    }

    /// The records from offset `from` on in `records`, outside of any consumer: for tests and measurements.
    pub fn from_records(
        topic: &str,
        partition: i32,
        records: Records,
        from: i64,
        check_crcs: bool,
    ) -> Self {
        let partition = Arc::new(ConsumedPartition::new(topic.into(), partition, true));
        Self::new(
            partition,
            from,
            Chunk::read(records, from, Vec::new()),
            ReadOptions { check_crcs },
        )
    }

    /// The partition that the records come from.
    pub fn partition(&self) -> &Arc<ConsumedPartition> {
        &self.partition
    }

    /// How many records it held at first, by the batches' headers: an upper bound of what is handed out.
    pub fn record_count(&self) -> usize {
        self.records
    }

    /// The size of its batches as they were fetched.
    pub fn size_in_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a seek, pause or unassign has made the remaining records useless.
    pub fn is_outdated(&self) -> bool {
        self.version != self.partition.version()
    }

    /// The next record. It moves the application's position, and with `enable.auto.offset.store` the offset to be
    /// committed, behind that record.
    ///
    /// An error stands for the rest of one batch; the next call goes on behind it.
    #[inline]
    pub fn next_record(&mut self) -> Option<Result<ConsumedRecord<'_>, ConsumeError>> {
        if self.is_outdated() {
            return None;
        }
        while self
            .open
            .as_ref()
            .is_none_or(|open| open.records.remaining() == 0)
        {
            if let Err(error) = self.open_next_batch()? {
                return Some(Err(error));
            }
        }
        let open = self.open.as_mut()?;
        match open.records.next_record() {
            Some(Ok(record)) => {
                open.next_offset = record.offset + 1;
                self.partition.hand_out(record.offset);
                Some(Ok(ConsumedRecord {
                    offset: record.offset,
                    timestamp: record.timestamp,
                    timestamp_type: match record.timestamp {
                        -1 => TimestampType::NotAvailable,
                        _ => open.timestamp_type,
                    },
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                    leader_epoch: open.leader_epoch,
                    buffer: &open.buffer,
                }))
            }
            // After an error the batch has nothing more to give.
            Some(Err(reason)) => Some(Err(unreadable(
                &self.partition,
                BadBatch {
                    offset: open.next_offset,
                    reason,
                },
            ))),
            None => None,
        }
    }

    /// Opens the next batch and passes over its records below the fetch position.
    #[cold]
    fn open_next_batch(&mut self) -> Option<Result<(), ConsumeError>> {
        self.open = None;
        let codecs = &mut self.codecs;
        let opened = self.batches.next()?.and_then(|batch| {
            let header = batch.header();
            let offset = header.base_offset.max(self.from);
            let bad = |reason| BadBatch { offset, reason };
            if self.options.check_crcs {
                batch.check_crc().map_err(bad)?;
            }
            let records = batch.records_with(codecs, Limits::default()).map_err(bad)?;
            let mut open = OpenBatch {
                buffer: records.area().clone(),
                records,
                next_offset: offset,
                leader_epoch: header.partition_leader_epoch,
                timestamp_type: match header.attributes.timestamp_type() {
                    BatchTimestampType::LogAppendTime => TimestampType::LogAppendTime,
                    BatchTimestampType::CreateTime => TimestampType::CreateTime,
                },
            };
            if header.base_offset < self.from {
                open.skip_below(self.from).map_err(bad)?;
            }
            Ok(open)
        });
        match opened {
            Ok(open) => {
                self.partition.enter_batch(open.leader_epoch);
                self.open = Some(open);
                Some(Ok(()))
            }
            Err(bad) => Some(Err(unreadable(&self.partition, bad))),
        }
    }
}

impl OpenBatch {
    /// Leaves the first record at or above `from` as the next one.
    fn skip_below(&mut self, from: i64) -> Result<(), RecordError> {
        let mut ahead = self.records.clone();
        while let Some(record) = ahead.next_record() {
            if record?.offset >= from {
                break;
            }
            self.records = ahead.clone();
        }
        Ok(())
    }
}

#[cold]
fn unreadable(partition: &ConsumedPartition, bad: BadBatch) -> ConsumeError {
    let code = match bad.reason {
        RecordError::CorruptCompression(..)
        | RecordError::UnknownCompression(_)
        | RecordError::CompressionNotBuilt(_)
        | RecordError::DecompressedTooLarge { .. } => ErrCode::BAD_COMPRESSION,
        _ => ErrCode::BAD_MSG,
    };
    let place = format!(
        "{} [{}] at offset {}",
        partition.topic(),
        partition.partition(),
        bad.offset
    );
    ConsumeError {
        offset: bad.offset,
        error: KafkaError::new(code, format!("{place}: {}", bad.reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_record::{BatchBuilder, Compression, FinishOptions, Header};
    use std::string::String;
    use std::vec;

    /// Records `v5`, `v6`, … from `base` on.
    fn batch(base: i64, count: i64, options: FinishOptions) -> Bytes {
        let mut builder = BatchBuilder::new(1024);
        for i in 0..count {
            let value = format!("v{}", base + i);
            let headers = [Header::new("h", Some(b"x"))];
            builder
                .append(1_000 + i, Some(b"key"), Some(value.as_bytes()), &headers)
                .unwrap();
        }
        builder
            .finish(&FinishOptions {
                base_offset: base,
                leader_epoch: 3,
                ..options
            })
            .unwrap()
            .encoded
    }

    fn fetched(
        records: Records,
        from: i64,
        aborted: &[AbortedTransaction],
        check_crcs: bool,
    ) -> Fetched {
        let partition = Arc::new(ConsumedPartition::new("t".into(), 0, true));
        let chunk = Chunk::read(records, from, aborted.to_vec());
        Fetched::new(partition, from, chunk, ReadOptions { check_crcs })
    }

    /// All offsets; a minus for each error.
    fn offsets(fetched: &mut Fetched) -> String {
        let mut text = String::new();
        while let Some(record) = fetched.next_record() {
            match record {
                Ok(record) => text += &format!("{} ", record.offset),
                Err(bad) => text += &format!("-{} ", bad.offset),
            }
        }
        text
    }

    #[test]
    fn lends_records_from_the_position_on() {
        let all = [
            batch(5, 3, FinishOptions::default()),
            batch(8, 2, FinishOptions::default()),
        ];
        let mut fetched = fetched(all.into_iter().collect(), 6, &[], true);
        assert_eq!(fetched.record_count(), 5);
        let record = fetched.next_record().unwrap().unwrap();
        assert_eq!(
            (record.offset, record.timestamp, record.leader_epoch),
            (6, 1_001, 3)
        );
        assert_eq!(
            (record.key, record.value),
            (Some(&b"key"[..]), Some(&b"v6"[..]))
        );
        assert_eq!(record.timestamp_type, TimestampType::CreateTime);
        assert_eq!(record.value_bytes().unwrap(), "v6");
        let at = record.offset_in_buffer(record.value.unwrap());
        assert_eq!(&record.buffer[at..at + 2], b"v6");
        assert_eq!(record.headers.clone().next().unwrap().key, b"h");
        let partition = fetched.partition().clone();
        assert_eq!(
            (
                partition.position(),
                partition.stored_offset(),
                partition.stored_epoch()
            ),
            (7, 7, 3)
        );
        assert_eq!(offsets(&mut fetched), "7 8 9 ");
        assert_eq!(partition.position(), 10);
    }

    #[test]
    fn every_compression_and_every_cut() {
        for compression in Compression::ALL {
            let options = FinishOptions {
                compression,
                ..Default::default()
            };
            let (first, second) = (batch(0, 50, options), batch(50, 50, options));
            let whole = [&first[..], &second[..]].concat();
            for cut in [1, 61, 62, first.len(), first.len() + 61] {
                let chunks = [
                    Bytes::copy_from_slice(&whole[..cut]),
                    Bytes::copy_from_slice(&whole[cut..]),
                ];
                let mut fetched = fetched(chunks.into_iter().collect(), 0, &[], true);
                assert_eq!(offsets(&mut fetched).split_whitespace().count(), 100);
            }
        }
    }

    #[test]
    fn a_damaged_batch_is_an_error_and_the_next_one_goes_on() {
        let mut damaged = batch(3, 2, FinishOptions::default()).to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let all = [
            batch(0, 3, FinishOptions::default()),
            damaged.into(),
            batch(5, 1, FinishOptions::default()),
        ];
        let mut checked = fetched(all.iter().cloned().collect(), 0, &[], true);
        assert_eq!(offsets(&mut checked), "0 1 2 -3 5 ");
        let mut unchecked = fetched(all.into_iter().collect(), 0, &[], false);
        assert_eq!(offsets(&mut unchecked), "0 1 2 3 4 5 ");
    }

    #[test]
    fn a_partial_batch_at_the_end_is_left_for_the_next_fetch() {
        let (first, second) = (
            batch(0, 3, FinishOptions::default()),
            batch(3, 3, FinishOptions::default()),
        );
        let all = [first, second.slice(..second.len() - 1)];
        let chunk = Chunk::read(all.into_iter().collect(), 0, vec![]);
        assert_eq!(
            (chunk.next_offset, chunk.records, chunk.cut_short),
            (3, 3, false)
        );
        let chunk = Chunk::read(second.slice(..second.len() - 1).into(), 3, vec![]);
        assert_eq!((chunk.next_offset, chunk.cut_short), (3, true));
    }

    #[test]
    fn control_batches_and_aborted_transactions_are_not_seen() {
        let of = |producer_id| FinishOptions {
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            transactional: true,
            ..Default::default()
        };
        let marker = |offset, producer_id, committed| {
            let marker = EndTxnMarker {
                committed,
                coordinator_epoch: 0,
            };
            marker.to_batch(producer_id, 0, 1, offset, 3).unwrap()
        };
        let all = [
            batch(0, 2, of(1)),
            batch(2, 2, of(2)),
            marker(4, 1, false),
            batch(5, 1, of(1)),
            marker(6, 2, true),
            marker(7, 1, true),
        ];
        let aborted = [AbortedTransaction {
            producer_id: 1,
            first_offset: 0,
        }];
        let mut committed = fetched(all.iter().cloned().collect(), 0, &aborted, true);
        assert_eq!(offsets(&mut committed), "2 3 5 ");
        let chunk = Chunk::read(all.into_iter().collect(), 0, vec![]);
        assert_eq!((chunk.next_offset, chunk.records), (8, 5));
    }

    #[test]
    fn an_outdated_chunk_ends() {
        let mut fetched = fetched(batch(0, 3, FinishOptions::default()).into(), 0, &[], false);
        assert!(fetched.next_record().is_some());
        fetched.partition().outdate();
        assert!(fetched.next_record().is_none());
    }

    #[test]
    fn a_chunk_can_be_read_by_another_thread() {
        fn can_be_sent<T: Send>() {}
        can_be_sent::<Fetched>();
    }
}
