//! Up to which timestamp a group's leaders may promise readers that no later write is stamped at or before it (decision 0016).
//!
//! A promise is kept by the clock of the leader that gave it, and would be lost with it: its successor's clock may be behind. So leaders
//! promise nothing above the group's *ceiling*, which is an entry of its log, and the writes of a leader lie above all ceilings of those
//! before it: the ones that it stamps, since its clock has seen them, and those that an earlier leader had stamped and that only now get
//! into the log, since they are refused. (What CockroachDB has its leases for, and TiKV a timestamp of its oracle at each change of leader.)

use std::sync::Arc;

use parking_lot::Mutex;
use pyralog_storage::Timestamp;
use serde::{Deserialize, Serialize};

/// Who leads: term and node.
pub type Leadership = (u64, u64);

/// The ceilings of one group, as they are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Who set the newest.
    by: Option<Leadership>,
    /// The highest that this one set.
    newest: Timestamp,
    /// The highest of those before.
    earlier: Timestamp,
}

impl Ceilings {
    /// Takes an entry into account that sets a ceiling.
    pub fn set(&mut self, by: Leadership, ceiling: Timestamp) {
        self.earlier = self.floor(by);
        self.newest = match self.by == Some(by) {
            true => self.newest.max(ceiling),
            false => ceiling,
        };
        self.by = Some(by);
    }

    /// What the writes of a leader lie above.
    pub fn floor(&self, of: Leadership) -> Timestamp {
        match self.by == Some(of) {
            true => self.earlier,
            false => self.earlier.max(self.newest),
        }
    }

    /// Up to where any leader may promise.
    pub fn ceiling(&self) -> Timestamp {
        self.earlier.max(self.newest)
    }
}

/// The ceilings of one group as it applies entries. Cheap to clone.
#[derive(Clone, Default)]
pub struct Promises {
    ceilings: Arc<Mutex<Ceilings>>,
}

impl Promises {
    /// The ceilings now.
    pub fn get(&self) -> Ceilings {
        *self.ceilings.lock()
    }

    /// Takes an entry into account that sets a ceiling.
    pub fn set(&self, by: Leadership, ceiling: Timestamp) {
        self.ceilings.lock().set(by, ceiling);
    }

    /// Takes over what is stored.
    pub fn replace(&self, ceilings: Ceilings) {
        *self.ceilings.lock() = ceilings;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_stamps_above_the_ceilings_of_those_before_it() {
        let mut ceilings = Ceilings::default();
        let (first, second) = ((1, 3), (2, 1));
        assert_eq!(ceilings.floor(first), Timestamp(0));
        ceilings.set(first, Timestamp(10));
        ceilings.set(first, Timestamp(8));
        assert_eq!((ceilings.floor(first), ceilings.floor(second)), (Timestamp(0), Timestamp(10)));
        // Its clock may be behind: the old ceiling counts on.
        ceilings.set(second, Timestamp(4));
        assert_eq!((ceilings.floor(second), ceilings.ceiling()), (Timestamp(10), Timestamp(10)));
        ceilings.set(second, Timestamp(20));
        assert_eq!((ceilings.floor(second), ceilings.ceiling()), (Timestamp(10), Timestamp(20)));
        assert_eq!(ceilings.floor((2, 2)), Timestamp(20), "of the same term");
        // The first leads no more; what it stamped is refused where it comes late.
        assert_eq!(ceilings.floor(first), Timestamp(20));
    }
}
