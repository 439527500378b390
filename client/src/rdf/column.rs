//! Terms as Arrow columns: structs of `kind`, `value`, `datatype` and `language`, as `kb.quads` and the answers to queries have them.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, NullBufferBuilder, StringArray, StringBuilder, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields};

use super::term::Term;
use crate::error::{ClientError, Result};
use crate::rows::FromColumn;

const NAMES: [&str; 4] = ["kind", "value", "datatype", "language"];

static FIELDS: LazyLock<Fields> = LazyLock::new(|| NAMES.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect());

/// The type of a column of terms that is sent.
pub(super) fn data_type() -> DataType {
    DataType::Struct(FIELDS.clone())
}

/// Whether a column that came has terms.
pub(super) fn is_terms(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.len() == NAMES.len() && NAMES.iter().all(|name| fields.find(name).is_some()),
        _ => false,
    }
}

/// Reads terms of a column.
pub(super) struct TermColumn {
    rows: StructArray,
    parts: [StringArray; 4],
}

impl TermColumn {
    pub(super) fn new(column: &ArrayRef) -> Result<TermColumn> {
        let none = || ClientError::usage(format!("a column of {} has no terms of RDF", column.data_type()));
        let rows = column.as_struct_opt().ok_or_else(none)?;
        let part = |name: &str| -> Result<StringArray> {
            let part = rows.column_by_name(name).ok_or_else(none)?;
            let text = cast(part, &DataType::Utf8).map_err(|error| none().with_source(error))?;
            Ok(text.as_string::<i32>().clone())
        };
        let [kind, value, datatype, language] = NAMES;
        Ok(TermColumn {
            rows: rows.clone(),
            parts: [part(kind)?, part(value)?, part(datatype)?, part(language)?],
        })
    }

    /// The term of a row; `None` for null.
    pub(super) fn get(&self, row: usize) -> Result<Option<Term>> {
        if self.rows.is_null(row) {
            return Ok(None);
        }
        let [kind, value, datatype, language] = self.parts.each_ref().map(|part| part.is_valid(row).then(|| part.value(row)));
        let value = value.ok_or_else(|| ClientError::protocol("a term without a value"))?;
        Ok(Some(match (kind, language, datatype) {
            (Some("iri"), ..) => Term::iri(value),
            (Some("bnode"), ..) => Term::blank(value),
            (Some("literal"), Some(language), _) => Term::tagged(value, language),
            (Some("literal"), None, Some(datatype)) => Term::typed(value, datatype),
            (Some("literal"), None, None) => Term::literal(value),
            (other, ..) => return Err(ClientError::protocol(format!("a term of the kind {other:?}"))),
        }))
    }
}

/// Terms as a column.
pub(super) fn build<'a>(terms: impl Iterator<Item = Option<&'a Term>>) -> Result<ArrayRef> {
    let mut parts = [(); 4].map(|()| StringBuilder::new());
    let mut nulls = NullBufferBuilder::new(0);
    for term in terms {
        nulls.append(term.is_some());
        let literal = term.and_then(Term::as_literal);
        let kind = term.map(|term| match term {
            Term::Iri(_) => "iri",
            Term::BlankNode(_) => "bnode",
            Term::Literal(_) => "literal",
        });
        let row = [
            kind,
            term.map(Term::value),
            literal.map(|literal| literal.datatype()),
            literal.and_then(|literal| literal.language()),
        ];
        for (part, value) in parts.iter_mut().zip(row) {
            part.append_option(value);
        }
    }
    let parts = parts.map(|mut part| Arc::new(part.finish()) as ArrayRef).to_vec();
    let column = StructArray::try_new(FIELDS.clone(), parts, nulls.finish());
    Ok(Arc::new(
        column.map_err(|error| ClientError::usage(error.to_string()).with_source(error))?,
    ))
}

impl FromColumn for Term {
    fn from_column(value: &ArrayRef) -> Result<Self> {
        TermColumn::new(value)?
            .get(0)?
            .ok_or_else(|| ClientError::usage("the value is null; read it as an Option"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn terms_go_into_a_column_and_come_back() {
        let terms = [
            Some(Term::iri("urn:a")),
            None,
            Some(Term::blank("b")),
            Some(Term::literal("")),
            Some(Term::tagged("a", "en")),
            Some(Term::typed("1", "urn:number")),
        ];
        let column = build(terms.iter().map(Option::as_ref)).unwrap();
        assert!(is_terms(column.data_type()));
        let read = TermColumn::new(&column).unwrap();
        for (row, term) in terms.iter().enumerate() {
            assert_eq!(&read.get(row).unwrap(), term);
        }
        assert_eq!(Term::from_column(&column.slice(4, 1)).unwrap(), Term::tagged("a", "en"));
        assert_eq!(Option::<Term>::from_column(&column.slice(1, 1)).unwrap(), None);
    }

    #[test]
    fn other_columns_are_refused() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert!(!is_terms(numbers.data_type()));
        assert!(Term::from_column(&numbers).unwrap_err().to_string().contains("Int64"));
    }
}
