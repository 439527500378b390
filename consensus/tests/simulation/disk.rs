//! The disk under a node's log, in memory. It outlives the node. What was written and not synced may be lost when the power fails: as a
//! whole, or up to a byte, or in some of its sectors. So may names that no `sync_dir` followed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use pyralog_consensus::log::disk::{Disk, DiskFile};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

const SECTOR_BYTES: usize = 512;

/// Whether syncs do what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    /// They do.
    Honest,
    /// The planted bug: a frame of the log is durable only after the sync that follows the next one. So a log over this disk acknowledges
    /// a frame before it has synced it, and does everything else as it should.
    Late,
}

/// A fault that waits for its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// The power fails within the operation that is this many operations away.
    PowerOff(u64),
    /// The next sync fails.
    SyncFails,
    /// Nothing can be written any more.
    Full,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Image {
    names: BTreeMap<PathBuf, usize>,
    files: BTreeMap<usize, Vec<u8>>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { file: usize, offset: usize, bytes: Vec<u8> },
    SetLen { file: usize, len: usize },
}

#[derive(Debug, Clone)]
enum Name {
    Make(PathBuf, usize),
    Move(PathBuf, PathBuf),
    Remove(PathBuf),
}

struct State {
    syncs: Syncs,
    /// As the node sees it.
    now: Image,
    /// As it is after a power failure that takes everything that can be taken.
    durable: Image,
    /// Changes of files since their last sync, in order.
    changes: Vec<Change>,
    /// Changes of names since the last sync of the directory, in order.
    renamed: Vec<Name>,
    next_file: usize,
    /// Counts the node's lives; handles of earlier ones do nothing.
    life: u64,
    fault: Option<DiskFault>,
    /// Whether a fault has struck in this life.
    struck: bool,
    power: bool,
    random: StdRng,
}

/// The disk of one node over all its lives.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

/// The disk as one life of the node has it.
struct Mounted {
    disk: SimulatedDisk,
    life: u64,
}

struct File {
    disk: SimulatedDisk,
    life: u64,
    file: usize,
}

impl SimulatedDisk {
    pub fn new(seed: u64, syncs: Syncs) -> SimulatedDisk {
        SimulatedDisk(Arc::new(Mutex::new(State {
            syncs,
            now: Image::default(),
            durable: Image::default(),
            changes: Vec::new(),
            renamed: Vec::new(),
            next_file: 0,
            life: 0,
            fault: None,
            struck: false,
            power: true,
            random: StdRng::seed_from_u64(seed),
        })))
    }

    /// The disk for a new life of the node.
    pub fn mount(&self) -> Arc<dyn Disk> {
        let mut state = self.0.lock();
        state.life += 1;
        state.power = true;
        state.struck = false;
        state.fault = None;
        Arc::new(Mounted {
            disk: self.clone(),
            life: state.life,
        })
    }

    pub fn set_fault(&self, fault: Option<DiskFault>) {
        self.0.lock().fault = fault;
    }

    /// Whether a fault has struck in this life.
    pub fn has_failed(&self) -> bool {
        self.0.lock().struck
    }

    /// Whether the power failed by itself, as a [`DiskFault::PowerOff`] asked for.
    pub fn is_off(&self) -> bool {
        !self.0.lock().power
    }

    /// The process ends; what it wrote is in the system's cache.
    pub fn kill(&self) {
        self.0.lock().life += 1;
    }

    /// The power fails: the node finds what has survived.
    pub fn power_off(&self) {
        let mut state = self.0.lock();
        state.life += 1;
        state.lose();
    }

    /// The files that are left when everything is lost that can be lost.
    pub fn durable(&self) -> SimulatedDisk {
        let disk = SimulatedDisk::new(0, Syncs::Honest);
        let durable = self.0.lock().durable.clone();
        {
            let mut state = disk.0.lock();
            state.now = durable.clone();
            state.durable = durable;
        }
        disk
    }

    /// Whether there is a log on it that a power failure would leave.
    pub fn has_log(&self) -> bool {
        let state = self.0.lock();
        state
            .durable
            .names
            .keys()
            .any(|path| path.extension().is_some_and(|end| end == "log"))
    }
}

impl Image {
    fn write(&mut self, file: usize, offset: usize, bytes: &[u8]) {
        let content = self.files.entry(file).or_default();
        let end = offset + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset..end].copy_from_slice(bytes);
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Write { file, offset, bytes } => self.write(*file, *offset, bytes),
            Change::SetLen { file, len } => self.files.entry(*file).or_default().resize(*len, 0),
        }
    }

    fn rename(&mut self, name: &Name) {
        match name {
            Name::Make(path, file) => drop(self.names.insert(path.clone(), *file)),
            Name::Move(from, to) => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            Name::Remove(path) => drop(self.names.remove(path)),
        }
    }

    fn forget_unnamed(&mut self) {
        let named: Vec<usize> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }
}

impl Change {
    /// Whether it is a frame of the log: see `log/frame.rs`.
    fn is_frame(&self) -> bool {
        matches!(self, Change::Write { bytes, .. } if bytes.starts_with(b"PFRM"))
    }

    fn file(&self) -> usize {
        match self {
            Change::Write { file, .. } | Change::SetLen { file, .. } => *file,
        }
    }
}

impl State {
    /// Before each operation of a node.
    fn operate(&mut self, life: u64) -> io::Result<()> {
        if life != self.life || !self.power {
            return Err(io::Error::other("the power is off"));
        }
        if let Some(DiskFault::PowerOff(left)) = &mut self.fault {
            if *left == 0 {
                self.fault = None;
                self.power = false;
                self.struck = true;
                return Err(io::Error::other("the power went off"));
            }
            *left -= 1;
        }
        Ok(())
    }

    fn full(&mut self) -> io::Error {
        self.struck = true;
        io::ErrorKind::StorageFull.into()
    }

    fn write(&mut self, change: Change) {
        self.now.change(&change);
        self.changes.push(change);
    }

    fn name(&mut self, name: Name) {
        self.now.rename(&name);
        self.renamed.push(name);
    }

    fn sync(&mut self, file: usize) -> io::Result<()> {
        if self.fault == Some(DiskFault::SyncFails) {
            self.fault = None;
            self.struck = true;
            return Err(io::Error::other("input/output error"));
        }
        let newest = self.changes.iter().rposition(|change| change.file() == file && change.is_frame());
        let late = newest.filter(|_| self.syncs == Syncs::Late);
        for (i, change) in std::mem::take(&mut self.changes).into_iter().enumerate() {
            if change.file() == file && Some(i) != late {
                self.durable.change(&change);
            } else {
                self.changes.push(change);
            }
        }
        Ok(())
    }

    fn lose(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        match self.syncs {
            Syncs::Honest => changes.iter().for_each(|change| self.keep_some(change)),
            // In order: what is lost is the end, and nothing on the disk shows it.
            Syncs::Late => {
                let kept = self.random.random_range(0..=changes.len());
                changes[..kept].iter().for_each(|change| self.durable.change(change));
            }
        }
        // A journal of names keeps their order.
        let renamed = std::mem::take(&mut self.renamed);
        let kept = self.random.random_range(0..=renamed.len());
        renamed[..kept].iter().for_each(|name| self.durable.rename(name));
        self.now = self.durable.clone();
    }

    /// Changes of different files, and of parts of one, reach the disk in any order.
    fn keep_some(&mut self, change: &Change) {
        match (change, self.random.random_range(0..4)) {
            (_, 0) => {}
            (Change::Write { file, offset, bytes }, 1) => {
                let kept = self.random.random_range(0..=bytes.len());
                self.durable.write(*file, *offset, &bytes[..kept]);
            }
            (Change::Write { file, offset, bytes }, 2) => {
                let mut at = 0;
                while at < bytes.len() {
                    let end = ((offset + at) / SECTOR_BYTES + 1) * SECTOR_BYTES - offset;
                    let end = end.min(bytes.len());
                    if self.random.random_bool(0.5) {
                        self.durable.write(*file, offset + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
            (change, _) => self.durable.change(change),
        }
    }
}

impl Mounted {
    fn file(&self, file: usize) -> Arc<dyn DiskFile> {
        Arc::new(File {
            disk: self.disk.clone(),
            life: self.life,
            file,
        })
    }
}

impl Disk for Mounted {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.disk.0.lock();
        state.operate(self.life)?;
        if state.fault == Some(DiskFault::Full) {
            return Err(state.full());
        }
        let file = state.next_file;
        state.next_file += 1;
        state.now.files.insert(file, Vec::new());
        state.durable.files.insert(file, Vec::new());
        state.name(Name::Make(path.to_owned(), file));
        Ok(self.file(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.disk.0.lock();
        state.operate(self.life)?;
        let file = state.now.names.get(path).copied();
        file.map(|file| self.file(file)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.operate(self.life)?;
        if !state.now.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.syncs == Syncs::Late {
            // A new file is begun only when the old one is whole.
            let late = std::mem::take(&mut state.changes);
            late.iter().for_each(|change| state.durable.change(change));
        }
        state.name(Name::Move(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.operate(self.life)?;
        if !state.now.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.name(Name::Remove(path.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut state = self.disk.0.lock();
        state.operate(self.life)?;
        Ok(state.now.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.operate(self.life)?;
        let renamed = std::mem::take(&mut state.renamed);
        renamed.iter().for_each(|name| state.durable.rename(name));
        state.durable.forget_unnamed();
        Ok(())
    }
}

impl DiskFile for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if state.fault == Some(DiskFault::Full) && state.life == self.life {
            return Err(state.full());
        }
        let operated = state.operate(self.life);
        // A write that the power failure meets may have begun.
        if operated.is_ok() || (!state.power && state.life == self.life && state.random.next_u32() & 1 == 0) {
            state.write(Change::Write {
                file: self.file,
                offset: offset as usize,
                bytes: bytes.to_vec(),
            });
        }
        operated
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.0.lock();
        let content = state.now.files.get(&self.file).ok_or(io::ErrorKind::NotFound)?;
        let from = offset as usize;
        let found = content.get(from..from + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(found);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.operate(self.life)?;
        state.sync(self.file)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.operate(self.life)?;
        state.write(Change::SetLen {
            file: self.file,
            len: len as usize,
        });
        Ok(())
    }

    fn byte_len(&self) -> io::Result<u64> {
        let state = self.disk.0.lock();
        state
            .now
            .files
            .get(&self.file)
            .map(|content| content.len() as u64)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
