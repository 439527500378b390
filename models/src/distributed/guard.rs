//! What a stage is wrapped in where it runs.
//!
//! A task whose operators panic fails: the wire drops the task's streams then, and who reads them would take that for their end. And what is kept to be sent to
//! all tasks is copied, where it is a slice of something large: scans give slices of mapped files, and who keeps them counts all that is behind
//! each.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::take;
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
pub(super) fn guarded(stage: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    // It tells of panics below itself; and heads of both kinds are made anew over what is below them.
    if stage.is::<RepartitionExec>() {
        return Ok(stage);
    }
    if stage.is::<BroadcastExec>() {
        let below = stage.children().into_iter().map(|child| {
            let guard: Arc<dyn ExecutionPlan> = Arc::new(Guard {
                inner: Arc::clone(child),
                is_kept: true,
            });
            guard
        });
        let below = below.collect();
        return stage.replace_children(below, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute));
    }
    Ok(Arc::new(Guard {
        inner: stage,
        is_kept: false,
    }))
}

/// An operator as it is, for whoever looks at it: counts of tasks are told by places in the plan.
#[derive(Debug)]
struct Guard {
    inner: Arc<dyn ExecutionPlan>,
    /// Whether its rows are kept.
    is_kept: bool,
}

impl DisplayAs for Guard {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_as(format, f)
    }
}

impl ExecutionPlan for Guard {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inner.children()
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        Ok(Arc::new(Guard {
            inner: Arc::clone(&self.inner).replace_children(children, options)?,
            is_kept: self.is_kept,
        }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = catch_unwind(AssertUnwindSafe(|| self.inner.execute(partition, context)));
        let rows = rows.unwrap_or_else(|panic| Err(told(panic.as_ref()).into()))?;
        Ok(Box::pin(GuardedRows {
            schema: rows.schema(),
            rows: Some(rows),
            is_kept: self.is_kept,
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.inner.metrics()
    }
}

fn told(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::internal(format!("a task has panicked: {}", text.unwrap_or("no reason given")))
}

struct GuardedRows {
    schema: SchemaRef,
    /// None behind a panic.
    rows: Option<SendableRecordBatchStream>,
    is_kept: bool,
}

impl Stream for GuardedRows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let is_kept = self.is_kept;
        let Some(rows) = self.rows.as_mut() else { return Poll::Ready(None) };
        let next = catch_unwind(AssertUnwindSafe(|| match rows.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(batch))) if is_kept => Poll::Ready(Some(compact(&batch))),
            next => next,
        }));
        next.unwrap_or_else(|panic| {
            // It may be in any state.
            self.rows = None;
            Poll::Ready(Some(Err(told(panic.as_ref()).into())))
        })
    }
}

/// The same rows, in memory of their own where they are slices of something much larger.
fn compact(batch: &RecordBatch) -> Result<RecordBatch> {
    let all = UInt32Array::from_iter_values(0..u32::try_from(batch.num_rows()).unwrap_or(u32::MAX));
    let columns = batch.columns().iter().map(|column| {
        if let Some(texts) = column.as_string_view_opt() {
            return Ok(Arc::new(texts.gc()) as ArrayRef);
        }
        if let Some(bytes) = column.as_binary_view_opt() {
            return Ok(Arc::new(bytes.gc()) as ArrayRef);
        }
        match column.get_array_memory_size() / 2 > column.to_data().get_slice_memory_size()? {
            true => Ok(take(column, &all, None)?),
            false => Ok(Arc::clone(column)),
        }
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

impl RecordBatchStream for GuardedRows {
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

    #[test]
    fn slices_are_copied_and_the_rest_stays() {
        use datafusion::arrow::array::{Int64Array, StringArray, StringViewArray};
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter((0..10_000).map(|number| (number % 3 > 0).then_some(number))));
        let texts: ArrayRef = Arc::new(StringArray::from_iter(
            (0..10_000).map(|number| (number % 5 > 0).then(|| format!("text {number}"))),
        ));
        let views = (0..10_000).map(|number| Some(format!("a text that is long enough {number}")));
        let views: ArrayRef = Arc::new(StringViewArray::from_iter(views));
        let batch = RecordBatch::try_from_iter([("n", numbers), ("t", texts), ("v", views)]).unwrap();
        let slice = batch.slice(5_000, 100);
        let copy = compact(&slice).unwrap();
        assert_eq!(copy, slice);
        assert!(slice.get_array_memory_size() > 300_000 && copy.get_array_memory_size() < 20_000);
        let whole = compact(&batch).unwrap();
        assert!(Arc::ptr_eq(whole.column(0), batch.column(0)) && Arc::ptr_eq(whole.column(1), batch.column(1)));
        let empty = RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            Vec::new(),
            &RecordBatchOptions::new().with_row_count(Some(7)),
        );
        assert_eq!(compact(&empty.unwrap()).unwrap().num_rows(), 7);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_end() {
        let plan = guarded(stage(true)).unwrap();
        let error = plan.execute(0, Arc::default()).err().unwrap();
        assert!(error.to_string().contains("at once"), "{error}");
        for plan in [
            guarded(stage(false)).unwrap(),
            guarded(Arc::new(BroadcastExec::new(stage(false), 1))).unwrap(),
        ] {
            let mut rows = plan.execute(0, Arc::default()).unwrap();
            assert!(rows.next().await.unwrap().is_ok());
            let error = rows.next().await.unwrap().unwrap_err();
            assert!(error.to_string().contains("behind 1"), "{error}");
            assert!(rows.next().await.is_none());
        }
    }
}
