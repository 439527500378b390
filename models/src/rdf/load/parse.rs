//! From text to quads.
//!
//! Texts of lines (N-Triples, N-Quads) are parsed block by block, each on its own; others from their beginning to their end, by one thread.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use oxiri::Iri;
use oxrdf::vocab::rdf;
use oxrdf::{GraphName, GraphNameRef, Literal, NamedOrBlankNode, Quad, QuadRef, Term};
use oxrdfio::{RdfFormat, RdfParseError, RdfParser};
use oxttl::{NQuadsParser, NTriplesParser, TurtleSyntaxError};
use tokio::sync::mpsc;

use super::plain;
use super::xml::XmlGuard;
use super::{RdfFault, RdfLoad};
use crate::error::{Error, ErrorKind, Result};
use crate::rdf::term_entry::EntryRef;
use crate::rdf::term_id::Class;

/// Quads that are handed on together.
const CHUNK: usize = 8192;
/// Bytes of terms that end a chunk: a long prefix or subject comes with each of its quads.
const CHUNK_BYTES: usize = 16 << 20;

/// Bytes of a line, about.
const LINE_BYTES: usize = 128;

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

/// The quad of a line.
pub enum Statement<'a> {
    /// Where it lies.
    Plain(QuadRef<'a>),
    /// Of a line that is not written as most are.
    Parsed(Quad),
}

impl Statement<'_> {
    /// The quad.
    pub fn quad(&self) -> QuadRef<'_> {
        match self {
            Statement::Plain(quad) => *quad,
            Statement::Parsed(quad) => quad.as_ref(),
        }
    }
}

/// Parses a block of lines without a look at its IRIs and language tags, of which most come again and again: who takes the quads has to check
/// those that are new ([`is_valid`]). `None` where anything else is wrong with the lines, or may be.
pub fn parse_unchecked<'a>(lines: &'a Lines, load: &'a RdfLoad) -> Option<Vec<Statement<'a>>> {
    let text = std::str::from_utf8(&lines.text).ok()?;
    let mut statements = Vec::with_capacity(text.len() / LINE_BYTES);
    let mut start = 0;
    for end in memchr::memchr2_iter(b'\n', b'\r', text.as_bytes()).chain([text.len()]) {
        let line = &text[start..end];
        start = (end + 1).min(text.len());
        let statement = match plain::quad(line, load.format != RdfFormat::NTriples) {
            Some(mut quad) => {
                let graph = graph_of(load, quad.graph_name).ok()?;
                quad.graph_name = graph.map_or(quad.graph_name, GraphName::as_ref);
                Statement::Plain(quad)
            }
            None if is_statement(line) => Statement::Parsed(parse_line(line, load)?),
            None => continue,
        };
        statements.push(statement);
    }
    Some(statements)
}

/// The one quad of a line.
fn parse_line(line: &str, load: &RdfLoad) -> Option<Quad> {
    if has_surrogates(line.as_bytes()) {
        return None;
    }
    let (quad, more) = match load.format {
        RdfFormat::NTriples => {
            let mut triples = NTriplesParser::new().lenient().for_slice(line.as_bytes());
            let triple = triples.next()?.ok()?;
            (triple.in_graph(GraphName::DefaultGraph), triples.next().is_some())
        }
        _ => {
            let mut quads = NQuadsParser::new().lenient().for_slice(line.as_bytes());
            (quads.next()?.ok()?, quads.next().is_some())
        }
    };
    in_graph(quad, load).ok().filter(|_| !more)
}

/// Whether there may be escapes of UTF-16 surrogates, which are no characters.
fn has_surrogates(text: &[u8]) -> bool {
    memchr::memchr_iter(b'\\', text).any(|at| matches!(text.get(at + 1..at + 3), Some([b'u', b'd' | b'D'])))
}

/// Whether a line is neither empty nor a comment.
fn is_statement(line: &str) -> bool {
    let first = line.bytes().find(|byte| !matches!(byte, b' ' | b'\t'));
    first.is_some_and(|byte| byte != b'#')
}

/// Whether a term that was parsed without a look at it is one.
pub fn is_valid(entry: &EntryRef<'_>) -> bool {
    let qualifier = entry.qualifier.as_deref();
    match (entry.class, qualifier) {
        (Class::Iri, _) => Iri::parse(entry.value).is_ok(),
        (Class::Language, Some(language)) => Literal::new_language_tagged_literal("", language).is_ok(),
        (Class::Number | Class::Typed, Some(datatype)) => Iri::parse(datatype).is_ok() && datatype != rdf::LANG_STRING.as_str(),
        _ => true,
    }
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

/// The graph of the load in place of a quad's own, if it has one.
fn graph_of<'a>(load: &'a RdfLoad, own: GraphNameRef<'_>) -> std::result::Result<Option<&'a GraphName>, RdfFault> {
    match &load.graph {
        Some(_) if !own.is_default_graph() => Err(RdfFault {
            place: None,
            message: format!("a quad of the graph {own} where triples are expected"),
        }),
        graph => Ok(graph.as_ref()),
    }
}

/// The quad in the graph of the load, if that has one.
fn in_graph(mut quad: Quad, load: &RdfLoad) -> std::result::Result<Quad, RdfFault> {
    if let Some(graph) = graph_of(load, quad.graph_name.as_ref())? {
        quad.graph_name = graph.clone();
    }
    Ok(quad)
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
    let (reader, place): (Box<dyn io::Read>, _) = match load.format {
        RdfFormat::RdfXml => {
            let guard = XmlGuard::new(reader);
            let place = guard.place();
            (Box::new(guard), Some(place))
        }
        _ => (Box::new(reader), None),
    };
    let (mut chunk, mut bytes) = (Parsed::default(), 0);
    for quad in parser.for_reader(reader) {
        match quad {
            Ok(quad) => match in_graph(quad, load) {
                Ok(quad) => {
                    bytes += term_bytes(&quad);
                    chunk.quads.push(quad);
                }
                Err(fault) => chunk.faults.push(fault),
            },
            Err(RdfParseError::Syntax(error)) => chunk.faults.push(RdfFault {
                // Counted from 0 there.
                place: match error.location() {
                    Some(place) => Some((place.start.line + 1, place.start.column + 1)),
                    None => place.as_ref().map(|place| place.get()),
                },
                message: error.to_string(),
            }),
            Err(RdfParseError::Io(error)) => return Err(unreadable(&error)),
        }
        let stops = !load.lenient && !chunk.faults.is_empty();
        if stops || bytes >= CHUNK_BYTES || chunk.quads.len() >= CHUNK || chunk.faults.len() >= CHUNK {
            bytes = 0;
            if parsed.blocking_send(Ok(std::mem::take(&mut chunk))).is_err() || stops {
                return Ok(());
            }
        }
    }
    // Nobody takes it only if the load has ended.
    let _ = parsed.blocking_send(Ok(chunk));
    Ok(())
}

/// Bytes of a quad's terms.
fn term_bytes(quad: &Quad) -> usize {
    let subject = match &quad.subject {
        NamedOrBlankNode::NamedNode(iri) => iri.as_str().len(),
        NamedOrBlankNode::BlankNode(node) => node.as_str().len(),
    };
    let object = match &quad.object {
        Term::NamedNode(iri) => iri.as_str().len(),
        Term::BlankNode(node) => node.as_str().len(),
        Term::Literal(literal) => literal.value().len() + literal.datatype().as_str().len(),
    };
    subject + quad.predicate.as_str().len() + object
}

/// The error with which a text broke off.
fn unreadable(error: &io::Error) -> Error {
    own(error).unwrap_or_else(|| Error::new(ErrorKind::InvalidInput, "58030", error.to_string()))
}

/// The error of the database that a parser hands on, which may have wrapped it.
fn own(error: &io::Error) -> Option<Error> {
    let inner = error.get_ref()?;
    match inner.downcast_ref::<Error>() {
        Some(error) => Some(error.clone()),
        None => own(inner.downcast_ref::<Arc<io::Error>>()?),
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
