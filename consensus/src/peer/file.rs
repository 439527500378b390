//! Files on a connection.
//!
//! ```text
//! caller   OpenFile       More     More  ...             every chunk that is written grants one more
//! server           Chunk Chunk ...      Chunk  FileEnd   WINDOW chunks ahead of the grants, one at a time into the queue
//! ```

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::connection::{Connection, Reply};
use super::frame::{CHUNK_BYTES, Frame, Kind};
use super::writer::Outgoing;
use super::{OpenedFile, PeerError};
use crate::runtime;

/// Chunks of one file that may be on their way.
pub const WINDOW: usize = 4;
/// How long a receiver may take for a chunk. Frees what a receiver holds that will never take the rest.
const GRANT_LIMIT: Duration = Duration::from_secs(60);

/// Held to replace or remove a file by its name: a fetch that was dropped may still do so while the next one of the same name begins.
static NAMES: Mutex<()> = Mutex::new(());

/// What arrives of a file.
pub enum FilePart {
    /// Its next bytes.
    Chunk(Bytes),
    /// That was all.
    End {
        /// Bytes of the file.
        length: u64,
        /// Its checksum.
        crc: u32,
    },
    /// There is no such file.
    Missing,
}

impl FilePart {
    /// Reads the end of a file.
    pub fn end(mut payload: &[u8]) -> Option<FilePart> {
        let (length, crc) = (payload.try_get_u64_le().ok()?, payload.try_get_u32_le().ok()?);
        Some(FilePart::End { length, crc })
    }
}

/// Sends the chunks of a file, at its pace, and returns the frame that ends it. `slots` bounds the chunks of all files in the queue.
pub async fn send(
    opened: OpenedFile,
    request: u64,
    grants: &Semaphore,
    slots: &Arc<Semaphore>,
    queue: &UnboundedSender<Outgoing>,
) -> Frame {
    let OpenedFile { mut file, pace } = opened;
    let (mut length, mut crc) = (0u64, 0);
    loop {
        match timeout(GRANT_LIMIT, grants.acquire()).await {
            Ok(Ok(grant)) => grant.forget(),
            _ => return Frame::failure(request, "the receiver of the file stopped taking it"),
        }
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return Frame::failure(request, "the connection is closed");
        };
        let read = runtime::blocking(move || read_chunk(&mut file).map(|payload| (file, payload))).await;
        let payload = match read.flatten() {
            Ok((back, payload)) => {
                file = back;
                payload
            }
            Err(error) => return Frame::failure(request, &format!("cannot read the file: {error}")),
        };
        if payload.is_empty() {
            break;
        }
        length += payload.len() as u64;
        crc = crc32c::crc32c_append(crc, &payload);
        let (kind, bytes) = (Kind::Chunk, payload.len());
        let frame = Frame { kind, request, payload };
        // Fails only when the connection ends, and then this task does too.
        let _ = queue.send(Outgoing { frame, slot: Some(slot) });
        // Behind the chunk: who waits here must hold no slot that files without a pace wait for.
        if let Some(pace) = &pace {
            pace.take(bytes).await;
        }
    }
    let mut end = BytesMut::new();
    end.put_u64_le(length);
    end.put_u32_le(crc);
    Frame {
        kind: Kind::FileEnd,
        request,
        payload: end.freeze(),
    }
}

fn read_chunk(file: &mut fs::File) -> io::Result<Bytes> {
    let mut chunk = Vec::new();
    file.take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
    Ok(chunk.into())
}

/// Fetches a file; see [`super::Peers::fetch_file`].
pub async fn fetch(connection: &Connection, name: &str, to: &Path) -> Result<Option<u64>, PeerError> {
    let mut file = Partial(None);
    let fetched = receive(connection, name, to, &mut file).await;
    if let Some(file) = file.0.take() {
        // Waited for, so that the file is gone when the caller hears of the failure.
        let _ = runtime::blocking(move || drop(file)).await;
    }
    fetched
}

async fn receive(connection: &Connection, name: &str, to: &Path, file: &mut Partial) -> Result<Option<u64>, PeerError> {
    let (parts, mut arriving) = mpsc::channel(WINDOW + 1);
    let request = connection.begin(Kind::OpenFile, Bytes::copy_from_slice(name.as_bytes()), Reply::File(parts))?;
    loop {
        let part = arriving.recv().await;
        match part.unwrap_or_else(|| Err(PeerError::Lost("the connection is closed".to_owned())))? {
            FilePart::Chunk(chunk) => {
                let begun = file.0.take();
                let append = move |path| {
                    let mut file = begun.map_or_else(|| NewFile::create(path), Ok)?;
                    file.append(&chunk)?;
                    Ok(file)
                };
                file.0 = Some(blocking(to, append).await?);
                request.tell(Kind::More);
            }
            FilePart::End { length, crc } => {
                let begun = file.0.take();
                let finish = move |path| begun.map_or_else(|| NewFile::create(path), Ok)?.finish(length, crc);
                return blocking(to, finish).await.map(Some);
            }
            FilePart::Missing => return Ok(None),
        }
    }
}

async fn blocking<T: Send + 'static>(to: &Path, work: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static) -> Result<T, PeerError> {
    let path = to.to_owned();
    let done = runtime::blocking(move || work(path)).await;
    done.flatten()
        .map_err(|error| PeerError::Failed(format!("{}: cannot keep the fetched file: {error}", to.display())))
}

/// What a fetch has of its file between two chunks. Where the fetch is dropped, the file is removed on a thread that may block.
struct Partial(Option<NewFile>);

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(file) = self.0.take() {
            runtime::start_blocking(move || drop(file));
        }
    }
}

/// A file that is being written. It is removed when this is dropped, unless it was finished.
pub struct NewFile {
    path: PathBuf,
    file: fs::File,
    inode: u64,
    length: u64,
    crc: u32,
    finished: bool,
}

impl NewFile {
    /// Takes the place of what is there.
    pub fn create(path: PathBuf) -> io::Result<NewFile> {
        let _names = NAMES.lock();
        // A file of its own, because a fetch that was dropped may still write to the one before.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = fs::File::create_new(&path)?;
        let inode = file.metadata()?.ino();
        Ok(NewFile {
            path,
            file,
            inode,
            length: 0,
            crc: 0,
            finished: false,
        })
    }

    /// Writes on.
    pub fn append(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.length += chunk.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, chunk);
        self.file.write_all(chunk)
    }

    /// Keeps it, if this is what was sent.
    pub fn finish(mut self, length: u64, crc: u32) -> io::Result<u64> {
        if self.length != length {
            let arrived = self.length;
            return Err(io::Error::other(format!(
                "{arrived} of {length} bytes arrived; fetch the file again"
            )));
        }
        if self.crc != crc {
            return Err(io::Error::other("wrong checksum of the whole file; fetch it again"));
        }
        self.file.sync_all()?;
        self.finished = true;
        Ok(length)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let _names = NAMES.lock();
        // By now the name may belong to a later fetch.
        if fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
