//! `LOCK`: one process has a data directory open. The lock is the operating system's (flock), so it goes with the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use pyralog_storage::StorageError;

/// How long to wait for a process (or a blocking task of a dropped node) that is just ending.
const PATIENCE: Duration = Duration::from_millis(500);

/// A lock on a data directory, held until it is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock. Blocking.
    pub fn take(dir: &Path) -> Result<DirectoryLock, StorageError> {
        let path = dir.join("LOCK");
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(StorageError::io(&path, "open"))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(DirectoryLock { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Err(TryLockError::WouldBlock) => return Err(StorageError::InUse { path: dir.to_owned() }),
                Err(TryLockError::Error(error)) => return Err(StorageError::io(path, "lock")(error)),
            }
        }
    }
}
