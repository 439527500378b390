//! The binary and its HTTP wire from outside: a process, sockets, files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod command_line;
mod demo;
mod files;
mod http_sql;
mod key_value;
mod process;
mod shell;
