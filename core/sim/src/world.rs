//! One run: the events of a virtual clock, in order.

use std::{collections::BTreeMap, fmt, sync::Arc};

use ottla_broker::{
    Broker, BrokerConfig, CompactionId, CompactionJob, ConnId as BrokerConn, Durability,
    Output as BrokerOutput, RequestEnvelope, SyncId,
};
use ottla_client::{
    Client, ConnId, ErrCode, Event, KafkaError, Output,
    consumer::{Consumed, ConsumerEvent, Fetched, PartitionOffset, RebalanceKind, offset},
    producer::{DeliveredBatch, ProduceRecord, Side},
};
use ottla_log::{StorageError, SyncJob};
use ottla_protocol::{ApiKey, Request, Response, Str};
use ottla_record::{BatchHeader, Now};

use crate::{
    actors::{self, Actor, Program},
    checker::{Checker, Place, Promise, RecordId, key_of, value_of},
    network,
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
    Stop(Stop),
    Open,
    Produce(usize),
    /// A consumer is started, anew if it runs.
    Restart(usize),
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
    trace: Trace,
    chaos: bool,
    /// Of a thousand appends and syncs fail, while there is chaos.
    failing: u64,
    seen_faults: u64,
    slowest_us: u64,
    slowest_sync_us: u64,
    recode: u64,
    syncs_under_way: u64,
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
            checker: Checker::default(),
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
        let places: usize = self.topics.iter().map(|(_, count)| *count as usize).sum();
        self.play_until(|world| world.actors[last].ends.len() == places);
        if !self.broken {
            self.checker.conclude(self.groups);
        }
    }

    fn has_settled(&self) -> bool {
        self.broker.is_some()
            && self.syncs_under_way == 0
            && self.checker.all_reported()
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
            if let Some(broker) = &mut self.broker {
                broker.handle_timeout(now);
            }
            self.drain_broker();
        } else if let Some((_, index)) = next {
            self.actors[index].fired_us = self.now_us;
            self.with_client(index, |client, now| client.handle_timeout(now));
        }
        self.notice_faults();
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
                if self.actors[actor].life == connection.life {
                    self.with_client(actor, |client, now| {
                        client.handle_response(now, of_client, correlation_id, response)
                    });
                }
            }
            What::HungUp(conn) => {
                if let Some(broker) = &mut self.broker {
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
                if let Some(broker) = &mut self.broker {
                    broker.handle_synced(now, id, result);
                }
                self.drain_broker();
            }
            What::Compacted(opening, id, job) => {
                if opening != self.opening {
                    return;
                }
                if let Some(broker) = &mut self.broker {
                    let step = job.run();
                    trace!(self, "compacted {}: {:?}", id.0, step);
                    broker.handle_compacted(now, id, step);
                }
                self.drain_broker();
            }
            What::Stop(stop) => self.stop(stop),
            What::Open => self.open(),
            What::Produce(index) => self.produce(index),
            What::Restart(index) => self.restart(index),
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
            }
        }
    }

    // The broker.

    fn open(&mut self) {
        if self.broker.is_some() {
            return;
        }
        self.storage
            .set_failing(if self.chaos { self.failing } else { 0 });
        let storage = Arc::new(self.storage.clone());
        let seed = self.random.next();
        match Broker::open(self.config.clone(), storage, self.now(), seed) {
            Ok(broker) => {
                self.opening += 1;
                trace!(self, "broker opens, recovering {:?}", broker.recoveries());
                self.broker = Some(broker);
                self.drain_broker();
            }
            Err(error) => {
                trace!(self, "broker does not open: {error}");
                if self.storage.faults() == self.seen_faults {
                    self.broken = true;
                    self.checker
                        .violation(format!("the broker does not open: {error}"));
                    return;
                }
                self.seen_faults = self.storage.faults();
                self.after(50_000, What::Open);
            }
        }
    }

    fn stop(&mut self, stop: Stop) {
        let Some(mut broker) = self.broker.take() else {
            return;
        };
        trace!(self, "broker stops: {stop:?}");
        self.crashes += 1;
        self.storage.set_failing(0);
        if stop == Stop::Clean {
            // A partition that failed keeps it from being clean; that is for the next opening.
            let _ = broker.close(self.now());
        }
        drop(broker);
        if stop == Stop::Power {
            self.storage.crash();
        }
        for conn in self.connections.keys().copied().collect::<Vec<_>>() {
            self.cut(conn);
        }
        let pause = self.random.between(1000, 300_000);
        self.after(pause, What::Open);
    }

    fn drain_broker(&mut self) {
        while let Some(output) = self.broker.as_mut().and_then(Broker::poll_output) {
            match output {
                BrokerOutput::Respond {
                    conn,
                    correlation_id,
                    api_version,
                    response,
                } => self.answer(conn, correlation_id, api_version, response),
                BrokerOutput::Sync { id, job } => {
                    let early = self.random.chance(500);
                    let delay = self.random.below(self.slowest_sync_us) + 50;
                    self.syncs_under_way += 1;
                    let (delay, result) = match self.planted {
                        Some(Bug::AckBeforeSync) => (1, Some(Ok(()))),
                        _ => (delay, early.then(|| job.run())),
                    };
                    self.after(delay, What::Synced(self.opening, id, job, result));
                }
                BrokerOutput::Compact { id, job } => {
                    let delay = self.random.below(self.slowest_sync_us) + 50;
                    self.after(delay, What::Compacted(self.opening, id, job));
                }
                BrokerOutput::Warn(text) => trace!(self, "broker warns: {text}"),
                BrokerOutput::Disconnect(conn) => {
                    trace!(self, "broker hangs up on {}", conn.0);
                    self.checker
                        .violation("the broker refused a client's request".into());
                    self.cut(conn);
                }
            }
        }
    }

    // The network.

    fn delay(&mut self) -> u64 {
        match self.random.below(20) {
            0 => self.random.below(self.slowest_us * 4),
            _ => self.random.below(self.slowest_us),
        }
    }

    fn connect(&mut self, actor: usize, life: u64, of_client: ConnId) {
        if self.actors[actor].life != life {
            return;
        }
        let now = self.now();
        let Some(broker) = &mut self.broker else {
            let refused = KafkaError::new(ErrCode::TRANSPORT, "connection refused");
            self.with_client(actor, |client, now| {
                client.handle_disconnected(now, of_client, refused)
            });
            return;
        };
        let conn = BrokerConn(self.next_connection);
        self.next_connection += 1;
        broker.handle_connect(now, conn, "127.0.0.1");
        trace!(self, "client {actor} connects as {}", conn.0);
        self.connections.insert(
            conn,
            Connection {
                actor,
                life,
                of_client,
                request_us: 0,
                answer_us: 0,
                asked: BTreeMap::new(),
            },
        );
        self.actors[actor].connections.insert(of_client, conn);
        self.with_client(actor, |client, now| client.handle_connected(now, of_client));
    }

    /// A connection breaks; each side learns of it in its own time, the broker after what is on its way to it.
    fn cut(&mut self, conn: BrokerConn) {
        let Some(connection) = self.connections.remove(&conn) else {
            return;
        };
        trace!(self, "connection {} breaks", conn.0);
        let (us, actor, life) = (self.now_us, connection.actor, connection.life);
        let delay = self.delay();
        self.at(us + delay, What::Gone(actor, life, connection.of_client));
        self.at(connection.request_us.max(us) + 1, What::HungUp(conn));
    }

    fn hang_up_on(&mut self, actor: usize, life: u64, conn: ConnId) {
        let of = &mut self.actors[actor];
        if of.life == life && of.connections.remove(&conn).is_some() {
            let gone = KafkaError::new(ErrCode::TRANSPORT, "connection lost");
            self.with_client(actor, |client, now| {
                client.handle_disconnected(now, conn, gone)
            });
        }
    }

    fn send(
        &mut self,
        conn: BrokerConn,
        correlation_id: i32,
        api_version: i16,
        mut request: Request,
    ) {
        if self.random.chance(self.recode) {
            match network::recode_request(api_version, &request) {
                Ok(again) => request = again,
                Err(error) => self.checker.violation(format!(
                    "{:?} {api_version} can't be encoded: {error}",
                    request.api_key()
                )),
            }
        }
        if self.planted == Some(Bug::CommitsAhead)
            && let Request::OffsetCommit(commit) = &mut request
        {
            for partition in commit
                .topics
                .iter_mut()
                .flat_map(|topic| &mut topic.partitions)
            {
                partition.committed_offset += 3;
            }
        }
        if self.planted == Some(Bug::TwoOwners)
            && let Request::SyncGroup(sync) = &mut request
            && let Some(first) = sync
                .assignments
                .first()
                .map(|first| first.assignment.clone())
        {
            for assignment in &mut sync.assignments {
                assignment.assignment = first.clone();
            }
        }
        let twice = match self.planted {
            Some(Bug::AppendsTwice) => network::as_plain(&request),
            _ => None,
        };
        let delay = self.delay();
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        let mut us = self.now_us + delay;
        if self.planted != Some(Bug::RequestsReordered) {
            us = us.max(connection.request_us + 1);
        }
        connection.request_us = connection.request_us.max(us);
        connection
            .asked
            .insert(correlation_id, (request.api_key(), api_version));
        let envelope = |correlation_id, request| RequestEnvelope {
            correlation_id,
            api_version,
            client_id: Some("sim".into()),
            request,
        };
        self.at(us, What::Arrives(conn, envelope(correlation_id, request)));
        if let Some(request) = twice {
            self.at(us, What::Arrives(conn, envelope(-7, request)));
        }
    }

    fn arrive(&mut self, conn: BrokerConn, envelope: RequestEnvelope) {
        let now = self.now();
        let Some(broker) = &mut self.broker else {
            return;
        };
        self.trace.line(
            self.now_us,
            format_args!(
                "{} -> {:?} {} v{}{}",
                conn.0,
                envelope.request.api_key(),
                envelope.correlation_id,
                envelope.api_version,
                Asked(&envelope.request),
            ),
        );
        broker.handle_request(now, conn, envelope);
        self.drain_broker();
    }

    fn answer(
        &mut self,
        conn: BrokerConn,
        correlation_id: i32,
        api_version: i16,
        mut response: Response,
    ) {
        if self.random.chance(self.recode) {
            match network::recode_response(response.api_key(), api_version, &response) {
                Ok(again) => response = again,
                Err(error) => self.checker.violation(format!(
                    "answer to {:?} {api_version} can't be encoded: {error}",
                    response.api_key()
                )),
            }
        }
        let planted = match self.planted {
            Some(Bug::OffsetGap) => network::shift_offsets(&mut response, 9),
            Some(Bug::ValueChanged) => network::change_value(&mut response),
            _ => false,
        };
        let delay = self.delay();
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        let Some((key, _)) = connection.asked.remove(&correlation_id) else {
            return;
        };
        let us = (self.now_us + delay).max(connection.answer_us + 1);
        connection.answer_us = us;
        let mut to = correlation_id;
        if self.planted == Some(Bug::AnswersSwapped) && key == ApiKey::Produce {
            // An answer takes the place of another one that is still to come.
            let waiting = connection
                .asked
                .iter()
                .find(|(_, (key, _))| *key == ApiKey::Produce);
            let swapped = self.swapped.take().filter(|(on, _)| *on == conn);
            match (swapped, waiting.map(|(other, _)| *other)) {
                (Some((_, other)), _) => to = other,
                (None, Some(other)) => {
                    self.swapped = Some((conn, correlation_id));
                    to = other;
                }
                (None, None) => {}
            }
        }
        trace!(
            self,
            "{} <- {key:?} {to} {}{}",
            conn.0,
            summary(&response),
            if planted { " (planted)" } else { "" }
        );
        self.at(us, What::Answered(conn, to, response));
    }

    // The clients.

    /// Gives a client an input and does what follows.
    fn with_client(&mut self, index: usize, input: impl FnOnce(&mut Client, Now)) {
        let now = self.now();
        let Some(client) = &mut self.actors[index].client else {
            return;
        };
        input(client, now);
        self.drain_client(index);
    }

    fn drain_client(&mut self, index: usize) {
        loop {
            while let Some(output) = self.actors[index]
                .client
                .as_mut()
                .and_then(Client::poll_output)
            {
                self.carry(index, output);
            }
            if let Some(event) = self.actors[index]
                .client
                .as_mut()
                .and_then(Client::poll_event)
            {
                self.hear(index, event);
                continue;
            }
            let now = self.now();
            let consumed = self.actors[index]
                .client
                .as_mut()
                .and_then(|client| client.poll_consumed(now));
            match consumed {
                Some(consumed) => self.consume(index, consumed),
                None => break,
            }
        }
        self.note_ownership(index);
    }

    fn carry(&mut self, index: usize, output: Output) {
        let life = self.actors[index].life;
        match output {
            Output::Connect { conn, .. } => {
                let delay = self.delay();
                self.after(delay, What::Connect(index, life, conn));
            }
            Output::Send {
                conn,
                correlation_id,
                api_version,
                request,
            } => {
                if let Some(conn) = self.actors[index].connections.get(&conn).copied() {
                    self.send(conn, correlation_id, api_version, request);
                }
            }
            Output::Disconnect { conn } => {
                if let Some(conn) = self.actors[index].connections.remove(&conn) {
                    self.cut(conn);
                }
            }
        }
    }

    fn hear(&mut self, index: usize, event: Event) {
        match event {
            Event::Delivery(batch) => self.delivered(index, batch),
            Event::Consumer(ConsumerEvent::Rebalance { kind, partitions }) => {
                trace!(self, "client {index}: {kind:?} {partitions:?}");
                if kind != RebalanceKind::Assign {
                    self.actors[index].last.clear();
                }
            }
            Event::Consumer(event) => trace!(self, "client {index}: {event:?}"),
            Event::Error(error) => {
                trace!(self, "client {index}: {error:?}");
                if error.fatal {
                    self.checker
                        .violation(format!("client {index}: fatal error: {error:?}"));
                }
            }
            Event::Response { .. } | Event::Debug(_) => {}
        }
    }

    fn topic_number(&self, topic: &Str) -> usize {
        self.topics
            .iter()
            .position(|(name, _)| name == topic)
            .unwrap_or(usize::MAX)
    }

    fn delivered(&mut self, index: usize, batch: DeliveredBatch) {
        trace!(
            self,
            "client {index}: {}-{} {} records at {}: {}",
            batch.topic,
            batch.partition,
            batch.len(),
            batch.base_offset,
            batch.code().0
        );
        let place = (self.topic_number(&batch.topic), batch.partition);
        let mut deliveries = batch.deliveries();
        while let Some(delivery) = deliveries.next(&batch) {
            let id = RecordId {
                producer: index,
                number: delivery.side.opaque as u64 - 1,
            };
            let offset = batch.error.is_none().then_some(delivery.offset);
            self.checker
                .report(id, place, offset, delivery.value.unwrap_or_default());
        }
        if let Some(client) = &mut self.actors[index].client {
            client.delivery_taken(batch.len(), batch.bytes());
        }
    }

    fn consume(&mut self, index: usize, consumed: Consumed) {
        match consumed {
            Consumed::Records(fetched) => self.read(index, fetched),
            Consumed::Eof { partition, offset } => {
                let place = (self.topic_number(&partition.0), partition.1);
                trace!(self, "client {index}: end of {place:?} at {offset}");
                self.actors[index].ends.insert(place, offset);
            }
            Consumed::Error {
                partition, error, ..
            } => trace!(self, "client {index}: {partition:?} {error:?}"),
        }
    }

    fn read(&mut self, index: usize, mut fetched: Fetched) {
        let partition = fetched.partition().clone();
        let place = (self.topic_number(partition.topic()), partition.partition());
        let mut count = 0;
        while let Some(record) = fetched.next_record() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    self.checker
                        .violation(format!("consumer {index}: {place:?}: {error:?}"));
                    continue;
                }
            };
            count += 1;
            if self.planted == Some(Bug::RecordSkipped) && self.random.chance(20) {
                continue;
            }
            let id = self
                .checker
                .read(place, record.offset, record.key, record.value);
            let actor = &mut self.actors[index];
            let last = actor
                .last
                .get(&place)
                .filter(|(of, _)| Arc::ptr_eq(of, &partition))
                .map(|(_, last)| *last);
            self.checker.follows(index, place, last, record.offset);
            actor.last.insert(place, (partition.clone(), record.offset));
            match &mut actor.program {
                Program::Member {
                    group, uncommitted, ..
                } => {
                    *uncommitted += 1;
                    self.checker.group_read(*group, place, record.offset);
                }
                Program::Reader { is_last: true, .. } => {
                    if let Some(id) = id {
                        self.checker.finally(place, record.offset, id);
                    }
                }
                _ => {}
            }
        }
        trace!(
            self,
            "client {index}: reads {count} of {place:?} up to {}",
            partition.position()
        );
        self.commit(index);
    }

    /// A member that commits itself does so now and then.
    fn commit(&mut self, index: usize) {
        let Program::Member {
            commits: true,
            uncommitted,
            ..
        } = &mut self.actors[index].program
        else {
            return;
        };
        if *uncommitted < 5 || !self.random.chance(500) {
            return;
        }
        *uncommitted = 0;
        let now = self.now();
        if let Some(client) = &mut self.actors[index].client {
            // Between two generations there is nothing to commit to.
            let _ = client.commit(now, None, None);
        }
    }

    fn note_ownership(&mut self, index: usize) {
        let actor = &self.actors[index];
        let (Program::Member { group, .. }, Some(client)) = (&actor.program, &actor.client) else {
            return;
        };
        let generation = client.generation();
        // A member that is still joining a generation holds what the one before gave it; and if a power cut takes the broker
        // before anybody was told the outcome, that generation's number is used again.
        if client.join_state() != "steady" || client.is_assignment_lost() {
            return;
        }
        let group = *group;
        for (topic, partition) in client.assignment() {
            let place: Place = (self.topic_number(&topic), partition);
            // Each life of a member is another member.
            let member = index * 1000 + self.actors[index].life as usize;
            self.checker.owns(group, generation, place, member);
        }
    }

    /// A client ends without a word.
    fn halt(&mut self, index: usize) {
        let actor = &mut self.actors[index];
        actor.client = None;
        actor.life += 1;
        actor.last.clear();
        actor.ends.clear();
        let connections = std::mem::take(&mut actor.connections);
        for conn in connections.into_values() {
            self.cut(conn);
        }
    }

    fn restart(&mut self, index: usize) {
        self.halt(index);
        trace!(self, "client {index} starts");
        let now = self.now();
        let seed = self.random.next();
        let actor = &mut self.actors[index];
        let mut client = match Client::new(actor.config.clone(), now, seed) {
            Ok(client) => client,
            Err(error) => {
                self.broken = true;
                return self
                    .checker
                    .violation(format!("a client can't be made: {error:?}"));
            }
        };
        let started = match &mut actor.program {
            Program::Producer { topics, .. } => {
                topics.clear();
                self.topics.iter().try_for_each(|(name, _)| {
                    topics.push(client.intern_topic(now, name, None, None)?);
                    Ok(())
                })
            }
            Program::Reader { topics, .. } => {
                let all: Vec<PartitionOffset> = topics
                    .iter()
                    .flat_map(|topic| {
                        let (name, count) = self.topics[*topic].clone();
                        (0..count)
                            .map(move |n| PartitionOffset::new(name.clone(), n, offset::BEGINNING))
                    })
                    .collect();
                client.assign(now, &all)
            }
            Program::Member { uncommitted, .. } => {
                *uncommitted = 0;
                let names: Vec<Str> = self.topics.iter().map(|(name, _)| name.clone()).collect();
                client.subscribe(now, &names)
            }
        };
        if let Err(error) = started {
            self.checker
                .violation(format!("client {index} can't start: {error:?}"));
        }
        actor.client = Some(client);
        self.drain_client(index);
    }

    /// A few records, and the next few later.
    fn produce(&mut self, index: usize) {
        let now = self.now();
        let burst = self.random.between(1, 12);
        let actor = &mut self.actors[index];
        let (Program::Producer { topics, left }, Some(client)) =
            (&mut actor.program, &mut actor.client)
        else {
            return;
        };
        for _ in 0..burst.min(*left) {
            *left -= 1;
            let topic = self.random.below(topics.len() as u64) as usize;
            let partition = match self.random.chance(300) {
                true => -1,
                false => self.random.below(self.topics[topic].1 as u64) as i32,
            };
            let id = self.checker.produce(index);
            let (key, value) = (key_of(id), value_of(id));
            let record = ProduceRecord {
                topic: topics[topic],
                partition,
                timestamp: 0,
                key: key.as_deref().map(str::as_bytes),
                value: Some(value.as_bytes()),
                headers: &[],
                side: Side {
                    opaque: id.number as usize + 1,
                    payload_addr: 0,
                },
            };
            if let Err(error) = client.produce(now, &record) {
                self.checker.refused(id);
                self.checker
                    .violation(format!("{id:?} was refused: {error:?}"));
            }
        }
        if *left > 0 {
            let pause = self.random.between(1000, 150_000);
            self.after(pause, What::Produce(index));
        }
        self.drain_client(index);
    }
}

/// What matters of a request, for the trace: the batches that are produced.
struct Asked<'a>(&'a Request);

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request::Produce(produce) = self.0 else {
            return Ok(());
        };
        for topic in &produce.topic_data {
            for data in &topic.partition_data {
                let raw = data.records.chunks().next().cloned().unwrap_or_default();
                let Ok(header) = BatchHeader::parse(&raw) else {
                    continue;
                };
                write!(
                    f,
                    " {}-{} {} records of {} epoch {} from {}",
                    topic.name,
                    data.index,
                    header.record_count,
                    header.producer_id,
                    header.producer_epoch,
                    header.base_sequence
                )?;
            }
        }
        Ok(())
    }
}

/// What matters of an answer, for the trace.
fn summary(response: &Response) -> String {
    match response {
        Response::Produce(produce) => {
            let parts = produce.responses.iter().flat_map(|topic| {
                topic.partition_responses.iter().map(|p| {
                    format!(
                        "{}-{}@{}:{}",
                        topic.name, p.index, p.base_offset, p.error_code.0
                    )
                })
            });
            parts.collect::<Vec<_>>().join(" ")
        }
        Response::Fetch(fetch) => {
            let parts = fetch.responses.iter().flat_map(|topic| {
                topic.partitions.iter().map(|p| {
                    format!(
                        "{} hw {} {} bytes:{}",
                        p.partition_index,
                        p.high_watermark,
                        p.records.len(),
                        p.error_code.0
                    )
                })
            });
            parts.collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}
