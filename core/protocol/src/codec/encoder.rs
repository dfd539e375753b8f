//! Writing: fields go into one buffer, large record chunks stay where they are and are handed on as pieces.

use crate::{Records, Str, Uuid};
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;

/// Record chunks up to this many bytes are copied into the buffer: one more piece for `writev` costs more than that.
const INLINE_CHUNK: usize = 512;

/// Why a message cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// A field is set that the version does not have and that must not be dropped silently.
    NotInVersion {
        /// `Struct.field`
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// A field is null in a version that has no null for it.
    NullNotAllowed {
        /// The field.
        field: &'static str,
    },
    /// A string of more than 32,767 bytes, or an array or byte string of more than 2,147,483,647 elements.
    TooLong,
    /// A version that this crate does not speak.
    UnsupportedVersion {
        /// The message's name.
        message: &'static str,
        /// The version.
        version: i16,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInVersion { field, version } => {
                write!(f, "version {version} has no {field}, which is set")
            }
            Self::NullNotAllowed { field } => write!(f, "{field} must not be null in this version"),
            Self::TooLong => f.write_str("a string, array or byte string is too long"),
            Self::UnsupportedVersion { message, version } => {
                write!(f, "{message} has no version {version}")
            }
        }
    }
}

impl core::error::Error for EncodeError {}

/// Collects an encoded message: a buffer, and shared chunks that belong between its bytes.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    buffer: Vec<u8>,
    /// Chunks in order, each with the buffer position that it stands in front of.
    chunks: Vec<(usize, Bytes)>,
}

impl Encoder {
    /// An empty encoder that reserves nothing yet.
    pub const fn new() -> Self {
        Self {
            buffer: Vec::new(),
            chunks: Vec::new(),
        }
    }

    /// An empty encoder with room for `capacity` bytes besides record chunks.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            buffer: Vec::with_capacity(capacity),
            chunks: Vec::new(),
        }
    }

    /// Bytes written so far, chunks included.
    pub fn len(&self) -> usize {
        self.buffer.len() + self.chunks.iter().map(|(_, c)| c.len()).sum::<usize>()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message's bytes for `writev`, one slice after the other; allocates nothing.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        let parts = self.chunks.iter().flat_map(move |(at, chunk)| {
            let before = &self.buffer[from..*at];
            from = *at;
            [before, &chunk[..]]
        });
        let end = self.chunks.last().map_or(0, |(at, _)| *at);
        parts
            .chain([&self.buffer[end..]])
            .filter(|slice| !slice.is_empty())
    }

    /// The message as pieces that own what they hold, one after the other; record chunks are shared, not copied.
    pub fn into_pieces(self) -> Vec<Bytes> {
        let mut buffer = Bytes::from(self.buffer);
        let mut pieces = Vec::with_capacity(2 * self.chunks.len() + 1);
        let mut from = 0;
        for (at, chunk) in self.chunks {
            if from < at {
                pieces.push(buffer.split_to(at - from));
            }
            pieces.push(chunk);
            from = at;
        }
        if !buffer.is_empty() {
            pieces.push(buffer);
        }
        pieces
    }

    /// The message in one piece; a copy if there are record chunks.
    pub fn into_bytes(self) -> Bytes {
        if self.chunks.is_empty() {
            return self.buffer.into();
        }
        let mut all = Vec::with_capacity(self.len());
        self.slices().for_each(|slice| all.extend_from_slice(slice));
        all.into()
    }

    /// Puts `value` over the four bytes at `at`, which must have been written before any chunk.
    pub(crate) fn patch_i32(&mut self, at: usize, value: i32) {
        if let Some(place) = self.buffer.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }

    /// 0 or 1.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.buffer.push(u8::from(value));
    }

    /// One byte.
    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    /// Two bytes.
    #[inline]
    pub fn i16(&mut self, value: i16) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    /// Four bytes.
    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    /// Eight bytes.
    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    /// Eight bytes, IEEE 754.
    #[inline]
    pub fn f64(&mut self, value: f64) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    /// Sixteen bytes.
    #[inline]
    pub fn uuid(&mut self, value: &Uuid) {
        self.buffer.extend_from_slice(&value.0);
    }

    /// One to five bytes, seven bits each, lowest first.
    #[inline]
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.push(value as u8);
    }

    /// The length of an array or of bytes.
    #[inline]
    fn length(&mut self, len: usize, flexible: bool) -> Result<(), EncodeError> {
        let len = i32::try_from(len).map_err(|_| EncodeError::TooLong)?;
        if flexible {
            self.unsigned_varint(len as u32 + 1);
        } else {
            self.i32(len);
        }
        Ok(())
    }

    /// The null of a string.
    #[inline]
    pub fn null_string(&mut self, flexible: bool) {
        if flexible {
            self.unsigned_varint(0)
        } else {
            self.i16(-1)
        }
    }

    /// The null of bytes or of an array.
    #[inline]
    pub fn null_bytes(&mut self, flexible: bool) {
        if flexible {
            self.unsigned_varint(0)
        } else {
            self.i32(-1)
        }
    }

    /// A string of at most 32,767 bytes.
    #[inline]
    pub fn string(&mut self, value: &Str, flexible: bool) -> Result<(), EncodeError> {
        let bytes = value.as_bytes();
        let len = i16::try_from(bytes.len()).map_err(|_| EncodeError::TooLong)?;
        if flexible {
            self.unsigned_varint(len as u32 + 1);
        } else {
            self.i16(len);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes.
    #[inline]
    pub fn bytes(&mut self, value: &Bytes, flexible: bool) -> Result<(), EncodeError> {
        self.length(value.len(), flexible)?;
        self.buffer.extend_from_slice(value);
        Ok(())
    }

    /// A record set: its length, then its chunks, of which only small ones are copied.
    pub fn records(&mut self, records: &Records, flexible: bool) -> Result<(), EncodeError> {
        self.length(records.len(), flexible)?;
        for chunk in records.chunks() {
            if chunk.len() <= INLINE_CHUNK {
                self.buffer.extend_from_slice(chunk);
            } else {
                self.chunks.push((self.buffer.len(), chunk.clone()));
            }
        }
        Ok(())
    }

    /// An array.
    #[inline]
    pub fn array<T>(
        &mut self,
        items: &[T],
        flexible: bool,
        mut write: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.length(items.len(), flexible)?;
        items.iter().try_for_each(|item| write(self, item))
    }

    /// An array of four-byte integers.
    pub fn i32_array(&mut self, items: &[i32], flexible: bool) -> Result<(), EncodeError> {
        self.length(items.len(), flexible)?;
        self.buffer
            .extend(items.iter().flat_map(|i| i.to_be_bytes()));
        Ok(())
    }

    /// A tagged field: its number, the size of what `write` writes, then that. Record sets never stand in one.
    pub fn tagged(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.unsigned_varint(tag);
        let start = self.buffer.len();
        write(self)?;
        let end = self.buffer.len();
        let size = u32::try_from(end - start).map_err(|_| EncodeError::TooLong)?;
        self.unsigned_varint(size);
        // The size is known only now and belongs in front.
        let size_bytes = self.buffer.len() - end;
        self.buffer[start..].rotate_right(size_bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_and_pieces_are_the_same_bytes() {
        let large = Bytes::from(alloc::vec![1; INLINE_CHUNK + 1]);
        let small = Bytes::from(alloc::vec![2; INLINE_CHUNK]);
        let orders = [
            [&large, &large, &small],
            [&small, &large, &large],
            [&large, &small, &large],
        ];
        for order in orders {
            for (before, after) in [(false, false), (true, true), (false, true)] {
                let mut e = Encoder::new();
                let mut expected = Vec::new();
                if before {
                    e.i16(7);
                    expected.extend_from_slice(&[0, 7]);
                }
                let records: Records = order.into_iter().cloned().collect();
                e.records(&records, false).unwrap();
                expected.extend_from_slice(&(records.len() as i32).to_be_bytes());
                expected.extend_from_slice(&records.to_bytes());
                if after {
                    e.bool(true);
                    expected.push(1);
                }
                assert_eq!(e.len(), expected.len());
                assert_eq!(e.slices().collect::<Vec<_>>().concat(), expected);
                assert!(e.slices().all(|s| !s.is_empty()));
                assert_eq!(e.clone().into_bytes(), expected);
                assert_eq!(e.into_pieces().concat(), expected);
            }
        }
    }

    #[test]
    fn what_a_version_cannot_carry_is_refused_unless_it_does_not_matter() {
        use crate::messages::{FetchRequest, JoinGroupRequest, MetadataRequest};
        use crate::{Message, Request};

        let metadata = MetadataRequest {
            topics: None,
            ..Default::default()
        };
        let null = EncodeError::NullNotAllowed { field: "topics" };
        assert_eq!(metadata.encode(0, &mut Encoder::new()), Err(null));
        metadata.encode(1, &mut Encoder::new()).unwrap();

        let static_member = JoinGroupRequest {
            group_instance_id: Some("i".into()),
            ..Default::default()
        };
        let field = "JoinGroupRequest.group_instance_id";
        let refused = EncodeError::NotInVersion { field, version: 4 };
        assert_eq!(static_member.encode(4, &mut Encoder::new()), Err(refused));
        static_member.encode(5, &mut Encoder::new()).unwrap();

        let rack = FetchRequest {
            rack_id: "r".into(),
            replica_id: -1,
            ..Default::default()
        };
        rack.encode(4, &mut Encoder::new()).unwrap();

        let version = EncodeError::UnsupportedVersion {
            message: "FetchRequest",
            version: 3,
        };
        assert_eq!(
            Request::from(rack).encode(3, &mut Encoder::new()),
            Err(version)
        );
    }

    #[test]
    fn strings_are_at_most_32767_bytes() {
        for flexible in [false, true] {
            let mut text = alloc::string::String::from_utf8(alloc::vec![b'x'; 32_767]).unwrap();
            Encoder::new()
                .string(&text.as_str().into(), flexible)
                .unwrap();
            text.push('x');
            assert_eq!(
                Encoder::new().string(&text.into(), flexible),
                Err(EncodeError::TooLong)
            );
        }
    }
}
