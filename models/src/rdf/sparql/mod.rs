//! SPARQL: from text to a plan over the quads of a dataset.
//!
//! ```text
//! text ─▶ bounded, parsed (spargebra) ─▶ algebra ─▶ plan: scans of orders, joins on ids, conditions ─▶ the shared optimizer
//! ```
//!
//! Each variable is a column of ids (`solutions`), each triple pattern a scan of one order (`triple`), each operator a function of the plan
//! (`operator`). Terms are looked up at the end, for the rows that are left.

mod aggregate;
mod basic;
mod bind;
mod context;
mod conversion;
mod counted;
mod describe;
mod estimate;
mod exists;
mod expand;
mod expression;
mod form;
mod group;
mod growth;
mod guard;
mod here;
mod joining;
mod load;
mod memo;
mod operator;
mod order;
mod path;
mod pattern;
mod plain;
mod plan;
mod plan_cache;
mod probe;
mod projected;
mod query;
mod reach;
mod rows;
mod scope;
mod service;
mod service_rows;
mod service_run;
mod shared;
mod solutions;
mod template;
mod text;
mod token;
mod triple;
mod unbound;
mod update;
mod written;

pub(crate) use bind::BindPlanner;
pub(crate) use context::QueryContext;
pub(crate) use counted::CountedPlanner;
pub(crate) use expand::ExpandPlanner;
pub use form::SparqlForm;
pub(crate) use plan_cache::PlanCache;
pub(crate) use query::table;
pub use query::{SparqlJoin, SparqlQuery, SparqlResult};
pub(crate) use rows::{answer, columns};
pub(crate) use service::ServicePlanner;
