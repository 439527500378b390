//! Patterns written as SPARQL again, for an endpoint that is to evaluate them.
//!
//! Parts that would read otherwise beside others (a FILTER is of its whole group, an OPTIONAL of all before it) stand in brackets of their own,
//! and so do operands: spargebra writes `(1 + 2) * 3` as `1 + 2 * 3`.

use std::fmt::Write;

use oxrdf::LiteralRef;
use spargebra::algebra::{AggregateExpression, AggregateFunction, Expression, GraphPattern, OrderExpression};
use spargebra::term::Variable;

/// A pattern that may stand beside others in a group.
pub fn unit(pattern: &GraphPattern) -> String {
    match pattern {
        GraphPattern::Bgp { patterns } => patterns.iter().fold(String::new(), |mut text, triple| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{triple} . ");
            text
        }),
        GraphPattern::Join { left, right } => format!("{} {}", unit(left), unit(right)),
        GraphPattern::Union { left, right } => format!("{{ {} }} UNION {{ {} }}", group(left), group(right)),
        GraphPattern::Graph { name, inner } => format!("GRAPH {name} {{ {} }}", group(inner)),
        GraphPattern::Service { name, inner, silent } => {
            let silent = if *silent { "SILENT " } else { "" };
            format!("SERVICE {silent}{name} {{ {} }}", group(inner))
        }
        GraphPattern::Path { .. } | GraphPattern::Values { .. } => pattern.to_string(),
        GraphPattern::LeftJoin { .. } | GraphPattern::Filter { .. } | GraphPattern::Minus { .. } | GraphPattern::Extend { .. } => {
            format!("{{ {} }}", group(pattern))
        }
        GraphPattern::OrderBy { .. }
        | GraphPattern::Project { .. }
        | GraphPattern::Distinct { .. }
        | GraphPattern::Reduced { .. }
        | GraphPattern::Slice { .. }
        | GraphPattern::Group { .. } => format!("{{ {} }}", select(pattern)),
    }
}

/// A pattern that is all of a group.
fn group(pattern: &GraphPattern) -> String {
    match pattern {
        GraphPattern::Join { left, right } => format!("{} {}", before(left), unit(right)),
        GraphPattern::LeftJoin { left, right, expression } => {
            let condition = expression.as_ref().map(|condition| format!(" FILTER({})", written(condition)));
            let (left, right) = (before(left), before(right));
            format!("{left} OPTIONAL {{ {right}{} }}", condition.unwrap_or_default())
        }
        GraphPattern::Filter { expr, inner } => format!("{} FILTER({})", group(inner), written(expr)),
        GraphPattern::Minus { left, right } => format!("{} MINUS {{ {} }}", before(left), group(right)),
        GraphPattern::Extend {
            inner,
            variable,
            expression,
        } => format!("{} BIND({} AS {variable})", before(inner), written(expression)),
        _ => unit(pattern),
    }
}

/// A pattern at the beginning of a group that goes on.
fn before(pattern: &GraphPattern) -> String {
    match pattern {
        GraphPattern::Filter { .. } => unit(pattern),
        _ => group(pattern),
    }
}

/// A subquery. Its parts come in one order (section 18.2.4 and 18.2.5 of the standard); what comes out of it is a subquery within.
fn select(pattern: &GraphPattern) -> String {
    let (mut pattern, mut end, mut kind) = (pattern, String::new(), "");
    if let GraphPattern::Slice { inner, start, length } = pattern {
        if *start > 0 {
            end = format!(" OFFSET {start}");
        }
        if let Some(length) = length {
            end += &format!(" LIMIT {length}");
        }
        pattern = inner;
    }
    match pattern {
        GraphPattern::Distinct { inner } => (kind, pattern) = ("DISTINCT ", inner),
        GraphPattern::Reduced { inner } => (kind, pattern) = ("REDUCED ", inner),
        _ => {}
    }
    let mut names = "*".to_owned();
    if let GraphPattern::Project { inner, variables } = pattern {
        if !variables.is_empty() {
            names = list(variables, " ");
        }
        pattern = inner;
    }
    if let GraphPattern::OrderBy { inner, expression } = pattern {
        let keys = expression.iter().map(|key| match key {
            OrderExpression::Asc(key) => format!(" ASC({})", written(key)),
            OrderExpression::Desc(key) => format!(" DESC({})", written(key)),
        });
        end = format!(" ORDER BY{}{end}", keys.collect::<String>());
        pattern = inner;
    }
    match pattern {
        GraphPattern::Group {
            inner,
            variables,
            aggregates,
        } if kind.is_empty() && names == "*" && end.is_empty() => grouped(inner, variables, aggregates),
        _ => format!("SELECT {kind}{names} WHERE {{ {} }}{end}", group(pattern)),
    }
}

fn grouped(inner: &GraphPattern, variables: &[Variable], aggregates: &[(Variable, AggregateExpression)]) -> String {
    let mut names: Vec<String> = variables.iter().map(ToString::to_string).collect();
    names.extend(aggregates.iter().map(|(name, value)| format!("({} AS {name})", aggregate(value))));
    if names.is_empty() {
        // One group of which nothing is asked.
        return format!(
            "SELECT (COUNT(*) AS {}) WHERE {{ {} }}",
            Variable::new_unchecked("group"),
            group(inner)
        );
    }
    let by = match variables {
        [] => String::new(),
        variables => format!(" GROUP BY {}", list(variables, " ")),
    };
    format!("SELECT {} WHERE {{ {} }}{by}", names.join(" "), group(inner))
}

fn aggregate(value: &AggregateExpression) -> String {
    match value {
        AggregateExpression::CountSolutions { .. } => value.to_string(),
        AggregateExpression::FunctionCall { name, expr, distinct } => {
            let distinct = if *distinct { "DISTINCT " } else { "" };
            let separator = match name {
                AggregateFunction::GroupConcat {
                    separator: Some(separator),
                } => format!("; SEPARATOR = {}", LiteralRef::new_simple_literal(separator)),
                _ => String::new(),
            };
            format!("{name}({distinct}{}{separator})", written(expr))
        }
    }
}

fn list(items: &[impl ToString], between: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// An expression that may be an operand.
fn written(expression: &Expression) -> String {
    let operator = |left: &Expression, sign: &str, right: &Expression| format!("({} {sign} {})", written(left), written(right));
    let arguments = |arguments: &[Expression]| arguments.iter().map(written).collect::<Vec<_>>().join(", ");
    match expression {
        Expression::NamedNode(_) | Expression::Literal(_) | Expression::Variable(_) | Expression::Bound(_) => expression.to_string(),
        Expression::Or(left, right) => operator(left, "||", right),
        Expression::And(left, right) => operator(left, "&&", right),
        Expression::Equal(left, right) => operator(left, "=", right),
        Expression::SameTerm(left, right) => format!("sameTerm({}, {})", written(left), written(right)),
        Expression::Greater(left, right) => operator(left, ">", right),
        Expression::GreaterOrEqual(left, right) => operator(left, ">=", right),
        Expression::Less(left, right) => operator(left, "<", right),
        Expression::LessOrEqual(left, right) => operator(left, "<=", right),
        Expression::Add(left, right) => operator(left, "+", right),
        Expression::Subtract(left, right) => operator(left, "-", right),
        Expression::Multiply(left, right) => operator(left, "*", right),
        Expression::Divide(left, right) => operator(left, "/", right),
        Expression::In(value, among) => format!("({} IN ({}))", written(value), arguments(among)),
        Expression::UnaryPlus(inner) => format!("(+ {})", written(inner)),
        Expression::UnaryMinus(inner) => format!("(- {})", written(inner)),
        Expression::Not(inner) => format!("(! {})", written(inner)),
        Expression::Exists(pattern) => format!("EXISTS {{ {} }}", group(pattern)),
        Expression::If(condition, yes, no) => format!("IF({}, {}, {})", written(condition), written(yes), written(no)),
        Expression::Coalesce(list) => format!("COALESCE({})", arguments(list)),
        Expression::FunctionCall(function, list) => format!("{function}({})", arguments(list)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use spargebra::Query;

    use super::*;
    use crate::rdf::sparql::text::query;

    fn pattern(text: &str) -> GraphPattern {
        match query(text, None).unwrap_or_else(|error| panic!("{error}: {text}")) {
            Query::Select { pattern, .. } => pattern,
            other => panic!("{other}"),
        }
    }

    fn algebra(pattern: &GraphPattern) -> String {
        let query = Query::Select {
            dataset: None,
            pattern: pattern.clone(),
            base_iri: None,
        };
        query.to_sse()
    }

    #[test]
    fn what_is_written_reads_as_it_was() {
        for inner in [
            "?a ?b ?c . ?c ?d 'x\\n\"'@en",
            "?a ?b ?c FILTER((?a + 1) * 2 > 3 - (2 - ?b) && !(?a = ?b || ?c))",
            "?a ?b ?c OPTIONAL { ?c ?d ?e FILTER(?a = ?e) OPTIONAL { ?e ?f ?g } } ?g ?h ?i",
            "{ ?a ?b ?c FILTER(?d = 1) } ?c ?d ?e",
            "?x ?y ?z { ?a ?b ?c OPTIONAL { ?c ?d ?x } }",
            "{ ?a ?b ?c FILTER(?x = 1) } UNION { ?a ?b ?d MINUS { ?d ?b ?a } BIND(- (?a + ?b) AS ?x) }",
            "?a <urn:p>/<urn:q>* ?c . ?c (<urn:p>|^<urn:q>)+ ?d . ?d !(<urn:p>|<urn:q>) ?e",
            "?a ?b ?c OPTIONAL { { ?c ?d ?e FILTER(?e = ?a) } }",
            "VALUES (?a ?b) { (<urn:a> UNDEF) (1 'b') } GRAPH ?g { ?a ?b ?c } SERVICE SILENT ?a { ?x ?y ?z }",
            "{ SELECT DISTINCT ?a { { SELECT DISTINCT ?a ?b { ?a ?b ?c } ORDER BY DESC(?c) ?a LIMIT 3 } } OFFSET 1 LIMIT 5 }",
            "{ SELECT ?a { { SELECT ?a { ?a ?b ?c } LIMIT 5 } } LIMIT 2 }",
            "?a ?b ?c FILTER(?a IN (1, ?b) && ?a NOT IN (2) && EXISTS { ?a ?b ?d FILTER(?d * (?c + 1) = 2) } && NOT EXISTS { ?c ?b ?a })",
            "BIND(IF(BOUND(?a), COALESCE(?b, 1), STRLEN('x')) AS ?x) FILTER(<urn:f>(?x, 1) && REGEX(?x, 'a', 'i'))",
        ] {
            let before = pattern(&format!("SELECT * {{ {inner} }}"));
            let GraphPattern::Project { inner: body, .. } = &before else {
                panic!("{before}")
            };
            for text in [group(body), unit(body)] {
                let again = pattern(&format!("SELECT * {{ {text} }}"));
                assert_eq!(algebra(&again), algebra(&before), "{inner}\nwritten as\n{text}");
            }
        }
    }

    #[test]
    fn groups_are_written_as_subqueries() {
        let text = "SELECT ?a (COUNT(*) AS ?n) (GROUP_CONCAT(DISTINCT (?b + 1) * 2; SEPARATOR = ',') AS ?l) { ?a ?b ?c } \
                    GROUP BY ?a HAVING(SUM(?c) > 1) ORDER BY ?n";
        let text = unit(&pattern(text));
        assert!(text.contains("GROUP_CONCAT(DISTINCT ((?b + "), "{text}");
        assert!(text.contains("GROUP BY ?a"), "{text}");
        query(&format!("SELECT * {{ {text} }}"), None).unwrap();
    }
}
