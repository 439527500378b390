//! What the parser of RDF/XML does not look at: a document that ends within its elements, which was cut off; and entities, of which a few that
//! are made of each other can stand for more text than there is memory.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::error::{Error, ErrorKind, Position, Result};

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;
/// Bytes of the longest document type.
const MAX_DOCTYPE: usize = 1 << 20;
/// Bytes of the longest tag or text between tags, its entities written out.
const MAX_WRITTEN: usize = 64 << 20;
/// Bytes of the longest name of an entity that is looked up.
const MAX_NAME: usize = 256;

/// Hands a document on, tag by tag, and breaks off where it is not to be parsed.
pub struct XmlGuard<R: Read> {
    input: BufReader<R>,
    document: Document,
    place: Arc<Place>,
}

/// How much of a document the parser was given: what it finds fault with is what came last, since it does not say where that is.
#[derive(Debug, Default)]
pub struct Place {
    lines: AtomicU64,
    columns: AtomicU64,
}

impl Place {
    /// Line and column, counted from 1.
    pub fn get(&self) -> (u64, u64) {
        (self.lines.load(Relaxed) + 1, self.columns.load(Relaxed) + 1)
    }
}

/// What was read of a document.
#[derive(Default)]
struct Document {
    state: State,
    lines: u64,
    columns: u64,
    /// Elements that are not closed.
    open: usize,
    has_element: bool,
    /// Whether more is closed than was opened, which the parser will say.
    is_odd: bool,
    entities: HashMap<Vec<u8>, usize>,
    /// The name of a reference that is being read.
    reference: Option<Vec<u8>>,
    /// Bytes since the last tag began or ended, with what references stand for.
    written: usize,
}

#[derive(Default)]
enum State {
    #[default]
    Text,
    /// Behind `<`, as long as it is not known what begins.
    Markup(Vec<u8>),
    Tag {
        closes: bool,
        quote: Option<u8>,
        last: u8,
    },
    /// Until this end.
    Until(&'static [u8], Vec<u8>),
    DocumentType {
        depth: usize,
        text: Vec<u8>,
    },
}

impl<R: Read> XmlGuard<R> {
    /// Before a parser.
    pub fn new(input: R) -> XmlGuard<R> {
        XmlGuard {
            input: BufReader::with_capacity(BUFFER, input),
            document: Document::default(),
            place: Arc::default(),
        }
    }

    /// How far it is, also while a parser has it.
    pub fn place(&self) -> Arc<Place> {
        Arc::clone(&self.place)
    }
}

impl<R: Read> Read for XmlGuard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let text = self.input.fill_buf()?;
        let text = &text[..text.len().min(buffer.len())];
        if text.is_empty() && !buffer.is_empty() {
            self.document.end().map_err(io::Error::other)?;
        }
        let mut count = 0;
        while let Some(byte) = text.get(count) {
            let run = self.document.run(&text[count..]);
            if run > 0 {
                self.document.pass(&text[count..count + run]).map_err(io::Error::other)?;
                count += run;
                continue;
            }
            self.document.take(*byte).map_err(io::Error::other)?;
            count += 1;
            if *byte == b'>' && matches!(self.document.state, State::Text) {
                break;
            }
        }
        buffer[..count].copy_from_slice(&text[..count]);
        self.input.consume(count);
        self.place.lines.store(self.document.lines, Relaxed);
        self.place.columns.store(self.document.columns, Relaxed);
        Ok(count)
    }
}

impl Document {
    /// How many of the next bytes only have to be counted: most of a document, so they are searched, not looked at one by one.
    fn run(&self, text: &[u8]) -> usize {
        let end = match &self.state {
            _ if self.reference.is_some() => Some(0),
            State::Text => memchr::memchr2(b'<', b'&', text),
            State::Tag { quote: Some(mark), .. } => memchr::memchr2(*mark, b'&', text),
            // A reference outside of quotation marks is a fault, which the parser finds.
            State::Tag { quote: None, .. } => memchr::memchr3(b'>', b'"', b'\'', text),
            _ => Some(0),
        };
        end.unwrap_or(text.len())
    }

    /// Counts such bytes.
    fn pass(&mut self, run: &[u8]) -> Result<()> {
        let mut line = run;
        if let Some(end) = memchr::memrchr(b'\n', run) {
            self.lines += memchr::memchr_iter(b'\n', run).count() as u64;
            self.columns = 0;
            line = &run[end + 1..];
        }
        // Not the bytes within a character.
        self.columns += line.iter().filter(|byte| !matches!(byte, 0x80..0xC0)).count() as u64;
        if let (State::Tag { last, .. }, Some(byte)) = (&mut self.state, run.last()) {
            *last = *byte;
        }
        self.write(run.len())
    }

    fn take(&mut self, byte: u8) -> Result<()> {
        match byte {
            b'\n' => (self.lines, self.columns) = (self.lines + 1, 0),
            // Bytes within a character.
            0x80..0xC0 => {}
            _ => self.columns += 1,
        }
        self.refer(byte)?;
        self.state = match (std::mem::take(&mut self.state), byte) {
            (State::Text, b'<') => State::Markup(Vec::new()),
            (State::Text, _) => State::Text,
            (State::Markup(mut begin), byte) => {
                begin.push(byte);
                self.begin(begin)
            }
            (State::Tag { closes, quote: None, last }, b'>') => {
                self.end_tag(closes, last == b'/');
                State::Text
            }
            (State::Tag { closes, quote, .. }, byte) => {
                let quote = match quote {
                    None => matches!(byte, b'"' | b'\'').then_some(byte),
                    Some(mark) => (mark != byte).then_some(mark),
                };
                State::Tag { closes, quote, last: byte }
            }
            (State::Until(end, mut seen), byte) => {
                if seen.len() == end.len() {
                    seen.remove(0);
                }
                seen.push(byte);
                match seen == end {
                    true => State::Text,
                    false => State::Until(end, seen),
                }
            }
            (State::DocumentType { depth: 1, text }, b'>') => {
                self.declare(&text)?;
                State::Text
            }
            (State::DocumentType { depth, mut text }, byte) => {
                text.push(byte);
                if text.len() > MAX_DOCTYPE {
                    return Err(self.refused("54000", format!("the document type has more than {MAX_DOCTYPE} bytes")));
                }
                let depth = match byte {
                    b'<' => depth + 1,
                    b'>' => depth - 1,
                    _ => depth,
                };
                State::DocumentType { depth, text }
            }
        };
        Ok(())
    }

    /// What `<` and some bytes begin.
    fn begin(&mut self, begin: Vec<u8>) -> State {
        const MARKS: [(&[u8], &[u8]); 3] = [(b"!--", b"-->"), (b"![CDATA[", b"]]>"), (b"?", b"?>")];
        for (mark, end) in MARKS {
            if begin == mark {
                return State::Until(end, Vec::new());
            }
            if mark.starts_with(&begin) {
                return State::Markup(begin);
            }
        }
        self.written = 0;
        match begin.as_slice() {
            [b'!', ..] => State::DocumentType { depth: 1, text: begin },
            // Nothing that has a name; the parser will say so.
            [b'>'] => {
                self.is_odd = true;
                State::Text
            }
            _ => State::Tag {
                closes: begin == b"/",
                quote: None,
                last: 0,
            },
        }
    }

    fn end_tag(&mut self, closes: bool, is_empty: bool) {
        self.written = 0;
        match (closes, is_empty) {
            (true, _) if self.open == 0 => self.is_odd = true,
            (true, _) => self.open -= 1,
            (false, true) => self.has_element = true,
            (false, false) => (self.has_element, self.open) = (true, self.open + 1),
        }
    }

    /// Counts what is written, with what references stand for.
    fn refer(&mut self, byte: u8) -> Result<()> {
        if !matches!(self.state, State::Text | State::Tag { .. }) {
            return Ok(());
        }
        let mut written = 1;
        match (&mut self.reference, byte) {
            (_, b'&') => self.reference = Some(Vec::new()),
            (Some(name), b';') => {
                written += self.entities.get(name.as_slice()).copied().unwrap_or_default();
                self.reference = None;
            }
            (Some(name), byte) if name.len() < MAX_NAME => name.push(byte),
            _ => self.reference = None,
        }
        self.write(written)
    }

    fn write(&mut self, bytes: usize) -> Result<()> {
        self.written = self.written.saturating_add(bytes);
        match self.written > MAX_WRITTEN && !self.entities.is_empty() {
            true => Err(self.refused(
                "54000",
                format!("a text or a tag has more than {MAX_WRITTEN} bytes, its entities written out"),
            )),
            false => Ok(()),
        }
    }

    /// The entities of a document type, as the parser finds them.
    fn declare(&mut self, text: &[u8]) -> Result<()> {
        for rest in text.split(|byte| *byte == b'<') {
            let Some((name, value)) = rest.strip_prefix(b"!ENTITY").and_then(declaration) else {
                continue;
            };
            let mut length = value.len();
            for rest in value.split(|byte| *byte == b'&').skip(1) {
                let name = &rest[..rest.iter().position(|byte| *byte == b';').unwrap_or(rest.len())];
                length = length.saturating_add(self.entities.get(name).copied().unwrap_or_default());
            }
            if name.len() > MAX_NAME || length > MAX_DOCTYPE {
                let name = String::from_utf8_lossy(&name[..name.len().min(64)]).into_owned();
                return Err(self.refused(
                    "54000",
                    format!("the entity {name} has more than {MAX_DOCTYPE} bytes, written out, or a name of more than {MAX_NAME}"),
                ));
            }
            self.entities.insert(name.to_vec(), length);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let what = match self.state {
            // The parser says so.
            _ if self.is_odd => return Ok(()),
            State::Text if self.open > 0 => format!("within {} elements that are not closed", self.open),
            State::Text if !self.has_element => "without an element".to_owned(),
            State::Text => return Ok(()),
            _ => "within a tag, a comment, or the like".to_owned(),
        };
        Err(self.refused("22000", format!("the document ends {what}")))
    }

    fn refused(&self, code: &'static str, message: String) -> Error {
        Error {
            position: Some(Position {
                line: self.lines + 1,
                column: self.columns + 1,
            }),
            ..Error::new(ErrorKind::InvalidInput, code, message)
        }
    }
}

/// An entity's name and its value, which stands in quotation marks.
fn declaration(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix(b"%").unwrap_or(text).trim_ascii_start();
    let (name, text) = text.split_at(text.iter().position(u8::is_ascii_whitespace)?);
    let text = text.trim_ascii_start().strip_prefix(b"\"")?;
    Some((name, &text[..text.iter().position(|byte| *byte == b'"')?]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(document: &[u8]) -> Result<()> {
        let mut guard = XmlGuard::new(document);
        match io::copy(&mut guard, &mut io::sink()) {
            Ok(_) => Ok(()),
            Err(error) => Err(*error.into_inner().unwrap().downcast().unwrap()),
        }
    }

    #[test]
    fn entities_of_entities_are_counted() {
        let mut document = "<!DOCTYPE rdf:RDF [<!ENTITY a0 \"0123456789\">".to_owned();
        for i in 1..5 {
            document += &format!("<!ENTITY a{i} \"{}\">", format!("&a{};", i - 1).repeat(10));
        }
        let text = "&a4;".repeat(1000);
        let error = check(format!("{document}]><a>{text}</a>").as_bytes()).unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::InvalidInput, "54000"));
        check(format!("{document}]><a b=\"{text}\"/>").as_bytes()).unwrap_err();
        // Bounded each by itself, since no two are held at once.
        check(format!("{document}]><a>{}</a>", "<b>&a4;</b>".repeat(1000)).as_bytes()).unwrap();
        for i in 5..30 {
            document += &format!("<!ENTITY a{i} \"{}\">", format!("&a{};", i - 1).repeat(10));
        }
        let error = check(format!("{document}]><a/>").as_bytes()).unwrap_err();
        assert!(error.message.starts_with("the entity a5 "), "{error}");
        check(b"<!DOCTYPE r [<!ENTITY xsd \"http://www.w3.org/2001/XMLSchema#\">]><a>&xsd;int&amp;&lt;&&b;</a>").unwrap();
    }

    #[test]
    fn a_document_that_was_cut_off_is_none() {
        let whole = "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY e \"<b>\">]><!-- <x> --><a b='>'><c/>\n<![CDATA[<y>]]></a>";
        check(whole.as_bytes()).unwrap();
        let inside = whole.find("<c/>").unwrap() + 5;
        let error = check(&whole.as_bytes()[..inside]).unwrap_err();
        assert_eq!(error.position, Some(Position { line: 2, column: 1 }));
        assert!(error.message.contains("within 1 elements"), "{error}");
        check(b"<?xml version='1.0'?>").unwrap_err();
        check(b"").unwrap_err();
        check(b"</a></b>").unwrap();
        for text in [
            "<!-- a --",
            "<a b='>",
            "<a/",
            "<!DOCTYPE a [<!ENTITY b",
            "<?x ?",
            "<a><![CDATA[</a>",
            "<",
        ] {
            assert!(check(text.as_bytes()).unwrap_err().message.contains("within a tag"), "{text}");
        }
    }
}
