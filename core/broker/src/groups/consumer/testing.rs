//! What the tests of consumer groups add to the coordinator's harness.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use ottla_protocol::{
    ErrorCode, Response, Str, Uuid,
    messages::{
        consumer_group_describe::DescribedGroup,
        consumer_group_heartbeat::{
            ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, RequestTopicPartitions,
        },
    },
};

use crate::groups::testing::Harness;

/// The group of all these tests.
pub(super) const GROUP: &str = "g";
/// The version that they speak where it does not matter.
const HEARTBEAT: i16 = 1;

/// What a member has, as it sees it: topic name and partition.
pub(super) type Has = BTreeSet<(Str, i32)>;

/// A request that joins: rebalance timeout 60 s, topics by name.
pub(super) fn join(member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: member.into(),
        member_epoch: 0,
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(topics.iter().map(|t| Str::from(*t)).collect()),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

/// A request of a static member that joins.
pub(super) fn join_static(
    member: &str,
    instance: &str,
    topics: &[&str],
) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        instance_id: Some(instance.into()),
        ..join(member, topics)
    }
}

/// A request that says no more than that the member is alive.
pub(super) fn alive(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: member.into(),
        member_epoch: epoch,
        ..Default::default()
    }
}

impl Harness {
    /// Makes a topic, or lets it grow.
    pub fn topic(&mut self, name: &str, partitions: i32) -> Uuid {
        let name = Str::from(name);
        let id = match self.topics.get(&name) {
            Some((id, _)) => *id,
            None => {
                self.topic_ids += 1;
                Uuid::from_random(self.topic_ids)
            }
        };
        self.topics.insert(name.clone(), (id, partitions));
        self.coordinator.handle_topic_changed(&name, id, partitions);
        id
    }

    pub fn delete_topic(&mut self, name: &str) {
        let name = Str::from(name);
        if let Some((id, _)) = self.topics.remove(&name) {
            self.coordinator.handle_topic_deleted(self.now, &name, id);
            self.drain();
        }
    }

    pub fn beat(&mut self, request: ConsumerGroupHeartbeatRequest) -> i32 {
        self.request(HEARTBEAT, |c, now, context| {
            c.consumer_heartbeat(now, context, request);
        })
    }

    pub fn beaten(&mut self, id: i32) -> Option<ConsumerGroupHeartbeatResponse> {
        self.answer(id).map(|response| match response {
            Response::ConsumerGroupHeartbeat(r) => r,
            other => panic!("{other:?}"),
        })
    }

    /// A heartbeat that is answered at once.
    pub fn beat_now(
        &mut self,
        request: ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let id = self.beat(request);
        self.beaten(id).expect("an answer at once")
    }

    /// A heartbeat that must succeed.
    pub fn beat_ok(
        &mut self,
        request: ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let answer = self.beat_now(request);
        assert_eq!(answer.error_code, ErrorCode::NONE, "{answer:?}");
        answer
    }

    pub fn beat_error(&mut self, request: ConsumerGroupHeartbeatRequest) -> ErrorCode {
        self.beat_now(request).error_code
    }

    /// The partitions of an answer by topic name; `None` if it tells of none.
    pub fn told(&self, answer: &ConsumerGroupHeartbeatResponse) -> Option<Has> {
        let names: BTreeMap<Uuid, &Str> = self.topics.iter().map(|(n, (id, _))| (*id, n)).collect();
        let assignment = answer.assignment.as_ref()?;
        Some(
            assignment
                .topic_partitions
                .iter()
                .flat_map(|t| {
                    let name = names
                        .get(&t.topic_id)
                        .map_or_else(Str::new, |n| (*n).clone());
                    t.partitions.iter().map(move |p| (name.clone(), *p))
                })
                .collect(),
        )
    }

    /// `has` as a request tells it.
    pub fn tell(&self, has: &Has) -> Option<Vec<RequestTopicPartitions>> {
        let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
        for (name, partition) in has {
            if let Some((id, _)) = self.topics.get(name) {
                topics.entry(*id).or_default().push(*partition);
            }
        }
        let topics = topics.into_iter();
        Some(
            topics
                .map(|(topic_id, partitions)| RequestTopicPartitions {
                    topic_id,
                    partitions,
                })
                .collect(),
        )
    }

    pub fn described(&self) -> DescribedGroup {
        self.coordinator.describe_consumer(&GROUP.into(), 1)
    }
}

/// A client that follows the protocol.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    pub id: Str,
    pub instance: Option<Str>,
    pub topics: Vec<&'static str>,
    pub epoch: i32,
    pub has: Has,
    /// What it was last told, if it has not given up yet what that takes away.
    revoking: Option<Has>,
    joined: bool,
    /// It does not know what became of its last request, so the next one says everything.
    full: bool,
}

impl Client {
    pub fn new(id: &str, topics: &[&'static str]) -> Self {
        Self {
            id: id.into(),
            topics: topics.to_vec(),
            ..Self::default()
        }
    }

    /// What it sends next.
    pub fn request(&mut self, h: &Harness) -> ConsumerGroupHeartbeatRequest {
        if !self.joined {
            self.has.clear();
            self.revoking = None;
            let request = join(&self.id, &self.topics);
            return ConsumerGroupHeartbeatRequest {
                instance_id: self.instance.clone(),
                ..request
            };
        }
        let topic_partitions = match self.revoking.take() {
            Some(next) => {
                self.has = next;
                h.tell(&self.has)
            }
            None if self.full => h.tell(&self.has),
            None => None,
        };
        let mut request = ConsumerGroupHeartbeatRequest {
            instance_id: self.instance.clone(),
            topic_partitions,
            ..alive(&self.id, self.epoch)
        };
        if self.full {
            let everything = join(&self.id, &self.topics);
            request.rebalance_timeout_ms = everything.rebalance_timeout_ms;
            request.subscribed_topic_names = everything.subscribed_topic_names;
        }
        // Unless the answer says otherwise.
        self.full = true;
        request
    }

    /// What it makes of the answer. Partitions that it gets, it has at once; what it must give up, with the next heartbeat.
    pub fn answered(&mut self, h: &Harness, answer: &ConsumerGroupHeartbeatResponse) {
        match answer.error_code {
            ErrorCode::NONE => {
                self.joined = true;
                self.full = false;
                self.epoch = answer.member_epoch;
                if let Some(told) = h.told(answer) {
                    self.has.extend(told.iter().cloned());
                    self.revoking = Some(told);
                }
            }
            ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::FENCED_MEMBER_EPOCH
            | ErrorCode::GROUP_ID_NOT_FOUND => self.lost(),
            // Tried again.
            _ => {}
        }
    }

    /// It gives up everything and will join anew.
    pub fn lost(&mut self) {
        self.joined = false;
        self.full = false;
        self.epoch = 0;
        self.has.clear();
        self.revoking = None;
    }

    pub fn is_in(&self) -> bool {
        self.joined
    }

    /// One heartbeat.
    pub fn go(&mut self, h: &mut Harness) -> ErrorCode {
        let request = self.request(h);
        let answer = h.beat_now(request);
        self.answered(h, &answer);
        answer.error_code
    }
}
