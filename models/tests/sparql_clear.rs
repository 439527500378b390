//! Clearing all graphs at once: quads go without being named one by one.

use crate::fixture::Fixture;
use crate::sparql::{open, select, update};

const ALL: &str = "SELECT (COUNT(*) AS ?n) { { ?s ?p ?o } UNION { GRAPH ?g { ?s ?p ?o } } FILTER(?p != <urn:none>) }";

async fn count(f: &Fixture) -> String {
    select(f, ALL).await.remove(0)
}

async fn filled() -> Fixture {
    let f = open().await;
    update(&f, "DROP ALL").await.unwrap();
    let data: String = (0..3000).map(|i| format!("<urn:s{i}> <urn:p> {i} . ")).collect();
    update(&f, &format!("INSERT DATA {{ {data} }}")).await.unwrap();
    f.run("CHECKPOINT").await;
    update(&f, "INSERT DATA { <urn:late> <urn:p> 1 } ; DELETE DATA { <urn:s5> <urn:p> 5 }")
        .await
        .unwrap();
    assert_eq!(count(&f).await, "3000");
    f
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_a_clear_is_there_and_all_before_is_not() {
    for clear in ["CLEAR ALL", "DROP ALL", "CLEAR DEFAULT", "DROP DEFAULT"] {
        let f = filled().await;
        update(
            &f,
            &format!("{clear} ; INSERT DATA {{ <urn:s7> <urn:p> 7 . <urn:new> <urn:p> 2 . <urn:gone> <urn:p> 2 }} ; DELETE DATA {{ <urn:gone> <urn:p> 2 }}"),
        )
        .await
        .unwrap();
        let expected = ["urn:new|2", "urn:s7|7"];
        let left = "SELECT ?s ?o { ?s <urn:p> ?o }";
        assert_eq!(select(&f, left).await, expected, "{clear}");
        assert_eq!(select(&f, "SELECT ?s { ?s ?p 7 }").await, ["urn:s7"], "{clear}");
        // From the log, and from segments.
        let f = f.reopen().await;
        assert_eq!(select(&f, left).await, expected, "{clear}");
        f.run("CHECKPOINT").await;
        let f = f.reopen().await;
        assert_eq!(select(&f, left).await, expected, "{clear}");
        f.run("COMPACT").await;
        assert_eq!(select(&f, left).await, expected, "{clear}");
        update(&f, "INSERT DATA { <urn:s9> <urn:p> 9 }").await.unwrap();
        assert_eq!(count(&f).await, "3", "{clear}");
        assert!(f.db.verify().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_graph_is_cleared_without_the_others() {
    let f = filled().await;
    update(&f, "INSERT DATA { GRAPH <urn:g> { <urn:s7> <urn:p> 7, 8 } }").await.unwrap();
    update(&f, "CLEAR DEFAULT").await.unwrap();
    assert_eq!(count(&f).await, "2");
    update(&f, "INSERT DATA { <urn:s7> <urn:p> 7 } ; CLEAR ALL").await.unwrap();
    assert_eq!(count(&f).await, "0");
    // The graph is there still, empty.
    assert_eq!(select(&f, "SELECT ?g { GRAPH ?g {} }").await, ["urn:g"]);
    update(&f, "DROP ALL").await.unwrap();
    assert!(select(&f, "SELECT ?g { GRAPH ?g {} }").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clear_is_part_of_its_transaction() {
    let f = filled().await;
    let other = f.db.session();
    f.run("BEGIN").await;
    f.run("CALL sparql_update('kb', 'INSERT DATA { <urn:own> <urn:p> 1 }')").await;
    f.run("SAVEPOINT before").await;
    f.run("CALL sparql_update('kb', 'CLEAR ALL')").await;
    assert_eq!(count(&f).await, "0");
    f.run("ROLLBACK TO before").await;
    assert_eq!(count(&f).await, "3001");
    f.run("CALL sparql_update('kb', 'CLEAR ALL ; INSERT DATA { <urn:last> <urn:p> 1 }')")
        .await;
    assert_eq!(count(&f).await, "1");
    let sql = "SELECT * FROM sparql('kb', 'SELECT (COUNT(*) AS ?n) { ?s ?p ?o }')";
    let seen = crate::fixture::rows(&other, sql).await.unwrap();
    assert_eq!(seen, ["3000"], "another session sees it before it is committed");
    f.run("COMMIT").await;
    assert_eq!(count(&f).await, "1");

    // A quad that another one adds meanwhile would be left, or would be lost.
    f.run("BEGIN").await;
    f.run("CALL sparql_update('kb', 'CLEAR ALL')").await;
    crate::fixture::run(&other, "CALL sparql_update('kb', 'INSERT DATA { <urn:meanwhile> <urn:p> 1 }')")
        .await
        .unwrap();
    assert_eq!(f.fails("COMMIT").await.code, "40001");
    assert_eq!(count(&f).await, "2");
}
