//! Where a partition's files are, which of them are in use, and whether they are sound.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Partition;
use crate::deletes::{DeleteVector, delete_path};
use crate::error::{Result, StorageError};
use crate::file::{remove_file, sync_dir};
use crate::ids::{RelationId, SegmentId};
use crate::manifest::Manifest;
use crate::segment::{Segment, remove_segment, segment_path, sidecar_path};
use crate::write_set::WriteSet;

/// The folder of segments whose transaction has not committed.
pub(super) const STAGING: &str = "staging";

/// The folder of files on their way to or from other replicas. What a crash leaves there goes at the next open.
pub(super) const EXCHANGE: &str = "exchange";

/// The folder of whole files that arrived from other replicas, until the state that they belong to is taken over. They outlive a restart, so
/// that only what lacks is fetched again.
pub(super) const ARRIVED: &str = "arrived";

/// After so long nobody goes on with what arrived.
pub(super) const ARRIVED_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Removes files that arrived long ago.
pub(super) fn forget_arrived(dir: &Path) -> std::io::Result<()> {
    let folder = match std::fs::read_dir(dir.join(ARRIVED)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        folder => folder?,
    };
    for entry in folder {
        let entry = entry?;
        // A clock that was set back makes files from the future: they are kept.
        if entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age > ARRIVED_KEPT) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Set in the ids of staged segments, which replicas allot independently of their own flushes.
pub(super) const STAGED_BIT: u64 = 1 << 63;

/// The folder of a relation's segments.
pub(super) fn relation_dir(dir: &Path, relation: RelationId) -> PathBuf {
    dir.join(relation.to_string())
}

/// The marker that remembers that a write set with a staged segment was refused, when its files are gone.
pub(super) fn refused_path(dir: &Path, segment: SegmentId) -> PathBuf {
    dir.join(STAGING).join(format!("{segment}.refused"))
}

/// The segment id at the beginning of a file name.
fn segment_of(name: &str) -> Option<SegmentId> {
    let digits = name.split('.').next().filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().map(SegmentId)
}

/// The relation that a folder's name means.
fn relation_of(name: &str) -> Option<RelationId> {
    name.strip_prefix('r')?.parse().ok().map(RelationId)
}

pub(super) fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StorageError::io(dir, "list")(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StorageError::io(dir, "list"))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// The largest id of a segment file that is not a staged one; 0 when there is none. Ids are not used again after a crash.
pub(super) fn largest_local_segment(dir: &Path) -> Result<u64> {
    let mut largest = 0;
    for folder in names(dir)?.iter().filter(|name| relation_of(name).is_some()) {
        let ids = names(&dir.join(folder))?.into_iter().filter_map(|name| segment_of(&name));
        largest = ids.map(|id| id.0).filter(|id| id & STAGED_BIT == 0).fold(largest, u64::max);
    }
    Ok(largest)
}

impl Partition {
    /// The folder in which transactions write their segments.
    pub(crate) fn staging_dir(&self) -> PathBuf {
        self.dir.join(STAGING)
    }

    pub(crate) fn relation_dir(&self, relation: RelationId) -> PathBuf {
        relation_dir(&self.dir, relation)
    }

    /// An id for a staged segment, which is kept from garbage collection until it is discarded or applied.
    pub(crate) fn claim_staged(&self, relation: RelationId) -> SegmentId {
        let id = SegmentId(self.next_staged.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        self.claimed.lock().insert(id, relation);
        id
    }

    /// Removes one staged segment's files.
    pub(crate) fn discard_staged(&self, segment: SegmentId) -> Result<()> {
        remove_segment(&self.staging_dir(), segment)?;
        self.claimed.lock().remove(&segment);
        Ok(())
    }

    /// Lets a staged segment's files go with the next collection of garbage.
    pub(crate) fn release_claim(&self, segment: SegmentId) {
        self.claimed.lock().remove(&segment);
    }

    /// Removes the staged files of a write set that will never commit.
    pub fn discard(&self, write_set: &WriteSet) {
        for staged in write_set.relations.iter().flat_map(|writes| &writes.staged) {
            if let Err(error) = self.discard_staged(staged.segment) {
                tracing::warn!(%error, "a staged segment stays until the next collection of garbage");
            }
        }
    }

    /// Keeps the staged files of a write set that may still commit (a prepared one, found again at replay) from [`Self::collect_garbage`].
    pub fn claim(&self, write_set: &WriteSet) {
        let mut claimed = self.claimed.lock();
        for writes in &write_set.relations {
            claimed.extend(writes.staged.iter().map(|staged| (staged.segment, writes.relation)));
        }
    }

    /// Removes files that no manifest and no staged write set names. Called after replay, and after a [`Self::claim`] of every write set
    /// that may still commit.
    pub fn collect_garbage(&self) -> Result<()> {
        let _flushing = self.flushing.lock();
        let _compacting = self.compacting.lock();
        let manifest = self.manifest.lock();
        let applied = self.applied.lock();
        let version = self.version();
        let mut used: HashSet<(RelationId, SegmentId)> = HashSet::new();
        for relation in version.relations.values().chain(applied.dropped.values()) {
            used.extend(
                relation
                    .segments
                    .all()
                    .iter()
                    .map(|segment| (relation.schema.id, segment.info().id)),
            );
        }
        for part in self.prepared.read().values() {
            used.extend(part.segments().map(|(relation, info)| (relation, info.id)));
        }
        used.extend(applied.abandoned.iter().copied());
        let named = manifest.prepared.iter().flat_map(|entry| &entry.segments);
        used.extend(named.map(|(relation, info)| (*relation, info.id)));
        self.collect_prepared(&manifest.prepared)?;
        let mut used_deletes: HashSet<(SegmentId, u64)> = HashSet::new();
        for relation in &manifest.relations {
            used.extend(relation.segments.iter().map(|entry| (relation.schema.id, entry.info.id)));
            used_deletes.extend(
                relation
                    .segments
                    .iter()
                    .filter_map(|entry| Some((entry.info.id, entry.deletes.as_ref()?.version))),
            );
        }
        for folder in names(&self.dir)? {
            let Some(relation) = relation_of(&folder) else { continue };
            self.collect_relation(relation, &used, &used_deletes)?;
        }
        let claimed = self.claimed.lock();
        let staging = self.staging_dir();
        for name in names(&staging)? {
            let Some(id) = segment_of(&name) else { continue };
            let needed = if name.ends_with(".refused") {
                applied.refused.contains(&id)
            } else {
                claimed.contains_key(&id)
            };
            if !needed {
                remove_file(&staging.join(name))?;
            }
        }
        sync_dir(&staging)
    }

    fn collect_relation(
        &self,
        relation: RelationId,
        used: &HashSet<(RelationId, SegmentId)>,
        used_deletes: &HashSet<(SegmentId, u64)>,
    ) -> Result<()> {
        let dir = self.relation_dir(relation);
        let names = names(&dir)?;
        let mut left = names.len();
        for name in names {
            let Some(id) = segment_of(&name) else { continue };
            let path = dir.join(&name);
            let needed = if name.ends_with(".del") {
                used_deletes
                    .iter()
                    .any(|(segment, version)| *segment == id && delete_path(&dir, id, *version) == path)
            } else {
                used.contains(&(relation, id))
            };
            if !needed {
                remove_file(&path)?;
                left -= 1;
            }
        }
        if left == 0 && !self.version().relations.contains_key(&relation) {
            std::fs::remove_dir(&dir).map_err(StorageError::io(&dir, "remove"))?;
        }
        Ok(())
    }

    /// Reads every file whole and checks every checksum; each problem is one entry. Flushes and compactions go on meanwhile.
    pub fn verify(&self) -> Result<Vec<StorageError>> {
        let mut problems = Vec::new();
        {
            let unchanged = self.manifest.lock();
            problems.extend(Manifest::load(&self.dir).err());
            problems.extend(self.verify_prepared(&unchanged.prepared));
        }
        // The version keeps its segments' files, even when they become obsolete while this reads them.
        let version = self.version();
        for live in version.relations.values().flat_map(|relation| relation.segments.all()) {
            let segment = Segment::open(live.dir(), live.info().clone(), live.segment().uniform_ts());
            problems.extend(segment.and_then(|segment| segment.verify()).err());
            // A flush replaces delete files under this lock.
            let _unchanged = self.manifest.lock();
            if let Some(file) = live.deletes().persisted().1 {
                problems.extend(DeleteVector::read(live.dir(), live.info().id, &file).err());
            }
        }
        Ok(problems)
    }

    /// The two files of a segment of this partition, for those who copy it to another replica.
    pub fn segment_files(&self, relation: Option<RelationId>, segment: SegmentId) -> [PathBuf; 2] {
        let dir = relation.map_or_else(|| self.staging_dir(), |relation| self.relation_dir(relation));
        [segment_path(&dir, segment), sidecar_path(&dir, segment)]
    }
}
