//! Prepared parts in files, as a flush writes them and an open reads them.
//!
//! ```text
//! header   checked, see `file`
//! length   of what follows, 8 bytes, little-endian
//! JSON     a [`Stored`]
//! streams  Arrow IPC streams, one a batch, of the lengths that the JSON tells
//! ```

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};

use super::live_segment::LiveSegment;
use super::prepared::Part;
use super::version::Version;
use super::{Partition, files};
use crate::error::{Result, StorageError};
use crate::file::{FileKind, create_dir, read_checked, remove_file, sync_dir, write_checked};
use crate::ids::{RelationId, SegmentId, Timestamp, TransactionId};
use crate::manifest::PreparedEntry;
use crate::own_rows::own_rows;
use crate::reads::RelationReads;
use crate::write_set::{ConflictPolicy, RelationWrites, StagedSegment, WriteSet};

const KIND: FileKind = FileKind {
    magic: *b"PYRA_PRE",
    version: 1,
    name: "prepared part",
};

/// The folder of the files.
const FOLDER: &str = "prepared";

/// The end of their names.
pub(super) const END: &str = ".part";

/// Bytes of the JSON's length.
const LENGTH_BYTES: usize = 8;

#[derive(Serialize, Deserialize)]
struct Stored {
    start: Timestamp,
    relations: Vec<StoredWrites>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reads: Vec<RelationReads>,
}

#[derive(Serialize, Deserialize)]
struct StoredWrites {
    relation: RelationId,
    emptied: bool,
    policy: ConflictPolicy,
    staged: Vec<StagedSegment>,
    /// Bytes of each batch's stream.
    puts: Vec<usize>,
    deletes: Vec<usize>,
}

/// Where a part's file lies.
pub(super) fn path(dir: &Path, file: u64) -> PathBuf {
    dir.join(FOLDER).join(name(file))
}

/// Its name.
pub(super) fn name(file: u64) -> String {
    format!("{file:016x}{END}")
}

/// Makes the folder.
pub(super) fn ensure_folder(dir: &Path) -> Result<PathBuf> {
    let folder = dir.join(FOLDER);
    create_dir(&folder)?;
    Ok(folder)
}

/// The parts that a manifest names, by transaction.
pub(super) fn load(dir: &Path, version: &Version, entries: &[PreparedEntry]) -> Result<BTreeMap<TransactionId, Arc<Part>>> {
    let mut parts = BTreeMap::new();
    for entry in entries {
        let write_set = read(dir, entry)?;
        let open = |writes: &RelationWrites| {
            let relation_dir = files::relation_dir(dir, writes.relation);
            let of_relation = entry.segments.iter().filter(|(relation, _)| *relation == writes.relation);
            of_relation
                .map(|(_, info)| LiveSegment::open_new(&relation_dir, info.clone(), Some(entry.timestamp), 0).map(Arc::new))
                .collect()
        };
        let part = Part::new(version, entry.timestamp, Arc::new(write_set), open, Some(entry.clone()))?;
        parts.insert(entry.transaction, Arc::new(part));
    }
    Ok(parts)
}

fn read(dir: &Path, entry: &PreparedEntry) -> Result<WriteSet> {
    let path = path(dir, entry.file);
    let (body, file) = read_checked(&path, KIND)?;
    let damaged = |detail: &str| StorageError::damaged(&path, KIND.name, detail);
    if (file.bytes, file.crc) != (entry.bytes, entry.crc) {
        return Err(damaged("it is not the file that the manifest names"));
    }
    let (length, rest) = body.split_at_checked(LENGTH_BYTES).ok_or_else(|| damaged("it has no length"))?;
    let length = usize::try_from(crate::file::le_u64(length)).unwrap_or(usize::MAX);
    let (json, mut streams) = rest.split_at_checked(length).ok_or_else(|| damaged("its list is cut off"))?;
    let stored: Stored = serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))?;
    let mut batches = |lengths: &[usize]| -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::with_capacity(lengths.len());
        for length in lengths {
            let (stream, rest) = streams.split_at_checked(*length).ok_or_else(|| damaged("its rows are cut off"))?;
            streams = rest;
            for batch in StreamReader::try_new(Cursor::new(stream), None)? {
                batches.push(batch?);
            }
        }
        Ok(batches)
    };
    let relations = stored.relations.into_iter().map(|writes| {
        Ok(RelationWrites {
            relation: writes.relation,
            emptied: writes.emptied,
            puts: batches(&writes.puts)?,
            deletes: batches(&writes.deletes)?,
            staged: writes.staged,
            policy: writes.policy,
        })
    });
    Ok(WriteSet {
        start: stored.start,
        relations: relations.collect::<Result<_>>()?,
        reads: stored.reads,
    })
}

/// Writes a part's file, and syncs it.
fn write(path: &Path, write_set: &WriteSet) -> Result<(u64, u32)> {
    let mut streams = Vec::new();
    let mut put = |batches: &[RecordBatch]| -> Result<Vec<usize>> {
        let mut lengths = Vec::with_capacity(batches.len());
        for batch in batches {
            let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
            writer.write(&own_rows(batch)?)?;
            let stream = writer.into_inner()?;
            lengths.push(stream.len());
            streams.extend(stream);
        }
        Ok(lengths)
    };
    let relations = write_set.relations.iter().map(|writes| {
        Ok(StoredWrites {
            relation: writes.relation,
            emptied: writes.emptied,
            policy: writes.policy,
            staged: writes.staged.clone(),
            puts: put(&writes.puts)?,
            deletes: put(&writes.deletes)?,
        })
    });
    let stored = Stored {
        start: write_set.start,
        relations: relations.collect::<Result<_>>()?,
        reads: write_set.reads.clone(),
    };
    let json = serde_json::to_vec(&stored).map_err(|error| StorageError::damaged(path, KIND.name, error.to_string()))?;
    let mut body = (json.len() as u64).to_le_bytes().to_vec();
    body.extend(json);
    body.extend(streams);
    let file = write_checked(path, KIND, &body)?;
    Ok((file.bytes, file.crc))
}

impl Partition {
    /// Writes those parts that have no file yet, and says what a manifest tells of all.
    pub(super) fn store_prepared(&self, parts: &BTreeMap<TransactionId, Arc<Part>>) -> Result<Vec<PreparedEntry>> {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let folder = ensure_folder(&self.dir)?;
        let mut entries = Vec::with_capacity(parts.len());
        for (transaction, part) in parts {
            if let Some(entry) = part.entry.get() {
                entries.push(entry.clone());
                continue;
            }
            let file = self.allot_segment().0;
            let (bytes, crc) = write(&path(&self.dir, file), &part.write_set)?;
            let segments = part.segments().map(|(relation, info)| (relation, info.clone())).collect();
            let entry = PreparedEntry {
                transaction: *transaction,
                timestamp: part.timestamp,
                file,
                bytes,
                crc,
                segments,
            };
            entries.push(part.entry.get_or_init(|| entry).clone());
        }
        sync_dir(&folder)?;
        Ok(entries)
    }

    /// Removes the files of parts that the manifest named before and does not name now.
    pub(super) fn remove_prepared(&self, before: &[PreparedEntry], now: &[PreparedEntry]) -> Result<()> {
        let gone = before.iter().filter(|entry| now.iter().all(|kept| kept.file != entry.file));
        gone.map(|entry| path(&self.dir, entry.file))
            .try_for_each(|path| remove_file(&path))
    }

    /// Removes every file in the folder that no manifest names.
    pub(super) fn collect_prepared(&self, named: &[PreparedEntry]) -> Result<()> {
        let folder = self.dir.join(FOLDER);
        for name in files::names(&folder)? {
            if named.iter().all(|entry| self::name(entry.file) != name) {
                remove_file(&folder.join(name))?;
            }
        }
        Ok(())
    }

    /// Whether each file that a manifest names can be read.
    pub(super) fn verify_prepared(&self, entries: &[PreparedEntry]) -> Vec<StorageError> {
        entries.iter().filter_map(|entry| read(&self.dir, entry).err()).collect()
    }

    /// Lets the segments of parts go that were aborted before the log position that is durable now.
    pub(super) fn remove_abandoned(&self, abandoned: &[(RelationId, SegmentId)]) -> Result<()> {
        for (relation, segment) in abandoned {
            crate::segment::remove_segment(&self.relation_dir(*relation), *segment)?;
        }
        Ok(())
    }
}
