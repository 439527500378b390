//! `kb.quads`: a dataset as a table of terms.

use std::sync::Arc;

use datafusion::datasource::{TableProvider, ViewTable, provider_as_source};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::col;

use super::dataset::{DatasetDefinition, Order, QUAD};
use super::dictionary::Dictionary;
use super::sparql::QueryContext;
use super::term_of::{Face, TermOf};
use crate::error::Result;
use crate::scan::RelationTable;
use crate::session::Reader;

/// The name of the table within the dataset.
pub const QUADS: &str = "quads";

/// The quads of a dataset: a projection of their ids through the dictionary, which the optimizer sees through.
pub(crate) fn quads_table(dataset: &DatasetDefinition, reader: &Reader) -> Result<Arc<dyn TableProvider>> {
    let views = reader.relation(dataset.order(Order::Spo).id)?;
    let relation: Arc<dyn TableProvider> = Arc::new(RelationTable::with_all_columns(format!("{}.{QUADS}", dataset.name), views)?);
    let term = TermOf::new(QueryContext::new(Dictionary::open(dataset, reader)?, None), Face::Parts);
    let plan = LogicalPlanBuilder::scan(QUADS, provider_as_source(relation), None)?
        .project(QUAD.map(|name| term.clone().call(col(name)).alias(name)))?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}
