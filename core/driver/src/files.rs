//! Storage on real files.
//!
//! Appends are one `pwritev` of the parts as they are. What was appended last is kept as the same shared chunks, so that a
//! consumer at the tail reads without a system call; what lies below is read with `pread`; sealed files are mapped once, and
//! reads are slices of the mapping.

#![allow(unsafe_code)] // one block: mapping a sealed file

use bytes::Bytes;
use memmap2::Mmap;
use ottla_log::{
    DirEntry, OpenHow, Storage, StorageError, StorageErrorKind, StorageFile, Syncer, check_path,
};
use std::{
    cell::OnceCell,
    collections::VecDeque,
    fs::{self, File},
    io::{self, IoSlice},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// How much of a file's end is kept in memory: a few batches of librdkafka's default size.
const TAIL_BYTES: usize = 2 << 20;
/// Parts of one `pwritev`; the system allows 1024.
const MOST_PARTS: usize = 512;

/// A data directory on a file system.
#[derive(Debug)]
pub struct FileStorage {
    root: PathBuf,
}

impl FileStorage {
    /// The directory must exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, path: &str) -> Result<PathBuf, StorageError> {
        check_path(path)?;
        Ok(if path.is_empty() {
            self.root.clone()
        } else {
            self.root.join(path)
        })
    }
}

/// What a system error means here.
fn failed(what: &str, path: &Path, error: &io::Error) -> StorageError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StorageErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => StorageErrorKind::AlreadyExists,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StorageErrorKind::Denied
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StorageErrorKind::Full
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => StorageErrorKind::Invalid,
        _ if [libc::EMFILE, libc::ENFILE]
            .map(Some)
            .contains(&error.raw_os_error()) =>
        {
            StorageErrorKind::TooManyFiles
        }
        _ => StorageErrorKind::Io,
    };
    StorageError::new(kind, format!("{what} {}: {error}", path.display()))
}

impl Storage for FileStorage {
    fn open(&self, path: &str, how: OpenHow) -> Result<Box<dyn StorageFile>, StorageError> {
        let path = self.path(path)?;
        let mut options = File::options();
        options.read(true);
        match how {
            OpenHow::ReadOnly => &mut options,
            OpenHow::Existing => options.write(true),
            OpenHow::CreateNew => options.write(true).create_new(true),
            OpenHow::OpenOrCreate => options.write(true).create(true),
        };
        let opened = options.open(&path).and_then(|file| {
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                Err(io::ErrorKind::IsADirectory.into())
            } else {
                Ok((metadata.len(), file))
            }
        });
        let (len, file) = opened.map_err(|error| failed("opening", &path, &error))?;
        Ok(Box::new(OpenFile {
            file: Arc::new(NamedFile { file, path }),
            len,
            read_only: how == OpenHow::ReadOnly,
            tail: VecDeque::new(),
            tail_start: len,
            sealed: None,
        }))
    }

    fn list(&self, dir: &str) -> Result<Vec<DirEntry>, StorageError> {
        let path = self.path(dir)?;
        let entries = fs::read_dir(&path).and_then(|entries| {
            entries
                .map(|entry| {
                    let entry = entry?;
                    let metadata = fs::metadata(entry.path()).or_else(|_| entry.metadata())?;
                    let is_dir = metadata.is_dir();
                    let name = entry.file_name().to_string_lossy().into_owned();
                    Ok(DirEntry {
                        name,
                        is_dir,
                        len: if is_dir { 0 } else { metadata.len() },
                    })
                })
                .collect::<io::Result<Vec<_>>>()
        });
        let mut entries = entries.map_err(|error| failed("listing", &path, &error))?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create_dir(&self, dir: &str) -> Result<(), StorageError> {
        let path = self.path(dir)?;
        fs::create_dir_all(&path).map_err(|error| failed("creating", &path, &error))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let (from, to) = (self.path(from)?, self.path(to)?);
        fs::rename(&from, &to).map_err(|error| failed("renaming", &from, &error))
    }

    fn remove_file(&self, path: &str) -> Result<(), StorageError> {
        let path = self.path(path)?;
        fs::remove_file(&path).map_err(|error| failed("removing", &path, &error))
    }

    fn remove_dir(&self, dir: &str) -> Result<(), StorageError> {
        if dir.is_empty() {
            return Err(StorageError::new(
                StorageErrorKind::Invalid,
                "the data directory itself is not removed",
            ));
        }
        let path = self.path(dir)?;
        fs::remove_dir_all(&path).map_err(|error| failed("removing", &path, &error))
    }

    fn exists(&self, path: &str) -> Result<bool, StorageError> {
        let path = self.path(path)?;
        path.try_exists()
            .map_err(|error| failed("looking for", &path, &error))
    }

    fn modified_ms(&self, path: &str) -> Result<i64, StorageError> {
        let path = self.path(path)?;
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
        let modified = modified.map_err(|error| failed("looking at", &path, &error))?;
        Ok(modified
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64))
    }

    fn sync_dir(&self, dir: &str) -> Result<(), StorageError> {
        let path = self.path(dir)?;
        File::open(&path)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| failed("syncing", &path, &error))
    }
}

struct NamedFile {
    file: File,
    path: PathBuf,
}

impl Syncer for NamedFile {
    fn sync(&self) -> Result<(), StorageError> {
        self.file
            .sync_data()
            .map_err(|error| failed("syncing", &self.path, &error))
    }
}

struct OpenFile {
    file: Arc<NamedFile>,
    len: u64,
    read_only: bool,
    /// The chunks that were appended last, in order.
    tail: VecDeque<Bytes>,
    /// Position of the tail's first byte; the tail goes up to the end of the file.
    tail_start: u64,
    /// For a file that is no longer written: its mapping, once it was needed.
    sealed: Option<OnceCell<Bytes>>,
}

impl OpenFile {
    fn failed(&self, what: &str, error: &io::Error) -> StorageError {
        failed(what, &self.file.path, error)
    }

    fn begin_write(&mut self) -> Result<(), StorageError> {
        if self.read_only {
            let message = format!("{} was opened for reading only", self.file.path.display());
            return Err(StorageError::new(StorageErrorKind::Denied, message));
        }
        self.sealed = None;
        Ok(())
    }

    fn past_the_end(&self, pos: u64) -> StorageError {
        let message = format!(
            "{}: position {pos} lies past the end ({})",
            self.file.path.display(),
            self.len
        );
        StorageError::new(StorageErrorKind::Invalid, message)
    }

    fn remember(&mut self, parts: &[Bytes]) {
        self.tail
            .extend(parts.iter().filter(|part| !part.is_empty()).cloned());
        while self.len - self.tail_start > TAIL_BYTES as u64 && self.tail.len() > 2 {
            if let Some(gone) = self.tail.pop_front() {
                self.tail_start += gone.len() as u64;
            }
        }
    }

    fn forget_tail(&mut self) {
        self.tail.clear();
        self.tail_start = self.len;
    }

    fn mapping(&self, sealed: &OnceCell<Bytes>) -> io::Result<Bytes> {
        if let Some(bytes) = sealed.get() {
            return Ok(bytes.clone());
        }
        // SAFETY: the file belongs to this process by the directory's lock and is not written any more. Should somebody cut it
        // all the same, an access ends the process with SIGBUS; docs/internals/storage.md says so.
        let map = unsafe { Mmap::map(&self.file.file)? };
        let bytes = Bytes::from_owner(map);
        Ok(sealed.get_or_init(|| bytes).clone())
    }

    /// Reads what lies below the tail.
    fn read_below(&self, pos: u64, len: usize, out: &mut Vec<Bytes>) -> Result<(), StorageError> {
        if let Some(sealed) = &self.sealed
            && let Ok(map) = self.mapping(sealed)
            && pos + len as u64 <= map.len() as u64
        {
            out.push(map.slice(pos as usize..pos as usize + len));
            return Ok(());
        }
        let mut buffer = vec![0; len];
        self.file
            .file
            .read_exact_at(&mut buffer, pos)
            .map_err(|error| self.failed("reading", &error))?;
        out.push(buffer.into());
        Ok(())
    }
}

impl StorageFile for OpenFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn append(&mut self, parts: &[Bytes]) -> Result<(), StorageError> {
        self.begin_write()?;
        for parts in parts.chunks(MOST_PARTS) {
            let mut slices: Vec<IoSlice<'_>> =
                parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut left: &mut [IoSlice<'_>] = &mut slices;
            let mut at = self.len;
            while left.iter().any(|slice| !slice.is_empty()) {
                match rustix::io::pwritev(&self.file.file, left, at) {
                    Ok(0) => return Err(self.failed("writing", &io::ErrorKind::WriteZero.into())),
                    Ok(written) => {
                        at += written as u64;
                        IoSlice::advance_slices(&mut left, written);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(self.failed("writing", &error.into())),
                }
            }
            self.len = at;
            self.remember(parts);
        }
        Ok(())
    }

    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.begin_write()?;
        if pos > self.len {
            return Err(self.past_the_end(pos));
        }
        self.file
            .file
            .write_all_at(bytes, pos)
            .map_err(|error| self.failed("writing", &error))?;
        self.len = self.len.max(pos + bytes.len() as u64);
        self.forget_tail();
        Ok(())
    }

    fn read_at(&self, pos: u64, len: usize, out: &mut Vec<Bytes>) -> Result<(), StorageError> {
        let Some(end) = pos.checked_add(len as u64).filter(|end| *end <= self.len) else {
            return Err(self.past_the_end(pos.saturating_add(len as u64)));
        };
        if len == 0 {
            return Ok(());
        }
        let below = self.tail_start.clamp(pos, end);
        if below > pos {
            self.read_below(pos, (below - pos) as usize, out)?;
        }
        let mut start = self.tail_start;
        for chunk in &self.tail {
            let chunk_end = start + chunk.len() as u64;
            if start >= end {
                break;
            }
            if chunk_end > below {
                out.push(chunk.slice(
                    (below.max(start) - start) as usize..(end.min(chunk_end) - start) as usize,
                ));
            }
            start = chunk_end;
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), StorageError> {
        self.begin_write()?;
        if len > self.len {
            return Err(self.past_the_end(len));
        }
        self.file
            .file
            .set_len(len)
            .map_err(|error| self.failed("cutting", &error))?;
        self.len = len;
        self.forget_tail();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.file.sync()
    }

    fn syncer(&self) -> Arc<dyn Syncer> {
        self.file.clone()
    }

    fn seal(&mut self) {
        if self.sealed.is_none() && self.len > 0 {
            self.sealed = Some(OnceCell::new());
            self.forget_tail();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn conforms() {
        let dirs = Mutex::new(Vec::new());
        ottla_log::conformance::all(&|| {
            let dir = tempfile::tempdir().unwrap();
            let storage = Arc::new(FileStorage::new(dir.path()));
            dirs.lock().unwrap().push(dir);
            storage
        });
    }

    #[test]
    fn the_tail_is_the_appended_chunks_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let storage = FileStorage::new(dir.path());
        let mut file = storage.open("f", OpenHow::CreateNew).unwrap();
        let chunks: Vec<Bytes> = (0..40)
            .map(|i| Bytes::from(vec![i as u8; 100_000]))
            .collect();
        chunks
            .iter()
            .for_each(|chunk| file.append(std::slice::from_ref(chunk)).unwrap());
        let mut out = Vec::new();
        file.read_at(39 * 100_000 + 5, 10, &mut out).unwrap();
        assert_eq!(out[0].as_ptr(), chunks[39][5..].as_ptr());
        // A read from far below the tail into it.
        let all = file.read_exact(0, 4_000_000).unwrap();
        assert!(
            all.chunks(100_000)
                .enumerate()
                .all(|(i, part)| part.iter().all(|b| *b == i as u8))
        );
    }
}
