//! Zstandard, in Rust: where there is no C compiler for the target, which is the browser.

use alloc::vec::Vec;

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::{Compression, RecordError};

/// How much is decoded before the limit is looked at again.
const STEP: usize = 128 * 1024;
/// Largest window accepted: that of level 19. Beyond it are only the levels that are named ultra.
const MAX_WINDOW: u64 = 8 << 20;

#[derive(Default)]
pub(super) struct Zstd {
    decoder: Option<FrameDecoder>,
}

impl Zstd {
    pub(super) fn compress(
        &mut self,
        level: Option<i32>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        // There is one level so far.
        let _ = level;
        out.extend_from_slice(&compress_to_vec(input, CompressionLevel::Fastest));
        Ok(())
    }

    /// Every frame of the stream, one after the other.
    pub(super) fn decompress(
        &mut self,
        input: &[u8],
        limit: usize,
    ) -> Result<Vec<u8>, RecordError> {
        let corrupt = |what| RecordError::CorruptCompression(Compression::Zstd, what);
        let decoder = self.decoder.get_or_insert_default();
        decoder.set_max_window_size(MAX_WINDOW);
        let mut out = Vec::new();
        let mut rest = input;
        loop {
            match decoder.reset(&mut rest) {
                Ok(()) => {}
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    rest = rest
                        .get(length as usize..)
                        .ok_or(corrupt("skippable frame cut short"))?;
                    if rest.is_empty() {
                        return Ok(out);
                    }
                    continue;
                }
                Err(_) => return Err(corrupt("frame header")),
            }
            while !decoder.is_finished() {
                decoder
                    .decode_blocks(&mut rest, BlockDecodingStrategy::UptoBytes(STEP))
                    .map_err(|_| corrupt("block"))?;
                if decoder.can_collect() > limit - out.len() {
                    return Err(RecordError::DecompressedTooLarge { limit });
                }
                if let Some(decoded) = decoder.collect() {
                    out.extend_from_slice(&decoded);
                }
            }
            if let (Some(claimed), Some(computed)) = (
                decoder.get_checksum_from_data(),
                decoder.get_calculated_checksum(),
            ) && claimed != computed
            {
                return Err(corrupt("content checksum"));
            }
            if rest.is_empty() {
                return Ok(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::zstd_c;

    fn text() -> Vec<u8> {
        (0..50_000u32)
            .flat_map(|i| (i / 7 * 31).to_string().into_bytes())
            .collect()
    }

    use alloc::string::ToString;

    #[test]
    fn agrees_with_the_c_library() {
        let text = text();
        for level in [1, 3, 19] {
            let mut compressed = Vec::new();
            zstd_c::Zstd::default()
                .compress(Some(level), &text, &mut compressed)
                .unwrap();
            let read = Zstd::default().decompress(&compressed, text.len()).unwrap();
            assert!(read == text, "level {level}");
        }
        let mut compressed = Vec::new();
        Zstd::default()
            .compress(None, &text, &mut compressed)
            .unwrap();
        let twice = [&compressed[..], &compressed[..]].concat();
        for (input, times) in [(&compressed, 1), (&twice, 2)] {
            let expected = text.repeat(times);
            for read in [
                Zstd::default().decompress(input, expected.len()),
                zstd_c::Zstd::default().decompress(input, expected.len()),
            ] {
                assert!(read.unwrap() == expected);
            }
        }
    }

    #[test]
    fn bombs_and_damage() {
        let zeros = alloc::vec![0u8; 1 << 20];
        let mut bomb = Vec::new();
        Zstd::default().compress(None, &zeros, &mut bomb).unwrap();
        for limit in [0, 1, 1000, zeros.len() - 1] {
            assert_eq!(
                Zstd::default().decompress(&bomb, limit),
                Err(RecordError::DecompressedTooLarge { limit })
            );
        }
        let mut small = Vec::new();
        zstd_c::Zstd::default()
            .compress(None, &text()[..300], &mut small)
            .unwrap();
        for at in 0..small.len() {
            assert!(Zstd::default().decompress(&small[..at], 4096).is_err());
            for bit in 0..8 {
                let mut bad = small.clone();
                bad[at] ^= 1 << bit;
                let _ = Zstd::default().decompress(&bad, 4096);
            }
        }
    }
}
