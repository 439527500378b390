//! A task whose operators panic fails. The wire drops the task's streams then, and who reads them would take that for their end.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use datafusion_distributed::BroadcastExec;
use futures::{Stream, StreamExt};

use crate::error::Error;

/// A stage whose panics are errors.
pub(super) fn caught(stage: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    // It tells of panics below itself; and heads of both kinds are made anew over what is below them.
    if stage.is::<RepartitionExec>() {
        return Ok(stage);
    }
    if stage.is::<BroadcastExec>() {
        let below = stage.children().into_iter().map(|child| Arc::new(Caught(Arc::clone(child))) as _);
        let below = below.collect();
        return stage.replace_children(below, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute));
    }
    Ok(Arc::new(Caught(stage)))
}

/// An operator as it is, for whoever looks at it: counts of tasks are told by places in the plan.
#[derive(Debug)]
struct Caught(Arc<dyn ExecutionPlan>);

impl DisplayAs for Caught {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_as(format, f)
    }
}

impl ExecutionPlan for Caught {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.0.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.0.children()
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        self.0.apply_expressions(f)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        Ok(Arc::new(Caught(Arc::clone(&self.0).replace_children(children, options)?)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = catch_unwind(AssertUnwindSafe(|| self.0.execute(partition, context)));
        let rows = rows.unwrap_or_else(|panic| Err(told(panic.as_ref()).into()))?;
        Ok(Box::pin(CaughtRows {
            schema: rows.schema(),
            rows: Some(rows),
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.0.metrics()
    }
}

fn told(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::internal(format!("a task has panicked: {}", text.unwrap_or("no reason given")))
}

struct CaughtRows {
    schema: SchemaRef,
    /// None behind a panic.
    rows: Option<SendableRecordBatchStream>,
}

impl Stream for CaughtRows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(rows) = self.rows.as_mut() else { return Poll::Ready(None) };
        catch_unwind(AssertUnwindSafe(|| rows.poll_next_unpin(context))).unwrap_or_else(|panic| {
            // It may be in any state.
            self.rows = None;
            Poll::Ready(Some(Err(told(panic.as_ref()).into())))
        })
    }
}

impl RecordBatchStream for CaughtRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use datafusion::arrow::datatypes::Schema;
    use datafusion::physical_plan::empty::EmptyExec;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use futures::stream;

    use super::*;

    /// Panics at once, or behind a batch.
    #[derive(Debug)]
    struct Panics {
        at_once: bool,
        like: EmptyExec,
    }

    impl DisplayAs for Panics {
        fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Panics")
        }
    }

    impl ExecutionPlan for Panics {
        fn name(&self) -> &str {
            "Panics"
        }

        fn properties(&self) -> &Arc<PlanProperties> {
            self.like.properties()
        }

        fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
            Vec::new()
        }

        fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
            Ok(TreeNodeRecursion::Continue)
        }

        fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
            Ok(self)
        }

        fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
            assert!(!self.at_once, "at once");
            let schema = self.like.schema();
            let batch = RecordBatch::new_empty(Arc::clone(&schema));
            let rows = stream::iter([Ok(batch)]).chain(stream::once(async { panic!("behind {}", 1) }));
            Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
        }
    }

    fn stage(at_once: bool) -> Arc<dyn ExecutionPlan> {
        Arc::new(Panics {
            at_once,
            like: EmptyExec::new(Arc::new(Schema::empty())),
        })
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_end() {
        let plan = caught(stage(true)).unwrap();
        let error = plan.execute(0, Arc::default()).err().unwrap();
        assert!(error.to_string().contains("at once"), "{error}");
        for plan in [
            caught(stage(false)).unwrap(),
            caught(Arc::new(BroadcastExec::new(stage(false), 1))).unwrap(),
        ] {
            let mut rows = plan.execute(0, Arc::default()).unwrap();
            assert!(rows.next().await.unwrap().is_ok());
            let error = rows.next().await.unwrap().unwrap_err();
            assert!(error.to_string().contains("behind 1"), "{error}");
            assert!(rows.next().await.is_none());
        }
    }
}
