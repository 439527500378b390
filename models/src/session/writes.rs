//! A transaction's private writes over a snapshot of each partition. A row goes to the partition in which its key belongs.

use datafusion::arrow::array::RecordBatch;
use pyralog_storage::{
    ConflictPolicy, PartitionId, Placement, RelationId, RelationSchema, RelationView, Savepoint, SortedRun, StorageError, Transaction,
    WriteSet,
};

type Result<T> = std::result::Result<T, StorageError>;

/// Writes of one transaction, by partition.
pub(crate) struct Writes {
    parts: Vec<Transaction>,
    placement: Placement,
}

/// New rows of one relation in key order, on their way into a transaction; see [`Transaction::sorted_run`].
pub(crate) struct SortedRuns {
    /// One a partition.
    runs: Vec<SortedRun>,
    schema: RelationSchema,
    placement: Placement,
}

impl Writes {
    /// None yet. One transaction for each partition, by number.
    pub(crate) fn new(parts: Vec<Transaction>, placement: Placement) -> Writes {
        Writes { parts, placement }
    }

    fn schema(&self, relation: RelationId) -> Result<RelationSchema> {
        match self.parts.first() {
            Some(first) => Ok((**first.snapshot().relation(relation)?.schema()).clone()),
            None => Err(StorageError::UnknownRelation(relation)),
        }
    }

    fn part(&mut self, home: PartitionId) -> Result<&mut Transaction> {
        let detail = || StorageError::SchemaMismatch {
            relation: RelationId(0),
            detail: format!("there is no partition {home}"),
        };
        self.parts.get_mut(home.0 as usize).ok_or_else(detail)
    }

    /// Does something with whole rows in the partitions where they belong.
    fn with_rows(
        &mut self,
        relation: RelationId,
        rows: &RecordBatch,
        mut work: impl FnMut(&mut Transaction, &RecordBatch) -> Result<()>,
    ) -> Result<()> {
        if let [only] = self.parts.as_mut_slice() {
            return work(only, rows);
        }
        for (home, rows) in self.placement.split_rows(&self.schema(relation)?, rows)? {
            work(self.part(home)?, &rows)?;
        }
        Ok(())
    }

    /// Adds rows with new keys.
    pub(crate) fn insert(&mut self, relation: RelationId, rows: &RecordBatch) -> Result<()> {
        self.with_rows(relation, rows, |part, rows| part.insert(relation, rows))
    }

    /// Adds or replaces rows.
    pub(crate) fn put(&mut self, relation: RelationId, rows: &RecordBatch) -> Result<()> {
        self.with_rows(relation, rows, |part, rows| part.put(relation, rows))
    }

    /// Removes rows by key; how many there were.
    pub(crate) fn delete(&mut self, relation: RelationId, keys: &RecordBatch) -> Result<u64> {
        if let [only] = self.parts.as_mut_slice() {
            return only.delete(relation, keys);
        }
        let mut gone = 0;
        for (home, keys) in self.placement.split_keys(&self.schema(relation)?, keys)? {
            gone += self.part(home)?.delete(relation, &keys)?;
        }
        Ok(gone)
    }

    /// Removes all rows; how many there were.
    pub(crate) fn empty(&mut self, relation: RelationId) -> Result<u64> {
        self.parts.iter_mut().map(|part| part.empty(relation)).sum()
    }

    /// The relation as the transaction sees it now, a view a partition.
    pub(crate) fn views(&self, relation: RelationId) -> Result<Vec<RelationView>> {
        self.parts.iter().map(|part| part.view(relation)).collect()
    }

    /// What happens on concurrent change of a relation's keys.
    pub(crate) fn set_policy(&mut self, relation: RelationId, policy: ConflictPolicy) {
        self.parts.iter_mut().for_each(|part| part.set_policy(relation, policy));
    }

    /// Marks a point to go back to.
    pub(crate) fn savepoint(&mut self) -> Vec<Savepoint> {
        self.parts.iter_mut().map(Transaction::savepoint).collect()
    }

    /// Undoes every write after the point.
    pub(crate) fn rollback_to(&mut self, savepoint: &[Savepoint]) -> Result<()> {
        let mut parts = self.parts.iter_mut().zip(savepoint);
        parts.try_for_each(|(part, savepoint)| part.rollback_to(*savepoint))
    }

    /// Whether nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.iter().all(Transaction::is_empty)
    }

    /// Bytes held in memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.parts.iter().map(Transaction::memory_bytes).sum()
    }

    /// Whether nothing but memory is touched when this many more bytes are written, and when it finishes after that.
    pub(crate) fn stays_in_memory(&self, more: u64) -> bool {
        self.parts.iter().all(|part| part.stays_in_memory(more))
    }

    /// Begins a run of new rows of a relation.
    pub(crate) fn sorted_run(&self, relation: RelationId) -> Result<SortedRuns> {
        Ok(SortedRuns {
            runs: self.parts.iter().map(|part| part.sorted_run(relation)).collect::<Result<_>>()?,
            schema: self.schema(relation)?,
            placement: self.placement,
        })
    }

    /// Makes the rows of runs the transaction's; how many they are.
    pub(crate) fn add_runs(&mut self, runs: Vec<SortedRuns>) -> Result<u64> {
        let mut by_part: Vec<Vec<SortedRun>> = self.parts.iter().map(|_| Vec::new()).collect();
        for runs in runs {
            for (of_part, run) in by_part.iter_mut().zip(runs.runs) {
                of_part.push(run);
            }
        }
        self.parts.iter_mut().zip(by_part).map(|(part, runs)| part.add_runs(runs)).sum()
    }

    /// Finishes: what is to be committed in each partition where anything was written.
    pub(crate) fn into_write_sets(self) -> Result<Vec<(PartitionId, WriteSet)>> {
        let mut write_sets = Vec::new();
        for (number, part) in self.parts.into_iter().enumerate() {
            if !part.is_empty() {
                write_sets.push((PartitionId(number as u32), part.into_write_set()?));
            }
        }
        write_sets.retain(|(_, write_set)| !write_set.relations.is_empty());
        Ok(write_sets)
    }
}

impl SortedRuns {
    /// Adds rows, whose keys are above all before them.
    pub(crate) fn append(&mut self, rows: &RecordBatch) -> Result<()> {
        if let [only] = self.runs.as_mut_slice() {
            return only.append(rows);
        }
        for (home, rows) in self.placement.split_rows(&self.schema, rows)? {
            if let Some(run) = self.runs.get_mut(home.0 as usize) {
                run.append(&rows)?;
            }
        }
        Ok(())
    }

    /// Ends the segments that are being written.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.runs.iter_mut().try_for_each(SortedRun::finish_segment)
    }
}
