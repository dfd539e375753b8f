//! A client on an embedded broker, driven by whoever calls.
//!
//! The client machine lies behind a mutex. A call locks it, runs its command, and carries what comes of it: requests go straight
//! into the broker and answers straight back, on the same thread, until nothing is left to do. Answers that come later lie in a
//! mailbox; whoever waits takes them out: a thread in [`Handle::wait`] if there is one, else the handle's own.
//!
//! A thread that waits is told by a counter ([`Handle::signal_count`]): it remembers the count, looks whether there is anything for it,
//! and sleeps only if the count hasn't changed meanwhile.

use crate::{
    clock::{RunClock, now},
    connection::Connection,
    embedded::{Answer, EmbeddedBroker, Mailbox, entropy, lock},
    fork,
    mailbox::{Letter, Mail},
};
use ottla_broker::RequestEnvelope;
use ottla_client::{Client, ClientConfig, ConnId, ErrCode, Event, KafkaError, Output};
use ottla_protocol::Str;
use ottla_record::Now;
use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
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
    fn handle_timeout(&self, _client: &mut Client, _now_us: u64) {}
    /// Something is wrong with the broker that people should know of: a line for the log. Comes on a thread of the broker's,
    /// which holds no lock.
    fn warn(&self, _text: &str) {}
    /// Somebody wants to be told of fetched records as soon as they are there, though nobody waits for them in a call.
    fn is_eager(&self) -> bool {
        true
    }
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
    /// A machine has panicked: nothing works any more.
    broken: AtomicBool,
    generation: u32,
}

struct Machine {
    client: Client,
    connections: HashMap<ConnId, Connection>,
    /// One of them is, or was, muted.
    muted: bool,
    had_consumable: bool,
    clock: RunClock,
}

/// The mailbox of one connection.
struct Letterbox {
    conn: ConnId,
    mail: Arc<Mail>,
    sink: Arc<dyn EventSink>,
}

impl Mailbox for Letterbox {
    fn deliver(&self, answer: Answer) {
        let letter = Letter::Answer(self.conn, answer.correlation_id, answer.response);
        // The time to wait begins now.
        let eager = answer.mute_ms > 0 || self.sink.is_eager();
        self.mail.put(letter, eager);
    }

    fn mute(&self, throttle_ms: u32) {
        self.mail.put(Letter::Mute(self.conn, throttle_ms), true);
    }

    fn disconnected(&self) {
        self.mail.put(Letter::Disconnected(self.conn), true);
    }

    fn warn(&self, text: &str) {
        self.sink.warn(text);
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
                muted: false,
                had_consumable: false,
                clock: RunClock::default(),
            }),
            mail: Arc::new(Mail::new()),
            broker,
            sink,
            client_id,
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
        core.guarded(|| {
            let mut machine = lock(&core.machine);
            let time = machine.clock.now();
            let (more, result) = command(&mut machine.client, time)?;
            if more || core.mail.any() || core.mail.due() <= time.mono_us {
                core.carry(&mut machine);
            } else if let Some(due) = machine.client.poll_producer_due()
                && due < core.mail.due()
            {
                core.mail.set_due(due);
            }
            Ok(result)
        })
    }

    /// Takes what has come, does what is due.
    pub fn step(&self) -> Result<(), KafkaError> {
        self.with(|_, _| ())
    }

    /// The count for [`Handle::wait`]: read it before looking for what to wait for.
    pub fn signal_count(&self) -> u64 {
        self.running.core.mail.count()
    }

    /// Waits until something has happened since `seen`, or something is due, or it is `until_us` (monotonic microseconds).
    pub fn wait(&self, seen: u64, until_us: u64) {
        let core = &*self.running.core;
        if core.check().is_ok() {
            core.mail.sleep_as_poller(seen, until_us);
        }
    }

    /// Wakes whoever waits.
    pub fn wake(&self) {
        self.running.core.mail.wake_pollers();
    }

    /// The broker.
    pub fn broker(&self) -> &EmbeddedBroker {
        &self.running.core.broker
    }

    /// Whether nothing has come and nothing is due, so that driving the client would lead to nothing.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        let mail = &self.running.core.mail;
        !mail.any() && now().mono_us < mail.due()
    }

    /// Why nothing works any more, after a machine has panicked.
    pub fn failure(&self) -> Option<KafkaError> {
        self.running.core.broken.load(Relaxed).then(broken)
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
        self.core.mail.stop();
        if let Some(thread) = lock(&self.thread).take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
        let connections = std::mem::take(&mut lock(&self.core.machine).connections);
        connections
            .into_values()
            .for_each(|connection| self.core.disconnect(connection));
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
            return Err(broken());
        }
        Ok(())
    }

    fn with<R>(&self, command: impl FnOnce(&mut Client, Now) -> R) -> Result<R, KafkaError> {
        self.guarded(|| {
            let mut machine = lock(&self.machine);
            let result = command(&mut machine.client, now());
            self.carry(&mut machine);
            Ok(result)
        })
    }

    /// Runs `work` so that a panic in it goes no further: the handle is broken then, and says so from now on.
    #[inline]
    fn guarded<R>(&self, work: impl FnOnce() -> Result<R, KafkaError>) -> Result<R, KafkaError> {
        self.check()?;
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(result) => result,
            Err(_) => {
                self.broken.store(true, Relaxed);
                self.mail.wake_pollers();
                Err(broken())
            }
        }
    }

    /// Carries what the client wants to the broker and what comes of it back, until there is nothing left.
    fn carry(&self, machine: &mut Machine) {
        machine.clock.end_run();
        loop {
            let mut any = false;
            for letter in self.mail.take() {
                any = true;
                match letter {
                    Letter::Answer(conn, correlation_id, response) => {
                        machine.mute(conn, response.throttle_time_ms());
                        machine
                            .client
                            .handle_response(now(), conn, correlation_id, response);
                    }
                    Letter::Mute(conn, throttle_ms) => machine.mute(conn, throttle_ms),
                    Letter::Disconnected(conn) => {
                        machine.connections.remove(&conn);
                        let reason =
                            KafkaError::new(ErrCode::TRANSPORT, "the broker closed the connection");
                        machine.client.handle_disconnected(now(), conn, reason);
                    }
                }
            }
            any |= machine.muted && self.hand_in_held(machine);
            // Mail first: it may say that the broker wants nothing more.
            while (!any || !self.mail.any())
                && let Some(output) = machine.client.poll_output()
            {
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
            self.sink.handle_timeout(&mut machine.client, now_us);
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
            self.mail.wake_pollers();
        }
        let due = [
            machine.client.poll_timeout(),
            self.sink.poll_timeout(),
            machine.held_until(),
        ];
        let due = due.into_iter().flatten().min();
        self.mail.set_due(due.unwrap_or(u64::MAX));
    }

    /// Hands in a request of each connection that was held back, where the time for that has come. Whether there was any.
    fn hand_in_held(&self, machine: &mut Machine) -> bool {
        let now_us = now().mono_us;
        let next = |(conn, connection): (&ConnId, &mut Connection)| {
            connection.next(now_us).map(|envelope| (*conn, envelope))
        };
        let held: Vec<_> = machine.connections.iter_mut().filter_map(next).collect();
        let any = !held.is_empty();
        for (conn, envelope) in held {
            self.hand_in(machine, conn, envelope);
        }
        machine.muted = machine.held_until().is_some();
        any
    }

    /// Hands a request to the broker, and what is answered at once to the client.
    fn hand_in(&self, machine: &mut Machine, conn: ConnId, envelope: RequestEnvelope) {
        let Some(connection) = machine.connections.get(&conn) else {
            return;
        };
        let client = &mut machine.client;
        let mut throttle_ms = 0;
        self.broker.request(
            connection.conn,
            envelope,
            &mut |correlation_id, response| {
                throttle_ms = response.throttle_time_ms().max(throttle_ms);
                client.handle_response(now(), conn, correlation_id, response);
            },
        );
        machine.mute(conn, throttle_ms);
    }

    fn disconnect(&self, connection: Connection) {
        let conn = connection.conn;
        for envelope in connection.unanswered() {
            self.broker.request(conn, envelope, &mut |_, _| {});
        }
        self.broker.disconnect(conn);
    }

    fn act(&self, machine: &mut Machine, output: Output) {
        match output {
            Output::Connect { conn, .. } => {
                let mailbox = Arc::new(Letterbox {
                    conn,
                    mail: self.mail.clone(),
                    sink: self.sink.clone(),
                });
                let broker_conn = self.broker.connect("127.0.0.1", mailbox);
                machine
                    .connections
                    .insert(conn, Connection::new(broker_conn));
                machine.client.handle_connected(now(), conn);
            }
            Output::Send {
                conn,
                correlation_id,
                api_version,
                request,
            } => {
                let Some(connection) = machine.connections.get_mut(&conn) else {
                    return;
                };
                let envelope = RequestEnvelope {
                    correlation_id,
                    api_version,
                    client_id: self.client_id.clone(),
                    request,
                };
                if let Some(envelope) = connection.hold(envelope) {
                    self.hand_in(machine, conn, envelope);
                }
            }
            Output::Disconnect { conn } => {
                if let Some(connection) = machine.connections.remove(&conn) {
                    self.disconnect(connection);
                }
            }
        }
    }

    /// The handle's own thread: what is due while nobody calls.
    fn background(&self) {
        while self.mail.sleep_in_background() {
            if self.with(|_, _| ()).is_err() {
                return;
            }
        }
    }
}

impl Machine {
    /// The broker wants nothing more over a connection for so long.
    #[inline]
    fn mute(&mut self, conn: ConnId, throttle_ms: u32) {
        if throttle_ms > 0
            && let Some(connection) = self.connections.get_mut(&conn)
        {
            connection.mute(now().mono_us, throttle_ms);
            self.muted = true;
        }
    }

    /// When something that was held back can be handed in.
    fn held_until(&self) -> Option<u64> {
        if !self.muted {
            return None;
        }
        self.connections.values().filter_map(Connection::due).min()
    }
}

#[cold]
fn broken() -> KafkaError {
    let message = "the client has failed because of a bug; make a new handle, and please report it";
    KafkaError::new(ErrCode::FATAL, message).into_fatal()
}
