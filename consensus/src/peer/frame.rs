//! The frames of a connection behind its handshake. Little-endian.
//!
//! ```text
//! frame     length:4 crc32c:4 request:8 kind:1                 = 17 bytes, then `length` bytes of payload
//! FileEnd   length:8 crc32c:4                                  of the whole file
//! ```
//!
//! The checksum covers everything but itself. The caller numbers its requests; frames about a request carry its number.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::time::timeout;

use super::{MAX_MESSAGE_BYTES, SILENCE_LIMIT};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 17;
/// Largest piece of a file in one frame.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Longest message of a failure, and longest name of a file.
pub const MAX_TEXT_BYTES: usize = 64 << 10;

/// Bytes of memory that are taken at a time for a payload, ahead of what has arrived of it.
const STEP_BYTES: usize = 64 << 10;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Caller: a request.
    Call,
    /// Server: its answer.
    Answer,
    /// Server: the message of a call or file that failed.
    Failure,
    /// Caller: the name of a file to send.
    OpenFile,
    /// Server: the next bytes of the file.
    Chunk,
    /// Server: the file is complete; its length and checksum.
    FileEnd,
    /// Server: no such file.
    NoFile,
    /// Caller: one more chunk may come.
    More,
    /// Caller: nobody wants the file any more.
    Cancel,
    /// Either: nothing else to say.
    Alive,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Call => 1,
            Kind::Answer => 2,
            Kind::Failure => 3,
            Kind::OpenFile => 4,
            Kind::Chunk => 5,
            Kind::FileEnd => 6,
            Kind::NoFile => 7,
            Kind::More => 8,
            Kind::Cancel => 9,
            Kind::Alive => 10,
        }
    }

    fn of(code: u8) -> Option<Kind> {
        Some(match code {
            1 => Kind::Call,
            2 => Kind::Answer,
            3 => Kind::Failure,
            4 => Kind::OpenFile,
            5 => Kind::Chunk,
            6 => Kind::FileEnd,
            7 => Kind::NoFile,
            8 => Kind::More,
            9 => Kind::Cancel,
            10 => Kind::Alive,
            _ => return None,
        })
    }

    fn max_payload(self) -> usize {
        match self {
            Kind::Call | Kind::Answer => MAX_MESSAGE_BYTES,
            Kind::Chunk => CHUNK_BYTES,
            Kind::Failure | Kind::OpenFile => MAX_TEXT_BYTES,
            Kind::FileEnd => 12,
            Kind::NoFile | Kind::More | Kind::Cancel | Kind::Alive => 0,
        }
    }
}

/// Why a stream of frames ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The network's reason.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Nothing came, not even a sign of life.
    #[error("nothing arrived for {} s", .0.as_secs())]
    Silent(Duration),
    /// The stream ended within a frame.
    #[error("cut off within a frame")]
    CutOff,
    /// A code of no kind.
    #[error("a frame of unknown kind {0}")]
    UnknownKind(u8),
    /// More than a frame of its kind may hold.
    #[error("a frame of kind {kind:?} that claims {length} bytes")]
    TooLong {
        /// The frame's kind.
        kind: Kind,
        /// Its claim.
        length: usize,
    },
    /// The bytes are not those that were sent.
    #[error("wrong checksum of a frame")]
    Checksum,
    /// A sound frame that has no place here.
    #[error("an unexpected frame of kind {0:?}")]
    Unexpected(Kind),
}

/// One message on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it says.
    pub kind: Kind,
    /// About which request.
    pub request: u64,
    /// Bytes, at most what the kind may hold.
    pub payload: Bytes,
}

impl Frame {
    /// A sign of life.
    pub const ALIVE: Frame = Frame::bare(Kind::Alive, 0);

    /// A frame without payload.
    pub const fn bare(kind: Kind, request: u64) -> Frame {
        Frame {
            kind,
            request,
            payload: Bytes::new(),
        }
    }

    /// The failure of a request.
    pub fn failure(request: u64, message: &str) -> Frame {
        let cut = message.floor_char_boundary(MAX_TEXT_BYTES);
        Frame {
            kind: Kind::Failure,
            request,
            payload: Bytes::copy_from_slice(&message.as_bytes()[..cut]),
        }
    }

    /// The header in front of the payload.
    pub fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0..4].copy_from_slice(&(self.payload.len() as u32).to_le_bytes());
        header[8..16].copy_from_slice(&self.request.to_le_bytes());
        header[16] = self.kind.code();
        let crc = crc32c::crc32c_append(header_crc(&header), &self.payload);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        header
    }
}

fn header_crc(header: &[u8; HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[0..4]), &header[8..])
}

/// Reads frames.
pub struct FrameReader<R> {
    stream: BufReader<R>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Over a stream.
    pub fn new(stream: R) -> Self {
        FrameReader {
            stream: BufReader::with_capacity(STEP_BYTES, stream),
        }
    }

    /// The next frame; `None` where the other side closed the stream behind a frame. To drop the future loses bytes.
    pub async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let mut header = [0; HEADER_BYTES];
        let begun = self.read(&mut header).await?;
        if begun == 0 {
            return Ok(None);
        }
        self.fill(&mut header[begun..]).await?;
        let mut fields = &header[..];
        let length = fields.get_u32_le() as usize;
        let crc = fields.get_u32_le();
        let request = fields.get_u64_le();
        let code = fields.get_u8();
        let kind = Kind::of(code).ok_or(FrameError::UnknownKind(code))?;
        if length > kind.max_payload() {
            return Err(FrameError::TooLong { kind, length });
        }
        let payload = self.payload(length).await?;
        if crc != crc32c::crc32c_append(header_crc(&header), &payload) {
            return Err(FrameError::Checksum);
        }
        Ok(Some(Frame { kind, request, payload }))
    }

    /// Steps that are joined at the end, rather than one growing buffer, because that would be moved again and again.
    async fn payload(&mut self, length: usize) -> Result<Bytes, FrameError> {
        let mut steps = Vec::new();
        let mut left = length;
        while left > 0 {
            let mut step = vec![0; left.min(STEP_BYTES)];
            self.fill(&mut step).await?;
            left -= step.len();
            steps.push(step);
        }
        Ok(match steps.len() {
            1 => steps.swap_remove(0).into(),
            _ => steps.concat().into(),
        })
    }

    async fn fill(&mut self, mut bytes: &mut [u8]) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            let read = self.read(bytes).await?;
            if read == 0 {
                return Err(FrameError::CutOff);
            }
            bytes = &mut bytes[read..];
        }
        Ok(())
    }

    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, FrameError> {
        match timeout(SILENCE_LIMIT, self.stream.read(bytes)).await {
            // A stream of TLS that ends without a word. Frames say themselves where they end.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            Ok(read) => Ok(read?),
            Err(_) => Err(FrameError::Silent(SILENCE_LIMIT)),
        }
    }
}
