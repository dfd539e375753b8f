//! Snappy. Java clients wrap it in the stream format of xerial's snappy-java, others send one raw block; both are read,
//! the former is written.
//!
//! The stream: 8 bytes of magic, two version numbers, then blocks with their length (big endian) in front.

use alloc::boxed::Box;
use alloc::vec::Vec;

use snap::raw::{Decoder, Encoder};

use crate::{Compression, RecordError};

const STREAM_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const STREAM_VERSION: u32 = 1;
const STREAM_HEADER_LEN: usize = 16;
/// Uncompressed bytes per block, as snappy-java cuts them.
const BLOCK_LEN: usize = 32 * 1024;
/// The densest element of the format turns 3 bytes into 64. Whoever claims more lies.
const MAX_RATIO: usize = 22;

#[derive(Default)]
pub(super) struct Snappy {
    encoder: Option<Box<Encoder>>,
}

impl Snappy {
    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        out.extend_from_slice(&STREAM_MAGIC);
        out.extend_from_slice(&STREAM_VERSION.to_be_bytes());
        out.extend_from_slice(&STREAM_VERSION.to_be_bytes());
        let encoder = self.encoder.get_or_insert_with(|| Box::new(Encoder::new()));
        for block in input.chunks(BLOCK_LEN) {
            let start = out.len();
            out.resize(start + 4 + snap::raw::max_compress_len(block.len()), 0);
            let len = encoder
                .compress(block, &mut out[start + 4..])
                .map_err(|_| RecordError::CompressionFailed(Compression::Snappy, "block"))?;
            out[start..start + 4].copy_from_slice(&(len as u32).to_be_bytes());
            out.truncate(start + 4 + len);
        }
        Ok(())
    }
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, RecordError> {
    let mut out = Vec::new();
    if !input.starts_with(&STREAM_MAGIC) {
        read_block(input, limit, &mut out)?;
        return Ok(out);
    }
    let mut rest = input
        .get(STREAM_HEADER_LEN..)
        .ok_or(corrupt("stream header cut short"))?;
    while !rest.is_empty() {
        // Streams may be joined: another header stands where a length would be.
        if rest.starts_with(&STREAM_MAGIC) {
            rest = rest
                .get(STREAM_HEADER_LEN..)
                .ok_or(corrupt("stream header cut short"))?;
            continue;
        }
        let (len, after) = rest
            .split_first_chunk::<4>()
            .ok_or(corrupt("block length cut short"))?;
        let len = u32::from_be_bytes(*len) as usize;
        if len > after.len() {
            return Err(corrupt("block cut short"));
        }
        let (block, after) = after.split_at(len);
        read_block(block, limit, &mut out)?;
        rest = after;
    }
    Ok(out)
}

fn read_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let len = snap::raw::decompress_len(block).map_err(|_| corrupt("block header"))?;
    if len > block.len().saturating_mul(MAX_RATIO) {
        return Err(corrupt("impossible uncompressed length"));
    }
    if len > limit - out.len() {
        return Err(RecordError::DecompressedTooLarge { limit });
    }
    let start = out.len();
    out.resize(start + len, 0);
    let written = Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(|_| corrupt("block"))?;
    out.truncate(start + written);
    Ok(())
}

const fn corrupt(what: &'static str) -> RecordError {
    RecordError::CorruptCompression(Compression::Snappy, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_block_is_read() {
        let raw = Encoder::new()
            .compress_vec(b"first light first light")
            .unwrap();
        let read = decompress(&raw, 100).unwrap();
        assert_eq!(read, b"first light first light");
    }

    #[test]
    fn stream_has_java_framing() {
        let mut out = Vec::new();
        let mut snappy = Snappy::default();
        snappy
            .compress(&alloc::vec![7; BLOCK_LEN + 1], &mut out)
            .unwrap();
        assert_eq!(&out[..16], b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
        let first = u32::from_be_bytes([out[16], out[17], out[18], out[19]]) as usize;
        let second = &out[20 + first..];
        let length = u32::from_be_bytes([second[0], second[1], second[2], second[3]]) as usize;
        assert_eq!(second.len(), 4 + length);
        // Two streams in a row are one.
        let twice = [&out[..], &out[..]].concat();
        let read = decompress(&twice, 1 << 20).unwrap();
        assert_eq!(read.len(), 2 * (BLOCK_LEN + 1));
    }

    #[test]
    fn claimed_length_reserves_nothing() {
        // A varint of nearly 4 GiB in front of three bytes.
        let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
        assert!(decompress(&bomb, usize::MAX).is_err());
    }
}
