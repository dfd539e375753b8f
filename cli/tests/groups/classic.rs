//! A member of a classic group, with the assignors `range` and `cooperative-sticky` as its leader.

use crate::{
    member::{HEARTBEAT, Heard, Protocol, Standing, TOPIC},
    wire::Connection,
};
use bytes::Bytes;
use ottla_protocol::{
    ErrorCode, Request, Response, VersionedMessage,
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, consumer_protocol_assignment,
        consumer_protocol_subscription,
        heartbeat::HeartbeatRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse},
        leave_group::{LeaveGroupRequest, MemberIdentity},
        sync_group::{SyncGroupRequest, SyncGroupRequestAssignment},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Instant,
};

const JOIN: i16 = 9;
const SYNC: i16 = 5;
const BEAT: i16 = 4;
const LEAVE: i16 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    Range,
    CooperativeSticky,
}

impl Assignor {
    fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has to join.
    Outside,
    Joining,
    Syncing,
    Stable,
}

pub struct Classic {
    assignor: Assignor,
    partitions: i32,
    session_ms: i32,
    state: State,
    /// What the leader will send.
    assignments: Vec<(String, BTreeSet<i32>)>,
}

/// The generation of one that is in none.
pub const NO_GENERATION: i32 = -1;

impl Classic {
    pub fn new(assignor: Assignor, partitions: i32, session_ms: i32) -> Self {
        Self {
            assignor,
            partitions,
            session_ms,
            state: State::Outside,
            assignments: Vec::new(),
        }
    }

    fn cooperative(&self) -> bool {
        self.assignor == Assignor::CooperativeSticky
    }

    /// On the way back into the group: an eager member gives up all that it has first.
    fn rejoin(&mut self, me: &mut Standing) {
        if !self.cooperative() {
            me.give_up();
        }
        self.state = State::Outside;
    }

    /// It is no member any more, or of another generation: what it had is lost.
    fn expelled(&mut self, me: &mut Standing, forgets_id: bool) {
        me.expelled(NO_GENERATION);
        self.state = State::Outside;
        if forgets_id {
            me.id.clear();
        }
    }

    fn send(&mut self, me: &mut Standing, now: Instant) {
        match self.state {
            State::Outside => {
                self.state = State::Joining;
                let subscription = ConsumerProtocolSubscription {
                    topics: vec![TOPIC.into()],
                    user_data: None,
                    owned_partitions: vec![consumer_protocol_subscription::TopicPartition {
                        topic: TOPIC.into(),
                        partitions: me.owned.iter().copied().collect(),
                    }],
                    generation_id: me.epoch,
                    rack_id: None,
                };
                let request = JoinGroupRequest {
                    group_id: me.group.as_str().into(),
                    session_timeout_ms: self.session_ms,
                    rebalance_timeout_ms: 120_000,
                    member_id: me.id.as_str().into(),
                    group_instance_id: me.instance.as_deref().map(Into::into),
                    protocol_type: "consumer".into(),
                    protocols: vec![JoinGroupRequestProtocol {
                        name: self.assignor.name().into(),
                        metadata: subscription.to_bytes(3).unwrap(),
                    }],
                    reason: None,
                };
                me.link.send(JOIN, &Request::JoinGroup(request));
            }
            State::Syncing => {
                let assignments = std::mem::take(&mut self.assignments);
                let request = SyncGroupRequest {
                    group_id: me.group.as_str().into(),
                    generation_id: me.epoch,
                    member_id: me.id.as_str().into(),
                    group_instance_id: me.instance.as_deref().map(Into::into),
                    protocol_type: Some("consumer".into()),
                    protocol_name: Some(self.assignor.name().into()),
                    assignments: assignments
                        .into_iter()
                        .map(|(member, partitions)| SyncGroupRequestAssignment {
                            member_id: member.as_str().into(),
                            assignment: encode(&partitions),
                        })
                        .collect(),
                };
                me.link.send(SYNC, &Request::SyncGroup(request));
            }
            State::Stable if now >= me.beats_at => {
                me.beats_at = now + HEARTBEAT;
                let request = HeartbeatRequest {
                    group_id: me.group.as_str().into(),
                    generation_id: me.epoch,
                    member_id: me.id.as_str().into(),
                    group_instance_id: me.instance.as_deref().map(Into::into),
                };
                me.link.send(BEAT, &Request::Heartbeat(request));
            }
            State::Joining => self.state = State::Outside,
            State::Stable => (),
        }
    }

    fn joined(&mut self, me: &mut Standing, answer: JoinGroupResponse) {
        match answer.error_code {
            ErrorCode::NONE => {
                me.id = answer.member_id.as_str().into();
                me.epoch = answer.generation_id;
                self.state = State::Syncing;
                if answer.leader == answer.member_id && !answer.skip_assignment {
                    self.assign(&answer);
                }
            }
            ErrorCode::MEMBER_ID_REQUIRED => {
                me.id = answer.member_id.as_str().into();
                self.state = State::Outside;
            }
            ErrorCode::UNKNOWN_MEMBER_ID => self.expelled(me, true),
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {
                self.state = State::Outside;
            }
            other => panic!("{}: JoinGroup: {other:?}", me.id),
        }
    }

    /// The leader's part.
    fn assign(&mut self, answer: &JoinGroupResponse) {
        let mut members = BTreeMap::new();
        for member in &answer.members {
            let read = ConsumerProtocolSubscription::from_bytes(member.metadata.clone()).unwrap();
            let owned = read.owned_partitions.into_iter().flat_map(|t| t.partitions);
            let owned: BTreeSet<i32> = owned.collect();
            members.insert(
                member.member_id.as_str().to_owned(),
                (read.generation_id, owned),
            );
        }
        self.assignments = match self.assignor {
            Assignor::Range => range(&members, self.partitions),
            Assignor::CooperativeSticky => cooperative_sticky(&members, self.partitions),
        };
    }

    fn synced(&mut self, me: &mut Standing, error: ErrorCode, assignment: &Bytes) {
        match error {
            ErrorCode::NONE => {
                let assigned = decode(assignment);
                let revoked = me.owned.difference(&assigned).count();
                me.taken += revoked;
                me.owned = assigned;
                self.state = State::Stable;
                me.beats_at = Instant::now() + HEARTBEAT;
                // What was given up goes to others in another round.
                if self.cooperative() && revoked > 0 {
                    self.rejoin(me);
                }
            }
            ErrorCode::REBALANCE_IN_PROGRESS => self.rejoin(me),
            ErrorCode::UNKNOWN_MEMBER_ID => self.expelled(me, true),
            ErrorCode::ILLEGAL_GENERATION => self.expelled(me, false),
            ErrorCode::COORDINATOR_NOT_AVAILABLE => self.rejoin(me),
            other => panic!("{}: SyncGroup: {other:?}", me.id),
        }
    }
}

impl Protocol for Classic {
    fn heard(&mut self, me: &mut Standing, heard: Heard, now: Instant) {
        match heard {
            Heard::Free => self.send(me, now),
            Heard::Waiting => (),
            Heard::Lost => {
                if self.state != State::Stable {
                    self.rejoin(me);
                }
            }
            Heard::Answer(Response::JoinGroup(answer)) => {
                self.joined(me, answer);
                self.send(me, now);
            }
            Heard::Answer(Response::SyncGroup(answer)) => {
                self.synced(me, answer.error_code, &answer.assignment);
            }
            Heard::Answer(Response::Heartbeat(answer)) => match answer.error_code {
                ErrorCode::NONE => me.beats += 1,
                ErrorCode::COORDINATOR_NOT_AVAILABLE => (),
                ErrorCode::REBALANCE_IN_PROGRESS => self.rejoin(me),
                ErrorCode::UNKNOWN_MEMBER_ID => self.expelled(me, true),
                ErrorCode::ILLEGAL_GENERATION => self.expelled(me, false),
                other => panic!("{}: Heartbeat: {other:?}", me.id),
            },
            Heard::Answer(other) => panic!("{other:?}"),
        }
    }

    fn is_settled(&self, _: &Standing) -> bool {
        self.state == State::Stable
    }

    fn say_goodbye(&self, me: &Standing, address: SocketAddr) {
        if me.instance.is_some() || me.id.is_empty() {
            return;
        }
        let request = Request::LeaveGroup(LeaveGroupRequest {
            group_id: me.group.as_str().into(),
            members: vec![MemberIdentity {
                member_id: me.id.as_str().into(),
                ..Default::default()
            }],
            ..Default::default()
        });
        let mut connection = Connection::to(address).unwrap();
        let Response::LeaveGroup(answer) = connection.ask(LEAVE, &request).unwrap() else {
            panic!()
        };
        assert_eq!(answer.error_code, ErrorCode::NONE);
        assert_eq!(answer.members[0].error_code, ErrorCode::NONE);
    }
}

fn encode(partitions: &BTreeSet<i32>) -> Bytes {
    let message = ConsumerProtocolAssignment {
        assigned_partitions: vec![consumer_protocol_assignment::TopicPartition {
            topic: TOPIC.into(),
            partitions: partitions.iter().copied().collect(),
        }],
        user_data: None,
    };
    message.to_bytes(3).unwrap()
}

fn decode(bytes: &Bytes) -> BTreeSet<i32> {
    if bytes.is_empty() {
        return BTreeSet::new();
    }
    let message = ConsumerProtocolAssignment::from_bytes(bytes.clone()).unwrap();
    let topics = message.assigned_partitions.into_iter();
    topics.flat_map(|topic| topic.partitions).collect()
}

type Owners = BTreeMap<String, (i32, BTreeSet<i32>)>;

/// A piece of the topic each, in the order of their ids.
fn range(members: &Owners, partitions: i32) -> Vec<(String, BTreeSet<i32>)> {
    let (count, all) = (members.len(), partitions as usize);
    let mut next = 0;
    let piece = |(i, member): (usize, &String)| {
        let size = all / count + usize::from(i < all % count);
        let assigned = (next..next + size).map(|p| p as i32).collect();
        next += size;
        (member.clone(), assigned)
    };
    members.keys().enumerate().map(piece).collect()
}

/// Everybody keeps what is theirs, as far as that is even; what moves is first only taken away.
fn cooperative_sticky(members: &Owners, partitions: i32) -> Vec<(String, BTreeSet<i32>)> {
    // Of two that say they have it the one of the later generation is right.
    let mut owner: BTreeMap<i32, (i32, &String)> = BTreeMap::new();
    for (member, (generation, owned)) in members {
        for partition in owned {
            let claim = owner.entry(*partition).or_insert((*generation, member));
            if claim.0 < *generation {
                *claim = (*generation, member);
            }
        }
    }
    let (count, all) = (members.len(), partitions as usize);
    let mut larger = all % count;
    let mut assigned: BTreeMap<&String, BTreeSet<i32>> = BTreeMap::new();
    // Those that have most may keep the one more.
    let mut most_first: Vec<&String> = members.keys().collect();
    most_first.sort_by_key(|member| std::cmp::Reverse(members[*member].1.len()));
    let mut quotas: BTreeMap<&String, usize> = BTreeMap::new();
    for member in most_first {
        let quota = all / count + usize::from(larger > 0);
        larger = larger.saturating_sub(1);
        quotas.insert(member, quota);
        let own = members[member].1.iter().filter(|p| owner[*p].1 == member);
        assigned.insert(member, own.take(quota).copied().collect());
    }
    let mut free = (0..partitions).filter(|p| !owner.contains_key(p));
    for (member, quota) in quotas {
        let has = assigned.get_mut(member).unwrap();
        while has.len() < quota
            && let Some(partition) = free.next()
        {
            has.insert(partition);
        }
    }
    assigned
        .into_iter()
        .map(|(member, all)| (member.clone(), all))
        .collect()
}
