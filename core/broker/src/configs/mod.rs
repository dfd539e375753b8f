//! The broker's settings as Kafka has them: one table of the broker's own ([`BROKER_ROWS`]), what reads it, and what changes
//! settings while the broker runs.
//!
//! * `row`, `rows`: the table. Every setting is effective, kept without effect, or refused, and says so.
//! * `binding`: how an effective setting gets into [`crate::BrokerConfig`], and out of it.
//! * `server_properties`: a `server.properties` as a whole, listeners and sockets included.
//! * `groups`: the tables of groups' settings and of client metrics'.
//! * `dynamic`: what was changed while the broker ran, and its file. `alter` changes it, `describing` tells of it.
//! * `markdown`: `BROKER_CONFIGURATION.md`.
//!
//! The topics' table is in `topic_config.rs`. See `docs/internals/configs.md`.

pub(crate) mod alter;
pub(crate) mod binding;
pub(crate) mod describing;
pub(crate) mod dynamic;
mod groups;
mod markdown;
mod row;
mod rows;
mod server_properties;

pub use groups::{CLIENT_METRICS_ROWS, GROUP_ROWS};
pub use markdown::markdown;
pub use row::{Check, ConfigType, Effect, Row, Update};
pub(crate) use row::{check, invalid, offending, words};
pub use rows::{BROKER_ROWS, broker_row};
pub use server_properties::{
    ConfigError, Listener, ListenerSettings, ServerProperties, Unused, read_properties, why_unknown,
};
