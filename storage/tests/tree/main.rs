//! How a partition behaves, one behaviour a file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod bulk;
mod compaction;
mod concurrent;
mod damage;
mod empty;
mod failures;
mod harness;
mod integer_index;
mod model;
mod prepared;
mod reads;
mod replica;
mod schemas;
mod small_writes;
mod summaries;
mod thin_path;
