//! Functions whose result is as long as an argument says, with a limit on that: `repeat('x', 1000000000000)` is an error, not an allocation.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::execution::registry::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

use crate::error::{Error, ErrorKind};

/// Most bytes (or eight-byte elements' bytes) that one call over one batch may make.
const MAX_BYTES: i128 = 256 << 20;

/// Which arguments tell the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Length {
    /// `range(start, stop, step)`: elements of eight bytes.
    Range,
    /// `repeat(text, count)`, `array_repeat(element, count)`.
    Times,
    /// `lpad(text, length, fill)`.
    Pad,
}

const FUNCTIONS: [(&str, Length); 6] = [
    ("range", Length::Range),
    ("generate_series", Length::Range),
    ("repeat", Length::Times),
    ("array_repeat", Length::Times),
    ("lpad", Length::Pad),
    ("rpad", Length::Pad),
];

/// Puts the bounded functions in place of the plain ones, aliases included.
pub(crate) fn bound(state: &mut SessionState) -> Result<()> {
    for (name, length) in FUNCTIONS {
        if let Ok(inner) = state.udf(name) {
            let bounded = ScalarUDF::from(Bounded { inner, length });
            state.register_udf(Arc::new(bounded))?;
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    length: Length,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.inner().return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bytes = self.bytes(&args)?;
        if bytes > MAX_BYTES {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                "53200",
                format!("{} would make {bytes} bytes of memory at once, more than {MAX_BYTES}", self.name()),
            )
            .with_hint("make it shorter; FROM generate_series(…) makes rows without holding them")
            .into());
        }
        self.inner.invoke_with_args(args)
    }
}

impl Bounded {
    /// The size of the result, from above.
    fn bytes(&self, args: &ScalarFunctionArgs) -> Result<i128> {
        let rows = args.number_rows;
        let number = |i: usize| -> Result<Option<ArrayRef>> {
            match args.args.get(i) {
                Some(value) if value.data_type().is_integer() => {
                    let array = value.to_array(rows)?;
                    Ok(Some(cast(&array, &DataType::Int64)?))
                }
                _ => Ok(None),
            }
        };
        let value = |array: &Option<ArrayRef>, row: usize| -> Option<i128> {
            let array = array.as_ref()?.as_primitive::<Int64Type>();
            array.is_valid(row).then(|| i128::from(array.value(row)))
        };
        let (first, second, third) = (number(0)?, number(1)?, number(2)?);
        let mut total: i128 = 0;
        for row in 0..rows {
            total += match self.length {
                Length::Range => {
                    let (start, stop) = match (value(&first, row), value(&second, row)) {
                        (Some(stop), None) => (0, stop),
                        (Some(start), Some(stop)) => (start, stop),
                        _ => continue,
                    };
                    let step = value(&third, row).unwrap_or(1).abs().max(1);
                    8 * ((stop - start).abs() / step + 1)
                }
                Length::Times => value(&second, row).unwrap_or(0).max(0) * self.unit(args),
                Length::Pad => value(&second, row).unwrap_or(0).max(0) * 4,
            };
        }
        Ok(total)
    }

    /// Bytes of one repetition: the longest text, or one element.
    fn unit(&self, args: &ScalarFunctionArgs) -> i128 {
        match args.args.first() {
            Some(ColumnarValue::Scalar(value)) => (value.size() as i128).max(8),
            Some(ColumnarValue::Array(array)) => (array.get_array_memory_size() as i128 / (array.len().max(1) as i128)).max(8),
            None => 8,
        }
    }
}
