//! `COPY … TO 'file'` and `COPY table FROM 'file'`.

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::physical_plan::common::collect;
use datafusion::sql::parser::{CopyToSource, CopyToStatement, Statement as DataFusionStatement};
use datafusion::sql::sqlparser::ast::{CopyOption, CopySource, CopyTarget, Statement as SqlStatement};

use crate::catalog::DEFAULT_SCHEMA;
use crate::error::{Error, Result};
use crate::external::{Format, checked_path};
use crate::session::{IngestMode, IngestRequest, Parameters, QueryResult, Session, bind, done, run_plan};
use crate::sql::context::Planner;
use crate::sql::name;

/// `COPY {table | (query)} TO 'file' [STORED AS format] [OPTIONS (…)]`: DataFusion writes the file.
pub(crate) async fn copy_to(session: &Session, mut copy: CopyToStatement) -> Result<QueryResult> {
    copy.target = checked_path(session.engine(), &copy.target)?.to_string_lossy().into_owned();
    if let CopyToSource::Query(query) = &copy.source
        && !matches!(
            query.body.as_ref(),
            datafusion::sql::sqlparser::ast::SetExpr::Select(_)
                | datafusion::sql::sqlparser::ast::SetExpr::Query(_)
                | datafusion::sql::sqlparser::ast::SetExpr::SetOperation { .. }
                | datafusion::sql::sqlparser::ast::SetExpr::Values(_)
        )
    {
        return Err(Error::unsupported("COPY of a write is not supported"));
    }
    let state = session.statement_state();
    let reader = session.reader().await?;
    let catalog = session.engine().catalog.snapshot()?;
    let planner = Planner {
        engine: session.engine(),
        state: &state,
        catalog,
        reader: &reader,
    };
    let plan = bind(planner.plan(DataFusionStatement::CopyTo(copy)).await?, &Parameters::None)?;
    let batches = collect(run_plan(&state, &plan).await?.stream).await?;
    // The writer answers with one row that holds the number of rows written.
    let written = batches.first().and_then(|b| {
        b.column(0)
            .as_primitive_opt::<UInt64Type>()
            .filter(|a| !a.is_empty())
            .map(|a| a.value(0))
    });
    Ok(done("COPY", written))
}

/// `COPY table [(columns)] FROM 'file' [(FORMAT format)]`: read as an external file, written as a bulk insert.
pub(crate) async fn copy_from(session: &Session, statement: SqlStatement) -> Result<QueryResult> {
    let SqlStatement::Copy {
        source,
        to: false,
        target: CopyTarget::File { filename },
        options,
        ..
    } = statement
    else {
        return Err(
            Error::unsupported("this form of COPY is not supported").with_hint("write COPY table FROM 'file' or COPY table TO 'file'")
        );
    };
    let CopySource::Table { table_name, columns } = source else {
        return Err(Error::invalid("42601", "COPY … FROM writes into a table"));
    };
    let mut format = filename.rsplit('.').next().and_then(Format::of);
    let mut header = true;
    for option in &options {
        match option {
            CopyOption::Format(word) => format = Format::of(&word.value),
            CopyOption::Header(value) => header = *value,
            other => return Err(Error::unsupported(format!("COPY … FROM with {other} is not supported"))),
        }
    }
    let Some(format) = format else {
        return Err(
            Error::invalid("22023", format!("{filename}: the format is not known")).with_hint("add (FORMAT parquet), csv, json or arrow")
        );
    };
    let path = checked_path(session.engine(), &filename)?;
    let state = session.statement_state();
    let target = name::resolve(&table_name, DEFAULT_SCHEMA)?;
    let (_, table) = session.engine().catalog.snapshot()?.require_table(&target)?;
    let names: Vec<String> = match columns.is_empty() {
        true => table.visible_schema().fields().iter().map(|f| f.name().clone()).collect(),
        false => columns.iter().map(name::fold).collect(),
    };
    let rows = crate::external::read_file(&state, &path, format, header, &table, &names).await?;
    let request = IngestRequest {
        schema: Some(target.schema),
        table: target.name,
        mode: IngestMode::Append,
    };
    let affected = session.ingest_rows(request, rows).await?;
    Ok(done("COPY", Some(affected)))
}
