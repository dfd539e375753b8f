//! A client that speaks bytes, the requests it sends, the servers it talks to.

use bytes::Bytes;
use ottla_broker::BrokerConfig;
use ottla_driver::{EmbeddedBroker, Listener, Place, Server, ServerConfig};
use ottla_protocol::{
    ApiKey, ErrorCode, Records, Request, RequestHeader, Response, Str,
    frame::{decode_response, encode_request},
    messages::{
        MetadataRequest,
        create_topics::{CreatableTopic, CreateTopicsRequest},
        fetch::{FetchPartition, FetchRequest, FetchTopic},
        metadata::MetadataRequestTopic,
        produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
    },
};
use ottla_record::{BatchBuilder, Batches, FinishOptions, Limits};
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

pub const PRODUCE: i16 = 9;
pub const FETCH: i16 = 11;
pub const METADATA: i16 = 9;
/// Long enough for anything that should happen at once, on a machine with other things to do; no long poll ends in that time.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn memory() -> Place {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    Place::Memory(format!("serve-{}", NEXT.fetch_add(1, Relaxed)))
}

pub fn serve_at(place: &Place, config: ServerConfig) -> Server {
    let broker = EmbeddedBroker::open(place, BrokerConfig::default()).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Server::start(broker, &[Listener::from(any)], config).unwrap()
}

pub fn serve(config: ServerConfig) -> Server {
    serve_at(&memory(), config)
}

pub fn two_loops() -> ServerConfig {
    ServerConfig {
        threads: 2,
        ..ServerConfig::default()
    }
}

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    next_id: i32,
}

impl Client {
    pub fn to(server: &Server) -> Self {
        Self::over(TcpStream::connect(server.local_addrs()[0]).unwrap())
    }

    /// Over a connection that is there.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, next_id: 0 }
    }

    pub fn frame(&self, id: i32, version: i16, request: &Request) -> Vec<u8> {
        let header = RequestHeader {
            request_api_key: request.api_key() as i16,
            request_api_version: version,
            correlation_id: id,
            client_id: Some(Str::from_static("test")),
        };
        encode_request(&header, request).unwrap().concat()
    }

    pub fn send(&mut self, version: i16, request: &Request) -> i32 {
        self.next_id += 1;
        let frame = self.frame(self.next_id, version, request);
        self.stream.write_all(&frame).unwrap();
        self.next_id
    }

    pub fn read_frame(&mut self) -> Bytes {
        self.try_read_frame().unwrap()
    }

    pub fn try_read_frame(&mut self) -> std::io::Result<Bytes> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let mut frame = vec![0; i32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    pub fn receive(&mut self, key: ApiKey, version: i16) -> (i32, Response) {
        let frame = self.read_frame();
        decode_response(key, version, frame).unwrap()
    }

    pub fn ask(&mut self, version: i16, request: &Request) -> Response {
        let id = self.send(version, request);
        let (answered, response) = self.receive(request.api_key(), version);
        assert_eq!(answered, id);
        response
    }

    pub fn create(&mut self, topic: &str) {
        let request = Request::CreateTopics(CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.into(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            }],
            timeout_ms: 10_000,
            ..Default::default()
        });
        let Response::CreateTopics(answer) = self.ask(5, &request) else {
            panic!()
        };
        assert_eq!(answer.topics[0].error_code, ErrorCode::NONE);
    }

    /// Whether the server closes the connection, having sent no more.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = [0; 1];
        match self.stream.read(&mut rest) {
            Ok(n) => n == 0,
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "it is open");
                true
            }
        }
    }
}

pub fn batch(values: &[&[u8]]) -> Records {
    let mut builder = BatchBuilder::new(1024);
    for value in values {
        builder
            .append(1_700_000_000_000, None, Some(value), &[])
            .unwrap();
    }
    let finished = builder.finish(&FinishOptions::default()).unwrap();
    finished.encoded.into()
}

pub fn produce(topic: &str, acks: i16, records: Records) -> Request {
    Request::Produce(ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData { index: 0, records }],
            ..Default::default()
        }],
        ..Default::default()
    })
}

pub fn fetch(topic: &str, offset: i64, max_wait_ms: i32) -> Request {
    Request::Fetch(FetchRequest {
        replica_id: -1,
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![FetchPartition {
                partition: 0,
                fetch_offset: offset,
                partition_max_bytes: 50 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    })
}

pub fn metadata(topic: &str) -> Request {
    Request::Metadata(MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(topic.into()),
            ..Default::default()
        }]),
        ..Default::default()
    })
}

pub fn offset_of(response: &Response) -> Result<i64, ErrorCode> {
    let Response::Produce(produced) = response else {
        panic!("{response:?}")
    };
    let answer = &produced.responses[0].partition_responses[0];
    match answer.error_code {
        ErrorCode::NONE => Ok(answer.base_offset),
        code => Err(code),
    }
}

pub fn values_of(response: Response) -> Vec<Vec<u8>> {
    let Response::Fetch(fetched) = response else {
        panic!("{response:?}")
    };
    let mut values = Vec::new();
    for partition in fetched.responses.into_iter().flat_map(|t| t.partitions) {
        assert_eq!(partition.error_code, ErrorCode::NONE);
        for batch in Batches::new(partition.records.into_chunks()) {
            let mut records = batch.unwrap().records(Limits::default()).unwrap();
            while let Some(record) = records.next_record() {
                values.push(record.unwrap().value.unwrap().to_vec());
            }
        }
    }
    values
}

pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// An answer is counted right after it is written.
pub fn all_is_answered(server: &Server) {
    wait_until("nothing is held", || {
        let counters = server.counters();
        counters.request_bytes_held == 0 && counters.answer_bytes_held == 0
    });
}
