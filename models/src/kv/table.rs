//! Buckets in SQL: `(key, value, expires_at, version)`, without what has expired.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, TimestampMillisecondType};
use datafusion::datasource::{TableProvider, ViewTable, provider_as_source};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::{col, lit};
use datafusion::scalar::ScalarValue;

use super::{EXPIRES_AT, KEY, VALUE, VERSION};
use crate::catalog::TableDefinition;
use crate::error::Result;
use crate::scan::RelationTable;
use crate::session::{OpenTransaction, Reader};

/// The bucket as a table: a filter and a projection over its relation, which the optimizer sees through.
pub(crate) fn bucket_source(table: &TableDefinition, reader: &Reader, now_ms: u64) -> Result<Arc<dyn TableProvider>> {
    let (views, reads) = reader.recorded(table.relation.id)?;
    let columns = vec![0, 1, 2, table.relation.timestamp_column()];
    let relation: Arc<dyn TableProvider> = Arc::new(RelationTable::try_new(table.name.to_string(), views, columns)?.recorded(reads));
    let now = ScalarValue::TimestampMillisecond(i64::try_from(now_ms).ok(), Some("UTC".into()));
    let plan = LogicalPlanBuilder::scan(table.name.name.clone(), provider_as_source(relation), None)?
        .filter(col(EXPIRES_AT).is_null().or(col(EXPIRES_AT).gt(lit(now))))?
        .project(vec![
            col(KEY),
            col(VALUE),
            col(EXPIRES_AT),
            // A transaction's own rows have no version before its commit.
            datafusion::logical_expr::try_cast(col("_ts"), DataType::Int64).alias(VERSION),
        ])?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// Deletes the expired entries among the rows that are about to be inserted: to a writer they are not there.
pub(crate) async fn delete_expired(
    transaction: &mut OpenTransaction,
    table: &TableDefinition,
    rows: &RecordBatch,
    now_ms: u64,
) -> Result<()> {
    let views = transaction.views(table.relation.id)?;
    let keys: Vec<ArrayRef> = vec![Arc::clone(rows.column(0))];
    let existing: Vec<_> = views.lookup(&keys)?.into_iter().flatten().collect();
    if existing.is_empty() {
        return Ok(());
    }
    let batch = views.fetch(&existing, &[0, 2])?;
    let expires = batch.column(1).as_primitive::<TimestampMillisecondType>();
    let gone: BooleanArray = expires
        .iter()
        .map(|at| Some(at.is_some_and(|at| u64::try_from(at).unwrap_or(0) <= now_ms)))
        .collect();
    let expired = filter_record_batch(&batch, &gone)?;
    if expired.num_rows() > 0 {
        let keys = RecordBatch::try_new(table.relation.key_schema(), vec![Arc::clone(expired.column(0))])?;
        transaction.delete(table.relation.id, keys).await?;
    }
    Ok(())
}
