//! A disk that dies at a given operation, and then, as a power cut may, loses or tears what was not synced.

use crate::common::DIR;
use bytes::Bytes;
use ottla_log::{
    DirEntry, MemoryStorage, OpenHow, Storage, StorageError, StorageErrorKind, StorageFile, Syncer,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// A small generator, so that a seed says all.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    pub fn flip(&mut self) -> bool {
        self.below(2) == 1
    }
}

type Contents = Arc<Mutex<FileState>>;

#[derive(Clone, Default)]
struct FileState {
    now: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Default)]
pub struct DiskState {
    /// `None` is a directory.
    now: BTreeMap<String, Option<Contents>>,
    durable: BTreeMap<String, Option<Contents>>,
    /// Renames to names that were free, since the last sync of the directory: each is there as a whole or not at all, as file
    /// systems with a journal have it. (Else no rename at all could ever be safe.)
    moves: Vec<(String, String)>,
    /// Changes and syncs until the power goes.
    left: u64,
    pub done: u64,
    /// Whether syncs do anything.
    honest: bool,
}

#[derive(Clone)]
pub struct Disk(Arc<Mutex<DiskState>>);

fn error(kind: StorageErrorKind) -> StorageError {
    StorageError::new(kind, format!("{kind:?}"))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl Disk {
    pub fn new(left: u64, honest: bool) -> Self {
        Self(Arc::new(Mutex::new(DiskState {
            left,
            honest,
            ..DiskState::default()
        })))
    }

    /// The disk lives for so many operations from now on: for another process, which finds what the last one left.
    pub fn revive(&self, left: u64) {
        self.0.lock().unwrap().left = left;
    }

    fn change<R>(
        &self,
        work: impl FnOnce(&mut DiskState) -> Result<R, StorageError>,
    ) -> Result<R, StorageError> {
        let mut state = self.0.lock().unwrap();
        if state.left == 0 {
            return Err(error(StorageErrorKind::Io));
        }
        state.left -= 1;
        state.done += 1;
        work(&mut state)
    }

    pub fn look<R>(&self, work: impl FnOnce(&DiskState) -> R) -> R {
        work(&self.0.lock().unwrap())
    }

    /// A disk with these files, all durable.
    pub fn holding(found: &MemoryStorage, left: u64) -> Self {
        let disk = Self::new(left, true);
        let mut names = BTreeMap::from([(DIR.to_string(), None)]);
        for entry in found.list(DIR).unwrap_or_default() {
            let path = format!("{DIR}/{}", entry.name);
            let file = found.open(&path, OpenHow::ReadOnly).unwrap();
            let bytes = file.read_exact(0, entry.len as usize).unwrap().to_vec();
            let state = FileState {
                now: bytes.clone(),
                durable: bytes,
            };
            names.insert(path, Some(Arc::new(Mutex::new(state))));
        }
        let mut state = disk.0.lock().unwrap();
        (state.now, state.durable) = (names.clone(), names);
        drop(state);
        disk
    }

    /// What is there after the power came back: each directory entry and each file is as it was synced, or as it was last, or
    /// in between.
    pub fn after_power_cut(&self, random: &mut Random) -> Arc<MemoryStorage> {
        let state = self.0.lock().unwrap();
        let found = MemoryStorage::new();
        let mut paths: Vec<&String> = state.durable.keys().chain(state.now.keys()).collect();
        paths.sort();
        paths.dedup();
        let mut fates: BTreeMap<&String, bool> = BTreeMap::new();
        for (from, to) in &state.moves {
            let known = fates.get(from).or(fates.get(to)).copied();
            let fate = known.unwrap_or_else(|| random.flip());
            fates.extend([(from, fate), (to, fate)]);
        }
        for path in paths {
            let as_synced = fates.get(path).copied().unwrap_or_else(|| random.flip());
            let entry = match as_synced {
                true => state.durable.get(path),
                false => state.now.get(path),
            };
            match entry {
                None => {}
                Some(None) => found.create_dir(path).unwrap(),
                Some(Some(contents)) => {
                    let Ok(mut file) = found.open(path, OpenHow::CreateNew) else {
                        continue; // its directory is lost
                    };
                    let bytes = torn(&contents.lock().unwrap(), random);
                    file.append(&[bytes.into()]).unwrap();
                }
            }
        }
        Arc::new(found)
    }
}

/// A file after a power cut: pages that were not synced are there or not, the length may be ahead of the bytes.
fn torn(file: &FileState, random: &mut Random) -> Vec<u8> {
    let (now, durable) = (&file.now, &file.durable);
    match random.below(4) {
        0 => durable.clone(),
        1 => now.clone(),
        _ if now.len() <= durable.len() || now[..durable.len()] != durable[..] => {
            if random.flip() {
                now.clone()
            } else {
                durable.clone()
            }
        }
        how => {
            let keep =
                durable.len() + random.below((now.len() - durable.len()) as u64 + 1) as usize;
            let mut bytes = now[..keep].to_vec();
            if how == 3 {
                bytes.resize(now.len(), 0);
            }
            bytes
        }
    }
}

impl Storage for Disk {
    fn open(&self, path: &str, how: OpenHow) -> Result<Box<dyn StorageFile>, StorageError> {
        let there = self.look(|state| state.now.get(path).cloned());
        let contents = match (there, how) {
            (Some(Some(_)), OpenHow::CreateNew) => {
                return Err(error(StorageErrorKind::AlreadyExists));
            }
            (Some(Some(contents)), _) => contents,
            (Some(None), _) => return Err(error(StorageErrorKind::Invalid)),
            (None, OpenHow::CreateNew | OpenHow::OpenOrCreate) => self.change(|state| {
                let contents = Contents::default();
                state.now.insert(path.into(), Some(contents.clone()));
                Ok(contents)
            })?,
            (None, _) => return Err(error(StorageErrorKind::NotFound)),
        };
        Ok(Box::new(DiskFile {
            disk: self.clone(),
            contents,
        }))
    }

    fn list(&self, dir: &str) -> Result<Vec<DirEntry>, StorageError> {
        Ok(self.look(|state| {
            let inside = state.now.iter().filter(|(path, _)| parent(path) == dir);
            inside
                .map(|(path, entry)| DirEntry {
                    name: path.rsplit('/').next().unwrap().into(),
                    is_dir: entry.is_none(),
                    len: entry
                        .as_ref()
                        .map_or(0, |c| c.lock().unwrap().now.len() as u64),
                })
                .collect()
        }))
    }

    fn create_dir(&self, dir: &str) -> Result<(), StorageError> {
        if self.exists(dir)? {
            return Ok(());
        }
        self.change(|state| {
            state.now.insert(dir.into(), None);
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        if !self.exists(from)? {
            return Err(error(StorageErrorKind::NotFound));
        }
        self.change(|state| {
            let entry = state.now.remove(from);
            let entry = entry.ok_or_else(|| error(StorageErrorKind::NotFound))?;
            if !state.now.contains_key(to) {
                state.moves.push((from.into(), to.into()));
            }
            state.now.insert(to.into(), entry);
            Ok(())
        })
    }

    fn remove_file(&self, path: &str) -> Result<(), StorageError> {
        if !self.exists(path)? {
            return Err(error(StorageErrorKind::NotFound));
        }
        self.change(|state| {
            state.now.remove(path);
            Ok(())
        })
    }

    fn remove_dir(&self, _dir: &str) -> Result<(), StorageError> {
        unimplemented!("logs don't remove directories")
    }

    fn exists(&self, path: &str) -> Result<bool, StorageError> {
        Ok(self.look(|state| state.now.contains_key(path)))
    }

    fn modified_ms(&self, _path: &str) -> Result<i64, StorageError> {
        Ok(0)
    }

    fn sync_dir(&self, dir: &str) -> Result<(), StorageError> {
        self.change(|state| {
            if state.honest {
                let inside = |path: &String| parent(path) == dir;
                state.moves.retain(|(from, _)| !inside(from));
                state.durable.retain(|path, _| !inside(path));
                let entries = state.now.iter().filter(|(path, _)| inside(path));
                state
                    .durable
                    .extend(entries.map(|(p, e)| (p.clone(), e.clone())));
            }
            Ok(())
        })
    }
}

#[derive(Clone)]
struct DiskFile {
    disk: Disk,
    contents: Contents,
}

impl DiskFile {
    fn write(&self, work: impl FnOnce(&mut Vec<u8>)) -> Result<(), StorageError> {
        self.disk.change(|_| {
            work(&mut self.contents.lock().unwrap().now);
            Ok(())
        })
    }
}

impl Syncer for DiskFile {
    fn sync(&self) -> Result<(), StorageError> {
        self.disk.change(|state| {
            let mut contents = self.contents.lock().unwrap();
            if state.honest {
                contents.durable = contents.now.clone();
            }
            Ok(())
        })
    }
}

impl StorageFile for DiskFile {
    fn len(&self) -> u64 {
        self.contents.lock().unwrap().now.len() as u64
    }

    fn append(&mut self, parts: &[Bytes]) -> Result<(), StorageError> {
        // Every part may be the last one.
        parts
            .iter()
            .try_for_each(|part| self.write(|now| now.extend_from_slice(part)))
    }

    fn write_at(&mut self, pos: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.write(|now| {
            let pos = pos as usize;
            now.resize(now.len().max(pos + bytes.len()), 0);
            now[pos..pos + bytes.len()].copy_from_slice(bytes);
        })
    }

    fn read_at(&self, pos: u64, len: usize, out: &mut Vec<Bytes>) -> Result<(), StorageError> {
        let contents = self.contents.lock().unwrap();
        let bytes = contents.now.get(pos as usize..pos as usize + len);
        out.push(Bytes::copy_from_slice(
            bytes.ok_or_else(|| error(StorageErrorKind::Invalid))?,
        ));
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), StorageError> {
        self.write(|now| now.truncate(len as usize))
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Syncer::sync(self)
    }

    fn syncer(&self) -> Arc<dyn Syncer> {
        Arc::new(self.clone())
    }

    fn seal(&mut self) {}
}
