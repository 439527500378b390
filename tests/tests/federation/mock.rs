//! An HTTP server that answers as a test wants, also badly.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What it is asked.
pub struct Asked {
    /// The path, with its query.
    pub path: String,
    /// The head, then the body.
    pub text: String,
}

/// The server; it ends with the tests.
pub struct Mock {
    port: u16,
    open: Arc<AtomicUsize>,
}

impl Mock {
    /// Answers each request on a thread of its own.
    pub fn start(answer: impl Fn(&Asked, &mut TcpStream) + Send + Sync + 'static) -> Mock {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(AtomicUsize::new(0));
        let (answer, count) = (Arc::new(answer), Arc::clone(&open));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, count) = (Arc::clone(&answer), Arc::clone(&count));
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    count.fetch_add(1, Ordering::SeqCst);
                    if let Some(asked) = read(&mut stream) {
                        answer(&asked, &mut stream);
                    }
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Mock { port, open }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Requests that are being answered.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                let path = head.split(' ').nth(1)?.to_owned();
                return Some(Asked { path, text });
            }
        }
        match stream.read(&mut buffer).ok()? {
            0 => return None,
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

/// Sends an answer with these header lines.
pub fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // Who does not wait for it does not need it.
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

/// Sends a beginning, and then the same again and again, until nobody reads any more.
pub fn send_for_ever(stream: &mut TcpStream, media: &str, begin: &str, again: &str) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nConnection: close\r\n\r\n{begin}");
    let mut sent = stream.write_all(head.as_bytes());
    while sent.is_ok() {
        sent = stream.write_all(again.as_bytes());
    }
}

/// Sends nothing until the other side is gone.
pub fn say_nothing(stream: &mut TcpStream) {
    let mut byte = [0];
    while matches!(stream.read(&mut byte), Ok(read) if read > 0) {}
}
