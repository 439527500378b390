//! From SPARQL's algebra to relational plans (the mapping of Cyganiak's "A relational algebra for SPARQL", over ids).

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::prelude::lit;
use datafusion::scalar::ScalarValue;
use oxrdf::NamedNode;
use spargebra::algebra::{Expression as SparqlExpression, GraphPattern, OrderExpression};
use spargebra::term::{GroundTerm, NamedNodePattern, TermPattern, Variable};

use super::basic::conditions_on;
use super::context::QueryContext;
use super::conversion::Conversion;
use super::estimate::Estimate;
use super::exists::Injected;
use super::expression::Expressions;
use super::growth::{Growth, INLINED};
use super::probe::UNBOUND;
use super::projected::projected;
use super::query::SparqlJoin;
use super::scope;
use super::service::Service;
use super::solutions::{Binding, Names, Solutions, SortColumn};
use super::triple::{Graphs, Quads, Slot};
use crate::error::{Error, Result};
use crate::rdf::quad_index::QuadIndex;
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
    /// Against what relative IRIs are resolved.
    pub base: Option<NamedNode>,
    /// How triples are joined.
    pub join: SparqlJoin,
    /// The same quads, to be searched while the query is planned and by bind joins.
    pub index: Arc<QuadIndex>,
    /// Outer values, within a pattern of EXISTS that must see them.
    pub injected: Option<Injected>,
    /// How large what is made grows.
    pub growth: Growth,
}

impl Translator<'_> {
    /// The solutions of a pattern, matched against graphs.
    pub fn pattern(&mut self, pattern: &GraphPattern, graphs: &Graphs) -> Result<Solutions> {
        self.growth.translate()?;
        match pattern {
            GraphPattern::Bgp { patterns } => {
                let found = self.join_basic(Solutions::one()?, patterns, graphs)?;
                self.leaf(found, graphs)
            }
            GraphPattern::Path { subject, path, object } => {
                let found = self.path(subject, path, object, graphs)?;
                self.leaf(found, graphs)
            }
            GraphPattern::Values { variables, bindings } => {
                let found = self.values(variables, bindings)?;
                self.leaf(found, graphs)
            }
            GraphPattern::Join { left, right } => {
                if let Some(found) = self.join_service(left, right, graphs)? {
                    return Ok(found);
                }
                if let Some(found) = self.join_path(left, right, graphs)? {
                    return Ok(found);
                }
                if let Some(found) = self.join_union(left, right, graphs)? {
                    return Ok(found);
                }
                // Triples are joined last, and so to what is known.
                let (left, right) = match (left.as_ref(), right.as_ref()) {
                    (GraphPattern::Bgp { .. }, GraphPattern::Bgp { .. }) => (left, right),
                    (GraphPattern::Bgp { .. }, _) => (right, left),
                    _ => (left, right),
                };
                let left = self.pattern(left, graphs)?.visible();
                if let GraphPattern::Bgp { patterns } = right.as_ref()
                    && self.injected.is_none()
                    && !patterns.is_empty()
                {
                    return self.join_basic(left, patterns, graphs);
                }
                let right = self.pattern(right, graphs)?.visible();
                self.join(left, right)
            }
            GraphPattern::LeftJoin {
                left,
                right,
                expression: Some(condition),
            } if scope::has_exists(condition) => self.left_join_by_parts(left, right, condition, graphs),
            GraphPattern::LeftJoin { left, right, expression } => {
                let left = self.pattern(left, graphs)?.visible();
                if let (Some(service), None) = (Service::of(right), expression) {
                    return self.service(left, service, true);
                }
                let left = match self.bind_left_join(left, right, expression.as_ref(), graphs)? {
                    Ok(joined) => return Ok(joined),
                    Err(left) => left,
                };
                let right = self.pattern(right, graphs)?.visible();
                self.left_join(left, right, expression.as_ref())
            }
            GraphPattern::Filter { expr, inner } => {
                if let Some(other) = self.condition_first(expr, inner) {
                    return self.pattern(&other, graphs);
                }
                let GraphPattern::Bgp { patterns } = inner.as_ref() else {
                    let inner = self.pattern(inner, graphs)?;
                    return self.filtered(inner, expr, graphs);
                };
                let (found, left) = self.basic_where(patterns, expr, graphs)?;
                let found = self.leaf(found, graphs)?;
                match scope::all_of(left) {
                    Some(left) => self.filtered(found, &left, graphs),
                    None => Ok(found),
                }
            }
            GraphPattern::Union { left, right } => {
                if let Some(found) = self.lookup_union(pattern, graphs)? {
                    return Ok(found);
                }
                let left = self.pattern(left, graphs)?.visible();
                let right = self.pattern(right, graphs)?.visible();
                left.union(&mut self.names, right)
            }
            GraphPattern::Minus { left, right } => {
                let left = self.pattern(left, graphs)?.visible();
                let right = self.pattern(right, graphs)?.visible();
                self.minus(left, right)
            }
            GraphPattern::Graph { name, inner } => {
                let found = self.graph(name, inner)?;
                self.in_each(found, graphs)
            }
            GraphPattern::Extend {
                inner,
                variable,
                expression,
            } => {
                let inner = self.pattern(inner, graphs)?;
                let (inner, expression) = self.prepare(inner, expression, graphs)?;
                let value = self.expressions(&inner.variables).term(&expression)?;
                let is_constant = matches!(expression, SparqlExpression::NamedNode(_) | SparqlExpression::Literal(_));
                let size = self.growth.size(&value)?;
                let (value, size) = match size > INLINED {
                    true => (Conversion::Held.call(&self.context, value), 1),
                    false => (value, size),
                };
                let extended = inner.extend(&mut self.names, variable.as_str(), value, !is_constant)?;
                if let Some(binding) = extended.variables.get(variable.as_str()) {
                    self.growth.note(&binding.column, size);
                }
                Ok(extended)
            }
            GraphPattern::Project { inner, variables } => {
                let wanted: Vec<String> = variables.iter().map(|variable| variable.as_str().to_owned()).collect();
                // A subquery sees nothing from outside it.
                let injected = self.injected.take();
                let found = self.pattern(inner, graphs);
                self.injected = injected;
                let found = found?.project(&mut self.names, &wanted)?;
                self.with_injected(found)
            }
            GraphPattern::Distinct { inner } => self.pattern(inner, graphs)?.distinct(&mut self.names),
            // As many of them as there are is as good as fewer.
            GraphPattern::Reduced { inner } => self.pattern(inner, graphs),
            GraphPattern::Slice { inner, start, length } => {
                let inner = self.pattern(inner, graphs)?;
                let has_keys = inner.keys().next().is_some();
                match has_keys {
                    // Each graph has a slice of its own.
                    true => inner.slice_of_each(&mut self.names, *start, *length),
                    false => inner.slice(*start, *length),
                }
            }
            GraphPattern::OrderBy { inner, expression } => {
                let inner = self.pattern(inner, graphs)?;
                self.ordered(inner, expression, graphs)
            }
            GraphPattern::Group {
                inner,
                variables,
                aggregates,
            } => self.grouped(inner, variables, aggregates, graphs),
            GraphPattern::Service { name, inner, silent } => {
                let service = Service {
                    name,
                    inner,
                    silent: *silent,
                };
                let start = match self.injected.clone() {
                    Some(injected) => injected.solutions.renamed(&mut self.names)?,
                    None => Solutions::one()?,
                };
                let found = self.service(start, service, false)?;
                self.in_each(found, graphs)
            }
        }
    }

    /// OPTIONAL and a condition behind it, some of which sees only what is surely bound before: that part goes before it.
    fn condition_first(&self, condition: &SparqlExpression, pattern: &GraphPattern) -> Option<GraphPattern> {
        let GraphPattern::LeftJoin { left, right, expression } = pattern else {
            return None;
        };
        let (first, behind) = conditions_on(condition, &scope::certain(left));
        if first.is_empty() || self.injected.is_some() {
            return None;
        }
        let filtered = |condition: Option<SparqlExpression>, inner: GraphPattern| match condition {
            Some(expr) => GraphPattern::Filter {
                expr,
                inner: Box::new(inner),
            },
            None => inner,
        };
        let joined = GraphPattern::LeftJoin {
            left: Box::new(filtered(scope::all_of(first), (**left).clone())),
            right: right.clone(),
            expression: expression.clone(),
        };
        Some(filtered(scope::all_of(behind), joined))
    }

    /// The solutions with the columns they are to be sorted by.
    fn ordered(&mut self, mut solutions: Solutions, by: &[OrderExpression], graphs: &Graphs) -> Result<Solutions> {
        let mut order = Vec::new();
        for expression in by {
            let (expression, ascending) = match expression {
                OrderExpression::Asc(expression) => (expression, true),
                OrderExpression::Desc(expression) => (expression, false),
            };
            let (more, expression) = self.prepare(solutions, expression, graphs)?;
            solutions = more;
            let value = self.expressions(&solutions.variables).term(&expression)?;
            let column = self.names.fresh("#order");
            let mut columns = solutions.columns();
            columns.push(Conversion::SortKey.call(&self.context, value).alias(&column));
            solutions.plan = projected(solutions.plan, columns)?;
            // Each column goes along from now on.
            order.push(SortColumn { column, ascending });
            solutions.order = order.clone();
        }
        Ok(solutions)
    }

    /// Expressions over variables.
    pub fn expressions<'b>(&'b self, variables: &'b BTreeMap<String, Binding>) -> Expressions<'b> {
        Expressions {
            context: &self.context,
            base: self.base.as_ref(),
            variables,
        }
    }

    /// What stands in a place.
    pub fn slot(&self, term: &TermPattern) -> Result<Slot> {
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
                    let inner = self.pattern(inner, &Graphs::Merged(Some(Vec::new())))?;
                    return inner.filter(lit(false));
                }
                let inner = self.pattern(inner, &Graphs::One(id))?;
                match inner.is_one() {
                    // Nothing of it is looked for in the graph, which must be there nevertheless.
                    true => self.quads.named_graphs(&mut self.names, "#graph", Some(&[id])),
                    false => Ok(inner),
                }
            }
            NamedNodePattern::Variable(variable) => {
                // The pattern is matched against each graph by itself, and only then the variable is bound: what is within does not see it.
                let key = self.names.fresh("=graph");
                let graphs = Graphs::Each(key.clone(), self.dataset.named.clone());
                let mut found = self.pattern(inner, &graphs)?;
                let name = variable.as_str();
                let graph = found
                    .variables
                    .remove(&key)
                    .ok_or_else(|| Error::internal("a pattern that lost its graph"))?;
                match found.variables.get(name) {
                    None => {
                        found.variables.insert(name.to_owned(), graph);
                        Ok(found)
                    }
                    Some(bound) if bound.optional => {
                        let agrees = bound.expr().is_null().or(bound.expr().eq(graph.expr()));
                        let mut found = found.filter(agrees)?;
                        found.variables.insert(name.to_owned(), graph);
                        Ok(found)
                    }
                    Some(bound) => {
                        let agrees = bound.expr().eq(graph.expr());
                        found.filter(agrees)
                    }
                }
            }
        }
    }

    /// A leaf of the pattern, for each graph and for each of the injected solutions.
    fn leaf(&mut self, found: Solutions, graphs: &Graphs) -> Result<Solutions> {
        let found = self.in_each(found, graphs)?;
        self.with_injected(found)
    }

    /// What does not look into the graphs, for each of them.
    fn in_each(&mut self, found: Solutions, graphs: &Graphs) -> Result<Solutions> {
        match graphs {
            Graphs::Each(key, among) if !found.variables.contains_key(key) => {
                let all = self.quads.named_graphs(&mut self.names, key, among.as_deref())?;
                found.join(&mut self.names, all)
            }
            _ => Ok(found),
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
        let (mut rows, mut known) = (Vec::new(), Vec::new());
        for binding in bindings {
            let ids = binding.iter().map(|term| {
                let id = match term {
                    None => None,
                    Some(GroundTerm::NamedNode(iri)) => Some(self.context.id(Encoded::iri(iri.as_ref()))?.0),
                    Some(GroundTerm::Literal(literal)) => Some(self.context.id(Encoded::literal(literal.as_ref()))?.0),
                };
                Ok(id)
            });
            let ids = ids.collect::<Result<Vec<Option<u64>>>>()?;
            known.push(ids.iter().map(|id| id.unwrap_or(UNBOUND)).collect());
            rows.push(ids.into_iter().map(|id| lit(ScalarValue::UInt64(id))).collect::<Vec<Expr>>());
        }
        let names = variables.iter().map(|variable| variable.as_str().to_owned()).collect();
        let builder = LogicalPlanBuilder::values(rows)?;
        let given = builder.schema().columns();
        let renamed = given.into_iter().zip(&columns).map(|(from, to)| Expr::Column(from).alias(to));
        Ok(Solutions {
            plan: builder.project(renamed.collect::<Vec<_>>())?.build()?,
            variables: bound,
            order: Vec::new(),
            estimate: Some(Estimate::of(names, known)),
        })
    }
}
