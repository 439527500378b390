//! Streams of rows: lazy, cancelled when dropped, repeated only before their first row.

use std::time::Duration;

use pyralog_client::{Client, ClientConfig, ErrorKind, RetryPolicy};

use super::server::Running;

#[tokio::test]
async fn rows_are_streamed_with_their_schema() {
    let server = Running::start().await;
    let db = Client::connect(server.url()).await.unwrap();
    let rows = db.sql("SELECT two endpoints").fetch().await.unwrap();
    assert_eq!(rows.schema().field(0).name(), "id");
    let total: usize = rows.collect_batches().await.unwrap().iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(total, 6);
    let none = db.sql("SELECT empty").fetch().await.unwrap();
    assert_eq!(none.schema().fields().len(), 1);
    assert!(none.collect_batches().await.unwrap().is_empty());
    assert_eq!(db.sql("SELECT 1").fetch_scalar::<i64>().await.unwrap(), 1);
    assert_eq!(
        db.sql("SELECT empty").fetch_scalar::<i64>().await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn a_dropped_stream_cancels_the_query() {
    let server = Running::start().await;
    let db = Client::connect(server.url()).await.unwrap();
    let mut rows = db.sql("SELECT endless").fetch().await.unwrap();
    rows.next_batch().await.unwrap();
    assert!(!server.events().contains(&"stream dropped".to_owned()));
    drop(rows);
    server.wait_for("stream dropped").await;
}

#[tokio::test]
async fn an_error_in_the_stream_is_typed() {
    let server = Running::start().await;
    let db = Client::connect(server.url()).await.unwrap();
    let mut rows = db.sql("SELECT breaks").fetch().await.unwrap();
    assert_eq!(rows.next_batch().await.unwrap().map(|batch| batch.num_rows()), Some(10));
    let error = rows.next_batch().await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::ResourceExhausted, Some("53200")));
}

#[tokio::test]
async fn an_unknown_table_is_not_asked_for_twice() {
    let server = Running::start().await;
    let db = Client::connect(server.url()).await.unwrap();
    let error = db.sql("SELECT * FROM missing").fetch().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code(), error.is_retryable()),
        (ErrorKind::NotFound, Some("42P01"), false)
    );
    assert_eq!(server.events().iter().filter(|event| event.starts_with("query")).count(), 1);
}

#[tokio::test]
async fn reads_are_repeated_until_the_server_is_up() {
    let server = Running::start().await;
    let db = Client::connect(server.url()).await.unwrap();
    assert_eq!(db.sql("SELECT flaky").fetch_all().await.unwrap()[0].num_rows(), 3);
    assert_eq!(server.events().iter().filter(|event| *event == "query SELECT flaky").count(), 3);
}

#[tokio::test]
async fn no_policy_no_repetition() {
    let server = Running::start().await;
    let config = ClientConfig::new(&server.url()).unwrap().retry(RetryPolicy::NEVER);
    let db = Client::connect(config).await.unwrap();
    assert_eq!(db.sql("SELECT flaky").fetch_all().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn cookies_and_tokens_come_back() {
    let server = Running::start().await;
    let db = Client::connect(server.url().replace("grpc://", "grpc://ann:pw@")).await.unwrap();
    for _ in 0..2 {
        db.sql("SELECT 1").fetch_all().await.unwrap();
    }
    let seen: Vec<String> = server.events().into_iter().filter(|event| event.starts_with("cookie")).collect();
    assert_eq!(
        seen,
        ["cookie - authorization Bearer t0k3n", "cookie sid=42 authorization Bearer t0k3n"]
    );
    let wrong = Client::connect(server.url().replace("grpc://", "grpc://ann:no@"))
        .await
        .unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn bound_values_go_through_a_prepared_statement_that_is_closed() {
    let server = Running::start().await;
    let db = Client::connect(server.url()).await.unwrap();
    let rows = db.sql("SELECT $1").bind(7).fetch().await.unwrap();
    assert_eq!(rows.collect_batches().await.unwrap().len(), 1);
    assert!(
        server.events().contains(&"query SELECT $1 bound 1".to_owned()),
        "{:?}",
        server.events()
    );
    server.wait_for("ClosePreparedStatement").await;
    let error = db.sql("SELECT $1").bind(7).bind_named("a", 1).fetch().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[tokio::test]
async fn a_timeout_is_a_deadline() {
    let server = Running::start().await;
    let db = Client::connect(server.url()).await.unwrap();
    let mut rows = db.sql("SELECT endless").timeout(Duration::from_millis(200)).fetch().await.unwrap();
    let error = loop {
        match rows.next_batch().await {
            Ok(batch) => assert!(batch.is_some()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error:?}");
}

#[tokio::test]
async fn sparql_is_read_again_and_changed_once() {
    let server = Running::start().await;
    let db = Client::connect(server.url()).await.unwrap();
    // The server is busy twice; what it gives then is no truth value.
    let error = db.rdf("k'b").ask("ASK { ?flaky ?p 'x' }").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    let asked = "query CALL sparql('k''b', 'ASK { ?flaky ?p ''x'' }')";
    assert_eq!(server.events().iter().filter(|event| *event == asked).count(), 3);
    db.rdf("kb").update("CLEAR ALL").await.unwrap();
    let events = server.events();
    let at = events
        .iter()
        .position(|event| event == "update CALL sparql_update('kb', 'CLEAR ALL')")
        .unwrap();
    assert!(events[at - 1].starts_with("named "), "an update has a name: {events:?}");
}

#[tokio::test]
async fn a_dump_asks_for_what_is_wanted() {
    let server = Running::start().await;
    let db = Client::connect(server.url()).await.unwrap();
    let kb = db.rdf("kb");
    // The scripted server gives no quads.
    for dump in [kb.dump(), kb.dump().default_graph(), kb.dump().graph("urn:g")] {
        assert_eq!(dump.await.unwrap_err().kind(), ErrorKind::Usage);
    }
    let asked: Vec<String> = server.events().into_iter().filter(|event| event.starts_with("query")).collect();
    assert_eq!(asked[0], "query SELECT subject, predicate, object, graph FROM \"kb\".quads");
    assert!(asked[1].ends_with("?graph { ?subject ?predicate ?object }')"), "{}", asked[1]);
    assert!(asked[2].contains("(<urn:g> AS ?graph) { GRAPH <urn:g> {"), "{}", asked[2]);
    // What is no IRI does not reach the query.
    let error = kb.dump().graph("urn:g> { ?s ?p ?o } } #").await.unwrap_err();
    assert!(error.message().contains("no IRI"), "{error}");
    assert_eq!(server.events().iter().filter(|event| event.starts_with("query")).count(), 3);
}
