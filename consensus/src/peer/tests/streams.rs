//! Streams: who gets one, what goes over it, and what it ends with.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::certificates::{Authority, Wish};
use super::tls::{files, links};
use super::*;
use crate::peer::handshake::{self, Purpose};

/// Keeps the streams that it gets.
struct Taker(UnboundedSender<(u64, Channel)>);

impl PeerService for Taker {
    fn call(&self, _from: u64, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        async move { Ok(request) }.boxed()
    }

    fn open_file(&self, _from: u64, _name: String) -> BoxFuture<'static, Result<Option<OpenedFile>, String>> {
        async move { Ok(None) }.boxed()
    }

    fn take(&self, from: u64, channel: Channel) {
        self.0.send((from, channel)).unwrap();
    }
}

/// A server that takes streams, and a caller of it.
struct Nodes {
    serving: PeerServing,
    /// The server's.
    roll: Roll,
    taken: UnboundedReceiver<(u64, Channel)>,
    peers: Peers,
}

impl Nodes {
    async fn start(server: Links, caller: Links) -> Nodes {
        let (sender, taken) = unbounded_channel();
        let roll = Roll::default();
        let bound = PeerServer::bind(loopback(), server).await.unwrap();
        let serving = bound.serve(identity(SERVER), Arc::new(Taker(sender)), roll.clone());
        let peers = Peers::new(identity(CALLER), caller);
        peers.set_address(SERVER, serving.address().to_string());
        Nodes {
            serving,
            roll,
            taken,
            peers,
        }
    }

    async fn plain() -> Nodes {
        Nodes::start(plain(), plain()).await
    }

    async fn secured() -> Nodes {
        let authority = Authority::new("a");
        let (one, two) = (files(&authority, &Wish::default()), files(&authority, &Wish::default()));
        Nodes::start(links(&one), links(&two)).await
    }

    async fn taken(&mut self) -> Channel {
        let (from, channel) = timeout(LIMIT, self.taken.recv()).await.unwrap().unwrap();
        assert_eq!(from, CALLER);
        channel
    }

    /// The two ends of a stream, the caller's first.
    async fn stream(&mut self) -> (Channel, Channel) {
        let channel = self.peers.stream(SERVER).await.unwrap();
        (channel, self.taken().await)
    }

    /// Why a caller gets no stream.
    async fn refusal(&self, identity: PeerIdentity, links: Links) -> String {
        // A stranger may ask whoever is there.
        let to = if identity.is_stranger() { 0 } else { SERVER };
        let peers = Peers::new(identity, links);
        peers.set_address(to, self.serving.address().to_string());
        match peers.stream(to).await {
            Err(PeerError::Refused(reason)) => reason,
            answer => panic!("{answer:?}"),
        }
    }
}

/// Waits for the end of a stream: its error, or none where the other end was closed in good order.
async fn end(channel: &mut Channel) -> Option<std::io::ErrorKind> {
    let mut rest = Vec::new();
    let read = timeout(LIMIT, channel.read_to_end(&mut rest))
        .await
        .expect("the stream does not end");
    read.err().map(|error| error.kind())
}

const ABORTED: Option<std::io::ErrorKind> = Some(std::io::ErrorKind::ConnectionAborted);

async fn goes_both_ways(mut nodes: Nodes) {
    let (caller, server) = nodes.stream().await;
    let there: Vec<u8> = (0..5_000_000_u32).map(|n| ((n * 31) >> 7) as u8).collect();
    let back: Vec<u8> = there.iter().map(|byte| !byte).collect();
    let exchange = |channel: Channel, sent: Vec<u8>, expected: Vec<u8>| async move {
        let (mut reader, mut writer) = tokio::io::split(channel);
        let write = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (read, ()) = tokio::join!(reader.read_to_end(&mut received), write);
        read.unwrap();
        assert!(received == expected);
    };
    let caller = tokio::spawn(exchange(caller, there.clone(), back.clone()));
    let server = tokio::spawn(exchange(server, back, there));
    timeout(LIMIT, caller).await.unwrap().unwrap();
    timeout(LIMIT, server).await.unwrap().unwrap();
    let answer = nodes.peers.call(SERVER, Bytes::from_static(b"beside"), LIMIT).await;
    assert_eq!(answer.unwrap(), "beside");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways() {
    goes_both_ways(Nodes::plain().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_over_tls() {
    goes_both_ways(Nodes::secured().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_none() {
    let mut nodes = Nodes::secured().await;
    let reason = nodes.refusal(identity(CALLER), plain()).await;
    assert!(reason.contains("it speaks TLS, and this node does not"), "{reason}");
    let foreign = files(&Authority::new("b"), &Wish::default());
    let reason = nodes.refusal(identity(CALLER), links(&foreign)).await;
    assert!(reason.contains("its certificate is not signed by an authority"), "{reason}");
    assert!(nodes.taken.try_recv().is_err());

    let mut nodes = Nodes::plain().await;
    let reason = nodes.refusal(PeerIdentity::new("other".to_owned(), CALLER), plain()).await;
    assert!(reason.contains("\"other\"") && reason.contains(DATABASE), "{reason}");
    let reason = nodes.refusal(PeerIdentity::stranger(), plain()).await;
    assert!(reason.contains("a node that has no id yet can only ask to join"), "{reason}");
    let unnamed = PeerIdentity {
        node: 0,
        ..identity(CALLER)
    };
    let reason = nodes.refusal(unnamed, plain()).await;
    assert!(reason.contains("a node that has no id yet can only ask to join"), "{reason}");
    assert!(nodes.taken.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_of_the_protocol_before_is_told_what_to_do() {
    let nodes = Nodes::plain().await;
    let older = PeerIdentity {
        format: 2,
        ..identity(CALLER)
    };
    let reason = nodes.refusal(older, plain()).await;
    assert!(reason.contains("protocol 3, the caller speaks 2; run the same version"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_are_open_at_once_beside_the_calls() {
    let mut nodes = Nodes::plain().await;
    let mut callers = Vec::new();
    for number in 0..300_u32 {
        let mut caller = nodes.peers.stream(SERVER).await.unwrap();
        caller.write_u32(number).await.unwrap();
        callers.push(caller);
    }
    let mut numbers = Vec::new();
    let mut servers = Vec::new();
    for _ in 0..callers.len() {
        let mut server = nodes.taken().await;
        let number = server.read_u32().await.unwrap();
        server.write_u32(number + 1).await.unwrap();
        numbers.push(number);
        servers.push(server);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..300).collect::<Vec<u32>>());
    for (number, caller) in callers.iter_mut().enumerate() {
        assert_eq!(caller.read_u32().await.unwrap() as usize, number + 1);
    }
    let answer = nodes.peers.call(SERVER, Bytes::from_static(b"on"), LIMIT).await;
    assert_eq!(answer.unwrap(), "on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_dropped_ends_the_other() {
    for mut nodes in [Nodes::plain().await, Nodes::secured().await] {
        let (mut caller, server) = nodes.stream().await;
        drop(server);
        assert_ne!(end(&mut caller).await, ABORTED);
        let (caller, mut server) = nodes.stream().await;
        drop(caller);
        assert_ne!(end(&mut server).await, ABORTED);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_taken_off_the_roll_loses_its_streams() {
    let mut nodes = Nodes::plain().await;
    let (mut caller, server) = nodes.stream().await;
    let (mut reader, mut writer) = tokio::io::split(server);
    // Both wait, in tasks of their own: nobody sends, and nobody receives.
    let reading = tokio::spawn(async move { reader.read_u8().await.map(drop) });
    let writing = tokio::spawn(async move {
        loop {
            writer.write_all(&[0; 1 << 16]).await?;
        }
        #[allow(unreachable_code)]
        std::io::Result::Ok(())
    });
    sleep(Duration::from_millis(200)).await;
    assert!(!reading.is_finished() && !writing.is_finished());
    nodes.roll.keep_streams(|node| node != CALLER);
    for waiting in [reading, writing] {
        let error = timeout(LIMIT, waiting).await.unwrap().unwrap().unwrap_err();
        assert_eq!(Some(error.kind()), ABORTED);
    }
    assert_ne!(end(&mut caller).await, ABORTED, "its own side still knows the node");
    // The roll says who is connected, not who may be.
    let (mut caller, mut server) = nodes.stream().await;
    nodes.peers.remove(SERVER);
    assert_eq!(end(&mut caller).await, ABORTED);
    end(&mut server).await;
    assert!(matches!(nodes.peers.stream(SERVER).await, Err(PeerError::Unreachable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_either_node_ends_its_streams() {
    let mut nodes = Nodes::plain().await;
    let (mut caller, mut server) = nodes.stream().await;
    nodes.serving.stop().await;
    assert_eq!(end(&mut server).await, ABORTED);
    end(&mut caller).await;

    let mut nodes = Nodes::plain().await;
    let (mut caller, mut server) = nodes.stream().await;
    nodes.peers.close();
    assert_eq!(end(&mut caller).await, ABORTED);
    end(&mut server).await;
    assert!(matches!(nodes.peers.stream(SERVER).await, Err(PeerError::Unreachable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_falls_silent_loses_its_streams_and_another_may_take_its_place() {
    let mut nodes = Nodes::plain().await;
    let introduced = async |purpose| {
        let mut stream = TcpStream::connect(nodes.serving.address()).await.unwrap();
        handshake::introduce(&mut stream, &identity(CALLER), SERVER, purpose).await.unwrap();
        stream
    };
    // As after a power loss: both are there for the server, and nothing comes.
    let (calls, mut stream) = (introduced(Purpose::Calls).await, introduced(Purpose::Stream).await);
    stream.write_all(b"x").await.unwrap();
    let mut server = nodes.taken().await;
    assert_eq!(server.read_u8().await.unwrap(), b'x');
    let begun = Instant::now();
    assert_eq!(end(&mut server).await, ABORTED);
    assert!(begun.elapsed() < SILENCE_LIMIT + Duration::from_secs(3));
    let next = PeerIdentity {
        incarnation: Incarnation(77),
        ..identity(CALLER)
    };
    let peers = Peers::new(next, plain());
    peers.set_address(SERVER, nodes.serving.address().to_string());
    let mut caller = peers.stream(SERVER).await.unwrap();
    caller.write_all(b"y").await.unwrap();
    assert_eq!(nodes.taken().await.read_u8().await.unwrap(), b'y');
    drop((calls, stream));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_process_without_calls_ends_at_once() {
    let mut nodes = Nodes::plain().await;
    let mut stream = TcpStream::connect(nodes.serving.address()).await.unwrap();
    handshake::introduce(&mut stream, &identity(CALLER), SERVER, Purpose::Stream)
        .await
        .unwrap();
    let mut server = nodes.taken().await;
    assert_eq!(end(&mut server).await, ABORTED);
    assert!(!nodes.roll.is_present(CALLER));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_wants_no_streams_closes_them() {
    let pair = pair().await;
    let mut channel = pair.peers.stream(SERVER).await.unwrap();
    assert_ne!(end(&mut channel).await, ABORTED);
}
