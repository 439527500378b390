//! Where a request of SPARQL ends, which its grammar does not say: it has no closing sign.
//!
//! Outside of brackets, strings, IRIs and comments these end one:
//! - `;` behind a query, where none can stand otherwise;
//! - `;` at the end of a line behind an update (within a line it parts the operations of one request, which is one transaction);
//! - an empty line behind the outermost `}`, for people only: a file may have such lines before `ORDER BY`;
//! - a line that begins with `\`, which is a command.

use pyralog_models::rdf::SparqlForm;

use crate::shell::statement::{Statement, newlines};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Plain,
    /// Within `'` or `"`, which end with their line at the latest.
    Short(u8),
    /// Within `'''` or `"""`.
    Long(u8),
    Comment,
}

/// Collects text and gives out requests. Text arrives in whole lines (the last one may lack its line end); a person's as a whole.
#[derive(Debug, Clone)]
pub struct Splitter {
    text: String,
    scanned: usize,
    state: State,
    /// Brackets that are open.
    depth: usize,
    /// Whether something else than blanks and comments was seen.
    content: bool,
    /// Whether a `}` has closed the outermost brackets.
    closed: bool,
    /// Whether an empty line ends a request.
    empty_line_ends: bool,
    line: u64,
}

impl Splitter {
    /// For a file whose next line is this one, from 1.
    pub fn of_script(line: u64) -> Self {
        Splitter {
            text: String::new(),
            scanned: 0,
            state: State::Plain,
            depth: 0,
            content: false,
            closed: false,
            empty_line_ends: false,
            line,
        }
    }

    /// For what a person types.
    pub fn of_person() -> Self {
        Splitter {
            empty_line_ends: true,
            ..Splitter::of_script(1)
        }
    }

    /// Takes further lines.
    pub fn push(&mut self, lines: &str) {
        self.text.push_str(lines);
    }

    /// The next whole request; `None`: more text is needed.
    pub fn next_statement(&mut self) -> Option<Statement> {
        while self.scanned < self.text.len() {
            let at = self.scanned;
            if self.ends_at(at) {
                self.scanned = at + 1;
                match self.take(at) {
                    Some(statement) => return Some(statement),
                    None => continue,
                }
            }
            self.scanned = at + self.step(at);
        }
        None
    }

    /// What is left. The splitter is empty afterwards.
    pub fn finish(&mut self) -> Option<Statement> {
        self.scanned = self.text.len();
        self.take(self.text.len())
    }

    /// Whether a request has begun that nothing has ended.
    pub fn is_pending(&self) -> bool {
        self.content || self.is_open()
    }

    /// Whether brackets or a long string are open.
    pub fn is_open(&self) -> bool {
        self.depth > 0 || matches!(self.state, State::Long(_))
    }

    /// Whether the byte at `at` ends the request before it.
    fn ends_at(&self, at: usize) -> bool {
        if self.depth > 0 {
            return false;
        }
        match (self.state, self.text.as_bytes()[at]) {
            (State::Plain, b';') => {
                let rest = self.line_behind(at);
                rest.is_empty() || rest.starts_with('#') || SparqlForm::of(&self.text[..at]).is_query()
            }
            // The next line may have no end yet: the cursor stands on it.
            (State::Plain | State::Comment, b'\n') => self.empty_line_ends && self.closed && self.line_behind(at).is_empty(),
            _ => false,
        }
    }

    /// What follows the sign at `at` up to the end of a line, without the blanks around it.
    fn line_behind(&self, at: usize) -> &str {
        self.text[at + 1..].split('\n').next().unwrap_or_default().trim()
    }

    /// Takes the text before `end`, drops it and what else was scanned (the sign that ends it).
    fn take(&mut self, end: usize) -> Option<Statement> {
        let rest = self.text.split_off(self.scanned);
        let taken = std::mem::replace(&mut self.text, rest);
        let text = taken[..end].trim_start();
        let line = self.line + newlines(&taken[..end - text.len()]);
        self.line += newlines(&taken);
        let content = std::mem::take(&mut self.content);
        (self.scanned, self.state, self.depth, self.closed) = (0, State::Plain, 0, false);
        content.then(|| Statement {
            text: text.trim_end().to_owned(),
            line,
        })
    }

    /// Looks at the byte at `at`; how many bytes it settles.
    fn step(&mut self, at: usize) -> usize {
        let rest = &self.text.as_bytes()[at..];
        let length = match self.state {
            State::Plain => return self.plain(at),
            State::Comment if rest[0] == b'\n' => {
                self.state = State::Plain;
                1
            }
            State::Short(_) | State::Long(_) if rest[0] == b'\\' => 2,
            State::Short(quote) => {
                if rest[0] == quote || rest[0] == b'\n' {
                    self.state = State::Plain;
                }
                1
            }
            State::Long(quote) if rest.starts_with(&[quote; 3]) => {
                self.state = State::Plain;
                3
            }
            State::Comment | State::Long(_) => 1,
        };
        length.min(rest.len())
    }

    fn plain(&mut self, at: usize) -> usize {
        let rest = &self.text.as_bytes()[at..];
        let first = rest[0];
        if first.is_ascii_whitespace() {
            return 1;
        }
        if first == b'#' {
            self.state = State::Comment;
            return 1;
        }
        self.content = true;
        let length = match first {
            b'<' => iri(rest),
            b'\'' | b'"' if rest.starts_with(&[first; 3]) => {
                self.state = State::Long(first);
                3
            }
            b'\'' | b'"' => {
                self.state = State::Short(first);
                1
            }
            b'{' | b'(' | b'[' => {
                self.depth += 1;
                1
            }
            b'}' | b')' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.closed |= first == b'}' && self.depth == 0;
                1
            }
            // A sign within a name: `ex:a\;b`.
            b'\\' => 2,
            _ => 1,
        };
        length.min(rest.len())
    }
}

/// The length of an IRI at the start, or of a less-than sign.
fn iri(rest: &[u8]) -> usize {
    let end = rest[1..]
        .iter()
        .position(|byte| matches!(byte, 0..=b' ' | b'<' | b'>' | b'"' | b'{' | b'}' | b'|' | b'^' | b'`'));
    match end {
        Some(end) if rest[end + 1] == b'>' => end + 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split<'a>(mut splitter: Splitter, pieces: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut found = Vec::new();
        for piece in pieces {
            splitter.push(piece);
            while let Some(statement) = splitter.next_statement() {
                found.push(statement.text);
            }
        }
        found.extend(splitter.finish().map(|statement| statement.text));
        found
    }

    fn script(text: &str) -> Vec<String> {
        split(Splitter::of_script(1), text.split_inclusive('\n'))
    }

    #[test]
    fn a_semicolon_ends_a_query() {
        assert_eq!(
            script("SELECT * { ?s <urn:p> 1 ; <urn:q> ?o }; ASK {} ;\n;"),
            ["SELECT * { ?s <urn:p> 1 ; <urn:q> ?o }", "ASK {}"]
        );
        assert_eq!(
            script("DESCRIBE <urn:a;b> ; # done\nASK {}"),
            ["DESCRIBE <urn:a;b>", "# done\nASK {}"]
        );
    }

    #[test]
    fn operations_of_an_update_stay_together_within_a_line() {
        assert_eq!(
            script("INSERT DATA {} ; CLEAR ALL ; # all\nDROP ALL\n; CREATE GRAPH <urn:g> ;\n"),
            ["INSERT DATA {} ; CLEAR ALL", "# all\nDROP ALL\n; CREATE GRAPH <urn:g>"]
        );
    }

    #[test]
    fn signs_within_text_do_not_end() {
        for text in [
            "SELECT * { ?s ?p ';}' }",
            "SELECT * { ?s ?p \"\"\"a}\n\\\"\"\";\n\"\"\" }",
            "SELECT * { ?s ?p 'it\\'s;' # };\n}",
            "ASK { FILTER(?a < 3 && ?b > 2) }",
            "ASK { ?s <urn:a;(b> ex:a\\;\\}b }",
            "PREFIX ex: <urn:x#>\n\nSELECT *\n\n{ ?s ?p ?o }\n\nORDER BY ?s",
            "SELECT 'é;ü' {}",
        ] {
            assert_eq!(script(&format!("{text};\nASK {{}}")), [text, "ASK {}"]);
        }
    }

    #[test]
    fn an_empty_line_ends_what_a_person_types() {
        let person = |text| split(Splitter::of_person(), [text].into_iter());
        assert_eq!(
            person("SELECT * {\n\n?s ?p ?o\n} \n \nASK {}"),
            ["SELECT * {\n\n?s ?p ?o\n}", "ASK {}"]
        );
        assert_eq!(person("SELECT *\n\n{} # x\n\nASK {}"), ["SELECT *\n\n{} # x", "ASK {}"]);
        assert_eq!(person("SELECT * {}\nLIMIT 1\n\nASK {}"), ["SELECT * {}\nLIMIT 1", "ASK {}"]);
        let mut splitter = Splitter::of_person();
        splitter.push("SELECT * {}");
        assert!(splitter.next_statement().is_none() && splitter.is_pending() && !splitter.is_open());
        let mut splitter = Splitter::of_person();
        splitter.push("SELECT * {}\n");
        assert!(splitter.next_statement().is_some() && !splitter.is_pending());
    }

    #[test]
    fn what_is_open_is_pending() {
        for text in ["SELECT * {", "ASK { ?s ?p '''", "SELECT (1"] {
            let mut splitter = Splitter::of_script(1);
            splitter.push(text);
            assert!(splitter.next_statement().is_none());
            assert!(splitter.is_open() && splitter.is_pending(), "{text}");
        }
        let mut splitter = Splitter::of_script(1);
        splitter.push("# only words\n\n");
        assert!(splitter.next_statement().is_none() && !splitter.is_pending());
    }

    #[test]
    fn lines_are_those_of_the_input() {
        let mut splitter = Splitter::of_script(3);
        splitter.push("\nASK {};\n\nASK\n{ };");
        let lines: Vec<u64> = std::iter::from_fn(|| splitter.next_statement())
            .map(|statement| statement.line)
            .collect();
        assert_eq!(lines, [4, 6]);
    }
}
