//! A producer for Rust programs.

use crate::{
    Config, Delivery, DeliveryBatch, ErrCode, Event, Handle, Header, KafkaError, ProduceRecord,
    Queue, Role, TopicHandle,
};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long a producer whose queue is full waits for a report at a time.
const FULL_WAIT: Duration = Duration::from_millis(100);

/// A record to send, borrowed.
///
/// ```
/// # use ottla::NewRecord;
/// let record = NewRecord::to("orders").key(b"alice").value(b"1 tea").header("source", b"web");
/// # let _ = record;
/// ```
#[derive(Clone, Debug)]
pub struct NewRecord<'a> {
    topic: &'a str,
    partition: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Vec<Header<'a>>,
    timestamp: i64,
}

impl<'a> NewRecord<'a> {
    /// A record for a topic, without a key and without a value.
    pub fn to(topic: &'a str) -> Self {
        Self {
            topic,
            partition: -1,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: 0,
        }
    }

    /// With a key: records with the same key go to the same partition.
    pub fn key(self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            key: Some(key.as_ref()),
            ..self
        }
    }

    /// With a value. A record without one is a tombstone.
    pub fn value(self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            value: Some(value.as_ref()),
            ..self
        }
    }

    /// With one header more.
    pub fn header(mut self, name: &'a str, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.headers.push(Header::new(name, Some(value.as_ref())));
        self
    }

    /// For this partition, whatever the partitioner says.
    pub fn partition(self, partition: i32) -> Self {
        Self { partition, ..self }
    }

    /// With a timestamp in milliseconds since the epoch; otherwise it is now.
    pub fn timestamp(self, timestamp: i64) -> Self {
        Self { timestamp, ..self }
    }
}

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its partition.
    pub partition: i32,
    /// Its offset; `OFFSET_INVALID` with `acks=0`.
    pub offset: i64,
    /// Its timestamp in milliseconds since the epoch.
    pub timestamp: i64,
}

/// Gets each record's delivery report, with the batch that it is of.
type ReportCallback = Box<dyn FnMut(&Delivery<'_>, Result<(), &KafkaError>) + Send>;

/// Produces records.
///
/// [`Producer::send`] takes a record at once; it is delivered as a part of a batch, when that is full or after `linger.ms`.
/// [`Producer::flush`] waits for all and says whether any failed. [`Producer::send_and_wait`] waits for one.
///
/// ```
/// use ottla::{Config, NewRecord, Producer};
/// use std::time::Duration;
///
/// let producer = Producer::new(Config::new().with("bootstrap.servers", "memory:")?.with("acks", "all")?)?;
/// for n in 0..1000 {
///     producer.send(NewRecord::to("squares").key(&format!("{n}")).value(&format!("{}", n * n)))?;
/// }
/// producer.flush(Duration::from_secs(10))?;
///
/// let delivered = producer.send_and_wait(NewRecord::to("squares").value(b"the end"), Duration::from_secs(10))?;
/// assert_eq!((delivered.partition, delivered.offset), (0, 1000));
/// # Ok::<(), ottla::KafkaError>(())
/// ```
///
/// A clone is the same producer; it can be used from several threads. With the last clone it ends without waiting: flush before.
#[derive(Clone)]
pub struct Producer {
    handle: Handle,
    main: Queue,
    state: Arc<State>,
}

struct State {
    topics: RwLock<HashMap<String, TopicHandle>>,
    /// Names records that somebody waits for; 0 is nobody.
    next_awaited: AtomicUsize,
    awaited: Mutex<HashMap<usize, Option<Result<Delivered, KafkaError>>>>,
    /// The first failure since the last flush.
    failure: Mutex<Option<KafkaError>>,
    report: Mutex<Option<ReportCallback>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Producer")
            .field(&self.handle.name())
            .finish()
    }
}

impl Producer {
    /// A producer with this configuration.
    ///
    /// # Errors
    /// As [`Handle::new`].
    pub fn new(config: Config) -> Result<Self, KafkaError> {
        let handle = Handle::new(Role::Producer, config)?;
        let state = State {
            topics: RwLock::default(),
            next_awaited: AtomicUsize::new(1),
            awaited: Mutex::default(),
            failure: Mutex::default(),
            report: Mutex::default(),
        };
        Ok(Self {
            main: handle.main_queue(),
            handle,
            state: Arc::new(state),
        })
    }

    /// A producer with all defaults on a broker, such as `memory:` or `file:///var/lib/app`.
    ///
    /// # Errors
    /// As [`Handle::new`].
    pub fn open(address: &str) -> Result<Self, KafkaError> {
        Self::new(Config::new().with("bootstrap.servers", address)?)
    }

    /// The handle underneath, for everything else.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Gives each record's delivery report to `report`: from [`Producer::send`], [`Producer::flush`] or [`Producer::poll`], on the
    /// thread that calls them. It must not call this producer.
    pub fn on_report(
        &self,
        report: impl FnMut(&Delivery<'_>, Result<(), &KafkaError>) + Send + 'static,
    ) {
        *lock(&self.state.report) = Some(Box::new(report));
    }

    /// Takes a record; it is copied. When the queue is full it waits for room, as long as `message.timeout.ms` at most.
    ///
    /// # Errors
    /// What [`Handle::produce`] refuses at once. That a record could not be delivered is told by [`Producer::flush`] and
    /// [`Producer::on_report`].
    pub fn send(&self, record: NewRecord<'_>) -> Result<(), KafkaError> {
        self.produce(&record, 0)
    }

    /// Sends a record at once and waits until it is delivered.
    ///
    /// # Errors
    /// Why it was not delivered; `_TIMED_OUT` if that isn't known in time.
    pub fn send_and_wait(
        &self,
        record: NewRecord<'_>,
        timeout: Duration,
    ) -> Result<Delivered, KafkaError> {
        let started = Instant::now();
        let id = self.state.next_awaited.fetch_add(1, Relaxed);
        lock(&self.state.awaited).insert(id, None);
        let result = self.produce(&record, id).and_then(|()| {
            loop {
                if let Some(result) = lock(&self.state.awaited)
                    .get_mut(&id)
                    .and_then(Option::take)
                {
                    return result;
                }
                let left = timeout.saturating_sub(started.elapsed());
                if left.is_zero() {
                    return Err(KafkaError::from(ErrCode::TIMED_OUT));
                }
                self.poll(left);
            }
        });
        lock(&self.state.awaited).remove(&id);
        result
    }

    fn produce(&self, record: &NewRecord<'_>, opaque: usize) -> Result<(), KafkaError> {
        let produced = ProduceRecord {
            topic: self.topic(record.topic)?,
            partition: record.partition,
            key: record.key,
            value: record.value,
            headers: &record.headers,
            timestamp: record.timestamp,
            opaque,
            payload_addr: 0,
        };
        loop {
            match self.handle.produce(&produced) {
                Err(error) if error.code == ErrCode::QUEUE_FULL => self.poll(FULL_WAIT),
                other => return other,
            }
        }
    }

    fn topic(&self, name: &str) -> Result<TopicHandle, KafkaError> {
        let known = self
            .state
            .topics
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .copied();
        if let Some(topic) = known {
            return Ok(topic);
        }
        let topic = self.handle.topic(name)?;
        self.state
            .topics
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), topic);
        Ok(topic)
    }

    /// Sends everything and waits until all is delivered or has failed.
    ///
    /// # Errors
    /// The first failure since the last flush; `_TIMED_OUT` if it isn't all done in time.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        let flushed = self
            .handle
            .flush_serving(timeout, &mut |event| self.serve(event));
        match lock(&self.state.failure).take() {
            Some(failure) => Err(failure),
            None => flushed,
        }
    }

    /// Takes reports that are there; waits for one as long as `timeout` says. Only needed by programs that send nothing for long and
    /// want reports meanwhile.
    pub fn poll(&self, timeout: Duration) {
        let mut next = self.main.poll(timeout);
        while let Some(event) = next {
            self.serve(event);
            next = self.main.poll(Duration::ZERO);
        }
    }

    fn serve(&self, event: Event) {
        match event {
            Event::Delivery(batch) => self.serve_reports(batch),
            Event::Error(error) if error.fatal => {
                lock(&self.state.failure).get_or_insert(error);
            }
            // Others are of passing interest only; a program that wants them has the handle's queue.
            _ => {}
        }
    }

    fn serve_reports(&self, mut batch: DeliveryBatch) {
        let partition = batch.partition();
        let error = batch.error().cloned();
        let mut callback = lock(&self.state.report);
        let mut woken = false;
        while let Some(report) = batch.next() {
            if let Some(callback) = callback.as_mut() {
                callback(&report, error.as_ref().map_or(Ok(()), Err));
            }
            let awaited = report.opaque != 0;
            if awaited && let Some(waiting) = lock(&self.state.awaited).get_mut(&report.opaque) {
                let delivered = Delivered {
                    partition,
                    offset: report.offset,
                    timestamp: report.timestamp,
                };
                *waiting = Some(error.clone().map_or(Ok(delivered), Err));
                woken = true;
            } else if let Some(error) = &error {
                lock(&self.state.failure).get_or_insert_with(|| error.clone());
            }
        }
        if woken {
            // Whoever waits for it may sit in a poll of its own.
            self.main.wake();
        }
    }
}
