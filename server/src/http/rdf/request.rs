//! The parameters of a SPARQL request: in the URL, in a form, or beside a text that is the body itself.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use pyralog_models::rdf::{SparqlJoin, SparqlQuery};

use super::form::media_type;
use crate::http::error::Problem;
use crate::http::key::{Query, parse_query};

/// The request's own IRI, without its query.
pub fn own_iri(request: &HttpRequest) -> String {
    let connection = request.connection_info();
    format!("{}://{}{}", connection.scheme(), connection.host(), request.uri().path())
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A query.
    Query,
    /// An update.
    Update,
}

impl Kind {
    /// The parameter that has the text, and the media type of a body that is the text.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Kind::Query => ("query", "application/sparql-query"),
            Kind::Update => ("update", "application/sparql-update"),
        }
    }
}

/// The parameters of a request and, if the body is one, its text.
pub struct Parameters {
    values: Query,
    form: Query,
    text: Option<(Kind, String)>,
    iri: String,
}

impl Parameters {
    /// Reads the URL and the body.
    pub fn read(request: &HttpRequest, body: &Bytes) -> Result<Parameters, Problem> {
        let values = parse_query(request.uri().query())?;
        let utf8 = || {
            let text = std::str::from_utf8(body);
            text.map(str::to_owned)
                .map_err(|error| Problem::bad_request("BAD_TEXT", format!("the body is not UTF-8: {error}")))
        };
        let (mut form, mut text) = (Query::default(), None);
        if request.method() == actix_web::http::Method::POST {
            let media = media_type(request)?;
            match media.as_deref() {
                Some("application/x-www-form-urlencoded") => form = parse_query(Some(&utf8()?))?,
                Some("application/sparql-query") => text = Some((Kind::Query, utf8()?)),
                Some("application/sparql-update") => text = Some((Kind::Update, utf8()?)),
                other => {
                    let message = format!("cannot read {}", other.unwrap_or("a body without Content-Type"));
                    return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "BAD_CONTENT_TYPE", message)
                        .with_hint("send application/sparql-query, application/sparql-update, or a form with query= or update="));
                }
            }
        }
        Ok(Parameters {
            values,
            form,
            text,
            iri: own_iri(request),
        })
    }

    /// Whether there is a text of this kind.
    pub fn has(&self, kind: Kind) -> bool {
        let (name, _) = kind.names();
        matches!(&self.text, Some((text, _)) if *text == kind) || self.form.bytes(name).is_some() || self.values.bytes(name).is_some()
    }

    fn all(&self, name: &str) -> Result<Vec<String>, Problem> {
        let mut values = self.values.texts(name)?;
        values.extend(self.form.texts(name)?);
        Ok(values)
    }

    /// The request's query or update.
    pub fn query(mut self, kind: Kind, dataset: String) -> Result<SparqlQuery, Problem> {
        let (name, media) = kind.names();
        let other = match kind {
            Kind::Query => Kind::Update,
            Kind::Update => Kind::Query,
        };
        if self.has(kind) && self.has(other) {
            return Err(Problem::bad_request(
                "SEVERAL_TEXTS",
                "there are a query and an update; one can be run",
            ));
        }
        let mut texts = match kind {
            Kind::Query => self.all(name)?,
            Kind::Update => self.form.texts(name)?,
        };
        match self.text.take() {
            Some((other, _)) if other != kind => {
                let message = format!("this is no endpoint for {}", other.names().1);
                return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "BAD_CONTENT_TYPE", message));
            }
            text => texts.extend(text.map(|(_, text)| text)),
        }
        let text = match texts.len() {
            1 => texts.swap_remove(0),
            0 => {
                // An update in a URL could be sent by a link.
                return Err(Problem::bad_request("MISSING_TEXT", format!("there is no {name} in the body"))
                    .with_hint(format!("send {name}= in a form, or the text as {media}")));
            }
            many => {
                return Err(Problem::bad_request(
                    "SEVERAL_TEXTS",
                    format!("there are {many} of {name}; one can be run"),
                ));
            }
        };
        let (default, named) = match kind {
            Kind::Query => ("default-graph-uri", "named-graph-uri"),
            Kind::Update => ("using-graph-uri", "using-named-graph-uri"),
        };
        let join = match self.all("join")?.last().map(String::as_str) {
            None | Some("auto") => SparqlJoin::Auto,
            Some("lookup") => SparqlJoin::Lookup,
            Some("hash") => SparqlJoin::Hash,
            Some("search") => SparqlJoin::Search,
            Some(other) => {
                return Err(Problem::bad_request(
                    "BAD_JOIN",
                    format!("join={other} is none of auto, lookup, hash and search"),
                ));
            }
        };
        Ok(SparqlQuery {
            dataset,
            join,
            text,
            base: Some(self.iri.clone()),
            default_graphs: self.all(default)?,
            named_graphs: self.all(named)?,
            union_default_graph: self
                .all("union-default-graph")?
                .last()
                .is_some_and(|value| matches!(value.as_str(), "" | "true" | "1")),
        })
    }
}
