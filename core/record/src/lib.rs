//! Kafka record batches: building, viewing, iterating, checking, compressing.
//!
//! Batches of magic 2 are read and written, message sets of magic 0 and 1 are only read. The crate knows bytes, not where
//! they come from: it has no clock, no file, no thread. `docs/internals/record.md` has the format and the measurements.
//!
//! * [`BatchBuilder`] encodes records straight into the buffer that later leaves as a batch.
//! * [`Batches`] finds the batches in a rope of chunks, [`RecordBatch`] is one of them, [`RecordIter`] lends its records.
//! * [`validate_batch`] is what a leader checks before it appends; [`header`] has the patches that it makes then.
//! * [`control`] has the markers that end transactions, [`legacy`] the old formats.
//!
//! Whatever the bytes are, the answer is a value or a [`RecordError`]: no panic, and no memory that the input's size and
//! the caller's [`Limits`] don't justify.
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod attributes;
mod batch;
mod builder;
mod compression;
pub mod control;
mod crc;
mod error;
pub mod header;
pub mod legacy;
mod now;
mod records;
mod validate;
mod varint;

pub use attributes::{Attributes, Compression, TimestampType, UnknownCompressionName};
pub use batch::{Batches, Limits, RecordBatch};
pub use builder::{AppendedAt, BatchBuilder, FinishOptions, FinishedBatch, MAX_BATCH_LEN};
pub use compression::Codecs;
pub use crc::{crc32c, crc32c_append, crc32c_combine, crc32c_shift};
pub use error::RecordError;
pub use header::{BatchHeader, HEADER_LEN, HeaderBytes, LOG_OVERHEAD, MAGIC_V2, add_sequence};
pub use now::Now;
pub use records::{Header, Headers, RecordIter, RecordRef, Records, range_in};
pub use validate::{
    BatchRefusal, RefusalKind, RefusedRecord, ValidatedBatch, ValidationRules, rebuild_batch,
    validate_batch, validate_built_batch,
};
