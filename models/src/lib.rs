//! The data models of Pyralog over one planner: the catalog of collections, SQL, key-value (and more to come), the embedded database.

pub mod database;
pub mod error;
pub mod kv;
pub mod scan;
pub mod session;

pub use database::{Database, DatabaseConfig, DatabaseStatus};
pub use error::{Error, ErrorKind, Position, Result};
pub use kv::{Bucket, KvEntry, KvPrecondition, KvScan};
pub use session::{IngestMode, IngestRequest, Parameters, Prepared, QueryResult, Session};
