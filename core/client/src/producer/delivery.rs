//! Delivery reports: one batch at a time, told apart record by record without an allocation.

use crate::error::{ErrCode, KafkaError};
use alloc::vec::Vec;
use bytes::Bytes;
use ottla_protocol::Str;
use ottla_record::{BatchHeader, Headers, RecordIter};

/// The offset of a record that has none: `RD_KAFKA_OFFSET_INVALID`.
pub const NO_OFFSET: i64 = -1001;

/// How far a record got, as far as is known: `rd_kafka_msg_status_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(i32)]
pub enum Persistence {
    /// It was never sent, or the broker refused it.
    #[default]
    NotPersisted = 0,
    /// It was sent, and no answer came (with `acks=0` none is expected).
    PossiblyPersisted = 1,
    /// It was acknowledged.
    Persisted = 2,
}

/// What the application gives with a record and gets back with its report. It is neither sent nor looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The application's value for the message (`msg_opaque`).
    pub opaque: usize,
    /// Where the application has the payload; 0: only in the batch.
    pub payload_addr: usize,
}

/// What came with the records of a batch besides what is sent. Nothing is kept for records that have none of it.
#[derive(Debug, Default)]
pub(crate) struct Sides {
    opaques: Vec<usize>,
    payloads: Vec<usize>,
    /// Where the age changes: index of a record, and microseconds after the batch was opened.
    ages: Vec<(u32, u32)>,
    last_age: u32,
}

impl Sides {
    /// Notes what belongs to record `index`, the one after the last.
    #[inline]
    pub(crate) fn push(&mut self, index: usize, side: Side, age_us: u64) {
        if side.opaque != 0 || !self.opaques.is_empty() {
            push_at(&mut self.opaques, index, side.opaque);
        }
        if side.payload_addr != 0 || !self.payloads.is_empty() {
            push_at(&mut self.payloads, index, side.payload_addr);
        }
        let age = u32::try_from(age_us).unwrap_or(u32::MAX);
        if age != self.last_age {
            self.last_age = age;
            self.ages.push((index as u32, age));
        }
    }

    /// Room for a batch of about so many records, of which the last batch had opaques or payloads.
    pub(crate) fn like(last: &Self, count: usize) -> Self {
        let room = |last: &Vec<usize>| {
            if last.is_empty() {
                Vec::new()
            } else {
                Vec::with_capacity(count)
            }
        };
        Self {
            opaques: room(&last.opaques),
            payloads: room(&last.payloads),
            ages: Vec::new(),
            last_age: 0,
        }
    }

    /// How many microseconds after the batch was opened record `index` came.
    pub(crate) fn age(&self, index: usize) -> u32 {
        let changes = self.ages.partition_point(|(at, _)| *at as usize <= index);
        changes.checked_sub(1).map_or(0, |last| self.ages[last].1)
    }

    /// What the application gave with record `index`.
    #[inline]
    pub(crate) fn side(&self, index: usize) -> Side {
        let at = |side: &Vec<usize>| side.get(index).copied().unwrap_or(0);
        Side {
            opaque: at(&self.opaques),
            payload_addr: at(&self.payloads),
        }
    }
}

#[inline]
fn push_at(side: &mut Vec<usize>, index: usize, value: usize) {
    if side.len() < index {
        side.resize(index, 0);
    }
    side.push(value);
}

/// The delivery reports of the records of one batch, which were delivered or failed together.
///
/// It owns its bytes, so that it can be read without the client's lock. Its records count as queued until the application
/// says that it took them: [`Client::delivery_taken`](crate::Client::delivery_taken).
#[derive(Debug)]
pub struct DeliveredBatch {
    /// The topic's name.
    pub topic: Str,
    /// The topic's handle.
    pub topic_handle: u32,
    /// The partition; -1 if the records failed before they got one.
    pub partition: i32,
    /// Offset of the first record, [`NO_OFFSET`] if there is none.
    pub base_offset: i64,
    /// The append time of all records if the topic has `LogAppendTime`, else -1.
    pub log_append_time: i64,
    /// The offset of the partition's first record at that time, or -1 if the broker didn't tell.
    pub log_start_offset: i64,
    /// Why the records failed; `None` if they were delivered.
    pub error: Option<KafkaError>,
    /// How far the records got.
    pub status: Persistence,
    /// The node id of the broker that answered, or -1.
    pub broker: i32,
    /// Microseconds from the first record's `produce()` to the report.
    pub latency_us: u64,
    pub(crate) header: BatchHeader,
    pub(crate) plain: Bytes,
    pub(crate) sides: Sides,
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

/// One record's delivery report.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// Its offset; [`NO_OFFSET`] if it failed, or if the broker did not tell.
    pub offset: i64,
    /// Milliseconds since the Unix epoch: the append time if the topic has `LogAppendTime`, else the record's own.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value, out of the batch.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
    /// What the application gave with it.
    pub side: Side,
    /// Microseconds from `produce()` to the report.
    pub latency_us: u64,
}

impl DeliveredBatch {
    /// The error's code, or `NO_ERROR`.
    pub fn code(&self) -> ErrCode {
        let error = self.error.as_ref();
        error.map_or(ErrCode::NO_ERROR, |error| error.code)
    }

    /// Records in the batch.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none, which never happens in an event.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes in which keys, values and headers lie; clones share them.
    pub fn buffer(&self) -> &Bytes {
        &self.plain
    }

    /// The reports, one after the other.
    pub fn deliveries(&self) -> Deliveries {
        Deliveries {
            // The batch was built here, so that it can be read; if it could not, there would be no reports.
            records: RecordIter::new(&self.header, self.plain.clone()).ok(),
            index: 0,
            age_at: 0,
            age: 0,
        }
    }
}

/// A place in a [`DeliveredBatch`]: lends one report after the other.
#[derive(Debug)]
pub struct Deliveries {
    records: Option<RecordIter>,
    index: usize,
    /// The next change of the age, and the present one.
    age_at: usize,
    age: u32,
}

impl Deliveries {
    /// The next record's report. `batch` is the one that this came from.
    #[inline]
    pub fn next<'a>(&'a mut self, batch: &DeliveredBatch) -> Option<Delivery<'a>> {
        let record = self.records.as_mut()?.next_record()?.ok()?;
        let index = self.index;
        while let Some(&(at, age)) = batch.sides.ages.get(self.age_at)
            && at as usize <= index
        {
            self.age = age;
            self.age_at += 1;
        }
        self.index = index + 1;
        let known = batch.base_offset >= 0;
        let appended = batch.log_append_time >= 0;
        Some(Delivery {
            offset: batch.base_offset + if known { index as i64 } else { 0 },
            timestamp: if appended {
                batch.log_append_time
            } else {
                record.timestamp
            },
            key: record.key,
            value: record.value,
            headers: record.headers,
            side: batch.sides.side(index),
            latency_us: batch.latency_us.saturating_sub(self.age.into()),
        })
    }

    /// Reports handed out so far.
    pub fn position(&self) -> usize {
        self.index
    }
}
