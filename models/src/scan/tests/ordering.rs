//! Claimed orders are real, and are claimed where they should be.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;

use super::store::{adjacent, explain, flushed, mixed, run, scans, states};

/// Runs each partition of a scan alone and checks every order it claims.
async fn check_claims(context: &SessionContext, scan: &Arc<dyn ExecutionPlan>) -> usize {
    let scan = Arc::clone(scan).reset_state().unwrap();
    let mut checked = 0;
    for partition in 0..scan.output_partitioning().partition_count() {
        let batches: Vec<RecordBatch> = scan.execute(partition, context.task_ctx()).unwrap().try_collect().await.unwrap();
        let rows = concat_batches(&scan.schema(), &batches).unwrap();
        if rows.num_rows() == 0 {
            continue;
        }
        for ordering in scan.equivalence_properties().oeq_class().iter() {
            let columns: Vec<SortColumn> = ordering.iter().map(|e| e.evaluate_to_sort_column(&rows).unwrap()).collect();
            // A stable order of sorted rows is the identity; equal rows may come in any order, so compare the sorted values.
            let indices = lexsort_to_indices(&columns, None).unwrap();
            for column in &columns {
                let sorted = arrow::compute::take(&column.values, &indices, None).unwrap();
                assert_eq!(&sorted, &column.values, "claimed {ordering} by {}", explain(&scan));
            }
            checked += 1;
        }
    }
    checked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_are_real() {
    let mut checked = 0;
    for (_, store) in states() {
        let context = store.context();
        for sql in [
            "SELECT * FROM t",
            "SELECT amount, seq, id FROM t WHERE amount > 30",
            "SELECT seq FROM t WHERE id = 501",
            "SELECT name, seq, id FROM t ORDER BY id, seq",
            "SELECT id FROM t ORDER BY id LIMIT 900",
            "SELECT id, sum(amount) FROM t GROUP BY id ORDER BY id",
        ] {
            let (plan, _) = run(&context, sql).await;
            for scan in scans(&plan) {
                checked += check_claims(&context, &scan).await;
            }
        }
    }
    assert!(checked > 20, "only {checked} claims were made");
}

#[tokio::test]
async fn no_sort_over_segments_that_do_not_overlap() {
    for store in [flushed(), adjacent()] {
        let context = store.context();
        let (plan, _) = run(&context, "SELECT id, name FROM t ORDER BY id, seq").await;
        let text = explain(&plan);
        assert!(
            !text.contains("SortExec") && text.contains("access=ordered, partitions=3"),
            "{text}"
        );
        let (plan, _) = run(&context, "SELECT id, count(*) FROM t GROUP BY id").await;
        assert!(explain(&plan).contains("ordering_mode=Sorted"), "{}", explain(&plan));
    }
}

#[tokio::test]
async fn overlapping_pieces_merge_when_a_sort_asks() {
    let store = mixed(1);
    let context = store.context();
    let (plan, _) = run(&context, "SELECT id, seq FROM t ORDER BY id, seq LIMIT 10").await;
    let text = explain(&plan);
    assert!(!text.contains("SortExec") && text.contains("access=merge"), "{text}");
    let (plan, _) = run(&context, "SELECT id, seq FROM t").await;
    let text = explain(&plan);
    assert!(text.contains("access=queue") && !text.contains("output_ordering"), "{text}");
}

#[tokio::test]
async fn an_outer_filter_does_not_reach_below_a_limit() {
    let store = flushed();
    let context = store.context();
    let (_, rows) = run(
        &context,
        "SELECT count(*) FROM (SELECT id FROM t ORDER BY id, seq LIMIT 4) WHERE id >= 1",
    )
    .await;
    assert_eq!(super::store::lines(&rows), ["| 2 |"]);
}
