//! A node: the shared log, the meta group, the data groups, the threads that flush and compact, and the other nodes.

mod balance;
pub(crate) mod cluster;
mod format;
mod forwarding;
mod heartbeats;
mod join_file;
mod joining;
pub(crate) mod lock;
mod membership;
mod opening;
mod place;
mod readers;
mod reads;
pub(crate) mod runs;
mod service;
mod standing;
mod streams;
#[cfg(test)]
mod streams_tests;
mod together;
mod transactions;
#[cfg(test)]
mod transactions_tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use pyralog_storage::{PartitionOptions, PartitionStatus, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::{Clock, SystemClock, WallClock};
use crate::error::{ConsensusError, Result};
use crate::log::disk::{Disk, OsDisk};
use crate::log::{GroupId, Log};
use crate::meta::{self, Meta};
use crate::partition::PartitionHandle;
use crate::peer::transport::{Tcp, Transport};
use crate::peer::{PeerIdentity, PeerServing, PeerState, PeerTls};
use crate::raft::counts::SnapshotCount;
use crate::raft::group;
use crate::runtime;
use cluster::Cluster;
use format::Format;
use lock::DirectoryLock;
use opening::{Opening, blocking, open_directory, open_log};
use place::{Place, keep_up};
pub use readers::PinnedPartition;
pub use reads::Moment;
use reads::Reads;
use runs::Runs;
use service::{Groups, Service};
use transactions::Coordinator;

/// Memtable bytes that [`Node::close`] leaves to be replayed rather than flushes.
const CLOSE_FLUSH_BYTES: u64 = 1 << 20;
/// Longest wait for writes in flight, and for background work, when closing.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// How a node is opened.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The database directory (`FORMAT`, `log/`, `meta/`, `partitions/`); made if it is not there.
    pub data_dir: PathBuf,
    /// Data partitions, a power of two up to 64, fixed when the directory is initialised. 0: as initialised, or 1 for a new directory.
    pub partitions: u32,
    /// Options of every partition.
    pub partition_options: PartitionOptions,
    /// Size at which a log file is closed and the next one begun, in bytes.
    pub log_file_bytes: u64,
    /// Writes that may wait in a partition's queue before it answers "overloaded".
    pub queue_limit: usize,
    /// Where other nodes reach this one; `None`: it is alone.
    pub peer: Option<PeerConfig>,
}

/// A node among others.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// Where to listen for other nodes.
    pub listen: SocketAddr,
    /// Where they reach this node, as `host:port`; `None`: where it listens.
    pub advertise: Option<String>,
    /// Nodes (`host:port`) of the cluster that an empty directory is to join; none: a join that was begun there goes on, or else a new
    /// database begins.
    pub join: Vec<String>,
    /// The id that a node wants which joins; `None`: any.
    pub node_id: Option<u64>,
    /// What proves nodes to each other; `None`: whoever reaches the port is taken for a node.
    pub tls: Option<PeerTls>,
    /// How fast snapshots leave this node for others, all together, in bytes per second; 0: as fast as it goes.
    pub snapshot_rate: u64,
}

impl PeerConfig {
    /// Default of [`Self::snapshot_rate`].
    pub const SNAPSHOT_RATE: u64 = 64 << 20;
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
            peer: None,
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
    /// How far timestamps are ahead of this node's clock, in milliseconds: more than a moment means that a node's clock is wrong.
    pub clock_ahead_ms: u64,
    /// How it stands with the other nodes.
    pub peers: Vec<PeerState>,
    /// All nodes and where they reach each other, as far as this one knows. Empty for a node that is alone.
    pub members: Vec<(u64, String)>,
}

/// One group's state.
#[derive(Debug, Clone, Default)]
pub struct GroupStatus {
    /// `meta` or `p0`, `p1`, …
    pub name: String,
    /// Whether this node leads it.
    pub leader: bool,
    /// The node that leads it, as far as this one knows.
    pub leader_id: Option<u64>,
    /// Raft term.
    pub term: u64,
    /// Last index in the log.
    pub last_index: u64,
    /// Last index that is known here to be in a majority's logs.
    pub committed_index: u64,
    /// Last index applied.
    pub applied_index: u64,
    /// Last index that is gone from the log.
    pub purged_index: u64,
    /// Last index that this node's newest snapshot covers.
    pub snapshot_index: u64,
    /// Snapshots that went to replicas from here, and that were installed here.
    pub snapshots: SnapshotCount,
    /// Whether the group has a leader that this node reaches, and a majority.
    pub quorum: bool,
    /// Leaders that this node has seen come since its start.
    pub leader_changes: u64,
    /// Nodes that vote.
    pub voters: Vec<u64>,
    /// Nodes that get the log and do not vote.
    pub learners: Vec<u64>,
    /// Why the group has stopped on this node, if it has.
    pub stopped: Option<String>,
    /// On the leader: a node and the last index that it is known to have.
    pub replicated: Vec<(u64, u64)>,
    /// Storage counts (default for meta).
    pub storage: PartitionStatus,
}

/// What a node takes from outside, so that a test can hold it.
pub struct NodeEnvironment {
    /// Physical time.
    pub wall: Box<dyn WallClock>,
    /// Where the log's bytes go.
    pub disk: Arc<dyn Disk>,
    /// The way to other nodes.
    pub transport: Arc<dyn Transport>,
}

impl Default for NodeEnvironment {
    fn default() -> Self {
        NodeEnvironment {
            wall: Box::new(SystemClock),
            disk: Arc::new(OsDisk),
            transport: Arc::new(Tcp),
        }
    }
}

/// The consensus half of a database in this process.
pub struct Node {
    format: Format,
    log: Log,
    meta: Meta,
    partitions: Vec<PartitionHandle>,
    /// By group, as in [`NodeStatus::groups`].
    leader_changes: Vec<Arc<AtomicU64>>,
    clock: Arc<Clock>,
    coordinator: Coordinator,
    /// Reads of several groups that other nodes may lead.
    reads: Option<Reads>,
    cluster: Option<Arc<Cluster>>,
    /// Answers other nodes until it is dropped.
    serving: tokio::sync::Mutex<Option<PeerServing>>,
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
        let NodeEnvironment { wall, disk, transport } = environment;
        let config = Arc::new(config);
        let links = joining::links(&config, transport).await?;
        let (lock, format) = {
            let config = config.clone();
            blocking(move || open_directory(&config)).await?
        };
        if let Some(format) = &format {
            joining::check(&config, format)?;
        }
        let (server, address) = match &config.peer {
            Some(peer) => {
                let server = joining::bind(peer, links.clone()).await?;
                let address = joining::address(peer, server.address());
                (Some(server), Some(address))
            }
            None => (None, None),
        };
        let format = match format {
            Some(format) => format,
            None => joining::initialise(&config, address.as_deref(), &links).await?,
        };
        let identity = PeerIdentity::new(format.database.clone(), format.node);
        let runs = match &config.peer {
            Some(_) => {
                let (config, incarnation) = (config.clone(), identity.incarnation);
                Some(blocking(move || Runs::begin(&config.data_dir, incarnation)).await?)
            }
            None => None,
        };
        let addresses = joining::addresses(&config).await?;
        let log = {
            let config = config.clone();
            blocking(move || open_log(&config, disk)).await?
        };
        let clock = Arc::new(Clock::new(wall));
        let snapshot_rate = config.peer.as_ref().map_or(0, |peer| peer.snapshot_rate);
        let cluster = address.map(|address| Arc::new(joining::cluster(identity.clone(), address, links, snapshot_rate)));
        let opening = Opening {
            config: config.clone(),
            format: format.clone(),
            log: log.clone(),
            lock: lock.clone(),
            clock: clock.clone(),
            cluster: cluster.clone(),
        };
        let groups = match opening.groups().await {
            Ok(groups) => groups,
            Err(error) => {
                drop(opening);
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
        let mut tasks: Vec<_> = groups
            .partitions
            .iter()
            .flat_map(|partition| partition.work().spawn(&stopping))
            .collect();
        let service = cluster
            .as_ref()
            .map(|cluster| Arc::new(Service::new(cluster.clone(), format.database.clone())));
        let serving = server.zip(service.clone()).zip(cluster.clone());
        let serving = serving.map(|((server, service), cluster)| server.serve(identity, service, cluster.peers.roll().clone()));
        for partition in &groups.partitions {
            tasks.push(runtime::spawn(opening::collect_garbage(partition.clone(), stopping.clone())));
        }
        if cluster.is_some() {
            tasks.push(runtime::spawn(stop_with_log(log.clone(), groups.clone(), stopping.clone())));
        }
        if groups.partitions.len() > 1 {
            tasks.push(runtime::spawn(transactions::resolve(groups.coordinator.clone(), stopping.clone())));
        }
        let leader_changes = groups.observe(&log, cluster.as_ref(), &stopping, &mut tasks);
        let node = Arc::new(Node {
            format,
            log,
            meta: groups.meta.clone(),
            partitions: groups.partitions.clone(),
            leader_changes,
            reads: cluster
                .as_ref()
                .filter(|_| groups.partitions.len() > 1)
                .map(|cluster| Reads::new(groups.partitions.clone(), cluster.clone(), clock.clone())),
            clock,
            coordinator: groups.coordinator.clone(),
            cluster: cluster.clone(),
            serving: tokio::sync::Mutex::new(serving),
            stop,
            tasks: Mutex::new(tasks),
            closed: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
        });
        if let (Some(cluster), Some(service), Some(runs)) = (cluster, service, runs) {
            if let Err(refused) = standing::confirm(&cluster, &groups.meta, &runs).await {
                node.close().await?;
                return Err(refused);
            }
            service.open(groups.clone());
            let mut tasks = node.tasks.lock();
            let watch = standing::watch(config.clone(), cluster.clone(), groups.clone(), runs, stopping.clone());
            tasks.push(runtime::spawn(watch));
            if node.partitions.len() > 1 {
                let balance = balance::balance(node.partitions.clone(), cluster.clone(), stopping.clone());
                tasks.push(runtime::spawn(balance));
            }
            let place = Place {
                dir: config.data_dir.clone(),
                addresses,
                cluster,
                groups,
            };
            tasks.push(runtime::spawn(keep_up(place, stopping)));
        }
        Ok(node)
    }

    /// Waits until every group has a leader that this node reaches, and this node sees what was acknowledged before. A node that is alone
    /// has that from the start.
    pub async fn ready(&self) -> Result<()> {
        self.meta.barrier().await?;
        for partition in &self.partitions {
            partition.barrier().await?;
        }
        Ok(())
    }

    /// Whether this node leads the first data group: the one that does what one node is enough for.
    pub fn leads_first(&self) -> bool {
        self.partitions.first().is_some_and(|partition| partition.work().raft.is_leader())
    }

    /// Tells the other nodes where clients reach this one.
    pub async fn publish(&self, address: &str) -> Result<()> {
        membership::publish(&self.meta, self.format.node, address).await
    }

    /// Where clients reach the node that writes go to; `None` where that is this node, several, or not known.
    pub fn leading_address(&self) -> Option<String> {
        let [only] = self.partitions() else { return None };
        let raft = &only.work().raft;
        let leader = raft
            .metrics()
            .borrow_watched()
            .current_leader
            .filter(|leader| *leader != self.format.node)?;
        membership::published(&self.meta, leader).unwrap_or_else(|error| {
            tracing::debug!(%error, "the leader's address cannot be read");
            None
        })
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

    /// Takes a node out of every group, for ever: its id is not used again, and its directory does not come back as a member.
    pub async fn remove_member(&self, node: u64) -> Result<()> {
        let Some(cluster) = &self.cluster else {
            return Err(ConsensusError::Unsupported(
                "this node is alone: it was started without an address for peers".to_owned(),
            ));
        };
        let members = membership::members(&self.meta);
        if !members.iter().any(|member| member.node == node) {
            return Err(ConsensusError::Unsupported(format!("there is no node {node} in this cluster")));
        }
        if members.len() == 1 {
            return Err(ConsensusError::Unsupported(format!(
                "node {node} is the only one; a cluster needs one node at least"
            )));
        }
        membership::mark_removed(&self.meta, node).await?;
        // Data first: placement is read from meta.
        for partition in &self.partitions {
            membership::leave(cluster, partition.group(), partition.id().to_string(), &partition.work().raft, node).await?;
        }
        membership::leave(cluster, GroupId::META, meta::GROUP_NAME.to_owned(), self.meta.raft(), node).await
    }

    /// Counts.
    pub fn status(&self) -> NodeStatus {
        let cluster = self.cluster.as_deref();
        let mut groups = vec![group::status(GroupId::META, self.meta.raft(), &self.log, cluster)];
        for partition in &self.partitions {
            let mut status = group::status(partition.group(), &partition.work().raft, &self.log, cluster);
            status.storage = partition.storage().status();
            // Raft is not told of every flush.
            status.snapshot_index = status.snapshot_index.max(status.storage.flushed_index.saturating_sub(1));
            groups.push(status);
        }
        for (group, changes) in groups.iter_mut().zip(&self.leader_changes) {
            group.leader_changes = changes.load(Ordering::Relaxed);
        }
        NodeStatus {
            node_id: self.format.node,
            database_id: self.format.database.clone(),
            groups,
            log_bytes: self.log.bytes(),
            log_syncs: self.log.syncs(),
            clock_ahead_ms: self.clock.ahead_ms(),
            peers: cluster.map_or_else(Vec::new, |cluster| cluster.peers.states()),
            members: match self.cluster {
                Some(_) => membership::members(&self.meta)
                    .into_iter()
                    .map(|member| (member.node, member.address))
                    .collect(),
                None => Vec::new(),
            },
        }
    }

    /// Stops proposals, flushes what is cheap, ends all threads. Acknowledged writes are durable without it.
    pub async fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        if tokio::time::timeout(CLOSE_LIMIT, self.coordinator.close()).await.is_err() {
            tracing::warn!("transactions are still being decided; the next start ends them");
        }
        for partition in &self.partitions {
            partition.admission().close();
        }
        self.drain().await;
        self.hand_over().await;
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
        if let Some(serving) = self.serving.lock().await.take() {
            serving.stop().await;
        }
        if let Some(cluster) = &self.cluster {
            cluster.streams.close();
            cluster.peers.close();
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

    /// Gives the groups that this node leads to others, so that nobody has to wait for an election.
    async fn hand_over(&self) {
        let groups = self
            .partitions
            .iter()
            .map(|partition| membership::hand_over(&partition.work().raft));
        let groups = futures::future::join(membership::hand_over(self.meta.raft()), futures::future::join_all(groups));
        if tokio::time::timeout(membership::HAND_OVER_LIMIT, groups).await.is_err() {
            tracing::warn!("not every group has another leader yet; the others elect one");
        }
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

/// Stops all groups once the log has failed. A group that happens not to write would notice nothing: it would lead on, and take no write.
async fn stop_with_log(log: Log, groups: Groups, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        biased;
        () = opening::stopped(&mut stop) => return,
        () = log.failed() => {}
    }
    let _ = groups.meta.raft().shutdown().await;
    for partition in &groups.partitions {
        let _ = partition.work().raft.shutdown().await;
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
        if let Some(cluster) = &self.cluster {
            cluster.streams.close();
            cluster.peers.close();
        }
        if tokio::runtime::Handle::try_current().is_ok() {
            let (meta, partitions) = (self.meta.clone(), self.partitions.clone());
            runtime::spawn(async move {
                let _ = meta.raft().shutdown().await;
                for partition in &partitions {
                    let _ = partition.work().raft.shutdown().await;
                }
            });
        }
    }
}
