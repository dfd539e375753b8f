//! What a partition knows of its idempotent producers (KIP-98): their last batches, so that a repeated one is recognised and
//! a gap refused; and its snapshot file.

use crate::compaction::LastBatch;
use crate::transactions::AbortedTransaction;
use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use bytes::Bytes;
use ottla_record::{BatchHeader, crc32c};

/// How many batches of a producer are remembered: as many as may be in flight.
const REMEMBERED: usize = 5;
const SNAPSHOT_VERSION: i16 = 1;
const SNAPSHOT_HEADER: usize = 10;
const SNAPSHOT_ENTRY: usize = 46;

/// Whether a producer's batch may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceCheck {
    /// Yes.
    Accept,
    /// It is there already; answer with what it got then.
    Duplicate {
        /// Its base offset.
        base_offset: i64,
        /// Its largest timestamp.
        timestamp: i64,
    },
    /// A batch before it is missing (OUT_OF_ORDER_SEQUENCE_NUMBER).
    OutOfOrder {
        /// The sequence number that would have been right.
        expected: i32,
    },
    /// A newer incarnation of the producer has written already (INVALID_PRODUCER_EPOCH).
    Fenced {
        /// That incarnation.
        current_epoch: i16,
    },
    /// The batch is outside of transactions, and the producer has one open here (INVALID_TXN_STATE).
    InTransaction,
}

/// Whether a transaction's marker may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerCheck {
    /// Yes. Without a transaction that it ends it changes nothing but the epoch.
    Accept,
    /// A newer incarnation of the producer has written already (INVALID_PRODUCER_EPOCH).
    Fenced {
        /// That incarnation.
        current_epoch: i16,
    },
    /// A marker of a newer coordinator was here before (TRANSACTION_COORDINATOR_FENCED).
    CoordinatorFenced {
        /// That coordinator's epoch.
        current_epoch: i32,
    },
}

/// What a partition knows of one producer, as `DescribeProducers` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerInfo {
    /// Who.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Of its newest batch; -1 if it has written none in this epoch.
    pub last_sequence: i32,
    /// Of its newest batch or marker, in ms since the Unix epoch.
    pub last_timestamp: i64,
    /// Of the coordinator that wrote its last marker; -1 if there was none.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins, if it has one.
    pub transaction_start: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    first_sequence: i32,
    last_sequence: i32,
    last_offset: i64,
    offset_delta: i32,
    timestamp: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// The newest at the back.
    batches: VecDeque<Batch>,
    last_timestamp: i64,
    coordinator_epoch: i32,
    current_txn_first_offset: i64,
}

impl Producer {
    fn new(epoch: i16) -> Self {
        Self {
            epoch,
            batches: VecDeque::with_capacity(REMEMBERED),
            last_timestamp: -1,
            coordinator_epoch: -1,
            current_txn_first_offset: -1,
        }
    }

    fn info(&self, producer_id: i64) -> ProducerInfo {
        ProducerInfo {
            producer_id,
            epoch: self.epoch,
            last_sequence: self.batches.back().map_or(-1, |batch| batch.last_sequence),
            last_timestamp: self.last_timestamp,
            coordinator_epoch: self.coordinator_epoch,
            transaction_start: Some(self.current_txn_first_offset).filter(|first| *first >= 0),
        }
    }

    fn enter_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }

    fn remember(&mut self, batch: Batch) {
        if self.batches.len() == REMEMBERED {
            self.batches.pop_front();
        }
        self.batches.push_back(batch);
    }
}

/// The idempotent producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerState {
    producers: BTreeMap<i64, Producer>,
    /// Open transactions: first offset → producer id.
    open: BTreeMap<i64, i64>,
}

/// The sequence number `by` after `sequence`: 2³¹−1 is followed by 0.
fn advance(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) + i64::from(by)) % (1 << 31)) as i32
}

impl ProducerState {
    /// Whether a batch may be appended; batches without a producer id always may.
    pub fn check(&self, header: &BatchHeader) -> SequenceCheck {
        if header.producer_id < 0 {
            return SequenceCheck::Accept;
        }
        let Some(producer) = self.producers.get(&header.producer_id) else {
            return SequenceCheck::Accept;
        };
        let (first, last) = (
            header.base_sequence,
            advance(header.base_sequence, header.last_offset_delta),
        );
        if header.producer_epoch < producer.epoch {
            return SequenceCheck::Fenced {
                current_epoch: producer.epoch,
            };
        }
        let accept = match producer.current_txn_first_offset >= 0 {
            true if !header.attributes.is_transactional() => SequenceCheck::InTransaction,
            _ => SequenceCheck::Accept,
        };
        if header.producer_epoch > producer.epoch {
            return if first == 0 {
                accept
            } else {
                SequenceCheck::OutOfOrder { expected: 0 }
            };
        }
        let same = |batch: &&Batch| batch.first_sequence == first && batch.last_sequence == last;
        if let Some(batch) = producer.batches.iter().find(same) {
            return SequenceCheck::Duplicate {
                base_offset: batch.last_offset - i64::from(batch.offset_delta),
                timestamp: batch.timestamp,
            };
        }
        // An epoch that a marker began has no batches yet.
        let expected = producer
            .batches
            .back()
            .map_or(0, |batch| advance(batch.last_sequence, 1));
        if first == expected {
            accept
        } else {
            SequenceCheck::OutOfOrder { expected }
        }
    }

    /// Whether a marker may be appended that ends `producer_id`'s transaction, at that epoch of the producer and decided by a
    /// coordinator of `coordinator_epoch`. With `epoch_was_bumped` (transaction version 2) the marker's epoch must be larger than
    /// that of the transaction, so that a marker that comes late can't end the next one.
    pub fn check_marker(
        &self,
        producer_id: i64,
        epoch: i16,
        coordinator_epoch: i32,
        epoch_was_bumped: bool,
    ) -> MarkerCheck {
        let Some(producer) = self.producers.get(&producer_id) else {
            return MarkerCheck::Accept;
        };
        let is_open = producer.current_txn_first_offset >= 0;
        if epoch < producer.epoch || epoch == producer.epoch && epoch_was_bumped && is_open {
            return MarkerCheck::Fenced {
                current_epoch: producer.epoch,
            };
        }
        if coordinator_epoch < producer.coordinator_epoch {
            return MarkerCheck::CoordinatorFenced {
                current_epoch: producer.coordinator_epoch,
            };
        }
        MarkerCheck::Accept
    }

    /// Remembers which coordinator wrote the producer's last marker.
    pub fn note_coordinator(&mut self, producer_id: i64, coordinator_epoch: i32) {
        if let Some(producer) = self.producers.get_mut(&producer_id) {
            producer.coordinator_epoch = coordinator_epoch;
        }
    }

    /// Of one producer.
    pub fn get(&self, producer_id: i64) -> Option<ProducerInfo> {
        let producer = self.producers.get(&producer_id)?;
        Some(producer.info(producer_id))
    }

    /// Of all producers, by their id.
    pub fn iter(&self) -> impl Iterator<Item = ProducerInfo> + '_ {
        self.producers.iter().map(|(&id, p)| p.info(id))
    }

    /// The producers with an open transaction, in the order in which those began.
    pub fn open_transactions(&self) -> impl Iterator<Item = ProducerInfo> + '_ {
        self.open.values().filter_map(|&id| self.get(id))
    }

    /// Remembers an appended batch; `header` has its final base offset.
    pub fn appended(&mut self, header: &BatchHeader) {
        if header.producer_id < 0 {
            return;
        }
        let producer = self
            .producers
            .entry(header.producer_id)
            .or_insert_with(|| Producer::new(header.producer_epoch));
        producer.enter_epoch(header.producer_epoch);
        producer.last_timestamp = header.max_timestamp;
        let first_offset = &mut producer.current_txn_first_offset;
        if header.attributes.is_control() {
            self.open.remove(first_offset);
            *first_offset = -1;
        } else if header.attributes.is_transactional() && *first_offset < 0 {
            *first_offset = header.base_offset;
            self.open.insert(header.base_offset, header.producer_id);
        }
        if header.base_sequence < 0 {
            return; // a transaction marker: it has an epoch, and no sequence
        }
        producer.remember(Batch {
            first_sequence: header.base_sequence,
            last_sequence: advance(header.base_sequence, header.last_offset_delta),
            last_offset: header.base_offset + i64::from(header.last_offset_delta),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
    }

    /// The first offset of the oldest transaction that is open.
    pub fn first_undecided_offset(&self) -> Option<i64> {
        self.open.first_key_value().map(|(offset, _)| *offset)
    }

    /// The transaction that a control batch ends, told before [`Self::appended`] is: as it is indexed if the batch is an abort.
    pub fn ended_by(&self, header: &BatchHeader) -> Option<AbortedTransaction> {
        let producer = self.producers.get(&header.producer_id)?;
        let first_offset = producer.current_txn_first_offset;
        if !header.attributes.is_control() || first_offset < 0 {
            return None;
        }
        let mut open = self.open.keys().copied();
        let next = open.find(|offset| *offset != first_offset);
        Some(AbortedTransaction {
            producer_id: header.producer_id,
            first_offset,
            last_offset: header.last_offset(),
            last_stable_offset: next.unwrap_or(header.next_offset()),
        })
    }

    /// Forgets producers that have written nothing since `before_ms`.
    pub fn expire(&mut self, before_ms: i64) {
        self.producers.retain(|_, producer| {
            producer.last_timestamp >= before_ms || producer.current_txn_first_offset >= 0
        });
    }

    /// Of each producer its epoch and the last offset of its newest batch, if it has written one in this epoch.
    pub(crate) fn last_batches(&self) -> impl Iterator<Item = (i64, LastBatch)> + '_ {
        self.producers.iter().map(|(&id, producer)| {
            let last = LastBatch {
                epoch: producer.epoch,
                last_offset: producer.batches.back().map(|batch| batch.last_offset),
            };
            (id, last)
        })
    }

    /// Number of producers.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether no producer is known.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// The largest producer id that is known.
    pub fn max_producer_id(&self) -> Option<i64> {
        self.producers.keys().next_back().copied()
    }

    /// The bytes of a `.snapshot` file (version 1).
    ///
    /// Kafka stores the newest batch of each producer only, so that after a restart it refuses the repetition of the one before
    /// it. Here each remembered batch has an entry, the newest last: Kafka reads such a file too, and keeps the last entry.
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SNAPSHOT_HEADER + SNAPSHOT_ENTRY * self.producers.len());
        bytes.extend_from_slice(&SNAPSHOT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&[0; 8]);
        let mut entries = 0i32;
        let mut write = |id: i64, producer: &Producer, batch: Option<&Batch>, timestamp: i64| {
            entries += 1;
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(&producer.epoch.to_be_bytes());
            bytes.extend_from_slice(&batch.map_or(-1, |b| b.last_sequence).to_be_bytes());
            bytes.extend_from_slice(&batch.map_or(-1, |b| b.last_offset).to_be_bytes());
            bytes.extend_from_slice(&batch.map_or(0, |b| b.offset_delta).to_be_bytes());
            bytes.extend_from_slice(&timestamp.to_be_bytes());
            bytes.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            bytes.extend_from_slice(&producer.current_txn_first_offset.to_be_bytes());
        };
        for (id, producer) in &self.producers {
            let older = producer.batches.len().saturating_sub(1);
            for batch in producer.batches.iter().take(older) {
                write(*id, producer, Some(batch), batch.timestamp);
            }
            let newest = producer.batches.back();
            write(*id, producer, newest, producer.last_timestamp);
        }
        bytes[6..10].copy_from_slice(&entries.to_be_bytes());
        let crc = crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Reads a `.snapshot` file; `None` if it is damaged.
    pub fn from_snapshot(bytes: &Bytes) -> Option<Self> {
        let number = |at: usize, len: usize| {
            let field = bytes.get(at..at + len)?;
            Some(
                field
                    .iter()
                    .fold(if field[0] >= 128 { -1i64 } else { 0 }, |n, &b| {
                        n << 8 | i64::from(b)
                    }),
            )
        };
        if number(0, 2)? != i64::from(SNAPSHOT_VERSION)
            || number(2, 4)? as u32 != crc32c(bytes.get(6..)?)
        {
            return None;
        }
        let count = usize::try_from(number(6, 4)?).ok()?;
        if bytes.len() - SNAPSHOT_HEADER != count.checked_mul(SNAPSHOT_ENTRY)? {
            return None;
        }
        let mut producers: BTreeMap<i64, Producer> = BTreeMap::new();
        for i in 0..count {
            let at = SNAPSHOT_HEADER + i * SNAPSHOT_ENTRY;
            let epoch = number(at + 8, 2)? as i16;
            let last_sequence = number(at + 10, 4)? as i32;
            let offset_delta = number(at + 22, 4)? as i32;
            let timestamp = number(at + 26, 8)?;
            let producer = producers
                .entry(number(at, 8)?)
                .or_insert_with(|| Producer::new(epoch));
            producer.enter_epoch(epoch);
            if last_sequence >= 0 {
                let first = i64::from(last_sequence) - i64::from(offset_delta);
                producer.remember(Batch {
                    first_sequence: first.rem_euclid(1 << 31) as i32,
                    last_sequence,
                    last_offset: number(at + 14, 8)?,
                    offset_delta,
                    timestamp,
                });
            }
            producer.last_timestamp = timestamp;
            producer.coordinator_epoch = number(at + 34, 4)? as i32;
            producer.current_txn_first_offset = number(at + 38, 8)?;
        }
        let open = producers
            .iter()
            .map(|(id, producer)| (producer.current_txn_first_offset, *id))
            .filter(|(offset, _)| *offset >= 0)
            .collect();
        Some(Self { producers, open })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(epoch: i16, sequence: i32, count: i32, offset: i64) -> BatchHeader {
        let mut builder = ottla_record::BatchBuilder::new(64);
        builder.append(0, None, None, &[]).unwrap();
        BatchHeader {
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence: sequence,
            last_offset_delta: count - 1,
            record_count: count,
            base_offset: offset,
            max_timestamp: 1000 + offset,
            ..builder
                .finish(&ottla_record::FinishOptions::default())
                .unwrap()
                .header
        }
    }

    #[test]
    fn sequences() {
        let mut state = ProducerState::default();
        let any = header(0, 500, 2, 0);
        assert_eq!(
            state.check(&any),
            SequenceCheck::Accept,
            "an unknown producer may begin anywhere"
        );
        state.appended(&any);
        assert_eq!(
            state.check(&any),
            SequenceCheck::Duplicate {
                base_offset: 0,
                timestamp: 1000
            }
        );
        assert_eq!(
            state.check(&header(0, 503, 1, 0)),
            SequenceCheck::OutOfOrder { expected: 502 }
        );
        assert_eq!(
            state.check(&header(1, 1, 1, 0)),
            SequenceCheck::OutOfOrder { expected: 0 }
        );
        for i in 0..5 {
            state.appended(&header(0, 502 + i, 1, 2 + i64::from(i)));
        }
        assert_eq!(
            state.check(&any),
            SequenceCheck::OutOfOrder { expected: 507 },
            "only five are remembered"
        );
        assert_eq!(
            state.check(&header(0, 502, 1, 0)),
            SequenceCheck::Duplicate {
                base_offset: 2,
                timestamp: 1002
            }
        );
        state.appended(&header(1, 0, 1, 9));
        assert_eq!(
            state.check(&header(0, 507, 1, 0)),
            SequenceCheck::Fenced { current_epoch: 1 }
        );
        state.appended(&header(1, i32::MAX - 1, 3, 10));
        assert_eq!(
            state.check(&header(1, 1, 1, 0)),
            SequenceCheck::Accept,
            "2^31-1 is followed by 0"
        );
        assert_eq!(
            state.check(&header(1, i32::MAX - 1, 3, 0)),
            SequenceCheck::Duplicate {
                base_offset: 10,
                timestamp: 1010
            }
        );
    }

    /// The same as a transaction's, or as its marker.
    fn of_transaction(header: BatchHeader, control: bool) -> BatchHeader {
        BatchHeader {
            attributes: header
                .attributes
                .with_transactional(true)
                .with_control(control),
            base_sequence: if control { -1 } else { header.base_sequence },
            ..header
        }
    }

    #[test]
    fn transactions_and_their_markers() {
        let mut state = ProducerState::default();
        let fenced = MarkerCheck::Fenced { current_epoch: 3 };
        assert_eq!(state.check_marker(7, 0, 0, true), MarkerCheck::Accept);
        state.appended(&of_transaction(header(3, 0, 2, 10), false));
        assert_eq!(state.get(7).unwrap().transaction_start, Some(10));
        assert_eq!(
            state.check(&header(3, 2, 1, 0)),
            SequenceCheck::InTransaction
        );
        assert_eq!(
            state.check(&of_transaction(header(3, 2, 1, 0), false)),
            SequenceCheck::Accept
        );
        assert_eq!(state.check_marker(7, 2, 0, false), fenced);
        assert_eq!(state.check_marker(7, 3, 0, true), fenced);
        assert_eq!(state.check_marker(7, 3, 0, false), MarkerCheck::Accept);
        assert_eq!(state.check_marker(7, 4, 0, true), MarkerCheck::Accept);
        state.appended(&of_transaction(header(4, -1, 1, 12), true));
        state.note_coordinator(7, 5);
        assert_eq!(state.get(7).unwrap().transaction_start, None);
        assert_eq!(state.open_transactions().count(), 0);
        assert_eq!(
            state.check_marker(7, 4, 4, true),
            MarkerCheck::CoordinatorFenced { current_epoch: 5 }
        );
        assert_eq!(
            state.check_marker(7, 4, 5, true),
            MarkerCheck::Accept,
            "once more, without a transaction"
        );
        assert_eq!(
            state.check(&of_transaction(header(3, 2, 1, 0), false)),
            SequenceCheck::Fenced { current_epoch: 4 },
            "a zombie"
        );
        assert_eq!(
            state.check(&of_transaction(header(4, 0, 1, 0), false)),
            SequenceCheck::Accept,
            "the next transaction begins with 0"
        );
        let bytes = Bytes::from(state.to_snapshot());
        assert_eq!(ProducerState::from_snapshot(&bytes).unwrap(), state);
    }

    #[test]
    fn snapshots() {
        let mut state = ProducerState::default();
        state.appended(&header(3, i32::MAX, 2, 40));
        let bytes = Bytes::from(state.to_snapshot());
        assert_eq!(bytes.len(), 10 + 46);
        let back = ProducerState::from_snapshot(&bytes).unwrap();
        assert_eq!(back, state);
        assert_eq!(
            back.check(&header(3, i32::MAX, 2, 0)),
            SequenceCheck::Duplicate {
                base_offset: 40,
                timestamp: 1040
            }
        );
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            assert_eq!(
                ProducerState::from_snapshot(&damaged.into()),
                None,
                "byte {at}"
            );
            assert_eq!(
                ProducerState::from_snapshot(&bytes.slice(..at)),
                None,
                "cut at {at}"
            );
        }
        state.expire(2000);
        assert!(state.is_empty());

        for i in 0..7 {
            state.appended(&header(2, 10 + i, 1, 50 + i64::from(i)));
        }
        let bytes = Bytes::from(state.to_snapshot());
        assert_eq!(bytes.len(), 10 + 5 * 46);
        let back = ProducerState::from_snapshot(&bytes).unwrap();
        assert_eq!(back, state, "every remembered batch comes back");
        assert_eq!(
            back.check(&header(2, 12, 1, 0)),
            SequenceCheck::Duplicate {
                base_offset: 52,
                timestamp: 1052
            }
        );
    }
}
