//! Preparing a directory for a JVM Kafka: see `ottla_broker::promote`.

use crate::{
    clock::now,
    directory_lock::{DirectoryLock, LockError},
    embedded::entropy,
    files::FileStorage,
};
use ottla_broker::{PromoteError, Promotion};
use ottla_log::data_dir::META_PROPERTIES;
use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Why a directory can't be promoted.
#[derive(Debug)]
pub enum PromotionError {
    /// It can't be read.
    Directory(PathBuf, io::Error),
    /// Somebody has it open, or it can't be locked.
    Lock(LockError),
    /// What is in it says no.
    Promote(PathBuf, PromoteError),
}

impl fmt::Display for PromotionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Lock(error) => error.fmt(f),
            Self::Promote(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for PromotionError {}

/// Prepares the data directory `dir` for a JVM Kafka in KRaft mode. It belongs to this process meanwhile.
///
/// # Errors
/// It is in use, no data directory, was not closed cleanly, or can't be written.
pub fn promote(dir: &Path) -> Result<Promotion, PromotionError> {
    let failed = |error| PromotionError::Directory(dir.to_path_buf(), error);
    let dir = dir.canonicalize().map_err(failed)?;
    if !dir.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    let said_no = |error| PromotionError::Promote(dir.clone(), error);
    // Before the lock, which would leave a file in a directory that isn't ours.
    if !dir.join(META_PROPERTIES).exists() {
        return Err(said_no(PromoteError::NotADataDirectory));
    }
    let lock = DirectoryLock::take(&dir).map_err(PromotionError::Lock)?;
    let promotion =
        ottla_broker::promote(&FileStorage::new(&dir), now(), entropy()).map_err(said_no);
    drop(lock);
    promotion
}
