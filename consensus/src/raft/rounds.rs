//! Questions that are asked in rounds: who comes while a round is under way shares the next one, which begins after they came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

/// A round, for all who share it.
pub type Round<T> = Shared<BoxFuture<'static, T>>;

/// Rounds of one question.
pub struct Rounds<T> {
    latest: Mutex<Option<Latest<T>>>,
}

struct Latest<T> {
    begun: Arc<AtomicBool>,
    round: Round<T>,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Rounds { latest: Mutex::default() }
    }
}

impl<T: Clone + Send + Sync + 'static> Rounds<T> {
    /// The round that begins next; `ask` is what it does, if nobody waits for it yet.
    pub fn join(&self, ask: impl Future<Output = T> + Send + 'static) -> Round<T> {
        let mut latest = self.latest.lock();
        if let Some(waiting) = latest.as_ref()
            && !waiting.begun.load(Ordering::Acquire)
        {
            return waiting.round.clone();
        }
        let before = latest.take().map(|latest| latest.round);
        let begun = Arc::new(AtomicBool::new(false));
        let begins = begun.clone();
        let round = async move {
            if let Some(before) = before {
                // Whatever came of it: this round asks for itself.
                let _ = before.await;
            }
            begins.store(true, Ordering::Release);
            ask.await
        };
        let round = round.boxed().shared();
        *latest = Some(Latest {
            begun,
            round: round.clone(),
        });
        round
    }
}
