//! The way of a batch into a log as its leader takes it: Kafka's checks (`LogValidator`), what is rewritten, the
//! producer's sequence; also for the records of the coordinators.

use alloc::{format, string::String, vec::Vec};

use bytes::Bytes;
use ottla_log::{LogError, SequenceCheck};
use ottla_protocol::{ErrorCode, Records};
use ottla_record::{
    BatchBuilder, BatchHeader, BatchRefusal, Codecs, FinishOptions, Limits, Now, RecordError,
    RefusalKind, RefusedRecord, ValidatedBatch, ValidationRules, header::with_max_timestamp,
    rebuild_batch, validate_batch, validate_built_batch,
};

use crate::{
    Broker,
    groups::{AppendToken, CoordinatorRecord},
    partition::{CommitWaiter, Partition, PartitionIndex},
    topic_config::{TopicCompression, TopicConfig},
    topics::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC},
    transactions::TransactionToken,
};

/// Produce knows zstd from this version on.
const PRODUCE_WITH_ZSTD: i16 = 7;

/// From this version of Produce on clients are of transaction version 2 (KIP-890).
pub(crate) const PRODUCE_WITH_EPOCH_BUMP: i16 = 12;

/// A batch that is in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    /// Exclusive end: it is committed when the high watermark is here.
    pub(crate) end: i64,
    /// -1 with CreateTime.
    pub(crate) log_append_time: i64,
    pub(crate) log_start_offset: i64,
    /// What it added to the log: 0 for a repetition.
    pub(crate) bytes: usize,
}

/// Why a batch was refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    /// The records at fault, by their number in the batch.
    pub(crate) records: Vec<RefusedRecord>,
    /// Found out before the log was looked at: such an answer doesn't tell where the log begins, as in Kafka.
    is_early: bool,
    /// Where the log begins, or -1.
    pub(crate) log_start_offset: i64,
    /// The log can't be trusted any more: the partition has failed.
    pub(crate) fails_partition: bool,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            records: Vec::new(),
            is_early: false,
            log_start_offset: -1,
            fails_partition: false,
        }
    }

    fn early(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            is_early: true,
            ..Self::new(code, message)
        }
    }

    pub(crate) fn bare(code: ErrorCode) -> Self {
        Self::early(code, String::new())
    }

    /// Whether the batch came as far as the log, where Kafka counts it (`TotalProduceRequestsPerSec`).
    pub(crate) fn came_to_the_log(&self) -> bool {
        let is_the_logs = matches!(
            self.code,
            ErrorCode::KAFKA_STORAGE_ERROR
                | ErrorCode::MESSAGE_TOO_LARGE
                | ErrorCode::RECORD_LIST_TOO_LARGE
        );
        !self.is_early || is_the_logs
    }

    /// Whether Kafka counts it as failed (`FailedProduceRequestsPerSec`): not what its ReplicaManager takes for an error that is known.
    pub(crate) fn is_failure(&self) -> bool {
        let is_known = matches!(
            self.code,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                | ErrorCode::NOT_LEADER_OR_FOLLOWER
                | ErrorCode::MESSAGE_TOO_LARGE
                | ErrorCode::RECORD_LIST_TOO_LARGE
                | ErrorCode::CORRUPT_MESSAGE
                | ErrorCode::KAFKA_STORAGE_ERROR
        );
        self.came_to_the_log() && !is_known
    }
}

/// What counts for the batches of one produce request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProduceRules {
    pub(crate) now: Now,
    /// The request's.
    pub(crate) version: i16,
    /// The request names a transactional id.
    pub(crate) is_transactional: bool,
    pub(crate) limits: Limits,
}

impl Partition {
    /// Appends what a client produced: the partition's part of it, for which nothing else of the broker is needed. The broker is told
    /// afterwards, by [`Broker::note_appended`] and [`Broker::fail_partition`]. A batch that is there already (an idempotent
    /// producer's repetition) gives the offsets it has. Those of a transaction are taken only if the request is one of a
    /// transactional producer; whether the partition is in the transaction was asked before.
    pub(crate) fn append_produced(
        &mut self,
        config: &TopicConfig,
        codecs: &mut Codecs,
        rules: &ProduceRules,
        records: Records,
    ) -> Result<Appended, Refusal> {
        let log_start_offset = self.log.log_start_offset();
        self.try_append_produced(config, codecs, rules, records)
            .map_err(|refusal| match refusal.is_early {
                true => refusal,
                false => Refusal {
                    log_start_offset,
                    ..refusal
                },
            })
    }

    fn try_append_produced(
        &mut self,
        config: &TopicConfig,
        codecs: &mut Codecs,
        produce: &ProduceRules,
        records: Records,
    ) -> Result<Appended, Refusal> {
        self.check_usable().map_err(Refusal::bare)?;
        let ProduceRules {
            now,
            version,
            limits,
            ..
        } = *produce;
        let vouched = records.is_vouched();
        let batch = single_batch(version, records)?;
        let rules = ValidationRules {
            require_keys: config.cleanup_compact,
            log_append_time: config.log_append_time,
            min_timestamp: now.wall_ms.saturating_sub(config.timestamp_before_max_ms),
            max_timestamp: now.wall_ms.saturating_add(config.timestamp_after_max_ms),
            allow_zstd: version >= PRODUCE_WITH_ZSTD,
            limits,
            ..ValidationRules::default()
        };
        check_size(batch.len(), config)?;
        let built_here = vouched.then(|| validate_built_batch(&batch, &rules));
        let valid = match built_here.flatten() {
            Some(valid) => valid?,
            None => validate_batch(batch.clone(), codecs, &rules)?,
        };
        let header = *valid.batch.header();
        if header.attributes.is_transactional() {
            if !produce.is_transactional {
                return Err(Refusal::early(
                    ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                    "the batch is part of a transaction, but the request names no transactional id",
                ));
            }
            let known = self.log.producers().get(header.producer_id);
            if version >= PRODUCE_WITH_EPOCH_BUMP && known.is_none() && header.base_sequence != 0 {
                // With each transaction the epoch rises and sequences begin anew: the first batch is missing.
                return Err(Refusal::new(
                    ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
                    format!(
                        "Out of order sequence number for producer {}: {} came as its first here, 0 was expected",
                        header.producer_id, header.base_sequence
                    ),
                ));
            }
        }

        match self.log.producers().check(&header) {
            SequenceCheck::Accept => {}
            SequenceCheck::Duplicate {
                base_offset,
                timestamp,
            } => {
                return Ok(Appended {
                    base_offset,
                    end: base_offset + i64::from(header.last_offset_delta) + 1,
                    // As Kafka has it: what the batch's newest record says, also with CreateTime.
                    log_append_time: timestamp,
                    log_start_offset: self.log.log_start_offset(),
                    bytes: 0,
                });
            }
            SequenceCheck::OutOfOrder { expected } => {
                return Err(Refusal::new(
                    ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
                    format!(
                        "Out of order sequence number for producer {}: {} came, {expected} was expected",
                        header.producer_id, header.base_sequence
                    ),
                ));
            }
            SequenceCheck::InTransaction => {
                return Err(Refusal::new(
                    ErrorCode::INVALID_TXN_STATE,
                    format!(
                        "Producer {} has a transaction open here, and the batch is not part of it",
                        header.producer_id
                    ),
                ));
            }
            SequenceCheck::Fenced { current_epoch } => {
                return Err(Refusal::new(
                    ErrorCode::INVALID_PRODUCER_EPOCH,
                    format!(
                        "Epoch {} of producer {} is older than the last seen epoch {current_epoch}",
                        header.producer_epoch, header.producer_id
                    ),
                ));
            }
        }

        let (batch, header) = rewritten(batch, valid, config, codecs, limits)?;
        self.append_batch(now, batch, &header)
            .map_err(|error| Refusal {
                fails_partition: fails_partition(&error),
                ..Refusal::new(code_of(&error), "the batch could not be written")
            })
    }

    /// Writes a checked batch.
    fn append_batch(
        &mut self,
        now: Now,
        batch: Bytes,
        header: &BatchHeader,
    ) -> Result<Appended, LogError> {
        let appended = self.log.append(batch, header, self.leader_epoch, now)?;
        Ok(Appended {
            base_offset: appended.base_offset,
            end: appended.last_offset + 1,
            log_append_time: appended.log_append_time,
            log_start_offset: appended.log_start_offset,
            bytes: header.size_in_bytes(),
        })
    }
}

/// What a client is told of a log's error at an append.
fn code_of(error: &LogError) -> ErrorCode {
    match error {
        LogError::BatchTooLarge { .. } => ErrorCode::RECORD_LIST_TOO_LARGE,
        _ => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// Whether the partition is to answer `KAFKA_STORAGE_ERROR` from now on. Not for want of descriptors: then nothing was written, and
/// who tries again may succeed. Should the log have been stopped all the same, that will be told by the next append.
fn fails_partition(error: &LogError) -> bool {
    !(matches!(error, LogError::BatchTooLarge { .. }) || error.is_passing())
}

impl Broker {
    /// Appends records of the group coordinator as one batch, and tells it when they are committed, or why they never will be.
    pub(crate) fn append_for_group(
        &mut self,
        now: Now,
        partition: i32,
        records: &[CoordinatorRecord],
        producer: Option<(i64, i16)>,
        token: AppendToken,
    ) {
        match self.try_append_for_group(now, partition, records, producer) {
            Ok((index, end)) => self.wait_for_commit(index, end, CommitWaiter::Group(token)),
            Err(code) => self.groups.handle_appended(now, token, Err(code)),
        }
    }

    fn try_append_for_group(
        &mut self,
        now: Now,
        partition: i32,
        records: &[CoordinatorRecord],
        producer: Option<(i64, i16)>,
    ) -> Result<(PartitionIndex, i64), ErrorCode> {
        self.ensure_offsets_topic(now)?;
        self.append_records(now, OFFSETS_TOPIC, partition, records, producer)
    }

    /// Appends a record of the transaction coordinator, and tells it when it is committed, or why it never will be.
    pub(crate) fn append_for_transaction(
        &mut self,
        now: Now,
        partition: i32,
        record: CoordinatorRecord,
        token: TransactionToken,
    ) {
        let appended = self.ensure_transactions_topic(now).and_then(|_| {
            self.append_for_coordinator(now, TRANSACTIONS_TOPIC, partition, &[record])
        });
        match appended {
            Ok((index, end)) => self.wait_for_commit(index, end, CommitWaiter::Transaction(token)),
            Err(code) => self.transactions.handle_appended(now, token, Err(code)),
        }
    }

    /// Appends records as one batch to a partition of an internal topic, which is there: the partition, and the offset at which
    /// its high watermark must be for them to be committed.
    pub(crate) fn append_for_coordinator(
        &mut self,
        now: Now,
        topic: &str,
        partition: i32,
        records: &[CoordinatorRecord],
    ) -> Result<(PartitionIndex, i64), ErrorCode> {
        self.append_records(now, topic, partition, records, None)
    }

    /// The same, as part of the transaction of a producer if there is one.
    fn append_records(
        &mut self,
        now: Now,
        topic: &str,
        partition: i32,
        records: &[CoordinatorRecord],
        producer: Option<(i64, i16)>,
    ) -> Result<(PartitionIndex, i64), ErrorCode> {
        let topic = self
            .topics
            .by_name(topic)
            .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        let index = topic
            .partition(partition)
            .ok_or(ErrorCode::NOT_COORDINATOR)?;
        let partition = self
            .partitions
            .get(index)
            .ok_or(ErrorCode::NOT_COORDINATOR)?;
        partition.check_usable()?;
        let mut options = FinishOptions::default();
        if let Some((producer_id, producer_epoch)) = producer {
            let known = partition.log.producers().get(producer_id);
            if known.is_some_and(|known| known.epoch > producer_epoch) {
                return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
            }
            // As Kafka writes them: every batch with sequence 0, which nobody checks.
            options = FinishOptions {
                producer_id,
                producer_epoch,
                base_sequence: 0,
                transactional: true,
                ..options
            };
        }

        let size: usize = records
            .iter()
            .map(|r| r.key.len() + r.value.as_ref().map_or(0, Bytes::len) + 24)
            .sum();
        let mut builder = BatchBuilder::new(ottla_record::HEADER_LEN + size);
        for record in records {
            builder
                .append(now.wall_ms, Some(&record.key), record.value.as_deref(), &[])
                .map_err(|_| ErrorCode::MESSAGE_TOO_LARGE)?;
        }
        let finished = builder
            .finish(&options)
            .map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
        let header =
            BatchHeader::parse(&finished.encoded).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
        let max = topic.config.max_message_bytes as usize;
        if header.size_in_bytes() > max {
            return Err(ErrorCode::MESSAGE_TOO_LARGE);
        }
        let appended = self.append_batch(now, index, finished.encoded, &header)?;
        Ok((index, appended.end))
    }

    /// Writes a checked batch. A storage error stops the partition.
    fn append_batch(
        &mut self,
        now: Now,
        index: PartitionIndex,
        batch: Bytes,
        header: &BatchHeader,
    ) -> Result<Appended, ErrorCode> {
        let partition = self
            .partitions
            .get_mut(index)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        partition.produce_requests += 1;
        match partition.append_batch(now, batch, header) {
            Ok(appended) => {
                self.note_appended(now, index, appended.bytes);
                Ok(appended)
            }
            Err(error) => {
                if fails_partition(&error) {
                    self.fail_partition(index);
                }
                Err(code_of(&error))
            }
        }
    }
}

/// The one batch of a produced partition. Kafka from Produce v3 on takes no more than one, of magic 2.
fn single_batch(version: i16, records: Records) -> Result<Bytes, Refusal> {
    let none = || {
        Refusal::early(
            ErrorCode::INVALID_RECORD,
            format!(
                "Produce requests with version {version} must have at least one record batch per partition"
            ),
        )
    };
    if records.is_empty() {
        return Err(none());
    }
    // Free where there is one chunk, and from clients there is.
    let batch = records.to_bytes();
    match BatchHeader::parse(&batch).map(|header| header.size_in_bytes()) {
        Ok(size) if size < batch.len() => Err(Refusal::early(
            ErrorCode::INVALID_RECORD,
            format!(
                "Produce requests with version {version} are only allowed to contain exactly one record batch per partition"
            ),
        )),
        // Less than it says: there is no batch at all in what came.
        Ok(size) if size > batch.len() => Err(none()),
        Err(RecordError::Truncated { .. }) => Err(none()),
        Err(RecordError::UnsupportedMagic(magic)) if magic > 2 => Err(Refusal::early(
            ErrorCode::CORRUPT_MESSAGE,
            format!("there is no such record format as {magic}"),
        )),
        Err(RecordError::UnsupportedMagic(magic)) => Err(Refusal::early(
            ErrorCode::INVALID_RECORD,
            format!(
                "Produce requests with version {version} are only allowed to contain record batches with magic version 2, not {magic}"
            ),
        )),
        _ => Ok(batch),
    }
}

fn check_size(size: usize, config: &TopicConfig) -> Result<(), Refusal> {
    let max = config.max_message_bytes;
    if size > max as usize {
        return Err(Refusal::early(
            ErrorCode::MESSAGE_TOO_LARGE,
            format!(
                "The record batch size is {size} bytes, which exceeds the maximum configured value of {max}"
            ),
        ));
    }
    // As in Kafka before the sequence is looked at, so that a batch which can never be written gets the same answer each time.
    let segment = config.segment_bytes;
    if size > segment as usize {
        return Err(Refusal::early(
            ErrorCode::RECORD_LIST_TOO_LARGE,
            format!(
                "The record batch size is {size} bytes, more than a segment may have ({segment})"
            ),
        ));
    }
    Ok(())
}

/// What the leader changes: the codec where the topic wants another one, append times, a wrong maximum timestamp. Where
/// it is the header alone, the records are not touched.
fn rewritten(
    batch: Bytes,
    valid: ValidatedBatch,
    config: &TopicConfig,
    codecs: &mut Codecs,
    limits: Limits,
) -> Result<(Bytes, BatchHeader), Refusal> {
    let header = *valid.batch.header();
    let compression = header.attributes.compression().unwrap_or_default();
    let target = match config.compression {
        TopicCompression::Producer => compression,
        TopicCompression::Codec(codec) => codec,
    };
    let (batch, header, raw) = if target != compression || valid.must_rebuild {
        let level = config.compression_level(target);
        let rebuilt =
            rebuild_batch(&valid.batch, codecs, target, level, limits).map_err(|error| {
                Refusal::new(
                    ErrorCode::UNKNOWN_SERVER_ERROR,
                    format!("the batch could not be compressed: {error}"),
                )
            })?;
        check_size(rebuilt.encoded.len(), config)?;
        (rebuilt.encoded, rebuilt.header, rebuilt.header.to_bytes())
    } else {
        (batch, header, *valid.batch.raw_header())
    };
    let patched = if header.max_timestamp != valid.max_timestamp {
        with_max_timestamp(&raw, valid.max_timestamp)
    } else {
        return Ok((batch, header));
    };
    match BatchHeader::parse(&patched) {
        Ok(header) => Ok((batch, header)),
        Err(error) => Err(Refusal::new(
            ErrorCode::UNKNOWN_SERVER_ERROR,
            format!("{error}"),
        )),
    }
}

impl From<BatchRefusal> for Refusal {
    fn from(refusal: BatchRefusal) -> Self {
        Self {
            code: match refusal.kind {
                RefusalKind::CorruptMessage => ErrorCode::CORRUPT_MESSAGE,
                RefusalKind::InvalidRecord => ErrorCode::INVALID_RECORD,
                RefusalKind::InvalidTimestamp => ErrorCode::INVALID_TIMESTAMP,
                RefusalKind::UnsupportedCompression => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
                RefusalKind::UnsupportedFormat => ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT,
            },
            message: format!("{refusal}"),
            records: refusal.records,
            is_early: refusal.kind == RefusalKind::CorruptMessage,
            log_start_offset: -1,
            fails_partition: false,
        }
    }
}
