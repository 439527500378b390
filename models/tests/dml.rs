//! INSERT, UPDATE, DELETE, with the traps of the hooks that are not used.

use crate::fixture::Fixture;

async fn accounts() -> Fixture {
    let f = Fixture::new().await;
    f.run("CREATE TABLE acc (id BIGINT PRIMARY KEY, owner VARCHAR, balance DECIMAL(18,2), tags VARCHAR[], at TIMESTAMP)")
        .await;
    let inserted = f
        .run("INSERT INTO acc VALUES (1,'a',10.00,['x','y'],'2026-01-01T00:00:00'), (2,'b',20.00,[],NULL), (3,NULL,30.00,NULL,NULL)")
        .await;
    assert_eq!(inserted, 3);
    f
}

#[tokio::test(flavor = "multi_thread")]
async fn insert_and_read_back() {
    let f = accounts().await;
    assert_eq!(
        f.rows("SELECT id, owner, balance, tags FROM acc ORDER BY id").await,
        ["1|a|10.00|[x, y]", "2|b|20.00|[]", "3|NULL|30.00|NULL"]
    );
    assert_eq!(f.rows("SELECT count(*), sum(balance) FROM acc").await, ["3|60.00"]);
    assert_eq!(f.rows("SELECT owner FROM acc WHERE id = 2").await, ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn update_delete_and_their_traps() {
    let f = accounts().await;
    assert_eq!(f.run("UPDATE acc SET balance = balance * 2 WHERE id <= 2").await, 2);
    assert_eq!(f.rows("SELECT sum(balance) FROM acc").await, ["90.00"]);
    assert_eq!(f.run("DELETE FROM acc WHERE false").await, 0);
    assert_eq!(f.run("EXPLAIN DELETE FROM acc").await, 2);
    assert_eq!(f.rows("SELECT count(*) FROM acc").await, ["3"]);
    assert_eq!(f.run("DELETE FROM acc WHERE id IN (SELECT id FROM acc WHERE owner = 'b')").await, 1);
    assert_eq!(f.rows("SELECT id FROM acc ORDER BY id").await, ["1", "3"]);
    assert_eq!(f.fails("DELETE FROM acc LIMIT 1").await.code, "0A000");
    assert_eq!(f.run("UPDATE acc SET id = id + 1").await, 2);
    assert_eq!(f.rows("SELECT id FROM acc ORDER BY id").await, ["2", "4"]);
    assert_eq!(f.fails("UPDATE acc SET id = 7").await.code, "23505");
    assert_eq!(f.rows("SELECT id FROM acc ORDER BY id").await, ["2", "4"]);
    assert_eq!(f.run("DELETE FROM acc").await, 2);
    assert_eq!(f.rows("SELECT count(*) FROM acc").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn returning_gives_the_written_rows() {
    let f = accounts().await;
    assert_eq!(
        f.rows("INSERT INTO acc (id, owner) VALUES (9, 'z') RETURNING id, upper(owner) AS o")
            .await,
        ["9|Z"]
    );
    assert_eq!(f.rows("UPDATE acc SET owner = 'q' WHERE id = 9 RETURNING owner").await, ["q"]);
    assert_eq!(f.rows("DELETE FROM acc WHERE id = 9 RETURNING *").await, ["9|q|NULL|NULL|NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn update_from_and_delete_using() {
    let f = accounts().await;
    f.run("CREATE TABLE fix (id BIGINT, owner VARCHAR)").await;
    f.run("INSERT INTO fix VALUES (3, 'c'), (3, 'c'), (77, 'x')").await;
    assert_eq!(f.run("UPDATE acc SET owner = fix.owner FROM fix WHERE acc.id = fix.id").await, 1);
    assert_eq!(f.rows("SELECT owner FROM acc WHERE id = 3").await, ["c"]);
    assert_eq!(f.run("DELETE FROM acc USING fix WHERE acc.id = fix.id").await, 1);
    assert_eq!(f.rows("SELECT count(*) FROM acc").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_checks_and_not_null() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE t (id INT PRIMARY KEY, n INT DEFAULT 7, name VARCHAR NOT NULL DEFAULT 'none', CHECK (n > 0))")
        .await;
    f.run("INSERT INTO t (id) VALUES (1)").await;
    f.run("INSERT INTO t VALUES (2, DEFAULT, 'b')").await;
    f.run("INSERT INTO t (id, n) VALUES (3, NULL)").await;
    assert_eq!(
        f.rows("SELECT id, n, name FROM t ORDER BY id").await,
        ["1|7|none", "2|7|b", "3|NULL|none"]
    );
    assert_eq!(f.fails("INSERT INTO t (id, n) VALUES (4, 0)").await.code, "23514");
    assert_eq!(f.fails("INSERT INTO t (id, name) VALUES (4, NULL)").await.code, "23502");
    assert_eq!(f.fails("UPDATE t SET n = -1 WHERE id = 1").await.code, "23514");
    assert_eq!(f.fails("INSERT INTO t (id) VALUES (NULL)").await.code, "23502");
    assert_eq!(f.run("UPDATE t SET n = DEFAULT WHERE id = 3").await, 1);
    assert_eq!(f.rows("SELECT n FROM t WHERE id = 3").await, ["7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key() {
    let f = Fixture::new().await;
    f.run("CREATE TABLE log (line VARCHAR)").await;
    f.run("INSERT INTO log VALUES ('a'), ('a'), ('b')").await;
    assert_eq!(f.rows("SELECT * FROM log ORDER BY line").await, ["a", "a", "b"]);
    assert_eq!(f.run("UPDATE log SET line = 'c' WHERE line = 'a'").await, 2);
    assert_eq!(f.run("DELETE FROM log WHERE line = 'b'").await, 1);
    assert_eq!(f.rows("SELECT line, count(*) FROM log GROUP BY line").await, ["c|2"]);
    assert_eq!(f.fails("SELECT _rowid FROM log").await.code, "42703");
}
