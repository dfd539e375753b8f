//! A coordinator with a log of its own, for the tests of the flows.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec,
    vec::Vec,
};
use bytes::Bytes;
use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::{
        heartbeat::HeartbeatRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse},
        leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity},
        offset_commit::{
            OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
        },
        sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse},
    },
};
use ottla_record::Now;

use super::{
    AppendToken, ConsumerGroupConfig, CoordinatorRecord, GroupConfig, GroupCoordinator,
    GroupOutput, group::GroupState,
};
use crate::context::{ConnId, ReplyTo, RequestContext};

/// The version that the tests speak where it does not matter.
pub(super) const JOIN: i16 = 9;

/// Wall clock at monotonic 0, milliseconds.
const EPOCH_MS: i64 = 1_700_000_000_000;

pub(super) struct Harness {
    pub coordinator: GroupCoordinator,
    pub now: Now,
    /// Committed records in the order of their commit, which per partition is that of the log.
    pub log: Vec<(i32, CoordinatorRecord)>,
    /// Set: appends wait in `appends` for the test to decide.
    pub hold: bool,
    pub appends: VecDeque<(i32, Vec<CoordinatorRecord>, AppendToken)>,
    /// Producer ids of the appends that are part of a transaction, and of such records in the log.
    transactional: BTreeMap<u64, i64>,
    transactional_at: BTreeMap<usize, i64>,
    /// Markers: how many records lie before it, its partition, whose it is, and whether it commits.
    markers: Vec<(usize, i32, i64, bool)>,
    /// Requests that have not been answered, by correlation id.
    pub open: BTreeMap<i32, ()>,
    /// The only topic that exists at a restart, if set.
    pub existing: Option<&'static str>,
    /// The topics that the coordinator was told of: id and partitions.
    pub topics: BTreeMap<Str, (Uuid, i32)>,
    pub topic_ids: u128,
    answers: BTreeMap<i32, Response>,
    next_id: i32,
    seed: u64,
}

pub(super) fn config() -> GroupConfig {
    GroupConfig {
        partitions: 4,
        initial_rebalance_delay_ms: 0,
        min_session_timeout_ms: 6_000,
        max_session_timeout_ms: 1_800_000,
        max_size: i32::MAX,
        offset_metadata_max_bytes: 10,
        offsets_retention_ms: 7 * 24 * 3_600_000,
        offsets_retention_check_interval_ms: 600_000,
        consumer: ConsumerGroupConfig::default(),
    }
}

/// The metadata of a consumer that subscribes to `topic`.
pub(super) fn subscription(topic: &str) -> Bytes {
    let mut metadata = vec![0, 1, 0, 0, 0, 1, 0, topic.len() as u8];
    metadata.extend(topic.as_bytes());
    metadata.extend([0xff; 4]);
    metadata.into()
}

/// Session 10 s, rebalance 60 s, protocol `range`, topic `t`.
pub(super) fn join_request(group: &str, member: &Str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: Str::from(group),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        member_id: member.clone(),
        protocol_type: Str::from("consumer"),
        protocols: vec![JoinGroupRequestProtocol {
            name: Str::from("range"),
            metadata: subscription("t"),
        }],
        ..JoinGroupRequest::default()
    }
}

/// One protocol of each name.
pub(super) fn protocols(names: &[&str]) -> Vec<JoinGroupRequestProtocol> {
    names
        .iter()
        .map(|n| JoinGroupRequestProtocol {
            name: Str::from(*n),
            metadata: subscription(n),
        })
        .collect()
}

impl Harness {
    pub fn new(config: GroupConfig) -> Self {
        Self {
            coordinator: GroupCoordinator::new(config, 1),
            now: Now::new(0, EPOCH_MS),
            log: Vec::new(),
            hold: false,
            appends: VecDeque::new(),
            transactional: BTreeMap::new(),
            transactional_at: BTreeMap::new(),
            markers: Vec::new(),
            open: BTreeMap::new(),
            existing: None,
            topics: BTreeMap::new(),
            topic_ids: 0,
            answers: BTreeMap::new(),
            next_id: 0,
            seed: 1,
        }
    }

    /// Makes a request; its answer is found under the number that comes back.
    pub fn request(
        &mut self,
        version: i16,
        ask: impl FnOnce(&mut GroupCoordinator, Now, &RequestContext),
    ) -> i32 {
        self.next_id += 1;
        let reply = ReplyTo {
            conn: ConnId(1),
            correlation_id: self.next_id,
            api_version: version,
        };
        let context = RequestContext {
            reply,
            api_version: version,
            client_id: Some(Str::from("app")),
            client_host: Str::from("/127.0.0.1"),
            endpoint: crate::Endpoint {
                host: Str::from("localhost"),
                port: 9092,
            },
        };
        self.open.insert(self.next_id, ());
        ask(&mut self.coordinator, self.now, &context);
        self.drain();
        self.next_id
    }

    pub fn drain(&mut self) {
        while let Some(output) = self.coordinator.poll_output() {
            match output {
                GroupOutput::Respond { to, response } => {
                    let open = self.open.remove(&to.correlation_id);
                    assert!(open.is_some(), "answered twice: {response:?}");
                    self.answers.insert(to.correlation_id, response);
                }
                GroupOutput::Append {
                    partition,
                    records,
                    producer,
                    token,
                } => {
                    assert!(!records.is_empty());
                    if let Some((producer_id, _)) = producer {
                        self.transactional.insert(token.0, producer_id);
                    }
                    self.appends.push_back((partition, records, token));
                    if !self.hold {
                        self.finish_append(Ok(()));
                    }
                }
            }
        }
    }

    /// Ends the oldest append.
    pub fn finish_append(&mut self, result: Result<(), ErrorCode>) {
        let Some((partition, records, token)) = self.appends.pop_front() else {
            return;
        };
        if result.is_ok() {
            for record in records {
                if let Some(producer_id) = self.transactional.get(&token.0) {
                    self.transactional_at.insert(self.log.len(), *producer_id);
                }
                self.log.push((partition, record));
            }
        }
        self.coordinator.handle_appended(self.now, token, result);
        self.drain();
    }

    pub fn finish_appends(&mut self) {
        while !self.appends.is_empty() {
            self.finish_append(Ok(()));
        }
    }

    /// Lets time pass, doing what is due when it is due.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now.mono_us + ms * 1000;
        while let Some(at) = self.coordinator.poll_timeout().filter(|at| *at <= end) {
            self.set_time(at.max(self.now.mono_us));
            self.coordinator.handle_timeout(self.now);
            self.drain();
            let next = self.coordinator.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now.mono_us),
                "the timer does not move"
            );
        }
        self.set_time(end);
    }

    fn set_time(&mut self, mono_us: u64) {
        self.now = Now::new(mono_us, EPOCH_MS + (mono_us / 1000) as i64);
    }

    /// A new coordinator reads what was committed. Open requests are lost with their connections.
    pub fn restart(&mut self) {
        self.seed += 1;
        self.coordinator = GroupCoordinator::new(self.coordinator.out.config.clone(), self.seed);
        self.appends.clear();
        self.open.clear();
        self.answers.clear();
        for i in 0..=self.log.len() {
            for (_, partition, producer_id, committed) in
                self.markers.iter().filter(|(at, ..)| *at == i)
            {
                self.coordinator
                    .complete_transaction(*partition, *producer_id, *committed);
            }
            let Some((_, record)) = self.log.get(i) else {
                continue;
            };
            let (key, value) = (&record.key, record.value.as_deref());
            match self.transactional_at.get(&i) {
                Some(producer_id) => {
                    self.coordinator
                        .replay_transactional(*producer_id, key, value)
                }
                None => self.coordinator.replay(key, value),
            }
        }
        for (name, (id, partitions)) in &self.topics {
            self.coordinator
                .handle_topic_changed(name, *id, *partitions);
        }
        let existing = self.existing;
        self.coordinator
            .replay_finished(self.now, |topic| existing.is_none_or(|e| e == topic));
        self.drain();
    }

    /// Writes the marker of a transaction into the partition of a group.
    pub fn end_transaction(&mut self, group: &str, producer_id: i64, committed: bool) {
        let partition = self.coordinator.partition_of(group);
        let at = self.log.len();
        self.markers.push((at, partition, producer_id, committed));
        self.coordinator
            .complete_transaction(partition, producer_id, committed);
        self.drain();
    }

    /// The answer, if it has come.
    pub fn answer(&mut self, id: i32) -> Option<Response> {
        self.answers.remove(&id)
    }

    pub fn state(&self, group: &str) -> GroupState {
        self.coordinator
            .groups
            .get(&Str::from(group))
            .map_or(GroupState::Dead, |g| g.state())
    }

    pub fn join(&mut self, version: i16, request: JoinGroupRequest) -> i32 {
        self.request(version, |c, now, context| c.join(now, context, request))
    }

    pub fn joined(&mut self, id: i32) -> Option<JoinGroupResponse> {
        self.answer(id).map(|response| match response {
            Response::JoinGroup(r) => r,
            other => panic!("{other:?}"),
        })
    }

    /// Joins with an answer at once.
    pub fn join_now(&mut self, version: i16, request: JoinGroupRequest) -> JoinGroupResponse {
        let id = self.join(version, request);
        self.joined(id).expect("an answer at once")
    }

    /// The id that a dynamic member is given before it joins.
    pub fn member_id(&mut self, group: &str) -> Str {
        let answer = self.join_now(JOIN, join_request(group, &Str::new()));
        assert_eq!(answer.error_code, ErrorCode::MEMBER_ID_REQUIRED);
        answer.member_id
    }

    pub fn sync(
        &mut self,
        group: &str,
        generation: i32,
        member: &Str,
        assignments: &[(&Str, &'static str)],
    ) -> i32 {
        let request = SyncGroupRequest {
            group_id: Str::from(group),
            generation_id: generation,
            member_id: member.clone(),
            protocol_type: Some(Str::from("consumer")),
            protocol_name: Some(Str::from("range")),
            assignments: assignments
                .iter()
                .map(|(id, bytes)| SyncGroupRequestAssignment {
                    member_id: (*id).clone(),
                    assignment: Bytes::from_static(bytes.as_bytes()),
                })
                .collect(),
            ..SyncGroupRequest::default()
        };
        self.request(5, |c, now, context| c.sync(now, context, request))
    }

    pub fn synced(&mut self, id: i32) -> Option<SyncGroupResponse> {
        self.answer(id).map(|response| match response {
            Response::SyncGroup(r) => r,
            other => panic!("{other:?}"),
        })
    }

    pub fn heartbeat(&mut self, group: &str, generation: i32, member: &Str) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: Str::from(group),
            generation_id: generation,
            member_id: member.clone(),
            ..HeartbeatRequest::default()
        };
        self.coordinator.heartbeat(self.now, &request)
    }

    pub fn leave(&mut self, group: &str, members: &[(&Str, Option<&str>)]) -> i32 {
        let request = LeaveGroupRequest {
            group_id: Str::from(group),
            members: members
                .iter()
                .map(|(id, instance)| MemberIdentity {
                    member_id: (*id).clone(),
                    group_instance_id: instance.map(Str::from),
                    ..MemberIdentity::default()
                })
                .collect(),
            ..LeaveGroupRequest::default()
        };
        self.request(5, |c, now, context| c.leave(now, context, request))
    }

    pub fn left(&mut self, id: i32) -> Option<LeaveGroupResponse> {
        self.answer(id).map(|response| match response {
            Response::LeaveGroup(r) => r,
            other => panic!("{other:?}"),
        })
    }

    /// Commits one offset; topics other than `gone` exist.
    pub fn commit(
        &mut self,
        group: &str,
        generation: i32,
        member: &Str,
        topic: &str,
        offset: i64,
        metadata: &str,
    ) -> i32 {
        let request = OffsetCommitRequest {
            group_id: Str::from(group),
            generation_id_or_member_epoch: generation,
            member_id: member.clone(),
            topics: vec![OffsetCommitRequestTopic {
                name: Str::from(topic),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: offset,
                    committed_metadata: Some(Str::from(metadata)),
                    ..OffsetCommitRequestPartition::default()
                }],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        self.request(9, |c, now, context| {
            c.commit(now, context, &request, |topic, _| {
                if topic.name == "gone" {
                    Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
                } else {
                    Ok(topic.name.clone())
                }
            });
        })
    }

    /// The error of the one partition of a commit.
    pub fn committed(&mut self, id: i32) -> Option<ErrorCode> {
        self.answer(id).map(|response| match response {
            Response::OffsetCommit(r) => r.topics[0].partitions[0].error_code,
            other => panic!("{other:?}"),
        })
    }

    pub fn offset(&self, group: &str, topic: &str) -> Option<i64> {
        self.coordinator
            .committed(&Str::from(group), topic, 0)
            .map(|o| o.offset)
    }

    /// A stable group with as many members; the first one leads. Their ids.
    pub fn stable(&mut self, group: &str, members: usize) -> (i32, Vec<Str>) {
        let mut ids: Vec<Str> = Vec::new();
        for _ in 0..members {
            let id = self.member_id(group);
            let mut joins = vec![self.join(JOIN, join_request(group, &id))];
            for present in &ids {
                joins.push(self.join(JOIN, join_request(group, present)));
            }
            ids.push(id);
            for join in joins {
                assert_eq!(
                    self.joined(join).map(|j| j.error_code),
                    Some(ErrorCode::NONE)
                );
            }
        }
        let generation = self.generation(group);
        let given: Vec<(&Str, &'static str)> = ids.iter().map(|id| (id, "mine")).collect();
        let mut syncs = vec![self.sync(group, generation, &ids[0], &given)];
        syncs.extend(
            ids[1..]
                .iter()
                .map(|id| self.sync(group, generation, id, &[])),
        );
        self.finish_appends();
        for sync in syncs {
            assert_eq!(
                self.synced(sync).map(|s| s.assignment),
                Some(Bytes::from_static(b"mine"))
            );
        }
        (generation, ids)
    }

    pub fn generation(&self, group: &str) -> i32 {
        self.coordinator
            .groups
            .get(&Str::from(group))
            .map_or(-1, |g| g.generation)
    }
}
