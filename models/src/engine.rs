//! What all sessions of a database share: the node, the catalog, memory, the planner's base state.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;
use pyralog_consensus::{Node, NodeConfig};
use pyralog_storage::{PartitionOptions, Placement};

use crate::catalog::{Catalog, DATABASE, DEFAULT_SCHEMA};
use crate::cooperative_joins::CooperativeJoins;
use crate::database::DatabaseConfig;
use crate::distributed::Distributed;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::GroupCommit;
use crate::rdf::sparql::{BindPlanner, CountedPlanner, ExpandPlanner, PlanCache, ServicePlanner};
use crate::row_ids::RowIds;
use crate::scan::GroupsInPartitions;
use crate::sql::checked_arithmetic::CheckedArithmetic;
use crate::sql::{bounded_functions, checked_sum, filter_pushdown};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::combine_partial_final_agg::CombinePartialFinalAggregate;
use datafusion::physical_optimizer::ensure_coop::EnsureCooperative;
use datafusion::physical_optimizer::ensure_requirements::EnsureRequirements;
use datafusion::physical_optimizer::join_selection::JoinSelection;
use datafusion::physical_optimizer::limit_pushdown::LimitPushdown;
use datafusion::physical_optimizer::output_requirements::OutputRequirements;

/// How many operators an out-of-memory message names.
const NAMED_CONSUMERS: NonZeroUsize = match NonZeroUsize::new(5) {
    Some(n) => n,
    None => NonZeroUsize::MIN,
};

/// Least memory limit, in bytes.
const MIN_MEMORY: u64 = 64_000_000;

/// Rows of a join's build side, times threads, up to which one thread builds one hash table for all. Measured with TPC-H on two threads:
/// the 22 queries take 1.5 s instead of 2.0 s, most of it saved where orders joins lineitem.
const SHARED_TABLE_ROWS: usize = 8 << 20;

/// Shared by all sessions.
pub(crate) struct Engine {
    pub(crate) node: Arc<Node>,
    pub(crate) catalog: Catalog,
    pub(crate) config: DatabaseConfig,
    pub(crate) runtime: Arc<RuntimeEnv>,
    pub(crate) base_state: Arc<SessionState>,
    /// For plans that read little: no threads of their own, and few rules.
    pub(crate) small_states: SmallStates,
    pub(crate) plans: PlanCache,
    pub(crate) row_ids: RowIds,
    pub(crate) puts: GroupCommit,
    pub(crate) counters: Counters,
    pub(crate) query_memory_limit: u64,
    /// Which partition a row is in.
    pub(crate) placement: Placement,
    /// What runs queries on several nodes, once a server has told how to reach them.
    pub(crate) distributed: OnceLock<Distributed>,
}

/// Counts since start.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) sessions: AtomicU64,
    pub(crate) statements: AtomicU64,
    pub(crate) errors: AtomicU64,
}

impl Engine {
    /// Opens the node and the catalog.
    pub(crate) async fn open(config: DatabaseConfig) -> Result<Arc<Engine>> {
        if config.memory_limit < MIN_MEMORY {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "22023",
                format!("a memory limit of {} bytes is too small", config.memory_limit),
            )
            .with_hint("give at least 64MB"));
        }
        let mut node_config = NodeConfig::new(&config.data_dir);
        node_config.partitions = config.partitions;
        node_config.peer = config.peer.clone();
        node_config.partition_options = partition_options(config.memory_limit);
        // Mapped files may have what the rest leaves; an eighth stays for what is touched between two looks.
        pyralog_storage::set_resident_limit(config.memory_limit - config.memory_limit / 8);
        pyralog_storage::set_unpacked_limit(config.memory_limit / 4);
        let node = Node::open(node_config).await?;
        // A majority may be away, for as long as it takes: the caller stops waiting by dropping this.
        while let Err(error) = node.ready().await {
            tracing::warn!(%error, "waiting for the other nodes");
        }
        let catalog = Catalog::open(Arc::clone(&node)).await?;
        let partitions = node.partitions().len();
        let Some(placement) = Placement::over(partitions) else {
            return Err(Error::internal(format!("{partitions} data partitions")));
        };

        // Half of the memory is the queries'; the rest is for memtables, transactions' buffers, the log's cache and what is not counted.
        let query_memory_limit = config.memory_limit / 2;
        let runtime = build_runtime(&config, query_memory_limit)?;
        let mut base_state = build_state(&config, Arc::clone(&runtime), query_memory_limit);
        bounded_functions::bound(&mut base_state)?;
        checked_sum::register(&mut base_state)?;
        let row_ids = RowIds::new(catalog.clone());
        Ok(Arc::new_cyclic(|engine| Engine {
            node,
            catalog,
            config,
            runtime,
            small_states: SmallStates::of(&base_state),
            plans: PlanCache::default(),
            base_state: Arc::new(base_state),
            row_ids,
            puts: GroupCommit::start(engine.clone()),
            counters: Counters::default(),
            query_memory_limit,
            placement,
            distributed: OnceLock::new(),
        }))
    }

    /// Waits until this node sees all rows and definitions that were acknowledged before, by any node. At once where there is one node.
    pub(crate) async fn fresh(&self) -> Result<()> {
        tokio::try_join!(self.fresh_catalog(), self.fresh_rows())?;
        Ok(())
    }

    /// As [`Engine::fresh`], for definitions.
    pub(crate) async fn fresh_catalog(&self) -> Result<()> {
        Ok(self.node.meta().barrier().await?)
    }

    /// As [`Engine::fresh`], for rows.
    pub(crate) async fn fresh_rows(&self) -> Result<()> {
        match self.node.partitions() {
            [only] => Ok(only.barrier().await?),
            // Whoever reads several waits when it takes their state.
            _ => Ok(()),
        }
    }

    /// Counts a statement and whether it failed.
    pub(crate) fn count<T>(&self, result: &Result<T>) {
        self.counters.statements.fetch_add(1, Ordering::Relaxed);
        if result.is_err() {
            self.counters.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The write side's share of memory: one memtable being filled and up to three waiting to be flushed, and transactions' buffers.
fn partition_options(memory_limit: u64) -> PartitionOptions {
    PartitionOptions {
        memtable_bytes: (memory_limit / 32).clamp(2 << 20, 64 << 20),
        transaction_bytes: (memory_limit / 32).clamp(2 << 20, 48 << 20),
        transaction_limit_bytes: (memory_limit / 8).max(16 << 20),
        ..PartitionOptions::default()
    }
}

fn build_runtime(config: &DatabaseConfig, query_memory: u64) -> Result<Arc<RuntimeEnv>> {
    let spill_dir = config.spill_dir.clone().unwrap_or_else(|| config.data_dir.join("spill"));
    std::fs::create_dir_all(&spill_dir).map_err(|e| {
        Error::new(
            ErrorKind::Unavailable,
            "58030",
            format!("{}: cannot make the spill directory: {e}", spill_dir.display()),
        )
    })?;
    let bytes = usize::try_from(query_memory).unwrap_or(usize::MAX);
    let pool: Arc<dyn MemoryPool> = Arc::new(TrackConsumersPool::new(FairSpillPool::new(bytes), NAMED_CONSUMERS));
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![spill_dir]));
    Ok(RuntimeEnvBuilder::new()
        .with_memory_pool(pool)
        .with_disk_manager_builder(disk)
        .build_arc()?)
}

/// Plans DataFusion's operators and our own.
#[derive(Debug)]
struct PhysicalPlans;

#[async_trait]
impl QueryPlanner for PhysicalPlans {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let own: Vec<Arc<dyn ExtensionPlanner + Send + Sync>> = vec![
            Arc::new(ExpandPlanner),
            Arc::new(BindPlanner),
            Arc::new(ServicePlanner),
            Arc::new(CountedPlanner),
        ];
        DefaultPhysicalPlanner::with_extension_planners(own)
            .create_physical_plan(plan, session)
            .await
    }
}

/// The engine's state for plans that read little: to spread their rows over threads, or to look for better plans, would take longer than to run
/// them.
pub(crate) struct SmallStates {
    /// For any of them.
    pub small: SmallState,
    /// For those in which nothing is joined or merged, so that each operator takes rows as the one before gives them.
    pub plain: SmallState,
}

/// A state, and what its plans run with: to make that anew for each plan would copy the names of all functions.
#[derive(Clone)]
pub(crate) struct SmallState {
    /// Plans.
    pub state: Arc<SessionState>,
    /// Runs.
    pub task: Arc<TaskContext>,
}

impl SmallStates {
    fn of(base: &SessionState) -> SmallStates {
        let with = |rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>| {
            let builder = SessionStateBuilder::new_from_existing(base.clone())
                .with_config(base.config().clone().with_target_partitions(1))
                .with_physical_optimizer_rules(rules);
            let state = Arc::new(builder.build());
            SmallState {
                task: state.task_ctx(),
                state,
            }
        };
        SmallStates {
            small: with(vec![
                Arc::new(OutputRequirements::new_add_mode()),
                Arc::new(JoinSelection::new()),
                Arc::new(EnsureRequirements::new()),
                Arc::new(CombinePartialFinalAggregate::new()),
                Arc::new(OutputRequirements::new_remove_mode()),
                Arc::new(LimitPushdown::new()),
                Arc::new(EnsureCooperative::new()),
                Arc::new(CooperativeJoins::default()),
            ]),
            plain: with(vec![
                Arc::new(CombinePartialFinalAggregate::new()),
                Arc::new(LimitPushdown::new()),
                Arc::new(EnsureCooperative::new()),
            ]),
        }
    }
}

fn build_state(config: &DatabaseConfig, runtime: Arc<RuntimeEnv>, query_memory: u64) -> SessionState {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if config.threads == 0 { cores } else { config.threads };
    let mut session = SessionConfig::new()
        .with_target_partitions(threads)
        .with_default_catalog_and_schema(DATABASE, DEFAULT_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false);
    let options = session.options_mut();
    options.sql_parser.collect_spans = true;
    options.sql_parser.parse_float_as_decimal = true;
    options.execution.time_zone = Some("+00:00".to_owned());
    options.execution.collect_statistics = true;
    // One hash table for all threads, up to this size: neither side is repartitioned, and the probe side's scan can ask that table.
    let table_bytes = (query_memory / 32).clamp(1 << 20, 64 << 20);
    options.optimizer.hash_join_single_partition_threshold = usize::try_from(table_bytes).unwrap_or(usize::MAX);
    options.optimizer.hash_join_single_partition_threshold_rows = (SHARED_TABLE_ROWS / threads).max(SHARED_TABLE_ROWS / 64);
    let mut rules = filter_pushdown::guarded_rules();
    rules.push(Arc::new(GroupsInPartitions));
    rules.push(Arc::new(CooperativeJoins::default()));
    SessionStateBuilder::new()
        .with_config(session)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_analyzer_rule(Arc::new(CheckedArithmetic::new()))
        .with_physical_optimizer_rules(rules)
        .with_query_planner(Arc::new(PhysicalPlans))
        .build()
}
