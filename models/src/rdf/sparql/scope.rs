//! Which variables patterns and expressions mention, and which ones a pattern surely binds.

use std::collections::BTreeSet;

use spargebra::algebra::{AggregateExpression, Expression, Function, GraphPattern, OrderExpression, PropertyPathExpression};
use spargebra::term::{NamedNodePattern, TermPattern, TriplePattern};

/// Names of variables.
pub type Names = BTreeSet<String>;

/// All variables that a pattern mentions where they can be seen from outside it, also in conditions.
pub fn mentioned(pattern: &GraphPattern) -> Names {
    let mut names = Names::new();
    collect(pattern, &mut names);
    names
}

/// All variables of triple patterns.
pub fn mentioned_in(patterns: &[TriplePattern]) -> Names {
    let mut names = Names::new();
    patterns.iter().for_each(|triple| of_triple(triple, &mut names));
    names
}

fn collect(pattern: &GraphPattern, names: &mut Names) {
    match pattern {
        GraphPattern::Bgp { patterns } => patterns.iter().for_each(|triple| of_triple(triple, names)),
        GraphPattern::Path { subject, object, .. } => {
            of_term(subject, names);
            of_term(object, names);
        }
        GraphPattern::Join { left, right } | GraphPattern::Union { left, right } | GraphPattern::Minus { left, right } => {
            collect(left, names);
            collect(right, names);
        }
        GraphPattern::LeftJoin { left, right, expression } => {
            collect(left, names);
            collect(right, names);
            if let Some(expression) = expression {
                names.extend(of_expression(expression));
            }
        }
        GraphPattern::Filter { expr, inner } => {
            names.extend(of_expression(expr));
            collect(inner, names);
        }
        GraphPattern::Graph { name, inner } => {
            if let NamedNodePattern::Variable(variable) = name {
                names.insert(variable.as_str().to_owned());
            }
            collect(inner, names);
        }
        GraphPattern::Extend {
            inner,
            variable,
            expression,
        } => {
            collect(inner, names);
            names.insert(variable.as_str().to_owned());
            names.extend(of_expression(expression));
        }
        GraphPattern::Values { variables, .. } => names.extend(variables.iter().map(|variable| variable.as_str().to_owned())),
        GraphPattern::OrderBy { inner, expression } => {
            collect(inner, names);
            for OrderExpression::Asc(expression) | OrderExpression::Desc(expression) in expression {
                names.extend(of_expression(expression));
            }
        }
        GraphPattern::Project { variables, .. } => names.extend(variables.iter().map(|variable| variable.as_str().to_owned())),
        GraphPattern::Distinct { inner } | GraphPattern::Reduced { inner } | GraphPattern::Slice { inner, .. } => collect(inner, names),
        GraphPattern::Service { name, inner, .. } => {
            if let NamedNodePattern::Variable(variable) = name {
                names.insert(variable.as_str().to_owned());
            }
            collect(inner, names);
        }
        GraphPattern::Group { variables, aggregates, .. } => {
            names.extend(variables.iter().map(|variable| variable.as_str().to_owned()));
            names.extend(aggregates.iter().map(|(variable, _)| variable.as_str().to_owned()));
        }
    }
}

fn of_triple(triple: &TriplePattern, names: &mut Names) {
    of_term(&triple.subject, names);
    of_term(&triple.object, names);
    if let NamedNodePattern::Variable(variable) = &triple.predicate {
        names.insert(variable.as_str().to_owned());
    }
}

fn of_term(term: &TermPattern, names: &mut Names) {
    if let TermPattern::Variable(variable) = term {
        names.insert(variable.as_str().to_owned());
    }
}

/// How many scans, joins and other operators a pattern becomes, also within its expressions.
pub fn operators(pattern: &GraphPattern) -> usize {
    let in_expression = |expression: &Expression| {
        let mut count = 0;
        visit(expression, &mut |inner| {
            if let Expression::Exists(pattern) = inner {
                count += 1 + operators(pattern);
            }
        });
        count
    };
    match pattern {
        GraphPattern::Bgp { patterns } => patterns.len(),
        GraphPattern::Path { path, .. } => steps(path),
        GraphPattern::Join { left, right } | GraphPattern::Union { left, right } | GraphPattern::Minus { left, right } => {
            1 + operators(left) + operators(right)
        }
        GraphPattern::LeftJoin { left, right, expression } => {
            1 + operators(left) + operators(right) + expression.as_ref().map_or(0, in_expression)
        }
        GraphPattern::Filter { expr, inner } => 1 + operators(inner) + in_expression(expr),
        GraphPattern::Extend { inner, expression, .. } => 1 + operators(inner) + in_expression(expression),
        GraphPattern::OrderBy { inner, expression } => expression.len() + operators(inner),
        GraphPattern::Group { inner, aggregates, .. } => {
            1 + operators(inner)
                + aggregates
                    .iter()
                    .filter_map(|(_, aggregate)| argument(aggregate))
                    .map(in_expression)
                    .sum::<usize>()
        }
        // What is within a SERVICE is planned elsewhere.
        GraphPattern::Values { .. } | GraphPattern::Service { .. } => 1,
        GraphPattern::Graph { inner, .. }
        | GraphPattern::Project { inner, .. }
        | GraphPattern::Distinct { inner }
        | GraphPattern::Reduced { inner }
        | GraphPattern::Slice { inner, .. } => 1 + operators(inner),
    }
}

fn steps(path: &PropertyPathExpression) -> usize {
    match path {
        PropertyPathExpression::NamedNode(_) | PropertyPathExpression::NegatedPropertySet(_) => 1,
        PropertyPathExpression::Sequence(left, right) | PropertyPathExpression::Alternative(left, right) => steps(left) + steps(right),
        PropertyPathExpression::Reverse(inner)
        | PropertyPathExpression::ZeroOrMore(inner)
        | PropertyPathExpression::OneOrMore(inner)
        | PropertyPathExpression::ZeroOrOne(inner) => 1 + steps(inner),
    }
}

/// The variables that each solution of a pattern binds.
pub fn certain(pattern: &GraphPattern) -> Names {
    match pattern {
        GraphPattern::Bgp { .. } | GraphPattern::Path { .. } => mentioned(pattern),
        GraphPattern::Join { left, right } => &certain(left) | &certain(right),
        GraphPattern::Union { left, right } => &certain(left) & &certain(right),
        GraphPattern::LeftJoin { left, .. } | GraphPattern::Minus { left, .. } => certain(left),
        GraphPattern::Filter { inner, .. }
        | GraphPattern::Extend { inner, .. }
        | GraphPattern::OrderBy { inner, .. }
        | GraphPattern::Distinct { inner }
        | GraphPattern::Reduced { inner }
        | GraphPattern::Slice { inner, .. } => certain(inner),
        GraphPattern::Graph { name, inner } => {
            let mut names = certain(inner);
            if let NamedNodePattern::Variable(variable) = name {
                names.insert(variable.as_str().to_owned());
            }
            names
        }
        GraphPattern::Values { variables, bindings } => {
            let names = variables.iter().enumerate();
            names
                .filter(|(i, _)| bindings.iter().all(|row| row.get(*i).is_some_and(Option::is_some)))
                .map(|(_, variable)| variable.as_str().to_owned())
                .collect()
        }
        GraphPattern::Project { inner, variables } => {
            let inner = certain(inner);
            let names = variables.iter().map(|variable| variable.as_str().to_owned());
            names.filter(|name| inner.contains(name)).collect()
        }
        GraphPattern::Group { inner, variables, .. } => {
            let inner = certain(inner);
            let names = variables.iter().map(|variable| variable.as_str().to_owned());
            names.filter(|name| inner.contains(name)).collect()
        }
        // Where it fails, a silent one binds nothing.
        GraphPattern::Service { silent: true, .. } => Names::new(),
        GraphPattern::Service { inner, .. } => certain(inner),
    }
}

/// The variables that are subjects or objects of the pattern's own triples in each solution: nodes of the graph it is matched against.
pub fn certain_nodes(pattern: &GraphPattern) -> Names {
    let mut names = Names::new();
    match pattern {
        GraphPattern::Bgp { patterns } => {
            for triple in patterns {
                of_term(&triple.subject, &mut names);
                of_term(&triple.object, &mut names);
            }
        }
        GraphPattern::Join { left, right } => names = &certain_nodes(left) | &certain_nodes(right),
        GraphPattern::LeftJoin { left, .. } | GraphPattern::Minus { left, .. } => names = certain_nodes(left),
        GraphPattern::Filter { inner, .. } | GraphPattern::Extend { inner, .. } => names = certain_nodes(inner),
        _ => {}
    }
    names
}

/// The variables that BIND (or a subquery's AS) makes in a pattern.
pub fn made(pattern: &GraphPattern) -> Names {
    match pattern {
        GraphPattern::Join { left, right }
        | GraphPattern::Union { left, right }
        | GraphPattern::Minus { left, right }
        | GraphPattern::LeftJoin { left, right, .. } => &made(left) | &made(right),
        GraphPattern::Filter { inner, .. } | GraphPattern::Graph { inner, .. } => made(inner),
        GraphPattern::Extend { inner, variable, .. } => {
            let mut names = made(inner);
            names.insert(variable.as_str().to_owned());
            names
        }
        _ => Names::new(),
    }
}

/// All variables that an expression mentions, also in patterns in it.
pub fn of_expression(expression: &Expression) -> Names {
    let mut names = Names::new();
    visit(expression, &mut |inner| match inner {
        Expression::Variable(variable) | Expression::Bound(variable) => drop(names.insert(variable.as_str().to_owned())),
        Expression::Exists(pattern) => names.extend(mentioned(pattern)),
        _ => {}
    });
    names
}

/// Whether an expression asks for a blank node by label.
pub fn labels_blank_nodes(expression: &Expression) -> bool {
    let mut found = false;
    visit(expression, &mut |inner| {
        found |= matches!(inner, Expression::FunctionCall(Function::BNode, arguments) if !arguments.is_empty());
    });
    found
}

/// Whether an expression has another value each time.
pub fn is_made_anew(expression: &Expression) -> bool {
    let mut found = false;
    visit(expression, &mut |inner| {
        found |= matches!(
            inner,
            Expression::FunctionCall(Function::Rand | Function::Uuid | Function::StrUuid | Function::BNode, _)
        );
    });
    found
}

/// The patterns of EXISTS in an expression, without those in patterns.
pub fn has_exists(expression: &Expression) -> bool {
    let mut found = false;
    visit(expression, &mut |inner| found |= matches!(inner, Expression::Exists(_)));
    found
}

/// The expression that an aggregate takes.
pub fn argument(aggregate: &AggregateExpression) -> Option<&Expression> {
    match aggregate {
        AggregateExpression::CountSolutions { .. } => None,
        AggregateExpression::FunctionCall { expr, .. } => Some(expr),
    }
}

fn visit<'a>(expression: &'a Expression, see: &mut impl FnMut(&'a Expression)) {
    see(expression);
    match expression {
        Expression::NamedNode(_) | Expression::Literal(_) | Expression::Variable(_) | Expression::Bound(_) | Expression::Exists(_) => {}
        Expression::Or(left, right)
        | Expression::And(left, right)
        | Expression::Equal(left, right)
        | Expression::SameTerm(left, right)
        | Expression::Greater(left, right)
        | Expression::GreaterOrEqual(left, right)
        | Expression::Less(left, right)
        | Expression::LessOrEqual(left, right)
        | Expression::Add(left, right)
        | Expression::Subtract(left, right)
        | Expression::Multiply(left, right)
        | Expression::Divide(left, right) => {
            visit(left, see);
            visit(right, see);
        }
        Expression::UnaryPlus(inner) | Expression::UnaryMinus(inner) | Expression::Not(inner) => visit(inner, see),
        Expression::In(inner, list) => {
            visit(inner, see);
            list.iter().for_each(|item| visit(item, see));
        }
        Expression::If(condition, yes, no) => [condition, yes, no].into_iter().for_each(|inner| visit(inner, see)),
        Expression::Coalesce(list) | Expression::FunctionCall(_, list) => list.iter().for_each(|item| visit(item, see)),
    }
}

/// The conditions of which all must be true for the whole to be.
pub fn conjuncts(condition: &Expression) -> Vec<&Expression> {
    let (mut found, mut left) = (Vec::new(), vec![condition]);
    while let Some(next) = left.pop() {
        match next {
            Expression::And(first, second) => left.extend([second.as_ref(), first.as_ref()]),
            other => found.push(other),
        }
    }
    found
}

/// The condition that all of these are true.
pub fn all_of(conditions: Vec<&Expression>) -> Option<Expression> {
    let conditions = conditions.into_iter().cloned();
    conditions.reduce(|all, condition| Expression::And(Box::new(all), Box::new(condition)))
}

/// The expression with other expressions in place of its EXISTS.
pub fn replace_exists<E>(expression: Expression, with: &mut impl FnMut(GraphPattern) -> Result<Expression, E>) -> Result<Expression, E> {
    let mut boxed = |inner: Box<Expression>| Ok::<_, E>(Box::new(replace_exists(*inner, with)?));
    Ok(match expression {
        Expression::Exists(pattern) => return with(*pattern),
        Expression::NamedNode(_) | Expression::Literal(_) | Expression::Variable(_) | Expression::Bound(_) => expression,
        Expression::Or(left, right) => Expression::Or(boxed(left)?, boxed(right)?),
        Expression::And(left, right) => Expression::And(boxed(left)?, boxed(right)?),
        Expression::Equal(left, right) => Expression::Equal(boxed(left)?, boxed(right)?),
        Expression::SameTerm(left, right) => Expression::SameTerm(boxed(left)?, boxed(right)?),
        Expression::Greater(left, right) => Expression::Greater(boxed(left)?, boxed(right)?),
        Expression::GreaterOrEqual(left, right) => Expression::GreaterOrEqual(boxed(left)?, boxed(right)?),
        Expression::Less(left, right) => Expression::Less(boxed(left)?, boxed(right)?),
        Expression::LessOrEqual(left, right) => Expression::LessOrEqual(boxed(left)?, boxed(right)?),
        Expression::Add(left, right) => Expression::Add(boxed(left)?, boxed(right)?),
        Expression::Subtract(left, right) => Expression::Subtract(boxed(left)?, boxed(right)?),
        Expression::Multiply(left, right) => Expression::Multiply(boxed(left)?, boxed(right)?),
        Expression::Divide(left, right) => Expression::Divide(boxed(left)?, boxed(right)?),
        Expression::UnaryPlus(inner) => Expression::UnaryPlus(boxed(inner)?),
        Expression::UnaryMinus(inner) => Expression::UnaryMinus(boxed(inner)?),
        Expression::Not(inner) => Expression::Not(boxed(inner)?),
        Expression::If(condition, yes, no) => Expression::If(boxed(condition)?, boxed(yes)?, boxed(no)?),
        Expression::In(inner, list) => {
            let inner = boxed(inner)?;
            Expression::In(inner, each(list, with)?)
        }
        Expression::Coalesce(list) => Expression::Coalesce(each(list, with)?),
        Expression::FunctionCall(function, list) => Expression::FunctionCall(function, each(list, with)?),
    })
}

fn each<E>(list: Vec<Expression>, with: &mut impl FnMut(GraphPattern) -> Result<Expression, E>) -> Result<Vec<Expression>, E> {
    list.into_iter().map(|item| replace_exists(item, with)).collect()
}
