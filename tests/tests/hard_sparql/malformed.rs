//! Documents and queries with a fault at any byte: an answer that says where it is, and nothing of them is stored.
//!
//! `PYRALOG_HARD_STEP=1` tries every byte (default: every third), `PYRALOG_HARD_SEED` other replacements.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pyralog_tests::http::Response;
use pyralog_tests::measure::setting;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{CSV, Endpoint, problem, shown, within};

const BAD: [u8; 8] = [0x00, 0xff, b'"', b'<', b'{', b'\\', b'&', b'\n'];

/// Syntaxes, each with a document that has every kind of term; `GRAPH` stands for the graph's name, where the syntax has one.
const DOCUMENTS: [(&str, &str); 7] = [
    (
        "application/n-triples",
        "<urn:a> <urn:p> \"l\\u00e9\\n\"@en-GB . # c\n_:b <urn:p> \"1\"^^<http://www.w3.org/2001/XMLSchema#integer> .\n<urn:a> <urn:q> _:b .\n<urn:a> <urn:q> <http://é/%20> .\n",
    ),
    (
        "application/n-quads",
        "<urn:a> <urn:p> \"lé\"@en <GRAPH> .\n_:b <urn:p> \"1\"^^<urn:d> <GRAPH> .\n<urn:a> <urn:q> _:b <GRAPH> .\n",
    ),
    (
        "text/turtle",
        "@prefix e: <urn:e#> . @base <http://b/> .\ne:a a e:C ; e:p 1, -2.5, 3e4, true, 'x'@en, \"\"\"l\no\"\"\"^^e:d ; e:q [ e:p (1 <r> _:b) ] .\n_:b e:p\\~ e:\\(x .\n",
    ),
    (
        "application/trig",
        "PREFIX e: <urn:e#>\n<GRAPH> { e:a a e:C ; e:p 1, 'x'@en, [ e:p ( 1 ) ] . }\nGRAPH <GRAPH> { _:b e:p \"x\"^^e:d }\n",
    ),
    (
        "application/rdf+xml",
        "<?xml version=\"1.0\"?><!DOCTYPE r:RDF [<!ENTITY e \"urn:e#\">]><r:RDF xmlns:r=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\" xmlns:e=\"urn:e#\"><e:C r:about=\"&e;a\" e:q=\"v\"><e:p xml:lang=\"en\">x&lt;</e:p><e:p r:datatype=\"urn:d\">1</e:p><e:s r:nodeID=\"b\"/><e:l r:parseType=\"Collection\"><r:Description r:about=\"urn:x\"/></e:l><e:x r:parseType=\"Literal\"><b>t</b></e:x></e:C></r:RDF>",
    ),
    (
        "application/ld+json",
        "{\"@context\": {\"e\": \"urn:e#\", \"k\": {\"@id\": \"e:k\", \"@type\": \"@id\"}}, \"@id\": \"GRAPH\", \"@graph\": [{\"@id\": \"e:a\", \"@type\": \"e:C\", \"e:p\": [1, 2.5, true, {\"@value\": \"x\", \"@language\": \"en\"}, {\"@list\": [null, \"l\"]}], \"k\": \"e:b\"}]}",
    ),
    (
        "text/n3",
        "@prefix e: <urn:e#> .\ne:a e:p 1, 'x'@en, \"y\"^^e:d ; e:q [ e:p ( 1 ) ] .\n_:b = e:a .\n",
    ),
];

/// The document cut at, and with bytes replaced at, every so many bytes.
fn damaged(text: &[u8], step: usize, random: &mut StdRng) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for at in (0..text.len()).step_by(step) {
        all.push(text[..at].to_vec());
        let mut replaced = text.to_vec();
        replaced[at] = BAD[random.random_range(0..BAD.len())];
        all.push(replaced);
    }
    all
}

/// Sends each of many bodies, several at once.
fn send_all(bodies: &[Vec<u8>], send: impl Fn(usize, &[u8]) -> Response + Sync) -> Vec<Response> {
    let (next, answers) = (AtomicUsize::new(0), std::sync::Mutex::new(vec![None; bodies.len()]));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((i, body)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, bodies.get(i)?))) {
                    let what = String::from_utf8_lossy(body).into_owned();
                    let answer = within(Duration::from_secs(10), &what, || send(i, body));
                    answers.lock().unwrap()[i] = Some(answer);
                }
            });
        }
    });
    answers.into_inner().unwrap().into_iter().map(Option::unwrap).collect()
}

#[test]
fn faulty_documents_leave_nothing() {
    let (step, seed) = (setting("PYRALOG_HARD_STEP", 3_usize), setting("PYRALOG_HARD_SEED", 1_u64));
    println!("PYRALOG_HARD_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut kb = Endpoint::start();
    for (media, document) in DOCUMENTS {
        let is_dataset = document.contains("GRAPH");
        let bodies = damaged(document.as_bytes(), step, &mut random);
        let name = |i: usize| format!("urn:{}:{i}", media.replace('/', ":"));
        // TriG has the word as a keyword, too.
        let named = |i: usize, body: &[u8]| {
            let mut text = body.to_vec();
            for place in [&b"<GRAPH>"[..], b"\"GRAPH\""] {
                while let Some(at) = text.windows(place.len()).position(|part| part == place) {
                    text.splice(at + 1..at + place.len() - 1, name(i).into_bytes());
                }
            }
            text
        };
        let send = |i: usize, body: &[u8]| match is_dataset {
            true => kb.post("/rdf/kb/store", media, "*/*", &named(i, body)),
            false => kb.upload(&name(i), media, body),
        };
        let whole = send(1_000_000, document.as_bytes());
        assert!(matches!(whole.status, 201 | 204), "{media}: {}", whole.text());
        let answers = send_all(&bodies, send);
        let stored = kb.query("SELECT DISTINCT ?g { GRAPH ?g {} }", CSV).text();
        let stored: HashSet<&str> = stored.lines().map(str::trim).collect();
        assert!(stored.contains(name(1_000_000).as_str()), "{media}: {stored:?}");
        let (mut refused, mut placed) = (0, 0);
        for (i, (body, answer)) in bodies.iter().zip(&answers).enumerate() {
            let what = format!("{media} {i}: {}", String::from_utf8_lossy(body));
            if matches!(answer.status, 201 | 204) {
                continue;
            }
            problem(answer, 400, &what);
            refused += 1;
            placed += usize::from(answer.json()["error"]["position"]["line"].is_u64());
            assert!(!stored.contains(name(i).as_str()), "{what}: {} and yet it is stored", answer.text());
        }
        println!("{media}: {} of {} refused, {placed} with a place", refused, answers.len());
        assert!(
            refused > answers.len() / 4 && placed * 10 >= refused * 9,
            "{media}: {placed} of {refused}"
        );
    }
    kb.is_well("faulty documents");
}

#[test]
fn faulty_queries_say_where() {
    let (step, seed) = (setting("PYRALOG_HARD_STEP", 3_usize), setting("PYRALOG_HARD_SEED", 1_u64));
    println!("PYRALOG_HARD_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut kb = Endpoint::start();
    let query = "PREFIX e: <urn:e#>\nSELECT DISTINCT ?s (COUNT(?o) AS ?né) FROM <urn:g> { ?s e:p|^e:q* ?o ; a [ e:r \"\"\"l\no\"\"\"@en ] OPTIONAL { ?o e:p\\~ 'x' FILTER(?o < 1.5 && !bound(?z)) } MINUS { ?s e:m (1 2) } VALUES (?s ?o) { (UNDEF 'v'^^e:d) } BIND(IF(?o IN (1, 2), REPLACE(STR(?s), 'a', 'b'), ?o) AS ?b) GRAPH ?g { ?s ?p ?b } FILTER NOT EXISTS { ?s e:n \\u003Curn:x> } } GROUP BY ?s HAVING(COUNT(*) > 1) ORDER BY DESC(?s) LIMIT 5 OFFSET 1 # end";
    let update = "PREFIX e: <urn:e#>\nWITH <urn:g> DELETE { ?s e:p ?o } INSERT { ?s e:q 'x'@en . GRAPH ?g { _:b e:p ?o } } USING <urn:h> WHERE { ?s e:p ?o . GRAPH ?g { ?o e:r ?s } } ; DELETE WHERE { ?s e:none ?o } ; CREATE SILENT GRAPH <urn:g>";
    for (is_query, text) in [(true, query), (false, update)] {
        let bodies = damaged(text.as_bytes(), step, &mut random);
        let send = |_: usize, body: &[u8]| match is_query {
            true => kb.post("/rdf/kb/query", super::QUERY, CSV, body),
            false => kb.post("/rdf/kb/update", super::UPDATE, "*/*", body),
        };
        let whole = send(0, text.as_bytes());
        assert!(matches!(whole.status, 200 | 204), "{}", whole.text());
        for (body, answer) in bodies.iter().zip(send_all(&bodies, send)) {
            let what = String::from_utf8_lossy(body);
            if matches!(answer.status, 200 | 204) {
                continue;
            }
            let code = problem(&answer, 400, &what);
            let is_placed = answer.json()["error"]["position"]["line"].is_u64();
            assert!(
                is_placed || code != "42601" || answer.text().contains("blank node"),
                "{what}: {}",
                answer.text()
            );
        }
    }
    kb.is_well("faulty queries");
}

#[test]
fn documents_that_are_bombs_are_refused() {
    let mut kb = Endpoint::start();
    let mut entities = "<!DOCTYPE r [<!ENTITY a0 \"0123456789\">".to_owned();
    for i in 1..40 {
        entities += &format!("<!ENTITY a{i} \"{}\">", format!("&a{};", i - 1).repeat(10));
    }
    let rdf = "xmlns:r=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"";
    let deep = 100_000;
    // A debug build reads them slowly.
    let elements = "<r:D><r:x>".repeat(deep / 10);
    let documents = [
        (
            "application/rdf+xml",
            format!("{entities}]><r:RDF {rdf}><r:D r:about=\"urn:a\"><r:x>&a39;</r:x></r:D></r:RDF>"),
        ),
        ("application/rdf+xml", format!("<r:RDF {rdf}>{elements}")),
        ("text/turtle", format!("<urn:a> <urn:b> {}", "( ".repeat(deep))),
        ("text/turtle", format!("<urn:a> <urn:b> {}", "[ <urn:b> ".repeat(deep))),
        ("application/trig", "<urn:a> { ".repeat(deep)),
        ("text/n3", "{ ".repeat(deep)),
        ("text/n3", format!("<urn:a> <urn:b> {}", "( ".repeat(deep))),
        ("application/ld+json", "[".repeat(deep)),
        ("application/ld+json", "{\"urn:a\": ".repeat(deep)),
        ("application/ld+json", "{\"@context\": ".repeat(deep)),
    ];
    for (media, document) in documents {
        let what = format!("{media} {}", shown(&document));
        let answer = within(Duration::from_secs(20), &what, || kb.upload("urn:g", media, document.as_bytes()));
        problem(&answer, 400, &what);
        kb.is_well(&what);
    }
    assert_eq!(kb.value("SELECT (COUNT(*) AS ?n) { GRAPH ?g { ?s ?p ?o } }"), "0");
    assert!(kb.server.resident_memory_bytes() < 1 << 30);
}
