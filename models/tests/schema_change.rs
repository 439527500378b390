//! ALTER TABLE, views, schemas, CREATE TABLE AS, COPY.

use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn alter_table() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (id BIGINT PRIMARY KEY, a INT)").await;
    f.run("INSERT INTO t VALUES (1, 10), (2, 20)").await;
    f.run("CHECKPOINT").await;
    f.run("ALTER TABLE t ADD COLUMN b VARCHAR").await;
    f.run("ALTER TABLE t ADD COLUMN c INT NOT NULL DEFAULT 3").await;
    f.run("INSERT INTO t VALUES (3, 30, 'x', 4)").await;
    assert_eq!(
        f.rows("SELECT * FROM t ORDER BY id").await,
        ["1|10|NULL|3", "2|20|NULL|3", "3|30|x|4"]
    );
    f.run("ALTER TABLE t RENAME COLUMN a TO aa").await;
    f.run("ALTER TABLE t DROP COLUMN b").await;
    assert_eq!(f.rows("SELECT aa, c FROM t ORDER BY id").await, ["10|3", "20|3", "30|4"]);
    f.run("ALTER TABLE t ADD COLUMN b INT").await;
    assert_eq!(f.rows("SELECT b FROM t WHERE id = 3").await, ["NULL"]);
    assert_eq!(f.fails("ALTER TABLE t ADD CONSTRAINT p CHECK (aa > 10)").await.code, "23514");
    f.run("ALTER TABLE t ADD CONSTRAINT p CHECK (aa > 0)").await;
    assert_eq!(f.fails("INSERT INTO t (id, aa) VALUES (9, 0)").await.code, "23514");
    assert_eq!(f.fails("ALTER TABLE t DROP COLUMN aa").await.code, "2BP01");
    f.run("ALTER TABLE t RENAME TO u").await;
    assert_eq!(f.fails("SELECT * FROM t").await.code, "42P01");
    let f = f.reopen().await;
    assert_eq!(
        f.rows("SELECT id, aa, c, b FROM u ORDER BY id").await,
        ["1|10|3|NULL", "2|20|3|NULL", "3|30|4|NULL"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyless_table_keeps_its_hidden_key() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (a INT)").await;
    f.run("INSERT INTO t VALUES (1)").await;
    f.run("ALTER TABLE t ADD COLUMN b INT").await;
    f.run("INSERT INTO t VALUES (2, 3)").await;
    assert_eq!(f.run("UPDATE t SET b = 0 WHERE b IS NULL").await, 1);
    assert_eq!(f.rows("SELECT * FROM t ORDER BY a").await, ["1|0", "2|3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_their_errors() {
    let f = Fixture::new().await;
    f.run("CREATE SCHEMA s").await;
    f.run("CREATE TABLE s.orders AS SELECT 1 AS id, 'x' AS name").await;
    assert_eq!(f.rows("SELECT * FROM s.orders").await, ["1|x"]);
    assert_eq!(f.fails("CREATE TABLE s.orders (id INT)").await.code, "42P07");
    f.run("CREATE TABLE IF NOT EXISTS s.orders (id INT)").await;
    let error = f.fails("SELECT nam FROM s.orders").await;
    assert_eq!(error.code, "42703");
    assert!(error.to_string().contains("did you mean name"), "{error}");
    let error = f.fails("SELECT * FROM s.order").await;
    assert!(error.to_string().contains("did you mean orders"), "{error}");
    assert_eq!(f.fails("SELECT * FROM nowhere.t").await.code, "42P01");
    assert_eq!(f.fails("DROP SCHEMA s").await.code, "2BP01");
    f.run("DROP SCHEMA s CASCADE").await;
    assert_eq!(f.fails("SELECT * FROM s.orders").await.code, "42P01");
    assert_eq!(
        f.rows("SELECT count(*) FROM information_schema.columns WHERE table_name = 'orders'")
            .await,
        ["0"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn truncate_and_copy() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR)").await;
    f.run("INSERT INTO t VALUES (1, 'a'), (2, NULL)").await;
    let file = f.dir.path().join("t.csv");
    assert_eq!(f.run(&format!("COPY t TO '{}'", file.display())).await, 2);
    f.run("TRUNCATE t").await;
    assert_eq!(f.rows("SELECT count(*) FROM t").await, ["0"]);
    assert_eq!(f.run(&format!("COPY t FROM '{}'", file.display())).await, 2);
    assert_eq!(f.rows("SELECT * FROM t ORDER BY id").await, ["1|a", "2|NULL"]);
    assert_eq!(f.rows(&format!("SELECT count(*) FROM '{}'", file.display())).await, ["2"]);
    f.run("BEGIN").await;
    f.run("TRUNCATE t").await;
    f.run("ROLLBACK").await;
    assert_eq!(f.rows("SELECT count(*) FROM t").await, ["2"]);
}
