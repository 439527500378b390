//! Loading text.

use bytes::Bytes;
use futures::StreamExt;
use oxrdfio::{JsonLdProfileSet, RdfFormat, RdfSerializer};

use super::*;
use crate::rdf::{RdfFault, RdfLoad, RdfLoaded};

/// Enough to be written as sorted runs.
const MANY: usize = 60_000;

fn how(dataset: &str, format: RdfFormat) -> RdfLoad {
    RdfLoad {
        dataset: (None, dataset.to_owned()),
        format,
        base: None,
        graph: None,
        lenient: false,
    }
}

/// Loads a text that comes in pieces of some size.
async fn load(session: &Session, how: RdfLoad, text: &str, piece: usize) -> Result<RdfLoaded> {
    let pieces: Vec<Result<Bytes>> = text
        .as_bytes()
        .chunks(piece)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    session.load_rdf(how, futures::stream::iter(pieces).boxed()).await
}

fn written(quads: &[Quad], format: RdfFormat) -> String {
    let mut writer = RdfSerializer::from_format(format).for_writer(Vec::new());
    quads.iter().for_each(|quad| writer.serialize_quad(quad).unwrap());
    String::from_utf8(writer.finish().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_quads_are_written_as_runs_and_read_as_any() {
    let (dir, db, session) = open().await;
    let quads = without_blanks(MANY);
    let text = written(&quads, RdfFormat::NQuads);
    let (first, second) = quads.split_at(quads.len() * 3 / 4);
    let loaded = load(&session, how("kb", RdfFormat::NQuads), &written(first, RdfFormat::NQuads), 100_000)
        .await
        .unwrap();
    assert_eq!(loaded.quads, first.len() as u64);
    let kb = dataset(&session, "kb");
    assert_eq!(all(&session, &kb, Order::Pos).await, texts(first));
    // Some rows between, in memory; then all of them, most of which are there.
    ingest(&session, "kb", &second[..100], 10).await.unwrap();
    load(&session, how("kb", RdfFormat::NQuads), &text, 7_000_000).await.unwrap();
    for order in Order::ALL {
        assert_eq!(all(&session, &kb, order).await, texts(&quads));
    }
    let graphs = "SELECT count(DISTINCT graph) FROM kb.quads";
    assert_eq!(count(&session, graphs).await, 2);
    drop(session);
    db.close().await.unwrap();
    drop(db);
    let db = Database::open(dir.path()).await.unwrap();
    assert_eq!(all(&db.session(), &kb, Order::Osp).await, texts(&quads));
}

#[tokio::test(flavor = "multi_thread")]
async fn terms_of_a_load_whose_hashes_meet_stay_apart() {
    let (_dir, _db, session) = open().await;
    // Tens of thousands of terms, 65,536 hashes a class.
    create_narrow(&session, 16).await;
    let quads = without_blanks(MANY);
    let narrow = dataset(&session, "narrow");
    let half = quads.len() / 2 + 10_000;
    for part in [&quads[..half], &quads[half - 5000..]] {
        load(
            &session,
            how("narrow", RdfFormat::NQuads),
            &written(part, RdfFormat::NQuads),
            1 << 20,
        )
        .await
        .unwrap();
    }
    for order in Order::ALL {
        assert_eq!(all(&session, &narrow, order).await, texts(&quads));
    }
    assert!(displaced(&session, &narrow).await > 1000);
    // What the dictionary has is not written again: it would be there twice.
    load(
        &session,
        how("narrow", RdfFormat::NQuads),
        &written(&quads, RdfFormat::NQuads),
        1 << 20,
    )
    .await
    .unwrap();
    assert_eq!(all(&session, &narrow, Order::Spo).await, texts(&quads));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_syntax_gives_the_same_triples() {
    let (_dir, _db, session) = open().await;
    let quads: Vec<Quad> = without_blanks(2000)
        .into_iter()
        .map(|quad| Quad {
            graph_name: GraphName::DefaultGraph,
            ..quad
        })
        .collect();
    let json_ld = RdfFormat::JsonLd {
        profile: JsonLdProfileSet::empty(),
    };
    let formats = [
        RdfFormat::NTriples,
        RdfFormat::NQuads,
        RdfFormat::Turtle,
        RdfFormat::TriG,
        RdfFormat::N3,
        RdfFormat::RdfXml,
        json_ld,
    ];
    for (i, format) in formats.into_iter().enumerate() {
        let name = format!("d{i}");
        session
            .execute(&format!("CREATE COLLECTION {name} AS RDF"), Parameters::None)
            .await
            .unwrap();
        let text = written(&quads, format);
        load(&session, how(&name, format), &text, 1013).await.unwrap();
        assert_eq!(
            all(&session, &dataset(&session, &name), Order::Spo).await,
            texts(&quads),
            "{format}"
        );
        let graph = RdfLoad {
            graph: Some(iri("g").into()),
            ..how(&name, format)
        };
        load(&session, graph, &text, 1 << 20).await.unwrap();
        let in_graph = format!("SELECT count(*) FROM {name}.quads WHERE graph['value'] = 'urn:g'");
        assert_eq!(count(&session, &in_graph).await as usize, texts(&quads).len(), "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blank_nodes_of_a_load_are_one_however_far_apart() {
    let (_dir, _db, session) = open().await;
    let filler: String = (0..MANY).map(|i| format!("<urn:s> <urn:filler> \"number {i}\" .\n")).collect();
    let text = format!("_:same <urn:p> <urn:o> .\n{filler}_:same <urn:q> <urn:o> .\n");
    assert!(text.len() > 2 << 20, "several blocks");
    load(&session, how("kb", RdfFormat::NTriples), &text, 1 << 20).await.unwrap();
    load(&session, how("kb", RdfFormat::NTriples), "_:same <urn:p> <urn:o> .", 10)
        .await
        .unwrap();
    let nodes = "SELECT count(DISTINCT subject['value']) FROM kb.quads WHERE subject['kind'] = 'bnode'";
    assert_eq!(count(&session, nodes).await, 2);
    assert_eq!(count(&session, "SELECT count(*) FROM kb.quads").await, MANY as i64 + 3);
}

/// Lines of which two are wrong, in blocks that are parsed apart.
fn with_faults() -> String {
    let mut lines: Vec<String> = (0..MANY).map(|i| format!("<urn:s> <urn:p> \"number {i}\" .")).collect();
    lines[MANY - 9] = "<urn:s> <urn:p> .".to_owned();
    lines[20_000] = "<urn:s> <urn p> <urn:o> .".to_owned();
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_fault_is_told_and_nothing_is_left() {
    let (_dir, _db, session) = open().await;
    let error = load(&session, how("kb", RdfFormat::NTriples), &with_faults(), 1 << 16)
        .await
        .unwrap_err();
    assert_eq!(error.code, "22000");
    assert_eq!(error.position.map(|place| place.line), Some(20_001), "{error}");
    assert_eq!(count(&session, "SELECT count(*) FROM kb.quads").await, 0);
    for (format, text) in [
        (RdfFormat::Turtle, "<urn:a> <urn:b> <urn:c> .\n<urn:a> <urn:b> ; .\n"),
        (RdfFormat::TriG, "<urn:a> <urn:b> <urn:c> .\n<urn:a> <urn:b> ; .\n"),
    ] {
        let error = load(&session, how("kb", format), text, 5).await.unwrap_err();
        assert_eq!(error.position.map(|place| place.line), Some(2), "{error}");
    }
    for (format, text) in [(RdfFormat::RdfXml, "<rdf"), (RdfFormat::NTriples, "<urn:a> <urn:b> \"x")] {
        assert_eq!(load(&session, how("kb", format), text, 5).await.unwrap_err().code, "22000");
    }
    let graph = RdfLoad {
        graph: Some(iri("g").into()),
        ..how("kb", RdfFormat::NQuads)
    };
    let error = load(&session, graph, "<urn:a> <urn:b> <urn:c> <urn:d> .", 5).await.unwrap_err();
    assert!(error.message.contains("urn:d"), "{error}");
    let error = load(&session, how("missing", RdfFormat::NQuads), "", 5).await.unwrap_err();
    assert_eq!(error.code, "42P01");
    assert_eq!(count(&session, "SELECT count(*) FROM kb.quads").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lenient_load_passes_over_faults_and_tells_them() {
    let (_dir, _db, session) = open().await;
    let lenient = |format| RdfLoad {
        lenient: true,
        ..how("kb", format)
    };
    let loaded = load(&session, lenient(RdfFormat::NTriples), &with_faults(), 1 << 16).await.unwrap();
    assert_eq!((loaded.quads, loaded.faults), (MANY as u64 - 2, 2));
    let lines: Vec<u64> = loaded.told.iter().map(|fault: &RdfFault| fault.place.unwrap().0).collect();
    assert_eq!(lines, [20_001, MANY as u64 - 8]);
    assert_eq!(count(&session, "SELECT count(*) FROM kb.quads").await, MANY as i64 - 2);
    let turtle = "<urn:a> <urn:b> <urn:c> .\n<urn:a> <urn:b> ; .\n<urn:d> <urn:e> <urn:f> .\n";
    let loaded = load(&session, lenient(RdfFormat::Turtle), turtle, 5).await.unwrap();
    assert_eq!((loaded.quads, loaded.faults > 0), (2, true), "{loaded:?}");
    assert_eq!(load(&session, lenient(RdfFormat::RdfXml), "", 5).await.unwrap_err().code, "0A000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_is_part_of_its_transaction() {
    let (_dir, _db, session) = open().await;
    let text = written(&without_blanks(MANY), RdfFormat::NQuads);
    session.execute("BEGIN", Parameters::None).await.unwrap();
    load(&session, how("kb", RdfFormat::NQuads), "<urn:a> <urn:b> <urn:c> .", 5)
        .await
        .unwrap();
    session.execute("SAVEPOINT one", Parameters::None).await.unwrap();
    load(&session, how("kb", RdfFormat::NQuads), &text, 1 << 20).await.unwrap();
    assert!(
        load(&session, how("kb", RdfFormat::NQuads), &(text.clone() + "x"), 1 << 20)
            .await
            .is_err()
    );
    let all = texts(&without_blanks(MANY)).len() as i64;
    assert_eq!(count(&session, "SELECT count(*) FROM kb.quads").await, all + 1);
    session.execute("ROLLBACK TO one", Parameters::None).await.unwrap();
    assert_eq!(count(&session, "SELECT count(*) FROM kb.quads").await, 1);
    load(&session, how("kb", RdfFormat::NQuads), &text, 1 << 20).await.unwrap();
    session.execute("COMMIT", Parameters::None).await.unwrap();
    assert_eq!(count(&session, "SELECT count(*) FROM kb.quads").await, all + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_breaks_off_leaves_nothing() {
    let (_dir, _db, session) = open().await;
    for format in [RdfFormat::NTriples, RdfFormat::Turtle] {
        let pieces: Vec<Result<Bytes>> = vec![
            Ok(Bytes::from_static(b"<urn:a> <urn:b> <urn:c> .\n")),
            Err(crate::Error::new(crate::ErrorKind::Unavailable, "08006", "the line is dead")),
        ];
        let error = session
            .load_rdf(how("kb", format), futures::stream::iter(pieces).boxed())
            .await
            .unwrap_err();
        assert_eq!(error.code, "08006", "{error}");
    }
    assert_eq!(count(&session, "SELECT count(*) FROM kb.quads").await, 0);
}
