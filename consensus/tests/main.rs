//! Behaviour of a whole node, one module a subject.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod certificates;
mod cluster;
mod commits;
mod directory;
mod disk;
mod disk_faults;
mod joining;
mod kill;
mod replay;
mod requests;
mod table;
mod tls;

use pyralog_consensus::log::disk::{Disk, DiskFile, OsDisk};
