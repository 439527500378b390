//! A multiset of solutions as a plan: a column of ids for each variable, null where it is unbound.
//!
//! Every column of every plan of a query has a name of its own, so that joins need no renaming; which column stands for which variable is kept
//! beside the plan.

use std::collections::BTreeMap;

use datafusion::common::JoinType;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::{coalesce, ident, lit};

use crate::error::Result;

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
            Some(other) => coalesce(vec![ident(&self.column), ident(other)]),
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

/// Solutions.
#[derive(Debug, Clone)]
pub struct Solutions {
    /// The plan.
    pub plan: LogicalPlan,
    /// Its variables.
    pub variables: BTreeMap<String, Binding>,
}

impl Solutions {
    /// One solution that binds nothing.
    pub fn one() -> Result<Solutions> {
        Ok(Solutions {
            plan: LogicalPlanBuilder::empty(true).build()?,
            variables: BTreeMap::new(),
        })
    }

    /// No solution, with these variables unbound.
    pub fn none() -> Result<Solutions> {
        Ok(Solutions {
            plan: LogicalPlanBuilder::empty(false).build()?,
            variables: BTreeMap::new(),
        })
    }

    fn is_one(&self) -> bool {
        matches!(&self.plan, LogicalPlan::EmptyRelation(empty) if empty.produce_one_row) && self.variables.is_empty()
    }

    /// Keeps the solutions for which a condition is true.
    pub fn filter(self, condition: Expr) -> Result<Solutions> {
        Ok(Solutions {
            plan: LogicalPlanBuilder::from(self.plan).filter(condition)?.build()?,
            variables: self.variables,
        })
    }

    /// Binds a further variable.
    pub fn extend(self, names: &mut Names, variable: &str, value: Expr, optional: bool) -> Result<Solutions> {
        let column = names.fresh(variable);
        let mut columns: Vec<Expr> = self.variables.values().map(Binding::expr).collect();
        columns.push(value.alias(&column));
        let plan = LogicalPlanBuilder::from(self.plan).project(columns)?.build()?;
        let mut variables = self.variables;
        variables.insert(variable.to_owned(), Binding::new(column, optional));
        Ok(Solutions { plan, variables })
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
        self.combine(names, other, JoinType::Inner, on)
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

    /// The solutions with which none of the others agrees on something that both bind.
    pub fn minus(self, other: Solutions) -> Result<Solutions> {
        let shared: Vec<(&Binding, &Binding)> = shared(&self, &other).collect();
        if shared.is_empty() {
            return Ok(self);
        }
        let mut on = compatible(&self, &other);
        if shared.iter().all(|(left, right)| left.optional || right.optional) {
            let both_bind = shared
                .iter()
                .map(|(left, right)| left.expr().is_not_null().and(right.expr().is_not_null()));
            on.extend(both_bind.reduce(Expr::or));
        }
        let plan = LogicalPlanBuilder::from(self.plan)
            .join_on(other.plan, JoinType::LeftAnti, on)?
            .build()?;
        Ok(Solutions {
            plan,
            variables: self.variables,
        })
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
                    columns.push(coalesce(vec![left.expr(), right.expr()]).alias(&column));
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
        Ok(Solutions { plan, variables })
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
        Ok(Solutions { plan, variables })
    }

    /// The plan with the columns of these variables, in their order.
    fn aligned(self, variables: &BTreeMap<String, Binding>) -> Result<LogicalPlan> {
        let columns = variables.iter().map(|(name, binding)| {
            let value = self.variables.get(name).map_or_else(unbound, Binding::expr);
            value.alias(&binding.column)
        });
        Ok(LogicalPlanBuilder::from(self.plan.clone())
            .project(columns.collect::<Vec<_>>())?
            .build()?)
    }

    /// Only these variables; those that are not there are unbound.
    pub fn project(self, names: &mut Names, wanted: &[String]) -> Result<Solutions> {
        let mut variables = BTreeMap::new();
        let mut columns = Vec::new();
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
        let plan = LogicalPlanBuilder::from(self.plan).project(columns)?.build()?;
        Ok(Solutions { plan, variables })
    }

    /// Each solution once.
    pub fn distinct(self) -> Result<Solutions> {
        Ok(Solutions {
            plan: LogicalPlanBuilder::from(self.plan).distinct()?.build()?,
            variables: self.variables,
        })
    }

    /// Some of the solutions.
    pub fn slice(self, start: usize, length: Option<usize>) -> Result<Solutions> {
        Ok(Solutions {
            plan: LogicalPlanBuilder::from(self.plan).limit(start, length)?.build()?,
            variables: self.variables,
        })
    }
}

/// The value of an unbound variable.
pub fn unbound() -> Expr {
    lit(datafusion::scalar::ScalarValue::UInt64(None))
}

fn shared<'a>(left: &'a Solutions, right: &'a Solutions) -> impl Iterator<Item = (&'a Binding, &'a Binding)> {
    left.variables
        .iter()
        .filter_map(|(name, binding)| Some((binding, right.variables.get(name)?)))
}

/// What must hold for two solutions to agree: an unbound variable agrees with any value.
fn compatible(left: &Solutions, right: &Solutions) -> Vec<Expr> {
    shared(left, right)
        .map(|(left, right)| {
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
