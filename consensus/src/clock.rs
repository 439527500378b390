//! Commit timestamps: a hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014) over the wall clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use pyralog_storage::Timestamp;

/// Where physical time comes from; a test brings its own.
pub trait WallClock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn millis(&self) -> u64;
}

/// The operating system's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn millis(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_millis() as u64)
    }
}

/// Gives out timestamps that only grow, whatever the wall clock does.
pub struct Clock {
    last: AtomicU64,
    wall: Box<dyn WallClock>,
}

impl Clock {
    /// A clock over a source of physical time.
    pub fn new(wall: Box<dyn WallClock>) -> Self {
        Clock {
            last: AtomicU64::new(0),
            wall,
        }
    }

    /// A clock over the operating system's.
    pub fn system() -> Clock {
        Clock::new(Box::new(SystemClock))
    }

    /// A timestamp above every one given out or observed before.
    pub fn next(&self) -> Timestamp {
        let physical = Timestamp::from_millis(self.wall.millis()).0;
        let next = |last: u64| Some(physical.max(last.saturating_add(1)));
        let last = self
            .last
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .unwrap_or_else(|last| last);
        Timestamp(physical.max(last.saturating_add(1)))
    }

    /// The present: not below any timestamp given out or observed, and below every later [`Clock::next`].
    pub fn now(&self) -> Timestamp {
        let physical = Timestamp::from_millis(self.wall.millis()).0;
        Timestamp(self.last.fetch_max(physical, Ordering::AcqRel).max(physical))
    }

    /// How far the timestamps given out or observed are ahead of physical time, in milliseconds.
    pub fn ahead_ms(&self) -> u64 {
        let last = Timestamp(self.last.load(Ordering::Acquire));
        last.millis().saturating_sub(self.wall.millis())
    }

    /// Takes note of a timestamp from elsewhere (a partition's last commit, a peer).
    pub fn observe(&self, seen: Timestamp) {
        self.last.fetch_max(seen.0, Ordering::AcqRel);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Held(Arc<AtomicU64>);

    impl WallClock for Held {
        fn millis(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn timestamps_grow_when_the_wall_clock_stands_or_goes_back() {
        let time = Arc::new(AtomicU64::new(1_000));
        let clock = Clock::new(Box::new(Held(time.clone())));
        let first = clock.next();
        assert_eq!(first, Timestamp::from_millis(1_000));
        assert_eq!(clock.next(), Timestamp(first.0 + 1));
        time.store(10, Ordering::Relaxed);
        let third = clock.next();
        assert_eq!(third, Timestamp(first.0 + 2));
        assert_eq!(clock.now(), third);
        time.store(2_000, Ordering::Relaxed);
        let now = clock.now();
        assert_eq!(now, Timestamp::from_millis(2_000));
        assert!(clock.next() > now, "a commit after now() must not be visible at now()");
        clock.observe(Timestamp::from_millis(5_000));
        assert!(clock.next() > Timestamp::from_millis(5_000));
    }

    #[test]
    fn threads_never_share_a_timestamp() {
        let clock = Arc::new(Clock::new(Box::new(SystemClock)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let clock = clock.clone();
                std::thread::spawn(move || (0..1_000).map(|_| clock.next()).collect::<Vec<_>>())
            })
            .collect();
        let mut all: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4_000);
    }
}
