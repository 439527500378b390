//! The bytes of an answer as they come: unzipped, and no more than are allowed.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use http_body_util::{BodyDataStream, BodyExt};
use hyper::body::Incoming;
use pyralog_models::{Error, ErrorKind};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;
use url::Url;

use super::client::of_reading;
use super::connection::{Driver, broken};

/// Zipped bytes that are unzipped at once: they become at most about a thousand times as many.
const PIECE: usize = 4096;

/// An answer's bytes. The request ends where they are dropped.
pub struct Body {
    incoming: BodyDataStream<Incoming>,
    /// Moves the connection's bytes.
    _driver: Driver,
    url: Url,
    /// Bytes that came and are not unzipped yet.
    waiting: Bytes,
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
    given: u64,
    max_bytes: u64,
}

impl Body {
    /// Of an answer from a URL.
    pub fn new(incoming: Incoming, driver: Driver, url: &Url, is_zipped: bool, max_bytes: u64) -> Body {
        Body {
            incoming: incoming.into_data_stream(),
            _driver: driver,
            url: url.clone(),
            waiting: Bytes::new(),
            decoder: is_zipped.then(|| MultiGzDecoder::new(Vec::new())),
            given: 0,
            max_bytes,
        }
    }

    /// The same, where what comes is a zipped file.
    pub fn unzipped(mut self) -> Body {
        self.decoder.get_or_insert_with(|| MultiGzDecoder::new(Vec::new()));
        self
    }

    /// To be read.
    pub fn reader(self) -> impl AsyncRead + Send + Unpin {
        StreamReader::new(Box::pin(self.chunks()))
    }

    /// As it comes.
    pub fn text(self) -> BoxStream<'static, Result<Bytes, Error>> {
        let url = self.url.clone();
        self.chunks()
            .map(move |chunk| chunk.map_err(|error| of_reading(&url, error)))
            .boxed()
    }

    fn chunks(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold(Some(self), |body| async move {
            let mut body = body?;
            match body.next().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(body))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let mut is_end = false;
            if self.waiting.is_empty() {
                match self.incoming.next().await {
                    Some(Ok(bytes)) => self.waiting = bytes,
                    Some(Err(error)) => return Err(io::Error::other(broken(&self.url, &error))),
                    None => is_end = true,
                }
            }
            let chunk = match &mut self.decoder {
                None => std::mem::take(&mut self.waiting),
                Some(decoder) => {
                    match is_end {
                        true => decoder.try_finish()?,
                        false => decoder.write_all(&self.waiting.split_to(self.waiting.len().min(PIECE)))?,
                    }
                    Bytes::from(std::mem::take(decoder.get_mut()))
                }
            };
            self.given += chunk.len() as u64;
            if self.given > self.max_bytes {
                return Err(io::Error::other(too_large(&self.url, self.max_bytes)));
            }
            match (chunk.is_empty(), is_end) {
                (false, _) => return Ok(Some(chunk)),
                (true, true) => return Ok(None),
                (true, false) => {}
            }
        }
    }
}

fn too_large(url: &Url, max_bytes: u64) -> Error {
    let message = format!("<{url}> gives more than {max_bytes} bytes");
    Error::new(ErrorKind::InvalidInput, "54000", message).with_hint("ask for less, or raise sparql-fetch-size")
}

/// The error of the database that one of reading carries, or that one.
pub fn own_error(error: io::Error) -> Result<Error, io::Error> {
    error.downcast::<Error>()
}
