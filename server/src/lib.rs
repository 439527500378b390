//! The server of Pyralog: its wires over one database.

pub mod error;
pub mod flight;
