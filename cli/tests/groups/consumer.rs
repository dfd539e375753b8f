//! A member of a consumer group of the newer protocol (KIP-848).

use crate::{
    member::{HEARTBEAT, Heard, Link, Member, TOPIC},
    wire::Connection,
};
use ottla_protocol::{
    ErrorCode, Request, Response, Uuid,
    messages::consumer_group_heartbeat::{
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, RequestTopicPartitions,
    },
};
use std::{collections::BTreeSet, net::SocketAddr, time::Instant};

const BEAT: i16 = 1;

pub struct ConsumerMember {
    group: String,
    topic: Uuid,
    instance: Option<String>,
    id: String,
    epoch: i32,
    owned: BTreeSet<i32>,
    /// It is to say all that it is, with what it owns: at first, and when an answer was lost.
    says_all: bool,
    /// It has given something up, and has not said so yet.
    has_news: bool,
    link: Link,
    beats_at: Instant,
    fenced: u32,
    taken: usize,
    beats: u64,
}

impl ConsumerMember {
    /// The id is its own, as from version 1 on.
    pub fn new(group: &str, topic: Uuid, id: &str, instance: Option<&str>) -> Self {
        Self {
            group: group.into(),
            topic,
            instance: instance.map(Into::into),
            id: id.into(),
            epoch: 0,
            owned: BTreeSet::new(),
            says_all: true,
            has_news: false,
            link: Link::default(),
            beats_at: Instant::now(),
            fenced: 0,
            taken: 0,
            beats: 0,
        }
    }

    fn request(&self, epoch: i32) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: self.group.as_str().into(),
            member_id: self.id.as_str().into(),
            member_epoch: epoch,
            instance_id: self.instance.as_deref().map(Into::into),
            rebalance_timeout_ms: -1,
            ..Default::default()
        }
    }

    fn send(&mut self, now: Instant) {
        if !self.says_all && !self.has_news && now < self.beats_at {
            return;
        }
        let mut request = self.request(self.epoch);
        if self.says_all {
            request.rebalance_timeout_ms = 120_000;
            request.subscribed_topic_names = Some(vec![TOPIC.into()]);
            request.server_assignor = Some("uniform".into());
        }
        if self.says_all || self.has_news {
            let owned = (!self.owned.is_empty()).then(|| RequestTopicPartitions {
                topic_id: self.topic,
                partitions: self.owned.iter().copied().collect(),
            });
            request.topic_partitions = Some(owned.into_iter().collect());
        }
        self.says_all = false;
        self.has_news = false;
        self.beats_at = now + HEARTBEAT;
        self.link
            .send(BEAT, &Request::ConsumerGroupHeartbeat(request));
    }

    fn beaten(&mut self, answer: ConsumerGroupHeartbeatResponse) {
        match answer.error_code {
            ErrorCode::NONE => {
                assert!(answer.member_epoch >= self.epoch, "{} goes back", self.id);
                self.epoch = answer.member_epoch;
                self.beats += 1;
                let Some(assignment) = answer.assignment else {
                    return;
                };
                let assigned: BTreeSet<i32> = assignment
                    .topic_partitions
                    .into_iter()
                    .inspect(|topic| assert_eq!(topic.topic_id, self.topic))
                    .flat_map(|topic| topic.partitions)
                    .collect();
                self.taken += self.owned.difference(&assigned).count();
                self.has_news = self.owned != assigned;
                self.owned = assigned;
            }
            ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID => {
                self.fenced += 1;
                self.taken += self.owned.len();
                self.owned.clear();
                self.epoch = 0;
                self.says_all = true;
            }
            // The place is another's until it has said that it goes, or its session is over.
            ErrorCode::UNRELEASED_INSTANCE_ID => self.says_all = true,
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {
                self.says_all = true;
            }
            other => panic!("{}: ConsumerGroupHeartbeat: {other:?}", self.id),
        }
    }
}

impl Member for ConsumerMember {
    fn turn(&mut self, address: SocketAddr, now: Instant) {
        match self.link.hear(address) {
            Heard::Free => self.send(now),
            Heard::Waiting => (),
            Heard::Lost => self.says_all = true,
            Heard::Answer(Response::ConsumerGroupHeartbeat(answer)) => {
                self.beaten(answer);
                self.send(now);
            }
            Heard::Answer(other) => panic!("{other:?}"),
        }
    }

    fn owned(&self) -> &BTreeSet<i32> {
        &self.owned
    }

    fn settled(&self) -> Option<i32> {
        (self.epoch > 0 && !self.says_all && !self.has_news).then_some(self.epoch)
    }

    fn beats(&self) -> u64 {
        self.beats
    }

    fn fenced(&self) -> u32 {
        self.fenced
    }

    fn taken(&self) -> usize {
        self.taken
    }

    fn identity(&self) -> (&str, i32) {
        (&self.id, self.epoch)
    }

    fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    fn leave(&mut self, address: SocketAddr) {
        self.link.cut();
        // A static member says that it goes for a while.
        let epoch = if self.instance.is_some() { -2 } else { -1 };
        let request = Request::ConsumerGroupHeartbeat(self.request(epoch));
        let mut connection = Connection::to(address).unwrap();
        let Response::ConsumerGroupHeartbeat(answer) = connection.ask(BEAT, &request).unwrap()
        else {
            panic!()
        };
        assert_eq!(answer.error_code, ErrorCode::NONE, "{}", self.id);
        self.die();
    }

    fn die(&mut self) {
        self.link.cut();
        self.owned.clear();
    }
}
