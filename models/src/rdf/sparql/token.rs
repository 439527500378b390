//! The tokens of a text as the standard cuts them (section 19.8: the longest one counts), so that what is bounded is what the parser reads.

use std::borrow::Cow;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `<…>`
    Iri,
    /// A string in any of its four quotings, to the text's end if it does not end.
    String,
    /// A keyword, number, variable, prefixed name, label of a blank node or language tag.
    Name,
    /// A single sign, also a `?` that no name follows.
    Sign,
}

/// A token and where it begins.
#[derive(Debug, Clone, Copy)]
pub struct Token<'a> {
    /// Bytes before it.
    pub at: usize,
    /// What stands there.
    pub text: &'a str,
    /// What it is.
    pub kind: Kind,
}

impl Token<'_> {
    /// Whether it is this keyword. No other name is without colon, sign or digit.
    pub fn is_keyword(&self, word: &str) -> bool {
        self.kind == Kind::Name && self.text.eq_ignore_ascii_case(word)
    }

    /// Whether it is a variable.
    pub fn is_variable(&self) -> bool {
        self.kind == Kind::Name && self.text.starts_with(['?', '$'])
    }

    /// Whether it is a prefixed name.
    pub fn is_prefixed(&self) -> bool {
        self.kind == Kind::Name && self.text.contains(':')
    }
}

/// Bytes that are searched for the colon of a prefix with a point or a hyphen in it. Longer ones become several tokens, of which the last has the colon.
const PREFIX_BYTES: usize = 256;

/// The tokens of a text, without comments.
pub fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let begin = at;
            let kind = match *bytes.get(at)? {
                b'#' => {
                    at += skip_line(&bytes[at..]);
                    continue;
                }
                byte if byte.is_ascii_whitespace() => {
                    at += 1;
                    continue;
                }
                b'<' => {
                    at += skip_iri(&bytes[at..]);
                    if at == begin + 1 { Kind::Sign } else { Kind::Iri }
                }
                b'"' | b'\'' => {
                    at += skip_string(&bytes[at..]);
                    Kind::String
                }
                _ => {
                    at += skip_name(&text[at..]);
                    if at == begin { Kind::Sign } else { Kind::Name }
                }
            };
            if kind == Kind::Sign && at == begin {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
            }
            return Some(Token {
                at: begin,
                text: &text[begin..at],
                kind,
            });
        }
    })
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn run(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !is(*byte)).unwrap_or(bytes.len())
}

fn skip_line(bytes: &[u8]) -> usize {
    run(bytes, |byte| !matches!(byte, b'\n' | b'\r'))
}

/// An IRI, or a less-than sign.
fn skip_iri(bytes: &[u8]) -> usize {
    let inner = run(&bytes[1..], |byte| {
        !matches!(byte, 0..=b' ' | b'<' | b'>' | b'"' | b'{' | b'}' | b'|' | b'^' | b'`')
    });
    match bytes.get(inner + 1) {
        Some(b'>') => inner + 2,
        _ => 1,
    }
}

/// A string in any of its four quotings; one that does not end goes on to the text's end, where the parser will say so.
fn skip_string(bytes: &[u8]) -> usize {
    let quote = bytes[0];
    let long = bytes.starts_with(&[quote, quote, quote]);
    let mut at = if long { 3 } else { 1 };
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            byte if byte == quote && !long => return at + 1,
            byte if byte == quote && bytes[at..].starts_with(&[quote, quote, quote]) => return at + 3,
            b'\n' | b'\r' if !long => return at,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// A name; 0 where none begins.
fn skip_name(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes[0] {
        b'?' | b'$' => match run(&bytes[1..], is_name) {
            0 => 0,
            name => 1 + name,
        },
        b'@' => 1 + skip_tag(&bytes[1..]),
        b':' => 1 + skip_local(&text[1..]),
        first if is_name(first) => {
            let name = run(bytes, is_name);
            let near = &bytes[name..bytes.len().min(name + PREFIX_BYTES)];
            let rest = run(near, |byte| is_name(byte) || matches!(byte, b'-' | b'.'));
            match near.get(rest) {
                Some(b':') if !first.is_ascii_digit() => name + rest + 1 + skip_local(&text[name + rest + 1..]),
                _ => name,
            }
        }
        _ => 0,
    }
}

/// A language tag behind its sign: a hyphen belongs to it only with what follows it.
fn skip_tag(bytes: &[u8]) -> usize {
    let mut at = run(bytes, |byte| byte.is_ascii_alphabetic());
    while let [b'-', next, ..] = &bytes[at..]
        && next.is_ascii_alphanumeric()
    {
        at += 1 + run(&bytes[at + 1..], |byte| byte.is_ascii_alphanumeric());
    }
    at
}

/// What stands behind the colon of a prefixed name: an escape takes the sign behind it along, a point only what follows it.
fn skip_local(text: &str) -> usize {
    let bytes = text.as_bytes();
    if matches!(bytes.first(), Some(b'-' | b'.')) {
        return 0;
    }
    let is_local = |byte: u8| is_name(byte) || matches!(byte, b':' | b'-' | b'%' | b'\\');
    let mut at = 0;
    loop {
        match bytes.get(at) {
            Some(b'\\') => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            Some(b'.') => {
                let points = run(&bytes[at..], |byte| byte == b'.');
                match bytes.get(at + points) {
                    Some(byte) if is_local(*byte) => at += points,
                    _ => return at,
                }
            }
            Some(byte) if is_local(*byte) => at += 1,
            _ => return at,
        }
    }
}

/// The text with the characters that `\uXXXX` and `\UXXXXXXXX` stand for (section 19.2: before anything else is read). What has not so many
/// digits stays, as does an escaped `\`.
pub fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains("\\u") && !text.contains("\\U") {
        return Cow::Borrowed(text);
    }
    let mut read = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        read.push_str(&rest[..at]);
        let escape = &rest[at..];
        let digits = match escape.as_bytes().get(1) {
            Some(b'u') => escape.get(2..6),
            Some(b'U') => escape.get(2..10),
            _ => None,
        };
        let code = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match code.and_then(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?)) {
            Some(character) => {
                read.push(character);
                rest = &escape[2 + code.map_or(0, str::len)..];
            }
            None => {
                let both = 1 + escape[1..].chars().next().map_or(0, char::len_utf8);
                read.push_str(&escape[..both]);
                rest = &escape[both..];
            }
        }
    }
    read.push_str(rest);
    Cow::Owned(read)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        tokens(text).map(|token| token.text).collect()
    }

    #[test]
    fn tokens_are_the_longest() {
        assert_eq!(texts("?x-1 -?y"), ["?x", "-", "1", "-", "?y"]);
        assert_eq!(texts("a-b.c:d-e.f. g"), ["a-b.c:d-e.f", ".", "g"]);
        assert_eq!(texts(r"ex:a\'b\(c ex:values.data"), [r"ex:a\'b\(c", "ex:values.data"]);
        assert_eq!(
            texts("<a>? ?:o 'x'@en-GB^^<(>"),
            ["<a>", "?", "?", ":o", "'x'", "@en-GB", "^", "^", "<(>"]
        );
        assert_eq!(texts("?x<?y # <a>\n<< é\\é"), ["?x", "<", "?y", "<", "<", "é", "\\", "é"]);
        assert_eq!(texts("'open\n{\"\"\" \\\"\"\" ("), ["'open", "{", "\"\"\" \\\"\"\" ("]);
        assert_eq!(texts("'\\"), ["'\\"]);
        assert_eq!(
            texts("'x'@en--1 ex:-1 ex:.5"),
            ["'x'", "@en", "-", "-", "1", "ex:", "-", "1", "ex:", ".", "5"]
        );
    }

    #[test]
    fn escapes_are_read_once() {
        assert_eq!(unescaped(r"\u0041\U0001F600\\u0041\u12 \uD800"), "A😀\\\\u0041\\u12 \\uD800");
        assert_eq!(unescaped(r"\u005Cu0041"), "\\u0041");
        assert_eq!(unescaped(r"\u\éabu1234\u"), r"\u\éabu1234\u");
        assert_eq!(unescaped(r"C:\\users \u00e"), r"C:\\users \u00e");
    }
}
