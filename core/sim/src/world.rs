//! One run: the events of a virtual clock, in order.

use std::{collections::BTreeMap, fmt, sync::Arc};

use ottla_broker::{
    Broker, BrokerConfig, CompactionId, CompactionJob, ConnId as BrokerConn, Durability,
    Output as BrokerOutput, ProduceJob, RemovalJob, RequestEnvelope, ShareOffsetReset, SyncId,
};
use ottla_client::{
    Client, ConnId, ErrCode, Event, KafkaError, Output,
    consumer::{Consumed, ConsumerEvent, Fetched, PartitionOffset, RebalanceKind, offset},
    producer::{DeliveredBatch, ProduceRecord, Side},
};
use ottla_log::{StorageError, SyncJob};
use ottla_protocol::{ApiKey, Request, Response, Str};
use ottla_record::{BatchHeader, Codecs, Header, Now};

use crate::{
    actors::{self, Actor, Program},
    checker::{Checker, Place, Promise, RecordId, value_of},
    compaction, network,
    planted::Bug,
    random::Random,
    storage::SimStorage,
    trace::Trace,
};

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep the text of the trace.
    pub trace: bool,
    /// A bug to plant.
    pub planted: Option<Bug>,
}

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What is wrong; nothing, if all is well.
    pub violations: Vec<String>,
    /// Of the whole trace.
    pub hash: u64,
    /// The trace, if wanted.
    pub trace: Option<Vec<String>>,
    /// Records produced.
    pub records: u64,
    /// Of them acknowledged.
    pub acknowledged: u64,
    /// Transactions whose commit was confirmed.
    pub transactions: u64,
    /// Times that a member of a scripted group was told of a partition.
    pub assignments: u64,
    /// Deliveries to members of share groups.
    pub deliveries: u64,
    /// Stops of the broker: power cuts, kills and clean ones.
    pub crashes: u64,
    /// Appends and syncs that failed.
    pub faults: u64,
    /// Events played.
    pub steps: u64,
    /// Virtual time, in microseconds.
    pub simulated_us: u64,
}

/// How a broker ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stop {
    Clean,
    /// The process dies; what it wrote is there.
    Kill,
    /// The machine dies; what was not synced may be gone.
    Power,
}

enum What {
    Connect(usize, u64, ConnId),
    Arrives(BrokerConn, RequestEnvelope),
    Answered(BrokerConn, i32, Response),
    /// The broker learns that a connection is gone.
    HungUp(BrokerConn),
    /// A client learns that a connection is gone.
    Gone(usize, u64, ConnId),
    Synced(u64, SyncId, SyncJob, Option<Result<(), StorageError>>),
    Compacted(u64, CompactionId, CompactionJob),
    Removed(u64, RemovalJob),
    /// What is lent comes back, if it isn't back yet.
    BroughtBack,
    Stop(Stop),
    Open,
    Produce(usize),
    /// A consumer is started, anew if it runs.
    Restart(usize),
    /// One of [`speakers`] goes on; its timer's number.
    Speaks(Speaker, u64),
    Drop,
    EndOfChaos,
}

struct Connection {
    actor: usize,
    life: u64,
    of_client: ConnId,
    /// Messages of a connection keep their order.
    request_us: u64,
    answer_us: u64,
    asked: BTreeMap<i32, (ApiKey, i16)>,
}

/// Wall clock at the start.
const START_MS: i64 = 1_700_000_000_000;
/// For how long faults happen.
const CHAOS_US: u64 = 3_000_000;
/// Virtual time by which all must have settled.
const DEADLINE_US: u64 = 150_000_000;
/// Events after which a run is stuck.
const MOST_STEPS: u64 = 400_000;

struct World {
    random: Random,
    planted: Option<Bug>,
    now_us: u64,
    events: BTreeMap<(u64, u64), What>,
    next_event: u64,
    storage: SimStorage,
    broker: Option<Broker>,
    config: BrokerConfig,
    /// Counts the broker's openings.
    opening: u64,
    connections: BTreeMap<BrokerConn, Connection>,
    next_connection: u64,
    actors: Vec<Actor>,
    topics: Vec<(Str, i32)>,
    groups: usize,
    checker: Checker,
    transactions: transactions::Transactions,
    players: players::Players,
    trace: Trace,
    chaos: bool,
    /// Of a thousand appends and syncs fail, while there is chaos.
    failing: u64,
    seen_faults: u64,
    slowest_us: u64,
    slowest_sync_us: u64,
    recode: u64,
    syncs_under_way: u64,
    /// Produces that append beside the broker.
    lent: Vec<Lent>,
    codecs: Codecs,
    crashes: u64,
    steps: u64,
    swapped: Option<(BrokerConn, i32)>,
    broken: bool,
}

/// Plays a seed.
pub fn run(seed: u64, options: Options) -> Outcome {
    let mut world = World::new(seed, options);
    world.prepare();
    world.play();
    Outcome {
        hash: world.trace.hash(),
        records: world.checker.records(),
        acknowledged: world.checker.acknowledged(),
        transactions: world.transactions.ledger.committed(),
        assignments: world.players.membership.as_ref().map_or(0, |it| it.given),
        deliveries: world.players.sharing.as_ref().map_or(0, |it| it.delivered),
        crashes: world.crashes,
        faults: world.storage.faults(),
        steps: world.steps,
        simulated_us: world.now_us,
        violations: world.checker.violations,
        trace: world.trace.lines,
    }
}

macro_rules! trace {
    ($world:expr, $($what:tt)*) => {
        $world.trace.line($world.now_us, format_args!($($what)*))
    };
}

mod broker;
mod clients;
mod connections;
mod lending;
mod members;
mod players;
mod sharers;
mod speakers;
mod transactions;

use lending::Lent;
use speakers::Speaker;

impl World {
    fn new(seed: u64, options: Options) -> Self {
        let mut random = Random::new(seed ^ 0x6f74_746c_6121);
        let mut config = BrokerConfig {
            durability: Durability::Fsync,
            num_partitions: random.between(1, 3) as i32,
            recovery_checkpoint_interval_ms: 400,
            high_watermark_checkpoint_interval_ms: 300,
            ..BrokerConfig::default()
        };
        config.groups.partitions = 2;
        config.groups.min_session_timeout_ms = 500;
        config.topic_defaults.segment_bytes = [1200, 8000, 1 << 20][random.below(3) as usize];
        config.topic_defaults.index_interval_bytes = 500;
        config.topic_defaults.segment_index_bytes = 4096;
        let mut checker = Checker::default();
        if random.chance(350) {
            checker.compacted = true;
            compaction::configure(&mut config, &mut random);
        }
        let topics = (0..random.between(1, 2))
            .map(|n| (Str::from(format!("t{n}").as_str()), config.num_partitions))
            .collect();
        Self {
            storage: SimStorage::new(random.next(), options.planted),
            planted: options.planted,
            now_us: 1_000_000,
            events: BTreeMap::new(),
            next_event: 0,
            broker: None,
            config,
            opening: 0,
            connections: BTreeMap::new(),
            next_connection: 1,
            actors: Vec::new(),
            topics,
            groups: 1,
            checker,
            transactions: transactions::Transactions::new(seed),
            players: players::Players::new(seed),
            trace: Trace::new(options.trace),
            chaos: true,
            failing: if random.chance(300) {
                random.between(1, 30)
            } else {
                0
            },
            seen_faults: 0,
            slowest_us: [300, 3000, 40_000][random.below(3) as usize],
            slowest_sync_us: [500, 10_000, 200_000][random.below(3) as usize],
            recode: [0, 50, 1000][random.below(3) as usize],
            syncs_under_way: 0,
            lent: Vec::new(),
            codecs: Codecs::new(),
            crashes: 0,
            steps: 0,
            swapped: None,
            broken: false,
            random,
        }
    }

    fn now(&self) -> Now {
        Now::new(self.now_us, START_MS + (self.now_us / 1000) as i64)
    }

    fn at(&mut self, us: u64, what: What) {
        self.next_event += 1;
        self.events.insert((us, self.next_event), what);
    }

    fn after(&mut self, us: u64, what: What) {
        self.at(self.now_us + us, what);
    }

    /// Who is there, and what will go wrong when.
    fn prepare(&mut self) {
        let loose = self.planted == Some(Bug::RequestsReordered);
        for index in 0..self.random.between(2, 4) as usize {
            let idempotent = index % 2 == 0;
            let config = actors::producer(&mut self.random, idempotent, loose);
            self.checker.promises.insert(
                index,
                Promise {
                    once: idempotent,
                    ordered: true,
                },
            );
            let left = self.random.between(30, 150);
            let program = Program::Producer {
                topics: Vec::new(),
                left,
            };
            self.actors.push(Actor::new(config, program));
            let start = self.random.below(50_000);
            self.after(start, What::Restart(index));
            self.after(start + 1000, What::Produce(index));
        }
        for topic in 0..self.topics.len() {
            let config = actors::consumer(&mut self.random);
            let program = Program::Reader {
                topics: vec![topic],
                is_last: false,
            };
            self.actors.push(Actor::new(config, program));
        }
        let strategy = self.random.below(3) as usize;
        for _ in 0..self.random.between(2, 3) {
            let commits = self.random.chance(500);
            let config = actors::member(&mut self.random, strategy, commits);
            let program = Program::Member {
                group: 0,
                commits,
                uncommitted: 0,
            };
            self.actors.push(Actor::new(config, program));
        }
        for index in 0..self.actors.len() {
            if !matches!(self.actors[index].program, Program::Producer { .. }) {
                let start = self.random.below(400_000);
                self.after(start, What::Restart(index));
                for _ in 0..self.random.below(3) {
                    let again = self.random.between(start, CHAOS_US);
                    self.after(again, What::Restart(index));
                }
            }
        }
        for _ in 0..self.random.below(4) {
            let when = self.random.below(CHAOS_US);
            let stop = self.any_stop();
            self.after(when, What::Stop(stop));
        }
        for _ in 0..self.random.below(8) {
            let when = self.random.below(CHAOS_US);
            self.after(when, What::Drop);
        }
        self.prepare_transactions();
        self.prepare_players();
        self.after(0, What::Open);
        self.after(CHAOS_US, What::EndOfChaos);
    }

    fn any_stop(&mut self) -> Stop {
        [Stop::Clean, Stop::Kill, Stop::Power, Stop::Power][self.random.below(4) as usize]
    }

    /// Plays until all has settled, then looks at what is left after one more power cut.
    fn play(&mut self) {
        self.play_until(|world| !world.chaos && world.has_settled());
        if self.broken {
            return;
        }
        for index in 0..self.actors.len() {
            self.halt(index);
        }
        self.end_transactions();
        self.end_players();
        self.stop(Stop::Power);
        let config = actors::consumer(&mut self.random);
        let config = ottla_client::ClientConfig {
            enable_partition_eof: true,
            ..config
        };
        let program = Program::Reader {
            topics: (0..self.topics.len()).collect(),
            is_last: true,
        };
        let last = self.actors.len();
        self.actors.push(Actor::new(config, program));
        self.after(1000, What::Restart(last));
        self.read_transactions();
        self.read_players();
        let places: usize = self.topics.iter().map(|(_, count)| *count as usize).sum();
        self.play_until(|world| {
            world.actors[last].ends.len() == places
                && world.transactions.has_settled()
                && world.players.has_settled(world.now_us)
        });
        if !self.broken {
            for what in self.transactions.ledger.conclude() {
                self.checker.violation(what);
            }
            self.checker.conclude(self.groups);
        }
    }

    fn has_settled(&self) -> bool {
        self.broker.is_some()
            && self.syncs_under_way == 0
            && self.checker.all_reported()
            && self.transactions.has_settled()
            && self.players.has_settled(self.now_us)
            && self.actors.iter().all(|actor| match actor.program {
                Program::Producer { left, .. } => left == 0,
                _ => true,
            })
            && (0..self.groups).all(|group| self.checker.group_is_done(group))
    }

    fn play_until(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = self.now_us + DEADLINE_US;
        while !self.broken && !done(self) {
            self.steps += 1;
            if self.now_us > deadline || self.steps > MOST_STEPS {
                self.broken = true;
                let unreported = !self.checker.all_reported();
                let what = format!(
                    "stuck at {:.3} s after {} steps (records without a report: {unreported})",
                    self.now_us as f64 / 1e6,
                    self.steps
                );
                self.checker.violation(what);
                return;
            }
            self.step();
        }
    }

    fn step(&mut self) {
        let event = self.events.first_key_value().map(|((us, _), _)| *us);
        let broker = self.broker.as_ref().and_then(Broker::poll_timeout);
        let mut next: Option<(u64, usize)> = None;
        for (index, actor) in self.actors.iter().enumerate() {
            let due = actor.client.as_ref().and_then(Client::poll_timeout);
            // A timer that is due again at once must not stop the clock.
            if let Some(due) = due.map(|due| due.max(actor.fired_us + 20))
                && next.is_none_or(|(us, _)| due < us)
            {
                next = Some((due, index));
            }
        }
        let actor = next.map(|(us, _)| us);
        let Some(first) = [event, broker, actor].into_iter().flatten().min() else {
            self.broken = true;
            self.checker
                .violation("nothing will ever happen again".into());
            return;
        };
        self.now_us = self.now_us.max(first);
        let now = self.now();
        self.storage.set_now_ms(now.wall_ms);
        if event == Some(first) {
            if let Some((_, what)) = self.events.pop_first() {
                self.happen(what);
            }
        } else if broker == Some(first) {
            if let Some(broker) = self.whole_broker() {
                broker.handle_timeout(now);
            }
            self.drain_broker();
        } else if let Some((_, index)) = next {
            self.actors[index].fired_us = self.now_us;
            self.with_client(index, |client, now| client.handle_timeout(now));
        }
        self.notice_faults();
        self.notice_players();
    }

    /// After a storage fault the broker is opened anew, soon.
    fn notice_faults(&mut self) {
        let faults = self.storage.faults();
        if faults > self.seen_faults {
            self.seen_faults = faults;
            trace!(self, "storage fault");
            let delay = self.random.below(300_000);
            let stop = self.any_stop();
            self.after(delay, What::Stop(stop));
        }
    }

    fn happen(&mut self, what: What) {
        let now = self.now();
        match what {
            What::Connect(actor, life, conn) => self.connect(actor, life, conn),
            What::Arrives(conn, envelope) => self.arrive(conn, envelope),
            What::Answered(conn, correlation_id, response) => {
                let Some(connection) = self.connections.get(&conn) else {
                    return;
                };
                let (actor, of_client) = (connection.actor, connection.of_client);
                if let Some(speaker) = Speaker::of_actor(actor) {
                    return self.speaker_hears(speaker, correlation_id, response);
                }
                if self.actors[actor].life == connection.life {
                    self.with_client(actor, |client, now| {
                        client.handle_response(now, of_client, correlation_id, response)
                    });
                }
            }
            What::HungUp(conn) => {
                if let Some(sharing) = &mut self.players.sharing {
                    sharing.hung_up(conn.0);
                }
                if let Some(broker) = self.whole_broker() {
                    broker.handle_disconnect(now, conn);
                }
                self.drain_broker();
            }
            What::Gone(actor, life, conn) => self.hang_up_on(actor, life, conn),
            What::Synced(opening, id, job, result) => {
                self.syncs_under_way -= 1;
                if opening != self.opening || self.broker.is_none() {
                    return;
                }
                let result = result.unwrap_or_else(|| job.run());
                trace!(
                    self,
                    "synced {} up to {}: {:?}",
                    id.0,
                    job.up_to,
                    result.is_ok()
                );
                if let Some(broker) = self.whole_broker() {
                    broker.handle_synced(now, id, result);
                }
                self.drain_broker();
            }
            What::Compacted(opening, id, job) => {
                if opening != self.opening {
                    return;
                }
                if self.broker.is_some() {
                    let step = job.run();
                    trace!(self, "compacted {}: {:?}", id.0, step);
                    if let Some(broker) = self.whole_broker() {
                        broker.handle_compacted(now, id, step);
                    }
                }
                self.drain_broker();
            }
            What::Removed(opening, job) => {
                if opening != self.opening {
                    return;
                }
                if self.broker.is_some() {
                    let removed = job.run();
                    if let Some(broker) = self.whole_broker() {
                        broker.handle_removed(removed);
                    }
                }
                self.drain_broker();
            }
            What::BroughtBack => {
                self.bring_back();
                self.drain_broker();
            }
            What::Stop(stop) => self.stop(stop),
            What::Open => self.open(),
            What::Produce(index) => self.produce(index),
            What::Restart(index) => self.restart(index),
            What::Speaks(speaker, timer) => self.speaker_goes_on(speaker, timer),
            What::Drop => {
                let count = self.connections.len() as u64;
                let pick = self.random.below(count) as usize;
                if let Some(conn) = self.connections.keys().nth(pick).copied() {
                    self.cut(conn);
                }
            }
            What::EndOfChaos => {
                trace!(self, "end of chaos");
                self.chaos = false;
                let stop = self.any_stop();
                self.stop(stop);
                self.calm_players();
            }
        }
    }
}
