//! Scans against real partitions. Every query is also asked of a plain in-memory table with the same rows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod filters;
mod ordering;
mod points;
mod pruning;
mod residency;
mod statistics;
mod store;
