//! Kafka's protocol from the other end of a socket, for tests that need to say exactly what a client does and when.

use bytes::Bytes;
use ottla_protocol::{
    ApiKey, ErrorCode, Records, Request, RequestHeader, Response, Str, Uuid,
    frame::{decode_response, encode_request},
    messages::{
        MetadataRequest,
        create_topics::{CreatableTopic, CreateTopicsRequest},
        fetch::{FetchPartition, FetchRequest, FetchTopic},
        metadata::MetadataRequestTopic,
        offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponseGroup},
        produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
    },
};
use ottla_record::{BatchBuilder, Batches, FinishOptions, Limits};
use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Result, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

pub const CREATE_TOPICS: i16 = 7;
pub const METADATA: i16 = 12;
pub const PRODUCE: i16 = 9;
pub const FETCH: i16 = 11;
pub const OFFSET_FETCH: i16 = 8;

/// Long enough for anything that ends at all, on a machine with other things to do.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// One connection. Answers come in the order of their requests.
pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    expected: VecDeque<(i32, ApiKey, i16)>,
    next_id: i32,
}

impl Connection {
    pub fn to(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            expected: VecDeque::new(),
            next_id: 0,
        })
    }

    /// How many requests wait for their answers.
    pub fn waiting(&self) -> usize {
        self.expected.len()
    }

    pub fn frame(id: i32, version: i16, request: &Request) -> Vec<u8> {
        let header = RequestHeader {
            request_api_key: request.api_key() as i16,
            request_api_version: version,
            correlation_id: id,
            client_id: Some(Str::from_static("test")),
        };
        encode_request(&header, request).unwrap().concat()
    }

    pub fn send(&mut self, version: i16, request: &Request) -> Result<()> {
        self.next_id += 1;
        let frame = Self::frame(self.next_id, version, request);
        self.expected
            .push_back((self.next_id, request.api_key(), version));
        self.write(&frame)
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < until, "the broker takes nothing");
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next answer, if it is here.
    pub fn poll(&mut self) -> Result<Option<Response>> {
        let mut chunk = [0; 64 << 10];
        while self.size().is_none_or(|size| self.input.len() < 4 + size) {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.input.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let end = 4 + self.size().unwrap();
        let frame = Bytes::copy_from_slice(&self.input[4..end]);
        self.input.drain(..end);
        let (id, key, version) = self.expected.pop_front().expect("nothing was asked");
        let (answered, response) = decode_response(key, version, frame).unwrap();
        assert_eq!(answered, id, "{key:?}");
        Ok(Some(response))
    }

    fn size(&self) -> Option<usize> {
        let size: [u8; 4] = self.input.get(..4)?.try_into().ok()?;
        Some(i32::from_be_bytes(size).try_into().unwrap())
    }

    /// The next answer.
    pub fn receive(&mut self) -> Result<Response> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(response) = self.poll()? {
                return Ok(response);
            }
            assert!(Instant::now() < until, "no answer to {:?}", self.expected);
            thread::sleep(Duration::from_micros(200));
        }
    }

    pub fn ask(&mut self, version: i16, request: &Request) -> Result<Response> {
        self.send(version, request)?;
        self.receive()
    }

    /// Creates a topic; its id.
    pub fn create(&mut self, topic: &str, partitions: i32) -> Uuid {
        let request = Request::CreateTopics(CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.into(),
                num_partitions: partitions,
                replication_factor: 1,
                ..Default::default()
            }],
            timeout_ms: 10_000,
            ..Default::default()
        });
        let Response::CreateTopics(answer) = self.ask(CREATE_TOPICS, &request).unwrap() else {
            panic!()
        };
        assert_eq!(answer.topics[0].error_code, ErrorCode::NONE);
        answer.topics[0].topic_id
    }

    /// The topic's id.
    pub fn topic_id(&mut self, topic: &str) -> Uuid {
        let request = Request::Metadata(MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(topic.into()),
                ..Default::default()
            }]),
            ..Default::default()
        });
        let Response::Metadata(answer) = self.ask(METADATA, &request).unwrap() else {
            panic!()
        };
        assert_eq!(answer.topics[0].error_code, ErrorCode::NONE);
        answer.topics[0].topic_id
    }

    /// Produces with acks=all; the offset of the first.
    pub fn produce(&mut self, topic: &str, partition: i32, values: &[&[u8]]) -> i64 {
        let request = produce(topic, partition, batch(values));
        offset_of(&self.ask(PRODUCE, &request).unwrap()).unwrap()
    }

    /// The values in a partition from an offset on, as a consumer of this isolation level sees them.
    pub fn values(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        committed: bool,
    ) -> Vec<Vec<u8>> {
        let request = fetch(topic, partition, offset, committed);
        let Response::Fetch(fetched) = self.ask(FETCH, &request).unwrap() else {
            panic!()
        };
        let partition = &fetched.responses[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::NONE);
        let mut aborted = partition.aborted_transactions.clone().unwrap_or_default();
        aborted.sort_by_key(|one| one.first_offset);
        let mut values = Vec::new();
        let mut in_abort: Vec<i64> = Vec::new();
        for batch in Batches::new(partition.records.clone().into_chunks()) {
            let batch = batch.unwrap();
            let header = batch.header();
            let last = header.base_offset + i64::from(header.last_offset_delta);
            while aborted.first().is_some_and(|one| one.first_offset <= last) {
                in_abort.push(aborted.remove(0).producer_id);
            }
            if header.attributes.is_control() {
                in_abort.retain(|id| *id != header.producer_id);
                continue;
            }
            if header.attributes.is_transactional() && in_abort.contains(&header.producer_id) {
                continue;
            }
            let mut records = batch.records(Limits::default()).unwrap();
            while let Some(record) = records.next_record() {
                values.push(record.unwrap().value.unwrap().to_vec());
            }
        }
        values
    }

    /// What a group has committed, all of it; what a transaction has yet to decide is told as an error of its partition.
    pub fn stable_offsets(&mut self, group: &str) -> OffsetFetchResponseGroup {
        let request = Request::OffsetFetch(OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: group.into(),
                topics: None,
                ..Default::default()
            }],
            require_stable: true,
            ..Default::default()
        });
        let Response::OffsetFetch(mut answer) = self.ask(OFFSET_FETCH, &request).unwrap() else {
            panic!()
        };
        let group = answer.groups.remove(0);
        assert_eq!(group.error_code, ErrorCode::NONE);
        group
    }

    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Whether the broker has closed the connection, having sent no more.
    pub fn is_closed_now(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(n) => n == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Whether the broker closes the connection within a while, having sent no more.
    pub fn is_closed(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        while !self.is_closed_now() {
            if Instant::now() > until {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

pub fn batch(values: &[&[u8]]) -> Records {
    of_producer(values, &FinishOptions::default())
}

/// A batch of a producer with an id. It is of now: old records don't outlast the next look for what is to be deleted.
pub fn of_producer(values: &[&[u8]], options: &FinishOptions) -> Records {
    let mut builder = BatchBuilder::new(1024);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for value in values {
        builder
            .append(now.as_millis() as i64, None, Some(value), &[])
            .unwrap();
    }
    builder.finish(options).unwrap().encoded.into()
}

pub fn produce(topic: &str, partition: i32, records: Records) -> Request {
    Request::Produce(ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records,
            }],
            ..Default::default()
        }],
        ..Default::default()
    })
}

pub fn offset_of(response: &Response) -> std::result::Result<i64, ErrorCode> {
    let Response::Produce(produced) = response else {
        panic!("{response:?}")
    };
    let answer = &produced.responses[0].partition_responses[0];
    match answer.error_code {
        ErrorCode::NONE => Ok(answer.base_offset),
        code => Err(code),
    }
}

pub fn fetch(topic: &str, partition: i32, offset: i64, committed: bool) -> Request {
    Request::Fetch(FetchRequest {
        replica_id: -1,
        min_bytes: 1,
        max_bytes: 50 << 20,
        isolation_level: i8::from(committed),
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: 50 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    })
}

/// Waits until it is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
