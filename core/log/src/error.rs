//! What can go wrong with a partition's log.

use crate::storage::StorageError;
use alloc::string::String;
use core::fmt;
use ottla_record::RecordError;

/// Why a log could not do what it was asked.
#[derive(Clone, Debug, PartialEq)]
pub enum LogError {
    /// The offset lies below the log's start or beyond its end (Kafka's OFFSET_OUT_OF_RANGE).
    OffsetOutOfRange {
        /// What was asked for.
        offset: i64,
        /// The first offset that is there.
        log_start_offset: i64,
        /// The offset that the next record will get.
        log_end_offset: i64,
    },
    /// The batch is larger than a whole segment may be (Kafka's RECORD_LIST_TOO_LARGE).
    BatchTooLarge {
        /// Bytes of the batch.
        size: usize,
        /// `segment.bytes`.
        limit: u64,
    },
    /// A batch on storage, or one to be appended, is damaged.
    Corrupt {
        /// Where: the file and the position, or what was being done.
        place: String,
        /// What is wrong with it.
        error: RecordError,
    },
    /// A side file is damaged.
    Damaged(String),
    /// A segment has messages of magic 0 or 1, as Kafka wrote them before 0.11; they are whole. The text says where.
    OldFormat(String),
    /// Storage failed. The log takes no more writes.
    Storage(StorageError),
    /// An earlier failure stopped this log for good; the text says which.
    Stopped(String),
}

impl LogError {
    /// Whether the same may be tried again later: the process had no descriptors left. If nothing else has stopped the log
    /// ([`crate::PartitionLog::stopped`]), it is as it was before.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_passing())
    }
}

impl From<StorageError> for LogError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OffsetOutOfRange {
                offset,
                log_start_offset,
                log_end_offset,
            } => {
                write!(
                    f,
                    "offset {offset} is not in the log, which goes from {log_start_offset} to {log_end_offset}"
                )
            }
            Self::BatchTooLarge { size, limit } => {
                write!(
                    f,
                    "a batch of {size} bytes does not fit into a segment of {limit} (segment.bytes)"
                )
            }
            Self::Corrupt { place, error } => write!(f, "{place}: {error}"),
            Self::Damaged(what) => f.write_str(what),
            Self::OldFormat(place) => write!(
                f,
                "{place}: messages of message format v0 or v1 (message.format.version before 0.11), which are not damaged, but can't \
                 be kept here; nothing was changed: let a Kafka that reads them copy the topic, or delete it there"
            ),
            Self::Storage(error) => error.fmt(f),
            Self::Stopped(why) => write!(f, "this log was stopped: {why}"),
        }
    }
}

impl core::error::Error for LogError {}
