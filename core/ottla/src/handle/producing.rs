//! Producing: topics, records, flushing.

use super::Handle;
use crate::{
    ErrCode, KafkaError, TopicConfig,
    queue::deadline,
    shared::{MAIN, lock},
};
use ottla_client::producer::partitioner::BoxedPartitioner;
use ottla_driver::now;
use ottla_protocol::Str;
use ottla_record::Header;
use std::time::Duration;

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
}
