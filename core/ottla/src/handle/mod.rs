//! The handle: one producer or consumer, with everything librdkafka's `rd_kafka_t` can do. The bindings are built on it; in Rust
//! [`Producer`](crate::Producer), [`Consumer`](crate::Consumer) and [`Admin`](crate::Admin) are nicer.

mod cluster;
mod consuming;
mod producing;

use crate::{
    Config, ErrCode, KafkaError, LogLine, Queue,
    broker::open_failed,
    queue::deadline,
    shared::{CONSUMER, Completion, MAIN, QueueState, Shared, Sink, lock},
};
use ottla_client::{Client, consumer::OperationResult};
use ottla_driver::{EmbeddedBroker, now};
use ottla_protocol::{Request, Response, Str};
use ottla_record::Now;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

pub use consuming::GroupMetadata;
pub use ottla_client::{Role, Route};
pub use producing::{ProduceRecord, TopicHandle};

/// Is asked every 200 ms at most while a call blocks, without a lock held; `true` ends the call with `_INTR` (a poll: with no
/// event). Python sees Ctrl-C that way.
pub type InterruptCheck = Arc<dyn Fn() -> bool + Send + Sync>;

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
