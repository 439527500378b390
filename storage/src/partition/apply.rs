//! Applying log entries: all checks first, then all changes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_row::Rows;

use super::ingest::{self, Ingest};
use super::lookup::{Endings, Place};
use super::prepared::Locks;
use super::version::{RelationVersion, Version};
use super::{
    Applied, AppliedPayload, AppliedState, ApplyOutcome, CONFLICT_WINDOW_MS, Partition, PartitionCommand, WriteConflict, before, files,
};
use crate::error::{Result, StorageError};
use crate::ids::{RelationId, Timestamp};
use crate::key::KeyEncoder;
use crate::memtable::Memtable;
use crate::projection::conform_by_id;
use crate::schema::RelationSchema;
use crate::write_set::{ConflictPolicy, RelationWrites, WriteSet};

/// One relation's part of a write set, checked and ready.
pub(super) struct Change {
    pub relation: Arc<RelationVersion>,
    puts: Vec<(RecordBatch, Rows)>,
    endings: Endings,
    pub ingests: Vec<Ingest>,
}

/// Why a write set is not applied.
pub(super) enum Refusal {
    /// Somebody else changed a key.
    Conflict(WriteConflict),
    /// It could not be checked.
    Error(StorageError),
}

impl<E: Into<StorageError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Refusal::Error(error.into())
    }
}

impl Partition {
    /// Applies one committed entry. Deterministic. Entries at or below the applied index are ignored.
    ///
    /// An [`StorageError::UnknownRelation`] or [`StorageError::SchemaMismatch`] is an answer like a conflict: nothing changed, every replica
    /// answers the same, and the applied position moves on. After any other error the position stays, and the partition must not go on.
    pub fn apply(&self, state: AppliedState, command: &PartitionCommand) -> Result<ApplyOutcome> {
        self.apply_with(state.index, command, |_| state.payload)
    }

    /// As [`Self::apply`], with a payload that depends on whether the command took effect. It is asked for once the position moves.
    pub fn apply_with(
        &self,
        index: u64,
        command: &PartitionCommand,
        payload: impl FnOnce(bool) -> Arc<dyn AppliedPayload>,
    ) -> Result<ApplyOutcome> {
        let mut applied = self.applied.lock();
        self.check_poison()?;
        if index <= applied.state.index {
            return Ok(ApplyOutcome::Applied);
        }
        let outcome = match command {
            PartitionCommand::Write(timestamp, write_set) => self.apply_write(&mut applied, *timestamp, write_set),
            PartitionCommand::Prepare(transaction, timestamp, write_set) => {
                self.apply_prepare(&mut applied, *transaction, *timestamp, write_set)
            }
            PartitionCommand::Decide(transaction, commit) => self.apply_decide(&mut applied, *transaction, *commit),
            PartitionCommand::Abort(transaction) => Ok(self.apply_abort(&mut applied, *transaction)),
            PartitionCommand::CreateRelation(schema) => self.create_relation(schema),
            PartitionCommand::AlterRelation(schema) => self.alter_relation(schema),
            PartitionCommand::DropRelation(id) => {
                self.drop_relation(&mut applied, *id);
                Ok(ApplyOutcome::Applied)
            }
            PartitionCommand::AdvanceConflictFloor(floor) => {
                applied.conflict_floor = applied.conflict_floor.max(*floor);
                Ok(ApplyOutcome::Applied)
            }
            PartitionCommand::Nothing => Ok(ApplyOutcome::Applied),
        };
        if !matches!(&outcome, Err(error) if !error.is_refusal()) {
            applied.state = AppliedState {
                index,
                payload: payload(matches!(outcome, Ok(ApplyOutcome::Applied))),
            };
            applied.changed = true;
        }
        outcome
    }

    fn create_relation(&self, schema: &RelationSchema) -> Result<ApplyOutcome> {
        let version = self.version();
        match version.relations.get(&schema.id) {
            Some(existing) if *existing.schema == *schema => {}
            Some(_) => return Err(mismatch(schema.id, "a relation with this id and another schema exists")),
            None => {
                check_key(schema)?;
                let dir = self.relation_dir(schema.id);
                self.poison(std::fs::create_dir_all(&dir).map_err(StorageError::io(&dir, "create")))?;
                *self.version.write() = Arc::new(version.with(RelationVersion::empty(schema.clone(), self.options.batch_rows)?));
            }
        }
        Ok(ApplyOutcome::Applied)
    }

    fn alter_relation(&self, schema: &RelationSchema) -> Result<ApplyOutcome> {
        let version = self.version();
        let relation = version.relation(schema.id)?;
        if schema.version <= relation.schema.version {
            return if *schema == *relation.schema {
                Ok(ApplyOutcome::Applied)
            } else {
                Err(mismatch(
                    schema.id,
                    format!("version {} is not above version {}", schema.version, relation.schema.version),
                ))
            };
        }
        check_key(schema)?;
        check_alteration(&relation.schema, schema)?;
        let altered = RelationVersion {
            schema: Arc::new(schema.clone()),
            encoder: Arc::new(KeyEncoder::new(schema)?),
            ..(**relation).clone()
        };
        *self.version.write() = Arc::new(version.with(altered));
        Ok(ApplyOutcome::Applied)
    }

    fn drop_relation(&self, applied: &mut Applied, id: RelationId) {
        let mut version = (*self.version()).clone();
        if let Some(relation) = version.relations.remove(&id) {
            applied.dropped.insert(id, relation);
            *self.version.write() = Arc::new(version);
        }
    }

    fn apply_write(&self, applied: &mut Applied, timestamp: Timestamp, write_set: &WriteSet) -> Result<ApplyOutcome> {
        self.checked(applied, timestamp, write_set, |changes| self.commit(changes, timestamp))
    }

    /// Checks a write set and goes on with what it changes.
    pub(super) fn checked(
        &self,
        applied: &mut Applied,
        timestamp: Timestamp,
        write_set: &WriteSet,
        go_on: impl FnOnce(Vec<Change>) -> Result<ApplyOutcome>,
    ) -> Result<ApplyOutcome> {
        let outcome = match self.check(applied, write_set, timestamp) {
            Ok(changes) => go_on(changes),
            Err(Refusal::Conflict(mut conflict)) => {
                let result = self.refuse_staged(applied, write_set, &mut conflict);
                self.poison(result)?;
                Ok(ApplyOutcome::Conflict(conflict))
            }
            Err(Refusal::Error(error)) => Err(error),
        };
        applied.conflict_floor = applied.conflict_floor.max(before(timestamp, CONFLICT_WINDOW_MS));
        outcome
    }

    /// Checks the whole write set; changes nothing that is visible.
    fn check(&self, applied: &Applied, write_set: &WriteSet, timestamp: Timestamp) -> Result<Vec<Change>, Refusal> {
        let version = self.version();
        let mut locks = Vec::with_capacity(write_set.relations.len());
        self.check_refused(write_set)?;
        self.check_reads(applied, &version, write_set)?;
        let mut changes = Vec::with_capacity(write_set.relations.len());
        let start = |writes: &RelationWrites| match writes.policy {
            ConflictPolicy::FirstCommitterWins => Some(write_set.start),
            ConflictPolicy::LastWriteWins => None,
        };
        for writes in &write_set.relations {
            let relation = version.relation(writes.relation)?.clone();
            if let Some(start) = start(writes) {
                self.check_floor(applied, writes.relation, start)?;
            }
            let locked = self.locks(writes.relation);
            changes.push(check_rows(relation, writes, start(writes), &locked)?);
            locks.push(locked);
        }
        // Staged files are moved only when nothing but a conflict on their own keys can refuse the write set.
        for ((change, writes), locks) in changes.iter_mut().zip(&write_set.relations).zip(&locks) {
            self.check_staged(change, writes, start(writes), timestamp)?;
            for ingest in change.ingests.iter().filter(|_| !locks.is_empty()) {
                locks.check_segment(&change.relation, &ingest.segment)?;
            }
        }
        Ok(changes)
    }

    /// Refuses a transaction that began when changes since then may have been forgotten.
    pub(super) fn check_floor(&self, applied: &Applied, relation: RelationId, start: Timestamp) -> Result<(), Refusal> {
        if start >= applied.conflict_floor {
            return Ok(());
        }
        let key = format!(
            "(the transaction began before {}, when older changes may have been forgotten)",
            applied.conflict_floor
        );
        Err(Refusal::Conflict(WriteConflict {
            relation,
            key,
            is_locked: false,
        }))
    }

    fn check_staged(
        &self,
        change: &mut Change,
        writes: &RelationWrites,
        start: Option<Timestamp>,
        timestamp: Timestamp,
    ) -> Result<(), Refusal> {
        for staged in &writes.staged {
            let ingest = self.prepare_ingest(&change.relation, staged, start, timestamp, &mut change.endings)?;
            change.ingests.push(ingest);
        }
        Ok(())
    }

    /// What a decided part changes in one relation: as when it was checked, at the places where rows are now.
    pub(super) fn decided_change(&self, relation: Arc<RelationVersion>, writes: &RelationWrites, commit: Timestamp) -> Result<Change> {
        let found = check_rows(relation, writes, None, &Locks::none()).and_then(|mut change| {
            self.check_staged(&mut change, writes, None, commit)?;
            Ok(change)
        });
        found.map_err(|refusal| match refusal {
            Refusal::Error(error) => error,
            Refusal::Conflict(conflict) => mismatch(conflict.relation, format!("key {} is not as it was prepared", conflict.key)),
        })
    }

    /// Makes a checked write set visible.
    pub(super) fn commit(&self, changes: Vec<Change>, timestamp: Timestamp) -> Result<ApplyOutcome> {
        // Only new segments change the version itself.
        let mut ingested: Option<Version> = None;
        for change in changes {
            let Change {
                relation,
                puts,
                endings,
                ingests,
            } = change;
            endings.apply(&relation, timestamp.0);
            for (rows, keys) in puts {
                // Only more rows than a memtable can number fail here; the relation is half changed then.
                self.poison(relation.active.append(&relation.schema, &rows, keys, timestamp.0))?;
            }
            if !ingests.is_empty() {
                ingests.iter().for_each(|ingest| self.release_claim(ingest.segment.info().id));
                ingest::settle_levels(&ingests);
                let segments = relation.segments.replaced(&[], ingests.into_iter().map(|ingest| ingest.segment));
                let version = ingested.take().unwrap_or_else(|| (*self.version()).clone());
                ingested = Some(version.with(RelationVersion {
                    segments: Arc::new(segments),
                    ..(*relation).clone()
                }));
            }
        }
        if let Some(version) = ingested {
            *self.version.write() = Arc::new(version);
        }
        self.last_timestamp.fetch_max(timestamp.0, Ordering::AcqRel);
        Ok(ApplyOutcome::Applied)
    }

    /// Makes the relation's folder known to be there, also after a replay that found it missing.
    pub(super) fn ensure_relation_dir(&self, relation: RelationId) -> Result<()> {
        let dir = files::relation_dir(&self.dir, relation);
        std::fs::create_dir_all(&dir).map_err(StorageError::io(&dir, "create"))
    }
}

/// Checks the puts and deletes of one relation.
fn check_rows(relation: Arc<RelationVersion>, writes: &RelationWrites, start: Option<Timestamp>, locks: &Locks) -> Result<Change, Refusal> {
    if writes.emptied {
        locks.check_whole(writes.relation)?;
    }
    let mut endings = match writes.emptied {
        true => relation.all_live(start)?.map_err(|key| conflict(&relation, &key))?,
        false => Endings::default(),
    };
    let mut puts = Vec::with_capacity(writes.puts.len());
    for rows in writes.puts.iter().filter(|rows| rows.num_rows() > 0) {
        let rows = conform_by_id(rows, &relation.schema)?;
        let columns: Vec<ArrayRef> = relation.schema.key.iter().map(|&i| rows.column(i).clone()).collect();
        let keys = relation.encoder.encode(&columns)?;
        if !writes.emptied {
            check_keys(&relation, &keys, start, locks, |place| match place {
                // The active memtable ends its own rows when the new ones come.
                Place::Active(_) => {}
                place => endings.add(place),
            })?;
        }
        puts.push((rows, keys));
    }
    for keys in writes.deletes.iter().filter(|keys| keys.num_rows() > 0) {
        let keys = relation.encoder.encode(&key_columns(keys, &relation.schema)?)?;
        check_keys(&relation, &keys, start, locks, |place| endings.add(place))?;
    }
    Ok(Change {
        relation,
        puts,
        endings,
        ingests: Vec::new(),
    })
}

/// Looks each key up: `live` gets the places of live rows; a change after `start`, or a lock, is a conflict.
fn check_keys(
    relation: &RelationVersion,
    keys: &Rows,
    start: Option<Timestamp>,
    locks: &Locks,
    mut live: impl FnMut(Place),
) -> Result<(), Refusal> {
    if !locks.is_empty() {
        keys.iter().try_for_each(|key| locks.check_key(relation, key.data()))?;
    }
    let smallest = keys.iter().min();
    if smallest.is_none_or(|smallest| relation.is_below(smallest.data())) {
        return Ok(());
    }
    for key in keys {
        let state = relation.key_state(key.data())?;
        if start.is_some_and(|start| state.modified > start.0) {
            return Err(conflict(relation, key.data()));
        }
        state.live.into_iter().for_each(&mut live);
    }
    Ok(())
}

/// A conflict on one key.
pub(super) fn conflict(relation: &RelationVersion, key: &[u8]) -> Refusal {
    Refusal::Conflict(WriteConflict {
        relation: relation.schema.id,
        key: relation.encoder.display(key),
        is_locked: false,
    })
}

/// The key columns of a batch of deletes, checked.
pub(crate) fn key_columns(keys: &RecordBatch, schema: &RelationSchema) -> Result<Vec<ArrayRef>> {
    if keys.num_columns() != schema.key.len() {
        return Err(mismatch(
            schema.id,
            format!("{} key columns instead of {}", keys.num_columns(), schema.key.len()),
        ));
    }
    for (column, &position) in keys.columns().iter().zip(&schema.key) {
        let field = schema.schema.field(position);
        if column.data_type() != field.data_type() {
            return Err(mismatch(
                schema.id,
                format!(
                    "key column {} is {} instead of {}",
                    field.name(),
                    column.data_type(),
                    field.data_type()
                ),
            ));
        }
        if column.null_count() > 0 {
            return Err(mismatch(schema.id, format!("null in key column {}", field.name())));
        }
    }
    Ok(keys.columns().to_vec())
}

fn check_key(schema: &RelationSchema) -> Result<()> {
    let fields = schema.schema.fields().len();
    if schema.key.is_empty() || schema.key.iter().any(|&position| position >= fields) {
        return Err(mismatch(schema.id, "the key names no column, or one that is not there"));
    }
    let ids: std::collections::HashSet<u32> = (0..fields).map(|i| schema.field_id(i)).collect();
    if ids.len() != fields {
        return Err(mismatch(schema.id, "two columns have the same id"));
    }
    KeyEncoder::new(schema)
        .map(|_| ())
        .map_err(|error| mismatch(schema.id, format!("the key cannot be ordered: {error}")))
}

/// What a schema may change: names, order, new nullable columns, columns that go; not the key, not a type.
fn check_alteration(from: &RelationSchema, to: &RelationSchema) -> Result<()> {
    let ids = |schema: &RelationSchema| schema.key.iter().map(|&i| schema.field_id(i)).collect::<Vec<_>>();
    if ids(from) != ids(to) {
        return Err(mismatch(to.id, "the key of a relation cannot change"));
    }
    if from.placed_by() != to.placed_by() {
        return Err(mismatch(to.id, "the partition key of a relation cannot change"));
    }
    for (i, field) in to.schema.fields().iter().enumerate() {
        match (0..from.schema.fields().len()).find(|&j| from.field_id(j) == to.field_id(i)) {
            Some(j) if from.schema.field(j).data_type() != field.data_type() => {
                return Err(mismatch(to.id, format!("the type of column {} cannot change", field.name())));
            }
            Some(j) if from.schema.field(j).is_nullable() && !field.is_nullable() => {
                return Err(mismatch(to.id, format!("column {} cannot lose its nulls", field.name())));
            }
            None if !field.is_nullable() => return Err(mismatch(to.id, format!("the new column {} must be nullable", field.name()))),
            _ => {}
        }
    }
    Ok(())
}

fn mismatch(relation: RelationId, detail: impl Into<String>) -> StorageError {
    StorageError::SchemaMismatch {
        relation,
        detail: detail.into(),
    }
}

impl Partition {
    /// A fresh memtable.
    pub(super) fn new_memtable(&self) -> Arc<Memtable> {
        Arc::new(Memtable::new(self.options.batch_rows))
    }
}
