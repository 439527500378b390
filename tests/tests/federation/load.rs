//! LOAD.

use super::{Place, code};

impl Place {
    fn triples(&self, pattern: &str) -> String {
        self.rows(&format!("SELECT (COUNT(*) AS ?n) {{ {pattern} }}")).remove(0)
    }

    fn load(&self, path: &str) -> (u16, String) {
        code(&self.try_update("kb", &format!("LOAD <{}>", self.mock.url(path))))
    }
}

#[test]
fn documents_are_loaded_into_graphs() {
    let place = Place::start();
    // Its own store answers zipped.
    place.update(
        "kb",
        &format!("LOAD {}; INSERT DATA {{ <urn:q> <urn:r> 1 }}", place.own("other/store?default")),
    );
    assert_eq!(place.triples("?s <urn:age> ?age"), "3");
    place.update("kb", &format!("LOAD {} INTO GRAPH <urn:g>", place.own("other/store?default")));
    assert_eq!(place.triples("GRAPH <urn:g> { ?s ?p ?o }"), "3");

    let data = place.mock.url("/open/data");
    for iri in [&data, &place.mock.url("/open/moved")] {
        place.update("kb", &format!("LOAD <{iri}> INTO GRAPH <urn:h>"));
    }
    // The base is where it was found, and the blank nodes of each time are other ones.
    assert_eq!(
        place.triples(&format!(
            "GRAPH <urn:h> {{ <{data}#a> <{data}#b> <{}> }}",
            place.mock.url("/open/d")
        )),
        "1"
    );
    assert_eq!(place.triples("GRAPH <urn:h> { ?s ?p ?o FILTER(isBlank(?o)) }"), "2");
    assert_eq!(place.triples("GRAPH <urn:h> { ?s ?p 'é' }"), "1");

    place.update("kb", &format!("LOAD <{}>", place.mock.url("/open/data.nt")));
    assert_eq!(place.triples("<urn:x> <urn:y> <urn:z>"), "1");
    // Quads go where they belong, or nowhere.
    let quads = place.mock.url("/open/data.nq");
    let into = place.try_update("kb", &format!("LOAD <{quads}> INTO GRAPH <urn:i>"));
    assert_eq!(code(&into), (400, "22000".to_owned()));
    assert_eq!(place.triples("GRAPH <urn:i> { ?s ?p ?o }"), "0");
    place.update("kb", &format!("LOAD <{quads}>"));
    assert_eq!(
        (
            place.triples("<urn:x> <urn:y> '1'").as_str(),
            place.triples("GRAPH <urn:g> { <urn:x> <urn:y> '2' }").as_str()
        ),
        ("1", "1")
    );
}

#[test]
fn what_cannot_be_loaded_changes_nothing() {
    let place = Place::start();
    let before = place.rows("SELECT * { ?s ?p ?o } ORDER BY ?s");
    for (path, expected) in [
        ("/open/missing", (400, "HV000")),
        ("/open/picture", (400, "HV000")),
        ("/open/malformed.ttl", (400, "22000")),
        ("/closed", (400, "42501")),
        ("/open/away", (400, "42501")),
        ("/open/../closed", (400, "42501")),
        ("/open/round", (400, "HV000")),
        ("/open/to-file", (501, "0A000")),
        ("/open/endless.nt", (400, "54000")),
    ] {
        let (status, code) = place.load(path);
        assert_eq!((status, code.as_str()), expected, "{path}");
        let silent = place.mock.url(path);
        place.update("kb", &format!("LOAD SILENT <{silent}>; LOAD SILENT <{silent}> INTO GRAPH <urn:g>"));
    }
    let malformed = place.try_update(
        "kb",
        &format!(
            "INSERT DATA {{ <urn:q> <urn:r> 1 }}; LOAD <{}>",
            place.mock.url("/open/malformed.ttl")
        ),
    );
    let message = malformed.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("malformed.ttl>, line 2, column"), "{message}");
    let missing = place.try_update("kb", &format!("LOAD <{}>", place.mock.url("/open/missing")));
    assert!(missing.text().contains("404 Not Found: nothing here"), "{}", missing.text());
    let file = place.try_update("kb", "LOAD <file:///etc/passwd>");
    assert_eq!(code(&file), (501, "0A000".to_owned()));
    let elsewhere = place.try_update("kb", "LOAD <http://example.org/>");
    assert_eq!(code(&elsewhere), (400, "42501".to_owned()));
    assert!(elsewhere.json()["error"]["hint"].as_str().unwrap().contains("sparql-fetch"));
    assert_eq!(place.rows("SELECT * { ?s ?p ?o } ORDER BY ?s"), before);
    assert_eq!(place.triples("GRAPH ?g { ?s ?p ?o }"), "0");
    // What stands beside a silent failure is done.
    place.update(
        "kb",
        &format!(
            "INSERT DATA {{ <urn:q> <urn:r> <urn:n> }}; LOAD SILENT <{}>; INSERT DATA {{ <urn:n> <urn:r> <urn:q> }}",
            place.mock.url("/open/malformed.ttl")
        ),
    );
    assert_eq!(place.triples("<urn:q> <urn:r> ?n . ?n <urn:r> <urn:q>"), "1");
    assert_eq!(place.triples("<urn:x> ?p ?o"), "0");
}
