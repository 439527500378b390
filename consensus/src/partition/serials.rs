//! Names for writes whose authors gave them none, so that this node can send them again when a leader goes.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::raft::requests::{Request, RequestId, Tried};

/// The writes of this node since it was opened.
pub struct Serials {
    client: u128,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    open: BTreeSet<u64>,
}

/// A write in progress. Its serial counts as settled once this is dropped.
pub struct Serial {
    serials: Arc<Serials>,
    /// Its name.
    pub request: Request,
}

impl Serials {
    /// A client that nobody else is.
    pub fn new() -> Arc<Serials> {
        Arc::new(Serials {
            client: crate::runtime::random_uuid().as_u128(),
            state: Mutex::default(),
        })
    }

    /// Whether any write is in progress.
    pub fn has_open(&self) -> bool {
        !self.state.lock().open.is_empty()
    }

    /// Whether a client is this one.
    pub fn is_of(&self, client: u128) -> bool {
        client == self.client
    }

    /// Whether a write of this client is in progress.
    pub fn is_open(&self, client: u128, serial: u64) -> bool {
        client == self.client && self.state.lock().open.contains(&serial)
    }

    /// The next write.
    pub fn begin(self: &Arc<Self>) -> Serial {
        let mut state = self.state.lock();
        let serial = state.next;
        state.next += 1;
        state.open.insert(serial);
        let settled = state.open.first().copied().unwrap_or(serial);
        let id = RequestId {
            client: self.client,
            serial,
            part: 0,
        };
        let request = Request {
            id,
            settled,
            rows: 0,
            tried: Tried::First,
        };
        Serial {
            serials: self.clone(),
            request,
        }
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        self.serials.state.lock().open.remove(&self.request.id.serial);
    }
}
