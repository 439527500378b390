//! What goes wrong in a cluster, with real processes: each case is told clearly, and harms nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use pyralog_tests::cluster::{Cluster, ClusterNode};
use pyralog_tests::http::{Response, try_request_within};
use pyralog_tests::memory::resident_bytes;
use pyralog_tests::server::free_ports;
use pyralog_tests::{binary, measure};
use rand::RngExt;

/// A statement or a question without a majority is answered within this.
const BOUND: Duration = Duration::from_secs(13);

fn sql(node: &ClusterNode, query: &str) -> Response {
    let headers = [("Content-Type", "text/plain")];
    try_request_within(
        Duration::from_secs(60),
        node.http_port(),
        "POST",
        "/sql",
        &headers,
        query.as_bytes(),
    )
    .unwrap()
}

fn health(node: &ClusterNode) -> Option<Response> {
    try_request_within(Duration::from_secs(5), node.http_port(), "GET", "/health", &[], b"").ok()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A node of a directory, on ports of its own; what it printed when it has ended by itself.
fn serve(data_dir: &Path, peer_port: u16, more: &[&str]) -> Output {
    let ports = free_ports(2);
    let mut child = Command::new(binary::path())
        .arg("serve")
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--flight-addr", &format!("127.0.0.1:{ports}")])
        .args(["--http-addr", &format!("127.0.0.1:{}", ports + 1)])
        .args(["--peer-addr", &format!("127.0.0.1:{peer_port}"), "--memory-limit", "128MB"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(40) {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("it did not end by itself: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn a_lost_majority_is_told_in_bounded_time_and_logged_in_json() {
    let cluster = Cluster::up_with(3, "128MB", &[("PYRALOG_LOG_FORMAT", "json")]);
    let nodes = cluster.nodes();
    assert_eq!(sql(&nodes[0], "CREATE TABLE t (id BIGINT PRIMARY KEY)").status, 200);
    let (gone, alone) = (&nodes[..2], &nodes[2]);
    gone.iter().for_each(|node| node.signal("KILL"));
    let answers: Vec<_> = [
        "SELECT * FROM t",
        "INSERT INTO t VALUES (1)",
        "CREATE TABLE u (id BIGINT PRIMARY KEY)",
    ]
    .into_iter()
    .map(|query| {
        let node = alone.clone();
        std::thread::spawn(move || {
            let begun = Instant::now();
            (query, sql(&node, query), begun.elapsed())
        })
    })
    .collect();
    let begun = Instant::now();
    let shown = sql(alone, "SHOW CLUSTER");
    assert_eq!(shown.status, 200, "{}", shown.text());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    until("health says so", || {
        let health = health(alone).unwrap();
        let groups = health.json()["groups"].as_array().unwrap().clone();
        health.status == 503 && groups.iter().all(|group| group["quorum"] == false)
    });
    let connected = || -> Vec<bool> {
        let shown = sql(alone, "SHOW CLUSTER").json();
        let columns = shown["columns"].as_array().unwrap();
        let connected = columns.iter().position(|column| column["name"] == "connected").unwrap();
        let rows = shown["rows"].as_array().unwrap();
        rows.iter().map(|row| row[connected].as_bool().unwrap()).collect()
    };
    until("both others are seen to be gone", || connected() == [false, false, true]);
    for answer in answers {
        let (query, answer, took) = answer.join().unwrap();
        println!("{query}: {took:?} {}", answer.text());
        assert_eq!(answer.status, 503, "{query}: {}", answer.text());
        assert!(answer.text().contains("majority"), "{query}: {}", answer.text());
        assert!(took < BOUND, "{query}: {took:?}");
    }
    let lines = || -> Vec<serde_json::Value> {
        cluster
            .log_of(3)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    };
    let said = |text: &str| {
        lines()
            .into_iter()
            .find(|line| line["fields"]["message"].as_str().is_some_and(|message| message.contains(text)))
    };
    until("the log says so", || said("no majority").is_some());
    let lost = said("no majority").unwrap();
    assert_eq!(
        (lost["level"].as_str(), lost["fields"]["group"].is_string()),
        (Some("WARN"), true),
        "{lost}"
    );
    let led = said("new leader").unwrap();
    assert!(led["fields"]["leader"].is_u64() && led["fields"]["term"].is_u64(), "{led}");
    assert!(said("other members").unwrap()["fields"]["voters"].is_string());
    cluster.succeed(&["restart", "1"]);
    until("the majority is back", || health(alone).is_some_and(|health| health.status == 200));
    assert_eq!(sql(alone, "INSERT INTO t VALUES (2)").status, 200);
    until("the log says that too", || said("majority again").is_some());
    // One line a change: not one a call that failed.
    assert!(lines().len() < 100, "{} lines: {}", lines().len(), cluster.logs());
    assert_eq!(cluster.panics(), Vec::<String>::new());
}

#[test]
fn a_copied_directory_and_another_clusters_node_are_refused() {
    let cluster = Cluster::up(3, "128MB");
    let nodes = cluster.nodes();
    assert_eq!(sql(&nodes[0], "CREATE TABLE t (id BIGINT PRIMARY KEY)").status, 200);
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("copy");
    cluster.succeed(&["kill", "3"]);
    let copied = Command::new("cp").arg("-r").arg(cluster.data_dir(3)).arg(&copy).status().unwrap();
    assert!(copied.success());
    cluster.succeed(&["restart", "3"]);
    let shown = sql(&nodes[0], "SHOW CLUSTER").text();
    let peer_port = free_ports(1);
    let begun = Instant::now();
    let output = serve(&copy, peer_port, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("after {:?}: {said}", begun.elapsed());
    assert_eq!(output.status.code(), Some(1), "{said}");
    let line = said.lines().last().unwrap();
    assert!(line.contains("another process") && line.contains("node 3"), "{said}");
    assert_eq!(sql(&nodes[0], "INSERT INTO t VALUES (1)").status, 200);
    assert_eq!(sql(&nodes[0], "SHOW CLUSTER").text(), shown, "nobody has moved");

    // A database of its own, at the port where the third node belongs.
    cluster.succeed(&["kill", "3"]);
    let other = scratch.path().join("other");
    let ports = free_ports(2);
    let mut foreign = Command::new(binary::path())
        .arg("serve")
        .arg("--data-dir")
        .arg(&other)
        .args(["--flight-addr", &format!("127.0.0.1:{ports}")])
        .args(["--http-addr", &format!("127.0.0.1:{}", ports + 1)])
        .args([
            "--peer-addr",
            &format!("127.0.0.1:{}", nodes[2].peer_port()),
            "--memory-limit",
            "128MB",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(scratch.path().join("other.log")).unwrap())
        .spawn()
        .unwrap();
    until("it says whom it refuses", || {
        let log = std::fs::read_to_string(scratch.path().join("other.log")).unwrap();
        log.contains("refused a node") && log.contains("is not database")
    });
    assert_eq!(sql(&nodes[0], "INSERT INTO t VALUES (2)").status, 200);
    std::thread::sleep(Duration::from_secs(2));
    let log = std::fs::read_to_string(scratch.path().join("other.log")).unwrap();
    assert!(log.matches("refused a node").count() <= 3, "told too often:\n{log}");
    foreign.kill().unwrap();
    foreign.wait().unwrap();
    // Its directory with the cluster's configuration: it is a database already, and joins no other.
    cluster.succeed(&["restart", "3"]);
    assert_eq!(sql(&nodes[2], "INSERT INTO t VALUES (3)").status, 200);
    let shown = sql(&nodes[0], "SHOW CLUSTER").json();
    assert_eq!(shown["rows"].as_array().unwrap().len(), 3, "{shown}");
    assert_eq!(cluster.panics(), Vec::<String>::new());
}

#[test]
fn hostile_bytes_on_the_peer_port_harm_nobody() {
    let cluster = Cluster::up(3, "128MB");
    let nodes = cluster.nodes();
    assert_eq!(sql(&nodes[0], "CREATE TABLE t (id BIGINT PRIMARY KEY)").status, 200);
    let port = nodes[0].peer_port();
    let before = resident_bytes(nodes[0].pid.unwrap()).unwrap();
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    // As many as a node lets in, and more, that say nothing or little and stay.
    let held: Vec<TcpStream> = (0..measure::setting("PYRALOG_HELD_CONNECTIONS", 400))
        .map(|number| {
            let mut stream = connect();
            let _ = stream.write_all(&b"PYRP\x02\0\0\0"[..number % 9]);
            stream
        })
        .collect();
    let mut random = rand::rng();
    let hello = |length: u32| [&b"PYRP\x02\0\0\0"[..], &length.to_le_bytes(), &[0; 4]].concat();
    for round in 0..40 {
        let bytes = match round % 4 {
            0 => (0..random.random_range(1..5000)).map(|_| random.random()).collect(),
            1 => hello(u32::MAX),
            2 => hello(1024),
            _ => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        };
        let mut stream = connect();
        let _ = stream.write_all(&bytes);
        if round % 2 == 0 {
            drop(stream);
        } else {
            // It closes, sooner or later.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.len() < 4096);
        }
    }
    // A flood on one connection.
    let mut stream = connect();
    let chunk = vec![0xA5; 1 << 20];
    for _ in 0..64 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    for (number, node) in nodes.iter().enumerate() {
        let begun = Instant::now();
        assert_eq!(sql(node, &format!("INSERT INTO t VALUES ({number})")).status, 200);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(health(node).unwrap().status, 200);
    }
    let after = resident_bytes(nodes[0].pid.unwrap()).unwrap();
    println!("resident memory {before} → {after} bytes");
    assert!(after < before + (64 << 20), "{before} → {after} bytes");
    // A node that was restarted meanwhile gets in beside them.
    let begun = Instant::now();
    cluster.succeed(&["restart", "2"]);
    println!("restarted in {:?}", begun.elapsed());
    assert_eq!(sql(&nodes[1], "INSERT INTO t VALUES (100)").status, 200);
    drop(held);
    assert_eq!(cluster.panics(), Vec::<String>::new());
}
