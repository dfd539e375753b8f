//! Kafka's assignor for share groups, `simple`: every partition has a member, every member has a partition where there is
//! one that it subscribes to, and a partition may have several.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use ottla_protocol::{Str, Uuid};

/// Topic → partitions.
pub(crate) type Assignment = BTreeMap<Uuid, BTreeSet<i32>>;

/// Gives all partitions of each member's topics to members.
///
/// Of each set of members with the same topics, `members / partitions` of them (rounded up) share a partition, and all
/// have about as many. Members keep what they have as far as that allows.
pub(crate) fn assign(
    members: &BTreeMap<Str, BTreeSet<Uuid>>,
    partitions: &BTreeMap<Uuid, i32>,
    current: &BTreeMap<Str, Assignment>,
) -> BTreeMap<Str, Assignment> {
    let mut target: BTreeMap<Str, Assignment> = members
        .keys()
        .map(|id| (id.clone(), Assignment::new()))
        .collect();
    let mut by_subscription: BTreeMap<&BTreeSet<Uuid>, Vec<&Str>> = BTreeMap::new();
    for (id, topics) in members {
        by_subscription.entry(topics).or_default().push(id);
    }
    for (topics, ids) in by_subscription {
        let all: Vec<(Uuid, i32)> = topics
            .iter()
            .flat_map(|id| (0..partitions.get(id).copied().unwrap_or(0)).map(|p| (*id, p)))
            .collect();
        if !all.is_empty() {
            share_out(&all, &ids, current, &mut target);
        }
    }
    target
}

/// Members of one subscription.
fn share_out(
    all: &[(Uuid, i32)],
    ids: &[&Str],
    current: &BTreeMap<Str, Assignment>,
    target: &mut BTreeMap<Str, Assignment>,
) {
    let sharing = ids.len().div_ceil(all.len());
    let per_member = (all.len() * sharing).div_ceil(ids.len());
    let mut shared_by: BTreeMap<(Uuid, i32), usize> = all.iter().map(|p| (*p, 0)).collect();
    let mut has: Vec<usize> = alloc::vec![0; ids.len()];
    let give = |target: &mut BTreeMap<Str, Assignment>,
                at: usize,
                partition: (Uuid, i32),
                has: &mut [usize]| {
        if let Some(assignment) = target.get_mut(ids[at])
            && assignment
                .entry(partition.0)
                .or_default()
                .insert(partition.1)
        {
            has[at] += 1;
            return true;
        }
        false
    };
    // What they have, as far as it is not too much.
    for (at, id) in ids.iter().enumerate() {
        let Some(had) = current.get(*id) else {
            continue;
        };
        let kept = had
            .iter()
            .flat_map(|(topic, numbers)| numbers.iter().map(|number| (*topic, *number)));
        for partition in kept {
            if let Some(shared) = shared_by.get_mut(&partition)
                && *shared < sharing
                && has[at] < per_member
                && give(target, at, partition, &mut has)
            {
                *shared += 1;
            }
        }
    }
    // A member for each partition that has none: whoever has least.
    let mut least: BTreeSet<(usize, usize)> =
        has.iter().enumerate().map(|(at, n)| (*n, at)).collect();
    let unowned: Vec<(Uuid, i32)> = all
        .iter()
        .filter(|p| shared_by.get(*p) == Some(&0))
        .copied()
        .collect();
    for partition in unowned {
        let Some((n, at)) = least.pop_first() else {
            break;
        };
        if give(target, at, partition, &mut has)
            && let Some(shared) = shared_by.get_mut(&partition)
        {
            *shared += 1;
        }
        least.insert((n + 1, at));
    }
    // A partition for each member that has none: one of whoever has most; where nobody has two, whichever is shared least.
    for at in 0..ids.len() {
        if has[at] > 0 {
            continue;
        }
        let richest = (0..ids.len()).max_by_key(|other| (has[*other], usize::MAX - other));
        if let Some(from) = richest.filter(|other| has[*other] > 1)
            && let Some(partition) = take_one(target, ids[from])
        {
            has[from] -= 1;
            give(target, at, partition, &mut has);
            continue;
        }
        let least = shared_by
            .iter()
            .min_by_key(|(partition, n)| (**n, **partition));
        let Some(partition) = least.map(|(partition, _)| *partition) else {
            break;
        };
        give(target, at, partition, &mut has);
        if let Some(shared) = shared_by.get_mut(&partition) {
            *shared += 1;
        }
    }
}

/// Takes the last partition of a member away.
fn take_one(target: &mut BTreeMap<Str, Assignment>, id: &Str) -> Option<(Uuid, i32)> {
    let assignment = target.get_mut(id)?;
    let mut topic = assignment.last_entry()?;
    let partition = (*topic.key(), topic.get_mut().pop_last()?);
    if topic.get().is_empty() {
        topic.remove();
    }
    Some(partition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use alloc::format;

    fn topic(n: u8) -> Uuid {
        Uuid([n; 16])
    }

    #[test]
    fn everything_is_shared_out_evenly_and_stays_where_it_was() {
        let mut random = Random::new(3);
        for _ in 0..300 {
            let topics: BTreeMap<Uuid, i32> = (0..1 + random.next_u64() % 3)
                .map(|n| (topic(n as u8), (random.next_u64() % 7) as i32))
                .collect();
            let subscription: BTreeSet<Uuid> = topics.keys().copied().collect();
            let all: usize = topics.values().map(|n| *n as usize).sum();
            let mut current = BTreeMap::new();
            let mut members: BTreeMap<Str, BTreeSet<Uuid>> = BTreeMap::new();
            for _ in 0..10 {
                if random.next_u64().is_multiple_of(3) && members.len() > 1 {
                    members.pop_first();
                } else {
                    let id = format!("m{:03}", random.next_u64() % 1000);
                    members.insert(id.into(), subscription.clone());
                }
                let target = assign(&members, &topics, &current);
                assert_eq!(target.len(), members.len());
                assert_eq!(assign(&members, &topics, &target), target, "settled");
                let mut owners: BTreeMap<(Uuid, i32), usize> = BTreeMap::new();
                for assignment in target.values() {
                    let n: usize = assignment.values().map(BTreeSet::len).sum();
                    assert!(all == 0 || n > 0);
                    assert!(n <= all.div_ceil(members.len()).max(1) + 1, "{n} of {all}");
                    for (topic, numbers) in assignment {
                        for number in numbers {
                            *owners.entry((*topic, *number)).or_default() += 1;
                        }
                    }
                }
                assert_eq!(owners.len(), all, "no partition without a member");
                current = target;
            }
        }
    }

    #[test]
    fn only_what_one_subscribes_to() {
        let topics = [(topic(1), 2), (topic(2), 1)].into();
        let members = [
            (Str::from("a"), [topic(1)].into()),
            (Str::from("b"), [topic(1), topic(2)].into()),
            (Str::from("c"), [topic(9)].into()),
        ]
        .into();
        let target = assign(&members, &topics, &BTreeMap::new());
        let of = |id: &str| target.get(id.as_bytes()).unwrap();
        assert_eq!(*of("a"), [(topic(1), [0, 1].into())].into());
        assert_eq!(
            *of("b"),
            [(topic(1), [0, 1].into()), (topic(2), [0].into())].into()
        );
        assert!(of("c").is_empty());
    }
}
