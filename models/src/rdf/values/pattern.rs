//! The regular expressions of XPath, on the regex crate.

use regex::{Regex, RegexBuilder};
use std::cell::RefCell;
use std::rc::Rc;
use std::str::Chars;

/// A compiled pattern with its flags.
pub(super) struct Pattern {
    pub(super) regex: Regex,
    /// The number of groups.
    pub(super) groups: usize,
    /// Whether the flag `q` makes pattern and replacement plain text.
    pub(super) literal: bool,
    /// Whether the pattern matches the empty string.
    pub(super) matches_empty: bool,
}

// The compiled program and its lazily built automaton may each take this many bytes.
const SIZE_LIMIT: usize = 1 << 20;
// A longer pattern would break the limit above, but only after its syntax tree has taken a hundred times its length.
const LONGEST: usize = 1 << 16;
// A query has few patterns. Patterns that come from data and change with every row push each other out.
const CACHED: usize = 16;
// Longer patterns are compiled each time, so that the cache stays small.
const LONGEST_CACHED: usize = 4096;

struct Entry {
    pattern: String,
    flags: String,
    // Invalid patterns are remembered too.
    compiled: Option<Rc<Pattern>>,
}

thread_local! {
    static CACHE: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

/// The compiled pattern, from a small cache of this thread; `None` when pattern or flags are invalid or too large.
pub(super) fn compiled(pattern: &str, flags: &str) -> Option<Rc<Pattern>> {
    if pattern.len().saturating_add(flags.len()) > LONGEST_CACHED {
        return compile(pattern, flags).map(Rc::new);
    }
    let cached = CACHE.try_with(|cache| {
        let cache = &mut *cache.try_borrow_mut().ok()?;
        let place = cache.iter().position(|entry| entry.pattern == pattern && entry.flags == flags);
        match place {
            // The last used pattern moves to the front and the least used ones fall off the end.
            Some(place) => cache.get_mut(..=place)?.rotate_right(1),
            None => {
                let compiled = compile(pattern, flags).map(Rc::new);
                cache.truncate(CACHED - 1);
                cache.insert(
                    0,
                    Entry {
                        pattern: pattern.to_owned(),
                        flags: flags.to_owned(),
                        compiled,
                    },
                );
            }
        }
        Some(cache.first()?.compiled.clone())
    });
    match cached {
        Ok(Some(compiled)) => compiled,
        // The cache is gone when the thread is about to end.
        _ => compile(pattern, flags).map(Rc::new),
    }
}

fn compile(pattern: &str, flags: &str) -> Option<Pattern> {
    if pattern.len() > LONGEST || !flags.chars().all(|flag| matches!(flag, 's' | 'm' | 'i' | 'x' | 'q')) {
        return None;
    }
    let literal = flags.contains('q');
    let translated = if literal {
        regex::escape(pattern)
    } else {
        translate(pattern, flags.contains('x'))?
    };
    let regex = RegexBuilder::new(&translated)
        .case_insensitive(flags.contains('i'))
        .multi_line(flags.contains('m'))
        .dot_matches_new_line(flags.contains('s'))
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(SIZE_LIMIT)
        .build()
        .ok()?;
    let (groups, matches_empty) = (regex.captures_len().saturating_sub(1), regex.is_match(""));
    Some(Pattern {
        regex,
        groups,
        literal,
        matches_empty,
    })
}

// Rewrites an XPath pattern as one of the regex crate, or gives `None` for what XPath does not know or this cannot do,
// which are back references and blocks such as `\p{IsGreek}`.
fn translate(pattern: &str, ignore_space: bool) -> Option<String> {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(next) = rest.next() {
        match next {
            '\\' => {
                escape(&mut rest, &mut out, false)?;
            }
            '[' => class(&mut rest, &mut out)?,
            '(' if rest.as_str().starts_with('?') => {
                group_start(rest.as_str())?;
                out.push('(');
            }
            // The flag x of XPath drops this white space only; that of the regex crate would also drop comments.
            ' ' | '\t' | '\n' | '\r' if ignore_space => (),
            next => out.push(next),
        }
    }
    Some(out)
}

// Checks what follows the parenthesis of a special group. XPath has only `(?:`. Inline flags such as `(?i)` are let through,
// since many queries use them and they mean nothing else.
fn group_start(rest: &str) -> Option<()> {
    let rest = rest.strip_prefix('?')?;
    let flags = rest.get(..rest.find([':', ')'])?)?;
    flags.chars().all(|flag| matches!(flag, 'i' | 'm' | 's' | '-')).then_some(())
}

// Rewrites a character class after its opening bracket, with the classes that are subtracted from it.
fn class(rest: &mut Chars<'_>, out: &mut String) -> Option<()> {
    // For each open class, whether the inner class that holds its negated part is open as well. A negated class is written
    // as "[[^a]--[b]]", since in the regex crate "[^a--[b]]" negates the whole difference.
    let mut open = vec![open_class(rest, out)?];
    // Whether the last item may be the start of a range, and whether a range is waiting for its end.
    let (mut single, mut in_range) = (false, false);
    while let Some(next) = rest.next() {
        let is_character = match next {
            ']' => {
                out.push_str(if open.pop()? { "]]" } else { "]" });
                if open.is_empty() {
                    return Some(());
                }
                false
            }
            // A bracket stands only after the hyphen of a subtraction.
            '[' => return None,
            '-' if rest.as_str().starts_with('[') => {
                rest.next();
                if let Some(inner @ true) = open.last_mut() {
                    out.push(']');
                    *inner = false;
                }
                out.push_str("--");
                open.push(open_class(rest, out)?);
                false
            }
            '-' if single && !rest.as_str().starts_with(']') => {
                out.push('-');
                (single, in_range) = (false, true);
                continue;
            }
            '\\' => escape(rest, out, true)?,
            // These are operators of the regex crate when they come twice.
            '-' | '&' | '~' | '^' => {
                out.extend(['\\', next]);
                true
            }
            next => {
                out.push(next);
                true
            }
        };
        single = is_character && !in_range;
        in_range = false;
    }
    // The class has no end.
    None
}

// Opens a class and says whether it is a negated one. An empty class is an error in XPath.
fn open_class(rest: &mut Chars<'_>, out: &mut String) -> Option<bool> {
    let negated = rest.as_str().starts_with('^');
    if negated {
        rest.next();
    }
    out.push_str(if negated { "[[^" } else { "[" });
    (!rest.as_str().starts_with(']')).then_some(negated)
}

// The characters that start a name of XML, and those that a name may have besides.
const NAME_START: &str = r":A-Z_a-z\xC0-\xD6\xD8-\xF6\xF8-\x{2FF}\x{370}-\x{37D}\x{37F}-\x{1FFF}\x{200C}-\x{200D}\x{2070}-\x{218F}\x{2C00}-\x{2FEF}\x{3001}-\x{D7FF}\x{F900}-\x{FDCF}\x{FDF0}-\x{FFFD}\x{10000}-\x{EFFFF}";
const NAME_MORE: &str = r"\-.0-9\xB7\x{300}-\x{36F}\x{203F}-\x{2040}";

// Rewrites an escape after its backslash and says whether it stands for a single character.
fn escape(rest: &mut Chars<'_>, out: &mut String, in_class: bool) -> Option<bool> {
    let next = rest.next()?;
    match next {
        'n' | 'r' | 't' => out.extend(['\\', next]),
        'd' | 'D' | 'w' | 'W' => {
            out.extend(['\\', next]);
            return Some(false);
        }
        // A word boundary is no part of XPath either, but means nothing else and is common.
        'b' | 'B' if !in_class => {
            out.extend(['\\', next]);
            return Some(false);
        }
        's' | 'S' => {
            out.push_str(if next == 's' { r"[ \t\n\r]" } else { r"[^ \t\n\r]" });
            return Some(false);
        }
        'i' | 'I' | 'c' | 'C' => {
            out.push_str(if next.is_ascii_uppercase() { "[^" } else { "[" });
            out.push_str(NAME_START);
            out.push_str(if next.eq_ignore_ascii_case(&'c') { NAME_MORE } else { "" });
            out.push(']');
            return Some(false);
        }
        'p' | 'P' => {
            let (name, after) = rest.as_str().strip_prefix('{')?.split_once('}')?;
            // The regex crate would take the name of a block for that of a script.
            if name.starts_with("Is") || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                return None;
            }
            out.extend(['\\', next, '{']);
            out.push_str(name);
            out.push('}');
            *rest = after.chars();
            return Some(false);
        }
        next if next.is_ascii_punctuation() || next == ' ' => out.push_str(&regex::escape(next.encode_utf8(&mut [0; 4]))),
        _ => return None,
    }
    Some(true)
}
