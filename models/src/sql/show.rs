//! `SHOW …`, `SET …`, `DESCRIBE`: answers from the catalog, the settings and the node.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName as SqlName, Set, ShowStatementFilter, ShowStatementOptions, Statement as SqlStatement, Value,
};

use super::name;
use crate::catalog::{CatalogEntry, DEFAULT_SCHEMA, Object};
use crate::error::{Error, Result};
use crate::session::{QueryResult, Session, done, isolation_of, rows};

/// Runs a statement if it is one of these.
pub(crate) fn run(session: &Session, statement: &SqlStatement) -> Result<Option<QueryResult>> {
    Ok(Some(match statement {
        SqlStatement::ShowTables { show_options, .. } => tables(session, show_options)?,
        SqlStatement::ShowViews { show_options, .. } => views(session, show_options)?,
        SqlStatement::ShowSchemas { .. } | SqlStatement::ShowDatabases { .. } => schemas(session)?,
        SqlStatement::ShowColumns { show_options, .. } => columns(session, &columns_target(show_options)?)?,
        SqlStatement::ExplainTable { table_name, .. } => columns(session, table_name)?,
        SqlStatement::ShowVariable { variable } => variable_rows(session, variable)?,
        SqlStatement::Set(set) => run_set(session, set)?,
        _ => return Ok(None),
    }))
}

/// `SHOW CLUSTER`: the nodes as this one knows them, and which it is connected with; a node that is alone is the only row.
fn cluster(session: &Session) -> Result<QueryResult> {
    let status = session.engine().node.status();
    let mut members = status.members.clone();
    if members.is_empty() {
        members.push((status.node_id, String::new()));
    }
    members.sort();
    let groups = |of: &dyn Fn(&pyralog_consensus::node::GroupStatus) -> bool| {
        let names: Vec<&str> = status
            .groups
            .iter()
            .filter(|group| of(group))
            .map(|group| group.name.as_str())
            .collect();
        names.join(", ")
    };
    let leads = members.iter().map(|(node, _)| groups(&|group| group.leader_id == Some(*node)));
    let votes = members.iter().map(|(node, _)| groups(&|group| group.voters.contains(node)));
    table_of(vec![
        (
            "node",
            Arc::new(Int64Array::from_iter_values(members.iter().map(|(node, _)| *node as i64))),
        ),
        ("peer_address", strings(members.iter().map(|(_, address)| address.as_str()))),
        ("leads", strings(leads.collect::<Vec<_>>())),
        ("votes", strings(votes.collect::<Vec<_>>())),
        (
            "connected",
            Arc::new(BooleanArray::from_iter(members.iter().map(|(node, _)| {
                let peer = status.peers.iter().find(|peer| peer.node == *node);
                Some(*node == status.node_id || peer.is_some_and(|peer| peer.connected))
            }))),
        ),
        (
            "answers",
            Arc::new(BooleanArray::from_iter(
                members.iter().map(|(node, _)| Some(*node == status.node_id)),
            )),
        ),
    ])
}

/// `SHOW COLLECTIONS`.
pub(crate) async fn collections(session: &Session) -> Result<QueryResult> {
    let catalog = session.engine().catalog.snapshot()?;
    let reader = crate::session::Reader::newest(session.engine()).await?;
    let (mut schema, mut names, mut kinds, mut counts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for entry in catalog.objects() {
        // The first relation has the rows; further ones are orders of them, or beside them.
        if let Some(relation) = entry.object.relations().first() {
            schema.push(entry.name.schema.clone());
            names.push(entry.name.name.clone());
            kinds.push(kind_of(entry));
            let rows: u64 = reader.relation(relation.id)?.iter().map(|view| view.row_count()).sum();
            counts.push(rows as i64);
        }
    }
    table_of(vec![
        ("schema", strings(schema)),
        ("name", strings(names)),
        ("kind", strings(kinds)),
        ("rows", Arc::new(Int64Array::from(counts))),
    ])
}

fn kind_of(entry: &CatalogEntry) -> &'static str {
    match entry.object.as_ref() {
        Object::Table(table) => table.kind.word(),
        Object::View(_) => "VIEW",
        Object::Dataset(_) => "RDF",
        Object::External { .. } => "EXTERNAL",
    }
}

fn tables(session: &Session, options: &ShowStatementOptions) -> Result<QueryResult> {
    let pattern = like_of(options)?;
    let catalog = session.engine().catalog.snapshot()?;
    let entries: Vec<&CatalogEntry> = catalog.objects().filter(|e| matches(&pattern, &e.name.name)).collect();
    table_of(vec![
        ("table_schema", strings(entries.iter().map(|e| e.name.schema.as_str()))),
        ("table_name", strings(entries.iter().map(|e| e.name.name.as_str()))),
        ("table_type", strings(entries.iter().map(|e| kind_of(e)))),
    ])
}

fn views(session: &Session, options: &ShowStatementOptions) -> Result<QueryResult> {
    let pattern = like_of(options)?;
    let catalog = session.engine().catalog.snapshot()?;
    let found: Vec<(&str, &str, &str)> = catalog
        .objects()
        .filter(|e| matches(&pattern, &e.name.name))
        .filter_map(|e| match e.object.as_ref() {
            Object::View(view) => Some((e.name.schema.as_str(), e.name.name.as_str(), view.query.as_str())),
            _ => None,
        })
        .collect();
    table_of(vec![
        ("view_schema", strings(found.iter().map(|v| v.0))),
        ("view_name", strings(found.iter().map(|v| v.1))),
        ("definition", strings(found.iter().map(|v| v.2))),
    ])
}

fn schemas(session: &Session) -> Result<QueryResult> {
    let catalog = session.engine().catalog.snapshot()?;
    table_of(vec![("schema_name", strings(catalog.schemas()))])
}

fn columns_target(options: &ShowStatementOptions) -> Result<SqlName> {
    options
        .show_in
        .as_ref()
        .and_then(|show_in| show_in.parent_name.clone())
        .ok_or_else(|| Error::invalid("42601", "SHOW COLUMNS needs FROM and a table's name"))
}

fn columns(session: &Session, sql_name: &SqlName) -> Result<QueryResult> {
    let target = name::resolve(sql_name, DEFAULT_SCHEMA)?;
    let catalog = session.engine().catalog.snapshot()?;
    let (_, table) = catalog.require_table(&target)?;
    let schema = table.visible_schema();
    let key = table.primary_key();
    table_of(vec![
        ("column_name", strings(schema.fields().iter().map(|f| f.name().as_str()))),
        ("data_type", strings(schema.fields().iter().map(|f| f.data_type().to_string()))),
        (
            "is_nullable",
            strings(schema.fields().iter().map(|f| if f.is_nullable() { "YES" } else { "NO" })),
        ),
        (
            "column_default",
            Arc::new(StringArray::from(
                table.columns.iter().map(|c| c.default.clone()).collect::<Vec<_>>(),
            )),
        ),
        (
            "primary_key",
            Arc::new(BooleanArray::from(
                schema.fields().iter().map(|f| key.contains(&f.name().as_str())).collect::<Vec<_>>(),
            )),
        ),
    ])
}

fn variable_rows(session: &Session, variable: &[Ident]) -> Result<QueryResult> {
    let words: Vec<String> = variable.iter().map(|ident| ident.value.to_lowercase()).collect();
    let wanted = words.join(".");
    let mut settings = crate::session::all_settings(session);
    match wanted.as_str() {
        "all" => {}
        "cluster" => return cluster(session),
        "partitions" => return partitions(session),
        _ => {
            // Fails with a hint for a name that is none.
            let value = session.setting(&wanted)?;
            let single = if words.first().is_some_and(|w| w == "time") {
                "timezone".to_owned()
            } else {
                wanted.clone()
            };
            settings.retain(|row| row.name == single);
            if let Some(row) = settings.first_mut() {
                row.value = value;
            }
        }
    }
    table_of(vec![
        ("name", strings(settings.iter().map(|r| r.name.as_str()))),
        ("value", strings(settings.iter().map(|r| r.value.as_str()))),
        ("default", strings(settings.iter().map(|r| r.default.as_str()))),
        ("source", strings(settings.iter().map(|r| r.source))),
        ("description", strings(settings.iter().map(|r| r.description.as_str()))),
    ])
}

fn partitions(session: &Session) -> Result<QueryResult> {
    let groups = session.engine().node.status().groups;
    let numbers = |of: fn(&pyralog_consensus::node::GroupStatus) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from(groups.iter().map(|g| of(g) as i64).collect::<Vec<_>>()))
    };
    table_of(vec![
        ("group", strings(groups.iter().map(|g| g.name.as_str()))),
        (
            "leader",
            Arc::new(BooleanArray::from(groups.iter().map(|g| g.leader).collect::<Vec<_>>())),
        ),
        ("term", numbers(|g| g.term)),
        ("last_index", numbers(|g| g.last_index)),
        ("applied_index", numbers(|g| g.applied_index)),
        ("segments", numbers(|g| g.storage.segments)),
        ("segment_bytes", numbers(|g| g.storage.segment_bytes)),
        ("memtable_bytes", numbers(|g| g.storage.memtable_bytes)),
        ("flushes", numbers(|g| g.storage.flushes)),
        ("compactions", numbers(|g| g.storage.compactions)),
        ("undecided", numbers(|g| g.storage.undecided)),
    ])
}

fn run_set(session: &Session, set: &Set) -> Result<QueryResult> {
    match set {
        Set::SingleAssignment { variable, values, .. } => {
            let [value] = values.as_slice() else {
                return Err(Error::invalid("42601", "SET takes one value"));
            };
            session.set(&variable.to_string(), &setting_text(value))?;
        }
        Set::SetTimeZone { value, .. } => session.set("timezone", &setting_text(value))?,
        Set::SetTransaction { snapshot: Some(_), .. } => {
            return Err(Error::unsupported("SET TRANSACTION SNAPSHOT is not supported"));
        }
        Set::SetTransaction { modes, session: whole, .. } => {
            if let Some(isolation) = isolation_of(modes)? {
                match whole {
                    true => session.inner.settings.write().isolation = isolation,
                    false => session.set_isolation(isolation)?,
                }
            }
        }
        other => return Err(Error::unsupported(format!("{other} is not supported"))),
    }
    Ok(done("SET", None))
}

fn setting_text(value: &Expr) -> String {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

fn like_of(options: &ShowStatementOptions) -> Result<Option<String>> {
    use datafusion::sql::sqlparser::ast::ShowStatementFilterPosition::{Infix, Suffix};
    match &options.filter_position {
        None => Ok(None),
        Some(Infix(ShowStatementFilter::Like(pattern) | ShowStatementFilter::ILike(pattern))) => Ok(Some(pattern.clone())),
        Some(Suffix(ShowStatementFilter::Like(pattern) | ShowStatementFilter::ILike(pattern))) => Ok(Some(pattern.clone())),
        Some(_) => Err(Error::unsupported("SHOW … WHERE is not supported").with_hint("use LIKE, or read information_schema")),
    }
}

/// Case-insensitive LIKE with `%` and `_`, by the two-pointer walk that needs no backtracking stack.
fn matches(pattern: &Option<String>, text: &str) -> bool {
    let Some(pattern) = pattern else { return true };
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'%') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == '_' || *c == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            p = at + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '%')
}

fn strings<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn table_of(columns: Vec<(&str, ArrayRef)>) -> Result<QueryResult> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, array)| array).collect())?;
    Ok(rows("SHOW", schema, vec![batch], None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_patterns() {
        let like = |pattern: &str, text: &str| matches(&Some(pattern.to_owned()), text);
        assert!(like("or%", "Orders") && like("%d_rs", "orders") && like("%", "") && like("a%b%c", "aXXbYYc"));
        assert!(!like("or", "orders") && !like("_", "") && !like("a%b", "abc"));
    }
}
