//! The producer machine: records are encoded straight into their partition's open batch, full or lingered batches are sent,
//! answers become delivery reports.
//!
//! [`Producer::produce`] is the hot path: a look at the limits, the partition, the encoding. Everything else happens once a
//! batch, in [`sender`].

mod delivery;
pub mod partitioner;
mod queue;
mod sender;

pub use delivery::{DeliveredBatch, Deliveries, Delivery, Persistence, Side};

use crate::{
    config::{ClientConfig, TopicConfig},
    consumer::Cluster,
    error::{ErrCode, KafkaError},
    metadata::Metadata,
    random::Random,
};
use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    vec::Vec,
};
use hashbrown::HashMap;
use ottla_protocol::{ErrorCode, Str};
use ottla_record::{BatchBuilder, Codecs, Header, Now};
use partitioner::{BoxedPartitioner, Choice, PartitionerKind};
use queue::{OpenBatch, PartitionQueue};
use sender::ProducerId;

/// A record to produce. Key, value and headers are copied.
#[derive(Clone, Copy, Debug)]
pub struct ProduceRecord<'a> {
    /// From [`crate::Client::intern_topic`].
    pub topic: u32,
    /// A partition, or -1: the partitioner chooses.
    pub partition: i32,
    /// Milliseconds since the epoch; 0 is now.
    pub timestamp: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; without one the record is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a [Header<'a>],
    /// Comes back with the report.
    pub side: Side,
}

/// Room for the first batch of a partition.
const FIRST_ROOM: usize = 1024;
/// Kafka's largest topic name.
const MAX_TOPIC_NAME: usize = 249;

struct Topic {
    name: Str,
    config: TopicConfig,
    /// The application's own.
    partitioner: Option<BoxedPartitioner>,
    /// `None` until the metadata is there.
    partitions: Option<Vec<PartitionQueue>>,
    /// The topic doesn't exist and can't be created.
    error: Option<KafkaError>,
    /// When the topic was first asked for.
    since_us: u64,
    /// Records that came before the metadata.
    early: VecDeque<EarlyRecord>,
    /// Where records without a key go for now; -1 before the first.
    sticky: i32,
    sticky_until: u64,
    sticky_bytes: usize,
}

/// A record of a topic that isn't known yet.
pub(crate) struct EarlyRecord {
    partition: i32,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    side: Side,
    created_us: u64,
}

/// The producer of one client.
pub(crate) struct Producer {
    config: ClientConfig,
    topics: Vec<Topic>,
    by_name: HashMap<Str, u32>,
    random: Random,
    codecs: Codecs,
    next_batch: u64,
    /// Partitions with something to do.
    active: Vec<(u32, i32)>,
    /// Batches in flight, by id.
    in_flight: BTreeMap<u64, (u32, i32)>,
    queued_messages: usize,
    queued_bytes: usize,
    /// `queue.buffering.max.messages` and `queue.buffering.max.kbytes`.
    most_messages: usize,
    most_bytes: usize,
    flushing: bool,
    identity: ProducerId,
    fatal: Option<KafkaError>,
    reports: VecDeque<DeliveredBatch>,
    /// When [`Self::serve`] has something to do.
    due: Option<u64>,
    /// Metadata version that the topics know.
    known_version: Option<u64>,
    /// Records and their bytes that were sent and acknowledged, for statistics.
    pub sent: (u64, u64),
}

impl Producer {
    pub fn new(config: ClientConfig, seed: u64) -> Self {
        Self {
            identity: ProducerId::new(config.enable_idempotence),
            most_messages: match config.queue_buffering_max_messages {
                0 => usize::MAX,
                most => most as usize,
            },
            most_bytes: (config.queue_buffering_max_kbytes as usize).saturating_mul(1024),
            config,
            topics: Vec::new(),
            by_name: HashMap::new(),
            random: Random::new(seed),
            codecs: Codecs::new(),
            next_batch: 0,
            active: Vec::new(),
            in_flight: BTreeMap::new(),
            queued_messages: 0,
            queued_bytes: 0,
            flushing: false,
            fatal: None,
            reports: VecDeque::new(),
            due: None,
            known_version: None,
            sent: (0, 0),
        }
    }

    /// The handle of a topic, known from now on. Settings count when it is first named.
    pub fn intern_topic(
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
        if name.is_empty() || name.len() > MAX_TOPIC_NAME {
            let message = format!("a topic's name has 1 to {MAX_TOPIC_NAME} characters");
            return Err(KafkaError::new(ErrCode::INVALID_ARG, message));
        }
        let config = config.unwrap_or_else(|| self.config.topic.clone());
        self.config.check_topic(&config)?;
        let name = Str::from(name);
        let handle = self.topics.len() as u32;
        self.topics.push(Topic {
            name: name.clone(),
            config,
            partitioner,
            partitions: None,
            error: None,
            since_us: now.mono_us,
            early: VecDeque::new(),
            sticky: -1,
            sticky_until: 0,
            sticky_bytes: 0,
        });
        metadata.want(now, &name);
        self.by_name.insert(name, handle);
        self.known_version = None;
        self.due = Some(now.mono_us);
        Ok(handle)
    }

    /// A topic's name.
    pub fn topic_name(&self, handle: u32) -> Option<&Str> {
        self.topics.get(handle as usize).map(|topic| &topic.name)
    }

    /// Takes a record. Returns whether [`Self::serve`] has something to do now.
    ///
    /// Errors: `_QUEUE_FULL` (take reports, or wait), `MSG_SIZE_TOO_LARGE`, `_UNKNOWN_PARTITION`, `_UNKNOWN_TOPIC`,
    /// `_FATAL`, and `_INVALID_ARG` for a handle that isn't one.
    #[inline]
    pub fn produce(&mut self, now: Now, record: &ProduceRecord<'_>) -> Result<bool, KafkaError> {
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        if bytes > self.config.message_max_bytes {
            return Err(too_large(bytes, self.config.message_max_bytes));
        }
        if self.queued_messages >= self.most_messages || self.queued_bytes + bytes > self.most_bytes
        {
            return Err(KafkaError::from(ErrCode::QUEUE_FULL));
        }
        if let Some(fatal) = &self.fatal {
            return Err(fatal.clone());
        }
        let Some(topic) = self.topics.get_mut(record.topic as usize) else {
            return Err(KafkaError::new(
                ErrCode::INVALID_ARG,
                "no such topic handle",
            ));
        };
        let Some(partitions) = &mut topic.partitions else {
            if let Some(error) = &topic.error {
                return Err(error.clone());
            }
            topic.early.push_back(EarlyRecord::new(now, record));
            self.queued_messages += 1;
            self.queued_bytes += bytes;
            let expiry = self.early_expiry(record.topic);
            self.due = Some(self.due.map_or(expiry, |due| due.min(expiry)));
            return Ok(false);
        };
        let count = partitions.len() as i32;
        let sticky_ms = self.config.sticky_partitioning_linger_ms;
        let partition = if record.partition >= 0 {
            record.partition
        } else {
            let choice = match (&mut topic.partitioner, record.key) {
                // As in librdkafka, the application isn't asked about records without a key that may stay where they are.
                (Some(own), key) if key.is_some() || sticky_ms == 0 => {
                    Err(own.partition(&topic.name, key, count, record.side.opaque))
                }
                (Some(_), _) => Ok(Choice::Sticky),
                (None, key) => Ok(topic.config.partitioner.choose(key)),
            };
            match choice {
                Err(partition) => partition,
                Ok(Choice::Hash(hash)) => (hash % count as u32) as i32,
                Ok(Choice::Sticky)
                    if sticky_ms > 0
                        || topic.config.partitioner == PartitionerKind::UniformSticky =>
                {
                    let uniform = topic.config.partitioner == PartitionerKind::UniformSticky;
                    let over = if uniform {
                        topic.sticky_bytes >= self.config.batch_size
                    } else {
                        now.mono_us >= topic.sticky_until
                    };
                    if over || topic.sticky < 0 || topic.sticky >= count {
                        topic.sticky = self.random.below(count as u32) as i32;
                        topic.sticky_until = now.after_ms(i64::from(sticky_ms));
                        topic.sticky_bytes = 0;
                    }
                    topic.sticky_bytes += bytes;
                    topic.sticky
                }
                Ok(Choice::Any | Choice::Sticky) => self.random.below(count as u32) as i32,
            }
        };
        let Some(queue) = usize::try_from(partition)
            .ok()
            .and_then(|p| partitions.get_mut(p))
        else {
            let message = format!(
                "{} has no partition {partition}: it has {count}",
                topic.name
            );
            return Err(KafkaError::new(ErrCode::UNKNOWN_PARTITION, message));
        };
        let mut serve = false;
        let most = BatchBuilder::size_of_record(record.key, record.value, record.headers);
        if let Some(open) = &queue.open
            && open.builder.len() + most > self.config.batch_size.max(1)
        {
            queue.close_open(&mut self.next_batch);
            serve = true;
        }
        let open = match &mut queue.open {
            Some(open) => open,
            none => {
                let room = (queue.room + queue.room / 8).clamp(
                    FIRST_ROOM,
                    self.config.batch_size.max(FIRST_ROOM) + FIRST_ROOM,
                );
                if !queue.active {
                    queue.active = true;
                    self.active.push((record.topic, partition));
                }
                let due = now.mono_us + self.config.linger_us;
                self.due = Some(self.due.map_or(due, |other| other.min(due)));
                serve |= self.config.linger_us == 0 || self.flushing;
                none.insert(OpenBatch {
                    builder: BatchBuilder::new(room.max(most + 128)),
                    side: Vec::new(),
                    bytes: 0,
                    created_us: now.mono_us,
                })
            }
        };
        let timestamp = if record.timestamp == 0 {
            now.wall_ms
        } else {
            record.timestamp
        };
        if let Err(error) = open
            .builder
            .append(timestamp, record.key, record.value, record.headers)
        {
            return Err(KafkaError::new(
                ErrCode::MSG_SIZE_TOO_LARGE,
                format!("{error}"),
            ));
        }
        if record.side != Side::default() || !open.side.is_empty() {
            // Records before the first with a side have none.
            open.side.resize(open.builder.count() - 1, Side::default());
            open.side.push(record.side);
        }
        open.bytes += bytes;
        self.queued_messages += 1;
        self.queued_bytes += bytes;
        if open.builder.count() >= self.config.batch_num_messages as usize
            || open.builder.len() >= self.config.batch_size
        {
            queue.close_open(&mut self.next_batch);
            serve = true;
        }
        Ok(serve)
    }

    fn early_expiry(&self, topic: u32) -> u64 {
        let topic = &self.topics[topic as usize];
        let wait = match topic.config.message_timeout_ms {
            0 => self.config.topic_metadata_propagation_max_ms,
            timeout => timeout.min(self.config.topic_metadata_propagation_max_ms),
        };
        topic.since_us + u64::from(wait) * 1000
    }

    /// Takes in what is known of the topics: partition counts, and topics that can't be had.
    pub(crate) fn learn_topics(&mut self, now: Now, cluster: &dyn Cluster) {
        if self.known_version == Some(cluster.version()) {
            return;
        }
        self.known_version = Some(cluster.version());
        for handle in 0..self.topics.len() as u32 {
            let topic = &mut self.topics[handle as usize];
            match cluster.partition_count(&topic.name) {
                Some(count) if count > 0 => {
                    topic.error = None;
                    let queues = topic.partitions.get_or_insert_default();
                    let room = queues.len().max(count as usize);
                    queues.resize_with(room, PartitionQueue::default);
                    self.release_early(now, handle);
                }
                _ => match cluster.topic_error(&topic.name) {
                    error if error == ErrorCode::NONE || error.is_retriable() => {}
                    error => self.refuse_topic(now, handle, KafkaError::from(ErrCode::from(error))),
                },
            }
        }
    }

    /// Records of a topic that has become known go their way.
    fn release_early(&mut self, now: Now, handle: u32) {
        let early = core::mem::take(&mut self.topics[handle as usize].early);
        for record in early {
            let bytes = record.bytes();
            self.queued_messages -= 1;
            self.queued_bytes -= bytes;
            let headers: Vec<Header<'_>> = record
                .headers
                .iter()
                .map(|(key, value)| Header {
                    key,
                    value: value.as_deref(),
                })
                .collect();
            let again = ProduceRecord {
                topic: handle,
                partition: record.partition,
                timestamp: record.timestamp,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
                side: record.side,
            };
            if let Err(error) = self.produce(now, &again) {
                self.queued_messages += 1;
                self.queued_bytes += bytes;
                self.report_early(now, handle, &record, error);
            }
        }
    }

    /// Records of a topic that can't be had fail.
    pub(crate) fn refuse_topic(&mut self, now: Now, handle: u32, error: KafkaError) {
        let topic = &mut self.topics[handle as usize];
        let early = core::mem::take(&mut topic.early);
        if topic.partitions.is_none() {
            topic.error = Some(error.clone());
        }
        for record in early {
            self.report_early(now, handle, &record, error.clone());
        }
    }

    /// Fails a record that never got into a batch.
    pub(crate) fn report_early(
        &mut self,
        now: Now,
        handle: u32,
        record: &EarlyRecord,
        error: KafkaError,
    ) {
        let mut builder = BatchBuilder::new(record.bytes() + 128);
        let headers: Vec<Header<'_>> = record
            .headers
            .iter()
            .map(|(key, value)| Header {
                key,
                value: value.as_deref(),
            })
            .collect();
        let done = builder
            .append(
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                &headers,
            )
            .and_then(|_| builder.finish(&ottla_record::FinishOptions::default()));
        let Ok(done) = done else {
            return self.taken(1, record.bytes());
        };
        let report = DeliveredBatch {
            topic: self.topics[handle as usize].name.clone(),
            topic_handle: handle,
            partition: record.partition,
            base_offset: crate::consumer::offset::INVALID,
            log_append_time: -1,
            error: Some(error),
            status: Persistence::NotPersisted,
            broker: -1,
            latency_us: now.mono_us.saturating_sub(record.created_us),
            header: done.header,
            plain: done.plain,
            side: alloc::vec![record.side],
            count: 1,
            bytes: record.bytes(),
        };
        self.report(report);
    }

    /// Hands a report to the application, or counts it as taken if it wants none.
    fn report(&mut self, report: DeliveredBatch) {
        let wanted = self.config.delivery_reports
            && (report.error.is_some() || !self.config.delivery_report_only_error);
        if wanted {
            self.reports.push_back(report);
        } else {
            self.taken(report.count, report.bytes);
        }
    }

    /// The next reports for the application. Their records count as queued until [`Self::taken`].
    pub fn poll_report(&mut self) -> Option<DeliveredBatch> {
        self.reports.pop_front()
    }

    /// Whether reports wait.
    pub fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// The application is done with reports of so many records and bytes.
    pub fn taken(&mut self, messages: usize, bytes: usize) {
        self.queued_messages = self.queued_messages.saturating_sub(messages);
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
    }

    /// Records that are on their way or whose reports were not taken.
    pub fn queue_len(&self) -> usize {
        self.queued_messages
    }

    /// Bytes of their keys and values.
    pub fn queue_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// While flushing nothing lingers.
    pub fn set_flushing(&mut self, now: Now, flushing: bool) {
        self.flushing = flushing;
        if flushing {
            self.due = Some(now.mono_us);
        }
    }

    /// When [`Self::serve`] has something to do, in monotonic microseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.due
    }

    /// The error after which nothing can be produced any more.
    pub fn fatal(&self) -> Option<&KafkaError> {
        self.fatal.as_ref()
    }

    /// Largest number of unanswered batches of a partition.
    fn most_in_flight(&self) -> usize {
        self.config.max_in_flight.max(1) as usize
    }
}

impl EarlyRecord {
    fn new(now: Now, record: &ProduceRecord<'_>) -> Self {
        Self {
            partition: record.partition,
            timestamp: if record.timestamp == 0 {
                now.wall_ms
            } else {
                record.timestamp
            },
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec)))
                .collect(),
            side: record.side,
            created_us: now.mono_us,
        }
    }

    fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len)
    }
}

#[cold]
fn too_large(bytes: usize, limit: usize) -> KafkaError {
    let message: String =
        format!("a record of {bytes} bytes is larger than message.max.bytes ({limit})");
    KafkaError::new(ErrCode::MSG_SIZE_TOO_LARGE, message)
}
