//! Writing frames: what waits in the queue goes out together.

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::ALIVE_INTERVAL;
use super::frame::{Frame, FrameError};

/// Frames taken from the queue at once.
const BATCH: usize = 256;
/// Payloads up to this size are copied next to each other; larger ones are written from where they are.
const COPIED_BYTES: usize = 16 << 10;
/// What is copied together is written once it is this large.
const BUFFER_BYTES: usize = 256 << 10;

/// A frame to write.
pub struct Outgoing {
    /// The frame.
    pub frame: Frame,
    /// A share of a bound, given back once the frame is on its way.
    pub slot: Option<OwnedSemaphorePermit>,
}

/// Writes what comes from the queue, until its senders are gone. `take` turns an item into its frame at the moment at which it is written;
/// `None`: nobody wants it any more.
pub async fn write_frames<W, T>(
    stream: &mut W,
    queue: &mut UnboundedReceiver<T>,
    mut take: impl FnMut(T) -> Option<Outgoing>,
) -> Result<(), FrameError>
where
    W: AsyncWrite + Unpin,
{
    let mut waiting = Vec::with_capacity(BATCH);
    let mut buffer = BytesMut::new();
    loop {
        match timeout(ALIVE_INTERVAL, queue.recv_many(&mut waiting, BATCH)).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(_) => buffer.extend_from_slice(&Frame::ALIVE.header()),
        }
        for Outgoing { frame, slot } in waiting.drain(..).filter_map(&mut take) {
            buffer.extend_from_slice(&frame.header());
            if frame.payload.len() <= COPIED_BYTES {
                buffer.extend_from_slice(&frame.payload);
            } else {
                stream.write_all(&buffer).await?;
                buffer.clear();
                stream.write_all(&frame.payload).await?;
            }
            if buffer.len() >= BUFFER_BYTES {
                stream.write_all(&buffer).await?;
                buffer.clear();
            }
            drop(slot);
        }
        stream.write_all(&buffer).await?;
        buffer.clear();
        // TCP needs no flush; TLS does.
        stream.flush().await?;
    }
}
