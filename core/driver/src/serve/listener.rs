//! Listening sockets: where clients come in, how many, and what they are told to come back to.

use mio::net::{TcpListener, TcpStream};
use ottla_broker::Endpoint;
use rustix::{
    io::{FdFlags, fcntl_setfd},
    net::{self, AddressFamily, SocketType, sockopt},
};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use super::server::ServerConfig;
use crate::embedded::lock;

/// An address to listen on.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where to listen; port 0 takes any that is free.
    pub address: SocketAddr,
    /// What clients are told to connect to (`advertised.listeners`): a host, and a port unless it is that of the socket. Without, it
    /// is the address itself.
    pub advertised: Option<(String, Option<u16>)>,
}

impl From<SocketAddr> for Listener {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            advertised: None,
        }
    }
}

/// A listening socket.
pub(super) struct Bound {
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) endpoint: Endpoint,
}

impl Bound {
    pub(super) fn bind(listener: &Listener, config: &ServerConfig) -> io::Result<Self> {
        let family = match listener.address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = net::socket(family, SocketType::STREAM, None)?;
        fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        // An address may be listened on again at once after a restart.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        // Accepted sockets inherit it; set later it would be too late for the window that TCP announces.
        if let Some(bytes) = config.receive_buffer_bytes {
            sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
        }
        if let Some(bytes) = config.send_buffer_bytes {
            sockopt::set_socket_send_buffer_size(&socket, bytes)?;
        }
        net::bind(&socket, &listener.address)?;
        net::listen(&socket, config.listen_backlog)?;
        let socket = std::net::TcpListener::from(socket);
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket);
        let address = socket.local_addr()?;
        let (host, port) = match &listener.advertised {
            Some((host, port)) => (host.clone(), port.unwrap_or(address.port())),
            None => (address.ip().to_string(), address.port()),
        };
        Ok(Self {
            socket,
            address,
            endpoint: Endpoint {
                host: host.as_str().into(),
                port: port.into(),
            },
        })
    }
}

/// A connection that was accepted, on its way to its loop.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) endpoint: Endpoint,
}

/// How many connections there are, of all loops.
pub(super) struct Census {
    most: usize,
    most_per_ip: usize,
    overrides: HashMap<IpAddr, usize>,
    open: AtomicUsize,
    by_ip: Mutex<HashMap<IpAddr, usize>>,
}

impl Census {
    pub(super) fn new(config: &ServerConfig) -> Self {
        let overrides = config.connections_per_ip_overrides.iter().copied();
        Self {
            most: config.max_connections,
            most_per_ip: config.max_connections_per_ip,
            overrides: overrides.collect(),
            open: AtomicUsize::new(0),
            by_ip: Mutex::default(),
        }
    }

    /// Whether there may be no more, of whomever: the next has to wait (`max.connections`).
    pub(super) fn is_full(&self) -> bool {
        self.open.load(SeqCst) >= self.most
    }

    /// Counts a connection, unless there are enough from its address (`max.connections.per.ip`).
    pub(super) fn admit(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        if self.counts_ips() {
            let most = *self.overrides.get(&ip).unwrap_or(&self.most_per_ip);
            let mut by_ip = lock(&self.by_ip);
            let of_ip = by_ip.entry(ip).or_default();
            if *of_ip >= most {
                return false;
            }
            *of_ip += 1;
        }
        self.open.fetch_add(1, SeqCst);
        true
    }

    /// A connection is closed. Whether it was the one too many that others wait for.
    pub(super) fn leave(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        if self.counts_ips() {
            let mut by_ip = lock(&self.by_ip);
            if let Some(of_ip) = by_ip.get_mut(&ip) {
                *of_ip -= 1;
                if *of_ip == 0 {
                    by_ip.remove(&ip);
                }
            }
        }
        self.open.fetch_sub(1, SeqCst) >= self.most
    }

    fn counts_ips(&self) -> bool {
        self.most_per_ip < i32::MAX as usize || !self.overrides.is_empty()
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(SeqCst)
    }
}
