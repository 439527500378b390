//! Joins of tables whose columns have the same names: a filter must reach the side it names, and no other.

use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn filters_behind_outer_joins() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (id INT PRIMARY KEY, n INT)").await;
    f.run("CREATE TABLE s (id INT PRIMARY KEY, n INT)").await;
    f.run("INSERT INTO t VALUES (1, 1), (2, 2)").await;
    f.run("INSERT INTO s VALUES (2, 20), (3, 30)").await;
    assert_eq!(
        f.rows("SELECT s.id FROM t RIGHT JOIN s ON t.id = s.id WHERE t.id IS NULL").await,
        ["3"]
    );
    assert_eq!(
        f.rows("SELECT s.id FROM t RIGHT JOIN s ON t.id = s.id + 100 WHERE t.id IS NULL ORDER BY 1")
            .await,
        ["2", "3"]
    );
    assert_eq!(
        f.rows("SELECT s.id FROM s LEFT JOIN t ON t.id = s.id WHERE t.id IS NULL").await,
        ["3"]
    );
    assert_eq!(
        f.rows("SELECT s.id FROM t RIGHT JOIN s ON t.id = s.id WHERE coalesce(t.n, 5) = 5")
            .await,
        ["3"]
    );
    assert_eq!(
        f.rows("SELECT count(*) FROM t FULL JOIN s ON t.id = s.id WHERE t.n IS NULL OR s.n IS NULL")
            .await,
        ["2"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_that_joins_find_while_they_run() {
    let f = Fixture::new().await;
    for (table, from) in [("a", 0), ("b", 1000), ("c", 2000)] {
        f.run(&format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, other BIGINT)")).await;
        f.run(&format!(
            "INSERT INTO {table} SELECT value + {from}, value + {from} + 1000 FROM generate_series(1, 500) AS g(value)"
        ))
        .await;
    }
    f.run("CHECKPOINT").await;
    let sql =
        "SELECT count(*), min(a.id), max(c.id) FROM a JOIN b ON a.other = b.id JOIN c ON b.other = c.id WHERE c.id BETWEEN 2100 AND 2110";
    assert_eq!(f.rows(sql).await, ["11|100|2110"]);
    let sql = "SELECT a.id, b.id, c.id FROM a JOIN b ON a.other = b.id JOIN c ON b.other = c.id ORDER BY c.id DESC LIMIT 2";
    assert_eq!(f.rows(sql).await, ["500|1500|2500", "499|1499|2499"]);
}
