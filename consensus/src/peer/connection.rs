//! The caller's end of a connection: who waits for what. One task connects, then writes what is queued and hands out what arrives.
//!
//! A request stays with its waiter until the writer takes it. So a call that is dropped in the meantime is never sent, and when the
//! connection ends it is known which requests were not sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::channel::Channel;
use super::file::FilePart;
use super::frame::{Frame, FrameError, FrameReader, Kind};
use super::handshake::{self, HandshakeError, Purpose};
use super::links::Links;
use super::roll::{Incarnation, Presence, Roll};
use super::transport::Stream;
use super::writer::{Outgoing, write_frames};
use super::{CONNECT_LIMIT, FILES_AT_ONCE, HANDSHAKE_LIMIT, PeerError, PeerIdentity};
use crate::runtime;

/// Whom a connection is to reach.
pub struct Target {
    /// Who calls.
    pub identity: PeerIdentity,
    /// The node.
    pub node: u64,
    /// Its `host:port`.
    pub address: String,
    /// The way there.
    pub links: Links,
    /// Who is connected.
    pub roll: Roll,
    /// Whether a refusal is news.
    pub tell: bool,
}

/// How a connection came to its end.
#[derive(Clone)]
pub struct Ended {
    /// When.
    pub at: Instant,
    /// Whether it was ever open.
    pub was_open: bool,
    /// What a request gets that was not sent.
    pub error: PeerError,
}

/// A connection to a node, or the attempt at one. Requests can be given to it from the start.
pub struct Connection {
    target: Arc<Target>,
    waiters: Arc<Waiters>,
    /// Unbounded, because an item is small and belongs to a call in progress, or to one given up since the writer last looked.
    queue: UnboundedSender<Queued>,
    task: AbortHandle,
    /// Permits of fetches.
    pub files: Semaphore,
}

/// Where the answer goes.
pub enum Reply {
    /// To a call.
    Call(oneshot::Sender<Result<Bytes, PeerError>>),
    /// To a fetch. Has room for all chunks that are granted and one end or error.
    File(mpsc::Sender<Result<FilePart, PeerError>>),
}

enum Queued {
    Request(u64),
    Frame(Frame),
}

struct Waiter {
    /// What to send, until it is sent.
    request: Option<(Kind, Bytes)>,
    reply: Reply,
}

#[derive(Default)]
struct Waiters {
    state: Mutex<State>,
    /// Told when it is open, and when it ends.
    changed: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    /// In order, so that what ends together is told in the order of the calls.
    waiting: BTreeMap<u64, Waiter>,
    is_open: bool,
    ended: Option<Ended>,
}

impl Connection {
    /// Starts to connect. To be called within a tokio runtime.
    pub fn open(target: Target) -> Connection {
        let (target, waiters) = (Arc::new(target), Arc::new(Waiters::default()));
        let (queue, queued) = mpsc::unbounded_channel();
        let task = runtime::spawn(run(target.clone(), EndAtDrop(waiters.clone()), queued));
        Connection {
            target,
            waiters,
            queue,
            task: task.abort_handle(),
            files: Semaphore::new(FILES_AT_ONCE),
        }
    }

    /// Whether and how it ended.
    pub fn ended(&self) -> Option<Ended> {
        self.waiters.state.lock().ended.clone()
    }

    /// Ends it and all that waits for it.
    pub fn close(&self) {
        self.waiters.end(closed());
        self.task.abort();
    }

    /// Waits until it is open, or has ended before.
    async fn opened(&self) -> Result<(), PeerError> {
        loop {
            let changed = self.waiters.changed.notified();
            {
                let state = self.waiters.state.lock();
                match &state.ended {
                    Some(ended) => return Err(ended.error.clone()),
                    None if state.is_open => return Ok(()),
                    None => {}
                }
            }
            changed.await;
        }
    }

    /// Opens a stream to the same process, beside the connection.
    pub async fn stream(&self) -> Result<Channel, PeerError> {
        // It depends on a connection, which both nodes have noted then.
        self.opened().await?;
        let (stream, presence) = connect(&self.target, Purpose::Stream).await?;
        let end = presence.end_of_streams();
        // Only calls count.
        drop(presence);
        match self.ended() {
            Some(ended) => Err(ended.error),
            None => Ok(Channel::new(stream, vec![end], None)),
        }
    }

    /// Sends a request and waits for its answer.
    pub async fn call(&self, request: Bytes) -> Result<Bytes, PeerError> {
        let (reply, answer) = oneshot::channel();
        let _request = self.begin(Kind::Call, request, Reply::Call(reply))?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Queues a request. It is forgotten when the guard is dropped.
    pub fn begin(&self, kind: Kind, request: Bytes, reply: Reply) -> Result<Request<'_>, PeerError> {
        let id = {
            let mut state = self.waiters.state.lock();
            if let Some(ended) = &state.ended {
                return Err(ended.error.clone());
            }
            state.next += 1;
            let (id, request) = (state.next, Some((kind, request)));
            state.waiting.insert(id, Waiter { request, reply });
            id
        };
        // Fails only once the task is gone, which tells all waiters.
        let _ = self.queue.send(Queued::Request(id));
        Ok(Request { connection: self, id })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A request in progress.
pub struct Request<'a> {
    connection: &'a Connection,
    id: u64,
}

impl Request<'_> {
    /// Sends a word about the request.
    pub fn tell(&self, kind: Kind) {
        let _ = self.connection.queue.send(Queued::Frame(Frame::bare(kind, self.id)));
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        let waiter = self.connection.waiters.state.lock().waiting.remove(&self.id);
        if let Some(Waiter {
            request: None,
            reply: Reply::File(_),
        }) = waiter
        {
            self.tell(Kind::Cancel);
        }
    }
}

impl Waiters {
    /// The frame of a request that is about to be written, unless nobody waits for its answer any more.
    fn take(&self, id: u64) -> Option<Frame> {
        let (kind, payload) = self.state.lock().waiting.get_mut(&id)?.request.take()?;
        Some(Frame {
            kind,
            request: id,
            payload,
        })
    }

    fn hand_out(&self, frame: Frame) -> Result<(), FrameError> {
        let Frame { kind, request, payload } = frame;
        let part = match kind {
            Kind::Alive => return Ok(()),
            Kind::Chunk => return self.hand_out_chunk(request, payload),
            Kind::Answer | Kind::Failure => None,
            Kind::NoFile => Some(FilePart::Missing),
            Kind::FileEnd => Some(FilePart::end(&payload).ok_or(FrameError::Unexpected(kind))?),
            _ => return Err(FrameError::Unexpected(kind)),
        };
        let Some(waiter) = self.state.lock().waiting.remove(&request) else {
            return Ok(());
        };
        let failed = || PeerError::Failed(String::from_utf8_lossy(&payload).into_owned());
        match (waiter.reply, part) {
            (Reply::Call(reply), None) => {
                let answer = if kind == Kind::Failure { Err(failed()) } else { Ok(payload) };
                let _ = reply.send(answer);
            }
            (Reply::File(reply), None) if kind == Kind::Failure => {
                let _ = reply.try_send(Err(failed()));
            }
            (Reply::File(reply), Some(part)) => {
                let _ = reply.try_send(Ok(part));
            }
            _ => return Err(FrameError::Unexpected(kind)),
        }
        Ok(())
    }

    fn hand_out_chunk(&self, request: u64, payload: Bytes) -> Result<(), FrameError> {
        // Empty chunks would make a file endless without its size showing it.
        if !payload.is_empty() {
            match self.state.lock().waiting.get(&request).map(|waiter| &waiter.reply) {
                None => return Ok(()),
                Some(Reply::File(reply)) => match reply.try_send(Ok(FilePart::Chunk(payload))) {
                    Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return Ok(()),
                    Err(mpsc::error::TrySendError::Full(_)) => {}
                },
                Some(Reply::Call(_)) => {}
            }
        }
        Err(FrameError::Unexpected(Kind::Chunk))
    }

    /// Fails everything that waits. The first end stands.
    fn end(&self, error: PeerError) {
        let (unsent, waiting) = {
            let mut state = self.state.lock();
            if state.ended.is_some() {
                return;
            }
            let unsent = match &error {
                PeerError::Lost(why) => PeerError::Unreachable(why.clone()),
                other => other.clone(),
            };
            state.ended = Some(Ended {
                at: Instant::now(),
                was_open: state.is_open,
                error: unsent.clone(),
            });
            (unsent, std::mem::take(&mut state.waiting))
        };
        self.changed.notify_waiters();
        for waiter in waiting.into_values() {
            let error = if waiter.request.is_some() { &unsent } else { &error };
            match waiter.reply {
                Reply::Call(reply) => {
                    let _ = reply.send(Err(error.clone()));
                }
                Reply::File(reply) => {
                    let _ = reply.try_send(Err(error.clone()));
                }
            }
        }
    }
}

/// Tells the waiters also when the task is aborted.
struct EndAtDrop(Arc<Waiters>);

impl Drop for EndAtDrop {
    fn drop(&mut self) {
        self.0.end(closed());
    }
}

fn closed() -> PeerError {
    PeerError::Lost("this node closed the connection".to_owned())
}

async fn run(target: Arc<Target>, ending: EndAtDrop, mut queued: UnboundedReceiver<Queued>) {
    let waiters = &ending.0;
    let (node, address) = (target.node, &target.address);
    let (stream, _presence) = match connect(&target, Purpose::Calls).await {
        Ok(connected) => connected,
        Err(error) => {
            match &error {
                PeerError::Refused(_) if target.tell => tracing::warn!(node, %address, %error, "a node and this one refuse each other"),
                _ => tracing::debug!(node, %address, %error, "cannot connect to a node"),
            }
            return waiters.end(error);
        }
    };
    tracing::debug!(node, %address, "connected to a node");
    waiters.state.lock().is_open = true;
    waiters.changed.notify_waiters();
    let (reader, mut writer) = tokio::io::split(stream);
    let take = |queued| {
        let frame = match queued {
            Queued::Request(id) => waiters.take(id)?,
            Queued::Frame(frame) => frame,
        };
        Some(Outgoing { frame, slot: None })
    };
    // Both in one task: once it is over, nothing is written that the waiters could still think unsent.
    let ended = tokio::select! {
        biased;
        ended = receive(FrameReader::new(reader), waiters) => ended,
        ended = write_frames(&mut writer, &mut queued, take) => ended,
    };
    let why = match ended {
        Ok(()) => "it was closed".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::debug!(node, %address, %why, "a connection to a node ended");
    waiters.end(PeerError::Lost(format!("the connection to node {node} at {address} ended: {why}")));
}

async fn receive<R: AsyncRead + Unpin>(mut frames: FrameReader<R>, waiters: &Waiters) -> Result<(), FrameError> {
    while let Some(frame) = frames.next().await? {
        waiters.hand_out(frame)?;
    }
    Ok(())
}

async fn connect(target: &Target, purpose: Purpose) -> Result<(Stream, Presence), PeerError> {
    let Target { node, address, links, .. } = target;
    let whom = match node {
        0 => address.clone(),
        node => format!("node {node} at {address}"),
    };
    let unreachable = |why: String| PeerError::Unreachable(format!("cannot reach {whom}: {why}"));
    let late = |_| unreachable("no answer in time".to_owned());
    let connected = timeout(CONNECT_LIMIT, links.transport.connect(address.clone()))
        .await
        .map_err(late)?;
    let stream = connected.map_err(|error| unreachable(error.to_string()))?;
    let introduced = timeout(HANDSHAKE_LIMIT, introduce(target, stream, purpose)).await;
    let refused = |why: &dyn std::fmt::Display| format!("no connection to {whom}: {why}");
    match introduced.map_err(late)? {
        Ok((stream, node, incarnation)) => match target.roll.enter(node, incarnation, address) {
            Ok(presence) => Ok((stream, presence)),
            Err(reason) => {
                tracing::warn!(node, address, reason, "no connection to a second process of a node");
                Err(PeerError::Refused(refused(&reason)))
            }
        },
        Err(HandshakeError::Io(error)) => Err(unreachable(error.to_string())),
        Err(HandshakeError::Occupied(reason)) => Err(PeerError::Occupied(refused(&reason))),
        Err(error) => Err(PeerError::Refused(refused(&error))),
    }
}

/// Which process answered as which node, behind what stream.
async fn introduce(target: &Target, stream: Stream, purpose: Purpose) -> Result<(Stream, u64, Incarnation), HandshakeError> {
    let mut stream = target.links.outgoing(stream, &target.address).await?;
    let (node, incarnation) = handshake::introduce(&mut stream, &target.identity, target.node, purpose).await?;
    Ok((stream, node, incarnation))
}
