//! Conditional requests on versions: `ETag`, `If-Match`, `If-None-Match` (RFC 9110).

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};
use pyralog_models::KvPrecondition;

use super::error::Problem;

/// What a condition header lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Versions {
    /// `*`: any that exists.
    Any,
    /// These; a tag that is no version of ours is left out, for it matches nothing.
    Listed(Vec<u64>),
}

impl Versions {
    fn matches(&self, current: Option<u64>) -> bool {
        match (self, current) {
            (_, None) => false,
            (Versions::Any, Some(_)) => true,
            (Versions::Listed(versions), Some(version)) => versions.contains(&version),
        }
    }
}

/// The conditions of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The current version must be among these.
    pub if_match: Option<Versions>,
    /// The current version must not be among these.
    pub if_none_match: Option<Versions>,
}

/// How a condition can be kept while it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// The store checks it by itself, atomically.
    Direct(KvPrecondition),
    /// The current version must be read first; the write then depends on just that version.
    Read,
}

impl Conditions {
    /// Reads a request's headers.
    pub fn of(request: &HttpRequest) -> Result<Self, Problem> {
        Self::of_headers(request.headers())
    }

    fn of_headers(headers: &HeaderMap) -> Result<Self, Problem> {
        let read = |name: HeaderName| -> Result<Option<Versions>, Problem> {
            let mut listed: Option<Versions> = None;
            for value in headers.get_all(name) {
                let text = value.to_str().map_err(|_| bad("a condition is not text"))?;
                listed = Some(match (listed, parse(text)?) {
                    (Some(Versions::Listed(mut all)), Versions::Listed(more)) => {
                        all.extend(more);
                        Versions::Listed(all)
                    }
                    (None, parsed) => parsed,
                    _ => Versions::Any,
                });
            }
            Ok(listed)
        };
        Ok(Conditions {
            if_match: read(IF_MATCH)?,
            if_none_match: read(IF_NONE_MATCH)?,
        })
    }

    /// How a write keeps these conditions.
    pub fn plan(&self) -> Plan {
        match (&self.if_match, &self.if_none_match) {
            (None, None) => Plan::Direct(KvPrecondition::Any),
            (None, Some(Versions::Any)) => Plan::Direct(KvPrecondition::Absent),
            (Some(Versions::Any), None) => Plan::Direct(KvPrecondition::Present),
            (Some(Versions::Listed(versions)), None) if versions.len() == 1 => Plan::Direct(KvPrecondition::Version(versions[0])),
            _ => Plan::Read,
        }
    }

    /// Whether a current version (or none) keeps `If-Match`.
    pub fn match_holds(&self, current: Option<u64>) -> bool {
        self.if_match.as_ref().is_none_or(|versions| versions.matches(current))
    }

    /// Whether a current version (or none) keeps `If-None-Match`.
    pub fn none_match_holds(&self, current: Option<u64>) -> bool {
        self.if_none_match.as_ref().is_none_or(|versions| !versions.matches(current))
    }

    /// The write's own condition once the current version is known; `None`: the request's conditions do not hold.
    pub fn against(&self, current: Option<u64>) -> Option<KvPrecondition> {
        let holds = self.match_holds(current) && self.none_match_holds(current);
        holds.then_some(current.map_or(KvPrecondition::Absent, KvPrecondition::Version))
    }
}

/// The entity tag of a version.
pub fn tag(version: u64) -> String {
    format!("\"{version}\"")
}

/// Reads `*` or a list of tags. Weak tags match nothing, as versions are compared strongly.
fn parse(text: &str) -> Result<Versions, Problem> {
    let text = text.trim();
    if text == "*" {
        return Ok(Versions::Any);
    }
    let mut versions = Vec::new();
    for tag in text.split(',').map(str::trim) {
        let (weak, tag) = tag.strip_prefix("W/").map_or((false, tag), |tag| (true, tag));
        let inner = tag
            .strip_prefix('"')
            .and_then(|tag| tag.strip_suffix('"'))
            .or_else(|| tag.bytes().all(|b| b.is_ascii_digit()).then_some(tag));
        let inner = inner
            .filter(|inner| !inner.is_empty())
            .ok_or_else(|| bad("expected \"version\" or *"))?;
        if let (false, Ok(version)) = (weak, inner.parse()) {
            versions.push(version);
        }
    }
    Ok(Versions::Listed(versions))
}

fn bad(message: &'static str) -> Problem {
    Problem::bad_request("BAD_CONDITION", format!("If-Match/If-None-Match: {message}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn conditions(if_match: Option<&'static str>, if_none_match: Option<&'static str>) -> Conditions {
        let mut headers = HeaderMap::new();
        for (name, value) in [(IF_MATCH, if_match), (IF_NONE_MATCH, if_none_match)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        Conditions::of_headers(&headers).unwrap()
    }

    #[test]
    fn simple_conditions_are_the_stores() {
        assert_eq!(conditions(None, None).plan(), Plan::Direct(KvPrecondition::Any));
        assert_eq!(conditions(None, Some("*")).plan(), Plan::Direct(KvPrecondition::Absent));
        assert_eq!(conditions(Some("*"), None).plan(), Plan::Direct(KvPrecondition::Present));
        assert_eq!(conditions(Some("\"7\""), None).plan(), Plan::Direct(KvPrecondition::Version(7)));
        assert_eq!(conditions(Some("7"), None).plan(), Plan::Direct(KvPrecondition::Version(7)));
    }

    #[test]
    fn lists_need_the_current_version() {
        let listed = conditions(Some("\"1\", \"2\""), None);
        assert_eq!(listed.plan(), Plan::Read);
        assert_eq!(listed.against(Some(2)), Some(KvPrecondition::Version(2)));
        assert_eq!(listed.against(Some(3)), None);
        assert_eq!(listed.against(None), None);
        let not_five = conditions(None, Some("\"5\""));
        assert_eq!(not_five.against(Some(5)), None);
        assert_eq!(not_five.against(Some(6)), Some(KvPrecondition::Version(6)));
        assert_eq!(not_five.against(None), Some(KvPrecondition::Absent));
    }

    #[test]
    fn foreign_and_weak_tags_match_nothing() {
        let foreign = conditions(Some("\"abc\", W/\"7\""), None);
        assert_eq!(foreign.plan(), Plan::Read);
        assert_eq!(foreign.against(Some(7)), None);
        assert!(parse("abc").is_err());
        assert!(parse("").is_err());
    }
}
