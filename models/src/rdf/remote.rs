//! What lies elsewhere: the documents of LOAD and the endpoints of SERVICE.
//!
//! This crate knows no network: whoever opens the database may give it a way out. Without one, both are refused.

use std::fmt;

use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;

use crate::error::{Error, ErrorKind, Result};

/// A way out. A request ends where its future, or the stream that it gave, is dropped.
#[async_trait]
pub trait Remote: fmt::Debug + Send + Sync {
    /// The quads of a document, as rows of `kb.quads`; its blank nodes as it labels them.
    ///
    /// # Errors
    /// As [`not_allowed`]; where the document is not to be had or is none of RDF, also in the stream.
    async fn document(&self, iri: &str) -> Result<SendableRecordBatchStream>;

    /// The solutions of a SELECT query at an endpoint: a column of terms for each of the variables, in their order, null where unbound; blank
    /// nodes as the answer labels them.
    ///
    /// # Errors
    /// As [`not_allowed`]; where the endpoint does not answer with solutions, also in the stream.
    async fn solutions(&self, endpoint: &str, query: &str, variables: &[String]) -> Result<SendableRecordBatchStream>;
}

/// The error for what may not be reached.
pub fn not_allowed(iri: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "42501", format!("<{iri}> may not be fetched"))
        .with_hint("the setting sparql-fetch names what SERVICE and LOAD may reach")
}
