//! MERGE.

use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn merge_updates_inserts_and_deletes() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR, n INT DEFAULT 5)").await;
    f.run("INSERT INTO t VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3)").await;
    f.run("CREATE TABLE s (id BIGINT, v VARCHAR)").await;
    f.run("INSERT INTO s VALUES (1, 'ONE'), (2, NULL), (4, 'four')").await;
    let sql = "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED AND s.v IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET v = s.v \
               WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, s.v)";
    assert_eq!(f.run(sql).await, 3);
    assert_eq!(f.rows("SELECT * FROM t ORDER BY id").await, ["1|ONE|1", "3|three|3", "4|four|5"]);
    assert_eq!(
        f.run("MERGE INTO t USING s ON t.id = s.id WHEN NOT MATCHED BY SOURCE THEN DELETE")
            .await,
        1
    );
    assert_eq!(f.rows("SELECT id FROM t ORDER BY id").await, ["1", "4"]);
    f.run("INSERT INTO s VALUES (1, 'again')").await;
    assert_eq!(
        f.fails("MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = s.v")
            .await
            .code,
        "21000"
    );
}
