//! Tables that every replica keeps as part of what it has applied. A view is the table as of one log position, made without a copy: a
//! position is taken with each entry, and stored with hardly any.

use std::sync::Arc;

use parking_lot::Mutex;

/// Changes after which the table is copied, so that the journal stays short.
pub const JOURNAL: usize = 1024;

/// A table that entries change.
pub trait Changed: Clone + Default {
    /// What one entry does to it.
    type Change: Copy;

    /// Does it.
    fn apply(&mut self, change: Self::Change);
}

/// The table of one group. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct Journaled<T: Changed> {
    state: Arc<Mutex<State<T>>>,
}

struct State<T: Changed> {
    table: T,
    /// The table as it was when the journal was empty.
    base: Arc<T>,
    journal: Arc<Mutex<Vec<T::Change>>>,
    journaled: usize,
}

/// The table as of one log position.
#[derive(Debug, Clone, Default)]
pub struct View<T: Changed> {
    base: Arc<T>,
    journal: Arc<Mutex<Vec<T::Change>>>,
    journaled: usize,
}

impl<T: Changed> Default for State<T> {
    fn default() -> Self {
        State::of(T::default())
    }
}

impl<T: Changed> State<T> {
    fn of(table: T) -> State<T> {
        State {
            base: Arc::new(table.clone()),
            table,
            journal: Arc::default(),
            journaled: 0,
        }
    }
}

impl<T: Changed> Journaled<T> {
    /// Looks at the table as it is now.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.state.lock().table)
    }

    /// Changes it.
    pub fn change(&self, change: T::Change) {
        let mut state = self.state.lock();
        state.table.apply(change);
        if state.journaled == JOURNAL {
            *state = State::of(std::mem::take(&mut state.table));
        } else {
            state.journal.lock().push(change);
            state.journaled += 1;
        }
    }

    /// The table as it is now.
    pub fn view(&self) -> View<T> {
        let state = self.state.lock();
        View {
            base: state.base.clone(),
            journal: state.journal.clone(),
            journaled: state.journaled,
        }
    }

    /// Takes over a table.
    pub fn replace(&self, table: T) {
        *self.state.lock() = State::of(table);
    }
}

impl<T: Changed> View<T> {
    /// The table as it was.
    pub fn table(&self) -> T {
        let mut table = (*self.base).clone();
        for change in self.journal.lock().iter().take(self.journaled) {
            table.apply(*change);
        }
        table
    }
}
