//! The software of a simulated host: opens the node, serves clients, does as it is told.

use std::sync::Arc;
use std::time::Duration;

use pyralog_consensus::clock::WallClock;
use pyralog_consensus::{Node, NodeConfig, NodeEnvironment, PeerConfig, simulation};
use pyralog_storage::PartitionOptions;
use tokio::sync::mpsc;

use crate::clients;
use crate::network::{Network, PORT};
use crate::world::{Host, world};

/// Clients of each node.
const CLIENTS: usize = 2;
/// Small, so that flushes, purges and snapshots come often.
const MEMTABLE_BYTES: u64 = 24 << 10;
const LOG_FILE_BYTES: u64 = 16 << 10;
/// Milliseconds since the Unix epoch at the beginning of every simulation.
const EPOCH_MS: i64 = 1_800_000_000_000;

/// What a node is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Stop in good order.
    Close,
    /// Flush.
    Checkpoint,
    /// Compact all.
    Compact,
    /// Take this node out of the cluster.
    Remove(u64),
}

/// The wall clock of one host: off by hours, perhaps, and set at any time.
struct Clock(usize);

impl WallClock for Clock {
    fn millis(&self) -> u64 {
        let world = world();
        let off = world.host(self.0).clock_skew_ms.get();
        (EPOCH_MS + world.now.get().as_millis() as i64 + off).max(0) as u64
    }
}

fn config(host: &Host) -> NodeConfig {
    let mut config = NodeConfig::new(&host.dir);
    config.log_file_bytes = LOG_FILE_BYTES;
    config.partitions = world().partitions;
    config.partition_options = PartitionOptions {
        memtable_bytes: MEMTABLE_BYTES,
        ..PartitionOptions::default()
    };
    let others = world()
        .hosts
        .borrow()
        .iter()
        .filter(|other| other.name != host.name)
        .map(|other| format!("{}:{PORT}", other.name))
        .collect();
    config.peer = Some(PeerConfig {
        listen: ([0, 0, 0, 0], PORT).into(),
        advertise: Some(format!("{}:{PORT}", host.name)),
        join: if host.joins { others } else { Vec::new() },
        node_id: None,
        tls: None,
        snapshot_rate: PeerConfig::SNAPSHOT_RATE,
    });
    config
}

/// One life of a node.
pub async fn live(number: usize) -> Result<(), Box<dyn std::error::Error>> {
    let host = world().host(number);
    host.life.set(host.life.get() + 1);
    let environment = NodeEnvironment {
        wall: Box::new(Clock(number)),
        disk: host.disk.mount(),
        transport: Arc::new(Network),
    };
    world().event(|| format!("opens, life {}", host.life.get()));
    let node = match Node::open_in(config(&host), environment).await {
        Ok(node) => node,
        Err(error) => {
            world().event(|| format!("cannot open: {error}"));
            *host.refused.borrow_mut() = Some(error.to_string());
            return Ok(());
        }
    };
    world().event(|| "is open".to_owned());
    *host.node.borrow_mut() = Some(Arc::downgrade(&node));
    let (sender, mut commands) = mpsc::unbounded_channel();
    *host.commands.borrow_mut() = Some(sender);
    for client in 0..CLIENTS {
        tokio::task::spawn_local(simulation::task(clients::work(node.clone(), number, client)));
    }
    while let Some(command) = commands.recv().await {
        world().event(|| format!("is told to {command:?}"));
        if command == Command::Close {
            let closed = node.close().await;
            world().event(|| format!("closed: {closed:?}"));
            break;
        }
        tokio::task::spawn_local(simulation::task(obey(node.clone(), command)));
    }
    Ok(())
}

async fn obey(node: Arc<Node>, command: Command) {
    let number = world().below(node.partitions().len() as u64);
    let partition = &node.partitions()[number as usize];
    let result = match command {
        Command::Close => Ok(()),
        Command::Checkpoint => partition.checkpoint().await,
        Command::Compact => partition.compact(None).await,
        Command::Remove(node_id) => {
            let mut removed = node.remove_member(node_id).await;
            while removed.is_err() && world().working.get() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                removed = node.remove_member(node_id).await;
            }
            removed
        }
    };
    world().event(|| format!("did {command:?}: {result:?}"));
}
