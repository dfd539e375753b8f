//! A member of a consumer group of the newer protocol (KIP-848).

use crate::{
    member::{HEARTBEAT, Heard, Protocol, Standing, TOPIC},
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

pub struct Consumer {
    topic: Uuid,
    /// It is to say all that it is, with what it owns: at first, and when an answer was lost.
    says_all: bool,
    /// It has given something up, and has not said so yet.
    has_news: bool,
}

/// The epoch of one that is to become a member.
pub const JOINING: i32 = 0;

impl Consumer {
    pub fn new(topic: Uuid) -> Self {
        Self {
            topic,
            says_all: true,
            has_news: false,
        }
    }

    fn request(me: &Standing, epoch: i32) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: me.group.as_str().into(),
            member_id: me.id.as_str().into(),
            member_epoch: epoch,
            instance_id: me.instance.as_deref().map(Into::into),
            rebalance_timeout_ms: -1,
            ..Default::default()
        }
    }

    fn send(&mut self, me: &mut Standing, now: Instant) {
        if !self.says_all && !self.has_news && now < me.beats_at {
            return;
        }
        let mut request = Self::request(me, me.epoch);
        if self.says_all {
            request.rebalance_timeout_ms = 120_000;
            request.subscribed_topic_names = Some(vec![TOPIC.into()]);
            request.server_assignor = Some("uniform".into());
        }
        if self.says_all || self.has_news {
            let owned = (!me.owned.is_empty()).then(|| RequestTopicPartitions {
                topic_id: self.topic,
                partitions: me.owned.iter().copied().collect(),
            });
            request.topic_partitions = Some(owned.into_iter().collect());
        }
        self.says_all = false;
        self.has_news = false;
        me.beats_at = now + HEARTBEAT;
        me.link
            .send(BEAT, &Request::ConsumerGroupHeartbeat(request));
    }

    fn beaten(&mut self, me: &mut Standing, answer: ConsumerGroupHeartbeatResponse) {
        match answer.error_code {
            ErrorCode::NONE => {
                assert!(answer.member_epoch >= me.epoch, "{} goes back", me.id);
                me.epoch = answer.member_epoch;
                me.beats += 1;
                let Some(assignment) = answer.assignment else {
                    return;
                };
                let assigned: BTreeSet<i32> = assignment
                    .topic_partitions
                    .into_iter()
                    .inspect(|topic| assert_eq!(topic.topic_id, self.topic))
                    .flat_map(|topic| topic.partitions)
                    .collect();
                me.taken += me.owned.difference(&assigned).count();
                self.has_news = me.owned != assigned;
                me.owned = assigned;
            }
            ErrorCode::FENCED_MEMBER_EPOCH
            | ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::GROUP_ID_NOT_FOUND => {
                me.expelled(JOINING);
                self.says_all = true;
            }
            // The place is another's until it has said that it goes, or its session is over.
            ErrorCode::UNRELEASED_INSTANCE_ID => self.says_all = true,
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {
                self.says_all = true;
            }
            other => panic!("{}: ConsumerGroupHeartbeat: {other:?}", me.id),
        }
    }
}

impl Protocol for Consumer {
    fn heard(&mut self, me: &mut Standing, heard: Heard, now: Instant) {
        match heard {
            Heard::Free => self.send(me, now),
            Heard::Waiting => (),
            Heard::Lost => self.says_all = true,
            Heard::Answer(Response::ConsumerGroupHeartbeat(answer)) => {
                self.beaten(me, answer);
                self.send(me, now);
            }
            Heard::Answer(other) => panic!("{other:?}"),
        }
    }

    fn is_settled(&self, me: &Standing) -> bool {
        me.epoch > JOINING && !self.says_all && !self.has_news
    }

    fn say_goodbye(&self, me: &Standing, address: SocketAddr) {
        // A static member says that it goes for a while.
        let epoch = if me.instance.is_some() { -2 } else { -1 };
        let request = Request::ConsumerGroupHeartbeat(Self::request(me, epoch));
        let mut connection = Connection::to(address).unwrap();
        let Response::ConsumerGroupHeartbeat(answer) = connection.ask(BEAT, &request).unwrap()
        else {
            panic!()
        };
        assert_eq!(answer.error_code, ErrorCode::NONE, "{}", me.id);
    }
}
