//! Tests: producers at random, with zombies, timeouts and restarts at any moment, against what a program relies on: what was
//! committed is there, once and in its order; what was aborted or given up isn't; what nobody knows the end of is there as a
//! whole or not at all.

use std::{collections::BTreeMap, format, string::String, vec::Vec};

use ottla_protocol::{
    ErrorCode, Request, Response, messages::init_producer_id::InitProducerIdRequest,
};

use super::whole::{Producer, added, committed, ended};
use crate::{
    Durability,
    random::Random,
    testing::{Harness, produced},
};

/// How a transaction ended, as far as its producer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Committed,
    /// Its records must not be seen.
    NotCommitted,
    /// A commit was asked for and not answered.
    Unknown,
}

/// One instance of a program. A zombie is one whose place another has taken.
#[derive(Debug)]
struct Instance {
    p: Producer,
    phase: Phase,
    /// Of the transaction that it has open: its number, and the partitions that it wrote to.
    open: Option<usize>,
    added: [bool; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Correlation id of what it waits for.
    Init(i32),
    Idle,
    Adding(i32, usize),
    Producing(i32),
    Ending(i32, bool),
    Dead,
}

struct Model {
    h: Harness,
    random: Random,
    instances: Vec<Instance>,
    fates: Vec<Fate>,
    /// Acknowledged and sent records of each transaction, by partition.
    records: Vec<[Vec<String>; 2]>,
    next_value: u32,
}

const NAMES: [&str; 3] = ["x", "y", "z"];

impl Model {
    fn new(seed: u64) -> Self {
        let mut h = Harness::new(Durability::Fsync);
        h.create_topic("t", 2, &[]);
        Self {
            h,
            random: Random::new(seed),
            instances: Vec::new(),
            fates: Vec::new(),
            records: Vec::new(),
            next_value: 0,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.next_u64() % n
    }

    fn begin_instance(&mut self) {
        let name = NAMES[self.below(3) as usize];
        // A program is of one version.
        let v2 = name != "y";
        let id = self.send_init(name);
        self.instances.push(Instance {
            p: Producer::new(name, v2, (-1, -1)),
            phase: Phase::Init(id),
            open: None,
            added: [false; 2],
        });
    }

    fn send_init(&mut self, name: &str) -> i32 {
        let request = InitProducerIdRequest {
            transactional_id: Some(name.into()),
            transaction_timeout_ms: 30_000,
            ..Default::default()
        };
        self.h.send(4, Request::InitProducerId(request))
    }

    /// What becomes of a transaction whose producer gives up.
    fn give_up(&mut self, i: usize) {
        self.instances[i].phase = Phase::Dead;
        if let Some(open) = self.instances[i].open.take()
            && self.fates[open] != Fate::Unknown
        {
            self.fates[open] = Fate::NotCommitted;
        }
    }

    fn step_instance(&mut self, i: usize) {
        match self.instances[i].phase {
            Phase::Dead => {}
            Phase::Init(id) => {
                let Some(Response::InitProducerId(answer)) = self.h.take_answer(id) else {
                    return;
                };
                match answer.error_code {
                    ErrorCode::NONE => {
                        let producer = (answer.producer_id, answer.producer_epoch);
                        self.instances[i].p.goes_on_as(producer);
                        self.instances[i].phase = Phase::Idle;
                    }
                    ErrorCode::CONCURRENT_TRANSACTIONS => {
                        let name = self.instances[i].p.name;
                        self.instances[i].phase = Phase::Init(self.send_init(name));
                    }
                    error => panic!("{error}"),
                }
            }
            Phase::Idle => self.act(i),
            Phase::Adding(id, partition) => {
                let Some(answer) = self.h.take_answer(id) else {
                    return;
                };
                match added(answer) {
                    ErrorCode::NONE => {
                        self.instances[i].added[partition] = true;
                        self.instances[i].phase = Phase::Idle;
                    }
                    ErrorCode::CONCURRENT_TRANSACTIONS => self.instances[i].phase = Phase::Idle,
                    ErrorCode::PRODUCER_FENCED | ErrorCode::INVALID_PRODUCER_ID_MAPPING => {
                        self.give_up(i);
                    }
                    error => panic!("{error}"),
                }
            }
            Phase::Producing(id) => {
                let Some(answer) = self.h.take_answer(id) else {
                    return;
                };
                match produced(answer).error_code {
                    ErrorCode::NONE => self.instances[i].phase = Phase::Idle,
                    // Shut out, or not let in in time: there is nothing to be saved.
                    ErrorCode::INVALID_PRODUCER_EPOCH
                    | ErrorCode::INVALID_PRODUCER_ID_MAPPING
                    | ErrorCode::TRANSACTION_ABORTABLE
                    | ErrorCode::CONCURRENT_TRANSACTIONS
                    | ErrorCode::NOT_ENOUGH_REPLICAS
                    | ErrorCode::REQUEST_TIMED_OUT => self.give_up(i),
                    error => panic!("{error}"),
                }
            }
            Phase::Ending(id, commit) => {
                let Some(answer) = self.h.take_answer(id) else {
                    return;
                };
                let answer = ended(answer);
                let Some(open) = self.instances[i].open else {
                    panic!("what does it end?")
                };
                match answer.error_code {
                    ErrorCode::NONE => {
                        self.fates[open] = match commit {
                            true => Fate::Committed,
                            false => Fate::NotCommitted,
                        };
                        let instance = &mut self.instances[i];
                        (instance.open, instance.added) = (None, [false; 2]);
                        if instance.p.v2 {
                            let producer = (answer.producer_id, answer.producer_epoch);
                            instance.p.goes_on_as(producer);
                        }
                        instance.phase = Phase::Idle;
                    }
                    ErrorCode::CONCURRENT_TRANSACTIONS => {
                        let instance = &self.instances[i];
                        let request = instance.p.end_request(commit);
                        let version = instance.p.end_version();
                        let id = self.h.send(version, request);
                        self.instances[i].phase = Phase::Ending(id, commit);
                    }
                    // Somebody else has ended it, and that is always an abort.
                    ErrorCode::PRODUCER_FENCED
                    | ErrorCode::INVALID_PRODUCER_ID_MAPPING
                    | ErrorCode::INVALID_TXN_STATE => {
                        if self.fates[open] != Fate::Unknown || !commit {
                            self.fates[open] = Fate::NotCommitted;
                        }
                        self.instances[i].open = None;
                        self.instances[i].phase = Phase::Dead;
                    }
                    error => panic!("{error}"),
                }
            }
        }
    }

    fn act(&mut self, i: usize) {
        let choice = self.below(10);
        let has_written = self.instances[i].open.is_some();
        if has_written && choice < 3 {
            let commit = self.below(3) > 0;
            let open = self.instances[i].open.unwrap_or_default();
            if commit {
                self.fates[open] = Fate::Unknown;
            }
            let instance = &self.instances[i];
            let request = instance.p.end_request(commit);
            let id = self.h.send(instance.p.end_version(), request);
            self.instances[i].phase = Phase::Ending(id, commit);
            return;
        }
        let partition = self.below(2) as usize;
        let instance = &mut self.instances[i];
        if !instance.p.v2 && !instance.added[partition] {
            let id = self.h.send(3, instance.p.add_request(&[partition as i32]));
            instance.phase = Phase::Adding(id, partition);
            return;
        }
        let open = *instance.open.get_or_insert_with(|| {
            self.fates.push(Fate::NotCommitted);
            self.records.push([Vec::new(), Vec::new()]);
            self.fates.len() - 1
        });
        self.next_value += 1;
        let value = format!("{open}:{}", self.next_value);
        let id = instance
            .p
            .send_batch(&mut self.h, partition as i32, &[&value]);
        self.records[open][partition].push(value);
        instance.phase = Phase::Producing(id);
    }

    fn restart(mut self, clean: bool) -> Self {
        // Connections break: what was asked stays open; who waits for the end of a commit asks again.
        self.h = self.h.restart(clean);
        for i in 0..self.instances.len() {
            match self.instances[i].phase {
                Phase::Init(_) => {
                    let name = self.instances[i].p.name;
                    self.instances[i].phase = Phase::Init(self.send_init(name));
                }
                Phase::Ending(_, commit) => {
                    let instance = &self.instances[i];
                    let request = instance.p.end_request(commit);
                    let id = self.h.send(instance.p.end_version(), request);
                    self.instances[i].phase = Phase::Ending(id, commit);
                }
                Phase::Adding(..) => self.instances[i].phase = Phase::Idle,
                // Whether the record is there it can't know without trying, which is the client's business.
                Phase::Producing(_) => self.give_up(i),
                Phase::Idle | Phase::Dead => {}
            }
        }
        self
    }

    fn run(seed: u64) {
        let mut model = Self::new(seed);
        let mut earlier: [Vec<String>; 2] = Default::default();
        for _ in 0..3 {
            model.begin_instance();
        }
        for _ in 0..300 {
            match model.below(40) {
                0 => model.begin_instance(),
                1 => {
                    let clean = model.below(2) == 0;
                    model = model.restart(clean);
                }
                2 => {
                    let ms = [100, 3_000, 12_000][model.below(3) as usize];
                    model.h.pass_ms(ms);
                }
                3..=20 if !model.h.syncs.is_empty() => model.h.sync_one(),
                _ => {
                    let i = model.below(model.instances.len() as u64) as usize;
                    model.step_instance(i);
                }
            }
            if model.below(10) == 0 {
                let seen = [0, 1].map(|partition| committed(&mut model.h, partition).0);
                for (now, before) in seen.iter().zip(&earlier) {
                    assert!(now.starts_with(before), "seed {seed}: what was seen stays");
                }
                earlier = seen;
            }
        }
        model.check_the_end(seed);
    }

    /// Everybody leaves; what they left open runs out of time.
    fn check_the_end(mut self, seed: u64) {
        self.h.sync_all();
        for i in 0..self.instances.len() {
            if let Phase::Ending(id, true) = self.instances[i].phase
                && let Some(answer) = self.h.take_answer(id)
                && ended(answer).error_code == ErrorCode::NONE
                && let Some(open) = self.instances[i].open
            {
                self.fates[open] = Fate::Committed;
            }
        }
        for _ in 0..10 {
            self.h.pass_ms(12_000);
            self.h.sync_all();
        }
        let mut seen: BTreeMap<usize, [Vec<String>; 2]> = BTreeMap::new();
        for partition in [0, 1] {
            let (values, stable) = committed(&mut self.h, partition);
            let end = self.h.fetch("t", partition, 0).high_watermark;
            assert_eq!(stable, end, "seed {seed}: nothing is open");
            for value in values {
                let number = value.split(':').next().and_then(|n| n.parse().ok());
                let of = seen.entry(number.unwrap()).or_default();
                of[partition as usize].push(value);
            }
        }
        for (number, (fate, written)) in self.fates.iter().zip(&self.records).enumerate() {
            let what = format!("seed {seed}: transaction {number}, {fate:?}");
            let nothing = !seen.contains_key(&number);
            let whole = seen.get(&number) == Some(written);
            match fate {
                Fate::Committed => assert!(whole, "{what}"),
                Fate::NotCommitted => assert!(nothing, "{what}"),
                Fate::Unknown => assert!(whole || nothing, "{what}"),
            }
        }
    }
}

#[test]
fn producers_at_random() {
    for seed in 0..150 {
        Model::run(seed);
    }
}
