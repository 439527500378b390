//! Text to statements: DataFusion's SQL parser, and our own few statements beside it.

use datafusion::sql::parser::{CopyToSource, DFParserBuilder, Statement as DataFusionStatement};
use datafusion::sql::sqlparser::ast::{ObjectName as SqlName, Statement as SqlStatement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::{dialect, guard};
use crate::error::{Error, Result};

/// Nesting that the recursive descent parser accepts; the guard has cut what is deeper.
const RECURSION_LIMIT: usize = 128;

/// One statement.
#[derive(Debug, Clone)]
pub enum Statement {
    /// Everything that the SQL parser knows.
    Sql(Box<DataFusionStatement>),
    /// `CREATE COLLECTION name AS KIND (options and columns)`.
    CreateCollection {
        /// The name.
        name: SqlName,
        /// `KV`, `DOCUMENT`, … in upper case.
        kind: String,
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
    },
    /// `DROP COLLECTION name`.
    DropCollection {
        /// The name.
        name: SqlName,
        /// `IF EXISTS`.
        if_exists: bool,
    },
    /// `SHOW COLLECTIONS`.
    ShowCollections,
    /// `CHECKPOINT`.
    Checkpoint,
    /// `COMPACT [name]`.
    Compact(Option<SqlName>),
}

/// Splits a text at its semicolons, minding strings and comments. Empty statements are left out. The parts are slices of the text as it
/// stands: tokens cannot be turned back into it.
pub fn split(sql: &str) -> Result<Vec<String>> {
    guard::check_length(sql)?;
    let tokens = tokenize(sql)?;
    let mut out = Vec::new();
    let mut offsets = Offsets::new(sql);
    let mut start = 0;
    let mut blank = true;
    for token in &tokens {
        match token.token {
            Token::SemiColon => {
                let at = offsets.of(token.span.start);
                if !blank {
                    out.push(sql[start..at].trim().to_owned());
                }
                start = at + 1;
                blank = true;
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => blank = false,
        }
    }
    if !blank {
        out.push(sql[start..].trim().to_owned());
    }
    Ok(out)
}

/// Byte offsets of the tokenizer's places (line and column in characters, from 1), asked for in growing order.
struct Offsets<'a> {
    text: &'a str,
    offset: usize,
    line: u64,
    column: u64,
}

impl<'a> Offsets<'a> {
    fn new(text: &'a str) -> Offsets<'a> {
        Offsets {
            text,
            offset: 0,
            line: 1,
            column: 1,
        }
    }

    fn of(&mut self, place: Location) -> usize {
        for c in self.text[self.offset..].chars() {
            if (self.line, self.column) >= (place.line, place.column) {
                break;
            }
            self.offset += c.len_utf8();
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.offset
    }
}

/// Parses exactly one statement. `?` placeholders become `$1`, `$2`, … in order.
pub fn parse_one(sql: &str) -> Result<Statement> {
    guard::check_length(sql)?;
    let mut tokens = tokenize(sql)?;
    guard::check_shape(&tokens)?;
    number_placeholders(&mut tokens);
    let mut tokens = doubles_with_exponent(tokens);
    tokens.shrink_to_fit();
    if let Some(statement) = parse_own(&tokens)? {
        return Ok(statement);
    }
    if is_copy_from(&tokens) {
        return parse_copy_from(tokens);
    }
    let mut statements = DFParserBuilder::new(tokens)
        .with_recursion_limit(RECURSION_LIMIT)
        .build()?
        .parse_statements()?;
    match (statements.pop_front(), statements.len()) {
        (Some(mut statement), 0) => {
            rewrite(&mut statement)?;
            Ok(Statement::Sql(Box::new(statement)))
        }
        (None, _) => Err(Error::invalid("42601", "the statement is empty")),
        _ => Err(Error::invalid("42601", "more than one statement").with_hint("send one statement at a time")),
    }
}

fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>> {
    Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .map_err(|e| datafusion::error::DataFusionError::from(ParserError::from(e)).into())
}

fn number_placeholders(tokens: &mut [TokenWithSpan]) {
    let mut next = 1;
    for token in tokens {
        if matches!(&token.token, Token::Placeholder(name) if name == "?") {
            token.token = Token::Placeholder(format!("${next}"));
            next += 1;
        }
    }
}

fn rewrite(statement: &mut DataFusionStatement) -> Result<()> {
    match statement {
        DataFusionStatement::Statement(statement) => dialect::rewrite(statement),
        DataFusionStatement::Explain(explain) => rewrite(&mut explain.statement),
        DataFusionStatement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => {
                let mut statement = SqlStatement::Query(query.clone());
                dialect::rewrite(&mut statement)?;
                if let SqlStatement::Query(rewritten) = statement {
                    *query = rewritten;
                }
                Ok(())
            }
            CopyToSource::Relation(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

/// `1e300` is a double, `1.5` an exact decimal, as in the standard. The planner knows only one kind of number with a point or an exponent,
/// which is set to decimal, so that the doubles are written as casts.
fn doubles_with_exponent(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is_double = |token: &Token| matches!(token, Token::Number(text, _) if text.contains(['e', 'E']) && !text.starts_with("0x"));
    if !tokens.iter().any(|t| is_double(&t.token)) {
        return tokens;
    }
    let mut out = Vec::with_capacity(tokens.len() + 8);
    for token in tokens {
        match &token.token {
            Token::Number(text, _) if is_double(&token.token) => {
                let parts = [
                    Token::make_keyword("CAST"),
                    Token::LParen,
                    Token::SingleQuotedString(text.clone()),
                    Token::make_keyword("AS"),
                    Token::make_keyword("DOUBLE"),
                    Token::RParen,
                ];
                out.extend(parts.into_iter().map(|part| TokenWithSpan {
                    token: part,
                    span: token.span,
                }));
            }
            _ => out.push(token),
        }
    }
    out
}

/// `COPY name [(columns)] FROM …`, which DataFusion's parser does not know beside its own `COPY … TO`.
fn is_copy_from(tokens: &[TokenWithSpan]) -> bool {
    let mut depth = 0;
    let mut seen = tokens.iter().map(|t| &t.token).filter(|t| !matches!(t, Token::Whitespace(_)));
    if !matches!(seen.next(), Some(Token::Word(word)) if word.keyword == Keyword::COPY) {
        return false;
    }
    for (i, token) in seen.enumerate() {
        match token {
            // `COPY (query) TO …`
            Token::LParen if i == 0 => return false,
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            Token::Word(word) if depth == 0 && word.keyword == Keyword::FROM => return true,
            Token::Word(word) if depth == 0 && word.keyword == Keyword::TO => return false,
            _ => {}
        }
    }
    false
}

fn parse_copy_from(tokens: Vec<TokenWithSpan>) -> Result<Statement> {
    let mut parser = Parser::new(&GenericDialect {})
        .with_recursion_limit(RECURSION_LIMIT)
        .with_tokens_with_locations(tokens);
    let parsed = parser
        .parse_statements()
        .map_err(|e| Error::from(datafusion::error::DataFusionError::from(e)))?;
    match <[_; 1]>::try_from(parsed) {
        Ok([statement]) => Ok(Statement::Sql(Box::new(DataFusionStatement::Statement(Box::new(statement))))),
        Err(_) => Err(Error::invalid("42601", "more than one statement").with_hint("send one statement at a time")),
    }
}

/// Our own statements; `None` when the text is none of them.
fn parse_own(tokens: &[TokenWithSpan]) -> Result<Option<Statement>> {
    let words: Vec<&str> = tokens
        .iter()
        .filter(|t| !matches!(t.token, Token::Whitespace(_)))
        .take(2)
        .filter_map(|t| match &t.token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.as_str()),
            _ => None,
        })
        .collect();
    let is = |i: usize, word: &str| words.get(i).is_some_and(|w| w.eq_ignore_ascii_case(word));
    let collection = is(1, "COLLECTION");
    let known = (collection && (is(0, "CREATE") || is(0, "DROP")))
        || (is(0, "SHOW") && is(1, "COLLECTIONS"))
        || is(0, "CHECKPOINT")
        || is(0, "COMPACT");
    if !known {
        return Ok(None);
    }
    let mut parser = Parser::new(&GenericDialect {})
        .with_recursion_limit(RECURSION_LIMIT)
        .with_tokens_with_locations(tokens.to_vec());
    let statement = parse_own_with(&mut parser).map_err(|e| Error::from(datafusion::error::DataFusionError::from(e)))?;
    Ok(Some(statement))
}

fn parse_own_with(parser: &mut Parser) -> std::result::Result<Statement, ParserError> {
    let first = parser.next_token().to_string().to_uppercase();
    let statement = match first.as_str() {
        "CHECKPOINT" => Statement::Checkpoint,
        "COMPACT" => match parser.peek_token().token {
            Token::EOF | Token::SemiColon => Statement::Compact(None),
            _ => Statement::Compact(Some(parser.parse_object_name(false)?)),
        },
        "SHOW" => {
            parser.next_token();
            Statement::ShowCollections
        }
        "DROP" => {
            parser.next_token();
            let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
            Statement::DropCollection {
                name: parser.parse_object_name(false)?,
                if_exists,
            }
        }
        _ => {
            parser.next_token();
            let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
            let name = parser.parse_object_name(false)?;
            parser.expect_keyword_is(Keyword::AS)?;
            let kind = parser.parse_identifier()?.value.to_uppercase();
            Statement::CreateCollection { name, kind, if_not_exists }
        }
    };
    while parser.consume_token(&Token::SemiColon) {}
    match parser.peek_token().token {
        Token::EOF => Ok(statement),
        _ => parser.expected("end of statement", parser.peek_token()),
    }
}

/// Parses an expression from stored text (defaults, checks).
pub fn parse_expression(sql: &str) -> Result<datafusion::sql::sqlparser::ast::Expr> {
    let tokens = tokenize(sql)?;
    guard::check_shape(&tokens)?;
    let tokens = doubles_with_exponent(tokens);
    Ok(DFParserBuilder::new(tokens)
        .with_recursion_limit(RECURSION_LIMIT)
        .build()?
        .parse_expr()?
        .expr)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn splits_at_semicolons_outside_strings_and_comments() {
        let parts = split("SELECT ';' ; -- a;b\n SELECT \"x;y\" FROM t;; ").unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0], "SELECT ';'");
        assert!(parts[1].ends_with("SELECT \"x;y\" FROM t"));
        assert_eq!(
            split("SELECT 'it''s é;'\n;\nSELECT E'\\';'").unwrap(),
            ["SELECT 'it''s é;'", "SELECT E'\\';'"]
        );
    }

    #[test]
    fn numbers_question_marks() {
        let Statement::Sql(statement) = parse_one("SELECT ? + ? AS a, '?' AS b").unwrap() else {
            unreachable!()
        };
        assert_eq!(statement.to_string(), "SELECT $1 + $2 AS a, '?' AS b");
    }

    #[test]
    fn results_are_named_as_written() {
        let named = |sql: &str| match parse_one(sql).unwrap() {
            Statement::Sql(statement) => statement.to_string(),
            _ => unreachable!(),
        };
        assert_eq!(
            named("SELECT a, sum(a * 2), 1, 1, t.*, b AS c FROM t"),
            r#"SELECT a, sum(a * 2) AS "sum(a * 2)", 1 AS "1", 1 AS "1_1", t.*, b AS c FROM t"#
        );
        assert_eq!(
            named("(SELECT 1 UNION SELECT 2) EXCEPT SELECT 3"),
            r#"(SELECT 1 AS "1" UNION SELECT 2) EXCEPT SELECT 3"#
        );
        assert_eq!(
            named("SELECT DISTINCT a + 1 FROM t ORDER BY a + 1"),
            "SELECT DISTINCT a + 1 FROM t ORDER BY a + 1"
        );
    }

    #[test]
    fn knows_its_own_statements() {
        assert!(
            matches!(parse_one("create collection if not exists c as kv;").unwrap(), Statement::CreateCollection { kind, if_not_exists: true, .. } if kind == "KV")
        );
        assert!(matches!(parse_one("CHECKPOINT").unwrap(), Statement::Checkpoint));
        assert!(matches!(parse_one("COMPACT public.t").unwrap(), Statement::Compact(Some(_))));
        assert_eq!(parse_one("DROP COLLECTION c extra").unwrap_err().code, "42601");
    }
}
