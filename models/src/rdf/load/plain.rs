//! Lines of N-Triples and N-Quads, cut into terms where they lie.
//!
//! Most lines are written one way: no escapes, no comments, labels of letters and digits. Those are read here, without a copy of their terms;
//! all others, and whether an IRI or a language tag is one, are left to who knows the whole grammar.

use oxrdf::{BlankNodeRef, GraphNameRef, LiteralRef, NamedNodeRef, NamedOrBlankNodeRef, QuadRef, TermRef};

/// The quad of a line; `None` where it may be anything but a quad as most are written. A triple is one of the default graph.
pub fn quad(line: &str, may_have_graph: bool) -> Option<QuadRef<'_>> {
    let mut line = Line { text: line, at: 0 };
    line.skip_space();
    let subject = line.node()?;
    line.skip_space();
    let predicate = line.iri()?;
    line.skip_space();
    let object = match line.peek()? {
        b'"' => line.literal()?.into(),
        _ => TermRef::from(line.node()?),
    };
    line.skip_space();
    let graph_name = match line.peek()? {
        b'.' => GraphNameRef::DefaultGraph,
        _ if may_have_graph => GraphNameRef::from(line.node()?),
        _ => return None,
    };
    line.skip_space();
    line.take(b'.')?;
    line.skip_space();
    (line.at == line.text.len()).then_some(QuadRef {
        subject,
        predicate,
        object,
        graph_name,
    })
}

/// What may stand in an IRI that is written without escapes.
const IN_IRI: [bool; 256] = {
    let mut allowed = [true; 256];
    let mut byte = 0;
    while byte <= b' ' {
        allowed[byte as usize] = false;
        byte += 1;
    }
    let others = *b"<>\"{}|^`\\";
    let mut i = 0;
    while i < others.len() {
        allowed[others[i] as usize] = false;
        i += 1;
    }
    allowed
};

struct Line<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Line<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there.then_some(())
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// So many bytes, which end at the beginning of a character.
    fn text(&mut self, length: usize) -> Option<&'a str> {
        let text = self.text.get(self.at..self.at + length)?;
        self.at += length;
        Some(text)
    }

    /// The bytes of which that is true, at least one.
    fn run(&mut self, is_part: impl Fn(u8) -> bool) -> Option<&'a str> {
        let length = self.rest().iter().take_while(|byte| is_part(**byte)).count();
        match length {
            0 => None,
            length => self.text(length),
        }
    }

    fn iri(&mut self) -> Option<NamedNodeRef<'a>> {
        self.take(b'<')?;
        let iri = self.run(|byte| IN_IRI[usize::from(byte)])?;
        self.take(b'>')?;
        Some(NamedNodeRef::new_unchecked(iri))
    }

    fn node(&mut self) -> Option<NamedOrBlankNodeRef<'a>> {
        if self.peek()? == b'<' {
            return Some(self.iri()?.into());
        }
        self.take(b'_')?;
        self.take(b':')?;
        let label = self.run(|byte| byte.is_ascii_alphanumeric())?;
        // Else the label may go on.
        matches!(self.peek()?, b' ' | b'\t').then(|| BlankNodeRef::new_unchecked(label).into())
    }

    fn literal(&mut self) -> Option<LiteralRef<'a>> {
        self.take(b'"')?;
        let end = memchr::memchr2(b'"', b'\\', self.rest())?;
        let value = self.text(end)?;
        self.take(b'"')?;
        Some(match self.peek()? {
            b'@' => {
                self.at += 1;
                let start = self.at;
                self.run(|byte| byte.is_ascii_alphabetic())?;
                while self.take(b'-').is_some() {
                    self.run(|byte| byte.is_ascii_alphanumeric())?;
                }
                LiteralRef::new_language_tagged_literal_unchecked(value, &self.text[start..self.at])
            }
            b'^' => {
                self.at += 1;
                self.take(b'^')?;
                LiteralRef::new_typed_literal(value, self.iri()?)
            }
            _ => LiteralRef::new_simple_literal(value),
        })
    }
}

#[cfg(test)]
mod tests {
    use oxrdf::Quad;
    use oxttl::NQuadsParser;
    use proptest::prelude::*;

    use super::quad;

    /// What the library reads in a line: one quad, or none.
    fn parsed(line: &str) -> Option<Quad> {
        let mut quads = NQuadsParser::new().lenient().for_slice(line.as_bytes());
        let first = quads.next()?.ok()?;
        quads.next().is_none().then_some(first)
    }

    /// A language is told in any case.
    fn lowercase(line: &str) -> Option<Quad> {
        let text = quad(line, true)?.to_string();
        let Some((before, behind)) = text.rsplit_once("\"@") else {
            return Some(quad(line, true)?.into_owned());
        };
        let (language, rest) = behind.split_at(behind.find(' ').unwrap_or(behind.len()));
        parsed(&format!("{before}\"@{}{rest} .", language.to_ascii_lowercase()))
    }

    #[test]
    fn lines_as_most_are_written_are_cut_into_terms() {
        for line in [
            "<urn:s> <urn:p> <urn:o> .",
            "<urn:s><urn:p>\"a\".",
            "\t<urn:s>\t<urn:p> \"Käse # . <\" . ",
            "<urn:s> <urn:p> \"a\"@en-GB .",
            "<urn:s> <urn:p> \"1\"^^<http://www.w3.org/2001/XMLSchema#integer> <urn:g> .",
            "<urn:s> <urn:p> \"a\"^^<http://www.w3.org/2001/XMLSchema#string> .",
            "_:a1 <urn:p> _:b .",
            "_:a1 <urn:p> _:b _:c .",
            "<s> <p> <ö> .",
        ] {
            assert!(quad(line, true).is_some(), "{line}");
            assert_eq!(lowercase(line), parsed(line), "{line}");
        }
        assert!(quad("<urn:s> <urn:p> <urn:o> <urn:g> .", false).is_none());
        for other in [
            "",
            "# a comment",
            "<urn:s> <urn:p> <urn:o> . # a comment",
            "<urn:s> <urn:p> \"a\\\"b\" .",
            "<urn:\\u0041> <urn:p> \"a\" .",
            "_:a.b <urn:p> \"a\" .",
            "<urn:s> <urn:p> \"a\"@en--ltr .",
            "<urn:s> <urn:p> \"a",
            "<urn:s> <urn:p> \"a\"",
            "<urn:s> <urn:p> \"a\" . .",
            "<urn:s> \"p\" \"a\" .",
        ] {
            assert!(quad(other, true).is_none(), "{other}");
        }
    }

    /// Terms in their places, as most are written and otherwise.
    fn statement() -> impl Strategy<Value = String> {
        let one_of = |terms: &[&str]| prop::sample::select(terms.iter().map(|term| (*term).to_owned()).collect::<Vec<_>>());
        let subject = one_of(&["<urn:s>", "<s>", "_:b", "_:b1", "_:b.c", "<urn:\\u0041>", "\"s\""]);
        let object = one_of(&[
            "<urn:o>",
            "_:c",
            "\"\"",
            "\"é\"",
            "\"x\"@EN",
            "\"x\"@en-GB",
            "\"x\"@en--ltr",
            "\"x\"^^<urn:t>",
            "\"a\\\"b\"",
            "\"#\"",
            "'x'",
            "1",
        ]);
        let graph = one_of(&["", "", "<urn:g>", "_:g", "\"g\""]);
        let space = || one_of(&[" ", " ", "\t", "", "  "]);
        let end = one_of(&[".", ".", " .", " . ", " . # c", "", ". ."]);
        (subject, space(), space(), object, space(), graph, end)
            .prop_map(|(s, a, b, o, c, g, end)| format!("{s}{a}<urn:p>{b}{o}{c}{g}{end}"))
    }

    /// What is put into a statement, and where.
    fn slip() -> impl Strategy<Value = Option<(prop::sample::Index, String)>> {
        let piece = prop_oneof![
            prop::sample::select(vec!["<", ">", "\"", "\\", "#", "_", ":", ".", "@", "^", "-", "\r", "\u{0}", " "]).prop_map(str::to_owned),
            "\\PC{1,2}"
        ];
        prop::option::weighted(0.4, (any::<prop::sample::Index>(), piece))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// What is read here the library reads alike, whatever stands in a line.
        #[test]
        fn nothing_is_read_otherwise(mut line in statement(), slip in slip()) {
            if let Some((at, piece)) = slip {
                let places: Vec<usize> = line.char_indices().map(|(place, _)| place).collect();
                line.insert_str(*at.get(&places), &piece);
            }
            if quad(&line, true).is_some() {
                prop_assert_eq!(lowercase(&line), parsed(&line), "{}", line);
            }
        }
    }
}
