//! The client machine: one handle's connections, metadata, producer and consumer.

use crate::{
    config::{ClientConfig, Role, TopicConfig},
    consumer::{
        Cluster, Consumed, ConsumedPartition, Consumer, ConsumerConfig, ConsumerEvent,
        PartitionOffset, To, TopicPartition, Want,
    },
    error::{ErrCode, KafkaError},
    metadata::{BrokerAddress, Metadata},
    network::{ConnId, Network, Route, Tag},
    producer::{DeliveredBatch, ProduceRecord, Producer, partitioner::BoxedPartitioner},
};
use alloc::{collections::VecDeque, sync::Arc, vec::Vec};
use ottla_protocol::{Request, Response, Str};
use ottla_record::Now;

/// What the driver has to do for the client.
#[derive(Debug)]
pub enum Output {
    /// Connect to a broker; [`Client::handle_connected`] or [`Client::handle_disconnected`] is due.
    Connect {
        /// The connection's number from now on.
        conn: ConnId,
        /// The broker's node id; below 0 for a bootstrap address.
        node: i32,
        /// Where it is.
        host: Str,
        /// Its port.
        port: i32,
    },
    /// Send a request. All have an answer but a produce with `acks=0`.
    Send {
        /// Over this connection.
        conn: ConnId,
        /// Comes back with the answer.
        correlation_id: i32,
        /// The version to encode it in.
        api_version: i16,
        /// The request.
        request: Request,
    },
    /// Close a connection; nothing more is expected of it.
    Disconnect {
        /// Which.
        conn: ConnId,
    },
}

/// Names a request of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What the client tells the application.
#[derive(Debug)]
pub enum Event {
    /// Delivery reports. Their records count as queued until [`Client::delivery_taken`].
    Delivery(DeliveredBatch),
    /// From the consumer.
    Consumer(ConsumerEvent),
    /// The answer to [`Client::request`].
    Response {
        /// The request's.
        id: RequestId,
        /// The answer, or why there is none.
        result: Result<Response, KafkaError>,
    },
    /// Something that concerns the whole client: brokers that can't be reached, a fatal error.
    Error(KafkaError),
}

/// One client: a passive state machine.
///
/// Inputs are the `handle_` methods and the commands; afterwards [`Client::poll_output`] says what to do, and
/// [`Client::poll_event`] and [`Client::poll_consumed`] what to tell the application. [`Client::poll_timeout`] says when
/// [`Client::handle_timeout`] is due. The same inputs give the same outputs.
pub struct Client {
    config: ClientConfig,
    net: Network,
    metadata: Metadata,
    producer: Option<Producer>,
    consumer: Option<Consumer>,
    events: VecDeque<Event>,
    next_request: u64,
    fatal_told: bool,
}

impl Client {
    /// A client that is not connected to anything yet.
    /// Errors: `_INVALID_ARG` for settings that contradict each other, `_UNSUPPORTED_FEATURE` for transactions.
    pub fn new(config: ClientConfig, now: Now, seed: u64) -> Result<Self, KafkaError> {
        let config = config.check()?;
        let producing = config.role == Role::Producer;
        let consumer = if producing {
            None
        } else {
            Some(Consumer::new(ConsumerConfig::new(&config)?, now))
        };
        Ok(Self {
            net: Network::new(&config, seed),
            metadata: Metadata::new(
                config.topic_metadata_refresh_interval_ms,
                config.topic_metadata_refresh_fast_interval_ms,
                config.auto_create_topics(),
            ),
            producer: producing.then(|| Producer::new(config.clone(), seed ^ 0x70_726f_6475_6365)),
            consumer,
            config,
            events: VecDeque::new(),
            next_request: 0,
            fatal_told: false,
        })
    }

    /// The settings.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// A connection is there.
    pub fn handle_connected(&mut self, now: Now, conn: ConnId) {
        self.net.connected(conn);
        self.step(now);
    }

    /// A connection is gone, or could not be made.
    pub fn handle_disconnected(&mut self, now: Now, conn: ConnId, reason: KafkaError) {
        self.net.disconnected(now, conn, &reason);
        self.step(now);
    }

    /// An answer came over a connection.
    pub fn handle_response(
        &mut self,
        now: Now,
        conn: ConnId,
        correlation_id: i32,
        response: Response,
    ) {
        let node = self.net.node_of(conn);
        if let Some((tag, response)) = self.net.answered(now, conn, correlation_id, response) {
            self.dispatch(now, tag, Ok(response), node);
        }
        self.step(now);
    }

    /// Time has come to [`Client::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Now) {
        self.net.expire(now);
        self.step(now);
    }

    /// Gives an answer to the flow that asked.
    fn dispatch(&mut self, now: Now, tag: Tag, result: Result<Response, KafkaError>, node: i32) {
        match tag {
            Tag::Metadata => match result {
                Ok(Response::Metadata(response)) => self.metadata.answered(now, response),
                _ => self.metadata.failed(now),
            },
            Tag::FindCoordinator(group) => match self.net.coordinator_found(&group, result) {
                Ok(()) => {}
                // What waits asks again, until its own time is over.
                Err(error) if error.retriable => self.net.hold_coordinator(now, &group),
                Err(error) => self.net.fail_waiting_for(&group, &error),
            },
            Tag::InitProducerId => {
                if let Some(producer) = &mut self.producer {
                    producer.identified(now, result);
                }
            }
            Tag::Produce(id) => {
                if let Some(producer) = &mut self.producer {
                    producer.answered(now, id, result, node, &mut self.metadata);
                }
            }
            Tag::Consumer(token) => {
                if let Some(consumer) = &mut self.consumer {
                    consumer.handle_reply(now, token, result, &self.metadata);
                }
            }
            Tag::App(id) => {
                if let Ok(Response::Metadata(response)) = &result {
                    self.metadata.learn(response.clone(), false);
                }
                self.events.push_back(Event::Response {
                    id: RequestId(id),
                    result,
                });
            }
        }
    }

    /// Does whatever can be done now. Called after every input; commands of the hot path call it only when they must.
    fn step(&mut self, now: Now) {
        loop {
            if let Some(producer) = &mut self.producer {
                producer.serve(now, &mut self.net, &mut self.metadata);
                if let Some(fatal) = producer.fatal()
                    && !self.fatal_told
                {
                    self.fatal_told = true;
                    self.events.push_back(Event::Error(fatal.clone()));
                }
            }
            if let Some(consumer) = &mut self.consumer {
                consumer.serve(now, &self.metadata);
                while let Some(want) = consumer.poll_want() {
                    match want {
                        Want::Send {
                            token,
                            to,
                            request,
                            timeout_ms,
                        } => {
                            let route = match to {
                                To::Node(node) => Route::Node(node),
                                To::Coordinator => Route::GroupCoordinator(
                                    self.config.group_id.clone().unwrap_or_default(),
                                ),
                            };
                            self.net
                                .send(now, route, request, timeout_ms, Tag::Consumer(token));
                        }
                        Want::Topics(topics) => self.metadata.want_only(now, topics),
                        Want::ForgetCoordinator => {
                            if let Some(group) = &self.config.group_id {
                                self.net.forget_coordinator(group);
                            }
                        }
                    }
                }
            }
            if let Some(request) = self.metadata.poll_request(now) {
                self.net.send(now, Route::Any, request, 0, Tag::Metadata);
            }
            if self.net.dispatch(now, &self.metadata) {
                self.metadata.refresh(now);
            }
            let mut any = false;
            while let Some((tag, error)) = self.net.poll_failed() {
                any = true;
                self.dispatch(now, tag, Err(error), -1);
            }
            if !any {
                return;
            }
        }
    }

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.net.poll_output()
    }

    /// When [`Client::handle_timeout`] is due, in monotonic microseconds; it may be in the past.
    pub fn poll_timeout(&self) -> Option<u64> {
        let producer = self.producer.as_ref().and_then(Producer::poll_timeout);
        let consumer = self.consumer.as_ref().and_then(Consumer::poll_timeout);
        [
            producer,
            consumer,
            self.net.poll_timeout(),
            self.metadata.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The next event for the application.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(report) = self.producer.as_mut().and_then(Producer::poll_report) {
            return Some(Event::Delivery(report));
        }
        if let Some(event) = self.consumer.as_mut().and_then(Consumer::poll_event) {
            return Some(Event::Consumer(event));
        }
        self.events.pop_front()
    }

    /// Sends a request of the application; [`Event::Response`] follows, at the latest after `timeout_ms` (0: `socket.timeout.ms`).
    pub fn request(
        &mut self,
        now: Now,
        route: Route,
        request: Request,
        timeout_ms: i32,
    ) -> RequestId {
        self.next_request += 1;
        let id = self.next_request;
        if let Route::Leader(topic, _) = &route {
            self.metadata.want(now, topic);
        }
        self.net.send(now, route, request, timeout_ms, Tag::App(id));
        self.step(now);
        RequestId(id)
    }

    /// A number for an operation of the consumer that ends with `Done`, from the same sequence as requests.
    pub fn next_id(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    /// The brokers that are known.
    pub fn brokers(&self) -> Vec<BrokerAddress> {
        self.metadata.brokers().cloned().collect()
    }

    /// The controller's node id, or -1.
    pub fn controller(&self) -> i32 {
        self.metadata.controller()
    }

    /// The cluster's id, once a broker has told it.
    pub fn cluster_id(&self) -> Option<Str> {
        self.metadata.cluster_id().cloned()
    }

    /// How many partitions a topic has, as far as is known.
    pub fn partition_count(&self, topic: &Str) -> Option<i32> {
        self.metadata.partition_count(topic)
    }

    /// Whether a partition has a leader, as far as is known.
    pub fn is_available(&self, topic: &Str, partition: i32) -> bool {
        self.metadata.leader(topic, partition).is_some()
    }

    /// Requests sent and answers received, for statistics.
    pub fn traffic(&self) -> (u64, u64) {
        (self.net.sent, self.net.received)
    }
}

/// Producing. On a consumer these fail with `_NOT_CONFIGURED`, or do nothing.
impl Client {
    /// The handle of a topic for [`ProduceRecord::topic`]; its settings count when it is first named.
    ///
    /// Errors: `_INVALID_ARG` for a name or settings that can't be.
    pub fn intern_topic(
        &mut self,
        now: Now,
        name: &str,
        config: Option<TopicConfig>,
        partitioner: Option<BoxedPartitioner>,
    ) -> Result<u32, KafkaError> {
        let producer = self
            .producer
            .as_mut()
            .ok_or_else(|| KafkaError::from(ErrCode::NOT_CONFIGURED))?;
        let handle = producer.intern_topic(now, name, config, partitioner, &mut self.metadata)?;
        self.step(now);
        Ok(handle)
    }

    /// A topic's name.
    pub fn topic_name(&self, handle: u32) -> Option<Str> {
        self.producer.as_ref()?.topic_name(handle).cloned()
    }

    /// Produces a record: see [`ProduceRecord`]. Returns whether there may be output to poll.
    #[inline]
    pub fn produce(&mut self, now: Now, record: &ProduceRecord<'_>) -> Result<bool, KafkaError> {
        let Some(producer) = &mut self.producer else {
            return Err(KafkaError::from(ErrCode::NOT_CONFIGURED));
        };
        let serve = producer.produce(now, record)?;
        if serve {
            self.step(now);
        }
        Ok(serve)
    }

    /// When the producer alone has something to do; a quick look after [`Client::produce`].
    #[inline]
    pub fn producer_due(&self) -> Option<u64> {
        self.producer.as_ref().and_then(Producer::poll_timeout)
    }

    /// The application is done with the reports of so many records and bytes.
    pub fn delivery_taken(&mut self, messages: usize, bytes: usize) {
        if let Some(producer) = &mut self.producer {
            producer.taken(messages, bytes);
        }
    }

    /// Records on their way, and reports that were not taken: `rd_kafka_outq_len`.
    pub fn queue_len(&self) -> usize {
        self.producer.as_ref().map_or(0, Producer::queue_len)
    }

    /// Bytes of keys and values of those records.
    pub fn queue_bytes(&self) -> usize {
        self.producer.as_ref().map_or(0, Producer::queue_bytes)
    }

    /// Records and bytes delivered so far.
    pub fn delivered(&self) -> (u64, u64) {
        self.producer
            .as_ref()
            .map_or((0, 0), |producer| producer.sent)
    }

    /// Whether reports wait to be polled.
    pub fn has_reports(&self) -> bool {
        self.producer.as_ref().is_some_and(Producer::has_reports)
    }

    /// Nothing lingers while this is on.
    pub fn set_flushing(&mut self, now: Now, flushing: bool) {
        if let Some(producer) = &mut self.producer {
            producer.set_flushing(now, flushing);
            self.step(now);
        }
    }

    /// Fails records with `_PURGE_QUEUE` that wait and with `_PURGE_INFLIGHT` that were sent and not answered.
    pub fn purge(&mut self, now: Now, queue: bool, in_flight: bool) {
        if let Some(producer) = &mut self.producer {
            producer.purge(now, queue, in_flight, ErrCode::NO_ERROR);
            self.step(now);
        }
    }

    /// The fatal error, if there was one.
    pub fn fatal_error(&self) -> Option<KafkaError> {
        self.producer
            .as_ref()
            .and_then(|producer| producer.fatal().cloned())
    }
}

/// Consuming. On a producer these fail with `_NOT_CONFIGURED`, or do nothing.
impl Client {
    /// Runs a command of the consumer, and what follows from it.
    fn command<R>(
        &mut self,
        now: Now,
        run: impl FnOnce(&mut Consumer) -> R,
    ) -> Result<R, KafkaError> {
        let consumer = self
            .consumer
            .as_mut()
            .ok_or_else(|| KafkaError::from(ErrCode::NOT_CONFIGURED))?;
        let result = run(consumer);
        self.step(now);
        Ok(result)
    }

    /// The next thing to consume, in each partition's order.
    pub fn poll_consumed(&mut self, now: Now) -> Option<Consumed> {
        let consumed = self.consumer.as_mut()?.poll_fetched(now)?;
        self.step(now);
        Some(consumed)
    }

    /// The next thing of one partition that was [forwarded](Self::set_forwarded).
    pub fn poll_consumed_of(&mut self, now: Now, key: &TopicPartition) -> Option<Consumed> {
        let consumed = self.consumer.as_mut()?.poll_fetched_of(now, key)?;
        self.step(now);
        Some(consumed)
    }

    /// Whether something waits to be consumed.
    pub fn has_consumed(&self) -> bool {
        self.consumer.as_ref().is_some_and(Consumer::has_fetched)
    }

    /// Whether something of a [forwarded](Self::set_forwarded) partition waits.
    pub fn has_consumed_of(&self, key: &TopicPartition) -> bool {
        self.consumer
            .as_ref()
            .is_some_and(|consumer| consumer.has_fetched_of(key))
    }

    /// The application waits in a poll, or has come back from it: `max.poll.interval.ms` counts in between.
    pub fn application_waits(&mut self, now: Now, waits: bool) {
        if let Some(consumer) = &mut self.consumer {
            consumer.application_waits(now, waits);
        }
    }

    /// Subscribes to topics by name or `^regex`, in place of what was subscribed to.
    pub fn subscribe(&mut self, now: Now, topics: &[Str]) -> Result<(), KafkaError> {
        self.command(now, |consumer| consumer.subscribe(now, topics))?
    }

    /// Leaves the group.
    pub fn unsubscribe(&mut self, now: Now) -> Result<(), KafkaError> {
        self.command(now, |consumer| consumer.unsubscribe(now))
    }

    /// What is subscribed to.
    pub fn subscription(&self) -> Vec<Str> {
        self.consumer
            .as_ref()
            .map_or_else(Vec::new, |consumer| consumer.subscription().to_vec())
    }

    /// Consumes these partitions, in place of others.
    pub fn assign(&mut self, now: Now, partitions: &[PartitionOffset]) -> Result<(), KafkaError> {
        self.command(now, |consumer| consumer.assign(now, partitions))?
    }

    /// Consumes these partitions too.
    pub fn incremental_assign(
        &mut self,
        now: Now,
        partitions: &[PartitionOffset],
    ) -> Result<(), KafkaError> {
        self.command(now, |consumer| consumer.incremental_assign(now, partitions))?
    }

    /// Consumes these partitions no more.
    pub fn incremental_unassign(
        &mut self,
        now: Now,
        partitions: &[TopicPartition],
    ) -> Result<(), KafkaError> {
        self.command(now, |consumer| {
            consumer.incremental_unassign(now, partitions)
        })?
    }

    /// Consumes nothing any more.
    pub fn unassign(&mut self, now: Now) -> Result<(), KafkaError> {
        self.command(now, |consumer| consumer.unassign(now))
    }

    /// What is consumed.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.consumer
            .as_ref()
            .map_or_else(Vec::new, Consumer::assignment)
    }

    /// Whether the assignment was lost to others.
    pub fn is_assignment_lost(&self) -> bool {
        self.consumer
            .as_ref()
            .is_some_and(Consumer::is_assignment_lost)
    }

    /// Goes on at other offsets; each partition gets its own error.
    pub fn seek(&mut self, now: Now, partitions: &mut [PartitionOffset]) -> Result<(), KafkaError> {
        self.command(now, |consumer| consumer.seek(now, partitions))?
    }

    /// Stops consuming partitions for a while.
    pub fn pause(
        &mut self,
        now: Now,
        partitions: &mut [PartitionOffset],
    ) -> Result<(), KafkaError> {
        self.command(now, |consumer| consumer.pause(partitions))
    }

    /// Goes on with paused partitions.
    pub fn resume(
        &mut self,
        now: Now,
        partitions: &mut [PartitionOffset],
    ) -> Result<(), KafkaError> {
        self.command(now, |consumer| consumer.resume(partitions))
    }

    /// What the application consumed last, behind its last record.
    pub fn position(&self, partitions: &mut [PartitionOffset]) {
        if let Some(consumer) = &self.consumer {
            consumer.position(partitions);
        }
    }

    /// Keeps a partition's records out of [`Self::poll_consumed`]; [`Self::poll_consumed_of`] has them. False if it isn't consumed.
    pub fn set_forwarded(&mut self, now: Now, key: &TopicPartition, forwarded: bool) -> bool {
        self.command(now, |consumer| consumer.set_forwarded(key, forwarded))
            .unwrap_or(false)
    }

    /// What the application and the machine share of a partition.
    pub fn consumed_partition(&self, key: &TopicPartition) -> Option<Arc<ConsumedPartition>> {
        self.consumer.as_ref()?.consumed_partition(key)
    }

    /// Notes offsets to be committed by the next automatic or argumentless commit.
    pub fn store_offsets(
        &mut self,
        now: Now,
        offsets: &mut [PartitionOffset],
    ) -> Result<(), KafkaError> {
        self.command(now, |consumer| consumer.store_offsets(offsets))?
    }

    /// Commits: these offsets, or all that are stored. With an id `Done` follows, without one `OffsetCommit`.
    pub fn commit(
        &mut self,
        now: Now,
        id: Option<u64>,
        offsets: Option<Vec<PartitionOffset>>,
    ) -> Result<(), KafkaError> {
        self.command(now, |consumer| consumer.commit(now, offsets, id))?
    }

    /// Asks for the group's committed offsets; `Done` follows.
    pub fn query_committed(
        &mut self,
        now: Now,
        id: u64,
        partitions: Vec<PartitionOffset>,
        timeout_ms: i32,
    ) -> Result<(), KafkaError> {
        self.command(now, |consumer| {
            consumer.query_committed(now, id, partitions, timeout_ms)
        })?
    }

    /// Asks for the first offsets at or after timestamps (in `offset`); `Done` follows.
    pub fn query_offsets_for_times(
        &mut self,
        now: Now,
        id: u64,
        times: Vec<PartitionOffset>,
        timeout_ms: i32,
    ) -> Result<(), KafkaError> {
        self.command(now, |consumer| {
            consumer.query_offsets_for_times(now, id, times, timeout_ms)
        })
    }

    /// Asks for a partition's first offset and end; `Done` follows.
    pub fn query_watermarks(
        &mut self,
        now: Now,
        id: u64,
        partition: TopicPartition,
        timeout_ms: i32,
    ) -> Result<(), KafkaError> {
        self.command(now, |consumer| {
            consumer.query_watermarks(now, id, partition, timeout_ms)
        })
    }

    /// A partition's first offset and end as the last fetch told them.
    pub fn watermarks(&self, partition: &TopicPartition) -> Option<(i64, i64)> {
        self.consumer.as_ref()?.watermarks(partition)
    }

    /// The member id in the group; empty while there is none.
    pub fn member_id(&self) -> Str {
        self.consumer
            .as_ref()
            .map(Consumer::member_id)
            .unwrap_or_default()
    }

    /// The group's generation; -1 while there is none.
    pub fn generation(&self) -> i32 {
        self.consumer.as_ref().map_or(-1, Consumer::generation)
    }

    /// `NONE`, `EAGER` or `COOPERATIVE`.
    pub fn rebalance_protocol(&self) -> &'static str {
        self.consumer
            .as_ref()
            .map_or("NONE", Consumer::rebalance_protocol)
    }

    /// Gives up the partitions, commits, leaves the group; [`ConsumerEvent::Closed`] follows.
    pub fn close_consumer(&mut self, now: Now) -> Result<(), KafkaError> {
        self.command(now, |consumer| consumer.close(now))
    }
}
