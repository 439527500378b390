//! Queries that run on three nodes give what one node gives: every shape of plan, from every node.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use futures::TryStreamExt;
use parking_lot::Mutex;
use pyralog_models::distributed::{Carrier, Worker, WorkerChannel, in_process};
use pyralog_models::{Database, DatabaseConfig, Error, Parameters, PeerConfig, Session};

use crate::colocated::COLOCATED;

/// Workers by node.
type Workers = Arc<Mutex<HashMap<u64, Worker>>>;

/// Reaches the nodes of this process.
struct InProcess(Workers);

#[async_trait]
impl Carrier for InProcess {
    async fn channel(&self, node: u64) -> DataFusionResult<Box<dyn WorkerChannel>> {
        let worker = self.0.lock().get(&node).cloned();
        worker
            .map(in_process)
            .ok_or_else(|| DataFusionError::Execution(format!("node {node} is gone")))
    }
}

pub struct Cluster {
    pub nodes: Vec<Database>,
    pub workers: Workers,
    _dirs: Vec<tempfile::TempDir>,
}

impl Cluster {
    /// Three nodes that know each other.
    pub async fn start(partitions: u32) -> Cluster {
        let (mut nodes, mut dirs, mut addresses) = (Vec::<Database>::new(), Vec::new(), Vec::new());
        let workers = Workers::default();
        for _ in 0..3 {
            let dir = tempfile::tempdir().unwrap();
            let config = DatabaseConfig {
                partitions,
                memory_limit: 256_000_000,
                threads: 2,
                peer: Some(PeerConfig {
                    listen: "127.0.0.1:0".parse().unwrap(),
                    advertise: None,
                    join: addresses.clone(),
                    node_id: None,
                    tls: None,
                    snapshot_rate: 0,
                }),
                ..DatabaseConfig::new(dir.path())
            };
            let node = Database::open_with(config).await.unwrap();
            let id = node.status().node.node_id;
            until(|| {
                let status = node.status().node;
                status.groups.iter().all(|group| group.voters.contains(&id))
            })
            .await;
            let members = node.status().node.members;
            addresses.push(members.into_iter().find(|(member, _)| *member == id).unwrap().1);
            let worker = node.distribute_by(Arc::new(InProcess(Arc::clone(&workers))));
            workers.lock().extend(worker.map(|worker| (id, worker)));
            nodes.push(node);
            dirs.push(dir);
        }
        Cluster {
            nodes,
            workers,
            _dirs: dirs,
        }
    }

    pub async fn close(self) {
        for node in &self.nodes {
            node.close().await.unwrap();
        }
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn run(session: &Session, sql: &str) -> Result<Vec<String>, Error> {
    let result = session.execute(sql, Parameters::None).await?;
    let batches: Vec<RecordBatch> = result.stream.try_collect().await.map_err(Error::from)?;
    Ok(batches.iter().flat_map(lines).collect())
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<ArrayFormatter<'_>> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let values: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            values.join("|")
        })
        .collect()
}

pub async fn session_with(node: &Database, mode: &str) -> Session {
    let session = node.session();
    run(&session, &format!("SET distributed = '{mode}'")).await.unwrap();
    session
}

/// Rows in three tables: some keys of each are not in the others, some values are null, some are the same.
pub async fn fill(session: &Session) {
    for sql in [
        "CREATE TABLE a (id BIGINT PRIMARY KEY, grp BIGINT, val DOUBLE, txt VARCHAR, day DATE)",
        "CREATE TABLE b (x BIGINT, y BIGINT, note VARCHAR, PRIMARY KEY (x, y))",
        "CREATE TABLE few (k BIGINT PRIMARY KEY, label VARCHAR)",
        "CREATE TABLE none (k BIGINT PRIMARY KEY, label VARCHAR)",
        "INSERT INTO a SELECT value, CASE WHEN value % 11 = 0 THEN NULL ELSE value % 7 END, value / 4.0, \
         CASE WHEN value % 5 = 0 THEN NULL ELSE concat('t', CAST(value % 13 AS VARCHAR)) END, \
         CAST(CAST(19723 + value % 60 AS INT) AS DATE) FROM generate_series(1, 3000)",
        "INSERT INTO b SELECT value % 900, value, concat('n', CAST(value % 17 AS VARCHAR)) FROM generate_series(1, 4000)",
        "INSERT INTO few SELECT value, concat('label ', CAST(value AS VARCHAR)) FROM generate_series(0, 5)",
        "CREATE TABLE by_p (p BIGINT, q BIGINT, v BIGINT, w VARCHAR, PRIMARY KEY (p, q)) PARTITION BY (p)",
        "INSERT INTO by_p SELECT value / 4, value % 4, value % 97, CAST(value % 3 AS VARCHAR) FROM generate_series(1, 6000)",
        "CREATE TABLE more_by_p (p BIGINT, r BIGINT, n BIGINT, PRIMARY KEY (p, r)) PARTITION BY (p)",
        "INSERT INTO more_by_p SELECT value / 3 + 200, value % 3, NULLIF(value % 40, 7) FROM generate_series(1, 5000)",
        "CREATE TABLE by_two (r BIGINT, p BIGINT, t BIGINT, PRIMARY KEY (p, r, t)) PARTITION BY (p, r)",
        "INSERT INTO by_two SELECT value % 3, value / 3 + 100, value FROM generate_series(1, 4000)",
        "CREATE TABLE small_by_p (p INT PRIMARY KEY, n BIGINT)",
        "INSERT INTO small_by_p SELECT CAST(value * 5 AS INT), value FROM generate_series(1, 300)",
        "DELETE FROM a WHERE id % 31 = 0",
        "UPDATE b SET note = NULL WHERE y % 19 = 0",
    ] {
        run(session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// Queries, and whether several nodes are expected to run them.
const QUERIES: &[(&str, bool)] = &[
    ("SELECT s.p, s.n, x.v FROM small_by_p s JOIN by_p x ON s.p = x.p", true),
    (
        "SELECT x.p, y.n, z.t FROM by_p x JOIN more_by_p y ON x.p = y.p AND x.q = y.r JOIN by_two z ON z.p = y.p AND z.r = y.r",
        true,
    ),
    ("SELECT p FROM by_p WHERE p NOT IN (SELECT p FROM more_by_p WHERE n > 3)", true),
    ("SELECT p FROM by_p WHERE p NOT IN (SELECT n FROM more_by_p WHERE p < 300)", true),
    ("SELECT x.p, y.t FROM by_p x JOIN by_two y ON x.p = y.p WHERE x.v < 30", true),
    (
        "SELECT a.p, a.r, b.t FROM more_by_p a JOIN by_two b ON a.p = b.r WHERE b.t < 300",
        true,
    ),
    ("SELECT count(*) FROM a", false),
    (
        "SELECT count(*), sum(val), min(txt), max(day), avg(grp) FROM a WHERE id > 100",
        true,
    ),
    ("SELECT grp, count(*), sum(id), count(txt) FROM a GROUP BY grp", true),
    (
        "SELECT grp, txt, count(DISTINCT day) FROM a GROUP BY grp, txt HAVING count(*) > 20",
        true,
    ),
    ("SELECT DISTINCT grp, txt FROM a", true),
    ("SELECT id, txt FROM a ORDER BY txt DESC NULLS LAST, id LIMIT 17", true),
    ("SELECT id FROM a ORDER BY id LIMIT 10 OFFSET 55", true),
    ("SELECT id FROM a ORDER BY id", true),
    ("SELECT a.id, b.y FROM a JOIN b ON a.id = b.x WHERE b.y % 3 = 0", true),
    ("SELECT a.grp, count(*) FROM a JOIN b ON a.id = b.y GROUP BY a.grp", true),
    (
        "SELECT a.id, b.note FROM a LEFT JOIN b ON a.id = b.y AND b.note = 'n3' WHERE a.id < 500",
        true,
    ),
    ("SELECT a.id, b.y FROM a RIGHT JOIN b ON a.id = b.y WHERE b.x < 40", true),
    (
        "SELECT a.id, b.y FROM a FULL JOIN b ON a.id = b.y WHERE a.id IS NULL OR b.y IS NULL",
        true,
    ),
    (
        "SELECT few.label, count(*) FROM a JOIN few ON a.grp = few.k GROUP BY few.label",
        true,
    ),
    ("SELECT few.label, a.id FROM few LEFT JOIN a ON a.grp = few.k AND a.id < 30", true),
    ("SELECT id FROM a WHERE grp IN (SELECT k FROM few WHERE label > 'label 2')", true),
    ("SELECT id FROM a WHERE grp NOT IN (SELECT k FROM few)", true),
    ("SELECT id FROM a WHERE grp NOT IN (SELECT grp FROM a WHERE id < 30)", true),
    (
        "SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.x = a.id AND b.note = 'n1')",
        true,
    ),
    (
        "SELECT id FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.y = a.id AND b.x > a.grp)",
        true,
    ),
    ("SELECT id, (SELECT count(*) FROM b WHERE b.x = a.id) FROM a WHERE id < 200", true),
    ("SELECT id FROM a WHERE val > (SELECT avg(val) FROM a)", true),
    ("SELECT (SELECT max(id) FROM a), (SELECT min(y) FROM b), count(*) FROM few", true),
    ("SELECT few.k, g.k FROM few, few g WHERE few.k < g.k", true),
    ("SELECT a.id, few.k FROM a, few WHERE a.id < few.k * 20 AND a.id > few.k * 15", true),
    (
        "SELECT id, sum(val) OVER (PARTITION BY grp ORDER BY id ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) FROM a",
        true,
    ),
    ("SELECT id, row_number() OVER (ORDER BY id) FROM a WHERE id < 700", true),
    (
        "SELECT id, rank() OVER (PARTITION BY txt ORDER BY val DESC), lag(id) OVER (PARTITION BY txt ORDER BY id) FROM a",
        true,
    ),
    ("SELECT grp, txt, count(*) FROM a GROUP BY GROUPING SETS ((grp), (txt), ())", true),
    ("SELECT grp, txt, sum(id) FROM a GROUP BY ROLLUP (grp, txt)", true),
    (
        "SELECT id FROM a WHERE id < 90 UNION ALL SELECT y FROM b WHERE y < 90 UNION ALL SELECT k FROM few",
        true,
    ),
    ("SELECT id FROM a WHERE id < 90 UNION SELECT y FROM b WHERE y < 90", true),
    ("SELECT grp FROM a INTERSECT SELECT k FROM few", true),
    ("SELECT x FROM b EXCEPT SELECT id FROM a", true),
    ("SELECT count(*) FROM a WHERE id IN (SELECT k FROM none)", true),
    (
        "SELECT a.id FROM a LEFT JOIN none ON a.id = none.k WHERE none.label IS NULL AND a.id < 50",
        true,
    ),
    ("SELECT count(*), max(label) FROM none", false),
    ("SELECT * FROM none", false),
    ("SELECT id, val FROM a WHERE id = 77", false),
    ("SELECT id, val FROM a WHERE id IN (3, 5, 7000)", false),
    (
        "WITH t AS (SELECT grp, sum(id) s FROM a GROUP BY grp) SELECT t1.grp, t2.s FROM t t1 JOIN t t2 ON t1.grp = t2.grp",
        true,
    ),
    ("SELECT sum(id + 1), sum(id * grp), sum(-id) FROM a", true),
    (
        "SELECT day, count(*) FROM a WHERE day BETWEEN '2024-01-10' AND '2024-02-01' GROUP BY day ORDER BY day",
        true,
    ),
    (
        "SELECT upper(txt), length(txt), count(*) FROM a WHERE txt LIKE 't1%' GROUP BY 1, 2",
        true,
    ),
    ("SELECT array_agg(id ORDER BY id) FROM a WHERE id < 40", true),
    ("SELECT string_agg(txt, ',' ORDER BY id) FROM a WHERE id < 40", true),
    ("SELECT median(id), stddev(val), approx_distinct(grp) FROM a", true),
    (
        "SELECT count(*) FILTER (WHERE grp = 3), sum(val) FILTER (WHERE txt IS NULL) FROM a",
        true,
    ),
    ("SELECT 1 FROM a LIMIT 3", true),
    (
        "SELECT id, sum(val) FILTER (WHERE id % 2 = 0) OVER (PARTITION BY grp ORDER BY id) FROM a",
        false,
    ),
    (
        "SELECT id, last_value(txt) IGNORE NULLS OVER (PARTITION BY grp ORDER BY id) FROM a",
        false,
    ),
    (
        "SELECT id, sum(id) OVER (PARTITION BY grp ORDER BY id), lag(id) OVER (PARTITION BY grp ORDER BY id DESC) FROM a",
        true,
    ),
    (
        "SELECT id, lag(id) OVER (PARTITION BY grp ORDER BY id), sum(id) OVER (PARTITION BY grp ORDER BY id DESC) FROM a",
        false,
    ),
    (
        "SELECT id, max(id) OVER (PARTITION BY grp ORDER BY id), nth_value(id, 2) OVER (PARTITION BY grp ORDER BY id DESC \
         ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM a",
        true,
    ),
    (
        "SELECT id, sum(val) OVER (PARTITION BY grp ORDER BY id) FROM a WHERE grp = 3",
        false,
    ),
    ("SELECT id, (SELECT label FROM few WHERE k = 3) FROM a WHERE id < 40", false),
    ("SELECT id, (SELECT label FROM few WHERE k > 77) FROM a WHERE id < 40", false),
    ("SELECT id FROM a WHERE grp = (SELECT k FROM few ORDER BY k LIMIT 1)", true),
    ("SELECT count(*) FROM (SELECT id FROM a LIMIT 9223372036854775807 OFFSET 1)", false),
    ("SELECT count(*) FROM (SELECT id FROM a WHERE val > 3 LIMIT 4294967296)", false),
    (
        "SELECT grp, count(*) FROM a GROUP BY grp UNION ALL SELECT x, count(*) FROM b GROUP BY x",
        true,
    ),
    (
        "SELECT id, sum(n), count(*) FROM (SELECT x id, count(*) n FROM b GROUP BY x) GROUP BY id",
        true,
    ),
    ("SELECT p, sum(v), count(*) FROM by_p GROUP BY p", true),
    (
        "SELECT p, w, sum(v) FROM by_p WHERE v % 3 = 1 GROUP BY w, p ORDER BY p, w LIMIT 30",
        true,
    ),
    (
        "SELECT count(*), max(s) FROM (SELECT p, sum(v) s FROM by_p GROUP BY p) x JOIN a ON a.id = x.p",
        true,
    ),
    (
        "SELECT a.txt, b.note, count(*) FROM a JOIN b ON a.id = b.y JOIN few ON few.k = a.grp GROUP BY a.txt, b.note ORDER BY 3 DESC, 1, 2 LIMIT 5",
        true,
    ),
];

/// Sums of floating-point numbers come in another order: what is the same in ten digits is the same.
fn rounded(rows: Vec<String>) -> Vec<String> {
    let round = |value: &str| match value.parse::<f64>() {
        Ok(number) if value.contains('.') => format!("{number:.8e}"),
        _ => value.to_owned(),
    };
    let rows = rows.iter().map(|row| row.split('|').map(round).collect::<Vec<_>>().join("|"));
    rows.collect()
}

async fn compare(node: &Database, when: &str) {
    let (alone, together) = (session_with(node, "off").await, session_with(node, "always").await);
    let mut wrong = Vec::new();
    let colocated = COLOCATED.iter().map(|sql| (*sql, true));
    for (sql, is_distributed) in QUERIES.iter().copied().chain(colocated) {
        let before = node.status();
        let expected = run(&alone, sql).await.map(rounded);
        let found = run(&together, sql).await.map(rounded);
        let after = node.status();
        let (mut expected, mut found) = match (expected, found) {
            (Ok(expected), Ok(found)) => (expected, found),
            (expected, found) => panic!("{when}: {sql}: {expected:?} and {found:?}"),
        };
        if !sql.contains("ORDER BY id") && !sql.contains("ORDER BY txt") && !sql.contains("ORDER BY day") || sql.contains("OVER") {
            expected.sort();
            found.sort();
        }
        if expected != found {
            wrong.push(format!(
                "{sql}: {} rows and {}: {:?} {:?}",
                expected.len(),
                found.len(),
                expected.first(),
                found.first()
            ));
        }
        let sent = after.distributed_queries - before.distributed_queries;
        let fell_back = after.distributed_fallbacks - before.distributed_fallbacks;
        if sent != u64::from(is_distributed) || fell_back > 0 {
            wrong.push(format!("{sql}: sent {sent} times, fell back {fell_back} times"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{when}: {} of {}:\n{}",
        wrong.len(),
        QUERIES.len() + COLOCATED.len(),
        wrong.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_give_what_one_node_gives() {
    let cluster = Cluster::start(4).await;
    fill(&cluster.nodes[0].session()).await;
    compare(&cluster.nodes[0], "rows in memory, first node").await;
    compare(&cluster.nodes[2], "rows in memory, third node").await;
    // Segments of the replicas differ from now on.
    run(&cluster.nodes[1].session(), "CHECKPOINT").await.unwrap();
    run(&cluster.nodes[1].session(), "COMPACT").await.unwrap();
    run(&cluster.nodes[0].session(), "DELETE FROM b WHERE y % 41 = 0").await.unwrap();
    compare(&cluster.nodes[0], "segments at one node").await;
    cluster.close().await;
}

/// A worker's error arrives as what it was, and is told as one node would tell it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_keep_their_codes() {
    let cluster = Cluster::start(4).await;
    fill(&cluster.nodes[0].session()).await;
    let node = &cluster.nodes[1];
    let (alone, together) = (session_with(node, "off").await, session_with(node, "always").await);
    for sql in [
        "SELECT sum(id / (id - 50)) FROM a",
        "SELECT sum(9223372036854775800 + id) FROM a",
        "SELECT sum(CAST(txt AS BIGINT)) FROM a",
        "SELECT sum(id * 9223372036854775) FROM a",
        "SELECT id, (SELECT k FROM few) FROM a",
        "SELECT id FROM a WHERE grp = (SELECT k FROM few WHERE k < 3)",
        "SELECT id, (SELECT 1 UNION ALL SELECT max(k) FROM few) FROM a",
        "SELECT id, (SELECT coalesce(x.k, y.k) FROM (SELECT max(k) k FROM few) x FULL JOIN (SELECT min(k) k FROM few) y ON x.k = y.k) FROM a",
        "SELECT id, (SELECT sum(k) FROM (SELECT max(k) k FROM few) s GROUP BY ROLLUP (k)) FROM a",
    ] {
        let sent = node.status().distributed_queries;
        let (expected, found) = (run(&alone, sql).await.unwrap_err(), run(&together, sql).await.unwrap_err());
        assert_eq!(
            (expected.code, expected.kind),
            (found.code, found.kind),
            "{sql}: {expected} and {found}"
        );
        assert!(node.status().distributed_queries > sent || sql.contains("few"), "{sql}: {expected}");
    }
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_helpers_answers_alone() {
    let cluster = Cluster::start(4).await;
    fill(&cluster.nodes[0].session()).await;
    let node = &cluster.nodes[0];
    let session = session_with(node, "always").await;
    let sql = "SELECT grp, count(*), sum(id) FROM a GROUP BY grp ORDER BY grp";
    let expected = run(&session, sql).await.unwrap();
    assert_eq!(node.status().distributed_fallbacks, 0);
    // Its worker does not answer, though the node is there.
    cluster.workers.lock().remove(&cluster.nodes[2].status().node.node_id);
    assert_eq!(run(&session, sql).await.unwrap(), expected);
    assert_eq!(node.status().distributed_fallbacks, 1);
    cluster.close().await;
}

/// All nodes of a query read one state, which is the newest when it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_read_one_state() {
    let cluster = Cluster::start(4).await;
    run(
        &cluster.nodes[0].session(),
        "CREATE TABLE account (id BIGINT PRIMARY KEY, balance BIGINT)",
    )
    .await
    .unwrap();
    run(
        &cluster.nodes[0].session(),
        "INSERT INTO account SELECT value, 100 FROM generate_series(1, 200)",
    )
    .await
    .unwrap();
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|number| {
            let (session, is_over) = (cluster.nodes[number].session(), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut moved = 0u64;
                let mut next = number as u64 + 1;
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let (from, to) = ((next >> 33) % 200 + 1, (next >> 13) % 200 + 1);
                    let sql = format!(
                        "UPDATE account SET balance = CASE WHEN id = {from} THEN balance - 7 ELSE balance + 7 END WHERE id IN ({from}, {to})"
                    );
                    moved += u64::from(from != to && run(&session, &sql).await.is_ok());
                }
                moved
            })
        })
        .collect();
    let begun = Instant::now();
    let mut reads = 0;
    while begun.elapsed() < Duration::from_secs(8) {
        let session = session_with(&cluster.nodes[reads % 3], "always").await;
        let found = run(&session, "SELECT sum(balance), count(*) FROM account").await.unwrap();
        assert_eq!(found, ["20000|200"], "read {reads}");
        // A write that was acknowledged is seen through any node.
        let mark = format!("UPDATE account SET balance = balance WHERE id = {}", reads % 200 + 1);
        let _conflict = run(&session, &mark).await;
        reads += 1;
    }
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut moved = 0;
    for writer in writers {
        moved += writer.await.unwrap();
    }
    let sent: u64 = cluster.nodes.iter().map(|node| node.status().distributed_queries).sum();
    let alone: u64 = cluster.nodes.iter().map(|node| node.status().distributed_fallbacks).sum();
    assert!(moved > 10 && reads > 5, "{moved} transfers, {reads} reads");
    assert!(
        sent >= reads as u64 && alone * 20 <= sent,
        "{sent} distributed, {alone} of them alone in the end"
    );
    cluster.close().await;
}

/// Bytes of query memory that are in use, and the oldest timestamp that anybody keeps, at every node.
fn is_idle(cluster: &Cluster) -> bool {
    cluster.nodes.iter().all(|node| {
        let status = node.status();
        status.query_memory_bytes == 0 && status.distributed_tasks == 0
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_behind_is_let_go() {
    let cluster = Cluster::start(4).await;
    fill(&cluster.nodes[0].session()).await;
    let session = session_with(&cluster.nodes[0], "always").await;
    run(&session, "SELECT txt, count(*) FROM a GROUP BY txt").await.unwrap();
    // Soon: a query that comes next must not find the memory of this one taken.
    let begun = Instant::now();
    until(|| is_idle(&cluster)).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // Left after the first rows, before them, and by a time limit.
    let slow = "SELECT count(*), sum(a.id + c.y) FROM a JOIN b ON a.grp = b.x % 7 JOIN b c ON a.grp = c.x % 7";
    for round in 0..6 {
        let result = session.execute("SELECT a.id, b.y FROM a, b", Parameters::None).await.unwrap();
        let mut stream = result.stream;
        if round % 2 == 0 {
            stream.try_next().await.unwrap();
        }
        drop(stream);
        run(&session, "SET statement_timeout = '300ms'").await.unwrap();
        let begun = Instant::now();
        let error = run(&session, slow).await.unwrap_err();
        assert_eq!(error.code, "57014", "{error}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        run(&session, "SET statement_timeout = '0'").await.unwrap();
    }
    until(|| is_idle(&cluster)).await;
    assert!(cluster.nodes[0].status().distributed_queries >= 12);
    cluster.close().await;
}
