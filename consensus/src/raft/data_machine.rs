//! A data group's state machine: committed entries into the partition's LSM.
//!
//! Storage's applied index is the Raft index plus one (0 means "nothing applied", and Raft's first entry has index 0). Its payload is the
//! encoded [`Applied`]. A snapshot is what the partition has flushed.

use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

use futures::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;
use pyralog_storage::{AppliedPayload, AppliedState, ApplyOutcome, Partition, PartitionCommand, StorageError, Timestamp, WriteSet};

use super::applied::{self, Applied};
use super::apply_thread::ApplyThread;
use super::log_store::LogStore;
use super::position::Position;
use super::requests::{Done, Known, Request, Requests, Table};
use super::retained::Retained;
use super::snapshot::{GroupSnapshot, SnapshotData, Source};
use super::types::{Command, Entry, LogId, Outcome, Rejection, SnapshotMeta, StoredMembership, Types};
use crate::codec::{self, EncodedWriteSet};
use crate::log::GroupId;
use crate::node::lock::DirectoryLock;
use crate::partition::pressure::Pressure;
use crate::runtime;
use crate::simulation::{self, Observation};

/// Entries handed to the apply thread at once.
const BATCH: usize = 256;

/// The state machine.
pub struct DataMachine {
    core: Arc<Core>,
    thread: ApplyThread,
}

struct Core {
    partition: Arc<Partition>,
    position: Mutex<Position>,
    requests: Requests,
    store: LogStore,
    pressure: Arc<Pressure>,
    /// Kept alive while entries are applied, since staged segments are files; gone once the node is closed.
    lock: Weak<DirectoryLock>,
    /// `None` where nobody fetches staged segments from here.
    retained: Option<Retained>,
}

impl DataMachine {
    /// Takes up a partition at its applied position.
    pub fn open(
        partition: Arc<Partition>,
        store: LogStore,
        pressure: Arc<Pressure>,
        lock: Weak<DirectoryLock>,
        retained: Option<Retained>,
        requests: Requests,
    ) -> Result<DataMachine, StorageError> {
        let dir = partition.dir().clone();
        let (position, table) = decode(&partition, &partition.applied())?;
        requests.replace(table);
        let thread = ApplyThread::start(&format!("apply-{}", partition.id())).map_err(StorageError::io(dir, "start apply thread"))?;
        Ok(DataMachine {
            core: Arc::new(Core {
                partition,
                position: Mutex::new(position),
                requests,
                store,
                pressure,
                lock,
                retained,
            }),
            thread,
        })
    }
}

/// The Raft position within storage's applied state.
pub fn decode_position(partition: &Partition, state: &AppliedState) -> Result<Position, StorageError> {
    Ok(decode(partition, state)?.0)
}

fn decode(partition: &Partition, state: &AppliedState) -> Result<(Position, Table), StorageError> {
    if state.index == 0 {
        return Ok(Default::default());
    }
    let damaged = |detail: String| StorageError::damaged(partition.dir().clone(), "applied position", detail);
    let bytes = state.payload.encode().map_err(|error| damaged(error.to_string()))?;
    let (position, table) = applied::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
    if position.index().map(|index| index + 1) != Some(state.index) {
        return Err(damaged("index and payload differ".to_owned()));
    }
    Ok((position, table))
}

impl Core {
    fn apply_all(&self, batch: Vec<EntryResponder<Types>>) -> io::Result<()> {
        let _lock = self.lock.upgrade().ok_or_else(|| io::Error::other("the node is closed"))?;
        let mut last = None;
        for (entry, responder) in batch {
            last = Some(entry.log_id());
            let outcome = self.apply(&entry)?;
            simulation::observe(|| applied(self.store.group(), &entry, &outcome));
            respond(responder, outcome);
        }
        if let Some(id) = last {
            if let Some(retained) = &self.retained {
                retained
                    .release(self.store.purged().map(|id| id.index()))
                    .map_err(io::Error::other)?;
            }
            self.store.applied(id.index());
            self.pressure.after_apply(&self.partition);
        }
        Ok(())
    }

    fn apply(&self, entry: &Entry) -> io::Result<Outcome> {
        let mut position = self.position.lock().clone();
        position.advance(entry);
        let run = |command: &PartitionCommand, done: Outcome| self.run(&position, command, done, None);
        let outcome = match &entry.payload {
            EntryPayload::Blank | EntryPayload::Membership(_) => run(&PartitionCommand::Nothing, Outcome::Done)?,
            EntryPayload::Normal(command) => match command {
                Command::Write(timestamp, encoded) => self.write(&position, *timestamp, encoded, None)?,
                Command::Request(timestamp, request, encoded) => self.write(&position, *timestamp, encoded, Some(*request))?,
                Command::Void(id) => match self.requests.look(*id) {
                    Known::Nothing => {
                        let request = Request {
                            id: *id,
                            settled: 0,
                            rows: 0,
                        };
                        self.run(&position, &PartitionCommand::Nothing, Outcome::Void, Some((request, None)))?
                    }
                    known => run(&PartitionCommand::Nothing, known.into())?,
                },
                Command::CreateRelation(schema) => {
                    let schema = codec::decode_schema(&schema.0).map_err(io::Error::other)?;
                    run(&PartitionCommand::CreateRelation(schema), Outcome::Done)?
                }
                Command::AlterRelation(schema) => {
                    let schema = codec::decode_schema(&schema.0).map_err(io::Error::other)?;
                    run(&PartitionCommand::AlterRelation(schema), Outcome::Done)?
                }
                Command::DropRelation(relation) => run(&PartitionCommand::DropRelation(*relation), Outcome::Done)?,
                Command::AdvanceConflictFloor(floor) => run(&PartitionCommand::AdvanceConflictFloor(*floor), Outcome::Done)?,
                Command::Meta(_) => return Err(io::Error::other("a meta command in a data group's log")),
            },
        };
        *self.position.lock() = position;
        Ok(outcome)
    }

    fn write(&self, position: &Position, timestamp: Timestamp, encoded: &EncodedWriteSet, request: Option<Request>) -> io::Result<Outcome> {
        // Also of entries that a restart found in the log: once this node leads, its timestamps lie above all it has applied.
        self.store.observe(timestamp);
        let schemas = |relation| self.partition.relation_schema(relation);
        let write_set = encoded.write_set(&schemas).map_err(io::Error::other)?;
        if let (Some(retained), Some(index)) = (&self.retained, position.index()) {
            retained.keep(&self.partition, index, &write_set).map_err(io::Error::other)?;
        }
        let known = request.map_or(Known::Nothing, |request| self.requests.look(request.id));
        let outcome = match known {
            Known::Nothing => {
                let request = request.map(|request| {
                    let rows = request.rows;
                    (request, Some(Done { timestamp, rows }))
                });
                let command = PartitionCommand::Write(timestamp, write_set.clone());
                self.run(position, &command, Outcome::Committed(timestamp), request)?
            }
            known => self.run(position, &PartitionCommand::Nothing, known.into(), None)?,
        };
        if !matches!(outcome, Outcome::Committed(_)) {
            self.discard(&write_set);
        }
        Ok(outcome)
    }

    /// Has the partition carry out a command; a request is taken note of where it took effect.
    fn run(
        &self,
        position: &Position,
        command: &PartitionCommand,
        done: Outcome,
        request: Option<(Request, Option<Done>)>,
    ) -> io::Result<Outcome> {
        let raft_index = position.index().unwrap_or(0);
        let payload = |took_effect: bool| -> Arc<dyn AppliedPayload> {
            if let Some((request, done)) = request.filter(|_| took_effect) {
                self.requests.record(raft_index, request, done);
            }
            Arc::new(Applied {
                position: position.clone(),
                requests: self.requests.view(),
            })
        };
        let index = raft_index + 1;
        match self.partition.apply_with(index, command, payload) {
            Ok(ApplyOutcome::Applied) => Ok(done),
            Ok(ApplyOutcome::Conflict(conflict)) => Ok(Outcome::Conflict {
                relation: conflict.relation,
                key: conflict.key,
            }),
            Err(error) => {
                let rejection = Rejection::of(error).map_err(io::Error::other)?;
                // The entry is refused, and the position still moves over it, so that no replay meets it again.
                let passed = self.partition.apply_with(index, &PartitionCommand::Nothing, |_| payload(false));
                passed.map_err(io::Error::other)?;
                Ok(Outcome::Rejected(rejection))
            }
        }
    }

    fn discard(&self, write_set: &WriteSet) {
        if write_set.relations.iter().any(|writes| !writes.staged.is_empty()) {
            self.partition.discard(write_set);
        }
    }

    /// Takes over another replica's state.
    fn install(&self, dir: &Path) -> io::Result<()> {
        let _lock = self.lock.upgrade().ok_or_else(|| io::Error::other("the node is closed"))?;
        let applied = self.partition.install(dir).map_err(io::Error::other)?;
        let (position, table) = decode(&self.partition, &applied).map_err(io::Error::other)?;
        self.requests.replace(table);
        self.store.observe(self.partition.last_timestamp());
        if let Some(index) = position.index() {
            let group = self.store.group();
            simulation::observe(|| Observation::Installed { group, index });
            self.store.applied(index);
        }
        *self.position.lock() = position;
        Ok(())
    }

    fn flushed_meta(&self) -> io::Result<Option<SnapshotMeta>> {
        let position = decode_position(&self.partition, &self.partition.flushed()).map_err(io::Error::other)?;
        Ok(position.log_id.map(|_| position.snapshot_meta()))
    }
}

/// What a simulation is told of an applied entry. A write that was refused leaves no version: its timestamp may come again, by a leader that
/// took over what had been flushed.
pub fn applied(group: GroupId, entry: &Entry, outcome: &Outcome) -> Observation {
    let id = entry.log_id();
    Observation::Applied {
        group,
        index: id.index(),
        leader: (id.committed_leader_id().term, id.committed_leader_id().node_id),
        checksum: codec::encode(entry).map_or(0, |bytes| crc32c::crc32c(&bytes)),
        timestamp: match &entry.payload {
            EntryPayload::Normal(command) => command
                .write()
                .map(|(timestamp, _)| timestamp)
                .filter(|timestamp| matches!(outcome, Outcome::Committed(committed) if committed == timestamp)),
            _ => None,
        },
    }
}

fn respond(responder: Option<ApplyResponder<Types>>, outcome: Outcome) {
    if let Some(responder) = responder {
        responder.send(outcome);
    }
}

impl RaftStateMachine<Types> for DataMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = DataSnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let position = self.core.position.lock().clone();
        Ok((position.log_id, position.membership.as_ref().clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.ready_chunks(BATCH);
        while let Some(chunk) = chunks.next().await {
            let batch = chunk.into_iter().collect::<io::Result<Vec<_>>>()?;
            if let Some((last, _)) = batch.last() {
                // What a majority has is committed, whether this node is among it or not. But segments must never be ahead of the log.
                self.core.store.durable(last.index()).await?;
            }
            let core = self.core.clone();
            self.thread.run(move || core.apply_all(batch)).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> DataSnapshotBuilder {
        DataSnapshotBuilder { core: self.core.clone() }
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let SnapshotData::Arrived(dir) = snapshot else {
            return Err(io::Error::other("a node's own snapshot is not installed"));
        };
        let core = self.core.clone();
        self.thread.run(move || core.install(&dir)).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<GroupSnapshot>> {
        let snapshot = SnapshotData::Own(Source::Partition(self.core.partition.clone()));
        Ok(self.core.flushed_meta()?.map(|meta| openraft::Snapshot { meta, snapshot }))
    }
}

/// Makes a snapshot: what is flushed already, or else a flush.
pub struct DataSnapshotBuilder {
    core: Arc<Core>,
}

impl RaftSnapshotBuilder<Types> for DataSnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<GroupSnapshot> {
        let core = self.core.clone();
        let build = runtime::blocking(move || {
            if core.flushed_meta()?.is_none() {
                core.partition.flush().map_err(io::Error::other)?;
            }
            let meta = core.flushed_meta()?.unwrap_or_default();
            Ok::<_, io::Error>(openraft::Snapshot {
                meta,
                snapshot: SnapshotData::Own(Source::Partition(core.partition.clone())),
            })
        });
        build.await?
    }
}
