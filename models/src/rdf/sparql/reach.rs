//! What can be reached along edges: a breadth-first search from each start, which visits each node once.
//!
//! Where one step is a predicate, or some of them, edges are looked up in the orders of the quads, node by node, until so many lookups were
//! made that to read them all costs less. Edges of any other step are the rows of a plan, and are all read.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::common::{HashMap, HashSet};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, StreamExt, TryFutureExt};
use parking_lot::Mutex;

use crate::error::Result;
use crate::rdf::blocking;
use crate::rdf::quad_index::{Matches, QuadIndex};

/// An edge: the graph it is in (0 where there is but one), from, to.
pub type Edge = [u64; 3];

/// Lookups that are always made.
const FREE_LOOKUPS: u64 = 256;
/// Edges that are read in the time of one lookup, about.
const EDGES_A_LOOKUP: u64 = 16;
/// Edges that are read, or looked at, before others have their turn.
const TOGETHER: usize = 64 << 10;
/// Lookups that are made before others have their turn.
const LOOKUPS_TOGETHER: u64 = 4 << 10;

/// Edges that are quads with certain predicates.
#[derive(Clone)]
pub struct Indexed {
    /// The quads.
    pub index: Arc<QuadIndex>,
    /// The predicates, and whether the edge goes from subject to object.
    pub steps: Vec<(u64, bool)>,
    /// The graph; `None`: any.
    pub graph: Option<u64>,
}

impl fmt::Debug for Indexed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {:?}", self.steps, self.graph)
    }
}

impl PartialEq for Indexed {
    fn eq(&self, other: &Indexed) -> bool {
        Arc::ptr_eq(&self.index, &other.index) && self.steps == other.steps && self.graph == other.graph
    }
}

impl Eq for Indexed {}

impl Hash for Indexed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.steps.hash(state);
        self.graph.hash(state);
    }
}

impl Indexed {
    /// The same edges, of which nothing has been read.
    pub fn anew(&self) -> Indexed {
        Indexed {
            index: self.index.anew(),
            steps: self.steps.clone(),
            graph: self.graph,
        }
    }

    /// About how many edges there are.
    pub fn count(&self) -> Result<u64> {
        let mut matches = Matches::default();
        let mut count = 0;
        for (predicate, _) in &self.steps {
            self.index.seek([None, Some(*predicate), None, self.graph], &mut matches)?;
            count += self.index.count(&matches)?;
        }
        Ok(count)
    }

    /// Calls `see` for each node that an edge leads to from this one.
    fn neighbours(&self, node: u64, matches: &mut Matches, mut see: impl FnMut(u64)) -> Result<()> {
        for (predicate, forward) in &self.steps {
            let (bound, end) = match forward {
                true => ([Some(node), Some(*predicate), None, self.graph], 2),
                false => ([None, Some(*predicate), Some(node), self.graph], 0),
            };
            self.index.seek(bound, matches)?;
            self.index.read(matches, usize::MAX, |quad| see(quad[end]))?;
        }
        Ok(())
    }

    async fn read(&self, memory: MemoryReservation) -> DataFusionResult<Arc<Table>> {
        let mut edges: Vec<Edge> = Vec::new();
        let mut matches = Matches::default();
        for (predicate, forward) in &self.steps {
            self.index.seek([None, Some(*predicate), None, self.graph], &mut matches)?;
            // At least so many: the newest are not all counted.
            let mut expected = usize::try_from(self.index.count(&matches)?).unwrap_or(usize::MAX).min(TOGETHER);
            loop {
                let before = edges.len();
                let has_more = blocking(expected, || {
                    self.index.read(&mut matches, TOGETHER, |quad| {
                        let (from, to) = if *forward { (quad[0], quad[2]) } else { (quad[2], quad[0]) };
                        edges.push([0, from, to]);
                    })
                })?;
                memory.try_grow((edges.len() - before) * EDGE_BYTES)?;
                if !has_more {
                    break;
                }
                expected = TOGETHER;
                tokio::task::yield_now().await;
            }
        }
        Ok(Arc::new(blocking(edges.len(), || Table::new(edges, memory))))
    }
}

/// An edge stands in the list and, at worst, by itself in the table of nodes.
const EDGE_BYTES: usize = size_of::<Edge>() + 2 * size_of::<((u64, u64), Range<usize>)>();

/// All edges, and where those of a node are.
#[derive(Debug)]
pub struct Table {
    sorted: Vec<Edge>,
    of: HashMap<(u64, u64), Range<usize>>,
    _memory: MemoryReservation,
}

impl Table {
    fn new(mut edges: Vec<Edge>, memory: MemoryReservation) -> Table {
        edges.sort_unstable();
        edges.dedup();
        let mut of = HashMap::new();
        let mut begin = 0;
        for group in edges.chunk_by(|left, right| left[..2] == right[..2]) {
            of.insert((group[0][0], group[0][1]), begin..begin + group.len());
            begin += group.len();
        }
        Table {
            sorted: edges,
            of,
            _memory: memory,
        }
    }

    /// Of the rows of a plan: from, to, and the graph where there are several.
    async fn read(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> DataFusionResult<Arc<Table>> {
        let memory = reservation(&context);
        let mut edges: Vec<Edge> = Vec::new();
        let mut batches = plan.execute(0, context)?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            memory.try_grow(batch.num_rows() * EDGE_BYTES)?;
            let column = |i: usize| batch.column(i).as_primitive::<UInt64Type>();
            let (from, to) = (column(0), column(1));
            let graphs = (batch.num_columns() > 2).then(|| column(2));
            edges.extend((0..batch.num_rows()).map(|row| [graphs.map_or(0, |graphs| graphs.value(row)), from.value(row), to.value(row)]));
        }
        Ok(Arc::new(blocking(edges.len(), || Table::new(edges, memory))))
    }

    /// The nodes where edges begin, each once.
    pub fn starts(&self) -> Vec<u64> {
        let mut starts: Vec<u64> = self.sorted.iter().map(|edge| edge[1]).collect();
        starts.dedup();
        starts
    }

    /// Calls `see` for each node that an edge leads to from this one.
    fn neighbours(&self, graph: u64, node: u64, see: &mut dyn FnMut(u64)) {
        if let Some(edges) = self.of.get(&(graph, node)) {
            self.sorted[edges.clone()].iter().for_each(|edge| see(edge[2]));
        }
    }
}

/// How far a search has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Everything was reached.
    Done,
    /// There is more to do.
    Paused,
    /// Whoever knows the edges does not go on.
    GivenUp,
}

/// A breadth-first search that can be left and taken up again, so that others have their turn, and so that it ends where nobody waits for it.
struct Walk<'a> {
    start: Option<u64>,
    reached: Vec<u64>,
    seen: HashSet<u64>,
    /// The node of `reached` from which to go on.
    next: usize,
    memory: &'a MemoryReservation,
}

/// A node that was reached stands in the list and in the table of those that were seen.
const NODE_BYTES: usize = size_of::<u64>() + 2 * (size_of::<u64>() + 1);

impl<'a> Walk<'a> {
    fn new(start: u64, reflexive: bool, memory: &'a MemoryReservation) -> Walk<'a> {
        if memory.size() > 0 {
            memory.free();
        }
        let mut walk = Walk {
            start: (!reflexive).then_some(start),
            reached: Vec::new(),
            seen: HashSet::new(),
            next: 0,
            memory,
        };
        if reflexive {
            walk.seen.insert(start);
            walk.reached.push(start);
        }
        walk
    }

    /// Goes on until about `most` nodes and edges were looked at. `neighbours` gives the nodes behind one, and whether the search goes on.
    fn advance<E: From<DataFusionError>>(
        &mut self,
        most: usize,
        mut neighbours: impl FnMut(u64, &mut dyn FnMut(u64)) -> std::result::Result<bool, E>,
    ) -> std::result::Result<Progress, E> {
        let mut looked_at = 0;
        loop {
            let Some(node) = self
                .start
                .take()
                .or_else(|| self.reached.get(self.next).copied().inspect(|_| self.next += 1))
            else {
                return Ok(Progress::Done);
            };
            looked_at += 1;
            let goes_on = neighbours(node, &mut |to| {
                looked_at += 1;
                if self.seen.insert(to) {
                    self.reached.push(to);
                }
            })?;
            if !goes_on {
                return Ok(Progress::GivenUp);
            }
            if looked_at >= most {
                self.memory.try_resize(self.reached.len() * NODE_BYTES)?;
                return Ok(Progress::Paused);
            }
        }
    }
}

fn reservation(context: &TaskContext) -> MemoryReservation {
    MemoryConsumer::new("edges of a path").register(context.memory_pool())
}

/// Where what a search reaches is counted.
pub fn reached(context: &TaskContext) -> MemoryReservation {
    MemoryConsumer::new("nodes that a path reaches").register(context.memory_pool())
}

/// Where edges come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// The rows of a plan.
    Plan(Arc<dyn ExecutionPlan>),
    /// The orders of the quads.
    Index(Indexed),
}

/// The reading of the edges. Who waits for it works on it, so that it goes on where one of those who began it is dropped: a plan cannot be read
/// from its beginning again.
type Reading = Shared<BoxFuture<'static, std::result::Result<Arc<Table>, Arc<DataFusionError>>>>;

/// The edges of one operator, which all its partitions search.
#[derive(Debug)]
pub struct Edges {
    source: Source,
    reading: Mutex<Option<Reading>>,
    lookups: AtomicU64,
}

impl Edges {
    /// Of which none is read yet.
    pub fn new(source: Source) -> Edges {
        Edges {
            source,
            reading: Mutex::default(),
            lookups: AtomicU64::new(0),
        }
    }

    /// All of them, read once.
    pub async fn all(&self, context: &Arc<TaskContext>) -> DataFusionResult<Arc<Table>> {
        let reading = self.reading.lock().get_or_insert_with(|| self.read(context)).clone();
        reading.await.map_err(DataFusionError::Shared)
    }

    fn read(&self, context: &Arc<TaskContext>) -> Reading {
        match &self.source {
            Source::Plan(plan) => Table::read(Arc::clone(plan), Arc::clone(context))
                .map_err(Arc::new)
                .boxed()
                .shared(),
            Source::Index(indexed) => {
                let (indexed, memory) = (indexed.clone(), reservation(context));
                async move { indexed.read(memory).await }.map_err(Arc::new).boxed().shared()
            }
        }
    }

    /// What can be reached from a node, each once. `memory` is resized to what is held of it.
    pub async fn reach(
        &self,
        graph: u64,
        start: u64,
        reflexive: bool,
        context: &Arc<TaskContext>,
        memory: &MemoryReservation,
    ) -> DataFusionResult<Vec<u64>> {
        if let Source::Index(indexed) = &self.source
            && self.reading.lock().is_none()
        {
            if let Some(reached) = self.look_up(indexed, start, reflexive, FREE_LOOKUPS, memory).await? {
                return Ok(reached);
            }
            let most = indexed.count()? / EDGES_A_LOOKUP;
            if most > FREE_LOOKUPS
                && let Some(reached) = self.look_up(indexed, start, reflexive, most, memory).await?
            {
                return Ok(reached);
            }
        }
        let table = self.all(context).await?;
        let mut walk = Walk::new(start, reflexive, memory);
        loop {
            let progress = blocking(walk.reached.len(), || {
                walk.advance(TOGETHER, |node, see| {
                    table.neighbours(graph, node, see);
                    Ok::<bool, DataFusionError>(true)
                })
            })?;
            match progress {
                Progress::Paused => tokio::task::yield_now().await,
                Progress::Done | Progress::GivenUp => return Ok(walk.reached),
            }
        }
    }

    /// The same by lookups; `None` where all searches together would have made more than so many.
    async fn look_up(
        &self,
        indexed: &Indexed,
        start: u64,
        reflexive: bool,
        most: u64,
        memory: &MemoryReservation,
    ) -> DataFusionResult<Option<Vec<u64>>> {
        let mut matches = Matches::default();
        let mut walk = Walk::new(start, reflexive, memory);
        loop {
            let lookups = usize::try_from(most.min(LOOKUPS_TOGETHER)).unwrap_or(usize::MAX);
            let progress = blocking(lookups, || {
                walk.advance(lookups, |node, see| {
                    if self.lookups.fetch_add(1, Ordering::Relaxed) >= most {
                        return Ok(false);
                    }
                    indexed.neighbours(node, &mut matches, see)?;
                    Ok::<bool, DataFusionError>(true)
                })
            })?;
            match progress {
                Progress::Done => return Ok(Some(walk.reached)),
                Progress::GivenUp => return Ok(None),
                Progress::Paused => tokio::task::yield_now().await,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool, UnboundedMemoryPool};

    use super::*;

    fn walk(table: &Table, graph: u64, start: u64, reflexive: bool, pool: &Arc<dyn MemoryPool>) -> Vec<u64> {
        let memory = MemoryConsumer::new("test").register(pool);
        let mut walk = Walk::new(start, reflexive, &memory);
        let neighbours = |node: u64, see: &mut dyn FnMut(u64)| {
            table.neighbours(graph, node, see);
            Ok::<bool, DataFusionError>(true)
        };
        // By and by, so that each step but the last one pauses.
        while walk.advance(1, neighbours).unwrap() == Progress::Paused {}
        walk.reached
    }

    #[test]
    fn a_search_visits_each_node_once() {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let edges = [[0, 1, 2], [0, 2, 3], [0, 3, 1], [0, 2, 4], [1, 1, 9], [0, 5, 5], [0, 2, 4]];
        let table = Table::new(edges.to_vec(), MemoryConsumer::new("test").register(&pool));
        let reach = |graph, start, reflexive| walk(&table, graph, start, reflexive, &pool);
        assert_eq!(reach(0, 1, false), [2, 3, 4, 1]);
        assert_eq!(reach(0, 1, true), [1, 2, 3, 4]);
        assert_eq!(reach(0, 4, true), [4]);
        assert!(reach(0, 4, false).is_empty());
        assert_eq!(reach(0, 5, false), [5]);
        assert_eq!(reach(1, 1, false), [9]);
        let memory = MemoryConsumer::new("test").register(&pool);
        let mut endless = Walk::new(1, true, &memory);
        let progress = endless.advance(usize::MAX, |node, see| {
            see(node + 1);
            Ok::<bool, DataFusionError>(node < 3)
        });
        assert_eq!(progress.unwrap(), Progress::GivenUp);
    }

    #[test]
    fn what_a_search_holds_is_counted() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 20));
        let memory = MemoryConsumer::new("test").register(&pool);
        let mut endless = Walk::new(1, true, &memory);
        let error = loop {
            match endless.advance(1_000, |node, see| {
                see(node + 1);
                Ok::<bool, DataFusionError>(true)
            }) {
                Ok(progress) => assert_eq!(progress, Progress::Paused),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, DataFusionError::ResourcesExhausted(_)), "{error}");
        assert!(endless.reached.len() < 60_000, "{}", endless.reached.len());
    }
}
