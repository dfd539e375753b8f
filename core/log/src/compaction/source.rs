//! Reading the segments that are compacted: whole batches, each checked.

use crate::{
    error::LogError,
    names::damaged_at,
    storage::{OpenHow, Storage, StorageFile},
};
use alloc::{boxed::Box, format, string::String, vec::Vec};
use ottla_record::{BatchHeader, Batches, HEADER_LEN, RecordBatch, RecordError};

/// A segment as it was when the compaction was planned.
#[derive(Clone, Debug)]
pub struct Source {
    pub base_offset: i64,
    /// Where the next segment begins, or the log's end.
    pub below: i64,
    /// Of the log file.
    pub path: String,
    /// Bytes of it that count.
    pub size: u64,
    /// Of the larger one of its indexes.
    pub index_bytes: u64,
}

impl Source {
    pub fn open(&self, storage: &dyn Storage) -> Result<SourceReader, LogError> {
        let mut file = storage.open(&self.path, OpenHow::ReadOnly)?;
        file.seal();
        Ok(SourceReader {
            file,
            source: self.clone(),
            position: 0,
            next_offset: self.base_offset,
        })
    }
}

/// A batch and its place.
#[derive(Debug)]
pub struct Found {
    pub position: u64,
    pub batch: RecordBatch,
}

impl Found {
    /// Where the next one begins.
    pub fn end(&self) -> u64 {
        self.position + self.batch.size_in_bytes() as u64
    }
}

/// Reads one segment from its beginning to its end.
pub struct SourceReader {
    pub file: Box<dyn StorageFile>,
    pub source: Source,
    pub position: u64,
    next_offset: i64,
}

impl SourceReader {
    pub fn is_at_end(&self) -> bool {
        self.position >= self.source.size
    }

    /// Reads about so many bytes, but one batch at least, into `found`, and checks them: their checksums, and that offsets
    /// rise and stay within the segment. What is not whole is an error.
    pub fn next(&mut self, about: u64, found: &mut Vec<Found>) -> Result<(), LogError> {
        found.clear();
        let (path, start) = (&self.source.path, self.position);
        let rest = self.source.size - start;
        let mut raw = [0; HEADER_LEN];
        let head = &mut raw[..HEADER_LEN.min(rest as usize)];
        self.file.read_into(start, head)?;
        let first = BatchHeader::parse(head).map_err(|error| damaged_at(path, start, error))?;
        let needed = first.size_in_bytes() as u64;
        if needed > rest {
            let error = RecordError::Truncated {
                needed: needed as usize,
                have: rest as usize,
            };
            return Err(damaged_at(path, start, error));
        }
        let mut chunks = Vec::with_capacity(1);
        let bytes = about.max(needed).min(rest) as usize;
        self.file.read_at(start, bytes, &mut chunks)?;
        let mut batches = Batches::new(chunks);
        while let Some(batch) = batches.next() {
            let position = self.position;
            let damaged = |error| damaged_at(path, position, error);
            let batch = batch.map_err(damaged)?;
            batch.check_crc().map_err(damaged)?;
            let header = batch.header();
            let end = start + batches.position();
            if end - position != batch.size_in_bytes() as u64 {
                return Err(damaged(RecordError::UnsupportedMagic(1)));
            }
            if header.base_offset < self.next_offset || header.last_offset() >= self.source.below {
                return Err(LogError::Damaged(format!(
                    "{path}, position {position}: offsets {} to {} where only {} to {} can be",
                    header.base_offset,
                    header.last_offset(),
                    self.next_offset,
                    self.source.below - 1,
                )));
            }
            self.next_offset = header.next_offset();
            self.position = end;
            found.push(Found { position, batch });
        }
        Ok(())
    }
}
