//! An open transaction: a snapshot and private writes over it, in every partition.
//!
//! Writes go through [`pyralog_storage::Transaction`], which may write files; they run on blocking threads. A statement is atomic: it marks a
//! savepoint first, and goes back to it when it fails.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use pyralog_consensus::{Commit, ConsensusError, Request};
use pyralog_storage::{ConflictPolicy, PartitionId, RelationId, RelationView, Savepoint, Snapshot, StorageError, WriteSet};

use super::reader::Reader;
use super::views::Views;
use super::writes::{SortedRuns, Writes};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::reads::Reads;
use crate::request;

/// Rows that are written without handing them to another thread.
const SMALL_ROWS: usize = 64;
/// Bytes of such rows, and of a transaction that is finished so.
const SMALL_BYTES: u64 = 256 << 10;

/// How far concurrent transactions are kept apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// All of a transaction reads the state at its start; of two that change one key, one is refused.
    #[default]
    Snapshot,
    /// As if transactions had run one after the other: who has read what another one changed meanwhile is refused, too.
    Serializable,
}

/// A transaction that is neither committed nor rolled back.
pub(crate) struct OpenTransaction {
    /// `None` only while a blocking call has it; it stays so when that call panicked.
    writes: Option<Writes>,
    base: Arc<Vec<Snapshot>>,
    written: BTreeSet<RelationId>,
    savepoints: Vec<(String, Savepoints)>,
    /// The name under which it is committed.
    request: Option<Request>,
    /// What it has read, if it is to be serializable.
    reads: Option<Arc<Reads>>,
    /// Whether a statement has read or written anything.
    is_used: bool,
}

/// A point to go back to.
#[derive(Clone)]
pub(crate) struct Savepoints {
    storage: Vec<Savepoint>,
    written: BTreeSet<RelationId>,
}

impl OpenTransaction {
    /// Begins at the newest state.
    pub(crate) async fn begin(engine: &Engine, isolation: Isolation) -> Result<OpenTransaction> {
        let (base, _) = engine.catalog.snapshots().await?;
        let partitions = engine.node.partitions().iter().zip(&base);
        let parts = partitions.map(|(partition, snapshot)| partition.storage().begin(snapshot.clone()));
        Ok(OpenTransaction {
            writes: Some(Writes::new(parts.collect(), engine.placement)),
            base: Arc::new(base),
            written: BTreeSet::new(),
            savepoints: Vec::new(),
            request: None,
            reads: recorded(engine, isolation),
            is_used: false,
        })
    }

    /// How it is kept apart from others.
    pub(crate) fn isolation(&self) -> Isolation {
        match self.reads {
            Some(_) => Isolation::Serializable,
            None => Isolation::Snapshot,
        }
    }

    /// Changes how it is kept apart from others; an error once it has read or written anything.
    pub(crate) fn set_isolation(&mut self, engine: &Engine, isolation: Isolation) -> Result<()> {
        if self.is_used {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "25001",
                "SET TRANSACTION ISOLATION LEVEL must come before any query of the transaction",
            )
            .with_hint("begin another one with BEGIN ISOLATION LEVEL …"));
        }
        self.reads = recorded(engine, isolation);
        Ok(())
    }

    fn writes(&mut self) -> Result<&mut Writes> {
        self.is_used = true;
        self.writes.as_mut().ok_or_else(lost)
    }

    /// Runs `work` on a few rows here, on many on a blocking thread: they may be staged in files, and their keys take a while to look up.
    async fn write<T: Send + 'static>(
        &mut self,
        rows: &RecordBatch,
        work: impl FnOnce(&mut Writes) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T> {
        if is_small(self.writes()?, rows) {
            return Ok(work(self.writes()?)?);
        }
        self.blocking(work).await
    }

    /// Runs `work` on a blocking thread.
    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Writes) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T> {
        self.is_used = true;
        let mut writes = self.writes.take().ok_or_else(lost)?;
        let joined = tokio::task::spawn_blocking(move || {
            let result = work(&mut writes);
            (writes, result)
        })
        .await;
        let (writes, result) = joined.map_err(|e| Error::internal(format!("a write task failed: {e}")))?;
        self.writes = Some(writes);
        Ok(result?)
    }

    /// What statements of this transaction read now.
    pub(crate) fn reader(&mut self) -> Result<Reader> {
        self.is_used = true;
        let mut views: HashMap<RelationId, Vec<RelationView>> = HashMap::new();
        for relation in self.written.clone() {
            views.insert(relation, self.writes()?.views(relation)?);
        }
        Ok(Reader::Transaction {
            base: Arc::clone(&self.base),
            written: Arc::new(views),
            reads: self.reads.clone(),
        })
    }

    /// The relation as this transaction sees it now.
    pub(crate) fn views(&mut self, relation: RelationId) -> Result<Views> {
        let views = self.writes()?.views(relation)?;
        Ok(Views::new(views)?.recorded(self.reads.clone()))
    }

    /// Adds rows with new keys.
    pub(crate) async fn insert(&mut self, relation: RelationId, rows: RecordBatch) -> Result<()> {
        self.written.insert(relation);
        let inserted = self.write(&rows.clone(), move |writes| writes.insert(relation, &rows)).await;
        // What is inserted is written; what is not was seen to be there.
        if inserted.is_err() {
            self.has_read(relation);
        }
        inserted
    }

    /// All of a relation was read.
    fn has_read(&self, relation: RelationId) {
        if let Some(reads) = &self.reads {
            reads.whole(relation);
        }
    }

    /// Adds or replaces rows.
    pub(crate) async fn put(&mut self, relation: RelationId, rows: RecordBatch) -> Result<()> {
        self.written.insert(relation);
        self.write(&rows.clone(), move |writes| writes.put(relation, &rows)).await
    }

    /// Removes rows by key; how many there were.
    pub(crate) async fn delete(&mut self, relation: RelationId, keys: RecordBatch) -> Result<u64> {
        self.written.insert(relation);
        if let Some(reads) = self.reads.clone() {
            // How many there were is told.
            let views = self.writes()?.views(relation)?;
            let view = views.first().ok_or_else(lost)?;
            reads.keys(view, keys.columns())?;
        }
        self.write(&keys.clone(), move |writes| writes.delete(relation, &keys)).await
    }

    /// Removes all rows, without naming them. Any concurrent change of the relation is a conflict.
    pub(crate) async fn empty(&mut self, relation: RelationId) -> Result<u64> {
        self.written.insert(relation);
        self.has_read(relation);
        self.blocking(move |writes| writes.empty(relation)).await
    }

    /// Begins a run of new rows in key order; see [`SortedRuns`].
    pub(crate) fn sorted_run(&mut self, relation: RelationId) -> Result<SortedRuns> {
        self.written.insert(relation);
        // Whether its keys are new is found out when it is added.
        self.has_read(relation);
        Ok(self.writes()?.sorted_run(relation)?)
    }

    /// Makes the rows of runs this transaction's.
    pub(crate) async fn add_runs(&mut self, runs: Vec<SortedRuns>) -> Result<()> {
        self.blocking(move |writes| writes.add_runs(runs)).await.map(drop)
    }

    /// Lets later commits of the same keys overwrite this one's.
    pub(crate) fn last_write_wins(&mut self, relation: RelationId) -> Result<()> {
        self.writes()?.set_policy(relation, ConflictPolicy::LastWriteWins);
        Ok(())
    }

    /// Marks a point.
    pub(crate) fn mark(&mut self) -> Result<Savepoints> {
        let storage = self.writes.as_mut().ok_or_else(lost)?.savepoint();
        Ok(Savepoints {
            storage,
            written: self.written.clone(),
        })
    }

    /// Goes back to a point.
    pub(crate) async fn back_to(&mut self, point: Savepoints) -> Result<()> {
        // What is taken back was seen to be possible: keys of rows that were inserted were not there.
        self.written.iter().for_each(|relation| self.has_read(*relation));
        self.written = point.written;
        self.blocking(move |writes| writes.rollback_to(&point.storage)).await
    }

    /// `SAVEPOINT name`.
    pub(crate) fn savepoint(&mut self, name: String) -> Result<()> {
        let point = self.mark()?;
        self.savepoints.push((name, point));
        Ok(())
    }

    /// `ROLLBACK TO name`: later savepoints go, this one stays.
    pub(crate) async fn rollback_to(&mut self, name: &str) -> Result<()> {
        let at = self.savepoint_index(name)?;
        self.savepoints.truncate(at + 1);
        let point = self.savepoints[at].1.clone();
        self.back_to(point).await
    }

    /// `RELEASE SAVEPOINT name`: it and later ones go, the writes stay.
    pub(crate) fn release(&mut self, name: &str) -> Result<()> {
        let at = self.savepoint_index(name)?;
        self.savepoints.truncate(at);
        Ok(())
    }

    fn savepoint_index(&self, name: &str) -> Result<usize> {
        self.savepoints
            .iter()
            .rposition(|(n, _)| n == name)
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "3B001", format!("savepoint {name} does not exist")))
    }

    /// Names the commit, and says how many rows a later try of it is to be told.
    pub(crate) fn name(&mut self, part: Option<Request>, rows: u64) {
        self.request = part.map(|part| Request { rows, ..part });
    }

    /// Makes the writes durable and visible; returns the commit timestamp, 0 when nothing was written.
    pub(crate) async fn commit_at(mut self, engine: &Engine) -> Result<u64> {
        let writes = self.writes.take().ok_or_else(lost)?;
        if writes.is_empty() {
            // Perhaps because an earlier try has left nothing to do.
            return match self.request {
                Some(part) if request::carried_out(engine, part.id).await?.is_some() => Err(request::repeated()),
                _ => Ok(0),
            };
        }
        let mut parts = if writes.stays_in_memory(0) && writes.memory_bytes() < SMALL_BYTES {
            writes.into_write_sets()?
        } else {
            tokio::task::spawn_blocking(move || writes.into_write_sets())
                .await
                .map_err(|e| Error::internal(format!("a write task failed: {e}")))??
        };
        if let Some(reads) = self.reads.filter(|_| !parts.is_empty()) {
            add_reads(&mut parts, &reads, &self.base);
        }
        commit_parts(engine, parts, self.request).await
    }

    /// Makes the writes durable and visible.
    pub(crate) async fn commit(self, engine: &Engine) -> Result<()> {
        self.commit_at(engine).await.map(|_| ())
    }

    /// Forgets the writes.
    pub(crate) async fn rollback(mut self) -> Result<()> {
        if let Some(writes) = self.writes.take() {
            // Staged files are removed: that is blocking work.
            tokio::task::spawn_blocking(move || drop(writes))
                .await
                .map_err(|e| Error::internal(format!("a write task failed: {e}")))?;
        }
        Ok(())
    }
}

/// Where a transaction of this isolation says what it reads.
fn recorded(engine: &Engine, isolation: Isolation) -> Option<Arc<Reads>> {
    (isolation == Isolation::Serializable).then(|| Reads::new(engine.placement))
}

/// Adds what was read to the parts of a transaction. Partitions that were only read take part in it, too.
fn add_reads(parts: &mut Vec<(PartitionId, WriteSet)>, reads: &Reads, base: &[Snapshot]) {
    for (number, reads) in reads.by_partition().into_iter().enumerate().filter(|(_, reads)| !reads.is_empty()) {
        let partition = PartitionId(number as u32);
        match parts.iter_mut().find(|(part, _)| *part == partition) {
            Some((_, write_set)) => write_set.reads = reads,
            None => parts.push((
                partition,
                WriteSet {
                    start: base[number].timestamp(),
                    relations: Vec::new(),
                    reads,
                },
            )),
        }
    }
}

/// Makes write sets durable and visible, one a partition, all or none; their commit timestamp.
pub(crate) async fn commit_parts(engine: &Engine, parts: Vec<(PartitionId, WriteSet)>, request: Option<Request>) -> Result<u64> {
    if parts.is_empty() {
        // All of it was taken back.
        return Ok(0);
    }
    match engine.node.carry_out(parts, request).await {
        Ok(Commit { repeated: Some(_), .. }) => Err(request::repeated()),
        Ok(commit) => Ok(commit.timestamp.0),
        Err(ConsensusError::Conflict(conflict)) => {
            let name = relation_name(engine, conflict.relation);
            Err(Error::new(
                ErrorKind::Conflict,
                "40001",
                format!("somebody else changed key {} of {name} meanwhile", conflict.key),
            )
            .with_hint("retry the transaction"))
        }
        Err(error) => Err(error.into()),
    }
}

/// The name of the collection a relation backs, for messages.
pub(crate) fn relation_name(engine: &Engine, relation: RelationId) -> String {
    let named = engine.catalog.snapshot().ok().and_then(|catalog| {
        catalog.objects().find_map(|entry| {
            let is_behind = entry.object.relations().iter().any(|behind| behind.id == relation);
            is_behind.then(|| entry.name.to_string())
        })
    });
    named.unwrap_or_else(|| relation.to_string())
}

/// Whether a write of these rows is done sooner than it would be handed to another thread.
fn is_small(writes: &Writes, rows: &RecordBatch) -> bool {
    let bytes = rows.get_array_memory_size() as u64;
    rows.num_rows() <= SMALL_ROWS && bytes < SMALL_BYTES && writes.stays_in_memory(bytes)
}

fn lost() -> Error {
    Error::internal("the transaction was lost in a failed task; roll it back")
}
