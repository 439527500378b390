//! How a node comes to be one of a database: its founder, or a directory that joins.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, Exports};
use super::format::{FOUNDER, Format};
use super::join_file::JoinFile;
use super::opening::{blocking, check_partitions};
use super::standing::Standing;
use super::streams::Streams;
use super::{NodeConfig, PeerConfig};
use crate::error::{ConsensusError, Result};
use crate::peer::transport::Transport;
use crate::peer::{Links, Pace, PeerError, PeerIdentity, PeerServer, Peers, Tls};
use crate::raft::counts::SnapshotCounts;
use crate::raft::wire::{self, Answer, JoinRequest, Joined, Request};

/// How long a node looks for a cluster to join before it gives up.
const JOIN_LIMIT: Duration = Duration::from_secs(60);
const JOIN_CALL_LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);

/// Whether the configuration fits a directory that was initialised before.
pub fn check(config: &NodeConfig, format: &Format) -> Result<()> {
    let wanted = config.peer.as_ref().and_then(|peer| peer.node_id);
    match wanted {
        Some(wanted) if wanted != format.node => Err(ConsensusError::Unsupported(format!(
            "{} belongs to node {}, and the configuration says node {wanted}; correct the id or the directory",
            config.data_dir.display(),
            format.node
        ))),
        _ => Ok(()),
    }
}

/// Initialises an empty directory: as the first node of a new database, or as a new node of the database that it joins. `address` is where
/// other nodes reach this one, if they do.
pub async fn initialise(config: &Arc<NodeConfig>, address: Option<&str>, links: &Links) -> Result<Format> {
    let Some(begun) = begin(config).await? else {
        return found(config).await;
    };
    let (Some(peer), Some(address)) = (&config.peer, address) else {
        return Err(ConsensusError::Unsupported(format!(
            "{} is about to join the cluster of {}: start it with an address for other nodes (--peer-addr); {}",
            config.data_dir.display(),
            begun.addresses.join(", "),
            instead(config)
        )));
    };
    let request = JoinRequest {
        node: peer.node_id,
        address: address.to_owned(),
        token: begun.token,
    };
    let joined = join(&begun.addresses, request, links.clone()).await.map_err(|error| match error {
        // Nobody said so this time.
        ConsensusError::Unsupported(why) if peer.join.is_empty() => ConsensusError::Unsupported(format!("{why}; {}", instead(config))),
        ConsensusError::Unavailable(why) if peer.join.is_empty() => ConsensusError::Unavailable(format!("{why}; {}", instead(config))),
        other => other,
    })?;
    if config.partitions != 0 && config.partitions != joined.partitions {
        return Err(ConsensusError::Unsupported(format!(
            "the cluster has {} data partitions, and the configuration asks for {}; the number is fixed",
            joined.partitions, config.partitions
        )));
    }
    check_partitions(config, joined.partitions)?;
    let config = config.clone();
    blocking(move || Format::create(&config.data_dir, joined.database, joined.node, joined.partitions)).await
}

/// The first node of a new database.
async fn found(config: &Arc<NodeConfig>) -> Result<Format> {
    let wanted = config.peer.as_ref().and_then(|peer| peer.node_id);
    if let Some(wanted) = wanted.filter(|wanted| *wanted != FOUNDER) {
        return Err(ConsensusError::Unsupported(format!(
            "the first node of a database is node {FOUNDER}, not {wanted}; say which cluster the new node is to join, or leave out the id"
        )));
    }
    let config = config.clone();
    blocking(move || Format::found(&config.data_dir, config.partitions)).await
}

/// The join that an empty directory is to make: the one that the configuration asks for, or that an earlier start began. An attempt that
/// was cut off goes on with the same token.
async fn begin(config: &Arc<NodeConfig>) -> Result<Option<JoinFile>> {
    let config = config.clone();
    blocking(move || {
        // Older ones hold no addresses.
        let before = JoinFile::read(&config.data_dir)?.filter(|join| !join.addresses.is_empty());
        let asked = config.peer.iter().flat_map(|peer| peer.join.clone()).collect::<Vec<_>>();
        if asked.is_empty() {
            return Ok(before);
        }
        let mut join = before.unwrap_or_else(|| JoinFile::begin(Vec::new()));
        join.addresses = asked;
        join.write(&config.data_dir)?;
        Ok(Some(join))
    })
    .await
}

fn instead(config: &NodeConfig) -> String {
    let path = JoinFile::path(&config.data_dir);
    format!("to begin a new database there instead, remove {}", path.display())
}

/// Addresses of the cluster for a node that knows none by itself: those of the configuration, or of the join that is not finished.
pub async fn addresses(config: &Arc<NodeConfig>) -> Result<Vec<String>> {
    let asked = config.peer.iter().flat_map(|peer| peer.join.clone()).collect::<Vec<_>>();
    let dir = config.data_dir.clone();
    blocking(move || match JoinFile::read(&dir)? {
        Some(mut join) if !asked.is_empty() && join.addresses != asked => {
            join.addresses = asked;
            join.write(&dir)?;
            Ok(join.addresses)
        }
        Some(join) => Ok(join.addresses),
        None => Ok(asked),
    })
    .await
}

async fn join(addresses: &[String], request: JoinRequest, links: Links) -> Result<Joined> {
    let peers = Peers::new(PeerIdentity::stranger(), links);
    let deadline = Instant::now() + JOIN_LIMIT;
    let mut reason = String::new();
    while Instant::now() < deadline {
        for address in addresses {
            peers.set_address(0, address.clone());
            let answer = peers.call(0, wire::encode(&Request::Join(request.clone()))?, JOIN_CALL_LIMIT).await;
            match answer {
                Ok(bytes) => match wire::decode(&bytes) {
                    Ok(Answer::Join(Ok(joined))) => return Ok(joined),
                    Ok(Answer::Join(Err(refused))) => {
                        return Err(ConsensusError::Unsupported(format!(
                            "{address} does not let this node join: {refused}"
                        )));
                    }
                    Ok(_) => reason = format!("{address} gave an answer to another question"),
                    Err(error) => reason = format!("{address}: {error}"),
                },
                Err(PeerError::Refused(refused)) => {
                    return Err(ConsensusError::Unsupported(format!(
                        "{address} does not let this node join: {refused}"
                    )));
                }
                Err(error) => reason = format!("{address}: {error}"),
            }
        }
        sleep(PAUSE).await;
    }
    Err(ConsensusError::Unavailable(format!(
        "no node of a cluster answers at {} ({reason})",
        addresses.join(", ")
    )))
}

/// How this node and others reach each other.
pub async fn links(config: &Arc<NodeConfig>, transport: Arc<dyn Transport>) -> Result<Links> {
    let config = config.clone();
    let tls = blocking(move || {
        let Some((peer, files)) = config.peer.as_ref().and_then(|peer| peer.tls.clone().map(|tls| (peer, tls))) else {
            return Ok(None);
        };
        let opened = Tls::open(files, &address(peer, peer.listen));
        opened
            .map(|tls| Some(Arc::new(tls)))
            .map_err(|error| ConsensusError::Unsupported(error.to_string()))
    });
    let tls = tls.await?;
    Ok(Links { transport, tls })
}

/// Where other nodes reach this one, which listens at `bound`.
pub fn address(peer: &PeerConfig, bound: SocketAddr) -> String {
    peer.advertise.clone().unwrap_or_else(|| bound.to_string())
}

/// Binds the port for other nodes. Before the directory is initialised: a first start that fails at its port must not leave a database that
/// nobody asked for.
pub async fn bind(peer: &PeerConfig, links: Links) -> Result<PeerServer> {
    PeerServer::bind(peer.listen, links).await.map_err(|error| {
        ConsensusError::Unavailable(format!(
            "cannot listen for other nodes at {}: {error}; choose another address, or stop what uses it",
            peer.listen
        ))
    })
}

/// This node among the others, whose addresses come with the groups' membership.
pub fn cluster(identity: PeerIdentity, address: String, links: Links, snapshot_rate: u64) -> Cluster {
    Cluster {
        node: identity.node,
        address,
        peers: Peers::new(identity, links),
        exports: Exports::default(),
        standing: Standing::default(),
        streams: Streams::default(),
        snapshots: SnapshotCounts::default(),
        snapshot_pace: Arc::new(Pace::new(snapshot_rate)),
        forwarding: Default::default(),
        heartbeats: Default::default(),
        changing: tokio::sync::Mutex::default(),
    }
}
