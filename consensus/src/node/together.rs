//! Small messages to one place: those that wait while others are under way go out together.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Semaphore, oneshot};

use crate::runtime;

/// What waits for a place, and where its answers go.
pub struct Queue<T, A>(UnboundedSender<(T, oneshot::Sender<A>)>);

impl<T, A> Clone for Queue<T, A> {
    fn clone(&self) -> Self {
        Queue(self.0.clone())
    }
}

impl<T: Send + 'static, A: Send + 'static> Queue<T, A> {
    /// Starts a queue. `send` takes at most `batch` items and answers each of them, in their order; `None`: the queue ends. At most
    /// `under_way` batches have no answer yet. It also ends with its last clone.
    pub fn start<F>(batch: usize, under_way: usize, send: impl Fn(Vec<T>) -> Option<F> + Send + 'static) -> Queue<T, A>
    where
        F: Future<Output = Vec<A>> + Send + 'static,
    {
        let (queue, waiting) = mpsc::unbounded_channel();
        runtime::spawn(run(waiting, batch, under_way, send));
        Queue(queue)
    }

    /// Sends an item with others, and waits for its answer. Given up, it may still be sent. `None`: the queue has ended, the item may have
    /// been sent.
    pub async fn send(&self, item: T) -> Option<A> {
        let (answer, answered) = oneshot::channel();
        self.0.send((item, answer)).ok()?;
        answered.await.ok()
    }
}

async fn run<T, A, F>(
    mut waiting: UnboundedReceiver<(T, oneshot::Sender<A>)>,
    most: usize,
    under_way: usize,
    send: impl Fn(Vec<T>) -> Option<F>,
) where
    T: Send + 'static,
    A: Send + 'static,
    F: Future<Output = Vec<A>> + Send + 'static,
{
    let under_way = Arc::new(Semaphore::new(under_way));
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, most).await > 0 {
        let Ok(permit) = under_way.clone().acquire_owned().await else {
            return;
        };
        // What came while the permit did.
        while batch.len() < most
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        // Who does not wait any more wants nothing sent.
        batch.retain(|(_, answer)| !answer.is_closed());
        let (items, answers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        if items.is_empty() {
            continue;
        }
        let Some(sent) = send(items) else { return };
        runtime::spawn(async move {
            for (answer, outcome) in answers.into_iter().zip(sent.await) {
                // Its author may have left.
                let _ = answer.send(outcome);
            }
            drop(permit);
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use parking_lot::Mutex;
    use tokio::time::{Duration, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_waits_goes_together_and_each_gets_its_own_answer() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let told = sizes.clone();
        let queue = Queue::start(16, 1, move |items: Vec<u32>| {
            told.lock().push(items.len());
            Some(async move {
                sleep(Duration::from_millis(10)).await;
                items.into_iter().map(|item| item * 2).collect()
            })
        });
        let asked: Vec<_> = (0..40)
            .map(|n| {
                let queue = queue.clone();
                tokio::spawn(async move { (n, queue.send(n).await) })
            })
            .collect();
        for one in asked {
            let (n, answer) = one.await.unwrap();
            assert_eq!(answer, Some(n * 2));
        }
        assert_eq!(*sizes.lock(), [16, 16, 8]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_is_not_sent() {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let told = sent.clone();
        let queue = Queue::start(16, 1, move |items: Vec<u32>| {
            told.lock().extend(items.iter().copied());
            Some(async move {
                sleep(Duration::from_millis(10)).await;
                items
            })
        });
        let first = tokio::spawn({
            let queue = queue.clone();
            async move { queue.send(1).await }
        });
        sleep(Duration::from_millis(1)).await;
        assert!(tokio::time::timeout(Duration::from_millis(2), queue.send(2)).await.is_err());
        assert_eq!(queue.send(3).await, Some(3));
        assert_eq!(first.await.unwrap(), Some(1));
        assert_eq!(*sent.lock(), [1, 3]);
    }
}
