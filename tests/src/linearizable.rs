//! Checks that a history of one register is linearizable: that each operation can be given a moment between its call
//! and its answer so that every read gives what was written last.
//!
//! The search of Wing and Gong ("Testing and verifying concurrent objects", 1993) in the form that goes through the history in time and
//! keeps every state that is possible so far (Lowe, "Testing for linearizability", 2017).

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

/// What was done. `None` is the value of a register that nobody wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Set to a value that no other operation sets.
    Write(u64),
    /// Removed.
    Delete,
    /// Found at one value and set to another, which no other operation sets. One that found something else is not part of a history.
    Swap(Option<u64>, u64),
    /// Found.
    Read(Option<u64>),
}

impl Operation {
    /// The register's value after the operation; `None`: it cannot have its moment now.
    fn at(&self, value: Option<u64>) -> Option<Option<u64>> {
        match self {
            Operation::Write(written) => Some(Some(*written)),
            Operation::Delete => Some(None),
            Operation::Swap(found, written) => (*found == value).then_some(Some(*written)),
            Operation::Read(found) => (*found == value).then_some(value),
        }
    }

    fn found(&self) -> Option<u64> {
        match self {
            Operation::Read(found) | Operation::Swap(found, _) => *found,
            Operation::Write(_) | Operation::Delete => None,
        }
    }

    fn written(&self) -> Option<u64> {
        match self {
            Operation::Write(written) | Operation::Swap(_, written) => Some(*written),
            Operation::Read(_) | Operation::Delete => None,
        }
    }
}

/// An operation and when it was called and answered.
#[derive(Debug, Clone)]
pub struct Event {
    /// What.
    pub operation: Operation,
    /// When it was called, since the history's beginning.
    pub called: Duration,
    /// When it was answered; `None`: its author does not know what came of it. Reads without an answer are not part of a history.
    pub answered: Option<Duration>,
}

/// A state that the register may be in: its value, and which of the operations under way have had their moment.
type State = (Option<u64>, BTreeSet<usize>);

/// Checks a history; the error names the operation that no order explains.
pub fn check(mut history: Vec<Event>) -> Result<(), String> {
    settle_unknown(&mut history);
    // Calls before answers at the same instant: that allows more.
    let mut moments: Vec<(Duration, bool, usize)> = Vec::new();
    for (i, event) in history.iter().enumerate() {
        moments.push((event.called, false, i));
        if let Some(answered) = event.answered {
            moments.push((answered, true, i));
        }
    }
    moments.sort();
    let mut under_way: BTreeSet<usize> = BTreeSet::new();
    let mut states: HashSet<State> = HashSet::from([(None, BTreeSet::new())]);
    for (_, answer, i) in moments {
        if !answer {
            under_way.insert(i);
            continue;
        }
        states = reachable(states, &under_way, &history)
            .into_iter()
            .filter(|(_, done)| done.contains(&i))
            .collect();
        if states.is_empty() {
            return Err(format!("no order explains {:?}", history[i]));
        }
        under_way.remove(&i);
        states = states
            .into_iter()
            .map(|(value, mut done)| {
                done.remove(&i);
                (value, done)
            })
            .collect();
    }
    Ok(())
}

/// What is known of unknown outcomes: a value that was seen was written before it was seen, and a write that nobody saw may as well not
/// have been. A delete stays open: it may have its moment at any time, or never.
fn settle_unknown(history: &mut Vec<Event>) {
    loop {
        let seen: Vec<(u64, Duration)> = history
            .iter()
            .filter_map(|event| Some((event.operation.found()?, event.answered?)))
            .collect();
        let mut settled = false;
        for event in history.iter_mut().filter(|event| event.answered.is_none()) {
            let of_this = seen.iter().filter(|(value, _)| event.operation.written() == Some(*value));
            event.answered = of_this.map(|(_, answered)| *answered).min();
            settled |= event.answered.is_some();
        }
        if !settled {
            break;
        }
    }
    history.retain(|event| event.answered.is_some() || event.operation == Operation::Delete);
}

/// All states that come of giving more of the operations under way their moment, in any order.
fn reachable(states: HashSet<State>, under_way: &BTreeSet<usize>, history: &[Event]) -> HashSet<State> {
    let mut all = states.clone();
    let mut open: Vec<State> = states.into_iter().collect();
    while let Some((value, done)) = open.pop() {
        for i in under_way.difference(&done) {
            let Some(next) = history[*i].operation.at(value) else { continue };
            let mut done = done.clone();
            done.insert(*i);
            if all.insert((next, done.clone())) {
                open.push((next, done));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(operation: Operation, called: u64, answered: Option<u64>) -> Event {
        Event {
            operation,
            called: Duration::from_millis(called),
            answered: answered.map(Duration::from_millis),
        }
    }

    use Operation::{Delete, Read, Swap, Write};

    #[test]
    fn what_can_be_ordered_passes() {
        let history = vec![
            event(Read(None), 0, Some(1)),
            event(Write(1), 0, Some(10)),
            event(Read(Some(1)), 5, Some(6)),
            event(Write(2), 7, Some(20)),
            event(Read(Some(2)), 8, Some(9)),
            // Of unknown outcome, and seen much later.
            event(Write(3), 12, None),
            event(Read(Some(2)), 25, Some(26)),
            event(Read(Some(3)), 30, Some(31)),
            // Of unknown outcome, and never seen.
            event(Write(4), 32, None),
            event(Swap(Some(3), 5), 33, Some(34)),
            // Of unknown outcome, and seen by what came after it.
            event(Swap(Some(5), 6), 35, None),
            event(Swap(Some(6), 7), 36, Some(37)),
            event(Delete, 38, None),
            event(Read(Some(7)), 39, Some(40)),
            event(Read(None), 41, Some(42)),
        ];
        assert_eq!(check(history), Ok(()));
    }

    #[test]
    fn what_cannot_be_ordered_is_named() {
        let stale = vec![event(Write(1), 0, Some(1)), event(Read(None), 2, Some(3))];
        assert!(check(stale).is_err());
        let lost = vec![
            event(Write(1), 0, Some(1)),
            event(Write(2), 2, Some(3)),
            event(Read(Some(1)), 4, Some(5)),
        ];
        assert!(check(lost).is_err());
        let back = vec![
            event(Write(1), 0, Some(1)),
            event(Write(2), 2, Some(20)),
            event(Read(Some(2)), 3, Some(4)),
            event(Read(Some(1)), 5, Some(6)),
        ];
        assert!(check(back).is_err());
        let swapped_twice = vec![
            event(Write(1), 0, Some(1)),
            event(Swap(Some(1), 2), 2, Some(3)),
            event(Swap(Some(1), 3), 2, Some(3)),
        ];
        assert!(check(swapped_twice).is_err());
        let undeleted = vec![
            event(Write(1), 0, Some(1)),
            event(Delete, 2, Some(3)),
            event(Read(Some(1)), 4, Some(5)),
        ];
        assert!(check(undeleted).is_err());
        let from_nowhere = vec![event(Read(Some(9)), 0, Some(1))];
        assert!(check(from_nowhere).is_err());
        let both = vec![
            event(Write(1), 0, None),
            event(Read(Some(1)), 1, Some(2)),
            event(Write(2), 3, Some(4)),
            event(Read(Some(1)), 5, Some(6)),
        ];
        assert!(check(both).is_err(), "a write has one moment");
    }
}
