//! A second copy of a partition.

use std::sync::Arc;

use pyralog_storage::{AppliedState, ApplyOutcome, Partition, PartitionCommand, PartitionId, WriteSet};
use tempfile::TempDir;

use crate::harness::{Rows, Store, TABLE, read, small_options};

/// Another copy, which applies the same log but flushes and compacts at its own times, and knows nothing of open transactions.
pub struct Replica {
    dir: TempDir,
    pub partition: Arc<Partition>,
    rng: u64,
}

impl Replica {
    pub fn bare() -> Self {
        let dir = TempDir::new().unwrap();
        let partition = Partition::open(PartitionId(0), dir.path(), small_options()).unwrap();
        Replica { dir, partition, rng: 1 }
    }

    pub fn new() -> Self {
        let replica = Replica::bare();
        replica.apply(
            0,
            &PartitionCommand::CreateRelation(crate::harness::schema()),
            &Ok(ApplyOutcome::Applied),
        );
        replica
    }

    pub fn apply(&self, index: usize, command: &PartitionCommand, wanted: &Result<ApplyOutcome, String>) {
        let state = AppliedState {
            index: index as u64 + 1,
            ..AppliedState::default()
        };
        let outcome = self.partition.apply(state, command).map_err(|error| error.to_string());
        assert_eq!(&outcome, wanted, "the replica answers otherwise");
    }

    /// Gets the staged files of a write set, as consensus ships them before it proposes.
    pub fn receive(&self, store: &Store, set: &WriteSet) {
        for staged in set.relations.iter().flat_map(|writes| &writes.staged) {
            for (from, to) in store
                .partition
                .segment_files(None, staged.segment)
                .iter()
                .zip(self.partition.segment_files(None, staged.segment))
            {
                std::fs::copy(from, to).unwrap();
            }
        }
    }

    /// Does something of its own.
    pub fn rest(&mut self) {
        self.rng = self
            .rng
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        match (self.rng >> 33) % 4 {
            0 => drop(self.partition.flush().unwrap()),
            1 => self.partition.compact_all(None).unwrap(),
            _ => {}
        }
    }

    pub fn read(&self) -> Rows {
        assert!(self.dir.path().exists());
        read(&self.partition.snapshot(None).unwrap().relation(TABLE).unwrap())
    }
}
