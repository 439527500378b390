//! A transaction's writes as a view over a snapshot sees them: stable, whatever the transaction does next.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::memtable::Memtable;
use crate::segment::Segment;

/// A staged segment and its rows that do not count.
#[derive(Debug, Clone)]
pub(crate) struct OwnSegment {
    pub segment: Arc<Segment>,
    pub mask: Arc<RoaringBitmap>,
}

/// One relation's private writes up to a statement.
#[derive(Debug, Clone)]
pub(crate) struct OwnWrites {
    /// The statement number up to which the memtable is visible.
    pub at: u64,
    /// Rows of the snapshot's pieces that are deleted or replaced.
    pub hidden: HashMap<u32, Arc<RoaringBitmap>>,
    /// Rows that were written to disk, oldest first.
    pub staged: Vec<OwnSegment>,
    /// Rows in memory.
    pub memtable: Arc<Memtable>,
}
