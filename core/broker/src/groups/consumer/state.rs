//! A consumer group (KIP-848) as a value: epochs, members, what they own and what they are to own.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use bytes::Bytes;
use ottla_protocol::{Str, Uuid};
use ottla_record::Now;

use super::records::RecordKey;
use crate::groups::group::GroupState;

/// Partitions by topic.
pub(in crate::groups) type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// Partitions by topic, each with the epoch in which the member got it (KIP-1251).
pub(in crate::groups) type Owned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// The member epoch with which a request joins.
pub(in crate::groups) const JOIN_EPOCH: i32 = 0;
/// The member epoch of a static member that leaves and will be back; also that of such a member while it is away.
pub(in crate::groups) const STATIC_LEAVE_EPOCH: i32 = -2;

/// How far a member has come towards its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::groups) enum MemberState {
    /// It has what it is to have in its epoch.
    Stable,
    /// It has yet to give something up.
    UnrevokedPartitions,
    /// It waits for what others have yet to give up.
    UnreleasedPartitions,
    /// A state of a later version's: the member must join anew.
    Unknown,
}

impl MemberState {
    /// The byte in the record.
    pub const fn byte(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }

    pub const fn from_byte(byte: i8) -> Self {
        match byte {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            _ => Self::Unknown,
        }
    }
}

/// What only a member with the classic protocol has (it joined with `JoinGroup`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::groups) struct ClassicProtocol {
    pub session_timeout_ms: i32,
    /// Name and subscription of each protocol, in the member's order of preference.
    pub protocols: Vec<(Str, Bytes)>,
}

/// A member of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::groups) struct Member {
    pub id: Str,
    pub instance_id: Option<Str>,
    pub rack_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    /// Subscribed topics by name.
    pub topics: BTreeSet<Str>,
    /// Subscribed topics by regular expression; empty is none.
    pub regex: Str,
    pub rebalance_timeout_ms: i32,
    /// The assignor that it asks for.
    pub server_assignor: Option<Str>,
    pub classic: Option<ClassicProtocol>,
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Owned,
    pub pending_revocation: Owned,
    /// When the member counts as dead unless it is heard of; monotonic microseconds. A static member that is away has
    /// one too: until then it may come back.
    pub session_ends_us: u64,
    /// When it is fenced unless it has given up what it must; monotonic microseconds.
    pub revocation_ends_us: Option<u64>,
    /// Of a classic member: when it is fenced unless it has joined again, or asked for its assignment.
    pub classic_wait: Option<ClassicWait>,
}

/// What a classic member owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::groups) struct ClassicWait {
    pub ends_us: u64,
    /// A `JoinGroup`; else a `SyncGroup`.
    pub join: bool,
}

impl Member {
    pub fn new(id: Str) -> Self {
        Self {
            id,
            instance_id: None,
            rack_id: None,
            client_id: Str::new(),
            client_host: Str::new(),
            topics: BTreeSet::new(),
            regex: Str::new(),
            rebalance_timeout_ms: -1,
            server_assignor: None,
            classic: None,
            epoch: JOIN_EPOCH,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Owned::new(),
            pending_revocation: Owned::new(),
            session_ends_us: u64::MAX,
            revocation_ends_us: None,
            classic_wait: None,
        }
    }

    /// Whether it has all it is to have in `target_epoch`.
    pub fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    /// Whether the record of its metadata would differ.
    pub fn metadata_differs(&self, other: &Self) -> bool {
        self.instance_id != other.instance_id
            || self.rack_id != other.rack_id
            || self.client_id != other.client_id
            || self.client_host != other.client_host
            || self.topics != other.topics
            || self.regex != other.regex
            || self.rebalance_timeout_ms != other.rebalance_timeout_ms
            || self.server_assignor != other.server_assignor
            || self.classic != other.classic
    }

    /// Starts the session anew.
    pub fn heard_of(&mut self, now: Now, session_timeout_ms: i32) {
        let timeout = self
            .classic
            .as_ref()
            .map_or(session_timeout_ms, |c| c.session_timeout_ms);
        self.session_ends_us = now.after_ms(i64::from(timeout));
    }

    /// When something of this member is next due.
    pub fn due_us(&self) -> u64 {
        let revocation = self.revocation_ends_us.unwrap_or(u64::MAX);
        let classic = self.classic_wait.map_or(u64::MAX, |w| w.ends_us);
        self.session_ends_us.min(revocation).min(classic)
    }
}

/// What a regular expression matched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::groups) struct ResolvedRegex {
    pub topics: BTreeSet<Str>,
    /// Counts the changes of topics that this resolution knew of.
    pub version: i64,
    /// Wall clock, milliseconds.
    pub timestamp_ms: i64,
}

/// A consumer group.
#[derive(Clone, Debug)]
pub(in crate::groups) struct ConsumerGroup {
    /// Rises with every change of members, subscriptions and topics.
    pub epoch: i32,
    /// Of the subscribed topics as they were at the last rise.
    pub metadata_hash: i64,
    /// The group epoch of which the target assignment is.
    pub assignment_epoch: i32,
    /// When the target was computed, milliseconds; 0 where that is not known.
    pub assignment_timestamp_ms: i64,
    members: BTreeMap<Str, Member>,
    /// Instance id → member id.
    static_members: BTreeMap<Str, Str>,
    /// Member id → what it is to own.
    pub target: BTreeMap<Str, Partitions>,
    pub regexes: BTreeMap<Str, ResolvedRegex>,
    /// Who owns a partition, or has yet to give it up.
    owners: BTreeMap<Uuid, BTreeMap<i32, Str>>,
    /// Topics came, went or grew since subscriptions were last looked at.
    pub topics_changed: bool,
    /// The log has a record of partition metadata, which Kafka wrote before 4.1.
    pub has_partition_metadata: bool,
    /// Whose records are yet to be written.
    pub unwritten: BTreeSet<RecordKey>,
    /// The last write of this group.
    pub last_write: Option<u64>,
}

impl Default for ConsumerGroup {
    /// As Kafka's begin: in epoch 1, with nothing assigned yet, so that the first member that subscribes makes it 2.
    fn default() -> Self {
        Self {
            epoch: 1,
            metadata_hash: 0,
            assignment_epoch: 0,
            assignment_timestamp_ms: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            target: BTreeMap::new(),
            regexes: BTreeMap::new(),
            owners: BTreeMap::new(),
            topics_changed: false,
            has_partition_metadata: false,
            unwritten: BTreeSet::new(),
            last_write: None,
        }
    }
}

impl ConsumerGroup {
    pub fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.assignment_epoch {
            GroupState::Assigning
        } else if self
            .members
            .values()
            .all(|m| m.is_reconciled_to(self.assignment_epoch))
        {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    pub fn member(&self, id: &Str) -> Option<&Member> {
        self.members.get(id)
    }

    /// For changes that leave id, instance id and partitions alone.
    pub fn member_mut(&mut self, id: &Str) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    /// For changes that leave id, instance id and partitions alone.
    pub fn members_mut(&mut self) -> impl ExactSizeIterator<Item = &mut Member> {
        self.members.values_mut()
    }

    pub fn static_member(&self, instance_id: &Str) -> Option<&Member> {
        self.members.get(self.static_members.get(instance_id)?)
    }

    /// Puts a member in, or in the place of the one with its id.
    pub fn put(&mut self, member: Member) {
        self.take(&member.id.clone());
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), member.id.clone());
        }
        self.own(&member.id, &member.assigned);
        self.own(&member.id, &member.pending_revocation);
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out, with what it owns. Its target stays.
    pub fn take(&mut self, id: &Str) -> Option<Member> {
        let member = self.members.remove(id)?;
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id) == Some(id)
        {
            self.static_members.remove(instance_id);
        }
        self.disown(id, &member.assigned);
        self.disown(id, &member.pending_revocation);
        Some(member)
    }

    /// Gives a member other partitions.
    pub fn set_partitions(&mut self, id: &Str, assigned: Owned, pending_revocation: Owned) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let old_assigned = core::mem::take(&mut member.assigned);
        let old_pending = core::mem::take(&mut member.pending_revocation);
        self.disown(id, &old_assigned);
        self.disown(id, &old_pending);
        self.own(id, &assigned);
        self.own(id, &pending_revocation);
        if let Some(member) = self.members.get_mut(id) {
            member.assigned = assigned;
            member.pending_revocation = pending_revocation;
        }
    }

    /// Who owns a partition, or has yet to give it up.
    pub fn owner(&self, topic: &Uuid, partition: i32) -> Option<&Str> {
        self.owners.get(topic)?.get(&partition)
    }

    fn own(&mut self, id: &Str, partitions: &Owned) {
        for (topic, partitions) in partitions {
            let owners = self.owners.entry(*topic).or_default();
            for partition in partitions.keys() {
                owners.insert(*partition, id.clone());
            }
        }
    }

    fn disown(&mut self, id: &Str, partitions: &Owned) {
        for (topic, partitions) in partitions {
            let Some(owners) = self.owners.get_mut(topic) else {
                continue;
            };
            for partition in partitions.keys() {
                if owners.get(partition) == Some(id) {
                    owners.remove(partition);
                }
            }
            if owners.is_empty() {
                self.owners.remove(topic);
            }
        }
    }

    /// The topics that a member subscribes to, by name and by regular expression.
    pub fn subscription<'a>(&'a self, member: &'a Member) -> impl Iterator<Item = &'a Str> {
        let matched = self.regexes.get(&member.regex);
        let matched = matched.into_iter().flat_map(|r| &r.topics);
        // What both name comes once.
        let matched = matched.filter(|topic| !member.topics.contains(*topic));
        member.topics.iter().chain(matched)
    }

    /// The topics that any member subscribes to.
    pub fn subscribed_topics(&self) -> BTreeSet<&Str> {
        let by_name = self.members.values().flat_map(|m| &m.topics);
        let by_regex = self.regexes.values().flat_map(|r| &r.topics);
        by_name.chain(by_regex).collect()
    }

    /// Whether a member consumes `topic` by subscription.
    pub fn is_subscribed(&self, topic: &Str) -> bool {
        self.members.values().any(|m| m.topics.contains(topic))
            || self.regexes.values().any(|r| r.topics.contains(topic))
    }

    /// The assignor that most members ask for; `None` if nobody asks for one. The first by name breaks a tie.
    pub fn preferred_assignor(&self) -> Option<&Str> {
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for name in self
            .members
            .values()
            .filter_map(|m| m.server_assignor.as_ref())
        {
            *votes.entry(name).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        votes
            .into_iter()
            .find(|(_, count)| *count == most)
            .map(|(name, _)| name)
    }

    /// When something is next due; monotonic microseconds.
    pub fn next_due_us(&self) -> Option<u64> {
        let due = self.members.values().map(Member::due_us).min()?;
        (due != u64::MAX).then_some(due)
    }
}
