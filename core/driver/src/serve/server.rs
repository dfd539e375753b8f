//! A server from start to stop.

use super::{
    counters::{LoopCounters, ServerCounters},
    event_loop::EventLoop,
    listener::{Bound, Census, Listener},
    log::{Level, ServerLog, Silent},
    mail::{Letter, LoopMail},
};
use crate::{
    EmbeddedBroker,
    embedded::{Answer, Mailbox, lock},
    fork,
};
use ottla_broker::ConnId;
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Threads more than this don't help a broker that is one machine.
const MOST_THREADS: usize = 8;

/// A server's settings. Names follow Kafka's `server.properties`; defaults are Kafka's unless noted.
#[derive(Clone)]
pub struct ServerConfig {
    /// `num.network.threads`: event loops. Default: the number of cores, at most 8 (Kafka: 3).
    pub threads: usize,
    /// `socket.request.max.bytes`: a request that says it is larger ends its connection; default 100 MiB.
    pub max_request_bytes: usize,
    /// `queued.max.request.bytes`: bytes of requests that are here and not answered, of all connections. Above, nothing is
    /// read that would begin another. Default 256 MiB (Kafka: no bound).
    pub max_queued_bytes: usize,
    /// Bytes of answers that clients don't take, of all connections. Above, those who are behind get no more. Default 512 MiB;
    /// Kafka has no such bound. Mapped files count, though they take no memory.
    pub max_unwritten_bytes: usize,
    /// `connections.max.idle.ms`; default 10 minutes. A connection that waits for an answer is not idle.
    pub max_idle: Duration,
    /// How long a client may take nothing of an answer before it is disconnected; default 1 minute. Kafka has no such bound but
    /// `connections.max.idle.ms`.
    pub max_stall: Duration,
    /// `max.connections`: further clients wait until one goes; default: no limit.
    pub max_connections: usize,
    /// `max.connections.per.ip`: further clients are disconnected at once; default: no limit.
    pub max_connections_per_ip: usize,
    /// `max.connections.per.ip.overrides`: another limit for an address.
    pub connections_per_ip_overrides: Vec<(IpAddr, usize)>,
    /// `max.connection.creation.rate`: new connections in a second, of whomever; the rest waits. Default: no limit.
    pub max_connection_rate: u32,
    /// `socket.listen.backlog.size`: connections that wait to be accepted; default 1024 (Kafka: 50).
    pub listen_backlog: i32,
    /// `socket.send.buffer.bytes`; default: as the operating system likes (Kafka: 100 KiB).
    pub send_buffer_bytes: Option<usize>,
    /// `socket.receive.buffer.bytes`; default: as the operating system likes (Kafka: 100 KiB).
    pub receive_buffer_bytes: Option<usize>,
    /// How long a stopping server waits for answers that are on their way; default 1 s.
    pub grace: Duration,
    /// Where its events go; default: nowhere.
    pub log: Arc<dyn ServerLog>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, Into::into);
        Self {
            threads: cores.min(MOST_THREADS),
            max_request_bytes: 100 << 20,
            max_queued_bytes: 256 << 20,
            max_unwritten_bytes: 512 << 20,
            max_idle: Duration::from_secs(600),
            max_stall: Duration::from_secs(60),
            max_connections: usize::MAX,
            max_connections_per_ip: usize::MAX,
            connections_per_ip_overrides: Vec::new(),
            max_connection_rate: u32::MAX,
            listen_backlog: 1024,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            grace: Duration::from_secs(1),
            log: Arc::new(Silent),
        }
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("threads", &self.threads)
            .field("max_request_bytes", &self.max_request_bytes)
            .field("max_queued_bytes", &self.max_queued_bytes)
            .field("max_unwritten_bytes", &self.max_unwritten_bytes)
            .field("max_idle", &self.max_idle)
            .field("max_stall", &self.max_stall)
            .field("max_connections", &self.max_connections)
            .field("max_connections_per_ip", &self.max_connections_per_ip)
            .field(
                "connections_per_ip_overrides",
                &self.connections_per_ip_overrides,
            )
            .field("max_connection_rate", &self.max_connection_rate)
            .field("listen_backlog", &self.listen_backlog)
            .field("send_buffer_bytes", &self.send_buffer_bytes)
            .field("receive_buffer_bytes", &self.receive_buffer_bytes)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

/// Why a broker can't be served.
#[derive(Debug)]
pub enum ServeError {
    /// The address can't be listened on.
    Address(SocketAddr, io::Error),
    /// Others could reach the address, and there is neither TLS nor authentication yet.
    NotLoopback(SocketAddr),
    /// There is nothing to listen on.
    NoListener,
    /// A name that a setting has stands for no address.
    Name(String, io::Error),
    /// The system gives no threads or event queues.
    System(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address, error) => write!(f, "{address} can't be listened on: {error}"),
            Self::NotLoopback(address) => write!(
                f,
                "{address} can be reached from other machines, and TLS and authentication are not there yet: only loopback \
                 addresses (127.0.0.1, [::1]) are served"
            ),
            Self::Name(name, error) => write!(f, "{name} stands for no address: {error}"),
            Self::NoListener => f.write_str("there is no address to listen on"),
            Self::System(error) => write!(f, "event loops can't be started: {error}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// What all event loops of a server share.
pub(super) struct Serving {
    pub(super) broker: EmbeddedBroker,
    pub(super) config: ServerConfig,
    pub(super) census: Census,
    /// Bytes of requests that are here and not answered.
    pub(super) held: AtomicUsize,
    /// Bytes of answers that are not taken.
    pub(super) unwritten: AtomicUsize,
    pub(super) loops: Vec<LoopShare>,
}

/// What others may know of an event loop.
pub(super) struct LoopShare {
    pub(super) mail: Arc<LoopMail>,
    pub(super) counters: LoopCounters,
    /// Connections that it has, or is to get.
    pub(super) connections: AtomicUsize,
}

/// A broker on TCP. It serves until it is stopped or dropped; the broker stays open as long as somebody has it.
///
/// Threads of a parent don't exist in a forked child: there a server does nothing.
pub struct Server {
    serving: Arc<Serving>,
    addresses: Vec<SocketAddr>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The connection over which the broker's warnings come.
    monitor: ConnId,
    generation: u32,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .field("config", &self.serving.config)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Listens, and serves the broker to whoever connects. Only loopback addresses are taken.
    pub fn start(
        broker: EmbeddedBroker,
        listeners: &[Listener],
        config: ServerConfig,
    ) -> Result<Self, ServeError> {
        if listeners.is_empty() {
            return Err(ServeError::NoListener);
        }
        let mut bound = Vec::new();
        for listener in listeners {
            if !listener.address.ip().to_canonical().is_loopback() {
                return Err(ServeError::NotLoopback(listener.address));
            }
            let one = Bound::bind(listener, &config);
            bound.push(one.map_err(|error| ServeError::Address(listener.address, error))?);
        }
        let addresses: Vec<_> = bound.iter().map(|one| one.address).collect();

        let mut polls = Vec::new();
        let mut loops = Vec::new();
        for _ in 0..config.threads.max(1) {
            let (poll, mail) = EventLoop::poll().map_err(ServeError::System)?;
            polls.push(poll);
            loops.push(LoopShare {
                mail: Arc::new(mail),
                counters: LoopCounters::default(),
                connections: AtomicUsize::new(0),
            });
        }
        let monitor = Arc::new(Monitor {
            log: config.log.clone(),
        });
        let serving = Arc::new(Serving {
            census: Census::new(&config),
            held: AtomicUsize::new(0),
            unwritten: AtomicUsize::new(0),
            broker: broker.clone(),
            config,
            loops,
        });
        // From here on dropping it stops what has been started.
        let server = Self {
            serving: serving.clone(),
            addresses,
            threads: Mutex::default(),
            monitor: broker.watch(monitor),
            generation: fork::generation(),
        };
        for (number, poll) in polls.into_iter().enumerate() {
            // The first accepts for all: connections are spread by their number, not by the kernel's dice.
            let listeners = std::mem::take(&mut bound);
            let event_loop = EventLoop::new(number, poll, serving.clone(), listeners)
                .map_err(ServeError::System)?;
            let thread = thread::Builder::new()
                .name(format!("ottla-net-{number}"))
                .spawn(move || event_loop.run())
                .map_err(ServeError::System)?;
            lock(&server.threads).push(thread);
        }
        Ok(server)
    }

    /// The addresses it listens on, in the order of the listeners, with the ports they got.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The broker it serves.
    pub fn broker(&self) -> &EmbeddedBroker {
        &self.serving.broker
    }

    /// What it has counted.
    pub fn counters(&self) -> ServerCounters {
        let mut counters = ServerCounters {
            connections_open: self.serving.census.open() as u64,
            request_bytes_held: self.serving.held.load(Relaxed) as u64,
            answer_bytes_held: self.serving.unwritten.load(Relaxed) as u64,
            ..ServerCounters::default()
        };
        for one in &self.serving.loops {
            counters.add_loop(&one.counters);
        }
        counters
    }

    /// Stops: nothing is accepted or read any more; answers on their way are waited for a moment, but not long polls.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if fork::is_forked_since(self.generation) {
            return; // the parent's threads and connections
        }
        for one in &self.serving.loops {
            one.mail.put(Letter::Stop);
        }
        for thread in lock(&self.threads).drain(..) {
            let _ = thread.join();
        }
        self.serving.broker.disconnect(self.monitor);
    }
}

/// Gets the broker's warnings.
struct Monitor {
    log: Arc<dyn ServerLog>,
}

impl Mailbox for Monitor {
    fn deliver(&self, _answer: Answer) {}

    fn disconnected(&self) {}

    fn warn(&self, text: &str) {
        self.log.event(Level::Warn, "broker", &[("what", &text)]);
    }
}
