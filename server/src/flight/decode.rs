//! Batches from a client's stream of messages, each checked by `guard` before it is decoded.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::{Message, MessageHeader, root_as_message};
use arrow_flight::FlightData;
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::Status;

use super::guard;
use super::status::invalid;

/// Decodes a client's stream. Holds one message at a time, and its dictionaries.
pub struct Decoder {
    messages: BoxStream<'static, Result<FlightData, Status>>,
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
    /// Most bytes that one message, or all dictionaries together, may decode to.
    limit: usize,
    /// A batch that came when only the schema was asked for.
    waiting: Option<RecordBatch>,
}

/// What a message was.
enum Decoded {
    Schema,
    Batch(RecordBatch),
    /// A dictionary, or metadata without data.
    Other,
}

impl Decoder {
    /// A decoder of messages that may each decode to `limit` bytes.
    pub fn new(messages: BoxStream<'static, Result<FlightData, Status>>, limit: usize) -> Self {
        Decoder {
            messages,
            schema: None,
            dictionaries: HashMap::new(),
            limit,
            waiting: None,
        }
    }

    /// The schema, read up to it if needed; `None` if the stream ends without one.
    pub async fn schema(&mut self) -> Result<Option<SchemaRef>, Status> {
        while self.schema.is_none() {
            match self.advance().await? {
                Some(Decoded::Batch(batch)) => self.waiting = Some(batch),
                Some(Decoded::Schema | Decoded::Other) => {}
                None => break,
            }
        }
        Ok(self.schema.clone())
    }

    /// The next batch; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Status> {
        if let Some(batch) = self.waiting.take() {
            return Ok(Some(batch));
        }
        loop {
            match self.advance().await? {
                Some(Decoded::Batch(batch)) => return Ok(Some(batch)),
                Some(Decoded::Schema | Decoded::Other) => {}
                None => return Ok(None),
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<Decoded>, Status> {
        match self.messages.next().await.transpose()? {
            Some(data) => self.decode(data).map(Some),
            None => Ok(None),
        }
    }

    fn decode(&mut self, data: FlightData) -> Result<Decoded, Status> {
        if data.data_header.is_empty() {
            return Ok(Decoded::Other);
        }
        if data.data_header.len() > guard::MAX_HEADER_BYTES {
            return Err(invalid(format!("a message header of {} bytes", data.data_header.len())));
        }
        let message = root_as_message(&data.data_header).map_err(|error| invalid(format!("a damaged message header: {error}")))?;
        match message.header_type() {
            MessageHeader::NONE => Ok(Decoded::Other),
            MessageHeader::Schema => self.decode_schema(message),
            MessageHeader::DictionaryBatch => self.decode_dictionary(message, &data),
            MessageHeader::RecordBatch => self.decode_batch(message, &data),
            other => Err(invalid(format!(
                "unexpected message: {}",
                other.variant_name().unwrap_or("of an unknown kind")
            ))),
        }
    }

    fn decode_schema(&mut self, message: Message<'_>) -> Result<Decoded, Status> {
        if self.schema.is_some() {
            return Err(invalid("a second schema in one stream"));
        }
        let schema = message
            .header_as_schema()
            .ok_or_else(|| invalid("a schema message without schema"))?;
        guard::check_schema(schema)?;
        self.schema = Some(Arc::new(fb_to_schema(schema)));
        Ok(Decoded::Schema)
    }

    fn decode_batch(&mut self, message: Message<'_>, data: &FlightData) -> Result<Decoded, Status> {
        let schema = self.schema.clone().ok_or_else(|| invalid("a batch before the schema"))?;
        let batch = message
            .header_as_record_batch()
            .ok_or_else(|| invalid("a batch message without batch"))?;
        guard::check_batch(batch, &schema, &data.data_body, self.limit)?;
        let body = aligned(data);
        read_record_batch(&body, batch, schema, &self.dictionaries, None, &message.version())
            .map(Decoded::Batch)
            .map_err(damaged)
    }

    fn decode_dictionary(&mut self, message: Message<'_>, data: &FlightData) -> Result<Decoded, Status> {
        let schema = self.schema.clone().ok_or_else(|| invalid("a dictionary before the schema"))?;
        let dictionary = message
            .header_as_dictionary_batch()
            .ok_or_else(|| invalid("a dictionary message without dictionary"))?;
        let values = dictionary.data().ok_or_else(|| invalid("a dictionary message without values"))?;
        let value_type = dictionary_type(&schema, dictionary.id());
        let value_type = value_type.ok_or_else(|| invalid(format!("the dictionary {} is not in the schema", dictionary.id())))?;
        let single = Schema::new(vec![Field::new("", value_type, true)]);
        guard::check_batch(values, &single, &data.data_body, self.limit)?;
        let body = aligned(data);
        read_dictionary(&body, dictionary, &schema, &mut self.dictionaries, &message.version()).map_err(damaged)?;
        let bytes: usize = self.dictionaries.values().map(|values| values.get_array_memory_size()).sum();
        if bytes > self.limit {
            return Err(Status::resource_exhausted(format!(
                "dictionaries of {bytes} bytes: at most {}",
                self.limit
            )));
        }
        Ok(Decoded::Other)
    }
}

/// The body in a buffer that arrays can point into; copied only if it lies badly.
fn aligned(data: &FlightData) -> Buffer {
    match (data.data_body.as_ptr() as usize).is_multiple_of(64) {
        true => Buffer::from(data.data_body.clone()),
        false => Buffer::from(data.data_body.as_ref()),
    }
}

/// The value type of a dictionary.
fn dictionary_type(schema: &Schema, id: i64) -> Option<DataType> {
    // arrow-ipc keeps dictionary ids in the fields; nothing newer replaces this for readers.
    #[allow(deprecated)]
    let fields = schema.fields_with_dict_id(id);
    match fields.first()?.data_type() {
        DataType::Dictionary(_, values) => Some(values.as_ref().clone()),
        _ => None,
    }
}

fn damaged(error: ArrowError) -> Status {
    invalid(format!("a damaged batch: {error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{Int64Array, StringArray, StructArray};
    use arrow::datatypes::Int32Type;
    use arrow::ipc::writer::IpcWriteOptions;
    use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
    use futures::{TryStreamExt, stream};

    use super::*;

    fn batch() -> RecordBatch {
        let words: arrow::array::DictionaryArray<Int32Type> = vec![Some("a"), None, Some("b")].into_iter().collect();
        let inner = Arc::new(Field::new("i", DataType::Int64, true));
        let nested = StructArray::from(vec![(inner, Arc::new(Int64Array::from(vec![Some(7), None, Some(9)])) as ArrayRef)]);
        RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef),
            ("s", Arc::new(StringArray::from(vec![Some("one"), None, Some("three")])) as ArrayRef),
            (
                "v",
                Arc::new(arrow::array::StringViewArray::from(vec!["a text that is not inlined", "", "x"])) as ArrayRef,
            ),
            ("d", Arc::new(words) as ArrayRef),
            ("t", Arc::new(nested) as ArrayRef),
            ("z", Arc::new(arrow::array::NullArray::new(3)) as ArrayRef),
        ])
        .unwrap()
    }

    /// Nested and fixed-size types.
    fn shapes() -> RecordBatch {
        use arrow::array::{BooleanArray, Decimal128Array, FixedSizeBinaryArray, FixedSizeListArray, LargeStringArray, ListArray};
        use arrow::array::{MapBuilder, StringBuilder};
        let rows = [Some(vec![Some(1), None]), None, Some(vec![])].into_iter();
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        map.keys().append_value("k");
        map.values().append_value("v");
        map.append(true).unwrap();
        map.append(true).unwrap();
        map.append(false).unwrap();
        let pairs = [Some([Some(1), Some(2)]), None, Some([Some(3), None])].into_iter();
        let fixed = FixedSizeBinaryArray::try_from_iter([[1_u8, 2], [3, 4], [5, 6]].into_iter()).unwrap();
        RecordBatch::try_from_iter([
            ("l", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows)) as ArrayRef),
            (
                "f",
                Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(pairs, 2)) as ArrayRef,
            ),
            ("m", Arc::new(map.finish()) as ArrayRef),
            ("b", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])) as ArrayRef),
            ("fb", Arc::new(fixed) as ArrayRef),
            ("d", Arc::new(Decimal128Array::from(vec![Some(1), None, Some(3)])) as ArrayRef),
            (
                "ls",
                Arc::new(LargeStringArray::from(vec![Some("one"), None, Some("two")])) as ArrayRef,
            ),
        ])
        .unwrap()
    }

    async fn messages(batch: RecordBatch, compression: Option<arrow::ipc::CompressionType>) -> Vec<FlightData> {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        FlightDataEncoderBuilder::new()
            .with_options(options)
            .with_max_flight_data_size(usize::MAX)
            .with_dictionary_handling(DictionaryHandling::Resend)
            .build(stream::iter([Ok(batch)]))
            .try_collect()
            .await
            .unwrap()
    }

    async fn decode(messages: Vec<FlightData>, limit: usize) -> Result<Vec<RecordBatch>, Status> {
        let mut decoder = Decoder::new(stream::iter(messages.into_iter().map(Ok)).boxed(), limit);
        decoder.schema().await?;
        let mut batches = Vec::new();
        while let Some(batch) = decoder.next().await? {
            batches.push(batch);
        }
        Ok(batches)
    }

    #[tokio::test]
    async fn what_a_client_sends_arrives() {
        use arrow::ipc::CompressionType;
        for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
            let mut sent = messages(batch(), compression).await;
            sent.insert(0, FlightData::new().with_app_metadata("only metadata"));
            let got = decode(sent, 1 << 20).await.unwrap();
            assert_eq!(got.len(), 1, "{compression:?}");
            assert_eq!(got[0].columns(), batch().columns(), "{compression:?}");
            let got = decode(messages(shapes(), compression).await, 1 << 20).await.unwrap();
            assert_eq!(got[0].columns(), shapes().columns(), "{compression:?}");
        }
    }

    #[tokio::test]
    async fn a_compressed_buffer_that_claims_two_to_the_sixty_is_refused() {
        let rows = Arc::new(Int64Array::from(vec![5; 4096])) as ArrayRef;
        for codec in [arrow::ipc::CompressionType::LZ4_FRAME, arrow::ipc::CompressionType::ZSTD] {
            let batch = RecordBatch::try_from_iter([("n", rows.clone())]).unwrap();
            let mut sent = messages(batch, Some(codec)).await;
            let body = sent[1].data_body.to_vec();
            let real = (4096_i64 * 8).to_le_bytes();
            let at = body.windows(8).position(|window| window == real).unwrap();
            for (claim, want) in [(1_i64 << 60, tonic::Code::ResourceExhausted), (-2, tonic::Code::InvalidArgument)] {
                let mut forged = body.clone();
                forged[at..at + 8].copy_from_slice(&claim.to_le_bytes());
                sent[1].data_body = forged.into();
                assert_eq!(decode(sent.clone(), 64 << 20).await.unwrap_err().code(), want, "{codec:?} {claim}");
            }
        }
    }

    #[tokio::test]
    async fn an_lz4_bomb_is_refused_by_its_block_headers() {
        // Compresses 200 to 1, and claims little.
        let zeros = Arc::new(Int64Array::from(vec![0; 1 << 20])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("n", zeros)]).unwrap();
        let mut sent = messages(batch, Some(arrow::ipc::CompressionType::LZ4_FRAME)).await;
        let mut body = sent[1].data_body.to_vec();
        let at = body.windows(8).position(|window| window == (8_i64 << 20).to_le_bytes()).unwrap();
        body[at..at + 8].copy_from_slice(&64_i64.to_le_bytes());
        sent[1].data_body = body.into();
        let error = decode(sent, 1 << 20).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::ResourceExhausted, "{error}");
    }

    #[tokio::test]
    async fn no_flipped_or_missing_byte_panics() {
        let lz4 = Some(arrow::ipc::CompressionType::LZ4_FRAME);
        for (batch, compression) in [(batch(), None), (batch(), lz4), (shapes(), None)] {
            let whole = messages(batch, compression).await;
            for (number, message) in whole.iter().enumerate() {
                for at in 0..message.data_header.len() {
                    for flip in [0x01, 0x80, 0xff] {
                        let mut header = message.data_header.to_vec();
                        header[at] ^= flip;
                        let mut broken = whole.clone();
                        broken[number].data_header = header.into();
                        let _ = decode(broken, 1 << 20).await;
                    }
                }
                for at in 0..message.data_body.len() {
                    let mut body = message.data_body.to_vec();
                    body[at] ^= 0xff;
                    let mut broken = whole.clone();
                    broken[number].data_body = body.into();
                    let _ = decode(broken, 1 << 20).await;
                    let mut short = whole.clone();
                    short[number].data_body.truncate(at);
                    let _ = decode(short, 1 << 20).await;
                }
            }
        }
    }

    #[tokio::test]
    async fn out_of_order_messages_are_refused() {
        let sent = messages(batch(), None).await;
        assert!(decode(sent[1..].to_vec(), 1 << 20).await.is_err(), "no schema");
        let twice = [sent[0].clone(), sent[0].clone()].to_vec();
        assert!(decode(twice, 1 << 20).await.is_err(), "two schemas");
    }
}
