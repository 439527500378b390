//! The way between nodes: turmoil's TCP, with a pump in front of each sender that lets single requests and answers suffer.
//!
//! ```text
//! node ─▶ pump: whole frames, some late, twice, never, or as the last of their connection ─▶ turmoil: latency, partitions ─▶ node
//! ```
//!
//! The pump does only what the protocol must bear. TCP neither loses nor doubles what it carries while the connection lives, so requests
//! that are not Raft's (which expects both) are delayed at most, or lost with their connection. The bytes of a stream go through as they are.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use pyralog_consensus::peer::transport::{Listener, Stream, Transport};
use pyralog_consensus::simulation;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::time::{Instant, sleep_until};
use turmoil::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use turmoil::net::{TcpListener, TcpStream};

use crate::world::world;

/// Where every node listens.
pub const PORT: u16 = 7000;

const PUMP_BYTES: usize = 64 << 10;
/// See `peer/frame.rs` and `peer/handshake.rs`.
const FRAME_HEADER_BYTES: usize = 17;
const GREETING_HEADER_BYTES: usize = 16;
/// Where a caller's greeting says what the connection is for, and that it is for a stream.
const PURPOSE_AT: usize = GREETING_HEADER_BYTES + 32;
const STREAM: u8 = 1;
const CALL: u8 = 1;
const ANSWER: u8 = 2;
/// The payload's second byte, behind the version: a request of Raft, or the answer to a vote.
const RAFT_REQUEST: u8 = 0;
/// The same: heartbeats.
const HEARTBEATS: u8 = 10;
const VOTE_ANSWER: u8 = 1;
/// A request of Raft up to this size has a short time-out.
const SMALL_BYTES: usize = 100;

pub struct Network;

struct Listening(TcpListener);

/// What a node holds of a connection.
struct Half {
    read: OwnedReadHalf,
    write: DuplexStream,
    /// What the called node has read of the caller's greeting, until that says what the connection is for.
    greeting: Option<Vec<u8>>,
    /// Both pumps learn it from the caller's greeting.
    is_stream: Arc<AtomicBool>,
}

impl Transport for Network {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Stream>> {
        async move { Ok(pumped(TcpStream::connect(address).await?, true)) }.boxed()
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        async move { Ok(Box::new(Listening(TcpListener::bind(address).await?)) as Box<dyn Listener>) }.boxed()
    }
}

impl Listener for Listening {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        async move {
            let (stream, remote) = self.0.accept().await?;
            Ok((pumped(stream, false), remote))
        }
        .boxed()
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn pumped(stream: TcpStream, calls: bool) -> Stream {
    let (read, sink) = stream.into_split();
    let (write, source) = tokio::io::duplex(PUMP_BYTES);
    let is_stream = Arc::new(AtomicBool::new(false));
    let seen = is_stream.clone();
    // A pump that ends closes both ways, which the node notices.
    tokio::spawn(simulation::task(async move { drop(pump(source, sink, calls, &seen).await) }));
    Box::new(Half {
        read,
        write,
        greeting: (!calls).then(Vec::new),
        is_stream,
    })
}

fn wants_stream(greeting: &[u8]) -> bool {
    greeting.get(PURPOSE_AT) == Some(&STREAM)
}

impl AsyncRead for Half {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.read).poll_read(context, buffer);
        if let Some(mut greeting) = self.greeting.take() {
            greeting.extend_from_slice(&buffer.filled()[before..]);
            self.is_stream.store(wants_stream(&greeting), Ordering::Relaxed);
            self.greeting = (greeting.len() <= PURPOSE_AT).then_some(greeting);
        }
        polled
    }
}

impl AsyncWrite for Half {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(context)
    }
}

/// Frames on their way through one pump, by when they go on.
#[derive(Default)]
struct Waiting {
    frames: BTreeMap<(Instant, u64), Bytes>,
    number: u64,
}

impl Waiting {
    fn add(&mut self, at: Instant, frame: Bytes) {
        self.number += 1;
        self.frames.insert((at, self.number), frame);
    }
}

/// What becomes of a frame.
enum Fate {
    Arrives { delay: Duration, twice: bool },
    IsLost,
    EndsConnection,
}

async fn pump(mut source: DuplexStream, mut sink: OwnedWriteHalf, calls: bool, is_stream: &AtomicBool) -> io::Result<()> {
    let mut arrived = BytesMut::new();
    while arrived.len() < GREETING_HEADER_BYTES || arrived.len() < GREETING_HEADER_BYTES + length(&arrived[8..]) {
        if source.read_buf(&mut arrived).await? == 0 {
            return Ok(());
        }
    }
    let greeting = arrived.split_to(GREETING_HEADER_BYTES + length(&arrived[8..]));
    sink.write_all(&greeting).await?;
    // The called node answers after it has read the caller's.
    if (calls && wants_stream(&greeting)) || is_stream.load(Ordering::Relaxed) {
        sink.write_all(&arrived).await?;
        tokio::io::copy(&mut source, &mut sink).await?;
        return sink.shutdown().await;
    }
    let mut waiting = Waiting::default();
    loop {
        while let Some(frame) = next_frame(&mut arrived) {
            let now = Instant::now();
            match fate(&frame) {
                Fate::Arrives { delay, twice } => {
                    if twice {
                        waiting.add(now + delay + Duration::from_millis(world().below(50)), frame.clone());
                    }
                    waiting.add(now + delay, frame);
                }
                Fate::IsLost => {}
                Fate::EndsConnection => return Ok(()),
            }
        }
        while let Some(first) = waiting.frames.first_entry() {
            if first.key().0 > Instant::now() {
                break;
            }
            sink.write_all(&first.remove()).await?;
        }
        let next = waiting.frames.first_key_value().map(|((at, _), _)| *at);
        tokio::select! {
            biased;
            read = source.read_buf(&mut arrived) => {
                if read? == 0 {
                    for frame in waiting.frames.into_values() {
                        sink.write_all(&frame).await?;
                    }
                    return sink.shutdown().await;
                }
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

fn length(mut bytes: &[u8]) -> usize {
    bytes.get_u32_le() as usize
}

fn next_frame(arrived: &mut BytesMut) -> Option<Bytes> {
    if arrived.len() < FRAME_HEADER_BYTES {
        return None;
    }
    let bytes = FRAME_HEADER_BYTES + length(arrived);
    (arrived.len() >= bytes).then(|| arrived.split_to(bytes).freeze())
}

fn fate(frame: &Bytes) -> Fate {
    let world = world();
    // The frame's own checksum stands for what is in it.
    world.note(u64::from_le_bytes([
        frame[0], frame[1], frame[4], frame[5], frame[6], frame[7], frame[16], frame[8],
    ]));
    let weather = world.weather.get();
    let (kind, variant) = (frame[16], frame.get(FRAME_HEADER_BYTES + 1).copied());
    let is_raft = kind == CALL && (variant == Some(RAFT_REQUEST) || variant == Some(HEARTBEATS));
    let is_small = frame.len() <= FRAME_HEADER_BYTES + SMALL_BYTES;
    let may_be_lost = (is_raft && is_small) || (kind == ANSWER && variant == Some(VOTE_ANSWER));
    if world.chance(weather.breaks) {
        world.event(|| format!("a connection breaks at a frame of kind {kind}"));
        return Fate::EndsConnection;
    }
    if may_be_lost && world.chance(weather.loses) {
        return Fate::IsLost;
    }
    let delays = (kind == CALL || kind == ANSWER) && world.chance(weather.delays);
    Fate::Arrives {
        delay: Duration::from_millis(if delays { world.below(weather.delay_ms) } else { 0 }),
        twice: is_raft && world.chance(weather.doubles),
    }
}
