//! Copying what stays of a group of neighbouring segments into one new segment.

use super::{
    filter::{Filter, Kept},
    source::{Found, Source, SourceReader},
};
use crate::{
    config::LogConfig,
    error::LogError,
    names::{damaged_at, suffix::CLEANED},
    segment::Segment,
    storage::Storage,
};
use alloc::{collections::VecDeque, vec::Vec};
use bytes::Bytes;

/// About how much is read or written at once.
const WINDOW: u64 = 1 << 20;

/// What is to be written next.
enum Piece {
    /// These bytes of the source that is read, as they are.
    Run(u64, u64),
    /// A batch that was written anew.
    Batch(Bytes),
}

/// A group on its way.
pub struct Copying {
    group: Vec<Source>,
    /// The source that is read.
    at: usize,
    reader: Option<SourceReader>,
    found: Vec<Found>,
    out: Segment,
    backlog: VecDeque<Piece>,
    /// Whether so far everything stays as it is, so that nothing is written.
    untouched: bool,
    pub bytes_read: u64,
}

/// What became of a group.
#[allow(clippy::large_enum_variant)] // one at a time
pub enum Copied {
    /// The segment that is to take its place: its files are there, with the suffix `.cleaned`, and durable.
    Into(Segment),
    /// Nothing changes.
    Unchanged,
}

impl Copying {
    pub fn new(dir: &str, group: Vec<Source>, now_ms: i64) -> Self {
        let base_offset = group.first().map_or(0, |source| source.base_offset);
        Self {
            untouched: group.len() == 1,
            group,
            at: 0,
            reader: None,
            found: Vec::new(),
            out: Segment::unread(dir, base_offset).created_at(now_ms),
            backlog: VecDeque::new(),
            bytes_read: 0,
        }
    }

    /// The segments of the group.
    pub fn group(&self) -> &[Source] {
        &self.group
    }

    /// Goes on until about `budget` bytes were read and written. Returns how many were, and what came of it when it is done.
    pub fn step(
        &mut self,
        storage: &dyn Storage,
        filter: &mut Filter,
        config: &LogConfig,
        budget: u64,
    ) -> Result<(u64, Option<Copied>), LogError> {
        let mut spent = 0;
        while spent < budget {
            let about = WINDOW.min(budget - spent);
            if !self.untouched && !self.backlog.is_empty() {
                spent += self.write_some(storage, about)?;
            } else if let Some(reader) = self.reader.take_if(|reader| reader.is_at_end()) {
                if self.untouched {
                    return Ok((spent, Some(Copied::Unchanged)));
                }
                drop(reader);
                self.at += 1;
            } else if let Some(reader) = &mut self.reader {
                let before = reader.position;
                reader.next(about, &mut self.found)?;
                spent += reader.position - before;
                self.bytes_read += reader.position - before;
                self.sift(filter, config)?;
            } else if let Some(source) = self.group.get(self.at) {
                self.reader = Some(source.open(storage)?);
            } else {
                if self.out.size() == 0 {
                    self.out.begin_cleaned(storage)?;
                }
                self.out.finish_cleaned(storage)?;
                let next = Segment::unread("", 0);
                let out = core::mem::replace(&mut self.out, next);
                return Ok((spent, Some(Copied::Into(out))));
            }
        }
        Ok((spent, None))
    }

    /// Decides over the batches that were read.
    fn sift(&mut self, filter: &mut Filter, config: &LogConfig) -> Result<(), LogError> {
        let source = &self.group[self.at];
        let is_last = self.group[self.at + 1..].iter().all(|next| next.size == 0);
        for found in self.found.drain(..) {
            let ends_segment = is_last && found.end() == source.size;
            let kept = filter
                .keep(&found.batch, ends_segment)
                .map_err(|error| damaged_at(&source.path, found.position, error))?;
            match kept {
                Kept::Whole => {
                    self.out.note(found.batch.header(), config);
                    match self.backlog.back_mut() {
                        Some(Piece::Run(_, end)) if *end == found.position => *end = found.end(),
                        _ => self
                            .backlog
                            .push_back(Piece::Run(found.position, found.end())),
                    }
                }
                Kept::Changed(header, bytes) => {
                    self.untouched = false;
                    self.out.note(&header, config);
                    self.backlog.push_back(Piece::Batch(bytes));
                }
                Kept::Gone => self.untouched = false,
            }
        }
        Ok(())
    }

    /// Writes about so many bytes of what waits.
    fn write_some(&mut self, storage: &dyn Storage, about: u64) -> Result<u64, LogError> {
        let mut parts: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        while bytes < about
            && let Some(piece) = self.backlog.front_mut()
        {
            match piece {
                Piece::Batch(batch) => {
                    bytes += batch.len() as u64;
                    parts.push(core::mem::take(batch));
                    self.backlog.pop_front();
                }
                Piece::Run(from, end) => {
                    let Some(reader) = &self.reader else {
                        return Err(LogError::Damaged("a source is closed too early".into()));
                    };
                    let len = (*end - *from).min(about - bytes);
                    reader.file.read_at(*from, len as usize, &mut parts)?;
                    bytes += len;
                    *from += len;
                    if *from == *end {
                        self.backlog.pop_front();
                    }
                }
            }
        }
        self.out.begin_cleaned(storage)?.append(&parts)?;
        Ok(bytes)
    }

    /// Removes what was written, as far as that can be done.
    pub fn discard(&mut self, storage: &dyn Storage) {
        if !self.untouched {
            self.out.remove_files(storage, CLEANED);
        }
    }
}
