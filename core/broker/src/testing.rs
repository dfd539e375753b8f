//! Drives the machine in tests: one connection, memory storage, a clock that the test moves.

use alloc::{collections::VecDeque, sync::Arc, vec, vec::Vec};

use bytes::Bytes;
use ottla_log::{MemoryStorage, StorageError, StorageErrorKind, SyncJob};
use ottla_protocol::{
    Encoder, ErrorCode, Records, Request, Response, Str,
    messages::{
        create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest},
        fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData},
        init_producer_id::InitProducerIdRequest,
        produce::{
            PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
            TopicProduceData,
        },
    },
};
use ottla_record::{BatchBuilder, Batches, Compression, FinishOptions, Limits, Now};

use crate::{
    Broker, BrokerConfig, ConnId, Durability, Output, ProduceJob, RemovalJob, RequestEnvelope,
    SyncId,
};

/// Wall clock at the start of every test.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// A broker, and what came out of it.
pub(crate) struct Harness {
    pub(crate) broker: Broker,
    pub(crate) storage: Arc<MemoryStorage>,
    pub(crate) now: Now,
    config: BrokerConfig,
    last_correlation_id: i32,
    pub(crate) answers: VecDeque<(ConnId, i32, Response)>,
    pub(crate) syncs: VecDeque<(SyncId, SyncJob)>,
    pub(crate) disconnected: Vec<ConnId>,
    /// Connections that are to be left alone, and for how many milliseconds.
    pub(crate) muted: Vec<(ConnId, u32)>,
    pub(crate) warnings: Vec<alloc::string::String>,
    /// Whether what is to be removed waits in `removals`; else it goes at once.
    pub(crate) holds_removals: bool,
    pub(crate) removals: Vec<RemovalJob>,
}

pub(crate) const CONN: ConnId = ConnId(1);

impl Harness {
    pub(crate) fn new(durability: Durability) -> Self {
        Self::with(BrokerConfig {
            durability,
            ..BrokerConfig::default()
        })
    }

    pub(crate) fn with(config: BrokerConfig) -> Self {
        Self::on(
            config,
            Arc::new(MemoryStorage::new()),
            Now::new(1_000_000, START_MS),
        )
    }

    pub(crate) fn on(config: BrokerConfig, storage: Arc<MemoryStorage>, now: Now) -> Self {
        let broker = Broker::open(config.clone(), storage.clone(), now, 42).unwrap();
        let mut harness = Self {
            broker,
            storage,
            now,
            config,
            last_correlation_id: 0,
            answers: VecDeque::new(),
            syncs: VecDeque::new(),
            disconnected: Vec::new(),
            muted: Vec::new(),
            warnings: Vec::new(),
            holds_removals: false,
            removals: Vec::new(),
        };
        harness.broker.handle_connect(now, CONN, "127.0.0.1");
        harness.drain();
        harness
    }

    /// Opens a new broker on the same storage: after a clean stop, or as after a crash of the process.
    pub(crate) fn restart(mut self, clean: bool) -> Self {
        if clean {
            self.broker.close(self.now).unwrap();
        }
        let now = Now::new(self.now.mono_us + 1_000_000, self.now.wall_ms + 1000);
        Self::on(self.config, self.storage, now)
    }

    /// Closes the broker; what comes out of it is there to be looked at.
    pub(crate) fn close(&mut self) {
        self.broker.close(self.now).unwrap();
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.broker.poll_output() {
            match output {
                Output::Respond {
                    conn,
                    correlation_id,
                    api_version,
                    response,
                } => {
                    let mut encoder = Encoder::with_capacity(64);
                    let encoded = response.encode(api_version, &mut encoder);
                    encoded.expect("every answer has a form on the wire");
                    self.answers.push_back((conn, correlation_id, response));
                }
                Output::Sync { id, job } => self.syncs.push_back((id, job)),
                Output::Compact { id, job } => {
                    self.broker.handle_compacted(self.now, id, job.run());
                }
                Output::Remove { job } if self.holds_removals => self.removals.push(job),
                Output::Remove { job } => self.broker.handle_removed(job.run()),
                Output::Warn(text) => self.warnings.push(text),
                Output::Mute { conn, throttle_ms } => self.muted.push((conn, throttle_ms)),
                Output::Disconnect(conn) => self.disconnected.push(conn),
            }
        }
    }

    fn envelope(&mut self, api_version: i16, request: Request) -> RequestEnvelope {
        self.last_correlation_id += 1;
        RequestEnvelope {
            correlation_id: self.last_correlation_id,
            api_version,
            client_id: Some(Str::from_static("test")),
            request,
        }
    }

    /// Sends a request on `conn` and returns its correlation id.
    pub(crate) fn send_on(&mut self, conn: ConnId, api_version: i16, request: Request) -> i32 {
        let envelope = self.envelope(api_version, request);
        let correlation_id = envelope.correlation_id;
        self.broker.handle_request(self.now, conn, envelope);
        self.drain();
        correlation_id
    }

    /// Begins a produce that is done beside the broker: its correlation id, and the job if it can be lent.
    // As the broker's.
    #[allow(clippy::result_large_err)]
    pub(crate) fn begin_produce(
        &mut self,
        api_version: i16,
        request: Request,
    ) -> (i32, Result<ProduceJob, RequestEnvelope>) {
        let envelope = self.envelope(api_version, request);
        let correlation_id = envelope.correlation_id;
        let begun = self.broker.begin_produce(self.now, CONN, envelope);
        (correlation_id, begun)
    }

    /// Hands it back.
    pub(crate) fn end_produce(&mut self, job: ProduceJob) {
        self.broker.handle_appended(self.now, job);
        self.drain();
    }

    pub(crate) fn send(&mut self, api_version: i16, request: Request) -> i32 {
        self.send_on(CONN, api_version, request)
    }

    /// A connection goes.
    pub(crate) fn disconnect(&mut self, conn: ConnId) {
        self.broker.handle_disconnect(self.now, conn);
        self.drain();
    }

    /// Sends a request that must be answered at once.
    pub(crate) fn ask(&mut self, api_version: i16, request: Request) -> Response {
        let id = self.send(api_version, request);
        self.take_answer(id).expect("an answer at once")
    }

    /// The answer to the request, if there is one by now.
    pub(crate) fn take_answer(&mut self, correlation_id: i32) -> Option<Response> {
        let at = self
            .answers
            .iter()
            .position(|(_, id, _)| *id == correlation_id)?;
        self.answers.remove(at).map(|(_, _, response)| response)
    }

    /// Lets time pass, and the broker do what is due at the end of it.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.now.mono_us += ms * 1000;
        self.now.wall_ms += ms as i64;
        if self
            .broker
            .poll_timeout()
            .is_some_and(|at| at <= self.now.mono_us)
        {
            self.broker.handle_timeout(self.now);
            self.drain();
        }
    }

    /// Does the oldest sync that was asked for.
    pub(crate) fn sync_one(&mut self) {
        let (id, _) = self.syncs.pop_front().expect("a sync");
        self.broker.handle_synced(self.now, id, Ok(()));
        self.drain();
    }

    /// Does all syncs; time passes until those are asked for that wait for company.
    pub(crate) fn sync_all(&mut self) {
        loop {
            while !self.syncs.is_empty() {
                self.sync_one();
            }
            match self.broker.next_waiting_sync_us() {
                Some(_) => self.pass_ms(1),
                None => return,
            }
        }
    }

    pub(crate) fn fail_sync(&mut self) {
        let (id, _) = self.syncs.pop_front().expect("a sync");
        let error = StorageError::new(StorageErrorKind::Io, "the disk is gone");
        self.broker.handle_synced(self.now, id, Err(error));
        self.drain();
    }

    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        num_partitions: i32,
        configs: &[(&str, &str)],
    ) {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions,
            replication_factor: -1,
            configs: configs
                .iter()
                .map(|(name, value)| CreatableTopicConfig {
                    name: (*name).into(),
                    value: Some((*value).into()),
                })
                .collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            ..Default::default()
        };
        let Response::CreateTopics(response) = self.ask(7, Request::CreateTopics(request)) else {
            panic!()
        };
        assert_eq!(
            response.topics[0].error_code,
            ErrorCode::NONE,
            "{:?}",
            response.topics[0].error_message
        );
    }

    /// A transactional producer begins: its producer id and epoch. The answer must come at once.
    pub(crate) fn init_transactions(&mut self, transactional_id: &str) -> (i64, i16) {
        let request = InitProducerIdRequest {
            transactional_id: Some(transactional_id.into()),
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        match self.ask(4, Request::InitProducerId(request)) {
            Response::InitProducerId(answer) => {
                assert_eq!(answer.error_code, ErrorCode::NONE);
                (answer.producer_id, answer.producer_epoch)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Sends a produce of one batch and returns its correlation id.
    pub(crate) fn send_produce(
        &mut self,
        topic: &str,
        partition: i32,
        acks: i16,
        records: Records,
    ) -> i32 {
        self.send(9, produce_request(topic, partition, acks, records))
    }

    /// Produces one batch; the answer must come at once.
    pub(crate) fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        records: Records,
    ) -> PartitionProduceResponse {
        let id = self.send_produce(topic, partition, -1, records);
        produced(self.take_answer(id).expect("an answer at once"))
    }

    /// Fetches one partition without waiting.
    pub(crate) fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> PartitionData {
        fetched(self.ask(11, fetch_request(topic, partition, offset, 0)))
    }
}

pub(crate) fn produce_request(topic: &str, partition: i32, acks: i16, records: Records) -> Request {
    Request::Produce(ProduceRequest {
        acks,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    })
}

/// The only partition of a produce answer.
pub(crate) fn produced(response: Response) -> PartitionProduceResponse {
    let Response::Produce(ProduceResponse { mut responses, .. }) = response else {
        panic!("{response:?}")
    };
    responses.remove(0).partition_responses.remove(0)
}

pub(crate) fn fetch_request(topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> Request {
    Request::Fetch(FetchRequest {
        replica_id: -1,
        max_wait_ms,
        min_bytes: 1,
        max_bytes: i32::MAX,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![fetch_partition(partition, offset)],
            ..Default::default()
        }],
        ..Default::default()
    })
}

pub(crate) fn fetch_partition(partition: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition {
        partition,
        current_leader_epoch: -1,
        fetch_offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    }
}

/// The only partition of a fetch answer.
pub(crate) fn fetched(response: Response) -> PartitionData {
    let Response::Fetch(FetchResponse {
        mut responses,
        error_code,
        ..
    }) = response
    else {
        panic!("{response:?}")
    };
    assert_eq!(error_code, ErrorCode::NONE);
    responses.remove(0).partitions.remove(0)
}

/// A batch of these values, now, without keys.
pub(crate) fn batch(values: &[&str]) -> Records {
    keyed_batch(None, values, FinishOptions::default())
}

/// A batch of an idempotent producer.
pub(crate) fn sequenced(
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    values: &[&str],
) -> Records {
    keyed_batch(
        None,
        values,
        FinishOptions {
            producer_id,
            producer_epoch,
            base_sequence,
            ..FinishOptions::default()
        },
    )
}

/// A compressed batch.
pub(crate) fn compressed(compression: Compression, values: &[&str]) -> Records {
    keyed_batch(
        None,
        values,
        FinishOptions {
            compression,
            ..FinishOptions::default()
        },
    )
}

pub(crate) fn keyed_batch(key: Option<&[u8]>, values: &[&str], options: FinishOptions) -> Records {
    batch_at(START_MS, key, values, options)
}

pub(crate) fn batch_at(
    timestamp: i64,
    key: Option<&[u8]>,
    values: &[&str],
    options: FinishOptions,
) -> Records {
    let mut builder = BatchBuilder::new(1024);
    for value in values {
        builder
            .append(timestamp, key, Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.finish(&options).unwrap().encoded.into()
}

/// Offset and value of each record.
pub(crate) fn read(records: &Records) -> Vec<(i64, Bytes)> {
    let mut all = Vec::new();
    for batch in Batches::new(records.chunks().cloned()) {
        let batch = batch.unwrap();
        batch.check_crc().unwrap();
        let mut records = batch.records(Limits::default()).unwrap();
        while let Some(record) = records.next_record() {
            let record = record.unwrap();
            all.push((
                record.offset,
                Bytes::copy_from_slice(record.value.unwrap_or_default()),
            ));
        }
    }
    all
}

/// The values only.
pub(crate) fn values(records: &Records) -> Vec<Bytes> {
    read(records).into_iter().map(|(_, value)| value).collect()
}
