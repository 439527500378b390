//! How many solutions there will be, found by looking: some solutions are looked up pattern by pattern while the query is planned
//! (Leis et al., "Cardinality Estimation Done Right: Index-Based Join Sampling", 2017). So correlations between predicates, which statistics of
//! single predicates do not tell, are seen as they are.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::probe::{Among, Place, Probe, UNBOUND};
use super::triple::{Graphs, Slot};
use crate::error::Result;
use crate::rdf::quad_index::{Matches, QuadIndex};
use crate::rdf::term_id::TermId;

/// Solutions of a sample.
const SAMPLE: usize = 16;
/// How many times fewer solutions make it worth while to let a condition wait.
pub const FEWER: f64 = 2.0;

/// A triple pattern and the graphs that it is matched against.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Subject, predicate, object.
    pub slots: [Slot; 3],
    /// The graphs.
    pub graphs: Graphs,
    /// The pattern, for people.
    pub text: String,
}

impl Wanted {
    /// The pattern as something to look up, where variables stand in places.
    pub fn probe(&self, mut place: impl FnMut(&str) -> Place) -> Probe {
        let [subject, predicate, object] = &self.slots;
        let [subject, predicate, object] = [subject, predicate, object].map(|slot| match slot {
            Slot::Constant(id) => Place::Is(id.0),
            Slot::Variable(name) => place(name),
        });
        let ids = |graphs: &[TermId]| graphs.iter().map(|id| id.0).collect();
        let (graph, among, once) = match &self.graphs {
            Graphs::One(id) => (Place::Is(id.0), Among::All, false),
            Graphs::Merged(None) => (Place::Any, Among::All, true),
            Graphs::Merged(Some(graphs)) => (Place::Any, Among::These(ids(graphs)), true),
            Graphs::Each(name, None) => (place(name), Among::Named, false),
            Graphs::Each(name, Some(graphs)) => (place(name), Among::These(ids(graphs)), false),
        };
        Probe {
            places: [subject, predicate, object, graph],
            among,
            once,
        }
    }

    /// The variables, also that of the graph.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let graph = match &self.graphs {
            Graphs::Each(name, _) => Some(name.as_str()),
            _ => None,
        };
        let of_slots = self.slots.iter().filter_map(|slot| match slot {
            Slot::Variable(name) => Some(name.as_str()),
            Slot::Constant(_) => None,
        });
        of_slots.chain(graph)
    }

    /// About how many quads match the pattern by itself.
    pub fn alone(&self, index: &QuadIndex) -> Result<f64> {
        let mut matches = Matches::default();
        index.seek(self.probe(|_| Place::Any).bound(&[]), &mut matches)?;
        Ok(index.count(&matches)? as f64)
    }
}

/// What is known of solutions before there are any.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// About how many.
    pub rows: f64,
    names: Arc<[String]>,
    /// Variables that a scan of so many rows brought in, to be joined by hash.
    scanned: Vec<(String, f64)>,
    /// Some of them: the values of `names`, and for how many solutions each stands.
    sample: Vec<(Vec<u64>, f64)>,
}

impl Estimate {
    /// The one solution that binds nothing.
    pub fn one() -> Estimate {
        Estimate {
            rows: 1.0,
            names: Arc::default(),
            scanned: Vec::new(),
            sample: vec![(Vec::new(), 1.0)],
        }
    }

    /// These solutions, with [`UNBOUND`] where a variable has no value.
    pub fn of(names: Vec<String>, rows: Vec<Vec<u64>>) -> Estimate {
        let count = rows.len();
        let estimate = Estimate {
            rows: count as f64,
            names: names.into(),
            scanned: Vec::new(),
            sample: rows.into_iter().map(|row| (row, 1.0)).collect(),
        };
        estimate.thinned()
    }

    /// The same of only the variables that a test holds for.
    pub fn of_variables(&self, keep: impl Fn(&str) -> bool) -> Estimate {
        let kept: Vec<usize> = (0..self.names.len()).filter(|&i| keep(&self.names[i])).collect();
        Estimate {
            rows: self.rows,
            names: kept.iter().map(|&i| self.names[i].clone()).collect(),
            scanned: self.scanned.iter().filter(|(name, _)| keep(name)).cloned().collect(),
            sample: self
                .sample
                .iter()
                .map(|(row, weight)| (kept.iter().map(|&i| row[i]).collect(), *weight))
                .collect(),
        }
    }

    /// The same, of at most so many solutions.
    pub fn at_most(&self, rows: usize) -> Estimate {
        let mut estimate = self.clone();
        estimate.scale(rows as f64 / self.rows.max(1.0));
        estimate
    }

    /// These and others.
    pub fn and(mut self, others: Estimate) -> Estimate {
        let mut names = self.names.to_vec();
        names.extend(others.names.iter().filter(|name| !self.names.contains(name)).cloned());
        self.sample.iter_mut().for_each(|(row, _)| row.resize(names.len(), UNBOUND));
        for (values, weight) in others.sample {
            let mut row = vec![UNBOUND; names.len()];
            for (name, value) in others.names.iter().zip(values) {
                if let Some(place) = names.iter().position(|known| known == name) {
                    row[place] = value;
                }
            }
            self.sample.push((row, weight));
        }
        self.names = names.into();
        self.rows += others.rows;
        self.thinned()
    }

    /// All pairs of these and others; nothing is known of the values of the fewer ones.
    pub fn crossed(&self, others: &Estimate) -> Estimate {
        let (mut more, times) = match self.rows >= others.rows {
            true => (self.clone(), others.rows.max(1.0)),
            false => (others.clone(), self.rows.max(1.0)),
        };
        more.rows *= times;
        more.sample.iter_mut().for_each(|(_, weight)| *weight *= times);
        more
    }

    fn scale(&mut self, by: f64) {
        if by < 1.0 {
            self.rows *= by;
            self.sample.iter_mut().for_each(|(_, weight)| *weight *= by);
        }
    }

    /// How often something is looked up to tell how many solutions there are with a further pattern.
    pub fn lookups(&self) -> f64 {
        self.sample.len() as f64
    }

    /// Takes over what scans bring into other solutions.
    pub fn bring_in_from(&mut self, others: &Estimate) {
        self.scanned.extend(others.scanned.iter().cloned());
    }

    /// Notes that a scan of so many rows brings variables in, to be joined by hash.
    pub fn bring_in<'a>(&mut self, variables: impl Iterator<Item = &'a str>, rows: f64) {
        self.scanned.extend(variables.map(|name| (name.to_owned(), rows)));
    }

    /// Whether a condition on variables is better tried on these solutions than on the scan that brings them in: that has many more rows.
    pub fn waits(&self, variables: &BTreeSet<String>) -> bool {
        let scan = |name: &String| self.scanned.iter().find(|(known, _)| known == name).map(|(_, rows)| *rows);
        let Some(rows) = variables.first().and_then(scan) else {
            return false;
        };
        // Those of another scan meet in a join, which has fewer rows already.
        variables.iter().all(|name| scan(name) == Some(rows)) && self.rows * FEWER <= rows
    }

    fn place(&self, name: &str) -> Place {
        self.names.iter().position(|known| known == name).map_or(Place::Any, Place::Slot)
    }

    /// About how many solutions there are with a further pattern.
    pub fn expected(&self, index: &QuadIndex, wanted: &Wanted) -> Result<f64> {
        if self.sample.is_empty() {
            return Ok(self.rows);
        }
        let probe = wanted.probe(|name| self.place(name));
        let mut matches = Matches::default();
        let mut expected = 0.0;
        for (row, weight) in &self.sample {
            index.seek(probe.bound(row), &mut matches)?;
            expected += weight * index.count(&matches)? as f64;
        }
        Ok(expected)
    }

    /// The solutions with a further pattern.
    pub fn joined(&self, index: &QuadIndex, wanted: &Wanted) -> Result<Estimate> {
        self.extended(index, wanted, false)
    }

    /// The solutions with a further pattern, or as they are where it finds nothing for them.
    pub fn left_joined(&self, index: &QuadIndex, wanted: &Wanted) -> Result<Estimate> {
        self.extended(index, wanted, true)
    }

    fn extended(&self, index: &QuadIndex, wanted: &Wanted, keeps: bool) -> Result<Estimate> {
        let mut names = self.names.to_vec();
        for name in wanted.variables() {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        let mut next = Estimate {
            rows: 0.0,
            names: names.into(),
            scanned: self.scanned.clone(),
            sample: Vec::new(),
        };
        if self.sample.is_empty() {
            next.rows = self.rows;
            return Ok(next);
        }
        let probe = wanted.probe(|name| next.place(name));
        let mut matches = Matches::default();
        let each = SAMPLE.div_ceil(self.sample.len());
        for (row, weight) in &self.sample {
            let mut row = row.clone();
            row.resize(next.names.len(), UNBOUND);
            index.seek(probe.bound(&row), &mut matches)?;
            let count = index.count(&matches)? as f64;
            let share = weight * count / (each as f64).min(count).max(1.0);
            let before = next.sample.len();
            index.sample(&matches, each, |quad| {
                let mut found = row.clone();
                if probe.bind(quad, &mut found) {
                    next.sample.push((found, share));
                }
            })?;
            if keeps && next.sample.len() == before {
                next.sample.push((row, *weight));
            }
        }
        next.rows = next.sample.iter().map(|(_, weight)| weight).sum();
        Ok(next.thinned())
    }

    /// With no more solutions in the sample than it should have.
    fn thinned(mut self) -> Estimate {
        let count = self.sample.len();
        if count > SAMPLE {
            let kept = (0..SAMPLE).map(|i| (2 * i + 1) * count / (2 * SAMPLE));
            let mut sample: Vec<(Vec<u64>, f64)> = kept.map(|i| self.sample[i].clone()).collect();
            let weight: f64 = sample.iter().map(|(_, weight)| weight).sum();
            sample
                .iter_mut()
                .for_each(|(_, one)| *one *= self.rows / weight.max(f64::MIN_POSITIVE));
            self.sample = sample;
        }
        self
    }
}
