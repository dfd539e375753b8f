//! Zstandard, on the C library.

use alloc::boxed::Box;
use alloc::vec::Vec;

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, compress_bound,
    get_frame_content_size, max_c_level, min_c_level,
};

use super::{first_guess, grow};
use crate::{Compression, RecordError};

const DEFAULT_LEVEL: i32 = 3;
/// The largest window (as a power of two) that the C library itself allows without being asked: 128 MiB.
const MAX_WINDOW_LOG: u32 = 27;
/// The window of level 19: what is always accepted, because a stream of unknown length announces its level's window however
/// short it turns out.
const MIN_WINDOW_LOG: u32 = 23;

#[derive(Default)]
pub(super) struct Zstd {
    compressor: Option<Box<CCtx<'static>>>,
    decompressor: Option<Box<DCtx<'static>>>,
}

impl Zstd {
    pub(super) fn compress(
        &mut self,
        level: Option<i32>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let failed = |what| RecordError::CompressionFailed(Compression::Zstd, what);
        let level = level.unwrap_or(DEFAULT_LEVEL);
        if !(min_c_level()..=max_c_level()).contains(&level) {
            return Err(failed("level outside of −131072–22"));
        }
        let context = match &mut self.compressor {
            Some(context) => context,
            none => none.insert(Box::new(CCtx::try_create().ok_or(failed("no memory"))?)),
        };
        let ready = context
            .reset(ResetDirective::SessionOnly)
            .and_then(|_| context.set_parameter(CParameter::CompressionLevel(level)))
            .and_then(|_| context.set_pledged_src_size(Some(input.len() as u64)));
        ready.map_err(|_| failed("parameters"))?;
        // With room for the worst case the whole input is one call.
        out.reserve(compress_bound(input.len()));
        let start = out.len();
        let mut source = InBuffer::around(input);
        let mut target = OutBuffer::around_pos(out, start);
        match context.compress_stream2(&mut target, &mut source, ZSTD_EndDirective::ZSTD_e_end) {
            Ok(0) => Ok(()),
            Ok(_) => Err(failed("output larger than its bound")),
            Err(_) => Err(failed("zstd")),
        }
    }

    /// Every frame of the stream, one after the other.
    pub(super) fn decompress(
        &mut self,
        input: &[u8],
        limit: usize,
    ) -> Result<Vec<u8>, RecordError> {
        let corrupt = |what| RecordError::CorruptCompression(Compression::Zstd, what);
        if input.is_empty() {
            return Err(corrupt("empty"));
        }
        let context = match &mut self.decompressor {
            Some(context) => context,
            none => {
                let made = DCtx::try_create().ok_or(corrupt("no memory for a context"))?;
                none.insert(Box::new(made))
            }
        };
        // A window larger than what may come out would only cost memory (the library reserves it).
        let window_log = limit.checked_ilog2().unwrap_or(0) + 1;
        context
            .reset(ResetDirective::SessionOnly)
            .and_then(|_| {
                let log = window_log.clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG);
                context.set_parameter(DParameter::WindowLogMax(log))
            })
            .map_err(|_| corrupt("parameters"))?;
        let mut out = Vec::with_capacity(match get_frame_content_size(input) {
            // With room for all of it the library decodes straight to where it belongs. The claim is believed as far
            // as 64 times the input.
            Ok(Some(size)) if size <= limit as u64 && size / 64 <= input.len() as u64 => {
                size as usize
            }
            _ => first_guess(input, limit),
        });
        let mut source = InBuffer::around(input);
        loop {
            let read = source.pos();
            let written = out.len();
            let full = written == out.capacity();
            let mut target = OutBuffer::around_pos(&mut out, written);
            let hint = context
                .decompress_stream(&mut target, &mut source)
                .map_err(|_| corrupt("zstd"))?;
            if out.len() > limit {
                return Err(RecordError::DecompressedTooLarge { limit });
            }
            if hint == 0 && source.pos() == input.len() {
                return Ok(out);
            }
            if read == source.pos() && written == out.len() && !full {
                return Err(corrupt("truncated"));
            }
            if out.len() == out.capacity() && !grow(&mut out, limit) {
                return Err(RecordError::DecompressedTooLarge { limit });
            }
        }
    }
}
