//! What there is to clean, whether it is time, and which segments become one.

use super::{
    Compacted, Compaction, Phase, Prepared, filter::Filter, offset_map::OffsetMap, source::Source,
};
use crate::{config::LogConfig, error::LogError, partition_log::PartitionLog, segment::Segment};
use alloc::{collections::VecDeque, vec::Vec};
use ottla_record::Now;

/// What a log has to be cleaned, as Kafka's `LogToClean`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanable {
    /// All below was cleaned before.
    pub first_dirty_offset: i64,
    /// From here on nothing may be cleaned: it may still change, or is too young (`min.compaction.lag.ms`).
    pub first_uncleanable_offset: i64,
    /// All from here on is not committed.
    pub up_to: i64,
    /// Bytes of the segments that are clean.
    pub clean_bytes: u64,
    /// Bytes of the segments that are not, and may be cleaned.
    pub dirty_bytes: u64,
    /// Whether a record has waited for longer than `max.compaction.lag.ms`.
    pub is_overdue: bool,
    /// When, by the wall clock in ms, the lags will make another answer of this, if nothing is appended.
    pub look_again_ms: Option<i64>,
}

impl Cleanable {
    /// Share of the bytes that are dirty, in millionths.
    pub fn dirty_ratio_ppm(&self) -> u32 {
        let (dirty, all) = (self.dirty_bytes, self.clean_bytes + self.dirty_bytes);
        if all == 0 {
            return 0;
        }
        (u128::from(dirty) * 1_000_000 / u128::from(all)) as u32
    }

    /// Whether it is time: more is dirty than `min.cleanable.dirty.ratio` (in millionths) allows, or something is overdue.
    pub fn is_due(&self, min_ratio_ppm: u32) -> bool {
        self.dirty_bytes > 0 && (self.is_overdue || self.dirty_ratio_ppm() > min_ratio_ppm)
    }
}

impl PartitionLog {
    /// What there is to clean below `up_to` (the last stable offset). `checkpoint` is the first dirty offset that the last
    /// compaction left; without one, or with one that can't be, all is dirty.
    ///
    /// Begins a new segment if records of the last one have waited for longer than `max.compaction.lag.ms`.
    pub fn cleanable(
        &mut self,
        checkpoint: Option<i64>,
        up_to: i64,
        now: Now,
    ) -> Result<Cleanable, LogError> {
        self.check_running()?;
        let known = self.log_start_offset..=self.log_end_offset;
        let first_dirty = checkpoint
            .filter(|offset| known.contains(offset))
            .unwrap_or(self.log_start_offset);
        let max_lag = self.config.max_compaction_lag_ms;
        let latest_wait = now.wall_ms.saturating_sub(max_lag);
        let storage = self.storage.clone();
        let limited = max_lag < i64::MAX;
        let waits_too_long = |since: Option<i64>| since.is_some_and(|since| since < latest_wait);
        let active = self.segments.len() - 1;
        if limited
            && self.segments[active].size() > 0
            && waits_too_long(self.segments[active].first_timestamp(storage.as_ref())?)
        {
            self.roll(now)?;
        }
        let mut found = Cleanable {
            first_dirty_offset: first_dirty,
            first_uncleanable_offset: self.segments[0].base_offset(),
            up_to,
            clean_bytes: 0,
            dirty_bytes: 0,
            is_overdue: false,
            look_again_ms: None,
        };
        let mut first_wait: Option<i64> = None;
        for i in 0..self.segments.len() {
            let is_active = i + 1 == self.segments.len();
            let below = self
                .segments
                .get(i + 1)
                .map_or(self.log_end_offset, Segment::base_offset);
            let segment = &mut self.segments[i];
            if limited && below > first_dirty && segment.size() > 0 {
                let since = segment.first_timestamp(storage.as_ref())?;
                first_wait = [first_wait, since].into_iter().flatten().min();
            }
            if is_active || below > up_to {
                break;
            }
            if below <= first_dirty {
                found.clean_bytes += segment.size();
            } else {
                let old_enough = now
                    .wall_ms
                    .saturating_sub(self.config.min_compaction_lag_ms);
                if self.config.min_compaction_lag_ms > 0 {
                    let newest = segment.newest_ms(storage.as_ref())?;
                    if newest > old_enough {
                        let at = newest.saturating_add(self.config.min_compaction_lag_ms);
                        found.look_again_ms = Some(at);
                        break;
                    }
                }
                found.dirty_bytes += segment.size();
            }
            found.first_uncleanable_offset = below;
        }
        found.is_overdue = waits_too_long(first_wait);
        if let Some(since) = first_wait
            && !found.is_overdue
        {
            let at = since.saturating_add(max_lag).saturating_add(1);
            found.look_again_ms = Some(found.look_again_ms.map_or(at, |other| other.min(at)));
        }
        Ok(found)
    }

    /// Begins a compaction of what `cleanable` found. `dedupe_buffer_bytes` (`log.cleaner.dedupe.buffer.size`) bounds the
    /// memory for keys; what doesn't fit stays dirty. `seed` makes the hashes of keys unpredictable.
    ///
    /// One at a time: a second one makes the first one useless.
    pub fn compact(
        &mut self,
        cleanable: &Cleanable,
        dedupe_buffer_bytes: usize,
        seed: u64,
        now: Now,
    ) -> Result<Compaction, LogError> {
        self.check_running()?;
        let sources: Vec<Source> = self
            .segments
            .iter()
            .enumerate()
            .map(|(i, segment)| Source {
                base_offset: segment.base_offset(),
                below: self
                    .segments
                    .get(i + 1)
                    .map_or(self.log_end_offset, Segment::base_offset),
                path: segment.path().into(),
                size: segment.size(),
                index_bytes: segment.index_bytes(),
            })
            .collect();
        let end = cleanable.first_uncleanable_offset;
        let to_clean = sources
            .iter()
            .take(sources.len() - 1)
            .take_while(|source| source.below <= end)
            .count();
        self.files.generation += 1;
        self.files.pinned_below = Some(end);
        let map = OffsetMap::new(
            dedupe_buffer_bytes,
            [seed, seed.rotate_left(29) ^ 0x9e37_79b9_7f4a_7c15],
        );
        Ok(Compaction {
            storage: self.storage.clone(),
            dir: self.dir.clone(),
            generation: self.files.generation,
            first_dirty: cleanable.first_dirty_offset,
            end,
            up_to: cleanable.up_to,
            sources,
            to_clean,
            prepared: Prepared::Not,
            has_aborted: !self.aborted.is_empty(),
            filter: Filter::new(
                map,
                self.producers.last_batches().collect(),
                now.wall_ms,
                self.config.delete_retention_ms,
            ),
            config: self.config.clone(),
            phase: Phase::Index {
                reader: None,
                at: 0,
                surveyed: false,
            },
            groups: VecDeque::new(),
            done: Compacted::default(),
        })
    }
}

/// Neighbouring segments that together are no larger than one may be.
pub fn groups(sources: &[Source], config: &LogConfig) -> VecDeque<Vec<Source>> {
    let mut groups: VecDeque<Vec<Source>> = VecDeque::new();
    let (mut bytes, mut index_bytes) = (0, 0);
    let most = config.segment_bytes.min(i32::MAX as u64);
    for source in sources {
        bytes += source.size;
        index_bytes += source.index_bytes;
        match groups.back_mut() {
            Some(group)
                if bytes <= most
                    && index_bytes <= config.segment_index_bytes
                    && source.below - 1 - group[0].base_offset <= i64::from(i32::MAX) =>
            {
                group.push(source.clone());
            }
            _ => {
                (bytes, index_bytes) = (source.size, source.index_bytes);
                groups.push_back(alloc::vec![source.clone()]);
            }
        }
    }
    groups
}
