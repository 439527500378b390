//! Between columns of ids and columns of other types.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BinaryArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Int64Type, UInt64Type};
use datafusion::common::HashMap;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use oxrdf::Literal;

use super::context::{MAX_MADE_BYTES, QueryContext};
use crate::error::{Error, ErrorKind, Result};
use crate::rdf::blocking;
use crate::rdf::term_id::{Encoded, TermId};
use crate::rdf::values::sort_key;

/// What becomes what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Conversion {
    /// An id becomes bytes in the order of `ORDER BY`; an unbound one those that come first.
    SortKey,
    /// A number of SQL (`BIGINT`) becomes the id of an `xsd:integer`.
    Integer,
    /// A truth value becomes the id of an `xsd:boolean`.
    Boolean,
    /// An id stays what it is, and is computed where it stands: the optimizer puts other expressions where they are used, and a chain of them,
    /// of which each uses the one before twice, would be written out.
    Held,
}

impl Conversion {
    /// The conversion of a column.
    pub fn call(self, context: &QueryContext, argument: Expr) -> Expr {
        let argument_type = match self {
            Conversion::SortKey | Conversion::Held => DataType::UInt64,
            Conversion::Integer => DataType::Int64,
            Conversion::Boolean => DataType::Boolean,
        };
        let volatility = match self {
            Conversion::Held => Volatility::Volatile,
            _ => Volatility::Stable,
        };
        let function = ConversionFunction {
            conversion: self,
            context: context.clone(),
            signature: Signature::exact(vec![argument_type], volatility),
        };
        ScalarUDF::from(function).call(vec![argument])
    }
}

struct ConversionFunction {
    conversion: Conversion,
    context: QueryContext,
    signature: Signature,
}

impl ConversionFunction {
    fn sort_keys(&self, ids: &UInt64Array) -> Result<ArrayRef> {
        let different = ids.iter().flatten().map(TermId).collect();
        let values = self.context.numbers_or_values(different)?;
        let keys: HashMap<TermId, Vec<u8>> = values.iter().map(|(id, value)| (*id, sort_key(value))).collect();
        let length = |id: u64| keys.get(&TermId(id)).map_or(0, Vec::len);
        let bytes: usize = ids.iter().flatten().map(length).sum();
        if bytes > MAX_MADE_BYTES {
            let message = format!("the texts that {} solutions are sorted by have {bytes} bytes", ids.len());
            return Err(Error::new(ErrorKind::ResourceExhausted, "53200", message)
                .with_hint("sort by a part of them, such as SUBSTR(?text, 1, 1000)"));
        }
        let keys = ids
            .iter()
            .map(|id| id.and_then(|id| keys.get(&TermId(id))).map_or(&[][..], Vec::as_slice));
        Ok(Arc::new(BinaryArray::from_iter_values(keys)))
    }

    fn integer(&self, number: i64) -> Result<TermId> {
        match TermId::of_integer(number) {
            Some(id) => Ok(id),
            None => self.context.id(Encoded::literal(Literal::from(number).as_ref())),
        }
    }
}

impl fmt::Debug for ConversionFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for ConversionFunction {
    fn eq(&self, other: &Self) -> bool {
        self.conversion == other.conversion && self.context.is(&other.context)
    }
}

impl Eq for ConversionFunction {}

impl Hash for ConversionFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.conversion.hash(state);
    }
}

impl ScalarUDFImpl for ConversionFunction {
    fn name(&self) -> &'static str {
        match self.conversion {
            Conversion::SortKey => "sparql_sort_key",
            Conversion::Integer => "sparql_integer",
            Conversion::Boolean => "sparql_boolean",
            Conversion::Held => "sparql_held",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(match self.conversion {
            Conversion::SortKey => DataType::Binary,
            Conversion::Integer | Conversion::Boolean | Conversion::Held => DataType::UInt64,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&arguments.args)?;
        Ok(ColumnarValue::Array(match self.conversion {
            Conversion::SortKey => blocking(columns[0].len(), || self.sort_keys(columns[0].as_primitive::<UInt64Type>()))?,
            Conversion::Held => Arc::clone(&columns[0]),
            Conversion::Boolean => {
                let id = |value: bool| self.context.id(Encoded::literal(Literal::from(value).as_ref()));
                let (yes, no) = (id(true)?, id(false)?);
                let values = columns[0].as_boolean().iter();
                Arc::new(UInt64Array::from_iter(values.map(|value| Some(if value? { yes.0 } else { no.0 }))))
            }
            Conversion::Integer => {
                let numbers = columns[0].as_primitive::<Int64Type>();
                let ids = numbers
                    .iter()
                    .map(|number| number.map(|number| Ok(self.integer(number)?.0)).transpose())
                    .collect::<Result<Vec<Option<u64>>>>()?;
                Arc::new(UInt64Array::from(ids))
            }
        }))
    }
}
