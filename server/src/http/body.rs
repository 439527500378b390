//! Reading a request's body: bounded in size, bounded in time, decompressed.

use std::io::{self, Read};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::web::{self, Bytes, BytesMut, Payload};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use futures::StreamExt;

use super::HttpOptions;
use super::error::Problem;

/// Largest window of a zstd body, as a power of two: what RFC 9659 allows on the wire.
const ZSTD_WINDOW: u32 = 23;

/// How a body is encoded on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

/// The whole body. The limit counts bytes before and after decompression, which stops there, so that a small bomb stays small; nothing is
/// allocated by a claimed length.
pub async fn read(request: &HttpRequest, payload: Payload, options: &HttpOptions) -> Result<Bytes, Problem> {
    let headers = request.headers();
    let claimed = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if claimed.is_some_and(|length| length > options.max_body_bytes as u64) {
        return Err(too_large(options.max_body_bytes));
    }
    let names: Vec<&str> = headers
        .get_all(CONTENT_ENCODING)
        .map(|value| value.to_str().unwrap_or("?"))
        .collect();
    let coding = coding(&names.join(","))?;
    let body = within(options.request_timeout, collect(payload, options.max_body_bytes)).await?;
    if coding == Coding::Identity {
        return Ok(body);
    }
    let longest = options.max_body_bytes;
    match web::block(move || decoded(coding, &body, longest)).await {
        Ok(decoded) => decoded,
        Err(error) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "57P03", error.to_string())),
    }
}

fn coding(name: &str) -> Result<Coding, Problem> {
    match name.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Coding::Identity),
        "gzip" | "x-gzip" => Ok(Coding::Gzip),
        "deflate" => Ok(Coding::Deflate),
        "zstd" => Ok(Coding::Zstd),
        other => {
            let message = format!("cannot read a body with Content-Encoding {other}");
            let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "BAD_CONTENT_ENCODING", message);
            Err(problem.with_hint("send it plain, or as gzip, deflate or zstd"))
        }
    }
}

fn decoded(coding: Coding, body: &[u8], longest: usize) -> Result<Bytes, Problem> {
    let unreadable = |error: io::Error| Problem::bad_request("BAD_BODY", format!("the body cannot be decompressed: {error}"));
    let reader: Box<dyn Read + '_> = match coding {
        Coding::Identity => Box::new(body),
        Coding::Gzip => Box::new(MultiGzDecoder::new(body)),
        Coding::Deflate => Box::new(ZlibDecoder::new(body)),
        Coding::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(body).map_err(unreadable)?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(unreadable)?;
            Box::new(decoder)
        }
    };
    let mut decoded = Vec::new();
    reader.take(longest as u64 + 1).read_to_end(&mut decoded).map_err(unreadable)?;
    match decoded.len() > longest {
        true => Err(too_large(longest)),
        false => Ok(decoded.into()),
    }
}

async fn collect(mut stream: impl futures::Stream<Item = Result<Bytes, PayloadError>> + Unpin, longest: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| Problem::bad_request("BAD_BODY", format!("the body cannot be read: {error}")))?;
        if body.len() + chunk.len() > longest {
            return Err(too_large(longest));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let message = format!("the body did not arrive within {} ms", limit.as_millis());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "BODY_TIMEOUT", message))
        }
    }
}

fn too_large(longest: usize) -> Problem {
    let message = format!("the body is larger than {longest} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", message).with_hint("send less at once, or raise max-request-size")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures::stream;
    use std::io::Write;

    #[tokio::test]
    async fn size_and_time_are_bounded() {
        let chunks = |n: usize| stream::iter((0..n).map(|_| Ok(Bytes::from_static(b"1234"))));
        assert_eq!(collect(chunks(2), 10).await.unwrap().len(), 8);
        assert_eq!(collect(chunks(3), 10).await.unwrap_err().status.as_u16(), 413);
        let slow = within(Duration::from_millis(20), collect(stream::pending(), 10)).await;
        assert_eq!(slow.unwrap_err().status.as_u16(), 408);
    }

    #[test]
    fn what_is_compressed_is_read_whole_or_not_at_all() {
        let text = b"some text ".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        deflate.write_all(&text).unwrap();
        let deflate = deflate.finish().unwrap();
        let zstd = zstd::encode_all(&text[..], 0).unwrap();
        for (name, body) in [("gzip", gzip), ("Deflate", deflate), ("zstd", zstd)] {
            let coding = coding(name).unwrap();
            assert_eq!(decoded(coding, &body, 10_000).unwrap(), text);
            assert_eq!(decoded(coding, &body, 9_999).unwrap_err().status.as_u16(), 413, "{name}");
            for end in 0..body.len() {
                let cut = decoded(coding, &body[..end], 10_000);
                // Of nothing there is nothing to say for zstd, whose frames may be none.
                assert!(
                    cut.map_or_else(|problem| problem.status == 400, |read| end == 0 && read.is_empty()),
                    "{name} {end}"
                );
            }
        }
        assert_eq!(coding("br").unwrap_err().status.as_u16(), 415);
        assert_eq!(coding("gzip,zstd").unwrap_err().status.as_u16(), 415);
    }
}
