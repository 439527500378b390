//! Errors that came from another node as text.

use super::{Error, ErrorKind};

/// Codes of what can go wrong while rows are made, and what kind each is.
const CODES: &[(&str, ErrorKind)] = &[
    ("07001", ErrorKind::InvalidInput),
    ("08001", ErrorKind::Unavailable),
    ("08006", ErrorKind::Unavailable),
    ("08P01", ErrorKind::Unavailable),
    ("0A000", ErrorKind::Unsupported),
    ("21000", ErrorKind::InvalidInput),
    ("22000", ErrorKind::InvalidInput),
    ("22003", ErrorKind::InvalidInput),
    ("22004", ErrorKind::InvalidInput),
    ("22007", ErrorKind::InvalidInput),
    ("22012", ErrorKind::InvalidInput),
    ("22023", ErrorKind::InvalidInput),
    ("22P02", ErrorKind::InvalidInput),
    ("40001", ErrorKind::Conflict),
    ("40003", ErrorKind::Unavailable),
    ("53100", ErrorKind::ResourceExhausted),
    ("53200", ErrorKind::ResourceExhausted),
    ("53300", ErrorKind::ResourceExhausted),
    ("54000", ErrorKind::ResourceExhausted),
    ("54001", ErrorKind::InvalidInput),
    ("55006", ErrorKind::Unavailable),
    ("57014", ErrorKind::Cancelled),
    ("57P03", ErrorKind::Unavailable),
    ("58030", ErrorKind::Internal),
    ("72000", ErrorKind::InvalidInput),
    ("XX000", ErrorKind::Internal),
    ("XX001", ErrorKind::Corruption),
];

/// The error whose text this is: it ends with a code in brackets.
pub(super) fn from_text(text: &str) -> Option<Error> {
    let (rest, code) = text.strip_suffix(']')?.rsplit_once(" [")?;
    let (code, kind) = CODES.iter().find(|(known, _)| *known == code)?;
    Some(match rest.rsplit_once(". Hint: ") {
        Some((message, hint)) => Error::new(*kind, code, message).with_hint(hint),
        None => Error::new(*kind, code, rest),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_same_after_its_way() {
        let errors = [
            Error::invalid("22012", "division by zero"),
            Error::new(ErrorKind::Unavailable, "57P03", "no majority [here]").with_hint("retry later"),
            Error::new(ErrorKind::Corruption, "XX001", "s1.arrow: block 3 is damaged").with_hint("run `pyralog check`"),
        ];
        for error in errors {
            let found = from_text(&error.to_string()).unwrap();
            assert_eq!((found.kind, found.code, &found.message), (error.kind, error.code, &error.message));
            assert_eq!(found.hint, error.hint);
        }
    }

    #[test]
    fn other_texts_are_none() {
        for text in ["", "]", " []", "an array [1, 2]", "unknown code [99999]", "22012"] {
            assert!(from_text(text).is_none(), "{text}");
        }
    }
}
