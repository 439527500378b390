//! Which node reads which partitions, and the answers that the distributed planner wants of it.

use std::sync::Arc;

use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::{
    DesiredTaskCountEvent, DesiredTaskCountEventResponse, DistributedLeafExec, RouteTasksEvent, RouteTasksEventResponse,
    ScaleUpLeafNodeEvent, ScaleUpLeafNodeEventResponse, WorkerResolver,
};
use pyralog_consensus::Moment;
use url::Url;

use crate::error::Error;
use crate::scan::{Part, PartitionScan, RelationSource};

/// How the work of one query is dealt. An extension of the session that plans it.
pub(crate) struct Deal {
    /// What is read.
    pub moment: Arc<Moment>,
    /// Who takes part: task `i` of each stage runs on the `i`-th. Two tasks of a stage are never on one node.
    pub nodes: Vec<u64>,
    /// Who leads each partition.
    pub leaders: Vec<Option<u64>>,
    /// Rows for which another task pays.
    pub rows_a_task: u64,
}

impl Deal {
    fn tasks_for(&self, rows: u64) -> usize {
        let tasks = rows.div_ceil(self.rows_a_task.max(1)).max(1);
        usize::try_from(tasks).unwrap_or(usize::MAX).min(self.nodes.len())
    }

    /// The partitions of each of so many tasks: those that its node leads, as far as all have about as many.
    fn partitions(&self, tasks: usize) -> Vec<Vec<usize>> {
        let most = self.leaders.len().div_ceil(tasks.max(1));
        let mut dealt = vec![Vec::new(); tasks];
        let mut left = Vec::new();
        for (partition, leader) in self.leaders.iter().enumerate() {
            let home = self.nodes.iter().take(tasks).position(|node| Some(*node) == *leader);
            match home.and_then(|task| dealt.get_mut(task)) {
                Some(task) if task.len() < most => task.push(partition),
                _ => left.push(partition),
            }
        }
        for partition in left {
            if let Some(task) = dealt.iter_mut().min_by_key(|task| task.len()) {
                task.push(partition);
            }
        }
        dealt
    }

    fn variants(&self, leaf: &Arc<dyn ExecutionPlan>, source: &RelationSource, tasks: usize) -> Result<Arc<dyn ExecutionPlan>> {
        let variants = self.partitions(tasks).into_iter().map(|partitions| {
            let parts = partitions.into_iter().filter_map(|partition| {
                let applied = *self.moment.applied.get(partition)?;
                Some(Part { partition, applied })
            });
            let spec = source.of_partitions(self.moment.timestamp, parts.collect());
            Ok(DataSourceExec::from_data_source(PartitionScan::to_send(spec)?) as Arc<dyn ExecutionPlan>)
        });
        let variants: Result<Vec<_>> = variants.collect();
        Ok(Arc::new(DistributedLeafExec::try_new(Arc::clone(leaf), variants?)?))
    }
}

fn relation(plan: &Arc<dyn ExecutionPlan>) -> Option<&RelationSource> {
    plan.downcast_ref::<DataSourceExec>()?
        .data_source()
        .downcast_ref::<RelationSource>()
}

/// How many tasks a leaf is for.
pub(super) fn desired_tasks(event: DesiredTaskCountEvent<'_>) -> Option<Result<DesiredTaskCountEventResponse>> {
    if !event.plan.children().is_empty() {
        return None;
    }
    let deal = event.session_config.get_extension::<Deal>()?;
    Some(Ok(match relation(event.plan) {
        Some(source) if source.is_shared() => DesiredTaskCountEventResponse::desired(deal.tasks_for(source.rows_to_read())),
        // One stream, whose readers would take what one task has for all there is.
        _ => DesiredTaskCountEventResponse::maximum(1),
    }))
}

/// A leaf for several tasks.
pub(super) fn scale_up(event: ScaleUpLeafNodeEvent<'_>) -> Option<Result<ScaleUpLeafNodeEventResponse>> {
    let deal = event.session_config.get_extension::<Deal>()?;
    let source = relation(event.plan).filter(|source| source.is_shared())?;
    Some(
        deal.variants(event.plan, source, event.task_count)
            .map(ScaleUpLeafNodeEventResponse::new),
    )
}

/// Where the tasks of a stage run.
pub(super) fn routes(event: RouteTasksEvent<'_>) -> Option<Result<RouteTasksEventResponse>> {
    let deal = event.task_ctx.session_config().get_extension::<Deal>()?;
    let nodes = deal.nodes.get(..event.task_count);
    Some(match nodes {
        Some(nodes) => nodes
            .iter()
            .map(|node| url_of(*node))
            .collect::<Result<_>>()
            .map(RouteTasksEventResponse::new),
        None => Err(Error::internal(format!("{} tasks for {} nodes", event.task_count, deal.nodes.len())).into()),
    })
}

/// A node as the distributed planner names it. Nobody resolves such a name.
pub(super) fn url_of(node: u64) -> Result<Url> {
    Url::parse(&format!("http://node-{node}/")).map_err(|error| Error::internal(format!("node {node} has no URL: {error}")).into())
}

/// The node of such a name.
pub(super) fn node_of(url: &Url) -> Option<u64> {
    url.host_str()?.strip_prefix("node-")?.parse().ok()
}

/// The nodes that take part.
pub(super) struct Nodes(pub Vec<Url>);

impl WorkerResolver for Nodes {
    fn get_urls(&self) -> Result<Vec<Url>> {
        Ok(self.0.clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn deal(nodes: Vec<u64>, leaders: Vec<Option<u64>>) -> Deal {
        Deal {
            moment: Arc::new(Moment {
                timestamp: pyralog_storage::Timestamp(1),
                applied: vec![0; leaders.len()].into(),
            }),
            nodes,
            leaders,
            rows_a_task: 100,
        }
    }

    #[test]
    fn partitions_are_read_where_they_are_led_and_evenly() {
        let leaders = vec![Some(3), Some(1), Some(2), Some(3), None, Some(3), Some(3), Some(9)];
        let dealt = deal(vec![2, 1, 3], leaders).partitions(3);
        let mut all: Vec<usize> = dealt.concat();
        all.sort_unstable();
        assert_eq!(all, (0..8).collect::<Vec<_>>());
        assert!(dealt.iter().all(|task| (2..=3).contains(&task.len())), "{dealt:?}");
        assert!(dealt[0].contains(&2) && dealt[1].contains(&1));
        assert_eq!(dealt[2], [0, 3, 5]);
    }

    #[test]
    fn more_tasks_than_partitions_leave_some_without() {
        let dealt = deal(vec![1, 2, 3], vec![Some(1), Some(1)]).partitions(3);
        assert_eq!(dealt, [vec![0], vec![1], vec![]]);
    }

    #[test]
    fn tasks_grow_with_rows() {
        let deal = deal(vec![1, 2, 3], vec![None; 8]);
        let tasks = [0, 1, 100, 101, 201, u64::MAX].map(|rows| deal.tasks_for(rows));
        assert_eq!(tasks, [1, 1, 1, 2, 3, 3]);
    }

    #[test]
    fn nodes_are_found_by_their_urls() {
        assert_eq!(node_of(&url_of(17).unwrap()), Some(17));
        assert_eq!(node_of(&Url::parse("http://elsewhere/").unwrap()), None);
    }
}
