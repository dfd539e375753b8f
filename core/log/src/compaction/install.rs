//! Putting a cleaned segment in the place of those that it was made of, so that a crash at any moment leaves the old ones or
//! the new one. Kafka's steps and names, with a sync of the directory between any two:
//!
//! 0. No durable mark may point into what will be replaced, and all of it must be durable (with `durability=os` it need not be):
//!    a record goes only once the newer one of its key is on the disk.
//! 1. The new files are there and durable as `.cleaned`. They are renamed to `.swap`: from here on the new segment counts.
//! 2. The old segments are renamed to `.deleted`. What follows reads the new one.
//! 3. The new files get their final names. Before anything else is cleaned these are durable, too: beside a `.cleaned` file a
//!    `.swap` file of a larger offset counts for nothing.
//!
//! [`super::leftovers`] goes on from wherever a crash left it. The groups of one compaction are replaced one after the other,
//! in the order of their offsets: a tombstone must not go before what it deletes.

use super::{Compaction, Phase};
use crate::{
    durable_mark,
    error::LogError,
    names::suffix::{CLEANED, SWAP},
    partition_log::{PartitionLog, ReadEnd},
    segment::Segment,
    storage::{StorageError, Syncer},
};
use alloc::{boxed::Box, sync::Arc, vec::Vec};

/// A replacement under way.
pub(crate) struct Replacing {
    /// The new segment, until it is among the log's.
    segment: Option<Box<Segment>>,
    /// Base offsets of the old ones. The first one is the new one's, too.
    bases: Vec<i64>,
}

impl PartitionLog {
    /// Takes over what a compaction has ready for its log: some renames, nothing that takes long.
    ///
    /// If the log was cut off since the compaction began, the compaction ends and has done nothing.
    pub fn install(&mut self, compaction: &mut Compaction) -> Result<(), LogError> {
        self.check_running()?;
        if compaction.generation != self.files.generation {
            compaction.overtaken();
            return Ok(());
        }
        match &mut compaction.phase {
            Phase::Offer(segment, group) if !compaction.marks_settled => {
                let offer = Phase::Offer(segment.take(), core::mem::take(group));
                let mut syncers = self.unsynced_below(compaction.end)?;
                syncers.extend(self.settle_marks(compaction.end)?);
                compaction.marks_settled = true;
                compaction.phase = Phase::Sync(syncers, Box::new(offer));
            }
            Phase::Offer(segment, group) => {
                let is_same = group.iter().all(|source| {
                    let segment = &self.segments[self.segment_of(source.base_offset)];
                    segment.base_offset() == source.base_offset && segment.size() == source.size
                });
                let Some(segment) = segment.take_if(|_| is_same) else {
                    compaction.overtaken();
                    return Ok(());
                };
                let bases = group.iter().map(|source| source.base_offset).collect();
                if let Err(error) = segment.rename_files(self.storage.as_ref(), CLEANED, SWAP) {
                    segment.remove_files(self.storage.as_ref(), SWAP);
                    segment.remove_files(self.storage.as_ref(), CLEANED);
                    return Err(error.into());
                }
                self.files.replacing = Some(Replacing {
                    segment: Some(segment),
                    bases,
                });
                compaction.phase = Phase::Sync(Vec::new(), Box::new(Phase::Install));
            }
            Phase::Install => match self.go_on_replacing() {
                Err(error) => return Err(self.stop(error)),
                Ok(syncers) if self.files.replacing.is_some() => {
                    compaction.phase = Phase::Sync(syncers, Box::new(Phase::Install));
                }
                Ok(_) => {
                    // A later compaction's `.cleaned` must not come to lie beside a `.swap` of this one.
                    compaction.next_group();
                    let next = core::mem::replace(&mut compaction.phase, Phase::Done);
                    compaction.phase = Phase::Sync(Vec::new(), Box::new(next));
                }
            },
            _ => {}
        }
        if matches!(compaction.phase, Phase::Finish) {
            compaction.phase = Phase::Done;
            self.files.pinned_below = None;
        }
        Ok(())
    }

    /// Sees to it that no durable mark points into a segment below `end`. It does once the syncer is through: a mark's position
    /// would mean something else in the segment that takes its place.
    fn settle_marks(&mut self, end: i64) -> Result<Option<Arc<dyn Syncer>>, StorageError> {
        let (sequence, mark) = self.marked;
        let kept = mark.filter(|mark| mark.segment >= end);
        self.marked = (sequence, kept);
        let kept = kept.map(|mark| (sequence, mark));
        durable_mark::keep_only(self.storage.as_ref(), &self.dir, kept)
    }

    /// What makes all segments below `end` durable, together with a sync of the directory.
    fn unsynced_below(&mut self, end: i64) -> Result<Vec<Arc<dyn Syncer>>, StorageError> {
        let mut syncers = Vec::new();
        for segment in &mut self.segments {
            if segment.dirty && segment.base_offset() < end {
                syncers.push(segment.file(self.storage.as_ref())?.syncer());
            }
        }
        // What a sync under way has taken over is not durable yet.
        if let Some(job) = &self.under_way {
            syncers.extend(job.syncers.iter().cloned());
        }
        Ok(syncers)
    }

    /// The next step of a replacement, once the one before is durable. Returns what must be durable before the next, besides
    /// the directory.
    fn go_on_replacing(&mut self) -> Result<Vec<Arc<dyn Syncer>>, StorageError> {
        let mut syncers = Vec::new();
        let Some(mut replacing) = self.files.replacing.take() else {
            return Ok(syncers);
        };
        let storage = self.storage.clone();
        let first = self.segment_of(replacing.bases[0]);
        self.unsynced.dir = true;
        match replacing.segment.take() {
            Some(segment) => {
                // In the order of their offsets: as long as the first is there, all are.
                for i in 0..replacing.bases.len() {
                    let gone = self.segments[first + i].retire(storage.as_ref(), i > 0)?;
                    self.files
                        .deleted
                        .extend(gone.into_iter().map(|p| (None, p)));
                }
                if let Some(job) = &mut self.under_way
                    && replacing.bases.contains(&job.end.0)
                {
                    job.end.0 = -1; // its place is no more
                }
                let old = first..first + replacing.bases.len();
                let sealed = segment.to_sealed();
                self.segments.splice(old, [*segment]);
                if let Some(sealed) = sealed {
                    syncers.extend(self.note_sealed(&sealed)?);
                }
                self.read_ends = [ReadEnd::NONE; 4];
                self.files.replacing = Some(replacing);
            }
            None => self.segments[first].rename_files(storage.as_ref(), SWAP, "")?,
        }
        Ok(syncers)
    }

    /// Ends whatever compaction runs, since the log is about to change in a way that it doesn't know of. A replacement that
    /// has begun is finished.
    pub(crate) fn overtake_compaction(&mut self) -> Result<(), StorageError> {
        self.files.generation += 1;
        self.files.pinned_below = None;
        while self.files.replacing.is_some() {
            self.storage.sync_dir(&self.dir)?;
            let syncers = self.go_on_replacing()?;
            syncers.iter().try_for_each(|file| file.sync())?;
            if self.files.replacing.is_none() {
                self.storage.sync_dir(&self.dir)?;
            }
        }
        Ok(())
    }

    /// Gives a compaction up that failed: what it wrote is removed, what it has begun to replace is replaced.
    pub fn abandon(&mut self, compaction: &mut Compaction) {
        compaction.overtaken();
        if compaction.generation == self.files.generation
            && self.stopped().is_none()
            && let Err(error) = self.overtake_compaction()
        {
            self.fail(&error);
        }
    }

    /// Whether a compaction runs.
    pub fn is_compacting(&self) -> bool {
        self.files.pinned_below.is_some()
    }
}

impl Compaction {
    /// Ends it where it is; what it wrote for its next step is removed.
    fn overtaken(&mut self) {
        let storage = self.storage.clone();
        let mut phase = core::mem::replace(&mut self.phase, Phase::Done);
        if let Phase::Sync(_, then) = phase {
            phase = *then;
        }
        match phase {
            Phase::Copy(mut copying) => copying.discard(storage.as_ref()),
            Phase::Offer(Some(segment), _) => segment.remove_files(storage.as_ref(), CLEANED),
            _ => {}
        }
        self.done.first_dirty_offset = self.first_dirty;
    }
}
