//! The client against a scripted Flight SQL server, which fails where a real one seldom does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod failover;
mod reads;
mod server;
mod uploads;
mod writes;
