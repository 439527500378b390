//! The replacement strings of XPath.

use regex::Regex;

/// A replacement string, taken apart.
pub(super) struct Replacement {
    parts: Vec<Part>,
}

enum Part {
    Text(String),
    Group(usize),
}

impl Replacement {
    /// Parses a replacement for a pattern with so many groups.
    ///
    /// `None` for a `\` that is not followed by `\` or `$`, and for a `$` that is not followed by a digit. With the flag
    /// `q` the replacement is taken as it is.
    pub(super) fn parse(text: &str, groups: usize, literal: bool) -> Option<Self> {
        if literal {
            return Some(Self {
                parts: vec![Part::Text(text.to_owned())],
            });
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text.chars().peekable();
        while let Some(next) = rest.next() {
            match next {
                '\\' => match rest.next() {
                    Some(escaped @ ('\\' | '$')) => plain.push(escaped),
                    _ => return None,
                },
                '$' => {
                    let digit = |next: &char| next.to_digit(10).and_then(|digit| usize::try_from(digit).ok());
                    let mut group = rest.next().as_ref().and_then(digit)?;
                    // More digits belong to the number as long as there is such a group: with one group, "$12" is "$1" and "2".
                    while let Some(longer) = rest
                        .peek()
                        .and_then(digit)
                        .and_then(|digit| group.checked_mul(10)?.checked_add(digit))
                        && longer <= groups
                    {
                        group = longer;
                        rest.next();
                    }
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(Part::Group(group));
                }
                next => plain.push(next),
            }
        }
        parts.push(Part::Text(plain));
        Some(Self { parts })
    }

    /// Replaces every match; `None` if that makes more bytes than `longest`. A group that is missing or did not take part in the match is empty.
    pub(super) fn replace_all(&self, regex: &Regex, text: &str, longest: usize) -> Option<String> {
        let (mut out, mut copied) = (String::new(), 0);
        let push = |out: &mut String, part: &str| {
            let fits = out.len() + part.len() <= longest;
            fits.then(|| out.push_str(part))
        };
        for captures in regex.captures_iter(text) {
            let Some(whole) = captures.get(0) else { continue };
            push(&mut out, &text[copied..whole.start()])?;
            for part in &self.parts {
                match part {
                    Part::Text(text) => push(&mut out, text)?,
                    Part::Group(group) => push(&mut out, captures.get(*group).map_or("", |group| group.as_str()))?,
                }
            }
            copied = whole.end();
        }
        push(&mut out, &text[copied..])?;
        Some(out)
    }
}
