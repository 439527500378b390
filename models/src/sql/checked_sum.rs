//! `sum` that fails on overflow. DataFusion's wraps around: the sum of two large integers would be a negative number.
//!
//! Everything but the adding is DataFusion's own. The running total has the result's type, so an overflow on the way counts as one even where
//! later values would bring the total back.

use std::fmt::{Debug, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowNumericType, AsArray, BooleanArray};
use datafusion::arrow::compute::sum_checked;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, FieldRef, Int64Type, UInt64Type};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::execution::registry::FunctionRegistry;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, Operator, ReversedUDAF, SetMonotonicity,
    Signature, StatisticsArgs,
};
use datafusion::scalar::ScalarValue;
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

use crate::error::Error;

/// Puts the checked `sum` in place of the plain one.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    state.register_udaf(Arc::new(AggregateUDF::from(CheckedSum { inner: sum_udaf() })))?;
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum {
    inner: Arc<AggregateUDF>,
}

/// Calls a macro-like function with the Arrow type of a sum's result; other types keep DataFusion's accumulator.
macro_rules! checked_type {
    ($data_type:expr, $call:ident, $otherwise:expr) => {
        match $data_type {
            DataType::Int64 => $call::<Int64Type>($data_type),
            DataType::UInt64 => $call::<UInt64Type>($data_type),
            DataType::Decimal128(_, _) => $call::<Decimal128Type>($data_type),
            _ => $otherwise,
        }
    };
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return self.inner.accumulator(args);
        }
        checked_type!(args.return_field.data_type(), running_total, self.inner.accumulator(args))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return self.inner.create_sliding_accumulator(args);
        }
        checked_type!(
            args.return_field.data_type(),
            running_total,
            self.inner.create_sliding_accumulator(args)
        )
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        checked_type!(
            args.return_field.data_type(),
            total_of_each_group,
            self.inner.create_groups_accumulator(args)
        )
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(data_type)
    }

    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        argument: &Expr,
        operator: Operator,
        literal: &Expr,
        argument_is_left: bool,
    ) -> Result<Option<Expr>> {
        self.inner
            .inner()
            .simplify_expr_op_literal(function, argument, operator, literal, argument_is_left)
    }

    fn value_from_stats(&self, _args: &StatisticsArgs) -> Option<ScalarValue> {
        // Statistics are added without checks.
        None
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

fn overflow(data_type: &DataType) -> datafusion::error::DataFusionError {
    Error::invalid("22003", format!("sum is out of range for {data_type}"))
        .with_hint("cast the argument to a wider type, such as DECIMAL(38, 0) or DOUBLE")
        .into()
}

/// Whether a total still has the digits of its type: 128 bits hold more than 38 digits.
fn fits<T: ArrowNumericType>(total: T::Native, data_type: &DataType) -> bool {
    match data_type {
        DataType::Decimal128(_, _) => ScalarValue::new_primitive::<T>(Some(total), data_type).is_ok_and(|value| match value {
            ScalarValue::Decimal128(Some(unscaled), _, _) => unscaled.unsigned_abs() < 10_u128.pow(38),
            _ => true,
        }),
        _ => true,
    }
}

fn running_total<T: ArrowNumericType>(data_type: &DataType) -> Result<Box<dyn Accumulator>> {
    Ok(Box::new(RunningTotal::<T> {
        total: T::Native::ZERO,
        count: 0,
        data_type: data_type.clone(),
    }))
}

/// One total, over all rows or over a window that slides.
struct RunningTotal<T: ArrowNumericType> {
    total: T::Native,
    /// Values in the total; of none the sum is null.
    count: usize,
    data_type: DataType,
}

impl<T: ArrowNumericType> Debug for RunningTotal<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunningTotal({})", self.data_type)
    }
}

impl<T: ArrowNumericType> Accumulator for RunningTotal<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<T>();
        let added = sum_checked(values).and_then(|sum| sum.map(|sum| self.total.add_checked(sum)).transpose());
        if let Some(total) = added.map_err(|_| overflow(&self.data_type))? {
            self.total = total;
        }
        self.count += values.len() - values.null_count();
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<T>();
        let left = sum_checked(values).and_then(|sum| sum.map(|sum| self.total.sub_checked(sum)).transpose());
        if let Some(total) = left.map_err(|_| overflow(&self.data_type))? {
            self.total = total;
        }
        self.count -= values.len() - values.null_count();
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if !fits::<T>(self.total, &self.data_type) {
            return Err(overflow(&self.data_type));
        }
        ScalarValue::new_primitive::<T>((self.count > 0).then_some(self.total), &self.data_type)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

fn total_of_each_group<T>(data_type: &DataType) -> Result<Box<dyn GroupsAccumulator>>
where
    T: ArrowNumericType + Send,
{
    let overflowed = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&overflowed);
    let add = move |total: &mut T::Native, value: T::Native| match total.add_checked(value) {
        Ok(sum) => *total = sum,
        // Told after the batch: adding cannot fail where it stands.
        Err(_) => flag.store(true, Ordering::Relaxed),
    };
    Ok(Box::new(CheckedGroups {
        groups: PrimitiveGroupsAccumulator::<T, _>::new(data_type, add),
        overflowed,
        data_type: data_type.clone(),
    }))
}

/// A total of each group.
struct CheckedGroups<G> {
    groups: G,
    overflowed: Arc<AtomicBool>,
    data_type: DataType,
}

impl<G> CheckedGroups<G> {
    fn check(&self) -> Result<()> {
        if self.overflowed.load(Ordering::Relaxed) {
            return Err(overflow(&self.data_type));
        }
        Ok(())
    }

    fn check_digits(&self, totals: &ArrayRef) -> Result<()> {
        if let Some(totals) = totals.as_primitive_opt::<Decimal128Type>() {
            totals.validate_decimal_precision(38).map_err(|_| overflow(&self.data_type))?;
        }
        Ok(())
    }
}

impl<G: GroupsAccumulator> GroupsAccumulator for CheckedGroups<G> {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        self.groups.update_batch(values, groups, filter, total)?;
        self.check()
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.groups.merge_batch(values, groups, total)?;
        self.check()
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let totals = self.groups.evaluate(emit_to)?;
        self.check_digits(&totals)?;
        Ok(totals)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.groups.state(emit_to)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.groups.convert_to_state(values, filter)
    }

    fn size(&self) -> usize {
        self.groups.size()
    }
}
