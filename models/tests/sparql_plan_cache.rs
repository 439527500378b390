//! Plans of queries that come again are kept, and are never those of another state.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::TryStreamExt;
use pyralog_models::Session;
use pyralog_models::rdf::{SparqlQuery, SparqlResult, TermColumn};

use crate::fixture::Fixture;
use crate::sparql::{open, update};

/// Rows of terms as N-Triples has them, unbound ones as `-`, in their order.
async fn rows(session: &Session, text: &str) -> Vec<String> {
    let query = SparqlQuery {
        dataset: "kb".to_owned(),
        text: text.to_owned(),
        ..SparqlQuery::default()
    };
    let SparqlResult::Solutions(_, batches) = session.sparql(query).await.unwrap() else {
        panic!("no solutions of {text}");
    };
    let batches: Vec<_> = batches.try_collect().await.unwrap();
    let mut found = Vec::new();
    for batch in &batches {
        let columns: Vec<TermColumn> = batch.columns().iter().map(|column| TermColumn::new(column).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let term = |column: &TermColumn| match column.get(row).unwrap() {
                Some(oxrdf::TermRef::Literal(literal)) => literal.value().to_owned(),
                other => other.map_or("-".to_owned(), |term| term.to_string()),
            };
            found.push(columns.iter().map(term).collect::<Vec<_>>().join(" "));
        }
    }
    found
}

fn reused(f: &Fixture) -> u64 {
    f.db.status().plans_reused
}

async fn things(f: &Fixture, numbers: std::ops::Range<usize>) {
    let quads: String = numbers
        .map(|i| format!("<urn:t{i}> <urn:n> {i} ; <urn:kind> <urn:k{}> . ", i % 7))
        .collect();
    update(f, &format!("INSERT DATA {{ {quads} }}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_plan_answers_as_a_new_one() {
    let f = open().await;
    things(&f, 0..2000).await;
    let chain: String = (0..40)
        .map(|i| format!("<urn:c{i}> <urn:next> <urn:c{}> . ", (i + 1) % 40 + i % 3))
        .collect();
    update(&f, &format!("INSERT DATA {{ {chain} }}")).await.unwrap();
    f.run("CHECKPOINT").await;
    // Each with something that operators might keep from run to run: the best so far of a sort, groups, both sides of a join.
    let queries = [
        "SELECT ?n { VALUES ?t { <urn:t3> <urn:t9> <urn:t4> <urn:t7> } ?t <urn:kind> ?k ; <urn:n> ?n } ORDER BY DESC(?n) LIMIT 2",
        "SELECT DISTINCT ?k { ?t <urn:n> 9 ; <urn:kind> ?k }",
        "SELECT ?k (COUNT(*) AS ?c) (SUM(?n) AS ?s) { VALUES ?t { <urn:t1> <urn:t8> <urn:t2> } ?t <urn:kind> ?k ; <urn:n> ?n } GROUP BY ?k ORDER BY ?k",
        "SELECT ?n ?m { <urn:t5> <urn:n> ?n OPTIONAL { <urn:t6> <urn:n> ?m OPTIONAL { ?t <urn:n> ?n ; <urn:kind> <urn:k6> } } }",
        "SELECT ?n { { <urn:t5> <urn:n> ?n } UNION { <urn:t6> <urn:n> ?n } FILTER NOT EXISTS { ?t <urn:n> ?n ; <urn:kind> <urn:k5> } }",
        "SELECT (CONCAT(STR(?n), 'x') AS ?x) { <urn:t5> <urn:n> ?n } ",
        "SELECT ?e { <urn:c3> <urn:next>+ ?e } ORDER BY ?e LIMIT 9",
        "SELECT (COUNT(*) AS ?c) { ?s <urn:next>+ ?e }",
        "SELECT ?n ?m { { SELECT ?n { <urn:t3> <urn:n> ?n } } { SELECT ?m { <urn:t4> <urn:n> ?m } } FILTER(?n < ?m) }",
    ];
    for query in queries {
        let first = rows(&f.session, query).await;
        assert!(!first.is_empty(), "{query}");
        let before = reused(&f);
        for _ in 0..4 {
            assert_eq!(rows(&f.session, query).await, first, "{query}");
        }
        assert!(reused(&f) > before, "the plan is not kept: {query}");
    }
    let ask = |text: &str| {
        let query = SparqlQuery {
            dataset: "kb".to_owned(),
            text: text.to_owned(),
            ..SparqlQuery::default()
        };
        f.session.sparql(query)
    };
    let before = reused(&f);
    for _ in 0..3 {
        assert!(matches!(
            ask("ASK { <urn:t5> <urn:n> 5 }").await.unwrap(),
            SparqlResult::Boolean(true)
        ));
        assert!(matches!(
            ask("ASK { <urn:t5> <urn:n> 6 }").await.unwrap(),
            SparqlResult::Boolean(false)
        ));
    }
    assert_eq!(reused(&f), before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_seen() {
    let f = open().await;
    let query = "SELECT ?n { ?t <urn:kind> <urn:k1> ; <urn:n> ?n } ORDER BY ?n";
    let mut expected = Vec::new();
    for round in 0..6 {
        things(&f, round * 7..round * 7 + 7).await;
        expected.push((round * 7 + 1).to_string());
        for _ in 0..3 {
            assert_eq!(rows(&f.session, query).await, expected);
        }
    }
    assert!(reused(&f) >= 6);
    update(&f, "DELETE DATA { <urn:t8> <urn:n> 8 }").await.unwrap();
    expected.retain(|n| n != "8");
    assert_eq!(rows(&f.session, query).await, expected);
    // Within a transaction, what it wrote itself.
    let far = "SELECT (COUNT(*) AS ?c) { <urn:f0> <urn:next>+ ?e }";
    for length in 1..4 {
        update(&f, &format!("INSERT DATA {{ <urn:f{}> <urn:next> <urn:f{length}> }}", length - 1))
            .await
            .unwrap();
        for _ in 0..3 {
            assert_eq!(rows(&f.session, far).await, [length.to_string()]);
        }
    }
    let count = "SELECT (COUNT(*) AS ?c) { ?t <urn:kind> ?k }";
    for _ in 0..3 {
        assert_eq!(rows(&f.session, count).await, ["42"]);
    }
    f.run("BEGIN").await;
    things(&f, 100..101).await;
    assert_eq!(rows(&f.session, count).await, ["43"]);
    let elsewhere = f.db.session();
    assert_eq!(rows(&elsewhere, count).await, ["42"]);
    f.run("ROLLBACK").await;
    assert_eq!(rows(&f.session, count).await, ["42"]);
    // Another dataset of the same name.
    f.run("DROP COLLECTION kb").await;
    f.run("CREATE COLLECTION kb AS RDF").await;
    assert_eq!(rows(&f.session, count).await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_different_each_time_is_not_kept() {
    let f = open().await;
    for text in [
        "SELECT (NOW() AS ?t) {}",
        "SELECT (STRUUID() AS ?t) {}",
        "SELECT (STR(RAND()) AS ?t) {}",
    ] {
        let mut seen = BTreeSet::new();
        for _ in 0..4 {
            seen.extend(rows(&f.session, text).await);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        assert_eq!(seen.len(), 4, "{text}: {seen:?}");
    }
    assert_eq!(reused(&f), 0);
}

/// Plain plans take few rows, no rows and all but some of them, below sorts and above.
#[tokio::test(flavor = "multi_thread")]
async fn plain_plans_are_cut_where_they_are_asked_to_be() {
    let f = open().await;
    let data: String = (0..30).map(|i| format!("<urn:x> <urn:v> {} . ", (i * 7) % 30)).collect();
    update(&f, &format!("INSERT DATA {{ {data} }}")).await.unwrap();
    let cases = [
        ("SELECT ?v { <urn:x> <urn:v> ?v } ORDER BY ?v LIMIT 0", ""),
        ("SELECT ?v { <urn:x> <urn:v> ?v } ORDER BY ?v OFFSET 40 LIMIT 3", ""),
        ("SELECT ?v { <urn:x> <urn:v> ?v } ORDER BY ?v OFFSET 27", "27 28 29"),
        ("SELECT ?v { <urn:x> <urn:v> ?v } ORDER BY DESC(?v) OFFSET 1 LIMIT 2", "28 27"),
        (
            "SELECT (?v + 1 AS ?w) { <urn:x> <urn:v> ?v FILTER(?v > 20) } ORDER BY ?w LIMIT 2",
            "22 23",
        ),
        (
            "SELECT DISTINCT (?v > 20 AS ?w) { <urn:x> <urn:v> ?v } ORDER BY ?w LIMIT 5",
            "false true",
        ),
        (
            "SELECT ?v { { SELECT ?v { <urn:x> <urn:v> ?v } ORDER BY ?v LIMIT 5 } } ORDER BY DESC(?v) LIMIT 2",
            "4 3",
        ),
        (
            "SELECT ?v { { SELECT ?v { <urn:x> <urn:v> ?v } ORDER BY ?v LIMIT 0 } } ORDER BY DESC(?v) LIMIT 2",
            "",
        ),
        (
            "SELECT (COUNT(DISTINCT ?w) AS ?n) (SUM(?v) AS ?s) { <urn:x> <urn:v> ?v BIND(?v > 20 AS ?w) }",
            "2 435",
        ),
        (
            "SELECT ?w (COUNT(*) AS ?n) { <urn:x> <urn:v> ?v BIND(?v > 20 AS ?w) } GROUP BY ?w HAVING(COUNT(*) < 10) ORDER BY ?w",
            "true 9",
        ),
        ("SELECT (COUNT(*) AS ?n) { <urn:nothing> <urn:v> ?v }", "0"),
        ("SELECT (COUNT(*) AS ?n) { <urn:x> <urn:v> ?v } LIMIT 0", ""),
        ("SELECT * { { SELECT ?v { <urn:x> <urn:v> ?v } ORDER BY ?v LIMIT 5 } } LIMIT 0", ""),
        (
            "SELECT (?w * 10 AS ?x) { { SELECT DISTINCT (?v > 20 AS ?b) (1 AS ?w) { <urn:x> <urn:v> ?v } } } OFFSET 1 LIMIT 1",
            "10",
        ),
        ("SELECT (MAX(?v) AS ?n) { <urn:x> <urn:v> ?v } LIMIT 1", "29"),
    ];
    for (query, expected) in cases {
        // The second time it is kept, the third time its plan is run again.
        for _ in 0..4 {
            assert_eq!(rows(&f.session, query).await.join(" "), expected, "{query}");
        }
    }
}
