//! What can be reached along edges: a breadth-first search from each start, which visits each node once.
//!
//! Where one step is a predicate, or some of them, edges are looked up in the orders of the quads, node by node, until so many lookups were
//! made that to read them all costs less. Edges of any other step are the rows of a plan, and are all read.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::UInt64Type;
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
/// Edges that are read before others have their turn.
const TOGETHER: usize = 64 << 10;

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
            loop {
                let before = edges.len();
                let has_more = blocking(TOGETHER, || {
                    self.index.read(&mut matches, TOGETHER, |quad| {
                        let (from, to) = if *forward { (quad[0], quad[2]) } else { (quad[2], quad[0]) };
                        edges.push([0, from, to]);
                    })
                })?;
                memory.try_grow((edges.len() - before) * EDGE_BYTES)?;
                if !has_more {
                    break;
                }
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

    /// What can be reached from a node, each once.
    pub fn reach(&self, graph: u64, start: u64, reflexive: bool) -> Vec<u64> {
        let neighbours = |node: u64, see: &mut dyn FnMut(u64)| {
            if let Some(edges) = self.of.get(&(graph, node)) {
                self.sorted[edges.clone()].iter().for_each(|edge| see(edge[2]));
            }
            Ok::<bool, std::convert::Infallible>(true)
        };
        match search(start, reflexive, neighbours) {
            Ok(Some(reached)) => reached,
            Ok(None) => Vec::new(),
            Err(never) => match never {},
        }
    }
}

/// A breadth-first search. `neighbours` gives the nodes behind one, and whether the search goes on; `None` where it does not.
fn search<E>(
    start: u64,
    reflexive: bool,
    mut neighbours: impl FnMut(u64, &mut dyn FnMut(u64)) -> std::result::Result<bool, E>,
) -> std::result::Result<Option<Vec<u64>>, E> {
    let mut reached = Vec::new();
    let mut seen = HashSet::new();
    if reflexive {
        seen.insert(start);
        reached.push(start);
    }
    let mut visit = |node: u64, reached: &mut Vec<u64>| {
        neighbours(node, &mut |to| {
            if seen.insert(to) {
                reached.push(to);
            }
        })
    };
    if !reflexive && !visit(start, &mut reached)? {
        return Ok(None);
    }
    let mut next = 0;
    while let Some(&node) = reached.get(next) {
        next += 1;
        if !visit(node, &mut reached)? {
            return Ok(None);
        }
    }
    Ok(Some(reached))
}

fn reservation(context: &TaskContext) -> MemoryReservation {
    MemoryConsumer::new("edges of a path").register(context.memory_pool())
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

    /// What can be reached from a node, each once.
    pub async fn reach(&self, graph: u64, start: u64, reflexive: bool, context: &Arc<TaskContext>) -> DataFusionResult<Vec<u64>> {
        if let Source::Index(indexed) = &self.source
            && self.reading.lock().is_none()
        {
            if let Some(reached) = self.look_up(indexed, start, reflexive, FREE_LOOKUPS)? {
                return Ok(reached);
            }
            let most = indexed.count()? / EDGES_A_LOOKUP;
            if most > FREE_LOOKUPS {
                let lookups = usize::try_from(most).unwrap_or(usize::MAX);
                if let Some(reached) = blocking(lookups, || self.look_up(indexed, start, reflexive, most))? {
                    return Ok(reached);
                }
            }
        }
        Ok(self.all(context).await?.reach(graph, start, reflexive))
    }

    /// The same by lookups; `None` where all searches together would have made more than so many.
    fn look_up(&self, indexed: &Indexed, start: u64, reflexive: bool, most: u64) -> Result<Option<Vec<u64>>> {
        let mut matches = Matches::default();
        search(start, reflexive, |node, see| {
            if self.lookups.fetch_add(1, Ordering::Relaxed) >= most {
                return Ok(false);
            }
            indexed.neighbours(node, &mut matches, see)?;
            Ok(true)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};

    use super::*;

    #[test]
    fn a_search_visits_each_node_once() {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let edges = [[0, 1, 2], [0, 2, 3], [0, 3, 1], [0, 2, 4], [1, 1, 9], [0, 5, 5], [0, 2, 4]];
        let graph = Table::new(edges.to_vec(), MemoryConsumer::new("test").register(&pool));
        assert_eq!(graph.reach(0, 1, false), [2, 3, 4, 1]);
        assert_eq!(graph.reach(0, 1, true), [1, 2, 3, 4]);
        assert_eq!(graph.reach(0, 4, true), [4]);
        assert!(graph.reach(0, 4, false).is_empty());
        assert_eq!(graph.reach(0, 5, false), [5]);
        assert_eq!(graph.reach(1, 1, false), [9]);
        let none: Option<Vec<u64>> = search(1, true, |node, see| {
            see(node + 1);
            Ok::<bool, ()>(node < 3)
        })
        .unwrap();
        assert!(none.is_none());
    }
}
