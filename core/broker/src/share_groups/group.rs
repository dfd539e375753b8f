//! One share group as a value.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use ottla_protocol::{Str, Uuid};

use super::assignor::Assignment;
use crate::topics::Topic;

/// Kafka's states of a share group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShareGroupState {
    /// No members; perhaps state of partitions.
    Empty,
    Stable,
}

impl ShareGroupState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Stable => "Stable",
        }
    }
}

/// The partitions of a topic that the group has state of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    pub name: Str,
    pub partitions: BTreeSet<i32>,
}

/// A member.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ShareMember {
    pub id: Str,
    pub rack_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    /// Names of the topics that it subscribes to.
    pub topics: BTreeSet<Str>,
    pub epoch: i32,
    pub previous_epoch: i32,
    pub assigned: Assignment,
    /// Monotonic microseconds.
    pub session_ends_us: u64,
}

impl ShareMember {
    pub fn new(id: Str) -> Self {
        Self {
            id,
            rack_id: None,
            client_id: Str::new(),
            client_host: Str::new(),
            topics: BTreeSet::new(),
            epoch: 0,
            previous_epoch: -1,
            assigned: Assignment::new(),
            session_ends_us: u64::MAX,
        }
    }
}

/// A share group.
#[derive(Clone, Debug)]
pub(super) struct ShareGroup {
    pub id: Str,
    pub epoch: i32,
    /// Of the topics that members subscribe to: another one means that partitions came or went.
    pub metadata_hash: i64,
    /// The group epoch that the target is of.
    pub target_epoch: i32,
    /// When the target was computed, milliseconds; 0 where that is not known.
    pub target_ms: i64,
    pub target: BTreeMap<Str, Assignment>,
    pub members: BTreeMap<Str, ShareMember>,
    /// The partitions that the group has state of, by topic.
    pub known: BTreeMap<Uuid, Known>,
    /// In [`super::ShareGroups::timers`].
    pub timer_us: Option<u64>,
}

/// A topic as a group sees it.
#[derive(Clone, Debug)]
pub(crate) struct TopicSeen {
    pub id: Uuid,
    pub partitions: i32,
}

impl TopicSeen {
    pub fn of(topic: &Topic) -> Self {
        Self {
            id: topic.id,
            partitions: topic.partitions.len() as i32,
        }
    }
}

impl ShareGroup {
    /// A group begins in epoch 1, as Kafka's do; its first member makes it 2.
    pub fn new(id: Str) -> Self {
        Self {
            id,
            epoch: 1,
            metadata_hash: 0,
            target_epoch: 0,
            target_ms: 0,
            target: BTreeMap::new(),
            members: BTreeMap::new(),
            known: BTreeMap::new(),
            timer_us: None,
        }
    }

    pub fn state(&self) -> ShareGroupState {
        if self.members.is_empty() {
            ShareGroupState::Empty
        } else {
            ShareGroupState::Stable
        }
    }

    /// The topics that anyone subscribes to and that exist, by name.
    pub fn subscribed(
        &self,
        topic: &dyn Fn(&str) -> Option<TopicSeen>,
    ) -> BTreeMap<Str, TopicSeen> {
        let names: BTreeSet<&Str> = self.members.values().flat_map(|m| &m.topics).collect();
        names
            .into_iter()
            .filter_map(|name| Some((name.clone(), topic(name)?)))
            .collect()
    }

    /// When the first session ends.
    pub fn next_due_us(&self) -> Option<u64> {
        self.members.values().map(|m| m.session_ends_us).min()
    }

    /// Members whose session has ended.
    pub fn overdue(&self, now_us: u64) -> Vec<Str> {
        let over = self
            .members
            .values()
            .filter(|m| m.session_ends_us <= now_us);
        over.map(|m| m.id.clone()).collect()
    }
}

/// A number that differs when topics, their ids or partition counts differ (64-bit FNV-1a); 0 for none.
pub(super) fn metadata_hash(topics: &BTreeMap<Str, TopicSeen>) -> i64 {
    if topics.is_empty() {
        return 0;
    }
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for (name, topic) in topics {
        add(name.as_bytes());
        add(&topic.id.0);
        add(&topic.partitions.to_be_bytes());
    }
    hash as i64
}
