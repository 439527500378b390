//! What a group knows of transactions over several groups: which of them are prepared in it, and how others ended.
//!
//! A transaction is prepared in each of its groups, then decided in one of them, its *primary* (the record of that is the commit), and the
//! others are told. Who meets a part that nobody decides asks the primary to abort it, and is told how the transaction has ended, which is
//! remembered: by then, or for ever after. So an end is kept until the coordinator has told that every group knows it and that no prepare
//! of it is on its way any more ([`Part::settled`]).

use std::collections::BTreeMap;

use pyralog_storage::{PartitionId, Timestamp, TransactionId};
use serde::{Deserialize, Serialize};

use super::journaled::{Changed, Journaled};
use super::requests::Request;

/// Names a transaction's part, or its end, to one of its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The transaction.
    pub id: TransactionId,
    /// The partition whose group decides.
    pub primary: PartitionId,
    /// The ends of this coordinator's transactions below this number need not be remembered.
    pub settled: u64,
    /// The request that it carries out, if that has a name: the primary remembers that it did.
    pub request: Option<Request>,
}

/// How a transaction stands in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Its part is checked and locked, and commits not before this; the primary knows when, and whether.
    Prepared(Timestamp, PartitionId),
    /// It is committed.
    Committed(Timestamp),
    /// It is not, and never will be.
    Aborted,
}

/// The transactions of one group.
pub type Transactions = Journaled<Table>;

/// As they are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    coordinators: BTreeMap<u128, Coordinator>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Coordinator {
    settled: u64,
    standings: BTreeMap<u64, Standing>,
}

/// What an entry does to the table.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    part: Part,
    standing: Standing,
}

impl Changed for Table {
    type Change = Change;

    fn apply(&mut self, change: Change) {
        let Change { part, standing } = change;
        let coordinator = self.coordinators.entry(part.id.coordinator).or_default();
        coordinator.standings.insert(part.id.serial, standing);
        if part.settled > coordinator.settled {
            coordinator.settled = part.settled;
            let is_kept = |serial: u64, standing: &Standing| serial >= part.settled || matches!(standing, Standing::Prepared(..));
            coordinator.standings.retain(|serial, standing| is_kept(*serial, standing));
        }
    }
}

impl Transactions {
    /// How a transaction stands; `None`: it was never heard of.
    pub fn look(&self, id: TransactionId) -> Option<Standing> {
        self.read(|table| {
            let coordinator = table.coordinators.get(&id.coordinator)?;
            let forgotten = (id.serial < coordinator.settled).then_some(Standing::Aborted);
            coordinator.standings.get(&id.serial).copied().or(forgotten)
        })
    }

    /// Takes note of how a transaction stands now.
    pub fn record(&self, part: Part, standing: Standing) {
        self.change(Change { part, standing });
    }

    /// The transactions that are prepared: each with its part's timestamp and the partition that decides.
    pub fn prepared(&self) -> Vec<(TransactionId, Timestamp, PartitionId)> {
        let prepared = |(coordinator, known): (&u128, &Coordinator)| {
            let id = |serial| TransactionId {
                coordinator: *coordinator,
                serial,
            };
            let all = known.standings.iter().filter_map(move |(serial, standing)| match standing {
                Standing::Prepared(timestamp, primary) => Some((id(*serial), *timestamp, *primary)),
                Standing::Committed(_) | Standing::Aborted => None,
            });
            all.collect::<Vec<_>>()
        };
        self.read(|table| table.coordinators.iter().flat_map(prepared).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(serial: u64, settled: u64) -> Part {
        let id = TransactionId { coordinator: 3, serial };
        Part {
            id,
            primary: PartitionId(1),
            settled,
            request: None,
        }
    }

    #[test]
    fn an_end_is_known_until_it_is_settled_and_what_is_prepared_for_ever() {
        let transactions = Transactions::default();
        assert_eq!(transactions.look(part(1, 0).id), None);
        let prepared = Standing::Prepared(Timestamp(9), PartitionId(1));
        transactions.record(part(1, 0), prepared);
        transactions.record(part(2, 0), prepared);
        transactions.record(part(2, 0), Standing::Committed(Timestamp(10)));
        assert_eq!(transactions.look(part(2, 0).id), Some(Standing::Committed(Timestamp(10))));
        transactions.record(part(3, 3), Standing::Aborted);
        assert_eq!(transactions.look(part(1, 0).id), Some(prepared));
        assert_eq!(
            transactions.look(part(2, 0).id),
            Some(Standing::Aborted),
            "nobody may prepare it again"
        );
        assert_eq!(transactions.look(part(4, 0).id), None);
        assert_eq!(transactions.prepared(), [(part(1, 0).id, Timestamp(9), PartitionId(1))]);
        assert_eq!(transactions.view().table(), transactions.read(Table::clone));
    }
}
