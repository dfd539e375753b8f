//! One owner per directory: a lock on the open file description of `.lock`, which the system gives up with the process.
//!
//! It is two locks. `flock` is what Ottla's owners exclude each other by. A JVM Kafka takes an `fcntl` lock on the same file, and
//! the two kinds don't see each other; so an owner has that one, too, in its variant that belongs to the open file.

use crate::fork;
use rustix::fs::{FlockOperation, flock};
use std::{
    fmt, fs,
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Kafka's name of the file that is locked.
const LOCK: &str = ".lock";
/// Who holds the lock, for the error that others get.
const OWNER: &str = ".ottla-owner";

/// A directory that belongs to this process until this is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    file: Option<File>,
    owner: PathBuf,
    generation: u32,
}

/// Why a directory can't be owned.
#[derive(Debug)]
pub enum LockError {
    /// Somebody else owns it.
    Owned {
        /// The directory.
        dir: PathBuf,
        /// What that owner wrote about itself: process, command, since when.
        by: String,
    },
    /// The system said no.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned { dir, by } => write!(
                f,
                "the directory {} is in use by {by}; only one process can have it open: close it there first",
                dir.display()
            ),
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for LockError {}

impl DirectoryLock {
    /// Takes the lock at once or not at all.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(LOCK);
        let failed = |path: &Path, error| LockError::Io {
            path: path.to_path_buf(),
            error,
        };
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| failed(&path, error))?;
        let owner = dir.join(OWNER);
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let by = fs::read_to_string(&owner).unwrap_or_default();
                let by = by.trim();
                let by = if by.is_empty() {
                    "another process".to_string()
                } else {
                    by.to_string()
                };
                return Err(LockError::Owned {
                    dir: dir.to_path_buf(),
                    by,
                });
            }
            Err(error) => return Err(failed(&path, error.into())),
        }
        if !lock_against_kafka(&file).map_err(|error| failed(&path, error))? {
            return Err(LockError::Owned {
                dir: dir.to_path_buf(),
                by: "a JVM Kafka".to_string(),
            });
        }
        fork::close_in_children(file.as_raw_fd());
        let lock = Self {
            file: Some(file),
            owner,
            generation: fork::generation(),
        };
        fs::write(&lock.owner, description()).map_err(|error| failed(&lock.owner, error))?;
        Ok(lock)
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else {
            return;
        };
        if fork::is_forked_since(self.generation) {
            // The fork handler has closed it; by now the number may be that of another file.
            std::mem::forget(file);
            return;
        }
        let _ = fs::remove_file(&self.owner);
        fork::forget_descriptor(file.as_raw_fd());
    }
}

/// Takes the lock that a JVM Kafka takes: a write lock on the whole file. False if somebody else has it. File systems without
/// such locks have none against Kafka, either.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn lock_against_kafka(file: &File) -> io::Result<bool> {
    // SAFETY: a C struct of numbers, for which zero is valid.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open, and the struct lives as long as the call.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error if error.raw_os_error() == Some(libc::EACCES) => Ok(false),
        error if error.raw_os_error() == Some(libc::EINVAL) => Ok(true),
        error => Err(error),
    }
}

/// Other systems have no such lock that belongs to the open file.
#[cfg(not(target_os = "linux"))]
fn lock_against_kafka(_: &File) -> io::Result<bool> {
    Ok(true)
}

/// This process, for people: `process 4711 (python3 app.py), since 2026-11-21 08:00:00 UTC`.
fn description() -> String {
    let command = fs::read("/proc/self/cmdline").unwrap_or_default();
    let command: Vec<String> = command
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .take(4)
        .map(|part| {
            String::from_utf8_lossy(part)
                .chars()
                .filter(|c| !c.is_control())
                .take(80)
                .collect()
        })
        .collect();
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    format!(
        "process {} ({}), since {}\n",
        std::process::id(),
        command.join(" "),
        utc(seconds)
    )
}

/// Seconds since the Unix epoch as a date.
pub(crate) fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil from days: the year begins in March, so that the leap day is its last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_248_836), "2026-11-21 08:13:56 UTC");
    }

    #[test]
    fn one_owner_who_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::take(dir.path()).unwrap();
        let error = DirectoryLock::take(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("process {} (", std::process::id())),
            "{error}"
        );
        drop(lock);
        DirectoryLock::take(dir.path()).unwrap();
        assert!(DirectoryLock::take(Path::new("/nonexistent/dir")).is_err());
    }
}
