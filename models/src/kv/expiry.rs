//! Frees the space of expired entries: a task that now and then deletes them as any other rows.

use std::sync::{Arc, Weak};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::{col, lit};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;

use super::{EXPIRES_AT, KEY};
use crate::catalog::{CollectionKind, Object, TableDefinition};
use crate::engine::Engine;
use crate::error::{ErrorKind, Result};
use crate::scan::RelationTable;
use crate::session::{Isolation, OpenTransaction, run_plan};

/// Pause between two rounds.
const INTERVAL: Duration = Duration::from_secs(10);
/// Entries deleted in one transaction.
const CHUNK: usize = 8192;

/// Runs until the database is gone.
pub(crate) async fn run_expiry(engine: Weak<Engine>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(engine) = engine.upgrade() else { return };
        // One node is enough.
        if !engine.node.leads_first() {
            continue;
        }
        if let Err(error) = round(&engine).await {
            // The next round tries again; entries that expired are not visible meanwhile.
            tracing::warn!(%error, "expired entries were not deleted");
        }
    }
}

async fn round(engine: &Arc<Engine>) -> Result<()> {
    let catalog = engine.catalog.snapshot()?;
    for entry in catalog.objects() {
        if let Object::Table(table) = entry.object.as_ref()
            && table.kind == CollectionKind::KeyValue
        {
            while delete_chunk(engine, table).await? == CHUNK {}
        }
    }
    Ok(())
}

/// Deletes up to [`CHUNK`] expired entries of one bucket; how many there were.
async fn delete_chunk(engine: &Arc<Engine>, table: &TableDefinition) -> Result<usize> {
    let mut transaction = OpenTransaction::begin(engine, Isolation::Snapshot).await?;
    let views = transaction.reader()?.relation(table.relation.id)?;
    let relation = Arc::new(RelationTable::try_new(table.name.to_string(), views, vec![0, 2])?);
    let now = ScalarValue::TimestampMillisecond(i64::try_from(engine.node.now().millis()).ok(), Some("UTC".into()));
    let plan = LogicalPlanBuilder::scan("bucket", provider_as_source(relation), None)?
        .filter(col(EXPIRES_AT).lt_eq(lit(now)))?
        .project(vec![col(KEY)])?
        .limit(0, Some(CHUNK))?
        .build()?;
    let mut stream = run_plan(&engine.base_state, &plan).await?.stream;
    let mut count = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        count += batch.num_rows();
        let keys = RecordBatch::try_new(table.relation.key_schema(), batch.columns().to_vec())?;
        transaction.delete(table.relation.id, keys).await?;
    }
    match transaction.commit(engine).await {
        // Somebody wrote one of the keys: it is not expired any more. The next round sees.
        Err(error) if error.kind == ErrorKind::Conflict => Ok(0),
        result => result.map(|()| count),
    }
}
