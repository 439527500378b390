//! Batches as clients can read them, and as messages of a bounded size.
//!
//! View, dictionary and other young types become the plain ones that every client knows; the engine's own field metadata stays inside.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use tonic::Status;

use super::status;

/// Metadata keys of the engine, which mean nothing outside.
const INTERNAL_PREFIX: &str = "pyralog.";

/// The schema as clients get it.
pub fn wire_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(wire_field).collect();
    Arc::new(Schema::new_with_metadata(fields, public(schema.metadata())))
}

fn wire_field(field: &FieldRef) -> FieldRef {
    let data_type = wire_type(field.data_type());
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()).with_metadata(public(field.metadata())))
}

fn public(metadata: &HashMap<String, String>) -> HashMap<String, String> {
    metadata
        .iter()
        .filter(|(key, _)| !key.starts_with(INTERNAL_PREFIX))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The type as clients get it. Types come from the engine, so their depth is bounded.
fn wire_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, value) => wire_type(value),
        DataType::RunEndEncoded(_, values) => wire_type(values.data_type()),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::List(item) | DataType::ListView(item) | DataType::LargeList(item) => DataType::List(wire_field(item)),
        DataType::LargeListView(item) => DataType::List(wire_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(wire_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(wire_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(wire_field(entries), *sorted),
        other => other.clone(),
    }
}

/// The batch with the columns of `schema`, which is the wire schema of its own.
pub fn to_wire(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Status> {
    if batch.num_columns() != schema.fields().len() {
        let (got, want) = (batch.num_columns(), schema.fields().len());
        return Err(Status::internal(format!("the result has {got} columns, but {want} were announced")));
    }
    let column = |(column, field): (&ArrayRef, &FieldRef)| match column.data_type() == field.data_type() {
        true => Ok(column.clone()),
        false => cast(column, field.data_type()),
    };
    let columns: Result<Vec<ArrayRef>, _> = batch.columns().iter().zip(schema.fields()).map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns.map_err(status::from_arrow)?, &options).map_err(status::from_arrow)
}

/// The batch in slices of about `limit` bytes. Halves until a slice fits or has one row, so that skewed rows do not make a large message.
///
/// The encoder's own splitting counts the whole buffers behind a slice, which for a mapped segment would send a row a message.
fn slices(batch: RecordBatch, limit: usize) -> Result<Vec<RecordBatch>, Status> {
    let mut todo = vec![batch];
    let mut done = Vec::new();
    while let Some(batch) = todo.pop() {
        let rows = batch.num_rows();
        if rows <= 1 || bytes_of(&batch)? <= limit {
            done.push(batch);
            continue;
        }
        todo.push(batch.slice(rows / 2, rows - rows / 2));
        todo.push(batch.slice(0, rows / 2));
    }
    Ok(done)
}

/// Bytes of the rows of a batch, without what its buffers hold besides.
fn bytes_of(batch: &RecordBatch) -> Result<usize, Status> {
    batch
        .columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().map_err(status::from_arrow))
        .sum()
}

/// Encodes a stream of batches of any engine schema as messages of about `limit` bytes, the schema first. Pulls a batch only when the
/// client has room for it.
pub fn encode(
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch, Status>>,
    limit: usize,
) -> BoxStream<'static, Result<FlightData, Status>> {
    let target = schema.clone();
    let slices = batches
        .and_then(move |batch| {
            let slices = to_wire(&batch, &target).and_then(|batch| slices(batch, limit));
            futures::future::ready(slices.map(|slices| stream::iter(slices).map(Ok::<_, Status>)))
        })
        .try_flatten()
        .map_err(FlightError::from);
    FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_max_flight_data_size(usize::MAX)
        .build(slices)
        .map_err(Status::from)
        .boxed()
}

/// Encodes one batch that is in wire form already.
pub fn encode_one(batch: RecordBatch, limit: usize) -> BoxStream<'static, Result<FlightData, Status>> {
    encode(batch.schema(), stream::iter([Ok(batch)]).boxed(), limit)
}

/// The schema as an encapsulated IPC message.
pub fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default())
        .try_into()
        .map_err(status::from_arrow)?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{Array, AsArray, Decimal128Array, DictionaryArray, Int32Array, StringArray, StringViewArray, StructArray};
    use arrow::datatypes::{Int8Type, Int32Type};
    use arrow_flight::decode::FlightRecordBatchStream;

    use super::*;

    fn engine_batch() -> RecordBatch {
        let inner = Arc::new(Field::new("v", DataType::Utf8View, true));
        let nested = StructArray::from(vec![(inner, Arc::new(StringViewArray::from(vec!["x", "y"])) as ArrayRef)]);
        let words: DictionaryArray<Int8Type> = vec!["a", "b"].into_iter().collect();
        let money = Decimal128Array::from(vec![1, 2]).with_precision_and_scale(18, 2).unwrap();
        let tagged = HashMap::from([
            ("pyralog.column".to_string(), "1".to_string()),
            ("unit".to_string(), "m".to_string()),
        ]);
        let schema = Schema::new(vec![
            Field::new("s", DataType::Utf8View, true).with_metadata(tagged),
            Field::new("n", nested.data_type().clone(), true),
            Field::new("d", words.data_type().clone(), true),
            Field::new("balance", DataType::Decimal128(18, 2), true),
        ]);
        let text = StringViewArray::from(vec!["one", "a text that is longer than twelve bytes"]);
        RecordBatch::try_new(
            Arc::new(schema),
            vec![Arc::new(text), Arc::new(nested), Arc::new(words), Arc::new(money)],
        )
        .unwrap()
    }

    #[test]
    fn young_types_become_plain_and_internal_metadata_goes() {
        let batch = engine_batch();
        let schema = wire_schema(&batch.schema());
        assert_eq!(schema.field(0).data_type(), &DataType::Utf8);
        assert_eq!(schema.field(0).metadata(), &HashMap::from([("unit".to_string(), "m".to_string())]));
        assert_eq!(
            schema.field(1).data_type(),
            &DataType::Struct(vec![Field::new("v", DataType::Utf8, true)].into())
        );
        assert_eq!(schema.field(2).data_type(), &DataType::Utf8);
        assert_eq!(schema.field(3).data_type(), &DataType::Decimal128(18, 2));
        let wire = to_wire(&batch, &schema).unwrap();
        assert_eq!(wire.column(2).as_string::<i32>(), &StringArray::from(vec!["a", "b"]));
        assert_eq!(wire.column(1).as_struct().column(0).as_string::<i32>().value(1), "y");
    }

    #[tokio::test]
    async fn messages_stay_small_and_keep_all_rows_in_order() {
        let rows = 100_000;
        let numbers = Int32Array::from_iter_values(0..rows);
        let text = StringArray::from_iter_values((0..rows).map(|i| if i < 10 { "x".repeat(100_000) } else { "y".into() }));
        let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef), ("t", Arc::new(text) as ArrayRef)]).unwrap();
        let messages: Vec<FlightData> = encode_one(batch, 256 << 10).try_collect().await.unwrap();
        assert!(messages.len() > 4);
        assert!(messages.iter().all(|message| message.data_body.len() < 300 << 10));
        let decoded: Vec<RecordBatch> = FlightRecordBatchStream::new_from_flight_data(stream::iter(messages).map(Ok))
            .try_collect()
            .await
            .unwrap();
        let seen: Vec<i32> = decoded
            .iter()
            .flat_map(|b| b.column(0).as_primitive::<Int32Type>().values().to_vec())
            .collect();
        assert_eq!(seen, (0..rows).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_slice_of_a_large_buffer_counts_only_its_rows() {
        let large = Int32Array::from_iter_values(0..4_000_000);
        let batch = RecordBatch::try_from_iter([("n", Arc::new(large.slice(5, 1000)) as ArrayRef)]).unwrap();
        let messages: Vec<FlightData> = encode_one(batch, 64 << 10).try_collect().await.unwrap();
        assert_eq!(messages.len(), 2, "the schema and one batch");
    }

    #[tokio::test]
    async fn an_error_of_the_stream_keeps_its_code() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, true)]));
        let failing = stream::iter([Err(Status::resource_exhausted("full"))]).boxed();
        let error = encode(schema, failing, 1 << 20).try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!((error.code(), error.message()), (tonic::Code::ResourceExhausted, "full"));
    }
}
