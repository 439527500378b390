//! Bulk inserts arrive whole or not at all.

use std::time::Duration;

use futures::{StreamExt, stream};
use pyralog_client::{Batches, Client, ErrorKind};

use super::server::{Running, ids};

async fn connected() -> (Running, Client) {
    let server = Running::start().await;
    let db = Client::connect(server.url()).await.unwrap();
    (server, db)
}

#[tokio::test]
async fn batches_arrive() {
    let (server, db) = connected().await;
    let batches: Vec<_> = (0..20).map(|i| ids(i * 100_000, 100_000)).collect();
    assert_eq!(db.table("t").insert(batches).await.unwrap(), 2_000_000);
    server.wait_for("ingest t 2000000").await;
    let rows = db.sql("SELECT 1").fetch().await.unwrap();
    assert_eq!(db.table("copy").create_from(rows).await.unwrap(), 3);
}

#[tokio::test]
async fn a_source_that_fails_inserts_nothing() {
    let (server, db) = connected().await;
    let failing = stream::iter((0..50).map(|i| {
        if i < 40 {
            Ok(ids(i, 1000))
        } else {
            Err(std::io::Error::other("disk gone"))
        }
    }));
    // Slow enough for the server's headers to come before the failure.
    let failing = failing.then(async |batch| {
        tokio::time::sleep(Duration::from_millis(2)).await;
        batch
    });
    let error = db
        .table("t")
        .insert(Batches::from_stream(ids(0, 0).schema(), failing))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("disk gone"), "{error}");
    server.wait_for("ingest t aborted").await;
    assert!(
        !server
            .events()
            .iter()
            .any(|event| event.starts_with("ingest t ") && !event.ends_with("aborted"))
    );
}

#[tokio::test]
async fn an_insert_that_nobody_waits_for_is_undone() {
    let (server, db) = connected().await;
    let endless = stream::iter(0..).then(async |i| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok::<_, std::io::Error>(ids(i, 10))
    });
    let table = db.table("t");
    let insert = table.insert(Batches::from_stream(ids(0, 0).schema(), endless));
    assert!(tokio::time::timeout(Duration::from_millis(300), insert).await.is_err());
    server.wait_for("ingest t aborted").await;
}

#[tokio::test]
async fn odd_inserts_are_refused() {
    let (_server, db) = connected().await;
    assert_eq!(db.table("t").insert(vec![]).await.unwrap(), 0);
    assert_eq!(db.table("t").create_from(vec![]).await.unwrap_err().kind(), ErrorKind::Usage);
    let other = ids(0, 1).project(&[]).unwrap();
    assert_eq!(
        db.table("t").insert(vec![ids(0, 1), other]).await.unwrap_err().kind(),
        ErrorKind::Usage
    );
    assert_eq!(db.table("silent").insert(ids(0, 1)).await.unwrap_err().kind(), ErrorKind::Protocol);
}
