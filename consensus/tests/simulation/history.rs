//! What clients did and were told, and whether it can be true.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::linearizable::{self, Event, Operation};
use crate::rows::{ACCOUNTS, BALANCE, FIRST_ACCOUNT};

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is done.
    Done,
    /// It is not done, and never will be.
    NotDone,
    /// It may be done, or may yet be.
    Unknown,
}

/// The whole history. Its clock is the order in which things happened on the simulation's one thread.
#[derive(Default)]
pub struct History {
    moment: u64,
    registers: BTreeMap<i64, Vec<(Event, bool)>>,
    appends: BTreeMap<i64, Told>,
    numbers: BTreeSet<u64>,
    next_value: u64,
    /// Answers, by kind.
    pub done: u64,
    pub refused: u64,
    pub unknown: u64,
}

/// An operation on a register that has begun.
pub struct Begun {
    register: i64,
    number: usize,
}

impl History {
    fn tick(&mut self) -> Duration {
        self.moment += 1;
        Duration::from_nanos(self.moment)
    }

    /// A value that nobody used before.
    pub fn next_value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }

    /// Begins an operation whose kind may be known only later.
    pub fn begin(&mut self, register: i64, operation: Operation) -> Begun {
        let called = self.tick();
        let events = self.registers.entry(register).or_default();
        let event = Event {
            operation,
            called,
            answered: None,
        };
        events.push((event, true));
        Begun {
            register,
            number: events.len() - 1,
        }
    }

    /// The operation turns out to be this one, from now on under way.
    pub fn becomes(&mut self, begun: &Begun, operation: Operation) {
        if let Some((event, _)) = self
            .registers
            .get_mut(&begun.register)
            .and_then(|events| events.get_mut(begun.number))
        {
            event.operation = operation;
        }
    }

    /// Ends an operation. One that does not end is unknown.
    pub fn end(&mut self, begun: &Begun, told: Told) {
        let answered = self.tick();
        self.count(told);
        if let Some((event, counts)) = self
            .registers
            .get_mut(&begun.register)
            .and_then(|events| events.get_mut(begun.number))
        {
            match told {
                Told::Done => event.answered = Some(answered),
                Told::NotDone => *counts = false,
                Told::Unknown => {}
            }
        }
    }

    pub fn count(&mut self, told: Told) {
        match told {
            Told::Done => self.done += 1,
            Told::NotDone => self.refused += 1,
            Told::Unknown => self.unknown += 1,
        }
    }

    /// A row that nobody has written before.
    pub fn begin_append(&mut self) -> i64 {
        let id = self.appends.len() as i64;
        self.appends.insert(id, Told::Unknown);
        id
    }

    pub fn end_append(&mut self, id: i64, told: Told) {
        self.count(told);
        self.appends.insert(id, told);
    }

    /// A number that was given out.
    pub fn allocated(&mut self, number: u64) -> Result<(), String> {
        self.done += 1;
        match self.numbers.insert(number) {
            true => Ok(()),
            false => Err(format!("the number {number} was given out twice")),
        }
    }

    /// Whether the accounts hold together what they did at the beginning.
    pub fn check_accounts(cells: &[(i64, u64)]) -> Result<(), String> {
        let accounts: Vec<u64> = cells
            .iter()
            .filter(|(id, _)| *id >= FIRST_ACCOUNT)
            .map(|(_, balance)| *balance)
            .collect();
        let (sum, expected) = (accounts.iter().sum::<u64>(), BALANCE * ACCOUNTS as u64);
        match accounts.is_empty() || (accounts.len() == ACCOUNTS as usize && sum == expected) {
            true => Ok(()),
            false => Err(format!("the accounts hold {accounts:?}, together {sum} instead of {expected}")),
        }
    }

    /// Checks the history against what is there at the end.
    pub fn check(&self, cells: &[(i64, u64)], appends: &[(i64, u64)]) -> Result<(), String> {
        Self::check_accounts(cells)?;
        let found: BTreeSet<i64> = appends.iter().map(|(id, _)| *id).collect();
        for (id, told) in &self.appends {
            match (told, found.contains(id)) {
                (Told::Done, false) => return Err(format!("acknowledged row {id} is lost")),
                (Told::NotDone, true) => return Err(format!("row {id} is there, though its author was told that it is not")),
                _ => {}
            }
        }
        if let Some(id) = found.iter().find(|id| !self.appends.contains_key(id)) {
            return Err(format!("row {id} is there, and nobody wrote it"));
        }
        if found.len() != appends.len() {
            return Err("a row is there twice".to_owned());
        }
        for (register, events) in &self.registers {
            let is_open = |event: &Event| event.answered.is_none() && matches!(event.operation, Operation::Read(_));
            let history = events
                .iter()
                .filter(|(event, counts)| *counts && !is_open(event))
                .map(|(event, _)| event.clone());
            linearizable::check(history.collect()).map_err(|error| format!("register {register} is not linearizable: {error}"))?;
        }
        Ok(())
    }
}
