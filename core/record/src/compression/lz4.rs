//! The LZ4 frame format. The frame is handled here, because it is small and has to be bounded; the blocks are lz4_flex's.
//!
//! Written: independent blocks of 64 KiB, no checksums, as Kafka's Java client does. Read: any block size, linked blocks
//! too, checksums where there are any, several frames and skippable frames in a row.

use alloc::vec::Vec;

use lz4_flex::block::{self, CompressTable, DecompressError};

use super::xxhash::xxh32;
use crate::{Compression, RecordError};

const FRAME_MAGIC: u32 = 0x184d_2204;
/// Frames with these magics carry something else and are passed over.
const SKIPPABLE_MAGICS: core::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;

const VERSION_1: u8 = 0b0100_0000;
const VERSION_MASK: u8 = 0b1100_0000;
const INDEPENDENT_BLOCKS: u8 = 1 << 5;
const BLOCK_CHECKSUMS: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const DICTIONARY_ID: u8 = 1;

/// The block size code of 64 KiB, in its place in the second descriptor byte.
const BLOCK_SIZE_64K: u8 = 4 << 4;
const BLOCK_LEN: usize = 64 * 1024;
/// Set in a block's length where the block is stored as it is.
const STORED: u32 = 1 << 31;
/// How far back linked blocks may reach.
const WINDOW_LEN: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct Lz4 {
    table: CompressTable,
}

impl Lz4 {
    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        let descriptor = [VERSION_1 | INDEPENDENT_BLOCKS, BLOCK_SIZE_64K];
        out.extend_from_slice(&FRAME_MAGIC.to_le_bytes());
        out.extend_from_slice(&descriptor);
        out.push(header_checksum(&descriptor));
        for block in input.chunks(BLOCK_LEN) {
            let start = out.len();
            let bound = block::get_maximum_output_size(block.len());
            out.resize(start + 4 + bound, 0);
            let room = &mut out[start + 4..];
            let len = block::compress_into_with_table(block, room, &mut self.table)
                .map_err(|_| RecordError::CompressionFailed(Compression::Lz4, "block"))?;
            let (len, length_field) = if len < block.len() {
                (len, len as u32)
            } else {
                room[..block.len()].copy_from_slice(block);
                (block.len(), block.len() as u32 | STORED)
            };
            out[start..start + 4].copy_from_slice(&length_field.to_le_bytes());
            out.truncate(start + 4 + len);
        }
        out.extend_from_slice(&0u32.to_le_bytes());
        Ok(())
    }
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, RecordError> {
    let mut out = Vec::new();
    let mut reader = Reader { rest: input };
    loop {
        let magic = reader.u32()?;
        if magic == FRAME_MAGIC {
            frame(&mut reader, limit, &mut out)?;
        } else if SKIPPABLE_MAGICS.contains(&magic) {
            let len = reader.u32()?;
            reader.take(len as usize)?;
        } else {
            return Err(corrupt("no frame header"));
        }
        if reader.rest.is_empty() {
            return Ok(out);
        }
    }
}

fn frame(reader: &mut Reader<'_>, limit: usize, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let begin = reader.rest;
    let [flags, block_size] = *reader.array::<2>()?;
    if flags & VERSION_MASK != VERSION_1 {
        return Err(corrupt("frame version"));
    }
    if flags & DICTIONARY_ID != 0 {
        return Err(corrupt("frame needs a dictionary"));
    }
    let max_block = match (block_size >> 4) & 7 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        _ => return Err(corrupt("block size")),
    };
    let content_size = if flags & CONTENT_SIZE != 0 {
        Some(u64::from_le_bytes(*reader.array::<8>()?))
    } else {
        None
    };
    let descriptor = &begin[..begin.len() - reader.rest.len()];
    let checksum = reader.array::<1>()?[0];
    // Clients of the time of magic 0 took the frame's magic into this checksum (KAFKA-3160).
    if checksum != header_checksum(descriptor) && checksum != header_checksum_with_magic(descriptor)
    {
        return Err(corrupt("header checksum"));
    }

    let frame_start = out.len();
    loop {
        let length_field = reader.u32()?;
        if length_field == 0 {
            break;
        }
        let len = (length_field & !STORED) as usize;
        if len > max_block {
            return Err(corrupt("block longer than the frame's block size"));
        }
        let data = reader.take(len)?;
        if flags & BLOCK_CHECKSUMS != 0 && reader.u32()? != xxh32(data) {
            return Err(corrupt("block checksum"));
        }
        if length_field & STORED != 0 {
            if data.len() > limit - out.len() {
                return Err(RecordError::DecompressedTooLarge { limit });
            }
            out.extend_from_slice(data);
        } else {
            let linked = flags & INDEPENDENT_BLOCKS == 0;
            compressed_block(data, max_block, linked.then_some(frame_start), limit, out)?;
        }
    }
    let content = &out[frame_start..];
    if content_size.is_some_and(|size| size != content.len() as u64) {
        return Err(corrupt("content size"));
    }
    if flags & CONTENT_CHECKSUM != 0 && reader.u32()? != xxh32(content) {
        return Err(corrupt("content checksum"));
    }
    Ok(())
}

/// `linked_from`: where in `out` the frame begins whose earlier blocks this one may refer to.
fn compressed_block(
    data: &[u8],
    max_block: usize,
    linked_from: Option<usize>,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), RecordError> {
    let start = out.len();
    // A byte of input can stand for 255 bytes of output at most.
    let room = max_block.min(data.len().saturating_mul(255));
    let allowed = room.min(limit - start);
    out.resize(start + allowed, 0);
    let (before, into) = out.split_at_mut(start);
    let done = match linked_from {
        Some(frame_start) => {
            let dictionary = &before[frame_start.max(start.saturating_sub(WINDOW_LEN))..];
            block::decompress_into_with_dict(data, into, dictionary)
        }
        None => block::decompress_into(data, into),
    };
    match done {
        Ok(written) => {
            out.truncate(start + written);
            Ok(())
        }
        Err(DecompressError::OutputTooSmall { .. }) if allowed < room => {
            Err(RecordError::DecompressedTooLarge { limit })
        }
        Err(_) => Err(corrupt("block")),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(corrupt("cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], RecordError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(corrupt("cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        Ok(u32::from_le_bytes(*self.array::<4>()?))
    }
}

fn header_checksum(descriptor: &[u8]) -> u8 {
    (xxh32(descriptor) >> 8) as u8
}

fn header_checksum_with_magic(descriptor: &[u8]) -> u8 {
    let mut bytes = Vec::from(FRAME_MAGIC.to_le_bytes());
    bytes.extend_from_slice(descriptor);
    header_checksum(&bytes)
}

const fn corrupt(what: &'static str) -> RecordError {
    RecordError::CorruptCompression(Compression::Lz4, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of the given blocks; stored ones where `compressed` is false.
    fn frame_of(flags: u8, blocks: &[(&[u8], bool)], trailer: &[u8]) -> Vec<u8> {
        let descriptor = [VERSION_1 | flags, BLOCK_SIZE_64K];
        let mut frame = Vec::from(FRAME_MAGIC.to_le_bytes());
        frame.extend_from_slice(&descriptor);
        frame.push(header_checksum(&descriptor));
        for (block, compressed) in blocks {
            let stored = if *compressed { 0 } else { STORED };
            frame.extend_from_slice(&(block.len() as u32 | stored).to_le_bytes());
            frame.extend_from_slice(block);
            if flags & BLOCK_CHECKSUMS != 0 {
                frame.extend_from_slice(&xxh32(block).to_le_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(trailer);
        frame
    }

    #[test]
    fn linked_blocks_and_checksums() {
        let first = b"every layer of the whole of it, every layer of the whole of it";
        let second = block::compress_with_dict(b"every layer of the whole of it", first);
        let whole = [&first[..], b"every layer of the whole of it"].concat();
        let frame = frame_of(
            BLOCK_CHECKSUMS | CONTENT_CHECKSUM,
            &[(first, false), (&second, true)],
            &xxh32(&whole).to_le_bytes(),
        );
        assert_eq!(decompress(&frame, 1000).unwrap(), whole);
        let mut bad = frame.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert_eq!(decompress(&bad, 1000), Err(corrupt("content checksum")));
    }

    #[test]
    fn frames_in_a_row_and_skippable_ones() {
        let one = frame_of(INDEPENDENT_BLOCKS, &[(b"one", false)], b"");
        let skip = [&0x184d_2a53u32.to_le_bytes()[..], &[2, 0, 0, 0], b"xx"].concat();
        let two = frame_of(INDEPENDENT_BLOCKS, &[(b"two", false)], b"");
        let all = [one, skip, two].concat();
        assert_eq!(decompress(&all, 6).unwrap(), b"onetwo");
        assert!(decompress(&all, 5).is_err());
    }

    #[test]
    fn old_header_checksum_is_read() {
        let mut frame = frame_of(INDEPENDENT_BLOCKS, &[(b"one", false)], b"");
        frame[6] = header_checksum_with_magic(&frame[4..6]);
        assert_eq!(decompress(&frame, 6).unwrap(), b"one");
        frame[6] ^= 0x55;
        assert_eq!(decompress(&frame, 6), Err(corrupt("header checksum")));
    }
}
