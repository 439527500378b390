//! The planner's one door: resolves the names in a statement at one snapshot and plans it with DataFusion.
//!
//! Every language's front end ends here with a DataFusion logical plan over [`RelationTable`]s of one [`Reader`], so that all of them read
//! one snapshot and share one optimizer.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableFunctionArgs;
use datafusion::common::config::ConfigOptions;
use datafusion::common::file_options::file_type::FileType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, TableReference};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::file_format::format_as_file_type;
use datafusion::datasource::{TableProvider, ViewTable, provider_as_source};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprSchemable, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF, try_cast,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::resolve::resolve_table_references;

use super::name::resolve_reference;
use super::scalar_subquery::allow_nulls;
use super::set_operations::count_duplicates;
use super::{information_schema, mixed_types, table_function, template};
use crate::catalog::{CatalogSnapshot, CollectionKind, DEFAULT_SCHEMA, Object, ObjectName, TableDefinition};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::external;
use crate::kv;
use crate::rdf;
use crate::scan::RelationTable;
use crate::session::Reader;

/// Views may stand on views this deep.
const MAX_VIEW_DEPTH: usize = 32;

/// Plans statements of one session at one snapshot.
pub(crate) struct Planner<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) state: &'a SessionState,
    pub(crate) catalog: Arc<CatalogSnapshot>,
    pub(crate) reader: &'a Reader,
}

impl Planner<'_> {
    /// Plans a query or a DataFusion statement.
    pub(crate) async fn plan(&self, statement: DataFusionStatement) -> Result<LogicalPlan> {
        self.plan_with(statement, HashMap::new()).await
    }

    /// Plans a statement in which some names stand for tables of the caller's (the target of a DML statement, rows to return).
    pub(crate) async fn plan_with(
        &self,
        mut statement: DataFusionStatement,
        mut own: HashMap<String, Arc<dyn TableSource>>,
    ) -> Result<LogicalPlan> {
        own.extend(table_function::replace(self, &mut statement)?);
        let names = self.resolve(&statement, own, 0).await?;
        let planner = SqlToRel::new_with_options(&names, parser_options(self.state));
        let plan = match planner.statement_to_plan(statement.clone()) {
            Err(error) if names_clash(&error) => {
                name_columns(&mut statement);
                planner.statement_to_plan(statement)?
            }
            plan => plan?,
        };
        let plan = mixed_types::settle(allow_nulls(count_duplicates(plan)?)?)?;
        if names
            .tables
            .values()
            .any(|table| table.schema().fields().iter().any(|f| is_bytes(f.data_type())))
        {
            return match_bytes_as_text(plan);
        }
        Ok(plan)
    }

    /// A bucket as a table.
    pub(crate) fn bucket(&self, table: &TableDefinition) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(self.relation(table, table.visible_columns())?))
    }

    /// Plans an expression over a schema.
    pub(crate) fn plan_expr(&self, expr: datafusion::sql::sqlparser::ast::Expr, schema: &DFSchema) -> Result<Expr> {
        let names = Names {
            state: self.state,
            tables: HashMap::new(),
        };
        let planner = SqlToRel::new_with_options(&names, parser_options(self.state));
        let expr = planner.sql_to_expr(expr, schema, &mut PlannerContext::new())?;
        Ok(mixed_types::settle_expr(expr, schema)?.data)
    }

    /// The target of a DML statement with its hidden columns.
    pub(crate) fn target(&self, table: &TableDefinition) -> Result<Arc<dyn TableSource>> {
        let all = (0..table.relation.schema.fields().len()).collect();
        Ok(provider_as_source(self.relation(table, all)?))
    }

    fn relation(&self, table: &TableDefinition, columns: Vec<usize>) -> Result<Arc<dyn TableProvider>> {
        if table.kind == CollectionKind::KeyValue {
            return kv::bucket_source(table, self.reader, self.engine.node.now().millis());
        }
        let (views, reads) = self.reader.recorded(table.relation.id)?;
        Ok(Arc::new(
            RelationTable::try_new(table.name.to_string(), views, columns)?.recorded(reads),
        ))
    }

    async fn resolve(
        &self,
        statement: &DataFusionStatement,
        own: HashMap<String, Arc<dyn TableSource>>,
        depth: usize,
    ) -> Result<Names<'_>> {
        let normalize = self.state.config_options().sql_parser.enable_ident_normalization;
        let (references, _) = resolve_table_references(statement, normalize)?;
        let mut tables = HashMap::with_capacity(references.len());
        for reference in references {
            let own_table = if reference.schema().is_none() {
                own.get(reference.table())
            } else {
                None
            };
            let source = match own_table {
                Some(source) => Arc::clone(source),
                None => match self.source(&reference, depth).await? {
                    Some(source) => source,
                    None => continue,
                },
            };
            tables.insert(reference, source);
        }
        Ok(Names { state: self.state, tables })
    }

    /// The table behind a reference; `None` for names that the planner resolves itself (table functions).
    async fn source(&self, reference: &TableReference, depth: usize) -> Result<Option<Arc<dyn TableSource>>> {
        if reference.schema().is_none() && self.state.table_functions().contains_key(reference.table()) {
            return Ok(None);
        }
        if reference.schema() == Some(information_schema::SCHEMA) {
            return Ok(Some(provider_as_source(information_schema::table(self, reference.table())?)));
        }
        if reference.schema().is_none()
            && let Some(file) = external::file_table(self.engine, self.state, reference.table()).await?
        {
            return Ok(Some(provider_as_source(file)));
        }
        let name = resolve_reference(reference, DEFAULT_SCHEMA)?;
        Ok(Some(provider_as_source(self.provider(&name, depth).await?)))
    }

    /// The table provider of a named object.
    pub(crate) async fn provider(&self, name: &ObjectName, depth: usize) -> Result<Arc<dyn TableProvider>> {
        if let Some(dataset) = self.catalog.dataset_of(name) {
            return rdf::quads_table(dataset, self.reader);
        }
        let entry = self.catalog.require(name)?.clone();
        match entry.object.as_ref() {
            Object::Table(table) => self.relation(table, table.visible_columns()),
            Object::External { sql } => external::external_table(self.engine, self.state, sql).await,
            Object::Dataset(_) => Err(Error::invalid("42809", format!("{name} is a dataset of RDF, not a table"))
                .with_hint(format!("its quads are the table {name}.quads"))),
            Object::View(view) => {
                if depth >= MAX_VIEW_DEPTH {
                    return Err(Error::invalid(
                        "54001",
                        format!("view {name} stands on more than {MAX_VIEW_DEPTH} views"),
                    ));
                }
                let plan = Box::pin(self.view_plan(&view.query, &view.columns, depth + 1)).await?;
                Ok(Arc::new(ViewTable::new(plan, Some(view.query.clone()))))
            }
        }
    }

    async fn view_plan(&self, query: &str, columns: &[String], depth: usize) -> Result<LogicalPlan> {
        let super::parse::Statement::Sql(statement) = super::parse::parse_one(query)? else {
            return Err(Error::internal("a view is no query"));
        };
        let names = self.resolve(&statement, HashMap::new(), depth).await?;
        let plan = SqlToRel::new_with_options(&names, parser_options(self.state)).statement_to_plan(*statement)?;
        rename_columns(mixed_types::settle(allow_nulls(count_duplicates(plan)?)?)?, columns)
    }
}

/// Whether an error may come from the names that the planner gives to unnamed columns: `SELECT 1, 1`, or `SELECT o.id, (SELECT u.id …)`.
fn names_clash(error: &datafusion::error::DataFusionError) -> bool {
    let text = error.strip_backtrace();
    text.contains("require unique expression names") || text.contains("would be ambiguous") || text.contains("Ambiguous reference")
}

fn name_columns(statement: &mut DataFusionStatement) {
    match statement {
        DataFusionStatement::Statement(statement) => super::dialect::name_columns(statement),
        DataFusionStatement::Explain(explain) => name_columns(&mut explain.statement),
        _ => {}
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// `LIKE` over bytes compares them as text. What is not UTF-8 matches no pattern: the plain cast would fail the statement instead.
fn match_bytes_as_text(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|plan| {
        let schema = merge_schema(&plan.inputs());
        plan.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::Like(mut like) if like.expr.get_type(&schema).is_ok_and(|t| is_bytes(&t)) => {
                    like.expr = Box::new(try_cast(*like.expr, DataType::Utf8View));
                    Ok(Transformed::yes(Expr::Like(like)))
                }
                expr => Ok(Transformed::no(expr)),
            })
        })
    })?;
    Ok(plan.data)
}

/// Gives a plan's columns new names.
pub(crate) fn rename_columns(plan: LogicalPlan, columns: &[String]) -> Result<LogicalPlan> {
    if columns.is_empty() {
        return Ok(plan);
    }
    if columns.len() != plan.schema().fields().len() {
        return Err(Error::invalid(
            "42P16",
            format!(
                "the query has {} columns, but {} names are given",
                plan.schema().fields().len(),
                columns.len()
            ),
        ));
    }
    let exprs: Vec<Expr> = plan
        .schema()
        .columns()
        .into_iter()
        .zip(columns)
        .map(|(c, name)| Expr::Column(c).alias(name))
        .collect();
    Ok(datafusion::logical_expr::LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

/// The SQL planner's options as the session has them.
pub(crate) fn parser_options(state: &SessionState) -> ParserOptions {
    let options = &state.config_options().sql_parser;
    ParserOptions {
        parse_float_as_decimal: options.parse_float_as_decimal,
        enable_ident_normalization: options.enable_ident_normalization,
        enable_options_value_normalization: options.enable_options_value_normalization,
        support_varchar_with_length: options.support_varchar_with_length,
        map_string_types_to_utf8view: options.map_string_types_to_utf8view,
        collect_spans: options.collect_spans,
        default_null_ordering: options.default_null_ordering.as_str().into(),
    }
}

/// Names that have been looked up ahead of planning (planning itself is synchronous).
struct Names<'a> {
    state: &'a SessionState,
    tables: HashMap<TableReference, Arc<dyn TableSource>>,
}

impl ContextProvider for Names<'_> {
    fn get_table_source(&self, name: TableReference) -> DataFusionResult<Arc<dyn TableSource>> {
        self.tables.get(&name).cloned().ok_or_else(|| {
            let shown = if name.table() == template::TARGET {
                "the target".to_owned()
            } else {
                name.to_string()
            };
            Error::new(crate::ErrorKind::NotFound, "42P01", format!("table {shown} does not exist")).into()
        })
    }

    fn get_file_type(&self, ext: &str) -> DataFusionResult<Arc<dyn FileType>> {
        match self.state.get_file_format_factory(&ext.to_lowercase()) {
            Some(factory) => Ok(format_as_file_type(factory)),
            None => Err(Error::unsupported(format!("the file format {ext} is not supported")).into()),
        }
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> DataFusionResult<Arc<dyn TableSource>> {
        let Some(function) = self.state.table_functions().get(name) else {
            return Err(Error::invalid("42883", format!("table function {name} does not exist")).into());
        };
        let context = SimplifyContext::builder()
            .with_config_options(Arc::clone(self.state.config_options()))
            .with_query_execution_start_time(self.state.execution_props().query_execution_start_time)
            .build();
        let simplifier = ExprSimplifier::new(context);
        let schema = DFSchema::empty();
        let args = args
            .into_iter()
            .map(|arg| simplifier.coerce(arg, &schema).and_then(|e| simplifier.simplify(e)))
            .collect::<DataFusionResult<Vec<_>>>()?;
        Ok(provider_as_source(
            function.create_table_provider_with_args(TableFunctionArgs::new(&args, self.state))?,
        ))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> DataFusionResult<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        self.state.relation_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        None
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// A context for planning what names no table (types, defaults).
pub(crate) fn no_tables(state: &SessionState) -> impl ContextProvider + '_ {
    Names {
        state,
        tables: HashMap::new(),
    }
}
