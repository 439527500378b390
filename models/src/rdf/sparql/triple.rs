//! One triple pattern as a scan of the order of quads in which its constants come first.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::datasource::{TableProvider, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::{ident, lit};

use super::estimate::Wanted;
use super::solutions::{Binding, Names, Solutions};
use crate::error::Result;
use crate::rdf::dataset::{DatasetDefinition, Order, QUAD};
use crate::rdf::quad_index::QuadIndex;
use crate::rdf::term_id::TermId;
use crate::scan::RelationTable;
use crate::session::Reader;

/// What stands in a place of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// This term.
    Constant(TermId),
    /// A variable, or a blank node, which is one that nobody sees.
    Variable(String),
}

/// The graphs that a pattern is matched against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Graphs {
    /// One graph.
    One(TermId),
    /// The merge of several (`None`: of all there are): a triple of several of them counts once.
    Merged(Option<Vec<TermId>>),
    /// Each of these named graphs by itself (`None`: each there is), which the variable names.
    Each(String, Option<Vec<TermId>>),
}

/// Quads of a dataset at a snapshot.
pub struct Quads<'a> {
    /// The dataset.
    pub dataset: &'a DatasetDefinition,
    /// The snapshot.
    pub reader: &'a Reader,
    /// The same quads, where scans are to know how much they will read.
    pub index: Option<Arc<QuadIndex>>,
}

impl Quads<'_> {
    /// The solutions of a triple pattern; `text` is how EXPLAIN shows it.
    pub fn matching(&self, names: &mut Names, slots: [&Slot; 3], graphs: &Graphs, text: &str) -> Result<Solutions> {
        let order = Order::with_first(slots.map(|slot| matches!(slot, Slot::Constant(_))));
        let views = self.reader.relation(self.dataset.order(order).id)?;
        let mut table = RelationTable::with_all_columns(format!("{}: {text}", self.dataset.name), views)?;
        if let Some(index) = &self.index {
            let wanted = Wanted {
                slots: slots.map(Slot::clone),
                graphs: graphs.clone(),
                text: String::new(),
            };
            table = table.expecting(wanted.alone(index)?);
        }
        let source: Arc<dyn TableProvider> = Arc::new(table);
        let mut builder = LogicalPlanBuilder::scan(TableReference::bare(text), provider_as_source(source), None)?;
        let mut places: BTreeMap<&str, &str> = BTreeMap::new();
        let mut conditions: Vec<Expr> = Vec::new();
        for (slot, place) in slots.into_iter().zip(QUAD) {
            match slot {
                Slot::Constant(id) => conditions.push(ident(place).eq(lit(id.0))),
                Slot::Variable(name) => conditions.extend(places.insert(name, place).map(|other| ident(place).eq(ident(other)))),
            }
        }
        let graph = ident(QUAD[3]);
        let one_of = |ids: &[TermId]| match ids {
            [] => lit(false),
            ids => graph.clone().in_list(ids.iter().map(|id| lit(id.0)).collect(), false),
        };
        match graphs {
            Graphs::One(id) => conditions.push(graph.clone().eq(lit(id.0))),
            Graphs::Merged(None) => {}
            Graphs::Merged(Some(ids)) => conditions.push(one_of(ids)),
            Graphs::Each(name, among) => {
                conditions.push(match among {
                    Some(ids) => one_of(ids),
                    None => graph.clone().not_eq(lit(TermId::DEFAULT_GRAPH.0)),
                });
                if let Some(other) = places.insert(name, QUAD[3]) {
                    conditions.push(graph.clone().eq(ident(other)));
                }
            }
        }
        if let Some(condition) = conditions.into_iter().reduce(Expr::and) {
            builder = builder.filter(condition)?;
        }
        if matches!(graphs, Graphs::Merged(_)) {
            // Constants are the same in all rows: what tells triples apart are the variables.
            let columns: Vec<Expr> = QUAD[..3].iter().map(|place| ident(*place)).collect();
            builder = builder.project(columns)?.distinct()?;
        }
        let mut columns = Vec::new();
        let mut variables = BTreeMap::new();
        for (name, place) in places {
            let column = names.fresh(name);
            columns.push(ident(place).alias(&column));
            variables.insert(name.to_owned(), Binding::new(column, false));
        }
        Ok(Solutions {
            plan: builder.project(columns)?.build()?,
            variables,
            order: Vec::new(),
            estimate: None,
        })
    }

    /// All quads of some graphs: subject, predicate, object, graph.
    pub fn all(&self, graphs: &Graphs) -> Result<LogicalPlan> {
        let views = self.reader.relation(self.dataset.order(Order::Spo).id)?;
        let table = RelationTable::with_all_columns(format!("{}.quads", self.dataset.name), views)?;
        let source: Arc<dyn TableProvider> = Arc::new(table);
        let mut builder = LogicalPlanBuilder::scan("quads", provider_as_source(source), None)?;
        let graph = ident(QUAD[3]);
        let of = |ids: &[TermId]| graph.clone().in_list(ids.iter().map(|id| lit(id.0)).collect(), false);
        builder = match graphs {
            Graphs::One(id) => builder.filter(graph.eq(lit(id.0)))?,
            Graphs::Merged(None) => builder,
            Graphs::Merged(Some(ids)) | Graphs::Each(_, Some(ids)) => builder.filter(of(ids))?,
            Graphs::Each(_, None) => builder.filter(graph.not_eq(lit(TermId::DEFAULT_GRAPH.0)))?,
        };
        Ok(builder.project(QUAD.map(ident))?.build()?)
    }

    /// Whether all quads are in the default graph.
    pub fn have_one_graph(&self) -> Result<bool> {
        let views = self.reader.relation(self.dataset.graphs.id)?;
        Ok(views.iter().all(|view| view.row_count() == 0))
    }

    /// The named graphs, also those without quads.
    pub fn named_graphs(&self, names: &mut Names, variable: &str, among: Option<&[TermId]>) -> Result<Solutions> {
        let views = self.reader.relation(self.dataset.graphs.id)?;
        let table = RelationTable::with_all_columns(format!("{}.graphs", self.dataset.name), views)?;
        let source: Arc<dyn TableProvider> = Arc::new(table);
        let mut builder = LogicalPlanBuilder::scan("graphs", provider_as_source(source), None)?;
        match among {
            None => {}
            Some([]) => builder = builder.filter(lit(false))?,
            Some(ids) => builder = builder.filter(ident("id").in_list(ids.iter().map(|id| lit(id.0)).collect(), false))?,
        }
        let column = names.fresh(variable);
        Ok(Solutions {
            plan: builder.project([ident("id").alias(&column)])?.build()?,
            variables: BTreeMap::from([(variable.to_owned(), Binding::new(column, false))]),
            order: Vec::new(),
            estimate: None,
        })
    }
}
