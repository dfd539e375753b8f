//! From settings in Kafka's names to a server's.

use super::{
    listener::Listener,
    server::{ServeError, ServerConfig},
};
use ottla_broker::configs::ListenerSettings;
use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    time::Duration,
};

/// As good as for ever, and still something that can be added to a time.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

impl ServerConfig {
    /// Takes over what `server.properties` says of sockets. The number of threads stays as it is: what Kafka takes by default is not
    /// what a machine needs.
    ///
    /// # Errors
    /// A host name of `max.connections.per.ip.overrides` that stands for no address.
    pub fn apply(&mut self, settings: &ListenerSettings) -> Result<(), ServeError> {
        let ms = settings.connections_max_idle_ms;
        self.max_idle = u64::try_from(ms).map_or(FOR_EVER, Duration::from_millis);
        self.max_request_bytes = settings.request_max_bytes;
        let queued = usize::try_from(settings.queued_max_request_bytes);
        self.max_queued_bytes = queued.unwrap_or(usize::MAX);
        self.max_connections = settings.max_connections;
        self.max_connections_per_ip = settings.max_connections_per_ip;
        self.connections_per_ip_overrides.clear();
        for (host, limit) in &settings.max_connections_per_ip_overrides {
            for address in addresses_of(host, 0)? {
                let of_ip = (address.ip().to_canonical(), *limit);
                self.connections_per_ip_overrides.push(of_ip);
            }
        }
        self.max_connection_rate = settings.max_connection_creation_rate;
        self.listen_backlog = settings.listen_backlog;
        self.send_buffer_bytes = settings.send_buffer_bytes;
        self.receive_buffer_bytes = settings.receive_buffer_bytes;
        Ok(())
    }
}

impl Listener {
    /// The listeners that `server.properties` has; none if it doesn't say.
    ///
    /// # Errors
    /// A host name that stands for no address.
    pub fn all_of(settings: &ListenerSettings) -> Result<Vec<Self>, ServeError> {
        let listener = |one: &ottla_broker::configs::Listener| {
            // No host is all interfaces, as in Kafka.
            let host = if one.host.is_empty() {
                "0.0.0.0"
            } else {
                &one.host
            };
            let advertised = settings.advertised(&one.name).map(|advertised| {
                let port = Some(advertised.port).filter(|port| *port != 0);
                (advertised.host.to_string(), port)
            });
            Ok(Self {
                address: address_of(host, one.port)?,
                advertised,
            })
        };
        settings.listeners.iter().map(listener).collect()
    }

    /// A listener on a host name or address (an IPv6 address with or without brackets).
    ///
    /// # Errors
    /// The name stands for no address.
    pub fn at(host: &str, port: u16) -> Result<Self, ServeError> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        address_of(bare.unwrap_or(host), port).map(Self::from)
    }
}

/// The address that a name stands for: the one of IPv4 if there are several.
fn address_of(host: &str, port: u16) -> Result<SocketAddr, ServeError> {
    let addresses = addresses_of(host, port)?;
    let ipv4 = addresses.iter().find(|address| address.is_ipv4());
    let first = ipv4.or(addresses.first()).copied();
    first.ok_or_else(|| ServeError::Name(host.into(), io::ErrorKind::NotFound.into()))
}

fn addresses_of(host: &str, port: u16) -> Result<Vec<SocketAddr>, ServeError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let addresses = (host, port).to_socket_addrs();
    let addresses = addresses.map_err(|error| ServeError::Name(host.into(), error))?;
    Ok(addresses.collect())
}
