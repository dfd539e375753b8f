//! For the tests: a consumer with a cluster that is a table and a broker that answers as the test says.

use super::config::ConsumerConfig;
use super::machine::{Cluster, Consumer, ConsumerEvent, To, Want};
use super::{Consumed, PartitionOffset, RebalanceKind, TopicPartition};
use crate::config::ClientConfig;
use crate::error::KafkaError;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use ottla_protocol::messages::fetch::*;
use ottla_protocol::messages::heartbeat::*;
use ottla_protocol::messages::join_group::*;
use ottla_protocol::messages::list_offsets::*;
use ottla_protocol::messages::offset_commit::*;
use ottla_protocol::messages::offset_fetch::*;
use ottla_protocol::messages::sync_group::*;
use ottla_protocol::{ErrorCode, Records, Request, Response, Str, Uuid};
use ottla_record::{BatchBuilder, FinishOptions, Now};
use std::format;
use std::string::String;

/// Topics with their partition counts; every partition is led by node 1 unless told otherwise.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) version: u64,
    pub(crate) topics: BTreeMap<Str, i32>,
    pub(crate) errors: BTreeMap<Str, ErrorCode>,
    pub(crate) leaders: BTreeMap<TopicPartition, Option<(i32, i32)>>,
}

impl Cluster for Table {
    fn version(&self) -> u64 {
        self.version
    }
    fn partition_count(&self, topic: &Str) -> Option<i32> {
        self.topics.get(topic).copied()
    }
    fn topic_error(&self, topic: &Str) -> ErrorCode {
        self.errors.get(topic).copied().unwrap_or(ErrorCode::NONE)
    }
    fn leader(&self, topic: &Str, partition: i32) -> Option<(i32, i32)> {
        let exists = self
            .topics
            .get(topic)
            .is_some_and(|count| partition < *count);
        self.leaders
            .get(&(topic.clone(), partition))
            .copied()
            .unwrap_or(exists.then_some((1, 5)))
    }
    fn topic_id(&self, _: &Str) -> Uuid {
        Uuid::ZERO
    }
    fn topic_name(&self, _: Uuid) -> Option<Str> {
        None
    }
    fn topic_names(&self) -> Vec<Str> {
        self.topics.keys().cloned().collect()
    }
}

/// The consumer under test.
pub(crate) struct Rig {
    pub(crate) consumer: Consumer,
    pub(crate) table: Table,
    pub(crate) now: Now,
    pub(crate) sent: VecDeque<(u64, To, Request)>,
    pub(crate) forgotten: usize,
}

impl Rig {
    /// With a group `g`, topics a (4 partitions) and b (2), and auto commit and EOFs as the test sets them.
    pub(crate) fn new(change: impl FnOnce(&mut ConsumerConfig)) -> Self {
        let client = ClientConfig {
            group_id: Some("g".into()),
            ..Default::default()
        };
        let mut config = ConsumerConfig::new(&client).unwrap();
        change(&mut config);
        let now = Now::new(1_000_000, 1_000);
        let topics = BTreeMap::from([("a".into(), 4), ("b".into(), 2)]);
        let table = Table {
            version: 1,
            topics,
            ..Default::default()
        };
        Self {
            consumer: Consumer::new(config, now),
            table,
            now,
            sent: VecDeque::new(),
            forgotten: 0,
        }
    }

    /// Lets `ms` pass and the consumer do what is due.
    pub(crate) fn run(&mut self, ms: i64) -> &mut Self {
        self.now = Now::new(self.now.after_ms(ms), self.now.wall_ms + ms);
        self.consumer.serve(self.now, &self.table);
        while let Some(want) = self.consumer.poll_want() {
            match want {
                Want::Send {
                    token, to, request, ..
                } => self.sent.push_back((token, to, request)),
                Want::Topics(_) => {}
                Want::ForgetCoordinator => self.forgotten += 1,
            }
        }
        self
    }

    /// Takes the oldest unanswered request that `pick` picks.
    pub(crate) fn take<T>(&mut self, pick: impl Fn(&Request) -> Option<T>) -> (u64, T) {
        self.run(0);
        let found = self
            .sent
            .iter()
            .enumerate()
            .find_map(|(i, (token, _, r))| Some((i, *token, pick(r)?)));
        let (i, token, picked) =
            found.unwrap_or_else(|| panic!("no such request in {:?}", self.sent));
        self.sent.remove(i);
        (token, picked)
    }

    pub(crate) fn reply(&mut self, token: u64, reply: Result<Response, KafkaError>) -> &mut Self {
        self.consumer
            .handle_reply(self.now, token, reply, &self.table);
        self.run(0)
    }

    /// The names of the requests that wait for an answer.
    pub(crate) fn waiting(&mut self) -> String {
        self.run(0);
        let names = self.sent.iter().map(|(_, _, request)| {
            let text = format!("{request:?}");
            String::from(text.split('(').next().unwrap_or_default())
        });
        names.collect::<Vec<_>>().join(" ")
    }

    /// Answers a JoinGroup: the consumer is `leader` or not.
    pub(crate) fn joins(
        &mut self,
        generation_id: i32,
        leader: bool,
        protocol: &str,
    ) -> JoinGroupRequest {
        let (token, join) = self.take(|r| {
            if let Request::JoinGroup(j) = r {
                Some(j.clone())
            } else {
                None
            }
        });
        let metadata = join
            .protocols
            .iter()
            .find(|p| p.name == protocol)
            .map(|p| p.metadata.clone());
        let me = JoinGroupResponseMember {
            member_id: "me".into(),
            group_instance_id: join.group_instance_id.clone(),
            metadata: metadata.unwrap_or_default(),
        };
        let response = JoinGroupResponse {
            generation_id,
            protocol_name: Some(protocol.into()),
            leader: if leader { "me".into() } else { "other".into() },
            member_id: "me".into(),
            members: if leader { vec![me] } else { Vec::new() },
            ..Default::default()
        };
        self.reply(token, Ok(Response::JoinGroup(response)));
        join
    }

    /// Answers a SyncGroup with these partitions, or with what the consumer itself made up for `me`.
    pub(crate) fn syncs(&mut self, partitions: Option<&[(&str, i32)]>) -> SyncGroupRequest {
        let (token, sync) = self.take(|r| {
            if let Request::SyncGroup(s) = r {
                Some(s.clone())
            } else {
                None
            }
        });
        let assignment = match partitions {
            Some(partitions) => super::group_messages::encode_assignment(
                &partitions
                    .iter()
                    .map(|&(topic, p)| (topic.into(), p))
                    .collect(),
            ),
            None => {
                let mine = sync.assignments.iter().find(|a| a.member_id == "me");
                mine.map(|a| a.assignment.clone()).unwrap_or_default()
            }
        };
        self.reply(
            token,
            Ok(Response::SyncGroup(SyncGroupResponse {
                assignment,
                ..Default::default()
            })),
        );
        sync
    }

    /// Subscribes to topic a, joins alone and gets all of its partitions.
    pub(crate) fn subscribed_alone(change: impl FnOnce(&mut ConsumerConfig)) -> Self {
        let mut rig = Self::new(change);
        rig.consumer.subscribe(rig.now, &["a".into()]).unwrap();
        let protocol = rig.consumer.config.partition_assignment_strategy[0].name();
        rig.joins(1, true, protocol);
        rig.syncs(None);
        rig
    }

    /// Answers the waiting OffsetFetch: the same committed offset for every partition, -1 for none.
    pub(crate) fn committed(&mut self, committed_offset: i64) -> Vec<TopicPartition> {
        let (token, request) = self.take(|r| {
            if let Request::OffsetFetch(f) = r {
                Some(f.clone())
            } else {
                None
            }
        });
        let mut asked = Vec::new();
        let topics = request.topics.unwrap_or_default().into_iter().map(|topic| {
            asked.extend(
                topic
                    .partition_indexes
                    .iter()
                    .map(|p| (topic.name.clone(), *p)),
            );
            let partitions = topic.partition_indexes.iter().map(|&partition_index| {
                OffsetFetchResponsePartition {
                    partition_index,
                    committed_offset,
                    committed_leader_epoch: -1,
                    ..Default::default()
                }
            });
            let partitions = partitions.collect();
            OffsetFetchResponseTopic {
                name: topic.name,
                partitions,
            }
        });
        let response = OffsetFetchResponse {
            topics: topics.collect(),
            ..Default::default()
        };
        self.reply(token, Ok(Response::OffsetFetch(response)));
        asked
    }

    /// Answers the waiting ListOffsets with 100 for the beginning and 200 for the end, or with an error.
    pub(crate) fn lists(&mut self, error_code: ErrorCode) -> ListOffsetsRequest {
        let (token, request) = self.take(|r| {
            if let Request::ListOffsets(l) = r {
                Some(l.clone())
            } else {
                None
            }
        });
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|p| ListOffsetsPartitionResponse {
                    partition_index: p.partition_index,
                    error_code,
                    offset: if p.timestamp == -2 { 100 } else { 200 },
                    leader_epoch: 5,
                    ..Default::default()
                });
            let partitions = partitions.collect();
            ListOffsetsTopicResponse {
                name: topic.name.clone(),
                partitions,
            }
        });
        let response = ListOffsetsResponse {
            topics: topics.collect(),
            ..Default::default()
        };
        self.reply(token, Ok(Response::ListOffsets(response)));
        request
    }

    /// Takes the waiting fetch and tells what it asks for.
    pub(crate) fn fetch(&mut self) -> (u64, Vec<(Str, i32, i64)>) {
        let (token, request) = self.take(|r| {
            if let Request::Fetch(f) = r {
                Some(f.clone())
            } else {
                None
            }
        });
        let asked = request.topics.iter().flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|p| (topic.topic.clone(), p.partition, p.fetch_offset))
        });
        (token, asked.collect())
    }

    /// Answers a fetch for one partition.
    pub(crate) fn fetches(&mut self, token: u64, topic: &str, data: PartitionData) -> &mut Self {
        let topic = FetchableTopicResponse {
            topic: topic.into(),
            partitions: vec![data],
            ..Default::default()
        };
        let response = FetchResponse {
            responses: vec![topic],
            ..Default::default()
        };
        self.reply(token, Ok(Response::Fetch(response)))
    }

    /// Answers a commit with one error for all; gives what was to be committed.
    pub(crate) fn commits(&mut self, error_code: ErrorCode) -> Vec<(Str, i32, i64)> {
        let (token, request) = self.take(|r| {
            if let Request::OffsetCommit(c) = r {
                Some(c.clone())
            } else {
                None
            }
        });
        let mut offsets = Vec::new();
        let topics = request.topics.into_iter().map(|topic| {
            offsets.extend(
                topic
                    .partitions
                    .iter()
                    .map(|p| (topic.name.clone(), p.partition_index, p.committed_offset)),
            );
            let partitions = topic
                .partitions
                .iter()
                .map(|p| OffsetCommitResponsePartition {
                    partition_index: p.partition_index,
                    error_code,
                });
            let partitions = partitions.collect();
            OffsetCommitResponseTopic {
                name: topic.name,
                partitions,
                ..Default::default()
            }
        });
        let response = OffsetCommitResponse {
            topics: topics.collect(),
            ..Default::default()
        };
        self.reply(token, Ok(Response::OffsetCommit(response)));
        offsets
    }

    /// Answers the heartbeat that is due after its interval.
    pub(crate) fn beats(&mut self, error_code: ErrorCode) -> &mut Self {
        let interval = self.consumer.config.heartbeat_interval_ms;
        self.run(i64::from(interval));
        let (token, _) = self.take(|r| {
            if let Request::Heartbeat(_) = r {
                Some(())
            } else {
                None
            }
        });
        self.reply(
            token,
            Ok(Response::Heartbeat(HeartbeatResponse {
                error_code,
                ..Default::default()
            })),
        )
    }

    /// The next rebalance event, in short.
    pub(crate) fn rebalance(&mut self) -> Option<(RebalanceKind, usize)> {
        while let Some(event) = self.consumer.poll_event() {
            if let ConsumerEvent::Rebalance { kind, partitions } = event {
                return Some((kind, partitions.len()));
            }
        }
        None
    }

    /// What is polled next, in short: `a0: 5 6` for records, `a0 eof 7`, `error -147`.
    pub(crate) fn polled(&mut self) -> String {
        let polled = self.consumer.poll_fetched(self.now);
        self.run(0);
        match polled {
            None => String::new(),
            Some(Consumed::Eof {
                partition: (topic, p),
                offset,
            }) => format!("{topic}{p} eof {offset}"),
            Some(Consumed::Error { error, .. }) => format!("error {}", error.code.0),
            Some(Consumed::Records(mut fetched)) => {
                let mut text = format!(
                    "{}{}:",
                    fetched.partition().topic(),
                    fetched.partition().partition()
                );
                while let Some(record) = fetched.next_record() {
                    text += &format!(" {}", record.unwrap().offset);
                }
                text
            }
        }
    }
}

/// A partition without an offset.
pub(crate) fn tp(topic: &str, partition: i32) -> PartitionOffset {
    PartitionOffset::new(topic, partition, super::offset::INVALID)
}

/// A partition's fetch answer with this many records from `base` on, and an end.
pub(crate) fn data(partition_index: i32, base: i64, count: usize, end: i64) -> PartitionData {
    let records = if count == 0 {
        Records::new()
    } else {
        batch(base, count).into()
    };
    PartitionData {
        partition_index,
        high_watermark: end,
        last_stable_offset: end,
        log_start_offset: 0,
        records,
        ..Default::default()
    }
}

/// A batch of one-byte values.
pub(crate) fn batch(base: i64, count: usize) -> Bytes {
    let mut builder = BatchBuilder::new(4096);
    for _ in 0..count {
        builder.append(1_000, None, Some(b"v"), &[]).unwrap();
    }
    builder
        .finish(&FinishOptions {
            base_offset: base,
            ..Default::default()
        })
        .unwrap()
        .encoded
}
