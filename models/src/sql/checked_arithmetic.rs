//! Integer arithmetic that refuses to overflow.
//!
//! DataFusion wraps: `9223372036854775807 + 1` is a negative number there. After types are settled, `+`, `-` and `*` of integers (and minus
//! before one) are replaced by functions over Arrow's checked kernels. Decimals are checked by Arrow to fit their
//! 128 bits, and here to have no more than their 38 digits; floats have infinity.

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use crate::error::Error;

/// The rule. Runs behind type coercion.
#[derive(Debug)]
pub(crate) struct CheckedArithmetic {
    add: Arc<ScalarUDF>,
    subtract: Arc<ScalarUDF>,
    multiply: Arc<ScalarUDF>,
    negate: Arc<ScalarUDF>,
}

fn function(operation: Operation) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Checked {
        operation,
        signature: Signature::any(operation.arity(), Volatility::Immutable),
    }))
}

/// The functions that the rule puts into plans: who gets a plan from elsewhere must know them.
pub(crate) fn functions() -> [Arc<ScalarUDF>; 4] {
    [Operation::Add, Operation::Subtract, Operation::Multiply, Operation::Negate].map(function)
}

impl CheckedArithmetic {
    pub(crate) fn new() -> CheckedArithmetic {
        CheckedArithmetic {
            add: function(Operation::Add),
            subtract: function(Operation::Subtract),
            multiply: function(Operation::Multiply),
            negate: function(Operation::Negate),
        }
    }

    fn function(&self, operator: Operator) -> Option<&Arc<ScalarUDF>> {
        match operator {
            Operator::Plus => Some(&self.add),
            Operator::Minus => Some(&self.subtract),
            Operator::Multiply => Some(&self.multiply),
            _ => None,
        }
    }

    fn rewrite(&self, expr: Expr, schema: &datafusion::common::DFSchema) -> Result<Transformed<Expr>> {
        expr.transform_up(|expr| match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match self.function(op) {
                Some(function) if (is_integer(&left, schema) && is_integer(&right, schema)) || may_outgrow(&left, op, &right, schema) => {
                    Ok(Transformed::yes(call(function, vec![*left, *right])))
                }
                _ => Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            },
            Expr::Negative(inner) if is_integer(&inner, schema) => Ok(Transformed::yes(call(&self.negate, vec![*inner]))),
            expr => Ok(Transformed::no(expr)),
        })
    }
}

impl AnalyzerRule for CheckedArithmetic {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|plan| {
            let mut schema = merge_schema(&plan.inputs());
            if let LogicalPlan::TableScan(scan) = &plan {
                schema.merge(&scan.projected_schema);
            }
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(self.rewrite(expr, &schema)?.update_data(|expr| name.restore(expr)))
            })?
            .map_data(LogicalPlan::recompute_schema)
        })?;
        Ok(plan.data)
    }

    fn name(&self) -> &str {
        "checked_arithmetic"
    }
}

fn is_integer(expr: &Expr, schema: &datafusion::common::DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| data_type.is_integer())
}

/// Whether a result of decimals may have more digits than 38: the kernels check that it fits 128 bits, which hold a little more.
fn may_outgrow(left: &Expr, operator: Operator, right: &Expr, schema: &datafusion::common::DFSchema) -> bool {
    let (Ok(DataType::Decimal128(p1, s1)), Ok(DataType::Decimal128(p2, s2))) = (left.get_type(schema), right.get_type(schema)) else {
        return false;
    };
    let (p1, s1, p2, s2) = (i32::from(p1), i32::from(s1), i32::from(p2), i32::from(s2));
    let digits = match operator {
        Operator::Multiply => p1 + p2,
        _ => (p1 - s1).max(p2 - s2) + s1.max(s2) + 1,
    };
    digits > i32::from(DECIMAL128_MAX_PRECISION)
}

fn call(function: &Arc<ScalarUDF>, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), args))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Negate,
}

impl Operation {
    fn operator(self) -> Operator {
        match self {
            Operation::Add => Operator::Plus,
            Operation::Subtract | Operation::Negate => Operator::Minus,
            Operation::Multiply => Operator::Multiply,
        }
    }

    fn arity(self) -> usize {
        if self == Operation::Negate { 1 } else { 2 }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    operation: Operation,
    signature: Signature,
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Add => "checked_add",
            Operation::Subtract => "checked_subtract",
            Operation::Multiply => "checked_multiply",
            Operation::Negate => "checked_negate",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        if let [left @ DataType::Decimal128(..), right @ DataType::Decimal128(..)] = types {
            return BinaryTypeCoercer::new(left, &self.operation.operator(), right).get_result_type();
        }
        // Coercion has made both sides one type; where it left them apart, the kernel says so.
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        use datafusion::physical_expr_common::datum::apply;
        match (self.operation, args.args.as_slice()) {
            (Operation::Add, [a, b]) => has_digits(apply(a, b, numeric::add)?),
            (Operation::Subtract, [a, b]) => has_digits(apply(a, b, numeric::sub)?),
            (Operation::Multiply, [a, b]) => has_digits(apply(a, b, numeric::mul)?),
            (Operation::Negate, [a]) => match a {
                ColumnarValue::Array(array) => Ok(ColumnarValue::Array(numeric::neg(array)?)),
                ColumnarValue::Scalar(value) => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                    &numeric::neg(&value.to_array()?)?,
                    0,
                )?)),
            },
            _ => datafusion::common::internal_err!("{} was called with {} arguments", self.name(), args.args.len()),
        }
    }
}

/// Refuses decimals of more digits than their type has.
fn has_digits(value: ColumnarValue) -> Result<ColumnarValue> {
    if let DataType::Decimal128(precision, _) = value.data_type() {
        let array = value.to_array(1)?;
        array
            .as_primitive::<Decimal128Type>()
            .validate_decimal_precision(precision)
            .map_err(|_| {
                Error::invalid("22003", format!("a decimal result has more than {precision} digits"))
                    .with_hint("cast an operand to DOUBLE, or to a decimal of fewer digits")
            })?;
    }
    Ok(value)
}
