//! The actor of one data group. It orders writes: each gets its commit timestamp and its place in the log in one step, so that the order
//! of timestamps is the order of the log. It never waits: Raft's queue either takes a proposal at once or the proposal is refused.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use actix::{Actor, Addr, Context, Handler, Message};
use actix_rt::System;
use futures::FutureExt;
use openraft::Raft;
use parking_lot::Mutex;
use pyralog_storage::{StorageError, Timestamp};

use super::in_flight::InFlight;
use crate::clock::Clock;
use crate::error::{ConsensusError, Result};
use crate::raft::data_machine::DataMachine;
use crate::raft::proposal::Proposal;
use crate::raft::types::{Command, Reply, Types, WriteResult};
use crate::simulation;

/// A message to the actor. The answer comes through `reply`; when that is dropped unanswered and `refused` is told, nothing was written.
pub struct Propose {
    /// What.
    pub proposal: Proposal,
    /// Where the result goes.
    pub reply: Reply<WriteResult>,
    /// Told when Raft did not take the proposal.
    pub refused: tokio::sync::oneshot::Sender<Refused>,
}

/// Why a proposal did not reach Raft's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Raft's queue is full.
    Full,
    /// Raft has stopped.
    Stopped(String),
}

impl Message for Propose {
    type Result = ();
}

/// The actor.
pub struct PartitionActor {
    raft: Raft<Types, DataMachine>,
    clock: Arc<Clock>,
    in_flight: Arc<InFlight>,
    mailbox: usize,
}

impl Actor for PartitionActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(self.mailbox);
    }
}

impl Handler<Propose> for PartitionActor {
    type Result = ();

    fn handle(&mut self, message: Propose, _context: &mut Context<Self>) {
        self.take(message);
    }
}

impl PartitionActor {
    /// A timestamp for what a message asks for, in flight until that has come to its end.
    fn stamp(&self, reply: &mut Reply<WriteResult>) -> Timestamp {
        let stamp = self.in_flight.stamp(&self.clock);
        let timestamp = stamp.timestamp;
        reply.hold(stamp);
        timestamp
    }

    fn take(&mut self, mut message: Propose) {
        let mut stamp = || self.stamp(&mut message.reply);
        let command = match message.proposal {
            Proposal::Write(write_set) => Command::Write(stamp(), write_set),
            Proposal::CreateRelation(schema) => Command::CreateRelation(schema),
            Proposal::AlterRelation(schema) => Command::AlterRelation(schema),
            Proposal::DropRelation(relation) => Command::DropRelation(relation),
            Proposal::AdvanceConflictFloor(floor) => Command::AdvanceConflictFloor(floor),
            Proposal::Meta(change) => Command::Meta(change),
            Proposal::Request(request, write_set) => Command::Request(stamp(), request, write_set),
            Proposal::Void(request) => Command::Void(request),
            Proposal::Prepare(part, write_set) => Command::Prepare(stamp(), part, write_set),
            Proposal::Decide(timestamp, part) => {
                // What comes after it lies above it.
                self.clock.observe(timestamp);
                Command::Decide(timestamp, part)
            }
            Proposal::Abort(part) => Command::Abort(part),
            Proposal::Ceiling(ceiling) => Command::Ceiling(ceiling),
        };
        let send = self.raft.client_write_ff(command, Some(message.reply));
        // Unconstrained: tokio's cooperative budget must not make a queue with room look full. One poll either sends or leaves no trace.
        let refused = match tokio::task::unconstrained(send).now_or_never() {
            Some(Ok(())) => return,
            Some(Err(fatal)) => Refused::Stopped(fatal.to_string()),
            None => Refused::Full,
        };
        // Nobody listens any more when the client went away.
        let _ = message.refused.send(refused);
    }
}

/// The actor at work.
pub enum ActorThread {
    /// On a thread (an actix arbiter of its own), with its address.
    Own {
        address: Addr<PartitionActor>,
        system: System,
        thread: Mutex<Option<JoinHandle<()>>>,
        in_flight: Arc<InFlight>,
    },
    /// In a simulation: on whichever task proposes. `None` once it is stopped.
    Inline(Mutex<Option<PartitionActor>>, Arc<InFlight>),
}

impl ActorThread {
    /// Starts the actor. `raft` lives on the runtime that made it, not on the actor's thread.
    pub fn start(name: &str, raft: Raft<Types, DataMachine>, clock: Arc<Clock>, mailbox: usize) -> Result<ActorThread> {
        let in_flight: Arc<InFlight> = Arc::default();
        let actor = PartitionActor {
            raft,
            clock,
            in_flight: in_flight.clone(),
            mailbox,
        };
        if simulation::current().is_some() {
            return Ok(ActorThread::Inline(Mutex::new(Some(actor)), in_flight));
        }
        let (sender, started) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(format!("pyralog-actor-{name}"))
            .spawn(move || run(actor, sender));
        let thread = thread.map_err(StorageError::io(name, "start the actor thread of partition"))?;
        let stopped = |_| ConsensusError::Unavailable("the partition's actor could not start".to_owned());
        let (address, system) = started.recv().map_err(stopped)?;
        Ok(ActorThread::Own {
            address,
            system,
            thread: Mutex::new(Some(thread)),
            in_flight,
        })
    }

    /// The timestamps that it gave to what is not applied yet.
    pub fn in_flight(&self) -> &Arc<InFlight> {
        let (ActorThread::Own { in_flight, .. } | ActorThread::Inline(_, in_flight)) = self;
        in_flight
    }

    /// Queues a proposal; never blocks.
    pub fn propose(&self, message: Propose) -> Result<(), Refused> {
        let stopped = || Refused::Stopped("the partition's actor has stopped".to_owned());
        match self {
            ActorThread::Own { address, .. } => address.try_send(message).map_err(|error| match error {
                actix::prelude::SendError::Full(_) => Refused::Full,
                actix::prelude::SendError::Closed(_) => stopped(),
            }),
            ActorThread::Inline(actor, _) => {
                actor.lock().as_mut().ok_or_else(stopped)?.take(message);
                Ok(())
            }
        }
    }

    /// Tells the thread to end.
    pub fn stop(&self) {
        match self {
            ActorThread::Own { system, .. } => system.stop(),
            ActorThread::Inline(actor, _) => drop(actor.lock().take()),
        }
    }

    /// Waits for the thread. Blocking.
    pub fn join(&self) {
        let ActorThread::Own { thread, .. } = self else { return };
        let thread = thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("a partition's actor panicked");
        }
    }
}

fn run(actor: PartitionActor, started: SyncSender<(Addr<PartitionActor>, System)>) {
    let runner = System::new();
    let address = runner.block_on(async move { actor.start() });
    // The receiver waits for exactly this; if it is gone, so is the node.
    if started.send((address, System::current())).is_ok()
        && let Err(error) = runner.run()
    {
        tracing::error!(%error, "a partition's actor ended badly");
    }
}
