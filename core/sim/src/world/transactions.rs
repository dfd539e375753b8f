//! Transactional producers that follow a script, and who reads what they commit.
//!
//! The client library has no transactional producer, so these speak the protocol themselves, in random versions, each message
//! through the codec and back, over the same connections as everybody. A producer has one request under way at a time and repeats it
//! with the same contents until it knows the outcome. Instances with one transactional id take each other's place while the old
//! one goes on; some end without a word in the middle of a transaction; some `EndTxn` have a copy that comes later.

use std::collections::{BTreeMap, VecDeque};

use ottla_protocol::{
    ErrorCode, Records,
    messages::{
        add_offsets_to_txn::AddOffsetsToTxnRequest,
        add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic},
        create_topics::{CreatableTopic, CreateTopicsRequest},
        end_txn::EndTxnRequest,
        fetch::{AbortedTransaction, FetchPartition, FetchRequest, FetchResponse, FetchTopic},
        init_producer_id::InitProducerIdRequest,
        offset_commit::{
            OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
        },
        offset_fetch::{
            OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic,
            OffsetFetchRequestTopics, OffsetFetchResponse,
        },
        produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
        txn_offset_commit::{
            TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
        },
    },
};
use ottla_record::{BatchBuilder, Batches, FinishOptions, Limits};

use super::*;
use crate::transactions::{Fate, Ledger};

/// Connections of scripts have numbers of actors from here on.
pub(super) const SCRIPTED: usize = 1 << 20;
/// Where transactions write to.
const TOPIC: Str = Str::from_static("tx");
const PARTITIONS: i32 = 2;
/// `transaction.timeout.ms`.
const TIMEOUT_MS: i32 = 1200;

/// What is asked until there is an outcome.
#[derive(Clone)]
enum Ask {
    Create,
    Init,
    Add(Vec<i32>),
    Produce(Vec<(i32, Records)>),
    AddOffsets,
    Offsets(i64),
    End(bool),
    /// A copy of an EndTxn.
    Late(EndTxnRequest),
    Fetch,
    /// The committed offset of a transactional id's group.
    FetchOffset(usize),
}

#[derive(Default)]
struct Producer {
    name: usize,
    /// Of transaction version 2 (KIP-890).
    v2: bool,
    id: (i64, i16),
    sequences: BTreeMap<i32, i32>,
    /// Its transaction, and since when it has it.
    open: Option<(usize, u64)>,
    plan: VecDeque<Ask>,
    steps: u64,
    added: Vec<i32>,
    added_offsets: bool,
    /// A commit may have arrived without an answer, or may still arrive.
    uncertain: bool,
    /// How many times the broker was asked for its producer id, by anybody, up to when it was by this one last.
    asked: u64,
}

#[derive(Default)]
struct Reader {
    next: [i64; PARTITIONS as usize],
    done: [bool; PARTITIONS as usize],
    last: bool,
}

enum Does {
    Produces(Producer),
    Reads(Reader),
    Asks,
}

struct Script {
    does: Does,
    ask: Option<Ask>,
    conn: Option<BrokerConn>,
    /// Counts connections.
    life: u64,
    /// Counts timers; only the last one set counts.
    timer: u64,
    correlation: i32,
    waits: bool,
    done: bool,
}

struct Name {
    text: Str,
    left: u64,
    /// How many times the broker was asked for its producer id. What counts is when a request arrives, not when it is sent.
    asked: u64,
    /// The newest producer id and epoch that anybody was given.
    newest: (i64, i16),
}

/// The transactions of a run.
pub(super) struct Transactions {
    random: Random,
    names: Vec<Name>,
    scripts: Vec<Script>,
    pub ledger: Ledger,
    /// Everybody was sent home.
    over: bool,
}

impl Transactions {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed ^ 0x7478_6e73),
            names: Vec::new(),
            scripts: Vec::new(),
            ledger: Ledger::default(),
            over: false,
        }
    }

    /// Whether all scripts have come to their end, but for readers that have none.
    pub fn has_settled(&self) -> bool {
        let endless = |does: &Does| matches!(does, Does::Reads(Reader { last: false, .. }));
        let mut scripts = self.scripts.iter();
        scripts.all(|script| script.done || endless(&script.does))
    }

    fn add(&mut self, does: Does, ask: Option<Ask>) -> usize {
        self.scripts.push(Script {
            does,
            ask,
            conn: None,
            life: 0,
            timer: 0,
            correlation: 0,
            waits: false,
            done: false,
        });
        self.scripts.len() - 1
    }

    fn add_producer(&mut self, name: usize) -> usize {
        let producer = Producer {
            name,
            v2: self.random.chance(650),
            ..Producer::default()
        };
        self.add(Does::Produces(producer), Some(Ask::Init))
    }

    /// The next thing that a producer asks for; `None`: it is done.
    fn next(&mut self, index: usize, now_us: u64) -> Option<Ask> {
        let Does::Produces(p) = &mut self.scripts[index].does else {
            return None;
        };
        if let Some(ask) = p.plan.pop_front() {
            return Some(ask);
        }
        let random = &mut self.random;
        let Some((number, _)) = p.open else {
            let name = &mut self.names[p.name];
            name.left = name.left.checked_sub(1)?;
            p.open = Some((self.ledger.begin(p.name), now_us));
            p.steps = random.between(1, 5);
            (p.added, p.added_offsets, p.uncertain) = (Vec::new(), false, false);
            return self.next(index, now_us);
        };
        if p.steps == 0 {
            // Some leave without a word; what they did is left to time or to the next instance.
            return (!random.chance(60)).then(|| Ask::End(random.chance(700)));
        }
        p.steps -= 1;
        if random.chance(250) {
            self.ledger.offset(number);
            if !p.v2 && !std::mem::replace(&mut p.added_offsets, true) {
                p.plan.push_back(Ask::AddOffsets);
            }
            p.plan.push_back(Ask::Offsets(number as i64));
            return p.plan.pop_front();
        }
        let partitions = match random.below(3) {
            0 => vec![0, 1],
            n => vec![n as i32 - 1],
        };
        let missing = |partition: &&i32| !p.added.contains(partition);
        let new: Vec<i32> = partitions.iter().filter(missing).copied().collect();
        if !p.v2 && !new.is_empty() {
            p.added.extend(&new);
            p.plan.push_back(Ask::Add(new));
        }
        let mut batches = Vec::new();
        for partition in partitions {
            let count = random.between(1, 3);
            let values = self.ledger.values(number, partition, count);
            let sequence = p.sequences.entry(partition).or_default();
            let base = *sequence;
            *sequence += values.len() as i32;
            batches.push((partition, batch(now_us, p.id, base, &values)));
        }
        p.plan.push_back(Ask::Produce(batches));
        p.plan.pop_front()
    }

    /// The request in a version that the script may use.
    fn request(&mut self, index: usize) -> Option<(i16, Request)> {
        let script = &self.scripts[index];
        let ask = script.ask.clone()?;
        let random = &mut self.random;
        let mut any = |from: i16, to: i16| random.between(from as u64, to as u64) as i16;
        let none = Producer::default();
        let p = match &script.does {
            Does::Produces(p) => p,
            _ => &none,
        };
        let (producer_id, producer_epoch) = p.id;
        let name = |index: usize| self.names.get(index).map(|name| name.text.clone());
        let id = name(p.name).unwrap_or_default();
        Some(match ask {
            Ask::Create => (
                any(2, 7),
                Request::CreateTopics(CreateTopicsRequest {
                    topics: vec![CreatableTopic {
                        name: TOPIC,
                        num_partitions: PARTITIONS,
                        replication_factor: 1,
                        ..Default::default()
                    }],
                    timeout_ms: 5000,
                    ..Default::default()
                }),
            ),
            Ask::Init => (
                any(0, 5),
                Request::InitProducerId(InitProducerIdRequest {
                    transactional_id: Some(id),
                    transaction_timeout_ms: TIMEOUT_MS,
                    ..Default::default()
                }),
            ),
            Ask::Add(partitions) => (
                any(0, 3),
                Request::AddPartitionsToTxn(AddPartitionsToTxnRequest {
                    v3_and_below_transactional_id: id,
                    v3_and_below_producer_id: producer_id,
                    v3_and_below_producer_epoch: producer_epoch,
                    v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                        name: TOPIC,
                        partitions,
                    }],
                    ..Default::default()
                }),
            ),
            Ask::Produce(batches) => {
                let data = batches.into_iter().map(|(index, records)| {
                    let mut data = PartitionProduceData::default();
                    (data.index, data.records) = (index, records);
                    data
                });
                let request = ProduceRequest {
                    transactional_id: Some(id),
                    acks: -1,
                    timeout_ms: 1000,
                    topic_data: vec![TopicProduceData {
                        name: TOPIC,
                        partition_data: data.collect(),
                        ..Default::default()
                    }],
                };
                let version = if p.v2 { 12 } else { any(3, 11) };
                (version, Request::Produce(request))
            }
            Ask::AddOffsets => (
                any(0, 3),
                Request::AddOffsetsToTxn(AddOffsetsToTxnRequest {
                    group_id: id.clone(),
                    transactional_id: id,
                    producer_id,
                    producer_epoch,
                }),
            ),
            Ask::Offsets(committed_offset) => (
                if p.v2 { 5 } else { any(0, 4) },
                Request::TxnOffsetCommit(TxnOffsetCommitRequest {
                    group_id: id.clone(),
                    transactional_id: id,
                    producer_id,
                    producer_epoch,
                    topics: vec![TxnOffsetCommitRequestTopic {
                        name: TOPIC,
                        partitions: vec![TxnOffsetCommitRequestPartition {
                            committed_offset,
                            ..Default::default()
                        }],
                    }],
                    ..Default::default()
                }),
            ),
            Ask::End(committed) => (
                if p.v2 { 5 } else { any(0, 4) },
                Request::EndTxn(EndTxnRequest {
                    transactional_id: id,
                    producer_id,
                    producer_epoch,
                    committed,
                }),
            ),
            Ask::Late(request) => (5, Request::EndTxn(request)),
            Ask::Fetch => {
                let Does::Reads(reader) = &script.does else {
                    return None;
                };
                let most = [300, 1 << 20][any(0, 1) as usize];
                let partitions = (0..PARTITIONS).map(|partition| FetchPartition {
                    partition,
                    fetch_offset: reader.next[partition as usize],
                    partition_max_bytes: most,
                    ..Default::default()
                });
                let request = FetchRequest {
                    max_wait_ms: if reader.last { 0 } else { 300 },
                    min_bytes: 1,
                    max_bytes: i32::MAX,
                    isolation_level: 1,
                    session_epoch: -1,
                    topics: vec![FetchTopic {
                        topic: TOPIC,
                        partitions: partitions.collect(),
                        ..Default::default()
                    }],
                    ..Default::default()
                };
                (any(4, 12), Request::Fetch(request))
            }
            Ask::FetchOffset(index) => {
                let (version, group_id) = (any(7, 9), name(index).unwrap_or_default());
                let mut request = OffsetFetchRequest {
                    require_stable: true,
                    ..Default::default()
                };
                if version < 8 {
                    request.group_id = group_id;
                    request.topics = Some(vec![OffsetFetchRequestTopic {
                        name: TOPIC,
                        partition_indexes: vec![0],
                    }]);
                } else {
                    request.groups = vec![OffsetFetchRequestGroup {
                        group_id,
                        topics: Some(vec![OffsetFetchRequestTopics {
                            name: TOPIC,
                            partition_indexes: vec![0],
                            ..Default::default()
                        }]),
                        ..Default::default()
                    }];
                }
                (version, Request::OffsetFetch(request))
            }
        })
    }
}

fn batch(now_us: u64, (id, epoch): (i64, i16), base_sequence: i32, values: &[String]) -> Records {
    let mut builder = BatchBuilder::new(256);
    for value in values {
        // Each key is there once, so that compaction leaves all of them.
        let timestamp = START_MS + (now_us / 1000) as i64;
        let value = Some(value.as_bytes());
        let _ = builder.append(timestamp, value, value, &[]);
    }
    let options = FinishOptions {
        producer_id: id,
        producer_epoch: epoch,
        base_sequence,
        transactional: true,
        ..FinishOptions::default()
    };
    let batch = builder.finish(&options);
    batch.map(|it| it.encoded.into()).unwrap_or_default()
}

/// The outcome of a request, its first error if it has several.
fn error_of(response: &Response) -> ErrorCode {
    let mut errors: Vec<ErrorCode> = Vec::new();
    match response {
        Response::CreateTopics(answer) => {
            errors.extend(answer.topics.iter().map(|it| it.error_code))
        }
        Response::InitProducerId(answer) => errors.push(answer.error_code),
        Response::AddOffsetsToTxn(answer) => errors.push(answer.error_code),
        Response::EndTxn(answer) => errors.push(answer.error_code),
        Response::AddPartitionsToTxn(answer) => {
            for topic in &answer.results_by_topic_v3_and_below {
                let of = topic.results_by_partition.iter();
                errors.extend(of.map(|it| it.partition_error_code));
            }
        }
        Response::Produce(answer) => {
            for topic in &answer.responses {
                errors.extend(topic.partition_responses.iter().map(|it| it.error_code));
            }
        }
        Response::TxnOffsetCommit(answer) => {
            for topic in &answer.topics {
                errors.extend(topic.partitions.iter().map(|it| it.error_code));
            }
        }
        _ => {}
    }
    // One that can't be repeated counts more than one that can.
    let first = |known: fn(ErrorCode) -> bool| {
        let mut errors = errors.iter().copied();
        errors.find(|it| *it != ErrorCode::NONE && known(*it))
    };
    first(|it| !passes(it))
        .or(first(passes))
        .unwrap_or_default()
}

/// Errors after which the same request is sent again.
fn passes(error: ErrorCode) -> bool {
    [
        ErrorCode::CONCURRENT_TRANSACTIONS,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::LEADER_NOT_AVAILABLE,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ]
    .contains(&error)
}

impl World {
    /// In some runs there are transactions.
    pub(super) fn prepare_transactions(&mut self) {
        self.config.transactions.partitions = 2;
        self.config.transactions.abort_timed_out_interval_ms = 200;
        let it = &mut self.transactions;
        if !it.random.chance(400) {
            return;
        }
        for n in 0..it.random.between(1, 2) {
            it.names.push(Name {
                text: format!("x{n}").as_str().into(),
                left: it.random.between(3, 9),
                asked: 0,
                newest: (-1, -1),
            });
        }
        let first = it.add(Does::Asks, Some(Ask::Create));
        self.script_after(first, 1000);
    }

    /// The topic is there: everybody begins.
    fn start_transactions(&mut self) {
        let it = &mut self.transactions;
        let mut new = vec![it.add(Does::Reads(Reader::default()), Some(Ask::Fetch))];
        for name in 0..it.names.len() {
            new.push(it.add_producer(name));
        }
        for index in new {
            let delay = self.transactions.random.below(200_000);
            self.script_after(index, delay);
        }
    }

    /// The broker is asked by an actor, of which it may not know any more that it is connected.
    pub(super) fn transactions_arrive(&mut self, actor: Option<usize>, request: &Request) {
        let Request::InitProducerId(InitProducerIdRequest {
            transactional_id: Some(id),
            ..
        }) = request
        else {
            return;
        };
        let it = &mut self.transactions;
        let Some(name) = it.names.iter_mut().find(|name| name.text == *id) else {
            return;
        };
        name.asked += 1;
        let script = actor.and_then(|actor| it.scripts.get_mut(actor.checked_sub(SCRIPTED)?));
        if let Some(Does::Produces(p)) = script.map(|script| &mut script.does) {
            p.asked = name.asked;
        }
    }

    /// Everybody leaves.
    pub(super) fn end_transactions(&mut self) {
        self.transactions.over = true;
        for index in 0..self.transactions.scripts.len() {
            self.script_ends(index);
        }
    }

    /// After everything: what is there, and what the groups' offsets are.
    pub(super) fn read_transactions(&mut self) {
        let it = &mut self.transactions;
        if it.names.is_empty() {
            return;
        }
        let reader = Reader {
            last: true,
            ..Reader::default()
        };
        let mut new = vec![it.add(Does::Reads(reader), Some(Ask::Fetch))];
        for name in 0..it.names.len() {
            new.push(it.add(Does::Asks, Some(Ask::FetchOffset(name))));
        }
        for index in new {
            self.script_after(index, 1000);
        }
    }

    fn script_after(&mut self, index: usize, us: u64) {
        let script = &mut self.transactions.scripts[index];
        script.timer += 1;
        let timer = script.timer;
        self.after(us, What::Script(index, timer));
    }

    fn script_ends(&mut self, index: usize) {
        let script = &mut self.transactions.scripts[index];
        script.done = true;
        script.life += 1;
        if let Some(conn) = script.conn.take() {
            self.cut(conn);
        }
        let Does::Produces(p) = &self.transactions.scripts[index].does else {
            return;
        };
        let name = p.name;
        trace!(self, "script {index} ends");
        let alive =
            |it: &Script| !it.done && matches!(&it.does, Does::Produces(p) if p.name == name);
        if self.transactions.names[name].left > 0
            && !self.transactions.scripts.iter().any(alive)
            && !self.transactions.over
        {
            self.another_instance(name);
        }
    }

    fn another_instance(&mut self, name: usize) {
        let index = self.transactions.add_producer(name);
        let delay = self.transactions.random.below(100_000);
        self.script_after(index, delay);
    }

    pub(super) fn script_goes_on(&mut self, index: usize, timer: u64) {
        let now = self.now();
        let script = &mut self.transactions.scripts[index];
        if script.done || script.waits || script.timer != timer {
            return;
        }
        let Some(conn) = script.conn else {
            let Some(broker) = &mut self.broker else {
                return self.script_after(index, 20_000);
            };
            script.life += 1;
            let conn = BrokerConn(self.next_connection);
            self.next_connection += 1;
            script.conn = Some(conn);
            let connection = Connection {
                actor: SCRIPTED + index,
                life: script.life,
                of_client: ConnId(0),
                request_us: 0,
                answer_us: 0,
                asked: BTreeMap::new(),
            };
            broker.handle_connect(now, conn, "127.0.0.1");
            trace!(self, "script {index} connects as {}", conn.0);
            self.connections.insert(conn, connection);
            return self.script_after(index, 100);
        };
        if script.ask.is_none() {
            let ask = self.transactions.next(index, self.now_us);
            let Some(ask) = ask else {
                return self.script_ends(index);
            };
            let it = &mut self.transactions;
            it.scripts[index].ask = Some(ask.clone());
            if let Ask::End(_) = ask {
                self.asks_for_the_end(index);
            } else if self.chaos
                && it.random.chance(25)
                && let Does::Produces(Producer { name, .. }) = it.scripts[index].does
            {
                self.another_instance(name);
            }
        }
        let it = &mut self.transactions;
        let Some((version, request)) = it.request(index) else {
            return;
        };
        let script = &mut it.scripts[index];
        script.correlation += 1;
        script.waits = true;
        let correlation = script.correlation;
        self.send_scripted(conn, correlation, version, request);
    }

    /// Through the codec, and with what is planted.
    fn send_scripted(&mut self, conn: BrokerConn, id: i32, version: i16, mut request: Request) {
        match (self.planted, &mut request) {
            (Some(Bug::EndTxnUnfenced), Request::EndTxn(end)) => {
                let names = &self.transactions.names;
                if let Some(name) = names.iter().find(|name| name.text == end.transactional_id) {
                    (end.producer_id, end.producer_epoch) = name.newest;
                }
            }
            (Some(Bug::UncommittedRead), Request::Fetch(fetch)) => fetch.isolation_level = 0,
            (Some(Bug::OffsetsAtOnce), Request::TxnOffsetCommit(commit)) => {
                let plain = OffsetCommitRequest {
                    group_id: commit.group_id.clone(),
                    topics: vec![OffsetCommitRequestTopic {
                        name: TOPIC,
                        partitions: vec![OffsetCommitRequestPartition {
                            committed_offset: commit.topics[0].partitions[0].committed_offset,
                            ..Default::default()
                        }],
                        ..Default::default()
                    }],
                    ..Default::default()
                };
                self.send(conn, -7, 8, Request::OffsetCommit(plain));
            }
            _ => {}
        }
        match network::recode_request(version, &request) {
            Ok(again) => self.send(conn, id, version, again),
            Err(error) => self.checker.violation(format!(
                "{:?} {version} can't be encoded: {error}",
                request.api_key()
            )),
        }
    }

    /// A decision is about to be asked for, and sometimes a copy of it is on its way too.
    fn asks_for_the_end(&mut self, index: usize) {
        let it = &mut self.transactions;
        let script = &mut it.scripts[index];
        let (Does::Produces(p), Some(Ask::End(committed))) = (&mut script.does, &script.ask) else {
            return;
        };
        let committed = *committed;
        if committed && let Some((number, _)) = p.open {
            it.ledger.knows(number, Fate::Unknown);
        }
        // Nothing tells a late one of version 1 from the end of the next transaction.
        if p.v2 && self.chaos && it.random.chance(200) {
            p.uncertain = true;
            let copy = EndTxnRequest {
                transactional_id: it.names[p.name].text.clone(),
                producer_id: p.id.0,
                producer_epoch: p.id.1,
                committed,
            };
            let late = it.add(Does::Asks, Some(Ask::Late(copy)));
            let delay = self.transactions.random.below(400_000);
            self.script_after(late, delay);
        }
    }

    /// The connection is gone, and with it perhaps an answer.
    pub(super) fn script_hears_of_cut(&mut self, index: usize, life: u64) {
        let slowest_us = self.slowest_us;
        let script = &mut self.transactions.scripts[index];
        if script.life != life || script.done {
            return;
        }
        let waited = std::mem::take(&mut script.waits);
        script.conn = None;
        let mut pause = self.transactions.random.below(30_000);
        if let Does::Produces(p) = &mut script.does {
            p.uncertain |= waited && matches!(script.ask, Some(Ask::End(_)));
            if !p.v2 {
                // A request of version 1 that arrives late could hit what is asked next.
                pause += slowest_us * 4 + 1000;
            }
        }
        self.script_after(index, pause);
    }

    pub(super) fn script_hears(&mut self, index: usize, correlation: i32, mut response: Response) {
        let script = &mut self.transactions.scripts[index];
        if script.done || correlation != script.correlation {
            return;
        }
        script.waits = false;
        if let (Some(Bug::MarkerMissing), Response::Fetch(fetch)) = (self.planted, &mut response) {
            miss_markers(fetch);
        }
        let mut pause = match self.transactions.random.below(20) {
            0 => self.transactions.random.below(400_000),
            _ => self.transactions.random.below(20_000),
        };
        let error = error_of(&response);
        match response {
            Response::Fetch(fetch) => {
                self.reads_transactions(index, fetch);
                pause = pause.max(10_000);
            }
            Response::OffsetFetch(answer) => self.hears_offset(index, &answer),
            _ if error == ErrorCode::NONE => self.succeeds(index, &response),
            _ if passes(error) => {
                pause += 10_000;
                // What a write that failed leaves in the log may count after a restart: that decision was made.
                let script = &mut self.transactions.scripts[index];
                if let (Does::Produces(p), Some(Ask::End(_))) = (&mut script.does, &script.ask) {
                    p.uncertain = true;
                }
            }
            _ => self.fails(index, error),
        }
        if !self.transactions.scripts[index].done {
            self.script_after(index, pause);
        }
    }

    fn succeeds(&mut self, index: usize, response: &Response) {
        let it = &mut self.transactions;
        let script = &mut it.scripts[index];
        let ask = script.ask.take();
        let Does::Produces(p) = &mut script.does else {
            let created = matches!(ask, Some(Ask::Create));
            self.script_ends(index);
            if created {
                self.start_transactions();
            }
            return;
        };
        let mut goes_on_as = p.id;
        match response {
            Response::InitProducerId(it) => goes_on_as = (it.producer_id, it.producer_epoch),
            Response::EndTxn(end) => {
                if p.v2 {
                    goes_on_as = (end.producer_id, end.producer_epoch);
                }
                let open = p.open.take();
                if let (Some((number, _)), Some(Ask::End(true))) = (open, ask) {
                    it.ledger.knows(number, Fate::Committed);
                }
            }
            _ => {}
        }
        if goes_on_as != p.id {
            p.id = goes_on_as;
            p.sequences.clear();
            let newest = &mut it.names[p.name].newest;
            *newest = goes_on_as.max(*newest);
        }
    }

    /// It is shut out: its transaction is another's to end.
    fn fails(&mut self, index: usize, error: ErrorCode) {
        trace!(self, "script {index}: {error}");
        let it = &mut self.transactions;
        let script = &mut it.scripts[index];
        let Does::Produces(p) = &mut script.does else {
            let created = error == ErrorCode::TOPIC_ALREADY_EXISTS;
            let late = matches!(script.ask, Some(Ask::Late(_)));
            self.script_ends(index);
            if created {
                self.start_transactions();
            } else if !late {
                let what = format!("transactions: script {index} got {error}");
                self.checker.violation(what);
            }
            return;
        };
        let since = p.open.map_or(self.now_us, |(_, since)| since);
        let in_time = self.now_us - since < TIMEOUT_MS as u64 * 1000;
        let alone = it.names[p.name].asked == p.asked;
        let known = [
            ErrorCode::PRODUCER_FENCED,
            ErrorCode::INVALID_PRODUCER_EPOCH,
            ErrorCode::INVALID_PRODUCER_ID_MAPPING,
            ErrorCode::INVALID_TXN_STATE,
            ErrorCode::TRANSACTION_ABORTABLE,
        ];
        if let Some((number, _)) = p.open
            && !p.uncertain
        {
            it.ledger.knows(number, Fate::NotCommitted);
        }
        if !known.contains(&error) || in_time && alone && error != ErrorCode::TRANSACTION_ABORTABLE
        {
            self.checker.violation(format!(
                "transactions: script {index} got {error} though nobody shut it out"
            ));
        }
        self.script_ends(index);
    }

    /// A `read_committed` consumer: it leaves out what is in a transaction that the answer calls aborted, up to its marker.
    fn reads_transactions(&mut self, index: usize, fetch: FetchResponse) {
        let it = &mut self.transactions;
        let Does::Reads(reader) = &mut it.scripts[index].does else {
            return;
        };
        let mut wrong = Vec::new();
        for data in fetch.responses.into_iter().flat_map(|it| it.partitions) {
            let at = data.partition_index as usize;
            if data.error_code != ErrorCode::NONE {
                if !passes(data.error_code) {
                    wrong.push(format!("transactions: fetch: {}", data.error_code));
                }
                continue;
            }
            let mut aborted = data.aborted_transactions.unwrap_or_default();
            let mut skipping: Vec<i64> = Vec::new();
            for batch in Batches::new(data.records.chunks().cloned()) {
                let Ok(batch) = batch else { break };
                let header = *batch.header();
                let last = header.last_offset();
                skipping.extend(
                    aborted
                        .extract_if(.., |it| it.first_offset <= last)
                        .map(|it| it.producer_id),
                );
                let from = reader.next[at];
                reader.next[at] = from.max(header.next_offset());
                if header.attributes.is_control() {
                    skipping.retain(|id| *id != header.producer_id);
                    continue;
                }
                if header.attributes.is_transactional() && skipping.contains(&header.producer_id) {
                    continue;
                }
                let Ok(mut records) = batch.records(Limits::default()) else {
                    wrong.push("transactions: a batch can't be read".into());
                    continue;
                };
                while let Some(Ok(record)) = records.next_record() {
                    if record.offset < from {
                        continue;
                    }
                    let value = String::from_utf8_lossy(record.value.unwrap_or_default());
                    let place = (data.partition_index, record.offset);
                    wrong.extend(it.ledger.read(place.0, place.1, &value, reader.last));
                }
            }
            reader.done[at] = reader.next[at] == data.high_watermark
                && data.last_stable_offset == data.high_watermark;
        }
        let done = reader.last && reader.done.iter().all(|done| *done);
        if !reader.last && it.random.chance(50) {
            reader.next = Default::default();
        }
        let next = reader.next;
        trace!(self, "script {index}: read transactions up to {next:?}");
        for what in wrong {
            trace!(self, "script {index}: {what}");
            self.checker.violation(what);
        }
        if done {
            self.script_ends(index);
        }
    }

    fn hears_offset(&mut self, index: usize, answer: &OffsetFetchResponse) {
        let Some(Ask::FetchOffset(name)) = self.transactions.scripts[index].ask else {
            return;
        };
        let of_groups = answer.groups.iter().flat_map(|group| &group.topics);
        let of_groups = of_groups.flat_map(|topic| &topic.partitions);
        let of_groups = of_groups.map(|it| (it.committed_offset, it.error_code));
        let plain = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let plain = plain.map(|it| (it.committed_offset, it.error_code));
        // Until it is stable.
        if let Some((offset, ErrorCode::NONE)) = of_groups.chain(plain).next() {
            self.transactions.ledger.offsets.insert(name, offset);
            self.script_ends(index);
        }
    }
}

/// Planted: in one partition every second producer's transactions look as if they had been aborted.
fn miss_markers(fetch: &mut FetchResponse) {
    let partitions = fetch.responses.iter_mut().flat_map(|it| &mut it.partitions);
    for data in partitions.filter(|it| it.partition_index == 1) {
        let mut open: Vec<i64> = Vec::new();
        let mut aborted = Vec::new();
        for batch in Batches::new(data.records.chunks().cloned()).flatten() {
            let header = *batch.header();
            if header.attributes.is_control() {
                open.retain(|id| *id != header.producer_id);
            } else if !open.contains(&header.producer_id) {
                open.push(header.producer_id);
                aborted.push(AbortedTransaction {
                    producer_id: header.producer_id,
                    first_offset: header.base_offset,
                });
            }
        }
        data.aborted_transactions = Some(aborted);
    }
}
