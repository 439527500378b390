//! What is there after closing and opening again, with and without a checkpoint.

use pyralog_models::Database;

use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_again() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR)").await;
    f.run("CREATE VIEW big AS SELECT * FROM t WHERE id > 5").await;
    f.run("CREATE COLLECTION cache AS KV").await;
    f.run("INSERT INTO t SELECT value, 'v' FROM generate_series(1, 10) AS g(value)")
        .await;
    f.run("CHECKPOINT").await;
    f.run("DELETE FROM t WHERE id = 10").await;
    f.run("UPDATE t SET v = 'w' WHERE id = 9").await;
    let f = f.reopen().await;
    assert_eq!(f.rows("SELECT id, v FROM big ORDER BY id").await, ["6|v", "7|v", "8|v", "9|w"]);
    f.run("CHECKPOINT").await;
    f.run("COMPACT").await;
    let f = f.reopen().await;
    assert_eq!(f.rows("SELECT count(*), max(id) FROM t").await, ["9|9"]);
    assert_eq!(f.rows("SELECT v FROM t WHERE id = 9").await, ["w"]);
    assert!(f.db.verify().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_use_is_refused() {
    let f = Fixture::new().await;
    let error = Database::open(f.dir.path()).await.err().unwrap();
    assert_eq!(error.code, "55006");
}
