//! A consumer for Rust programs.

use crate::{Config, Event, FetchedBatch, Handle, KafkaError, Queue, Role, TopicPartition};
use std::time::{Duration, Instant};

/// How long a consumer that is dropped may take to leave its group.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// Consumes records, alone or as a member of a group.
///
/// Records come in batches of one partition, in that partition's order; iterating over one takes no lock and copies nothing.
///
/// ```
/// use ottla::{Config, Consumer, NewRecord, Producer};
/// use std::time::Duration;
///
/// let producer = Producer::open("memory:")?;
/// producer.send(NewRecord::to("greetings").key(b"en").value(b"hello"))?;
/// producer.flush(Duration::from_secs(10))?;
///
/// let config = Config::new()
///     .with("bootstrap.servers", "memory:")?
///     .with("group.id", "readers")?
///     .with("auto.offset.reset", "earliest")?;
/// let consumer = Consumer::new(config)?;
/// consumer.subscribe(&["greetings"])?;
/// let mut batch = consumer.next_batch(Duration::from_secs(10))?.expect("a record");
/// while let Some(record) = batch.next() {
///     let record = record.map_err(|(_, error)| error)?;
///     assert_eq!((record.key, record.value), (Some(&b"en"[..]), Some(&b"hello"[..])));
/// }
/// consumer.commit(Duration::from_secs(10))?;
/// # Ok::<(), ottla::KafkaError>(())
/// ```
///
/// A dropped consumer commits (with `enable.auto.commit`) and leaves its group.
#[derive(Debug)]
pub struct Consumer {
    handle: Handle,
    queue: Queue,
}

impl Consumer {
    /// A consumer with this configuration. Errors of the handle as a whole come with its batches.
    ///
    /// # Errors
    /// As [`Handle::new`].
    pub fn new(mut config: Config) -> Result<Self, KafkaError> {
        config.set_rebalance_events(false);
        let handle = Handle::new(Role::Consumer, config)?;
        handle.poll_set_consumer()?;
        Ok(Self {
            queue: handle.consumer_queue(),
            handle,
        })
    }

    /// The handle underneath, for everything else.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Subscribes to topics by name, or by regular expression if it begins with `^`, in place of what was subscribed to.
    ///
    /// # Errors
    /// As [`Handle::subscribe`].
    pub fn subscribe(&self, topics: &[&str]) -> Result<(), KafkaError> {
        self.handle.subscribe(topics)
    }

    /// Consumes these partitions from their `offset` on, without the group's say.
    ///
    /// # Errors
    /// As [`Handle::assign`].
    pub fn assign(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        self.handle.assign(partitions)
    }

    /// The next records; `None` when `timeout` is over without any.
    ///
    /// # Errors
    /// What the application should know: a partition that can't be read, a group that threw the consumer out. The next call goes on.
    pub fn next_batch(&self, timeout: Duration) -> Result<Option<FetchedBatch>, KafkaError> {
        let started = Instant::now();
        loop {
            let left = match timeout {
                Duration::MAX => timeout,
                _ => timeout.saturating_sub(started.elapsed()),
            };
            match self.queue.poll(left) {
                Some(Event::Fetched(batch)) => return Ok(Some(batch)),
                Some(Event::ConsumerError { error, .. } | Event::Error(error)) => {
                    return Err(error);
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// Batches, until none comes for as long as `patience`.
    ///
    /// ```no_run
    /// # let consumer = ottla::Consumer::new(ottla::Config::new())?;
    /// for batch in consumer.batches(std::time::Duration::MAX) {
    ///     let mut batch = batch?;
    ///     while let Some(Ok(record)) = batch.next() {
    ///         println!("{} {:?}", record.offset, record.value);
    ///     }
    /// }
    /// # Ok::<(), ottla::KafkaError>(())
    /// ```
    pub fn batches(
        &self,
        patience: Duration,
    ) -> impl Iterator<Item = Result<FetchedBatch, KafkaError>> + '_ {
        std::iter::from_fn(move || self.next_batch(patience).transpose())
    }

    /// Commits what was handed out (or stored, without `enable.auto.offset.store`), and waits.
    ///
    /// # Errors
    /// `_NO_OFFSET` if there was nothing to commit; otherwise why it failed.
    pub fn commit(&self, timeout: Duration) -> Result<Vec<TopicPartition>, KafkaError> {
        self.handle.commit(None, timeout)
    }

    /// Leaves the group, having committed. Dropping does the same, without saying whether it worked.
    ///
    /// # Errors
    /// `_TIMED_OUT`, or why the last commit failed.
    pub fn close(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.handle.close_consumer(timeout)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.handle.close_consumer(LEAVE_WITHIN);
    }
}
