//! `GROUP BY` and the set functions.

use std::collections::BTreeMap;

use datafusion::functions::core::expr_fn::r#struct;
use datafusion::functions_aggregate::expr_fn::{count, count_distinct};
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlanBuilder};
use datafusion::prelude::{ident, lit};
use spargebra::algebra::{AggregateExpression, AggregateFunction, Expression, GraphPattern};
use spargebra::term::Variable;

use super::aggregate::SetFunction;
use super::conversion::Conversion;
use super::estimate::{Estimate, Wanted};
use super::pattern::Translator;
use super::projected::projected;
use super::query::SparqlJoin;
use super::scope;
use super::solutions::{Binding, Solutions, is_hidden, unbound};
use super::triple::{Graphs, Slot};
use crate::error::{Error, Result};
use crate::rdf::term_id::TermId;

impl Translator<'_> {
    /// One solution a group: what the solutions of it share, and what the aggregates give.
    pub fn grouped(
        &mut self,
        inner: &GraphPattern,
        keys: &[Variable],
        aggregates: &[(Variable, AggregateExpression)],
        graphs: &Graphs,
    ) -> Result<Solutions> {
        if let Some(counted) = self.counted_without_reading(inner, keys, aggregates, graphs)? {
            return Ok(counted);
        }
        let mut solutions = self.pattern(inner, graphs)?;
        let mut prepared = Vec::new();
        for (variable, aggregate) in aggregates {
            let argument = match scope::argument(aggregate) {
                None => None,
                Some(argument) => {
                    let (more, argument) = self.prepare(solutions, argument, graphs)?;
                    solutions = more;
                    Some(argument)
                }
            };
            prepared.push((variable, aggregate, argument));
        }
        let mut variables = BTreeMap::new();
        let mut groups = Vec::new();
        let mut is_there = None;
        if let (Graphs::Each(key, among), true) = (graphs, keys.is_empty()) {
            // Without solutions, too, each graph is a group.
            let column = self.names.fresh("#solution");
            let mut columns = solutions.columns();
            columns.push(lit(true).alias(&column));
            solutions.plan = projected(solutions.plan, columns)?;
            let all = self.quads.named_graphs(&mut self.names, key, among.as_deref())?;
            solutions = all.left_join(&mut self.names, solutions, None)?;
            is_there = Some(ident(&column).is_not_null());
        }
        for (name, key) in solutions.keys() {
            let column = self.names.fresh(name);
            groups.push(key.expr().alias(&column));
            variables.insert(name.clone(), Binding::new(column, false));
        }
        for key in keys {
            let name = key.as_str();
            let column = self.names.fresh(name);
            let binding = solutions.variables.get(name);
            groups.push(binding.map_or_else(unbound, Binding::expr).alias(&column));
            let optional = binding.is_none_or(|binding| binding.optional);
            variables.insert(name.to_owned(), Binding::new(column, optional));
        }
        let (mut functions, mut results) = (Vec::new(), Vec::new());
        for (variable, aggregate, argument) in prepared {
            let argument = argument
                .map(|argument| self.expressions(&solutions.variables).term(&argument))
                .transpose()?;
            let (mut call, is_count) = self.call(aggregate, argument, &solutions)?;
            if let Some(is_there) = &is_there {
                call = call.filter(is_there.clone()).build()?;
            }
            let column = self.names.fresh(variable.as_str());
            functions.push(call.alias(&column));
            results.push((variable.as_str().to_owned(), column, is_count));
        }
        // One group where there is nothing to group by, and at most as many as there are solutions elsewhere.
        let estimate = match groups.is_empty() {
            true => Some(Estimate::one()),
            false => solutions
                .estimate
                .map(|estimate| estimate.of_variables(|name| variables.contains_key(name))),
        };
        let plan = LogicalPlanBuilder::from(solutions.plan).aggregate(groups, functions)?.build()?;
        let mut grouped = Solutions {
            plan,
            variables,
            order: Vec::new(),
            estimate,
        };
        let mut columns = grouped.columns();
        for (name, column, is_count) in results {
            let value = ident(&column);
            let value = match is_count {
                true => Conversion::Integer.call(&self.context, value),
                false => value,
            };
            let column = self.names.fresh(&name);
            columns.push(value.alias(&column));
            grouped.variables.insert(name, Binding::new(column, !is_count));
        }
        grouped.plan = projected(grouped.plan, columns)?;
        Ok(grouped)
    }

    /// `COUNT` of the quads that match one triple: segments know how many there are.
    fn counted_without_reading(
        &mut self,
        inner: &GraphPattern,
        keys: &[Variable],
        aggregates: &[(Variable, AggregateExpression)],
        graphs: &Graphs,
    ) -> Result<Option<Solutions>> {
        let is_one_graph = matches!(graphs, Graphs::One(TermId::DEFAULT_GRAPH) | Graphs::Merged(None));
        let (GraphPattern::Bgp { patterns }, true, true) = (inner, keys.is_empty(), is_one_graph && self.injected.is_none()) else {
            return Ok(None);
        };
        if patterns.len() != 1 || aggregates.is_empty() || self.join == SparqlJoin::Hash {
            return Ok(None);
        }
        let wanted = self.wanted(patterns, graphs)?;
        let names: Vec<&str> = wanted.iter().flat_map(Wanted::variables).collect();
        // A triple is in a graph once, so the values of its variables together are distinct, and that of the only one is.
        let counts_all = |aggregate: &AggregateExpression| match aggregate {
            AggregateExpression::CountSolutions { distinct } => !distinct || !names.iter().any(|name| is_hidden(name)),
            AggregateExpression::FunctionCall {
                name: AggregateFunction::Count,
                expr: Expression::Variable(variable),
                distinct,
            } => names.contains(&variable.as_str()) && (!distinct || names.len() == 1),
            AggregateExpression::FunctionCall { .. } => false,
        };
        let is_repeated = |name: &&str| names.iter().filter(|other| *other == name).count() > 1;
        if names.iter().any(is_repeated)
            || !aggregates.iter().all(|(_, aggregate)| counts_all(aggregate))
            || !self.quads.have_one_graph()?
        {
            return Ok(None);
        }
        let bound = |slot: &Slot| match slot {
            Slot::Constant(id) => Some(id.0),
            Slot::Variable(_) => None,
        };
        let [subject, predicate, object] = wanted[0].slots.each_ref().map(bound);
        let Some(count) = self.index.exact_count([subject, predicate, object, None])? else {
            return Ok(None);
        };
        let count = i64::try_from(count).map_err(|_| Error::internal("more quads than an integer counts"))?;
        let mut counted = Solutions::one()?;
        let mut columns = Vec::new();
        for (variable, _) in aggregates {
            let column = self.names.fresh(variable.as_str());
            columns.push(Conversion::Integer.call(&self.context, lit(count)).alias(&column));
            counted.variables.insert(variable.as_str().to_owned(), Binding::new(column, false));
        }
        counted.plan = projected(counted.plan, columns)?;
        Ok(Some(counted))
    }

    /// The aggregate, and whether it gives a number of SQL.
    fn call(&self, aggregate: &AggregateExpression, argument: Option<Expr>, solutions: &Solutions) -> Result<(Expr, bool)> {
        let (name, distinct, argument) = match (aggregate, argument) {
            (AggregateExpression::FunctionCall { name, distinct, .. }, Some(argument)) => (name, *distinct, argument),
            (AggregateExpression::CountSolutions { distinct: true }, _) => {
                let visible = solutions.variables.iter().filter(|(name, _)| !is_hidden(name));
                let values: Vec<Expr> = visible.map(|(_, binding)| binding.expr()).collect();
                let solution = match values.is_empty() {
                    true => lit(1),
                    false => r#struct(values),
                };
                return Ok((count_distinct(solution), true));
            }
            _ => return Ok((count(lit(1)), true)),
        };
        let function = match name {
            AggregateFunction::Count if distinct => return Ok((count_distinct(argument), true)),
            AggregateFunction::Count => return Ok((count(argument), true)),
            AggregateFunction::Sum => SetFunction::Sum,
            AggregateFunction::Avg => SetFunction::Avg,
            AggregateFunction::Min => SetFunction::Min,
            AggregateFunction::Max => SetFunction::Max,
            AggregateFunction::Sample => SetFunction::Sample,
            AggregateFunction::GroupConcat { separator } => SetFunction::GroupConcat(separator.clone().unwrap_or_else(|| " ".to_owned())),
            AggregateFunction::Custom(iri) => return Err(Error::invalid("42883", format!("the aggregate {iri} does not exist"))),
        };
        Ok((function.call(&self.context, argument, distinct), false))
    }
}
