//! What a handle, its queues and the events it handed out share.

use crate::{
    Event, KafkaError, QueueHook,
    config::{Config, Logger, typed::Settings},
    event::{DeliveryBatch, FetchedBatch, LogLine, RebalanceKind, Throttle},
    handle::{InterruptCheck, Role},
    partition::TopicPartition,
};
use ottla_client::{
    Client, Event as ClientEvent,
    consumer::{Consumed, ConsumerEvent, OperationResult, RebalanceKind as ClientRebalance},
};
use ottla_driver::EventSink;
use ottla_protocol::{Response, Str};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// Index of the main queue.
pub(crate) const MAIN: usize = 0;
/// Index of the consumer queue.
pub(crate) const CONSUMER: usize = 1;

/// The result of something that was given an id.
#[derive(Debug)]
pub(crate) enum Completion {
    Response(Result<Response, KafkaError>),
    Operation(Result<OperationResult, KafkaError>),
}

/// Records and bytes whose reports the application took, not yet counted by the client.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub messages: AtomicUsize,
    pub bytes: AtomicUsize,
}

/// One queue.
#[derive(Default)]
pub(crate) struct QueueState {
    pub events: VecDeque<Event>,
    pub forward: Option<usize>,
    pub hook: Option<QueueHook>,
    /// For a partition's queue: its partition.
    pub partition: Option<(Str, i32)>,
    pub woken: bool,
}

/// Shared by everything of one handle; the driver puts the client's events here.
pub(crate) struct Shared {
    pub name: String,
    pub role: Role,
    pub queues: Mutex<Vec<QueueState>>,
    /// What is waited for, by id, with its result once that is there.
    pub completions: Mutex<HashMap<u64, Option<Completion>>>,
    pub fatal: Mutex<Option<KafkaError>>,
    pub consumer_closed: AtomicBool,
    pub taken: Arc<Taken>,
    /// Queues with a hook.
    pub hooks: AtomicUsize,
    pub interrupt: Mutex<Option<InterruptCheck>>,
    pub log_level: AtomicU8,
    pub log_queue: Mutex<Option<usize>>,
    log_to_queue: bool,
    logger: Option<Logger>,
    rebalance_events: bool,
    offset_commit_events: bool,
    throttle_events: bool,
    statistics_us: u64,
    next_statistics: AtomicU64,
    /// When the handle was made, in monotonic microseconds.
    pub born_us: u64,
}

/// The lock, even if a thread panicked with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(name: String, role: Role, config: &Config, settings: &Settings) -> Self {
        Self {
            name,
            role,
            queues: Mutex::new(vec![QueueState::default(), QueueState::default()]),
            completions: Mutex::default(),
            fatal: Mutex::default(),
            consumer_closed: AtomicBool::new(false),
            taken: Arc::default(),
            hooks: AtomicUsize::new(0),
            interrupt: Mutex::default(),
            log_level: AtomicU8::new(settings.log_level),
            log_queue: Mutex::default(),
            log_to_queue: settings.log_queue,
            logger: config.logger.clone(),
            rebalance_events: settings.client.rebalance_by_application,
            offset_commit_events: config.offset_commit_events,
            throttle_events: config.throttle_events,
            statistics_us: settings.statistics_interval_ms * 1000,
            born_us: ottla_driver::now().mono_us,
            next_statistics: AtomicU64::new(match settings.statistics_interval_ms {
                0 => u64::MAX,
                ms => ottla_driver::now().mono_us + ms * 1000,
            }),
        }
    }

    /// Where the events of a queue end up.
    pub fn terminal(queues: &[QueueState], mut queue: usize) -> usize {
        while let Some(next) = queues.get(queue).and_then(|state| state.forward) {
            queue = next;
        }
        queue
    }

    /// Something ended; whoever gave up waiting for it has taken its place away.
    fn complete(&self, id: u64, result: Completion) {
        if let Some(place) = lock(&self.completions).get_mut(&id) {
            *place = Some(result);
        }
    }

    /// Puts an event into a queue, or where that forwards to.
    pub fn push(&self, queue: usize, event: Event) {
        let mut queues = lock(&self.queues);
        let to = Self::terminal(&queues, queue);
        let state = &mut queues[to];
        let hook = state
            .events
            .is_empty()
            .then(|| state.hook.clone())
            .flatten();
        state.events.push_back(event);
        drop(queues);
        if let Some(hook) = hook {
            hook();
        }
    }

    /// Events that wait in the main queue.
    pub fn main_queue_len(&self) -> usize {
        lock(&self.queues)[MAIN].events.len()
    }

    /// Writes a log line, if it is important enough.
    pub fn log(&self, line: LogLine) {
        if line.level > self.log_level.load(Relaxed) {
            return;
        }
        if self.log_to_queue {
            let queue = lock(&self.log_queue).unwrap_or(MAIN);
            self.push(queue, Event::Log(line));
        } else if let Some(logger) = &self.logger {
            logger(&line);
        }
    }

    /// Tells the client which reports were taken since the last time.
    #[inline]
    pub fn count_taken(&self, client: &mut Client) {
        if self.taken.messages.load(Relaxed) > 0 {
            let messages = self.taken.messages.swap(0, Relaxed);
            let bytes = self.taken.bytes.swap(0, Relaxed);
            client.delivery_taken(messages, bytes);
        }
    }

    /// An event from something to consume.
    pub fn consumed(consumed: Consumed) -> Event {
        match consumed {
            Consumed::Records(records) => Event::Fetched(FetchedBatch::new(records)),
            Consumed::Eof {
                partition: (topic, partition),
                offset,
            } => Event::PartitionEof {
                topic,
                partition,
                offset,
            },
            Consumed::Error {
                partition,
                offset,
                error,
            } => Event::ConsumerError {
                partition,
                offset,
                error,
            },
        }
    }
}

/// Where the driver puts the client's events.
pub(crate) struct Sink(pub Arc<Shared>);

impl EventSink for Sink {
    fn warn(&self, text: &str) {
        self.0.log(LogLine {
            level: 3,
            facility: "BROKER",
            message: text.into(),
            context: "",
        });
    }

    fn event(&self, event: ClientEvent) {
        let shared = &self.0;
        match event {
            ClientEvent::Delivery(batch) => {
                shared.push(
                    MAIN,
                    Event::Delivery(DeliveryBatch::new(batch, shared.taken.clone())),
                );
            }
            ClientEvent::Consumer(ConsumerEvent::Rebalance { kind, partitions }) => {
                if shared.rebalance_events {
                    let kind = match kind {
                        ClientRebalance::Assign => RebalanceKind::Assign,
                        ClientRebalance::Revoke => RebalanceKind::Revoke,
                        ClientRebalance::Lost => RebalanceKind::Lost,
                    };
                    let partitions = partitions
                        .into_iter()
                        .map(|(topic, partition)| {
                            TopicPartition::new(topic, partition, crate::offset::INVALID)
                        })
                        .collect();
                    shared.push(CONSUMER, Event::Rebalance { kind, partitions });
                }
            }
            ClientEvent::Consumer(ConsumerEvent::OffsetCommit { error, offsets }) => {
                if shared.offset_commit_events {
                    let offsets = offsets.into_iter().map(TopicPartition::from).collect();
                    shared.push(CONSUMER, Event::OffsetCommit { error, offsets });
                }
            }
            ClientEvent::Consumer(ConsumerEvent::Done { id, result }) => {
                shared.complete(id, Completion::Operation(result));
            }
            ClientEvent::Consumer(ConsumerEvent::Closed) => {
                shared.consumer_closed.store(true, Relaxed)
            }
            ClientEvent::Response { id, result } => {
                shared.complete(id.0, Completion::Response(result));
            }
            ClientEvent::Debug(line) => shared.log(LogLine {
                level: 7,
                facility: line.facility,
                message: line.message,
                context: line.context,
            }),
            ClientEvent::Error(error) => {
                if error.fatal {
                    lock(&shared.fatal).get_or_insert(error.clone());
                }
                shared.push(MAIN, Event::Error(error));
            }
            ClientEvent::Throttled(told) => {
                if shared.throttle_events {
                    let throttle = Throttle {
                        broker_name: format!("{}:{}", told.broker.host, told.broker.port),
                        broker_id: told.broker.node,
                        throttle_ms: told.throttle_ms,
                    };
                    shared.push(MAIN, Event::Throttle(throttle));
                }
            }
        }
    }

    fn consumable(&self) {
        let queues = lock(&self.0.queues);
        let mut hooks: Vec<QueueHook> = Vec::new();
        for (i, state) in queues.iter().enumerate() {
            if i == CONSUMER || state.partition.is_some() {
                hooks.extend(queues[Shared::terminal(&queues, i)].hook.clone());
            }
        }
        drop(queues);
        hooks.iter().for_each(|hook| hook());
    }

    fn is_eager(&self) -> bool {
        self.0.hooks.load(Relaxed) > 0
    }

    fn poll_timeout(&self) -> Option<u64> {
        Some(self.0.next_statistics.load(Relaxed)).filter(|at| *at != u64::MAX)
    }

    fn handle_timeout(&self, client: &mut Client, now_us: u64) {
        if now_us >= self.0.next_statistics.load(Relaxed) {
            self.0
                .next_statistics
                .store(now_us + self.0.statistics_us, Relaxed);
            let text = crate::statistics::json(&self.0, client, now_us);
            self.0.push(MAIN, Event::Statistics(text));
        }
    }
}
