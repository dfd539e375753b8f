//! log
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;
pub mod conformance;
pub mod memory;
pub mod storage;
