//! The broker's settings as Kafka has them: one table of the broker's own ([`BROKER_ROWS`]), what reads it, and what changes
//! settings while the broker runs.
//!
//! * `row`, `rows`: the table. Every setting is effective, kept without effect, or refused, and says so.
//! * `binding`: how an effective setting gets into [`crate::BrokerConfig`], and out of it.
//! * `server_properties`: a `server.properties` as a whole, listeners and sockets included.
//! * `markdown`: `BROKER_CONFIGURATION.md`.
//!
//! The topics' table is in `topic_config.rs`. See `docs/internals/configs.md`.

pub(crate) mod binding;
mod markdown;
mod row;
mod rows;
mod server_properties;

pub use markdown::markdown;
pub use row::{Check, ConfigType, Effect, Row, Update};
pub(crate) use row::{check, invalid, words};
pub use rows::{BROKER_ROWS, broker_row};
pub use server_properties::{
    ConfigError, Listener, ListenerSettings, ServerProperties, Unused, read_properties,
};
