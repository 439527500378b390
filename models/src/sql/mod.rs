//! SQL: text → tokens (guarded) → statement → logical plan or catalog change or write.

pub(crate) mod bounded_functions;
pub(crate) mod call;
pub(crate) mod checked_arithmetic;
pub(crate) mod checked_sum;
pub(crate) mod context;
pub(crate) mod ddl;
pub(crate) mod dialect;
pub(crate) mod dml;
pub(crate) mod explain;
pub(crate) mod filter_pushdown;
pub(crate) mod guard;
pub(crate) mod information_schema;
pub(crate) mod mixed_types;
pub(crate) mod name;
pub(crate) mod parse;
pub(crate) mod quantified;
pub(crate) mod scalar_subquery;
pub(crate) mod set_operations;
pub(crate) mod show;
pub(crate) mod subquery_value;
pub(crate) mod table_function;
pub(crate) mod template;
pub(crate) mod using_joins;
