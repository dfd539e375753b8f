//! What a message costs the producer: produce() with all that follows from it, and reading its delivery report.
//!
//! The cluster is a function that acknowledges: no broker, no driver. `cargo run --release -p ottla-client --example
//! producer_speed [MESSAGES]`.

use ottla_client::producer::{Header, ProduceRecord, Side};
use ottla_client::{BootstrapServer, Client, ClientConfig, Event, Output};
use ottla_protocol::messages::InitProducerIdResponse;
use ottla_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use ottla_protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use ottla_protocol::{ApiKey, Records, Request, Response};
use ottla_record::{Compression, Now};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

const PARTITIONS: usize = 4;
const RUNS: usize = 7;

fn main() {
    let count = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(2_000_000);
    let value = [b'v'; 100];
    let key = *b"key-12345678";
    let headers = [
        Header::new("trace", Some(b"0123456789abcdef")),
        Header::new("n", None),
    ];
    let plain = ProduceRecord {
        partition: 0,
        ..ProduceRecord::new(0, &value)
    };
    let keyed = ProduceRecord {
        partition: -1,
        key: Some(&key),
        ..plain
    };
    let side = Side {
        opaque: 1,
        payload_addr: 0,
    };
    type Change = fn(&mut ClientConfig);
    let cases: [(&str, ProduceRecord<'_>, Change); 8] = [
        ("plain", plain, |_| {}),
        (
            "one partition of four",
            ProduceRecord {
                partition: -1,
                ..plain
            },
            |_| {},
        ),
        ("opaque", ProduceRecord { side, ..plain }, |_| {}),
        ("idempotent", plain, |c| c.enable_idempotence = true),
        ("keyed", keyed, |_| {}),
        (
            "headers",
            ProduceRecord {
                headers: &headers,
                ..plain
            },
            |_| {},
        ),
        ("no reports", plain, |c| c.delivery_reports = false),
        ("lz4", plain, |c| c.compression = Compression::Lz4),
    ];
    println!("{count} messages of 100 bytes, the best of {RUNS} runs");
    println!(
        "{:<22} {:>12} {:>14} {:>16}",
        "", "produce ns", "delivery ns", "allocations/1000"
    );
    for keeps in [false, true] {
        println!(
            "{}",
            if keeps {
                "batches are kept, as a log in memory does:"
            } else {
                "batches are dropped:"
            }
        );
        for (name, record, change) in &cases {
            let mut runs: Vec<Cost> = (0..RUNS)
                .map(|_| run(count, record, *change, keeps))
                .collect();
            runs.sort_by_key(|cost| cost.produce);
            let produce = runs[0].produce.as_nanos() as f64 / count as f64;
            runs.sort_by_key(|cost| cost.delivery);
            let delivery = runs[0].delivery.as_nanos() as f64 / count as f64;
            let allocations = runs[0].allocations as f64 * 1000.0 / count as f64;
            println!("{name:<22} {produce:>12.1} {delivery:>14.1} {allocations:>16.2}");
        }
    }
}

struct Cost {
    produce: Duration,
    delivery: Duration,
    allocations: usize,
}

fn run(
    count: usize,
    record: &ProduceRecord<'_>,
    change: fn(&mut ClientConfig),
    keeps: bool,
) -> Cost {
    let server = BootstrapServer {
        host: "b".into(),
        port: 1,
    };
    let mut config = ClientConfig {
        bootstrap_servers: vec![server],
        ..ClientConfig::default()
    };
    change(&mut config);
    let mut now = Now::new(1_000_000, 1_700_000_000_000);
    let mut client = Client::new(config, now, 1).expect("a client");
    let mut cluster = Cluster {
        kept: keeps.then(Vec::new),
        offset: 0,
    };
    let topic = client.intern_topic(now, "t", None, None).expect("a topic");
    client.handle_timeout(now);
    cluster.serve(&mut client, now);
    let record = ProduceRecord { topic, ..*record };
    let mut delivery = Duration::ZERO;
    let (mut produced, mut reported) = (0, 0);
    let allocated = ALLOCATIONS.load(Relaxed);
    let begin = Instant::now();
    while reported < count {
        if produced < count {
            // The clock, as a driver would read it.
            if produced % 16 == 0 {
                now = Now::new(now.mono_us + 1, now.wall_ms);
            }
            produced += 1;
            if !client.produce(now, black_box(&record)).expect("room") {
                continue;
            }
        } else {
            now = Now::new(now.mono_us + 10_000, now.wall_ms + 10);
            client.handle_timeout(now);
        }
        cluster.serve(&mut client, now);
        if client.config().delivery_reports {
            let from = Instant::now();
            while let Some(event) = client.poll_event() {
                let Event::Delivery(batch) = event else {
                    continue;
                };
                let mut reports = batch.deliveries();
                while let Some(report) = reports.next(&batch) {
                    black_box((report.offset, report.value, report.side, report.latency_us));
                }
                reported += batch.len();
                client.delivery_taken(batch.len(), batch.bytes());
            }
            delivery += from.elapsed();
        } else {
            reported = produced - client.queue_len();
        }
    }
    let produce = begin.elapsed() - delivery;
    Cost {
        produce,
        delivery,
        allocations: ALLOCATIONS.load(Relaxed) - allocated,
    }
}

/// A cluster of one broker that acknowledges what it gets.
struct Cluster {
    kept: Option<Vec<Records>>,
    offset: i64,
}

impl Cluster {
    fn serve(&mut self, client: &mut Client, now: Now) {
        while let Some(output) = client.poll_output() {
            match output {
                Output::Connect { conn, .. } => client.handle_connected(now, conn),
                Output::Send {
                    conn,
                    correlation_id,
                    request,
                    ..
                } => {
                    let response = self.answer(request);
                    client.handle_response(now, conn, correlation_id, response);
                }
                Output::Disconnect { .. } => {}
            }
        }
    }

    fn answer(&mut self, request: Request) -> Response {
        match request {
            Request::ApiVersions(_) => {
                let range = |key: &ApiKey| ApiVersion {
                    api_key: *key as i16,
                    min_version: *key.valid_versions().start(),
                    max_version: *key.valid_versions().end(),
                    ..Default::default()
                };
                let api_keys = ApiKey::ALL.iter().map(range).collect();
                Response::ApiVersions(ApiVersionsResponse {
                    api_keys,
                    ..Default::default()
                })
            }
            Request::Metadata(_) => {
                let partition = |partition_index| MetadataResponsePartition {
                    partition_index,
                    leader_id: 1,
                    ..Default::default()
                };
                let topic = MetadataResponseTopic {
                    name: Some("t".into()),
                    partitions: (0..PARTITIONS as i32).map(partition).collect(),
                    ..Default::default()
                };
                let broker = MetadataResponseBroker {
                    node_id: 1,
                    host: "b".into(),
                    port: 1,
                    ..Default::default()
                };
                Response::Metadata(MetadataResponse {
                    brokers: vec![broker],
                    topics: vec![topic],
                    ..Default::default()
                })
            }
            Request::InitProducerId(_) => Response::InitProducerId(InitProducerIdResponse {
                producer_id: 1,
                ..Default::default()
            }),
            Request::Produce(request) => Response::Produce(self.produced(request)),
            request => unreachable!("{request:?}"),
        }
    }

    fn produced(&mut self, request: ProduceRequest) -> ProduceResponse {
        let mut responses = Vec::with_capacity(request.topic_data.len());
        for topic in request.topic_data {
            let mut partition_responses = Vec::with_capacity(topic.partition_data.len());
            for partition in topic.partition_data {
                partition_responses.push(PartitionProduceResponse {
                    index: partition.index,
                    base_offset: self.offset,
                    ..Default::default()
                });
                self.offset += 1;
                if let Some(kept) = &mut self.kept {
                    kept.push(partition.records);
                }
            }
            let (name, topic_id) = (topic.name, topic.topic_id);
            responses.push(TopicProduceResponse {
                name,
                topic_id,
                partition_responses,
            });
        }
        ProduceResponse {
            responses,
            ..Default::default()
        }
    }
}

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on as it is to the system's allocator; only a counter is added.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}
