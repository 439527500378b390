//! One relation's private writes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_row::Rows;

use super::row_mask::RowMask;
use super::staging::Staged;
use crate::error::{Result, StorageError};
use crate::memtable::{ALIVE, Memtable};
use crate::partition::key_columns;
use crate::projection::conform;
use crate::snapshot::{OwnWrites, RelationView, RowAddress};

/// Bytes a hidden row costs beside its key, estimated.
const HIDDEN_BYTES: u64 = 16;

/// The statement in which something is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statement {
    /// Its number.
    pub stamp: u64,
    /// The newest point to which one can go back.
    pub savepoint: Option<u64>,
}

/// Writes over a view of the snapshot.
pub(super) struct Buffer {
    pub base: RelationView,
    pub memtable: Arc<Memtable>,
    pub staged: Vec<Staged>,
    /// Rows of the snapshot that are deleted or replaced, by piece.
    pub hidden: BTreeMap<u32, RowMask>,
    /// Those of them that were deleted when they were hidden.
    pub deleted: BTreeMap<u32, RowMask>,
    /// Whether a private row was ever deleted, so that a replaced row of the snapshot may be a deleted one.
    pub deleted_own: bool,
    /// Bytes of `hidden` with its keys, estimated; not lowered by going back.
    pub hidden_bytes: u64,
    /// Bytes of the memtable that cannot be staged: older versions that a savepoint needs.
    pub retained_bytes: u64,
    /// The statement in which all rows of the snapshot were removed.
    pub emptied: Option<u64>,
}

impl Buffer {
    pub fn new(base: RelationView, batch_rows: usize) -> Self {
        Buffer {
            base,
            memtable: Arc::new(Memtable::new(batch_rows)),
            staged: Vec::new(),
            hidden: BTreeMap::new(),
            deleted: BTreeMap::new(),
            deleted_own: false,
            hidden_bytes: 0,
            retained_bytes: 0,
            emptied: None,
        }
    }

    /// The relation with these writes.
    pub fn view(&self, at: u64) -> RelationView {
        if self.memtable.is_empty() && self.staged.is_empty() && self.hidden.is_empty() {
            return self.base.clone();
        }
        self.base.with_own(OwnWrites {
            at,
            hidden: self.hidden.iter().map(|(piece, mask)| (*piece, mask.rows().clone())).collect(),
            staged: self.staged.iter().map(Staged::own).collect(),
            memtable: self.memtable.clone(),
        })
    }

    fn encode(&self, rows: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> = self.base.schema().key.iter().map(|&i| rows.column(i).clone()).collect();
        self.base.encoder().encode(&columns)
    }

    /// Whether a key range is above every key here and in the snapshot, so that nothing need be looked up.
    fn is_below(&self, first: &[u8]) -> bool {
        self.base.base_is_below(first)
            && self.memtable.is_below(first)
            && self.staged.iter().all(|staged| staged.info().last_key.as_slice() < first)
    }

    pub fn insert(&mut self, rows: &RecordBatch, statement: Statement) -> Result<()> {
        let rows = conform(rows, self.base.schema())?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let keys = self.encode(&rows)?;
        let ascending = (1..keys.num_rows()).all(|i| keys.row(i - 1) < keys.row(i));
        if !(ascending && self.is_below(keys.row(0).data())) {
            self.check_new(&keys, ascending)?;
        }
        self.memtable.append(self.base.schema(), &rows, keys, statement.stamp)
    }

    /// Refuses keys that are visible or occur twice.
    fn check_new(&self, keys: &Rows, ascending: bool) -> Result<()> {
        let duplicate = |key: &[u8]| StorageError::DuplicateKey {
            relation: self.base.schema().id,
            key: self.base.encoder().display(key),
        };
        if !ascending {
            let mut seen = HashSet::with_capacity(keys.num_rows());
            if let Some(key) = keys.iter().find(|key| !seen.insert(key.data())) {
                return Err(duplicate(key.data()));
            }
        }
        let (Some(first), Some(last)) = (keys.iter().min(), keys.iter().max()) else {
            return Ok(());
        };
        let avoids_base = self.base.base_avoids(first.data(), last.data());
        for key in keys {
            let key = key.data();
            if self.own_row(key)?.is_some() || (!avoids_base && self.base_row(key)?.is_some()) {
                return Err(duplicate(key));
            }
        }
        Ok(())
    }

    pub fn put(&mut self, rows: &RecordBatch, statement: Statement) -> Result<()> {
        let rows = conform(rows, self.base.schema())?;
        let keys = self.encode(&rows)?;
        let (Some(first), Some(last)) = (keys.iter().min(), keys.iter().max()) else {
            return Ok(());
        };
        if !self.is_below(first.data()) {
            let avoids_base = self.base.base_avoids(first.data(), last.data());
            for key in &keys {
                match self.own_row(key.data())? {
                    // The memtable ends its own row when the new one comes.
                    Some(OwnRow::Memory(_)) => {}
                    Some(OwnRow::Staged(i, row)) => {
                        self.staged[i].mask.hide(row, statement.stamp, statement.savepoint);
                    }
                    None if avoids_base => {}
                    None => {
                        if let Some(address) = self.base_row(key.data())? {
                            self.hide(address, key.data(), statement);
                        }
                    }
                }
            }
        }
        self.memtable.append(self.base.schema(), &rows, keys, statement.stamp)
    }

    pub fn delete(&mut self, keys: &RecordBatch, statement: Statement) -> Result<u64> {
        let keys = self.base.encoder().encode(&key_columns(keys, self.base.schema())?)?;
        let mut count = 0;
        for key in &keys {
            let key = key.data();
            match self.own_row(key)? {
                Some(OwnRow::Memory(ordinal)) => {
                    self.memtable.end(ordinal, statement.stamp);
                    self.deleted_own = true;
                }
                Some(OwnRow::Staged(i, row)) => {
                    self.staged[i].mask.hide(row, statement.stamp, statement.savepoint);
                    self.deleted_own = true;
                }
                None => {
                    let Some(address) = self.base_row(key)? else { continue };
                    self.hide(address, key, statement);
                    let deleted = self.deleted.entry(address.piece).or_default();
                    deleted.hide(address.row, statement.stamp, statement.savepoint);
                }
            }
            count += 1;
        }
        Ok(count)
    }

    /// Removes all rows; how many were visible.
    pub fn empty(&mut self, statement: Statement) -> Result<u64> {
        let Statement { stamp, savepoint } = statement;
        let count = self.view(stamp).row_count();
        let mut live = Vec::new();
        self.memtable.for_each_version(|_, version, _| {
            if version.end == ALIVE {
                live.push(version.ordinal);
            }
        });
        self.deleted_own |= !live.is_empty() || !self.staged.is_empty();
        live.into_iter().for_each(|ordinal| self.memtable.end(ordinal, stamp));
        for staged in &mut self.staged {
            let rows = staged.info().rows;
            staged.mask.hide_first(rows, stamp, savepoint);
        }
        for (i, piece) in (0_u32..).zip(self.base.pieces()) {
            let rows = (0..piece.batch_count()).map(|batch| piece.batch_rows(batch) as u64).sum();
            // A bitmap of all rows is a few bytes a run of 65,536 of them: it is not counted as memory.
            self.hidden.entry(i).or_default().hide_first(rows, stamp, savepoint);
        }
        self.emptied.get_or_insert(stamp);
        Ok(count)
    }

    fn hide(&mut self, address: RowAddress, key: &[u8], statement: Statement) {
        if self
            .hidden
            .entry(address.piece)
            .or_default()
            .hide(address.row, statement.stamp, statement.savepoint)
        {
            self.hidden_bytes += key.len() as u64 + HIDDEN_BYTES;
        }
    }

    /// The live private row of a key.
    pub fn own_row(&self, key: &[u8]) -> Result<Option<OwnRow>> {
        if let Some(newest) = self.memtable.newest(key).filter(|newest| newest.end == ALIVE) {
            return Ok(Some(OwnRow::Memory(newest.ordinal)));
        }
        for (i, staged) in self.staged.iter().enumerate().rev() {
            if let Some(row) = staged.find(key, self.base.encoder())? {
                return Ok(Some(OwnRow::Staged(i, row)));
            }
        }
        Ok(None)
    }

    /// The row of the snapshot with a key, unless it is hidden.
    fn base_row(&self, key: &[u8]) -> Result<Option<RowAddress>> {
        let hidden = |address: &RowAddress| self.hidden.get(&address.piece).is_some_and(|mask| mask.contains(address.row));
        Ok(self.base.find(key)?.filter(|address| !hidden(address)))
    }

    /// Bytes of rows that can be staged.
    pub fn stageable_bytes(&self) -> u64 {
        self.memtable.bytes().saturating_sub(self.retained_bytes)
    }

    /// Bytes held in memory.
    pub fn bytes(&self) -> u64 {
        self.memtable.bytes() + self.hidden_bytes + self.staged.iter().map(Staged::memory_bytes).sum::<u64>()
    }

    /// Whether nothing was written, or all of it taken back.
    pub fn is_empty(&self) -> bool {
        let live = |memtable: &Memtable| {
            memtable
                .chunks()
                .iter()
                .any(|chunk| (0..chunk.len()).any(|i| chunk.end(i) == ALIVE))
        };
        self.emptied.is_none() && self.staged.is_empty() && self.hidden.values().all(|mask| mask.rows().is_empty()) && !live(&self.memtable)
    }
}

/// Where a live private row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnRow {
    /// In the memtable, by ordinal.
    Memory(u32),
    /// In a staged segment, by position and row.
    Staged(usize, u32),
}
