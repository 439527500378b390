//! Joins by the partition keys of tables are made where the rows are.

use pyralog_models::Session;

use crate::distributed::{Cluster, fill, run, session_with};

/// Joins by partition keys: each task joins what it reads.
pub const COLOCATED: &[&str] = &[
    "SELECT x.p, x.q, y.n FROM by_p x JOIN more_by_p y ON x.p = y.p",
    "SELECT x.p, y.n FROM by_p x JOIN more_by_p y ON y.p = x.p AND x.q = y.r WHERE x.v > 20 AND y.n < 30",
    "SELECT x.p, y.n FROM by_p x JOIN more_by_p y ON x.p = y.p AND x.v > y.n",
    "SELECT x.p, x.q, y.n FROM by_p x LEFT JOIN more_by_p y ON x.p = y.p AND y.n = 5",
    "SELECT y.p, x.v FROM by_p x RIGHT JOIN more_by_p y ON x.p = y.p AND x.w = '1'",
    "SELECT x.p, y.p, y.n FROM by_p x FULL JOIN more_by_p y ON x.p = y.p",
    "SELECT p, q FROM by_p WHERE p IN (SELECT p FROM more_by_p WHERE n = 3)",
    "SELECT p, r FROM more_by_p y WHERE NOT EXISTS (SELECT 1 FROM by_p x WHERE x.p = y.p AND x.v < 50)",
    "SELECT x.r, y.t FROM by_two x JOIN by_two y ON y.p = x.p AND y.r = x.r AND x.t < y.t + 9",
    "SELECT x.p, y.n, z.v FROM by_p x JOIN more_by_p y ON x.p = y.p JOIN by_p z ON z.p = x.p AND z.q = 2",
    "SELECT s.p, s.t, x.n FROM (SELECT p, sum(v) t FROM by_p GROUP BY p HAVING sum(v) > 100) s JOIN more_by_p x ON s.p = x.p",
    "SELECT x.p AS one, y.p AS other, x.v + y.n FROM (SELECT p, v FROM by_p WHERE v % 2 = 0) x JOIN more_by_p y ON x.p = y.p",
];

/// What reads joins by partition keys, and relies on how these divide their rows.
const OVER_COLOCATED: &[&str] = &[
    "SELECT x.p, count(*), sum(y.n) FROM by_p x JOIN more_by_p y ON x.p = y.p GROUP BY x.p",
    "SELECT y.p, x.q, count(*) FROM by_p x JOIN more_by_p y ON x.p = y.p AND x.q = y.r GROUP BY y.p, x.q",
    "SELECT x.p, sum(y.n) OVER (PARTITION BY x.p ORDER BY x.q, y.r) FROM by_p x JOIN more_by_p y ON x.p = y.p",
    "SELECT x.p, y.n, z.t FROM by_p x JOIN more_by_p y ON x.p = y.p JOIN by_two z ON z.p = x.p",
    "SELECT g.p, g.c, z.t FROM (SELECT x.p, count(*) c FROM by_p x JOIN more_by_p y ON x.p = y.p GROUP BY x.p) g JOIN by_two z ON z.p = g.p",
    "SELECT x.p, x.q FROM by_p x WHERE x.p IN (SELECT p FROM more_by_p WHERE n = 3) OR x.v = 1",
    "SELECT count(*) FROM (SELECT x.p FROM by_p x LEFT JOIN more_by_p y ON x.p = y.p LIMIT 50)",
    "SELECT a.p, s.n FROM by_p a JOIN (SELECT * FROM more_by_p r WHERE r.p IN (SELECT n * 20 FROM more_by_p)) s ON a.p = s.p",
    "SELECT x.p FROM by_p x JOIN more_by_p y ON x.p = y.p UNION ALL SELECT p FROM by_two",
];

/// Where partition keys are compared, no side of a join changes nodes, whether its table is small or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_by_partition_keys_stay_where_the_rows_are() {
    let cluster = Cluster::start(8).await;
    fill(&cluster.nodes[0].session()).await;
    let (alone, session) = (
        session_with(&cluster.nodes[0], "off").await,
        session_with(&cluster.nodes[1], "always").await,
    );
    let sorted = |mut rows: Vec<String>| {
        rows.sort();
        rows
    };
    for table_rows in [1_000_000, 0] {
        for option in ["", "_rows"] {
            let sql = format!("SET datafusion.optimizer.hash_join_single_partition_threshold{option} = {table_rows}");
            run(&session, &sql).await.unwrap();
        }
        let before = cluster.nodes[1].status();
        for sql in COLOCATED.iter().chain(OVER_COLOCATED) {
            let (expected, found) = (run(&alone, sql).await.unwrap(), run(&session, sql).await.unwrap());
            assert_eq!(sorted(found), sorted(expected), "{sql}, tables of {table_rows} rows");
        }
        let after = cluster.nodes[1].status();
        assert_eq!(after.distributed_fallbacks, before.distributed_fallbacks);
        let sent = after.distributed_queries - before.distributed_queries;
        assert_eq!(sent, (COLOCATED.len() + OVER_COLOCATED.len()) as u64);
        // Groups whose streams a divided join relies on are shuffled for it.
        for sql in COLOCATED.iter().filter(|sql| table_rows > 0 || !sql.contains("GROUP BY")) {
            let stages = stages(&session, sql).await;
            let mode = if table_rows > 0 { "CollectLeft" } else { "Partitioned" };
            assert!(stages.contains(&format!("HashJoinExec: mode={mode}")), "{sql}: {stages}");
            assert!(!stages.contains("Broadcast") && !stages.contains("Shuffle"), "{sql}: {stages}");
        }
    }
    // What is grouped by the key of such a join is whole in its streams.
    let grouped = stages(&session, OVER_COLOCATED[0]).await;
    assert!(!grouped.contains("Shuffle"), "{grouped}");
    let elsewhere = [
        "SELECT s.p, x.v FROM small_by_p s JOIN by_p x ON s.p = x.p",
        "SELECT x.p, y.t FROM by_p x JOIN by_two y ON x.p = y.p",
        "SELECT x.p, y.t FROM more_by_p x JOIN by_two y ON x.p = y.r AND x.r = y.p",
    ];
    for sql in elsewhere {
        let stages = stages(&session, sql).await;
        assert!(stages.contains("Broadcast") || stages.contains("Shuffle"), "{sql}: {stages}");
    }
    cluster.close().await;
}

async fn stages(session: &Session, sql: &str) -> String {
    let plan = run(session, &format!("EXPLAIN {sql}")).await.unwrap().join("\n");
    let (_, stages) = plan.split_once("distributed_plan").unwrap_or_else(|| panic!("{sql}: {plan}"));
    stages.to_owned()
}
