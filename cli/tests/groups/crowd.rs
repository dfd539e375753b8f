//! The members of one group, and what must hold of them at any moment: no partition is with two of them.

use crate::{
    classic::{Assignor, Classic, NO_GENERATION},
    consumer::{Consumer, JOINING},
    member::{Member, Standing, TOPIC},
    wire::{Connection, PATIENCE},
    world::World,
};
use ottla_protocol::{
    ErrorCode, Request, Response, Uuid,
    messages::{
        ConsumerGroupDescribeRequest, DescribeGroupsRequest,
        offset_commit::{
            OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
        },
    },
};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

/// What is said of a partition that is with two members at a time.
pub const IS_WITH_TWO: &str = "is with two members";

/// Which protocol a group speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Classic(Assignor),
    Consumer,
}

pub struct Crowd {
    pub group: String,
    pub kind: Kind,
    pub partitions: i32,
    topic: Uuid,
    pub members: Vec<Member>,
    made: usize,
    /// The sessions of those that will come, in milliseconds, if they are of the classic protocol.
    pub session_ms: i32,
    /// How often it came to rest in another generation or epoch.
    pub rebalances: u64,
    at_rest_in: i32,
}

impl Crowd {
    pub fn new(group: &str, kind: Kind, topic: Uuid, partitions: i32) -> Self {
        Self {
            group: group.into(),
            kind,
            partitions,
            topic,
            members: Vec::new(),
            made: 0,
            session_ms: 60_000,
            rebalances: 0,
            at_rest_in: -1,
        }
    }

    /// One more, static if it is to be this instance.
    pub fn member(&mut self, instance: Option<&str>) -> Member {
        self.made += 1;
        match self.kind {
            Kind::Classic(assignor) => Member::new(
                Standing::new(&self.group, instance, "", NO_GENERATION),
                Classic::new(assignor, self.partitions, self.session_ms),
            ),
            Kind::Consumer => {
                // The id is its own, as from version 1 on.
                let id = format!("{}-{}", self.group, self.made);
                Member::new(
                    Standing::new(&self.group, instance, &id, JOINING),
                    Consumer::new(self.topic),
                )
            }
        }
    }

    pub fn add(&mut self, count: usize) {
        for _ in 0..count {
            let member = self.member(None);
            self.members.push(member);
        }
    }

    /// Some leave, beginning with those at `first`.
    pub fn leave(&mut self, address: SocketAddr, first: usize, count: usize) {
        for mut member in self.members.drain(first..first + count) {
            member.leave(address);
        }
    }

    pub fn turn(&mut self, address: SocketAddr) {
        let now = Instant::now();
        for member in &mut self.members {
            member.turn(address, now);
        }
        self.check();
    }

    fn check(&self) {
        let mut owner: Vec<Option<usize>> = vec![None; self.partitions as usize];
        for (i, member) in self.members.iter().enumerate() {
            for partition in member.owned() {
                if let Some(other) = owner[*partition as usize].replace(i) {
                    let (one, two) = (self.members[other].identity(), member.identity());
                    panic!(
                        "{}: {partition} {IS_WITH_TWO}: {one:?}, {two:?}",
                        self.group
                    );
                }
            }
        }
    }

    /// What is with someone.
    pub fn owned(&self) -> BTreeSet<i32> {
        let all = self.members.iter().flat_map(|m| m.owned().iter().copied());
        all.collect()
    }

    /// How much was taken from each so far, and what it has.
    pub fn holdings(&self) -> Vec<(usize, BTreeSet<i32>)> {
        let members = self.members.iter();
        members
            .map(|m| (m.standing.taken, m.owned().clone()))
            .collect()
    }

    /// How many members the broker knows.
    fn size(&self, connection: &mut Connection) -> usize {
        let group = self.group.as_str().into();
        match self.kind {
            Kind::Classic(_) => {
                let request = DescribeGroupsRequest {
                    groups: vec![group],
                    ..Default::default()
                };
                let request = Request::DescribeGroups(request);
                let Response::DescribeGroups(answer) = connection.ask(5, &request).unwrap() else {
                    panic!()
                };
                answer.groups[0].members.len()
            }
            Kind::Consumer => {
                let request = ConsumerGroupDescribeRequest {
                    group_ids: vec![group],
                    ..Default::default()
                };
                let request = Request::ConsumerGroupDescribe(request);
                let Response::ConsumerGroupDescribe(answer) = connection.ask(1, &request).unwrap()
                else {
                    panic!()
                };
                answer.groups[0].members.len()
            }
        }
    }

    /// Goes on until the broker knows no more and no fewer members than these.
    pub fn until_size(&mut self, world: &World, members: usize) {
        let mut connection = Connection::to(world.address()).unwrap();
        let begun = Instant::now();
        while self.size(&mut connection) != members {
            for _ in 0..20 {
                self.turn(world.address());
                thread::sleep(Duration::from_millis(5));
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "they are {}",
                self.size(&mut connection)
            );
        }
    }

    /// How often members were told that they are none.
    pub fn fenced(&self) -> u32 {
        self.members.iter().map(|m| m.standing.fenced).sum()
    }

    pub fn taken(&self) -> usize {
        self.members.iter().map(|m| m.standing.taken).sum()
    }

    /// The generation or epoch of all, if all are at rest in one and everything is with someone, evenly.
    pub fn rest(&self) -> Option<i32> {
        let first = self.members.first()?.settled()?;
        if self.members.iter().any(|m| m.settled() != Some(first)) {
            return None;
        }
        if self.owned().len() != self.partitions as usize {
            return None;
        }
        let sizes = || self.members.iter().map(|m| m.owned().len());
        let (least, most) = (sizes().min()?, sizes().max()?);
        (most - least <= 1).then_some(first)
    }

    /// Each member commits an offset for what it has; all must be taken.
    pub fn commit(&mut self, connection: &mut Connection, offset: i64) {
        for member in self.members.iter().filter(|m| !m.owned().is_empty()) {
            let (id, epoch) = member.identity();
            let partition = |p: &i32| OffsetCommitRequestPartition {
                partition_index: *p,
                committed_offset: offset,
                ..Default::default()
            };
            let request = Request::OffsetCommit(OffsetCommitRequest {
                group_id: self.group.as_str().into(),
                generation_id_or_member_epoch: epoch,
                member_id: id.into(),
                group_instance_id: member.standing.instance.as_deref().map(Into::into),
                topics: vec![OffsetCommitRequestTopic {
                    name: TOPIC.into(),
                    partitions: member.owned().iter().map(partition).collect(),
                    ..Default::default()
                }],
                ..Default::default()
            });
            let Response::OffsetCommit(answer) = connection.ask(9, &request).unwrap() else {
                panic!()
            };
            for partition in &answer.topics[0].partitions {
                assert_eq!(partition.error_code, ErrorCode::NONE, "{id} {epoch}");
            }
        }
    }

    /// All offsets that the group has committed, which must be the same; `None` if it has none.
    pub fn committed(&self, connection: &mut Connection) -> Option<i64> {
        let offsets = committed(connection, &self.group);
        let first = offsets.first()?.1;
        assert!(
            offsets.iter().all(|(_, offset)| *offset == first),
            "{offsets:?}"
        );
        assert_eq!(offsets.len(), self.partitions as usize);
        Some(first)
    }

    /// Until all members are at rest; how long it took.
    pub fn settle(&mut self, world: &World) -> Duration {
        settle(&mut [self], world)
    }
}

/// Until the groups are at rest, and every member has been told twice since that all is well; how long it took to the beginning of that.
pub fn settle(crowds: &mut [&mut Crowd], world: &World) -> Duration {
    let begun = Instant::now();
    let mut quiet: Option<(Vec<Option<i32>>, Vec<u64>, Instant)> = None;
    loop {
        for crowd in crowds.iter_mut() {
            crowd.turn(world.address());
        }
        let rest: Vec<Option<i32>> = crowds.iter().map(|crowd| crowd.rest()).collect();
        let members = || crowds.iter().flat_map(|crowd| &crowd.members);
        let all_are_at_rest = rest.iter().all(Option::is_some);
        match &quiet {
            _ if !all_are_at_rest => quiet = None,
            Some((same, beats, _)) if *same == rest => {
                if members()
                    .zip(beats)
                    .all(|(m, before)| m.standing.beats >= before + 2)
                {
                    break;
                }
            }
            _ => {
                quiet = Some((
                    rest,
                    members().map(|m| m.standing.beats).collect(),
                    Instant::now(),
                ))
            }
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{:?} do not come to rest",
            crowds.iter().map(|c| &c.group).collect::<Vec<_>>()
        );
        thread::sleep(Duration::from_millis(2));
    }
    for crowd in crowds.iter_mut() {
        let rest = crowd.rest().unwrap();
        if rest != crowd.at_rest_in {
            crowd.rebalances += 1;
            crowd.at_rest_in = rest;
        }
    }
    quiet.map_or(Duration::ZERO, |(.., since)| since - begun)
}

/// What a group has committed of [`TOPIC`].
pub fn committed(connection: &mut Connection, group: &str) -> Vec<(i32, i64)> {
    let group = connection.stable_offsets(group);
    let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
    partitions
        .inspect(|p| assert_eq!(p.error_code, ErrorCode::NONE))
        .map(|p| (p.partition_index, p.committed_offset))
        .collect()
}
