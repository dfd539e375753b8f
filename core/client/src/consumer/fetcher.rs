//! Fetching: one long poll per broker under way, the next one as soon as the answer is in and the queue has room. What can't
//! wait for its end is fetched beside it.

use super::assignors::TopicPartition;
use super::fetched::{AbortedTransaction, Chunk, Fetched, ReadOptions};
use super::machine::{Cluster, Consumer, Purpose, Ready, To};
use super::offset;
use super::partition::{Phase, Queued};
use crate::error::{ErrCode, KafkaError};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use ottla_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use ottla_protocol::{ErrorCode, Request, Response};
use ottla_record::Now;

/// One partition of a fetch under way.
#[derive(Debug)]
pub(super) struct FetchTarget {
    key: TopicPartition,
    version: u32,
    offset: i64,
}

/// So much earlier than the broker's long poll one beside it ends, so that its partitions are in the next one.
const BESIDE_ENDS_EARLIER_US: u64 = 10_000;

/// What a fetch is to its broker's others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The broker's long poll.
    LongPoll,
    /// For partitions that are behind while the long poll is parked: it doesn't wait.
    Behind,
    /// For partitions that reached their end while the long poll is parked: it waits as long as that.
    Beside,
}

/// A broker's long poll.
#[derive(Debug)]
struct LongPoll {
    token: u64,
    /// When the broker answers it at the latest, in monotonic microseconds.
    ends_us: u64,
}

/// The fetches under way.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    /// Each broker's long poll.
    long_polls: BTreeMap<i32, LongPoll>,
    /// Brokers that answered with an error, and until when to leave them alone.
    not_before: BTreeMap<i32, u64>,
    /// Turns the order of the partitions, so that all of them come first at times.
    turn: usize,
}

impl Fetches {
    /// When a broker may be asked again.
    pub(super) fn due(&self) -> Option<u64> {
        self.not_before.values().copied().min()
    }

    /// How a partition is fetched from this broker now, if it is.
    fn kind(&self, now: Now, node: i32, is_behind: bool) -> Option<Kind> {
        match self.long_polls.get(&node) {
            None => Some(Kind::LongPoll),
            Some(_) if is_behind => Some(Kind::Behind),
            Some(poll) => {
                (poll.ends_us >= now.mono_us + 2 * BESIDE_ENDS_EARLIER_US).then_some(Kind::Beside)
            }
        }
    }
}

impl Consumer {
    /// Sends a long poll to every broker that has none under way and leads a partition with room in its queue.
    ///
    /// A partition that is behind, because it just started or had no room, doesn't wait until the long poll of the others
    /// ends: such ones are fetched by themselves, without waiting. Those that are at their end by now are long-polled beside
    /// it, until shortly before it ends; then all are in one again.
    pub(super) fn serve_fetches(&mut self, now: Now, cluster: &dyn Cluster) {
        self.fetches
            .not_before
            .retain(|_, until| now.mono_us < *until);
        self.forget_outdated_fetches();
        let full = self.queued_records >= self.config.queued_min_messages
            || self.queued_bytes >= self.config.queued_max_messages_kbytes * 1024;
        let mut fetches: BTreeMap<(i32, Kind), Vec<(FetchTarget, FetchPartition)>> =
            BTreeMap::new();
        let mut leaderless = false;
        for (key, partition) in &mut self.partitions {
            if partition.phase != Phase::Fetching
                || partition.paused
                || now.mono_us < partition.not_before
            {
                continue;
            }
            partition.not_before = 0;
            let full = match partition.forwarded {
                true => {
                    partition.queued_records >= self.config.queued_min_messages
                        || partition.queued_bytes >= self.config.queued_max_messages_kbytes * 1024
                }
                false => full,
            };
            if full || partition.in_fetch == Some(partition.shared.version()) {
                continue;
            }
            let Some((node, epoch)) = cluster.leader(&key.0, key.1) else {
                leaderless = true;
                partition.leaderless = true;
                partition.not_before =
                    now.after_ms(i64::from(self.config.fetch_error_backoff_ms.max(1)));
                continue;
            };
            if self.fetches.not_before.contains_key(&node) {
                continue;
            }
            let Some(kind) = self.fetches.kind(now, node, partition.is_behind()) else {
                continue;
            };
            let target = FetchTarget {
                key: key.clone(),
                version: partition.shared.version(),
                offset: partition.fetch_offset,
            };
            let wanted = FetchPartition {
                partition: key.1,
                current_leader_epoch: epoch,
                fetch_offset: partition.fetch_offset,
                log_start_offset: -1,
                partition_max_bytes: self.config.max_partition_fetch_bytes,
                ..Default::default()
            };
            let fetch = fetches.entry((node, kind)).or_default();
            fetch.push((target, wanted));
        }
        if leaderless {
            self.want_topics(&[], true);
        }
        for ((node, kind), wanted) in fetches {
            self.send_fetch(now, node, kind, wanted, cluster);
        }
    }

    /// A long poll of which every partition was started anew or given up holds up nobody.
    fn forget_outdated_fetches(&mut self) {
        let (partitions, in_flight) = (&self.partitions, &self.in_flight);
        self.fetches
            .long_polls
            .retain(|_, poll| match in_flight.get(&poll.token) {
                Some(Purpose::Fetch { targets, .. }) => targets.iter().any(|target| {
                    let partition = partitions.get(&target.key);
                    partition.is_some_and(|p| p.shared.version() == target.version)
                }),
                _ => false,
            });
    }

    fn send_fetch(
        &mut self,
        now: Now,
        node: i32,
        kind: Kind,
        mut wanted: Vec<(FetchTarget, FetchPartition)>,
        cluster: &dyn Cluster,
    ) {
        self.fetches.turn = self.fetches.turn.wrapping_add(1);
        let turn = self.fetches.turn % wanted.len();
        wanted.rotate_left(turn);
        let mut targets = Vec::with_capacity(wanted.len());
        let mut topics: Vec<FetchTopic> = Vec::new();
        for (target, partition) in wanted {
            if let Some(state) = self.partitions.get_mut(&target.key) {
                state.fresh = false;
                state.in_fetch = Some(target.version);
            }
            let topic = &target.key.0;
            match topics.last_mut() {
                Some(last) if last.topic == *topic => last.partitions.push(partition),
                _ => topics.push(FetchTopic {
                    topic: topic.clone(),
                    topic_id: cluster.topic_id(topic),
                    partitions: alloc::vec![partition],
                }),
            }
            targets.push(target);
        }
        // A topic at both ends after the turn is named once, as Kafka wants it.
        if topics.len() > 1 && topics.first().map(|t| &t.topic) == topics.last().map(|t| &t.topic) {
            let last = topics.pop().map(|t| t.partitions).unwrap_or_default();
            topics[0].partitions.extend(last);
        }
        let max_wait_ms = match (kind, self.fetches.long_polls.get(&node)) {
            (Kind::LongPoll, _) => self.config.fetch_wait_max_ms,
            (Kind::Beside, Some(poll)) => {
                let ends_us = poll.ends_us.saturating_sub(BESIDE_ENDS_EARLIER_US);
                i32::try_from(ends_us.saturating_sub(now.mono_us) / 1000).unwrap_or(i32::MAX)
            }
            _ => 0,
        };
        let request = Request::Fetch(FetchRequest {
            replica_id: -1,
            max_wait_ms,
            min_bytes: self.config.fetch_min_bytes,
            max_bytes: self
                .config
                .fetch_max_bytes
                .max(self.config.max_partition_fetch_bytes),
            isolation_level: i8::from(self.config.read_committed),
            session_epoch: -1,
            topics,
            rack_id: self.config.client_rack.clone(),
            ..Default::default()
        });
        let timeout = self.config.request_timeout_ms.saturating_add(max_wait_ms);
        let token = self.send(
            To::Node(node),
            request,
            timeout,
            Purpose::Fetch { node, targets },
        );
        if kind == Kind::LongPoll {
            let ends_us = now.after_ms(i64::from(max_wait_ms));
            self.fetches
                .long_polls
                .insert(node, LongPoll { token, ends_us });
        }
    }

    /// A fetch was answered, or failed.
    pub(super) fn fetched(
        &mut self,
        now: Now,
        token: u64,
        node: i32,
        targets: Vec<FetchTarget>,
        reply: Result<Response, KafkaError>,
        cluster: &dyn Cluster,
    ) {
        if let Some(poll) = self.fetches.long_polls.get(&node)
            && poll.token == token
        {
            self.fetches.long_polls.remove(&node);
        }
        for target in &targets {
            if let Some(partition) = self.partitions.get_mut(&target.key)
                && partition.in_fetch == Some(target.version)
            {
                partition.in_fetch = None;
            }
        }
        let back_off = now.after_ms(i64::from(self.config.fetch_error_backoff_ms));
        let response = match reply {
            Ok(Response::Fetch(response)) if response.error_code == ErrorCode::NONE => response,
            _ => {
                self.fetches.not_before.insert(node, back_off);
                self.want_topics(&[], true);
                return;
            }
        };
        for topic in response.responses {
            let name = match topic.topic.is_empty() {
                false => topic.topic,
                true => match cluster.topic_name(topic.topic_id) {
                    Some(name) => name,
                    None => continue,
                },
            };
            for data in topic.partitions {
                let same = |t: &&FetchTarget| t.key.1 == data.partition_index && t.key.0 == name;
                if let Some(target) = targets.iter().find(same) {
                    self.partition_fetched(now, target, data);
                }
            }
        }
    }

    fn partition_fetched(&mut self, now: Now, target: &FetchTarget, data: PartitionData) {
        let Some(partition) = self.partitions.get_mut(&target.key) else {
            return;
        };
        let current =
            partition.shared.version() == target.version && partition.fetch_offset == target.offset;
        if !current || partition.phase != Phase::Fetching {
            return;
        }
        if data.error_code != ErrorCode::NONE {
            return self.partition_fetch_failed(now, &target.key, data.error_code);
        }
        partition.tail_start = false;
        if partition.first_offset == offset::INVALID {
            partition.first_offset = target.offset;
        }
        if data.log_start_offset >= 0 {
            partition.low = data.log_start_offset;
        }
        let end = match self.config.read_committed {
            true if data.last_stable_offset >= 0 => data.last_stable_offset,
            _ => data.high_watermark,
        };
        partition.high = end;
        let aborted = match self.config.read_committed {
            true => data.aborted_transactions.unwrap_or_default(),
            false => Vec::new(),
        };
        let aborted = aborted.into_iter();
        let aborted = aborted
            .map(|t| AbortedTransaction {
                producer_id: t.producer_id,
                first_offset: t.first_offset,
            })
            .collect();
        let chunk = Chunk::read(data.records, target.offset, aborted);
        if chunk.cut_short {
            partition.not_before = now.after_ms(i64::from(self.config.fetch_error_backoff_ms));
            let text = format!(
                "{} [{}]: the batch at offset {} is larger than the fetch may be",
                target.key.0, target.key.1, target.offset
            );
            let error = KafkaError::new(ErrCode::MSG_SIZE_TOO_LARGE, text);
            return self.enqueue(&target.key, Queued::Error(target.offset, error));
        }
        partition.fetch_offset = chunk.next_offset;
        let at_end = chunk.next_offset >= end && partition.eof_at != Some(chunk.next_offset);
        if at_end {
            partition.eof_at = Some(chunk.next_offset);
        }
        let eof = (at_end && self.config.enable_partition_eof).then_some(chunk.next_offset);
        if !chunk.batches.is_empty() {
            let options = ReadOptions {
                check_crcs: self.config.check_crcs,
            };
            let (records, bytes) = (chunk.records, chunk.bytes);
            partition.queued_records += records;
            partition.queued_bytes += bytes;
            if !partition.forwarded {
                self.queued_records += records;
                self.queued_bytes += bytes;
            }
            let fetched = Fetched::new(partition.shared.clone(), target.offset, chunk, options);
            self.enqueue(&target.key, Queued::Records(fetched));
        }
        if let Some(offset) = eof {
            self.enqueue(&target.key, Queued::Eof(offset));
        }
    }

    fn partition_fetch_failed(&mut self, now: Now, key: &TopicPartition, error: ErrorCode) {
        let Some(partition) = self.partitions.get_mut(key) else {
            return;
        };
        partition.not_before = now.after_ms(i64::from(self.config.fetch_error_backoff_ms));
        let at = partition.fetch_offset;
        match error {
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                partition.not_before = 0;
                self.reset_offset(key);
            }
            ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::INCONSISTENT_TOPIC_ID
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::REPLICA_NOT_AVAILABLE
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::OFFSET_NOT_AVAILABLE => self.want_topics(&[], true),
            error if error.is_retriable() => {}
            error => self.enqueue(key, Queued::Error(at, KafkaError::from(error))),
        }
    }

    fn enqueue(&mut self, key: &TopicPartition, queued: Queued) {
        if let Some(partition) = self.partitions.get_mut(key) {
            partition.queue.push_back(queued);
            self.ready.push_back(Ready::Of(key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::PartitionOffset;
    use super::super::config::ConsumerConfig;
    use super::super::scripted::{Rig, data, tp};
    use super::*;

    /// A consumer without a group at offset 0 of these partitions of topic a.
    fn assigned(partitions: &[i32], change: impl FnOnce(&mut ConsumerConfig)) -> Rig {
        let mut rig = Rig::new(|config| {
            config.group_id = None;
            config.enable_partition_eof = true;
            change(config);
        });
        let partitions: Vec<_> = partitions
            .iter()
            .map(|&p| PartitionOffset::new("a", p, 0))
            .collect();
        rig.consumer.assign(rig.now, &partitions).unwrap();
        rig
    }

    #[test]
    fn records_then_the_end_once() {
        let mut rig = assigned(&[0], |_| {});
        let (token, asked) = rig.fetch();
        assert_eq!(asked, [("a".into(), 0, 0)]);
        rig.fetches(token, "a", data(0, 0, 3, 3));
        assert_eq!(rig.polled(), "a0: 0 1 2");
        assert_eq!(rig.polled(), "a0 eof 3");
        // The next fetch is out already; an empty answer is no news.
        let (token, asked) = rig.fetch();
        assert_eq!(asked, [("a".into(), 0, 3)]);
        rig.fetches(token, "a", data(0, 3, 0, 3));
        assert_eq!(rig.polled(), "");
        let (token, _) = rig.fetch();
        rig.fetches(token, "a", data(0, 3, 1, 4));
        assert_eq!(
            (rig.polled().as_str(), rig.polled().as_str()),
            ("a0: 3", "a0 eof 4")
        );
        assert_eq!(rig.consumer.watermarks(&("a".into(), 0)), Some((0, 4)));
    }

    #[test]
    fn prefetches_until_the_queue_is_full() {
        let mut rig = assigned(&[0], |c| c.queued_min_messages = 4);
        for base in [0, 3] {
            let (token, _) = rig.fetch();
            rig.fetches(token, "a", data(0, base, 3, 100));
        }
        assert_eq!(rig.waiting(), "");
        // `fetch.queue.backoff.ms` of librdkafka would wait: here the poll that makes room sends the next one, once.
        assert_eq!(rig.polled(), "a0: 0 1 2");
        assert_eq!(rig.waiting(), "Fetch");
        assert_eq!(rig.polled(), "a0: 3 4 5");
        assert_eq!(rig.waiting(), "Fetch");
    }

    #[test]
    fn one_fetch_for_all_and_one_more_for_what_just_started() {
        let mut rig = assigned(&[0, 1], |_| {});
        let (first, asked) = rig.fetch();
        assert_eq!(asked.len(), 2);
        assert_eq!(rig.waiting(), "");
        let mut there = [PartitionOffset::new("a", 1, 50)];
        rig.consumer.seek(rig.now, &mut there).unwrap();
        let (second, asked) = rig.fetch();
        assert_eq!(asked, [("a".into(), 1, 50)]);
        rig.fetches(first, "a", data(1, 0, 2, 90));
        assert_eq!(
            rig.polled(),
            "",
            "what was fetched before the seek is dropped"
        );
        rig.fetches(second, "a", data(1, 48, 4, 90));
        assert_eq!(rig.polled(), "a1: 50 51");
        // Both go on: partition 0 at its end with the long poll, partition 1, which is behind, without.
        assert_eq!(rig.waiting(), "Fetch Fetch");
        let waits: Vec<i32> = rig
            .sent
            .iter()
            .map(|(_, _, request)| max_wait(request))
            .collect();
        assert_eq!(waits, [500, 0]);
        assert_eq!(rig.fetch().1, [("a".into(), 0, 0)]);
        let (token, asked) = rig.fetch();
        assert_eq!(asked, [("a".into(), 1, 52)]);
        rig.fetches(token, "a", data(1, 52, 1, 53));
        // At its end it is long-polled as well, and in the same one with the others in the end.
        let last = rig.run(0).sent.back().unwrap();
        assert_eq!(max_wait(&last.2), 490);
        let (beside, asked) = rig.fetch();
        assert_eq!(asked, [("a".into(), 1, 53)]);
        rig.run(490).fetches(beside, "a", data(1, 53, 0, 53));
        assert_eq!(rig.waiting(), "", "the long poll is about to end");
    }

    #[test]
    fn what_is_long_polled_beside_is_in_the_next_long_poll() {
        let mut rig = assigned(&[0, 1], |_| {});
        let (token, _) = rig.fetch();
        rig.fetches(token, "a", data(0, 0, 3, 3));
        rig.run(200);
        let (main, _) = rig.fetch();
        let mut end = [PartitionOffset::new("a", 1, 0)];
        rig.consumer.seek(rig.now, &mut end).unwrap();
        let (behind, _) = rig.fetch();
        rig.run(0).fetches(behind, "a", data(1, 0, 0, 0));
        assert_eq!(max_wait(&rig.run(0).sent[0].2), 290);
        // A record that comes now is there at once, and the partition is long-polled again.
        let (beside, _) = rig.fetch();
        rig.run(100).fetches(beside, "a", data(1, 0, 1, 1));
        assert_eq!(max_wait(&rig.run(0).sent[0].2), 190);
        let (beside, asked) = rig.fetch();
        assert_eq!(asked, [("a".into(), 1, 1)]);
        rig.run(190).fetches(beside, "a", data(1, 1, 0, 1));
        rig.run(10).fetches(main, "a", data(0, 3, 0, 3));
        let (_, mut asked) = rig.fetch();
        asked.sort();
        assert_eq!(asked, [("a".into(), 0, 3), ("a".into(), 1, 1)]);
        assert_eq!(rig.waiting(), "");
    }

    #[test]
    fn a_seek_during_a_long_poll_is_fetched_at_once() {
        for others in [&[0][..], &[0, 1]] {
            let mut rig = assigned(others, |_| {});
            let (token, _) = rig.fetch();
            rig.fetches(token, "a", data(0, 0, 10, 10));
            assert_eq!(rig.polled(), "a0: 0 1 2 3 4 5 6 7 8 9");
            let (parked, _) = rig.run(100).fetch();
            let mut there = [PartitionOffset::new("a", 0, 5)];
            rig.consumer.seek(rig.now, &mut there).unwrap();
            let (token, asked) = rig.fetch();
            assert_eq!(asked, [("a".into(), 0, 5)]);
            // Whichever is answered first: the parked one says nothing about where the partition is now.
            rig.fetches(parked, "a", data(0, 10, 3, 13));
            rig.fetches(token, "a", data(0, 5, 5, 10));
            assert_eq!(rig.polled(), "a0: 5 6 7 8 9");
        }
    }

    fn max_wait(request: &Request) -> i32 {
        if let Request::Fetch(fetch) = request {
            fetch.max_wait_ms
        } else {
            -1
        }
    }

    #[test]
    fn a_long_poll_for_nothing_any_more_holds_up_nobody() {
        let mut rig = assigned(&[0], |_| {});
        for offset in [5, 6, 7] {
            assert_eq!(max_wait(&rig.run(0).sent[0].2), 500);
            let (outdated, _) = rig.fetch();
            let mut there = [PartitionOffset::new("a", 0, offset)];
            rig.consumer.seek(rig.now, &mut there).unwrap();
            rig.run(0).fetches(outdated, "a", data(0, 0, 9, 9));
            assert_eq!(rig.polled(), "");
        }
        assert_eq!(rig.fetch().1, [("a".into(), 0, 7)]);
    }

    #[test]
    fn a_seek_outdates_what_the_application_holds() {
        let mut rig = assigned(&[0], |_| {});
        let (token, _) = rig.fetch();
        rig.fetches(token, "a", data(0, 0, 3, 9));
        let Some(super::super::Consumed::Records(mut held)) = rig.consumer.poll_fetched(rig.now)
        else {
            panic!()
        };
        assert_eq!(held.next_record().unwrap().unwrap().offset, 0);
        let mut there = [PartitionOffset::new("a", 0, 7)];
        rig.consumer.seek(rig.now, &mut there).unwrap();
        assert!(held.next_record().is_none());
        let mut position = [tp("a", 0)];
        rig.consumer.position(&mut position);
        assert_eq!(position[0].offset, 7);
    }

    #[test]
    fn a_pause_drops_what_waits_and_a_resume_fetches_it_again() {
        let mut rig = assigned(&[0], |_| {});
        let (token, _) = rig.fetch();
        rig.fetches(token, "a", data(0, 0, 2, 9));
        assert_eq!(rig.polled(), "a0: 0 1");
        let (token, _) = rig.fetch();
        rig.fetches(token, "a", data(0, 2, 2, 9));
        rig.consumer.pause(&mut [tp("a", 0)]);
        assert_eq!(rig.polled(), "");
        rig.sent.clear();
        assert_eq!(rig.run(5_000).waiting(), "");
        rig.consumer.resume(&mut [tp("a", 0)]);
        assert_eq!(rig.fetch().1, [("a".into(), 0, 2)]);
        assert_eq!(rig.consumer.queued_records, 0);
    }

    #[test]
    fn out_of_range_resets() {
        for (reset, then) in [
            (crate::config::OffsetReset::Earliest, 100),
            (crate::config::OffsetReset::Latest, 200),
        ] {
            let mut rig = assigned(&[0], |c| c.auto_offset_reset = reset);
            let (token, _) = rig.fetch();
            let out = PartitionData {
                error_code: ErrorCode::OFFSET_OUT_OF_RANGE,
                ..data(0, 0, 0, 0)
            };
            rig.fetches(token, "a", out);
            rig.lists(ErrorCode::NONE);
            assert_eq!(rig.fetch().1, [("a".into(), 0, then)]);
        }
        let mut rig = assigned(&[0], |c| {
            c.auto_offset_reset = crate::config::OffsetReset::Error
        });
        let (token, _) = rig.fetch();
        let out = PartitionData {
            error_code: ErrorCode::OFFSET_OUT_OF_RANGE,
            ..data(0, 0, 0, 0)
        };
        rig.fetches(token, "a", out);
        assert_eq!(
            (rig.polled().as_str(), rig.waiting().as_str()),
            ("error -140", "")
        );
    }

    #[test]
    fn errors_back_off() {
        let mut rig = assigned(&[0], |_| {});
        let (token, _) = rig.fetch();
        let moved = PartitionData {
            error_code: ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ..data(0, 0, 0, 0)
        };
        rig.fetches(token, "a", moved);
        assert_eq!(rig.run(499).waiting(), "");
        assert_eq!(rig.consumer.poll_timeout(), Some(rig.now.after_ms(1)));
        let (token, _) = rig.run(1).fetch();
        rig.reply(token, Err(KafkaError::from(ErrCode::TRANSPORT)));
        assert_eq!(rig.run(499).waiting(), "");
        assert_eq!(rig.run(1).waiting(), "Fetch");
        assert_eq!(rig.consumer.poll_timeout(), None);
    }

    #[test]
    fn partitions_take_turns_at_the_front() {
        let mut rig = assigned(&[0, 1, 2], |_| {});
        let mut firsts = Vec::new();
        for _ in 0..3 {
            let (token, asked) = rig.fetch();
            firsts.push(asked[0].1);
            rig.reply(token, Ok(Response::Fetch(Default::default())));
        }
        firsts.sort();
        assert_eq!(firsts, [0, 1, 2]);
    }

    #[test]
    fn forwarded_partitions_have_their_own_queue_and_limit() {
        let mut rig = assigned(&[0, 1], |c| c.queued_min_messages = 2);
        assert!(rig.consumer.set_forwarded(&("a".into(), 1), true));
        let (token, _) = rig.fetch();
        rig.fetches(token, "a", data(1, 0, 5, 9));
        assert_eq!(rig.polled(), "");
        // Partition 1 is full, 0 isn't.
        assert_eq!(rig.fetch().1, [("a".into(), 0, 0)]);
        assert!(!rig.consumer.has_fetched());
        assert!(
            rig.consumer
                .poll_fetched_of(rig.now, &("a".into(), 1))
                .is_some()
        );
    }

    #[test]
    fn unknown_partitions_are_told() {
        let mut rig = assigned(&[9], |_| {});
        rig.run(0);
        assert_eq!(rig.polled(), "error -190");
        assert_eq!(rig.waiting(), "");
    }

    /// What a test may do to a consumer of three growing partitions.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Append(i32, i64),
        Answer(usize),
        Poll(usize),
        Seek(i32, i64),
        Pause(i32),
        Resume(i32),
        Wait(i64),
    }

    fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
        use proptest::prelude::*;
        let step = prop_oneof![
            3 => (0..3i32, 1..20i64).prop_map(|(p, n)| Step::Append(p, n)),
            6 => (0..3usize).prop_map(Step::Answer),
            6 => (0..6usize).prop_map(Step::Poll),
            1 => (0..3i32, 0..30i64).prop_map(|(p, offset)| Step::Seek(p, offset)),
            1 => (0..3i32).prop_map(Step::Pause),
            2 => (0..3i32).prop_map(Step::Resume),
            1 => (0..600i64).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 1..80)
    }

    /// Answers the `nth` waiting fetch with up to seven records per partition.
    fn answer(rig: &mut Rig, ends: &[i64; 3], nth: usize) {
        rig.run(0);
        if rig.sent.is_empty() {
            return;
        }
        let nth = nth % rig.sent.len();
        let Some((token, _, Request::Fetch(request))) = rig.sent.remove(nth) else {
            panic!()
        };
        let partitions = request
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|p| {
                let end = ends[p.partition as usize];
                if p.fetch_offset > end {
                    return PartitionData {
                        error_code: ErrorCode::OFFSET_OUT_OF_RANGE,
                        ..data(p.partition, 0, 0, end)
                    };
                }
                data(
                    p.partition,
                    p.fetch_offset,
                    (end - p.fetch_offset).min(7) as usize,
                    end,
                )
            });
        let topic = ottla_protocol::messages::fetch::FetchableTopicResponse {
            topic: "a".into(),
            partitions: partitions.collect(),
            ..Default::default()
        };
        let response = ottla_protocol::messages::fetch::FetchResponse {
            responses: alloc::vec![topic],
            ..Default::default()
        };
        rig.reply(token, Ok(Response::Fetch(response)));
    }

    /// Takes at most `most` records of the next chunk and checks that none is missing or comes twice.
    fn poll(rig: &mut Rig, expected: &mut [i64; 3], paused: &[bool; 3], most: usize) -> bool {
        let polled = rig.consumer.poll_fetched(rig.now);
        rig.run(0);
        let Some(super::super::Consumed::Records(mut fetched)) = polled else {
            return polled.is_some();
        };
        let p = fetched.partition().partition() as usize;
        assert!(!paused[p]);
        for _ in 0..most {
            let Some(record) = fetched.next_record() else {
                break;
            };
            assert_eq!(record.unwrap().offset, expected[p]);
            expected[p] += 1;
        }
        // What is left of the chunk is lost with it: the application goes back to where it stopped.
        if fetched.next_record().is_some() {
            let mut back = [PartitionOffset::new("a", p as i32, expected[p])];
            rig.consumer.seek(rig.now, &mut back).unwrap();
            rig.run(0);
        }
        true
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn every_record_once_whatever_happens(steps in steps()) {
            let mut rig = assigned(&[0, 1, 2], |c| {
                c.queued_min_messages = 10;
                c.auto_offset_reset = crate::config::OffsetReset::Error;
            });
            let (mut ends, mut expected, mut paused) = ([0i64; 3], [0i64; 3], [false; 3]);
            for step in steps {
                match step {
                    Step::Append(p, n) => ends[p as usize] += n,
                    Step::Answer(nth) => answer(&mut rig, &ends, nth),
                    Step::Poll(most) => _ = poll(&mut rig, &mut expected, &paused, most),
                    Step::Seek(p, offset) => {
                        let offset = offset.min(ends[p as usize]);
                        rig.consumer.seek(rig.now, &mut [PartitionOffset::new("a", p, offset)]).unwrap();
                        expected[p as usize] = offset;
                    }
                    Step::Pause(p) => {
                        rig.consumer.pause(&mut [tp("a", p)]);
                        paused[p as usize] = true;
                    }
                    Step::Resume(p) => {
                        rig.consumer.resume(&mut [tp("a", p)]);
                        paused[p as usize] = false;
                    }
                    Step::Wait(ms) => _ = rig.run(ms),
                }
            }
            for p in 0..3 {
                rig.consumer.resume(&mut [tp("a", p)]);
            }
            for _ in 0..200 {
                answer(&mut rig, &ends, 0);
                while poll(&mut rig, &mut expected, &[false; 3], usize::MAX) {}
            }
            proptest::prop_assert_eq!(expected, ends);
            proptest::prop_assert_eq!((rig.consumer.queued_records, rig.consumer.queued_bytes), (0, 0));
        }
    }
}
