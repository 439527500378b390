//! The manifest: what segments and delete vectors a partition has, changed as a whole.
//!
//! `CURRENT` names `MANIFEST-<n>` and holds its checksum. A change writes the next file, syncs it, renames a new `CURRENT` over the old one
//! and syncs the directory; after that the old file goes. A crash at any point leaves the old or the new state.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::deletes::DeleteFile;
use crate::error::{Result, StorageError};
use crate::file::{CheckedFile, FileKind, read_checked, remove_file, sync_dir, write_atomic, write_checked};
use crate::ids::{RelationId, Timestamp, TransactionId};
use crate::partition::AppliedState;
use crate::schema::RelationSchema;
use crate::segment::SegmentInfo;

const KIND: FileKind = FileKind {
    magic: *b"PYRA_MAN",
    version: 1,
    name: "manifest",
};
const CURRENT: &str = "CURRENT";
const PREFIX: &str = "MANIFEST-";

/// The durable state of a partition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Number of this manifest; [`Manifest::store`] writes `MANIFEST-<number>`. The first is 1 (or 0), each later one has a higher number.
    pub number: u64,
    /// The log position that the segments hold.
    #[serde(with = "applied_state")]
    pub applied: AppliedState,
    /// The highest commit timestamp in the segments.
    pub last_timestamp: Timestamp,
    /// The oldest timestamp that can still be read.
    pub horizon: Timestamp,
    /// Write sets that started before this are refused as conflicts: traces of older changes may be gone.
    pub conflict_floor: Timestamp,
    /// The next segment id to give out.
    pub next_segment: u64,
    /// Relations by id.
    pub relations: Vec<RelationManifest>,
    /// Parts of transactions that are prepared and not decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepared: Vec<PreparedEntry>,
}

/// A part of a transaction over several partitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreparedEntry {
    /// The transaction.
    pub transaction: TransactionId,
    /// The earliest timestamp at which it may commit.
    pub timestamp: Timestamp,
    /// The number in the name of the file that holds its writes.
    pub file: u64,
    /// Size of that file.
    pub bytes: u64,
    /// Its checksum.
    pub crc: u32,
    /// Segments that it adds when it commits, in their relations' folders already.
    pub segments: Vec<(RelationId, SegmentInfo)>,
}

/// One relation of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RelationManifest {
    /// Its schema.
    pub schema: RelationSchema,
    /// Its segments.
    pub segments: Vec<SegmentEntry>,
}

/// One segment of a relation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// The files.
    pub info: SegmentInfo,
    /// Level in the tree.
    pub level: u8,
    /// The commit timestamp of all rows, for segments without a timestamp column.
    pub uniform_ts: Option<Timestamp>,
    /// Deleted rows.
    pub deletes: Option<DeleteFile>,
}

impl Manifest {
    /// The current manifest of a partition directory; `None` for a new one.
    pub fn load(dir: &Path) -> Result<Option<Manifest>> {
        let current = dir.join(CURRENT);
        let text = match fs::read(&current) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Self::absent(dir),
            Err(e) => return Err(StorageError::io(current, "read")(e)),
        };
        let (number, file) = parse_current(&text).ok_or_else(|| {
            StorageError::damaged(
                &current,
                "manifest pointer",
                "it does not name a manifest with its size and checksum",
            )
        })?;
        Self::read(dir, number, Some(file)).map(Some)
    }

    /// Reads one manifest file, and compares it with what the pointer says of it.
    fn read(dir: &Path, number: u64, expected: Option<CheckedFile>) -> Result<Manifest> {
        let path = manifest_path(dir, number);
        let damaged = |detail: String| StorageError::damaged(&path, KIND.name, detail);
        let (body, header) = read_checked(&path, KIND)?;
        if expected.is_some_and(|expected| expected != header) {
            return Err(damaged(format!("it is not the file that {CURRENT} names")));
        }
        let manifest: Manifest = serde_json::from_slice(&body).map_err(|e| damaged(e.to_string()))?;
        if manifest.number != number {
            return Err(damaged(format!("it says that it is number {}", manifest.number)));
        }
        Ok(manifest)
    }

    /// Without `CURRENT` a directory is new, or a crash came before the first pointer was written: a first manifest that is whole then stands
    /// (what it names was synced before it), one that is not was never acknowledged. Any other manifest shows that the pointer was lost.
    fn absent(dir: &Path) -> Result<Option<Manifest>> {
        let numbers = manifest_numbers(dir)?;
        match numbers.as_slice() {
            [] => Ok(None),
            [first @ 0..=1] => match Self::read(dir, *first, None) {
                Err(StorageError::Damaged { .. }) => Ok(None),
                other => other.map(Some),
            },
            _ => {
                let detail = format!("it is missing, but {} manifests are there", numbers.len());
                Err(StorageError::damaged(dir.join(CURRENT), "manifest pointer", detail))
            }
        }
    }

    /// Makes this the current manifest, durably; then removes older ones. The caller has synced the files it names and their directories.
    ///
    /// After an error the state on disk is the old one or this one; the caller must not write on.
    pub fn store(&self, dir: &Path) -> Result<()> {
        let path = manifest_path(dir, self.number);
        let unreadable = |e: serde_json::Error| StorageError::damaged(&path, "manifest to be written", e.to_string());
        let body = serde_json::to_vec(self).map_err(unreadable)?;
        // What could not be read again (a type nested too deeply) must not replace what can.
        serde_json::from_slice::<Manifest>(&body).map_err(unreadable)?;
        let file = write_checked(&path, KIND, &body)?;
        // The new file's name must be durable before anything points to it.
        sync_dir(dir)?;
        write_atomic(&dir.join(CURRENT), format_current(self.number, file).as_bytes())?;
        for number in manifest_numbers(dir)? {
            if number != self.number {
                remove_file(&manifest_path(dir, number))?;
            }
        }
        Ok(())
    }
}

fn manifest_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{number}"))
}

/// Numbers of the manifest files in a directory.
fn manifest_numbers(dir: &Path) -> Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StorageError::io(dir, "list")(e)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(StorageError::io(dir, "list"))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u64>().ok()));
    }
    Ok(numbers)
}

/// `MANIFEST-<n> <bytes> <crc of the manifest> <crc of this line so far>`
fn format_current(number: u64, file: CheckedFile) -> String {
    let line = format!("{PREFIX}{number} {} {:08x}", file.bytes, file.crc);
    let crc = crc32c::crc32c(line.as_bytes());
    format!("{line} {crc:08x}\n")
}

fn parse_current(text: &[u8]) -> Option<(u64, CheckedFile)> {
    let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    let number = words.next()?.strip_prefix(PREFIX)?.parse().ok()?;
    let file = CheckedFile {
        bytes: words.next()?.parse().ok()?,
        crc: u32::from_str_radix(words.next()?, 16).ok()?,
    };
    // Comparing the whole text also compares its checksum and spacing.
    (format_current(number, file).as_bytes() == text).then_some((number, file))
}

/// [`AppliedState`] with its payload as hexadecimal digits.
mod applied_state {
    use serde::{Deserializer, Serializer};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Stored {
        index: u64,
        #[serde(with = "crate::hex")]
        payload: Bytes,
    }

    pub fn serialize<S: Serializer>(state: &AppliedState, serializer: S) -> Result<S::Ok, S::Error> {
        Stored {
            index: state.index,
            payload: state.payload.encode().map_err(serde::ser::Error::custom)?,
        }
        .serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AppliedState, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        Ok(AppliedState {
            index: stored.index,
            payload: Arc::new(stored.payload),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow_schema::{DataType, Field};

    use super::*;
    use crate::ids::SegmentId;

    fn sample(number: u64) -> Manifest {
        let schema = RelationSchema::new(RelationId(4), [Field::new("id", DataType::Int64, false)], vec![0]);
        let info = SegmentInfo {
            id: SegmentId(9),
            schema_version: 1,
            rows: 3,
            bytes: u64::MAX,
            sidecar_bytes: 5,
            sidecar_crc: 6,
            first_key: vec![0, 255],
            last_key: vec![1],
            min_ts: Timestamp(1),
            max_ts: Timestamp(u64::MAX - 1),
            timestamps: true,
        };
        let deletes = Some(DeleteFile {
            version: 2,
            crc: 3,
            bytes: 4,
            rows: 5,
        });
        let prepared = PreparedEntry {
            transaction: TransactionId {
                coordinator: u128::MAX - 7,
                serial: u64::MAX,
            },
            timestamp: Timestamp(100),
            file: 3,
            bytes: 4,
            crc: u32::MAX,
            segments: vec![(RelationId(4), info.clone())],
        };
        let entry = SegmentEntry {
            info,
            level: 1,
            uniform_ts: Some(Timestamp(8)),
            deletes,
        };
        Manifest {
            number,
            applied: AppliedState {
                index: 77,
                payload: Arc::new(Bytes::from_static(&[0, 200, 7])),
            },
            last_timestamp: Timestamp(99),
            horizon: Timestamp(98),
            conflict_floor: Timestamp(97),
            next_segment: 10,
            relations: vec![RelationManifest {
                schema,
                segments: vec![entry],
            }],
            prepared: vec![prepared],
        }
    }

    #[test]
    fn a_manifest_without_prepared_parts_is_as_it_was_before_there_were_any() {
        let mut manifest = sample(1);
        manifest.prepared.clear();
        let text = serde_json::to_string(&manifest).unwrap();
        assert!(!text.contains("prepared"));
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
    }

    #[test]
    fn the_last_stored_manifest_is_loaded_and_older_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::load(dir.path()).unwrap(), None);
        assert_eq!(Manifest::load(&dir.path().join("not there")).unwrap(), None);
        for number in [1, 2, 3] {
            sample(number).store(dir.path()).unwrap();
            assert_eq!(Manifest::load(dir.path()).unwrap(), Some(sample(number)));
        }
        assert_eq!(manifest_numbers(dir.path()).unwrap(), vec![3]);
    }

    #[test]
    fn a_crash_before_the_pointer_moves_leaves_the_old_state() {
        let dir = tempfile::tempdir().unwrap();
        sample(1).store(dir.path()).unwrap();
        fs::write(manifest_path(dir.path(), 2), b"half").unwrap();
        assert_eq!(Manifest::load(dir.path()).unwrap().unwrap().number, 1);
    }

    #[test]
    fn a_lost_pointer_is_not_an_empty_database() {
        let dir = tempfile::tempdir().unwrap();
        sample(1).store(dir.path()).unwrap();
        fs::remove_file(dir.path().join(CURRENT)).unwrap();
        assert_eq!(
            Manifest::load(dir.path()).unwrap(),
            Some(sample(1)),
            "whole: a crash came before the first pointer"
        );
        fs::write(manifest_path(dir.path(), 1), b"half").unwrap();
        assert_eq!(Manifest::load(dir.path()).unwrap(), None, "half: nothing was acknowledged");
        sample(2).store(dir.path()).unwrap();
        fs::remove_file(dir.path().join(CURRENT)).unwrap();
        assert!(matches!(Manifest::load(dir.path()), Err(StorageError::Damaged { .. })));
    }

    #[test]
    fn every_flipped_or_missing_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        sample(1).store(dir.path()).unwrap();
        for name in ["CURRENT", "MANIFEST-1"] {
            let path = dir.path().join(name);
            let good = fs::read(&path).unwrap();
            for at in 0..good.len() {
                for mask in [0x01, 0x20, 0x80, 0xff] {
                    let mut bad = good.clone();
                    bad[at] ^= mask;
                    fs::write(&path, &bad).unwrap();
                    assert!(Manifest::load(dir.path()).is_err(), "{name} byte {at}");
                }
                fs::write(&path, &good[..at]).unwrap();
                assert!(Manifest::load(dir.path()).is_err(), "{name} cut at {at}");
            }
            fs::write(&path, &good).unwrap();
        }
        assert_eq!(Manifest::load(dir.path()).unwrap(), Some(sample(1)));
    }

    #[test]
    fn a_manifest_that_could_not_be_read_again_is_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        sample(1).store(dir.path()).unwrap();
        let deep = (0..100).fold(DataType::Int8, |inner, _| DataType::new_list(inner, true));
        let mut manifest = sample(2);
        manifest.relations[0].schema = RelationSchema::new(RelationId(4), [Field::new("deep", deep, true)], vec![0]);
        assert!(manifest.store(dir.path()).is_err());
        assert_eq!(Manifest::load(dir.path()).unwrap(), Some(sample(1)));
    }
}
