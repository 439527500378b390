//! What there is to parse next, as it comes.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{BoxStream, Fuse};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use super::RdfLoad;
use super::parse::{Lines, Parsed, is_in_lines, parse_whole};
use crate::error::{Error, Result};

/// Bytes of lines that are parsed together.
const BLOCK: usize = 1 << 20;
/// Bytes of the longest line.
const MAX_LINE: usize = 256 << 20;
/// Pieces that wait for one another.
const WAITING: usize = 4;

/// A piece of work.
pub enum Piece {
    /// Lines that are not parsed yet.
    Lines(Lines),
    /// Quads.
    Parsed(Parsed),
}

/// The pieces of a text.
pub enum Source {
    /// Cut at the ends of lines.
    Lines(LineSource),
    /// Parsed by a thread of its own.
    Whole {
        /// What it parsed.
        parsed: mpsc::Receiver<Result<Parsed>>,
        /// That thread.
        parser: JoinHandle<()>,
        /// Who brings it the text.
        feeder: AbortHandle,
    },
}

/// A text that is cut at the ends of lines.
pub struct LineSource {
    text: Fuse<BoxStream<'static, Result<Bytes>>>,
    /// What is not handed on yet.
    rest: BytesMut,
    /// A large piece behind it.
    piece: Bytes,
    lines: u64,
}

impl Source {
    /// Of a text that comes in any pieces.
    pub fn new(load: &RdfLoad, mut text: BoxStream<'static, Result<Bytes>>) -> Source {
        if is_in_lines(load.format) {
            return Source::Lines(LineSource {
                text: text.fuse(),
                rest: BytesMut::new(),
                piece: Bytes::new(),
                lines: 0,
            });
        }
        let (to_parser, pieces) = mpsc::channel(WAITING);
        let (to_load, parsed) = mpsc::channel(WAITING);
        let load = load.clone();
        let parser = tokio::task::spawn_blocking(move || parse_whole(pieces, &load, &to_load));
        let feeder = tokio::spawn(async move {
            while let Some(piece) = text.next().await {
                if to_parser.send(piece).await.is_err() {
                    break;
                }
            }
        });
        Source::Whole {
            parsed,
            parser,
            feeder: feeder.abort_handle(),
        }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Piece>> {
        match self {
            Source::Lines(lines) => Ok(lines.next().await?.map(Piece::Lines)),
            Source::Whole { parsed, parser, .. } => {
                if let Some(piece) = parsed.recv().await {
                    return Ok(Some(Piece::Parsed(piece?)));
                }
                // It ended because the text did, not for a defect of its own.
                let ended = parser.await;
                ended.map_err(|error| Error::internal(format!("the parser failed: {error}")))?;
                Ok(None)
            }
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Source::Whole { feeder, .. } = self {
            // So the text is not awaited any more, and the parser finds it ended.
            feeder.abort();
        }
    }
}

impl LineSource {
    async fn next(&mut self) -> Result<Option<Lines>> {
        let mut searched = 0;
        loop {
            if let Some(lines) = self.whole_lines() {
                return Ok(Some(lines));
            }
            if self.rest.len() >= BLOCK {
                if let Some(end) = memchr::memrchr2(b'\n', b'\r', &self.rest[searched..]) {
                    let text = self.rest.split_to(searched + end + 1).freeze();
                    return Ok(Some(self.lines(text)));
                }
                searched = self.rest.len();
                if searched > MAX_LINE {
                    return Err(Error::invalid(
                        "54000",
                        format!("line {} has more than {MAX_LINE} bytes", self.lines + 1),
                    ));
                }
            }
            match self.text.next().await.transpose()? {
                Some(piece) => self.take(piece),
                None => break,
            }
        }
        let rest = self.rest.split().freeze();
        Ok((!rest.is_empty()).then(|| self.lines(rest)))
    }

    /// Takes a piece: a large one is not copied, but for the lines at its ends.
    fn take(&mut self, mut piece: Bytes) {
        if piece.len() < BLOCK / 2 {
            return self.rest.extend_from_slice(&piece);
        }
        if !self.rest.is_empty() {
            let end = memchr::memchr2(b'\n', b'\r', &piece).map_or(piece.len(), |end| end + 1);
            self.rest.extend_from_slice(&piece.split_to(end));
        }
        self.piece = piece;
    }

    /// The lines that end before, or within, the piece that is not copied.
    fn whole_lines(&mut self) -> Option<Lines> {
        if self.piece.is_empty() {
            return None;
        }
        if !self.rest.is_empty() {
            // Its last line ends where the piece begins.
            let text = self.rest.split().freeze();
            return Some(self.lines(text));
        }
        let mut piece = std::mem::take(&mut self.piece);
        let end = memchr::memrchr2(b'\n', b'\r', &piece).map_or(0, |end| end + 1);
        let text = piece.split_to(end);
        self.rest.extend_from_slice(&piece);
        (!text.is_empty()).then(|| self.lines(text))
    }

    fn lines(&mut self, text: Bytes) -> Lines {
        let first_line = self.lines;
        self.lines += memchr::memchr_iter(b'\n', &text).count() as u64;
        Lines { text, first_line }
    }
}
