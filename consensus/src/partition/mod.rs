//! A partition as the layers above use it: its LSM for reading, its Raft group for writing.

pub(crate) mod actor;
pub(crate) mod admission;
pub(crate) mod background;
pub(crate) mod pressure;

use std::sync::Arc;

use pyralog_storage::{Partition, PartitionId, RelationId, RelationSchema, Snapshot, StorageError, Timestamp, WriteSet};
use tokio::sync::oneshot;

use crate::codec::{self, Blob, CodecError, EncodedWriteSet};
use crate::error::{ConsensusError, Result};
use crate::raft::proposal;
use crate::raft::types::Reply;
use actor::{ActorThread, Proposal, Propose, Refused};
use admission::Admission;
use background::Work;

/// A write set larger than this is encoded on a blocking thread. Bytes.
const INLINE_ENCODE_BYTES: usize = 256 << 10;

/// A handle on one partition. Cheap to clone.
#[derive(Clone)]
pub struct PartitionHandle {
    inner: Arc<Inner>,
}

struct Inner {
    work: Work,
    actor: ActorThread,
    admission: Arc<Admission>,
}

impl PartitionHandle {
    pub(crate) fn new(work: Work, actor: ActorThread, admission: Arc<Admission>) -> PartitionHandle {
        PartitionHandle {
            inner: Arc::new(Inner { work, actor, admission }),
        }
    }

    pub(crate) fn work(&self) -> &Work {
        &self.inner.work
    }

    pub(crate) fn actor(&self) -> &ActorThread {
        &self.inner.actor
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

    /// Replicates and applies a write set; returns its commit timestamp once it is durable and visible.
    ///
    /// When the returned future is dropped after the write was proposed, the write still completes.
    pub async fn commit(&self, write_set: WriteSet) -> Result<Timestamp> {
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
        match self
            .propose(encoded.byte_size(), Proposal::Write(encoded), Some(&mut staged))
            .await?
        {
            Some(timestamp) => Ok(timestamp),
            None => Err(ConsensusError::Unknown("unexpected answer of the group".to_owned())),
        }
    }

    /// Makes a relation (idempotent).
    pub async fn create_relation(&self, schema: RelationSchema) -> Result<()> {
        let bytes = codec::encode_schema(&schema).map_err(codec_error)?;
        self.propose(bytes.len(), Proposal::CreateRelation(Blob(bytes)), None)
            .await
            .map(drop)
    }

    /// Changes a relation's schema.
    pub async fn alter_relation(&self, schema: RelationSchema) -> Result<()> {
        let bytes = codec::encode_schema(&schema).map_err(codec_error)?;
        self.propose(bytes.len(), Proposal::AlterRelation(Blob(bytes)), None)
            .await
            .map(drop)
    }

    /// Removes a relation (idempotent).
    pub async fn drop_relation(&self, relation: RelationId) -> Result<()> {
        self.propose(0, Proposal::DropRelation(relation), None).await.map(drop)
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
        self.propose(0, Proposal::AdvanceConflictFloor(floor), None).await?;
        self.inner.work.blocking(move |partition| partition.compact_all(relation)).await
    }

    fn check(&self) -> Result<()> {
        match self.inner.work.log.failure() {
            Some(failure) => Err(ConsensusError::Unavailable(failure)),
            None => Ok(()),
        }
    }

    /// Proposes and waits. `staged` keeps its files from the moment on at which the proposal may be in the log; from then on the state
    /// machine sees to them.
    async fn propose(&self, bytes: usize, proposal: Proposal, mut staged: Option<&mut Unproposed>) -> Result<Option<Timestamp>> {
        self.check()?;
        let place = self.inner.admission.enter(bytes).await?;
        let (reply, receiver) = Reply::new(Some(Box::new(place)));
        let (refused, refusal) = oneshot::channel();
        self.inner
            .actor
            .propose(Propose { proposal, reply, refused })
            .map_err(|refused| self.refused(refused))?;
        let write_set = staged.as_mut().and_then(|staged| staged.write_set.take());
        let error = match proposal::outcome(receiver, &self.inner.work.log).await {
            Ok(outcome) => return outcome.into_commit(),
            Err(error @ ConsensusError::Unavailable(_)) => error,
            Err(unknown) => match refusal.await {
                Ok(refused) => self.refused(refused),
                // The actor dropped the sender: it handed the proposal over, so it may be in the log.
                Err(_) => return Err(unknown),
            },
        };
        // Nothing was written after all.
        if let Some(staged) = staged {
            staged.write_set = write_set;
        }
        Err(error)
    }

    fn refused(&self, refused: Refused) -> ConsensusError {
        match refused {
            Refused::Full => ConsensusError::Overloaded {
                waiting: self.inner.admission.in_flight(),
            },
            Refused::Stopped(reason) => ConsensusError::Unavailable(self.inner.work.log.failure().unwrap_or(reason)),
        }
    }
}

/// A write set that nobody has proposed yet: its staged files go when it is dropped.
struct Unproposed {
    partition: Arc<Partition>,
    write_set: Option<Arc<WriteSet>>,
}

impl Drop for Unproposed {
    fn drop(&mut self) {
        if let Some(write_set) = &self.write_set
            && write_set.relations.iter().any(|writes| !writes.staged.is_empty())
        {
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
    let encode = tokio::task::spawn_blocking(move || EncodedWriteSet::new(write_set));
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
