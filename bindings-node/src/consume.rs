//! The poll thread of a consumer: batches go to JavaScript as long as it has credits for them; what JavaScript says is done between
//! two polls.

use crate::{
    client::{Outlet, lock},
    value::Value,
};
use ottla::{
    ErrCode, Event, FetchedBatch, Handle, KafkaError, Queue, RebalanceKind, TopicPartition, offset,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

/// Topics, and whether a group that has committed nothing begins at their first record.
pub type Subscription = HashMap<String, bool>;

/// Numbers in the table for each record: position of the key in the data, lengths of key and value (-1: null), headers, offset
/// behind the first.
const COLUMNS: usize = 5;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

enum Command {
    Seek(TopicPartition, u32),
    Pause(Vec<TopicPartition>, bool),
    Stop(u32),
}

#[derive(Default)]
struct Inbox {
    commands: VecDeque<Command>,
    credits: i32,
    revoked: bool,
    stopping: bool,
    began: bool,
    /// It never began to poll, and won't.
    failed: bool,
}

/// A consumer that polls.
///
/// It is there, and takes commands, before its thread is: JavaScript may answer the very first batch before the call that started
/// the thread has come back.
pub struct Poller {
    inbox: Mutex<Inbox>,
    changed: Condvar,
    outlet: Outlet,
    /// Where the thread polls, once it does.
    queue: OnceLock<Queue>,
}

impl Poller {
    /// A consumer that takes commands and begins to poll with [`Poller::start`].
    pub fn new(outlet: Outlet, credits: i32) -> Arc<Self> {
        Arc::new(Self {
            inbox: Mutex::new(Inbox {
                credits,
                ..Inbox::default()
            }),
            changed: Condvar::new(),
            outlet,
            queue: OnceLock::new(),
        })
    }

    /// Subscribes and begins to poll. The group waits for so long for JavaScript to work off what it has of revoked partitions.
    pub fn start(
        self: Arc<Self>,
        handle: Handle,
        subscription: Subscription,
        revoke_timeout: Duration,
    ) -> Result<(), KafkaError> {
        let started = self.clone().try_start(handle, subscription, revoke_timeout);
        match started {
            Ok(()) => lock(&self.inbox).began = true,
            Err(_) => self.fail(),
        }
        started
    }

    /// It won't begin to poll any more: who waits for its end is told.
    fn fail(&self) {
        let mut inbox = lock(&self.inbox);
        inbox.failed = true;
        for command in std::mem::take(&mut inbox.commands) {
            if let Command::Stop(id) = command {
                self.stopped(id, Ok(()));
            }
        }
    }

    fn try_start(
        self: Arc<Self>,
        handle: Handle,
        subscription: Subscription,
        revoke_timeout: Duration,
    ) -> Result<(), KafkaError> {
        let topics: Vec<&String> = subscription.keys().collect();
        handle.subscribe(&topics)?;
        let queue = self.queue.get_or_init(|| handle.consumer_queue()).clone();
        let thread = Thread {
            outlet: self.outlet.clone(),
            poller: self,
            queue,
            handle,
            subscription,
            revoke_timeout,
            node: -1,
            epochs: HashMap::new(),
            early_seeks: HashMap::new(),
        };
        std::thread::Builder::new()
            .name("ottla-node-poll".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| KafkaError::new(ErrCode::CRIT_SYS_RESOURCE, error.to_string()))?;
        Ok(())
    }

    fn tell(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut lock(&self.inbox));
        self.changed.notify_all();
    }

    /// Has the thread look at its commands, if it is there.
    fn wake(&self) {
        if let Some(queue) = self.queue.get() {
            queue.wake();
        }
    }

    fn stopped(&self, id: u32, result: Result<(), KafkaError>) {
        if id != 0 {
            self.outlet.done(id, result.map(|()| Value::Null));
        }
    }

    /// One more batch may come.
    pub fn credit(&self) {
        let mut first = false;
        self.tell(|inbox| {
            inbox.credits += 1;
            first = inbox.credits == 1;
        });
        if first {
            self.wake();
        }
    }

    /// JavaScript is done with revoked partitions.
    pub fn revoked(&self) {
        self.tell(|inbox| inbox.revoked = true);
    }

    /// Goes on elsewhere.
    pub fn seek(&self, to: TopicPartition, epoch: u32) {
        self.tell(|inbox| inbox.commands.push_back(Command::Seek(to, epoch)));
        self.wake();
    }

    /// Pauses, or goes on.
    pub fn pause(&self, partitions: Vec<TopicPartition>, paused: bool) {
        self.tell(|inbox| inbox.commands.push_back(Command::Pause(partitions, paused)));
        self.wake();
    }

    /// Leaves the group and ends.
    pub fn stop(&self, id: u32) {
        let mut failed = false;
        self.tell(|inbox| {
            failed = inbox.failed;
            inbox.stopping = true;
            inbox.commands.push_back(Command::Stop(id));
        });
        if failed {
            return self.stopped(id, Ok(()));
        }
        self.wake();
    }
}

/// A consumer that is to begin; if that never comes to pass, it has failed.
pub struct Starting(pub Arc<Poller>);

impl Drop for Starting {
    fn drop(&mut self) {
        if !lock(&self.0.inbox).began {
            self.0.fail();
        }
    }
}

struct Thread {
    poller: Arc<Poller>,
    queue: Queue,
    handle: Handle,
    outlet: Outlet,
    subscription: Subscription,
    revoke_timeout: Duration,
    /// The broker's node id.
    node: i32,
    /// What `seek` said last for each partition.
    epochs: HashMap<(String, i32), u32>,
    /// Where partitions begin that were sought before the group gave any.
    early_seeks: HashMap<(String, i32), i64>,
}

impl Thread {
    fn run(mut self) {
        // An embedded broker is alone: it leads everything. Without an answer events say -1.
        self.node = self.handle.controller_id(REQUEST_TIMEOUT).unwrap_or(-1);
        // In polls, since the last batch.
        let mut waited = Duration::ZERO;
        loop {
            let (command, records) = self.next_command();
            match command {
                Some(Command::Stop(id)) => return self.close(id),
                Some(Command::Seek(to, epoch)) => {
                    self.seek(to, epoch);
                }
                Some(Command::Pause(mut partitions, paused)) => {
                    let result = if paused {
                        self.handle.pause(&mut partitions)
                    } else {
                        self.handle.resume(&mut partitions)
                    };
                    self.told(if paused { "pause" } else { "resume" }, result, &partitions);
                }
                None => {
                    let polling = Instant::now();
                    let event = if records {
                        self.queue.poll(Duration::MAX)
                    } else {
                        // Rebalances don't wait for handlers.
                        self.queue.poll_events(Duration::MAX)
                    };
                    if records {
                        waited += polling.elapsed();
                    }
                    if let Some(event) = event
                        && self.event(event, waited)
                    {
                        waited = Duration::ZERO;
                    }
                }
            }
        }
    }

    fn seek(&mut self, to: TopicPartition, epoch: u32) {
        let key = (to.topic.to_string(), to.partition);
        self.epochs.insert(key.clone(), epoch);
        if self.handle.assignment().is_empty() {
            self.early_seeks.insert(key, to.offset);
            return;
        }
        let mut partitions = [to];
        let result = self.handle.seek(&mut partitions);
        self.told("seek", result, &partitions);
    }

    /// A command, or `None` when it's time to poll; whether there is room for records.
    fn next_command(&self) -> (Option<Command>, bool) {
        let mut inbox = lock(&self.poller.inbox);
        (inbox.commands.pop_front(), inbox.credits > 0)
    }

    /// Tells of a command that failed.
    fn told(&self, what: &str, result: Result<(), KafkaError>, partitions: &[TopicPartition]) {
        let failed = partitions.iter().find(|p| p.error != ErrCode::NO_ERROR);
        let error = result.err().or(failed.map(|p| KafkaError::from(p.error)));
        if let Some(error) = error {
            let message = format!("{what} failed: {}", error.message);
            let error = KafkaError::new(error.code, message);
            self.outlet.event("warning", (&error).into());
        }
    }

    /// Returns whether it was a batch that JavaScript got.
    fn event(&mut self, event: Event, waited: Duration) -> bool {
        match event {
            Event::Fetched(batch) => return self.fetched(batch, waited),
            Event::Rebalance { kind, partitions } => self.rebalance(kind, partitions),
            Event::ConsumerError { error, .. } | Event::Error(error) => {
                self.outlet.event("error", (&error).into());
            }
            Event::Throttle(throttle) => self.outlet.throttle(&throttle),
            _ => {}
        }
        false
    }

    fn fetched(&mut self, mut batch: FetchedBatch, waited: Duration) -> bool {
        let (topic, partition) = (batch.topic().to_string(), batch.partition());
        let rows = batch.record_count();
        let mut table = Vec::with_capacity(rows * COLUMNS);
        let mut timestamps = Vec::with_capacity(rows);
        let mut data = Vec::with_capacity(batch.size_in_bytes());
        let mut first = None;
        let mut damage = None;
        while let Some(record) = batch.next() {
            let record = match record {
                Ok(record) => record,
                Err((_, error)) => {
                    damage = Some(error);
                    continue;
                }
            };
            let first = *first.get_or_insert(record.offset);
            let length = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i32);
            let at = data.len() as i32;
            data.extend_from_slice(record.key.unwrap_or_default());
            data.extend_from_slice(record.value.unwrap_or_default());
            let mut headers = 0;
            for header in record.headers {
                data.extend_from_slice(&(header.key.len() as i32).to_le_bytes());
                data.extend_from_slice(&length(header.value).to_le_bytes());
                data.extend_from_slice(header.key);
                data.extend_from_slice(header.value.unwrap_or_default());
                headers += 1;
            }
            table.extend_from_slice(&[
                at,
                length(record.key),
                length(record.value),
                headers,
                (record.offset - first) as i32,
            ]);
            timestamps.push(record.timestamp as f64);
        }
        if let Some(error) = damage {
            self.outlet.event("error", (&error).into());
        }
        let Some(first) = first else { return false };
        let end = self.handle.watermark_offsets(&topic, partition);
        let epoch = self.epochs.get(&(topic.clone(), partition)).copied();
        lock(&self.poller.inbox).credits -= 1;
        let fields = vec![
            ("topic", Value::Text(topic)),
            ("partition", partition.into()),
            ("epoch", Value::Number(f64::from(epoch.unwrap_or(0)))),
            ("firstOffset", Value::Number(first as f64)),
            ("highWatermark", end.map_or(-1, |(_, high)| high).into()),
            ("data", Value::Bytes(data)),
            ("table", Value::Int32s(table)),
            ("timestamps", Value::Float64s(timestamps)),
            ("waited", Value::Number(waited.as_millis() as f64)),
            ("node", self.node.into()),
        ];
        self.outlet.event("batch", Value::Map(fields));
        true
    }

    fn rebalance(&mut self, kind: RebalanceKind, mut partitions: Vec<TopicPartition>) {
        let is_incremental = self.handle.rebalance_protocol() == "COOPERATIVE";
        if kind == RebalanceKind::Assign {
            self.begin_where_committed(&mut partitions);
            // Before the first batch of these partitions can come.
            self.rebalanced("assign", &partitions);
            for partition in &mut partitions {
                let key = (partition.topic.to_string(), partition.partition);
                if let Some(offset) = self.early_seeks.remove(&key) {
                    partition.offset = offset;
                }
            }
            self.early_seeks.clear();
        } else {
            lock(&self.poller.inbox).revoked = kind == RebalanceKind::Lost;
            self.rebalanced("revoke", &partitions);
            self.wait_for_revoked();
        }
        let result = match (kind, is_incremental) {
            (RebalanceKind::Assign, true) => self.handle.incremental_assign(&partitions),
            (RebalanceKind::Assign, false) => self.handle.assign(&partitions),
            (_, true) => self.handle.incremental_unassign(&partitions),
            (_, false) => self.handle.unassign(),
        };
        if let Err(error) = result {
            self.outlet.event("error", (&error).into());
        }
    }

    /// Sets the offsets where consumption of new partitions begins.
    fn begin_where_committed(&self, partitions: &mut [TopicPartition]) {
        if let Err(error) = self.handle.committed(partitions, REQUEST_TIMEOUT) {
            self.outlet.event("error", (&error).into());
        }
        for partition in partitions {
            partition.error = ErrCode::NO_ERROR;
            if partition.offset < 0 {
                partition.offset = match self.subscription.get(&*partition.topic) {
                    Some(true) => offset::BEGINNING,
                    _ => offset::END,
                };
            }
        }
    }

    fn rebalanced(&self, what: &'static str, partitions: &[TopicPartition]) {
        let group = self.handle.group_metadata();
        let group = group.as_ref();
        let leadership = self.handle.group_leadership();
        let leadership = leadership.as_ref();
        let fields = vec![
            ("partitions", Value::list(partitions)),
            (
                "memberId",
                group.map_or(Value::Null, |g| (&*g.member_id).into()),
            ),
            ("generationId", group.map_or(-1, |g| g.generation).into()),
            (
                "leaderId",
                leadership.map_or(Value::Null, |(leader, _)| (&**leader).into()),
            ),
            (
                "protocol",
                leadership.map_or(Value::Null, |(_, protocol)| (*protocol).into()),
            ),
            ("lost", Value::Bool(self.handle.is_assignment_lost())),
        ];
        self.outlet.event(what, Value::Map(fields));
    }

    fn wait_for_revoked(&self) {
        let until = Instant::now() + self.revoke_timeout;
        let mut inbox = lock(&self.poller.inbox);
        while !inbox.revoked && !inbox.stopping {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.poller.changed.wait_timeout(inbox, left);
            inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn close(self, id: u32) {
        let handle = &self.handle;
        let result = handle.close_consumer_serving(REQUEST_TIMEOUT, &mut |event| {
            if let Event::Rebalance { .. } = event {
                let _ = handle.unassign();
            }
        });
        self.poller.stopped(id, result);
    }
}
