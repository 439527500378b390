//! Addresses that do not answer.

use std::time::{Duration, Instant};

use pyralog_client::{Client, ClientConfig, ErrorKind, RetryPolicy};

use super::server::Running;

/// An address where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("grpc://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let server = Running::start().await;
    let db = Client::connect(format!("{},{}", nobody(), server.url())).await.unwrap();
    assert_eq!(db.sql("SELECT 1").fetch_all().await.unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_a_clear_error_in_bounded_time() {
    let started = Instant::now();
    let address = nobody();
    let error = Client::connect(&address).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains(address.trim_start_matches("grpc://")), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
    let config = ClientConfig::new(&address).unwrap().retry(RetryPolicy::NEVER);
    assert_eq!(Client::connect(config).await.unwrap_err().kind(), ErrorKind::Connection);
}

#[tokio::test]
async fn a_peer_that_talks_nonsense_is_a_clear_error() {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("grpc://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.write_all(b"HTTP/1.1 400 what\r\n\r\n").await;
        }
    });
    let config = ClientConfig::new(&address)
        .unwrap()
        .retry(RetryPolicy::NEVER)
        .connect_timeout(Duration::from_secs(2));
    let outcome = match Client::connect(config).await {
        Ok(db) => db.sql("INSERT INTO t VALUES (1)").execute().await.map(drop),
        Err(error) => Err(error),
    };
    let kind = outcome.unwrap_err().kind();
    assert!(
        matches!(kind, ErrorKind::Unavailable | ErrorKind::Connection | ErrorKind::Internal),
        "{kind:?}"
    );
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn tls_without_the_feature_says_so() {
    let error = Client::connect("grpc+tls://127.0.0.1:1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("`tls` feature"), "{error}");
}
