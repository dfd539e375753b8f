//! Ottla is Kafka as a library: a broker and clients that live in your program.
//!
//! Where the data lives is one string, `bootstrap.servers`, and nothing else in a program changes:
//!
//! | `bootstrap.servers` | what it is |
//! |---|---|
//! | `memory:` or `memory:NAME` | a broker in this process, shared by its handles and gone with the last of them: for tests |
//! | `file:///path/to/dir` | a durable broker on a directory, in Kafka's own file layout: for programs that need an event log of their own |
//!
//! (`host:port` addresses come with a later version, and so does a directory that several processes have open at once.)
//!
//! ```
//! use ottla::{Config, Consumer, NewRecord, Producer};
//! use std::time::Duration;
//!
//! let directory = tempfile::tempdir()?;
//! let address = format!("file://{}", directory.path().display());
//!
//! let producer = Producer::open(&address)?;
//! producer.send(NewRecord::to("orders").key(b"alice").value(b"1 tea"))?;
//! producer.send(NewRecord::to("orders").key(b"bob").value(b"2 coffees"))?;
//! producer.flush(Duration::from_secs(10))?; // both are on disk now
//!
//! let config = Config::new()
//!     .with("bootstrap.servers", &address)?
//!     .with("group.id", "kitchen")?
//!     .with("auto.offset.reset", "earliest")?;
//! let kitchen = Consumer::new(config)?;
//! kitchen.subscribe(&["orders"])?;
//! let mut orders = 0;
//! for batch in kitchen.batches(Duration::from_secs(1)) {
//!     let mut batch = batch?;
//!     while let Some(record) = batch.next() {
//!         let record = record.map_err(|(_, error)| error)?;
//!         println!("{:?} at offset {}", record.value, record.offset);
//!         orders += 1;
//!     }
//! #   if orders == 2 { break }
//! }
//! assert_eq!(orders, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * [`Producer`], [`Consumer`] and [`Admin`] are for Rust programs; [`Broker`] holds an embedded broker open without any of them.
//! * [`Config`] takes librdkafka's properties by name, with librdkafka's defaults, checks and errors; `CONFIGURATION.md` lists them.
//! * [`Handle`] is everything that librdkafka's `rd_kafka_t` is: queues of events, delivery reports, rebalances, offsets, statistics. The
//!   C, Python and Node packages are built on it, and the types above are thin.
//! * [`KafkaError`] has librdkafka's codes ([`ErrCode`]), Kafka's among them, and says whether to try again.
//!
//! # What costs what
//!
//! The calling thread does the work: a record is encoded into its batch by `send`, a full batch goes into the broker and its reports come
//! back on the same thread, a fetch is a look into the broker's log. No thread stands in between, nothing is allocated per record, and
//! [`FetchedBatch`] lends records out of the very bytes that were appended. On a directory, a record that was acknowledged is on disk:
//! the broker's thread syncs what many callers wait for in one go. `?durability=os` leaves that to the operating
//! system.
//!
//! # Threads and processes
//!
//! Handles may be used from any thread; clones are the same handle. Each has one background thread for what is due while nobody calls
//! (records that linger, heartbeats, commits), and each open broker one for syncs and timers. A directory belongs to one process at a time;
//! another is told which. After `fork`, the child's copies of handles fail at once: make new ones there.

mod admin;
mod answers;
mod broker;
pub mod config;
mod consumer;
mod event;
mod handle;
mod partition;
mod producer;
mod queue;
pub mod serve;
mod shared;
mod statistics;

pub use admin::{
    Admin, AdminOptions, ClusterDescription, ConfigChange, ConfigEntry, ConfigOperation,
    ConfigResource, ElectionType, GroupListing, ListedOffset, NewPartitions, NewTopic, OffsetSpec,
    Reassignment, TopicDescription, TopicDescriptions,
};
pub use answers::{
    BrokerInfo, GroupInfo, GroupMember, GroupType, Metadata, PartitionMetadata, TopicMetadata,
};
pub use broker::{Broker, promote};
pub use config::{Config, ConfigError, CustomPartitioner, Logger, TopicConfig};
pub use consumer::Consumer;
pub use event::{
    Delivery, DeliveryBatch, Event, FetchedBatch, LogLine, Persistence, RebalanceKind, Record,
    Throttle,
};
pub use handle::{GroupMetadata, Handle, InterruptCheck, ProduceRecord, TopicHandle};
pub use ottla_broker::{
    BrokerMetrics, ClientMetric, ClientMetricKind, ClientMetricValue, ClientMetrics,
    PartitionMetrics, Promoted, Promotion, QuotaMetrics, QuotaOf, TelemetryMetrics,
};
pub use ottla_client::{ErrCode, KafkaError, Role, Route};
pub use ottla_driver::{Server, ServerCounters};
pub use ottla_protocol::{ErrorCode, Str, Uuid};
pub use ottla_record::{Header, Headers};
pub use partition::{TimestampType, TopicPartition, offset};
pub use producer::{Delivered, NewRecord, Producer};
pub use queue::{Queue, QueueHook};
