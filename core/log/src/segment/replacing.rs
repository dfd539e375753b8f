//! The files of a segment that compaction writes, and of one that goes.

use super::Segment;
use crate::{
    names::{
        INDEX, LOG, SNAPSHOT, TIME_INDEX, TXN_INDEX,
        suffix::{CLEANED, DELETED},
    },
    storage::{OpenHow, Storage, StorageError, StorageErrorKind, StorageFile},
};
use alloc::{format, string::String, vec::Vec};

impl Segment {
    /// The log file of a segment that compaction writes: it has the suffix `.cleaned`, and is empty at first.
    pub fn begin_cleaned(
        &mut self,
        storage: &dyn Storage,
    ) -> Result<&mut dyn StorageFile, StorageError> {
        if self.file.is_none() {
            let mut file =
                storage.open(&format!("{}{CLEANED}", self.path), OpenHow::OpenOrCreate)?;
            file.truncate(0)?;
            self.file = Some(file);
        }
        self.file(storage)
    }

    /// Writes the indexes of a segment that compaction wrote, and makes its files durable, though not yet their names.
    pub fn finish_cleaned(&mut self, storage: &dyn Storage) -> Result<(), StorageError> {
        let file = self.begin_cleaned(storage)?;
        file.sync()?;
        file.seal();
        self.write_indexes_with(storage, CLEANED)?
            .iter()
            .try_for_each(|index| index.sync(storage))
    }

    /// Renames the log and its indexes from one suffix to another, the log last.
    pub fn rename_files(
        &self,
        storage: &dyn Storage,
        from: &str,
        to: &str,
    ) -> Result<(), StorageError> {
        [INDEX, TIME_INDEX, LOG].iter().try_for_each(|kind| {
            let path = self.path_with(kind);
            storage.rename(&format!("{path}{from}"), &format!("{path}{to}"))
        })
    }

    /// Removes the log and its indexes of a suffix, the log first, as far as they are there and it can be done. Returns whether
    /// none is left.
    pub fn remove_files(&self, storage: &dyn Storage, suffix: &str) -> bool {
        let mut are_gone = true;
        for kind in [LOG, INDEX, TIME_INDEX] {
            let removed = storage.remove_file(&format!("{}{suffix}", self.path_with(kind)));
            are_gone &= removed.map_or_else(|e| e.kind == StorageErrorKind::NotFound, |()| true);
        }
        are_gone
    }

    /// Gives the segment's files the suffix `.deleted`, the log first, and says which there are now. Reads that have some of
    /// its bytes keep them.
    pub fn retire(
        &mut self,
        storage: &dyn Storage,
        with_snapshot: bool,
    ) -> Result<Vec<String>, StorageError> {
        self.file = None;
        let mut gone = Vec::new();
        for kind in [LOG, INDEX, TIME_INDEX, TXN_INDEX, SNAPSHOT] {
            if kind == SNAPSHOT && !with_snapshot {
                continue;
            }
            let path = self.path_with(kind);
            let deleted = format!("{path}{DELETED}");
            match storage.rename(&path, &deleted) {
                Ok(()) => gone.push(deleted),
                Err(error) if error.kind == StorageErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }
}
