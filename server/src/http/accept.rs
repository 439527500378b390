//! Which form of a result a request's `Accept` asks for.

use actix_web::http::StatusCode;

use super::error::Problem;

/// The forms of a result of `POST /sql`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `{"columns", "rows", "affected"}`.
    Json,
    /// An object a line.
    Ndjson,
    /// CSV.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl Form {
    /// The media type of the response.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::Ndjson => "application/x-ndjson",
            Form::Csv => "text/csv; charset=utf-8",
            Form::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// The form of one media range; `None` if there is none of that kind.
    fn of_range(range: &str) -> Option<Self> {
        match range.to_ascii_lowercase().as_str() {
            "application/json" | "application/*" | "*/*" => Some(Form::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/jsonlines" => Some(Form::Ndjson),
            "text/csv" | "text/*" => Some(Form::Csv),
            "application/vnd.apache.arrow.stream" => Some(Form::Arrow),
            _ => None,
        }
    }

    /// The best form by quality; without `Accept` JSON. Status 406 if none fits.
    pub fn negotiate(accept: Option<&str>) -> Result<Self, Problem> {
        let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
            return Ok(Form::Json);
        };
        let mut best: Option<(Form, f32)> = None;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let Some(form) = parts.next().and_then(Form::of_range) else {
                continue;
            };
            let quality = parts
                .find_map(|part| part.strip_prefix("q="))
                .and_then(|q| q.parse().ok())
                .unwrap_or(1.0);
            if quality > 0.0 && best.is_none_or(|(_, other)| quality > other) {
                best = Some((form, quality));
            }
        }
        best.map(|(form, _)| form).ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_ACCEPTABLE,
                "NOT_ACCEPTABLE",
                format!("no form of a result fits Accept: {accept}"),
            )
            .with_hint("there are application/json, application/x-ndjson, text/csv and application/vnd.apache.arrow.stream")
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn quality_decides() {
        assert_eq!(Form::negotiate(None).unwrap(), Form::Json);
        assert_eq!(Form::negotiate(Some("*/*")).unwrap(), Form::Json);
        assert_eq!(
            Form::negotiate(Some("text/csv;q=0.5, application/vnd.apache.arrow.stream")).unwrap(),
            Form::Arrow
        );
        assert_eq!(
            Form::negotiate(Some("text/html, application/x-ndjson;q=0.9, */*;q=0.1")).unwrap(),
            Form::Ndjson
        );
        assert_eq!(Form::negotiate(Some("image/png")).unwrap_err().status.as_u16(), 406);
    }
}
