//! Hidden row ids: the key of tables that declare none. They grow, so that new rows go to the end of the relation.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use pyralog_storage::RelationId;
use tokio::sync::Mutex;

use crate::catalog::Catalog;
use crate::error::Result;

/// Ids that are reserved at once: one meta change each. What is left at a stop is never used.
const BLOCK: u64 = 1 << 20;

/// Gives out row ids. A block a relation is reserved in the meta group, so that no id is given twice, on no node, after no crash.
pub(crate) struct RowIds {
    catalog: Catalog,
    reserved: Mutex<HashMap<RelationId, Arc<Mutex<Range<u64>>>>>,
}

impl RowIds {
    pub(crate) fn new(catalog: Catalog) -> RowIds {
        RowIds {
            catalog,
            reserved: Mutex::new(HashMap::new()),
        }
    }

    /// `count` ids in a row: the first one.
    pub(crate) async fn take(&self, relation: RelationId, count: u64) -> Result<u64> {
        let block = Arc::clone(self.reserved.lock().await.entry(relation).or_default());
        let mut range = block.lock().await;
        if range.end - range.start < count {
            let size = BLOCK.max(count);
            let first = self.catalog.allocate_rows(relation, size).await?;
            *range = first..first + size;
        }
        let first = range.start;
        range.start += count;
        Ok(first)
    }
}
