//! ON CONFLICT, duplicate keys, and transactions that meet.

use crate::fixture::{Fixture, rows, run};

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_keys_and_upserts() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (id BIGINT PRIMARY KEY, owner VARCHAR, n INT)").await;
    f.run("INSERT INTO t VALUES (1, 'a', 1)").await;
    let error = f.fails("INSERT INTO t VALUES (1, 'again', 0)").await;
    assert_eq!(error.code, "23505");
    assert!(error.message.contains('1') && error.message.contains('t'), "{error}");
    assert_eq!(f.fails("INSERT INTO t VALUES (5, 'x', 0), (5, 'y', 0)").await.code, "23505");
    assert_eq!(f.rows("SELECT count(*) FROM t").await, ["1"]);
    assert_eq!(
        f.run("INSERT INTO t VALUES (1, 'z', 9), (2, 'b', 2) ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, n = n + 10")
            .await,
        2
    );
    assert_eq!(f.rows("SELECT id, owner, n FROM t ORDER BY id").await, ["1|z|11", "2|b|2"]);
    assert_eq!(
        f.run("INSERT INTO t VALUES (2, 'no', 0), (3, 'c', 3) ON CONFLICT DO NOTHING").await,
        1
    );
    assert_eq!(
        f.run("INSERT INTO t VALUES (1, 'w', 0) ON CONFLICT (id) DO UPDATE SET owner = 'w' WHERE t.n > 100")
            .await,
        0
    );
    assert_eq!(f.rows("SELECT owner FROM t ORDER BY id").await, ["z", "b", "c"]);
    assert_eq!(
        f.fails("INSERT INTO t VALUES (1, 'w', 0) ON CONFLICT (owner) DO NOTHING")
            .await
            .code,
        "42P10"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_isolation() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (id BIGINT PRIMARY KEY, n INT)").await;
    f.run("INSERT INTO t VALUES (1, 1), (2, 2)").await;
    let (one, two) = (f.db.session(), f.db.session());
    run(&one, "BEGIN").await.unwrap();
    run(&two, "BEGIN").await.unwrap();
    run(&one, "UPDATE t SET n = 10 WHERE id = 1").await.unwrap();
    run(&one, "INSERT INTO t VALUES (50, 5)").await.unwrap();
    assert_eq!(rows(&one, "SELECT n FROM t ORDER BY id").await.unwrap(), ["10", "2", "5"]);
    assert_eq!(rows(&two, "SELECT n FROM t ORDER BY id").await.unwrap(), ["1", "2"]);
    run(&two, "UPDATE t SET n = 20 WHERE id = 1").await.unwrap();
    run(&one, "COMMIT").await.unwrap();
    assert_eq!(rows(&two, "SELECT n FROM t ORDER BY id").await.unwrap(), ["20", "2"]);
    let error = run(&two, "COMMIT").await.unwrap_err();
    assert_eq!(error.code, "40001");
    assert_eq!(f.rows("SELECT n FROM t ORDER BY id").await, ["10", "2", "5"]);
    assert_eq!(run(&two, "COMMIT").await.unwrap_err().code, "25P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn savepoints_and_failed_statements() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (id BIGINT PRIMARY KEY)").await;
    f.run("BEGIN").await;
    f.run("INSERT INTO t VALUES (1)").await;
    f.run("SAVEPOINT a").await;
    f.run("INSERT INTO t VALUES (2)").await;
    f.run("DELETE FROM t WHERE id = 1").await;
    assert_eq!(f.rows("SELECT id FROM t").await, ["2"]);
    f.run("ROLLBACK TO a").await;
    assert_eq!(f.rows("SELECT id FROM t").await, ["1"]);
    assert_eq!(f.fails("INSERT INTO t VALUES (3), (1)").await.code, "23505");
    assert_eq!(f.rows("SELECT id FROM t").await, ["1"]);
    assert_eq!(f.fails("ROLLBACK TO b").await.code, "3B001");
    f.run("COMMIT").await;
    assert_eq!(f.rows("SELECT id FROM t").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_increments_all_count() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").await;
    f.run("INSERT INTO t VALUES (1, 0)").await;
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let session = f.db.session();
            tokio::spawn(async move {
                for _ in 0..10 {
                    while let Err(error) = run(&session, "UPDATE t SET n = n + 1 WHERE id = 1").await {
                        assert_eq!(error.code, "40001");
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(f.rows("SELECT n FROM t").await, ["40"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_of_an_upsert_are_all_told_and_bound() {
    use datafusion::scalar::ScalarValue::Int32;
    use pyralog_models::Parameters;
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (id INT PRIMARY KEY, n INT)").await;
    let sql = "INSERT INTO t VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET n = ?";
    assert_eq!(f.session.prepare(sql).await.unwrap().parameters.fields().len(), 3);
    for _ in 0..2 {
        let values = vec![Int32(Some(1)), Int32(Some(2)), Int32(Some(3))];
        f.session.execute(sql, Parameters::Positional(values)).await.unwrap();
    }
    assert_eq!(f.rows("SELECT id, n FROM t").await, ["1|3"]);
}
