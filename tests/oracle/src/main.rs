//! Oxigraph behind a pipe. A line of JSON in, a line of JSON out:
//!
//! ```text
//! {"load": "N-Quads"}     → {"ok": true}               in place of what was there
//! {"query": "…"}          → {"results": "…"}           SPARQL JSON, or N-Triples of a graph; or {"error": "…"}
//! {"update": "…"}         → {"quads": "N-Quads"}       what is there then; or {"error": "…"}
//! ```

use std::io::{BufRead, Write, stdin, stdout};

use oxigraph::io::{RdfFormat, RdfSerializer};
use oxigraph::sparql::results::{QueryResultsFormat, QueryResultsSerializer};
use oxigraph::sparql::{QueryResults, SparqlEvaluator};
use oxigraph::store::Store;
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut store = Store::new()?;
    for line in stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let answer = answer(&mut store, &request).unwrap_or_else(|error| json!({"error": error.to_string()}));
        let mut out = stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(store: &mut Store, request: &Value) -> Result<Value, Failure> {
    if let Some(data) = request["load"].as_str() {
        *store = Store::new()?;
        store.load_from_slice(RdfFormat::NQuads, data.as_bytes())?;
        return Ok(json!({"ok": true}));
    }
    if let Some(text) = request["update"].as_str() {
        SparqlEvaluator::new().parse_update(text)?.on_store(store).execute()?;
        let quads = store.dump_to_writer(RdfFormat::NQuads, Vec::new())?;
        return Ok(json!({"quads": String::from_utf8(quads)?}));
    }
    let text = request["query"].as_str().ok_or("no request")?;
    let results = match SparqlEvaluator::new().parse_query(text)?.on_store(store).execute()? {
        QueryResults::Graph(triples) => {
            let mut serializer = RdfSerializer::from_format(RdfFormat::NTriples).for_writer(Vec::new());
            for triple in triples {
                serializer.serialize_triple(&triple?)?;
            }
            serializer.finish()?
        }
        QueryResults::Boolean(value) => {
            QueryResultsSerializer::from_format(QueryResultsFormat::Json).serialize_boolean_to_writer(Vec::new(), value)?
        }
        QueryResults::Solutions(solutions) => {
            let serializer = QueryResultsSerializer::from_format(QueryResultsFormat::Json);
            let mut serializer = serializer.serialize_solutions_to_writer(Vec::new(), solutions.variables().to_vec())?;
            for solution in solutions {
                serializer.serialize(&solution?)?;
            }
            serializer.finish()?
        }
    };
    Ok(json!({"results": String::from_utf8(results)?}))
}
