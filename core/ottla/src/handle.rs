//! The handle: one producer or consumer, with everything librdkafka's `rd_kafka_t` can do. The bindings are built on it; in Rust
//! [`Producer`](crate::Producer), [`Consumer`](crate::Consumer) and [`Admin`](crate::Admin) are nicer.

use crate::{Config, KafkaError, Queue, TopicConfig, TopicPartition};
use ottla_protocol::Str;
use ottla_record::Header;
use std::sync::Arc;
use std::time::Duration;

use crate::Role;

/// A topic of one handle: what [`ProduceRecord::topic`] takes in place of a name. Cheap to copy, good for the handle's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicHandle(pub u32);

/// A record to produce. Key, value and headers are copied before `produce` returns.
#[derive(Clone, Copy, Debug)]
pub struct ProduceRecord<'a> {
    /// From [`Handle::topic`].
    pub topic: TopicHandle,
    /// The partition, or -1: the partitioner chooses.
    pub partition: i32,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a [Header<'a>],
    /// Milliseconds since the epoch; 0 is now.
    pub timestamp: i64,
    /// Comes back with the delivery report, and goes to a custom partitioner.
    pub opaque: usize,
    /// Comes back with the delivery report: the address of the application's own copy, if it wants that back (C's
    /// `RD_KAFKA_MSG_F_FREE` and no-copy modes). 0 is none.
    pub payload_addr: usize,
}

impl<'a> ProduceRecord<'a> {
    /// A record with a value and nothing else, for the partitioner to place.
    pub fn new(topic: TopicHandle, value: &'a [u8]) -> Self {
        Self {
            topic,
            partition: -1,
            key: None,
            value: Some(value),
            headers: &[],
            timestamp: 0,
            opaque: 0,
            payload_addr: 0,
        }
    }

    /// With a key.
    pub fn key(self, key: &'a [u8]) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }
}

/// Is asked every 200 ms at most while a call blocks, without a lock held; `true` ends the call with `_INTR` (a poll: with no
/// event). Python sees Ctrl-C that way.
pub type InterruptCheck = Arc<dyn Fn() -> bool + Send + Sync>;

/// What a consumer is in its group, for transactions and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// `group.id`.
    pub group_id: Str,
    /// The generation; -1 outside of a group.
    pub generation: i32,
    /// The member id; empty outside of a group.
    pub member_id: Str,
    /// `group.instance.id`.
    pub group_instance_id: Option<Str>,
}

/// A producer or consumer: `rd_kafka_t`. A clone is the same one; with the last clone (queues count) it ends, without waiting for
/// records that were not delivered and without leaving a group: see [`Handle::flush`] and [`Handle::close_consumer`].
///
/// All methods may be called from any thread. Calls that wait take a timeout: `Duration::ZERO` doesn't wait, `Duration::MAX` waits
/// for ever.
///
/// In a forked child every method fails with `_STATE` (or gives nothing, where it can't fail): make a new handle there.
#[derive(Clone, Debug)]
pub struct Handle {}

/// Every handle.
#[allow(unused_variables)]
impl Handle {
    /// Opens the broker (or joins the handles that share it) and starts the client.
    ///
    /// Errors: `_INVALID_ARG` for settings that don't go together, for `host:port` addresses (sockets come with a later version)
    /// and for properties that are refused; `_FS` when the directory can't be used, `_CONFLICT` when another process has it: the
    /// message names that process.
    pub fn new(role: Role, config: Config) -> Result<Self, KafkaError> {
        todo!()
    }
    /// librdkafka's form: `CLIENT_ID#producer-1`, numbered in each process.
    pub fn name(&self) -> &str {
        todo!()
    }
    /// `client.id`.
    pub fn client_id(&self) -> &str {
        todo!()
    }
    /// What it is.
    pub fn role(&self) -> Role {
        todo!()
    }
    /// The configuration that it was made with.
    pub fn config(&self) -> &Config {
        todo!()
    }
    /// The fatal error, once there is one: every later operation fails with `_FATAL`.
    pub fn fatal_error(&self) -> Option<KafkaError> {
        todo!()
    }
    /// Threads that work for the handle: its own and its broker's.
    pub fn thread_count(&self) -> usize {
        todo!()
    }
    /// See [`InterruptCheck`].
    pub fn set_interrupt_check(&self, check: Option<InterruptCheck>) {
        todo!()
    }
    /// `log_level` from now on.
    pub fn set_log_level(&self, level: u8) {
        todo!()
    }
    /// Writes a line to the handle's log, as the library's own.
    pub fn log(&self, level: u8, facility: &'static str, message: &str) {
        todo!()
    }
    /// The cluster's id; waits until a broker has told it.
    pub fn cluster_id(&self, timeout: Duration) -> Result<Str, KafkaError> {
        todo!()
    }
    /// The controller's node id; waits until a broker has told it.
    pub fn controller_id(&self, timeout: Duration) -> Result<i32, KafkaError> {
        todo!()
    }
}

/// Queues.
#[allow(unused_variables)]
impl Handle {
    /// Delivery reports, errors, statistics, logs: what `rd_kafka_poll` serves.
    pub fn main_queue(&self) -> Queue {
        todo!()
    }
    /// Records, rebalances, commits: what `rd_kafka_consumer_poll` serves.
    pub fn consumer_queue(&self) -> Queue {
        todo!()
    }
    /// A partition's own queue. It forwards to the consumer queue until it is told otherwise.
    pub fn partition_queue(&self, topic: &str, partition: i32) -> Queue {
        todo!()
    }
    /// A new, empty queue, to forward others to.
    pub fn new_queue(&self) -> Queue {
        todo!()
    }
    /// The main queue forwards to the consumer queue from now on (`rd_kafka_poll_set_consumer`).
    pub fn poll_set_consumer(&self) -> Result<(), KafkaError> {
        todo!()
    }
    /// Log lines go to this queue (with `log.queue=true`); `None`: the main queue.
    pub fn set_log_queue(&self, queue: Option<&Queue>) -> Result<(), KafkaError> {
        todo!()
    }
}

/// Producing. On a consumer these fail with `_INVALID_ARG`, or do nothing.
#[allow(unused_variables)]
impl Handle {
    /// A topic to produce to, with the configuration's topic properties. Asks for its metadata, so that the first record needn't
    /// wait for it.
    pub fn topic(&self, name: &str) -> Result<TopicHandle, KafkaError> {
        todo!()
    }
    /// The same with topic properties of its own; they count if the topic wasn't named before.
    pub fn topic_with(&self, name: &str, config: &TopicConfig) -> Result<TopicHandle, KafkaError> {
        todo!()
    }
    /// The topic's name.
    pub fn topic_name(&self, topic: TopicHandle) -> Option<Str> {
        todo!()
    }
    /// Partitions of a topic, if that is known yet.
    pub fn partition_count(&self, topic: &str) -> Option<i32> {
        todo!()
    }
    /// Whether a partition has a leader, as far as is known (`rd_kafka_topic_partition_available`).
    pub fn is_partition_available(&self, topic: &str, partition: i32) -> bool {
        todo!()
    }
    /// Takes a record. No allocation; the bytes are encoded straight into the partition's batch.
    ///
    /// Errors at once: `_QUEUE_FULL` (poll, or wait), `MSG_SIZE_TOO_LARGE`, `_UNKNOWN_PARTITION`, `_UNKNOWN_TOPIC`, `_FATAL`,
    /// `_STATE`. Everything else comes as a delivery report.
    pub fn produce(&self, record: &ProduceRecord<'_>) -> Result<(), KafkaError> {
        todo!()
    }
    /// The same; while the queue is full it waits up to `timeout` for room (`RD_KAFKA_MSG_F_BLOCK`). Another thread has to poll.
    pub fn produce_wait(
        &self,
        record: &ProduceRecord<'_>,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        todo!()
    }
    /// Takes many records with one taking of the lock. `result` is called for each record that was refused, with its index.
    /// Returns how many were taken.
    pub fn produce_batch<'a>(
        &self,
        records: impl IntoIterator<Item = ProduceRecord<'a>>,
        refused: impl FnMut(usize, KafkaError),
    ) -> usize {
        todo!()
    }
    /// Sends everything now and waits until all is acknowledged or failed and the reports are taken by someone who polls the main
    /// queue. `_TIMED_OUT` if that takes too long.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        todo!()
    }
    /// The same for applications that poll in this very thread: events of the main queue are given to `serve`, without a lock
    /// held.
    pub fn flush_serving(
        &self,
        timeout: Duration,
        serve: &mut dyn FnMut(crate::Event),
    ) -> Result<(), KafkaError> {
        todo!()
    }
    /// Fails records with `_PURGE_QUEUE` that wait (`queue`) and with `_PURGE_INFLIGHT` that were sent (`in_flight`). The reports
    /// come as ever.
    pub fn purge(&self, queue: bool, in_flight: bool) -> Result<(), KafkaError> {
        todo!()
    }
    /// Records that are on their way or whose reports were not taken, and other events that wait.
    pub fn outq_len(&self) -> usize {
        todo!()
    }
}

/// Consuming. On a producer these fail with `_UNKNOWN_GROUP` or `_INVALID_ARG`, or do nothing.
#[allow(unused_variables)]
impl Handle {
    /// Subscribes to topics by name, or by regular expression if it begins with `^`, in place of what was subscribed to. Needs a
    /// `group.id` (`_UNKNOWN_GROUP`); `_INVALID_ARG` for an empty list, a bad name or expression.
    pub fn subscribe<S: AsRef<str>>(&self, topics: &[S]) -> Result<(), KafkaError> {
        todo!()
    }
    /// Leaves the group.
    pub fn unsubscribe(&self) -> Result<(), KafkaError> {
        todo!()
    }
    /// What is subscribed to.
    pub fn subscription(&self) -> Vec<Str> {
        todo!()
    }
    /// Consumes these partitions from their `offset` on, in place of others. `OFFSET_STORED` and `OFFSET_INVALID` begin at the
    /// committed offset.
    pub fn assign(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        todo!()
    }
    /// Consumes nothing any more.
    pub fn unassign(&self) -> Result<(), KafkaError> {
        todo!()
    }
    /// Consumes these partitions too.
    pub fn incremental_assign(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        todo!()
    }
    /// Consumes these partitions no more.
    pub fn incremental_unassign(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        todo!()
    }
    /// What is consumed.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        todo!()
    }
    /// Whether the assignment was lost to others.
    pub fn is_assignment_lost(&self) -> bool {
        todo!()
    }
    /// `NONE`, `EAGER` or `COOPERATIVE`.
    pub fn rebalance_protocol(&self) -> &'static str {
        todo!()
    }
    /// The member id in the group; empty outside of one.
    pub fn member_id(&self) -> Str {
        todo!()
    }
    /// Group, generation, member.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        todo!()
    }
    /// Goes on at other offsets; each partition gets its own `error`.
    pub fn seek(&self, partitions: &mut [TopicPartition]) -> Result<(), KafkaError> {
        todo!()
    }
    /// Stops partitions for a while; each partition gets its own `error`.
    pub fn pause(&self, partitions: &mut [TopicPartition]) -> Result<(), KafkaError> {
        todo!()
    }
    /// Goes on with paused partitions; each partition gets its own `error`.
    pub fn resume(&self, partitions: &mut [TopicPartition]) -> Result<(), KafkaError> {
        todo!()
    }
    /// Sets each `offset` behind the last record that the application took, or to `OFFSET_INVALID`.
    pub fn position(&self, partitions: &mut [TopicPartition]) -> Result<(), KafkaError> {
        todo!()
    }
    /// Notes offsets to be committed by the next automatic or argumentless commit.
    pub fn store_offsets(&self, offsets: &mut [TopicPartition]) -> Result<(), KafkaError> {
        todo!()
    }
    /// Commits these offsets, or all stored ones, and waits. Returns the partitions with their errors.
    pub fn commit(
        &self,
        offsets: Option<&[TopicPartition]>,
        timeout: Duration,
    ) -> Result<Vec<TopicPartition>, KafkaError> {
        todo!()
    }
    /// Commits without waiting; [`Event::OffsetCommit`](crate::Event::OffsetCommit) follows.
    pub fn commit_async(&self, offsets: Option<&[TopicPartition]>) -> Result<(), KafkaError> {
        todo!()
    }
    /// Sets each `offset` and `metadata` to what the group has committed, or `OFFSET_INVALID`.
    pub fn committed(
        &self,
        partitions: &mut [TopicPartition],
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        todo!()
    }
    /// Gives up the partitions, commits, leaves the group. Rebalance events on the way are answered by themselves.
    pub fn close_consumer(&self, timeout: Duration) -> Result<(), KafkaError> {
        todo!()
    }
    /// The same for applications with [rebalance events](crate::Config::set_rebalance_events): events of the consumer queue are
    /// given to `serve` (which has to unassign), without a lock held.
    pub fn close_consumer_serving(
        &self,
        timeout: Duration,
        serve: &mut dyn FnMut(crate::Event),
    ) -> Result<(), KafkaError> {
        todo!()
    }
    /// Begins to close; whoever polls the consumer queue serves it until [`Handle::is_consumer_closed`].
    pub fn begin_close_consumer(&self) -> Result<(), KafkaError> {
        todo!()
    }
    /// Whether closing is done.
    pub fn is_consumer_closed(&self) -> bool {
        todo!()
    }
}

/// Questions about the cluster.
#[allow(unused_variables)]
impl Handle {
    /// Brokers, and all topics (`None`) or those named.
    pub fn metadata(
        &self,
        topics: Option<&[&str]>,
        timeout: Duration,
    ) -> Result<crate::Metadata, KafkaError> {
        todo!()
    }
    /// A partition's first offset and its end, asked of the leader.
    pub fn query_watermark_offsets(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<(i64, i64), KafkaError> {
        todo!()
    }
    /// The same as the last fetch told, without asking; `None` before that.
    pub fn watermark_offsets(&self, topic: &str, partition: i32) -> Option<(i64, i64)> {
        todo!()
    }
    /// Replaces the timestamp (ms) in each `offset` by the first offset whose record is not older, `OFFSET_END` if there is none.
    pub fn offsets_for_times(
        &self,
        times: &mut [TopicPartition],
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        todo!()
    }
    /// Groups with their members: all, or the one named.
    pub fn list_groups(
        &self,
        group: Option<&str>,
        timeout: Duration,
    ) -> Result<Vec<crate::GroupInfo>, KafkaError> {
        todo!()
    }
}
