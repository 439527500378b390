//! What SERVICE and LOAD of SPARQL reach over HTTP: only what the setting `sparql-fetch` names.
//!
//! ```text
//! models ──(Remote)──▶ remote: documents, solutions ──▶ client: requests, redirects ──▶ connection: TCP, TLS
//!                              ▲                          │ each URL: allow
//!                              └──── body: bounded, unzipped, as it comes
//! ```

mod allow;
mod body;
mod client;
mod connection;
mod remote;

use std::sync::Arc;

use pyralog_models::rdf::Remote;

use self::allow::Allowed;
use self::client::Client;
use self::remote::Http;
use crate::config::Config;

/// The way out that the configuration gives; `None`: nothing may be reached. The error is wrong usage.
pub fn of(config: &Config) -> Result<Option<Arc<dyn Remote>>, String> {
    let allowed = Allowed::parse(config.text("sparql-fetch").unwrap_or_default())?;
    let max_bytes = config.bytes("sparql-fetch-size")?;
    match allowed.is_empty() {
        true => Ok(None),
        false => Ok(Some(Arc::new(Http::new(Client::new(allowed, max_bytes)?)))),
    }
}
