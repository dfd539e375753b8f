//! Reading: every length is checked against what is left of the frame before anything is reserved for it.

use crate::{Records, Str, Uuid};
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;

/// Why bytes are not the message that they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The frame ends before the message does, or a length reaches beyond its end.
    Truncated,
    /// A negative length, one that is not allowed, or a null where none may be.
    InvalidLength,
    /// A variable-length integer of more than five bytes.
    InvalidVarint,
    /// A string that is not UTF-8.
    InvalidUtf8,
    /// A frame larger than its reader accepts.
    FrameTooLarge {
        /// The size that the frame claims, in bytes.
        size: i32,
    },
    /// An API that this crate does not speak.
    UnknownApiKey {
        /// Its number.
        api_key: i16,
    },
    /// A version that this crate does not speak.
    UnsupportedVersion {
        /// The version.
        version: i16,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the message ends too early"),
            Self::InvalidLength => f.write_str("a length is not valid"),
            Self::InvalidVarint => f.write_str("a variable-length integer is too long"),
            Self::InvalidUtf8 => f.write_str("a string is not UTF-8"),
            Self::FrameTooLarge { size } => write!(f, "a frame of {size} bytes is not accepted"),
            Self::UnknownApiKey { api_key } => write!(f, "unknown API key {api_key}"),
            Self::UnsupportedVersion { version } => write!(f, "unsupported version {version}"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// A cursor over a frame. What it hands out shares the frame's memory.
#[derive(Clone, Debug)]
pub struct Decoder {
    frame: Bytes,
    at: usize,
}

impl Decoder {
    /// Starts at the beginning of `frame`.
    pub fn new(frame: Bytes) -> Self {
        Self { frame, at: 0 }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.frame.len() - self.at
    }

    /// All bytes not yet read.
    pub fn rest(&self) -> Bytes {
        self.frame.slice(self.at..)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.frame[self.at..]
            .first_chunk::<N>()
            .ok_or(DecodeError::Truncated)?;
        self.at += N;
        Ok(*bytes)
    }

    #[inline]
    fn slice(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.remaining() {
            return Err(DecodeError::Truncated);
        }
        let slice = self.frame.slice(self.at..self.at + len);
        self.at += len;
        Ok(slice)
    }

    /// A byte that is not 0.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.fixed::<1>()? != [0])
    }

    /// One byte, signed.
    #[inline]
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.fixed().map(i8::from_be_bytes)
    }

    /// Two bytes, signed.
    #[inline]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.fixed().map(i16::from_be_bytes)
    }

    /// Four bytes, signed.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.fixed().map(i32::from_be_bytes)
    }

    /// Eight bytes, signed.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// Eight bytes, IEEE 754.
    #[inline]
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        self.fixed().map(f64::from_be_bytes)
    }

    /// Sixteen bytes.
    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.fixed().map(Uuid)
    }

    /// One to five bytes, seven bits each, lowest first.
    #[inline]
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let [first] = self.fixed()?;
        if first < 0x80 {
            return Ok(u32::from(first));
        }
        let mut value = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            if shift == 28 && byte > 0x0f {
                return Err(DecodeError::InvalidVarint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::InvalidVarint)
    }

    /// A compact length is one more than the value, and 0 for null.
    #[inline]
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok((self.unsigned_varint()? as usize).checked_sub(1))
    }

    /// A length whose null is -1.
    #[inline]
    fn plain_length(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.i32()? {
            -1 => Ok(None),
            n => usize::try_from(n)
                .map(Some)
                .map_err(|_| DecodeError::InvalidLength),
        }
    }

    #[inline]
    fn length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            self.compact_length()
        } else {
            self.plain_length()
        }
    }

    /// A string or null. Strings have at most 32,767 bytes, also where their length could be larger.
    #[inline]
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<Str>, DecodeError> {
        let length = if flexible {
            self.compact_length()?
        } else {
            match self.i16()? {
                -1 => None,
                n => Some(usize::try_from(n).map_err(|_| DecodeError::InvalidLength)?),
            }
        };
        match length {
            None => Ok(None),
            Some(0) => Ok(Some(Str::new())),
            Some(n) if n > i16::MAX as usize => Err(DecodeError::InvalidLength),
            Some(n) => Str::from_utf8(self.slice(n)?)
                .map(Some)
                .map_err(|_| DecodeError::InvalidUtf8),
        }
    }

    /// A string.
    #[inline]
    pub fn string(&mut self, flexible: bool) -> Result<Str, DecodeError> {
        self.nullable_string(flexible)?
            .ok_or(DecodeError::InvalidLength)
    }

    /// Bytes or null.
    #[inline]
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        match self.length(flexible)? {
            None => Ok(None),
            Some(0) => Ok(Some(Bytes::new())),
            Some(n) => self.slice(n).map(Some),
        }
    }

    /// Bytes.
    #[inline]
    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(flexible)?
            .ok_or(DecodeError::InvalidLength)
    }

    /// A record set; null is read as an empty one.
    #[inline]
    pub fn records(&mut self, flexible: bool) -> Result<Records, DecodeError> {
        Ok(self.nullable_bytes(flexible)?.unwrap_or_default().into())
    }

    /// An array or null. `fewest` is the least that one element takes on the wire: a count that the rest of the frame
    /// cannot hold is refused before any memory is reserved.
    #[inline]
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        fewest: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length(flexible)? else {
            return Ok(None);
        };
        if count > self.remaining() / fewest {
            return Err(DecodeError::Truncated);
        }
        #[cfg(test)]
        reserved::add(count * size_of::<T>());
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(Some(items))
    }

    /// An array.
    #[inline]
    pub fn array<T>(
        &mut self,
        flexible: bool,
        fewest: usize,
        read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(flexible, fewest, read)?
            .ok_or(DecodeError::InvalidLength)
    }

    /// An array of four-byte integers: one check for all of them.
    pub fn i32_array(&mut self, flexible: bool) -> Result<Vec<i32>, DecodeError> {
        let count = self.length(flexible)?.ok_or(DecodeError::InvalidLength)?;
        if count > self.remaining() / 4 {
            return Err(DecodeError::Truncated);
        }
        #[cfg(test)]
        reserved::add(count * 4);
        let (items, _) = self.frame[self.at..self.at + 4 * count].as_chunks();
        self.at += 4 * count;
        Ok(items
            .iter()
            .map(|&bytes| i32::from_be_bytes(bytes))
            .collect())
    }

    /// Passes each tagged field to `read` with a decoder over just its bytes; what that leaves unread is skipped, so an
    /// unknown tag needs no more than to be ignored.
    pub fn tagged_fields(
        &mut self,
        mut read: impl FnMut(u32, &mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            read(tag, &mut Self::new(self.slice(size)?))?;
        }
        Ok(())
    }

    /// Passes over all tagged fields.
    #[inline]
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.unsigned_varint()? {
            self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            if size > self.remaining() {
                return Err(DecodeError::Truncated);
            }
            self.at += size;
        }
        Ok(())
    }
}

/// What decoders reserved on this thread: the tests of hostile input look at it.
#[cfg(test)]
pub(crate) mod reserved {
    use core::cell::Cell;

    std::thread_local! {
        static BYTES: Cell<usize> = const { Cell::new(0) };
    }

    pub(crate) fn add(bytes: usize) {
        BYTES.with(|total| total.set(total.get() + bytes));
    }

    /// The sum since the last call.
    pub(crate) fn take() -> usize {
        BYTES.with(Cell::take)
    }
}
