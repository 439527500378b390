//! SPARQL's expressions as the plan's: a term is a column of ids, a condition is a truth value, and null is an error in both. AND, OR and NOT of
//! SPARQL treat errors as SQL treats null, so they are the plan's own.

use std::collections::BTreeMap;

use datafusion::logical_expr::{Expr, case};
use datafusion::prelude::lit;
use datafusion::scalar::ScalarValue;
use oxrdf::NamedNode;
use spargebra::algebra::{Expression, Function as Named};

use super::context::QueryContext;
use super::conversion::Conversion;
use super::exists::{SOLUTION, is_mark};
use super::operator::Operator;
use super::solutions::{Binding, first_of, unbound};
use crate::error::{Error, Result};
use crate::rdf::term_id::{Encoded, TermId};
use crate::rdf::values::{Datatype, Function};

/// Where expressions are seen: the query, and the variables of the solutions.
pub struct Expressions<'a> {
    /// The query.
    pub context: &'a QueryContext,
    /// Against what the function `IRI` resolves.
    pub base: Option<&'a NamedNode>,
    /// The variables.
    pub variables: &'a BTreeMap<String, Binding>,
}

impl Expressions<'_> {
    /// Whether an expression is true: its effective boolean value.
    pub fn boolean(&self, expression: &Expression) -> Result<Expr> {
        let both = |operator: Operator, left: &Expression, right: &Expression| -> Result<Expr> {
            Ok(operator.call(self.context, vec![self.term(left)?, self.term(right)?]))
        };
        Ok(match expression {
            Expression::Or(left, right) => self.boolean(left)?.or(self.boolean(right)?),
            Expression::And(left, right) => self.boolean(left)?.and(self.boolean(right)?),
            Expression::Not(inner) => !self.boolean(inner)?,
            Expression::Bound(variable) => match self.variables.get(variable.as_str()) {
                Some(binding) if binding.optional => binding.expr().is_not_null(),
                Some(_) => lit(true),
                None => lit(false),
            },
            Expression::SameTerm(left, right) => self.term(left)?.eq(self.term(right)?),
            Expression::Equal(left, right) => self.equal(left, right)?,
            Expression::Less(left, right) => both(Operator::Less, left, right)?,
            Expression::Greater(left, right) => both(Operator::Less, right, left)?,
            Expression::LessOrEqual(left, right) => both(Operator::LessOrEqual, left, right)?,
            Expression::GreaterOrEqual(left, right) => both(Operator::LessOrEqual, right, left)?,
            Expression::In(inner, list) => {
                let mut parts = list.iter().map(|item| self.equal(inner, item)).collect::<Result<Vec<Expr>>>()?;
                // A tree as deep as a long list is long could not be walked.
                while parts.len() > 1 {
                    let mut pairs = parts.into_iter();
                    let mut joined = Vec::new();
                    while let Some(first) = pairs.next() {
                        joined.push(match pairs.next() {
                            Some(second) => first.or(second),
                            None => first,
                        });
                    }
                    parts = joined;
                }
                parts.pop().unwrap_or_else(|| lit(false))
            }
            Expression::Variable(variable) if is_mark(variable.as_str()) => match self.variables.get(variable.as_str()) {
                Some(mark) => mark.expr(),
                None => return Err(Error::internal("an EXISTS without its pattern")),
            },
            Expression::Exists(_) => return Err(Error::internal("an EXISTS that was not prepared")),
            _ => Operator::Truth.call(self.context, vec![self.term(expression)?]),
        })
    }

    /// The term that an expression gives.
    pub fn term(&self, expression: &Expression) -> Result<Expr> {
        let both = |operator: Operator, left: &Expression, right: &Expression| -> Result<Expr> {
            Ok(operator.call(self.context, vec![self.term(left)?, self.term(right)?]))
        };
        Ok(match expression {
            Expression::NamedNode(iri) => self.constant(Encoded::iri(iri.as_ref()))?,
            Expression::Literal(literal) => self.constant(Encoded::literal(literal.as_ref()))?,
            Expression::Variable(variable) if !is_mark(variable.as_str()) => {
                self.variables.get(variable.as_str()).map_or_else(unbound, Binding::expr)
            }
            Expression::Add(left, right) => both(Operator::Add, left, right)?,
            Expression::Subtract(left, right) => both(Operator::Subtract, left, right)?,
            Expression::Multiply(left, right) => both(Operator::Multiply, left, right)?,
            Expression::Divide(left, right) => both(Operator::Divide, left, right)?,
            Expression::UnaryPlus(value) => Operator::Plus.call(self.context, vec![self.term(value)?]),
            Expression::UnaryMinus(value) => Operator::Minus.call(self.context, vec![self.term(value)?]),
            Expression::If(condition, yes, no) => {
                // An error of the condition is one of the whole.
                case(self.boolean(condition)?)
                    .when(lit(true), self.term(yes)?)
                    .when(lit(false), self.term(no)?)
                    .end()?
            }
            Expression::Coalesce(list) => match list.iter().map(|item| self.term(item)).collect::<Result<Vec<_>>>()? {
                list if list.is_empty() => unbound(),
                list => first_of(list),
            },
            Expression::FunctionCall(function, arguments) => self.call(function, arguments)?,
            Expression::Variable(_)
            | Expression::Or(..)
            | Expression::And(..)
            | Expression::Not(_)
            | Expression::Bound(_)
            | Expression::SameTerm(..)
            | Expression::Equal(..)
            | Expression::Less(..)
            | Expression::Greater(..)
            | Expression::LessOrEqual(..)
            | Expression::GreaterOrEqual(..)
            | Expression::In(..)
            | Expression::Exists(_) => {
                let condition = self.boolean(expression)?;
                Conversion::Boolean.call(self.context, condition)
            }
        })
    }

    fn call(&self, function: &Named, arguments: &[Expression]) -> Result<Expr> {
        let mut arguments = arguments.iter().map(|argument| self.term(argument)).collect::<Result<Vec<_>>>()?;
        match function {
            // All solutions see one moment.
            Named::Now => return self.constant(Encoded::literal(self.context.now().as_ref())),
            Named::BNode if !arguments.is_empty() => {
                let solution = self.variables.get(SOLUTION);
                arguments.push(solution.map_or_else(unbound, Binding::expr));
            }
            Named::Iri => {
                if let Some(base) = self.base {
                    arguments.push(self.constant(Encoded::iri(base.as_ref()))?);
                }
            }
            _ => {}
        }
        Ok(operator_of(function)?.call(self.context, arguments))
    }

    /// `=`. Two IRIs are equal if they are one; that is so too for an IRI and anything.
    fn equal(&self, left: &Expression, right: &Expression) -> Result<Expr> {
        let is_iri = |expression: &Expression| matches!(expression, Expression::NamedNode(_));
        let (left_term, right_term) = (self.term(left)?, self.term(right)?);
        Ok(match is_iri(left) || is_iri(right) {
            true => left_term.eq(right_term),
            false => Operator::Equal.call(self.context, vec![left_term, right_term]),
        })
    }

    fn constant(&self, term: Encoded) -> Result<Expr> {
        let TermId(id) = self.context.id(term)?;
        Ok(lit(ScalarValue::UInt64(Some(id))))
    }
}

fn operator_of(function: &Named) -> Result<Operator> {
    Ok(Operator::Function(match function {
        Named::Str => Function::Str,
        Named::Lang => Function::Lang,
        Named::LangMatches => Function::LangMatches,
        Named::Datatype => Function::Datatype,
        Named::Abs => Function::Abs,
        Named::Ceil => Function::Ceil,
        Named::Floor => Function::Floor,
        Named::Round => Function::Round,
        Named::Concat => Function::Concat,
        Named::SubStr => Function::SubStr,
        Named::StrLen => Function::StrLen,
        Named::Replace => Function::Replace,
        Named::UCase => Function::UCase,
        Named::LCase => Function::LCase,
        Named::EncodeForUri => Function::EncodeForUri,
        Named::Contains => Function::Contains,
        Named::StrStarts => Function::StrStarts,
        Named::StrEnds => Function::StrEnds,
        Named::StrBefore => Function::StrBefore,
        Named::StrAfter => Function::StrAfter,
        Named::Year => Function::Year,
        Named::Month => Function::Month,
        Named::Day => Function::Day,
        Named::Hours => Function::Hours,
        Named::Minutes => Function::Minutes,
        Named::Seconds => Function::Seconds,
        Named::Timezone => Function::Timezone,
        Named::Tz => Function::Tz,
        Named::Uuid => Function::Uuid,
        Named::StrUuid => Function::StrUuid,
        Named::Md5 => Function::Md5,
        Named::Sha1 => Function::Sha1,
        Named::Sha256 => Function::Sha256,
        Named::Sha384 => Function::Sha384,
        Named::Sha512 => Function::Sha512,
        Named::StrLang => Function::StrLang,
        Named::StrDt => Function::StrDt,
        Named::IsIri => Function::IsIri,
        Named::IsBlank => Function::IsBlank,
        Named::IsLiteral => Function::IsLiteral,
        Named::IsNumeric => Function::IsNumeric,
        Named::Regex => Function::Regex,
        Named::Iri => Function::Iri,
        Named::BNode => return Ok(Operator::Blank),
        Named::Rand => return Ok(Operator::Random),
        Named::Now => return Err(Error::internal("NOW() is a constant")),
        Named::Custom(iri) => return custom(iri),
    }))
}

fn custom(iri: &NamedNode) -> Result<Operator> {
    match Datatype::of(iri.as_ref()) {
        Some(datatype) => Ok(Operator::Cast(datatype)),
        None => Err(Error::invalid("42883", format!("the function {iri} does not exist"))),
    }
}
