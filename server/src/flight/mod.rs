//! The Flight SQL wire: Arrow's gRPC protocol for databases, complete enough for the ADBC, JDBC and ODBC drivers.
//!
//! Data's way: `service` takes a call and finds out who calls (`auth`, `caller`); `statement`, `prepared` and `ingest` run it in a
//! session (`slot`, `state`); `query` keeps what a ticket stands for; `wire` turns batches into messages, `decode` behind `guard`
//! turns messages into batches.
//!
//! Invariants:
//! - A statement with side effects runs exactly once: at GetFlightInfo or at DoPut, never at DoGet.
//! - A ticket can be read once. Everything that a client makes here (sessions, transactions, prepared statements, tickets) is bounded
//!   in number and goes away when it is left idle; a transaction that goes away is rolled back.
//! - Nothing from the wire is allocated by a length that it claims before that length is checked.

pub mod auth;
pub mod options;
pub mod server;

mod action;
mod binding;
mod broken_stream;
mod caller;
pub(crate) mod decode;
mod effect;
mod expiry;
mod guard;
mod ingest;
pub mod load;
mod lz4_frame;
mod metadata;
mod prepared;
mod query;
mod service;
mod session_option;
mod slot;
mod state;
mod statement;
mod status;
mod ticket;
mod wire;

pub use auth::{AllowLoopback, Authenticator, Credentials, Principal};
pub use options::FlightOptions;
pub use server::{FlightServer, FlightServerError, serve};
