//! A partition as the layers above use it: its LSM for reading, its Raft group for writing.

pub(crate) mod actor;
pub(crate) mod admission;
pub(crate) mod background;
pub(crate) mod in_flight;
pub(crate) mod pressure;
pub(crate) mod promise;
pub(crate) mod serials;
mod staging;
pub(crate) mod two_phase;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use pyralog_storage::{Partition, PartitionId, RelationId, RelationSchema, Snapshot, StorageError, Timestamp, TransactionId, WriteSet};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::clock::Clock;
use crate::codec::{self, Blob, CodecError, EncodedWriteSet};
use crate::error::{ConsensusError, Result};
use crate::log::GroupId;
use crate::node::cluster::Cluster;
use crate::raft::data_machine::{DataMachine, Tables};
use crate::raft::leadership::{self, Leader, Search};
use crate::raft::proposal::{self, Proposal, Refusal};
use crate::raft::read_index::ReadBarrier;
use crate::raft::requests::{Done, Known, Request, RequestId};
use crate::raft::types::{Commit, Outcome, Reply};
use crate::runtime;
use actor::{ActorThread, Propose, Refused};
use admission::Admission;
use background::Work;
use in_flight::InFlight;
use serials::Serials;

/// A write set larger than this is encoded on a blocking thread. Bytes.
const INLINE_ENCODE_BYTES: usize = 256 << 10;

/// Largest write set that goes from node to node: a message holds it. Larger transactions are staged as segments.
const MAX_FORWARDED_BYTES: usize = 64 << 20;

/// How long a write waits for a transaction over several groups that has locked one of its keys, and how often it looks.
const LOCKED_LIMIT: Duration = Duration::from_secs(10);
const LOCKED_PAUSE: Duration = Duration::from_millis(2);

/// A handle on one partition. Cheap to clone.
#[derive(Clone)]
pub struct PartitionHandle {
    inner: Arc<Inner>,
}

struct Inner {
    work: Work,
    actor: ActorThread,
    admission: Arc<Admission>,
    barrier: ReadBarrier<DataMachine>,
    tables: Tables,
    serials: Arc<Serials>,
    cluster: Option<Arc<Cluster>>,
    clock: Arc<Clock>,
    /// Held while the ceiling of promises is raised.
    raising: Arc<tokio::sync::Mutex<()>>,
}

impl PartitionHandle {
    pub(crate) fn new(
        work: Work,
        actor: ActorThread,
        admission: Arc<Admission>,
        tables: Tables,
        cluster: Option<Arc<Cluster>>,
        clock: Arc<Clock>,
    ) -> PartitionHandle {
        let id = work.partition.id();
        let barrier = ReadBarrier::new(id.to_string(), GroupId::data(id.0), work.raft.clone(), cluster.clone());
        PartitionHandle {
            inner: Arc::new(Inner {
                work,
                actor,
                admission,
                barrier,
                tables,
                serials: Serials::new(),
                cluster,
                clock,
                raising: Arc::default(),
            }),
        }
    }

    /// The Raft group of this partition.
    pub(crate) fn group(&self) -> GroupId {
        GroupId::data(self.id().0)
    }

    /// Returns once snapshots taken here see everything that was acknowledged, by any node, before the call.
    pub async fn barrier(&self) -> Result<()> {
        self.inner.barrier.pass().await
    }

    /// Waits until this replica has applied an entry.
    pub(crate) async fn applied(&self, index: u64) -> Result<()> {
        self.inner.barrier.applied(index).await
    }

    pub(crate) fn work(&self) -> &Work {
        &self.inner.work
    }

    pub(crate) fn actor(&self) -> &ActorThread {
        &self.inner.actor
    }

    pub(crate) fn in_flight(&self) -> &Arc<InFlight> {
        self.inner.actor.in_flight()
    }

    pub(crate) fn admission(&self) -> &Arc<Admission> {
        &self.inner.admission
    }

    /// Which partition.
    pub fn id(&self) -> PartitionId {
        self.storage().id()
    }

    /// Its LSM, for scans and transactions. Never write through it.
    pub fn storage(&self) -> &Arc<Partition> {
        &self.inner.work.partition
    }

    /// Pins the newest acknowledged state (or that at `timestamp`).
    pub fn snapshot(&self, timestamp: Option<Timestamp>) -> Result<Snapshot> {
        Ok(self.storage().snapshot(timestamp)?)
    }

    /// What is known of a request, among all that was acknowledged, by any node, before the call.
    pub async fn known(&self, request: RequestId) -> Result<Known> {
        self.barrier().await?;
        Ok(self.inner.tables.requests.look(request))
    }

    /// Settles a request whose outcome its author does not know: it was carried out (`Some`), or it never will be.
    pub async fn settle(&self, request: RequestId) -> Result<Option<Done>> {
        match self.propose(Proposal::Void(request), None).await {
            Ok(commit) => Ok(commit.and_then(|commit| {
                let rows = commit.repeated?;
                Some(Done {
                    timestamp: commit.timestamp,
                    rows,
                })
            })),
            Err(ConsensusError::Void) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replicates and applies a write set; returns its commit timestamp once it is durable and visible.
    ///
    /// When the returned future is dropped after the write was proposed, the write still completes.
    pub async fn commit(&self, write_set: WriteSet) -> Result<Timestamp> {
        Ok(self.carry_out(write_set, None).await?.timestamp)
    }

    /// As [`Self::commit`], for a request that has a name: one that was carried out before is not carried out again.
    pub async fn carry_out(&self, write_set: WriteSet, request: Option<Request>) -> Result<Commit> {
        let mut staged = Unproposed {
            partition: self.storage().clone(),
            write_set: Some(Arc::new(write_set)),
        };
        self.check()?;
        self.inner.work.pressure.admit().await?;
        let Some(write_set) = staged.write_set.clone() else {
            return Err(ConsensusError::Unavailable("the write set is gone".to_owned()));
        };
        let encoded = encode(write_set).await?;
        let serial = match request {
            // Others may take over what this node asked of a leader that is gone.
            None if !self.inner.barrier.is_alone() => Some(self.inner.serials.begin()),
            _ => None,
        };
        let proposal = match request.or(serial.as_ref().map(|serial| serial.request)) {
            Some(request) => Proposal::Request(request, encoded),
            None => Proposal::Write(encoded),
        };
        match self.propose(proposal, Some(&mut staged)).await? {
            // Its author has asked once: that an earlier try of this node's was the one is nothing to be told.
            Some(commit) if request.is_none() => Ok(Commit { repeated: None, ..commit }),
            Some(commit) => Ok(commit),
            None => Err(ConsensusError::Unknown("unexpected answer of the group".to_owned())),
        }
    }

    /// Makes a relation (idempotent).
    pub async fn create_relation(&self, schema: RelationSchema) -> Result<()> {
        let bytes = codec::encode_schema(&schema).map_err(codec_error)?;
        self.propose(Proposal::CreateRelation(Blob(bytes)), None).await.map(drop)
    }

    /// Changes a relation's schema.
    pub async fn alter_relation(&self, schema: RelationSchema) -> Result<()> {
        let bytes = codec::encode_schema(&schema).map_err(codec_error)?;
        self.propose(Proposal::AlterRelation(Blob(bytes)), None).await.map(drop)
    }

    /// Removes a relation (idempotent).
    pub async fn drop_relation(&self, relation: RelationId) -> Result<()> {
        self.propose(Proposal::DropRelation(relation), None).await.map(drop)
    }

    /// Flushes the memtable, so that every row applied before is in segments; then lets the log go up to there.
    pub async fn checkpoint(&self) -> Result<()> {
        self.inner.work.flush().await
    }

    /// Compacts one relation, or all. Rows that were deleted before every open transaction began are freed.
    pub async fn compact(&self, relation: Option<RelationId>) -> Result<()> {
        let partition = self.storage();
        let newest = partition.last_timestamp();
        let floor = partition.oldest_pinned().map_or(newest, |oldest| oldest.min(newest));
        self.propose(Proposal::AdvanceConflictFloor(floor), None).await?;
        self.inner.work.blocking(move |partition| partition.compact_all(relation)).await
    }

    fn check(&self) -> Result<()> {
        match self.inner.work.log.failure() {
            Some(failure) => Err(ConsensusError::Unavailable(failure)),
            None => Ok(()),
        }
    }

    /// Proposes at the group's leader and waits. `staged` keeps its files from the moment on at which the proposal may be in the log; from
    /// then on the state machine sees to them. A proposal with a name is sent again where its outcome is unknown.
    async fn propose(&self, proposal: Proposal, staged: Option<&mut Unproposed>) -> Result<Option<Commit>> {
        self.outcome(proposal, staged).await?.into_commit()
    }

    async fn outcome(&self, proposal: Proposal, mut staged: Option<&mut Unproposed>) -> Result<Outcome> {
        self.check()?;
        let mut search = Search::new(self.id().to_string(), &self.inner.work.raft);
        let has_files = staged.as_ref().is_some_and(|staged| staged.has_files());
        let repeatable = proposal.is_repeatable() && !has_files;
        let mut unknown = None;
        let mut locked_since = None;
        let known = |error, unknown: Option<String>| unknown.map_or(error, ConsensusError::Unknown);
        loop {
            let leader = match search.find().await {
                Ok(leader) => leader,
                Err(error) => return Err(known(error, unknown)),
            };
            let write_set = staged.as_mut().and_then(|staged| staged.write_set.take());
            let reason = match self.propose_at(leader, proposal.clone()).await {
                // Nothing was written. Had it files, they would be gone.
                Ok(Outcome::Stale) if !has_files => None,
                Ok(Outcome::Locked { .. })
                    if proposal.waits() && !has_files && locked_since.get_or_insert_with(Instant::now).elapsed() < LOCKED_LIMIT =>
                {
                    if let Some(staged) = staged.as_mut() {
                        staged.write_set = write_set;
                    }
                    self.unlocked(locked_since).await;
                    continue;
                }
                Ok(outcome) => return Ok(outcome),
                Err(Refusal::Unknown(reason)) if repeatable => {
                    unknown = Some(reason.clone());
                    Some(reason)
                }
                Err(refusal @ Refusal::Unknown(_)) => return Err(refusal.into_error()),
                Err(refusal) => {
                    // Nothing was written after all.
                    if let Some(staged) = staged.as_mut() {
                        staged.write_set = write_set;
                    }
                    match refusal {
                        Refusal::NotLeader => None,
                        refusal => return Err(known(refusal.into_error(), unknown)),
                    }
                }
            };
            if let Err(error) = search.refused(reason).await {
                return Err(known(error, unknown));
            }
        }
    }

    /// Waits for the end of a transaction that is prepared now: a try costs an entry of the log.
    async fn unlocked(&self, since: Option<Instant>) {
        let prepared = || {
            self.storage()
                .undecided(Timestamp::MAX)
                .into_iter()
                .map(|(transaction, _)| transaction)
        };
        let before: HashSet<TransactionId> = prepared().collect();
        loop {
            sleep(LOCKED_PAUSE).await;
            let is_late = since.is_none_or(|since| since.elapsed() >= LOCKED_LIMIT);
            let left = prepared().filter(|transaction| before.contains(transaction)).count();
            if is_late || before.is_empty() || left < before.len() {
                return;
            }
        }
    }

    /// Whether nothing of the group has failed at this node.
    pub(crate) fn is_whole(&self) -> bool {
        self.inner.work.log.failure().is_none() && self.inner.work.raft.metrics().borrow_watched().running_state.is_ok()
    }

    /// Whether this node leads the group, which works.
    pub(crate) fn leads(&self) -> bool {
        let metrics = self.inner.work.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.running_state.is_ok() && leadership::leads(&metrics)
    }

    async fn propose_at(&self, leader: Leader, proposal: Proposal) -> Result<Outcome, Refusal> {
        match (leader, &self.inner.cluster) {
            (Leader::There(node), Some(cluster)) => {
                let bytes = proposal.byte_size();
                if bytes > MAX_FORWARDED_BYTES {
                    return Err(Refusal::Unavailable(format!(
                        "a write of {bytes} bytes is larger than the {MAX_FORWARDED_BYTES} that nodes replicate in one piece; split it"
                    )));
                }
                let _place = self.inner.admission.enter(bytes).await.map_err(refusal)?;
                cluster.forward(node, self.group(), proposal).await
            }
            _ => self.propose_here(proposal).await,
        }
    }

    /// Proposes at this node, if it leads.
    pub(crate) async fn propose_here(&self, proposal: Proposal) -> Result<Outcome, Refusal> {
        if let Some(failure) = self.inner.work.log.failure() {
            return Err(Refusal::Unavailable(failure));
        }
        // Also for those who were told that this node leads: before it has applied what earlier leaders left, its clock may be behind theirs.
        if !leadership::leads(&self.inner.work.raft.metrics().borrow_watched()) {
            return Err(Refusal::NotLeader);
        }
        // First: files that were brought to others for what is refused then stay there until they start again.
        let place = self.inner.admission.enter(proposal.byte_size()).await.map_err(refusal)?;
        if self.spread_staged(&proposal).await && !leadership::leads(&self.inner.work.raft.metrics().borrow_watched()) {
            return Err(Refusal::NotLeader);
        }
        let (reply, receiver) = Reply::new(Some(Box::new(place)));
        let (refused, told) = oneshot::channel();
        self.inner
            .actor
            .propose(Propose { proposal, reply, refused })
            .map_err(|refused| self.refused(refused))?;
        match proposal::outcome(receiver, &self.inner.work.raft, &self.inner.work.log).await {
            Err(unknown @ Refusal::Unknown(_)) => match told.await {
                Ok(refused) => Err(self.refused(refused)),
                // The actor dropped the sender: it handed the proposal over, so it may be in the log.
                Err(_) => Err(unknown),
            },
            answer => answer,
        }
    }

    fn refused(&self, refused: Refused) -> Refusal {
        match refused {
            Refused::Full => Refusal::Overloaded(self.inner.admission.in_flight()),
            Refused::Stopped(reason) => Refusal::Unavailable(self.inner.work.log.failure().unwrap_or(reason)),
        }
    }
}

fn refusal(error: ConsensusError) -> Refusal {
    match error {
        ConsensusError::Overloaded { waiting } => Refusal::Overloaded(waiting),
        error => Refusal::Unavailable(error.to_string()),
    }
}

/// A write set that nobody has proposed yet: its staged files go when it is dropped.
struct Unproposed {
    partition: Arc<Partition>,
    write_set: Option<Arc<WriteSet>>,
}

impl Unproposed {
    fn has_files(&self) -> bool {
        let mut relations = self.write_set.iter().flat_map(|write_set| &write_set.relations);
        relations.any(|writes| !writes.staged.is_empty())
    }
}

impl Drop for Unproposed {
    fn drop(&mut self) {
        if let Some(write_set) = self.write_set.as_ref().filter(|_| self.has_files()) {
            self.partition.discard(write_set);
        }
    }
}

async fn encode(write_set: Arc<WriteSet>) -> Result<EncodedWriteSet> {
    let batches = write_set
        .relations
        .iter()
        .flat_map(|writes| writes.puts.iter().chain(&writes.deletes));
    let bytes: usize = batches.map(|batch| batch.get_array_memory_size()).sum();
    if bytes <= INLINE_ENCODE_BYTES {
        return EncodedWriteSet::new(write_set).map_err(codec_error);
    }
    let encode = runtime::blocking(move || EncodedWriteSet::new(write_set));
    encode
        .await
        .map_err(|e| ConsensusError::Unavailable(format!("encoding panicked: {e}")))?
        .map_err(codec_error)
}

fn codec_error(error: CodecError) -> ConsensusError {
    let error = match error {
        CodecError::Arrow(error) => StorageError::Arrow(error),
        CodecError::TooLarge { bytes } => StorageError::TransactionTooLarge {
            bytes: bytes as u64,
            limit: crate::log::MAX_PAYLOAD_BYTES as u64,
        },
        CodecError::MixedSchemas(relation) => StorageError::SchemaMismatch {
            relation,
            detail: error.to_string(),
        },
        other => StorageError::Arrow(arrow_schema::ArrowError::IpcError(other.to_string())),
    };
    ConsensusError::Storage(error)
}
