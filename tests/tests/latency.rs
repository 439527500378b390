//! Answers on a connection that stays open are not held back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pyralog_tests::server::Server;

/// A client that has read one part of an answer may put off saying so by 40 ms; a server that waits for that before it sends the next part takes as
/// long for every answer. Noise makes some answers slow, never all of them fast.
#[test]
fn the_end_of_an_answer_does_not_wait_for_the_client() {
    let server = Server::start();
    let mut stream = TcpStream::connect(("127.0.0.1", server.http_port())).unwrap();
    stream.set_nodelay(true).unwrap();
    let query = "SELECT 1";
    let request = format!(
        "POST /sql HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{query}",
        query.len()
    );
    let mut fastest = Duration::MAX;
    for _ in 0..50 {
        let started = Instant::now();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while !answer.ends_with(b"0\r\n\r\n") {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&buffer[..read]);
        }
        fastest = fastest.min(started.elapsed());
    }
    assert!(fastest < Duration::from_millis(35), "the fastest of 50 answers took {fastest:?}");
}
