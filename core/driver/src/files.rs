//! Storage on real files. How and why is told in `docs/internals/storage.md`.
//!
//! Appends are gathered writes at the end of the file. What was appended lately is kept as the chunks that it came in, so
//! that a consumer at the tail is served without a system call; what can't change any more is mapped; the little between the
//! two is read with `pread`.

use crate::clock;
use bytes::Bytes;
use ottla_log::{
    DirEntry, OpenHow, Space, Storage, StorageError, StorageErrorKind, StorageFile, Syncer,
    check_path,
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, IoSlice, Seek, SeekFrom, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::UNIX_EPOCH,
};

/// How a [`FileStorage`] trades memory for system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStorageOptions {
    /// Most bytes of recent appends that one file keeps in memory. 2 MiB.
    pub tail_bytes: usize,
    /// About how many bytes of recent appends all files together keep: with many files that are written, each keeps less, but
    /// always at least 64 KiB. 8 MiB.
    pub all_tails_bytes: usize,
    /// Whether files are mapped. Without, all that is not in memory is read with `pread`: slower, but if something else cuts a
    /// file short while it is read, that is an error and not a signal. True.
    pub map_files: bool,
}

impl Default for FileStorageOptions {
    fn default() -> Self {
        Self {
            tail_bytes: 2 << 20,
            all_tails_bytes: 8 << 20,
            map_files: true,
        }
    }
}

/// The least that a file may keep of its recent appends.
const LEAST_TAIL_BYTES: usize = 64 << 10;
/// A file that grows is mapped in windows of at least this many bytes, and of an eighth of what is mapped already: so there
/// are few of them, and little between the last one and the tail.
const WINDOW_BYTES: u64 = 1 << 20;
/// Windows begin at a multiple of this, which is one of every page size.
const WINDOW_ALIGN: u64 = 64 << 10;
/// Most parts that are written with one system call; an append of a batch has two.
const PARTS_PER_WRITE: usize = 64;
/// Most bytes that are written with one system call. Linux takes memory for the page cache in pieces as large as the write, and in a
/// virtual machine whose host takes back free memory the pieces from 128 KiB on are those that the host has to give again first.
const BYTES_PER_WRITE: usize = 64 << 10;

/// A directory of the file system as [`Storage`].
///
/// It doesn't lock the directory: that only one process writes to it is for its opener to see to.
pub struct FileStorage {
    root: PathBuf,
    options: FileStorageOptions,
    /// How many files keep recent appends.
    tails: Arc<AtomicUsize>,
}

impl FileStorage {
    /// The directory must exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::with_options(root, FileStorageOptions::default())
    }

    /// The directory must exist.
    pub fn with_options(root: impl Into<PathBuf>, options: FileStorageOptions) -> Self {
        Self {
            root: root.into(),
            options,
            tails: Arc::default(),
        }
    }

    fn resolve(&self, path: &str) -> Result<PathBuf, StorageError> {
        check_path(path)?;
        Ok(if path.is_empty() {
            self.root.clone()
        } else {
            self.root.join(path)
        })
    }
}

impl Storage for FileStorage {
    fn space(&self) -> Option<Space> {
        let room = rustix::fs::statvfs(&self.root).ok()?;
        Some(Space {
            total_bytes: room.f_blocks.saturating_mul(room.f_frsize),
            usable_bytes: room.f_bavail.saturating_mul(room.f_frsize),
        })
    }

    fn open(&self, path: &str, how: OpenHow) -> Result<Box<dyn StorageFile>, StorageError> {
        let full = self.resolve(path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(how != OpenHow::ReadOnly);
        match how {
            OpenHow::Existing | OpenHow::ReadOnly => &mut options,
            OpenHow::CreateNew => options.create_new(true),
            OpenHow::OpenOrCreate => options.create(true).truncate(false),
        };
        let file = options
            .open(full)
            .map_err(|error| failed("open", path, error))?;
        let metadata = file
            .metadata()
            .map_err(|error| failed("look at", path, error))?;
        if !metadata.is_file() {
            return Err(StorageError::new(
                StorageErrorKind::Invalid,
                format!("{path}: is not a regular file"),
            ));
        }
        Ok(Box::new(OpenFile {
            path: path.into(),
            file: Arc::new(Synced::new(file)),
            read_only: how == OpenHow::ReadOnly,
            len: metadata.len(),
            cursor: 0,
            sealed: false,
            tail: Tail {
                chunks: VecDeque::new(),
                bytes: 0,
                count: self.tails.clone(),
            },
            windows: RefCell::default(),
            looked_at: Cell::new(0),
            options: self.options,
        }))
    }

    fn list(&self, dir: &str) -> Result<Vec<DirEntry>, StorageError> {
        let failed = |error| failed("list", dir, error);
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.resolve(dir)?).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // A name that isn't UTF-8 is none of ours.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let metadata = match fs::metadata(entry.path()) {
                Ok(metadata) => metadata,
                // Gone since, or a link to nothing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            entries.push(DirEntry {
                name,
                is_dir: metadata.is_dir(),
                len: metadata.len(),
            });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create_dir(&self, dir: &str) -> Result<(), StorageError> {
        fs::create_dir_all(self.resolve(dir)?).map_err(|error| failed("create", dir, error))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        fs::rename(self.resolve(from)?, self.resolve(to)?)
            .map_err(|error| failed(&format!("rename to {to}"), from, error))
    }

    fn remove_file(&self, path: &str) -> Result<(), StorageError> {
        fs::remove_file(self.resolve(path)?).map_err(|error| failed("remove", path, error))
    }

    fn remove_dir(&self, dir: &str) -> Result<(), StorageError> {
        if dir.is_empty() {
            return Err(StorageError::new(
                StorageErrorKind::Invalid,
                "the data directory itself is not removed",
            ));
        }
        fs::remove_dir_all(self.resolve(dir)?).map_err(|error| failed("remove", dir, error))
    }

    fn exists(&self, path: &str) -> Result<bool, StorageError> {
        self.resolve(path)?
            .try_exists()
            .map_err(|error| failed("look for", path, error))
    }

    fn modified_ms(&self, path: &str) -> Result<i64, StorageError> {
        let failed = |error| failed("look at", path, error);
        let modified = fs::metadata(self.resolve(path)?)
            .and_then(|metadata| metadata.modified())
            .map_err(failed)?;
        Ok(match modified.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        })
    }

    fn sync_dir(&self, dir: &str) -> Result<(), StorageError> {
        // Windows has no handle of a directory that could be flushed; its entries are journaled.
        if cfg!(unix) {
            File::open(self.resolve(dir)?)
                .and_then(|dir| dir.sync_all())
                .map_err(|error| failed("sync", dir, error))?;
        }
        Ok(())
    }
}

/// An open file. One handle writes; others may read what was there when they were opened.
struct OpenFile {
    path: String,
    file: Arc<Synced>,
    read_only: bool,
    /// Bytes that belong to the file. After a failed write there may be more on the disk.
    len: u64,
    /// Where the file's own cursor stands.
    cursor: u64,
    /// Whether all of it may be mapped.
    sealed: bool,
    tail: Tail,
    /// What is mapped: one after the other from the beginning of the file.
    windows: RefCell<Vec<Window>>,
    /// The tick at which the file was last known to be as long as it must be.
    looked_at: Cell<u64>,
    options: FileStorageOptions,
}

/// A mapped piece of a file.
struct Window {
    /// The position behind its last byte.
    end: u64,
    bytes: Bytes,
}

/// The chunks that were appended last, up to the end of the file.
struct Tail {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// How many files keep any, of the whole storage.
    count: Arc<AtomicUsize>,
}

impl Tail {
    /// Keeps a chunk, and drops what then is too much.
    fn push(&mut self, chunk: Bytes, options: &FileStorageOptions) {
        if chunk.is_empty() {
            return;
        }
        if self.chunks.is_empty() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
        let share = options.all_tails_bytes / self.count.load(Ordering::Relaxed).max(1);
        let most = share.max(LEAST_TAIL_BYTES).min(options.tail_bytes);
        while self.bytes > most
            && let Some(oldest) = self.chunks.pop_front()
        {
            self.bytes -= oldest.len();
            if self.chunks.is_empty() {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Drops the last `bytes` bytes.
    fn cut(&mut self, bytes: usize) {
        let keep = self.bytes.saturating_sub(bytes);
        if keep == 0 {
            return self.clear();
        }
        while self.bytes > keep
            && let Some(mut newest) = self.chunks.pop_back()
        {
            let before = newest.len();
            newest.truncate(before.saturating_sub(self.bytes - keep));
            self.bytes -= before - newest.len();
            if !newest.is_empty() {
                self.chunks.push_back(newest);
            }
        }
    }

    fn clear(&mut self) {
        if !self.chunks.is_empty() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        self.chunks.clear();
        self.bytes = 0;
    }

    /// Adds the bytes from `from` to `to` (counted from the tail's beginning) to `out`.
    ///
    /// Readers are mostly at the end, so that is where the search begins.
    fn read(&self, from: usize, to: usize, out: &mut Vec<Bytes>) {
        let mut first = self.chunks.len();
        let mut start = self.bytes;
        while start > from && first > 0 {
            first -= 1;
            start -= self.chunks[first].len();
        }
        for chunk in self.chunks.range(first..) {
            if start >= to {
                break;
            }
            let end = start + chunk.len();
            out.push(chunk.slice(from.saturating_sub(start)..to.min(end) - start));
            start = end;
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.clear();
    }
}

impl OpenFile {
    fn failed(&self, action: &str, error: io::Error) -> StorageError {
        failed(action, &self.path, error)
    }

    fn invalid(&self, what: String) -> StorageError {
        StorageError::new(StorageErrorKind::Invalid, format!("{}: {what}", self.path))
    }

    fn check_writable(&self) -> Result<(), StorageError> {
        if self.read_only {
            return Err(StorageError::new(
                StorageErrorKind::Denied,
                format!("{}: opened for reading only", self.path),
            ));
        }
        Ok(())
    }

    fn tail_start(&self) -> u64 {
        self.len - self.tail.bytes as u64
    }

    /// Writes all parts at the end of the file.
    fn write_parts(&mut self, parts: &[Bytes]) -> io::Result<()> {
        let mut file = &self.file.file;
        if self.cursor != self.len {
            self.cursor = file.seek(SeekFrom::Start(self.len))?;
        }
        let mut left: usize = parts.iter().map(Bytes::len).sum();
        // What is written next: the part, and how much of it is written.
        let (mut at, mut offset) = (0, 0);
        while left > 0 {
            let mut room = BYTES_PER_WRITE;
            if left > room {
                room -= (self.cursor % BYTES_PER_WRITE as u64) as usize;
            }
            let mut buffers = [IoSlice::new(&[]); PARTS_PER_WRITE];
            let mut count = 0;
            let mut skip = offset;
            for part in &parts[at..] {
                if count == PARTS_PER_WRITE || room == 0 {
                    break;
                }
                let piece = &part[skip..part.len().min(skip + room)];
                skip = 0;
                // Empty buffers must not be mistaken for a file that takes nothing.
                if !piece.is_empty() {
                    buffers[count] = IoSlice::new(piece);
                    count += 1;
                    room -= piece.len();
                }
            }
            match file.write_vectored(&buffers[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.cursor += written as u64;
                    left -= written;
                    offset += written;
                    while at < parts.len() && offset >= parts[at].len() {
                        offset -= parts[at].len();
                        at += 1;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The mapped bytes at `pos`, at most `len`; `None` if they are not to be mapped.
    fn mapped(&self, pos: u64, len: usize) -> Result<Option<Bytes>, StorageError> {
        if !self.options.map_files {
            return Ok(None);
        }
        let mut windows = self.windows.borrow_mut();
        let covered = windows.last().map_or(0, |window| window.end);
        if pos >= covered {
            // All but the tail can't change; a file that grows is mapped up to a round position behind which the next
            // window can begin.
            let end = if self.sealed {
                self.len
            } else {
                self.tail_start() & !(WINDOW_ALIGN - 1)
            };
            let worth_it =
                self.sealed || end.saturating_sub(covered) >= WINDOW_BYTES.max(covered / 8);
            if pos >= end || !worth_it {
                return Ok(None);
            }
            self.check_not_cut()?;
            windows.push(Window {
                end,
                bytes: map(&self.file.file, covered, (end - covered) as usize)
                    .map_err(|error| self.failed("map", error))?,
            });
        } else {
            self.check_not_cut()?;
        }
        let window = &windows[windows.partition_point(|window| window.end <= pos)];
        let start = window.bytes.len() - (window.end - pos) as usize;
        let end = window.bytes.len().min(start + len);
        Ok(Some(window.bytes.slice(start..end)))
    }

    /// A page of a map that lies behind the end of its file can't be read, and who tries gets a signal. So before bytes are handed
    /// out of maps it is looked, once in a tick of the system's clock, whether another program has cut the file.
    fn check_not_cut(&self) -> Result<(), StorageError> {
        let tick = clock::tick();
        if self.looked_at.get() == tick {
            return Ok(());
        }
        let len = self
            .file
            .file
            .metadata()
            .map_err(|error| self.failed("look at", error))?
            .len();
        if len < self.len {
            return Err(StorageError::new(
                StorageErrorKind::Io,
                format!(
                    "{}: another program has cut it from {} bytes to {len}",
                    self.path, self.len
                ),
            ));
        }
        self.looked_at.set(tick);
        Ok(())
    }

    /// Drops the maps from `pos` on, since those bytes change.
    fn unmap_from(&mut self, pos: u64) {
        let windows = self.windows.get_mut();
        while windows.last().is_some_and(|window| window.end > pos) {
            windows.pop();
        }
        // The last window of a sealed file may end anywhere, but the next must begin at a page.
        if let Some(last) = windows.last()
            && last.end % WINDOW_ALIGN != 0
        {
            windows.pop();
        }
    }
}

impl StorageFile for OpenFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn append(&mut self, parts: &[Bytes]) -> Result<(), StorageError> {
        self.check_writable()?;
        if self.sealed {
            self.sealed = false;
            self.unmap_from(self.len);
        }
        self.write_parts(parts)
            .map_err(|error| self.failed("append to", error))?;
        for part in parts {
            self.len += part.len() as u64;
            self.tail.push(part.clone(), &self.options);
        }
        Ok(())
    }

    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.check_writable()?;
        if pos > self.len {
            return Err(self.invalid(format!("position {pos} lies past the end ({})", self.len)));
        }
        self.sealed = false;
        self.unmap_from(pos);
        // Not worth to be mended: files that are overwritten are not read at their tail.
        self.tail.clear();
        let mut file = &self.file.file;
        self.cursor = u64::MAX;
        file.seek(SeekFrom::Start(pos))
            .and_then(|_| file.write_all(bytes))
            .map_err(|error| self.failed("write to", error))?;
        let end = pos + bytes.len() as u64;
        self.len = self.len.max(end);
        self.cursor = end;
        Ok(())
    }

    fn read_at(&self, pos: u64, len: usize, out: &mut Vec<Bytes>) -> Result<(), StorageError> {
        let Some(end) = pos.checked_add(len as u64).filter(|&end| end <= self.len) else {
            return Err(self.invalid(format!(
                "{len} bytes from {pos} on, of a file of {}",
                self.len
            )));
        };
        let tail_start = self.tail_start();
        let mut pos = pos;
        while pos < end.min(tail_start) {
            let len = (end.min(tail_start) - pos) as usize;
            let bytes = match self.mapped(pos, len)? {
                Some(bytes) => bytes,
                None => {
                    let mut bytes = vec![0; len];
                    read_exact_at(&self.file.file, pos, &mut bytes)
                        .map_err(|error| self.failed("read from", error))?;
                    bytes.into()
                }
            };
            pos += bytes.len() as u64;
            out.push(bytes);
        }
        if pos < end {
            self.tail.read(
                (pos - tail_start) as usize,
                (end - tail_start) as usize,
                out,
            );
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), StorageError> {
        self.check_writable()?;
        if len > self.len {
            return Err(self.invalid(format!("can't be cut from {} to {len}", self.len)));
        }
        self.sealed = false;
        self.unmap_from(len);
        self.file
            .file
            .set_len(len)
            .map_err(|error| self.failed("cut", error))?;
        self.tail.cut((self.len - len) as usize);
        self.len = len;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.file.sync(&self.path)
    }

    fn syncer(&self) -> Arc<dyn Syncer> {
        Arc::new(FileSyncer {
            path: self.path.clone(),
            file: self.file.clone(),
        })
    }

    fn seal(&mut self) {
        self.sealed = true;
        self.tail.clear();
    }
}

struct FileSyncer {
    path: String,
    file: Arc<Synced>,
}

impl Syncer for FileSyncer {
    fn sync(&self) -> Result<(), StorageError> {
        self.file.sync(&self.path)
    }
}

/// A descriptor, and whether a sync of it has failed.
///
/// The system tells of a write that failed once: to one caller of `fsync` with this descriptor. The next one hears that all is
/// well, and the broker's thread, the cleaner's and who closes the log may sync the same file at a time. So one does after the
/// other, and a failure is everyone's from then on.
struct Synced {
    file: File,
    failed: Mutex<Option<StorageError>>,
}

impl Synced {
    fn new(file: File) -> Self {
        Self {
            file,
            failed: Mutex::default(),
        }
    }

    /// `fdatasync`: the contents and the length, not the times.
    fn sync(&self, path: &str) -> Result<(), StorageError> {
        self.sync_with(path, || self.file.sync_data())
    }

    fn sync_with(
        &self,
        path: &str,
        sync: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), StorageError> {
        let mut before = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = &*before {
            return Err(error.clone());
        }
        sync().map_err(|error| before.insert(failed("sync", path, error)).clone())
    }
}

/// What a failed system call means, with what was tried on which file.
fn failed(action: &str, path: &str, error: io::Error) -> StorageError {
    use io::ErrorKind as Io;
    // EMFILE and ENFILE have no kind of their own.
    const TOO_MANY: [i32; 2] = if cfg!(windows) { [4, 4] } else { [24, 23] };
    let kind = match error.kind() {
        _ if error
            .raw_os_error()
            .is_some_and(|code| TOO_MANY.contains(&code)) =>
        {
            StorageErrorKind::TooManyFiles
        }
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => StorageErrorKind::Full,
        Io::NotFound => StorageErrorKind::NotFound,
        Io::AlreadyExists => StorageErrorKind::AlreadyExists,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => StorageErrorKind::Denied,
        Io::NotADirectory | Io::IsADirectory | Io::InvalidInput | Io::InvalidFilename => {
            StorageErrorKind::Invalid
        }
        _ => StorageErrorKind::Io,
    };
    let name = if path.is_empty() { "." } else { path };
    StorageError::new(kind, format!("{name}: could not {action}: {error}"))
}

#[cfg(unix)]
fn read_exact_at(file: &File, pos: u64, bytes: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, pos)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut pos: u64, mut bytes: &mut [u8]) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_read(bytes, pos)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                pos += n as u64;
                bytes = &mut bytes[n..];
            }
        }
    }
    Ok(())
}

/// Maps `len` bytes of a file from `pos` on, for reading.
#[allow(unsafe_code)]
fn map(file: &File, pos: u64, len: usize) -> io::Result<Bytes> {
    // SAFETY: the bytes are only ever read, and nothing in this process writes to or cuts off what is mapped: windows cover
    // what was appended before and are dropped ahead of `truncate` and `write_at`, which logs call only while they are opened
    // or cut, when no reader holds a slice. Another process that does it breaks the directory's lock; what happens then is told
    // in docs/internals/storage.md, and `map_files: false` is for those who must rule it out.
    let map = unsafe { memmap2::MmapOptions::new().offset(pos).len(len).map(file)? };
    Ok(Bytes::from_owner(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_dir(dir: &tempfile::TempDir, options: FileStorageOptions) -> FileStorage {
        FileStorage::with_options(dir.path(), options)
    }

    #[test]
    fn conforms_however_much_is_kept_and_mapped() {
        for (tail_bytes, map_files) in [(4 << 20, true), (4 << 20, false), (1000, true), (0, false)]
        {
            let options = FileStorageOptions {
                tail_bytes,
                map_files,
                ..FileStorageOptions::default()
            };
            let dirs = RefCell::new(Vec::new());
            ottla_log::conformance::all(&|| {
                let dir = tempfile::tempdir().unwrap();
                let storage = Arc::new(in_dir(&dir, options));
                dirs.borrow_mut().push(dir);
                storage
            });
        }
    }

    #[test]
    fn the_tail_is_the_appended_chunks_and_older_bytes_are_mapped() {
        let dir = tempfile::tempdir().unwrap();
        let storage = in_dir(&dir, FileStorageOptions::default());
        let mut file = storage.open("a", OpenHow::CreateNew).unwrap();
        let chunk = |i: usize| Bytes::from(vec![i as u8; 100_000]);
        for i in 0..199 {
            file.append(&[chunk(i)]).unwrap();
        }
        let last = chunk(199);
        file.append(std::slice::from_ref(&last)).unwrap();
        let newest = file.read_exact(file.len() - 50, 20).unwrap();
        assert_eq!(newest.as_ptr(), last[99_950..].as_ptr());
        let read = |file: &dyn StorageFile, what: &str| {
            for i in 0..200 {
                let bytes = file.read_exact(i as u64 * 100_000 + 1, 99_999).unwrap();
                assert!(bytes.iter().all(|b| *b == i as u8), "{what}, chunk {i}");
            }
            let (one, two) = (
                file.read_exact(5, 9).unwrap(),
                file.read_exact(5, 9).unwrap(),
            );
            assert_eq!(one.as_ptr(), two.as_ptr(), "{what}: mapped, not copied");
        };
        read(file.as_ref(), "growing");
        file.seal();
        read(file.as_ref(), "sealed");
        file.append(&[Bytes::from_static(b"more")]).unwrap();
        read(file.as_ref(), "grown again");
        file.truncate(19_950_001).unwrap();
        assert_eq!(file.read_exact(19_950_000, 1).unwrap(), [199][..]);
    }

    #[test]
    fn a_file_that_another_program_cuts_is_an_error_and_no_signal() {
        let dir = tempfile::tempdir().unwrap();
        let options = FileStorageOptions {
            tail_bytes: 0,
            ..FileStorageOptions::default()
        };
        let storage = in_dir(&dir, options);
        for sealed in [false, true] {
            let name = sealed.to_string();
            let mut file = storage.open(&name, OpenHow::CreateNew).unwrap();
            file.append(&[Bytes::from(vec![7; 3 << 20])]).unwrap();
            if sealed {
                file.seal();
            }
            assert_eq!(file.read_exact(2 << 20, 1).unwrap(), [7][..]);
            let other = File::options().write(true).open(dir.path().join(&name));
            other.unwrap().set_len(1 << 20).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(30));
            let error = file.read_exact(2 << 20, 1).unwrap_err();
            assert_eq!(error.kind, StorageErrorKind::Io);
            assert!(error.message.contains("another program"), "{error}");
        }
    }

    #[test]
    fn a_failed_sync_has_failed_for_everyone() {
        let file = Arc::new(Synced::new(tempfile::tempfile().unwrap()));
        let of_another_thread = FileSyncer {
            path: "a".into(),
            file: file.clone(),
        };
        assert_eq!(of_another_thread.sync(), Ok(()));
        // The system says it once.
        let lost = || Err(io::Error::from_raw_os_error(5));
        let error = file.sync_with("a", lost).unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::Io);
        assert_eq!(of_another_thread.sync(), Err(error));
    }

    #[test]
    fn many_files_share_the_memory_for_tails() {
        let dir = tempfile::tempdir().unwrap();
        let options = FileStorageOptions {
            all_tails_bytes: 1 << 20,
            ..FileStorageOptions::default()
        };
        let storage = in_dir(&dir, options);
        let mut files: Vec<_> = (0..8)
            .map(|i| storage.open(&i.to_string(), OpenHow::CreateNew).unwrap())
            .collect();
        let chunks: Vec<Bytes> = (0..64).map(|_| Bytes::from(vec![1; 32 << 10])).collect();
        for file in &mut files {
            for chunk in &chunks {
                file.append(std::slice::from_ref(chunk)).unwrap();
            }
        }
        assert_eq!(storage.tails.load(Ordering::Relaxed), 8);
        let last = files.last_mut().unwrap();
        let at = |back: u64| last.read_exact(last.len() - back, 1).unwrap().as_ptr();
        assert_eq!(at(1), chunks[63][(32 << 10) - 1..].as_ptr());
        assert_eq!(at(128 << 10), chunks[60].as_ptr());
        assert_ne!(at((128 << 10) + 1), chunks[59][(32 << 10) - 1..].as_ptr());
        last.seal();
        drop(files);
        assert_eq!(storage.tails.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn many_small_parts_are_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let storage = in_dir(&dir, FileStorageOptions::default());
        let mut file = storage.open("a", OpenHow::CreateNew).unwrap();
        let parts: Vec<Bytes> = (0..3000)
            .map(|i| Bytes::from(vec![i as u8; i % 3]))
            .collect();
        file.append(&parts).unwrap();
        file.append(&[]).unwrap();
        file.append(&[Bytes::new()]).unwrap();
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), parts.concat());
    }

    #[test]
    fn large_parts_are_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let storage = in_dir(&dir, FileStorageOptions::default());
        let mut file = storage.open("a", OpenHow::CreateNew).unwrap();
        let write = BYTES_PER_WRITE;
        let part = |len: usize| Bytes::from_iter((0..len).map(|at| (at % 251) as u8));
        let lens = [61, write - 61, 0, 1, write, write + 1, 5 * write + 7, 61, 3];
        let mut expected = Vec::new();
        for some in [&lens[..], &lens[..2], &lens[3..], &lens[6..7]] {
            let parts: Vec<Bytes> = some.iter().map(|len| part(*len)).collect();
            file.append(&parts).unwrap();
            expected.extend(parts.concat());
        }
        assert!(fs::read(dir.path().join("a")).unwrap() == expected);
    }

    #[test]
    fn errors_have_kinds_and_say_where() {
        let dir = tempfile::tempdir().unwrap();
        let storage = in_dir(&dir, FileStorageOptions::default());
        fs::create_dir(dir.path().join("sub")).unwrap();
        let error = storage.open("sub", OpenHow::ReadOnly).err().unwrap();
        assert_eq!(error.kind, StorageErrorKind::Invalid);
        let error = storage.open("none/a", OpenHow::CreateNew).err().unwrap();
        assert_eq!(error.kind, StorageErrorKind::NotFound);
        assert!(
            error.message.starts_with("none/a: could not open"),
            "{error}"
        );
        assert_eq!(
            storage.remove_dir("").unwrap_err().kind,
            StorageErrorKind::Invalid
        );
        let kinds = [
            (28, StorageErrorKind::Full),
            (122, StorageErrorKind::Full),
            (27, StorageErrorKind::Full),
            (24, StorageErrorKind::TooManyFiles),
            (23, StorageErrorKind::TooManyFiles),
            (30, StorageErrorKind::Denied),
            (13, StorageErrorKind::Denied),
            (2, StorageErrorKind::NotFound),
            (5, StorageErrorKind::Io),
        ];
        if cfg!(target_os = "linux") {
            for (code, kind) in kinds {
                assert_eq!(
                    failed("write", "f", io::Error::from_raw_os_error(code)).kind,
                    kind,
                    "{code}"
                );
            }
            let full = File::options().write(true).open("/dev/full");
            assert!(full.and_then(|mut f| f.write_all(b"x")).is_err());
        }
    }
}
