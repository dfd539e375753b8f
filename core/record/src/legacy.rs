//! Message sets of magic 0 and 1, which old logs and old brokers may still hold. Read-only.

use bytes::Bytes;

use crate::{Limits, RecordBatch, RecordError};

/// Smallest value of a message's size field.
pub(crate) fn min_message_len(magic: i8) -> usize {
    // Checksum, magic, attributes, timestamp from magic 1 on, key length, value length.
    if magic == 0 { 14 } else { 22 }
}

/// The entry (message with offset and size) as a batch of magic 2.
pub(crate) fn to_batch(entry: Bytes, limits: Limits) -> Result<RecordBatch, RecordError> {
    let _ = (entry, limits);
    Err(RecordError::UnsupportedMagic(1))
}
