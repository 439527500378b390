//! Exit codes, configuration and starts that must fail. Most of it needs no database.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use super::process::{Scratch, Server, pyralog, run, succeed};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn exit_codes() {
    assert!(succeed(&["version"]).starts_with("pyralog "));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    for unsupported in [&["backup", "--to", "x"][..], &["restore"]] {
        let output = run(unsupported);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("not supported by this version"));
    }
    let output = run(&["cluster", "status", "--dir", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("holds no cluster"));
    for usage in [
        &[][..],
        &["cluster"],
        &["nonsense"],
        &["serve", "--nonsense"],
        &["import"],
        &["sql", "-c", "SELECT 1"],
        &["export", "--from", "t"],
    ] {
        assert_eq!(run(usage).status.code(), Some(2), "{usage:?}");
    }
}

#[test]
fn addresses_beyond_this_machine_are_refused() {
    let output = run(&["serve", "--http-addr", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("--insecure") && said.trim().lines().count() == 1, "{said}");
}

#[test]
fn the_files_of_tls_between_nodes_are_given_together() {
    let output = run(&[
        "serve",
        "--peer-addr",
        "127.0.0.1:0",
        "--peer-tls-cert",
        "node.pem",
        "--peer-tls-key",
        "node.key",
    ]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("peer-tls-ca") && said.trim().lines().count() == 1, "{said}");
}

#[test]
fn the_configuration_is_told_with_its_sources() {
    let scratch = Scratch::new("config");
    let file = scratch.path("pyralog.toml");
    std::fs::write(&file, "memory-limit = \"1GB\"\n[serve]\nhttp-addr = \"127.0.0.1:1\"\nthreads = 3\n").unwrap();
    let output = pyralog()
        .args(["serve", "--print-config", "--config", &file, "--flight-addr", "127.0.0.1:2"])
        .env("PYRALOG_THREADS", "5")
        .output()
        .unwrap();
    assert!(output.status.success());
    let told = text(&output.stdout);
    let line = |name: &str| {
        told.lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name} in {told}"))
            .to_owned()
    };
    assert!(line("flight-addr").contains("\"127.0.0.1:2\"") && line("flight-addr").contains("# flag"));
    assert!(line("threads").contains("\"5\"") && line("threads").contains("environment PYRALOG_THREADS"));
    assert!(line("http-addr").contains("\"127.0.0.1:1\"") && line("http-addr").contains(&format!("file {file}")));
    assert!(line("memory-limit").contains("\"1GB\""));
    assert!(line("max-request-size").contains("default"));
    assert!(toml::from_str::<toml::Table>(&told).is_ok());
}

#[test]
fn wrong_configuration_is_wrong_usage() {
    let scratch = Scratch::new("wrong-config");
    let file = scratch.path("pyralog.toml");
    std::fs::write(&file, "memroy-limit = \"1GB\"\n").unwrap();
    let output = run(&["serve", "--config", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("memroy-limit"));
    assert_eq!(run(&["serve", "--memory-limit", "many"]).status.code(), Some(2));
    assert_eq!(run(&["serve", "--config", &scratch.path("missing")]).status.code(), Some(2));
}

#[test]
fn a_port_in_use_is_one_line() {
    let scratch = Scratch::new("port");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (http, flight) in [(address.as_str(), "127.0.0.1:0"), ("127.0.0.1:0", address.as_str())] {
        let output = run(&[
            "serve",
            "--data-dir",
            &scratch.path("db"),
            "--http-addr",
            http,
            "--flight-addr",
            flight,
        ]);
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(said.contains("in use") && said.trim().lines().count() == 1, "{said}");
    }
    assert!(!scratch.0.join("db").exists());
}

#[test]
fn a_server_that_nobody_runs_is_one_line() {
    let output = run(&["sql", "--url", "grpc://127.0.0.1:1", "-c", "SELECT 1"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr).trim().lines().count(), 1);
    let output = run(&["check", "--data-dir", "/nonexistent/pyralog"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("not a data directory"));
}

#[test]
fn sigterm_stops_and_a_directory_in_use_is_one_line() {
    let scratch = Scratch::new("stop");
    let dir = scratch.0.join("db");
    let server = Server::start(&dir);
    let mut second = pyralog();
    second
        .args(["serve", "--http-addr", "127.0.0.1:0", "--flight-addr", "127.0.0.1:0", "--data-dir"])
        .arg(&dir);
    let output = second.stdout(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("in use") && said.trim().lines().count() == 1, "{said}");
    server.sql("CREATE TABLE t (a BIGINT PRIMARY KEY)");
    assert_eq!(server.sql("INSERT INTO t VALUES (1)")["affected"], 1);
    let begun = std::time::Instant::now();
    assert_eq!(server.stop(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(12));
    assert!(succeed(&["check", "--data-dir", &dir.display().to_string()]).contains("no problems"));
}
