//! What must hold at each step, whatever happens: what nodes tell of themselves is compared with what they and others told before.

use std::collections::{BTreeMap, BTreeSet};

use pyralog_consensus::NodeStatus;
use pyralog_consensus::log::GroupId;
use pyralog_consensus::simulation::Observation;
use pyralog_storage::Timestamp;

/// An applied entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The leader that made it: term and node.
    pub leader: (u64, u64),
    pub checksum: u32,
    pub timestamp: Option<Timestamp>,
}

/// A vote: term, node, and whether it is of a leader.
type Vote = (u64, u64, bool);

/// What is known so far.
#[derive(Default)]
pub struct Invariants {
    /// What each group has applied at an index, by whoever applied it first.
    applied: BTreeMap<GroupId, BTreeMap<u64, Applied>>,
    /// Where each node's groups are, in its present life.
    positions: BTreeMap<(usize, GroupId), u64>,
    /// The votes that nodes made durable.
    votes: BTreeMap<(usize, GroupId), Vote>,
    /// Who led a group in which term.
    leaders: BTreeSet<(String, u64, u64)>,
    /// The index at which each group applied a write set.
    written: BTreeMap<GroupId, BTreeMap<Timestamp, u64>>,
    /// Counts for the report.
    pub installs: u64,
}

impl Invariants {
    pub fn observe(&mut self, host: usize, observation: Observation) -> Result<(), String> {
        match observation {
            Observation::Opened { group, vote } => self.opened(host, group, vote),
            Observation::Voted { group, vote } => self.voted(host, group, vote),
            Observation::Applied {
                group,
                index,
                leader,
                checksum,
                timestamp,
            } => {
                let entry = Applied {
                    leader,
                    checksum,
                    timestamp,
                };
                self.applied(host, group, index, entry)
            }
            Observation::Installed { group, index } => {
                self.installs += 1;
                let before = self.positions.insert((host, group), index);
                match before {
                    Some(before) if before > index => {
                        Err(format!("node {} went back from index {before} of {group:?} to {index}", host + 1))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    fn opened(&mut self, host: usize, group: GroupId, vote: Option<Vote>) -> Result<(), String> {
        self.positions.remove(&(host, group));
        match (self.votes.get(&(host, group)), vote) {
            (Some(known), None) => Err(format!("node {} of {group:?} lost its vote {known:?}", host + 1)),
            (Some(known), Some(vote)) if !follows(*known, vote) => {
                Err(format!("node {} of {group:?} went back from vote {known:?} to {vote:?}", host + 1))
            }
            _ => Ok(()),
        }
    }

    fn voted(&mut self, host: usize, group: GroupId, vote: Vote) -> Result<(), String> {
        match self.votes.insert((host, group), vote) {
            Some(before) if !follows(before, vote) => Err(format!("node {} of {group:?} voted {vote:?} after {before:?}", host + 1)),
            _ => Ok(()),
        }
    }

    fn applied(&mut self, host: usize, group: GroupId, index: u64, entry: Applied) -> Result<(), String> {
        let node = host + 1;
        if let Some(before) = self.positions.insert((host, group), index)
            && index != before + 1
        {
            return Err(format!("node {node} applied entry {index} of {group:?} after entry {before}"));
        }
        let entries = self.applied.entry(group).or_default();
        if let Some(known) = entries.get(&index) {
            return match *known == entry {
                true => Ok(()),
                false => Err(format!(
                    "entry {index} of {group:?} is {entry:?} at node {node}, and {known:?} elsewhere: a committed entry changed"
                )),
            };
        }
        let earlier = entries
            .range(..index)
            .next_back()
            .filter(|(_, earlier)| earlier.leader > entry.leader);
        if let Some((before, earlier)) = earlier {
            return Err(format!(
                "entry {index} of {group:?} is of leader {:?}, behind entry {before} of {:?}",
                entry.leader, earlier.leader
            ));
        }
        if let Some(timestamp) = entry.timestamp {
            let written = self.written.entry(group).or_default();
            if let Some((later, at)) = written.range(timestamp..).next() {
                return Err(format!(
                    "entry {index} of {group:?} is written at {timestamp:?}, not after {later:?} of entry {at}"
                ));
            }
            written.insert(timestamp, index);
        }
        entries.insert(index, entry);
        Ok(())
    }

    /// Looks at a node between two steps.
    pub fn look(&mut self, status: &NodeStatus) {
        for group in status.groups.iter().filter(|group| group.leader) {
            self.leaders.insert((group.name.clone(), group.term, status.node_id));
        }
    }

    /// Leaders so far, of all groups.
    pub fn elections(&self) -> usize {
        self.leaders.len()
    }

    /// The entry that a write set was applied as.
    pub fn written(&self, group: GroupId, timestamp: Timestamp) -> Option<(u64, Applied)> {
        let index = *self.written.get(&group)?.get(&timestamp)?;
        Some((index, *self.applied.get(&group)?.get(&index)?))
    }
}

/// Whether a vote may come after another one. openraft orders them by term, then node: a candidate of the same term outranks one of a lower
/// id (`leader_id_adv`).
fn follows(before: Vote, after: Vote) -> bool {
    after >= before
}
