//! Delivery reports: a whole batch at a time, told apart record by record without an allocation.

use crate::error::{ErrCode, KafkaError};
use alloc::vec::Vec;
use bytes::Bytes;
use ottla_protocol::Str;
use ottla_record::{BatchHeader, Headers, RecordIter};

/// How far a record got, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It was never sent, or surely not written.
    NotPersisted = 0,
    /// It was sent, and nobody answered.
    PossiblyPersisted = 1,
    /// It was acknowledged.
    Persisted = 2,
}

/// What the application gave with a record and gets back with its report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The application's value.
    pub opaque: usize,
    /// The application's own payload; 0: the report points into the batch.
    pub payload_addr: usize,
}

/// The records of one batch, delivered or failed together.
#[derive(Debug)]
pub struct DeliveredBatch {
    /// Their topic.
    pub topic: Str,
    /// The topic's handle.
    pub topic_handle: u32,
    /// Their partition.
    pub partition: i32,
    /// Offset of the first record; -1001 (invalid) if it isn't known.
    pub base_offset: i64,
    /// The broker's timestamp for all records, or -1.
    pub log_append_time: i64,
    /// Why they were not delivered.
    pub error: Option<KafkaError>,
    /// How far they got.
    pub status: Persistence,
    /// The leader's node id, or -1.
    pub broker: i32,
    /// From the batch's first record to its report, in microseconds.
    pub latency_us: u64,
    pub(crate) header: BatchHeader,
    pub(crate) plain: Bytes,
    /// Empty if no record has any.
    pub(crate) side: Vec<Side>,
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

/// One record's report.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// Its offset, or -1001.
    pub offset: i64,
    /// Its timestamp: the broker's if it gave one.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
    /// What the application gave with it.
    pub side: Side,
}

impl DeliveredBatch {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none; never, in an event.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The error's code, or NO_ERROR.
    pub fn code(&self) -> ErrCode {
        self.error
            .as_ref()
            .map_or(ErrCode::NO_ERROR, |error| error.code)
    }

    /// The bytes in which keys, values and headers lie.
    pub fn buffer(&self) -> &Bytes {
        &self.plain
    }

    /// Reports, one after the other.
    pub fn deliveries(&self) -> Deliveries {
        Deliveries {
            records: RecordIter::new(&self.header, self.plain.clone()).ok(),
            base_offset: self.base_offset,
            log_append_time: self.log_append_time,
            next: 0,
        }
    }
}

/// A place in a [`DeliveredBatch`]; lends one report after the other.
#[derive(Debug)]
pub struct Deliveries {
    records: Option<RecordIter>,
    base_offset: i64,
    log_append_time: i64,
    next: usize,
}

impl Deliveries {
    /// The next record's report. `batch` is the one that this came from.
    #[inline]
    pub fn next<'a>(&'a mut self, batch: &DeliveredBatch) -> Option<Delivery<'a>> {
        let record = self.records.as_mut()?.next_record()?.ok()?;
        let index = self.next;
        self.next += 1;
        Some(Delivery {
            offset: if self.base_offset < 0 {
                self.base_offset
            } else {
                self.base_offset + index as i64
            },
            timestamp: if self.log_append_time >= 0 {
                self.log_append_time
            } else {
                record.timestamp
            },
            key: record.key,
            value: record.value,
            headers: record.headers,
            side: batch.side.get(index).copied().unwrap_or_default(),
        })
    }

    /// Reports handed out so far.
    pub fn position(&self) -> usize {
        self.next
    }
}
