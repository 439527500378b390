//! `pyralog demo`: sample data in a directory of its own, statements that show what can be asked, and nothing left behind.
//!
//! Each [`Scene`] shows one thing. A new model adds its scene to [`scene::SCENES`].

pub mod scene;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use pyralog_models::{Database, KvPrecondition};

use crate::config::Config;
use crate::format::Format;
use crate::import::{self, ReadOptions};
use crate::progress::Progress;
use crate::shell::caret;
use crate::shell::connection::{Connection, Embedded, TableName};
use crate::shell::runner::{Failure, Runner, display_time};
use scene::{SCENES, Scene, Step};

/// Rows of a result that the demo shows.
const MAX_ROWS: usize = 20;

/// Plays all scenes.
pub async fn run(config: &Config) -> Result<(), String> {
    let scratch = Scratch::new()?;
    let begun = Instant::now();
    let database = Database::open_with(config.database(scratch.path.clone())?)
        .await
        .map_err(|error| error.to_string())?;
    println!(
        "pyralog {} · an empty database in {}",
        env!("CARGO_PKG_VERSION"),
        scratch.path.display()
    );
    let played = play(&database).await;
    let closed = database.close().await.map_err(|error| error.to_string());
    match played {
        Ok(()) => closed?,
        // The reader of our output is gone.
        Err(Ended::Closed) => return closed,
        Err(Ended::Failed(problem)) => return Err(problem),
    }
    println!(
        "\nDone in {}; {} is removed.",
        display_time(begun.elapsed()),
        scratch.path.display()
    );
    println!("Yours: pyralog serve --data-dir DIR, and then pyralog sql --url grpc://127.0.0.1:50051");
    Ok(())
}

enum Ended {
    Closed,
    Failed(String),
}

impl From<String> for Ended {
    fn from(problem: String) -> Self {
        Ended::Failed(problem)
    }
}

async fn play(database: &Database) -> Result<(), Ended> {
    let connection: Arc<dyn Connection> = Arc::new(Embedded::over(database.clone(), "demo".into()));
    let mut runner = Runner::new(connection.clone(), Format::Box, MAX_ROWS);
    runner.timer = true;
    for Scene { title, steps } in SCENES {
        println!("\n── {title} ──");
        for step in *steps {
            match step {
                Step::Sql(sql) => statement(&mut runner, sql).await?,
                Step::Load { table, csv } => load(connection.as_ref(), table, csv).await?,
                Step::Put { bucket, entries } => put(database, bucket, entries).await?,
            }
        }
    }
    Ok(())
}

async fn statement(runner: &mut Runner, sql: &str) -> Result<(), Ended> {
    println!("\npyralog> {};", sql.replace('\n', "\n    ...> "));
    runner.run(sql).await.map_err(|failure| match failure {
        Failure::Closed => Ended::Closed,
        Failure::Output(problem) => Ended::Failed(problem),
        Failure::Statement(error) => Ended::Failed(caret::describe(&error, sql)),
    })
}

/// Loads text that ships in the binary, the way that `pyralog import` does.
async fn load(connection: &dyn Connection, table: &str, csv: &'static str) -> Result<(), Ended> {
    let begun = Instant::now();
    let options = ReadOptions {
        batch_rows: 1024,
        sample_rows: 1024,
        header: true,
        delimiter: b',',
        lenient: false,
    };
    let rows = import::read_csv(Cursor::new(csv), &options, None)?;
    let name = TableName::parse(table)?;
    let progress = Progress::new(table, None);
    let count = connection.ingest(&name, rows.into_stream(progress.clone())).await;
    progress.finish();
    let count = count.map_err(|error| error.to_string())?;
    println!(
        "\n$ pyralog import --into {table} {table}.csv\n{count} rows ({})",
        display_time(begun.elapsed())
    );
    Ok(())
}

async fn put(database: &Database, bucket: &str, entries: &[(&str, &str)]) -> Result<(), Ended> {
    let begun = Instant::now();
    let kv = database.kv(bucket).await.map_err(|error| error.to_string())?;
    for (key, value) in entries {
        kv.put(key.as_bytes(), value.as_bytes(), None, KvPrecondition::Any)
            .await
            .map_err(|error| error.to_string())?;
    }
    let (key, value) = entries.first().copied().unwrap_or_default();
    println!(
        "\n$ curl -X PUT http://127.0.0.1:8080/kv/{bucket}/{key} -d '{value}'    # and {} more",
        entries.len().saturating_sub(1)
    );
    println!("{} keys ({})", entries.len(), display_time(begun.elapsed()));
    Ok(())
}

/// A directory of its own under the system's temporary one; removed at the end, however that comes.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("pyralog-demo-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        eprintln!("{} could not be removed: {error}", path.display());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::demo::scene::{CITIES, COUNTRIES};
    use arrow::array::AsArray;
    use std::collections::HashSet;

    fn texts(csv: &'static str, column: &str) -> Vec<String> {
        let options = ReadOptions {
            batch_rows: 10_000,
            sample_rows: 10_000,
            header: true,
            delimiter: b',',
            lenient: false,
        };
        let mut rows = import::read_csv(Cursor::new(csv), &options, None).unwrap();
        let batch = rows.batches.next().unwrap().unwrap();
        assert_eq!(batch.num_rows(), csv.lines().count() - 1);
        batch
            .column_by_name(column)
            .unwrap()
            .as_string::<i32>()
            .iter()
            .map(|value| value.unwrap().to_owned())
            .collect()
    }

    #[test]
    fn the_sample_fits_together() {
        let codes: HashSet<String> = texts(COUNTRIES, "code").into_iter().collect();
        assert_eq!(codes.len(), COUNTRIES.lines().count() - 1);
        for code in texts(CITIES, "country") {
            assert!(codes.contains(&code), "{code}");
        }
        for scene in SCENES {
            for step in scene.steps {
                if let Step::Put { entries, .. } = step {
                    for (key, _) in *entries {
                        assert!(codes.contains(key.trim_start_matches("motto:")), "{key}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_directory_goes() {
        let path = {
            let scratch = Scratch::new().unwrap();
            fs::write(scratch.path.join("x"), "y").unwrap();
            scratch.path.clone()
        };
        assert!(!path.exists());
    }
}
