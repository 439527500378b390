//! Prometheus' text format, read strictly: what a scraper would only warn of is an error here.

use std::collections::{BTreeMap, BTreeSet};

/// All samples of one scrape.
#[derive(Debug, Clone, Default)]
pub struct Exposition {
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
    types: BTreeMap<String, String>,
}

impl Exposition {
    /// Reads a scrape. The error names the line.
    pub fn parse(text: &str) -> Result<Exposition, String> {
        let mut read = Exposition::default();
        let mut helped = BTreeSet::new();
        let mut current = String::new();
        if !text.ends_with('\n') {
            return Err("the last line does not end".to_owned());
        }
        for line in text.lines() {
            let failed = |why: &str| format!("{why}: {line}");
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or_else(|| failed("no help"))?;
                if help.trim().is_empty() || !helped.insert(name.to_owned()) {
                    return Err(failed("no help, or a second one"));
                }
                current = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| failed("no type"))?;
                let known = ["counter", "gauge", "histogram"].contains(&kind);
                let named = (kind == "counter") == name.ends_with("_total");
                if name != current || !known || !named || read.types.insert(name.to_owned(), kind.to_owned()).is_some() {
                    return Err(failed("a wrong or a second type, or a name that does not fit it"));
                }
            } else {
                let (series, value) = line.rsplit_once(' ').ok_or_else(|| failed("no value"))?;
                let value: f64 = value.parse().map_err(|_| failed("no number"))?;
                let (name, labels) = match series.split_once('{') {
                    None => (series, BTreeMap::new()),
                    Some((name, labels)) => (name, labels_of(labels).ok_or_else(|| failed("wrong labels"))?),
                };
                let base = match read.types.get(&current).map(String::as_str) {
                    None => return Err(failed("a sample without a type")),
                    Some("histogram") => ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end)),
                    Some(_) => Some(name),
                };
                let well_named = name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
                if base != Some(current.as_str()) || !well_named {
                    return Err(failed("a sample of another metric than the one above it"));
                }
                if read.samples.insert((name.to_owned(), labels), value).is_some() {
                    return Err(failed("a second sample"));
                }
            }
        }
        match helped.len() == read.types.len() {
            true => Ok(read),
            false => Err("a metric with help and no type".to_owned()),
        }
    }

    /// The value of one series.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels
            .iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
            .collect();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    /// The names of all metrics.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.types.keys().map(String::as_str)
    }

    /// Whether a counter has gone back since another scrape of the same process.
    pub fn went_back_since(&self, before: &Exposition) -> Option<String> {
        let counters = before
            .samples
            .iter()
            .filter(|((name, _), _)| self.types.get(name).is_some_and(|kind| kind == "counter"));
        let mut back = counters.filter(|(series, value)| self.samples.get(*series).is_none_or(|now| now < *value));
        back.next().map(|(series, value)| format!("{series:?} was {value}"))
    }
}

/// What is between the braces.
fn labels_of(text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    let mut rest = text.strip_suffix('}')?;
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (at, '"') => break at,
                (_, other) => value.push(other),
            }
        };
        labels.insert(label.to_owned(), value).is_none().then_some(())?;
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_an_error() {
        let well = "# HELP a A.\n# TYPE a gauge\na{x=\"1\",y=\"\\\"}\"} 2\na 3\n# HELP b_total B.\n# TYPE b_total counter\nb_total 1\n";
        let read = Exposition::parse(well).unwrap();
        assert_eq!(read.value("a", &[("x", "1"), ("y", "\"}")]), Some(2.0));
        for wrong in [
            "a 1\n",
            "# HELP a A.\n# TYPE a gauge\na 1",
            "# HELP a A.\n# TYPE a gauge\na 1\na 2\n",
            "# HELP a A.\n# TYPE a counter\na 1\n",
            "# HELP a_total A.\n# TYPE a_total gauge\na_total 1\n",
            "# HELP a A.\n# TYPE a gauge\nb 1\n",
            "# HELP a A.\n# TYPE a gauge\na x\n",
            "# HELP a A.\n# TYPE a gauge\n# HELP a A.\n# TYPE a gauge\n",
            "# HELP a A.\n",
        ] {
            assert!(Exposition::parse(wrong).is_err(), "{wrong}");
        }
    }
}
