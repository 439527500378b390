//! Our table functions, `kv_scan('bucket', prefix => 'user:')`, which become tables of the statement before it is planned: they are plans
//! inside the plan, and named arguments work.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlanBuilder, TableSource};
use datafusion::prelude::{col, lit};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName as SqlName, Statement as SqlStatement, TableAlias, TableFactor, Value, VisitMut,
    VisitorMut,
};

use super::context::Planner;
use crate::catalog::{CollectionKind, DEFAULT_SCHEMA, Object, ObjectName};
use crate::error::{Error, Result};
use crate::kv;
use crate::rdf;

/// The functions that are planned here.
const FUNCTIONS: [&str; 2] = ["kv_scan", "sparql"];

/// Replaces every call by a name, and gives the tables behind the names.
pub(crate) fn replace(planner: &Planner<'_>, statement: &mut DataFusionStatement) -> Result<HashMap<String, Arc<dyn TableSource>>> {
    let mut calls = Calls { found: Vec::new() };
    let flow = match statement {
        DataFusionStatement::Statement(statement) => statement.visit(&mut calls),
        DataFusionStatement::Explain(explain) => return replace(planner, &mut explain.statement),
        DataFusionStatement::CopyTo(copy) => match &mut copy.source {
            datafusion::sql::parser::CopyToSource::Query(query) => {
                let mut inner = SqlStatement::Query(query.clone());
                let flow = inner.visit(&mut calls);
                if let SqlStatement::Query(inner) = inner {
                    *query = inner;
                }
                flow
            }
            datafusion::sql::parser::CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    };
    if let ControlFlow::Break(error) = flow {
        return Err(error);
    }
    let mut tables = HashMap::new();
    for (name, call) in calls.found {
        tables.insert(name, call.plan(planner)?);
    }
    Ok(tables)
}

struct Calls {
    found: Vec<(String, Call)>,
}

/// A call with its arguments as text.
pub(super) struct Call {
    function: String,
    pub(super) positional: Vec<String>,
    pub(super) named: HashMap<String, String>,
}

impl VisitorMut for Calls {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table {
            name,
            args,
            alias,
            version,
            ..
        } = factor
        else {
            return ControlFlow::Continue(());
        };
        if version.is_some() {
            // The planner would ignore it and answer from the present.
            return ControlFlow::Break(Error::unsupported("FOR SYSTEM_TIME AS OF is not supported by this version"));
        }
        let Some(arguments) = args else { return ControlFlow::Continue(()) };
        let function = name.to_string().to_lowercase();
        if !FUNCTIONS.contains(&function.as_str()) {
            return ControlFlow::Continue(());
        }
        let call = match Call::read(function.clone(), &arguments.args) {
            Ok(call) => call,
            Err(error) => return ControlFlow::Break(error),
        };
        let table = format!("__{function}{}", self.found.len());
        if alias.is_none() {
            *alias = Some(TableAlias {
                explicit: true,
                name: Ident::new(function),
                columns: Vec::new(),
                at: None,
            });
        }
        *name = SqlName::from(vec![Ident::new(table.clone())]);
        *args = None;
        self.found.push((table, call));
        ControlFlow::Continue(())
    }
}

impl Call {
    pub(super) fn read(function: String, arguments: &[FunctionArg]) -> Result<Call> {
        let mut call = Call {
            function,
            positional: Vec::new(),
            named: HashMap::new(),
        };
        for argument in arguments {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                    let value = call.text(expr)?;
                    call.positional.push(value);
                }
                FunctionArg::Named {
                    name,
                    arg: FunctionArgExpr::Expr(expr),
                    ..
                } => {
                    let value = call.text(expr)?;
                    call.named.insert(super::name::fold(name), value);
                }
                FunctionArg::ExprNamed {
                    name: Expr::Identifier(name),
                    arg: FunctionArgExpr::Expr(expr),
                    ..
                } => {
                    let value = call.text(expr)?;
                    call.named.insert(super::name::fold(name), value);
                }
                other => {
                    return Err(Error::invalid(
                        "42601",
                        format!("{}: argument {other} is not understood", call.function),
                    ));
                }
            }
        }
        Ok(call)
    }

    fn text(&self, expr: &Expr) -> Result<String> {
        match expr {
            Expr::Value(value) => match &value.value {
                Value::SingleQuotedString(text) => Ok(text.clone()),
                Value::Number(number, _) => Ok(number.to_string()),
                other => Err(Error::invalid("42601", format!("{}: {other} is no text or number", self.function))),
            },
            other => Err(Error::unsupported(format!("{}: argument {other} is not a constant", self.function))),
        }
    }

    fn plan(self, planner: &Planner<'_>) -> Result<Arc<dyn TableSource>> {
        match self.function.as_str() {
            "sparql" => self.sparql(planner),
            _ => self.kv_scan(planner),
        }
    }

    /// `sparql(dataset, query)`: the solutions of a SELECT query.
    fn sparql(self, planner: &Planner<'_>) -> Result<Arc<dyn TableSource>> {
        let [dataset, query] = self.positional.as_slice() else {
            return Err(Error::invalid(
                "42601",
                "sparql takes two arguments: a dataset's name and a SELECT query",
            ));
        };
        let name = ObjectName {
            schema: DEFAULT_SCHEMA.to_owned(),
            name: dataset.clone(),
        };
        match planner.catalog.require(&name)?.object.as_ref() {
            Object::Dataset(dataset) if self.named.is_empty() => {
                let remote = planner.engine.config.remote.clone();
                let table = rdf::sparql::table(dataset, planner.reader, remote, query);
                let table = table.map_err(|error| error.of_inner_text("SPARQL query"))?;
                Ok(provider_as_source(table))
            }
            Object::Dataset(_) => Err(Error::invalid("42601", "sparql takes no named arguments")),
            _ => Err(Error::invalid("42809", format!("{name} is not a dataset of RDF"))),
        }
    }

    /// `kv_scan(bucket, [prefix], start => …, end => …, limit => …)`: filters over the bucket's table.
    fn kv_scan(mut self, planner: &Planner<'_>) -> Result<Arc<dyn TableSource>> {
        let mut positional = std::mem::take(&mut self.positional).into_iter();
        let bucket = positional
            .next()
            .ok_or_else(|| Error::invalid("42601", "kv_scan needs a bucket's name"))?;
        let prefix = positional.next().or_else(|| self.named.remove("prefix"));
        let (start, end, limit) = (self.named.remove("start"), self.named.remove("end"), self.named.remove("limit"));
        if let Some(unknown) = positional.next().or_else(|| self.named.keys().next().cloned()) {
            return Err(Error::invalid("42601", format!("kv_scan: {unknown} is no argument"))
                .with_hint("arguments are the bucket, prefix =>, start =>, end =>, limit =>"));
        }
        let name = ObjectName {
            schema: DEFAULT_SCHEMA.to_owned(),
            name: bucket,
        };
        let (_, table) = planner.catalog.require_table(&name)?;
        if table.kind != CollectionKind::KeyValue {
            return Err(Error::invalid(
                "42809",
                format!("{name} is a {} collection, not a bucket", table.kind.word()),
            ));
        }
        let mut plan = LogicalPlanBuilder::scan(name.name, planner.bucket(&table)?, None)?;
        if let Some(prefix) = prefix.filter(|p| !p.is_empty()) {
            plan = plan.filter(key_bound(prefix.as_bytes(), true))?;
            if let Some(end) = behind_prefix(prefix.as_bytes()) {
                plan = plan.filter(key_bound(&end, false))?;
            }
        }
        if let Some(start) = start {
            plan = plan.filter(key_bound(start.as_bytes(), true))?;
        }
        if let Some(end) = end {
            plan = plan.filter(key_bound(end.as_bytes(), false))?;
        }
        if let Some(limit) = limit {
            let count = limit
                .parse()
                .map_err(|_| Error::invalid("22023", format!("kv_scan: limit {limit} is no number")))?;
            plan = plan.sort(vec![col(kv::KEY).sort(true, false)])?.limit(0, Some(count))?;
        }
        Ok(provider_as_source(Arc::new(ViewTable::new(plan.build()?, None))))
    }
}

fn key_bound(key: &[u8], from: bool) -> LogicalExpr {
    let value = lit(ScalarValue::BinaryView(Some(key.to_vec())));
    if from { col(kv::KEY).gt_eq(value) } else { col(kv::KEY).lt(value) }
}

/// The first key behind all keys with a prefix; `None` when there is none (all bytes are 0xff).
fn behind_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_behind_a_prefix() {
        assert_eq!(behind_prefix(b"user:"), Some(b"user;".to_vec()));
        assert_eq!(behind_prefix(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(behind_prefix(b"\xff\xff"), None);
    }
}
