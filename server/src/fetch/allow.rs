//! The list of what may be reached.

use url::Url;

/// Beginnings of URLs: an origin, and perhaps a path that all below it have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    places: Vec<Url>,
}

impl Allowed {
    /// Reads the setting: `https://example.org`, or `https://example.org/sparql`, with commas.
    pub fn parse(text: &str) -> Result<Allowed, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let places = names.map(|name| {
            let is_place = |url: &Url| {
                let is_plain = url.query().is_none() && url.fragment().is_none() && !has_user(url);
                matches!(url.scheme(), "http" | "https") && is_plain && !hides_slashes(url)
            };
            let wrong = || format!("sparql-fetch: `{name}` is no beginning of a URL: give one such as https://example.org/sparql");
            Url::parse(name).ok().filter(is_place).ok_or_else(wrong)
        });
        Ok(Allowed {
            places: places.collect::<Result<_, String>>()?,
        })
    }

    /// Whether it allows nothing.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether a URL may be reached: it has the scheme, host and port of a place, and its path is the place's or below it. `Url` has resolved
    /// dots, ports and the case of hosts.
    pub fn allows(&self, url: &Url) -> bool {
        !has_user(url)
            && self
                .places
                .iter()
                .any(|place| place.origin() == url.origin() && is_below(place.path(), url))
    }
}

fn is_below(place: &str, url: &Url) -> bool {
    let place = place.trim_end_matches('/');
    let rest = url.path().strip_prefix(place);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) && (place.is_empty() || !hides_slashes(url))
}

/// A name or password in a URL would go to the host.
fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Whether the path has slashes that some servers see and that its parts are not divided by here.
fn hides_slashes(url: &Url) -> bool {
    let path = url.path().to_ascii_lowercase();
    path.contains("%2f") || path.contains("%5c")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn allows(places: &str, url: &str) -> bool {
        Allowed::parse(places).unwrap().allows(&Url::parse(url).unwrap())
    }

    #[test]
    fn places_are_origins_with_or_without_a_path() {
        assert!(Allowed::parse(" , ").unwrap().is_empty());
        assert!(!Allowed::parse("http://a").unwrap().is_empty());
        for wrong in [
            "example.org",
            "*",
            "file:///etc",
            "ftp://example.org",
            "https://me:secret@example.org",
            "https://example.org/?a",
            "https://example.org/#a",
            "https://example.org/a%2fb",
            "https://",
        ] {
            assert!(Allowed::parse(wrong).unwrap_err().contains(wrong));
        }
    }

    #[test]
    fn a_place_allows_itself_and_what_is_below_it() {
        for url in [
            "https://example.org/sparql",
            "https://EXAMPLE.org:443/sparql/",
            "https://example.org/sparql?query=x#y",
            "https://example.org/a/../sparql/b",
        ] {
            assert!(allows("http://other, https://example.org/sparql", url), "{url}");
            assert!(allows("https://example.org/sparql/", url), "{url}");
            assert!(allows("https://example.org", url), "{url}");
        }
        for url in [
            "http://example.org/sparql",
            "https://example.org:8443/sparql",
            "https://example.org.evil.net/sparql",
            "https://sub.example.org/sparql",
            "https://example.org/sparql2",
            "https://example.org/",
            "https://example.org/sparql/../admin",
            "https://example.org/sparql/%2e%2e/admin",
            "https://example.org/sparql\\..\\admin",
            "https://example.org/sparql/..%2fadmin",
            "https://example.org/sparql/..%5Cadmin",
            "https://example.org@evil.net/sparql",
            "https://me@example.org/sparql",
            "https://me:secret@example.org/sparql",
        ] {
            assert!(!allows("https://example.org/sparql", url), "{url}");
        }
        assert!(!allows("", "https://example.org"));
    }
}
