//! Zig-zag variable-length integers: 7 bits per byte, least significant first, small magnitudes short.

use crate::RecordError;

/// Most bytes that a 32-bit varint takes.
pub(crate) const MAX_LEN_32: usize = 5;
/// Most bytes that a 64-bit varint takes.
pub(crate) const MAX_LEN_64: usize = 10;

#[inline(always)]
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline(always)]
pub(crate) const fn unzigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

/// Bytes that `raw` (already zig-zagged) takes: ⌈bits / 7⌉, without a division.
#[inline(always)]
pub(crate) const fn len_of(raw: u64) -> usize {
    let bits = 64 - (raw | 1).leading_zeros() as usize;
    (bits * 9 + 64) / 64
}

/// Writes `raw` (already zig-zagged) at `at` and returns the position after it. The caller has made room.
#[inline(always)]
pub(crate) fn put(buffer: &mut [u8], at: usize, raw: u64) -> usize {
    if raw < 0x80 {
        buffer[at] = raw as u8;
        at + 1
    } else if raw < 0x4000 {
        let two = (raw & 0x7f) as u16 | 0x80 | ((raw as u16 >> 7) << 8);
        buffer[at..at + 2].copy_from_slice(&two.to_le_bytes());
        at + 2
    } else {
        put_long(buffer, at, raw)
    }
}

fn put_long(buffer: &mut [u8], mut at: usize, mut raw: u64) -> usize {
    while raw >= 0x80 {
        buffer[at] = raw as u8 | 0x80;
        raw >>= 7;
        at += 1;
    }
    buffer[at] = raw as u8;
    at + 1
}

/// Reads the raw (still zig-zagged) value at `*at` and moves `*at` behind it.
#[inline(always)]
pub(crate) fn get(buffer: &[u8], at: &mut usize) -> Result<u64, RecordError> {
    let Some(&first) = buffer.get(*at) else {
        return Err(RecordError::InvalidVarint);
    };
    if first < 0x80 {
        *at += 1;
        return Ok(first as u64);
    }
    match buffer.get(*at + 1) {
        Some(&second) if second < 0x80 => {
            *at += 2;
            Ok((first & 0x7f) as u64 | (second as u64) << 7)
        }
        _ => get_long(buffer, at),
    }
}

#[inline(never)]
fn get_long(buffer: &[u8], at: &mut usize) -> Result<u64, RecordError> {
    let mut raw = 0u64;
    for (i, &byte) in buffer[*at..].iter().take(MAX_LEN_64).enumerate() {
        // The tenth byte has one bit to give.
        if i == MAX_LEN_64 - 1 && byte > 1 {
            break;
        }
        raw |= ((byte & 0x7f) as u64) << (7 * i);
        if byte < 0x80 {
            *at += i + 1;
            return Ok(raw);
        }
    }
    Err(RecordError::InvalidVarint)
}

/// Reads a 64-bit value.
#[inline(always)]
pub(crate) fn get_i64(buffer: &[u8], at: &mut usize) -> Result<i64, RecordError> {
    Ok(unzigzag(get(buffer, at)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_length() {
        let mut values = alloc::vec![0i64, -1, 1, 63, -64, 64, -65, 8191, -8192, 8192];
        for shift in 0..63 {
            values.extend([1i64 << shift, -(1i64 << shift), (1i64 << shift) - 1]);
        }
        values.extend([i64::MAX, i64::MIN, i32::MAX as i64, i32::MIN as i64]);
        for value in values {
            let mut buffer = [0u8; 16];
            let end = put(&mut buffer, 0, zigzag(value));
            assert_eq!(end, len_of(zigzag(value)), "{value}");
            let mut at = 0;
            assert_eq!(get_i64(&buffer[..end], &mut at), Ok(value));
            assert_eq!(at, end);
            for cut in 0..end {
                assert!(get_i64(&buffer[..cut], &mut 0).is_err());
            }
        }
    }

    #[test]
    fn overlong_is_an_error() {
        assert!(get(&[0x80; 11], &mut 0).is_err());
        let mut ten = [0xff; 10];
        ten[9] = 2;
        assert!(get(&ten, &mut 0).is_err());
        ten[9] = 1;
        assert_eq!(get(&ten, &mut 0), Ok(u64::MAX));
    }
}
