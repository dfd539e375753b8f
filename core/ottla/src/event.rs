//! What a handle tells its application: delivery reports, records, errors, rebalances, logs, statistics.

use crate::shared::Taken;
use crate::{ErrCode, KafkaError, TimestampType, TopicPartition};
use bytes::Bytes;
use ottla_client::consumer::Fetched;
use ottla_client::producer::{DeliveredBatch, Deliveries};
use ottla_protocol::Str;
use ottla_record::Headers;
use std::sync::{Arc, atomic::Ordering::Relaxed};

/// One thing out of a [`Queue`](crate::Queue). Which queue an event goes to is told at each kind; "main queue" and "consumer
/// queue" are [`Handle::main_queue`](crate::Handle::main_queue) and
/// [`Handle::consumer_queue`](crate::Handle::consumer_queue).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Delivery reports of one batch of records. Main queue.
    Delivery(DeliveryBatch),
    /// Records of one partition. Consumer queue, or the partition's own.
    Fetched(FetchedBatch),
    /// The end of a partition was reached (`enable.partition.eof`). Consumer queue, or the partition's own.
    PartitionEof {
        /// The topic.
        topic: Str,
        /// The partition.
        partition: i32,
        /// The offset of the record that comes next.
        offset: i64,
    },
    /// An error in consuming that concerns the application: a partition that can't be read, a lost group, too long between two
    /// polls. Consumer queue, or the partition's own.
    ConsumerError {
        /// The topic and partition that it concerns, if any.
        partition: Option<(Str, i32)>,
        /// The offset that it concerns, or `OFFSET_INVALID`.
        offset: i64,
        /// What happened.
        error: KafkaError,
    },
    /// The group gives or takes partitions. Comes only with
    /// [`Config::set_rebalance_events`](crate::Config::set_rebalance_events); then the group waits for the answer: `assign` or
    /// `incremental_assign` after [`RebalanceKind::Assign`], `unassign` or `incremental_unassign` otherwise. Consumer queue.
    Rebalance {
        /// What happens.
        kind: RebalanceKind,
        /// To which partitions.
        partitions: Vec<TopicPartition>,
    },
    /// An asynchronous or automatic commit is done. Consumer queue.
    OffsetCommit {
        /// The commit's error; each partition has its own besides. `_NO_OFFSET` if there was nothing to commit.
        error: ErrCode,
        /// What was to be committed.
        offsets: Vec<TopicPartition>,
    },
    /// Something that concerns the whole handle, such as a broker that can't be reached. With `fatal` the handle is of no use any
    /// more. Main queue.
    Error(KafkaError),
    /// A broker makes this client wait, because a quota is used up, or no longer. Comes only with
    /// [`Config::set_throttle_events`](crate::Config::set_throttle_events), with every answer that tells to wait and with the first
    /// afterwards that doesn't. Main queue.
    Throttle(Throttle),
    /// A log line, with `log.queue=true`. Main queue, or that of [`Handle::set_log_queue`](crate::Handle::set_log_queue).
    Log(LogLine),
    /// Statistics as JSON, every `statistics.interval.ms`, in librdkafka's format. Main queue.
    Statistics(String),
    /// What [`Queue::push`](crate::Queue::push) was given.
    Application(Box<dyn std::any::Any + Send>),
    /// [`Queue::wake`](crate::Queue::wake) was called: whoever polls is to look around.
    Wakeup,
}

/// What a rebalance does to this member's partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebalanceKind {
    /// The group gave it these partitions.
    Assign,
    /// It has to give these partitions up; their offsets can still be committed.
    Revoke,
    /// It has lost these partitions already: others may consume them by now, and commits will fail.
    Lost,
}

/// What a broker said about waiting (KIP-219).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// `host:port` of the broker.
    pub broker_name: String,
    /// Its node id; -1 if it is known by an address of `bootstrap.servers` only.
    pub broker_id: i32,
    /// For how many milliseconds it takes nothing more from the connection of that answer; 0: no longer.
    pub throttle_ms: u32,
}

/// A log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Syslog's severity: 0 emergency … 3 error, 4 warning, 6 information, 7 debug.
    pub level: u8,
    /// A short word for where it comes from, such as `CONFWARN`.
    pub facility: &'static str,
    /// The text.
    pub message: String,
    /// What asked for it: one of the contexts that `debug` takes; empty for other lines.
    pub context: &'static str,
}

/// How far a record got, as far as is known (`rd_kafka_msg_status_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It was never sent, or surely not written.
    NotPersisted = 0,
    /// It was sent, and nobody answered.
    PossiblyPersisted = 1,
    /// It was acknowledged.
    Persisted = 2,
}

/// The delivery reports of one batch of records: they were delivered, or failed, together.
///
/// Until it is dropped (or a record is passed by [`DeliveryBatch::next`]) its records count for
/// [`Handle::outq_len`](crate::Handle::outq_len) and `queue.buffering.max.messages`.
pub struct DeliveryBatch {
    batch: DeliveredBatch,
    reports: Deliveries,
    taken: Arc<Taken>,
}

/// The delivery report of one record, borrowed from its [`DeliveryBatch`].
#[derive(Debug)]
pub struct Delivery<'a> {
    /// Its offset, or `OFFSET_INVALID` (-1001).
    pub offset: i64,
    /// Its timestamp in ms since the epoch: the broker's if the topic has `LogAppendTime`.
    pub timestamp: i64,
    /// Its key, as produced.
    pub key: Option<&'a [u8]>,
    /// Its value, as produced (a copy: the address that was given to `produce` is [`Delivery::payload_addr`]).
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
    /// [`ProduceRecord::opaque`](crate::ProduceRecord::opaque).
    pub opaque: usize,
    /// [`ProduceRecord::payload_addr`](crate::ProduceRecord::payload_addr).
    pub payload_addr: usize,
}

impl std::fmt::Debug for DeliveryBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.batch.fmt(f)
    }
}

impl Drop for DeliveryBatch {
    fn drop(&mut self) {
        self.taken.bytes.fetch_add(self.batch.bytes(), Relaxed);
        self.taken.messages.fetch_add(self.batch.len(), Relaxed);
    }
}

impl DeliveryBatch {
    pub(crate) fn new(batch: DeliveredBatch, taken: Arc<Taken>) -> Self {
        Self {
            reports: batch.deliveries(),
            batch,
            taken,
        }
    }

    /// The topic.
    pub fn topic(&self) -> &Str {
        &self.batch.topic
    }
    /// The topic's handle, as [`Handle::topic`](crate::Handle::topic) gave it.
    pub fn topic_handle(&self) -> crate::TopicHandle {
        crate::TopicHandle(self.batch.topic_handle)
    }
    /// The partition; -1 if none was chosen.
    pub fn partition(&self) -> i32 {
        self.batch.partition
    }
    /// Why the records were not delivered, or `None`: they were.
    pub fn error(&self) -> Option<&KafkaError> {
        self.batch.error.as_ref()
    }
    /// The error's code, or `NO_ERROR`.
    pub fn code(&self) -> ErrCode {
        self.batch.code()
    }
    /// How far the records got.
    pub fn status(&self) -> Persistence {
        match self.batch.status {
            ottla_client::producer::Persistence::NotPersisted => Persistence::NotPersisted,
            ottla_client::producer::Persistence::PossiblyPersisted => {
                Persistence::PossiblyPersisted
            }
            ottla_client::producer::Persistence::Persisted => Persistence::Persisted,
        }
    }
    /// When the broker appended the records, in ms since the epoch, if the topic has `LogAppendTime`; else -1.
    pub fn log_append_time(&self) -> i64 {
        self.batch.log_append_time
    }
    /// The offset of the partition's first record when these were appended, or -1 if the broker didn't tell.
    pub fn log_start_offset(&self) -> i64 {
        self.batch.log_start_offset
    }
    /// Node id of the broker that answered, or -1.
    pub fn broker_id(&self) -> i32 {
        self.batch.broker
    }
    /// From the batch's first `produce` to its report, in microseconds.
    pub fn latency_us(&self) -> u64 {
        self.batch.latency_us
    }
    /// The bytes in which the records' keys, values and headers lie. `buffer.slice_ref(value)` shares them.
    pub fn buffer(&self) -> &Bytes {
        self.batch.buffer()
    }
    /// Number of records, those already passed included.
    pub fn len(&self) -> usize {
        self.batch.len()
    }
    /// Whether it has no records; it always has.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }
    /// The next record's report. Takes no lock and allocates nothing.
    #[allow(clippy::should_implement_trait)] // it lends
    pub fn next(&mut self) -> Option<Delivery<'_>> {
        let report = self.reports.next(&self.batch)?;
        Some(Delivery {
            offset: report.offset,
            timestamp: report.timestamp,
            key: report.key,
            value: report.value,
            headers: report.headers,
            opaque: report.side.opaque,
            payload_addr: report.side.payload_addr,
        })
    }
}

/// Records of one partition, as one fetch brought them. Iterating takes no lock and copies nothing; the bytes stay alive for as
/// long as anything refers to them.
///
/// A seek, pause or unassign of the partition makes the remaining records stale: [`FetchedBatch::next`] then gives `None`.
/// Dropping it half-way moves nothing back: the remaining records are lost to this consumer unless it seeks, so iterate to the end
/// or keep it.
#[derive(Debug)]
pub struct FetchedBatch {
    fetched: Fetched,
}

/// A record, borrowed from its [`FetchedBatch`].
#[derive(Debug)]
pub struct Record<'a> {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since the epoch; -1 if it has none.
    pub timestamp: i64,
    /// Who gave the timestamp.
    pub timestamp_type: TimestampType,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, decoded as they are read.
    pub headers: Headers<'a>,
    /// Epoch of the leader that appended it; -1 if unknown.
    pub leader_epoch: i32,
    /// The bytes in which key, value and headers lie (a whole batch, decompressed). `buffer.slice_ref(value)` shares them.
    pub buffer: &'a Bytes,
}

impl FetchedBatch {
    pub(crate) fn new(fetched: Fetched) -> Self {
        Self { fetched }
    }

    /// The topic.
    pub fn topic(&self) -> &Str {
        self.fetched.partition().topic()
    }
    /// The partition.
    pub fn partition(&self) -> i32 {
        self.fetched.partition().partition()
    }
    /// How many records it held at first (an upper bound of what is handed out).
    pub fn record_count(&self) -> usize {
        self.fetched.record_count()
    }
    /// Bytes of its batches as they were fetched.
    pub fn size_in_bytes(&self) -> usize {
        self.fetched.size_in_bytes()
    }
    /// Whether a seek, pause or unassign made what is left useless.
    pub fn is_stale(&self) -> bool {
        self.fetched.is_outdated()
    }
    /// The next record. It moves the partition's position, and with `enable.auto.offset.store` the offset that will be
    /// committed, behind that record. An error (`_BAD_MSG`, `_BAD_COMPRESSION`) stands for the rest of one batch, with its first
    /// offset; the next call goes on behind it.
    #[allow(clippy::should_implement_trait)] // it lends
    pub fn next(&mut self) -> Option<Result<Record<'_>, (i64, KafkaError)>> {
        Some(match self.fetched.next_record()? {
            Ok(record) => Ok(Record {
                offset: record.offset,
                timestamp: record.timestamp,
                timestamp_type: match record.timestamp_type {
                    ottla_client::consumer::TimestampType::NotAvailable => {
                        TimestampType::NotAvailable
                    }
                    ottla_client::consumer::TimestampType::CreateTime => TimestampType::CreateTime,
                    ottla_client::consumer::TimestampType::LogAppendTime => {
                        TimestampType::LogAppendTime
                    }
                },
                key: record.key,
                value: record.value,
                headers: record.headers,
                leader_epoch: record.leader_epoch,
                buffer: record.buffer,
            }),
            Err(bad) => Err((bad.offset, bad.error)),
        })
    }
}
