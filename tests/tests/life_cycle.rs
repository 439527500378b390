//! Starting, stopping, and what a second server on the same directory or port is told.

use std::process::Command;
use std::time::{Duration, Instant};

use pyralog_tests::binary;
use pyralog_tests::http::try_request;
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::{Server, ServerOptions, free_port};

async fn rows(server: &Server) -> i64 {
    server.client().await.sql("SELECT count(*) FROM t").fetch_scalar().await.unwrap()
}

#[test]
fn data_survives_a_stop_and_a_kill() {
    let mut server = Server::start();
    block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY, name VARCHAR)").await;
        db.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b')").execute().await.unwrap();
    });
    let status = server.stop();
    assert!(status.success(), "it stopped with {status}");
    server.restart();
    block_on(async {
        assert_eq!(rows(&server).await, 2);
        server.client().await.sql("INSERT INTO t VALUES (3, 'c')").execute().await.unwrap();
    });
    server.kill_and_restart();
    block_on(async { assert_eq!(rows(&server).await, 3) });
}

#[test]
fn an_open_transaction_is_not_there_after_a_kill() {
    let mut server = Server::start();
    block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY)").await;
        let tx = db.begin().await.unwrap();
        tx.sql("INSERT INTO t VALUES (1)").execute().await.unwrap();
        server.kill();
        assert!(tx.commit().await.is_err());
        server.restart();
        assert_eq!(rows(&server).await, 0);
    });
}

#[test]
fn a_client_finds_the_server_again_after_a_restart() {
    let mut server = Server::start();
    block_on(async {
        let db = server.client_with_table("t (id BIGINT PRIMARY KEY)").await;
        server.kill_and_restart();
        assert_eq!(db.sql("SELECT count(*) FROM t").fetch_scalar::<i64>().await.unwrap(), 0);
        db.sql("INSERT INTO t VALUES (1)").execute().await.unwrap();
    });
}

/// Runs `pyralog serve` to its end; the exit code and what it printed.
fn serve(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary::path())
        .arg("serve")
        .args(args)
        .output()
        .expect("the binary runs");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    )
}

#[test]
fn a_directory_or_port_in_use_is_one_clear_line() {
    let server = Server::start();
    let other = tempfile::tempdir().unwrap();
    let (flight, http) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let own_dir = server.data_dir().to_string_lossy().into_owned();
    let taken = format!("127.0.0.1:{}", server.flight_port());
    let taken_http = format!("127.0.0.1:{}", server.http_port());
    let other_dir = other.path().to_string_lossy().into_owned();
    let cases = [
        (
            vec!["--data-dir", &own_dir, "--flight-addr", &flight, "--http-addr", &http],
            "in use",
        ),
        (
            vec!["--data-dir", &other_dir, "--flight-addr", &taken, "--http-addr", &http],
            "in use",
        ),
        (
            vec!["--data-dir", &other_dir, "--flight-addr", &flight, "--http-addr", &taken_http],
            "in use",
        ),
    ];
    for (args, expected) in cases {
        let (code, text) = serve(&args);
        assert_eq!(code, Some(1), "{args:?}: {text}");
        let errors: Vec<&str> = text.lines().filter(|line| line.contains(expected)).collect();
        assert_eq!(errors.len(), 1, "{args:?}: {text}");
        assert!(!text.contains("panicked") && !text.contains("stack backtrace"), "{text}");
    }
    assert_eq!(server.http("GET", "/health", &[], b"").status, 200);
}

/// A log on a disk that is full, or a terminal that was closed, is no reason to serve no more.
#[cfg(target_os = "linux")]
#[test]
fn a_server_whose_output_cannot_be_written_serves() {
    let (dir, flight, http) = (tempfile::tempdir().unwrap(), free_port(), free_port());
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut process = Command::new(binary::path())
        .args(["serve", "--log-level", "debug", "--memory-limit", "128MB", "--data-dir"])
        .arg(dir.path())
        .args([
            "--flight-addr",
            &format!("127.0.0.1:{flight}"),
            "--http-addr",
            &format!("127.0.0.1:{http}"),
        ])
        .stdout(full.try_clone().unwrap())
        .stderr(full)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let healthy = || try_request(http, "GET", "/health", &[], b"").is_ok_and(|answer| answer.status == 200);
    while !healthy() {
        assert_eq!(process.try_wait().unwrap(), None, "the server ended");
        assert!(Instant::now() < deadline, "the server is not ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    let created = try_request(http, "POST", "/sql", &[], b"CREATE TABLE t (id BIGINT PRIMARY KEY)").unwrap();
    assert_eq!(created.status, 200, "{}", created.text());
    assert_eq!(process.try_wait().unwrap(), None, "the server ended");
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn wrong_usage_exits_with_two() {
    for args in [
        vec!["--no-such-option"],
        vec!["--data-dir"],
        vec!["--data-dir", "/x", "--memory-limit", "much"],
    ] {
        let (code, text) = serve(&args);
        assert_eq!(code, Some(2), "{args:?}: {text}");
    }
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let mut server = Server::start_with(ServerOptions::default().data_dir(&data_dir));
    assert!(server.stop().success());
    let format = data_dir.join("FORMAT");
    assert!(format.is_file(), "there is no FORMAT file");
    std::fs::write(&format, "999999\n").unwrap();
    let failure = server.launch().expect_err("a format from the future");
    assert_eq!(failure.status.and_then(|status| status.code()), Some(1));
    assert!(failure.output.contains("FORMAT"), "{}", failure.output);
}

#[test]
fn an_empty_server_starts_fast_and_stops_fast() {
    let mut server = Server::start();
    let idle = block_on(server.client());
    let started = Instant::now();
    assert!(server.stop().success());
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "an idle connection held the stop up for {:?}",
        started.elapsed()
    );
    drop(idle);
    let started = Instant::now();
    server.restart();
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "the start took {:?}",
        started.elapsed()
    );
}
