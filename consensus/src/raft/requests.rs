//! Which writes of clients were carried out, so that a write that is sent again is not carried out again (the sessions of Ongaro's thesis,
//! 6.3). Every replica keeps the same table, as part of what it has applied; it is stored and sent with that position.
//!
//! A client names its writes by its id and a serial, and tells with each which serials are settled: those it will not send again.

use pyralog_storage::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::journaled::{Changed, Journaled};

/// Clients that are remembered. Beyond them the one that has not written for longest is forgotten.
const MAX_CLIENTS: usize = 4096;
/// Writes of one client that are remembered. Beyond them the lowest serials count as settled.
const MAX_WRITES: usize = 8192;

/// Names one write of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// The client: 128 random bits.
    pub client: u128,
    /// The client's number for what it asked.
    pub serial: u64,
    /// Which commit of that: a text of several statements makes several.
    pub part: u32,
}

/// A write with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its name.
    pub id: RequestId,
    /// The client sends no write below this serial again.
    pub settled: u64,
    /// How many rows it changes, to be told again.
    pub rows: u64,
    /// Whether it was sent before. Nothing that is stored.
    #[serde(skip)]
    pub tried: Tried,
}

/// Whether a request may have been sent before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tried {
    /// It was not, as its client says.
    First,
    /// It may have been, through another node too.
    #[default]
    Again,
}

impl RequestId {
    /// The name under which later tries go, once it is settled that no first one is carried out any more. A client's id is random, so that
    /// no other one has its complement.
    pub fn again(self) -> RequestId {
        RequestId {
            client: !self.client,
            ..self
        }
    }
}

/// A write that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// When.
    pub timestamp: Timestamp,
    /// How many rows it changed.
    pub rows: u64,
}

/// What is known of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it was not carried out so far.
    Nothing,
    /// It was carried out.
    Done(Done),
    /// It was not, and never will be.
    Void,
    /// The client said that it would not send it again.
    Settled,
}

/// The table of one group.
pub type Requests = Journaled<Table>;

/// What an entry does to the table.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    index: u64,
    request: Request,
    /// `None`: void.
    done: Option<Done>,
}

/// The table itself, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    clients: BTreeMap<u128, Client>,
    /// Clients by the log index of their last write.
    by_use: BTreeMap<u64, u128>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Client {
    used: u64,
    settled: u64,
    /// By serial and part; `None`: void.
    writes: BTreeMap<(u64, u32), Option<Done>>,
}

impl Requests {
    /// What is known of a write.
    pub fn look(&self, id: RequestId) -> Known {
        self.read(|table| table.look(id))
    }

    /// Takes note of a write that the entry at `index` carried out, or (`None`) made void.
    pub fn record(&self, index: u64, request: Request, done: Option<Done>) {
        self.change(Change { index, request, done });
    }
}

impl Changed for Table {
    type Change = Change;

    fn apply(&mut self, change: Change) {
        let Change { index, request, done } = change;
        let id = request.id;
        let client = self.clients.entry(id.client).or_default();
        if client.used != index {
            self.by_use.remove(&client.used);
            client.used = index;
            self.by_use.insert(index, id.client);
        }
        client.settled = client.settled.max(request.settled);
        client.writes.insert((id.serial, id.part), done);
        if client.writes.len() > MAX_WRITES
            && let Some((&(lowest, _), _)) = client.writes.first_key_value()
        {
            client.settled = client.settled.max(lowest + 1);
        }
        client.writes = match client.writes.first_key_value() {
            Some((&(first, _), _)) if first < client.settled => client.writes.split_off(&(client.settled, 0)),
            _ => std::mem::take(&mut client.writes),
        };
        while self.clients.len() > MAX_CLIENTS
            && let Some((_, idle)) = self.by_use.pop_first()
        {
            self.clients.remove(&idle);
        }
    }
}

impl Table {
    fn look(&self, id: RequestId) -> Known {
        let Some(client) = self.clients.get(&id.client) else {
            return Known::Nothing;
        };
        match client.writes.get(&(id.serial, id.part)) {
            Some(Some(done)) => Known::Done(*done),
            Some(None) => Known::Void,
            None if id.serial < client.settled => Known::Settled,
            None => Known::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::journaled::JOURNAL;
    use super::*;

    fn request(client: u128, serial: u64, settled: u64) -> Request {
        let id = RequestId { client, serial, part: 0 };
        Request {
            id,
            settled,
            rows: serial,
            tried: Tried::First,
        }
    }

    fn done(serial: u64) -> Option<Done> {
        Some(Done {
            timestamp: Timestamp(serial),
            rows: serial,
        })
    }

    #[test]
    fn writes_are_known_until_they_are_settled() {
        let requests = Requests::default();
        assert_eq!(requests.look(request(1, 5, 0).id), Known::Nothing);
        requests.record(10, request(1, 5, 0), done(5));
        requests.record(11, request(1, 6, 0), None);
        assert_eq!(
            requests.look(request(1, 5, 0).id),
            Known::Done(done(5).unwrap_or_else(|| unreachable!()))
        );
        assert_eq!(requests.look(request(1, 6, 0).id), Known::Void);
        assert_eq!(requests.look(request(2, 5, 0).id), Known::Nothing, "another client");
        requests.record(12, request(1, 9, 6), done(9));
        assert_eq!(requests.look(request(1, 5, 0).id), Known::Settled);
        assert_eq!(requests.look(request(1, 6, 0).id), Known::Void);
        assert_eq!(requests.look(request(1, 8, 0).id), Known::Nothing, "above what is settled");
    }

    #[test]
    fn a_view_stays_as_it_was() {
        let requests = Requests::default();
        let mut expected = Table::default();
        let mut views = vec![(requests.view(), expected.clone())];
        for index in 1..3 * JOURNAL as u64 {
            let change = request(u128::from(index % 7), index, index.saturating_sub(40));
            requests.record(index, change, done(index));
            expected.apply(Change {
                index,
                request: change,
                done: done(index),
            });
            if index % 97 == 0 {
                views.push((requests.view(), expected.clone()));
            }
        }
        assert_eq!(requests.read(Table::clone), expected);
        for (view, table) in views {
            assert_eq!(view.table(), table);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let requests = Requests::default();
        for serial in 1..=2 * MAX_WRITES as u64 {
            requests.record(serial, request(1, serial, 0), done(serial));
        }
        let table = requests.view().table();
        assert!(table.clients.values().all(|client| client.writes.len() <= MAX_WRITES));
        assert_eq!(requests.look(request(1, 1, 0).id), Known::Settled);
        for client in 2..3 + MAX_CLIENTS as u128 {
            requests.record(100_000 + client as u64, request(client, 1, 0), done(1));
        }
        let table = requests.view().table();
        assert_eq!((table.clients.len(), table.by_use.len()), (MAX_CLIENTS, MAX_CLIENTS));
        assert_eq!(
            requests.look(request(1, 2 * MAX_WRITES as u64, 0).id),
            Known::Nothing,
            "the idlest is forgotten"
        );
    }
}
