//! The files of `tests/slt`, each against a server of its own, over Flight SQL. `PYRALOG_SLT=text` picks files by their path.
//!
//! Values are written as PostgreSQL's `psql` would, with `NULL`, `(empty)`, and hexadecimal for binary. A `connection` is a
//! session of its own. Errors are matched by SQLSTATE, `statement error (42P01)`, or by a regular expression.

mod connection;
mod format;

use std::path::{Path, PathBuf};
use std::time::Instant;

use pyralog_tests::runtime::block_on;
use pyralog_tests::server::Server;
use sqllogictest::{DefaultColumnType, Record, Runner};

use connection::Connection;

#[test]
fn sql_files_hold() {
    let root = pyralog_tests::binary::package().join("slt");
    let wanted = std::env::var("PYRALOG_SLT").unwrap_or_default();
    let mut files = Vec::new();
    find(&root, &mut files);
    files.sort();
    files.retain(|file| file.to_string_lossy().contains(&wanted));
    assert!(!files.is_empty(), "no file matches PYRALOG_SLT={wanted}");
    let (mut records, mut failures) = (0, Vec::new());
    for file in &files {
        let started = Instant::now();
        let (count, mut failed) = run_file(file);
        let name = file.strip_prefix(&root).expect("below the root").display();
        println!(
            "{name}: {count} records, {} failed, {:.1} s",
            failed.len(),
            started.elapsed().as_secs_f64()
        );
        records += count;
        failures.append(&mut failed);
    }
    let shown = failures.join("\n");
    assert!(failures.is_empty(), "{} of {records} records failed:\n{shown}", failures.len());
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "slt") {
            files.push(path);
        }
    }
}

/// Runs all records of a file, also behind one that failed; how many there were, and what failed.
fn run_file(file: &Path) -> (usize, Vec<String>) {
    let records = sqllogictest::parse_file::<DefaultColumnType>(file).unwrap_or_else(|error| panic!("{error}"));
    let server = Server::start();
    let url = server.flight_url();
    let mut runner = Runner::new(|| Connection::open(url.clone()));
    runner.with_column_validator(format::types_match);
    block_on(async {
        let (mut count, mut failures) = (0, Vec::new());
        for record in records {
            if matches!(record, Record::Halt { .. }) {
                break;
            }
            count += usize::from(matches!(record, Record::Statement { .. } | Record::Query { .. }));
            if let Err(error) = runner.run_async(record).await {
                failures.push(error.to_string());
            }
        }
        runner.shutdown_async().await;
        (count, failures)
    })
}
