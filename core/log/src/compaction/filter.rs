//! What is left of one batch: the rules of Kafka's `Cleaner`.

use super::{offset_map::OffsetMap, transactions::Transactions, transactions::marker_of};
use alloc::{collections::BTreeMap, vec::Vec};
use bytes::Bytes;
use ottla_record::{
    Attributes, BatchBuilder, BatchHeader, Codecs, Compression, FinishOptions, HEADER_LEN, Header,
    LOG_OVERHEAD, Limits, RecordBatch, RecordError, Records, TimestampType, crc32c, crc32c_append,
};

/// Where the checksummed part of a header begins.
const CRC_START: usize = 21;
/// Where the checksum lies.
const CRC_AT: usize = 17;

/// A batch after its records were looked at.
#[derive(Debug)]
pub enum Kept {
    /// It stays as it is.
    Whole,
    /// It is written anew.
    Changed(BatchHeader, Bytes),
    /// Nothing is left of it.
    Gone,
}

/// The newest batch of a producer that is still active, so that its sequence is known after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastBatch {
    pub epoch: i16,
    /// The last offset of its newest batch of data; none if a marker began its epoch.
    pub last_offset: Option<i64>,
}

/// So many records' keys are looked up together: about as many as a processor waits for at once.
const GROUP: usize = 16;

/// What the map needs to know of a record.
#[derive(Clone, Copy)]
struct Keyed {
    /// Of its key, if it has one.
    hash: Option<[u64; 2]>,
    offset: i64,
    tombstone: bool,
}

/// What decides over records.
pub struct Filter {
    pub map: OffsetMap,
    pub transactions: Transactions,
    pub active: BTreeMap<i64, LastBatch>,
    pub now_ms: i64,
    pub delete_retention_ms: i64,
    pub codecs: Codecs,
    /// For each record of the batch that is looked at, whether it stays.
    stays: Vec<bool>,
    /// The records whose keys are looked up next.
    group: Vec<Keyed>,
}

impl Filter {
    pub fn new(
        map: OffsetMap,
        active: BTreeMap<i64, LastBatch>,
        now_ms: i64,
        delete_retention_ms: i64,
    ) -> Self {
        Self {
            map,
            transactions: Transactions::default(),
            active,
            now_ms,
            delete_retention_ms,
            codecs: Codecs::new(),
            stays: Vec::new(),
            group: Vec::with_capacity(GROUP),
        }
    }

    /// Notes the keys of a batch from offset `from` on and below `end` as the newest. False if the map is full; then it says
    /// how far it came.
    pub fn index(&mut self, batch: &RecordBatch, from: i64, end: i64) -> Result<bool, RecordError> {
        let header = batch.header();
        if !header.attributes.is_control() && !self.transactions.is_aborted(header) {
            let area = batch.plain(&mut self.codecs, Limits::default())?;
            let mut records = Records::new(header, &area)?;
            while self.next_group(&mut records)? {
                for record in &self.group {
                    if let Some(hash) = record.hash
                        && (from..end).contains(&record.offset)
                        && !self.map.put(hash, record.offset)
                    {
                        self.map.latest = record.offset - 1;
                        return Ok(false);
                    }
                }
            }
        }
        self.map.latest = header.last_offset().min(end - 1);
        Ok(true)
    }

    /// What stays of a batch. With `ends_segment` at least its header does, so that the segment says how far it goes.
    pub fn keep(&mut self, batch: &RecordBatch, ends_segment: bool) -> Result<Kept, RecordError> {
        let header = batch.header();
        if header.attributes.is_control() {
            self.keep_control(batch, ends_segment)
        } else {
            self.transactions.pass_data(header);
            let must_stay = ends_segment || self.is_last_of_producer(header);
            // Beyond the map as well: the segment's `.txnindex`, which tells readers to leave them out, goes with them.
            if self.transactions.is_aborted(header) {
                return Ok(emptied(header, must_stay));
            }
            self.keep_data(batch, must_stay)
        }
    }

    /// Takes the next records of a batch into `group`, and lets the map look for their keys; false if there are none.
    fn next_group(&mut self, records: &mut Records<'_>) -> Result<bool, RecordError> {
        self.group.clear();
        for record in records.take(GROUP) {
            let record = record?;
            self.group.push(Keyed {
                hash: record.key.map(|key| self.map.hash(key)),
                offset: record.offset,
                tombstone: record.value.is_none(),
            });
        }
        self.map
            .approach(self.group.iter().filter_map(|record| record.hash));
        Ok(!self.group.is_empty())
    }

    fn keep_control(
        &mut self,
        batch: &RecordBatch,
        ends_segment: bool,
    ) -> Result<Kept, RecordError> {
        let header = batch.header();
        let must_stay = ends_segment || self.is_last_of_producer(header);
        if header.record_count == 0 {
            return Ok(emptied(header, must_stay));
        }
        if marker_of(batch)?.is_none() {
            return Ok(Kept::Whole);
        }
        let unused = self.transactions.pass_marker(header);
        if !unused || header.last_offset() > self.map.latest {
            return Ok(Kept::Whole);
        }
        match header.delete_horizon() {
            None => self.with_horizon(batch, batch.body(), 1),
            Some(horizon) if horizon <= self.now_ms => Ok(emptied(header, must_stay)),
            Some(_) => Ok(Kept::Whole),
        }
    }

    fn keep_data(&mut self, batch: &RecordBatch, must_stay: bool) -> Result<Kept, RecordError> {
        let header = batch.header();
        if header.record_count == 0 {
            return Ok(emptied(header, must_stay));
        }
        if header.base_offset > self.map.latest {
            return Ok(Kept::Whole);
        }
        let area = batch.plain(&mut self.codecs, Limits::default())?;
        let tombstones_go = header
            .delete_horizon()
            .is_some_and(|horizon| horizon <= self.now_ms);
        self.stays.clear();
        let (mut count, mut tombstones) = (0, false);
        let mut records = Records::new(header, &area)?;
        while self.next_group(&mut records)? {
            for record in &self.group {
                let stays = record.offset > self.map.latest
                    || record.hash.is_some_and(|hash| {
                        let newest = self.map.get(hash).is_none_or(|at| record.offset >= at);
                        newest && !(record.tombstone && tombstones_go)
                    });
                count += i32::from(stays);
                tombstones |= stays && record.tombstone;
                self.stays.push(stays);
            }
        }
        // What lies beyond the map was not cleaned yet: the time of its tombstones begins when it is.
        let begins_horizon = tombstones
            && header.delete_horizon().is_none()
            && header.last_offset() <= self.map.latest;
        if count == 0 {
            Ok(emptied(header, must_stay))
        } else if begins_horizon {
            self.with_horizon(batch, &area, count)
        } else if count == header.record_count {
            Ok(Kept::Whole)
        } else {
            self.without_some(header, &area, count)
        }
    }

    /// The records that stay, as they are: base offset and base timestamp don't change, so neither does a byte of them.
    fn without_some(
        &mut self,
        header: &BatchHeader,
        area: &[u8],
        count: i32,
    ) -> Result<Kept, RecordError> {
        let mut plain = Vec::with_capacity(area.len());
        let mut max_timestamp = i64::MIN;
        let mut records = Records::new(header, area)?;
        let mut from = 0;
        for &stays in &self.stays {
            let Some(record) = records.next() else { break };
            let timestamp = record?.timestamp;
            let end = records.position();
            if stays {
                plain.extend_from_slice(&area[from..end]);
                max_timestamp = max_timestamp.max(timestamp);
            }
            from = end;
        }
        let codec = header.attributes.compression()?;
        let mut whole = alloc::vec![0; HEADER_LEN];
        let mut used = codec;
        if codec != Compression::None {
            let done = self.codecs.compress(codec, None, &plain, &mut whole);
            if done.is_err() || whole.len() >= HEADER_LEN + plain.len() {
                whole.truncate(HEADER_LEN);
                used = Compression::None;
            }
        }
        if used == Compression::None {
            whole.extend_from_slice(&plain);
        }
        let mut header = BatchHeader {
            batch_length: (whole.len() - LOG_OVERHEAD) as i32,
            attributes: header.attributes.with_compression(used),
            max_timestamp,
            record_count: count,
            ..*header
        };
        seal(&mut header, &mut whole);
        Ok(Kept::Changed(header, whole.into()))
    }

    /// The records that stay in a batch that has a delete horizon from now on.
    fn with_horizon(
        &mut self,
        batch: &RecordBatch,
        area: &[u8],
        count: i32,
    ) -> Result<Kept, RecordError> {
        let header = batch.header();
        let all = count == header.record_count;
        let horizon = self.now_ms.saturating_add(self.delete_retention_ms);
        let mut builder =
            BatchBuilder::new(HEADER_LEN + area.len() + 16).with_delete_horizon(horizon);
        let mut headers: Vec<Header<'_>> = Vec::new();
        for (i, record) in Records::new(header, area)?.enumerate() {
            let record = record?;
            if all || self.stays[i] {
                headers.clear();
                headers.extend(record.headers);
                let delta = (record.offset - header.base_offset) as i32;
                builder.append_with_delta(
                    delta,
                    record.timestamp,
                    record.key,
                    record.value,
                    &headers,
                )?;
            }
        }
        let options = FinishOptions {
            compression: header.attributes.compression()?,
            level: None,
            base_offset: header.base_offset,
            leader_epoch: header.partition_leader_epoch,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            transactional: header.attributes.is_transactional(),
            control: header.attributes.is_control(),
            log_append_time: match header.attributes.timestamp_type() {
                TimestampType::LogAppendTime => Some(header.max_timestamp),
                TimestampType::CreateTime => None,
            },
            last_offset_delta: Some(header.last_offset_delta),
        };
        let done = builder.finish_with(&mut self.codecs, &options)?;
        Ok(Kept::Changed(done.header, done.encoded))
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let Some(last) = self.active.get(&header.producer_id) else {
            return false;
        };
        match last.last_offset {
            Some(offset) => header.last_offset() == offset,
            None => header.attributes.is_control() && header.producer_epoch == last.epoch,
        }
    }
}

/// Nothing, or a header without records, which keeps the offsets and the producer's sequence.
fn emptied(header: &BatchHeader, must_stay: bool) -> Kept {
    if !must_stay {
        return Kept::Gone;
    }
    if header.record_count == 0 {
        return Kept::Whole;
    }
    let attributes = Attributes::default()
        .with_timestamp_type(header.attributes.timestamp_type())
        .with_transactional(header.attributes.is_transactional())
        .with_control(header.attributes.is_control());
    let mut header = BatchHeader {
        batch_length: (HEADER_LEN - LOG_OVERHEAD) as i32,
        attributes,
        base_timestamp: -1,
        record_count: 0,
        ..*header
    };
    let mut whole = alloc::vec![0; HEADER_LEN];
    seal(&mut header, &mut whole);
    Kept::Changed(header, whole.into())
}

/// Writes the header and its checksum in front of a batch's body.
fn seal(header: &mut BatchHeader, whole: &mut [u8]) {
    let raw = header.to_bytes();
    header.crc = crc32c_append(crc32c(&raw[CRC_START..]), &whole[HEADER_LEN..]);
    whole[..HEADER_LEN].copy_from_slice(&raw);
    whole[CRC_AT..CRC_START].copy_from_slice(&header.crc.to_be_bytes());
}
