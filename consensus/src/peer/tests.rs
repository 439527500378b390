#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod files;
mod handshakes;
mod hostile;
mod streams;
mod tls;

#[path = "../../tests/certificates.rs"]
mod certificates;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::FutureExt;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::frame::{Frame, Kind};
use super::transport::Tcp;
use super::writer::{Outgoing, write_frames};
use super::*;

const LIMIT: Duration = Duration::from_secs(20);
const DATABASE: &str = "8a1f0c5e";
const SERVER: u64 = 1;
const CALLER: u64 = 2;

/// What a request asks of [`TestService`]; a number or bytes follow.
const ECHO: u8 = 0;
const ECHO_AFTER_MS: u8 = 1;
const FAIL: u8 = 2;
const PANIC: u8 = 3;
/// Answers once somebody adds a permit to `gate`.
const WAIT: u8 = 4;

struct TestService {
    dir: PathBuf,
    gate: Semaphore,
    waiting: AtomicUsize,
    calls: AtomicUsize,
}

struct Handler(Arc<TestService>);

/// Counts the requests that wait at the gate, also those that are dropped there.
struct Waiting(Arc<TestService>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl PeerService for Handler {
    fn call(&self, from: u64, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let service = self.0.clone();
        service.calls.fetch_add(1, Ordering::SeqCst);
        async move {
            assert_eq!(from, CALLER);
            let body = request.slice(1..);
            match request[0] {
                ECHO => Ok(body),
                ECHO_AFTER_MS => {
                    sleep(Duration::from_millis(body[0] as u64)).await;
                    Ok(body)
                }
                FAIL => Err("out of cheese".to_owned()),
                PANIC => panic!("asked to"),
                _ => {
                    service.waiting.fetch_add(1, Ordering::SeqCst);
                    let _waiting = Waiting(service.clone());
                    service.gate.acquire().await.unwrap().forget();
                    Ok(body)
                }
            }
        }
        .boxed()
    }

    fn open_file(&self, _from: u64, name: String) -> BoxFuture<'static, Result<Option<OpenedFile>, String>> {
        let path = self.0.dir.join(&name);
        async move {
            if name == "forbidden" {
                return Err("not for you".to_owned());
            }
            Ok(std::fs::File::open(path).ok().map(OpenedFile::urgent))
        }
        .boxed()
    }
}

/// A server and a caller of it.
struct Pair {
    dir: tempfile::TempDir,
    service: Arc<TestService>,
    serving: PeerServing,
    peers: Peers,
}

fn identity(node: u64) -> PeerIdentity {
    PeerIdentity {
        incarnation: Incarnation(node.into()),
        ..PeerIdentity::new(DATABASE.to_owned(), node)
    }
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn plain() -> Links {
    Links {
        transport: Arc::new(Tcp),
        tls: None,
    }
}

async fn serve(address: SocketAddr, service: &Arc<TestService>) -> PeerServing {
    serve_with(address, service, plain()).await
}

async fn serve_with(address: SocketAddr, service: &Arc<TestService>, links: Links) -> PeerServing {
    let server = PeerServer::bind(address, links).await.unwrap();
    server.serve(identity(SERVER), Arc::new(Handler(service.clone())), Roll::default())
}

async fn pair() -> Pair {
    pair_with(plain(), plain()).await
}

/// A pair whose server and whose caller have these links.
async fn pair_with(server: Links, caller: Links) -> Pair {
    let dir = tempfile::tempdir().unwrap();
    let service = Arc::new(TestService {
        dir: dir.path().to_owned(),
        gate: Semaphore::new(0),
        waiting: AtomicUsize::new(0),
        calls: AtomicUsize::new(0),
    });
    let serving = serve_with(loopback(), &service, server).await;
    let peers = Peers::new(identity(CALLER), caller);
    peers.set_address(SERVER, serving.address().to_string());
    Pair {
        dir,
        service,
        serving,
        peers,
    }
}

fn request(what: u8, body: &[u8]) -> Bytes {
    [&[what], body].concat().into()
}

async fn echo(peers: &Peers, body: &[u8]) -> Result<Bytes, PeerError> {
    peers.call(SERVER, request(ECHO, body), LIMIT).await
}

async fn until(condition: impl Fn() -> bool) {
    timeout(LIMIT, async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("does not become true");
}

/// A call that waits at the gate.
fn waiting_call(pair: &Pair) -> tokio::task::JoinHandle<Result<Bytes, PeerError>> {
    let peers = pair.peers.clone();
    tokio::spawn(async move { peers.call(SERVER, request(WAIT, b"w"), LIMIT).await })
}

fn waiting(pair: &Pair) -> usize {
    pair.service.waiting.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_calls_gets_its_own_answer_in_whatever_order() {
    let pair = pair().await;
    let calls = (0..2000u32).map(|n| {
        let peers = pair.peers.clone();
        tokio::spawn(async move {
            let body = [&[(n.wrapping_mul(97) % 50) as u8][..], &n.to_le_bytes()].concat();
            let answer = peers.call(SERVER, request(ECHO_AFTER_MS, &body), LIMIT).await;
            assert_eq!(answer.unwrap(), body);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_call_is_answered_first() {
    let pair = pair().await;
    let first = waiting_call(&pair);
    until(|| waiting(&pair) == 1).await;
    assert_eq!(echo(&pair.peers, b"second").await.unwrap(), "second");
    pair.service.gate.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap(), "w");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_call_and_small_ones_share_the_stream() {
    let pair = pair().await;
    let mut large = vec![0; 20 << 20];
    large.iter_mut().enumerate().for_each(|(i, byte)| *byte = ((i * 31) >> 7) as u8);
    let small = async {
        for n in 0..200u32 {
            assert_eq!(echo(&pair.peers, &n.to_le_bytes()).await.unwrap(), n.to_le_bytes()[..]);
        }
    };
    let (answer, ()) = tokio::join!(echo(&pair.peers, &large), small);
    assert!(answer.unwrap() == large);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_larger_than_a_message_is_not_sent() {
    let pair = pair().await;
    let answer = pair.peers.call(SERVER, vec![0; MAX_MESSAGE_BYTES + 1].into(), LIMIT).await;
    assert!(matches!(answer, Err(PeerError::Failed(message)) if message.contains("nothing was sent")));
    assert_eq!(pair.service.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_or_panicking_service_fails_the_call_alone() {
    let pair = pair().await;
    let failed = pair.peers.call(SERVER, request(FAIL, b""), LIMIT).await;
    assert_eq!(failed, Err(PeerError::Failed("out of cheese".to_owned())));
    let panicked = pair.peers.call(SERVER, request(PANIC, b""), LIMIT).await;
    assert!(matches!(panicked, Err(PeerError::Failed(message)) if message.contains("panicked")));
    assert_eq!(echo(&pair.peers, b"on").await.unwrap(), "on");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_bound_wait_and_are_answered() {
    let pair = pair().await;
    let calls: Vec<_> = (0..MAX_REQUESTS + 300).map(|_| waiting_call(&pair)).collect();
    until(|| waiting(&pair) == MAX_REQUESTS).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(waiting(&pair), MAX_REQUESTS);
    pair.service.gate.add_permits(calls.len());
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "w");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_past_its_limit_times_out_and_its_late_answer_goes_nowhere() {
    let pair = pair().await;
    let limit = Duration::from_millis(50);
    let answer = pair.peers.call(SERVER, request(WAIT, b"late"), limit).await;
    assert_eq!(answer, Err(PeerError::TimedOut));
    pair.service.gate.add_permits(1);
    until(|| waiting(&pair) == 0).await;
    assert_eq!(echo(&pair.peers, b"next").await.unwrap(), "next");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_calls_leave_no_trace() {
    let pair = pair().await;
    echo(&pair.peers, b"connect").await.unwrap();
    for _ in 0..300 {
        let call = pair.peers.call(SERVER, request(ECHO_AFTER_MS, &[3]), LIMIT);
        let _ = timeout(Duration::from_millis(1), call).await;
    }
    for n in 0..300u32 {
        assert_eq!(echo(&pair.peers, &n.to_le_bytes()).await.unwrap(), n.to_le_bytes()[..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_the_server_fails_running_calls_with_lost_and_drops_their_work() {
    let pair = pair().await;
    let calls: Vec<_> = (0..10).map(|_| waiting_call(&pair)).collect();
    until(|| waiting(&pair) == 10).await;
    let begun = Instant::now();
    pair.serving.stop().await;
    assert_eq!(pair.service.waiting.load(Ordering::SeqCst), 0);
    for call in calls {
        assert!(matches!(call.await.unwrap(), Err(PeerError::Lost(_))));
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_back_on_its_port_is_reached_by_the_next_call() {
    let Pair {
        service, serving, peers, ..
    } = pair().await;
    echo(&peers, b"before").await.unwrap();
    let address = serving.address();
    serving.stop().await;
    let down = echo(&peers, b"down").await;
    assert!(matches!(down, Err(PeerError::Lost(_) | PeerError::Unreachable(_))), "{down:?}");
    let _serving = serve(address, &service).await;
    sleep(RETRY_AFTER).await;
    assert_eq!(echo(&peers, b"after").await.unwrap(), "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_connect_the_next_calls_fail_at_once() {
    let peers = Peers::new(identity(CALLER), plain());
    assert!(matches!(echo(&peers, b"").await, Err(PeerError::Unreachable(_))));
    let port = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    peers.set_address(SERVER, port.to_string());
    let first = echo(&peers, b"").await;
    let failed = Instant::now();
    assert!(matches!(first, Err(PeerError::Unreachable(_))), "{first:?}");
    // Somebody listens now, but nobody asks yet (where the machine is not too busy to ask in time).
    let _listener = std::net::TcpListener::bind(port).unwrap();
    let second = echo(&peers, b"").await;
    assert!(second == first || failed.elapsed() > RETRY_AFTER, "{second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_removing_and_moving_end_the_calls_on_a_connection() {
    let pair = pair().await;
    let lost = async |end: &dyn Fn()| {
        let call = waiting_call(&pair);
        until(|| waiting(&pair) == 1).await;
        end();
        assert!(matches!(call.await.unwrap(), Err(PeerError::Lost(_))));
        until(|| waiting(&pair) == 0).await;
    };
    let address = pair.serving.address();
    lost(&|| pair.peers.set_address(SERVER, format!("localhost:{}", address.port()))).await;
    lost(&|| pair.peers.remove(SERVER)).await;
    pair.peers.set_address(SERVER, address.to_string());
    lost(&|| pair.peers.close()).await;
    assert!(matches!(echo(&pair.peers, b"").await, Err(PeerError::Unreachable(_))));
}

#[tokio::test]
async fn small_frames_that_wait_are_written_together() {
    let (sender, mut queue) = tokio::sync::mpsc::unbounded_channel();
    for request in 0..100 {
        let frame = Frame::bare(Kind::More, request);
        sender.send(Outgoing { frame, slot: None }).ok().unwrap();
    }
    drop(sender);
    let mut written = noted_writes::Writes::default();
    write_frames(&mut written, &mut queue, Some).await.unwrap();
    assert_eq!(written.sizes, [100 * super::frame::HEADER_BYTES]);
}

/// A writer that notes the size of each write.
mod noted_writes {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    #[derive(Default)]
    pub struct Writes {
        pub sizes: Vec<usize>,
    }

    impl tokio::io::AsyncWrite for Writes {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.sizes.push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}
