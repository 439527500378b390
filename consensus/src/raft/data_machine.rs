//! A data group's state machine: committed entries into the partition's LSM.
//!
//! Storage's applied index is the Raft index plus one (0 means "nothing applied", and Raft's first entry has index 0). Its payload is the
//! encoded [`Applied`]. A snapshot is what the partition has flushed.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use futures::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;
use pyralog_storage::{
    AppliedPayload, AppliedState, ApplyOutcome, Partition, PartitionCommand, StorageError, Timestamp, WriteConflict, WriteSet,
};

use super::applied::{self, Applied, Parts};
use super::apply_thread::ApplyThread;
use super::log_store::LogStore;
use super::position::Position;
use super::promises::{Leadership, Promises};
use super::requests::{Done, Known, Request, Requests, Tried};
use super::retained::Retained;
use super::snapshot::{GroupSnapshot, SnapshotData, Source};
use super::transactions::{Part, Standing, Transactions};
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

/// What a group remembers beside its rows.
#[derive(Clone, Default)]
pub struct Tables {
    /// Requests that were carried out.
    pub requests: Requests,
    /// Transactions over several groups.
    pub transactions: Transactions,
    /// Up to where leaders may promise.
    pub promises: Promises,
    /// Raft index of the newest entry whose outcome may have been told.
    pub applied: Arc<AtomicU64>,
}

/// What an entry that takes effect adds to the tables.
#[derive(Clone, Copy)]
enum Note {
    Request(Request, Option<Done>),
    Transaction(Part, Standing),
}

struct Core {
    partition: Arc<Partition>,
    position: Mutex<Position>,
    tables: Tables,
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
        tables: Tables,
    ) -> Result<DataMachine, StorageError> {
        let dir = partition.dir().clone();
        let position = tables.take_over(decode(&partition, &partition.applied())?);
        let thread = ApplyThread::start(&format!("apply-{}", partition.id())).map_err(StorageError::io(dir, "start apply thread"))?;
        Ok(DataMachine {
            core: Arc::new(Core {
                partition,
                position: Mutex::new(position),
                tables,
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
    Ok(decode(partition, state)?.position)
}

fn decode(partition: &Partition, state: &AppliedState) -> Result<Parts, StorageError> {
    if state.index == 0 {
        return Ok(Default::default());
    }
    let damaged = |detail: String| StorageError::damaged(partition.dir().clone(), "applied position", detail);
    let bytes = state.payload.encode().map_err(|error| damaged(error.to_string()))?;
    let parts = applied::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
    if parts.position.index().map(|index| index + 1) != Some(state.index) {
        return Err(damaged("index and payload differ".to_owned()));
    }
    Ok(parts)
}

impl Tables {
    /// Takes over what is stored with a position, which is returned.
    fn take_over(&self, parts: Parts) -> Position {
        self.requests.replace(parts.requests);
        self.transactions.replace(parts.transactions);
        self.promises.replace(parts.ceilings);
        parts.position
    }
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
        let leadership = leadership(entry);
        let floor = self.tables.promises.get().floor(leadership);
        // So that what this node stamps once it leads is not refused.
        self.store.observe(floor);
        let write = match &entry.payload {
            EntryPayload::Normal(command) => command.write(),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        };
        if let Some((timestamp, encoded)) = write.filter(|(timestamp, _)| *timestamp <= floor) {
            let outcome = self.refuse_stale(&position, timestamp, encoded)?;
            self.moved(position);
            return Ok(outcome);
        }
        let outcome = match &entry.payload {
            EntryPayload::Blank | EntryPayload::Membership(_) => run(&PartitionCommand::Nothing, Outcome::Done)?,
            EntryPayload::Normal(command) => match command {
                Command::Write(timestamp, encoded) => self.write(&position, *timestamp, encoded, None)?,
                Command::Request(timestamp, request, encoded) => self.write(&position, *timestamp, encoded, Some(*request))?,
                Command::Prepare(timestamp, part, encoded) => self.prepare(&position, *timestamp, *part, encoded)?,
                Command::Decide(timestamp, part) => self.decide(&position, *timestamp, *part)?,
                Command::Abort(part) => self.abort(&position, *part)?,
                Command::Ceiling(ceiling) => {
                    self.tables.promises.set(leadership, *ceiling);
                    run(&PartitionCommand::Nothing, Outcome::Done)?
                }
                Command::Void(id) => match self.tables.requests.look(*id) {
                    Known::Nothing => {
                        let request = Request {
                            id: *id,
                            settled: 0,
                            rows: 0,
                            tried: Tried::Again,
                        };
                        self.run(
                            &position,
                            &PartitionCommand::Nothing,
                            Outcome::Void,
                            Some(Note::Request(request, None)),
                        )?
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
        self.moved(position);
        Ok(outcome)
    }

    fn moved(&self, position: Position) {
        self.tables.applied.store(position.index().unwrap_or(0), Ordering::Release);
        *self.position.lock() = position;
    }

    /// The write set of an entry, decoded; its files are kept for replicas that are not as far.
    fn take_up(&self, position: &Position, timestamp: Timestamp, encoded: &EncodedWriteSet) -> io::Result<Arc<WriteSet>> {
        // Also of entries that a restart found in the log: once this node leads, its timestamps lie above all it has applied.
        self.store.observe(timestamp);
        let schemas = |relation| self.partition.relation_schema(relation);
        let write_set = encoded.write_set(&schemas).map_err(io::Error::other)?;
        if let (Some(retained), Some(index)) = (&self.retained, position.index()) {
            retained.keep(&self.partition, index, &write_set).map_err(io::Error::other)?;
        }
        Ok(write_set)
    }

    /// Refuses what an earlier leader had stamped: a later one may have promised that nothing comes at its timestamp any more.
    fn refuse_stale(&self, position: &Position, timestamp: Timestamp, encoded: &EncodedWriteSet) -> io::Result<Outcome> {
        let write_set = self.take_up(position, timestamp, encoded)?;
        let outcome = self.run(position, &PartitionCommand::Nothing, Outcome::Stale, None)?;
        self.discard(&write_set);
        Ok(outcome)
    }

    fn write(&self, position: &Position, timestamp: Timestamp, encoded: &EncodedWriteSet, request: Option<Request>) -> io::Result<Outcome> {
        let write_set = self.take_up(position, timestamp, encoded)?;
        let known = request.map_or(Known::Nothing, |request| self.tables.requests.look(request.id));
        let outcome = match known {
            Known::Nothing => {
                let note = request.map(|request| {
                    let rows = request.rows;
                    Note::Request(request, Some(Done { timestamp, rows }))
                });
                let command = PartitionCommand::Write(timestamp, write_set.clone());
                self.run(position, &command, Outcome::Committed(timestamp), note)?
            }
            known => self.run(position, &PartitionCommand::Nothing, known.into(), None)?,
        };
        if !matches!(outcome, Outcome::Committed(_)) {
            self.discard(&write_set);
        }
        Ok(outcome)
    }

    fn prepare(&self, position: &Position, timestamp: Timestamp, part: Part, encoded: &EncodedWriteSet) -> io::Result<Outcome> {
        let write_set = self.take_up(position, timestamp, encoded)?;
        let nothing = |outcome| self.run(position, &PartitionCommand::Nothing, outcome, None);
        let outcome = match self.tables.transactions.look(part.id) {
            None => {
                let command = PartitionCommand::Prepare(part.id, timestamp, write_set.clone());
                let note = Note::Transaction(part, Standing::Prepared(timestamp, part.primary));
                self.run(position, &command, Outcome::Prepared(timestamp), Some(note))?
            }
            // It has come twice. The files that it names are those of the first.
            Some(Standing::Prepared(first, _)) => return nothing(Outcome::Prepared(first)),
            Some(Standing::Committed(commit)) => return nothing(Outcome::Committed(commit)),
            Some(Standing::Aborted) => nothing(Outcome::Void)?,
        };
        if !matches!(outcome, Outcome::Prepared(_)) {
            self.discard(&write_set);
        }
        Ok(outcome)
    }

    fn decide(&self, position: &Position, timestamp: Timestamp, part: Part) -> io::Result<Outcome> {
        self.store.observe(timestamp);
        let nothing = |outcome| self.run(position, &PartitionCommand::Nothing, outcome, None);
        match self.tables.transactions.look(part.id) {
            // An earlier try of its request was carried out, or it was given up: known where transactions are decided.
            Some(Standing::Prepared(..)) if self.decides(part) && self.is_ended(part.request) => self.end(position, part),
            Some(Standing::Prepared(..)) => {
                let command = PartitionCommand::Decide(part.id, timestamp);
                let note = Note::Transaction(part, Standing::Committed(timestamp));
                self.run(position, &command, Outcome::Committed(timestamp), Some(note))
            }
            Some(Standing::Committed(commit)) => nothing(Outcome::Committed(commit)),
            // Somebody has given it up, and others were told.
            Some(Standing::Aborted) | None => nothing(Outcome::Void),
        }
    }

    fn abort(&self, position: &Position, part: Part) -> io::Result<Outcome> {
        match self.tables.transactions.look(part.id) {
            Some(Standing::Committed(commit)) => self.run(position, &PartitionCommand::Nothing, Outcome::Committed(commit), None),
            Some(Standing::Prepared(..) | Standing::Aborted) | None => self.end(position, part),
        }
    }

    fn end(&self, position: &Position, part: Part) -> io::Result<Outcome> {
        let note = Note::Transaction(part, Standing::Aborted);
        self.run(position, &PartitionCommand::Abort(part.id), Outcome::Void, Some(note))
    }

    fn decides(&self, part: Part) -> bool {
        part.primary == self.partition.id()
    }

    fn is_ended(&self, request: Option<Request>) -> bool {
        request.is_some_and(|request| self.tables.requests.look(request.id) != Known::Nothing)
    }

    /// Has the partition carry out a command; the tables take note of it where it took effect.
    fn run(&self, position: &Position, command: &PartitionCommand, done: Outcome, note: Option<Note>) -> io::Result<Outcome> {
        let raft_index = position.index().unwrap_or(0);
        let payload = |took_effect: bool| -> Arc<dyn AppliedPayload> {
            match note.filter(|_| took_effect) {
                Some(Note::Request(request, done)) => self.tables.requests.record(raft_index, request, done),
                Some(Note::Transaction(part, standing)) => {
                    self.tables.transactions.record(part, standing);
                    if let (Some(request), Standing::Committed(timestamp)) = (part.request, standing) {
                        let rows = request.rows;
                        self.tables.requests.record(raft_index, request, Some(Done { timestamp, rows }));
                    }
                }
                None => {}
            }
            Arc::new(Applied {
                position: position.clone(),
                requests: self.tables.requests.view(),
                transactions: self.tables.transactions.view(),
                ceilings: self.tables.promises.get(),
            })
        };
        let index = raft_index + 1;
        match self.partition.apply_with(index, command, payload) {
            Ok(ApplyOutcome::Applied) => Ok(done),
            Ok(ApplyOutcome::Conflict(WriteConflict { relation, key, is_locked })) => Ok(match is_locked {
                true => Outcome::Locked { relation, key },
                false => Outcome::Conflict { relation, key },
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
        let position = self.tables.take_over(decode(&self.partition, &applied).map_err(io::Error::other)?);
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

/// The leader that made an entry.
fn leadership(entry: &Entry) -> Leadership {
    let id = entry.log_id();
    (id.committed_leader_id().term, id.committed_leader_id().node_id)
}

/// What a simulation is told of an applied entry. A write that was refused leaves no version: its timestamp may come again, by a leader that
/// took over what had been flushed.
pub fn applied(group: GroupId, entry: &Entry, outcome: &Outcome) -> Observation {
    let id = entry.log_id();
    Observation::Applied {
        group,
        index: id.index(),
        leader: leadership(entry),
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
