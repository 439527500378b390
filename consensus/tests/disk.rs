//! A disk for the log that fails or waits on demand. The log's unit tests take this file in too, by its path; so the traits come from
//! the module above, which knows where they are.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Disk, DiskFile, OsDisk};

#[derive(Default)]
pub struct Switches {
    /// Writes fail with "disk full", and leave nothing.
    pub full: AtomicBool,
    /// Writes fail with "disk full" when half of their bytes have arrived.
    pub torn: AtomicBool,
    /// Syncs fail with "disk full".
    pub sync_fails: AtomicBool,
    /// Syncs wait.
    pub hold: AtomicBool,
}

#[derive(Default, Clone)]
pub struct SwitchedDisk(pub Arc<Switches>);

struct SwitchedFile(Arc<dyn DiskFile>, Arc<Switches>);

fn disk_full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl Disk for SwitchedDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SwitchedFile(OsDisk.create(path)?, self.0.clone())))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SwitchedFile(OsDisk.open(path)?, self.0.clone())))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        OsDisk.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_dir(dir)
    }
}

impl DiskFile for SwitchedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.1.torn.load(Ordering::SeqCst) {
            self.0.write_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(disk_full());
        }
        if self.1.full.load(Ordering::SeqCst) {
            return Err(disk_full());
        }
        self.0.write_at(bytes, offset)
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        while self.1.hold.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.1.sync_fails.load(Ordering::SeqCst) {
            return Err(disk_full());
        }
        self.0.sync()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn byte_len(&self) -> io::Result<u64> {
        self.0.byte_len()
    }
}
