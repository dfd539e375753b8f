//! The source of random field values in tests. A seed gives the same values every time.

use crate::{Records, Str, Uuid};
use alloc::vec::Vec;
use bytes::Bytes;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Small and extreme numbers as often as any.
    pub(crate) fn integer(&mut self) -> i64 {
        match self.below(4) {
            0 => self.below(3) as i64 - 1,
            1 => [i64::MAX, i64::MIN, i64::from(i32::MAX), 127, 128][self.below(5) as usize],
            _ => self.next() as i64,
        }
    }

    pub(crate) fn uuid(&mut self) -> Uuid {
        if self.one_in(4) {
            Uuid::ZERO
        } else {
            Uuid(((u128::from(self.next()) << 64) | u128::from(self.next())).to_be_bytes())
        }
    }

    pub(crate) fn bytes(&mut self) -> Bytes {
        let len = match self.below(8) {
            0 => 0,
            // Compact lengths of two bytes begin at 127.
            1 => 120 + self.below(20),
            _ => self.below(12),
        };
        (0..len).map(|_| self.next() as u8).collect()
    }

    pub(crate) fn string(&mut self) -> Str {
        let letters = ["a", "topic", "-", "ü", "群", "0"];
        let text: alloc::string::String = (0..self.bytes().len() / 2)
            .map(|_| letters[self.below(6) as usize])
            .collect();
        text.into()
    }

    /// Up to three chunks, also such that stay out of the encoder's buffer.
    pub(crate) fn records(&mut self) -> Records {
        let chunk = |r: &mut Self| {
            if r.one_in(3) {
                Bytes::from(alloc::vec![r.next() as u8; 700])
            } else {
                r.bytes()
            }
        };
        (0..self.below(4)).map(|_| chunk(self)).collect()
    }

    pub(crate) fn array<T>(&mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| item(self)).collect()
    }
}
