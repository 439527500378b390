//! The predicate of a scan: conjuncts over table columns, static ones (applied exactly) apart from dynamic ones (offers).

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::DynamicFilterTracking;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_expr::utils::{collect_columns, conjunction_opt, split_conjunction};
use datafusion::physical_expr_common::physical_expr::{PhysicalExpr, is_volatile};

/// Conjuncts, with columns that are table columns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Predicate {
    /// Rows for which one of these is not true are left out.
    pub statics: Vec<Arc<dyn PhysicalExpr>>,
    /// Rows for which one of these is not true may be left out.
    pub dynamics: Vec<Arc<dyn PhysicalExpr>>,
}

impl Predicate {
    pub fn is_empty(&self) -> bool {
        self.statics.is_empty() && self.dynamics.is_empty()
    }

    /// Adds a filter, split at its ANDs. Returns whether it will be applied exactly; if not, the caller applies it too.
    pub fn add(&mut self, filter: &Arc<dyn PhysicalExpr>) -> bool {
        if is_volatile(filter) {
            return false;
        }
        let mut exact = true;
        for conjunct in split_conjunction(filter) {
            if holds_subquery(conjunct) {
                exact = false;
            } else if DynamicFilterTracking::classify(conjunct).contains_dynamic_filter() {
                self.dynamics.push(Arc::clone(conjunct));
                exact = false;
            } else {
                self.statics.push(Arc::clone(conjunct));
            }
        }
        exact
    }

    /// The static conjuncts as one expression.
    pub fn static_conjunction(&self) -> Option<Arc<dyn PhysicalExpr>> {
        conjunction_opt(self.statics.iter().cloned())
    }

    /// The dynamic conjuncts as one expression.
    pub fn dynamic_conjunction(&self) -> Option<Arc<dyn PhysicalExpr>> {
        conjunction_opt(self.dynamics.iter().cloned())
    }

    /// Everything as one expression.
    pub fn conjunction(&self) -> Option<Arc<dyn PhysicalExpr>> {
        conjunction_opt(self.iter().cloned())
    }

    /// All conjuncts.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn PhysicalExpr>> {
        self.statics.iter().chain(&self.dynamics)
    }

    /// Table columns the predicate reads, ascending.
    pub fn columns(&self) -> Vec<usize> {
        let mut columns: Vec<usize> = self.iter().flat_map(collect_columns).map(|c| c.index()).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }
}

/// The expression with each column's position `i` replaced by `position(i)`; `None` when one has no new position.
pub(super) fn move_columns(
    expr: &Arc<dyn PhysicalExpr>,
    position: impl Fn(usize) -> Option<usize>,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let mut known = true;
    let moved = Arc::clone(expr)
        .transform_down(|node| {
            let Some(column) = node.downcast_ref::<Column>() else {
                return Ok(Transformed::no(node));
            };
            match position(column.index()) {
                Some(index) if index == column.index() => Ok(Transformed::no(node)),
                Some(index) => Ok(Transformed::new(
                    Arc::new(Column::new(column.name(), index)),
                    true,
                    TreeNodeRecursion::Jump,
                )),
                None => {
                    known = false;
                    Ok(Transformed::no(node))
                }
            }
        })
        .data()?;
    Ok(known.then_some(moved))
}

/// Whether an expression waits for the result of a scalar subquery: it has no value while the plan is made.
fn holds_subquery(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let found = expr.exists(|node| Ok(node.downcast_ref::<ScalarSubqueryExpr>().is_some()));
    found.unwrap_or(true)
}

/// Whether a scan can apply a logical filter wholly, a batch at a time: not one that changes from call to call, needs another plan's
/// result, an outer row or an asynchronous function.
pub(super) fn is_absorbable(filter: &Expr) -> Result<bool> {
    if filter.is_volatile() {
        return Ok(false);
    }
    let foreign = filter.exists(|node| {
        Ok(match node {
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => true,
            Expr::OuterReferenceColumn(..) => true,
            Expr::AggregateFunction(_) | Expr::WindowFunction(_) | Expr::Unnest(_) | Expr::GroupingSet(_) => true,
            Expr::ScalarFunction(call) => call.func.as_async().is_some(),
            _ => false,
        })
    })?;
    Ok(!foreign)
}
