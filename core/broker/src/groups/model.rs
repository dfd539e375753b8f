//! A model of many members that join, leave, die, come back and meet a broker that restarts, with what must hold at every
//! step: one leader per generation, assignments only from it, no offset lost, every request answered once.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use bytes::Bytes;
use ottla_protocol::{
    ErrorCode, Str,
    messages::{
        join_group::{JoinGroupRequest, JoinGroupResponse},
        sync_group::{SyncGroupRequest, SyncGroupRequestAssignment},
    },
};

use super::{
    GroupConfig,
    group::GroupState,
    testing::{Harness, JOIN, config, join_request},
};
use crate::random::Random;

const GROUP: &str = "g";

/// One client, as it sees itself.
#[derive(Debug, Default)]
struct Client {
    instance: Option<Str>,
    id: Str,
    generation: i32,
    phase: Phase,
}

#[derive(Debug, Default, PartialEq)]
enum Phase {
    #[default]
    Outside,
    /// Correlation id of its `JoinGroup`.
    Joining(i32),
    /// Correlation id of its `SyncGroup`.
    Syncing(i32),
    Inside,
}

struct Model {
    h: Harness,
    random: Random,
    clients: Vec<Client>,
    /// Every leader that a `JoinGroup` answer named, by generation: a static one may have changed its id.
    leaders: BTreeMap<i32, BTreeSet<Str>>,
    /// Every assignment that a member of the generation was given, by who got it.
    given: BTreeMap<(i32, Str), Bytes>,
    commits: Vec<(i32, i64)>,
    /// The highest offset whose commit was answered with success, and the highest that was ever sent.
    acknowledged: i64,
    sent: i64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let delay = if random.next_u64().is_multiple_of(3) {
            3_000
        } else {
            0
        };
        let config = GroupConfig {
            initial_rebalance_delay_ms: delay,
            max_size: 5,
            ..config()
        };
        let clients = (0..7)
            .map(|i| Client {
                instance: (i % 3 == 0).then(|| Str::from(format!("i{i}"))),
                ..Client::default()
            })
            .collect();
        Self {
            h: Harness::new(config),
            random,
            clients,
            leaders: BTreeMap::new(),
            given: BTreeMap::new(),
            commits: Vec::new(),
            acknowledged: -1,
            sent: -1,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.next_u64() % n
    }

    fn step(&mut self) {
        let i = self.below(self.clients.len() as u64) as usize;
        match self.below(40) {
            0..=17 => self.go_on(i),
            18..=22 => self.heartbeat(i),
            23 => self.leave(i),
            24 => self.die(i),
            25 => self.join(i),
            26..=29 => {
                let ms = self.below(4_000);
                self.h.advance(ms);
            }
            30 => {
                let ms = self.below(90_000);
                self.h.advance(ms);
            }
            31 => self.h.hold = true,
            32 => {
                self.h.hold = false;
                self.h.finish_appends();
            }
            33..=34 => self.h.finish_append(Ok(())),
            35 if self.below(3) == 0 => self.h.finish_append(Err(ErrorCode::NOT_ENOUGH_REPLICAS)),
            36 if self.below(5) == 0 => self.restart(),
            _ => self.commit(i),
        }
        for i in 0..self.clients.len() {
            self.read_answers(i);
        }
        self.read_commits();
        self.check();
        if self.h.state(GROUP) == GroupState::Dead {
            // It was empty for long; the next one of this name begins with generation 1 again.
            self.leaders.clear();
            self.given.clear();
        }
    }

    /// What a client does when nothing special happens.
    fn go_on(&mut self, i: usize) {
        match self.clients[i].phase {
            Phase::Outside => self.join(i),
            Phase::Inside => self.heartbeat(i),
            Phase::Joining(_) | Phase::Syncing(_) => {}
        }
    }

    fn join(&mut self, i: usize) {
        let client = &self.clients[i];
        let request = JoinGroupRequest {
            group_instance_id: client.instance.clone(),
            ..join_request(GROUP, &client.id)
        };
        let id = self.h.join(JOIN, request);
        self.clients[i].phase = Phase::Joining(id);
    }

    fn heartbeat(&mut self, i: usize) {
        let client = &self.clients[i];
        if client.phase != Phase::Inside {
            return;
        }
        let error = self.h.heartbeat(GROUP, client.generation, &client.id);
        self.react(i, error);
    }

    fn react(&mut self, i: usize, error: ErrorCode) {
        let client = &mut self.clients[i];
        match error {
            ErrorCode::NONE => {}
            ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::COORDINATOR_NOT_AVAILABLE => {
                self.join(i);
            }
            ErrorCode::ILLEGAL_GENERATION => self.join(i),
            ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::FENCED_INSTANCE_ID
            | ErrorCode::GROUP_MAX_SIZE_REACHED => {
                client.id = Str::new();
                client.phase = Phase::Outside;
            }
            other => panic!("not an error for this: {other:?}"),
        }
    }

    fn leave(&mut self, i: usize) {
        let client = &self.clients[i];
        if client.id.is_empty() {
            return;
        }
        let (id, instance) = (client.id.clone(), client.instance.clone());
        self.h.leave(GROUP, &[(&id, instance.as_deref())]);
        self.die(i);
    }

    /// The process ends; another one will come in its place.
    fn die(&mut self, i: usize) {
        self.clients[i].id = Str::new();
        self.clients[i].phase = Phase::Outside;
    }

    fn restart(&mut self) {
        // What was appended may be on disk or not: in order, as far as it came.
        while !self.h.appends.is_empty() && self.below(2) == 0 {
            self.h.finish_append(Ok(()));
        }
        for i in 0..self.clients.len() {
            self.read_answers(i);
        }
        self.read_commits();
        let open = self.h.open.clone();
        self.h.restart();
        self.commits.clear();
        for client in &mut self.clients {
            if let Phase::Joining(id) | Phase::Syncing(id) = client.phase
                && open.contains_key(&id)
            {
                client.phase = Phase::Outside;
            }
        }
        // Generations that did not reach the log come again, with leaders of their own.
        let last = self.h.generation(GROUP);
        self.leaders.retain(|generation, _| *generation <= last);
        self.given.retain(|(generation, _), _| *generation <= last);
    }

    fn commit(&mut self, i: usize) {
        let client = &self.clients[i];
        if client.phase != Phase::Inside {
            return;
        }
        self.sent += 1;
        let (generation, id) = (client.generation, client.id.clone());
        let commit = self.h.commit(GROUP, generation, &id, "t", self.sent, "");
        self.commits.push((commit, self.sent));
    }

    fn read_commits(&mut self) {
        let mut open = Vec::new();
        for (id, offset) in core::mem::take(&mut self.commits) {
            match self.h.committed(id) {
                None => open.push((id, offset)),
                Some(ErrorCode::NONE) => self.acknowledged = self.acknowledged.max(offset),
                Some(_) => {}
            }
        }
        self.commits = open;
    }

    fn read_answers(&mut self, i: usize) {
        match self.clients[i].phase {
            Phase::Joining(id) => {
                if let Some(answer) = self.h.joined(id) {
                    self.read_join(i, answer);
                }
            }
            Phase::Syncing(id) => {
                if let Some(answer) = self.h.synced(id) {
                    self.clients[i].phase = Phase::Inside;
                    if answer.error_code == ErrorCode::NONE {
                        self.check_assignment(i, answer.assignment);
                    }
                    self.react(i, answer.error_code);
                }
            }
            Phase::Outside | Phase::Inside => {}
        }
    }

    fn read_join(&mut self, i: usize, answer: JoinGroupResponse) {
        self.clients[i].phase = Phase::Outside;
        if answer.error_code == ErrorCode::MEMBER_ID_REQUIRED {
            self.clients[i].id = answer.member_id;
            return self.join(i);
        }
        if answer.error_code != ErrorCode::NONE {
            return self.react(i, answer.error_code);
        }
        let leads = answer.leader == answer.member_id;
        self.leaders
            .entry(answer.generation_id)
            .or_default()
            .insert(answer.leader.clone());
        self.clients[i].id = answer.member_id.clone();
        self.clients[i].generation = answer.generation_id;
        let assignments = if leads && !answer.skip_assignment {
            assert!(
                answer
                    .members
                    .iter()
                    .any(|m| m.member_id == answer.member_id)
            );
            answer
                .members
                .iter()
                .map(|m| SyncGroupRequestAssignment {
                    member_id: m.member_id.clone(),
                    assignment: Bytes::from(assignment(
                        answer.generation_id,
                        &answer.leader,
                        m.group_instance_id.as_ref().unwrap_or(&m.member_id),
                    )),
                })
                .collect()
        } else {
            Vec::new()
        };
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: answer.generation_id,
            member_id: answer.member_id,
            group_instance_id: self.clients[i].instance.clone(),
            protocol_type: answer.protocol_type,
            protocol_name: answer.protocol_name,
            assignments,
        };
        let sync = self
            .h
            .request(5, |c, now, context| c.sync(now, context, request));
        self.clients[i].phase = Phase::Syncing(sync);
        self.read_answers(i);
    }

    /// What a member was given is what a leader of its generation gave to it, or to the one whose place it took.
    fn check_assignment(&mut self, i: usize, assignment_given: Bytes) {
        let client = &self.clients[i];
        let who = client.instance.as_ref().unwrap_or(&client.id);
        let leaders = self
            .leaders
            .get(&client.generation)
            .expect("a leader was named");
        let good = leaders.iter().any(|leader| {
            assignment(client.generation, leader, who).as_bytes() == assignment_given
        });
        assert!(
            good,
            "{client:?} was given {assignment_given:?}, leaders {leaders:?}"
        );
        let key = (client.generation, who.clone());
        let before = self
            .given
            .entry(key)
            .or_insert_with(|| assignment_given.clone());
        assert_eq!(*before, assignment_given, "a generation is assigned once");
    }

    fn check(&self) {
        // A generation has one leader, unless it is a static member that came back under another id.
        for (generation, leaders) in &self.leaders {
            let dynamic = leaders.iter().filter(|l| l.starts_with("app-")).count();
            assert!(
                dynamic == 0 || leaders.len() == 1,
                "{generation}: {leaders:?}"
            );
        }
        let offset = self.h.offset(GROUP, "t").unwrap_or(-1);
        assert!(
            offset >= self.acknowledged && offset <= self.sent,
            "an offset is lost"
        );
        if let Some(group) = self.h.coordinator.groups.get(&Str::from(GROUP)) {
            assert_eq!(
                group.state() == GroupState::Empty,
                group.members().len() == 0
            );
            let parked = group
                .members()
                .filter(|m| m.awaiting_join.is_some())
                .count();
            assert_eq!(parked, group.awaiting_join());
            let rebalancing = group.state() == GroupState::PreparingRebalance;
            assert_eq!(rebalancing, group.join_wait.is_some());
            assert!(rebalancing || parked == 0, "a JoinGroup waits for nothing");
            let syncing = group.members().any(|m| m.awaiting_sync.is_some());
            assert!(!syncing || group.state() == GroupState::CompletingRebalance);
            let led = group
                .leader
                .as_ref()
                .is_some_and(|l| group.member(l).is_some());
            assert!(led || group.members().len() == 0, "nobody leads");
            assert!(group.next_due_us().is_none() || group.timer_us.is_some());
        }
    }

    /// Everyone falls silent: all that waits is answered.
    fn finish(&mut self) {
        self.h.hold = false;
        self.h.finish_appends();
        self.h.advance(11 * 60_000);
        assert!(self.h.open.is_empty(), "never answered: {:?}", self.h.open);
        assert_eq!(
            self.h
                .coordinator
                .groups
                .values()
                .map(|g| g.members().len())
                .sum::<usize>(),
            0
        );
    }
}

fn assignment(generation: i32, leader: &Str, who: &Str) -> String {
    format!("{generation}:{leader}:{who}")
}

#[test]
fn members_at_random() {
    for seed in 0..400 {
        let mut model = Model::new(seed);
        let steps = 100 + model.below(400);
        for step in 0..steps {
            let outcome = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| model.step()));
            if let Err(panic) = outcome {
                std::eprintln!("seed {seed}, step {step}");
                std::panic::resume_unwind(panic);
            }
        }
        model.finish();
    }
}

#[test]
fn five_hundred_members_of_one_group() {
    let started = std::time::Instant::now();
    let mut h = Harness::new(GroupConfig {
        initial_rebalance_delay_ms: 3_000,
        ..config()
    });
    let ids: Vec<Str> = (0..500).map(|_| h.member_id("g")).collect();
    for round in 1..=10 {
        let joins: Vec<i32> = ids
            .iter()
            .map(|id| h.join(JOIN, join_request("g", id)))
            .collect();
        if round == 1 {
            h.advance(6_000);
        }
        let mut leader = None;
        for join in joins {
            let answer = h.joined(join).expect("the rebalance is complete");
            assert_eq!(
                (answer.error_code, answer.generation_id),
                (ErrorCode::NONE, round)
            );
            if answer.leader == answer.member_id {
                assert_eq!(answer.members.len(), 500);
                leader = Some(answer.leader);
            }
        }
        let leader = leader.expect("somebody leads");
        let given: Vec<(&Str, &'static str)> = ids.iter().map(|id| (id, "mine")).collect();
        let syncs: Vec<i32> = ids
            .iter()
            .map(|id| {
                let given = if *id == leader { &given[..] } else { &[] };
                h.sync("g", round, id, given)
            })
            .collect();
        for sync in syncs {
            let answer = h.synced(sync).expect("the assignment is committed");
            assert_eq!(answer.error_code, ErrorCode::NONE);
            assert_eq!(answer.assignment, Bytes::from_static(b"mine"));
        }
        for _ in 0..10 {
            h.advance(3_000);
            for id in &ids {
                assert_eq!(h.heartbeat("g", round, id), ErrorCode::NONE);
            }
        }
    }
    std::eprintln!(
        "500 members, 10 rebalances, 50,000 heartbeats: {:?}",
        started.elapsed()
    );
}

#[test]
fn a_thousand_groups() {
    let started = std::time::Instant::now();
    let mut h = Harness::new(config());
    let names: Vec<String> = (0..1_000).map(|i| format!("group-{i}")).collect();
    let members: Vec<(i32, Vec<Str>)> = names.iter().map(|name| h.stable(name, 2)).collect();
    for round in 0..10 {
        h.advance(3_000);
        for (name, (generation, ids)) in names.iter().zip(&members) {
            for id in ids {
                assert_eq!(h.heartbeat(name, *generation, id), ErrorCode::NONE);
                let commit = h.commit(name, *generation, id, "t", round, "");
                assert_eq!(h.committed(commit), Some(ErrorCode::NONE));
            }
        }
    }
    std::eprintln!(
        "1,000 groups of 2, 20,000 heartbeats and commits: {:?}",
        started.elapsed()
    );
    let started = std::time::Instant::now();
    h.restart();
    std::eprintln!("replay of {} records: {:?}", h.log.len(), started.elapsed());
    for (name, (generation, ids)) in names.iter().zip(&members) {
        assert_eq!(h.heartbeat(name, *generation, &ids[0]), ErrorCode::NONE);
        assert_eq!(h.offset(name, "t"), Some(9));
    }
}
