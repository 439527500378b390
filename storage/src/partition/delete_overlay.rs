//! The deleted rows of an open segment: what is on disk, and what was deleted since.
//!
//! Applies add to `recent`. A flush seals `recent` into `sealed` at the moment at which it takes its applied position, folds that into the
//! next delete file, and clears it when the manifest that names the file is stored. So a delete file never knows of a log entry behind the
//! manifest's applied position, and replay finds each key as the first run did.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;

use crate::deletes::{DeleteFile, DeleteVector, GROUP_ROWS};
use crate::ids::Timestamp;

/// Bytes a single deletion costs in memory, estimated.
const SINGLE_BYTES: u64 = 32;

/// Deletions that are not on disk.
#[derive(Debug, Default, Clone)]
pub(crate) struct DeleteLog {
    singles: HashMap<u32, u64>,
    groups: Vec<(u64, RoaringBitmap)>,
    bytes: u64,
}

impl DeleteLog {
    /// Adds rows deleted at `stamp`.
    pub fn add(&mut self, rows: &RoaringBitmap, stamp: u64) {
        if rows.len() >= GROUP_ROWS {
            self.bytes += rows.serialized_size() as u64;
            self.groups.push((stamp, rows.clone()));
        } else {
            self.bytes += rows.len() * SINGLE_BYTES;
            self.singles.extend(rows.iter().map(|row| (row, stamp)));
        }
    }

    fn get(&self, row: u32) -> Option<u64> {
        let group = || self.groups.iter().find(|(_, rows)| rows.contains(row)).map(|(stamp, _)| *stamp);
        self.singles.get(&row).copied().or_else(group)
    }

    fn is_empty(&self) -> bool {
        self.singles.is_empty() && self.groups.is_empty()
    }

    /// Adds the rows deleted at or before `at` to `mask`.
    fn mask(&self, at: u64, mask: &mut RoaringBitmap) {
        mask.extend(self.singles.iter().filter(|(_, stamp)| **stamp <= at).map(|(row, _)| *row));
        for (_, rows) in self.groups.iter().filter(|(stamp, _)| *stamp <= at) {
            *mask |= rows;
        }
    }

    /// A vector with these deletions.
    fn folded_into(&self, vector: &DeleteVector, horizon: Timestamp) -> DeleteVector {
        let singles: Vec<_> = self.singles.iter().map(|(row, stamp)| (*row, Timestamp(*stamp))).collect();
        let groups: Vec<_> = self.groups.iter().map(|(stamp, rows)| (Timestamp(*stamp), rows.clone())).collect();
        vector.with_groups(&singles, &groups, horizon)
    }

    /// The same deletions at other positions, in one of so many places each; rows that `map` does not know are left out.
    pub fn remap(&self, places: usize, map: impl Fn(u32) -> Option<(usize, u32)>) -> Vec<DeleteLog> {
        let mut logs = vec![DeleteLog::default(); places];
        for (row, stamp) in &self.singles {
            if let Some((place, row)) = map(*row) {
                logs[place].singles.insert(row, *stamp);
                logs[place].bytes += SINGLE_BYTES;
            }
        }
        for (stamp, rows) in &self.groups {
            let mut moved = vec![RoaringBitmap::new(); places];
            for (place, row) in rows.iter().filter_map(&map) {
                moved[place].insert(row);
            }
            for (log, rows) in logs.iter_mut().zip(moved).filter(|(_, rows)| !rows.is_empty()) {
                log.bytes += rows.serialized_size() as u64;
                log.groups.push((*stamp, rows));
            }
        }
        logs
    }

    /// Takes over the deletions of `other`.
    pub fn merge(&mut self, other: DeleteLog) {
        self.bytes += other.bytes;
        self.singles.extend(other.singles);
        self.groups.extend(other.groups.into_iter().filter(|(_, rows)| !rows.is_empty()));
    }
}

#[derive(Debug)]
struct State {
    persisted: Arc<DeleteVector>,
    file: Option<DeleteFile>,
    sealed: DeleteLog,
    recent: DeleteLog,
    all: Arc<RoaringBitmap>,
    newest: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct DeleteOverlay {
    state: RwLock<State>,
    /// The last mask of an older timestamp: (timestamp, deleted rows then known, mask).
    cached: Mutex<Option<(u64, u64, Arc<RoaringBitmap>)>>,
}

impl DeleteOverlay {
    /// What was read from disk.
    pub fn new(persisted: Arc<DeleteVector>, file: Option<DeleteFile>) -> Self {
        let mut overlay = DeleteOverlay {
            state: RwLock::new(State {
                persisted: Arc::new(DeleteVector::empty()),
                file: None,
                sealed: DeleteLog::default(),
                recent: DeleteLog::default(),
                all: Arc::default(),
                newest: 0,
            }),
            cached: Mutex::new(None),
        };
        let state = overlay.state.get_mut();
        state.newest = persisted.max_timestamp().0;
        state.all = persisted.mask_at(Timestamp::MAX);
        (state.persisted, state.file) = (persisted, file);
        overlay
    }

    /// Records rows deleted at `stamp`.
    pub fn add(&self, rows: &RoaringBitmap, stamp: u64) {
        let mut state = self.state.write();
        state.recent.add(rows, stamp);
        *Arc::make_mut(&mut state.all) |= rows;
        state.newest = state.newest.max(stamp);
    }

    /// Takes over deletions from elsewhere, recent and sealed ones.
    pub fn adopt(&self, sealed: DeleteLog, recent: DeleteLog) {
        let mut state = self.state.write();
        let state = &mut *state;
        for log in [&sealed, &recent] {
            log.mask(u64::MAX, Arc::make_mut(&mut state.all));
            let newest = log
                .singles
                .values()
                .copied()
                .chain(log.groups.iter().map(|(stamp, _)| *stamp))
                .max();
            state.newest = state.newest.max(newest.unwrap_or(0));
        }
        state.sealed.merge(sealed);
        state.recent.merge(recent);
    }

    /// Copies of the sealed and recent deletions.
    pub fn logs(&self) -> (DeleteLog, DeleteLog) {
        let state = self.state.read();
        (state.sealed.clone(), state.recent.clone())
    }

    /// When a row was deleted.
    pub fn deleted_at(&self, row: u32) -> Option<u64> {
        let state = self.state.read();
        if !state.all.contains(row) {
            return None;
        }
        let persisted = || state.persisted.deleted_at(row).map(|ts| ts.0);
        state.recent.get(row).or_else(|| state.sealed.get(row)).or_else(persisted)
    }

    /// Rows deleted at or before `at`.
    pub fn mask_at(&self, at: u64) -> Arc<RoaringBitmap> {
        let state = self.state.read();
        if at >= state.newest {
            return state.all.clone();
        }
        let known = state.all.len();
        if let Some((_, _, mask)) = self.cached.lock().as_ref().filter(|(t, n, _)| (*t, *n) == (at, known)) {
            return mask.clone();
        }
        let mut mask = state.persisted.mask_at(Timestamp(at));
        if !state.sealed.is_empty() || !state.recent.is_empty() {
            let own = Arc::make_mut(&mut mask);
            state.sealed.mask(at, own);
            state.recent.mask(at, own);
        }
        *self.cached.lock() = Some((at, known, mask.clone()));
        mask
    }

    /// Bytes of deletions that are not on disk.
    pub fn unflushed_bytes(&self) -> u64 {
        let state = self.state.read();
        state.sealed.bytes + state.recent.bytes
    }

    /// What is on disk.
    pub fn persisted(&self) -> (Arc<DeleteVector>, Option<DeleteFile>) {
        let state = self.state.read();
        (state.persisted.clone(), state.file.clone())
    }

    /// Begins a flush: what was recent is sealed.
    pub fn seal(&self) {
        let mut state = self.state.write();
        let recent = std::mem::take(&mut state.recent);
        state.sealed.merge(recent);
    }

    /// The persisted vector with the sealed deletions; `None` when there are none.
    pub fn fold(&self, horizon: Timestamp) -> Option<DeleteVector> {
        let state = self.state.read();
        (!state.sealed.is_empty()).then(|| state.sealed.folded_into(&state.persisted, horizon))
    }

    /// Ends a flush: the sealed deletions are in `vector` now; gives back the file before it.
    pub fn published(&self, vector: DeleteVector, file: DeleteFile) -> Option<DeleteFile> {
        let mut state = self.state.write();
        state.sealed = DeleteLog::default();
        state.persisted = Arc::new(vector);
        state.file.replace(file)
    }
}
