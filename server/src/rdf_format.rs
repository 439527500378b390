//! The syntaxes of RDF by the names that import and export know.

use std::path::Path;

use oxrdfio::{JsonLdProfileSet, RdfFormat};

const JSON_LD: RdfFormat = RdfFormat::JsonLd {
    profile: JsonLdProfileSet::empty(),
};

/// Names, which are also the extensions of files, and what they stand for.
const NAMES: [(&str, RdfFormat); 10] = [
    ("nt", RdfFormat::NTriples),
    ("nq", RdfFormat::NQuads),
    ("ttl", RdfFormat::Turtle),
    ("trig", RdfFormat::TriG),
    ("n3", RdfFormat::N3),
    ("rdf/xml", RdfFormat::RdfXml),
    ("rdfxml", RdfFormat::RdfXml),
    ("rdf", RdfFormat::RdfXml),
    ("owl", RdfFormat::RdfXml),
    ("jsonld", JSON_LD),
];

/// A syntax by name.
pub fn parse(name: &str) -> Option<RdfFormat> {
    let name = name.to_ascii_lowercase();
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
}

/// The syntax that a file's name says; the name without what says how it is compressed.
pub fn of_path(path: &Path) -> Option<RdfFormat> {
    parse(path.extension()?.to_str()?)
}

/// The name of a syntax.
pub fn name(format: RdfFormat) -> &'static str {
    let known = NAMES.iter().find(|(_, known)| *known == format);
    known.map_or("jsonld", |(name, _)| name)
}
