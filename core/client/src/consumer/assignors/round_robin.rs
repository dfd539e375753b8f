//! `roundrobin`: all partitions of all topics are dealt to the members in a circle.

use super::{Assignment, MemberSubscription, PartitionCounts, empty_assignment};

/// Topics by name, partitions by number; a member that doesn't subscribe to the topic is passed over.
pub(super) fn assign(members: &[&MemberSubscription], partitions: &PartitionCounts) -> Assignment {
    let mut assignment = empty_assignment(members);
    let mut turn = 0;
    for (topic, &count) in partitions {
        if !members.iter().any(|m| m.topics.contains(topic)) {
            continue;
        }
        for partition in 0..count {
            while !members[turn % members.len()].topics.contains(topic) {
                turn += 1;
            }
            let member = members[turn % members.len()];
            if let Some(got) = assignment.get_mut(&member.member_id) {
                got.insert((topic.clone(), partition));
            }
            turn += 1;
        }
    }
    assignment
}

#[cfg(test)]
mod tests {
    use super::super::Assignor::RoundRobin;
    use super::super::tests::{counts, member, shown};

    #[test]
    fn same_subscriptions() {
        let members = [member("C0", &["a", "b"]), member("C1", &["a", "b"])];
        let got = RoundRobin.assign(&members, &counts(&[("a", 3), ("b", 3)]));
        assert_eq!(shown(&got, "C0"), "a0 a2 b1");
        assert_eq!(shown(&got, "C1"), "a1 b0 b2");
    }

    #[test]
    fn different_subscriptions() {
        // The example of Kafka's own documentation.
        let members = [
            member("C0", &["t0"]),
            member("C1", &["t0", "t1"]),
            member("C2", &["t0", "t1", "t2"]),
        ];
        let got = RoundRobin.assign(&members, &counts(&[("t0", 1), ("t1", 2), ("t2", 3)]));
        assert_eq!(shown(&got, "C0"), "t00");
        assert_eq!(shown(&got, "C1"), "t10");
        assert_eq!(shown(&got, "C2"), "t11 t20 t21 t22");
    }

    #[test]
    fn nobody_subscribes() {
        let got = RoundRobin.assign(&[member("C0", &["a"])], &counts(&[("b", 3)]));
        assert_eq!(shown(&got, "C0"), "");
        assert!(RoundRobin.assign(&[], &counts(&[("b", 3)])).is_empty());
    }
}
