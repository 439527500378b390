//! How many writes, and how many bytes of them, may be on their way through a partition at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ConsensusError, Result};

/// Bytes of write sets that may be in flight; one larger write set goes alone.
const IN_FLIGHT_BYTES: u32 = 256 << 20;
const UNIT: u32 = 1 << 10;

/// Counts writes in flight.
pub struct Admission {
    limit: usize,
    waiting: AtomicUsize,
    bytes: Arc<Semaphore>,
    closed: AtomicBool,
}

/// A place among the writes in flight; dropping it frees the place.
pub struct Place {
    admission: Arc<Admission>,
    _bytes: Option<OwnedSemaphorePermit>,
}

impl Admission {
    /// At most `limit` writes at once.
    pub fn new(limit: usize) -> Arc<Admission> {
        Arc::new(Admission {
            limit,
            waiting: AtomicUsize::new(0),
            bytes: Arc::new(Semaphore::new((IN_FLIGHT_BYTES / UNIT) as usize)),
            closed: AtomicBool::new(false),
        })
    }

    /// Takes a place, or answers "overloaded". Waits only for bytes.
    pub async fn enter(self: &Arc<Self>, bytes: usize) -> Result<Place> {
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        let mut place = Place {
            admission: self.clone(),
            _bytes: None,
        };
        if self.closed.load(Ordering::Acquire) {
            return Err(ConsensusError::Unavailable("the node is closing".to_owned()));
        }
        if waiting >= self.limit {
            return Err(ConsensusError::Overloaded { waiting });
        }
        let units = (bytes / UNIT as usize).clamp(1, (IN_FLIGHT_BYTES / UNIT) as usize) as u32;
        let permit = self.bytes.clone().acquire_many_owned(units).await;
        place._bytes = Some(permit.map_err(|_| ConsensusError::Unavailable("the node is closing".to_owned()))?);
        Ok(place)
    }

    /// Takes no more writes.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.bytes.close();
    }

    /// Whether it takes no more writes.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Writes in flight.
    pub fn in_flight(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
