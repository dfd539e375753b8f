//! Members of a consumer group: one that speaks KIP-848, one that speaks the classic protocol.
//!
//! They fetch no records: a position moves by itself and is committed, which is all that the coordinator sees of a consumer.

use std::collections::BTreeSet;

use bytes::Bytes;
use ottla_protocol::{
    ErrorCode, Uuid, VersionedMessage,
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription,
        consumer_group_heartbeat::{
            ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, RequestTopicPartitions,
        },
        consumer_protocol_assignment, consumer_protocol_subscription,
        heartbeat::HeartbeatRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse},
        leave_group::{LeaveGroupRequest, MemberIdentity},
        offset_commit::{
            OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
            OffsetCommitResponse,
        },
        offset_fetch::OffsetFetchResponse,
        sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse},
    },
};

use super::{
    players::{After, Effect, GROUP, GROUP_TOPIC, Next, Scene, ask, offsets, passes},
    *,
};
use crate::membership::{REBALANCE_US, SESSION_US};

/// How long a member goes on without a heartbeat.
const INTERVAL_US: u64 = 300_000;

fn pause(scene: &mut Scene<'_>) -> After {
    After::Pause(match scene.mishap(15) {
        // Long enough to be given up.
        true => scene.random.between(SESSION_US / 2, 2 * SESSION_US),
        false => scene.random.between(20_000, 140_000),
    })
}

/// The first error of an answer, or none.
fn first_error(mut errors: impl Iterator<Item = ErrorCode>) -> ErrorCode {
    errors.find(|it| *it != ErrorCode::NONE).unwrap_or_default()
}

fn commit_error(answer: &OffsetCommitResponse) -> ErrorCode {
    let partitions = answer.topics.iter().flat_map(|it| &it.partitions);
    first_error(partitions.map(|it| it.error_code))
}

/// A commit, in a version that carries what it must.
fn commit(
    version: i16,
    (member_id, epoch): (Str, i32),
    topic_id: Uuid,
    positions: &BTreeMap<i32, i64>,
    which: &BTreeSet<i32>,
) -> Request {
    let partitions = positions.iter().filter(|(at, _)| which.contains(at));
    let partitions = partitions.map(|(partition, offset)| OffsetCommitRequestPartition {
        partition_index: *partition,
        committed_offset: *offset,
        ..Default::default()
    });
    Request::OffsetCommit(OffsetCommitRequest {
        group_id: GROUP,
        generation_id_or_member_epoch: epoch,
        member_id,
        topics: vec![OffsetCommitRequestTopic {
            name: if version < 10 {
                GROUP_TOPIC
            } else {
                Str::new()
            },
            topic_id: if version < 10 { Uuid::ZERO } else { topic_id },
            partitions: partitions.collect(),
        }],
        ..Default::default()
    })
}

/// Some go on with a part of what they have. `None` if there is nothing to commit.
fn advance(
    scene: &mut Scene<'_>,
    positions: &mut BTreeMap<i32, i64>,
    has: &BTreeSet<i32>,
) -> Option<BTreeSet<i32>> {
    let mut moved = BTreeSet::new();
    for (partition, position) in positions.iter_mut().filter(|(at, _)| has.contains(at)) {
        if scene.random.chance(600) {
            *position += scene.random.between(1, 50) as i64;
            moved.insert(*partition);
        }
    }
    (!moved.is_empty()).then_some(moved)
}

/// Positions from committed offsets; the error, if there is one.
fn read_offsets(answer: &OffsetFetchResponse, positions: &mut BTreeMap<i32, i64>) -> ErrorCode {
    let of_groups = answer.groups.iter().flat_map(|it| &it.topics);
    let of_groups = of_groups.flat_map(|it| &it.partitions);
    let of_groups = of_groups.map(|it| (it.partition_index, it.committed_offset, it.error_code));
    let plain = answer.topics.iter().flat_map(|it| &it.partitions);
    let plain = plain.map(|it| (it.partition_index, it.committed_offset, it.error_code));
    let whole = answer.groups.iter().map(|it| it.error_code);
    let mut error = first_error(whole.chain([answer.error_code]));
    for (partition, offset, of_partition) in of_groups.chain(plain) {
        if of_partition != ErrorCode::NONE {
            error = of_partition;
        } else if error == ErrorCode::NONE {
            positions.insert(partition, offset.max(0));
        }
    }
    error
}

enum Doing {
    Beat,
    Leave,
    Other,
}

/// A member of the newer protocol.
pub(super) struct Consumer {
    pub id: Str,
    pub instance: Option<Str>,
    /// 0 until it is in.
    pub epoch: i32,
    topic: Uuid,
    /// What it works on.
    pub has: BTreeSet<i32>,
    /// What it is to have, if it hasn't said yet that it does.
    told: Option<BTreeSet<i32>>,
    positions: BTreeMap<i32, i64>,
    /// It doesn't know what became of its last heartbeat, so the next one says everything.
    full: bool,
    /// It won't give up what it should.
    stubborn: bool,
    beat_us: u64,
    doing: Doing,
    assignor: Option<Str>,
}

impl Consumer {
    pub fn new(id: Str, instance: Option<Str>) -> Self {
        Self {
            id,
            instance,
            epoch: 0,
            topic: Uuid::ZERO,
            has: BTreeSet::new(),
            told: None,
            positions: BTreeMap::new(),
            full: false,
            stubborn: false,
            beat_us: 0,
            doing: Doing::Other,
            assignor: None,
        }
    }

    fn lose_everything(&mut self) {
        self.epoch = 0;
        self.has.clear();
        self.told = None;
        self.positions.clear();
        self.full = false;
        self.stubborn = false;
    }

    pub fn loses_connection(&mut self, waited: bool) {
        self.full |= waited && matches!(self.doing, Doing::Beat);
    }

    pub fn next(&mut self, scene: &mut Scene<'_>) -> Next {
        if self.epoch == 0 {
            if scene.random.chance(200) {
                self.assignor = Some(["uniform", "range"][scene.random.below(2) as usize].into());
            }
            return self.beat(scene, true, true);
        }
        if scene.mishap(12) {
            return None;
        }
        if scene.mishap(12) {
            self.doing = Doing::Leave;
            let epoch = match self.instance {
                Some(_) if scene.random.chance(700) => -2,
                _ => -1,
            };
            let request = ConsumerGroupHeartbeatRequest {
                group_id: GROUP,
                member_id: self.id.clone(),
                member_epoch: epoch,
                instance_id: self.instance.clone(),
                ..Default::default()
            };
            return ask(scene.any(0, 1), Request::ConsumerGroupHeartbeat(request));
        }
        if let Some(told) = &self.told {
            let gives_up: BTreeSet<i32> = self.has.difference(told).copied().collect();
            let stays = !gives_up.is_empty() && (self.stubborn || scene.mishap(60));
            self.stubborn = stays && scene.chaos;
            if !self.stubborn {
                // What was done is committed before it is given up.
                if !gives_up.is_empty() && scene.random.chance(350) {
                    let moved = advance(scene, &mut self.positions, &gives_up);
                    if let Some(moved) = moved {
                        return self.commit(scene, &moved);
                    }
                }
                self.has.clone_from(told);
                self.positions.retain(|at, _| self.has.contains(at));
                self.told = None;
                return self.beat(scene, false, true);
            }
        }
        if self.full || self.stubborn {
            let says = self.full;
            return self.beat(scene, says, says);
        }
        if scene.now_us > self.beat_us + INTERVAL_US {
            return self.beat(scene, false, false);
        }
        let missing = self
            .has
            .iter()
            .filter(|at| !self.positions.contains_key(at));
        let missing: Vec<i32> = missing.copied().collect();
        if !missing.is_empty() {
            self.doing = Doing::Other;
            let version = scene.any(8, 10);
            let member = Some((self.id.clone(), self.epoch));
            let request = offsets(version, self.topic, &missing, member);
            return ask(version, Request::OffsetFetch(request));
        }
        if scene.random.chance(600) {
            let moved = advance(scene, &mut self.positions, &self.has);
            if let Some(moved) = moved {
                return self.commit(scene, &moved);
            }
        }
        self.beat(scene, false, false)
    }

    fn beat(&mut self, scene: &mut Scene<'_>, full: bool, says: bool) -> Next {
        self.doing = Doing::Beat;
        self.beat_us = scene.now_us;
        let mut request = ConsumerGroupHeartbeatRequest {
            group_id: GROUP,
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance.clone(),
            ..Default::default()
        };
        if full {
            request.rebalance_timeout_ms = (REBALANCE_US / 1000) as i32;
            request.server_assignor = self.assignor.clone();
        }
        let version = scene.any(0, 1);
        if full && version == 1 && scene.random.chance(300) {
            request.subscribed_topic_names = Some(Vec::new());
            request.subscribed_topic_regex = Some("gm.*".into());
        } else if full {
            request.subscribed_topic_names = Some(vec![GROUP_TOPIC]);
            request.subscribed_topic_regex = (version == 1).then(Str::new);
        }
        if says {
            let partitions: Vec<i32> = self.has.iter().copied().collect();
            let topic = RequestTopicPartitions {
                topic_id: self.topic,
                partitions,
            };
            let owns = (!self.has.is_empty()).then_some(topic);
            request.topic_partitions = Some(owns.into_iter().collect());
        }
        ask(version, Request::ConsumerGroupHeartbeat(request))
    }

    fn commit(&mut self, scene: &mut Scene<'_>, moved: &BTreeSet<i32>) -> Next {
        self.doing = Doing::Other;
        let version = scene.any(9, 10);
        let who = (self.id.clone(), self.epoch);
        let request = commit(version, who, self.topic, &self.positions, moved);
        if scene.mishap(120) {
            scene
                .effects
                .push(Effect::Late(version, Box::new(request.clone())));
        }
        ask(version, request)
    }

    pub fn hears(&mut self, scene: &mut Scene<'_>, response: &Response) -> After {
        match response {
            Response::ConsumerGroupHeartbeat(_) if matches!(self.doing, Doing::Leave) => {
                return After::Over;
            }
            Response::ConsumerGroupHeartbeat(answer) => return self.hears_beat(scene, answer),
            Response::OffsetCommit(answer) => {
                let error = commit_error(answer);
                self.hears_error(scene, error, "OffsetCommit");
            }
            Response::OffsetFetch(answer) => {
                let error = read_offsets(answer, &mut self.positions);
                self.positions.retain(|at, _| self.has.contains(at));
                self.hears_error(scene, error, "OffsetFetch");
            }
            _ => {}
        }
        pause(scene)
    }

    fn hears_beat(
        &mut self,
        scene: &mut Scene<'_>,
        answer: &ConsumerGroupHeartbeatResponse,
    ) -> After {
        match answer.error_code {
            ErrorCode::NONE => {
                self.full = false;
                self.epoch = answer.member_epoch;
                if let Some(assignment) = &answer.assignment {
                    let topics = &assignment.topic_partitions;
                    if let Some(topic) = topics.first() {
                        self.topic = topic.topic_id;
                    }
                    let told = topics.iter().flat_map(|it| &it.partitions).copied();
                    let told: BTreeSet<i32> = told.collect();
                    self.has.extend(&told);
                    self.told = Some(told);
                }
            }
            // Another process has its place.
            ErrorCode::FENCED_INSTANCE_ID => return After::Over,
            // Its predecessor's session has yet to end; or the group is one that can't be entered now.
            ErrorCode::UNRELEASED_INSTANCE_ID => {}
            ErrorCode::GROUP_ID_NOT_FOUND if self.epoch == 0 => {}
            error => self.hears_error(scene, error, "ConsumerGroupHeartbeat"),
        }
        pause(scene)
    }

    fn hears_error(&mut self, scene: &mut Scene<'_>, error: ErrorCode, what: &str) {
        match error {
            ErrorCode::NONE => {}
            ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::FENCED_MEMBER_EPOCH
            | ErrorCode::GROUP_ID_NOT_FOUND => self.lose_everything(),
            // A heartbeat brings the newer one.
            ErrorCode::STALE_MEMBER_EPOCH => self.full = true,
            error if passes(error) => self.full = true,
            error => {
                let what = format!("{}, a member of the group, got {error} to {what}", self.id);
                scene.effects.push(Effect::Wrong(what));
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// It has to join, anew or for the first time.
    Out,
    /// It has to ask for its assignment.
    Joined,
    In,
    Leaves,
}

/// A member of the classic protocol.
pub(super) struct Classic {
    id: Str,
    generation: i32,
    stage: Stage,
    cooperative: bool,
    pub has: BTreeSet<i32>,
    positions: BTreeMap<i32, i64>,
    /// What the leader decided, by member.
    plan: Vec<(Str, BTreeSet<i32>)>,
    /// How many partitions there were when it decided as the leader; it looks whether there are more.
    planned: Option<i32>,
    /// It was asked to join again.
    rebalances: bool,
    beat_us: u64,
}

impl Classic {
    pub fn new(cooperative: bool) -> Self {
        Self {
            id: Str::new(),
            generation: -1,
            stage: Stage::Out,
            cooperative,
            has: BTreeSet::new(),
            positions: BTreeMap::new(),
            plan: Vec::new(),
            planned: None,
            rebalances: false,
            beat_us: 0,
        }
    }

    fn protocol(&self) -> Str {
        match self.cooperative {
            true => "cooperative-sticky".into(),
            false => "range".into(),
        }
    }

    fn lose_everything(&mut self) {
        self.has.clear();
        self.positions.clear();
        self.generation = -1;
        self.stage = Stage::Out;
    }

    pub fn next(&mut self, scene: &mut Scene<'_>) -> Next {
        if scene.mishap(10) {
            return None;
        }
        match self.stage {
            Stage::Out => self.join(scene),
            Stage::Joined => self.sync(scene),
            Stage::In if scene.mishap(12) => {
                self.stage = Stage::Leaves;
                let version = scene.any(0, 5);
                let mut request = LeaveGroupRequest {
                    group_id: GROUP,
                    ..Default::default()
                };
                if version < 3 {
                    request.member_id = self.id.clone();
                } else {
                    request.members = vec![MemberIdentity {
                        member_id: self.id.clone(),
                        ..Default::default()
                    }];
                }
                ask(version, Request::LeaveGroup(request))
            }
            // It had been leaving, and got no answer.
            Stage::Leaves => None,
            Stage::In => self.work(scene),
        }
    }

    fn work(&mut self, scene: &mut Scene<'_>) -> Next {
        self.rebalances |= self.planned.is_some_and(|count| count != scene.partitions);
        if self.rebalances {
            if scene.random.chance(350) {
                let moved = advance(scene, &mut self.positions, &self.has);
                if let Some(moved) = moved {
                    return self.commit(scene, &moved);
                }
            }
            self.stage = Stage::Out;
            return self.join(scene);
        }
        if scene.now_us > self.beat_us + INTERVAL_US {
            return self.beat(scene);
        }
        let missing = self
            .has
            .iter()
            .filter(|at| !self.positions.contains_key(at));
        let missing: Vec<i32> = missing.copied().collect();
        if !missing.is_empty() {
            let version = scene.any(2, 9);
            let member = Some((self.id.clone(), self.generation));
            let request = offsets(version, Uuid::ZERO, &missing, member);
            return ask(version, Request::OffsetFetch(request));
        }
        if scene.random.chance(600) {
            let moved = advance(scene, &mut self.positions, &self.has);
            if let Some(moved) = moved {
                return self.commit(scene, &moved);
            }
        }
        self.beat(scene)
    }

    fn join(&mut self, scene: &mut Scene<'_>) -> Next {
        self.rebalances = false;
        if !self.cooperative {
            self.has.clear();
            self.positions.clear();
        }
        let owned = consumer_protocol_subscription::TopicPartition {
            topic: GROUP_TOPIC,
            partitions: self.has.iter().copied().collect(),
        };
        let subscription = ConsumerProtocolSubscription {
            topics: vec![GROUP_TOPIC],
            owned_partitions: (!self.has.is_empty())
                .then_some(owned)
                .into_iter()
                .collect(),
            generation_id: self.generation,
            ..Default::default()
        };
        let metadata = subscription.to_bytes(scene.any(1, 3)).unwrap_or_default();
        let request = JoinGroupRequest {
            group_id: GROUP,
            session_timeout_ms: (SESSION_US / 1000) as i32,
            rebalance_timeout_ms: (REBALANCE_US / 1000) as i32,
            member_id: self.id.clone(),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: self.protocol(),
                metadata,
            }],
            ..Default::default()
        };
        ask(scene.any(1, 9), Request::JoinGroup(request))
    }

    fn sync(&mut self, scene: &mut Scene<'_>) -> Next {
        let assignments = self.plan.iter().map(|(member_id, partitions)| {
            let assigned = consumer_protocol_assignment::TopicPartition {
                topic: GROUP_TOPIC,
                partitions: partitions.iter().copied().collect(),
            };
            let assignment = ConsumerProtocolAssignment {
                assigned_partitions: vec![assigned],
                ..Default::default()
            };
            SyncGroupRequestAssignment {
                member_id: member_id.clone(),
                assignment: assignment.to_bytes(1).unwrap_or_default(),
            }
        });
        let request = SyncGroupRequest {
            group_id: GROUP,
            generation_id: self.generation,
            member_id: self.id.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some(self.protocol()),
            assignments: assignments.collect(),
            ..Default::default()
        };
        ask(scene.any(0, 5), Request::SyncGroup(request))
    }

    fn beat(&mut self, scene: &mut Scene<'_>) -> Next {
        self.beat_us = scene.now_us;
        let request = HeartbeatRequest {
            group_id: GROUP,
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..Default::default()
        };
        ask(scene.any(0, 4), Request::Heartbeat(request))
    }

    fn commit(&mut self, scene: &mut Scene<'_>, moved: &BTreeSet<i32>) -> Next {
        let version = scene.any(2, 9);
        let who = (self.id.clone(), self.generation);
        let request = commit(version, who, Uuid::ZERO, &self.positions, moved);
        if scene.mishap(120) {
            scene
                .effects
                .push(Effect::Late(version, Box::new(request.clone())));
        }
        ask(version, request)
    }

    pub fn hears(&mut self, scene: &mut Scene<'_>, response: &Response) -> After {
        match response {
            Response::LeaveGroup(_) => return After::Over,
            Response::JoinGroup(answer) => self.hears_join(scene, answer),
            Response::SyncGroup(answer) => self.hears_sync(scene, answer),
            Response::Heartbeat(answer) => self.hears_error(scene, answer.error_code, "Heartbeat"),
            Response::OffsetCommit(answer) => {
                self.hears_error(scene, commit_error(answer), "OffsetCommit");
            }
            Response::OffsetFetch(answer) => {
                let error = read_offsets(answer, &mut self.positions);
                self.positions.retain(|at, _| self.has.contains(at));
                self.hears_error(scene, error, "OffsetFetch");
            }
            _ => {}
        }
        // A join that is waited for must not take long.
        match self.stage {
            Stage::Joined => After::Pause(scene.random.below(20_000)),
            _ => pause(scene),
        }
    }

    fn hears_join(&mut self, scene: &mut Scene<'_>, answer: &JoinGroupResponse) {
        match answer.error_code {
            ErrorCode::NONE => {
                self.id = answer.member_id.clone();
                self.generation = answer.generation_id;
                self.stage = Stage::Joined;
                let leads = answer.leader == self.id;
                self.planned = leads.then_some(scene.partitions);
                self.plan = match leads {
                    true => self.assign(scene.partitions, answer),
                    false => Vec::new(),
                };
            }
            ErrorCode::MEMBER_ID_REQUIRED => self.id = answer.member_id.clone(),
            error => self.hears_error(scene, error, "JoinGroup"),
        }
    }

    /// Even loads; cooperatively, what somebody else still has is left out until that one has joined without it.
    fn assign(&self, partitions: i32, answer: &JoinGroupResponse) -> Vec<(Str, BTreeSet<i32>)> {
        let mut plan: Vec<(Str, BTreeSet<i32>)> = Vec::new();
        let mut owners: BTreeMap<i32, (i32, usize)> = BTreeMap::new();
        for (at, member) in answer.members.iter().enumerate() {
            plan.push((member.member_id.clone(), BTreeSet::new()));
            let metadata: Bytes = member.metadata.clone();
            let subscription = ConsumerProtocolSubscription::from_bytes(metadata);
            let Ok(subscription) = subscription else {
                continue;
            };
            let owned = subscription.owned_partitions.into_iter();
            for partition in owned.flat_map(|it| it.partitions) {
                let claim = (subscription.generation_id, at);
                let best = owners.entry(partition).or_insert(claim);
                *best = claim.max(*best);
            }
        }
        let quota = (partitions as usize).div_ceil(plan.len().max(1));
        for partition in 0..partitions {
            let to = match owners.get(&partition) {
                Some((_, owner)) if plan[*owner].1.len() < quota => Some(*owner),
                Some(_) => None,
                None => (0..plan.len()).min_by_key(|at| plan[*at].1.len()),
            };
            if let Some(to) = to {
                plan[to].1.insert(partition);
            }
        }
        plan
    }

    fn hears_sync(&mut self, scene: &mut Scene<'_>, answer: &SyncGroupResponse) {
        if answer.error_code != ErrorCode::NONE {
            return self.hears_error(scene, answer.error_code, "SyncGroup");
        }
        let assignment = ConsumerProtocolAssignment::from_bytes(answer.assignment.clone());
        let assigned = assignment.unwrap_or_default().assigned_partitions;
        let told = assigned.into_iter().flat_map(|it| it.partitions);
        let told: BTreeSet<i32> = told.collect();
        self.stage = Stage::In;
        self.beat_us = scene.now_us;
        // What is taken away is given up at once, and said with the next join.
        self.rebalances = self.has.iter().any(|at| !told.contains(at));
        self.has = told;
        self.positions.retain(|at, _| self.has.contains(at));
    }

    fn hears_error(&mut self, scene: &mut Scene<'_>, error: ErrorCode, what: &str) {
        match error {
            ErrorCode::NONE => {}
            ErrorCode::UNKNOWN_MEMBER_ID => {
                self.lose_everything();
                self.id = Str::new();
            }
            ErrorCode::ILLEGAL_GENERATION => self.lose_everything(),
            ErrorCode::REBALANCE_IN_PROGRESS if self.stage == Stage::In => self.rebalances = true,
            ErrorCode::REBALANCE_IN_PROGRESS => self.stage = Stage::Out,
            // The generation is not this one's any more, or the group has become one of the newer protocol.
            ErrorCode::STALE_MEMBER_EPOCH => self.rebalances = true,
            error if passes(error) => {}
            error => {
                let what = format!("{}, a classic member, got {error} to {what}", self.id);
                scene.effects.push(Effect::Wrong(what));
            }
        }
    }
}
