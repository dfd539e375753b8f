//! `uniform`: loads as even as subscriptions allow, and no partition moves that need not.

use alloc::{collections::BTreeSet, vec, vec::Vec};

use super::{MemberSpec, TopicSpec};
use crate::groups::consumer::state::Partitions;

pub(super) fn assign(members: &[MemberSpec<'_>], topics: &[TopicSpec]) -> Vec<Partitions> {
    let same = members
        .windows(2)
        .all(|pair| pair[0].topics == pair[1].topics);
    let owners = if same {
        homogeneous(members, topics)
    } else {
        heterogeneous(members, topics)
    };
    let mut targets = vec![Partitions::new(); members.len()];
    for (topic, owners) in topics.iter().zip(owners) {
        for (partition, owner) in (0..).zip(owners) {
            if let Some(owner) = owner {
                targets[owner]
                    .entry(topic.id)
                    .or_default()
                    .insert(partition);
            }
        }
    }
    targets
}

/// Who is to have each partition of each topic.
type Owners = Vec<Vec<Option<usize>>>;

/// Every partition to who has it now, as long as that member may have it and `keep` lets it.
fn sticky(
    members: &[MemberSpec<'_>],
    topics: &[TopicSpec],
    mut keep: impl FnMut(usize) -> bool,
) -> Owners {
    let mut owners: Owners = topics
        .iter()
        .map(|t| vec![None; usize::try_from(t.partitions).unwrap_or(0)])
        .collect();
    for (number, member) in members.iter().enumerate() {
        let Some(target) = member.target else {
            continue;
        };
        for &topic in &member.topics {
            let (Some(spec), Some(owners)) = (topics.get(topic), owners.get_mut(topic)) else {
                continue;
            };
            for &partition in target.get(&spec.id).into_iter().flatten() {
                let Some(owner) = usize::try_from(partition)
                    .ok()
                    .and_then(|p| owners.get_mut(p))
                else {
                    continue;
                };
                if owner.is_none() && keep(number) {
                    *owner = Some(number);
                }
            }
        }
    }
    owners
}

/// All members subscribe to the same topics: everybody gets the same number, some one more.
fn homogeneous(members: &[MemberSpec<'_>], topics: &[TopicSpec]) -> Owners {
    let subscribed = members.first().map(|m| &m.topics);
    let total: usize = subscribed
        .into_iter()
        .flatten()
        .filter_map(|&t| usize::try_from(topics.get(t)?.partitions).ok())
        .sum();
    if members.is_empty() {
        return sticky(members, topics, |_| false);
    }
    let quota = total / members.len();
    let mut extra = total % members.len();
    let mut loads = vec![0usize; members.len()];
    let mut owners = sticky(members, topics, |member| {
        let more = loads[member] == quota && extra > 0;
        if loads[member] < quota || more {
            loads[member] += 1;
            extra -= usize::from(more);
            true
        } else {
            false
        }
    });
    // In turn, so that everybody gets some of each topic. Those that have the quota get one more only when nobody is left
    // below it.
    let mut below: Vec<usize> = (0..members.len()).filter(|&m| loads[m] < quota).collect();
    let mut at_quota: Vec<usize> = Vec::new();
    let mut at_quota_known = false;
    let mut turn = 0;
    for &topic in subscribed.into_iter().flatten() {
        let Some(owners) = owners.get_mut(topic) else {
            continue;
        };
        for owner in owners.iter_mut().filter(|o| o.is_none()) {
            if below.is_empty() {
                if !at_quota_known {
                    at_quota_known = true;
                    at_quota = (0..members.len())
                        .rev()
                        .filter(|&m| loads[m] == quota)
                        .collect();
                }
                let Some(member) = at_quota.pop() else {
                    continue;
                };
                loads[member] += 1;
                *owner = Some(member);
                continue;
            }
            turn %= below.len();
            let member = below[turn];
            loads[member] += 1;
            *owner = Some(member);
            if loads[member] == quota {
                below.remove(turn);
            } else {
                turn += 1;
            }
        }
    }
    owners
}

/// Members subscribe to different topics: what is free goes to whoever has least, topics with few subscribers first; then
/// partitions move from who has more to who has less, as long as that makes loads more even.
fn heterogeneous(members: &[MemberSpec<'_>], topics: &[TopicSpec]) -> Owners {
    let mut loads = vec![0usize; members.len()];
    let mut owners = sticky(members, topics, |member| {
        loads[member] += 1;
        true
    });
    let mut subscribers: Vec<Vec<usize>> = vec![Vec::new(); topics.len()];
    for (number, member) in members.iter().enumerate() {
        for &topic in &member.topics {
            if let Some(subscribers) = subscribers.get_mut(topic) {
                subscribers.push(number);
            }
        }
    }
    let mut order: Vec<usize> = (0..topics.len())
        .filter(|&t| !subscribers[t].is_empty())
        .collect();
    order.sort_by_key(|&t| (subscribers[t].len(), t));
    for &topic in &order {
        let mut by_load = by_load(&subscribers[topic], &loads);
        for owner in owners[topic].iter_mut().filter(|o| o.is_none()) {
            if let Some((load, member)) = by_load.pop_first() {
                *owner = Some(member);
                loads[member] += 1;
                by_load.insert((load + 1, member));
            }
        }
    }
    // Each move lowers the sum of the squares of the loads, so this ends.
    loop {
        let mut moved = false;
        for &topic in &order {
            moved |= level(&mut owners[topic], &subscribers[topic], &mut loads);
        }
        if !moved {
            return owners;
        }
    }
}

fn by_load(members: &[usize], loads: &[usize]) -> BTreeSet<(usize, usize)> {
    members.iter().map(|&m| (loads[m], m)).collect()
}

/// Moves partitions of one topic until no move makes the loads of its subscribers more even. Whether any moved.
fn level(owners: &mut [Option<usize>], subscribers: &[usize], loads: &mut [usize]) -> bool {
    let mut by_load = by_load(subscribers, loads);
    let mut held: Vec<Vec<usize>> = vec![Vec::new(); loads.len()];
    for (partition, owner) in owners.iter().enumerate() {
        if let Some(owner) = owner {
            held[*owner].push(partition);
        }
    }
    let mut givers: BTreeSet<(usize, usize)> = subscribers
        .iter()
        .filter(|&&m| !held[m].is_empty())
        .map(|&m| (loads[m], m))
        .collect();
    let mut moved = false;
    while let (Some(&(most, from)), Some(&(least, to))) = (givers.last(), by_load.first()) {
        if most < least + 2 {
            break;
        }
        let Some(partition) = held[from].pop() else {
            givers.remove(&(most, from));
            continue;
        };
        moved = true;
        owners[partition] = Some(to);
        held[to].push(partition);
        for (member, before, after) in [(from, most, most - 1), (to, least, least + 1)] {
            by_load.remove(&(before, member));
            by_load.insert((after, member));
            givers.remove(&(before, member));
            if !held[member].is_empty() {
                givers.insert((after, member));
            }
            loads[member] = after;
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::super::{ConsumerAssignor::Uniform, testing::Group};
    use super::*;
    use crate::random::Random;

    fn loads(assigned: &[Vec<(usize, i32)>]) -> Vec<usize> {
        assigned.iter().map(Vec::len).collect()
    }

    fn moved(before: &[Vec<(usize, i32)>], after: &[Vec<(usize, i32)>]) -> usize {
        let pairs = before.iter().zip(after);
        pairs
            .map(|(b, a)| b.iter().filter(|p| !a.contains(p)).count())
            .sum()
    }

    #[test]
    fn everybody_gets_the_same() {
        let mut g = Group::new(&[3, 3], &[&[0, 1], &[0, 1], &[0, 1], &[0, 1]]);
        let assigned = g.assign(Uniform);
        g.check(&assigned);
        assert_eq!(loads(&assigned), [2, 2, 1, 1]);
        assert_eq!(g.assign(Uniform), assigned, "nothing moves");
    }

    #[test]
    fn a_member_comes_and_goes() {
        let mut g = Group::new(&[10], &[&[0], &[0]]);
        let two = g.assign(Uniform);
        assert_eq!(loads(&two), [5, 5]);
        g.ids.push("m9999".into());
        g.subscriptions.push([0].into());
        let three = g.assign(Uniform);
        g.check(&three);
        assert_eq!(loads(&three), [4, 3, 3]);
        assert_eq!(moved(&two, &three), 3, "no more than must");
        g.ids.remove(1);
        g.subscriptions.remove(1);
        let again = g.assign(Uniform);
        g.check(&again);
        assert_eq!(loads(&again), [5, 5]);
        assert!(three[0].iter().all(|p| again[0].contains(p)));
        assert!(three[2].iter().all(|p| again[1].contains(p)));
    }

    #[test]
    fn fewer_partitions_than_members() {
        let mut g = Group::new(&[2], &[&[0], &[0], &[0]]);
        let assigned = g.assign(Uniform);
        g.check(&assigned);
        assert_eq!(loads(&assigned), [1, 1, 0]);
    }

    #[test]
    fn nobody_and_nothing() {
        let mut g = Group::new(&[2], &[]);
        assert!(g.assign(Uniform).is_empty());
        let mut g = Group::new(&[], &[&[], &[]]);
        assert_eq!(loads(&g.assign(Uniform)), [0, 0]);
    }

    #[test]
    fn different_subscriptions() {
        let mut g = Group::new(&[6, 2], &[&[0], &[0, 1], &[1]]);
        let assigned = g.assign(Uniform);
        g.check(&assigned);
        assert_eq!(loads(&assigned), [3, 3, 2]);
        // The one that may have both gets none of what the last one may have.
        let mut g = Group::new(&[4, 1], &[&[0, 1], &[0, 1], &[0]]);
        let before = g.assign(Uniform);
        g.check(&before);
        g.subscriptions[2] = [0, 1].into();
        let after = g.assign(Uniform);
        g.check(&after);
        assert!(moved(&before, &after) <= 1);
    }

    /// No single move could make loads more even, and as long as nothing changes nothing moves.
    #[test]
    fn at_random() {
        let mut random = Random::new(7);
        let mut below = |n: u64| (random.next_u64() % n) as usize;
        for _ in 0..300 {
            let partitions: Vec<i32> = (0..1 + below(6)).map(|_| below(12) as i32).collect();
            let same = below(2) == 0;
            let subscriptions: Vec<Vec<usize>> = (0..1 + below(8))
                .map(|_| {
                    let topics = 0..partitions.len();
                    topics.filter(|_| same || below(3) > 0).collect()
                })
                .collect();
            let slices: Vec<&[usize]> = subscriptions.iter().map(Vec::as_slice).collect();
            let mut g = Group::new(&partitions, &slices);
            for _ in 0..4 {
                let assigned = g.assign(Uniform);
                g.check(&assigned);
                for (from, partitions) in assigned.iter().enumerate() {
                    for (topic, _) in partitions {
                        for to in 0..assigned.len() {
                            if g.subscriptions[to].contains(topic) {
                                assert!(assigned[from].len() < assigned[to].len() + 2);
                            }
                        }
                    }
                }
                assert_eq!(g.assign(Uniform), assigned, "nothing moves");
                // Somebody goes, somebody comes.
                if g.ids.len() > 1 && below(2) == 0 {
                    let gone = below(g.ids.len() as u64);
                    g.ids.remove(gone);
                    g.subscriptions.remove(gone);
                } else {
                    let id = alloc::format!("n{}", below(1 << 40));
                    g.ids.push(id.as_str().into());
                    let subscription = g.subscriptions[0].clone();
                    g.subscriptions.push(subscription);
                }
            }
        }
    }
}
