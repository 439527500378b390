//! `POST /sql`, `/health` and `/metrics` over a socket.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::json;

use super::process::{Scratch, Server};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const TEXT: (&str, &str) = ("Content-Type", "text/plain");

#[test]
fn statements_parameters_and_forms() {
    let scratch = Scratch::new("sql");
    let server = Server::start(&scratch.0.join("db"));
    server.sql("CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR, price DECIMAL(10,2))");
    let insert = server.sql("INSERT INTO t VALUES (1, 'a', 1.50), (2, NULL, 2.25), (9007199254740993, 'c', 3)");
    assert_eq!(insert, json!({"columns": [], "rows": [], "affected": 3}));

    let all = server.request("POST", "/sql", &[TEXT], b"SELECT * FROM t ORDER BY id");
    let text = String::from_utf8(all.body.clone()).unwrap();
    assert!(text.contains("[9007199254740993,\"c\",3.00]"), "{text}");
    assert_eq!(all.json()["columns"][0], json!({"name": "id", "type": "BIGINT"}));

    let by_position = server.request(
        "POST",
        "/sql",
        &[JSON],
        br#"{"query": "SELECT name FROM t WHERE id = $1", "params": [1]}"#,
    );
    assert_eq!(by_position.json()["rows"], json!([["a"]]));
    let by_name = server.request(
        "POST",
        "/sql",
        &[JSON],
        br#"{"query": "SELECT id FROM t WHERE name = $name", "params": {"name": "a"}}"#,
    );
    assert_eq!(by_name.json()["rows"], json!([[1]]));
    let injection = server.request(
        "POST",
        "/sql",
        &[JSON],
        br#"{"query": "SELECT id FROM t WHERE name = $1", "params": ["'; DROP TABLE t; --"]}"#,
    );
    assert_eq!(injection.json()["rows"], json!([]));

    let form = |accept: &str| server.request("POST", "/sql", &[TEXT, ("Accept", accept)], b"SELECT id, name FROM t ORDER BY id");
    assert_eq!(
        String::from_utf8(form("text/csv").body).unwrap(),
        "id,name\r\n1,a\r\n2,\r\n9007199254740993,c\r\n"
    );
    assert_eq!(String::from_utf8(form("application/x-ndjson").body).unwrap().lines().count(), 3);
    let arrow = form("application/vnd.apache.arrow.stream").body;
    let batches = arrow::ipc::reader::StreamReader::try_new(arrow.as_slice(), None).unwrap();
    assert_eq!(batches.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 3);
    assert_eq!(form("image/png").status, 406);
}

#[test]
fn several_statements_and_transactions() {
    let scratch = Scratch::new("script");
    let server = Server::start(&scratch.0.join("db"));
    server.sql("CREATE TABLE t (id BIGINT PRIMARY KEY)");
    let last = server.sql("BEGIN; INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); COMMIT; SELECT count(*) FROM t");
    assert_eq!(last["rows"], json!([[2]]));
    let open = server.request("POST", "/sql", &[TEXT], b"BEGIN; INSERT INTO t VALUES (3)");
    assert_eq!((open.status, open.json()["error"]["code"].clone()), (400, json!("25000")));
    assert_eq!(server.sql("SELECT count(*) FROM t")["rows"], json!([[2]]));
}

#[test]
fn errors_say_what_and_where() {
    let scratch = Scratch::new("errors");
    let server = Server::start(&scratch.0.join("db"));
    let wrong = server.request("POST", "/sql", &[TEXT], b"SELECT 1 +\nFROM");
    assert_eq!(wrong.status, 400);
    assert_eq!(wrong.header("content-type"), Some("application/problem+json"));
    let body = wrong.json();
    assert!(body["error"]["message"].is_string() && body["status"] == 400 && body["title"].is_string() && body["detail"].is_string());
    assert_eq!(
        server.request("POST", "/sql", &[TEXT], b"SELECT * FROM nowhere").json()["error"]["code"],
        "42P01"
    );
    assert_eq!(server.request("POST", "/sql", &[JSON], b"{").status, 400);
    assert_eq!(server.request("POST", "/sql", &[TEXT], b"  ").status, 400);
    assert_eq!(server.request("GET", "/sql", &[], b"").status, 405);
    assert_eq!(server.request("GET", "/documents/x", &[], b"").status, 501);
    assert_eq!(server.request("POST", "/graphs/g/cypher", &[], b"").status, 501);
    assert_eq!(server.request("GET", "/nowhere", &[], b"").status, 404);
    let claimed = format!("{}", 1u64 << 60);
    let mut stream = std::net::TcpStream::connect(&server.http).unwrap();
    std::io::Write::write_all(
        &mut stream,
        format!("POST /sql HTTP/1.1\r\nHost: h\r\nContent-Length: {claimed}\r\n\r\n").as_bytes(),
    )
    .unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");
}

#[test]
fn time_limits_and_vanished_clients_stop_the_work() {
    let scratch = Scratch::new("limits");
    let server = Server::start(&scratch.0.join("db"));
    let endless = b"SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b, generate_series(1, 100) c";
    let begun = Instant::now();
    let late = server.request("POST", "/sql", &[TEXT, ("X-Pyralog-Timeout-Ms", "300")], endless);
    assert_eq!((late.status, late.json()["error"]["code"].clone()), (504, json!("57014")));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(server.request("POST", "/sql?timeout=0.2", &[TEXT], endless).status, 504);

    let gone = server.send("POST", "/sql", &[TEXT], endless).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    drop(gone);
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let used = cpu_ticks(server.child.id());
        std::thread::sleep(Duration::from_millis(500));
        if cpu_ticks(server.child.id()) - used < 10 {
            break;
        }
        assert!(Instant::now() < end, "the statement of a vanished client still runs");
    }
}

#[test]
fn a_slow_reader_does_not_fill_the_memory() {
    let scratch = Scratch::new("slow");
    let server = Server::start(&scratch.0.join("db"));
    let before = resident_kib(server.child.id());
    let mut stream = server
        .send(
            "POST",
            "/sql",
            &[TEXT],
            b"SELECT value, repeat('x', 1000) FROM generate_series(1, 3000000)",
        )
        .unwrap();
    let mut some = [0; 4096];
    stream.read_exact(&mut some).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(resident_kib(server.child.id()) < before + (400 << 10));
}

#[test]
fn health_and_metrics() {
    let scratch = Scratch::new("health");
    let server = Server::start(&scratch.0.join("db"));
    let health = server.request("GET", "/health", &[], b"").json();
    assert_eq!(health["status"], "ready");
    assert!(
        health["node"].is_number() && health["version"].is_string() && health["leaders"]["p0"] == health["node"],
        "{health}"
    );
    server.sql("SELECT 1");
    let metrics = String::from_utf8(server.request("GET", "/metrics", &[], b"").body).unwrap();
    assert!(
        metrics.contains("pyralog_http_requests_total{route=\"sql\",status=\"2xx\"} 1\n"),
        "{metrics}"
    );
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
    }
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Hundredths of a second of processor time.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
