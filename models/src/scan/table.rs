//! A relation at one snapshot as a DataFusion table.

use datafusion::error::Result;
use pyralog_storage::RelationView;

/// A relation at one snapshot, as DataFusion reads it: one [`RelationView`] for each partition of the database.
#[derive(Clone)]
pub struct RelationTable {}

impl RelationTable {
    /// A table named `name` (for EXPLAIN) over `views`, one a partition (at least one; all of one relation and schema version), with the
    /// columns at these positions of the relation's schema, in this order. `RelationSchema::timestamp_column()` stands for `_ts`; hidden
    /// columns are those that are not listed. Declares the primary key as a constraint when all key columns are listed.
    pub fn try_new(_name: impl Into<String>, _views: Vec<RelationView>, _columns: Vec<usize>) -> Result<RelationTable> {
        todo!()
    }

    /// As [`Self::try_new`] with every column of the relation and without `_ts`.
    pub fn with_all_columns(_name: impl Into<String>, _views: Vec<RelationView>) -> Result<RelationTable> {
        todo!()
    }
}
