//! Kafka record batches (magic 2; magic 0 and 1 read-only).
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod now;
pub use now::Now;
