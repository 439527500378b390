//! From ids to terms, as a function of the plan.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, StringViewArray, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, UInt64Type};
use datafusion::common::HashMap;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use oxrdf::Term;

use super::sparql::QueryContext;
use super::term_id::TermId;
use super::{blocking, term_column};
use crate::error::Result;

/// How a term is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Face {
    /// As a struct of kind, value, datatype and language.
    Parts,
    /// As text: the IRI, the label of the blank node, or the literal's lexical form.
    Text,
}

/// The term behind an id; null for null and for the default graph.
#[derive(Clone)]
pub struct TermOf {
    context: QueryContext,
    face: Face,
    signature: Signature,
}

impl TermOf {
    /// The function over a query's terms.
    pub fn new(context: QueryContext, face: Face) -> TermOf {
        TermOf {
            context,
            face,
            signature: Signature::exact(vec![DataType::UInt64], Volatility::Stable),
        }
    }

    /// The term behind a column of ids.
    pub fn call(self, id: Expr) -> Expr {
        ScalarUDF::from(self).call(vec![id])
    }
}

impl fmt::Debug for TermOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for TermOf {
    fn eq(&self, other: &Self) -> bool {
        self.face == other.face && self.context.is(&other.context)
    }
}

impl Eq for TermOf {}

impl Hash for TermOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.face.hash(state);
    }
}

impl ScalarUDFImpl for TermOf {
    fn name(&self) -> &'static str {
        match self.face {
            Face::Parts => "rdf_term",
            Face::Text => "rdf_text",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(match self.face {
            Face::Parts => term_column::data_type(),
            Face::Text => DataType::Utf8View,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&arguments.args)?;
        let ids = columns[0].as_primitive::<UInt64Type>();
        // The default graph has no name, and so stands for null here.
        let ids: Vec<TermId> = ids.iter().map(|id| id.map_or(TermId::DEFAULT_GRAPH, TermId)).collect();
        Ok(ColumnarValue::Array(column(&self.context, &ids, self.face)?))
    }
}

/// The terms behind ids as a column. A term is there once, however many rows have it: it may be long.
pub fn column(context: &QueryContext, ids: &[TermId], face: Face) -> Result<ArrayRef> {
    let mut places: HashMap<TermId, u32> = HashMap::with_capacity(ids.len());
    let mut different: Vec<TermId> = Vec::with_capacity(ids.len());
    let mut place = |id: TermId| {
        *places.entry(id).or_insert_with(|| {
            different.push(id);
            different.len() as u32 - 1
        })
    };
    let rows: Vec<u32> = ids.iter().map(|id| place(*id)).collect();
    let terms = blocking(different.len(), || context.terms(&different))?;
    let column: ArrayRef = match face {
        Face::Parts => term_column::build(terms.iter().map(|term| term.as_ref().map(Term::as_ref)))?,
        Face::Text => Arc::new(StringViewArray::from_iter(terms.iter().map(|term| term.as_ref().map(text)))),
    };
    match different.len() == ids.len() {
        true => Ok(column),
        false => Ok(take(&column, &UInt32Array::from(rows), None)?),
    }
}

fn text(term: &Term) -> &str {
    match term {
        Term::NamedNode(iri) => iri.as_str(),
        Term::BlankNode(node) => node.as_str(),
        Term::Literal(literal) => literal.value(),
    }
}
