//! How the partitions of the subscribed topics are shared among the members of a classic group.
//!
//! The group's leader runs the assignor that the coordinator picked; all of them are pure functions from the members'
//! subscriptions and the topics' partition counts to an assignment, with the same results as Kafka's Java clients for
//! `range` and `roundrobin`, so that members of different clients may share a group.

mod cooperative_sticky;
mod range;
mod round_robin;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Ordering;
use ottla_protocol::Str;

/// One partition of one topic.
pub type TopicPartition = (Str, i32);

/// Partition counts of the topics that the group's members subscribe to; a topic that does not exist is absent.
pub type PartitionCounts = BTreeMap<Str, i32>;

/// Each member's partitions, in topic and partition order. Every member has an entry, which may be empty.
pub type Assignment = BTreeMap<Str, BTreeSet<TopicPartition>>;

/// What a member told the group when it joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberSubscription {
    /// The id that the coordinator gave the member.
    pub member_id: Str,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Str>,
    /// The topics it subscribes to.
    pub topics: BTreeSet<Str>,
    /// The partitions it owns, by its own word.
    pub owned: BTreeSet<TopicPartition>,
    /// The generation in which it came to own them; -1 if it doesn't say.
    pub generation: i32,
}

impl MemberSubscription {
    /// Kafka's order of members: static ones by instance id, then dynamic ones by member id.
    fn order(&self, other: &Self) -> Ordering {
        match (&self.instance_id, &other.instance_id) {
            (Some(a), Some(b)) => a.cmp(b).then_with(|| self.member_id.cmp(&other.member_id)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.member_id.cmp(&other.member_id),
        }
    }
}

/// A value of `partition.assignment.strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Neighbouring partitions of each topic to each member; equal indexes of equally sized topics meet at one member.
    Range,
    /// All partitions dealt out in a circle.
    RoundRobin,
    /// Balanced, moves as little as it can, and hands a partition on only after its owner gave it up (KIP-429).
    CooperativeSticky,
}

impl Assignor {
    /// Reads one name of `partition.assignment.strategy`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "range" => Some(Self::Range),
            "roundrobin" => Some(Self::RoundRobin),
            "cooperative-sticky" => Some(Self::CooperativeSticky),
            _ => None,
        }
    }

    /// The name in `partition.assignment.strategy` and in the JoinGroup request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// Whether members keep their partitions while the group rebalances.
    pub fn is_cooperative(self) -> bool {
        self == Self::CooperativeSticky
    }

    /// Shares the partitions out among `members`.
    pub fn assign(
        self,
        members: &[MemberSubscription],
        partitions: &PartitionCounts,
    ) -> Assignment {
        let mut members: Vec<&MemberSubscription> = members.iter().collect();
        members.sort_by(|a, b| a.order(b));
        match self {
            Self::Range => range::assign(&members, partitions),
            Self::RoundRobin => round_robin::assign(&members, partitions),
            Self::CooperativeSticky => cooperative_sticky::assign(&members, partitions),
        }
    }
}

/// An assignment that gives nobody anything.
fn empty_assignment(members: &[&MemberSubscription]) -> Assignment {
    members
        .iter()
        .map(|m| (m.member_id.clone(), BTreeSet::new()))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::format;
    use std::string::String;

    /// A dynamic member with these topics.
    pub(crate) fn member(id: &str, topics: &[&str]) -> MemberSubscription {
        MemberSubscription {
            member_id: id.into(),
            topics: topics.iter().map(|&t| Str::from(t)).collect(),
            generation: -1,
            ..Default::default()
        }
    }

    pub(crate) fn counts(topics: &[(&str, i32)]) -> PartitionCounts {
        topics.iter().map(|&(t, n)| (t.into(), n)).collect()
    }

    /// `a0 a1` for partitions 0 and 1 of topic a.
    pub(crate) fn shown(assignment: &Assignment, member: &str) -> String {
        let all: Vec<String> = assignment[member.as_bytes()]
            .iter()
            .map(|(t, p)| format!("{t}{p}"))
            .collect();
        all.join(" ")
    }

    #[test]
    fn names() {
        for assignor in [
            Assignor::Range,
            Assignor::RoundRobin,
            Assignor::CooperativeSticky,
        ] {
            assert_eq!(Assignor::from_name(assignor.name()), Some(assignor));
        }
        assert_eq!(Assignor::from_name("sticky"), None);
    }

    #[test]
    fn static_members_come_first_by_instance_id() {
        let mut late = member("a", &["t"]);
        late.instance_id = Some("2".into());
        let mut early = member("z", &["t"]);
        early.instance_id = Some("1".into());
        let dynamic = member("0", &["t"]);
        let got = Assignor::Range.assign(&[dynamic, late, early], &counts(&[("t", 4)]));
        assert_eq!(shown(&got, "z"), "t0 t1");
        assert_eq!(shown(&got, "a"), "t2");
        assert_eq!(shown(&got, "0"), "t3");
    }
}
