//! Opening a log: after a clean stop from its indexes and snapshot, after an unclean one by reading what may be torn.

use crate::{
    compaction,
    config::LogConfig,
    durable_mark::{DurableMark, Mark},
    epochs::LeaderEpochs,
    error::LogError,
    marking::Secured,
    names::{INDEX, LEADER_EPOCHS, LOG, SNAPSHOT, TIME_INDEX, TXN_INDEX, offset_of},
    partition_log::{PartitionLog, ReadEnd, UnsyncedFiles},
    producer_state::ProducerState,
    segment::Segment,
    storage::{Storage, Unsynced, join, read_file},
    transactions::{Ended, marker_of},
};
use alloc::{
    borrow::ToOwned,
    collections::BTreeMap,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use core::fmt;
use ottla_record::{BatchHeader, Now};

/// More bytes than a snapshot or an epoch file has.
pub(crate) const SNAPSHOT_LIMIT: u64 = 1 << 30;

/// What is known of a log before it is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Whether the directory was closed cleanly; otherwise everything from the recovery point's segment on is read and checked.
    pub clean: bool,
    /// All below is known to be durable and whole.
    pub recovery_point: i64,
    /// First offset that may be read, if it was moved beyond the first segment's.
    pub log_start_offset: i64,
}

/// What opening a log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes that were cut off at the end, since they were no whole batch.
    pub cut_bytes: u64,
    /// Bytes that were durable once and can't be read any more, as far as opening found them. They are left as they are.
    pub unreadable_bytes: u64,
    /// Why they were cut or can't be read.
    pub reason: Option<String>,
    /// Segments that were read as a whole.
    pub scanned_segments: usize,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cut_bytes,
            unreadable_bytes,
            reason,
            ..
        } = self;
        match (cut_bytes, unreadable_bytes) {
            (0, 0) => f.write_str("nothing was wrong")?,
            (cut, 0) => write!(
                f,
                "cut {cut} bytes off a torn end, none of which was durable"
            )?,
            (0, bad) => write!(f, "{bad} bytes are damaged and can't be read")?,
            (cut, bad) => write!(
                f,
                "cut {cut} bytes off a torn end, and {bad} bytes are damaged and can't be read"
            )?,
        }
        match reason {
            Some(reason) => write!(f, " ({reason})"),
            None => Ok(()),
        }
    }
}

impl Recovery {
    fn note_cut(&mut self, reason: String, bytes: u64) {
        self.cut_bytes += bytes;
        self.reason = Some(reason);
    }
}

impl PartitionLog {
    /// Opens the log in `dir`.
    pub fn open(
        storage: Arc<dyn Storage>,
        dir: &str,
        config: LogConfig,
        now: Now,
        options: OpenOptions,
    ) -> Result<(Self, Recovery), LogError> {
        storage.create_dir(dir)?;
        if !options.clean && (config.compact || compaction::has_leftovers(storage.as_ref(), dir)?) {
            // A process that died may have left a replacement's names as they are seen now, and on the disk as they were before: what
            // follows relies on their order. (The topic need not be compacted any more.)
            storage.sync_dir(dir)?;
        }
        let files = sort_out(storage.as_ref(), dir)?;
        if files.is_empty() {
            let start = options.log_start_offset.max(0);
            let log = Self::create_at(storage, dir, config, now, start)?;
            return Ok((log, Recovery::default()));
        }
        let bases: Vec<i64> = files.keys().copied().collect();
        let marks = DurableMark::read(storage.as_ref(), dir)?;
        let mark = marks.mark.filter(|mark| {
            files
                .get(&mark.segment)
                .is_some_and(|size| mark.position <= *size)
        });
        let may_have_holes = marks.mark.is_none() && files.len() > 1;
        // All below is on the disk as it was written, unless the disk has damaged it since.
        let durable = match options.clean {
            true => i64::MAX,
            false => mark
                .map_or(0, |mark| mark.offset)
                .max(options.recovery_point),
        };
        let mut recovery = Recovery::default();
        let mut segments: Vec<Segment> = Vec::with_capacity(bases.len());
        let stored_epochs = read_epochs(storage.as_ref(), dir)?;
        let mut epochs = stored_epochs.clone().unwrap_or_default();
        let mut unsynced = UnsyncedFiles::default();
        let mut log_end_offset = bases[0];
        // From here on the transaction indexes are made again.
        let mut transactions_from = i64::MAX;
        for (i, (&base, &size)) in files.iter().enumerate() {
            let is_last = i + 1 == files.len();
            let below = bases.get(i + 1).copied().unwrap_or(i64::MAX);
            let whole = options.clean || !is_last && below <= durable;
            if !options.clean && below >= durable {
                // The index of the segment that ends with the last sync, or behind it, may not be on the disk.
                transactions_from = transactions_from.min(base);
            }
            let sealed = marks
                .sealed
                .get(&base)
                .filter(|s| s.size == size && s.next_offset <= below);
            if whole {
                if let Some(sealed) = sealed {
                    log_end_offset = sealed.next_offset;
                    segments.push(Segment::sealed_as(dir, *sealed, now.wall_ms));
                    continue;
                }
                Segment::refuse_old_format(storage.as_ref(), dir, base, size)?;
                // The indexes of the segment that ends with the last sync may be older than its last records. So may any that Ottla
                // made again, and nobody has synced: what it closed has an entry.
                let loaded = match options.clean || below < durable && !marks.exists {
                    true => Segment::load(storage.as_ref(), dir, base, below, size, now.wall_ms)?,
                    false => None,
                };
                if let Some(mut segment) = loaded {
                    log_end_offset = match is_last {
                        true => segment.settle_end(storage.as_ref())?,
                        false => below,
                    };
                    segments.push(segment);
                    continue;
                }
            } else if i > 0 && base != log_end_offset && base <= options.log_start_offset {
                // What comes before was being deleted, and went in another order.
                for mut gone in segments.drain(..) {
                    gone.delete(storage.as_ref())?;
                }
            } else if i > 0
                && base != log_end_offset
                && base > durable
                && (!config.compact || marks.mark.is_some_and(|mark| base > mark.offset))
            {
                // The end of the segment before was lost; what came after it goes too, or there would be a hole. Compaction makes
                // holes as well, Kafka's also between segments, but below a mark of Ottla's. Without one nothing tells the two apart;
                // so there is one before a compacted log of Ottla's has a second segment.
                recovery.note_cut(
                    format!("{dir}: nothing from offset {log_end_offset} to {base}"),
                    files.range(base..).map(|(_, size)| size).sum(),
                );
                delete_from(storage.as_ref(), dir, &bases[i..])?;
                break;
            }
            Segment::refuse_old_format(storage.as_ref(), dir, base, size)?;
            recovery.scanned_segments += 1;
            let trusted = match mark.filter(|mark| mark.segment == base) {
                _ if whole && !is_last => (size, Some(below)),
                Some(mark) => (mark.position, Some(mark.offset)),
                None if whole => (size, None),
                None => (0, None),
            };
            let (mut segment, damage) = Segment::scan(
                storage.as_ref(),
                dir,
                base,
                below,
                trusted,
                durable,
                // A durable segment may be of a time when the topic was compacted.
                mark.is_some() && !config.compact && !whole,
                &config,
                now.wall_ms,
                |header| {
                    // Epochs lie outside of a batch's checksum; those of durable batches are in their file.
                    if stored_epochs.is_none() || header.base_offset >= durable {
                        epochs.appended(header.partition_leader_epoch, header.base_offset);
                    }
                },
            )?;
            log_end_offset = segment.next_offset().max(base);
            segment.dirty = !whole;
            if segment.damaged_bytes() > 0 {
                recovery.unreadable_bytes += segment.damaged_bytes();
                recovery.reason = Some(format!(
                    "{}: {} bytes are damaged",
                    segment.path(),
                    segment.damaged_bytes()
                ));
            }
            if let Some(damage) = &damage {
                // What lies behind a torn batch was written after it: none of it was acknowledged as durable.
                let end = segment.size();
                recovery.note_cut(
                    damage.to_string(),
                    size - end + files.range(base + 1..).map(|(_, size)| size).sum::<u64>(),
                );
                delete_from(storage.as_ref(), dir, &bases[i + 1..])?;
                segment.truncate(storage.as_ref(), end, log_end_offset)?;
            }
            let never_written = files.len() == 1 && (base, size) == (0, 0);
            if !never_written {
                let mut indexes = segment.write_indexes(storage.as_ref())?;
                indexes.iter_mut().for_each(Unsynced::release);
                unsynced.files.extend(indexes);
            }
            segment.release_file();
            segments.push(segment);
            if damage.is_some() {
                break;
            }
        }
        // With compaction holes are normal, as Kafka's leaves them; but not behind the last record.
        while let [.., before, last] = &segments[..]
            && last.size() == 0
            && last.base_offset() > before.next_offset().max(durable)
        {
            log_end_offset = before.next_offset();
            delete_from(storage.as_ref(), dir, &[last.base_offset()])?;
            segments.pop();
        }
        let mut log = Self {
            storage,
            dir: dir.to_owned(),
            config,
            log_start_offset: options.log_start_offset.max(segments[0].base_offset()),
            segments,
            log_end_offset,
            // Whatever survived is read back from storage; the broker syncs it before it counts as durable.
            synced_offset: if options.clean {
                log_end_offset
            } else {
                durable.min(log_end_offset)
            },
            unsaved: !options.clean || recovery.scanned_segments > 0,
            unsynced,
            under_way: None,
            marked: (marks.sequence, marks.mark),
            secured: Secured::No,
            may_have_holes,
            read_ends: [ReadEnd::NONE; 4],
            oldest_read_end: 0,
            producers: ProducerState::default(),
            aborted: Vec::new(),
            epochs,
            stopped: None,
            files: compaction::LogFiles::default(),
        };
        if log.log_start_offset > log.log_end_offset {
            log.restart_at(options.log_start_offset, now)?;
        }
        if log.unsaved && !log.is_untouched() {
            log.unsynced.dir = true;
        }
        // A mark beyond the end of its file will mean something else when that has grown.
        let beyond = |mark: Mark| {
            files
                .get(&mark.segment)
                .is_some_and(|size| mark.position > *size)
        };
        match marks.mark.is_some_and(beyond) {
            true => log.drop_mark()?,
            false => log.lower_mark()?,
        }
        if stored_epochs.is_none() && log.log_end_offset > log.segments[0].base_offset() {
            log.remake_epochs()?;
        }
        if log.epochs.end_at(log.log_end_offset) {
            // What is appended next must not be taken for an older epoch's.
            log.write_epochs()?;
            log.unsaved = true;
        }
        log.epochs.truncate_start(log.log_start_offset);
        let entries = log.storage.list(dir)?;
        let trusted_to = log.load_aborted(&entries, transactions_from)?;
        log.restore_producers(trusted_to)?;
        // Segments and snapshots of what was cut must be gone for good before other records get those offsets: a power cut that
        // brought a snapshot back would give a producer the state of a log that never was.
        let end = log.log_end_offset;
        let is_gone = |base: &i64| {
            let kept = |segment: &Segment| segment.base_offset() == *base;
            *base >= end && !log.segments.iter().rev().any(kept)
        };
        if files.keys().any(is_gone)
            || entries
                .iter()
                .any(|entry| offset_of(&entry.name, SNAPSHOT).is_some_and(|offset| offset > end))
        {
            log.storage.sync_dir(dir)?;
        }
        // What was read is not held open, not even what waits for its sync: thousands of logs may be opened at once.
        log.segments.iter_mut().for_each(Segment::release_file);
        let waiting = log.unsynced.files.iter_mut();
        waiting.for_each(Unsynced::release);
        Ok((log, recovery))
    }

    /// Empties the log so that it begins at `offset`.
    pub(crate) fn restart_at(&mut self, offset: i64, now: Now) -> Result<(), LogError> {
        // The newest first, so that a crash leaves no hole.
        while let Some(mut segment) = self.segments.pop() {
            if let Err(error) = segment.delete(self.storage.as_ref()) {
                self.segments.push(segment);
                return Err(error.into());
            }
        }
        self.segments.push(Segment::create(
            self.storage.as_ref(),
            &self.dir,
            offset,
            now.wall_ms,
        )?);
        (
            self.log_start_offset,
            self.log_end_offset,
            self.synced_offset,
        ) = (offset, offset, offset);
        self.epochs = LeaderEpochs::default();
        self.producers = ProducerState::default();
        self.aborted = Vec::new();
        self.unsynced.dir = true;
        self.unsaved = true;
        Ok(())
    }

    /// Leader epochs from the batches, when their file is missing or damaged.
    fn remake_epochs(&mut self) -> Result<(), LogError> {
        let mut epochs = LeaderEpochs::default();
        self.for_each_header(self.segments[0].base_offset(), |header| {
            epochs.appended(header.partition_leader_epoch, header.base_offset);
        })?;
        self.epochs = epochs;
        self.unsaved = true;
        Ok(())
    }

    /// Producer state: the newest good snapshot, and the batches after it. Damaged snapshots and those beyond the end are removed.
    /// The transaction indexes of segments from `trusted_to` on are made again, which takes an older snapshot to begin with; but the
    /// newest one takes over where the walk comes to it, for compaction leaves no more than a producer's last batch.
    pub(crate) fn restore_producers(&mut self, trusted_to: i64) -> Result<(), LogError> {
        let storage = self.storage.clone();
        let mut snapshots: Vec<i64> = storage
            .list(&self.dir)?
            .iter()
            .filter_map(|entry| offset_of(&entry.name, SNAPSHOT))
            .collect();
        let mut from = self.segments[0].base_offset();
        let mut newest: Option<(i64, ProducerState)> = None;
        while let Some(offset) = snapshots.pop() {
            let path = join(&self.dir, &crate::names::file_name(offset, SNAPSHOT));
            if offset <= self.log_end_offset {
                if offset > trusted_to && newest.is_some() {
                    continue;
                }
                if let Some(bytes) = read_file(storage.as_ref(), &path, SNAPSHOT_LIMIT)?
                    && let Some(state) = ProducerState::from_snapshot(&bytes)
                {
                    if offset > trusted_to {
                        newest = Some((offset, state));
                        continue;
                    }
                    (self.producers, from) = (state, offset);
                    break;
                }
            }
            storage.remove_file(&path)?;
            self.unsaved = true;
        }
        let mut producers = core::mem::take(&mut self.producers);
        for i in self.segment_of(from)..self.segments.len() {
            let segment = &mut self.segments[i];
            let is_indexed_again = segment.base_offset() >= trusted_to;
            let mut ended = Vec::new();
            // Of each producer the last marker, whose coordinator is in the record only.
            let mut markers: BTreeMap<i64, u64> = BTreeMap::new();
            if let Some(placed) = segment.find(storage.as_ref(), from)? {
                segment.each_header(storage.as_ref(), placed.position, |placed| {
                    let is_behind = |(at, _): &mut (i64, _)| placed.header.base_offset >= *at;
                    if let Some((_, state)) = newest.take_if(is_behind) {
                        producers = state;
                        markers.clear();
                    }
                    if is_indexed_again
                        && let Some(transaction) = producers.ended_by(&placed.header)
                    {
                        ended.push(Ended {
                            position: placed.position,
                            transaction,
                        });
                    }
                    let attributes = placed.header.attributes;
                    if attributes.is_control() && attributes.is_transactional() {
                        markers.insert(placed.header.producer_id, placed.position);
                    }
                    producers.appended(&placed.header);
                })?;
            }
            for (producer_id, position) in markers {
                let batch = segment.batch_at(storage.as_ref(), position)?;
                if let Some(marker) = marker_of(&batch) {
                    producers.note_coordinator(producer_id, marker.coordinator_epoch);
                }
            }
            if is_indexed_again {
                self.index_aborted(i, ended)?;
                self.unsynced.dir = true;
            }
        }
        self.producers = newest.map_or(producers, |(_, state)| state);
        Ok(())
    }

    /// Calls `each` with the header of every batch that ends at or after `from`.
    fn for_each_header(
        &mut self,
        from: i64,
        mut each: impl FnMut(&BatchHeader),
    ) -> Result<(), LogError> {
        if from >= self.log_end_offset {
            return Ok(());
        }
        let first = self
            .segments
            .partition_point(|segment| segment.base_offset() <= from)
            .saturating_sub(1);
        for segment in &mut self.segments[first..] {
            if let Some(placed) = segment.find(self.storage.as_ref(), from)? {
                segment.each_header(self.storage.as_ref(), placed.position, |placed| {
                    each(&placed.header)
                })?;
            }
        }
        Ok(())
    }
}

/// The log files by base offset with their sizes, after what an interrupted change left was put in order.
fn sort_out(storage: &dyn Storage, dir: &str) -> Result<BTreeMap<i64, u64>, LogError> {
    compaction::settle(storage, dir)?;
    let entries = storage.list(dir)?;
    let logs: BTreeMap<i64, u64> = entries
        .iter()
        .filter_map(|entry| Some((offset_of(&entry.name, LOG)?, entry.len)))
        .collect();
    for entry in &entries {
        let orphan = [INDEX, TIME_INDEX, TXN_INDEX]
            .iter()
            .filter_map(|suffix| offset_of(&entry.name, suffix))
            .any(|base| !logs.contains_key(&base));
        if orphan {
            storage.remove_file(&join(dir, &entry.name))?;
        }
    }
    Ok(logs)
}

/// Deletes segments that were not read, the newest first, so that a crash leaves no hole.
fn delete_from(storage: &dyn Storage, dir: &str, bases: &[i64]) -> Result<(), LogError> {
    for &base in bases.iter().rev() {
        Segment::unread(dir, base).delete(storage)?;
    }
    Ok(())
}

/// The stored leader epochs; `None` if there is no file that can be used.
fn read_epochs(storage: &dyn Storage, dir: &str) -> Result<Option<LeaderEpochs>, LogError> {
    let bytes = read_file(storage, &join(dir, LEADER_EPOCHS), SNAPSHOT_LIMIT)?;
    Ok(bytes
        .as_deref()
        .and_then(|bytes| core::str::from_utf8(bytes).ok())
        // A power cut may leave nothing, or a part, of one that was just written: also a part of its last number.
        .filter(|text| text.ends_with('\n'))
        .and_then(|text| LeaderEpochs::from_text(text).ok()))
}
