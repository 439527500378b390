//! The point path.

use super::store::{counter, explain, lines, mixed, run};

#[tokio::test]
async fn equality_on_the_whole_key_looks_up() {
    for partitions in [1, 2] {
        let store = mixed(partitions);
        let context = store.context();
        for (sql, keys, rows) in [
            ("SELECT amount FROM t WHERE id = 501 AND seq = 0", 1, 1),
            ("SELECT id FROM t WHERE id IN (1, 2, 5000) AND seq = 1 AND amount >= 0", 3, 2),
            ("SELECT * FROM t WHERE (id = 1 OR id = 2) AND seq IN (0, 1)", 4, 4),
            ("SELECT * FROM t WHERE id = 777 AND seq = 1", 1, 0),
            ("SELECT count(*) FROM t WHERE id = 150 AND seq = 0", 1, 1),
        ] {
            let (plan, found) = run(&context, sql).await;
            let text = explain(&plan);
            assert!(text.contains(&format!("access=keys, keys={keys}")), "{sql}\n{text}");
            assert_eq!(counter(&plan, "batches_read"), 0, "{sql}");
            assert_eq!(lines(&found).len(), rows, "{sql}");
        }
    }
}

#[tokio::test]
async fn part_of_the_key_or_a_range_scans() {
    let store = mixed(1);
    let context = store.context();
    for sql in [
        "SELECT * FROM t WHERE id = 501",
        "SELECT * FROM t WHERE id = 501 AND seq >= 0",
        "SELECT * FROM t WHERE id = 501 OR seq = 0",
    ] {
        let (plan, _) = run(&context, sql).await;
        assert!(!explain(&plan).contains("access=keys"), "{sql}");
    }
}
