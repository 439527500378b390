//! Planning without running: result columns and parameters of a statement.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{Insert, Statement as SqlStatement};

use super::execute::{names_in, reads};
use super::{OpenTransaction, Parameters, Prepared, Session};
use crate::error::Result;
use crate::sql::call;
use crate::sql::context::Planner;
use crate::sql::dml::{Dml, is_literal};
use crate::sql::parse::{Statement, parse_one};

impl Session {
    pub(super) async fn prepare_text(&self, sql: &str) -> Result<Prepared> {
        let empty = || Arc::new(Schema::empty());
        let prepared = |schema: SchemaRef, parameters: SchemaRef, returns_rows: bool| {
            Ok(Prepared {
                sql: sql.to_owned(),
                schema,
                parameters,
                returns_rows,
            })
        };
        let parsed = parse_one(sql)?;
        if reads(&parsed) && !self.is_local(&parsed) {
            self.engine().fresh_catalog().await?;
        }
        let statement = match parsed {
            Statement::Sql(statement) => *statement,
            Statement::ShowCollections => return self.prepare_by_running(sql).await,
            _ => return prepared(empty(), empty(), false),
        };
        match statement {
            DataFusionStatement::Statement(statement) => match *statement {
                SqlStatement::Query(_) => {
                    let plan = self.plan_unbound(DataFusionStatement::Statement(statement)).await?;
                    prepared(Arc::new(plan.schema().as_arrow().clone()), parameters_of(&plan)?, true)
                }
                SqlStatement::Insert(ref insert)
                    if is_literal(insert)
                        && let Some(parameters) = self.literal_parameters(insert).await? =>
                {
                    prepared(empty(), parameters, false)
                }
                SqlStatement::Insert(_) | SqlStatement::Update(_) | SqlStatement::Delete(_) | SqlStatement::Merge(_) => {
                    let parameters = with_named_in(parameters_of(&self.plan_write(statement.as_ref().clone()).await?)?, &statement);
                    match self.returned_schema(*statement).await? {
                        Some(schema) => prepared(schema, parameters, true),
                        None => prepared(empty(), parameters, false),
                    }
                }
                SqlStatement::Call(ref function) => match call::columns(self, function)? {
                    Some(schema) => prepared(schema, texts_in(&statement), true),
                    None => prepared(empty(), texts_in(&statement), false),
                },
                SqlStatement::ShowTables { .. }
                | SqlStatement::ShowViews { .. }
                | SqlStatement::ShowSchemas { .. }
                | SqlStatement::ShowDatabases { .. }
                | SqlStatement::ShowColumns { .. }
                | SqlStatement::ExplainTable { .. }
                | SqlStatement::ShowVariable { .. } => self.prepare_by_running(sql).await,
                _ => prepared(empty(), empty(), false),
            },
            explain @ DataFusionStatement::Explain(_) => {
                let DataFusionStatement::Explain(inner) = &explain else {
                    return prepared(empty(), empty(), true);
                };
                let writes =
                    !matches!(inner.statement.as_ref(), DataFusionStatement::Statement(s) if matches!(**s, SqlStatement::Query(_)));
                if writes {
                    return prepared(explain_schema(), empty(), true);
                }
                let plan = self.plan_unbound(explain).await?;
                prepared(Arc::new(plan.schema().as_arrow().clone()), parameters_of(&plan)?, true)
            }
            _ => prepared(empty(), empty(), false),
        }
    }

    /// Statements that only read the catalog are cheap: their columns are those of their answer.
    async fn prepare_by_running(&self, sql: &str) -> Result<Prepared> {
        let result = self.execute_nested(sql.to_owned()).await?;
        Ok(Prepared {
            sql: sql.to_owned(),
            schema: result.schema,
            parameters: Arc::new(Schema::empty()),
            returns_rows: true,
        })
    }

    async fn plan_unbound(&self, statement: DataFusionStatement) -> Result<LogicalPlan> {
        let state = self.statement_state();
        let reader = self.reader().await?;
        let catalog = self.engine().catalog.snapshot()?;
        let planner = Planner {
            engine: self.engine(),
            state: &state,
            catalog,
            reader: &reader,
        };
        let plan = planner.plan(statement).await?;
        // The analyzer settles the types of results: a UNION of integers and decimals is decimal, say.
        Ok(state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?)
    }

    /// The parameters of an INSERT that needs no plan.
    async fn literal_parameters(&self, insert: &Insert) -> Result<Option<SchemaRef>> {
        let state = self.shared_state();
        let mut transaction = OpenTransaction::begin(self.engine(), self.isolation()).await?;
        let parameters = Dml::new(self.engine(), &state, &mut transaction, &Parameters::Open).literal_parameters(insert)?;
        Ok(parameters.map(|parameters| in_order(parameters.into_iter().map(|(name, field)| (name, Some(field))))))
    }

    /// The plan of a write with its parameters open.
    async fn plan_write(&self, statement: SqlStatement) -> Result<LogicalPlan> {
        let state = self.statement_state();
        let mut transaction = OpenTransaction::begin(self.engine(), self.isolation()).await?;
        Dml::new(self.engine(), &state, &mut transaction, &Parameters::Open)
            .explain(statement)
            .await
    }

    /// The columns that RETURNING gives.
    async fn returned_schema(&self, statement: SqlStatement) -> Result<Option<SchemaRef>> {
        let state = self.statement_state();
        let mut transaction = OpenTransaction::begin(self.engine(), self.isolation()).await?;
        Dml::new(self.engine(), &state, &mut transaction, &Parameters::Open)
            .returned_schema(statement)
            .await
    }
}

/// Adds the parameters that the plan of a write's rows does not hold: those of ON CONFLICT and RETURNING. Their types are not known.
fn with_named_in(known: SchemaRef, statement: &SqlStatement) -> SchemaRef {
    let mut fields: Vec<FieldRef> = known.fields().iter().cloned().collect();
    for name in names_in(statement) {
        if !fields.iter().any(|field| *field.name() == name) {
            fields.push(Arc::new(Field::new(name, DataType::Null, true)));
        }
    }
    fields.sort_by_key(|field| (parameter_number(field.name()), field.name().clone()));
    Arc::new(Schema::new(fields))
}

/// The parameters of a statement that takes texts.
fn texts_in(statement: &SqlStatement) -> SchemaRef {
    let text = |name: String| {
        let field = Field::new(&name, DataType::Utf8, true);
        (name, Some(Arc::new(field)))
    };
    in_order(names_in(statement).into_iter().map(text))
}

/// A numbered parameter's number; named ones come last.
fn parameter_number(name: &str) -> usize {
    name.trim_start_matches('$').parse().unwrap_or(usize::MAX)
}

fn explain_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("plan_type", DataType::Utf8, false),
        Field::new("plan", DataType::Utf8, false),
    ]))
}

/// The placeholders of a plan.
fn parameters_of(plan: &LogicalPlan) -> Result<SchemaRef> {
    Ok(in_order(plan.get_parameter_fields()?))
}

/// Placeholders in order of their number; type null where nothing tells it.
fn in_order(found: impl IntoIterator<Item = (String, Option<FieldRef>)>) -> SchemaRef {
    let mut fields: Vec<(String, Field)> = found
        .into_iter()
        .map(|(name, field)| {
            let data_type = field.map_or(DataType::Null, |f| f.data_type().clone());
            (name.clone(), Field::new(name, data_type, true))
        })
        .collect();
    fields.sort_by_key(|(name, _)| (parameter_number(name), name.clone()));
    Arc::new(Schema::new(fields.into_iter().map(|(_, field)| field).collect::<Vec<_>>()))
}
