//! Writes: counted, repeated only when they had no effect or have a name; transactions that tell of a late failure.

use pyralog_client::{Client, ErrorKind, params};

use super::server::Running;

async fn connected() -> (Running, Client) {
    let server = Running::start().await;
    let db = Client::connect(server.url()).await.unwrap();
    (server, db)
}

fn count(server: &Running, event: &str) -> usize {
    server.events().iter().filter(|known| *known == event).count()
}

#[tokio::test]
async fn counts_come_back() {
    let (_server, db) = connected().await;
    assert_eq!(db.sql("DELETE FROM t").execute().await.unwrap(), 3);
    assert_eq!(db.sql("CREATE TABLE t (a INT)").execute().await.unwrap(), 0);
    assert_eq!(db.sql("DELETE FROM t WHERE a = $1").bind(1).execute().await.unwrap(), 3);
}

#[tokio::test]
async fn a_conflict_is_tried_again_outside_a_transaction_only() {
    let (server, db) = connected().await;
    assert_eq!(db.sql("UPDATE busy").execute().await.unwrap(), 3);
    assert_eq!(count(&server, "update UPDATE busy"), 3);

    let (server, db) = connected().await;
    let tx = db.begin().await.unwrap();
    assert_eq!(tx.sql("UPDATE busy").execute().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(count(&server, "update UPDATE busy"), 1);

    let (server, db) = connected().await;
    db.sql("BEGIN").execute().await.unwrap();
    assert_eq!(db.sql("UPDATE busy").execute().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(count(&server, "update UPDATE busy"), 1);
    db.sql("ROLLBACK").execute().await.unwrap();
    assert_eq!(db.sql("UPDATE busy").execute().await.unwrap(), 3);
}

#[tokio::test]
async fn a_write_of_unknown_outcome_is_repeated_under_its_name_only() {
    let (server, db) = connected().await;
    let insert = "INSERT INTO unsure VALUES (1)";
    let error = db.sql(insert).execute().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
    let tries = pyralog_client::RetryPolicy::default().attempts as usize;
    assert_eq!(count(&server, &format!("update {insert}")), tries);
    let mut names: Vec<String> = server.events().into_iter().filter(|event| event.starts_with("named")).collect();
    assert_eq!(names.len(), tries);
    names.dedup();
    assert_eq!(names.len(), 1, "one request, one name: {names:?}");

    // Without a name: definitions, and statements of an open transaction.
    let (server, db) = connected().await;
    let create = "CREATE TABLE unsure (a INT)";
    assert_eq!(db.sql(create).execute().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(count(&server, &format!("update {create}")), 1);
    let tx = db.begin().await.unwrap();
    assert_eq!(tx.sql(insert).execute().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(count(&server, &format!("update {insert}")), 1);
    assert!(!server.events().iter().any(|event| event.starts_with("named")));
}

#[tokio::test]
async fn a_commit_that_fails_late_fails() {
    let (server, db) = connected().await;
    let error = db.begin().await.unwrap().commit().await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, Some("40001")));
    assert_eq!(count(&server, "end Commit"), 1);
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back() {
    let (server, db) = connected().await;
    drop(db.begin().await.unwrap());
    server.wait_for("end Rollback").await;
}

#[tokio::test]
async fn a_prepared_statement_runs_many_times() {
    let (server, db) = connected().await;
    let mut insert = db.prepare("INSERT INTO t VALUES ($1)").await.unwrap();
    for i in 0..3 {
        insert.execute(params![i]).await.unwrap();
    }
    insert.execute(super::server::ids(0, 5)).await.unwrap();
    drop(insert);
    server.wait_for("ClosePreparedStatement").await;
    assert_eq!(count(&server, "prepare INSERT INTO t VALUES ($1)"), 1);
    assert_eq!(count(&server, "update INSERT INTO t VALUES ($1) with 1"), 3);
    assert_eq!(count(&server, "update INSERT INTO t VALUES ($1) with 5"), 1);
}

#[tokio::test]
async fn key_value_verbs_are_statements() {
    let (server, db) = connected().await;
    let cache = db.kv("my \"cache\"");
    assert!(cache.put("k", b"v").await.unwrap());
    assert!(cache.put("k", b"v").ttl(60).if_absent().await.unwrap());
    assert!(cache.delete("k").await.unwrap());
    let texts: Vec<String> = server.events().into_iter().filter(|event| event.starts_with("update")).collect();
    assert!(
        texts[0].contains("INTO \"my \"\"cache\"\"\"") && texts[0].contains("DO UPDATE"),
        "{texts:?}"
    );
    assert!(
        texts[1].contains("60000 milliseconds") && texts[1].contains("DO NOTHING"),
        "{texts:?}"
    );
    assert_eq!(cache.put("k", b"v").ttl(0).await.unwrap_err().kind(), ErrorKind::Usage);
}
