//! `CALL sparql('kb', …)`: answers as rows, whole terms, in the query's order; and arguments that are bound.

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use pyralog_models::rdf::TermColumn;
use pyralog_models::{Error, Parameters};

use crate::fixture::Fixture;

async fn open() -> Fixture {
    let f = Fixture::new().await;
    f.run("CREATE COLLECTION kb AS RDF").await;
    let triples: String = (0..200).map(|i| format!("<urn:s{i}> <urn:n> {i} . ")).collect();
    f.run(&format!(
        "CALL sparql_update('kb', 'INSERT DATA {{ {triples} <urn:a> <urn:p> \"it''s\"@en , _:b GRAPH <urn:g> {{ <urn:a> <urn:p> 1 }} }}')"
    ))
    .await;
    f
}

async fn call(f: &Fixture, sql: &str, parameters: Parameters) -> Result<(SchemaRef, Vec<RecordBatch>), Error> {
    let result = f.session.execute(sql, parameters).await?;
    let schema = result.schema.clone();
    let batches: Vec<RecordBatch> = result.stream.try_collect().await.map_err(Error::from)?;
    assert!(batches.iter().all(|batch| batch.schema() == schema), "{sql}");
    Ok((schema, batches))
}

/// Rows of terms as N-Triples has them, unbound ones as `-`.
async fn terms(f: &Fixture, query: &str) -> Vec<String> {
    let sql = format!("CALL sparql('kb', '{}')", query.replace('\'', "''"));
    // What is prepared is what comes.
    let prepared = f.session.prepare(&sql).await.unwrap();
    let (schema, batches) = call(f, &sql, Parameters::None)
        .await
        .unwrap_or_else(|error| panic!("{query}: {error}"));
    assert!(prepared.returns_rows && prepared.schema == schema, "{query}");
    let mut rows = Vec::new();
    for batch in &batches {
        let columns: Vec<TermColumn> = batch.columns().iter().map(|column| TermColumn::new(column).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let term = |column: &TermColumn| column.get(row).unwrap().map_or("-".to_owned(), |term| term.to_string());
            rows.push(columns.iter().map(term).collect::<Vec<_>>().join(" "));
        }
    }
    rows
}

async fn truth(f: &Fixture, sql: &str, parameters: Parameters) -> bool {
    let (schema, batches) = call(f, sql, parameters).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!((schema.fields().len(), schema.field(0).name().as_str()), (1, "boolean"));
    batches[0].column(0).as_boolean().value(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_has_its_columns() {
    let f = open().await;
    let down: Vec<String> = (0..200)
        .rev()
        .map(|i| format!("<urn:s{i}> \"{i}\"^^<http://www.w3.org/2001/XMLSchema#integer>"))
        .collect();
    assert_eq!(terms(&f, "SELECT ?s ?n { ?s <urn:n> ?n } ORDER BY DESC(?n)").await, down);
    assert_eq!(
        terms(&f, "SELECT ?o ?no { <urn:a> <urn:p> ?o FILTER isLiteral(?o) }").await,
        ["\"it's\"@en -"]
    );
    assert_eq!(
        terms(&f, "CONSTRUCT { ?s <urn:q> 'x' } WHERE { ?s <urn:n> 7 }").await,
        ["<urn:s7> <urn:q> \"x\""]
    );
    assert_eq!(terms(&f, "DESCRIBE <urn:a>").await.len(), 2);
    assert_eq!(terms(&f, "SELECT * { ?s <urn:n> -1 }").await, Vec::<String>::new());
    let prepared = f
        .session
        .prepare("CALL sparql('kb', 'CONSTRUCT WHERE { ?s ?p ?o }')")
        .await
        .unwrap();
    let names: Vec<&str> = prepared.schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["subject", "predicate", "object"]);
    for (query, expected) in [
        ("ASK { <urn:a> <urn:p> 1 }", false),
        ("ASK { GRAPH ?g { <urn:a> <urn:p> 1 } }", true),
    ] {
        assert_eq!(
            truth(&f, &format!("CALL sparql('kb', '{query}')"), Parameters::None).await,
            expected
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_sees_its_snapshot_and_its_own_writes() {
    let f = open().await;
    let ask = "CALL SPARQL('kb', 'ASK { <urn:a> <urn:new> ?o }')";
    let other = f.db.session();
    f.run("BEGIN").await;
    assert!(!truth(&f, ask, Parameters::None).await);
    f.run("CALL sparql_update('kb', 'INSERT DATA { <urn:a> <urn:new> 1 }')").await;
    assert!(truth(&f, ask, Parameters::None).await);
    other
        .execute("CALL sparql_update('kb', 'INSERT DATA { <urn:b> <urn:new> 1 }')", Parameters::None)
        .await
        .unwrap();
    assert!(!truth(&f, "CALL sparql('kb', 'ASK { <urn:b> <urn:new> ?o }')", Parameters::None).await);
    f.run("ROLLBACK").await;
    assert!(!truth(&f, ask, Parameters::None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_bound() {
    let f = open().await;
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
    let ask = "ASK { <urn:s1> <urn:n> 1 }";
    let both = Parameters::Positional(vec![text("kb"), ScalarValue::Utf8View(Some(ask.to_owned()))]);
    assert!(truth(&f, "CALL sparql($1, $2)", both.clone()).await);
    assert!(truth(&f, "CALL sparql(?, ?)", both).await);
    let named = Parameters::Named(vec![("q".to_owned(), text(ask))]);
    assert!(truth(&f, "CALL sparql('kb', $q)", named).await);
    let update = Parameters::Positional(vec![text("INSERT DATA { <urn:new> <urn:p> \"it's\" }")]);
    call(&f, "CALL sparql_update('kb', $1)", update).await.unwrap();
    assert!(truth(&f, "CALL sparql('kb', 'ASK { <urn:new> ?p \"it''s\" }')", Parameters::None).await);

    let prepared = f.session.prepare("CALL sparql('kb', $1)").await.unwrap();
    assert!(prepared.returns_rows && prepared.schema.fields().is_empty());
    assert_eq!(prepared.parameters.fields().len(), 1);
    let prepared = f.session.prepare("CALL sparql($1, 'SELECT ?s { ?s ?p ?o }')").await.unwrap();
    assert_eq!((prepared.schema.fields().len(), prepared.parameters.fields().len()), (1, 1));

    for (sql, parameters, code) in [
        ("CALL sparql('kb', $1)", Parameters::None, "07001"),
        (
            "CALL sparql('kb', $1)",
            Parameters::Positional(vec![ScalarValue::Int64(Some(1))]),
            "42804",
        ),
        (
            "CALL sparql('kb', $1)",
            Parameters::Positional(vec![ScalarValue::Utf8(None)]),
            "22004",
        ),
        (
            "CALL sparql('kb', $1)",
            Parameters::Positional(vec![text("ASK {"), text("")]),
            "07001",
        ),
        ("CALL sparql('kb', $1)", Parameters::Positional(vec![text("ASK {")]), "42601"),
    ] {
        assert_eq!(call(&f, sql, parameters).await.unwrap_err().code, code, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told() {
    let f = open().await;
    f.run("CREATE TABLE t (a BIGINT PRIMARY KEY)").await;
    for (sql, code) in [
        ("CALL sparql('kb', 'SELECT ?s { ?s ?p ')", "42601"),
        ("CALL sparql('kb', 'CLEAR ALL')", "42601"),
        ("CALL sparql('nowhere', 'ASK {}')", "42P01"),
        ("CALL sparql('t', 'ASK {}')", "42809"),
        ("CALL sparql('kb')", "42601"),
        ("CALL sparql", "42601"),
        ("CALL sparql('kb', query => 'ASK {}')", "42601"),
        ("CALL sparql(DISTINCT 'kb', 'ASK {}')", "42601"),
        ("CALL sparql('kb', 'ASK {}' || '')", "0A000"),
        ("CALL nothing('kb')", "42883"),
    ] {
        assert_eq!(f.fails(sql).await.code, code, "{sql}");
        assert_eq!(f.session.prepare(sql).await.unwrap_err().code, code, "{sql}");
    }
    let error = f.fails("CALL sparql('kb', 'SELECT ?s { ?s ?p ')").await;
    assert!(error.message.starts_with("line 1, column 19 of the SPARQL query: "), "{error}");
}
