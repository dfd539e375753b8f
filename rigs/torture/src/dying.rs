//! Storage that counts what is done to it, and at a certain operation kills the process: before that operation, or halfway through.

use bytes::Bytes;
use ottla_log::{DirEntry, OpenHow, Storage, StorageError, StorageFile, Syncer};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counts, and dies when its time has come.
pub struct Fate {
    done: AtomicU64,
    die_at: u64,
    torn: bool,
}

impl Fate {
    /// Dies at operation `die_at`, from 0; with `torn` a write is half done then.
    pub fn new(die_at: u64, torn: bool) -> Arc<Self> {
        Arc::new(Self {
            done: AtomicU64::new(0),
            die_at,
            torn,
        })
    }

    /// Operations so far.
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// Called ahead of each operation that changes or syncs something; `half` does half of it.
    fn met(&self, half: impl FnOnce()) {
        if self.done.fetch_add(1, Relaxed) == self.die_at {
            if self.torn {
                half();
            }
            let me = rustix::process::getpid();
            let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
            unreachable!("nobody survives it");
        }
    }
}

/// Another storage that dies.
pub struct DyingStorage<S> {
    /// What is done for real.
    pub inner: S,
    /// When.
    pub fate: Arc<Fate>,
}

impl<S: Storage> Storage for DyingStorage<S> {
    fn open(&self, path: &str, how: OpenHow) -> Result<Box<dyn StorageFile>, StorageError> {
        if matches!(how, OpenHow::CreateNew | OpenHow::OpenOrCreate) && !self.inner.exists(path)? {
            self.fate.met(|| {});
        }
        Ok(Box::new(DyingFile {
            inner: self.inner.open(path, how)?,
            fate: self.fate.clone(),
        }))
    }

    fn list(&self, dir: &str) -> Result<Vec<DirEntry>, StorageError> {
        self.inner.list(dir)
    }

    fn create_dir(&self, dir: &str) -> Result<(), StorageError> {
        self.fate.met(|| {});
        self.inner.create_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.fate.met(|| {});
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &str) -> Result<(), StorageError> {
        self.fate.met(|| {});
        self.inner.remove_file(path)
    }

    fn remove_dir(&self, dir: &str) -> Result<(), StorageError> {
        // It is not one operation but one for each file: half is gone.
        self.fate.met(|| {
            let files = self.inner.list(dir).unwrap_or_default();
            for file in files.iter().step_by(2) {
                let _ = self.inner.remove_file(&ottla_log::join(dir, &file.name));
            }
        });
        self.inner.remove_dir(dir)
    }

    fn exists(&self, path: &str) -> Result<bool, StorageError> {
        self.inner.exists(path)
    }

    fn modified_ms(&self, path: &str) -> Result<i64, StorageError> {
        self.inner.modified_ms(path)
    }

    fn sync_dir(&self, dir: &str) -> Result<(), StorageError> {
        self.fate.met(|| {});
        self.inner.sync_dir(dir)
    }
}

struct DyingFile {
    inner: Box<dyn StorageFile>,
    fate: Arc<Fate>,
}

impl StorageFile for DyingFile {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn append(&mut self, parts: &[Bytes]) -> Result<(), StorageError> {
        let fate = self.fate.clone();
        fate.met(|| {
            let all = Bytes::from(parts.concat());
            let _ = self.inner.append(&[all.slice(..all.len() / 2)]);
        });
        self.inner.append(parts)
    }

    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let fate = self.fate.clone();
        fate.met(|| {
            let _ = self.inner.write_at(pos, &bytes[..bytes.len() / 2]);
        });
        self.inner.write_at(pos, bytes)
    }

    fn read_at(&self, pos: u64, len: usize, out: &mut Vec<Bytes>) -> Result<(), StorageError> {
        self.inner.read_at(pos, len, out)
    }

    fn truncate(&mut self, len: u64) -> Result<(), StorageError> {
        self.fate.met(|| {});
        self.inner.truncate(len)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.fate.met(|| {});
        self.inner.sync()
    }

    fn syncer(&self) -> Arc<dyn Syncer> {
        Arc::new(DyingSyncer {
            inner: self.inner.syncer(),
            fate: self.fate.clone(),
        })
    }

    fn seal(&mut self) {
        self.inner.seal();
    }
}

struct DyingSyncer {
    inner: Arc<dyn Syncer>,
    fate: Arc<Fate>,
}

impl Syncer for DyingSyncer {
    fn sync(&self) -> Result<(), StorageError> {
        self.fate.met(|| {});
        self.inner.sync()
    }
}
