//! Key-value buckets over HTTP, SDK and SQL: one bucket, one truth.

mod http_verbs;
mod sdk_verbs;

use pyralog_tests::server::Server;

/// A server with the bucket `cache`.
fn with_bucket() -> Server {
    let server = Server::start();
    server.http_sql("CREATE COLLECTION cache AS KV");
    server
}
