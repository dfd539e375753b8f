//! When a log writes its durable mark ([`durable_mark`]), and when it has to write the file anew.

use crate::{
    durable_mark::{self, Mark, Sealed},
    names::DURABLE_MARK,
    partition_log::PartitionLog,
    segment::Segment,
    storage::{StorageError, Unsynced, join},
};
use alloc::vec::Vec;

/// So many entries of segments that are gone are never worth writing the file anew.
const SPARE_ENTRIES: usize = 8;

/// Whether something is on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secured {
    No,
    /// It will be with the job that was handed out.
    WithJob,
    Yes,
}

impl PartitionLog {
    /// Writes down that all up to there is durable. Should that fail, the next start has more to read, no more than that.
    pub(crate) fn write_mark(&mut self, mark: Mark) {
        if self.marked.1 == Some(mark) || !self.may_mark(mark.segment) {
            return;
        }
        let sequence = self.marked.0 + 1;
        if durable_mark::write_mark(self.storage.as_ref(), &self.dir, sequence, &mark).is_ok() {
            self.marked = (sequence, Some(mark));
        }
    }

    /// Whether a mark may point into a segment: not into one that a compaction is about to replace.
    fn may_mark(&self, segment: i64) -> bool {
        segment >= 0 && self.files.pinned_below.is_none_or(|end| segment >= end)
    }

    /// What has to be durable, with its name, before a compacted log has a second segment: the file of the mark, be it with one that says
    /// nothing. So where a power cut leaves a hole, opening can tell that from the holes of a compaction. `None` if nothing has to.
    pub(crate) fn marks_to_secure(&mut self) -> Option<Unsynced> {
        if !self.config.compact {
            return None;
        }
        if self.marked.1.is_none() && !self.may_have_holes {
            let first = self.segments[0].base_offset();
            self.write_mark(Mark {
                offset: first,
                segment: first,
                position: 0,
            });
        }
        let path = join(&self.dir, DURABLE_MARK);
        self.marked.1.map(|_| Unsynced::named(path))
    }

    /// A mark beyond the log's end, which was cut, must not speak for what is written there next.
    pub(crate) fn lower_mark(&mut self) -> Result<(), StorageError> {
        match self.marked.1 {
            Some(mark) if mark.offset > self.log_end_offset => self.drop_mark(),
            _ => Ok(()),
        }
    }

    /// Makes all marks count for nothing, durably: a power cut may bring back what a slot said before, and in the other one there
    /// is an older mark.
    pub(crate) fn drop_mark(&mut self) -> Result<(), StorageError> {
        self.marked.1 = None;
        self.secured = Secured::No;
        self.may_have_holes = self.segments.len() > 1;
        let storage = self.storage.as_ref();
        if let Some(marks) = durable_mark::keep_only(storage, &self.dir, None)? {
            marks.sync(storage)?;
            storage.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// Writes down what a segment that was just closed, or put in the place of others, looks like. `None` if the file was written
    /// anew for it: entries of segments that are gone had come to outnumber the others. Then it is durable, but for its name.
    pub(crate) fn note_sealed(
        &mut self,
        sealed: &Sealed,
    ) -> Result<Option<Unsynced>, StorageError> {
        let (entries, unsynced) =
            durable_mark::append_sealed(self.storage.as_ref(), &self.dir, sealed)?;
        if entries <= 2 * self.segments.len() + SPARE_ENTRIES {
            return Ok(Some(unsynced));
        }
        self.write_marks()?;
        Ok(None)
    }

    /// Writes the file of the durable mark anew, with what is durable now; the job that follows moves the mark.
    pub(crate) fn write_marks(&mut self) -> Result<(), StorageError> {
        let sealed: Vec<_> = self
            .segments
            .iter()
            .filter_map(Segment::to_sealed)
            .collect();
        let (sequence, mark) = self.marked;
        let mark = mark.map(|mark| (sequence, mark));
        durable_mark::rewrite(self.storage.as_ref(), &self.dir, mark, &sealed)?;
        self.unsynced.dir = true;
        Ok(())
    }
}
