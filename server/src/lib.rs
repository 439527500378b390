//! The server of Pyralog: Flight SQL and HTTP over one database, and the command line with its shell, import and export.

// A statement's future holds those of all layers below it; the compiler's default depth for laying out types is just too small.
#![recursion_limit = "256"]

pub mod check;
pub mod cli;
pub mod config;
pub mod demo;
pub mod error;
pub mod export;
pub mod flight;
pub mod format;
pub mod http;
pub mod import;
pub mod log;
pub mod progress;
pub mod serve;
pub mod shell;
