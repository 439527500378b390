//! Files read in place: `CREATE EXTERNAL TABLE`, and `FROM 'file.parquet'`.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::datasource::TableProvider;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::execution::SessionState;
use datafusion::sql::parser::{CreateExternalTable, Statement as DataFusionStatement};
use datafusion::sql::planner::SqlToRel;

use crate::catalog::{DEFAULT_SCHEMA, Object};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::session::{QueryResult, Session, done};
use crate::sql::context::parser_options;
use crate::sql::{name, parse};

/// A format that can be read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet,
    Csv,
    Json,
    Arrow,
}

impl Format {
    /// By the word in `STORED AS`, `FORMAT` or a file's extension.
    pub(crate) fn of(word: &str) -> Option<Format> {
        match word.to_lowercase().as_str() {
            "parquet" => Some(Format::Parquet),
            "csv" => Some(Format::Csv),
            "json" | "ndjson" | "jsonl" => Some(Format::Json),
            "arrow" | "feather" | "ipc" => Some(Format::Arrow),
            _ => None,
        }
    }

    fn listing(self, extension: &str, header: bool, delimiter: u8) -> ListingOptions {
        let format: Arc<dyn FileFormat> = match self {
            Format::Parquet => Arc::new(ParquetFormat::default()),
            Format::Csv => Arc::new(CsvFormat::default().with_has_header(header).with_delimiter(delimiter)),
            Format::Json => Arc::new(JsonFormat::default()),
            Format::Arrow => Arc::new(ArrowFormat),
        };
        ListingOptions::new(format).with_file_extension(extension)
    }
}

/// A path that the database may touch: inside the file root when one is set, symbolic links followed first.
pub(crate) fn checked_path(engine: &Engine, text: &str) -> Result<PathBuf> {
    let text = text.strip_prefix("file://").unwrap_or(text);
    if text.contains("://") {
        return Err(Error::unsupported(format!("{text}: only local files are supported")));
    }
    let Some(root) = &engine.config.file_root else {
        return Ok(PathBuf::from(text));
    };
    let refused = |why: &str| {
        Error::new(ErrorKind::InvalidInput, "42501", format!("{text}: {why}")).with_hint(format!("files must lie under {}", root.display()))
    };
    if Path::new(text).components().any(|c| matches!(c, Component::ParentDir)) {
        return Err(refused("a path with .. is refused"));
    }
    let root = root
        .canonicalize()
        .map_err(|e| refused(&format!("the file root cannot be read: {e}")))?;
    let path = root.join(text);
    // A file that is to be written need not exist yet; its folder must.
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(_) => {
            let parent = path.parent().unwrap_or(&root).canonicalize().map_err(|e| refused(&e.to_string()))?;
            parent.join(path.file_name().unwrap_or_default())
        }
    };
    if real.starts_with(&root) {
        Ok(real)
    } else {
        Err(refused("it lies outside the file root"))
    }
}

/// The table behind `FROM 'file.ext'`; `None` when the name is no file of a known format.
pub(crate) async fn file_table(engine: &Engine, state: &SessionState, text: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    let Some(extension) = Path::new(text).extension().and_then(|e| e.to_str()) else {
        return Ok(None);
    };
    let Some(format) = Format::of(extension) else { return Ok(None) };
    let path = checked_path(engine, text)?;
    let options = format.listing(&format!(".{extension}"), true, b',');
    listing(state, &path, options, None).await.map(Some)
}

async fn listing(state: &SessionState, path: &Path, options: ListingOptions, schema: Option<Schema>) -> Result<Arc<dyn TableProvider>> {
    let missing = |e: std::io::Error| Error::new(ErrorKind::NotFound, "58P01", format!("{}: {e}", path.display()));
    let real = path.canonicalize().map_err(missing)?;
    let mut text = real.to_string_lossy().into_owned();
    if real.is_dir() {
        text.push('/');
    }
    let url = ListingTableUrl::parse(&text)?;
    let schema = match schema {
        Some(schema) => Arc::new(schema),
        None => options.infer_schema(state, &url).await?,
    };
    let config = ListingTableConfig::new(url).with_listing_options(options).with_schema(schema);
    Ok(Arc::new(ListingTable::try_new(config)?))
}

/// `CREATE EXTERNAL TABLE`.
pub(crate) async fn create(session: &Session, create: CreateExternalTable) -> Result<QueryResult> {
    let target = name::resolve(&create.name, DEFAULT_SCHEMA)?;
    name::check_new(&target.name)?;
    let catalog = session.engine().catalog.snapshot()?;
    if catalog.get(&target).is_some() && create.if_not_exists {
        return Ok(done("CREATE EXTERNAL TABLE", None));
    }
    let sql = create.to_string();
    let state = session.statement_state();
    // Opened once now, so that a table that cannot be read is never made.
    open(session.engine(), &state, &create).await?;
    session.engine().catalog.create_object(&target, &Object::External { sql }).await?;
    Ok(done("CREATE EXTERNAL TABLE", None))
}

/// The table that a stored `CREATE EXTERNAL TABLE` describes.
pub(crate) async fn external_table(engine: &Engine, state: &SessionState, sql: &str) -> Result<Arc<dyn TableProvider>> {
    match parse::parse_one(sql)? {
        parse::Statement::Sql(statement) => match *statement {
            DataFusionStatement::CreateExternalTable(create) => open(engine, state, &create).await,
            _ => Err(Error::internal("a stored external table is none")),
        },
        _ => Err(Error::internal("a stored external table is none")),
    }
}

async fn open(engine: &Engine, state: &SessionState, create: &CreateExternalTable) -> Result<Arc<dyn TableProvider>> {
    let Some(format) = Format::of(&create.file_type) else {
        return Err(
            Error::unsupported(format!("STORED AS {} is not supported", create.file_type)).with_hint("use PARQUET, CSV, JSON or ARROW")
        );
    };
    let [location] = create.locations.as_slice() else {
        return Err(Error::unsupported("CREATE EXTERNAL TABLE takes one LOCATION"));
    };
    if !create.table_partition_cols.is_empty() || create.unbounded || !create.constraints.is_empty() {
        return Err(Error::unsupported(
            "PARTITIONED BY, UNBOUNDED and constraints of external tables are not supported",
        ));
    }
    let path = checked_path(engine, location)?;
    let option = |key: &str| {
        create
            .options
            .iter()
            .find(|(k, _)| k.eq_ignore_ascii_case(key) || k.eq_ignore_ascii_case(&format!("format.{key}")))
            .map(|(_, v)| v.to_string())
    };
    let header = option("has_header").is_none_or(|v| !v.trim_matches('\'').eq_ignore_ascii_case("false"));
    let delimiter = option("delimiter")
        .and_then(|v| v.trim_matches('\'').bytes().next())
        .unwrap_or(b',');
    let extension = if path.is_dir() {
        format!(".{}", create.file_type.to_lowercase())
    } else {
        String::new()
    };
    let schema = if create.columns.is_empty() {
        None
    } else {
        let names = crate::sql::context::no_tables(state);
        Some(SqlToRel::new_with_options(&names, parser_options(state)).build_schema(create.columns.clone())?)
    };
    listing(state, &path, format.listing(&extension, header, delimiter), schema).await
}

/// The rows of a file, for COPY … FROM. Text formats are read with the table's own types; columns of other formats go by name.
pub(crate) async fn read_file(
    state: &SessionState,
    path: &Path,
    format: Format,
    header: bool,
    table: &crate::catalog::TableDefinition,
    names: &[String],
) -> Result<datafusion::execution::SendableRecordBatchStream> {
    let schema = match format {
        Format::Csv | Format::Json => {
            let visible = table.visible_schema();
            let fields = names
                .iter()
                .map(|n| visible.field_with_name(n).cloned().map(|f| f.with_nullable(true)))
                .collect::<std::result::Result<Vec<_>, _>>()
                .map_err(|e| Error::invalid("42703", e.to_string()))?;
            Some(Schema::new(fields))
        }
        Format::Parquet | Format::Arrow => None,
    };
    let provider = listing(state, path, format.listing("", header, b','), schema).await?;
    let scan =
        datafusion::logical_expr::LogicalPlanBuilder::scan("file", datafusion::datasource::provider_as_source(provider), None)?.build()?;
    Ok(crate::session::run_plan(state, &scan).await?.stream)
}
