//! Files of staged segments that were applied here, for replicas that are not as far: hard links, kept as long as the log holds the entry
//! that names them (`retained/<index>.<segment>.<part>`, hexadecimal).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use pyralog_storage::{Partition, SegmentId, StorageError, WriteSet};

const FOLDER: &str = "retained";

/// The folder of one partition.
pub struct Retained {
    dir: PathBuf,
    /// Entries that have files here.
    entries: Mutex<BTreeSet<u64>>,
}

impl Retained {
    /// Takes up what an earlier run left. Blocking.
    pub fn open(partition: &Partition) -> Result<Retained, StorageError> {
        let dir = folder(partition);
        std::fs::create_dir_all(&dir).map_err(StorageError::io(&dir, "create"))?;
        let names = names(&dir).map_err(StorageError::io(&dir, "list"))?;
        let entries = names.iter().filter_map(|name| index_of(name)).collect();
        Ok(Retained {
            dir,
            entries: Mutex::new(entries),
        })
    }

    /// Links the files of the staged segments that the entry at `index` names. To be called before the entry is applied, which moves or
    /// removes them.
    pub fn keep(&self, partition: &Partition, index: u64, write_set: &WriteSet) -> Result<(), StorageError> {
        for (relation, segment) in write_set
            .relations
            .iter()
            .flat_map(|w| w.staged.iter().map(|staged| (w.relation, staged.segment)))
        {
            let staged = partition.segment_files(None, segment);
            // At a replay they may be where an earlier run moved them.
            let moved = partition.segment_files(Some(relation), segment);
            for (part, places) in staged.iter().zip(&moved).enumerate() {
                let link = self.dir.join(name(index, segment, part));
                link_first([places.0, places.1], &link)?;
            }
            self.entries.lock().insert(index);
        }
        Ok(())
    }

    /// Lets the files go that belong to entries up to `purged`.
    pub fn release(&self, purged: Option<u64>) -> Result<(), StorageError> {
        let Some(purged) = purged else { return Ok(()) };
        let mut entries = self.entries.lock();
        if entries.first().is_none_or(|first| *first > purged) {
            return Ok(());
        }
        for name in names(&self.dir).map_err(StorageError::io(&self.dir, "list"))? {
            if index_of(&name).is_some_and(|index| index <= purged) {
                let path = self.dir.join(&name);
                std::fs::remove_file(&path).map_err(StorageError::io(&path, "remove"))?;
            }
        }
        *entries = entries.split_off(&(purged + 1));
        Ok(())
    }
}

/// Links the first of these files that is there.
fn link_first(places: [&PathBuf; 2], link: &Path) -> Result<(), StorageError> {
    for place in places {
        match std::fs::hard_link(place, link) {
            Ok(()) => return Ok(()),
            // Linked before.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StorageError::io(link, "link")(error)),
        }
    }
    // Merged into other segments already: what lacks it gets a snapshot once the log is purged.
    Ok(())
}

/// The retained file of a segment, if there is one. Blocking.
pub fn find(partition: &Partition, segment: SegmentId, part: usize) -> io::Result<Option<PathBuf>> {
    let dir = folder(partition);
    let ending = format!(".{:016x}.{part}", segment.0);
    let found = names(&dir)?.into_iter().find(|name| name.ends_with(&ending));
    Ok(found.map(|name| dir.join(name)))
}

fn folder(partition: &Partition) -> PathBuf {
    partition.dir().join(FOLDER)
}

fn name(index: u64, segment: SegmentId, part: usize) -> String {
    format!("{index:016x}.{:016x}.{part}", segment.0)
}

fn index_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.split('.').next()?, 16).ok()
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let names = std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
    Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
}
