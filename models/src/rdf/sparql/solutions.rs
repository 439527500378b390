//! A multiset of solutions as a plan: a column of ids for each variable, null where it is unbound.
//!
//! Every column of every plan of a query has a name of its own, so that joins need no renaming; which column stands for which variable is kept
//! beside the plan.

use std::collections::BTreeMap;

use datafusion::common::JoinType;
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Case, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::{ident, lit};

use super::counted::counted;
use super::estimate::Estimate;
use super::exists::Injected;
use super::projected::projected;
use crate::error::Result;

/// More solutions than a hash table is made of where it can be made of fewer.
const MANY: f64 = 100_000.0;

/// The column of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Its name in the plan.
    pub column: String,
    /// Whether some solution may leave it unbound.
    pub optional: bool,
    /// The column whose value counts where this one has none: while two sides are joined.
    otherwise: Option<String>,
}

impl Binding {
    /// A variable whose values are one column.
    pub fn new(column: String, optional: bool) -> Binding {
        Binding {
            column,
            optional,
            otherwise: None,
        }
    }

    /// Its value.
    pub fn expr(&self) -> Expr {
        match &self.otherwise {
            None => ident(&self.column),
            Some(other) => first_of(vec![ident(&self.column), ident(other)]),
        }
    }
}

/// Names for columns.
#[derive(Debug, Default)]
pub struct Names {
    given: usize,
}

impl Names {
    /// A name that no other column of the query has.
    pub fn fresh(&mut self, variable: &str) -> String {
        self.given += 1;
        format!("{variable}#{}", self.given)
    }
}

/// What solutions are sorted by.
#[derive(Debug, Clone)]
pub struct SortColumn {
    /// Bytes, never null.
    pub column: String,
    /// Whether the least comes first.
    pub ascending: bool,
}

/// Solutions.
#[derive(Debug, Clone)]
pub struct Solutions {
    /// The plan.
    pub plan: LogicalPlan,
    /// Its variables.
    pub variables: BTreeMap<String, Binding>,
    /// The order that was asked for and that the plan does not have yet.
    pub order: Vec<SortColumn>,
    /// What is known of them; `None`: nothing.
    pub estimate: Option<Estimate>,
}

/// Whether a variable is a key that stays with a solution wherever it goes: the graph it is from, the outer solution it is for.
pub fn is_key(name: &str) -> bool {
    name.starts_with('=')
}

/// Whether a variable is none of the query's.
pub fn is_hidden(name: &str) -> bool {
    // No variable of a query begins so.
    name.starts_with('#') || name.starts_with("_:") || is_key(name)
}

impl Solutions {
    /// One solution that binds nothing.
    pub fn one() -> Result<Solutions> {
        Ok(Solutions {
            plan: LogicalPlanBuilder::empty(true).build()?,
            variables: BTreeMap::new(),
            order: Vec::new(),
            estimate: Some(Estimate::one()),
        })
    }

    /// No solution.
    pub fn none() -> Result<Solutions> {
        Ok(Solutions {
            plan: LogicalPlanBuilder::empty(false).build()?,
            variables: BTreeMap::new(),
            order: Vec::new(),
            estimate: None,
        })
    }

    /// Whether it is the one solution that binds nothing.
    pub fn is_one(&self) -> bool {
        matches!(&self.plan, LogicalPlan::EmptyRelation(empty) if empty.produce_one_row) && self.variables.is_empty()
    }

    /// The columns that count: those of the variables and of the order.
    pub fn columns(&self) -> Vec<Expr> {
        let order = self.order.iter().map(|sort| ident(&sort.column));
        self.variables.values().map(Binding::expr).chain(order).collect()
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = (&String, &Binding)> {
        self.variables.iter().filter(|(name, _)| is_key(name))
    }

    /// Without the variables that are none of the query's, but for blank nodes and the keys of injected solutions.
    pub fn visible(mut self) -> Solutions {
        self.variables.retain(|name, _| !name.starts_with('#'));
        self
    }

    /// The plan with no other columns than those that count.
    pub fn only_variables(self) -> Result<Solutions> {
        let columns = self.columns();
        Ok(Solutions {
            plan: projected(self.plan, columns)?,
            ..self
        })
    }

    /// The same under other names, so that both can be in one plan.
    pub fn renamed(&self, names: &mut Names) -> Result<Solutions> {
        let mut variables = BTreeMap::new();
        let mut columns = Vec::new();
        for (name, binding) in &self.variables {
            let column = names.fresh(name);
            columns.push(binding.expr().alias(&column));
            variables.insert(name.clone(), Binding::new(column, binding.optional));
        }
        Ok(Solutions {
            plan: projected(self.plan.clone(), columns)?,
            variables,
            order: Vec::new(),
            estimate: None,
        })
    }

    /// A semi, anti or mark join, which adds no variables.
    pub fn joined(self, other: Solutions, kind: JoinType, mut on: Vec<Expr>) -> Result<Solutions> {
        if on.is_empty() {
            on.push(lit(true));
        }
        // The side on the left is the one that a hash table is made of, and must fit into memory.
        let turned = match kind {
            JoinType::LeftSemi => Some(JoinType::RightSemi),
            JoinType::LeftAnti => Some(JoinType::RightAnti),
            _ => None,
        };
        let is_many = |own: f64| own > MANY && other.estimate.as_ref().is_some_and(|other| other.rows < own);
        let rows = self.estimate.as_ref().map(|own| own.rows).filter(|own| is_many(*own));
        let plan = match (turned, rows) {
            // Or it would be turned back.
            (Some(turned), Some(rows)) => LogicalPlanBuilder::from(other.plan).join_on(counted(self.plan, rows), turned, on)?,
            _ => LogicalPlanBuilder::from(self.plan).join_on(other.plan, kind, on)?,
        };
        let plan = plan.build()?;
        Ok(Solutions {
            plan,
            variables: self.variables,
            order: self.order,
            estimate: self.estimate,
        })
    }

    /// Keeps the solutions for which a condition is true.
    pub fn filter(self, condition: Expr) -> Result<Solutions> {
        Ok(Solutions {
            plan: LogicalPlanBuilder::from(self.plan).filter(condition)?.build()?,
            variables: self.variables,
            order: self.order,
            estimate: self.estimate,
        })
    }

    /// Binds a further variable.
    pub fn extend(self, names: &mut Names, variable: &str, value: Expr, optional: bool) -> Result<Solutions> {
        let column = names.fresh(variable);
        let mut columns = self.columns();
        columns.push(value.alias(&column));
        let plan = projected(self.plan, columns)?;
        let mut variables = self.variables;
        variables.insert(variable.to_owned(), Binding::new(column, optional));
        Ok(Solutions {
            plan,
            variables,
            order: self.order,
            estimate: self.estimate,
        })
    }

    /// All pairs that agree on what both bind.
    pub fn join(self, names: &mut Names, other: Solutions) -> Result<Solutions> {
        if self.is_one() {
            return Ok(other);
        }
        if other.is_one() {
            return Ok(self);
        }
        let on = compatible(&self, &other);
        let estimate = match (&self.estimate, &other.estimate) {
            (Some(first), Some(second)) if on.is_empty() => Some(first.crossed(second)),
            _ => None,
        };
        let joined = self.combine(names, other, JoinType::Inner, on)?;
        Ok(Solutions { estimate, ..joined })
    }

    /// Each solution with the others that agree with it and fulfil a condition, or alone where there are none. The condition is made from the
    /// variables of both sides.
    pub fn left_join(self, names: &mut Names, other: Solutions, condition: Option<Expr>) -> Result<Solutions> {
        let mut on = compatible(&self, &other);
        on.extend(condition);
        self.combine(names, other, JoinType::Left, on)
    }

    /// The variables of both sides, as a condition of a join sees them.
    pub fn of_both(&self, other: &Solutions) -> BTreeMap<String, Binding> {
        let mut both = other.variables.clone();
        for (name, left) in &self.variables {
            let mut binding = left.clone();
            // What the left side leaves unbound the right side may bind.
            if let Some(right) = other.variables.get(name).filter(|_| left.optional) {
                binding.otherwise = Some(right.column.clone());
                binding.optional = right.optional;
            }
            both.insert(name.clone(), binding);
        }
        both
    }

    /// The solutions with which none of the others agrees on something that both bind. What an outer solution gives `injected` variables stands
    /// for terms, and so does not count as something; what it leaves unbound is a variable as any other.
    pub fn minus(self, other: Solutions, injected: Option<&Injected>) -> Result<Solutions> {
        let mut always = false;
        let mut sometimes = Vec::new();
        for (name, left, right) in shared(&self, &other).filter(|(name, ..)| !is_key(name)) {
            let both_bind = || left.expr().is_not_null().and(right.expr().is_not_null());
            match injected.filter(|injected| injected.fixed.contains(name)) {
                None if left.optional || right.optional => sometimes.push(both_bind()),
                None => always = true,
                Some(injected) => sometimes.extend(injected.is_unbound(name, &self).map(|unbound| unbound.and(both_bind()))),
            }
        }
        let mut on = compatible(&self, &other);
        if !always {
            let Some(something) = sometimes.into_iter().reduce(Expr::or) else {
                return Ok(self);
            };
            on.push(something);
        }
        self.joined(other, JoinType::LeftAnti, on)
    }

    fn combine(self, names: &mut Names, other: Solutions, kind: JoinType, on: Vec<Expr>) -> Result<Solutions> {
        let is_left = kind == JoinType::Left;
        let mut columns = Vec::new();
        let mut variables = BTreeMap::new();
        let mut needs_projection = false;
        for (name, left) in &self.variables {
            let binding = match other.variables.get(name) {
                // Where the left side may leave it unbound, the right side's value is the one.
                Some(right) if left.optional => {
                    let column = names.fresh(name);
                    columns.push(first_of(vec![left.expr(), right.expr()]).alias(&column));
                    needs_projection = true;
                    Binding::new(column, is_left || right.optional)
                }
                _ => {
                    columns.push(left.expr());
                    left.clone()
                }
            };
            variables.insert(name.clone(), binding);
        }
        for (name, right) in &other.variables {
            if !variables.contains_key(name) {
                columns.push(right.expr());
                let optional = right.optional || is_left;
                let column = right.column.clone();
                variables.insert(name.clone(), Binding::new(column, optional));
            }
        }
        let builder = LogicalPlanBuilder::from(self.plan);
        let builder = match (on.is_empty(), is_left) {
            (true, false) => builder.cross_join(other.plan)?,
            (true, true) => builder.join_on(other.plan, kind, [lit(true)])?,
            (false, _) => builder.join_on(other.plan, kind, on)?,
        };
        let plan = match needs_projection {
            true => builder.project(columns)?.build()?,
            false => builder.build()?,
        };
        Ok(Solutions {
            plan,
            variables,
            order: Vec::new(),
            estimate: None,
        })
    }

    /// The solutions of both.
    pub fn union(self, names: &mut Names, other: Solutions) -> Result<Solutions> {
        let all: BTreeMap<String, bool> = self
            .variables
            .keys()
            .chain(other.variables.keys())
            .map(|name| {
                let is_optional = |side: &Solutions| side.variables.get(name).is_none_or(|binding| binding.optional);
                (name.clone(), is_optional(&self) || is_optional(&other))
            })
            .collect();
        let mut variables = BTreeMap::new();
        for (name, optional) in all {
            let column = names.fresh(&name);
            variables.insert(name, Binding::new(column, optional));
        }
        let left = self.aligned(&variables)?;
        let right = other.aligned(&variables)?;
        let plan = LogicalPlanBuilder::from(left).union(right)?.build()?;
        Ok(Solutions {
            plan,
            variables,
            order: Vec::new(),
            estimate: None,
        })
    }

    /// The plan with the columns of these variables, in their order.
    fn aligned(self, variables: &BTreeMap<String, Binding>) -> Result<LogicalPlan> {
        let columns = variables.iter().map(|(name, binding)| {
            let value = self.variables.get(name).map_or_else(unbound, Binding::expr);
            value.alias(&binding.column)
        });
        let columns = columns.collect();
        projected(self.plan, columns)
    }

    /// Only these variables; those that are not there are unbound.
    pub fn project(self, names: &mut Names, wanted: &[String]) -> Result<Solutions> {
        let mut variables = BTreeMap::new();
        let mut columns = Vec::new();
        for (name, key) in self.keys() {
            columns.push(key.expr());
            variables.insert(name.clone(), key.clone());
        }
        for name in wanted {
            let binding = match self.variables.get(name) {
                Some(binding) => {
                    columns.push(binding.expr());
                    binding.clone()
                }
                None => {
                    let column = names.fresh(name);
                    columns.push(unbound().alias(&column));
                    Binding::new(column, true)
                }
            };
            variables.insert(name.clone(), binding);
        }
        columns.extend(self.order.iter().map(|sort| ident(&sort.column)));
        let plan = projected(self.plan, columns)?;
        Ok(Solutions {
            plan,
            variables,
            order: self.order,
            estimate: self.estimate,
        })
    }

    /// Each solution once. Of solutions that are the same, the one that the order puts first has its place.
    pub fn distinct(self, names: &mut Names) -> Result<Solutions> {
        if self.variables.is_empty() {
            // All are the same. As groups of nothing they would be one also where there is none.
            let plan = LogicalPlanBuilder::from(self.plan).limit(0, Some(1))?.build()?;
            return Ok(Solutions {
                plan,
                order: Vec::new(),
                ..self
            });
        }
        if self.order.is_empty() {
            return Ok(Solutions {
                plan: LogicalPlanBuilder::from(self.plan).distinct()?.build()?,
                ..self
            });
        }
        let groups: Vec<Expr> = self.variables.values().map(Binding::expr).collect();
        let mut order = Vec::new();
        let mut first = Vec::new();
        for sort in &self.order {
            let column = names.fresh("#order");
            let key = ident(&sort.column);
            first.push(if sort.ascending { min(key) } else { max(key) }.alias(&column));
            order.push(SortColumn {
                column,
                ascending: sort.ascending,
            });
        }
        Ok(Solutions {
            plan: LogicalPlanBuilder::from(self.plan).aggregate(groups, first)?.build()?,
            variables: self.variables,
            order,
            estimate: None,
        })
    }

    /// In the order that was asked for.
    pub fn sorted(self) -> Result<Solutions> {
        if self.order.is_empty() {
            return Ok(self);
        }
        let keys: Vec<_> = self
            .order
            .iter()
            .map(|sort| ident(&sort.column).sort(sort.ascending, sort.ascending))
            .collect();
        Ok(Solutions {
            plan: LogicalPlanBuilder::from(self.plan).sort(keys)?.build()?,
            ..self
        })
    }

    /// Some of the solutions with each combination of keys.
    pub fn slice_of_each(self, names: &mut Names, start: usize, length: Option<usize>) -> Result<Solutions> {
        let number = names.fresh("#number");
        let keys = self.keys().map(|(_, key)| key.expr()).collect();
        let order: Vec<_> = self
            .order
            .iter()
            .map(|sort| ident(&sort.column).sort(sort.ascending, sort.ascending))
            .collect();
        let numbered = row_number().partition_by(keys).order_by(order).build()?.alias(&number);
        let mut within = ident(&number).gt(lit(start as u64));
        if let Some(length) = length {
            within = within.and(ident(&number).lt_eq(lit(start.saturating_add(length) as u64)));
        }
        let columns = self.columns();
        let plan = LogicalPlanBuilder::from(self.plan)
            .window([numbered])?
            .filter(within)?
            .project(columns)?;
        Ok(Solutions {
            plan: plan.build()?,
            variables: self.variables,
            order: self.order,
            estimate: None,
        })
    }

    /// Some of the solutions.
    pub fn slice(self, start: usize, length: Option<usize>) -> Result<Solutions> {
        let mut sorted = self.sorted()?;
        if let (Some(estimate), Some(length)) = (&sorted.estimate, length) {
            sorted.estimate = Some(estimate.at_most(length));
        }
        Ok(Solutions {
            plan: LogicalPlanBuilder::from(sorted.plan).limit(start, length)?.build()?,
            variables: sorted.variables,
            // A sort above a limit above a sort is one that the planner of a subquery takes away, and the one below it too.
            order: Vec::new(),
            estimate: sorted.estimate,
        })
    }
}

/// The first of these that is bound. Written out: `coalesce` of DataFusion works only where its optimizer has been, and it has not where the
/// condition of a bind join is.
pub fn first_of(mut values: Vec<Expr>) -> Expr {
    let last = values.pop().unwrap_or_else(unbound);
    if values.is_empty() {
        return last;
    }
    let cases = values
        .into_iter()
        .map(|value| (Box::new(value.clone().is_not_null()), Box::new(value)));
    Expr::Case(Case {
        expr: None,
        when_then_expr: cases.collect(),
        else_expr: Some(Box::new(last)),
    })
}

/// The value of an unbound variable.
pub fn unbound() -> Expr {
    lit(datafusion::scalar::ScalarValue::UInt64(None))
}

fn shared<'a>(left: &'a Solutions, right: &'a Solutions) -> impl Iterator<Item = (&'a str, &'a Binding, &'a Binding)> {
    left.variables
        .iter()
        .filter_map(|(name, binding)| Some((name.as_str(), binding, right.variables.get(name)?)))
}

/// What must hold for two solutions to agree: an unbound variable agrees with any value.
pub fn compatible(left: &Solutions, right: &Solutions) -> Vec<Expr> {
    shared(left, right)
        .map(|(_, left, right)| {
            let mut agree = left.expr().eq(right.expr());
            for side in [left, right] {
                if side.optional {
                    agree = agree.or(side.expr().is_null());
                }
            }
            agree
        })
        .collect()
}
