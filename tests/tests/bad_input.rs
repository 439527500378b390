//! Wrong, huge and deep statements: each a clear error (or the right answer), in bounded time and memory; afterwards the server
//! still answers and nothing is lost.

use std::time::Duration;

use pyralog_client::{Client, ClientError, ErrorKind};
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::{Server, ServerOptions};

/// How long any of these may take.
const WITHIN: Duration = Duration::from_secs(60);

async fn prepared(server: &Server) -> Client {
    let db = server
        .client_with_table("t (id BIGINT PRIMARY KEY, small SMALLINT, n INT NOT NULL, d DATE)")
        .await;
    db.sql("INSERT INTO t VALUES (1, 1, 10, DATE '2026-01-01'), (2, 2, 20, NULL)")
        .execute()
        .await
        .unwrap();
    db
}

/// The server answers, and the rows are those that were there.
async fn unharmed(server: &mut Server) {
    assert!(server.is_alive(), "the server is gone:\n{}", server.output());
    server.assert_no_panic();
    let db = server.client().await;
    let row = db
        .sql("SELECT count(*), sum(n) FROM t")
        .timeout(WITHIN)
        .fetch_optional()
        .await
        .unwrap()
        .unwrap();
    assert_eq!((row.get::<i64>(0).unwrap(), row.get::<i64>(1).unwrap()), (2, 30));
}

async fn failing(db: &Client, sql: &str) -> ClientError {
    let shown: String = sql.chars().take(80).collect();
    let fetched = db.sql(sql).timeout(WITHIN).fetch_all().await;
    let error = fetched.map(|batches| batches.len()).expect_err(&shown);
    assert!(
        !error.message().is_empty() && error.message().len() < 10_000,
        "{shown}: {} bytes of message",
        error.message().len()
    );
    assert!(
        !matches!(
            error.kind(),
            ErrorKind::Internal | ErrorKind::Unavailable | ErrorKind::DeadlineExceeded
        ),
        "{shown}: {error:?}"
    );
    error
}

#[test]
fn wrong_statements_have_codes() {
    let mut server = Server::start();
    block_on(async {
        let db = prepared(&server).await;
        let cases = [
            ("SELECT * FROM nowhere", "42P01"),
            ("SELECT nothing FROM t", "42703"),
            ("SELEC 1", "42601"),
            ("SELECT 'open", "42601"),
            ("", "42601"),
            ("SELECT n FROM t; SELECT n FROM t", "42601"),
            ("INSERT INTO t VALUES (1, 1, 1, NULL)", "23505"),
            ("INSERT INTO t VALUES (3, 1, NULL, NULL)", "23502"),
            ("INSERT INTO t VALUES (3, 70000, 1, NULL)", "22003"),
            ("INSERT INTO t VALUES (3, 1, 'many', NULL)", "22P02"),
            ("SELECT 1 / 0", "22012"),
            ("SELECT n % 0 FROM t", "22012"),
            ("SELECT CAST('x' AS INT)", "22P02"),
            ("SELECT CAST(300 AS TINYINT)", "22003"),
            ("SELECT 9223372036854775807 + id FROM t", "22003"),
            ("CREATE TABLE t (a INT)", "42P07"),
            ("SELECT no_such_function(1)", "42883"),
        ];
        let mut wrong = Vec::new();
        for (sql, code) in cases {
            let error = failing(&db, sql).await;
            if error.code() != Some(code) {
                wrong.push(format!("{sql}: {error} instead of {code}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        unharmed(&mut server).await;
    });
}

#[test]
fn errors_help() {
    let server = Server::start();
    block_on(async {
        let db = prepared(&server).await;
        let error = failing(&db, "SELECT smal FROM t").await;
        assert!(
            error.message().contains("\"small\"") || error.message().contains("small?"),
            "no nearest name: {error}"
        );
        let error = failing(&db, "SELECT 1,\n  FORM t").await;
        assert!(error.message().contains("line 2"), "no place: {error}");
        let error = failing(&db, "INSERT INTO t VALUES (2, 1, 1, NULL)").await;
        assert!(
            error.message().contains('2') && error.message().to_lowercase().contains("key"),
            "no key: {error}"
        );
    });
}

/// Runs a statement that is right but huge: the right answer, or a clear error.
async fn right_or_refused(db: &Client, what: &str, sql: String, right: i64) {
    match db.sql(sql).timeout(WITHIN).fetch_scalar::<i64>().await {
        Ok(answer) => assert_eq!(answer, right, "{what}"),
        Err(error) => {
            let clear = matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::ResourceExhausted | ErrorKind::Unsupported
            );
            assert!(
                clear && error.code().is_some() && error.message().len() < 10_000,
                "{what}: {error:?}"
            );
        }
    }
}

#[test]
fn huge_and_deep_statements_do_no_harm() {
    let mut server = Server::start();
    block_on(async {
        let db = prepared(&server).await;
        let ones = |n: usize| vec!["1"; n].join("+");
        let ors = |n: usize| (0..n).map(|i| format!("id = {i}")).collect::<Vec<_>>().join(" OR ");
        let ten_megabytes = "x".repeat(10 << 20);
        right_or_refused(&db, "10 MB literal", format!("SELECT length('{ten_megabytes}')"), 10 << 20).await;
        unharmed(&mut server).await;
        right_or_refused(&db, "10 MB comment", format!("SELECT 7 /* {ten_megabytes} */"), 7).await;
        unharmed(&mut server).await;
        right_or_refused(&db, "1+1+… 20,000", format!("SELECT {}", ones(20_000)), 20_000).await;
        unharmed(&mut server).await;
        right_or_refused(
            &db,
            "100,000 parentheses",
            format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
            1,
        )
        .await;
        unharmed(&mut server).await;
        right_or_refused(&db, "100,000 open parentheses", format!("SELECT {}", "(".repeat(100_000)), -1).await;
        unharmed(&mut server).await;
        right_or_refused(&db, "20,000 ORs", format!("SELECT count(*) FROM t WHERE {}", ors(20_000)), 2).await;
        unharmed(&mut server).await;
        let list = (0..50_000).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
        right_or_refused(&db, "50,000 in a list", format!("SELECT count(*) FROM t WHERE id IN ({list})"), 2).await;
        unharmed(&mut server).await;
        let nots = format!("SELECT count(*) FROM t WHERE {} id = 1", "NOT ".repeat(20_000));
        right_or_refused(&db, "20,000 NOTs", nots, 1).await;
        unharmed(&mut server).await;
        let selects = format!("SELECT count(*) FROM {}t{}", "(SELECT * FROM ".repeat(2_000), ")".repeat(2_000));
        right_or_refused(&db, "2,000 subqueries", selects, 2).await;
        unharmed(&mut server).await;
        let unions = format!("SELECT count(*) FROM ({})", vec!["SELECT 1 AS a"; 5_000].join(" UNION ALL "));
        right_or_refused(&db, "5,000 unions", unions, 5_000).await;
        unharmed(&mut server).await;
        let arrays = format!("SELECT {}1{} IS NULL", "[".repeat(10_000), "]".repeat(10_000));
        assert!(
            db.sql(arrays)
                .timeout(WITHIN)
                .fetch_all()
                .await
                .map_or_else(|e| e.code().is_some(), |rows| !rows.is_empty()),
            "10,000 arrays"
        );
        unharmed(&mut server).await;
        let nul = db.sql("SELECT '\0' || 'a\u{feff}'").timeout(WITHIN).fetch_scalar::<String>().await;
        assert!(nul.map_or_else(|e| e.code().is_some(), |text| text == "\0a\u{feff}"), "NUL byte");
        unharmed(&mut server).await;
    });
}

#[test]
fn huge_series_end_at_the_limits() {
    let mut server = Server::start_with(ServerOptions::default().memory_limit("256MB"));
    block_on(async {
        let db = prepared(&server).await;
        let peak = pyralog_tests::memory::PeakMemory::watch_data(server.pid());
        let limit = Duration::from_secs(5);
        let endless = "SELECT count(*) FROM generate_series(1, 1000000000000)";
        let error = db.sql(endless).timeout(limit).fetch_all().await.unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::DeadlineExceeded | ErrorKind::Cancelled | ErrorKind::ResourceExhausted
            ),
            "{error:?}"
        );
        unharmed(&mut server).await;
        let error = failing(&db, "SELECT array_agg(value) FROM generate_series(1, 1000000000)").await;
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
        unharmed(&mut server).await;
        let error = failing(&db, "SELECT cardinality(range(1, 10000000000))").await;
        assert!(
            matches!(error.kind(), ErrorKind::ResourceExhausted | ErrorKind::InvalidInput),
            "{error:?}"
        );
        unharmed(&mut server).await;
        let error = failing(&db, "SELECT length(repeat('x', 1000000000000))").await;
        assert!(
            matches!(error.kind(), ErrorKind::ResourceExhausted | ErrorKind::InvalidInput),
            "{error:?}"
        );
        unharmed(&mut server).await;
        drop(db.sql("SELECT * FROM generate_series(1, 1000000000000)").fetch().await.unwrap());
        unharmed(&mut server).await;
        assert!(
            peak.peak_bytes() < 400 << 20,
            "{} MB of memory under a limit of 256 MB",
            peak.peak_bytes() >> 20
        );
    });
}
