//! Queries that run on several nodes (decision 0017).
//!
//! ```text
//! plan as ever ─▶ worth it? ─▶ plan anew for tasks ─▶ send stages ─▶ rows
//!                    │ no                              │ fails before the first row
//!                    └────────────▶ run the first plan here ◀┘
//! ```
//!
//! `datafusion-distributed` cuts a plan into stages at its shuffles and runs each stage as one task on each of several nodes; this module is all
//! that knows it. What is ours: which plans qualify ([`eligible`], [`check`]), which node reads which partitions ([`Deal`]), which joins are made there ([`colocated`]), what a scan is on the wire
//! ([`codec`]), what a node that runs a task needs ([`worker`]), and that a query whose helpers fail before it has given a row is run by this
//! node alone, at the same snapshot ([`run`]). Every node holds all partitions, so this always works.

mod channel;
mod check;
mod codec;
mod colocated;
mod deal;
mod eligible;
mod explain;
mod guard;
mod run;
mod worker;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::error::Result as DataFusionResult;

pub use channel::in_process;
pub use datafusion_distributed::{Worker, WorkerChannel};
use pyralog_consensus::{Channel, Node};

pub(crate) use deal::Deal;
pub(crate) use run::{Attempt, Distributed, DistributedPlan};

use crate::error::Result;

/// Brings channels to the workers of other nodes.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// A channel to a node's worker. Called for each request: connections are kept.
    ///
    /// # Errors
    /// When there is no way to the node.
    async fn channel(&self, node: u64) -> DataFusionResult<Box<dyn WorkerChannel>>;
}

/// The way to the other nodes of a database. Does not keep the database open.
#[derive(Clone)]
pub struct Peers {
    node: Arc<Node>,
}

impl Peers {
    pub(crate) fn new(node: Arc<Node>) -> Peers {
        Peers { node }
    }

    /// Opens a stream of bytes to another node.
    ///
    /// # Errors
    /// `Unavailable` when this node is alone, or there is no way to the other one.
    pub async fn stream_to(&self, node: u64) -> Result<Channel> {
        Ok(self.node.stream_to(node).await?)
    }
}

/// Whether a session's queries run on several nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Never.
    Off,
    /// Those that read much.
    #[default]
    Auto,
    /// All that can, however little they read: for tests.
    Always,
}

impl Mode {
    /// As `SET distributed` names it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Auto => "auto",
            Mode::Always => "always",
        }
    }

    /// The mode of a name.
    pub fn of(name: &str) -> Option<Mode> {
        let modes = [Mode::Off, Mode::Auto, Mode::Always];
        modes.into_iter().find(|mode| mode.name().eq_ignore_ascii_case(name))
    }
}

/// The carrier of a database whose server has told one.
pub(crate) type SharedCarrier = Arc<dyn Carrier>;
