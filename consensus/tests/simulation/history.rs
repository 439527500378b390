//! What clients did and were told, and whether it can be true.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::linearizable::{self, Event, Operation};
use crate::rows::{ACCOUNTS, BALANCE, FIRST_ACCOUNT, MOST_TRIES};

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
    /// How many rows were written together, by the first of them.
    appended: BTreeMap<i64, usize>,
    requests: Vec<Requested>,
    numbers: BTreeSet<u64>,
    next_value: u64,
    /// Answers, by kind.
    pub done: u64,
    pub refused: u64,
    pub unknown: u64,
}

/// A request and its tries.
#[derive(Default)]
struct Requested {
    tries: u64,
    done: bool,
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

    fn begin_append(&mut self) -> i64 {
        let id = self.appends.len() as i64;
        self.appends.insert(id, Told::Unknown);
        id
    }

    /// Rows that nobody has written before, all of them or none.
    pub fn begin_appends(&mut self, count: usize) -> Vec<i64> {
        let ids: Vec<i64> = (0..count).map(|_| self.begin_append()).collect();
        self.appended.insert(ids[0], count);
        ids
    }

    pub fn end_append(&mut self, id: i64, told: Told) {
        self.count(told);
        self.appends.insert(id, told);
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.len() as u64
    }

    /// Begins one more try of a request: how many there were. `None`: there were as many as may be.
    pub fn begin_try(&mut self, number: u64, most: u64) -> Option<u64> {
        let number = number as usize;
        if number == self.requests.len() {
            self.requests.push(Requested::default());
        }
        let request = &mut self.requests[number];
        let tried = request.tries;
        request.tries += u64::from(tried < most);
        (tried < most).then_some(tried)
    }

    pub fn end_try(&mut self, number: u64, told: Told) {
        self.count(told);
        let request = &mut self.requests[number as usize];
        request.done |= told == Told::Done;
    }

    /// Checks which tries were carried out: rows of one try at most of each request, and of one if anybody was told so.
    fn check_tries(&self, tries: &[(i64, u64)]) -> Result<(), String> {
        let mut carried_out: BTreeMap<i64, BTreeSet<u64>> = BTreeMap::new();
        for (_, id) in tries {
            carried_out.entry(*id as i64 / MOST_TRIES).or_default().insert(*id);
        }
        for (number, request) in self.requests.iter().enumerate() {
            let found = carried_out.remove(&(number as i64)).unwrap_or_default();
            if found.len() > 1 {
                return Err(format!("request {number} was carried out by tries {found:?}"));
            }
            if request.done && found.is_empty() {
                return Err(format!("request {number} was acknowledged, and is lost"));
            }
        }
        Ok(())
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
    pub fn check(&self, cells: &[(i64, u64)], appends: &[(i64, u64)], tries: &[(i64, u64)]) -> Result<(), String> {
        Self::check_accounts(cells)?;
        self.check_tries(tries)?;
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
        // Rows that were written together say which was the first of them.
        let mut together: BTreeMap<u64, usize> = BTreeMap::new();
        appends.iter().for_each(|(_, first)| *together.entry(*first).or_default() += 1);
        for (first, count) in together {
            if self.appended.get(&(first as i64)) != Some(&count) {
                return Err(format!("of the rows from {first} on, {count} are there: a transaction was torn"));
            }
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
