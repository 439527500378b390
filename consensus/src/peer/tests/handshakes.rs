//! Who is refused, and how both sides hear of it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::peer::handshake::{self, Purpose};

/// The reason that a caller of this identity gets who means to reach this node.
async fn refusal(pair: &Pair, identity: PeerIdentity, to: u64) -> String {
    let peers = Peers::new(identity, plain());
    peers.set_address(to, pair.serving.address().to_string());
    let answer = peers.call(to, request(ECHO, b""), LIMIT).await;
    let Err(PeerError::Refused(reason)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(pair.service.calls.load(Ordering::SeqCst), 0);
    reason
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_is_refused() {
    let pair = pair().await;
    let reason = refusal(&pair, PeerIdentity::new("other".to_owned(), CALLER), SERVER).await;
    assert!(reason.contains("\"other\"") && reason.contains(DATABASE), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_is_refused() {
    let pair = pair().await;
    let newer = PeerIdentity {
        format: PROTOCOL + 1,
        ..identity(CALLER)
    };
    let reason = refusal(&pair, newer, SERVER).await;
    let expected = format!("protocol {PROTOCOL}, the caller speaks {}", PROTOCOL + 1);
    assert!(reason.contains(&expected), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_with_the_servers_id_is_refused() {
    let pair = pair().await;
    let reason = refusal(&pair, identity(SERVER), SERVER).await;
    assert!(reason.contains("node 1 itself"), "{reason}");
    let copy = PeerIdentity {
        incarnation: Incarnation(77),
        ..identity(SERVER)
    };
    let reason = occupied(&pair, copy, SERVER).await;
    assert!(reason.contains("node 1 itself, in another process"), "{reason}");
}

/// The reason that a caller gets whose node is another process.
async fn occupied(pair: &Pair, identity: PeerIdentity, to: u64) -> String {
    let peers = Peers::new(identity, plain());
    peers.set_address(to, pair.serving.address().to_string());
    match peers.call(to, request(ECHO, b""), LIMIT).await {
        Err(PeerError::Occupied(reason)) => reason,
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_of_a_node_is_refused_as_long_as_the_first_is_there() {
    let pair = pair().await;
    echo(&pair.peers, b"first").await.unwrap();
    let copy = PeerIdentity {
        incarnation: Incarnation(77),
        ..identity(CALLER)
    };
    let reason = occupied(&pair, copy.clone(), SERVER).await;
    assert!(reason.contains("node 2 runs already, as another process"), "{reason}");
    assert_eq!(echo(&pair.peers, b"still there").await.unwrap(), "still there");
    pair.peers.close();
    // Its end is seen as soon as the bytes are there.
    let peers = Peers::new(copy, plain());
    peers.set_address(SERVER, pair.serving.address().to_string());
    let closed = Instant::now();
    while let Err(error) = echo(&peers, b"second").await {
        assert!(matches!(error, PeerError::Occupied(_)), "{error}");
        assert!(closed.elapsed() < Duration::from_secs(2), "{error}");
        sleep(RETRY_AFTER).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_does_not_speak_with_a_second_process_of_a_node() {
    let pair = pair().await;
    let _other = pair.peers.roll().enter(SERVER, Incarnation(77), "elsewhere").unwrap();
    let answer = echo(&pair.peers, b"").await;
    assert!(
        matches!(&answer, Err(PeerError::Refused(reason)) if reason.contains("elsewhere")),
        "{answer:?}"
    );
    let states = pair.peers.states();
    assert_eq!((states[0].node, states[0].failed_calls), (SERVER, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_of_another_node_is_refused() {
    let pair = pair().await;
    let reason = refusal(&pair, identity(CALLER), 7).await;
    assert!(reason.contains("node 1, not node 7"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purpose_that_is_not_known_is_refused() {
    let pair = pair().await;
    let ids = [CALLER.to_le_bytes(), SERVER.to_le_bytes()].concat();
    let hello = [&ids[..], &[7; 16], &[9], DATABASE.as_bytes()].concat();
    let mut stream = tokio::net::TcpStream::connect(pair.serving.address()).await.unwrap();
    stream.write_all(&part(PROTOCOL, &hello)).await.unwrap();
    let mut verdict = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut verdict)).await.unwrap().unwrap();
    let verdict = String::from_utf8_lossy(&verdict).into_owned();
    assert!(verdict.contains("knows no purpose 9 of a connection"), "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whose_database_id_is_too_long_is_refused() {
    let pair = pair().await;
    let reason = refusal(&pair, PeerIdentity::new("x".repeat(5000), CALLER), SERVER).await;
    assert!(reason.contains("5000"), "{reason}");
}

/// What a caller makes of a server that answers with these bytes.
async fn answered(verdict: Vec<u8>) -> Result<(u64, Incarnation), handshake::HandshakeError> {
    let (mut caller, mut server) = tokio::io::duplex(4096);
    server.write_all(&verdict).await.unwrap();
    handshake::introduce(&mut caller, &identity(CALLER), SERVER, Purpose::Calls).await
}

fn part(protocol: u32, body: &[u8]) -> Vec<u8> {
    let mut part = [&b"PYRP"[..], &protocol.to_le_bytes(), &(body.len() as u32).to_le_bytes()].concat();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&part), body);
    part.extend_from_slice(&crc.to_le_bytes());
    part.extend_from_slice(body);
    part
}

#[tokio::test]
async fn the_caller_checks_who_answers() {
    let welcome = |node: u64, database: &str| [&[0], &node.to_le_bytes()[..], &[7; 16], database.as_bytes()].concat();
    answered(part(PROTOCOL, &welcome(SERVER, DATABASE))).await.unwrap();
    let wrong = [
        (PROTOCOL, welcome(SERVER, "other"), "\"other\""),
        (PROTOCOL, welcome(9, DATABASE), "node 9"),
        (PROTOCOL + 1, welcome(SERVER, DATABASE), "protocol"),
        (PROTOCOL + 1, [&[1], &b"too old for me"[..]].concat(), "too old for me"),
        (PROTOCOL, vec![0, 1], "too short"),
        (PROTOCOL, vec![], "unknown verdict"),
    ];
    for (protocol, body, expected) in wrong {
        let error = answered(part(protocol, &body)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut damaged = part(PROTOCOL, &welcome(SERVER, DATABASE));
    damaged[20] ^= 1;
    assert!(answered(damaged).await.unwrap_err().to_string().contains("checksum"));
    let web = answered(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    assert!(web.unwrap_err().to_string().contains("wrong magic"));
}
