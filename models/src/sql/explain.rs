//! `EXPLAIN [ANALYZE] [VERBOSE]`. Explaining a write shows how its rows are selected, and writes nothing.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::format::ExplainFormat;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{ExplainOption, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::parser::{ExplainStatement, Statement as DataFusionStatement};
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use futures::{StreamExt, stream};

use super::dml::Dml;
use crate::error::{Error, Result};
use crate::session::{OpenTransaction, Parameters, QueryResult, Reader, Session, bind, run_plan};

/// Explains a statement.
pub(crate) async fn run(session: &Session, explain: ExplainStatement, parameters: &Parameters) -> Result<QueryResult> {
    let statement = match explain.statement.as_ref() {
        DataFusionStatement::Statement(statement) => statement.as_ref().clone(),
        other => return Err(Error::unsupported(format!("EXPLAIN {other} is not supported"))),
    };
    match statement {
        SqlStatement::Query(_) => {
            let state = session.statement_state();
            let reader = session.reader().await?;
            let catalog = session.engine().catalog.snapshot()?;
            let planner = super::context::Planner {
                engine: session.engine(),
                state: &state,
                catalog,
                reader: &reader,
            };
            let plan = planner.plan(DataFusionStatement::Explain(explain)).await?;
            let plan = bind(plan, parameters)?;
            let mut result = session.run_query(&state, &plan, &reader).await?;
            result.tag = "EXPLAIN";
            if let LogicalPlan::Explain(explain) = &plan
                && explain.explain_format == ExplainFormat::Indent
                && let Some(stages) = stages(session, &state, &explain.plan, &reader).await?
            {
                result.stream = with_row(result.stream, "distributed_plan", stages)?;
            }
            Ok(result)
        }
        SqlStatement::Insert(_) | SqlStatement::Update(_) | SqlStatement::Delete(_) | SqlStatement::Merge(_) => {
            if explain.options.analyze {
                return Err(Error::unsupported("EXPLAIN ANALYZE would run the write").with_hint("use EXPLAIN"));
            }
            let state = session.statement_state();
            let mut open = session.inner.transaction.lock().await;
            let plan = match open.as_mut() {
                Some(transaction) => write_plan(session, &state, transaction, statement, parameters).await?,
                None => {
                    let mut transaction = OpenTransaction::begin(session.engine(), session.isolation()).await?;
                    write_plan(session, &state, &mut transaction, statement, parameters).await?
                }
            };
            drop(open);
            let option = ExplainOption {
                verbose: explain.options.verbose,
                ..ExplainOption::default()
            };
            let plan = LogicalPlanBuilder::from(Arc::new(plan)).explain_option_format(option)?.build()?;
            let mut result = run_plan(&state, &plan).await?;
            result.tag = "EXPLAIN";
            Ok(result)
        }
        other => Err(Error::unsupported(format!("EXPLAIN {other} is not supported"))),
    }
}

/// The stages of a query that runs on several nodes.
async fn stages(session: &Session, state: &SessionState, query: &LogicalPlan, reader: &Reader) -> Result<Option<String>> {
    if session.engine().distributed.get().is_none() {
        return Ok(None);
    }
    let local = state.create_physical_plan(query).await?;
    let distributed = session.distribute(state, query, &local, reader).await;
    Ok(distributed.map(|(_, plan)| plan.display()))
}

/// The rows of an explanation, and one more.
fn with_row(rows: SendableRecordBatchStream, kind: &str, text: String) -> Result<SendableRecordBatchStream> {
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec![kind])), Arc::new(StringArray::from(vec![text]))];
    let schema = rows.schema();
    let row = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let rows = rows.chain(stream::once(async { Ok(row) }));
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}

async fn write_plan(
    session: &Session,
    state: &SessionState,
    transaction: &mut OpenTransaction,
    statement: SqlStatement,
    parameters: &Parameters,
) -> Result<LogicalPlan> {
    Dml::new(session.engine(), state, transaction, parameters).explain(statement).await
}
