//! Names of requests: with one, a request that is sent again is not carried out again.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tonic::metadata::{AsciiMetadataValue, MetadataMap};

/// The requests of one client.
pub(super) struct Names {
    /// 128 random bits as hexadecimal digits.
    client: AsciiMetadataValue,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    open: BTreeSet<u64>,
}

/// The name of a request in progress. Once it is dropped, the server may forget the request.
pub(crate) struct Name {
    names: Arc<Names>,
    serial: u64,
    settled: u64,
    /// How often the request was sent.
    attempts: AtomicU64,
}

impl Names {
    /// Names that no other client gives.
    pub fn new() -> Arc<Names> {
        // Two outputs of one keyed hash; the key is from the operating system's randomness.
        let random = RandomState::new();
        let client = format!("{:016x}{:016x}", random.hash_one(0), random.hash_one(1));
        Arc::new(Names {
            client: client.parse().unwrap_or_else(|_| AsciiMetadataValue::from_static("0")),
            state: Mutex::default(),
        })
    }

    /// The next name.
    pub fn next(self: &Arc<Self>) -> Name {
        // A panic elsewhere cannot leave the numbers half changed.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let serial = state.next;
        state.next += 1;
        state.open.insert(serial);
        Name {
            names: Arc::clone(self),
            serial,
            settled: state.open.first().copied().unwrap_or(serial),
            attempts: AtomicU64::new(0),
        }
    }
}

impl Name {
    /// Adds the name to a request that is about to be sent.
    pub fn mark(&self, headers: &mut MetadataMap) {
        headers.insert("pyralog-client", self.names.client.clone());
        headers.insert("pyralog-serial", self.serial.into());
        headers.insert("pyralog-settled", self.settled.into());
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        headers.insert("pyralog-attempt", attempt.into());
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut state = self.names.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.open.remove(&self.serial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_settled() {
        let names = Names::new();
        let (first, second) = (names.next(), names.next());
        assert_eq!((first.serial, second.serial, second.settled), (0, 1, 0));
        drop(second);
        assert_eq!(names.next().settled, 0);
        drop(first);
        let last = names.next();
        assert_eq!((last.serial, last.settled), (3, 3));
        assert_eq!(names.client.as_bytes().len(), 32);
    }
}
