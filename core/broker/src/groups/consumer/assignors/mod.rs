//! The assignors on the server's side: who is to consume what.

mod range;
mod uniform;

use alloc::{collections::BTreeSet, vec::Vec};
use ottla_protocol::{Str, Uuid};

use super::state::Partitions;

/// An assignor that groups may ask for (`group.consumer.assignors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerAssignor {
    /// Even loads; members keep what they have as far as that allows.
    Uniform,
    /// Each topic in contiguous ranges, so that equal partitions of topics go to the same member.
    Range,
}

impl ConsumerAssignor {
    /// The name that clients ask for.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }
}

/// A member as the assignors see it.
#[derive(Debug)]
pub(super) struct MemberSpec<'a> {
    pub id: &'a Str,
    pub instance_id: Option<&'a Str>,
    /// Indices into the topics.
    pub topics: BTreeSet<usize>,
    /// Its target up to now.
    pub target: Option<&'a Partitions>,
}

/// A topic that somebody subscribes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicSpec {
    pub id: Uuid,
    pub partitions: i32,
}

/// The target of each member, in their order.
pub(super) fn assign(
    assignor: ConsumerAssignor,
    members: &[MemberSpec<'_>],
    topics: &[TopicSpec],
) -> Vec<Partitions> {
    match assignor {
        ConsumerAssignor::Uniform => uniform::assign(members, topics),
        ConsumerAssignor::Range => range::assign(members, topics),
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use alloc::collections::BTreeMap;

    /// Members with the topics they subscribe to, by index.
    pub struct Group {
        pub ids: Vec<Str>,
        pub subscriptions: Vec<BTreeSet<usize>>,
        pub topics: Vec<TopicSpec>,
        pub targets: BTreeMap<Str, Partitions>,
    }

    impl Group {
        pub fn new(partitions: &[i32], subscriptions: &[&[usize]]) -> Self {
            Self {
                ids: (0..subscriptions.len())
                    .map(|i| Str::from(alloc::format!("m{i:04}").as_str()))
                    .collect(),
                subscriptions: subscriptions
                    .iter()
                    .map(|s| s.iter().copied().collect())
                    .collect(),
                topics: partitions
                    .iter()
                    .enumerate()
                    .map(|(i, partitions)| TopicSpec {
                        id: Uuid::from_random(i as u128),
                        partitions: *partitions,
                    })
                    .collect(),
                targets: BTreeMap::new(),
            }
        }

        /// Assigns anew; the targets of each member in order, as (topic, partition).
        pub fn assign(&mut self, assignor: ConsumerAssignor) -> Vec<Vec<(usize, i32)>> {
            let members: Vec<MemberSpec<'_>> = self
                .ids
                .iter()
                .zip(&self.subscriptions)
                .map(|(id, topics)| MemberSpec {
                    id,
                    instance_id: None,
                    topics: topics.clone(),
                    target: self.targets.get(id),
                })
                .collect();
            let targets = assign(assignor, &members, &self.topics);
            assert_eq!(targets.len(), members.len());
            drop(members);
            let index = |id: &Uuid| self.topics.iter().position(|t| t.id == *id).unwrap();
            let flat = targets
                .iter()
                .map(|target| {
                    let flat = target
                        .iter()
                        .flat_map(|(topic, p)| p.iter().map(|p| (index(topic), *p)));
                    flat.collect()
                })
                .collect();
            self.targets = self.ids.iter().cloned().zip(targets).collect();
            flat
        }

        /// Every partition that somebody may have is given once, to somebody who may have it.
        pub fn check(&self, assigned: &[Vec<(usize, i32)>]) {
            let mut given = BTreeSet::new();
            for (member, partitions) in assigned.iter().enumerate() {
                for (topic, partition) in partitions {
                    assert!(self.subscriptions[member].contains(topic));
                    assert!(given.insert((*topic, *partition)), "given twice");
                }
            }
            for (i, topic) in self.topics.iter().enumerate() {
                if self.subscriptions.iter().any(|s| s.contains(&i)) {
                    for p in 0..topic.partitions {
                        assert!(given.contains(&(i, p)), "not given: {i}-{p}");
                    }
                }
            }
        }
    }
}
