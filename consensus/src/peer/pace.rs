//! How fast bytes may go that can wait, so that they leave room for those that cannot.

use std::num::NonZeroU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// So far ahead of its pace a sender may be: small files do not wait.
const BURST: Duration = Duration::from_millis(100);

/// A rate that all who share it keep to together: a leaky bucket (Turner, "New directions in communications", 1986).
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: Option<NonZeroU64>,
    /// When all that was taken has gone at that rate.
    free: Mutex<Instant>,
}

impl Pace {
    /// A pace in bytes per second; 0: as fast as it goes. To be called within a tokio runtime.
    pub fn new(bytes_per_second: u64) -> Pace {
        Pace {
            bytes_per_second: NonZeroU64::new(bytes_per_second),
            free: Mutex::new(Instant::now()),
        }
    }

    /// Waits until so many bytes may go.
    pub async fn take(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_second else { return };
        let due = {
            let mut free = self.free.lock();
            let due = (*free).max(Instant::now());
            *free = due + Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
            due
        };
        if due > Instant::now() + BURST {
            sleep_until(due - BURST).await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_share_a_pace_keep_to_it_together() {
        let (pace, begun) = (Arc::new(Pace::new(1_000_000)), Instant::now());
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let pace = pace.clone();
                tokio::spawn(async move {
                    for _ in 0..10 {
                        pace.take(100_000).await;
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        let took = begun.elapsed();
        assert!(
            took > Duration::from_millis(3_700) && took < Duration::from_millis(4_100),
            "{took:?}"
        );
        // Time in which nothing went is not made up for.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begun = Instant::now();
        for _ in 0..20 {
            pace.take(100_000).await;
        }
        assert!(begun.elapsed() > Duration::from_millis(1_700), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn no_pace_holds_nobody_up() {
        let (pace, begun) = (Pace::new(0), Instant::now());
        pace.take(usize::MAX).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
