//! Streams between the nodes of a cluster, for whoever brings a protocol of their own: see [`Channel`].

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{Node, membership};
use crate::error::{ConsensusError, Result};
use crate::peer::Channel;

/// Streams that wait to be taken up; a further one is closed.
const WAITING: usize = 16;

/// Who takes the streams that other nodes open.
#[derive(Debug, Default)]
pub struct Streams {
    listener: Mutex<Listener>,
}

#[derive(Debug, Default)]
enum Listener {
    /// Nobody asked for them yet.
    #[default]
    None,
    /// Somebody takes them, each with the node that opened it.
    Some(mpsc::Sender<(u64, Channel)>),
    /// The node has stopped.
    Closed,
}

impl Streams {
    /// The streams from now on, for whoever asks first while the node runs.
    fn listen(&self) -> Option<mpsc::Receiver<(u64, Channel)>> {
        let mut listener = self.listener.lock();
        if !matches!(*listener, Listener::None) {
            return None;
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        *listener = Listener::Some(sender);
        Some(receiver)
    }

    /// Gives a stream to whoever takes them. The error is why it was closed instead.
    pub fn give(&self, from: u64, channel: Channel) -> Result<(), String> {
        match &*self.listener.lock() {
            Listener::Some(sender) => sender.try_send((from, channel)).map_err(|error| error.to_string()),
            Listener::None | Listener::Closed => Err("nobody takes streams here".to_owned()),
        }
    }

    /// Tells whoever takes them that none will come any more.
    pub fn close(&self) {
        *self.listener.lock() = Listener::Closed;
    }
}

impl Node {
    /// Opens a stream to another node of the cluster. Where that one takes no streams, or too many wait there, the first read finds that the
    /// stream has ended.
    ///
    /// The stream ends when one of the two nodes stops, falls silent, or is taken out of the cluster.
    ///
    /// # Errors
    ///
    /// [`ConsensusError::Unavailable`]: this node is alone or is not to act, or the other one is itself, not of the cluster, or not reached.
    pub async fn stream_to(&self, node: u64) -> Result<Channel> {
        let Some(cluster) = &self.cluster else {
            return Err(ConsensusError::Unavailable(
                "this node is alone: it was started without an address for peers".to_owned(),
            ));
        };
        cluster.standing.check().map_err(ConsensusError::Unavailable)?;
        if node == self.format.node {
            return Err(ConsensusError::Unavailable(format!("node {node} is this node itself")));
        }
        if !membership::is_member(&self.meta, node) {
            return Err(ConsensusError::Unavailable(format!("there is no node {node} in this cluster")));
        }
        let opened = cluster.peers.stream(node).await;
        opened.map_err(|error| ConsensusError::Unavailable(error.to_string()))
    }

    /// The streams that other nodes open, each with the id of the node that did. The receiver ends when this node is closed. `None`: this node
    /// is alone or closed, or somebody has them already.
    pub fn streams(&self) -> Option<mpsc::Receiver<(u64, Channel)>> {
        self.cluster.as_ref()?.streams.listen()
    }

    /// The other nodes of the cluster that this one is connected with at the moment, in either direction, by id.
    pub fn connected(&self) -> Vec<u64> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let states = cluster.peers.states().into_iter().filter(|state| state.connected);
        let others = states.map(|state| state.node).filter(|node| *node != self.format.node);
        others.filter(|node| membership::is_member(&self.meta, *node)).collect()
    }
}
