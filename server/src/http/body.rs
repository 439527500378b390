//! Reading a request's body: decompressed, bounded in size, bounded in time.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Decompress;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures::StreamExt;

use super::HttpOptions;
use super::error::Problem;

/// The whole body. The limit counts decompressed bytes, so that a small bomb stays small; nothing is allocated by a claimed length.
pub async fn read(request: &HttpRequest, payload: Payload, options: &HttpOptions) -> Result<Bytes, Problem> {
    let claimed = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if claimed.is_some_and(|length| length > options.max_body_bytes as u64) {
        return Err(too_large(options));
    }
    let stream = Decompress::from_headers(payload.into_inner(), request.headers());
    within(options.request_timeout, collect(stream, options)).await
}

async fn collect(
    mut stream: impl futures::Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    options: &HttpOptions,
) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| Problem::bad_request("BAD_BODY", format!("the body cannot be read: {error}")))?;
        if body.len() + chunk.len() > options.max_body_bytes {
            return Err(too_large(options));
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

fn too_large(options: &HttpOptions) -> Problem {
    let message = format!("the body is larger than {} bytes", options.max_body_bytes);
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", message).with_hint("send less at once, or raise max-request-size")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures::stream;

    fn options() -> HttpOptions {
        HttpOptions {
            max_body_bytes: 10,
            request_timeout: Duration::from_millis(20),
            statement_timeout: None,
            shutdown_timeout: Duration::from_secs(1),
            cors_origins: Vec::new(),
        }
    }

    #[tokio::test]
    async fn size_and_time_are_bounded() {
        let chunks = |n: usize| stream::iter((0..n).map(|_| Ok(Bytes::from_static(b"1234"))));
        assert_eq!(collect(chunks(2), &options()).await.unwrap().len(), 8);
        assert_eq!(collect(chunks(3), &options()).await.unwrap_err().status.as_u16(), 413);
        let slow = within(options().request_timeout, collect(stream::pending(), &options())).await;
        assert_eq!(slow.unwrap_err().status.as_u16(), 408);
    }
}
