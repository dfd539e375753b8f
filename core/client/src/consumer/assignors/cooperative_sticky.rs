//! `cooperative-sticky`: balanced, with as few moves as that takes, and no partition changes hands in one step.
//!
//! A partition that should move is left out of this generation's assignment altogether: its owner sees that it lost it,
//! revokes it and rejoins, and the next generation gives it to its new owner (KIP-429).

use super::{Assignment, MemberSubscription, PartitionCounts, TopicPartition};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use ottla_protocol::Str;

/// The balanced target, less the partitions that another member still holds.
pub(super) fn assign(members: &[&MemberSubscription], partitions: &PartitionCounts) -> Assignment {
    let mut plan = Plan::from_owned(members, partitions);
    plan.deal_out_the_unowned(partitions);
    plan.balance();
    let mut assignment: Assignment = BTreeMap::new();
    for (member, owned) in members.iter().zip(plan.owned) {
        let mut got = BTreeSet::new();
        for (topic, numbers) in owned {
            got.extend(numbers.into_iter().map(|p| (topic.clone(), p)));
        }
        assignment.insert(member.member_id.clone(), got);
    }
    withhold_until_revoked(members, &mut assignment);
    assignment
}

/// Who shall have what, members by their index.
struct Plan<'a> {
    members: &'a [&'a MemberSubscription],
    owned: Vec<BTreeMap<Str, BTreeSet<i32>>>,
    load: Vec<usize>,
    subscribers: BTreeMap<Str, Vec<usize>>,
}

impl<'a> Plan<'a> {
    /// Everybody keeps what it owns and may keep. Of several claims to a partition that of the newest generation wins;
    /// between claims of one generation nobody can tell, so that the partition counts as unowned.
    fn from_owned(members: &'a [&'a MemberSubscription], partitions: &PartitionCounts) -> Self {
        let mut plan = Plan {
            members,
            owned: vec![BTreeMap::new(); members.len()],
            load: vec![0; members.len()],
            subscribers: BTreeMap::new(),
        };
        for topic in partitions.keys() {
            let subscribed = (0..members.len()).filter(|&i| members[i].topics.contains(topic));
            plan.subscribers.insert(topic.clone(), subscribed.collect());
        }
        let mut claims: BTreeMap<&TopicPartition, (i32, Option<usize>)> = BTreeMap::new();
        for (i, member) in members.iter().enumerate() {
            for claimed in &member.owned {
                let claim = claims
                    .entry(claimed)
                    .or_insert((member.generation, Some(i)));
                if claim.1 == Some(i) || claim.0 > member.generation {
                    continue;
                }
                *claim = match claim.0 == member.generation {
                    true => (claim.0, None),
                    false => (member.generation, Some(i)),
                };
            }
        }
        for (claimed, (_, owner)) in claims {
            let Some(owner) = owner else { continue };
            let exists = partitions
                .get(&claimed.0)
                .is_some_and(|n| (0..*n).contains(&claimed.1));
            if exists && members[owner].topics.contains(&claimed.0) {
                plan.give(owner, &claimed.0, claimed.1);
            }
        }
        plan
    }

    fn give(&mut self, member: usize, topic: &Str, partition: i32) {
        self.owned[member]
            .entry(topic.clone())
            .or_default()
            .insert(partition);
        self.load[member] += 1;
    }

    fn take(&mut self, member: usize, topic: &Str, partition: i32) {
        if let Some(of_topic) = self.owned[member].get_mut(topic) {
            of_topic.remove(&partition);
            if of_topic.is_empty() {
                self.owned[member].remove(topic);
            }
            self.load[member] -= 1;
        }
    }

    /// Each unowned partition goes to the least loaded member that may have it; those that few may have come first.
    fn deal_out_the_unowned(&mut self, partitions: &PartitionCounts) {
        let mut topics: Vec<(usize, &Str, i32)> = partitions
            .iter()
            .map(|(t, &n)| (self.subscribers[t].len(), t, n))
            .collect();
        topics.retain(|&(takers, ..)| takers > 0);
        topics.sort();
        for (_, topic, count) in topics {
            let takers = self.subscribers[topic].clone();
            let mut unowned: BTreeSet<i32> = (0..count).collect();
            for &member in &takers {
                if let Some(of_topic) = self.owned[member].get(topic) {
                    unowned.retain(|p| !of_topic.contains(p));
                }
            }
            let mut by_load: BTreeSet<(usize, usize)> = takers
                .iter()
                .map(|&member| (self.load[member], member))
                .collect();
            for partition in unowned {
                if let Some((load, member)) = by_load.pop_first() {
                    self.give(member, topic, partition);
                    by_load.insert((load + 1, member));
                }
            }
        }
    }

    /// Moves partitions from fuller to emptier members while one of two has at least two fewer and may have one of the
    /// other's. Every move lessens the sum of the squares of the loads, so that it ends.
    fn balance(&mut self) {
        loop {
            let mut fullest: Vec<usize> = (0..self.members.len()).collect();
            fullest.sort_by_key(|&member| (core::cmp::Reverse(self.load[member]), member));
            // One at a time, always from the fullest that can give: draining one member first would move more in all.
            let next = fullest
                .into_iter()
                .find_map(|from| self.next_move(from).map(|to| (from, to)));
            let Some((from, (to, topic, partition))) = next else {
                return;
            };
            self.take(from, &topic, partition);
            self.give(to, &topic, partition);
        }
    }

    /// The best partition to take from `from`: to the emptiest member, and of those it may have one that it or nobody
    /// else held before.
    fn next_move(&self, from: usize) -> Option<(usize, Str, i32)> {
        let mut best: Option<(usize, usize, &Str)> = None;
        for topic in self.owned[from].keys() {
            let emptiest = self.subscribers[topic]
                .iter()
                .map(|&member| (self.load[member], member))
                .min();
            let Some((load, to)) = emptiest else { continue };
            if load + 2 <= self.load[from] && best.is_none_or(|b| (load, to) < (b.0, b.1)) {
                best = Some((load, to, topic));
            }
        }
        let (_, to, _) = best?;
        let candidates = self.owned[from]
            .iter()
            .filter(|(topic, _)| self.members[to].topics.contains(*topic));
        let candidates = candidates
            .flat_map(|(topic, of_topic)| of_topic.iter().map(move |&p| (topic.clone(), p)));
        let rank = |candidate: &TopicPartition| {
            if self.members[to].owned.contains(candidate) {
                0
            } else if !self.members[from].owned.contains(candidate) {
                1
            } else {
                2
            }
        };
        // The last of its kind: the remaining ones stay the low numbers, as with a fresh assignment.
        let (topic, partition) =
            candidates.min_by_key(|c| (rank(c), core::cmp::Reverse(c.clone())))?;
        Some((to, topic, partition))
    }
}

/// Removes what a member would newly get while another still claims to own it.
fn withhold_until_revoked(members: &[&MemberSubscription], assignment: &mut Assignment) {
    let mut revoked: BTreeSet<TopicPartition> = BTreeSet::new();
    for member in members {
        if let Some(got) = assignment.get(&member.member_id) {
            revoked.extend(member.owned.difference(got).cloned());
        }
    }
    for member in members {
        if let Some(got) = assignment.get_mut(&member.member_id) {
            got.retain(|partition| {
                member.owned.contains(partition) || !revoked.contains(partition)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Assignor::CooperativeSticky;
    use super::super::tests::{counts, member, shown};
    use super::super::{Assignment, MemberSubscription, PartitionCounts};
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use std::format;

    /// The members after they took their assignment.
    fn after(
        members: &[MemberSubscription],
        assignment: &Assignment,
        generation: i32,
    ) -> Vec<MemberSubscription> {
        let owned = |m: &MemberSubscription| assignment[&m.member_id].clone();
        members
            .iter()
            .map(|m| MemberSubscription {
                owned: owned(m),
                generation,
                ..m.clone()
            })
            .collect()
    }

    #[test]
    fn a_second_member_gets_its_half_in_two_steps() {
        let topics = counts(&[("t", 4)]);
        let alone = [member("a", &["t"])];
        let first = CooperativeSticky.assign(&alone, &topics);
        assert_eq!(shown(&first, "a"), "t0 t1 t2 t3");

        let mut both = after(&alone, &first, 1);
        both.push(member("b", &["t"]));
        let second = CooperativeSticky.assign(&both, &topics);
        assert_eq!(shown(&second, "a"), "t0 t1");
        assert_eq!(
            shown(&second, "b"),
            "",
            "still a's until a has given them up"
        );

        let third = CooperativeSticky.assign(&after(&both, &second, 2), &topics);
        assert_eq!(shown(&third, "a"), "t0 t1");
        assert_eq!(shown(&third, "b"), "t2 t3");
    }

    #[test]
    fn the_newer_generations_claim_wins_and_equal_ones_cancel() {
        let topics = counts(&[("t", 2)]);
        let mut old = member("a", &["t"]);
        let mut new = member("b", &["t"]);
        (old.owned, old.generation) = (BTreeSet::from([("t".into(), 0), ("t".into(), 1)]), 1);
        (new.owned, new.generation) = (BTreeSet::from([("t".into(), 1)]), 2);
        let got = CooperativeSticky.assign(&[old.clone(), new.clone()], &topics);
        assert_eq!(
            (shown(&got, "a").as_str(), shown(&got, "b").as_str()),
            ("t0", "t1")
        );
        old.generation = 2;
        let got = CooperativeSticky.assign(&[old, new], &topics);
        assert_eq!(got.values().map(|p| p.len()).sum::<usize>(), 2);
    }

    /// Members with any of four topics each, and the topics' partition counts.
    fn groups() -> impl Strategy<Value = (Vec<MemberSubscription>, PartitionCounts)> {
        let members = prop::collection::vec(1u8..16, 1..7);
        (members, prop::collection::vec(0i32..12, 4)).prop_map(|(subscriptions, sizes)| {
            let names = ["p", "q", "r", "s"];
            let topics = |mask: u8| {
                names
                    .iter()
                    .enumerate()
                    .filter(move |(i, _)| mask & 1 << i != 0)
                    .map(|(_, &t)| t)
            };
            let members = subscriptions.iter().enumerate();
            let members = members
                .map(|(i, &mask)| member(&format!("m{i}"), &topics(mask).collect::<Vec<_>>()));
            (
                members.collect(),
                names
                    .iter()
                    .zip(sizes)
                    .map(|(&t, n)| (t.into(), n))
                    .collect(),
            )
        })
    }

    fn check_complete_and_balanced(
        members: &[MemberSubscription],
        topics: &PartitionCounts,
        got: &Assignment,
    ) {
        for (topic, &count) in topics {
            let wanted = members.iter().any(|m| m.topics.contains(topic));
            for p in 0..count {
                let owners = got
                    .values()
                    .filter(|owned| owned.contains(&(topic.clone(), p)))
                    .count();
                assert_eq!(owners, usize::from(wanted), "{topic} {p}");
            }
        }
        for full in members {
            for empty in members {
                let (more, fewer) = (&got[&full.member_id], &got[&empty.member_id]);
                assert!(more.iter().all(|(topic, _)| full.topics.contains(topic)));
                if fewer.len() + 2 <= more.len() {
                    assert!(
                        more.iter().all(|(topic, _)| !empty.topics.contains(topic)),
                        "{got:?}"
                    );
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn settles_balanced_after_members_come_and_go((members, topics) in groups(), gone in 0usize..6, new in 1u8..16) {
            let first = CooperativeSticky.assign(&members, &topics);
            check_complete_and_balanced(&members, &topics, &first);
            // Asked again it moves nothing.
            let mut members = after(&members, &first, 1);
            prop_assert_eq!(&CooperativeSticky.assign(&members, &topics), &first);

            if members.len() > 1 {
                members.remove(gone % members.len());
            }
            let all: Vec<&str> = ["p", "q", "r", "s"].into_iter().enumerate().filter(|(i, _)| new & 1 << i != 0).map(|(_, t)| t).collect();
            members.push(member("new", &all));
            let second = CooperativeSticky.assign(&members, &topics);
            let mut seen = BTreeSet::new();
            for m in &members {
                for p in &second[&m.member_id] {
                    prop_assert!(seen.insert(p.clone()), "two owners");
                    let held = members.iter().any(|other| other.member_id != m.member_id && other.owned.contains(p));
                    prop_assert!(!held, "taken before it was given up");
                }
            }
            // With subscriptions that differ, one hand-over can make room for another; it ends within a few rounds.
            let mut last = second;
            for round in 2..8 {
                members = after(&members, &last, round);
                let next = CooperativeSticky.assign(&members, &topics);
                if next == last {
                    break;
                }
                last = next;
            }
            check_complete_and_balanced(&members, &topics, &last);
        }

        #[test]
        fn equal_subscriptions_move_no_more_than_needed(n in 1i32..40, before in 1usize..8) {
            let topics = counts(&[("t", n)]);
            let members: Vec<_> = (0..before).map(|i| member(&format!("m{i}"), &["t"])).collect();
            let first = CooperativeSticky.assign(&members, &topics);
            let mut members = after(&members, &first, 1);
            members.push(member("x", &["t"]));
            let kept: usize = CooperativeSticky.assign(&members, &topics).values().map(|p| p.len()).sum();
            prop_assert_eq!(kept, n as usize - n as usize / (before + 1));
        }
    }
}
