//! A node: the shared log, the meta group, the data groups, and the threads that flush and compact.

mod format;
pub(crate) mod lock;
mod opening;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyralog_storage::{PartitionOptions, PartitionStatus, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::{Clock, SystemClock, WallClock};
use crate::error::Result;
use crate::log::Log;
use crate::log::disk::{Disk, OsDisk};
use crate::meta::Meta;
use crate::partition::PartitionHandle;
use crate::raft::group;
use format::Format;
use lock::DirectoryLock;
use opening::{blocking, open_files, open_groups};

/// Memtable bytes that [`Node::close`] leaves to be replayed rather than flushes.
const CLOSE_FLUSH_BYTES: u64 = 1 << 20;
/// Longest wait for writes in flight, and for background work, when closing.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// How a node is opened.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The database directory (`FORMAT`, `log/`, `meta/`, `partitions/`); made if it is not there.
    pub data_dir: PathBuf,
    /// Data partitions, fixed when the directory is initialised. 0: as initialised, or 1 for a new directory.
    pub partitions: u32,
    /// Options of every partition.
    pub partition_options: PartitionOptions,
    /// Size at which a log file is closed and the next one begun, in bytes.
    pub log_file_bytes: u64,
    /// Writes that may wait in a partition's queue before it answers "overloaded".
    pub queue_limit: usize,
}

impl NodeConfig {
    /// Defaults for a directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        NodeConfig {
            data_dir: data_dir.into(),
            partitions: 0,
            partition_options: PartitionOptions::default(),
            log_file_bytes: 64 << 20,
            queue_limit: 4096,
        }
    }
}

/// State for `/health`, metrics and `SHOW`.
#[derive(Debug, Clone, Default)]
pub struct NodeStatus {
    /// The node's id.
    pub node_id: u64,
    /// The database's id, made at initialisation.
    pub database_id: String,
    /// Per data group: partition number, whether this node leads it, term, last log index, applied index.
    pub groups: Vec<GroupStatus>,
    /// Bytes of log files.
    pub log_bytes: u64,
    /// fdatasync calls of the log since start.
    pub log_syncs: u64,
}

/// One group's state.
#[derive(Debug, Clone, Default)]
pub struct GroupStatus {
    /// `meta` or `p0`, `p1`, …
    pub name: String,
    /// Whether this node leads it.
    pub leader: bool,
    /// Raft term.
    pub term: u64,
    /// Last index in the log.
    pub last_index: u64,
    /// Last index applied.
    pub applied_index: u64,
    /// Storage counts (default for meta).
    pub storage: PartitionStatus,
}

/// What a node takes from outside, so that a test can hold it.
pub struct NodeEnvironment {
    /// Physical time.
    pub wall: Box<dyn WallClock>,
    /// Where the log's bytes go.
    pub disk: Arc<dyn Disk>,
}

impl Default for NodeEnvironment {
    fn default() -> Self {
        NodeEnvironment {
            wall: Box::new(SystemClock),
            disk: Arc::new(OsDisk),
        }
    }
}

/// The consensus half of a database in this process.
pub struct Node {
    format: Format,
    log: Log,
    meta: Meta,
    partitions: Vec<PartitionHandle>,
    clock: Arc<Clock>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    closed: AtomicBool,
    lock: Mutex<Option<Arc<DirectoryLock>>>,
}

impl Node {
    /// Opens or initialises a data directory, replays the log, elects, starts background work. Fails if another process has it open.
    ///
    /// Must be called on a tokio runtime, which runs the groups until [`Node::close`].
    pub async fn open(config: NodeConfig) -> Result<Arc<Node>> {
        Self::open_in(config, NodeEnvironment::default()).await
    }

    /// As [`Node::open`], with time and disk from outside.
    pub async fn open_in(config: NodeConfig, environment: NodeEnvironment) -> Result<Arc<Node>> {
        let NodeEnvironment { wall, disk } = environment;
        let config = Arc::new(config);
        let (lock, format, log) = {
            let config = config.clone();
            blocking(move || open_files(&config, disk)).await?
        };
        let clock = Arc::new(Clock::new(wall));
        let opened = open_groups(&config, &format, &log, &lock, &clock).await;
        let (meta, partitions) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // Later opens of this process must find the files free.
                blocking(move || {
                    log.close();
                    drop(lock);
                    Ok(())
                })
                .await?;
                return Err(error);
            }
        };
        let (stop, stopping) = watch::channel(false);
        let tasks = partitions.iter().flat_map(|partition| partition.work().spawn(&stopping)).collect();
        Ok(Arc::new(Node {
            format,
            log,
            meta,
            partitions,
            clock,
            stop,
            tasks: Mutex::new(tasks),
            closed: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
        }))
    }

    /// The meta group.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The data partitions, by number.
    pub fn partitions(&self) -> &[PartitionHandle] {
        &self.partitions
    }

    /// The present as a timestamp not below any given out or seen.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Counts.
    pub fn status(&self) -> NodeStatus {
        let mut groups = vec![group::status("meta".to_owned(), self.meta.raft())];
        for partition in &self.partitions {
            let mut status = group::status(partition.id().to_string(), &partition.work().raft);
            status.storage = partition.storage().status();
            groups.push(status);
        }
        NodeStatus {
            node_id: self.format.node,
            database_id: self.format.database.clone(),
            groups,
            log_bytes: self.log.bytes(),
            log_syncs: self.log.syncs(),
        }
    }

    /// Stops proposals, flushes what is cheap, ends all threads. Acknowledged writes are durable without it.
    pub async fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        for partition in &self.partitions {
            partition.admission().close();
        }
        self.drain().await;
        let flushed = self.flush_all().await;
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for mut task in tasks {
            if tokio::time::timeout(CLOSE_LIMIT, &mut task).await.is_err() {
                // A long compaction: its blocking thread keeps the directory locked until it ends.
                task.abort();
            }
        }
        let _ = self.meta.raft().shutdown().await;
        for partition in &self.partitions {
            let _ = partition.work().raft.shutdown().await;
            partition.actor().stop();
        }
        let (log, state, partitions) = (self.log.clone(), self.meta.state().clone(), self.partitions.clone());
        let lock = self.lock.lock().take();
        blocking(move || {
            partitions.iter().for_each(|partition| partition.actor().join());
            state.close();
            log.close();
            drop(lock);
            Ok(())
        })
        .await?;
        flushed
    }

    /// Waits for writes in flight.
    async fn drain(&self) {
        let empty = async {
            while self.partitions.iter().any(|partition| partition.admission().in_flight() > 0) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(CLOSE_LIMIT, empty).await.is_err() {
            tracing::warn!("writes are still in flight; their outcome is unknown to their authors");
        }
    }

    async fn flush_all(&self) -> Result<()> {
        if self.log.failure().is_some() {
            return Ok(());
        }
        for partition in &self.partitions {
            if partition.storage().status().memtable_bytes >= CLOSE_FLUSH_BYTES {
                partition.work().flush().await?;
            }
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        // As in a crash: nothing is flushed, but nothing of this node writes to the directory once its lock is free.
        self.stop.send_replace(true);
        for partition in &self.partitions {
            partition.admission().close();
            partition.actor().stop();
        }
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        self.log.close();
        self.meta.state().close();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (meta, partitions) = (self.meta.clone(), self.partitions.clone());
            runtime.spawn(async move {
                let _ = meta.raft().shutdown().await;
                for partition in &partitions {
                    let _ = partition.work().raft.shutdown().await;
                }
            });
        }
    }
}
