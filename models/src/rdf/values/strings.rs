//! Functions on strings, with the argument compatibility rules of section 17.4.3.1.2.

use super::pattern;
use super::replacement::Replacement;
use super::value::Value;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

// The characters `ENCODE_FOR_URI` keeps are the unreserved ones of RFC 3986.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Longest string that `CONCAT` and `REPLACE` make, in bytes: they can make much of little.
pub const LONGEST: usize = 64 << 20;

/// A string would be longer than [`LONGEST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

// The text and the language tag of a string literal, or `None` for other terms.
fn string(value: &Value) -> Option<(&str, Option<&str>)> {
    match value {
        Value::String(text) => Some((text, None)),
        Value::LanguageString { value, language } => Some((value, Some(language))),
        _ => None,
    }
}

fn simple(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn with_language(text: impl Into<String>, language: Option<&str>) -> Value {
    match language {
        None => Value::String(text.into()),
        Some(language) => Value::LanguageString {
            value: text.into(),
            language: language.to_owned(),
        },
    }
}

// Two strings and the language of the first. The second has no language or the same one, otherwise the answer is `None`.
fn compatible<'a>(left: &'a Value, right: &'a Value) -> Option<(&'a str, &'a str, Option<&'a str>)> {
    let (left, language) = string(left)?;
    let (right, other) = string(right)?;
    let fits = match (language, other) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(language), Some(other)) => language.eq_ignore_ascii_case(other),
    };
    fits.then_some((left, right, language))
}

/// `STRLEN`, in code points; `None` for no string.
pub(super) fn length(value: &Value) -> Option<Value> {
    let (text, _) = string(value)?;
    Some(Value::Integer(i64::try_from(text.chars().count()).ok()?.into()))
}

/// `SUBSTR`, in code points from one; `None` unless given a string and integers.
pub(super) fn substring(value: &Value, start: &Value, length: Option<&Value>) -> Option<Value> {
    let integer = |value: &Value| match value.plain() {
        Value::Integer(value) => Some(i64::from(*value)),
        _ => None,
    };
    let (text, language) = string(value)?;
    let start = integer(start)?;
    let end = match length {
        Some(length) => start.saturating_add(integer(length)?),
        None => i64::MAX,
    };
    // Positions before the first one are part of the count, as in XPath: the substring of "12345" from 0 for 3 is "12".
    let skipped = usize::try_from(start.saturating_sub(1).max(0)).unwrap_or(usize::MAX);
    let taken = usize::try_from(end.saturating_sub(start.max(1)).max(0)).unwrap_or(usize::MAX);
    Some(with_language(text.chars().skip(skipped).take(taken).collect::<String>(), language))
}

/// Applies a function to the text of a string and keeps its language; `None` for no string.
pub(super) fn map(value: &Value, function: fn(&str) -> String) -> Option<Value> {
    let (text, language) = string(value)?;
    Some(with_language(function(text), language))
}

/// Tests two compatible strings; `None` when they are none.
pub(super) fn test(value: &Value, part: &Value, function: fn(&str, &str) -> bool) -> Option<Value> {
    let (text, part, _) = compatible(value, part)?;
    Some(function(text, part).into())
}

/// `STRBEFORE`, which is the empty simple literal when the part does not occur; `None` for incompatible arguments.
pub(super) fn before(value: &Value, part: &Value) -> Option<Value> {
    let (text, part, language) = compatible(value, part)?;
    Some(match text.split_once(part) {
        Some((before, _)) => with_language(before, language),
        None => Value::String(String::new()),
    })
}

/// `STRAFTER`, which is the empty simple literal when the part does not occur; `None` for incompatible arguments.
pub(super) fn after(value: &Value, part: &Value) -> Option<Value> {
    let (text, part, language) = compatible(value, part)?;
    Some(match text.split_once(part) {
        Some((_, after)) => with_language(after, language),
        None => Value::String(String::new()),
    })
}

/// `ENCODE_FOR_URI`, a simple literal; `None` for no string.
pub(super) fn encode_for_uri(value: &Value) -> Option<Value> {
    let (text, _) = string(value)?;
    Some(Value::String(utf8_percent_encode(text, &RESERVED).to_string()))
}

/// `CONCAT`, with the language all arguments share; `None` when one is no string.
pub(super) fn concat(values: &[Value]) -> Result<Option<Value>, TooLong> {
    let Some(strings) = values.iter().map(string).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let bytes = strings.iter().fold(0_usize, |bytes, (text, _)| bytes.saturating_add(text.len()));
    if bytes > LONGEST {
        return Err(TooLong);
    }
    let mut all = String::with_capacity(bytes);
    let mut shared = None;
    for (index, (text, language)) in strings.into_iter().enumerate() {
        all.push_str(text);
        if index == 0 {
            shared = language;
        } else if !matches!((shared, language), (Some(shared), Some(language)) if shared.eq_ignore_ascii_case(language)) {
            shared = None;
        }
    }
    Ok(Some(with_language(all, shared)))
}

/// `langMATCHES`, the basic filtering of RFC 4647; `None` unless given two simple literals.
pub(super) fn lang_matches(tag: &Value, range: &Value) -> Option<Value> {
    let (tag, range) = (simple(tag)?, simple(range)?);
    if range == "*" {
        return Some((!tag.is_empty()).into());
    }
    // A range matches the tag itself and every tag that adds subtags to it.
    let starts = tag.get(..range.len()).is_some_and(|start| start.eq_ignore_ascii_case(range));
    let ends = matches!(tag.as_bytes().get(range.len()), None | Some(b'-'));
    Some((starts && ends).into())
}

/// `REGEX`; `None` unless given a string, a valid simple pattern and valid simple flags.
pub(super) fn regex(value: &Value, pattern: &Value, flags: Option<&Value>) -> Option<Value> {
    let (text, _) = string(value)?;
    let pattern = pattern::compiled(simple(pattern)?, flags.map_or(Some(""), simple)?)?;
    Some(pattern.regex.is_match(text).into())
}

/// `REPLACE`, which keeps the language of the text.
///
/// `None` unless given a string, a valid simple pattern, replacement and flags, and for a pattern that matches the empty
/// string, which XPath makes an error.
pub(super) fn replace(value: &Value, pattern: &Value, replacement: &Value, flags: Option<&Value>) -> Result<Option<Value>, TooLong> {
    let parsed = || {
        let (text, language) = string(value)?;
        let (pattern, replacement) = (simple(pattern)?, simple(replacement)?);
        let pattern = pattern::compiled(pattern, flags.map_or(Some(""), simple)?)?;
        if pattern.matches_empty {
            return None;
        }
        let replacement = Replacement::parse(replacement, pattern.groups, pattern.literal)?;
        Some((text, language, pattern, replacement))
    };
    let Some((text, language, pattern, replacement)) = parsed() else {
        return Ok(None);
    };
    let replaced = replacement.replace_all(&pattern.regex, text, LONGEST).ok_or(TooLong)?;
    Ok(Some(with_language(replaced, language)))
}
