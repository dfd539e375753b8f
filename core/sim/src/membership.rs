//! What the members of a group of either protocol were told, held against what they said before (KIP-848, and classic members
//! in the same group).
//!
//! Everything is looked at where the broker stands: requests when they arrive, answers when they are given.
//!
//! * A partition that was given to one is given to another only when the first said that it doesn't have it (any more), has left,
//!   or its time is up: a session, or what it has to give something up.
//! * A commit counts only from the member that had the partition last, in the epoch in which it got it or a later one.
//! * The committed offset is that of the last commit that was confirmed, or of one after that whose outcome nobody knows.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::{
    ErrorCode, Request, Response, Str, VersionedMessage,
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription,
        consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse},
        join_group::JoinGroupRequest,
        offset_commit::OffsetCommitRequest,
    },
};

/// Connection and correlation id.
pub type Call = (u64, i32);

/// Until when a member may be silent, in microseconds.
pub const SESSION_US: u64 = 1_000_000;
/// How long it may take to give something up.
pub const REBALANCE_US: u64 = 1_500_000;

/// Who was given a partition last.
#[derive(Debug)]
struct Grant {
    member: Str,
    /// The epoch in which it was.
    epoch: i32,
    /// It hasn't said that it doesn't have it any more.
    held: bool,
}

#[derive(Debug, Default)]
struct Member {
    /// When the last request came that kept its session alive for certain.
    heard_us: u64,
    /// Heartbeats whose outcome nobody knows, by when they came: they may have begun a rebalance.
    open: BTreeMap<Call, u64>,
    /// Partitions that it was told to give up, or may have been, and has not, by when that was. Who doesn't give up one in time
    /// loses all.
    asked_back: BTreeMap<i32, u64>,
    /// Its leaving was confirmed.
    left: bool,
}

#[derive(Debug)]
enum Asked {
    Beat {
        member: Str,
        leaves: bool,
        /// What it says it has, if it does.
        keeps: Option<BTreeSet<i32>>,
    },
    Join {
        member: Str,
        keeps: BTreeSet<i32>,
    },
    Sync {
        member: Str,
        generation: i32,
    },
    Alive {
        member: Str,
    },
    Commit {
        seq: u64,
        stale: BTreeMap<i32, String>,
    },
    Offsets {
        may_be: BTreeMap<i32, Vec<i64>>,
    },
}

/// The commits of one partition that may be the one in force, in the order of their coming.
#[derive(Debug, Default)]
struct Register {
    commits: BTreeMap<u64, i64>,
    /// The first of them is confirmed.
    confirmed: bool,
}

impl Register {
    fn may_be(&self) -> Vec<i64> {
        let none = (!self.confirmed).then_some(-1);
        none.into_iter()
            .chain(self.commits.values().copied())
            .collect()
    }
}

/// One group.
#[derive(Debug)]
pub struct Membership {
    group: Str,
    topic: Str,
    grants: BTreeMap<i32, Grant>,
    members: BTreeMap<Str, Member>,
    asked: BTreeMap<Call, (u64, Asked)>,
    registers: BTreeMap<i32, Register>,
    seq: u64,
    /// What is wrong.
    pub wrong: Vec<String>,
    /// Times that a partition was given to somebody.
    pub given: u64,
}

impl Membership {
    /// Nobody is in it yet.
    pub fn new(group: Str, topic: Str) -> Self {
        Self {
            group,
            topic,
            grants: BTreeMap::new(),
            members: BTreeMap::new(),
            asked: BTreeMap::new(),
            registers: BTreeMap::new(),
            seq: 0,
            wrong: Vec::new(),
            given: 0,
        }
    }

    /// The broker stops: what is not answered never will be.
    pub fn broker_stopped(&mut self) {
        self.asked.clear();
    }

    /// A request comes to the broker.
    pub fn arrived(&mut self, now_us: u64, call: Call, request: &Request) {
        self.seq += 1;
        let asked = match request {
            Request::ConsumerGroupHeartbeat(beat) if beat.group_id == self.group => {
                self.beat_arrived(now_us, call, beat)
            }
            Request::JoinGroup(join) if join.group_id == self.group => {
                let keeps = claimed(join, &self.topic);
                self.keeps(&join.member_id, &keeps);
                let member = join.member_id.clone();
                Asked::Join { member, keeps }
            }
            Request::SyncGroup(sync) if sync.group_id == self.group => Asked::Sync {
                member: sync.member_id.clone(),
                generation: sync.generation_id,
            },
            Request::Heartbeat(beat) if beat.group_id == self.group => Asked::Alive {
                member: beat.member_id.clone(),
            },
            Request::LeaveGroup(leave) if leave.group_id == self.group => {
                let of_list = leave.members.first().map(|it| it.member_id.clone());
                let member = of_list.unwrap_or_else(|| leave.member_id.clone());
                // A classic group is answered at once: after a restart the member may be in it again.
                return self.keeps(&member, &BTreeSet::new());
            }
            Request::OffsetCommit(commit) if commit.group_id == self.group => {
                self.commit_arrived(commit)
            }
            Request::OffsetFetch(fetch)
                if fetch.group_id == self.group
                    || fetch.groups.iter().any(|it| it.group_id == self.group) =>
            {
                let may_be = self.registers.iter();
                let may_be = may_be.map(|(partition, it)| (*partition, it.may_be()));
                Asked::Offsets {
                    may_be: may_be.collect(),
                }
            }
            _ => return,
        };
        self.asked.insert(call, (now_us, asked));
    }

    fn beat_arrived(
        &mut self,
        now_us: u64,
        call: Call,
        beat: &ConsumerGroupHeartbeatRequest,
    ) -> Asked {
        let member = beat.member_id.clone();
        let leaves = beat.member_epoch < 0;
        let says = beat.topic_partitions.as_ref();
        let says = says.map(|topics| topics.iter().flat_map(|it| &it.partitions).copied());
        let keeps: Option<BTreeSet<i32>> = match leaves {
            true => Some(BTreeSet::new()),
            false => says.map(Iterator::collect),
        };
        if let Some(keeps) = &keeps {
            self.keeps(&member, keeps);
        }
        let of = self.members.entry(member.clone()).or_default();
        if beat.member_epoch == 0 {
            of.left = false;
        }
        of.open.insert(call, now_us);
        Asked::Beat {
            member,
            leaves,
            keeps,
        }
    }

    /// A member says what it has.
    fn keeps(&mut self, member: &Str, keeps: &BTreeSet<i32>) {
        for (partition, grant) in &mut self.grants {
            if grant.member == *member && !keeps.contains(partition) {
                grant.held = false;
            }
        }
    }

    /// The broker has heard what a member has.
    fn has_given_up(&mut self, member: &Str, keeps: &BTreeSet<i32>) {
        if let Some(of) = self.members.get_mut(member) {
            of.asked_back
                .retain(|partition, _| keeps.contains(partition));
        }
    }

    fn commit_arrived(&mut self, commit: &OffsetCommitRequest) -> Asked {
        let (member, epoch) = (&commit.member_id, commit.generation_id_or_member_epoch);
        let of = self.members.get(member);
        let left = of.is_some_and(|it| it.left);
        // Until it has given up all that it is asked for it stays in its epoch, which is all that the coordinator looks at, as in Kafka: also
        // of what it gave up before the rest, and somebody else has by now.
        let gives_up = of.is_some_and(|it| !it.asked_back.is_empty());
        let mut stale = BTreeMap::new();
        for it in commit.topics.iter().flat_map(|topic| &topic.partitions) {
            let partition = it.partition_index;
            let register = self.registers.entry(partition).or_default();
            register.commits.insert(self.seq, it.committed_offset);
            let why = match self.grants.get(&partition) {
                _ if left => "it has left".into(),
                Some(last) if last.member != *member && gives_up => continue,
                Some(last) if last.member != *member => format!("{} has it", last.member),
                Some(last) if epoch < last.epoch => format!("it has it since {}", last.epoch),
                _ => continue,
            };
            let what = format!("{member} committed {partition} in epoch {epoch}, and {why}");
            stale.insert(partition, what);
        }
        Asked::Commit {
            seq: self.seq,
            stale,
        }
    }

    /// The broker answers.
    pub fn answered(&mut self, now_us: u64, call: Call, response: &Response) {
        let Some((arrived_us, asked)) = self.asked.remove(&call) else {
            return;
        };
        match (asked, response) {
            (
                Asked::Beat {
                    member,
                    leaves,
                    keeps,
                },
                Response::ConsumerGroupHeartbeat(answer),
            ) if answer.error_code == ErrorCode::NONE => {
                if let Some(keeps) = &keeps {
                    self.has_given_up(&member, keeps);
                }
                self.beaten(now_us, arrived_us, call, &member, leaves, answer);
            }
            (Asked::Join { member, keeps }, Response::JoinGroup(answer)) => {
                if answer.error_code == ErrorCode::NONE {
                    self.has_given_up(&member, &keeps);
                    let of = self.members.entry(answer.member_id.clone()).or_default();
                    (of.heard_us, of.left) = (of.heard_us.max(arrived_us), false);
                } else if answer.error_code == ErrorCode::UNKNOWN_MEMBER_ID {
                    self.keeps(&member, &BTreeSet::new());
                }
            }
            (Asked::Sync { member, generation }, Response::SyncGroup(answer)) => {
                if answer.error_code != ErrorCode::NONE {
                    return;
                }
                let bytes = answer.assignment.clone();
                let assignment = ConsumerProtocolAssignment::from_bytes(bytes).unwrap_or_default();
                let of_topic = assignment.assigned_partitions.iter();
                let of_topic = of_topic.filter(|it| it.topic == self.topic);
                let told: BTreeSet<i32> = of_topic.flat_map(|it| &it.partitions).copied().collect();
                for partition in told {
                    self.give(now_us, partition, &member, generation);
                    // The next rebalance begins later than this.
                    let of = self.members.entry(member.clone()).or_default();
                    of.asked_back.insert(partition, arrived_us);
                }
            }
            (Asked::Alive { member }, Response::Heartbeat(answer))
                if answer.error_code == ErrorCode::NONE =>
            {
                let of = self.members.entry(member).or_default();
                of.heard_us = of.heard_us.max(arrived_us);
            }
            (Asked::Commit { seq, stale }, Response::OffsetCommit(answer)) => {
                for it in answer.topics.iter().flat_map(|topic| &topic.partitions) {
                    self.committed(seq, it.partition_index, it.error_code, &stale);
                }
            }
            (Asked::Offsets { may_be }, Response::OffsetFetch(answer)) => {
                let of_groups = answer.groups.iter().flat_map(|group| &group.topics);
                let of_groups = of_groups.flat_map(|topic| &topic.partitions);
                let of_groups =
                    of_groups.map(|it| (it.partition_index, it.committed_offset, it.error_code));
                let plain = answer.topics.iter().flat_map(|topic| &topic.partitions);
                let plain =
                    plain.map(|it| (it.partition_index, it.committed_offset, it.error_code));
                for (partition, offset, error) in of_groups.chain(plain) {
                    if error == ErrorCode::NONE {
                        self.fetched(partition, offset, &may_be);
                    }
                }
            }
            _ => {}
        }
    }

    fn beaten(
        &mut self,
        now_us: u64,
        arrived_us: u64,
        call: Call,
        member: &Str,
        leaves: bool,
        answer: &ConsumerGroupHeartbeatResponse,
    ) {
        let of = self.members.entry(member.clone()).or_default();
        of.open.remove(&call);
        if leaves {
            of.left = answer.member_epoch == -1;
            return;
        }
        of.heard_us = of.heard_us.max(arrived_us);
        let Some(assignment) = &answer.assignment else {
            return;
        };
        let told = assignment.topic_partitions.iter();
        let told: BTreeSet<i32> = told.flat_map(|it| &it.partitions).copied().collect();
        for (partition, grant) in &self.grants {
            if grant.member == *member && grant.held && !told.contains(partition) {
                of.asked_back.entry(*partition).or_insert(arrived_us);
            }
        }
        for partition in told {
            self.give(now_us, partition, member, answer.member_epoch);
        }
    }

    /// A member learns that it has a partition.
    fn give(&mut self, now_us: u64, partition: i32, member: &Str, epoch: i32) {
        self.given += 1;
        if let Some(last) = self.grants.get_mut(&partition)
            && last.member == *member
        {
            last.held = true;
            // A group that ended and began anew counts from one again.
            last.epoch = last.epoch.min(epoch);
            if let Some(of) = self.members.get_mut(member) {
                of.asked_back.remove(&partition);
            }
            return;
        }
        if let Some(last) = self.grants.get(&partition) {
            let of = self.members.get(&last.member);
            let heard_us = of.map_or(0, |it| it.heard_us);
            let asked = of.and_then(|it| it.open.values().chain(it.asked_back.values()).min());
            let over = heard_us + SESSION_US <= now_us
                || asked.is_some_and(|since| since + REBALANCE_US <= now_us);
            if last.held && !over {
                self.wrong.push(format!(
                    "group {}: {partition} was given to {member} in epoch {epoch} while {} has it since {}",
                    self.group, last.member, last.epoch
                ));
            }
        }
        let grant = Grant {
            member: member.clone(),
            epoch,
            held: true,
        };
        self.grants.insert(partition, grant);
    }

    fn committed(
        &mut self,
        seq: u64,
        partition: i32,
        error: ErrorCode,
        stale: &BTreeMap<i32, String>,
    ) {
        let Some(register) = self.registers.get_mut(&partition) else {
            return;
        };
        if error == ErrorCode::NONE {
            if register.commits.contains_key(&seq) {
                register.commits = register.commits.split_off(&seq);
                register.confirmed = true;
            }
            if let Some(why) = stale.get(&partition) {
                self.wrong.push(format!("group {}: {why}", self.group));
            }
        } else if is_refusal(error) {
            register.commits.remove(&seq);
        }
    }

    fn fetched(&mut self, partition: i32, offset: i64, before: &BTreeMap<i32, Vec<i64>>) {
        let none = vec![-1];
        let before = before.get(&partition).unwrap_or(&none);
        let now = self.registers.get(&partition).map(Register::may_be);
        if !before.contains(&offset) && !now.is_some_and(|now| now.contains(&offset)) {
            self.wrong.push(format!(
                "group {}: the offset of {partition} is {offset}, and was one of {before:?}",
                self.group
            ));
        }
    }
}

/// Errors that say for certain that nothing was done.
fn is_refusal(error: ErrorCode) -> bool {
    [
        ErrorCode::STALE_MEMBER_EPOCH,
        ErrorCode::FENCED_MEMBER_EPOCH,
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::REBALANCE_IN_PROGRESS,
        ErrorCode::FENCED_INSTANCE_ID,
        ErrorCode::GROUP_ID_NOT_FOUND,
    ]
    .contains(&error)
}

/// What a classic member that joins says it has.
fn claimed(join: &JoinGroupRequest, topic: &Str) -> BTreeSet<i32> {
    let metadata = join.protocols.first().map(|it| it.metadata.clone());
    let subscription = metadata.and_then(|it| ConsumerProtocolSubscription::from_bytes(it).ok());
    let owned = subscription.map(|it| it.owned_partitions).into_iter();
    let of_topic = owned.flatten().filter(|it| it.topic == *topic);
    of_topic.flat_map(|it| it.partitions).collect()
}
