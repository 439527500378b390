//! The server's end of a connection: one task reads requests and writes answers, one task for each request works it out.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};

use super::file::{self, WINDOW};
use super::frame::{Frame, FrameError, FrameReader, Kind};
use super::server::Running;
use super::writer::{Outgoing, write_frames};
use super::{FILES_AT_ONCE, MAX_MESSAGE_BYTES, MAX_REQUESTS, PeerService};
use crate::runtime;

/// Chunks of files in the queue, in front of an answer that comes after them.
const CHUNK_SLOTS: usize = 2;
/// Files at once. More than a caller asks for at once, since it asks for the next before it is known here that one is over.
const MAX_FILES: usize = 2 * FILES_AT_ONCE;

/// What the session of one caller has in progress. The tasks end with it.
struct Session {
    from: u64,
    service: Arc<dyn PeerService>,
    running: Running,
    /// A permit for each request whose answer is not written yet, so that the queue is bounded.
    requests: Arc<Semaphore>,
    chunks: Arc<Semaphore>,
    queue: UnboundedSender<Outgoing>,
    tasks: JoinSet<()>,
    files: HashMap<u64, OutgoingFile>,
}

struct OutgoingFile {
    grants: Arc<Semaphore>,
    task: AbortHandle,
}

/// Answers a node that has introduced itself, until the connection ends.
pub async fn run<S>(stream: S, from: u64, service: Arc<dyn PeerService>, running: Running) -> Result<(), FrameError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, mut writer) = tokio::io::split(stream);
    let (queue, mut queued) = mpsc::unbounded_channel();
    let mut session = Session {
        from,
        service,
        running,
        requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
        chunks: Arc::new(Semaphore::new(CHUNK_SLOTS)),
        queue,
        tasks: JoinSet::new(),
        files: HashMap::new(),
    };
    tokio::select! {
        biased;
        ended = session.read(FrameReader::new(reader)) => ended,
        ended = write_frames(&mut writer, &mut queued, Some) => ended,
    }
}

impl Session {
    async fn read<R: AsyncRead + Unpin>(&mut self, mut frames: FrameReader<R>) -> Result<(), FrameError> {
        while let Some(frame) = frames.next().await? {
            match frame.kind {
                Kind::Alive => {}
                Kind::Call | Kind::OpenFile => {
                    let Ok(slot) = self.requests.clone().acquire_owned().await else {
                        return Ok(());
                    };
                    while self.tasks.try_join_next().is_some() {}
                    self.files.retain(|_, file| !file.task.is_finished());
                    if frame.kind == Kind::Call {
                        self.call(frame.request, frame.payload, slot);
                    } else {
                        self.open_file(frame.request, frame.payload, slot)?;
                    }
                }
                Kind::More => {
                    if let Some(file) = self.files.get(&frame.request) {
                        if file.grants.available_permits() >= WINDOW {
                            return Err(FrameError::Unexpected(Kind::More));
                        }
                        file.grants.add_permits(1);
                    }
                }
                Kind::Cancel => {
                    if let Some(file) = self.files.remove(&frame.request) {
                        file.task.abort();
                    }
                }
                other => return Err(FrameError::Unexpected(other)),
            }
        }
        Ok(())
    }

    fn call(&mut self, request: u64, payload: Bytes, slot: OwnedSemaphorePermit) {
        let (service, from) = (self.service.clone(), self.from);
        self.answer(request, slot, async move {
            match service.call(from, payload).await {
                Ok(payload) if payload.len() <= MAX_MESSAGE_BYTES => Frame {
                    kind: Kind::Answer,
                    request,
                    payload,
                },
                Ok(payload) => {
                    let bytes = payload.len();
                    let message = format!("the answer of {bytes} bytes is larger than the {MAX_MESSAGE_BYTES} that one message holds");
                    Frame::failure(request, &message)
                }
                Err(message) => Frame::failure(request, &message),
            }
        });
    }

    fn open_file(&mut self, request: u64, name: Bytes, slot: OwnedSemaphorePermit) -> Result<(), FrameError> {
        if self.files.contains_key(&request) {
            return Err(FrameError::Unexpected(Kind::OpenFile));
        }
        let crowded = self.files.len() >= MAX_FILES;
        let (service, from) = (self.service.clone(), self.from);
        let (chunks, queue) = (self.chunks.clone(), self.queue.clone());
        let grants = Arc::new(Semaphore::new(WINDOW));
        let granted = grants.clone();
        let task = self.answer(request, slot, async move {
            if crowded {
                return Frame::failure(request, &format!("more than {MAX_FILES} files at once; fetch fewer"));
            }
            let Ok(name) = String::from_utf8(name.into()) else {
                return Frame::failure(request, "the name of the file is not UTF-8");
            };
            match service.open_file(from, name).await {
                Ok(Some(file)) => file::send(file, request, &granted, &chunks, &queue).await,
                Ok(None) => Frame::bare(Kind::NoFile, request),
                Err(message) => Frame::failure(request, &message),
            }
        });
        if !crowded {
            self.files.insert(request, OutgoingFile { grants, task });
        }
        Ok(())
    }

    /// Starts work whose outcome is a frame.
    fn answer(&mut self, request: u64, slot: OwnedSemaphorePermit, work: impl Future<Output = Frame> + Send + 'static) -> AbortHandle {
        let (queue, running) = (self.queue.clone(), self.running.clone());
        self.tasks.spawn(runtime::task(async move {
            let worked = AssertUnwindSafe(work).catch_unwind().await;
            let frame = worked.unwrap_or_else(|_| {
                tracing::error!("the service of peers panicked");
                Frame::failure(request, "the node's service panicked; see its log")
            });
            let slot = Some(slot);
            let _ = queue.send(Outgoing { frame, slot });
            drop(running);
        }))
    }
}
