//! One group as a value: what both kinds have, and a classic group's: members, generation, state and the rules that need nothing else.
//!
//! The flows ([`super::join`], [`super::sync`], …) call these methods and put out what follows from them.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use bytes::Bytes;
use ottla_protocol::{ErrorCode, Str};
use ottla_record::Now;

use super::{
    consumer::state::ConsumerGroup, member::Member, offsets::Offsets,
    subscription::subscribed_topics,
};

/// The protocol type of Kafka's consumers; `connect` and others are stored and never looked into.
pub(super) const CONSUMER: &str = "consumer";

/// Kafka's states of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupState {
    /// No members; perhaps offsets.
    Empty,
    /// Members are expected to (re)join.
    PreparingRebalance,
    /// A generation has begun and waits for its leader's assignment.
    CompletingRebalance,
    /// Every member has, or may fetch, its assignment.
    Stable,
    /// Of a consumer group: its target is of an older epoch.
    Assigning,
    /// Of a consumer group: members are on their way to their targets.
    Reconciling,
    /// Deleted or never there; only ever shown.
    Dead,
}

impl GroupState {
    /// The name that `ListGroups` and `DescribeGroups` show.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Dead => "Dead",
        }
    }
}

/// What ends the wait for members in `PreparingRebalance`, besides their all having joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JoinWait {
    /// Monotonic microseconds.
    pub ends_us: u64,
    /// Set while a group that was empty waits for company (`group.initial.rebalance.delay.ms`).
    pub initial: Option<InitialDelay>,
}

/// The first rebalance of an empty group is delayed, and again for newcomers, up to the rebalance timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InitialDelay {
    /// How much longer it may be put off, in microseconds.
    pub remaining_us: u64,
    /// Somebody joined since the delay was last extended.
    pub newcomers: bool,
}

/// A group: its offsets, and its members, either of a classic group or of a consumer group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub id: Str,
    /// Tells this group from an earlier one of the same name, for writes that are still under way.
    pub incarnation: u64,
    state: GroupState,
    /// Wall clock of the last change of state, milliseconds; -1 where it is not known.
    pub state_since_ms: i64,
    pub generation: i32,
    /// `None` until a first member joins: a group of offsets only.
    pub protocol_type: Option<Str>,
    /// Chosen by vote; `None` while the group is empty.
    pub protocol: Option<Str>,
    pub leader: Option<Str>,
    members: BTreeMap<Str, Member>,
    /// Instance id → member id.
    static_members: BTreeMap<Str, Str>,
    /// Ids handed out with MEMBER_ID_REQUIRED that have not joined yet → when they are forgotten (microseconds).
    pub pending_members: BTreeMap<Str, u64>,
    /// Members of this generation that have not sent `SyncGroup` yet.
    pub pending_syncs: BTreeSet<Str>,
    /// When those are evicted, monotonic microseconds; only while there are any.
    pub syncs_end_us: Option<u64>,
    /// Set in `PreparingRebalance`.
    pub join_wait: Option<JoinWait>,
    /// The leader's assignment of this generation is being written.
    pub assigning: bool,
    /// Members with a parked `JoinGroup`.
    awaiting_join: usize,
    /// How many members support each protocol.
    support: BTreeMap<Str, usize>,
    /// Topics that consumers of this generation subscribe to; `None` where that can't be known.
    pub subscribed: Option<BTreeSet<Str>>,
    pub offsets: Offsets,
    /// Set if this is a consumer group (KIP-848); then what is here of a classic one is empty.
    pub consumer: Option<Box<ConsumerGroup>>,
    /// There may be a group metadata record in the log.
    pub persisted: bool,
    /// How the log leaves it, while it is replayed.
    pub replayed: Replayed,
    /// The earliest time for which the coordinator's timers know this group.
    pub timer_us: Option<u64>,
    next_joined: u64,
}

/// How the log leaves a group, while it is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replayed {
    AsWritten,
    /// It was a consumer group, which had come to this epoch.
    WasConsumer(i32),
    /// It has become a classic group with the members it had, which had yet to rebalance.
    MustRebalance,
}

impl Group {
    /// An empty group that nobody joined yet.
    pub fn new(id: Str, incarnation: u64) -> Self {
        Self {
            id,
            incarnation,
            state: GroupState::Empty,
            state_since_ms: -1,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeMap::new(),
            pending_syncs: BTreeSet::new(),
            syncs_end_us: None,
            join_wait: None,
            assigning: false,
            awaiting_join: 0,
            support: BTreeMap::new(),
            subscribed: None,
            offsets: Offsets::default(),
            consumer: None,
            persisted: false,
            replayed: Replayed::AsWritten,
            timer_us: None,
            next_joined: 0,
        }
    }

    pub fn state(&self) -> GroupState {
        match &self.consumer {
            Some(consumer) => consumer.state(),
            None => self.state,
        }
    }

    /// Makes it a consumer group, with these members in the place of all classic ones.
    pub fn begin_consumer(&mut self, consumer: Box<ConsumerGroup>) {
        self.forget_members();
        self.consumer = Some(consumer);
    }

    /// Makes it a classic group without members.
    pub fn end_consumer(&mut self) -> Option<Box<ConsumerGroup>> {
        let consumer = self.consumer.take()?;
        self.forget_members();
        Some(consumer)
    }

    /// What is left is the group's id and its offsets.
    fn forget_members(&mut self) {
        let fresh = Self::new(self.id.clone(), self.incarnation);
        let old = core::mem::replace(self, fresh);
        self.offsets = old.offsets;
        self.persisted = old.persisted;
        self.timer_us = old.timer_us;
        self.state_since_ms = old.state_since_ms;
    }

    /// Enters `state`. Leaving `PreparingRebalance` ends its wait; only `CompletingRebalance` waits for an assignment.
    pub fn enter(&mut self, state: GroupState, now: Now) {
        self.state = state;
        self.state_since_ms = now.wall_ms;
        self.assigning = false;
        if state != GroupState::PreparingRebalance {
            self.join_wait = None;
        }
    }

    /// Restores the state that a group metadata record tells of.
    pub fn restore(&mut self, generation: i32, since_ms: i64) {
        self.generation = generation;
        self.state_since_ms = since_ms;
        self.persisted = true;
        self.state = if self.members.is_empty() {
            GroupState::Empty
        } else {
            GroupState::Stable
        };
        self.note_subscriptions();
    }

    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// For changes that leave id, instance id, protocols and parked joins alone.
    pub fn members_mut(&mut self) -> impl ExactSizeIterator<Item = &mut Member> {
        self.members.values_mut()
    }

    pub fn member(&self, id: &Str) -> Option<&Member> {
        self.members.get(id)
    }

    /// For changes that leave id, instance id, protocols and parked joins alone.
    pub fn member_mut(&mut self, id: &Str) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    /// The member that holds a static instance id.
    pub fn static_member(&self, instance_id: &Str) -> Option<&Str> {
        self.static_members.get(instance_id)
    }

    pub fn is_leader(&self, id: &Str) -> bool {
        self.leader.as_ref() == Some(id)
    }

    /// Members with a parked `JoinGroup`.
    pub fn awaiting_join(&self) -> usize {
        self.awaiting_join
    }

    /// Whether the rebalance need not wait any longer.
    pub fn all_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending_members.is_empty()
    }

    /// The longest rebalance timeout of any member, milliseconds; at least 1, so that a wait ends later than it began.
    pub fn rebalance_timeout_ms(&self) -> i64 {
        self.members
            .values()
            .map(|m| i64::from(m.rebalance_timeout_ms))
            .fold(1, i64::max)
    }

    /// Whether `id` may speak for the group: UNKNOWN_MEMBER_ID, or FENCED_INSTANCE_ID if another member has taken over
    /// its instance id.
    pub fn check_member(&self, id: &Str, instance_id: Option<&Str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(holder) if holder != id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) {
            Ok(())
        } else {
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        }
    }

    /// Whether a member with these protocols could share a generation with the present ones.
    pub fn accepts_protocols<'a>(
        &self,
        protocol_type: &str,
        mut names: impl Iterator<Item = &'a Str>,
    ) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && names.next().is_some();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && names.any(|name| self.support.get(name) == Some(&self.members.len()))
    }

    /// Adds a member; the first one gives the group its protocol type and is its leader.
    pub fn add(&mut self, mut member: Member, protocol_type: &Str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.pending_members.remove(&member.id);
        self.next_joined += 1;
        member.joined = self.next_joined;
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        count_support(&mut self.support, &member.protocols, true);
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), member.id.clone());
        }
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out; leadership passes to whoever joined first among those that have rejoined, else among all.
    pub fn remove(&mut self, id: &Str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.awaiting_join -= usize::from(member.awaiting_join.is_some());
        count_support(&mut self.support, &member.protocols, false);
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id) == Some(id)
        {
            self.static_members.remove(instance_id);
        }
        self.pending_syncs.remove(id);
        if self.is_leader(id) {
            self.leader = self
                .members
                .values()
                .min_by_key(|m| (m.awaiting_join.is_none(), m.joined))
                .map(|m| m.id.clone());
        }
        Some(member)
    }

    /// Gives the static member `old` the id `new`; leadership stays with it. The caller answers its parked requests.
    pub fn rename_static(&mut self, old: &Str, new: &Str) {
        let Some(mut member) = self.members.remove(old) else {
            return;
        };
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), new.clone());
        }
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        if self.pending_syncs.remove(old) {
            self.pending_syncs.insert(new.clone());
        }
        member.id = new.clone();
        self.members.insert(new.clone(), member);
    }

    /// Replaces a member's protocols.
    pub fn set_protocols(&mut self, id: &Str, protocols: Vec<(Str, Bytes)>) {
        if let Some(member) = self.members.get_mut(id) {
            count_support(&mut self.support, &member.protocols, false);
            count_support(&mut self.support, &protocols, true);
            member.protocols = protocols;
        }
    }

    /// Parks a `JoinGroup`; gives back the one that was parked before.
    pub fn park_join(
        &mut self,
        id: &Str,
        reply: crate::context::ReplyTo,
    ) -> Option<crate::context::ReplyTo> {
        let member = self.members.get_mut(id)?;
        let before = member.awaiting_join.replace(reply);
        self.awaiting_join += usize::from(before.is_none());
        before
    }

    /// Takes a member's parked `JoinGroup`, to answer it.
    pub fn take_join(&mut self, id: &Str) -> Option<crate::context::ReplyTo> {
        let reply = self.members.get_mut(id)?.awaiting_join.take();
        self.awaiting_join -= usize::from(reply.is_some());
        reply
    }

    /// Whether the leader has rejoined; else makes the first that has rejoined the leader. False if nobody has.
    pub fn elect_joined_leader(&mut self) -> bool {
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        if leader.is_some_and(|m| m.awaiting_join.is_some()) {
            return true;
        }
        let first = self
            .members
            .values()
            .filter(|m| m.awaiting_join.is_some())
            .min_by_key(|m| m.joined);
        match first {
            Some(member) => {
                self.leader = Some(member.id.clone());
                true
            }
            None => false,
        }
    }

    /// The protocol that most members prefer among those that all support; the leader's order breaks a tie.
    pub fn choose_protocol(&self) -> Option<Str> {
        let everybody = self.members.len();
        let common = |name: &Str| self.support.get(name) == Some(&everybody);
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        let of_leader = leader
            .into_iter()
            .flat_map(|m| m.protocols.iter())
            .map(|(name, _)| name)
            .find(|name| votes.get(name) == Some(&most));
        of_leader
            .or_else(|| votes.iter().find(|(_, v)| **v == most).map(|(n, _)| *n))
            .cloned()
    }

    /// Begins the next generation: `CompletingRebalance` with a protocol, or `Empty` if nobody is left. All members of
    /// it owe a `SyncGroup`.
    pub fn begin_generation(&mut self, now: Now) {
        // Kafka's counter runs over into negative numbers, which mean "none" on the wire; this one starts again at 1.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_syncs.clear();
        self.syncs_end_us = None;
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.enter(GroupState::Empty, now);
        } else {
            self.protocol = self.choose_protocol();
            self.pending_syncs.extend(self.members.keys().cloned());
            self.enter(GroupState::CompletingRebalance, now);
        }
        self.note_subscriptions();
    }

    /// Reads the topics out of the members' subscriptions.
    fn note_subscriptions(&mut self) {
        self.subscribed = None;
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = self
                .protocol
                .as_deref()
                .and_then(|name| member.metadata(name));
            let Some(names) = metadata.and_then(subscribed_topics) else {
                return;
            };
            topics.extend(names);
        }
        self.subscribed = Some(topics);
    }

    /// Whether a member of the group (may) consume `topic` by subscription.
    pub fn is_subscribed(&self, topic: &Str) -> bool {
        if let Some(consumer) = &self.consumer {
            return consumer.is_subscribed(topic);
        }
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.protocol_type.as_deref() == Some(CONSUMER),
        }
    }

    /// When something is next due: a session, a pending id, the end of a wait. Monotonic microseconds.
    pub fn next_due_us(&self) -> Option<u64> {
        if let Some(consumer) = &self.consumer {
            return consumer.next_due_us();
        }
        let sessions = self.members.values().filter_map(Member::expires_us).min();
        let pending = self.pending_members.values().copied().min();
        let wait = self.join_wait.map(|w| w.ends_us);
        [sessions, pending, wait, self.syncs_end_us]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether nothing would be lost if the group were forgotten.
    pub fn is_vacant(&self) -> bool {
        self.state() == GroupState::Empty
            && self.pending_members.is_empty()
            && self.offsets.is_empty()
    }
}

fn count_support(support: &mut BTreeMap<Str, usize>, protocols: &[(Str, Bytes)], add: bool) {
    // A member that names a protocol twice supports it once.
    let names: BTreeSet<&Str> = protocols.iter().map(|(name, _)| name).collect();
    for name in names {
        let count = support.entry(name.clone()).or_default();
        *count = if add {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        if *count == 0 {
            support.remove(name);
        }
    }
}
