//! The target assignment of a group epoch: what each member is to own.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use ottla_protocol::Str;
use ottla_record::Now;

use super::{
    ConsumerAssignor,
    assignors::{self, MemberSpec, TopicSpec},
    records::RecordKey,
    state::{ConsumerGroup, Partitions},
    topics::Topics,
};

/// The assignor that serves the group.
pub(super) fn assignor_of(
    group: &ConsumerGroup,
    assignors: &[ConsumerAssignor],
) -> ConsumerAssignor {
    let preferred = group.preferred_assignor();
    let find = |name: &Str| assignors.iter().find(|a| a.name() == name.as_str());
    // An assignor that is no longer configured is as good as none.
    preferred
        .and_then(find)
        .or(assignors.first())
        .copied()
        .unwrap_or(ConsumerAssignor::Uniform)
}

/// Computes the target of the group's epoch.
pub(super) fn compute(
    group: &mut ConsumerGroup,
    topics: &Topics,
    assignor: ConsumerAssignor,
    now: Now,
) {
    let mut numbers: BTreeMap<&Str, usize> = BTreeMap::new();
    let mut specs: Vec<TopicSpec> = Vec::new();
    for name in group.subscribed_topics() {
        if let Some(topic) = topics.by_name(name) {
            numbers.insert(name, specs.len());
            specs.push(TopicSpec {
                id: topic.id,
                partitions: topic.partitions,
            });
        }
    }
    let members: Vec<MemberSpec<'_>> = group
        .members()
        .map(|m| MemberSpec {
            id: &m.id,
            instance_id: m.instance_id.as_ref(),
            topics: group
                .subscription(m)
                .filter_map(|name| numbers.get(name).copied())
                .collect::<BTreeSet<usize>>(),
            target: group.target.get(&m.id),
        })
        .collect();
    let targets = assignors::assign(assignor, &members, &specs);
    let targets: BTreeMap<Str, Partitions> =
        members.iter().map(|m| m.id.clone()).zip(targets).collect();
    let changed: Vec<Str> = targets
        .iter()
        .filter(|(id, target)| group.target.get(*id) != Some(*target))
        .map(|(id, _)| id.clone())
        .chain(
            group
                .target
                .keys()
                .filter(|id| !targets.contains_key(*id))
                .cloned(),
        )
        .collect();
    group.target = targets;
    group.assignment_epoch = group.epoch;
    group.assignment_timestamp_ms = now.wall_ms;
    group
        .unwritten
        .extend(changed.into_iter().map(RecordKey::Target));
    group.unwritten.insert(RecordKey::TargetEpoch);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Client, alive, join};
    use crate::groups::testing::{Harness, config};
    use alloc::{format, string::String, vec::Vec};
    use std::{println, time::Instant};

    /// Not a test: prints what heartbeats of a large group cost.
    #[test]
    #[ignore]
    fn cost_of_a_large_group() {
        let mut h = Harness::new(config());
        let names: Vec<String> = (0..100).map(|i| format!("topic-{i}")).collect();
        for name in &names {
            h.topic(name, 10);
        }
        let topics: Vec<&str> = names.iter().map(String::as_str).collect();
        let start = Instant::now();
        for i in 0..500 {
            h.beat_ok(join(&format!("m{i:03}"), &topics));
        }
        let joins = start.elapsed() / 500;
        let start = Instant::now();
        for i in 0..20 {
            h.beat_ok(join(&format!("n{i:03}"), &topics));
        }
        let last_joins = start.elapsed() / 20;
        let start = Instant::now();
        for i in 0..20 {
            h.beat_ok(alive(&format!("n{i:03}"), -1));
        }
        let leaves = start.elapsed() / 20;
        h.beat_ok(join("m000", &topics));
        let topics: Vec<&'static str> =
            names.iter().map(|n| -> &str { n.clone().leak() }).collect();
        let mut clients: Vec<Client> = (0..500)
            .map(|i| Client::new(&format!("m{i:03}"), &topics))
            .collect();
        let mut rounds = 0;
        let start = Instant::now();
        while rounds < 50 {
            rounds += 1;
            for c in &mut clients {
                c.go(&mut h);
            }
        }
        let steady = start.elapsed() / (50 * 500);
        println!("500 members, 100 topics of 10 partitions, per heartbeat:");
        println!("  a join on the way to 500: {joins:?}; beyond 500: {last_joins:?}");
        println!("  a leave: {leaves:?}; heartbeats that follow: {steady:?}");
    }
}
