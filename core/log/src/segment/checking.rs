//! What keeps damage from costing more than itself: batches are checked before they are first read, and where a header can't be,
//! the next whole batch is looked for.

use super::{Segment, not_open, read_batch};
use crate::{
    damage::{is_whole, next_batch},
    error::LogError,
    headers::{HeaderReader, Placed},
    names::damaged_at,
    storage::{Storage, StorageErrorKind},
};
use ottla_record::BatchHeader;

impl Segment {
    /// Calls `each` with every batch from `position` on, where one begins. Where a header can't be, the next whole batch is
    /// looked for, and what lies between is noted as damaged.
    pub fn each_header(
        &mut self,
        storage: &dyn Storage,
        mut position: u64,
        mut each: impl FnMut(&Placed),
    ) -> Result<(), LogError> {
        self.file(storage)?;
        let Some(file) = self.file.as_deref() else {
            return Err(not_open(&self.path).into());
        };
        // A wrong length or offset may be noticed one batch later, so each is held back until the next one fits.
        let mut held: Option<Placed> = None;
        let mut next_offset = self.base_offset;
        // Whether a batch has to begin just there.
        let mut exact = self.contiguous && position == 0;
        let mut damaged = self.damaged.clone();
        loop {
            let mut reader = HeaderReader::new(file, &self.path, self.size, &damaged);
            let (culprit, misfit) = loop {
                let due = held
                    .as_ref()
                    .map_or(next_offset, |h| h.header.next_offset());
                match reader.at(position) {
                    Ok(None) => break (None, None),
                    Ok(Some(placed)) => {
                        let (base, last) = (placed.header.base_offset, placed.header.last_offset());
                        if base < due || last >= self.next_offset || exact && base != due {
                            break (Some(placed.position), Some(placed));
                        }
                        position = placed.end();
                        exact = self.contiguous;
                        if let Some(fits) = held.replace(placed) {
                            next_offset = fits.header.next_offset();
                            each(&fits);
                        }
                    }
                    Err(LogError::Storage(error)) if error.kind != StorageErrorKind::Invalid => {
                        return Err(error.into());
                    }
                    Err(_) => break (Some(position), None),
                }
            };
            let Some(mut culprit) = culprit else {
                break;
            };
            if let Some(before) = held.take() {
                let whole = |placed: &Placed| {
                    is_whole(file, placed.position, placed.header.size_in_bytes())
                };
                // Two that contradict each other: the second one is right if it would fit without the first.
                let second_fits = match &misfit {
                    Some(second) => {
                        (next_offset..self.next_offset).contains(&second.header.base_offset)
                            && second.header.last_offset() < self.next_offset
                            && !self.contiguous
                            && whole(second)?
                    }
                    None => false,
                };
                if !second_fits && whole(&before)? {
                    next_offset = before.header.next_offset();
                    each(&before);
                } else {
                    culprit = before.position;
                }
            }
            let offsets = next_offset..self.next_offset.max(next_offset);
            position = next_batch(file, culprit + 1, self.size, offsets)?.unwrap_or(self.size);
            damaged.add(culprit..position);
            exact = false;
        }
        if let Some(last) = held {
            each(&last);
        }
        self.damaged = damaged;
        Ok(())
    }

    /// Checks the batches from `position` on, where one begins, over `bytes` bytes, unless that was done since the log was
    /// opened or it wrote them itself. What is damaged is noted, and not read from then on.
    pub fn check(
        &mut self,
        storage: &dyn Storage,
        position: u64,
        bytes: u64,
    ) -> Result<(), LogError> {
        let end = position.saturating_add(bytes).min(self.unchecked_below);
        if position >= end || self.checked.end_of(position).is_some_and(|to| to >= end) {
            return Ok(());
        }
        let mut due = self.due_at(storage, position)?;
        self.file(storage)?;
        let Some(file) = self.file.as_deref() else {
            return Err(not_open(&self.path).into());
        };
        let mut at = position;
        while at < end {
            if let Some(to) = self.checked.end_of(at) {
                due = (self.checked_end.0 == to && self.contiguous).then_some(self.checked_end.1);
                at = to;
                continue;
            }
            if let Some(to) = self.damaged.end_of(at) {
                (at, due) = (to, None);
                continue;
            }
            let header = read_batch(file, &self.path, at, self.size).and_then(|batch| {
                batch
                    .check_crc()
                    .map_err(|error| damaged_at(&self.path, at, error))?;
                Ok(*batch.header())
            });
            // The base offset lies outside the checksum; the batch before tells what it must be.
            let fits = |header: &BatchHeader| {
                due.is_none_or(|due| header.base_offset == due)
                    && header.base_offset >= self.base_offset
                    && header.last_offset() < self.next_offset
            };
            match header {
                Ok(header) if fits(&header) => {
                    let to = at + header.size_in_bytes() as u64;
                    self.checked.add(at..to);
                    self.checked_end = (to, header.next_offset());
                    due = self.contiguous.then(|| header.next_offset());
                    at = to;
                }
                Err(LogError::Storage(error)) if error.kind != StorageErrorKind::Invalid => {
                    return Err(error.into());
                }
                _ => {
                    let offsets = due.unwrap_or(self.base_offset)..self.next_offset;
                    let next = next_batch(file, at + 1, self.size, offsets)?;
                    let next = next.unwrap_or(self.size);
                    self.damaged.add(at..next);
                    (at, due) = (next, None);
                }
            }
        }
        Ok(())
    }

    /// The offset with which the batch at `position` must begin, where that can be told.
    fn due_at(&mut self, storage: &dyn Storage, position: u64) -> Result<Option<i64>, LogError> {
        if !self.contiguous {
            return Ok(None);
        }
        if self.checked_end.0 == position {
            return Ok(Some(self.checked_end.1));
        }
        self.ensure_indexed(storage)?;
        // An entry has the last offset of the batch that begins at its position.
        let entry = self.index.at_or_before(position);
        let base_offset = self.base_offset;
        let mut reader = self.headers(storage)?;
        let (mut at, mut due) = (0, base_offset);
        if let Some((last_offset, entry)) = entry {
            match reader.at(entry) {
                Ok(Some(placed)) if placed.position == entry => {
                    due = last_offset - i64::from(placed.header.last_offset_delta);
                    at = entry;
                }
                _ => return Ok(None),
            }
        }
        while at < position {
            match reader.at(at) {
                Ok(Some(placed)) if placed.position == at => {
                    due += i64::from(placed.header.last_offset_delta) + 1;
                    at = placed.end();
                }
                _ => return Ok(None),
            }
        }
        Ok((at == position).then_some(due))
    }

    /// Whether what begins at `position` can't be read.
    pub fn is_damaged(&self, position: u64) -> bool {
        self.damaged.end_of(position).is_some()
    }

    /// Where what can be read from `position` on ends: at the next damaged place, or with the segment.
    pub fn readable_up_to(&self, position: u64) -> u64 {
        self.damaged.next_start(position).unwrap_or(self.size)
    }

    /// Bytes that can't be read, as far as they were found.
    pub fn damaged_bytes(&self) -> u64 {
        self.damaged.bytes()
    }
}
