//! gzip, on zlib-rs.

use alloc::vec::Vec;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::{first_guess, grow};
use crate::{Compression, RecordError};

/// 32 KiB, the largest window of the format.
const WINDOW_BITS: u8 = 15;
const DEFAULT_LEVEL: u32 = 6;
/// How every member of a gzip stream begins.
const MEMBER_MAGIC: [u8; 2] = [0x1f, 0x8b];

#[derive(Default)]
pub(super) struct Gzip {
    compressor: Option<(u32, Compress)>,
}

impl Gzip {
    pub(super) fn compress(
        &mut self,
        level: Option<i32>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let failed = |what| RecordError::CompressionFailed(Compression::Gzip, what);
        let level = match level {
            None => DEFAULT_LEVEL,
            Some(level @ 0..=9) => level as u32,
            Some(_) => return Err(failed("level outside of 0–9")),
        };
        let compressor = match &mut self.compressor {
            Some((kept, compressor)) if *kept == level => {
                compressor.reset();
                compressor
            }
            other => {
                let made = Compress::new_gzip(flate2::Compression::new(level), WINDOW_BITS);
                &mut other.insert((level, made)).1
            }
        };
        // Stored blocks cost 5 bytes per 16 KiB, header and trailer 18.
        out.reserve(input.len() + input.len() / 2048 + 64);
        loop {
            let rest = &input[compressor.total_in() as usize..];
            match compressor.compress_vec(rest, out, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => return Ok(()),
                Ok(_) => out.reserve(4096),
                Err(_) => return Err(failed("deflate")),
            }
        }
    }
}

/// Every member of the stream, one after the other, as Java reads it.
pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, RecordError> {
    let corrupt = |what| RecordError::CorruptCompression(Compression::Gzip, what);
    let mut out = Vec::with_capacity(first_guess(input, limit));
    let mut rest = input;
    loop {
        if !rest.starts_with(&MEMBER_MAGIC) {
            return Err(corrupt("no gzip header"));
        }
        let mut member = Decompress::new_gzip(WINDOW_BITS);
        loop {
            if !grow(&mut out, limit) {
                return Err(RecordError::DecompressedTooLarge { limit });
            }
            let (read, written) = (member.total_in(), out.len());
            let status = member
                .decompress_vec(rest, &mut out, FlushDecompress::None)
                .map_err(|_| corrupt("inflate"))?;
            let read = (member.total_in() - read) as usize;
            rest = &rest[read..];
            if status == Status::StreamEnd {
                break;
            }
            // With room for output, no progress means that input is missing.
            if read == 0 && written == out.len() {
                return Err(corrupt("truncated"));
            }
        }
        if out.len() > limit {
            return Err(RecordError::DecompressedTooLarge { limit });
        }
        if rest.is_empty() {
            return Ok(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_joined() {
        let mut stream = Vec::new();
        let mut gzip = Gzip::default();
        gzip.compress(None, b"first ", &mut stream).unwrap();
        gzip.compress(None, b"light", &mut stream).unwrap();
        assert_eq!(decompress(&stream, 100).unwrap(), b"first light");
        stream.push(0);
        assert!(decompress(&stream, 100).is_err());
    }

    #[test]
    fn a_wrong_checksum_is_an_error() {
        let mut stream = Vec::new();
        Gzip::default()
            .compress(None, b"first light", &mut stream)
            .unwrap();
        let trailer = stream.len() - 8;
        stream[trailer] ^= 1;
        assert!(decompress(&stream, 100).is_err());
    }
}
