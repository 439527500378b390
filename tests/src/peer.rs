//! The peer: DataFusion alone over the same batches in memory, two partitions, two threads.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::tpch::{TABLES, TpchQuery, gives_rows};

/// Plan partitions of the peer, as many as the server's threads in a benchmark.
pub const PARTITIONS: usize = 2;

/// A DataFusion session with all TPC-H tables in memory.
pub fn load(scale: f64) -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(PARTITIONS));
    for table in TABLES {
        let batches = table.batches(scale);
        let schema = SchemaRef::clone(batches.schema());
        let mut partitions = vec![Vec::new(); PARTITIONS];
        for (i, batch) in batches.enumerate() {
            partitions[i % PARTITIONS].push(batch);
        }
        let provider = MemTable::try_new(schema, partitions).expect("batches of one schema");
        context.register_table(table.name, Arc::new(provider)).expect("new table");
    }
    context
}

/// Runs a query; its rows.
pub async fn run(context: &SessionContext, query: &TpchQuery) -> Vec<RecordBatch> {
    let mut rows = Vec::new();
    for statement in &query.statements {
        let frame = context
            .sql(statement)
            .await
            .unwrap_or_else(|error| panic!("q{}: {error}", query.number));
        let batches = frame.collect().await.unwrap_or_else(|error| panic!("q{}: {error}", query.number));
        if gives_rows(statement) {
            rows = batches;
        }
    }
    rows
}
