//! Compaction: merging segments, so that reads open few files, and rows that nobody can see go.
//!
//! Where a row lies does not matter for what is visible (there are no tombstones, and deletes are by position), so any set of segments may
//! be merged. Levels bound how often a row is rewritten: level 0 takes what flushes and overlapping bulk writes bring; deeper levels
//! do not overlap within themselves, and each is ten times as large as the one above.

mod job;
mod pick;

use std::sync::Arc;

use crate::error::Result;
use crate::ids::RelationId;
use crate::partition::{LiveSegment, Partition};

/// Bulk-written segments that overlap nothing go here at once.
pub(crate) const DEEPEST_LEVEL: u8 = 6;

/// Segments of one relation to be replaced by their merged rows.
#[derive(Debug)]
pub(crate) struct Task {
    pub relation: RelationId,
    pub inputs: Vec<Arc<LiveSegment>>,
    /// Where the merged rows go.
    pub level: u8,
    /// Only the level changes.
    pub move_only: bool,
}

impl Partition {
    /// Does one step of compaction if one is due; `false` when there was nothing to do. Long, blocking. Runs beside everything else.
    ///
    /// A failure that leaves the inputs as they were (say, a full disk while outputs are written) is only reported; one while the manifest
    /// is stored stops the partition.
    pub fn compact_step(&self) -> Result<bool> {
        let _compacting = self.lock_compaction();
        let horizon = self.forgettable(true);
        let Some(task) = pick::most_urgent(self, horizon) else {
            return Ok(false);
        };
        job::run(self, task, horizon)?;
        self.count_compaction();
        Ok(true)
    }

    /// Compacts one relation (or all) down to fully merged segments without masked rows.
    ///
    /// Flushes first. Rows that a reader still needs stay, and of a deleted key one masked row until the conflict floor has passed its
    /// deletion (see [`crate::PartitionCommand::AdvanceConflictFloor`]).
    pub fn compact_all(&self, relation: Option<RelationId>) -> Result<()> {
        self.flush()?;
        let _compacting = self.lock_compaction();
        let horizon = self.forgettable(false);
        for task in pick::everything(self, relation, horizon)? {
            job::run(self, task, horizon)?;
            self.count_compaction();
        }
        Ok(())
    }
}
