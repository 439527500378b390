//! Matching patterns by looking them up in the orders of the quads, for each row by itself: what a bind join does with its rows.
//!
//! Rows go depth first: what a step makes of some rows goes through all further steps before the step takes more, so that few rows are held
//! at a time however many there will be.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt64Array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_plan::PhysicalExpr;

use crate::error::Result;
use crate::rdf::quad_index::{Matches, Quad, QuadIndex};
use crate::rdf::term_id::TermId;

/// What stands for a variable without a value. No id is that.
pub const UNBOUND: u64 = u64::MAX;
/// Rows that a step makes at first before they go on; twice as many each time, for those who need only a few.
const FIRST_CHUNK: usize = 64;
/// Rows that a step makes at most before they go on.
const CHUNK: usize = 4096;
/// Lookups after which the machine lets others run.
pub const BUDGET: usize = 20_000;

/// What a place of a pattern asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// This term.
    Is(u64),
    /// What the row has there, which the pattern sets where the row has nothing.
    Slot(usize),
    /// Anything.
    Any,
}

/// The graphs that count where the graph is none certain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Among {
    /// All.
    All,
    /// All but the default graph.
    Named,
    /// These.
    These(Vec<u64>),
}

impl Among {
    fn has(&self, graph: u64) -> bool {
        match self {
            Among::All => true,
            Among::Named => graph != TermId::DEFAULT_GRAPH.0,
            Among::These(graphs) => graphs.contains(&graph),
        }
    }
}

/// A pattern to look up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Probe {
    /// Subject, predicate, object, graph.
    pub places: [Place; 4],
    /// Which graphs count.
    pub among: Among,
    /// Whether a triple counts once, however many of the graphs have it.
    pub once: bool,
}

impl Probe {
    /// What a row knows of the quads that it looks for.
    pub fn bound(&self, row: &[u64]) -> [Option<u64>; 4] {
        self.places.map(|place| match place {
            Place::Is(id) => Some(id),
            Place::Slot(slot) => Some(row[slot]).filter(|value| *value != UNBOUND),
            Place::Any => None,
        })
    }

    /// Sets a row's slots to a quad's terms; whether they agree with what it has.
    pub fn bind(&self, quad: Quad, row: &mut [u64]) -> bool {
        self.among.has(quad[3])
            && self.places.iter().zip(quad).all(|(place, term)| match *place {
                Place::Is(id) => id == term,
                Place::Any => true,
                Place::Slot(slot) => {
                    if row[slot] == UNBOUND {
                        row[slot] = term;
                    }
                    row[slot] == term
                }
            })
    }

    /// Whether no graph that counts and comes before has the triple too.
    fn is_first(&self, index: &QuadIndex, quad: Quad, matches: &mut Matches) -> Result<bool> {
        index.seek([Some(quad[0]), Some(quad[1]), Some(quad[2]), None], matches)?;
        let mut first = true;
        while index.read(matches, CHUNK, |other| first &= other[3] >= quad[3] || !self.among.has(other[3]))? {}
        Ok(first)
    }
}

/// A condition on rows.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Over the schema.
    pub expression: Arc<dyn PhysicalExpr>,
    /// Of the columns that the condition sees.
    pub schema: SchemaRef,
    /// The slots of these columns.
    pub slots: Vec<usize>,
}

/// What is done with rows.
#[derive(Debug, Clone)]
pub enum Step {
    /// Each row once for each quad that it finds.
    Match(Probe),
    /// Only the rows for which a condition is true.
    Keep(Condition),
    /// What the steps make of a row, or the row itself where they make nothing.
    Optional(Arc<[Step]>),
    /// What each of several sequences of steps makes of a row.
    Each(Arc<[Arc<[Step]>]>),
}

/// Rows of slots.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    width: usize,
    values: Vec<u64>,
    /// For each row, which row of the input it came from.
    pub origins: Vec<u32>,
}

impl Rows {
    /// No rows of so many slots.
    pub fn new(width: usize) -> Rows {
        Rows { width, ..Rows::default() }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    /// Adds a row.
    pub fn push(&mut self, row: &[u64], origin: u32) {
        self.values.extend_from_slice(row);
        self.origins.push(origin);
    }

    fn row(&self, i: usize) -> &[u64] {
        &self.values[i * self.width..(i + 1) * self.width]
    }

    /// A slot as a column.
    pub fn column(&self, slot: usize) -> ArrayRef {
        let values = (0..self.len()).map(|i| self.row(i)[slot]);
        if values.clone().any(|value| value == UNBOUND) {
            return Arc::new(UInt64Array::from_iter(
                values.map(|value| Some(value).filter(|value| *value != UNBOUND)),
            ));
        }
        Arc::new(UInt64Array::from_iter_values(values))
    }

    fn keep(&self, condition: &Condition) -> Result<Rows> {
        let columns = condition.slots.iter().map(|slot| self.column(*slot)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&condition.schema), columns, &options)?;
        let truth = condition.expression.evaluate(&batch)?.into_array(self.len())?;
        let truth = truth.as_boolean();
        let mut kept = Rows::new(self.width);
        for i in 0..self.len() {
            if truth.is_valid(i) && truth.value(i) {
                kept.push(self.row(i), self.origins[i]);
            }
        }
        Ok(kept)
    }
}

/// What a machine did.
pub enum Progress {
    /// It made these rows.
    Rows(Rows),
    /// It worked for a while.
    Worked,
    /// There is nothing left.
    Done,
}

/// Takes rows through steps.
pub struct Machine {
    index: Arc<QuadIndex>,
    steps: Arc<[Step]>,
    stack: Vec<Frame>,
    chunk: usize,
    /// For [`Probe::is_first`].
    others: Matches,
}

/// Rows on their way: what is before a step.
struct Frame {
    step: usize,
    rows: Rows,
    state: State,
}

enum State {
    /// The rows from a position on are to be taken; the quads of that row that are not read yet, if its reading has begun.
    Rows(usize, Option<Matches>),
    /// The rows are in an optional part, and these had something there.
    Optional(Box<Machine>, Vec<bool>),
    /// The rows are in one of several parts.
    Each(Box<Machine>, usize),
}

impl Machine {
    /// A machine that takes rows through steps.
    pub fn new(index: Arc<QuadIndex>, steps: Arc<[Step]>, rows: Rows) -> Machine {
        let first = Frame {
            step: 0,
            rows,
            state: State::Rows(0, None),
        };
        Machine {
            index,
            steps,
            stack: vec![first],
            chunk: FIRST_CHUNK,
            others: Matches::default(),
        }
    }

    /// Works until there are rows, or the budget of lookups is used up.
    pub fn work(&mut self, budget: &mut usize) -> Result<Progress> {
        while let Some(frame) = self.stack.pop() {
            if *budget == 0 {
                self.stack.push(frame);
                return Ok(Progress::Worked);
            }
            if frame.rows.len() == 0 {
                continue;
            }
            let steps = Arc::clone(&self.steps);
            match steps.get(frame.step) {
                None => return Ok(Progress::Rows(frame.rows)),
                Some(Step::Keep(condition)) => {
                    *budget = budget.saturating_sub(frame.rows.len());
                    let kept = frame.rows.keep(condition)?;
                    self.go_on(frame.step + 1, kept);
                }
                Some(Step::Match(probe)) => self.look_up(probe, frame, budget)?,
                Some(Step::Optional(steps)) => self.optional(steps, frame, budget)?,
                Some(Step::Each(parts)) => self.each(parts, frame, budget)?,
            }
        }
        Ok(Progress::Done)
    }

    fn go_on(&mut self, step: usize, rows: Rows) {
        if rows.len() > 0 {
            self.stack.push(Frame {
                step,
                rows,
                state: State::Rows(0, None),
            });
        }
    }

    fn look_up(&mut self, probe: &Probe, mut frame: Frame, budget: &mut usize) -> Result<()> {
        let State::Rows(at, reading) = &mut frame.state else {
            return Ok(());
        };
        let chunk = self.chunk;
        self.chunk = (chunk * 2).min(CHUNK);
        let mut found = Rows::new(frame.rows.width);
        let mut has_begun = reading.is_some();
        let mut matches = reading.take().unwrap_or_default();
        let mut next = Vec::new();
        let mut several = Vec::new();
        while *at < frame.rows.len() && found.len() < chunk && *budget > 0 {
            let (row, origin) = (frame.rows.row(*at), frame.rows.origins[*at]);
            if !has_begun {
                self.index.seek(probe.bound(row), &mut matches)?;
            }
            let has_more = self.index.read(&mut matches, chunk - found.len(), |quad| {
                next.clear();
                next.extend_from_slice(row);
                if probe.bind(quad, &mut next) {
                    found.push(&next, origin);
                    if probe.once {
                        several.push(quad);
                    }
                }
            })?;
            *budget -= 1;
            has_begun = has_more;
            if !has_more {
                *at += 1;
            }
        }
        if probe.once {
            found = self.once(probe, found, &several)?;
        }
        if *at < frame.rows.len() {
            *reading = has_begun.then_some(matches);
            let step = frame.step + 1;
            self.stack.push(frame);
            self.go_on(step, found);
        } else {
            self.go_on(frame.step + 1, found);
        }
        Ok(())
    }

    /// The rows whose quads are the first of their triples.
    fn once(&mut self, probe: &Probe, found: Rows, quads: &[Quad]) -> Result<Rows> {
        let mut kept = Rows::new(found.width);
        for (i, quad) in quads.iter().enumerate() {
            if probe.is_first(&self.index, *quad, &mut self.others)? {
                kept.push(found.row(i), found.origins[i]);
            }
        }
        Ok(kept)
    }

    fn each(&mut self, parts: &[Arc<[Step]>], mut frame: Frame, budget: &mut usize) -> Result<()> {
        let begin = |rows: &Rows, part: usize| -> Option<State> {
            let machine = Machine::new(Arc::clone(&self.index), Arc::clone(parts.get(part)?), rows.clone());
            Some(State::Each(Box::new(machine), part))
        };
        if let State::Rows(..) = frame.state {
            let Some(state) = begin(&frame.rows, 0) else { return Ok(()) };
            frame.state = state;
        }
        let State::Each(machine, part) = &mut frame.state else {
            return Ok(());
        };
        match machine.work(budget)? {
            Progress::Worked => self.stack.push(frame),
            Progress::Rows(rows) => {
                let next = frame.step + 1;
                self.stack.push(frame);
                self.go_on(next, rows);
            }
            Progress::Done => {
                if let Some(state) = begin(&frame.rows, *part + 1) {
                    frame.state = state;
                    self.stack.push(frame);
                }
            }
        }
        Ok(())
    }

    fn optional(&mut self, steps: &Arc<[Step]>, mut frame: Frame, budget: &mut usize) -> Result<()> {
        if let State::Rows(..) = frame.state {
            let mut inner = Rows::new(frame.rows.width);
            for i in 0..frame.rows.len() {
                inner.push(frame.rows.row(i), i as u32);
            }
            let matched = vec![false; frame.rows.len()];
            let machine = Machine::new(Arc::clone(&self.index), Arc::clone(steps), inner);
            frame.state = State::Optional(Box::new(machine), matched);
        }
        let State::Optional(machine, matched) = &mut frame.state else {
            return Ok(());
        };
        let next = frame.step + 1;
        match machine.work(budget)? {
            Progress::Worked => self.stack.push(frame),
            Progress::Rows(mut rows) => {
                for origin in &mut rows.origins {
                    matched[*origin as usize] = true;
                    *origin = frame.rows.origins[*origin as usize];
                }
                self.stack.push(frame);
                self.go_on(next, rows);
            }
            Progress::Done => {
                let mut alone = Rows::new(frame.rows.width);
                for (i, _) in matched.iter().enumerate().filter(|(_, matched)| !**matched) {
                    alone.push(frame.rows.row(i), frame.rows.origins[i]);
                }
                self.go_on(next, alone);
            }
        }
        Ok(())
    }
}
