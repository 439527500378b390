//! `kb.quads`: a dataset as a table of terms.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, UInt64Type};
use datafusion::datasource::{TableProvider, ViewTable, provider_as_source};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::col;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::dataset::{DatasetDefinition, Order, QUAD};
use super::dictionary::Dictionary;
use super::term_column;
use super::term_id::TermId;
use crate::error::Result;
use crate::scan::RelationTable;
use crate::session::Reader;

/// The name of the table within the dataset.
pub const QUADS: &str = "quads";

/// The quads of a dataset: a projection of their ids through the dictionary, which the optimizer sees through.
pub(crate) fn quads_table(dataset: &DatasetDefinition, reader: &Reader) -> Result<Arc<dyn TableProvider>> {
    let views = reader.relation(dataset.order(Order::Spo).id)?;
    let relation: Arc<dyn TableProvider> = Arc::new(RelationTable::with_all_columns(format!("{}.{QUADS}", dataset.name), views)?);
    let term = ScalarUDF::from(TermOf::new(Dictionary::open(dataset, reader)?));
    let plan = LogicalPlanBuilder::scan(QUADS, provider_as_source(relation), None)?
        .project(QUAD.map(|name| term.call(vec![col(name)]).alias(name)))?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// The term behind an id.
#[derive(Clone)]
struct TermOf {
    dictionary: Arc<Dictionary>,
    signature: Signature,
}

impl TermOf {
    fn new(dictionary: Dictionary) -> TermOf {
        TermOf {
            dictionary: Arc::new(dictionary),
            signature: Signature::exact(vec![DataType::UInt64], Volatility::Stable),
        }
    }
}

impl std::fmt::Debug for TermOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TermOf")
    }
}

impl PartialEq for TermOf {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.dictionary, &other.dictionary)
    }
}

impl Eq for TermOf {}

impl Hash for TermOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.dictionary).hash(state);
    }
}

impl ScalarUDFImpl for TermOf {
    fn name(&self) -> &'static str {
        "rdf_term"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(term_column::data_type())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let ids = ColumnarValue::values_to_arrays(&arguments.args)?;
        let ids: Vec<TermId> = ids[0].as_primitive::<UInt64Type>().values().iter().map(|id| TermId(*id)).collect();
        let terms = blocking(|| self.dictionary.terms(&ids))?;
        let terms = terms.iter().map(|term| term.as_ref().map(Into::into));
        Ok(ColumnarValue::Array(term_column::build(terms)?))
    }
}

/// Runs what may fault pages in, so that other tasks of this thread go on elsewhere meanwhile.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
