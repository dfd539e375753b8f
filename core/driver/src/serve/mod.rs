//! The broker on TCP: what `ottla serve` runs.
//!
//! A [`Server`] puts an [`EmbeddedBroker`](crate::EmbeddedBroker) on sockets. It has a few threads, each with an event loop of its own
//! (`event_loop.rs`); a connection belongs to one of them for life. What a connection says and hears is a machine without a socket
//! (`conversation.rs`). Handles in the process and clients on sockets may use the same broker at the same time.
//! `docs/internals/serve.md` has the whole story.

mod connection;
mod conversation;
mod counters;
mod event_loop;
mod listener;
mod log;
mod mail;
mod receive;
mod rehearsal;
mod server;
mod settings;

pub use counters::{ApiCounters, ServerCounters};
pub use listener::Listener;
pub use log::{Level, ServerLog};
#[doc(hidden)]
pub use rehearsal::{Heard, rehearse};
pub use server::{ServeError, Server, ServerConfig};
