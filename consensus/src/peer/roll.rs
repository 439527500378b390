//! Which processes speak for which nodes: no two processes may act as one node at the same time.
//!
//! A process draws a random [`Incarnation`] when it starts and tells it in each handshake. As long as one process of a node is connected,
//! in either direction, another one that comes with the same node's id is refused. That is what becomes of a copied data directory. A
//! process that was restarted is not refused for long: the connections of the one before it end with it, or by their silence.
//!
//! Streams ([`super::Channel`]) do not count: they end with the last connection that does.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use parking_lot::Mutex;

use super::cancellation::{Cancellation, Cancelled};
use crate::runtime;

/// One run of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation(pub u128);

impl Incarnation {
    /// Another one than any before.
    pub fn draw() -> Incarnation {
        Incarnation(runtime::random_uuid().as_u128())
    }
}

/// The processes that are connected. Cheap to clone; clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Roll {
    present: Arc<Mutex<BTreeMap<u64, Present>>>,
}

#[derive(Debug)]
struct Present {
    incarnation: Incarnation,
    /// Where its first connection goes to or comes from.
    place: String,
    connections: usize,
    /// The streams to it and from it end with this.
    streams: Cancellation,
}

/// A connection that counts, until it is dropped.
#[derive(Debug)]
pub struct Presence {
    roll: Roll,
    /// 0: a node that belongs to no database yet; there may be any number of them.
    node: u64,
}

impl Roll {
    /// Counts a connection with a process of a node. The error says which other process is there.
    pub fn enter(&self, node: u64, incarnation: Incarnation, place: impl Display) -> Result<Presence, String> {
        let mut present = self.present.lock();
        let known = present.entry(node).or_insert_with(|| Present {
            incarnation,
            place: place.to_string(),
            connections: 0,
            streams: Cancellation::default(),
        });
        if node != 0 && known.incarnation != incarnation {
            return Err(format!(
                "node {node} runs already, as another process, connected by way of {}; stop one of the two: a data directory that was copied \
                 is no further node, which begins with an empty directory and --join",
                known.place
            ));
        }
        known.connections += 1;
        Ok(Presence { roll: self.clone(), node })
    }

    /// Whether a process of the node is connected.
    pub fn is_present(&self, node: u64) -> bool {
        self.present.lock().contains_key(&node)
    }

    /// Ends the streams to and from the nodes for which this does not hold. Their connections stay.
    pub fn keep_streams(&self, keep: impl Fn(u64) -> bool) {
        let mut present = self.present.lock();
        let ended = present.iter_mut().filter(|(node, _)| !keep(**node));
        let ended: Vec<Cancellation> = ended.map(|(_, known)| std::mem::take(&mut known.streams)).collect();
        // Whoever is woken may look at the roll.
        drop(present);
        drop(ended);
    }
}

impl Presence {
    /// When the streams to and from the process are to end, at the latest with its last connection.
    pub fn end_of_streams(&self) -> Cancelled {
        let present = self.roll.present.lock();
        let known = present.get(&self.node).map(|known| known.streams.cancelled());
        known.unwrap_or_else(|| Cancellation::default().cancelled())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut present = self.roll.present.lock();
        let Some(known) = present.get_mut(&self.node) else { return };
        known.connections -= 1;
        if known.connections == 0 {
            let gone = present.remove(&self.node);
            // Its streams end, and whoever is woken may look at the roll.
            drop(present);
            drop(gone);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn is_over(end: &Cancelled) -> bool {
        end.clone().now_or_never().is_some()
    }

    #[test]
    fn streams_end_with_the_last_connection_of_their_process_or_when_they_are_not_kept() {
        let roll = Roll::default();
        let (one, other) = (Incarnation(1), Incarnation(2));
        let first = roll.enter(3, one, "here").unwrap();
        let second = roll.enter(3, one, "there").unwrap();
        let end = first.end_of_streams();
        drop(first);
        assert!(!is_over(&end));
        drop(second);
        assert!(is_over(&end));
        let next = roll.enter(3, other, "here").unwrap();
        let neighbour = roll.enter(4, other, "here").unwrap();
        let (end, kept) = (next.end_of_streams(), neighbour.end_of_streams());
        assert!(!is_over(&end));
        roll.keep_streams(|node| node == 4);
        assert!(is_over(&end) && !is_over(&kept) && roll.is_present(3));
        assert!(!is_over(&next.end_of_streams()), "streams can begin anew");
    }

    #[test]
    fn the_first_process_stays_until_its_last_connection_ends() {
        let roll = Roll::default();
        let (one, other) = (Incarnation(1), Incarnation(2));
        let first = roll.enter(3, one, "here").unwrap();
        let second = roll.enter(3, one, "there").unwrap();
        let refused = roll.enter(3, other, "elsewhere").unwrap_err();
        assert!(refused.contains("node 3 runs already") && refused.contains("here"), "{refused}");
        drop(first);
        assert!(roll.enter(3, other, "elsewhere").is_err());
        drop(second);
        assert!(!roll.is_present(3));
        let _other = roll.enter(3, other, "elsewhere").unwrap();
        assert!(roll.is_present(3) && roll.enter(3, one, "here").is_err());
    }

    #[test]
    fn there_may_be_any_number_of_nodes_that_want_to_join() {
        let roll = Roll::default();
        let _first = roll.enter(0, Incarnation(1), "a").unwrap();
        let _second = roll.enter(0, Incarnation(2), "b").unwrap();
    }
}
