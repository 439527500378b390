#![doc = include_str!("../README.md")]

mod address;
mod client;
mod config;
mod error;
mod kv;
mod prepared;
mod query;
mod rdf;
mod retry;
mod rows;
mod scope;
mod statement;
mod table;
mod text;
mod transaction;
mod value;
mod wire;

pub use address::DEFAULT_PORT;
pub use client::Client;
pub use config::{ClientConfig, TlsConfig};
pub use error::{ClientError, ErrorKind, Result};
pub use kv::{Bucket, KvEntry, KvPage, KvVersion, Put, Scan};
pub use prepared::Prepared;
pub use rdf::{Answer, Dataset, Dump, Fault, Literal, Load, Loaded, Quad, Quads, Query, Solution, Solutions, Syntax, Term, Text};
pub use retry::RetryPolicy;
pub use rows::{ColumnIndex, FromColumn, Row, Rows};
pub use statement::Statement;
pub use table::{Batches, Table};
pub use transaction::Tx;
pub use value::{Parameters, Value};

pub use arrow;
