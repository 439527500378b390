//! A disk for the log that fails on demand and counts.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pyralog_consensus::log::disk::{Disk, DiskFile, OsDisk};

#[derive(Default)]
pub struct Switches {
    /// Writes fail with "disk full".
    pub full: AtomicBool,
    /// Syncs wait.
    pub hold: AtomicBool,
    /// Syncs so far.
    pub syncs: AtomicU64,
}

#[derive(Default, Clone)]
pub struct SwitchedDisk(pub Arc<Switches>);

struct SwitchedFile(Arc<dyn DiskFile>, Arc<Switches>);

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
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_dir(dir)
    }
}

impl DiskFile for SwitchedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.1.full.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
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
        self.1.syncs.fetch_add(1, Ordering::SeqCst);
        self.0.sync()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn byte_len(&self) -> io::Result<u64> {
        self.0.byte_len()
    }
}
