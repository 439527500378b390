//! Quads of a block as ids, and the terms that came with it.

use std::collections::HashSet;

use datafusion::common::HashSet as FastSet;
use oxrdf::{GraphNameRef, Quad, QuadRef, TermRef};

use super::interner::{Given, Interner, NewTerms};
use super::parse::{Lines, Statement, is_valid, parse_lines, parse_unchecked};
use super::{RdfFault, RdfLoad};
use crate::error::{Error, Result};
use crate::rdf::term_entry::{EncodedRef, EntryRef};
use crate::rdf::term_id::{Scope, TermId};
use crate::rdf::writer::QuadIds;

/// A block of a load.
#[derive(Debug, Default)]
pub struct Block {
    /// Its quads: subject, predicate, object, graph.
    pub quads: Vec<QuadIds>,
    /// Terms that nobody had before.
    pub terms: NewTerms,
    /// Named graphs, each once.
    pub graphs: HashSet<TermId>,
}

impl Block {
    /// Parses a block of lines and gives its terms their ids; also what was wrong.
    pub fn of_lines(lines: &Lines, load: &RdfLoad, interner: &Interner, scope: &Scope) -> (Result<Block>, Vec<RdfFault>) {
        let mut encoder = Encoder::new(interner, scope);
        encoder.checks = true;
        if let Some(statements) = parse_unchecked(lines, load) {
            let quads: Vec<QuadRef<'_>> = statements.iter().map(Statement::quad).collect();
            match encoder.encode(&quads) {
                Err(Trouble::NoTerm) => {}
                Err(Trouble::Error(error)) => return (Err(error), Vec::new()),
                Ok(quads) => return (Ok(encoder.into_block(quads)), Vec::new()),
            }
        }
        // Once more, to find out what is wrong. New terms that have their ids already are kept: nobody else will write them.
        let parsed = parse_lines(lines, load);
        encoder.checks = false;
        (encoder.encode_all(&parsed.quads), parsed.faults)
    }

    /// Gives the terms of quads their ids.
    pub fn of_quads(quads: &[Quad], interner: &Interner, scope: &Scope) -> Result<Block> {
        Encoder::new(interner, scope).encode_all(quads)
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.terms.bytes() + (self.quads.capacity() * size_of::<QuadIds>()) as u64
    }
}

fn graph_term(graph: GraphNameRef<'_>) -> Option<TermRef<'_>> {
    match graph {
        GraphNameRef::DefaultGraph => None,
        GraphNameRef::NamedNode(name) => Some(name.into()),
        GraphNameRef::BlankNode(name) => Some(name.into()),
    }
}

/// Why quads have no ids.
enum Trouble {
    /// What stands for a term is none.
    NoTerm,
    Error(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Error(error)
    }
}

struct Encoder<'a> {
    interner: &'a Interner,
    scope: &'a Scope,
    /// Whether new terms must be looked at.
    checks: bool,
    terms: NewTerms,
    graphs: HashSet<TermId>,
}

impl<'a> Encoder<'a> {
    fn new(interner: &'a Interner, scope: &'a Scope) -> Self {
        Encoder {
            interner,
            scope,
            checks: false,
            terms: NewTerms::default(),
            graphs: HashSet::new(),
        }
    }

    fn into_block(self, quads: Vec<QuadIds>) -> Block {
        Block {
            quads,
            terms: self.terms,
            graphs: self.graphs,
        }
    }

    fn encode_all(mut self, quads: &[Quad]) -> Result<Block> {
        let quads: Vec<QuadRef<'_>> = quads.iter().map(Quad::as_ref).collect();
        match self.encode(&quads) {
            Ok(quads) => Ok(self.into_block(quads)),
            Err(Trouble::Error(error)) => Err(error),
            Err(Trouble::NoTerm) => Err(Error::internal("a checked term is none")),
        }
    }

    fn encode(&mut self, quads: &[QuadRef<'_>]) -> Result<Vec<QuadIds>, Trouble> {
        self.graphs.clear();
        if self.interner.has_dictionary() {
            self.give_together(quads)?;
        }
        let mut ids: Vec<QuadIds> = Vec::with_capacity(quads.len());
        let mut before: Option<(&QuadRef<'_>, QuadIds)> = None;
        for quad in quads {
            // Quads of one subject or graph mostly come together.
            let subject = match &before {
                Some((last, ids)) if last.subject == quad.subject => ids[0],
                _ => self.id(quad.subject.into())?,
            };
            let predicate = match &before {
                Some((last, ids)) if last.predicate == quad.predicate => ids[1],
                _ => self.id(quad.predicate.into())?,
            };
            let graph = match (&before, graph_term(quad.graph_name)) {
                (_, None) => TermId::DEFAULT_GRAPH,
                (Some((last, ids)), _) if last.graph_name == quad.graph_name => ids[3],
                (_, Some(graph)) => {
                    let id = self.id(graph)?;
                    self.graphs.insert(id);
                    id
                }
            };
            let encoded = [subject, predicate, self.id(quad.object)?, graph];
            ids.push(encoded);
            before = Some((quad, encoded));
        }
        Ok(ids)
    }

    fn id(&mut self, term: TermRef<'_>) -> Result<TermId, Trouble> {
        match EncodedRef::of(term, self.scope) {
            EncodedRef::Inline(id) => Ok(id),
            EncodedRef::Entry(entry) => match self.interner.known(&entry) {
                Some(id) => Ok(id),
                None => {
                    self.check(&entry)?;
                    let given = self.interner.give(std::slice::from_ref(&entry))?;
                    self.keep(&[entry], &given)?;
                    let id = given.first().map(|given| given.id);
                    id.ok_or_else(|| Error::internal("a term without an id").into())
                }
            },
        }
    }

    fn check(&self, entry: &EntryRef<'_>) -> Result<(), Trouble> {
        match self.checks && !is_valid(entry) {
            true => Err(Trouble::NoTerm),
            false => Ok(()),
        }
    }

    /// Gives ids to all terms that were not seen before, so that the dictionary is asked once.
    fn give_together(&mut self, quads: &[QuadRef<'_>]) -> Result<(), Trouble> {
        let mut unknown: FastSet<EntryRef<'_>> = FastSet::new();
        for quad in quads {
            let terms = [quad.subject.into(), quad.predicate.into(), quad.object];
            for term in terms.into_iter().chain(graph_term(quad.graph_name)) {
                if let EncodedRef::Entry(entry) = EncodedRef::of(term, self.scope)
                    && self.interner.known(&entry).is_none()
                {
                    unknown.insert(entry);
                }
            }
        }
        let unknown: Vec<EntryRef<'_>> = unknown.into_iter().collect();
        for entry in &unknown {
            self.check(entry)?;
        }
        let given = self.interner.give(&unknown)?;
        Ok(self.keep(&unknown, &given)?)
    }

    fn keep(&mut self, entries: &[EntryRef<'_>], given: &[Given]) -> Result<()> {
        let new = entries.iter().zip(given).filter(|(_, given)| given.is_new);
        for (entry, given) in new {
            self.terms.push(entry, *given)?;
        }
        Ok(())
    }
}
