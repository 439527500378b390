//! `MERGE INTO t USING s ON … WHEN [NOT] MATCHED … THEN …`.
//!
//! Planned as one join of target and source that computes, a row, which clause applies and the new values; the rows are then written clause
//! by clause. A target row that two source rows would change is an error, as the standard says.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::Int32Type;
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, JoinConstraint, JoinOperator, Merge, MergeAction, MergeClause, MergeClauseKind, MergeInsertKind,
    SelectItem, TableFactor, Value,
};
use futures::StreamExt;

use super::conflict::{OnConflict, assigned_column};
use super::insert::{default_of, is_default};
use super::{Dml, DmlOutcome, RowCheck};
use crate::catalog::TableDefinition;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::name;
use crate::sql::template::{SelectTemplate, column, item, target_of};

/// Marks source rows, so that "no source row" differs from "a source row of nulls".
const IN_SOURCE: &str = "__in_source";

/// What a clause does with its rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Insert,
    Update,
    Delete,
}

/// How a MERGE selects: the clause's number, the target's key, then every visible column's new value.
pub(super) struct MergePlan {
    pub(super) plan: LogicalPlan,
    table: Arc<TableDefinition>,
    alias: String,
    actions: Vec<Action>,
}

impl Dml<'_> {
    pub(super) async fn merge(&mut self, merge: Merge) -> Result<DmlOutcome> {
        let MergePlan {
            plan,
            table,
            alias,
            actions,
        } = self.merge_plan(&merge).await?;
        let reader = self.reader()?;
        let planner = self.planner(&reader)?;
        let check = RowCheck::new(&planner, &table)?;
        let on = OnConflict::new(&planner, &table, &alias, None, self.parameters)?;
        let mut stream = self.stream(&plan).await?;
        let mut changed = HashSet::new();
        let mut affected = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            let clause = batch.column(0).as_primitive::<Int32Type>().clone();
            for (number, action) in actions.iter().enumerate() {
                let of_clause: BooleanArray = clause.iter().map(|c| Some(c == Some(number as i32))).collect();
                if of_clause.true_count() > 0 {
                    let rows = filter_record_batch(&batch, &of_clause)?;
                    affected += self.merge_rows(&table, &check, &on, *action, &rows, &mut changed).await?;
                }
            }
        }
        Ok(DmlOutcome {
            tag: "MERGE",
            affected,
            returned: None,
        })
    }

    async fn merge_rows(
        &mut self,
        table: &Arc<TableDefinition>,
        check: &RowCheck,
        on: &OnConflict,
        action: Action,
        rows: &RecordBatch,
        changed: &mut HashSet<Box<[u8]>>,
    ) -> Result<u64> {
        let key_count = table.relation.key.len();
        let keys: Vec<ArrayRef> = rows.columns()[1..=key_count].to_vec();
        let values = rows.columns()[1 + key_count..].to_vec();
        if matches!(action, Action::Update | Action::Delete) {
            let views = self.transaction.views(table.relation.id)?;
            if !views.encode_keys(&keys)?.into_iter().all(|key| changed.insert(key)) {
                return Err(
                    Error::new(ErrorKind::Constraint, "21000", "MERGE would change one row of the target twice")
                        .with_hint("make the source's rows match each target row at most once"),
                );
            }
        }
        match action {
            Action::Insert => self.insert_batch(table, check, on, values, None).await,
            Action::Delete => {
                let keys = RecordBatch::try_new(table.relation.key_schema(), keys)?;
                self.transaction.delete(table.relation.id, keys).await
            }
            Action::Update => {
                let mut columns = values;
                if table.hidden_key {
                    columns.extend(keys);
                }
                let rows = check.finish(columns)?;
                let count = rows.num_rows() as u64;
                self.transaction.put(table.relation.id, rows).await?;
                Ok(count)
            }
        }
    }

    pub(super) async fn merge_plan(&mut self, merge: &Merge) -> Result<MergePlan> {
        if merge.output.is_some() {
            return Err(Error::unsupported("MERGE with OUTPUT or RETURNING is not supported"));
        }
        let (sql_name, alias) = target_of(&merge.table)?;
        let table = self.table(&sql_name)?;
        let source_alias = source_alias(&merge.source)?;
        let Some(first_key) = table.relation.key.first().map(|&k| table.relation.schema.field(k).name().clone()) else {
            return Err(Error::internal("a relation has no key"));
        };
        let clauses = Clauses {
            table: &table,
            alias: &alias,
            source_alias: &source_alias,
            first_key,
        };
        let mut branches = Vec::new();
        let mut values: Vec<Vec<CaseWhen>> = vec![Vec::new(); table.columns.len()];
        let mut actions = Vec::new();
        for (number, clause) in merge.clauses.iter().enumerate() {
            let when = clauses.condition(clause);
            branches.push(CaseWhen {
                condition: when.clone(),
                result: number_literal(number),
            });
            let (action, new) = clauses.action(clause)?;
            actions.push(action);
            for (column, value) in new.into_iter().enumerate() {
                values[column].push(CaseWhen {
                    condition: when.clone(),
                    result: value,
                });
            }
        }
        let mut projection: Vec<SelectItem> = vec![item(case(branches), "__clause")];
        for (i, &k) in table.relation.key.iter().enumerate() {
            projection.push(item(column(&alias, table.relation.schema.field(k).name()), format!("__key{i}")));
        }
        // CASE evaluates its branches in order, so a value belongs to the first clause whose condition holds, as the clause number does.
        projection.extend(
            values
                .into_iter()
                .enumerate()
                .map(|(i, branches)| item(case(branches), format!("__new{i}"))),
        );
        let statement = self.merge_template(merge, &alias, &source_alias, projection)?;
        let plan = self.plan_over_target(&table, statement).await?;
        let plan = finish_plan(plan, &table)?;
        Ok(MergePlan {
            plan,
            table,
            alias,
            actions,
        })
    }

    /// `SELECT … FROM target FULL JOIN (SELECT *, true AS __in_source FROM source) AS s ON …`
    fn merge_template(
        &self,
        merge: &Merge,
        alias: &str,
        source_alias: &str,
        projection: Vec<SelectItem>,
    ) -> Result<datafusion::sql::parser::Statement> {
        // The kind of join is replaced below; the template has one so that its tree has the right shape.
        let mut template = SelectTemplate::new(&format!(
            "{} AS {} FULL JOIN (SELECT *, true AS {IN_SOURCE} FROM {}) AS {} ON true",
            crate::sql::template::TARGET,
            name::quote(alias),
            "__source_placeholder",
            name::quote(source_alias),
        ))?;
        let kind = |k: MergeClauseKind| merge.clauses.iter().any(|c| c.clause_kind == k);
        let by_source = kind(MergeClauseKind::NotMatchedBySource);
        let not_matched = kind(MergeClauseKind::NotMatched) || kind(MergeClauseKind::NotMatchedByTarget);
        let on = JoinConstraint::On((*merge.on).clone());
        let select = template.select()?;
        select.projection = projection;
        let Some(join) = select.from.first_mut().and_then(|from| from.joins.first_mut()) else {
            return Err(Error::internal("a template has no join"));
        };
        join.join_operator = match (by_source, not_matched) {
            (true, true) => JoinOperator::FullOuter(on),
            (true, false) => JoinOperator::LeftOuter(on),
            (false, true) => JoinOperator::RightOuter(on),
            (false, false) => JoinOperator::Inner(on),
        };
        replace_source(&mut join.relation, merge.source.clone())?;
        Ok(template.into_statement())
    }
}

/// The clauses of one MERGE.
struct Clauses<'a> {
    table: &'a TableDefinition,
    alias: &'a str,
    source_alias: &'a str,
    first_key: String,
}

impl Clauses<'_> {
    /// When a clause applies, leaving aside the clauses before it.
    fn condition(&self, clause: &MergeClause) -> Expr {
        let in_target = Expr::IsNotNull(Box::new(column(self.alias, &self.first_key)));
        let not_in_target = Expr::IsNull(Box::new(column(self.alias, &self.first_key)));
        let in_source = Expr::IsNotNull(Box::new(column(self.source_alias, IN_SOURCE)));
        let not_in_source = Expr::IsNull(Box::new(column(self.source_alias, IN_SOURCE)));
        let base = match clause.clause_kind {
            MergeClauseKind::Matched => and(in_target, in_source),
            MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => not_in_target,
            MergeClauseKind::NotMatchedBySource => not_in_source,
        };
        match &clause.predicate {
            Some(predicate) => and(base, Expr::Nested(Box::new(predicate.clone()))),
            None => base,
        }
    }

    /// What a clause does, and each visible column's new value.
    fn action(&self, clause: &MergeClause) -> Result<(Action, Vec<Expr>)> {
        let fields = self.table.visible_schema();
        let inserting = matches!(
            clause.clause_kind,
            MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget
        );
        match &clause.action {
            MergeAction::Insert(insert) if inserting && insert.insert_predicate.is_none() => {
                let MergeInsertKind::Values(values) = &insert.kind else {
                    return Err(Error::unsupported("MERGE … INSERT ROW is not supported").with_hint("list columns and VALUES"));
                };
                let [row] = values.rows.as_slice() else {
                    return Err(Error::invalid("42601", "MERGE … INSERT takes one row of VALUES"));
                };
                let columns = if insert.columns.is_empty() {
                    fields.fields().iter().map(|f| f.name().clone()).collect()
                } else {
                    insert.columns.iter().map(name::last_part).collect::<Result<Vec<_>>>()?
                };
                if columns.len() != row.content.len() {
                    return Err(Error::invalid(
                        "42601",
                        format!("{} columns, but {} values", columns.len(), row.content.len()),
                    ));
                }
                let mut new = fields
                    .fields()
                    .iter()
                    .map(|f| default_of(self.table, f.name()))
                    .collect::<Result<Vec<_>>>()?;
                for (name, value) in columns.iter().zip(&row.content) {
                    let position = fields
                        .index_of(name)
                        .map_err(|_| Error::invalid("42703", format!("column {name} of {} does not exist", self.table.name)))?;
                    if !is_default(value) {
                        new[position] = value.clone();
                    }
                }
                Ok((Action::Insert, new))
            }
            MergeAction::Update(update) if !inserting && update.update_predicate.is_none() && update.delete_predicate.is_none() => {
                let mut new: Vec<Expr> = fields.fields().iter().map(|f| column(self.alias, f.name())).collect();
                for assignment in &update.assignments {
                    let position = assigned_column(assignment, self.table)?;
                    if self.table.relation.key.contains(&position) {
                        return Err(Error::unsupported("MERGE cannot change key columns").with_hint("delete and insert instead"));
                    }
                    let value = &assignment.value;
                    new[position] = if is_default(value) {
                        default_of(self.table, fields.field(position).name())?
                    } else {
                        value.clone()
                    };
                }
                Ok((Action::Update, new))
            }
            MergeAction::Delete { .. } if !inserting => Ok((Action::Delete, vec![null(); fields.fields().len()])),
            other => Err(Error::invalid(
                "42601",
                format!("{other} cannot follow WHEN {}", clause.clause_kind),
            )),
        }
    }
}

/// Leaves out rows without a clause, and casts the new values to their columns' types.
fn finish_plan(plan: LogicalPlan, table: &TableDefinition) -> Result<LogicalPlan> {
    let skip = 1 + table.relation.key.len();
    let schema = Arc::clone(plan.schema());
    let mut exprs = Vec::with_capacity(schema.fields().len());
    for (i, column) in schema.columns().into_iter().enumerate() {
        let name = column.name.clone();
        let expr = LogicalExpr::Column(column);
        exprs.push(match i {
            0 => expr.cast_to(&datafusion::arrow::datatypes::DataType::Int32, &schema)?.alias(name),
            i if i < skip => expr,
            i => expr
                .cast_to(table.relation.schema.field(i - skip).data_type(), &schema)?
                .alias(name),
        });
    }
    let plan = LogicalPlanBuilder::from(plan).project(exprs)?;
    Ok(plan.filter(datafusion::prelude::col("__clause").is_not_null())?.build()?)
}

fn source_alias(source: &TableFactor) -> Result<String> {
    match source {
        TableFactor::Table { name, alias, .. } => Ok(match alias {
            Some(alias) => name::fold(&alias.name),
            None => name::last_part(name)?,
        }),
        TableFactor::Derived { alias: Some(alias), .. } => Ok(name::fold(&alias.name)),
        _ => Err(Error::invalid("42601", "the source of MERGE is a table, or a query with an alias")),
    }
}

/// Puts the source into `(SELECT *, true FROM here) AS s`.
fn replace_source(relation: &mut TableFactor, source: TableFactor) -> Result<()> {
    use datafusion::sql::sqlparser::ast::SetExpr;
    if let TableFactor::Derived { subquery, .. } = relation
        && let SetExpr::Select(select) = subquery.body.as_mut()
        && let Some(from) = select.from.first_mut()
    {
        from.relation = source;
        return Ok(());
    }
    Err(Error::internal("a template has no source"))
}

fn and(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::And,
        right: Box::new(right),
    }
}

fn null() -> Expr {
    Expr::Value(Value::Null.with_empty_span())
}

fn number_literal(number: usize) -> Expr {
    Expr::Value(Value::Number(number.to_string(), false).with_empty_span())
}

fn case(conditions: Vec<CaseWhen>) -> Expr {
    if conditions.is_empty() {
        return null();
    }
    Expr::Case {
        case_token: datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
        end_token: datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions,
        else_result: None,
    }
}
