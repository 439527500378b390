//! `CREATE COLLECTION … AS KV` or `RDF`, `DROP COLLECTION`.

use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::sql::sqlparser::ast::{ObjectName as SqlName, ObjectType};

use super::column::NewColumn;
use super::table::build;
use crate::catalog::{CollectionKind, ColumnDefinition, DEFAULT_SCHEMA, Object};
use crate::error::{Error, ErrorKind, Result, nearest};
use crate::kv;
use crate::rdf::DatasetDefinition;
use crate::session::{QueryResult, Session, done};
use crate::sql::name;

const KINDS: [&str; 7] = ["KV", "DOCUMENT", "GRAPH", "HYPERGRAPH", "RDF", "TENSOR", "TABLE"];

/// Makes a collection of a kind.
pub(crate) async fn create_collection(session: &Session, sql_name: &SqlName, kind: &str, if_not_exists: bool) -> Result<QueryResult> {
    let target = name::resolve(sql_name, DEFAULT_SCHEMA)?;
    match kind {
        "KV" | "RDF" => {}
        "TABLE" => return Err(Error::unsupported("a table is made with CREATE TABLE")),
        kind if KINDS.contains(&kind) => {
            return Err(Error::unsupported(format!(
                "collections of kind {kind} are not supported by this version"
            )));
        }
        kind => {
            let error = Error::invalid("42601", format!("{kind} is no kind of collection"));
            return Err(match nearest(kind, KINDS) {
                Some(near) => error.with_hint(format!("did you mean {near}?")),
                None => error.with_hint(format!("kinds are {}", KINDS.join(", "))),
            });
        }
    }
    let catalog = session.engine().catalog.snapshot()?;
    if !catalog.has_schema(&target.schema) {
        return Err(Error::new(
            ErrorKind::NotFound,
            "3F000",
            format!("schema {} does not exist", target.schema),
        ));
    }
    if catalog.get(&target).is_some() {
        return match if_not_exists {
            true => Ok(done("CREATE COLLECTION", None)),
            false => Err(Error::new(ErrorKind::AlreadyExists, "42P07", format!("{target} exists already"))
                .with_hint("drop it first, or add IF NOT EXISTS")),
        };
    }
    if kind == "RDF" {
        name::check_new(&target.name)?;
        if target.schema != DEFAULT_SCHEMA {
            // Its tables are `name.quads`.
            return Err(
                Error::unsupported(format!("a dataset of RDF cannot be in schema {}", target.schema)).with_hint("give its name alone"),
            );
        }
        let catalog = &session.engine().catalog;
        let dataset = DatasetDefinition::new(catalog, target.clone()).await?;
        catalog.create_collection(&target, &Object::Dataset(dataset)).await?;
        return Ok(done("CREATE COLLECTION", None));
    }
    let column = |name: &str, data_type, nullable| NewColumn {
        field: Field::new(name, data_type, nullable),
        definition: ColumnDefinition::default(),
        primary_key: false,
        checks: Vec::new(),
    };
    // The version is the commit timestamp, which storage keeps with every row: it needs no column of its own.
    let columns = vec![
        column(kv::KEY, DataType::BinaryView, false),
        column(kv::VALUE, DataType::BinaryView, false),
        column(kv::EXPIRES_AT, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
    ];
    let table = build(
        session,
        target,
        CollectionKind::KeyValue,
        columns,
        &[kv::KEY.to_owned()],
        Vec::new(),
    )
    .await?;
    session.engine().catalog.create_table(table).await?;
    Ok(done("CREATE COLLECTION", None))
}

/// Drops a collection of any kind.
pub(crate) async fn drop_collection(session: &Session, sql_name: &SqlName, if_exists: bool) -> Result<QueryResult> {
    super::drop::run(session, ObjectType::Table, if_exists, std::slice::from_ref(sql_name), false).await?;
    Ok(done("DROP COLLECTION", None))
}
