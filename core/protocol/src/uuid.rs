//! Kafka's topic and directory ids.

use alloc::string::String;
use core::fmt;

/// 16 bytes; its text is Kafka's: URL-safe base64 without padding, 22 characters.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// All zero: "no id".
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is [`Uuid::ZERO`].
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// A version-4 (random) id from 128 random bits, as Kafka makes them.
    pub const fn from_random(bits: u128) -> Self {
        let mut b = bits.to_be_bytes();
        b[6] = (b[6] & 0x0f) | 0x40;
        b[8] = (b[8] & 0x3f) | 0x80;
        Self(b)
    }

    /// Reads the 22-character text; `None` if it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 22 {
            return None;
        }
        let mut bits: u128 = 0;
        for (i, c) in text.bytes().enumerate() {
            let digit = DIGITS.iter().position(|&d| d == c)? as u128;
            if i < 21 {
                bits = bits << 6 | digit;
            } else if digit & 0xf != 0 {
                return None;
            } else {
                bits = bits << 2 | digit >> 4;
            }
        }
        Some(Self(bits.to_be_bytes()))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = String::with_capacity(22);
        for i in 0..21 {
            text.push(DIGITS[(bits >> (122 - 6 * i) & 0x3f) as usize] as char);
        }
        text.push(DIGITS[((bits & 0x3) << 4) as usize] as char);
        f.write_str(&text)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn text_and_back() {
        for bits in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0011_2233_4455_6677] {
            let id = Uuid(bits.to_be_bytes());
            assert_eq!(Uuid::parse(&id.to_string()), Some(id));
        }
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid::parse("AAAAAAAAAAAAAAAAAAAAAB"), None);
        assert_eq!(Uuid::parse("short"), None);
    }
}
