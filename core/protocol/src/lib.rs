//! Kafka's wire protocol: message types and codecs generated from field tables, framing, versions, error codes.
//!
//! Every API key has a module in [`messages`] with its request, its response and their nested structs, all under the
//! names of Kafka's schemas: `messages::fetch::{FetchRequest, FetchTopic, FetchResponse, PartitionData}`. Requests,
//! responses and records of internal topics are also exported from [`messages`] itself, as are [`messages::Request`],
//! [`messages::Response`] and [`messages::ApiKey`], which stand at the crate's root too.
//!
//! A struct has the fields of all versions; its `Default` is Kafka's. Mind that a nullable field is only null by default
//! where Kafka's schema says so: the default of others is the empty string or array, not `None`.
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod arbitrary;
pub mod codec;
mod error_code;
pub mod frame;
mod header;
#[cfg(test)]
mod hostile;
#[path = "generated/mod.rs"]
pub mod messages;
mod negotiation;
mod records;
mod text;
mod throttle;
mod uuid;

pub use codec::{DecodeError, Decoder, EncodeError, Encoder, Message, VersionedMessage};
pub use error_code::ErrorCode;
pub use header::{RequestHeader, ResponseHeader};
pub use messages::{ApiKey, Request, Response};
pub use negotiation::{Versions, negotiate};
pub use records::Records;
pub use text::Str;
pub use uuid::Uuid;
