//! How DataFusion reads relations.
//!
//! ```text
//! RelationTable (TableProvider)                 one relation at one snapshot: views, visible columns, statistics
//!   └ scan ─▶ DataSourceExec ─▶ RelationSource  projection, predicate, limit, and a Layout of the work
//!                └ open ─▶ UnitStream           segment batches: prune, read, filter, coalesce, limit
//!                        ▶ MergeStream          one key-ordered merge of overlapping pieces
//!                        ▶ PointStream          rows of listed keys, by bloom filter and key index
//! ```
//!
//! **Pruning.** Zone maps drop batches when the plan is made (static filters) and again while it runs, whenever a dynamic filter (of a
//! TopK or a hash join) has changed. Zones describe rows before masking, so they are supersets of what is visible: safe.
//!
//! **Filters.** A static filter is absorbed exactly: its columns are read first and the others only for batches with a row that passes.
//! A dynamic filter is only an offer (its operator checks again): a scan that sees it pass nearly everything stops evaluating it a row.
//!
//! **Order.** Where sorted pieces of a view do not overlap, every partition of the plan is a contiguous run of keys and declares the key's
//! order. Otherwise partitions take units of work from one shared queue and declare nothing, until a pushed-down sort asks for a merge.
//! The partitioning is always reported as unknown: ours is not DataFusion's hash.
//!
//! **Page faults.** Reading a batch touches no column data: columns are views of the memory map, and the fault would hit whichever operator
//! looks first, on an async worker. So a stream hands batches out only when their columns are resident as far as this process knows
//! ([`residency`]); for others a blocking task walks ahead of the stream, touches one byte a page, and wakes it. Once a column of a batch
//! has been walked, later scans pay one bit test a batch, and no thread or channel stands between the map and the operators. (A blocking
//! producer with a channel would cost two wake-ups a batch, warm or cold.) The kernel may evict pages later; such a fault blocks its worker
//! for one disk read.

mod columns;
mod filter;
mod groups;
mod keys;
mod layout;
mod merge;
mod metrics;
mod output;
mod partitions;
mod point;
mod predicate;
mod pruning;
mod residency;
mod sample;
mod shape;
mod sort;
mod source;
mod statistics;
mod table;
mod units;
mod work;

#[cfg(test)]
mod tests;

pub(crate) use groups::{GroupsInPartitions, address, over};
pub(crate) use partitions::{Part, PartitionScan, PartitionScanSpec, altered};
pub(crate) use predicate::Predicate;
pub use source::RelationSource;
pub use table::RelationTable;

use datafusion::error::DataFusionError;
use pyralog_storage::StorageError;

/// A storage error as DataFusion carries it; `Error::from` finds it again by downcast.
fn external(error: StorageError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
