//! A partition's flushed state as files for another replica, and taking such a state over.
//!
//! An export is hard links to the immutable files that the manifest names, with the manifest beside them, so it costs no copy and holds
//! whatever is flushed or compacted meanwhile. A replica that takes it over gives every segment an id of its own, since replicas allot ids
//! independently; readers of the old state keep it until they are done.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::live_segment::LiveSegment;
use super::version::{RelationVersion, SegmentSet, Version};
use super::{Applied, AppliedState, Partition, files, prepared_file};
use crate::deletes::delete_path;
use crate::error::{Result, StorageError};
use crate::file::{FileKind, read_checked, sync_dir, write_checked};
use crate::manifest::{Manifest, PreparedEntry, RelationManifest, SegmentEntry};
use crate::segment::{SegmentInfo, segment_path, sidecar_path};

const KIND: FileKind = FileKind {
    magic: *b"PYRA_EXP",
    version: 1,
    name: "exported manifest",
};
const MANIFEST: &str = "MANIFEST";

/// One file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaFile {
    /// Its name within the export.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// A checksum that stands for its content (of a segment's file: that of its side-car, which holds the checksums of the segment).
    pub checksum: u32,
}

/// What a file holds, whatever it is called: kind, size, checksum.
type Content = (&'static str, u64, u32);

/// The kinds of files, by the ends of their names, the longer end first.
const ENDS: [&str; 4] = [".idx.arrow", ".arrow", ".del", prepared_file::END];

fn content(file: &ReplicaFile) -> Option<Content> {
    let end = ENDS.into_iter().find(|end| file.name.ends_with(end))?;
    Some((end, file.bytes, file.checksum))
}

/// The files of a segment as [`ReplicaFile`]s, with where they are.
fn files_of(dir: &Path, entry: &SegmentEntry) -> Vec<(ReplicaFile, PathBuf)> {
    let SegmentInfo {
        id,
        bytes,
        sidecar_bytes,
        sidecar_crc,
        ..
    } = &entry.info;
    let named = |path: PathBuf, bytes: u64, checksum: u32| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        (ReplicaFile { name, bytes, checksum }, path)
    };
    let mut files = vec![
        named(segment_path(dir, *id), *bytes, *sidecar_crc),
        named(sidecar_path(dir, *id), *sidecar_bytes, *sidecar_crc),
    ];
    if let Some(deletes) = &entry.deletes {
        files.push(named(delete_path(dir, *id, deletes.version), deletes.bytes, deletes.crc));
    }
    files
}

/// The files of a prepared part, with where they are.
fn files_of_part(dir: &Path, entry: &PreparedEntry) -> Vec<(ReplicaFile, PathBuf)> {
    let segments = entry.segments.iter().flat_map(|(relation, info)| {
        let folder = files::relation_dir(dir, *relation);
        files_of(&folder, &bare(info))
    });
    let own = ReplicaFile {
        name: prepared_file::name(entry.file),
        bytes: entry.bytes,
        checksum: entry.crc,
    };
    segments.chain([(own, prepared_file::path(dir, entry.file))]).collect()
}

/// A segment of which nothing is known but its files.
fn bare(info: &SegmentInfo) -> SegmentEntry {
    SegmentEntry {
        info: info.clone(),
        level: 0,
        uniform_ts: None,
        deletes: None,
    }
}

impl Partition {
    /// Links the files of the flushed state into `to`, which is made, and says which they are and which log position they hold. Blocking.
    pub fn export(&self, to: &Path) -> Result<(Vec<ReplicaFile>, AppliedState)> {
        std::fs::create_dir_all(to).map_err(StorageError::io(to, "create"))?;
        // Under the lock no file that the manifest names goes.
        let manifest = self.manifest.lock();
        let mut exported = Vec::new();
        for (file, path) in self.named_files(&manifest) {
            let link = to.join(&file.name);
            std::fs::hard_link(&path, &link).map_err(StorageError::io(link, "link"))?;
            exported.push(file);
        }
        let path = to.join(MANIFEST);
        let body = serde_json::to_vec(&*manifest).map_err(|e| StorageError::damaged(&path, KIND.name, e.to_string()))?;
        let written = write_checked(&path, KIND, &body)?;
        exported.push(ReplicaFile {
            name: MANIFEST.to_owned(),
            bytes: written.bytes,
            checksum: written.crc,
        });
        Ok((exported, manifest.applied.clone()))
    }

    /// All files that a manifest names, with where they are.
    fn named_files(&self, manifest: &Manifest) -> Vec<(ReplicaFile, PathBuf)> {
        let mut named = Vec::new();
        for relation in &manifest.relations {
            let dir = self.relation_dir(relation.schema.id);
            named.extend(relation.segments.iter().flat_map(|entry| files_of(&dir, entry)));
        }
        named.extend(manifest.prepared.iter().flat_map(|entry| files_of_part(&self.dir, entry)));
        named
    }

    /// Links those files of an export into `to` that this replica has already, and returns the others. Blocking.
    pub fn reuse(&self, wanted: &[ReplicaFile], to: &Path) -> Result<Vec<ReplicaFile>> {
        let mut known: HashMap<Content, PathBuf> = HashMap::new();
        {
            let manifest = self.manifest.lock();
            let files = self.named_files(&manifest).into_iter();
            known.extend(files.filter_map(|(file, path)| Some((content(&file)?, path))));
        }
        let mut missing = Vec::new();
        for file in wanted {
            let link = to.join(&file.name);
            let linked = content(file)
                .and_then(|content| known.get(&content))
                .map(|path| std::fs::hard_link(path, &link));
            match linked {
                Some(Ok(())) => {}
                // Not there, or gone in between by a compaction.
                None | Some(Err(_)) => missing.push(file.clone()),
            }
        }
        Ok(missing)
    }

    /// Takes over the state that `from` holds (an export, complete). What was here goes once its last reader is done. Returns the position
    /// that is applied now. Blocking. After an error nothing is written any more; the state on disk is the old or the new one.
    pub fn install(&self, from: &Path) -> Result<AppliedState> {
        let _flushing = self.flushing.lock();
        let _compacting = self.compacting.lock();
        self.check_poison()?;
        let path = from.join(MANIFEST);
        let (body, _) = read_checked(&path, KIND)?;
        let theirs: Manifest = serde_json::from_slice(&body).map_err(|e| StorageError::damaged(&path, KIND.name, e.to_string()))?;
        let result = self.take_over(from, theirs);
        self.poison(result)
    }

    fn take_over(&self, from: &Path, theirs: Manifest) -> Result<AppliedState> {
        let mut version = Version::default();
        let mut relations = Vec::new();
        for relation in theirs.relations {
            let id = relation.schema.id;
            self.ensure_relation_dir(id)?;
            let dir = self.relation_dir(id);
            let mut opened = RelationVersion::empty(relation.schema.clone(), self.options.batch_rows)?;
            let (mut entries, mut segments) = (Vec::new(), Vec::new());
            for entry in relation.segments {
                let entry = self.adopt(from, &dir, entry)?;
                segments.push(Arc::new(LiveSegment::open(&dir, &entry)?));
                entries.push(entry);
            }
            sync_dir(&dir)?;
            opened.segments = Arc::new(SegmentSet::new(segments));
            version.relations.insert(id, Arc::new(opened));
            relations.push(RelationManifest {
                schema: relation.schema,
                segments: entries,
            });
        }
        let prepared = theirs.prepared.into_iter().map(|entry| self.adopt_part(from, entry));
        let prepared = prepared.collect::<Result<Vec<_>>>()?;
        let parts = prepared_file::load(&self.dir, &version, &prepared)?;
        sync_dir(&self.dir)?;
        let mut manifest = self.manifest.lock();
        let next = Manifest {
            number: manifest.number + 1,
            applied: theirs.applied.clone(),
            last_timestamp: theirs.last_timestamp,
            horizon: theirs.horizon,
            conflict_floor: theirs.conflict_floor,
            next_segment: self.next_segment.load(Ordering::Relaxed),
            relations,
            prepared,
        };
        next.store(&self.dir)?;
        let mut applied = self.applied.lock();
        let stale = std::mem::replace(&mut *manifest, next).prepared;
        *self.durable.write() = theirs.applied.clone();
        self.take_overs.fetch_add(1, Ordering::AcqRel);
        self.pins.raise(theirs.horizon);
        let before = std::mem::replace(&mut *self.version.write(), Arc::new(version));
        *self.prepared.write() = parts;
        let dropped = std::mem::take(&mut applied.dropped);
        *applied = Applied {
            state: theirs.applied.clone(),
            conflict_floor: theirs.conflict_floor,
            ..Applied::default()
        };
        self.last_timestamp.fetch_max(theirs.last_timestamp.0, Ordering::AcqRel);
        self.take_overs.fetch_add(1, Ordering::AcqRel);
        for relation in before.relations.values().chain(dropped.values()) {
            relation.segments.all().iter().for_each(|segment| segment.set_obsolete());
        }
        self.remove_prepared(&stale, &manifest.prepared)?;
        Ok(theirs.applied)
    }

    /// Links the files of a prepared part to their places. Its segments keep their ids, by which the log knows them.
    fn adopt_part(&self, from: &Path, mut entry: PreparedEntry) -> Result<PreparedEntry> {
        let theirs = files_of_part(from, &entry);
        entry.file = self.allot_segment().0;
        let folder = prepared_file::ensure_folder(&self.dir)?;
        for (relation, _) in &entry.segments {
            self.ensure_relation_dir(*relation)?;
        }
        for ((file, _), (_, target)) in theirs.iter().zip(files_of_part(&self.dir, &entry)) {
            let source = from.join(&file.name);
            match std::fs::hard_link(source, &target) {
                // Prepared here before, or on its way to be.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                linked => linked.map_err(StorageError::io(target, "link"))?,
            }
        }
        sync_dir(&folder)?;
        entry
            .segments
            .iter()
            .try_for_each(|(relation, _)| sync_dir(&self.relation_dir(*relation)))?;
        Ok(entry)
    }

    /// Links the files of one segment to their place under an id of this replica.
    fn adopt(&self, from: &Path, dir: &Path, mut entry: SegmentEntry) -> Result<SegmentEntry> {
        let theirs = files_of(from, &entry);
        entry.info.id = self.allot_segment();
        for ((_, source), (_, target)) in theirs.iter().zip(files_of(dir, &entry)) {
            std::fs::hard_link(source, &target).map_err(StorageError::io(target, "link"))?;
        }
        Ok(entry)
    }

    /// The folder for exports and for states that arrive.
    pub fn exchange_dir(&self) -> PathBuf {
        self.dir.join(files::EXCHANGE)
    }

    /// The folder for whole, durable files that arrived for a state that is not complete yet. They stay there over restarts, for a day.
    pub fn arrived_dir(&self) -> PathBuf {
        self.dir.join(files::ARRIVED)
    }
}
