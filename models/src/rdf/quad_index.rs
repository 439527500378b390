//! The quads of a dataset at a snapshot, searched by what is known of them.

use std::sync::{Arc, OnceLock};

use pyralog_storage::{IntegerIndex, IntegerRange, RelationView};

use super::dataset::{DatasetDefinition, Order};
use crate::error::Result;
use crate::session::Reader;

/// Numbers of a quad: subject, predicate, object, graph.
pub type Quad = [u64; 4];

/// The quads in all orders. Reads may fault pages in.
pub struct QuadIndex {
    orders: [OrderIndex; 3],
}

struct OrderIndex {
    views: Vec<RelationView>,
    /// One a partition.
    opened: OnceLock<Vec<IntegerIndex<4>>>,
}

/// The quads with certain terms in certain places; those that were read are gone. Can be used again without allocating anew.
#[derive(Debug, Default, Clone)]
pub struct Matches {
    order: Option<Order>,
    ranges: Vec<IntegerRange>,
    /// The graph, where the order does not tell it.
    graph: Option<u64>,
}

impl QuadIndex {
    /// As a statement reads it.
    pub(crate) fn open(dataset: &DatasetDefinition, reader: &Reader) -> Result<Arc<QuadIndex>> {
        let order = |order: Order| -> Result<OrderIndex> {
            Ok(OrderIndex {
                views: reader.relation(dataset.order(order).id)?,
                opened: OnceLock::new(),
            })
        };
        Ok(Arc::new(QuadIndex {
            orders: [order(Order::Spo)?, order(Order::Pos)?, order(Order::Osp)?],
        }))
    }

    /// The same quads, of which nothing has been read.
    pub fn anew(&self) -> Arc<QuadIndex> {
        let orders = self.orders.each_ref().map(|order| OrderIndex {
            views: order.views.clone(),
            opened: OnceLock::new(),
        });
        Arc::new(QuadIndex { orders })
    }

    fn order(&self, order: Order) -> Result<&[IntegerIndex<4>]> {
        let index = &self.orders[order as usize];
        if let Some(opened) = index.opened.get() {
            return Ok(opened);
        }
        let views = index.views.iter().map(RelationView::integer_index);
        let opened = views.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(index.opened.get_or_init(|| opened))
    }

    /// Sets `matches` to the quads with these terms in these places.
    pub fn seek(&self, bound: [Option<u64>; 4], matches: &mut Matches) -> Result<()> {
        let order = Order::with_first([bound[0].is_some(), bound[1].is_some(), bound[2].is_some()]);
        let mut prefix = [0; 4];
        let mut length = 0;
        for position in order.positions() {
            let Some(number) = bound[position] else { break };
            prefix[length] = number;
            length += 1;
        }
        let indexes = self.order(order)?;
        if matches.order != Some(order) {
            matches.ranges.iter_mut().for_each(IntegerRange::forget);
        }
        matches.order = Some(order);
        matches.graph = if length == 4 { None } else { bound[3] };
        matches.ranges.resize_with(indexes.len(), IntegerRange::default);
        for (index, range) in indexes.iter().zip(&mut matches.ranges) {
            index.seek(&prefix[..length], range)?;
        }
        Ok(())
    }

    /// About how many quads there are to read: no fewer than there are, but for those that were written lately.
    pub fn count(&self, matches: &Matches) -> Result<u64> {
        let Some(order) = matches.order else { return Ok(0) };
        Ok(self
            .order(order)?
            .iter()
            .zip(&matches.ranges)
            .map(|(index, range)| index.count(range))
            .sum())
    }

    /// How many quads have these terms in these places, from what is known of segments; `None` where quads would have to be read for it.
    pub fn exact_count(&self, bound: [Option<u64>; 4]) -> Result<Option<u64>> {
        let mut matches = Matches::default();
        self.seek(bound, &mut matches)?;
        let (None, Some(order)) = (matches.graph, matches.order) else {
            return Ok(None);
        };
        let indexes = self.order(order)?.iter().zip(&matches.ranges);
        Ok(indexes.map(|(index, range)| index.exact_count(range)).sum())
    }

    /// Gives up to `limit` further quads; whether there may be more.
    pub fn read(&self, matches: &mut Matches, limit: usize, mut see: impl FnMut(Quad)) -> Result<bool> {
        let Some(order) = matches.order else { return Ok(false) };
        let graph = matches.graph;
        let mut left = limit;
        for (index, range) in self.order(order)?.iter().zip(&mut matches.ranges) {
            let mut seen = 0;
            let has_more = index.read(range, left, |key| {
                seen += 1;
                let quad = quad_of(order, key);
                if graph.is_none_or(|graph| quad[3] == graph) {
                    see(quad);
                }
            })?;
            left = left.saturating_sub(seen);
            if has_more {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives up to about `count` of the quads, spread evenly.
    pub fn sample(&self, matches: &Matches, count: usize, mut see: impl FnMut(Quad)) -> Result<()> {
        let Some(order) = matches.order else { return Ok(()) };
        for (index, range) in self.order(order)?.iter().zip(&matches.ranges) {
            index.sample(range, count, |key| {
                let quad = quad_of(order, key);
                if matches.graph.is_none_or(|graph| quad[3] == graph) {
                    see(quad);
                }
            })?;
        }
        Ok(())
    }
}

fn quad_of(order: Order, key: [u64; 4]) -> Quad {
    let mut quad = [0; 4];
    for (position, number) in order.positions().into_iter().zip(key) {
        quad[position] = number;
    }
    quad
}
