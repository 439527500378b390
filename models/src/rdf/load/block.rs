//! Quads of a block as ids, and the terms that came with it.

use std::collections::HashSet;

use datafusion::common::HashSet as FastSet;
use oxrdf::{GraphName, Quad, TermRef};

use super::interner::{Given, Interner, NewTerms};
use crate::error::Result;
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
    /// Gives the terms of quads their ids.
    pub fn encode(quads: &[Quad], interner: &Interner, scope: &Scope) -> Result<Block> {
        let mut encoder = Encoder {
            interner,
            scope,
            terms: NewTerms::default(),
        };
        if interner.has_dictionary() {
            encoder.give_together(quads)?;
        }
        let mut ids: Vec<QuadIds> = Vec::with_capacity(quads.len());
        let mut graphs = HashSet::new();
        let mut before: Option<(&Quad, QuadIds)> = None;
        for quad in quads {
            // Quads of one subject or graph mostly come together.
            let subject = match &before {
                Some((last, ids)) if last.subject == quad.subject => ids[0],
                _ => encoder.id(quad.subject.as_ref().into())?,
            };
            let predicate = match &before {
                Some((last, ids)) if last.predicate == quad.predicate => ids[1],
                _ => encoder.id(quad.predicate.as_ref().into())?,
            };
            let graph = match (&before, graph_term(&quad.graph_name)) {
                (_, None) => TermId::DEFAULT_GRAPH,
                (Some((last, ids)), _) if last.graph_name == quad.graph_name => ids[3],
                (_, Some(graph)) => {
                    let id = encoder.id(graph)?;
                    graphs.insert(id);
                    id
                }
            };
            let encoded = [subject, predicate, encoder.id(quad.object.as_ref())?, graph];
            ids.push(encoded);
            before = Some((quad, encoded));
        }
        Ok(Block {
            quads: ids,
            terms: encoder.terms,
            graphs,
        })
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.terms.bytes() + (self.quads.capacity() * size_of::<QuadIds>()) as u64
    }
}

fn graph_term(graph: &GraphName) -> Option<TermRef<'_>> {
    match graph {
        GraphName::DefaultGraph => None,
        GraphName::NamedNode(name) => Some(name.as_ref().into()),
        GraphName::BlankNode(name) => Some(name.as_ref().into()),
    }
}

struct Encoder<'a> {
    interner: &'a Interner,
    scope: &'a Scope,
    terms: NewTerms,
}

impl Encoder<'_> {
    fn id(&mut self, term: TermRef<'_>) -> Result<TermId> {
        match EncodedRef::of(term, self.scope) {
            EncodedRef::Inline(id) => Ok(id),
            EncodedRef::Entry(entry) => match self.interner.known(&entry) {
                Some(id) => Ok(id),
                None => {
                    let given = self.interner.give(std::slice::from_ref(&entry))?;
                    self.keep(&[entry], &given)?;
                    let id = given.first().map(|given| given.id);
                    id.ok_or_else(|| crate::Error::internal("a term without an id"))
                }
            },
        }
    }

    /// Gives ids to all terms that were not seen before, so that the dictionary is asked once.
    fn give_together(&mut self, quads: &[Quad]) -> Result<()> {
        let mut unknown: FastSet<EntryRef<'_>> = FastSet::new();
        for quad in quads {
            let terms = [quad.subject.as_ref().into(), quad.predicate.as_ref().into(), quad.object.as_ref()];
            for term in terms.into_iter().chain(graph_term(&quad.graph_name)) {
                if let EncodedRef::Entry(entry) = EncodedRef::of(term, self.scope)
                    && self.interner.known(&entry).is_none()
                {
                    unknown.insert(entry);
                }
            }
        }
        let unknown: Vec<EntryRef<'_>> = unknown.into_iter().collect();
        let given = self.interner.give(&unknown)?;
        self.keep(&unknown, &given)
    }

    fn keep(&mut self, entries: &[EntryRef<'_>], given: &[Given]) -> Result<()> {
        let new = entries.iter().zip(given).filter(|(_, given)| given.is_new);
        for (entry, given) in new {
            self.terms.push(entry, *given)?;
        }
        Ok(())
    }
}
