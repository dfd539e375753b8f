//! File names in a partition's directory, as Kafka has them.

use crate::error::LogError;
use alloc::{format, string::String};
use ottla_record::RecordError;

/// Records.
pub const LOG: &str = ".log";
/// Offset index.
pub const INDEX: &str = ".index";
/// Time index.
pub const TIME_INDEX: &str = ".timeindex";
/// Aborted transactions.
pub const TXN_INDEX: &str = ".txnindex";
/// Producer state.
pub const SNAPSHOT: &str = ".snapshot";
/// Leader epochs and their start offsets.
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
/// How far the log is durable, and what its closed segments' indexes must be. Ottla's own; Kafka ignores it.
pub const DURABLE_MARK: &str = "durable-mark";
/// Topic id.
pub const PARTITION_METADATA: &str = "partition.metadata";

/// What stands behind the names of files that are not in use yet, or no more.
pub mod suffix {
    /// Not in use any more: removed after `file.delete.delay.ms`, or when the log is opened.
    pub const DELETED: &str = ".deleted";
    /// Written by a compaction that isn't done.
    pub const CLEANED: &str = ".cleaned";
    /// The work of a compaction that is done, about to take the place of older files.
    pub const SWAP: &str = ".swap";
    /// A small file that is being written.
    pub const TMP: &str = ".tmp";
}

/// The file name that begins with an offset: 20 digits and the suffix.
pub fn file_name(offset: i64, suffix: &str) -> String {
    format!("{offset:020}{suffix}")
}

/// The offset that a file name begins with, if it ends with this suffix.
pub fn offset_of(name: &str, suffix: &str) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The error for a batch that is damaged on storage.
pub(crate) fn damaged_at(path: &str, position: u64, error: RecordError) -> LogError {
    LogError::Corrupt {
        place: format!("{path}, position {position}"),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_back() {
        assert_eq!(file_name(42, LOG), "00000000000000000042.log");
        assert_eq!(offset_of("00000000000000000042.log", LOG), Some(42));
        assert_eq!(offset_of("00000000000000000042.index", LOG), None);
        assert_eq!(offset_of("42.log", LOG), None);
        assert_eq!(offset_of("99999999999999999999.log", LOG), None);
        assert_eq!(offset_of("+0000000000000000042.log", LOG), None);
    }
}
