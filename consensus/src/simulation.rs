//! What a simulation holds of this crate: tasks, blocking work, threads, randomness. A thread on which one [`begin`]s is a world of its own;
//! everywhere else there is none, and every question here costs one look at a thread-local.
//!
//! In a simulation nothing leaves the thread: blocking work and the work of the log's, the groups' and the partitions' threads is done where
//! it is asked for. So the order of all events follows from the simulation's seed.

use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use pyralog_storage::Timestamp;

use crate::log::GroupId;

/// A world with one thread. Its methods are called on that thread only.
pub trait Simulation {
    /// A hold on a task that the running task starts, at this place of the source.
    fn gate(&self, started: &'static Location<'static>) -> Box<dyn TaskGate>;
    /// The next random number.
    fn random(&self) -> u64;
    /// How long the running node's log takes for a frame.
    fn disk_delay(&self) -> Duration;
    /// Something came about at the running node.
    fn observe(&self, observation: Observation);
}

/// A hold on one task.
pub trait TaskGate: Send {
    /// Called before each poll. `false`: the task does not run now; the gate wakes it when it may.
    fn enter(&mut self, context: &mut Context<'_>) -> bool;
    /// Called after each poll that was allowed.
    fn leave(&mut self);
}

/// What invariants are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A group was taken up from the log.
    Opened {
        /// The group.
        group: GroupId,
        /// Its vote: term, node, and whether it is of a leader.
        vote: Option<(u64, u64, bool)>,
    },
    /// A vote is durable, as far as this node knows.
    Voted {
        /// The group.
        group: GroupId,
        /// Term, node, and whether it is of a leader.
        vote: (u64, u64, bool),
    },
    /// An entry was applied.
    Applied {
        /// The group.
        group: GroupId,
        /// Its index.
        index: u64,
        /// The leader that made it: term and node. openraft orders leaders by both, so there may be several in one term.
        leader: (u64, u64),
        /// A checksum of the whole entry.
        checksum: u32,
        /// The commit timestamp of a write set.
        timestamp: Option<Timestamp>,
    },
    /// Another replica's state was taken over.
    Installed {
        /// The group.
        group: GroupId,
        /// The last index that it holds.
        index: u64,
    },
}

thread_local! {
    static SIMULATION: RefCell<Option<Rc<dyn Simulation>>> = const { RefCell::new(None) };
}

/// Ends a simulation when it is dropped.
pub struct Ending(());

impl Drop for Ending {
    fn drop(&mut self) {
        SIMULATION.with(|current| current.borrow_mut().take());
    }
}

/// Begins a simulation on this thread.
pub fn begin(simulation: Rc<dyn Simulation>) -> Ending {
    SIMULATION.with(|current| *current.borrow_mut() = Some(simulation));
    Ending(())
}

/// The simulation that this thread is in.
pub(crate) fn current() -> Option<Rc<dyn Simulation>> {
    // A thread that is ending has none any more.
    SIMULATION.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// A future as a task of its own, for whoever spawns it.
#[track_caller]
pub fn task<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let started = Location::caller();
    let gate = current().map(|simulation| simulation.gate(started));
    async move {
        let Some(mut gate) = gate else { return future.await };
        let mut future = pin!(future);
        poll_fn(move |context| {
            if !gate.enter(context) {
                return Poll::Pending;
            }
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
            gate.leave();
            // The hook of panics tells the simulation, which is over then. Nothing of this task runs any more.
            polled.unwrap_or(Poll::Pending)
        })
        .await
    }
}

/// How long the running node's log takes for a frame.
pub(crate) fn disk_delay() -> Duration {
    current().map_or(Duration::ZERO, |simulation| simulation.disk_delay())
}

/// Tells the simulation, if there is one.
pub(crate) fn observe(observation: impl FnOnce() -> Observation) {
    if let Some(simulation) = current() {
        simulation.observe(observation());
    }
}
