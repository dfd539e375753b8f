//! A log on storage that dies at every single operation, and then, as a power cut may, loses or tears what was not synced.
//!
//! What a completed sync job covered must be there afterwards, and nothing that was not appended. The control that must fail
//! is a storage whose syncs do nothing.

#[path = "../common/mod.rs"]
mod common;
mod compaction;
mod directed;
mod dying_disk;
mod long;
mod plain;
