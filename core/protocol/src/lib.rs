//! Kafka's wire protocol: message types and codecs generated from field tables, framing, versions, error codes.
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod records;
mod text;
mod uuid;

pub use records::Records;
pub use text::Str;
pub use uuid::Uuid;
