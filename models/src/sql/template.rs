//! Building queries for DML: a small SELECT is parsed and its parts are replaced by parts of the user's statement, so that nothing is ever
//! turned into text and back.

use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{Expr, Ident, Select, SelectItem, SetExpr, Statement, TableFactor};

use super::name::quote;
use super::parse;
use crate::error::{Error, Result};

/// The table name under which the target of a DML statement is read, hidden columns included.
pub const TARGET: &str = "__target";

/// `SELECT … FROM "__target" AS alias`, whose parts the caller replaces.
pub struct SelectTemplate {
    statement: Statement,
}

impl SelectTemplate {
    /// A template that reads `from`, a FROM clause.
    pub fn new(from: &str) -> Result<SelectTemplate> {
        match parse::parse_one(&format!("SELECT 1 FROM {from}"))? {
            parse::Statement::Sql(statement) => match *statement {
                DataFusionStatement::Statement(statement) => Ok(SelectTemplate { statement: *statement }),
                _ => Err(Error::internal("a template is no query")),
            },
            _ => Err(Error::internal("a template is no query")),
        }
    }

    /// A template that reads the target of a DML statement under an alias.
    pub fn target(alias: &str) -> Result<SelectTemplate> {
        Self::new(&format!("{TARGET} AS {}", quote(alias)))
    }

    /// The SELECT, to replace its parts.
    pub fn select(&mut self) -> Result<&mut Select> {
        match &mut self.statement {
            Statement::Query(query) => match query.body.as_mut() {
                SetExpr::Select(select) => Ok(select),
                _ => Err(Error::internal("a template is no SELECT")),
            },
            _ => Err(Error::internal("a template is no query")),
        }
    }

    /// The finished statement.
    pub fn into_statement(self) -> DataFusionStatement {
        DataFusionStatement::Statement(Box::new(self.statement))
    }
}

/// `expression AS "alias"`.
pub fn item(expr: Expr, alias: impl Into<String>) -> SelectItem {
    SelectItem::ExprWithAlias {
        expr,
        alias: Ident::with_quote('"', alias),
    }
}

/// `"table"."column"`.
pub fn column(table: &str, name: &str) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::with_quote('"', table), Ident::with_quote('"', name)])
}

/// The alias or the last part of the name of a table factor, and the name itself.
pub fn target_of(factor: &TableFactor) -> Result<(datafusion::sql::sqlparser::ast::ObjectName, String)> {
    match factor {
        TableFactor::Table { name, alias, .. } => {
            let alias = match alias {
                Some(alias) => super::name::fold(&alias.name),
                None => super::name::last_part(name)?,
            };
            Ok((name.clone(), alias))
        }
        other => Err(Error::invalid("42809", format!("{other} cannot be written"))),
    }
}
