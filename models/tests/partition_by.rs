//! `PARTITION BY`: rows are placed by the first columns of the primary key.

use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_one_partition_key_are_together_and_found() {
    let mut f = Fixture::new().await;
    f.run("CREATE TABLE t (a BIGINT, b BIGINT, c VARCHAR, PRIMARY KEY (a, b)) PARTITION BY (a)")
        .await;
    f.run("CREATE TABLE spread (a BIGINT, b BIGINT, c VARCHAR, PRIMARY KEY (a, b)) PARTITION BY HASH (b, a)")
        .await;
    for table in ["t", "spread"] {
        f.run(&format!(
            "INSERT INTO {table} SELECT 7, v, 'some text ' || v FROM generate_series(1, 5000) AS s(v)"
        ))
        .await;
    }
    f.run("CHECKPOINT").await;
    // Data groups, and those of them that have segments.
    let filled = async |f: &Fixture| {
        let groups = f.rows("SHOW PARTITIONS").await;
        let segments = groups[1..].iter().map(|group| group.split('|').nth(5).unwrap() != "0");
        (groups.len() - 1, segments.filter(|has_some| *has_some).count())
    };
    let (partitions, all) = filled(&f).await;
    assert_eq!(all, partitions, "rows of the other table are everywhere");
    f.run("DROP TABLE spread").await;
    assert_eq!(filled(&f).await, (partitions, 1));
    for round in 0..3 {
        assert_eq!(
            f.rows("SELECT c FROM t WHERE a = 7 AND b = 4321").await,
            ["some text 4321"],
            "{round}"
        );
        assert_eq!(f.rows("SELECT count(*), min(b), max(b) FROM t WHERE a = 7").await, ["5000|1|5000"]);
        assert_eq!(f.fails("INSERT INTO t (a, b) VALUES (7, 17)").await.code, "23505");
        assert_eq!(f.run("UPDATE t SET c = 'new' WHERE a = 7 AND b = 17").await, 1);
        assert_eq!(
            f.run("INSERT INTO t (a, b, c) VALUES (7, 17, 'upsert') ON CONFLICT (a, b) DO UPDATE SET c = excluded.c")
                .await,
            1
        );
        assert_eq!(f.rows("SELECT c FROM t WHERE b = 17").await, ["upsert"]);
        assert_eq!(f.run("DELETE FROM t WHERE a = 7 AND b = 17").await, 1);
        f.run("INSERT INTO t (a, b, c) VALUES (7, 17, 'again')").await;
        // Changes of the other columns leave rows where they are.
        match round {
            0 => {
                f.run("ALTER TABLE t ADD COLUMN d INT").await;
                f.run("ALTER TABLE t RENAME COLUMN d TO e").await;
            }
            _ => {
                f.run("CHECKPOINT").await;
                f = f.reopen().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_key_is_the_first_columns_of_the_primary_key() {
    let f = Fixture::new().await;
    for wrong in ["(b)", "(a, c)", "(c)", "(a, a)", "(a + 1)", "RANGE (a)", "HASH ()"] {
        let error = f
            .fails(&format!(
                "CREATE TABLE t (a BIGINT, b BIGINT, c BIGINT, PRIMARY KEY (a, b)) PARTITION BY {wrong}"
            ))
            .await;
        assert!(matches!(error.code, "42P16" | "42601"), "{wrong}: {error}");
    }
    assert_eq!(f.fails("CREATE TABLE t (a BIGINT) PARTITION BY (a)").await.code, "42P16");
    assert_eq!(f.fails("CREATE TABLE t PARTITION BY (a) AS SELECT 1 AS a").await.code, "0A000");
    f.run("CREATE TABLE t (a BIGINT, b BIGINT, PRIMARY KEY (a, b)) PARTITION BY (a, b)")
        .await;
    f.run("INSERT INTO t VALUES (1, 1)").await;
    let wrong = "CREATE OR REPLACE TABLE t (a BIGINT, b BIGINT, PRIMARY KEY (a, b)) PARTITION BY (b)";
    assert_eq!(f.fails(wrong).await.code, "42P16");
    assert_eq!(
        f.rows("SELECT * FROM t").await,
        ["1|1"],
        "a table is replaced by one that can be made only"
    );
}
