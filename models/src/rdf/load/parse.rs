//! From text to quads.
//!
//! Texts of lines (N-Triples, N-Quads) are parsed block by block, each on its own; others from their beginning to their end, by one thread.

use std::io;

use bytes::{Buf, Bytes};
use oxrdf::{GraphName, Quad};
use oxrdfio::{RdfFormat, RdfParseError, RdfParser};
use oxttl::{NQuadsParser, NTriplesParser, TurtleSyntaxError};
use tokio::sync::mpsc;

use super::{RdfFault, RdfLoad};
use crate::error::{Error, ErrorKind, Result};

/// Quads that are handed on together.
const CHUNK: usize = 8192;

/// Lines of a text.
pub struct Lines {
    /// The text.
    pub text: Bytes,
    /// Lines before it.
    pub first_line: u64,
}

/// What parsing gave.
#[derive(Default)]
pub struct Parsed {
    /// Quads.
    pub quads: Vec<Quad>,
    /// What was wrong between them.
    pub faults: Vec<RdfFault>,
}

/// Whether a text of this format may be parsed from the beginning of any line.
pub fn is_in_lines(format: RdfFormat) -> bool {
    matches!(format, RdfFormat::NTriples | RdfFormat::NQuads)
}

/// Parses a block of lines. Stops at the first fault, unless faults are passed over.
pub fn parse_lines(lines: &Lines, load: &RdfLoad) -> Parsed {
    let mut parsed = Parsed::default();
    match load.format {
        RdfFormat::NTriples => {
            let triples = NTriplesParser::new().for_slice(&lines.text);
            parsed.take_lines(
                triples.map(|triple| triple.map(|triple| triple.in_graph(GraphName::DefaultGraph))),
                lines,
                load,
            );
        }
        _ => parsed.take_lines(NQuadsParser::new().for_slice(&lines.text), lines, load),
    }
    parsed
}

impl Parsed {
    fn take_lines(&mut self, quads: impl Iterator<Item = Result<Quad, TurtleSyntaxError>>, lines: &Lines, load: &RdfLoad) {
        for quad in quads {
            let fault = match quad {
                Ok(quad) => match in_graph(quad, load) {
                    Ok(quad) => {
                        self.quads.push(quad);
                        continue;
                    }
                    Err(fault) => fault,
                },
                Err(error) => {
                    let place = error.location().start;
                    RdfFault {
                        place: Some((lines.first_line + place.line + 1, place.column + 1)),
                        message: error.message().to_owned(),
                    }
                }
            };
            self.faults.push(fault);
            if !load.lenient {
                return;
            }
        }
    }
}

/// The quad in the graph of the load, if that has one.
fn in_graph(quad: Quad, load: &RdfLoad) -> std::result::Result<Quad, RdfFault> {
    match &load.graph {
        None => Ok(quad),
        Some(graph) if quad.graph_name.is_default_graph() => Ok(Quad {
            graph_name: graph.clone(),
            ..quad
        }),
        Some(_) => Err(RdfFault {
            place: None,
            message: format!("a quad of the graph {} where triples are expected", quad.graph_name),
        }),
    }
}

/// Parses a text that comes in pieces, and hands its quads on. Ends when nobody takes them.
pub fn parse_whole(pieces: mpsc::Receiver<Result<Bytes>>, load: &RdfLoad, parsed: &mpsc::Sender<Result<Parsed>>) {
    if let Err(error) = try_parse_whole(pieces, load, parsed) {
        // Nobody waits for it only if the load has ended.
        let _ = parsed.blocking_send(Err(error));
    }
}

fn try_parse_whole(pieces: mpsc::Receiver<Result<Bytes>>, load: &RdfLoad, parsed: &mpsc::Sender<Result<Parsed>>) -> Result<()> {
    let mut parser = RdfParser::from_format(load.format);
    if let Some(base) = &load.base {
        parser = parser
            .with_base_iri(base.as_str())
            .map_err(|error| Error::invalid("22000", format!("the base <{base}> is no IRI: {error}")))?;
    }
    let reader = PieceReader {
        pieces,
        piece: Bytes::new(),
    };
    let mut chunk = Parsed::default();
    for quad in parser.for_reader(reader) {
        match quad {
            Ok(quad) => match in_graph(quad, load) {
                Ok(quad) => chunk.quads.push(quad),
                Err(fault) => chunk.faults.push(fault),
            },
            Err(RdfParseError::Syntax(error)) => chunk.faults.push(RdfFault {
                // Counted from 0 there.
                place: error.location().map(|place| (place.start.line + 1, place.start.column + 1)),
                message: error.to_string(),
            }),
            Err(RdfParseError::Io(error)) => return Err(unreadable(error)),
        }
        let stops = !load.lenient && !chunk.faults.is_empty();
        if (stops || chunk.quads.len() >= CHUNK || chunk.faults.len() >= CHUNK)
            && (parsed.blocking_send(Ok(std::mem::take(&mut chunk))).is_err() || stops)
        {
            return Ok(());
        }
    }
    // Nobody takes it only if the load has ended.
    let _ = parsed.blocking_send(Ok(chunk));
    Ok(())
}

/// The error with which a text broke off.
fn unreadable(error: io::Error) -> Error {
    let text = error.to_string();
    match error.into_inner().map(|inner| inner.downcast::<Error>()) {
        Some(Ok(error)) => *error,
        _ => Error::new(ErrorKind::InvalidInput, "58030", text),
    }
}

/// Reads pieces as they come.
struct PieceReader {
    pieces: mpsc::Receiver<Result<Bytes>>,
    piece: Bytes,
}

impl io::Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
            }
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
