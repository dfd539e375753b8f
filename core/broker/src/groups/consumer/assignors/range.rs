//! `range`: the partitions of each topic in contiguous ranges, in the order of the members: static ones by instance id,
//! then the others by member id. The first ones get one more where it doesn't come out even.

use alloc::{vec, vec::Vec};

use super::{MemberSpec, TopicSpec};
use crate::groups::consumer::state::Partitions;

pub(super) fn assign(members: &[MemberSpec<'_>], topics: &[TopicSpec]) -> Vec<Partitions> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&i| {
        let m = &members[i];
        (m.instance_id.is_none(), m.instance_id, m.id)
    });
    let mut targets = vec![Partitions::new(); members.len()];
    for (number, topic) in topics.iter().enumerate() {
        let subscribers: Vec<usize> = order
            .iter()
            .copied()
            .filter(|&i| members[i].topics.contains(&number))
            .collect();
        let Ok(count) = i32::try_from(subscribers.len()) else {
            continue;
        };
        if count == 0 {
            continue;
        }
        let (quota, extra) = (topic.partitions / count, topic.partitions % count);
        let mut next = 0;
        for (rank, &member) in (0..).zip(&subscribers) {
            let end = next + quota + i32::from(rank < extra);
            if next < end {
                targets[member].insert(topic.id, (next..end).collect());
            }
            next = end;
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::super::{ConsumerAssignor::Range, testing::Group};
    use super::*;
    use ottla_protocol::{Str, Uuid};

    #[test]
    fn ranges_of_each_topic() {
        let mut g = Group::new(&[3, 3], &[&[0, 1], &[0, 1]]);
        let assigned = g.assign(Range);
        g.check(&assigned);
        assert_eq!(assigned[0], [(0, 0), (0, 1), (1, 0), (1, 1)]);
        assert_eq!(assigned[1], [(0, 2), (1, 2)]);
    }

    #[test]
    fn only_to_subscribers_and_some_get_nothing() {
        let mut g = Group::new(&[2, 1, 4], &[&[0], &[0, 1], &[0]]);
        let assigned = g.assign(Range);
        g.check(&assigned);
        assert_eq!(assigned[0], [(0, 0)]);
        assert_eq!(assigned[1], [(0, 1), (1, 0)]);
        assert!(assigned[2].is_empty());
    }

    #[test]
    fn static_members_come_first() {
        let (a, b, instance) = (Str::from("a"), Str::from("b"), Str::from("z"));
        let member = |id, instance_id| MemberSpec {
            id,
            instance_id,
            topics: [0].into(),
            target: None,
        };
        let members = [member(&a, None), member(&b, Some(&instance))];
        let topic = TopicSpec {
            id: Uuid::from_random(1),
            partitions: 1,
        };
        let targets = assign(&members, &[topic]);
        assert!(targets[0].is_empty() && !targets[1].is_empty());
    }
}
