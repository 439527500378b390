//! Bytes that no node sends: the connection ends, the server goes on.

use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::peer::frame::{FrameError, FrameReader};
use crate::peer::handshake::{self, Purpose};

/// Sends bytes and waits until the server has closed.
async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    // The server may close before all is written.
    let _ = stream.write_all(bytes).await;
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut rest))
        .await
        .expect("the server does not close");
}

async fn introduced(pair: &Pair) -> TcpStream {
    let mut stream = TcpStream::connect(pair.serving.address()).await.unwrap();
    handshake::introduce(&mut stream, &identity(CALLER), SERVER, Purpose::Calls)
        .await
        .unwrap();
    stream
}

fn bytes_of(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let frame = Frame {
        kind,
        request: 1,
        payload: Bytes::copy_from_slice(payload),
    };
    [&frame.header()[..], payload].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_a_handshake() {
    let pair = pair().await;
    let garbage = (0..50).map(|_| rand::rng().random::<[u8; 200]>().to_vec());
    let claims = [
        [&b"PYRP"[..], &PROTOCOL.to_le_bytes(), &u32::MAX.to_le_bytes(), &[0; 4]].concat(),
        [&b"PYRP"[..], &PROTOCOL.to_le_bytes(), &[0; 8]].concat(),
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
    ];
    for bytes in garbage.chain(claims) {
        let mut stream = TcpStream::connect(pair.serving.address()).await.unwrap();
        send(&mut stream, &bytes).await;
    }
    assert_eq!(echo(&pair.peers, b"on").await.unwrap(), "on");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_behind_a_handshake() {
    let pair = pair().await;
    let call = bytes_of(Kind::Call, &request(ECHO, b"x"));
    let mut flipped = call.clone();
    flipped[9] ^= 1;
    let mut unknown = call.clone();
    unknown[16] = 200;
    let mut huge = call.clone();
    huge[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let open = bytes_of(Kind::OpenFile, b"missing");
    let wrong = [
        flipped,
        unknown,
        huge,
        bytes_of(Kind::Answer, b"to nothing"),
        bytes_of(Kind::Alive, b"too long"),
        rand::rng().random::<[u8; 999]>().to_vec(),
        [
            &open[..],
            &vec![bytes_of(Kind::More, b""); 50].concat(),
            &bytes_of(Kind::Chunk, b"x"),
        ]
        .concat(),
    ];
    for bytes in wrong {
        send(&mut introduced(&pair).await, &bytes).await;
    }
    for cut in [1, 16, 17, call.len() - 1] {
        let mut stream = introduced(&pair).await;
        stream.write_all(&call[..cut]).await.unwrap();
        drop(stream);
    }
    assert_eq!(echo(&pair.peers, b"on").await.unwrap(), "on");
    assert_eq!(pair.service.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_say_nothing_keep_no_node_out() {
    let pair = pair().await;
    echo(&pair.peers, b"before").await.unwrap();
    let mut held = Vec::new();
    for number in 0..2 * MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(pair.serving.address()).await.unwrap();
        let _ = stream.write_all(&b"PYRP"[..number % 5]).await;
        held.push(stream);
    }
    let begun = Instant::now();
    let other = Peers::new(identity(CALLER), plain());
    other.set_address(SERVER, pair.serving.address().to_string());
    assert_eq!(echo(&other, b"new").await.unwrap(), "new");
    assert!(begun.elapsed() < HANDSHAKE_LIMIT / 2, "{:?}", begun.elapsed());
    assert_eq!(echo(&pair.peers, b"after").await.unwrap(), "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_a_connection_before_and_behind_the_handshake() {
    let pair = pair().await;
    let (mut silent, mut introduced) = (TcpStream::connect(pair.serving.address()).await.unwrap(), introduced(&pair).await);
    let begun = Instant::now();
    tokio::join!(send(&mut silent, b"PY"), send(&mut introduced, b""));
    assert!(begun.elapsed() < HANDSHAKE_LIMIT + SILENCE_LIMIT);
    // A connection with nothing to say, on the other hand, stays.
    let call = waiting_call(&pair);
    sleep(SILENCE_LIMIT + 2 * ALIVE_INTERVAL).await;
    pair.service.gate.add_permits(1);
    assert_eq!(call.await.unwrap().unwrap(), "w");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_loses_its_calls() {
    let listener = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let peers = Peers::new(identity(CALLER), plain());
    peers.set_address(SERVER, listener.local_addr().unwrap().to_string());
    let call = tokio::spawn(async move { peers.call(SERVER, request(ECHO, b""), LIMIT).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    let caller = handshake::receive(&mut stream, &identity(SERVER), &Roll::default(), "here")
        .await
        .unwrap();
    assert_eq!(caller.node, CALLER);
    let answer = call.await.unwrap();
    assert!(
        matches!(&answer, Err(PeerError::Lost(why)) if why.contains("nothing arrived")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_length_is_believed_only_as_far_as_bytes_arrive() {
    let mut bytes = bytes_of(Kind::Call, &[7; 100_000]);
    let whole = FrameReader::new(&bytes[..]).next().await.unwrap().unwrap();
    assert_eq!(whole.payload, [7; 100_000][..]);
    bytes[0..4].copy_from_slice(&(MAX_MESSAGE_BYTES as u32).to_le_bytes());
    assert!(matches!(FrameReader::new(&bytes[..]).next().await, Err(FrameError::CutOff)));
    bytes[0..4].copy_from_slice(&(MAX_MESSAGE_BYTES as u32 + 1).to_le_bytes());
    assert!(matches!(FrameReader::new(&bytes[..]).next().await, Err(FrameError::TooLong { .. })));
    assert!(FrameReader::new(&b""[..]).next().await.unwrap().is_none());
}
