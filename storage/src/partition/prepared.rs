//! Parts of transactions over several partitions: checked and locked when they are prepared, kept until the transaction is decided.
//!
//! A transaction that writes one partition is one log entry. One that writes several is prepared in each: its part of the write set is
//! checked as if it were applied, and kept, and what it writes is locked. When all parts are prepared, the transaction is decided: committed
//! at a timestamp not below that of any part, or aborted. (Two-phase commit; how it is decided is consensus' matter.)
//!
//! - A locked key is changed by nobody else: other write sets that have it are conflicts. So a part that was prepared can always be
//!   applied, and the versions of a key have ascending timestamps though a decision comes later in the log than its timestamp tells.
//! - Whoever reads at T waits for the parts prepared at or before T. [`Partition::stable_timestamp`] is before all of them.
//! - What is prepared is part of the applied state. A flush writes it into files that the manifest names.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use arrow_array::ArrayRef;

use super::apply::{Refusal, conflict, key_columns};
use super::ingest::common_keys;
use super::live_segment::LiveSegment;
use super::reads::rows_within;
use super::version::{RelationVersion, Version};
use super::{Applied, ApplyOutcome, Partition, WriteConflict};
use crate::error::{Result, StorageError};
use crate::ids::{RelationId, Timestamp, TransactionId};
use crate::key::{KeyEncoder, key_hash};
use crate::manifest::PreparedEntry;
use crate::projection::conform_by_id;
use crate::reads::RelationReads;
use crate::segment::SegmentInfo;
use crate::write_set::{RelationWrites, WriteSet};

/// What a transaction that is not decided writes in this partition.
#[derive(Debug)]
pub(super) struct Part {
    /// Its commit is not before this.
    pub timestamp: Timestamp,
    pub write_set: Arc<WriteSet>,
    locks: Vec<Lock>,
    /// The file that holds it, once a flush has written one.
    pub entry: OnceLock<PreparedEntry>,
}

/// What of one relation is locked.
#[derive(Debug)]
struct Lock {
    relation: RelationId,
    /// Every key.
    whole: bool,
    keys: BTreeSet<Box<[u8]>>,
    /// The keys of these, too.
    segments: Vec<Arc<LiveSegment>>,
    /// What was read, and may be read by others: nobody writes it.
    reads: Option<RelationReads>,
}

impl Part {
    /// Locks what a checked write set writes. Relations that are gone are left out.
    pub fn new(
        version: &Version,
        timestamp: Timestamp,
        write_set: Arc<WriteSet>,
        mut open: impl FnMut(&RelationWrites) -> Result<Vec<Arc<LiveSegment>>>,
        entry: Option<PreparedEntry>,
    ) -> Result<Part> {
        let mut locks = Vec::with_capacity(write_set.relations.len());
        for writes in &write_set.relations {
            let Some(relation) = version.relations.get(&writes.relation) else {
                continue;
            };
            locks.push(Lock {
                relation: writes.relation,
                whole: writes.emptied,
                keys: written_keys(relation, writes)?,
                segments: open(writes)?,
                reads: None,
            });
        }
        locks.extend(write_set.reads.iter().map(|reads| Lock {
            relation: reads.relation,
            whole: false,
            keys: BTreeSet::new(),
            segments: Vec::new(),
            reads: Some(reads.clone()),
        }));
        Ok(Part {
            timestamp,
            write_set,
            locks,
            entry: entry.map(OnceLock::from).unwrap_or_default(),
        })
    }

    /// Its staged segments.
    pub fn segments(&self) -> impl Iterator<Item = (RelationId, &SegmentInfo)> {
        self.locks.iter().flat_map(Lock::segments)
    }
}

fn written_keys(relation: &RelationVersion, writes: &RelationWrites) -> Result<BTreeSet<Box<[u8]>>> {
    let mut keys = BTreeSet::new();
    let mut add = |columns: &[ArrayRef]| -> Result<()> {
        keys.extend(relation.encoder.encode(columns)?.iter().map(|key| Box::from(key.data())));
        Ok(())
    };
    for rows in &writes.puts {
        let rows = conform_by_id(rows, &relation.schema)?;
        let columns: Vec<ArrayRef> = relation.schema.key.iter().map(|&i| rows.column(i).clone()).collect();
        add(&columns)?;
    }
    for deletes in &writes.deletes {
        add(&key_columns(deletes, &relation.schema)?)?;
    }
    Ok(keys)
}

/// What is locked of one relation by all parts that are prepared.
pub(super) struct Locks {
    /// A part each, and which of its locks.
    held: Vec<(Arc<Part>, usize)>,
}

impl Locks {
    /// No locks.
    pub fn none() -> Locks {
        Locks { held: Vec::new() }
    }

    /// Whether nothing is locked.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn locks(&self) -> impl Iterator<Item = &Lock> {
        self.held.iter().map(|(part, at)| &part.locks[*at])
    }

    /// Refuses a write of this key where it is locked, or was read.
    pub fn check_key(&self, relation: &RelationVersion, key: &[u8]) -> Result<(), Refusal> {
        for lock in self.locks() {
            if lock.holds(key, &relation.encoder)? {
                return Err(locked(relation, key));
            }
        }
        Ok(())
    }

    /// Refuses a write of the whole relation where anything is locked.
    pub fn check_whole(&self, relation: RelationId) -> Result<(), Refusal> {
        match self.is_empty() {
            true => Ok(()),
            false => Err(whole_conflict(relation)),
        }
    }

    /// Refuses a segment where any of its keys is locked.
    pub fn check_segment(&self, relation: &RelationVersion, segment: &LiveSegment) -> Result<(), Refusal> {
        let info = segment.info();
        let range = (
            Bound::Included(info.first_key.as_slice()),
            Bound::Included(info.last_key.as_slice()),
        );
        for lock in self.locks() {
            if lock.whole {
                return Err(whole_conflict(relation.schema.id));
            }
            lock.check_segment_unread(relation, segment)?;
            if info.first_key <= info.last_key {
                for key in lock.keys.range::<[u8], _>(range) {
                    if !segment.segment().find(key, key_hash(key), &relation.encoder)?.is_empty() {
                        return Err(locked(relation, key));
                    }
                }
            }
            for other in &lock.segments {
                if let Some(key) = common_keys(segment.segment(), other.segment(), &relation.encoder)? {
                    return Err(locked(relation, &key));
                }
            }
        }
        Ok(())
    }
}

impl Locks {
    /// Refuses what was read where a part writes any of it: that part may commit first.
    pub fn check_reads(&self, relation: &RelationVersion, reads: &RelationReads) -> Result<(), Refusal> {
        for lock in self.locks() {
            if lock.whole {
                return Err(whole_conflict(relation.schema.id));
            }
            if let Some(key) = lock.keys.iter().find(|key| reads.contains(key)) {
                return Err(locked(relation, key));
            }
            for segment in &lock.segments {
                check_unread(relation, segment, reads)?;
            }
        }
        Ok(())
    }
}

/// Refuses a segment that has rows of what was read.
fn check_unread(relation: &RelationVersion, segment: &LiveSegment, reads: &RelationReads) -> Result<(), Refusal> {
    for key in &reads.keys {
        if !segment.segment().find(key, key_hash(key), &relation.encoder)?.is_empty() {
            return Err(locked(relation, key));
        }
    }
    for span in &reads.spans {
        let rows = rows_within(segment.segment(), span, &relation.encoder)?;
        if !rows.is_empty() {
            let (batch, place) = segment.segment().locate(rows.start);
            let keys = segment.segment().keys(batch, &relation.encoder)?;
            return Err(locked(relation, keys.row(place).data()));
        }
    }
    Ok(())
}

impl Lock {
    fn check_segment_unread(&self, relation: &RelationVersion, segment: &LiveSegment) -> Result<(), Refusal> {
        self.reads.as_ref().map_or(Ok(()), |reads| check_unread(relation, segment, reads))
    }

    fn segments(&self) -> impl Iterator<Item = (RelationId, &SegmentInfo)> {
        self.segments.iter().map(|segment| (self.relation, segment.info()))
    }

    fn holds(&self, key: &[u8], encoder: &KeyEncoder) -> Result<bool> {
        let is_read = self.reads.as_ref().is_some_and(|reads| reads.contains(key));
        if self.whole || is_read || self.keys.contains(key) {
            return Ok(true);
        }
        for segment in &self.segments {
            if !segment.segment().find(key, key_hash(key), encoder)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn whole_conflict(relation: RelationId) -> Refusal {
    Refusal::Conflict(WriteConflict {
        relation,
        key: "(all of them)".to_owned(),
        is_locked: true,
    })
}

fn locked(relation: &RelationVersion, key: &[u8]) -> Refusal {
    match conflict(relation, key) {
        Refusal::Conflict(conflict) => Refusal::Conflict(WriteConflict {
            is_locked: true,
            ..conflict
        }),
        error => error,
    }
}

impl Partition {
    /// The newest timestamp at which no commit is outstanding: a snapshot at it, or before it, never changes.
    pub fn stable_timestamp(&self) -> Timestamp {
        let prepared = self.prepared.read();
        let earliest = prepared.values().map(|part| part.timestamp).min();
        let stable = earliest.map_or(Timestamp::MAX, |earliest| Timestamp(earliest.0.saturating_sub(1)));
        // Under the lock: what is decided is counted before it is no longer prepared.
        self.last_timestamp().min(stable)
    }

    /// Transactions whose commit may be at or before `until`, and the earliest timestamp at which each may commit.
    pub fn undecided(&self, until: Timestamp) -> Vec<(TransactionId, Timestamp)> {
        let prepared = self.prepared.read();
        let before = prepared.iter().filter(|(_, part)| part.timestamp <= until);
        before.map(|(transaction, part)| (*transaction, part.timestamp)).collect()
    }

    /// Those of [`Self::undecided`] that write here: a reader at `until` has nothing to wait for from what was only read.
    pub fn undecided_writes(&self, until: Timestamp) -> Vec<TransactionId> {
        let prepared = self.prepared.read();
        let writes = |part: &Part| part.timestamp <= until && !part.write_set.relations.is_empty();
        let writing = prepared.iter().filter(|(_, part)| writes(part));
        writing.map(|(transaction, _)| *transaction).collect()
    }

    /// What others may not write of a relation.
    pub(super) fn locks(&self, relation: RelationId) -> Locks {
        let prepared = self.prepared.read();
        let held = prepared.values().flat_map(|part| {
            let of_relation = part.locks.iter().enumerate().filter(|(_, lock)| lock.relation == relation);
            of_relation.map(|(at, _)| (part.clone(), at))
        });
        Locks { held: held.collect() }
    }

    /// Checks a part of a transaction, locks and keeps it. To prepare it again changes nothing.
    pub(super) fn apply_prepare(
        &self,
        applied: &mut Applied,
        transaction: TransactionId,
        timestamp: Timestamp,
        write_set: &Arc<WriteSet>,
    ) -> Result<ApplyOutcome> {
        if self.prepared.read().contains_key(&transaction) {
            return Ok(ApplyOutcome::Applied);
        }
        self.checked(applied, timestamp, write_set, |changes| {
            let mut ingests: Vec<_> = changes
                .into_iter()
                .map(|change| (change.relation.schema.id, change.ingests))
                .collect();
            let mut staged = |writes: &RelationWrites| {
                let of_relation = ingests.iter_mut().find(|(relation, _)| *relation == writes.relation);
                let ingests = of_relation.map(|(_, ingests)| std::mem::take(ingests)).unwrap_or_default();
                Ok(ingests.into_iter().map(|ingest| ingest.segment).collect())
            };
            let part = Part::new(&self.version(), timestamp, write_set.clone(), &mut staged, None)?;
            part.segments().for_each(|(_, segment)| self.release_claim(segment.id));
            self.prepared.write().insert(transaction, Arc::new(part));
            Ok(ApplyOutcome::Applied)
        })
    }

    /// Makes a prepared part visible. Nothing is checked again: its locks kept everybody else away.
    pub(super) fn apply_decide(&self, applied: &mut Applied, transaction: TransactionId, commit: Timestamp) -> Result<ApplyOutcome> {
        let found = self.prepared.read().get(&transaction).cloned();
        let part = found.ok_or(StorageError::UnknownTransaction(transaction))?;
        if commit < part.timestamp {
            return Err(StorageError::DecidedTooEarly {
                transaction,
                commit,
                prepared: part.timestamp,
            });
        }
        let version = self.version();
        let changes = part.write_set.relations.iter().map(|writes| {
            let Some(relation) = version.relations.get(&writes.relation) else {
                return Ok(None);
            };
            self.decided_change(relation.clone(), writes, commit).map(Some)
        });
        let changes = changes.collect::<Result<Vec<_>>>();
        // It was promised that this part can be applied.
        let changes = self.poison(changes)?;
        let gone = part.segments().filter(|(relation, _)| !version.relations.contains_key(relation));
        applied.abandoned.extend(gone.map(|(relation, segment)| (relation, segment.id)));
        let outcome = self.commit(changes.into_iter().flatten().collect(), commit);
        self.prepared.write().remove(&transaction);
        outcome
    }

    /// Forgets a part; nothing happens where it is not there.
    pub(super) fn apply_abort(&self, applied: &mut Applied, transaction: TransactionId) -> ApplyOutcome {
        if let Some(part) = self.prepared.write().remove(&transaction) {
            // A replay of what prepared it finds its files until a flush has passed the abort.
            applied
                .abandoned
                .extend(part.segments().map(|(relation, segment)| (relation, segment.id)));
        }
        ApplyOutcome::Applied
    }
}
