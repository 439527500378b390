//! Who is refused, and how both sides hear of it.

use super::*;
use crate::peer::handshake;

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
    assert!(reason.contains("protocol 1, the caller speaks 2"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_with_the_servers_id_is_refused() {
    let pair = pair().await;
    let reason = refusal(&pair, identity(SERVER), SERVER).await;
    assert!(reason.contains("node 1 itself"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_of_another_node_is_refused() {
    let pair = pair().await;
    let reason = refusal(&pair, identity(CALLER), 7).await;
    assert!(reason.contains("node 1, not node 7"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whose_database_id_is_too_long_is_refused() {
    let pair = pair().await;
    let reason = refusal(&pair, PeerIdentity::new("x".repeat(5000), CALLER), SERVER).await;
    assert!(reason.contains("5000"), "{reason}");
}

/// What a caller makes of a server that answers with these bytes.
async fn answered(verdict: Vec<u8>) -> Result<(), handshake::HandshakeError> {
    let (mut caller, mut server) = tokio::io::duplex(4096);
    tokio::io::AsyncWriteExt::write_all(&mut server, &verdict).await.unwrap();
    handshake::introduce(&mut caller, &identity(CALLER), SERVER).await
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
    let welcome = |node: u64, database: &str| [&[0], &node.to_le_bytes()[..], database.as_bytes()].concat();
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
