//! The suite of Federated Query, whose endpoints are other datasets of the same server.

use std::fs;
use std::path::Path;

use pyralog_tests::server::ServerOptions;
use tempfile::TempDir;

use super::manifest::{File, tests};
use super::{Endpoint, hold_at, root};

const SUITE: &str = "sparql11/service";
/// The endpoints of the suite, and the datasets that stand for them. One more must not be there.
const ENDPOINTS: [(&str, &str); 3] = [
    ("http://example.org/sparql", "service0"),
    ("http://example1.org/sparql", "service1"),
    ("http://example2.org/sparql", "service2"),
];

impl Endpoint {
    /// Fills the datasets that stand for other endpoints.
    pub fn prepare_services(&self, services: &[(String, Vec<File>)]) -> Result<(), String> {
        for (endpoint, files) in services {
            let (store, _) = endpoint.rsplit_once('/').ok_or("no path")?;
            let path = store.find("/rdf/").map(|at| &store[at..]).ok_or("another server")?;
            let texts: Result<Vec<String>, _> = files.iter().map(|file| fs::read_to_string(&file.path)).collect();
            let text = texts.map_err(|error| error.to_string())?.join("\n");
            let headers = [("Content-Type", "text/turtle")];
            let answer = self.server.http("PUT", &format!("{path}/store?default"), &headers, text.as_bytes());
            if answer.status != 204 {
                return Err(format!("{endpoint}: {} {}", answer.status, answer.text()));
            }
        }
        Ok(())
    }
}

/// The suite with the server's own endpoints in all of its files.
fn rewritten(root: &Path, port: u16) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let folder = copy.path().join(SUITE);
    fs::create_dir_all(&folder).unwrap();
    for file in fs::read_dir(root.join(SUITE)).unwrap() {
        let file = file.unwrap();
        let mut text = fs::read_to_string(file.path()).unwrap();
        for (endpoint, dataset) in ENDPOINTS {
            text = text.replace(endpoint, &format!("http://127.0.0.1:{port}/rdf/{dataset}/query"));
        }
        fs::write(folder.join(file.file_name()), text).unwrap();
    }
    copy
}

#[test]
fn sparql_11_federated_query() {
    let Some(root) = root() else { return };
    let endpoint = Endpoint::start_with(ServerOptions {
        args: ["--sparql-fetch", "http://127.0.0.1:{http-port}/rdf"].map(str::to_owned).to_vec(),
        ..ServerOptions::default()
    });
    for (_, dataset) in ENDPOINTS {
        endpoint.server.http_sql(&format!("CREATE COLLECTION {dataset} AS RDF"));
    }
    let suite = rewritten(&root, endpoint.server.first_http_port());
    let tests = tests(suite.path(), &["sparql11/service/manifest.ttl"]);
    assert_eq!(tests.len(), 7);
    hold_at(&endpoint, tests);
}
