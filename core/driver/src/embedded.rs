//! A broker inside the process: opened once for all handles, driven by whoever calls, and by one thread of its own for timers
//! and syncs.
//!
//! A request runs on the caller's thread under the broker's lock. Answers to the caller come back from the same call; answers to
//! others (a long poll that wakes, a group that is complete) are put into their mailboxes once the lock is free. Syncs are done by
//! the broker's thread: while it waits for the disk, appends go on and share the next one. Where several partitions are to be synced at a
//! time there are more threads for it ([`syncers`]). Logs are compacted by another thread, which is there only while there is something to
//! compact: nobody waits for it.

mod syncers;

use crate::{
    clock::now,
    directory_lock::{DirectoryLock, LockError},
    files::{FileStorage, FileStorageOptions},
    fork,
    network_files::{network_file_system, refusal},
};
use ottla_broker::{
    Broker, BrokerConfig, BrokerError, BrokerMetrics, CompactionId, CompactionJob, ConnId,
    Durability, Endpoint, Output, RemovalJob, RequestEnvelope, SyncId,
};
use ottla_log::{MemoryStorage, Storage, StorageError, StorageErrorKind, SyncJob};
use ottla_protocol::{Request, Response};
use ottla_record::Codecs;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt, fs, io,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use syncers::Syncers;

/// Bytes of records from which on an append takes much longer than it takes to give the broker's lock away and get it back: some
/// microseconds against a tenth of one.
const WORTH_LENDING: usize = 1 << 10;

/// Which broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// In memory, by name; the name may be empty.
    Memory(String),
    /// On a directory.
    Directory(PathBuf),
}

/// Why a broker can't be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The directory can't be made or read.
    Directory(PathBuf, io::Error),
    /// Somebody else has it, or it can't be locked.
    Lock(LockError),
    /// What is in it can't be used.
    Broker(BrokerError),
    /// No thread could be started.
    Thread(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Lock(error) => error.fmt(f),
            Self::Broker(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "a thread can't be started: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// An answer of the broker.
pub(crate) struct Answer {
    /// The request's.
    pub(crate) correlation_id: i32,
    /// The version to encode with.
    pub(crate) api_version: i16,
    pub(crate) response: Response,
    /// How long the connection is to be left unread after it, in milliseconds: the client has used up a quota (KIP-219).
    pub(crate) mute_ms: u32,
}

/// Where answers go that come later, or because of somebody else's request. Must be quick and must not call the broker.
pub(crate) trait Mailbox: Send + Sync {
    /// An answer.
    fn deliver(&self, answer: Answer);
    /// The connection is closed from the broker's side.
    fn disconnected(&self);
    /// Nothing more is to be handed in for so many milliseconds, since the client used up a quota with what has no answer.
    fn mute(&self, _throttle_ms: u32) {}
    /// Something is wrong with the broker that people should know of. Comes on a thread of the broker's.
    fn warn(&self, text: &str);
}

/// Somebody with requests of many connections, who takes their answers himself. Called with the broker locked: must be quick and
/// must not call the broker.
pub(crate) trait Caller {
    /// The next request, or `None` if that is all for now.
    fn next_request(&mut self) -> Option<(ConnId, RequestEnvelope)>;
    /// An answer for a connection, which may be one of the caller's; else it comes back and goes to the mailbox.
    fn take_answer(&mut self, conn: ConnId, answer: Answer) -> Option<Answer>;
    /// Nothing more of this connection is to be handed in for so many milliseconds. False if it isn't one of the caller's.
    fn mute(&mut self, conn: ConnId, throttle_ms: u32) -> bool;
    /// Microseconds that the caller's thread spent on a connection since it was asked last.
    fn take_time_used(&mut self, conn: ConnId) -> u64;
    /// The request that was handed in last made the broker panic.
    fn panicked(&mut self, conn: ConnId);
}

/// A broker that is open in this process. A clone is the same one; with the last the broker closes.
#[derive(Clone)]
pub struct EmbeddedBroker {
    open: Arc<Open>,
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EmbeddedBroker")
            .field(&self.open.place)
            .finish()
    }
}

/// What the last handle closes.
struct Open {
    place: Place,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<DirectoryLock>>,
    generation: u32,
}

/// What the broker's thread has, too.
struct Shared {
    state: Mutex<State>,
    /// For the broker's thread: there is something to do before it would look.
    wake: Condvar,
    /// For the syncers: there is something on the list. And for who waits for their end.
    syncers_wake: Condvar,
    /// Whether several syncs are made at a time: somebody waits for each.
    syncs_side_by_side: bool,
    /// All partitions that were lent are back.
    back: Condvar,
    /// What those who append without the lock compress and decompress with.
    codecs: Mutex<Vec<Codecs>>,
    mailboxes: Mutex<HashMap<ConnId, Arc<dyn Mailbox>>>,
    next_connection: AtomicU64,
}

struct State {
    broker: Broker,
    /// Connections of which nothing is to be read for so many milliseconds.
    mutes: Vec<(ConnId, u32)>,
    /// Syncs that nobody has begun yet.
    syncs: VecDeque<(SyncId, SyncJob)>,
    syncers: Syncers,
    /// The compaction that is to go on.
    compaction: Option<(CompactionId, CompactionJob)>,
    /// What deleted topics have left, for the same thread.
    removals: Vec<RemovalJob>,
    /// Whether there is a thread that looks for them.
    cleans: bool,
    cleaner: Option<JoinHandle<()>>,
    /// Until when the thread sleeps at most, in monotonic microseconds.
    sleeps_until: u64,
    closing: bool,
    /// Those who wait for [`Shared::back`].
    waiting: usize,
}

/// The one static of the library: brokers that are open, so that handles share them.
struct Registry {
    brokers: Mutex<BTreeMap<Place, Weak<Open>>>,
    /// Told when one is closed.
    closed: Condvar,
    /// The registry of a forked child. Its copy of this one has the parent's brokers, and may be locked by a thread that isn't there.
    of_child: OnceLock<Box<Registry>>,
}

impl Registry {
    const fn new() -> Self {
        Self {
            brokers: Mutex::new(BTreeMap::new()),
            closed: Condvar::new(),
            of_child: OnceLock::new(),
        }
    }
}

/// The registry of this process.
fn registry() -> &'static Registry {
    static FIRST: Registry = Registry::new();
    (0..fork::generation()).fold(&FIRST, |registry, _| {
        registry.of_child.get_or_init(|| Box::new(Registry::new()))
    })
}

/// The lock, even if a thread panicked while it had it: whoever panics poisons its machine itself.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EmbeddedBroker {
    /// Opens the broker at a place, or joins those that have it open in this process; `config` counts for the first.
    ///
    /// A directory is created if it doesn't exist. In memory [`Durability::Os`] is what there is.
    pub fn open(place: &Place, mut config: BrokerConfig) -> Result<Self, OpenError> {
        let place = match place {
            Place::Memory(_) => {
                config.durability = Durability::Os;
                // Readers share the memory; nothing has to be kept for them.
                config.topic_defaults.file_delete_delay_ms = 0;
                place.clone()
            }
            Place::Directory(dir) => Place::Directory(make_directory(dir)?),
        };
        let registry = registry();
        let mut brokers = lock(&registry.brokers);
        while let Some(known) = brokers.get(&place) {
            match known.upgrade() {
                Some(open) => return Ok(Self { open }),
                // Its last handle is gone, and whoever dropped it is about to close it.
                None => {
                    let wait = registry
                        .closed
                        .wait_timeout(brokers, Duration::from_millis(100));
                    brokers = wait.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        let open = Arc::new(Open::new(place.clone(), config)?);
        brokers.insert(place, Arc::downgrade(&open));
        Ok(Self { open })
    }

    /// Gives this handle back and, if it is the last, closes the broker. Whether it was.
    ///
    /// # Errors
    /// The close was not clean: the next opening recovers. Dropping does the same, but can't say so.
    pub fn close(self) -> Result<bool, BrokerError> {
        match Arc::into_inner(self.open) {
            Some(open) => open.shut().map(|()| true),
            None => Ok(false),
        }
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.open.place
    }

    /// The partitions of whose logs something is damaged, as [`Broker::damaged_bytes`]: topic, number, bytes.
    pub fn damaged_bytes(&self) -> Vec<(String, i32, u64)> {
        let state = self.open.shared.lock();
        let damaged = state.broker.damaged_bytes();
        damaged
            .map(|(topic, number, bytes)| (topic.to_string(), number, bytes))
            .collect()
    }

    /// A new connection; answers that don't come from [`Self::request`] itself go to the mailbox.
    pub(crate) fn connect(&self, host: &str, mailbox: Arc<dyn Mailbox>) -> ConnId {
        let shared = &self.open.shared;
        let conn = ConnId(shared.next_connection.fetch_add(1, Relaxed));
        lock(&shared.mailboxes).insert(conn, mailbox);
        shared.lock().broker.handle_connect(now(), conn, host);
        conn
    }

    /// A connection for the broker's warnings only.
    pub(crate) fn watch(&self, mailbox: Arc<dyn Mailbox>) -> ConnId {
        let endpoint = Endpoint {
            host: "localhost".into(),
            port: 0,
        };
        self.accept("", None, endpoint, |_| mailbox)
    }

    /// A new connection from this address, which came to a listener that clients are told to reach at `endpoint`.
    pub(crate) fn accept(
        &self,
        host: &str,
        port: Option<u16>,
        endpoint: Endpoint,
        mailbox: impl FnOnce(ConnId) -> Arc<dyn Mailbox>,
    ) -> ConnId {
        let shared = &self.open.shared;
        let conn = ConnId(shared.next_connection.fetch_add(1, Relaxed));
        lock(&shared.mailboxes).insert(conn, mailbox(conn));
        let mut state = shared.lock();
        let broker = &mut state.broker;
        broker.handle_accept(now(), conn, host, port, endpoint);
        shared.settle(state, &mut |_, answer| Some(answer));
        conn
    }

    /// Whether somebody may connect from this address now. If not, after how many milliseconds to close the connection.
    pub(crate) fn connection_throttle_ms(&self, address: IpAddr) -> Option<u32> {
        let mut state = self.open.shared.lock();
        state.broker.connection_throttle_ms(now(), address)
    }

    /// What there is to measure.
    pub fn metrics(&self) -> BrokerMetrics {
        self.open.shared.lock().broker.metrics()
    }

    /// The connection is no longer used.
    pub(crate) fn disconnect(&self, conn: ConnId) {
        let shared = &self.open.shared;
        lock(&shared.mailboxes).remove(&conn);
        let mut state = shared.lock();
        state.broker.handle_disconnect(now(), conn);
        shared.settle(state, &mut |_, answer| Some(answer));
    }

    /// Hands a request to the broker, on this thread. `answer` gets the answers for this connection that are there at once.
    pub(crate) fn request(
        &self,
        conn: ConnId,
        envelope: RequestEnvelope,
        answer: &mut dyn FnMut(i32, Response),
    ) {
        let shared = &self.open.shared;
        let (state, handled) = shared.handle(lock(&shared.state), conn, envelope);
        if let Err(panic) = handled {
            drop(state);
            resume_unwind(panic);
        }
        shared.settle(state, &mut |to, given| {
            if to != conn {
                return Some(given);
            }
            answer(given.correlation_id, given.response);
            None
        });
    }

    /// Hands in all requests that a caller has, on this thread and in one go. Answers of its connections that are there at once
    /// come back before the next request is asked for. Whether the caller is to measure the time that it spends on connections; `None`
    /// if it had no request.
    pub(crate) fn request_all(&self, caller: &mut dyn Caller) -> Option<bool> {
        let shared = &self.open.shared;
        let (mut conn, mut envelope) = caller.next_request()?;
        let mut later = Vec::new();
        let mut state = lock(&shared.state);
        let mut measures = state.broker.limits_request_time();
        loop {
            let began = now();
            let handled;
            (state, handled) = shared.handle(state, conn, envelope);
            if handled.is_err() {
                caller.panicked(conn);
            }
            let broker = &mut state.broker;
            // The time of the request that made the quota isn't known; that of the one that removed it doesn't matter.
            if measures && broker.limits_request_time() {
                let ended = now();
                let used_us = ended.mono_us.saturating_sub(began.mono_us);
                broker.handle_time_used(ended, conn, used_us + caller.take_time_used(conn));
            }
            measures = broker.limits_request_time();
            let mut take = |to, answer| caller.take_answer(to, answer);
            shared.collect(&mut state, &mut later, &mut take);
            state.mutes.retain(|&(conn, ms)| !caller.mute(conn, ms));
            match caller.next_request() {
                Some(next) => (conn, envelope) = next,
                None => break,
            }
        }
        shared.finish(state, later);
        Some(measures)
    }
}

/// What there is to do once the broker's lock is free.
enum Later {
    Answer(Arc<dyn Mailbox>, Answer),
    Disconnect(Arc<dyn Mailbox>),
    Mute(Arc<dyn Mailbox>, u32),
    Warn(Vec<Arc<dyn Mailbox>>, String),
}

impl Shared {
    /// The broker's lock, with all partitions there: nobody amid an append has one with him.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.all_back(lock(&self.state))
    }

    /// Waits until nothing is lent. Whoever comes with more to append meanwhile waits, too.
    fn all_back<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while state.broker.has_lent() {
            state.waiting += 1;
            let back = self.back.wait(state);
            state = back.unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state
    }

    /// Hands a request in. What a large produce appends is appended without the lock, so that others may append to other partitions
    /// at the same time. An error is a panic of the broker's.
    // The closure that may panic gives the request back.
    #[allow(clippy::result_large_err)]
    fn handle<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        conn: ConnId,
        envelope: RequestEnvelope,
    ) -> (MutexGuard<'a, State>, thread::Result<()>) {
        if state.waiting > 0 || state.broker.wants_all_back() {
            state = self.all_back(state);
        }
        let broker = &mut state.broker;
        let begun = catch_unwind(AssertUnwindSafe(|| match is_worth_lending(&envelope) {
            true => broker.begin_produce(now(), conn, envelope),
            false => Err(envelope),
        }));
        let mut job = match begun {
            Ok(Ok(job)) => job,
            Ok(Err(envelope)) => {
                state = self.all_back(state);
                let broker = &mut state.broker;
                let handled = catch_unwind(AssertUnwindSafe(|| {
                    broker.handle_request(now(), conn, envelope);
                }));
                return (state, handled);
            }
            Err(panic) => return (state, Err(panic)),
        };
        drop(state);
        let mut codecs = lock(&self.codecs).pop().unwrap_or_default();
        let ran = catch_unwind(AssertUnwindSafe(|| job.run(&mut codecs)));
        lock(&self.codecs).push(codecs);
        let mut state = lock(&self.state);
        let broker = &mut state.broker;
        let ended = catch_unwind(AssertUnwindSafe(|| broker.handle_appended(now(), job)));
        if state.waiting > 0 && !state.broker.has_lent() {
            self.back.notify_all();
        }
        (state, ran.and(ended))
    }

    /// Does what the broker wants, after an input: answers, syncs, a new deadline for its thread. Frees the lock before anything
    /// goes to others.
    fn settle(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        take: &mut dyn FnMut(ConnId, Answer) -> Option<Answer>,
    ) {
        let mut later = Vec::new();
        self.collect(&mut state, &mut later, take);
        self.finish(state, later);
    }

    /// Takes what the broker wants. Answers are offered to `take`; those that it gives back are for others.
    fn collect(
        &self,
        state: &mut State,
        later: &mut Vec<Later>,
        take: &mut dyn FnMut(ConnId, Answer) -> Option<Answer>,
    ) {
        while let Some(output) = state.broker.poll_output() {
            match output {
                Output::Respond {
                    conn,
                    correlation_id,
                    api_version,
                    response,
                } => {
                    let answer = Answer {
                        correlation_id,
                        api_version,
                        mute_ms: ottla_broker::throttle_ms(&response),
                        response,
                    };
                    if let Some(answer) = take(conn, answer) {
                        let mailbox = lock(&self.mailboxes).get(&conn).cloned();
                        later.extend(mailbox.map(|mailbox| Later::Answer(mailbox, answer)));
                    }
                }
                Output::Mute { conn, throttle_ms } => state.mutes.push((conn, throttle_ms)),
                Output::Sync { id, job } => state.syncs.push_back((id, job)),
                Output::Compact { id, job } => state.compaction = Some((id, job)),
                Output::Remove { job } => state.removals.push(job),
                Output::Warn(text) => {
                    let all = lock(&self.mailboxes).values().cloned().collect();
                    later.push(Later::Warn(all, text));
                }
                Output::Disconnect(conn) => {
                    let mailbox = lock(&self.mailboxes).remove(&conn);
                    later.extend(mailbox.map(Later::Disconnect));
                }
            }
        }
    }

    /// Sees that the broker's threads do what they have to, frees the lock, and gives others what is theirs.
    fn finish(self: &Arc<Self>, mut state: MutexGuard<'_, State>, mut later: Vec<Later>) {
        for (conn, throttle_ms) in state.mutes.drain(..) {
            let mailbox = lock(&self.mailboxes).get(&conn).cloned();
            later.extend(mailbox.map(|mailbox| Later::Mute(mailbox, throttle_ms)));
        }
        let has_work = state.compaction.is_some() || !state.removals.is_empty();
        if has_work && !state.cleans && !state.closing {
            self.start_cleaner(&mut state);
        }
        let due = state.broker.poll_timeout().unwrap_or(u64::MAX);
        let asleep = state.sleeps_until > 0;
        let wake = asleep && (!state.syncs.is_empty() || due < state.sleeps_until);
        if wake {
            // It is as good as up: nobody has to wake it again.
            state.sleeps_until = 0;
        }
        self.call_syncers(&mut state);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        for one in later {
            match one {
                Later::Answer(mailbox, answer) => mailbox.deliver(answer),
                Later::Disconnect(mailbox) => mailbox.disconnected(),
                Later::Mute(mailbox, throttle_ms) => mailbox.mute(throttle_ms),
                Later::Warn(mailboxes, text) => {
                    mailboxes.iter().for_each(|mailbox| mailbox.warn(&text));
                }
            }
        }
    }

    /// Starts a thread for the compaction, or the removal, that waits.
    fn start_cleaner(self: &Arc<Self>, state: &mut State) {
        let of_thread = self.clone();
        let thread = thread::Builder::new()
            .name("ottla-cleaner".into())
            .spawn(move || of_thread.run_cleaner());
        // Without a thread logs grow until one can be started: the next output tries again.
        if let Ok(thread) = thread {
            state.cleans = true;
            state.cleaner = Some(thread);
        }
    }

    /// The cleaner's thread: removes and compacts until there is nothing to do at once.
    fn run_cleaner(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            let removals = std::mem::take(&mut state.removals);
            if !removals.is_empty() {
                drop(state);
                let removed: Vec<_> = removals.into_iter().map(RemovalJob::run).collect();
                let mut state = self.lock();
                for one in removed {
                    state.broker.handle_removed(one);
                }
                self.settle(state, &mut |_, answer| Some(answer));
                continue;
            }
            let Some((id, job)) = state.compaction.take().filter(|_| !state.closing) else {
                state.cleans = false;
                return;
            };
            drop(state);
            let step = job.run();
            let mut state = self.lock();
            state.broker.handle_compacted(now(), id, step);
            self.settle(state, &mut |_, answer| Some(answer));
        }
    }

    /// The broker's thread: timers, and syncs that others wait for.
    fn run(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            let now_us = now().mono_us;
            if !state.syncs.is_empty() {
                drop(state);
                self.sync_one();
                continue;
            }
            if state.closing {
                return;
            }
            let due = state.broker.poll_timeout().unwrap_or(u64::MAX);
            if due <= now_us {
                state.broker.handle_timeout(now());
                self.settle(state, &mut |_, answer| Some(answer));
                continue;
            }
            state.sleeps_until = due;
            let sleep = Duration::from_micros((due - now_us).min(3_600_000_000));
            let mut state = self
                .wake
                .wait_timeout(state, sleep)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            // Awake: whoever has something earlier need not wake it again.
            state.sleeps_until = 0;
        }
    }
}

/// Whether a request appends so much that others should have the broker meanwhile.
fn is_worth_lending(envelope: &RequestEnvelope) -> bool {
    let Request::Produce(request) = &envelope.request else {
        return false;
    };
    let topics = request.topic_data.iter();
    let data = topics.flat_map(|topic| &topic.partition_data);
    data.map(|data| data.records.len()).sum::<usize>() >= WORTH_LENDING
}

impl Open {
    fn new(place: Place, mut config: BrokerConfig) -> Result<Self, OpenError> {
        let (storage, lock): (Arc<dyn Storage>, _) = match &place {
            Place::Memory(_) => (Arc::new(MemoryStorage::new()), None),
            Place::Directory(dir) => {
                let network = network_file_system(dir);
                if let Some(kind) = network.as_deref()
                    && !config.allow_network_file_system
                {
                    return Err(OpenError::Directory(dir.clone(), refusal(kind)));
                }
                let lock = DirectoryLock::take(dir).map_err(OpenError::Lock)?;
                config.log_dir = dir.display().to_string().into();
                let options = FileStorageOptions {
                    // Another machine may cut a file short: that must be an error, not a signal.
                    map_files: network.is_none(),
                    ..FileStorageOptions::default()
                };
                let storage = FileStorage::with_options(dir, options);
                (Arc::new(storage), Some(lock))
            }
        };
        let syncs_side_by_side = config.durability == Durability::Fsync;
        let broker = Broker::open(config, storage, now(), entropy()).map_err(OpenError::Broker)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                broker,
                mutes: Vec::new(),
                syncs: VecDeque::new(),
                syncers: Syncers::new(),
                compaction: None,
                removals: Vec::new(),
                cleans: false,
                cleaner: None,
                sleeps_until: 0,
                closing: false,
                waiting: 0,
            }),
            wake: Condvar::new(),
            syncers_wake: Condvar::new(),
            syncs_side_by_side,
            back: Condvar::new(),
            codecs: Mutex::new(Vec::new()),
            mailboxes: Mutex::new(HashMap::new()),
            next_connection: AtomicU64::new(1),
        });
        let of_thread = shared.clone();
        let thread = thread::Builder::new()
            .name("ottla-broker".into())
            .spawn(move || of_thread.run())
            .map_err(OpenError::Thread)?;
        Ok(Self {
            place,
            shared,
            thread: Mutex::new(Some(thread)),
            lock: Mutex::new(lock),
            generation: fork::generation(),
        })
    }
}

impl Open {
    /// Ends the threads and closes the broker; a second time nothing happens.
    fn shut(&self) -> Result<(), BrokerError> {
        if fork::is_forked_since(self.generation) {
            return Ok(()); // the parent's thread, files and lock
        }
        crate::embedded::lock(&self.shared.state).closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = crate::embedded::lock(&self.thread).take() {
            let _ = thread.join();
        }
        self.shared.end_syncers();
        let cleaner = crate::embedded::lock(&self.shared.state).cleaner.take();
        if let Some(cleaner) = cleaner {
            let _ = cleaner.join();
        }
        let mut state = self.shared.lock();
        for job in std::mem::take(&mut state.removals) {
            state.broker.handle_removed(job.run());
        }
        let closed = state.broker.close(now());
        drop(state);
        drop(crate::embedded::lock(&self.lock).take());
        let registry = registry();
        crate::embedded::lock(&registry.brokers).retain(|_, open| open.strong_count() > 0);
        registry.closed.notify_all();
        closed
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // An error here means an unclean stop: the next opening recovers.
        let _ = self.shut();
    }
}

/// Creates a directory durably, and gives its real path.
fn make_directory(dir: &Path) -> Result<PathBuf, OpenError> {
    let failed = |error| OpenError::Directory(dir.to_path_buf(), error);
    if !dir.exists() {
        fs::create_dir_all(dir).map_err(failed)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(failed)?;
        }
    }
    let path = dir.canonicalize().map_err(failed)?;
    if path.is_dir() {
        Ok(path)
    } else {
        Err(failed(io::ErrorKind::NotADirectory.into()))
    }
}

/// A seed from the system.
pub(crate) fn entropy() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(now().mono_us);
    hasher.finish()
}

/// What a broker's failure is to a client.
impl OpenError {
    /// Whether somebody else has the directory.
    pub fn is_owned(&self) -> bool {
        matches!(self, Self::Lock(LockError::Owned { .. }))
    }

    /// The storage's error, if that is what it is.
    pub fn storage(&self) -> Option<&StorageError> {
        match self {
            Self::Broker(BrokerError::Storage(error))
                if error.kind != StorageErrorKind::Invalid =>
            {
                Some(error)
            }
            _ => None,
        }
    }
}
