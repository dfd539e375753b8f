//! Finding batches and records, by offset and by time.

use super::{REMADE_INTERVAL, SEGMENT_LIMIT, Segment, not_open, read_batch};
use crate::{
    error::LogError,
    headers::{HeaderReader, Placed},
    index::{OffsetIndex, TimeIndex},
    names::damaged_at,
    storage::{Storage, StorageError},
};
use ottla_record::{Limits, RecordBatch, RecordError};

impl Segment {
    /// The first batch whose last offset is at least `offset`.
    ///
    /// An index that doesn't fit its log is noticed here, and made again; so is damage, which is stepped over.
    pub fn find(&mut self, storage: &dyn Storage, offset: i64) -> Result<Option<Placed>, LogError> {
        self.ensure_indexed(storage)?;
        let from = self.index.position_for(offset);
        let found = self.find_from(storage, from, offset);
        let astray = match &found {
            Ok(Some(placed)) => {
                from > 0 && placed.position == from && placed.header.base_offset > offset
            }
            Ok(None) => false,
            Err(error) => matches!(error, LogError::Corrupt { .. }),
        };
        if !astray {
            return found;
        }
        // Either the index leads astray, or the log is damaged there; the headers from the beginning on tell.
        self.remake_indexes(storage)?;
        let from = self.index.position_for(offset);
        self.find_from(storage, from, offset)
    }

    /// Makes both indexes again from the headers, and notes what is damaged.
    pub(super) fn remake_indexes(&mut self, storage: &dyn Storage) -> Result<(), LogError> {
        let mut index = OffsetIndex::new(self.base_offset);
        let mut time_index = TimeIndex::new(self.base_offset);
        let mut last_entry = 0;
        let mut largest = (-1, -1);
        self.each_header(storage, 0, |placed| {
            if placed.position - last_entry > REMADE_INTERVAL && placed.position <= SEGMENT_LIMIT {
                index.push(placed.header.last_offset(), placed.position);
                time_index.push(largest.0, largest.1);
                last_entry = placed.position;
            }
            if placed.header.max_timestamp > largest.0 && placed.header.record_count > 0 {
                largest = (placed.header.max_timestamp, placed.header.last_offset());
            }
        })?;
        time_index.push(largest.0, largest.1);
        (self.index, self.time_index) = (index, time_index);
        self.max_timestamp = largest;
        self.bytes_since_index = self.size - last_entry;
        self.indexed = true;
        self.stale_files = true;
        Ok(())
    }

    /// As [`Segment::find`], walking from a position where a batch begins that is not beyond the one looked for.
    pub fn find_from(
        &mut self,
        storage: &dyn Storage,
        position: u64,
        offset: i64,
    ) -> Result<Option<Placed>, LogError> {
        self.headers(storage)?.find(position, offset)
    }

    pub(super) fn headers(
        &mut self,
        storage: &dyn Storage,
    ) -> Result<HeaderReader<'_>, StorageError> {
        self.file(storage)?;
        match &self.file {
            Some(file) => Ok(HeaderReader::new(
                file.as_ref(),
                &self.path,
                self.size,
                &self.damaged,
            )),
            None => Err(not_open(&self.path)),
        }
    }

    /// Calls `each` with every batch from `position` on, where one begins. A place where no header can be is an error here;
    /// [`Segment::each_header`] goes on behind it.
    pub(super) fn walk(
        &mut self,
        storage: &dyn Storage,
        mut position: u64,
        mut each: impl FnMut(&Placed),
    ) -> Result<(), LogError> {
        let mut headers = self.headers(storage)?;
        while let Some(placed) = headers.at(position)? {
            each(&placed);
            position = placed.end();
        }
        Ok(())
    }

    /// The batch that begins at `position`.
    pub fn batch_at(
        &mut self,
        storage: &dyn Storage,
        position: u64,
    ) -> Result<RecordBatch, LogError> {
        self.file(storage)?;
        match &self.file {
            Some(file) => read_batch(file.as_ref(), &self.path, position, self.size),
            None => Err(not_open(&self.path).into()),
        }
    }

    /// The first record at or after `from` whose timestamp is at least `timestamp`: its timestamp and offset.
    pub fn find_time(
        &mut self,
        storage: &dyn Storage,
        timestamp: i64,
        from: i64,
    ) -> Result<Option<(i64, i64)>, LogError> {
        self.ensure_indexed(storage)?;
        let from = from.max(self.base_offset);
        let Some(first) = self.find(storage, self.time_index.offset_before(timestamp).max(from))?
        else {
            return Ok(None);
        };
        let mut position = first.position;
        loop {
            let mut headers = self.headers(storage)?;
            let candidate = loop {
                let Some(placed) = headers.at(position)? else {
                    return Ok(None);
                };
                position = placed.end();
                if placed.header.max_timestamp >= timestamp && placed.header.record_count > 0 {
                    break placed;
                }
            };
            // Damage costs no more than itself here, too.
            let bytes = candidate.header.size_in_bytes() as u64;
            self.check(storage, candidate.position, bytes)?;
            if self.is_damaged(candidate.position) {
                continue;
            }
            let Some(file) = self.file.as_deref() else {
                return Err(not_open(&self.path).into());
            };
            let found =
                read_batch(file, &self.path, candidate.position, self.size).and_then(|batch| {
                    first_record(&batch, timestamp, from)
                        .map_err(|error| damaged_at(&self.path, candidate.position, error))
                })?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
}

/// The first record of a batch at or after `from` whose timestamp is at least `timestamp`: its timestamp and offset.
fn first_record(
    batch: &RecordBatch,
    timestamp: i64,
    from: i64,
) -> Result<Option<(i64, i64)>, RecordError> {
    let mut records = batch.records(Limits::default())?;
    loop {
        records.skip_before(timestamp);
        let Some(record) = records.next_record() else {
            return Ok(None);
        };
        let record = record?;
        if record.timestamp >= timestamp && record.offset >= from {
            return Ok(Some((record.timestamp, record.offset)));
        }
    }
}
