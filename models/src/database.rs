//! The embedded database: everything but sockets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use pyralog_consensus::{Channel, PeerConfig};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::distributed::{Carrier, Distributed, Mode, Peers, Worker};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::{Bucket, run_expiry};
use crate::rdf::Remote;
use crate::request::RequestName;
use crate::session::Session;

/// The name of the dataset of requests that name none.
const DEFAULT_DATASET: &str = "default";

/// How a database is opened.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Memory for memtables, caches and queries together, in bytes.
    pub memory_limit: u64,
    /// Threads (and plan partitions) of a query; 0: as many as cores.
    pub threads: usize,
    /// Data partitions of a new directory, a power of two up to 64; 0: one. A database whose node is to have others has one.
    pub partitions: u32,
    /// Where sorts and joins spill; `None`: `DATA/spill`.
    pub spill_dir: Option<PathBuf>,
    /// Where other nodes reach this one; `None`: it is alone.
    pub peer: Option<PeerConfig>,
    /// Folder that `COPY` and `CREATE EXTERNAL TABLE` may touch; `None`: anywhere (embedded and loopback use).
    pub file_root: Option<PathBuf>,
    /// Whether queries of sessions that do not say so themselves run on several nodes.
    pub distributed: Mode,
    /// What SERVICE and LOAD of SPARQL reach; `None`: nothing.
    pub remote: Option<Arc<dyn Remote>>,
}

impl DatabaseConfig {
    /// Defaults for a directory: 4 GB of memory, all cores.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        DatabaseConfig {
            data_dir: data_dir.into(),
            memory_limit: 4 << 30,
            threads: 0,
            partitions: tested_partitions(),
            spill_dir: None,
            file_root: None,
            distributed: Mode::default(),
            remote: None,
            peer: None,
        }
    }
}

/// With how many data partitions tests run; 0: as a user's database.
fn tested_partitions() -> u32 {
    #[cfg(debug_assertions)]
    if let Ok(partitions) = std::env::var("PYRALOG_TEST_PARTITIONS") {
        return partitions.parse().unwrap_or(0);
    }
    0
}

/// State for `/health`, `/metrics` and `SHOW`.
#[derive(Debug, Clone, Default)]
pub struct DatabaseStatus {
    /// Software version.
    pub version: String,
    /// The consensus node's state (groups, log, storage).
    pub node: pyralog_consensus::NodeStatus,
    /// Open sessions.
    pub sessions: u64,
    /// Statements since start.
    pub statements: u64,
    /// Statements that failed since start.
    pub statement_errors: u64,
    /// Runs of plans of SPARQL that were kept, since start.
    pub plans_reused: u64,
    /// Queries that were sent to several nodes, since start.
    pub distributed_queries: u64,
    /// Those of them that this node ran alone in the end.
    pub distributed_fallbacks: u64,
    /// Tasks of distributed queries that this node runs or has not yet forgotten, its own and others'.
    pub distributed_tasks: u64,
    /// Bytes of query memory in use.
    pub query_memory_bytes: u64,
    /// Bytes of query memory allowed.
    pub query_memory_limit: u64,
}

/// A database in this process: the whole engine without sockets. Cheap to clone; call [`Database::close`] before the process ends (what was
/// acknowledged is durable without it).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// use futures::TryStreamExt;
/// use pyralog_models::{Database, KvPrecondition, Parameters};
///
/// let dir = tempfile::tempdir()?;
/// let db = Database::open(dir.path()).await?;
/// let session = db.session();
/// session.execute("CREATE TABLE city (name VARCHAR PRIMARY KEY, people BIGINT)", Parameters::None).await?;
/// session.execute("INSERT INTO city VALUES ('Ghent', 270000), ('Bruges', 119000)", Parameters::None).await?;
/// let result = session.execute("SELECT sum(people) AS total FROM city", Parameters::None).await?;
/// let batches: Vec<_> = result.stream.try_collect().await?;
/// assert_eq!(batches[0].num_rows(), 1);
///
/// session.execute("CREATE COLLECTION cache AS KV", Parameters::None).await?;
/// let cache = db.kv("cache").await?;
/// cache.put(b"greeting", b"hello", None, KvPrecondition::Absent).await?;
/// assert_eq!(cache.get(b"greeting").await?.map(|entry| entry.value), Some(b"hello".to_vec()));
/// db.close().await?;
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Clone)]
pub struct Database {
    engine: Arc<Engine>,
    background: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Database {
    /// Opens (or makes) a database in a directory with default settings.
    pub async fn open(dir: impl AsRef<Path>) -> Result<Database> {
        Self::open_with(DatabaseConfig::new(dir.as_ref())).await
    }

    /// Opens (or makes) a database.
    pub async fn open_with(config: DatabaseConfig) -> Result<Database> {
        let engine = Engine::open(config).await?;
        // The task holds no strong reference: it ends by itself when the database is dropped.
        let expiry = tokio::spawn(run_expiry(Arc::downgrade(&engine)));
        Ok(Database {
            engine,
            background: Arc::new(Mutex::new(Some(expiry))),
        })
    }

    /// A new session: settings, and at most one open transaction.
    pub fn session(&self) -> Session {
        Session::new(Arc::clone(&self.engine))
    }

    /// The dataset that requests mean which name none: the one called `default`, or the only one there is.
    pub async fn default_dataset(&self) -> Result<String> {
        self.engine.fresh_catalog().await?;
        let catalog = self.engine.catalog.snapshot()?;
        let mut names: Vec<&str> = catalog.datasets().collect();
        match (names.pop(), names.is_empty()) {
            (Some(only), true) => Ok(only.to_owned()),
            (last, _) if last == Some(DEFAULT_DATASET) || names.contains(&DEFAULT_DATASET) => Ok(DEFAULT_DATASET.to_owned()),
            (None, _) => Err(Error::new(ErrorKind::NotFound, "42P01", "there is no dataset of RDF")
                .with_hint("CREATE COLLECTION \"default\" AS RDF makes the one that is meant here")),
            _ => Err(Error::new(
                ErrorKind::NotFound,
                "42P01",
                format!("there are several datasets, and none of them is called {DEFAULT_DATASET}"),
            )
            .with_hint("name one: /rdf/{dataset}/query")),
        }
    }

    /// The names of all datasets of RDF, in order.
    pub async fn datasets(&self) -> Result<Vec<String>> {
        self.engine.fresh_catalog().await?;
        let catalog = self.engine.catalog.snapshot()?;
        let mut names: Vec<String> = catalog.datasets().map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Whether SERVICE and LOAD reach anything.
    pub fn fetches(&self) -> bool {
        self.engine.config.remote.is_some()
    }

    /// A key-value bucket by name.
    pub async fn kv(&self, bucket: &str) -> Result<Bucket> {
        Bucket::open(Arc::clone(&self.engine), bucket).await
    }

    /// Lets queries run on several nodes: the carrier reaches the others' workers, and what is returned serves them at this one. `None`: the
    /// node is alone, or has one partition, or has a carrier already.
    pub fn distribute_by(&self, carrier: Arc<dyn Carrier>) -> Option<Worker> {
        let distributed = Distributed::new(&self.engine, carrier)?;
        let worker = distributed.worker().clone();
        self.engine.distributed.set(distributed).ok()?;
        Some(worker)
    }

    /// The way to other nodes.
    pub fn peers(&self) -> Peers {
        Peers::new(Arc::clone(&self.engine.node))
    }

    /// The streams that other nodes open, each with the id of the node. `None`: the node is alone or closed, or somebody has them already.
    pub fn streams(&self) -> Option<mpsc::Receiver<(u64, Channel)>> {
        self.engine.node.streams()
    }

    /// Counts and states.
    pub fn status(&self) -> DatabaseStatus {
        let counters = &self.engine.counters;
        let distributed = self.engine.distributed.get();
        DatabaseStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.engine.node.status(),
            sessions: counters.sessions.load(Ordering::Relaxed),
            statements: counters.statements.load(Ordering::Relaxed),
            statement_errors: counters.errors.load(Ordering::Relaxed),
            plans_reused: self.engine.plans.runs(),
            distributed_queries: distributed.map_or(0, |d| d.queries.load(Ordering::Relaxed)),
            distributed_fallbacks: distributed.map_or(0, |d| d.fallbacks.load(Ordering::Relaxed)),
            distributed_tasks: distributed.map_or(0, Distributed::tasks),
            query_memory_bytes: self.engine.runtime.memory_pool.reserved() as u64,
            query_memory_limit: self.engine.query_memory_limit,
        }
    }

    /// Takes a node out of the cluster, for ever.
    pub async fn remove_node(&self, node: u64) -> Result<()> {
        Ok(self.engine.node.remove_member(node).await?)
    }

    /// Tells the other nodes where clients reach this one.
    pub async fn publish(&self, address: &str) -> Result<()> {
        Ok(self.engine.node.publish(address).await?)
    }

    /// Where clients reach the node that writes go to; `None` where that is this node, or not known.
    pub fn leading_address(&self) -> Option<String> {
        self.engine.node.leading_address()
    }

    /// Settles a request (of one commit) whose outcome its client does not know: whether it was carried out. If not, it never will be.
    pub async fn settle(&self, name: RequestName) -> Result<bool> {
        Ok(self.engine.node.settle(name.part(0).id).await?.is_some())
    }

    /// Reads every file and checks every checksum; each line is one problem.
    pub async fn verify(&self) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        for partition in self.engine.node.partitions() {
            let storage = Arc::clone(partition.storage());
            let found = tokio::task::spawn_blocking(move || storage.verify())
                .await
                .map_err(|e| Error::internal(format!("a check task failed: {e}")))??;
            problems.extend(found.into_iter().map(|problem| problem.to_string()));
        }
        Ok(problems)
    }

    /// Stops background work and closes files.
    pub async fn close(&self) -> Result<()> {
        if let Some(expiry) = self.background.lock().take() {
            expiry.abort();
        }
        self.engine.plans.clear();
        Ok(self.engine.node.close().await?)
    }
}
