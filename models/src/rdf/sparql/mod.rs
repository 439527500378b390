//! SPARQL: from text to a plan over the quads of a dataset.
//!
//! ```text
//! text ─▶ bounded, parsed (spargebra) ─▶ algebra ─▶ plan: scans of orders, joins on ids, conditions ─▶ the shared optimizer
//! ```
//!
//! Each variable is a column of ids (`solutions`), each triple pattern a scan of one order (`triple`), each operator a function of the plan
//! (`operator`). Terms are looked up at the end, for the rows that are left.

mod context;
mod expression;
mod operator;
mod pattern;
mod solutions;
mod text;
mod triple;

use std::sync::Arc;

use datafusion::datasource::{TableProvider, ViewTable};
use datafusion::logical_expr::LogicalPlanBuilder;
use oxrdf::NamedNode;
use spargebra::Query;
use spargebra::algebra::{GraphPattern, QueryDataset as Clauses};
use spargebra::term::Variable;

pub(crate) use context::QueryContext;

use self::pattern::{QueryDataset, Translator};
use self::solutions::Names;
use self::triple::{Graphs, Quads};
use super::dataset::DatasetDefinition;
use super::dictionary::Dictionary;
use super::term_id::{Encoded, TermId};
use super::term_of::{Face, TermOf};
use crate::error::{Error, Result};
use crate::session::Reader;

/// A `SELECT` query as a table: a column of text for each variable, null where it is unbound.
pub(crate) fn table(dataset: &DatasetDefinition, reader: &Reader, query: &str) -> Result<Arc<dyn TableProvider>> {
    let Query::Select {
        dataset: clauses, pattern, ..
    } = text::query(query, None)?
    else {
        return Err(Error::invalid("42601", "sparql() takes a SELECT query"));
    };
    let context = QueryContext::new(Dictionary::open(dataset, reader)?);
    let graphs = graphs_of(&context, clauses.as_ref())?;
    let default = graphs.default.clone();
    let mut translator = Translator {
        quads: Quads { dataset, reader },
        context: context.clone(),
        dataset: graphs,
        names: Names::default(),
    };
    let solutions = translator.pattern(&pattern, &default)?;
    let columns = selected(&pattern)?.iter().map(|variable| {
        let value = solutions
            .variables
            .get(variable.as_str())
            .map_or_else(solutions::unbound, solutions::Binding::expr);
        TermOf::new(context.clone(), Face::Text).call(value).alias(variable.as_str())
    });
    let columns: Vec<_> = columns.collect();
    let plan = LogicalPlanBuilder::from(solutions.plan).project(columns)?.build()?;
    Ok(Arc::new(ViewTable::new(plan, Some(query.to_owned()))))
}

/// The variables of the outermost SELECT, in its order.
fn selected(pattern: &GraphPattern) -> Result<&[Variable]> {
    match pattern {
        GraphPattern::Project { variables, .. } => Ok(variables),
        GraphPattern::Distinct { inner } | GraphPattern::Reduced { inner } | GraphPattern::Slice { inner, .. } => selected(inner),
        _ => Err(Error::internal("a SELECT query without a projection")),
    }
}

/// The graphs of FROM and FROM NAMED, or all that are stored.
fn graphs_of(context: &QueryContext, clauses: Option<&Clauses>) -> Result<QueryDataset> {
    let Some(clauses) = clauses else {
        return Ok(QueryDataset {
            default: Graphs::One(TermId::DEFAULT_GRAPH),
            named: None,
        });
    };
    let ids = |graphs: &[NamedNode]| -> Result<Vec<TermId>> { graphs.iter().map(|iri| context.id(Encoded::iri(iri.as_ref()))).collect() };
    let default = match ids(&clauses.default)?.as_slice() {
        [one] => Graphs::One(*one),
        several => Graphs::Merged(several.to_vec()),
    };
    Ok(QueryDataset {
        default,
        named: Some(ids(clauses.named.as_deref().unwrap_or_default())?),
    })
}
