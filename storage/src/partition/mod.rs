//! One partition: an LSM that holds every relation's rows of one hash range.
//!
//! The way of a write: [`Partition::apply`] finds the older version of each key (memtables by index, segments by key range, bloom filter
//! and key index), records its end, and adds the new row to the active memtable. [`Partition::flush`] seals the memtables and writes them
//! as segments; compaction merges segments. So a scan merges nothing: each source only masks rows.
//!
//! Invariants:
//! - At most one version of a key is live (has no end). A row is visible at T iff it begins at or before T and does not end at or before T.
//! - There are no tombstones: where a row lies does not matter for what is visible, so levels only serve reading.
//! - The manifest holds exactly the effect of the log up to its applied position. Later deletes of rows in its segments stay in memory.
//! - What one replica decides about a write set, every replica decides, whatever it has flushed or compacted. So a deletion's trace stays
//!   until the conflict floor, which only the log moves, has passed it.
//!
//! Locks, outermost first: flush, compaction, manifest, applied, version. `apply` takes only the last two.

mod apply;
mod delete_overlay;
mod files;
mod flush;
mod ingest;
mod live_segment;
mod lookup;
mod pins;
mod prepared;
mod prepared_file;
mod reads;
mod replace;
mod replica;
mod version;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::error::{Result, StorageError};
use crate::ids::{PartitionId, RelationId, SegmentId, Timestamp, TransactionId};
use crate::manifest::Manifest;
use crate::schema::RelationSchema;
use crate::snapshot::Snapshot;
use crate::transaction::Transaction;
use crate::write_set::WriteSet;

pub(crate) use apply::key_columns;
pub(crate) use delete_overlay::DeleteLog;
pub(crate) use live_segment::LiveSegment;
pub(crate) use pins::{Pin, Pins};
use prepared::Part;
pub(crate) use replace::{Output, Replacement, RowMap};
pub use replica::ReplicaFile;
pub(crate) use version::{RelationVersion, SegmentSet, Version};

/// A write set whose transaction began longer than this before the newest commit of its partition is refused as a conflict (unless it is
/// [`crate::ConflictPolicy::LastWriteWins`]): until then traces of deleted keys are kept.
pub const CONFLICT_WINDOW_MS: u64 = 60 * 60 * 1000;

/// Flushes and background compactions keep versions this much longer than nobody needs them, for readers that pick one timestamp for
/// several partitions.
pub const SNAPSHOT_GRACE_MS: u64 = 5_000;

/// However many partitions share a memory, each gets this much, if there is as much at all. Bytes.
const LEAST_SHARE_BYTES: u64 = 2 << 20;

/// How a partition uses memory and disk.
#[derive(Debug, Clone)]
pub struct PartitionOptions {
    /// A memtable larger than this is sealed and flushed. Bytes.
    pub memtable_bytes: u64,
    /// A transaction holds at most this many bytes of new rows in memory before it stages a segment.
    pub transaction_bytes: u64,
    /// A transaction may hold at most this many bytes of deletes and in-place updates.
    pub transaction_limit_bytes: u64,
    /// Target size of a segment file, in bytes.
    pub segment_bytes: u64,
    /// Rows of one Arrow record batch within a segment.
    pub batch_rows: usize,
    /// How long superseded versions stay readable (`FOR SYSTEM_TIME AS OF`), in milliseconds.
    pub retention_ms: u64,
    /// Segments in level 0 that start a compaction.
    pub level0_segments: usize,
}

impl Default for PartitionOptions {
    fn default() -> Self {
        PartitionOptions {
            memtable_bytes: 64 << 20,
            transaction_bytes: 48 << 20,
            transaction_limit_bytes: 512 << 20,
            segment_bytes: 128 << 20,
            batch_rows: 8192,
            retention_ms: 0,
            level0_segments: 4,
        }
    }
}

impl PartitionOptions {
    /// The same memory for so many partitions together.
    pub fn shared_by(self, partitions: u64) -> Self {
        let share = |bytes: u64| (bytes / partitions.max(1)).max(LEAST_SHARE_BYTES.min(bytes));
        PartitionOptions {
            memtable_bytes: share(self.memtable_bytes),
            transaction_bytes: share(self.transaction_bytes),
            transaction_limit_bytes: share(self.transaction_limit_bytes),
            ..self
        }
    }
}

/// The log position a partition has applied, with a payload of consensus' own that is stored and given back as it is.
#[derive(Debug, Clone)]
pub struct AppliedState {
    /// Index of the last applied entry; 0 when none.
    pub index: u64,
    /// Opaque to storage (log id, membership, requests that were carried out).
    pub payload: Arc<dyn AppliedPayload>,
}

impl Default for AppliedState {
    fn default() -> Self {
        AppliedState {
            index: 0,
            payload: Arc::new(Bytes::new()),
        }
    }
}

impl PartialEq for AppliedState {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |state: &AppliedState| state.payload.encode().ok();
        self.index == other.index && bytes(self).is_some() && bytes(self) == bytes(other)
    }
}

/// What consensus stores with an applied position. Many entries are applied for each that is stored, so it becomes bytes only then.
pub trait AppliedPayload: Debug + Send + Sync {
    /// Its bytes; the same at each call.
    fn encode(&self) -> io::Result<Bytes>;
}

impl AppliedPayload for Bytes {
    fn encode(&self) -> io::Result<Bytes> {
        Ok(self.clone())
    }
}

/// What a log entry asks a partition to do.
#[derive(Debug, Clone)]
pub enum PartitionCommand {
    /// Apply a write set at a commit timestamp.
    Write(Timestamp, Arc<WriteSet>),
    /// Check a part of a transaction over several partitions, lock what it writes and keep it until it is decided. Its commit is not before
    /// the timestamp, which is above that of every earlier entry.
    Prepare(TransactionId, Timestamp, Arc<WriteSet>),
    /// Apply a prepared part at a commit timestamp, which is not below that of any part of its transaction.
    Decide(TransactionId, Timestamp),
    /// Forget a prepared part; no error if there is none.
    Abort(TransactionId),
    /// Make a relation; no error if the same one exists.
    CreateRelation(RelationSchema),
    /// Change a relation's schema to a later version.
    AlterRelation(RelationSchema),
    /// Remove a relation and its files; no error if it is gone.
    DropRelation(RelationId),
    /// Promise that no write set with an earlier start will follow: later ones are refused as conflicts. Lets compaction forget deleted keys
    /// sooner than [`CONFLICT_WINDOW_MS`].
    AdvanceConflictFloor(Timestamp),
    /// Only move the applied position.
    Nothing,
}

/// The answer to a [`PartitionCommand`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// Done.
    Applied,
    /// Refused by first-committer-wins; nothing changed.
    Conflict(WriteConflict),
}

/// Which key was changed by somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteConflict {
    /// The relation.
    pub relation: RelationId,
    /// The key, readable.
    pub key: String,
    /// Whether that change is prepared and not decided yet: once it is, the write may be tried again.
    pub is_locked: bool,
}

/// Counts for metrics and `SHOW`.
#[derive(Debug, Clone, Default)]
pub struct PartitionStatus {
    /// Segment files.
    pub segments: u64,
    /// Bytes of segment files.
    pub segment_bytes: u64,
    /// Bytes in memtables (active and sealed).
    pub memtable_bytes: u64,
    /// Flushes since start.
    pub flushes: u64,
    /// Compactions since start.
    pub compactions: u64,
    /// The highest commit timestamp applied.
    pub last_timestamp: Timestamp,
    /// The index up to which everything is in segments.
    pub flushed_index: u64,
    /// Parts of transactions over several partitions that are prepared and not decided.
    pub undecided: u64,
}

/// What applying changes, beside memtables and delete overlays.
#[derive(Debug, Default)]
struct Applied {
    state: AppliedState,
    /// Write sets that started earlier are refused.
    conflict_floor: Timestamp,
    /// Relations that a stored manifest still names.
    dropped: BTreeMap<RelationId, Arc<RelationVersion>>,
    /// Staged segments of refused write sets, whose markers must stay until the log no longer holds them.
    refused: Vec<SegmentId>,
    /// Segments of parts that were aborted, whose files must stay until the log no longer holds what prepared them.
    abandoned: Vec<(RelationId, SegmentId)>,
    /// Whether something was applied since the last flush began.
    changed: bool,
}

/// A timestamp whose versions are kept.
#[derive(Debug)]
pub struct Pinned(Arc<Pin>);

/// Counters since start.
#[derive(Debug, Default)]
struct Counters {
    flushes: AtomicU64,
    compactions: AtomicU64,
}

/// One partition's LSM. All methods take `&self`; `apply` is called by one thread at a time.
///
/// Commit timestamps may come in any order, but a snapshot at T is stable only if no commit at or below T is applied after it was taken:
/// transactions that are prepared and not decided are waited for, or T is before them ([`Self::stable_timestamp`]).
pub struct Partition {
    id: PartitionId,
    dir: PathBuf,
    options: PartitionOptions,
    version: RwLock<Arc<Version>>,
    applied: Mutex<Applied>,
    /// Parts of transactions that are not decided. Changed by `apply` only.
    prepared: RwLock<BTreeMap<TransactionId, Arc<Part>>>,
    last_timestamp: AtomicU64,
    pins: Arc<Pins>,
    manifest: Mutex<Manifest>,
    /// The manifest's applied position, to be read without waiting for an edit.
    durable: RwLock<AppliedState>,
    flushing: Mutex<()>,
    compacting: Mutex<()>,
    next_segment: AtomicU64,
    next_staged: AtomicU64,
    /// Staged segments that belong to a transaction or a write set of this process.
    claimed: Mutex<HashMap<SegmentId, RelationId>>,
    /// Counts up when another replica's state begins to take the place of this one's, and when it has.
    take_overs: AtomicU64,
    poisoned: Mutex<Option<String>>,
    counters: Counters,
}

impl Partition {
    /// Opens or makes a partition in `dir`. Recovers the state of the last manifest; the caller then replays the log from
    /// [`Self::flushed`] on, and calls [`Self::collect_garbage`].
    pub fn open(id: PartitionId, dir: &Path, options: PartitionOptions) -> Result<Arc<Partition>> {
        std::fs::create_dir_all(dir.join(files::STAGING)).map_err(StorageError::io(dir, "create"))?;
        match std::fs::remove_dir_all(dir.join(files::EXCHANGE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(StorageError::io(dir, "clear")(error)),
            _ => {}
        }
        files::forget_arrived(dir).map_err(StorageError::io(dir.join(files::ARRIVED), "clear"))?;
        let manifest = Manifest::load(dir)?.unwrap_or_default();
        let mut version = Version::default();
        for relation in &manifest.relations {
            let relation_dir = files::relation_dir(dir, relation.schema.id);
            let segments: Vec<_> = relation
                .segments
                .iter()
                .map(|entry| LiveSegment::open(&relation_dir, entry).map(Arc::new))
                .collect::<Result<_>>()?;
            let mut opened = RelationVersion::empty(relation.schema.clone(), options.batch_rows)?;
            opened.segments = Arc::new(SegmentSet::new(segments));
            version.relations.insert(relation.schema.id, Arc::new(opened));
        }
        let applied = Applied {
            state: manifest.applied.clone(),
            conflict_floor: manifest.conflict_floor,
            ..Applied::default()
        };
        let next_segment = manifest.next_segment.max(files::largest_local_segment(dir)? + 1);
        let parts = prepared_file::load(dir, &version, &manifest.prepared)?;
        Ok(Arc::new(Partition {
            id,
            dir: dir.to_owned(),
            options,
            version: RwLock::new(Arc::new(version)),
            applied: Mutex::new(applied),
            prepared: RwLock::new(parts),
            last_timestamp: AtomicU64::new(manifest.last_timestamp.0),
            pins: Pins::new(manifest.horizon),
            durable: RwLock::new(manifest.applied.clone()),
            manifest: Mutex::new(manifest),
            flushing: Mutex::new(()),
            compacting: Mutex::new(()),
            next_segment: AtomicU64::new(next_segment),
            next_staged: AtomicU64::new(files::STAGED_BIT | random_bits()),
            claimed: Mutex::default(),
            take_overs: AtomicU64::new(0),
            poisoned: Mutex::new(None),
            counters: Counters::default(),
        }))
    }

    /// Which partition this is.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// What is durable in segments: replay starts behind it.
    pub fn flushed(&self) -> AppliedState {
        self.durable.read().clone()
    }

    /// What has been applied, in memory or on disk.
    pub fn applied(&self) -> AppliedState {
        self.applied.lock().state.clone()
    }

    /// The highest commit timestamp applied: the newest snapshot.
    pub fn last_timestamp(&self) -> Timestamp {
        Timestamp(self.last_timestamp.load(Ordering::Acquire))
    }

    /// The oldest timestamp that a reader of this process uses. A leader may promise at most this much with
    /// [`PartitionCommand::AdvanceConflictFloor`].
    pub fn oldest_pinned(&self) -> Option<Timestamp> {
        self.pins.oldest()
    }

    /// Pins the state at `timestamp` (at most [`Self::last_timestamp`], to which a later one is lowered; `None`: the newest that does not
    /// change any more).
    pub fn snapshot(self: &Arc<Self>, timestamp: Option<Timestamp>) -> Result<Snapshot> {
        loop {
            let changes = self.take_overs.load(Ordering::Acquire);
            let pin = self
                .pins
                .pin(|| timestamp.map_or_else(|| self.stable_timestamp(), |wanted| wanted.min(self.last_timestamp())));
            // The version is taken after the pin: it holds every commit up to the timestamp, and nothing that the reader needs is forgotten.
            let version = self.version();
            if changes.is_multiple_of(2) && self.take_overs.load(Ordering::Acquire) == changes {
                return Ok(Snapshot::new(Arc::new(pin?), version));
            }
            // Another replica's state takes the place of this one's at this very moment: timestamp and version may be of different ones.
            std::thread::yield_now();
        }
    }

    /// Keeps every version that a reader at `timestamp` needs, until it is dropped. For readers that must wait before they take
    /// [`Self::pinned_snapshot`].
    pub fn pin(&self, timestamp: Timestamp) -> Result<Pinned> {
        Ok(Pinned(Arc::new(self.pins.pin(|| timestamp)?)))
    }

    /// The state at a pinned timestamp, whatever it is: the caller knows that no commit at or before it is outstanding.
    pub fn pinned_snapshot(&self, pinned: Pinned) -> Result<Snapshot> {
        let version = self.version();
        // A pin holds the horizon, unless another replica's state has taken the place of this one's: it may have no versions as old.
        let (requested, horizon) = (pinned.0.timestamp(), self.pins.horizon());
        match requested < horizon {
            true => Err(StorageError::SnapshotTooOld { requested, horizon }),
            false => Ok(Snapshot::new(pinned.0, version)),
        }
    }

    /// Starts a transaction over a snapshot.
    pub fn begin(self: &Arc<Self>, snapshot: Snapshot) -> Transaction {
        Transaction::new(self.clone(), snapshot)
    }

    /// Whether the active memtable is full, so that [`Self::flush`] is due.
    pub fn needs_flush(&self) -> bool {
        let version = self.version();
        let bytes = |relation: &Arc<RelationVersion>| {
            relation.active.bytes()
                + relation
                    .segments
                    .all()
                    .iter()
                    .map(|segment| segment.deletes().unflushed_bytes())
                    .sum::<u64>()
        };
        version.relations.values().map(bytes).sum::<u64>() >= self.options.memtable_bytes
    }

    /// Counts.
    pub fn status(&self) -> PartitionStatus {
        let version = self.version();
        let mut status = PartitionStatus {
            flushes: self.counters.flushes.load(Ordering::Relaxed),
            compactions: self.counters.compactions.load(Ordering::Relaxed),
            last_timestamp: self.last_timestamp(),
            flushed_index: self.flushed().index,
            undecided: self.prepared.read().len() as u64,
            ..PartitionStatus::default()
        };
        for relation in version.relations.values() {
            status.segments += relation.segments.all().len() as u64;
            status.segment_bytes += relation.segments.all().iter().map(|segment| segment.info().bytes).sum::<u64>();
            status.memtable_bytes += relation.memtables().map(|memtable| memtable.bytes()).sum::<u64>();
        }
        status
    }

    /// Schemas of all relations.
    pub fn relations(&self) -> Vec<Arc<RelationSchema>> {
        self.version().relations.values().map(|relation| relation.schema.clone()).collect()
    }

    /// The present schema of a relation.
    pub fn relation_schema(&self, relation: RelationId) -> Option<Arc<RelationSchema>> {
        Some(self.version().relations.get(&relation)?.schema.clone())
    }

    /// Where the partition's files are.
    pub fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// Its options.
    pub(crate) fn options(&self) -> &PartitionOptions {
        &self.options
    }

    pub(crate) fn version(&self) -> Arc<Version> {
        self.version.read().clone()
    }

    /// An id for a segment that a flush or compaction writes.
    pub(crate) fn allot_segment(&self) -> SegmentId {
        SegmentId(self.next_segment.fetch_add(1, Ordering::Relaxed))
    }

    fn check_poison(&self) -> Result<()> {
        match &*self.poisoned.lock() {
            Some(reason) => Err(StorageError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// After a failed write: nothing more is written.
    fn poison<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.poisoned.lock().get_or_insert_with(|| error.to_string());
        }
        result
    }

    /// One compaction at a time.
    pub(crate) fn lock_compaction(&self) -> MutexGuard<'_, ()> {
        self.compacting.lock()
    }

    /// Counts a compaction.
    pub(crate) fn count_compaction(&self) {
        self.counters.compactions.fetch_add(1, Ordering::Relaxed);
    }

    /// The timestamp up to which superseded versions may be forgotten now; nobody can read before it any more.
    pub(crate) fn forgettable(&self, grace: bool) -> Timestamp {
        self.pins.advance(self.wanted_horizon(grace))
    }

    /// The newest version that may be forgotten by what runs in the background (`grace`), or by explicit request.
    fn wanted_horizon(&self, grace: bool) -> Timestamp {
        let keep_ms = if grace {
            self.options.retention_ms.max(SNAPSHOT_GRACE_MS)
        } else {
            self.options.retention_ms
        };
        // What is prepared commits later: not behind anybody's back.
        before(self.stable_timestamp(), keep_ms)
    }
}

/// `timestamp`, `millis` earlier.
fn before(timestamp: Timestamp, millis: u64) -> Timestamp {
    Timestamp(
        timestamp
            .0
            .saturating_sub(Timestamp::from_millis(millis.min(u64::MAX >> Timestamp::COUNTER_BITS)).0),
    )
}

/// The random middle part of staged ids: replicas stage independently of each other, and ids must differ.
fn random_bits() -> u64 {
    (RandomState::new().build_hasher().finish() & ((1 << 43) - 1)) << 20
}
