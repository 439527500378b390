//! Datasets through the embedded database.
#![allow(clippy::unwrap_used, clippy::panic)]

mod load;

use std::collections::BTreeSet;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;
use oxrdf::{BlankNode, GraphName, Literal, NamedNode, Quad, Term};

use super::dataset::{DatasetDefinition, Order};
use super::dictionary::Dictionary;
use super::term_id::TermId;
use super::{quad_batch, quad_fields};
use crate::catalog::{DEFAULT_SCHEMA, Object, ObjectName};
use crate::session::Reader;
use crate::{Database, IngestMode, IngestRequest, Parameters, Result, Session};

fn iri(name: &str) -> NamedNode {
    NamedNode::new(format!("urn:{name}")).unwrap()
}

/// Quads of every kind of term.
fn some_quads(count: usize) -> Vec<Quad> {
    (0..count)
        .map(|i| {
            let object: Term = match i % 7 {
                0 => iri(&format!("object-{}", i / 3)).into(),
                1 => Literal::from(i as i64).into(),
                2 => Literal::new_simple_literal(format!("a text of some length {i}")).into(),
                3 => Literal::new_language_tagged_literal(format!("chat {}", i % 20), "fr")
                    .unwrap()
                    .into(),
                4 => Literal::new_typed_literal(format!("0{i}"), oxrdf::vocab::xsd::INTEGER).into(),
                5 => BlankNode::new(format!("n{}", i % 10)).unwrap().into(),
                _ => Literal::new_typed_literal(format!("{i}"), iri("currency")).into(),
            };
            let graph = match i % 3 {
                0 => GraphName::DefaultGraph,
                _ => iri(&format!("graph-{}", i % 3)).into(),
            };
            Quad::new(
                iri(&format!("subject-{}", i / 2)),
                iri(&format!("predicate-{}", i % 5)),
                object,
                graph,
            )
        })
        .collect()
}

async fn ingest(session: &Session, into: &str, quads: &[Quad], batch: usize) -> Result<u64> {
    let batches: Vec<_> = quads.chunks(batch).map(|quads| Ok(quad_batch(quads).unwrap())).collect();
    let schema = std::sync::Arc::new(datafusion::arrow::datatypes::Schema::new(quad_fields()));
    let rows = Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches)));
    let request = IngestRequest {
        schema: None,
        table: into.to_owned(),
        mode: IngestMode::Append,
    };
    session.ingest(request, rows).await
}

fn dataset(session: &Session, name: &str) -> DatasetDefinition {
    let name = ObjectName {
        schema: DEFAULT_SCHEMA.to_owned(),
        name: name.to_owned(),
    };
    let catalog = session.engine().catalog.snapshot().unwrap();
    match catalog.require(&name).unwrap().object.as_ref() {
        Object::Dataset(dataset) => dataset.clone(),
        other => panic!("{other:?}"),
    }
}

/// All quads as text, in one of the orders; blank nodes by the label of their id.
async fn all(session: &Session, dataset: &DatasetDefinition, order: Order) -> BTreeSet<String> {
    let reader = Reader::newest(session.engine()).await.unwrap();
    let dictionary = Dictionary::open(dataset, &reader).unwrap();
    let mut found = BTreeSet::new();
    for view in reader.relation(dataset.order(order).id).unwrap() {
        for rows in view
            .scan_ordered(&pyralog_storage::KeyRange { start: None, end: None }, &[0, 1, 2, 3], 1000)
            .unwrap()
        {
            let rows = rows.unwrap();
            let mut quads = vec![[TermId::DEFAULT_GRAPH; 4]; rows.num_rows()];
            for (column, position) in order.positions().into_iter().enumerate() {
                let ids = rows.column(column).as_primitive::<datafusion::arrow::datatypes::UInt64Type>();
                ids.values()
                    .iter()
                    .zip(&mut quads)
                    .for_each(|(id, quad)| quad[position] = TermId(*id));
            }
            for quad in quads {
                let terms = dictionary.terms(&quad).unwrap();
                let text: Vec<String> = terms
                    .into_iter()
                    .map(|term| term.map_or(String::new(), |term| term.to_string()))
                    .collect();
                assert!(found.insert(text.join(" ")), "{text:?} is there twice");
            }
        }
    }
    found
}

fn texts(quads: &[Quad]) -> BTreeSet<String> {
    let text = |quad: &Quad| match &quad.graph_name {
        GraphName::DefaultGraph => format!("{} {} {} ", quad.subject, quad.predicate, quad.object),
        graph => format!("{} {} {} {graph}", quad.subject, quad.predicate, quad.object),
    };
    quads.iter().map(text).collect()
}

async fn count(session: &Session, sql: &str) -> i64 {
    let result = session.execute(sql, Parameters::None).await.unwrap();
    let rows: Vec<_> = result.stream.try_collect().await.unwrap();
    rows[0].column(0).as_primitive::<Int64Type>().value(0)
}

async fn open() -> (tempfile::TempDir, Database, Session) {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).await.unwrap();
    let session = db.session();
    session.execute("CREATE COLLECTION kb AS RDF", Parameters::None).await.unwrap();
    (dir, db, session)
}

fn without_blanks(count: usize) -> Vec<Quad> {
    let quads = some_quads(count).into_iter();
    quads.filter(|quad| !matches!(quad.object, Term::BlankNode(_))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_has_every_quad() {
    let (dir, db, session) = open().await;
    let quads = without_blanks(3000);
    assert_eq!(ingest(&session, "kb", &quads, 128).await.unwrap(), quads.len() as u64);
    let kb = dataset(&session, "kb");
    for order in Order::ALL {
        assert_eq!(all(&session, &kb, order).await, texts(&quads));
    }
    // Once more, cut otherwise: nothing new.
    ingest(&session, "kb", &quads, 1000).await.unwrap();
    assert_eq!(all(&session, &kb, Order::Pos).await, texts(&quads));
    assert_eq!(count(&session, "SELECT count(*) FROM kb.quads").await, quads.len() as i64);
    drop(session);
    db.close().await.unwrap();
    drop(db);
    let db = Database::open(dir.path()).await.unwrap();
    let session = db.session();
    assert_eq!(all(&session, &dataset(&session, "kb"), Order::Osp).await, texts(&quads));
}

#[tokio::test(flavor = "multi_thread")]
async fn terms_whose_hashes_meet_stay_apart() {
    let (_dir, _db, session) = open().await;
    // Thousands of terms, 4096 hashes a class.
    create_narrow(&session, 12).await;
    let quads = without_blanks(3000);
    for part in quads.chunks(700) {
        ingest(&session, "narrow", part, 64).await.unwrap();
    }
    let narrow = dataset(&session, "narrow");
    for order in Order::ALL {
        assert_eq!(all(&session, &narrow, order).await, texts(&quads));
    }
    assert!(displaced(&session, &narrow).await > 100);
}

/// Makes the dataset `narrow`, whose ids have few bits.
async fn create_narrow(session: &Session, bits: u32) {
    let catalog = &session.engine().catalog;
    let name = ObjectName {
        schema: DEFAULT_SCHEMA.to_owned(),
        name: "narrow".to_owned(),
    };
    let mut narrow = DatasetDefinition::new(catalog, name.clone()).await.unwrap();
    narrow.hash_bits = bits;
    catalog.create_collection(&name, &Object::Dataset(narrow)).await.unwrap();
}

/// How many terms did not get their first id.
async fn displaced(session: &Session, dataset: &DatasetDefinition) -> u64 {
    let reader = Reader::newest(session.engine()).await.unwrap();
    let views = reader.relation(dataset.displaced.id).unwrap();
    views.iter().map(|view| view.row_count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn blank_nodes_of_two_loads_are_different_nodes() {
    let (_dir, _db, session) = open().await;
    let node = BlankNode::new("same").unwrap();
    let quads = [
        Quad::new(node.clone(), iri("p"), node.clone(), GraphName::DefaultGraph),
        Quad::new(node, iri("q"), iri("o"), GraphName::DefaultGraph),
    ];
    ingest(&session, "kb", &quads, 1).await.unwrap();
    ingest(&session, "kb", &quads, 1).await.unwrap();
    assert_eq!(count(&session, "SELECT count(*) FROM kb.quads").await, 4);
    assert_eq!(count(&session, "SELECT count(DISTINCT subject['value']) FROM kb.quads").await, 2);
    assert_eq!(
        count(
            &session,
            "SELECT count(*) FROM kb.quads WHERE subject = object AND subject['kind'] = 'bnode'"
        )
        .await,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_quad_is_refused_and_leaves_nothing() {
    let (_dir, _db, session) = open().await;
    let good = without_blanks(100);
    let bad = "SELECT 'x' AS subject, 'y' AS predicate, 'z' AS object";
    let result = session.execute(bad, Parameters::None).await.unwrap();
    let request = IngestRequest {
        schema: None,
        table: "kb".to_owned(),
        mode: IngestMode::Append,
    };
    let error = session.ingest(request.clone(), result.stream).await.unwrap_err();
    assert_eq!(error.code, "42804", "{error}");
    // A literal as a predicate, behind good quads.
    let literal = "SELECT {'kind': 'literal', 'value': 'v', 'datatype': NULL::VARCHAR, 'language': NULL::VARCHAR} AS ";
    let iri = "{'kind': 'iri', 'value': 'urn:x', 'datatype': NULL::VARCHAR, 'language': NULL::VARCHAR} AS ";
    let bad = format!("{literal} predicate, {iri} subject, {iri} object");
    session.execute("BEGIN", Parameters::None).await.unwrap();
    ingest(&session, "kb", &good, 10).await.unwrap();
    let result = session.execute(&bad, Parameters::None).await.unwrap();
    let error = session.ingest(request.clone(), result.stream).await.unwrap_err();
    assert!(error.message.contains("a literal cannot be the predicate"), "{error}");
    for (language, datatype) in [
        ("'no tag'", "NULL"),
        ("''", "NULL"),
        ("NULL", "'http://www.w3.org/1999/02/22-rdf-syntax-ns#langString'"),
        ("NULL", "'x y'"),
    ] {
        let bad = format!(
            "SELECT {{'kind': 'literal', 'value': 'v', 'datatype': {datatype}::VARCHAR, 'language': {language}::VARCHAR}} AS object, {iri} subject, {iri} predicate"
        );
        let result = session.execute(&bad, Parameters::None).await.unwrap();
        let error = session.ingest(request.clone(), result.stream).await.unwrap_err();
        assert_eq!(error.code, "22000", "{bad}: {error}");
    }
    session.execute("ROLLBACK", Parameters::None).await.unwrap();
    assert_eq!(count(&session, "SELECT count(*) FROM kb.quads").await, 0);
    assert_eq!(all(&session, &dataset(&session, "kb"), Order::Spo).await, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_is_made_shown_and_dropped() {
    let (_dir, _db, session) = open().await;
    let fails = async |sql: &str| match session.execute(sql, Parameters::None).await {
        Ok(_) => panic!("{sql} succeeded"),
        Err(error) => error,
    };
    assert_eq!(fails("CREATE COLLECTION kb AS RDF").await.code, "42P07");
    session
        .execute("CREATE COLLECTION IF NOT EXISTS kb AS RDF", Parameters::None)
        .await
        .unwrap();
    let error = fails("SELECT * FROM kb").await;
    assert_eq!(
        (error.code, error.hint.as_deref()),
        ("42809", Some("its quads are the table kb.quads"))
    );
    assert_eq!(fails("INSERT INTO kb VALUES (1)").await.code, "42809");
    assert_eq!(fails("SELECT * FROM kb.triples").await.code, "42P01");
    ingest(&session, "kb", &without_blanks(50), 10).await.unwrap();
    let shown = session.execute("SHOW COLLECTIONS", Parameters::None).await.unwrap();
    let rows: Vec<_> = shown.stream.try_collect().await.unwrap();
    let text = datafusion::arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string();
    assert!(text.contains("kb") && text.contains("RDF") && text.contains("43"), "{text}");
    session.execute("COMPACT kb", Parameters::None).await.unwrap();
    assert_eq!(count(&session, "SELECT count(*) FROM kb.quads").await, 43);
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'kb' AND table_name = 'quads'";
    assert_eq!(count(&session, columns).await, 4);
    let listed = "SELECT count(*) FROM information_schema.tables WHERE table_name IN ('kb', 'quads')";
    assert_eq!(count(&session, listed).await, 1);
    session.execute("CREATE SCHEMA other", Parameters::None).await.unwrap();
    assert_eq!(fails("CREATE COLLECTION other.kb AS RDF").await.code, "0A000");
    session.execute("DROP COLLECTION kb", Parameters::None).await.unwrap();
    assert_eq!(fails("SELECT * FROM kb.quads").await.code, "42P01");
    session.execute("CREATE COLLECTION kb AS RDF", Parameters::None).await.unwrap();
    assert_eq!(count(&session, "SELECT count(*) FROM kb.quads").await, 0);
}
