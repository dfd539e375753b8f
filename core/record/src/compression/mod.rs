//! The codecs, and the state that is worth keeping between batches.

use alloc::vec::Vec;
use core::fmt;

use crate::{Compression, RecordError};

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "lz4")]
mod xxhash;
#[cfg(all(feature = "zstd", not(target_family = "wasm")))]
mod zstd_c;
#[cfg(all(feature = "zstd", any(target_family = "wasm", test)))]
mod zstd_rust;

#[cfg(all(feature = "zstd", not(target_family = "wasm")))]
use zstd_c as zstd;
#[cfg(all(feature = "zstd", target_family = "wasm"))]
use zstd_rust as zstd;

/// The largest scratch buffer that is kept; a rare giant gives its memory back.
const MAX_IDLE_SCRATCH: usize = 4 << 20;

/// The state of compressors and decompressors, kept so that a loop over batches doesn't build it anew (a zstd context
/// takes longer to make than a small batch to compress). Built when first needed. One per thread or machine.
#[derive(Default)]
pub struct Codecs {
    scratch: Vec<u8>,
    #[cfg(feature = "gzip")]
    gzip: gzip::Gzip,
    #[cfg(feature = "snappy")]
    snappy: snappy::Snappy,
    #[cfg(feature = "lz4")]
    lz4: lz4::Lz4,
    #[cfg(feature = "zstd")]
    zstd: zstd::Zstd,
}

impl Codecs {
    /// Nothing built yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the compressed form of `input` to `out`. After an error `out` has unspecified contents.
    ///
    /// Levels, `None` for the default: gzip 0–9 (6), zstd −131072–22 (3), another one is
    /// [`RecordError::CompressionFailed`]. snappy and lz4 have one speed and ignore the level, as does zstd on wasm.
    pub fn compress(
        &mut self,
        codec: Compression,
        level: Option<i32>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let _ = level;
        match codec {
            Compression::None => {
                out.extend_from_slice(input);
                Ok(())
            }
            #[cfg(feature = "gzip")]
            Compression::Gzip => self.gzip.compress(level, input, out),
            #[cfg(feature = "snappy")]
            Compression::Snappy => self.snappy.compress(input, out),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => self.lz4.compress(input, out),
            #[cfg(feature = "zstd")]
            Compression::Zstd => self.zstd.compress(level, input, out),
            #[allow(unreachable_patterns)] // with all features
            codec => Err(RecordError::CompressionNotBuilt(codec)),
        }
    }

    /// What `input` decompresses to, at most `limit` bytes: more is [`RecordError::DecompressedTooLarge`]. Memory grows
    /// with the bytes that come out, not with what the input claims.
    pub fn decompress(
        &mut self,
        codec: Compression,
        input: &[u8],
        limit: usize,
    ) -> Result<Vec<u8>, RecordError> {
        match codec {
            Compression::None if input.len() > limit => {
                Err(RecordError::DecompressedTooLarge { limit })
            }
            Compression::None => Ok(Vec::from(input)),
            #[cfg(feature = "gzip")]
            Compression::Gzip => gzip::decompress(input, limit),
            #[cfg(feature = "snappy")]
            Compression::Snappy => snappy::decompress(input, limit),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => lz4::decompress(input, limit),
            #[cfg(feature = "zstd")]
            Compression::Zstd => self.zstd.decompress(input, limit),
            #[allow(unreachable_patterns)] // with all features
            codec => Err(RecordError::CompressionNotBuilt(codec)),
        }
    }

    pub(crate) fn take_scratch(&mut self) -> Vec<u8> {
        let mut scratch = core::mem::take(&mut self.scratch);
        scratch.clear();
        scratch
    }

    pub(crate) fn keep_scratch(&mut self, scratch: Vec<u8>) {
        if scratch.capacity() <= MAX_IDLE_SCRATCH {
            self.scratch = scratch;
        }
    }
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codecs").finish_non_exhaustive()
    }
}

/// Makes room for what a decompressor puts out next: doubles, but never past one byte more than `limit`, the byte that
/// tells that the limit is passed. False once that byte is there.
#[cfg(any(feature = "gzip", all(feature = "zstd", not(target_family = "wasm"))))]
fn grow(out: &mut Vec<u8>, limit: usize) -> bool {
    if out.len() > limit {
        return false;
    }
    if out.len() == out.capacity() {
        let target = (out.capacity() * 2)
            .max(16 * 1024)
            .min(limit.saturating_add(1));
        out.reserve_exact(target - out.len());
    }
    true
}

/// A first guess at the decompressed size: records compress about fourfold.
#[cfg(any(feature = "gzip", all(feature = "zstd", not(target_family = "wasm"))))]
fn first_guess(input: &[u8], limit: usize) -> usize {
    input.len().saturating_mul(4).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const CODECS: [Compression; 4] = [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    fn samples() -> Vec<Vec<u8>> {
        let mut text = Vec::new();
        let mut noise = Vec::new();
        let mut state = 1u32;
        for i in 0..30_000u32 {
            text.extend_from_slice(b"{\"event\":");
            text.extend_from_slice(&(i * i % 977).to_be_bytes());
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.extend_from_slice(&state.to_be_bytes());
        }
        alloc::vec![
            Vec::new(),
            Vec::from(&b"a"[..]),
            alloc::vec![0; 1_000_000],
            text,
            noise
        ]
    }

    #[test]
    fn codecs_move_between_threads() {
        fn is_send<T: Send>(_: T) {}
        is_send(Codecs::new());
    }

    #[test]
    fn round_trips() {
        let mut codecs = Codecs::new();
        for codec in CODECS {
            for sample in samples() {
                let mut out = Vec::from(&b"kept"[..]);
                codecs.compress(codec, None, &sample, &mut out).unwrap();
                assert_eq!(&out[..4], b"kept");
                let back = codecs.decompress(codec, &out[4..], sample.len()).unwrap();
                assert!(back == sample, "{codec} of {} bytes", sample.len());
            }
        }
    }

    #[test]
    fn bombs_end_at_the_limit() {
        let mut codecs = Codecs::new();
        let zeros = alloc::vec![0u8; 8 << 20];
        for codec in CODECS {
            let mut bomb = Vec::new();
            codecs.compress(codec, None, &zeros, &mut bomb).unwrap();
            for limit in [0, 1, 1000, zeros.len() - 1] {
                assert_eq!(
                    codecs.decompress(codec, &bomb, limit),
                    Err(RecordError::DecompressedTooLarge { limit }),
                    "{codec}"
                );
            }
            assert!(codecs.decompress(codec, &bomb, zeros.len()).is_ok());
        }
    }

    #[test]
    fn damage_is_an_error_or_other_bytes() {
        let mut codecs = Codecs::new();
        let sample = b"first light, one record through every layer, every layer, every layer";
        for codec in CODECS {
            let mut out = Vec::new();
            codecs.compress(codec, None, sample, &mut out).unwrap();
            for cut in 0..out.len() {
                let read = codecs.decompress(codec, &out[..cut], 4096);
                assert!(read.as_deref() != Ok(sample), "{codec} cut at {cut}");
            }
            for at in 0..out.len() {
                for bit in 0..8 {
                    let mut bad = out.clone();
                    bad[at] ^= 1 << bit;
                    let _ = codecs.decompress(codec, &bad, 4096);
                }
            }
        }
    }

    #[test]
    fn levels() {
        let mut codecs = Codecs::new();
        let sample = &samples()[3];
        for (codec, levels, wrong) in [
            (Compression::Gzip, [0, 1, 9], 10),
            (Compression::Zstd, [-5, 1, 19], 23),
        ] {
            let mut last = usize::MAX;
            for level in levels {
                let mut out = Vec::new();
                codecs
                    .compress(codec, Some(level), sample, &mut out)
                    .unwrap();
                assert!(out.len() < last, "{codec} at level {level}");
                last = out.len();
                let back = codecs.decompress(codec, &out, sample.len()).unwrap();
                assert!(&back == sample);
            }
            let refused = codecs.compress(codec, Some(wrong), sample, &mut Vec::new());
            assert!(matches!(refused, Err(RecordError::CompressionFailed(_, _))));
        }
    }
}
