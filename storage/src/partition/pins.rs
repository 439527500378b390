//! Which timestamps are being read, and how far old versions may be forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Result, StorageError};
use crate::ids::Timestamp;

#[derive(Debug, Default)]
struct State {
    pinned: BTreeMap<Timestamp, usize>,
    horizon: Timestamp,
}

/// Reference counts of the timestamps that readers use.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    state: Mutex<State>,
}

impl Pins {
    /// No readers; what is older than `horizon` is gone already.
    pub fn new(horizon: Timestamp) -> Arc<Self> {
        Arc::new(Pins {
            state: Mutex::new(State {
                pinned: BTreeMap::new(),
                horizon,
            }),
        })
    }

    /// Keeps every version that a reader at the timestamp needs. `timestamp` is asked for under the lock, so that no horizon passes it.
    pub fn pin(self: &Arc<Self>, timestamp: impl FnOnce() -> Timestamp) -> Result<Pin> {
        let mut state = self.state.lock();
        let timestamp = timestamp();
        if timestamp < state.horizon {
            return Err(StorageError::SnapshotTooOld {
                requested: timestamp,
                horizon: state.horizon,
            });
        }
        *state.pinned.entry(timestamp).or_default() += 1;
        Ok(Pin {
            pins: self.clone(),
            timestamp,
        })
    }

    /// Raises the horizon to `wanted` or as far as the oldest reader allows, and returns it. Nobody can pin anything older from now on.
    pub fn advance(&self, wanted: Timestamp) -> Timestamp {
        let mut state = self.state.lock();
        let oldest = state.pinned.keys().next().copied().unwrap_or(Timestamp::MAX);
        state.horizon = state.horizon.max(wanted.min(oldest));
        state.horizon
    }

    /// Raises the horizon, whoever reads: readers keep the state that they have.
    pub fn raise(&self, horizon: Timestamp) {
        let mut state = self.state.lock();
        state.horizon = state.horizon.max(horizon);
    }

    /// The oldest timestamp that can be read.
    pub fn horizon(&self) -> Timestamp {
        self.state.lock().horizon
    }

    /// The oldest timestamp that is being read.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.state.lock().pinned.keys().next().copied()
    }
}

/// A pinned timestamp.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Pins>,
    timestamp: Timestamp,
}

impl Pin {
    /// Which.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.pins.state.lock();
        if let Some(count) = state.pinned.get_mut(&self.timestamp) {
            *count -= 1;
            if *count == 0 {
                state.pinned.remove(&self.timestamp);
            }
        }
    }
}
