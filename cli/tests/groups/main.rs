//! Groups at the size and with the accidents that `ottla serve` has to bear: hundreds of members that come and go, a thousand groups,
//! static members, and a broker that is killed. Every member is a connection of its own.
//!
//! `cargo xtask torture groups` runs the long form, `at_length`.

mod at_length;
mod classic;
mod consumer;
mod crowd;
#[path = "../long_form/mod.rs"]
mod long_form;
mod member;
#[allow(dead_code)] // shared with other tests
#[path = "../served/mod.rs"]
mod served;
#[allow(dead_code)]
#[path = "../wire/mod.rs"]
mod wire;
mod world;

use classic::Assignor;
use crowd::{Crowd, Kind, committed, settle};
use member::TOPIC;
use ottla_protocol::{
    ErrorCode, Request, Response,
    messages::{
        ListGroupsRequest,
        offset_commit::{
            OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
        },
    },
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use wire::{Connection, wait_until};
use world::World;

/// Groups that don't wait for company.
const SETTINGS: [&str; 2] = [
    "group.initial.rebalance.delay.ms=0",
    "offsets.topic.num.partitions=8",
];
/// Consumers of the newer protocol whose silence is noticed soon.
const IMPATIENT: [&str; 4] = [
    "group.consumer.session.timeout.ms=10000",
    "group.consumer.min.session.timeout.ms=10000",
    "group.consumer.heartbeat.interval.ms=500",
    "group.consumer.min.heartbeat.interval.ms=500",
];
/// The session of a classic member that is going to die, in milliseconds.
const SHORT: i32 = 6000;
const PARTITIONS: i32 = 100;
const KINDS: [Kind; 3] = [
    Kind::Classic(Assignor::Range),
    Kind::Classic(Assignor::CooperativeSticky),
    Kind::Consumer,
];

fn crowd(world: &World, kind: Kind) -> Crowd {
    let mut connection = Connection::to(world.address()).unwrap();
    let topic = connection.create(TOPIC, PARTITIONS);
    Crowd::new("group", kind, topic, PARTITIONS)
}

fn told(crowd: &Crowd, what: &str, took: Duration, cpu: Duration, world: &World) {
    println!(
        "{:?}: {what}: {:.2} s, {:.2} s of the broker's CPU, {:.1} MiB resident",
        crowd.kind,
        took.as_secs_f64(),
        cpu.as_secs_f64(),
        world.resident() as f64 / f64::from(1 << 20)
    );
}

/// 500 members come and go: some at once, some with a word, some without.
fn come_and_go(kind: Kind) {
    allow_descriptors(4096);
    let mut world = World::new(&[&SETTINGS[..], &IMPATIENT].concat());
    let mut crowd = crowd(&world, kind);
    let step = |crowd: &mut Crowd, world: &World, what: &str| {
        let cpu = world.cpu();
        let took = crowd.settle(world);
        told(crowd, what, took, world.cpu() - cpu, world);
        assert_eq!(crowd.fenced(), 0, "{what}");
    };
    // Who has something to lose knows it: eager members give up all they have, the others only what moves.
    let sticky = kind != Kind::Classic(Assignor::Range);
    crowd.add(10);
    step(&mut crowd, &world, "10 members");
    let taken = crowd.taken();
    crowd.add(490);
    step(&mut crowd, &world, "490 more");
    if sticky {
        assert_eq!(crowd.taken() - taken, 90, "everybody keeps what stays");
    }
    let stay: Vec<(usize, BTreeSet<i32>)> = crowd.holdings()[100..].to_vec();
    crowd.leave(world.address(), 0, 100);
    step(&mut crowd, &world, "100 leave");
    if sticky {
        for (before, now) in stay.iter().zip(crowd.holdings()) {
            assert!(before.0 == now.0 && before.1.is_subset(&now.1));
        }
    }
    let patient = std::mem::replace(&mut crowd.session_ms, SHORT);
    crowd.add(20);
    crowd.session_ms = patient;
    crowd.add(80);
    step(&mut crowd, &world, "100 come");
    for mut member in crowd.members.drain(400..420) {
        member.die();
    }
    let died = Instant::now();
    crowd.until_size(&world, 480);
    println!(
        "{kind:?}: 20 die: known after {:.1} s",
        died.elapsed().as_secs_f64()
    );
    step(&mut crowd, &world, "what they had is others'");

    // What is acknowledged outlives the process, and nobody who is a member notices.
    let mut connection = Connection::to(world.address()).unwrap();
    crowd.commit(&mut connection, 7);
    let before = (crowd.rest(), crowd.holdings());
    world.kill();
    step(&mut crowd, &world, "the broker is killed");
    assert_eq!((crowd.rest(), crowd.holdings()), before);
    let mut connection = Connection::to(world.address()).unwrap();
    assert_eq!(crowd.committed(&mut connection), Some(7));
    crowd.commit(&mut connection, 8);
    crowd.add(1);
    step(&mut crowd, &world, "and one comes");
    assert_eq!(crowd.committed(&mut connection), Some(8));
}

#[test]
fn five_hundred_classic_members() {
    come_and_go(Kind::Classic(Assignor::Range));
}

#[test]
fn five_hundred_cooperative_members() {
    come_and_go(Kind::Classic(Assignor::CooperativeSticky));
}

#[test]
fn five_hundred_consumers_of_the_newer_protocol() {
    come_and_go(Kind::Consumer);
}

/// Static members that come back within their session, the broker killed in between or not: nobody else notices.
#[test]
fn static_members_come_back() {
    for kind in KINDS {
        let mut world = World::new(&SETTINGS);
        let mut crowd = crowd(&world, kind);
        for i in 0..30 {
            let member = crowd.member(Some(&format!("instance-{i}")));
            crowd.members.push(member);
        }
        crowd.settle(&world);
        let (rest, holdings) = (crowd.rest(), crowd.holdings());
        for killed in [false, true] {
            // Where they are in the list says which instance they are.
            let back = [0, 7, 29];
            for i in back {
                let instance = format!("instance-{i}");
                crowd.members[i].leave(world.address());
                crowd.members[i] = crowd.member(Some(&instance));
            }
            if killed {
                world.kill();
            }
            crowd.settle(&world);
            assert_eq!(crowd.rest(), rest, "{kind:?}: no rebalance");
            assert_eq!(crowd.fenced(), 0, "{kind:?}");
            for (i, now) in crowd.holdings().into_iter().enumerate() {
                let (taken, owned) = &holdings[i];
                let taken = if back.contains(&i) { &0 } else { taken };
                assert_eq!(now, (*taken, owned.clone()), "{kind:?}: instance-{i}");
            }
        }
    }
}

/// A thousand groups, of both protocols, two members each.
#[test]
fn a_thousand_groups() {
    allow_descriptors(4096);
    const GROUPS: usize = 1000;
    let mut world = World::new(&SETTINGS);
    let mut connection = Connection::to(world.address()).unwrap();
    let topic = connection.create(TOPIC, 4);
    let mut crowds: Vec<Crowd> = (0..GROUPS)
        .map(|i| Crowd::new(&format!("group-{i}"), KINDS[i % 3], topic, 4))
        .collect();
    let settle_all = |crowds: &mut Vec<Crowd>, world: &World, what: &str| {
        let cpu = world.cpu();
        let took = settle(&mut crowds.iter_mut().collect::<Vec<_>>(), world);
        println!(
            "{GROUPS} groups: {what}: {:.2} s, {:.2} s of the broker's CPU, {:.1} MiB resident",
            took.as_secs_f64(),
            (world.cpu() - cpu).as_secs_f64(),
            world.resident() as f64 / f64::from(1 << 20)
        );
        assert_eq!(crowds.iter().map(Crowd::fenced).sum::<u32>(), 0, "{what}");
    };
    crowds.iter_mut().for_each(|crowd| crowd.add(2));
    settle_all(&mut crowds, &world, "two members each");
    for (i, crowd) in crowds.iter_mut().enumerate() {
        crowd.commit(&mut connection, i as i64);
    }
    let rests: Vec<Option<i32>> = crowds.iter().map(Crowd::rest).collect();
    world.kill();
    settle_all(&mut crowds, &world, "the broker is killed");
    assert!(crowds.iter().map(Crowd::rest).eq(rests), "no rebalance");
    let mut connection = Connection::to(world.address()).unwrap();
    for (i, crowd) in crowds.iter().enumerate() {
        assert_eq!(crowd.committed(&mut connection), Some(i as i64));
    }
    let list = Request::ListGroups(ListGroupsRequest::default());
    let Response::ListGroups(answer) = connection.ask(5, &list).unwrap() else {
        panic!()
    };
    assert_eq!(answer.groups.len(), GROUPS);
    assert!(
        answer
            .groups
            .iter()
            .all(|group| group.group_state == "Stable")
    );
}

/// Offsets of a group without members are forgotten; those of one with members are not, nor those that are to be kept longer.
#[test]
fn offsets_expire() {
    let settings = [&SETTINGS[..], &["offsets.retention.check.interval.ms=100"]].concat();
    let mut world = World::new(&settings);
    let mut crowd = crowd(&world, Kind::Classic(Assignor::Range));
    crowd.add(2);
    crowd.settle(&world);
    let mut connection = Connection::to(world.address()).unwrap();
    crowd.commit(&mut connection, 1);
    // OffsetCommit 2 to 4 bring a retention of their own; that of the broker has minutes for its unit.
    let begun = Instant::now();
    commit_for(&mut connection, "short", 1500);
    commit_for(&mut connection, "long", 3_600_000);
    let still = committed(&mut connection, "short");
    // On a slow machine its time may be over already.
    if begun.elapsed() < Duration::from_millis(1500) {
        assert_eq!(still, [(0, 5)]);
    }
    world.kill();
    let mut connection = Connection::to(world.address()).unwrap();
    wait_until("it expires", || {
        committed(&mut connection, "short").is_empty()
    });
    assert!(begun.elapsed() >= Duration::from_millis(1400));
    assert_eq!(committed(&mut connection, "long"), [(0, 5)]);
    assert_eq!(crowd.committed(&mut connection), Some(1));
    let list = Request::ListGroups(ListGroupsRequest::default());
    wait_until("its group is gone", || {
        let Response::ListGroups(answer) = connection.ask(5, &list).unwrap() else {
            panic!()
        };
        answer.groups.len() == 2
    });
    // It is so on disk, too.
    world.kill();
    let mut connection = Connection::to(world.address()).unwrap();
    assert!(committed(&mut connection, "short").is_empty());
    assert_eq!(committed(&mut connection, "long"), [(0, 5)]);
}

/// Commits offset 5 of partition 0 for a group without members, to be kept for so many milliseconds.
fn commit_for(connection: &mut Connection, group: &str, retention_time_ms: i64) {
    let request = Request::OffsetCommit(OffsetCommitRequest {
        group_id: group.into(),
        retention_time_ms,
        topics: vec![OffsetCommitRequestTopic {
            name: TOPIC.into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 5,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    });
    let Response::OffsetCommit(answer) = connection.ask(4, &request).unwrap() else {
        panic!()
    };
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
}

/// Raises the soft limit of open files, which the broker inherits, as far as it may.
fn allow_descriptors(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|now| now < wanted) {
        let current = Some(maximum.map_or(wanted, |most| most.min(wanted)));
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    }
}
