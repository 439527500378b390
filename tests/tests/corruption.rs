//! Bytes of every kind of file are flipped or cut off. The server then either names the damaged file (and stops, or refuses the
//! query), or answers as before; never wrongly, never with a panic.
//!
//! The log's end is the one exception: what a crash may tear, a cut may take. There the rows behind the last checkpoint may end
//! early, but without gaps.
//!
//! `PYRALOG_CORRUPTION_CASES` is the number of cases a kind of file (default 8); `PYRALOG_CORRUPTION_SEED` picks them.

mod damage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pyralog_client::{Client, ErrorKind};
use pyralog_tests::measure::setting;
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::{Server, ServerOptions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use damage::{Damage, kind_of};

/// Rows in segments, some deleted and some changed later.
const SETTLED: i64 = 5000;
/// Rows behind the checkpoint, in the log only.
const RECENT: i64 = 200;

#[test]
fn damage_is_named_or_recovered_from() {
    let cases: usize = setting("PYRALOG_CORRUPTION_CASES", 8);
    let seed: u64 = setting("PYRALOG_CORRUPTION_SEED", rand::random());
    println!("{cases} cases a kind of file, PYRALOG_CORRUPTION_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let original = tempfile::tempdir().unwrap();
    let original = original.path().join("data");
    make(&original);
    let kinds = files_by_kind(&original);
    println!(
        "files: {:?}",
        kinds
            .iter()
            .map(|(kind, files)| format!("{kind} {}", files.len()))
            .collect::<Vec<_>>()
    );
    for needed in ["arrow", "log", "manifest"] {
        assert!(
            kinds.keys().any(|kind| kind.contains(needed)),
            "there is no file of the kind {needed}: {:?}",
            kinds.keys()
        );
    }
    let mut failures = Vec::new();
    for (kind, files) in &kinds {
        for case in 0..cases {
            let file = &files[random.random_range(0..files.len())];
            let damage = Damage::pick(case, &original.join(file), &mut random);
            let Some(damage) = damage else { continue };
            let outcome = std::panic::catch_unwind(|| one_case(&original, file, &damage));
            let text = match outcome {
                Ok(outcome) => outcome,
                Err(_) => {
                    failures.push(format!("{} {damage}", file.display()));
                    "FAILED".to_owned()
                }
            };
            println!("{kind}: {} {damage}: {text}", file.display());
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A directory with everything in it: segments, side-cars, delete bitmaps, a compaction, a bucket, and a log with a tail.
fn make(data_dir: &Path) {
    let mut server = Server::start_with(ServerOptions::default().data_dir(data_dir));
    block_on(async {
        let db = server.client().await;
        let run = async |sql: String| {
            db.sql(sql.as_str())
                .execute()
                .await
                .unwrap_or_else(|error| panic!("{sql}: {error}"))
        };
        run("CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR, n BIGINT)".into()).await;
        run("CREATE COLLECTION cache AS KV".into()).await;
        let insert =
            |from: i64, to: i64| format!("INSERT INTO t SELECT value, 'name ' || value, value * 7 FROM generate_series({from}, {to})");
        run(insert(1, SETTLED / 2)).await;
        run("CHECKPOINT".into()).await;
        run(insert(SETTLED / 2 + 1, SETTLED)).await;
        run("DELETE FROM t WHERE id % 10 = 0".into()).await;
        run("UPDATE t SET n = -n WHERE id % 10 = 1".into()).await;
        for i in 0..50 {
            assert!(db.kv("cache").put(format!("k{i:03}"), format!("v{i}")).await.unwrap());
        }
        run("CHECKPOINT".into()).await;
        for id in 1..=RECENT {
            run(format!("INSERT INTO t VALUES ({}, 'recent', {id})", SETTLED + id)).await;
        }
    });
    server.kill();
}

fn files_by_kind(data_dir: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut folders = vec![data_dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.metadata().unwrap().len() > 0 {
                let relative = path.strip_prefix(data_dir).unwrap().to_path_buf();
                kinds.entry(kind_of(&relative)).or_default().push(relative);
            }
        }
    }
    kinds.values_mut().for_each(|files| files.sort());
    kinds
}

/// Damages one file of a copy and starts a server on it; what came of it.
fn one_case(original: &Path, file: &Path, damage: &Damage) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    damage::copy(original, &data_dir);
    damage.apply(&data_dir.join(file));
    let file_name = file.file_name().unwrap().to_string_lossy().into_owned();
    let mut server = Server::prepare(ServerOptions::default().data_dir(&data_dir));
    if let Err(failure) = server.launch() {
        let status = failure
            .status
            .unwrap_or_else(|| panic!("neither ready nor stopped:\n{}", failure.output));
        assert_eq!(status.code(), Some(1), "it stopped with {status}:\n{}", failure.output);
        assert!(
            failure.output.contains(&file_name),
            "it stopped without naming {file_name}:\n{}",
            failure.output
        );
        return "stopped, naming the file".to_owned();
    }
    let may_end_early = kind_of(file).contains("log");
    let outcome = block_on(async { answers(&server.client().await, &file_name, may_end_early).await });
    // Compaction and a second start read files that the queries may not have read.
    server.kill();
    if let Err(failure) = server.launch() {
        assert!(
            failure.output.contains(&file_name),
            "it did not start again and did not name {file_name}:\n{}",
            failure.output
        );
    }
    server.assert_no_panic();
    outcome
}

/// All answers are right, or an error names the file.
async fn answers(db: &Client, file_name: &str, may_end_early: bool) -> String {
    let named = |error: &pyralog_client::ClientError| {
        assert!(
            error.message().contains(file_name),
            "a query failed without naming {file_name}: {error:?}"
        );
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error:?}");
        "the query named the file".to_owned()
    };
    let rows = match db.sql("SELECT id, name, n FROM t ORDER BY id").fetch_rows().await {
        Ok(rows) => rows,
        Err(error) => return named(&error),
    };
    let rows: Vec<(i64, String, i64)> = rows
        .iter()
        .map(|row| (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap()))
        .collect();
    let settled: Vec<(i64, String, i64)> = (1..=SETTLED)
        .filter(|id| id % 10 != 0)
        .map(|id| (id, format!("name {id}"), if id % 10 == 1 { -id * 7 } else { id * 7 }))
        .collect();
    assert!(
        rows.len() >= settled.len() && rows[..settled.len()] == settled,
        "settled rows are wrong or gone"
    );
    let recent = &rows[settled.len()..];
    for (i, (id, name, n)) in (1..).zip(recent) {
        assert_eq!(
            (*id, name.as_str(), *n),
            (SETTLED + i, "recent", i),
            "recent rows have a gap or are wrong"
        );
    }
    assert!(
        may_end_early || recent.len() as i64 == RECENT,
        "{} of {RECENT} recent rows are there",
        recent.len()
    );
    // A point read goes by the key index and the bloom filter, not by a scan.
    for id in [1, 10, SETTLED / 2, SETTLED - 1] {
        let found = match db.sql("SELECT n FROM t WHERE id = $1").bind(id).fetch_optional().await {
            Ok(row) => row.map(|row| row.get::<i64>(0).unwrap()),
            Err(error) => return named(&error),
        };
        assert_eq!(
            found,
            settled.iter().find(|(known, ..)| *known == id).map(|(_, _, n)| *n),
            "point read of {id}"
        );
    }
    let page = match db.kv("cache").scan().await {
        Ok(page) => page,
        Err(error) => return named(&error),
    };
    let values: Vec<Vec<u8>> = page.entries.into_iter().map(|entry| entry.value).collect();
    assert_eq!(values, (0..50).map(|i| format!("v{i}").into_bytes()).collect::<Vec<_>>());
    format!("right answers, {} of {RECENT} recent rows", recent.len())
}
