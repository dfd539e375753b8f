//! What a leader checks before it appends a producer's batch.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::header::{CRC_START, HEADER_LEN};
use crate::{
    BatchBuilder, BatchHeader, Codecs, Compression, FinishOptions, FinishedBatch, Limits,
    RecordBatch, RecordError, Records, TimestampType, crc,
};

/// How many bytes of records are walked before the checksum follows over them, while they are in the first-level cache.
const HASH_CHUNK: usize = 16 * 1024;
/// Earlier than any timestamp that means something: an earliest timestamp before this is no bound.
const LONG_AGO: i64 = i64::MIN / 2;
/// Most refused records that are named one by one.
const MAX_REFUSED_RECORDS: usize = 1000;

/// What the topic and the request demand of a batch.
#[derive(Clone, Copy, Debug)]
pub struct ValidationRules {
    /// Compute the checksum and compare it. Off only where the batch never left the process that built it.
    pub check_crc: bool,
    /// The topic is compacted: every record needs a key.
    pub require_keys: bool,
    /// The topic's records have LogAppendTime: timestamps are not looked at.
    pub log_append_time: bool,
    /// With CreateTime: earliest timestamp allowed (ms since the Unix epoch); −1 in a record means none and is allowed.
    pub min_timestamp: i64,
    /// With CreateTime: latest timestamp allowed.
    pub max_timestamp: i64,
    /// Control batches are allowed (they never are from clients).
    pub allow_control: bool,
    /// zstd is allowed (Produce version 7 and later).
    pub allow_zstd: bool,
    /// Bounds of decompression.
    pub limits: Limits,
}

impl Default for ValidationRules {
    fn default() -> Self {
        Self {
            check_crc: true,
            require_keys: false,
            log_append_time: false,
            min_timestamp: i64::MIN,
            max_timestamp: i64::MAX,
            allow_control: false,
            allow_zstd: true,
            limits: Limits::default(),
        }
    }
}

/// A batch that may be appended, and what the walk over its records found.
#[derive(Clone, Debug)]
pub struct ValidatedBatch {
    /// The batch as it was sent.
    pub batch: RecordBatch,
    /// The real largest timestamp. Where it differs from the header's, the leader corrects the header
    /// ([`crate::header::with_max_timestamp`]).
    pub max_timestamp: i64,
    /// The offsets inside of the compressed batch are not 0..n: it has to be built anew ([`rebuild_batch`]).
    pub must_rebuild: bool,
}

/// Which of Kafka's error codes a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// CORRUPT_MESSAGE (2): damaged on its way; sending it again may help.
    CorruptMessage,
    /// INVALID_RECORD (87): the producer built something that is not allowed.
    InvalidRecord,
    /// INVALID_TIMESTAMP (32).
    InvalidTimestamp,
    /// UNSUPPORTED_COMPRESSION_TYPE (76).
    UnsupportedCompression,
    /// UNSUPPORTED_FOR_MESSAGE_FORMAT (43): magic 0 or 1, which are not written any more.
    UnsupportedFormat,
}

/// Why a batch may not be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRefusal {
    /// Which error code it is.
    pub kind: RefusalKind,
    /// What is wrong, for people.
    pub message: &'static str,
    /// What the reader met, if that was it.
    pub cause: Option<RecordError>,
    /// The records it is about, where it is about single ones (at most 1000 are listed).
    pub records: Vec<RefusedRecord>,
}

/// One record of a refused batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Its index in the batch.
    pub index: i32,
    /// What is wrong with it.
    pub message: &'static str,
}

impl fmt::Display for BatchRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)?;
        if let Some(cause) = self.cause {
            write!(f, ": {cause}")?;
        }
        if let Some(first) = self.records.first() {
            write!(f, " (first: record {}: {})", first.index, first.message)?;
        }
        Ok(())
    }
}

impl core::error::Error for BatchRefusal {}

fn refuse(kind: RefusalKind, message: &'static str) -> BatchRefusal {
    BatchRefusal {
        kind,
        message,
        cause: None,
        records: Vec::new(),
    }
}

fn unreadable(cause: RecordError) -> BatchRefusal {
    let (kind, message) = match cause {
        RecordError::UnsupportedMagic(_) => (
            RefusalKind::UnsupportedFormat,
            "only record batches of magic 2 can be produced",
        ),
        RecordError::UnknownCompression(_) | RecordError::CompressionNotBuilt(_) => (
            RefusalKind::UnsupportedCompression,
            "compression codec not supported",
        ),
        RecordError::CrcMismatch { .. } => (RefusalKind::CorruptMessage, "corrupt batch"),
        RecordError::Truncated { .. } | RecordError::InvalidBatchLength(_) => {
            (RefusalKind::CorruptMessage, "malformed batch")
        }
        _ => (RefusalKind::InvalidRecord, "invalid batch"),
    };
    BatchRefusal {
        kind,
        message,
        cause: Some(cause),
        records: Vec::new(),
    }
}

/// Checks a producer's batch, in one pass over an uncompressed one: structure, checksum, count, offsets 0..n, timestamps,
/// keys (the rules and their order follow Kafka's leader).
///
/// `batch` is one whole batch in one piece. Not checked here: the size limit of the topic, sequences, and who may write.
pub fn validate_batch(
    batch: Bytes,
    codecs: &mut Codecs,
    rules: &ValidationRules,
) -> Result<ValidatedBatch, BatchRefusal> {
    let batch = RecordBatch::parse(batch).map_err(unreadable)?;
    let header = *batch.header();
    if let Err(refusal) = check_header(&header, rules) {
        // A damaged header is damaged first, and wrong second: the producer may send it again.
        if rules.check_crc {
            batch.check_crc().map_err(unreadable)?;
        }
        return Err(refusal);
    }
    let running = rules
        .check_crc
        .then(|| RunningCrc::new(&batch.raw_header()[CRC_START..]));
    let codec = header.attributes.compression().map_err(unreadable)?;
    let mut walk = Walk::new(rules);
    let outcome = if codec == Compression::None {
        let body = batch.body();
        let mut running = running;
        let outcome = walk.run(&header, body, |walked| {
            if let Some(running) = &mut running {
                running.catch_up(body, walked);
            }
        });
        if let Some(mut running) = running {
            running.catch_up(body, body.len());
            running.compare(header.crc).map_err(unreadable)?;
        }
        outcome
    } else {
        if let Some(mut running) = running {
            running.catch_up(batch.body(), batch.body().len());
            running.compare(header.crc).map_err(unreadable)?;
        }
        let plain = batch.plain(codecs, rules.limits).map_err(unreadable)?;
        walk.run(&header, &plain, |_| {})
    };
    outcome.map_err(unreadable)?;
    walk.verdict(codec)?;
    Ok(ValidatedBatch {
        max_timestamp: walk.max_timestamp,
        must_rebuild: walk.gap,
        batch,
    })
}

/// The same for a batch that was built in this process: only the header is read, for the rest is as
/// [`BatchBuilder`] makes it. `None` if the rules ask for what only the records tell, or if a refusal has to name
/// records: then it is up to [`validate_batch`].
pub fn validate_built_batch(
    batch: &Bytes,
    rules: &ValidationRules,
) -> Option<Result<ValidatedBatch, BatchRefusal>> {
    let Ok(batch) = RecordBatch::parse(batch.clone()) else {
        return None;
    };
    let header = *batch.header();
    let in_time = rules.log_append_time
        || (rules.min_timestamp < LONG_AGO && header.max_timestamp <= rules.max_timestamp);
    if rules.require_keys || !in_time {
        return None;
    }
    if let Err(refusal) = check_header(&header, rules) {
        return Some(Err(refusal));
    }
    Some(Ok(ValidatedBatch {
        max_timestamp: header.max_timestamp,
        must_rebuild: false,
        batch,
    }))
}

/// The checks that need no record.
fn check_header(header: &BatchHeader, rules: &ValidationRules) -> Result<(), BatchRefusal> {
    let invalid = |message| Err(refuse(RefusalKind::InvalidRecord, message));
    if header.base_offset != 0 {
        return invalid("base offset of a produced batch must be 0");
    }
    if header.record_count == 0 {
        return invalid("batch without records");
    }
    if header.last_offset_delta as i64 + 1 != header.record_count as i64 {
        return invalid("last offset delta does not match the record count");
    }
    if header.attributes.is_control() && !rules.allow_control {
        return invalid("control batches cannot be produced by clients");
    }
    if header.attributes.has_delete_horizon() {
        return invalid("the delete horizon is the broker's to set");
    }
    if header.has_producer_id() && header.base_sequence < 0 && !header.attributes.is_control() {
        return invalid("batch with a producer id but no sequence number");
    }
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime && !rules.log_append_time
    {
        return Err(refuse(
            RefusalKind::InvalidTimestamp,
            "producers may not set the timestamp type LogAppendTime",
        ));
    }
    match header.attributes.compression().map_err(unreadable)? {
        Compression::Zstd if !rules.allow_zstd => Err(refuse(
            RefusalKind::UnsupportedCompression,
            "zstd needs a later version of the Produce request",
        )),
        codec if !codec.is_built() => Err(unreadable(RecordError::CompressionNotBuilt(codec))),
        _ => Ok(()),
    }
}

struct RunningCrc {
    crc: u32,
    hashed: usize,
}

impl RunningCrc {
    fn new(head: &[u8]) -> Self {
        Self {
            crc: crc::crc32c(head),
            hashed: 0,
        }
    }

    fn catch_up(&mut self, body: &[u8], to: usize) {
        self.crc = crc::crc32c_append(self.crc, &body[self.hashed..to]);
        self.hashed = to;
    }

    fn compare(&self, expected: u32) -> Result<(), RecordError> {
        if self.crc == expected {
            return Ok(());
        }
        Err(RecordError::CrcMismatch {
            expected,
            actual: self.crc,
        })
    }
}

/// What the walk over the records collects.
struct Walk<'r> {
    rules: &'r ValidationRules,
    max_timestamp: i64,
    /// Some offset was not the one after the last.
    gap: bool,
    missing_keys: Vec<RefusedRecord>,
    bad_timestamps: Vec<RefusedRecord>,
}

impl<'r> Walk<'r> {
    fn new(rules: &'r ValidationRules) -> Self {
        Self {
            rules,
            max_timestamp: -1,
            gap: false,
            missing_keys: Vec::new(),
            bad_timestamps: Vec::new(),
        }
    }

    /// Walks the records, and calls `every_chunk` with the position about every [`HASH_CHUNK`] bytes.
    fn run(
        &mut self,
        header: &BatchHeader,
        area: &[u8],
        mut every_chunk: impl FnMut(usize),
    ) -> Result<(), RecordError> {
        let mut records = Records::new(header, area)?;
        let mut index: i32 = 0;
        let mut next_chunk = HASH_CHUNK;
        while let Some(record) = records.next() {
            let record = record?;
            self.gap |= record.offset != index as i64;
            self.max_timestamp = self.max_timestamp.max(record.timestamp);
            if self.rules.require_keys && record.key.is_none() {
                list(
                    &mut self.missing_keys,
                    index,
                    "a compacted topic needs a key",
                );
            }
            if !self.timestamp_allowed(record.timestamp) {
                list(&mut self.bad_timestamps, index, "timestamp out of range");
            }
            index = index.wrapping_add(1);
            if records.position() >= next_chunk {
                every_chunk(records.position());
                next_chunk = records.position() + HASH_CHUNK;
            }
        }
        Ok(())
    }

    fn timestamp_allowed(&self, timestamp: i64) -> bool {
        self.rules.log_append_time
            || timestamp == -1
            || (self.rules.min_timestamp..=self.rules.max_timestamp).contains(&timestamp)
    }

    fn verdict(&mut self, codec: Compression) -> Result<(), BatchRefusal> {
        if self.gap && codec == Compression::None {
            return Err(refuse(
                RefusalKind::InvalidRecord,
                "offsets inside of the batch are not consecutive",
            ));
        }
        let (kind, message, records) = if !self.missing_keys.is_empty() {
            let records = core::mem::take(&mut self.missing_keys);
            (
                RefusalKind::InvalidRecord,
                "records without a key for a compacted topic",
                records,
            )
        } else if !self.bad_timestamps.is_empty() {
            let records = core::mem::take(&mut self.bad_timestamps);
            (
                RefusalKind::InvalidTimestamp,
                "record timestamps outside of the range that the topic allows",
                records,
            )
        } else {
            return Ok(());
        };
        Err(BatchRefusal {
            records,
            ..refuse(kind, message)
        })
    }
}

#[cold]
fn list(records: &mut Vec<RefusedRecord>, index: i32, message: &'static str) {
    if records.len() < MAX_REFUSED_RECORDS {
        records.push(RefusedRecord { index, message });
    }
}

/// The same records in a new batch with offsets 0..n from the same base, compressed with `compression`: for a topic whose
/// `compression.type` differs from the batch's, and for [`ValidatedBatch::must_rebuild`]. All other header fields stay.
pub fn rebuild_batch(
    batch: &RecordBatch,
    codecs: &mut Codecs,
    compression: Compression,
    level: Option<i32>,
    limits: Limits,
) -> Result<FinishedBatch, RecordError> {
    let header = batch.header();
    let plain = batch.plain(codecs, limits)?;
    let mut builder = BatchBuilder::new(HEADER_LEN + plain.len() + 64);
    if compression != Compression::None {
        builder = builder.without_running_crc();
    }
    let mut headers = Vec::new();
    // With LogAppendTime every record reads as the append time; that is also what is kept.
    for record in Records::new(header, &plain)? {
        let record = record?;
        headers.clear();
        headers.extend(record.headers);
        builder.append(record.timestamp, record.key, record.value, &headers)?;
    }
    builder.finish_with(
        codecs,
        &FinishOptions {
            compression,
            level,
            base_offset: header.base_offset,
            leader_epoch: header.partition_leader_epoch,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            transactional: header.attributes.is_transactional(),
            control: header.attributes.is_control(),
            log_append_time: (header.attributes.timestamp_type() == TimestampType::LogAppendTime)
                .then_some(header.max_timestamp),
            last_offset_delta: None,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::resealed;

    fn built(options: &FinishOptions, records: &[(i64, Option<&[u8]>)]) -> Bytes {
        let mut builder = BatchBuilder::new(0);
        for (timestamp, key) in records {
            builder
                .append(*timestamp, *key, Some(b"some value, some value"), &[])
                .unwrap();
        }
        builder.finish(options).unwrap().encoded
    }

    fn check(batch: &Bytes, rules: &ValidationRules) -> Result<ValidatedBatch, BatchRefusal> {
        validate_batch(batch.clone(), &mut Codecs::new(), rules)
    }

    /// The batch behind a changed header with a right checksum.
    fn with(batch: &Bytes, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
        let view = RecordBatch::parse(batch.clone()).unwrap();
        view.with_header(&resealed(view.raw_header(), change))
            .unwrap()
            .to_bytes()
    }

    #[test]
    fn good_batches() {
        let records: Vec<_> = (0..2000)
            .map(|i| (1000 + i % 1500, Some(&b"k"[..])))
            .collect();
        for compression in Compression::ALL {
            let batch = built(
                &FinishOptions {
                    compression,
                    ..FinishOptions::default()
                },
                &records,
            );
            let rules = ValidationRules {
                require_keys: true,
                min_timestamp: 1000,
                max_timestamp: 2499,
                ..ValidationRules::default()
            };
            let valid = check(&batch, &rules).unwrap();
            assert_eq!(valid.max_timestamp, 2499);
            assert!(!valid.must_rebuild);
            assert_eq!(valid.batch.to_bytes(), batch);
        }
    }

    #[test]
    fn batches_that_were_built_here() {
        let batch = built(
            &FinishOptions::default(),
            &[(5, None), (9, None), (6, None)],
        );
        let rules = ValidationRules::default();
        let valid = validate_built_batch(&batch, &rules).unwrap().unwrap();
        assert_eq!((valid.max_timestamp, valid.must_rebuild), (9, false));
        // What only the records tell, or what they are refused for one by one, is left to the whole check.
        let others = [
            ValidationRules {
                require_keys: true,
                ..rules
            },
            ValidationRules {
                max_timestamp: 8,
                ..rules
            },
            ValidationRules {
                min_timestamp: 5,
                ..rules
            },
        ];
        for rules in &others {
            assert!(validate_built_batch(&batch, rules).is_none());
        }
        assert!(validate_built_batch(&batch.slice(..batch.len() - 1), &rules).is_none());
        let stamped = ValidationRules {
            log_append_time: true,
            ..others[1]
        };
        assert!(validate_built_batch(&batch, &stamped).unwrap().is_ok());
        // The header is checked as ever.
        let control = with(&batch, |header| {
            header.attributes = header.attributes.with_control(true);
        });
        let refusal = validate_built_batch(&control, &rules).unwrap().unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::InvalidRecord);
    }

    #[test]
    fn refusals_of_headers() {
        let rules = ValidationRules::default();
        let good = built(&FinishOptions::default(), &[(5, None), (6, None)]);
        let invalid: [fn(&mut BatchHeader); 8] = [
            |header| header.base_offset = 1,
            |header| header.record_count = 0,
            |header| header.last_offset_delta = 5,
            |header| header.attributes = header.attributes.with_control(true),
            |header| header.attributes = header.attributes.with_delete_horizon(true),
            |header| header.producer_id = 5,
            |header| (header.record_count, header.last_offset_delta) = (3, 2),
            |header| (header.record_count, header.last_offset_delta) = (1, 0),
        ];
        for (i, change) in invalid.into_iter().enumerate() {
            let refusal = check(&with(&good, change), &rules).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::InvalidRecord, "{i}");
        }
        let stamped = with(&good, |header| {
            header.attributes = header
                .attributes
                .with_timestamp_type(TimestampType::LogAppendTime);
        });
        assert_eq!(
            check(&stamped, &rules).unwrap_err().kind,
            RefusalKind::InvalidTimestamp
        );
        let unknown = with(&good, |header| header.attributes.0 |= 7);
        assert_eq!(
            check(&unknown, &rules).unwrap_err().kind,
            RefusalKind::UnsupportedCompression
        );
        let zstd = with(&good, |header| {
            header.attributes = header.attributes.with_compression(Compression::Zstd);
        });
        let old = ValidationRules {
            allow_zstd: false,
            ..rules
        };
        assert_eq!(
            check(&zstd, &old).unwrap_err().kind,
            RefusalKind::UnsupportedCompression
        );
        let idempotent = with(&good, |header| {
            (header.producer_id, header.base_sequence) = (5, 0);
        });
        assert!(check(&idempotent, &rules).is_ok());
        let legacy = [&good[..16], &[1], &good[17..]].concat();
        assert_eq!(
            check(&Bytes::from(legacy), &rules).unwrap_err().kind,
            RefusalKind::UnsupportedFormat
        );
    }

    #[test]
    fn damage_comes_first() {
        let good = built(&FinishOptions::default(), &[(5, None), (6, None)]);
        // Only the base offset, the leader epoch, the length and the magic lie outside of the checksum.
        for at in 17..good.len() {
            let mut bad = Vec::from(&good[..]);
            bad[at] ^= 0x10;
            let refusal = check(&Bytes::from(bad), &ValidationRules::default()).unwrap_err();
            // What no header can hold is found before the checksum.
            if !matches!(refusal.cause, Some(RecordError::InvalidField(_))) {
                assert_eq!(refusal.kind, RefusalKind::CorruptMessage, "byte {at}");
            }
        }
        for cut in 0..good.len() {
            let refusal = check(&good.slice(..cut), &ValidationRules::default()).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::CorruptMessage, "cut at {cut}");
        }
        let mut bad = Vec::from(&good[..]);
        let value = bad.len() - 2;
        bad[value] ^= 1;
        let trusting = ValidationRules {
            check_crc: false,
            ..ValidationRules::default()
        };
        assert!(check(&Bytes::from(bad), &trusting).is_ok());
    }

    #[test]
    fn single_records_are_named() {
        let keyed = Some(&b"k"[..]);
        let batch = built(
            &FinishOptions::default(),
            &[(100, keyed), (200, None), (-1, keyed), (900, None)],
        );
        let compacted = ValidationRules {
            require_keys: true,
            ..ValidationRules::default()
        };
        let refusal = check(&batch, &compacted).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::InvalidRecord);
        let indexes: Vec<_> = refusal.records.iter().map(|record| record.index).collect();
        assert_eq!(indexes, [1, 3]);
        let windowed = ValidationRules {
            min_timestamp: 150,
            max_timestamp: 800,
            ..ValidationRules::default()
        };
        let refusal = check(&batch, &windowed).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::InvalidTimestamp);
        let indexes: Vec<_> = refusal.records.iter().map(|record| record.index).collect();
        assert_eq!(indexes, [0, 3]);
        let stamped = ValidationRules {
            log_append_time: true,
            ..windowed
        };
        assert!(check(&batch, &stamped).is_ok());
    }

    #[test]
    fn gaps_and_rebuilding() {
        let gapped = |compression| {
            let mut builder = BatchBuilder::new(0);
            for delta in [0, 2, 3] {
                builder
                    .append_with_delta(delta, 7, None, Some(&[b'v'; 500]), &[])
                    .unwrap();
            }
            let finished = builder.finish(&FinishOptions {
                compression,
                producer_id: 4,
                producer_epoch: 1,
                base_sequence: 9,
                transactional: true,
                last_offset_delta: Some(2),
                ..FinishOptions::default()
            });
            finished.unwrap().encoded
        };
        let rules = ValidationRules::default();
        assert_eq!(
            check(&gapped(Compression::None), &rules).unwrap_err().kind,
            RefusalKind::InvalidRecord
        );
        let valid = check(&gapped(Compression::Lz4), &rules).unwrap();
        assert!(valid.must_rebuild);
        let rebuilt = rebuild_batch(
            &valid.batch,
            &mut Codecs::new(),
            Compression::Zstd,
            Some(1),
            Limits::default(),
        )
        .unwrap();
        let header = rebuilt.header;
        assert_eq!(header.attributes.compression(), Ok(Compression::Zstd));
        assert!(header.attributes.is_transactional());
        assert_eq!(
            (
                header.producer_id,
                header.producer_epoch,
                header.base_sequence
            ),
            (4, 1, 9)
        );
        let valid = check(&rebuilt.encoded, &rules).unwrap();
        assert!(!valid.must_rebuild);
    }

    #[test]
    fn bombs_are_refused() {
        let mut builder = BatchBuilder::new(0);
        builder.append(0, None, Some(&[0; 100_000]), &[]).unwrap();
        let bomb = builder
            .finish(&FinishOptions {
                compression: Compression::Gzip,
                ..FinishOptions::default()
            })
            .unwrap()
            .encoded;
        let tight = ValidationRules {
            limits: Limits {
                decompressed_bytes: 50_000,
            },
            ..ValidationRules::default()
        };
        let refusal = check(&bomb, &tight).unwrap_err();
        assert_eq!(
            refusal.cause,
            Some(RecordError::DecompressedTooLarge { limit: 50_000 })
        );
    }
}
