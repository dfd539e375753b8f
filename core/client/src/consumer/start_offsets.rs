//! Where each partition starts: the committed offset, and the resolution of logical offsets and resets.

use super::assignors::TopicPartition;
use super::by_topic;
use super::failures::{coordinator_lost, unexpected};
use super::machine::{Cluster, Consumer, Purpose, To};
use super::offset::{self, Start};
use super::partition::Phase;
use crate::config::OffsetReset;
use crate::error::{ErrCode, KafkaError};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use ottla_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use ottla_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};
use ottla_protocol::{ErrorCode, Request, Response, Str};
use ottla_record::Now;

/// ListOffsets' timestamps that are none.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// What a leader is asked: a partition, its leader epoch, a timestamp.
pub(super) type WantedOffset = (TopicPartition, i32, i64);

/// A partition of an OffsetFetch answer.
pub(super) struct CommittedOffset {
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) metadata: Option<Str>,
    pub(super) error: ErrorCode,
}

impl Consumer {
    /// What `auto.offset.reset` comes to as a start.
    pub(super) fn reset_start(&self) -> Start {
        match self.config.auto_offset_reset {
            OffsetReset::Earliest => Start::Beginning,
            OffsetReset::Latest => Start::End,
            OffsetReset::Error => Start::Stored,
        }
    }

    /// Asks for whatever starts need: one question to the coordinator, one to each leader.
    pub(super) fn serve_offsets(&mut self, now: Now, cluster: &dyn Cluster) {
        let mut committed = Vec::new();
        let mut by_leader: BTreeMap<i32, Vec<WantedOffset>> = BTreeMap::new();
        let mut leaderless = false;
        for (key, partition) in &mut self.partitions {
            let start = match partition.phase {
                Phase::NeedsCommitted => None,
                Phase::NeedsOffset(start) => Some(start),
                _ => continue,
            };
            if partition.asked || now.mono_us < partition.not_before {
                continue;
            }
            partition.not_before = 0;
            let Some(start) = start else {
                committed.push((key.clone(), partition.start_number));
                partition.phase = Phase::Asking;
                continue;
            };
            match cluster.leader(&key.0, key.1) {
                Some((node, epoch)) => {
                    let timestamp = if start == Start::Beginning {
                        EARLIEST
                    } else {
                        LATEST
                    };
                    by_leader
                        .entry(node)
                        .or_default()
                        .push((key.clone(), epoch, timestamp));
                }
                None => {
                    leaderless = true;
                    partition.leaderless = true;
                    partition.not_before = now.after_ms(i64::from(self.config.retry_backoff_ms));
                }
            }
        }
        if leaderless {
            self.want_topics(&[], true);
        }
        if !committed.is_empty() {
            let keys = committed.iter().map(|(key, _)| key.clone());
            let request = self.offset_fetch_request(keys);
            let timeout = self.config.request_timeout_ms;
            self.send(
                To::Coordinator,
                request,
                timeout,
                Purpose::StartOffsets(committed),
            );
        }
        for (node, wanted) in by_leader {
            let keys = wanted.iter().filter_map(|(key, ..)| {
                Some((key.clone(), self.partitions.get(key)?.start_number))
            });
            let keys: Vec<(TopicPartition, u32)> = keys.collect();
            let request = self.list_offsets_request(wanted);
            for (key, _) in &keys {
                // Kept apart from `Asking`: the answer needs to know what was asked for.
                if let Some(partition) = self.partitions.get_mut(key) {
                    partition.asked = true;
                }
            }
            let timeout = self.config.request_timeout_ms;
            self.send(
                To::Node(node),
                request,
                timeout,
                Purpose::ResetOffsets(keys),
            );
        }
    }

    /// An OffsetFetch request in the shape of all its versions.
    pub(super) fn offset_fetch_request(
        &self,
        keys: impl Iterator<Item = TopicPartition>,
    ) -> Request {
        let group_id = self.config.group_id.clone().unwrap_or_default();
        let topics: Vec<(Str, Vec<i32>)> = by_topic(keys);
        let old = topics
            .iter()
            .map(|(name, partition_indexes)| OffsetFetchRequestTopic {
                name: name.clone(),
                partition_indexes: partition_indexes.clone(),
            });
        let old = old.collect();
        let new = topics
            .into_iter()
            .map(|(name, partition_indexes)| OffsetFetchRequestTopics {
                name,
                partition_indexes,
                ..Default::default()
            });
        let group = OffsetFetchRequestGroup {
            group_id: group_id.clone(),
            topics: Some(new.collect()),
            ..Default::default()
        };
        Request::OffsetFetch(OffsetFetchRequest {
            group_id,
            topics: Some(old),
            groups: vec![group],
            require_stable: self.config.read_committed,
        })
    }

    /// A ListOffsets request for partitions of one leader, with their leader epochs and timestamps.
    pub(super) fn list_offsets_request(&self, wanted: Vec<WantedOffset>) -> Request {
        let wanted = wanted.into_iter().map(
            |((topic, partition_index), current_leader_epoch, timestamp)| {
                let partition = ListOffsetsPartition {
                    partition_index,
                    current_leader_epoch,
                    timestamp,
                };
                (topic, partition)
            },
        );
        let topics = by_topic(wanted).into_iter();
        let topics = topics.map(|(name, partitions)| ListOffsetsTopic { name, partitions });
        Request::ListOffsets(ListOffsetsRequest {
            replica_id: -1,
            isolation_level: i8::from(self.config.read_committed),
            topics: topics.collect(),
            timeout_ms: self.config.request_timeout_ms,
        })
    }

    /// The committed offsets of starting partitions are here: start, or reset where there is none.
    pub(super) fn start_offsets_fetched(
        &mut self,
        now: Now,
        keys: Vec<(TopicPartition, u32)>,
        reply: Result<Response, KafkaError>,
    ) {
        let answer = read_offset_fetch(reply);
        let retry_at = now.after_ms(i64::from(self.config.retry_backoff_ms));
        let mut failed = None;
        for (key, start_number) in keys {
            let reset = self.reset_start();
            let Some(partition) = self.partitions.get_mut(&key) else {
                continue;
            };
            if partition.start_number != start_number {
                continue;
            }
            let committed = match &answer {
                Ok(answer) => answer.get(&key),
                Err(error) => {
                    failed = Some(error.clone());
                    None
                }
            };
            match committed {
                Some(committed) if committed.error == ErrorCode::NONE && committed.offset >= 0 => {
                    partition.committed = committed.offset;
                    partition.last_epoch = committed.leader_epoch;
                    partition.fetch_offset = committed.offset;
                    partition.phase = Phase::Fetching;
                }
                Some(committed) if committed.error == ErrorCode::NONE => {
                    if reset == Start::Stored {
                        self.stop_without_reset(&key, offset::INVALID, "no committed offset");
                    } else {
                        partition.phase = Phase::NeedsOffset(reset);
                    }
                }
                other => {
                    if let Some(committed) = other
                        && !committed.error.is_retriable()
                    {
                        failed = Some(KafkaError::from(committed.error));
                    }
                    partition.phase = Phase::NeedsCommitted;
                    partition.not_before = retry_at;
                }
            }
        }
        if let Some(error) = failed {
            if coordinator_lost(&error) {
                self.forget_coordinator();
            } else if !error.retriable {
                self.error(None, offset::INVALID, error);
            }
        }
    }

    /// The log told offsets of starting partitions.
    pub(super) fn reset_offsets_listed(
        &mut self,
        now: Now,
        keys: Vec<(TopicPartition, u32)>,
        reply: Result<Response, KafkaError>,
    ) {
        let answer = read_list_offsets(reply);
        let retry_at = now.after_ms(i64::from(self.config.retry_backoff_ms));
        let mut refresh = false;
        let mut errors = Vec::new();
        for (key, start_number) in keys {
            let Some(partition) = self.partitions.get_mut(&key) else {
                continue;
            };
            if partition.start_number != start_number {
                continue;
            }
            partition.asked = false;
            let Phase::NeedsOffset(start) = partition.phase else {
                continue;
            };
            match answer.as_ref().ok().and_then(|answer| answer.get(&key)) {
                Some(listed) if listed.error == ErrorCode::NONE => {
                    let offset = match start {
                        // What was asked for is the end; too long a tail ends as out of range at the first fetch.
                        Start::Tail(n) => (listed.offset - n).max(0),
                        _ => listed.offset,
                    };
                    partition.tail_start = matches!(start, Start::Tail(_));
                    partition.fetch_offset = offset;
                    partition.last_epoch = -1;
                    partition.phase = Phase::Fetching;
                }
                other => {
                    partition.not_before = retry_at;
                    refresh = true;
                    if let Some(listed) = other
                        && !listed.error.is_retriable()
                    {
                        partition.phase = Phase::Stuck;
                        errors.push((key, KafkaError::from(listed.error)));
                    }
                }
            }
        }
        if refresh {
            self.want_topics(&[], true);
        }
        for (key, error) in errors {
            self.error(Some(key), offset::INVALID, error);
        }
    }

    /// The partition's offset is out of range: `auto.offset.reset` decides.
    pub(super) fn reset_offset(&mut self, key: &TopicPartition) {
        let reset = self.reset_start();
        let Some(partition) = self.partitions.get_mut(key) else {
            return;
        };
        let at = partition.fetch_offset;
        partition.first_offset = offset::INVALID;
        partition.shared.set_position(offset::INVALID, -1);
        if partition.tail_start {
            // More than there was: everything, as librdkafka does it.
            partition.tail_start = false;
            partition.phase = Phase::NeedsOffset(Start::Beginning);
        } else if reset == Start::Stored {
            self.stop_without_reset(key, at, "the fetch offset is out of range");
        } else {
            partition.phase = Phase::NeedsOffset(reset);
        }
    }

    /// `auto.offset.reset=error`: tells the application and waits for it to say where to go on.
    fn stop_without_reset(&mut self, key: &TopicPartition, at: i64, why: &str) {
        if let Some(partition) = self.partitions.get_mut(key) {
            partition.phase = Phase::Stuck;
        }
        let text = format!(
            "{} [{}]: {why}, and auto.offset.reset is error",
            key.0, key.1
        );
        self.error(
            Some(key.clone()),
            at,
            KafkaError::new(ErrCode::AUTO_OFFSET_RESET, text),
        );
    }
}

/// The partitions of an OffsetFetch answer of any version, or the error of the whole.
pub(super) fn read_offset_fetch(
    reply: Result<Response, KafkaError>,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>, KafkaError> {
    let OffsetFetchResponse {
        topics,
        error_code,
        groups,
        ..
    } = match reply? {
        Response::OffsetFetch(response) => response,
        other => return Err(unexpected(&other)),
    };
    let mut answer = BTreeMap::new();
    let mut errors = vec![error_code];
    for topic in topics {
        for p in topic.partitions {
            let (offset, leader_epoch, error) =
                (p.committed_offset, p.committed_leader_epoch, p.error_code);
            let committed = CommittedOffset {
                offset,
                leader_epoch,
                metadata: p.metadata,
                error,
            };
            answer.insert((topic.name.clone(), p.partition_index), committed);
        }
    }
    for group in groups {
        errors.push(group.error_code);
        for topic in group.topics {
            for p in topic.partitions {
                let (offset, leader_epoch, error) =
                    (p.committed_offset, p.committed_leader_epoch, p.error_code);
                let committed = CommittedOffset {
                    offset,
                    leader_epoch,
                    metadata: p.metadata,
                    error,
                };
                answer.insert((topic.name.clone(), p.partition_index), committed);
            }
        }
    }
    match errors.into_iter().find(|error| *error != ErrorCode::NONE) {
        Some(error) => Err(KafkaError::from(error)),
        None => Ok(answer),
    }
}

/// A partition of a ListOffsets answer.
pub(super) struct ListedOffset {
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) error: ErrorCode,
}

/// The partitions of a ListOffsets answer.
pub(super) fn read_list_offsets(
    reply: Result<Response, KafkaError>,
) -> Result<BTreeMap<TopicPartition, ListedOffset>, KafkaError> {
    let response = match reply? {
        Response::ListOffsets(response) => response,
        other => return Err(unexpected(&other)),
    };
    let mut answer = BTreeMap::new();
    for topic in response.topics {
        for p in topic.partitions {
            let listed = ListedOffset {
                offset: p.offset,
                leader_epoch: p.leader_epoch,
                error: p.error_code,
            };
            answer.insert((topic.name.clone(), p.partition_index), listed);
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::super::PartitionOffset;
    use super::super::scripted::{Rig, data};
    use super::*;

    fn assigned(start: i64, reset: OffsetReset) -> Rig {
        let mut rig = Rig::new(|config| config.auto_offset_reset = reset);
        rig.consumer
            .assign(rig.now, &[PartitionOffset::new("a", 0, start)])
            .unwrap();
        rig
    }

    #[test]
    fn starts_at_the_committed_offset_or_resets() {
        let mut rig = assigned(offset::INVALID, OffsetReset::Latest);
        rig.committed(33);
        assert_eq!(rig.fetch().1[0].2, 33);
        for (reset, offset) in [(OffsetReset::Earliest, 100), (OffsetReset::Latest, 200)] {
            let mut rig = assigned(offset::STORED, reset);
            rig.committed(-1);
            rig.lists(ErrorCode::NONE);
            assert_eq!(rig.fetch().1[0].2, offset);
        }
        let mut rig = assigned(offset::STORED, OffsetReset::Error);
        rig.committed(-1);
        assert_eq!(rig.polled(), "error -140");
    }

    #[test]
    fn logical_offsets() {
        for (start, offset) in [
            (offset::BEGINNING, 100),
            (offset::END, 200),
            (offset::tail(30), 170),
            (offset::tail(500), 0),
            (7, 7),
        ] {
            let mut rig = assigned(start, OffsetReset::Latest);
            if start < 0 {
                rig.lists(ErrorCode::NONE);
            }
            assert_eq!(rig.fetch().1[0].2, offset);
        }
    }

    #[test]
    fn a_tail_longer_than_the_log_is_the_log() {
        let mut rig = assigned(offset::tail(150), OffsetReset::Latest);
        rig.lists(ErrorCode::NONE);
        let (token, asked) = rig.fetch();
        assert_eq!(asked[0].2, 50);
        let out = ottla_protocol::messages::fetch::PartitionData {
            error_code: ErrorCode::OFFSET_OUT_OF_RANGE,
            ..data(0, 0, 0, 0)
        };
        rig.fetches(token, "a", out);
        rig.lists(ErrorCode::NONE);
        assert_eq!(rig.fetch().1[0].2, 100);
    }

    #[test]
    fn without_a_group_stored_is_an_error_and_nothing_is_a_reset() {
        let mut rig = Rig::new(|config| config.group_id = None);
        let stored = [PartitionOffset::new("a", 0, offset::STORED)];
        assert_eq!(
            rig.consumer.assign(rig.now, &stored).unwrap_err().code,
            ErrCode::INVALID_ARG
        );
        rig.consumer
            .assign(rig.now, &[PartitionOffset::new("a", 0, offset::INVALID)])
            .unwrap();
        rig.lists(ErrorCode::NONE);
        assert_eq!(rig.fetch().1[0].2, 200);
    }

    #[test]
    fn questions_are_asked_again() {
        let mut rig = assigned(offset::BEGINNING, OffsetReset::Latest);
        rig.lists(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        assert_eq!(rig.waiting(), "");
        rig.run(100).lists(ErrorCode::NONE);
        assert_eq!(rig.fetch().1[0].2, 100);

        let mut rig = assigned(offset::STORED, OffsetReset::Latest);
        let (token, ()) = rig.take(|r| {
            if let Request::OffsetFetch(_) = r {
                Some(())
            } else {
                None
            }
        });
        rig.reply(token, Err(KafkaError::from(ErrCode::TRANSPORT)));
        rig.run(100).committed(4);
        assert_eq!(rig.fetch().1[0].2, 4);
    }

    #[test]
    fn a_seek_makes_an_answer_useless() {
        let mut rig = assigned(offset::BEGINNING, OffsetReset::Latest);
        rig.run(0);
        let mut there = [PartitionOffset::new("a", 0, 5)];
        rig.consumer.seek(rig.now, &mut there).unwrap();
        rig.lists(ErrorCode::NONE);
        assert_eq!(rig.fetch().1[0].2, 5);
    }

    #[test]
    fn a_partition_without_a_leader_waits_for_one() {
        let mut rig = Rig::new(|_| {});
        rig.table.leaders.insert(("a".into(), 0), None);
        rig.consumer
            .assign(rig.now, &[PartitionOffset::new("a", 0, offset::END)])
            .unwrap();
        assert_eq!(rig.waiting(), "");
        rig.table.leaders.clear();
        assert_eq!(rig.waiting(), "", "nobody has said so yet");
        rig.table.version += 1;
        rig.run(0).lists(ErrorCode::NONE);
        assert_eq!(rig.fetch().1[0].2, 200);
    }
}
