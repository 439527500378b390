//! SERVICE and LOAD: what lies elsewhere, as far as the setting `sparql-fetch` allows it.

mod load;
mod mock;
mod service;
mod troubles;

use pyralog_tests::http::Response;
use pyralog_tests::server::{Server, ServerOptions};

use mock::{Asked, Mock, say_nothing, send, send_for_ever};

const PEOPLE: &str = "<urn:a> <urn:name> 'Ann' . <urn:b> <urn:name> 'Bob' . <urn:c> <urn:name> 'Cid' .";
const AGES: &str = "<urn:a> <urn:age> 30 . <urn:b> <urn:age> 40 . <urn:z> <urn:age> 50 .";

/// A server that may reach its own datasets and the mock's paths below `/open`, and the mock.
struct Place {
    server: Server,
    mock: Mock,
}

impl Place {
    /// With the datasets `kb` and `other`.
    fn start() -> Place {
        Place::start_allowing("http://127.0.0.1:{http-port}/rdf")
    }

    /// That may reach something else in place of its own datasets.
    fn start_allowing(url: &str) -> Place {
        let mock = Mock::start(answer);
        let args = vec![
            "--sparql-fetch".to_owned(),
            format!("{url}, {}", mock.url("/open/")),
            "--sparql-fetch-size".to_owned(),
            "1MB".to_owned(),
        ];
        let server = Server::start_with(ServerOptions {
            args,
            ..ServerOptions::default()
        });
        let place = Place { server, mock };
        for name in ["kb", "other"] {
            place.server.http_sql(&format!("CREATE COLLECTION {name} AS RDF"));
        }
        place.update("kb", &format!("INSERT DATA {{ {PEOPLE} }}"));
        place.update("other", &format!("INSERT DATA {{ {AGES} }}"));
        place
    }

    /// The IRI of something of a dataset of the server itself.
    fn own(&self, path: &str) -> String {
        format!("<http://127.0.0.1:{}/rdf/{path}>", self.server.first_http_port())
    }

    fn try_update(&self, dataset: &str, text: &str) -> Response {
        let headers = [("Content-Type", "application/sparql-update")];
        self.server
            .http("POST", &format!("/rdf/{dataset}/update"), &headers, text.as_bytes())
    }

    fn update(&self, dataset: &str, text: &str) {
        let answer = self.try_update(dataset, text);
        assert_eq!(answer.status, 204, "{text}: {}", answer.text());
    }

    fn ask(&self, text: &str, parameters: &str) -> Response {
        let headers = [("Content-Type", "application/sparql-query"), ("Accept", "text/csv")];
        self.server
            .http("POST", &format!("/rdf/kb/query{parameters}"), &headers, text.as_bytes())
    }

    /// The lines of an answer in CSV, without its head.
    fn rows(&self, text: &str) -> Vec<String> {
        let answer = self.ask(text, "");
        assert_eq!(answer.status, 200, "{text}: {}", answer.text());
        answer.text().lines().skip(1).map(str::to_owned).collect()
    }

    /// The status and the code of an error.
    fn refusal(&self, text: &str) -> (u16, String) {
        code(&self.ask(text, ""))
    }
}

fn code(answer: &Response) -> (u16, String) {
    assert!(answer.status >= 400, "{}", answer.text());
    (answer.status, answer.json()["error"]["code"].as_str().unwrap().to_owned())
}

fn answer(asked: &Asked, stream: &mut std::net::TcpStream) {
    let turtle = "Content-Type: text/turtle\r\n";
    let to = |place: &str| format!("Location: {place}\r\n");
    match asked.path.as_str() {
        "/open/data" => send(stream, "200 OK", turtle, "@prefix : <#> . :a :b _:c, <d>, 'é' ."),
        "/open/data.nt" => send(stream, "200 OK", "Content-Type: text/plain\r\n", "<urn:x> <urn:y> <urn:z> .\n"),
        "/open/data.nq" => send(stream, "200 OK", "", "<urn:x> <urn:y> \"1\" .\n<urn:x> <urn:y> \"2\" <urn:g> .\n"),
        "/open/picture" => send(stream, "200 OK", "Content-Type: image/png\r\n", "PNG"),
        "/open/malformed.ttl" => send(stream, "200 OK", "", "<urn:x> <urn:y> 1 .\n<urn:x> <urn:y> .\n"),
        "/open/moved" => send(stream, "301 Moved Permanently", &to("data"), ""),
        "/open/away" => send(stream, "302 Found", &to("/closed"), ""),
        "/open/round" => send(stream, "307 Temporary Redirect", &to("round"), ""),
        "/open/to-file" => send(stream, "302 Found", &to("file:///etc/passwd"), ""),
        "/open/missing" => send(stream, "404 Not Found", "Content-Type: text/plain\r\n", "nothing\nhere"),
        "/open/never" => say_nothing(stream),
        "/open/endless" => {
            let begin = r#"{"head":{"vars":["x"]},"results":{"bindings":[{"x":{"type":"literal","value":"a"}}"#;
            send_for_ever(
                stream,
                "application/sparql-results+json",
                begin,
                r#",{"x":{"type":"literal","value":"a"}}"#,
            );
        }
        "/open/endless.nt" => send_for_ever(stream, "application/n-triples", "", "<urn:x> <urn:y> \"z\" .\n"),
        "/open/cut" => {
            let body = r#"{"head":{"vars":["x"]},"results":{"bindings":[{"x":{"type":"uri","value":"urn:a"}}"#;
            send(stream, "200 OK", "Content-Type: application/sparql-results+json\r\n", body);
        }
        "/open/yes" => {
            let body = r#"{"head":{},"boolean":true}"#;
            send(stream, "200 OK", "Content-Type: application/sparql-results+json\r\n", body);
        }
        "/open/text" => {
            // What was asked, as a solution.
            let asked = asked.text.split_once("query=").map_or("", |(_, query)| query);
            let body = format!(r#"{{"head":{{"vars":["s"]}},"results":{{"bindings":[{{"s":{{"type":"literal","value":"{asked}"}}}}]}}}}"#);
            send(stream, "200 OK", "Content-Type: application/json; charset=utf-8\r\n", &body);
        }
        "/open/unbound" => {
            let body = r#"{"head":{"vars":["x"]},"results":{"bindings":[{}]}}"#;
            send(stream, "200 OK", "Content-Type: application/sparql-results+json\r\n", body);
        }
        other => send(stream, "500 Internal Server Error", "", other),
    }
}
