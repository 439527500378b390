//! Overflow and division: errors, never a wrong number.

use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn overflow_is_an_error() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (id BIGINT PRIMARY KEY, small TINYINT, n INT)").await;
    f.run("INSERT INTO t VALUES (9223372036854775807, 127, 2147483647), (1, 1, 1)")
        .await;
    for sql in [
        "SELECT 9223372036854775807 + 1",
        "SELECT id + 1 FROM t",
        "SELECT id * 2 FROM t",
        "SELECT -id - 2 FROM t",
        "UPDATE t SET id = id + 1",
        "SELECT count(*) FROM t WHERE id + 1 > 0",
        "INSERT INTO t VALUES (5, 300, 1)",
        "SELECT CAST(300 AS TINYINT)",
    ] {
        let error = f.fails(sql).await;
        assert!(["22003", "22P02"].contains(&error.code), "{sql}: {error}");
    }
    assert_eq!(f.rows("SELECT id + 1, n + 1 AS m, n + 1 FROM t WHERE id = 1").await, ["2|2|2"]);
    assert_eq!(
        f.rows("SELECT n + 1, count(*) FROM t WHERE id = 1 GROUP BY n + 1 ORDER BY n + 1")
            .await,
        ["2|1"]
    );
    assert_eq!(
        f.rows("SELECT a.id FROM t a JOIN t b ON a.n + 1 = b.n + 1 WHERE a.id = 1").await,
        ["1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn division_by_zero_is_an_error() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (id BIGINT PRIMARY KEY, d DECIMAL(10,2))").await;
    f.run("INSERT INTO t VALUES (0, 0), (1, 1)").await;
    for sql in [
        "SELECT 1 / 0",
        "SELECT 1 / id FROM t",
        "SELECT 1 % id FROM t",
        "SELECT 1 / d FROM t",
    ] {
        assert_eq!(f.fails(sql).await.code, "22012", "{sql}");
    }
}
