//! Behaviour of a whole node, one module a subject.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod certificates;
mod clocks;
mod cluster;
mod commits;
mod copied_directory;
mod directory;
mod disk;
mod disk_faults;
mod full_disk_of_one;
mod joining;
mod kill;
mod readers;
mod replay;
mod requests;
mod snapshots;
mod status;
mod table;
mod tls;
mod transactions;

use pyralog_consensus::log::disk::{Disk, DiskFile, OsDisk};
