//! From SPARQL's algebra to relational plans (the mapping of Cyganiak's "A relational algebra for SPARQL", over ids).

use std::collections::BTreeMap;

use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::prelude::lit;
use datafusion::scalar::ScalarValue;
use spargebra::algebra::{Expression as SparqlExpression, GraphPattern};
use spargebra::term::{GroundTerm, NamedNodePattern, TermPattern, TriplePattern, Variable};

use super::context::QueryContext;
use super::expression;
use super::solutions::{Binding, Names, Solutions};
use super::triple::{Graphs, Quads, Slot};
use crate::error::{Error, Result};
use crate::rdf::term_id::{Encoded, TermId};

/// The graphs that a query is about.
#[derive(Debug, Clone)]
pub struct QueryDataset {
    /// What stands for the default graph.
    pub default: Graphs,
    /// Which graphs can be named; `None`: all there are.
    pub named: Option<Vec<TermId>>,
}

/// Translates the patterns of one query.
pub struct Translator<'a> {
    /// The stored quads.
    pub quads: Quads<'a>,
    /// The query.
    pub context: QueryContext,
    /// Its graphs.
    pub dataset: QueryDataset,
    /// Names of its columns.
    pub names: Names,
}

impl Translator<'_> {
    /// The solutions of a pattern, matched against graphs.
    pub fn pattern(&mut self, pattern: &GraphPattern, graphs: &Graphs) -> Result<Solutions> {
        match pattern {
            GraphPattern::Bgp { patterns } => self.basic(patterns, graphs),
            GraphPattern::Join { left, right } => {
                let left = self.pattern(left, graphs)?;
                let right = self.pattern(right, graphs)?;
                left.join(&mut self.names, right)
            }
            GraphPattern::LeftJoin { left, right, expression } => {
                let left = self.pattern(left, graphs)?;
                let right = self.pattern(right, graphs)?;
                let both = left.of_both(&right);
                let condition = expression
                    .as_ref()
                    .map(|expression| self.condition(expression, &both))
                    .transpose()?;
                left.left_join(&mut self.names, right, condition)
            }
            GraphPattern::Filter { expr, inner } => {
                let inner = self.pattern(inner, graphs)?;
                let condition = self.condition(expr, &inner.variables)?;
                inner.filter(condition)
            }
            GraphPattern::Union { left, right } => {
                let left = self.pattern(left, graphs)?;
                let right = self.pattern(right, graphs)?;
                left.union(&mut self.names, right)
            }
            GraphPattern::Minus { left, right } => {
                let left = self.pattern(left, graphs)?;
                let right = self.pattern(right, graphs)?;
                left.minus(right)
            }
            GraphPattern::Graph { name, inner } => self.graph(name, inner),
            GraphPattern::Extend {
                inner,
                variable,
                expression,
            } => {
                let inner = self.pattern(inner, graphs)?;
                let value = expression::term(&self.context, expression, &inner.variables)?;
                let is_constant = matches!(expression, SparqlExpression::NamedNode(_) | SparqlExpression::Literal(_));
                inner.extend(&mut self.names, variable.as_str(), value, !is_constant)
            }
            GraphPattern::Values { variables, bindings } => self.values(variables, bindings),
            GraphPattern::Project { inner, variables } => {
                let inner = self.pattern(inner, graphs)?;
                let wanted: Vec<String> = variables.iter().map(|variable| variable.as_str().to_owned()).collect();
                inner.project(&mut self.names, &wanted)
            }
            GraphPattern::Distinct { inner } | GraphPattern::Reduced { inner } => self.pattern(inner, graphs)?.distinct(),
            GraphPattern::Slice { inner, start, length } => self.pattern(inner, graphs)?.slice(*start, *length),
            GraphPattern::OrderBy { .. } => Err(Error::unsupported("ORDER BY of SPARQL is not supported yet")),
            GraphPattern::Group { .. } => Err(Error::unsupported("aggregates of SPARQL are not supported yet")),
            GraphPattern::Path { .. } => Err(Error::unsupported("property paths are not supported yet")),
            GraphPattern::Service { name, .. } => Err(Error::unsupported(format!("SERVICE {name}: federated queries are switched off"))),
        }
    }

    fn basic(&mut self, patterns: &[TriplePattern], graphs: &Graphs) -> Result<Solutions> {
        let mut solutions = Solutions::one()?;
        for pattern in patterns {
            let predicate = match &pattern.predicate {
                NamedNodePattern::NamedNode(iri) => Slot::Constant(self.context.id(Encoded::iri(iri.as_ref()))?),
                NamedNodePattern::Variable(variable) => Slot::Variable(variable.as_str().to_owned()),
            };
            let (subject, object) = (self.slot(&pattern.subject)?, self.slot(&pattern.object)?);
            let text = pattern.to_string();
            let found = self
                .quads
                .matching(&mut self.names, [&subject, &predicate, &object], graphs, &text)?;
            solutions = solutions.join(&mut self.names, found)?;
        }
        Ok(solutions)
    }

    fn slot(&self, term: &TermPattern) -> Result<Slot> {
        Ok(match term {
            TermPattern::NamedNode(iri) => Slot::Constant(self.context.id(Encoded::iri(iri.as_ref()))?),
            TermPattern::Literal(literal) => Slot::Constant(self.context.id(Encoded::literal(literal.as_ref()))?),
            TermPattern::Variable(variable) => Slot::Variable(variable.as_str().to_owned()),
            // No variable's name has a colon.
            TermPattern::BlankNode(node) => Slot::Variable(format!("_:{}", node.as_str())),
        })
    }

    fn graph(&mut self, name: &NamedNodePattern, inner: &GraphPattern) -> Result<Solutions> {
        match name {
            NamedNodePattern::NamedNode(iri) => {
                let id = self.context.id(Encoded::iri(iri.as_ref()))?;
                if self.dataset.named.as_ref().is_some_and(|named| !named.contains(&id)) {
                    let inner = self.pattern(inner, &Graphs::Merged(Vec::new()))?;
                    return inner.filter(lit(false));
                }
                self.pattern(inner, &Graphs::One(id))
            }
            NamedNodePattern::Variable(variable) => {
                let named = self.dataset.named.clone();
                let graphs = Graphs::Each(variable.as_str().to_owned(), named.clone());
                let inner = self.pattern(inner, &graphs)?;
                match inner.variables.get(variable.as_str()) {
                    Some(binding) if !binding.optional => Ok(inner),
                    // Some part of the pattern does not look at the graph: every named one will do.
                    _ => {
                        let all = self.quads.named_graphs(&mut self.names, variable.as_str(), named.as_deref())?;
                        inner.join(&mut self.names, all)
                    }
                }
            }
        }
    }

    fn values(&mut self, variables: &[Variable], bindings: &[Vec<Option<GroundTerm>>]) -> Result<Solutions> {
        let mut bound = BTreeMap::new();
        let mut columns = Vec::new();
        for (i, variable) in variables.iter().enumerate() {
            let column = self.names.fresh(variable.as_str());
            let optional = bindings.iter().any(|row| row.get(i).is_none_or(Option::is_none));
            columns.push(column.clone());
            bound.insert(variable.as_str().to_owned(), Binding::new(column, optional));
        }
        if bindings.is_empty() || variables.is_empty() {
            let rows = match bindings.is_empty() {
                true => Solutions::none()?,
                false => Solutions::one()?,
            };
            let wanted: Vec<String> = variables.iter().map(|variable| variable.as_str().to_owned()).collect();
            return rows.project(&mut self.names, &wanted);
        }
        let mut rows = Vec::new();
        for binding in bindings {
            let ids = binding.iter().map(|term| {
                let id = match term {
                    None => None,
                    Some(GroundTerm::NamedNode(iri)) => Some(self.context.id(Encoded::iri(iri.as_ref()))?.0),
                    Some(GroundTerm::Literal(literal)) => Some(self.context.id(Encoded::literal(literal.as_ref()))?.0),
                };
                Ok(lit(ScalarValue::UInt64(id)))
            });
            rows.push(ids.collect::<Result<Vec<Expr>>>()?);
        }
        let builder = LogicalPlanBuilder::values(rows)?;
        let given = builder.schema().columns();
        let renamed = given.into_iter().zip(&columns).map(|(from, to)| Expr::Column(from).alias(to));
        Ok(Solutions {
            plan: builder.project(renamed.collect::<Vec<_>>())?.build()?,
            variables: bound,
        })
    }

    /// Whether an expression is true; null where it is an error.
    fn condition(&self, expression: &SparqlExpression, variables: &BTreeMap<String, Binding>) -> Result<Expr> {
        expression::boolean(&self.context, expression, variables)
    }
}
