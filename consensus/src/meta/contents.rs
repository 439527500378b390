//! The meta group's state in memory, and the one deterministic function that changes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MetaChange, MetaRevision};
use crate::codec::Blob;
use crate::raft::position::Position;

/// A value and when it was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaValue {
    /// The value.
    pub value: Blob,
    /// The change that set it.
    pub revision: MetaRevision,
}

/// The head of the state: what one more change alters besides keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaHead {
    /// The last applied log position.
    pub position: Position,
    /// Changes so far.
    pub revision: MetaRevision,
    /// Sum over all keys and values, independent of order: tells whether a copy lost or changed one.
    pub digest: u64,
}

/// The whole state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaContents {
    /// The head.
    pub head: MetaHead,
    /// Keys, in order.
    pub entries: BTreeMap<String, MetaValue>,
}

impl MetaContents {
    /// Applies a change if its conditions hold, or names the key whose condition does not.
    pub fn apply(&mut self, change: &MetaChange) -> Result<MetaRevision, String> {
        for expect in &change.expect {
            if self.entries.get(&expect.key).map(|found| found.revision) != expect.revision {
                return Err(expect.key.clone());
            }
        }
        let revision = MetaRevision(self.head.revision.0 + 1);
        self.head.revision = revision;
        for key in &change.delete {
            if let Some(old) = self.entries.remove(key) {
                self.head.digest = self.head.digest.wrapping_sub(digest(key, &old));
            }
        }
        for (key, value) in &change.put {
            let value = MetaValue {
                value: Blob(value.clone().into()),
                revision,
            };
            self.head.digest = self.head.digest.wrapping_add(digest(key, &value));
            if let Some(old) = self.entries.insert(key.clone(), value) {
                self.head.digest = self.head.digest.wrapping_sub(digest(key, &old));
            }
        }
        Ok(revision)
    }

    /// Whether keys and values are those that the head was written with.
    pub fn is_sound(&self) -> bool {
        let sum = self
            .entries
            .iter()
            .fold(0u64, |sum, (key, value)| sum.wrapping_add(digest(key, value)));
        sum == self.head.digest
    }
}

/// A key's share of the digest.
fn digest(key: &str, value: &MetaValue) -> u64 {
    let crc = crc32c::crc32c(&(key.len() as u64).to_le_bytes());
    let crc = crc32c::crc32c_append(crc, key.as_bytes());
    let crc = crc32c::crc32c_append(crc, &value.revision.0.to_le_bytes());
    // Spread over 64 bits (the multiplier is 2^64 over the golden ratio), so that sums of few keys do not collide by carrying alone.
    u64::from(crc32c::crc32c_append(crc, &value.value.0)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
