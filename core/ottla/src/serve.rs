//! The broker on TCP.

use crate::{Broker, ErrCode, KafkaError};
pub use ottla_broker::configs::{
    ConfigError as PropertyError, ServerProperties, Unused, broker_row, read_properties,
    why_unknown,
};
use ottla_driver::Server;
pub use ottla_driver::{Level, Listener, ServeError, ServerConfig, ServerLog};

/// Serves an embedded broker on TCP, to any Kafka client. Handles in this process go on using it as before.
///
/// Only loopback addresses are listened on: there is neither TLS nor authentication yet. The server stops when the result is dropped
/// or [`Server::stop`] is called; the broker stays open as long as somebody holds it.
///
/// ```
/// use ottla::{Broker, serve::{Listener, ServerConfig, serve}};
///
/// let broker = Broker::open("memory:served")?;
/// let any_port: std::net::SocketAddr = "127.0.0.1:0".parse()?;
/// let server = serve(&broker, &[Listener::from(any_port)], ServerConfig::default())?;
/// println!("kcat -b {} -L", server.local_addrs()[0]);
/// server.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `_INVALID_ARG` for an address that others could reach, or none; `_CONFLICT` if the address is in use; `_CRIT_SYS_RESOURCE` if it can't be
/// listened on or no threads can be started.
pub fn serve(
    broker: &Broker,
    listeners: &[Listener],
    config: ServerConfig,
) -> Result<Server, KafkaError> {
    Server::start(broker.embedded().clone(), listeners, config).map_err(|error| {
        let code = match &error {
            ServeError::NotLoopback(_) | ServeError::NoListener | ServeError::Name(..) => {
                ErrCode::INVALID_ARG
            }
            ServeError::Address(_, why) if why.kind() == std::io::ErrorKind::AddrInUse => {
                ErrCode::CONFLICT
            }
            ServeError::Address(..) | ServeError::System(_) => ErrCode::CRIT_SYS_RESOURCE,
        };
        KafkaError::new(code, error.to_string())
    })
}
