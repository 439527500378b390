//! Which units a stream reads: its own, or the next one that no sibling has taken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::layout::Unit;

/// Where a stream's units come from.
pub(super) enum Work {
    /// Its own.
    Own(VecDeque<Unit>),
    /// A queue shared with the other partitions of one execution: the units, and how many are taken.
    Shared(Arc<[Unit]>, Arc<AtomicUsize>),
}

impl Work {
    /// The next unit to read.
    pub fn next(&mut self) -> Option<Unit> {
        match self {
            Work::Own(units) => units.pop_front(),
            Work::Shared(units, taken) => units.get(taken.fetch_add(1, Ordering::Relaxed)).copied(),
        }
    }
}

/// The queues of one plan's executions. A plan may be executed again: a partition's n-th opening joins the n-th queue.
pub(super) struct SharedQueues {
    state: Mutex<(Vec<usize>, Vec<Arc<AtomicUsize>>)>,
}

impl SharedQueues {
    pub fn new(partitions: usize) -> SharedQueues {
        SharedQueues {
            state: Mutex::new((vec![0; partitions], Vec::new())),
        }
    }

    /// The queue that this opening of a partition takes from.
    pub fn join(&self, partition: usize) -> Arc<AtomicUsize> {
        let (opened, queues) = &mut *self.state.lock();
        let Some(round) = opened.get_mut(partition) else {
            return Arc::default();
        };
        let queue = match queues.get(*round) {
            Some(queue) => Arc::clone(queue),
            None => {
                queues.push(Arc::default());
                Arc::clone(&queues[*round])
            }
        };
        *round += 1;
        queue
    }
}
