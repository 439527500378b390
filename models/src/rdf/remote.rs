//! What lies elsewhere: the documents of LOAD and the endpoints of SERVICE.
//!
//! This crate knows no network: whoever opens the database may give it a way out. Without one, both are refused.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::BoxStream;
use oxrdfio::RdfFormat;

use crate::error::{Error, ErrorKind, Result};

/// A document of RDF.
pub struct Document {
    /// How it is written.
    pub format: RdfFormat,
    /// Where it was found, against which its relative IRIs are resolved.
    pub base: String,
    /// Its text as it comes.
    pub text: BoxStream<'static, Result<Bytes>>,
}

/// A way out. A request ends where its future, or the stream that it gave, is dropped.
#[async_trait]
pub trait Remote: fmt::Debug + Send + Sync {
    /// A document.
    ///
    /// # Errors
    /// As [`not_allowed`]; where the document is not to be had or is none of RDF; in its text, where that breaks off.
    async fn document(&self, iri: &str) -> Result<Document>;

    /// The solutions of a SELECT query at an endpoint: a column of terms for each of the variables, in their order, null where unbound; blank
    /// nodes as the answer labels them.
    ///
    /// # Errors
    /// As [`not_allowed`]; where the endpoint does not answer with solutions, also in the stream.
    async fn solutions(&self, endpoint: &str, query: &str, variables: &[String]) -> Result<SendableRecordBatchStream>;
}

/// Whether an error is of what lies elsewhere, so that SILENT passes over it: the database's own are not.
pub fn is_elsewhere(error: &Error) -> bool {
    // What a `Remote` gives, what is wrong in a document or an answer, and a service that is none.
    matches!(
        error.code,
        "08001" | "08006" | "0A000" | "22000" | "22004" | "42501" | "54000" | "58030" | "HV000"
    )
}

/// The error for what may not be reached.
pub fn not_allowed(iri: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "42501", format!("<{iri}> may not be fetched"))
        .with_hint("the setting sparql-fetch names what SERVICE and LOAD may reach")
}
