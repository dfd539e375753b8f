//! Storage in memory: files are lists of the very chunks that were appended.

use crate::storage::{
    DirEntry, OpenHow, Storage, StorageError, StorageErrorKind, StorageFile, Syncer, check_path,
};
use alloc::{
    borrow::ToOwned, boxed::Box, collections::BTreeMap, format, string::String, sync::Arc, vec::Vec,
};
use bytes::Bytes;
use core::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

/// A data directory in memory, gone with its last handle. Everything is durable at once.
///
/// Files may be used by several threads, one call at a time each; a spinning flag guards them, since these crates have no
/// operating system. Calls hold it for well under a microsecond.
#[derive(Default)]
pub struct MemoryStorage {
    tree: Guarded<BTreeMap<String, Node>>,
}

enum Node {
    Dir,
    File(Arc<Guarded<Chunks>>),
}

impl MemoryStorage {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }
}

fn not_found(path: &str) -> StorageError {
    StorageError::new(
        StorageErrorKind::NotFound,
        format!("{path}: no such file or directory"),
    )
}

/// Whether `path` lies below `dir`, and the rest of it.
fn below<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    if dir.is_empty() {
        Some(path)
    } else {
        path.strip_prefix(dir)?.strip_prefix('/')
    }
}

fn has_parent(tree: &BTreeMap<String, Node>, path: &str) -> bool {
    path.rsplit_once('/')
        .is_none_or(|(dir, _)| matches!(tree.get(dir), Some(Node::Dir)))
}

impl Storage for MemoryStorage {
    fn open(&self, path: &str, how: OpenHow) -> Result<Box<dyn StorageFile>, StorageError> {
        check_path(path)?;
        self.tree.with(|tree| {
            let file = match (tree.get(path), how) {
                (Some(Node::Dir), _) => {
                    return Err(StorageError::new(
                        StorageErrorKind::Invalid,
                        format!("{path}: is a directory"),
                    ));
                }
                (Some(_), OpenHow::CreateNew) => {
                    return Err(StorageError::new(
                        StorageErrorKind::AlreadyExists,
                        format!("{path}: exists"),
                    ));
                }
                (Some(Node::File(file)), _) => file.clone(),
                (None, OpenHow::Existing | OpenHow::ReadOnly) => return Err(not_found(path)),
                (None, _) if !has_parent(tree, path) => return Err(not_found(path)),
                (None, _) => {
                    let file = Arc::new(Guarded::default());
                    tree.insert(path.to_owned(), Node::File(file.clone()));
                    file
                }
            };
            Ok(Box::new(MemoryFile {
                chunks: file,
                read_only: how == OpenHow::ReadOnly,
            }) as Box<dyn StorageFile>)
        })
    }

    fn list(&self, dir: &str) -> Result<Vec<DirEntry>, StorageError> {
        check_path(dir)?;
        self.tree.with(|tree| {
            if !dir.is_empty() && !matches!(tree.get(dir), Some(Node::Dir)) {
                return Err(not_found(dir));
            }
            Ok(tree
                .iter()
                .filter_map(|(path, node)| {
                    let name = below(path, dir).filter(|name| !name.contains('/'))?;
                    let (is_dir, len) = match node {
                        Node::Dir => (true, 0),
                        Node::File(file) => (false, file.with(|chunks| chunks.len)),
                    };
                    Some(DirEntry {
                        name: name.to_owned(),
                        is_dir,
                        len,
                    })
                })
                .collect())
        })
    }

    fn create_dir(&self, dir: &str) -> Result<(), StorageError> {
        check_path(dir)?;
        self.tree.with(|tree| {
            for (end, _) in dir.match_indices('/').chain([(dir.len(), "")]) {
                match tree.get(&dir[..end]) {
                    Some(Node::Dir) => {}
                    Some(Node::File(_)) => {
                        return Err(StorageError::new(
                            StorageErrorKind::AlreadyExists,
                            format!("{dir}: a file is in the way"),
                        ));
                    }
                    None if end == 0 => {}
                    None => drop(tree.insert(dir[..end].to_owned(), Node::Dir)),
                }
            }
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        check_path(from)?;
        check_path(to)?;
        self.tree.with(|tree| {
            if !has_parent(tree, to) {
                return Err(not_found(to));
            }
            let node = tree.remove(from).ok_or_else(|| not_found(from))?;
            let moved: Vec<String> = tree
                .keys()
                .filter(|path| below(path, from).is_some())
                .cloned()
                .collect();
            for path in moved {
                if let (Some(node), Some(rest)) = (tree.remove(&path), below(&path, from)) {
                    tree.insert(format!("{to}/{rest}"), node);
                }
            }
            tree.insert(to.to_owned(), node);
            Ok(())
        })
    }

    fn remove_file(&self, path: &str) -> Result<(), StorageError> {
        self.tree.with(|tree| match tree.get(path) {
            Some(Node::File(_)) => {
                tree.remove(path);
                Ok(())
            }
            _ => Err(not_found(path)),
        })
    }

    fn remove_dir(&self, dir: &str) -> Result<(), StorageError> {
        self.tree.with(|tree| match tree.get(dir) {
            Some(Node::Dir) => {
                tree.retain(|path, _| path != dir && below(path, dir).is_none());
                Ok(())
            }
            _ => Err(not_found(dir)),
        })
    }

    fn exists(&self, path: &str) -> Result<bool, StorageError> {
        check_path(path)?;
        Ok(path.is_empty() || self.tree.with(|tree| tree.contains_key(path)))
    }

    /// There is no clock down here: retention by file time never finds anything old in memory.
    fn modified_ms(&self, path: &str) -> Result<i64, StorageError> {
        if self.exists(path)? {
            Ok(i64::MAX)
        } else {
            Err(not_found(path))
        }
    }

    fn sync_dir(&self, _dir: &str) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Positions are looked up by blocks of this many bytes.
const BLOCK: u64 = 64 << 10;

/// A file's contents.
#[derive(Default)]
struct Chunks {
    /// Each chunk with the position behind its last byte.
    chunks: Vec<(u64, Bytes)>,
    /// For each block that has begun, the chunk that holds its first byte.
    blocks: Vec<u32>,
    len: u64,
}

impl Chunks {
    fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.len += chunk.len() as u64;
        while self.blocks.len() as u64 * BLOCK < self.len {
            self.blocks.push(self.chunks.len() as u32);
        }
        self.chunks.push((self.len, chunk));
    }

    fn truncate(&mut self, len: u64) {
        while let Some((end, chunk)) = self.chunks.last_mut()
            && *end > len
        {
            let start = *end - chunk.len() as u64;
            if start >= len {
                self.chunks.pop();
            } else {
                chunk.truncate((len - start) as usize);
                *end = len;
            }
        }
        self.blocks.truncate(len.div_ceil(BLOCK) as usize);
        self.len = len;
    }

    /// The chunk that holds the byte at `pos`.
    fn chunk_at(&self, pos: u64) -> usize {
        let block = (pos / BLOCK) as usize;
        let known = |block: usize| self.blocks.get(block).map(|&chunk| chunk as usize);
        let from = known(block).unwrap_or(self.chunks.len());
        let to = known(block + 1).map_or(self.chunks.len(), |chunk| chunk + 1);
        from + self.chunks[from..to].partition_point(|(end, _)| *end <= pos)
    }

    /// Calls `each` with the pieces that make up the `len` bytes from `pos` on: a chunk and the range in it. False if they
    /// go past the end.
    fn each_piece(&self, pos: u64, len: usize, mut each: impl FnMut(&Bytes, Range<usize>)) -> bool {
        let Some(end) = pos.checked_add(len as u64).filter(|&end| end <= self.len) else {
            return false;
        };
        let first = self.chunk_at(pos);
        let mut at = pos;
        for (chunk_end, chunk) in &self.chunks[first..] {
            if at >= end {
                break;
            }
            let start = chunk_end - chunk.len() as u64;
            each(
                chunk,
                (at - start) as usize..(end.min(*chunk_end) - start) as usize,
            );
            at = *chunk_end;
        }
        true
    }

    fn read(&self, pos: u64, len: usize, out: &mut Vec<Bytes>) -> bool {
        self.each_piece(pos, len, |chunk, range| out.push(chunk.slice(range)))
    }

    fn copy(&self, pos: u64, bytes: &mut [u8]) -> bool {
        let mut at = 0;
        self.each_piece(pos, bytes.len(), |chunk, range| {
            let piece = &chunk[range];
            bytes[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        })
    }
}

/// A handle of a file; all handles of a file see the same contents.
struct MemoryFile {
    chunks: Arc<Guarded<Chunks>>,
    read_only: bool,
}

impl MemoryFile {
    fn writable(&self) -> Result<(), StorageError> {
        if self.read_only {
            Err(StorageError::new(
                StorageErrorKind::Denied,
                "opened for reading only",
            ))
        } else {
            Ok(())
        }
    }
}

fn past_the_end(pos: u64, len: u64) -> StorageError {
    StorageError::new(
        StorageErrorKind::Invalid,
        format!("position {pos} lies past the end ({len})"),
    )
}

impl StorageFile for MemoryFile {
    fn len(&self) -> u64 {
        self.chunks.with(|chunks| chunks.len)
    }

    fn append(&mut self, parts: &[Bytes]) -> Result<(), StorageError> {
        self.writable()?;
        self.chunks
            .with(|chunks| parts.iter().for_each(|part| chunks.push(part.clone())));
        Ok(())
    }

    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.writable()?;
        self.chunks.with(|chunks| {
            if pos > chunks.len {
                return Err(past_the_end(pos, chunks.len));
            }
            let mut rest = Vec::new();
            let end = pos + bytes.len() as u64;
            if end < chunks.len {
                chunks.read(end, (chunks.len - end) as usize, &mut rest);
            }
            chunks.truncate(pos);
            chunks.push(Bytes::copy_from_slice(bytes));
            rest.into_iter().for_each(|chunk| chunks.push(chunk));
            Ok(())
        })
    }

    fn read_at(&self, pos: u64, len: usize, out: &mut Vec<Bytes>) -> Result<(), StorageError> {
        self.chunks.with(|chunks| {
            if chunks.read(pos, len, out) {
                Ok(())
            } else {
                Err(past_the_end(pos.saturating_add(len as u64), chunks.len))
            }
        })
    }

    fn read_into(&self, pos: u64, bytes: &mut [u8]) -> Result<(), StorageError> {
        self.chunks.with(|chunks| {
            if chunks.copy(pos, bytes) {
                Ok(())
            } else {
                Err(past_the_end(
                    pos.saturating_add(bytes.len() as u64),
                    chunks.len,
                ))
            }
        })
    }

    fn truncate(&mut self, len: u64) -> Result<(), StorageError> {
        self.writable()?;
        self.chunks.with(|chunks| {
            if len > chunks.len {
                return Err(past_the_end(len, chunks.len));
            }
            chunks.truncate(len);
            Ok(())
        })
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn syncer(&self) -> Arc<dyn Syncer> {
        Arc::new(Durable)
    }

    fn seal(&mut self) {}
}

/// Memory has nothing to wait for.
struct Durable;

impl Syncer for Durable {
    fn sync(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

pub use guarded::Guarded;

/// A value behind a spinning flag.
#[allow(unsafe_code)]
mod guarded {
    use super::{AtomicBool, Ordering};
    use core::{cell::UnsafeCell, hint};

    /// A value that one thread uses at a time. There are no blocking locks below the driver; sections are short.
    #[derive(Default)]
    pub struct Guarded<T> {
        taken: AtomicBool,
        value: UnsafeCell<T>,
    }

    // SAFETY: `with` hands out the value to one thread at a time, and the flag orders their accesses.
    unsafe impl<T: Send> Sync for Guarded<T> {}

    impl<T> Guarded<T> {
        /// Uses the value alone. Must not be nested on the same value.
        pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
            struct Release<'a>(&'a AtomicBool);
            impl Drop for Release<'_> {
                fn drop(&mut self) {
                    self.0.store(false, Ordering::Release);
                }
            }
            while self
                .taken
                .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
            {
                hint::spin_loop();
            }
            let _release = Release(&self.taken);
            // SAFETY: the flag was free and is ours until `_release` is dropped.
            work(unsafe { &mut *self.value.get() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        crate::conformance::all(&|| Arc::new(MemoryStorage::new()));
    }

    #[test]
    fn reads_are_the_appended_chunks_themselves() {
        let storage = MemoryStorage::new();
        let mut file = storage.open("a", OpenHow::CreateNew).unwrap();
        let chunk = Bytes::from(alloc::vec![7u8; 100]);
        file.append(core::slice::from_ref(&chunk)).unwrap();
        let mut out = Vec::new();
        file.read_at(10, 50, &mut out).unwrap();
        assert_eq!(out[0].as_ptr(), chunk[10..].as_ptr());
    }
}
