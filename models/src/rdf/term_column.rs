//! Terms as Arrow columns: `{kind, value, datatype, language}`, as `kb.quads` shows them and an ingest brings them.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::NullBufferBuilder;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringViewArray, StringViewBuilder, StructArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use oxrdf::vocab::rdf;
use oxrdf::{BlankNodeRef, GraphName, LiteralRef, NamedNodeRef, NamedOrBlankNode, Quad, Term, TermRef};

use super::dataset::QUAD;
use crate::error::{Error, Result};

const KINDS: [&str; 3] = ["iri", "bnode", "literal"];

static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        // Null where the term is: not every reader of a field looks at the struct's own nulls.
        Field::new("kind", DataType::Utf8View, true),
        Field::new("value", DataType::Utf8View, true),
        Field::new("datatype", DataType::Utf8View, true),
        Field::new("language", DataType::Utf8View, true),
    ])
});

/// The type of a column of terms.
pub fn data_type() -> DataType {
    DataType::Struct(FIELDS.clone())
}

/// The columns of quads: `subject`, `predicate`, `object`, `graph` (null: the default graph).
pub fn quad_fields() -> Vec<Field> {
    QUAD.iter().map(|name| Field::new(*name, data_type(), *name == "graph")).collect()
}

/// Quads as rows of `kb.quads`.
pub fn quad_batch(quads: &[Quad]) -> Result<RecordBatch> {
    let columns = vec![
        build(quads.iter().map(|quad| Some(quad.subject.as_ref().into())))?,
        build(quads.iter().map(|quad| Some(quad.predicate.as_ref().into())))?,
        build(quads.iter().map(|quad| Some(quad.object.as_ref())))?,
        build(quads.iter().map(|quad| match &quad.graph_name {
            GraphName::DefaultGraph => None,
            GraphName::NamedNode(name) => Some(name.as_ref().into()),
            GraphName::BlankNode(name) => Some(name.as_ref().into()),
        }))?,
    ];
    Ok(RecordBatch::try_new(Arc::new(Schema::new(quad_fields())), columns)?)
}

/// The columns of solutions: one for each variable, in their order.
pub fn solution_fields(variables: &[String]) -> Vec<Field> {
    variables.iter().map(|name| Field::new(name, data_type(), true)).collect()
}

/// Solutions as rows: of each the terms of the variables, in their order.
pub fn solution_batch(variables: &[String], solutions: &[Vec<Option<Term>>]) -> Result<RecordBatch> {
    let column = |at: usize| {
        let terms = solutions
            .iter()
            .map(|solution| solution.get(at).and_then(Option::as_ref).map(Term::as_ref));
        build(terms)
    };
    let columns = (0..variables.len()).map(column).collect::<Result<Vec<ArrayRef>>>()?;
    // Also those that bind nothing are counted.
    let options = RecordBatchOptions::new().with_row_count(Some(solutions.len()));
    let schema = Arc::new(Schema::new(solution_fields(variables)));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// Rows of `kb.quads` as quads.
pub fn quads(rows: &RecordBatch) -> Result<Vec<Quad>> {
    let columns = QUAD.map(|name| {
        let column = rows.column_by_name(name);
        TermColumn::new(column.ok_or_else(|| Error::invalid("42703", format!("quads without a column {name}")))?)
    });
    let [subjects, predicates, objects, graphs] = columns;
    let (subjects, predicates, objects, graphs) = (subjects?, predicates?, objects?, graphs?);
    let no_quad = |row| Error::invalid("22000", format!("row {row} is no quad"));
    (0..rows.num_rows())
        .map(|row| {
            let subject: NamedOrBlankNode = match subjects.get(row)? {
                Some(TermRef::NamedNode(iri)) => iri.into_owned().into(),
                Some(TermRef::BlankNode(node)) => node.into_owned().into(),
                _ => return Err(no_quad(row)),
            };
            let Some(TermRef::NamedNode(predicate)) = predicates.get(row)? else {
                return Err(no_quad(row));
            };
            let object = objects.get(row)?.ok_or_else(|| no_quad(row))?;
            let graph = match graphs.get(row)? {
                None => GraphName::DefaultGraph,
                Some(TermRef::NamedNode(iri)) => iri.into_owned().into(),
                Some(TermRef::BlankNode(node)) => node.into_owned().into(),
                Some(TermRef::Literal(_)) => return Err(no_quad(row)),
            };
            Ok(Quad::new(subject, predicate.into_owned(), object.into_owned(), graph))
        })
        .collect()
}

/// Terms as a column.
pub fn build<'a>(terms: impl ExactSizeIterator<Item = Option<TermRef<'a>>>) -> Result<ArrayRef> {
    let mut columns = [(); 4].map(|()| StringViewBuilder::with_capacity(terms.len()));
    let mut nulls = NullBufferBuilder::new(terms.len());
    let [kinds, values, datatypes, languages] = &mut columns;
    for term in terms {
        nulls.append(term.is_some());
        let (kind, value, datatype, language) = match term {
            None => (None, None, None, None),
            Some(TermRef::NamedNode(iri)) => (Some("iri"), Some(iri.as_str()), None, None),
            Some(TermRef::BlankNode(node)) => (Some("bnode"), Some(node.as_str()), None, None),
            Some(TermRef::Literal(literal)) => {
                let datatype = literal.datatype().as_str();
                (Some("literal"), Some(literal.value()), Some(datatype), literal.language())
            }
        };
        kinds.append_option(kind);
        values.append_option(value);
        datatypes.append_option(datatype);
        languages.append_option(language);
    }
    let columns = columns.map(|mut column| Arc::new(column.finish()) as ArrayRef).to_vec();
    Ok(Arc::new(StructArray::try_new(FIELDS.clone(), columns, nulls.finish())?))
}

/// Whether it has the form of a tag: parts of one to eight letters and digits, the first of letters only (BCP 47, without its registry).
fn is_language_tag(text: &str) -> bool {
    let is_part = |part: &str| matches!(part.len(), 1..=8) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let mut parts = text.split('-');
    let first = parts.next().unwrap_or_default();
    is_part(first) && first.bytes().all(|byte| byte.is_ascii_alphabetic()) && parts.all(is_part)
}

/// Reads terms of a column.
pub struct TermColumn {
    rows: StructArray,
    children: [StringViewArray; 4],
}

impl TermColumn {
    /// Of a column of a compatible type.
    pub fn new(column: &ArrayRef) -> Result<TermColumn> {
        let cast = cast(column, &data_type()).map_err(|error| {
            Error::invalid(
                "42804",
                format!("a term is a struct of kind, value, datatype and language: {error}"),
            )
        })?;
        let rows = cast.as_struct().clone();
        let children = [0, 1, 2, 3].map(|i| rows.column(i).as_string_view().clone());
        Ok(TermColumn { rows, children })
    }

    /// The term of a row; `None` for null.
    pub fn get(&self, row: usize) -> Result<Option<TermRef<'_>>> {
        if self.rows.is_null(row) {
            return Ok(None);
        }
        let [kind, value, datatype, language] = &self.children;
        if value.is_null(row) {
            return Err(Error::invalid("22004", "a term without a value"));
        }
        let value = value.value(row);
        Ok(Some(match kind.value(row) {
            "iri" => NamedNodeRef::new(value)
                .map_err(|error| Error::invalid("22000", format!("<{value}> is no IRI: {error}")))?
                .into(),
            "bnode" => BlankNodeRef::new(value)
                .map_err(|error| Error::invalid("22000", format!("_:{value} is no blank node: {error}")))?
                .into(),
            "literal" => match (language.is_valid(row), datatype.is_valid(row)) {
                (true, _) => {
                    let language = language.value(row);
                    if !is_language_tag(language) {
                        return Err(Error::invalid("22000", format!("{language:?} is no language tag")));
                    }
                    LiteralRef::new_language_tagged_literal_unchecked(value, language).into()
                }
                (false, true) => {
                    let datatype = datatype.value(row);
                    if datatype == rdf::LANG_STRING.as_str() {
                        return Err(Error::invalid(
                            "22000",
                            format!("the literal {value:?} of rdf:langString has no language"),
                        ));
                    }
                    let datatype = NamedNodeRef::new(datatype)
                        .map_err(|error| Error::invalid("22000", format!("the datatype <{datatype}> is no IRI: {error}")))?;
                    LiteralRef::new_typed_literal(value, datatype).into()
                }
                (false, false) => LiteralRef::new_simple_literal(value).into(),
            },
            other => {
                return Err(Error::invalid(
                    "22000",
                    format!("a term is one of {}, not {other:?}", KINDS.join(", ")),
                ));
            }
        }))
    }
}
