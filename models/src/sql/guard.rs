//! Refuses statements that would overflow a stack later: parsers, planners and destructors recurse on what is nested, and a chain such as
//! `1+1+…` nests as deeply as it is long. Runs on tokens, without recursion, before anything is built from them.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{Error, ErrorKind, Result};

/// Longest statement text, in bytes.
pub const MAX_STATEMENT_BYTES: usize = 8 << 20;
/// Deepest nesting of parentheses, brackets and `CASE`.
pub const MAX_DEPTH: usize = 64;
/// Most operators in one chain, that is between two commas or parentheses of one level.
pub const MAX_CHAIN: usize = 500;

/// Checks a text's length before it is split into tokens.
pub fn check_length(sql: &str) -> Result<()> {
    if sql.len() <= MAX_STATEMENT_BYTES {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::ResourceExhausted,
        "54000",
        format!(
            "the statement has {} bytes, more than the limit of {MAX_STATEMENT_BYTES}",
            sql.len()
        ),
    )
    .with_hint("load rows with `pyralog import`, COPY, bulk ingest, or bound parameters"))
}

/// Checks nesting and chains.
pub fn check_shape(tokens: &[TokenWithSpan]) -> Result<()> {
    // One counter a level: how many chaining tokens the innermost open group has had since its last comma.
    let mut chains = vec![0usize];
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                chains.push(0);
                if chains.len() > MAX_DEPTH {
                    return Err(too_complex(token, format!("more than {MAX_DEPTH} levels of nesting")));
                }
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                if chains.len() > 1 {
                    chains.pop();
                }
                // `f(x)(y)`, `a[1][2]` and `(…) + (…)` chain as well.
                count(&mut chains, token)?;
            }
            Token::Word(word) if word.keyword == Keyword::CASE => {
                chains.push(0);
                if chains.len() > MAX_DEPTH {
                    return Err(too_complex(token, format!("more than {MAX_DEPTH} levels of nesting")));
                }
            }
            Token::Word(word) if word.keyword == Keyword::END && chains.len() > 1 => {
                chains.pop();
            }
            Token::Word(word) if matches!(word.keyword, Keyword::WHEN) => reset(&mut chains),
            Token::Comma | Token::SemiColon => reset(&mut chains),
            Token::Word(word) if !chains_with(word.keyword) => {}
            Token::Whitespace(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::Placeholder(_) => {}
            _ => count(&mut chains, token)?,
        }
    }
    Ok(())
}

fn chains_with(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::AND
            | Keyword::OR
            | Keyword::NOT
            | Keyword::UNION
            | Keyword::INTERSECT
            | Keyword::EXCEPT
            | Keyword::MINUS
            | Keyword::JOIN
            | Keyword::IS
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::BETWEEN
            | Keyword::COLLATE
            | Keyword::AT
            | Keyword::DIV
            | Keyword::XOR
    )
}

fn reset(chains: &mut [usize]) {
    if let Some(last) = chains.last_mut() {
        *last = 0;
    }
}

fn count(chains: &mut [usize], token: &TokenWithSpan) -> Result<()> {
    if let Some(last) = chains.last_mut() {
        *last += 1;
        if *last > MAX_CHAIN {
            return Err(too_complex(token, format!("more than {MAX_CHAIN} operators in one expression")));
        }
    }
    Ok(())
}

fn too_complex(token: &TokenWithSpan, what: String) -> Error {
    Error::invalid("54001", format!("the statement is too complex: {what}"))
        .at(token.span.start.line, token.span.start.column)
        .with_hint("use IN (…), VALUES or a table instead of long chains, and split deep expressions")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn check(sql: &str) -> Result<()> {
        check_shape(&Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().unwrap())
    }

    #[test]
    fn refuses_depth_and_chains_but_not_length() {
        assert_eq!(check(&format!("SELECT 1{}", "+1".repeat(20_000))).unwrap_err().code, "54001");
        assert_eq!(
            check(&format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)))
                .unwrap_err()
                .code,
            "54001"
        );
        assert_eq!(
            check(&format!("SELECT 1 WHERE true{}", " OR false".repeat(20_000)))
                .unwrap_err()
                .code,
            "54001"
        );
        assert_eq!(
            check(&format!("SELECT 1{}", " UNION SELECT 1".repeat(20_000))).unwrap_err().code,
            "54001"
        );
        check(&format!("SELECT 1 IN (1{})", ",1".repeat(50_000))).unwrap();
        check(&format!("INSERT INTO t VALUES (1,-2){}", ",(1,-2)".repeat(50_000))).unwrap();
        check("SELECT CASE WHEN a = 1 THEN 2 ELSE 3 END + 1 FROM t").unwrap();
    }
}
