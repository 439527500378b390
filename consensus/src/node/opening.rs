//! Opening a node, in order: lock, FORMAT, log, meta group, data groups. Each step relies on those before it only.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use openraft::SnapshotPolicy;
use pyralog_storage::{Partition, PartitionId, StorageError};

use super::NodeConfig;
use super::format::Format;
use super::lock::DirectoryLock;
use crate::clock::Clock;
use crate::error::{ConsensusError, Result};
use crate::log::disk::Disk;
use crate::log::{GroupId, Log, LogConfig};
use crate::meta::Meta;
use crate::meta::state::MetaState;
use crate::partition::PartitionHandle;
use crate::partition::actor::ActorThread;
use crate::partition::admission::Admission;
use crate::partition::background::Work;
use crate::partition::pressure::Pressure;
use crate::raft::data_machine::{self, DataMachine};
use crate::raft::group;
use crate::raft::log_store::LogStore;
use crate::raft::meta_machine::MetaMachine;

/// The meta group dumps its state after this many entries.
const META_SNAPSHOT_ENTRIES: u64 = 512;
/// Log bytes, in files' and memtables' sizes, at which a memtable is flushed though it is not full.
const LOG_FILES: u64 = 4;

/// Runs blocking work off the async workers.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
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

/// Lock, format, log.
pub(super) fn open_files(config: &NodeConfig, disk: Arc<dyn Disk>) -> Result<(Arc<DirectoryLock>, Format, Log)> {
    let dir = config.data_dir.as_path();
    make_dir(dir)?;
    let lock = Arc::new(DirectoryLock::take(dir)?);
    let format = Format::open_or_create(dir, config.partitions)?;
    // Meta and partitions are made after the log, so where they are, there was one.
    let may_create = !dir.join("meta").exists() && !dir.join("partitions").exists();
    make_dir(&dir.join("log"))?;
    let log = Log::open(LogConfig {
        dir: dir.join("log"),
        file_bytes: config.log_file_bytes,
        may_create,
        disk,
    })?;
    Ok((lock, format, log))
}

pub(super) async fn open_groups(
    config: &Arc<NodeConfig>,
    format: &Format,
    log: &Log,
    lock: &Arc<DirectoryLock>,
    clock: &Arc<Clock>,
) -> Result<(Meta, Vec<PartitionHandle>)> {
    let meta = open_meta(&config.data_dir, format, log).await?;
    let mut partitions = Vec::new();
    for number in 0..format.partitions {
        match open_partition(number, config, format, log, lock, clock).await {
            Ok(partition) => partitions.push(partition),
            Err(error) => {
                let _ = meta.raft().shutdown().await;
                meta.state().close();
                return Err(error);
            }
        }
    }
    Ok((meta, partitions))
}

async fn open_meta(dir: &Path, format: &Format, log: &Log) -> Result<Meta> {
    let (dir, opened_log) = (dir.join("meta"), log.clone());
    let (store, state) = blocking(move || {
        let store = LogStore::open(opened_log, GroupId::META)?;
        make_dir(&dir)?;
        let state = MetaState::open(&dir, store.purged().map(|id| id.index()), store.last_index())?;
        Ok((store, Arc::new(state)))
    })
    .await?;
    let machine = MetaMachine::new(state.clone(), store.clone()).map_err(StorageError::io("meta", "start apply thread"))?;
    let raft = group::start(
        "meta",
        format.node,
        store,
        machine,
        SnapshotPolicy::LogsSinceLast(META_SNAPSHOT_ENTRIES),
    )
    .await?;
    Ok(Meta::new(state, raft, log.clone()))
}

async fn open_partition(
    number: u32,
    config: &Arc<NodeConfig>,
    format: &Format,
    log: &Log,
    lock: &Arc<DirectoryLock>,
    clock: &Arc<Clock>,
) -> Result<PartitionHandle> {
    let id = PartitionId(number);
    let pressure = Arc::new(Pressure::new(config.partition_options.memtable_bytes));
    let (store, partition, machine) = {
        let (config, log, pressure, lock) = (config.clone(), log.clone(), pressure.clone(), Arc::downgrade(lock));
        blocking(move || {
            let store = LogStore::open(log, GroupId::data(number))?;
            let dir = config.data_dir.join("partitions").join(number.to_string());
            make_dir(&dir)?;
            let partition = Partition::open(id, &dir, config.partition_options.clone())?;
            check_coverage(&partition, &store)?;
            let machine = DataMachine::open(partition.clone(), store.clone(), pressure, lock)?;
            Ok((store, partition, machine))
        })
        .await?
    };
    let raft = group::start(&id.to_string(), format.node, store, machine, SnapshotPolicy::Never).await?;
    clock.observe(partition.last_timestamp());
    let cleaned = partition.clone();
    blocking(move || Ok(cleaned.collect_garbage()?)).await?;
    let log_limit = LOG_FILES * config.log_file_bytes.max(config.partition_options.memtable_bytes);
    let work = Work {
        partition,
        raft: raft.clone(),
        pressure,
        log: log.clone(),
        log_limit,
        lock: Arc::downgrade(lock),
    };
    let actor = ActorThread::start(&id.to_string(), raft, clock.clone(), config.queue_limit)?;
    Ok(PartitionHandle::new(work, actor, Admission::new(config.queue_limit)))
}

/// The log must go on where the partition's segments end.
fn check_coverage(partition: &Partition, store: &LogStore) -> Result<()> {
    let flushed = data_machine::decode_position(partition, &partition.flushed())?.index();
    let (purged, last) = (store.purged().map(|id| id.index()), store.last_index());
    let problem = if flushed < purged {
        format!("segments end at log index {flushed:?}, but the log was purged up to {purged:?}: segments or the manifest are missing")
    } else if flushed > last {
        format!("segments hold log index {flushed:?}, but the log ends at {last:?}: log files are missing")
    } else {
        return Ok(());
    };
    Err(StorageError::damaged(partition.dir().clone(), "partition", problem).into())
}
