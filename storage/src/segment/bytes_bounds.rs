//! Smallest and largest of many byte strings, cut to a length that zone maps can afford.

/// Longer bounds are cut to this many bytes.
const MAX_BOUND: usize = 64;

/// Bounds of a set of byte strings.
#[derive(Debug, PartialEq, Eq)]
pub struct ByteBounds {
    /// Not above any of them.
    pub min: Vec<u8>,
    /// Not below any of them; `None` when no short string is.
    pub max: Option<Vec<u8>>,
    /// Whether both are among them.
    pub exact: bool,
}

/// Bounds of `values`; `None` when there are none. With `is_text` values are UTF-8, and so are the bounds.
pub fn bounds<'a>(values: impl Iterator<Item = &'a [u8]>, is_text: bool) -> Option<ByteBounds> {
    let (min, max) = extremes(values)?;
    let exact = min.len() <= MAX_BOUND && max.len() <= MAX_BOUND;
    let lower = if min.len() <= MAX_BOUND { min } else { &min[..cut(min, is_text)] };
    let upper = if max.len() <= MAX_BOUND {
        Some(max.to_vec())
    } else {
        successor(&max[..cut(max, is_text)], is_text)
    };
    Some(ByteBounds {
        min: lower.to_vec(),
        max: upper,
        exact,
    })
}

/// The smallest and the largest value. Most comparisons are decided by the first eight bytes, as one number.
pub fn extremes<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<(&'a [u8], &'a [u8])> {
    let first = values.next()?;
    let mut min = (prefix(first), first);
    let mut max = min;
    for value in values {
        let key = prefix(value);
        if key < min.0 || (key == min.0 && value < min.1) {
            min = (key, value);
        } else if key > max.0 || (key == max.0 && value > max.1) {
            max = (key, value);
        }
    }
    Some((min.1, max.1))
}

/// The first eight bytes as a number that orders as they do; shorter strings are filled with zeros.
#[inline]
fn prefix(value: &[u8]) -> u64 {
    match value.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => value.iter().rev().fold(0, |n, b| n >> 8 | u64::from(*b) << 56),
    }
}

/// Where to cut a longer value: at [`MAX_BOUND`], or before the character that lies across it.
fn cut(value: &[u8], is_text: bool) -> usize {
    let continuation = |byte: u8| byte & 0xc0 == 0x80;
    let mut at = MAX_BOUND;
    while is_text && at > 0 && continuation(value[at]) {
        at -= 1;
    }
    at
}

/// The shortest string above everything that starts with `prefix`; `None` when there is none.
fn successor(prefix: &[u8], is_text: bool) -> Option<Vec<u8>> {
    if !is_text {
        let keep = prefix.iter().rposition(|b| *b != 0xff)?;
        let mut bound = prefix[..=keep].to_vec();
        bound[keep] += 1;
        return Some(bound);
    }
    let mut text = std::str::from_utf8(prefix).ok()?.to_owned();
    while let Some(last) = text.pop() {
        // The order of UTF-8 bytes is that of code points; surrogates are none.
        let next = if last == '\u{d7ff}' {
            Some('\u{e000}')
        } else {
            char::from_u32(last as u32 + 1)
        };
        if let Some(next) = next {
            text.push(next);
            return Some(text.into_bytes());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn prefixes_order_as_their_strings() {
        let values: [&[u8]; 8] = [b"", b"\0", b"\0\0\0\0\0\0\0\0\0", b"a", b"a\0", b"abcdefgh", b"abcdefghi", b"\xff"];
        for pair in values.windows(2) {
            assert!(prefix(pair[0]) <= prefix(pair[1]));
            assert_eq!(extremes(pair.iter().rev().copied()), Some((pair[0], pair[1])));
        }
        assert_eq!(extremes(values.into_iter()), Some((values[0], values[7])));
    }

    #[test]
    fn short_values_are_exact() {
        let found = bounds([&b"m"[..], b"a", b"z"].into_iter(), true).unwrap();
        assert_eq!(
            found,
            ByteBounds {
                min: b"a".to_vec(),
                max: Some(b"z".to_vec()),
                exact: true
            }
        );
        assert_eq!(bounds(std::iter::empty(), true), None);
    }

    #[test]
    fn cut_bounds_stay_bounds() {
        let tails = ["z", "ü", "\u{d7ff}", "\u{10ffff}", "€uro"];
        for (lead, tail) in (50..70).flat_map(|lead| tails.map(|tail| (lead, tail))) {
            let value = "x".repeat(lead) + &tail.repeat(20);
            let found = bounds(std::iter::once(value.as_bytes()), true).unwrap();
            let max = found.max.unwrap();
            assert!(found.min.len() <= MAX_BOUND && max.len() <= MAX_BOUND && !found.exact);
            assert!(
                found.min.as_slice() <= value.as_bytes() && max.as_slice() >= value.as_bytes(),
                "{value}"
            );
            assert!(std::str::from_utf8(&found.min).is_ok() && std::str::from_utf8(&max).is_ok());
        }
    }

    #[test]
    fn the_largest_strings_have_no_upper_bound() {
        let top = [0xff; 100];
        assert_eq!(bounds(std::iter::once(&top[..]), false).unwrap().max, None);
        let top = "\u{10ffff}".repeat(30);
        assert_eq!(bounds(std::iter::once(top.as_bytes()), true).unwrap().max, None);
        let mut nearly = [0xff; 100];
        nearly[3] = 7;
        assert_eq!(
            bounds(std::iter::once(&nearly[..]), false).unwrap().max.unwrap(),
            [0xff, 0xff, 0xff, 8]
        );
    }
}
