//! What the end-to-end tests and the benchmarks share: a server process under test, a plain HTTP client, TPC-H, measuring.
//!
//! Everything here fails by panicking: a test whose setup fails must fail loudly.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's setup that fails must stop the test, with the reason"
)]

pub mod binary;
pub mod cluster;
pub mod exposition;
pub mod http;
pub mod linearizable;
pub mod measure;
pub mod memory;
pub mod peer;
pub mod runtime;
pub mod server;
pub mod shared;
pub mod tpch;
