//! Batches that need not be read are not.

use super::store::{adjacent, counter, explain, flushed, mixed, run};

const BATCH: usize = 128;

#[tokio::test]
async fn zone_maps_prune_when_planned() {
    let store = flushed();
    let context = store.context();
    let (plan, rows) = run(&context, "SELECT * FROM t WHERE id >= 100 AND id < 110").await;
    assert_eq!(super::store::lines(&rows).len(), 20);
    assert!(counter(&plan, "batches_read") <= 2, "{}", explain(&plan));
    assert_eq!(
        counter(&plan, "batches_read") + counter(&plan, "batches_pruned"),
        2000usize.div_ceil(BATCH)
    );
    // `day` is no key column, but grows with the key.
    let (plan, _) = run(&context, "SELECT * FROM t WHERE day = DATE '1970-01-11'").await;
    assert!(counter(&plan, "batches_read") <= 2, "{}", explain(&plan));
    let (plan, rows) = run(&context, "SELECT * FROM t WHERE id > 100000").await;
    assert!(rows.iter().all(|b| b.num_rows() == 0));
    assert_eq!(counter(&plan, "batches_read"), 0);
}

#[tokio::test]
async fn masked_rows_in_zones_do_no_harm() {
    let store = mixed(1);
    let context = store.context();
    let (_, rows) = run(&context, "SELECT * FROM t WHERE id BETWEEN 100 AND 299 AND seq = 1").await;
    assert!(rows.iter().all(|b| b.num_rows() == 0));
    let (_, rows) = run(&context, "SELECT count(*) FROM t WHERE amount = 9.0 AND id % 3 = 0 AND seq = 0").await;
    let expected = store
        .model
        .values()
        .filter(|r| r.amount == 9.0 && r.id % 3 == 0 && r.seq == 0)
        .count();
    assert_eq!(super::store::lines(&rows), [format!("| {expected} |")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topk_prunes_while_it_runs() {
    let store = adjacent();
    let context = store.context();
    let (plan, rows) = run(&context, "SELECT id, seq, day FROM t ORDER BY day DESC, id LIMIT 5").await;
    assert_eq!(super::store::lines(&rows).len(), 5);
    let (read, pruned) = (counter(&plan, "batches_read"), counter(&plan, "batches_pruned"));
    assert!(pruned > read, "{read} read, {pruned} pruned\n{}", explain(&plan));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hash_join_prunes_its_probe_side() {
    let store = flushed();
    let context = store.context();
    let sql = "SELECT label, amount FROM small JOIN t ON id = sid WHERE label = 'b'";
    let (plan, rows) = run(&context, sql).await;
    assert_eq!(super::store::lines(&rows).len(), 2, "{}", explain(&plan));
    assert!(counter(&plan, "batches_pruned") >= 10, "{}", explain(&plan));
    assert!(counter(&plan, "output_rows") <= 2 * BATCH, "{}", explain(&plan));
}

#[tokio::test]
async fn a_limit_stops_the_scan() {
    let store = flushed();
    let context = store.context();
    let (plan, rows) = run(&context, "SELECT id FROM t LIMIT 5").await;
    assert_eq!(super::store::lines(&rows).len(), 5);
    assert!(
        counter(&plan, "batches_read") <= 3,
        "one batch a partition at most\n{}",
        explain(&plan)
    );
    let (plan, rows) = run(&context, "SELECT id FROM t WHERE amount > 1 LIMIT 5").await;
    assert_eq!(super::store::lines(&rows).len(), 5);
    assert!(counter(&plan, "batches_read") <= 3, "{}", explain(&plan));
    let (plan, _) = run(&context, "SELECT id FROM t LIMIT 0").await;
    assert_eq!(counter(&plan, "batches_read"), 0);
}
