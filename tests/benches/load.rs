//! Loading TPC-H into durable tables with primary keys, by Flight SQL's ingest and (where the server can) by `COPY` from Parquet:
//! seconds, rows a second, and the peak of resident memory against the limit. `TPCH_SF` is the scale (default 0.1),
//! `PYRALOG_MEMORY` the limit (default 1GB).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that fails must stop"
)]

use std::path::Path;
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use datafusion::parquet::arrow::ArrowWriter;
use pyralog_tests::measure::{asked_to_run, machine, setting};
use pyralog_tests::memory::PeakMemory;
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::{Server, ServerOptions};
use pyralog_tests::tpch::{TABLES, TpchTable, load};

fn main() {
    if !asked_to_run() {
        return;
    }
    let scale: f64 = setting("TPCH_SF", 0.1);
    let limit: String = setting("PYRALOG_MEMORY", "1GB".to_owned());
    println!("TPC-H SF {scale} under a limit of {limit}, {}", machine());
    let folder = tempfile::tempdir().unwrap();
    for table in TABLES {
        write_parquet(table, scale, folder.path());
    }
    for way in ["ingest", "copy from parquet"] {
        let server = Server::start_with(ServerOptions::default().memory_limit(&limit));
        let peak = PeakMemory::watch(server.pid());
        block_on(async {
            let db = server.client().await;
            let (started, mut rows) = (Instant::now(), 0);
            for table in TABLES {
                let table_started = Instant::now();
                let count = match way {
                    "ingest" => load(&db, table, scale).await,
                    _ => {
                        db.sql(table.definition()).execute().await.unwrap();
                        let file = folder.path().join(format!("{}.parquet", table.name));
                        let copy = format!("COPY {} FROM '{}'", table.name, file.display());
                        db.sql(copy)
                            .execute()
                            .await
                            .unwrap_or_else(|error| panic!("{}: {error}", table.name))
                    }
                };
                println!(
                    "  {way} {}: {count} rows, {:.2} s",
                    table.name,
                    table_started.elapsed().as_secs_f64()
                );
                rows += count;
            }
            let seconds = started.elapsed().as_secs_f64();
            println!(
                "{way}: {seconds:.2} s, {:.0} rows/s, peak of {} MB",
                rows as f64 / seconds,
                peak.peak_bytes() >> 20
            );
        });
    }
}

fn write_parquet(table: TpchTable, scale: f64, folder: &Path) {
    let batches = table.batches(scale);
    let file = std::fs::File::create(folder.join(format!("{}.parquet", table.name))).unwrap();
    let mut writer = ArrowWriter::try_new(file, SchemaRef::clone(batches.schema()), None).unwrap();
    for batch in batches {
        writer.write(&batch).unwrap();
    }
    writer.close().unwrap();
}
