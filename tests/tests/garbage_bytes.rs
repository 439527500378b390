//! Bytes that are no protocol, on both ports: the connection ends, the server does not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use pyralog_tests::runtime::block_on;
use pyralog_tests::server::Server;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Sends bytes, and reads for a moment what comes back.
fn send(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    // The server may hang up in the middle; that is one of the right answers.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn garbage_ends_the_connection_only() {
    let mut server = Server::start();
    let mut random = StdRng::seed_from_u64(7);
    let noise: Vec<u8> = (0..100_000).map(|_| random.random()).collect();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let headers = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "X-Filler: yes\r\n".repeat(100_000));
    let lying = b"POST /sql HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775807\r\n\r\n{}";
    let cases: [&[u8]; 9] = [
        b"",
        b"\0\0\0\0\0\0\0\0",
        b"GET / HTTP/0.9\r\n\r\n",
        &noise,
        &[preface.as_slice(), &noise].concat(),
        &[preface.as_slice(), &[0xff; 9]].concat(),
        headers.as_bytes(),
        many_headers.as_bytes(),
        lying,
    ];
    for bytes in cases {
        for port in [server.flight_port(), server.http_port()] {
            send(port, bytes);
            assert!(server.is_alive(), "the server is gone:\n{}", server.output());
        }
    }
    let idle: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(("127.0.0.1", server.flight_port())).unwrap())
        .collect();
    block_on(async { assert_eq!(server.client().await.sql("SELECT 1").fetch_scalar::<i64>().await.unwrap(), 1) });
    drop(idle);
    assert_eq!(server.http("GET", "/health", &[], b"").status, 200);
}

#[test]
fn wrong_http_requests_have_errors() {
    let server = Server::start();
    let post = |body: &[u8], kind: &str| server.http("POST", "/sql", &[("Content-Type", kind)], body);
    for (body, kind) in [
        (b"{".as_slice(), "application/json"),
        (b"{\"query\": 7}", "application/json"),
        (b"\xff\xfe", "text/plain"),
        (b"[]", "application/json"),
    ] {
        let response = post(body, kind);
        assert!(
            (400..500).contains(&response.status),
            "{kind} {body:?}: {} {}",
            response.status,
            response.text()
        );
        assert!(
            !response.json()["error"]["message"].as_str().unwrap_or_default().is_empty(),
            "{}",
            response.text()
        );
    }
    let response = post(br#"{"query": "SELECT * FROM nowhere"}"#, "application/json");
    assert_eq!(
        (response.status, response.json()["error"]["code"].as_str()),
        (404, Some("42P01")),
        "{}",
        response.text()
    );
    assert_eq!(server.http("GET", "/no/such/path", &[], b"").status, 404);
    assert!(matches!(server.http("DELETE", "/sql", &[], b"").status, 404 | 405));
}
