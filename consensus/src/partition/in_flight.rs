//! The timestamps that a leader has given to writes which are not applied yet. Who reads at T waits for those up to T: of all timestamps that
//! are given later, none is as low.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyralog_storage::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::Clock;

/// The timestamps in flight of one partition.
#[derive(Default)]
pub struct InFlight {
    stamps: Mutex<BTreeMap<Timestamp, Instant>>,
    landed: Notify,
}

/// A timestamp in flight until this is dropped.
pub struct Stamp {
    in_flight: Arc<InFlight>,
    /// Which.
    pub timestamp: Timestamp,
}

impl InFlight {
    /// The next timestamp of the clock. No reader sees the clock behind it and this without it.
    pub fn stamp(self: &Arc<Self>, clock: &Clock) -> Stamp {
        let mut stamps = self.stamps.lock();
        let timestamp = clock.next();
        stamps.insert(timestamp, Instant::now());
        Stamp {
            in_flight: self.clone(),
            timestamp,
        }
    }

    /// How long the oldest one has been in flight.
    pub fn oldest_age(&self) -> Duration {
        let stamps = self.stamps.lock();
        stamps.first_key_value().map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }

    /// Returns once nothing at or before `timestamp` is in flight.
    pub async fn landed(&self, timestamp: Timestamp) {
        loop {
            let landed = self.landed.notified();
            tokio::pin!(landed);
            landed.as_mut().enable();
            if self.stamps.lock().first_key_value().is_none_or(|(first, _)| *first > timestamp) {
                return;
            }
            landed.await;
        }
    }
}

impl Drop for Stamp {
    fn drop(&mut self) {
        self.in_flight.stamps.lock().remove(&self.timestamp);
        self.in_flight.landed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_reader_waits_for_what_was_stamped_before_it() {
        let (clock, in_flight) = (Clock::system(), Arc::<InFlight>::default());
        let (first, second) = (in_flight.stamp(&clock), in_flight.stamp(&clock));
        let between = first.timestamp;
        let mut reader = Box::pin(in_flight.landed(between));
        assert!((&mut reader).now_or_never().is_none());
        drop(first);
        assert!((&mut reader).now_or_never().is_some(), "the second comes after it");
        assert!(in_flight.landed(second.timestamp).now_or_never().is_none());
        drop(second);
        assert!(in_flight.landed(Timestamp::MAX).now_or_never().is_some());
    }
}
