//! The log cleaner: which log is compacted next, how fast, and what comes of it. Kafka's `LogCleaner` and `LogCleanerManager`,
//! with one thread's worth of work, which is the driver's: see [`crate::Output::Compact`].
//!
//! Nothing is looked at while nothing is appended to a compacted topic, but for logs whose lag is about to run out.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
};
use core::fmt;

use ottla_log::{
    LogError, Storage,
    compaction::{Compacted, Compaction},
    data_dir::{self, Offsets, partition_dir},
};
use ottla_record::Now;

use crate::{Broker, output::Output, partition::PartitionIndex};

/// Bytes that a job reads and writes, without a limit on their rate.
const JOB_BYTES: u64 = 4 << 20;
/// The least that a job does at a time, however low the rate.
const LEAST_JOB_BYTES: u64 = 64 << 10;
/// With a limit, a job does what the limit allows in this time.
const JOBS_PER_SECOND: u64 = 4;

/// Settings of compaction.
#[derive(Clone, Debug)]
pub struct CleanerConfig {
    /// `log.cleaner.enable`; default true. Without, nothing is compacted, `__consumer_offsets` neither.
    pub enable: bool,
    /// `log.cleaner.dedupe.buffer.size`: most bytes of memory for the keys of a log, 24 for each; default 128 MiB. What has
    /// more keys is compacted in several rounds.
    pub dedupe_buffer_bytes: usize,
    /// `log.cleaner.io.max.bytes.per.second`: most bytes that compaction reads and writes in a second; default: no limit.
    pub io_max_bytes_per_second: u64,
    /// `log.cleaner.backoff.ms`: how long after an append the logs are looked at; default 15 s.
    pub backoff_ms: i64,
}

impl Default for CleanerConfig {
    fn default() -> Self {
        Self {
            enable: true,
            dedupe_buffer_bytes: 128 << 20,
            io_max_bytes_per_second: u64::MAX,
            backoff_ms: 15_000,
        }
    }
}

/// Names a job until [`Broker::handle_compacted`]; never reused within one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompactionId(pub u64);

/// A piece of a compaction, for another thread: it needs nothing of the broker.
pub struct CompactionJob {
    compaction: Box<Compaction>,
    budget: u64,
}

impl CompactionJob {
    /// Does it. Takes some milliseconds, or as long as it takes to sync a segment.
    #[must_use]
    pub fn run(self) -> CompactionStep {
        let Self {
            mut compaction,
            budget,
        } = self;
        let result = compaction.step(budget);
        CompactionStep { compaction, result }
    }
}

impl fmt::Debug for CompactionJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CompactionJob")
            .field(&self.compaction)
            .finish()
    }
}

/// What came of a [`CompactionJob`].
#[derive(Debug)]
pub struct CompactionStep {
    compaction: Box<Compaction>,
    result: Result<u64, LogError>,
}

/// What the cleaner knows.
pub(crate) struct Cleaner {
    /// First dirty offsets, as in `cleaner-offset-checkpoint`.
    offsets: Offsets,
    /// When the logs are looked at next, in monotonic microseconds.
    check_us: Option<u64>,
    last_id: u64,
    running: Option<Running>,
}

struct Running {
    id: CompactionId,
    /// `None` once the partition is gone.
    index: Option<PartitionIndex>,
    /// What goes on at this time, unless a job is out.
    waiting: Option<(u64, Box<Compaction>)>,
}

impl Cleaner {
    /// Reads the checkpoint. One that can't be read costs time, no more: all is dirty then.
    pub(crate) fn open(storage: &dyn Storage) -> Self {
        Self {
            offsets: data_dir::read_offsets(storage, data_dir::CLEANER_OFFSETS).unwrap_or_default(),
            check_us: None,
            last_id: 0,
            running: None,
        }
    }

    /// Sees to it that the logs are looked at `ms` from now, or before.
    pub(crate) fn check_in(&mut self, ms: i64, now: Now) {
        let at = now.after_ms(ms);
        self.check_us = Some(self.check_us.map_or(at, |other| other.min(at)));
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.check_us.is_none()
    }

    pub(crate) fn next_us(&self) -> Option<u64> {
        match &self.running {
            Some(running) => running.waiting.as_ref().map(|(at, _)| *at),
            None => self.check_us,
        }
    }

    fn write(&self, storage: &dyn Storage) -> Result<(), LogError> {
        data_dir::write_offsets(storage, data_dir::CLEANER_OFFSETS, &self.offsets)
    }
}

impl Broker {
    /// A topic is deleted: its partitions are clean no more, should one of its name come again.
    pub(crate) fn forget_cleaned(&mut self, topic: &str, partitions: &[PartitionIndex]) {
        let running = self.cleaner.running.as_mut();
        if let Some(running) = running.filter(|r| r.index.is_some_and(|i| partitions.contains(&i)))
        {
            running.index = None;
            if running.waiting.take().is_some() {
                self.cleaner.running = None;
            }
        }
        let before = self.cleaner.offsets.len();
        self.cleaner.offsets.retain(|(name, _), _| name != topic);
        if self.cleaner.offsets.len() < before {
            // If it can't be written, the next one is.
            let _ = self.cleaner.write(&*self.storage);
        }
    }

    /// After open: partitions that are no more have no offsets, and logs that were dirty then still are.
    pub(crate) fn open_cleaner(&mut self, now: Now) {
        let mut is_compacted = false;
        let mut known = Offsets::new();
        for (_, partition) in self.partitions.iter() {
            is_compacted |= partition.log.config().compact;
            let key = (String::from(&*partition.topic_name), partition.number);
            if let Some(offset) = self.cleaner.offsets.remove(&key) {
                known.insert(key, offset);
            }
        }
        self.cleaner.offsets = known;
        if is_compacted && self.config.cleaner.enable {
            self.cleaner.check_in(self.config.cleaner.backoff_ms, now);
        }
    }

    /// Does what is due at `now`: goes on with a compaction, or looks for one.
    pub(crate) fn clean(&mut self, now: Now) {
        if self.cleaner.next_us().is_none_or(|at| at > now.mono_us) {
            return;
        }
        match &mut self.cleaner.running {
            Some(running) => {
                if let Some((_, compaction)) = running.waiting.take() {
                    self.send_job(compaction);
                }
            }
            None => {
                self.cleaner.check_us = None;
                self.begin_filthiest(now);
            }
        }
    }

    /// Begins to clean the log with the largest share of dirty bytes, if any has enough.
    fn begin_filthiest(&mut self, now: Now) {
        let mut best = None;
        let (mut failed, mut problems) = (alloc::vec::Vec::new(), alloc::vec::Vec::new());
        for (index, partition) in self.partitions.iter_mut() {
            if partition.is_failed() || partition.uncleanable || !partition.log.config().compact {
                continue;
            }
            let Some(topic) = self.topics.get(partition.topic) else {
                continue;
            };
            let key = (String::from(&*partition.topic_name), partition.number);
            let checkpoint = self.cleaner.offsets.get(&key).copied();
            let up_to = partition.last_stable_offset();
            let found = match partition.log.cleanable(checkpoint, up_to, now) {
                Ok(found) => found,
                Err(_) if partition.log.stopped().is_some() => {
                    failed.push(index);
                    continue;
                }
                Err(error) => {
                    problems.push((index, error));
                    continue;
                }
            };
            if let Some(at_ms) = found.look_again_ms {
                let ms = at_ms.saturating_sub(now.wall_ms);
                let backoff_ms = self.config.cleaner.backoff_ms;
                self.cleaner.check_in(ms.max(backoff_ms), now);
            }
            let ratio = found.dirty_ratio_ppm();
            if found.is_due(topic.config.min_cleanable_dirty_ratio_ppm)
                && best.is_none_or(|(_, _, most)| ratio > most)
            {
                best = Some((index, found, ratio));
            }
        }
        for index in failed {
            self.fail_partition(index);
        }
        for (index, error) in problems {
            self.note_uncleanable(index, &error, now);
        }
        let Some((index, found, _)) = best else {
            return;
        };
        let Some(partition) = self.partitions.get_mut(index) else {
            return;
        };
        let bytes = self.config.cleaner.dedupe_buffer_bytes;
        let seed = self.random.next_u64();
        match partition.log.compact(&found, bytes, seed, now) {
            Ok(compaction) => {
                self.cleaner.running = Some(Running {
                    id: CompactionId(0),
                    index: Some(index),
                    waiting: None,
                });
                self.send_job(Box::new(compaction));
            }
            Err(error) => self.note_uncleanable(index, &error, now),
        }
    }

    fn send_job(&mut self, compaction: Box<Compaction>) {
        self.cleaner.last_id += 1;
        let id = CompactionId(self.cleaner.last_id);
        if let Some(running) = &mut self.cleaner.running {
            running.id = id;
        }
        let per_second = self.config.cleaner.io_max_bytes_per_second;
        let budget = (per_second / JOBS_PER_SECOND).clamp(LEAST_JOB_BYTES, JOB_BYTES);
        let job = CompactionJob { compaction, budget };
        self.outputs.push_back(Output::Compact { id, job });
    }

    /// The compaction job `id` is done.
    pub fn handle_compacted(&mut self, now: Now, id: CompactionId, step: CompactionStep) {
        if self.closed || self.cleaner.running.as_ref().is_none_or(|r| r.id != id) {
            return;
        }
        let index = self.cleaner.running.as_ref().and_then(|r| r.index);
        let partition = index.and_then(|index| self.partitions.get_mut(index));
        let (Some(index), Some(partition)) = (index, partition.filter(|p| !p.is_failed())) else {
            self.cleaner.running = None;
            self.cleaner.check_in(0, now);
            return;
        };
        let CompactionStep {
            mut compaction,
            mut result,
        } = step;
        if let Err(LogError::Storage(error)) = &result
            && compaction.is_replacing()
        {
            if error.is_passing() && !compaction.wants_log() {
                // There was no descriptor for a sync: it goes on where it is.
                let at = now.after_ms(self.config.cleaner.backoff_ms);
                if let Some(running) = &mut self.cleaner.running {
                    running.waiting = Some((at, compaction));
                }
                return self.settle(now);
            }
            // The directory's sync failed: nobody knows which of the files a crash would leave.
            partition.log.fail(error);
        }
        while compaction.wants_log()
            && let Ok(bytes) = result
        {
            result = partition.log.install(&mut compaction).map(|()| bytes);
        }
        match result {
            Err(error) => {
                self.cleaner.running = None;
                partition.log.abandon(&mut compaction);
                if partition.log.stopped().is_some() {
                    self.fail_partition(index);
                    self.cleaner.check_in(0, now);
                } else {
                    self.note_uncleanable(index, &error, now);
                }
            }
            Ok(_) if compaction.finished().is_some() => {
                self.cleaner.running = None;
                let done = compaction.finished().unwrap_or_default();
                self.note_cleaned(index, done, now);
            }
            Ok(bytes) => {
                let per_second = self.config.cleaner.io_max_bytes_per_second;
                let pause_us = u128::from(bytes) * 1_000_000 / u128::from(per_second.max(1));
                if pause_us == 0 {
                    self.send_job(compaction);
                } else if let Some(running) = &mut self.cleaner.running {
                    let at = now.mono_us.saturating_add(pause_us as u64);
                    running.waiting = Some((at, compaction));
                }
            }
        }
        self.settle(now);
    }

    fn note_cleaned(&mut self, index: PartitionIndex, done: Compacted, now: Now) {
        self.housekeeping.remove_deleted_at(now);
        let Some(partition) = self.partitions.get_mut(index) else {
            return;
        };
        partition.cleaner_problem = None;
        let key = (String::from(&*partition.topic_name), partition.number);
        let before = self.cleaner.offsets.insert(key, done.first_dirty_offset);
        // If it can't be written, this is done again after a restart.
        let _ = self.cleaner.write(&*self.storage);
        if before.is_none_or(|before| before < done.first_dirty_offset) {
            self.cleaner.check_in(0, now);
        }
    }

    /// A log can't be cleaned: for now, if it was the storage, else until the broker is opened again. Nothing of it is lost, but
    /// it only grows, so that somebody should know.
    fn note_uncleanable(&mut self, index: PartitionIndex, error: &LogError, now: Now) {
        self.cleaner.check_in(self.config.cleaner.backoff_ms, now);
        let Some(partition) = self.partitions.get_mut(index) else {
            return;
        };
        let (what, until) = match error {
            LogError::Storage(_) => ("was put off", "it is tried again"),
            _ => (
                "is given up",
                "the log is kept as it is and grows until the broker is opened again",
            ),
        };
        partition.uncleanable = !matches!(error, LogError::Storage(_));
        let problem = error.to_string();
        if partition.cleaner_problem.as_ref() != Some(&problem) {
            let name = partition_dir(&partition.topic_name, partition.number);
            let text = format!("compaction of {name} {what}: {problem}; {until}");
            partition.cleaner_problem = Some(problem);
            self.outputs.push_back(Output::Warn(text));
        }
    }

    /// What keeps logs from being compacted, by partition directory.
    pub fn cleaner_problems(&self) -> impl Iterator<Item = (String, &str)> {
        self.partitions.iter().filter_map(|(_, partition)| {
            let problem = partition.cleaner_problem.as_deref()?;
            let name = partition_dir(&partition.topic_name, partition.number);
            Some((name, problem))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BrokerConfig, Durability,
        testing::{Harness, batch_at, produced, read, values},
    };
    use ottla_log::{OpenHow, read_file};
    use ottla_protocol::{
        ErrorCode, Request, Response,
        messages::{
            delete_topics::{DeleteTopicState, DeleteTopicsRequest},
            offset_commit::{
                OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
            },
            offset_fetch::OffsetFetchRequest,
        },
    };
    use ottla_record::FinishOptions;
    use std::{vec, vec::Vec};

    const COMPACT: &[(&str, &str)] = &[("cleanup.policy", "compact"), ("segment.bytes", "300")];

    fn put(h: &mut Harness, topic: &str, key: &str, value: &str) {
        let key = Some(key.as_bytes());
        let records = batch_at(h.now.wall_ms, key, &[value], FinishOptions::default());
        assert_eq!(h.produce(topic, 0, records).error_code, ErrorCode::NONE);
    }

    fn fill(h: &mut Harness, topic: &str) {
        for i in 0..12 {
            let (key, value) = (format!("k{}", i % 2), format!("v{i}"));
            put(h, topic, &key, &value);
        }
    }

    /// Everything in a partition, over several fetches.
    fn all(h: &mut Harness, topic: &str) -> Vec<(i64, String)> {
        let mut found = Vec::new();
        let mut next = h.fetch(topic, 0, 0).log_start_offset;
        loop {
            let data = h.fetch(topic, 0, next);
            assert_eq!(data.error_code, ErrorCode::NONE);
            let Some(last) = ottla_record::Batches::new(data.records.chunks().cloned()).last()
            else {
                assert_eq!(next, data.high_watermark);
                return found;
            };
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
            found.extend(read(&data.records).iter().map(|(o, v)| (*o, text(v))));
            next = last.unwrap().header().next_offset();
        }
    }

    fn checkpoint(h: &Harness) -> String {
        let bytes = read_file(&*h.storage, data_dir::CLEANER_OFFSETS, 1 << 20).unwrap();
        String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap()
    }

    fn throttled(bytes_per_second: u64) -> Harness {
        let mut config = BrokerConfig {
            durability: Durability::Os,
            ..BrokerConfig::default()
        };
        config.cleaner.io_max_bytes_per_second = bytes_per_second;
        Harness::with(config)
    }

    #[test]
    fn a_compacted_topic_is_compacted() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, COMPACT);
        h.create_topic("other", 1, &[("segment.bytes", "300")]);
        fill(&mut h, "t");
        fill(&mut h, "other");
        h.pass_ms(14_999);
        assert_eq!(all(&mut h, "t").len(), 12);
        h.pass_ms(1);
        let left = all(&mut h, "t");
        assert!(left.len() <= 6, "{left:?}");
        let newest = [(10, String::from("v10")), (11, "v11".into())];
        assert_eq!(left[left.len() - 2..], newest);
        assert_eq!(all(&mut h, "other").len(), 12);
        let first_dirty = checkpoint(&h);
        assert!(first_dirty.starts_with("0\n1\nt 0 "), "{first_dirty}");
        // It looks once more, finds nothing, and sleeps.
        h.pass_ms(1);
        assert!(h.broker.cleaner.is_idle());

        let mut h = h.restart(false);
        assert_eq!(all(&mut h, "t"), left);
        h.pass_ms(15_000);
        assert_eq!(checkpoint(&h), first_dirty, "what is clean stays so");
        assert!(h.warnings.is_empty());
        // The files of what was replaced are gone after a minute.
        fill(&mut h, "t");
        h.pass_ms(15_000);
        h.pass_ms(1);
        let deleted = |h: &Harness| {
            let entries = h.storage.list("t-0").unwrap().into_iter();
            entries.filter(|e| e.name.ends_with(".deleted")).count()
        };
        assert!(deleted(&h) > 0);
        h.pass_ms(60_000);
        assert_eq!(deleted(&h), 0);
    }

    #[test]
    fn not_for_less_than_the_dirty_ratio_nor_when_switched_off() {
        let mut config = BrokerConfig {
            durability: Durability::Os,
            ..BrokerConfig::default()
        };
        config.cleaner.enable = false;
        let mut off = Harness::with(config);
        let mut ratio = Harness::new(Durability::Os);
        let settings = [COMPACT, &[("min.cleanable.dirty.ratio", "1.0")]].concat();
        for h in [&mut off, &mut ratio] {
            h.create_topic("t", 1, &settings);
            fill(h, "t");
            h.pass_ms(15_000);
            h.pass_ms(15_000);
            assert_eq!(all(h, "t").len(), 12);
        }
        assert!(off.broker.cleaner.is_idle());
    }

    #[test]
    fn lags_wake_it() {
        let mut h = Harness::new(Durability::Os);
        let settings = [
            ("cleanup.policy", "compact"),
            ("max.compaction.lag.ms", "100000"),
            ("min.compaction.lag.ms", "50000"),
        ];
        h.create_topic("t", 1, &settings);
        fill(&mut h, "t");
        h.pass_ms(15_000);
        h.pass_ms(85_000);
        assert_eq!(all(&mut h, "t").len(), 12);
        h.pass_ms(1);
        assert_eq!(all(&mut h, "t").len(), 2, "nothing was appended since");
        h.pass_ms(1);
        assert!(h.broker.cleaner.is_idle());
    }

    #[test]
    fn no_faster_than_it_may() {
        let mut h = throttled(100);
        h.create_topic("t", 1, COMPACT);
        fill(&mut h, "t");
        h.pass_ms(15_000);
        let begun = h.now.mono_us;
        while checkpoint(&h).is_empty() {
            let at = h.broker.poll_timeout().unwrap();
            let ms = (at - h.now.mono_us).div_ceil(1000);
            h.pass_ms(ms);
            assert_eq!(all(&mut h, "t").last().unwrap().0, 11);
        }
        // About a kilobyte is read twice.
        let seconds = (h.now.mono_us - begun) / 1_000_000;
        assert!((10..60).contains(&seconds), "{seconds} s");
    }

    #[test]
    fn a_topic_may_go_meanwhile_and_come_again() {
        let mut h = throttled(100);
        h.create_topic("t", 1, COMPACT);
        fill(&mut h, "t");
        h.pass_ms(15_000);
        assert!(h.broker.cleaner.running.is_some());
        let topics = vec![DeleteTopicState {
            name: Some("t".into()),
            ..Default::default()
        }];
        let request = DeleteTopicsRequest {
            topics,
            ..Default::default()
        };
        h.ask(6, Request::DeleteTopics(request.clone()));
        assert!(h.broker.cleaner.running.is_none());
        h.create_topic("t", 1, COMPACT);
        fill(&mut h, "t");
        for _ in 0..100 {
            h.pass_ms(1000);
        }
        assert!(checkpoint(&h).contains("t 0 "));
        h.ask(6, Request::DeleteTopics(request));
        assert_eq!(checkpoint(&h), "0\n0\n");
    }

    #[test]
    fn damage_is_told_and_the_others_go_on() {
        let mut h = Harness::new(Durability::Os);
        for topic in ["bad", "good"] {
            h.create_topic(topic, 1, COMPACT);
            fill(&mut h, topic);
        }
        let path = "bad-0/00000000000000000000.log";
        let mut file = h.storage.open(path, OpenHow::Existing).unwrap();
        let byte = file.read_exact(70, 1).unwrap()[0];
        file.write_at(70, &[byte ^ 1]).unwrap();
        for _ in 0..4 {
            h.pass_ms(15_000);
        }
        assert!(all(&mut h, "good").len() <= 6);
        assert_eq!(h.warnings.len(), 1, "{:?}", h.warnings);
        assert!(h.warnings[0].contains(path) && h.warnings[0].contains("bad-0"));
        let problems: Vec<_> = h.broker.cleaner_problems().map(|(name, _)| name).collect();
        assert_eq!(problems, ["bad-0"]);
        file.write_at(70, &[byte]).unwrap();
        assert_eq!(all(&mut h, "bad").len(), 12, "all is there");
    }

    #[test]
    fn both_policies() {
        let mut h = Harness::new(Durability::Os);
        let settings = [
            ("cleanup.policy", "compact,delete"),
            ("segment.bytes", "300"),
            ("retention.ms", "60000"),
        ];
        h.create_topic("t", 1, &settings);
        fill(&mut h, "t");
        h.pass_ms(15_000);
        assert!(all(&mut h, "t").len() <= 6);
        h.pass_ms(60_000);
        put(&mut h, "t", "new", "new");
        h.pass_ms(300_000);
        h.pass_ms(300_000);
        let data = h.fetch("t", 0, 13);
        assert_eq!((data.log_start_offset, data.high_watermark), (13, 13));
    }

    #[test]
    fn committed_offsets_are_compacted_and_read_back() {
        let mut config = BrokerConfig::default();
        config.topic_defaults.max_compaction_lag_ms = 20_000;
        config.groups.partitions = 1;
        let mut h = Harness::with(config);
        h.create_topic("t", 1, &[]);
        for offset in 0..50 {
            let request = OffsetCommitRequest {
                group_id: "g".into(),
                topics: vec![OffsetCommitRequestTopic {
                    name: "t".into(),
                    partitions: vec![OffsetCommitRequestPartition {
                        committed_offset: offset,
                        ..Default::default()
                    }],
                    ..Default::default()
                }],
                ..Default::default()
            };
            h.send(8, Request::OffsetCommit(request));
            h.sync_all();
        }
        let size = |h: &Harness| {
            let index = h
                .broker
                .topics
                .by_name("__consumer_offsets")
                .unwrap()
                .partitions[0];
            h.broker.partitions.get(index).unwrap().log.size_bytes()
        };
        let before = size(&h);
        for _ in 0..3 {
            h.pass_ms(15_000);
            h.sync_all();
        }
        assert!(size(&h) * 10 < before, "{} of {before}", size(&h));
        let mut h = h.restart(true);
        let request = OffsetFetchRequest {
            group_id: "g".into(),
            topics: None,
            ..Default::default()
        };
        let Response::OffsetFetch(answer) = h.ask(5, Request::OffsetFetch(request)) else {
            panic!()
        };
        assert_eq!(answer.topics[0].partitions[0].committed_offset, 49);
        assert!(values(&h.fetch("t", 0, 0).records).is_empty());
        let id = h.send_produce("t", 0, 1, crate::testing::batch(&["v"]));
        h.sync_all();
        assert_eq!(produced(h.take_answer(id).unwrap()).base_offset, 0);
    }
}
