//! `PARTITION BY`: rows are placed by the first columns of the primary key.

use pyralog_models::{Database, DatabaseConfig};

use crate::fixture::{Fixture, rows, run};

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

/// A table whose rows lie by their first key column, and one whose rows lie by all.
async fn partitioned(partitions: u32) -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let config = DatabaseConfig {
        partitions,
        threads: 2,
        ..DatabaseConfig::new(dir.path())
    };
    let db = Database::open_with(config).await.unwrap();
    let session = db.session();
    for sql in [
        "CREATE TABLE item (o BIGINT, l BIGINT, q BIGINT, t VARCHAR, PRIMARY KEY (o, l)) PARTITION BY (o)",
        "CREATE TABLE other (o BIGINT, l BIGINT, q BIGINT, t VARCHAR, PRIMARY KEY (o, l))",
        "CREATE TABLE real (f DOUBLE, l BIGINT, PRIMARY KEY (f, l)) PARTITION BY (f)",
        "INSERT INTO item SELECT value / 5, value % 5, value * 7 % 100, CAST(value % 13 AS VARCHAR) FROM generate_series(1, 40000)",
        "INSERT INTO other SELECT * FROM item",
        "INSERT INTO real SELECT value % 1000, value FROM generate_series(1, 20000)",
        "DELETE FROM item WHERE o % 97 = 0",
        "DELETE FROM other WHERE o % 97 = 0",
    ] {
        run(&session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    (dir, db)
}

#[tokio::test]
async fn groups_that_are_whole_in_a_partition_are_made_there() {
    // Few partitions are read in the order of keys, each by a stream; more are shared by the streams.
    for partitions in [4, 8] {
        made_in_partitions(partitions).await;
    }
}

async fn made_in_partitions(partitions: u32) {
    let (_dir, db) = partitioned(partitions).await;
    let session = db.session();
    // The query with {t} for the table, and whether its groups are made in partitions.
    let queries = [
        ("SELECT o, sum(q), count(*) FROM {t} GROUP BY o", true),
        ("SELECT o, t, sum(q) FROM {t} GROUP BY t, o", true),
        ("SELECT DISTINCT o FROM {t}", true),
        ("SELECT o AS k, min(t) FROM (SELECT t, o FROM {t} WHERE q > 10) GROUP BY 1", true),
        ("SELECT o, count(DISTINCT t) FROM {t} GROUP BY o", true),
        (
            "SELECT o, sum(q) s FROM {t} GROUP BY o HAVING sum(q) > 150 ORDER BY s DESC, o LIMIT 7",
            true,
        ),
        ("SELECT l, sum(q) FROM {t} GROUP BY l", false),
        ("SELECT o + 1, sum(q) FROM {t} GROUP BY o + 1", false),
        ("SELECT o, t, sum(q) FROM {t} GROUP BY ROLLUP (o, t)", false),
        ("SELECT sum(s) FROM (SELECT o, sum(q) s FROM {t} GROUP BY o)", true),
        (
            "SELECT o, sum(q) FROM {t} GROUP BY o UNION ALL SELECT o, count(*) FROM {t} GROUP BY o",
            false,
        ),
        (
            "SELECT o, s, rank() OVER (PARTITION BY o ORDER BY s) FROM (SELECT o, t, sum(q) s FROM {t} GROUP BY o, t)",
            true,
        ),
        (
            "SELECT a.o, a.s, b.c FROM (SELECT o, sum(q) s FROM {t} GROUP BY o) a JOIN (SELECT o, count(*) c FROM {t} GROUP BY o) b ON a.o = b.o",
            false,
        ),
        (
            "SELECT x.o, s FROM {t} x JOIN (SELECT o, sum(q) s FROM {t} GROUP BY o) y ON x.o = y.o WHERE x.l = 1",
            false,
        ),
        (
            "SELECT o FROM {t} WHERE o IN (SELECT o FROM {t} GROUP BY o HAVING sum(q) > 200)",
            false,
        ),
        (
            "SELECT o, c FROM (SELECT o, count(*) c FROM {t} GROUP BY o) a FULL JOIN (SELECT l, sum(q) z FROM {t} GROUP BY l) b ON a.o = b.l",
            false,
        ),
    ];
    // Joins over shuffled sides as well as over collected ones.
    for shared in ["1048576", "0"] {
        for setting in ["hash_join_single_partition_threshold", "hash_join_single_partition_threshold_rows"] {
            run(&session, &format!("SET datafusion.optimizer.{setting} = {shared}"))
                .await
                .unwrap();
        }
        for (query, in_partitions) in &queries {
            let (by_first, by_all) = (query.replace("{t}", "item"), query.replace("{t}", "other"));
            let (mut found, mut expected) = (rows(&session, &by_first).await.unwrap(), rows(&session, &by_all).await.unwrap());
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{query}");
            let plan = rows(&session, &format!("EXPLAIN {by_first}")).await.unwrap().join("\n");
            if *in_partitions {
                assert!(
                    plan.contains("SinglePartitioned") && !plan.contains("FinalPartitioned"),
                    "{query}: {plan}"
                );
                assert_eq!(plan.contains("access=views"), partitions == 8, "{query}: {plan}");
            }
            let plan = rows(&session, &format!("EXPLAIN {by_all}")).await.unwrap().join("\n");
            assert!(
                !plan.contains("access=views") && !plan.contains("SinglePartitioned"),
                "{query}: {plan}"
            );
        }
    }
    let plan = rows(&session, "EXPLAIN SELECT f, count(*) FROM real GROUP BY f")
        .await
        .unwrap()
        .join("\n");
    assert!(!plan.contains("access=views"), "zeros with a sign: {plan}");
    db.close().await.unwrap();
}

#[tokio::test]
async fn partitions_that_have_most_rows_are_shared() {
    let (_dir, db) = partitioned(8).await;
    let session = db.session();
    run(
        &session,
        "INSERT INTO item SELECT 1, value + 10, 1, 'x' FROM generate_series(1, 300000)",
    )
    .await
    .unwrap();
    let plan = rows(&session, "EXPLAIN SELECT o, sum(q) FROM item GROUP BY o")
        .await
        .unwrap()
        .join("\n");
    assert!(!plan.contains("access=views"), "{plan}");
    db.close().await.unwrap();
}
