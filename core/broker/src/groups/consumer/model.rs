//! Members that follow the protocol come, go, fall silent, lose answers and meet a broker that restarts, at random: no
//! partition ever has two owners as the members see it, and in quiet times the group comes to an even assignment.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    vec::Vec,
};
use ottla_protocol::{ErrorCode, Str};

use super::testing::{Client, GROUP, alive};
use crate::{
    groups::{
        group::GroupState,
        testing::{Harness, config},
    },
    random::Random,
};

const SESSION_US: u64 = 45_000_000;

/// One process: a client, and what it waits for.
struct Process {
    client: Client,
    waits_for: Option<i32>,
    /// When it sent what was last answered; monotonic microseconds.
    heard_us: u64,
    sent_us: u64,
    alive: bool,
}

struct Model {
    h: Harness,
    random: Random,
    processes: Vec<Process>,
    incarnations: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut h = Harness::new(config());
        h.topic("t", 5);
        h.topic("u", 3);
        Self {
            h,
            random: Random::new(seed),
            processes: Vec::new(),
            incarnations: 0,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.next_u64() % n
    }

    fn step(&mut self) {
        let n = self.processes.len() as u64;
        match self.below(40) {
            0..=1 if n < 6 => self.start(),
            _ if n == 0 => self.start(),
            0..=21 => {
                let i = self.below(n) as usize;
                self.beat(i);
            }
            22 => {
                let i = self.below(n) as usize;
                self.leave(i);
            }
            23 => {
                let i = self.below(n) as usize;
                self.kill(i);
            }
            24..=26 => {
                let ms = self.below(5_000);
                self.advance(ms);
            }
            27 if self.below(4) == 0 => {
                let ms = self.below(60_000);
                self.advance(ms);
            }
            28 => self.h.hold = true,
            29..=30 => {
                self.h.hold = false;
                self.h.finish_appends();
            }
            31..=33 => self.h.finish_append(Ok(())),
            34 if self.below(3) == 0 => self.h.finish_append(Err(ErrorCode::NOT_ENOUGH_REPLICAS)),
            35 if self.below(4) == 0 => self.restart(),
            36 if self.below(4) == 0 => {
                let partitions = self.h.topics[&Str::from("t")].1 + 1;
                if partitions < 12 {
                    self.h.topic("t", partitions);
                }
            }
            37 => {
                // The answer is lost on its way; the client asks again.
                let i = self.below(n) as usize;
                self.processes[i].waits_for = None;
            }
            38 if self.below(3) == 0 => {
                let i = self.below(n) as usize;
                self.resubscribe(i);
            }
            _ => {}
        }
        self.read_answers();
        self.check();
    }

    fn start(&mut self) {
        self.incarnations += 1;
        let topics: &[&'static str] = match self.below(3) {
            0 => &["t"],
            1 => &["u", "t"],
            _ => &["t", "u"],
        };
        let mut client = Client::new(&format!("m{}", self.incarnations), topics);
        let instance = Str::from(format!("i{}", self.below(3)));
        let taken = |p: &Process| p.alive && p.client.instance.as_ref() == Some(&instance);
        if self.below(3) == 0 && !self.processes.iter().any(taken) {
            client.instance = Some(instance);
        }
        let now = self.h.now.mono_us;
        self.processes.push(Process {
            client,
            waits_for: None,
            heard_us: now,
            sent_us: now,
            alive: true,
        });
    }

    fn beat(&mut self, i: usize) {
        if self.processes[i].waits_for.is_some() {
            return;
        }
        let request = self.processes[i].client.request(&self.h);
        let id = self.h.beat(request);
        self.processes[i].waits_for = Some(id);
        self.processes[i].sent_us = self.h.now.mono_us;
    }

    fn resubscribe(&mut self, i: usize) {
        let p = &mut self.processes[i];
        if p.waits_for.is_none() {
            p.client.topics = if p.client.topics.len() == 1 {
                ["t", "u"].to_vec()
            } else {
                ["u"].to_vec()
            };
            // A full request carries it.
            let _ = p.client.request(&self.h);
        }
    }

    fn leave(&mut self, i: usize) {
        let process = self.processes.remove(i);
        let client = process.client;
        if !client.is_in() {
            return;
        }
        let epoch = if client.instance.is_some() && self.below(2) == 0 {
            -2
        } else {
            -1
        };
        // Whatever it says, it has given up everything.
        let mut request = alive(&client.id, epoch);
        request.instance_id = client.instance;
        self.h.beat(request);
    }

    fn kill(&mut self, i: usize) {
        self.processes.remove(i);
    }

    fn advance(&mut self, ms: u64) {
        self.h.advance(ms);
        let now = self.h.now.mono_us;
        for p in &mut self.processes {
            // A client that was not heard of for a session knows that it is out.
            if now >= p.heard_us + SESSION_US {
                p.client.lost();
                p.waits_for = None;
                p.heard_us = now;
            }
        }
    }

    fn restart(&mut self) {
        while !self.h.appends.is_empty() && self.below(2) == 0 {
            self.h.finish_append(Ok(()));
        }
        self.read_answers();
        self.h.restart();
        for p in &mut self.processes {
            p.waits_for = None;
        }
    }

    fn read_answers(&mut self) {
        for p in &mut self.processes {
            let Some(id) = p.waits_for else { continue };
            if let Some(answer) = self.h.beaten(id) {
                p.waits_for = None;
                p.heard_us = p.sent_us;
                p.client.answered(&self.h, &answer);
            }
        }
    }

    fn check(&self) {
        let mut owners = BTreeMap::new();
        for p in &self.processes {
            for partition in &p.client.has {
                let before = owners.insert(partition, &p.client.id);
                assert!(
                    before.is_none(),
                    "{partition:?}: {before:?} and {}",
                    p.client.id
                );
            }
        }
    }

    /// Nothing happens but heartbeats.
    fn quiet(&mut self) {
        self.h.hold = false;
        self.h.finish_appends();
        for p in &mut self.processes {
            p.waits_for = None;
        }
        for _ in 0..60 {
            for i in 0..self.processes.len() {
                self.beat(i);
                self.read_answers();
                self.check();
            }
            self.advance(3_000);
        }
        if self.processes.is_empty() {
            return assert!(matches!(
                self.h.state(GROUP),
                GroupState::Empty | GroupState::Dead
            ));
        }
        assert_eq!(self.h.state(GROUP), GroupState::Stable);
        let mut owned = BTreeSet::new();
        for p in &self.processes {
            assert!(p.client.is_in());
            owned.extend(p.client.has.iter().cloned());
        }
        for (name, (_, partitions)) in &self.h.topics {
            let subscribed = |p: &Process| p.client.topics.iter().any(|t| *name == *t);
            if self.processes.iter().any(subscribed) {
                for partition in 0..*partitions {
                    assert!(
                        owned.contains(&(name.clone(), partition)),
                        "{name}-{partition}"
                    );
                }
            }
        }
        // As even as subscriptions allow: no partition could go to somebody who has two less.
        for from in &self.processes {
            for to in &self.processes {
                for (topic, _) in &from.client.has {
                    if to.client.topics.iter().any(|t| *topic == *t) {
                        assert!(from.client.has.len() < to.client.has.len() + 2);
                    }
                }
            }
        }
    }
}

#[test]
fn members_at_random() {
    for seed in 0..300 {
        let mut model = Model::new(seed);
        for _ in 0..3 {
            for _ in 0..250 {
                model.step();
            }
            model.quiet();
        }
    }
}
