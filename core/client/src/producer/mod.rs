//! Producing: from `produce()` to the delivery report.
//!
//! `produce()` is the hot path: the limits, the partition, and the encoding into the partition's open batch. All else is
//! done once a batch: [`sender`] has the way of a batch to the broker and back, [`housekeeping`] what time, metadata and
//! the application do to what is queued.

mod delivery;
mod housekeeping;
mod identity;
mod partition;
pub mod partitioner;
mod sender;
mod sequencing;
mod topic;

pub use delivery::{DeliveredBatch, Deliveries, Delivery, NO_OFFSET, Persistence, Side};
pub use ottla_record::Header;

pub(crate) use housekeeping::Purge;

use crate::config::{ClientConfig, TopicConfig};
use crate::error::{ErrCode, KafkaError};
use crate::metadata::Metadata;
use crate::network::Network;
use crate::random::Random;
use crate::statistics::{PartitionStatistics, ProducerCounters};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::vec::Vec;
use hashbrown::HashMap;
use identity::Identity;
use ottla_protocol::Str;
use ottla_record::{BatchBuilder, Codecs, Now};
use partition::{Entry, OpenBatch, Partition};
use partitioner::BoxedPartitioner;
use topic::{Existence, Stickiness, Topic};

/// The longest topic name that Kafka allows.
const MAX_TOPIC_NAME: usize = 249;
/// A batch of this size is sent early to a broker that waits for work: the bytes are still in the second-level cache for
/// whoever reads them next, and waiting for more would gain nothing.
const EARLY_SEND: usize = 128 * 1024;
/// Records of one batch differ in age by no more than this (or `linger.ms`, if that is longer), so that they can time out
/// together.
const MAX_AGE_SPREAD_US: u64 = 1_000_000;
/// Buffers kept for batches to come.
const MAX_SPARE: usize = 8;

/// A record to produce. Its bytes are copied into the batch.
#[derive(Clone, Copy, Debug)]
pub struct ProduceRecord<'a> {
    /// The topic's handle, from [`Client::intern_topic`](crate::Client::intern_topic).
    pub topic: u32,
    /// The partition; -1 leaves it to the partitioner.
    pub partition: i32,
    /// Milliseconds since the Unix epoch; 0 is now.
    pub timestamp: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a [Header<'a>],
    /// Comes back with the delivery report.
    pub side: Side,
}

impl<'a> ProduceRecord<'a> {
    /// A value for any partition of a topic.
    pub fn new(topic: u32, value: &'a [u8]) -> Self {
        Self {
            topic,
            partition: -1,
            timestamp: 0,
            key: None,
            value: Some(value),
            headers: &[],
            side: Side::default(),
        }
    }
}

/// What `produce()` has to look at.
#[derive(Debug)]
struct Limits {
    messages: usize,
    bytes: usize,
    message_bytes: usize,
    batch_bytes: usize,
    batch_messages: usize,
    linger_us: u64,
    stickiness: Stickiness,
}

/// An open batch that lingers: when it has lingered, and which it is.
#[derive(Clone, Copy, Debug)]
struct Lingering {
    due: u64,
    topic: u32,
    partition: u32,
    batch: u64,
}

/// A Produce request in flight: to whom, and its batches.
struct Sent {
    node: i32,
    batches: Vec<(u32, u32, u64)>,
}

/// The producer of one client.
pub(crate) struct Producer {
    limits: Limits,
    topics: Vec<Topic>,
    by_name: HashMap<Str, u32>,
    random: Random,
    codecs: Codecs,
    spare: Vec<Vec<u8>>,
    next_batch: u64,
    next_request: u64,
    /// Messages on their way, those included whose reports were not taken, and bytes of their keys and values.
    queued: (usize, usize),
    /// In the order in which batches were opened, which is the order in which they have lingered.
    lingering: VecDeque<Lingering>,
    /// Something may be due earlier than whoever drives the client was told.
    due_is_new: bool,
    /// Partitions that have something to send, or may have.
    listed: VecDeque<(u32, u32)>,
    requests: BTreeMap<u64, Sent>,
    /// When a partition in the list may send again.
    blocked_until: Option<u64>,
    /// When a batch may have expired.
    expiry_due: Option<u64>,
    flushing: bool,
    identity: Identity,
    fatal: Option<KafkaError>,
    /// The fatal error, until the application was told.
    untold_fatal: Option<KafkaError>,
    reports: VecDeque<DeliveredBatch>,
    counters: ProducerCounters,
    /// The client's properties.
    client: ClientConfig,
}

impl Producer {
    pub(crate) fn new(config: &ClientConfig, now: Now, seed: u64) -> Self {
        let us = |ms: u32| u64::from(ms) * 1000;
        let limits = Limits {
            messages: match config.queue_buffering_max_messages {
                0 => usize::MAX,
                messages => messages as usize,
            },
            bytes: (config.queue_buffering_max_kbytes as usize).saturating_mul(1024),
            message_bytes: config.message_max_bytes,
            batch_bytes: config.batch_size.min(config.message_max_bytes),
            batch_messages: config.batch_num_messages.max(1) as usize,
            linger_us: config.linger_us,
            stickiness: Stickiness {
                linger_us: us(config.sticky_partitioning_linger_ms),
                batch_size: config.batch_size,
            },
        };
        let identity = match config.enable_idempotence {
            true => Identity::Wanted { at: now.mono_us },
            false => Identity::Anonymous,
        };
        Self {
            limits,
            topics: Vec::new(),
            by_name: HashMap::new(),
            random: Random::new(seed),
            codecs: Codecs::new(),
            spare: Vec::new(),
            next_batch: 0,
            next_request: 0,
            queued: (0, 0),
            lingering: VecDeque::new(),
            due_is_new: false,
            listed: VecDeque::new(),
            requests: BTreeMap::new(),
            blocked_until: None,
            expiry_due: None,
            flushing: false,
            identity,
            fatal: None,
            untold_fatal: None,
            reports: VecDeque::new(),
            counters: ProducerCounters::default(),
            client: config.clone(),
        }
    }

    /// The handle of a topic, whose partitions are looked up from now on. Its properties and partitioner count when it is
    /// first named. `_INVALID_ARG` for a name that Kafka refuses, and for properties that contradict the client's.
    pub(crate) fn intern_topic(
        &mut self,
        now: Now,
        name: &str,
        config: Option<TopicConfig>,
        partitioner: Option<BoxedPartitioner>,
        metadata: &mut Metadata,
    ) -> Result<u32, KafkaError> {
        if let Some(handle) = self.by_name.get(name.as_bytes()) {
            return Ok(*handle);
        }
        let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let dots = name == "." || name == "..";
        if name.is_empty() || name.len() > MAX_TOPIC_NAME || dots || !name.bytes().all(legal) {
            let text =
                format!("{name:?} is not a topic name: 1 to {MAX_TOPIC_NAME} of A-Z a-z 0-9 . _ -");
            return Err(KafkaError::new(ErrCode::INVALID_ARG, text));
        }
        let config = config.unwrap_or_else(|| self.client.topic.clone());
        self.client.check_topic(&config)?;
        let name = Str::from(name);
        let handle = self.topics.len() as u32;
        let compression = config.compression.unwrap_or(self.client.compression);
        self.topics.push(Topic::new(
            name.clone(),
            config,
            compression,
            partitioner,
            now,
        ));
        metadata.follow(now, &name);
        self.by_name.insert(name, handle);
        self.metadata_of(now, handle, metadata);
        Ok(handle)
    }

    /// The name of a handle's topic.
    pub(crate) fn topic_name(&self, topic: u32) -> Option<&Str> {
        self.topics.get(topic as usize).map(|topic| &topic.name)
    }

    /// Takes a record. `Ok(true)`: a batch is ready, [`Self::drain`] should follow.
    #[inline]
    pub(crate) fn produce(
        &mut self,
        now: Now,
        record: &ProduceRecord<'_>,
        network: &Network,
    ) -> Result<bool, KafkaError> {
        let entry = Entry {
            timestamp: if record.timestamp == 0 {
                now.wall_ms
            } else {
                record.timestamp
            },
            key: record.key,
            value: record.value,
            headers: record.headers,
            side: record.side,
            created_us: now.mono_us,
        };
        // In librdkafka's order: a message that is too large is so even if the queue is full.
        let bound = BatchBuilder::size_of_record(entry.key, entry.value, entry.headers);
        if bound > self.limits.message_bytes {
            return Err(too_large(bound, self.limits.message_bytes));
        }
        let bytes = entry.bytes();
        let (messages, queued_bytes) = self.queued;
        if messages >= self.limits.messages
            || queued_bytes.saturating_add(bytes) > self.limits.bytes
        {
            return Err(queue_full());
        }
        let Some(topic) = self.topics.get_mut(record.topic as usize) else {
            return Err(no_handle());
        };
        if !matches!(topic.existence, Existence::Known) || self.fatal.is_some() {
            return self.produce_early(record, &entry);
        }
        let number = match record.partition {
            -1 => topic.choose(&entry, now, self.limits.stickiness, &mut self.random),
            number => number,
        };
        let ready = self.place(record.topic, number, &entry, bound, network)?;
        self.accept(bytes);
        Ok(ready)
    }

    #[inline]
    fn accept(&mut self, bytes: usize) {
        self.queued.0 += 1;
        self.queued.1 += bytes;
        self.counters.messages += 1;
        self.counters.bytes += bytes as u64;
    }

    /// Adds a record to its partition's batch. `bound` is the most that it takes. Returns whether a batch is ready.
    #[inline]
    fn place(
        &mut self,
        handle: u32,
        number: i32,
        entry: &Entry<'_>,
        bound: usize,
        network: &Network,
    ) -> Result<bool, KafkaError> {
        let topic = &mut self.topics[handle as usize];
        let count = topic.partitions.len();
        let Some(partition) = usize::try_from(number)
            .ok()
            .and_then(|n| topic.partitions.get_mut(n))
        else {
            return Err(no_partition(number, count));
        };
        let mut ready = false;
        if partition.open.as_ref().is_none_or(|open| {
            open.builder.len() + bound > self.limits.batch_bytes
                || entry.created_us >= open.until_us
        }) {
            ready = self.open_batch(handle, number as u32, entry.created_us);
        }
        let partition = &mut self.topics[handle as usize].partitions[number as usize];
        let Some(open) = &mut partition.open else {
            return Ok(ready);
        };
        if let Err(error) = open.append(entry) {
            return Err(KafkaError::new(
                ErrCode::MSG_SIZE_TOO_LARGE,
                format!("{error}"),
            ));
        }
        if open.builder.count() >= self.limits.batch_messages || open.builder.len() >= open.look_at
        {
            ready |= self.look_at_batch(handle, number as u32, network);
        }
        Ok(ready)
    }

    /// Closes what is open and opens a batch. Returns whether one was closed.
    #[inline(never)]
    fn open_batch(&mut self, handle: u32, number: u32, now_us: u64) -> bool {
        let until_us = self.open_until(handle, now_us);
        let topic = &mut self.topics[handle as usize];
        let compression = topic.compression;
        let timeout_us = topic.timeout_us();
        let partition = &mut topic.partitions[number as usize];
        let closed = partition.open.is_some();
        if closed {
            partition.close_open();
            list(&mut self.listed, partition, handle, number);
        }
        let spare = self.spare.pop();
        let builder = partition.builder(spare, compression);
        self.next_batch += 1;
        let mut open = OpenBatch::new(
            self.next_batch,
            builder,
            partition.sides(),
            now_us,
            until_us,
        );
        // Without linger even one record is sent at once, if the broker waits for work.
        let at_once = self.limits.linger_us == 0 || self.flushing;
        open.look_at = if at_once {
            0
        } else {
            EARLY_SEND.min(self.limits.batch_bytes)
        };
        partition.open = Some(open);
        let due = if self.flushing {
            now_us
        } else {
            now_us + self.limits.linger_us
        };
        self.forget_closed();
        let batch = self.next_batch;
        self.lingering.push_back(Lingering {
            due,
            topic: handle,
            partition: number,
            batch,
        });
        let expires = now_us.saturating_add(timeout_us);
        self.expiry_due = Some(self.expiry_due.map_or(expires, |at| at.min(expires)));
        self.due_is_new = true;
        closed
    }

    /// Takes batches that were closed from the front of those that linger: nobody need wake up for them.
    fn forget_closed(&mut self) {
        while let Some(lingering) = self.lingering.front() {
            let partitions = &self.topics[lingering.topic as usize].partitions;
            let partition = partitions.get(lingering.partition as usize);
            let open = partition.and_then(|partition| partition.open.as_ref());
            if open.is_some_and(|open| open.id == lingering.batch) {
                return;
            }
            self.lingering.pop_front();
        }
    }

    /// Until when a batch that is opened now takes records.
    fn open_until(&self, handle: u32, now_us: u64) -> u64 {
        let spread = (self.topics[handle as usize].timeout_us() / 8).min(MAX_AGE_SPREAD_US);
        now_us.saturating_add(spread.max(self.limits.linger_us))
    }

    /// The batch is full, or large enough for a broker that waits. Returns whether it was closed.
    #[inline(never)]
    fn look_at_batch(&mut self, handle: u32, number: u32, network: &Network) -> bool {
        let partition = &mut self.topics[handle as usize].partitions[number as usize];
        let Some(open) = &mut partition.open else {
            return false;
        };
        let full = open.builder.count() >= self.limits.batch_messages
            || open.builder.len() >= self.limits.batch_bytes;
        if full || (partition.ready.is_empty() && network.is_idle(partition.leader)) {
            partition.close_open();
            list(&mut self.listed, partition, handle, number);
            return true;
        }
        open.look_at = (open.look_at + EARLY_SEND).min(self.limits.batch_bytes);
        false
    }

    /// Takes a record that cannot be placed now.
    #[cold]
    fn produce_early(
        &mut self,
        record: &ProduceRecord<'_>,
        entry: &Entry<'_>,
    ) -> Result<bool, KafkaError> {
        if let Some(fatal) = &self.fatal {
            let text = format!("the producer has failed for good: {}", fatal.message);
            return Err(KafkaError {
                fatal: true,
                ..KafkaError::new(ErrCode::FATAL, text)
            });
        }
        let until_us = self.open_until(record.topic, entry.created_us);
        let topic = &mut self.topics[record.topic as usize];
        if let Existence::Missing(error) = &topic.existence {
            return Err(error.clone());
        }
        if record.partition < -1 {
            return Err(no_partition(record.partition, 0));
        }
        if let Err(error) = topic.stage(record.partition, entry, until_us, &mut self.next_batch) {
            return Err(KafkaError::new(
                ErrCode::MSG_SIZE_TOO_LARGE,
                format!("{error}"),
            ));
        }
        let expires = entry.created_us.saturating_add(topic.timeout_us());
        self.expiry_due = Some(self.expiry_due.map_or(expires, |at| at.min(expires)));
        self.due_is_new = true;
        self.accept(entry.bytes());
        Ok(false)
    }

    /// Messages that are on their way, or whose reports were not taken.
    #[inline]
    pub(crate) fn queued_messages(&self) -> usize {
        self.queued.0
    }

    /// Bytes of their keys and values.
    #[inline]
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued.1
    }

    /// The application is done with reports of so many messages and bytes.
    pub(crate) fn taken(&mut self, messages: usize, bytes: usize) {
        self.queued.0 = self.queued.0.saturating_sub(messages);
        self.queued.1 = self.queued.1.saturating_sub(bytes);
    }

    /// The next reports for the application. Their records count as queued until [`Self::taken`].
    pub(crate) fn poll_report(&mut self) -> Option<DeliveredBatch> {
        self.reports.pop_front()
    }

    /// The error after which nothing can be produced, the first time it is asked for.
    pub(crate) fn poll_fatal(&mut self) -> Option<KafkaError> {
        self.untold_fatal.take()
    }

    /// The error after which nothing can be produced.
    pub(crate) fn fatal(&self) -> Option<&KafkaError> {
        self.fatal.as_ref()
    }

    /// The producer id and epoch for statistics; -1 and -1 before they are known, `None` without idempotence.
    pub(crate) fn producer_id(&self) -> Option<(i64, i16)> {
        match self.identity {
            Identity::Anonymous => None,
            Identity::Known(identity) => Some((identity.id, identity.epoch)),
            Identity::Wanted { .. } | Identity::Asked => Some((-1, -1)),
        }
    }

    /// Counters for statistics.
    pub(crate) fn counters(&self) -> ProducerCounters {
        self.counters
    }

    /// Statistics of every partition.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = PartitionStatistics> {
        self.topics.iter().flat_map(|topic| {
            topic
                .partitions
                .iter()
                .enumerate()
                .map(|(number, partition)| {
                    let (queued, in_flight) = partition.messages();
                    PartitionStatistics {
                        topic: topic.name.clone(),
                        partition: number as i32,
                        leader: partition.leader,
                        queued,
                        in_flight,
                        counters: partition.counters,
                    }
                })
        })
    }
}

/// Puts a partition into the list of those that have something to send.
fn list(listed: &mut VecDeque<(u32, u32)>, partition: &mut Partition, handle: u32, number: u32) {
    if !partition.listed {
        partition.listed = true;
        listed.push_back((handle, number));
    }
}

#[cold]
fn queue_full() -> KafkaError {
    ErrCode::QUEUE_FULL.into()
}

#[cold]
fn no_handle() -> KafkaError {
    KafkaError::new(ErrCode::INVALID_ARG, "no topic has this handle")
}

#[cold]
fn too_large(bound: usize, limit: usize) -> KafkaError {
    let text =
        format!("a message of up to {bound} bytes is larger than message.max.bytes ({limit})");
    KafkaError::new(ErrCode::MSG_SIZE_TOO_LARGE, text)
}

#[cold]
fn no_partition(number: i32, count: usize) -> KafkaError {
    let text = format!("the topic has no partition {number}, only {count}");
    KafkaError::new(ErrCode::UNKNOWN_PARTITION, text)
}
