//! How a partition behaves, one behaviour a file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod bulk;
mod harness;
mod model;
mod small_writes;
mod thin_path;
