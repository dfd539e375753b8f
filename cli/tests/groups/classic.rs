//! A member of a classic group, with the assignors `range` and `cooperative-sticky` as its leader.

use crate::member::{HEARTBEAT, Heard, Link, Member, TOPIC};
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

pub struct ClassicMember {
    group: String,
    assignor: Assignor,
    partitions: i32,
    instance: Option<String>,
    session_ms: i32,
    id: String,
    generation: i32,
    state: State,
    owned: BTreeSet<i32>,
    /// What the leader will send.
    assignments: Vec<(String, BTreeSet<i32>)>,
    link: Link,
    beats_at: Instant,
    fenced: u32,
    taken: usize,
    beats: u64,
}

impl ClassicMember {
    pub fn new(group: &str, assignor: Assignor, partitions: i32, instance: Option<&str>) -> Self {
        Self {
            group: group.into(),
            assignor,
            partitions,
            instance: instance.map(Into::into),
            session_ms: 60_000,
            id: String::new(),
            generation: -1,
            state: State::Outside,
            owned: BTreeSet::new(),
            assignments: Vec::new(),
            link: Link::default(),
            beats_at: Instant::now(),
            fenced: 0,
            taken: 0,
            beats: 0,
        }
    }

    pub fn with_session_ms(mut self, session_ms: i32) -> Self {
        self.session_ms = session_ms;
        self
    }

    fn cooperative(&self) -> bool {
        self.assignor == Assignor::CooperativeSticky
    }

    /// On the way back into the group: an eager member gives up all that it has first.
    fn rejoin(&mut self) {
        if !self.cooperative() {
            self.taken += self.owned.len();
            self.owned.clear();
        }
        self.state = State::Outside;
    }

    /// It is no member any more, or of another generation: what it had is lost.
    fn expelled(&mut self, forgets_id: bool) {
        self.fenced += 1;
        self.taken += self.owned.len();
        self.owned.clear();
        self.generation = -1;
        self.state = State::Outside;
        if forgets_id {
            self.id.clear();
        }
    }

    fn send(&mut self, now: Instant) {
        match self.state {
            State::Outside => {
                self.state = State::Joining;
                let subscription = ConsumerProtocolSubscription {
                    topics: vec![TOPIC.into()],
                    user_data: None,
                    owned_partitions: vec![consumer_protocol_subscription::TopicPartition {
                        topic: TOPIC.into(),
                        partitions: self.owned.iter().copied().collect(),
                    }],
                    generation_id: self.generation,
                    rack_id: None,
                };
                let request = JoinGroupRequest {
                    group_id: self.group.as_str().into(),
                    session_timeout_ms: self.session_ms,
                    rebalance_timeout_ms: 120_000,
                    member_id: self.id.as_str().into(),
                    group_instance_id: self.instance.as_deref().map(Into::into),
                    protocol_type: "consumer".into(),
                    protocols: vec![JoinGroupRequestProtocol {
                        name: self.assignor.name().into(),
                        metadata: subscription.to_bytes(3).unwrap(),
                    }],
                    reason: None,
                };
                self.link.send(JOIN, &Request::JoinGroup(request));
            }
            State::Syncing => {
                let assignments = std::mem::take(&mut self.assignments);
                let request = SyncGroupRequest {
                    group_id: self.group.as_str().into(),
                    generation_id: self.generation,
                    member_id: self.id.as_str().into(),
                    group_instance_id: self.instance.as_deref().map(Into::into),
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
                self.link.send(SYNC, &Request::SyncGroup(request));
            }
            State::Stable if now >= self.beats_at => {
                self.beats_at = now + HEARTBEAT;
                let request = HeartbeatRequest {
                    group_id: self.group.as_str().into(),
                    generation_id: self.generation,
                    member_id: self.id.as_str().into(),
                    group_instance_id: self.instance.as_deref().map(Into::into),
                };
                self.link.send(BEAT, &Request::Heartbeat(request));
            }
            State::Joining => self.state = State::Outside,
            State::Stable => (),
        }
    }

    fn joined(&mut self, answer: JoinGroupResponse) {
        match answer.error_code {
            ErrorCode::NONE => {
                self.id = answer.member_id.as_str().into();
                self.generation = answer.generation_id;
                self.state = State::Syncing;
                if answer.leader == answer.member_id && !answer.skip_assignment {
                    self.assign(&answer);
                }
            }
            ErrorCode::MEMBER_ID_REQUIRED => {
                self.id = answer.member_id.as_str().into();
                self.state = State::Outside;
            }
            ErrorCode::UNKNOWN_MEMBER_ID => self.expelled(true),
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {
                self.state = State::Outside;
            }
            other => panic!("{}: JoinGroup: {other:?}", self.id),
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

    fn synced(&mut self, error: ErrorCode, assignment: &Bytes) {
        match error {
            ErrorCode::NONE => {
                let assigned = decode(assignment);
                let revoked = self.owned.difference(&assigned).count();
                self.taken += revoked;
                self.owned = assigned;
                self.state = State::Stable;
                self.beats_at = Instant::now() + HEARTBEAT;
                // What was given up goes to others in another round.
                if self.cooperative() && revoked > 0 {
                    self.rejoin();
                }
            }
            ErrorCode::REBALANCE_IN_PROGRESS => self.rejoin(),
            ErrorCode::UNKNOWN_MEMBER_ID => self.expelled(true),
            ErrorCode::ILLEGAL_GENERATION => self.expelled(false),
            ErrorCode::COORDINATOR_NOT_AVAILABLE => self.rejoin(),
            other => panic!("{}: SyncGroup: {other:?}", self.id),
        }
    }
}

impl Member for ClassicMember {
    fn turn(&mut self, address: SocketAddr, now: Instant) {
        match self.link.hear(address) {
            Heard::Free => self.send(now),
            Heard::Waiting => (),
            Heard::Lost => {
                if self.state != State::Stable {
                    self.rejoin();
                }
            }
            Heard::Answer(Response::JoinGroup(answer)) => {
                self.joined(answer);
                self.send(now);
            }
            Heard::Answer(Response::SyncGroup(answer)) => {
                self.synced(answer.error_code, &answer.assignment);
            }
            Heard::Answer(Response::Heartbeat(answer)) => match answer.error_code {
                ErrorCode::NONE => self.beats += 1,
                ErrorCode::COORDINATOR_NOT_AVAILABLE => (),
                ErrorCode::REBALANCE_IN_PROGRESS => self.rejoin(),
                ErrorCode::UNKNOWN_MEMBER_ID => self.expelled(true),
                ErrorCode::ILLEGAL_GENERATION => self.expelled(false),
                other => panic!("{}: Heartbeat: {other:?}", self.id),
            },
            Heard::Answer(other) => panic!("{other:?}"),
        }
    }

    fn owned(&self) -> &BTreeSet<i32> {
        &self.owned
    }

    fn settled(&self) -> Option<i32> {
        (self.state == State::Stable).then_some(self.generation)
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
        (&self.id, self.generation)
    }

    fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    fn leave(&mut self, address: SocketAddr) {
        if self.instance.is_none() && !self.id.is_empty() {
            let request = LeaveGroupRequest {
                group_id: self.group.as_str().into(),
                members: vec![MemberIdentity {
                    member_id: self.id.as_str().into(),
                    ..Default::default()
                }],
                ..Default::default()
            };
            // Over a connection of its own: an answer may be on its way on the other.
            self.link.cut();
            let mut connection = crate::wire::Connection::to(address).unwrap();
            let request = Request::LeaveGroup(request);
            let Response::LeaveGroup(answer) = connection.ask(LEAVE, &request).unwrap() else {
                panic!()
            };
            assert_eq!(answer.error_code, ErrorCode::NONE);
        }
        self.die();
    }

    fn die(&mut self) {
        self.link.cut();
        self.owned.clear();
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
