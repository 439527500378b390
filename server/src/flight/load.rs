//! Text of RDF that is parsed here: an ingest into a dataset with the option `rdf-format`, whose batches have one column of bytes, which are
//! the text, piece by piece.
//!
//! Further options: `rdf-base` (against what relative IRIs are resolved) and `lenient` (`true`: what is wrong is passed over, and told in the
//! answer).

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow_flight::sql::{CommandStatementIngest, TableNotExistOption};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pyralog_models::rdf::{RdfFault, RdfLoad, RdfLoaded};
use pyralog_models::{Error, ErrorKind};
use tonic::Status;

use super::caller::Caller;
use super::decode::Decoder;
use super::state::State;
use super::status::{self, invalid};
use crate::rdf_format;

/// The option that makes an ingest one of text: its syntax, by the names of `pyralog import --format`.
pub const FORMAT: &str = "rdf-format";
/// The option that names the text's base.
pub const BASE: &str = "rdf-base";
/// The option that says whether faults are passed over.
pub const LENIENT: &str = "lenient";

/// What a load did: as the answer of any other ingest, with more behind it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LoadResult {
    /// Quads that were read.
    #[prost(int64, tag = "1")]
    pub record_count: i64,
    /// Faults that were passed over.
    #[prost(uint64, tag = "100")]
    pub faults: u64,
    /// The first of them.
    #[prost(message, repeated, tag = "101")]
    pub told: Vec<LoadFault>,
}

/// What was wrong in a text.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LoadFault {
    /// Line, counted from 1; 0 where nobody knows it.
    #[prost(uint64, tag = "1")]
    pub line: u64,
    /// Column, counted from 1.
    #[prost(uint64, tag = "2")]
    pub column: u64,
    /// What was wrong.
    #[prost(string, tag = "3")]
    pub message: String,
}

impl From<RdfLoaded> for LoadResult {
    fn from(loaded: RdfLoaded) -> Self {
        let told = loaded.told.into_iter().map(|RdfFault { place, message }| {
            let (line, column) = place.unwrap_or_default();
            LoadFault { line, column, message }
        });
        LoadResult {
            record_count: i64::try_from(loaded.quads).unwrap_or(i64::MAX),
            faults: loaded.faults,
            told: told.collect(),
        }
    }
}

impl From<LoadResult> for RdfLoaded {
    fn from(result: LoadResult) -> Self {
        let told = result.told.into_iter().map(|LoadFault { line, column, message }| RdfFault {
            place: (line > 0).then_some((line, column)),
            message,
        });
        RdfLoaded {
            quads: u64::try_from(result.record_count).unwrap_or_default(),
            faults: result.faults,
            told: told.collect(),
        }
    }
}

impl State {
    /// Loads text into a dataset.
    pub async fn load(&self, caller: &Caller, command: CommandStatementIngest, mut decoder: Decoder) -> Result<LoadResult, Status> {
        let load = request(&command)?;
        let lease = self.lease(caller, command.transaction_id.as_ref())?;
        let schema = decoder.schema().await?.ok_or_else(|| invalid("the ingest has no schema"))?;
        if schema.fields().len() != 1 || *schema.field(0).data_type() != DataType::Binary {
            return Err(invalid("text is sent as batches with one column of type Binary [42804]"));
        }
        let _turn = lease.slot.turn().await?;
        let result = lease.slot.session().load_rdf(load, text(decoder)).await;
        lease.slot.settle(result.is_ok());
        result.map(LoadResult::from).map_err(|error| status::from_error(&error))
    }
}

/// The text within batches.
fn text(decoder: Decoder) -> BoxStream<'static, Result<Bytes, Error>> {
    let batches = stream::try_unfold(decoder, |mut decoder| async move {
        let broken = |status: Status| {
            Error::new(
                ErrorKind::InvalidInput,
                "08006",
                format!("the upload broke off: {}", status.message()),
            )
        };
        Ok::<_, Error>(decoder.next().await.map_err(broken)?.map(|batch| (batch, decoder)))
    });
    batches
        .map_ok(|batch| stream::iter(pieces(&batch).into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}

/// The values of a batch.
fn pieces(batch: &RecordBatch) -> Vec<Bytes> {
    let column = batch.column(0).as_binary::<i32>();
    (0..column.len()).map(|row| Bytes::copy_from_slice(column.value(row))).collect()
}

/// What the database is asked to do. Refuses what it cannot.
fn request(command: &CommandStatementIngest) -> Result<RdfLoad, Status> {
    let option = |name: &str| command.options.get(name).map(String::as_str);
    if let Some(other) = command
        .options
        .keys()
        .find(|name| ![FORMAT, BASE, LENIENT].contains(&name.as_str()))
    {
        return Err(invalid(format!("unknown ingest option {other:?}")));
    }
    let mode = command.table_definition_options.as_ref();
    if mode.is_none_or(|mode| mode.if_not_exist() == TableNotExistOption::Create) {
        return Err(invalid(
            "text is appended to a dataset that is there: CREATE COLLECTION … AS RDF first",
        ));
    }
    let name = option(FORMAT).unwrap_or_default();
    let format = rdf_format::parse(name).ok_or_else(|| invalid(format!("{name:?} is no syntax of RDF [22023]")))?;
    let lenient = match option(LENIENT) {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => return Err(invalid(format!("the option lenient is true or false, not {other:?} [22023]"))),
    };
    Ok(RdfLoad {
        dataset: (command.schema.clone().filter(|schema| !schema.is_empty()), command.table.clone()),
        format,
        base: option(BASE).map(str::to_owned),
        graph: None,
        lenient,
    })
}
