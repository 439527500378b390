//! Behaviour of the embedded database, one module a behaviour, one binary for all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod colocated;
mod conflict;
mod distributed;
mod dml;
mod fixture;
mod group_commit;
mod key_value;
mod merge;
mod numbers;
mod parameters;
mod partition_by;
mod reopen;
mod same_names;
mod schema_change;
mod serializable;
mod sparql;
mod sparql_call;
mod sparql_clear;
mod sparql_plan_cache;
mod sparql_plans;
