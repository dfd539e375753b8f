//! SipHash-2-4 with a result of 128 bits: how compaction knows a key again without keeping it.
//!
//! Kafka takes MD5 of the key. The result never reaches a disk or a wire, so that any hash will do; this one is keyed, with
//! numbers nobody outside knows, so that nobody can make two keys of which compaction would drop one.

/// The hash of `bytes` under the key (`k0`, `k1`).
pub fn hash(k0: u64, k1: u64, bytes: &[u8]) -> [u64; 2] {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        absorb(&mut v, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = bytes.len() as u8;
    absorb(&mut v, u64::from_le_bytes(last));
    v[2] ^= 0xee;
    (0..4).for_each(|_| round(&mut v));
    let first = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    (0..4).for_each(|_| round(&mut v));
    [first, v[0] ^ v[1] ^ v[2] ^ v[3]]
}

#[inline(always)]
fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    round(v);
    v[0] ^= word;
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the reference implementation, with the key 00 01 … 0f, for the inputs of 0, 1, … bytes 00 01 ….
    #[test]
    fn vectors_of_the_reference() {
        let (k0, k1) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let hex = |bytes: &[u8]| {
            let [low, high] = hash(k0, k1, bytes);
            std::format!("{:016x}{:016x}", low.swap_bytes(), high.swap_bytes())
        };
        assert_eq!(hex(&[]), "a3817f04ba25a8e66df67214c7550293");
        assert_eq!(hex(&[0]), "da87c1d86b99af44347659119b22fc45");
        assert_eq!(hex(&[0, 1]), "8177228da4a45dc7fca38bdef60affe4");
    }
}
