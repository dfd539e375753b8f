//! One Kafka partition on storage.
//!
//! [`Storage`] says what is needed of files; [`MemoryStorage`] keeps them in memory, the driver has real ones, the simulator
//! faulty ones. [`PartitionLog`] is a partition's log in Kafka's own file layout: segments of record batches with an offset and
//! a time index, producer state, leader epochs. [`data_dir`] has the files at the top of a data directory.
//!
//! Nothing here has a clock, a thread or a file: time comes in with each call, syncing goes out as a [`SyncJob`].
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod compaction;
mod config;
pub mod conformance;
mod damage;
pub mod data_dir;
mod durable_mark;
mod epochs;
mod error;
mod headers;
mod index;
mod marking;
mod memory;
pub mod names;
mod partition_log;
mod producer_state;
mod recovery;
mod segment;
mod shortening;
mod storage;
mod transactions;

pub use config::LogConfig;
pub use epochs::LeaderEpochs;
pub use error::LogError;
pub use memory::{Guarded, MemoryStorage};
pub use partition_log::{Appended, PartitionLog, ReadSlice, SyncJob};
pub use producer_state::{MarkerCheck, ProducerInfo, ProducerState, SequenceCheck};
pub use recovery::{OpenOptions, Recovery};
pub use storage::{
    DirEntry, OpenHow, Space, Storage, StorageError, StorageErrorKind, StorageFile, Syncer,
    check_path, join, read_file, write_file, write_file_unsynced,
};
pub use transactions::AbortedTransaction;
