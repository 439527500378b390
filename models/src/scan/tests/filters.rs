//! Which filters the scan takes, and how.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::datasource::source::DataSource;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, DynamicFilterPhysicalExpr, lit};
use datafusion::physical_expr_common::physical_expr::PhysicalExpr;
use datafusion::physical_plan::filter_pushdown::PushedDown;
use futures::TryStreamExt;

use super::store::{explain, flushed, run, scans};
use crate::scan::RelationSource;
use crate::scan::predicate::Predicate;
use crate::scan::shape::TableShape;
use crate::scan::source::{Readers, ScanRequest};

#[tokio::test]
async fn a_plain_filter_leaves_no_operator_above() {
    let store = flushed();
    let context = store.context();
    let (plan, _) = run(&context, "SELECT name FROM t WHERE amount > 20 AND name LIKE 'name1%'").await;
    let text = explain(&plan);
    assert!(
        !text.contains("FilterExec") && text.contains("projection=[name], predicate="),
        "{text}"
    );
    let (plan, _) = run(&context, "SELECT name FROM t WHERE random() > 0.5").await;
    assert!(explain(&plan).contains("FilterExec"), "{}", explain(&plan));
}

fn source(limit: Option<usize>) -> RelationSource {
    let store = flushed();
    let shape = Arc::new(TableShape::try_new("t".into(), store.views(), vec![0, 1, 2, 3]).unwrap());
    let request = ScanRequest {
        columns: vec![3, 0],
        predicate: Predicate::default(),
        limit,
        target_partitions: 1,
        batch_size: 256,
        readers: Readers::One,
    };
    RelationSource::plan(shape, request).unwrap()
}

fn id_below(limit: i64) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(Arc::new(Column::new("id", 1)), Operator::Lt, lit(limit)))
}

async fn rows(source: &Arc<dyn DataSource>) -> usize {
    let context = Arc::new(datafusion::execution::TaskContext::default());
    let batches: Vec<_> = source.open(0, context).unwrap().try_collect().await.unwrap();
    batches.iter().map(|b| b.num_rows()).sum()
}

#[tokio::test]
async fn static_filters_are_exact_and_dynamic_ones_offers() {
    let dynamic = Arc::new(DynamicFilterPhysicalExpr::new(vec![Arc::new(Column::new("id", 1))], lit(true)));
    let source = source(None);
    let partitions = source.output_partitioning().partition_count();
    let pushed = source
        .try_pushdown_filters(
            vec![id_below(50), Arc::clone(&dynamic) as Arc<dyn PhysicalExpr>],
            &ConfigOptions::default(),
        )
        .unwrap();
    assert!(matches!(pushed.filters[..], [PushedDown::Yes, PushedDown::No]));
    let filtered = pushed.updated_node.unwrap();
    assert_eq!(filtered.output_partitioning().partition_count(), partitions);
    assert_eq!(rows(&filtered).await, 100);
    dynamic.update(id_below(10)).unwrap();
    assert_eq!(rows(&filtered).await, 20);
    let estimate = filtered.partition_statistics(None).unwrap().num_rows;
    assert_eq!(estimate.is_exact(), Some(false));
}

#[tokio::test]
async fn nothing_is_taken_below_a_limit() {
    let pushed = source(Some(3))
        .try_pushdown_filters(vec![id_below(50)], &ConfigOptions::default())
        .unwrap();
    assert!(matches!(pushed.filters[..], [PushedDown::No]) && pushed.updated_node.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_stream_stops() {
    let store = flushed();
    let context = store.context();
    let plan = context
        .sql("SELECT id, name FROM t")
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    let mut stream = scans(&plan)[0].execute(0, context.task_ctx()).unwrap();
    assert!(stream.try_next().await.unwrap().is_some());
    drop(stream);
}
