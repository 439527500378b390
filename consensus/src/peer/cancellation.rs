//! Ends what others wait on: [`Cancelled`] is ready once its [`Cancellation`] is dropped, or replaced. Any number of tasks may wait.

use std::convert::Infallible;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::Shared;

/// Cancels when it is dropped.
#[derive(Debug)]
pub struct Cancellation {
    /// Nothing is ever sent.
    _sender: oneshot::Sender<Infallible>,
    cancelled: Cancelled,
}

/// Ready once the cancellation is gone. Not to be polled again from then on; each clone is woken by itself. Not tokio's channel, whose polls
/// count as work of the polling task.
pub type Cancelled = Shared<oneshot::Receiver<Infallible>>;

impl Default for Cancellation {
    fn default() -> Self {
        let (sender, receiver) = oneshot::channel();
        Cancellation {
            _sender: sender,
            cancelled: receiver.shared(),
        }
    }
}

impl Cancellation {
    /// Its end.
    pub fn cancelled(&self) -> Cancelled {
        self.cancelled.clone()
    }
}
