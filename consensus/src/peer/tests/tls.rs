//! Who is let in by TLS, and how both sides hear of a refusal.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::certificates::{Authority, Wish};
use super::*;
use crate::peer::handshake::{self, Purpose};
use crate::peer::tls::{PeerTls, Tls, TlsError};

/// A node's files in a folder of their own.
pub struct Files {
    dir: tempfile::TempDir,
    tls: PeerTls,
}

pub fn files(authority: &Authority, wish: &Wish<'_>) -> Files {
    let dir = tempfile::tempdir().unwrap();
    let [certificate, key, authority] = authority.sign(dir.path(), wish);
    let tls = PeerTls {
        certificate,
        key,
        authority,
    };
    Files { dir, tls }
}

pub fn links(files: &Files) -> Links {
    links_at(files, "127.0.0.1:7402")
}

fn links_at(files: &Files, address: &str) -> Links {
    Links {
        tls: Some(Arc::new(Tls::open(files.tls.clone(), address).unwrap())),
        ..plain()
    }
}

fn open(files: &Files) -> Result<Tls, TlsError> {
    Tls::open(files.tls.clone(), "127.0.0.1:7402")
}

/// Peers of another node of the pair's database.
fn caller(pair: &Pair, links: Links) -> Peers {
    let peers = Peers::new(identity(CALLER), links);
    peers.set_address(SERVER, pair.serving.address().to_string());
    peers
}

/// Why a caller with these links is not let in, or does not let itself be.
async fn refusal(pair: &Pair, links: Links) -> String {
    let begun = Instant::now();
    let answer = echo(&caller(pair, links), b"x").await;
    let Err(PeerError::Refused(reason)) = answer else {
        panic!("{answer:?}");
    };
    assert!(begun.elapsed() < HANDSHAKE_LIMIT, "{:?}", begun.elapsed());
    assert_eq!(pair.service.calls.load(Ordering::SeqCst), 0);
    reason
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_authority_speak() {
    let authority = Authority::new("a");
    let (one, two) = (files(&authority, &Wish::default()), files(&authority, &Wish::default()));
    let pair = pair_with(links(&one), links(&two)).await;
    assert_eq!(echo(&pair.peers, b"small").await.unwrap(), "small");
    let large = vec![7; 20 << 20];
    assert!(echo(&pair.peers, &large).await.unwrap() == large);
    std::fs::write(pair.dir.path().join("source"), &large).unwrap();
    let to = pair.dir.path().join("copy");
    assert_eq!(pair.peers.fetch_file(SERVER, "source", &to).await, Ok(Some(20 << 20)));
    assert!(std::fs::read(&to).unwrap() == large);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_loses_its_calls_and_is_found_again() {
    let authority = Authority::new("a");
    let files = files(&authority, &Wish::default());
    let pair = pair_with(links(&files), links(&files)).await;
    let call = waiting_call(&pair);
    until(|| waiting(&pair) == 1).await;
    let Pair {
        service, serving, peers, ..
    } = pair;
    let address = serving.address();
    serving.stop().await;
    let lost = call.await.unwrap();
    assert!(
        matches!(&lost, Err(PeerError::Lost(why)) if why.contains("it was closed")),
        "{lost:?}"
    );
    let _serving = serve_with(address, &service, links(&files)).await;
    assert_eq!(echo(&peers, b"after").await.unwrap(), "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_authority_is_refused() {
    // One of another name, and one of the same name with another key.
    for name in ["b", "a"] {
        let (a, b) = (Authority::new("a"), Authority::new(name));
        let (server, caller) = (files(&a, &Wish::default()), files(&b, &Wish::default()));
        let pair = pair_with(links(&server), plain()).await;
        let reason = refusal(&pair, links(&caller)).await;
        assert!(reason.contains("its certificate is not signed by an authority"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_of_another_authority_is_told_so() {
    let (a, b) = (Authority::new("a"), Authority::new("b"));
    let (server, caller) = (files(&a, &Wish::default()), files(&b, &Wish::default()));
    std::fs::write(&caller.tls.authority, a.pem() + &b.pem()).unwrap();
    let pair = pair_with(links(&server), plain()).await;
    let reason = refusal(&pair, links(&caller)).await;
    assert!(
        reason.contains("it does not know the authority of this node's certificate"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_certificates_are_refused_on_both_sides() {
    let authority = Authority::new("a");
    let short = Wish {
        valid: Duration::from_secs(2),
        ..Wish::default()
    };
    let (expiring, valid) = (files(&authority, &short), files(&authority, &Wish::default()));
    let (expiring_links, valid_links) = (links(&expiring), links(&valid));
    let server = pair_with(expiring_links.clone(), plain()).await;
    let called = pair_with(valid_links.clone(), plain()).await;
    sleep(short.valid + Duration::from_secs(1)).await;
    let reason = refusal(&server, valid_links).await;
    assert!(reason.contains("its certificate expired"), "{reason}");
    let reason = refusal(&called, expiring_links).await;
    assert!(reason.contains("it finds this node's certificate expired"), "{reason}");
    let own = open(&expiring).err().unwrap().to_string();
    assert!(own.contains("node.pem expired") && own.contains("renew it"), "{own}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_for_the_host_that_was_called() {
    let authority = Authority::new("a");
    let other = Wish {
        hosts: &["db-2.example", "::1"],
        ..Wish::default()
    };
    let (server, caller) = (files(&authority, &other), files(&authority, &Wish::default()));
    let pair = pair_with(links_at(&server, "db-2.example:7402"), plain()).await;
    let reason = refusal(&pair, links(&caller)).await;
    assert!(
        reason.contains("is not for 127.0.0.1") && reason.contains("db-2.example"),
        "{reason}"
    );
    // Its own node would not start with it.
    let own = open(&server).err().unwrap().to_string();
    assert!(own.contains("is not for 127.0.0.1"), "{own}");
    // Called by a name that it has, and by an address of the other kind.
    Tls::open(server.tls.clone(), "[::1]:7402").unwrap();
    let strange = Tls::open(server.tls.clone(), "a b:7402").err().unwrap().to_string();
    assert!(strange.contains("neither a host name nor"), "{strange}");
    let files = files(&authority, &Wish::default());
    let pair = pair_with(links(&files), links(&files)).await;
    pair.peers
        .set_address(SERVER, format!("localhost:{}", pair.serving.address().port()));
    assert_eq!(echo(&pair.peers, b"by name").await.unwrap(), "by name");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_certificate_is_refused() {
    let authority = Authority::new("a");
    let files = files(&authority, &Wish::default());
    let pair = pair_with(links(&files), plain()).await;
    let mut roots = rustls::RootCertStore::empty();
    let pem = rustls::pki_types::pem::PemObject::from_pem_slice(authority.pem().as_bytes()).unwrap();
    roots.add(pem).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(pair.serving.address()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let refused = handshake::introduce(&mut stream, &identity(CALLER), SERVER, Purpose::Calls).await;
    let reason = refused.unwrap_err().to_string();
    assert!(reason.contains("CertificateRequired"), "{reason}");
    assert_eq!(pair.service.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_tls_and_one_without_refuse_each_other() {
    let authority = Authority::new("a");
    let files = files(&authority, &Wish::default());
    let secured = pair_with(links(&files), plain()).await;
    let reason = refusal(&secured, plain()).await;
    assert!(reason.contains("it speaks TLS, and this node does not"), "{reason}");
    let unsecured = pair().await;
    let reason = refusal(&unsecured, links(&files)).await;
    assert!(reason.contains("it does not speak TLS, and this node does"), "{reason}");
    // Whoever knows the way is let in all the same.
    assert_eq!(echo(&caller(&secured, links(&files)), b"on").await.unwrap(), "on");
    assert_eq!(echo(&unsecured.peers, b"on").await.unwrap(), "on");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_knows_nothing_of_tls_ends_as_unreachable() {
    let authority = Authority::new("a");
    let files = files(&authority, &Wish::default());
    let listener = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let peers = Peers::new(identity(CALLER), links(&files));
    peers.set_address(SERVER, listener.local_addr().unwrap().to_string());
    let closing = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 16]).await;
    };
    let (answer, ()) = tokio::join!(echo(&peers, b"x"), closing);
    assert!(
        matches!(&answer, Err(PeerError::Unreachable(why)) if why.contains("does it speak TLS?")),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_slow_callers_hold_up_nobody() {
    let authority = Authority::new("a");
    let files = files(&authority, &Wish::default());
    let pair = pair_with(links(&files), links(&files)).await;
    let mut slow = Vec::new();
    for n in 0..40_u8 {
        let mut stream = TcpStream::connect(pair.serving.address()).await.unwrap();
        match n % 4 {
            0 => {}
            // A record that is begun.
            1 => stream.write_all(&[22, 3, 1, 2]).await.unwrap(),
            2 => stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap(),
            _ => stream.write_all(&vec![n.wrapping_mul(31); 5000]).await.unwrap(),
        }
        slow.push(stream);
    }
    let begun = Instant::now();
    assert_eq!(echo(&pair.peers, b"on").await.unwrap(), "on");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // None of them is served for ever.
    for mut stream in slow {
        let ended = timeout(2 * HANDSHAKE_LIMIT, stream.read_to_end(&mut Vec::new())).await;
        let _ = ended.expect("the server does not close");
    }
    assert_eq!(pair.service.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_files_are_taken_up_and_broken_ones_are_not() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (server, before) = (files(&old, &Wish::default()), files(&old, &Wish::default()));
    let pair = pair_with(links(&server), links(&before)).await;
    assert_eq!(echo(&pair.peers, b"old").await.unwrap(), "old");
    // A key that does not belong to the certificate, then a file that is not there: what was loaded stays.
    let spare = files(&old, &Wish::default());
    std::fs::copy(&spare.tls.key, &server.tls.key).unwrap();
    assert_eq!(echo(&caller(&pair, links(&before)), b"mixed").await.unwrap(), "mixed");
    std::fs::remove_file(&server.tls.certificate).unwrap();
    assert_eq!(echo(&caller(&pair, links(&before)), b"missing").await.unwrap(), "missing");
    // Both authorities on the way from one to the other.
    let both = old.pem() + &new.pem();
    new.sign(server.dir.path(), &Wish::default());
    std::fs::write(&server.tls.authority, &both).unwrap();
    std::fs::write(&before.tls.authority, &both).unwrap();
    let after = files(&new, &Wish::default());
    assert_eq!(echo(&caller(&pair, links(&before)), b"both").await.unwrap(), "both");
    assert_eq!(echo(&caller(&pair, links(&after)), b"new").await.unwrap(), "new");
    // The old authority is gone; connections that are open stay.
    std::fs::write(&server.tls.authority, new.pem()).unwrap();
    let refused = echo(&caller(&pair, links(&before)), b"late").await;
    assert!(matches!(refused, Err(PeerError::Refused(_))), "{refused:?}");
    assert_eq!(echo(&pair.peers, b"open").await.unwrap(), "open");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new("a");
    let problem = |spoil: &dyn Fn(&Files)| {
        let files = files(&authority, &Wish::default());
        spoil(&files);
        open(&files).err().unwrap().to_string()
    };
    let missing = problem(&|files| std::fs::remove_file(&files.tls.key).unwrap());
    assert!(missing.contains("node.key cannot be read"), "{missing}");
    let empty = problem(&|files| std::fs::write(&files.tls.certificate, "").unwrap());
    assert!(empty.contains("node.pem holds no certificate"), "{empty}");
    let no_key = problem(&|files| std::fs::write(&files.tls.key, authority.pem()).unwrap());
    assert!(no_key.contains("node.key holds no private key"), "{no_key}");
    let torn = problem(&|files| std::fs::write(&files.tls.authority, &authority.pem()[..100]).unwrap());
    assert!(torn.contains("ca.pem holds no certificate"), "{torn}");
    let mixed = problem(&|files| {
        let other = self::files(&authority, &Wish::default());
        std::fs::copy(&other.tls.key, &files.tls.key).unwrap();
    });
    assert!(mixed.contains("node.key does not belong to the certificate"), "{mixed}");
    let foreign = problem(&|files| std::fs::write(&files.tls.authority, Authority::new("b").pem()).unwrap());
    assert!(foreign.contains("node.pem is not signed by an authority"), "{foreign}");
    let servers_only = Wish {
        clients: false,
        ..Wish::default()
    };
    let purpose = open(&files(&authority, &servers_only)).err().unwrap().to_string();
    assert!(purpose.contains("clientAuth"), "{purpose}");
}
