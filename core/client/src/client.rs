//! The client machine: one handle's connections, metadata, producer and consumer.

use crate::{
    config::{ClientConfig, Role, TopicConfig},
    consumer::{
        Cluster, Consumed, ConsumedPartition, Consumer, ConsumerConfig, PartitionOffset, To,
        TopicPartition, Want,
    },
    debug::Debug,
    error::{ErrCode, KafkaError},
    metadata::{BrokerAddress, Metadata},
    network::{Network, Tag},
    output::{ConnId, Event, Output, RequestId, Route},
    producer::{ProduceRecord, Producer, Purge, partitioner::BoxedPartitioner},
    statistics::Statistics,
};
use alloc::{collections::VecDeque, format, sync::Arc, vec::Vec};
use ottla_protocol::{Request, Response, Str};
use ottla_record::Now;

/// What the producer's seed differs in from the network's.
const PRODUCER_SEED: u64 = 0x70_726f_6475_6365;

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
    debug: Debug,
    next_request: u64,
}

impl Client {
    /// A client that is not connected to anything yet.
    /// Errors: `_INVALID_ARG` for settings that contradict each other, `_UNSUPPORTED_FEATURE` for transactions.
    pub fn new(config: ClientConfig, now: Now, seed: u64) -> Result<Self, KafkaError> {
        let config = config.check()?;
        let producing = config.role == Role::Producer;
        let debug = Debug::new(config.debug);
        let consumer = if producing {
            None
        } else {
            Some(Consumer::new(ConsumerConfig::new(&config)?, now))
        };
        Ok(Self {
            net: Network::new(&config, now, seed),
            metadata: Metadata::new(&config, now),
            producer: producing.then(|| Producer::new(&config, now, seed ^ PRODUCER_SEED)),
            consumer,
            config,
            events: VecDeque::new(),
            debug,
            next_request: 0,
        })
    }

    /// The settings.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// A connection is there.
    pub fn handle_connected(&mut self, now: Now, conn: ConnId) {
        self.debug.connected(conn.0);
        self.net.connected(now, conn);
        self.step(now);
    }

    /// A connection is gone, or could not be made.
    pub fn handle_disconnected(&mut self, now: Now, conn: ConnId, reason: KafkaError) {
        self.debug.disconnected(conn.0, &reason);
        self.net.disconnected(now, conn, reason);
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
        self.debug
            .response(correlation_id, &response, &self.metadata);
        if let Some((tag, response)) = self.net.answered(now, conn, correlation_id, response) {
            self.dispatch(now, tag, Ok(response));
        }
        self.step(now);
    }

    /// Time has come to [`Client::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Now) {
        self.net.expire(now);
        self.step(now);
    }

    /// Gives an answer to the flow that asked.
    fn dispatch(&mut self, now: Now, tag: Tag, result: Result<Response, KafkaError>) {
        match tag {
            Tag::Metadata => match result {
                Ok(Response::Metadata(response)) => {
                    self.metadata.request_answered(now, response);
                    self.metadata_changed(now);
                }
                _ => self.metadata.request_failed(now),
            },
            Tag::FindCoordinator(group) => self.net.coordinator_found(now, &group, result),
            Tag::ProducerId => {
                if let Some(producer) = &mut self.producer {
                    producer.identified(now, result);
                }
            }
            Tag::Produce(id) => {
                if let Some(producer) = &mut self.producer {
                    producer.produced(now, id, result, &mut self.metadata);
                }
            }
            Tag::Consumer(token) => {
                if let Some(consumer) = &mut self.consumer {
                    consumer.handle_reply(now, token, result, &self.metadata);
                }
            }
            Tag::Application(id) => {
                let mut result = result;
                if let Ok(Response::Metadata(response)) = &mut result {
                    self.metadata.drop_blacklisted(response);
                    self.metadata.learn(response.clone(), false);
                    self.metadata_changed(now);
                }
                self.events.push_back(Event::Response { id, result });
            }
        }
    }

    fn metadata_changed(&mut self, now: Now) {
        self.net.metadata_changed(now, &self.metadata);
        if let Some(producer) = &mut self.producer {
            producer.metadata_changed(now, &self.metadata);
        }
    }

    /// Does whatever can be done now. Called after every input; commands of the hot path call it only when they must.
    fn step(&mut self, now: Now) {
        loop {
            if let Some(producer) = &mut self.producer {
                producer.serve(now, &mut self.net, &self.metadata);
            }
            self.serve_consumer(now);
            let asked = self
                .metadata
                .poll_request(now, || self.net.wanted_leaders());
            if let Some(request) = asked {
                self.net.send(now, Route::Any, request, 0, Tag::Metadata);
            }
            if self.net.dispatch(now, &self.metadata) {
                self.metadata.refresh_lacking(now);
            }
            let mut any = false;
            while let Some((tag, error)) = self.net.poll_failed() {
                any = true;
                self.dispatch(now, tag, Err(error));
            }
            if !any {
                break;
            }
        }
        while let Some(error) = self.net.poll_error() {
            self.events.push_back(Event::Error(error));
        }
        while let Some(throttled) = self.net.poll_throttled() {
            self.events.push_back(Event::Throttled(throttled));
        }
        if let Some(fatal) = self.producer.as_mut().and_then(Producer::poll_fatal) {
            self.events.push_back(Event::Error(fatal));
        }
    }

    fn serve_consumer(&mut self, now: Now) {
        let Some(consumer) = &mut self.consumer else {
            return;
        };
        consumer.serve(now, &self.metadata);
        while let Some(want) = consumer.poll_want() {
            match want {
                Want::Send {
                    token,
                    to,
                    request,
                    timeout_ms,
                } => {
                    let group = self.config.group_id.clone().unwrap_or_default();
                    let route = match to {
                        To::Node(node) => Route::Node(node),
                        To::Coordinator => Route::GroupCoordinator(group),
                    };
                    let timeout_ms = i64::from(timeout_ms);
                    let tag = Tag::Consumer(token);
                    self.net.send(now, route, request, timeout_ms, tag);
                }
                Want::Topics(topics) => self.metadata.consume(now, topics),
                Want::ForgetCoordinator => {
                    if let Some(group) = &self.config.group_id {
                        self.net.forget_coordinator(group);
                    }
                }
            }
        }
    }

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.net.poll_output()?;
        self.debug.output(&output, &self.metadata);
        Some(output)
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
        let event = self.events.pop_front();
        event.or_else(|| self.debug.poll_line().map(Event::Debug))
    }

    /// Sends a request of the application; [`Event::Response`] follows, at the latest after `timeout_ms` (0: `socket.timeout.ms`).
    pub fn request(
        &mut self,
        now: Now,
        route: Route,
        request: Request,
        timeout_ms: i32,
    ) -> RequestId {
        let id = RequestId(self.next_id());
        self.debug.application(request.api_key());
        if let Route::Leader(topic, _) = &route {
            self.metadata.look_up(now, topic);
        }
        let timeout_ms = i64::from(timeout_ms);
        self.net
            .send(now, route, request, timeout_ms, Tag::Application(id));
        self.step(now);
        id
    }

    /// A number for an operation of the consumer that ends with `Done`, from the same sequence as requests.
    pub fn next_id(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    /// What is known of the cluster: brokers, controller, topics.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The brokers that are known, by node id.
    pub fn brokers(&self) -> Vec<BrokerAddress> {
        self.metadata.brokers().values().cloned().collect()
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

    /// Counters of everything, for `stats_cb`. [Windows](crate::Window) begin anew with each call.
    pub fn statistics(&mut self) -> Statistics {
        Statistics::of(
            &mut self.net,
            self.producer.as_ref(),
            self.consumer.as_ref(),
        )
    }

    /// Requests sent and answers received so far.
    pub fn traffic(&self) -> (u64, u64) {
        self.net.traffic()
    }

    /// Closes all connections. What is queued stays where it is; [`Self::purge`] and [`Self::close_consumer`] come before.
    pub fn close(&mut self) {
        self.net.close();
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
        let metadata = &mut self.metadata;
        let handle = producer.intern_topic(now, name, config, partitioner, metadata)?;
        self.step(now);
        Ok(handle)
    }

    /// A topic's name.
    pub fn topic_name(&self, handle: u32) -> Option<Str> {
        self.producer.as_ref()?.topic_name(handle).cloned()
    }

    /// Takes a record: it is copied into its partition's batch. Returns whether there may be output to poll.
    ///
    /// Errors: `_QUEUE_FULL` (poll for events, then try again), `MSG_SIZE_TOO_LARGE`, `_UNKNOWN_PARTITION`,
    /// `_UNKNOWN_TOPIC` or what else the brokers say about the topic, `_FATAL`, `_INVALID_ARG` for a handle that isn't one.
    #[inline]
    pub fn produce(&mut self, now: Now, record: &ProduceRecord<'_>) -> Result<bool, KafkaError> {
        let Some(producer) = &mut self.producer else {
            return Err(KafkaError::from(ErrCode::NOT_CONFIGURED));
        };
        let ready = producer.produce(now, record, &self.net)?;
        if ready {
            producer.drain(now, &mut self.net, &self.metadata);
        }
        Ok(ready)
    }

    /// When the producer alone has something to do, if [`Client::produce`] has changed that since this was last asked: a
    /// quick look after most calls of it.
    #[inline]
    pub fn poll_producer_due(&mut self) -> Option<u64> {
        self.producer.as_mut().and_then(Producer::poll_new_timeout)
    }

    /// The application is done with the reports of so many records and bytes: there is room for others.
    pub fn delivery_taken(&mut self, messages: usize, bytes: usize) {
        if let Some(producer) = &mut self.producer {
            producer.taken(messages, bytes);
        }
    }

    /// Records delivered so far, and bytes of their keys and values.
    pub fn delivered(&self) -> (u64, u64) {
        let counters = self.producer.as_ref().map(Producer::counters);
        counters.map_or((0, 0), |c| (c.delivered, c.delivered_bytes))
    }

    /// Records on their way, and reports that were not taken: `rd_kafka_outq_len`.
    pub fn queue_len(&self) -> usize {
        self.producer.as_ref().map_or(0, Producer::queued_messages)
    }

    /// Bytes of keys and values of those records.
    pub fn queue_bytes(&self) -> usize {
        self.producer.as_ref().map_or(0, Producer::queued_bytes)
    }

    /// Nothing lingers while this is on.
    pub fn set_flushing(&mut self, now: Now, flushing: bool) {
        if let Some(producer) = &mut self.producer {
            producer.set_flushing(flushing);
            self.step(now);
        }
    }

    /// Fails records with `_PURGE_QUEUE` that wait and with `_PURGE_INFLIGHT` that were sent and not answered.
    pub fn purge(&mut self, now: Now, queue: bool, in_flight: bool) {
        if let Some(producer) = &mut self.producer {
            producer.purge(now, Purge { queue, in_flight });
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

    /// The application waits in a poll, or has come back from it: `max.poll.interval.ms` counts in between.
    pub fn application_waits(&mut self, now: Now, waits: bool) {
        if let Some(consumer) = &mut self.consumer {
            consumer.application_waits(now, waits);
        }
    }

    /// Subscribes to topics by name or `^regex`, in place of what was subscribed to.
    pub fn subscribe(&mut self, now: Now, topics: &[Str]) -> Result<(), KafkaError> {
        self.debug.line("cgrp", "SUBSCRIBE", || {
            format!("subscribing to {} topics", topics.len())
        });
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
        self.debug.line("consumer", "ASSIGN", || {
            format!("{} partitions are assigned", partitions.len())
        });
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

    /// Where this member of a group stands, in librdkafka's words: `init`, `wait-join`, `wait-metadata`, `wait-sync`,
    /// `wait-assign-call`, `wait-unassign-call`, `wait-unassign-to-complete`, `steady`.
    pub fn join_state(&self) -> &'static str {
        self.consumer.as_ref().map_or("init", Consumer::join_state)
    }

    /// The member id of the group's leader and the assignor that the members agreed on; `None` outside of a group.
    pub fn group_leadership(&self) -> Option<(Str, &'static str)> {
        self.consumer.as_ref().and_then(Consumer::leadership)
    }

    /// `NONE`, `EAGER` or `COOPERATIVE`.
    pub fn rebalance_protocol(&self) -> &'static str {
        self.consumer
            .as_ref()
            .map_or("NONE", Consumer::rebalance_protocol)
    }

    /// Gives up the partitions, commits, leaves the group; [`ConsumerEvent::Closed`](crate::consumer::ConsumerEvent::Closed) follows.
    pub fn close_consumer(&mut self, now: Now) -> Result<(), KafkaError> {
        self.command(now, |consumer| consumer.close(now))
    }
}
