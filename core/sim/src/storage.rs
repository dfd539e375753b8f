//! Storage that forgets at a crash what was not synced, and fails when it is told to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use ottla_log::{
    DirEntry, OpenHow, Storage, StorageError, StorageErrorKind, StorageFile, Syncer, check_path,
};

use crate::{planted::Bug, random::Random};

/// What a disk writes whole: the unit in which overwritten bytes survive a crash or don't.
const SECTOR: usize = 512;

/// A data directory whose files have a durable and a volatile image.
#[derive(Clone)]
pub struct SimStorage {
    disk: Arc<Mutex<Disk>>,
}

struct Disk {
    random: Random,
    planted: Option<Bug>,
    files: Vec<File>,
    /// What programs see.
    names: BTreeMap<String, Node>,
    /// What a crash leaves at least: `names` without `journal`.
    durable_names: BTreeMap<String, Node>,
    /// Changes of names since then, in their order, each with whether its directory was synced.
    journal: Vec<(Change, bool)>,
    /// Syncs and appends that fail, of a thousand.
    failing: u64,
    faults: u64,
    now_ms: i64,
}

#[derive(Clone, Copy, PartialEq)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Clone)]
enum Change {
    Add(String, Node),
    Rename(String, String),
    Remove(String),
}

#[derive(Default)]
struct File {
    data: Vec<u8>,
    durable: Vec<u8>,
    /// From here on the two may differ.
    dirty_from: usize,
    modified_ms: i64,
}

impl File {
    fn touch(&mut self, from: usize, now_ms: i64) {
        self.dirty_from = self.dirty_from.min(from);
        self.modified_ms = now_ms;
    }

    fn make_durable(&mut self) {
        let same = self.dirty_from.min(self.durable.len()).min(self.data.len());
        self.durable.truncate(same);
        self.durable.extend_from_slice(&self.data[same..]);
        self.dirty_from = self.data.len();
    }

    /// What was written and not synced survives in part: a prefix of appended bytes, any sectors of overwritten ones.
    fn crash(&mut self, random: &mut Random) {
        let (old, new) = (self.durable.len(), self.data.len());
        let len = match random.below(4) {
            0 => old,
            1 => new,
            _ if new > old => random.between(old as u64, new as u64) as usize,
            _ => old,
        };
        let mut left = Vec::with_capacity(len);
        let same = self.dirty_from.min(old).min(new).min(len);
        left.extend_from_slice(&self.data[..same]);
        while left.len() < len {
            let at = left.len();
            let end = len.min((at / SECTOR + 1) * SECTOR);
            // Past the durable end only new bytes can be, or the zeros of a block that was never written.
            let written = if at < old {
                random.chance(500)
            } else {
                !random.chance(100)
            };
            let from = if written { &self.data } else { &self.durable };
            left.extend((at..end).map(|i| from.get(i).copied().unwrap_or(0)));
        }
        self.data = left.clone();
        self.durable = left;
        self.dirty_from = self.data.len();
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn is_below(path: &str, dir: &str) -> bool {
    dir.is_empty()
        || path
            .strip_prefix(dir)
            .is_some_and(|rest| rest.starts_with('/'))
}

fn apply(names: &mut BTreeMap<String, Node>, change: &Change) {
    let has_parent = |names: &BTreeMap<String, Node>, path: &str| {
        parent(path).is_empty() || names.get(parent(path)) == Some(&Node::Dir)
    };
    match change {
        Change::Add(path, node) => {
            if has_parent(names, path) {
                names.insert(path.clone(), *node);
            }
        }
        Change::Remove(path) => {
            names.retain(|name, _| name != path && !is_below(name, path));
        }
        Change::Rename(from, to) => {
            if !has_parent(names, to) || !names.contains_key(from) {
                return;
            }
            let moved: Vec<String> = names
                .keys()
                .filter(|name| *name == from || is_below(name, from))
                .cloned()
                .collect();
            for name in moved {
                if let Some(node) = names.remove(&name) {
                    names.insert(format!("{to}{}", &name[from.len()..]), node);
                }
            }
        }
    }
}

fn not_found(path: &str) -> StorageError {
    StorageError::new(
        StorageErrorKind::NotFound,
        format!("{path}: no such file or directory"),
    )
}

impl Disk {
    fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.journal.push((change, false));
    }

    fn fails(&mut self) -> bool {
        let fails = self.failing > 0 && self.random.chance(self.failing);
        self.faults += u64::from(fails);
        fails
    }

    fn sync(&mut self, file: usize) -> Result<(), StorageError> {
        if self.fails() {
            return Err(StorageError::new(
                StorageErrorKind::Io,
                "simulated: sync failed",
            ));
        }
        if self.planted != Some(Bug::LyingSync) {
            self.files[file].make_durable();
        }
        Ok(())
    }

    fn crash(&mut self) {
        let cut = self.random.below(self.journal.len() as u64 + 1) as usize;
        let mut names = std::mem::take(&mut self.durable_names);
        for (index, (change, durable)) in self.journal.drain(..).enumerate() {
            if durable || index < cut {
                apply(&mut names, &change);
            }
        }
        for file in &mut self.files {
            file.crash(&mut self.random);
        }
        if let Some(bug @ (Bug::DropsSynced | Bug::SharesForgotten)) = self.planted {
            for (name, node) in &names {
                if let Node::File(file) = node
                    && name.ends_with(".log")
                    && (bug == Bug::DropsSynced || name.contains("__share_group_state"))
                {
                    let file = &mut self.files[*file];
                    let len = file.data.len() - file.data.len().min(150);
                    file.data.truncate(len);
                    file.make_durable();
                }
            }
        }
        self.durable_names = names.clone();
        self.names = names;
    }
}

impl SimStorage {
    /// An empty, durable directory.
    pub fn new(seed: u64, planted: Option<Bug>) -> Self {
        Self {
            disk: Arc::new(Mutex::new(Disk {
                random: Random::new(seed),
                planted,
                files: Vec::new(),
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                journal: Vec::new(),
                failing: 0,
                faults: 0,
                now_ms: 0,
            })),
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power fails: what was not synced is gone or torn. Nobody may use files that were open.
    pub fn crash(&self) {
        self.disk().crash();
    }

    /// From now on so many of a thousand appends and syncs fail.
    pub fn set_failing(&self, per_mille: u64) {
        self.disk().failing = per_mille;
    }

    /// Appends and syncs that failed so far.
    pub fn faults(&self) -> u64 {
        self.disk().faults
    }

    /// The clock for modification times.
    pub fn set_now_ms(&self, now_ms: i64) {
        self.disk().now_ms = now_ms;
    }
}

impl Storage for SimStorage {
    fn open(&self, path: &str, how: OpenHow) -> Result<Box<dyn StorageFile>, StorageError> {
        check_path(path)?;
        let mut disk = self.disk();
        let file = match (disk.names.get(path).copied(), how) {
            (Some(Node::Dir), _) => {
                let why = format!("{path}: is a directory");
                return Err(StorageError::new(StorageErrorKind::Invalid, why));
            }
            (Some(_), OpenHow::CreateNew) => {
                let why = format!("{path}: exists");
                return Err(StorageError::new(StorageErrorKind::AlreadyExists, why));
            }
            (Some(Node::File(file)), _) => file,
            (None, OpenHow::Existing | OpenHow::ReadOnly) => return Err(not_found(path)),
            (None, _) => {
                let dir = parent(path);
                if !dir.is_empty() && disk.names.get(dir) != Some(&Node::Dir) {
                    return Err(not_found(path));
                }
                let file = disk.files.len();
                let modified_ms = disk.now_ms;
                disk.files.push(File {
                    modified_ms,
                    ..File::default()
                });
                disk.change(Change::Add(path.into(), Node::File(file)));
                file
            }
        };
        Ok(Box::new(Handle {
            storage: self.clone(),
            file,
            read_only: how == OpenHow::ReadOnly,
        }))
    }

    fn list(&self, dir: &str) -> Result<Vec<DirEntry>, StorageError> {
        check_path(dir)?;
        let disk = self.disk();
        if !dir.is_empty() && disk.names.get(dir) != Some(&Node::Dir) {
            return Err(not_found(dir));
        }
        let entries = disk.names.iter().filter(|(path, _)| parent(path) == dir);
        Ok(entries
            .map(|(path, node)| DirEntry {
                name: path.rsplit('/').next().unwrap_or(path).into(),
                is_dir: *node == Node::Dir,
                len: match node {
                    Node::Dir => 0,
                    Node::File(file) => disk.files[*file].data.len() as u64,
                },
            })
            .collect())
    }

    fn create_dir(&self, dir: &str) -> Result<(), StorageError> {
        check_path(dir)?;
        let mut disk = self.disk();
        for (end, _) in dir.match_indices('/').chain([(dir.len(), "")]) {
            match disk.names.get(&dir[..end]) {
                Some(Node::Dir) => {}
                Some(Node::File(_)) => {
                    let why = format!("{dir}: a file is in the way");
                    return Err(StorageError::new(StorageErrorKind::AlreadyExists, why));
                }
                None if end == 0 => {}
                None => disk.change(Change::Add(dir[..end].into(), Node::Dir)),
            }
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        check_path(from)?;
        check_path(to)?;
        let mut disk = self.disk();
        if !disk.names.contains_key(from) {
            return Err(not_found(from));
        }
        if !parent(to).is_empty() && disk.names.get(parent(to)) != Some(&Node::Dir) {
            return Err(not_found(to));
        }
        disk.change(Change::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove_file(&self, path: &str) -> Result<(), StorageError> {
        let mut disk = self.disk();
        if !matches!(disk.names.get(path), Some(Node::File(_))) {
            return Err(not_found(path));
        }
        disk.change(Change::Remove(path.into()));
        Ok(())
    }

    fn remove_dir(&self, dir: &str) -> Result<(), StorageError> {
        let mut disk = self.disk();
        if disk.names.get(dir) != Some(&Node::Dir) {
            return Err(not_found(dir));
        }
        disk.change(Change::Remove(dir.into()));
        Ok(())
    }

    fn exists(&self, path: &str) -> Result<bool, StorageError> {
        check_path(path)?;
        Ok(path.is_empty() || self.disk().names.contains_key(path))
    }

    fn modified_ms(&self, path: &str) -> Result<i64, StorageError> {
        let disk = self.disk();
        match disk.names.get(path) {
            Some(Node::File(file)) => Ok(disk.files[*file].modified_ms),
            Some(Node::Dir) => Ok(0),
            None => Err(not_found(path)),
        }
    }

    fn sync_dir(&self, dir: &str) -> Result<(), StorageError> {
        let mut disk = self.disk();
        if disk.fails() {
            let why = "simulated: sync of a directory failed";
            return Err(StorageError::new(StorageErrorKind::Io, why));
        }
        if disk.planted == Some(Bug::LyingSync) {
            return Ok(());
        }
        for (change, durable) in &mut disk.journal {
            *durable |= match change {
                Change::Add(path, _) | Change::Remove(path) => parent(path) == dir,
                Change::Rename(from, to) => parent(from) == dir || parent(to) == dir,
            };
        }
        let settled = disk
            .journal
            .iter()
            .take_while(|(_, durable)| *durable)
            .count();
        let disk = &mut *disk;
        for (change, _) in disk.journal.drain(..settled) {
            apply(&mut disk.durable_names, &change);
        }
        Ok(())
    }
}

struct Handle {
    storage: SimStorage,
    file: usize,
    read_only: bool,
}

impl Handle {
    fn write<R>(
        &self,
        work: impl FnOnce(&mut Disk, usize) -> Result<R, StorageError>,
    ) -> Result<R, StorageError> {
        if self.read_only {
            let why = "opened for reading only";
            return Err(StorageError::new(StorageErrorKind::Denied, why));
        }
        work(&mut self.storage.disk(), self.file)
    }
}

fn past_the_end(pos: u64, len: usize) -> StorageError {
    let why = format!("position {pos} lies past the end ({len})");
    StorageError::new(StorageErrorKind::Invalid, why)
}

impl StorageFile for Handle {
    fn len(&self) -> u64 {
        self.storage.disk().files[self.file].data.len() as u64
    }

    fn append(&mut self, parts: &[Bytes]) -> Result<(), StorageError> {
        self.write(|disk, file| {
            let fails = disk.fails();
            let now_ms = disk.now_ms;
            let mut room = usize::MAX;
            if fails {
                let whole: usize = parts.iter().map(Bytes::len).sum();
                room = disk.random.below(whole as u64 + 1) as usize;
            }
            let file = &mut disk.files[file];
            file.touch(file.data.len(), now_ms);
            for part in parts {
                let here = part.len().min(room);
                file.data.extend_from_slice(&part[..here]);
                room -= here;
            }
            match fails {
                true => Err(StorageError::new(
                    StorageErrorKind::Full,
                    "simulated: no space left",
                )),
                false => Ok(()),
            }
        })
    }

    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.write(|disk, file| {
            let now_ms = disk.now_ms;
            let file = &mut disk.files[file];
            if pos > file.data.len() as u64 {
                return Err(past_the_end(pos, file.data.len()));
            }
            let pos = pos as usize;
            file.touch(pos, now_ms);
            let over = bytes.len().min(file.data.len() - pos);
            file.data[pos..pos + over].copy_from_slice(&bytes[..over]);
            file.data.extend_from_slice(&bytes[over..]);
            Ok(())
        })
    }

    fn read_at(&self, pos: u64, len: usize, out: &mut Vec<Bytes>) -> Result<(), StorageError> {
        let disk = self.storage.disk();
        let data = &disk.files[self.file].data;
        let end = pos.saturating_add(len as u64);
        if end > data.len() as u64 {
            return Err(past_the_end(end, data.len()));
        }
        out.push(Bytes::copy_from_slice(&data[pos as usize..end as usize]));
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), StorageError> {
        self.write(|disk, file| {
            let now_ms = disk.now_ms;
            let file = &mut disk.files[file];
            if len > file.data.len() as u64 {
                return Err(past_the_end(len, file.data.len()));
            }
            file.touch(len as usize, now_ms);
            file.data.truncate(len as usize);
            Ok(())
        })
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.storage.disk().sync(self.file)
    }

    fn syncer(&self) -> Arc<dyn Syncer> {
        Arc::new(OfFile {
            storage: self.storage.clone(),
            file: self.file,
        })
    }

    fn seal(&mut self) {}
}

struct OfFile {
    storage: SimStorage,
    file: usize,
}

impl Syncer for OfFile {
    fn sync(&self) -> Result<(), StorageError> {
        self.storage.disk().sync(self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        ottla_log::conformance::all(&|| Arc::new(SimStorage::new(1, None)));
    }

    #[test]
    fn what_was_synced_survives_and_nothing_else_must() {
        let mut lost = 0;
        for seed in 0..50 {
            let storage = SimStorage::new(seed, None);
            let mut file = storage.open("a", OpenHow::CreateNew).unwrap();
            file.append(&[Bytes::from_static(b"durable")]).unwrap();
            file.sync().unwrap();
            storage.sync_dir("").unwrap();
            file.append(&[Bytes::from_static(b" volatile")]).unwrap();
            storage.open("b", OpenHow::CreateNew).unwrap();
            storage.crash();
            let left = storage.open("a", OpenHow::Existing).unwrap();
            let left = left.read_exact(0, left.len() as usize).unwrap();
            assert!(left.starts_with(b"durable"));
            lost += usize::from(left.len() < 16) + usize::from(!storage.exists("b").unwrap());
        }
        assert!(lost > 20);
    }
}
