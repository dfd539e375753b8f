//! `range`: each topic's partitions are cut into one stretch per subscribed member.

use super::{Assignment, MemberSubscription, PartitionCounts, empty_assignment};
use alloc::vec::Vec;

/// The first `partitions % members` members get one partition more than the rest.
pub(super) fn assign(members: &[&MemberSubscription], partitions: &PartitionCounts) -> Assignment {
    let mut assignment = empty_assignment(members);
    for (topic, &count) in partitions {
        let subscribed: Vec<_> = members
            .iter()
            .filter(|m| m.topics.contains(topic))
            .collect();
        let takers = (subscribed.len() as i32).max(1);
        let mut next = 0;
        for (i, member) in subscribed.into_iter().enumerate() {
            let share = count / takers + i32::from((i as i32) < count % takers);
            if let Some(got) = assignment.get_mut(&member.member_id) {
                got.extend((next..next + share).map(|p| (topic.clone(), p)));
            }
            next += share;
        }
    }
    assignment
}

#[cfg(test)]
mod tests {
    use super::super::Assignor::Range;
    use super::super::tests::{counts, member, shown};

    #[test]
    fn uneven_counts() {
        let members = [member("C0", &["a", "b"]), member("C1", &["a", "b"])];
        let got = Range.assign(&members, &counts(&[("a", 3), ("b", 3)]));
        assert_eq!(shown(&got, "C0"), "a0 a1 b0 b1");
        assert_eq!(shown(&got, "C1"), "a2 b2");

        let members = [
            member("1", &["t"]),
            member("2", &["t"]),
            member("3", &["t"]),
        ];
        let got = Range.assign(&members, &counts(&[("t", 8)]));
        assert_eq!(shown(&got, "1"), "t0 t1 t2");
        assert_eq!(shown(&got, "2"), "t3 t4 t5");
        assert_eq!(shown(&got, "3"), "t6 t7");
    }

    #[test]
    fn equal_topics_are_co_partitioned() {
        let members = [
            member("x", &["a", "b"]),
            member("y", &["a", "b"]),
            member("z", &["a", "b"]),
        ];
        let got = Range.assign(&members, &counts(&[("a", 6), ("b", 6)]));
        assert_eq!(shown(&got, "x"), "a0 a1 b0 b1");
        assert_eq!(shown(&got, "y"), "a2 a3 b2 b3");
        assert_eq!(shown(&got, "z"), "a4 a5 b4 b5");
    }

    #[test]
    fn more_members_than_partitions_and_mixed_subscriptions() {
        let members = [
            member("1", &["t"]),
            member("2", &["t", "u"]),
            member("3", &["u", "gone"]),
        ];
        let got = Range.assign(&members, &counts(&[("t", 1), ("u", 3)]));
        assert_eq!(shown(&got, "1"), "t0");
        assert_eq!(shown(&got, "2"), "u0 u1");
        assert_eq!(shown(&got, "3"), "u2");
        assert!(Range.assign(&[], &counts(&[("t", 1)])).is_empty());
    }
}
