//! What the optimizer is told.

use std::sync::Arc;

use datafusion::common::stats::Precision;
use datafusion::common::{ScalarValue, Statistics};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

use super::store::{Store, explain, flushed, lines, mixed, run, scans};

async fn statistics(store: &Store, sql: &str) -> (Arc<dyn ExecutionPlan>, Statistics) {
    let context = store.context();
    let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    let scan = scans(&plan).remove(0);
    let statistics = StatisticsContext::new().compute(scan.as_ref(), &StatisticsArgs::new()).unwrap();
    (scan, statistics.as_ref().clone())
}

#[tokio::test]
async fn exact_where_nothing_is_masked() {
    let (scan, all) = statistics(&flushed(), "SELECT name, id FROM t").await;
    assert_eq!(all.num_rows, Precision::Exact(2000));
    assert_eq!(all.column_statistics[1].min_value, Precision::Exact(ScalarValue::Int64(Some(0))));
    assert_eq!(all.column_statistics[1].max_value, Precision::Exact(ScalarValue::Int64(Some(999))));
    assert_eq!(all.column_statistics[1].byte_size, Precision::Exact(16000));
    assert!(matches!(all.column_statistics[0].null_count, Precision::Exact(n) if n > 0));
    let mut total = 0;
    for partition in 0..3 {
        let args = StatisticsArgs::new().with_partition(Some(partition));
        let part = StatisticsContext::new().compute(scan.as_ref(), &args).unwrap();
        let Precision::Exact(rows) = part.num_rows else {
            panic!("partition {partition} has {:?}", part.num_rows)
        };
        total += rows;
    }
    assert_eq!(total, 2000);
}

#[tokio::test]
async fn a_count_needs_no_scan() {
    let store = mixed(2);
    let context = store.context();
    let (plan, rows) = run(&context, "SELECT count(*) FROM t").await;
    assert!(scans(&plan).is_empty(), "{}", explain(&plan));
    assert_eq!(lines(&rows), [format!("| {} |", store.model.len())]);
}

#[tokio::test]
async fn masked_rows_make_bounds_inexact() {
    let store = mixed(1);
    let (_, all) = statistics(&store, "SELECT id FROM t").await;
    assert_eq!(all.num_rows, Precision::Exact(store.model.len()));
    assert_ne!(all.column_statistics[0].max_value.is_exact(), Some(true));
}

#[tokio::test]
async fn a_filter_is_estimated_from_a_sample() {
    let store = flushed();
    for (sql, actual) in [
        (
            "SELECT id FROM t WHERE name LIKE '%name1%'",
            store
                .model
                .values()
                .filter(|r| r.name.as_ref().is_some_and(|n| n.contains("name1")))
                .count(),
        ),
        (
            "SELECT id FROM t WHERE amount < 50",
            store.model.values().filter(|r| r.amount < 50.0).count(),
        ),
        ("SELECT id FROM t WHERE id < 100", 200),
        ("SELECT id FROM t WHERE id = 5 AND seq = 1", 1),
    ] {
        let (_, filtered) = statistics(&store, sql).await;
        let Precision::Inexact(estimate) = filtered.num_rows else {
            panic!("{sql}: {:?}", filtered.num_rows)
        };
        assert!(
            estimate * 2 >= actual && estimate <= actual * 2 + 2,
            "{sql}: {estimate} estimated, {actual} rows"
        );
    }
}
