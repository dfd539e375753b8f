//! A client on an embedded broker, driven by whoever calls.
//!
//! The client machine lies behind a mutex. A call locks it, runs its command, and carries what comes of it: requests go straight
//! into the broker and answers straight back, on the same thread, until nothing is left to do. Answers that come later lie in a
//! mailbox; whoever waits takes them out: a thread in [`Handle::wait`] if there is one, else the handle's own.
//!
//! A thread that waits is told by a counter ([`Signal`]): it remembers the count, looks whether there is anything for it, and sleeps
//! only if the count hasn't changed meanwhile.

use crate::{
    clock::now,
    embedded::{EmbeddedBroker, Mailbox, entropy, lock},
    fork,
};
use ottla_broker::{ConnId as BrokerConn, RequestEnvelope};
use ottla_client::{Client, ClientConfig, ConnId, ErrCode, Event, KafkaError, Output};
use ottla_protocol::{Response, Str};
use ottla_record::Now;
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Gets the client's events, with the client locked: it must only put them somewhere.
pub trait EventSink: Send + Sync {
    /// An event.
    fn event(&self, event: Event);
    /// There is something to consume ([`Client::poll_consumed`]) that was not there before.
    fn consumable(&self);
    /// When [`Self::handle_timeout`] is due, in monotonic microseconds.
    fn poll_timeout(&self) -> Option<u64> {
        None
    }
    /// It may be time for what the application wants at intervals.
    fn handle_timeout(&self, _client: &Client, _now_us: u64) {}
}

/// A client with its connections. A clone is the same one.
#[derive(Clone)]
pub struct Handle {
    running: Arc<Running>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("broker", &self.running.core.broker)
            .finish_non_exhaustive()
    }
}

/// What the last clone stops.
struct Running {
    core: Arc<Core>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Core {
    machine: Mutex<Machine>,
    mail: Arc<Mail>,
    broker: EmbeddedBroker,
    sink: Arc<dyn EventSink>,
    client_id: Option<Str>,
    /// When the background thread wakes up by itself, in monotonic microseconds.
    sleeps_until: AtomicU64,
    stopping: AtomicBool,
    /// A machine has panicked: nothing works any more.
    broken: AtomicBool,
    generation: u32,
}

struct Machine {
    client: Client,
    connections: HashMap<ConnId, BrokerConn>,
    had_consumable: bool,
}

/// What came from the broker by other threads.
struct Mail {
    letters: Mutex<Vec<Letter>>,
    /// Whether there are any; looked at without the lock.
    any: AtomicBool,
    signal: Signal,
}

enum Letter {
    Answer(ConnId, i32, Response),
    Disconnected(ConnId),
}

/// Wakes those who wait.
struct Signal {
    state: Mutex<SignalState>,
    application: Condvar,
    background: Condvar,
}

#[derive(Default)]
struct SignalState {
    count: u64,
    /// Threads of the application that wait.
    waiting: usize,
}

impl Signal {
    fn new() -> Self {
        Self {
            state: Mutex::default(),
            application: Condvar::new(),
            background: Condvar::new(),
        }
    }

    fn count(&self) -> u64 {
        lock(&self.state).count
    }

    /// Something has come: one of the application's threads sees to it if any waits, else the background thread.
    fn raise(&self) {
        let mut state = lock(&self.state);
        state.count += 1;
        let waiting = state.waiting;
        drop(state);
        if waiting > 0 {
            self.application.notify_all();
        } else {
            self.background.notify_one();
        }
    }

    /// Something is there that only the application can take.
    fn raise_for_application(&self) {
        let mut state = lock(&self.state);
        state.count += 1;
        if state.waiting > 0 {
            self.application.notify_all();
        }
    }

    /// Waits until the count is no longer `seen`, or until it is `until_us`.
    fn wait(&self, seen: u64, until_us: u64, application: bool) {
        let mut state = lock(&self.state);
        let condition = if application {
            &self.application
        } else {
            &self.background
        };
        state.waiting += usize::from(application);
        while state.count == seen {
            let now_us = now().mono_us;
            if now_us >= until_us {
                break;
            }
            let time = Duration::from_micros((until_us - now_us).min(3_600_000_000));
            state = condition
                .wait_timeout(state, time)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            if !application {
                break; // it may have been woken for an earlier deadline
            }
        }
        state.waiting -= usize::from(application);
    }
}

/// The mailbox of one connection.
struct Letterbox {
    conn: ConnId,
    mail: Arc<Mail>,
}

impl Mailbox for Letterbox {
    fn deliver(&self, correlation_id: i32, response: Response) {
        self.mail
            .put(Letter::Answer(self.conn, correlation_id, response));
    }

    fn disconnected(&self) {
        self.mail.put(Letter::Disconnected(self.conn));
    }
}

impl Mail {
    fn put(&self, letter: Letter) {
        lock(&self.letters).push(letter);
        self.any.store(true, Release);
        self.signal.raise();
    }

    fn take(&self) -> Vec<Letter> {
        if !self.any.load(Acquire) {
            return Vec::new();
        }
        let mut letters = lock(&self.letters);
        self.any.store(false, Release);
        std::mem::take(&mut *letters)
    }
}

impl Handle {
    /// Starts a client on a broker.
    pub fn new(
        config: ClientConfig,
        broker: EmbeddedBroker,
        sink: Arc<dyn EventSink>,
    ) -> Result<Self, KafkaError> {
        let client_id = Some(config.client_id.clone());
        let client = Client::new(config, now(), entropy())?;
        let core = Arc::new(Core {
            machine: Mutex::new(Machine {
                client,
                connections: HashMap::new(),
                had_consumable: false,
            }),
            mail: Arc::new(Mail {
                letters: Mutex::default(),
                any: AtomicBool::new(false),
                signal: Signal::new(),
            }),
            broker,
            sink,
            client_id,
            sleeps_until: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            generation: fork::generation(),
        });
        let of_thread = core.clone();
        let thread = thread::Builder::new()
            .name("ottla-client".into())
            .spawn(move || of_thread.background())
            .map_err(|error| {
                KafkaError::new(
                    ErrCode::CRIT_SYS_RESOURCE,
                    format!("a thread can't be started: {error}"),
                )
            })?;
        Ok(Self {
            running: Arc::new(Running {
                core,
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// Runs a command on the client, and everything that follows from it.
    ///
    /// Fails with `_STATE` in a forked child, and with `_FATAL` after a machine has panicked.
    pub fn with<R>(&self, command: impl FnOnce(&mut Client, Now) -> R) -> Result<R, KafkaError> {
        self.running.core.with(command)
    }

    /// The hot path of producing: `command` returns whether more than the client has to be looked at.
    #[inline]
    pub fn with_quickly<R>(
        &self,
        command: impl FnOnce(&mut Client, Now) -> Result<(bool, R), KafkaError>,
    ) -> Result<R, KafkaError> {
        let core = &*self.running.core;
        core.check()?;
        let mut machine = lock(&core.machine);
        let (more, result) = command(&mut machine.client, now())?;
        if more || core.mail.any.load(Relaxed) {
            core.carry(&mut machine);
        } else if machine
            .client
            .producer_due()
            .is_some_and(|due| due < core.sleeps_until.load(Relaxed))
        {
            core.plan(&machine);
        }
        Ok(result)
    }

    /// Takes what has come, does what is due.
    pub fn step(&self) -> Result<(), KafkaError> {
        self.with(|_, _| ())
    }

    /// The count for [`Handle::wait`]: read it before looking for what to wait for.
    pub fn signal_count(&self) -> u64 {
        self.running.core.mail.signal.count()
    }

    /// Waits until something has happened since `seen`, or something is due, or it is `until_us` (monotonic microseconds).
    pub fn wait(&self, seen: u64, until_us: u64) {
        let core = &*self.running.core;
        if core.check().is_err() {
            return;
        }
        let due = core.due(&lock(&core.machine));
        core.mail.signal.wait(seen, until_us.min(due), true);
    }

    /// Wakes whoever waits.
    pub fn wake(&self) {
        self.running.core.mail.signal.raise_for_application();
    }

    /// The broker.
    pub fn broker(&self) -> &EmbeddedBroker {
        &self.running.core.broker
    }

    /// Whether this process is a child of the one that made the handle.
    pub fn is_forked(&self) -> bool {
        fork::is_forked_since(self.running.core.generation)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if fork::is_forked_since(self.core.generation) {
            return; // threads and connections are the parent's
        }
        self.core.stopping.store(true, Release);
        self.core.mail.signal.raise();
        self.core.mail.signal.background.notify_one();
        if let Some(thread) = lock(&self.thread).take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
        let connections = std::mem::take(&mut lock(&self.core.machine).connections);
        connections
            .into_values()
            .for_each(|conn| self.core.broker.disconnect(conn));
    }
}

impl Core {
    #[inline]
    fn check(&self) -> Result<(), KafkaError> {
        if fork::is_forked_since(self.generation) {
            let message = "this handle belongs to the parent process; make a new one after fork()";
            return Err(KafkaError::new(ErrCode::STATE, message).into_fatal());
        }
        if self.broken.load(Relaxed) {
            let message =
                "the client has failed because of a bug; make a new handle, and please report it";
            return Err(KafkaError::new(ErrCode::FATAL, message).into_fatal());
        }
        Ok(())
    }

    fn with<R>(&self, command: impl FnOnce(&mut Client, Now) -> R) -> Result<R, KafkaError> {
        self.check()?;
        let mut machine = lock(&self.machine);
        let result = command(&mut machine.client, now());
        self.carry(&mut machine);
        Ok(result)
    }

    /// Carries what the client wants to the broker and what comes of it back, until there is nothing left.
    fn carry(&self, machine: &mut Machine) {
        let guard = Breaks(&self.broken);
        loop {
            let mut any = false;
            for letter in self.mail.take() {
                any = true;
                match letter {
                    Letter::Answer(conn, correlation_id, response) => {
                        machine
                            .client
                            .handle_response(now(), conn, correlation_id, response);
                    }
                    Letter::Disconnected(conn) => {
                        machine.connections.remove(&conn);
                        let reason =
                            KafkaError::new(ErrCode::TRANSPORT, "the broker closed the connection");
                        machine.client.handle_disconnected(now(), conn, reason);
                    }
                }
            }
            while let Some(output) = machine.client.poll_output() {
                any = true;
                self.act(machine, output);
            }
            let due = machine.client.poll_timeout().unwrap_or(u64::MAX);
            let time = now();
            if due <= time.mono_us {
                machine.client.handle_timeout(time);
                any |= machine.client.poll_timeout() != Some(due);
            }
            if !any {
                break;
            }
        }
        let mut told = false;
        let now_us = now().mono_us;
        if self.sink.poll_timeout().is_some_and(|due| due <= now_us) {
            self.sink.handle_timeout(&machine.client, now_us);
            told = true;
        }
        while let Some(event) = machine.client.poll_event() {
            self.sink.event(event);
            told = true;
        }
        let consumable = machine.client.has_consumed();
        if consumable && !machine.had_consumable {
            self.sink.consumable();
            told = true;
        }
        machine.had_consumable = consumable;
        if told {
            self.mail.signal.raise_for_application();
        }
        self.plan(machine);
        std::mem::forget(guard);
    }

    /// When something is due.
    fn due(&self, machine: &Machine) -> u64 {
        machine
            .client
            .poll_timeout()
            .into_iter()
            .chain(self.sink.poll_timeout())
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Wakes the background thread if it sleeps for too long.
    fn plan(&self, machine: &Machine) {
        let due = self.due(machine);
        if due < self.sleeps_until.load(Relaxed) {
            self.sleeps_until.store(due, Relaxed);
            self.mail.signal.background.notify_one();
        }
    }

    fn act(&self, machine: &mut Machine, output: Output) {
        match output {
            Output::Connect { conn, .. } => {
                let mailbox = Arc::new(Letterbox {
                    conn,
                    mail: self.mail.clone(),
                });
                let broker_conn = self.broker.connect("127.0.0.1", mailbox);
                machine.connections.insert(conn, broker_conn);
                machine.client.handle_connected(now(), conn);
            }
            Output::Send {
                conn,
                correlation_id,
                api_version,
                request,
            } => {
                let Some(broker_conn) = machine.connections.get(&conn).copied() else {
                    return;
                };
                let envelope = RequestEnvelope {
                    correlation_id,
                    api_version,
                    client_id: self.client_id.clone(),
                    request,
                };
                let client = &mut machine.client;
                self.broker
                    .request(broker_conn, envelope, &mut |correlation_id, response| {
                        client.handle_response(now(), conn, correlation_id, response);
                    });
            }
            Output::Disconnect { conn } => {
                if let Some(broker_conn) = machine.connections.remove(&conn) {
                    self.broker.disconnect(broker_conn);
                }
            }
        }
    }

    /// The handle's own thread: what is due while nobody calls.
    fn background(&self) {
        while !self.stopping.load(Acquire) {
            let seen = self.mail.signal.count();
            if self.with(|_, _| ()).is_err() {
                return;
            }
            let due = self.due(&lock(&self.machine));
            self.sleeps_until.store(due, Relaxed);
            if self.stopping.load(Acquire) {
                return;
            }
            self.mail.signal.wait(seen, due, false);
            self.sleeps_until.store(0, Relaxed);
        }
    }
}

/// Marks the handle as broken if a machine panics; forgotten when it doesn't.
struct Breaks<'a>(&'a AtomicBool);

impl Drop for Breaks<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
