//! Which form of an answer a request's `Accept` asks for, and in which form a body comes.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use oxrdfio::{JsonLdProfileSet, RdfFormat};
use sparesults::QueryResultsFormat;

use crate::http::error::Problem;

/// A form, and the media types that ask for it.
pub type Offer<T> = (T, &'static [&'static str]);

const JSON_LD: RdfFormat = RdfFormat::JsonLd {
    profile: JsonLdProfileSet::empty(),
};

/// Forms of solutions and truth values; the first is the one for who does not ask.
pub const RESULTS: [Offer<QueryResultsFormat>; 4] = [
    (QueryResultsFormat::Json, &["application/sparql-results+json", "application/json"]),
    (
        QueryResultsFormat::Xml,
        &["application/sparql-results+xml", "application/xml", "text/xml"],
    ),
    (QueryResultsFormat::Csv, &["text/csv"]),
    (QueryResultsFormat::Tsv, &["text/tab-separated-values", "text/tsv"]),
];

/// Forms of a graph.
pub const GRAPHS: [Offer<RdfFormat>; 7] = [
    (RdfFormat::Turtle, &["text/turtle", "application/turtle", "application/x-turtle"]),
    (RdfFormat::NTriples, &["application/n-triples", "text/plain"]),
    (RdfFormat::RdfXml, &["application/rdf+xml", "application/xml", "text/xml"]),
    (JSON_LD, &["application/ld+json", "application/json"]),
    (RdfFormat::N3, &["text/n3"]),
    (RdfFormat::NQuads, &["application/n-quads", "text/x-nquads"]),
    (RdfFormat::TriG, &["application/trig", "application/x-trig"]),
];

/// Forms of a whole dataset.
pub const DATASETS: [Offer<RdfFormat>; 3] = [
    (RdfFormat::TriG, &["application/trig", "application/x-trig"]),
    (RdfFormat::NQuads, &["application/n-quads", "text/x-nquads"]),
    (JSON_LD, &["application/ld+json", "application/json"]),
];

/// The best form by quality, where the most specific range counts; the first without `Accept`. Status 406 if none fits.
pub fn negotiate<T: Copy>(request: &HttpRequest, offers: &[Offer<T>]) -> Result<T, Problem> {
    let accepts: Vec<&str> = request
        .headers()
        .get_all(ACCEPT)
        .filter_map(|value| value.to_str().ok())
        .filter(|value| !value.trim().is_empty())
        .collect();
    choose(&accepts.join(","), offers)
}

fn choose<T: Copy>(accept: &str, offers: &[Offer<T>]) -> Result<T, Problem> {
    let ranges: Vec<(String, f32)> = accept.split(',').filter_map(range).collect();
    if ranges.is_empty()
        && let Some((form, _)) = offers.first()
    {
        return Ok(*form);
    }
    let of = |wanted: &str| ranges.iter().find(|(range, _)| range == wanted).map(|(_, quality)| *quality);
    let mut best: Option<(T, f32)> = None;
    for (form, types) in offers {
        let named = types.iter().filter_map(|media| of(media)).reduce(f32::max);
        let any = || {
            let kind = types.first()?.split('/').next()?;
            of(&format!("{kind}/*")).or_else(|| of("*/*"))
        };
        let quality = named.or_else(any).unwrap_or(0.0);
        if quality > 0.0 && best.is_none_or(|(_, other)| quality > other) {
            best = Some((*form, quality));
        }
    }
    best.map(|(form, _)| form).ok_or_else(|| {
        let known: Vec<&str> = offers.iter().filter_map(|(_, types)| types.first().copied()).collect();
        Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            "NOT_ACCEPTABLE",
            format!("no form of the answer fits Accept: {accept}"),
        )
        .with_hint(format!("there are {}", known.join(", ")))
    })
}

/// A media range and its quality.
fn range(text: &str) -> Option<(String, f32)> {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().filter(|media| !media.is_empty())?.to_ascii_lowercase();
    let quality = parts
        .find_map(|part| part.strip_prefix("q="))
        .and_then(|quality| quality.parse().ok());
    Some((media, quality.unwrap_or(1.0)))
}

/// The media type of a body, in lower case, without parameters. Status 415 for one in another charset than UTF-8.
pub fn media_type(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let header = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    header.map(essence).transpose()
}

fn essence(text: &str) -> Result<String, Problem> {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let charset = parts
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    match charset.map(|(_, value)| value.trim().trim_matches('"').to_ascii_lowercase()) {
        Some(other) if !matches!(other.as_str(), "utf-8" | "utf8" | "us-ascii" | "ascii") => {
            let message = format!("cannot read text in the charset {other}");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "BAD_CHARSET", message).with_hint("send UTF-8"))
        }
        _ => Ok(media),
    }
}

/// The syntax of RDF that a media type names.
pub fn syntax(media: &str) -> Option<RdfFormat> {
    let known = GRAPHS.iter().find(|(_, types)| types.contains(&media));
    // What could be anything is nothing that could be read.
    known
        .map(|(form, _)| *form)
        .filter(|_| !matches!(media, "application/xml" | "text/xml"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_range_decides() {
        let results = |accept: &str| choose(accept, &RESULTS);
        assert_eq!(results("").unwrap(), QueryResultsFormat::Json);
        assert_eq!(results("*/*").unwrap(), QueryResultsFormat::Json);
        assert_eq!(results("text/*").unwrap(), QueryResultsFormat::Csv);
        assert_eq!(
            results("text/csv;q=0.5, application/sparql-results+xml;q=0.9").unwrap(),
            QueryResultsFormat::Xml
        );
        assert_eq!(
            results("*/*, application/sparql-results+json;q=0.1").unwrap(),
            QueryResultsFormat::Xml
        );
        assert_eq!(results("image/png").unwrap_err().status.as_u16(), 406);
        assert_eq!(choose("application/n-triples", &GRAPHS).unwrap(), RdfFormat::NTriples);
        assert_eq!(choose("text/plain", &GRAPHS).unwrap(), RdfFormat::NTriples);
        assert_eq!(choose("text/turtle, */*;q=0.1", &DATASETS).unwrap(), RdfFormat::TriG);
        assert_eq!(syntax("application/ld+json"), Some(JSON_LD));
        assert_eq!(syntax("application/xml"), None);
    }

    #[test]
    fn text_is_utf_8() {
        assert_eq!(essence("Text/Turtle; charset=\"UTF-8\"").unwrap(), "text/turtle");
        assert_eq!(
            essence("text/turtle ; version=1; Charset=ISO-8859-1").unwrap_err().status.as_u16(),
            415
        );
    }
}
