//! What is where in the log, in memory: per group its entries, vote, committed and purged position; per file how much of it still lives.
//!
//! Recovery and the writer feed the same [`Index::apply`], record by record in log order, so both come to the same state.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::DiskFile;
use super::{GroupId, GroupRecords, Record, RecordKind};

/// Where an entry's payload lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The file, by the sequence number of its first frame.
    pub file: u64,
    /// Offset of the payload in the file.
    pub offset: u64,
    /// Length of the payload.
    pub len: u32,
    /// crc32c of the payload.
    pub crc: u32,
}

/// A group's last vote, committed or purged position.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The record's index.
    pub index: u64,
    /// The record's payload.
    pub payload: Bytes,
    /// The file that holds it.
    pub file: u64,
}

/// One group's live records.
#[derive(Debug, Default)]
pub struct GroupIndex {
    /// Entries by Raft index.
    pub entries: BTreeMap<u64, Location>,
    /// Last vote.
    pub vote: Option<Standing>,
    /// Last committed position.
    pub committed: Option<Standing>,
    /// Last purged position.
    pub purged: Option<Standing>,
}

/// A log file and how much of it still lives.
pub struct FileUse {
    /// The open file.
    pub file: Arc<dyn DiskFile>,
    /// Live entries in it.
    pub entries: u64,
    /// Bytes of those entries.
    pub bytes: u64,
}

/// The whole log's index.
#[derive(Default)]
pub struct Index {
    /// By group.
    pub groups: BTreeMap<GroupId, GroupIndex>,
    /// By first sequence number.
    pub files: BTreeMap<u64, FileUse>,
    /// Files before the one that holds this sequence number may be missing.
    pub collected: u64,
}

impl Index {
    /// Adds a file, which later records may lie in.
    pub fn add_file(&mut self, first: u64, file: Arc<dyn DiskFile>) {
        self.files.insert(
            first,
            FileUse {
                file,
                entries: 0,
                bytes: 0,
            },
        );
    }

    /// Takes over one durable record that lies at `location`.
    pub fn apply(&mut self, record: &Record, location: Location) {
        if record.kind == RecordKind::Collected {
            self.collected = record.index;
            return;
        }
        let group = self.groups.entry(record.group).or_default();
        let standing = || {
            Some(Standing {
                index: record.index,
                payload: record.payload.clone(),
                file: location.file,
            })
        };
        let mut gone = Vec::new();
        match record.kind {
            RecordKind::Entry => {
                if group.entries.last_key_value().is_some_and(|(&last, _)| last >= record.index) {
                    gone.extend(group.entries.split_off(&record.index).into_values());
                }
                group.entries.insert(record.index, location);
            }
            RecordKind::Moved => gone.extend(group.entries.insert(record.index, location)),
            RecordKind::Vote => group.vote = standing(),
            RecordKind::Committed => group.committed = standing(),
            RecordKind::Truncate => gone.extend(group.entries.split_off(&record.index).into_values()),
            RecordKind::Purge => {
                let kept = record
                    .index
                    .checked_add(1)
                    .map(|next| group.entries.split_off(&next))
                    .unwrap_or_default();
                gone.extend(std::mem::replace(&mut group.entries, kept).into_values());
                group.purged = standing();
            }
            RecordKind::Collected => {}
        }
        for location in gone {
            if let Some(file) = self.files.get_mut(&location.file) {
                file.entries -= 1;
                file.bytes -= u64::from(location.len);
            }
        }
        if matches!(record.kind, RecordKind::Entry | RecordKind::Moved)
            && let Some(file) = self.files.get_mut(&location.file)
        {
            file.entries += 1;
            file.bytes += u64::from(location.len);
        }
    }

    /// A group's state for its owner.
    pub fn group_records(&self, group: GroupId) -> GroupRecords {
        let Some(found) = self.groups.get(&group) else {
            return GroupRecords::default();
        };
        let payload = |standing: &Option<Standing>| standing.as_ref().map(|s| s.payload.clone());
        GroupRecords {
            vote: payload(&found.vote),
            committed: payload(&found.committed),
            purged: payload(&found.purged),
            entries: found
                .entries
                .first_key_value()
                .zip(found.entries.last_key_value())
                .map(|((&first, _), (&last, _))| (first, last)),
        }
    }

    /// The first hole in a group's entries, if any: recovery must not go on with one.
    pub fn hole(&self) -> Option<(GroupId, u64)> {
        for (&id, group) in &self.groups {
            let start = match (&group.purged, group.entries.first_key_value()) {
                (Some(purged), _) => purged.index + 1,
                (None, Some((&first, _))) => first,
                (None, None) => continue,
            };
            if let Some((expected, _)) = (start..).zip(group.entries.keys()).find(|(expected, index)| expected != *index) {
                return Some((id, expected));
            }
        }
        None
    }
}
