//! Producing: from `produce()` to the delivery report.

pub mod partitioner;
