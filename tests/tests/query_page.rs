//! The page at `/`, and web pages of other origins.

use pyralog_tests::server::{Server, ServerOptions};

#[test]
fn the_page_comes_from_the_server_alone() {
    let server = Server::start();
    let page = server.http("GET", "/", &[], b"");
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'self'"));
    let text = page.text();
    // All that it names is there, compressed or not.
    let links = text.split(['"']).filter(|part| part.starts_with("/assets/"));
    let mut count = 0;
    for link in links {
        count += 1;
        let plain = server.http("GET", link, &[], b"");
        let packed = server.http("GET", link, &[("Accept-Encoding", "gzip")], b"");
        assert_eq!((plain.status, packed.status), (200, 200), "{link}");
        assert!(plain.body.len() >= packed.body.len() && packed.body.len() > 100, "{link}");
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(plain.header("content-type"), packed.header("content-type"));
    }
    assert_eq!(count, 4);
    assert_eq!(server.http("GET", "/rdf", &[], b"").json()["datasets"], serde_json::json!([]));
    server.http_sql("CREATE COLLECTION kb AS RDF");
    server.http_sql("CREATE COLLECTION art AS RDF");
    assert_eq!(
        server.http("GET", "/rdf", &[], b"").json()["datasets"],
        serde_json::json!(["art", "kb"])
    );
    assert_eq!(server.http("POST", "/", &[], b"").status, 405);
}

#[test]
fn only_named_origins_may_use_it() {
    let allowed = |server: &Server, origin: &str| {
        let asked = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type"),
        ];
        let before = server.http("OPTIONS", "/sparql", &asked, b"");
        let got = server.http("GET", "/rdf", &[("Origin", origin)], b"");
        let of = |name: &str| (before.header(name).map(str::to_owned), got.header(name).map(str::to_owned));
        of("access-control-allow-origin")
    };
    let closed = Server::start();
    assert_eq!(allowed(&closed, "https://example.org"), (None, None));
    // Forms and plain text reach a server without a question before.
    let change = |server: &Server, origin: &str| {
        let headers = [("Origin", origin), ("Content-Type", "text/plain")];
        server
            .http("POST", "/sql", &headers, b"CREATE TABLE IF NOT EXISTS t (id BIGINT PRIMARY KEY)")
            .status
    };
    assert_eq!(change(&closed, "https://example.org"), 403);
    assert_eq!(closed.http("PUT", "/kv/b/k", &[("Origin", "null")], b"v").status, 403);
    assert_eq!(change(&closed, &format!("http://127.0.0.1:{}", closed.http_port())), 200);
    let with = |origins: &str| {
        let args = vec!["--cors-origins".to_owned(), origins.to_owned()];
        Server::start_with(ServerOptions {
            args,
            ..ServerOptions::default()
        })
    };
    let some = with("https://example.org, http://localhost:3000");
    let own = Some("https://example.org".to_owned());
    assert_eq!(
        (change(&some, "https://example.org"), change(&some, "https://example.com")),
        (200, 403)
    );
    assert_eq!(allowed(&some, "https://example.org"), (own.clone(), own));
    assert_eq!(allowed(&some, "https://example.com"), (None, None));
    let any = Some("*".to_owned());
    assert_eq!(allowed(&with("*"), "https://example.com"), (any.clone(), any));
}
