//! Conditions that stay where they are put.
//!
//! The optimizer takes conditions to the scans: less is joined then. Conditions of SPARQL look terms up, and that costs more than joining a
//! row; where the joins leave fewer solutions than the scan has rows, the condition waits (Hellerstein and Stonebraker, "Predicate Migration:
//! Optimizing Queries with Expensive Predicates", 1993).

use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::ident;

use super::solutions::{Names, Solutions};
use crate::error::Result;

/// The truth value it is given. That it says it may change each time keeps it in its place.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Here {
    signature: Signature,
}

impl ScalarUDFImpl for Here {
    fn name(&self) -> &'static str {
        "sparql_here"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        Ok(arguments.args.swap_remove(0))
    }
}

impl Solutions {
    /// As [`Solutions::filter`], and no optimizer takes the condition nearer to the scans.
    pub fn filter_here(self, names: &mut Names, condition: Expr) -> Result<Solutions> {
        let signature = Signature::exact(vec![DataType::Boolean], Volatility::Volatile);
        let is_kept = names.fresh("#here");
        let mut columns = self.columns();
        columns.push(ScalarUDF::from(Here { signature }).call(vec![condition]).alias(&is_kept));
        let builder = LogicalPlanBuilder::from(self.plan).project(columns)?;
        Ok(Solutions {
            plan: builder.filter(ident(&is_kept))?.build()?,
            ..self
        })
    }
}
