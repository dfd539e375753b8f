//! CRC-32C (Castagnoli), the checksum of magic-2 batches, and joining checksums of neighbouring pieces.
//!
//! This file is the only place that knows which crate computes the checksum.

/// The checksum of `data`.
#[inline]
pub fn crc32c(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
}

/// The checksum of what `crc` already covers followed by `data`.
#[inline]
pub fn crc32c_append(crc: u32, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, data)
}

/// The checksum of A followed by B, from the checksum of each and the length of B (below 4 GiB).
///
/// About 100 ns whatever the length: a checksum is a polynomial over GF(2), and appending `n` bytes multiplies it by
/// x^(8n). The powers come from a table with one row per byte of the length, so four multiplications do at most.
#[inline]
pub fn crc32c_combine(crc_a: u32, crc_b: u32, len_b: usize) -> u32 {
    crc32c_shift(crc_a, len_b) ^ crc_b
}

/// What a difference (xor) between two checksums becomes when the same `len` bytes (below 4 GiB) follow.
///
/// This is what lets a header in front of a body be changed without reading the body again.
pub fn crc32c_shift(difference: u32, len: usize) -> u32 {
    let mut crc = difference;
    let mut rest = len;
    for row in &POWERS {
        let digit = rest & 0xff;
        if digit != 0 {
            crc = multiply(row[digit], crc);
        }
        rest >>= 8;
    }
    debug_assert_eq!(rest, 0, "lengths of 4 GiB and more are not supported");
    crc
}

/// The Castagnoli polynomial, bits reversed (the highest bit is x^0).
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `POWERS[row][digit]` is x^(8 · digit · 256^row) modulo the polynomial.
static POWERS: [[u32; 256]; 4] = powers();

const fn powers() -> [[u32; 256]; 4] {
    let mut table = [[0u32; 256]; 4];
    let mut step = 1 << (31 - 8); // x^8: one byte
    let mut row = 0;
    while row < 4 {
        table[row][0] = 1 << 31; // x^0
        let mut digit = 1;
        while digit < 256 {
            table[row][digit] = multiply(table[row][digit - 1], step);
            digit += 1;
        }
        step = multiply(table[row][255], step);
        row += 1;
    }
    table
}

/// The product of two bit-reversed polynomials modulo the Castagnoli polynomial.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 0;
    while bit < 32 {
        // Masks instead of branches: the bits of a checksum are unpredictable.
        product ^= b & ((a << bit) as i32 >> 31) as u32;
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
        bit += 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn known_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn combine_equals_the_whole() {
        let data: Vec<u8> = (0..200_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
        for len_b in [0, 1, 2, 40, 255, 256, 257, 8191, 65_536, 70_001, 200_000] {
            let (a, b) = data.split_at(data.len() - len_b);
            assert_eq!(
                crc32c_combine(crc32c(a), crc32c(b), b.len()),
                crc32c(&data),
                "{len_b}"
            );
        }
    }

    #[test]
    fn shift_of_long_lengths() {
        // 16 MiB + 3 zero bytes use all four rows of the table.
        let zeros = alloc::vec![0u8; (1 << 24) + 3];
        let whole = crc32c_append(crc32c(b"ottla"), &zeros);
        assert_eq!(
            crc32c_combine(crc32c(b"ottla"), crc32c(&zeros), zeros.len()),
            whole
        );
    }
}
