//! Opening a node, in order: lock, FORMAT, log, meta group, data groups. Each step relies on those before it only.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openraft::SnapshotPolicy;
use pyralog_storage::{Partition, PartitionId, StorageError, Timestamp};
use tokio::sync::watch;

use super::NodeConfig;
use super::cluster::Cluster;
use super::format::{FOUNDER, Format};
use super::lock::DirectoryLock;
use super::service::Groups;
use super::transactions::Coordinator;
use crate::clock::Clock;
use crate::error::{ConsensusError, Result};
use crate::log::disk::Disk;
use crate::log::{GroupId, Log, LogConfig};
use crate::meta::state::MetaState;
use crate::meta::{self, Meta};
use crate::partition::PartitionHandle;
use crate::partition::actor::ActorThread;
use crate::partition::admission::Admission;
use crate::partition::background::Work;
use crate::partition::pressure::Pressure;
use crate::raft::data_machine::{self, DataMachine, Tables};
use crate::raft::group::{self, Start};
use crate::raft::log_store::LogStore;
use crate::raft::meta_machine::MetaMachine;
use crate::raft::retained::Retained;
use crate::raft::snapshot;
use crate::runtime;

/// Data partitions of a node, at most.
const MAX_PARTITIONS: u32 = 64;
/// The meta group dumps its state after this many entries.
const META_SNAPSHOT_ENTRIES: u64 = 512;
/// Log bytes, in files' and memtables' sizes, at which a memtable is flushed though it is not full.
const LOG_FILES: u64 = 4;

/// How long to wait for a leader before garbage is tried again.
const GARBAGE_PAUSE: Duration = Duration::from_secs(1);

/// Runs blocking work off the async workers.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    runtime::blocking(work)
        .await
        .map_err(|e| ConsensusError::Unavailable(format!("a blocking task failed: {e}")))?
}

/// Makes a directory and those above it, and their names durable: what is synced within it must not vanish with its name.
fn make_dir(dir: &Path) -> Result<(), StorageError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    make_dir(parent)?;
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(StorageError::io(dir, "create directory")(error)),
        _ => {}
    }
    File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(StorageError::io(parent, "sync directory"))
}

/// Refuses as many data partitions as this version cannot serve.
pub(super) fn check_partitions(config: &NodeConfig, partitions: u32) -> Result<()> {
    let reason = match partitions {
        0..=1 => return Ok(()),
        _ if !partitions.is_power_of_two() => "not a power of two".to_owned(),
        _ if partitions > MAX_PARTITIONS => format!("more than {MAX_PARTITIONS}"),
        _ => return Ok(()),
    };
    let dir = config.data_dir.display();
    Err(ConsensusError::Unsupported(format!(
        "{dir}: {partitions} data partitions are {reason}"
    )))
}

/// Lock, and format if the directory has one.
pub(super) fn open_directory(config: &NodeConfig) -> Result<(Arc<DirectoryLock>, Option<Format>)> {
    let dir = config.data_dir.as_path();
    make_dir(dir)?;
    let lock = Arc::new(DirectoryLock::take(dir)?);
    let format = Format::open(dir, config.partitions)?;
    check_partitions(config, format.as_ref().map_or(config.partitions, |format| format.partitions))?;
    Ok((lock, format))
}

/// The log.
pub(super) fn open_log(config: &NodeConfig, disk: Arc<dyn Disk>) -> Result<Log> {
    let dir = config.data_dir.as_path();
    // Meta and partitions are made after the log, so where they are, there was one.
    let may_create = !dir.join("meta").exists() && !dir.join("partitions").exists();
    make_dir(&dir.join("log"))?;
    Log::open(LogConfig {
        dir: dir.join("log"),
        file_bytes: config.log_file_bytes,
        may_create,
        disk,
    })
}

/// What all groups are opened with.
pub(super) struct Opening {
    pub config: Arc<NodeConfig>,
    pub format: Format,
    pub log: Log,
    pub lock: Arc<DirectoryLock>,
    pub clock: Arc<Clock>,
    /// The other nodes, if there are any.
    pub cluster: Option<Arc<Cluster>>,
}

impl Opening {
    pub(super) async fn groups(&self) -> Result<Groups> {
        let meta = self.meta().await?;
        let mut partitions = Vec::new();
        for number in 0..self.format.partitions {
            match self.partition(number).await {
                Ok(partition) => partitions.push(partition),
                Err(error) => {
                    let _ = meta.raft().shutdown().await;
                    meta.state().close();
                    return Err(error);
                }
            }
        }
        let coordinator = Coordinator::new(partitions.clone(), self.cluster.clone());
        Ok(Groups {
            meta,
            partitions,
            coordinator,
        })
    }

    fn start(&self, group: GroupId, name: String, policy: SnapshotPolicy) -> Start {
        Start {
            group,
            name,
            node: self.format.node,
            cluster: self.cluster.clone(),
            founder: self.format.node == FOUNDER,
            policy,
        }
    }

    async fn meta(&self) -> Result<Meta> {
        let (dir, log, clock) = (self.config.data_dir.join("meta"), self.log.clone(), self.clock.clone());
        let (store, state) = blocking(move || {
            let store = LogStore::open(log, GroupId::META, clock)?;
            make_dir(&dir)?;
            snapshot::clear(&dir).map_err(StorageError::io(&dir, "clear"))?;
            let last = store.last_index().max(snapshot::noted(&dir));
            let state = MetaState::open(&dir, store.purged().map(|id| id.index()), last)?;
            Ok((store, Arc::new(state)))
        })
        .await?;
        let machine = MetaMachine::new(state.clone(), store.clone()).map_err(StorageError::io("meta", "start apply thread"))?;
        let policy = SnapshotPolicy::LogsSinceLast(META_SNAPSHOT_ENTRIES);
        let raft = group::start(self.start(GroupId::META, meta::GROUP_NAME.to_owned(), policy), store, machine).await?;
        Ok(Meta::new(state, raft, self.log.clone(), self.cluster.clone()))
    }

    async fn partition(&self, number: u32) -> Result<PartitionHandle> {
        let (id, config) = (PartitionId(number), &self.config);
        let options = config.partition_options.clone().shared_by(u64::from(self.format.partitions));
        let pressure = Arc::new(Pressure::new(options.memtable_bytes));
        let tables = Tables::default();
        let (store, partition, machine) = {
            let (config, log, clock, pressure) = (config.clone(), self.log.clone(), self.clock.clone(), pressure.clone());
            let (lock, replicated) = (Arc::downgrade(&self.lock), self.cluster.is_some());
            let tables = tables.clone();
            blocking(move || {
                let store = LogStore::open(log, GroupId::data(number), clock.clone())?;
                let dir = config.data_dir.join("partitions").join(number.to_string());
                make_dir(&dir)?;
                let partition = Partition::open(id, &dir, options)?;
                check_coverage(&partition, &store)?;
                clock.observe(partition.last_timestamp());
                for (_, timestamp) in partition.undecided(Timestamp::MAX) {
                    clock.observe(timestamp);
                }
                let retained = if replicated { Some(Retained::open(&partition)?) } else { None };
                let machine = DataMachine::open(partition.clone(), store.clone(), pressure, lock, retained, tables)?;
                Ok((store, partition, machine))
            })
            .await?
        };
        let recovered = store.last_index();
        let start = self.start(GroupId::data(number), id.to_string(), SnapshotPolicy::Never);
        let raft = group::start(start, store, machine).await?;
        self.clock.observe(partition.last_timestamp());
        let log_limit = LOG_FILES * config.log_file_bytes.max(config.partition_options.memtable_bytes);
        let work = Work {
            partition,
            raft: raft.clone(),
            pressure,
            log: self.log.clone(),
            log_limit,
            recovered,
            lock: Arc::downgrade(&self.lock),
        };
        let actor = ActorThread::start(&id.to_string(), raft, self.clock.clone(), config.queue_limit)?;
        Ok(PartitionHandle::new(
            work,
            actor,
            Admission::new(config.queue_limit),
            tables,
            self.cluster.clone(),
            self.clock.clone(),
        ))
    }
}

/// The log must go on where the partition's segments end.
fn check_coverage(partition: &Partition, store: &LogStore) -> Result<()> {
    let flushed = data_machine::decode_position(partition, &partition.flushed())?.index();
    let (purged, last) = (store.purged().map(|id| id.index()), store.last_index());
    // A snapshot of another replica that was installed, when a crash came before the log was told.
    let last = last.max(snapshot::noted(partition.dir()));
    let problem = if flushed < purged {
        format!("segments end at log index {flushed:?}, but the log was purged up to {purged:?}: segments or the manifest are missing")
    } else if flushed > last {
        format!("segments hold log index {flushed:?}, but the log ends at {last:?}: log files are missing")
    } else {
        return Ok(());
    };
    Err(StorageError::damaged(partition.dir().clone(), "partition", problem).into())
}

/// Returns when the node stops.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the node is gone.
    let _ = stop.wait_for(|&stop| stop).await;
}

/// Removes what no manifest and no write set names, once everything that the log held at the start is applied or cut off.
pub(super) async fn collect_garbage(partition: PartitionHandle, mut stop: watch::Receiver<bool>) {
    loop {
        let passed = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            passed = partition.barrier() => passed,
        };
        match passed {
            // Everything that was in the log at the start is applied or cut off: until then it may name files in the staging folder.
            Ok(()) if partition.work().is_past_recovery() => break,
            Ok(()) => {}
            Err(error) => tracing::debug!(partition = %partition.id(), %error, "garbage waits"),
        }
        tokio::time::sleep(GARBAGE_PAUSE).await;
    }
    if let Err(error) = partition.work().blocking(|partition| partition.collect_garbage()).await {
        tracing::warn!(partition = %partition.id(), %error, "garbage stays until the next start");
    }
}
