//! Members of a share group, and who produces what they share.

use std::collections::BTreeSet;

use ottla_protocol::{
    ErrorCode, Records, Uuid,
    messages::{
        produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData},
        share_acknowledge::{
            AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch, ShareAcknowledgeRequest,
        },
        share_fetch::{
            AcknowledgementBatch as FetchedBatch, FetchPartition, FetchTopic, ShareFetchRequest,
            ShareFetchResponse,
        },
        share_group_heartbeat::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse},
    },
};
use ottla_record::{BatchBuilder, FinishOptions};

use super::{
    players::{After, Effect, Next, SHARE_GROUP, SHARE_TOPIC, Scene, ask, passes},
    *,
};
use crate::sharing::{Place, RENEW};

/// How long a member goes on without a heartbeat.
const INTERVAL_US: u64 = 300_000;
const FINAL_EPOCH: i32 = -1;

/// Runs of offsets of a partition, each with what is said of its records.
type Runs = BTreeMap<i32, Vec<(i64, i64, Vec<i8>)>>;

/// A member.
pub(super) struct Sharer {
    id: Str,
    /// 0 until it is in.
    epoch: i32,
    topic: Uuid,
    assigned: BTreeSet<i32>,
    /// The epoch of its session's next request.
    session: i32,
    /// What it was handed and has not said the last word on.
    held: BTreeSet<Place>,
    beat_us: u64,
    leaves: bool,
    /// Looks, after everything, at what is left.
    last: bool,
}

impl Sharer {
    pub fn new(id: Str, last: bool) -> Self {
        Self {
            id,
            epoch: 0,
            topic: Uuid::ZERO,
            assigned: BTreeSet::new(),
            session: 0,
            held: BTreeSet::new(),
            beat_us: 0,
            leaves: false,
            last,
        }
    }

    /// The session went with it. Some forget what they had, some will still say what became of it.
    pub fn loses_connection(&mut self, random: &mut Random) {
        self.session = 0;
        if random.chance(500) {
            self.held.clear();
        }
    }

    pub fn next(&mut self, scene: &mut Scene<'_>) -> Next {
        if self.epoch == 0 {
            return self.beat(scene, 0);
        }
        if scene.mishap(12) {
            return None;
        }
        self.leaves |= scene.mishap(12);
        if self.leaves && self.session > 0 {
            let said = self.decide(scene, false);
            return self.acknowledge(scene, said, FINAL_EPOCH, false);
        }
        if self.leaves {
            return self.beat(scene, FINAL_EPOCH);
        }
        if scene.now_us > self.beat_us + INTERVAL_US || self.assigned.is_empty() {
            return self.beat(scene, self.epoch);
        }
        if self.session > 0 && !self.held.is_empty() && scene.random.chance(700) {
            let renews = scene.mishap(150);
            let said = self.decide(scene, renews);
            if !said.is_empty() {
                return match !renews && scene.random.chance(400) {
                    true => self.fetch(scene, said),
                    false => self.acknowledge(scene, said, self.session, renews),
                };
            }
        }
        self.fetch(scene, Runs::new())
    }

    /// What it says of some of what it has.
    fn decide(&mut self, scene: &mut Scene<'_>, renews: bool) -> Runs {
        let mut runs = Runs::new();
        let held: Vec<Place> = self.held.iter().copied().collect();
        for (partition, offset) in held {
            let kind = match scene.random.below(100) {
                _ if !scene.chaos => 1,
                0..55 => 1,
                55..75 => 2,
                75..82 => 3,
                82..92 if renews => RENEW,
                // Its lock ends, or it speaks later.
                92..95 => {
                    self.held.remove(&(partition, offset));
                    continue;
                }
                _ => continue,
            };
            if kind != RENEW {
                self.held.remove(&(partition, offset));
            }
            let of = runs.entry(partition).or_default();
            match of.last_mut() {
                Some((_, last, kinds)) if *last + 1 == offset => {
                    *last = offset;
                    kinds.push(kind);
                }
                _ => of.push((offset, offset, vec![kind])),
            }
        }
        for (_, _, kinds) in runs.values_mut().flatten() {
            // One for all.
            if kinds.iter().all(|it| *it == kinds[0]) && scene.random.chance(700) {
                kinds.truncate(1);
            }
        }
        runs
    }

    fn beat(&mut self, scene: &mut Scene<'_>, epoch: i32) -> Next {
        self.beat_us = scene.now_us;
        let joins = epoch == 0;
        let request = ShareGroupHeartbeatRequest {
            group_id: SHARE_GROUP,
            member_id: self.id.clone(),
            member_epoch: epoch,
            subscribed_topic_names: joins.then(|| vec![SHARE_TOPIC]),
            ..Default::default()
        };
        ask(1, Request::ShareGroupHeartbeat(request))
    }

    fn acknowledge(&self, scene: &mut Scene<'_>, said: Runs, epoch: i32, renews: bool) -> Next {
        let batch = |(first_offset, last_offset, acknowledge_types)| AcknowledgementBatch {
            first_offset,
            last_offset,
            acknowledge_types,
        };
        let partitions = said.into_iter().map(|(partition_index, runs)| {
            let acknowledgement_batches = runs.into_iter().map(batch).collect();
            AcknowledgePartition {
                partition_index,
                acknowledgement_batches,
            }
        });
        let partitions: Vec<AcknowledgePartition> = partitions.collect();
        let topic = AcknowledgeTopic {
            topic_id: self.topic,
            partitions,
        };
        let request = ShareAcknowledgeRequest {
            group_id: Some(SHARE_GROUP),
            member_id: Some(self.id.clone()),
            share_session_epoch: epoch,
            is_renew_ack: renews,
            topics: (!topic.partitions.is_empty())
                .then_some(topic)
                .into_iter()
                .collect(),
        };
        let version = if renews { 2 } else { scene.any(1, 2) };
        ask(version, Request::ShareAcknowledge(request))
    }

    fn fetch(&mut self, scene: &mut Scene<'_>, mut said: Runs) -> Next {
        let begins = self.session == 0;
        let all = match begins {
            true => self.assigned.clone(),
            false => BTreeSet::new(),
        };
        let spoken_of: BTreeSet<i32> = said.keys().copied().chain(all).collect();
        let batch = |(first_offset, last_offset, acknowledge_types)| FetchedBatch {
            first_offset,
            last_offset,
            acknowledge_types,
        };
        let partitions = spoken_of.into_iter().map(|partition_index| {
            let runs = said.remove(&partition_index).unwrap_or_default();
            FetchPartition {
                partition_index,
                acknowledgement_batches: runs.into_iter().map(batch).collect(),
            }
        });
        let partitions: Vec<FetchPartition> = partitions.collect();
        let topic = FetchTopic {
            topic_id: self.topic,
            partitions,
        };
        let version = scene.any(1, 2);
        let request = ShareFetchRequest {
            group_id: Some(SHARE_GROUP),
            member_id: Some(self.id.clone()),
            share_session_epoch: self.session,
            max_wait_ms: if self.last {
                0
            } else {
                [0, 100, 250][scene.random.below(3) as usize]
            },
            min_bytes: 1,
            max_bytes: [400, 1 << 20][scene.random.below(2) as usize],
            max_records: scene.any(1, 12).into(),
            batch_size: scene.any(1, 6).into(),
            share_acquire_mode: if version == 2 {
                scene.any(0, 1) as i8
            } else {
                0
            },
            topics: (!topic.partitions.is_empty())
                .then_some(topic)
                .into_iter()
                .collect(),
            ..Default::default()
        };
        ask(version, Request::ShareFetch(request))
    }

    pub fn hears(&mut self, scene: &mut Scene<'_>, response: &Response) -> After {
        match response {
            Response::ShareGroupHeartbeat(answer) => return self.hears_beat(scene, answer),
            Response::ShareFetch(answer) => return self.hears_fetch(scene, answer),
            Response::ShareAcknowledge(answer) => {
                if self.leaves {
                    self.session = 0;
                } else {
                    self.hears_session(scene, answer.error_code, "ShareAcknowledge");
                }
                let partitions = answer.responses.iter().flat_map(|it| &it.partitions);
                for it in partitions {
                    self.hears_acknowledged(scene, it.error_code);
                }
            }
            _ => {}
        }
        self.pause(scene)
    }

    fn pause(&self, scene: &mut Scene<'_>) -> After {
        After::Pause(match scene.mishap(20) {
            // Longer than a lock.
            true => scene.random.between(300_000, 1_500_000),
            false => scene.random.between(10_000, 100_000),
        })
    }

    fn hears_beat(&mut self, scene: &mut Scene<'_>, answer: &ShareGroupHeartbeatResponse) -> After {
        match answer.error_code {
            _ if self.leaves => return After::Over,
            ErrorCode::NONE => {
                self.epoch = answer.member_epoch;
                if let Some(assignment) = &answer.assignment {
                    let topics = &assignment.topic_partitions;
                    if let Some(topic) = topics.first() {
                        self.topic = topic.topic_id;
                    }
                    let told = topics.iter().flat_map(|it| &it.partitions).copied();
                    let told: BTreeSet<i32> = told.collect();
                    if told != self.assigned {
                        self.assigned = told;
                        self.session = 0;
                    }
                }
            }
            ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::FENCED_MEMBER_EPOCH
            | ErrorCode::GROUP_ID_NOT_FOUND => {
                self.epoch = 0;
                self.assigned.clear();
            }
            error if passes(error) => {}
            error => {
                let what = format!("{}, a sharer, got {error} to ShareGroupHeartbeat", self.id);
                scene.effects.push(Effect::Wrong(what));
            }
        }
        self.pause(scene)
    }

    /// Whether the session goes on.
    fn hears_session(&mut self, scene: &mut Scene<'_>, error: ErrorCode, what: &str) -> bool {
        match error {
            ErrorCode::NONE => {
                self.session += 1;
                return true;
            }
            ErrorCode::SHARE_SESSION_NOT_FOUND | ErrorCode::INVALID_SHARE_SESSION_EPOCH => {}
            error if passes(error) => {}
            error => {
                let what = format!("{}, a sharer, got {error} to {what}", self.id);
                scene.effects.push(Effect::Wrong(what));
            }
        }
        self.session = 0;
        false
    }

    fn hears_acknowledged(&mut self, scene: &mut Scene<'_>, error: ErrorCode) {
        // Of what it does not have any more, and of what nobody was given yet since the broker's start.
        let known = [
            ErrorCode::NONE,
            ErrorCode::INVALID_RECORD_STATE,
            ErrorCode::INVALID_REQUEST,
        ];
        if !known.contains(&error) && !passes(error) {
            let what = format!("{}, a sharer, got {error} to what it said", self.id);
            scene.effects.push(Effect::Wrong(what));
        }
    }

    fn hears_fetch(&mut self, scene: &mut Scene<'_>, answer: &ShareFetchResponse) -> After {
        let went_on = self.session > 0;
        if !self.hears_session(scene, answer.error_code, "ShareFetch") {
            return self.pause(scene);
        }
        let mut is_empty = true;
        for data in answer.responses.iter().flat_map(|it| &it.partitions) {
            self.hears_acknowledged(scene, data.acknowledge_error_code);
            if data.error_code != ErrorCode::NONE {
                is_empty = false;
                if !passes(data.error_code) {
                    let what = format!("{}, a sharer, can't fetch: {}", self.id, data.error_code);
                    scene.effects.push(Effect::Wrong(what));
                }
            }
            for run in &data.acquired_records {
                is_empty = false;
                let offsets = run.first_offset..=run.last_offset;
                let places = offsets.map(|offset| (data.partition_index, offset));
                self.held.extend(places);
            }
        }
        match self.last && went_on && is_empty && self.held.is_empty() {
            true => After::Over,
            false => self.pause(scene),
        }
    }
}

/// A plain producer that repeats what it gets no answer to.
pub(super) struct Supplier {
    left: u64,
    made: u64,
    sends: Option<(i16, i32, Vec<String>)>,
}

impl Supplier {
    pub fn new(random: &mut Random) -> Self {
        Self {
            left: random.between(8, 25),
            made: 0,
            sends: None,
        }
    }

    pub fn next(&mut self, scene: &mut Scene<'_>, partitions: i32) -> Next {
        if self.sends.is_none() {
            self.left = self.left.checked_sub(1)?;
            let mut values = Vec::new();
            for _ in 0..scene.random.between(1, 6) {
                self.made += 1;
                let pad = "x".repeat(self.made as usize * 31 % 60);
                values.push(format!("{}:{pad}", self.made));
            }
            let partition = scene.random.below(partitions as u64) as i32;
            self.sends = Some((scene.any(3, 12), partition, values));
        }
        let (version, partition, values) = self.sends.as_ref()?;
        let mut data = PartitionProduceData::default();
        (data.index, data.records) = (*partition, batch(scene.now_us, values));
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 1000,
            topic_data: vec![TopicProduceData {
                name: SHARE_TOPIC,
                partition_data: vec![data],
                ..Default::default()
            }],
            ..Default::default()
        };
        ask(*version, Request::Produce(request))
    }

    pub fn hears(&mut self, scene: &mut Scene<'_>, answer: &ProduceResponse) -> After {
        let partitions = answer
            .responses
            .iter()
            .flat_map(|it| &it.partition_responses);
        for it in partitions {
            if it.error_code == ErrorCode::NONE
                && let Some((_, partition, values)) = self.sends.take()
            {
                let effect = Effect::Produced(partition, it.base_offset, values);
                scene.effects.push(effect);
            } else if it.error_code != ErrorCode::NONE && !passes(it.error_code) {
                let what = format!("the sharers' supplier got {}", it.error_code);
                scene.effects.push(Effect::Wrong(what));
            }
        }
        After::Pause(scene.random.between(10_000, 150_000))
    }
}

fn batch(now_us: u64, values: &[String]) -> Records {
    let mut builder = BatchBuilder::new(256);
    for value in values {
        // Each key is there once, so that compaction leaves all of them.
        let timestamp = START_MS + (now_us / 1000) as i64;
        let key = value.split(':').next().map(str::as_bytes);
        let _ = builder.append(timestamp, key, Some(value.as_bytes()), &[]);
    }
    let batch = builder.finish(&FinishOptions::default());
    batch.map(|it| it.encoded.into()).unwrap_or_default()
}
