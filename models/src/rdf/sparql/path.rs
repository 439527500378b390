//! Property paths (section 18.4 of the standard). `/`, `|`, `^` and `!` are joins, unions and scans, which keep duplicates; `?`, `*` and `+`
//! give each pair once.

use std::sync::Arc;

use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::{ident, lit};
use datafusion::scalar::ScalarValue;
use oxrdf::NamedNode;
use spargebra::algebra::{GraphPattern, PropertyPathExpression as Path};
use spargebra::term::TermPattern;

use super::expand::{EdgePlan, Search, Start, expand};
use super::pattern::Translator;
use super::projected::projected;
use super::reach::Indexed;
use super::scope;
use super::solutions::{Binding, Solutions};
use super::triple::{Graphs, Slot};
use crate::error::Result;
use crate::rdf::term_id::{Encoded, TermId};

/// A closure: a path of any length.
struct Closure<'a> {
    /// One step.
    step: &'a Path,
    /// Whether no step will do.
    reflexive: bool,
}

/// Whether a path is a closure by itself.
fn closure(path: &Path) -> Option<Closure<'_>> {
    match path {
        Path::ZeroOrMore(step) => Some(Closure { step, reflexive: true }),
        Path::OneOrMore(step) => Some(Closure { step, reflexive: false }),
        _ => None,
    }
}

/// The predicates of a path that is one of several edges, and whether each goes from subject to object; `None` for others.
fn predicates(path: &Path, forward: bool) -> Option<Vec<(&NamedNode, bool)>> {
    match path {
        Path::NamedNode(iri) => Some(vec![(iri, forward)]),
        Path::Reverse(inner) => predicates(inner, !forward),
        Path::Alternative(first, second) => {
            let mut all = predicates(first, forward)?;
            all.extend(predicates(second, forward)?);
            Some(all)
        }
        _ => None,
    }
}

impl Translator<'_> {
    /// The pairs that a path connects.
    pub fn path(&mut self, subject: &TermPattern, path: &Path, object: &TermPattern, graphs: &Graphs) -> Result<Solutions> {
        let (subject, object) = (self.slot(subject)?, self.slot(object)?);
        self.connected(&subject, path, &object, graphs)
    }

    /// Solutions and a path behind them: if it is a closure that begins (or ends) at a node that they bind, it is searched from there.
    pub fn join_path(&mut self, left: &GraphPattern, right: &GraphPattern, graphs: &Graphs) -> Result<Option<Solutions>> {
        let GraphPattern::Path { subject, path, object } = right else {
            return Ok(None);
        };
        let (Some(found), None) = (closure(path), &self.injected) else {
            return Ok(None);
        };
        if matches!(graphs, Graphs::Each(..)) {
            return Ok(None);
        }
        // A zero-length path has only nodes of the graph.
        let nodes = scope::certain_nodes(left);
        let begins = |slot: &Slot| matches!(slot, Slot::Variable(name) if nodes.contains(name));
        let (subject, object) = (self.slot(subject)?, self.slot(object)?);
        let is_backward = !begins(&subject);
        if is_backward && !begins(&object) {
            return Ok(None);
        }
        let left = self.pattern(left, graphs)?.visible();
        let (start, end) = if is_backward { (&object, &subject) } else { (&subject, &object) };
        let start = match start {
            Slot::Variable(name) => left.variables.get(name).filter(|binding| !binding.optional).cloned(),
            Slot::Constant(_) => None,
        };
        match start {
            Some(start) => Ok(Some(self.searched(left, &start.column, None, &found, is_backward, end, graphs)?)),
            None => {
                let right = self.connected(&subject, path, &object, graphs)?;
                Ok(Some(left.join(&mut self.names, right)?))
            }
        }
    }

    fn connected(&mut self, subject: &Slot, path: &Path, object: &Slot, graphs: &Graphs) -> Result<Solutions> {
        match path {
            Path::NamedNode(iri) => self.step(subject, iri, object, graphs),
            Path::Reverse(inner) => self.connected(object, inner, subject, graphs),
            Path::Sequence(first, second) => {
                let (slot, name) = self.fresh_slot();
                let first = self.connected(subject, first, &slot, graphs)?;
                let second = self.connected(&slot, second, object, graphs)?;
                let mut both = first.join(&mut self.names, second)?;
                both.variables.remove(&name);
                both.only_variables()
            }
            Path::Alternative(first, second) => {
                let first = self.connected(subject, first, object, graphs)?;
                let second = self.connected(subject, second, object, graphs)?;
                first.union(&mut self.names, second)
            }
            Path::NegatedPropertySet(iris) => {
                let (slot, name) = self.fresh_slot();
                let found = self
                    .quads
                    .matching(&mut self.names, [subject, &slot, object], graphs, &path.to_string())?;
                let predicates = iris
                    .iter()
                    .map(|iri| Ok(lit(self.context.id(Encoded::iri(iri.as_ref()))?.0)))
                    .collect::<Result<Vec<Expr>>>()?;
                let predicate = found.variables[&name].expr();
                let mut found = found.filter(predicate.in_list(predicates, true))?;
                found.variables.remove(&name);
                found.only_variables()
            }
            Path::ZeroOrOne(inner) => {
                let (from, to) = self.ends(subject, object);
                let some = self.connected(&from, inner, &to, graphs)?;
                let none = self.no_step(&from, &to, graphs)?;
                let all = some.union(&mut self.names, none)?.distinct(&mut self.names)?;
                self.close(all, subject, object, &to)
            }
            Path::ZeroOrMore(step) => self.closed(subject, &Closure { step, reflexive: true }, object, graphs),
            Path::OneOrMore(step) => self.closed(subject, &Closure { step, reflexive: false }, object, graphs),
        }
    }

    fn step(&mut self, subject: &Slot, predicate: &NamedNode, object: &Slot, graphs: &Graphs) -> Result<Solutions> {
        let id = Slot::Constant(self.context.id(Encoded::iri(predicate.as_ref()))?);
        self.quads
            .matching(&mut self.names, [subject, &id, object], graphs, &predicate.to_string())
    }

    fn fresh_slot(&mut self) -> (Slot, String) {
        let name = self.names.fresh("_:");
        (Slot::Variable(name.clone()), name)
    }

    /// The ends of a path as different slots.
    fn ends(&mut self, subject: &Slot, object: &Slot) -> (Slot, Slot) {
        match (subject, object) {
            (Slot::Variable(one), Slot::Variable(other)) if one == other => (subject.clone(), self.fresh_slot().0),
            _ => (subject.clone(), object.clone()),
        }
    }

    /// Keeps the pairs whose ends are the same, where the path's are, and drops the other name.
    fn close(&mut self, pairs: Solutions, subject: &Slot, object: &Slot, to: &Slot) -> Result<Solutions> {
        let (Slot::Variable(from), Slot::Variable(to), true) = (subject, to, subject == object) else {
            return Ok(pairs);
        };
        let condition = pairs.variables[from].expr().eq(pairs.variables[to].expr());
        let mut pairs = pairs.filter(condition)?;
        pairs.variables.remove(to);
        pairs.only_variables()
    }

    /// Each node connected with itself: a term of the query, or every node of the graph.
    fn no_step(&mut self, from: &Slot, to: &Slot, graphs: &Graphs) -> Result<Solutions> {
        let (slots, id) = match (from, to) {
            (Slot::Constant(one), Slot::Constant(other)) => {
                let all = self.one_in(graphs)?;
                return match one == other {
                    true => Ok(all),
                    false => all.filter(lit(false)),
                };
            }
            (Slot::Constant(id), Slot::Variable(name)) | (Slot::Variable(name), Slot::Constant(id)) => ([name].to_vec(), *id),
            (Slot::Variable(from), Slot::Variable(to)) => {
                let nodes = self.nodes(from, graphs)?;
                let value = nodes.variables[from].expr();
                return nodes.extend(&mut self.names, to, value, false);
            }
        };
        let mut found = self.one_in(graphs)?;
        for name in slots {
            found = found.extend(&mut self.names, name, lit(id.0), false)?;
        }
        Ok(found)
    }

    /// One solution, for each graph where there are several.
    fn one_in(&mut self, graphs: &Graphs) -> Result<Solutions> {
        match graphs {
            Graphs::Each(name, among) => self.quads.named_graphs(&mut self.names, name, among.as_deref()),
            _ => Solutions::one(),
        }
    }

    /// The nodes of the graphs: subjects and objects, each once.
    fn nodes(&mut self, name: &str, graphs: &Graphs) -> Result<Solutions> {
        let mut sides = Vec::new();
        for place in [0, 2] {
            let mut slots = [self.fresh_slot().0, self.fresh_slot().0, self.fresh_slot().0];
            slots[place] = Slot::Variable(name.to_owned());
            let [subject, predicate, object] = &slots;
            let mut found = self
                .quads
                .matching(&mut self.names, [subject, predicate, object], graphs, "nodes")?;
            let fresh = slots.iter().filter_map(|slot| match slot {
                Slot::Variable(fresh) if fresh != name => Some(fresh),
                _ => None,
            });
            for fresh in fresh {
                found.variables.remove(fresh);
            }
            sides.push(found.only_variables()?);
        }
        let (Some(second), Some(first)) = (sides.pop(), sides.pop()) else {
            return Solutions::none();
        };
        first.union(&mut self.names, second)?.distinct(&mut self.names)
    }

    fn closed(&mut self, subject: &Slot, closure: &Closure<'_>, object: &Slot, graphs: &Graphs) -> Result<Solutions> {
        // From the end that is a term, if one is.
        let is_backward = matches!((subject, object), (Slot::Variable(_), Slot::Constant(_)));
        let (start, end) = if is_backward { (object, subject) } else { (subject, object) };
        let (start, end) = (start.clone(), end.clone());
        let (from, to) = self.ends(&start, &end);
        if let (Slot::Variable(name), false, Some(indexed)) = (&from, closure.reflexive, self.indexed(closure.step, is_backward, graphs)?) {
            // Where no edge begins nothing is reached.
            let column = self.names.fresh(name);
            let mut input = Solutions::one()?;
            input.estimate = None;
            input.variables.insert(name.clone(), Binding::new(column.clone(), false));
            let found = self.expanded(input, EdgePlan::Index(indexed), Start::Everywhere(column), None, false, &to)?;
            return self.close(found, &start, &end, &to);
        }
        let (input, column) = match &from {
            Slot::Constant(id) => {
                let column = self.names.fresh("#start");
                let mut input = self.one_in(graphs)?;
                let mut columns = input.columns();
                columns.push(lit(ScalarValue::UInt64(Some(id.0))).alias(&column));
                input.plan = projected(input.plan, columns)?;
                (input, column)
            }
            Slot::Variable(name) => {
                let input = match closure.reflexive {
                    true => self.nodes(name, graphs)?,
                    false => {
                        let (other, hidden) = self.fresh_slot();
                        let (one, two) = if is_backward { (&other, &from) } else { (&from, &other) };
                        let mut edges = self.connected(one, closure.step, two, graphs)?;
                        edges.variables.remove(&hidden);
                        edges.only_variables()?.distinct(&mut self.names)?
                    }
                };
                let column = input.variables[name].column.clone();
                (input, column)
            }
        };
        let graph = match graphs {
            Graphs::Each(name, _) => input.variables.get(name).map(|binding| binding.column.clone()),
            _ => None,
        };
        let found = self.searched(input, &column, graph, closure, is_backward, &to, graphs)?;
        self.close(found, &start, &end, &to)
    }

    /// Each solution with what is reached from the node in one of its columns.
    #[allow(clippy::too_many_arguments)]
    fn searched(
        &mut self,
        input: Solutions,
        start: &str,
        graph: Option<String>,
        closure: &Closure<'_>,
        is_backward: bool,
        end: &Slot,
        graphs: &Graphs,
    ) -> Result<Solutions> {
        let edges = match self.indexed(closure.step, is_backward, graphs)? {
            Some(indexed) => EdgePlan::Index(indexed),
            None => EdgePlan::Rows(self.edges(closure.step, is_backward, graphs)?),
        };
        self.expanded(input, edges, Start::Column(start.to_owned()), graph, closure.reflexive, end)
    }

    /// The edges of a step as quads, if they are quads of one graph or of all of them.
    fn indexed(&self, step: &Path, is_backward: bool, graphs: &Graphs) -> Result<Option<Indexed>> {
        let graph = match graphs {
            Graphs::One(id) => Some(id.0),
            Graphs::Merged(None) => None,
            Graphs::Merged(Some(_)) | Graphs::Each(..) => return Ok(None),
        };
        let Some(predicates) = predicates(step, !is_backward) else {
            return Ok(None);
        };
        let id = |(iri, forward): (&NamedNode, bool)| Ok((self.context.id(Encoded::iri(iri.as_ref()))?.0, forward));
        Ok(Some(Indexed {
            index: Arc::clone(&self.index),
            steps: predicates.into_iter().map(id).collect::<Result<_>>()?,
            graph,
        }))
    }

    /// The edges of any step as rows.
    fn edges(&mut self, step: &Path, is_backward: bool, graphs: &Graphs) -> Result<LogicalPlan> {
        let ((from, from_name), (to, to_name)) = (self.fresh_slot(), self.fresh_slot());
        let (one, two) = if is_backward { (&to, &from) } else { (&from, &to) };
        let edges = self.connected(one, step, two, graphs)?;
        let mut columns = vec![edges.variables[&from_name].expr(), edges.variables[&to_name].expr()];
        if let Graphs::Each(name, _) = graphs {
            columns.push(edges.variables[name].expr());
        }
        projected(edges.plan, columns)
    }

    fn expanded(
        &mut self,
        input: Solutions,
        edges: EdgePlan,
        start: Start,
        graph: Option<String>,
        reflexive: bool,
        end: &Slot,
    ) -> Result<Solutions> {
        let column = self.names.fresh("end");
        let search = Search {
            start,
            graph,
            end: column.clone(),
            reflexive,
        };
        let mut found = Solutions {
            plan: expand(input.plan, edges, search)?,
            variables: input.variables,
            order: Vec::new(),
            estimate: None,
        };
        let reached = ident(&column);
        match end {
            Slot::Constant(TermId(id)) => found.filter(reached.eq(lit(*id))),
            Slot::Variable(name) => match found.variables.get(name).cloned() {
                None => {
                    found.variables.insert(name.clone(), Binding::new(column, false));
                    Ok(found)
                }
                Some(bound) if !bound.optional => found.filter(reached.eq(bound.expr())),
                Some(bound) => {
                    let agrees = bound.expr().is_null().or(bound.expr().eq(reached.clone()));
                    let mut found = found.filter(agrees)?;
                    found.variables.remove(name);
                    found.extend(&mut self.names, name, reached, false)
                }
            },
        }
    }
}
