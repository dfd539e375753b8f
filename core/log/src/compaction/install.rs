//! Putting a cleaned segment in the place of those that it was made of, so that a crash at any moment leaves the old ones or
//! the new one. Kafka's steps and names, with a sync of the directory between any two:
//!
//! 0. All that will be replaced must be durable (with `durability=os` it need not be): a record goes only once the newer one of its
//!    key is on the disk. So must be a snapshot of the producers from behind it: what goes can't tell any more which batches of theirs
//!    were there. Then the durable mark is moved behind it, unless it is there already, and is durable, too.
//! 1. The new files are there and durable as `.cleaned`. They are renamed to `.swap`: from here on the new segment counts.
//! 2. The old segments are renamed to `.deleted`. What follows reads the new one.
//! 3. The new files get their final names. Before anything else is cleaned these are durable, too: beside a `.cleaned` file a
//!    `.swap` file of a larger offset counts for nothing.
//!
//! [`super::leftovers`] goes on from wherever a crash left it. The groups of one compaction are replaced one after the other,
//! in the order of their offsets: a tombstone must not go before what it deletes.

use super::{Compaction, Phase, Prepared};
use crate::{
    durable_mark::{self, Mark},
    error::LogError,
    names::{
        SNAPSHOT, file_name, offset_of,
        suffix::{CLEANED, SWAP},
    },
    partition_log::{PartitionLog, ReadEnd},
    producer_state::ProducerState,
    recovery::SNAPSHOT_LIMIT,
    segment::Segment,
    storage::{StorageError, Unsynced, join, read_file},
};
use alloc::{boxed::Box, vec::Vec};

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
            Phase::Offer(segment, group) if compaction.prepared != Prepared::Wholly => {
                let offer = Phase::Offer(segment.take(), core::mem::take(group));
                let mut unsynced = Vec::new();
                compaction.prepared = match compaction.prepared {
                    Prepared::Not => {
                        unsynced.extend(self.secure_producers(compaction.end)?);
                        unsynced.extend(self.unsynced_below(compaction.end));
                        Prepared::Durable
                    }
                    Prepared::Durable | Prepared::Wholly => {
                        unsynced.extend(self.move_mark(compaction.end)?);
                        Prepared::Wholly
                    }
                };
                compaction.phase = Phase::Sync(unsynced, Box::new(offer));
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
                let storage = self.storage.clone();
                if let Err(error) = segment.rename_files(storage.as_ref(), CLEANED, SWAP) {
                    let is_gone = segment.remove_files(storage.as_ref(), SWAP)
                        && storage.sync_dir(&self.dir).is_ok();
                    segment.remove_files(storage.as_ref(), CLEANED);
                    // The next start would take it for a replacement to be finished, whatever the log has become until then.
                    return Err(match is_gone {
                        true => error.into(),
                        false => self.stop(error),
                    });
                }
                self.files.replacing = Some(Replacing {
                    segment: Some(segment),
                    bases,
                });
                compaction.phase = Phase::Sync(Vec::new(), Box::new(Phase::Install));
            }
            Phase::Install => match self.go_on_replacing() {
                Err(error) => return Err(self.stop(error)),
                Ok(unsynced) if self.files.replacing.is_some() => {
                    compaction.phase = Phase::Sync(unsynced, Box::new(Phase::Install));
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

    /// Sees to it that the durable mark doesn't point into a segment below `end`, all of which are durable. It does once what is
    /// returned is synced: a mark's position would mean something else in the segment that takes its place. But there is one: without
    /// it nobody could tell the holes that come now from those of a power cut.
    fn move_mark(&mut self, end: i64) -> Result<Option<Unsynced>, StorageError> {
        let (sequence, mark) = self.marked;
        let mut bases = self.segments.iter().map(Segment::base_offset);
        let moved = bases.find(|base| *base >= end).map(|base| Mark {
            offset: base,
            segment: base,
            position: 0,
        });
        let storage = self.storage.as_ref();
        let kept = match mark.filter(|mark| mark.segment >= end) {
            Some(kept) => Some((sequence, kept)),
            None if mark.is_none() && self.may_have_holes => None,
            None => moved.map(|mark| (sequence + 1, mark)),
        };
        if let Some((sequence, mark)) = &kept {
            durable_mark::write_mark(storage, &self.dir, *sequence, mark)?;
        }
        self.marked = (
            kept.map_or(sequence, |(number, _)| number),
            kept.map(|(_, mark)| mark),
        );
        durable_mark::keep_only(storage, &self.dir, kept)
    }

    /// Sees to it that there is a snapshot from `end` or behind it, once what is returned and the side files are synced. A power cut
    /// may have taken the one that was written when the last segment before `end` was closed.
    fn secure_producers(&mut self, end: i64) -> Result<Vec<Unsynced>, StorageError> {
        if self.producers.is_empty() {
            return Ok(Vec::new());
        }
        let mut unsynced = Vec::new();
        let at = match self.snapshot_from(end)? {
            Some(at) => {
                // Perhaps it was written before the log was opened, and nobody has synced it.
                let path = join(&self.dir, &file_name(at, SNAPSHOT));
                unsynced.push(Unsynced::named(path));
                at
            }
            None => {
                self.write_snapshot()?;
                self.log_end_offset
            }
        };
        // It counts only if all that it tells of survives.
        let before = |segment: &&Segment| segment.dirty && segment.base_offset() < at;
        let dirty = self.segments.iter().filter(before);
        unsynced.extend(dirty.map(Segment::unsynced));
        Ok(unsynced)
    }

    /// The first good snapshot from `end` or behind it.
    fn snapshot_from(&self, end: i64) -> Result<Option<i64>, StorageError> {
        let storage = self.storage.as_ref();
        for entry in storage.list(&self.dir)? {
            if let Some(offset) = offset_of(&entry.name, SNAPSHOT)
                && (end..=self.log_end_offset).contains(&offset)
                && let Some(bytes) =
                    read_file(storage, &join(&self.dir, &entry.name), SNAPSHOT_LIMIT)?
                && ProducerState::from_snapshot(&bytes).is_some()
            {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    /// What makes all segments below `end` durable, and all side files that were written, together with a sync of the directory.
    fn unsynced_below(&self, end: i64) -> Vec<Unsynced> {
        let mut unsynced: Vec<_> = self
            .segments
            .iter()
            .filter(|segment| segment.dirty && segment.base_offset() < end)
            .map(Segment::unsynced)
            .collect();
        unsynced.extend(self.unsynced.files.iter().cloned());
        // What a sync under way has taken over is not durable yet.
        if let Some(job) = &self.under_way {
            unsynced.extend(job.files.iter().cloned());
        }
        unsynced
    }

    /// The next step of a replacement, once the one before is durable. Returns what must be durable before the next, besides
    /// the directory.
    fn go_on_replacing(&mut self) -> Result<Vec<Unsynced>, StorageError> {
        let mut unsynced = Vec::new();
        let Some(mut replacing) = self.files.replacing.take() else {
            return Ok(unsynced);
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
                // With the segments go the indexes of what was aborted there, since none of it is left. A reader that is told of a
                // transaction whose marker is gone would skip the producer's next one.
                let base = replacing.bases[0];
                let below = self
                    .segments
                    .get(old.end)
                    .map_or(self.log_end_offset, Segment::base_offset);
                self.aborted
                    .retain(|row| !(base..below).contains(&row.last_offset));
                let sealed = segment.to_sealed();
                self.segments.splice(old, [*segment]);
                if let Some(sealed) = sealed {
                    unsynced.extend(self.note_sealed(&sealed)?);
                }
                self.read_ends = [ReadEnd::NONE; 4];
                self.files.replacing = Some(replacing);
            }
            None => self.segments[first].rename_files(storage.as_ref(), SWAP, "")?,
        }
        Ok(unsynced)
    }

    /// Ends whatever compaction runs, since the log is about to change in a way that it doesn't know of. A replacement that
    /// has begun is finished.
    pub(crate) fn overtake_compaction(&mut self) -> Result<(), StorageError> {
        self.files.generation += 1;
        self.files.pinned_below = None;
        while self.files.replacing.is_some() {
            self.storage.sync_dir(&self.dir)?;
            let unsynced = self.go_on_replacing()?;
            unsynced
                .iter()
                .try_for_each(|file| file.sync(self.storage.as_ref()))?;
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
            Phase::Offer(Some(segment), _) => {
                segment.remove_files(storage.as_ref(), CLEANED);
            }
            _ => {}
        }
        self.done.first_dirty_offset = self.first_dirty;
    }
}
