//! SPARQL's expressions as the plan's: a term is a column of ids, a condition is a truth value, and null is an error in both. AND, OR and NOT of
//! SPARQL treat errors as SQL treats null, so they are the plan's own.

use std::collections::BTreeMap;

use datafusion::logical_expr::{Expr, when};
use datafusion::prelude::{coalesce, lit};
use datafusion::scalar::ScalarValue;
use oxrdf::{Literal, NamedNode};
use spargebra::algebra::{Expression, Function as Named};

use super::context::QueryContext;
use super::operator::Operator;
use super::solutions::{Binding, unbound};
use crate::error::{Error, Result};
use crate::rdf::term_id::{Encoded, TermId};
use crate::rdf::values::{Datatype, Function};

type Variables = BTreeMap<String, Binding>;

/// Whether an expression is true: its effective boolean value.
pub fn boolean(context: &QueryContext, expression: &Expression, variables: &Variables) -> Result<Expr> {
    let condition = |expression: &Expression| boolean(context, expression, variables);
    let term = |expression: &Expression| term(context, expression, variables);
    Ok(match expression {
        Expression::Or(left, right) => condition(left)?.or(condition(right)?),
        Expression::And(left, right) => condition(left)?.and(condition(right)?),
        Expression::Not(inner) => !condition(inner)?,
        Expression::Bound(variable) => match variables.get(variable.as_str()) {
            Some(binding) if binding.optional => binding.expr().is_not_null(),
            Some(_) => lit(true),
            None => lit(false),
        },
        Expression::SameTerm(left, right) => term(left)?.eq(term(right)?),
        Expression::Equal(left, right) => equal(context, left, right, variables)?,
        Expression::Less(left, right) => Operator::Less.call(context, vec![term(left)?, term(right)?]),
        Expression::Greater(left, right) => Operator::Less.call(context, vec![term(right)?, term(left)?]),
        Expression::LessOrEqual(left, right) => Operator::LessOrEqual.call(context, vec![term(left)?, term(right)?]),
        Expression::GreaterOrEqual(left, right) => Operator::LessOrEqual.call(context, vec![term(right)?, term(left)?]),
        Expression::In(inner, list) => {
            let mut any = lit(false);
            for item in list {
                any = any.or(equal(context, inner, item, variables)?);
            }
            any
        }
        Expression::Exists(_) => return Err(Error::unsupported("EXISTS is not supported yet")),
        _ => Operator::Truth.call(context, vec![term(expression)?]),
    })
}

/// The term that an expression gives.
pub fn term(context: &QueryContext, expression: &Expression, variables: &Variables) -> Result<Expr> {
    let inner = |expression: &Expression| term(context, expression, variables);
    let both = |operator: Operator, left: &Expression, right: &Expression| -> Result<Expr> {
        Ok(operator.call(context, vec![inner(left)?, inner(right)?]))
    };
    Ok(match expression {
        Expression::NamedNode(iri) => constant(context, Encoded::iri(iri.as_ref()))?,
        Expression::Literal(literal) => constant(context, Encoded::literal(literal.as_ref()))?,
        Expression::Variable(variable) => variables.get(variable.as_str()).map_or_else(unbound, Binding::expr),
        Expression::Add(left, right) => both(Operator::Add, left, right)?,
        Expression::Subtract(left, right) => both(Operator::Subtract, left, right)?,
        Expression::Multiply(left, right) => both(Operator::Multiply, left, right)?,
        Expression::Divide(left, right) => both(Operator::Divide, left, right)?,
        Expression::UnaryPlus(value) => Operator::Plus.call(context, vec![inner(value)?]),
        Expression::UnaryMinus(value) => Operator::Minus.call(context, vec![inner(value)?]),
        Expression::If(condition, yes, no) => {
            let condition = boolean(context, condition, variables)?;
            // An error of the condition is one of the whole.
            when(condition.clone(), inner(yes)?).when(condition.is_false(), inner(no)?).end()?
        }
        Expression::Coalesce(list) => match list.iter().map(inner).collect::<Result<Vec<_>>>()? {
            list if list.is_empty() => unbound(),
            list => coalesce(list),
        },
        Expression::FunctionCall(function, arguments) => {
            let arguments = arguments.iter().map(inner).collect::<Result<Vec<_>>>()?;
            operator_of(function)?.call(context, arguments)
        }
        Expression::Or(..)
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
            let condition = boolean(context, expression, variables)?;
            let of = |value: bool| constant(context, Encoded::literal(Literal::from(value).as_ref()));
            when(condition.clone(), of(true)?).when(!condition, of(false)?).end()?
        }
    })
}

/// `=`. Two IRIs are equal if they are one; that is so too for an IRI and anything.
fn equal(context: &QueryContext, left: &Expression, right: &Expression, variables: &Variables) -> Result<Expr> {
    let is_iri = |expression: &Expression| matches!(expression, Expression::NamedNode(_));
    let (left_term, right_term) = (term(context, left, variables)?, term(context, right, variables)?);
    Ok(match is_iri(left) || is_iri(right) {
        true => left_term.eq(right_term),
        false => Operator::Equal.call(context, vec![left_term, right_term]),
    })
}

fn constant(context: &QueryContext, term: Encoded) -> Result<Expr> {
    let TermId(id) = context.id(term)?;
    Ok(lit(ScalarValue::UInt64(Some(id))))
}

fn operator_of(function: &Named) -> Result<Operator> {
    let unsupported = |name: &str| Err(Error::unsupported(format!("the function {name} of SPARQL is not supported yet")));
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
        Named::BNode => return unsupported("BNODE"),
        Named::Rand => return unsupported("RAND"),
        Named::Now => return unsupported("NOW"),
        Named::Custom(iri) => return custom(iri),
    }))
}

fn custom(iri: &NamedNode) -> Result<Operator> {
    match Datatype::of(iri.as_ref()) {
        Some(datatype) => Ok(Operator::Cast(datatype)),
        None => Err(Error::invalid("42883", format!("the function {iri} does not exist"))),
    }
}
