//! Which kind of request a text is, told from its first words: who sends it on must know before anybody parses it.

use super::token::{Kind, tokens, unescaped};

/// The kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SparqlForm {
    /// `SELECT`: gives solutions.
    Select,
    /// `ASK`: gives a truth value.
    Ask,
    /// `CONSTRUCT`: gives triples.
    Construct,
    /// `DESCRIBE`: gives triples.
    Describe,
    /// Everything else: changes the dataset, or is refused by the parser of updates.
    Update,
}

impl SparqlForm {
    /// The form of a text, which may be wrong behind its first keyword.
    pub fn of(text: &str) -> SparqlForm {
        let text = &unescaped(text);
        let mut words = tokens(text)
            .filter(|token| matches!(token.kind, Kind::Name | Kind::Sign))
            .map(|token| token.text);
        while let Some(word) = words.next() {
            match word.to_ascii_lowercase().as_str() {
                // The IRIs of a prologue are no words; a prefix may be called as a keyword is.
                "base" => {}
                "prefix" => {
                    words.by_ref().find(|name| name.ends_with(':'));
                }
                "select" => return SparqlForm::Select,
                "ask" => return SparqlForm::Ask,
                "construct" => return SparqlForm::Construct,
                "describe" => return SparqlForm::Describe,
                _ => return SparqlForm::Update,
            }
        }
        SparqlForm::Update
    }

    /// Whether it only reads.
    pub fn is_query(self) -> bool {
        self != SparqlForm::Update
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_keyword_behind_the_prologue_counts() {
        for (text, form) in [
            ("select * { ?s ?p ?o }", SparqlForm::Select),
            (
                "# ASK\nBASE <urn:ask> PREFIX select: <urn:x>\nAsk { ?s select:p ?o }",
                SparqlForm::Ask,
            ),
            (
                "PREFIX select.ask: <urn:x> PREFIX : <urn:> Construct {} WHERE {}",
                SparqlForm::Construct,
            ),
            ("DESCRIBE<urn:a>", SparqlForm::Describe),
            ("PREFIX ex:<urn:x>INSERT DATA { ex:a ex:b 'SELECT' }", SparqlForm::Update),
            ("PREFIX ex: <urn:x>", SparqlForm::Update),
            ("", SparqlForm::Update),
        ] {
            assert_eq!(SparqlForm::of(text), form, "{text}");
        }
    }
}
