//! The codecs, and the state that is worth keeping between batches.

use alloc::vec::Vec;

use crate::{Compression, RecordError};

/// The state of compressors and decompressors, kept so that a loop over batches doesn't build it anew (a zstd context
/// takes longer to make than a small batch to compress). Built when first needed. One per thread or machine.
#[derive(Default)]
pub struct Codecs {
    scratch: Vec<u8>,
}

impl Codecs {
    /// Nothing built yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the compressed form of `input` to `out`.
    ///
    /// Levels, `None` for the default: gzip 0–9 (6), zstd −131072–22 (3); snappy and lz4 have one speed and ignore it.
    pub fn compress(
        &mut self,
        codec: Compression,
        level: Option<i32>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let _ = (level, input, out);
        Err(RecordError::CompressionNotBuilt(codec))
    }

    /// What `input` decompresses to, at most `limit` bytes: more is [`RecordError::DecompressedTooLarge`]. Memory grows
    /// with the bytes that come out, never by what the input claims.
    pub fn decompress(
        &mut self,
        codec: Compression,
        input: &[u8],
        limit: usize,
    ) -> Result<Vec<u8>, RecordError> {
        let _ = (input, limit);
        Err(RecordError::CompressionNotBuilt(codec))
    }

    pub(crate) fn take_scratch(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.scratch)
    }

    /// Keeps the buffer for the next batch, unless a rare giant made it too large to sit idle.
    pub(crate) fn keep_scratch(&mut self, scratch: Vec<u8>) {
        if scratch.capacity() <= 4 << 20 {
            self.scratch = scratch;
        }
    }
}
