//! What can be wrong with record bytes.

use core::fmt;

use crate::Compression;

/// Why record bytes could not be read, or a batch could not be built.
///
/// Every malformed, truncated or hostile input ends in one of these; nothing in this crate panics on input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// The bytes end before the structure that they begin: `needed` bytes, `have` are there.
    Truncated {
        /// Bytes that the structure takes.
        needed: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// The magic byte is none that this reader knows (2; 0 and 1 through [`crate::legacy`]).
    UnsupportedMagic(i8),
    /// The batch length field is below the smallest possible batch, or does not match the bytes given.
    InvalidBatchLength(i32),
    /// The checksum in the header differs from that of the bytes.
    CrcMismatch {
        /// The checksum that the header carries.
        expected: u32,
        /// The checksum of the bytes.
        actual: u32,
    },
    /// A variable-length integer runs past its end or over its width.
    InvalidVarint,
    /// A field has a value that no writer may give it; the text names the field.
    InvalidField(&'static str),
    /// A record's length field does not match what the record holds.
    InvalidRecordLength,
    /// The header announces another number of records than there are.
    RecordCountMismatch {
        /// The count in the header.
        expected: i32,
        /// Records found before the bytes ended; for bytes left over, the count in the header.
        found: i32,
    },
    /// A record, or the batch with it, would not fit Kafka's 32-bit lengths.
    TooLarge,
    /// The batch holds no record, and an empty batch was not asked for.
    Empty,
    /// The attributes name a compression codec that does not exist.
    UnknownCompression(u8),
    /// The codec exists, but this build was made without it (cargo feature of the same name).
    CompressionNotBuilt(Compression),
    /// The compressed bytes are damaged; the text says what the codec found.
    CorruptCompression(Compression, &'static str),
    /// The codec could not compress (no memory, or a level outside of its range).
    CompressionFailed(Compression, &'static str),
    /// The compressed bytes hold more than the `limit` that the caller set.
    DecompressedTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A compressed message of a legacy message set is itself inside of a compressed message.
    NestedCompression,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated { needed, have } => {
                write!(f, "truncated: {needed} bytes needed, {have} left")
            }
            Self::UnsupportedMagic(magic) => write!(f, "unsupported record format (magic {magic})"),
            Self::InvalidBatchLength(length) => write!(f, "invalid batch length {length}"),
            Self::CrcMismatch { expected, actual } => {
                write!(
                    f,
                    "checksum mismatch: header says {expected:#010x}, bytes give {actual:#010x}"
                )
            }
            Self::InvalidVarint => f.write_str("malformed variable-length integer"),
            Self::InvalidField(name) => write!(f, "invalid value of field {name}"),
            Self::InvalidRecordLength => f.write_str("record length does not match its contents"),
            Self::RecordCountMismatch { expected, found } => {
                write!(
                    f,
                    "record count mismatch: header says {expected}, found {found}"
                )
            }
            Self::TooLarge => f.write_str("record or batch too large for its 32-bit length"),
            Self::Empty => f.write_str("batch without records"),
            Self::UnknownCompression(id) => write!(f, "unknown compression codec {id}"),
            Self::CompressionNotBuilt(codec) => {
                write!(f, "{codec} compression is not part of this build")
            }
            Self::CorruptCompression(codec, what) => write!(f, "corrupt {codec} data: {what}"),
            Self::CompressionFailed(codec, what) => {
                write!(f, "{codec} compression failed: {what}")
            }
            Self::DecompressedTooLarge { limit } => {
                write!(f, "decompressed records exceed the limit of {limit} bytes")
            }
            Self::NestedCompression => f.write_str("compressed message inside a compressed one"),
        }
    }
}

impl core::error::Error for RecordError {}
