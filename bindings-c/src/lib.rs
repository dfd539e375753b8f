//! Ottla with librdkafka's C ABI.
//!
//! Handles and conversions only: everything else is [`ottla`]'s. Each file has the functions of one part of the API; their
//! documentation comments become those of `include/librdkafka/rdkafka.h` (`cargo xtask gen`).
//!
//! Rules that hold everywhere: null pointers are an error or nothing, never a crash; a panic ends at the border
//! (`border::guard!`); strings and payloads whose ownership changes are libc's `malloc`/`free`.

#[macro_use]
mod border;

pub mod abi;
pub mod admin;
pub mod cluster;
pub mod conf;
pub mod conf_callbacks;
pub mod consumer;
pub mod errors;
pub mod event;
pub mod group_metadata;
pub mod headers;
pub mod instance;
pub mod log;
pub mod message;
pub mod produce;
pub mod queue;
pub mod serve;
pub mod simple_consumer;
pub mod topic;
pub mod topic_partition_list;
pub mod transactions;
