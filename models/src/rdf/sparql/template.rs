//! Templates of CONSTRUCT and of updates, filled in with solutions.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, UInt64Array, new_null_array};
use datafusion::arrow::datatypes::{Schema, UInt64Type};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt, stream};
use oxrdf::{BlankNode, NamedNode};
use spargebra::term::{GraphNamePattern, NamedNodePattern, TermPattern, TriplePattern};

use super::context::QueryContext;
use super::plan::Runner;
use super::solutions::Solutions;
use crate::error::{Error, Result};
use crate::rdf::term_column::{self, quad_fields};
use crate::rdf::term_id::{Class, Encoded, Scope, TermId};
use crate::rdf::term_of::{self, Face};
use crate::rdf::{blocking, dictionary};

/// Triples that a template makes at once: in between, a time limit may end it, and its memory is counted.
pub const TOGETHER: usize = 1 << 16;

/// What stands in a place of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// This term.
    Term(TermId),
    /// The value in this column.
    Column(usize),
    /// The new blank node with this number, another for each solution.
    Blank(usize),
    /// A variable that no solution binds.
    Unbound,
}

/// The columns that a template needs, and the numbers of its blank nodes.
#[derive(Default)]
pub struct Layout {
    columns: BTreeMap<String, usize>,
    blanks: BTreeMap<String, usize>,
}

impl Layout {
    /// The columns of a plan by its variables' names.
    pub fn of(solutions: &Solutions) -> Result<Layout> {
        let mut columns = BTreeMap::new();
        for (name, binding) in &solutions.variables {
            let field = solutions.plan.schema().index_of_column_by_name(None, &binding.column);
            let at = field.ok_or_else(|| Error::internal("a variable without its column"))?;
            columns.insert(name.clone(), at);
        }
        Ok(Layout {
            columns,
            blanks: BTreeMap::new(),
        })
    }

    /// A variable's place.
    pub fn variable(&self, name: &str) -> Place {
        self.columns.get(name).map_or(Place::Unbound, |column| Place::Column(*column))
    }

    /// A blank node's place.
    pub fn blank(&mut self, label: &str) -> Place {
        let next = self.blanks.len();
        Place::Blank(*self.blanks.entry(label.to_owned()).or_insert(next))
    }

    /// How many blank nodes a solution makes.
    pub fn blanks(&self) -> usize {
        self.blanks.len()
    }

    /// The places of a quad.
    pub fn quad(
        &mut self,
        context: &QueryContext,
        subject: &TermPattern,
        predicate: &NamedNodePattern,
        object: &TermPattern,
        graph: &GraphNamePattern,
    ) -> Result<[Place; 4]> {
        let iri = |iri: &NamedNode| Ok::<_, Error>(Place::Term(context.id(Encoded::iri(iri.as_ref()))?));
        let predicate = match predicate {
            NamedNodePattern::NamedNode(name) => iri(name)?,
            NamedNodePattern::Variable(variable) => self.variable(variable.as_str()),
        };
        let graph = match graph {
            GraphNamePattern::NamedNode(name) => iri(name)?,
            GraphNamePattern::DefaultGraph => Place::Term(TermId::DEFAULT_GRAPH),
            GraphNamePattern::Variable(variable) => self.variable(variable.as_str()),
        };
        Ok([self.term(context, subject)?, predicate, self.term(context, object)?, graph])
    }

    fn term(&mut self, context: &QueryContext, term: &TermPattern) -> Result<Place> {
        Ok(match term {
            TermPattern::NamedNode(iri) => Place::Term(context.id(Encoded::iri(iri.as_ref()))?),
            TermPattern::Literal(literal) => Place::Term(context.id(Encoded::literal(literal.as_ref()))?),
            TermPattern::BlankNode(node) => self.blank(node.as_str()),
            TermPattern::Variable(variable) => self.variable(variable.as_str()),
        })
    }
}

impl Place {
    /// The term for a solution; `None` where there is none, or where it may not stand there.
    pub fn fill(&self, position: usize, columns: &[&UInt64Array], row: usize, blanks: &[TermId]) -> Option<TermId> {
        let id = match self {
            Place::Term(id) => *id,
            Place::Blank(number) => *blanks.get(*number)?,
            Place::Column(column) => {
                let column = columns.get(*column)?;
                TermId(column.is_valid(row).then(|| column.value(row))?)
            }
            Place::Unbound => return None,
        };
        dictionary::fits(id.class()?, position).then_some(id)
    }
}

/// The triples of a CONSTRUCT, each once.
pub async fn construct(
    context: &QueryContext,
    template: &[TriplePattern],
    solutions: Solutions,
    runner: &Runner,
) -> Result<SendableRecordBatchStream> {
    let solutions = solutions.visible().only_variables()?;
    let mut layout = Layout::of(&solutions)?;
    let places = template
        .iter()
        .map(|triple| {
            let graph = GraphNamePattern::DefaultGraph;
            layout.quad(context, &triple.subject, &triple.predicate, &triple.object, &graph)
        })
        .collect::<Result<Vec<_>>>()?;
    let new_blanks = layout.blanks();
    let solutions = runner.start(&solutions.plan).await?;
    let memory = runner.memory("triples of CONSTRUCT");
    let context = context.clone();
    let mut seen: HashSet<[TermId; 3]> = HashSet::new();
    let schema = Arc::new(Schema::new(quad_fields()));
    let rows = (TOGETHER / places.len().max(1)).max(1);
    let slices = solutions.map_ok(move |batch| {
        let starts = (0..batch.num_rows()).step_by(rows);
        stream::iter(starts.map(move |start| Ok::<_, DataFusionError>(batch.slice(start, rows.min(batch.num_rows() - start)))))
    });
    let batches = slices.try_flatten().map(move |batch| {
        let batch = batch?;
        let columns: Vec<&UInt64Array> = batch.columns().iter().map(|column| column.as_primitive::<UInt64Type>()).collect();
        let mut triples = Vec::new();
        for row in 0..batch.num_rows() {
            let blanks = fresh(&context, new_blanks)?;
            for places in &places {
                let term = |position: usize| places[position].fill(position, &columns, row, &blanks);
                if let (Some(subject), Some(predicate), Some(object)) = (term(0), term(1), term(2))
                    && seen.insert([subject, predicate, object])
                {
                    triples.push([subject, predicate, object]);
                }
            }
        }
        // A table of hashes is up to half empty, and grows by doubling.
        memory.try_resize(seen.capacity() * 2 * size_of::<[TermId; 3]>())?;
        Ok::<_, DataFusionError>(blocking(triples.len(), || triple_batch(&context, &triples))?)
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
}

/// New blank nodes.
pub fn fresh(context: &QueryContext, count: usize) -> Result<Vec<TermId>> {
    (0..count)
        .map(|_| context.id(Encoded::of(BlankNode::default().as_ref().into(), &Scope::new(0))))
        .collect()
}

/// Triples as a batch of quads.
pub fn triple_batch(context: &QueryContext, triples: &[[TermId; 3]]) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(4);
    for position in 0..3 {
        let ids: Vec<TermId> = triples.iter().map(|triple| triple[position]).collect();
        columns.push(term_of::column(context, &ids, Face::Parts)?);
    }
    columns.push(new_null_array(&term_column::data_type(), triples.len()));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(quad_fields())), columns)?)
}

/// Whether a term is a blank node.
pub fn is_blank(id: TermId) -> bool {
    id.class() == Some(Class::Blank)
}
