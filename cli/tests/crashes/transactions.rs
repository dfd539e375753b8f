//! Transactions that are under way when the broker is killed: what was decided is done, all of it; what was not never is.

use crate::{
    long_form::{Extent, Random, Rounds, control},
    wire::{Connection, of_producer, offset_of, produce, wait_until},
    world::World,
};
use ottla_protocol::{
    ErrorCode, Request, Response,
    messages::{
        AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest,
        TxnOffsetCommitRequest,
        add_partitions_to_txn::AddPartitionsToTxnTopic,
        txn_offset_commit::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic},
    },
};
use ottla_record::FinishOptions;
use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

const TOPIC: &str = "t";
const PARTITIONS: [i32; 2] = [0, 1];

/// A transactional producer, of before KIP-890 (version 1) or with it.
struct Producer {
    name: String,
    /// With KIP-890: partitions are added by what is sent to them.
    v2: bool,
    connection: Connection,
    id: i64,
    epoch: i16,
    sequences: BTreeMap<i32, i32>,
}

impl Producer {
    /// Begins, which ends what another instance left.
    fn start(world: &World, name: &str, v2: bool, timeout_ms: i32) -> Self {
        let mut producer = Self {
            name: name.into(),
            v2,
            connection: Connection::to(world.address()).unwrap(),
            id: -1,
            epoch: -1,
            sequences: BTreeMap::new(),
        };
        let request = Request::InitProducerId(InitProducerIdRequest {
            transactional_id: Some(name.into()),
            transaction_timeout_ms: timeout_ms,
            ..Default::default()
        });
        wait_until("its producer id", || {
            let Response::InitProducerId(answer) = producer.ask(4, &request) else {
                panic!()
            };
            (producer.id, producer.epoch) = (answer.producer_id, answer.producer_epoch);
            match answer.error_code {
                ErrorCode::NONE => true,
                // What was decided before is still being done.
                ErrorCode::CONCURRENT_TRANSACTIONS => false,
                other => panic!("{other:?}"),
            }
        });
        producer
    }

    fn ask(&mut self, version: i16, request: &Request) -> Response {
        self.connection.ask(version, request).unwrap()
    }

    fn group(&self) -> String {
        format!("group-of-{}", self.name)
    }

    /// A value in both partitions, and an offset of its group: all in one transaction.
    fn work(&mut self, value: &str, offset: i64) {
        if !self.v2 {
            let request = AddPartitionsToTxnRequest {
                v3_and_below_transactional_id: self.name.as_str().into(),
                v3_and_below_producer_id: self.id,
                v3_and_below_producer_epoch: self.epoch,
                v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                    name: TOPIC.into(),
                    partitions: PARTITIONS.to_vec(),
                }],
                ..Default::default()
            };
            let answer = self.ask(3, &Request::AddPartitionsToTxn(request));
            let Response::AddPartitionsToTxn(answer) = answer else {
                panic!()
            };
            for partition in &answer.results_by_topic_v3_and_below[0].results_by_partition {
                assert_eq!(partition.partition_error_code, ErrorCode::NONE);
            }
            let request = AddOffsetsToTxnRequest {
                transactional_id: self.name.as_str().into(),
                producer_id: self.id,
                producer_epoch: self.epoch,
                group_id: self.group().as_str().into(),
            };
            let answer = self.ask(3, &Request::AddOffsetsToTxn(request));
            let Response::AddOffsetsToTxn(answer) = answer else {
                panic!()
            };
            assert_eq!(answer.error_code, ErrorCode::NONE);
        }
        for partition in PARTITIONS {
            let sequence = self.sequences.entry(partition).or_default();
            let options = FinishOptions {
                producer_id: self.id,
                producer_epoch: self.epoch,
                base_sequence: *sequence,
                transactional: true,
                ..FinishOptions::default()
            };
            *sequence += 1;
            let records = of_producer(&[value.as_bytes()], &options);
            let Request::Produce(mut request) = produce(TOPIC, partition, records) else {
                panic!()
            };
            request.transactional_id = Some(self.name.as_str().into());
            let version = if self.v2 { 12 } else { 11 };
            let answer = self.ask(version, &Request::Produce(request));
            offset_of(&answer).unwrap();
        }
        let request = TxnOffsetCommitRequest {
            transactional_id: self.name.as_str().into(),
            group_id: self.group().as_str().into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: TOPIC.into(),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    committed_offset: offset,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let version = if self.v2 { 5 } else { 4 };
        let Response::TxnOffsetCommit(answer) =
            self.ask(version, &Request::TxnOffsetCommit(request))
        else {
            panic!()
        };
        assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    }

    /// Asks for a decision, and doesn't wait.
    fn decide(&mut self, committed: bool) {
        let request = Request::EndTxn(EndTxnRequest {
            transactional_id: self.name.as_str().into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
        });
        let version = if self.v2 { 5 } else { 4 };
        self.connection.send(version, &request).unwrap();
    }

    /// Whether the decision was confirmed, as far as that has come.
    fn is_decided(&mut self) -> bool {
        match self.connection.poll() {
            Ok(Some(Response::EndTxn(answer))) => {
                assert_eq!(answer.error_code, ErrorCode::NONE);
                true
            }
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) | Err(_) => false,
        }
    }
}

/// What a group of a producer has committed, waiting for what is undecided.
fn offset_of_group(connection: &mut Connection, group: &str) -> Option<i64> {
    let mut found = None;
    wait_until("the offset is decided", || {
        let group = connection.stable_offsets(group);
        let partition = group.topics.first().map(|topic| &topic.partitions[0]);
        found = partition.map(|partition| partition.committed_offset);
        partition.is_none_or(|p| p.error_code != ErrorCode::UNSTABLE_OFFSET_COMMIT)
    });
    found.filter(|offset| *offset >= 0)
}

fn committed_values(connection: &mut Connection, partition: i32) -> BTreeSet<String> {
    let values = connection.values(TOPIC, partition, 0, true);
    let texts = values.into_iter().map(|v| String::from_utf8(v).unwrap());
    let count = texts.len();
    let all: BTreeSet<String> = texts.collect();
    assert_eq!(all.len(), count, "nothing is there twice");
    all
}

/// What became of the decisions that were asked for.
#[derive(Default)]
struct Decisions {
    confirmed: u64,
    /// Commits that nobody heard of, and were done all the same.
    done_unheard: u64,
    undone: u64,
}

/// Rounds in which producers decide on their transactions while the broker is killed.
fn play(rounds: &mut Rounds, seed: u64, loses: Option<&'static str>) -> Decisions {
    const PRODUCERS: usize = 12;
    let mut random = Random(seed);
    let mut below = |n: u64| random.below(n);
    let mut world = World::new(&[]);
    world.loses = loses;
    Connection::to(world.address()).unwrap().create(TOPIC, 2);
    let start = |world: &World| -> Vec<Producer> {
        (0..PRODUCERS)
            .map(|i| Producer::start(world, &format!("p{i}"), i % 2 == 0, 60_000))
            .collect()
    };
    let mut producers = start(&world);
    let mut visible: BTreeSet<String> = BTreeSet::new();
    let mut offsets: BTreeMap<String, i64> = BTreeMap::new();
    let mut decisions = Decisions::default();
    while let Some(round) = rounds.next() {
        let value = |i: usize| format!("{round}/{i}");
        for (i, producer) in producers.iter_mut().enumerate() {
            producer.work(&value(i), round as i64);
        }
        // One in six never decides; two in three of the others commit.
        let decision: Vec<Option<bool>> = (0..PRODUCERS)
            .map(|_| (below(6) > 0).then(|| below(3) > 0))
            .collect();
        for (producer, decision) in producers.iter_mut().zip(&decision) {
            if let Some(committed) = decision {
                producer.decide(*committed);
            }
        }
        // Killed at once, or when some have heard.
        let mut heard = [false; PRODUCERS];
        let enough = decision.iter().flatten().count().min(match below(3) {
            0 => 0,
            1 => 1,
            _ => below(PRODUCERS as u64) as usize,
        });
        let mut listen = |producers: &mut Vec<Producer>| {
            for (heard, producer) in heard.iter_mut().zip(producers) {
                *heard |= producer.is_decided();
            }
            heard
        };
        if enough == 0 {
            thread::sleep(Duration::from_micros(below(300)));
        }
        wait_until("some have heard", || {
            listen(&mut producers)
                .iter()
                .filter(|heard| **heard)
                .count()
                >= enough
        });
        world.kill();
        let heard = listen(&mut producers);

        // The next instances wait for what is decided, and abort what is not.
        producers = start(&world);
        let mut connection = Connection::to(world.address()).unwrap();
        let [one, two] = PARTITIONS.map(|partition| committed_values(&mut connection, partition));
        assert_eq!(one, two, "round {round}: a transaction is torn");
        for i in 0..PRODUCERS {
            let is_done = one.contains(&value(i));
            match (decision[i], heard[i]) {
                (None, _) => assert!(!is_done, "round {round}: {i} never decided"),
                (Some(false), _) => assert!(!is_done, "round {round}: {i} aborted"),
                (Some(true), true) => assert!(is_done, "round {round}: {i} was confirmed"),
                (Some(true), false) => {
                    decisions.done_unheard += u64::from(is_done);
                    decisions.undone += u64::from(!is_done);
                }
            }
            decisions.confirmed += u64::from(heard[i]);
            let group = producers[i].group();
            if is_done {
                visible.insert(value(i));
                offsets.insert(group.clone(), round as i64);
            }
            let offset = offset_of_group(&mut connection, &group);
            assert_eq!(
                offset.as_ref(),
                offsets.get(&group),
                "round {round}: {i}: {GROUPS_OFFSET}"
            );
        }
        assert_eq!(
            one, visible,
            "what was there before is there, and nothing else"
        );
        rounds.tell(&format!("{} decisions confirmed", decisions.confirmed));
    }
    decisions
}

/// What fails first if the broker has lost the groups' offsets.
const GROUPS_OFFSET: &str = "the offset of its group";

#[test]
fn decisions_outlive_the_broker() {
    let extent = Extent::rounds(8, 1);
    let decisions = play(&mut Rounds::begin("transactions", extent), 1, None);
    let Decisions {
        confirmed,
        done_unheard,
        undone,
    } = decisions;
    assert!(confirmed > 0);
    println!(
        "{confirmed} decisions confirmed; of the other commits {done_unheard} were done, {undone} not"
    );
}

/// Nobody comes back for a transaction: it is aborted when its time is over, and does not stop those behind it for longer.
#[test]
fn an_open_transaction_times_out_after_the_broker_was_killed() {
    let mut world =
        World::new(&["transaction.abort.timed.out.transaction.cleanup.interval.ms=200"]);
    Connection::to(world.address()).unwrap().create(TOPIC, 2);
    for v2 in [false, true] {
        let name = format!("lost-{v2}");
        let mut lost = Producer::start(&world, &name, v2, 4000);
        let begun = Instant::now();
        lost.work("lost", 1);
        let mut other = Producer::start(&world, &format!("other-{v2}"), v2, 60_000);
        other.work("behind", 1);
        other.decide(true);
        other.connection.receive().unwrap();
        world.kill();
        let mut connection = Connection::to(world.address()).unwrap();
        let mut left = connection.values(TOPIC, 0, 0, true);
        // On a slow machine its time may be over already.
        if begun.elapsed() < Duration::from_secs(4) {
            assert_eq!(
                left.len(),
                usize::from(v2),
                "it is open, and so nothing behind it is visible"
            );
        }
        wait_until("its time is over", || {
            left = connection.values(TOPIC, 0, 0, true);
            left.len() == 1 + usize::from(v2)
        });
        assert!(begun.elapsed() >= Duration::from_secs(4));
        assert!(left.iter().all(|value| value == b"behind"));
        let group = |name: &str| format!("group-of-{name}-{v2}");
        assert_eq!(offset_of_group(&mut connection, &group("lost")), None);
        assert_eq!(offset_of_group(&mut connection, &group("other")), Some(1));
    }
}

#[test]
#[ignore = "the long form: cargo xtask torture groups"]
fn at_length() {
    let extent = Extent::of_environment(300);
    let seed = extent.seed;
    control("transactions", &[GROUPS_OFFSET], || {
        let mut rounds = Rounds::begin("transactions", Extent::rounds(20, seed));
        play(&mut rounds, seed, Some("__consumer_offsets"));
    });
    let mut rounds = Rounds::begin("transactions", extent);
    let Decisions {
        confirmed,
        done_unheard,
        undone,
    } = play(&mut rounds, seed, None);
    println!(
        "ledger: transactions | {} kills | 0 | 12 producers decide while the broker is killed: {confirmed} decisions confirmed, of \
         the other commits {done_unheard} done and {undone} not; control (offsets lost) caught; seed {seed}, {} s",
        rounds.done(),
        rounds.seconds()
    );
}
