//! The handle: one producer or consumer, with everything librdkafka's `rd_kafka_t` can do. The bindings are built on it; in Rust
//! [`Producer`](crate::Producer), [`Consumer`](crate::Consumer) and [`Admin`](crate::Admin) are nicer.

use crate::{
    Config, ErrCode, KafkaError, LogLine, Queue, TopicConfig, TopicPartition,
    broker::open_failed,
    queue::{deadline, forwarded},
    shared::{CONSUMER, Completion, MAIN, QueueState, Shared, Sink, lock},
};
use ottla_client::{
    Client,
    consumer::{OperationResult, PartitionOffset},
    producer::partitioner::BoxedPartitioner,
};
use ottla_driver::{EmbeddedBroker, now};
use ottla_protocol::{
    ErrorCode, Request, Response, Str,
    messages::{
        DescribeGroupsRequest, ListOffsetsRequest, MetadataRequest,
        list_offsets::{ListOffsetsPartition, ListOffsetsTopic},
        metadata::MetadataRequestTopic,
    },
};
use ottla_record::{Header, Now};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

pub use ottla_client::{Role, Route};

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

    fn for_client(&self) -> ottla_client::producer::ProduceRecord<'a> {
        ottla_client::producer::ProduceRecord {
            topic: self.topic.0,
            partition: self.partition,
            timestamp: self.timestamp,
            key: self.key,
            value: self.value,
            headers: self.headers,
            side: ottla_client::producer::Side {
                opaque: self.opaque,
                payload_addr: self.payload_addr,
            },
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
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    driver: ottla_driver::Handle,
    shared: Arc<Shared>,
    config: Config,
    client_id: Str,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.name()).finish()
    }
}

/// What the methods below are made of.
impl Handle {
    pub(crate) fn driver(&self) -> &ottla_driver::Handle {
        &self.inner.driver
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// Whether both are the same handle.
    pub fn is_same(&self, other: &Handle) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Drives the client until `take` gives something.
    pub(crate) fn until<T>(
        &self,
        timeout: Duration,
        mut take: impl FnMut(&mut Client) -> Option<T>,
    ) -> Result<T, KafkaError> {
        let until = deadline(timeout);
        loop {
            let driver = &self.inner.driver;
            let seen = driver.signal_count();
            driver.step()?;
            if let Some(found) = driver.with(|client, _| take(client))? {
                return Ok(found);
            }
            let time = now().mono_us;
            if time >= until {
                return Err(KafkaError::from(ErrCode::TIMED_OUT));
            }
            let interrupt = lock(&self.inner.shared.interrupt).clone();
            // Without an interrupt check a second is as good as any: what is waited for wakes this thread.
            let step = if interrupt.is_some() {
                200_000
            } else {
                1_000_000
            };
            driver.wait(seen, until.min(time + step));
            if interrupt.is_some_and(|check| check()) {
                return Err(KafkaError::from(ErrCode::INTR));
            }
        }
    }

    /// The result of something with an id that was [awaited](Self::awaited).
    fn completion(&self, id: u64, timeout: Duration) -> Result<Completion, KafkaError> {
        let completions = &self.inner.shared.completions;
        let result = self.until(timeout, |_| lock(completions).get_mut(&id)?.take());
        lock(completions).remove(&id);
        result
    }

    /// Makes a place for the result of `id`. Called before the client is driven on, so that the result can't come earlier.
    fn awaited(&self, id: u64) {
        lock(&self.inner.shared.completions).insert(id, None);
    }

    /// Sends a request and waits for the answer.
    pub fn request(
        &self,
        route: Route,
        request: Request,
        timeout: Duration,
    ) -> Result<Response, KafkaError> {
        let id = self.inner.driver.with(|client, now| {
            let id = client.request(now, route, request, milliseconds(timeout));
            self.awaited(id.0);
            id
        })?;
        match self.completion(id.0, timeout)? {
            Completion::Response(result) => result,
            Completion::Operation(_) => Err(KafkaError::from(ErrCode::FAIL)),
        }
    }

    /// Begins an operation of the consumer that ends with a result.
    fn operation(
        &self,
        begin: impl FnOnce(&mut Client, Now, u64) -> Result<(), KafkaError>,
    ) -> Result<u64, KafkaError> {
        self.inner.driver.with(|client, now| {
            let id = client.next_id();
            begin(client, now, id)?;
            self.awaited(id);
            Ok(id)
        })?
    }

    fn operation_result(&self, id: u64, timeout: Duration) -> Result<OperationResult, KafkaError> {
        match self.completion(id, timeout)? {
            Completion::Operation(result) => result,
            Completion::Response(_) => Err(KafkaError::from(ErrCode::FAIL)),
        }
    }

    /// Runs an operation that gives each partition its own result.
    fn each(
        &self,
        partitions: &mut [TopicPartition],
        run: impl FnOnce(&mut Client, Now, &mut [PartitionOffset]) -> Result<(), KafkaError>,
    ) -> Result<(), KafkaError> {
        let mut offsets = offsets_of(partitions);
        let result = self
            .inner
            .driver
            .with(|client, now| run(client, now, &mut offsets))?;
        partitions
            .iter_mut()
            .zip(offsets)
            .for_each(|(to, from)| *to = from.into());
        result
    }

    /// Tells the client which partitions' records are polled from queues of their own.
    fn forward_partitions(&self) {
        let partitions = forwarded(&lock(&self.inner.shared.queues));
        for (key, apart) in partitions.into_iter().filter(|(_, apart)| *apart) {
            let _ = self
                .inner
                .driver
                .with(|client, now| client.set_forwarded(now, &key, apart));
        }
    }

    fn partitioner(&self, config: Option<&TopicConfig>) -> Option<BoxedPartitioner> {
        config
            .unwrap_or(self.inner.config.topic())
            .boxed_partitioner()
    }

    fn flush_until(
        &self,
        timeout: Duration,
        mut serve: Option<&mut dyn FnMut(crate::Event)>,
    ) -> Result<(), KafkaError> {
        let until = deadline(timeout);
        let driver = &self.inner.driver;
        driver.with(|client, now| client.set_flushing(now, true))?;
        let main = self.main_queue();
        let result = loop {
            let left = Duration::from_micros(until.saturating_sub(now().mono_us));
            if let Some(serve) = &mut serve {
                while let Some(event) = main.poll(Duration::ZERO) {
                    serve(event);
                }
            }
            let shared = &self.inner.shared;
            let pending = driver.with(|client, _| {
                shared.count_taken(client);
                client.queue_len()
            });
            match pending {
                Ok(0) => break Ok(()),
                Ok(_) if left.is_zero() => break Err(KafkaError::from(ErrCode::TIMED_OUT)),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
            match &mut serve {
                Some(serve) => {
                    if let Some(event) = main.poll(left.min(Duration::from_millis(200))) {
                        serve(event);
                    }
                }
                None => driver.wait(driver.signal_count(), until.min(now().mono_us + 10_000)),
            }
            if lock(&self.inner.shared.interrupt)
                .clone()
                .is_some_and(|check| check())
            {
                break Err(KafkaError::from(ErrCode::INTR));
            }
        };
        driver.with(|client, now| client.set_flushing(now, false))?;
        result
    }

    fn close_until(
        &self,
        timeout: Duration,
        mut serve: Option<&mut dyn FnMut(crate::Event)>,
    ) -> Result<(), KafkaError> {
        if self.is_consumer_closed() {
            return Ok(());
        }
        let until = deadline(timeout);
        self.begin_close_consumer()?;
        let queue = self.consumer_queue();
        while !self.is_consumer_closed() {
            let left = Duration::from_micros(until.saturating_sub(now().mono_us));
            if left.is_zero() {
                return Err(KafkaError::from(ErrCode::TIMED_OUT));
            }
            match (queue.poll(left.min(Duration::from_millis(10))), &mut serve) {
                (Some(event), Some(serve)) => serve(event),
                (Some(crate::Event::Rebalance { kind, partitions }), None) => match kind {
                    crate::RebalanceKind::Assign => self.assign(&partitions)?,
                    _ => self.unassign()?,
                },
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn describe_group(
        &self,
        group: Str,
        include_authorized_operations: bool,
        timeout: Duration,
    ) -> Result<crate::GroupInfo, KafkaError> {
        let request = DescribeGroupsRequest {
            groups: vec![group.clone()],
            include_authorized_operations,
        };
        let route = Route::GroupCoordinator(group);
        let response = self.request(route, Request::DescribeGroups(request), timeout)?;
        let Response::DescribeGroups(mut response) = response else {
            return Err(unexpected(&response));
        };
        let broker = self
            .inner
            .driver
            .with(|client, _| client.brokers().into_iter().next())?;
        let group = response
            .groups
            .pop()
            .ok_or_else(|| KafkaError::from(ErrCode::BAD_MSG))?;
        Ok(crate::GroupInfo::new(group, broker))
    }
}

fn offsets_of(partitions: &[TopicPartition]) -> Vec<PartitionOffset> {
    partitions.iter().map(PartitionOffset::from).collect()
}

/// What is left until a [`deadline`].
pub(crate) fn time_left(until: u64) -> Duration {
    Duration::from_micros(until.saturating_sub(now().mono_us))
}

pub(crate) fn milliseconds(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis())
        .unwrap_or(i32::MAX)
        .max(1)
}

pub(crate) fn unexpected(response: &Response) -> KafkaError {
    KafkaError::new(
        ErrCode::BAD_MSG,
        format!("an answer of the wrong kind: {}", response.api_key().name()),
    )
}

/// Every handle.
impl Handle {
    /// Opens the broker (or joins the handles that share it) and starts the client.
    ///
    /// Errors: `_INVALID_ARG` for settings that don't go together, for `host:port` addresses (sockets come with a later version)
    /// and for properties that are refused; `_FS` when the directory can't be used, `_CONFLICT` when another process has it: the
    /// message names that process.
    pub fn new(role: Role, config: Config) -> Result<Self, KafkaError> {
        let settings = config.settings(role)?;
        static PRODUCERS: AtomicUsize = AtomicUsize::new(1);
        static CONSUMERS: AtomicUsize = AtomicUsize::new(1);
        let (kind, number) = match role {
            Role::Producer => ("producer", PRODUCERS.fetch_add(1, Relaxed)),
            Role::Consumer => ("consumer", CONSUMERS.fetch_add(1, Relaxed)),
        };
        let client_id = settings.client.client_id.clone();
        let shared = Arc::new(Shared::new(
            format!("{client_id}#{kind}-{number}"),
            role,
            &config,
            &settings,
        ));
        settings
            .warnings
            .into_iter()
            .for_each(|warning| shared.log(warning));
        let broker = EmbeddedBroker::open(&settings.place, settings.broker).map_err(open_failed)?;
        let driver =
            ottla_driver::Handle::new(settings.client, broker, Arc::new(Sink(shared.clone())))?;
        Ok(Self {
            inner: Arc::new(Inner {
                driver,
                shared,
                config,
                client_id,
            }),
        })
    }
    /// librdkafka's form: `CLIENT_ID#producer-1`, numbered in each process.
    pub fn name(&self) -> &str {
        &self.inner.shared.name
    }
    /// `client.id`.
    pub fn client_id(&self) -> &str {
        &self.inner.client_id
    }
    /// What it is.
    pub fn role(&self) -> Role {
        self.inner.shared.role
    }
    /// The configuration that it was made with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }
    /// The fatal error, once there is one: every later operation fails with `_FATAL`.
    pub fn fatal_error(&self) -> Option<KafkaError> {
        let told = lock(&self.inner.shared.fatal).clone();
        told.or_else(|| self.inner.driver.failure())
    }
    /// Whether this process was forked from the one that made the handle: it is of no use here.
    pub fn is_forked(&self) -> bool {
        self.inner.driver.is_forked()
    }
    /// Threads that work for the handle: its own and its broker's.
    pub fn thread_count(&self) -> usize {
        2
    }
    /// See [`InterruptCheck`].
    pub fn set_interrupt_check(&self, check: Option<InterruptCheck>) {
        *lock(&self.inner.shared.interrupt) = check;
    }
    /// `log_level` from now on.
    pub fn set_log_level(&self, level: u8) {
        self.inner.shared.log_level.store(level, Relaxed);
    }
    /// Writes a line to the handle's log, as the library's own.
    pub fn log(&self, level: u8, facility: &'static str, message: &str) {
        self.inner.shared.log(LogLine {
            level,
            facility,
            message: message.to_owned(),
            context: "",
        });
    }
    /// The cluster's id; waits until a broker has told it.
    pub fn cluster_id(&self, timeout: Duration) -> Result<Str, KafkaError> {
        self.until(timeout, |client| client.cluster_id())
    }
    /// The controller's node id; waits until a broker has told it.
    pub fn controller_id(&self, timeout: Duration) -> Result<i32, KafkaError> {
        self.until(timeout, |client| {
            Some(client.controller()).filter(|node| *node >= 0)
        })
    }
}

/// Queues.
impl Handle {
    /// Delivery reports, errors, statistics, logs: what `rd_kafka_poll` serves.
    pub fn main_queue(&self) -> Queue {
        Queue::new(self.clone(), MAIN)
    }
    /// Records, rebalances, commits: what `rd_kafka_consumer_poll` serves.
    pub fn consumer_queue(&self) -> Queue {
        Queue::new(self.clone(), CONSUMER)
    }
    /// A partition's own queue. It forwards to the consumer queue until it is told otherwise.
    pub fn partition_queue(&self, topic: &str, partition: i32) -> Queue {
        let mut queues = lock(&self.inner.shared.queues);
        let of = |state: &QueueState| {
            state
                .partition
                .as_ref()
                .is_some_and(|(t, p)| *t == topic && *p == partition)
        };
        let index = queues.iter().position(of).unwrap_or_else(|| {
            let partition = Some((Str::from(topic), partition));
            queues.push(QueueState {
                forward: Some(CONSUMER),
                partition,
                ..QueueState::default()
            });
            queues.len() - 1
        });
        Queue::new(self.clone(), index)
    }
    /// A new, empty queue, to forward others to.
    pub fn new_queue(&self) -> Queue {
        let mut queues = lock(&self.inner.shared.queues);
        queues.push(QueueState::default());
        Queue::new(self.clone(), queues.len() - 1)
    }
    /// The main queue forwards to the consumer queue from now on (`rd_kafka_poll_set_consumer`).
    pub fn poll_set_consumer(&self) -> Result<(), KafkaError> {
        if self.role() != Role::Consumer {
            return Err(KafkaError::new(ErrCode::UNKNOWN_GROUP, "not a consumer"));
        }
        self.main_queue().forward(Some(&self.consumer_queue()))
    }
    /// Log lines go to this queue (with `log.queue=true`); `None`: the main queue.
    pub fn set_log_queue(&self, queue: Option<&Queue>) -> Result<(), KafkaError> {
        *lock(&self.inner.shared.log_queue) = match queue {
            Some(queue) if !queue.handle().is_same(self) => {
                return Err(KafkaError::new(
                    ErrCode::INVALID_ARG,
                    "the queue belongs to another handle",
                ));
            }
            queue => queue.map(Queue::index),
        };
        Ok(())
    }
}

/// Producing. On a consumer these fail with `_INVALID_ARG`, or do nothing.
impl Handle {
    /// A topic to produce to, with the configuration's topic properties. Asks for its metadata, so that the first record needn't
    /// wait for it.
    pub fn topic(&self, name: &str) -> Result<TopicHandle, KafkaError> {
        let driver = &self.inner.driver;
        Ok(TopicHandle(driver.with(|client, now| {
            client.intern_topic(now, name, None, self.partitioner(None))
        })??))
    }
    /// The same with topic properties of its own; they count if the topic wasn't named before.
    pub fn topic_with(&self, name: &str, config: &TopicConfig) -> Result<TopicHandle, KafkaError> {
        let resolved = config.typed();
        let partitioner = self.partitioner(Some(config));
        let driver = &self.inner.driver;
        Ok(TopicHandle(driver.with(|client, now| {
            client.intern_topic(now, name, Some(resolved), partitioner)
        })??))
    }
    /// The topic's name.
    pub fn topic_name(&self, topic: TopicHandle) -> Option<Str> {
        self.inner
            .driver
            .with(|client, _| client.topic_name(topic.0))
            .ok()
            .flatten()
    }
    /// Partitions of a topic, if that is known yet.
    pub fn partition_count(&self, topic: &str) -> Option<i32> {
        self.inner
            .driver
            .with(|client, _| client.partition_count(&topic.into()))
            .ok()
            .flatten()
    }
    /// Whether a partition has a leader, as far as is known (`rd_kafka_topic_partition_available`).
    pub fn is_partition_available(&self, topic: &str, partition: i32) -> bool {
        self.inner
            .driver
            .with(|client, _| client.is_available(&topic.into(), partition))
            .unwrap_or(false)
    }
    /// Takes a record. No allocation; the bytes are encoded straight into the partition's batch.
    ///
    /// Errors at once: `_QUEUE_FULL` (poll, or wait), `MSG_SIZE_TOO_LARGE`, `_UNKNOWN_PARTITION`, `_UNKNOWN_TOPIC`, `_FATAL`,
    /// `_STATE`. Everything else comes as a delivery report.
    pub fn produce(&self, record: &ProduceRecord<'_>) -> Result<(), KafkaError> {
        let shared = &*self.inner.shared;
        self.inner.driver.with_quickly(|client, now| {
            shared.count_taken(client);
            Ok((client.produce(now, &record.for_client())?, ()))
        })
    }
    /// The same; while the queue is full it waits up to `timeout` for room (`RD_KAFKA_MSG_F_BLOCK`). Another thread has to poll.
    pub fn produce_wait(
        &self,
        record: &ProduceRecord<'_>,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let until = deadline(timeout);
        loop {
            let seen = self.inner.driver.signal_count();
            match self.produce(record) {
                Err(error) if error.code == ErrCode::QUEUE_FULL && now().mono_us < until => {
                    // Whoever takes reports says nothing: look again soon.
                    self.inner
                        .driver
                        .wait(seen, until.min(now().mono_us + 1000));
                }
                result => return result,
            }
        }
    }
    /// Takes many records with one taking of the lock. `result` is called for each record that was refused, with its index.
    /// Returns how many were taken.
    pub fn produce_batch<'a>(
        &self,
        records: impl IntoIterator<Item = ProduceRecord<'a>>,
        mut refused: impl FnMut(usize, KafkaError),
    ) -> usize {
        let shared = &*self.inner.shared;
        let mut records = records.into_iter().enumerate();
        let mut taken = 0;
        loop {
            // The lock is freed now and then, so that others get on.
            let part: Result<bool, KafkaError> = self.inner.driver.with_quickly(|client, now| {
                shared.count_taken(client);
                let mut more = false;
                for _ in 0..1024 {
                    let Some((index, record)) = records.next() else {
                        return Ok((more, false));
                    };
                    match client.produce(now, &record.for_client()) {
                        Ok(serve) => {
                            more |= serve;
                            taken += 1;
                        }
                        Err(error) => refused(index, error),
                    }
                }
                Ok((more, true))
            });
            match part {
                Ok(true) => {}
                Ok(false) => return taken,
                Err(error) => {
                    records
                        .by_ref()
                        .for_each(|(index, _)| refused(index, error.clone()));
                    return taken;
                }
            }
        }
    }
    /// Sends everything now and waits until all is acknowledged or failed and the reports are taken by someone who polls the main
    /// queue. `_TIMED_OUT` if that takes too long.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.flush_until(timeout, None)
    }
    /// The same for applications that poll in this very thread: events of the main queue are given to `serve`, without a lock
    /// held.
    pub fn flush_serving(
        &self,
        timeout: Duration,
        serve: &mut dyn FnMut(crate::Event),
    ) -> Result<(), KafkaError> {
        self.flush_until(timeout, Some(serve))
    }
    /// Fails records with `_PURGE_QUEUE` that wait (`queue`) and with `_PURGE_INFLIGHT` that were sent (`in_flight`). The reports
    /// come as ever.
    pub fn purge(&self, queue: bool, in_flight: bool) -> Result<(), KafkaError> {
        self.inner
            .driver
            .with(|client, now| client.purge(now, queue, in_flight))
    }
    /// Records that are on their way or whose reports were not taken, and other events that wait.
    pub fn outq_len(&self) -> usize {
        let shared = &self.inner.shared;
        let queued = self.inner.driver.with(|client, _| {
            shared.count_taken(client);
            client.queue_len()
        });
        let others = lock(&shared.queues)[MAIN]
            .events
            .iter()
            .filter(|event| !matches!(event, crate::Event::Delivery(_)))
            .count();
        queued.unwrap_or(0) + others
    }
}

/// Consuming. On a producer these fail with `_UNKNOWN_GROUP` or `_INVALID_ARG`, or do nothing.
impl Handle {
    /// Subscribes to topics by name, or by regular expression if it begins with `^`, in place of what was subscribed to. Needs a
    /// `group.id` (`_UNKNOWN_GROUP`); `_INVALID_ARG` for an empty list, a bad name or expression.
    pub fn subscribe<S: AsRef<str>>(&self, topics: &[S]) -> Result<(), KafkaError> {
        let topics: Vec<Str> = topics.iter().map(|topic| topic.as_ref().into()).collect();
        self.inner
            .driver
            .with(|client, now| client.subscribe(now, &topics))?
    }
    /// Leaves the group.
    pub fn unsubscribe(&self) -> Result<(), KafkaError> {
        self.inner
            .driver
            .with(|client, now| client.unsubscribe(now))?
    }
    /// What is subscribed to.
    pub fn subscription(&self) -> Vec<Str> {
        self.inner
            .driver
            .with(|client, _| client.subscription())
            .unwrap_or_default()
    }
    /// Consumes these partitions from their `offset` on, in place of others. `OFFSET_STORED` and `OFFSET_INVALID` begin at the
    /// committed offset.
    pub fn assign(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let result = self
            .inner
            .driver
            .with(|client, now| client.assign(now, &offsets_of(partitions)))?;
        self.forward_partitions();
        result
    }
    /// Consumes nothing any more.
    pub fn unassign(&self) -> Result<(), KafkaError> {
        self.inner.driver.with(|client, now| client.unassign(now))?
    }
    /// Consumes these partitions too.
    pub fn incremental_assign(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let result = self
            .inner
            .driver
            .with(|client, now| client.incremental_assign(now, &offsets_of(partitions)))?;
        self.forward_partitions();
        result
    }
    /// Consumes these partitions no more.
    pub fn incremental_unassign(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let keys: Vec<_> = partitions
            .iter()
            .map(|p| (p.topic.clone(), p.partition))
            .collect();
        self.inner
            .driver
            .with(|client, now| client.incremental_unassign(now, &keys))?
    }
    /// What is consumed.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        let assigned = self
            .inner
            .driver
            .with(|client, _| client.assignment())
            .unwrap_or_default();
        assigned
            .into_iter()
            .map(|(topic, p)| TopicPartition::new(topic, p, crate::offset::INVALID))
            .collect()
    }
    /// Whether the assignment was lost to others.
    pub fn is_assignment_lost(&self) -> bool {
        self.inner
            .driver
            .with(|client, _| client.is_assignment_lost())
            .unwrap_or(false)
    }
    /// `NONE`, `EAGER` or `COOPERATIVE`.
    pub fn rebalance_protocol(&self) -> &'static str {
        self.inner
            .driver
            .with(|client, _| client.rebalance_protocol())
            .unwrap_or("NONE")
    }
    /// The member id in the group; empty outside of one.
    pub fn member_id(&self) -> Str {
        self.inner
            .driver
            .with(|client, _| client.member_id())
            .unwrap_or_default()
    }
    /// The member id of the group's leader, and the assignor that the members agreed on (`partition.assignment.strategy`'s name for
    /// it); `None` outside of a group.
    pub fn group_leadership(&self) -> Option<(Str, &'static str)> {
        let found = self
            .inner
            .driver
            .with(|client, _| client.group_leadership());
        found.ok().flatten()
    }
    /// Counts as a poll for `max.poll.interval.ms`, and takes nothing: for an application that is alive but not ready for more.
    pub fn count_as_poll(&self) {
        // A handle that no longer works has no member to keep.
        let _ = self.inner.driver.with(|client, now| {
            client.application_waits(now, true);
            client.application_waits(now, false);
        });
    }
    /// Group, generation, member.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        let found = self.inner.driver.with(|client, _| {
            Some(GroupMetadata {
                group_id: client.config().group_id.clone()?,
                generation: client.generation(),
                member_id: client.member_id(),
                group_instance_id: client.config().group_instance_id.clone(),
            })
        });
        found.ok().flatten()
    }
    /// Goes on at other offsets; each partition gets its own `error`.
    pub fn seek(&self, partitions: &mut [TopicPartition]) -> Result<(), KafkaError> {
        self.each(partitions, |client, now, partitions| {
            client.seek(now, partitions)
        })
    }
    /// Stops partitions for a while; each partition gets its own `error`.
    pub fn pause(&self, partitions: &mut [TopicPartition]) -> Result<(), KafkaError> {
        self.each(partitions, |client, now, partitions| {
            client.pause(now, partitions)
        })
    }
    /// Goes on with paused partitions; each partition gets its own `error`.
    pub fn resume(&self, partitions: &mut [TopicPartition]) -> Result<(), KafkaError> {
        self.each(partitions, |client, now, partitions| {
            client.resume(now, partitions)
        })
    }
    /// Sets each `offset` behind the last record that the application took, or to `OFFSET_INVALID`.
    pub fn position(&self, partitions: &mut [TopicPartition]) -> Result<(), KafkaError> {
        self.each(partitions, |client, _, partitions| {
            client.position(partitions);
            Ok(())
        })
    }
    /// Notes offsets to be committed by the next automatic or argumentless commit.
    pub fn store_offsets(&self, offsets: &mut [TopicPartition]) -> Result<(), KafkaError> {
        self.each(offsets, |client, now, offsets| {
            client.store_offsets(now, offsets)
        })
    }
    /// Commits these offsets, or all stored ones, and waits. Returns the partitions with their errors.
    pub fn commit(
        &self,
        offsets: Option<&[TopicPartition]>,
        timeout: Duration,
    ) -> Result<Vec<TopicPartition>, KafkaError> {
        let offsets = offsets.map(offsets_of);
        let id = self.operation(|client, now, id| client.commit(now, Some(id), offsets))?;
        match self.operation_result(id, timeout)? {
            OperationResult::Offsets(offsets) => {
                Ok(offsets.into_iter().map(TopicPartition::from).collect())
            }
            OperationResult::Watermarks { .. } => Ok(Vec::new()),
        }
    }
    /// Commits without waiting; [`Event::OffsetCommit`](crate::Event::OffsetCommit) follows.
    pub fn commit_async(&self, offsets: Option<&[TopicPartition]>) -> Result<(), KafkaError> {
        let offsets = offsets.map(offsets_of);
        self.inner
            .driver
            .with(|client, now| client.commit(now, None, offsets))?
    }
    /// Sets each `offset` and `metadata` to what the group has committed, or `OFFSET_INVALID`.
    pub fn committed(
        &self,
        partitions: &mut [TopicPartition],
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let asked = offsets_of(partitions);
        let id = self.operation(|client, now, id| {
            client.query_committed(now, id, asked, milliseconds(timeout))
        })?;
        if let OperationResult::Offsets(found) = self.operation_result(id, timeout)? {
            partitions
                .iter_mut()
                .zip(found)
                .for_each(|(to, from)| *to = from.into());
        }
        Ok(())
    }
    /// Gives up the partitions, commits, leaves the group. Rebalance events on the way are answered by themselves.
    pub fn close_consumer(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.close_until(timeout, None)
    }
    /// The same for applications with [rebalance events](crate::Config::set_rebalance_events): events of the consumer queue are
    /// given to `serve` (which has to unassign), without a lock held.
    pub fn close_consumer_serving(
        &self,
        timeout: Duration,
        serve: &mut dyn FnMut(crate::Event),
    ) -> Result<(), KafkaError> {
        self.close_until(timeout, Some(serve))
    }
    /// Begins to close; whoever polls the consumer queue serves it until [`Handle::is_consumer_closed`].
    pub fn begin_close_consumer(&self) -> Result<(), KafkaError> {
        self.inner
            .driver
            .with(|client, now| client.close_consumer(now))?
    }
    /// Whether closing is done.
    pub fn is_consumer_closed(&self) -> bool {
        self.inner.shared.consumer_closed.load(Relaxed)
    }
}

/// Questions about the cluster.
impl Handle {
    /// Brokers, and all topics (`None`) or those named.
    pub fn metadata(
        &self,
        topics: Option<&[&str]>,
        timeout: Duration,
    ) -> Result<crate::Metadata, KafkaError> {
        let request = MetadataRequest {
            topics: topics.map(|topics| {
                let topic = |name: &&str| MetadataRequestTopic {
                    name: Some((*name).into()),
                    ..Default::default()
                };
                topics.iter().map(topic).collect()
            }),
            allow_auto_topic_creation: self.role() == Role::Producer,
            ..Default::default()
        };
        match self.request(Route::Any, Request::Metadata(request), timeout)? {
            Response::Metadata(response) => Ok(crate::Metadata::from(response)),
            other => Err(unexpected(&other)),
        }
    }
    /// A partition's first offset and its end, asked of the leader.
    ///
    /// Errors: `_UNKNOWN_PARTITION` at once, as librdkafka, for a topic or partition that isn't there; it isn't created.
    pub fn query_watermark_offsets(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<(i64, i64), KafkaError> {
        let until = deadline(timeout);
        let ask = |timestamp| self.list_offset(topic, partition, timestamp, time_left(until));
        let found = ask(-2).and_then(|low| Ok((low, ask(-1)?)));
        found.map_err(|error| match error.code {
            ErrCode::UNKNOWN_TOPIC_OR_PART => {
                KafkaError::new(ErrCode::UNKNOWN_PARTITION, error.message)
            }
            _ => error,
        })
    }

    /// Asks for a partition's leader if none is known, without creating the topic. A leader that is being chosen is left to
    /// be waited for.
    ///
    /// Errors: `UNKNOWN_TOPIC_OR_PART`, `_UNKNOWN_PARTITION`, or what else the broker says of the topic.
    pub(crate) fn find_leader(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        if self.is_partition_available(topic, partition) {
            return Ok(());
        }
        let asked = MetadataRequestTopic {
            name: Some(topic.into()),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![asked]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = self.request(Route::Any, Request::Metadata(request), timeout)?;
        let Response::Metadata(response) = response else {
            return Err(unexpected(&response));
        };
        let found = response.topics.into_iter().next();
        let error = found
            .as_ref()
            .map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |t| t.error_code);
        let partitions = found.map(|t| t.partitions).unwrap_or_default();
        match error {
            ErrorCode::NONE if partitions.iter().all(|p| p.partition_index != partition) => {
                let text = format!("topic {topic} has no partition {partition}");
                Err(KafkaError::new(ErrCode::UNKNOWN_PARTITION, text))
            }
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                let text = format!("there is no topic {topic}");
                Err(KafkaError::new(ErrCode::UNKNOWN_TOPIC_OR_PART, text))
            }
            ErrorCode::NONE | ErrorCode::LEADER_NOT_AVAILABLE => Ok(()),
            error => Err(KafkaError::from(error)),
        }
    }

    /// The offset that a partition's leader gives for a timestamp, or for one of the logical ones.
    fn list_offset(
        &self,
        topic: &str,
        partition: i32,
        timestamp: i64,
        timeout: Duration,
    ) -> Result<i64, KafkaError> {
        let until = deadline(timeout);
        self.find_leader(topic, partition, timeout)?;
        let asked = ListOffsetsPartition {
            partition_index: partition,
            timestamp,
            ..Default::default()
        };
        let topics = vec![ListOffsetsTopic {
            name: topic.into(),
            partitions: vec![asked],
        }];
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics,
            ..Default::default()
        };
        let route = Route::Leader(topic.into(), partition);
        let timeout = time_left(until);
        let response = self.request(route, Request::ListOffsets(request), timeout)?;
        let Response::ListOffsets(mut response) = response else {
            return Err(unexpected(&response));
        };
        let answer = response
            .topics
            .pop()
            .and_then(|mut topic| topic.partitions.pop());
        match answer {
            Some(answer) if answer.error_code.0 == 0 => Ok(answer.offset),
            Some(answer) => Err(KafkaError::from(answer.error_code)),
            None => Err(KafkaError::new(
                ErrCode::BAD_MSG,
                "the answer names no partition",
            )),
        }
    }
    /// The same as the last fetch told, without asking; `None` before that.
    pub fn watermark_offsets(&self, topic: &str, partition: i32) -> Option<(i64, i64)> {
        self.inner
            .driver
            .with(|client, _| client.watermarks(&(topic.into(), partition)))
            .ok()
            .flatten()
    }
    /// Replaces the timestamp (ms) in each `offset` by the first offset whose record is not older, `OFFSET_END` if there is none.
    ///
    /// Each partition has its own error; if all of them are unknown the call fails, too, with `_UNKNOWN_PARTITION`.
    pub fn offsets_for_times(
        &self,
        times: &mut [TopicPartition],
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        self.look_up_times(times, timeout)?;
        let unknown = [ErrCode::UNKNOWN_TOPIC_OR_PART, ErrCode::UNKNOWN_PARTITION];
        match times.iter().all(|p| unknown.contains(&p.error)) && !times.is_empty() {
            true => Err(KafkaError::from(ErrCode::UNKNOWN_PARTITION)),
            false => Ok(()),
        }
    }

    fn look_up_times(
        &self,
        times: &mut [TopicPartition],
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        if self.role() == Role::Producer {
            // A producer has no offsets to look after, but may ask for them all the same.
            let until = deadline(timeout);
            for wanted in times {
                let left = time_left(until);
                match self.list_offset(&wanted.topic, wanted.partition, wanted.offset, left) {
                    Ok(offset) => (wanted.offset, wanted.error) = (offset, ErrCode::NO_ERROR),
                    Err(error) => wanted.error = error.code,
                }
            }
            return Ok(());
        }
        let asked = offsets_of(times);
        let id = self.operation(|client, now, id| {
            client.query_offsets_for_times(now, id, asked, milliseconds(timeout))
        })?;
        if let OperationResult::Offsets(found) = self.operation_result(id, timeout)? {
            times
                .iter_mut()
                .zip(found)
                .for_each(|(to, from)| *to = from.into());
        }
        Ok(())
    }
    /// Groups with their members: all, or the one named.
    pub fn list_groups(
        &self,
        group: Option<&str>,
        timeout: Duration,
    ) -> Result<Vec<crate::GroupInfo>, KafkaError> {
        let groups: Vec<Str> = match group {
            Some(group) => vec![group.into()],
            None => {
                match self.request(Route::Any, Request::ListGroups(Default::default()), timeout)? {
                    Response::ListGroups(response) if response.error_code.0 == 0 => response
                        .groups
                        .into_iter()
                        .map(|group| group.group_id)
                        .collect(),
                    Response::ListGroups(response) => {
                        return Err(KafkaError::from(response.error_code));
                    }
                    other => return Err(unexpected(&other)),
                }
            }
        };
        groups
            .into_iter()
            .map(|group| self.describe_group(group, false, timeout))
            .collect()
    }
}
