//! The way of a batch into a log as its leader takes it: Kafka's checks (`LogValidator`), what is rewritten, the
//! producer's sequence; also for the records of the group coordinator.

use alloc::{format, string::String, vec::Vec};

use bytes::Bytes;
use ottla_log::{LogError, ProducerCheck};
use ottla_protocol::{ErrorCode, Records};
use ottla_record::{
    BatchBuilder, BatchHeader, Compression, FinishOptions, Now, RecordBatch, RecordError,
    TimestampType,
};

use crate::{
    Broker, Durability,
    groups::{AppendToken, CoordinatorRecord},
    partition::{CommitWaiter, PartitionIndex},
    topic_config::{TopicCompression, TopicConfig},
    topics::OFFSETS_TOPIC,
};

/// Produce knows zstd from this version on.
const PRODUCE_WITH_ZSTD: i16 = 7;

/// A batch that is in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    /// Exclusive end: it is committed when the high watermark is here.
    pub(crate) end: i64,
    /// -1 with CreateTime.
    pub(crate) log_append_time: i64,
    pub(crate) log_start_offset: i64,
}

/// Why a batch was refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    /// The records at fault, by their number in the batch.
    pub(crate) records: Vec<(i32, &'static str)>,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            records: Vec::new(),
        }
    }

    pub(crate) fn bare(code: ErrorCode) -> Self {
        Self::new(code, String::new())
    }
}

impl Broker {
    /// Appends what a client produced. A batch that is there already (an idempotent producer's repetition) gives the
    /// offsets it has.
    pub(crate) fn append_produced(
        &mut self,
        now: Now,
        index: PartitionIndex,
        version: i16,
        records: Records,
    ) -> Result<Appended, Refusal> {
        let partition = self
            .partitions
            .get_mut(index)
            .ok_or(Refusal::bare(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))?;
        partition.check_usable().map_err(Refusal::bare)?;
        let config = match self.topics.get(partition.topic) {
            Some(topic) => &topic.config,
            None => return Err(Refusal::bare(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
        };
        let (mut batch, mut header) = single_batch(version, records)?;
        check_header(&header, config)?;
        let compression = header.attributes.compression().map_err(refused)?;
        let target = match config.compression {
            TopicCompression::Producer => compression,
            TopicCompression::Codec(codec) => codec,
        };
        let limit = self.config.max_decompressed_bytes;
        check_records(&mut batch, &mut header, config, now, limit)?;

        match partition.log.producers().check(&header) {
            ProducerCheck::Ok => {}
            ProducerCheck::Duplicate {
                base_offset,
                last_offset,
                timestamp,
            } => {
                return Ok(Appended {
                    base_offset,
                    end: last_offset + 1,
                    log_append_time: if config.log_append_time {
                        timestamp
                    } else {
                        -1
                    },
                    log_start_offset: partition.log.log_start_offset(),
                });
            }
            ProducerCheck::OutOfOrder => {
                return Err(Refusal::new(
                    ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
                    format!(
                        "Out of order sequence number for producer {}",
                        header.producer_id
                    ),
                ));
            }
            ProducerCheck::Fenced => {
                return Err(Refusal::new(
                    ErrorCode::INVALID_PRODUCER_EPOCH,
                    format!(
                        "Epoch of producer {} is older than the last seen epoch",
                        header.producer_id
                    ),
                ));
            }
        }

        if target != compression {
            (batch, header) = recompress(batch, target, config, limit)?;
            check_size(&header, config)?;
        }
        if config.log_append_time {
            header = header.with_log_append_time(now.wall_ms);
        }
        self.append_batch(now, index, batch, &header)
            .map_err(|code| Refusal::new(code, "the batch could not be written"))
    }

    /// Appends records of the group coordinator as one batch, and tells it when they are committed, or why they never will be.
    pub(crate) fn append_for_group(
        &mut self,
        now: Now,
        partition: i32,
        records: &[CoordinatorRecord],
        token: AppendToken,
    ) {
        match self.try_append_for_group(now, partition, records) {
            Ok((index, end)) => self.wait_for_commit(index, end, CommitWaiter::Group(token)),
            Err(code) => self.groups.handle_appended(now, token, Err(code)),
        }
    }

    fn try_append_for_group(
        &mut self,
        now: Now,
        partition: i32,
        records: &[CoordinatorRecord],
    ) -> Result<(PartitionIndex, i64), ErrorCode> {
        self.ensure_offsets_topic(now)?;
        let topic = self
            .topics
            .by_name(OFFSETS_TOPIC)
            .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        let index = topic
            .partition(partition)
            .ok_or(ErrorCode::NOT_COORDINATOR)?;
        self.partitions
            .get(index)
            .ok_or(ErrorCode::NOT_COORDINATOR)?
            .check_usable()?;

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
            .finish(FinishOptions::default())
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
        let bytes = header.size_in_bytes();
        let log_append_time = match header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => header.max_timestamp,
            TimestampType::CreateTime => -1,
        };
        match partition
            .log
            .append(batch, header, partition.leader_epoch, now)
        {
            Ok(appended) => {
                self.note_appended(now, index, bytes);
                Ok(Appended {
                    base_offset: appended.base_offset,
                    end: appended.last_offset + 1,
                    log_append_time,
                    log_start_offset: appended.log_start_offset,
                })
            }
            Err(LogError::RecordListTooLarge { .. }) => Err(ErrorCode::RECORD_LIST_TOO_LARGE),
            Err(_) => {
                self.fail_partition(index);
                Err(ErrorCode::KAFKA_STORAGE_ERROR)
            }
        }
    }
}

/// The one batch of a produced partition. Kafka from Produce v3 on takes no more than one, of magic 2.
fn single_batch(version: i16, records: Records) -> Result<(Bytes, BatchHeader), Refusal> {
    if records.is_empty() {
        return Err(Refusal::new(
            ErrorCode::INVALID_RECORD,
            format!(
                "Produce requests with version {version} must have at least one record batch per partition"
            ),
        ));
    }
    let mut chunks = records.into_chunks();
    let batch = match (chunks.next(), chunks.next()) {
        (Some(only), None) => only,
        (first, second) => first
            .into_iter()
            .chain(second)
            .chain(chunks)
            .collect::<Records>()
            .to_bytes(),
    };
    let header = BatchHeader::parse(&batch).map_err(refused)?;
    if batch.len() < header.size_in_bytes() {
        return Err(Refusal::new(
            ErrorCode::CORRUPT_MESSAGE,
            "the batch is cut off",
        ));
    }
    if batch.len() > header.size_in_bytes() {
        return Err(Refusal::new(
            ErrorCode::INVALID_RECORD,
            format!(
                "Produce requests with version {version} are only allowed to contain exactly one record batch per partition"
            ),
        ));
    }
    let zstd = header.attributes.compression() == Ok(Compression::Zstd);
    if zstd && version < PRODUCE_WITH_ZSTD {
        return Err(Refusal::new(
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            format!(
                "Produce requests with version {version} are not allowed to use ZStandard compression"
            ),
        ));
    }
    Ok((batch, header))
}

/// What the header alone tells.
fn check_header(header: &BatchHeader, config: &TopicConfig) -> Result<(), Refusal> {
    let invalid = |why: &str| Err(Refusal::new(ErrorCode::INVALID_RECORD, why));
    if header.base_offset != 0 {
        return invalid("the base offset of a produced batch must be 0");
    }
    check_size(header, config)?;
    if header.record_count <= 0 {
        return invalid("a produced batch must have records");
    }
    if header.attributes.is_control() {
        return invalid("clients are not allowed to write control records");
    }
    if header.attributes.is_transactional() {
        return Err(Refusal::new(
            ErrorCode::INVALID_TXN_STATE,
            "transactions are not supported yet, so none can be open",
        ));
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return invalid("a batch with a producer id must have a base sequence");
    }
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime && !config.log_append_time
    {
        return Err(Refusal::new(
            ErrorCode::INVALID_TIMESTAMP,
            "the batch says LogAppendTime, but the topic's message.timestamp.type is CreateTime",
        ));
    }
    Ok(())
}

fn check_size(header: &BatchHeader, config: &TopicConfig) -> Result<(), Refusal> {
    let (size, max) = (header.size_in_bytes(), config.max_message_bytes);
    if size > max as usize {
        return Err(Refusal::new(
            ErrorCode::MESSAGE_TOO_LARGE,
            format!(
                "The record batch size is {size} bytes, which exceeds the maximum configured value of {max}"
            ),
        ));
    }
    Ok(())
}

/// What Kafka answers to bytes that can't be read.
fn refused(error: RecordError) -> Refusal {
    let code = match error {
        RecordError::UnsupportedMagic(_)
        | RecordError::InvalidField(_)
        | RecordError::InvalidRecordLength
        | RecordError::InvalidVarint
        | RecordError::RecordCountMismatch { .. } => ErrorCode::INVALID_RECORD,
        RecordError::CompressionNotBuilt(_) => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        _ => ErrorCode::CORRUPT_MESSAGE,
    };
    Refusal::new(code, format!("{error}"))
}
