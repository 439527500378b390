//! Uploads of record batches, which either arrive whole or not at all.
//!
//! gRPC has one way to end a request stream, so a source that fails half-way would look to the server like one that is
//! complete. Worse, servers on tonic read a reset with the code `CANCEL` as the stream's end too. So here a failed source, and a
//! caller who stops waiting, make the request's body fail, which resets the call with `INTERNAL_ERROR`. That needs a codec whose
//! messages may be errors, and a task that outlives the caller (a dropped call would be reset with `CANCEL`).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::encode::{FlightDataEncoder, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_flight::sql::Any;
use arrow_flight::{FlightData, FlightDescriptor, PutResult};
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use prost::Message;
use tokio::sync::oneshot;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Status, Streaming};

use super::{Deadline, PeerId, Wire};
use crate::error::{ClientError, Result};

/// A message, or why there will be no more.
type UploadItem = std::result::Result<FlightData, Status>;

/// The encoded batches, which fail when their source does or when nobody waits any more.
struct Upload {
    messages: FlightDataEncoder,
    /// Where the source's error goes, for the caller.
    failed: Option<oneshot::Sender<FlightError>>,
    /// Ends with an error when the caller is gone.
    caller: oneshot::Receiver<()>,
}

impl Stream for Upload {
    type Item = UploadItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<UploadItem>> {
        if self.failed.is_none() {
            return Poll::Ready(None);
        }
        if self.caller.poll_unpin(cx).is_ready() {
            self.failed = None;
            return Poll::Ready(Some(Err(Status::internal("the caller stopped the upload"))));
        }
        match ready!(self.messages.poll_next_unpin(cx)) {
            Some(Ok(message)) => Poll::Ready(Some(Ok(message))),
            Some(Err(error)) => {
                if let Some(failed) = self.failed.take() {
                    // The receiver is gone only if the call is over.
                    let _ = failed.send(error);
                }
                Poll::Ready(Some(Err(Status::internal("the upload's source failed"))))
            }
            None => Poll::Ready(None),
        }
    }
}

/// Protobuf, with messages that may be errors on the way out.
struct UploadCodec;

/// Its way out: an error fails the request's body.
struct UploadEncoder;

/// Its way in.
struct AnswerDecoder;

impl Codec for UploadCodec {
    type Encode = UploadItem;
    type Decode = PutResult;
    type Encoder = UploadEncoder;
    type Decoder = AnswerDecoder;

    fn encoder(&mut self) -> UploadEncoder {
        UploadEncoder
    }

    fn decoder(&mut self) -> AnswerDecoder {
        AnswerDecoder
    }
}

impl Encoder for UploadEncoder {
    type Item = UploadItem;
    type Error = Status;

    fn encode(&mut self, item: UploadItem, to: &mut EncodeBuf<'_>) -> std::result::Result<(), Status> {
        item?.encode(to).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for AnswerDecoder {
    type Item = PutResult;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> std::result::Result<Option<PutResult>, Status> {
        PutResult::decode(from)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl Wire {
    /// Uploads a stream of batches under a command. Dropping the future undoes the upload.
    pub async fn upload(
        self: &Arc<Self>,
        peer: PeerId,
        command: Any,
        schema: SchemaRef,
        batches: BoxStream<'static, Result<RecordBatch>>,
        deadline: Deadline,
    ) -> Result<Vec<PutResult>> {
        let messages = FlightDataEncoderBuilder::new()
            .with_flight_descriptor(Some(FlightDescriptor::new_cmd(command.encode_to_vec())))
            .with_schema(schema)
            .build(batches.map_err(|error| FlightError::ExternalError(Box::new(error))));
        let (failed, failure) = oneshot::channel();
        let (_waiting, caller) = oneshot::channel::<()>();
        let upload = Upload {
            messages,
            failed: Some(failed),
            caller,
        };
        let wire = Arc::clone(self);
        let call = tokio::spawn(async move { wire.put_upload(peer, upload, deadline).await });
        let answers = deadline.bound(async {
            call.await
                .map_err(|error| ClientError::new(crate::ErrorKind::Internal, format!("the upload's task ended: {error}")))?
        });
        let answers = answers.await;
        match failure.now_or_never() {
            Some(Ok(error)) => Err(error.into()),
            _ => answers,
        }
    }

    async fn put_upload(&self, peer: PeerId, upload: Upload, deadline: Deadline) -> Result<Vec<PutResult>> {
        let mut grpc = tonic::client::Grpc::new(self.peer(peer).channel.clone());
        grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let path = PathAndQuery::from_static("/arrow.flight.protocol.FlightService/DoPut");
        let request = self.request(peer, upload, deadline);
        let answers: Streaming<PutResult> = self.answer(peer, grpc.streaming(request, path, UploadCodec).await)?;
        Ok(answers.try_collect().await?)
    }
}
