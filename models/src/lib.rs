//! The data models of Pyralog over one planner: the catalog of collections, SQL, key-value (and more to come), the embedded database.

pub(crate) mod catalog;
pub(crate) mod cooperative_joins;
pub(crate) mod copy;
pub mod database;
pub mod distributed;
pub(crate) mod engine;
pub mod error;
pub(crate) mod external;
pub mod kv;
pub(crate) mod large_stack;
pub mod rdf;
pub(crate) mod reads;
pub mod request;
pub(crate) mod row_ids;
pub mod scan;
pub mod session;
pub(crate) mod sql;

pub use database::{Database, DatabaseConfig, DatabaseStatus};
pub use error::{Error, ErrorKind, Position, Result};
pub use kv::{Bucket, KvEntry, KvPrecondition, KvScan};
pub use pyralog_consensus::node::{GroupStatus, NodeStatus};
pub use pyralog_consensus::{Channel, PeerConfig, PeerTls};
pub use request::RequestName;
pub use session::{IngestMode, IngestRequest, Parameters, Prepared, QueryResult, Session};
