//! The long form: groups that never come to rest for long, and a broker that is killed in the middle of it.

use crate::{
    KINDS, PARTITIONS, SETTINGS, allow_descriptors,
    classic::Assignor,
    commit_for,
    crowd::{Crowd, IS_WITH_TWO, Kind, committed, settle},
    long_form::{Extent, Random, Rounds, control},
    member::TOPIC,
    wire::{Connection, wait_until},
    world::World,
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Static members have the first places.
const STATIC: usize = 30;

/// Sessions of the classic protocol, in milliseconds. Whoever leaves a classic group is a member in the log until the next generation
/// is complete, here as in Kafka: a broker that is killed before that waits for them until their sessions are over, and so does
/// every such round.
const SESSION_MS: i32 = 10_000;

/// Some come, some leave, some static ones come back as others.
fn stir(crowd: &mut Crowd, world: &World, random: &mut Random) {
    let much = random.below(100) as usize + 1;
    match random.below(4) {
        0 if crowd.members.len() > 450 => {
            let first =
                STATIC + random.below((crowd.members.len() - STATIC - much) as u64) as usize;
            crowd.leave(world.address(), first, much);
        }
        0 | 1 if crowd.members.len() < 600 => crowd.add(much),
        2 => {
            for _ in 0..=random.below(10) {
                let i = random.below(STATIC as u64) as usize;
                let instance = format!("instance-{i}");
                crowd.members[i].leave(world.address());
                crowd.members[i] = crowd.member(Some(&instance));
                // Another one must not come for the place before this one has it.
                wait_until("the place is taken", || {
                    crowd.turn(world.address());
                    crowd.members[i].settled().is_some()
                });
            }
        }
        _ => {
            crowd.leave(world.address(), STATIC, much.min(50));
            crowd.add(much);
        }
    }
}

#[test]
#[ignore = "the long form: cargo xtask torture groups"]
fn at_length() {
    allow_descriptors(16_384);
    let extent = Extent::of_environment(40);
    let seed = extent.seed;
    control("groups", &[REMEMBERS, IS_WITH_TWO], || {
        play(Extent::rounds(1, seed), Some("__consumer_offsets"));
    });
    play(extent, None);
}

/// What fails first if the broker has lost the groups; or it has given to some what others have, and then that does.
const REMEMBERS: &str = "members whom it knew before are known";

fn play(extent: Extent, loses: Option<&'static str>) {
    let mut random = Random(extent.seed);
    let mut rounds = Rounds::begin("groups", extent);
    let mut world = World::new(&SETTINGS);
    world.loses = loses;
    let mut connection = Connection::to(world.address()).unwrap();
    let topic = connection.create(TOPIC, PARTITIONS);
    let mut crowds: Vec<Crowd> = KINDS
        .iter()
        .map(|kind| Crowd::new(&format!("{kind:?}"), *kind, topic, PARTITIONS))
        .collect();
    for crowd in &mut crowds {
        crowd.session_ms = SESSION_MS;
        for i in 0..STATIC {
            let member = crowd.member(Some(&format!("instance-{i}")));
            crowd.members.push(member);
        }
        crowd.add(500 - STATIC);
    }
    let all = |crowds: &mut Vec<Crowd>, world: &World| {
        let took = settle(&mut crowds.iter_mut().collect::<Vec<_>>(), world);
        for crowd in crowds.iter().filter(|crowd| crowd.kind == Kind::Consumer) {
            assert_eq!(crowd.fenced(), 0, "{}: {REMEMBERS}", crowd.group);
        }
        took
    };
    let mut times = vec![all(&mut crowds, &world)];
    let (mut amid, mut members) = (0, 0);
    while let Some(round) = rounds.next() {
        for crowd in &mut crowds {
            stir(crowd, &world, &mut random);
            members += crowd.members.len();
        }
        let is_amid = random.below(2) == 0;
        if is_amid {
            amid += 1;
            for _ in 0..random.below(80) {
                for crowd in &mut crowds {
                    crowd.turn(world.address());
                }
                thread::sleep(Duration::from_millis(1));
            }
            world.kill();
        }
        let took = all(&mut crowds, &world);
        times.push(took);
        let mut connection = Connection::to(world.address()).unwrap();
        for crowd in &mut crowds {
            crowd.commit(&mut connection, round as i64);
        }
        if !is_amid {
            let state = |crowds: &[Crowd]| -> Vec<_> {
                crowds
                    .iter()
                    .map(|crowd| (crowd.rest(), crowd.holdings()))
                    .collect()
            };
            let before = state(&crowds);
            world.kill();
            all(&mut crowds, &world);
            assert!(
                state(&crowds) == before,
                "round {round}: it was at rest, and nobody may notice"
            );
        }
        let mut connection = Connection::to(world.address()).unwrap();
        for crowd in &crowds {
            assert_eq!(
                crowd.committed(&mut connection),
                Some(round as i64),
                "{}",
                crowd.group
            );
        }
        let sizes: Vec<usize> = crowds.iter().map(|crowd| crowd.members.len()).collect();
        rounds.tell(&format!(
            "{sizes:?} members at rest after {:.1} s",
            took.as_secs_f64()
        ));
    }
    times.sort();
    println!(
        "ledger: groups | {} kills | 0 | {amid} of them amid rebalances of three groups (range, cooperative-sticky, KIP-848) of {} \
         members on average, {} static each; {} rebalances, all three at rest after {:.1} s (median), {:.1} s (most); {:.0} s of the \
         broker's CPU, at most {:.0} MiB; control (offsets lost) caught; seed {}, {} s",
        rounds.done(),
        members / (rounds.done() as usize * crowds.len()),
        STATIC,
        crowds.iter().map(|crowd| crowd.rebalances).sum::<u64>(),
        times[times.len() / 2].as_secs_f64(),
        times.last().unwrap().as_secs_f64(),
        world.cpu().as_secs_f64(),
        world.most_resident() as f64 / f64::from(1 << 20),
        extent.seed,
        rounds.seconds()
    );
}

/// `offsets.retention.minutes` has minutes for its unit, and one is the least.
#[test]
#[ignore = "the long form: cargo xtask torture groups"]
fn offsets_expire_after_a_minute() {
    let settings = [
        "offsets.retention.minutes=1",
        "offsets.retention.check.interval.ms=200",
    ];
    let mut world = World::new(&[&SETTINGS[..], &settings].concat());
    let mut connection = Connection::to(world.address()).unwrap();
    let topic = connection.create(TOPIC, PARTITIONS);
    let mut crowd = Crowd::new("members", Kind::Classic(Assignor::Range), topic, PARTITIONS);
    crowd.add(1);
    crowd.settle(&world);
    crowd.commit(&mut connection, 1);
    let begun = Instant::now();
    commit_for(&mut connection, "nobody", -1);
    world.kill();
    let mut connection = Connection::to(world.address()).unwrap();
    wait_until("a minute is over", || {
        crowd.turn(world.address());
        committed(&mut connection, "nobody").is_empty()
    });
    assert!(
        begun.elapsed() >= Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        crowd.committed(&mut connection),
        Some(1),
        "its members are there"
    );
}
