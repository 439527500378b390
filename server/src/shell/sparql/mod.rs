//! SPARQL in the shell: `\sparql kb` switches to it.
//!
//! ```text
//! lines ─▶ Splitter ─▶ CALL sparql('kb', '…') or CALL sparql_update('kb', '…') ─▶ terms as text, triples, a truth value, done
//! ```

pub mod answer;
pub mod command;
pub mod keyword;
pub mod splitter;
pub mod term_text;
