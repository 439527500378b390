//! `EXPLAIN` and `EXPLAIN ANALYZE` of plans for several nodes.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion_distributed::{DistributedExec, DistributedMetricsFormat, display_plan_ascii, explain_analyze};
use futures::{TryStreamExt, stream};
use tokio::time::{Instant, timeout};

use super::deal::Deal;

/// How long to wait, behind the last row, for what the tasks have counted.
const METRICS_LIMIT: Duration = Duration::from_secs(3);

/// Which node runs which task of each stage.
pub(super) fn tasks(task: &TaskContext) -> String {
    let mut text = "tasks:".to_owned();
    if let Some(deal) = task.session_config().get_extension::<Deal>() {
        for (number, node) in deal.nodes.iter().enumerate() {
            // Writing to a string does not fail.
            let _ = write!(text, "{} t{number} on node {node}", if number > 0 { "," } else { "" });
        }
    }
    text.push('\n');
    text
}

/// Runs a query to its end, and gives its stages with what was counted, as one node's EXPLAIN ANALYZE does. `analyze`: the operator that does so
/// for this engine, over the query; it waits for the counts of a task for ever, also of one that is lost.
pub(super) fn analyze(analyze: &Arc<dyn ExecutionPlan>, verbose: bool, task: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
    let query = analyze.children().first().map(|query| Arc::clone(query));
    let Some(query) = query.filter(|query| query.is::<DistributedExec>()) else {
        return execute_stream(Arc::clone(analyze), task);
    };
    let schema = analyze.schema();
    let typed = Arc::clone(&schema);
    let explained = async move {
        let begun = Instant::now();
        let mut rows = execute_stream(Arc::clone(&query), Arc::clone(&task))?;
        let mut count = 0;
        while let Some(batch) = rows.try_next().await? {
            count += batch.num_rows();
        }
        let took = begun.elapsed();
        // A task that nobody asked for rows tells nothing, nor does one whose node was lost behind its last row.
        let counted = async |format| match timeout(METRICS_LIMIT, explain_analyze(Arc::clone(&query), format)).await {
            Ok(Ok(text)) => text,
            _ => format!(
                "(not all tasks have told what they counted)\n{}",
                display_plan_ascii(query.as_ref(), false)
            ),
        };
        let mut lines = vec![(
            "Plan with Metrics",
            tasks(&task) + &counted(DistributedMetricsFormat::Aggregated).await,
        )];
        if verbose {
            lines.push(("Plan with Full Metrics", counted(DistributedMetricsFormat::PerTask).await));
            lines.push(("Output Rows", count.to_string()));
            lines.push(("Duration", format!("{took:?}")));
        }
        let (kinds, texts): (Vec<&str>, Vec<String>) = lines.into_iter().unzip();
        let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(kinds)), Arc::new(StringArray::from(texts))];
        Ok(RecordBatch::try_new(typed, columns)?)
    };
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(explained))))
}
