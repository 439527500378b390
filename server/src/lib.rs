//! The server of Pyralog: Flight SQL and HTTP over one database, and the command line with its shell, import and export.

mod carrier;
pub mod check;
pub mod cli;
pub mod cluster;
mod compression;
pub mod config;
pub mod demo;
pub mod error;
pub mod export;
pub mod fetch;
pub mod flight;
pub mod format;
pub mod http;
pub mod import;
pub mod log;
pub mod progress;
mod rdf_format;
mod request_name;
pub mod serve;
pub mod shell;
