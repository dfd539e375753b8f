//! Log compaction: of each key the newest record stays, as Kafka's `LogCleaner` does it (KIP-58, KIP-280's default, KIP-354, KIP-534).
//!
//! [`PartitionLog::cleanable`] says what there is to clean, [`PartitionLog::compact`] begins, and then the [`Compaction`] is a
//! machine of its own, that needs neither the log nor its lock: [`Compaction::step`] reads and writes for a number of bytes.
//! In between it wants to be shown to its log ([`PartitionLog::install`]), which takes no more time than some renames.
//!
//! | file | what it does |
//! |---|---|
//! | `plan.rs` | what is dirty, whether it is time, which segments become one |
//! | `source.rs`, `transactions.rs` | reading and checking; aborted transactions |
//! | `key_hash.rs`, `offset_map.rs` | the newest offset of each key |
//! | `filter.rs`, `copy.rs` | what stays of a batch; writing the new segment |
//! | `install.rs`, `leftovers.rs` | putting it in the place of the old ones; finishing that after a crash |

mod copy;
mod filter;
mod install;
mod key_hash;
mod leftovers;
mod offset_map;
mod plan;
mod source;
mod transactions;

pub(crate) use filter::LastBatch;
pub(crate) use install::Replacing;
pub(crate) use leftovers::{has_leftovers, settle};
pub use plan::Cleanable;

use crate::{
    config::LogConfig,
    error::LogError,
    names::damaged_at,
    partition_log::PartitionLog,
    segment::Segment,
    storage::{Storage, StorageError, Unsynced},
};
use alloc::{boxed::Box, collections::VecDeque, string::String, sync::Arc, vec::Vec};
use copy::{Copied, Copying};
use filter::Filter;
use source::{Found, Source, SourceReader};
use transactions::Survey;

/// About how much is read at once.
const WINDOW: u64 = 1 << 20;

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// All below this offset is clean now: what belongs into `cleaner-offset-checkpoint`.
    pub first_dirty_offset: i64,
    /// Bytes and number of the segments that were looked at, before and after.
    pub bytes_before: u64,
    /// See [`Compacted::bytes_before`].
    pub bytes_after: u64,
    /// See [`Compacted::bytes_before`].
    pub segments_before: usize,
    /// See [`Compacted::bytes_before`].
    pub segments_after: usize,
    /// Different keys among the records that were not clean.
    pub keys: usize,
}

/// A compaction under way. It can be moved to another thread, and dropped: what it wrote and did not finish is removed when the
/// log is opened the next time, or by [`PartitionLog::abandon`].
pub struct Compaction {
    storage: Arc<dyn Storage>,
    dir: String,
    config: LogConfig,
    /// Which beginning of a compaction of its log it is.
    generation: u64,
    first_dirty: i64,
    /// Records from here on are not cleaned.
    end: i64,
    up_to: i64,
    /// The segments to be cleaned, and behind them those where transactions may end.
    sources: Vec<Source>,
    to_clean: usize,
    /// How far the log is prepared for its segments to be replaced.
    prepared: Prepared,
    /// Whether the log has aborted transactions.
    has_aborted: bool,
    filter: Filter,
    phase: Phase,
    /// What is still to be copied, each group into one segment.
    groups: VecDeque<Vec<Source>>,
    done: Compacted,
}

/// What was done before the first segment is replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prepared {
    Not,
    /// All that will be replaced is durable.
    Durable,
    /// And the durable mark lies behind it.
    Wholly,
}

/// What it is at.
enum Phase {
    /// Learns the keys of what is dirty.
    Index {
        reader: Option<SourceReader>,
        at: usize,
        surveyed: bool,
    },
    /// Learns what became of transactions; then it begins to index anew.
    Survey(Box<Survey>),
    /// Writes a new segment.
    Copy(Box<Copying>),
    /// Has a new segment for the log, in place of the ones that it was made of.
    Offer(Option<Box<Segment>>, Vec<Source>),
    /// The log has changed names and marks, which must be durable before this goes on as what stands behind.
    Sync(Vec<Unsynced>, Box<Phase>),
    /// The log can go on replacing.
    Install,
    /// All is copied; the log has to know.
    Finish,
    /// All is done.
    Done,
}

impl Compaction {
    /// Goes on until about `budget` bytes were read and written, and returns how many were. Must not be called while
    /// [`Compaction::wants_log`].
    ///
    /// A batch that can't be read ends it with [`LogError::Corrupt`] or [`LogError::Damaged`]: the log stays as it is, and
    /// trying again is of no use.
    pub fn step(&mut self, budget: u64) -> Result<u64, LogError> {
        let mut spent = 0;
        while spent < budget && !self.wants_log() && self.finished().is_none() {
            spent += self.go_on(budget - spent)?;
        }
        Ok(spent)
    }

    /// Whether [`PartitionLog::install`] is what comes next.
    pub fn wants_log(&self) -> bool {
        matches!(
            self.phase,
            Phase::Offer(..) | Phase::Install | Phase::Finish
        )
    }

    /// What it did, once all is done.
    pub fn finished(&self) -> Option<Compacted> {
        matches!(self.phase, Phase::Done).then_some(self.done)
    }

    /// Whether a failure of storage leaves the log's own files in an unknown state: then the log is to be stopped
    /// ([`PartitionLog::fail`]) before the compaction is given up.
    pub fn is_replacing(&self) -> bool {
        matches!(self.phase, Phase::Sync(..) | Phase::Install)
    }

    fn go_on(&mut self, budget: u64) -> Result<u64, LogError> {
        let storage = self.storage.clone();
        match &mut self.phase {
            Phase::Index { .. } => self.index(budget),
            Phase::Survey(survey) => {
                if let Some((transactions, decided)) = survey.step(storage.as_ref(), budget)? {
                    self.filter.transactions = transactions;
                    self.end = decided;
                    self.phase = Phase::Index {
                        reader: None,
                        at: 0,
                        surveyed: true,
                    };
                }
                Ok(budget)
            }
            Phase::Copy(copying) => {
                let (spent, done) =
                    copying.step(storage.as_ref(), &mut self.filter, &self.config, budget)?;
                let Some(copied) = done else {
                    return Ok(spent);
                };
                let group = copying.group().to_vec();
                self.done.bytes_before += copying.bytes_read;
                self.done.segments_before += group.len();
                self.done.segments_after += 1;
                match copied {
                    Copied::Into(segment) => {
                        self.done.bytes_after += segment.size();
                        self.phase = Phase::Offer(Some(Box::new(segment)), group);
                    }
                    Copied::Unchanged => {
                        self.done.bytes_after += copying.bytes_read;
                        self.next_group();
                    }
                }
                Ok(spent)
            }
            Phase::Sync(files, then) => {
                files
                    .iter()
                    .try_for_each(|file| file.sync(storage.as_ref()))?;
                storage.sync_dir(&self.dir)?;
                self.phase = core::mem::replace(then, Phase::Done);
                Ok(0)
            }
            Phase::Offer(..) | Phase::Install | Phase::Finish | Phase::Done => Ok(0),
        }
    }

    /// Puts keys into the map.
    fn index(&mut self, budget: u64) -> Result<u64, LogError> {
        let Phase::Index {
            reader,
            at,
            surveyed,
        } = &mut self.phase
        else {
            return Ok(0);
        };
        let Some(open) = reader else {
            // What was clean before need not be read for its keys.
            while *at < self.to_clean && self.sources[*at].below <= self.first_dirty {
                *at += 1;
            }
            if *at < self.to_clean && self.sources[*at].base_offset < self.end {
                *reader = Some(self.sources[*at].open(self.storage.as_ref())?);
            } else {
                self.filter.map.latest = self.filter.map.latest.max(self.end - 1);
                self.begin_copying();
            }
            return Ok(0);
        };
        if open.is_at_end() {
            (*reader, *at) = (None, *at + 1);
            return Ok(0);
        }
        let mut found: Vec<Found> = Vec::new();
        let before = open.position;
        open.next(WINDOW.min(budget), &mut found)?;
        let bytes = open.position - before;
        for one in &found {
            let header = one.batch.header();
            if header.last_offset() < self.first_dirty {
                continue;
            }
            if header.attributes.is_transactional() && !*surveyed {
                let sources = self.sources[*at..].to_vec();
                self.phase = Phase::Survey(Box::new(Survey::new(sources, self.end, self.up_to)));
                return Ok(bytes);
            }
            let is_full = header.base_offset >= self.end
                || !self
                    .filter
                    .index(&one.batch, self.first_dirty, self.end)
                    .map_err(|error| damaged_at(&open.source.path, one.position, error))?;
            if is_full {
                if self.has_aborted && !*surveyed {
                    // A segment that is copied loses its `.txnindex`, also for what lies beyond the map.
                    let sources = self.sources[*at..].to_vec();
                    self.phase =
                        Phase::Survey(Box::new(Survey::new(sources, self.end, self.up_to)));
                    return Ok(bytes);
                }
                self.begin_copying();
                break;
            }
        }
        Ok(bytes)
    }

    fn begin_copying(&mut self) {
        let latest = self.filter.map.latest;
        self.done.keys = self.filter.map.len();
        self.done.first_dirty_offset = latest + 1;
        if latest < self.first_dirty {
            // Nothing but what is not decided yet.
            self.done.first_dirty_offset = self.first_dirty;
            self.phase = Phase::Finish;
            return;
        }
        self.sources.truncate(self.to_clean);
        self.sources.retain(|source| source.base_offset <= latest);
        self.groups = plan::groups(&self.sources, &self.config);
        self.next_group();
    }

    fn next_group(&mut self) {
        self.phase = match self.groups.pop_front() {
            Some(group) => {
                let copying = Copying::new(&self.dir, group, self.filter.now_ms);
                Phase::Copy(Box::new(copying))
            }
            None => Phase::Finish,
        };
    }
}

impl core::fmt::Debug for Compaction {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Compaction")
            .field("dir", &self.dir)
            .field("first_dirty", &self.first_dirty)
            .field("end", &self.end)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl PartitionLog {
    /// Cleans all that can be cleaned, in one go. For tools and tests; a broker lets [`Compaction`] run beside its work.
    pub fn compact_now(
        &mut self,
        cleanable: &Cleanable,
        dedupe_buffer_bytes: usize,
        now: ottla_record::Now,
    ) -> Result<Compacted, LogError> {
        let mut compaction = self.compact(cleanable, dedupe_buffer_bytes, 0, now)?;
        let done = (|| {
            loop {
                if let Some(done) = compaction.finished() {
                    return Ok(done);
                }
                if compaction.wants_log() {
                    self.install(&mut compaction)?;
                } else {
                    compaction.step(u64::MAX)?;
                }
            }
        })();
        if let Err(error) = &done {
            if let LogError::Storage(error) = error
                && compaction.is_replacing()
            {
                // A sync failed: nobody knows which of the files a crash would leave, and it is not to be tried again.
                self.fail(error);
            }
            self.abandon(&mut compaction);
        }
        done
    }
}

/// What the log itself has to know of compaction, and of files that are to be removed later.
#[derive(Default)]
pub(crate) struct LogFiles {
    /// Counts compactions, and changes that none of them may ignore.
    pub(crate) generation: u64,
    /// While a compaction runs: segments below this offset must not be removed.
    pub(crate) pinned_below: Option<i64>,
    /// The replacement that has begun.
    pub(crate) replacing: Option<Replacing>,
    /// Files with the suffix `.deleted`, and when they are to be removed, in monotonic microseconds, once that is known.
    pub(crate) deleted: Vec<(Option<u64>, String)>,
}

impl LogFiles {
    /// Removes those files whose time has come; returns when the next one's does.
    pub(crate) fn remove_deleted(
        &mut self,
        storage: &dyn Storage,
        delay_ms: i64,
        now: ottla_record::Now,
    ) -> Result<Option<u64>, StorageError> {
        let mut next: Option<u64> = None;
        let mut failed = None;
        self.deleted.retain_mut(|(due, path)| {
            let at = *due.get_or_insert(now.after_ms(delay_ms));
            if at <= now.mono_us {
                match storage.remove_file(path) {
                    Err(error) if error.kind != crate::storage::StorageErrorKind::NotFound => {
                        failed = Some(error);
                    }
                    _ => {}
                }
                return false;
            }
            next = Some(next.map_or(at, |other| other.min(at)));
            true
        });
        match failed {
            None => Ok(next),
            Some(error) => Err(error),
        }
    }
}
