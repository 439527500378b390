//! Parameters of a statement from the rows of a batch.
//!
//! Drivers name the columns as they like (ADBC "0", "1", …; JDBC by the parameter schema), so columns count by position unless the
//! statement's placeholders have names and the batch has just these.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::scalar::ScalarValue;
use pyralog_models::{Parameters, Prepared};
use tonic::Status;

use super::decode::Decoder;
use super::status::invalid;
use super::wire;

/// The sets of parameters that a statement is to run with, one after another.
pub struct Bindings {
    prepared: Arc<Prepared>,
    /// Run once without parameters.
    once: bool,
    stored: VecDeque<RecordBatch>,
    incoming: Option<Decoder>,
    /// Rows being handed out, and the next one.
    current: Option<(Rows, usize)>,
}

impl Bindings {
    /// One run without parameters. Errors with `InvalidArgument` if the statement wants some.
    pub fn none(prepared: &Arc<Prepared>) -> Result<Self, Status> {
        match prepared.parameters.fields().len() {
            0 => Ok(Self::new(prepared, true, VecDeque::new(), None)),
            count => Err(invalid(format!(
                "the statement has {count} parameters, but none were bound [07001]"
            ))),
        }
    }

    /// A run for each row of some batches.
    pub fn stored(prepared: &Arc<Prepared>, batches: Vec<RecordBatch>) -> Self {
        Self::new(prepared, false, batches.into(), None)
    }

    /// A run for each row of a client's stream, as it comes.
    pub fn incoming(prepared: &Arc<Prepared>, decoder: Decoder) -> Self {
        Self::new(prepared, false, VecDeque::new(), Some(decoder))
    }

    fn new(prepared: &Arc<Prepared>, once: bool, stored: VecDeque<RecordBatch>, incoming: Option<Decoder>) -> Self {
        Bindings {
            prepared: prepared.clone(),
            once,
            stored,
            incoming,
            current: None,
        }
    }

    /// The statement's text.
    pub fn sql(&self) -> &str {
        &self.prepared.sql
    }

    /// The parameters of the next run; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Parameters>, Status> {
        if std::mem::take(&mut self.once) {
            return Ok(Some(Parameters::None));
        }
        loop {
            if let Some((rows, next)) = &mut self.current
                && *next < rows.len()
            {
                *next += 1;
                return rows.parameters(*next - 1).map(Some);
            }
            let batch = match (self.stored.pop_front(), &mut self.incoming) {
                (Some(batch), _) => Some(batch),
                (None, Some(decoder)) => decoder.next().await?,
                (None, None) => None,
            };
            let Some(batch) = batch else { return Ok(None) };
            self.current = Some((Rows::new(&self.prepared, &batch)?, 0));
        }
    }
}

/// The rows of one batch, ready to become parameters.
pub struct Rows {
    columns: Vec<ArrayRef>,
    /// Names of the columns, if they are bound by name.
    names: Option<Vec<String>>,
    rows: usize,
}

impl Rows {
    /// Matches a batch's columns with the placeholders of a statement. Errors with `InvalidArgument` if their numbers differ.
    pub fn new(prepared: &Prepared, batch: &RecordBatch) -> Result<Self, Status> {
        let wanted = prepared.parameters.fields();
        if wanted.len() != batch.num_columns() {
            let (want, got) = (wanted.len(), batch.num_columns());
            return Err(invalid(format!(
                "the statement has {want} parameters, but {got} were bound [07001]"
            )));
        }
        let columns: Result<Vec<ArrayRef>, Status> = batch.columns().iter().map(plain).collect();
        let named = !wanted.is_empty() && wanted.iter().all(|field| is_name(field.name()));
        let names = named.then(|| names(wanted.iter(), batch.schema_ref()));
        Ok(Rows {
            columns: columns?,
            names,
            rows: batch.num_rows(),
        })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// The parameters in one row.
    pub fn parameters(&self, row: usize) -> Result<Parameters, Status> {
        let values = self.columns.iter().map(|column| ScalarValue::try_from_array(column, row));
        let values: Vec<ScalarValue> = values
            .collect::<Result<_, _>>()
            .map_err(|error| invalid(format!("parameter: {error}")))?;
        Ok(match &self.names {
            _ if values.is_empty() => Parameters::None,
            Some(names) => Parameters::Named(names.iter().cloned().zip(values).collect()),
            None => Parameters::Positional(values),
        })
    }
}

/// The value itself of a dictionary's values; a parameter is one value.
fn plain(column: &ArrayRef) -> Result<ArrayRef, Status> {
    match column.data_type() {
        DataType::Dictionary(_, value) => cast(column, value).map_err(|error| invalid(format!("parameter: {error}"))),
        _ => Ok(column.clone()),
    }
}

/// A placeholder's name without its sign.
fn bare(name: &str) -> &str {
    name.trim_start_matches(['$', ':', '@', '?'])
}

/// Whether a placeholder has a name, as opposed to a number.
fn is_name(placeholder: &str) -> bool {
    bare(placeholder).starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The name of each column of a batch: its own if the columns have just the placeholders' names, else that of its position.
fn names<'a>(wanted: impl Iterator<Item = &'a FieldRef>, schema: &Schema) -> Vec<String> {
    let wanted: Vec<&str> = wanted.map(|field| bare(field.name())).collect();
    let own: Vec<&str> = schema.fields().iter().map(|field| bare(field.name())).collect();
    // A driver's own numbering means positions; names of another statement mean a mistake, which binding then reports.
    let numbered = own.iter().all(|name| name.is_empty() || name.parse::<u64>().is_ok());
    let names = if numbered { wanted } else { own };
    names.into_iter().map(str::to_string).collect()
}

/// The parameter schema as clients get it. A placeholder of unknown type is announced as text: JDBC cannot bind a value to a null type.
pub fn wire_parameters(prepared: &Prepared) -> SchemaRef {
    let known = |field: &FieldRef| match field.data_type() {
        DataType::Null => Field::new(field.name(), DataType::Utf8, true),
        other => Field::new(field.name(), other.clone(), true),
    };
    wire::wire_schema(&Schema::new(prepared.parameters.fields().iter().map(known).collect::<Vec<_>>()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use arrow::array::{DictionaryArray, Int64Array};
    use arrow::datatypes::Int8Type;

    use super::*;

    fn prepared(names: &[&str]) -> Prepared {
        let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Null, true)).collect();
        Prepared {
            sql: String::new(),
            schema: Arc::new(Schema::empty()),
            parameters: Arc::new(Schema::new(fields)),
            returns_rows: false,
        }
    }

    fn batch(names: [&str; 2]) -> RecordBatch {
        let numbers = Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef;
        let words: DictionaryArray<Int8Type> = vec!["a", "b"].into_iter().collect();
        RecordBatch::try_from_iter([(names[0], numbers), (names[1], Arc::new(words) as ArrayRef)]).unwrap()
    }

    #[test]
    fn numbered_placeholders_take_columns_by_position() {
        let rows = Rows::new(&prepared(&["$1", "$2"]), &batch(["0", "1"])).unwrap();
        assert_eq!(rows.len(), 2);
        let Parameters::Positional(values) = rows.parameters(1).unwrap() else {
            panic!("positional")
        };
        assert_eq!(values, [ScalarValue::Int64(None), ScalarValue::Utf8(Some("b".into()))]);
    }

    #[test]
    fn named_placeholders_take_columns_by_name_or_else_by_position() {
        for (columns, first) in [(["b", "a"], "b"), (["0", "1"], "a")] {
            let rows = Rows::new(&prepared(&["$a", "$b"]), &batch(columns)).unwrap();
            let Parameters::Named(values) = rows.parameters(0).unwrap() else {
                panic!("named")
            };
            assert_eq!(values[0], (first.to_string(), ScalarValue::Int64(Some(1))));
        }
    }

    #[tokio::test]
    async fn rows_of_all_batches_come_one_by_one() {
        let statement = Arc::new(prepared(&["$1", "$2"]));
        let empty = batch(["0", "1"]).slice(0, 0);
        let mut bindings = Bindings::stored(&statement, vec![empty.clone(), batch(["0", "1"]), empty, batch(["0", "1"])]);
        let mut rows = 0;
        while let Some(Parameters::Positional(values)) = bindings.next().await.unwrap() {
            assert_eq!(values.len(), 2);
            rows += 1;
        }
        assert_eq!(rows, 4);
        assert!(Bindings::none(&statement).is_err(), "parameters are missing");
        let mut once = Bindings::none(&Arc::new(prepared(&[]))).unwrap();
        assert!(matches!(once.next().await.unwrap(), Some(Parameters::None)));
        assert!(once.next().await.unwrap().is_none());
    }

    #[test]
    fn a_wrong_number_is_refused() {
        let error = Rows::new(&prepared(&["$1"]), &batch(["0", "1"])).err().unwrap();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn unknown_types_are_announced_as_text() {
        let mut statement = prepared(&["$1"]);
        assert_eq!(wire_parameters(&statement).field(0).data_type(), &DataType::Utf8);
        statement.parameters = Arc::new(Schema::new(vec![Field::new("$1", DataType::Int32, false)]));
        assert_eq!(wire_parameters(&statement).field(0).data_type(), &DataType::Int32);
    }
}
