//! What a transaction has read: sent with its writes where it is to be serializable.

use serde::{Deserialize, Serialize};

use crate::ids::RelationId;

/// What a transaction has read of one relation in one partition. It commits only where nobody else changed any of it after its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationReads {
    /// The relation.
    pub relation: RelationId,
    /// Keys that were looked up, whether or not there were rows: arrow-row encoded, ascending.
    pub keys: Vec<Box<[u8]>>,
    /// Ranges of keys.
    pub spans: Vec<KeySpan>,
}

/// Encoded keys from one on, below another one. The ends need not be whole keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeySpan {
    /// The first key in it.
    pub from: Box<[u8]>,
    /// The first key behind it; `None` if it has no end.
    pub to: Option<Box<[u8]>>,
}

impl KeySpan {
    /// All keys.
    pub fn all() -> KeySpan {
        KeySpan {
            from: Box::default(),
            to: None,
        }
    }

    /// The keys that begin with these bytes.
    pub fn with_prefix(prefix: &[u8]) -> KeySpan {
        KeySpan {
            from: prefix.into(),
            to: after_prefix(prefix),
        }
    }

    /// Whether a key is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.from <= *key && self.to.as_ref().is_none_or(|to| key < &**to)
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| to <= &self.from)
    }
}

/// The smallest bytes above all that begin with these; `None` where there are none.
pub fn after_prefix(prefix: &[u8]) -> Option<Box<[u8]>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after.into())
}

impl RelationReads {
    /// Whether a key is among what was read.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.keys.binary_search_by(|read| (**read).cmp(key)).is_ok() || self.spans.iter().any(|span| span.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        let span = KeySpan::with_prefix(&[1, 2]);
        assert!(span.contains(&[1, 2]) && span.contains(&[1, 2, 255]) && !span.contains(&[1, 3]) && !span.contains(&[1, 1, 255]));
        assert_eq!(after_prefix(&[7, 255, 255]).as_deref(), Some(&[8][..]));
        assert_eq!((after_prefix(&[255, 255]), after_prefix(&[])), (None, None));
        assert!(KeySpan::all().contains(&[]) && KeySpan::all().contains(&[255; 40]) && !KeySpan::all().is_empty());
        let empty = KeySpan {
            from: [3].into(),
            to: Some([3].into()),
        };
        assert!(empty.is_empty() && !empty.contains(&[3]));
    }

    #[test]
    fn keys_and_spans_are_what_was_read() {
        let reads = RelationReads {
            relation: RelationId(1),
            keys: vec![[1].into(), [4].into()],
            spans: vec![KeySpan::with_prefix(&[9])],
        };
        assert!([&[1][..], &[4], &[9, 3]].iter().all(|key| reads.contains(key)));
        assert!([&[2][..], &[1, 0], &[8]].iter().all(|key| !reads.contains(key)));
    }
}
