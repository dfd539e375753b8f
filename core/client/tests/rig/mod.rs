//! A scripted cluster of typed values around one client, on a clock that the test moves.
#![allow(dead_code, missing_docs)]

use ottla_client::producer::{DeliveredBatch, Persistence, ProduceRecord, Side};
use ottla_client::{
    BootstrapServer, Client, ClientConfig, ConnId, ErrCode, Event, KafkaError, Output, TopicConfig,
};
use ottla_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use ottla_protocol::messages::metadata::*;
use ottla_protocol::messages::produce::*;
use ottla_protocol::messages::{
    FindCoordinatorResponse, InitProducerIdResponse, find_coordinator::Coordinator,
};
use ottla_protocol::{ApiKey, Encoder, ErrorCode, Request, Response, Str};
use ottla_record::{BatchHeader, Batches, Limits, Now};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What happens to a Produce request, in place of being served.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It is served.
    None,
    /// It is answered with this error, and nothing is written.
    Refuse(ErrorCode),
    /// The connection breaks before it is served.
    Drop,
    /// It is written, but the connection breaks before the answer.
    WriteAndDrop,
    /// Nothing is written, and no answer comes.
    Swallow,
    /// The answer comes when the test releases it.
    Hold,
}

/// What a leader knows of an idempotent producer.
#[derive(Default)]
struct KnownProducer {
    epoch: i16,
    /// First and last sequence and base offset of the last five batches.
    batches: VecDeque<(i32, i32, i64)>,
}

#[derive(Default)]
pub struct Log {
    pub values: Vec<Vec<u8>>,
    pub headers: Vec<BatchHeader>,
    producers: BTreeMap<i64, KnownProducer>,
}

/// A client and the cluster that it talks to.
pub struct Rig {
    pub client: Client,
    pub now: Now,
    /// Topics and the leader of each of their partitions.
    pub topics: BTreeMap<Str, Vec<i32>>,
    pub logs: BTreeMap<(Str, i32), Log>,
    /// Topics are created on request, with so many partitions; 0: they are not.
    pub creates: usize,
    pub nodes: BTreeSet<i32>,
    pub faults: VecDeque<Fault>,
    pub held: VecDeque<(ConnId, i32, i16, ProduceRequest)>,
    /// Connections and their node ids.
    pub connections: BTreeMap<ConnId, i32>,
    /// Every request that was sent.
    pub requests: Vec<(ApiKey, i16)>,
    pub newest: BTreeMap<ApiKey, i16>,
    pub reports: Vec<Report>,
    pub errors: Vec<KafkaError>,
    /// What brokers said about waiting: which one, for how long.
    pub throttled: Vec<(i32, u32)>,
    /// The throttle times of the next answers to Produce requests.
    pub throttle_ms: VecDeque<i32>,
    pub responses: Vec<(u64, Result<Response, KafkaError>)>,
    /// Answers in place of the usual ones, for requests that the cluster does not serve itself.
    pub answers: VecDeque<Response>,
    pub refuse_producer_id: Option<ErrorCode>,
    pub next_producer_id: i64,
    /// Delivery reports are kept from the rig, as by an application that does not poll.
    pub lazy: bool,
}

/// A delivery report, taken out of its batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub value: Vec<u8>,
    pub code: ErrCode,
    pub status: Persistence,
    pub side: Side,
    pub latency_us: u64,
}

impl Rig {
    pub fn new(change: impl FnOnce(&mut ClientConfig)) -> Self {
        let server = BootstrapServer {
            host: "b".into(),
            port: 9001,
        };
        let mut config = ClientConfig {
            bootstrap_servers: vec![server],
            ..ClientConfig::default()
        };
        change(&mut config);
        let now = Now::new(5_000_000, 1_700_000_000_000);
        Self {
            client: Client::new(config, now, 1).unwrap(),
            now,
            topics: BTreeMap::from([("t".into(), vec![1, 1])]),
            logs: BTreeMap::new(),
            creates: 0,
            nodes: BTreeSet::from([1]),
            faults: VecDeque::new(),
            held: VecDeque::new(),
            connections: BTreeMap::new(),
            requests: Vec::new(),
            newest: BTreeMap::new(),
            reports: Vec::new(),
            errors: Vec::new(),
            throttled: Vec::new(),
            throttle_ms: VecDeque::new(),
            responses: Vec::new(),
            answers: VecDeque::new(),
            refuse_producer_id: None,
            next_producer_id: 100,
            lazy: false,
        }
    }

    /// With a topic whose metadata is there.
    pub fn ready(change: impl FnOnce(&mut ClientConfig)) -> (Self, u32) {
        let mut rig = Self::new(change);
        let topic = rig.topic("t");
        rig.run(0);
        (rig, topic)
    }

    pub fn topic(&mut self, name: &str) -> u32 {
        self.client
            .intern_topic(self.now, name, None, None)
            .unwrap()
    }

    pub fn topic_with(&mut self, name: &str, config: TopicConfig) -> u32 {
        self.client
            .intern_topic(self.now, name, Some(config), None)
            .unwrap()
    }

    /// Produces to a partition (-1: any), with the value's number as opaque.
    pub fn produce(&mut self, topic: u32, partition: i32, value: &[u8]) -> Result<(), ErrCode> {
        let side = Side {
            opaque: value
                .iter()
                .take(7)
                .fold(0, |n, b| n * 256 + usize::from(*b)),
            payload_addr: 0,
        };
        let record = ProduceRecord {
            partition,
            side,
            ..ProduceRecord::new(topic, value)
        };
        self.client
            .produce(self.now, &record)
            .map(|_| ())
            .map_err(|error| error.code)
    }

    /// Lets `ms` pass, step by step, and everything happen that is due.
    pub fn run(&mut self, ms: u64) {
        let end = self.now.mono_us + ms * 1000;
        let mut turns = 0;
        loop {
            turns += 1;
            assert!(
                turns < 400,
                "it turns and turns: due {:?} at {}",
                self.client.poll_timeout(),
                self.now.mono_us
            );
            self.pump();
            match self.client.poll_timeout() {
                Some(due) if due <= end => {
                    let due = due.max(self.now.mono_us);
                    let stuck = due == self.now.mono_us;
                    self.at(due);
                    self.client.handle_timeout(self.now);
                    self.pump();
                    if stuck && self.client.poll_timeout() == Some(due) {
                        panic!("the timer at {due} is not served");
                    }
                }
                _ => break,
            }
        }
        self.at(end);
    }

    fn at(&mut self, mono_us: u64) {
        let passed = mono_us - self.now.mono_us;
        self.now = Now::new(mono_us, self.now.wall_ms + (passed / 1000) as i64);
    }

    /// Until everything is reported, for at most a minute.
    pub fn flush(&mut self) {
        self.client.set_flushing(self.now, true);
        for _ in 0..6000 {
            self.run(10);
            if self.client.queue_len() == 0 {
                break;
            }
        }
        self.client.set_flushing(self.now, false);
    }

    pub fn pump(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Connect {
                    conn, node, port, ..
                } => {
                    let reached = port - 9000;
                    assert!(node < 0 || node == reached);
                    if self.nodes.contains(&reached) {
                        self.connections.insert(conn, reached);
                        self.client.handle_connected(self.now, conn);
                    } else {
                        self.disconnected(conn);
                    }
                }
                Output::Send {
                    conn,
                    correlation_id,
                    api_version,
                    request,
                } => {
                    let encoded = request.encode(api_version, &mut Encoder::new());
                    assert!(
                        encoded.is_ok(),
                        "{request:?} in version {api_version}: {encoded:?}"
                    );
                    self.requests.push((request.api_key(), api_version));
                    if self.connections.contains_key(&conn) {
                        self.serve(conn, correlation_id, api_version, request);
                    }
                }
                Output::Disconnect { conn } => {
                    self.connections.remove(&conn);
                    self.held.retain(|held| held.0 != conn);
                }
            }
        }
        self.events();
    }

    fn events(&mut self) {
        if self.lazy {
            return;
        }
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Delivery(batch) => {
                    self.client.delivery_taken(batch.len(), batch.bytes());
                    self.reports.extend(reports(&batch));
                }
                Event::Error(error) => self.errors.push(error),
                Event::Throttled(told) => {
                    assert_eq!((&*told.broker.host, told.broker.port), ("b", 9001));
                    self.throttled.push((told.broker.node, told.throttle_ms));
                }
                Event::Response { id, result } => self.responses.push((id.0, result)),
                Event::Consumer(_) | Event::Debug(_) => {}
            }
        }
    }

    fn disconnected(&mut self, conn: ConnId) {
        self.connections.remove(&conn);
        self.held.retain(|held| held.0 != conn);
        let reason = KafkaError::new(ErrCode::TRANSPORT, "gone");
        self.client.handle_disconnected(self.now, conn, reason);
    }

    /// Breaks every connection to a broker that is down from now on.
    pub fn stop(&mut self, node: i32) {
        self.nodes.remove(&node);
        let lost: Vec<ConnId> = self
            .connections
            .iter()
            .filter(|c| *c.1 == node)
            .map(|c| *c.0)
            .collect();
        lost.into_iter().for_each(|conn| self.disconnected(conn));
    }

    fn serve(&mut self, conn: ConnId, correlation_id: i32, version: i16, request: Request) {
        let response = match request {
            Request::ApiVersions(_) => {
                let key = |key: &ApiKey| {
                    let versions = key.valid_versions();
                    let max_version = self.newest.get(key).copied().unwrap_or(*versions.end());
                    ApiVersion {
                        api_key: *key as i16,
                        min_version: *versions.start(),
                        max_version,
                        ..Default::default()
                    }
                };
                let api_keys = ApiKey::ALL
                    .iter()
                    .map(key)
                    .filter(|k| k.max_version >= 0)
                    .collect();
                Response::ApiVersions(ApiVersionsResponse {
                    api_keys,
                    ..Default::default()
                })
            }
            Request::Metadata(request) => Response::Metadata(self.metadata(request)),
            Request::InitProducerId(_) => {
                self.next_producer_id += 1;
                Response::InitProducerId(InitProducerIdResponse {
                    error_code: self.refuse_producer_id.unwrap_or(ErrorCode::NONE),
                    producer_id: self.next_producer_id,
                    producer_epoch: 0,
                    ..Default::default()
                })
            }
            Request::FindCoordinator(request) => {
                let key = request
                    .coordinator_keys
                    .first()
                    .unwrap_or(&request.key)
                    .clone();
                let found = Coordinator {
                    key,
                    node_id: 1,
                    ..Default::default()
                };
                let (node_id, coordinators) = if version >= 4 {
                    (0, vec![found])
                } else {
                    (1, Vec::new())
                };
                Response::FindCoordinator(FindCoordinatorResponse {
                    node_id,
                    coordinators,
                    ..Default::default()
                })
            }
            Request::Produce(request) => {
                return self.serve_produce(conn, correlation_id, version, request);
            }
            request => match self.answers.pop_front() {
                Some(answer) => answer,
                None => panic!("not served: {request:?}"),
            },
        };
        self.client
            .handle_response(self.now, conn, correlation_id, response);
    }

    fn serve_produce(
        &mut self,
        conn: ConnId,
        correlation_id: i32,
        version: i16,
        request: ProduceRequest,
    ) {
        match self.faults.pop_front().unwrap_or(Fault::None) {
            Fault::None => self.answer(conn, correlation_id, version, request),
            Fault::Hold => self
                .held
                .push_back((conn, correlation_id, version, request)),
            Fault::Swallow => {}
            Fault::Drop => self.disconnected(conn),
            Fault::WriteAndDrop => {
                self.write(conn, &request, version);
                self.disconnected(conn);
            }
            Fault::Refuse(error) => {
                let mut response = refused(&request, error);
                by_id_from(version, &mut response);
                self.client.handle_response(
                    self.now,
                    conn,
                    correlation_id,
                    Response::Produce(response),
                );
            }
        }
    }

    fn answer(&mut self, conn: ConnId, correlation_id: i32, version: i16, request: ProduceRequest) {
        let response = self.write(conn, &request, version);
        if request.acks != 0 {
            self.client.handle_response(
                self.now,
                conn,
                correlation_id,
                Response::Produce(response),
            );
        }
    }

    /// Serves the oldest request that is held, or refuses it.
    pub fn release(&mut self, refuse: Option<ErrorCode>) {
        let (conn, correlation_id, version, request) = self.held.pop_front().expect("held");
        match refuse {
            None => self.answer(conn, correlation_id, version, request),
            Some(error) => {
                let response = Response::Produce(refused(&request, error));
                self.client
                    .handle_response(self.now, conn, correlation_id, response);
            }
        }
        self.pump();
    }

    /// Serves a request whose answer is lost.
    pub fn write(
        &mut self,
        conn: ConnId,
        request: &ProduceRequest,
        version: i16,
    ) -> ProduceResponse {
        let mut response = ProduceResponse {
            throttle_time_ms: self.throttle_ms.pop_front().unwrap_or(0),
            ..Default::default()
        };
        for topic in &request.topic_data {
            let mut of_topic = TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                ..Default::default()
            };
            for partition in &topic.partition_data {
                let log = self
                    .logs
                    .entry((topic.name.clone(), partition.index))
                    .or_default();
                let leader = self
                    .topics
                    .get(&topic.name)
                    .and_then(|l| l.get(partition.index as usize));
                let leads = leader == self.connections.get(&conn);
                let appended = if leads {
                    append(log, partition)
                } else {
                    Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)
                };
                let (error_code, base_offset) = match appended {
                    Ok(offset) => (ErrorCode::NONE, offset),
                    Err(error) => (error, -1),
                };
                of_topic.partition_responses.push(PartitionProduceResponse {
                    index: partition.index,
                    error_code,
                    base_offset,
                    ..Default::default()
                });
            }
            response.responses.push(of_topic);
        }
        by_id_from(version, &mut response);
        response
    }

    fn metadata(&mut self, request: MetadataRequest) -> MetadataResponse {
        let brokers = self.nodes.iter().map(|&node_id| MetadataResponseBroker {
            node_id,
            host: "b".into(),
            port: 9000 + node_id,
            ..Default::default()
        });
        let brokers = brokers.collect();
        let names: Vec<Str> = match request.topics {
            Some(topics) => topics.into_iter().filter_map(|t| t.name).collect(),
            None => self.topics.keys().cloned().collect(),
        };
        let mut topics = Vec::new();
        for name in names {
            if self.creates > 0 && request.allow_auto_topic_creation {
                self.topics
                    .entry(name.clone())
                    .or_insert_with(|| vec![1; self.creates]);
            }
            let leaders = self.topics.get(&name);
            let partition = |(i, leader): (usize, &i32)| MetadataResponsePartition {
                partition_index: i as i32,
                leader_id: *leader,
                ..Default::default()
            };
            topics.push(MetadataResponseTopic {
                error_code: if leaders.is_some() {
                    ErrorCode::NONE
                } else {
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                },
                topic_id: id_of(&name),
                partitions: leaders
                    .iter()
                    .flat_map(|l| l.iter().enumerate())
                    .map(partition)
                    .collect(),
                name: Some(name),
                ..Default::default()
            });
        }
        MetadataResponse {
            brokers,
            controller_id: 1,
            topics,
            ..Default::default()
        }
    }

    /// The values in a partition's log, as text.
    pub fn log(&self, topic: &str, partition: i32) -> Vec<String> {
        let log = self.logs.get(&(topic.into(), partition));
        let values = log.map_or(&[][..], |log| &log.values[..]);
        values
            .iter()
            .map(|value| String::from_utf8_lossy(value).into())
            .collect()
    }

    /// How many requests of a kind were sent.
    pub fn count(&self, key: ApiKey) -> usize {
        self.requests.iter().filter(|(k, _)| *k == key).count()
    }

    /// Values and error codes of the reports.
    pub fn outcomes(&self) -> Vec<(String, ErrCode)> {
        let outcome = |r: &Report| (String::from_utf8_lossy(&r.value).into(), r.code);
        self.reports.iter().map(outcome).collect()
    }
}

/// A topic's id: made of its name.
fn id_of(name: &str) -> ottla_protocol::Uuid {
    let mut id = [1; 16];
    id.iter_mut()
        .zip(name.bytes())
        .for_each(|(id, byte)| *id = byte);
    ottla_protocol::Uuid(id)
}

/// From version 13 on, topics have ids in place of names.
fn by_id_from(version: i16, response: &mut ProduceResponse) {
    if version >= 13 {
        response
            .responses
            .iter_mut()
            .for_each(|topic| topic.name = Str::new());
    }
}

fn refused(request: &ProduceRequest, error_code: ErrorCode) -> ProduceResponse {
    let mut response = ProduceResponse::default();
    for topic in &request.topic_data {
        let answer = |p: &PartitionProduceData| PartitionProduceResponse {
            index: p.index,
            error_code,
            ..Default::default()
        };
        response.responses.push(TopicProduceResponse {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partition_responses: topic.partition_data.iter().map(answer).collect(),
        });
    }
    response
}

/// Kafka's check of a producer's sequence, and the append.
fn append(log: &mut Log, partition: &PartitionProduceData) -> Result<i64, ErrorCode> {
    let mut offset = Err(ErrorCode::CORRUPT_MESSAGE);
    for batch in Batches::new(partition.records.chunks().cloned()) {
        let batch = batch.expect("a batch");
        batch.check_crc().expect("a good checksum");
        let header = *batch.header();
        let base = log.values.len() as i64;
        if header.has_producer_id() {
            let known = log.producers.entry(header.producer_id).or_default();
            let (first, last) = (header.base_sequence, header.last_sequence());
            if header.producer_epoch < known.epoch {
                return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
            }
            if header.producer_epoch > known.epoch {
                *known = KnownProducer {
                    epoch: header.producer_epoch,
                    batches: VecDeque::new(),
                };
                if first != 0 {
                    return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
                }
            }
            if let Some(duplicate) = known.batches.iter().find(|b| (b.0, b.1) == (first, last)) {
                return Ok(duplicate.2);
            }
            let expected = known.batches.back().map_or(0, |b| b.1 + 1);
            if first != expected {
                return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
            known.batches.push_back((first, last, base));
            if known.batches.len() > 5 {
                known.batches.pop_front();
            }
        }
        let mut records = batch.records(Limits::default()).expect("records");
        while let Some(record) = records.next_record() {
            log.values
                .push(record.expect("a record").value.unwrap_or_default().to_vec());
        }
        log.headers.push(header);
        offset = Ok(base);
    }
    offset
}

fn reports(batch: &DeliveredBatch) -> Vec<Report> {
    let mut reports = Vec::new();
    let mut deliveries = batch.deliveries();
    while let Some(delivery) = deliveries.next(batch) {
        reports.push(Report {
            topic: batch.topic.to_string(),
            partition: batch.partition,
            offset: delivery.offset,
            value: delivery.value.unwrap_or_default().to_vec(),
            code: batch.code(),
            status: batch.status,
            side: delivery.side,
            latency_us: delivery.latency_us,
        });
    }
    reports
}
