//! Splitting text into statements as it arrives: a script of any length needs the memory of one statement.
//!
//! `;` ends a statement outside of strings, quoted names, comments (block comments nest) and dollar-quoted text.

/// A statement with its place in the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The text without the `;`.
    pub text: String,
    /// The line of the input that it begins on, from 1.
    pub line: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Plain,
    /// Within quotes; a doubled quote leaves and enters again.
    Quoted(u8),
    LineComment,
    BlockComment(usize),
    /// Within `$tag$`; holds the whole delimiter.
    Dollar(Vec<u8>),
}

/// Collects text and gives out statements. Text arrives in whole lines (the last one may lack its line end).
#[derive(Debug, Clone)]
pub struct Splitter {
    text: String,
    scanned: usize,
    state: State,
    /// Whether something else than blanks and comments was seen.
    content: bool,
    line: u64,
}

impl Default for Splitter {
    fn default() -> Self {
        Splitter::at_line(1)
    }
}

impl Splitter {
    /// For a text whose first line is this one of its file, from 1.
    pub fn at_line(line: u64) -> Self {
        Splitter {
            text: String::new(),
            scanned: 0,
            state: State::Plain,
            content: false,
            line,
        }
    }

    /// Takes further lines.
    pub fn push(&mut self, lines: &str) {
        self.text.push_str(lines);
    }

    /// The next whole statement; `None`: more text is needed.
    pub fn next_statement(&mut self) -> Option<Statement> {
        while self.scanned < self.text.len() {
            let at = self.scanned;
            if self.state == State::Plain && self.text.as_bytes()[at] == b';' {
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

    /// What is left without a `;`. The splitter is empty afterwards.
    pub fn finish(&mut self) -> Option<Statement> {
        let end = self.text.len();
        self.scanned = end;
        self.state = State::Plain;
        self.take(end)
    }

    /// Whether a statement has begun that no `;` has ended.
    pub fn is_pending(&self) -> bool {
        self.content || self.state != State::Plain
    }

    /// Takes the text before `end`, drops it and one byte more (the `;`).
    fn take(&mut self, end: usize) -> Option<Statement> {
        let rest = self.text.split_off(self.scanned);
        let taken = std::mem::replace(&mut self.text, rest);
        self.scanned = 0;
        let text = taken[..end].trim_start();
        let line = self.line + newlines(&taken[..end - text.len()]);
        self.line += newlines(&taken);
        let content = std::mem::take(&mut self.content);
        content.then(|| Statement {
            text: text.trim_end().to_owned(),
            line,
        })
    }

    /// Looks at the byte at `at`; how many bytes it settles.
    fn step(&mut self, at: usize) -> usize {
        let rest = &self.text.as_bytes()[at..];
        match &mut self.state {
            State::Plain => {
                let (next, length) = begin(rest);
                self.content |=
                    matches!(next, State::Quoted(_) | State::Dollar(_)) || (next == State::Plain && !rest[0].is_ascii_whitespace());
                self.state = next;
                length
            }
            State::Quoted(quote) => {
                if rest[0] == *quote {
                    self.state = State::Plain;
                }
                1
            }
            State::LineComment => {
                if rest[0] == b'\n' {
                    self.state = State::Plain;
                }
                1
            }
            State::BlockComment(depth) => match (rest.starts_with(b"/*"), rest.starts_with(b"*/")) {
                (true, _) => {
                    *depth += 1;
                    2
                }
                (_, true) => {
                    *depth -= 1;
                    if *depth == 0 {
                        self.state = State::Plain;
                    }
                    2
                }
                _ => 1,
            },
            State::Dollar(tag) => {
                if rest.starts_with(tag) {
                    let length = tag.len();
                    self.state = State::Plain;
                    length
                } else {
                    1
                }
            }
        }
    }
}

/// The state behind the first bytes of plain text, and how many they are.
fn begin(rest: &[u8]) -> (State, usize) {
    match rest[0] {
        quote @ (b'\'' | b'"' | b'`') => (State::Quoted(quote), 1),
        b'-' if rest.starts_with(b"--") => (State::LineComment, 2),
        b'/' if rest.starts_with(b"/*") => (State::BlockComment(1), 2),
        b'$' => match dollar_tag(rest) {
            Some(tag) => (State::Dollar(tag.to_vec()), tag.len()),
            None => (State::Plain, 1),
        },
        // A word is taken whole, so that a `$` within it begins nothing.
        byte if is_word(byte) => (
            State::Plain,
            rest.iter()
                .position(|byte| !(is_word(*byte) || *byte == b'$'))
                .unwrap_or(rest.len()),
        ),
        _ => (State::Plain, 1),
    }
}

/// `$$` or `$tag$` at the start; a placeholder such as `$1` is none.
fn dollar_tag(rest: &[u8]) -> Option<&[u8]> {
    let length = rest[1..].iter().position(|byte| !is_word(*byte))?;
    (rest[1 + length] == b'$' && !rest[1].is_ascii_digit()).then(|| &rest[..length + 2])
}

/// Bytes of words; those of other alphabets count, so that no character is split.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Line ends in a text.
pub fn newlines(text: &str) -> u64 {
    text.bytes().filter(|byte| *byte == b'\n').count() as u64
}

/// What a statement does, from its first words: for the line that says what happened.
pub fn tag(sql: &str) -> String {
    let mut words = sql
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_ascii_uppercase());
    let first = words.next().unwrap_or_default();
    match (first.as_str(), words.next()) {
        ("CREATE" | "DROP" | "ALTER", Some(second)) => format!("{first} {second}"),
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        for line in text.split_inclusive('\n') {
            splitter.push(line);
            while let Some(statement) = splitter.next_statement() {
                found.push(statement.text);
            }
        }
        found.extend(splitter.finish().map(|statement| statement.text));
        found
    }

    #[test]
    fn semicolons_within_text_do_not_end() {
        assert_eq!(split("SELECT ';'; SELECT 2"), ["SELECT ';'", "SELECT 2"]);
        assert_eq!(split("SELECT 'it''s;' ;"), ["SELECT 'it''s;'"]);
        assert_eq!(split("SELECT \"a;b\" -- c;d\n, 1;"), ["SELECT \"a;b\" -- c;d\n, 1"]);
        assert_eq!(split("/* a; /* b; */ c; */ SELECT 1;"), ["/* a; /* b; */ c; */ SELECT 1"]);
        assert_eq!(split("SELECT $$a;'$$; SELECT $x$;$$;$x$"), ["SELECT $$a;'$$", "SELECT $x$;$$;$x$"]);
        assert_eq!(
            split("SELECT $1; SELECT a$b$; SELECT $2"),
            ["SELECT $1", "SELECT a$b$", "SELECT $2"]
        );
        assert_eq!(split("SELECT 'é;ü', $é$;$é$; x"), ["SELECT 'é;ü', $é$;$é$", "x"]);
    }

    #[test]
    fn empty_statements_are_left_out() {
        assert_eq!(split(" ;; -- nothing\n ; /* x */ "), Vec::<String>::new());
        assert_eq!(split("SELECT\n1\n;\n;"), ["SELECT\n1"]);
    }

    #[test]
    fn lines_are_those_of_the_input() {
        let mut splitter = Splitter::default();
        splitter.push("SELECT 1;\n\nSELECT\n2; SELECT 3");
        let mut lines = Vec::new();
        while let Some(statement) = splitter.next_statement() {
            lines.push(statement.line);
        }
        assert!(splitter.is_pending());
        lines.extend(splitter.finish().map(|statement| statement.line));
        assert_eq!(lines, [1, 3, 4]);
        assert!(!splitter.is_pending());
    }

    #[test]
    fn an_open_quote_is_pending() {
        let mut splitter = Splitter::default();
        splitter.push("SELECT 'a;\n");
        assert!(splitter.next_statement().is_none());
        assert!(splitter.is_pending());
    }

    #[test]
    fn tags() {
        assert_eq!(tag("create table t (a int)"), "CREATE TABLE");
        assert_eq!(tag("Insert into t"), "INSERT");
        assert_eq!(tag("COMMIT"), "COMMIT");
    }
}
