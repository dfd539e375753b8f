//! Where logs live: files below one data directory, whatever holds them.

use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};
use bytes::Bytes;
use core::fmt;

/// Room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its size in bytes.
    pub total_bytes: u64,
    /// What this process may still write.
    pub usable_bytes: u64,
}

/// A data directory. Paths are relative to it, with `/` between the parts; `..`, absolute paths and empty parts are refused.
///
/// Calls are synchronous. A new or renamed file is only sure to be found after a crash once [`Storage::sync_dir`] of its
/// directory has returned; its contents once [`StorageFile::sync`] has.
pub trait Storage: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &str, how: OpenHow) -> Result<Box<dyn StorageFile>, StorageError>;
    /// What a directory holds, by name in ascending order. The root is `""`.
    fn list(&self, dir: &str) -> Result<Vec<DirEntry>, StorageError>;
    /// Creates a directory and its parents; no error if it is there.
    fn create_dir(&self, dir: &str) -> Result<(), StorageError>;
    /// Renames a file or directory, replacing a file of the new name.
    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError>;
    /// Removes a file.
    fn remove_file(&self, path: &str) -> Result<(), StorageError>;
    /// Removes a directory with everything in it.
    fn remove_dir(&self, dir: &str) -> Result<(), StorageError>;
    /// Whether there is a file or directory of this name.
    fn exists(&self, path: &str) -> Result<bool, StorageError>;
    /// When a file was last written, in milliseconds since the Unix epoch.
    fn modified_ms(&self, path: &str) -> Result<i64, StorageError>;
    /// Makes the directory's entries durable.
    fn sync_dir(&self, dir: &str) -> Result<(), StorageError>;
    /// Room on the file system behind this storage; `None` (default) where there is none, or it can't be told.
    fn space(&self) -> Option<Space> {
        None
    }
}

/// One open file.
pub trait StorageFile: Send {
    /// Bytes in the file.
    fn len(&self) -> u64;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Writes all parts, one after the other, at the end. Storage that keeps memory keeps the parts themselves.
    ///
    /// After an error the file may hold a piece of what was to be written.
    fn append(&mut self, parts: &[Bytes]) -> Result<(), StorageError>;
    /// Overwrites or extends from `pos` on; `pos` is at most the length.
    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<(), StorageError>;
    /// Adds the `len` bytes from `pos` on to `out`, in as many chunks as they lie in. Past the end is an error.
    fn read_at(&self, pos: u64, len: usize, out: &mut Vec<Bytes>) -> Result<(), StorageError>;
    /// Cuts the file to `len` bytes; a longer `len` is an error.
    fn truncate(&mut self, len: u64) -> Result<(), StorageError>;
    /// Makes the contents durable.
    fn sync(&mut self) -> Result<(), StorageError>;
    /// What makes the contents durable from another thread, while appends go on: all that was appended before its `sync`
    /// began is durable when that returns.
    fn syncer(&self) -> Arc<dyn Syncer>;
    /// Says that nothing will be appended any more, so that the file may be mapped. Undone by a write.
    fn seal(&mut self);

    /// Copies the bytes from `pos` on into `bytes`, which they must fill.
    fn read_into(&self, pos: u64, bytes: &mut [u8]) -> Result<(), StorageError> {
        let mut chunks = Vec::with_capacity(1);
        self.read_at(pos, bytes.len(), &mut chunks)?;
        let mut rest = bytes;
        for chunk in chunks {
            let (here, behind) = rest.split_at_mut(chunk.len());
            here.copy_from_slice(&chunk);
            rest = behind;
        }
        Ok(())
    }

    /// The `len` bytes from `pos` on, in one piece.
    fn read_exact(&self, pos: u64, len: usize) -> Result<Bytes, StorageError> {
        let mut chunks = Vec::with_capacity(1);
        self.read_at(pos, len, &mut chunks)?;
        Ok(match chunks.len() {
            1 => chunks.remove(0),
            _ => chunks.concat().into(),
        })
    }
}

/// Makes a file's contents durable; see [`StorageFile::syncer`].
pub trait Syncer: Send + Sync {
    /// Returns when all that was appended before the call is durable.
    fn sync(&self) -> Result<(), StorageError>;
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenHow {
    /// It must exist; for reading and writing.
    Existing,
    /// It must not exist.
    CreateNew,
    /// Created if it doesn't exist.
    OpenOrCreate,
    /// It must exist; for reading only.
    ReadOnly,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name, without the directory.
    pub name: String,
    /// Whether it is a directory itself.
    pub is_dir: bool,
    /// Bytes, for a file.
    pub len: u64,
}

/// Why storage could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageError {
    /// The kind, to act upon.
    pub kind: StorageErrorKind,
    /// What was tried on which file, and the system's own words, for people.
    pub message: String,
}

/// The kinds of [`StorageError`] that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// No space, or a quota is used up.
    Full,
    /// No such file or directory.
    NotFound,
    /// It exists, and must not.
    AlreadyExists,
    /// No permission, or a read-only file system.
    Denied,
    /// Too many open files.
    TooManyFiles,
    /// A path or position that makes no sense.
    Invalid,
    /// The file or log was stopped by an earlier error and takes no more writes.
    Stopped,
    /// Anything else.
    Io,
}

impl StorageError {
    /// An error of a kind, with what was tried.
    pub fn new(kind: StorageErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// Whether the process had no descriptors left: nothing was done, and it may be tried again. Of a sync it says that the file
    /// was not opened for it, not that it failed.
    pub fn is_passing(&self) -> bool {
        self.kind == StorageErrorKind::TooManyFiles
    }

    /// Says on which path it happened.
    pub fn on(mut self, path: &str) -> Self {
        self.message = format!("{path}: {}", self.message);
        self
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for StorageError {}

/// Checks a relative path; every storage calls it first, so that hostile names end here.
pub fn check_path(path: &str) -> Result<(), StorageError> {
    let good = path.is_empty()
        || path.len() < 4096
            && path.split('/').all(|part| {
                !part.is_empty()
                    && part != "."
                    && part != ".."
                    && part.len() <= 255
                    && !part.contains(['\0', '\\'])
            });
    if good {
        Ok(())
    } else {
        Err(StorageError::new(
            StorageErrorKind::Invalid,
            format!("not a path inside the data directory: {path:?}"),
        ))
    }
}

/// The path of `name` in `dir`.
pub fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.into()
    } else {
        format!("{dir}/{name}")
    }
}

/// Reads a whole small file; `None` if there is none. More than `limit` bytes are an error.
pub fn read_file(
    storage: &dyn Storage,
    path: &str,
    limit: u64,
) -> Result<Option<Bytes>, StorageError> {
    let file = match storage.open(path, OpenHow::ReadOnly) {
        Ok(file) => file,
        Err(error) if error.kind == StorageErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.len();
    if len > limit {
        return Err(StorageError::new(
            StorageErrorKind::Invalid,
            format!("{path}: {len} bytes, more than the {limit} it may have"),
        ));
    }
    file.read_exact(0, len as usize).map(Some)
}

/// Replaces a small file so that after a crash it is either the old or the new one: a temporary file, synced, renamed over it,
/// and the directory synced.
pub fn write_file(storage: &dyn Storage, path: &str, contents: &[u8]) -> Result<(), StorageError> {
    write_file_named_later(storage, path, contents)?;
    storage.sync_dir(path.rsplit_once('/').map_or("", |(dir, _)| dir))
}

/// Replaces a small file so that after a crash it is the old or the new one; it is sure to be the new one only after a sync of its
/// directory.
pub(crate) fn write_file_named_later(
    storage: &dyn Storage,
    path: &str,
    contents: &[u8],
) -> Result<(), StorageError> {
    let (tmp, mut file) = write_temporary(storage, path, contents)?;
    file.sync()?;
    drop(file);
    storage.rename(&tmp, path)
}

/// Replaces a small file that can be made again: after a kill it is the old or the new one, but only the returned syncer and
/// a sync of its directory make the new one durable, and a power cut before that may leave anything.
pub fn write_file_unsynced(
    storage: &dyn Storage,
    path: &str,
    contents: &[u8],
) -> Result<Arc<dyn Syncer>, StorageError> {
    let (tmp, file) = write_temporary(storage, path, contents)?;
    storage.rename(&tmp, path)?;
    Ok(file.syncer())
}

/// A file that was written and not yet synced.
#[derive(Clone)]
pub(crate) struct Unsynced {
    path: String,
    /// Of the open file, if it is.
    syncer: Option<Arc<dyn Syncer>>,
}

impl Unsynced {
    /// A file that is open.
    pub(crate) fn open(path: String, syncer: Arc<dyn Syncer>) -> Self {
        let syncer = Some(syncer);
        Self { path, syncer }
    }

    /// A file that is opened for its sync.
    pub(crate) fn named(path: String) -> Self {
        Self { path, syncer: None }
    }

    /// Gives the descriptor back: the file is opened again for its sync.
    pub(crate) fn release(&mut self) {
        self.syncer = None;
    }

    /// Makes the contents durable. A file of which the name is gone was deleted or replaced, and need not be.
    pub(crate) fn sync(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        if let Some(syncer) = &self.syncer {
            return syncer.sync();
        }
        match storage.open(&self.path, OpenHow::Existing) {
            Ok(mut file) => file.sync(),
            Err(error) if error.kind == StorageErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn write_temporary(
    storage: &dyn Storage,
    path: &str,
    contents: &[u8],
) -> Result<(String, Box<dyn StorageFile>), StorageError> {
    let tmp = format!("{path}.tmp");
    let mut file = storage.open(&tmp, OpenHow::OpenOrCreate)?;
    file.truncate(0)?;
    file.write_at(0, contents)?;
    Ok((tmp, file))
}
