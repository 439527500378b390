//! Joins of solutions that share only variables which may be unbound.
//!
//! An unbound variable agrees with any value, so `a = b` becomes `a = b OR a IS NULL OR b IS NULL`, which no hash table answers: all pairs would be
//! tried. So one of these variables is taken, and the sides are cut by whether they bind it: those that do are joined by it, and only those that do
//! not are paired with all others, as the standard wants it.

use spargebra::algebra::Expression;

use super::pattern::Translator;
use super::scope;
use super::solutions::{Solutions, compatible, is_key};
use crate::error::Result;
use datafusion::common::JoinType;
use datafusion::logical_expr::Expr;

/// Pairs that are tried in less time than further joins would take.
const FEW_PAIRS: f64 = 250_000.0;
/// With so few solutions on one side, the other is not worth to be held: it is read past them.
const FEW_ROWS: f64 = 100.0;
/// Most variables by which solutions are cut.
const MOST: usize = 3;

/// A side of a join, cut by whether it binds a variable.
struct Cut {
    bound: Solutions,
    /// Without the variable; `None` where it is always bound.
    unbound: Option<Solutions>,
}

impl Cut {
    fn new(side: &Solutions, name: &str) -> Result<Cut> {
        let Some(binding) = side.variables.get(name).filter(|binding| binding.optional) else {
            return Ok(Cut {
                bound: side.clone(),
                unbound: None,
            });
        };
        let part = |is_bound: bool| {
            let truth = match is_bound {
                true => binding.expr().is_not_null(),
                false => binding.expr().is_null(),
            };
            let side = Solutions {
                estimate: None,
                ..side.clone()
            };
            side.filter(truth)
        };
        let (mut bound, mut unbound) = (part(true)?, part(false)?);
        unbound.variables.remove(name);
        if let Some(binding) = bound.variables.get_mut(name) {
            binding.optional = false;
        }
        Ok(Cut {
            bound,
            unbound: Some(unbound),
        })
    }
}

/// The variable by which the sides are cut; `None` where they are joined as they are.
fn cut_by(left: &Solutions, right: &Solutions) -> Option<String> {
    let rows = |side: &Solutions| side.estimate.as_ref().map_or(f64::INFINITY, |estimate| estimate.rows);
    if rows(left).min(rows(right)) <= FEW_ROWS || rows(left) * rows(right) <= FEW_PAIRS {
        return None;
    }
    let shared = left
        .variables
        .iter()
        .filter_map(|(name, left)| Some((name, left, right.variables.get(name)?)));
    let shared: Vec<_> = shared.collect();
    if shared.len() > MOST
        || shared
            .iter()
            .any(|(name, left, right)| is_key(name) || !(left.optional || right.optional))
    {
        return None;
    }
    // Fewer parts where one side always binds it.
    let best = shared.iter().min_by_key(|(_, left, right)| left.optional && right.optional);
    best.map(|(name, ..)| (*name).clone())
}

impl Translator<'_> {
    /// All pairs that agree on what both bind.
    pub fn join(&mut self, left: Solutions, right: Solutions) -> Result<Solutions> {
        let Some(name) = cut_by(&left, &right) else {
            return left.join(&mut self.names, right);
        };
        let (left, right) = (self.held(left)?, self.held(right)?);
        let (left, cut) = (Cut::new(&left, &name)?, Cut::new(&right, &name)?);
        let mut all = left.bound.clone().join(&mut self.names, cut.bound)?;
        if let Some(unbound) = cut.unbound {
            let more = self.join(left.bound, unbound)?;
            all = all.union(&mut self.names, more)?;
        }
        if let Some(unbound) = left.unbound {
            let more = self.join(unbound, right)?;
            all = all.union(&mut self.names, more)?;
        }
        Ok(all)
    }

    /// Each solution with the others that agree with it and fulfil a condition, or alone where there are none.
    pub fn left_join(&mut self, left: Solutions, right: Solutions, condition: Option<&Expression>) -> Result<Solutions> {
        // A condition that is another one each time must be tried once for each pair.
        let is_one = condition.is_none_or(|condition| !scope::is_made_anew(condition));
        let Some(name) = cut_by(&left, &right).filter(|_| is_one) else {
            let condition = self.condition_of_both(&left, &right, condition)?;
            return left.left_join(&mut self.names, right, condition);
        };
        let (left, right) = (self.held(left)?, self.held(right)?);
        let cut = Cut::new(&left, &name)?;
        let bound = self.left_join_bound(cut.bound, right.clone(), &name, condition)?;
        match cut.unbound {
            None => Ok(bound),
            Some(unbound) => {
                let unbound = self.left_join(unbound, right, condition)?;
                bound.union(&mut self.names, unbound)
            }
        }
    }

    /// The same, where the left side binds the variable.
    fn left_join_bound(&mut self, left: Solutions, right: Solutions, name: &str, condition: Option<&Expression>) -> Result<Solutions> {
        let cut = Cut::new(&right, name)?;
        let Some(unbound) = cut.unbound else {
            let condition = self.condition_of_both(&left, &right, condition)?;
            return left.left_join(&mut self.names, right, condition);
        };
        let mut pairs = left.clone().join(&mut self.names, cut.bound.clone())?;
        let more = self.join(left.clone(), unbound.clone())?;
        pairs = pairs.union(&mut self.names, more)?;
        if let Some(condition) = condition {
            let truth = self.expressions(&pairs.variables).boolean(condition)?;
            pairs = pairs.filter(truth)?;
        }
        let mut alone = left;
        for part in [cut.bound, unbound] {
            let part = part.renamed(&mut self.names)?;
            let mut on = compatible(&alone, &part);
            on.extend(self.condition_of_both(&alone, &part, condition)?);
            alone = alone.joined(part, JoinType::LeftAnti, on)?;
        }
        pairs.union(&mut self.names, alone)
    }

    fn condition_of_both(&self, left: &Solutions, right: &Solutions, condition: Option<&Expression>) -> Result<Option<Expr>> {
        let both = left.of_both(right);
        condition.map(|condition| self.expressions(&both).boolean(condition)).transpose()
    }

    /// The solutions with which none of the others agrees on something that both bind.
    pub fn minus(&mut self, left: Solutions, right: Solutions) -> Result<Solutions> {
        let Some(name) = cut_by(&left, &right).filter(|_| self.injected.is_none()) else {
            return left.minus(right, self.injected.as_ref());
        };
        let (left, right) = (self.held(left)?, self.held(right)?);
        let (left, cut) = (Cut::new(&left, &name)?, Cut::new(&right, &name)?);
        let mut rest = left.bound.minus(cut.bound, None)?;
        if let Some(unbound) = cut.unbound {
            rest = self.minus(rest, unbound)?;
        }
        match left.unbound {
            None => Ok(rest),
            Some(unbound) => {
                let unbound = self.minus(unbound, right)?;
                rest.union(&mut self.names, unbound)
            }
        }
    }

    /// The solutions with which one of the others agrees (`LeftSemi`), or none (`LeftAnti`).
    pub fn kept(&mut self, left: Solutions, right: Solutions, kind: JoinType) -> Result<Solutions> {
        let Some(name) = cut_by(&left, &right) else {
            let on = compatible(&left, &right);
            return left.joined(right, kind, on);
        };
        let (left, right) = (self.held(left)?, self.held(right)?);
        let (left, cut) = (Cut::new(&left, &name)?, Cut::new(&right, &name)?);
        let on = compatible(&left.bound, &cut.bound);
        let mut all = left.bound.clone().joined(cut.bound.clone(), kind, on)?;
        match (cut.unbound, kind) {
            (None, _) => {}
            (Some(unbound), JoinType::LeftAnti) => all = self.kept(all, unbound, kind)?,
            (Some(unbound), _) => {
                let on = compatible(&left.bound, &cut.bound);
                let rest = left.bound.joined(cut.bound, JoinType::LeftAnti, on)?;
                let more = self.kept(rest, unbound, kind)?;
                all = all.union(&mut self.names, more)?;
            }
        }
        match left.unbound {
            None => Ok(all),
            Some(unbound) => {
                let more = self.kept(unbound, right, kind)?;
                all.union(&mut self.names, more)
            }
        }
    }
}
