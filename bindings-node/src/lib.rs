//! The Node addon: what `bindings-node/lib` builds KafkaJS's shapes on.
//!
//! JavaScript sees one class, [`client::NativeClient`]. Everything that may wait runs on a thread of that client; its results come
//! back through one callback. A batch of records crosses the border once: one buffer and one table of numbers, either way.

// `#[napi]` generates the C entry points.
#![allow(unsafe_code)]

pub mod admin;
pub mod client;
mod consume;
mod produce;
mod value;
