//! What the generated codecs are made of: the decoder, the encoder, their errors, and the trait of every message.

mod decoder;
mod encoder;

#[cfg(test)]
pub(crate) use decoder::reserved;
pub use decoder::{DecodeError, Decoder};
pub use encoder::{EncodeError, Encoder};

use bytes::Bytes;

/// A request, a response or a record of an internal topic.
pub trait Message: Sized {
    /// Kafka's name of the schema.
    const NAME: &'static str;
    /// Lowest version that this crate reads and writes.
    const MIN_VERSION: i16;
    /// Highest version that this crate reads and writes.
    const MAX_VERSION: i16;

    /// About how many bytes the encoded body takes, record bytes left out.
    fn size_hint(&self) -> usize;

    /// Writes the body as `version` has it.
    ///
    /// # Errors
    /// A version out of range; a field that is set, matters, and that the version cannot carry; a null where the version
    /// has none; a string of more than 32,767 bytes.
    fn encode(&self, version: i16, e: &mut Encoder) -> Result<(), EncodeError>;

    /// Reads a body of `version`. Strings, bytes and records share the decoder's frame. What follows stays unread.
    fn decode(version: i16, d: &mut Decoder) -> Result<Self, DecodeError>;

    /// Whether this crate writes `version`.
    fn check_encode(version: i16) -> Result<(), EncodeError> {
        if (Self::MIN_VERSION..=Self::MAX_VERSION).contains(&version) {
            return Ok(());
        }
        Err(EncodeError::UnsupportedVersion {
            message: Self::NAME,
            version,
        })
    }

    /// Whether this crate reads `version`.
    fn check_decode(version: i16) -> Result<(), DecodeError> {
        if (Self::MIN_VERSION..=Self::MAX_VERSION).contains(&version) {
            return Ok(());
        }
        Err(DecodeError::UnsupportedVersion { version })
    }
}

/// A message that stands alone, behind an `i16` with its version: records of internal topics, and what group members
/// tell each other.
pub trait VersionedMessage: Message {
    /// Whether a version that is too new is read as if it were the newest known one. Kafka does so where members of
    /// different ages have to understand each other.
    const NEWER_AS_LATEST: bool;

    /// The version and the body.
    fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut e = Encoder::with_capacity(2 + self.size_hint());
        e.i16(version);
        self.encode(version, &mut e)?;
        Ok(e.into_bytes())
    }

    /// Reads the version, then the body.
    fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut d = Decoder::new(bytes);
        let version = d.i16()?;
        let known = if Self::NEWER_AS_LATEST {
            version.min(Self::MAX_VERSION)
        } else {
            version
        };
        Self::decode(known, &mut d)
    }
}
