//! `--memory-limit` bounds the process: data larger than the limit goes in, and large sorts, aggregations and joins spill or fail
//! with a clear error.
//!
//! `PYRALOG_MEMORY_ROWS` is the number of rows of about 130 bytes (default 3 million).

use std::sync::Arc;
use std::time::Duration;

use futures::{TryStreamExt, stream};
use pyralog_client::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use pyralog_client::{Batches, Client, ErrorKind};
use pyralog_tests::measure::setting;
use pyralog_tests::memory::PeakMemory;
use pyralog_tests::runtime::block_on;
use pyralog_tests::server::{Server, ServerOptions};

const LIMIT_MB: u64 = 256;
/// What a process has besides what is counted and besides its code: stacks, the allocator's slack, buffers of the wires. The rows take more
/// than this and the limit together.
const SLACK_MB: u64 = 64;
const BATCH_ROWS: i64 = 8192;
const WITHIN: Duration = Duration::from_secs(600);

/// Rows in an order that is not the key's, with payloads that do not compress to nothing.
fn batch(start: i64, rows: i64) -> RecordBatch {
    let key = |i: i64| i.wrapping_mul(0x5851_F42D_4C95_7F2D) & i64::MAX;
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((start..start + rows).map(key)));
    let groups: ArrayRef = Arc::new(Int64Array::from_iter_values((start..start + rows).map(|i| i % 1000)));
    let text = |i: i64| {
        format!(
            "{:016x}{:016x}{:016x}{:016x}{:016x}{:016x}",
            key(i),
            key(i + 1),
            key(i + 2),
            key(i + 3),
            key(i + 4),
            key(i + 5)
        )
    };
    let payload: ArrayRef = Arc::new(StringArray::from_iter_values((start..start + rows).map(text)));
    RecordBatch::try_from_iter([("id", ids), ("grp", groups), ("payload", payload)]).unwrap()
}

/// The rows of a query, counted as they stream by; or the clear error of a memory limit.
async fn spills_or_says_so(db: &Client, what: &str, sql: &str, rows: i64) {
    let counted = async {
        let mut result = db.sql(sql).timeout(WITHIN).fetch().await?;
        let mut count = 0;
        while let Some(batch) = result.try_next().await? {
            count += batch.num_rows() as i64;
        }
        Ok::<i64, pyralog_client::ClientError>(count)
    };
    match counted.await {
        Ok(count) => assert_eq!(count, rows, "{what}"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{what}: {error:?}");
            assert!(error.message().to_lowercase().contains("memory"), "{what}: {error}");
            println!("{what}: {error}");
        }
    }
}

#[test]
fn memory_stays_under_the_limit() {
    let rows: i64 = setting("PYRALOG_MEMORY_ROWS", 3_000_000);
    let mut server = Server::start_with(ServerOptions::default().memory_limit(&format!("{LIMIT_MB}MB")));
    let peak = PeakMemory::watch_data(server.pid());
    let within = |what: &str| {
        let megabytes = peak.peak_bytes() >> 20;
        println!("{what}: peak of {megabytes} MB");
        assert!(
            megabytes <= LIMIT_MB + SLACK_MB,
            "{what}: {megabytes} MB resident under a limit of {LIMIT_MB} MB"
        );
    };
    block_on(async {
        let db = server
            .client_with_table("big (id BIGINT PRIMARY KEY, grp BIGINT, payload VARCHAR)")
            .await;
        let starts = (0..rows)
            .step_by(BATCH_ROWS as usize)
            .map(move |start| batch(start, BATCH_ROWS.min(rows - start)));
        let batches = stream::iter(starts.map(Ok::<_, std::convert::Infallible>));
        let inserted = db
            .table("big")
            .insert(Batches::from_stream(batch(0, 0).schema(), batches))
            .await
            .unwrap();
        assert_eq!(inserted as i64, rows);
        within("ingest");
        assert_eq!(db.sql("SELECT count(*) FROM big").fetch_scalar::<i64>().await.unwrap(), rows);
        spills_or_says_so(&db, "scan", "SELECT * FROM big", rows).await;
        within("scan");
        spills_or_says_so(&db, "sort", "SELECT * FROM big ORDER BY payload", rows).await;
        within("sort");
        spills_or_says_so(&db, "aggregation", "SELECT payload, count(*) FROM big GROUP BY payload", rows).await;
        within("aggregation");
        spills_or_says_so(&db, "join", "SELECT a.id FROM big a JOIN big b ON a.payload = b.payload", rows).await;
        within("join");
        match db.sql("UPDATE big SET grp = grp + 1 WHERE grp < 10").execute().await {
            Ok(count) => assert_eq!(count as i64, (rows / 1000) * 10 + (rows % 1000).min(10)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}"),
        }
        within("update");
        // Whatever failed, the server and its data are well.
        assert_eq!(db.sql("SELECT count(*) FROM big").fetch_scalar::<i64>().await.unwrap(), rows);
    });
    assert!(server.is_alive());
    drop(peak);
    server.kill_and_restart();
    block_on(async {
        let db = server.client().await;
        assert_eq!(db.sql("SELECT count(*) FROM big").fetch_scalar::<i64>().await.unwrap(), rows);
    });
}
