//! Ottla with librdkafka's C ABI.
pub mod abi;
pub mod headers;
pub mod topic_partition_list;
