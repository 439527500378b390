//! `ON CONFLICT`: which rows are new, and what becomes of those whose key exists.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{filter_record_batch, take_record_batch};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::{DFSchema, TableReference};
use datafusion::logical_expr::{Expr as LogicalExpr, ExprSchemable};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{Assignment, AssignmentTarget, ConflictTarget, Expr, OnConflictAction, OnInsert};

use super::insert::{default_of, is_default};
use super::{Dml, RowCheck};
use crate::catalog::TableDefinition;
use crate::error::{Error, ErrorKind, Result, nearest};
use crate::session::Parameters;
use crate::sql::context::Planner;
use crate::sql::name;

/// What an INSERT does with rows whose key exists.
pub(crate) enum OnConflict {
    /// It fails.
    Fail,
    /// They are left out.
    Nothing,
    /// The existing rows change.
    Update(ConflictUpdate),
}

/// The change of existing rows, over the columns of the table and those of `excluded`.
pub(crate) struct ConflictUpdate {
    assignments: Vec<(usize, Arc<dyn PhysicalExpr>)>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    schema: Arc<Schema>,
}

impl OnConflict {
    /// Plans the clause.
    pub(super) fn new(
        planner: &Planner<'_>,
        table: &TableDefinition,
        alias: &str,
        on: Option<OnInsert>,
        parameters: &Parameters,
    ) -> Result<OnConflict> {
        let conflict = match on {
            None => return Ok(OnConflict::Fail),
            Some(OnInsert::OnConflict(conflict)) => conflict,
            Some(_) => return Err(Error::unsupported("this ON clause is not supported").with_hint("use ON CONFLICT (key) DO UPDATE SET …")),
        };
        check_conflict_target(table, conflict.conflict_target.as_ref())?;
        match conflict.action {
            OnConflictAction::DoNothing => Ok(OnConflict::Nothing),
            OnConflictAction::DoUpdate(_) if table.hidden_key => Err(Error::invalid(
                "42P10",
                format!("{} has no primary key that rows could conflict with", table.name),
            )),
            OnConflictAction::DoUpdate(update) => {
                ConflictUpdate::new(planner, table, alias, update.assignments, update.selection, parameters).map(OnConflict::Update)
            }
        }
    }

    /// Splits rows to insert into new ones and changed existing ones.
    pub(super) async fn split(
        &self,
        dml: &mut Dml<'_>,
        table: &TableDefinition,
        check: &RowCheck,
        batch: RecordBatch,
    ) -> Result<(Option<RecordBatch>, Option<RecordBatch>)> {
        let views = dml.transaction.views(table.relation.id)?;
        let keys: Vec<ArrayRef> = table.relation.key.iter().map(|&i| Arc::clone(batch.column(i))).collect();
        let places = views.lookup(&keys)?;
        let mut seen = HashSet::with_capacity(batch.num_rows());
        let mut fresh = Vec::with_capacity(batch.num_rows());
        let mut existing = Vec::new();
        for (row, (key, place)) in views.encode_keys(&keys)?.into_iter().zip(places).enumerate() {
            let first = seen.insert(key);
            if !first && matches!(self, OnConflict::Update(_)) {
                return Err(
                    Error::new(ErrorKind::Constraint, "21000", "ON CONFLICT DO UPDATE would change one row twice")
                        .with_hint("the inserted rows hold one key more than once"),
                );
            }
            fresh.push(first && place.is_none());
            if let Some(place) = place {
                existing.push((row as u64, place));
            }
        }
        let new = filter_record_batch(&batch, &BooleanArray::from(fresh))?;
        let new = (new.num_rows() > 0).then_some(new);
        let OnConflict::Update(update) = self else { return Ok((new, None)) };
        if existing.is_empty() {
            return Ok((new, None));
        }
        let excluded = take_record_batch(&batch, &UInt64Array::from_iter_values(existing.iter().map(|(row, _)| *row)))?;
        let places: Vec<_> = existing.into_iter().map(|(_, place)| place).collect();
        let all: Vec<usize> = (0..table.relation.schema.fields().len()).collect();
        let current = views.fetch(&places, &all)?;
        Ok((new, update.apply(table, check, &current, &excluded)?))
    }
}

impl ConflictUpdate {
    fn new(
        planner: &Planner<'_>,
        table: &TableDefinition,
        alias: &str,
        assignments: Vec<Assignment>,
        selection: Option<Expr>,
        parameters: &Parameters,
    ) -> Result<ConflictUpdate> {
        let visible = table.visible_schema();
        let current = DFSchema::try_from_qualified_schema(TableReference::bare(alias), &visible)?;
        let excluded = DFSchema::try_from_qualified_schema(TableReference::bare("excluded"), &visible)?;
        let both = current.join(&excluded)?;
        // A bare column means the existing row's; `excluded` has to be named.
        let bare = |expr: Expr| -> Result<LogicalExpr> {
            let expr = planner.plan_expr(qualify(expr, alias, &visible), &both)?;
            crate::session::bind_expr(expr, &both, parameters)
        };
        let mut planned = Vec::with_capacity(assignments.len());
        for assignment in assignments {
            let column = assigned_column(&assignment, table)?;
            if table.relation.key.contains(&column) {
                return Err(Error::unsupported("ON CONFLICT DO UPDATE cannot change key columns"));
            }
            let field = visible.field(column);
            let value = if is_default(&assignment.value) {
                default_of(table, field.name())?
            } else {
                assignment.value
            };
            let expr = bare(value)?.cast_to(field.data_type(), &both)?;
            planned.push((column, planner.state.create_physical_expr(expr, &both)?));
        }
        let filter = match selection {
            Some(selection) => Some(planner.state.create_physical_expr(bare(selection)?, &both)?),
            None => None,
        };
        let schema = Arc::new(Schema::new(
            both.fields()
                .iter()
                .map(|f| f.as_ref().clone().with_nullable(true))
                .collect::<Vec<Field>>(),
        ));
        Ok(ConflictUpdate {
            assignments: planned,
            filter,
            schema,
        })
    }

    /// New versions of the existing rows; `None` when the WHERE clause keeps all of them as they are.
    fn apply(
        &self,
        table: &TableDefinition,
        check: &RowCheck,
        current: &RecordBatch,
        excluded: &RecordBatch,
    ) -> Result<Option<RecordBatch>> {
        let visible = table.columns.len();
        let columns = current.columns()[..visible]
            .iter()
            .chain(&excluded.columns()[..visible])
            .cloned()
            .collect();
        let mut both = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let mut current = current.clone();
        if let Some(filter) = &self.filter {
            let keep = filter.evaluate(&both)?.into_array(both.num_rows())?;
            both = filter_record_batch(&both, keep.as_boolean())?;
            current = filter_record_batch(&current, keep.as_boolean())?;
        }
        if current.num_rows() == 0 {
            return Ok(None);
        }
        let mut columns = current.columns().to_vec();
        for (column, expr) in &self.assignments {
            columns[*column] = expr.evaluate(&both)?.into_array(both.num_rows())?;
        }
        check.finish(columns).map(Some)
    }
}

/// The position of the column that an assignment sets.
pub(super) fn assigned_column(assignment: &Assignment, table: &TableDefinition) -> Result<usize> {
    let AssignmentTarget::ColumnName(target) = &assignment.target else {
        return Err(Error::unsupported("assigning to several columns at once is not supported").with_hint("write SET a = …, b = …"));
    };
    let column = name::last_part(target)?;
    let visible = table.visible_schema();
    visible.index_of(&column).map_err(|_| {
        let error = Error::invalid("42703", format!("column {column} of {} does not exist", table.name));
        match nearest(&column, visible.fields().iter().map(|f| f.name().as_str())) {
            Some(near) => error.with_hint(format!("did you mean {near}?")),
            None => error,
        }
    })
}

fn check_conflict_target(table: &TableDefinition, target: Option<&ConflictTarget>) -> Result<()> {
    let Some(target) = target else { return Ok(()) };
    let key = table.primary_key();
    let fits = match target {
        ConflictTarget::Columns(columns) => {
            let columns: HashSet<String> = columns.iter().map(name::fold).collect();
            columns.len() == key.len() && key.iter().all(|k| columns.contains(*k))
        }
        ConflictTarget::OnConstraint(_) => false,
    };
    if fits {
        return Ok(());
    }
    Err(
        Error::invalid("42P10", format!("ON CONFLICT needs the primary key of {}", table.name)).with_hint(if key.is_empty() {
            "the table has none".to_owned()
        } else {
            format!("write ON CONFLICT ({})", key.join(", "))
        }),
    )
}

/// Puts `alias` before every bare column of the table, so that it is not ambiguous with `excluded`'s.
fn qualify(mut expr: Expr, alias: &str, visible: &Schema) -> Expr {
    use std::ops::ControlFlow;

    use datafusion::sql::sqlparser::ast::{Ident, visit_expressions_mut};
    let _: ControlFlow<()> = visit_expressions_mut(&mut expr, |expr| {
        if let Expr::Identifier(ident) = expr
            && visible.index_of(&name::fold(ident)).is_ok()
        {
            *expr = Expr::CompoundIdentifier(vec![Ident::with_quote('"', alias), ident.clone()]);
        }
        ControlFlow::Continue(())
    });
    expr
}
